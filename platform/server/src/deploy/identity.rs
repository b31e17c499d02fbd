//! Which interpreter this machine runs: part of every version's digest, since another may give another result.

use std::process::Stdio;
use std::time::Duration;

use raas_core::Runtime;
use tokio::process::Command;
use tokio::sync::OnceCell;

const ANSWER_WITHIN: Duration = Duration::from_secs(10);

static PYTHON: OnceCell<String> = OnceCell::const_new();
static NODE: OnceCell<String> = OnceCell::const_new();

/// Such as `python3 Python 3.11.2`.
///
/// # Errors
/// A sentence for the author: the interpreter is not on this machine, or the runtime has none of ours.
pub async fn of(runtime: Runtime) -> Result<String, String> {
    let (cell, program, package) = match runtime {
        Runtime::Python3 => (&PYTHON, "/usr/bin/python3", "python3"),
        Runtime::Node => (&NODE, "/usr/bin/node", "nodejs"),
        other => return Err(format!("the runtime `{}` is not there yet", other.as_str())),
    };
    let identity = cell.get_or_try_init(|| async {
        let asked = Command::new(program).arg("--version").env_clear().stdin(Stdio::null()).output();
        let output = tokio::time::timeout(ANSWER_WITHIN, asked)
            .await
            .map_err(|_| format!("{program} does not answer"))?
            .map_err(|error| format!("{program} is not on this machine ({error}); install it, for example with `apt-get install {package}`"))?;
        Ok::<_, String>(format!("{} {}", runtime.as_str(), String::from_utf8_lossy(&output.stdout).trim()))
    });
    identity.await.cloned()
}
