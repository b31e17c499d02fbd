//! The function manifest, `raas.toml`: what an author declares about a function.
//!
//! Reading it is strict and complete: an unknown key, a value out of its range or two values that contradict each other
//! are refused, and all that is wrong is reported at once. A [`FunctionManifest`] therefore always holds values the rest
//! of the platform can use as they are. What parses but is not built yet is listed by
//! [`FunctionManifest::unsupported`] or [`FunctionManifest::without_effect`].

use crate::pointer::JsonPointer;
use crate::tag::TagTemplate;
use std::collections::BTreeMap;

mod helper;
mod helper_read;
mod name;
mod read;
mod sections;

pub use helper::{
    HelperHealth, HelperManifest, HelperMethod, HelperMode, HelperPlan, HelperPrecompute, HelperScaling, HelperState,
    HelperTimeouts, HelperTrain,
};
pub use name::{FunctionName, FunctionNameError};
pub use sections::{Cache, CacheMode, CacheScope, Network, Precompute, Runtime, Scaling};

/// What an author declares about a function; every value is within its range.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionManifest {
    /// The function's name within its tenant.
    pub name: FunctionName,
    /// What runs the code.
    pub runtime: Runtime,
    /// `module.function` (Python) or `module.export` (Node); empty where the runtime needs none.
    pub handler: String,
    /// Memory of one instance.
    pub memory_mb: u32,
    /// How long one invocation may take.
    pub timeout_s: u32,
    /// What the code may reach.
    pub network: Network,
    /// Processor share of one instance, in thousandths of a processor (`cpus = 0.5` is 500).
    pub cpu_millis: u32,
    /// Temporary file space of one instance.
    pub tmp_mb: u32,
    /// How many instances, for how long.
    pub scaling: Scaling,
    /// Which results are kept.
    pub cache: Cache,
    /// Which results are computed before anyone asks.
    pub precompute: Precompute,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Helper instances by the name they have in the code.
    pub helpers: BTreeMap<String, String>,
}

/// Everything that is wrong with a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("raas.toml: {}", .problems.join("; "))]
pub struct ManifestError {
    /// One sentence a problem, each naming its key and what is allowed; never empty.
    pub problems: Vec<String>,
}

impl FunctionManifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// All problems at once.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        read::manifest(text)
    }

    /// What the manifest asks for that this release cannot do, one sentence each; empty when all of it is supported.
    /// Deploying refuses these: the code would not run as its author means.
    #[must_use]
    pub fn unsupported(&self) -> Vec<String> {
        let mut list = Vec::new();
        if let Runtime::Provided | Runtime::Http | Runtime::Image = self.runtime {
            list.push(format!("runtime = \"{}\" is not available yet; use \"python3\" or \"node\"", self.runtime));
        }
        list
    }

    /// What the manifest asks for that this release leaves undone without harm, one sentence each: answers are right, and
    /// only slower than they could be. Deploying tells the author.
    #[must_use]
    pub fn without_effect(&self) -> Vec<String> {
        let mut list = Vec::new();
        if self.cache.scope == CacheScope::Public {
            list.push("cache.scope = \"public\" has no effect yet: results are shared within the tenant".to_owned());
        }
        if let Some(reason) = self.reaches_outside() {
            if self.precompute.enabled {
                list.push(format!("precompute.enabled has no effect: {reason}"));
            }
            if self.cache.mode == CacheMode::Proven {
                list.push(format!("cache.mode = \"proven\" keeps nothing: {reason}"));
            }
        }
        list
    }

    /// Why running a call again, or one that nobody asked for, may change or depend on something outside the sandbox; nothing
    /// where it cannot.
    #[must_use]
    pub fn reaches_outside(&self) -> Option<&'static str> {
        if self.network != Network::None {
            return Some(
                "it has a network: what it finds there may change, and running it again may change something there",
            );
        }
        if !self.helpers.is_empty() {
            return Some("it calls helpers, which keep state");
        }
        match self.runtime {
            Runtime::Python3 | Runtime::Node => None,
            _ => Some("its runtime cannot be given another clock and time zone"),
        }
    }

    /// The whole configuration as bytes that are the same whenever the configuration is, for the version digest.
    #[must_use]
    pub fn canonical_config(&self) -> Vec<u8> {
        let Scaling { min, max, idle_s, concurrency } = self.scaling;
        let mut out = Canonical(b"raas configuration 1\n".to_vec());
        out.field("name", &[self.name.as_str()]);
        out.field("runtime", &[self.runtime.as_str()]);
        out.field("handler", &[&self.handler]);
        out.number("memory_mb", self.memory_mb);
        out.number("timeout_s", self.timeout_s);
        out.field("network", &[self.network.as_str()]);
        out.number("cpu_millis", self.cpu_millis);
        out.number("tmp_mb", self.tmp_mb);
        out.number("scaling.min", min);
        out.number("scaling.max", max);
        out.number("scaling.idle_s", idle_s);
        out.number("scaling.concurrency", concurrency);
        out.field("cache.mode", &[self.cache.mode.as_str()]);
        out.number("cache.ttl_s", self.cache.ttl_s);
        out.number("cache.stale_while_revalidate_s", self.cache.stale_while_revalidate_s);
        // What came later counts only where it is used, so that older versions keep their digests.
        if self.cache.stale_if_error_s > 0 {
            out.number("cache.stale_if_error_s", self.cache.stale_if_error_s);
        }
        if !self.cache.errors.is_empty() {
            out.field("cache.errors", &self.cache.errors.iter().map(String::as_str).collect::<Vec<_>>());
            out.number("cache.error_ttl_s", self.cache.error_ttl_s);
        }
        if !self.cache.tags.is_empty() {
            out.field("cache.tags", &self.cache.tags.iter().map(TagTemplate::as_str).collect::<Vec<_>>());
        }
        if let Some(key) = &self.cache.key {
            out.field("cache.key", &key.iter().map(JsonPointer::as_str).collect::<Vec<_>>());
        }
        out.field("cache.scope", &[self.cache.scope.as_str()]);
        out.number("precompute.enabled", u32::from(self.precompute.enabled));
        out.number("precompute.cpu_share_millis", self.precompute.cpu_share_millis);
        for candidate in &self.precompute.candidates {
            out.field("precompute.candidates", &[&candidate.to_string()]);
        }
        for (name, value) in &self.env {
            out.field("env", &[name, value]);
        }
        for (name, instance) in &self.helpers {
            out.field("helpers", &[name, instance]);
        }
        out.0
    }
}

/// Length-prefixed fields.
struct Canonical(Vec<u8>);

impl Canonical {
    fn field(&mut self, key: &str, values: &[&str]) {
        self.text(key);
        self.0.extend_from_slice(&(values.len() as u64).to_le_bytes());
        values.iter().for_each(|value| self.text(value));
    }

    fn number(&mut self, key: &str, value: u32) {
        self.field(key, &[&value.to_string()]);
    }

    fn text(&mut self, text: &str) {
        self.0.extend_from_slice(&(text.len() as u64).to_le_bytes());
        self.0.extend_from_slice(text.as_bytes());
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
