//! Makes one sandbox: what a short-lived worker process does between a request and a running command.
//!
//! The worker is a fork of the spawner, so it shares its mounts and sees its folders. It enters the sandbox's cgroups and
//! network first, lets the container library build the rest, and ends; the sandbox's first process then belongs to the
//! spawner. The last steps before the command runs (signals, descriptors, seccomp) are in [`Command`].

use std::collections::HashMap;
use std::ffi::CString;
use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, chown, symlink};
use std::path::Path;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use nix::sys::socket::MsgFlags;
use nix::unistd::{AccessFlags, access};

use crate::base::Places;
use crate::cgroup::Cgroups;
use crate::identity::Identity;
use crate::mounts::{self, Restrict};
use crate::network;
use crate::protocol::{self, Failure, SandboxSpec};
use crate::seccomp::Filters;
use crate::spec;

/// The contract's descriptor in the sandbox.
const CONTROL_FD: RawFd = 3;
/// Where a command without a slash is looked up when `PATH` is not set.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";
/// Exit status of a command that exists but that the kernel cannot execute, as shells have it.
const CANNOT_EXECUTE: i32 = 126;

/// What every launch uses.
#[derive(Debug)]
pub(crate) struct Workshop {
    pub(crate) places: Places,
    pub(crate) cgroups: Cgroups,
    pub(crate) filters: Filters,
    pub(crate) identity: Identity,
}

/// The sandbox's ends of what the gateway holds the other ends of.
#[derive(Debug)]
pub(crate) struct InnerEnds {
    pub(crate) control: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    /// Takes the network device to the spawner, where the sandbox gets one.
    pub(crate) network: Option<OwnedFd>,
}

/// What a worker says before it ends: one line of JSON, of which the first counts.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) enum Outcome {
    Running { pid: i32 },
    Failed(Failure),
}

/// Makes the sandbox and writes the outcome to `result`. Runs in the worker.
pub(crate) fn run(workshop: &Workshop, id: u64, slot: u32, spec: &SandboxSpec, ends: &InnerEnds, result: &OwnedFd) {
    let outcome = match launch(workshop, id, slot, spec, ends, result.as_raw_fd()) {
        Ok(pid) => Outcome::Running { pid },
        Err(failure) => Outcome::Failed(failure),
    };
    report(result.as_raw_fd(), &outcome);
}

/// Lines stay below what a pipe writes in one piece.
fn report(result: RawFd, outcome: &Outcome) {
    let mut outcome_text = serde_json::to_string(outcome).unwrap_or_default();
    if outcome_text.len() > 3500 {
        let short = Outcome::Failed(Failure::Setup(outcome_text.chars().take(800).collect()));
        outcome_text = serde_json::to_string(&short).unwrap_or_default();
    }
    outcome_text.push('\n');
    // SAFETY: the worker and its children hold this descriptor open until they end; ManuallyDrop leaves it so.
    let mut pipe = std::mem::ManuallyDrop::new(unsafe { <fs::File as std::os::fd::FromRawFd>::from_raw_fd(result) });
    let _ = pipe.write_all(outcome_text.as_bytes()); // a spawner that is gone needs no outcome
}

fn launch(
    workshop: &Workshop,
    id: u64,
    slot: u32,
    sandbox: &SandboxSpec,
    ends: &InnerEnds,
    result: RawFd,
) -> Result<i32, Failure> {
    let places = &workshop.places;
    let step = |what: &'static str| move |e: io::Error| Failure::Setup(format!("{what}: {e}"));
    workshop.cgroups.create(id, &sandbox.limits).map_err(step("cannot make its cgroup"))?;
    workshop.cgroups.enter(id).map_err(step("cannot enter its cgroup"))?;
    make_slot(workshop, id, slot, sandbox).map_err(step("cannot make its folders"))?;
    network::isolate().map_err(step("cannot make its network"))?;
    if let Some(to_spawner) = &ends.network {
        let device = network::connect().map_err(Failure::Network)?;
        protocol::send(to_spawner.as_fd(), &(), &[device.as_raw_fd()], MsgFlags::empty())
            .map_err(step("cannot hand its network over"))?;
    }
    let owner = workshop.identity.host_id(slot);
    for (pipe, standard) in [(&ends.stdout, 1), (&ends.stderr, 2)] {
        // The sandbox may open its standard streams again by name, so they are its own.
        // SAFETY: an open pipe and plain numbers.
        let owned = unsafe { libc::fchown(pipe.as_raw_fd(), owner, owner) } == 0;
        // SAFETY: an open descriptor and a standard stream, which nothing in this process owns.
        if !owned || unsafe { libc::dup2(pipe.as_raw_fd(), standard) } < 0 {
            return Err(step("cannot set up its streams")(io::Error::last_os_error()));
        }
    }
    let bundle = places.bundles.join(id.to_string());
    let config = spec::build(places, id, slot, workshop.identity, sandbox, workshop.cgroups.enforced());
    fs::create_dir(&bundle)
        .and_then(|()| fs::write(bundle.join("config.json"), config.to_string()))
        .map_err(step("cannot write its specification"))?;
    let command = Command::new(sandbox, ends.control.as_raw_fd(), result, workshop.filters.clone())
        .ok_or_else(|| Failure::Setup("its command or environment contains a zero byte".to_owned()))?;
    let mut container = ContainerBuilder::new(format!("s{id}"), SyscallType::default())
        .with_root_path(&places.state)
        .map_err(chain)?
        .with_executor(command)
        .as_init(&bundle)
        .with_systemd(false)
        .build()
        .map_err(chain)?;
    container.start().map_err(chain)?;
    container.pid().map(|pid| pid.as_raw()).ok_or_else(|| Failure::Setup("it has no process".to_owned()))
}

