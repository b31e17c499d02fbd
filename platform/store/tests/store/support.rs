//! A database of its own for each test: a file for SQLite, a database of a private server for Postgres.
//!
//! The server is started once for the test binary, listens on a Unix socket in a temporary folder only, and is stopped and
//! removed when the binary ends, however it ends: a shell watches a pipe that only this process holds open.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use raas_core::{FunctionManifest, FunctionName, TenantId, TimestampUs};
use raas_store::{DeployRecord, Store, StoreOptions};
use sqlx::{Connection, Executor};

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
        let server = tokio::task::spawn_blocking(Server::shared).await.unwrap();
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

struct Server {
    sockets: PathBuf,
    /// Its standard input stays open until this process is gone.
    _watcher: Child,
}

impl Server {
    fn shared() -> &'static Self {
        static SERVER: OnceLock<Server> = OnceLock::new();
        SERVER.get_or_init(Self::start)
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost/{database}?host={}", self.sockets.display())
    }

    fn start() -> Self {
        let bin = postgres_bin();
        // Postgres refuses to run as root.
        let user = nix::unistd::geteuid().is_root().then(|| {
            let user = ["postgres", "nobody"].into_iter().find_map(|name| nix::unistd::User::from_name(name).unwrap());
            user.expect("a user `postgres` or `nobody` to run Postgres as")
        });
        let dir = tempfile::Builder::new().prefix("store-pg-").tempdir_in("/tmp").unwrap().keep();
        if let Some(user) = &user {
            std::os::unix::fs::chown(&dir, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
        }
        let script = r#"
            trap '' INT TERM HUP
            "$BIN/initdb" -D "$DIR/data" -U postgres --auth=trust --no-sync -E UTF8 --no-locale >"$DIR/log" 2>&1 &&
            "$BIN/postgres" -D "$DIR/data" -k "$DIR" -c listen_addresses= -c fsync=off -c full_page_writes=off \
                -c synchronous_commit=off -c max_connections=300 -c shared_buffers=32MB >>"$DIR/log" 2>&1 </dev/null &
            server=$!
            cat >/dev/null
            # The background job is a subshell; the server is its child and writes its own id.
            kill -QUIT "$(head -n 1 "$DIR/data/postmaster.pid")"
            wait $server
            rm -rf "$DIR"
        "#;
        let mut watcher = Command::new("/bin/sh");
        watcher.args(["-c", script]).env("BIN", &bin).env("DIR", &dir).current_dir("/");
        watcher.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(user) = &user {
            watcher.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        let watcher = watcher.spawn().unwrap();
        let socket = dir.join(".s.PGSQL.5432");
        let began = Instant::now();
        while std::os::unix::net::UnixStream::connect(&socket).is_err() || !ready(&dir) {
            let log = || std::fs::read_to_string(dir.join("log")).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(60), "Postgres did not start:\n{}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { sockets: dir, _watcher: watcher }
    }
}

/// The eighth line of the server's lock file says how far it has come.
fn ready(dir: &Path) -> bool {
    let lock = std::fs::read_to_string(dir.join(".s.PGSQL.5432.lock")).unwrap_or_default();
    let pid = std::fs::read_to_string(dir.join("data/postmaster.pid")).unwrap_or_default();
    !lock.is_empty() && pid.lines().nth(7).is_some_and(|state| state.trim() == "ready")
}

fn postgres_bin() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut packaged: Vec<PathBuf> = packaged.map(|entry| entry.path().join("bin")).collect();
    packaged.sort();
    folders.extend(packaged.into_iter().rev());
    folders.push("/usr/local/bin".into());
    let complete = |folder: &&PathBuf| ["initdb", "postgres"].iter().all(|name| folder.join(name).is_file());
    let found = folders.iter().find(complete);
    found.expect("Postgres to test with is not installed: apt-get install postgresql").clone()
}

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
