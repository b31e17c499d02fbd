//! Tests of finding dependencies and explaining failures.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

fn detect(files: &[(&str, &str)], runtime: Runtime) -> Result<Option<Dependencies>, PackageError> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    Dependencies::detect(folder.path(), runtime)
}

#[test]
fn nothing_to_install() {
    for (files, runtime) in [
        (&[][..], Runtime::Python3),
        (&[("requirements.txt", "# none yet\n\n")], Runtime::Python3),
        (&[("package.json", r#"{"dependencies":{"a":"1"}}"#)], Runtime::Python3),
        (&[("requirements.txt", "requests")], Runtime::Node),
        (&[("package.json", r#"{"type":"module","dependencies":{},"devDependencies":{"a":"1"}}"#)], Runtime::Node),
    ] {
        assert_eq!(detect(files, runtime).unwrap(), None, "{files:?}");
    }
}

#[test]
fn python_takes_wheels_only_and_compiles_them() {
    let found = detect(&[("requirements.txt", "requests==2\n")], Runtime::Python3).unwrap().unwrap();
    let [install, compile] = found.steps.as_slice() else { panic!("two steps") };
    let words: Vec<&str> = install.argv.iter().map(String::as_str).collect();
    assert!(words.starts_with(&["/usr/bin/python3", "-m", "pip", "install", "--no-input"]));
    for word in [
        "--only-binary=:all:",
        "--no-compile",
        "--disable-pip-version-check",
        "/var/out/python",
        "/var/task/requirements.txt",
    ] {
        assert!(words.contains(&word), "{word}");
    }
    let compile_line = compile.argv.join(" ");
    assert!(compile_line.contains("compileall -q --invalidation-mode unchecked-hash"), "{compile_line}");
    assert!(compile_line.ends_with(" -p /var/task/.raas/python /var/out/python"), "{compile_line}");
    assert_eq!((install.on_failure, compile.on_failure), (OnFailure::Stop, OnFailure::Continue));
}

#[test]
fn a_complete_list_is_installed_as_it_is() {
    let asks_for_no_more = |text: &str| {
        let found = detect(&[("requirements.txt", text)], Runtime::Python3).unwrap().unwrap();
        found.steps[0].argv.iter().any(|word| word == "--no-deps")
    };
    assert!(asks_for_no_more("# raas: no-deps\nrequests==2\n"));
    assert!(asks_for_no_more("requests==2\r\n# raas: no-deps\r\n"));
    assert!(!asks_for_no_more("requests==2 # raas: no-deps\n"));
    assert!(!asks_for_no_more("requests==2\n"));
}

#[test]
fn node_runs_no_scripts_and_uses_the_lock() {
    let package = ("package.json", r#"{"dependencies":{"left-pad":"1"}}"#);
    let without = detect(&[package], Runtime::Node).unwrap().unwrap();
    let with = detect(&[package, ("package-lock.json", "{}")], Runtime::Node).unwrap().unwrap();
    assert_eq!(without.steps[0].argv, ["/bin/cp", "--", "/var/task/package.json", "/var/out/"]);
    assert_eq!(without.steps[1].argv, ["npm", "install", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund"]);
    assert_eq!(
        with.steps[0].argv,
        ["/bin/cp", "--", "/var/task/package.json", "/var/task/package-lock.json", "/var/out/"]
    );
    assert_eq!(with.steps[1].argv[..3], ["npm", "ci", "--ignore-scripts"]);
    assert_ne!(with.lock_digest, without.lock_digest);
}

#[test]
fn the_lock_digest_follows_every_file() {
    let digest = |files: &[(&str, &str)]| detect(files, Runtime::Python3).unwrap().unwrap().lock_digest;
    let base = digest(&[("requirements.txt", "a\n-r sub/more.txt"), ("sub/more.txt", "b")]);
    assert_eq!(base, digest(&[("requirements.txt", "a\n-r sub/more.txt"), ("sub/more.txt", "b"), ("main.py", "")]));
    assert_ne!(base, digest(&[("requirements.txt", "a\n-r sub/more.txt"), ("sub/more.txt", "c")]));
    assert_ne!(base, digest(&[("requirements.txt", "a")]));
    // Files that include each other are read once.
    digest(&[("requirements.txt", "a\n-r more.txt"), ("more.txt", "-r requirements.txt")]);
}

#[test]
fn unacceptable_files_are_the_callers_fault() {
    for (files, runtime) in [
        (&[("requirements.txt", "-e .")][..], Runtime::Python3),
        (&[("requirements.txt", "-r none.txt")], Runtime::Python3),
        (&[("package.json", "{")], Runtime::Node),
        (&[("package.json", "[]")], Runtime::Node),
    ] {
        assert_eq!(detect(files, runtime).unwrap_err().origin(), raas_core::Origin::Caller);
    }
}

#[test]
fn failures_are_explained_in_one_line() {
    for (output, expected) in [
        (
            "ERROR: Could not find a version that satisfies the requirement nosuch (from versions: none)\nERROR: No matching distribution found for nosuch\n",
            "no package nosuch with a wheel for this Python",
        ),
        (
            "ERROR: Could not find a version that satisfies the requirement requests==99 (from versions: 2.30, 2.31)\nERROR: No matching distribution found for requests==99",
            "no version of requests==99 fits; there are 2.30, 2.31",
        ),
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError(': Failed to establish a new connection: [Errno -3]'\nERROR: No matching distribution found for requests",
            "the package index could not be reached",
        ),
        (
            "ERROR: Cannot install a==1 and b==2 because these package versions have conflicting dependencies.\nERROR: ResolutionImpossible",
            "the requirements contradict each other: a==1 and b==2",
        ),
        (
            "ERROR: Invalid requirement: 'a b': Expected end",
            "requirements.txt has a line that is no requirement: 'a b'",
        ),
        (
            "npm error code E404\nnpm error 404 Not Found - GET https://registry.npmjs.org/nosuch - Not found\nnpm error 404  'nosuch@1' is not in this registry.",
            "the npm registry does not have nosuch@1",
        ),
        (
            "npm error code ETARGET\nnpm error notarget No matching version found for left-pad@99.",
            "the npm registry does not have the version left-pad@99",
        ),
        (
            "npm error code ERESOLVE\nnpm error ERESOLVE unable to resolve dependency tree\nnpm error While resolving: app@1.0.0",
            "the dependencies in package.json contradict",
        ),
        ("npm error code EAI_AGAIN", "the package index could not be reached"),
        (
            "npm error code EUSAGE\nnpm error `npm ci` can only install packages when your package.json and package-lock.json are in sync",
            "package-lock.json does not fit",
        ),
        ("/usr/bin/python3: No module named pip", "this machine's Python has no pip"),
        ("something else", "the dependencies could not be installed"),
        ("", "the dependencies could not be installed"),
    ] {
        let explained = explain_failure(output);
        let mut lines = explained.lines();
        assert!(lines.next().unwrap().starts_with(expected), "{explained}");
        assert_eq!(lines.last(), output.lines().last(), "the end of the output follows");
    }
    assert!(explain_failure(&"x\n".repeat(10_000)).len() < 1_000);
    assert!(explain_failure(&"é".repeat(10_000)).chars().count() < 1_000);
}
