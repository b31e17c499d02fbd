//! What a sandbox does not reach, and that it is told at once.

use std::net::TcpListener;

use raas_sandbox::{Fault, SandboxError};

use crate::Test;
use crate::bed::{Bed, egress_to};
use crate::peer::{CLOSED_PORT, HTTP_PORT};

pub const TESTS: &[Test] = &[
    ("what_must_not_be_reached_is_refused_at_once", what_must_not_be_reached_is_refused_at_once),
    ("the_network_cannot_be_changed_from_inside", the_network_cannot_be_changed_from_inside),
    ("a_private_network_needs_the_operator", a_private_network_needs_the_operator),
    ("without_tun_devices_it_says_so", without_tun_devices_it_says_so),
];

/// Defines `attempt(address, port)`, which prints the outcome and whether it took longer than a second.
const ATTEMPT: &str = "
import errno, socket, time
def attempt(address, port, kind=socket.SOCK_STREAM):
    began = time.monotonic()
    try:
        s = socket.socket(socket.AF_INET, kind); s.settimeout(5); s.connect((address, port))
        if kind == socket.SOCK_DGRAM: s.send(b'x'); s.recv(1)
        print(address, 'REACHED')
    except OSError as e: print(address, errno.errorcode.get(e.errno, e), time.monotonic() - began < 1)
";

fn what_must_not_be_reached_is_refused_at_once(bed: &Bed) {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let own: Vec<String> = nix::ifaddrs::getifaddrs()
        .unwrap()
        .filter_map(|interface| interface.address?.as_sockaddr_in().map(|v4| v4.ip()))
        .filter(|ip| !ip.is_loopback())
        .map(|ip| ip.to_string())
        .collect();
    let before = bed.egress.metrics();
    let addresses = [
        own,
        [
            "169.254.169.254",
            "10.0.2.2",
            "10.0.2.3",
            "192.168.1.1",
            "10.99.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "240.0.0.1",
        ]
        .map(str::to_owned)
        .into(),
    ]
    .concat();
    let program = format!(
        "{ATTEMPT}\nfor a in {addresses:?}: attempt(a, {port})\nfor a in {addresses:?}: attempt(a, {port}, socket.SOCK_DGRAM)\n"
    );
    let out = bed.python(&bed.egress, &program);
    assert_eq!(out.lines().count(), 2 * addresses.len(), "{out}");
    for line in out.lines() {
        // The kernel itself does not send to 240.0.0.0/4 on some machines.
        assert!(line.ends_with(" ECONNREFUSED True") || line.starts_with("240."), "{line}");
    }
    assert!(
        bed.egress.metrics().refused - before.refused >= 2 * (addresses.len() as u64 - 1),
        "{:?}",
        bed.egress.metrics()
    );
    // The sandbox's own loopback is its own; the kernel keeps it inside.
    let out = bed.python(
        &bed.egress,
        &format!("{ATTEMPT}\nattempt('127.0.0.1', {port}); attempt('127.9.9.9', {port}); attempt('0.0.0.0', {port})"),
    );
    assert!(!out.contains("REACHED"), "{out}");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "nobody has connected");
    // Neither do abstract Unix sockets cross.
    let name = format!("raas-egress-test-{}", std::process::id());
    let address =
        <std::os::unix::net::SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(&name).unwrap();
    let _abstract = std::os::unix::net::UnixListener::bind_addr(&address).unwrap();
    let out = bed.python(&bed.egress, &format!("import socket\ntry: socket.socket(socket.AF_UNIX).connect('\\0{name}')\nexcept ConnectionRefusedError: print('refused')"));
    assert_eq!(out, "refused\n");
}

fn the_network_cannot_be_changed_from_inside(bed: &Bed) {
    let out = bed.python(
        &bed.egress,
        "
import errno, fcntl, os, socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
def attempt(name, what):
    try: what()
    except OSError as e: print(name, errno.errorcode[e.errno])
    else: print(name, 'DONE')
print(sorted(n for _, n in socket.if_nameindex()), open('/etc/resolv.conf').read().split())
attempt('down', lambda: fcntl.ioctl(s, 0x8914, b'egress0'.ljust(16, b'\\0') + bytes(24)))
attempt('address', lambda: fcntl.ioctl(s, 0x8916, b'egress0'.ljust(16, b'\\0') + struct.pack('HH4s16x', 2, 0, bytes([10, 0, 2, 7]))))
attempt('mtu', lambda: fcntl.ioctl(s, 0x8922, b'egress0'.ljust(16, b'\\0') + struct.pack('i20x', 1500)))
attempt('raw', lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 6))
attempt('packet', lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM))
attempt('tun', lambda: os.open('/dev/net/tun', os.O_RDWR))
attempt('six', lambda: socket.create_connection(('2001:db8::1', 80), 1))
attempt('write', lambda: open('/etc/resolv.conf', 'w'))
n = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
n.send(struct.pack('IHHII', 28, 25, 5, 1, 0) + bytes(12))
print('route', struct.unpack('i', n.recv(4096)[16:20])[0])
",
    );
    let expected = "['egress0', 'lo'] ['nameserver', '10.0.2.3']\ndown EPERM\naddress EPERM\nmtu EPERM\nraw EPERM\npacket EPERM\ntun ENOENT\nsix ENETUNREACH\n";
    assert!(out.starts_with(expected), "{out}");
    let rest = &out[expected.len()..];
    assert!(rest.starts_with("write E") && rest.ends_with("route -1\n"), "{out}");
}

fn a_private_network_needs_the_operator(bed: &Bed) {
    let Some(peer) = &bed.peer else { return };
    let closed = egress_to(None);
    let program = format!("{ATTEMPT}\nattempt('{0}', {HTTP_PORT}); attempt('{0}', {CLOSED_PORT})", peer.address);
    assert_eq!(bed.python(&closed, &program), format!("{0} ECONNREFUSED True\n{0} ECONNREFUSED True\n", peer.address));
    assert_eq!((closed.metrics().refused, closed.metrics().connections_failed), (2, 0));
    // Allowed, a port that nobody listens on answers for itself, and this side of the link stays closed.
    let program = format!(
        "{ATTEMPT}\nattempt('{0}', {HTTP_PORT}); attempt('{0}', {CLOSED_PORT}); attempt('{1}', 22)",
        peer.address, peer.host_address
    );
    let before = bed.egress.metrics();
    let expected =
        format!("{0} REACHED\n{0} ECONNREFUSED True\n{1} ECONNREFUSED True\n", peer.address, peer.host_address);
    assert_eq!(bed.python(&bed.egress, &program), expected);
    let after = bed.egress.metrics();
    assert_eq!((after.refused - before.refused, after.connections_failed - before.connections_failed), (1, 1));
}

fn without_tun_devices_it_says_so(bed: &Bed) {
    match bed.create("print(1)") {
        Err(error @ SandboxError::Network(_)) => {
            let text = error.to_string();
            assert!(text.contains("/dev/net/tun") && text.contains("platform's user"), "{text}");
            assert_eq!((error.fault(), error.retryable()), (Fault::Platform, false));
        }
        other => panic!("{other:?}"),
    }
}
