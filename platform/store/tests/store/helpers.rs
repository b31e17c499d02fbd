//! Helper versions, instances, state and training runs.

use std::collections::BTreeMap;

use raas_core::{HelperInstanceId, HelperManifest, TenantId, TimestampUs};
use raas_store::{
    HelperInstanceRow, HelperMeters, HelperPublish, HelperPublished, HelperVersionQuery, KeyLease, NewHelperInstance,
    StateCommit, StateForm, StateWrite, StoreError, TrainingOutcome,
};

use crate::support::{Database, NOW, all, name, on_both_databases};

on_both_databases!(
    a_version_is_published_once,
    the_newest_version_is_the_highest_release,
    instances_are_made_listed_changed_and_deleted,
    state_is_written_read_listed_and_removed,
    a_commit_over_the_quota_changes_nothing,
    commits_of_many_do_not_mind_each_other,
    writes_at_once_are_all_there_and_counted,
    state_past_its_time_is_gone_and_gives_its_room_back,
    training_runs_end_or_are_abandoned,
    what_instances_use_adds_up_by_the_hour,
    a_key_has_one_holder_and_old_ones_write_nothing,
    keys_of_a_platform_are_given_back_and_old_ones_forgotten,
);

fn publish(tenant: TenantId, version: &str, digest: &str) -> HelperPublish {
    let manifest = format!(
        "name = \"geo\"\nversion = \"{version}\"\nsummary = \"Routes\"\nruntime = \"python3\"\nentry = \"geo:Geo\"\n"
    );
    HelperPublish {
        tenant,
        name: name("geo"),
        version: version.into(),
        digest: digest.into(),
        code_digest: format!("code-{digest}"),
        lock_digest: None,
        image: format!("image-{digest}"),
        package_size_bytes: 99,
        manifest: HelperManifest::parse(&manifest).unwrap(),
        schemas: BTreeMap::from([("args.json".into(), "{}".into())]),
    }
}

async fn instance(db: &Database, instance_name: &str) -> HelperInstanceRow {
    let tenant = match db.store.tenant_get_by_name("acme").await {
        Ok(tenant) => tenant.id,
        Err(_) => db.store.tenant_create("acme", NOW).await.unwrap().id,
    };
    let helper = db.store.helper_publish(&publish(tenant, "1.0.0", "d1"), NOW).await.unwrap().helper;
    let new = NewHelperInstance {
        tenant,
        name: name(instance_name),
        helper,
        publisher: "acme".into(),
        helper_name: "geo".into(),
        version: "1.0.0".into(),
        config: r#"{"range":1}"#.into(),
        bindings: BTreeMap::from([("maps".into(), "my-maps".into())]),
    };
    db.store.helper_instance_create(&new, NOW).await.unwrap()
}

fn put(key: &str, value: &[u8]) -> StateWrite {
    StateWrite::Put { key: key.into(), form: StateForm::Bytes, value: value.to_vec(), ttl_ms: None }
}

fn brief(key: &str, value: &[u8], ttl_ms: u64) -> StateWrite {
    StateWrite::Put { key: key.into(), form: StateForm::Json, value: value.to_vec(), ttl_ms: Some(ttl_ms) }
}

fn delete(key: &str) -> StateWrite {
    StateWrite::Delete { key: key.into() }
}

fn of(instance: HelperInstanceId, writes: Vec<StateWrite>) -> StateCommit {
    StateCommit { instance, writes, quota_bytes: 1000, key: None }
}

async fn commit(db: &Database, id: HelperInstanceId, writes: Vec<StateWrite>) -> Result<(), StoreError> {
    db.store.helper_state_commit_many(&[of(id, writes)], NOW).await.unwrap().remove(0)
}

async fn keys(db: &Database, id: HelperInstanceId, prefix: &str, now: TimestampUs) -> Vec<String> {
    let entries = db.store.helper_state_list(id, prefix, 100, None, now).await.unwrap();
    entries.into_iter().map(|entry| entry.key).collect()
}

async fn size(db: &Database, id: HelperInstanceId) -> u64 {
    db.store.helper_instance_get_by_id(id).await.unwrap().state_bytes
}

fn later(ms: i64) -> TimestampUs {
    TimestampUs(NOW.0 + ms * 1000)
}

