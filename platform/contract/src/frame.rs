//! The frame codec: bytes to frames and back. Pure; knows nothing of sockets or of what a frame means.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes before a frame's payload: length (4), kind (1), request id (8).
pub const FRAME_HEADER_BYTES: usize = 13;

/// The longest payload either side may send, in bytes: the 6 MiB result limit with room for headers.
pub const FRAME_PAYLOAD_MAX: usize = 8 * 1024 * 1024;

/// What a frame is. Values are the wire's; the meaning of each is in docs/contract-handler.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs)]
pub enum Kind {
    Init = 0x01,
    Invoke = 0x02,
    Cancel = 0x03,
    Stop = 0x04,
    Ping = 0x05,
    Answer = 0x06,
    Booted = 0x81,
    Ready = 0x82,
    InitFailed = 0x83,
    Result = 0x84,
    Error = 0x85,
    Log = 0x86,
    Pong = 0x87,
    Chunk = 0x88,
    Call = 0x89,
    Reads = 0x8a,
}

impl Kind {
    fn from_wire(byte: u8) -> Option<Self> {
        Some(match byte {
            0x01 => Self::Init,
            0x02 => Self::Invoke,
            0x03 => Self::Cancel,
            0x04 => Self::Stop,
            0x05 => Self::Ping,
            0x06 => Self::Answer,
            0x81 => Self::Booted,
            0x82 => Self::Ready,
            0x83 => Self::InitFailed,
            0x84 => Self::Result,
            0x85 => Self::Error,
            0x86 => Self::Log,
            0x87 => Self::Pong,
            0x88 => Self::Chunk,
            0x89 => Self::Call,
            0x8a => Self::Reads,
            _ => return None,
        })
    }
}

/// One frame as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub kind: Kind,
    /// The request it belongs to; 0 for the instance itself.
    pub request_id: u64,
    /// Its payload, a view into the receive buffer.
    pub payload: Bytes,
}

/// Why bytes are not a frame. The sender broke the contract; the connection cannot be used any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The announced payload is longer than [`FRAME_PAYLOAD_MAX`].
    #[error("a frame announced {0} bytes; at most {FRAME_PAYLOAD_MAX} are allowed")]
    TooLong(u32),
    /// The kind byte is none of [`Kind`].
    #[error("a frame has the unknown kind {0:#04x}")]
    UnknownKind(u8),
}

impl Frame {
    /// Takes the next whole frame off `buffer`; `Ok(None)` when more bytes are needed.
    ///
    /// # Errors
    /// [`FrameError`] as soon as the header is wrong, before its payload has arrived.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Self>, FrameError> {
        let Some((header, _)) = buffer.split_at_checked(FRAME_HEADER_BYTES) else { return Ok(None) };
        let mut header = header;
        let length = header.get_u32_le();
        let kind_byte = header.get_u8();
        let request_id = header.get_u64_le();
        let kind = Kind::from_wire(kind_byte).ok_or(FrameError::UnknownKind(kind_byte))?;
        let length_bytes = length as usize;
        if length_bytes > FRAME_PAYLOAD_MAX {
            return Err(FrameError::TooLong(length));
        }
        if buffer.len() < FRAME_HEADER_BYTES + length_bytes {
            buffer.reserve(FRAME_HEADER_BYTES + length_bytes - buffer.len());
            return Ok(None);
        }
        buffer.advance(FRAME_HEADER_BYTES);
        Ok(Some(Self { kind, request_id, payload: buffer.split_to(length_bytes).freeze() }))
    }
}

/// Appends a frame whose payload is `parts` one after another.
///
/// # Errors
/// [`FrameError::TooLong`] when the parts are longer than [`FRAME_PAYLOAD_MAX`]; nothing is appended then.
pub(crate) fn encode(out: &mut BytesMut, kind: Kind, request_id: u64, parts: &[&[u8]]) -> Result<(), FrameError> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    if length > FRAME_PAYLOAD_MAX {
        return Err(FrameError::TooLong(u32::try_from(length).unwrap_or(u32::MAX)));
    }
    out.reserve(FRAME_HEADER_BYTES + length);
    // `length` was just checked to fit far below u32::MAX.
    out.put_u32_le(length as u32);
    out.put_u8(kind as u8);
    out.put_u64_le(request_id);
    for part in parts {
        out.put_slice(part);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn kinds() -> impl Strategy<Value = Kind> {
        prop::sample::select(vec![
            Kind::Init,
            Kind::Invoke,
            Kind::Cancel,
            Kind::Result,
            Kind::Error,
            Kind::Log,
            Kind::Chunk,
            Kind::Pong,
        ])
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut(
            frames in prop::collection::vec((kinds(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..200)), 1..8),
            cut in 1usize..64,
        ) {
            let mut wire = BytesMut::new();
            for (kind, id, payload) in &frames {
                let (left, right) = payload.split_at(payload.len() / 2);
                encode(&mut wire, *kind, *id, &[left, right]).unwrap();
            }
            let mut received = BytesMut::new();
            let mut decoded = Vec::new();
            for piece in wire.chunks(cut) {
                received.extend_from_slice(piece);
                while let Some(frame) = Frame::decode(&mut received).unwrap() {
                    decoded.push((frame.kind, frame.request_id, frame.payload.to_vec()));
                }
            }
            prop_assert_eq!(decoded, frames);
            prop_assert!(received.is_empty());
        }

        #[test]
        fn any_bytes_are_frames_an_error_or_unfinished(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut buffer = BytesMut::from(&bytes[..]);
            // Ends because every Ok(Some) takes at least a header off the buffer.
            while let Ok(Some(_)) = Frame::decode(&mut buffer) {}
        }
    }

    #[test]
    fn a_long_frame_is_refused_by_its_header_alone() {
        let mut buffer = BytesMut::new();
        buffer.put_u32_le(FRAME_PAYLOAD_MAX as u32 + 1);
        buffer.put_u8(Kind::Result as u8);
        buffer.put_u64_le(1);
        assert_eq!(Frame::decode(&mut buffer), Err(FrameError::TooLong(FRAME_PAYLOAD_MAX as u32 + 1)));
    }

    #[test]
    fn an_unknown_kind_is_refused() {
        let mut buffer = BytesMut::from(&[0u8, 0, 0, 0, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0][..]);
        assert_eq!(Frame::decode(&mut buffer), Err(FrameError::UnknownKind(0x7f)));
    }
}
