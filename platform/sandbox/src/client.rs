//! The gateway's side: a handle on the spawner, and handles on sandboxes.
//!
//! One task owns the reading half of the socket and settles requests and exits; handles send by themselves. A sandbox
//! whose last handle is dropped is killed, and when the spawner ends every request fails and every exit resolves, so
//! nothing waits for ever.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use nix::sys::socket::MsgFlags;
use parking_lot::Mutex;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::{Notify, oneshot, watch};

use crate::error::SandboxError;
use crate::leftovers::clean_up_leftovers;
use crate::network::NetworkDevice;
use crate::process::SpawnerProcess;
use crate::protocol::{self, Assignment, Failure, Network, Op, Report, Request, SandboxSpec, SandboxUsage, Status};

/// Longest wait for the spawner to end every sandbox and itself.
const SHUTDOWN_MAX: Duration = Duration::from_secs(10);

/// Names one sandbox of one spawner; never used again by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SandboxId(u64);

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

/// How a sandbox ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCause {
    /// Its first process exited with this status.
    Code(i32),
    /// Its first process was ended by this signal; 9 after [`SandboxHandle::kill`].
    Signal(i32),
    /// The spawner ended, and the sandbox with it.
    SpawnerGone,
}

/// The end of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SandboxExit {
    /// What ended it.
    pub cause: ExitCause,
    /// Whether it ended by signal 9 after the kernel had ended a process in it because its memory ran out.
    pub oom_killed: bool,
    /// What it had used.
    pub usage: SandboxUsage,
}

/// A sandbox whose command runs.
#[derive(Debug)]
pub struct Sandbox {
    /// To steer it; dropping the last clone kills it.
    pub handle: SandboxHandle,
    /// To talk to it.
    pub io: SandboxIo,
}

/// The gateway's ends of a sandbox's descriptors.
#[derive(Debug)]
pub struct SandboxIo {
    /// Descriptor 3 of the command.
    pub control: UnixStream,
    /// What it writes to standard output.
    pub stdout: pipe::Receiver,
    /// What it writes to standard error.
    pub stderr: pipe::Receiver,
    /// The other end of its network, where it has one. While nobody reads from it, everything the sandbox sends is lost.
    pub network: Option<NetworkDevice>,
}

/// Steers one sandbox. Cheap to clone.
#[derive(Clone)]
pub struct SandboxHandle(Arc<Owner>);

impl fmt::Debug for SandboxHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SandboxHandle").field(&self.0.id.0).finish()
    }
}

struct Owner {
    id: SandboxId,
    link: Arc<Link>,
    _life: Arc<Life>,
    exit: watch::Receiver<Option<SandboxExit>>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.link.kill(self.id);
    }
}

impl SandboxHandle {
    /// Names the sandbox in logs.
    pub fn id(&self) -> SandboxId {
        self.0.id
    }

    /// Shows a function's code at `/var/task` and sets the sandbox's limits. Both are in place on return. Only a sandbox
    /// that has no code yet can be given some. The folder must be on a file system that was mounted when the spawner
    /// started.
    ///
    /// # Errors
    /// [`SandboxError::Invalid`] when it has code, [`SandboxError::Ended`], [`SandboxError::Setup`] (also when the memory limit is below what is in use), and
    /// [`SandboxError::SpawnerGone`]. After an error the sandbox is in an unknown state and should be killed.
    pub async fn assign(&self, assignment: Assignment) -> Result<(), SandboxError> {
        let sandbox = self.0.id.0;
        match self.0.link.ask(Op::Assign { sandbox, assignment }).await? {
            Answer::Done => Ok(()),
            Answer::Created(..) | Answer::Usage(_) => {
                Err(SandboxError::Setup("the spawner gave the wrong answer".to_owned()))
            }
        }
    }

    /// What it has used and uses.
    ///
    /// # Errors
    /// [`SandboxError::Ended`], [`SandboxError::SpawnerGone`].
    pub async fn usage(&self) -> Result<SandboxUsage, SandboxError> {
        match self.0.link.ask(Op::Usage { sandbox: self.0.id.0 }).await? {
            Answer::Usage(usage) => Ok(usage),
            Answer::Done | Answer::Created(..) => {
                Err(SandboxError::Setup("the spawner gave the wrong answer".to_owned()))
            }
        }
    }

