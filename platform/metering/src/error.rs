//! What can go wrong with a journal.

use std::path::PathBuf;

/// A journal could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The options contradict themselves.
    #[error("journal options: {0}")]
    Options(&'static str),
    /// Another process holds this journal.
    #[error("the journal in {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// The file system refused.
    #[error("journal file {}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file here is not what this journal would have written.
    #[error("journal file {} {what}; move it away to start without its records", .path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, to be read after its path.
        what: &'static str,
    },
}

impl JournalError {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }
}

/// All segments hold records that nobody has drained (or no new one could be made): the record was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the journal is full")]
pub struct JournalFull;
