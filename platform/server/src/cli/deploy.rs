//! `raas deploy`: a folder becomes a version, with what the platform does shown as it does it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

use http::Method;
use raas_packages::{Packed, pack_folder};
use serde_json::Value;

use super::client::{Answer, Call, Client, WORK_WITHIN};
use super::failure::{Failure, Outcome};
use super::format::{bytes, list, text};
use super::screen::{Progress, Screen};
use super::table::printable;

/// How often a deploy whose connection broke is taken up again.
const RESUMES: u32 = 3;

/// How long to wait before it is.
const RESUME_AFTER: Duration = Duration::from_secs(1);

/// Packs and deploys a folder.
///
/// # Errors
/// The folder cannot be packed, or the platform refuses it.
pub fn deploy(screen: Screen, client: &Client, folder: &Path, alias: &str) -> Outcome {
    if !folder.is_dir() {
        return Err(Failure::Usage(format!("{} is not a folder", folder.display())));
    }
    let progress = screen.progress(&format!("packing {}", folder.display()));
    let answer = pack_and_upload(client, folder, alias, &progress)?;
    drop(progress);
    for warning in list(&answer.value()?, "warnings").iter().filter_map(Value::as_str) {
        screen.warn(&printable(warning));
    }
    screen.answer(&answer, |deployed| {
        let (name, version) = (text(deployed, "name"), &deployed["version"]);
        let existed = deployed["existed"].as_bool() == Some(true);
        let what = match existed {
            true => format!(
                "{name} version {version} is what was deployed before; {} points at it",
                text(deployed, "alias")
            ),
            false => format!("{name} version {version} is deployed; {} points at it", text(deployed, "alias")),
        };
        let digest: String = text(deployed, "digest").chars().take(12).collect();
        let size = bytes(deployed["size_bytes"].as_u64().unwrap_or(0));
        format!(
            "{}\n{}",
            screen.green(&what),
            screen.dim(&format!("digest {digest} · {size} · raas invoke {name} -d '{{}}'"))
        )
    })
}

/// Packs and deploys a folder, telling `progress`.
///
/// # Errors
/// The folder cannot be packed, or the platform refuses it.
pub fn pack_and_upload(client: &Client, folder: &Path, alias: &str, progress: &Progress) -> Outcome<Answer> {
    let packed = pack(folder)?;
    upload(client, &packed, Call::new(Method::POST, "/v1/functions").query("alias", alias), progress)
}

/// Packs a folder with a helper.toml and publishes it, telling `progress`.
///
/// # Errors
/// The folder cannot be packed, or the platform refuses it.
pub fn pack_and_publish(client: &Client, folder: &Path, progress: &Progress) -> Outcome<Answer> {
    upload(client, &pack(folder)?, Call::new(Method::POST, "/v1/helpers"), progress)
}

fn pack(folder: &Path) -> Outcome<Packed> {
    pack_folder(folder).map_err(|error| {
        let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        Failure::local("unpackable", format!("{error}{source}"))
    })
}

/// Uploads a package. One `Idempotency-Key` for all attempts: however often it is sent, one version comes of it.
fn upload(client: &Client, packed: &Packed, call: Call<'_>, progress: &Progress) -> Outcome<Answer> {
    let until = Instant::now() + WORK_WITHIN;
    let call = call
        .header("Accept", "application/x-ndjson")
        .header("Idempotency-Key", uuid::Uuid::new_v4().to_string())
        .body("application/gzip", &packed.archive)
        .within(Some(WORK_WITHIN));
    progress.doing(&format!("uploading {} files, {}", packed.files, bytes(packed.archive.len() as u64)));
    let mut resumed = 0;
    loop {
        match attempt(client, &call, progress) {
            // Where nobody listens from the start there is nothing to take up again.
            Err(Failure::Unreachable { lost: true, refused, .. }) if resumed < RESUMES && (resumed > 0 || !refused) => {
                resumed += 1;
                progress.step("the connection was lost; asking again");
            }
            // The attempt whose connection was lost goes on by itself: ask until it has an outcome.
            Err(Failure::Problem(problem)) if text(&problem, "code") == "in-progress" && Instant::now() < until => {}
            other => return other,
        }
        std::thread::sleep(RESUME_AFTER);
    }
}

/// Sends it once and follows the lines of progress to the last, which is the outcome.
fn attempt(client: &Client, call: &Call<'_>, progress: &Progress) -> Outcome<Answer> {
    let (parts, body) = client.open(call)?.into_parts();
    let mut last = None;
    for line in BufReader::new(body.into_reader()).lines() {
        let line = line.map_err(|error| client.unreachable(&ureq::Error::Io(error)))?;
        if line.trim().is_empty() {
            continue;
        }
        let value: Value = serde_json::from_str(&line).map_err(Failure::unexpected)?;
        match text(&value, "progress") {
            "" => last = Some((line, value)),
            step => show(step, &value, progress),
        }
    }
    match last {
        Some((_, problem)) if problem.get("code").is_some() => Err(Failure::Problem(problem)),
        Some((text, _)) => Ok(Answer { text, headers: parts.headers }),
        None => Err(client.unreachable(&ureq::Error::Io(std::io::ErrorKind::UnexpectedEof.into()))),
    }
}

fn show(step: &str, value: &Value, progress: &Progress) {
    match step {
        "unpacked" => progress.doing("unpacked and checked"),
        "installing" => progress.step("installing dependencies"),
        "compiling" => progress.doing("compiling"),
        "output" => progress.line(&format!("  {}", printable(text(value, "line")))),
        other => progress.doing(other),
    }
}
