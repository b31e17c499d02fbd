//! `/v1/helper-usage`: what helper instances use whether or not anybody calls them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::auth::Caller;
use super::costs::moment;
use super::functions::Page;
use super::helper_instances::find_own;
use super::problem::Problem;
use crate::app::App;
use crate::routing::Scope;

/// Which usage is wanted.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HelperUsageQuery {
    /// From the hour of this moment on, RFC 3339.
    pub from: Option<String>,
    /// Before this moment, RFC 3339.
    pub to: Option<String>,
    /// Only this instance, by name or id.
    pub helper: Option<String>,
}

/// What one instance used in one hour, as the kernel counted it.
#[derive(Serialize, ToSchema)]
pub struct HelperUsageView {
    /// The instance's name, or its id once it is deleted.
    pub helper: String,
    /// The beginning of the hour, RFC 3339.
    pub hour: String,
    /// Time of its replicas together, seconds.
    pub replica_s: f64,
    /// Processor time of its replicas, seconds.
    pub cpu_s: f64,
    /// Memory in use times time, training included, GB-seconds.
    pub memory_gb_s: f64,
    /// Accelerators times time, seconds.
    pub gpu_s: f64,
    /// Time of training runs, seconds.
    pub training_s: f64,
    /// Processor time of training runs, seconds.
    pub training_cpu_s: f64,
}

/// List what the tenant's helper instances used, hour by hour, the newest first. Calls are in `/v1/usage`.
#[utoipa::path(get, path = "/v1/helper-usage", tag = "usage", operation_id = "helper_usage_list", params(HelperUsageQuery),
    responses((status = 200, body = Page<HelperUsageView>)))]
pub async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    Query(query): Query<HelperUsageQuery>,
) -> Result<Json<Page<HelperUsageView>>, Problem> {
    let principal = caller.require(Scope::UsageRead)?;
    let (from, to) = (moment("from", query.from.as_deref())?, moment("to", query.to.as_deref())?);
    let instance =
        query.helper.as_deref().map(|name| find_own(&app, principal, name).map(|route| route.id)).transpose()?;
    let rows = app.store.helper_usage_list(principal.tenant, instance, from, to).await?;
    let snapshot = app.routing.load();
    let seconds = |us: u64| us as f64 / 1e6;
    let items = rows.into_iter().map(|row| {
        let id = row.instance.to_string();
        HelperUsageView {
            helper: snapshot.helper(&principal.tenant, &id).map_or(id, |route| route.name.clone()),
            hour: row.hour.to_string(),
            replica_s: seconds(row.meters.replica_us),
            cpu_s: seconds(row.meters.cpu_us),
            memory_gb_s: seconds(row.meters.memory_mb_us) / 1024.0,
            gpu_s: seconds(row.meters.gpu_us),
            training_s: seconds(row.meters.training_us),
            training_cpu_s: seconds(row.meters.training_cpu_us),
        }
    });
    Ok(Json(Page { items: items.collect(), next_cursor: None }))
}
