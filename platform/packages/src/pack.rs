//! From a folder to the archive that is deployed.
//!
//! The same folder always gives the same bytes: entries in order, no times, no owners. What is never wanted (version
//! control, installed dependencies, compiled Python) is left out, as is what `.raasignore` names in the syntax of
//! `.gitignore`, where a line `!node_modules/` takes something back in. The limits and rules of the platform are
//! checked here first, so that a mistake shows before an upload.

use crate::MANIFESTS;
use crate::error::PackageError;
use crate::tree::{Node, Tree, path_of};
use flate2::{Compression, GzBuilder};
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use raas_core::limits::{PACKAGE_ENTRIES_MAX, PACKAGE_UNPACKED_MAX_BYTES, PACKAGE_UPLOAD_MAX_BYTES};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Left out of every package unless `.raasignore` takes it back in.
const LEFT_OUT: &[&str] = &[".git/", "node_modules/", "__pycache__/", ".venv/", "*.pyc"];
/// The file that names what else is left out.
const IGNORE_FILE: &str = ".raasignore";

/// A packed folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The gzip tar archive.
    pub archive: Vec<u8>,
    /// Number of files in it.
    pub files: usize,
    /// Bytes of all files together, unpacked.
    pub size_bytes: u64,
}

/// Why a folder cannot be packed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// There is no manifest in the folder.
    #[error("{} has no raas.toml, which makes a folder a function, nor a helper.toml, which makes it a helper", .folder.display())]
    NoManifest {
        /// The folder.
        folder: PathBuf,
    },
    /// Something in the folder cannot be read.
    #[error("cannot read {}", .path.display())]
    Unreadable {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A line of `.raasignore` is not a pattern.
    #[error("{IGNORE_FILE}: {problem}")]
    BadPattern {
        /// What is wrong with it.
        problem: String,
    },
    /// The platform would refuse it.
    #[error(transparent)]
    Refused(#[from] PackageError),
    /// The archive is larger than an upload may be.
    #[error("the packed folder is {size_bytes} bytes; at most {PACKAGE_UPLOAD_MAX_BYTES} can be uploaded")]
    UploadTooLarge {
        /// Size of the archive.
        size_bytes: u64,
    },
}

/// Packs a folder.
///
/// # Errors
/// There is no manifest, something cannot be read, or the platform would refuse the package.
pub fn pack_folder(folder: &Path) -> Result<Packed, PackError> {
    if !MANIFESTS.iter().any(|manifest| folder.join(manifest).is_file()) {
        return Err(PackError::NoManifest { folder: folder.to_owned() });
    }
    let mut packer = Packer { ignored: ignored(folder)?, tree: Tree::new(PACKAGE_ENTRIES_MAX), size_bytes: 0, folder };
    packer.collect(folder)?;
    if !MANIFESTS.iter().any(|manifest| matches!(packer.tree.get(manifest), Some(Node::File { .. }))) {
        return Err(PackError::NoManifest { folder: folder.to_owned() });
    }
    packer.tree.check()?;
    packer.write()
}

/// The files of a folder that would be packed, by their paths from its top. There need not be a manifest.
///
/// # Errors
/// Something cannot be read, or the platform would refuse it.
pub fn packed_files(folder: &Path) -> Result<Vec<String>, PackError> {
    let mut packer = Packer { ignored: ignored(folder)?, tree: Tree::new(PACKAGE_ENTRIES_MAX), size_bytes: 0, folder };
    packer.collect(folder)?;
    let is_file = |node: &Node| matches!(node, Node::File { .. });
    Ok(packer.tree.iter().filter(|(_, node)| is_file(node)).map(|(path, _)| path.to_owned()).collect())
}

fn ignored(folder: &Path) -> Result<Gitignore, PackError> {
    let mut builder = GitignoreBuilder::new(folder);
    let bad = |error: ignore::Error| PackError::BadPattern { problem: error.to_string() };
    for pattern in LEFT_OUT {
        builder.add_line(None, pattern).map_err(bad)?;
    }
    let file = folder.join(IGNORE_FILE);
    if file.is_file()
        && let Some(error) = builder.add(&file)
    {
        return Err(bad(error));
    }
    builder.build().map_err(bad)
}

struct Packer<'a> {
    folder: &'a Path,
    ignored: Gitignore,
    tree: Tree,
    size_bytes: u64,
}

