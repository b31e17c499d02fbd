//! From TOML to a manifest, collecting every problem instead of stopping at the first.
//!
//! Each reader takes its key out of the table and answers with a usable value even where the one given is refused (the
//! default stands in), so that the rest can still be checked; what is left in a table at the end is unknown.

use super::sections::{Cache, CacheMode, CacheScope, Network, Precompute, Runtime, Scaling};
use super::{FunctionManifest, FunctionName, ManifestError};
use crate::limits::*;
use crate::pointer::JsonPointer;
use crate::tag::TagTemplate;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

pub(super) fn manifest(text: &str) -> Result<FunctionManifest, ManifestError> {
    from_toml(text, read)
}

/// Reads a manifest of either kind: `read` answers with nothing only where it has told a problem.
pub(super) fn from_toml<M>(
    text: &str,
    read: impl FnOnce(toml::Table, &mut Vec<String>) -> Option<M>,
) -> Result<M, ManifestError> {
    if text.len() > MANIFEST_MAX_BYTES {
        return Err(ManifestError { problems: vec![format!("the file is larger than {MANIFEST_MAX_BYTES} bytes")] });
    }
    let table =
        text.parse::<toml::Table>().map_err(|error| ManifestError { problems: vec![syntax_problem(text, &error)] })?;
    let mut problems = Vec::new();
    let manifest = read(table, &mut problems);
    match manifest {
        Some(manifest) if problems.is_empty() => Ok(manifest),
        _ => Err(ManifestError { problems }),
    }
}

fn syntax_problem(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().trim().replace('\n', ", ");
    let line = error
        .span()
        .map(|span| text.as_bytes()[..span.start.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1);
    line.map_or_else(|| message.clone(), |line| format!("line {line}: {message}"))
}

/// Nothing only where a required value is missing or wrong, which is then among the problems.
fn read(table: toml::Table, problems: &mut Vec<String>) -> Option<FunctionManifest> {
    let mut top = Section { table, path: "", problems };
    let name = top.required_text("name").and_then(|text| match FunctionName::parse(&text) {
        Ok(name) => Some(name),
        Err(error) => top.refuse("name", &format!("{text:?} is not allowed: {error}")),
    });
    let runtime_given = top.table.contains_key("runtime");
    let runtime = top.word("runtime", Runtime::WORDS, Runtime::from_word);
    if !runtime_given {
        top.problems.push(format!("runtime: is missing; it is one of {}", quoted(Runtime::WORDS)));
    }
    let handler = handler(&mut top, runtime);
    let memory_mb = top.number("memory_mb", MEMORY_MIN_MB..=MEMORY_MAX_MB, MEMORY_DEFAULT_MB);
    let timeout_s = top.number("timeout_s", TIMEOUT_MIN_S..=TIMEOUT_MAX_S, TIMEOUT_DEFAULT_S);
    let network = top.word("network", Network::WORDS, Network::from_word).unwrap_or(Network::None);
    let cpu_millis = top.thousandths("cpus", CPU_MIN_MILLIS..=CPU_MAX_MILLIS, CPU_DEFAULT_MILLIS);
    let tmp_mb = top.number("tmp_mb", TMP_MIN_MB..=TMP_MAX_MB, TMP_DEFAULT_MB);
    let scaling = top.section("scaling", scaling);
    let cache = top.section("cache", cache);
    let precompute = top.section("precompute", precompute);
    if precompute.enabled && cache.mode == CacheMode::Off {
        top.problems.push(
            "precompute.enabled: needs cache.mode = \"declared\" or \"proven\", or no result could be kept".to_owned(),
        );
    }
    let env = top.section("env", env);
    let helpers = top.section("helpers", helpers);
    top.refuse_the_rest(
        "name, runtime, handler, memory_mb, timeout_s, network, cpus, tmp_mb, [scaling], [cache], [precompute], [env], [helpers]",
    );
    Some(FunctionManifest {
        name: name?,
        runtime: runtime?,
        handler: handler.unwrap_or_default(),
        memory_mb,
        timeout_s,
        network,
        cpu_millis,
        tmp_mb,
        scaling,
        cache,
        precompute,
        env,
        helpers,
    })
}

fn handler(top: &mut Section<'_>, runtime: Option<Runtime>) -> Option<String> {
    let handler = match runtime {
        Some(Runtime::Python3 | Runtime::Node) => top.required_text("handler")?,
        _ => top.text("handler")?,
    };
    if handler.len() > HANDLER_MAX_BYTES {
        return top.refuse("handler", &format!("is at most {HANDLER_MAX_BYTES} bytes long"));
    }
    match runtime {
        Some(Runtime::Python3) if !is_python_handler(&handler) => {
            top.refuse("handler", &format!("{handler:?} is not of the form module.function, such as \"main.handler\""))
        }
        Some(Runtime::Node) if !is_node_handler(&handler) => top.refuse(
            "handler",
            &format!(
                "{handler:?} is not of the form module.export, such as \"index.handler\" or \"src/index.handler\""
            ),
        ),
        _ => Some(handler),
    }
}

/// At least two Python names with points between: a module (perhaps in packages) and a function.
fn is_python_handler(handler: &str) -> bool {
    let is_name = |part: &str| {
        part.starts_with(|first: char| first.is_alphabetic() || first == '_')
            && part.chars().all(|one| one.is_alphanumeric() || one == '_')
    };
    handler.contains('.') && handler.split('.').all(is_name)
}

/// A file path inside the package without its extension, a point, and a JavaScript name.
fn is_node_handler(handler: &str) -> bool {
    let Some((module, export)) = handler.rsplit_once('.') else {
        return false;
    };
    let is_export = !export.is_empty()
        && !export.starts_with(|first: char| first.is_ascii_digit())
        && export.chars().all(|one| one.is_alphanumeric() || one == '_' || one == '$');
    let is_component = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && !part.contains(['\\', '\0'])
            && !part.contains(char::is_control)
    };
    is_export && module.split('/').all(is_component)
}

