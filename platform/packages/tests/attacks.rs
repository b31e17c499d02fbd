//! Archives that must be refused, each for its own reason and with nothing left behind.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use flate2::{Compression, write::GzEncoder};
use raas_core::Origin;
use raas_packages::{EntryProblem, PackageError, PackageStore, UnpackLimits};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use tar::EntryType;
use zip::write::SimpleFileOptions;

const LIMITS: UnpackLimits = UnpackLimits { unpacked_max_bytes: 1 << 20, entries_max: 100 };

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A tar that says what it is told to, without the checks of a well-meaning writer.
struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn new() -> Self {
        Self(tar::Builder::new(Vec::new())).entry(b"raas.toml", EntryType::Regular, b"", b"name = \"f\"\n")
    }

    fn entry(self, name: &[u8], kind: EntryType, target: &[u8], content: &[u8]) -> Self {
        self.entry_with(name, kind, target, content, |_| {})
    }

    fn entry_with(
        mut self,
        name: &[u8],
        kind: EntryType,
        target: &[u8],
        content: &[u8],
        change: impl FnOnce(&mut tar::Header),
    ) -> Self {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        change(&mut header);
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    fn file(self, name: &[u8]) -> Self {
        self.entry(name, EntryType::Regular, b"", b"x")
    }

    fn link(self, name: &str, target: &str) -> Self {
        self.entry(name.as_bytes(), EntryType::Symlink, target.as_bytes(), b"")
    }

    fn bytes(self) -> Vec<u8> {
        gzip(&self.0.into_inner().unwrap())
    }
}

fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length =
            (1..).map(|digits| rest + digits).find(|length| length.to_string().len() + rest == *length).unwrap();
        body.extend_from_slice(format!("{length} {key}=").as_bytes());
        body.extend_from_slice(value);
        body.push(b'\n');
    }
    body
}

fn refused(what: &str, archive: &[u8]) -> PackageError {
    let folder = tempfile::tempdir().unwrap();
    let outside = folder.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let store = PackageStore::open_with_limits(folder.path().join("packages"), LIMITS).unwrap();
    let error = store.add(archive).expect_err(what);
    assert_eq!(error.origin(), Origin::Caller, "{what}: {error}");
    assert_eq!(
        std::fs::read_dir(folder.path().join("packages")).unwrap().count(),
        0,
        "{what}: something is left behind"
    );
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0, "{what}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "{what}: something was written outside");
    error
}

fn problem(what: &str, archive: &[u8]) -> EntryProblem {
    match refused(what, archive) {
        PackageError::Entry { problem, .. } => problem,
        other => panic!("{what}: {other:?}"),
    }
}

