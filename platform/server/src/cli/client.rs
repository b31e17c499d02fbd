//! The API as the commands use it: one blocking client with deadlines on everything and careful retries.
//!
//! What may be sent twice without doing anything twice (a `GET`, a creation with an `Idempotency-Key`) is sent again when the
//! connection fails; nothing else ever is.

use std::io;
use std::time::Duration;

use http::{HeaderMap, Method, Request, Response, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use ureq::{Agent, Body};

use super::context::{Context, resolve};
use super::failure::{Failure, Outcome};

/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// How long a request may take that only looks something up or writes it down.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// How long a request may take that runs somebody's code.
pub const WORK_WITHIN: Duration = Duration::from_secs(15 * 60);

/// How often something that may be repeated is sent again.
const RETRIES: u32 = 2;

/// How long to wait before it is sent again.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// The largest answer that is read.
const ANSWER_MAX_BYTES: u64 = 64 << 20;

/// Pages of a list that are read at most.
const PAGES_MAX: usize = 100_000;

/// A JSON answer, kept as the text it came as: what is printed for machines is what the API said.
#[derive(Debug)]
pub struct Answer {
    /// The text.
    pub text: String,
    /// The headers.
    pub headers: HeaderMap,
}

impl Answer {
    /// The value.
    ///
    /// # Errors
    /// It is not JSON.
    pub fn value(&self) -> Outcome<Value> {
        serde_json::from_str(&self.text).map_err(Failure::unexpected)
    }
}

/// One request.
pub struct Call<'a> {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Option<(&'static str, &'a [u8])>,
    within: Option<Duration>,
    repeatable: bool,
}

impl<'a> Call<'a> {
    /// A request without a body.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        let repeatable = method == Method::GET;
        Self { method, path: path.into(), headers: Vec::new(), body: None, within: Some(ANSWER_WITHIN), repeatable }
    }

    /// With a query, percent-encoded here.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        self.path.push(if self.path.contains('?') { '&' } else { '?' });
        self.path += &format!("{name}={}", encode(value));
        self
    }

    /// With a query where there is a value.
    pub fn query_if(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.query(name, value),
            None => self,
        }
    }

    /// With a header.
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// With a body.
    pub fn body(mut self, content_type: &'static str, body: &'a [u8]) -> Self {
        self.body = Some((content_type, body));
        self
    }

    /// With another deadline; none at all for what is read for as long as it lasts.
    pub fn within(mut self, within: Option<Duration>) -> Self {
        self.within = within;
        self
    }

    /// A creation that is made once however often it is sent.
    pub fn once(mut self) -> Self {
        self.repeatable = true;
        self.header("Idempotency-Key", uuid::Uuid::new_v4().to_string())
    }
}

/// The platform, as one who holds a key sees it.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    url: String,
    key: Option<String>,
}

impl Client {
    /// The platform and key that the environment or the context name.
    ///
    /// # Errors
    /// None is named.
    pub fn from_environment() -> Outcome<Self> {
        Ok(Self::new(resolve()?))
    }

