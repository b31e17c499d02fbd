//! The API as an OpenAPI 3.1 document, generated from the routes' own annotations.

use axum::Json;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{
    costs, deploys, functions, health, helper_calls, helper_instances, helper_state, helper_usage, helpers,
    invocations, keys, logs, metrics, results, tenants,
};

#[derive(OpenApi)]
#[openapi(
    info(title = "RaaS", description = "Result-as-a-Service: ask for a function's result; the platform decides how to get it."),
    paths(
        invocations::invoke, invocations::show,
        deploys::deploy, functions::list, functions::show, functions::delete, functions::versions,
        functions::aliases, functions::set_alias, functions::delete_alias, results::results, results::purge, results::purge_tag, logs::list,
        helpers::publish, helpers::list, helper_instances::create, helper_instances::list, helper_instances::show,
        helper_instances::change, helper_instances::delete, helper_instances::training, helper_instances::train,
        logs::list_of_helper, helper_usage::list,
        helper_calls::call, helper_state::list, helper_state::write, helper_state::show, helper_state::put, helper_state::delete,
        costs::usage, costs::costs,
        keys::create, keys::list, keys::revoke, tenants::create, tenants::list,
        health::healthz, health::readyz, metrics::metrics, serve_document,
    ),
    modifiers(&BearerKey),
    security(("key" = []))
)]
struct Document;

struct BearerKey;

impl Modify for BearerKey {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("key", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    }
}

/// The document.
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "operation", operation_id = "openapi", security(()), responses((status = 200, body = Object)))]
pub async fn serve_document() -> Json<utoipa::openapi::OpenApi> {
    Json(document())
}
