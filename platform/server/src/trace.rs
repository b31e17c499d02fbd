//! W3C trace context, and its export: which trace a call belongs to, and a span for each answered call to a collector.
//!
//! Export is off unless a collector is set. Its queue is bounded: where the collector is slow or away, spans are dropped and
//! counted, and calls go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use raas_core::InvocationId;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Spans that may wait for the collector.
const QUEUE_SPANS: usize = 4096;

/// Spans sent at once.
const BATCH_SPANS: usize = 512;

/// How long a span may wait for company.
const BATCH_WITHIN: Duration = Duration::from_secs(1);

/// How long the collector may take for one batch.
const EXPORT_WITHIN: Duration = Duration::from_secs(5);

/// The longest `tracestate` that is passed on, bytes.
const STATE_MAX_BYTES: usize = 512;

/// Where a call stands in its trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    trace: [u8; 16],
    /// The caller's span, where the caller has a trace.
    parent: Option<[u8; 8]>,
    /// The call's own span: the parent of what the function does.
    span: [u8; 8],
    flags: u8,
    state: Option<String>,
}

impl TraceContext {
    /// The caller's trace with this call as a span in it; a trace of its own where the caller sent none that is valid.
    pub fn of_call(id: InvocationId, traceparent: Option<&str>, tracestate: Option<&str>) -> Self {
        let bytes = id.as_bytes();
        let mut span = [0; 8];
        // The second half of a UUIDv7 is random, and its variant bits keep it from being zero.
        span.copy_from_slice(&bytes[8..]);
        match traceparent.and_then(parse_traceparent) {
            Some((trace, parent, flags)) => {
                let state = tracestate.filter(|state| state.len() <= STATE_MAX_BYTES).map(str::to_owned);
                Self { trace, parent: Some(parent), span, flags, state }
            }
            None => Self { trace: *bytes, parent: None, span, flags: 0, state: None },
        }
    }

    /// As the function gets it: `traceparent`, then optionally a newline and `tracestate`.
    pub fn to_text(&self) -> String {
        let mut text = format!("00-{}-{}-{:02x}", hex::encode(self.trace), hex::encode(self.span), self.flags);
        if let Some(state) = &self.state {
            text.push('\n');
            text.push_str(state);
        }
        text
    }
}

/// The trace id, the caller's span and the flags of a valid `traceparent`.
fn parse_traceparent(value: &str) -> Option<([u8; 16], [u8; 8], u8)> {
    fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
        let lower = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let mut bytes = [0; N];
        (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
    }
    let mut parts = value.split('-');
    let [version]: [u8; 1] = bytes(parts.next()?)?;
    let trace: [u8; 16] = bytes(parts.next()?)?;
    let parent: [u8; 8] = bytes(parts.next()?)?;
    let [flags]: [u8; 1] = bytes(parts.next()?)?;
    let well_formed = version != 0xff && (version != 0 || parts.next().is_none());
    (well_formed && trace != [0; 16] && parent != [0; 8]).then_some((trace, parent, flags))
}

/// What a span says of a call.
pub struct CallSpan<'a> {
    /// Where it stands in its trace.
    pub context: &'a TraceContext,
    /// The call's id.
    pub invocation: InvocationId,
    /// The function's name.
    pub function: &'a str,
    /// The version.
    pub version: u32,
    /// What served it.
    pub served_by: &'static str,
    /// The status it was answered with.
    pub status: u16,
    /// Whether a sandbox had to be assigned or started.
    pub cold_start: bool,
    /// From arrival to answer.
    pub took: Duration,
}

/// The way of spans to the collector.
#[derive(Clone, Default)]
pub struct TraceExport {
    queue: Option<mpsc::Sender<SpanData>>,
    dropped: Arc<AtomicU64>,
}

/// The task that sends spans.
pub struct TraceService {
    queue: mpsc::Receiver<SpanData>,
    exporter: SpanExporter,
}

/// Makes both ends; no service where no collector is set.
///
/// # Errors
/// The collector's address cannot be used.
pub fn trace_service(endpoint: &str) -> anyhow::Result<(TraceExport, Option<TraceService>)> {
    if endpoint.is_empty() {
        return Ok((TraceExport::default(), None));
    }
    let address = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    let mut exporter =
        SpanExporter::builder().with_http().with_endpoint(address).with_timeout(EXPORT_WITHIN).build()?;
    exporter.set_resource(&Resource::builder().with_service_name("raas").build());
    let (sender, queue) = mpsc::channel(QUEUE_SPANS);
    let export = TraceExport { queue: Some(sender), dropped: Arc::default() };
    Ok((export, Some(TraceService { queue, exporter })))
}

