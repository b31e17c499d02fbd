//! Usage: counted exactly once, listed and summed.

use raas_core::{FunctionId, InvocationId, ServedBy, TenantId, TimestampUs, UsageEvent};
use raas_store::{StoreError, UsageDimension, UsageFilter, UsageTotals};
use uuid::Uuid;

use crate::support::{Database, NOW, all, on_both_databases};

on_both_databases!(
    events_are_counted_once,
    raced_batches_are_counted_once,
    batches_out_of_order_are_refused,
    events_are_listed_in_pages,
    events_are_filtered,
    totals_group_and_filter,
    totals_agree_with_the_events,
);

const HOUR_US: i64 = 3_600_000_000;

fn event(tenant: TenantId, function: FunctionId, number: u64) -> UsageEvent {
    UsageEvent {
        invocation: InvocationId::generate(),
        tenant,
        function,
        caller: None,
        version: 1 + (number % 2) as u32,
        served_by: ServedBy::ALL[(number % 5) as usize],
        status: if number % 10 == 3 { 502 } else { 200 },
        started_us: NOW.0 + number as i64 * 1_000_000,
        queue_us: 10,
        cold_us: 0,
        exec_us: 1_000 + number,
        total_us: 2_000,
        memory_mb: 256,
        bytes_in: 5,
        bytes_out: 7,
        cold_start: number.is_multiple_of(4),
    }
}

fn batch(tenant: TenantId, function: FunctionId, sequences: std::ops::Range<u64>) -> Vec<(u64, UsageEvent)> {
    sequences.map(|sequence| (sequence, event(tenant, function, sequence))).collect()
}

fn events(records: &[(u64, UsageEvent)]) -> Vec<UsageEvent> {
    records.iter().map(|(_, event)| *event).collect()
}

async fn list(db: &Database, filter: &UsageFilter, limit: u32) -> Vec<UsageEvent> {
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let (page, next) = db.store.usage_list(filter, cursor, limit).await.unwrap();
        assert!(page.len() <= limit as usize);
        seen.extend(page);
        let Some(next) = next else { return seen };
        cursor = Some(next.to_string().parse().unwrap());
    }
}

async fn calls(db: &Database) -> u64 {
    db.store.usage_totals(&UsageFilter::default(), &[]).await.unwrap().iter().map(|totals| totals.calls).sum()
}

async fn events_are_counted_once(db: Database) {
    let (journal, tenant, function) = (Uuid::new_v4(), TenantId::generate(), FunctionId::generate());
    assert_eq!(db.store.usage_position(journal).await.unwrap(), 0);
    assert_eq!(calls(&db).await, 0);
    let records = batch(tenant, function, 0..100);
    let first = db.store.usage_append(journal, &records[..60]).await.unwrap();
    assert_eq!((first.counted, first.skipped, first.next_sequence), (60, 0, 60));
    let overlapping = db.store.usage_append(journal, &records[30..100]).await.unwrap();
    assert_eq!((overlapping.counted, overlapping.skipped, overlapping.next_sequence), (40, 30, 100));
    let again = db.store.usage_append(journal, &records).await.unwrap();
    assert_eq!((again.counted, again.skipped, again.next_sequence), (0, 100, 100));
    let none = db.store.usage_append(journal, &[]).await.unwrap();
    assert_eq!((none.counted, none.next_sequence), (0, 100));
    assert_eq!(db.store.usage_position(journal).await.unwrap(), 100);
    assert_eq!(list(&db, &UsageFilter::default(), 1_000).await, events(&records));
    assert_eq!(calls(&db).await, 100);

    let gap = db.store.usage_append(journal, &batch(tenant, function, 500..501)).await.unwrap();
    assert_eq!((gap.counted, gap.next_sequence), (1, 501));
    let other = db.store.usage_append(Uuid::new_v4(), &records[..5]).await.unwrap();
    assert_eq!(other.counted, 5, "another journal has its own sequences");
    assert_eq!(calls(&db).await, 106);
}

