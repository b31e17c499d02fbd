//! An image: a package with its dependencies and bytecode beside it, as sandboxes see it at `/var/task`.
//!
//! Installing runs in a sandbox of its own with the network and one writable folder, and runs no code of what it installs. The
//! image appears whole under its name, or not at all.

use std::io;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use raas_core::{Runtime, limits};
use raas_packages::{Dependencies, OnFailure, explain_failure};
use raas_sandbox::{ExitCause, Network, SandboxLimits, SandboxSpec};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

use super::{DeployError, Deployer, Progress, ProgressSender, blocking};
use crate::runtimes::open_to_others;

/// What unfinished images are called.
const UNFINISHED_PREFIX: &str = ".new-";

/// How much of an installer's output is kept to explain a failure, lines.
const OUTPUT_KEPT_LINES: usize = 200;

/// Where in an image the platform puts what is not the author's.
const RESERVED: &str = ".raas";

/// The operator's own settings for reaching package registries; handed to the installer and to nothing else.
const REGISTRY_VARIABLES: &[&str] = &[
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_CERT",
    "PIP_DEFAULT_TIMEOUT",
    "PIP_TRUSTED_HOST",
    "npm_config_registry",
    "NODE_EXTRA_CA_CERTS",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// Removes what an earlier process left unfinished.
pub(super) fn remove_unfinished(images: &Path) -> io::Result<()> {
    std::fs::create_dir_all(images)?;
    for entry in std::fs::read_dir(images)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED_PREFIX) {
            std::fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

impl Deployer {
    /// Builds the image of a package.
    pub(super) async fn build(
        &self,
        package: &Path,
        runtime: Runtime,
        dependencies: Option<&Dependencies>,
        image: &Path,
        progress: &ProgressSender,
    ) -> Result<(), DeployError> {
        let failed =
            |error: io::Error| DeployError::Platform(anyhow::Error::new(error).context("an image could not be made"));
        let work = tempfile::Builder::new().prefix(UNFINISHED_PREFIX).tempdir_in(&self.images).map_err(failed)?;
        std::fs::set_permissions(work.path(), std::fs::Permissions::from_mode(0o755)).map_err(failed)?;
        let out = work.path().join("out");
        std::fs::create_dir(&out).map_err(failed)?;
        if let Some(script) = script(runtime, dependencies) {
            let _ = progress.try_send(if dependencies.is_some() { Progress::Installing } else { Progress::Compiling });
            self.run(package, &out, script, dependencies.is_some(), progress).await?;
        }
        let (package, image, work) = (package.to_owned(), image.to_owned(), work);
        blocking(move || assemble(&package, &out, work.path(), &image).map_err(DeployError::Platform)).await
    }

    /// Runs the script in a sandbox, to its end.
    async fn run(
        &self,
        package: &Path,
        out: &Path,
        script: String,
        network: bool,
        progress: &ProgressSender,
    ) -> Result<(), DeployError> {
        let mut env: Vec<(String, String)> =
            [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/tmp"), ("LANG", "C.UTF-8"), ("TZ", "UTC")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into();
        env.extend(REGISTRY_VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))));
        let spec = SandboxSpec {
            argv: vec!["/bin/sh".into(), "-c".into(), script],
            env,
            limits: SandboxLimits {
                memory_bytes: u64::from(self.settings.memory_mb) << 20,
                cpu_millis: 2000,
                pids_max: limits::PROCESSES_MAX,
                yields: false,
                tmp_bytes: u64::from(self.settings.memory_mb) << 20,
            },
            network: if network { Network::Egress } else { Network::None },
            code_dir: Some(package.to_owned()),
            writable_dir: Some(out.to_owned()),
            extras: Vec::new(),
        };
        let platform = |error: raas_sandbox::SandboxError| {
            DeployError::Platform(anyhow::Error::new(error).context("no sandbox for the build"))
        };
        let sandbox = self.spawner.create(spec).await.map_err(platform)?;
        let (lines, mut output) = mpsc::channel(64);
        tokio::spawn(read_lines(sandbox.io.stdout, lines.clone()));
        tokio::spawn(read_lines(sandbox.io.stderr, lines));
        let mut kept = std::collections::VecDeque::new();
        let reading = async {
            while let Some(line) = output.recv().await {
                let _ = progress.try_send(Progress::Output { line: line.clone() });
                kept.push_back(line);
                if kept.len() > OUTPUT_KEPT_LINES {
                    kept.pop_front();
                }
            }
            sandbox.handle.exited().await
        };
        let limit = Duration::from_secs(u64::from(self.settings.timeout_s));
        let exit = tokio::time::timeout(limit, reading).await;
        let output = kept.into_iter().collect::<Vec<_>>().join("\n");
        let explanation = match exit {
            Ok(exit) if exit.oom_killed => {
                format!(
                    "the installer went over {} MiB of memory; the operator can raise build.memory_mb",
                    self.settings.memory_mb
                )
            }
            Ok(exit) => match exit.cause {
                ExitCause::Code(0) => return Ok(()),
                ExitCause::SpawnerGone => {
                    return Err(DeployError::Platform(anyhow::anyhow!("the spawner went away during a build")));
                }
                _ => explain_failure(&output),
            },
            Err(_) => format!(
                "the installer did not end within {} s; the operator can raise build.timeout_s",
                self.settings.timeout_s
            ),
        };
        Err(DeployError::Install { explanation, output })
    }
}

