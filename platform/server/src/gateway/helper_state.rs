//! `/v1/helper-instances/{id}/state`: what an instance keeps, seen and changed from outside.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderMap, StatusCode, header};
use raas_core::{Origin, limits};
use raas_helpers::StateError;
use raas_store::{StateCommit, StateEntry, StateForm, StateKey, StateWrite};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::auth::Caller;
use super::functions::{Page, invalid_query};
use super::helper_instances::find_own;
use super::helpers::read_json;
use super::problem::{Problem, ProblemView};
use crate::app::App;
use crate::helpers::HelperRoute;
use crate::routing::Scope;

/// Keys of a page when nothing is said.
const KEYS_DEFAULT: u32 = 100;

/// Which keys are wanted.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct StateQuery {
    /// Only keys that begin with this.
    #[serde(default)]
    pub prefix: String,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Keys, 1 to 1000.
    pub limit: Option<u32>,
    /// With their values.
    #[serde(default)]
    pub values: bool,
}

/// Values in one page: a page ends with the one that passes this, bytes.
const VALUES_MAX_BYTES: u64 = 8 << 20;

/// The longest time that a key may be kept for where it is not kept for ever: a hundred years, seconds.
const TTL_MAX_S: u64 = 100 * 366 * 86_400;

/// One key.
#[derive(Serialize, ToSchema)]
pub struct EntryView {
    /// The key.
    pub key: String,
    /// Its value's size, bytes.
    pub size_bytes: u64,
    /// When it goes, RFC 3339; for ever where it is left out.
    pub expires_at: Option<String>,
    /// When it was written, RFC 3339.
    pub updated_at: String,
    /// Its value, where it is JSON and values are wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub value: Option<Box<RawValue>>,
    /// Its value in base64, where it is bytes and values are wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

/// Writes that take place together or not at all.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WritesBody {
    /// At most 1,000.
    pub writes: Vec<WriteBody>,
}

/// One write: of `value` (JSON) or `base64` (bytes); of neither, the key is deleted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteBody {
    /// The key.
    pub key: String,
    /// A JSON value; `null` is one.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Object>)]
    pub value: Option<Box<RawValue>>,
    /// Bytes.
    pub base64: Option<String>,
    /// For how long; for ever where it is left out, seconds.
    pub ttl_s: Option<u64>,
}

/// A value that is there, whatever it is.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

impl From<StateError> for Problem {
    fn from(error: StateError) -> Self {
        let title = error.to_string();
        match error {
            StateError::Malformed(_) => Self::caller(StatusCode::BAD_REQUEST, error.code(), title),
            StateError::TooLarge(_) => Self::caller(StatusCode::PAYLOAD_TOO_LARGE, error.code(), title),
            StateError::Quota { .. } => Self::caller(StatusCode::INSUFFICIENT_STORAGE, error.code(), title),
            StateError::LeaseLost | StateError::CallOver => Self::caller(StatusCode::CONFLICT, error.code(), title),
            StateError::Gone => Self::caller(StatusCode::NOT_FOUND, error.code(), title),
            StateError::Unavailable => {
                Self { retryable: true, ..Self::code_only(error.code(), &title, Origin::Platform) }
            }
        }
    }
}

fn entry(key: StateKey, kept: Option<StateEntry>) -> EntryView {
    let (mut value, mut base64) = (None, None);
    match kept {
        Some(StateEntry { form: StateForm::Json, value: bytes, .. }) => {
            value = String::from_utf8(bytes).ok().and_then(|text| RawValue::from_string(text).ok())
        }
        Some(StateEntry { value: bytes, .. }) => base64 = Some(BASE64.encode(bytes)),
        None => {}
    }
    EntryView {
        key: key.key,
        size_bytes: key.size_bytes,
        expires_at: key.expires.map(|at| at.to_string()),
        updated_at: key.updated.to_string(),
        value,
        base64,
    }
}

