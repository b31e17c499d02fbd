//! `GET /metrics`: the platform's figures for Prometheus. No tenant's names are in them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use raas_core::ServedBy;
use raas_results::TierCounts;

use super::problem::Problem;
use crate::app::App;
use crate::scheduler::RuntimeKind;

/// The platform's figures, in the OpenMetrics text format.
#[utoipa::path(get, path = "/metrics", tag = "operation", operation_id = "metrics", security(()), responses((status = 200, body = String)))]
pub async fn metrics(State(app): State<Arc<App>>) -> Response {
    let mut text = String::new();
    if let Err(error) = encode(&mut text, &gather(&app)) {
        return Problem::internal(&error).into_response();
    }
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
}

type Labels = Vec<(&'static str, &'static str)>;

/// Reads every figure where it is kept: nothing is counted twice, and the data path pays for no registry.
fn gather(app: &App) -> Registry {
    let mut registry = Registry::with_prefix("raas");
    let mut gauge = |name: &str, help: &str, value: u64| {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    };
    let launcher = app.invoker.scheduler.launcher();
    let (entries, weight) = app.invoker.results.size();
    let (mut instances, mut starting, mut waiting) = (0, 0, 0);
    let mut functions = 0;
    let mut served = [0u64; 5];
    let mut errors = 0;
    for function in app.routing.load().functions() {
        functions += 1;
        errors += function.counters.errors.load(Ordering::Relaxed);
        for (sum, count) in served.iter_mut().zip(&function.counters.served) {
            *sum += count.load(Ordering::Relaxed);
        }
        for version in function.versions.values() {
            let counts = version.pool.counts();
            instances += counts.0 as u64;
            starting += u64::from(counts.1);
            waiting += counts.2 as u64;
        }
    }
    gauge("functions", "Functions registered", functions);
    gauge("instances", "Instances that take calls", instances);
    gauge("instances_starting", "Instances being started", starting);
    gauge("sandboxes", "Sandboxes alive or being started, the warming pool's included", launcher.in_use() as u64);
    gauge("calls_waiting", "Calls that wait for an instance", waiting);
    gauge("calls_in_flight", "Calls in progress", app.admission.in_flight());
    gauge("results_entries", "Results kept in memory", entries);
    gauge("metering_backlog_events", "Usage events that wait for the database", app.invoker.metering.backlog());

    let bytes: Gauge = Gauge::default();
    bytes.set(i64::try_from(weight).unwrap_or(i64::MAX));
    registry.register_with_unit("results", "What the kept results weigh", Unit::Bytes, bytes);

    let egress = launcher.spawner().egress_metrics();
    let mut counter = |name: &str, help: &str, value: u64| registry.register(name, help, ConstCounter::new(value));
    counter("calls_refused", "Calls refused because too many were in progress", app.admission.refused());
    counter("call_errors", "Calls answered with an error", errors);
    counter("spans_dropped", "Spans dropped because the collector was slow or away", app.invoker.traces.dropped());
    let (prover, precomputer) = (&app.invoker.prover.dropped, &app.invoker.precomputer.dropped);
    counter(
        "samples_dropped",
        "Sampled calls that were not run again for want of room",
        prover.load(Ordering::Relaxed),
    );
    counter(
        "observations_dropped",
        "Calls that predictors did not learn from for want of room",
        precomputer.load(Ordering::Relaxed),
    );
    counter("log_lines_dropped", "Log lines dropped because the queue was full", app.logs.dropped());

    counter("egress_connections", "Connections that sandboxes made to the outside", egress.connections_opened);
    counter("egress_connections_failed", "Connections that the other side did not take", egress.connections_failed);
    counter("egress_refused", "Connections and datagrams refused by the policy", egress.refused);
    counter("egress_over_limit", "Connections and datagrams refused because a bound was reached", egress.over_limit);
    counter("egress_sent_bytes", "Bytes out of sandboxes", egress.sent_bytes);
    counter("egress_received_bytes", "Bytes into sandboxes", egress.received_bytes);

    let calls = Family::<Labels, Counter>::default();
    for served_by in ServedBy::ALL {
        calls.get_or_create(&vec![("served_by", served_by.as_str())]).inc_by(served[served_by.code() as usize]);
    }
    registry.register("calls", "Answered calls by what served them", calls);

    let problems = Family::<Labels, Counter>::default();
    for (code, origin, count) in super::problem_counts::counts() {
        problems.get_or_create(&vec![("code", code), ("origin", origin)]).inc_by(count);
    }
    registry.register("problems", "Problems answered, by code and by who is at fault", problems);
    app.invoker.durations.register(&mut registry);

    register_helpers(app, &mut registry);
    register_tiers(app, &mut registry);

    let waiting = Family::<Labels, Gauge>::default();
    let taken = Family::<Labels, Counter>::default();
    let missed = Family::<Labels, Counter>::default();
    for runtime in RuntimeKind::ALL {
        let status = launcher.warm_pool().status(runtime);
        let labels = vec![("runtime", runtime.as_str())];
        waiting.get_or_create(&labels).set(status.waiting as i64);
        taken.get_or_create(&labels).inc_by(status.taken);
        missed.get_or_create(&labels).inc_by(status.missed);
    }
    registry.register("pool_waiting", "Booted sandboxes that wait in the warming pool", waiting);
    registry.register("pool_taken", "Sandboxes taken from the warming pool", taken);
    registry.register("pool_missed", "Times the warming pool was empty when asked", missed);
    registry
}

