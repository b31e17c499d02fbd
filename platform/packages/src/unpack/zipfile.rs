//! Zip. The library keeps entries by name and so forgets that a name was there twice; the directory's own count tells.

use super::Writer;
use crate::error::{EntryProblem, PackageError};
use std::io::{Cursor, Read};
use zip::CompressionMethod;

/// Longest target of a link that is read.
const LINK_MAX_BYTES: u64 = 4_096;
/// Size of the end record without its comment.
const END_RECORD_BYTES: usize = 22;

/// The file type bits of a Unix mode, and three of their values.
const TYPE_MASK: u32 = 0o170_000;
const TYPE_FILE: u32 = 0o100_000;
const TYPE_FOLDER: u32 = 0o040_000;
const TYPE_LINK: u32 = 0o120_000;

pub(super) fn read(archive: &[u8], writer: &mut Writer<'_>) -> Result<(), PackageError> {
    let announced = entry_count(archive)?;
    if announced > writer.limits.entries_max {
        return Err(PackageError::TooManyEntries { limit: writer.limits.entries_max });
    }
    let mut zip = zip::ZipArchive::new(Cursor::new(archive)).map_err(PackageError::damaged)?;
    if zip.len() != announced {
        return Err(PackageError::damaged("the directory has a name twice, or not the entries that it announces"));
    }
    for index in 0..announced {
        let (name, mode) = {
            let entry = zip.by_index_raw(index).map_err(PackageError::damaged)?;
            let name = entry.name_raw().to_owned();
            if entry.encrypted() {
                return Err(EntryProblem::Encrypted.of(&name));
            }
            if !matches!(entry.compression(), CompressionMethod::Stored | CompressionMethod::Deflated) {
                return Err(EntryProblem::Compression.of(&name));
            }
            (name, entry.unix_mode().unwrap_or(0))
        };
        let mut entry = zip.by_index(index).map_err(PackageError::damaged)?;
        let size_bytes = entry.size();
        match mode & TYPE_MASK {
            TYPE_FOLDER => writer.folder(&name)?,
            0 | TYPE_FILE if name.ends_with(b"/") => writer.folder(&name)?,
            0 | TYPE_FILE => writer.file(&name, mode & 0o111 != 0, size_bytes, &mut entry)?,
            TYPE_LINK => {
                let mut target = Vec::new();
                entry.by_ref().take(LINK_MAX_BYTES).read_to_end(&mut target).map_err(PackageError::damaged)?;
                writer.link(&name, &target)?;
            }
            _ => return Err(EntryProblem::SpecialFile.of(&name)),
        }
    }
    Ok(())
}

/// How many entries the directory announces, from the record at the archive's end.
fn entry_count(archive: &[u8]) -> Result<usize, PackageError> {
    let cut_off = || PackageError::damaged("the directory at the end is missing");
    let last_start = archive.len().checked_sub(END_RECORD_BYTES).ok_or_else(cut_off)?;
    let first_start = last_start.saturating_sub(usize::from(u16::MAX));
    let start =
        (first_start..=last_start).rev().find(|at| archive[*at..].starts_with(b"PK\x05\x06")).ok_or_else(cut_off)?;
    if start >= 20 && archive[start - 20..].starts_with(b"PK\x06\x07") {
        return Err(PackageError::damaged("zip64 is not supported; such a package is above the limits"));
    }
    Ok(usize::from(u16::from_le_bytes([archive[start + 10], archive[start + 11]])))
}
