//! Functions that call helpers, and helpers that do.

use serde_json::{Value, json};

use super::{counter, tenant, with_counter};
use crate::harness::{Client, Function, in_parallel};

const BINDING: &str = "[helpers]\ncounter = \"mine\"\n";

fn threads(concurrency: u32) -> String {
    format!("[scaling]\nconcurrency = {concurrency}\n{BINDING}")
}

#[test]
fn a_function_calls_a_helper_by_the_name_it_is_bound_to() {
    let client = with_counter("caller");
    let source = "def handler(event, context):\n    counter = context.helper('counter')\n    return [counter.square(n=event['n'])['n'], counter.square(event['n'])['n'], counter.add('k', by=2)]\n";
    client.deploy(&Function::python("f", BINDING, source));
    assert_eq!(client.value("f", &json!({"n": 5})), json!([25, 25, 2]));
    assert_eq!(client.value("f", &json!({"n": 5})), json!([25, 25, 4]));
    let served = client.helper_served("mine");
    assert_eq!((served["computed"], served["hit"]), (3, 3), "by name or by place, it is the same call: {served:?}");
    assert_eq!(client.show_helper("mine")["bound"], json!(["function f"]));
}

/// Every way of serving: one thread, several threads, an event loop.
#[test]
fn functions_of_every_kind_call_helpers() {
    let client = with_counter("kinds");
    client.deploy(&Function::python("one", BINDING, "def handler(e, c):\n    return c.helper('counter').greet(e)\n"));
    client.deploy(&Function::python(
        "many",
        &threads(8),
        "def handler(e, c):\n    return c.helper('counter').greet(e)\n",
    ));
    let looped = "import asyncio\nasync def handler(e, c):\n    greet = c.helper('counter').aio.greet\n    return await asyncio.gather(greet(e), greet(name=e))\n";
    client.deploy(&Function::python("looped", &threads(8), looped));
    let node = "exports.handler = async (e, c) => await c.helper('counter').greet({ name: e });\n";
    client.deploy(&Function::node("node", &threads(8), node));
    for function in ["one", "many", "looped", "node"] {
        let values = in_parallel(16, |number| client.value(function, &json!(format!("n{number}"))));
        for (number, value) in values.iter().enumerate() {
            let greeting = json!(format!("hello, n{number}"));
            let expected = if function == "looped" { json!([greeting, greeting]) } else { greeting };
            assert_eq!(*value, expected, "{function}");
        }
    }
}

#[test]
fn a_functions_own_threads_call_helpers_too() {
    let client = with_counter("own-threads");
    let source = "from concurrent.futures import ThreadPoolExecutor\ndef handler(e, c):\n    greet = c.helper('counter').greet\n    with ThreadPoolExecutor(8) as pool:\n        return sorted(pool.map(greet, 'abcdefgh'))\n";
    client.deploy(&Function::python("f", BINDING, source));
    client.deploy(&Function::python("g", &threads(4), source));
    let expected: Vec<_> = "abcdefgh".chars().map(|name| format!("hello, {name}")).collect();
    for function in ["f", "g"] {
        for value in in_parallel(4, |_| client.value(function, &json!({}))) {
            assert_eq!(value, json!(expected), "{function}");
        }
    }
}

#[test]
fn what_a_helper_answers_badly_is_a_typed_error_in_the_function() {
    let client = with_counter("typed");
    let source = r#"
from raas import HelperError

def handler(event, context):
    try:
        counter = context.helper(event.get("helper", "counter"))
        return getattr(counter, event["method"])(*event.get("by place", []), **event.get("args", {}))
    except HelperError as error:
        cause = error.error or {}
        return [error.code, error.origin, error.retryable, cause.get("type")]
"#;
    client.deploy(&Function::python("f", BINDING, source));
    let call = |event: Value| client.value("f", &event);
    assert_eq!(call(json!({"method": "greet", "args": {"name": "x"}})), "hello, x");
    assert_eq!(
        call(json!({"method": "fail", "args": {"key": "k"}})),
        json!(["helper-error", "helper", false, "ValueError"])
    );
    assert_eq!(call(json!({"method": "nothing"}))[0], "unknown-method");
    assert_eq!(call(json!({"method": "nothing", "by place": [1]}))[0], "unknown-method");
    for wrong in [
        json!({"method": "square", "args": {"m": 1}}),
        json!({"method": "square", "by place": [1, 2]}),
        json!({"method": "square", "by place": [1], "args": {"n": 1}}),
        json!({"method": "refuse"}),
    ] {
        assert_eq!((&call(wrong.clone())[0], &call(wrong)[1]), (&json!("wrong-arguments"), &json!("caller")));
    }
    assert_eq!(call(json!({"helper": "other", "method": "x"}))[0], "not-bound");
    assert_eq!(call(json!({"method": "die"})).as_array().unwrap()[1..3], [json!("helper"), json!(false)]);
    assert_eq!(call(json!({"method": "greet", "args": {"name": "x"}})), "hello, x");
}