fn chain(error: impl std::error::Error) -> Failure {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    Failure::Setup(text)
}

/// Makes the folder that the sandbox sees as `/var`, with what is mounted in it from the start.
fn make_slot(workshop: &Workshop, id: u64, slot: u32, sandbox: &SandboxSpec) -> io::Result<()> {
    let var = workshop.places.slots.join(id.to_string());
    for dir in [var.clone(), var.join("task"), var.join("out")] {
        fs::DirBuilder::new().mode(0o755).create(dir)?;
    }
    symlink("/tmp", var.join("tmp"))?;
    if let Some(code) = &sandbox.code_dir {
        mounts::bind(code, &var.join("task"), Restrict::READ_ONLY)?;
    }
    if let Some(writable) = &sandbox.writable_dir {
        let owner = workshop.identity.host_id(slot);
        chown(writable, Some(owner), Some(owner))?;
        mounts::bind(writable, &var.join("out"), Restrict::WRITABLE)?;
    }
    Ok(())
}

/// What the sandbox's first process does last, as the container library's executor.
#[derive(Clone)]
struct Command {
    argv: Vec<CString>,
    env: Vec<CString>,
    /// Paths to try in order.
    candidates: Vec<CString>,
    control: RawFd,
    result: RawFd,
    filters: Filters,
}

impl Command {
    /// `None` when a string contains a zero byte.
    fn new(spec: &SandboxSpec, control: RawFd, result: RawFd, filters: Filters) -> Option<Self> {
        let strings = |list: Vec<String>| list.into_iter().map(|s| CString::new(s).ok()).collect::<Option<Vec<_>>>();
        let name = spec.argv.first()?;
        let path = spec.env.iter().find(|(key, _)| key == "PATH").map_or(DEFAULT_PATH, |(_, value)| value);
        let candidates = if name.contains('/') {
            vec![name.clone()]
        } else {
            path.split(':').filter(|dir| !dir.is_empty()).map(|dir| format!("{dir}/{name}")).collect()
        };
        Some(Self {
            argv: strings(spec.argv.clone())?,
            env: strings(spec.env.iter().map(|(key, value)| format!("{key}={value}")).collect())?,
            candidates: strings(candidates)?,
            control,
            result,
            filters,
        })
    }

    fn find(&self) -> Option<&CString> {
        self.candidates.iter().find(|path| {
            let path = Path::new(std::str::from_utf8(path.to_bytes()).unwrap_or_default());
            path.is_file() && access(path, AccessFlags::X_OK).is_ok()
        })
    }
}

impl Executor for Command {
    /// In the sandbox, as its user, before it is said to run.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        if self.find().is_some() {
            return Ok(());
        }
        let name = self.argv.first().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let text = format!("{name} is not an executable file in the sandbox");
        report(self.result, &Outcome::Failed(Failure::Command(text.clone())));
        Err(ExecutorValidationError::ArgValidationError(text))
    }

    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(()) // the command gets its environment with exec
    }

    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let path = self.find().ok_or(ExecutorError::InvalidArg)?;
        let pointers = |strings: &[CString]| {
            strings.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect::<Vec<*const libc::c_char>>()
        };
        let (argv, env) = (pointers(&self.argv), pointers(&self.env));
        reset_signals();
        // SAFETY: plain numbers. Every descriptor from 4 up is closed, none is used after this.
        let ready = unsafe {
            libc::dup2(self.control, CONTROL_FD) == CONTROL_FD
                && libc::syscall(libc::SYS_close_range, CONTROL_FD + 1, libc::c_int::MAX, 0) == 0
        };
        if !ready {
            return Err(ExecutorError::Other(io::Error::last_os_error().to_string()));
        }
        self.filters.apply().map_err(|e| ExecutorError::Other(e.to_string()))?;
        // SAFETY: arrays of C strings that end with a null pointer, all alive across the call.
        unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
        let _ = writeln!(io::stderr(), "{}: {}", path.to_string_lossy(), io::Error::last_os_error());
        // SAFETY: ends this process without running the spawner's exit handlers.
        unsafe { libc::_exit(CANNOT_EXECUTE) }
    }
}

/// The command starts with default signal handling: the spawner blocks some and ignores some.
fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: setting a default disposition; numbers that cannot be set return an error, which is fine.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: an empty set made by sigemptyset on valid storage.
    unsafe {
        let mut none = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}
