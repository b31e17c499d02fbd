//! Platforms under test: started as anybody starts them, by `raas up` of this very executable, and used over their API.

use std::collections::BTreeMap;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::child::Child;
use super::http::{Exchanges, post};

/// How long a request of the control plane may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// How long a state that is waited for may take to come.
const STATE_WITHIN: Duration = Duration::from_secs(60);

/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// A function to deploy.
pub struct Function<'a> {
    /// Its name.
    pub name: &'a str,
    /// The rest of its `raas.toml`.
    pub manifest: &'a str,
    /// The name of its one source file.
    pub file: &'a str,
    /// That file's text.
    pub source: &'a str,
}

impl Function<'_> {
    /// The archive that is uploaded.
    ///
    /// # Errors
    /// It cannot be packed.
    pub fn pack(&self) -> anyhow::Result<Vec<u8>> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("raas.toml"), format!("name = \"{}\"\n{}", self.name, self.manifest))?;
        std::fs::write(folder.path().join(self.file), self.source)?;
        Ok(raas_packages::pack_folder(folder.path())?.archive)
    }
}

/// A platform that runs.
pub struct Platform {
    /// Where it is.
    pub address: SocketAddr,
    /// The administrator's key.
    pub key: String,
    process: Child,
    client: Client,
    name: &'static str,
    settings: Vec<(String, String)>,
    data: TempDir,
}

/// The control plane, as several threads may use it.
#[derive(Clone)]
pub struct Client {
    agent: ureq::Agent,
    url: String,
    key: String,
}

#[derive(Deserialize)]
struct Announcement {
    url: String,
    admin_key: Option<String>,
}

impl Platform {
    /// Starts one with its own data folder and these settings, given as environment variables.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(name: &'static str, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let data = tempfile::Builder::new().prefix("raas-bench-").tempdir()?;
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::start_on(data, name, settings, None)
    }

    fn start_on(
        data: TempDir,
        name: &'static str,
        settings: Vec<(String, String)>,
        key: Option<String>,
    ) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["up", "--json", "--listen", "127.0.0.1:0", "--data"])
            .arg(data.path().join("data"))
            .stdout(Stdio::piped());
        for (variable, _) in std::env::vars_os() {
            if variable.to_str().is_some_and(|variable| variable.starts_with("RAAS_")) {
                command.env_remove(variable);
            }
        }
        // Or the commands of whoever runs the benchmark would go to a platform that is gone soon.
        command.env("RAAS_CONTEXT", data.path().join("context.json"));
        command.env("RAAS_TELEMETRY_LOG", "warn").envs(settings.iter().map(|(name, value)| (name, value)));
        let mut process = Child::start(name, command, data.path())?;
        let line = process.first_line()?;
        let announced: Announcement = serde_json::from_str(&line).with_context(|| format!("`raas up` said: {line}"))?;
        let address = announced.url.strip_prefix("http://").and_then(|address| address.parse().ok());
        let address = address.with_context(|| format!("`raas up` announced {}", announced.url))?;
        let config = ureq::Agent::config_builder().timeout_global(Some(ANSWER_WITHIN)).http_status_as_error(false);
        let key = key.or(announced.admin_key).context("`raas up` announced no key")?;
        let client = Client { agent: config.build().into(), url: announced.url, key: key.clone() };
        Ok(Self { address, key, process, client, name, settings, data })
    }

    /// Its data folder.
    pub fn data(&self) -> PathBuf {
        self.data.path().join("data")
    }

    /// Kills it, and all that runs in it with it.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on its data, which must have been killed before.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_again(self) -> anyhow::Result<Self> {
        let Self { data, name, settings, key, .. } = self;
        Self::start_on(data, name, settings, Some(key))
    }

    /// The gateway's process and the spawner's.
    ///
    /// # Errors
    /// There is no spawner.
    pub fn processes(&self) -> anyhow::Result<[u32; 2]> {
        let gateway = self.process.pid();
        let children = std::fs::read_dir(format!("/proc/{gateway}/task"))?
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("children")).ok())
            .collect::<String>();
        let spawner = children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid: &u32| {
            std::fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.split(|byte| *byte == 0).nth(1) == Some(b"spawner"))
        });
        Ok([gateway, spawner.context("the platform has no spawner")?])
    }

    /// The control plane.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Deploys a function.
    ///
    /// # Errors
    /// The platform refuses it.
    pub fn deploy(&self, function: &Function<'_>) -> anyhow::Result<()> {
        self.client.deploy(&function.pack()?).with_context(|| format!("`{}` could not be deployed", function.name))
    }

    /// A call of a function, as bytes on the wire.
    pub fn invocation(&self, function: &str, event: &str) -> Vec<u8> {
        post(self.address, &format!("/v1/functions/{function}/invocations"), Some(&self.key), event)
    }

    /// A connection to the gateway.
    ///
    /// # Errors
    /// It does not accept one.
    pub fn connect(&self) -> anyhow::Result<Exchanges> {
        Exchanges::connect(self.address)
    }

    /// Waits until the figures of `/metrics` are as wanted, twice in a row: nothing is on its way any more.
    ///
    /// # Errors
    /// They do not come to be so.
    pub fn settle(&self, what: &str, wanted: impl Fn(&Figures) -> bool) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut before = None;
        while begun.elapsed() < STATE_WITHIN {
            let figures = self.client.figures()?;
            let state = (figures.instances, figures.sandboxes, figures.pool_python);
            if wanted(&figures) && figures.starting == 0 && before.replace(state) == Some(state) {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        bail!(
            "the platform did not come to have {what} within {} s; it said: {}",
            STATE_WITHIN.as_secs(),
            self.process.said()
        );
    }
}

