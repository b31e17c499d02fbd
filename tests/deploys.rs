//! Uploads: what is refused and how it is said, what is installed, and that a failed deploy changes nothing.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::harness::{Client, Function, Options, Platform, SOON, in_parallel, shared, wait_for};

fn platform() -> Arc<Platform> {
    shared("deploys", Options::new)
}

fn tenant(label: &str) -> Client {
    platform().tenant(label)
}

const MANIFEST: &str = "name = \"f\"\nruntime = \"python3\"\nhandler = \"main.handler\"\n";
const SOURCE: &str = "def handler(event, context):\n    return 'fine'\n";

/// One entry of a hand-made archive.
enum Entry<'a> {
    File(&'a str, &'a [u8]),
    Symlink(&'a str, &'a str),
    Hardlink(&'a str, &'a str),
    Special(&'a str, tar::EntryType),
}

/// A gzip tar whose names are written as they are, which no careful library does.
fn tar_of(entries: &[Entry]) -> Vec<u8> {
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut add = |name: &str, kind: tar::EntryType, link: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_size(content.len() as u64);
        let old = header.as_old_mut();
        old.name[..name.len()].copy_from_slice(name.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_cksum();
        archive.append(&header, content).unwrap();
    };
    let ordinary = [Entry::File("raas.toml", MANIFEST.as_bytes()), Entry::File("main.py", SOURCE.as_bytes())];
    for entry in ordinary.iter().chain(entries) {
        match entry {
            Entry::File(name, content) => add(name, tar::EntryType::Regular, "", content),
            Entry::Symlink(name, target) => add(name, tar::EntryType::Symlink, target, b""),
            Entry::Hardlink(name, target) => add(name, tar::EntryType::Link, target, b""),
            Entry::Special(name, kind) => add(name, *kind, "", b""),
        }
    }
    archive.into_inner().unwrap().finish().unwrap()
}

fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    for (name, content) in entries {
        archive.start_file(*name, options).unwrap();
        archive.write_all(content).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path().display().to_string());
        }
    }
    found.sort();
    found
}

#[test]
fn an_archive_that_reaches_outside_is_refused_and_leaves_nothing() {
    // A platform of its own: what is on its disk is looked at.
    let platform = Options::new().settings("[pool]\npython3 = 0\nnode = 0\n").start();
    let client = platform.tenant("outside");
    let outside = platform.path().join("../outside");
    let absolute = "/tmp/raas-outside".to_owned();
    let before = (files(&platform.path().join("packages")), files(&platform.path().join("images")));
    let attempts = [
        ("tar with ..", tar_of(&[Entry::File("../../../outside", b"x")])),
        ("tar with .. inside", tar_of(&[Entry::File("a/../../outside", b"x")])),
        ("absolute tar", tar_of(&[Entry::File(&absolute, b"x")])),
        ("link out", tar_of(&[Entry::Symlink("link", "../../../../../etc/passwd")])),
        ("absolute link", tar_of(&[Entry::Symlink("link", "/etc/passwd")])),
        ("write through a link", tar_of(&[Entry::Symlink("dir", "/tmp"), Entry::File("dir/raas-outside", b"x")])),
        ("link to a link out", tar_of(&[Entry::Symlink("a", "b/../.."), Entry::Symlink("b", ".")])),
        ("hard link out", tar_of(&[Entry::Hardlink("shadow", "/etc/shadow")])),
        ("relative hard link out", tar_of(&[Entry::Hardlink("shadow", "../../../../../../etc/shadow")])),
        ("device", tar_of(&[Entry::Special("sda", tar::EntryType::Block)])),
        ("pipe", tar_of(&[Entry::Special("pipe", tar::EntryType::Fifo)])),
        ("platform's own folder", tar_of(&[Entry::File(".raas/python/os.py", b"x")])),
        ("same file twice", tar_of(&[Entry::File("main.py", b"x")])),
        ("zip with ..", zip_of(&[("raas.toml", MANIFEST.as_bytes()), ("../../outside", b"x")])),
        ("absolute zip", zip_of(&[("raas.toml", MANIFEST.as_bytes()), (&absolute, b"x")])),
        ("zip with a backslash", zip_of(&[("raas.toml", MANIFEST.as_bytes()), ("..\\outside", b"x")])),
        ("nothing", Vec::new()),
        ("text", b"hello".to_vec()),
        ("half an archive", tar_of(&[])[..100].to_vec()),
        ("half a zip", zip_of(&[("raas.toml", MANIFEST.as_bytes()), ("main.py", SOURCE.as_bytes())])[..80].to_vec()),
        ("no manifest", zip_of(&[("main.py", SOURCE.as_bytes())])),
        ("deep folders", tar_of(&[Entry::File(&"d/".repeat(40), b"")])),
    ];
    for (what, archive) in attempts {
        let reply = client.upload(&archive);
        assert_eq!(reply.status, 422, "{what}: {}", reply.text());
        let problem = reply.problem(422, "invalid-package", "caller");
        assert!(problem["title"].as_str().unwrap().len() > 20, "{what}: {problem}");
        assert!(
            !problem.to_string().contains(&platform.path().display().to_string()),
            "{what}: our paths are ours: {problem}"
        );
    }
    assert!(!outside.exists() && !Path::new("/tmp/raas-outside").exists());
    assert_eq!(
        (files(&platform.path().join("packages")), files(&platform.path().join("images"))),
        before,
        "nothing is left of them"
    );
    assert!(client.list("/v1/functions").is_empty());
    client.upload(&tar_of(&[Entry::Symlink("alias.py", "main.py"), Entry::Hardlink("copy.py", "main.py")])).expect(201);
    assert_eq!(client.value("f", &json!({})), "fine", "links that stay inside are fine");
    platform.finish();
}