#[test]
fn the_helpers_answer_must_come_before_the_functions_own_deadline() {
    let client = with_counter("deadline");
    let source = "from raas import HelperError\ndef handler(e, c):\n    c.helper('counter').sleep(s=2)\n";
    client.deploy(&Function::python("f", &format!("timeout_s = 1\n{BINDING}"), source));
    let problem = client.invoke("f", &json!({})).expect(504).json();
    assert_eq!(problem["origin"], "function", "{problem}");
}

#[test]
fn a_function_is_deployed_only_with_helpers_that_there_are() {
    let client = tenant("unbound");
    let function = Function::python("f", BINDING, "def handler(e, c):\n    return 1\n");
    let problem = client.upload(&function.archive()).problem(422, "invalid-bindings", "caller");
    assert!(problem["title"].as_str().unwrap().contains("mine"), "{problem}");
    client.publish(&counter());
    client.create_helper("counter", "mine", &json!({}));
    client.deploy(&function);
    assert_eq!(client.value("f", &json!({})), 1);
    // What is bound goes only by force.
    let problem = client.delete("/v1/helper-instances/mine").problem(409, "bound", "caller");
    assert!(problem["title"].as_str().unwrap().contains("function f"), "{problem}");
    client.delete("/v1/helper-instances/mine?force=true").expect(204);
    client.get("/v1/helper-instances/mine").problem(404, "not-found", "caller");
}

fn forwarding(client: &Client) {
    let source = "from raas import Helper, method\n\nclass Forward(Helper):\n    @method\n    def greet(self, name):\n        return self.helper('next').greet(name=name) + '!'\n";
    client.publish(&Function::helper("forward", "helpers = [\"next\"]\n", source));
}

fn bound_to(client: &Client, name: &str, next: &str) -> crate::harness::Reply {
    let helper = format!("{}/forward", client.tenant);
    client.post("/v1/helper-instances", &json!({"helper": helper, "name": name, "bindings": {"next": next}}))
}

#[test]
fn helpers_call_helpers_but_not_in_a_circle_and_not_for_ever() {
    let client = with_counter("nested");
    forwarding(&client);
    client.post("/v1/helper-instances", &json!({"helper": format!("{}/forward", client.tenant), "name": "a"})).problem(
        422,
        "invalid-bindings",
        "caller",
    );
    bound_to(&client, "a", "a").expect(422);
    bound_to(&client, "a", "nowhere").problem(422, "invalid-bindings", "caller");
    bound_to(&client, "h1", "mine").expect(201);
    assert_eq!(client.method("h1", "greet", &json!({"name": "x"})).expect(200).json(), "hello, x!");
    for depth in 2..=9 {
        bound_to(&client, &format!("h{depth}"), &format!("h{}", depth - 1)).expect(201);
    }
    assert_eq!(client.method("h8", "greet", &json!({"name": "x"})).expect(200).json(), "hello, x!!!!!!!!");
    let problem = client.method("h9", "greet", &json!({"name": "x"})).expect(502).json();
    assert!(problem["error"]["message"].as_str().unwrap().contains("nested"), "{problem}");
}

#[test]
fn a_functions_kept_result_is_as_new_as_the_helper_it_asked() {
    let client = with_counter("fresh");
    let source = "def handler(e, c):\n    return c.helper('counter').square(n=2)['model']\n";
    client.deploy(&Function::python("f", &format!("[cache]\nmode = \"declared\"\n{BINDING}"), source));
    assert_eq!(client.value("f", &json!({})), 0);
    assert_eq!(client.invoke("f", &json!({})).expect(200).served_by(), "hit");
    client.post("/v1/helper-instances/mine/training", &json!({})).expect(200);
    let reply = client.invoke("f", &json!({})).expect(200);
    assert_eq!((reply.served_by(), reply.json()), ("computed", json!(1)));
}

#[test]
fn a_kept_result_is_as_new_as_what_the_helper_itself_asked() {
    let client = with_counter("fresh-through");
    let source = "from raas import Helper, method\n\nclass Through(Helper):\n    @method\n    def model(self):\n        return self.helper('next').square(n=2)['model']\n";
    client.publish(&Function::helper("through", "helpers = [\"next\"]\n[methods.model]\ncache_ttl_s = 600\n", source));
    let body = json!({"helper": format!("{}/through", client.tenant), "name": "t", "bindings": {"next": "mine"}});
    client.post("/v1/helper-instances", &body).expect(201);
    let source = "def handler(e, c):\n    return c.helper('t').model()\n";
    client.deploy(&Function::python("f", "[cache]\nmode = \"declared\"\n[helpers]\nt = \"t\"\n", source));
    assert_eq!(client.value("f", &json!({})), 0);
    assert_eq!(client.invoke("f", &json!({})).expect(200).served_by(), "hit");
    client.post("/v1/helper-instances/mine/training", &json!({})).expect(200);
    let reply = client.invoke("f", &json!({})).expect(200);
    assert_eq!((reply.served_by(), reply.json()), ("computed", json!(1)));
}
