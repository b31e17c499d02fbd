//! Tenants and keys.

use raas_core::{KeyId, TenantId, TimestampUs};
use raas_store::{NewKey, StoreError};

use crate::support::{Database, NOW, all, on_both_databases};

on_both_databases!(tenant_names_are_unique, tenants_come_in_pages, keys_are_listed_and_revoked, keys_need_a_tenant);

async fn tenant_names_are_unique(db: Database) {
    let tenant = db.store.tenant_create("acme", NOW).await.unwrap();
    assert_eq!(db.store.tenant_get(tenant.id).await.unwrap(), tenant);
    assert_eq!(db.store.tenant_get_by_name("acme").await.unwrap(), tenant);
    let again = db.store.tenant_create("acme", NOW).await.unwrap_err();
    assert!(matches!(again, StoreError::Conflict { .. }), "{again:?}");
    assert!(!again.retryable());
    let unknown = db.store.tenant_get(TenantId::generate()).await.unwrap_err();
    assert!(matches!(unknown, StoreError::NotFound { what: "tenant" }));
    assert!(matches!(db.store.tenant_get_by_name("x").await, Err(StoreError::NotFound { .. })));

    let store = &db.store;
    let raced = all((0..8).map(|_| {
        let store = store.clone();
        async move { store.tenant_create("raced", NOW).await.is_ok() }
    }))
    .await;
    assert_eq!(raced.into_iter().filter(|won| *won).count(), 1);
}

async fn tenants_come_in_pages(db: Database) {
    let mut made = Vec::new();
    for number in 0..7 {
        made.push(db.store.tenant_create(&format!("tenant-{number}"), NOW).await.unwrap());
    }
    made.sort_by_key(|tenant| tenant.id);
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = db.store.tenant_list(3, after).await.unwrap();
        assert!(page.len() <= 3);
        let Some(last) = page.last() else { break };
        after = Some(last.id);
        seen.extend(page);
    }
    assert_eq!(seen, made);
}

fn key(tenant: TenantId, hash: &str) -> NewKey {
    NewKey {
        tenant,
        hash: hash.into(),
        prefix: "raas_ab".into(),
        name: "deploy 'n \"quotes\" ü".into(),
        scopes: vec!["invoke".into(), "deploy".into()],
    }
}

async fn keys_are_listed_and_revoked(db: Database) {
    let tenant = db.store.tenant_create("acme", NOW).await.unwrap().id;
    let other = db.store.tenant_create("other", NOW).await.unwrap().id;
    let one = db.store.key_create(key(tenant, "aa"), NOW).await.unwrap();
    let two = db.store.key_create(key(tenant, "bb"), NOW).await.unwrap();
    let theirs = db.store.key_create(key(other, "cc"), NOW).await.unwrap();
    let taken = db.store.key_create(key(other, "aa"), NOW).await.unwrap_err();
    assert!(matches!(taken, StoreError::Conflict { .. }));
    assert_eq!(db.store.key_list(tenant).await.unwrap(), [one.clone(), two.clone()]);

    let stranger = db.store.key_revoke(other, one.id, NOW).await.unwrap_err();
    assert!(matches!(stranger, StoreError::NotFound { what: "key" }));
    assert!(matches!(db.store.key_revoke(tenant, KeyId::generate(), NOW).await, Err(StoreError::NotFound { .. })));
    db.store.key_revoke(tenant, one.id, NOW).await.unwrap();
    db.store.key_revoke(tenant, one.id, TimestampUs(NOW.0 + 5)).await.unwrap();
    assert_eq!(db.store.key_list(tenant).await.unwrap()[0].revoked, Some(NOW), "the first time counts");
    let mut active = db.store.key_list_active().await.unwrap();
    active.sort_by_key(|key| key.hash.clone());
    assert_eq!(active, [two, theirs]);
}

async fn keys_need_a_tenant(db: Database) {
    let error = db.store.key_create(key(TenantId::generate(), "aa"), NOW).await.unwrap_err();
    assert!(matches!(error, StoreError::Conflict { .. }), "{error:?}");
}
