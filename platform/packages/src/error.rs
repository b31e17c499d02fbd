//! Why a package is refused or could not be kept.

use raas_core::Origin;

/// Longest part of an entry's name that a message repeats, in characters.
const SHOWN_NAME_CHARS: usize = 120;

/// A package that was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// Neither of the two archive formats.
    #[error("the upload is neither a zip nor a gzip tar archive")]
    UnknownFormat,
    /// The archive cannot be read to its end.
    #[error("the archive is damaged or cut off: {detail}")]
    Damaged {
        /// What the reader found.
        detail: String,
    },
    /// One entry is not acceptable.
    #[error("the entry {entry:?} {problem}")]
    Entry {
        /// The entry's name, cut where it is long.
        entry: String,
        /// What is wrong with it.
        problem: EntryProblem,
    },
    /// Unpacked, it is more than is allowed.
    #[error("the package is larger than {limit_bytes} bytes when unpacked")]
    TooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// It has more entries than are allowed.
    #[error("the package has more than {limit} entries")]
    TooManyEntries {
        /// The limit.
        limit: usize,
    },
    /// There is no manifest where it belongs.
    #[error(
        "the package has no raas.toml (of a function) or helper.toml (of a helper) at its top (one folder around everything is accepted)"
    )]
    NoManifest,
    /// A file that names dependencies is not acceptable.
    #[error("{file}: {problem}")]
    Dependencies {
        /// The file, relative to the package.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// The platform's own file system failed.
    #[error("could not {action}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

/// What is wrong with one entry of an archive; reads on after the entry's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryProblem {
    /// The name begins with a slash.
    #[error("has an absolute path")]
    Absolute,
    /// The name has a component `..`.
    #[error("has \"..\" in its path")]
    ParentFolder,
    /// The name has a NUL byte.
    #[error("has a NUL byte in its name")]
    Nul,
    /// The name is not UTF-8.
    #[error("has a name that is not UTF-8")]
    NotUtf8,
    /// The name has a backslash.
    #[error("has a backslash in its name; use \"/\"")]
    Backslash,
    /// The name is nothing.
    #[error("has no name")]
    NoName,
    /// A component of the name, or the whole of it, is too long.
    #[error("has a name that is too long (255 bytes a component, 1,024 in all)")]
    NameTooLong,
    /// The folders go too deep.
    #[error("is more than {} folders deep", raas_core::limits::PACKAGE_DEPTH_MAX)]
    TooDeep,
    /// The path is there a second time.
    #[error("is in the archive twice")]
    Duplicate,
    /// The path is a file in one place and a folder in another.
    #[error("is both a file and a folder")]
    FileAndFolder,
    /// The path leads through a link.
    #[error("lies below a link")]
    BelowLink,
    /// A link that leads out of the package.
    #[error("is a link that leads out of the package")]
    LinkOutside,
    /// Links that lead to each other.
    #[error("is a link that leads back to itself")]
    LinkLoop,
    /// A link without a usable target.
    #[error("is a link with an unusable target")]
    LinkTarget,
    /// A hard link to something that is not an earlier file of the archive.
    #[error("is a hard link to something that is not an earlier file of the archive")]
    HardLinkTarget,
    /// A device, pipe, socket or the like.
    #[error("is neither a file, a folder nor a link")]
    SpecialFile,
    /// A sparse file.
    #[error("is a sparse file, which is not supported")]
    Sparse,
    /// Encrypted.
    #[error("is encrypted")]
    Encrypted,
    /// Compressed in a way that is not supported.
    #[error("uses a compression other than deflate")]
    Compression,
    /// Under the folder that the platform keeps for itself.
    #[error("is under .raas, which is kept for the platform")]
    Reserved,
}

impl EntryProblem {
    /// The error that names the entry.
    pub(crate) fn of(self, entry: &[u8]) -> PackageError {
        let entry = String::from_utf8_lossy(entry).chars().take(SHOWN_NAME_CHARS).collect();
        PackageError::Entry { entry, problem: self }
    }
}

impl PackageError {
    /// Who has to act: the caller who sent the archive, or the platform.
    #[must_use]
    pub const fn origin(&self) -> Origin {
        match self {
            Self::Io { .. } => Origin::Platform,
            _ => Origin::Caller,
        }
    }

    pub(crate) fn io(action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, source }
    }

    pub(crate) fn damaged(error: impl std::fmt::Display) -> Self {
        Self::Damaged { detail: error.to_string() }
    }
}
