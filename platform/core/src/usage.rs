//! The usage event: what one answered call leaves behind for metering, and its fixed-size form in the journal.
//!
//! The journal appends an event before its answer is sent, so the encoding is a plain copy of integers: 128 bytes,
//! little-endian, a format version first. Reading checks everything; a torn or foreign record
//! is refused, never guessed at.

use crate::clock::TimestampUs;
use crate::id::{FunctionId, InvocationId, TenantId};
use crate::served_by::ServedBy;

/// One answered call, whatever served it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageEvent {
    /// The call.
    pub invocation: InvocationId,
    /// Who pays.
    pub tenant: TenantId,
    /// The function or helper instance that was asked for.
    pub function: FunctionId,
    /// The function or helper instance whose code asked, where one did.
    pub caller: Option<FunctionId>,
    /// The version that answered.
    pub version: u32,
    /// How the answer was come by.
    pub served_by: ServedBy,
    /// The HTTP status of the answer.
    pub status: u16,
    /// When the request arrived, microseconds since the Unix epoch.
    pub started_us: i64,
    /// Waiting for an instance; stays at its maximum (71 minutes) rather than wrap.
    pub queue_us: u32,
    /// Assigning or starting a sandbox.
    pub cold_us: u32,
    /// The function's own time.
    pub exec_us: u64,
    /// From arrival to answer.
    pub total_us: u64,
    /// The memory the version is configured with.
    pub memory_mb: u32,
    /// Size of the request body.
    pub bytes_in: u64,
    /// Size of the response body.
    pub bytes_out: u64,
    /// Whether a sandbox had to be assigned or started for this call.
    pub cold_start: bool,
}

/// Why bytes are not a usage event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageEventError {
    /// Written by a later release, or not an event at all.
    #[error("usage event has format {found}; this release reads format {expected}", expected = UsageEvent::FORMAT)]
    Format {
        /// The format byte that was found.
        found: u8,
    },
    /// A `served_by` code that no release has written.
    #[error("usage event has the unknown served_by code {0}")]
    ServedBy(u8),
    /// A flag or a kept byte that must be zero is not.
    #[error("usage event has a kept byte that is not zero")]
    Reserved,
}

impl UsageEvent {
    /// Size of an encoded event in bytes.
    pub const LEN: usize = 128;
    /// The format byte this release writes.
    pub const FORMAT: u8 = 1;
    /// When the request arrived.
    #[must_use]
    pub const fn started(&self) -> TimestampUs {
        TimestampUs::from_micros(self.started_us)
    }

    /// The event as it lies in the journal.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[0] = Self::FORMAT;
        bytes[1] = self.served_by.code();
        bytes[2..4].copy_from_slice(&self.status.to_le_bytes());
        bytes[4] = u8::from(self.cold_start);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.memory_mb.to_le_bytes());
        bytes[16..32].copy_from_slice(self.invocation.as_bytes());
        bytes[32..48].copy_from_slice(self.tenant.as_bytes());
        bytes[48..64].copy_from_slice(self.function.as_bytes());
        bytes[64..72].copy_from_slice(&self.started_us.to_le_bytes());
        bytes[72..76].copy_from_slice(&self.queue_us.to_le_bytes());
        bytes[76..80].copy_from_slice(&self.cold_us.to_le_bytes());
        bytes[80..88].copy_from_slice(&self.exec_us.to_le_bytes());
        bytes[88..96].copy_from_slice(&self.total_us.to_le_bytes());
        bytes[96..104].copy_from_slice(&self.bytes_in.to_le_bytes());
        bytes[104..112].copy_from_slice(&self.bytes_out.to_le_bytes());
        // Zero says that nobody's code asked, as it does in what was written before this was kept.
        if let Some(caller) = &self.caller {
            bytes[112..128].copy_from_slice(caller.as_bytes());
        }
        bytes
    }

    /// Reads back what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// The format is another one, or a field holds what no release writes.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Result<Self, UsageEventError> {
        if bytes[0] != Self::FORMAT {
            return Err(UsageEventError::Format { found: bytes[0] });
        }
        let served_by = ServedBy::from_code(bytes[1]).ok_or(UsageEventError::ServedBy(bytes[1]))?;
        if bytes[4] > 1 || bytes[5..8] != [0; 3] {
            return Err(UsageEventError::Reserved);
        }
        Ok(Self {
            invocation: InvocationId::from_bytes(array(bytes, 16)),
            tenant: TenantId::from_bytes(array(bytes, 32)),
            function: FunctionId::from_bytes(array(bytes, 48)),
            caller: (bytes[112..] != [0; 16]).then(|| FunctionId::from_bytes(array(bytes, 112))),
            version: u32::from_le_bytes(array(bytes, 8)),
            served_by,
            status: u16::from_le_bytes(array(bytes, 2)),
            started_us: i64::from_le_bytes(array(bytes, 64)),
            queue_us: u32::from_le_bytes(array(bytes, 72)),
            cold_us: u32::from_le_bytes(array(bytes, 76)),
            exec_us: u64::from_le_bytes(array(bytes, 80)),
            total_us: u64::from_le_bytes(array(bytes, 88)),
            memory_mb: u32::from_le_bytes(array(bytes, 12)),
            bytes_in: u64::from_le_bytes(array(bytes, 96)),
            bytes_out: u64::from_le_bytes(array(bytes, 104)),
            cold_start: bytes[4] == 1,
        })
    }
}