#[test]
fn tar_names_and_kinds() {
    let deep = [b"d/".repeat(32), b"f".to_vec()].concat();
    let cases: Vec<(&str, Tar, EntryProblem)> = vec![
        ("absolute", Tar::new().file(b"/etc/passwd"), EntryProblem::Absolute),
        ("parent", Tar::new().file(b"../outside/x"), EntryProblem::ParentFolder),
        ("parent inside", Tar::new().file(b"a/../../outside/x"), EntryProblem::ParentFolder),
        ("parent folder", Tar::new().entry(b"a/..", EntryType::Directory, b"", b""), EntryProblem::ParentFolder),
        ("not utf-8", Tar::new().file(b"a\xffb"), EntryProblem::NotUtf8),
        ("backslash", Tar::new().file(b"..\\outside"), EntryProblem::Backslash),
        ("deep", Tar::new().file(&deep[..65]), EntryProblem::TooDeep),
        ("duplicate", Tar::new().file(b"a").file(b"./a"), EntryProblem::Duplicate),
        ("duplicate manifest", Tar::new().file(b"raas.toml"), EntryProblem::Duplicate),
        ("file then folder", Tar::new().file(b"a").file(b"a/b"), EntryProblem::FileAndFolder),
        ("folder then file", Tar::new().file(b"a/b").file(b"a"), EntryProblem::FileAndFolder),
        (
            "named folder then file",
            Tar::new().entry(b"a/", EntryType::Directory, b"", b"").file(b"a"),
            EntryProblem::FileAndFolder,
        ),
        ("device", Tar::new().entry(b"null", EntryType::Char, b"", b""), EntryProblem::SpecialFile),
        ("block device", Tar::new().entry(b"sda", EntryType::Block, b"", b""), EntryProblem::SpecialFile),
        ("pipe", Tar::new().entry(b"pipe", EntryType::Fifo, b"", b""), EntryProblem::SpecialFile),
        ("sparse", Tar::new().entry(b"sparse", EntryType::GNUSparse, b"", b""), EntryProblem::Sparse),
        ("reserved", Tar::new().file(b".raas/x"), EntryProblem::Reserved),
        ("reserved name", Tar::new().file(b".raas"), EntryProblem::Reserved),
        (
            "long gnu name",
            Tar::new().entry(b"L", EntryType::GNULongName, b"", &[b'n'; 256]).file(b"n"),
            EntryProblem::NameTooLong,
        ),
        (
            "gnu name with NUL",
            Tar::new().entry(b"L", EntryType::GNULongName, b"", b"a\0b\0").file(b"n"),
            EntryProblem::Nul,
        ),
        (
            "gnu absolute name",
            Tar::new().entry(b"L", EntryType::GNULongName, b"", b"/etc/passwd\0").file(b"n"),
            EntryProblem::Absolute,
        ),
        (
            "pax parent",
            Tar::new().entry(b"x", EntryType::XHeader, b"", &pax(&[("path", b"../outside/x")])).file(b"n"),
            EntryProblem::ParentFolder,
        ),
        (
            "pax NUL",
            Tar::new().entry(b"x", EntryType::XHeader, b"", &pax(&[("path", b"a\0b")])).file(b"n"),
            EntryProblem::Nul,
        ),
        (
            "pax sparse",
            Tar::new().entry(b"x", EntryType::XHeader, b"", &pax(&[("GNU.sparse.major", b"1")])).file(b"n"),
            EntryProblem::Sparse,
        ),
        (
            "pax link",
            Tar::new().entry(b"x", EntryType::XHeader, b"", &pax(&[("linkpath", b"/etc")])).link("n", "a"),
            EntryProblem::LinkOutside,
        ),
    ];
    for (what, tar, expected) in cases {
        assert_eq!(problem(what, &tar.bytes()), expected, "{what}");
    }
}

#[test]
fn tar_links() {
    let cases: Vec<(&str, Tar, EntryProblem)> = vec![
        ("absolute", Tar::new().link("l", "/etc/passwd"), EntryProblem::LinkOutside),
        ("above", Tar::new().link("l", "../outside"), EntryProblem::LinkOutside),
        ("above from below", Tar::new().link("a/l", "../../outside"), EntryProblem::LinkOutside),
        ("out and in again", Tar::new().link("l", "a/../../packages"), EntryProblem::LinkOutside),
        (
            "through a link",
            Tar::new().link("a/b/up", "..").link("l", "a/b/up/../../outside"),
            EntryProblem::LinkOutside,
        ),
        ("chain", Tar::new().link("a", "b/c").link("b", "d").link("d/c", "../.."), EntryProblem::LinkOutside),
        ("to itself", Tar::new().link("l", "l"), EntryProblem::LinkLoop),
        ("in a circle", Tar::new().link("a", "b").link("b", "a"), EntryProblem::LinkLoop),
        ("to nothing", Tar::new().link("l", ""), EntryProblem::LinkTarget),
        ("not utf-8", Tar::new().entry(b"l", EntryType::Symlink, b"\xff", b""), EntryProblem::LinkTarget),
        ("file below a link", Tar::new().link("l", "a").file(b"l/x"), EntryProblem::BelowLink),
        ("file below an escaping link", Tar::new().link("l", "../outside").file(b"l/x"), EntryProblem::BelowLink),
        ("link over a file", Tar::new().file(b"l").link("l", "a"), EntryProblem::Duplicate),
        ("file over a link", Tar::new().link("l", "a").file(b"l"), EntryProblem::Duplicate),
        ("link over a folder", Tar::new().file(b"l/x").link("l", "a"), EntryProblem::FileAndFolder),
        (
            "hard link outside",
            Tar::new().entry(b"h", EntryType::Link, b"/etc/passwd", b""),
            EntryProblem::HardLinkTarget,
        ),
        (
            "hard link above",
            Tar::new().entry(b"h", EntryType::Link, b"../outside/x", b""),
            EntryProblem::HardLinkTarget,
        ),
        ("hard link to nothing", Tar::new().entry(b"h", EntryType::Link, b"none", b""), EntryProblem::HardLinkTarget),
        (
            "hard link to a link",
            Tar::new().link("l", "a").entry(b"h", EntryType::Link, b"l", b""),
            EntryProblem::HardLinkTarget,
        ),
    ];
    for (what, tar, expected) in cases {
        assert_eq!(problem(what, &tar.bytes()), expected, "{what}");
    }
}

