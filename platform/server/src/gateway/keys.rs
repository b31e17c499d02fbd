//! `/v1/keys`: making, listing and revoking keys. A key's text is shown once and never kept.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use raas_core::TenantId;
use raas_store::{KeyRow, NewKey};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::{Caller, FreshKey};
use super::functions::Page;
use super::idempotency::{Created, once};
use super::problem::{Problem, ProblemView};
use crate::app::App;
use crate::routing::{Principal, Scope};

/// The longest name of a key, bytes.
const NAME_MAX_BYTES: usize = 128;

/// Keys that one tenant may have, revoked ones apart.
const KEYS_MAX: usize = 1_000;

/// A key to be made.
#[derive(Deserialize, ToSchema, Hash)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    /// The tenant, by name or id; the caller's own when left out. Another's needs the scope `admin`.
    pub tenant: Option<String>,
    /// What it is for.
    #[serde(default)]
    pub name: String,
    /// What it allows; everything of the tenant when left out.
    pub scopes: Option<Vec<String>>,
}

/// A key that was made.
#[derive(Serialize, ToSchema)]
pub struct KeyCreated {
    /// Its id.
    pub id: String,
    /// The key. It is shown this once; a repeated request with the same `Idempotency-Key` does not show it again.
    pub key: Option<String>,
    /// Whose it is.
    pub tenant: String,
    /// What it allows.
    pub scopes: Vec<String>,
}

/// A key as it is shown later.
#[derive(Serialize, ToSchema)]
pub struct KeyView {
    /// Its id.
    pub id: String,
    /// Its beginning.
    pub prefix: String,
    /// What it is for.
    pub name: String,
    /// What it allows.
    pub scopes: Vec<String>,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// When it was revoked.
    pub revoked_at: Option<String>,
}

/// Whose keys are wanted.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct KeyQuery {
    /// The tenant, by name or id; the caller's own when left out.
    pub tenant: Option<String>,
}

/// A body that is not what the route takes.
pub fn invalid_body(error: &JsonRejection) -> Problem {
    let status = if error.status() == StatusCode::PAYLOAD_TOO_LARGE { error.status() } else { StatusCode::BAD_REQUEST };
    Problem::caller(status, "invalid-body", error.body_text())
}

/// The tenant meant: the caller's own, or another where the key is the administrator's.
async fn tenant_meant(app: &App, principal: &Principal, tenant: Option<&str>) -> Result<TenantId, Problem> {
    let Some(wanted) = tenant else { return Ok(principal.tenant) };
    let not_found = || Problem::not_found("tenant", wanted);
    let row = match wanted.parse::<TenantId>() {
        Ok(id) => app.store.tenant_get(id).await,
        Err(_) => app.store.tenant_get_by_name(wanted).await,
    };
    match row {
        Ok(row) if row.id == principal.tenant || principal.scopes.allow(Scope::Admin) => Ok(row.id),
        Ok(_) | Err(raas_store::StoreError::NotFound { .. }) => Err(not_found()),
        Err(other) => Err(other.into()),
    }
}

/// Make a key.
#[utoipa::path(post, path = "/v1/keys", tag = "keys", operation_id = "key_create", request_body = KeyRequest,
    responses((status = 201, body = KeyCreated), (status = 403, body = ProblemView, content_type = "application/problem+json")))]
