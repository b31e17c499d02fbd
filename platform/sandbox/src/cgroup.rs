//! The cgroups of sandboxes: memory, CPU and process limits, and whether memory ran out.
//!
//! One group a sandbox, named `s<id>`, under the platform's own parent group. Directories are held open and used through
//! `/proc/self/fd`, because the spawner no longer sees the cgroup file systems (see [`crate::base`]). A sandbox never
//! sees them either.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use crate::protocol::{SandboxLimits, SandboxUsage};

/// Length of the interval in which a CPU quota is handed out.
const CPU_PERIOD_US: u64 = 100_000;
/// Least share of a core that the kernel accepts as a quota over that interval.
pub(crate) const CPU_MILLIS_MIN: u32 = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V1,
    V2,
}

/// A set of the controllers used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Controllers {
    pub(crate) memory: bool,
    pub(crate) cpu: bool,
    pub(crate) pids: bool,
    /// Counts CPU time and limits nothing.
    pub(crate) accounting: bool,
}

impl Controllers {
    pub(crate) const ALL: Self = Self { memory: true, cpu: true, pids: true, accounting: true };
    pub(crate) const NONE: Self = Self { memory: false, cpu: false, pids: false, accounting: false };

    pub(crate) fn from_names<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        names.fold(Self::NONE, |set, name| match name {
            "memory" => Self { memory: true, ..set },
            "cpu" => Self { cpu: true, ..set },
            "pids" => Self { pids: true, ..set },
            "cpuacct" => Self { accounting: true, ..set },
            _ => set,
        })
    }

    /// Those that have to be passed on; version 2 counts CPU time in every group.
    pub(crate) fn names(self) -> impl Iterator<Item = &'static str> {
        [(self.memory, "memory"), (self.cpu, "cpu"), (self.pids, "pids")]
            .into_iter()
            .filter(|(on, _)| *on)
            .map(|(_, n)| n)
    }

    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            memory: self.memory && other.memory,
            cpu: self.cpu && other.cpu,
            pids: self.pids && other.pids,
            accounting: self.accounting && other.accounting,
        }
    }

    pub(crate) fn without(self, other: Self) -> Self {
        Self {
            memory: self.memory && !other.memory,
            cpu: self.cpu && !other.cpu,
            pids: self.pids && !other.pids,
            accounting: self.accounting && !other.accounting,
        }
    }
}

/// One cgroup file system and the controllers taken from it.
#[derive(Debug)]
pub(crate) struct Hierarchy {
    version: Version,
    controllers: Controllers,
    /// The platform's parent group.
    parent: OwnedFd,
}

impl Hierarchy {
    pub(crate) fn new(version: Version, controllers: Controllers, parent: OwnedFd) -> Self {
        Self { version, controllers, parent }
    }

    fn group(&self, sandbox: u64) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/s{sandbox}", self.parent.as_raw_fd()))
    }
}

/// Every hierarchy in use; none where no cgroup can be made.
#[derive(Debug)]
pub(crate) struct Cgroups {
    hierarchies: Vec<Hierarchy>,
}

impl Cgroups {
    pub(crate) fn new(hierarchies: Vec<Hierarchy>) -> Self {
        Self { hierarchies }
    }

    /// The limits that cgroups enforce here.
    pub(crate) fn enforced(&self) -> Controllers {
        self.hierarchies.iter().fold(Controllers::NONE, |set, h| Controllers {
            memory: set.memory || h.controllers.memory,
            cpu: set.cpu || h.controllers.cpu,
            pids: set.pids || h.controllers.pids,
            accounting: set.accounting || h.controllers.accounting,
        })
    }

    /// Makes a sandbox's groups with its limits.
    pub(crate) fn create(&self, sandbox: u64, limits: &SandboxLimits) -> io::Result<()> {
        for hierarchy in &self.hierarchies {
            fs::create_dir(hierarchy.group(sandbox))?;
        }
        self.apply(sandbox, limits)
    }

