//! Starts the spawner process and waits until it is ready.
//!
//! The child is cloned straight into new pid and mount namespaces (and a user namespace when not root), does nothing but
//! system calls, and executes this same binary. So this works in `main` before any thread, which is best, and also later
//! from a threaded process. The kernel ends the spawner when the gateway's socket closes or, where it was started by the
//! main thread, when that thread ends; a death signal bound to a pool's thread would fire when the pool shrinks, so
//! other threads rely on the socket alone.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use serde::{Deserialize, Serialize};

use crate::cgroup_detect;
use crate::error::SandboxError;
use crate::identity::Identity;
use crate::leftovers::{CGROUP_PREFIX, RunDir};
use crate::protocol::{self, Report};

/// First argument of the spawner process; the binary's `main` must then call [`crate::spawner_main`].
pub const SPAWNER_ARGUMENT: &str = "spawner";
/// The spawner's socket.
pub(crate) const SOCKET_FD: RawFd = 3;
/// The lock of the run folder, held for as long as the spawner lives.
pub(crate) const LOCK_FD: RawFd = 4;
/// Longest time the spawner may take to get ready.
const READY_MAX: Duration = Duration::from_secs(15);

/// What a spawner needs to know.
#[derive(Debug, Clone)]
pub struct SpawnerOptions {
    /// Folder for its lock, its records and its mount point; made if absent; one spawner at a time.
    pub run_dir: PathBuf,
    /// Host folder that every sandbox sees read-only at `/opt/raas`; its files must be readable by others.
    pub runtime_dir: PathBuf,
}

/// What the spawner is told on its command line.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Boot {
    pub(crate) run_dir: PathBuf,
    pub(crate) runtime_dir: PathBuf,
    pub(crate) cgroup_name: String,
    pub(crate) identity: Identity,
    /// Whether the gateway's main thread is the parent, so that a death signal can be used.
    pub(crate) die_with_parent: bool,
}

/// A spawner that is ready. Dropping it ends it and every sandbox.
#[derive(Debug)]
pub struct SpawnerProcess {
    pub(crate) socket: Option<OwnedFd>,
    pub(crate) pidfd: OwnedFd,
    pub(crate) run_dir: PathBuf,
    pid: i32,
    warnings: Vec<String>,
    over: bool,
}

impl SpawnerProcess {
    /// What is not enforced on this machine, as plain sentences.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Process id of the spawner, in this process's pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Ends the spawner if it still runs, and waits for it, which takes as long as the kernel needs.
    pub(crate) fn end(&mut self) {
        if self.over {
            return;
        }
        self.over = true;
        let none = std::ptr::null::<libc::siginfo_t>();
        // SAFETY: an open pidfd; the kernel accepts a null siginfo.
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, self.pidfd.as_raw_fd(), libc::SIGKILL, none, 0) };
        // SAFETY: all-zero bytes are a valid siginfo_t, which the call overwrites.
        unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            libc::waitid(libc::P_PIDFD, self.pidfd.as_raw_fd() as libc::id_t, &raw mut info, libc::WEXITED);
        }
    }
}

impl Drop for SpawnerProcess {
    fn drop(&mut self) {
        self.end();
    }
}

/// Starts a spawner, after removing what an earlier one left in the same run folder. Blocks for some tens of
/// milliseconds: in an asynchronous program call it before the runtime, or on a thread that may block.
///
/// # Errors
/// [`SandboxError::RunDirInUse`] when another spawner has the run folder, [`SandboxError::Start`] for any step the
/// machine refuses.
pub fn start_spawner(options: SpawnerOptions) -> Result<SpawnerProcess, SandboxError> {
    let step = |what: &'static str| move |e: io::Error| SandboxError::start(what, e);
    let run_dir = RunDir::open(&options.run_dir).map_err(step("make the run folder"))?;
    let runtime_dir = options.runtime_dir.canonicalize().map_err(step("find the runtimes' folder"))?;
    let lock = run_dir.lock()?;
    run_dir.clean().map_err(step("remove what an earlier spawner left"))?;
    fs::create_dir(run_dir.mount_point()).map_err(step("make the spawner's mount point"))?;
    cgroup_detect::make_way();
    let mut instance = [0u8; 4];
    getrandom::fill(&mut instance)
        .map_err(|e| SandboxError::start("choose a name", io::Error::other(e.to_string())))?;
    let mut boot = Boot {
        run_dir: run_dir.root().to_owned(),
        runtime_dir,
        cgroup_name: format!("{CGROUP_PREFIX}{}", hex::encode(instance)),
        identity: Identity::of_this_process(),
        // SAFETY: both calls have no preconditions.
        die_with_parent: unsafe { libc::getpid() == libc::gettid() },
    };
    let spawned = match spawn(&boot, &lock) {
        // Root without the capability to make namespaces can still do so as an ordinary user does.
        Err(e) if boot.identity == Identity::Range && e.raw_os_error() == Some(libc::EPERM) => {
            boot.identity = Identity::Single;
            spawn(&boot, &lock)
        }
        other => other,
    };
    let (socket, pidfd, pid) = spawned.map_err(step("clone the spawner's process"))?;
    let run_dir = boot.run_dir;
    let mut process = SpawnerProcess { socket: None, pidfd, run_dir, pid, warnings: Vec::new(), over: false };
    process.warnings = wait_until_ready(&socket)?;
    process.socket = Some(socket);
    Ok(process)
}

