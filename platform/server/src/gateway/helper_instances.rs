//! `/v1/helper-instances`: making, seeing, changing, training and deleting helper instances.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode};
use raas_core::{HelperInstanceId, ServedBy};
use raas_store::HelperInstanceRow;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::auth::Caller;
use super::functions::{Page, ServedCounts};
use super::helpers::read_json;
use super::idempotency::{Created, once};
use super::problem::{Problem, ProblemView};
use crate::app::App;
use crate::helpers::{HelperRoute, InstanceChange, NewInstance};
use crate::routing::{Principal, Scope};
use crate::scheduler::InstanceStatus;

/// Tenants that an instance may be shared with.
const SHARED_WITH_MAX: usize = 100;

/// Training runs that are shown.
const TRAINING_RUNS_SHOWN: u32 = 50;

/// An instance to be made.
#[derive(Clone, Deserialize, Hash, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateBody {
    /// `PUBLISHER/NAME`, or `PUBLISHER/NAME@VERSION`.
    pub helper: String,
    /// The instance's name.
    pub name: String,
    /// Its configuration.
    #[serde(default = "empty_object")]
    #[schema(value_type = Object)]
    pub config: Value,
    /// The instances that it calls, by the name in its code.
    #[serde(default)]
    pub bindings: BTreeMap<String, String>,
}

fn empty_object() -> Value {
    Value::Object(serde_json::Map::new())
}

/// What to change: one thing at a time, but for a version and a configuration, which may come together.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub enum ChangeBody {
    /// Run this version from now on.
    Version(String),
    /// Run the version of before the last change of version: `true`.
    Rollback(bool),
    /// Run with this configuration from now on.
    #[schema(value_type = Object)]
    Config(Value),
    /// Let these tenants call it beside its own, by their names, and no others.
    SharedWith(Vec<String>),
    /// `serving`; `stopped`: what runs is finished; `killed`: what runs is cut off, and it stays stopped.
    State(WantedState),
}

/// What an instance should do.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum WantedState {
    /// Serve.
    Serving,
    /// Take no calls; what runs is finished.
    Stopped,
    /// Take no calls; what runs is cut off.
    Killed,
}

/// A helper instance.
#[derive(Clone, Serialize, ToSchema)]
pub struct InstanceView {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The helper, `PUBLISHER/NAME`.
    pub helper: String,
    /// The version that it runs.
    pub version: String,
    /// The version of before.
    pub previous_version: Option<String>,
    /// `created`, `starting`, `ready`, `suspended`, `draining`, `stopped` or `failed`.
    pub state: String,
    /// Why.
    pub reason: String,
    /// Since when, RFC 3339.
    pub since: String,
    /// Which outcome of training it answers from.
    pub data_version: u64,
    /// Its configuration.
    #[schema(value_type = Object)]
    pub config: Value,
    /// The instances that it calls, by the name in its code.
    pub bindings: BTreeMap<String, String>,
    /// Bytes of its state.
    pub state_bytes: u64,
    /// When it was made, RFC 3339.
    pub created_at: String,
}

/// A helper instance with what runs.
#[derive(Serialize, ToSchema)]
pub struct InstanceDetail {
    /// The instance.
    #[serde(flatten)]
    pub instance: InstanceView,
    /// Its replicas.
    pub replicas: Vec<InstanceStatus>,
    /// The methods that its class has, as a ready replica says.
    pub methods: Vec<String>,
    /// The functions and instances that call it.
    pub bound: Vec<String>,
    /// The tenants that may call it beside its own.
    pub shared_with: Vec<String>,
    /// Answers since the platform started.
    pub served: ServedCounts,
    /// Bytes of the folder that it keeps, where it keeps one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk_bytes: Option<u64>,
    /// Whether it is being trained now.
    pub training: bool,
}