async fn a_version_is_published_once(db: Database) {
    let tenant = db.store.tenant_create("acme", NOW).await.unwrap().id;
    let first = db.store.helper_publish(&publish(tenant, "1.0.0", "d1"), NOW).await.unwrap();
    assert!(first.created);
    let again = db.store.helper_publish(&publish(tenant, "1.0.0", "d1"), later(1)).await.unwrap();
    assert_eq!(again, HelperPublished { helper: first.helper, created: false });
    let other = db.store.helper_publish(&publish(tenant, "1.0.0", "d2"), NOW).await;
    assert!(matches!(other, Err(StoreError::Conflict { .. })), "{other:?}");
    let stored = db.store.helper_version_get(first.helper, HelperVersionQuery::Exactly("1.0.0")).await.unwrap();
    let expected = publish(tenant, "1.0.0", "d1");
    assert_eq!((stored.digest, stored.image, stored.package_size_bytes), ("d1".into(), "image-d1".into(), 99));
    assert_eq!((stored.manifest, stored.schemas, stored.created), (expected.manifest, expected.schemas, NOW));
    assert_eq!(db.store.helper_images().await.unwrap(), ["image-d1"]);
    let stranger = db.store.tenant_create("other", NOW).await.unwrap().id;
    assert!(matches!(db.store.helper_get(stranger, "geo").await, Err(StoreError::NotFound { .. })));
    assert!(db.store.helper_list(stranger).await.unwrap().is_empty());
    assert_eq!(db.store.helper_list(tenant).await.unwrap()[0].name, "geo");
}

async fn the_newest_version_is_the_highest_release(db: Database) {
    let tenant = db.store.tenant_create("acme", NOW).await.unwrap().id;
    let mut helper = None;
    for version in ["1.9.0", "1.10.0", "2.0.0-rc.1", "1.2.0"] {
        helper = Some(db.store.helper_publish(&publish(tenant, version, version), NOW).await.unwrap().helper);
    }
    let helper = helper.unwrap();
    let newest = db.store.helper_version_get(helper, HelperVersionQuery::Newest).await.unwrap();
    assert_eq!(newest.version, "1.10.0");
    let listed = db.store.helper_version_list(helper).await.unwrap();
    let listed: Vec<_> = listed.iter().map(|row| row.version.as_str()).collect();
    assert_eq!(listed, ["2.0.0-rc.1", "1.10.0", "1.9.0", "1.2.0"]);
    let missing = db.store.helper_version_get(helper, HelperVersionQuery::Exactly("3.0.0")).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })));
}

