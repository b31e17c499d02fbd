//! `raas analyze`: the control-data-flow graph of a folder's code. Needs no platform, and runs none of the code.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use raas_analyzer::nodes::NodeKind;
use raas_analyzer::report::{FunctionReport, ModuleReport, PackageReport, package};

use super::failure::{Failure, Outcome};
use super::screen::Screen;
use super::table::Table;

/// What to analyze.
#[derive(Debug, Args)]
pub struct AnalyzeArguments {
    /// A folder with Python code.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// How to show it [default: text, or json with `--json`].
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Only functions of this name, with those within them: `handler`, `Class.method`.
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
    Dot,
}

/// Analyzes and shows.
///
/// # Errors
/// The folder cannot be read, has no Python, or nothing of that name.
pub fn run(screen: Screen, arguments: &AnalyzeArguments) -> Outcome {
    let folder = &arguments.folder;
    if !folder.is_dir() {
        let what = if folder.exists() { "is no folder" } else { "does not exist" };
        return Err(Failure::local("no-folder", format!("{} {what}", folder.display())));
    }
    let names = raas_packages::packed_files(folder).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        Failure::local("unreadable", format!("{error}{cause}"))
    })?;
    let mut files = Vec::new();
    for name in names.into_iter().filter(|name| name.ends_with(".py")) {
        let path = folder.join(&name);
        let bytes = std::fs::read(&path)
            .map_err(|error| Failure::local("unreadable", format!("cannot read {}: {error}", path.display())))?;
        files.push((name, bytes));
    }
    if files.is_empty() {
        return Err(Failure::local("no-python", format!("{} has no Python files", folder.display())));
    }
    let mut report = package(files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())));
    if let Some(wanted) = &arguments.function {
        keep_only(&mut report, wanted)?;
    }
    match arguments.format.unwrap_or(if screen.json { Format::Json } else { Format::Text }) {
        Format::Json => {
            let text = serde_json::to_string(&report).map_err(|error| Failure::local("output", error.to_string()))?;
            screen.line(&text)
        }
        Format::Dot => screen.line(report.to_dot().trim_end()),
        Format::Text => screen.line(text(&report, folder).trim_end()),
    }
}

fn keep_only(report: &mut PackageReport, wanted: &str) -> Outcome {
    let within = format!("{wanted}.");
    let is_wanted = |function: &FunctionReport| function.name == wanted || function.name.starts_with(&within);
    let mut names: Vec<_> =
        report.modules.iter().flat_map(|module| &module.functions).map(|function| function.name.clone()).collect();
    report.modules.iter_mut().for_each(|module| module.functions.retain(is_wanted));
    report.modules.retain(|module| !module.functions.is_empty());
    if report.modules.is_empty() {
        names.truncate(10);
        let there =
            if names.is_empty() { "there are none".to_owned() } else { format!("there are {}", names.join(", ")) };
        return Err(Failure::local("no-function", format!("no function is called {wanted:?}: {there}")));
    }
    Ok(())
}

fn text(report: &PackageReport, folder: &Path) -> String {
    let mut out = String::new();
    for module in &report.modules {
        match &module.problem {
            Some(problem) => out += &format!("{}: {problem}\n\n", module.file),
            None if module.functions.is_empty() => out += &format!("{}: no functions\n\n", module.file),
            None => {
                let source = std::fs::read(folder.join(&module.file)).unwrap_or_default();
                // For showing only: what is in another encoding is shown as well as it can be.
                let source = String::from_utf8_lossy(&source).into_owned();
                let lines: Vec<&str> = source.lines().collect();
                module.functions.iter().for_each(|function| out += &of_function(module, function, &lines));
            }
        }
    }
    out
}

fn of_function(module: &ModuleReport, function: &FunctionReport, lines: &[&str]) -> String {
    let mut out = format!(
        "{}.{}  {}:{}-{}\n\n",
        module.name, function.name, module.file, function.first_line, function.last_line
    );
    let width = function.nodes.iter().map(|node| node.id.len()).max().unwrap_or(1);
    for line in function.first_line..=function.last_line {
        // The innermost node comes last.
        let node = function.nodes.iter().rfind(|node| (node.first_line..=node.last_line).contains(&line));
        let id = node.map_or("", |node| &node.id);
        let text = lines.get(line as usize - 1).copied().unwrap_or_default();
        out += format!("  {id:width$} │ {line:4} │ {text}").trim_end();
        out.push('\n');
    }
    let mut table = Table::new(&["NODE", "KIND", "LINES", "READS", "LEAVES", "NOTE"]);
    for node in &function.nodes {
        let kind = match node.kind {
            NodeKind::DataFlow => "data-flow",
            NodeKind::Decision => "decision",
            NodeKind::Loop => "loop",
        };
        let mut notes = Vec::new();
        match node.leaves {
            "jumps" => notes.push("jumps out".to_owned()),
            "never" => notes.push("always raises, or does not end".to_owned()),
            _ if node.returns => notes.push("returns".to_owned()),
            _ => {}
        }
        if node.suspends {
            notes.push("yields or awaits".to_owned());
        }
        if !node.maybe_unbound.is_empty() {
            notes.push(format!("may leave {} without a value", node.maybe_unbound.join(", ")));
        }
        let reads = node.live_in.iter().cloned().chain(node.reads.iter().map(|name| format!("{name}*")));
        table.row([
            node.id.clone(),
            kind.to_owned(),
            format!("{}-{}", node.first_line, node.last_line),
            reads.collect::<Vec<_>>().join(" "),
            node.live_out.join(" "),
            notes.join("; "),
        ]);
    }
    out + "\n"
        + &table.render(str::to_owned, "")
        + "\n* not the function's own: of the module, of a function around it, or built in\n\n"
}
