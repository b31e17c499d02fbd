//! Which user a sandbox is on the host, and which one it thinks it is.
//!
//! The one place that knows the numbering. As root, slot `n` owns the 65,536 host ids from `HOST_ID_BASE + n * 65536`,
//! so that two sandboxes never share a host user and none of them is a real one. As an ordinary user only that user's
//! single id can be mapped, and it must be container id 0 because the container library becomes that id while it sets
//! up; the process still has no capabilities and cannot gain any.

use std::fs;

/// First host id given to sandboxes; above any range that distributions hand out.
const HOST_ID_BASE: u32 = 0x7000_0000;
/// Ids per sandbox.
const IDS_PER_SLOT: u32 = 0x1_0000;
/// Sandboxes that can exist at once; the last one ends below 2^31, which some tools cannot represent.
pub(crate) const SLOTS_MAX: u32 = 4096;
/// User and group of the sandboxed process where a whole range is mapped.
const CONTAINER_ID: u32 = 1000;

/// How identities are mapped on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Identity {
    /// Root: every sandbox has its own range of host ids.
    Range,
    /// Rootless: every sandbox is the one user that runs the platform.
    Single,
}

impl Identity {
    /// What this process can do: a range needs root with the range mapped in its own user namespace.
    pub(crate) fn of_this_process() -> Self {
        // SAFETY: geteuid has no preconditions and cannot fail.
        let root = unsafe { libc::geteuid() } == 0;
        let mapped = |path| fs::read_to_string(path).is_ok_and(|map| range_is_mapped(&map));
        if root && mapped("/proc/self/uid_map") && mapped("/proc/self/gid_map") { Self::Range } else { Self::Single }
    }

    /// First host id and number of ids mapped to container id 0 and up.
    pub(crate) fn mapping(self, slot: u32) -> (u32, u32) {
        match self {
            Self::Range => (HOST_ID_BASE + slot * IDS_PER_SLOT, IDS_PER_SLOT),
            Self::Single => (0, 1),
        }
    }

    /// User and group id of the process, as seen in the sandbox.
    pub(crate) fn container_id(self) -> u32 {
        match self {
            Self::Range => CONTAINER_ID,
            Self::Single => 0,
        }
    }

    /// User and group id of the process, as seen by the spawner.
    pub(crate) fn host_id(self, slot: u32) -> u32 {
        self.mapping(slot).0 + self.container_id()
    }
}

/// Whether a `uid_map` covers every id that slots use. Lines are "inside outside count".
fn range_is_mapped(map: &str) -> bool {
    let first = u64::from(HOST_ID_BASE);
    let end = first + u64::from(SLOTS_MAX) * u64::from(IDS_PER_SLOT);
    map.lines().any(|line| {
        let mut numbers = line.split_whitespace().map(|n| n.parse::<u64>().unwrap_or(0));
        let (inside, _, count) = (numbers.next().unwrap_or(0), numbers.next(), numbers.next().unwrap_or(0));
        inside <= first && end <= inside + count
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_do_not_overlap_and_stay_below_two_to_the_31() {
        let (a, n) = Identity::Range.mapping(0);
        let (b, _) = Identity::Range.mapping(1);
        assert_eq!(a + n, b);
        let (last, n) = Identity::Range.mapping(SLOTS_MAX - 1);
        assert!(u64::from(last) + u64::from(n) <= 1 << 31);
    }

    #[test]
    fn a_small_map_is_not_a_range() {
        assert!(range_is_mapped("         0          0 4294967295\n"));
        assert!(!range_is_mapped("         0     100000      65536\n"));
        assert!(!range_is_mapped("         0       1000          1\n"));
    }
}
