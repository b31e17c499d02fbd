//! Starts that must not succeed, and what they say.

use std::process::Output;

use crate::harness::{Options, Platform};

/// Runs a start that fails; returns what it said.
#[track_caller]
fn refused(options: &Options) -> String {
    let Output { status, stdout, stderr } = options.command().output().unwrap();
    let said = String::from_utf8(stderr).unwrap();
    assert!(matches!(status.code(), Some(1 | 2)), "{status}: {said}");
    let complaint: Vec<_> = said.lines().filter(|line| !line.contains(" INFO ") && !line.contains(" WARN ")).collect();
    assert_eq!(complaint.len(), 1, "one clear line: {said}");
    assert!(!said.contains("panicked") && !said.contains("ERROR"), "{said}");
    // For machines the same once more, as a problem; nothing is announced.
    let problem: serde_json::Value = serde_json::from_slice(&stdout).unwrap();
    assert!(problem["url"].is_null() && complaint[0].contains(problem["title"].as_str().unwrap()), "{problem}");
    complaint[0].to_owned()
}

#[test]
fn two_platforms_do_not_share_a_data_folder() {
    let first = Platform::start();
    let client = first.tenant("first");
    let said = refused(&Options::new().data(&first.data));
    assert!(said.contains("run") || said.contains("another"), "{said}");
    client.deploy(&super::sleeper());
    client.invoke("sleeper", &serde_json::json!(0)).expect(200);
    first.finish();
    Options::new().data(&first.data).start().finish();
}

#[test]
fn contradictory_or_unknown_settings_are_refused_in_one_line() {
    for (settings, names) in [
        ("[pool]\npython3 = 60\n[instances]\nmax = 10\n", "instances.max"),
        ("[results]\nmemory_mb = 1\nentry_max_kb = 2048\n", "entry_max_kb"),
        ("[requests]\nin_flight_max = 1\n", "tenant_in_flight_max"),
        ("[pool]\npython3 = 65\n", "pool.python3"),
        ("[pool]\npythn3 = 1\n", "pythn3"),
        ("[pool]\npython3 = -1\n", "python3"),
        ("[pool\n", "settings.toml"),
        ("[instances]\nmax = 0\n[pool]\npython3 = 0\nnode = 0\n", "instances.max"),
    ] {
        let said = refused(&Options::new().settings(settings));
        assert!(said.contains(names), "{names} is not in: {said}");
    }
    let said = refused(&Options::new().env("RAAS_POOL_RUBY", "1"));
    assert!(said.contains("RAAS_POOL_RUBY"), "{said}");
}

#[test]
fn a_taken_port_is_told_and_leaves_nothing() {
    let first = Platform::start();
    let options = Options::new();
    let mut command = options.command();
    let address = first.admin.address().to_owned();
    let arguments: Vec<_> = command
        .get_args()
        .map(|one| if one == "127.0.0.1:0" { address.clone().into() } else { one.to_owned() })
        .collect();
    let output =
        std::process::Command::new(command.get_program()).args(arguments).env("HOME", first.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&address), "{said}");
    let _ = command.env_clear();
    first.finish();
}

#[test]
fn a_start_on_old_data_keeps_its_key_and_its_functions() {
    let first = Platform::start();
    assert!(first.started["admin_key"].is_string(), "shown on the first start");
    let client = first.tenant("old");
    client.deploy(&super::sleeper());
    client.invoke("sleeper", &serde_json::json!(0)).expect(200);
    first.finish();
    let second = Options::new().data(&first.data).start();
    assert!(second.started["admin_key"].is_null(), "and not again");
    assert_eq!(second.admin.key, first.admin.key);
    let client = crate::harness::Client::new(&second.admin.url, &client.key, "old");
    client.invoke("sleeper", &serde_json::json!(0)).expect(200);
    assert_eq!(client.usage().len(), 2, "usage of both");
    second.finish();
}
