//! From TOML to a helper manifest, with the same reader and the same completeness as a function's.

use std::collections::{BTreeMap, BTreeSet};

use super::helper::{
    HelperHealth, HelperManifest, HelperMethod, HelperMode, HelperPlan, HelperPrecompute, HelperScaling, HelperState,
    HelperTimeouts, HelperTrain,
};
use super::read::{Section, env, from_toml};
use super::sections::{Network, Runtime};
use super::{FunctionName, ManifestError};
use crate::limits::*;
use crate::money::Rate;

/// Longest name of a file, a key or a helper in the code.
const NAME_MAX_BYTES: usize = 128;

pub(super) fn manifest(text: &str) -> Result<HelperManifest, ManifestError> {
    from_toml(text, read)
}

fn read(table: toml::Table, problems: &mut Vec<String>) -> Option<HelperManifest> {
    let mut top = Section { table, path: "", problems };
    let name = top.required_text("name").and_then(|text| match FunctionName::parse(&text) {
        Ok(name) => Some(name),
        Err(error) => top.refuse("name", &format!("{text:?} is not allowed: {error}")),
    });
    let version = top.required_text("version").and_then(|text| match semver::Version::parse(&text) {
        Ok(_) => Some(text),
        Err(error) => top.refuse("version", &format!("{text:?} is not a semantic version such as \"1.2.0\": {error}")),
    });
    let summary = top.text("summary").unwrap_or_default();
    if summary.chars().count() > HELPER_SUMMARY_MAX_CHARS || summary.contains(char::is_control) {
        top.refuse::<()>("summary", &format!("is one line of at most {HELPER_SUMMARY_MAX_CHARS} characters"));
    }
    let runtime_given = top.table.contains_key("runtime");
    let runtime = top.word("runtime", &["python3", "node"], |word| {
        Runtime::from_word(word).filter(|runtime| matches!(runtime, Runtime::Python3 | Runtime::Node))
    });
    if !runtime_given {
        top.refuse::<()>("runtime", "is missing; it is one of \"python3\", \"node\"");
    }
    let entry = top.required_text("entry").and_then(|entry| {
        let fits = entry.split_once(':').is_some_and(|(module, class)| !module.is_empty() && is_name(class));
        if fits && entry.len() <= HANDLER_MAX_BYTES && !entry.contains(char::is_control) {
            return Some(entry);
        }
        top.refuse("entry", &format!("{entry:?} is not of the form module:Class, such as \"geo:Geo\""))
    });
    let state = top
        .word("state", &["none", "disk"], |word| match word {
            "none" => Some(HelperState::None),
            "disk" => Some(HelperState::Disk),
            _ => None,
        })
        .unwrap_or(HelperState::None);
    let state_mb = top.number("state_mb", 1..=STATE_MAX_MB, STATE_DEFAULT_MB);
    let memory_mb = top.number("memory_mb", MEMORY_MIN_MB..=MEMORY_MAX_MB, MEMORY_DEFAULT_MB);
    let timeout_s = top.number("timeout_s", TIMEOUT_MIN_S..=TIMEOUT_MAX_S, TIMEOUT_DEFAULT_S);
    let start_timeout_s = top.number("start_timeout_s", TIMEOUT_MIN_S..=TIMEOUT_MAX_S, HELPER_START_DEFAULT_S);
    let network = top.word("network", Network::WORDS, Network::from_word).unwrap_or(Network::None);
    let cpu_millis = top.thousandths("cpus", CPU_MIN_MILLIS..=CPU_MAX_MILLIS, CPU_DEFAULT_MILLIS);
    let tmp_mb = top.number("tmp_mb", TMP_MIN_MB..=TMP_MAX_MB, TMP_DEFAULT_MB);
    let scaling = top.section("scaling", scaling);
    let methods = methods(&mut top);
    match scaling.mode {
        HelperMode::PerKey if methods.values().all(|method| method.key.is_none()) => {
            top.refuse::<()>("scaling.mode", "\"per-key\" needs a method with `key`, the argument that holds its key");
        }
        HelperMode::Shared if methods.values().any(|method| method.key.is_some()) => {
            top.refuse::<()>("methods", "a method has `key`, which takes scaling.mode = \"per-key\"");
        }
        _ => {}
    }
    let train = optional(&mut top, "train", train);
    let precompute = optional(&mut top, "precompute", precompute);
    let health = top.section("health", health);
    let timeouts = top.section("timeouts", timeouts);
    let config = file(&mut top, "config");
    let devices = devices(&mut top);
    let env = top.section("env", env);
    let helpers = names(&mut top, "helpers", HELPERS_MAX_BINDINGS);
    let plans = plans(&mut top);
    top.refuse_the_rest(
        "name, version, summary, runtime, entry, state, state_mb, memory_mb, timeout_s, start_timeout_s, network, cpus, tmp_mb, \
         config, devices, gpu, helpers, [scaling], [methods.NAME], [train], [precompute], [health], [timeouts], [env], \
         [[plans]]",
    );
    Some(HelperManifest {
        name: name?,
        version: version?,
        summary,
        runtime: runtime?,
        entry: entry?,
        state,
        state_mb,
        memory_mb,
        timeout_s,
        start_timeout_s,
        network,
        cpu_millis,
        tmp_mb,
        scaling,
        methods,
        train,
        precompute,
        health,
        timeouts,
        config,
        devices,
        env,
        helpers,
        plans,
    })
}

