//! Persistent helpers from the outside: published, called over HTTP and from functions, changed, trained, killed.

mod calls;
mod changes;
mod functions;
mod keys;
mod machine;
mod state;
mod training;

use std::sync::Arc;

use serde_json::json;

use crate::harness::{Client, Function, Options, Platform, shared};

fn platform() -> Arc<Platform> {
    shared("helpers", Options::new)
}

fn tenant(label: &str) -> Client {
    platform().tenant(label)
}

/// What most tests call: state, errors of all kinds, and a model that training makes.
const COUNTER: &str = r#"
import os, time
from raas import Helper, WrongArguments, method

class Counter(Helper):
    def start(self):
        self.model = self.state.get("model", 0)
        self.greeting = self.config.get("greeting", "hello")
        if self.config.get("breaks") == "start":
            raise RuntimeError("cannot start like this")

    @method
    def add(self, key, by=1):
        value = self.state.get(key, 0) + by
        self.state.put(key, value)
        return value

    @method
    def read(self, key):
        return self.state.get(key)

    @method
    def square(self, n):
        return {"n": n * n, "model": self.model}

    @method
    def greet(self, name="you"):
        return f"{self.greeting}, {name}"

    @method
    def mark(self, file):
        open("/tmp/" + file, "w").close()

    @method
    def replica(self):
        return os.getpid(), self.config, self.data_version

    @method
    def sleep(self, s, value=None):
        time.sleep(s)
        return value

    @method
    def fail(self, key):
        self.state.put(key, "written by a call that failed")
        raise ValueError("no luck")

    @method
    def refuse(self):
        raise WrongArguments("nothing pleases me")

    @method
    def die(self):
        os._exit(3)

    @method
    def die_once(self, key):
        if self.state.get(key) is None:
            os._exit(3)
        return "alive"

    @method
    def nonsense(self):
        return object()

    @method
    def big(self, bytes):
        return "x" * bytes

    def candidates(self):
        for n in range(100, 105):
            yield self.square, (n,)

    def train(self):
        if self.state.get("train-idles"):
            return False
        if self.state.get("train-fails"):
            self.state.put("model", -1)
            raise RuntimeError("training went wrong")
        self.state.put("model", self.state.get("model", 0) + 1)
        return {"model": self.state.get("model")}

    def reconfigure(self, config):
        if config.get("breaks") == "reconfigure":
            raise ValueError("not with me")
"#;

const MANIFEST: &str = r#"
state_mb = 1
timeout_s = 10
[scaling]
max = 2
concurrency = 4
[methods.square]
cache_ttl_s = 600
[methods.sleep]
idempotent = true
timeout_s = 3
[methods.read]
idempotent = true
[train]
"#;

fn counter() -> Function {
    Function::helper("counter", MANIFEST, COUNTER)
}

/// A tenant with an instance of the counter.
fn with_counter(label: &str) -> Client {
    let client = tenant(label);
    client.publish(&counter());
    client.create_helper("counter", "mine", &json!({}));
    client
}
