//! `/v1/tenants`: for the administrator.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use raas_store::TenantRow;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::Caller;
use super::functions::{Page, PageQuery, invalid_query, page};
use super::idempotency::{Created, once};
use super::keys::invalid_body;
use super::problem::{Problem, ProblemView};
use crate::app::App;
use crate::routing::Scope;

/// A tenant to be made.
#[derive(Deserialize, ToSchema, Hash)]
#[serde(deny_unknown_fields)]
pub struct TenantRequest {
    /// Its name, unique on the platform.
    pub name: String,
}

/// A tenant.
#[derive(Serialize, ToSchema)]
pub struct TenantView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was made, RFC 3339.
    pub created_at: String,
}

fn view(row: &TenantRow) -> TenantView {
    TenantView { id: row.id.to_string(), name: row.name.clone(), created_at: row.created.to_string() }
}

/// Longest name of a tenant.
const NAME_MAX_BYTES: usize = 128;

/// A tenant's name is shown on lines and is part of its helpers' names, `tenant/helper`.
fn check_name(name: &str) -> Result<(), Problem> {
    let plain = !name.is_empty()
        && name.len() <= NAME_MAX_BYTES
        && name.trim() == name
        && !name.contains('/')
        && !name.contains(char::is_control);
    if plain {
        return Ok(());
    }
    let title = format!(
        "a tenant's name has 1 to {NAME_MAX_BYTES} bytes, no `/`, no control characters and no spaces around it"
    );
    Err(Problem::caller(StatusCode::BAD_REQUEST, "invalid-name", title))
}

/// Make a tenant.
#[utoipa::path(post, path = "/v1/tenants", tag = "tenants", operation_id = "tenant_create", request_body = TenantRequest,
    responses((status = 201, body = TenantView), (status = 409, body = ProblemView, content_type = "application/problem+json")))]
pub async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    request: Result<Json<TenantRequest>, JsonRejection>,
) -> Result<Response, Problem> {
    let principal = caller.require(Scope::Admin)?;
    let Json(request) = request.map_err(|error| invalid_body(&error))?;
    check_name(&request.name)?;
    once(&app, principal, &headers, "POST /v1/tenants", &request, || async {
        let row = app.store.tenant_create(&request.name, app.clock.now()).await?;
        Ok(Created { shown: view(&row), kept: view(&row) })
    })
    .await
}

/// All tenants.
#[utoipa::path(get, path = "/v1/tenants", tag = "tenants", operation_id = "tenant_list", params(PageQuery),
    responses((status = 200, body = Page<TenantView>)))]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<TenantView>>, Problem> {
    caller.require(Scope::Admin)?;
    let limit = query.rows()?;
    let after = query
        .cursor
        .as_deref()
        .map(str::parse)
        .transpose()
        .map_err(|_| invalid_query("the cursor is not one of ours".into()))?;
    let rows = app.store.tenant_list(limit + 1, after).await?;
    Ok(Json(page(rows, limit, |row| row.id.to_string(), |row| view(&row))))
}
