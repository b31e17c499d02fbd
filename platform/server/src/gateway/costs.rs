//! `/v1/usage` and `/v1/costs`: what was answered, and what it costs by the platform's price list.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use raas_core::{FunctionId, PreciseAmount, ServedBy, TimestampUs, UsageEvent, UsageFigures};
use raas_store::{UsageDimension, UsageFilter};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::Caller;
use super::functions::{Page, invalid_query, page_rows, route};
use super::helper_instances::find_own;
use super::problem::Problem;
use crate::app::App;
use crate::routing::{Principal, Scope};

/// Which usage is wanted.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct UsageQuery {
    /// From this moment on, RFC 3339.
    pub from: Option<String>,
    /// Before this moment, RFC 3339.
    pub to: Option<String>,
    /// Only this function.
    pub function: Option<String>,
    /// Only this helper instance.
    pub helper: Option<String>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
    /// Rows, 1 to 100.
    pub limit: Option<u32>,
}

/// Which costs are wanted.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CostQuery {
    /// From the hour of this moment on, RFC 3339.
    pub from: Option<String>,
    /// Before this moment, RFC 3339.
    pub to: Option<String>,
    /// Only this function.
    pub function: Option<String>,
    /// Only this helper instance.
    pub helper: Option<String>,
}

/// One answered call.
#[derive(Serialize, ToSchema)]
pub struct UsageItem {
    /// The call's id.
    pub invocation_id: String,
    /// What was called.
    #[serde(flatten)]
    pub callee: Callee,
    /// The function or helper instance whose code called, where code did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub called_by: Option<String>,
    /// The version.
    pub version: u32,
    /// What served it.
    pub served_by: &'static str,
    /// The status it was answered with.
    pub status: u16,
    /// When it arrived, RFC 3339.
    pub started_at: String,
    /// Whether a sandbox had to be assigned or started.
    pub cold_start: bool,
    /// Waiting for a place, milliseconds.
    pub queue_ms: f64,
    /// Waiting for a sandbox and the code, milliseconds.
    pub cold_ms: f64,
    /// In the instance, milliseconds.
    pub exec_ms: f64,
    /// From arrival to answer, milliseconds.
    pub total_ms: f64,
    /// The memory limit it ran under, MiB.
    pub memory_mb: u32,
    /// Memory limit times execution time of a computed answer, GB-seconds.
    pub gb_s: f64,
    /// The event's size.
    pub bytes_in: u64,
    /// The result's size.
    pub bytes_out: u64,
    /// What it costs, exactly, in the currency's major unit.
    pub cost: String,
}

/// What was called: a function or a helper instance.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Callee {
    /// The function's name, or its id once it is deleted.
    Function(String),
    /// The helper instance's name.
    Helper(String),
}

impl Callee {
    fn into_name(self) -> String {
        match self {
            Self::Function(name) | Self::Helper(name) => name,
        }
    }
}

/// What a group of calls costs.
#[derive(Serialize, ToSchema)]
pub struct CostItem {
    /// What was called.
    #[serde(flatten)]
    pub callee: Callee,
    /// The function or helper instance whose code called, where code did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub called_by: Option<String>,
    /// What served the calls.
    pub served_by: &'static str,
    /// How many.
    pub calls: u64,
    /// How many of them were errors.
    pub errors: u64,
    /// How many needed a sandbox assigned or started.
    pub cold_starts: u64,
    /// Memory limit times execution time, GB-seconds.
    pub gb_s: f64,
    /// What they cost, exactly, in the currency's major unit.
    pub cost: String,
}

/// What was spent, by function and by what served the calls.
#[derive(Serialize, ToSchema)]
pub struct CostsView {
    /// The currency's code.
    pub currency: String,
    /// The groups.
    pub items: Vec<CostItem>,
    /// All of them.
    pub total: String,
}

/// A moment of the query, by its name.
pub(super) fn moment(name: &str, text: Option<&str>) -> Result<Option<TimestampUs>, Problem> {
    text.map(|text| text.parse().map_err(|error| invalid_query(format!("{name}: {error}")))).transpose()
}

fn filter(
    app: &App,
    principal: &Principal,
    from: Option<&str>,
    to: Option<&str>,
    function: Option<&str>,
    helper: Option<&str>,
) -> Result<UsageFilter, Problem> {
    let function = match (function, helper) {
        (None, None) => None,
        (Some(name), None) => Some(route(app, principal, name)?.id),
        (None, Some(name)) => Some(find_own(app, principal, name)?.function.id),
        (Some(_), Some(_)) => return Err(invalid_query("`function` and `helper` exclude each other".into())),
    };
    Ok(UsageFilter { tenant: Some(principal.tenant), function, from: moment("from", from)?, to: moment("to", to)? })
}

fn callees(app: &App) -> HashMap<FunctionId, Callee> {
    let snapshot = app.routing.load();
    let functions = snapshot.functions().map(|function| (function.id, Callee::Function(function.name.clone())));
    let helpers = snapshot.helpers().map(|helper| (helper.function.id, Callee::Helper(helper.name.clone())));
    functions.chain(helpers).collect()
}