#[test]
fn a_bomb_is_refused_before_it_fills_the_disk() {
    let client = tenant("bomb");
    let zeros = vec![0u8; 300 << 20];
    let started = std::time::Instant::now();
    for archive in [
        zip_of(&[("raas.toml", MANIFEST.as_bytes()), ("main.py", SOURCE.as_bytes()), ("zeros", &zeros)]),
        tar_of(&[Entry::File("zeros", &zeros)]),
    ] {
        assert!(archive.len() < 3 << 20);
        let problem = client.upload(&archive).problem(422, "invalid-package", "caller");
        assert!(problem["title"].as_str().unwrap().contains("262144000"), "{problem}");
    }
    assert!(started.elapsed().as_secs() < 60);
    let many: Vec<_> = (0..20_001).map(|number| format!("f{number}")).collect();
    let mut entries: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), &b""[..])).collect();
    entries.push(("raas.toml", MANIFEST.as_bytes()));
    client.upload(&zip_of(&entries)).problem(422, "invalid-package", "caller");
}

#[test]
fn a_manifest_is_told_all_its_mistakes_at_once() {
    let client = tenant("manifest");
    let bad = "name = \"Not A Name\"\nruntime = \"cobol\"\nhandler = \"main\"\nmemory_mb = 1\ntimeout_s = \"long\"\ncolour = \"red\"\n[scaling]\nmin = 5\nmax = 2\nspeed = 1\n[cache]\nmode = \"always\"\nkey = [\"from\"]\n[env]\nRAAS_X = \"1\"\n";
    let problem = client.upload(&Function::empty().file("raas.toml", bad).file("main.py", SOURCE).archive()).problem(
        422,
        "invalid-manifest",
        "caller",
    );
    let title = problem["title"].as_str().unwrap();
    for part in [
        "name",
        "cobol",
        "memory_mb",
        "timeout_s",
        "colour",
        "scaling.min",
        "scaling.speed",
        "always",
        "cache.key",
        "RAAS_X",
    ] {
        assert!(title.contains(part), "{part} is not in: {title}");
    }
    for (manifest, part) in [
        ("name = \n", "line 1"),
        ("", "name"),
        ("name = \"f\"\n", "runtime"),
        ("name = \"f\"\nruntime = \"image\"\n", "image"),
    ] {
        let reply = client.upload(&Function::empty().file("raas.toml", manifest).archive());
        let problem = reply.problem(422, "invalid-manifest", "caller");
        assert!(problem["title"].as_str().unwrap().contains(part), "{problem}");
    }
}

