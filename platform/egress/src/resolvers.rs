//! The name servers that a sandbox's queries are forwarded to.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::limits::RESOLVERS_MAX;

const DNS_PORT: u16 = 53;
/// How long what the file said is taken for true.
const FRESH: Duration = Duration::from_secs(5);

/// Name servers. The policy does not apply to them: a sandbox chooses what to ask, not whom.
#[derive(Debug, Clone)]
pub enum Resolvers {
    /// Those of a file in the format of `resolv.conf`, read again when it is a few seconds old.
    File(PathBuf),
    /// These.
    Fixed(Vec<SocketAddr>),
}

impl Default for Resolvers {
    /// Those of `/etc/resolv.conf`.
    fn default() -> Self {
        Self::File("/etc/resolv.conf".into())
    }
}

/// Name servers that are looked up rarely.
#[derive(Debug)]
pub(crate) struct CurrentResolvers {
    source: Resolvers,
    known: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
}

impl CurrentResolvers {
    pub(crate) fn new(source: Resolvers) -> Self {
        Self { source, known: Mutex::new(None) }
    }

    /// In the order in which they are to be asked.
    pub(crate) fn list(&self) -> Vec<SocketAddr> {
        let path = match &self.source {
            Resolvers::Fixed(list) => return list.clone(),
            Resolvers::File(path) => path,
        };
        let mut known = self.known.lock();
        match &*known {
            Some((read, list)) if read.elapsed() < FRESH => list.clone(),
            _ => {
                // A few lines of a local file; without it the C library asks this machine.
                let mut list = std::fs::read_to_string(path).map(|text| parse(&text)).unwrap_or_default();
                if list.is_empty() {
                    list.push(([127, 0, 0, 1], DNS_PORT).into());
                }
                *known = Some((Instant::now(), list.clone()));
                list
            }
        }
    }
}

fn parse(text: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok()).flatten()
    };
    text.lines().filter_map(address).take(RESOLVERS_MAX).map(|ip| (ip, DNS_PORT).into()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_files_name_servers_are_found() {
        let text = "# made by hand\nsearch example.com\nnameserver 10.255.255.53\n nameserver  ::1 # second\nnameserver x\noptions edns0\n";
        let expected: Vec<SocketAddr> = ["10.255.255.53:53", "[::1]:53"].map(|a| a.parse().unwrap()).into();
        assert_eq!(parse(text), expected);
        assert_eq!(parse(&"nameserver 192.0.2.1\n".repeat(9)).len(), RESOLVERS_MAX);
    }

    #[test]
    fn without_a_file_it_is_this_machine() {
        let current = CurrentResolvers::new(Resolvers::File("/nowhere/resolv.conf".into()));
        assert_eq!(current.list(), ["127.0.0.1:53".parse().unwrap()]);
    }
}
