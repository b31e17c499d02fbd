//! IPv4 packets in and out: what a sandbox's packet is about, and the few packets that are made outside the TCP stack.

use std::net::{Ipv4Addr, SocketAddrV4};

use smoltcp::phy::ChecksumCapabilities;
use smoltcp::wire::{
    IPV4_HEADER_LEN, Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl,
    TcpPacket, TcpRepr, TcpSeqNumber, UDP_HEADER_LEN, UdpPacket, UdpRepr,
};

/// Hops that packets to a sandbox may take; they take none.
const HOP_LIMIT: u8 = 64;
/// Largest payload of a datagram.
const DATAGRAM_MAX_BYTES: usize = u16::MAX as usize - IPV4_HEADER_LEN - UDP_HEADER_LEN;
/// How much of a refused datagram its sender gets back, beside the headers' 28 bytes.
const QUOTED_BYTES: usize = UDP_HEADER_LEN;

/// The two ends of a connection or of datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Flow {
    /// The sandbox's.
    pub(crate) inside: SocketAddrV4,
    /// What it sends to.
    pub(crate) outside: SocketAddrV4,
}

/// What a packet of a sandbox's is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outgoing<'a> {
    /// Asks for a TCP connection.
    Syn {
        /// Between whom.
        flow: Flow,
        /// The packet's sequence number.
        sequence: i32,
    },
    /// Belongs to a TCP connection.
    Tcp,
    /// A datagram.
    Datagram(Flow, &'a [u8]),
    /// Nothing that is carried: another protocol, another sender, a fragment, or not well-formed.
    Other,
}

/// Tells what a packet is. `sandbox` is the only sender there can be.
pub(crate) fn read(packet: &[u8], sandbox: Ipv4Addr) -> Outgoing<'_> {
    carried(packet, sandbox).unwrap_or(Outgoing::Other)
}

fn carried(packet: &[u8], sandbox: Ipv4Addr) -> Option<Outgoing<'_>> {
    let ip = Ipv4Packet::new_checked(packet).ok()?;
    let whole = !ip.more_frags() && ip.frag_offset() == 0;
    if ip.version() != 4 || ip.src_addr() != sandbox || !whole {
        return None;
    }
    let flow = |from: u16, to: u16| {
        let known = from != 0 && to != 0;
        known.then(|| Flow { inside: SocketAddrV4::new(sandbox, from), outside: SocketAddrV4::new(ip.dst_addr(), to) })
    };
    match ip.next_header() {
        IpProtocol::Tcp => {
            let tcp = TcpPacket::new_checked(ip.payload()).ok()?;
            let flow = flow(tcp.src_port(), tcp.dst_port())?;
            let asks = tcp.syn() && !tcp.ack() && !tcp.rst() && !tcp.fin();
            Some(if asks { Outgoing::Syn { flow, sequence: tcp.seq_number().0 } } else { Outgoing::Tcp })
        }
        IpProtocol::Udp => {
            let udp = UdpPacket::new_checked(ip.payload()).ok()?;
            Some(Outgoing::Datagram(flow(udp.src_port(), udp.dst_port())?, udp.payload()))
        }
        _ => None,
    }
}

