//! Ranges of addresses, as operators write them: `10.1.0.0/16`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// All addresses that begin with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    first: IpAddr,
    prefix_bits: u8,
}

/// Why a text is not a range of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Not an address.
    #[error("`{0}` is not an address or a range of addresses such as 10.1.0.0/16")]
    Malformed(String),
    /// More bits than the address has.
    #[error("`{0}` has more bits after the slash than an address has")]
    TooManyBits(String),
    /// The address is not the range's first, so a mistake is likely.
    #[error("`{written}` does not begin with its own prefix; did you mean {meant}?")]
    NotFirst {
        /// What was written.
        written: String,
        /// The range that contains that address.
        meant: Cidr,
    },
}

impl Cidr {
    /// The range of all addresses that share the first bits with this one; all of them where there are more than an address
    /// has.
    pub fn containing(address: IpAddr, prefix_bits: u8) -> Self {
        let width: u8 = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = prefix_bits.min(width);
        let kept = |bits: u128| bits & u128::MAX.checked_shl(u32::from(width - prefix_bits)).unwrap_or(0);
        let first = match address {
            IpAddr::V4(v4) => IpAddr::from((kept(u128::from(v4.to_bits())) as u32).to_be_bytes()),
            IpAddr::V6(v6) => IpAddr::from(kept(v6.to_bits()).to_be_bytes()),
        };
        Self { first, prefix_bits }
    }

    /// Whether the range contains an address. An IPv4 address written as IPv6 is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && Self::containing(address, self.prefix_bits).first == self.first
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let malformed = || CidrError::Malformed(text.to_owned());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) if !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit()) => {
                (address, Some(bits))
            }
            Some(_) => return Err(malformed()),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| malformed())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match bits.map(str::parse::<u8>) {
            None => width,
            Some(Ok(bits)) if bits <= width => bits,
            Some(_) => return Err(CidrError::TooManyBits(text.to_owned())),
        };
        let range = Self::containing(address, prefix_bits);
        if range.first == address {
            Ok(range)
        } else {
            Err(CidrError::NotFirst { written: text.to_owned(), meant: range })
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix_bits)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_operators_write_is_read() {
        for text in ["10.1.0.0/16", "0.0.0.0/0", "192.0.2.7/32", "fd00::/8", "::/0"] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
        }
        assert_eq!("192.0.2.7".parse::<Cidr>().unwrap().to_string(), "192.0.2.7/32");
        assert_eq!("::1".parse::<Cidr>().unwrap().to_string(), "::1/128");
    }

    #[test]
    fn mistakes_are_named() {
        for text in [
            "",
            "/8",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/x",
            "10.0.0/8",
            "example.com",
            "10.0.0.0/8/8",
            " 10.0.0.0/8",
        ] {
            assert_eq!(text.parse::<Cidr>(), Err(CidrError::Malformed(text.to_owned())), "{text}");
        }
        for text in ["10.0.0.0/33", "::/129", "10.0.0.0/999"] {
            assert_eq!(text.parse::<Cidr>(), Err(CidrError::TooManyBits(text.to_owned())));
        }
        let error = "10.1.2.3/16".parse::<Cidr>().unwrap_err().to_string();
        assert!(error.ends_with("did you mean 10.1.0.0/16?"), "{error}");
    }

    #[test]
    fn it_is_a_string_in_settings() {
        let cidr: Cidr = "10.1.0.0/16".parse().unwrap();
        assert_eq!(serde_json::to_string(&cidr).unwrap(), "\"10.1.0.0/16\"");
        assert_eq!(serde_json::from_str::<Cidr>("\"10.1.0.0/16\"").unwrap(), cidr);
        assert!(serde_json::from_str::<Cidr>("\"10.1.0.1/16\"").is_err());
    }

    proptest! {
        #[test]
        fn an_address_is_in_its_range_and_reads_back(bits: u32, prefix in 0u8..=32) {
            let address = IpAddr::V4(Ipv4Addr::from_bits(bits));
            let range = Cidr::containing(address, prefix);
            prop_assert!(range.contains(address));
            prop_assert!(range.contains(IpAddr::V6(Ipv4Addr::from_bits(bits).to_ipv6_mapped())));
            prop_assert_eq!(range.to_string().parse::<Cidr>().unwrap(), range);
        }

        #[test]
        fn contains_is_sharing_the_prefix(a: u32, b: u32, prefix in 0u32..=32) {
            let range = Cidr::containing(IpAddr::V4(Ipv4Addr::from_bits(a)), prefix as u8);
            let shared = (a ^ b).leading_zeros() >= prefix;
            prop_assert_eq!(range.contains(IpAddr::V4(Ipv4Addr::from_bits(b))), shared);
        }

        #[test]
        fn the_same_for_the_longer_addresses(a: u128, flipped in 0u32..128, prefix in 0u32..=128) {
            let range = Cidr::containing(IpAddr::V6(Ipv6Addr::from_bits(a)), prefix as u8);
            let other = Ipv6Addr::from_bits(a ^ (1 << (127 - flipped)));
            // Those that are IPv4 addresses in disguise are never in a range of IPv6 addresses.
            prop_assume!(other.to_ipv4_mapped().is_none());
            prop_assert_eq!(range.contains(IpAddr::V6(other)), flipped >= prefix);
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}") {
            let _ = text.parse::<Cidr>();
        }
    }
}