/// A training run.
#[derive(Serialize, ToSchema)]
pub struct TrainingView {
    /// When it began, RFC 3339.
    pub started_at: String,
    /// When it ended.
    pub ended_at: Option<String>,
    /// `running`, `succeeded`, `failed` or `abandoned`.
    pub outcome: String,
    /// What `train()` returned, as JSON text, or why it failed.
    pub detail: String,
    /// The data version from then on.
    pub data_version: u64,
}

/// What training came to.
#[derive(Serialize, ToSchema)]
pub struct TrainedView {
    /// The data version from now on.
    pub data_version: u64,
    /// What `train()` returned.
    #[schema(value_type = Object)]
    pub value: Value,
    /// How long it took, milliseconds.
    pub took_ms: u64,
}

/// The instance that `id` names for this tenant: by id or by name.
pub(super) fn find(app: &App, principal: &Principal, id: &str) -> Result<Arc<HelperRoute>, Problem> {
    app.routing.load().helper(&principal.tenant, id).cloned().ok_or_else(|| Problem::not_found("helper instance", id))
}

/// The same, if it is the tenant's own.
pub(super) fn find_own(app: &App, principal: &Principal, id: &str) -> Result<Arc<HelperRoute>, Problem> {
    find(app, principal, id).and_then(|route| match route.tenant == principal.tenant {
        true => Ok(route),
        false => Err(Problem::not_found("helper instance", id)),
    })
}

fn view(app: &App, route: &HelperRoute, row: HelperInstanceRow) -> InstanceView {
    let observed = app.helpers.observed(app, route);
    InstanceView {
        id: row.id.to_string(),
        helper: format!("{}/{}", row.publisher, row.helper_name),
        version: row.version,
        previous_version: row.previous_version,
        state: observed.state.as_str().into(),
        reason: observed.reason,
        since: observed.since.to_string(),
        data_version: row.data_version,
        config: serde_json::from_str(&row.config).unwrap_or_default(),
        bindings: row.bindings,
        state_bytes: row.state_bytes,
        created_at: row.created.to_string(),
        name: row.name,
    }
}

/// Make an instance of a helper. Answers when a replica of it is ready; what does not start is not made.
#[utoipa::path(post, path = "/v1/helper-instances", tag = "helpers", operation_id = "helper_instance_create", request_body = CreateBody,
    responses(
        (status = 201, body = InstanceView),
        (status = 404, description = "No such helper or version", body = ProblemView, content_type = "application/problem+json"),
        (status = 409, description = "There is an instance of that name", body = ProblemView, content_type = "application/problem+json"),
        (status = 422, description = "The configuration or the bindings are not acceptable", body = ProblemView, content_type = "application/problem+json"),
        (status = 502, description = "The helper does not start", body = ProblemView, content_type = "application/problem+json"),
    ))]
pub async fn create(
    State(app): State<Arc<App>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let principal = caller.require(Scope::HelpersWrite)?;
    let body: CreateBody = read_json(body).await?;
    let (path, version) = match body.helper.split_once('@') {
        Some((path, version)) => (path, Some(version.to_owned())),
        None => (body.helper.as_str(), None),
    };
    let (publisher, helper) = path.split_once('/').ok_or_else(|| {
        Problem::caller(StatusCode::BAD_REQUEST, "invalid-body", "`helper` is PUBLISHER/NAME or PUBLISHER/NAME@VERSION")
    })?;
    let new = NewInstance {
        tenant: principal.tenant,
        publisher: publisher.to_owned(),
        helper: helper.to_owned(),
        version,
        name: body.name.clone(),
        config: body.config.clone(),
        bindings: body.bindings.clone(),
    };
    once(&app, principal, &headers, "POST /v1/helper-instances", &body, || async {
        let row = app.helpers.create(&app, new).await?;
        let route = find_own(&app, principal, &row.id.to_string())?;
        let view = view(&app, &route, row);
        Ok(Created { shown: view.clone(), kept: view })
    })
    .await
}

