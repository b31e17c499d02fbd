//! A sandbox's network: its own namespace in which the loopback device is up and, for a sandbox that may reach others, one
//! more device.
//!
//! The namespace is made before the sandbox's user namespace, so it belongs to the spawner's and nothing in the sandbox
//! could ever configure it. The other device is a TUN device: whatever the sandbox sends there comes out of its descriptor
//! as packets, which the spawner hands to the gateway. No interface, route or rule of the host's is touched, so this works
//! without privileges there.

use std::io;
use std::mem::zeroed;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::sched::{CloneFlags, unshare};

/// Where TUN devices come from.
const TUN_PATH: &str = "/dev/net/tun";
const LOOPBACK_NAME: &str = "lo";
const DEVICE_NAME: &str = "egress0";

/// The sandbox's address.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 100);
/// Bits of the network's prefix.
const PREFIX_BITS: u8 = 24;
/// The next hop of everything.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
/// The name server in the sandbox's `/etc/resolv.conf`.
pub(crate) const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// The largest IPv4 packet there is: fewer packets, and no datagram is ever in fragments.
const MTU_BYTES: u16 = u16::MAX;

/// The gateway's end of a sandbox's network: the device, and what the sandbox believes about it.
#[derive(Debug)]
pub struct NetworkDevice {
    /// Every read is one IPv4 or IPv6 packet that the sandbox sent, every write one that it gets. Does not block.
    pub fd: OwnedFd,
    /// The sandbox's address.
    pub address: Ipv4Addr,
    /// Bits of the network's prefix.
    pub prefix_bits: u8,
    /// The next hop of everything.
    pub gateway: Ipv4Addr,
    /// Where the sandbox sends its DNS queries.
    pub resolver: Ipv4Addr,
    /// Largest packet.
    pub mtu_bytes: u16,
}

impl NetworkDevice {
    pub(crate) fn new(fd: OwnedFd) -> Self {
        let (address, prefix_bits, gateway, resolver, mtu_bytes) = (ADDRESS, PREFIX_BITS, GATEWAY, RESOLVER, MTU_BYTES);
        Self { fd, address, prefix_bits, gateway, resolver, mtu_bytes }
    }
}

/// Moves this process into a new network namespace and brings `lo` up.
pub(crate) fn isolate() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    Configuration::new()?.bring_up(LOOPBACK_NAME)
}

/// Gives this process's network namespace a device through which everything is reached, and returns the device's other
/// end. On failure says why, for the operator.
pub(crate) fn connect() -> Result<OwnedFd, String> {
    let device = open_tun().map_err(|e| {
        format!(
            "{TUN_PATH} cannot be opened: {e}; functions and builds that use the network need it: load the kernel module \
             \"tun\", and let the platform's user read and write that file"
        )
    })?;
    configure(&device).map_err(|e| format!("its device cannot be configured: {e}"))?;
    Ok(device)
}

/// The namespace of the process that opens the file is the one that the device will be in.
fn open_tun() -> io::Result<OwnedFd> {
    let file = std::fs::OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(TUN_PATH)?;
    Ok(file.into())
}

fn configure(device: &OwnedFd) -> io::Result<()> {
    let mut request = named(DEVICE_NAME);
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: an open TUN descriptor and a request that names an interface and carries flags, as this ioctl reads them.
    if unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF as _, &raw const request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let configuration = Configuration::new()?;
    configuration.set_mtu(DEVICE_NAME, MTU_BYTES)?;
    configuration.set_address(DEVICE_NAME, ADDRESS, PREFIX_BITS)?;
    configuration.bring_up(DEVICE_NAME)?;
    configuration.add_default_route(GATEWAY)
}

/// Sets up interfaces of this process's network namespace, through a socket in it.
struct Configuration(OwnedFd);

impl Configuration {
    fn new() -> io::Result<Self> {
        // SAFETY: plain socket call; a negative value is handled below.
        let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above just made this descriptor and nothing else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(socket) }))
    }

    fn bring_up(&self, name: &str) -> io::Result<()> {
        let mut request = named(name);
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        self.apply(libc::SIOCSIFFLAGS, &request)
    }

    fn set_mtu(&self, name: &str, mtu_bytes: u16) -> io::Result<()> {
        let mut request = named(name);
        request.ifr_ifru.ifru_mtu = libc::c_int::from(mtu_bytes);
        self.apply(libc::SIOCSIFMTU, &request)
    }

    fn set_address(&self, name: &str, address: Ipv4Addr, prefix_bits: u8) -> io::Result<()> {
        let mut request = named(name);
        request.ifr_ifru.ifru_addr = socket_address(address);
        self.apply(libc::SIOCSIFADDR, &request)?;
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix_bits)).unwrap_or(0);
        request.ifr_ifru.ifru_netmask = socket_address(Ipv4Addr::from_bits(mask));
        self.apply(libc::SIOCSIFNETMASK, &request)
    }

    fn add_default_route(&self, gateway: Ipv4Addr) -> io::Result<()> {
        // SAFETY: all-zero bytes are a valid rtentry.
        let mut route: libc::rtentry = unsafe { zeroed() };
        route.rt_dst = socket_address(Ipv4Addr::UNSPECIFIED);
        route.rt_genmask = socket_address(Ipv4Addr::UNSPECIFIED);
        route.rt_gateway = socket_address(gateway);
        route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
        self.apply(libc::SIOCADDRT, &route)
    }

    /// `argument` must be of the type that the operation reads.
    fn apply<T>(&self, operation: libc::c_ulong, argument: &T) -> io::Result<()> {
        // SAFETY: an open socket and a structure of the operation's type, which every caller above sees to.
        if unsafe { libc::ioctl(self.0.as_raw_fd(), operation as _, std::ptr::from_ref(argument)) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

/// A request that names an interface.
fn named(name: &str) -> libc::ifreq {
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

/// An IPv4 address in the general shape.
fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let [a, b, c, d] = address.octets();
    // SAFETY: all-zero bytes are a valid sockaddr.
    let mut general: libc::sockaddr = unsafe { zeroed() };
    general.sa_family = libc::AF_INET as libc::sa_family_t;
    // A sockaddr_in has the port in the first two bytes and then the address.
    for (to, from) in general.sa_data.iter_mut().zip([0, 0, a, b, c, d]) {
        *to = from as libc::c_char;
    }
    general
}
