//! The helper manifest, `helper.toml`: what a publisher declares about a helper version.
//!
//! As strict as a function's: every value is within its range once it is read.

use std::collections::BTreeMap;

use super::sections::{Cache, Network, Precompute, Runtime, Scaling};
use super::{FunctionManifest, FunctionName, ManifestError, helper_read};
use crate::money::Currency;

/// What a publisher declares about a helper version.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HelperManifest {
    /// The helper's name within its publisher.
    pub name: FunctionName,
    /// A semantic version; a published one never changes.
    pub version: String,
    /// What it is for, in a sentence.
    pub summary: String,
    /// What runs the code.
    pub runtime: Runtime,
    /// `module:Class`.
    pub entry: String,
    /// What of it survives beside `self.state`.
    pub state: HelperState,
    /// Quota of `self.state` of one instance.
    pub state_mb: u32,
    /// Memory of one replica.
    pub memory_mb: u32,
    /// How long one call may take where its method says nothing.
    pub timeout_s: u32,
    /// How long a replica may take until it is ready.
    pub start_timeout_s: u32,
    /// What the code may reach.
    pub network: Network,
    /// Processor share of one replica, in thousandths of a processor.
    pub cpu_millis: u32,
    /// Temporary file space of one replica.
    pub tmp_mb: u32,
    /// How many replicas, for how long.
    pub scaling: HelperScaling,
    /// What is declared of methods; a method need not be here.
    pub methods: BTreeMap<String, HelperMethod>,
    /// Continuous training, where it is declared.
    pub train: Option<HelperTrain>,
    /// Computing candidates ahead, where it is declared.
    pub precompute: Option<HelperPrecompute>,
    /// How often replicas are asked whether they are well.
    pub health: HelperHealth,
    /// How long hooks may take that have no section of their own.
    pub timeouts: HelperTimeouts,
    /// The file with the JSON Schema of an instance's configuration.
    pub config: Option<String>,
    /// Devices by their CDI names.
    pub devices: Vec<String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// The names in the code of helpers that it calls.
    pub helpers: Vec<String>,
    /// What its use costs.
    pub plans: Vec<HelperPlan>,
}

/// What of an instance survives beside `self.state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HelperState {
    /// Nothing.
    None,
    /// A folder, `self.dir`.
    Disk,
}

/// How many replicas, for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HelperScaling {
    /// Replicas kept even when idle.
    pub min: u32,
    /// Replicas at most.
    pub max: u32,
    /// How long an idle replica is kept.
    pub idle_s: u32,
    /// Calls at once in one replica.
    pub concurrency: u32,
    /// Which replica serves a call.
    pub mode: HelperMode,
}

/// Which replica serves a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HelperMode {
    /// The one with the fewest calls.
    Shared,
    /// The one that has the call's key; one writer a key.
    PerKey,
}

/// What is declared of a method.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HelperMethod {
    /// How long a result is kept; 0: not at all.
    pub cache_ttl_s: u32,
    /// Whether a call whose replica died may be done again.
    pub idempotent: bool,
    /// How long one call may take.
    pub timeout_s: Option<u32>,
    /// The file with the JSON Schema of its arguments.
    pub args: Option<String>,
    /// The file with the JSON Schema of its result.
    pub result: Option<String>,
    /// The argument that holds the key, in per-key mode: its calls come one after another, all to the same replica.
    pub key: Option<String>,
}

/// Continuous training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HelperTrain {
    /// How often; only on demand where it says nothing.
    pub every_s: Option<u32>,
    /// How long one run may take.
    pub timeout_s: u32,
    /// The run's processor share, in thousandths of a processor.
    pub cpu_millis: u32,
}

/// Computing candidates ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HelperPrecompute {
    /// The processor share that it may take, in thousandths of a processor.
    pub cpu_millis: u32,
    /// Candidates at most.
    pub limit: u32,
}

/// How often replicas are asked whether they are well, where the class has `health`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HelperHealth {
    /// How often an idle replica is asked.
    pub every_s: u32,
    /// How long the answer may take.
    pub timeout_s: u32,
    /// After how many bad answers in a row a replica is replaced.
    pub failures: u32,
}

/// How long hooks may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HelperTimeouts {
    /// `candidates()`.
    pub candidates_s: u32,
    /// `reconfigure()`.
    pub reconfigure_s: u32,
    /// `suspend()`.
    pub suspend_s: u32,
    /// `resume()`.
    pub resume_s: u32,
    /// `stop()`.
    pub stop_s: u32,
}

