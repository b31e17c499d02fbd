//! The platform's settings: defaults, then the TOML file, then `RAAS_…` environment variables, then flags.
//!
//! Unknown keys and contradictory limits are refused before anything starts, with one line that says what is allowed. Every
//! setting has a default that works; `raas config show` prints them all.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use raas_core::PriceList;
use raas_egress::{Cidr, EgressOptions, Policy, Resolvers};
use serde::{Deserialize, Serialize};

/// Environment variables that start with `RAAS_` but belong to the client.
const CLIENT_VARIABLES: &[&str] = &["RAAS_URL", "RAAS_API_KEY", "RAAS_CONTEXT", "RAAS_CONFIG"];

/// Everything that can be set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where the gateway listens.
    pub listen: SocketAddr,
    /// The data folder.
    pub data: PathBuf,
    /// The database; empty means SQLite in the data folder.
    pub database_url: String,
    /// The Redis that platforms share results in; empty shares none.
    pub redis_url: String,
    /// The warming pools.
    pub pool: PoolSettings,
    /// Bounds on running instances.
    pub instances: InstanceSettings,
    /// Bounds on requests.
    pub requests: RequestSettings,
    /// The result store.
    pub results: ResultSettings,
    /// The metering journal.
    pub metering: MeteringSettings,
    /// Log lines of functions.
    pub logs: LogSettings,
    /// Installing dependencies at deploy time.
    pub build: BuildSettings,
    /// What functions and installers with a network may reach.
    pub egress: EgressSettings,
    /// Helper instances.
    pub helpers: HelperSettings,
    /// Graceful stop.
    pub shutdown: ShutdownSettings,
    /// What the platform says about itself.
    pub telemetry: TelemetrySettings,
    /// What a call costs its tenant.
    pub prices: PriceList,
}

/// How many generic sandboxes wait, booted, for each runtime; 0 turns a pool off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PoolSettings {
    /// Python sandboxes.
    pub python3: u32,
    /// Node sandboxes.
    pub node: u32,
}

/// Bounds on running instances.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InstanceSettings {
    /// All sandboxes of the platform together, pools included.
    pub max: u32,
    /// All function instances of one tenant together, and as many replicas of its helpers.
    pub tenant_max: u32,
    /// How long a sandbox may take until its interpreter is up, seconds.
    pub boot_timeout_s: u32,
    /// How long the code may take to load, seconds.
    pub init_timeout_s: u32,
}

/// Helper instances.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HelperSettings {
    /// Where the vendors of devices describe them, by the Container Device Interface; a later folder counts first.
    pub cdi_folders: Vec<PathBuf>,
}

/// Bounds on requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RequestSettings {
    /// Requests in progress at once, all tenants together; more are answered 503.
    pub in_flight_max: u32,
    /// Invocations in progress at once of one tenant; more are answered 429.
    pub tenant_in_flight_max: u32,
    /// Events of calls in progress together, MiB; calls beyond are answered 503.
    pub events_max_mb: u32,
    /// Asynchronous invocations run at once.
    pub async_workers: u32,
}

/// The result store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResultSettings {
    /// The memory tier, MiB.
    pub memory_mb: u32,
    /// What the memory tier keeps when not all has room: `cost` as much computing as can be saved, with a share for each tenant;
    /// `moka` as many hits as can be, whatever they cost.
    pub policy: ResultPolicy,
    /// One entry, KiB; a larger result is answered but not kept.
    pub entry_max_kb: u32,
    /// Results in the database, where they outlive the process, MiB; 0 keeps none there.
    pub database_mb: u32,
    /// A file with the key that seals results outside the process, 64 hexadecimal digits; empty makes one beside the database,
    /// or on Postgres one in it. Platforms that share a Redis must have the same.
    pub key_file: PathBuf,
}

/// What decides which results the memory tier keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ResultPolicy {
    /// The store's own, which knows what results cost.
    Cost,
    /// W-TinyLFU, as moka has it.
    Moka,
}

/// The metering journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MeteringSettings {
    /// Events in one journal segment.
    pub segment_events: u32,
    /// Segments that may wait for the database; beyond them invocations are answered 503.
    pub segments_max: u32,
    /// How often the journal is drained, milliseconds.
    pub drain_every_ms: u32,
}

