//! Who may do what: keys, scopes, other tenants' things, repeated creations, and where keys must never appear.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Client, Function, Options, Platform, in_parallel, mode, shared, wait_for};

fn platform() -> Arc<Platform> {
    shared("tenants", Options::new)
}

fn tenant(label: &str) -> Client {
    platform().tenant(label)
}

/// A route of the API document.
struct Route {
    method: String,
    path: String,
}

/// Every route there is; a new one is walked without being added here, as long as [`scope_of`] knows what it needs.
fn routes(client: &Client) -> Vec<Route> {
    let document = client.with_key("").get("/openapi.json").expect(200).json();
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods
            .as_object()
            .unwrap()
            .keys()
            .filter(|key| ["get", "put", "post", "delete", "patch"].contains(&key.as_str()))
        {
            routes.push(Route { method: method.to_uppercase(), path: path.clone() });
        }
    }
    assert!(routes.len() > 15);
    routes
}

/// The scope that a route asks for; nothing where it is public.
fn scope_of(route: &Route) -> Option<&'static str> {
    let scope = match (route.method.as_str(), route.path.as_str()) {
        // Figures of the whole platform, none of a tenant's.
        (_, "/healthz" | "/readyz" | "/openapi.json" | "/metrics") => return None,
        (_, "/v1/tenants") => "admin",
        (_, "/v1/keys" | "/v1/keys/{id}") => "keys",
        (_, "/v1/usage" | "/v1/costs" | "/v1/helper-usage") => "usage:read",
        (_, "/v1/functions/{name}/invocations" | "/v1/invocations/{id}") => "invoke",
        ("GET", path) if path.starts_with("/v1/functions") => "functions:read",
        (_, path) if path.starts_with("/v1/functions") => "functions:write",
        (_, "/v1/results") => "functions:write",
        (_, "/v1/helper-instances/{id}/methods/{method}") => "invoke",
        ("GET", path) if path.starts_with("/v1/helper") => "helpers:read",
        (_, path) if path.starts_with("/v1/helper") => "helpers:write",
        (method, path) => panic!("{method} {path} is new: say here which scope it needs"),
    };
    Some(scope)
}

/// A route with things filled in that exist: a function, its alias, an asynchronous invocation, a helper instance with state, a
/// key.
struct Things {
    function: &'static str,
    helper: &'static str,
    invocation: String,
    key: String,
}

impl Things {
    fn of(client: &Client) -> Self {
        client.deploy(&Function::python(
            "theirs",
            "[cache]\nmode = \"declared\"\n",
            "def handler(event, context):\n    print('private')\n    return 'private'\n",
        ));
        let location = client.invoke_async("theirs", &json!({}));
        client.finished(&location);
        client.publish(&keeper());
        client.create_helper("keeper", "theirs-too", &json!({}));
        client.put("/v1/helper-instances/theirs-too/state/secret", &json!("private")).expect(204);
        let (key, _) = client.key(&["invoke"]);
        Self {
            function: "theirs",
            helper: "theirs-too",
            invocation: location.rsplit('/').next().unwrap().to_owned(),
            key,
        }
    }

    fn fill(&self, route: &Route) -> String {
        let id = match &route.path {
            path if path.contains("invocations") => &self.invocation,
            path if path.contains("helper-instances") => self.helper,
            _ => &self.key,
        };
        let path = route.path.replace("{name}", self.function).replace("{alias}", "live").replace("{id}", id);
        path.replace("{method}", "kept").replace("{key}", "secret")
    }
}

/// A helper that answers what it keeps.
fn keeper() -> Function {
    Function::helper(
        "keeper",
        "[train]\n",
        "from raas import Helper, method\n\nclass Keeper(Helper):\n    @method\n    def kept(self):\n        return self.state.get('secret')\n\n    def train(self):\n        pass\n",
    )
}

