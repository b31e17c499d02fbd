//! `POST /v1/functions`: an uploaded folder becomes a version.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use raas_core::{FunctionManifest, Origin, TenantId, limits};
use raas_store::check_alias_name;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::ToSchema;

use super::auth::Caller;
use super::idempotency::{Created, once};
use super::problem::{Problem, ProblemView};
use crate::app::App;
use crate::deploy::{DeployError, DeployOrder, DeployedVersion, Progress, ProgressSender, Upload};
use crate::routing::{Principal, Scope};

/// Lines of progress that may wait for a slow reader.
const PROGRESS_QUEUE: usize = 256;

/// How long a client may take to send its upload.
const UPLOAD_WITHIN: Duration = Duration::from_secs(300);

/// When to come back where too many deploys are under way, seconds.
const BUSY_RETRY_AFTER_S: u32 = 5;

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
            DeployError::Package(error) => Self::of_platform(error.into()),
            DeployError::Manifest(_) | DeployError::HelperManifest(_) => invalid("invalid-manifest", error.to_string()),
            DeployError::Bindings(_) => invalid("invalid-bindings", error.to_string()),
            DeployError::Install { .. } => {
                Self { error: error.detail(), ..invalid("install-failed", error.to_string()) }
            }
            DeployError::Busy => Self {
                retry_after_s: Some(BUSY_RETRY_AFTER_S),
                ..Self::unavailable("too-many-deploys", error.to_string())
            },
            DeployError::Platform(error) => Self::of_platform(error),
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
        (status = 408, description = "The upload did not arrive in time", body = ProblemView, content_type = "application/problem+json"),
        (status = 413, description = "The upload is over the limit", body = ProblemView, content_type = "application/problem+json"),
        (status = 422, description = "The archive, the manifest or the dependencies are not acceptable", body = ProblemView, content_type = "application/problem+json"),
        (status = 503, description = "Too many deploys are under way", body = ProblemView, content_type = "application/problem+json"),
    ))]
pub async fn deploy(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(query): Query<DeployQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    caller.require(Scope::FunctionsWrite)?;
    let alias = query.alias.unwrap_or_else(|| "live".into());
    check_alias_name(&alias)?;
    let upload = receive(&app, body, &headers).await?;
    with_progress(&app, &headers.clone(), move |app, sender| async move {
        deploy_once(&app, &caller.0, &headers, upload, &alias, &sender).await
    })
    .await
}

/// An upload that came whole, with its place.
pub(super) async fn receive(app: &App, body: Body, headers: &HeaderMap) -> Result<Upload, Problem> {
    let place = app.deployer.upload_place().await?;
    Ok(Upload { archive: read_upload(body, headers).await?, place })
}

/// Does long work and answers with its outcome; where the client accepts a stream, with its progress before that.
pub(super) async fn with_progress<F>(
    app: &Arc<App>,
    headers: &HeaderMap,
    work: impl FnOnce(Arc<App>, ProgressSender) -> F,
) -> Result<Response, Problem>
where
    F: Future<Output = Result<Response, Problem>> + Send + 'static,
{
    let streamed = headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes() == b"application/x-ndjson");
    let (sender, receiver) = mpsc::channel::<Progress>(PROGRESS_QUEUE);
    let work = work(Arc::clone(app), sender);
    if !streamed {
        drop(receiver);
        return work.await;
    }
    let (finished, last) = tokio::sync::oneshot::channel();
    // Goes on when the client leaves: what it began is finished, or fails, as a whole.
    app.invoker.detached.spawn(async move {
        let _ = finished.send(work.await);
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

async fn read_upload(body: Body, headers: &HeaderMap) -> Result<Bytes, Problem> {
    let most = limits::PACKAGE_UPLOAD_MAX_BYTES;
    let too_large = || {
        Problem::caller(
            StatusCode::PAYLOAD_TOO_LARGE,
            "package-too-large",
            format!("the upload is over the limit of {most} bytes"),
        )
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > most) {
        return Err(too_large());
    }
    match tokio::time::timeout(UPLOAD_WITHIN, Limited::new(body, most as usize).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => {
            Err(Problem::caller(StatusCode::BAD_REQUEST, "incomplete-package", "the upload did not arrive whole"))
        }
        Err(_) => Err(Problem::caller(
            StatusCode::REQUEST_TIMEOUT,
            "package-timeout",
            format!("the upload did not arrive within {} s", UPLOAD_WITHIN.as_secs()),
        )),
    }
}

/// Refuses a function that would call helper instances that there are not.
fn bindings_exist(app: &App, tenant: TenantId, manifest: &FunctionManifest) -> Result<(), DeployError> {
    let snapshot = app.routing.load();
    let missing = manifest.helpers.iter().find(|(_, instance)| snapshot.helper(&tenant, instance).is_none());
    missing.map_or(Ok(()), |(name, instance)| {
        Err(DeployError::Bindings(format!(
            "helpers.{name} is bound to `{instance}`, and there is no such helper instance; make it with `raas helper create PUBLISHER/NAME --name {instance}`"
        )))
    })
}

async fn deploy_once(
    app: &Arc<App>,
    principal: &Principal,
    headers: &HeaderMap,
    upload: Upload,
    alias: &str,
    progress: &ProgressSender,
) -> Result<Response, Problem> {
    let request = (blake3::hash(&upload.archive).as_bytes().to_vec(), alias.to_owned());
    once(app, principal, headers, "POST /v1/functions", &request, || async move {
        let (bound, tenant) = (Arc::clone(app), principal.tenant);
        let accept = Box::new(move |manifest: &FunctionManifest| bindings_exist(&bound, tenant, manifest));
        let order = DeployOrder { tenant, upload, alias, accept };
        let deployed = app.deployer.deploy(&app.store, app.clock.as_ref(), order, progress).await?;
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