/// Log lines of functions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// How long lines are kept, days.
    pub keep_days: u32,
    /// Lines that may wait to be written; beyond them lines are dropped and counted.
    pub queue_lines: u32,
}

/// Installing dependencies at deploy time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BuildSettings {
    /// How long one installation may take, seconds.
    pub timeout_s: u32,
    /// Memory of the sandbox that installs, MiB.
    pub memory_mb: u32,
    /// Installations at once; more wait.
    pub concurrent: u32,
}

/// What functions and installers with a network may reach. Public addresses they may; this machine, link-local and reserved
/// addresses they never may.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EgressSettings {
    /// Private ranges that may be reached, such as `["10.1.0.0/16"]`.
    pub allow: Vec<Cidr>,
    /// Ranges that may not be reached; wins over `allow`.
    pub deny: Vec<Cidr>,
}

impl EgressSettings {
    /// The same in terms of the network.
    pub fn options(&self) -> EgressOptions {
        let policy = Policy { allow: self.allow.clone(), deny: self.deny.clone() };
        EgressOptions { policy, resolvers: Resolvers::default() }
    }
}

/// Graceful stop.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShutdownSettings {
    /// How long running requests may take to finish, seconds.
    pub drain_s: u32,
}

/// What the platform says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySettings {
    /// A filter such as `info` or `raas=debug,info`.
    pub log: String,
    /// `text` or `json`.
    pub log_format: LogFormat,
    /// An OTLP/HTTP collector, such as `http://127.0.0.1:4318`; empty exports nothing.
    pub otlp_endpoint: String,
}

/// How log lines of the platform look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            data: PathBuf::from("raas-data"),
            database_url: String::new(),
            redis_url: String::new(),
            pool: PoolSettings::default(),
            instances: InstanceSettings::default(),
            requests: RequestSettings::default(),
            results: ResultSettings::default(),
            metering: MeteringSettings::default(),
            logs: LogSettings::default(),
            build: BuildSettings::default(),
            egress: EgressSettings::default(),
            helpers: HelperSettings::default(),
            shutdown: ShutdownSettings::default(),
            telemetry: TelemetrySettings::default(),
            prices: PriceList::default(),
        }
    }
}

impl Default for HelperSettings {
    fn default() -> Self {
        Self { cdi_folders: ["/etc/cdi", "/var/run/cdi"].map(PathBuf::from).to_vec() }
    }
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self { python3: 2, node: 1 }
    }
}

impl Default for InstanceSettings {
    fn default() -> Self {
        Self { max: 256, tenant_max: 128, boot_timeout_s: 30, init_timeout_s: 60 }
    }
}

impl Default for RequestSettings {
    fn default() -> Self {
        Self { in_flight_max: 10_000, tenant_in_flight_max: 5_000, events_max_mb: 1024, async_workers: 16 }
    }
}

impl Default for ResultSettings {
    fn default() -> Self {
        Self {
            memory_mb: 256,
            policy: ResultPolicy::Cost,
            entry_max_kb: 1024,
            database_mb: 1024,
            key_file: PathBuf::new(),
        }
    }
}

impl Default for MeteringSettings {
    fn default() -> Self {
        Self { segment_events: 65_536, segments_max: 64, drain_every_ms: 1_000 }
    }
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { keep_days: 7, queue_lines: 10_000 }
    }
}

impl Default for BuildSettings {
    fn default() -> Self {
        Self { timeout_s: 300, memory_mb: 1024, concurrent: 2 }
    }
}

impl Default for ShutdownSettings {
    fn default() -> Self {
        Self { drain_s: 15 }
    }
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self { log: "info".into(), log_format: LogFormat::Text, otlp_endpoint: String::new() }
    }
}

/// Settings that cannot be used. The message is one line for the person who wrote them.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file, or a value of the environment, is not what the setting takes.
    #[error("{origin}: {message}")]
    Invalid {
        /// The file or the variable.
        origin: String,
        /// What is wrong.
        message: String,
    },
    /// Each value is allowed, but not all of them together.
    #[error("{0}")]
    Contradictory(String),
}