/// What `/metrics` says of sandboxes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Instances that take calls.
    pub instances: u64,
    /// Instances being started.
    pub starting: u64,
    /// All sandboxes.
    pub sandboxes: u64,
    /// Python sandboxes that wait in the pool.
    pub pool_python: u64,
    /// Node sandboxes that wait in the pool.
    pub pool_node: u64,
    /// Usage events that wait for the database.
    pub backlog: u64,
}

impl Client {
    /// Uploads an archive.
    ///
    /// # Errors
    /// The platform refuses it.
    pub fn deploy(&self, archive: &[u8]) -> anyhow::Result<()> {
        let url = format!("{}/v1/functions", self.url);
        let mut answer = self.agent.post(&url).header("Authorization", &self.bearer()).send(archive)?;
        ensure!(answer.status().is_success(), "{}: {}", answer.status(), answer.body_mut().read_to_string()?);
        drain(&mut answer)
    }

    /// Publishes an archive as a helper version.
    ///
    /// # Errors
    /// The platform refuses it.
    pub fn publish(&self, archive: &[u8]) -> anyhow::Result<()> {
        let url = format!("{}/v1/helpers", self.url);
        let mut answer = self.agent.post(&url).header("Authorization", &self.bearer()).send(archive)?;
        ensure!(answer.status().is_success(), "{}: {}", answer.status(), answer.body_mut().read_to_string()?);
        drain(&mut answer)
    }

    /// Makes an instance of the administrator's helper of that name.
    ///
    /// # Errors
    /// The platform refuses it, or it does not start.
    pub fn create_helper(&self, helper: &str, name: &str, config: &Value) -> anyhow::Result<()> {
        let body = json!({ "helper": format!("admin/{helper}"), "name": name, "config": config });
        self.ask("POST", "/v1/helper-instances", &body).map(drop)
    }

    /// Changes an instance.
    ///
    /// # Errors
    /// The platform refuses it.
    pub fn change_helper(&self, instance: &str, change: &Value) -> anyhow::Result<()> {
        self.ask("PATCH", &format!("/v1/helper-instances/{instance}"), change).map(drop)
    }

    /// Calls a method.
    ///
    /// # Errors
    /// There is no result.
    pub fn call(&self, instance: &str, method: &str, arguments: &Value) -> anyhow::Result<Value> {
        self.ask("POST", &format!("/v1/helper-instances/{instance}/methods/{method}"), arguments)
    }

