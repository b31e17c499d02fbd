//! The journal that keeps what was answered before the answer is sent.
//!
//! Owns a folder of memory-mapped segment files that hold fixed-size records, each with a sequence number that grows over
//! restarts. Its promise: a record whose [`Journal::append`] returned is read again after `kill -9` at any instruction,
//! once and whole, until [`Journal::release_through`] gives it up. It is bounded: when nobody drains it, it refuses.
//!
//! It must not know what a record means, nor HTTP, nor the database, nor an async runtime: whoever drains it moves records
//! on in one transaction together with the next sequence, and so counts each exactly once.
//!
//! **What survives what.** A dead process: everything appended, because the pages of a shared mapping belong to the kernel.
//! A dead machine: what the kernel had written back, usually all but the last 30 seconds, or everything up to the last
//! [`Journal::sync`]; records that were half on disk are recognised by their checksum and left out, and sequences are
//! never reused, because a restart continues behind the end of the newest segment file, which was on disk before its use.

mod error;
mod journal;
mod open;
mod prepare;
mod read;
mod segment;

pub use error::{JournalError, JournalFull};
pub use journal::{Journal, JournalOptions, JournalStats};
pub use open::Recovered;

/// Where a record stands in its journal: from 0, growing, never reused; restarts may leave numbers out.
pub type Sequence = u64;
