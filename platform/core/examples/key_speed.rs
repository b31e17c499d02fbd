//! How long a result key takes: `cargo run --release -p raas-core --example key_speed`.
//!
//! Prints nanoseconds for one key of a 60-byte event, from JSON text to key, with the version's constant parts hashed
//! beforehand as the gateway does it.

use raas_core::{
    CanonicalEvent, FunctionId, InvocationId, JsonPointer, KeyPrefix, SharingScope, TenantId, VersionDigest,
};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

const ROUNDS: u32 = 1_000_000;

/// Sixty bytes, members out of order.
const EVENT: &[u8] = br#"{"to":"LAX","from":"JFK","range_km":4500,"id":"0123456789a"}"#;

fn measure(what: &str, mut once: impl FnMut()) {
    (0..ROUNDS / 10).for_each(|_| once());
    let started = Instant::now();
    (0..ROUNDS).for_each(|_| once());
    println!("{what:<28} {:>6} ns", started.elapsed().as_nanos() / u128::from(ROUNDS));
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let prefix = KeyPrefix::new(
        SharingScope::Tenant(TenantId::generate()),
        &VersionDigest::from_bytes([7; 32]),
        0,
        &BTreeMap::new(),
        "",
    );
    let pointers = [JsonPointer::parse("/from")?, JsonPointer::parse("/to")?];
    let event = CanonicalEvent::parse(EVENT)?;
    println!("event of {} bytes, canonical {} bytes", EVENT.len(), event.whole().len());
    measure("parse", || {
        let _ = black_box(CanonicalEvent::parse(black_box(EVENT)));
    });
    measure("hash, whole", || {
        black_box(prefix.whole(black_box(&event)));
    });
    measure("hash, projected", || {
        black_box(prefix.projected(black_box(&event), &pointers));
    });
    measure("text to key, whole", || {
        black_box(CanonicalEvent::parse(black_box(EVENT)).map(|event| prefix.whole(&event)).ok());
    });
    measure("text to key, projected", || {
        black_box(CanonicalEvent::parse(black_box(EVENT)).map(|event| prefix.projected(&event, &pointers)).ok());
    });
    measure("invocation id", || {
        black_box(InvocationId::generate());
    });
    black_box(FunctionId::generate());
    Ok(())
}
