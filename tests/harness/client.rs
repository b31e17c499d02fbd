//! One tenant's view of a platform, over HTTP.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::time::Duration;

use serde_json::{Value, json};

use super::{Function, SOON, wait_for};

/// A key and where to use it. Cheap to clone; threads share its connections.
#[derive(Clone)]
pub struct Client {
    pub url: String,
    pub key: String,
    /// Name of the tenant.
    pub tenant: String,
    agent: ureq::Agent,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Client {
    pub fn new(url: &str, key: &str, tenant: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(120)))
            .max_idle_connections_per_host(64)
            .build();
        Self { url: url.to_owned(), key: key.to_owned(), tenant: tenant.to_owned(), agent: config.new_agent() }
    }

    /// The same platform with another key.
    pub fn with_key(&self, key: &str) -> Self {
        Self::new(&self.url, key, &self.tenant)
    }

    /// Host and port.
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Any request; an empty key sends none. The error is a connection that failed or broke.
    pub fn try_request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Reply, ureq::Error> {
        let mut request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.url));
        if !self.key.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.key));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = if body.is_empty() && matches!(method, "GET" | "DELETE") {
            self.agent.run(request.body(()).unwrap())?
        } else {
            self.agent.run(request.body(body).unwrap())?
        };
        let body = response.body_mut().with_config().limit(64 << 20).read_to_vec()?;
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()))
            .collect();
        Ok(Reply { status: response.status().as_u16(), headers, body })
    }

    #[track_caller]
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        self.try_request(method, path, headers, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.request("GET", path, &[], b"")
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Reply {
        self.request("DELETE", path, &[], b"")
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Reply {
        self.request("POST", path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }

    #[track_caller]
    pub fn put(&self, path: &str, body: &Value) -> Reply {
        self.request("PUT", path, &[("content-type", "application/json")], body.to_string().as_bytes())
    }

    /// Uploads an archive.
    #[track_caller]
    pub fn upload(&self, archive: &[u8]) -> Reply {
        self.request("POST", "/v1/functions", &[], archive)
    }

    /// Deploys a function, which must work, and returns its version.
    #[track_caller]
    pub fn deploy(&self, function: &Function) -> u32 {
        let reply = self.upload(&function.archive()).expect(201).json();
        reply["version"].as_u64().unwrap() as u32
    }

    /// Publishes a helper version, which must work.
    #[track_caller]
    pub fn publish(&self, helper: &Function) -> Value {
        self.request("POST", "/v1/helpers", &[], &helper.archive()).expect(201).json()
    }

    /// Makes an instance of a helper of this tenant, which must work.
    #[track_caller]
    pub fn create_helper(&self, helper: &str, name: &str, config: &Value) -> Value {
        let body = json!({"helper": format!("{}/{helper}", self.tenant), "name": name, "config": config});
        self.post("/v1/helper-instances", &body).expect(201).json()
    }

    /// What the platform says about a helper instance.
    #[track_caller]
    pub fn show_helper(&self, instance: &str) -> Value {
        self.get(&format!("/v1/helper-instances/{instance}")).expect(200).json()
    }

    /// Changes a helper instance.
    #[track_caller]
    pub fn change_helper(&self, instance: &str, change: &Value) -> Reply {
        let path = format!("/v1/helper-instances/{instance}");
        self.request("PATCH", &path, &[("content-type", "application/json")], change.to_string().as_bytes())
    }

    /// Calls a method of a helper instance.
    #[track_caller]
    pub fn method(&self, instance: &str, method: &str, arguments: &Value) -> Reply {
        self.post(&format!("/v1/helper-instances/{instance}/methods/{method}"), arguments)
    }

    /// Calls a function.
    #[track_caller]
    pub fn invoke(&self, function: &str, event: &Value) -> Reply {
        self.invoke_text(function, &event.to_string(), &[])
    }

    /// Calls a function with this `Cache-Control`.
    #[track_caller]
    pub fn invoke_cached(&self, function: &str, event: &Value, cache_control: &str) -> Reply {
        self.invoke_text(function, &event.to_string(), &[("cache-control", cache_control)])
    }

    /// Calls a function with any text as its event.
    #[track_caller]
    pub fn invoke_text(&self, function: &str, event: &str, headers: &[(&str, &str)]) -> Reply {
        self.request("POST", &format!("/v1/functions/{function}/invocations"), headers, event.as_bytes())
    }

    /// Calls a function, which must answer 200, and returns its value.
    #[track_caller]
    pub fn value(&self, function: &str, event: &Value) -> Value {
        self.invoke(function, event).expect(200).json()
    }

    /// Calls a function asynchronously and returns the invocation's address.
    #[track_caller]
    pub fn invoke_async(&self, function: &str, event: &Value) -> String {
        let reply = self.invoke_text(function, &event.to_string(), &[("prefer", "respond-async")]).expect(202);
        reply.header("location").to_owned()
    }

    /// Waits for an asynchronous invocation's end.
    #[track_caller]
    pub fn finished(&self, location: &str) -> Value {
        wait_for("the asynchronous invocation's end", SOON, || {
            let view = self.get(location).expect(200).json();
            (view["state"] == "done").then_some(view)
        })
    }

    /// Every item of a list, page by page.
    #[track_caller]
    pub fn list(&self, path: &str) -> Vec<Value> {
        let mut items = Vec::new();
        let mut cursor = None::<String>;
        loop {
            let separator = if path.contains('?') { '&' } else { '?' };
            let next = cursor.map(|cursor| format!("{separator}cursor={cursor}")).unwrap_or_default();
            let page = self.get(&format!("{path}{next}")).expect(200).json();
            items.extend(page["items"].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return items,
            }
        }
    }

    /// Usage items, all of the tenant's.
    #[track_caller]
    pub fn usage(&self) -> Vec<Value> {
        self.list("/v1/usage?limit=100")
    }

    /// Usage items of one function, counted by what served them.
    #[track_caller]
    pub fn served(&self, function: &str) -> BTreeMap<String, usize> {
        self.served_of(&format!("function={function}"))
    }

    /// The same of one helper instance.
    #[track_caller]
    pub fn helper_served(&self, instance: &str) -> BTreeMap<String, usize> {
        self.served_of(&format!("helper={instance}"))
    }

    fn served_of(&self, callee: &str) -> BTreeMap<String, usize> {
        let mut served = BTreeMap::new();
        for item in self.list(&format!("/v1/usage?limit=100&{callee}")) {
            *served.entry(item["served_by"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        served
    }

    /// What the platform says about a function.
    #[track_caller]
    pub fn show(&self, function: &str) -> Value {
        self.get(&format!("/v1/functions/{function}")).expect(200).json()
    }

    /// Instances of a function that run now.
    #[track_caller]
    pub fn instances(&self, function: &str) -> usize {
        self.show(function)["instances"].as_array().unwrap().len()
    }

    /// The newest log lines of a function.
    #[track_caller]
    pub fn logs(&self, function: &str) -> Vec<Value> {
        let page = self.get(&format!("/v1/functions/{function}/logs?limit=100")).expect(200).json();
        page["items"].as_array().unwrap().clone()
    }

    /// A function's log lines from now on, as they come.
    pub fn follow(&self, function: &str) -> impl Iterator<Item = Value> + Send + 'static {
        let request = ureq::http::Request::builder()
            .uri(format!("{}/v1/functions/{function}/logs?follow=true", self.url))
            .header("authorization", format!("Bearer {}", self.key))
            .body(())
            .unwrap();
        let response = self.agent.run(request).unwrap();
        assert_eq!(response.status().as_u16(), 200);
        let reader = BufReader::new(response.into_body().into_reader());
        reader.lines().map_while(Result::ok).map(|line| serde_json::from_str(&line).unwrap())
    }

    /// Makes a key of this tenant with these scopes.
    #[track_caller]
    pub fn key(&self, scopes: &[&str]) -> (String, Client) {
        let made = self.post("/v1/keys", &json!({ "scopes": scopes })).expect(201).json();
        (made["id"].as_str().unwrap().to_owned(), self.with_key(made["key"].as_str().unwrap()))
    }
}

impl Reply {
    /// Goes on only with this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}\n{:?}", self.text(), self.headers);
        self
    }

    /// Goes on only with this problem.
    #[track_caller]
    pub fn problem(self, status: u16, code: &str, origin: &str) -> Value {
        let problem = self.expect(status);
        assert_eq!(problem.header("content-type"), "application/problem+json");
        let problem = problem.json();
        assert_eq!((problem["code"].as_str(), problem["origin"].as_str()), (Some(code), Some(origin)), "{problem}");
        problem
    }

    /// A header's value, empty where it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    pub fn served_by(&self) -> &str {
        self.header("raas-served-by")
    }

    /// The call's id.
    pub fn id(&self) -> String {
        self.header("raas-invocation-id").to_owned()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}
