//! Asynchronous invocations.

use std::collections::HashSet;
use std::time::Duration;

use raas_core::{FunctionId, InvocationId, ServedBy, TenantId};
use raas_store::{InvocationOutcome, InvocationState, NewInvocation, StoreError};

use crate::support::{Database, NOW, all, on_both_databases};

on_both_databases!(
    an_invocation_from_queue_to_outcome,
    claims_take_the_oldest_first,
    no_two_claims_take_the_same,
    an_expired_claim_runs_again_and_commits_once,
    events_over_the_limit_are_refused,
    finished_ones_are_swept,
);

const LEASE: Duration = Duration::from_secs(60);

fn new(tenant: TenantId) -> NewInvocation {
    NewInvocation {
        id: InvocationId::generate(),
        tenant,
        function: FunctionId::generate(),
        version: 3,
        event: "{\"a\":[1,2.5,\"ü\"]}".into(),
    }
}

fn outcome() -> InvocationOutcome {
    InvocationOutcome { status: 200, served_by: Some(ServedBy::Computed), body: Some("[1]".into()), error: None }
}

async fn an_invocation_from_queue_to_outcome(db: Database) {
    let tenant = TenantId::generate();
    let invocation = new(tenant);
    db.store.invocation_enqueue(&invocation, NOW).await.unwrap();
    let taken = db.store.invocation_enqueue(&invocation, NOW).await.unwrap_err();
    assert!(matches!(taken, StoreError::Conflict { .. }));
    let row = db.store.invocation_get(tenant, invocation.id).await.unwrap();
    assert_eq!((row.state, row.attempt, row.created), (InvocationState::Queued, 0, NOW));
    assert_eq!((row.function, row.version, row.outcome), (invocation.function, 3, None));
    let stranger = db.store.invocation_get(TenantId::generate(), invocation.id).await.unwrap_err();
    assert!(matches!(stranger, StoreError::NotFound { what: "invocation" }));

    let start = NOW.saturating_add(LEASE);
    let claims = db.store.invocation_claim(start, LEASE, 10).await.unwrap();
    assert_eq!(claims.len(), 1);
    assert_eq!((&claims[0].invocation, claims[0].attempt, claims[0].created), (&invocation, 1, NOW));
    let row = db.store.invocation_get(tenant, invocation.id).await.unwrap();
    assert_eq!((row.state, row.attempt, row.started), (InvocationState::Running, 1, Some(start)));

    let end = start.saturating_add(LEASE);
    assert!(db.store.invocation_finish(invocation.id, claims[0].fence, &outcome(), end).await.unwrap());
    assert!(!db.store.invocation_finish(invocation.id, claims[0].fence, &outcome(), end).await.unwrap(), "once");
    let row = db.store.invocation_get(tenant, invocation.id).await.unwrap();
    assert_eq!((row.state, row.finished, row.outcome), (InvocationState::Done, Some(end), Some(outcome())));

    let failing = new(tenant);
    db.store.invocation_enqueue(&failing, NOW).await.unwrap();
    let claim = db.store.invocation_claim(NOW, LEASE, 1).await.unwrap().remove(0);
    let failure =
        InvocationOutcome { status: 502, served_by: None, body: None, error: Some("{\"code\":\"x\"}".into()) };
    assert!(db.store.invocation_finish(failing.id, claim.fence, &failure, end).await.unwrap());
    assert_eq!(db.store.invocation_get(tenant, failing.id).await.unwrap().outcome, Some(failure));
}

