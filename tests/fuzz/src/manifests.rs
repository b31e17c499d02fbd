//! A manifest is read or refused, never a panic; what is read survives its own serialisation.
#![no_main]

use libfuzzer_sys::fuzz_target;
use raas_core::FunctionManifest;

fuzz_target!(|text: &str| {
    if let Ok(manifest) = FunctionManifest::parse(text) {
        let Ok(json) = serde_json_round_trip(&manifest) else { panic!("a manifest that was read cannot be stored") };
        assert_eq!(json, manifest);
    }
});

fn serde_json_round_trip(manifest: &FunctionManifest) -> Result<FunctionManifest, serde_json::Error> {
    serde_json::from_slice(&serde_json::to_vec(manifest)?)
}
