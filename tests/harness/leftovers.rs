//! What a platform that has ended must not leave behind.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::processes;

/// Everything of a platform that is still there, as sentences. `cgroups` are the directories it recorded while it ran.
pub fn find(data: &Path, cgroups: &[PathBuf]) -> Vec<String> {
    let mut found = Vec::new();
    let folder = data.display().to_string();
    let names: Vec<_> = cgroups.iter().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();
    let own = std::process::id() as i32;
    for (pid, line) in processes::all() {
        if pid == own {
            continue;
        }
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let groups = read("cgroup");
        if line.contains(&folder) || names.iter().any(|name| groups.contains(name)) {
            found.push(format!("process {pid} still runs: {line}"));
        } else if read("mountinfo").contains(&folder) {
            found.push(format!("process {pid} ({line}) sees a mount of the data folder"));
        }
    }
    if fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().contains(&folder) {
        found.push("a mount of the data folder is still there".to_owned());
    }
    found.extend(
        cgroups.iter().filter(|path| path.exists()).map(|path| format!("the cgroup {} is still there", path.display())),
    );
    files(data, &mut found);
    found
}

/// Sockets, pipes and whatever carries an unfinished name.
fn files(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        let name = entry.file_name().to_string_lossy().into_owned();
        if kind.is_socket() || kind.is_fifo() {
            found.push(format!("{} is a socket or a pipe", path.display()));
        }
        if name.starts_with(".new-") || name.starts_with(".tmp") || name.ends_with(".new") {
            found.push(format!("{} is unfinished", path.display()));
        }
        let in_run = folder.file_name().is_some_and(|name| name == "run");
        if in_run && name != "lock" {
            found.push(format!("{} is still in the run folder", path.display()));
        }
        if kind.is_dir() && !in_run && !folder.ends_with("images") {
            files(&path, found);
        }
    }
}

/// Lines of a log that tell of an error or a panic and are not expected.
pub fn errors(log: &str, expected: &[String]) -> Vec<String> {
    let bad = |line: &&str| line.contains("ERROR") || line.contains("panicked");
    log.lines().filter(bad).filter(|line| !expected.iter().any(|text| line.contains(text))).map(str::to_owned).collect()
}
