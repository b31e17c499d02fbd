//! The messages between gateway and spawner, and how they travel.
//!
//! One message is one packet of a `SOCK_SEQPACKET` socket: JSON, at most [`MESSAGE_MAX_BYTES`], with file descriptors
//! attached where a reply hands some over. Every request carries an id that its one reply repeats. Only this crate
//! speaks it, and both ends are always the same binary, so there is no version.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Longest message in either direction.
pub(crate) const MESSAGE_MAX_BYTES: usize = 64 * 1024;
/// Descriptors of every new sandbox: control socket, standard output, standard error.
pub(crate) const CREATED_FDS: usize = 3;
/// Most descriptors in a message: the same and a network device.
pub(crate) const FDS_MAX: usize = CREATED_FDS + 1;

/// What a sandbox may use. The least accepted values are 16 MiB, 10 thousandths of a core, 8 processes and 64 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxLimits {
    /// Memory in bytes, with the sandbox's temporary files; no swap on top.
    pub memory_bytes: u64,
    /// CPU time per wall time in thousandths of a core; 1000 is one core.
    pub cpu_millis: u32,
    /// Processes and threads at once.
    pub pids_max: u32,
    /// Whether it gives way to all others on the processor: it gets what they leave.
    pub yields: bool,
    /// Size of `/tmp` in bytes. Fixed when the sandbox is created.
    pub tmp_bytes: u64,
}

impl Default for SandboxLimits {
    /// 256 MiB of memory, one core, 512 processes, 512 MiB of temporary files.
    fn default() -> Self {
        Self { memory_bytes: 256 << 20, cpu_millis: 1000, pids_max: 512, yields: false, tmp_bytes: 512 << 20 }
    }
}

/// What a sandbox can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Network {
    /// Its own loopback device and nothing else.
    None,
    /// Its own loopback device and a network device whose other end the gateway holds ([`crate::NetworkDevice`]): what
    /// can be reached through it, the gateway decides packet by packet.
    Egress,
}

/// A sandbox to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Command and arguments. A command without a slash is looked up in the `PATH` of `env`.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// What it may use.
    pub limits: SandboxLimits,
    /// What it can reach.
    pub network: Network,
    /// Absolute host folder to show read-only at `/var/task` from the start; its files must be readable by others.
    pub code_dir: Option<PathBuf>,
    /// Absolute host folder to show writable at `/var/out`. Its owner becomes the sandbox's user.
    pub writable_dir: Option<PathBuf>,
    /// Device nodes and files of the host to show beside the standard ones.
    pub extras: Vec<ExtraMount>,
}

/// A device node, file or folder of the host that a sandbox sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtraMount {
    /// Absolute path on the host.
    pub source: PathBuf,
    /// Absolute path in the sandbox.
    pub target: PathBuf,
    /// Whether it is a device node, which can be opened there.
    pub device: bool,
    /// Whether it can be written.
    pub writable: bool,
}

/// What turns a generic sandbox into an instance of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// Absolute host folder to show read-only at `/var/task`; its files must be readable by others.
    pub code_dir: PathBuf,
    /// Absolute host folder to show writable at `/var/out`, where the instance keeps one. As root its files belong to one
    /// user on the disk whichever host user a sandbox is, which takes a file system with mapped mounts.
    pub state_dir: Option<PathBuf>,
    /// The new limits; `tmp_bytes` cannot change and is ignored.
    pub limits: SandboxLimits,
}

/// What a sandbox has used and uses, as the kernel counts it; zero where the machine lets nobody count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxUsage {
    /// CPU time since it was made, microseconds.
    pub cpu_us: u64,
    /// Memory now, with its temporary files and what the kernel caches for it, bytes.
    pub memory_bytes: u64,
}

/// Gateway to spawner.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) request_id: u64,
    pub(crate) op: Op,
}

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Op {
    Create(SandboxSpec),
    Assign {
        sandbox: u64,
        assignment: Assignment,
    },
    Usage {
        sandbox: u64,
    },
    /// Has no reply: the exit is the answer.
    Kill {
        sandbox: u64,
    },
    Shutdown,
}

/// Spawner to gateway.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The first message: the spawner is ready.
    Hello {
        warnings: Vec<String>,
    },
    /// The first and only message: it is not.
    NotReady {
        step: String,
        error: String,
    },
    /// With [`CREATED_FDS`] descriptors, and one more where the sandbox has a network.
    Created {
        request_id: u64,
        sandbox: u64,
    },
    Done {
        request_id: u64,
    },
    Failed {
        request_id: u64,
        failure: Failure,
    },
    Usage {
        request_id: u64,
        usage: SandboxUsage,
    },
    Exit {
        sandbox: u64,
        status: Status,
        oom_killed: bool,
        usage: SandboxUsage,
    },
}

/// Why a request was not carried out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Failure {
    Busy(String),
    Command(String),
    Invalid(String),
    Ended,
    Network(String),
    Setup(String),
}

/// How a sandbox's first process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Status {
    Code(i32),
    Signal(i32),
}

/// Sends one message with descriptors. `WouldBlock` only where `flags` says not to wait.
pub(crate) fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    fds: &[RawFd],
    flags: MsgFlags,
) -> io::Result<()> {
    let bytes = encode(message)?;
    send_bytes(socket, &bytes, fds, flags)
}

/// A message as bytes; an error when it is over the limit.
pub(crate) fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > MESSAGE_MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "message over the limit of 64 KiB"));
    }
    Ok(bytes)
}

/// Sends an encoded message.
pub(crate) fn send_bytes(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[RawFd], flags: MsgFlags) -> io::Result<()> {
    let rights = [ControlMessage::ScmRights(fds)];
    let control: &[ControlMessage<'_>] = if fds.is_empty() { &[] } else { &rights };
    loop {
        match sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, flags | MsgFlags::MSG_NOSIGNAL, None) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Receives one message without waiting; `None` at the end of the stream, `WouldBlock` when there is none.
pub(crate) fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut buffer = vec![0u8; MESSAGE_MAX_BYTES];
    let mut control = nix::cmsg_space!([RawFd; FDS_MAX]);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let (length, fds, truncated) = loop {
        let mut slices = [IoSliceMut::new(&mut buffer)];
        match recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), flags) {
            Ok(message) => {
                let mut fds = Vec::new();
                for part in message.cmsgs()? {
                    if let ControlMessageOwned::ScmRights(received) = part {
                        // SAFETY: the kernel just installed these descriptors for this call and nothing else owns them.
                        fds.extend(received.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
                    }
                }
                break (message.bytes, fds, message.flags.contains(MsgFlags::MSG_TRUNC));
            }
            Err(Errno::EINTR) => {}
            // A peer that died with unread messages resets the connection; that is an end too.
            Err(Errno::ECONNRESET) => return Ok(None),
            Err(e) => return Err(e.into()),
        }
    };
    if length == 0 {
        return Ok(None);
    }
    if truncated {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "message over the limit of 64 KiB"));
    }
    Ok(Some((serde_json::from_slice(&buffer[..length])?, fds)))
}
