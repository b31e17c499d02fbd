//! `raas analyze` on folders, without a platform.

use std::process::Command;

use serde_json::Value;

use crate::harness::binary;

fn analyze(arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(binary()).arg("analyze").args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_folders_code_is_shown_with_its_nodes_and_bad_folders_are_refused_in_one_line() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/trip");
    let (ok, out, err) = analyze(&[folder, "--json"]);
    assert!(ok, "{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    let names: Vec<&str> =
        report["modules"][0]["functions"].as_array().unwrap().iter().map(|f| f["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["handler", "itinerary", "clock"]);

    let (ok, out, _) = analyze(&[folder, "--function", "itinerary"]);
    assert!(ok && out.contains("for leg in route[\"legs\"]:") && !out.contains("main.handler"), "{out}");
    assert!(out.lines().any(|line| line.starts_with("2 ") && line.contains("loop")), "{out}");

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("broken.py"), "def f(:\n").unwrap();
    std::fs::write(dir.path().join("fine.py"), "def g(x):\n    return x\n").unwrap();
    let (ok, out, _) = analyze(&[dir.path().to_str().unwrap()]);
    assert!(ok && out.starts_with("broken.py: line 1: ") && out.contains("fine.g"), "{out}");

    for (arguments, said) in [
        (vec!["/nonexistent"], "does not exist"),
        (vec![folder, "--function", "nope"], "no function is called \"nope\""),
        (vec![concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations")], "has no Python files"),
    ] {
        let (ok, out, err) = analyze(&arguments);
        assert!(!ok && out.is_empty() && err.contains(said) && err.trim().lines().count() == 1, "{err}");
    }
}