fn body_of(route: &Route) -> Vec<u8> {
    match (route.method.as_str(), route.path.as_str()) {
        ("PUT", _) => json!({"targets": [{"version": 1}]}).to_string().into_bytes(),
        ("POST", "/v1/keys") => json!({"scopes": ["invoke"]}).to_string().into_bytes(),
        ("POST", "/v1/tenants") => json!({"name": "walked"}).to_string().into_bytes(),
        ("POST", "/v1/functions") => Function::python("mine", "", "def handler(e, c):\n    return 1\n").archive(),
        ("POST", "/v1/helpers") => keeper().archive(),
        ("POST", "/v1/helper-instances") => json!({"helper": "none/keeper", "name": "mine"}).to_string().into_bytes(),
        ("PATCH", _) => json!({"state": "stopped"}).to_string().into_bytes(),
        _ => b"{}".to_vec(),
    }
}

fn ask(client: &Client, route: &Route, path: &str) -> crate::harness::Reply {
    let body = if ["GET", "DELETE"].contains(&route.method.as_str()) { Vec::new() } else { body_of(route) };
    client.request(&route.method, path, &[("content-type", "application/json")], &body)
}

#[test]
fn every_route_wants_a_key_unless_it_is_public() {
    let client = tenant("walk-anonymous");
    let things = Things::of(&client);
    for route in routes(&client) {
        let path = things.fill(&route);
        for key in ["", "raas_wrong", "raas_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
            let reply = ask(&client.with_key(key), &route, &path);
            match scope_of(&route) {
                None => assert_eq!(reply.status, 200, "{} {path}", route.method),
                Some(_) => {
                    assert_eq!(reply.header("www-authenticate"), "Bearer", "{} {path}", route.method);
                    reply.problem(401, "unauthorized", "caller");
                }
            }
        }
    }
    let raw = crate::harness::send(
        &client,
        "GET /v1/functions HTTP/1.1\r\nhost: raas\r\nauthorization: Basic abc\r\nconnection: close\r\n\r\n",
    );
    assert!(crate::harness::closed_by_peer(raw).starts_with("HTTP/1.1 401 "));
    assert_eq!(client.value("theirs", &json!({})), "private", "nothing of it had an effect");
    assert_eq!(
        client.method("theirs-too", "kept", &json!({})).expect(200).json(),
        "private",
        "nothing of it had an effect"
    );
}

#[test]
fn every_route_wants_its_scope() {
    let client = tenant("walk-scopes");
    let things = Things::of(&client);
    let all = ["invoke", "functions:read", "functions:write", "helpers:read", "helpers:write", "usage:read", "keys"];
    for route in routes(&client) {
        let Some(scope) = scope_of(&route) else { continue };
        let others: Vec<_> = all.into_iter().filter(|other| *other != scope).collect();
        let (_, limited) = client.key(&others);
        let path = things.fill(&route);
        let problem = ask(&limited, &route, &path).problem(403, "forbidden", "caller");
        assert!(
            problem["title"].as_str().unwrap().contains(scope),
            "{} {path}: it says what is missing: {problem}",
            route.method
        );
    }
    assert_eq!(client.value("theirs", &json!({})), "private", "nothing of it had an effect");
    assert_eq!(
        client.method("theirs-too", "kept", &json!({})).expect(200).json(),
        "private",
        "nothing of it had an effect"
    );
}

