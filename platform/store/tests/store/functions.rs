//! Deploys, functions, versions and aliases.

use std::collections::HashSet;

use raas_core::{TenantId, TimestampUs};
use raas_store::{AliasTarget, Deployed, StoreError};

use crate::support::{Database, NOW, all, deploy, manifest, name, on_both_databases};

on_both_databases!(
    deploying_numbers_versions_by_digest,
    deploys_at_once_get_distinct_versions,
    the_same_deploy_at_once_is_one_version,
    deleting_frees_the_name,
    functions_come_in_pages,
    versions_come_newest_first,
    aliases_point_at_existing_versions,
    other_tenants_see_nothing,
    deploys_need_a_tenant,
);

async fn tenant(db: &Database) -> TenantId {
    db.store.tenant_create("acme", NOW).await.unwrap().id
}

async fn deploying_numbers_versions_by_digest(db: Database) {
    let tenant = tenant(&db).await;
    let first = db.store.function_deploy(&deploy(tenant, "route", "d1"), NOW).await.unwrap();
    assert_eq!((first.version, first.created), (1, true));
    let second = db.store.function_deploy(&deploy(tenant, "route", "d2"), NOW).await.unwrap();
    assert_eq!(second, Deployed { function: first.function, version: 2, created: true });
    let live = |db: &Database| {
        let store = db.store.clone();
        async move { store.alias_list(tenant, &name("route")).await.unwrap()[0].targets.clone() }
    };
    assert_eq!(live(&db).await, [AliasTarget { version: 2, weight: 1 }]);

    let back = db.store.function_deploy(&deploy(tenant, "route", "d1"), NOW).await.unwrap();
    assert_eq!(back, Deployed { function: first.function, version: 1, created: false });
    assert_eq!(live(&db).await, [AliasTarget { version: 1, weight: 1 }]);
    let third = db.store.function_deploy(&deploy(tenant, "route", "d3"), NOW).await.unwrap();
    assert_eq!(third.version, 3);

    let stored = db.store.version_get(tenant, &name("route"), 2).await.unwrap();
    assert_eq!((stored.function, stored.number), (first.function, 2));
    assert_eq!((stored.digest.as_str(), stored.code_digest.as_str(), stored.lock_digest), ("d2", "code-d2", None));
    assert_eq!(stored.image, "image-d2");
    assert_eq!((stored.package_size_bytes, stored.manifest, stored.created), (1234, manifest("route"), NOW));

    let mut staged = deploy(tenant, "route", "d4");
    staged.alias = "staging".into();
    db.store.function_deploy(&staged, NOW).await.unwrap();
    assert_eq!(live(&db).await, [AliasTarget { version: 3, weight: 1 }], "only the named alias moves");
    staged.alias = "7".into();
    assert!(matches!(db.store.function_deploy(&staged, NOW).await, Err(StoreError::Invalid { .. })));
}

async fn deploys_at_once_get_distinct_versions(db: Database) {
    let tenant = tenant(&db).await;
    let deployed = all((0..12).map(|number| {
        let store = db.store.clone();
        async move { store.function_deploy(&deploy(tenant, "route", &format!("d{number}")), NOW).await.unwrap() }
    }))
    .await;
    let functions: HashSet<_> = deployed.iter().map(|deployed| deployed.function).collect();
    assert_eq!(functions.len(), 1, "one function");
    let mut versions: Vec<_> = deployed.iter().map(|deployed| deployed.version).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=12).collect::<Vec<_>>());
}

async fn the_same_deploy_at_once_is_one_version(db: Database) {
    let tenant = tenant(&db).await;
    let deployed = all((0..8).map(|_| {
        let store = db.store.clone();
        async move { store.function_deploy(&deploy(tenant, "route", "same"), NOW).await.unwrap() }
    }))
    .await;
    assert!(deployed.iter().all(|deployed| deployed.version == 1));
    assert_eq!(deployed.iter().filter(|deployed| deployed.created).count(), 1);
}

async fn deleting_frees_the_name(db: Database) {
    let tenant = tenant(&db).await;
    let route = name("route");
    let old = db.store.function_deploy(&deploy(tenant, "route", "d1"), NOW).await.unwrap();
    assert_eq!(db.store.function_delete(tenant, &route, NOW).await.unwrap(), old.function);
    for error in [
        db.store.function_get(tenant, &route).await.unwrap_err(),
        db.store.function_delete(tenant, &route, NOW).await.unwrap_err(),
        db.store.version_get(tenant, &route, 1).await.unwrap_err(),
        db.store.version_list(tenant, &route, 10, None).await.unwrap_err(),
        db.store.alias_list(tenant, &route).await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::NotFound { what: "function" }), "{error:?}");
    }
    let rows = db.store.routing_load().await.unwrap();
    assert!(rows.functions.is_empty() && rows.versions.is_empty() && rows.aliases.is_empty());

    let new = db.store.function_deploy(&deploy(tenant, "route", "d1"), NOW).await.unwrap();
    assert_ne!(new.function, old.function);
    assert_eq!((new.version, new.created), (1, true), "nothing of the old one is reached");
}