    /// Ends every process in the sandbox at once. [`Self::exited`] tells when it is done.
    pub fn kill(&self) {
        self.0.link.kill(self.0.id);
    }

    /// Waits for the sandbox to end.
    pub async fn exited(&self) -> SandboxExit {
        self.end().await
    }

    /// Waits for the sandbox to end without being a handle on it, and so without keeping it.
    pub fn end(&self) -> impl Future<Output = SandboxExit> + Send + use<> {
        let mut exit = self.0.exit.clone();
        async move {
            let ended = exit.wait_for(Option::is_some).await.ok().and_then(|exit| *exit);
            ended.unwrap_or(SPAWNER_GONE)
        }
    }

    /// How the sandbox ended, if it has.
    pub fn exit(&self) -> Option<SandboxExit> {
        *self.0.exit.borrow()
    }
}

const SPAWNER_GONE: SandboxExit = SandboxExit {
    cause: ExitCause::SpawnerGone,
    oom_killed: false,
    usage: SandboxUsage { cpu_us: 0, memory_bytes: 0 },
};

/// Makes sandboxes. Cheap to clone; all clones use one spawner process, which ends with the last clone and the last
/// sandbox handle.
#[derive(Clone)]
pub struct Spawner {
    link: Arc<Link>,
    _life: Arc<Life>,
}

/// Ends the task, and with it the spawner, when nobody can ask for anything any more.
struct Life(Arc<Link>);

impl Drop for Life {
    fn drop(&mut self) {
        self.0.unused.notify_one();
    }
}

impl fmt::Debug for Spawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawner").field("pid", &self.link.pid).finish_non_exhaustive()
    }
}

enum Answer {
    Done,
    Usage(SandboxUsage),
    /// The handle travels along so that the sandbox is killed wherever the answer is lost.
    Created(SandboxHandle, [OwnedFd; protocol::CREATED_FDS], Option<OwnedFd>),
}

/// What handles and the task share.
struct Link {
    socket: AsyncFd<OwnedFd>,
    next_request: AtomicU64,
    waiting: Mutex<HashMap<u64, oneshot::Sender<Result<Answer, SandboxError>>>>,
    exits: Mutex<HashMap<u64, watch::Sender<Option<SandboxExit>>>>,
    /// Sandboxes to kill whose message did not fit into the socket; at most as many as sandboxes.
    kills: Mutex<Vec<u64>>,
    more_kills: Notify,
    /// Tells the task to kill the spawner: nobody needs it any more.
    unused: Notify,
    /// For the handles of new sandboxes; does not keep the spawner.
    life: std::sync::OnceLock<Weak<Life>>,
    gone: watch::Sender<bool>,
    warnings: Vec<String>,
    pid: i32,
    run_dir: std::path::PathBuf,
}

impl SpawnerProcess {
    /// Hands the spawner to a Tokio runtime. Must be called inside one, with I/O and time enabled.
    ///
    /// # Errors
    /// [`SandboxError::Start`] when the runtime cannot watch the socket; the spawner ends then.
    pub fn connect(mut self) -> Result<Spawner, SandboxError> {
        let step = |e: io::Error| SandboxError::start("watch the spawner's socket", e);
        let socket = self.socket.take().ok_or_else(|| step(io::Error::from(io::ErrorKind::NotConnected)))?;
        nix::fcntl::fcntl(&socket, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))
            .map_err(|e| step(e.into()))?;
        // SAFETY: an OwnedFd always gives the same open descriptor, and the AsyncFd owns it until it is dropped.
        let socket = unsafe { AsyncFd::register(socket) }.map_err(|e| step(e.into_parts().1))?;
        let link = Arc::new(Link {
            socket,
            next_request: AtomicU64::new(1),
            waiting: Mutex::default(),
            exits: Mutex::default(),
            kills: Mutex::default(),
            more_kills: Notify::new(),
            unused: Notify::new(),
            life: std::sync::OnceLock::new(),
            gone: watch::Sender::new(false),
            warnings: self.warnings().to_vec(),
            pid: self.pid(),
            run_dir: self.run_dir.clone(),
        });
        let life = Arc::new(Life(Arc::clone(&link)));
        let _ = link.life.set(Arc::downgrade(&life)); // set here only
        tokio::spawn(Arc::clone(&link).run(self));
        Ok(Spawner { link, _life: life })
    }
}

