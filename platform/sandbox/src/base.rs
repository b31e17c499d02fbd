//! The file tree every sandbox starts from, and the spawner's own.
//!
//! The spawner lives on a small tmpfs that holds the host's folders, `/proc`, an empty `/sys/fs/cgroup` (so that the
//! container library leaves cgroups to [`crate::cgroup`]) and its own files under `/.raas`. From that it builds one
//! read-only root for all sandboxes: the host's `/usr`, a made-up `/etc`, the runtimes, and empty mount points. What is
//! not listed here does not exist in a sandbox.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, umount2};
use nix::unistd::{chdir, pivot_root};

use crate::mounts::{self, Propagation, Restrict};
use crate::network;

/// The spawner's own folder, after it has changed its root.
const OWN: &str = "/.raas";
/// Size of each of the spawner's tmpfs mounts; they hold only small files and mount points.
const OWN_TMPFS: &str = "size=64m,mode=755";
/// The host's folders that are links into `/usr` where the two are merged, and folders where they are not.
const SYSTEM_DIRS: &[&str] = &["bin", "sbin", "lib", "lib32", "lib64", "libx32"];
/// Shown as they are on the host: what programs need to find libraries and to trust servers.
const ETC_DIRS: &[&str] = &["alternatives", "ssl/certs", "pki/ca-trust", "pki/tls/certs", "ca-certificates"];
/// Copied when the spawner starts.
const ETC_FILES: &[&str] = &["ld.so.cache", "localtime", "ssl/openssl.cnf", "protocols", "services", "mime.types"];
/// Written.
const ETC_MADE: &[(&str, &str)] = &[
    (
        "passwd",
        "root:x:0:0:root:/tmp:/bin/sh\nraas:x:1000:1000:raas:/tmp:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    ),
    ("group", "root:x:0:\nraas:x:1000:\nnogroup:x:65534:\n"),
    ("hosts", "127.0.0.1\tlocalhost raas\n::1\tlocalhost raas\n"),
    ("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n"),
    ("hostname", "raas\n"),
    ("resolv.conf", ""),
];
/// Where a sandbox's own mounts go.
const MOUNT_POINTS: &[&str] = &["proc", "dev", "tmp", "var", "opt", "opt/raas"];

/// Where the spawner keeps things, as paths in its own mount namespace.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    /// The root file system of all sandboxes.
    pub(crate) base: PathBuf,
    /// One folder a sandbox, seen by it as `/var`; mounts made in it appear there.
    pub(crate) slots: PathBuf,
    /// The container library's state and specifications, one folder a sandbox in each.
    pub(crate) state: PathBuf,
    pub(crate) bundles: PathBuf,
    /// What a sandbox with a network sees as `/etc/resolv.conf`.
    pub(crate) resolv_conf: PathBuf,
}

/// A failed step of the set-up, by name.
pub(crate) type Step<T> = Result<T, (String, io::Error)>;

pub(crate) trait AtStep<T> {
    fn at(self, step: &str) -> Step<T>;
}

impl<T, E: Into<io::Error>> AtStep<T> for Result<T, E> {
    fn at(self, step: &str) -> Step<T> {
        self.map_err(|e| (step.to_owned(), e.into()))
    }
}

/// Leaves the host's root for a tmpfs mounted at `mount_point`, and builds the sandboxes' root in it.
pub(crate) fn build(mount_point: &Path, runtime_dir: &Path) -> Step<Places> {
    enter_own_root(mount_point)?;
    let own = Path::new(OWN);
    let places = Places {
        base: own.join("base"),
        slots: own.join("slots"),
        state: own.join("state"),
        bundles: own.join("bundles"),
        // In the base itself: older kernels refuse to bind a file of the unbindable file system around it.
        resolv_conf: own.join("base/etc/resolv.conf.network"),
    };
    for dir in [&places.base, &places.slots, &places.state, &places.bundles] {
        make_dir(dir).at("make the spawner's folders")?;
    }
    mounts::filesystem("tmpfs", &places.slots, OWN_TMPFS).at("mount the slots")?;
    mounts::set_propagation(&places.slots, Propagation::Shared).at("share the slots")?;
    mounts::filesystem("tmpfs", &places.base, OWN_TMPFS).at("mount the base")?;
    fill(&places.base, runtime_dir).at("build the base file system")?;
    write_readable(&places.resolv_conf, format!("nameserver {}\n", network::RESOLVER).as_bytes())
        .at("write the sandboxes' resolv.conf")?;
    mounts::make_read_only(&places.base).at("make the base file system read-only")?;
    Ok(places)
}