async fn functions_come_in_pages(db: Database) {
    let tenant = tenant(&db).await;
    for letter in ["d", "a", "c", "e", "b"] {
        db.store.function_deploy(&deploy(tenant, letter, "x"), NOW).await.unwrap();
    }
    let first = db.store.function_list(tenant, 2, None).await.unwrap();
    let names = |rows: &[raas_store::FunctionRow]| rows.iter().map(|row| row.name.to_string()).collect::<Vec<_>>();
    assert_eq!(names(&first), ["a", "b"]);
    let second = db.store.function_list(tenant, 10, Some(&first[1].name)).await.unwrap();
    assert_eq!(names(&second), ["c", "d", "e"]);
    assert_eq!(db.store.function_get(tenant, &name("c")).await.unwrap(), second[0]);
}

async fn versions_come_newest_first(db: Database) {
    let tenant = tenant(&db).await;
    for number in 1..=5 {
        db.store.function_deploy(&deploy(tenant, "route", &format!("d{number}")), NOW).await.unwrap();
    }
    let route = name("route");
    let numbers = |rows: Vec<raas_store::VersionRow>| rows.iter().map(|row| row.number).collect::<Vec<_>>();
    assert_eq!(numbers(db.store.version_list(tenant, &route, 3, None).await.unwrap()), [5, 4, 3]);
    assert_eq!(numbers(db.store.version_list(tenant, &route, 3, Some(3)).await.unwrap()), [2, 1]);
    let unknown = db.store.version_get(tenant, &route, 6).await.unwrap_err();
    assert!(matches!(unknown, StoreError::NotFound { what: "version" }));
}

async fn aliases_point_at_existing_versions(db: Database) {
    let tenant = tenant(&db).await;
    let route = name("route");
    for digest in ["d1", "d2"] {
        db.store.function_deploy(&deploy(tenant, "route", digest), NOW).await.unwrap();
    }
    let target = |version, weight| AliasTarget { version, weight };
    let later = TimestampUs(NOW.0 + 1);
    let split = [target(1, 90), target(2, 10)];
    let set = db.store.alias_set(tenant, &route, "canary", &split, later).await.unwrap();
    assert_eq!((set.targets.as_slice(), set.updated), (split.as_slice(), later));
    let listed = db.store.alias_list(tenant, &route).await.unwrap();
    assert_eq!(listed.iter().map(|row| row.name.as_str()).collect::<Vec<_>>(), ["canary", "live"]);
    assert_eq!(listed[0], set);

    let unknown = db.store.alias_set(tenant, &route, "canary", &[target(3, 1)], later).await.unwrap_err();
    assert!(matches!(unknown, StoreError::NotFound { what: "version" }));
    let eleven: Vec<_> = (1..=11).map(|version| target(version, 1)).collect();
    for targets in [&[][..], &[target(1, 0)], &[target(1, 1), target(1, 2)], &eleven] {
        let refused = db.store.alias_set(tenant, &route, "canary", targets, later).await.unwrap_err();
        assert!(matches!(refused, StoreError::Invalid { .. }), "{targets:?}");
    }
    for alias in ["", "1", "a b", "ä", &"x".repeat(65)] {
        let refused = db.store.alias_set(tenant, &route, alias, &[target(1, 1)], later).await.unwrap_err();
        assert!(matches!(refused, StoreError::Invalid { .. }), "{alias}");
    }
    assert_eq!(db.store.alias_list(tenant, &route).await.unwrap(), listed, "refusals change nothing");
    db.store.alias_delete(tenant, &route, "canary").await.unwrap();
    let gone = db.store.alias_delete(tenant, &route, "canary").await.unwrap_err();
    assert!(matches!(gone, StoreError::NotFound { what: "alias" }));
}

async fn other_tenants_see_nothing(db: Database) {
    let ours = tenant(&db).await;
    let other = db.store.tenant_create("other", NOW).await.unwrap().id;
    let route = name("route");
    db.store.function_deploy(&deploy(ours, "route", "d1"), NOW).await.unwrap();
    let targets = [AliasTarget { version: 1, weight: 1 }];
    for error in [
        db.store.function_get(other, &route).await.unwrap_err(),
        db.store.function_delete(other, &route, NOW).await.unwrap_err(),
        db.store.version_get(other, &route, 1).await.unwrap_err(),
        db.store.alias_set(other, &route, "live", &targets, NOW).await.unwrap_err(),
        db.store.alias_delete(other, &route, "live").await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::NotFound { what: "function" }), "{error:?}");
    }
    assert!(db.store.function_list(other, 10, None).await.unwrap().is_empty());
    let theirs = db.store.function_deploy(&deploy(other, "route", "d1"), NOW).await.unwrap();
    assert_eq!(theirs.version, 1, "the same name in another tenant is another function");
}

async fn deploys_need_a_tenant(db: Database) {
    let error = db.store.function_deploy(&deploy(TenantId::generate(), "route", "d1"), NOW).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound { what: "tenant" }), "{error:?}");
}
