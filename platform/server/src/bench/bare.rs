//! The yardstick of a cached answer: an axum server that does nothing but give the very bytes that the platform gave.
//!
//! Runs in a process of its own, `raas bench --bare FILE`, so that it is built and linked as the platform is.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use axum::serve::ListenerExt;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use super::child::Child;
use super::http::Reply;

/// What it answers.
#[derive(Clone, Serialize, Deserialize)]
struct Answer {
    headers: Vec<(String, String)>,
    body: String,
}

/// Starts it to answer as `reply` did. Its address comes with it.
///
/// # Errors
/// It does not start.
pub fn start(reply: &Reply, folder: &Path) -> anyhow::Result<(Child, std::net::SocketAddr)> {
    // The server adds these two itself.
    let own = |name: &str| ["content-length", "date"].iter().any(|header| name.eq_ignore_ascii_case(header));
    let headers =
        reply.headers().filter(|(name, _)| !own(name)).map(|(name, value)| (name.to_owned(), value.to_owned()));
    let answer = Answer { headers: headers.collect(), body: String::from_utf8(reply.body.clone())? };
    let file = folder.join("bare-answer.json");
    std::fs::write(&file, serde_json::to_vec(&answer)?)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["bench", "--bare"]).arg(&file).stdout(Stdio::piped());
    let mut process = Child::start("bare axum", command, folder)?;
    let line = process.first_line()?;
    let address = line.trim().parse().with_context(|| format!("the bare server said: {line}"))?;
    Ok((process, address))
}

/// Is it: serves until it is killed.
///
/// # Errors
/// The file is not an answer, or there is no port.
pub fn serve(file: &Path) -> anyhow::Result<()> {
    let Answer { headers, body } = serde_json::from_slice(&std::fs::read(file)?)?;
    let mut map = HeaderMap::new();
    for (name, value) in &headers {
        map.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    }
    let router =
        Router::new().route("/v1/functions/{name}/invocations", post(answer)).with_state((map, Bytes::from(body)));
    // Threads as the platform has them.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let mut stdout = std::io::stdout();
        writeln!(stdout, "{}", listener.local_addr()?)?;
        stdout.flush()?;
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        axum::serve(listener, router).await?;
        Ok(())
    })
}

async fn answer(State((headers, body)): State<(HeaderMap, Bytes)>, _read: Bytes) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.headers_mut() = headers;
    response
}
