//! Packages on disk, each under the hexadecimal digest of its content.
//!
//! A package appears by one rename of a folder that is complete and on disk, so whoever sees it sees all of it. What was
//! being unpacked when the platform stopped is in folders named `.tmp-…`, which opening the store removes. One process
//! owns a root.

use crate::error::PackageError;
use crate::unpack::{UnpackLimits, Unpacked, unpack_bytes};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// How names of unfinished folders begin.
const TEMPORARY_PREFIX: &str = ".tmp-";

/// A package that is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Digest of the content.
    pub digest: [u8; 32],
    /// Its folder, to be mounted read-only at `/var/task`.
    pub root: PathBuf,
    /// Bytes of all files together.
    pub size_bytes: u64,
    /// Number of files.
    pub files: usize,
}

/// All packages of one platform.
#[derive(Debug)]
pub struct PackageStore {
    root: PathBuf,
    limits: UnpackLimits,
    next_temporary: AtomicU64,
}

impl PackageStore {
    /// Opens the store at `root`, makes the folder where there is none, and removes what an earlier process left
    /// unfinished.
    ///
    /// # Errors
    /// The file system fails.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, PackageError> {
        Self::open_with_limits(root, UnpackLimits::default())
    }

    /// Opens the store with other limits than the platform's own.
    ///
    /// # Errors
    /// The file system fails.
    pub fn open_with_limits(root: impl Into<PathBuf>, limits: UnpackLimits) -> Result<Self, PackageError> {
        let root = root.into();
        let failed = "open the package store";
        fs::DirBuilder::new().recursive(true).mode(0o755).create(&root).map_err(PackageError::io(failed))?;
        for entry in fs::read_dir(&root).map_err(PackageError::io(failed))? {
            let entry = entry.map_err(PackageError::io(failed))?;
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX) {
                fs::remove_dir_all(entry.path()).map_err(PackageError::io("remove an unfinished package"))?;
            }
        }
        Ok(Self { root, limits, next_temporary: AtomicU64::new(0) })
    }

    /// Unpacks an archive and keeps it. The same content twice is kept once, also when two come at the same time.
    ///
    /// # Errors
    /// The archive is refused or the file system fails; nothing is left behind then.
    pub fn add(&self, archive: &[u8]) -> Result<Package, PackageError> {
        self.add_checked(archive, |_| Ok(())).map(|(package, ())| package)
    }

    /// The same, once `check` has accepted what was unpacked; answers with what the check found.
    ///
    /// # Errors
    /// The archive is refused, the check fails or the file system fails; nothing is left behind then.
    pub fn add_checked<T, E: From<PackageError>>(
        &self,
        archive: &[u8],
        check: impl FnOnce(&Unpacked) -> Result<T, E>,
    ) -> Result<(Package, T), E> {
        let temporary = self.temporary()?;
        let unpacked = unpack_bytes(archive, &temporary.0, &self.limits)?;
        let found = check(&unpacked)?;
        Ok((self.keep(unpacked)?, found))
    }

    fn keep(&self, unpacked: Unpacked) -> Result<Package, PackageError> {
        let root = self.folder(&unpacked.digest);
        let package = Package { digest: unpacked.digest, root, size_bytes: unpacked.size_bytes, files: unpacked.files };
        if package.root.exists() {
            return Ok(package);
        }
        // One flush of the file system in place of one for each of thousands of files.
        let keep = "keep the package";
        let folder = fs::File::open(&unpacked.top).map_err(PackageError::io(keep))?;
        nix::unistd::syncfs(&folder).map_err(|error| PackageError::Io { action: keep, source: error.into() })?;
        match fs::rename(&unpacked.top, &package.root) {
            Ok(()) => self.sync().map_err(PackageError::io(keep))?,
            // Another deploy of the same content was first.
            Err(error) if matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => {}
            Err(error) => return Err(PackageError::io(keep)(error)),
        }
        Ok(package)
    }

    /// The package with this digest.
    ///
    /// # Errors
    /// The file system fails.
    pub fn get(&self, digest: &[u8; 32]) -> Result<Option<Package>, PackageError> {
        let root = self.folder(digest);
        if !root.is_dir() {
            return Ok(None);
        }
        let (mut size_bytes, mut files) = (0, 0);
        let mut folders = vec![root.clone()];
        let failed = "read a package";
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).map_err(PackageError::io(failed))? {
                let entry = entry.map_err(PackageError::io(failed))?;
                // Of the entry itself: links are not followed.
                let metadata = entry.metadata().map_err(PackageError::io(failed))?;
                if metadata.is_dir() {
                    folders.push(entry.path());
                } else if metadata.is_file() {
                    size_bytes += metadata.len();
                    files += 1;
                }
            }
        }
        Ok(Some(Package { digest: *digest, root, size_bytes, files }))
    }

    /// Removes a package; answers whether there was one. Nothing may be running from it.
    ///
    /// # Errors
    /// The file system fails.
    pub fn remove(&self, digest: &[u8; 32]) -> Result<bool, PackageError> {
        // Moved aside first, so that nobody sees half a package.
        let temporary = self.temporary()?;
        match fs::rename(self.folder(digest), temporary.0.join("removed")) {
            Ok(()) => {
                self.sync().map_err(PackageError::io("remove a package"))?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(PackageError::io("remove a package")(error)),
        }
    }

    /// The digests of all packages, in order.
    ///
    /// # Errors
    /// The file system fails.
    pub fn list(&self) -> Result<Vec<[u8; 32]>, PackageError> {
        let mut digests = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(PackageError::io("list the packages"))? {
            let entry = entry.map_err(PackageError::io("list the packages"))?;
            let mut digest = [0; 32];
            if hex::decode_to_slice(entry.file_name().as_encoded_bytes(), &mut digest).is_ok() {
                digests.push(digest);
            }
        }
        digests.sort_unstable();
        Ok(digests)
    }

    /// The folder of a package, whether or not it is there.
    #[must_use]
    pub fn folder(&self, digest: &[u8; 32]) -> PathBuf {
        self.root.join(hex::encode(digest))
    }

    fn sync(&self) -> io::Result<()> {
        fs::File::open(&self.root)?.sync_all()
    }

    fn temporary(&self) -> Result<Temporary, PackageError> {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join(format!("{TEMPORARY_PREFIX}{}-{number}", std::process::id()));
        fs::DirBuilder::new().mode(0o755).create(&path).map_err(PackageError::io("create a folder for the package"))?;
        Ok(Temporary(path))
    }
}

/// A folder that is removed with whatever is in it, however its use ends.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        remove_quietly(&self.0);
    }
}

/// What cannot be removed now is removed when the store is opened next.
fn remove_quietly(path: &Path) {
    let _ = fs::remove_dir_all(path);
}
