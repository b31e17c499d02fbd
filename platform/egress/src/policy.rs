//! What a sandbox may reach, decided by address alone.
//!
//! Pure but for the one question whether an address is the host's, which the caller answers. Three layers: what nobody can
//! allow, what the operator denied or allowed, and what is refused unless allowed.

use std::net::IpAddr;

use crate::cidr::Cidr;

/// Why a destination is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// `127.0.0.0/8`, `::1`.
    Loopback,
    /// `169.254.0.0/16`, where clouds keep credentials, and `fe80::/10`.
    LinkLocal,
    /// `0.0.0.0/8`, `::`.
    Unspecified,
    /// `224.0.0.0/4`, `ff00::/8`.
    Multicast,
    /// `240.0.0.0/4` with the broadcast address, and `192.0.0.0/24`.
    Reserved,
    /// The sandbox's own network, in which there is nothing but the name server.
    OwnNetwork,
    /// An address of the machine the platform runs on.
    Host,
    /// The operator denied it.
    Denied,
    /// A private network, which the operator has not allowed.
    Private,
    /// A public address at which a cloud serves its own machines, which the operator has not allowed.
    CloudService,
}

impl Refusal {
    /// The reason as a phrase.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "a loopback address",
            Self::LinkLocal => "a link-local address",
            Self::Unspecified => "not an address of anything",
            Self::Multicast => "a multicast address",
            Self::Reserved => "a reserved address",
            Self::OwnNetwork => "the sandbox's own network",
            Self::Host => "the platform's own machine",
            Self::Denied => "denied by egress.deny",
            Self::Private => "a private network that egress.allow does not name",
            Self::CloudService => "a cloud's service for its machines that egress.allow does not name",
        }
    }
}

/// The operator's rules on top of the fixed ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// Reachable although private.
    pub allow: Vec<Cidr>,
    /// Not reachable; wins over `allow`.
    pub deny: Vec<Cidr>,
}

impl Policy {
    /// Decides on a destination. `own_network` is the sandbox's; `is_host` tells whether an address is this machine's.
    ///
    /// # Errors
    /// The reason for which it is refused.
    pub fn check(
        &self,
        destination: IpAddr,
        own_network: Cidr,
        is_host: impl FnOnce(IpAddr) -> bool,
    ) -> Result<(), Refusal> {
        let destination = destination.to_canonical();
        let named_by = |ranges: &[Cidr]| ranges.iter().any(|range| range.contains(destination));
        if let Some(refusal) = never(destination) {
            return Err(refusal);
        }
        if own_network.contains(destination) {
            return Err(Refusal::OwnNetwork);
        }
        if is_host(destination) {
            return Err(Refusal::Host);
        }
        if named_by(&self.deny) {
            return Err(Refusal::Denied);
        }
        match unless_allowed(destination) {
            Some(refusal) if !named_by(&self.allow) => Err(refusal),
            _ => Ok(()),
        }
    }
}

/// What no setting makes reachable.
fn never(destination: IpAddr) -> Option<Refusal> {
    match destination {
        IpAddr::V4(v4) => match v4.octets() {
            [0, ..] => Some(Refusal::Unspecified),
            [127, ..] => Some(Refusal::Loopback),
            [169, 254, ..] => Some(Refusal::LinkLocal),
            [192, 0, 0, _] | [240..=255, ..] => Some(Refusal::Reserved),
            [224..=239, ..] => Some(Refusal::Multicast),
            _ => None,
        },
        IpAddr::V6(v6) if v6.is_unspecified() => Some(Refusal::Unspecified),
        IpAddr::V6(v6) if v6.is_loopback() => Some(Refusal::Loopback),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some(Refusal::LinkLocal),
        IpAddr::V6(v6) if v6.is_multicast() => Some(Refusal::Multicast),
        IpAddr::V6(_) => None,
    }
}

