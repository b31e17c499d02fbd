//! One sandbox's TCP: the network stack's state behind a lock, and packets in and out of it.
//!
//! The stack answers for every address, but only for connections that were opened here: a request for a connection reaches it
//! only once the other side has accepted, so a program in the sandbox sees the real outcome. Nothing waits under the lock.

use std::net::Ipv4Addr;
use std::sync::Arc;

use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp;
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, IpListenEndpoint};

use crate::limits::BUFFER_BYTES;
use crate::packet::Flow;
use crate::tun::Tun;

/// The connections of one sandbox.
pub(crate) struct Stack {
    interface: Interface,
    sockets: SocketSet<'static>,
    tun: Arc<Tun>,
    /// Where the next packet to the sandbox is put together.
    scratch: Vec<u8>,
    mtu_bytes: u16,
    began: std::time::Instant,
}

impl Stack {
    pub(crate) fn new(tun: Arc<Tun>, gateway: Ipv4Addr, prefix_bits: u8, mtu_bytes: u16) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        // Sequence numbers come of it. Without randomness they are guessable, but only by the sandbox itself.
        config.random_seed = getrandom::u64().unwrap_or(0);
        let mut scratch = vec![0; usize::from(u16::MAX)];
        let mut port = Port { tun: &tun, incoming: None, scratch: &mut scratch, mtu_bytes };
        let mut interface = Interface::new(config, &mut port, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            let _ = addresses.push(IpCidr::new(gateway.into(), prefix_bits)); // the first fits
        });
        interface.set_any_ip(true);
        let sockets = SocketSet::new(Vec::new());
        Self { interface, sockets, tun, scratch, mtu_bytes, began: std::time::Instant::now() }
    }

    /// Takes a packet from the sandbox. Replies leave with the next [`Self::flush`].
    pub(crate) fn receive(&mut self, packet: &[u8]) {
        let now = self.now();
        let mut port =
            Port { tun: &self.tun, incoming: Some(packet), scratch: &mut self.scratch, mtu_bytes: self.mtu_bytes };
        self.interface.poll_ingress_single(now, &mut port, &mut self.sockets);
    }

    /// Sends what is to be sent now.
    pub(crate) fn flush(&mut self) {
        let now = self.now();
        let mut port = Port { tun: &self.tun, incoming: None, scratch: &mut self.scratch, mtu_bytes: self.mtu_bytes };
        // Ends because windows are finite.
        while self.interface.poll_egress(now, &mut port, &mut self.sockets) == PollResult::SocketStateChanged {}
    }

    /// Accepts the connection that `request` asks for.
    pub(crate) fn open(&mut self, flow: Flow, request: &[u8]) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER_BYTES]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false); // the sender's own has had its say
        socket.set_ack_delay(None);
        let endpoint = IpListenEndpoint { addr: Some((*flow.outside.ip()).into()), port: flow.outside.port() };
        let _ = socket.listen(endpoint); // a new socket and a port that is not zero
        let handle = self.sockets.add(socket);
        self.receive(request);
        self.flush();
        handle
    }

    /// A connection that has not been closed.
    pub(crate) fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Forgets a connection, with a reset if it is not over. The handle is not valid any more.
    pub(crate) fn close(&mut self, handle: SocketHandle) {
        let socket = self.socket(handle);
        if socket.is_active() {
            socket.abort();
            self.flush();
        }
        self.sockets.remove(handle);
    }

    fn now(&self) -> Instant {
        Instant::from_micros(i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX))
    }
}

/// The device as the stack sees it during one call.
struct Port<'a> {
    tun: &'a Tun,
    incoming: Option<&'a [u8]>,
    scratch: &'a mut [u8],
    mtu_bytes: u16,
}

impl Device for Port<'_> {
    type RxToken<'t>
        = Incoming<'t>
    where
        Self: 't;
    type TxToken<'t>
        = ToSandbox<'t>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(Incoming<'_>, ToSandbox<'_>)> {
        let packet = self.incoming.take()?;
        Some((Incoming(packet), ToSandbox { tun: self.tun, scratch: self.scratch }))
    }

    fn transmit(&mut self, _: Instant) -> Option<ToSandbox<'_>> {
        Some(ToSandbox { tun: self.tun, scratch: self.scratch })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = usize::from(self.mtu_bytes);
        // Nothing between this machine's kernel and this process can damage a packet.
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities
    }
}

struct Incoming<'a>(&'a [u8]);

impl RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

struct ToSandbox<'a> {
    tun: &'a Tun,
    scratch: &'a mut [u8],
}

impl TxToken for ToSandbox<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        // Never longer than the largest packet, which the scratch space holds.
        let packet = &mut self.scratch[..length];
        let result = write(packet);
        self.tun.write(packet);
        result
    }
}