/// A name in code: letters, digits and `_`, not beginning with a digit or `_`.
fn is_name(text: &str) -> bool {
    text.len() <= NAME_MAX_BYTES
        && text.starts_with(|first: char| first.is_alphabetic())
        && text.chars().all(|one| one.is_alphanumeric() || one == '_')
}

fn optional<T>(top: &mut Section<'_>, key: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> Option<T> {
    top.table.contains_key(key).then(|| top.section(key, read))
}

/// A file of the package, by its path within it.
fn file(section: &mut Section<'_>, key: &str) -> Option<String> {
    let file = section.text(key)?;
    let plain = file.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    if plain && file.len() <= NAME_MAX_BYTES && !file.contains(char::is_control) {
        return Some(file);
    }
    section.refuse(key, &format!("{file:?} is not the path of a file in the folder, such as \"{key}.schema.json\""))
}

fn scaling(section: &mut Section<'_>) -> HelperScaling {
    let min = section.number("min", 0..=SCALING_MAX_INSTANCES, 0);
    let max = section.number("max", 1..=SCALING_MAX_INSTANCES, min.max(1));
    let idle_s = section.number("idle_s", 0..=SCALING_IDLE_MAX_S, HELPER_IDLE_DEFAULT_S);
    let concurrency = section.number("concurrency", 1..=CONCURRENCY_MAX_REQUESTS, 1);
    let mode = section
        .word("mode", &["shared", "per-key"], |word| match word {
            "shared" => Some(HelperMode::Shared),
            "per-key" => Some(HelperMode::PerKey),
            _ => None,
        })
        .unwrap_or(HelperMode::Shared);
    if min > max {
        section.refuse::<()>("min", &format!("{min} is above scaling.max, {max}"));
    }
    section.refuse_the_rest("min, max, idle_s, concurrency, mode");
    HelperScaling { min, max, idle_s, concurrency, mode }
}

