//! Tests of reading `raas.toml`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

const FULL: &str = r#"
name = "route"
runtime = "python3"
handler = "main.handler"
memory_mb = 256
timeout_s = 30
network = "none"
cpus = 0.5
tmp_mb = 64
[scaling]
min = 0
max = 10
idle_s = 60
concurrency = 1
[cache]
mode = "declared"
ttl_s = 3600
stale_while_revalidate_s = 0
key = ["/from", "/to"]
scope = "tenant"
[precompute]
enabled = true
cpu_share = 0.1
[env]
LOG_LEVEL = "info"
[helpers]
geo = "my-geo"
"#;

const LEAST: &str = "name = \"f\"\nruntime = \"node\"\nhandler = \"index.handler\"\n";

fn problems(text: &str) -> Vec<String> {
    FunctionManifest::parse(text).expect_err(text).problems
}

#[test]
fn reads_the_documented_example() {
    let manifest = FunctionManifest::parse(FULL).unwrap();
    assert_eq!(manifest.name.as_str(), "route");
    assert_eq!(
        (manifest.runtime, manifest.handler.as_str(), manifest.network),
        (Runtime::Python3, "main.handler", Network::None)
    );
    assert_eq!((manifest.memory_mb, manifest.timeout_s, manifest.cpu_millis, manifest.tmp_mb), (256, 30, 500, 64));
    assert_eq!(manifest.scaling, Scaling::default());
    assert_eq!(
        (manifest.cache.mode, manifest.cache.ttl_s, manifest.cache.scope),
        (CacheMode::Declared, 3600, CacheScope::Tenant)
    );
    assert_eq!(
        manifest.cache.key.as_ref().unwrap().iter().map(JsonPointer::as_str).collect::<Vec<_>>(),
        ["/from", "/to"]
    );
    assert_eq!(manifest.precompute, Precompute { enabled: true, cpu_share_millis: 100, candidates: Vec::new() });
    assert_eq!(manifest.env["LOG_LEVEL"], "info");
    assert_eq!(manifest.helpers["geo"], "my-geo");
    assert_eq!(manifest.unsupported(), [""; 0]);
    let ineffective = manifest.without_effect();
    assert!(ineffective.len() == 1 && ineffective[0].contains("it calls helpers"), "{ineffective:?}");
}

#[test]
fn defaults_are_the_documented_ones() {
    let manifest = FunctionManifest::parse(LEAST).unwrap();
    assert_eq!((manifest.memory_mb, manifest.timeout_s, manifest.cpu_millis, manifest.tmp_mb), (256, 30, 1000, 512));
    assert_eq!(
        (manifest.network, &manifest.cache, manifest.precompute.clone()),
        (Network::None, &Cache::default(), Precompute::default())
    );
    assert_eq!(
        (manifest.scaling.min, manifest.scaling.max, manifest.scaling.idle_s, manifest.scaling.concurrency),
        (0, 10, 60, 1)
    );
    assert_eq!(manifest.cache.mode, CacheMode::Off);
    assert!(manifest.unsupported().is_empty());
}

