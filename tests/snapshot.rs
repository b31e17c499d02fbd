//! The API document: committed, served, and complete.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::harness::{Options, binary, shared};

const COMMITTED: &str = "platform/server/openapi.json";
const UPDATE: &str = "cargo run --bin raas -- openapi > platform/server/openapi.json";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

#[test]
fn the_committed_api_document_is_the_one_that_is_served() {
    let client = shared("snapshot", || Options::new().settings("[pool]\npython3 = 0\nnode = 0\n")).admin.clone();
    let served = client.with_key("").get("/openapi.json").expect(200).json();
    let committed = std::fs::read_to_string(root().join(COMMITTED))
        .unwrap_or_else(|error| panic!("{COMMITTED}: {error}; make it by `{UPDATE}`"));
    let committed: Value = serde_json::from_str(&committed).unwrap();
    if served != committed {
        let parts = |document: &Value| {
            let mut all = BTreeSet::new();
            for section in ["paths", "components"] {
                for (name, value) in document[section].as_object().into_iter().flatten() {
                    all.insert(format!("{section} {name}: {value}"));
                }
            }
            all
        };
        let (old, new) = (parts(&committed), parts(&served));
        let changed: Vec<_> =
            old.symmetric_difference(&new).map(|part| part.chars().take(300).collect::<String>()).collect();
        panic!("the API has changed; look at it, then `{UPDATE}`:\n{}", changed.join("\n"));
    }
    let printed = std::process::Command::new(binary()).arg("openapi").output().unwrap();
    assert!(printed.status.success());
    assert_eq!(serde_json::from_slice::<Value>(&printed.stdout).unwrap(), committed, "`raas openapi` prints the same");
}

#[test]
fn every_route_of_the_router_is_in_the_document() {
    let client = shared("snapshot", || Options::new().settings("[pool]\npython3 = 0\nnode = 0\n")).admin.clone();
    let document = client.get("/openapi.json").expect(200).json();
    let documented: BTreeSet<_> = document["paths"].as_object().unwrap().keys().cloned().collect();
    let source = std::fs::read_to_string(root().join("platform/server/src/gateway/mod.rs")).unwrap();
    let routed: BTreeSet<_> = source
        .split(".route(")
        .skip(1)
        .filter_map(|rest| rest.trim_start().strip_prefix('"')?.split_once('"').map(|(path, _)| path.to_owned()))
        .filter(|path| path != "/") // the dashboard is no part of the API
        .collect();
    assert!(routed.len() > 10);
    // A key of state may have slashes, which the document has no way to say.
    let routed: BTreeSet<_> = routed.iter().map(|path| path.replace("{*", "{")).collect();
    assert_eq!(routed, documented);
    // And no method is taken that the document does not have.
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.replace("{name}", "x").replace("{alias}", "x").replace("{id}", "x");
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            let reply = client.request(method, &path, &[], b"");
            let there = methods.get(method.to_lowercase()).is_some();
            assert_eq!(reply.status != 405, there, "{method} {path}: {}", reply.text());
        }
    }
}

#[test]
fn every_problem_and_answer_of_the_document_has_a_description() {
    let client = shared("snapshot", || Options::new().settings("[pool]\npython3 = 0\nnode = 0\n")).admin.clone();
    let document = client.get("/openapi.json").expect(200).json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"), "{}", document["openapi"]);
    let mut ids = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path} has no operation id"));
            assert!(ids.insert(id.to_owned()), "{id} is there twice");
            assert!(operation["summary"].is_string(), "{method} {path} does not say what it does");
            assert!(
                !operation["responses"].as_object().unwrap().is_empty(),
                "{method} {path} does not say what it answers"
            );
        }
    }
}
