//! The spawner process: one thread, one loop over a socket, a signal descriptor and its workers' pipes.
//!
//! It is the first process of its pid namespace, so every sandbox is its descendant and dies with it. Making a sandbox
//! takes milliseconds and happens in a forked worker (safe, because there is one thread); assigning and killing are a
//! few system calls and happen in the loop. When the gateway's end of the socket closes, it exits.

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, socketpair};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe2, setgroups, setsid};

use crate::base::{self, AtStep, Step};
use crate::cgroup::CPU_MILLIS_MIN;
use crate::cgroup_detect;
use crate::identity::{Identity, SLOTS_MAX};
use crate::launch::{self, InnerEnds, Outcome, Workshop};
use crate::leftovers::RunDir;
use crate::mounts::{self, Propagation, Restrict};
use crate::process::{Boot, LOCK_FD, SOCKET_FD};
use crate::protocol::{self, Assignment, Failure, Network, Op, Report, Request, SandboxLimits, SandboxSpec, Status};
use crate::seccomp::Filters;

/// Workers at once.
const CREATES_MAX: usize = 4;
/// Requests to create that wait for a worker.
const QUEUE_MAX: usize = 1024;
/// Least limits; a sandbox is set up under its own.
const MEMORY_MIN_BYTES: u64 = 16 << 20;
const PIDS_MIN: u32 = 8;
const TMP_MIN_BYTES: u64 = 64 << 10;
/// Longest time a worker may take.
const CREATE_MAX: Duration = Duration::from_secs(10);
/// Pause before another look at a cgroup that was still busy.
const RETRY_PAUSE: Duration = Duration::from_millis(5);

/// Runs the spawner until the gateway goes away. `args` are the program's arguments from
/// [`crate::SPAWNER_ARGUMENT`] on. The binary's `main` calls this first thing, before it starts any thread.
pub fn spawner_main(args: &[String]) -> ! {
    let code = match args.get(1).and_then(|json| serde_json::from_str::<Boot>(json).ok()) {
        Some(boot) => run(&boot),
        None => {
            eprintln!("raas {}: is started by raas itself", crate::SPAWNER_ARGUMENT);
            2
        }
    };
    std::process::exit(code)
}