#[test]
fn each_mistake_names_its_key_and_what_is_allowed() {
    for (line, expected) in [
        ("memory_mb = 12", "memory_mb: 12 is below the least, 64"),
        ("memory_mb = 20000", "memory_mb: 20000 is above the most, 10240"),
        ("memory_mb = -1", "memory_mb: -1 is below the least, 64"),
        ("memory_mb = 99999999999", "memory_mb: 99999999999 is above the most, 10240"),
        ("memory_mb = \"256\"", "memory_mb: is a whole number without quotes"),
        ("memory_mb = 256.0", "memory_mb: is a whole number without quotes"),
        ("timeout_s = 0", "timeout_s: 0 is below the least, 1"),
        ("timeout_s = 901", "timeout_s: 901 is above the most, 900"),
        ("network = \"full\"", "network: \"full\" is not one of \"none\", \"egress\""),
        ("network = 1", "network: is a text in quotes"),
        ("cpus = 0.01", "cpus: 0.01 is below the least, 0.05"),
        ("cpus = 17", "cpus: 17 is above the most, 16"),
        ("cpus = nan", "cpus: NaN is above the most, 16"),
        ("cpus = true", "cpus: is a number without quotes"),
        ("tmp_mb = 0", "tmp_mb: 0 is below the least, 1"),
        ("memory = 1", "memory: is not a known key; known are name, "),
        ("scaling = 1", "scaling: is a table, [scaling]"),
        ("[scaling]\nmin = 11", "scaling.min: 11 is above scaling.max, 10 (the default)"),
        ("[scaling]\nmin = 3\nmax = 2", "scaling.min: 3 is above scaling.max, 2"),
        ("[scaling]\nmax = 0", "scaling.max: 0 is below the least, 1"),
        ("[scaling]\nconcurrency = 1001", "scaling.concurrency: 1001 is above the most, 1000"),
        ("[scaling]\nmaximum = 2", "scaling.maximum: is not a known key; known are min, max, idle_s, concurrency"),
        ("[cache]\nmode = \"on\"", "cache.mode: \"on\" is not one of \"off\", \"declared\", \"proven\""),
        ("[cache]\nttl_s = 0", "cache.ttl_s: 0 is below the least, 1"),
        ("[cache]\nkey = \"/a\"", "cache.key: is a list of JSON pointers"),
        ("[cache]\nkey = []", "cache.key: an empty list would give every event the same answer"),
        ("[cache]\nkey = [\"a\"]", "cache.key: \"a\": a JSON pointer begins with"),
        ("[cache]\nkey = [\"/a\", \"/b\", \"/a\"]", "cache.key: \"/a\" is there twice"),
        ("[cache]\nkey = [1]", "cache.key: each pointer is a text"),
        ("[cache]\nscope = \"world\"", "cache.scope: \"world\" is not one of \"tenant\", \"public\""),
        ("[precompute]\nenabled = 1", "precompute.enabled: is true or false"),
        ("[precompute]\nenabled = true", "precompute.enabled: needs cache.mode"),
        ("[precompute]\ncpu_share = 1.5", "precompute.cpu_share: 1.5 is above the most, 1"),
        ("[env]\nA = 1", "env.A: is a text in quotes"),
        ("[env]\n\"A B\" = \"x\"", "env.A B: a variable's name has letters"),
        ("[env]\n1A = \"x\"", "env.1A: a variable's name"),
        ("[env]\nRAAS_X = \"x\"", "env.RAAS_X: names that begin with RAAS_"),
        ("[env]\nA = \"\\u0000\"", "env.A: a value cannot hold a NUL"),
        ("[helpers]\ngeo = \"\"", "helpers.geo: both names"),
    ] {
        let found = problems(&format!("{LEAST}{line}\n"));
        assert!(found.len() == 1 && found[0].starts_with(expected), "{line}: {found:?}");
    }
}

#[test]
fn required_keys_and_handlers() {
    for (text, expected) in [
        ("", &["name: is missing", "runtime: is missing"][..]),
        ("name = \"Route\"\nruntime = \"python3\"\nhandler = \"main.handler\"", &["name: \"Route\" is not allowed"]),
        ("name = \"f\"\nruntime = \"ruby\"", &["runtime: \"ruby\" is not one of \"python3\""]),
        ("name = \"f\"\nruntime = \"python3\"", &["handler: is missing"]),
        (
            "name = \"f\"\nruntime = \"python3\"\nhandler = \"main\"",
            &["handler: \"main\" is not of the form module.function"],
        ),
        ("name = \"f\"\nruntime = \"python3\"\nhandler = \"src/main.handler\"", &["handler: "]),
        ("name = \"f\"\nruntime = \"python3\"\nhandler = \"main..handler\"", &["handler: "]),
        ("name = \"f\"\nruntime = \"python3\"\nhandler = \"1main.handler\"", &["handler: "]),
        ("name = \"f\"\nruntime = \"node\"\nhandler = \"../index.handler\"", &["handler: "]),
        ("name = \"f\"\nruntime = \"node\"\nhandler = \"/index.handler\"", &["handler: "]),
        ("name = \"f\"\nruntime = \"node\"\nhandler = \"index.\"", &["handler: "]),
    ] {
        let found = problems(text);
        assert_eq!(found.len(), expected.len(), "{text}: {found:?}");
        assert!(found.iter().zip(expected).all(|(found, expected)| found.starts_with(expected)), "{text}: {found:?}");
    }
    for (runtime, handler) in [
        ("python3", "pkg.sub.main.handler"),
        ("python3", "_m._h"),
        ("node", "src/index.handler"),
        ("node", "my-file.test.$h"),
    ] {
        FunctionManifest::parse(&format!("name = \"f\"\nruntime = \"{runtime}\"\nhandler = \"{handler}\"")).unwrap();
    }
}

