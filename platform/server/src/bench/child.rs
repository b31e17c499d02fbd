//! Processes that the benchmark starts: told where they listen, and always stopped.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long a process may take until it serves.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// How long a process that was asked to stop may take until it is made to.
const STOP_WITHIN: Duration = Duration::from_secs(20);

/// How often a process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How much of a failed process's output is shown, bytes.
const OUTPUT_SHOWN_BYTES: usize = 2_000;

/// A process of the benchmark's own. Stopped when dropped.
pub struct Child {
    process: std::process::Child,
    what: &'static str,
    output: PathBuf,
}

impl Child {
    /// Starts a process whose diagnostics go to a file in `folder`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(what: &'static str, mut command: Command, folder: &Path) -> anyhow::Result<Self> {
        let output = folder.join(format!("{}.log", what.replace(' ', "-")));
        let log = std::fs::File::create(&output).with_context(|| format!("cannot write {}", output.display()))?;
        command.stdin(Stdio::null()).stderr(log);
        // SAFETY: prctl is async-signal-safe and touches nothing of the parent's.
        unsafe {
            command.pre_exec(|| {
                // Where the benchmark is killed itself, what it started ends too.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                Ok(())
            });
        }
        let process = command
            .spawn()
            .with_context(|| format!("{what} cannot be started ({})", command.get_program().display()))?;
        Ok(Self { process, what, output })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// The first line of its standard output, which must have been piped.
    ///
    /// # Errors
    /// It ends, or says nothing in time.
    pub fn first_line(&mut self) -> anyhow::Result<String> {
        let stdout = self.process.stdout.take().context("the process's output is not piped")?;
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stdout);
            let mut line = String::new();
            let _ = sender.send(reader.read_line(&mut line).map(|_| line));
            // What else it says is read, so that it never waits for a reader.
            let _ = std::io::copy(&mut reader, &mut std::io::sink());
        });
        match receiver.recv_timeout(READY_WITHIN) {
            Ok(Ok(line)) if !line.is_empty() => Ok(line),
            _ => bail!("{} did not start: {}", self.what, self.said()),
        }
    }

    /// Waits until it accepts connections.
    ///
    /// # Errors
    /// It ends, or does not accept any in time.
    pub fn listening(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < READY_WITHIN {
            if self.process.try_wait()?.is_some() {
                bail!("{} ended: {}", self.what, self.said());
            }
            if TcpStream::connect(address).is_ok() {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        bail!("{} does not listen on {address}: {}", self.what, self.said());
    }

    /// Kills it at once.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// The end of what it wrote to standard error.
    pub fn said(&self) -> String {
        let text = std::fs::read(&self.output).unwrap_or_default();
        let shown = &text[text.len().saturating_sub(OUTPUT_SHOWN_BYTES)..];
        String::from_utf8_lossy(shown).trim().to_owned()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let Ok(pid) = i32::try_from(self.process.id()) else { return };
        // The process is ours and not waited for yet, so its id cannot mean another.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        let begun = Instant::now();
        while begun.elapsed() < STOP_WITHIN {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(LOOK_EVERY);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A loopback port that is free at this moment, for a peer that cannot be asked to choose one itself.
///
/// # Errors
/// There is none.
pub fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}