/// List the tenant's instances.
#[utoipa::path(get, path = "/v1/helper-instances", tag = "helpers", operation_id = "helper_instance_list", responses((status = 200, body = Page<InstanceView>)))]
pub async fn list(State(app): State<Arc<App>>, caller: Caller) -> Result<Json<Page<InstanceView>>, Problem> {
    let principal = caller.require(Scope::HelpersRead)?;
    let rows = app.store.helper_instance_list(principal.tenant).await?;
    let items = rows.into_iter().filter_map(|row| {
        let route = find_own(&app, principal, &row.id.to_string()).ok()?;
        Some(view(&app, &route, row))
    });
    Ok(Json(Page { items: items.collect(), next_cursor: None }))
}

/// Show an instance.
#[utoipa::path(get, path = "/v1/helper-instances/{id}", tag = "helpers", operation_id = "helper_instance_get",
    params(("id" = String, Path, description = "Its id or its name")), responses((status = 200, body = InstanceDetail)))]
pub async fn show(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<InstanceDetail>, Problem> {
    let principal = caller.require(Scope::HelpersRead)?;
    let route = find_own(&app, principal, &id)?;
    let row = app.store.helper_instance_get_by_id(route.id).await?;
    let mut shared_with = Vec::with_capacity(row.shared_with.len());
    for tenant in &row.shared_with {
        shared_with.push(app.store.tenant_get(*tenant).await?.name);
    }
    let counters = route.counters();
    let served = |by: ServedBy| counters.served[by.code() as usize].load(Ordering::Relaxed);
    Ok(Json(InstanceDetail {
        instance: view(&app, &route, row),
        replicas: route.pool.statuses(),
        methods: route.pool.loaded().methods.clone(),
        bound: app.helpers.bound_to(&app, &route),
        shared_with,
        served: ServedCounts {
            computed: served(ServedBy::Computed),
            hit: served(ServedBy::Hit),
            coalesced: served(ServedBy::Coalesced),
            precomputed: served(ServedBy::Precomputed),
            stale: served(ServedBy::Stale),
            errors: counters.errors.load(Ordering::Relaxed),
        },
        disk_bytes: app.helpers.disk_bytes(&route).await,
        training: app.helpers.is_training(route.id),
    }))
}

/// Change an instance: its version, its configuration, or whether it serves. Replicas of the new kind are ready before the old
/// ones stop, and no call is lost.
#[utoipa::path(patch, path = "/v1/helper-instances/{id}", tag = "helpers", operation_id = "helper_instance_change", request_body = ChangeBody,
    params(("id" = String, Path, description = "Its id or its name")),
    responses(
        (status = 200, body = InstanceView),
        (status = 422, description = "The configuration is not acceptable", body = ProblemView, content_type = "application/problem+json"),
        (status = 502, description = "No replica became ready; the instance is as it was", body = ProblemView, content_type = "application/problem+json"),
    ))]
pub async fn change(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    body: Body,
) -> Result<Json<InstanceView>, Problem> {
    let principal = caller.require(Scope::HelpersWrite)?;
    let route = find_own(&app, principal, &id)?;
    let body: serde_json::Map<String, Value> = read_json(body).await?;
    if let (2, Some(Value::String(version)), Some(config)) = (body.len(), body.get("version"), body.get("config")) {
        let both = InstanceChange::Version(version.clone(), Some(config.clone()));
        return changed(&app, principal, route.id, both).await;
    }
    let change = match serde_json::from_value(Value::Object(body)).map_err(|error| {
        Problem::caller(StatusCode::BAD_REQUEST, "invalid-body", format!("what to change is one of version, rollback, config, shared_with, state, or version with config: {error}"))
    })? {
        ChangeBody::Version(version) => InstanceChange::Version(version, None),
        ChangeBody::Rollback(true) => InstanceChange::Rollback,
        ChangeBody::Rollback(false) => {
            return Err(Problem::caller(StatusCode::BAD_REQUEST, "invalid-body", "`rollback` is true or left out"));
        }
        ChangeBody::Config(config) => InstanceChange::Config(config),
        ChangeBody::SharedWith(names) => {
            if names.len() > SHARED_WITH_MAX {
                let text = format!("an instance is shared with at most {SHARED_WITH_MAX} tenants");
                return Err(Problem::caller(StatusCode::UNPROCESSABLE_ENTITY, "too-many-tenants", text));
            }
            let mut tenants = Vec::with_capacity(names.len());
            for name in &names {
                tenants.push(app.store.tenant_get_by_name(name).await?.id);
            }
            InstanceChange::Share(tenants)
        }
        ChangeBody::State(WantedState::Serving) => InstanceChange::Start,
        ChangeBody::State(WantedState::Stopped) => InstanceChange::Stop { at_once: false },
        ChangeBody::State(WantedState::Killed) => InstanceChange::Stop { at_once: true },
    };
    changed(&app, principal, route.id, change).await
}