async fn instances_are_made_listed_changed_and_deleted(db: Database) {
    let mut row = instance(&db, "mine").await;
    assert_eq!((row.data_version, row.state.as_str(), row.state_bytes), (1, "creating", 0));
    assert_eq!(db.store.helper_instance_get_by_id(row.id).await.unwrap(), row);
    assert_eq!(db.store.helper_instance_list(row.tenant).await.unwrap(), [row.clone()]);
    row.config = "{}".into();
    row.data_version = 2;
    row.previous_version = Some("0.9.0".into());
    row.state = "stopped".into();
    row.shared_with = vec![TenantId::generate()];
    db.store.helper_instance_update(&row, later(1)).await.unwrap();
    let all = db.store.helper_instance_load_all().await.unwrap();
    assert_eq!((all.len(), &all[0].0, all[0].1.digest.as_str()), (1, &row, "d1"));
    commit(&db, row.id, vec![put("k", b"v")]).await.unwrap();
    db.store.helper_instance_delete(row.id, later(2)).await.unwrap();
    assert!(matches!(db.store.helper_instance_get_by_id(row.id).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(db.store.helper_instance_update(&row, NOW).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(db.store.helper_instance_delete(row.id, NOW).await, Err(StoreError::NotFound { .. })));
    assert_eq!(db.store.helper_state_sweep(NOW).await.unwrap(), 1, "its state goes with it");
    assert!(keys(&db, row.id, "", NOW).await.is_empty());
    assert!(matches!(commit(&db, row.id, vec![put("k", b"v")]).await, Err(StoreError::NotFound { .. })));
    let again = instance(&db, "mine").await;
    assert_ne!(again.id, row.id, "the name is free");
}

async fn state_is_written_read_listed_and_removed(db: Database) {
    let id = instance(&db, "mine").await.id;
    let other = instance(&db, "other").await.id;
    commit(&db, id, vec![put("b", b"2"), put("a/1", &[0, 255]), put("ä", b"umlaut"), put("a/2", b"")]).await.unwrap();
    let read = db.store.helper_state_get(id, "a/1", NOW).await.unwrap().unwrap();
    assert_eq!((read.value, read.form, read.expires, read.updated), (vec![0, 255], StateForm::Bytes, None, NOW));
    assert_eq!(keys(&db, id, "", NOW).await, ["a/1", "a/2", "b", "ä"], "in the order of their bytes");
    assert_eq!(keys(&db, id, "a/", NOW).await, ["a/1", "a/2"]);
    let after = db.store.helper_state_list(id, "a/", 1, Some("a/1"), NOW).await.unwrap();
    assert_eq!((after.len(), after[0].key.as_str()), (1, "a/2"));
    commit(&db, id, vec![put("b", b"3"), delete("a/1"), delete("never there")]).await.unwrap();
    assert_eq!(db.store.helper_state_get(id, "b", NOW).await.unwrap().unwrap().value, b"3");
    assert_eq!(db.store.helper_state_get(id, "a/1", NOW).await.unwrap(), None);
    assert!(keys(&db, other, "", NOW).await.is_empty(), "instances do not see each other's");
    assert_eq!(size(&db, id).await, ("b3".len() + "a/2".len() + "äumlaut".len()) as u64);
}

async fn a_commit_over_the_quota_changes_nothing(db: Database) {
    let id = instance(&db, "mine").await.id;
    commit(&db, id, vec![put("a", &[1; 600])]).await.unwrap();
    let over = commit(&db, id, vec![put("b", b"small"), put("c", &[1; 600])]).await;
    assert!(matches!(over, Err(StoreError::Quota { limit_bytes: 1000 })), "{over:?}");
    assert_eq!((keys(&db, id, "", NOW).await, size(&db, id).await), (vec!["a".to_owned()], 601));
    // What replaces or makes room is taken.
    commit(&db, id, vec![put("a", &[2; 900])]).await.unwrap();
    commit(&db, id, vec![delete("a"), put("c", &[1; 600])]).await.unwrap();
    assert_eq!(size(&db, id).await, 601);
}

async fn commits_of_many_do_not_mind_each_other(db: Database) {
    let (one, two) = (instance(&db, "one").await.id, instance(&db, "two").await.id);
    let nobody = HelperInstanceId::generate();
    let commits = [
        of(one, vec![put("k", b"1")]),
        of(two, vec![put("k", &[0; 2000])]),
        of(nobody, vec![put("k", b"1")]),
        of(two, vec![put("k", b"2")]),
    ];
    let outcomes = db.store.helper_state_commit_many(&commits, NOW).await.unwrap();
    assert!(matches!(outcomes[..], [Ok(()), Err(StoreError::Quota { .. }), Err(StoreError::NotFound { .. }), Ok(())]));
    assert_eq!(db.store.helper_state_get(one, "k", NOW).await.unwrap().unwrap().value, b"1");
    assert_eq!(db.store.helper_state_get(two, "k", NOW).await.unwrap().unwrap().value, b"2");
}

async fn writes_at_once_are_all_there_and_counted(db: Database) {
    let id = instance(&db, "mine").await.id;
    all((0..20).map(|number| {
        let store = db.store.clone();
        async move {
            let commits = [of(id, vec![put(&format!("k{number:02}"), b"v")])];
            store.helper_state_commit_many(&commits, NOW).await.unwrap().remove(0).unwrap();
        }
    }))
    .await;
    assert_eq!((keys(&db, id, "", NOW).await.len(), size(&db, id).await), (20, 80));
}

async fn state_past_its_time_is_gone_and_gives_its_room_back(db: Database) {
    let id = instance(&db, "mine").await.id;
    commit(&db, id, vec![brief("a", b"1", 100), brief("b", b"2", 200), put("c", b"3")]).await.unwrap();
    assert_eq!(keys(&db, id, "", later(100)).await, ["b", "c"]);
    assert_eq!(db.store.helper_state_get(id, "a", later(100)).await.unwrap(), None);
    assert!(db.store.helper_state_get(id, "a", later(99)).await.unwrap().is_some());
    // Written again, it has a new time.
    commit(&db, id, vec![put("b", b"4")]).await.unwrap();
    assert_eq!(db.store.helper_state_sweep(later(1000)).await.unwrap(), 1);
    assert_eq!(db.store.helper_state_sweep(later(1000)).await.unwrap(), 0);
    assert_eq!((keys(&db, id, "", NOW).await, size(&db, id).await), (vec!["b".to_owned(), "c".to_owned()], 4));
}

async fn training_runs_end_or_are_abandoned(db: Database) {
    let id = instance(&db, "mine").await.id;
    let first = db.store.helper_training_begin(id, NOW).await.unwrap();
    db.store.helper_training_end(first, TrainingOutcome::Succeeded, "fine\0", 2, later(5)).await.unwrap();
    db.store.helper_training_begin(id, later(10)).await.unwrap();
    let third = db.store.helper_training_begin(id, later(20)).await.unwrap();
    db.store.helper_training_end(third, TrainingOutcome::Failed, &"ä".repeat(20_000), 2, later(30)).await.unwrap();
    let runs = db.store.helper_training_list(id, 10).await.unwrap();
    let seen: Vec<_> = runs.iter().map(|run| (run.outcome.as_str(), run.started, run.ended)).collect();
    assert_eq!(
        seen,
        [
            ("failed", later(20), Some(later(30))),
            ("abandoned", later(10), Some(later(20))),
            ("succeeded", NOW, Some(later(5)))
        ]
    );
    assert_eq!((runs[2].data_version, runs[2].detail.as_str()), (2, "fine\u{fffd}"));
    assert!(runs[0].detail.len() <= 16 * 1024 && runs[0].detail.starts_with("ää"));
    assert_eq!(db.store.helper_training_list(id, 1).await.unwrap().len(), 1);
}

async fn what_instances_use_adds_up_by_the_hour(db: Database) {
    let (one, two) = (instance(&db, "one").await, instance(&db, "two").await);
    let meters = |replica_us| HelperMeters { replica_us, cpu_us: 7, ..HelperMeters::default() };
    let hour_ms = 3_600_000;
    db.store.helper_usage_add(&[(one.tenant, one.id, meters(10)), (two.tenant, two.id, meters(1))], NOW).await.unwrap();
    db.store.helper_usage_add(&[(one.tenant, one.id, meters(5))], later(1)).await.unwrap();
    db.store.helper_usage_add(&[(one.tenant, one.id, meters(3))], later(hour_ms)).await.unwrap();
    let rows = db.store.helper_usage_list(one.tenant, Some(one.id), None, None).await.unwrap();
    let seen: Vec<_> = rows.iter().map(|row| (row.meters.replica_us, row.meters.cpu_us)).collect();
    assert_eq!(seen, [(3, 7), (15, 14)], "the newest hour first");
    assert_eq!(db.store.helper_usage_list(one.tenant, None, None, Some(later(1))).await.unwrap().len(), 2);
    let since = db.store.helper_usage_list(one.tenant, None, Some(later(hour_ms)), None).await.unwrap();
    assert_eq!(since.len(), 1);
    let stranger = db.store.tenant_create("other", NOW).await.unwrap().id;
    assert!(db.store.helper_usage_list(stranger, None, None, None).await.unwrap().is_empty());
}

async fn take(db: &Database, id: HelperInstanceId, holder: &str, previous: Option<&str>, now: TimestampUs) -> KeyLease {
    let ttl = std::time::Duration::from_millis(100);
    db.store.helper_key_take(id, "k", holder, previous, ttl, now).await.unwrap()
}

async fn a_key_has_one_holder_and_old_ones_write_nothing(db: Database) {
    let id = instance(&db, "mine").await.id;
    let held = |fence, ms| KeyLease::Held { fence, until: later(ms) };
    assert_eq!(take(&db, id, "p/a", None, NOW).await, held(1, 100));
    assert_eq!(take(&db, id, "p/b", None, later(50)).await, KeyLease::Taken { until: later(100) });
    assert_eq!(take(&db, id, "p/a", None, later(60)).await, held(1, 160), "prolonged under the same fence");
    assert_eq!(take(&db, id, "p/b", Some("p/x"), later(60)).await, KeyLease::Taken { until: later(160) });
    assert_eq!(take(&db, id, "p/b", Some("p/a"), later(70)).await, held(2, 170), "handed over");
    assert_eq!(take(&db, id, "q/c", None, later(170)).await, held(3, 270), "after its time");
    let under = |fence| StateCommit { key: Some(("k".into(), fence)), ..of(id, vec![put("x", &[fence as u8])]) };
    let outcomes = db.store.helper_state_commit_many(&[under(2), under(3), under(1)], NOW).await.unwrap();
    assert!(
        matches!(outcomes[..], [Err(StoreError::Conflict { .. }), Ok(()), Err(StoreError::Conflict { .. })]),
        "{outcomes:?}"
    );
    assert_eq!(db.store.helper_state_get(id, "x", NOW).await.unwrap().unwrap().value, [3]);
    // Of those who ask at once, one has it.
    let other = instance(&db, "other").await.id;
    let answers = all((0..8).map(|number| {
        let store = db.store.clone();
        async move {
            let ttl = std::time::Duration::from_secs(1);
            store.helper_key_take(other, "k", &format!("p/{number}"), None, ttl, NOW).await.unwrap()
        }
    }))
    .await;
    assert_eq!(answers.iter().filter(|answer| matches!(answer, KeyLease::Held { .. })).count(), 1, "{answers:?}");
}

async fn keys_of_a_platform_are_given_back_and_old_ones_forgotten(db: Database) {
    let id = instance(&db, "mine").await.id;
    take(&db, id, "p/a", None, NOW).await;
    assert_eq!(db.store.helper_keys_release("q", NOW).await.unwrap(), 0);
    assert_eq!(db.store.helper_keys_release("p", later(1)).await.unwrap(), 1);
    assert_eq!(take(&db, id, "q/b", None, later(1)).await, KeyLease::Held { fence: 2, until: later(101) });
    assert_eq!(db.store.helper_keys_sweep(later(101)).await.unwrap(), 0);
    assert_eq!(db.store.helper_keys_sweep(later(102)).await.unwrap(), 1);
}
