//! Prints how long the load of a routing snapshot takes with 10,000 functions.
//!
//! `cargo run --release -p raas-store --example routing_speed`
#![allow(clippy::unwrap_used)]

use std::time::Instant;

use raas_core::{FunctionManifest, TimestampUs};
use raas_store::{DeployRecord, Store, StoreOptions};

const FUNCTIONS: usize = 10_000;
const NOW: TimestampUs = TimestampUs(1_800_000_000_000_000);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", dir.path().join("routing.db").display());
    let store = Store::open(&url, StoreOptions::default()).await.unwrap();
    let tenant = store.tenant_create("acme", NOW).await.unwrap().id;
    let began = Instant::now();
    for number in 0..FUNCTIONS {
        let name = format!("function-{number}");
        let manifest =
            format!("name = \"{name}\"\nruntime = \"python3\"\nhandler = \"main.handler\"\n[env]\nLEVEL = \"info\"\n");
        let deploy = DeployRecord {
            tenant,
            name: name.parse().unwrap(),
            alias: "live".into(),
            digest: format!("{number:064x}"),
            code_digest: format!("{number:064x}"),
            lock_digest: None,
            image: format!("{number:064x}.python3"),
            package_size_bytes: 1_000,
            manifest: FunctionManifest::parse(&manifest).unwrap(),
        };
        store.function_deploy(&deploy, NOW).await.unwrap();
    }
    println!("{:.2} ms a deploy", began.elapsed().as_secs_f64() * 1e3 / FUNCTIONS as f64);
    for _ in 0..3 {
        let began = Instant::now();
        let rows = store.routing_load().await.unwrap();
        assert_eq!(rows.versions.len(), FUNCTIONS);
        println!("{FUNCTIONS} functions loaded in {:.0} ms", began.elapsed().as_secs_f64() * 1e3);
    }
}