/// List what an instance keeps, by key.
#[utoipa::path(get, path = "/v1/helper-instances/{id}/state", tag = "helpers", operation_id = "helper_state_list",
    params(("id" = String, Path, description = "The instance's id or name"), StateQuery), responses((status = 200, body = Page<EntryView>)))]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<StateQuery>,
) -> Result<Json<Page<EntryView>>, Problem> {
    let principal = caller.require(Scope::HelpersRead)?;
    let route = find_own(&app, principal, &id)?;
    let limit = query.limit.unwrap_or(KEYS_DEFAULT);
    if !(1..=limits::STATE_LIST_MAX_KEYS).contains(&limit) {
        return Err(invalid_query(format!("limit must be from 1 to {}, not {limit}", limits::STATE_LIST_MAX_KEYS)));
    }
    let after = query.cursor.as_deref();
    let now = app.clock.now();
    let mut keys = app.store.helper_state_list(route.id, &query.prefix, limit + 1, after, now).await?;
    let mut more = keys.len() > limit as usize;
    keys.truncate(limit as usize);
    let (mut items, mut bytes) = (Vec::with_capacity(keys.len()), 0);
    for key in keys {
        if query.values && bytes >= VALUES_MAX_BYTES {
            more = true;
            break;
        }
        bytes += key.size_bytes;
        let kept = match query.values {
            true => app.store.helper_state_get(route.id, &key.key, now).await?,
            false => None,
        };
        items.push(entry(key, kept));
    }
    let next_cursor = items.last().filter(|_| more).map(|last| last.key.clone());
    Ok(Json(Page { items, next_cursor }))
}

/// Write several keys together or not at all.
#[utoipa::path(post, path = "/v1/helper-instances/{id}/state", tag = "helpers", operation_id = "helper_state_write", request_body = WritesBody,
    params(("id" = String, Path, description = "The instance's id or name")),
    responses((status = 204), (status = 507, description = "The instance's quota does not hold it", body = ProblemView, content_type = "application/problem+json")))]
pub async fn write(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    body: Body,
) -> Result<StatusCode, Problem> {
    let principal = caller.require(Scope::HelpersWrite)?;
    let route = find_own(&app, principal, &id)?;
    let body: WritesBody = read_json(body).await?;
    let writes = body.writes.into_iter().map(write_of).collect::<Result<Vec<_>, Problem>>()?;
    commit(&app, &route, writes).await
}

fn checked_ttl_ms(ttl_s: u64) -> Result<u64, Problem> {
    if (1..=TTL_MAX_S).contains(&ttl_s) {
        return Ok(ttl_s * 1000);
    }
    let text = format!("ttl_s is from 1 to {TTL_MAX_S} seconds, not {ttl_s}; leave it out to keep the key for ever");
    Err(Problem::caller(StatusCode::BAD_REQUEST, "invalid-body", text))
}

fn write_of(write: WriteBody) -> Result<StateWrite, Problem> {
    let ttl_ms = write.ttl_s.map(checked_ttl_ms).transpose()?;
    let put = |form, value| StateWrite::Put { key: write.key.clone(), form, value, ttl_ms };
    match (write.value, write.base64) {
        (Some(_), Some(_)) => Err(Problem::caller(
            StatusCode::BAD_REQUEST,
            "invalid-body",
            format!("key `{}` has both `value` and `base64`", write.key),
        )),
        (Some(value), None) => Ok(put(StateForm::Json, value.get().as_bytes().to_vec())),
        (None, Some(text)) => match BASE64.decode(&text) {
            Ok(value) => Ok(put(StateForm::Bytes, value)),
            Err(error) => Err(Problem::caller(
                StatusCode::BAD_REQUEST,
                "invalid-body",
                format!("key `{}`: `base64` cannot be read: {error}", write.key),
            )),
        },
        (None, None) => Ok(StateWrite::Delete { key: write.key }),
    }
}

