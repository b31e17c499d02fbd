//! Opening, reopening, and addresses that cannot be opened.

use raas_store::{Backend, Store, StoreError, StoreOptions};

use crate::support::{Database, NOW, on_both_databases};

on_both_databases!(what_was_stored_is_there_again, it_answers);

async fn what_was_stored_is_there_again(db: Database) {
    let tenant = db.store.tenant_create("acme", NOW).await.unwrap();
    db.store.close().await;
    let store = Store::open(&db.url, StoreOptions::default()).await.unwrap();
    assert_eq!(store.tenant_get(tenant.id).await.unwrap(), tenant);
}

async fn it_answers(db: Database) {
    db.store.ping().await.unwrap();
    let expected = if db.url.starts_with("sqlite") { Backend::Sqlite } else { Backend::Postgres };
    assert_eq!(db.store.backend(), expected);
    db.store.close().await;
    let error = db.store.ping().await.unwrap_err();
    assert!(error.retryable(), "{error:?}");
}

#[tokio::test]
async fn addresses_that_cannot_be_opened() {
    for url in ["", "mysql://x", "/tmp/x", "sqlite::memory:"] {
        let error = Store::open(url, StoreOptions::default()).await.unwrap_err();
        assert!(matches!(error, StoreError::Address { .. }), "{url}: {error:?}");
    }
    for url in ["sqlite:/nonexistent/folder/x.db", "postgres://x@localhost/x?host=/nonexistent"] {
        let error = Store::open(url, StoreOptions::default()).await.unwrap_err();
        assert!(error.retryable(), "{url}: {error:?}");
    }
}

#[tokio::test]
async fn sqlite_keeps_a_write_ahead_log() {
    let db = Database::sqlite().await;
    let file = db.url.trim_start_matches("sqlite:");
    db.store.tenant_create("acme", NOW).await.unwrap();
    assert!(std::path::Path::new(&format!("{file}-wal")).exists(), "write-ahead log");
}
