//! What a package needs beside its own files, and the commands that install it.
//!
//! Commands are data; the platform runs them in a sandbox with the package read-only at `/var/task`, one writable folder
//! at `/var/out`, and the network. No code of the installed packages runs meanwhile: Python takes wheels only, npm runs
//! no scripts. That is what makes installing safe for others on the machine even before the sandbox is counted.

use crate::error::PackageError;
use crate::requirements::{self, problem, text_of};
use raas_core::Runtime;
use std::path::Path;

mod explain;

pub use explain::explain_failure;

/// Where the package is in the sandbox that installs.
pub const TASK_DIR: &str = "/var/task";
/// Where what is installed goes.
pub const OUT_DIR: &str = "/var/out";
/// Where Python packages go; belongs on `sys.path` after the package itself.
pub const PYTHON_DIR: &str = "/var/out/python";
/// Where a function finds them.
const PYTHON_RUN_DIR: &str = "/var/task/.raas/python";
/// The line of a `requirements.txt` that lists all there is to install, so that what those packages ask for is left out.
const LISTED_ONLY: &str = "# raas: no-deps";
/// Where Node packages go; belongs beside the package's code.
pub const NODE_DIR: &str = "/var/out/node_modules";

/// What to install for a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependencies {
    /// Digest of the files that name the dependencies, for the version digest and for reusing an installation.
    pub lock_digest: [u8; 32],
    /// Commands, to be run one after the other.
    pub steps: Vec<InstallStep>,
}

/// One command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstallStep {
    /// Program (an absolute path, or a name to be found in `PATH`) and arguments.
    pub argv: Vec<String>,
    /// The whole environment, beside what the operator adds (a proxy, an index).
    pub env: Vec<(String, String)>,
    /// The working folder.
    pub cwd: String,
    /// Whether the installation has failed when the command does.
    pub on_failure: OnFailure,
}

/// What a failed command means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The installation has failed.
    Stop,
    /// It only made things faster; go on.
    Continue,
}

impl Dependencies {
    /// Finds what the package at `root` needs for a runtime; nothing where it needs nothing.
    ///
    /// # Errors
    /// A file that names dependencies is not acceptable, or the file system fails.
    pub fn detect(root: &Path, runtime: Runtime) -> Result<Option<Self>, PackageError> {
        match runtime {
            Runtime::Python3 => python(root),
            Runtime::Node => node(root),
            Runtime::Provided | Runtime::Http | Runtime::Image => Ok(None),
        }
    }
}

fn python(root: &Path) -> Result<Option<Dependencies>, PackageError> {
    const FILE: &str = "requirements.txt";
    if !root.join(FILE).is_file() {
        return Ok(None);
    }
    let requirements = requirements::read(root, FILE)?;
    if !requirements.asks {
        return Ok(None);
    }
    let task_file = format!("{TASK_DIR}/{FILE}");
    let mut install = vec![
        "/usr/bin/python3",
        "-m",
        "pip",
        "install",
        "--no-input",
        "--disable-pip-version-check",
        "--root-user-action=ignore",
        "--progress-bar=off",
        "--only-binary=:all:",
        "--no-compile",
        "--target",
        PYTHON_DIR,
        "-r",
        &task_file,
        "--cache-dir",
        "/tmp/pip-cache",
    ];
    // A comment to pip, which has no such line: the file is still one that it reads.
    if requirements.files.iter().any(|(_, text)| text.lines().any(|line| line.trim_end() == LISTED_ONLY)) {
        install.push("--no-deps");
    }
    // Files that do not compile (templates, other dialects) are no reason to refuse a package.
    // Tracebacks name the file where it will be, not where it is installed.
    let compile = [
        "/usr/bin/python3",
        "-m",
        "compileall",
        "-q",
        "--invalidation-mode",
        "unchecked-hash",
        "-s",
        PYTHON_DIR,
        "-p",
        PYTHON_RUN_DIR,
        PYTHON_DIR,
    ];
    Ok(Some(Dependencies {
        lock_digest: lock_digest("python3", &requirements.files),
        // The package's own folder as the working folder would put its modules before pip's.
        steps: vec![step(&install, "/tmp", OnFailure::Stop), step(&compile, "/tmp", OnFailure::Continue)],
    }))
}

fn node(root: &Path) -> Result<Option<Dependencies>, PackageError> {
    const FILE: &str = "package.json";
    if !root.join(FILE).is_file() {
        return Ok(None);
    }
    let text = text_of(root, FILE)?;
    if !asks_for_packages(&text)? {
        return Ok(None);
    }
    let mut files = vec![(FILE.to_owned(), text)];
    let lock = ["npm-shrinkwrap.json", "package-lock.json"].into_iter().find(|name| root.join(name).is_file());
    if let Some(lock) = lock {
        files.push((lock.to_owned(), text_of(root, lock)?));
    }
    let mut copy = vec!["/bin/cp".to_owned(), "--".to_owned()];
    copy.extend(files.iter().map(|(name, _)| format!("{TASK_DIR}/{name}")));
    copy.push(format!("{OUT_DIR}/"));
    let copy: Vec<&str> = copy.iter().map(String::as_str).collect();
    let install: &[&str] = if lock.is_some() {
        &["npm", "ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund"]
    } else {
        &["npm", "install", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund"]
    };
    Ok(Some(Dependencies {
        lock_digest: lock_digest("node", &files),
        steps: vec![step(&copy, OUT_DIR, OnFailure::Stop), step(install, OUT_DIR, OnFailure::Stop)],
    }))
}

/// Whether a `package.json` names anything to install.
fn asks_for_packages(text: &str) -> Result<bool, PackageError> {
    const FILE: &str = "package.json";
    let value: serde_json::Value =
        serde_json::from_str(text).map_err(|error| problem(FILE, format!("is not JSON: {error}")))?;
    let object = value.as_object().ok_or_else(|| problem(FILE, "is not a JSON object"))?;
    let names_any =
        |key: &str| object.get(key).and_then(serde_json::Value::as_object).is_some_and(|packages| !packages.is_empty());
    Ok(names_any("dependencies") || names_any("optionalDependencies"))
}

fn step(argv: &[&str], cwd: &str, on_failure: OnFailure) -> InstallStep {
    let env = [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/tmp"),
        ("LANG", "C.UTF-8"),
        ("npm_config_cache", "/tmp/npm-cache"),
        ("npm_config_update_notifier", "false"),
    ];
    InstallStep {
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        env: env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect(),
        cwd: cwd.to_owned(),
        on_failure,
    }
}

fn lock_digest(runtime: &str, files: &[(String, String)]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let texts = files.iter().flat_map(|(name, content)| [name.as_str(), content.as_str()]);
    for text in ["raas dependencies 1", runtime].into_iter().chain(texts) {
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
#[path = "dependencies_tests.rs"]
mod tests;
