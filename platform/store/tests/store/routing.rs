//! The load of the routing snapshot.

use std::time::Instant;

use raas_store::{AliasTarget, NewKey};

use crate::support::{Database, NOW, all, deploy, on_both_databases};

on_both_databases!(everything_live_is_loaded, many_functions_load_fast);

async fn everything_live_is_loaded(db: Database) {
    let tenant = db.store.tenant_create("acme", NOW).await.unwrap();
    let key = NewKey { tenant: tenant.id, hash: "h".into(), prefix: "p".into(), name: "n".into(), scopes: vec![] };
    let key = db.store.key_create(key, NOW).await.unwrap();
    let one = db.store.function_deploy(&deploy(tenant.id, "one", "d1"), NOW).await.unwrap();
    db.store.function_deploy(&deploy(tenant.id, "one", "d2"), NOW).await.unwrap();
    let rows = db.store.routing_load().await.unwrap();
    assert_eq!((rows.tenants, rows.keys), (vec![tenant.clone()], vec![key]));
    assert_eq!(rows.functions.iter().map(|row| (row.id, row.tenant)).collect::<Vec<_>>(), [(one.function, tenant.id)]);
    let mut numbers: Vec<_> = rows.versions.iter().map(|row| row.number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(rows.aliases[0].targets, [AliasTarget { version: 2, weight: 1 }]);
}

async fn many_functions_load_fast(db: Database) {
    const FUNCTIONS: usize = 300;
    let tenant = db.store.tenant_create("acme", NOW).await.unwrap().id;
    all((0..FUNCTIONS).map(|number| {
        let store = db.store.clone();
        async move { store.function_deploy(&deploy(tenant, &format!("f{number}"), "d"), NOW).await.unwrap() }
    }))
    .await;
    let began = Instant::now();
    let rows = db.store.routing_load().await.unwrap();
    assert_eq!((rows.functions.len(), rows.versions.len(), rows.aliases.len()), (FUNCTIONS, FUNCTIONS, FUNCTIONS));
    // Far from the aim (10,000 in a fraction of a second, see the example `routing_speed`), near enough to see a query a row.
    assert!(began.elapsed().as_secs() < 5);
}
