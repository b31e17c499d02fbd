//! What the platform says about itself: spans for a collector, figures for Prometheus, logs for machines.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Function, Options};

/// How long a span may take to arrive: it waits up to a second for company.
const SPAN_WITHIN: Duration = Duration::from_secs(20);

/// A collector that takes one batch of spans: gives its address, then the path and the body.
fn collector() -> (String, mpsc::Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream);
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            head.push(line.trim().to_ascii_lowercase());
        }
        let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).unwrap();
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        reader.into_inner().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        sender.send((head[0].clone(), body)).unwrap();
    });
    (address, receiver)
}

fn contains(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_collector_gets_a_span_in_the_callers_trace() {
    let (address, spans) = collector();
    let platform = Options::new()
        .settings(&format!("[telemetry]\notlp_endpoint = \"{address}\"\nlog_format = \"json\"\n"))
        .start();
    let client = platform.tenant("traced");
    client.deploy(&Function::python("traced", "", "def handler(event, context):\n    return event\n"));
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    let reply = client.invoke_text("traced", "{}", &[("traceparent", &parent)]).expect(200);
    let (request, body) = spans.recv_timeout(SPAN_WITHIN).unwrap();
    assert_eq!(request, "post /v1/traces http/1.1");
    let trace_id: Vec<u8> = (0..16).map(|at| u8::from_str_radix(&trace[2 * at..2 * at + 2], 16).unwrap()).collect();
    for part in [&trace_id[..], b"invoke traced", reply.id().as_bytes(), b"raas.served_by", b"computed"] {
        assert!(contains(&body, part), "the span lacks {:?}", String::from_utf8_lossy(part));
    }
    let log = platform.log();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["message"] == "function deployed" && line["function"] == "traced"), "{log}");
    platform.finish();
}

#[test]
fn metrics_count_calls_and_every_problem_by_its_code() {
    let platform = Options::new().start();
    let client = platform.tenant("measured");
    let manifest = "[cache]\nmode = \"declared\"\n";
    client.deploy(&Function::python("measured", manifest, "def handler(event, context):\n    return event\n"));
    client.invoke("measured", &json!(1)).expect(200);
    client.invoke("measured", &json!(1)).expect(200);
    client.invoke_text("measured", "not json", &[]).expect(400);
    let metrics = client.get("/metrics").expect(200).text();
    for line in [
        "raas_calls_total{served_by=\"computed\"} 1",
        "raas_calls_total{served_by=\"hit\"} 1",
        "raas_problems_total{code=\"invalid-event\",origin=\"caller\"} 1",
        "raas_call_duration_seconds_count{served_by=\"hit\"} 1",
        "raas_functions 1",
        "# EOF",
    ] {
        assert!(metrics.contains(line), "no `{line}` in\n{metrics}");
    }
    platform.finish();
}
