//! A real Postgres to test with.
//!
//! The server is started once for the test binary, listens on a Unix socket in a temporary folder only, and is stopped and
//! removed when the binary ends, however it ends: a shell watches a pipe that only this process holds open. The store's own
//! tests use this file, too.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A Postgres of this test binary's own.
pub struct PostgresServer {
    sockets: PathBuf,
    /// Its standard input stays open until this process is gone.
    _watcher: Child,
}

impl PostgresServer {
    /// The one of this test binary, started when first asked for.
    pub fn shared() -> &'static Self {
        static SERVER: OnceLock<PostgresServer> = OnceLock::new();
        SERVER.get_or_init(Self::start)
    }

    /// Where one of its databases is.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@localhost/{database}?host={}", self.sockets.display())
    }

    /// Makes a database, and says where it is.
    #[allow(dead_code, reason = "the store's tests make theirs themselves")]
    pub fn create(&self, database: &str) -> String {
        let created = Command::new(postgres_bin().join("postgres").canonicalize().unwrap().with_file_name("psql"))
            .args(["-q", "-U", "postgres", "-d", "postgres", "-c", &format!("CREATE DATABASE {database}"), "-h"])
            .arg(&self.sockets)
            .status();
        assert!(created.unwrap().success());
        self.url(database)
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
