//! The runtimes' files, carried in the binary and laid out in the data folder for sandboxes to see at `/opt/raas`.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "../../helpers/sdk"]
#[include = "python/*.py"]
#[include = "python/raas/*.py"]
#[include = "python/raas/*/*.py"]
#[include = "node/*.cjs"]
#[include = "node/raas/*.cjs"]
struct Files;

/// Where this binary's runtimes are, under `root`. The name changes with their content, so that a new binary never changes
/// files under a sandbox that runs.
pub fn installed(root: &Path) -> PathBuf {
    let mut hasher = blake3::Hasher::new();
    let mut names: Vec<_> = Files::iter().collect();
    names.sort();
    for name in names {
        hasher.update(name.as_bytes());
        hasher.update(&[0]);
        if let Some(file) = Files::get(&name) {
            hasher.update(&(file.data.len() as u64).to_le_bytes());
            hasher.update(&file.data);
        }
    }
    root.join(&hasher.finalize().to_hex()[..16])
}

/// Writes the files where they are not there yet, whole or not at all, and returns their folder.
///
/// # Errors
/// The data folder cannot be written.
pub fn install(root: &Path) -> io::Result<PathBuf> {
    let folder = installed(root);
    if folder.is_dir() {
        return Ok(folder);
    }
    std::fs::create_dir_all(root)?;
    let unfinished = tempfile::Builder::new().prefix(".new-").tempdir_in(root)?;
    for name in Files::iter() {
        let Some(file) = Files::get(&name) else { continue };
        let path = unfinished.path().join(name.as_ref());
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(path, &file.data)?;
    }
    open_to_others(unfinished.path())?;
    std::fs::rename(unfinished.keep(), &folder)?;
    Ok(folder)
}

/// Sandboxes run under other users' ids: what they are to see must be readable by all.
pub fn open_to_others(path: &Path) -> io::Result<()> {
    let metadata = std::fs::symlink_metadata(path)?;
    if metadata.is_dir() {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
        for entry in std::fs::read_dir(path)? {
            open_to_others(&entry?.path())?;
        }
    } else if metadata.is_file() {
        let execute = metadata.permissions().mode() & 0o111;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644 | execute))?;
    }
    Ok(())
}