#[test]
fn a_failed_deploy_changes_nothing() {
    // A platform of its own: what is on its disk is looked at.
    let platform = Options::new().settings("[pool]\npython3 = 0\nnode = 0\n").start();
    let client = platform.tenant("unchanged");
    client.deploy(&Function::empty().file("raas.toml", MANIFEST).file("main.py", SOURCE));
    let state = |client: &Client| {
        let mut shown = client.show("f");
        shown["instances"] = Value::Null;
        let folders = ["packages", "images"].map(|folder| files(&platform.path().join(folder)));
        (client.list("/v1/functions/f/versions"), client.list("/v1/functions/f/aliases"), shown, folders)
    };
    let before = state(&client);
    assert!(before.3.iter().all(|files| !files.is_empty()), "{before:?}");
    let changed = |file: &str, text: &str| {
        Function::empty()
            .file("raas.toml", MANIFEST)
            .file("main.py", "def handler(e, c):\n    return 'changed'\n")
            .file(file, text)
            .archive()
    };
    for (archive, code) in [
        (changed("requirements.txt", "raas-no-such-package-for-sure==9.9\n"), "install-failed"),
        (changed("requirements.txt", "git+https://example.org/x.git\n"), "invalid-package"),
        (changed("requirements.txt", "--only-binary=:none:\nsix\n"), "invalid-package"),
        (changed("requirements.txt", "--index-url https://${PIP_INDEX_URL}/\nsix\n"), "invalid-package"),
        (changed("raas.toml", &format!("{MANIFEST}colour = 1\n")), "invalid-manifest"),
        (b"nonsense".to_vec(), "invalid-package"),
    ] {
        client.upload(&archive).problem(422, code, "caller");
        assert_eq!(state(&client), before);
    }
    client.request("POST", "/v1/functions?alias=not%20a%20name", &[], &changed("x", "")).expect(400);
    client.request("POST", "/v1/functions?alias=", &[], &changed("x", "")).expect(400);
    client.request("POST", "/v1/functions?colour=red", &[], &changed("x", "")).expect(400);
    assert_eq!(state(&client), before);
    // The same at once: what one leaves behind must not be taken from under another.
    in_parallel(4, |_| {
        let archive = changed("requirements.txt", "raas-no-such-package-for-sure==9.9\n");
        client.upload(&archive).problem(422, "install-failed", "caller");
    });
    assert_eq!(state(&client), before);
    assert_eq!(client.value("f", &json!({})), "fine");
    platform.finish();
}

#[test]
fn python_requirements_are_installed() {
    let client = tenant("pip");
    let source = "import six\nfrom sub import thing\ndef handler(event, context):\n    return [six.__version__, six.__file__, thing.NAME]\n";
    let function = Function::empty()
        .file("raas.toml", MANIFEST)
        .file("main.py", source)
        .file("sub/thing.py", "NAME = 'own'\n")
        .file("requirements.txt", "# what we need\nsix==1.16.0\n");
    let reply =
        client.request("POST", "/v1/functions", &[("accept", "application/x-ndjson")], &function.archive()).expect(200);
    let lines: Vec<Value> = reply.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let progress: Vec<_> = lines.iter().filter_map(|line| line["progress"].as_str()).collect();
    assert!(progress.contains(&"installing") && progress.contains(&"unpacked"), "{progress:?}");
    assert_eq!(lines.last().unwrap()["version"], 1, "{lines:?}");
    let value = client.value("f", &json!({}));
    assert_eq!((value[0].as_str(), value[2].as_str()), (Some("1.16.0"), Some("own")));
    assert!(value[1].as_str().unwrap().starts_with("/var/task/"), "{value}");
    // The same requirements again are there already.
    let begun = std::time::Instant::now();
    assert_eq!(client.upload(&function.archive()).expect(201).json()["existed"], true);
    assert!(begun.elapsed().as_millis() < 1000, "{:?}", begun.elapsed());
}

#[test]
fn a_requirement_that_does_not_exist_is_named() {
    let client = tenant("missing");
    let function = Function::empty()
        .file("raas.toml", MANIFEST)
        .file("main.py", SOURCE)
        .file("requirements.txt", "raas-no-such-package-for-sure==9.9\n");
    let problem = client.upload(&function.archive()).problem(422, "install-failed", "caller");
    assert!(problem["title"].as_str().unwrap().contains("raas-no-such-package-for-sure"), "{problem}");
    let streamed =
        client.request("POST", "/v1/functions", &[("accept", "application/x-ndjson")], &function.archive()).expect(200);
    let text = streamed.text();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((last["status"].as_u64(), last["code"].as_str()), (Some(422), Some("install-failed")));
}

#[test]
fn requirements_that_would_run_code_are_refused_and_harmless_options_are_not() {
    let client = tenant("options");
    let with = |requirements: &str| {
        Function::empty()
            .file("raas.toml", MANIFEST)
            .file("main.py", SOURCE)
            .file("requirements.txt", requirements)
            .archive()
    };
    for line in [
        "-e .",
        "--find-links /",
        "git+https://example.org/a.git",
        "./local",
        "--no-binary :all:",
        "a @ file:///etc/passwd",
        "-r ../../etc/passwd",
    ] {
        let problem = client.upload(&with(&format!("{line}\n"))).problem(422, "invalid-package", "caller");
        assert!(problem["title"].as_str().unwrap().contains("requirements.txt"), "{problem}");
    }
    client.upload(&with("--index-url https://pypi.org/simple\n# nothing else\n")).expect(201);
    assert_eq!(client.value("f", &json!({})), "fine");
}