#[test]
fn anothers_things_are_not_there() {
    let (owner, stranger) = (tenant("owner"), tenant("stranger"));
    let things = Things::of(&owner);
    for route in routes(&owner) {
        let Some(scope) = scope_of(&route) else { continue };
        let path = things.fill(&route);
        let reply = ask(&stranger, &route, &path);
        if scope == "admin" {
            reply.expect(403);
            continue;
        }
        if path != route.path {
            let problem = reply.problem(404, "not-found", "caller");
            assert!(!problem.to_string().contains(&owner.tenant), "{problem}");
        } else {
            let text = reply.text();
            assert!(
                !text.contains("theirs") && !text.contains(&things.key) && !text.contains(&things.invocation),
                "{} {path}: {text}",
                route.method
            );
        }
    }
    stranger.get(&format!("/v1/usage?function={}", things.function)).expect(404);
    stranger.get(&format!("/v1/keys?tenant={}", owner.tenant)).expect(404);
    stranger.post("/v1/keys", &json!({"tenant": owner.tenant, "scopes": ["invoke"]})).expect(404);
    stranger.delete(&format!("/v1/keys/{}?tenant={}", things.key, owner.tenant)).expect(404);
    assert_eq!(owner.value("theirs", &json!({})), "private", "and it is all still there");
    assert_eq!(
        owner.method("theirs-too", "kept", &json!({})).expect(200).json(),
        "private",
        "and it is all still there"
    );
    assert_eq!(owner.list("/v1/keys").len(), 2);
    assert!(stranger.usage().is_empty());
}

#[test]
fn a_revoked_key_is_refused_at_once() {
    let client = tenant("revoked");
    client.deploy(&Function::python("f", "", "def handler(event, context):\n    return 1\n"));
    let (id, other) = client.key(&["invoke"]);
    other.invoke("f", &json!({})).expect(200);
    client.delete(&format!("/v1/keys/{id}")).expect(204);
    other.invoke("f", &json!({})).problem(401, "unauthorized", "caller");
    client.invoke("f", &json!({})).expect(200);
    let shown = client.list("/v1/keys").into_iter().find(|key| key["id"] == id).unwrap();
    assert!(shown["revoked_at"].is_string(), "{shown}");
    client.delete("/v1/keys/nonsense").problem(404, "not-found", "caller");
}

#[test]
fn a_key_makes_no_broader_key() {
    let client = tenant("broader");
    let (_, maker) = client.key(&["keys", "invoke"]);
    maker.post("/v1/keys", &json!({"scopes": ["invoke"]})).expect(201);
    for scopes in [json!(["functions:write"]), json!(["invoke", "usage:read"]), json!(["admin"])] {
        maker.post("/v1/keys", &json!({ "scopes": scopes })).problem(403, "forbidden", "caller");
    }
    maker.post("/v1/keys", &json!({})).problem(403, "forbidden", "caller");
    client.post("/v1/keys", &json!({"scopes": ["admin"]})).problem(403, "forbidden", "caller");
    client.post("/v1/keys", &json!({"scopes": ["root"]})).problem(400, "invalid-scope", "caller");
    client.post("/v1/keys", &json!({"scopes": []})).problem(400, "invalid-scope", "caller");
    client.post("/v1/keys", &json!({"scope": "invoke"})).problem(400, "invalid-body", "caller");
}

#[test]
fn a_creation_with_an_idempotency_key_happens_once() {
    let client = tenant("once");
    let make = |key: &str, body: &Value| {
        client.request(
            "POST",
            "/v1/keys",
            &[("content-type", "application/json"), ("idempotency-key", key)],
            body.to_string().as_bytes(),
        )
    };
    let first = make("a", &json!({"name": "one", "scopes": ["invoke"]})).expect(201).json();
    let second = make("a", &json!({"name": "one", "scopes": ["invoke"]})).expect(201).json();
    assert_eq!(first["id"], second["id"]);
    assert!(first["key"].is_string() && second["key"].is_null(), "the key itself is shown once");
    make("a", &json!({"name": "two", "scopes": ["invoke"]})).expect(409);
    make("", &json!({"name": "one"})).problem(400, "invalid-idempotency-key", "caller");
    make(&"k".repeat(256), &json!({"name": "one"})).problem(400, "invalid-idempotency-key", "caller");

    let replies = in_parallel(8, |_| make("b", &json!({"name": "many", "scopes": ["invoke"]})));
    let made: BTreeSet<_> =
        replies.iter().filter(|reply| reply.status == 201).map(|reply| reply.json()["id"].to_string()).collect();
    assert_eq!(made.len(), 1, "{replies:?}");
    assert!(replies.iter().all(|reply| matches!(reply.status, 201 | 409)), "{replies:?}");
    assert_eq!(client.list("/v1/keys").len(), 3);

    let other = tenant("once-too");
    let theirs = other
        .request(
            "POST",
            "/v1/keys",
            &[("content-type", "application/json"), ("idempotency-key", "a")],
            br#"{"scopes":["invoke"]}"#,
        )
        .expect(201);
    assert_ne!(theirs.json()["id"], first["id"], "keys of different tenants have nothing to do with each other");

    // A failed creation leaves the key free.
    make("c", &json!({"scopes": ["root"]})).expect(400);
    make("c", &json!({"scopes": ["invoke"]})).expect(201);
    let function = Function::python("f", "", "def handler(event, context):\n    return 1\n").archive();
    let deploy = |archive: &[u8]| client.request("POST", "/v1/functions", &[("idempotency-key", "d")], archive);
    deploy(b"nonsense").expect(422);
    assert_eq!(deploy(&function).expect(201).body, deploy(&function).expect(201).body);
    deploy(&Function::python("g", "", "def handler(event, context):\n    return 1\n").archive()).expect(409);
}