fn scaling(section: &mut Section<'_>) -> Scaling {
    let default = Scaling::default();
    let max_given = section.table.contains_key("max");
    let min = section.number("min", 0..=SCALING_MAX_INSTANCES, default.min);
    let max = section.number("max", 1..=SCALING_MAX_INSTANCES, default.max);
    let idle_s = section.number("idle_s", 0..=SCALING_IDLE_MAX_S, default.idle_s);
    let concurrency = section.number("concurrency", 1..=CONCURRENCY_MAX_REQUESTS, default.concurrency);
    if min > max {
        let default = if max_given { "" } else { " (the default)" };
        section.problems.push(format!("scaling.min: {min} is above scaling.max, {max}{default}"));
    }
    section.refuse_the_rest("min, max, idle_s, concurrency");
    Scaling { min, max, idle_s, concurrency }
}

fn cache(section: &mut Section<'_>) -> Cache {
    let default = Cache::default();
    let cache = Cache {
        mode: section.word("mode", CacheMode::WORDS, CacheMode::from_word).unwrap_or(default.mode),
        ttl_s: section.number("ttl_s", 1..=CACHE_TTL_MAX_S, default.ttl_s),
        stale_while_revalidate_s: section.number("stale_while_revalidate_s", 0..=CACHE_TTL_MAX_S, 0),
        stale_if_error_s: section.number("stale_if_error_s", 0..=CACHE_TTL_MAX_S, 0),
        errors: cache_errors(section),
        error_ttl_s: section.number("error_ttl_s", 1..=CACHE_TTL_MAX_S, default.error_ttl_s),
        tags: cache_tags(section),
        key: cache_key(section),
        scope: section.word("scope", CacheScope::WORDS, CacheScope::from_word).unwrap_or(default.scope),
    };
    // A result that callers share whom the tag tells apart would be dropped by the tag of one of them only.
    if let Some(key) = &cache.key {
        for tag in &cache.tags {
            if let Some(pointer) = tag.pointers().find(|pointer| !key.contains(pointer)) {
                let problem = format!("{:?} names {:?}, which is not in cache.key", tag.as_str(), pointer.as_str());
                section.refuse::<()>("tags", &problem);
            }
        }
    }
    section.refuse_the_rest(
        "mode, ttl_s, stale_while_revalidate_s, stale_if_error_s, errors, error_ttl_s, tags, key, scope",
    );
    cache
}

fn cache_errors(section: &mut Section<'_>) -> Vec<String> {
    let names = section.list_of_texts("errors", CACHE_ERRORS_MAX, "names of error types, such as [\"NotFound\"]");
    for name in &names {
        if name.is_empty() || name.len() > CACHE_ERROR_NAME_MAX_BYTES {
            section.refuse::<()>(
                "errors",
                &format!("a name has 1 to {CACHE_ERROR_NAME_MAX_BYTES} bytes, unlike {name:?}"),
            );
        }
    }
    names
}

fn cache_tags(section: &mut Section<'_>) -> Vec<TagTemplate> {
    let texts = section.list_of_texts("tags", CACHE_TAGS_MAX, "texts, such as [\"airport:{/from}\"]");
    let mut tags = Vec::with_capacity(texts.len());
    for text in texts {
        match TagTemplate::parse(&text) {
            Ok(tag) => tags.push(tag),
            Err(error) => section.refuse::<()>("tags", &format!("{text:?}: {error}")).unwrap_or_default(),
        }
    }
    tags
}

