//! A platform as its operator runs it: `raas up` with its own data folder, settings and port.
//!
//! Ends with `finish`, which checks that nothing is left; a platform that is dropped is finished. Whoever wants it dead says
//! `kill`.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::{Client, SOON, leftovers, processes, wait_for};

/// How long a stop may take beyond what the platform waits for running requests.
const STOP_WITHIN: Duration = Duration::from_secs(40);

/// A data folder, which may outlive a platform.
#[derive(Clone)]
pub struct DataFolder(Arc<Folder>);

struct Folder {
    dir: tempfile::TempDir,
    is_disk: bool,
}

impl DataFolder {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("raas-test-").tempdir().unwrap();
        Self(Arc::new(Folder { dir, is_disk: false }))
    }

    /// On a disk of its own that is so large.
    pub fn on_a_disk_of(megabytes: u32) -> Self {
        let dir = tempfile::Builder::new().prefix("raas-test-").tempdir().unwrap();
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "raas-test"]).arg(dir.path()).status();
        assert!(mounted.unwrap().success());
        Self(Arc::new(Folder { dir, is_disk: true }))
    }

    pub fn path(&self) -> PathBuf {
        self.0.dir.path().join("data")
    }

    /// Leaves no room on its disk, until what is returned is deleted.
    pub fn fill(&self) -> PathBuf {
        let filler = self.0.dir.path().join("filler");
        let mut file = std::fs::File::create(&filler).unwrap();
        let full = std::io::copy(&mut std::io::repeat(b'x'), &mut file).unwrap_err();
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        filler
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.is_disk {
            let _ = Command::new("umount").arg("--lazy").arg(self.dir.path()).status();
        }
    }
}

/// How to start a platform.
#[derive(Clone)]
pub struct Options {
    settings: String,
    env: Vec<(String, String)>,
    expected: Vec<String>,
    data: DataFolder,
}

impl Options {
    /// With the platform's own defaults.
    pub fn new() -> Self {
        Self { settings: String::new(), env: Vec::new(), expected: Vec::new(), data: DataFolder::new() }
    }

    /// With this settings file.
    pub fn settings(mut self, toml: &str) -> Self {
        self.settings = toml.to_owned();
        self
    }

    /// With this in the platform's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Error lines that contain this text are expected.
    pub fn expect_error(mut self, text: &str) -> Self {
        self.expected.push(text.to_owned());
        self
    }

    /// On this data.
    pub fn data(mut self, data: &DataFolder) -> Self {
        self.data = data.clone();
        self
    }

    /// The command that starts it.
    pub fn command(&self) -> Command {
        let config = self.data.0.dir.path().join("settings.toml");
        std::fs::write(&config, &self.settings).unwrap();
        let mut command = Command::new(binary());
        command
            .args(["up", "--json", "--listen", "127.0.0.1:0", "--data"])
            .arg(self.data.path())
            .arg("--config")
            .arg(config);
        // The context that `raas up` writes for later commands is this platform's own, and so is everything else at home.
        command.env("HOME", self.data.0.dir.path()).env("XDG_CONFIG_HOME", self.data.0.dir.path().join("config"));
        command.envs(self.env.iter().cloned()).stdin(Stdio::null());
        command
    }

    /// Starts it and waits until it serves.
    pub fn start(self) -> Platform {
        let mut command = self.command();
        let mut child = spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
        let log = Arc::new(Mutex::new(String::new()));
        let reader = collect(child.stderr.take().unwrap(), Arc::clone(&log));
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let (sender, first_line) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = stdout.read_line(&mut line);
            let _ = sender.send(line);
            let _ = std::io::copy(&mut stdout, &mut std::io::sink());
        });
        let line = first_line.recv_timeout(SOON).unwrap_or_default();
        let Ok(started) = serde_json::from_str::<Value>(&line) else {
            let _ = child.kill();
            let status = child.wait();
            panic!("the platform did not start ({status:?}): {line}\n{}", log.lock().unwrap());
        };
        let url = started["url"].as_str().expect("a platform that is up says where").to_owned();
        // One that joins another's database has none: the other made it.
        let key_file = std::fs::read_to_string(self.data.path().join("admin.key")).unwrap_or_default();
        let key = started["admin_key"].as_str().unwrap_or(key_file.trim()).to_owned();
        let pid = child.id() as i32;
        let cgroups = processes::cgroups_of(&self.data.path());
        Platform {
            admin: Client::new(&url, &key, "admin"),
            started,
            data: self.data,
            pid,
            cgroups: Mutex::new(cgroups),
            expected: self.expected,
            log,
            running: Mutex::new(Some(Running { child, reader })),
        }
    }
}

/// A platform that runs, or did.
pub struct Platform {
    /// The administrator.
    pub admin: Client,
    /// The line it said when it was up.
    pub started: Value,
    pub data: DataFolder,
    pub pid: i32,
    cgroups: Mutex<Vec<PathBuf>>,
    expected: Vec<String>,
    log: Arc<Mutex<String>>,
    running: Mutex<Option<Running>>,
}

struct Running {
    child: Child,
    reader: std::thread::JoinHandle<()>,
}

impl Platform {
    /// With the platform's own defaults.
    pub fn start() -> Self {
        Options::new().start()
    }