    /// A client for this platform and key.
    pub fn new(context: Context) -> Self {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_WITHIN))
            .user_agent(concat!("raas/", env!("CARGO_PKG_VERSION")))
            .max_idle_connections(64)
            .max_idle_connections_per_host(64);
        if is_loopback(&context.url) {
            // A proxy that the environment names cannot reach this machine.
            config = config.proxy(None);
        }
        Self { agent: Agent::new_with_config(config.build()), url: context.url, key: context.key }
    }

    /// Where the platform is reached.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Sends a request and hands back the response as it begins; problems become failures.
    ///
    /// # Errors
    /// No answer, or a problem.
    pub fn open(&self, call: &Call<'_>) -> Outcome<Response<Body>> {
        let mut left = if call.repeatable { RETRIES } else { 0 };
        let response = loop {
            match self.send(call) {
                Err(failure) if failure.is_connection_loss() && left > 0 => {
                    left -= 1;
                    std::thread::sleep(RETRY_AFTER);
                }
                other => break other?,
            }
        };
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        Err(self.problem(status, &self.read(response.into_body())?))
    }

    /// Sends a request and reads the whole answer as bytes.
    ///
    /// # Errors
    /// No answer, or a problem.
    pub fn bytes(&self, call: &Call<'_>) -> Outcome<(HeaderMap, Vec<u8>)> {
        let (parts, body) = self.open(call)?.into_parts();
        Ok((parts.headers, self.read(body)?))
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// No answer, a problem, or an answer that is not text.
    pub fn call(&self, call: &Call<'_>) -> Outcome<Answer> {
        let (headers, bytes) = self.bytes(call)?;
        Ok(Answer { text: String::from_utf8(bytes).map_err(Failure::unexpected)?, headers })
    }

    /// Looks something up.
    ///
    /// # Errors
    /// No answer, or a problem.
    pub fn get(&self, path: impl Into<String>) -> Outcome<Answer> {
        self.call(&Call::new(Method::GET, path))
    }

    /// Reads all pages of a list into one `{"items":[…]}`.
    ///
    /// # Errors
    /// No answer, or a problem, on any of the pages.
    pub fn list(&self, path: &str, query: &[(&str, Option<&str>)]) -> Outcome<Answer> {
        let mut items = Vec::new();
        let mut cursor = None;
        for _ in 0..PAGES_MAX {
            let (page, next) = self.page(path, query, cursor.as_deref())?;
            let ended = page.is_empty() || next.is_none() || next == cursor;
            items.extend(page);
            cursor = next;
            if ended {
                break;
            }
        }
        Ok(Answer { text: joined(&items), headers: HeaderMap::new() })
    }

    /// Reads one page of a list, and where the next begins.
    ///
    /// # Errors
    /// No answer, or a problem.
    pub fn page(
        &self,
        path: &str,
        query: &[(&str, Option<&str>)],
        cursor: Option<&str>,
    ) -> Outcome<(Vec<Box<RawValue>>, Option<String>)> {
        #[derive(Deserialize)]
        struct Page {
            items: Vec<Box<RawValue>>,
            next_cursor: Option<String>,
        }
        let call = query.iter().fold(Call::new(Method::GET, path), |call, (name, value)| call.query_if(name, *value));
        let answer = self.call(&call.query_if("cursor", cursor))?;
        let page: Page = serde_json::from_str(&answer.text).map_err(Failure::unexpected)?;
        Ok((page.items, page.next_cursor))
    }

    /// Reads the whole of a body.
    ///
    /// # Errors
    /// It breaks off, or is too large.
    pub fn read(&self, mut body: Body) -> Outcome<Vec<u8>> {
        body.with_config().limit(ANSWER_MAX_BYTES).read_to_vec().map_err(|error| self.unreachable(&error))
    }

    /// Sends a request once and hands back whatever answer there is.
    ///
    /// # Errors
    /// There is none.
    pub fn send(&self, call: &Call<'_>) -> Outcome<Response<Body>> {
        let mut builder = Request::builder().method(call.method.clone()).uri(format!("{}{}", self.url, call.path));
        for (name, value) in &call.headers {
            builder = builder.header(*name, value);
        }
        if let Some(key) = &self.key {
            builder = builder.header(http::header::AUTHORIZATION, format!("Bearer {key}"));
        }
        let invalid = |error: http::Error| Failure::Usage(format!("the request cannot be sent: {error}"));
        let result = match call.body {
            Some((content_type, body)) => {
                let request = builder.header(http::header::CONTENT_TYPE, content_type).body(body).map_err(invalid)?;
                self.agent.run(
                    self.agent
                        .configure_request(request)
                        .timeout_global(call.within)
                        .timeout_recv_response(recv_within(call))
                        .build(),
                )
            }
            None => {
                let request = builder.body(()).map_err(invalid)?;
                self.agent.run(
                    self.agent
                        .configure_request(request)
                        .timeout_global(call.within)
                        .timeout_recv_response(recv_within(call))
                        .build(),
                )
            }
        };
        result.map_err(|error| self.unreachable(&error))
    }

    /// What came of a request that was not answered, or only in part.
    pub fn unreachable(&self, error: &ureq::Error) -> Failure {
        let refused = matches!(error, ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused)
            || matches!(error, ureq::Error::ConnectionFailed);
        let cause = match error {
            ureq::Error::Timeout(ureq::Timeout::Connect) => {
                format!("it did not take the connection within {} s", CONNECT_WITHIN.as_secs())
            }
            ureq::Error::Timeout(_) => "it took too long".to_owned(),
            ureq::Error::HostNotFound => "there is no such host".to_owned(),
            ureq::Error::Io(error) => error.to_string(),
            other => other.to_string(),
        };
        let lost = refused || matches!(error, ureq::Error::Io(_));
        Failure::Unreachable { url: self.url.clone(), refused, lost, cause }
    }

    /// An answer that is not a success.
    pub fn problem(&self, status: StatusCode, body: &[u8]) -> Failure {
        match serde_json::from_slice::<Value>(body) {
            Ok(mut problem)
                if status == StatusCode::UNAUTHORIZED && self.key.is_none() && problem.get("code").is_some() =>
            {
                problem["title"] =
                    format!("no key is known for {}; set RAAS_API_KEY, or `raas login {}`", self.url, self.url).into();
                Failure::Problem(problem)
            }
            Ok(problem) if problem.get("code").is_some() => Failure::Problem(problem),
            _ => Failure::Problem(json!({
                "type": "about:blank", "status": status.as_u16(), "code": "not-a-platform", "origin": "platform",
                "title": format!("{} answered {status}, which is not how a RaaS platform answers", self.url),
                "retryable": status.is_server_error(),
            })),
        }
    }
}