async fn claims_take_the_oldest_first(db: Database) {
    let tenant = TenantId::generate();
    let mut ids = Vec::new();
    for second in [3, 1, 2, 0] {
        let invocation = new(tenant);
        db.store.invocation_enqueue(&invocation, NOW.saturating_add(Duration::from_secs(second))).await.unwrap();
        ids.push((second, invocation.id));
    }
    ids.sort_unstable();
    let mut claimed = Vec::new();
    for limit in [3, 3, 3] {
        let claims = db.store.invocation_claim(NOW, LEASE, limit).await.unwrap();
        claimed.extend(claims.into_iter().map(|claim| claim.invocation.id));
    }
    assert_eq!(claimed, ids.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
}

async fn no_two_claims_take_the_same(db: Database) {
    const COUNT: usize = 120;
    let tenant = TenantId::generate();
    for _ in 0..COUNT {
        db.store.invocation_enqueue(&new(tenant), NOW).await.unwrap();
    }
    let claimed = all((0..6).map(|_| {
        let store = db.store.clone();
        async move {
            let mut mine = Vec::new();
            loop {
                let claims = store.invocation_claim(NOW, LEASE, 7).await.unwrap();
                if claims.is_empty() {
                    return mine;
                }
                mine.extend(claims.into_iter().map(|claim| claim.invocation.id));
            }
        }
    }))
    .await;
    let claimed: Vec<_> = claimed.into_iter().flatten().collect();
    assert_eq!(claimed.len(), COUNT);
    assert_eq!(claimed.iter().collect::<HashSet<_>>().len(), COUNT);
}

async fn an_expired_claim_runs_again_and_commits_once(db: Database) {
    let tenant = TenantId::generate();
    let invocation = new(tenant);
    db.store.invocation_enqueue(&invocation, NOW).await.unwrap();
    let old = db.store.invocation_claim(NOW, LEASE, 1).await.unwrap().remove(0);
    assert_eq!(db.store.invocation_requeue_expired(NOW).await.unwrap(), 0, "the lease holds");
    assert!(db.store.invocation_extend(invocation.id, old.fence, NOW, 2 * LEASE).await.unwrap());
    let past_first = NOW.saturating_add(LEASE + Duration::from_secs(1));
    assert_eq!(db.store.invocation_requeue_expired(past_first).await.unwrap(), 0, "it was extended");
    let past_second = NOW.saturating_add(3 * LEASE);
    assert_eq!(db.store.invocation_requeue_expired(past_second).await.unwrap(), 1);
    assert!(!db.store.invocation_finish(invocation.id, old.fence, &outcome(), past_second).await.unwrap());

    let new = db.store.invocation_claim(past_second, LEASE, 1).await.unwrap().remove(0);
    assert_eq!((new.invocation.id, new.attempt), (invocation.id, 2));
    assert!(new.fence > old.fence);
    let stale = InvocationOutcome { status: 500, ..outcome() };
    assert!(!db.store.invocation_finish(invocation.id, old.fence, &stale, past_second).await.unwrap());
    assert!(!db.store.invocation_extend(invocation.id, old.fence, past_second, LEASE).await.unwrap());
    assert!(db.store.invocation_finish(invocation.id, new.fence, &outcome(), past_second).await.unwrap());
    let row = db.store.invocation_get(tenant, invocation.id).await.unwrap();
    assert_eq!(row.outcome, Some(outcome()));
    assert_eq!(db.store.invocation_requeue_expired(past_second.saturating_add(LEASE * 9)).await.unwrap(), 0);
}

async fn events_over_the_limit_are_refused(db: Database) {
    let mut invocation = new(TenantId::generate());
    invocation.event = "1".repeat(1024 * 1024);
    db.store.invocation_enqueue(&invocation, NOW).await.unwrap();
    invocation.id = InvocationId::generate();
    invocation.event.push('1');
    let refused = db.store.invocation_enqueue(&invocation, NOW).await.unwrap_err();
    assert!(matches!(refused, StoreError::Invalid { .. }));
}

async fn finished_ones_are_swept(db: Database) {
    let tenant = TenantId::generate();
    let (done, waiting) = (new(tenant), new(tenant));
    db.store.invocation_enqueue(&done, NOW).await.unwrap();
    let claim = db.store.invocation_claim(NOW, LEASE, 1).await.unwrap().remove(0);
    db.store.invocation_enqueue(&waiting, NOW).await.unwrap();
    db.store.invocation_finish(done.id, claim.fence, &outcome(), NOW).await.unwrap();
    assert_eq!(db.store.invocation_sweep(NOW).await.unwrap(), 0);
    assert_eq!(db.store.invocation_sweep(NOW.saturating_add(LEASE)).await.unwrap(), 1);
    assert!(db.store.invocation_get(tenant, done.id).await.is_err());
    assert!(db.store.invocation_get(tenant, waiting.id).await.is_ok());
}