#[test]
fn all_problems_come_at_once() {
    let found = problems(
        "name = \"-\"\nruntime = \"x\"\nmemory_mb = 1\ntimeout_s = 0\nfoo = 1\n[cache]\nbar = 2\n[scaling]\nmin = 5\nmax = 4\n",
    );
    assert_eq!(found.len(), 7, "{found:?}");
    assert!(
        FunctionManifest::parse("")
            .unwrap_err()
            .to_string()
            .starts_with("raas.toml: name: is missing; runtime: is missing")
    );
}

#[test]
fn syntax_errors_name_the_line() {
    for text in ["name = \"f\"\nruntime = ", "name = \"f\"\nname = \"g\""] {
        let found = problems(text);
        assert!(found.len() == 1 && found[0].starts_with("line 2: "), "{found:?}");
    }
    assert!(problems(&"#".repeat(300 * 1024))[0].contains("larger than"));
}

#[test]
fn names_follow_their_rule() {
    for good in ["a", "route", "a1-b2", &"x".repeat(64)] {
        assert_eq!(FunctionName::parse(good).unwrap().to_string(), good);
    }
    for bad in ["", "1a", "-a", "a-", "A", "a_b", "a b", "é", "a/b", &"x".repeat(65)] {
        assert!(FunctionName::parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn json_round_trip() {
    for text in [FULL, LEAST] {
        let manifest = FunctionManifest::parse(text).unwrap();
        let json = serde_json::to_string(&manifest).unwrap();
        assert_eq!(serde_json::from_str::<FunctionManifest>(&json).unwrap(), manifest);
    }
}

#[test]
fn the_canonical_configuration_changes_with_every_value() {
    let manifest = FunctionManifest::parse(FULL).unwrap();
    let reordered =
        FULL.replace("name = \"route\"\nruntime = \"python3\"", "runtime = \"python3\"\n# a comment\nname = \"route\"");
    assert_eq!(FunctionManifest::parse(&reordered).unwrap().canonical_config(), manifest.canonical_config());
    let mut seen = std::collections::HashSet::from([manifest.canonical_config()]);
    for (from, to) in [
        ("route", "rout"),
        ("main.handler", "main.handle"),
        ("memory_mb = 256", "memory_mb = 257"),
        ("timeout_s = 30", "timeout_s = 31"),
        ("network = \"none\"", "network = \"egress\""),
        ("cpus = 0.5", "cpus = 0.6"),
        ("tmp_mb = 64", "tmp_mb = 65"),
        ("min = 0", "min = 1"),
        ("max = 10", "max = 11"),
        ("idle_s = 60", "idle_s = 61"),
        ("concurrency = 1", "concurrency = 2"),
        ("\"declared\"", "\"proven\""),
        ("ttl_s = 3600", "ttl_s = 3601"),
        ("revalidate_s = 0", "revalidate_s = 1"),
        ("\"/from\", \"/to\"", "\"/from\""),
        ("key = [\"/from\", \"/to\"]", ""),
        ("\"tenant\"", "\"public\""),
        ("enabled = true", "enabled = false"),
        ("cpu_share = 0.1", "cpu_share = 0.2"),
        ("\"info\"", "\"debug\""),
        ("LOG_LEVEL = \"info\"", ""),
        ("my-geo", "my-ge"),
        ("geo = \"my-geo\"", ""),
    ] {
        assert!(FULL.contains(from));
        assert!(
            seen.insert(FunctionManifest::parse(&FULL.replacen(from, to, 1)).unwrap().canonical_config()),
            "{from} -> {to}"
        );
    }
}
