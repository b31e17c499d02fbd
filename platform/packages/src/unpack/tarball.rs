//! Gzip tar: the extensions for long names (GNU `L` and `K`, POSIX `x`) are read here rather than by the library, so
//! that their size is bounded and an extension that changes a file's size, which readers disagree about, is refused.

use super::Writer;
use crate::error::{EntryProblem, PackageError};
use flate2::read::MultiGzDecoder;
use std::io::Read;
use tar::EntryType;

/// Largest extension header that is read.
const EXTENSION_MAX_BYTES: u64 = 64 * 1024;
/// What a tar stream may hold beside content: headers and padding, for every entry.
const OVERHEAD_BYTES_PER_ENTRY: u64 = 2_048 + 512;

/// Names that an extension gives to the entry after it.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    sparse: bool,
}

pub(super) fn read(archive: &[u8], writer: &mut Writer<'_>) -> Result<(), PackageError> {
    let stream_max =
        writer.limits.unpacked_max_bytes + OVERHEAD_BYTES_PER_ENTRY * (writer.limits.entries_max as u64 + 16);
    let mut stream = Bounded { inner: MultiGzDecoder::new(archive), left: stream_max, exceeded: false };
    let outcome = read_entries(&mut stream, writer);
    // Read on to the end: the check sum stands there, and a stream that is cut off shows only then.
    let outcome = outcome
        .and_then(|()| std::io::copy(&mut stream, &mut std::io::sink()).map(drop).map_err(PackageError::damaged));
    if stream.exceeded {
        return Err(PackageError::TooLarge { limit_bytes: writer.limits.unpacked_max_bytes });
    }
    outcome
}

fn read_entries(stream: &mut impl Read, writer: &mut Writer<'_>) -> Result<(), PackageError> {
    let mut archive = tar::Archive::new(stream);
    let mut extension = Extension::default();
    for (number, entry) in archive.entries().map_err(PackageError::damaged)?.raw(true).enumerate() {
        let mut entry = entry.map_err(PackageError::damaged)?;
        // Each entry may come with two extensions.
        if number >= writer.limits.entries_max.saturating_mul(3) {
            return Err(PackageError::TooManyEntries { limit: writer.limits.entries_max });
        }
        let kind = entry.header().entry_type();
        match kind {
            EntryType::GNULongName => extension.path = Some(until_nul(extension_body(&mut entry)?)),
            EntryType::GNULongLink => extension.link = Some(until_nul(extension_body(&mut entry)?)),
            EntryType::XHeader => read_pax(&extension_body(&mut entry)?, &mut extension)?,
            // Comments about the whole archive, such as the commit it was made from.
            EntryType::XGlobalHeader => drop(extension_body(&mut entry)?),
            _ => {
                let Extension { path, link, sparse } = std::mem::take(&mut extension);
                let name = path.unwrap_or_else(|| entry.path_bytes().into_owned());
                if sparse {
                    return Err(EntryProblem::Sparse.of(&name));
                }
                let target =
                    link.or_else(|| entry.link_name_bytes().map(std::borrow::Cow::into_owned)).unwrap_or_default();
                write_entry(kind, &name, &target, &mut entry, writer)?;
            }
        }
    }
    Ok(())
}

fn write_entry(
    kind: EntryType,
    name: &[u8],
    target: &[u8],
    entry: &mut tar::Entry<'_, impl Read>,
    writer: &mut Writer<'_>,
) -> Result<(), PackageError> {
    match kind {
        // Archives of before 1988 mark a folder only by the slash at its end.
        EntryType::Regular | EntryType::Continuous if name.ends_with(b"/") => writer.folder(name),
        EntryType::Regular | EntryType::Continuous => {
            let executable = entry.header().mode().map_err(PackageError::damaged)? & 0o111 != 0;
            let size_bytes = entry.header().entry_size().map_err(PackageError::damaged)?;
            writer.file(name, executable, size_bytes, entry)
        }
        EntryType::Directory => writer.folder(name),
        EntryType::Symlink => writer.link(name, target),
        EntryType::Link => writer.hard_link(name, target),
        EntryType::GNUSparse => Err(EntryProblem::Sparse.of(name)),
        _ => Err(EntryProblem::SpecialFile.of(name)),
    }
}

fn extension_body(entry: &mut tar::Entry<'_, impl Read>) -> Result<Vec<u8>, PackageError> {
    if entry.size() > EXTENSION_MAX_BYTES {
        return Err(PackageError::damaged("an extension header is too large"));
    }
    let mut body = Vec::new();
    entry.read_to_end(&mut body).map_err(PackageError::damaged)?;
    if body.len() as u64 != entry.size() {
        return Err(PackageError::damaged("an extension header is cut off"));
    }
    Ok(body)
}

fn until_nul(mut name: Vec<u8>) -> Vec<u8> {
    // One NUL ends the name; any other stays and is refused with it.
    if name.last() == Some(&0) {
        name.pop();
    }
    name
}

/// POSIX extension records: `length key=value\n`.
fn read_pax(body: &[u8], extension: &mut Extension) -> Result<(), PackageError> {
    let malformed = || PackageError::damaged("an extension header is malformed");
    let mut rest = body;
    while !rest.is_empty() {
        let space = rest.iter().position(|byte| *byte == b' ').ok_or_else(malformed)?;
        let length: usize =
            std::str::from_utf8(&rest[..space]).ok().and_then(|digits| digits.parse().ok()).ok_or_else(malformed)?;
        let record = rest.get(space + 1..length).and_then(|record| record.strip_suffix(b"\n")).ok_or_else(malformed)?;
        rest = &rest[length..];
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(malformed)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        match key {
            b"path" => extension.path = Some(value.to_owned()),
            b"linkpath" => extension.link = Some(value.to_owned()),
            // Needed from 8 GiB on only, far above the limit.
            b"size" => return Err(PackageError::damaged("an extension header gives a file's size")),
            key if key.starts_with(b"GNU.sparse") => extension.sparse = true,
            _ => {}
        }
    }
    Ok(())
}

/// A reader that fails, and remembers it, once more than so many bytes have come.
struct Bounded<R> {
    inner: R,
    left: u64,
    exceeded: bool,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => {
                self.left = left;
                Ok(count)
            }
            None => {
                self.exceeded = true;
                Err(std::io::Error::other("the archive is too large"))
            }
        }
    }
}