async fn raced_batches_are_counted_once(db: Database) {
    let (journal, tenant, function) = (Uuid::new_v4(), TenantId::generate(), FunctionId::generate());
    let counted = all((0..8).map(|number| {
        let store = db.store.clone();
        let records = batch(tenant, function, 0..50 + number * 10);
        async move { store.usage_append(journal, &records).await.unwrap().counted }
    }))
    .await;
    assert_eq!(counted.iter().sum::<u64>(), 120);
    assert_eq!(calls(&db).await, 120);
    assert_eq!(list(&db, &UsageFilter::default(), 50).await.len(), 120);
}

async fn batches_out_of_order_are_refused(db: Database) {
    let mut records = batch(TenantId::generate(), FunctionId::generate(), 0..3);
    records.swap(0, 1);
    let refused = db.store.usage_append(Uuid::new_v4(), &records).await.unwrap_err();
    assert!(matches!(refused, StoreError::Invalid { .. }));
    assert!("x".parse::<raas_store::UsageCursor>().is_err());
}

async fn events_are_listed_in_pages(db: Database) {
    let (journal, tenant, function) = (Uuid::new_v4(), TenantId::generate(), FunctionId::generate());
    // More than a block, more than one batch, and more blocks than are fetched at once.
    let records = batch(tenant, function, 0..5_000);
    db.store.usage_append(journal, &records[..4_900]).await.unwrap();
    for tail in records[4_900..].chunks(10) {
        db.store.usage_append(journal, tail).await.unwrap();
    }
    for limit in [1_000, 777] {
        assert!(list(&db, &UsageFilter::default(), limit).await == events(&records));
    }
    let (page, next) = db.store.usage_list(&UsageFilter::default(), None, 100).await.unwrap();
    assert!(page == events(&records[..100]) && next.is_some());
}

async fn events_are_filtered(db: Database) {
    let (one, two) = (TenantId::generate(), TenantId::generate());
    let (f, g) = (FunctionId::generate(), FunctionId::generate());
    let records: Vec<_> = (0..300)
        .map(|number| {
            let (tenant, function) = [(one, f), (one, g), (two, f)][(number % 3) as usize];
            (number, event(tenant, function, number))
        })
        .collect();
    db.store.usage_append(Uuid::new_v4(), &records).await.unwrap();
    let expect = |keep: &dyn Fn(&UsageEvent) -> bool| {
        let mut events = events(&records);
        events.retain(keep);
        events
    };
    let of_one = UsageFilter { tenant: Some(one), ..UsageFilter::default() };
    assert_eq!(list(&db, &of_one, 7).await, expect(&|event| event.tenant == one));
    let of_g = UsageFilter { function: Some(g), ..of_one };
    assert_eq!(list(&db, &of_g, 7).await, expect(&|event| event.function == g));
    let (from, to) = (TimestampUs(NOW.0 + 10_000_000), TimestampUs(NOW.0 + 100_000_000));
    let between = UsageFilter { from: Some(from), to: Some(to), ..of_one };
    let in_range = |event: &UsageEvent| event.tenant == one && (from.0..to.0).contains(&event.started_us);
    assert_eq!(list(&db, &between, 100).await, expect(&in_range));
    let of_nobody = UsageFilter { tenant: Some(TenantId::generate()), ..UsageFilter::default() };
    assert!(list(&db, &of_nobody, 10).await.is_empty());
}