pub async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    request: Result<Json<KeyRequest>, JsonRejection>,
) -> Result<Response, Problem> {
    let principal = caller.require(Scope::Keys)?;
    let Json(request) = request.map_err(|error| invalid_body(&error))?;
    let tenant = tenant_meant(&app, principal, request.tenant.as_deref()).await?;
    let names =
        request.scopes.clone().unwrap_or_else(|| Scope::TENANT.iter().map(|scope| scope.as_str().to_owned()).collect());
    let scopes = names
        .iter()
        .map(|name| {
            Scope::parse(name).ok_or_else(|| {
                let known: Vec<_> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
                Problem::caller(
                    StatusCode::BAD_REQUEST,
                    "invalid-scope",
                    format!("there is no scope `{name}`; there are {}", known.join(", ")),
                )
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    if request.name.len() > NAME_MAX_BYTES || request.name.contains(char::is_control) {
        let title = format!("a key's name has at most {NAME_MAX_BYTES} bytes and no control characters");
        return Err(Problem::caller(StatusCode::BAD_REQUEST, "invalid-name", title));
    }
    if app.store.key_list(tenant).await?.iter().filter(|key| key.revoked.is_none()).count() >= KEYS_MAX {
        let title = format!("a tenant has at most {KEYS_MAX} keys: revoke one that is not used");
        return Err(Problem::caller(StatusCode::CONFLICT, "too-many-keys", title));
    }
    if scopes.is_empty() {
        return Err(Problem::caller(
            StatusCode::BAD_REQUEST,
            "invalid-scope",
            "a key must allow something: name at least one scope",
        ));
    }
    if !principal.scopes.cover(&scopes) {
        return Err(Problem::caller(
            StatusCode::FORBIDDEN,
            "forbidden",
            "a key cannot allow more than the key it is made with",
        ));
    }
    once(&app, principal, &headers, "POST /v1/keys", &request, || async {
        let fresh = FreshKey::generate().map_err(|error| Problem::internal(&error))?;
        let key = NewKey {
            tenant,
            hash: hex::encode(fresh.hash),
            prefix: fresh.shown,
            name: request.name.clone(),
            scopes: names.clone(),
        };
        let row = app.store.key_create(key, app.clock.now()).await?;
        app.reload_keys().await?;
        let view = |key| KeyCreated {
            id: row.id.to_string(),
            key,
            tenant: row.tenant.to_string(),
            scopes: row.scopes.clone(),
        };
        Ok(Created { shown: view(Some(fresh.text)), kept: view(None) })
    })
    .await
}

/// The tenant's keys, without their texts.
#[utoipa::path(get, path = "/v1/keys", tag = "keys", operation_id = "key_list", params(KeyQuery),
    responses((status = 200, body = Page<KeyView>)))]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(query): Query<KeyQuery>,
) -> Result<Json<Page<KeyView>>, Problem> {
    let principal = caller.require(Scope::Keys)?;
    let tenant = tenant_meant(&app, principal, query.tenant.as_deref()).await?;
    let rows = app.store.key_list(tenant).await?;
    Ok(Json(Page { items: rows.into_iter().map(key_view).collect(), next_cursor: None }))
}

fn key_view(row: KeyRow) -> KeyView {
    KeyView {
        id: row.id.to_string(),
        prefix: row.prefix,
        name: row.name,
        scopes: row.scopes,
        created_at: row.created.to_string(),
        revoked_at: row.revoked.map(|at| at.to_string()),
    }
}

/// Revoke a key: the next request with it is refused.
#[utoipa::path(delete, path = "/v1/keys/{id}", tag = "keys", operation_id = "key_revoke", params(("id" = String, Path), KeyQuery),
    responses((status = 204), (status = 404, body = ProblemView, content_type = "application/problem+json")))]
pub async fn revoke(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<KeyQuery>,
) -> Result<StatusCode, Problem> {
    let principal = caller.require(Scope::Keys)?;
    let tenant = tenant_meant(&app, principal, query.tenant.as_deref()).await?;
    let not_found = || Problem::not_found("key", &id);
    let key = id.parse().map_err(|_| not_found())?;
    let active = app.store.key_list_active().await?;
    let is_administrators = |row: &&KeyRow| row.scopes.iter().any(|scope| scope == Scope::Admin.as_str());
    let mut administrators = active.iter().filter(is_administrators);
    if administrators.next().is_some_and(|only| only.id == key) && administrators.next().is_none() {
        let title = "this is the last key that administers the platform: make another with the scope `admin` first";
        return Err(Problem::caller(StatusCode::CONFLICT, "last-administrator-key", title));
    }
    app.store.key_revoke(tenant, key, app.clock.now()).await.map_err(|error| match error {
        raas_store::StoreError::NotFound { .. } => not_found(),
        other => other.into(),
    })?;
    app.reload_keys().await?;
    Ok(StatusCode::NO_CONTENT)
}