#[test]
fn sizes_and_counts() {
    let many = (0..101).fold(Tar::new(), |tar, n| tar.file(format!("f{n}").as_bytes()));
    assert!(matches!(refused("many files", &many.bytes()), PackageError::TooManyEntries { limit: 100 }));
    let folders = Tar::new().file(b"a/b/c/d").entry(b"L", EntryType::GNULongName, b"", b"x\0");
    let folders = (0..98).fold(folders, |tar, n| tar.file(format!("g{n}").as_bytes()));
    assert!(matches!(refused("folders count", &folders.bytes()), PackageError::TooManyEntries { limit: 100 }));

    let zeros = vec![0; 2 << 20];
    assert!(matches!(
        refused("one large", &Tar::new().entry(b"z", EntryType::Regular, b"", &zeros).bytes()),
        PackageError::TooLarge { .. }
    ));
    let half = &zeros[..600 << 10];
    let two = Tar::new().entry(b"a", EntryType::Regular, b"", half).entry(b"b", EntryType::Regular, b"", half);
    assert!(matches!(refused("large together", &two.bytes()), PackageError::TooLarge { .. }));
    let linked = Tar::new().entry(b"a", EntryType::Regular, b"", half).entry(b"b", EntryType::Link, b"a", b"");
    assert!(matches!(refused("large through hard links", &linked.bytes()), PackageError::TooLarge { .. }));
    let after_the_end = gzip(&[Tar::new().0.into_inner().unwrap(), vec![0; 64 << 20]].concat());
    assert!(matches!(refused("a bomb after the end", &after_the_end), PackageError::TooLarge { .. }));
    let extension = Tar::new().entry(b"L", EntryType::GNULongName, b"", &zeros).file(b"x").bytes();
    assert!(matches!(refused("a bomb in a name", &extension), PackageError::Damaged { .. }));
    let size = Tar::new().entry(b"x", EntryType::XHeader, b"", &pax(&[("size", b"7")])).file(b"x").bytes();
    assert!(matches!(refused("a size in an extension", &size), PackageError::Damaged { .. }));
}

#[test]
fn damaged_and_foreign() {
    let whole = Tar::new().file(b"main.py").bytes();
    for cut in 2..whole.len() {
        let error = refused("cut off", &whole[..cut]);
        assert!(matches!(error, PackageError::Damaged { .. }), "cut at {cut}: {error:?}");
    }
    let mut flipped = whole.clone();
    let at = flipped.len() - 6;
    flipped[at] ^= 1;
    assert!(matches!(refused("check sum", &flipped), PackageError::Damaged { .. }));
    for foreign in [&b""[..], b"P", b"hello", b"BZh9", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd", b"#!/bin/sh\n"] {
        assert!(matches!(refused("foreign", foreign), PackageError::UnknownFormat));
    }
    assert!(matches!(refused("not a tar", &gzip(b"hello")), PackageError::Damaged { .. } | PackageError::NoManifest));
    assert!(matches!(refused("empty tar", &gzip(&[0; 1024])), PackageError::NoManifest));
}

