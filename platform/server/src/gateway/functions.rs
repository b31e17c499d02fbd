//! Functions, versions and aliases: `/v1/functions…` apart from deploying, calling, logs and results.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::{Path, Query, State};
use http::StatusCode;
use raas_core::{FunctionManifest, FunctionName, ServedBy};
use raas_store::{AliasTarget, VersionRow};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::Caller;
use super::problem::{Problem, ProblemView};
use crate::app::App;
use crate::routing::{FunctionRoute, Principal, Scope};
use crate::scheduler::InstanceStatus;

/// Rows of a page when nothing is said.
const PAGE_DEFAULT_ROWS: u32 = 50;

/// One page of a list.
#[derive(Serialize, ToSchema)]
pub struct Page<T> {
    /// The rows.
    pub items: Vec<T>,
    /// Where the next page begins; absent on the last.
    pub next_cursor: Option<String>,
}

/// Which page is wanted.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Rows, 1 to 100.
    pub limit: Option<u32>,
}

impl PageQuery {
    /// The rows wanted, within the limits.
    ///
    /// # Errors
    /// 400 where it is out of range.
    pub fn rows(&self) -> Result<u32, Problem> {
        page_rows(self.limit)
    }
}

/// The rows wanted, within the limits.
///
/// # Errors
/// 400 where it is out of range.
pub fn page_rows(limit: Option<u32>) -> Result<u32, Problem> {
    let most = raas_core::limits::PAGE_MAX_ROWS;
    match limit.unwrap_or(PAGE_DEFAULT_ROWS) {
        rows if (1..=most).contains(&rows) => Ok(rows),
        rows => Err(invalid_query(format!("limit must be from 1 to {most}, not {rows}"))),
    }
}

/// A query that cannot be used.
pub fn invalid_query(title: String) -> Problem {
    Problem::caller(StatusCode::BAD_REQUEST, "invalid-query", title)
}

/// Cuts rows fetched one beyond the page, and tells where the next page begins.
pub fn page<R, T>(mut rows: Vec<R>, limit: u32, cursor: impl Fn(&R) -> String, view: impl Fn(R) -> T) -> Page<T> {
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next_cursor = rows.last().filter(|_| more).map(cursor);
    Page { items: rows.into_iter().map(view).collect(), next_cursor }
}

/// A function in a list.
#[derive(Serialize, ToSchema)]
pub struct FunctionSummary {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When it was first deployed, RFC 3339.
    pub created_at: String,
    /// Its newest version.
    pub latest_version: Option<u32>,
    /// What the alias `live` points at.
    pub live: Vec<AliasTargetView>,
    /// Its runtime.
    pub runtime: Option<&'static str>,
}

/// A function.
#[derive(Serialize, ToSchema)]
pub struct FunctionView {
    /// The summary's fields.
    #[serde(flatten)]
    pub summary: FunctionSummary,
    /// The manifest of the newest version.
    #[schema(value_type = Option<Object>)]
    pub manifest: Option<Arc<FunctionManifest>>,
    /// Its aliases.
    pub aliases: Vec<AliasView>,
    /// What runs now.
    pub instances: Vec<InstanceStatus>,
    /// Answers since the platform started.
    pub served: ServedCounts,
}

/// Answers since the platform started, by what served them.
#[derive(Serialize, ToSchema)]
pub struct ServedCounts {
    /// By an execution.
    pub computed: u64,
    /// By a kept result.
    pub hit: u64,
    /// By somebody else's execution of the same.
    pub coalesced: u64,
    /// By a result computed ahead.
    pub precomputed: u64,
    /// By a kept result past its time.
    pub stale: u64,
    /// Answers that were errors, whatever served them.
    pub errors: u64,
}

/// A version.
#[derive(Serialize, ToSchema)]
pub struct VersionView {
    /// Its number.
    pub version: u32,
    /// Code, configuration, runtime and lock file, hashed.
    pub digest: String,
    /// The code, hashed.
    pub code_digest: String,
    /// Its files together, bytes.
    pub size_bytes: u64,
    /// When it was deployed, RFC 3339.
    pub created_at: String,
    /// What its author declared.
    #[schema(value_type = Object)]
    pub manifest: FunctionManifest,
}

/// An alias.
#[derive(Serialize, ToSchema)]
pub struct AliasView {
    /// Its name.
    pub name: String,
    /// What it points at.
    pub targets: Vec<AliasTargetView>,
}