async fn commit(app: &App, route: &HelperRoute, writes: Vec<StateWrite>) -> Result<StatusCode, Problem> {
    if writes.len() > limits::STATE_COMMIT_MAX_WRITES {
        let most = limits::STATE_COMMIT_MAX_WRITES;
        return Err(StateError::TooLarge(format!("one commit has at most {most} writes")).into());
    }
    for write in &writes {
        let (key, size) = match write {
            StateWrite::Put { key, value, .. } => (key, value.len()),
            StateWrite::Delete { key } => (key, 0),
        };
        if key.is_empty() || key.len() > limits::STATE_KEY_MAX_BYTES {
            return Err(StateError::TooLarge(format!("a key has 1 to {} bytes", limits::STATE_KEY_MAX_BYTES)).into());
        }
        if size > limits::STATE_VALUE_MAX_BYTES {
            let most = limits::STATE_VALUE_MAX_BYTES;
            return Err(StateError::TooLarge(format!("a value is at most {most} bytes, not {size}")).into());
        }
    }
    let quota_bytes = u64::from(route.manifest.state_mb) << 20;
    app.state_writer.commit(StateCommit { instance: route.id, writes, quota_bytes, key: None }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Show one value: as JSON, or as bytes.
#[utoipa::path(get, path = "/v1/helper-instances/{id}/state/{key}", tag = "helpers", operation_id = "helper_state_get",
    params(("id" = String, Path, description = "The instance's id or name"), ("key" = String, Path, description = "The key; slashes are part of it")),
    responses((status = 200, description = "The value", body = Object), (status = 404, body = ProblemView, content_type = "application/problem+json")))]
pub async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, key)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let principal = caller.require(Scope::HelpersRead)?;
    let route = find_own(&app, principal, &id)?;
    let found = app.store.helper_state_get(route.id, &key, app.clock.now()).await?;
    let entry = found.ok_or_else(|| Problem::not_found("key", &key))?;
    let content_type = match entry.form {
        StateForm::Json => "application/json",
        StateForm::Bytes => "application/octet-stream",
    };
    Ok(([(header::CONTENT_TYPE, content_type)], entry.value).into_response())
}

/// How to write.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PutQuery {
    /// For how long; for ever where it is left out, seconds.
    pub ttl_s: Option<u64>,
}

/// Write one value: the body, JSON unless its content type is `application/octet-stream`.
#[utoipa::path(put, path = "/v1/helper-instances/{id}/state/{key}", tag = "helpers", operation_id = "helper_state_put", request_body = Object,
    params(("id" = String, Path, description = "The instance's id or name"), ("key" = String, Path, description = "The key; slashes are part of it"), PutQuery),
    responses((status = 204), (status = 507, description = "The instance's quota does not hold it", body = ProblemView, content_type = "application/problem+json")))]
pub async fn put(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, key)): Path<(String, String)>,
    Query(query): Query<PutQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let principal = caller.require(Scope::HelpersWrite)?;
    let route = find_own(&app, principal, &id)?;
    let invalid = |title: String| Problem::caller(StatusCode::BAD_REQUEST, "invalid-body", title);
    let value = axum::body::to_bytes(body, limits::STATE_VALUE_MAX_BYTES)
        .await
        .map_err(|_| StateError::TooLarge(format!("a value is at most {} bytes", limits::STATE_VALUE_MAX_BYTES)))?;
    let bytes = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes() == b"application/octet-stream");
    let form = if bytes { StateForm::Bytes } else { StateForm::Json };
    if form == StateForm::Json {
        serde_json::from_slice::<&RawValue>(&value)
            .map_err(|error| invalid(format!("the value is not JSON: {error}")))?;
    }
    let ttl_ms = query.ttl_s.map(checked_ttl_ms).transpose()?;
    commit(&app, &route, vec![StateWrite::Put { key, form, value: value.to_vec(), ttl_ms }]).await
}

/// Delete one key.
#[utoipa::path(delete, path = "/v1/helper-instances/{id}/state/{key}", tag = "helpers", operation_id = "helper_state_delete",
    params(("id" = String, Path, description = "The instance's id or name"), ("key" = String, Path, description = "The key; slashes are part of it")),
    responses((status = 204)))]
pub async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((id, key)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let principal = caller.require(Scope::HelpersWrite)?;
    let route = find_own(&app, principal, &id)?;
    commit(&app, &route, vec![StateWrite::Delete { key }]).await
}
