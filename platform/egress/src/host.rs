//! The machine the platform runs on, asked at the moment it matters: its addresses come and go.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use nix::ifaddrs::getifaddrs;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::SockaddrStorage;

/// Port for asking about routes; nothing is sent to it.
const ANY_PORT: u16 = 9;

/// Whether a connection to the address would end on this machine: an address of an interface, or one that is routed here
/// without being on any.
pub(crate) fn is_own(address: IpAddr) -> io::Result<bool> {
    let listed =
        getifaddrs()?.filter_map(|interface| interface.address).filter_map(|a| ip_of(&a)).any(|own| own == address);
    Ok(listed || is_routed_here(address)?)
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()).to_canonical()))
}

/// The kernel reaches its own addresses from themselves, or from the loopback address. Connecting a datagram socket only
/// looks the route up.
fn is_routed_here(address: IpAddr) -> io::Result<bool> {
    let any: SocketAddr = match address {
        IpAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        IpAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    match socket.connect((address, ANY_PORT)) {
        Ok(()) => {
            let from = socket.local_addr()?.ip();
            Ok(from == address || from.is_loopback())
        }
        Err(_) => Ok(false), // unreachable from here, so not here
    }
}

/// Files that this process may have open.
pub(crate) fn open_files_max() -> usize {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| usize::try_from(soft).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn this_machines_addresses_are_its_own() {
        for interface in getifaddrs().unwrap() {
            if let Some(address) = interface.address.as_ref().and_then(ip_of) {
                assert!(is_own(address).unwrap(), "{address}");
            }
        }
        // On no interface, but routed to this machine.
        assert!(is_own("127.9.8.7".parse().unwrap()).unwrap());
        assert!(!is_own("198.51.100.77".parse().unwrap()).unwrap());
    }
}