/// One version that an alias points at.
#[derive(Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AliasTargetView {
    /// The version.
    pub version: u32,
    /// Its share of the calls, relative to the others'.
    #[serde(default = "one")]
    pub weight: u32,
}

fn one() -> u32 {
    1
}

/// What an alias is to point at.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AliasRequest {
    /// One version, or several with weights.
    pub targets: Vec<AliasTargetView>,
}

pub(super) fn function_name(name: &str) -> Result<FunctionName, Problem> {
    // A name that no function can have is simply not there.
    FunctionName::parse(name).map_err(|_| Problem::not_found("function", name))
}

pub(super) fn route(app: &App, principal: &Principal, name: &str) -> Result<Arc<FunctionRoute>, Problem> {
    app.routing.load().function(&principal.tenant, name).cloned().ok_or_else(|| Problem::not_found("function", name))
}

fn targets(route: &FunctionRoute, alias: &str) -> Vec<AliasTargetView> {
    let targets = route.aliases.get(alias).map(|alias| alias.targets.as_slice()).unwrap_or_default();
    targets.iter().map(|&(version, weight)| AliasTargetView { version, weight }).collect()
}

fn summary(row: raas_store::FunctionRow, route: Option<&FunctionRoute>) -> FunctionSummary {
    let newest = route.and_then(|route| route.versions.last_key_value());
    FunctionSummary {
        id: row.id.to_string(),
        name: row.name.to_string(),
        created_at: row.created.to_string(),
        latest_version: newest.map(|(number, _)| *number),
        live: route.map(|route| targets(route, "live")).unwrap_or_default(),
        runtime: newest.map(|(_, version)| version.manifest.runtime.as_str()),
    }
}

pub(super) fn served(route: &FunctionRoute) -> ServedCounts {
    let count = |served_by: ServedBy| route.counters.served[served_by.code() as usize].load(Ordering::Relaxed);
    ServedCounts {
        computed: count(ServedBy::Computed),
        hit: count(ServedBy::Hit),
        coalesced: count(ServedBy::Coalesced),
        precomputed: count(ServedBy::Precomputed),
        stale: count(ServedBy::Stale),
        errors: route.counters.errors.load(Ordering::Relaxed),
    }
}

/// The tenant's functions, by name.
#[utoipa::path(get, path = "/v1/functions", tag = "functions", operation_id = "function_list", params(PageQuery),
    responses((status = 200, body = Page<FunctionSummary>)))]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<FunctionSummary>>, Problem> {
    let principal = caller.require(Scope::FunctionsRead)?;
    let limit = query.rows()?;
    let after = query
        .cursor
        .as_deref()
        .map(FunctionName::parse)
        .transpose()
        .map_err(|_| invalid_query("the cursor is not one of ours".into()))?;
    let rows = app.store.function_list(principal.tenant, limit + 1, after.as_ref()).await?;
    let snapshot = app.routing.load();
    let view = |row: raas_store::FunctionRow| {
        let route = snapshot.function(&principal.tenant, row.name.as_str());
        summary(row, route.map(Arc::as_ref))
    };
    Ok(Json(page(rows, limit, |row| row.name.to_string(), view)))
}

/// One function: its newest manifest, aliases, what runs now.
#[utoipa::path(get, path = "/v1/functions/{name}", tag = "functions", operation_id = "function_show", params(("name" = String, Path)),
    responses((status = 200, body = FunctionView), (status = 404, body = ProblemView, content_type = "application/problem+json")))]
pub async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<FunctionView>, Problem> {
    let principal = caller.require(Scope::FunctionsRead)?;
    let route = route(&app, principal, &name)?;
    let row = app.store.function_get(principal.tenant, &function_name(&name)?).await?;
    Ok(Json(FunctionView {
        manifest: route.versions.last_key_value().map(|(_, version)| Arc::clone(&version.manifest)),
        aliases: route
            .aliases
            .keys()
            .map(|alias| AliasView { name: alias.clone(), targets: targets(&route, alias) })
            .collect(),
        instances: route.versions.values().flat_map(|version| version.pool.statuses()).collect(),
        served: served(&route),
        summary: summary(row, Some(&route)),
    }))
}