impl Packer<'_> {
    /// Notes everything below `folder` that belongs into the package.
    fn collect(&mut self, folder: &Path) -> Result<(), PackError> {
        let unreadable = |path: &Path| {
            let path = path.to_owned();
            move |source| PackError::Unreadable { path, source }
        };
        for entry in fs::read_dir(folder).map_err(unreadable(folder))? {
            let on_disk = entry.map_err(unreadable(folder))?.path();
            let metadata = fs::symlink_metadata(&on_disk).map_err(unreadable(&on_disk))?;
            let relative = on_disk.strip_prefix(self.folder).unwrap_or(&on_disk);
            if self.ignored.matched(relative, metadata.is_dir()).is_ignore() || relative == Path::new(IGNORE_FILE) {
                continue;
            }
            let Some(path) = path_of(relative.as_os_str().as_bytes())? else {
                continue;
            };
            if metadata.is_dir() {
                self.tree.add(&path, Node::Folder)?;
                self.collect(&on_disk)?;
            } else if metadata.is_symlink() {
                let target = fs::read_link(&on_disk).map_err(unreadable(&on_disk))?;
                let target =
                    target.to_str().ok_or_else(|| crate::EntryProblem::LinkTarget.of(path.as_bytes()))?.to_owned();
                self.tree.add(&path, Node::Link { target })?;
            } else if metadata.is_file() {
                self.size_bytes += metadata.len();
                if self.size_bytes > PACKAGE_UNPACKED_MAX_BYTES {
                    return Err(PackageError::TooLarge { limit_bytes: PACKAGE_UNPACKED_MAX_BYTES }.into());
                }
                let executable = metadata.permissions().mode() & 0o111 != 0;
                self.tree.add(&path, Node::File { executable, size_bytes: metadata.len(), content: [0; 32] })?;
            } else {
                return Err(crate::EntryProblem::SpecialFile.of(path.as_bytes()).into());
            }
        }
        Ok(())
    }

    fn write(&self) -> Result<Packed, PackError> {
        let compressed = GzBuilder::new().mtime(0).write(Vec::new(), Compression::default());
        let mut archive = tar::Builder::new(compressed);
        let (mut files, mut size_bytes) = (0, 0);
        for (path, node) in self.tree.iter() {
            let on_disk = self.folder.join(path);
            let unreadable = |source| PackError::Unreadable { path: on_disk.clone(), source };
            let mut header = tar::Header::new_gnu();
            header.set_mtime(0);
            header.set_uid(0);
            header.set_gid(0);
            header.set_size(0);
            match node {
                Node::Folder => {
                    header.set_entry_type(tar::EntryType::Directory);
                    header.set_mode(0o755);
                    archive.append_data(&mut header, format!("{path}/"), io::empty()).map_err(unreadable)?;
                }
                Node::Link { target } => {
                    header.set_entry_type(tar::EntryType::Symlink);
                    header.set_mode(0o777);
                    archive.append_link(&mut header, path, target).map_err(unreadable)?;
                }
                Node::File { executable, .. } => {
                    // Read whole, so that a file which grows meanwhile cannot tear the archive.
                    let content = fs::read(&on_disk).map_err(unreadable)?;
                    header.set_entry_type(tar::EntryType::Regular);
                    header.set_mode(if *executable { 0o755 } else { 0o644 });
                    header.set_size(content.len() as u64);
                    archive.append_data(&mut header, path, content.as_slice()).map_err(unreadable)?;
                    files += 1;
                    size_bytes += content.len() as u64;
                }
            }
        }
        let finished = archive.into_inner().and_then(|compressed| compressed.finish());
        let archive = finished.map_err(|source| PackError::Unreadable { path: self.folder.to_owned(), source })?;
        if archive.len() as u64 > PACKAGE_UPLOAD_MAX_BYTES {
            return Err(PackError::UploadTooLarge { size_bytes: archive.len() as u64 });
        }
        Ok(Packed { archive, files, size_bytes })
    }
}