fn run(boot: &Boot) -> i32 {
    // SAFETY: the gateway's side of the start puts these two descriptors there, and nothing else owns them.
    let (socket, _lock) = unsafe {
        libc::fcntl(SOCKET_FD, libc::F_SETFD, libc::FD_CLOEXEC);
        libc::fcntl(LOCK_FD, libc::F_SETFD, libc::FD_CLOEXEC);
        (OwnedFd::from_raw_fd(SOCKET_FD), OwnedFd::from_raw_fd(LOCK_FD))
    };
    let (workshop, warnings, signals) = match set_up(boot) {
        Ok(ready) => ready,
        Err((step, error)) => {
            let report = Report::NotReady { step, error: error.to_string() };
            let _ = protocol::send(socket.as_fd(), &report, &[], MsgFlags::empty());
            return 1;
        }
    };
    let mut spawner = Spawner {
        socket,
        signals,
        workshop,
        live: HashMap::new(),
        creating: Vec::new(),
        queue: VecDeque::new(),
        removals: Vec::new(),
        failed: Vec::new(),
        free_slots: Vec::new(),
        slots_used: 0,
        next_id: 1,
        shutdown: None,
    };
    // An error on the socket means that the gateway is gone, and the only duty left is to go too.
    match spawner.report(&Report::Hello { warnings }, &[]).and_then(|()| spawner.serve()) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

fn set_up(boot: &Boot) -> Step<(Workshop, Vec<String>, SignalFd)> {
    let _ = setsid(); // signals of the gateway's terminal are not for the spawner
    if boot.identity == Identity::Range {
        setgroups(&[]).at("leave the host's groups")?;
    }
    if boot.die_with_parent {
        // Again, because changes of identity and exec can clear it.
        // SAFETY: plain numbers.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    }
    let mut blocked = SigSet::empty();
    blocked.add(Signal::SIGCHLD);
    blocked.thread_block().at("block signals")?;
    let signals =
        SignalFd::with_flags(&blocked, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).at("watch children")?;

    let run_dir = RunDir::existing(boot.run_dir.clone());
    mounts::set_propagation(Path::new("/"), Propagation::PrivateTree).at("leave the host's mounts")?;
    mounts::filesystem("proc", Path::new("/proc"), "").at("mount /proc")?;
    let (cgroups, mut warnings) =
        cgroup_detect::prepare(&boot.cgroup_name, &run_dir.cgroup_record()).at("find the cgroups")?;
    let places = base::build(&run_dir.mount_point(), &boot.runtime_dir)?;
    if boot.identity == Identity::Single {
        warnings.push(
            "Sandboxes run as the same host user as the platform, which was not started as root; they are kept apart by \
             namespaces only."
                .to_owned(),
        );
    }
    let filters = Filters::compile().map_err(|e| io::Error::other(e.to_string())).at("compile the seccomp filters")?;
    let workshop = Workshop { places, cgroups, filters, identity: boot.identity };
    Ok((workshop, warnings, signals))
}

/// A sandbox that runs.
struct Live {
    slot: u32,
    pid: Pid,
    has_code: bool,
}

/// A sandbox that a worker is making.
struct Creating {
    id: u64,
    slot: u32,
    request_id: u64,
    worker: Pid,
    since: Instant,
    has_code: bool,
    result: fs::File,
    /// The gateway's ends.
    outer: [OwnedFd; protocol::CREATED_FDS],
    /// Where the worker leaves the network device, where the sandbox gets one.
    network: Option<OwnedFd>,
}

struct Spawner {
    socket: OwnedFd,
    signals: SignalFd,
    workshop: Workshop,
    live: HashMap<u64, Live>,
    creating: Vec<Creating>,
    queue: VecDeque<(u64, SandboxSpec)>,
    /// Ended sandboxes, with their slots, whose cgroups were still busy.
    removals: Vec<(u64, u32)>,
    /// Workers that failed and have not been reaped; what they made is not a sandbox.
    failed: Vec<Pid>,
    free_slots: Vec<u32>,
    slots_used: u32,
    next_id: u64,
    /// The request to stop, once there is one.
    shutdown: Option<u64>,
}

impl Spawner {
    fn serve(&mut self) -> io::Result<()> {
        loop {
            let readable = self.wait()?;
            if readable.signals {
                while let Ok(Some(_)) = self.signals.read_signal() {}
            }
            // Workers' words come before the deaths of what they made.
            self.collect_outcomes()?;
            self.reap()?;
            if readable.socket && !self.take_requests()? {
                return Ok(());
            }
            self.retry_removals();
            self.stop_late_workers();
            self.start_waiting()?;
            if let Some(request_id) = self.shutdown
                && self.live.is_empty()
                && self.creating.is_empty()
                && self.removals.is_empty()
            {
                return self.report(&Report::Done { request_id }, &[]);
            }
        }
    }

    fn wait(&self) -> io::Result<Readable> {
        let mut fds = vec![
            PollFd::new(self.socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
        ];
        fds.extend(self.creating.iter().map(|c| PollFd::new(c.result.as_fd(), PollFlags::POLLIN)));
        let retry = (!self.removals.is_empty()).then_some(RETRY_PAUSE);
        let late = (!self.creating.is_empty()).then_some(CREATE_MAX);
        let timeout = match retry.or(late) {
            Some(wait) => PollTimeout::try_from(wait).unwrap_or(PollTimeout::ZERO),
            None => PollTimeout::NONE,
        };
        match poll(&mut fds, timeout) {
            Ok(_) => Ok(Readable { socket: fds[0].any() == Some(true), signals: fds[1].any() == Some(true) }),
            Err(Errno::EINTR) => Ok(Readable { socket: false, signals: true }),
            Err(e) => Err(e.into()),
        }
    }

    fn report(&self, report: &Report, fds: &[RawFd]) -> io::Result<()> {
        protocol::send(self.socket.as_fd(), report, fds, MsgFlags::empty())
    }

    /// Answers every request that is there; `false` at the end of the stream.
    fn take_requests(&mut self) -> io::Result<bool> {
        loop {
            match protocol::receive::<Request>(self.socket.as_fd()) {
                Ok(None) => return Ok(false),
                Ok(Some((request, _))) => self.answer(request)?,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(e) => return Err(e),
            }
        }
    }

    fn answer(&mut self, Request { request_id, op }: Request) -> io::Result<()> {
        let result = match op {
            Op::Create(spec) => match self.accept(request_id, spec) {
                Ok(()) => return Ok(()), // answered when the sandbox runs
                Err(failure) => Err(failure),
            },
            Op::Assign { sandbox, assignment } => self.assign(sandbox, &assignment),
            Op::Usage { sandbox } => {
                if self.live.contains_key(&sandbox) {
                    let usage = self.workshop.cgroups.usage(sandbox);
                    return self.report(&Report::Usage { request_id, usage }, &[]);
                }
                Err(Failure::Ended)
            }
            Op::Kill { sandbox } => {
                self.kill(sandbox);
                return Ok(());
            }
            Op::Shutdown => {
                self.shutdown = Some(request_id);
                self.live.keys().for_each(|id| self.kill(*id));
                Ok(())
            }
        };
        match result {
            Ok(()) if self.shutdown.is_some() => Ok(()), // answered when everything is gone
            Ok(()) => self.report(&Report::Done { request_id }, &[]),
            Err(failure) => self.report(&Report::Failed { request_id, failure }, &[]),
        }
    }

    fn accept(&mut self, request_id: u64, spec: SandboxSpec) -> Result<(), Failure> {
        let absolute = |dir: &Option<std::path::PathBuf>| dir.as_ref().is_none_or(|d| d.is_absolute());
        if spec.argv.is_empty() {
            return Err(Failure::Invalid("the command is empty".to_owned()));
        }
        let extras = spec.extras.iter().flat_map(|extra| [&extra.source, &extra.target]);
        if !absolute(&spec.code_dir)
            || !absolute(&spec.writable_dir)
            || !extras.into_iter().all(|path| path.is_absolute())
        {
            return Err(Failure::Invalid("a folder is not an absolute path".to_owned()));
        }
        check(&spec.limits)?;
        if self.shutdown.is_some() || self.queue.len() >= QUEUE_MAX {
            return Err(Failure::Busy("too many sandboxes are waiting to be made".to_owned()));
        }
        self.queue.push_back((request_id, spec));
        Ok(())
    }

    fn start_waiting(&mut self) -> io::Result<()> {
        while self.creating.len() < CREATES_MAX && self.shutdown.is_none() {
            let Some((request_id, spec)) = self.queue.pop_front() else { break };
            if let Err(failure) = self.start(request_id, &spec) {
                self.report(&Report::Failed { request_id, failure }, &[])?;
            }
        }
        Ok(())
    }

    fn start(&mut self, request_id: u64, spec: &SandboxSpec) -> Result<(), Failure> {
        let slot = match self.free_slots.pop() {
            Some(slot) => slot,
            None if self.slots_used < SLOTS_MAX => {
                self.slots_used += 1;
                self.slots_used - 1
            }
            None => return Err(Failure::Busy(format!("{SLOTS_MAX} sandboxes exist"))),
        };
        let id = self.next_id;
        self.next_id += 1;
        match self.fork_worker(id, slot, request_id, spec) {
            Ok(creating) => {
                self.creating.push(creating);
                Ok(())
            }
            Err(e) => {
                self.free_slots.push(slot);
                Err(Failure::Setup(format!("cannot start a worker: {e}")))
            }
        }
    }

    fn fork_worker(&self, id: u64, slot: u32, request_id: u64, spec: &SandboxSpec) -> io::Result<Creating> {
        let (control, inner_control) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)?;
        let (stdout, inner_stdout) = pipe2(OFlag::O_CLOEXEC)?;
        let (stderr, inner_stderr) = pipe2(OFlag::O_CLOEXEC)?;
        let (result, inner_result) = pipe2(OFlag::O_CLOEXEC)?;
        nix::fcntl::fcntl(&result, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let (network, inner_network) = match spec.network {
            Network::None => (None, None),
            Network::Egress => {
                let (outer, inner) =
                    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
                (Some(outer), Some(inner))
            }
        };
        let ends =
            InnerEnds { control: inner_control, stdout: inner_stdout, stderr: inner_stderr, network: inner_network };
        // SAFETY: this process has one thread, so the child may do anything.
        match unsafe { fork() }? {
            ForkResult::Parent { child } => Ok(Creating {
                id,
                slot,
                request_id,
                worker: child,
                since: Instant::now(),
                has_code: spec.code_dir.is_some(),
                result: fs::File::from(result),
                outer: [control, stdout, stderr],
                network,
            }),
            ForkResult::Child => {
                launch::run(&self.workshop, id, slot, spec, &ends, &inner_result);
                // SAFETY: ends the worker without the spawner's exit handlers.
                unsafe { libc::_exit(0) }
            }
        }
    }

    /// Takes what workers have said, and forgets those that have.
    fn collect_outcomes(&mut self) -> io::Result<()> {
        let mut index = 0;
        while index < self.creating.len() {
            let mut buffer = vec![0u8; 4096];
            match (&self.creating[index].result).read(&mut buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => index += 1,
                read => {
                    let creating = self.creating.swap_remove(index);
                    let text = &buffer[..read.unwrap_or(0)];
                    let line = text.split(|b| *b == b'\n').next().unwrap_or_default();
                    self.finish_create(creating, serde_json::from_slice(line).ok())?;
                }
            }
        }
        Ok(())
    }

    fn finish_create(&mut self, creating: Creating, outcome: Option<Outcome>) -> io::Result<()> {
        let Creating { id, slot, request_id, worker, outer, network, has_code, .. } = creating;
        match outcome {
            Some(Outcome::Running { pid }) => {
                self.live.insert(id, Live { slot, pid: Pid::from_raw(pid), has_code });
                let mut fds: Vec<RawFd> = outer.iter().map(AsRawFd::as_raw_fd).collect();
                // The worker sent it before it said that the sandbox runs.
                let device = network.and_then(|from| protocol::receive::<()>(from.as_fd()).ok().flatten());
                fds.extend(device.iter().flat_map(|((), device)| device).map(AsRawFd::as_raw_fd));
                self.report(&Report::Created { request_id, sandbox: id }, &fds)?;
                if self.shutdown.is_some() {
                    self.kill(id);
                }
                Ok(())
            }
            other => {
                let failure = match other {
                    Some(Outcome::Failed(failure)) => failure,
                    _ => Failure::Setup("its worker ended early; the memory limit may be too low".to_owned()),
                };
                let _ = kill(worker, Signal::SIGKILL);
                self.failed.push(worker);
                self.clear(id, slot);
                self.report(&Report::Failed { request_id, failure }, &[])
            }
        }
    }

    /// Learns of every process that ended.
    fn reap(&mut self) -> io::Result<()> {
        loop {
            let (pid, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Status::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Status::Signal(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(e) => return Err(e.into()),
            };
            // A worker writes before it ends, and what it made is ours only once it has ended: its words are there now.
            self.collect_outcomes()?;
            if let Some(index) = self.creating.iter().position(|c| c.worker == pid) {
                // It ended without a word, while something it forked may still have the pipe open.
                let creating = self.creating.swap_remove(index);
                self.finish_create(creating, None)?;
            }
            if let Some(index) = self.failed.iter().position(|worker| *worker == pid) {
                self.failed.swap_remove(index);
                self.kill_strays()?;
            }
            if let Some(id) = self.live.iter().find(|(_, live)| live.pid == pid).map(|(id, _)| *id) {
                self.finish(id, status)?;
            }
        }
    }

    /// Ends children that are neither sandboxes nor workers: what a worker that failed had forked before.
    fn kill_strays(&mut self) -> io::Result<()> {
        let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
        // Whatever is a child by now and belongs to a sandbox has been spoken of by its worker.
        self.collect_outcomes()?;
        for pid in children.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw) {
            let known = self.live.values().any(|live| live.pid == pid)
                || self.creating.iter().any(|creating| creating.worker == pid)
                || self.failed.contains(&pid);
            if !known {
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
        Ok(())
    }

    fn stop_late_workers(&self) {
        for creating in self.creating.iter().filter(|c| c.since.elapsed() >= CREATE_MAX) {
            let _ = kill(creating.worker, Signal::SIGKILL); // its death is handled like any other
        }
    }

    fn finish(&mut self, id: u64, status: Status) -> io::Result<()> {
        let Some(live) = self.live.remove(&id) else { return Ok(()) };
        let oom_killed = status == Status::Signal(libc::SIGKILL) && self.workshop.cgroups.oom_kills(id) > 0;
        let usage = self.workshop.cgroups.usage(id);
        self.report(&Report::Exit { sandbox: id, status, oom_killed, usage }, &[])?;
        self.clear(id, live.slot);
        Ok(())
    }

    /// Removes everything of a sandbox; parts that were never made are no error.
    fn clear(&mut self, id: u64, slot: u32) {
        let places = &self.workshop.places;
        let var = places.slots.join(id.to_string());
        for name in ["task", "out"] {
            let _ = mounts::detach(&var.join(name));
            let _ = fs::remove_dir(var.join(name));
        }
        // Not recursive: a mount that is still there must never be emptied.
        let _ = fs::remove_file(var.join("tmp"));
        let _ = fs::remove_dir(&var);
        let _ = fs::remove_dir_all(places.bundles.join(id.to_string()));
        let _ = fs::remove_dir_all(places.state.join(format!("s{id}")));
        self.removals.push((id, slot));
        self.retry_removals();
    }

    fn retry_removals(&mut self) {
        let (cgroups, free) = (&self.workshop.cgroups, &mut self.free_slots);
        self.removals.retain(|(id, slot)| {
            let gone = cgroups.remove(*id);
            if gone {
                free.push(*slot);
            }
            !gone
        });
    }

    fn assign(&mut self, sandbox: u64, assignment: &Assignment) -> Result<(), Failure> {
        let setup = |e: io::Error| Failure::Setup(e.to_string());
        let Some(live) = self.live.get_mut(&sandbox) else { return Err(Failure::Ended) };
        if live.has_code {
            return Err(Failure::Invalid("the sandbox has code already".to_owned()));
        }
        let state_dir = assignment.state_dir.as_deref();
        if !assignment.code_dir.is_absolute() || state_dir.is_some_and(|dir| !dir.is_absolute()) {
            return Err(Failure::Invalid("a folder is not an absolute path".to_owned()));
        }
        check(&assignment.limits)?;
        self.workshop.cgroups.apply(sandbox, &assignment.limits).map_err(setup)?;
        let var = self.workshop.places.slots.join(sandbox.to_string());
        mounts::bind(&assignment.code_dir, &var.join("task"), Restrict::READ_ONLY).map_err(setup)?;
        if let Some(state_dir) = state_dir {
            show_state(self.workshop.identity, live.pid, state_dir, &var.join("out")).map_err(setup)?;
        }
        live.has_code = true;
        Ok(())
    }

    /// The kernel ends the whole sandbox with its first process. Until that is reaped, its pid is nobody else's.
    fn kill(&self, sandbox: u64) {
        if let Some(live) = self.live.get(&sandbox) {
            let _ = kill(live.pid, Signal::SIGKILL);
        }
    }
}

/// Shows a sandbox a writable folder whose files belong, on the disk, to the user that the sandbox thinks it is: the next
/// sandbox with the same folder is another host user.
fn show_state(identity: Identity, sandbox: Pid, state_dir: &Path, target: &Path) -> io::Result<()> {
    if identity == Identity::Single {
        return mounts::bind(state_dir, target, Restrict::WRITABLE);
    }
    let owner = identity.container_id();
    std::os::unix::fs::chown(state_dir, Some(owner), Some(owner))?;
    let users = fs::File::open(format!("/proc/{sandbox}/ns/user"))?;
    mounts::bind_mapped(state_dir, target, Restrict::WRITABLE, users.as_fd())
}

/// Refuses limits under which no sandbox could start, or which the kernel takes for "unlimited".
fn check(limits: &SandboxLimits) -> Result<(), Failure> {
    let enough = limits.memory_bytes >= MEMORY_MIN_BYTES
        && limits.cpu_millis >= CPU_MILLIS_MIN
        && limits.pids_max >= PIDS_MIN
        && limits.tmp_bytes >= TMP_MIN_BYTES;
    if enough { Ok(()) } else { Err(Failure::Invalid(format!("a limit is too low: {limits:?}"))) }
}

struct Readable {
    socket: bool,
    signals: bool,
}
