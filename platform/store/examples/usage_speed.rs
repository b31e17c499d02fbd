//! Prints usage events a second that one drainer appends to SQLite, in batches of 10,000, and what they take on the disk.
//!
//! `cargo run --release -p raas-store --example usage_speed [DATABASE_URL]`
#![allow(clippy::unwrap_used)]

use std::time::Instant;

use raas_core::{FunctionId, InvocationId, ServedBy, TenantId, UsageEvent};
use raas_store::{Store, StoreOptions, UsageDimension, UsageFilter};
use uuid::Uuid;

const BATCH: u64 = 10_000;
const BATCHES: u64 = 100;
const TENANTS: u64 = 20;
const FUNCTIONS: u64 = 100;
const START_US: i64 = 1_800_000_000_000_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("usage.db");
    let url = std::env::args().nth(1).unwrap_or_else(|| format!("sqlite:{}", file.display()));
    let store = Store::open(&url, StoreOptions::default()).await.unwrap();
    let tenants: Vec<_> = (0..TENANTS).map(|_| TenantId::generate()).collect();
    let functions: Vec<_> = (0..FUNCTIONS).map(|_| FunctionId::generate()).collect();
    let event = |number: u64| UsageEvent {
        invocation: InvocationId::generate(),
        tenant: tenants[(number % FUNCTIONS % TENANTS) as usize],
        function: functions[(number % FUNCTIONS) as usize],
        caller: None,
        version: 1,
        served_by: if number.is_multiple_of(3) { ServedBy::Computed } else { ServedBy::Hit },
        status: 200,
        started_us: START_US + (number * 16) as i64,
        queue_us: 5,
        cold_us: 0,
        exec_us: 1_500,
        total_us: 1_700,
        memory_mb: 256,
        bytes_in: 120,
        bytes_out: 900,
        cold_start: false,
    };
    let journal = Uuid::new_v4();
    let mut slowest = 0.0_f64;
    let mut total = 0.0;
    for batch in 0..BATCHES {
        let records: Vec<_> = (batch * BATCH..(batch + 1) * BATCH).map(|number| (number, event(number))).collect();
        let began = Instant::now();
        store.usage_append(journal, &records).await.unwrap();
        let took = began.elapsed().as_secs_f64();
        slowest = slowest.max(took);
        total += took;
    }
    let events = (BATCH * BATCHES) as f64;
    println!(
        "{:.0} events/s ({:.1} ms a batch of {BATCH}, slowest {:.1} ms)",
        events / total,
        total * 1e3 / BATCHES as f64,
        slowest * 1e3
    );
    if let Ok(metadata) = std::fs::metadata(&file) {
        println!("{:.0} bytes an event on the disk", metadata.len() as f64 / events);
    }
    let began = Instant::now();
    let by = [UsageDimension::Function, UsageDimension::ServedBy];
    let rows = store.usage_totals(&UsageFilter::default(), &by).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.calls).sum::<u64>(), BATCH * BATCHES);
    println!("totals in {:.2} ms ({} rows)", began.elapsed().as_secs_f64() * 1e3, rows.len());
    let began = Instant::now();
    let filter = UsageFilter { tenant: Some(tenants[7]), ..UsageFilter::default() };
    let (page, next) = store.usage_list(&filter, None, 100).await.unwrap();
    assert!(page.len() == 100 && next.is_some());
    println!("a page of 100 events in {:.2} ms", began.elapsed().as_secs_f64() * 1e3);
}