    /// Trains an instance, to the end.
    ///
    /// # Errors
    /// The training fails.
    pub fn train(&self, instance: &str) -> anyhow::Result<()> {
        self.ask("POST", &format!("/v1/helper-instances/{instance}/training"), &json!({})).map(drop)
    }

    /// Waits until an instance is being trained.
    ///
    /// # Errors
    /// It does not come to be so.
    pub fn wait_until_training(&self, instance: &str) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < STATE_WITHIN {
            if self.get(&format!("/v1/helper-instances/{instance}"))?["training"] == true {
                return Ok(());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        bail!("`{instance}` does not come to be trained")
    }

    /// What an instance keeps under keys that begin so, where it is a number.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn state(&self, instance: &str, prefix: &str) -> anyhow::Result<BTreeMap<String, u64>> {
        let mut all = BTreeMap::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!(
                "/v1/helper-instances/{instance}/state?values=true&limit=1000&prefix={prefix}&cursor={cursor}"
            ))?;
            for entry in page["items"].as_array().into_iter().flatten() {
                if let (Some(key), Some(value)) = (entry["key"].as_str(), entry["value"].as_u64()) {
                    all.insert(key.to_owned(), value);
                }
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = next.to_owned(),
                None => return Ok(all),
            }
        }
    }

    fn get(&self, path: &str) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.url);
        let mut answer = self.agent.get(&url).header("Authorization", &self.bearer()).call()?;
        let text = answer.body_mut().read_to_string()?;
        ensure!(answer.status().is_success(), "{path}: {}: {text}", answer.status());
        Ok(serde_json::from_str(&text)?)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("Authorization", self.bearer())
            .header("Content-Type", "application/json")
            .body(body.to_string())?;
        let mut answer = self.agent.run(request)?;
        let text = answer.body_mut().read_to_string()?;
        ensure!(answer.status().is_success(), "{path}: {}: {text}", answer.status());
        Ok(serde_json::from_str(&text).unwrap_or_default())
    }

    /// Deletes a function.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn delete(&self, function: &str) -> anyhow::Result<()> {
        let url = format!("{}/v1/functions/{function}", self.url);
        let mut answer = self.agent.delete(&url).header("Authorization", &self.bearer()).call()?;
        ensure!(answer.status().is_success(), "`{function}` could not be deleted: {}", answer.status());
        drain(&mut answer)
    }

    /// What is kept of a function's results, and what is known of them.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn results(&self, function: &str) -> anyhow::Result<Value> {
        let url = format!("{}/v1/functions/{function}/results", self.url);
        let text = self.agent.get(&url).header("Authorization", &self.bearer()).call()?.body_mut().read_to_string()?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Reads `/metrics`.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn figures(&self) -> anyhow::Result<Figures> {
        let text = self.agent.get(&format!("{}/metrics", self.url)).call()?.body_mut().read_to_string()?;
        let mut figures = Figures::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.rsplit_once(' ') else { continue };
            let figure = match name {
                "raas_instances" => &mut figures.instances,
                "raas_instances_starting" => &mut figures.starting,
                "raas_sandboxes" => &mut figures.sandboxes,
                "raas_metering_backlog_events" => &mut figures.backlog,
                "raas_pool_waiting{runtime=\"python3\"}" => &mut figures.pool_python,
                "raas_pool_waiting{runtime=\"node\"}" => &mut figures.pool_node,
                _ => continue,
            };
            *figure = value.parse().with_context(|| format!("/metrics says `{line}`"))?;
        }
        Ok(figures)
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.key)
    }
}

/// Reads an answer to its end, so that its connection can be used again.
fn drain(answer: &mut http::Response<ureq::Body>) -> anyhow::Result<()> {
    answer.body_mut().as_reader().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// The folder `raas bench` looks for peers in when it is not told: where `scripts/bench-peers.sh` puts them.
pub fn default_peers() -> PathBuf {
    Path::new("target").join("bench-peers")
}
