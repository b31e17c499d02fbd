//! An event is canonical JSON or refused; what is accepted is also JSON to others, and its key does not depend on spacing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use raas_core::{CanonicalEvent, JsonPointer};

fuzz_target!(|data: &[u8]| {
    let Ok(event) = CanonicalEvent::parse(data) else { return };
    let mut spaced = b" \n".to_vec();
    spaced.extend_from_slice(data);
    spaced.push(b'\t');
    let Ok(again) = CanonicalEvent::parse(&spaced) else { panic!("spacing made an event unacceptable") };
    assert_eq!(event.whole(), again.whole());
    for pointer in ["", "/a", "/0/b"] {
        if let Ok(pointer) = JsonPointer::parse(pointer) {
            let pointers = [pointer];
            assert_eq!(event.project(&pointers), again.project(&pointers));
        }
    }
});
