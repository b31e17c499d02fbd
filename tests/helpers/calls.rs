//! Publishing, making instances, calling methods over HTTP, and every way in which that fails.

use serde_json::{Value, json};

use super::{COUNTER, MANIFEST, counter, tenant, with_counter};
use crate::harness::{Function, SOON, in_parallel, wait_for};

#[test]
fn a_helper_is_published_made_and_called() {
    let client = tenant("first");
    let published = client.publish(&counter());
    assert_eq!(
        (published["publisher"].as_str(), &published["name"], &published["version"]),
        (Some(client.tenant.as_str()), &json!("counter"), &json!("1.0.0"))
    );
    let made = client.create_helper("counter", "mine", &json!({"greeting": "ahoy"}));
    let id = made["id"].as_str().unwrap();
    assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 7);
    assert_eq!(
        (&made["state"], &made["version"], &made["data_version"]),
        (&json!("ready"), &json!("1.0.0"), &json!(1))
    );
    assert!(made["since"].is_string() && made["reason"].is_string(), "{made}");

    let reply = client.method("mine", "greet", &json!({"name": "sailor"})).expect(200);
    assert_eq!(reply.json(), "ahoy, sailor");
    assert_eq!(reply.served_by(), "computed");
    assert_eq!(uuid::Uuid::parse_str(&reply.id()).unwrap().get_version_num(), 7);
    assert_eq!(client.method(id, "greet", &json!({})).expect(200).json(), "ahoy, you", "by id as by name");

    let first = client.method("mine", "square", &json!({"n": 7})).expect(200);
    let second = client.method("mine", "square", &json!({ "n": 7 })).expect(200);
    assert_eq!((first.served_by(), second.served_by()), ("computed", "hit"));
    assert_eq!((&first.json()["n"], first.body), (&json!(49), second.body));

    let shown = client.show_helper("mine");
    let methods: Vec<_> = shown["methods"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(methods.contains(&"square") && !methods.contains(&"train"), "{methods:?}");
    assert_eq!(shown["replicas"].as_array().unwrap().len(), 1);
    assert_eq!((&shown["served"]["computed"], &shown["served"]["hit"]), (&json!(3), &json!(1)));
    assert_eq!(client.list("/v1/helper-instances").len(), 1);
    let listed = client.get("/v1/helpers").expect(200).json();
    assert_eq!(listed["items"][0]["name"], "counter", "{listed}");
}

#[test]
fn a_published_version_never_changes() {
    let client = tenant("immutable");
    let first = client.publish(&counter());
    let again = client.request("POST", "/v1/helpers", &[], &counter().archive()).expect(201).json();
    assert_eq!(first["digest"], again["digest"], "the same content is the same version");
    let other = Function::helper("counter", MANIFEST, &COUNTER.replace("no luck", "bad luck"));
    client.request("POST", "/v1/helpers", &[], &other.archive()).problem(409, "conflict", "caller");
    let newer = client.publish(&Function::helper_version("counter", "1.1.0", MANIFEST, COUNTER));
    assert_ne!(first["digest"], newer["digest"]);
    client.create_helper("counter", "newest", &json!({}));
    assert_eq!(client.show_helper("newest")["version"], "1.1.0", "the highest where nothing is said");
    client
        .post("/v1/helper-instances", &json!({"helper": format!("{}/counter@1.0.0", client.tenant), "name": "older"}))
        .expect(201);
    assert_eq!(client.show_helper("older")["version"], "1.0.0");
}