async fn read_lines(pipe: pipe::Receiver, lines: mpsc::Sender<String>) {
    let mut reader = BufReader::new(pipe);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut reader).take(limits::LOG_LINE_MAX_BYTES as u64).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        if lines.send(String::from_utf8_lossy(&line).trim_end().to_owned()).await.is_err() {
            return;
        }
    }
}

/// One shell script of all steps: they share the sandbox and the ids that its files belong to.
fn script(runtime: Runtime, dependencies: Option<&Dependencies>) -> Option<String> {
    let mut script = String::from("set -e\n");
    for step in dependencies.iter().flat_map(|dependencies| &dependencies.steps) {
        let words = step.env.iter().map(|(key, value)| format!("{key}={}", quoted(value)));
        let words = words.chain(step.argv.iter().map(|word| quoted(word))).collect::<Vec<_>>().join(" ");
        let otherwise = if step.on_failure == OnFailure::Continue { " || true" } else { "" };
        script.push_str(&format!("cd {}\n{words}{otherwise}\n", quoted(&step.cwd)));
    }
    match runtime {
        Runtime::Python3 => script.push_str(
            "cd /tmp\n/usr/bin/python3 -I -X pycache_prefix=/var/out/bytecode -m compileall -q --invalidation-mode unchecked-hash /var/task || true\n",
        ),
        _ if dependencies.is_none() => return None,
        _ => {}
    }
    Some(script)
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Puts package, dependencies and bytecode together and moves them to their place.
fn assemble(package: &Path, out: &Path, work: &Path, image: &Path) -> anyhow::Result<()> {
    let unfinished = work.join("image");
    link_tree(package, &unfinished).context("a package's files could not be linked")?;
    own(out).context("what the build made could not be taken over")?;
    let reserved = unfinished.join(RESERVED);
    std::fs::create_dir(&reserved)?;
    let bytecode = out.join("bytecode/var/task");
    if bytecode.is_dir() {
        place_bytecode(&bytecode, &unfinished).context("bytecode could not be placed")?;
    }
    for name in ["python", "node_modules"] {
        if out.join(name).is_dir() {
            std::fs::rename(out.join(name), reserved.join(name))?;
        }
    }
    if reserved.join("node_modules").is_dir() {
        std::os::unix::fs::symlink(format!("{RESERVED}/node_modules"), unfinished.join("node_modules"))?;
    }
    open_to_others(&reserved)?;
    match std::fs::rename(&unfinished, image) {
        Ok(()) => Ok(()),
        // Somebody deployed the same in the meantime.
        Err(_) if image.is_dir() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A copy of a tree whose files are hard links: packages are immutable.
fn link_tree(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir(to)?;
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(0o755))?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            link_tree(&source, &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(&source)?, &target)?;
        } else {
            std::fs::hard_link(&source, &target)?;
        }
    }
    Ok(())
}

/// Takes a tree over from the sandbox's user.
fn own(path: &Path) -> io::Result<()> {
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    lchown(path, Some(uid), Some(gid))?;
    if std::fs::symlink_metadata(path)?.is_dir() {
        for entry in std::fs::read_dir(path)? {
            own(&entry?.path())?;
        }
    }
    Ok(())
}

/// Moves `a/b.cpython-311.pyc` to `a/__pycache__/b.cpython-311.pyc`, beside its source.
fn place_bytecode(from: &Path, image: &Path) -> io::Result<()> {
    let mut made: Option<PathBuf> = None;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (source, beside) = (entry.path(), image.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            if beside.is_dir() {
                place_bytecode(&source, &beside)?;
            }
        } else if entry.file_type()?.is_file() {
            let folder = match made.take() {
                Some(folder) => folder,
                None => {
                    let folder = image.join("__pycache__");
                    std::fs::create_dir_all(&folder)?;
                    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755))?;
                    folder
                }
            };
            let target = folder.join(entry.file_name());
            std::fs::rename(&source, &target)?;
            std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o644))?;
            made = Some(folder);
        }
    }
    Ok(())
}