fn enter_own_root(new: &Path) -> Step<()> {
    mounts::filesystem("tmpfs", new, OWN_TMPFS).at("mount the spawner's root")?;
    mounts::set_propagation(new, Propagation::Unbindable).at("set up the spawner's root")?;
    for entry in fs::read_dir("/").at("read the host's root")? {
        let entry = entry.at("read the host's root")?;
        let name = entry.file_name();
        if name == "proc" || name == "sys" || name == OWN[1..] {
            continue;
        }
        let (from, to) = (entry.path(), new.join(&name));
        let kind = entry.file_type().at("read the host's root")?;
        if kind.is_symlink() {
            fs::read_link(&from).and_then(|target| symlink(target, &to)).at("copy the host's root")?;
        } else if kind.is_dir() {
            make_dir(&to).at("copy the host's root")?;
            mounts::bind(&from, &to, Restrict::NONE).at("copy the host's root")?;
        }
    }
    for dir in ["proc", "sys", "sys/fs", "sys/fs/cgroup", &OWN[1..]] {
        make_dir(&new.join(dir)).at("set up the spawner's root")?;
    }
    mounts::filesystem("proc", &new.join("proc"), "").at("mount /proc")?;
    // With the same folder twice the old root ends up on top of the new one, and is then taken away.
    chdir(new).at("enter the spawner's root")?;
    pivot_root(".", ".").at("enter the spawner's root")?;
    umount2(".", MntFlags::MNT_DETACH).at("leave the host's root")?;
    chdir("/").at("enter the spawner's root")
}

fn fill(base: &Path, runtime_dir: &Path) -> io::Result<()> {
    make_dir(&base.join("usr"))?;
    mounts::bind(Path::new("/usr"), &base.join("usr"), Restrict::READ_ONLY)?;
    for name in SYSTEM_DIRS {
        let (from, to) = (Path::new("/").join(name), base.join(name));
        match fs::symlink_metadata(&from) {
            Ok(found) if found.is_symlink() => symlink(fs::read_link(&from)?, &to)?,
            Ok(found) if found.is_dir() => {
                make_dir(&to)?;
                mounts::bind(&from, &to, Restrict::READ_ONLY)?;
            }
            _ => {}
        }
    }
    for name in MOUNT_POINTS {
        make_dir(&base.join(name))?;
    }
    mounts::bind(runtime_dir, &base.join("opt/raas"), Restrict::READ_ONLY)?;
    fill_etc(&base.join("etc"))
}

fn fill_etc(etc: &Path) -> io::Result<()> {
    make_dir(etc)?;
    for (name, text) in ETC_MADE {
        write_readable(&etc.join(name), text.as_bytes())?;
    }
    for name in ETC_DIRS {
        let (from, to) = (Path::new("/etc").join(name), etc.join(name));
        if from.is_dir() {
            make_dirs(&to)?;
            mounts::bind(&from, &to, Restrict::READ_ONLY)?;
        }
    }
    for name in ETC_FILES {
        if let Ok(bytes) = fs::read(Path::new("/etc").join(name)) {
            let to = etc.join(name);
            if let Some(parent) = to.parent() {
                make_dirs(parent)?;
            }
            write_readable(&to, &bytes)?;
        }
    }
    Ok(())
}

fn make_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o755).create(path)
}

fn make_dirs(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o755).recursive(true).create(path)
}

fn write_readable(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::write(path, bytes)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o644))
}