    /// Sets a sandbox's limits, also while it runs. A limit below what is in use is an error.
    pub(crate) fn apply(&self, sandbox: u64, limits: &SandboxLimits) -> io::Result<()> {
        for hierarchy in &self.hierarchies {
            for (file, value, need) in settings(hierarchy, limits) {
                match fs::write(hierarchy.group(sandbox).join(file), &value) {
                    Err(e) if need == Need::Must => {
                        return Err(io::Error::new(e.kind(), format!("cannot set {file} to {value}: {e}")));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Moves this process, which has one thread, into a sandbox's groups.
    pub(crate) fn enter(&self, sandbox: u64) -> io::Result<()> {
        for hierarchy in &self.hierarchies {
            // On version 1 a thread that moves itself skips a lock which costs many milliseconds a hierarchy.
            let file = match hierarchy.version {
                Version::V1 => "tasks",
                Version::V2 => "cgroup.procs",
            };
            fs::write(hierarchy.group(sandbox).join(file), "0")?;
        }
        Ok(())
    }

    /// Processes of a sandbox that were ended because its memory ran out.
    pub(crate) fn oom_kills(&self, sandbox: u64) -> u64 {
        self.hierarchies
            .iter()
            .filter(|h| h.controllers.memory)
            .filter_map(|h| {
                let file = match h.version {
                    Version::V1 => "memory.oom_control",
                    Version::V2 => "memory.events",
                };
                let text = fs::read_to_string(h.group(sandbox).join(file)).ok()?;
                text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok())
            })
            .sum()
    }

    /// What a sandbox has used and uses; zero where nothing counts it.
    pub(crate) fn usage(&self, sandbox: u64) -> SandboxUsage {
        let read = |hierarchy: &Hierarchy, file: &str| {
            fs::read_to_string(hierarchy.group(sandbox).join(file)).unwrap_or_default()
        };
        let mut usage = SandboxUsage::default();
        for hierarchy in &self.hierarchies {
            let number = |file: &str| read(hierarchy, file).trim().parse::<u64>().unwrap_or(0);
            match hierarchy.version {
                Version::V1 => {
                    if hierarchy.controllers.accounting {
                        usage.cpu_us = number("cpuacct.usage") / 1000;
                    }
                    if hierarchy.controllers.memory {
                        usage.memory_bytes = number("memory.usage_in_bytes");
                    }
                }
                Version::V2 => {
                    if hierarchy.controllers.accounting {
                        let stat = read(hierarchy, "cpu.stat");
                        let used = stat.lines().find_map(|line| line.strip_prefix("usage_usec "));
                        usage.cpu_us = used.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
                    }
                    if hierarchy.controllers.memory {
                        usage.memory_bytes = number("memory.current");
                    }
                }
            }
        }
        usage
    }

    /// Removes a sandbox's groups; `false` when one is still busy and has to be tried again.
    pub(crate) fn remove(&self, sandbox: u64) -> bool {
        self.hierarchies.iter().fold(true, |gone, hierarchy| {
            let removed = match fs::remove_dir(hierarchy.group(sandbox)) {
                Ok(()) => true,
                Err(e) => e.kind() == io::ErrorKind::NotFound,
            };
            gone && removed
        })
    }
}

/// Whether a setting may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Must,
    May,
}

/// Files and values that set the limits, in order.
fn settings(hierarchy: &Hierarchy, limits: &SandboxLimits) -> Vec<(&'static str, String, Need)> {
    let mut files = Vec::new();
    let memory = limits.memory_bytes.to_string();
    let quota = u64::from(limits.cpu_millis) * CPU_PERIOD_US / 1000;
    match hierarchy.version {
        Version::V1 => {
            if hierarchy.controllers.memory {
                // The limit with swap may never be below the one without, so lowering needs one order and raising the
                // other; it is also absent on kernels that do not account for swap.
                files.push(("memory.limit_in_bytes", memory.clone(), Need::May));
                files.push(("memory.memsw.limit_in_bytes", memory.clone(), Need::May));
                files.push(("memory.limit_in_bytes", memory, Need::Must));
            }
            if hierarchy.controllers.cpu {
                files.push(("cpu.cfs_period_us", CPU_PERIOD_US.to_string(), Need::Must));
                files.push(("cpu.cfs_quota_us", quota.to_string(), Need::Must));
                files.push(("cpu.shares", if limits.yields { "2" } else { "1024" }.to_owned(), Need::May));
            }
        }
        Version::V2 => {
            if hierarchy.controllers.memory {
                files.push(("memory.max", memory, Need::Must));
                files.push(("memory.swap.max", "0".to_owned(), Need::May)); // absent without swap accounting
            }
            if hierarchy.controllers.cpu {
                files.push(("cpu.max", format!("{quota} {CPU_PERIOD_US}"), Need::Must));
                files.push(("cpu.weight", if limits.yields { "1" } else { "100" }.to_owned(), Need::May));
            }
        }
    }
    if hierarchy.controllers.pids {
        files.push(("pids.max", limits.pids_max.to_string(), Need::Must));
    }
    files
}