impl TraceExport {
    /// Sends a span on its way.
    pub fn record(&self, call: CallSpan<'_>) {
        let Some(queue) = &self.queue else { return };
        let context = call.context;
        let state = context.state.as_deref().and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default();
        let end_time = SystemTime::now();
        let span = SpanData {
            span_context: SpanContext::new(
                TraceId::from_bytes(context.trace),
                SpanId::from_bytes(context.span),
                TraceFlags::new(context.flags),
                false,
                state,
            ),
            parent_span_id: context.parent.map_or(SpanId::INVALID, SpanId::from_bytes),
            parent_span_is_remote: context.parent.is_some(),
            span_kind: SpanKind::Server,
            name: format!("invoke {}", call.function).into(),
            start_time: end_time - call.took,
            end_time,
            attributes: vec![
                KeyValue::new("faas.invocation_id", call.invocation.to_string()),
                KeyValue::new("faas.invoked_name", call.function.to_owned()),
                KeyValue::new("faas.version", i64::from(call.version)),
                KeyValue::new("faas.coldstart", call.cold_start),
                KeyValue::new("raas.served_by", call.served_by),
                KeyValue::new("http.response.status_code", i64::from(call.status)),
            ],
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: if call.status >= 500 { Status::error("") } else { Status::Unset },
            instrumentation_scope: InstrumentationScope::builder("raas")
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
        };
        if queue.try_send(span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Spans that were dropped because the queue was full.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl TraceService {
    /// Sends until the platform stops, then what still waits.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH_SPANS);
        let mut reachable = true;
        loop {
            let received = tokio::select! {
                received = self.queue.recv_many(&mut batch, BATCH_SPANS) => received,
                () = stop.cancelled() => {
                    self.queue.close();
                    self.queue.recv_many(&mut batch, BATCH_SPANS).await
                }
            };
            if received == 0 {
                return;
            }
            if batch.len() < BATCH_SPANS && !stop.is_cancelled() {
                tokio::select! {
                    () = tokio::time::sleep(BATCH_WITHIN) => {}
                    () = stop.cancelled() => {}
                }
                while batch.len() < BATCH_SPANS
                    && let Ok(span) = self.queue.try_recv()
                {
                    batch.push(span);
                }
            }
            let sent = tokio::time::timeout(EXPORT_WITHIN, self.exporter.export(std::mem::take(&mut batch))).await;
            let problem = match sent {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("it did not answer in time".into()),
            };
            // Said when it changes, not for every batch of a collector that is away for hours.
            match &problem {
                Some(problem) if reachable => {
                    tracing::warn!(error = %problem, "the trace collector does not take spans")
                }
                None if !reachable => tracing::info!("the trace collector takes spans again"),
                _ => {}
            }
            reachable = problem.is_none();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn a_traceparent_is_taken_over_only_when_valid() {
        for (value, expected) in [
            (format!("00-{TRACE}-00f067aa0ba902b7-01"), true),
            (format!("01-{TRACE}-00f067aa0ba902b7-01-more"), true),
            (format!("00-{TRACE}-00f067aa0ba902b7-01-more"), false),
            (format!("ff-{TRACE}-00f067aa0ba902b7-01"), false),
            (format!("00-{TRACE}-0000000000000000-01"), false),
            (format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), false),
            (format!("00-{}-00f067aa0ba902b7-01", TRACE.to_uppercase()), false),
            ("nonsense".into(), false),
        ] {
            assert_eq!(parse_traceparent(&value).is_some(), expected, "{value}");
        }
    }

    #[test]
    fn the_function_gets_the_callers_trace_with_the_call_as_its_parent() {
        let id = InvocationId::generate();
        let caller = format!("00-{TRACE}-00f067aa0ba902b7-01");
        let text = TraceContext::of_call(id, Some(&caller), Some("vendor=1")).to_text();
        assert_eq!(text, format!("00-{TRACE}-{}-01\nvendor=1", hex::encode(&id.as_bytes()[8..])));
        let own = TraceContext::of_call(id, None, Some("vendor=1")).to_text();
        assert_eq!(parse_traceparent(&own).unwrap().0, *id.as_bytes());
    }
}
