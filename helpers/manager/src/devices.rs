//! Devices by the Container Device Interface: from a name such as `nvidia.com/gpu=0` to what a sandbox has to be shown.
//!
//! Reads the vendors' own JSON files, whose form is <https://github.com/cncf-tags/container-device-interface> (SPEC.md,
//! versions 0.3 to 1.0). Of a file's edits, device nodes, mounts and environment variables are taken; hooks, which would run
//! the vendor's programs as root outside the sandbox, are not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The largest file that is read, bytes.
const FILE_MAX_BYTES: u64 = 4 << 20;

/// Files looked at in one folder.
const FILES_MAX: usize = 200;

/// What a sandbox is shown for its devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeviceEdits {
    /// Device nodes.
    pub nodes: Vec<DeviceMount>,
    /// Files and folders, libraries of drivers for the most part.
    pub mounts: Vec<DeviceMount>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// How many of the devices are accelerators, which are paid for by their time.
    pub accelerators: u32,
}

/// A path of the host and where a sandbox sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceMount {
    /// On the host.
    pub source: PathBuf,
    /// In the sandbox.
    pub target: PathBuf,
    /// Whether it can be written.
    pub writable: bool,
}

/// Why a device cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// No file names it.
    #[error("this machine has no device `{name}`; {there}")]
    Absent {
        /// What was asked for.
        name: String,
        /// What there is, for people.
        there: String,
    },
    /// A file describes it and the device is not there.
    #[error("the device `{name}` is described in {file}, and {what}")]
    Broken {
        /// What was asked for.
        name: String,
        /// The file.
        file: String,
        /// What is wrong.
        what: String,
    },
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    devices: Vec<Device>,
    #[serde(default, rename = "containerEdits")]
    edits: Edits,
}

#[derive(Deserialize)]
struct Device {
    name: String,
    #[serde(default, rename = "containerEdits")]
    edits: Edits,
}

#[derive(Default, Clone, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Edits {
    env: Vec<String>,
    device_nodes: Vec<Node>,
    mounts: Vec<Mount>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Node {
    path: PathBuf,
    #[serde(default)]
    host_path: Option<PathBuf>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mount {
    host_path: PathBuf,
    container_path: PathBuf,
    #[serde(default)]
    options: Vec<String>,
}

/// Finds what `names` need in the files of `folders`; a later folder's description of a device counts before an earlier one's.
///
/// # Errors
/// [`DeviceError`] for the first that cannot be had.
pub fn find_devices(folders: &[PathBuf], names: &[String]) -> Result<DeviceEdits, DeviceError> {
    let mut found = DeviceEdits::default();
    if names.is_empty() {
        return Ok(found);
    }
    let files: Vec<(PathBuf, File)> = folders.iter().rev().flat_map(|folder| read_folder(folder)).collect();
    let mut common_taken: Vec<&Path> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for name in names.iter().filter(|name| seen.insert(*name)) {
        let (kind, device_name) = name.split_once('=').unwrap_or((name, ""));
        let described = files.iter().filter(|(_, file)| file.kind == kind).find_map(|(path, file)| {
            Some((path, file, file.devices.iter().find(|device| device.name == device_name)?))
        });
        let Some((path, file, device)) = described else {
            return Err(DeviceError::Absent { name: name.clone(), there: there(folders, &files) });
        };
        let broken = |what: String| DeviceError::Broken { name: name.clone(), file: path.display().to_string(), what };
        if !common_taken.contains(&path.as_path()) {
            common_taken.push(path);
            take(&file.edits, &mut found).map_err(broken)?;
        }
        take(&device.edits, &mut found).map_err(broken)?;
        found.accelerators += u32::from(is_accelerator(kind));
    }
    Ok(found)
}

/// Vendors call the class of their accelerators by one of these names.
fn is_accelerator(kind: &str) -> bool {
    matches!(kind.rsplit('/').next(), Some("gpu" | "npu" | "tpu" | "accel"))
}

fn there(folders: &[PathBuf], files: &[(PathBuf, File)]) -> String {
    let names: Vec<String> = files
        .iter()
        .flat_map(|(_, file)| file.devices.iter().map(|device| format!("{}={}", file.kind, device.name)))
        .collect();
    if names.is_empty() {
        let folders: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        return format!("no JSON file in {} describes any", folders.join(" or "));
    }
    format!("there are: {}", names.join(", "))
}

fn read_folder(folder: &Path) -> Vec<(PathBuf, File)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let json = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "json");
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).filter(json).take(FILES_MAX).collect();
    paths.sort();
    paths.into_iter().filter_map(|path| read_file(&path).map(|file| (path, file))).collect()
}

