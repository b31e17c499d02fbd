//! From archive bytes to a folder on disk.
//!
//! Every entry goes through the picture of the tree before anything is written for it. Files and folders are written as
//! they come; links are made last, when nothing is written any more, so no write can go through one. Sizes are counted
//! as bytes are written, whatever the archive announces, and that is what stops an archive that grows without end.

use crate::error::{EntryProblem, PackageError};
use crate::tree::{Node, Tree, path_of};
use raas_core::limits::{PACKAGE_ENTRIES_MAX, PACKAGE_UNPACKED_MAX_BYTES};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

mod tarball;
mod zipfile;

/// Every file, folder and link gets this time (1980-01-01, the earliest that zip knows), so that equal packages are
/// equal on disk.
const NORMAL_TIME_S: i64 = 315_532_800;

/// How much a package may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Bytes of all files together.
    pub unpacked_max_bytes: u64,
    /// Files, folders and links.
    pub entries_max: usize,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        Self { unpacked_max_bytes: PACKAGE_UNPACKED_MAX_BYTES, entries_max: PACKAGE_ENTRIES_MAX }
    }
}

/// What was unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpacked {
    /// Digest of the content; the same for the same content, however it was archived.
    pub digest: [u8; 32],
    /// Where the package's top is: the destination, or the one folder in it that held everything.
    pub top: PathBuf,
    /// Bytes of all files together.
    pub size_bytes: u64,
    /// Number of files.
    pub files: usize,
}

/// Unpacks a zip or gzip tar archive into `destination`, an empty folder that nobody else writes to.
///
/// # Errors
/// The archive is refused or the file system fails. What was written by then is left in `destination`; the caller
/// removes it ([`PackageStore::add`](crate::PackageStore::add) does).
pub fn unpack_bytes(archive: &[u8], destination: &Path, limits: &UnpackLimits) -> Result<Unpacked, PackageError> {
    let mut writer = Writer { destination, limits: *limits, tree: Tree::new(limits.entries_max), written_bytes: 0 };
    match archive {
        [0x1F, 0x8B, ..] => tarball::read(archive, &mut writer)?,
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => zipfile::read(archive, &mut writer)?,
        _ => return Err(PackageError::UnknownFormat),
    }
    writer.finish()
}

/// Writes entries below one folder.
struct Writer<'a> {
    destination: &'a Path,
    limits: UnpackLimits,
    tree: Tree,
    written_bytes: u64,
}