async fn totals_group_and_filter(db: Database) {
    let (tenant, function) = (TenantId::generate(), FunctionId::generate());
    let hour = TimestampUs(NOW.0 - NOW.0.rem_euclid(HOUR_US));
    let mut one = event(tenant, function, 0);
    (one.started_us, one.status, one.cold_start, one.exec_us) = (hour.0, 404, true, 2_000);
    let mut two = one;
    (two.served_by, two.started_us, two.status) = (ServedBy::Hit, hour.0 + HOUR_US, 200);
    let mut three = one;
    (three.status, three.cold_start, three.bytes_in) = (200, false, 100);
    db.store.usage_append(Uuid::new_v4(), &[(0, one), (1, two), (2, three)]).await.unwrap();
    let by_all = [UsageDimension::Tenant, UsageDimension::Function, UsageDimension::ServedBy, UsageDimension::Hour];
    let totals = db.store.usage_totals(&UsageFilter::default(), &by_all).await.unwrap();
    let computed = UsageTotals {
        tenant: Some(tenant),
        function: Some(function),
        caller: None,
        version: None,
        served_by: Some(ServedBy::Computed),
        hour: Some(hour),
        calls: 2,
        errors: 1,
        cold_starts: 1,
        queue_us: 20,
        exec_us: 4_000,
        memory_mb_us: 4_000 * 256,
        bytes_in: 105,
        bytes_out: 14,
    };
    assert_eq!(totals.len(), 2);
    assert_eq!(totals[0], computed);
    assert_eq!((totals[1].served_by, totals[1].calls), (Some(ServedBy::Hit), 1));

    let first_hour = UsageFilter { to: Some(TimestampUs(hour.0 + HOUR_US)), ..UsageFilter::default() };
    let totals = db.store.usage_totals(&first_hour, &[UsageDimension::Version]).await.unwrap();
    assert_eq!(totals.iter().map(|totals| (totals.version, totals.calls)).collect::<Vec<_>>(), [(Some(1), 2)]);
    let second_hour = UsageFilter { from: Some(TimestampUs(hour.0 + HOUR_US + 5)), ..UsageFilter::default() };
    assert_eq!(db.store.usage_totals(&second_hour, &[]).await.unwrap()[0].calls, 1);
    for filter in [
        UsageFilter { tenant: Some(TenantId::generate()), ..UsageFilter::default() },
        UsageFilter { function: Some(FunctionId::generate()), tenant: Some(tenant), ..UsageFilter::default() },
    ] {
        assert_eq!(db.store.usage_totals(&filter, &[]).await.unwrap(), []);
    }
    let of_function = UsageFilter { function: Some(function), tenant: Some(tenant), ..UsageFilter::default() };
    assert_eq!(db.store.usage_totals(&of_function, &[]).await.unwrap()[0].calls, 3);
}

async fn totals_agree_with_the_events(db: Database) {
    let journal = Uuid::new_v4();
    let tenants = [TenantId::generate(), TenantId::generate()];
    let functions: Vec<_> = (0..40).map(|_| FunctionId::generate()).collect();
    let records: Vec<_> = (0..3_000)
        .map(|number| (number, event(tenants[number as usize % 2], functions[number as usize % 40], number * 7)))
        .collect();
    for part in records.chunks(700) {
        db.store.usage_append(journal, part).await.unwrap();
    }
    let by = [UsageDimension::Function, UsageDimension::ServedBy];
    let totals = db.store.usage_totals(&UsageFilter::default(), &by).await.unwrap();
    for totals in &totals {
        let theirs: Vec<_> = events(&records)
            .into_iter()
            .filter(|event| Some(event.function) == totals.function && Some(event.served_by) == totals.served_by)
            .collect();
        assert_eq!(totals.calls, theirs.len() as u64);
        assert_eq!(totals.exec_us, theirs.iter().map(|event| event.exec_us).sum::<u64>());
        assert_eq!(totals.memory_mb_us, theirs.iter().map(|event| event.exec_us * 256).sum::<u64>());
        assert_eq!(totals.errors, theirs.iter().filter(|event| event.status >= 400).count() as u64);
        assert_eq!(totals.cold_starts, theirs.iter().filter(|event| event.cold_start).count() as u64);
    }
    assert_eq!(totals.iter().map(|totals| totals.calls).sum::<u64>(), 3_000);
}
