//! Finds where this machine lets us make cgroups, and makes the platform's parent group there.
//!
//! Version 1, version 2 and both at once: every controller is taken from the hierarchy that has it. Candidates for the
//! parent are the visible root of a hierarchy, then the spawner's own group (a delegated one) and then the groups around
//! that: version 2 lets no group that has processes pass controllers on, so there it takes one further out. Each
//! directory is recorded in the run folder before it is made, so that a later start can remove it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use crate::cgroup::{Cgroups, Controllers, Hierarchy, Version};

/// Finds hierarchies by `/proc/self/mountinfo` and makes the directory `name` in them. What cannot be enforced is said
/// in the warnings.
pub(crate) fn prepare(name: &str, record: &Path) -> io::Result<(Cgroups, Vec<String>)> {
    let mut record = OpenOptions::new().create(true).append(true).open(record)?;
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut missing = Controllers::ALL;
    let mut hierarchies = Vec::new();
    let mut mounted = parse_mounts(&fs::read_to_string("/proc/self/mountinfo")?);
    mounted.sort_by_key(|m| m.version == Version::V2); // a controller is in one hierarchy only; order is for the reader
    for mount in mounted {
        if hierarchies.len() == 4 || missing == Controllers::NONE {
            break;
        }
        for parent in candidates(&own, &mount) {
            let offered = match mount.version {
                Version::V1 => mount.controllers,
                Version::V2 if admits(&parent) => enable(&parent, missing),
                Version::V2 => Controllers::NONE,
            };
            let taken = offered.and(missing);
            if taken == Controllers::NONE {
                continue;
            }
            if let Ok(dir) = make_parent(&parent.join(name), mount.version, taken, &mut record) {
                hierarchies.push(Hierarchy::new(mount.version, taken, dir));
                missing = missing.without(taken);
                break;
            }
        }
    }
    Ok((Cgroups::new(hierarchies), warnings(missing)))
}

fn warnings(missing: Controllers) -> Vec<String> {
    let mut warnings = Vec::new();
    if missing.memory {
        warnings.push(
            "Memory limits are only enforced per process, not per sandbox, because no memory cgroup can be made here, \
             and running out of memory is not reported as such."
                .to_owned(),
        );
    }
    if missing.cpu {
        warnings.push("CPU limits are not enforced because no cpu cgroup can be made here.".to_owned());
    }
    if missing.accounting {
        warnings.push("The CPU time of helpers is not measured because nothing counts it here.".to_owned());
    }
    if missing.pids {
        warnings.push(
            "The number of processes of a sandbox is only bounded by a resource limit because no pids cgroup can be made \
             here."
                .to_owned(),
        );
    }
    warnings
}

fn make_parent(path: &Path, version: Version, taken: Controllers, record: &mut File) -> io::Result<OwnedFd> {
    writeln!(record, "{}", path.display())?;
    record.sync_data()?;
    match fs::create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    if version == Version::V2 && enable(path, taken) != taken {
        let _ = fs::remove_dir(path);
        return Err(io::Error::from(io::ErrorKind::PermissionDenied));
    }
    File::open(path).map(OwnedFd::from)
}

/// Where the parent group may be made, best first.
fn candidates(own: &str, mount: &Mounted) -> Vec<PathBuf> {
    let around = own_group(own, mount);
    let around = around.iter().flat_map(|group| group.ancestors()).take_while(|group| *group != mount.point);
    [mount.point.as_path()].into_iter().chain(around).map(Path::to_owned).collect()
}

/// Whether a version 2 group around the spawner's own can have groups with limits and processes of the spawner in them.
/// Moving a process takes leave to write in the innermost group around both its old and its new one. And only the real
/// root, which has no type, may have processes beside such groups; others would pass some controllers on nevertheless,
/// but to groups of threads.
fn admits(group: &Path) -> bool {
    let processes = group.join("cgroup.procs");
    let free = || fs::read_to_string(&processes).is_ok_and(|list| list.is_empty());
    access(&processes, AccessFlags::W_OK).is_ok() && (!group.join("cgroup.type").exists() || free())
}

/// Passes controllers on to the children of a version 2 group; which ones its children have now.
fn enable(group: &Path, wanted: Controllers) -> Controllers {
    let file = group.join("cgroup.subtree_control");
    for name in wanted.names() {
        let _ = fs::write(&file, format!("+{name}")); // one at a time: one that is absent must not spoil the others
    }
    let passed = fs::read_to_string(&file)
        .map(|names| Controllers::from_names(names.split_whitespace()))
        .unwrap_or(Controllers::NONE);
    Controllers { accounting: wanted.accounting && passed != Controllers::NONE, ..passed }
}

