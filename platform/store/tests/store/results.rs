//! Kept results, purges, and shared secrets.

use raas_core::{FunctionId, TimestampUs};
use raas_store::ResultEntry;

use crate::support::{Database, NOW, on_both_databases};

on_both_databases!(
    entries_are_written_replaced_read_and_removed,
    what_is_past_its_end_or_worth_least_goes_first,
    a_later_purge_takes_an_earlier_ones_place,
    a_shared_secret_is_the_first_ones,
    the_routing_fingerprint_changes_with_what_is_routed,
);

fn entry(key: &str, function: u8, bytes: usize, compute_us: u64, keep_s: i64) -> ResultEntry {
    ResultEntry {
        key: key.into(),
        function: FunctionId::from_bytes([function; 16]),
        compute_us,
        keep_until: TimestampUs(NOW.0 + keep_s * 1_000_000),
        entry: vec![function; bytes],
    }
}

async fn entries_are_written_replaced_read_and_removed(database: Database) {
    let store = &database.store;
    store.result_put(&[entry("a", 1, 10, 5, 60), entry("b", 2, 10, 5, 60), entry("c", 2, 0, 5, 60)]).await.unwrap();
    assert_eq!(store.result_get("a").await.unwrap(), Some(vec![1; 10]));
    assert_eq!(store.result_get("c").await.unwrap(), Some(vec![]));
    store.result_put(&[entry("a", 1, 3, 5, 60)]).await.unwrap();
    assert_eq!(store.result_get("a").await.unwrap(), Some(vec![1; 3]));
    assert_eq!(store.result_get("d").await.unwrap(), None);
    let mut functions = store.result_functions().await.unwrap();
    functions.sort();
    assert_eq!(functions, [1, 2].map(|id| FunctionId::from_bytes([id; 16])));
    store.result_remove("a").await.unwrap();
    store.result_remove("a").await.unwrap();
    store.result_remove_function(FunctionId::from_bytes([2; 16])).await.unwrap();
    assert_eq!(store.result_functions().await.unwrap(), []);
}

async fn what_is_past_its_end_or_worth_least_goes_first(database: Database) {
    let store = &database.store;
    let kept = async |key: &str| store.result_get(key).await.unwrap().is_some();
    store.result_put(&[entry("over", 1, 10, 1_000_000, 0), entry("cheap", 1, 1_000, 10, 60)]).await.unwrap();
    assert_eq!(store.result_trim(1_000, NOW).await.unwrap(), 1);
    assert!(!kept("over").await && kept("cheap").await);
    let dear: Vec<_> = (0..300).map(|at| entry(&format!("dear{at}"), 1, 1_000, 1_000_000 + at, 60)).collect();
    store.result_put(&dear).await.unwrap();
    store.result_trim(200_000, NOW).await.unwrap();
    assert!(!kept("cheap").await && !kept("dear0").await && kept("dear299").await);
}

async fn a_later_purge_takes_an_earlier_ones_place(database: Database) {
    let store = &database.store;
    store.result_purge_record("function:a:", TimestampUs(5)).await.unwrap();
    store.result_purge_record("tag:a:1", TimestampUs(7)).await.unwrap();
    store.result_purge_record("function:a:", TimestampUs(9)).await.unwrap();
    store.result_purge_record("function:a:", TimestampUs(4)).await.unwrap();
    let since = async |at| store.result_purges_since(TimestampUs(at)).await.unwrap();
    assert_eq!(since(0).await, [("tag:a:1".into(), TimestampUs(7)), ("function:a:".into(), TimestampUs(9))]);
    assert_eq!(since(8).await.len(), 1);
    assert_eq!(store.result_purges_sweep(TimestampUs(8)).await.unwrap(), 1);
    assert_eq!(since(0).await.len(), 1);
}

async fn a_shared_secret_is_the_first_ones(database: Database) {
    let store = &database.store;
    let (one, two) = tokio::join!(store.shared_secret("results", "one"), store.shared_secret("results", "two"));
    assert_eq!(one.unwrap(), two.unwrap());
    assert_eq!(store.shared_secret("other", "three").await.unwrap(), "three");
}

async fn the_routing_fingerprint_changes_with_what_is_routed(database: Database) {
    let store = &database.store;
    let empty = store.routing_fingerprint().await.unwrap();
    assert_eq!(store.routing_fingerprint().await.unwrap(), empty);
    let tenant = store.tenant_create("acme", NOW).await.unwrap();
    let key = raas_store::NewKey {
        tenant: tenant.id,
        hash: "hash".into(),
        prefix: "raas_".into(),
        name: "key".into(),
        scopes: vec![],
    };
    let key = store.key_create(key, NOW).await.unwrap();
    let made = store.routing_fingerprint().await.unwrap();
    store.key_revoke(tenant.id, key.id, NOW).await.unwrap();
    let revoked = store.routing_fingerprint().await.unwrap();
    assert!(empty != made && made != revoked);
}