impl Settings {
    /// Reads the file, if any, and applies the environment.
    ///
    /// # Errors
    /// [`SettingsError`]: unreadable, unknown key, wrong type, out of range.
    pub fn load(
        file: Option<&Path>,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, SettingsError> {
        let mut table = toml::Table::new();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path)
                .map_err(|source| SettingsError::Unreadable { path: path.to_owned(), source })?;
            table = text.parse().map_err(|error: toml::de::Error| invalid(&path.display().to_string(), &error))?;
            // Parsed once by itself, so that a mistake in the file is reported as the file's.
            toml::from_str::<Self>(&text).map_err(|error| invalid(&path.display().to_string(), &error))?;
        }
        let known = toml::Table::try_from(Self::default())
            .map_err(|error| SettingsError::Contradictory(format!("the defaults do not serialise: {error}")))?;
        for (variable, value) in environment {
            if !variable.starts_with("RAAS_") || CLIENT_VARIABLES.contains(&variable.as_str()) {
                continue;
            }
            apply_variable(&mut table, &known, &variable, &value)?;
        }
        let settings: Self = table.try_into().map_err(|error| invalid("the settings", &error))?;
        settings.check()?;
        Ok(settings)
    }

    /// Checks what one value alone cannot tell.
    ///
    /// # Errors
    /// [`SettingsError::Contradictory`], naming the first contradiction.
    pub fn check(&self) -> Result<(), SettingsError> {
        let pooled = self.pool.python3 + self.pool.node;
        let refuse = |message: String| Err(SettingsError::Contradictory(message));
        for (name, value, most) in [
            ("pool.python3", self.pool.python3, raas_core::limits::POOL_MAX_SANDBOXES as u32),
            ("pool.node", self.pool.node, raas_core::limits::POOL_MAX_SANDBOXES as u32),
        ] {
            if value > most {
                return refuse(format!("{name} is {value}, but at most {most} sandboxes may wait in a pool"));
            }
        }
        if pooled >= self.instances.max {
            return refuse(format!(
                "the pools hold {pooled} sandboxes, but instances.max allows {} in all: leave room for functions, or shrink the pools",
                self.instances.max
            ));
        }
        if u64::from(self.results.entry_max_kb) > u64::from(self.results.memory_mb) * 1024 {
            return refuse(format!(
                "results.entry_max_kb ({}) is more than the whole of results.memory_mb ({} MiB)",
                self.results.entry_max_kb, self.results.memory_mb
            ));
        }
        if self.requests.tenant_in_flight_max > self.requests.in_flight_max {
            return refuse(format!(
                "requests.tenant_in_flight_max ({}) is more than requests.in_flight_max ({})",
                self.requests.tenant_in_flight_max, self.requests.in_flight_max
            ));
        }
        for (name, value) in [
            ("instances.max", self.instances.max),
            ("instances.tenant_max", self.instances.tenant_max),
            ("instances.boot_timeout_s", self.instances.boot_timeout_s),
            ("instances.init_timeout_s", self.instances.init_timeout_s),
            ("requests.in_flight_max", self.requests.in_flight_max),
            ("requests.tenant_in_flight_max", self.requests.tenant_in_flight_max),
            ("requests.events_max_mb", self.requests.events_max_mb),
            ("requests.async_workers", self.requests.async_workers),
            ("metering.segment_events", self.metering.segment_events),
            ("metering.drain_every_ms", self.metering.drain_every_ms),
            ("logs.keep_days", self.logs.keep_days),
            ("logs.queue_lines", self.logs.queue_lines),
            ("build.timeout_s", self.build.timeout_s),
            ("build.memory_mb", self.build.memory_mb),
            ("build.concurrent", self.build.concurrent),
        ] {
            if value == 0 {
                return refuse(format!("{name} must be at least 1"));
            }
        }
        let collector = &self.telemetry.otlp_endpoint;
        if !collector.is_empty() && !collector.starts_with("http://") {
            return refuse(format!(
                "telemetry.otlp_endpoint is `{collector}`, but must be the http:// address of an OTLP/HTTP collector, or empty"
            ));
        }
        if self.metering.segments_max < 2 {
            return refuse("metering.segments_max must be at least 2: one is written while another drains".into());
        }
        Ok(())
    }
}

fn invalid(origin: &str, error: &toml::de::Error) -> SettingsError {
    SettingsError::Invalid { origin: origin.to_owned(), message: error.to_string().trim().replace('\n', " ") }
}