#[test]
fn node_packages_are_installed_without_running_their_scripts() {
    let client = tenant("npm");
    let source = "const isNumber = require('is-number'); exports.handler = (event) => [isNumber(event), require('is-number/package.json').version, require.resolve('is-number')];";
    let package = r#"{"dependencies": {"is-number": "7.0.0"}, "scripts": {"preinstall": "touch /var/out/ran", "postinstall": "exit 1"}}"#;
    client.deploy(&Function::node("f", "", source).file("package.json", package));
    let value = client.value("f", &json!("5"));
    assert_eq!((value[0].as_bool(), value[1].as_str()), (Some(true), Some("7.0.0")));
    let missing = Function::node("f", "", source).file("package.json", r#"{"dependencies": {"is-number": "700.0.0"}}"#);
    let problem = client.upload(&missing.archive()).problem(422, "install-failed", "caller");
    assert!(problem["title"].as_str().unwrap().contains("is-number"), "{problem}");
    let broken = Function::node("f", "", source).file("package.json", "{");
    client.upload(&broken.archive()).problem(422, "invalid-package", "caller");
    assert_eq!(client.value("f", &json!("5"))[0], true);
}

#[test]
fn deploys_at_once_each_become_a_version() {
    let client = tenant("at-once");
    let source = |number: usize| format!("def handler(event, context):\n    return {number}\n");
    let replies = in_parallel(6, |number| {
        let function = Function::empty().file("raas.toml", MANIFEST).file("main.py", &source(number % 3));
        client.upload(&function.archive()).expect(201).json()
    });
    let mut numbers: Vec<_> = replies.iter().map(|reply| reply["version"].as_u64().unwrap()).collect();
    for (one, two) in [(0, 3), (1, 4), (2, 5)] {
        assert_eq!(numbers[one], numbers[two], "the same folder is the same version: {replies:?}");
    }
    for (number, version) in numbers.iter().take(3).enumerate() {
        let value =
            client.post(&format!("/v1/functions/f/invocations?version={version}"), &json!({})).expect(200).json();
        assert_eq!(value, number);
    }
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, [1, 2, 3]);
    let live = client.show("f")["live"][0]["version"].as_u64().unwrap();
    let value = client.value("f", &json!({}));
    assert_eq!(
        client.post(&format!("/v1/functions/f/invocations?version={live}"), &json!({})).expect(200).json(),
        value,
        "what is shown as live is live"
    );
}

#[test]
fn a_deploy_whose_caller_leaves_happens_whole_or_not_at_all() {
    let client = tenant("leaves");
    client.deploy(&Function::empty().file("raas.toml", MANIFEST).file("main.py", SOURCE));
    for number in 0..12 {
        let source = format!("def handler(event, context):\n    return 'left {number}'\n");
        let archive = Function::empty().file("raas.toml", MANIFEST).file("main.py", &source).archive();
        let head = format!(
            "POST /v1/functions HTTP/1.1\r\nhost: raas\r\nauthorization: Bearer {}\r\ncontent-length: {}\r\n\r\n",
            client.key,
            archive.len()
        );
        let mut stream = crate::harness::send(&client, &head);
        stream.write_all(&archive).unwrap();
        // Leaves a little later each time; the compilation takes a good part of a second.
        wait_for("the moment to leave", SOON, {
            let begun = std::time::Instant::now();
            move || (begun.elapsed().as_millis() >= number * 30).then_some(())
        });
        drop(stream);
        let versions = client.list("/v1/functions/f/versions");
        let newest = versions[0]["version"].as_u64().unwrap();
        // What is in the list can be called, at once.
        let by_number = client.post(&format!("/v1/functions/f/invocations?version={newest}"), &json!({}));
        assert_eq!(by_number.status, 200, "version {newest} is listed: {}", by_number.text());
    }
    // However the others end, the next deploy works.
    let version = client.deploy(
        &Function::empty()
            .file("raas.toml", MANIFEST)
            .file("main.py", "def handler(event, context):\n    return 'last'\n"),
    );
    let reply = client.post(&format!("/v1/functions/f/invocations?version={version}"), &json!({})).expect(200);
    assert_eq!(reply.json(), "last");
}

#[test]
fn an_upload_over_the_limit_is_refused_with_a_reason() {
    let client = tenant("upload");
    let problem = client.upload(&vec![0u8; (100 << 20) + 1]).problem(413, "package-too-large", "caller");
    assert!(!problem["title"].as_str().unwrap().is_empty());
}
