//! Asynchronous invocations.

use std::collections::HashSet;
use std::time::Duration;

use raas_core::{FunctionId, InvocationId, ServedBy, TenantId, TimestampUs};
use raas_store::{Enqueued, IdempotentRequest, InvocationOutcome, InvocationState, NewInvocation, StoreError};

use crate::support::{Database, NOW, all, on_both_databases};

on_both_databases!(
    an_invocation_from_queue_to_outcome,
    claims_take_the_oldest_first,
    no_two_claims_take_the_same,
    an_expired_claim_runs_again_and_commits_once,
    events_over_the_limit_are_refused,
    finished_ones_are_swept,
    a_tenant_may_have_so_many_waiting,
    the_same_request_under_a_key_is_queued_once,
    tenants_take_turns_and_none_holds_everything,
    one_that_is_put_off_waits_and_has_not_been_tried,
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

async fn queue(db: &Database, invocation: &NewInvocation, now: TimestampUs) {
    assert_eq!(db.store.invocation_enqueue(invocation, None, 1000, now).await.unwrap(), Enqueued::Queued);
}

fn outcome() -> InvocationOutcome {
    InvocationOutcome { status: 200, served_by: Some(ServedBy::Computed), body: Some("[1]".into()), error: None }
}

async fn an_invocation_from_queue_to_outcome(db: Database) {
    let tenant = TenantId::generate();
    let invocation = new(tenant);
    queue(&db, &invocation, NOW).await;
    let taken = db.store.invocation_enqueue(&invocation, None, 100, NOW).await.unwrap_err();
    assert!(matches!(taken, StoreError::Conflict { .. }));
    let row = db.store.invocation_get(tenant, invocation.id).await.unwrap();
    assert_eq!((row.state, row.attempt, row.created), (InvocationState::Queued, 0, NOW));
    assert_eq!((row.function, row.version, row.outcome), (invocation.function, 3, None));
    let stranger = db.store.invocation_get(TenantId::generate(), invocation.id).await.unwrap_err();
    assert!(matches!(stranger, StoreError::NotFound { what: "invocation" }));

    let start = NOW.saturating_add(LEASE);
    let claims = db.store.invocation_claim(start, LEASE, 10, 1000).await.unwrap();
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
    queue(&db, &failing, NOW).await;
    let claim = db.store.invocation_claim(NOW, LEASE, 1, 1000).await.unwrap().remove(0);
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
        queue(&db, &invocation, NOW.saturating_add(Duration::from_secs(second))).await;
        ids.push((second, invocation.id));
    }
    ids.sort_unstable();
    let mut claimed = Vec::new();
    for limit in [3, 3, 3] {
        let claims = db.store.invocation_claim(NOW.saturating_add(LEASE), LEASE, limit, 1000).await.unwrap();
        claimed.extend(claims.into_iter().map(|claim| claim.invocation.id));
    }
    assert_eq!(claimed, ids.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
}

async fn no_two_claims_take_the_same(db: Database) {
    const COUNT: usize = 120;
    let tenant = TenantId::generate();
    for _ in 0..COUNT {
        queue(&db, &new(tenant), NOW).await;
    }
    let claimed = all((0..6).map(|_| {
        let store = db.store.clone();
        async move {
            let mut mine = Vec::new();
            loop {
                let claims = store.invocation_claim(NOW, LEASE, 7, 1000).await.unwrap();
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
    queue(&db, &invocation, NOW).await;
    let old = db.store.invocation_claim(NOW, LEASE, 1, 1000).await.unwrap().remove(0);
    assert_eq!(db.store.invocation_requeue_expired(NOW).await.unwrap(), 0, "the lease holds");
    assert!(db.store.invocation_extend(invocation.id, old.fence, NOW, 2 * LEASE).await.unwrap());
    let past_first = NOW.saturating_add(LEASE + Duration::from_secs(1));
    assert_eq!(db.store.invocation_requeue_expired(past_first).await.unwrap(), 0, "it was extended");
    let past_second = NOW.saturating_add(3 * LEASE);
    assert_eq!(db.store.invocation_requeue_expired(past_second).await.unwrap(), 1);
    assert!(!db.store.invocation_finish(invocation.id, old.fence, &outcome(), past_second).await.unwrap());

    let new = db.store.invocation_claim(past_second, LEASE, 1, 1000).await.unwrap().remove(0);
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
    queue(&db, &invocation, NOW).await;
    invocation.id = InvocationId::generate();
    invocation.event.push('1');
    let refused = db.store.invocation_enqueue(&invocation, None, 100, NOW).await.unwrap_err();
    assert!(matches!(refused, StoreError::Invalid { .. }));
}

async fn finished_ones_are_swept(db: Database) {
    let tenant = TenantId::generate();
    let (done, waiting) = (new(tenant), new(tenant));
    queue(&db, &done, NOW).await;
    let claim = db.store.invocation_claim(NOW, LEASE, 1, 1000).await.unwrap().remove(0);
    queue(&db, &waiting, NOW).await;
    db.store.invocation_finish(done.id, claim.fence, &outcome(), NOW).await.unwrap();
    assert_eq!(db.store.invocation_sweep(NOW).await.unwrap(), 0);
    assert_eq!(db.store.invocation_sweep(NOW.saturating_add(LEASE)).await.unwrap(), 1);
    assert!(db.store.invocation_get(tenant, done.id).await.is_err());
    assert!(db.store.invocation_get(tenant, waiting.id).await.is_ok());
}

async fn a_tenant_may_have_so_many_waiting(db: Database) {
    let (tenant, other) = (TenantId::generate(), TenantId::generate());
    let enqueue = async |tenant| db.store.invocation_enqueue(&new(tenant), None, 2, NOW).await.unwrap();
    assert_eq!(enqueue(tenant).await, Enqueued::Queued);
    assert_eq!(enqueue(tenant).await, Enqueued::Queued);
    assert_eq!(enqueue(tenant).await, Enqueued::Full);
    assert_eq!(enqueue(other).await, Enqueued::Queued, "others are not concerned");
    assert_eq!(db.store.invocation_claim(NOW, LEASE, 3, 1).await.unwrap().len(), 2);
    assert_eq!(enqueue(tenant).await, Enqueued::Queued, "what runs does not wait");
}

async fn the_same_request_under_a_key_is_queued_once(db: Database) {
    let tenant = TenantId::generate();
    let request = |key: &str, hash: &str| IdempotentRequest {
        tenant,
        key: key.into(),
        method_path_hash: "path".into(),
        request_hash: hash.into(),
    };
    let enqueue = async |invocation: &NewInvocation, request: &IdempotentRequest, most| {
        db.store.invocation_enqueue(invocation, Some(request), most, NOW).await
    };
    let first = new(tenant);
    assert_eq!(enqueue(&first, &request("a", "1"), 1).await.unwrap(), Enqueued::Queued);
    assert_eq!(enqueue(&new(tenant), &request("a", "1"), 1).await.unwrap(), Enqueued::Repeated(first.id));
    let other = enqueue(&new(tenant), &request("a", "2"), 1).await.unwrap_err();
    assert!(matches!(other, StoreError::Conflict { .. }));
    assert_eq!(enqueue(&new(tenant), &request("b", "1"), 1).await.unwrap(), Enqueued::Full);
    let second = new(tenant);
    assert_eq!(enqueue(&second, &request("b", "1"), 2).await.unwrap(), Enqueued::Queued, "the key was given back");

    let together = all((0..6).map(|_| {
        let (store, request) = (db.store.clone(), request("c", "1"));
        async move { store.invocation_enqueue(&new(tenant), Some(&request), 9, NOW).await.unwrap() }
    }))
    .await;
    assert_eq!(together.iter().filter(|enqueued| **enqueued == Enqueued::Queued).count(), 1);
    assert_eq!(db.store.invocation_claim(NOW, LEASE, 9, 9).await.unwrap().len(), 3);
}

async fn tenants_take_turns_and_none_holds_everything(db: Database) {
    let (many, few) = (TenantId::generate(), TenantId::generate());
    for second in 0..20 {
        queue(&db, &new(many), NOW.saturating_add(Duration::from_secs(second))).await;
    }
    let late = NOW.saturating_add(Duration::from_secs(60));
    for _ in 0..3 {
        queue(&db, &new(few), late).await;
    }
    let claim = async |limit| {
        let claims = db.store.invocation_claim(late, LEASE, limit, 4).await.unwrap();
        let of = |tenant| claims.iter().filter(|claim| claim.invocation.tenant == tenant).count();
        (of(many), of(few))
    };
    assert_eq!(claim(4).await, (2, 2), "in turns");
    assert_eq!(claim(1).await, (1, 0), "the oldest of those with as many running");
    assert_eq!(claim(9).await, (1, 1), "no more than four of one tenant");
    assert_eq!(claim(9).await, (0, 0));
}

async fn one_that_is_put_off_waits_and_has_not_been_tried(db: Database) {
    let tenant = TenantId::generate();
    let invocation = new(tenant);
    queue(&db, &invocation, NOW).await;
    let claim = db.store.invocation_claim(NOW, LEASE, 1, 1).await.unwrap().remove(0);
    let later = NOW.saturating_add(LEASE);
    assert!(db.store.invocation_put_off(invocation.id, claim.fence, later).await.unwrap());
    assert!(!db.store.invocation_put_off(invocation.id, claim.fence, later).await.unwrap(), "once");
    assert!(!db.store.invocation_finish(invocation.id, claim.fence, &outcome(), NOW).await.unwrap());
    let row = db.store.invocation_get(tenant, invocation.id).await.unwrap();
    assert_eq!((row.state, row.attempt), (InvocationState::Queued, 0));
    assert!(db.store.invocation_claim(NOW, LEASE, 1, 1).await.unwrap().is_empty(), "not yet");
    let again = db.store.invocation_claim(later, LEASE, 1, 1).await.unwrap().remove(0);
    assert_eq!((again.invocation.id, again.attempt), (invocation.id, 1));
    assert!(again.fence > claim.fence);
}