#[test]
fn a_creation_whose_caller_leaves_does_not_block_its_repetition() {
    use std::io::Write;
    let client = tenant("repeats");
    for number in 0..20 {
        let body = json!({"name": format!("n{number}"), "scopes": ["invoke"]}).to_string();
        let text = format!(
            "POST /v1/keys HTTP/1.1\r\nhost: raas\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\nidempotency-key: r{number}\r\ncontent-length: {}\r\n\r\n{body}",
            client.key,
            body.len()
        );
        let mut stream = crate::harness::send(&client, &text);
        let _ = stream.flush();
        drop(stream);
        let made = wait_for("the repeated creation", crate::harness::SOON, || {
            let headers = [("content-type", "application/json"), ("idempotency-key", &format!("r{number}"))];
            let reply = client.request("POST", "/v1/keys", &headers, body.as_bytes());
            // In progress is an answer while it is; for ever is not.
            (reply.status != 409).then_some(reply)
        });
        made.expect(201);
    }
    assert_eq!(client.list("/v1/keys").len(), 21, "each was made once");
}

#[test]
fn tenants_are_the_administrators() {
    let platform = platform();
    let client = tenant("ordinary");
    client.get("/v1/tenants").problem(403, "forbidden", "caller");
    platform.admin.post("/v1/tenants", &json!({"name": client.tenant})).problem(409, "conflict", "caller");
    for name in ["", " ", " a", "a/b", "a\u{0}b", "a\nb", &"x".repeat(300)] {
        platform.admin.post("/v1/tenants", &json!({ "name": name })).expect(400);
    }
    let names: Vec<_> = platform
        .admin
        .list("/v1/tenants?limit=2")
        .iter()
        .map(|tenant| tenant["name"].as_str().unwrap().to_owned())
        .collect();
    assert!(names.contains(&client.tenant) && names.contains(&"admin".to_owned()), "{names:?}");
    platform.admin.post("/v1/keys", &json!({"tenant": "nobody"})).problem(404, "not-found", "caller");
}

#[test]
fn keys_are_private_to_their_files_and_in_no_log_and_no_database() {
    let platform = Options::new().settings("[pool]\npython3 = 0\nnode = 0\n[telemetry]\nlog = \"trace\"\n").start();
    let client = platform.tenant("secret");
    client.deploy(&Function::python("f", "", "def handler(event, context):\n    return 1\n"));
    client.invoke("f", &json!({})).expect(200);
    let (_, other) = client.key(&["invoke"]);
    other.get("/v1/functions").expect(403);
    client.with_key("raas_wrong-but-secret").get("/v1/functions").expect(401);
    let data = platform.path();
    assert_eq!((mode(&data), mode(&data.join("admin.key"))), (0o700, 0o600));
    let keys = [&platform.admin.key, &client.key, &other.key, "raas_wrong-but-secret"];
    platform.finish();
    let log = platform.log();
    assert!(log.len() > 200, "there is a log to look at");
    for key in keys {
        assert!(!log.contains(key), "a key is in the log");
        assert!(!log.contains(&key[5..]), "a key is in the log");
    }
    let mut looked_at = 0;
    for file in std::fs::read_dir(&data).unwrap().flatten().filter(|file| file.file_name() != "admin.key") {
        if let Ok(bytes) = std::fs::read(file.path()) {
            looked_at += 1;
            for key in keys {
                let found = bytes.windows(key.len()).any(|part| part == key.as_bytes());
                assert!(!found, "a key is in {}", file.path().display());
            }
        }
    }
    assert!(looked_at >= 1, "the database was looked at");
}

