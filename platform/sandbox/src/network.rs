//! The network of a sandbox without network: its own namespace in which only the loopback device is up.
//!
//! The namespace is made before the sandbox's user namespace, so it belongs to the spawner's and nothing in the sandbox
//! could ever configure it.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::sched::{CloneFlags, unshare};

/// Moves this process into a new network namespace and brings `lo` up.
pub(crate) fn isolate() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    // SAFETY: plain socket call; a negative value is handled below.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above just made this descriptor and nothing else owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: an open socket and a request that names an interface and carries flags, as this ioctl reads them.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