#[test]
fn the_manifest_must_be_at_the_top() {
    let tar = |names: &[&str]| {
        let empty = Tar(tar::Builder::new(Vec::new()));
        names.iter().fold(empty, |tar, name| tar.file(name.as_bytes())).bytes()
    };
    for names in [&["main.py"][..], &["a/b/raas.toml"], &["a/raas.toml", "b/x"], &["a/raas.toml", "x"], &["a/main.py"]]
    {
        assert!(matches!(refused("no manifest", &tar(names)), PackageError::NoManifest), "{names:?}");
    }
    let linked = Tar(tar::Builder::new(Vec::new())).file(b"x").link("raas.toml", "x").bytes();
    assert!(matches!(refused("the manifest is a link", &linked), PackageError::NoManifest));
    let wrapped = Tar(tar::Builder::new(Vec::new())).file(b"w/raas.toml").file(b"w/.raas/x").bytes();
    assert_eq!(problem("reserved inside a wrapper", &wrapped), EntryProblem::Reserved);
    let wrapped = Tar(tar::Builder::new(Vec::new())).file(b"w/raas.toml").link("w/l", "../x").bytes();
    assert_eq!(problem("a link out of the wrapper", &wrapped), EntryProblem::LinkOutside);
}

#[test]
fn bits_and_owners_are_not_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let store = PackageStore::open(folder.path()).unwrap();
    let set = |mode: u32| {
        move |header: &mut tar::Header| {
            header.set_mode(mode);
            header.set_uid(12_345);
            header.set_mtime(99);
        }
    };
    let tar = Tar::new()
        .entry_with(b"setuid", EntryType::Regular, b"", b"x", set(0o6777))
        .entry_with(b"secret", EntryType::Regular, b"", b"x", set(0o000))
        .entry_with(b"dir/", EntryType::Directory, b"", b"", set(0o1000))
        .link("dir/inside", "../setuid")
        .link("dangling", "dir/none");
    let package = store.add(&tar.bytes()).unwrap();
    let metadata = |name: &str| std::fs::symlink_metadata(package.root.join(name)).unwrap();
    assert_eq!(metadata("setuid").permissions().mode() & 0o7777, 0o755);
    assert_eq!(metadata("secret").permissions().mode() & 0o7777, 0o644);
    assert_eq!(metadata("dir").permissions().mode() & 0o7777, 0o755);
    for name in ["setuid", "secret", "dir", "dir/inside", "dangling", "."] {
        assert_eq!(metadata(name).mtime(), 315_532_800, "{name}");
        assert_eq!(metadata(name).uid(), nix::unistd::geteuid().as_raw(), "{name}");
    }
    assert_eq!(std::fs::read_link(package.root.join("dir/inside")).unwrap().to_str(), Some("../setuid"));
    assert_eq!((package.files, package.size_bytes), (3, 13));
}

/// A zip of these names, with the Unix mode of each.
fn zip_of(entries: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, mode, content) in entries {
        zip.start_file(*name, SimpleFileOptions::default().unix_permissions(*mode & 0o777)).unwrap();
        zip.write_all(content).unwrap();
    }
    let mut bytes = zip.finish().unwrap().into_inner();
    // The writer sets the kind itself; write the wanted one over it in the directory.
    let mut at = 0;
    for (_, mode, _) in entries {
        at += bytes[at..].windows(4).position(|window| window == b"PK\x01\x02").unwrap();
        bytes[at + 38..at + 42].copy_from_slice(&(mode << 16).to_le_bytes());
        at += 4;
    }
    bytes
}

