//! A spawner in its own run folder, ways to run python in its sandboxes, and the check that nothing is left.

use std::fs;
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use raas_sandbox::{Network, Sandbox, SandboxExit, SandboxLimits, SandboxSpec, Spawner, SpawnerOptions, start_spawner};
use tokio::io::AsyncReadExt;
use tokio::runtime::Runtime;

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Bed {
    runtime: Runtime,
    dir: tempfile::TempDir,
    pub spawner: Spawner,
}

pub struct Ran {
    pub stdout: String,
    pub stderr: String,
    pub exit: SandboxExit,
}

impl Bed {
    pub fn new(name: &str) -> Self {
        let dir = tempfile::Builder::new().prefix(&format!("raas-test-{name}-")).tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir(dir.path().join("runtimes")).unwrap();
        fs::write(dir.path().join("runtimes/hello.txt"), "hello from the runtimes").unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let spawner = Self::start(&runtime, dir.path());
        Self { runtime, dir, spawner }
    }

    fn start(runtime: &Runtime, dir: &Path) -> Spawner {
        let options = SpawnerOptions { run_dir: dir.join("run"), runtime_dir: dir.join("runtimes") };
        let process = start_spawner(options).expect("the spawner starts");
        let _inside = runtime.enter();
        process.connect().expect("the runtime watches the spawner")
    }

    /// Another spawner in the same run folder.
    pub fn start_again(&self) -> Spawner {
        Self::start(&self.runtime, self.dir.path())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A folder with one file that others can read.
    pub fn folder(&self, name: &str, file: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        fs::write(path.join(file), text).unwrap();
        path
    }

    pub fn wait<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("done in time") })
    }

    pub fn create(&self, spec: SandboxSpec) -> Sandbox {
        self.wait(self.spawner.create(spec)).expect("the sandbox is made")
    }

    /// Runs a python program to its end.
    pub fn python(&self, program: &str) -> Ran {
        self.run(python(program))
    }

    pub fn run(&self, spec: SandboxSpec) -> Ran {
        let sandbox = self.create(spec);
        self.finish(sandbox)
    }

    pub fn finish(&self, sandbox: Sandbox) -> Ran {
        let Sandbox { handle, mut io } = sandbox;
        self.wait(async {
            let (mut stdout, mut stderr) = (String::new(), String::new());
            let (a, b) = tokio::join!(io.stdout.read_to_string(&mut stdout), io.stderr.read_to_string(&mut stderr));
            a.unwrap();
            b.unwrap();
            Ran { stdout, stderr, exit: handle.exited().await }
        })
    }

    /// Reads one line of a sandbox's standard output.
    pub fn line(&self, sandbox: &mut Sandbox) -> String {
        self.wait(async {
            let mut line = Vec::new();
            loop {
                match sandbox.io.stdout.read_u8().await {
                    Ok(b'\n') | Err(_) => return String::from_utf8_lossy(&line).into_owned(),
                    Ok(byte) => line.push(byte),
                }
            }
        })
    }

    /// What the machine cannot enforce here.
    pub fn lacks(&self, word: &str) -> bool {
        self.spawner.warnings().iter().any(|w| w.to_lowercase().contains(word))
    }

    /// After a test that failed: leave the machine clean nevertheless.
    pub fn tidy_up(&self) {
        self.runtime.block_on(self.spawner.clone().shutdown());
    }

    pub fn close(&self) {
        let (pid, run_dir) = (self.spawner.pid(), self.path("run"));
        self.runtime.block_on(self.spawner.clone().shutdown());
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "the spawner is gone");
        assert_eq!(mounts_below(self.dir.path()), 0, "no mount is left");
        assert_eq!(cgroups_of(&run_dir), Vec::<PathBuf>::new(), "no cgroup is left");
        let left: Vec<_> = fs::read_dir(&run_dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left, ["lock"], "only the lock's file is left in the run folder");
    }
}

pub fn python(program: &str) -> SandboxSpec {
    command(&["/usr/bin/python3", "-c", program])
}

pub fn command(argv: &[&str]) -> SandboxSpec {
    SandboxSpec {
        argv: argv.iter().map(|a| (*a).to_owned()).collect(),
        env: vec![("PATH".to_owned(), "/usr/bin:/bin".to_owned()), ("RAAS_TEST".to_owned(), "1".to_owned())],
        limits: SandboxLimits::default(),
        network: Network::None,
        code_dir: None,
        writable_dir: None,
        extras: Vec::new(),
    }
}

/// Mounts in this process's namespace below a folder.
pub fn mounts_below(dir: &Path) -> usize {
    let dir = dir.to_string_lossy().into_owned();
    fs::read_to_string("/proc/self/mountinfo").unwrap().lines().filter(|line| line.contains(&dir)).count()
}

/// Directories recorded in a run folder that exist.
pub fn cgroups_of(run_dir: &Path) -> Vec<PathBuf> {
    let record = fs::read_to_string(run_dir.join("cgroups")).unwrap_or_default();
    record.lines().map(PathBuf::from).filter(|path| path.exists()).collect()
}

/// Looks until it is so.
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
