//! What is told of a package: its modules, their functions, and the nodes of each, by names and lines instead of numbers.

use serde::Serialize;

use crate::graph::{Binding, Graph, Variable};
use crate::nodes::{Leaves, Node, NodeId, NodeKind, Nodes};
use crate::python::{Source, Unit, UnitKind, units};

/// A package: all its Python files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageReport {
    /// Its modules, in the order of their files.
    pub modules: Vec<ModuleReport>,
}

/// A module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ModuleReport {
    /// Its dotted name.
    pub name: String,
    /// Its file, from the package's top.
    pub file: String,
    /// Why it cannot be analyzed, in one line; then nothing else is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Its functions, methods and lambdas, in the order in which they are written. Neither the module's own code nor classes', which
    /// run once.
    pub functions: Vec<FunctionReport>,
}

/// A function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FunctionReport {
    /// Python's `__qualname__`.
    pub name: String,
    /// Its first line, decorators included.
    pub first_line: u32,
    /// Its last line.
    pub last_line: u32,
    /// Whether it is an `async def`.
    pub is_async: bool,
    /// Its nodes; parents before what is within them.
    pub nodes: Vec<NodeReport>,
}

/// A node of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NodeReport {
    /// Its number within its function: `2.1` is the first one within the second.
    pub id: String,
    /// What it is.
    pub kind: NodeKind,
    /// The node it is within.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// Its first line.
    pub first_line: u32,
    /// Its last line.
    pub last_line: u32,
    /// Local variables whose value it reads.
    pub live_in: Vec<String>,
    /// Variables of the module, of functions around it, and built-ins that it reads.
    pub reads: Vec<String>,
    /// Local variables that it leaves for later.
    pub live_out: Vec<String>,
    /// Those of them that may have no value after it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub maybe_unbound: Vec<String>,
    /// Where it leads: `next`, `jumps` (to several places), or `never` (it always raises, or does not end).
    pub leaves: &'static str,
    /// Whether it may leave the function with a value.
    pub returns: bool,
    /// Whether it yields or awaits.
    pub suspends: bool,
}

/// Looks at a package's Python files: their paths from its top, and their bytes.
pub fn package<'f>(files: impl IntoIterator<Item = (&'f str, &'f [u8])>) -> PackageReport {
    let modules = files.into_iter().map(|(file, bytes)| module(file, bytes)).collect();
    PackageReport { modules }
}

fn module(file: &str, bytes: &[u8]) -> ModuleReport {
    let stem = file.strip_suffix(".py").unwrap_or(file);
    let name = stem.strip_suffix("/__init__").unwrap_or(stem).replace('/', ".");
    let (problem, functions) = match Source::parse(bytes) {
        Ok(source) => {
            let is_function = |unit: &Unit<'_>| matches!(unit.kind, UnitKind::Function | UnitKind::Lambda);
            let mut functions: Vec<_> = units(&source).iter().filter(|unit| is_function(unit)).map(function).collect();
            functions.sort_by_key(|function| function.first_line);
            (None, functions)
        }
        Err(error) => (Some(error.to_string()), Vec::new()),
    };
    ModuleReport { name, file: file.to_owned(), problem, functions }
}

fn function(unit: &Unit<'_>) -> FunctionReport {
    let nodes = Nodes::of(&unit.graph);
    let mut told = Vec::new();
    tell(&unit.graph, &nodes, &nodes.roots, None, &mut told);
    FunctionReport {
        name: unit.name.clone(),
        first_line: unit.span.first_line,
        last_line: unit.span.last_line,
        is_async: unit.is_async,
        nodes: told,
    }
}

fn tell(graph: &Graph, nodes: &Nodes, of: &[NodeId], parent: Option<&str>, told: &mut Vec<NodeReport>) {
    for (number, id) in of.iter().enumerate() {
        let node = nodes.node(*id);
        let id = parent.map_or_else(|| (number + 1).to_string(), |parent| format!("{parent}.{}", number + 1));
        told.push(node_report(graph, node, &id, parent));
        tell(graph, nodes, &node.children, Some(&id), told);
    }
}