impl Writer<'_> {
    fn folder(&mut self, name: &[u8]) -> Result<(), PackageError> {
        let Some(path) = path_of(name)? else {
            return Ok(());
        };
        self.tree.add(&path, Node::Folder)?;
        self.make_folder(&self.destination.join(path))
    }

    fn make_folder(&self, path: &Path) -> Result<(), PackageError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(PackageError::io("create a folder of the package"))
    }

    /// Writes a file; `size_bytes` is what the archive announces, where it does, and must be what comes.
    fn file(
        &mut self,
        name: &[u8],
        executable: bool,
        size_bytes: u64,
        content: &mut dyn Read,
    ) -> Result<(), PackageError> {
        if size_bytes > self.limits.unpacked_max_bytes {
            return Err(PackageError::TooLarge { limit_bytes: self.limits.unpacked_max_bytes });
        }
        let path = path_of(name)?.ok_or_else(|| EntryProblem::NoName.of(name))?;
        self.tree.add(&path, Node::File { executable, size_bytes: 0, content: [0; 32] })?;
        let on_disk = self.destination.join(&path);
        if let Some(folder) = on_disk.parent() {
            self.make_folder(folder)?;
        }
        let mode = if executable { 0o755 } else { 0o644 };
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&on_disk)
            .map_err(PackageError::io("create a file of the package"))?;
        let (written, digest) = self.copy(content, &mut file)?;
        if written != size_bytes {
            return Err(PackageError::damaged(format!(
                "the entry {path:?} announces {size_bytes} bytes and has {written}"
            )));
        }
        // The mode above went through the process's mask.
        file.set_permissions(fs::Permissions::from_mode(mode))
            .map_err(PackageError::io("set the mode of a file of the package"))?;
        self.tree.describe(&path, Node::File { executable, size_bytes: written, content: digest });
        Ok(())
    }

    /// Copies content to a file, counting against the limit and hashing on the way.
    fn copy(&mut self, content: &mut dyn Read, file: &mut fs::File) -> Result<(u64, [u8; 32]), PackageError> {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = [0; 64 * 1024];
        let mut written = 0;
        loop {
            let count = match content.read(&mut buffer) {
                Ok(0) => return Ok((written, *hasher.finalize().as_bytes())),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(PackageError::damaged(error)),
            };
            written += count as u64;
            self.written_bytes += count as u64;
            if self.written_bytes > self.limits.unpacked_max_bytes {
                return Err(PackageError::TooLarge { limit_bytes: self.limits.unpacked_max_bytes });
            }
            hasher.update(&buffer[..count]);
            file.write_all(&buffer[..count]).map_err(PackageError::io("write a file of the package"))?;
        }
    }

    /// Notes a symbolic link; it is checked and made at the end.
    fn link(&mut self, name: &[u8], target: &[u8]) -> Result<(), PackageError> {
        let path = path_of(name)?.ok_or_else(|| EntryProblem::NoName.of(name))?;
        let target = std::str::from_utf8(target).map_err(|_| EntryProblem::LinkTarget.of(name))?;
        self.tree.add(&path, Node::Link { target: target.to_owned() })
    }

    /// Writes a second copy of an earlier file, which is what a hard link in an archive means.
    fn hard_link(&mut self, name: &[u8], target: &[u8]) -> Result<(), PackageError> {
        let refuse = || EntryProblem::HardLinkTarget.of(name);
        let earlier = path_of(target).ok().flatten().ok_or_else(refuse)?;
        let Some(Node::File { executable, size_bytes, .. }) = self.tree.get(&earlier) else {
            return Err(refuse());
        };
        let (executable, size_bytes) = (*executable, *size_bytes);
        let mut content =
            fs::File::open(self.destination.join(&earlier)).map_err(PackageError::io("read a file of the package"))?;
        self.file(name, executable, size_bytes, &mut content)
    }

    /// Checks the whole, makes the links, and makes modes and times the same everywhere.
    fn finish(mut self) -> Result<Unpacked, PackageError> {
        let wrapper = self.tree.strip_wrapper()?;
        self.tree.check()?;
        let top = wrapper.map_or_else(|| self.destination.to_owned(), |wrapper| self.destination.join(wrapper));
        let mut files = 0;
        // Backwards, so that what is in a folder is done before the folder's own time is set.
        for (path, node) in self.tree.iter().rev() {
            let on_disk = top.join(path);
            match node {
                Node::Link { target } => {
                    // An archive need not name the folder that a link is in.
                    if let Some(folder) = on_disk.parent() {
                        self.make_folder(folder)?;
                    }
                    std::os::unix::fs::symlink(target, &on_disk)
                        .map_err(PackageError::io("create a link of the package"))?;
                }
                Node::File { .. } => files += 1,
                Node::Folder => set_folder_mode(&on_disk)?,
            }
            set_normal_time(&on_disk)?;
        }
        set_folder_mode(&top)?;
        set_normal_time(&top)?;
        Ok(Unpacked { digest: self.tree.digest(), top, size_bytes: self.written_bytes, files })
    }
}

fn set_folder_mode(path: &Path) -> Result<(), PackageError> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .map_err(PackageError::io("set the mode of a folder of the package"))
}

fn set_normal_time(path: &Path) -> Result<(), PackageError> {
    use nix::sys::stat::{UtimensatFlags, utimensat};
    use nix::sys::time::TimeSpec;
    let time = TimeSpec::new(NORMAL_TIME_S, 0);
    utimensat(nix::fcntl::AT_FDCWD, path, &time, &time, UtimensatFlags::NoFollowSymlink)
        .map_err(|error| PackageError::Io { action: "set the time of a file of the package", source: error.into() })
}