impl Spawner {
    /// Makes a sandbox and starts its command. Cancelling is safe: a sandbox nobody waits for is killed.
    ///
    /// # Errors
    /// See [`SandboxError`]; none of them has run the command.
    pub async fn create(&self, spec: SandboxSpec) -> Result<Sandbox, SandboxError> {
        let wants_network = spec.network == Network::Egress;
        match self.link.ask(Op::Create(spec)).await? {
            Answer::Created(_, _, None) if wants_network => {
                Err(SandboxError::Setup("its network device was lost; too many files are open".to_owned()))
            }
            Answer::Created(handle, [control, stdout, stderr], network) => {
                let setup = |e: io::Error| SandboxError::Setup(format!("its streams cannot be watched: {e}"));
                let control = std::os::unix::net::UnixStream::from(control);
                control.set_nonblocking(true).map_err(setup)?;
                let io = SandboxIo {
                    control: UnixStream::from_std(control).map_err(setup)?,
                    stdout: pipe::Receiver::from_owned_fd(stdout).map_err(setup)?,
                    stderr: pipe::Receiver::from_owned_fd(stderr).map_err(setup)?,
                    network: network.map(NetworkDevice::new),
                };
                Ok(Sandbox { handle, io })
            }
            Answer::Done | Answer::Usage(_) => Err(SandboxError::Setup("the spawner gave the wrong answer".to_owned())),
        }
    }

    /// What is not enforced on this machine, as plain sentences.
    pub fn warnings(&self) -> &[String] {
        &self.link.warnings
    }

    /// Process id of the spawner, for measurements.
    pub fn pid(&self) -> i32 {
        self.link.pid
    }

    /// Waits for the spawner to end, whatever the reason; the platform then starts another. A new
    /// [`crate::start_spawner`] with the same run folder also removes what this one left.
    pub async fn spawner_gone(&self) {
        // The sender lives in the link that this handle holds.
        let _ = self.link.gone.subscribe().wait_for(|gone| *gone).await;
    }

    /// Kills every sandbox, lets the spawner remove its cgroups and end, and removes its files. Takes at most ten
    /// seconds, after which the spawner is killed.
    pub async fn shutdown(self) {
        let orderly = async {
            let _ = self.link.ask(Op::Shutdown).await; // an error means that it is gone already
            self.spawner_gone().await;
        };
        if tokio::time::timeout(SHUTDOWN_MAX, orderly).await.is_err() {
            tracing::warn!("The spawner did not stop in time and is killed.");
            self.link.unused.notify_one();
            self.spawner_gone().await;
        }
        let run_dir = self.link.run_dir.clone();
        let cleaned = tokio::task::spawn_blocking(move || clean_up_leftovers(&run_dir)).await;
        if let Ok(Err(error)) = cleaned {
            tracing::warn!(%error, "The sandboxes' run folder could not be cleaned; the next start will try again.");
        }
    }
}

impl Link {
    async fn ask(&self, op: Op) -> Result<Answer, SandboxError> {
        let request_id = self.next_request.fetch_add(1, Ordering::Relaxed);
        let message = Request { request_id, op };
        let bytes = protocol::encode(&message).map_err(|e| SandboxError::Invalid(e.to_string()))?;
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().insert(request_id, answer);
        // After the insertion: either the task sees the entry when it ends, or this sees that it has ended.
        if *self.gone.borrow() || self.send(&bytes).await.is_err() {
            self.waiting.lock().remove(&request_id);
            return Err(SandboxError::SpawnerGone);
        }
        answered.await.unwrap_or(Err(SandboxError::SpawnerGone))
    }