fn methods(top: &mut Section<'_>) -> BTreeMap<String, HelperMethod> {
    let Some(value) = top.table.remove("methods") else { return BTreeMap::new() };
    let toml::Value::Table(tables) = value else {
        return top.refuse("methods", "has a table for each method, [methods.NAME]").unwrap_or_default();
    };
    if tables.len() > HELPER_METHODS_MAX {
        top.refuse::<()>("methods", &format!("has {}; at most {HELPER_METHODS_MAX} are allowed", tables.len()));
    }
    let mut methods = BTreeMap::new();
    for (name, value) in tables {
        let path = format!("methods.{name}");
        if !is_name(&name) {
            top.refuse::<()>(&path, "a method's name has letters, digits and \"_\" and begins with a letter");
        }
        let toml::Value::Table(table) = value else {
            top.refuse::<()>(&path, &format!("is a table, [{path}]"));
            continue;
        };
        let mut section = Section { table, path: &format!("{path}."), problems: top.problems };
        let timeout_given = section.table.contains_key("timeout_s");
        let timeout_s = section.number("timeout_s", TIMEOUT_MIN_S..=TIMEOUT_MAX_S, TIMEOUT_DEFAULT_S);
        let method = HelperMethod {
            cache_ttl_s: section.number("cache_ttl_s", 0..=CACHE_TTL_MAX_S, 0),
            idempotent: section.flag("idempotent").unwrap_or(false),
            timeout_s: timeout_given.then_some(timeout_s),
            args: file(&mut section, "args"),
            result: file(&mut section, "result"),
            key: section.text("key").and_then(|key| match is_name(&key) {
                true => Some(key),
                false => section.refuse("key", &format!("{key:?} is not the name of an argument, such as \"account\"")),
            }),
        };
        section.refuse_the_rest("cache_ttl_s, idempotent, timeout_s, args, result, key");
        methods.insert(name, method);
    }
    methods
}

fn train(section: &mut Section<'_>) -> HelperTrain {
    let every_given = section.table.contains_key("every_s");
    let every_s = section.number("every_s", 1..=TRAIN_EVERY_MAX_S, 1);
    let train = HelperTrain {
        every_s: every_given.then_some(every_s),
        timeout_s: section.number("timeout_s", 1..=TRAIN_TIMEOUT_MAX_S, TRAIN_TIMEOUT_DEFAULT_S),
        cpu_millis: section.thousandths("cpu_share", CPU_MIN_MILLIS..=CPU_MAX_MILLIS, 500),
    };
    section.refuse_the_rest("every_s, timeout_s, cpu_share");
    train
}

fn precompute(section: &mut Section<'_>) -> HelperPrecompute {
    let precompute = HelperPrecompute {
        cpu_millis: section.thousandths("cpu_share", 1..=1_000, 100),
        limit: section.number("limit", 1..=CANDIDATES_MAX, CANDIDATES_DEFAULT),
    };
    section.refuse_the_rest("cpu_share, limit");
    precompute
}

fn health(section: &mut Section<'_>) -> HelperHealth {
    let health = HelperHealth {
        every_s: section.number("every_s", 1..=HOOK_TIMEOUT_MAX_S, 10),
        timeout_s: section.number("timeout_s", 1..=HOOK_TIMEOUT_MAX_S, 5),
        failures: section.number("failures", 1..=100, 3),
    };
    section.refuse_the_rest("every_s, timeout_s, failures");
    health
}

fn timeouts(section: &mut Section<'_>) -> HelperTimeouts {
    let mut number = |key, default| section.number(key, 1..=HOOK_TIMEOUT_MAX_S, default);
    let timeouts = HelperTimeouts {
        candidates_s: number("candidates_s", 60),
        reconfigure_s: number("reconfigure_s", 60),
        suspend_s: number("suspend_s", 10),
        resume_s: number("resume_s", 10),
        stop_s: number("stop_s", 5),
    };
    section.refuse_the_rest("candidates_s, reconfigure_s, suspend_s, resume_s, stop_s");
    timeouts
}

/// `devices` by their CDI names, and `gpu = N` for the first N of NVIDIA's.
fn devices(top: &mut Section<'_>) -> Vec<String> {
    let gpus = top.number("gpu", 0..=DEVICES_MAX, 0);
    let mut devices: Vec<String> = (0..gpus).map(|index| format!("nvidia.com/gpu={index}")).collect();
    let Some(value) = top.table.remove("devices") else { return devices };
    let names = value.as_array().cloned().unwrap_or_default();
    if !value.is_array() || names.len() > DEVICES_MAX as usize {
        top.refuse::<()>("devices", &format!("is a list of at most {DEVICES_MAX} CDI device names"));
    }
    for name in names {
        let fits = name.as_str().and_then(|name| name.split_once('=')).is_some_and(|(kind, device)| {
            kind.split_once('/').is_some_and(|(vendor, class)| !vendor.is_empty() && !class.is_empty())
                && !device.is_empty()
        });
        match name.as_str() {
            Some(text) if fits && text.len() <= NAME_MAX_BYTES => devices.push(text.to_owned()),
            _ => {
                let problem = format!("{name} is not a CDI device name such as \"nvidia.com/gpu=0\"");
                top.refuse::<()>("devices", &problem);
            }
        }
    }
    devices
}