/// What the use of a helper costs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HelperPlan {
    /// Its id within the helper.
    pub id: String,
    /// The currency of all its prices.
    pub currency: Currency,
    /// The fee of each period, in minor units.
    pub recurring_minor: u64,
    /// `day`, `month` or `year`.
    pub period: String,
    /// Amounts that the fee includes, by meter.
    pub included: BTreeMap<String, u64>,
    /// Prices of one unit in major units, decimal, by meter.
    pub prices: BTreeMap<String, String>,
}

impl HelperManifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// All problems at once.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        helper_read::manifest(text)
    }

    /// The whole configuration as bytes that are the same whenever the configuration is, for the version's digest.
    #[must_use]
    pub fn canonical_config(&self) -> Vec<u8> {
        let mut bytes = b"raas helper configuration 1\n".to_vec();
        // Fields in the order of their declaration and maps by their keys: the same manifest gives the same text.
        bytes.extend(serde_json::to_vec(self).unwrap_or_default());
        bytes
    }

    /// What the scheduler runs for an instance of that name: the same limits, seen as a function's. Nothing is cached.
    #[must_use]
    pub fn function_manifest(&self, instance: &FunctionName) -> FunctionManifest {
        let HelperScaling { min, max, idle_s, concurrency, .. } = self.scaling;
        FunctionManifest {
            name: instance.clone(),
            runtime: self.runtime,
            handler: self.entry.clone(),
            memory_mb: self.memory_mb,
            timeout_s: self.timeout_s,
            network: self.network,
            cpu_millis: self.cpu_millis,
            tmp_mb: self.tmp_mb,
            scaling: Scaling { min, max, idle_s, concurrency },
            cache: Cache::default(),
            precompute: Precompute::default(),
            env: self.env.clone(),
            helpers: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const GEO: &str = r#"
        name = "geo"
        version = "1.2.0"
        summary = "Routes between US airports under a range limit"
        runtime = "python3"
        entry = "geo:Geo"
        state = "disk"
        memory_mb = 512
        gpu = 1
        [scaling]
        min = 1
        max = 4
        concurrency = 8
        mode = "shared"
        [methods.route]
        cache_ttl_s = 86400
        [train]
        every_s = 3600
        [[plans]]
        id = "pay-as-you-go"
        currency = "USD"
        recurring_minor = 0
        period = "month"
        included = { requests = 1000 }
        prices = { requests = "0.0004", compute_gb_s = "0.00002" }
    "#;

    #[test]
    fn reads_what_is_documented() {
        let manifest = HelperManifest::parse(GEO).unwrap();
        assert_eq!(manifest.entry, "geo:Geo");
        assert_eq!(
            manifest.scaling,
            HelperScaling { min: 1, max: 4, idle_s: 300, concurrency: 8, mode: HelperMode::Shared }
        );
        assert_eq!(manifest.methods["route"].cache_ttl_s, 86_400);
        assert_eq!(manifest.train.unwrap().every_s, Some(3600));
        assert_eq!(manifest.devices, ["nvidia.com/gpu=0"]);
        assert_eq!(manifest.plans[0].prices["requests"], "0.0004");
        let stored: HelperManifest = serde_json::from_str(&serde_json::to_string(&manifest).unwrap()).unwrap();
        assert_eq!(stored, manifest);
    }

    #[test]
    fn tells_all_that_is_wrong_at_once() {
        let text = "name = \"Geo\"\nversion = \"1\"\nruntime = \"http\"\nentry = \"geo\"\ncolour = 1\n[scaling]\nmin = 3\nmax = 2\n\
                    [methods._x]\n[methods.y]\ntimeout_s = 0\n[[plans]]\nid = \"a\"\n[[plans]]\nid = \"a\"\nprices = { requests = \"x\" }\n";
        let problems = HelperManifest::parse(text).unwrap_err().problems;
        for key in [
            "name",
            "version",
            "runtime",
            "entry",
            "colour",
            "scaling.min",
            "methods._x",
            "methods.y.timeout_s",
            "plans",
        ] {
            assert!(problems.iter().any(|problem| problem.starts_with(key)), "{key}: {problems:#?}");
        }
    }

    #[test]
    fn every_value_is_part_of_the_digest() {
        let one = HelperManifest::parse(GEO).unwrap();
        let other = HelperManifest::parse(&GEO.replace("86400", "86401")).unwrap();
        assert_ne!(one.canonical_config(), other.canonical_config());
        assert_eq!(one.canonical_config(), HelperManifest::parse(GEO).unwrap().canonical_config());
    }
}