/// A file that cannot be read describes nothing; the operator is told in the log, and the user that there is no such device.
fn read_file(path: &Path) -> Option<File> {
    let read = || -> std::io::Result<File> {
        if path.metadata()?.len() > FILE_MAX_BYTES {
            return Err(std::io::Error::other("it is too large"));
        }
        Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
    };
    read()
        .inspect_err(
            |error| tracing::warn!(file = %path.display(), error = %error, "a device description cannot be read"),
        )
        .ok()
}

fn take(edits: &Edits, found: &mut DeviceEdits) -> Result<(), String> {
    for node in &edits.device_nodes {
        let source = node.host_path.clone().unwrap_or_else(|| node.path.clone());
        if !source.exists() {
            return Err(format!("{} is not there", source.display()));
        }
        push(&mut found.nodes, DeviceMount { source, target: node.path.clone(), writable: true });
    }
    for mount in &edits.mounts {
        // The host's /usr is what sandboxes see anyway, at the same place.
        if mount.host_path == mount.container_path && mount.host_path.starts_with("/usr") {
            continue;
        }
        if !mount.host_path.exists() {
            return Err(format!("{} is not there", mount.host_path.display()));
        }
        let writable = mount.options.iter().any(|option| option == "rw");
        let (source, target) = (mount.host_path.clone(), mount.container_path.clone());
        push(&mut found.mounts, DeviceMount { source, target, writable });
    }
    for variable in &edits.env {
        if let Some((name, value)) = variable.split_once('=') {
            found.env.insert(name.to_owned(), value.to_owned());
        }
    }
    Ok(())
}

fn push(list: &mut Vec<DeviceMount>, mount: DeviceMount) {
    if !list.iter().any(|known| known.target == mount.target) {
        list.push(mount);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const MADE_UP: &str = r#"{
        "cdiVersion": "0.6.0", "kind": "example.com/gpu",
        "containerEdits": {"env": ["DRIVER=1"], "hooks": [{"hookName": "createContainer", "path": "/bin/false"}]},
        "devices": [
            {"name": "0", "containerEdits": {"deviceNodes": [{"path": "/dev/made-up", "hostPath": "/dev/zero", "permissions": "rw"}],
                "mounts": [{"hostPath": "/etc/hostname", "containerPath": "/opt/driver", "options": ["ro", "bind"]},
                           {"hostPath": "/usr/bin/env", "containerPath": "/usr/bin/env"}]}},
            {"name": "gone", "containerEdits": {"deviceNodes": [{"path": "/dev/never-there"}]}}
        ]}"#;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    fn find(folder: &tempfile::TempDir, names: &[&str]) -> Result<DeviceEdits, DeviceError> {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        find_devices(&[folder.path().to_owned()], &names)
    }

    #[test]
    fn a_device_brings_its_node_its_files_and_its_variables() {
        let folder = folder(&[("made-up.json", MADE_UP), ("broken.json", "{"), ("other.txt", MADE_UP)]);
        let edits = find(&folder, &["example.com/gpu=0"]).unwrap();
        let mount = |source: &str, target: &str, writable| DeviceMount {
            source: source.into(),
            target: target.into(),
            writable,
        };
        assert_eq!(edits.nodes, [mount("/dev/zero", "/dev/made-up", true)]);
        assert_eq!(edits.mounts, [mount("/etc/hostname", "/opt/driver", false)]);
        assert_eq!(edits.env, BTreeMap::from([("DRIVER".into(), "1".into())]));
        assert_eq!(edits.accelerators, 1);
        assert_eq!(find(&folder, &[]).unwrap(), DeviceEdits::default());
    }

    #[test]
    fn what_is_not_there_is_said_in_one_line() {
        let described = folder(&[("made-up.json", MADE_UP)]);
        let absent = find(&described, &["example.com/gpu=7"]).unwrap_err().to_string();
        assert!(absent.contains("`example.com/gpu=7`") && absent.contains("example.com/gpu=0"), "{absent}");
        let broken = find(&described, &["example.com/gpu=gone"]).unwrap_err().to_string();
        assert!(broken.contains("/dev/never-there is not there"), "{broken}");
        let none = find(&folder(&[]), &["nvidia.com/gpu=0"]).unwrap_err().to_string();
        assert!(none.contains("describes any"), "{none}");
    }
}
