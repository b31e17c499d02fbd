//! The throw-away platform: a child process of this same executable with a temporary data folder, stopped and removed
//! whatever happens, short of this process being killed outright; and even then the platform is told to stop.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;
use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;

use crate::cli::client::Client;
use crate::cli::context::Context;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::format::text;
use crate::settings::PoolSettings;

/// How long the platform may take until it says where it is.
const UP_WITHIN: Duration = Duration::from_secs(60);
/// How long until it takes calls.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long until its warming pool is full.
const POOL_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to stop before it is killed.
const STOPPED_WITHIN: Duration = Duration::from_secs(30);
/// How often something that is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Lines of the platform's log that are shown where it does not start.
const LOG_LINES_SHOWN: usize = 15;
/// What a shell says of a process that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// A platform that is gone when this is dropped.
pub struct ThrowAway {
    remains: Arc<Remains>,
    /// The platform, with the administrator's key.
    pub client: Client,
}

/// What is to be cleaned up.
struct Remains {
    child: Mutex<Option<Child>>,
    folder: Mutex<Option<TempDir>>,
    interrupted: AtomicBool,
}

impl Remains {
    /// Stops the platform, waits until it is gone, and removes its folder.
    fn clear(&self) {
        // Held throughout: who comes second waits until everything is gone.
        let mut child = self.child.lock();
        if let Some(child) = child.as_mut() {
            signal(child, Signal::SIGTERM);
            let until = Instant::now() + STOPPED_WITHIN;
            while matches!(child.try_wait(), Ok(None)) {
                if Instant::now() > until {
                    let _ = child.kill();
                    let _ = child.wait();
                    break;
                }
                std::thread::sleep(LOOK_EVERY);
            }
        }
        *child = None;
        drop(self.folder.lock().take());
    }
}

/// Every process and its parent.
fn parents() -> HashMap<u32, u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    numbers
        .filter_map(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            Some((pid, stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?))
        })
        .collect()
}

