//! A real Redis to test with: of one test, on a Unix socket, gone when it is dropped.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{SOON, wait_for};

/// A Redis that can be killed, stopped for a while, emptied and started again.
pub struct Redis {
    folder: tempfile::TempDir,
    server: Child,
}

impl Redis {
    pub fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("raas-redis-").tempdir().unwrap();
        let server = spawn(&folder.path().join("socket"));
        Self { folder, server }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    /// One command, as `redis-cli` prints its answer.
    pub fn ask(&self, command: &[&str]) -> String {
        let output = Command::new("redis-cli").arg("-s").arg(self.socket()).args(command).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// How many results lie in it.
    pub fn results(&self) -> usize {
        self.keys("raas:r:*")
    }

    /// How many keys there are of a pattern.
    pub fn keys(&self, pattern: &str) -> usize {
        self.ask(&["--scan", "--pattern", pattern]).lines().filter(|line| !line.is_empty()).count()
    }

    /// Sends every process of it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.server.id() as i32), signal).unwrap();
    }

    /// Kills it, and waits until it is gone.
    pub fn kill(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    /// Starts it again, empty.
    pub fn restart(&mut self) {
        self.server = spawn(&self.socket());
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // One that was stopped does not see a kill before it goes on; SIGKILL it does.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn spawn(socket: &std::path::Path) -> Child {
    let _ = std::fs::remove_file(socket);
    let server = Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"])
        .arg(socket)
        .current_dir(socket.parent().unwrap())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("Redis to test with is not installed: apt-get install redis-server");
    wait_for("Redis", SOON, || std::os::unix::net::UnixStream::connect(socket).ok().map(drop));
    server
}
