//! The descriptor a sandbox's packets come from and go to.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A TUN device's descriptor: one packet a read, one packet a write.
#[derive(Debug)]
pub(crate) struct Tun(AsyncFd<OwnedFd>);

impl Tun {
    /// Takes a descriptor that does not block. Must be called inside a Tokio runtime.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        // SAFETY: an OwnedFd always gives the same open descriptor, and the AsyncFd owns it until it is dropped.
        let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        registered.map(Self).map_err(|e| e.into_parts().1)
    }

    /// Waits for a packet, and returns its length. Cancelling loses nothing.
    pub(crate) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(read) = ready.try_io(|fd| Ok(nix::unistd::read(fd, buffer)?)) {
                return read;
            }
        }
    }

    /// Takes a packet that is there.
    pub(crate) fn try_read(&self, buffer: &mut [u8]) -> Option<usize> {
        nix::unistd::read(self.0.get_ref(), buffer).ok()
    }

    /// Sends a packet. As on any network it may be lost, which is for the layers above to notice.
    pub(crate) fn write(&self, packet: &[u8]) {
        // SAFETY: an open descriptor and a valid buffer of the stated length.
        unsafe { libc::write(self.0.as_raw_fd(), packet.as_ptr().cast(), packet.len()) };
    }
}