    /// Makes a tenant with a key that allows everything of its own.
    pub fn tenant(&self, label: &str) -> Client {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("{label}-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.admin.post("/v1/tenants", &json!({ "name": name })).expect(201);
        let made = self.admin.post("/v1/keys", &json!({ "tenant": name })).expect(201).json();
        Client::new(&self.admin.url, made["key"].as_str().unwrap(), &name)
    }

    /// The folder it keeps everything in.
    pub fn path(&self) -> PathBuf {
        self.data.path()
    }

    /// What it wrote to standard error so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Takes notes of cgroups that a later spawner made.
    pub fn note_cgroups(&self) {
        let mut noted = self.cgroups.lock().unwrap();
        for path in processes::cgroups_of(&self.path()) {
            if !noted.contains(&path) {
                noted.push(path);
            }
        }
    }

    pub fn signal(&self, signal: Signal) {
        let _ = nix::sys::signal::kill(Pid::from_raw(self.pid), signal);
    }

    /// Waits for its end.
    pub fn ended(&self) -> ExitStatus {
        let Running { mut child, reader } = self.running.lock().unwrap().take().expect("it runs");
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if begun.elapsed() > STOP_WITHIN {
                let _ = child.kill();
                let _ = child.wait();
                panic!("the platform did not end within {STOP_WITHIN:?}\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        reader.join().unwrap();
        status
    }

    /// Kills it as a power failure would, and everything it holds with it.
    pub fn kill(&self) {
        self.note_cgroups();
        self.signal(Signal::SIGKILL);
        self.ended();
    }

    /// Stops it gracefully, if it still runs; says what is not as it should be.
    pub fn stop(&self) -> Result<(), String> {
        if self.running.lock().unwrap().is_some() {
            self.note_cgroups();
            self.signal(Signal::SIGTERM);
            let status = self.ended();
            if !status.success() {
                return Err(format!("it ended with {status}\n{}", self.log()));
            }
            self.leftovers()?;
        }
        let errors = leftovers::errors(&self.log(), &self.expected);
        if errors.is_empty() { Ok(()) } else { Err(format!("its log has errors:\n{}", errors.join("\n"))) }
    }

    /// Waits until nothing of a platform that was killed runs any more: not even a sandbox outlives it.
    pub fn processes_are_gone(&self) {
        let path = self.path();
        wait_for("the end of everything that belonged to the killed platform", SOON, || {
            let left = leftovers::find(&path, &[]);
            (!left.iter().any(|what| what.starts_with("process"))).then_some(())
        });
    }

    /// What it left behind.
    fn leftovers(&self) -> Result<(), String> {
        let (path, cgroups) = (self.path(), self.cgroups.lock().unwrap().clone());
        // What the kernel takes apart after the last process's end takes it a moment.
        let begun = Instant::now();
        loop {
            let found = leftovers::find(&path, &cgroups);
            if found.is_empty() {
                return Ok(());
            }
            if begun.elapsed() > Duration::from_secs(3) {
                return Err(format!("it left behind:\n{}", found.join("\n")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Stops it gracefully.
    ///
    /// # Panics
    /// When it does not stop, leaves something behind, or has logged an error that nobody expected.
    #[track_caller]
    pub fn finish(&self) {
        if let Err(problems) = self.stop() {
            panic!("{problems}");
        }
    }

    /// Waits until the warming pool is full, as a platform that has been up for a while has it.
    pub fn pool_is_full(&self, sandboxes: usize) {
        wait_for("a full warming pool", SOON, || {
            (processes::sandbox_processes(&self.path()).len() >= sandboxes).then_some(())
        });
    }
}

impl Drop for Platform {
    fn drop(&mut self) {
        if std::thread::panicking() {
            if let Some(Running { mut child, .. }) = self.running.lock().ok().and_then(|mut running| running.take()) {
                let _ = child.kill();
                let _ = child.wait();
            }
            // What is left of it is not looked at any more, but must not pile up.
            let _ = raas_sandbox::clean_up_leftovers(&self.path().join("run"));
            eprintln!("--- the platform's log\n{}---", self.log());
        } else {
            self.finish();
        }
    }
}

/// The program under test: this build's own, or another that the environment names (a release build, say).
pub fn binary() -> PathBuf {
    std::env::var_os("RAAS_TEST_BINARY")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_raas-under-test")), PathBuf::from)
}

fn collect(stream: impl Read + Send + 'static, into: Arc<Mutex<String>>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(read) if read > 0) {
            into.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}

/// Starts a process that is killed with this one, however that ends.
fn spawn(command: &mut Command) -> Child {
    type Order = (Command, mpsc::Sender<Child>);
    static STARTER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    // The death signal is the starting thread's, so that must be one that lives as long as this process.
    let starter = STARTER.get_or_init(|| {
        let (orders, ordered) = mpsc::channel::<Order>();
        std::thread::spawn(move || {
            for (mut command, answer) in ordered {
                // SAFETY: one system call between fork and exec.
                unsafe { command.pre_exec(|| Ok(nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?)) };
                let _ = answer.send(command.spawn().expect("the binary under test can be started"));
            }
        });
        Mutex::new(orders)
    });
    let (answer, child) = mpsc::channel();
    let command = std::mem::replace(command, Command::new("true"));
    starter.lock().unwrap().send((command, answer)).unwrap();
    child.recv().expect("the binary under test can be started")
}

/// A data folder's owner-only bits.
pub fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}
