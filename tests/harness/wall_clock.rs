//! A clock that a test sets while a platform runs by it.

use std::path::{Path, PathBuf};

use super::Options;

/// What the platform takes for the time of day. How long things take is not touched.
pub struct WallClock {
    offset: tempfile::NamedTempFile,
}

impl WallClock {
    /// One that is right.
    pub fn new() -> Self {
        let clock = Self { offset: tempfile::NamedTempFile::new().unwrap() };
        clock.ahead_s(0);
        clock
    }

    /// From now on it is so many seconds ahead, or behind.
    pub fn ahead_s(&self, seconds: i64) {
        // In place of the old one, so that nobody reads half of it.
        let next = self.offset.path().with_extension("next");
        std::fs::write(&next, format!("{seconds:+}")).unwrap();
        std::fs::rename(next, self.offset.path()).unwrap();
    }

    /// Has a platform run by it.
    pub fn drives(&self, options: Options) -> Options {
        options
            .env("LD_PRELOAD", &library().display().to_string())
            .env("FAKETIME_TIMESTAMP_FILE", &self.offset.path().display().to_string())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1")
    }
}

/// The library of Debian's package `faketime`.
fn library() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").unwrap().flatten().map(|entry| entry.path());
    let libraries = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    libraries.into_iter().find(|library: &PathBuf| Path::exists(library)).expect("the package faketime is installed")
}