fn cache_key(section: &mut Section<'_>) -> Option<Vec<JsonPointer>> {
    let value = section.table.remove("key")?;
    let toml::Value::Array(items) = value else {
        return section.refuse("key", "is a list of JSON pointers, such as [\"/from\", \"/to\"]");
    };
    if items.is_empty() {
        return section
            .refuse("key", "an empty list would give every event the same answer; leave it out for the whole event");
    }
    if items.len() > CACHE_KEY_POINTERS_MAX {
        return section
            .refuse("key", &format!("has {} pointers; at most {CACHE_KEY_POINTERS_MAX} are allowed", items.len()));
    }
    let mut pointers: Vec<JsonPointer> = Vec::with_capacity(items.len());
    for item in items {
        let toml::Value::String(text) = item else {
            section.refuse::<()>("key", "each pointer is a text, such as \"/from\"");
            continue;
        };
        match JsonPointer::parse(&text) {
            Ok(pointer) if pointers.contains(&pointer) => {
                section.refuse::<()>("key", &format!("{text:?} is there twice"))
            }
            Ok(pointer) => {
                pointers.push(pointer);
                None
            }
            Err(error) => section.refuse::<()>("key", &format!("{text:?}: {error}")),
        };
    }
    Some(pointers)
}

fn precompute(section: &mut Section<'_>) -> Precompute {
    let default = Precompute::default();
    let precompute = Precompute {
        enabled: section.flag("enabled").unwrap_or(default.enabled),
        cpu_share_millis: section.thousandths("cpu_share", 1..=1_000, default.cpu_share_millis),
        candidates: candidates(section),
    };
    section.refuse_the_rest("enabled, cpu_share, candidates");
    precompute
}

/// Events, as TOML values or as JSON in texts.
fn candidates(section: &mut Section<'_>) -> Vec<serde_json::Value> {
    let Some(value) = section.table.remove("candidates") else { return Vec::new() };
    let toml::Value::Array(items) = value else {
        let what = "is a list of events, such as [{ from = \"JFK\", to = \"SEA\" }]";
        return section.refuse("candidates", what).unwrap_or_default();
    };
    if items.len() > PRECOMPUTE_CANDIDATES_MAX {
        let what = format!("has {} events; at most {PRECOMPUTE_CANDIDATES_MAX} are allowed", items.len());
        return section.refuse("candidates", &what).unwrap_or_default();
    }
    let mut events = Vec::with_capacity(items.len());
    for item in items {
        match serde_json::to_value(&item) {
            Ok(event) if event.to_string().len() <= PRECOMPUTE_CANDIDATE_MAX_BYTES => events.push(event),
            _ => {
                let what = format!("an event is at most {PRECOMPUTE_CANDIDATE_MAX_BYTES} bytes long as JSON");
                section.refuse::<()>("candidates", &what);
            }
        }
    }
    events
}

pub(super) fn env(section: &mut Section<'_>) -> BTreeMap<String, String> {
    let variables = section.texts();
    if variables.len() > ENV_MAX_VARIABLES {
        section.problems.push(format!("env: {} variables; at most {ENV_MAX_VARIABLES} are allowed", variables.len()));
    }
    let size: usize = variables.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > ENV_MAX_BYTES {
        section.problems.push(format!("env: {size} bytes of names and values; at most {ENV_MAX_BYTES} are allowed"));
    }
    for (name, value) in &variables {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !plain || name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
            section.problems.push(format!(
                "env.{name}: a variable's name has letters, digits and \"_\" and does not begin with a digit"
            ));
        } else if name.starts_with("RAAS_") {
            section.problems.push(format!("env.{name}: names that begin with RAAS_ are the platform's"));
        }
        if value.contains('\0') {
            section.problems.push(format!("env.{name}: a value cannot hold a NUL character"));
        }
    }
    variables
}

fn helpers(section: &mut Section<'_>) -> BTreeMap<String, String> {
    let helpers = section.texts();
    if helpers.len() > HELPERS_MAX_BINDINGS {
        section
            .problems
            .push(format!("helpers: {} bindings; at most {HELPERS_MAX_BINDINGS} are allowed", helpers.len()));
    }
    for (name, instance) in &helpers {
        let plain = |text: &str| {
            !text.is_empty()
                && text.len() <= 128
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        if !plain(name) || !plain(instance) {
            section.problems.push(format!("helpers.{name}: both names have 1 to 128 letters, digits, \"-\" and \"_\""));
        }
    }
    helpers
}

pub(super) fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ")
}

/// A table being read: its keys are taken out one by one.
pub(super) struct Section<'a> {
    pub(super) table: toml::Table,
    /// `"scaling."`, or nothing at the top.
    pub(super) path: &'a str,
    pub(super) problems: &'a mut Vec<String>,
}