/// The reset that tells a program at once that its connection is refused.
pub(crate) fn reset(flow: Flow, sequence: i32) -> Vec<u8> {
    let tcp = TcpRepr {
        src_port: flow.outside.port(),
        dst_port: flow.inside.port(),
        control: TcpControl::Rst,
        seq_number: TcpSeqNumber(0),
        ack_number: Some(TcpSeqNumber(sequence) + 1),
        window_len: 0,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    inward(flow, IpProtocol::Tcp, tcp.buffer_len(), |payload, checksums| {
        let (from, to) = ((*flow.outside.ip()).into(), (*flow.inside.ip()).into());
        tcp.emit(&mut TcpPacket::new_unchecked(payload), &from, &to, checksums);
    })
}

/// A datagram to the sandbox; `None` when it is too long to be one.
pub(crate) fn datagram(flow: Flow, content: &[u8]) -> Option<Vec<u8>> {
    if content.len() > DATAGRAM_MAX_BYTES {
        return None;
    }
    let udp = UdpRepr { src_port: flow.outside.port(), dst_port: flow.inside.port() };
    Some(inward(flow, IpProtocol::Udp, UDP_HEADER_LEN + content.len(), |payload, checksums| {
        let (from, to) = ((*flow.outside.ip()).into(), (*flow.inside.ip()).into());
        let fill = |space: &mut [u8]| space.copy_from_slice(content);
        udp.emit(&mut UdpPacket::new_unchecked(payload), &from, &to, content.len(), fill, checksums);
    }))
}

/// The message that tells a program that its datagram went nowhere. `packet` is what it sent.
pub(crate) fn unreachable(flow: Flow, packet: &[u8]) -> Option<Vec<u8>> {
    let ip = Ipv4Packet::new_checked(packet).ok()?;
    let header = Ipv4Repr {
        src_addr: ip.src_addr(),
        dst_addr: ip.dst_addr(),
        next_header: ip.next_header(),
        payload_len: ip.payload().len(),
        hop_limit: ip.hop_limit(),
    };
    let data = ip.payload().get(..QUOTED_BYTES)?;
    let icmp = Icmpv4Repr::DstUnreachable { reason: Icmpv4DstUnreachable::PortUnreachable, header, data };
    Some(inward(flow, IpProtocol::Icmp, icmp.buffer_len(), |payload, checksums| {
        icmp.emit(&mut Icmpv4Packet::new_unchecked(payload), checksums);
    }))
}

/// A packet from the outside of a flow to its inside.
fn inward(
    flow: Flow,
    protocol: IpProtocol,
    length: usize,
    fill: impl FnOnce(&mut [u8], &ChecksumCapabilities),
) -> Vec<u8> {
    let checksums = ChecksumCapabilities::default();
    let header = Ipv4Repr {
        src_addr: *flow.outside.ip(),
        dst_addr: *flow.inside.ip(),
        next_header: protocol,
        payload_len: length,
        hop_limit: HOP_LIMIT,
    };
    let mut packet = vec![0; IPV4_HEADER_LEN + length];
    header.emit(&mut Ipv4Packet::new_unchecked(&mut packet[..]), &checksums);
    fill(&mut packet[IPV4_HEADER_LEN..], &checksums);
    packet
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    const SANDBOX: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 100);

    /// The same packet seen from the other side.
    fn turned(flow: Flow) -> Flow {
        Flow { inside: flow.outside, outside: flow.inside }
    }

    fn flow() -> Flow {
        Flow { inside: SocketAddrV4::new(SANDBOX, 40000), outside: SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 53) }
    }

    #[test]
    fn a_datagram_is_read_as_it_was_made() {
        let packet = datagram(turned(flow()), b"question").unwrap();
        assert_eq!(read(&packet, SANDBOX), Outgoing::Datagram(flow(), b"question"));
        assert_eq!(read(&packet, Ipv4Addr::new(10, 0, 2, 101)), Outgoing::Other, "another sender");
        assert_eq!(read(&packet[..packet.len() - 1], SANDBOX), Outgoing::Other, "cut off");
        let mut fragment = packet.clone();
        fragment[6] |= 0x20;
        assert_eq!(read(&fragment, SANDBOX), Outgoing::Other, "a fragment");
    }

    #[test]
    fn a_reset_acknowledges_the_request() {
        let packet = reset(flow(), -1);
        let ip = Ipv4Packet::new_checked(&packet[..]).unwrap();
        assert!(ip.verify_checksum());
        assert_eq!((ip.src_addr(), ip.dst_addr()), (*flow().outside.ip(), SANDBOX));
        let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
        assert!(tcp.rst() && tcp.ack() && !tcp.syn());
        assert_eq!(tcp.ack_number(), TcpSeqNumber(0));
        assert_eq!((tcp.src_port(), tcp.dst_port()), (53, 40000));
        assert!(tcp.verify_checksum(&ip.src_addr().into(), &ip.dst_addr().into()));
    }

    #[test]
    fn datagrams_are_bounded_by_what_a_packet_holds() {
        assert_eq!(datagram(flow(), &vec![0; DATAGRAM_MAX_BYTES]).unwrap().len(), usize::from(u16::MAX));
        assert!(datagram(flow(), &vec![0; DATAGRAM_MAX_BYTES + 1]).is_none());
    }

    #[test]
    fn a_refused_datagram_is_quoted() {
        let sent = datagram(turned(flow()), b"question").unwrap();
        let packet = unreachable(flow(), &sent).unwrap();
        let ip = Ipv4Packet::new_checked(&packet[..]).unwrap();
        let icmp = Icmpv4Packet::new_checked(ip.payload()).unwrap();
        assert_eq!(icmp.msg_code(), u8::from(Icmpv4DstUnreachable::PortUnreachable));
        assert_eq!(&icmp.data()[12..28], &sent[12..28]);
    }

    proptest! {
        #[test]
        fn no_packet_makes_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), shape in 0u8..3) {
            if shape > 0 && bytes.len() >= 20 {
                bytes[0] = 0x45;
                bytes[9] = if shape == 1 { 6 } else { 17 };
                bytes[12..16].copy_from_slice(&SANDBOX.octets());
                let length = bytes.len() as u16;
                bytes[2..4].copy_from_slice(&length.to_be_bytes());
            }
            read(&bytes, SANDBOX);
            let _ = unreachable(flow(), &bytes);
        }
    }
}