async fn changed(
    app: &Arc<App>,
    principal: &Principal,
    instance: HelperInstanceId,
    change: InstanceChange,
) -> Result<Json<InstanceView>, Problem> {
    let row = app.helpers.change(app, instance, change).await?;
    let route = find_own(app, principal, &row.id.to_string())?;
    Ok(Json(view(app, &route, row)))
}

/// How to delete.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeleteQuery {
    /// Although something calls it.
    #[serde(default)]
    pub force: bool,
}

/// Delete an instance with its state.
#[utoipa::path(delete, path = "/v1/helper-instances/{id}", tag = "helpers", operation_id = "helper_instance_delete",
    params(("id" = String, Path, description = "Its id or its name"), DeleteQuery),
    responses((status = 204), (status = 409, description = "It is bound to something", body = ProblemView, content_type = "application/problem+json")))]
pub async fn delete(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<DeleteQuery>,
) -> Result<StatusCode, Problem> {
    let principal = caller.require(Scope::HelpersWrite)?;
    let route = find_own(&app, principal, &id)?;
    app.helpers.delete(&app, &route, query.force).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Train an instance now. Answers when the outcome is in force.
#[utoipa::path(post, path = "/v1/helper-instances/{id}/training", tag = "helpers", operation_id = "helper_instance_train",
    params(("id" = String, Path, description = "Its id or its name")),
    responses(
        (status = 200, body = TrainedView),
        (status = 409, description = "It is being trained already", body = ProblemView, content_type = "application/problem+json"),
        (status = 422, description = "The helper has no train()", body = ProblemView, content_type = "application/problem+json"),
        (status = 502, description = "train() failed; answers are as before", body = ProblemView, content_type = "application/problem+json"),
    ))]
pub async fn train(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<TrainedView>, Problem> {
    let principal = caller.require(Scope::HelpersWrite)?;
    let route = find_own(&app, principal, &id)?;
    let trained = app.helpers.train(&app, &route).await?;
    Ok(Json(TrainedView {
        data_version: trained.data_version,
        value: trained.value,
        took_ms: u64::try_from(trained.took.as_millis()).unwrap_or(u64::MAX),
    }))
}

/// List an instance's last training runs, the newest first.
#[utoipa::path(get, path = "/v1/helper-instances/{id}/training", tag = "helpers", operation_id = "helper_instance_training",
    params(("id" = String, Path, description = "Its id or its name")), responses((status = 200, body = Page<TrainingView>)))]
pub async fn training(
    State(app): State<Arc<App>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Page<TrainingView>>, Problem> {
    let principal = caller.require(Scope::HelpersRead)?;
    let route = find_own(&app, principal, &id)?;
    let runs = app.store.helper_training_list(route.id, TRAINING_RUNS_SHOWN).await?;
    let items = runs.into_iter().map(|run| TrainingView {
        started_at: run.started.to_string(),
        ended_at: run.ended.map(|at| at.to_string()),
        outcome: run.outcome,
        detail: run.detail,
        data_version: run.data_version,
    });
    Ok(Json(Page { items: items.collect(), next_cursor: None }))
}