#[derive(Debug, PartialEq, Eq)]
struct Mounted {
    version: Version,
    /// The directory of the hierarchy that is mounted.
    root: PathBuf,
    point: PathBuf,
    controllers: Controllers,
}

fn parse_mounts(mountinfo: &str) -> Vec<Mounted> {
    let mut found = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let left: Vec<&str> = left.split(' ').collect();
        let right: Vec<&str> = right.split(' ').collect();
        let (Some(root), Some(point), Some(kind), Some(options)) =
            (left.get(3), left.get(4), right.first(), right.get(2))
        else {
            continue;
        };
        let version = match *kind {
            "cgroup" => Version::V1,
            "cgroup2" => Version::V2,
            _ => continue,
        };
        let controllers = Controllers::from_names(options.split(','));
        if version == Version::V1 && controllers == Controllers::NONE {
            continue;
        }
        found.push(Mounted { version, root: PathBuf::from(root), point: PathBuf::from(point), controllers });
    }
    found
}

/// The spawner's own group in a hierarchy, by the lines "id:controllers:path" of `/proc/self/cgroup`.
fn own_group(own: &str, mount: &Mounted) -> Option<PathBuf> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (names, path) = (parts.next()?, parts.next()?);
        let same = match mount.version {
            Version::V1 => Controllers::from_names(names.split(',')) == mount.controllers,
            Version::V2 => names.is_empty(),
        };
        let inner = Path::new(path).strip_prefix(&mount.root).ok()?;
        (same && !inner.as_os_str().is_empty()).then(|| mount.point.join(inner))
    })
}

/// Leaf for processes that are in the way.
const LEAF: &str = "raas-platform";

/// How often processes are moved: others can be started meanwhile.
const MOVES_MAX: usize = 8;

/// Where no version 2 group passes controllers on but only because of the processes in the one that was delegated to this
/// process, as a service or a container, moves those into a leaf of it. The leaf goes with the group, so nothing removes
/// it. Done by the gateway's half: the spawner cannot name processes outside its own pid namespace.
pub(crate) fn make_way() {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounted = parse_mounts(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
    for mount in mounted.iter().filter(|mount| mount.version == Version::V2) {
        let group = own_group(&own, mount).unwrap_or_else(|| mount.point.clone());
        let has = fs::read_to_string(group.join("cgroup.controllers")).unwrap_or_default();
        let none_to_pass = Controllers::from_names(has.split_whitespace()) == Controllers::NONE;
        let passes = |group: &PathBuf| admits(group) && enable(group, Controllers::ALL) != Controllers::NONE;
        if none_to_pass || candidates(&own, mount).iter().any(passes) {
            continue;
        }
        let leaf = group.join(LEAF);
        if fs::create_dir(&leaf).is_err() && !leaf.is_dir() {
            continue; // not delegated to us
        }
        for _ in 0..MOVES_MAX {
            let processes = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            for process in processes.lines().filter(|pid| *pid != "0") {
                let _ = fs::write(leaf.join("cgroup.procs"), process); // it may have ended
            }
            if passes(&group) {
                break;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HYBRID: &str = "\
30 24 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
31 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 24 0:28 / /sys/fs/cgroup/devices rw - cgroup cgroup rw,devices
33 24 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
34 24 0:30 / /data rw - ext4 /dev/vda rw
";

    #[test]
    fn mounts_are_read() {
        let found = parse_mounts(HYBRID);
        assert_eq!(found.len(), 3);
        assert!(found[0].controllers.cpu && !found[0].controllers.memory);
        assert_eq!(found[1].point, Path::new("/sys/fs/cgroup/memory"));
        assert_eq!(found[2].version, Version::V2);
    }

    #[test]
    fn own_group_is_below_the_mount() {
        let found = parse_mounts(HYBRID);
        let own = "4:memory:/user/one\n1:cpu,cpuacct:/\n0::/user.slice/s\n";
        assert_eq!(own_group(own, &found[1]).unwrap(), Path::new("/sys/fs/cgroup/memory/user/one"));
        assert_eq!(own_group(own, &found[0]), None);
        assert_eq!(own_group(own, &found[2]).unwrap(), Path::new("/sys/fs/cgroup/unified/user.slice/s"));
    }

    #[test]
    fn candidates_are_the_root_and_then_from_the_own_group_outwards() {
        let found = parse_mounts(HYBRID);
        let own = "1:cpu,cpuacct:/\n0::/user.slice/s\n";
        assert_eq!(candidates(own, &found[0]), [Path::new("/sys/fs/cgroup/cpu,cpuacct")]);
        let unified = Path::new("/sys/fs/cgroup/unified");
        assert_eq!(candidates(own, &found[2]), [unified, &unified.join("user.slice/s"), &unified.join("user.slice")]);
    }
}