/// Sets the one leaf whose path, upper-cased and joined by `_`, is the variable's name after `RAAS_`.
fn apply_variable(
    table: &mut toml::Table,
    known: &toml::Table,
    variable: &str,
    value: &str,
) -> Result<(), SettingsError> {
    let wanted = variable.trim_start_matches("RAAS_").to_ascii_lowercase();
    let invalid = |message: String| SettingsError::Invalid { origin: variable.to_owned(), message };
    for (key, default) in known {
        let leaf = match default {
            toml::Value::Table(section) => wanted
                .strip_prefix(key.as_str())
                .and_then(|rest| rest.strip_prefix('_'))
                .and_then(|rest| section.get(rest).map(|default| (Some(rest.to_owned()), default))),
            _ if *key == wanted => Some((None, default)),
            _ => None,
        };
        let Some((sub_key, default)) = leaf else { continue };
        let parsed = match default {
            toml::Value::Integer(_) => {
                toml::Value::Integer(value.parse().map_err(|_| invalid(format!("`{value}` is not a whole number")))?)
            }
            toml::Value::Boolean(_) => toml::Value::Boolean(
                value.parse().map_err(|_| invalid(format!("`{value}` is neither true nor false")))?,
            ),
            toml::Value::Array(_) => {
                let items = value.split(',').map(str::trim).filter(|item| !item.is_empty());
                toml::Value::Array(items.map(|item| toml::Value::String(item.to_owned())).collect())
            }
            _ => toml::Value::String(value.to_owned()),
        };
        match sub_key {
            None => {
                table.insert(key.clone(), parsed);
            }
            Some(sub_key) => {
                let section = table.entry(key.clone()).or_insert_with(|| toml::Value::Table(toml::Table::new()));
                if let toml::Value::Table(section) = section {
                    section.insert(sub_key, parsed);
                }
            }
        }
        return Ok(());
    }
    Err(invalid("no setting has this name; `raas config show` prints all of them".into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("raas.toml");
        std::fs::write(&path, text).unwrap();
        Settings::load(Some(&path), environment.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn the_environment_overrides_the_file_and_the_file_the_defaults() {
        let settings =
            load("[pool]\npython3 = 4\n[shutdown]\ndrain_s = 3", &[("RAAS_POOL_PYTHON3", "6"), ("RAAS_URL", "x")])
                .unwrap();
        assert_eq!((settings.pool.python3, settings.pool.node, settings.shutdown.drain_s), (6, 1, 3));
    }

    #[test]
    fn ranges_of_addresses_are_lists_in_the_file_and_comma_separated_in_the_environment() {
        let settings =
            load("[egress]\nallow = [\"10.1.0.0/16\"]", &[("RAAS_EGRESS_DENY", "1.1.1.1, 10.1.2.0/24")]).unwrap();
        let text = |ranges: &[Cidr]| ranges.iter().map(Cidr::to_string).collect::<Vec<_>>();
        assert_eq!(text(&settings.egress.allow), ["10.1.0.0/16"]);
        assert_eq!(text(&settings.egress.deny), ["1.1.1.1/32", "10.1.2.0/24"]);
    }

    #[test]
    fn unknown_keys_wrong_types_and_contradictions_are_refused_by_name() {
        for (text, environment, expected) in [
            ("[pool]\npythn3 = 4", &[][..], "pythn3"),
            ("colour = 1", &[], "colour"),
            ("[pool]\npython3 = \"many\"", &[], "python3"),
            ("", &[("RAAS_POOL_RUBY", "1")], "RAAS_POOL_RUBY"),
            ("", &[("RAAS_POOL_NODE", "x")], "not a whole number"),
            ("[pool]\npython3 = 60\n[instances]\nmax = 10", &[], "instances.max"),
            ("[results]\nmemory_mb = 1\nentry_max_kb = 2048", &[], "results.entry_max_kb"),
            ("[metering]\nsegments_max = 1", &[], "metering.segments_max"),
            ("[egress]\nallow = [\"10.1.2.3/16\"]", &[], "did you mean 10.1.0.0/16"),
            ("", &[("RAAS_EGRESS_DENY", "10.0.0.0/8,everything")], "everything"),
        ] {
            let message = load(text, environment).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
            assert!(!message.contains('\n'), "one line: {message}");
        }
    }
}
