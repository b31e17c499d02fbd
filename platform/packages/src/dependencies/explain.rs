//! Failed installations in one line.

/// Most characters of the last lines that are shown where nothing is recognised, or after what is.
const TAIL_CHARS: usize = 600;
/// Last lines shown.
const TAIL_LINES: usize = 8;

/// Turns the output of pip or npm into one readable line, followed by the end of the output.
#[must_use]
pub fn explain_failure(output: &str) -> String {
    let reason = explain(output).unwrap_or_else(|| "the dependencies could not be installed".to_owned());
    let tail = tail(output);
    if tail.is_empty() { reason } else { format!("{reason}\n{tail}") }
}

fn explain(output: &str) -> Option<String> {
    let has = |text: &str| output.contains(text);
    // The network first: pip ends a failed connection with "no matching distribution" too.
    let unreachable = [
        "NewConnectionError",
        "Temporary failure in name resolution",
        "Name or service not known",
        "Network is unreachable",
        "Failed to establish a new connection",
        "ConnectTimeoutError",
        "ReadTimeoutError",
        "ProxyError",
        "ENOTFOUND",
        "EAI_AGAIN",
        "ETIMEDOUT",
        "ECONNREFUSED",
        "ENETUNREACH",
    ];
    if unreachable.iter().any(|sign| has(sign)) {
        return Some(
            "the package index could not be reached: the network is down or does not let the installer out".to_owned(),
        );
    }
    if let Some(what) = after(output, "No matching distribution found for ") {
        let versions = after(output, "(from versions: ").map(|list| list.trim_end_matches(')').to_owned());
        return Some(match versions.as_deref() {
            None | Some("none" | "") => format!(
                "no package {what} with a wheel for this Python: the name is wrong, or it comes as source code only (only wheels are installed)"
            ),
            Some(versions) => format!("no version of {what} fits; there are {versions}"),
        });
    }
    if has("ResolutionImpossible") || has("conflicting dependencies") {
        let what =
            after(output, "Cannot install ").map(|what| what.split(" because").next().unwrap_or_default().to_owned());
        return Some(what.map_or_else(
            || "the requirements contradict each other".to_owned(),
            |what| format!("the requirements contradict each other: {what}"),
        ));
    }
    if has("THESE PACKAGES DO NOT MATCH THE HASHES") {
        return Some("a package does not match the hash that requirements.txt gives for it".to_owned());
    }
    if let Some(what) = after(output, "Invalid requirement: ") {
        return Some(format!("requirements.txt has a line that is no requirement: {what}"));
    }
    if has("E404") {
        let what = after(output, "404  '")
            .or_else(|| after(output, "404 Not Found - GET "))
            .unwrap_or_else(|| "a package".to_owned());
        let what = what.split('\'').next().unwrap_or_default().split(" - ").next().unwrap_or_default();
        return Some(format!("the npm registry does not have {what}"));
    }
    if has("ETARGET") {
        let what = after(output, "No matching version found for ").unwrap_or_else(|| "a package".to_owned());
        return Some(format!("the npm registry does not have the version {}", what.trim_end_matches('.')));
    }
    if has("ERESOLVE") {
        let what =
            after(output, "While resolving: ").map(|what| format!(" (while resolving {what})")).unwrap_or_default();
        return Some(format!("the dependencies in package.json contradict each other{what}"));
    }
    if has("EUSAGE") && has("package-lock.json") || has("npm ci` can only install") {
        return Some("package-lock.json does not fit package.json; run npm install and deploy both".to_owned());
    }
    if has("No space left on device") || has("ENOSPC") {
        return Some("the dependencies need more space than an installation may use".to_owned());
    }
    has("No module named pip")
        .then(|| "this machine's Python has no pip, so requirements.txt cannot be installed".to_owned())
}

/// The rest of the line after the first occurrence of `sign`.
fn after(output: &str, sign: &str) -> Option<String> {
    let start = output.find(sign)? + sign.len();
    output[start..].lines().next().map(|rest| rest.trim().chars().take(200).collect())
}

/// The last lines that say something.
fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.lines().map(str::trim_end).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
    let skip = last.chars().count().saturating_sub(TAIL_CHARS);
    last.chars().skip(skip).collect()
}
