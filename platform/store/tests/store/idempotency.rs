//! Idempotency keys.

use std::time::Duration;

use raas_core::TenantId;
use raas_store::{IdempotencyBegin, IdempotentRequest, StoreError, StoredResponse};

use crate::support::{Database, NOW, all, on_both_databases};

on_both_databases!(
    the_same_request_gets_the_same_answer,
    another_request_is_refused,
    a_race_has_one_winner,
    a_released_key_is_free,
    a_dead_reservation_is_taken_over,
    old_keys_are_forgotten,
);

fn request(tenant: TenantId, body: &str) -> IdempotentRequest {
    IdempotentRequest { tenant, key: "k".into(), method_path_hash: "mp".into(), request_hash: body.into() }
}

fn response() -> StoredResponse {
    StoredResponse { status: 201, body: "{\"id\":\"ü\"}".into() }
}

async fn the_same_request_gets_the_same_answer(db: Database) {
    let request = request(TenantId::generate(), "r");
    let IdempotencyBegin::First(reservation) = db.store.idempotency_begin(&request, NOW).await.unwrap() else {
        panic!()
    };
    assert_eq!(db.store.idempotency_begin(&request, NOW).await.unwrap(), IdempotencyBegin::InProgress);
    db.store.idempotency_complete(&reservation, &response()).await.unwrap();
    let again = db.store.idempotency_begin(&request, NOW).await.unwrap();
    assert_eq!(again, IdempotencyBegin::Replay(response()));
    let twice = db.store.idempotency_complete(&reservation, &response()).await.unwrap_err();
    assert!(matches!(twice, StoreError::Conflict { .. }));

    let elsewhere = IdempotentRequest { tenant: TenantId::generate(), ..request };
    let other = db.store.idempotency_begin(&elsewhere, NOW).await.unwrap();
    assert!(matches!(other, IdempotencyBegin::First(_)), "keys belong to tenants");
}

async fn another_request_is_refused(db: Database) {
    let tenant = TenantId::generate();
    let first = db.store.idempotency_begin(&request(tenant, "one"), NOW).await.unwrap();
    for other in
        [request(tenant, "two"), IdempotentRequest { method_path_hash: "other".into(), ..request(tenant, "one") }]
    {
        let refused = db.store.idempotency_begin(&other, NOW).await.unwrap_err();
        assert!(matches!(refused, StoreError::Conflict { .. }));
    }
    let IdempotencyBegin::First(reservation) = first else { panic!() };
    db.store.idempotency_complete(&reservation, &response()).await.unwrap();
    let refused = db.store.idempotency_begin(&request(tenant, "two"), NOW).await.unwrap_err();
    assert!(matches!(refused, StoreError::Conflict { .. }));
}

async fn a_race_has_one_winner(db: Database) {
    let request = request(TenantId::generate(), "r");
    let begun = all((0..16).map(|_| {
        let (store, request) = (db.store.clone(), request.clone());
        async move { store.idempotency_begin(&request, NOW).await.unwrap() }
    }))
    .await;
    let (won, lost): (Vec<_>, Vec<_>) =
        begun.into_iter().partition(|begun| matches!(begun, IdempotencyBegin::First(_)));
    assert_eq!(won.len(), 1);
    assert!(lost.iter().all(|begun| *begun == IdempotencyBegin::InProgress));
}

async fn a_released_key_is_free(db: Database) {
    let request = request(TenantId::generate(), "r");
    let IdempotencyBegin::First(reservation) = db.store.idempotency_begin(&request, NOW).await.unwrap() else {
        panic!()
    };
    db.store.idempotency_release(&reservation).await.unwrap();
    assert!(matches!(db.store.idempotency_begin(&request, NOW).await.unwrap(), IdempotencyBegin::First(_)));
}

async fn a_dead_reservation_is_taken_over(db: Database) {
    let request = request(TenantId::generate(), "r");
    let IdempotencyBegin::First(dead) = db.store.idempotency_begin(&request, NOW).await.unwrap() else { panic!() };
    let later = NOW.saturating_add(Duration::from_secs(3600));
    let IdempotencyBegin::First(new) = db.store.idempotency_begin(&request, later).await.unwrap() else { panic!() };
    assert_eq!(db.store.idempotency_begin(&request, later).await.unwrap(), IdempotencyBegin::InProgress);
    let late = db.store.idempotency_complete(&dead, &response()).await.unwrap_err();
    assert!(matches!(late, StoreError::Conflict { .. }));
    db.store.idempotency_release(&dead).await.unwrap();
    db.store.idempotency_complete(&new, &response()).await.unwrap();
}

async fn old_keys_are_forgotten(db: Database) {
    let request = request(TenantId::generate(), "r");
    let IdempotencyBegin::First(reservation) = db.store.idempotency_begin(&request, NOW).await.unwrap() else {
        panic!()
    };
    db.store.idempotency_complete(&reservation, &response()).await.unwrap();
    assert_eq!(db.store.idempotency_sweep(NOW).await.unwrap(), 0);
    let later = NOW.saturating_add(Duration::from_secs(86_400));
    assert_eq!(db.store.idempotency_sweep(later).await.unwrap(), 1);
    assert!(matches!(db.store.idempotency_begin(&request, later).await.unwrap(), IdempotencyBegin::First(_)));
}