fn node_report(graph: &Graph, node: &Node, id: &str, parent: Option<&str>) -> NodeReport {
    let is_own = |variable: &Variable| {
        matches!(graph.name(*variable).binding, Binding::Local | Binding::Parameter | Binding::Shared)
    };
    let names = |variables: &[Variable], own: bool| -> Vec<String> {
        let wanted = variables.iter().filter(|variable| is_own(variable) == own);
        let mut names: Vec<_> = wanted.map(|variable| graph.name(*variable).text.clone()).collect();
        names.sort_unstable();
        names
    };
    let region = &node.region;
    NodeReport {
        id: id.to_owned(),
        kind: node.kind,
        parent: parent.map(str::to_owned),
        first_line: region.span.first_line,
        last_line: region.span.last_line,
        live_in: names(&region.live_in, true),
        reads: names(&region.live_in, false),
        live_out: names(&region.live_out, true),
        maybe_unbound: names(&region.maybe_unbound, true),
        leaves: match region.leaves {
            Leaves::To(..) => "next",
            Leaves::Several => "jumps",
            Leaves::Never => "never",
        },
        returns: region.returns,
        suspends: region.suspends,
    }
}

impl PackageReport {
    /// As a graph for Graphviz: a cluster for each function, an edge from each node to the one after it and to what is within it.
    #[must_use]
    pub fn to_dot(&self) -> String {
        let mut dot = String::from("digraph cdfg {\n  node [shape=box, fontname=\"sans-serif\"];\n  compound=true;\n");
        for (module, function) in self.modules.iter().flat_map(|m| m.functions.iter().map(move |f| (m, f))) {
            let name = format!("{}.{}", module.name, function.name);
            let quoted = |id: &str| quote(&format!("{name}:{}:{id}", function.first_line));
            dot += &format!(
                "  subgraph {} {{\n    label={};\n",
                quote(&format!("cluster {name}:{}", function.first_line)),
                quote(&format!("{name} {}-{}", function.first_line, function.last_line))
            );
            for node in &function.nodes {
                let shape = match node.kind {
                    NodeKind::DataFlow => "box",
                    NodeKind::Decision => "diamond",
                    NodeKind::Loop => "doubleoctagon",
                };
                let label = format!(
                    "{} · {}-{}\n{} → {}",
                    node.id,
                    node.first_line,
                    node.last_line,
                    node.live_in.join(", "),
                    node.live_out.join(", ")
                );
                dot += &format!("    {} [shape={shape}, label={}];\n", quoted(&node.id), quote(&label));
            }
            for (one, next) in siblings(&function.nodes) {
                dot += &format!("    {} -> {};\n", quoted(&one.id), quoted(&next.id));
            }
            for node in &function.nodes {
                if let Some(parent) = node.parent.as_deref().filter(|_| is_first(&node.id)) {
                    dot += &format!("    {} -> {} [style=dashed];\n", quoted(parent), quoted(&node.id));
                }
            }
            dot += "  }\n";
        }
        dot + "}\n"
    }
}

fn is_first(id: &str) -> bool {
    id.rsplit('.').next() == Some("1")
}

/// Nodes of one parent that follow each other.
fn siblings(nodes: &[NodeReport]) -> impl Iterator<Item = (&NodeReport, &NodeReport)> {
    nodes.iter().enumerate().filter_map(move |(at, node)| {
        let next = nodes[at + 1..].iter().find(|other| other.parent == node.parent)?;
        Some((node, next))
    })
}

fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_told_by_names_and_lines() {
        let main = "import math\nLIMIT = 3\n\ndef handler(event, context):\n    n = event['n']\n    for k in range(LIMIT):\n        \
                    n += math.sqrt(k)\n    return n\n";
        let report = package([("main.py", main.as_bytes()), ("lib/__init__.py", b"x = (\n".as_slice())]);
        assert_eq!(report.modules[1].name, "lib");
        assert!(report.modules[1].problem.as_deref().unwrap().starts_with("line "));
        let handler = &report.modules[0].functions[0];
        assert_eq!((handler.name.as_str(), handler.first_line, handler.last_line), ("handler", 4, 8));
        let ids: Vec<_> = handler.nodes.iter().map(|node| node.id.as_str()).collect();
        assert_eq!(ids, ["1", "2", "2.1", "3"]);
        let loop_ = &handler.nodes[1];
        assert_eq!(
            (loop_.kind, &loop_.live_in[..], &loop_.live_out[..]),
            (NodeKind::Loop, &["n".to_owned()][..], &["n".to_owned()][..])
        );
        assert_eq!(loop_.reads, ["LIMIT", "math", "range"]);
        let dot = report.to_dot();
        assert!(dot.contains("\"main.handler:4:1\" -> \"main.handler:4:2\";"), "{dot}");
        assert!(dot.contains("\"main.handler:4:2\" -> \"main.handler:4:2.1\" [style=dashed];"), "{dot}");
    }
}