#[test]
fn what_cannot_be_published_says_why() {
    let client = tenant("unpublishable");
    let refused = |function: &Function| {
        let reply = client.request("POST", "/v1/helpers", &[], &function.archive());
        let problem = reply.expect(422).json();
        problem["title"].as_str().unwrap().to_owned()
    };
    let title = refused(&Function::helper("counter", "[methods.square]\nargs = \"none.json\"\n", COUNTER));
    assert!(title.contains("none.json"), "{title}");
    let bad =
        Function::helper("counter", "[methods.square]\nargs = \"a.json\"\n", COUNTER).file("a.json", r#"{"type": 7}"#);
    assert!(refused(&bad).contains("a.json"));
    assert!(refused(&Function::helper("counter", "colour = \"red\"\n", COUNTER)).contains("colour"));
    assert!(refused(&Function::helper_version("counter", "one", "", COUNTER)).contains("version"));
    assert!(refused(&Function::python("f", "", "def handler(e, c): pass\n")).contains("helper.toml"));
    let upload = client.request("POST", "/v1/functions", &[], &counter().archive()).expect(422).json();
    assert!(upload["title"].as_str().unwrap().contains("raas helper publish"), "{upload}");
    assert!(client.list("/v1/helpers").is_empty());
}

#[test]
fn an_instance_that_cannot_be_is_not_made() {
    let client = tenant("unmakeable");
    let schema = r#"{"type": "object", "properties": {"greeting": {"type": "string"}}, "additionalProperties": true}"#;
    let helper = Function::helper("counter", &format!("config = \"config.json\"\n{MANIFEST}"), COUNTER);
    client.publish(&helper.file("config.json", schema));
    let helper = format!("{}/counter", client.tenant);
    let create = |body: Value| client.post("/v1/helper-instances", &body);
    create(json!({"helper": helper, "name": "a", "config": {"greeting": 7}})).problem(422, "invalid-config", "caller");
    create(json!({"helper": helper, "name": "a", "config": []})).problem(422, "invalid-config", "caller");
    create(json!({"helper": helper, "name": "A b"})).problem(422, "invalid-name", "caller");
    create(json!({"helper": "counter", "name": "a"})).problem(400, "invalid-body", "caller");
    create(json!({"helper": helper, "name": "a", "colour": 1})).problem(400, "invalid-body", "caller");
    create(json!({"helper": format!("{helper}@9.9.9"), "name": "a"})).problem(404, "not-found", "caller");
    create(json!({"helper": "nobody/counter", "name": "a"})).problem(404, "not-found", "caller");
    create(json!({"helper": helper, "name": "a", "bindings": {"x": "y"}})).problem(422, "invalid-bindings", "caller");
    let problem = create(json!({"helper": helper, "name": "a", "config": {"breaks": "start"}}));
    let problem = problem.expect(502).json();
    assert_eq!(
        (&problem["origin"], &problem["error"]["message"]),
        (&json!("helper"), &json!("cannot start like this"))
    );
    client.publish(&Function::helper_version("counter", "1.0.1", "[methods.typo]\ncache_ttl_s = 1\n", COUNTER));
    let problem =
        create(json!({"helper": format!("{helper}@1.0.1"), "name": "a"})).problem(422, "unknown-method", "caller");
    assert!(problem["title"].as_str().unwrap().contains("methods.typo"), "{problem}");
    assert!(client.list("/v1/helper-instances").is_empty(), "none of them is there");
    create(json!({"helper": format!("{helper}@1.0.0"), "name": "a"})).expect(201);
    create(json!({"helper": helper, "name": "a"})).problem(409, "conflict", "caller");
}

#[test]
fn a_helper_that_never_becomes_ready_is_one_clear_problem() {
    let client = tenant("never-ready");
    let source = "import time\nfrom raas import Helper, method\n\nclass Sleeper(Helper):\n    def start(self):\n        time.sleep(60)\n\n    @method\n    def x(self):\n        pass\n";
    client.publish(&Function::helper("sleeper", "start_timeout_s = 1\n", source));
    let body = json!({"helper": format!("{}/sleeper", client.tenant), "name": "s"});
    let problem = client.post("/v1/helper-instances", &body).expect(504).json();
    assert_eq!((&problem["origin"], &problem["retryable"]), (&json!("helper"), &json!(false)), "{problem}");
    assert!(problem["title"].as_str().unwrap().contains("1 s"), "{problem}");
    assert!(client.list("/v1/helper-instances").is_empty());
}

#[test]
fn each_failed_call_says_whose_fault_it_is() {
    let client = with_counter("faults");
    let call = |method: &str, arguments: Value| client.method("mine", method, &arguments);
    let unknown = call("nothing", json!({})).problem(404, "unknown-method", "caller");
    assert!(unknown["title"].as_str().unwrap().contains("square"), "it says what there is: {unknown}");
    for name in ["_state", "a-b", "start", "train"] {
        call(name, json!({})).problem(404, "unknown-method", "caller");
    }
    client.method("theirs", "square", &json!({})).problem(404, "not-found", "caller");
    let wrong = call("square", json!({"n": 1, "m": 2})).problem(422, "wrong-arguments", "caller");
    assert!(wrong["title"].as_str().unwrap().contains('m'), "{wrong}");
    call("square", json!({})).problem(422, "wrong-arguments", "caller");
    call("square", json!([1])).problem(422, "wrong-arguments", "caller");
    let refused = call("refuse", json!({})).problem(422, "wrong-arguments", "caller");
    assert_eq!(refused["title"], "nothing pleases me");
    let failed = call("fail", json!({"key": "k"})).problem(502, "helper-error", "helper");
    assert_eq!((&failed["error"]["type"], &failed["error"]["message"]), (&json!("ValueError"), &json!("no luck")));
    assert!(failed["error"]["stack"].as_str().unwrap().contains("main.py"), "{failed}");
    assert_eq!(call("read", json!({"key": "k"})).expect(200).json(), Value::Null, "a failed call writes nothing");
    let slow = call("sleep", json!({"s": 30})).expect(504).json();
    assert_eq!(slow["origin"], "helper", "{slow}");
    let dead = call("die", json!({})).expect(502).json();
    assert_eq!((&dead["origin"], &dead["retryable"]), (&json!("helper"), &json!(false)), "{dead}");
    call("nonsense", json!({})).problem(502, "helper-error", "helper");
    let big = call("big", json!({"bytes": 7 << 20})).expect(502).json();
    assert_eq!(big["origin"], "helper", "{big}");
    assert_eq!(call("greet", json!({})).expect(200).json(), "hello, you", "and it still answers");
}

#[test]
fn arguments_and_results_are_held_to_their_schemas() {
    let client = tenant("schemas");
    let manifest = "[methods.half]\nargs = \"args.json\"\nresult = \"result.json\"\n";
    let source = "from raas import Helper, method\n\nclass Halver(Helper):\n    @method\n    def half(self, n):\n        return n / 2 if n != 7 else 'odd'\n";
    let helper = Function::helper("halver", manifest, source)
        .file("args.json", r#"{"type": "object", "properties": {"n": {"type": "integer", "maximum": 100}}}"#)
        .file("result.json", r#"{"type": "number"}"#);
    client.publish(&helper);
    client.create_helper("halver", "h", &json!({}));
    assert_eq!(client.method("h", "half", &json!({"n": 8})).expect(200).json(), 4.0);
    let wrong = client.method("h", "half", &json!({"n": 101})).problem(422, "wrong-arguments", "caller");
    assert!(wrong["title"].as_str().unwrap().contains("100"), "{wrong}");
    let result = client.method("h", "half", &json!({"n": 7})).problem(502, "invalid-result", "helper");
    assert!(result["title"].as_str().unwrap().contains("schema"), "{result}");
}

#[test]
fn identical_calls_at_once_are_one() {
    let client = tenant("coalesced");
    let source = "import time\nfrom raas import Helper, method\n\nclass Slow(Helper):\n    @method\n    def count(self, n):\n        time.sleep(0.3)\n        self.state.put('calls', self.state.get('calls', 0) + 1)\n        return n\n";
    client.publish(&Function::helper("slow", "[methods.count]\ncache_ttl_s = 60\n", source));
    client.create_helper("slow", "s", &json!({}));
    let replies = in_parallel(8, |_| client.method("s", "count", &json!({"n": 1})).expect(200));
    let computed = replies.iter().filter(|reply| reply.served_by() == "computed").count();
    assert_eq!(computed, 1);
    assert!(replies.iter().any(|reply| reply.served_by() == "coalesced"));
    assert_eq!(client.get("/v1/helper-instances/s/state/calls").expect(200).json(), 1);
}

#[test]
fn a_shared_instance_is_called_by_its_id_by_those_it_is_shared_with() {
    let (owner, friend, stranger) = (with_counter("sharer"), tenant("friend"), tenant("no-friend"));
    let id = owner.show_helper("mine")["id"].as_str().unwrap().to_owned();
    friend.method(&id, "greet", &json!({})).expect(404);
    owner.change_helper("mine", &json!({"shared_with": [friend.tenant]})).expect(200);
    assert_eq!(owner.show_helper("mine")["shared_with"], json!([friend.tenant]));
    assert_eq!(friend.method(&id, "greet", &json!({})).expect(200).json(), "hello, you");
    let function = Function::python(
        "f",
        &format!("[helpers]\ncounter = \"{id}\"\n"),
        "def handler(e, c):\n    return c.helper('counter').greet()\n",
    );
    friend.deploy(&function);
    assert_eq!(friend.value("f", &json!({})), "hello, you");
    // To call is all that is shared.
    friend.get(&format!("/v1/helper-instances/{id}")).expect(404);
    friend.get(&format!("/v1/helper-instances/{id}/state")).expect(404);
    friend.change_helper(&id, &json!({"state": "stopped"})).expect(404);
    friend.method("mine", "greet", &json!({})).expect(404);
    stranger.method(&id, "greet", &json!({})).expect(404);
    owner.change_helper("mine", &json!({"shared_with": ["nobody-at-all"]})).problem(404, "not-found", "caller");
    owner.change_helper("mine", &json!({"shared_with": []})).expect(200);
    friend.method(&id, "greet", &json!({})).expect(404);
    assert_eq!(friend.usage().len(), 3, "who calls, pays: once by itself, once by a function, which is a call, too");
    assert!(owner.usage().is_empty());
}

#[test]
fn candidates_are_answered_before_they_are_asked() {
    let client = tenant("candidates");
    client.publish(&Function::helper("counter", &format!("{MANIFEST}[precompute]\ncpu_share = 0.9\n"), COUNTER));
    client.create_helper("counter", "mine", &json!({}));
    let path = "/v1/helper-instances/mine/methods/square";
    let reply = wait_for("a precomputed answer", SOON, || {
        let reply = client.request("POST", path, &[("cache-control", "only-if-cached")], br#"{"n": 104}"#);
        (reply.status == 200).then_some(reply)
    });
    assert_eq!((reply.served_by(), &reply.json()["n"]), ("precomputed", &json!(104 * 104)));
    assert_eq!(client.helper_served("mine").into_iter().collect::<Vec<_>>(), [("precomputed".into(), 1)]);
}

#[test]
fn another_tenants_helper_is_not_there() {
    let owner = with_counter("helper-owner");
    let stranger = tenant("helper-stranger");
    let id = owner.show_helper("mine")["id"].as_str().unwrap().to_owned();
    stranger.method(&id, "greet", &json!({})).problem(404, "not-found", "caller");
    let body = json!({"helper": format!("{}/counter", owner.tenant), "name": "theirs"});
    stranger.post("/v1/helper-instances", &body).problem(404, "not-found", "caller");
    // The same name is another instance.
    stranger.publish(&counter());
    stranger.create_helper("counter", "mine", &json!({}));
    owner.method("mine", "add", &json!({"key": "k"})).expect(200);
    assert_eq!(stranger.method("mine", "read", &json!({"key": "k"})).expect(200).json(), Value::Null);
}

#[test]
fn a_helper_in_node_does_all_that_one_in_python_does() {
    let client = tenant("node-helper");
    let source = r#"
const { Helper, WrongArguments } = require("raas");
class Counter extends Helper {
  async start() { this.model = (await this.state.get("model")) ?? 0; }
  async add({ key, by = 1 }) {
    const value = ((await this.state.get(key)) ?? 0) + by;
    await this.state.put(key, value);
    return value;
  }
  square({ n }) { return { n: n * n, model: this.model }; }
  async fail({ key }) { await this.state.put(key, 1); throw new RangeError("no luck"); }
  refuse() { throw new WrongArguments("nothing pleases me"); }
  die() { process.exit(3); }
  async train() { await this.state.put("model", this.model + 1); return this.model + 1; }
  *candidates() { yield ["square", { n: 100 }]; }
}
exports.Counter = Counter;
"#;
    client.publish(&Function::node_helper("counter", "[methods.square]\ncache_ttl_s = 60\n[train]\n", source));
    client.create_helper("counter", "mine", &json!({}));
    let call = |method: &str, arguments: Value| client.method("mine", method, &arguments);
    assert_eq!(call("add", json!({"key": "k"})).expect(200).json(), 1);
    assert_eq!(call("add", json!({"key": "k", "by": 4})).expect(200).json(), 5);
    assert_eq!(call("square", json!({"n": 3})).expect(200).json(), json!({"n": 9, "model": 0}));
    assert_eq!(call("square", json!({"n": 3})).expect(200).served_by(), "hit");
    call("nothing", json!({})).problem(404, "unknown-method", "caller");
    call("refuse", json!({})).problem(422, "wrong-arguments", "caller");
    call("fail", json!({"key": "k"})).problem(502, "helper-error", "helper");
    assert_eq!(call("die", json!({})).expect(502).json()["origin"], "helper");
    assert_eq!(
        call("add", json!({"key": "k"})).expect(200).json(),
        6,
        "what was acknowledged is there, what failed is not"
    );
    let trained = client.post("/v1/helper-instances/mine/training", &json!({})).expect(200).json();
    assert_eq!((&trained["data_version"], &trained["value"]), (&json!(2), &json!(1)));
    assert_eq!(call("square", json!({"n": 3})).expect(200).json(), json!({"n": 9, "model": 1}));
}

#[test]
fn calls_of_helpers_are_in_usage_and_costs() {
    let client = with_counter("helper-usage");
    client.method("mine", "square", &json!({"n": 1})).expect(200);
    client.method("mine", "square", &json!({"n": 1})).expect(200);
    let source = "def handler(e, c):\n    return c.helper('counter').square(n=1)['n']\n";
    client.deploy(&Function::python("f", "[helpers]\ncounter = \"mine\"\n", source));
    assert_eq!(client.value("f", &json!({})), 1);
    let usage = client.list("/v1/usage?helper=mine");
    assert_eq!(usage.len(), 3, "{usage:?}");
    assert!(usage.iter().all(|item| item["helper"] == "mine" && item["function"].is_null()), "{usage:?}");
    let by_function: Vec<_> = usage.iter().filter(|item| item["called_by"] == "f").collect();
    assert_eq!(by_function.len(), 1, "{usage:?}");
    let costs = client.get("/v1/costs?helper=mine").expect(200).json();
    let groups: Vec<_> = costs["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            (item["called_by"].as_str().unwrap_or(""), item["served_by"].as_str().unwrap(), item["calls"].as_u64())
        })
        .collect();
    assert_eq!(groups, [("", "computed", Some(1)), ("", "hit", Some(1)), ("f", "hit", Some(1))]);
}