/// Delete a function. Its results and versions become unreachable at once; calls in progress are answered.
#[utoipa::path(delete, path = "/v1/functions/{name}", tag = "functions", operation_id = "function_delete", params(("name" = String, Path)),
    responses((status = 204), (status = 404, body = ProblemView, content_type = "application/problem+json")))]
pub async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    let principal = caller.require(Scope::FunctionsWrite)?;
    let name = function_name(&name)?;
    app.delete_function(principal.tenant, &name).await?;
    tracing::info!(function = %name, "function deleted");
    Ok(StatusCode::NO_CONTENT)
}

/// A function's versions, the newest first.
#[utoipa::path(get, path = "/v1/functions/{name}/versions", tag = "functions", operation_id = "version_list",
    params(("name" = String, Path), PageQuery),
    responses((status = 200, body = Page<VersionView>), (status = 404, body = ProblemView, content_type = "application/problem+json")))]
pub async fn versions(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(name): Path<String>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<VersionView>>, Problem> {
    let principal = caller.require(Scope::FunctionsRead)?;
    let limit = query.rows()?;
    let before = query
        .cursor
        .as_deref()
        .map(str::parse)
        .transpose()
        .map_err(|_| invalid_query("the cursor is not one of ours".into()))?;
    // A version that is being deployed is listed once it can be called, which is a moment after it is stored.
    let newest = route(&app, principal, &name)?.versions.keys().max().copied().unwrap_or_default();
    let before = before.unwrap_or(u32::MAX).min(newest.saturating_add(1));
    let rows = app.store.version_list(principal.tenant, &function_name(&name)?, limit + 1, Some(before)).await?;
    Ok(Json(page(rows, limit, |row| row.number.to_string(), version_view)))
}

fn version_view(row: VersionRow) -> VersionView {
    VersionView {
        version: row.number,
        digest: row.digest,
        code_digest: row.code_digest,
        size_bytes: row.package_size_bytes,
        created_at: row.created.to_string(),
        manifest: row.manifest,
    }
}

/// A function's aliases.
#[utoipa::path(get, path = "/v1/functions/{name}/aliases", tag = "functions", operation_id = "alias_list", params(("name" = String, Path)),
    responses((status = 200, body = Page<AliasView>), (status = 404, body = ProblemView, content_type = "application/problem+json")))]
pub async fn aliases(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Page<AliasView>>, Problem> {
    let principal = caller.require(Scope::FunctionsRead)?;
    let route = route(&app, principal, &name)?;
    let items =
        route.aliases.keys().map(|alias| AliasView { name: alias.clone(), targets: targets(&route, alias) }).collect();
    Ok(Json(Page { items, next_cursor: None }))
}

/// Point an alias at a version, or split it over several by weight.
#[utoipa::path(put, path = "/v1/functions/{name}/aliases/{alias}", tag = "functions", operation_id = "alias_set",
    params(("name" = String, Path), ("alias" = String, Path)), request_body = AliasRequest,
    responses((status = 200, body = AliasView), (status = 404, body = ProblemView, content_type = "application/problem+json")))]
pub async fn set_alias(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((name, alias)): Path<(String, String)>,
    request: Result<Json<AliasRequest>, axum::extract::rejection::JsonRejection>,
) -> Result<Json<AliasView>, Problem> {
    let principal = caller.require(Scope::FunctionsWrite)?;
    let Json(request) = request.map_err(|error| super::keys::invalid_body(&error))?;
    let name = function_name(&name)?;
    let targets: Vec<_> =
        request.targets.iter().map(|target| AliasTarget { version: target.version, weight: target.weight }).collect();
    app.store.alias_set(principal.tenant, &name, &alias, &targets, app.clock.now()).await?;
    app.reload_function(principal.tenant, &name).await?;
    Ok(Json(AliasView { name: alias, targets: request.targets }))
}

/// Delete an alias.
#[utoipa::path(delete, path = "/v1/functions/{name}/aliases/{alias}", tag = "functions", operation_id = "alias_delete",
    params(("name" = String, Path), ("alias" = String, Path)),
    responses((status = 204), (status = 404, body = ProblemView, content_type = "application/problem+json")))]
pub async fn delete_alias(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path((name, alias)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let principal = caller.require(Scope::FunctionsWrite)?;
    let name = function_name(&name)?;
    app.store.alias_delete(principal.tenant, &name, &alias).await?;
    app.reload_function(principal.tenant, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}
