//! `POST /v1/functions`: an uploaded folder becomes a version.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use raas_core::Origin;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::ToSchema;

use super::auth::Caller;
use super::idempotency::{Created, once};
use super::problem::{Problem, ProblemView};
use crate::app::App;
use crate::deploy::{DeployError, DeployedVersion, Progress, ProgressSender};
use crate::routing::{Principal, Scope};

/// Lines of progress that may wait for a slow reader.
const PROGRESS_QUEUE: usize = 256;

/// How to deploy.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeployQuery {
    /// The alias to point at the new version; `live` when left out.
    pub alias: Option<String>,
}

/// A deployed version.
#[derive(Clone, Serialize, ToSchema)]
pub struct DeployView {
    /// The function.
    pub name: String,
    /// The version's number.
    pub version: u32,
    /// The alias that points at it now.
    pub alias: String,
    /// Code, configuration, runtime and lock file, hashed.
    pub digest: String,
    /// Its files together, bytes.
    pub size_bytes: u64,
    /// Whether the very same version was there already: then only the alias moved.
    pub existed: bool,
    /// What its manifest asks for that this platform leaves undone without harm.
    pub warnings: Vec<String>,
}

impl From<DeployError> for Problem {
    fn from(error: DeployError) -> Self {
        let invalid = |code, title| Self::caller(StatusCode::UNPROCESSABLE_ENTITY, code, title);
        match error {
            DeployError::Package(error) if error.origin() == Origin::Caller => {
                invalid("invalid-package", error.to_string())
            }
            DeployError::Package(error) => Self::internal(&error),
            DeployError::Manifest(_) => invalid("invalid-manifest", error.to_string()),
            DeployError::Install { .. } => {
                Self { error: error.detail(), ..invalid("install-failed", error.to_string()) }
            }
            DeployError::Platform(error) => Self::internal(&format!("{error:#}")),
            DeployError::Store(error) => error.into(),
        }
    }
}

/// Deploy a function: a gzip tar or a zip of a folder with a `raas.toml`.
///
/// With `Accept: application/x-ndjson` the answer is a stream of progress, one JSON object a line; its last line is the
/// deployed version, or the problem.
#[utoipa::path(post, path = "/v1/functions", tag = "functions", operation_id = "function_deploy", params(DeployQuery),
    request_body(content = Vec<u8>, content_type = "application/gzip"),
    responses(
        (status = 201, body = DeployView),
        (status = 413, description = "The upload is over the limit", body = ProblemView, content_type = "application/problem+json"),
        (status = 422, description = "The archive, the manifest or the dependencies are not acceptable", body = ProblemView, content_type = "application/problem+json"),
    ))]
pub async fn deploy(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(query): Query<DeployQuery>,
    headers: HeaderMap,
    upload: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Response, Problem> {
    caller.require(Scope::FunctionsWrite)?;
    let upload = upload.map_err(|error| {
        let status = error.status();
        let code = if status == StatusCode::PAYLOAD_TOO_LARGE { "package-too-large" } else { "incomplete-package" };
        Problem::caller(status, code, error.body_text())
    })?;
    let alias = query.alias.unwrap_or_else(|| "live".into());
    let streamed = headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes() == b"application/x-ndjson");
    let (sender, receiver) = mpsc::channel::<Progress>(PROGRESS_QUEUE);
    if !streamed {
        drop(receiver);
        return deploy_once(&app, &caller.0, &headers, upload, &alias, &sender).await;
    }
    let (finished, last) = tokio::sync::oneshot::channel();
    // Goes on when the client leaves: what it began is finished, or fails, as a whole.
    app.invoker.detached.clone().spawn(async move {
        let response = deploy_once(&app, &caller.0, &headers, upload, &alias, &sender).await;
        drop(sender);
        let _ = finished.send(response);
    });
    let progress = ReceiverStream::new(receiver).map(|progress| serde_json::to_vec(&progress).unwrap_or_default());
    let last = futures_util::stream::once(async move {
        let response = match last.await {
            Ok(Ok(response)) => response,
            Ok(Err(problem)) => problem.into_response(),
            Err(_) => Problem::internal(&"a deploy ended without an outcome").into_response(),
        };
        axum::body::to_bytes(response.into_body(), 1 << 20).await.map(|bytes| bytes.to_vec()).unwrap_or_default()
    });
    let lines = futures_util::StreamExt::chain(progress, last).map(|mut line| {
        line.push(b'\n');
        Ok::<_, std::convert::Infallible>(line)
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

async fn deploy_once(
    app: &Arc<App>,
    principal: &Principal,
    headers: &HeaderMap,
    upload: Bytes,
    alias: &str,
    progress: &ProgressSender,
) -> Result<Response, Problem> {
    let request = (blake3::hash(&upload).as_bytes().to_vec(), alias.to_owned());
    once(app, principal, headers, "POST /v1/functions", &request, || async {
        let deployed = app
            .deployer
            .deploy(&app.store, app.clock.as_ref(), principal.tenant, upload.clone(), alias, progress)
            .await?;
        app.reload_function(principal.tenant, &deployed.manifest.name).await?;
        let DeployedVersion { manifest, version, existed, digest, size_bytes } = deployed;
        tracing::info!(function = %manifest.name, version, existed, "function deployed");
        let view = DeployView {
            name: manifest.name.to_string(),
            version,
            alias: alias.into(),
            digest: digest.to_string(),
            size_bytes,
            existed,
            warnings: manifest.without_effect(),
        };
        Ok(Created { shown: view.clone(), kept: view })
    })
    .await
}
