//! The handle on the database: addresses, pools, transactions and deadlines.
//!
//! Both databases are spoken to through sqlx's `Any` driver. It knows little (texts, 64-bit integers, bytes, nulls), and
//! that little is the whole schema, so each statement is written once; where the two differ, [`Backend`] says so.
//!
//! **SQLite**: one connection writes, so that writers queue here in order and do not meet `SQLITE_BUSY`; several read, each
//! its own snapshot, never blocked by the writer (WAL). `synchronous = FULL` syncs the WAL at every commit, so a write that
//! was acknowledged survives power loss; `NORMAL` would lose the last ones then (though neither loses anything to `kill
//! -9`, for the WAL is in the page cache). **Postgres**: one pool; its own defaults give the same promise.

use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::Migrator;
use sqlx::{Any, AnyPool, Connection, Executor, Transaction};

use crate::StoreError;

/// Reading a few rows by key.
pub(crate) const READ_DEADLINE: Duration = Duration::from_secs(5);
/// A transaction that writes, the wait for its turn included.
pub(crate) const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// Loading or writing thousands of rows.
pub(crate) const BULK_DEADLINE: Duration = Duration::from_secs(30);
/// Deleting what has grown old.
pub(crate) const SWEEP_DEADLINE: Duration = Duration::from_secs(60);
/// Bringing the schema up to date.
const MIGRATE_DEADLINE: Duration = Duration::from_secs(300);
/// Most rows of one page, whatever the caller asks for.
pub(crate) const PAGE_MAX: u32 = 1_000;

static MIGRATIONS: Migrator = sqlx::migrate!("../../migrations");

/// Settings of a store.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Connections: all of them to Postgres, the reading ones to SQLite.
    pub connections: u32,
    /// Wait for a free connection.
    pub acquire_timeout: Duration,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { connections: 4, acquire_timeout: Duration::from_secs(5) }
    }
}

/// Which database a store is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// A file of this process.
    Sqlite,
    /// A server, shared with other processes.
    Postgres,
}

/// A handle on the database; clones share its connections.
#[derive(Debug, Clone)]
pub struct Store {
    pools: Arc<Pools>,
}

#[derive(Debug)]
struct Pools {
    backend: Backend,
    writer: AnyPool,
    reader: AnyPool,
}

/// A transaction of either database.
pub(crate) type Tx = Transaction<'static, Any>;

impl Store {
    /// Opens `sqlite:PATH` (made if it is not there) or `postgres://…`, and brings the schema up to date.
    ///
    /// # Errors
    /// [`StoreError::Address`] for any other address, [`StoreError::Unavailable`] when nobody answers there,
    /// [`StoreError::Migrate`] when its schema is not one of ours or is newer than this release.
    pub async fn open(url: &str, options: StoreOptions) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let backend = match url.split_once(':') {
            Some(("sqlite", path)) if path.contains(":memory:") => {
                return Err(StoreError::Address {
                    what: "a database in memory would be another one for each connection",
                });
            }
            Some(("sqlite", _)) => Backend::Sqlite,
            Some(("postgres" | "postgresql", _)) => Backend::Postgres,
            _ => {
                return Err(StoreError::Address { what: "it must begin with sqlite: or postgres:" });
            }
        };
        let pools = match backend {
            Backend::Sqlite => {
                let separator = if url.contains('?') { '&' } else { '?' };
                let url = if url.contains("mode=") { url.to_owned() } else { format!("{url}{separator}mode=rwc") };
                let writer = connect(&url, 1, &options, Some(SQLITE_WRITER)).await?;
                // After the writer: it makes the file and turns on WAL.
                let reader = connect(&url, options.connections, &options, Some(SQLITE_READER)).await?;
                Pools { backend, writer, reader }
            }
            Backend::Postgres => {
                let pool = connect(url, options.connections, &options, None).await?;
                Pools { backend, writer: pool.clone(), reader: pool }
            }
        };
        let store = Self { pools: Arc::new(pools) };
        tokio::time::timeout(MIGRATE_DEADLINE, MIGRATIONS.run(store.writer()))
            .await
            .map_err(|_| StoreError::Timeout)?
            .map_err(StoreError::Migrate)?;
        Ok(store)
    }

    /// Which database this is.
    #[must_use]
    pub fn backend(&self) -> Backend {
        self.pools.backend
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        within(READ_DEADLINE, async {
            sqlx::query("SELECT 1").execute(self.reader()).await?;
            Ok(())
        })
        .await
    }

    /// Ends all connections after what runs on them now.
    pub async fn close(&self) {
        self.pools.reader.close().await;
        self.pools.writer.close().await;
    }

    /// For statements that only read.
    pub(crate) fn reader(&self) -> &AnyPool {
        &self.pools.reader
    }

    /// For single statements that write.
    pub(crate) fn writer(&self) -> &AnyPool {
        &self.pools.writer
    }

    /// A transaction that writes. On SQLite it holds the write lock from its beginning, so it cannot find at its end that
    /// what it read has changed; on Postgres the statements lock the rows they depend on.
    pub(crate) async fn begin(&self) -> Result<Tx, StoreError> {
        let begin = match self.pools.backend {
            Backend::Sqlite => "BEGIN IMMEDIATE",
            Backend::Postgres => "BEGIN",
        };
        Ok(self.pools.writer.begin_with(begin).await?)
    }

    /// A transaction that sees one moment of the database in all its statements, and writes nothing.
    pub(crate) async fn begin_snapshot(&self) -> Result<Tx, StoreError> {
        let begin = match self.pools.backend {
            Backend::Sqlite => "BEGIN",
            Backend::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        };
        Ok(self.pools.reader.begin_with(begin).await?)
    }
}

const SQLITE_WRITER: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; \
    PRAGMA busy_timeout = 5000; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384; \
    PRAGMA journal_size_limit = 67108864";
const SQLITE_READER: &str = "PRAGMA query_only = ON; PRAGMA busy_timeout = 5000; PRAGMA temp_store = MEMORY";

async fn connect(
    url: &str,
    connections: u32,
    options: &StoreOptions,
    session: Option<&'static str>,
) -> Result<AnyPool, StoreError> {
    let address =
        AnyConnectOptions::from_str(url).map_err(|_| StoreError::Address { what: "it cannot be read as a URL" })?;
    let pool = AnyPoolOptions::new()
        .max_connections(connections.max(1))
        .acquire_timeout(options.acquire_timeout)
        .after_connect(move |connection, _| {
            Box::pin(async move {
                if let Some(session) = session {
                    connection.execute(session).await?;
                }
                Ok(())
            })
        })
        .after_release(|connection, _| {
            // SQLite ends a transaction by itself when the disk is full, and the driver goes on as if it were open: such a
            // connection would refuse every later one. The ping is behind the rollback that a dropped transaction asked for.
            Box::pin(async move {
                connection.ping().await?;
                Ok(!connection.is_in_transaction())
            })
        })
        .connect_with(address);
    pool.await.map_err(|error| match error {
        sqlx::Error::Configuration(_) => StoreError::Address { what: "it cannot be read as a URL" },
        other => StoreError::Unavailable(other),
    })
}

/// Ends `work` by a deadline. An unfinished transaction is rolled back when its connection is used next.
pub(crate) async fn within<T>(
    deadline: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(deadline, work).await.unwrap_or(Err(StoreError::Timeout))
}
