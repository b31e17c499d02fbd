//! The run folder: who uses it, and what a spawner that died leaves there and in the cgroup file systems.
//!
//! Processes and mounts end with the spawner by themselves. Its cgroup directories do not; their paths are recorded
//! before they are made, so exactly those are removed and another platform's are left alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, statfs};

use crate::error::SandboxError;

/// Longest wait for a dying spawner to let go of the folder, and for its processes to leave their cgroups.
const SETTLE_MAX: Duration = Duration::from_secs(3);
/// Pause between two looks.
const SETTLE_STEP: Duration = Duration::from_millis(5);
/// Begin of the name of every platform's parent cgroup; eight hexadecimal digits follow.
pub(crate) const CGROUP_PREFIX: &str = "raas-";

/// Names in the run folder.
#[derive(Debug, Clone)]
pub(crate) struct RunDir {
    root: PathBuf,
}

impl RunDir {
    /// The folder at an absolute path, made if absent.
    pub(crate) fn open(root: &Path) -> io::Result<Self> {
        DirBuilder::new().mode(0o700).recursive(true).create(root)?;
        Ok(Self { root: root.canonicalize()? })
    }

    pub(crate) fn existing(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Where the spawner mounts its own root, in its own mount namespace; empty for everyone else.
    pub(crate) fn mount_point(&self) -> PathBuf {
        self.root.join("sandboxes")
    }

    /// Paths of cgroup directories, one a line.
    pub(crate) fn cgroup_record(&self) -> PathBuf {
        self.root.join("cgroups")
    }

    /// Takes the folder for as long as the file, or a copy of its descriptor in another process, is open.
    pub(crate) fn lock(&self) -> Result<File, SandboxError> {
        let step = "open the run folder's lock";
        let file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(self.root.join("lock"))
            .map_err(|e| SandboxError::start(step, e))?;
        let taken = settle(|| {
            // SAFETY: an open descriptor.
            unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) == 0 }
        });
        if taken { Ok(file) } else { Err(SandboxError::RunDirInUse(self.root.clone())) }
    }

    /// Removes what an earlier spawner left. The folder must be locked.
    pub(crate) fn clean(&self) -> io::Result<()> {
        if let Ok(record) = fs::read_to_string(self.cgroup_record()) {
            for line in record.lines().map(Path::new).filter(|path| is_ours(path)) {
                remove_groups(line)?;
            }
            fs::remove_file(self.cgroup_record())?;
        }
        match fs::remove_dir(self.mount_point()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

/// Removes what a spawner that used `run_dir` left behind: its cgroups and its files there.
///
/// # Errors
/// [`SandboxError::RunDirInUse`] when that spawner, or another platform's, still runs; [`SandboxError::Start`] when
/// something cannot be removed. An absent folder is not an error.
pub fn clean_up_leftovers(run_dir: &Path) -> Result<(), SandboxError> {
    if !run_dir.exists() {
        return Ok(());
    }
    let step = "remove what an earlier spawner left";
    let dir = RunDir::open(run_dir).map_err(|e| SandboxError::start(step, e))?;
    let _lock = dir.lock()?;
    dir.clean().map_err(|e| SandboxError::start(step, e))
}

/// Whether a recorded path is a platform's parent cgroup: the record is a file, and files can be damaged.
fn is_ours(path: &Path) -> bool {
    let named = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix(CGROUP_PREFIX));
    let named = named.is_some_and(|id| id.len() == 8 && id.bytes().all(|b| b.is_ascii_hexdigit()));
    named && statfs(path).is_ok_and(|fs| [CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC].contains(&fs.filesystem_type()))
}

fn remove_groups(parent: &Path) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_group(&entry.path())?;
        }
    }
    remove_group(parent)
}

fn remove_group(path: &Path) -> io::Result<()> {
    let mut last = Ok(());
    settle(|| {
        last = match fs::remove_dir(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        };
        last.is_ok()
    });
    last
}

/// Tries until it works or the time is up.
fn settle(mut attempt: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + SETTLE_MAX;
    loop {
        if attempt() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(SETTLE_STEP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_cgroups_are_ours() {
        assert!(!is_ours(Path::new("/sys/fs/cgroup")));
        assert!(!is_ours(Path::new("/tmp/raas-01234567")));
        assert!(!is_ours(Path::new("/sys/fs/cgroup/memory/raas-../x")));
    }
}