/// Where the body lasts without bound, the head of the answer still comes soon.
fn recv_within(call: &Call<'_>) -> Option<Duration> {
    call.within.is_none().then_some(ANSWER_WITHIN)
}

fn is_loopback(url: &str) -> bool {
    let host = url.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Items as one list.
pub fn joined(items: &[Box<RawValue>]) -> String {
    let items: Vec<&str> = items.iter().map(|item| item.get()).collect();
    format!("{{\"items\":[{}]}}", items.join(","))
}

/// Percent-encodes what may not stand in one segment of a path or in a query's value.
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => encoded.push(byte as char),
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    // A segment of dots alone would be read as a step in the path.
    if encoded.bytes().all(|byte| byte == b'.') { encoded.replace('.', "%2E") } else { encoded }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn paths_and_queries_are_encoded() {
        assert_eq!(encode("a/b c?é"), "a%2Fb%20c%3F%C3%A9");
        assert_eq!(encode(".."), "%2E%2E");
        let call = Call::new(Method::GET, "/v1/usage")
            .query("from", "2026-01-01T00:00:00+02:00")
            .query_if("to", None)
            .query("limit", "5");
        assert_eq!(call.path, "/v1/usage?from=2026-01-01T00%3A00%3A00%2B02%3A00&limit=5");
    }

    #[test]
    fn only_what_may_be_repeated_is_repeated() {
        assert!(Call::new(Method::GET, "/").repeatable);
        assert!(!Call::new(Method::POST, "/").repeatable);
        assert!(!Call::new(Method::DELETE, "/").repeatable);
        assert!(Call::new(Method::POST, "/").once().repeatable);
    }

    #[test]
    fn joined_pages_keep_the_items_as_they_came() {
        let item = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        assert_eq!(joined(&[item("{\"b\":1.0,\"a\":2}"), item("3")]), "{\"items\":[{\"b\":1.0,\"a\":2},3]}");
    }

    #[test]
    fn loopback_is_recognised() {
        for (url, expected) in [
            ("http://127.0.0.1:80", true),
            ("http://[::1]:80", true),
            ("http://localhost", true),
            ("http://example.org", false),
        ] {
            assert_eq!(is_loopback(url), expected, "{url}");
        }
    }
}