#[test]
fn requests_that_are_no_http_or_too_much_of_it_are_survived() {
    let client = tenant("malformed");
    let auth = format!("authorization: Bearer {}\r\n", client.key);
    let invoke = "POST /v1/functions/f/invocations HTTP/1.1\r\nhost: raas\r\nconnection: close\r\n";
    let cases = [
        ("not HTTP at all", "hello\r\n\r\n".to_owned(), 400),
        ("a huge header", format!("GET /healthz HTTP/1.1\r\nhost: raas\r\nx: {}\r\n\r\n", "y".repeat(200_000)), 431),
        ("many headers", format!("GET /healthz HTTP/1.1\r\nhost: raas\r\n{}\r\n", "a: b\r\n".repeat(5000)), 431),
        ("a length that is no number", format!("{invoke}{auth}content-length: many\r\n\r\n{{}}"), 400),
        ("two lengths", format!("{invoke}{auth}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}"), 400),
        ("a broken chunk", format!("{invoke}{auth}transfer-encoding: chunked\r\n\r\nzz\r\n{{}}\r\n"), 400),
        (
            "a control character in the path",
            "GET /v1/\u{1} HTTP/1.1\r\nhost: raas\r\nconnection: close\r\n\r\n".to_owned(),
            400,
        ),
    ];
    client.deploy(&Function::python("f", "", "def handler(event, context):\n    return 1\n"));
    for (what, text, status) in cases {
        let answer = crate::harness::closed_by_peer(crate::harness::send(&client, &text));
        assert!(answer.is_empty() || answer.starts_with(&format!("HTTP/1.1 {status} ")), "{what}: {answer}");
    }
    for (method, path, status, code) in [
        ("GET", "/v1/nothing", 404, "no-such-route"),
        ("DELETE", "/v1/usage", 405, "no-such-method"),
        ("GET", "/v1/functions/..%2f..%2fetc", 404, "not-found"),
        ("GET", "/v1/functions/%00", 404, "not-found"),
        ("GET", "/v1/invocations/nonsense", 404, "not-found"),
    ] {
        client.request(method, path, &[], b"").problem(status, code, "caller");
    }
    // A connection survives a refusal that came before the request's body.
    let refused = "POST /v1/functions/nothing/invocations HTTP/1.1\r\nhost: raas\r\ncontent-length: 2\r\n\r\n";
    for head in [
        refused.to_owned(),
        refused.replace("\r\n\r\n", &format!("\r\n{auth}\r\n")),
        refused.replace("functions/nothing/invocations", "keys"),
    ] {
        use std::io::Write;
        let mut stream = crate::harness::send(&client, &head);
        wait_for("the refusal, or nothing", Duration::from_secs(1), {
            let begun = std::time::Instant::now();
            move || (begun.elapsed() > Duration::from_millis(100)).then_some(())
        });
        stream.write_all(b"{}").unwrap();
        let both = crate::harness::last_answer(stream);
        assert!(both.starts_with("HTTP/1.1 40") && both.contains("HTTP/1.1 200 "), "{both}");
    }
    client.get("/v1/usage?cursor=nonsense").problem(400, "invalid-query", "caller");
    client.get("/v1/usage?from=yesterday").problem(400, "invalid-query", "caller");
    assert_eq!(client.value("f", &json!({})), 1);
}