/// The `N` bytes at `at`; both are constants in this file, and a round trip test covers each.
fn array<const N: usize>(bytes: &[u8; UsageEvent::LEN], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use proptest::prelude::*;

    fn event() -> impl Strategy<Value = UsageEvent> {
        (
            any::<([u8; 16], [u8; 16], [u8; 16], bool)>(),
            (any::<u32>(), 0u8..5, any::<u16>(), any::<i64>(), any::<u32>(), any::<u32>()),
            (any::<u64>(), any::<u64>(), any::<u32>(), any::<u64>(), any::<u64>(), any::<bool>()),
        )
            .prop_map(|(ids, a, b)| UsageEvent {
                invocation: InvocationId::from_bytes(ids.0),
                tenant: TenantId::from_bytes(ids.1),
                function: FunctionId::from_bytes(ids.2),
                caller: ids.3.then(|| FunctionId::from_bytes([7; 16])),
                version: a.0,
                served_by: ServedBy::from_code(a.1).unwrap(),
                status: a.2,
                started_us: a.3,
                queue_us: a.4,
                cold_us: a.5,
                exec_us: b.0,
                total_us: b.1,
                memory_mb: b.2,
                bytes_in: b.3,
                bytes_out: b.4,
                cold_start: b.5,
            })
    }

    proptest! {
        #[test]
        fn round_trip(event in event()) {
            prop_assert_eq!(UsageEvent::from_bytes(&event.to_bytes()), Ok(event));
        }

        #[test]
        fn any_bytes_are_read_or_refused_and_never_changed(bytes in proptest::collection::vec(any::<u8>(), UsageEvent::LEN)) {
            let mut bytes: [u8; UsageEvent::LEN] = bytes.try_into().unwrap();
            bytes[0] = UsageEvent::FORMAT;
            bytes[1] %= 6;
            bytes[4] %= 3;
            bytes[5..8].fill(0);
            if let Ok(event) = UsageEvent::from_bytes(&bytes) {
                prop_assert_eq!(event.to_bytes(), bytes);
            }
        }
    }

    #[test]
    fn refuses_what_it_did_not_write() {
        type Refused = fn(&UsageEventError) -> bool;
        let cases: [(usize, u8, Refused); 5] = [
            (0, 0, |e| matches!(e, UsageEventError::Format { found: 0 })),
            (0, 2, |e| matches!(e, UsageEventError::Format { found: 2 })),
            (1, 9, |e| matches!(e, UsageEventError::ServedBy(9))),
            (4, 2, |e| matches!(e, UsageEventError::Reserved)),
            (7, 1, |e| matches!(e, UsageEventError::Reserved)),
        ];
        for (at, value, expected) in cases {
            let mut bytes = [0; UsageEvent::LEN];
            bytes[0] = UsageEvent::FORMAT;
            assert!(UsageEvent::from_bytes(&bytes).is_ok());
            bytes[at] = value;
            assert!(expected(&UsageEvent::from_bytes(&bytes).unwrap_err()));
        }
    }
}
