//! Processes of a platform, from the host's side.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

/// Kills a process at once. One that is gone is no error.
pub fn kill(pid: i32) {
    let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
}

/// The cgroup directories that a platform's run folder names.
pub fn cgroups_of(data: &Path) -> Vec<PathBuf> {
    let record = fs::read_to_string(data.join("run/cgroups")).unwrap_or_default();
    record.lines().map(PathBuf::from).collect()
}

/// The processes in a platform's sandboxes, each once.
pub fn sandbox_processes(data: &Path) -> Vec<i32> {
    let mut pids = Vec::new();
    for parent in cgroups_of(data) {
        for sandbox in fs::read_dir(&parent).into_iter().flatten().flatten() {
            let text = fs::read_to_string(sandbox.path().join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()).filter(|pid| *pid > 0));
        }
    }
    pids.sort_unstable();
    pids.dedup();
    pids
}

/// The process of a sandbox that has this file in its `/tmp`: how a function is told from the outside.
pub fn marked(data: &Path, file: &str) -> Option<i32> {
    sandbox_processes(data).into_iter().find(|pid| Path::new(&format!("/proc/{pid}/root/tmp/{file}")).exists())
}

/// Every process, with its command line.
pub fn all() -> Vec<(i32, String)> {
    let numbers =
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers
        .map(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            (pid, String::from_utf8_lossy(&line).replace('\0', " "))
        })
        .collect()
}

/// The parent of a process.
fn parent_of(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// The spawner of the platform with this process id.
pub fn spawner_of(platform: i32) -> Option<i32> {
    all()
        .into_iter()
        .find(|(pid, line)| line.contains(" spawner ") && parent_of(*pid) == Some(platform))
        .map(|(pid, _)| pid)
}
