//! The analyzer: from the source of a function to its control-data-flow graph, what each node of it does, and which nodes are worth
//! persisting.
//!
//! Pure and synchronous: it reads no file, runs nothing and keeps nothing.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod encoding;
pub mod graph;
pub mod liveness;
pub mod nodes;
pub mod python;
pub mod report;
pub mod select;

/// Why a source cannot be analyzed: always a matter of its author's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// It is larger than anything that is analyzed.
    #[error("it is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// A byte that no source may have.
    #[error("line {line}: it has a NUL byte")]
    Nul {
        /// The line.
        line: u32,
    },
    /// The encoding that it names is not known.
    #[error("the encoding {name:?} is not known")]
    UnknownEncoding {
        /// Its name.
        name: String,
    },
    /// Its bytes are no text in its encoding.
    #[error("line {line}: it is not in {encoding}, and names no other encoding it is in")]
    Undecodable {
        /// The encoding.
        encoding: String,
        /// The line.
        line: u32,
    },
    /// It is not Python.
    #[error("line {line}: {problem}")]
    Syntax {
        /// The line.
        line: u32,
        /// What the parser found.
        problem: String,
    },
}