impl Section<'_> {
    /// Notes a problem with a key; answers nothing, for the convenience of the callers.
    pub(super) fn refuse<T>(&mut self, key: &str, problem: &str) -> Option<T> {
        self.problems.push(format!("{}{key}: {problem}", self.path));
        None
    }

    pub(super) fn section<T>(&mut self, key: &str, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let table = match self.table.remove(key) {
            Some(toml::Value::Table(table)) => table,
            Some(_) => self.refuse(key, &format!("is a table, [{key}]")).unwrap_or_default(),
            None => toml::Table::new(),
        };
        read(&mut Section { table, path: &format!("{key}."), problems: self.problems })
    }

    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        match self.table.remove(key)? {
            toml::Value::String(text) => Some(text),
            _ => self.refuse(key, "is a text in quotes"),
        }
    }

    pub(super) fn required_text(&mut self, key: &str) -> Option<String> {
        if !self.table.contains_key(key) {
            return self.refuse(key, "is missing");
        }
        self.text(key)
    }

    pub(super) fn flag(&mut self, key: &str) -> Option<bool> {
        match self.table.remove(key)? {
            toml::Value::Boolean(flag) => Some(flag),
            _ => self.refuse(key, "is true or false"),
        }
    }

    pub(super) fn word<T>(&mut self, key: &str, words: &[&str], from_word: impl Fn(&str) -> Option<T>) -> Option<T> {
        let text = self.text(key)?;
        from_word(&text).or_else(|| self.refuse(key, &format!("{text:?} is not one of {}", quoted(words))))
    }

    pub(super) fn number(&mut self, key: &str, range: RangeInclusive<u32>, default: u32) -> u32 {
        let number = match self.table.remove(key) {
            None => return default,
            Some(toml::Value::Integer(number)) => number,
            Some(_) => return self.refuse(key, "is a whole number without quotes").unwrap_or(default),
        };
        match u32::try_from(number) {
            Ok(number) if range.contains(&number) => number,
            _ if number < i64::from(*range.start()) => {
                self.refuse(key, &format!("{number} is below the least, {}", range.start())).unwrap_or(default)
            }
            _ => self.refuse(key, &format!("{number} is above the most, {}", range.end())).unwrap_or(default),
        }
    }

    /// A number with decimals, as thousandths.
    pub(super) fn thousandths(&mut self, key: &str, range: RangeInclusive<u32>, default: u32) -> u32 {
        let number = match self.table.remove(key) {
            None => return default,
            Some(toml::Value::Integer(number)) => number as f64,
            Some(toml::Value::Float(number)) => number,
            Some(_) => return self.refuse(key, "is a number without quotes").unwrap_or(default),
        };
        let (least, most) = (f64::from(*range.start()) / 1_000.0, f64::from(*range.end()) / 1_000.0);
        if number < least {
            return self.refuse(key, &format!("{number} is below the least, {least}")).unwrap_or(default);
        }
        if number > most || number.is_nan() {
            return self.refuse(key, &format!("{number} is above the most, {most}")).unwrap_or(default);
        }
        (number * 1_000.0).round() as u32
    }

    /// Every key of the table, each with a text.
    pub(super) fn texts(&mut self) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        for (key, value) in std::mem::take(&mut self.table) {
            match value {
                toml::Value::String(text) => {
                    texts.insert(key, text);
                }
                _ => self.refuse::<()>(&key, "is a text in quotes").unwrap_or_default(),
            }
        }
        texts
    }

    /// A list of texts, each there once.
    pub(super) fn list_of_texts(&mut self, key: &str, most: usize, what: &str) -> Vec<String> {
        let Some(value) = self.table.remove(key) else { return Vec::new() };
        let toml::Value::Array(items) = value else {
            return self.refuse(key, &format!("is a list of {what}")).unwrap_or_default();
        };
        if items.len() > most {
            return self
                .refuse(key, &format!("has {} entries; at most {most} are allowed", items.len()))
                .unwrap_or_default();
        }
        let mut texts: Vec<String> = Vec::with_capacity(items.len());
        for item in items {
            match item {
                toml::Value::String(text) if texts.contains(&text) => {
                    self.refuse::<()>(key, &format!("{text:?} is there twice"));
                }
                toml::Value::String(text) => texts.push(text),
                _ => {
                    self.refuse::<()>(key, &format!("is a list of {what}"));
                }
            }
        }
        texts
    }

    pub(super) fn refuse_the_rest(&mut self, known: &str) {
        for key in std::mem::take(&mut self.table).keys() {
            self.refuse::<()>(key, &format!("is not a known key; known are {known}"));
        }
    }
}