/// What has happened to the tiers of the result store below memory.
fn register_tiers(app: &App, registry: &mut Registry) {
    type Read = fn(&TierCounts) -> &AtomicU64;
    let figures: [(&str, &str, Read); 7] = [
        ("result_tier_hits", "Questions to a tier of the result store that found an entry", |counts| &counts.hits),
        ("result_tier_misses", "Questions to a tier that found none", |counts| &counts.misses),
        ("result_tier_failures", "Questions to a tier and writes that failed, or took too long", |counts| {
            &counts.failures
        }),
        ("result_tier_skipped", "Questions not asked because the tier had failed before", |counts| &counts.skipped),
        ("result_tier_unreadable", "Entries that were found and could not be read", |counts| &counts.unreadable),
        ("result_tier_written", "Entries written to a tier", |counts| &counts.written),
        ("result_tier_dropped", "Entries not written for want of room, or because writing failed", |counts| {
            &counts.dropped
        }),
    ];
    for (name, help, read) in figures {
        let family = Family::<Labels, Counter>::default();
        for tier in app.invoker.results.tiers() {
            family.get_or_create(&vec![("tier", tier.name())]).inc_by(read(&tier.counts).load(Ordering::Relaxed));
        }
        registry.register(name, help, family);
    }
    let latency = Family::<Labels, Gauge>::default();
    for tier in app.invoker.results.tiers() {
        latency.get_or_create(&vec![("tier", tier.name())]).set(tier.latency_us() as i64);
    }
    registry.register("result_tier_latency_us", "What a question to a tier takes at the moment, microseconds", latency);
}

/// The same figures of helper instances, and how many stand in which state.
fn register_helpers(app: &App, registry: &mut Registry) {
    let states = Family::<Labels, Gauge>::default();
    let calls = Family::<Labels, Counter>::default();
    let (mut replicas, mut starting, mut waiting, mut errors) = (0, 0, 0, 0);
    for route in app.routing.load().helpers() {
        let state = app.helpers.observed(app, route).state;
        states.get_or_create(&vec![("state", state.as_str())]).inc();
        let counts = route.pool.counts();
        replicas += counts.0 as u64;
        starting += u64::from(counts.1);
        waiting += counts.2 as u64;
        let counters = route.counters();
        errors += counters.errors.load(Ordering::Relaxed);
        for served_by in ServedBy::ALL {
            let served = counters.served[served_by.code() as usize].load(Ordering::Relaxed);
            calls.get_or_create(&vec![("served_by", served_by.as_str())]).inc_by(served);
        }
    }
    for (name, help, value) in [
        ("helper_replicas", "Replicas of helper instances that run", replicas),
        ("helper_replicas_starting", "Replicas of helper instances being started", starting),
        ("helper_calls_waiting", "Calls that wait for a replica", waiting),
    ] {
        let gauge: Gauge = Gauge::default();
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        registry.register(name, help, gauge);
    }
    registry.register("helper_instances", "Helper instances by state", states);
    registry.register("helper_calls", "Answered calls of helpers by what served them", calls);
    registry.register("helper_call_errors", "Calls of helpers answered with an error", ConstCounter::new(errors));
}
