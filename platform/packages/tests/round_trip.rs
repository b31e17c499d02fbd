//! From folder to archive to package, and what the store promises.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;
use raas_packages::{PackError, PackageStore, Packed, UnpackLimits, pack_folder, unpack_bytes};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Path to (executable, content), or a link's target.
type Content = BTreeMap<String, Result<(bool, Vec<u8>), String>>;

fn write_tree(folder: &Path, content: &Content) {
    for (path, node) in content {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match node {
            Ok((executable, bytes)) => {
                fs::write(&path, bytes).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(if *executable { 0o700 } else { 0o600 }))
                    .unwrap();
            }
            Err(target) => std::os::unix::fs::symlink(target, &path).unwrap(),
        }
    }
}

fn read_tree(folder: &Path) -> Content {
    let mut content = Content::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                folders.push(path);
            } else if metadata.is_symlink() {
                content.insert(name, Err(fs::read_link(&path).unwrap().to_str().unwrap().to_owned()));
            } else {
                content.insert(name, Ok((metadata.permissions().mode() & 0o100 != 0, fs::read(&path).unwrap())));
            }
        }
    }
    content
}

fn packed(content: &Content) -> Packed {
    let folder = tempfile::tempdir().unwrap();
    write_tree(folder.path(), content);
    pack_folder(folder.path()).unwrap()
}

fn content(files: &[(&str, &[u8])]) -> Content {
    files.iter().map(|(path, bytes)| ((*path).to_owned(), Ok((false, bytes.to_vec())))).collect()
}

fn as_zip(content: &Content, wrapper: &str) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = |executable: bool| {
        zip::write::SimpleFileOptions::default().unix_permissions(if executable { 0o755 } else { 0o644 })
    };
    for (path, node) in content {
        match node {
            Ok((executable, bytes)) => {
                zip.start_file(format!("{wrapper}{path}"), options(*executable)).unwrap();
                zip.write_all(bytes).unwrap();
            }
            Err(target) => zip.add_symlink(format!("{wrapper}{path}"), target, options(false)).unwrap(),
        }
    }
    zip.finish().unwrap().into_inner()
}

fn random_tree() -> impl Strategy<Value = Content> {
    // Folders and files have names of different alphabets, so that no path is both.
    let path = ("([D-F]{1,3}/){0,4}", "[a-cé ]{1,40}").prop_map(|(folders, name)| format!("{folders}{name}"));
    let node = prop_oneof![
        4 => (any::<bool>(), proptest::collection::vec(any::<u8>(), 0..300)).prop_map(Ok),
        1 => "[a-c]{1,3}-nowhere".prop_map(Err),
    ];
    proptest::collection::btree_map(path, node, 0..20).prop_map(|mut content| {
        content.insert("raas.toml".to_owned(), Ok((false, b"name = \"f\"\n".to_vec())));
        content
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_packed_comes_out_again(content in random_tree()) {
        let folder = tempfile::tempdir().unwrap();
        let store = PackageStore::open(folder.path()).unwrap();
        let packed = packed(&content);
        let package = store.add(&packed.archive).unwrap();
        prop_assert_eq!(read_tree(&package.root), content.clone());
        prop_assert_eq!((package.files, package.size_bytes), (packed.files, packed.size_bytes));
        prop_assert_eq!(store.get(&package.digest).unwrap(), Some(package.clone()));
        // The same content in the other format and in a folder of its own is the same package.
        prop_assert_eq!(store.add(&as_zip(&content, "")).unwrap(), package.clone());
        prop_assert_eq!(store.add(&as_zip(&content, "wrapped/")).unwrap(), package.clone());
        prop_assert_eq!(store.list().unwrap(), vec![package.digest]);
    }

    #[test]
    fn any_bytes_are_unpacked_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400), zip in any::<bool>()) {
        let folder = tempfile::tempdir().unwrap();
        let archive = if zip {
            [b"PK\x03\x04".as_slice(), &bytes].concat()
        } else {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&bytes).unwrap();
            encoder.finish().unwrap()
        };
        let _ = unpack_bytes(&archive, folder.path(), &UnpackLimits::default());
    }

    #[test]
    fn a_changed_byte_never_panics(content in random_tree(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let folder = tempfile::tempdir().unwrap();
        let mut archive = as_zip(&content, "");
        let at = at.index(archive.len());
        archive[at] ^= 1 << bit;
        let _ = unpack_bytes(&archive, folder.path(), &UnpackLimits::default());
    }
}

