//! The form of usage events in a block: records of equal size, each a journal sequence and an encoded event.

use raas_core::UsageEvent;

use crate::StoreError;

const SEQUENCE_BYTES: usize = 8;

/// Most events of a block: a page decodes one or a few blocks, whatever the batch was.
pub(crate) const BLOCK_EVENTS: usize = 2_048;

/// Size of an event as this release encodes it, kept beside each block so that a later release recognises old ones.
pub(crate) const EVENT_BYTES: usize = UsageEvent::LEN;

/// Appends a record to a block.
pub(crate) fn push(block: &mut Vec<u8>, sequence: u64, event: &UsageEvent) {
    block.extend_from_slice(&sequence.to_le_bytes());
    block.extend_from_slice(&event.to_bytes());
}

/// The events of a block in the order of their sequences, from position `skip` on.
pub(crate) fn events(
    block: &[u8],
    event_bytes: usize,
    skip: usize,
) -> Result<impl Iterator<Item = Result<UsageEvent, StoreError>>, StoreError> {
    const CORRUPT: StoreError = StoreError::Corrupt { what: "usage block" };
    let (records, rest) = block.as_chunks::<{ SEQUENCE_BYTES + EVENT_BYTES }>();
    if event_bytes != EVENT_BYTES || !rest.is_empty() {
        return Err(CORRUPT);
    }
    Ok(records.iter().skip(skip).map(|record| {
        let event = record.last_chunk::<EVENT_BYTES>().ok_or(CORRUPT)?;
        UsageEvent::from_bytes(event).map_err(|_| CORRUPT)
    }))
}
