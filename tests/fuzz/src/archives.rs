//! An upload is unpacked or refused; whatever it says, nothing is written outside its own folder.
#![no_main]

use libfuzzer_sys::fuzz_target;
use raas_packages::{UnpackLimits, unpack_bytes};

fuzz_target!(|data: &[u8]| {
    let Ok(outer) = tempfile::tempdir() else { return };
    let inner = outer.path().join("inner");
    if std::fs::create_dir(&inner).is_err() {
        return;
    }
    let _ = unpack_bytes(data, &inner, &UnpackLimits::default());
    let Ok(beside) = std::fs::read_dir(outer.path()) else { return };
    assert_eq!(beside.count(), 1, "something was written beside the folder");
});
