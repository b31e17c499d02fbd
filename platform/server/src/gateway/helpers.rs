//! `/v1/helpers`: the catalogue of what a tenant has published.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::auth::Caller;
use super::deploys::{receive, with_progress};
use super::functions::Page;
use super::idempotency::{Created, once};
use super::problem::{Problem, ProblemView};
use crate::app::App;
use crate::helpers::{PublishedHelper, publish as publish_upload};
use crate::routing::Scope;

/// A published version.
#[derive(Clone, Serialize, ToSchema)]
pub struct PublishView {
    /// Who published it: the tenant's name.
    pub publisher: String,
    /// The helper.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Code, configuration, runtime and lock file, hashed.
    pub digest: String,
    /// Its files together, bytes.
    pub size_bytes: u64,
    /// Whether the very same version was published before.
    pub existed: bool,
}

/// Publish a helper: a gzip tar or a zip of a folder with a `helper.toml`. A published version never changes.
///
/// With `Accept: application/x-ndjson` the answer is a stream of progress, one JSON object a line; its last line is the
/// published version, or the problem.
#[utoipa::path(post, path = "/v1/helpers", tag = "helpers", operation_id = "helper_publish",
    request_body(content = Vec<u8>, content_type = "application/gzip"),
    responses(
        (status = 201, body = PublishView),
        (status = 409, description = "The version is published with other content", body = ProblemView, content_type = "application/problem+json"),
        (status = 413, description = "The upload is over the limit", body = ProblemView, content_type = "application/problem+json"),
        (status = 422, description = "The archive, the manifest, a schema or the dependencies are not acceptable", body = ProblemView, content_type = "application/problem+json"),
    ))]
pub async fn publish(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    caller.require(Scope::HelpersWrite)?;
    let upload = receive(&app, body, &headers).await?;
    with_progress(&app, &headers.clone(), move |app, sender| async move {
        let principal = &caller.0;
        let request = blake3::hash(&upload.archive).as_bytes().to_vec();
        once(&app, principal, &headers, "POST /v1/helpers", &request, || async {
            let publisher = app.store.tenant_get(principal.tenant).await?.name;
            let published =
                publish_upload(&app.deployer, &app.store, app.clock.as_ref(), principal.tenant, upload, &sender)
                    .await?;
            let PublishedHelper { manifest, digest, size_bytes, existed } = published;
            tracing::info!(helper = %manifest.name, version = %manifest.version, existed, "helper published");
            let view = PublishView {
                publisher,
                name: manifest.name.to_string(),
                version: manifest.version,
                digest,
                size_bytes,
                existed,
            };
            Ok(Created { shown: view.clone(), kept: view })
        })
        .await
    })
    .await
}

/// A helper and its newest version.
#[derive(Serialize, ToSchema)]
pub struct HelperView {
    /// Who published it.
    pub publisher: String,
    /// Its name.
    pub name: String,
    /// Its newest version.
    pub version: String,
    /// What it is for.
    pub summary: String,
    /// All versions, the newest first.
    pub versions: Vec<String>,
    /// The manifest of the newest version.
    #[schema(value_type = Object)]
    pub manifest: raas_core::HelperManifest,
}

/// List the helpers that the tenant has published.
#[utoipa::path(get, path = "/v1/helpers", tag = "helpers", operation_id = "helper_list", responses((status = 200, body = Page<HelperView>)))]
pub async fn list(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Page<HelperView>>, Problem> {
    let principal = caller.require(Scope::HelpersRead)?;
    let publisher = app.store.tenant_get(principal.tenant).await?.name;
    let mut items = Vec::new();
    for helper in app.store.helper_list(principal.tenant).await? {
        let versions = app.store.helper_version_list(helper.id).await?;
        let Some(newest) = versions.first() else { continue };
        items.push(HelperView {
            publisher: publisher.clone(),
            name: helper.name.clone(),
            version: newest.version.clone(),
            summary: newest.manifest.summary.clone(),
            versions: versions.iter().map(|version| version.version.clone()).collect(),
            manifest: newest.manifest.clone(),
        });
    }
    Ok(Json(Page { items, next_cursor: None }))
}

/// A body that must be JSON of a certain shape.
///
/// # Errors
/// 400 saying what is wrong with it.
pub(super) async fn read_json<T: serde::de::DeserializeOwned>(body: Body) -> Result<T, Problem> {
    let invalid = |title: String| Problem::caller(StatusCode::BAD_REQUEST, "invalid-body", title);
    let bytes = axum::body::to_bytes(body, raas_core::limits::BODY_MAX_BYTES)
        .await
        .map_err(|error| invalid(format!("the body cannot be read: {error}")))?;
    serde_json::from_slice(&bytes).map_err(|error| invalid(format!("the body is not what is expected: {error}")))
}