fn unless_allowed(destination: IpAddr) -> Option<Refusal> {
    match destination {
        IpAddr::V4(v4) => match v4.octets() {
            [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Some(Refusal::Private),
            // Azure's host agent, which hands a machine its secrets, and which firewalls usually let through.
            [168, 63, 129, 16] => Some(Refusal::CloudService),
            _ => None,
        },
        IpAddr::V6(v6) => v6.is_unique_local().then_some(Refusal::Private),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn ranges(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn check(allow: &[&str], deny: &[&str], destination: &str) -> Result<(), Refusal> {
        let policy = Policy { allow: ranges(allow), deny: ranges(deny) };
        let own = "10.0.2.0/24".parse().unwrap();
        let host: IpAddr = "203.0.113.80".parse().unwrap();
        policy.check(destination.parse().unwrap(), own, |address| address == host)
    }

    #[test]
    fn what_is_refused_and_why() {
        for (destination, refusal) in [
            ("127.0.0.1", Refusal::Loopback),
            ("127.255.255.254", Refusal::Loopback),
            ("::1", Refusal::Loopback),
            ("::ffff:127.0.0.1", Refusal::Loopback),
            ("169.254.169.254", Refusal::LinkLocal),
            ("::ffff:169.254.169.254", Refusal::LinkLocal),
            ("fe80::1", Refusal::LinkLocal),
            ("0.0.0.0", Refusal::Unspecified),
            ("0.1.2.3", Refusal::Unspecified),
            ("::", Refusal::Unspecified),
            ("224.0.0.251", Refusal::Multicast),
            ("239.255.255.255", Refusal::Multicast),
            ("ff02::1", Refusal::Multicast),
            ("255.255.255.255", Refusal::Reserved),
            ("240.0.0.1", Refusal::Reserved),
            ("192.0.0.192", Refusal::Reserved),
            ("10.0.2.2", Refusal::OwnNetwork),
            ("10.0.2.3", Refusal::OwnNetwork),
            ("203.0.113.80", Refusal::Host),
            ("10.1.2.3", Refusal::Private),
            ("172.16.0.1", Refusal::Private),
            ("172.31.255.255", Refusal::Private),
            ("192.168.1.1", Refusal::Private),
            ("100.64.0.1", Refusal::Private),
            ("100.100.100.200", Refusal::Private),
            ("fd00:ec2::254", Refusal::Private),
            ("168.63.129.16", Refusal::CloudService),
        ] {
            assert_eq!(check(&[], &[], destination), Err(refusal), "{destination}");
        }
        for destination in [
            "1.1.1.1",
            "172.32.0.1",
            "172.15.0.1",
            "100.63.0.1",
            "100.128.0.1",
            "192.167.0.1",
            "203.0.113.81",
            "2001:db8::1",
        ] {
            assert_eq!(check(&[], &[], destination), Ok(()), "{destination}");
        }
    }

    #[test]
    fn the_operator_opens_private_networks_and_closes_any() {
        assert_eq!(check(&["10.1.0.0/16"], &[], "10.1.2.3"), Ok(()));
        assert_eq!(check(&["10.1.0.0/16"], &[], "10.2.2.3"), Err(Refusal::Private));
        assert_eq!(check(&["168.63.129.16"], &[], "168.63.129.16"), Ok(()));
        assert_eq!(check(&["10.0.0.0/8"], &["10.1.0.0/16"], "10.1.2.3"), Err(Refusal::Denied));
        assert_eq!(check(&["10.1.2.3"], &["10.0.0.0/8"], "10.1.2.3"), Err(Refusal::Denied));
        assert_eq!(check(&[], &["1.1.1.0/24"], "1.1.1.1"), Err(Refusal::Denied));
        assert_eq!(check(&[], &["1.1.1.0/24"], "::ffff:1.1.1.1"), Err(Refusal::Denied));
    }

    proptest! {
        /// Whatever is allowed, loopback, link-local, the sandbox's network and the host stay closed.
        #[test]
        fn no_setting_opens_what_must_stay_closed(bits: u32) {
            let text = Ipv4Addr::from_bits(bits).to_string();
            let open = check(&["0.0.0.0/0", "::/0"], &[], &text);
            let closed = ["0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "224.0.0.0/3", "10.0.2.0/24", "203.0.113.80"];
            let must_stay = ranges(&closed).iter().any(|range| range.contains(IpAddr::V4(Ipv4Addr::from_bits(bits))));
            prop_assert_eq!(open.is_err(), must_stay);
            prop_assert_eq!(check(&[], &["0.0.0.0/0"], &text).is_err(), true);
        }

        #[test]
        fn those_that_must_stay_closed_are_drawn_often_enough(last: u16, which in 0usize..3) {
            let first = [0x7f00_0000_u32, 0xa9fe_0000, 0x0a00_0200][which];
            let host_bits = u32::from(last) & if which == 2 { 0xff } else { 0xffff };
            prop_assert!(check(&["0.0.0.0/0"], &[], &Ipv4Addr::from_bits(first | host_bits).to_string()).is_err());
        }
    }
}