fn callee(callees: &HashMap<FunctionId, Callee>, id: FunctionId) -> Callee {
    callees.get(&id).cloned().unwrap_or_else(|| Callee::Function(id.to_string()))
}

/// Answered calls, one item each, in the order in which they were recorded.
#[utoipa::path(get, path = "/v1/usage", tag = "usage", operation_id = "usage_list", params(UsageQuery),
    responses((status = 200, body = Page<UsageItem>)))]
pub async fn usage(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(query): Query<UsageQuery>,
) -> Result<Json<Page<UsageItem>>, Problem> {
    let principal = caller.require(Scope::UsageRead)?;
    let limit = page_rows(query.limit)?;
    let filter = filter(
        &app,
        principal,
        query.from.as_deref(),
        query.to.as_deref(),
        query.function.as_deref(),
        query.helper.as_deref(),
    )?;
    let cursor = query
        .cursor
        .as_deref()
        .map(str::parse)
        .transpose()
        .map_err(|_| invalid_query("the cursor is not one of ours".into()))?;
    app.invoker.metering.catch_up().await;
    let (events, next) = app.store.usage_list(&filter, cursor, limit).await?;
    let callees = callees(&app);
    let items = events.iter().map(|event| usage_item(&app, &callees, event)).collect::<Result<_, _>>()?;
    Ok(Json(Page { items, next_cursor: next.map(|cursor| cursor.to_string()) }))
}

fn usage_item(app: &App, callees: &HashMap<FunctionId, Callee>, event: &UsageEvent) -> Result<UsageItem, Problem> {
    let cost = app.prices.cost(&UsageFigures::from(event)).map_err(|error| Problem::internal(&error))?;
    let ms = |us: u64| us as f64 / 1000.0;
    Ok(UsageItem {
        invocation_id: event.invocation.to_string(),
        callee: callee(callees, event.function),
        called_by: event.caller.map(|caller| callee(callees, caller).into_name()),
        version: event.version,
        served_by: event.served_by.as_str(),
        status: event.status,
        started_at: TimestampUs(event.started_us).to_string(),
        cold_start: event.cold_start,
        queue_ms: ms(u64::from(event.queue_us)),
        cold_ms: ms(u64::from(event.cold_us)),
        exec_ms: ms(event.exec_us),
        total_ms: ms(event.total_us),
        memory_mb: event.memory_mb,
        gb_s: gb_s(u64::from(event.memory_mb) * event.exec_us),
        bytes_in: event.bytes_in,
        bytes_out: event.bytes_out,
        cost: cost.to_decimal_string(),
    })
}

fn gb_s(memory_mb_us: u64) -> f64 {
    memory_mb_us as f64 / 1024.0 / 1e6
}

/// What the calls cost, by function and by what served them.
#[utoipa::path(get, path = "/v1/costs", tag = "usage", operation_id = "costs", params(CostQuery),
    responses((status = 200, body = CostsView)))]
pub async fn costs(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(query): Query<CostQuery>,
) -> Result<Json<CostsView>, Problem> {
    let principal = caller.require(Scope::UsageRead)?;
    let filter = filter(
        &app,
        principal,
        query.from.as_deref(),
        query.to.as_deref(),
        query.function.as_deref(),
        query.helper.as_deref(),
    )?;
    app.invoker.metering.catch_up().await;
    let totals = app
        .store
        .usage_totals(&filter, &[UsageDimension::Function, UsageDimension::Caller, UsageDimension::ServedBy])
        .await?;
    let callees = callees(&app);
    let mut sum = PreciseAmount::zero(app.prices.currency);
    let mut items = Vec::with_capacity(totals.len());
    for group in totals {
        let (Some(function), Some(served_by)) = (group.function, group.served_by) else { continue };
        let cost =
            group_cost(&app, served_by, group.calls, group.memory_mb_us).map_err(|error| Problem::internal(&error))?;
        sum = sum.checked_add(cost).map_err(|error| Problem::internal(&error))?;
        items.push(CostItem {
            callee: callee(&callees, function),
            called_by: group.caller.map(|caller| callee(&callees, caller).into_name()),
            served_by: served_by.as_str(),
            calls: group.calls,
            errors: group.errors,
            cold_starts: group.cold_starts,
            gb_s: gb_s(group.memory_mb_us),
            cost: cost.to_decimal_string(),
        });
    }
    items.sort_by(|a, b| (&a.callee, &a.called_by, a.served_by).cmp(&(&b.callee, &b.called_by, b.served_by)));
    Ok(Json(CostsView { currency: app.prices.currency.to_string(), items, total: sum.to_decimal_string() }))
}

fn group_cost(
    app: &App,
    served_by: ServedBy,
    calls: u64,
    memory_mb_us: u64,
) -> Result<PreciseAmount, raas_core::MoneyError> {
    let one = std::num::NonZeroU64::MIN;
    let requests = app.prices.request.cost_of(u128::from(calls), one, app.prices.currency)?;
    if served_by != ServedBy::Computed {
        return Ok(requests);
    }
    requests.checked_add(app.prices.compute_cost(1, memory_mb_us)?)
}
