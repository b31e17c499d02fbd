//! A database of its own for each test: a file for SQLite, a database of a private server for Postgres.

#[path = "../../../../tests/harness/postgres.rs"]
mod postgres;

use std::sync::atomic::{AtomicU32, Ordering};

use raas_core::{FunctionManifest, FunctionName, TenantId, TimestampUs};
use raas_store::{DeployRecord, Store, StoreOptions};
use sqlx::{Connection, Executor};

use postgres::PostgresServer;

/// An empty store, and what keeps its files.
pub struct Database {
    pub store: Store,
    pub url: String,
    _dir: Option<tempfile::TempDir>,
}

impl Database {
    pub async fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("store.db").display());
        Self { store: Store::open(&url, StoreOptions::default()).await.unwrap(), url, _dir: Some(dir) }
    }

    pub async fn postgres() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let server = tokio::task::spawn_blocking(PostgresServer::shared).await.unwrap();
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut connection = sqlx::PgConnection::connect(&server.url("postgres")).await.unwrap();
        connection.execute(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.unwrap();
        let url = server.url(&name);
        Self { store: Store::open(&url, StoreOptions::default()).await.unwrap(), url, _dir: None }
    }
}

/// Makes each function of a module, which takes a [`Database`], a test on SQLite and a test on Postgres.
macro_rules! on_both_databases {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(crate::support::Database::sqlite().await).await })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(crate::support::Database::postgres().await).await })+
        }
    };
}
pub(crate) use on_both_databases;

pub const NOW: TimestampUs = TimestampUs(1_800_000_000_000_000);

pub fn name(text: &str) -> FunctionName {
    text.parse().unwrap()
}

pub fn manifest(name: &str) -> FunctionManifest {
    let text = format!("name = \"{name}\"\nruntime = \"python3\"\nhandler = \"main.handler\"\n[env]\nA = \"b\"\n");
    FunctionManifest::parse(&text).unwrap()
}

pub fn deploy(tenant: TenantId, function: &str, digest: &str) -> DeployRecord {
    DeployRecord {
        tenant,
        name: name(function),
        alias: "live".into(),
        digest: digest.into(),
        code_digest: format!("code-{digest}"),
        lock_digest: None,
        image: format!("image-{digest}"),
        package_size_bytes: 1234,
        manifest: manifest(function),
    }
}

/// Waits for all tasks and answers what they returned.
pub async fn all<T: Send + 'static>(
    tasks: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let handles: Vec<_> = tasks.into_iter().map(tokio::spawn).collect();
    let mut results = Vec::new();
    for handle in handles {
        results.push(handle.await.unwrap());
    }
    results
}