/// A list of different names in code.
fn names(top: &mut Section<'_>, key: &str, most: usize) -> Vec<String> {
    let Some(value) = top.table.remove(key) else { return Vec::new() };
    let Some(items) = value.as_array().filter(|items| items.len() <= most) else {
        return top.refuse(key, &format!("is a list of at most {most} names, such as [\"geo\"]")).unwrap_or_default();
    };
    let mut seen = BTreeSet::new();
    for item in items {
        match item.as_str() {
            Some(name) if is_name(name) && seen.insert(name.to_owned()) => {}
            _ => {
                let problem = format!("{item} is not a name, or is there twice");
                top.refuse::<()>(key, &problem);
            }
        }
    }
    seen.into_iter().collect()
}

fn plans(top: &mut Section<'_>) -> Vec<HelperPlan> {
    let Some(value) = top.table.remove("plans") else { return Vec::new() };
    let tables: Option<Vec<toml::Table>> = match &value {
        toml::Value::Array(items) => items.iter().map(|item| item.as_table().cloned()).collect(),
        _ => None,
    };
    let Some(tables) = tables.filter(|tables| tables.len() <= PLANS_MAX) else {
        return top.refuse("plans", &format!("is a list of at most {PLANS_MAX} tables, [[plans]]")).unwrap_or_default();
    };
    let mut plans: Vec<HelperPlan> = Vec::new();
    for table in tables {
        let mut section = Section { table, path: "plans.", problems: top.problems };
        let plan = plan(&mut section);
        section.refuse_the_rest("id, currency, recurring_minor, period, included, prices");
        let Some(plan) = plan else { continue };
        if plans.iter().any(|other| other.id == plan.id) {
            top.refuse::<()>("plans", &format!("there are two plans {:?}", plan.id));
        }
        plans.push(plan);
    }
    plans
}

fn plan(section: &mut Section<'_>) -> Option<HelperPlan> {
    let id = section.required_text("id").and_then(|id| match FunctionName::parse(&id) {
        Ok(_) => Some(id),
        Err(error) => section.refuse("id", &format!("{id:?} is not allowed: {error}")),
    });
    let currency = section.text("currency").unwrap_or_else(|| "USD".into());
    let currency = match currency.parse() {
        Ok(currency) => Some(currency),
        Err(_) => section.refuse("currency", &format!("{currency:?} is not a currency such as \"USD\"")),
    };
    let recurring_minor = section.number("recurring_minor", 0..=u32::MAX, 0);
    let period = section.word("period", &["day", "month", "year"], |word| {
        matches!(word, "day" | "month" | "year").then(|| word.to_owned())
    });
    let mut amounts = BTreeMap::new();
    match section.table.remove("included") {
        Some(toml::Value::Table(table)) => {
            for (meter, value) in table {
                match value.as_integer().and_then(|amount| u64::try_from(amount).ok()) {
                    Some(amount) => {
                        amounts.insert(meter, amount);
                    }
                    None => section.refuse::<()>("included", &format!("{meter} is a whole number")).unwrap_or_default(),
                }
            }
        }
        Some(_) => section.refuse::<()>("included", "is a table of amounts by meter").unwrap_or_default(),
        None => {}
    }
    let prices = section.section("prices", |prices| {
        let texts = prices.texts();
        for (meter, price) in &texts {
            if price.parse::<Rate>().is_err() {
                prices.refuse::<()>(meter, &format!("{price:?} is not a decimal price such as \"0.0004\""));
            }
        }
        texts
    });
    Some(HelperPlan {
        id: id?,
        currency: currency?,
        recurring_minor: u64::from(recurring_minor),
        period: period.unwrap_or_else(|| "month".into()),
        included: amounts,
        prices,
    })
}