fn signal(child: &Child, signal: Signal) {
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

impl Drop for ThrowAway {
    fn drop(&mut self) {
        self.remains.clear();
        // What fails because the platform was stopped under it is not worth a word: the process is about to end.
        while self.remains.interrupted.load(Ordering::Acquire) {
            std::thread::park();
        }
    }
}

impl ThrowAway {
    /// Kills a process of the platform's that sees this file below its root, if there is one. Only descendants of the platform
    /// are looked at.
    pub fn kill_sandbox_with(&self, file: &Path) -> bool {
        let Some(platform) = self.remains.child.lock().as_ref().map(Child::id) else { return false };
        let parents = parents();
        let is_ours = |mut pid: u32| {
            // Bounded: process trees are not that deep, and ids could be used again while this looks.
            (0..64).any(|_| {
                pid = parents.get(&pid).copied().unwrap_or(0);
                pid == platform
            })
        };
        let sees = |pid: &u32| Path::new("/proc").join(pid.to_string()).join("root").join(file).exists();
        let found = parents.keys().copied().filter(|pid| is_ours(*pid)).find(sees);
        found
            .and_then(|pid| i32::try_from(pid).ok())
            .is_some_and(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok())
    }

    /// Starts one. Called from the main thread before any other is started: the platform ends when that thread does.
    ///
    /// # Errors
    /// It does not start in time.
    pub fn start() -> Outcome<Self> {
        let failed =
            |what: &str, error: &dyn std::fmt::Display| Failure::local("cannot-start", format!("{what}: {error}"));
        let folder = tempfile::Builder::new()
            .prefix("raas-demo-")
            .tempdir()
            .map_err(|error| failed("no temporary folder can be made", &error))?;
        let log = std::fs::File::create(folder.path().join("platform.log"))
            .map_err(|error| failed("no log can be written", &error))?;
        let executable = std::env::current_exe().map_err(|error| failed("this executable cannot be found", &error))?;
        let mut command = Command::new(executable);
        command
            .args(["up", "--json", "--listen", "127.0.0.1:0", "--data"])
            .arg(folder.path().join("data"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            // Ctrl-C reaches this process only, which then stops the platform in order.
            .process_group(0);
        // The demo's platform has its defaults, whatever the environment sets for others; above all, no other's database.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("RAAS_")) {
            command.env_remove(name);
        }
        command.env("RAAS_CONTEXT", folder.path().join("context.json"));
        // Blocked here, so that the thread that clears up is the only one that ever gets them; a child inherits that.
        let ending = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
        // SAFETY: the closure only makes two system calls, and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                ending.thread_unblock()?;
                nix::sys::prctl::set_pdeathsig(Signal::SIGTERM).map_err(Into::into)
            });
        }
        ending.thread_block().map_err(|error| failed("signals cannot be listened for", &error))?;
        let mut child = command.spawn().map_err(|error| failed("the platform cannot be started", &error))?;
        let output = child.stdout.take();
        let path = folder.path().to_owned();
        let remains = Arc::new(Remains {
            child: Mutex::new(Some(child)),
            folder: Mutex::new(Some(folder)),
            interrupted: AtomicBool::new(false),
        });
        clear_on_signal(Arc::clone(&remains), ending);
        // From here on whatever fails clears up.
        let mut platform = Self { remains, client: Client::new(Context { url: String::new(), key: None }) };
        let started =
            output.ok_or_else(|| failed("the platform cannot be started", &"it has no output")).and_then(first_line);
        let started = started.map_err(|failure| with_log(failure, &path))?;
        platform.client = Client::new(Context {
            url: text(&started, "url").to_owned(),
            key: Some(text(&started, "admin_key").to_owned()).filter(|key| !key.is_empty()),
        });
        Ok(platform)
    }

    /// Where the demo may put files.
    pub fn folder(&self) -> Option<std::path::PathBuf> {
        self.remains.folder.lock().as_ref().map(|folder| folder.path().to_owned())
    }

    /// Waits until it takes calls.
    ///
    /// # Errors
    /// It does not in time.
    pub fn wait_until_ready(&self) -> Outcome {
        let until = Instant::now() + READY_WITHIN;
        while let Err(failure) = self.client.get("/readyz") {
            if Instant::now() > until {
                return Err(failure);
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Waits until as many sandboxes wait in the warming pool as are to. Returns whether they do in time.
    ///
    /// # Errors
    /// No answer.
    pub fn wait_until_warm(&self) -> Outcome<bool> {
        let wanted = PoolSettings::default();
        let until = Instant::now() + POOL_WITHIN;
        loop {
            let metrics = self.client.get("/metrics")?.text;
            if waiting(&metrics, "python3") >= wanted.python3 && waiting(&metrics, "node") >= wanted.node {
                return Ok(true);
            }
            if Instant::now() > until {
                return Ok(false);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// How many sandboxes wait in a runtime's pool, from the metrics' text.
fn waiting(metrics: &str, runtime: &str) -> u32 {
    let name = format!("raas_pool_waiting{{runtime=\"{runtime}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)?.trim().parse().ok()).unwrap_or(0)
}

/// The line in which the platform says where it is.
fn first_line(output: std::process::ChildStdout) -> Outcome<Value> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = BufReader::new(output).read_line(&mut line);
        let _ = sender.send(read.map(|_| line));
    });
    let line = match receiver.recv_timeout(UP_WITHIN) {
        Ok(Ok(line)) => line,
        Ok(Err(error)) => {
            return Err(Failure::local("cannot-start", format!("the platform's output cannot be read: {error}")));
        }
        Err(_) => {
            return Err(Failure::local(
                "cannot-start",
                format!("the platform did not start within {} s", UP_WITHIN.as_secs()),
            ));
        }
    };
    let value: Option<Value> = serde_json::from_str(&line).ok();
    match value {
        Some(value) if value.get("url").is_some() => Ok(value),
        Some(problem) if problem.get("code").is_some() => Err(Failure::Problem(problem)),
        _ => Err(Failure::local("cannot-start", "the platform did not start")),
    }
}

/// The failure with the end of the platform's log.
fn with_log(failure: Failure, folder: &Path) -> Failure {
    let log = std::fs::read_to_string(folder.join("platform.log")).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    let end = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n  ");
    Failure::local("cannot-start", format!("{}\n  {end}", failure.title()))
}

/// Clears up when the process is told to end.
fn clear_on_signal(remains: Arc<Remains>, ending: SigSet) {
    std::thread::spawn(move || {
        if ending.wait().is_ok() {
            remains.interrupted.store(true, Ordering::Release);
            remains.clear();
            std::process::exit(INTERRUPTED);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pool_is_read_from_the_metrics() {
        let metrics = "# TYPE raas_pool_waiting gauge\nraas_pool_waiting{runtime=\"python3\"} 2\nraas_pool_waiting{runtime=\"node\"} 0\n";
        assert_eq!((waiting(metrics, "python3"), waiting(metrics, "node"), waiting(metrics, "ruby")), (2, 0, 0));
    }
}