#[test]
fn digest_follows_content_only() {
    let folder = tempfile::tempdir().unwrap();
    let store = PackageStore::open(folder.path()).unwrap();
    let base = content(&[("raas.toml", b"a"), ("main.py", b"b")]);
    let mut digests = vec![store.add(&packed(&base).archive).unwrap().digest];
    let mut executable = base.clone();
    executable.insert("main.py".to_owned(), Ok((true, b"b".to_vec())));
    let mut linked = base.clone();
    linked.insert("main.py".to_owned(), Err("raas.toml".to_owned()));
    for other in [
        content(&[("raas.toml", b"a"), ("main.py", b"c")]),
        content(&[("raas.toml", b"a"), ("main.p", b"b")]),
        content(&[("raas.toml", b"a")]),
        content(&[("raas.toml", b"a"), ("main.py", b"b"), ("x", b"")]),
        executable,
        linked,
    ] {
        digests.push(store.add(&packed(&other).archive).unwrap().digest);
    }
    digests.sort_unstable();
    assert_eq!(store.list().unwrap(), digests);
    digests.dedup();
    assert_eq!(digests.len(), 7);
    assert_eq!(packed(&base), packed(&base));
}

#[test]
fn the_same_content_many_times_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = PackageStore::open(folder.path()).unwrap();
    let files: Vec<_> = (0..200).map(|n| format!("d{}/f{n}", n % 7)).collect();
    let mut tree: Content = files.iter().map(|path| (path.clone(), Ok((false, path.clone().into_bytes())))).collect();
    tree.insert("raas.toml".to_owned(), Ok((false, Vec::new())));
    let archive = packed(&tree).archive;
    let packages: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| store.add(&archive).unwrap())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(packages.iter().all(|package| *package == packages[0]));
    assert_eq!(read_tree(&packages[0].root), tree);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "only the package is there");
}

#[test]
fn opening_removes_what_was_left_unfinished() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join(".tmp-1-0/sub")).unwrap();
    fs::write(folder.path().join(".tmp-1-0/sub/f"), "x").unwrap();
    let store = PackageStore::open(folder.path()).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let package = store.add(&packed(&content(&[("raas.toml", b"")])).archive).unwrap();
    let again = PackageStore::open(folder.path()).unwrap();
    assert_eq!(again.get(&package.digest).unwrap(), Some(package.clone()));
    assert!(again.remove(&package.digest).unwrap());
    assert!(!again.remove(&package.digest).unwrap());
    assert_eq!(again.get(&package.digest).unwrap(), None);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn packing_leaves_out_what_is_not_wanted() {
    let files = [
        "raas.toml",
        "main.py",
        "main.pyc",
        "__pycache__/x",
        "lib/__pycache__/x",
        ".git/config",
        "node_modules/a/index.js",
        "sub/node_modules/b",
        ".venv/bin/python",
        "notes.txt",
        "data/keep.csv",
        "data/drop.csv",
        ".env",
    ];
    let mut tree: Content = files.iter().map(|path| ((*path).to_owned(), Ok((false, b"x".to_vec())))).collect();
    tree.insert(".raasignore".to_owned(), Ok((false, b"*.txt\n/data/*\n!/data/keep.csv\n!node_modules/\n".to_vec())));
    let folder = tempfile::tempdir().unwrap();
    let package = PackageStore::open(folder.path()).unwrap().add(&packed(&tree).archive).unwrap();
    let kept: Vec<_> = read_tree(&package.root).into_keys().collect();
    assert_eq!(
        kept,
        [".env", "data/keep.csv", "main.py", "node_modules/a/index.js", "raas.toml", "sub/node_modules/b"]
    );
}

#[test]
fn packing_refuses_what_the_platform_would() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(pack_folder(folder.path()), Err(PackError::NoManifest { .. })));
    fs::write(folder.path().join("raas.toml"), "").unwrap();
    assert!(pack_folder(folder.path()).is_ok());
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("l")).unwrap();
    let error = pack_folder(folder.path()).unwrap_err();
    assert_eq!(error.to_string(), "the entry \"l\" is a link that leads out of the package");
    fs::remove_file(folder.path().join("l")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("s")).unwrap();
    assert!(pack_folder(folder.path()).unwrap_err().to_string().contains("neither a file, a folder nor a link"));
    fs::remove_file(folder.path().join("s")).unwrap();
    let large = fs::File::create(folder.path().join("large")).unwrap();
    large.set_len((250 << 20) + 1).unwrap();
    assert!(pack_folder(folder.path()).unwrap_err().to_string().contains("larger than"));
    fs::remove_file(folder.path().join("large")).unwrap();
    fs::create_dir(folder.path().join(".raas")).unwrap();
    assert!(pack_folder(folder.path()).unwrap_err().to_string().contains("kept for the platform"));
}
