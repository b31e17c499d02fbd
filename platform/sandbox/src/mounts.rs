//! Thin, typed calls to the kernel's mount interface.
//!
//! Knows file descriptors and flags, not what is mounted where. Binds are built detached, given their flags, and only
//! then attached: a mount that propagates into a running sandbox must never have been writable there.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Restrictions on a bind mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Restrict(u64);

impl Restrict {
    /// Set-user-id programs and devices do nothing there.
    pub(crate) const WRITABLE: Self = Self(0x2 | 0x4);
    /// The same, and nothing can be written.
    pub(crate) const READ_ONLY: Self = Self(0x1 | 0x2 | 0x4);
    /// As on the host.
    pub(crate) const NONE: Self = Self(0);
}

/// The kernel's `struct mount_attr`.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// `userns_fd` is in use.
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
const OPEN_TREE_CLONE: libc::c_uint = 1;
const OPEN_TREE_CLOEXEC: libc::c_uint = libc::O_CLOEXEC as libc::c_uint;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

fn described(what: &str, path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}

/// Bind-mounts `source` with all mounts below it at `target`.
pub(crate) fn bind(source: &Path, target: &Path, restrict: Restrict) -> io::Result<()> {
    let attr = MountAttr { attr_set: restrict.0, attr_clr: 0, propagation: MsFlags::MS_PRIVATE.bits(), userns_fd: 0 };
    attach(source, target, libc::AT_RECURSIVE as libc::c_uint, &attr)
}

/// Bind-mounts the folder `source` at `target`, owners on the disk seen through the id map of the user namespace `users`
/// (since Linux 5.12; each kind of file system has learned it in its own release).
pub(crate) fn bind_mapped(source: &Path, target: &Path, restrict: Restrict, users: BorrowedFd<'_>) -> io::Result<()> {
    let attr = MountAttr {
        attr_set: restrict.0 | MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: MsFlags::MS_PRIVATE.bits(),
        userns_fd: users.as_raw_fd() as u64,
    };
    attach(source, target, 0, &attr)
}

fn attach(source: &Path, target: &Path, depth: libc::c_uint, attr: &MountAttr) -> io::Result<()> {
    let from = c_path(source)?;
    let to = c_path(target)?;
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | depth;
    // SAFETY: a valid C string and flags; the kernel returns a new descriptor or -1.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, from.as_ptr(), flags) };
    if tree < 0 {
        return Err(described("cannot open for mounting", source, io::Error::last_os_error()));
    }
    // SAFETY: the call above just made this descriptor and nothing else owns it.
    let tree = unsafe { OwnedFd::from_raw_fd(tree as libc::c_int) };
    // SAFETY: an open tree, an empty C string with AT_EMPTY_PATH, and a structure of the stated size.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH as libc::c_uint | depth,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    };
    if done < 0 {
        return Err(described("cannot restrict", source, io::Error::last_os_error()));
    }
    // SAFETY: an open tree and valid C strings.
    let done = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            to.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    if done < 0 {
        return Err(described("cannot mount at", target, io::Error::last_os_error()));
    }
    Ok(())
}

/// Mounts a new file system without devices or set-user-id programs.
pub(crate) fn filesystem(kind: &str, target: &Path, data: &str) -> io::Result<()> {
    mount(Some(kind), target, Some(kind), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(data))
        .map_err(|e| described(&format!("cannot mount {kind} at"), target, e.into()))
}

/// Makes the file system at `target` read-only for everyone who sees it.
pub(crate) fn make_read_only(target: &Path) -> io::Result<()> {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(None::<&str>, target, None::<&str>, flags, None::<&str>)
        .map_err(|e| described("cannot make read-only", target, e.into()))
}

/// How mounts made below a mount reach its copies.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Propagation {
    /// Nothing below `target` is shared with anyone, recursively.
    PrivateTree,
    /// Mounts made below `target` appear in its copies.
    Shared,
    /// Nothing is shared, and copies of a tree above leave `target` out.
    Unbindable,
}

/// Sets how mounts below `target` propagate.
pub(crate) fn set_propagation(target: &Path, propagation: Propagation) -> io::Result<()> {
    let flags = match propagation {
        Propagation::PrivateTree => MsFlags::MS_PRIVATE | MsFlags::MS_REC,
        Propagation::Shared => MsFlags::MS_SHARED,
        Propagation::Unbindable => MsFlags::MS_UNBINDABLE,
    };
    mount(None::<&str>, target, None::<&str>, flags, None::<&str>)
        .map_err(|e| described("cannot set propagation of", target, e.into()))
}

/// Takes away the mount at `target`, here and wherever it propagated, even while it is in use. Absence is not an error.
pub(crate) fn detach(target: &Path) -> io::Result<()> {
    match umount2(target, MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::Error::EINVAL | nix::Error::ENOENT) => Ok(()),
        Err(e) => Err(described("cannot unmount", target, e.into())),
    }
}
