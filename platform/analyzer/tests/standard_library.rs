//! All of CPython's standard library, its tests included where they are installed: whatever CPython compiles has a graph.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Command;

use raas_analyzer::liveness::{Bound, Liveness};
use raas_analyzer::python::{Source, units};

fn python(code: &str, arguments: &[&Path]) -> String {
    let output = Command::new("/usr/bin/python3").arg("-c").arg(code).args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if entry.file_type().unwrap().is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "py") {
            found.push(path);
        }
    }
}

#[test]
fn whatever_cpython_compiles_has_a_graph() {
    let folder = python("import sysconfig; print(sysconfig.get_path('stdlib'))", &[]);
    let mut files = Vec::new();
    sources(Path::new(&folder), &mut files);
    assert!(files.len() > 500, "{folder} has {} files", files.len());
    let (mut lines, mut functions) = (0, 0);
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        match Source::parse(&bytes) {
            Ok(source) => {
                lines += source.text().lines().count();
                for unit in units(&source) {
                    functions += 1;
                    let (live, bound) = (Liveness::of(&unit.graph), Bound::of(&unit.graph));
                    // What is bound when a function is entered are its parameters, and nothing else that is its own is live.
                    let at_entry = bound.before(&unit.graph, raas_analyzer::graph::Graph::ENTRY, 0);
                    assert!(at_entry.iter().count() <= unit.graph.names.len());
                    assert!(live.at(unit.graph.exit).iter().count() <= unit.graph.names.len());
                }
            }
            Err(error) => {
                let compiles = "import sys, warnings; warnings.simplefilter('ignore')\n\
                    try: compile(open(sys.argv[1], 'rb').read(), 'x', 'exec'); print('yes')\nexcept Exception: print('no')";
                assert_eq!(python(compiles, &[&file]), "no", "{}: {error}", file.display());
            }
        }
    }
    assert!(lines > 100_000 && functions > 5_000, "{lines} lines, {functions} functions");
}

#[test]
fn what_is_too_deep_or_too_long_ends_with_a_graph_or_one_line() {
    let deep = |open: &str, close: &str, depth: usize| format!("x = {}1{}\n", open.repeat(depth), close.repeat(depth));
    let chain = format!("x = 1{}\n", " + 1".repeat(100_000));
    let ifs =
        (0..90).map(|depth| format!("{}if x:\n", " ".repeat(depth))).collect::<String>() + &" ".repeat(90) + "y = 1\n";
    let long = "def f(a):\n    b = a + 1\n    if b:\n        return a\n".repeat(50_000 / 4);
    let calls = format!("x{}\n", "(1)".repeat(50_000));
    let sources = [
        deep("(", ")", 20_000),
        deep("[", "]", 20_000),
        deep("-", "", 50_000),
        deep("lambda: ", "", 20_000),
        chain,
        ifs,
        long,
        calls,
    ];
    for text in sources {
        match Source::parse(text.as_bytes()) {
            Ok(source) => assert!(!units(&source).is_empty()),
            Err(error) => assert!(!error.to_string().contains('\n')),
        }
    }
}

#[test]
fn what_is_no_python_says_which_line() {
    let said = |text: &str| Source::parse(text.as_bytes()).err().unwrap().to_string();
    assert!(said("x = 1\ny = (\n").starts_with("line "));
    assert!(said("def f():\nreturn 1\n").starts_with("line 2: "));
    assert!(said("x = 1\n  y = 2\n").starts_with("line 2: "));
    assert!(said("print 'x'\n").starts_with("line 1: "));
}
