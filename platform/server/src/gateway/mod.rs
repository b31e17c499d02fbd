//! The HTTP edge: the only place that knows requests, responses and status codes.
//!
//! Reads a request, finds out who asks, hands typed values inward and renders what comes back. It must not decide anything
//! about results, instances or money.

mod auth;
mod costs;
mod deploys;
mod functions;
mod health;
mod helper_calls;
mod helper_instances;
mod helper_state;
mod helper_usage;
mod helpers;
mod idempotency;
mod invocations;
mod keys;
mod logs;
mod metrics;
mod openapi;
mod page;
mod problem;
mod problem_counts;
mod results;
mod serve;
mod tenants;
mod unread;

pub use auth::FreshKey;
pub use openapi::document;
pub use problem::Problem;
pub use serve::serve;

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post, put};
use http::StatusCode;
use tower_service::Service as _;

use self::unread::{LentBody, read_away};
use crate::app::App;
use crate::detached::RunToEnd;

/// What answers requests. Nearly all of them are invocations, and for those the general way, through layers of routing that
/// put each request's parts in boxes, takes as long as the answer itself: they are sent to their handler at once.
#[derive(Clone)]
pub struct Gateway {
    app: Arc<App>,
    router: Router,
}

impl Gateway {
    /// The platform's.
    pub fn new(app: Arc<App>) -> Self {
        Self { router: router(Arc::clone(&app)), app }
    }
}

impl hyper::service::Service<http::Request<hyper::body::Incoming>> for Gateway {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn call(&self, request: http::Request<hyper::body::Incoming>) -> Self::Future {
        let request = request.map(axum::body::Body::new);
        if invocations::addressed(request.method(), request.uri()).is_some() {
            let app = Arc::clone(&self.app);
            return Box::pin(async move { Ok(invocations::invoke_directly(app, request).await) });
        }
        Box::pin(self.router.clone().call(request))
    }
}

/// Every route of the platform.
fn router(app: Arc<App>) -> Router {
    let control = Router::new()
        .route("/v1/functions", get(functions::list).post(deploys::deploy))
        .route("/v1/functions/{name}", get(functions::show).delete(functions::delete))
        .route("/v1/functions/{name}/versions", get(functions::versions))
        .route("/v1/functions/{name}/aliases", get(functions::aliases))
        .route("/v1/functions/{name}/aliases/{alias}", put(functions::set_alias).delete(functions::delete_alias))
        .route("/v1/functions/{name}/logs", get(logs::list))
        .route("/v1/functions/{name}/results", get(results::results).delete(results::purge))
        .route("/v1/results", axum::routing::delete(results::purge_tag))
        .route("/v1/helpers", get(helpers::list).post(helpers::publish))
        .route("/v1/helper-instances", get(helper_instances::list).post(helper_instances::create))
        .route(
            "/v1/helper-instances/{id}",
            get(helper_instances::show).patch(helper_instances::change).delete(helper_instances::delete),
        )
        .route("/v1/helper-instances/{id}/training", get(helper_instances::training).post(helper_instances::train))
        .route("/v1/helper-instances/{id}/logs", get(logs::list_of_helper))
        .route("/v1/helper-usage", get(helper_usage::list))
        .route("/v1/helper-instances/{id}/state", get(helper_state::list).post(helper_state::write))
        .route(
            "/v1/helper-instances/{id}/state/{*key}",
            get(helper_state::show).put(helper_state::put).delete(helper_state::delete),
        )
        .route("/v1/usage", get(costs::usage))
        .route("/v1/costs", get(costs::costs))
        .route("/v1/keys", get(keys::list).post(keys::create))
        .route("/v1/keys/{id}", axum::routing::delete(keys::revoke))
        .route("/v1/tenants", get(tenants::list).post(tenants::create))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), finish_changes));
    Router::new()
        .merge(control)
        .route("/v1/functions/{name}/invocations", post(invocations::invoke))
        .route("/v1/helper-instances/{id}/methods/{method}", post(helper_calls::call))
        .route("/v1/invocations/{id}", get(invocations::show))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(metrics::metrics))
        .route("/openapi.json", get(openapi::serve_document))
        .route("/", get(page::page))
        .fallback(no_such_route)
        .method_not_allowed_fallback(no_such_method)
        .with_state(app)
}

/// A change that has begun is finished although its client leaves: otherwise it could be in the database and nowhere else.
/// And a client that is refused early still gets to send all it has to.
async fn finish_changes(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let headers = parts.headers.clone();
    let lent = LentBody::new(body);
    let request = Request::from_parts(parts, axum::body::Body::new(lent.clone()));
    let change = async move {
        let response = next.run(request).await;
        if let Some(rest) = lent.take() {
            read_away(rest, &headers).await;
        }
        response
    };
    RunToEnd::new(change, &app.invoker.detached).await
}

async fn no_such_route(uri: http::Uri) -> Problem {
    Problem::caller(
        StatusCode::NOT_FOUND,
        "no-such-route",
        format!("there is nothing at `{}`; GET /openapi.json lists what there is", uri.path()),
    )
}

async fn no_such_method(method: http::Method, uri: http::Uri) -> Problem {
    Problem::caller(
        StatusCode::METHOD_NOT_ALLOWED,
        "no-such-method",
        format!("`{}` does not take {method}", uri.path()),
    )
}
