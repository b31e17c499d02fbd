//! What a runtime sends is taken for an attack: any bytes are frames, an error, or unfinished; the cut does not matter.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use raas_contract::Frame;

fn decode_all(buffer: &mut BytesMut, frames: &mut Vec<Frame>) -> bool {
    loop {
        match Frame::decode(buffer) {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => return true,
            Err(_) => return false,
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut whole = Vec::new();
    decode_all(&mut BytesMut::from(data), &mut whole);
    let (mut dribbled, mut buffer) = (Vec::new(), BytesMut::new());
    for byte in data {
        buffer.extend_from_slice(&[*byte]);
        if !decode_all(&mut buffer, &mut dribbled) {
            break;
        }
    }
    assert_eq!(whole, dribbled);
});