const FILE: u32 = 0o100_644;
const MANIFEST: (&str, u32, &[u8]) = ("raas.toml", FILE, b"name = \"f\"\n");

#[test]
fn zip_names_and_kinds() {
    for (what, entry, expected) in [
        ("absolute", ("/etc/passwd", FILE, &b"x"[..]), EntryProblem::Absolute),
        ("parent", ("../outside/x", FILE, b"x"), EntryProblem::ParentFolder),
        ("backslash", ("..\\outside\\x", FILE, b"x"), EntryProblem::Backslash),
        ("NUL", ("a\0b", FILE, b"x"), EntryProblem::Nul),
        ("link outside", ("l", 0o120_777, b"../../outside"), EntryProblem::LinkOutside),
        ("device", ("null", 0o020_666, b""), EntryProblem::SpecialFile),
        ("pipe", ("pipe", 0o010_666, b""), EntryProblem::SpecialFile),
        ("below the manifest", ("raas.toml/x", FILE, b"x"), EntryProblem::FileAndFolder),
        ("the same otherwise written", ("./raas.toml", FILE, b"x"), EntryProblem::Duplicate),
    ] {
        assert_eq!(problem(what, &zip_of(&[MANIFEST, entry])), expected, "{what}");
    }
    assert_eq!(
        problem("below a link", &zip_of(&[MANIFEST, ("l", 0o120_777, b"../outside"), ("l/x", FILE, b"x")])),
        EntryProblem::BelowLink
    );
}

#[test]
fn zip_sizes_duplicates_and_damage() {
    let zeros = vec![0; 2 << 20];
    let bomb = zip_of(&[MANIFEST, ("z", FILE, &zeros)]);
    assert!(bomb.len() < 64 << 10);
    assert!(matches!(refused("bomb", &bomb), PackageError::TooLarge { .. }));

    // Announces one byte and holds two million.
    let mut lying = bomb.clone();
    let directory = lying.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    lying[directory + 24..directory + 28].copy_from_slice(&1u32.to_le_bytes());
    assert!(matches!(refused("lying bomb", &lying), PackageError::TooLarge { .. } | PackageError::Damaged { .. }));

    let mut twice = zip_of(&[MANIFEST, ("aa", FILE, b"x"), ("bb", FILE, b"y")]);
    let places: Vec<_> = (0..twice.len() - 1).filter(|at| &twice[*at..*at + 2] == b"bb").collect();
    places.iter().for_each(|at| twice[*at..*at + 2].copy_from_slice(b"aa"));
    assert!(matches!(
        refused("twice", &twice),
        PackageError::Damaged { .. } | PackageError::Entry { problem: EntryProblem::Duplicate, .. }
    ));

    let mut encrypted = zip_of(&[MANIFEST, ("e", FILE, b"x")]);
    for (sign, flags) in [(b"PK\x01\x02", 8), (b"PK\x03\x04", 6)] {
        let at = encrypted.windows(4).rposition(|window| window == sign).unwrap();
        encrypted[at + flags] |= 1;
    }
    assert_eq!(problem("encrypted", &encrypted), EntryProblem::Encrypted);

    let mut method = zip_of(&[MANIFEST, ("m", FILE, b"x")]);
    for (sign, place) in [(b"PK\x01\x02", 10), (b"PK\x03\x04", 8)] {
        let at = method.windows(4).rposition(|window| window == sign).unwrap();
        method[at + place] = 14;
    }
    assert_eq!(problem("compression", &method), EntryProblem::Compression);

    let whole = zip_of(&[MANIFEST]);
    for cut in 4..whole.len() {
        assert!(matches!(refused("cut off", &whole[..cut]), PackageError::Damaged { .. }), "cut at {cut}");
    }
    let many: Vec<_> = (0..101).map(|n| format!("f{n}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), FILE, &b""[..])).collect();
    assert!(matches!(refused("many", &zip_of(&many)), PackageError::TooManyEntries { limit: 100 }));
}