    async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        loop {
            let mut ready = self.socket.writable().await?;
            if let Ok(sent) = ready.try_io(|s| protocol::send_bytes(s.as_fd(), bytes, &[], MsgFlags::MSG_DONTWAIT)) {
                return sent;
            }
        }
    }

    fn kill(&self, id: SandboxId) {
        if !self.exits.lock().contains_key(&id.0) {
            return; // it has ended
        }
        let message = Request { request_id: 0, op: Op::Kill { sandbox: id.0 } };
        match protocol::send(self.socket.get_ref().as_fd(), &message, &[], MsgFlags::MSG_DONTWAIT) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.kills.lock().push(id.0);
                self.more_kills.notify_one();
            }
            _ => {} // sent, or the spawner is gone and so is the sandbox
        }
    }

    /// Settles reports until the spawner ends, then everything that is left.
    async fn run(self: Arc<Self>, mut process: SpawnerProcess) {
        loop {
            let next = tokio::select! {
                next = self.read() => next,
                () = self.more_kills.notified() => {
                    self.send_kills().await;
                    continue;
                }
                () = self.unused.notified() => break,
            };
            match next {
                Ok(Some((report, fds))) => self.settle(report, fds),
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "The spawner's socket failed.");
                    break;
                }
            }
        }
        // Reaping takes as long as the kernel needs to end every sandbox.
        let _ = tokio::task::spawn_blocking(move || process.end()).await;
        self.gone.send_replace(true);
        self.waiting.lock().clear(); // dropping the senders answers their waiters
        for (_, exit) in self.exits.lock().drain() {
            exit.send_replace(Some(SPAWNER_GONE));
        }
    }

    async fn read(&self) -> io::Result<Option<(Report, Vec<OwnedFd>)>> {
        loop {
            let mut ready = self.socket.readable().await?;
            if let Ok(received) = ready.try_io(|s| protocol::receive(s.as_fd())) {
                return received;
            }
        }
    }

    async fn send_kills(&self) {
        let kills = std::mem::take(&mut *self.kills.lock());
        for sandbox in kills {
            if let Ok(bytes) = protocol::encode(&Request { request_id: 0, op: Op::Kill { sandbox } }) {
                let _ = self.send(&bytes).await;
            }
        }
    }

    fn settle(self: &Arc<Self>, report: Report, mut fds: Vec<OwnedFd>) {
        let answer = |request_id, answer| {
            let waiter = self.waiting.lock().remove(&request_id);
            if let Some(waiter) = waiter {
                let _ = waiter.send(answer); // nobody waits any more
            }
        };
        match report {
            Report::Created { request_id, sandbox } => {
                let network = (fds.len() > protocol::CREATED_FDS).then(|| fds.pop()).flatten();
                let (exit, exited) = watch::channel(None);
                self.exits.lock().insert(sandbox, exit);
                let Some(life) = self.life.get().and_then(Weak::upgrade) else {
                    return; // the spawner is about to be ended
                };
                let owner = Owner { id: SandboxId(sandbox), link: Arc::clone(self), _life: life, exit: exited };
                let handle = SandboxHandle(Arc::new(owner));
                answer(
                    request_id,
                    <[OwnedFd; protocol::CREATED_FDS]>::try_from(fds)
                        .map(|fds| Answer::Created(handle, fds, network))
                        .map_err(|_| SandboxError::Setup("descriptors were lost; too many files are open".to_owned())),
                );
            }
            Report::Done { request_id } => {
                answer(request_id, Ok(Answer::Done));
            }
            Report::Usage { request_id, usage } => {
                answer(request_id, Ok(Answer::Usage(usage)));
            }
            Report::Failed { request_id, failure } => {
                answer(request_id, Err(failure.into()));
            }
            Report::Exit { sandbox, status, oom_killed, usage } => {
                let cause = match status {
                    Status::Code(code) => ExitCause::Code(code),
                    Status::Signal(signal) => ExitCause::Signal(signal),
                };
                if let Some(exit) = self.exits.lock().remove(&sandbox) {
                    exit.send_replace(Some(SandboxExit { cause, oom_killed, usage }));
                }
            }
            Report::Hello { .. } | Report::NotReady { .. } => {}
        }
    }
}

impl From<Failure> for SandboxError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Busy(text) => Self::Busy(text),
            Failure::Command(text) => Self::Command(text),
            Failure::Invalid(text) => Self::Invalid(text),
            Failure::Ended => Self::Ended,
            Failure::Network(text) => Self::Network(text),
            Failure::Setup(text) => Self::Setup(text),
        }
    }
}