fn wait_until_ready(socket: &OwnedFd) -> Result<Vec<String>, SandboxError> {
    let step = |e: io::Error| SandboxError::start("wait for the spawner", e);
    let timeout = PollTimeout::try_from(READY_MAX).unwrap_or(PollTimeout::MAX);
    let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    while let Err(e) = poll(&mut ready, timeout) {
        if e != nix::Error::EINTR {
            return Err(step(e.into()));
        }
    }
    match protocol::receive::<Report>(socket.as_fd()) {
        Ok(Some((Report::Hello { warnings }, _))) => Ok(warnings),
        Ok(Some((Report::NotReady { step, error }, _))) => Err(SandboxError::start(step, io::Error::other(error))),
        Ok(Some(_)) => Err(step(io::Error::other("it did not say hello"))),
        Ok(None) => Err(step(io::Error::other("it ended"))),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Err(step(io::Error::from(io::ErrorKind::TimedOut))),
        Err(e) => Err(step(e)),
    }
}

/// The child's copies are far from the numbers they will get, so that none overwrites another.
fn far_copy(fd: &impl AsRawFd) -> io::Result<OwnedFd> {
    // SAFETY: an open descriptor; the result is a new one that nothing else owns.
    unsafe {
        match libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 16) {
            -1 => Err(io::Error::last_os_error()),
            copy => Ok(OwnedFd::from_raw_fd(copy)),
        }
    }
}

/// Clones, and returns the gateway's socket, the child's pidfd and its pid.
fn spawn(boot: &Boot, lock: &fs::File) -> io::Result<(OwnedFd, OwnedFd, i32)> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    let theirs_far = far_copy(&theirs)?;
    let lock_far = far_copy(lock)?;
    let null_far = far_copy(&fs::OpenOptions::new().read(true).write(true).open("/dev/null")?)?;
    let (go_read, go_write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let go_far = far_copy(&go_read)?;
    let json = serde_json::to_string(boot)?;
    let strings = [CString::new("raas")?, CString::new(SPAWNER_ARGUMENT)?, CString::new(json)?];
    let argv: Vec<_> = strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect();
    let env = [std::ptr::null::<libc::c_char>()];

    let mut flags = libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_PIDFD;
    if boot.identity == Identity::Single {
        flags |= libc::CLONE_NEWUSER;
    }
    let mut pidfd: libc::c_int = -1;
    // SAFETY: all-zero bytes are a valid clone_args.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags as u64;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: like fork, with a structure of the stated size. The child has a copy of this thread only, and until it
    // executes a program it calls nothing but system calls on memory prepared above.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) };
    if pid == 0 {
        child(
            [
                theirs_far.as_raw_fd(),
                lock_far.as_raw_fd(),
                null_far.as_raw_fd(),
                go_far.as_raw_fd(),
                go_write.as_raw_fd(),
            ],
            boot.die_with_parent,
            argv.as_ptr(),
            env.as_ptr(),
        );
    }
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel stored a new descriptor there and nothing else owns it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    if boot.identity == Identity::Single {
        map_own_id(pid)?; // on failure the pipe closes and the child ends
    }
    nix::unistd::write(&go_write, b"g")?;
    Ok((ours, pidfd, pid as i32))
}

/// Maps id 0 of the child's user namespace to this process's user and group.
fn map_own_id(pid: libc::c_long) -> io::Result<()> {
    let dir = Path::new("/proc").join(pid.to_string());
    // SAFETY: neither call can fail.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    fs::write(dir.join("setgroups"), "deny")?;
    fs::write(dir.join("uid_map"), format!("0 {uid} 1\n"))?;
    fs::write(dir.join("gid_map"), format!("0 {gid} 1\n"))
}

/// The child between clone and exec: system calls only, no allocation, no locks.
fn child(
    [socket, lock, null, go, go_write]: [RawFd; 5],
    die_with_parent: bool,
    argv: *const *const libc::c_char,
    env: *const *const libc::c_char,
) -> ! {
    // SAFETY: plain system calls on open descriptors and on arrays of C strings that end with a null pointer.
    unsafe {
        if die_with_parent {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        }
        libc::close(go_write);
        let mut byte = 0u8;
        let ready = libc::read(go, (&raw mut byte).cast(), 1) == 1
            && libc::dup2(null, 0) == 0
            && libc::dup2(null, 1) == 1
            && libc::dup2(socket, SOCKET_FD) == SOCKET_FD
            && libc::dup2(lock, LOCK_FD) == LOCK_FD
            && libc::syscall(libc::SYS_close_range, LOCK_FD + 1, libc::c_int::MAX, 0) == 0;
        if ready {
            libc::execve(c"/proc/self/exe".as_ptr(), argv, env);
        }
        libc::_exit(127)
    }
}
