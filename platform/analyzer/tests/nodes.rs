//! Nodes and regions: hand-worked ones, and what must hold for every region of generated programs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "program/mod.rs"]
mod program;

use std::collections::HashSet;

use petgraph::algo::dominators::simple_fast;
use petgraph::graphmap::DiGraphMap;
use raas_analyzer::graph::{EdgeKind, Graph, Variable};
use raas_analyzer::nodes::{Leaves, Node, NodeKind, Nodes, Regions};
use raas_analyzer::python::{Source, UnitKind, units};

fn function(text: &str) -> (Graph, Nodes) {
    let source = Source::parse(text.as_bytes()).unwrap();
    let unit = units(&source).into_iter().find(|unit| unit.kind == UnitKind::Function).unwrap();
    let nodes = Nodes::of(&unit.graph);
    (unit.graph, nodes)
}

fn names(graph: &Graph, variables: &[Variable]) -> Vec<String> {
    let mut names: Vec<_> = variables.iter().map(|variable| graph.name(*variable).text.clone()).collect();
    names.sort();
    names
}

fn described(graph: &Graph, node: &Node) -> (NodeKind, u32, u32, String, String) {
    let region = &node.region;
    let (live_in, live_out) = (names(graph, &region.live_in).join(" "), names(graph, &region.live_out).join(" "));
    (node.kind, region.span.first_line, region.span.last_line, live_in, live_out)
}

#[test]
fn a_function_is_a_tree_of_nodes() {
    let (graph, nodes) = function(
        "def handler(event, context):\n\
         \x20   n = event['n']\n\
         \x20   total = 0\n\
         \x20   for k in range(n):\n\
         \x20       square = k * k\n\
         \x20       if square % 2:\n\
         \x20           total += square\n\
         \x20   try:\n\
         \x20       half = total / n\n\
         \x20   except ZeroDivisionError as error:\n\
         \x20       half = str(error)\n\
         \x20   with open('x') as file:\n\
         \x20       text = file.read()\n\
         \x20   return half, text\n",
    );
    let top: Vec<_> = nodes.roots.iter().map(|id| described(&graph, nodes.node(*id))).collect();
    let text = |one: &str, two: &str| (one.to_owned(), two.to_owned());
    let expected = [
        (NodeKind::DataFlow, 2, 3, text("event", "n total")),
        (NodeKind::Loop, 4, 7, text("n range total", "total")),
        (NodeKind::Decision, 8, 11, text("ZeroDivisionError n str total", "half")),
        (NodeKind::DataFlow, 12, 13, text("open", "text")),
        (NodeKind::DataFlow, 14, 14, text("half text", "")),
    ];
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(kind, first, last, (live_in, live_out))| (kind, first, last, live_in, live_out))
        .collect();
    assert_eq!(top, expected);
    let of_loop = &nodes.node(nodes.roots[1]).children;
    let within: Vec<_> = of_loop.iter().map(|id| described(&graph, nodes.node(*id))).collect();
    assert_eq!(within[0], (NodeKind::DataFlow, 5, 5, "k".into(), "square".into()));
    assert_eq!(within[1], (NodeKind::Decision, 6, 7, "square total".into(), "total".into()));
    assert!(nodes.node(nodes.roots[4]).region.returns);
}

#[test]
fn what_may_have_no_value_afterwards_is_said() {
    let (graph, nodes) = function(
        "def f(n):\n    if n:\n        a = 1\n        b = 2\n    else:\n        a = 2\n    try:\n        c = n\n    except E as d:\n        c = 1\n    \
         return a, b, c, d\n",
    );
    let unbound = |at: usize| names(&graph, &nodes.node(nodes.roots[at]).region.maybe_unbound);
    assert_eq!(unbound(0), ["b"]);
    assert_eq!(unbound(1), ["d"]);
}

#[test]
fn where_regions_lead() {
    let (_, nodes) = function(
        "def f(n):\n    for k in n:\n        if k:\n            break\n        if not k:\n            return 1\n        n.x()\n    while True:\n        n.x()\n    \
         raise n\n",
    );
    let of_loop = &nodes.node(nodes.roots[0]).children;
    let leaves = |id| nodes.node(id).region.leaves;
    assert_eq!(leaves(of_loop[0]), Leaves::Several, "it breaks");
    assert_eq!(leaves(of_loop[1]), Leaves::Several, "it returns");
    assert!(matches!(leaves(of_loop[2]), Leaves::To(..)));
    assert_eq!(leaves(nodes.roots[0]), Leaves::Several);
    assert_eq!(leaves(nodes.roots[1]), Leaves::Never);
}

/// Every region with one way out: its beginning dominates it, and its end comes after all of it (petgraph's dominators are the judge).
#[test]
fn regions_have_one_way_in_and_out() {
    let mut checked = 0;
    for seed in 1_000..1_200 {
        let program = program::generate(seed);
        let source = Source::parse(program.as_bytes()).unwrap();
        for unit in units(&source) {
            let graph = &unit.graph;
            let nodes = Nodes::of(graph);
            // Steps by number; without exceptions, which may leave anywhere.
            let number = |block: usize, step: usize| (block as u32) << 12 | step as u32;
            let mut steps: DiGraphMap<u32, ()> = DiGraphMap::new();
            let mut with_exceptions: DiGraphMap<u32, ()> = DiGraphMap::new();
            for (at, block) in graph.blocks.iter().enumerate() {
                let last = block.steps.len();
                for step in 0..last {
                    steps.add_edge(number(at, step), number(at, step + 1), ());
                    with_exceptions.add_edge(number(at, step), number(at, step + 1), ());
                }
                for edge in &block.edges {
                    let to = number(edge.to.0 as usize, 0);
                    if edge.kind != EdgeKind::Exception && edge.to != graph.raised {
                        steps.add_edge(number(at, last), to, ());
                        with_exceptions.add_edge(number(at, last), to, ());
                    } else {
                        (0..=last).for_each(|step| {
                            with_exceptions.add_edge(number(at, step), to, ());
                        });
                    }
                }
            }
            let dominators = simple_fast(&with_exceptions, number(0, 0));
            for node in &nodes.all {
                let first = graph.statement(node.region.statements[0]);
                let begins = number(first.begins.0.0 as usize, first.begins.1 as usize);
                let members: HashSet<u32> = members(graph, node).map(|(block, step)| number(block, step)).collect();
                if dominators.dominators(begins).is_none() {
                    continue;
                }
                for member in &members {
                    if let Some(mut above) = dominators.dominators(*member) {
                        assert!(
                            above.any(|above| above == begins),
                            "{seed}: line {}\n{program}",
                            first.span.first_line
                        );
                    }
                }
                if let Leaves::To(block, step) = node.region.leaves {
                    let out = number(block.0 as usize, step as usize);
                    // Without that place nothing of the region leads anywhere outside.
                    let mut seen = HashSet::new();
                    let mut waiting: Vec<u32> = members.iter().copied().collect();
                    while let Some(at) = waiting.pop() {
                        if at == out || !seen.insert(at) {
                            continue;
                        }
                        let (block, step) = ((at >> 12) as usize, (at & 0xfff) as usize);
                        let is_step = step < graph.blocks[block].steps.len();
                        assert!(!is_step || members.contains(&at), "{seed}: line {}\n{program}", first.span.first_line);
                        waiting.extend(steps.neighbors(at));
                    }
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 2_000, "{checked}");
}

fn members<'g>(graph: &'g Graph, node: &'g Node) -> impl Iterator<Item = (usize, usize)> + 'g {
    let steps = graph.blocks.iter().enumerate();
    let steps =
        steps.flat_map(|(block, of)| of.steps.iter().enumerate().map(move |(at, step)| (block, at, step.statement)));
    let statements = &node.region.statements;
    steps
        .filter(|(_, _, statement)| statements.iter().any(|outer| graph.is_within(*statement, *outer)))
        .map(|(block, at, _)| (block, at))
}

#[test]
fn a_region_can_be_any_run_of_statements() {
    let (graph, _) = function("def f(a):\n    b = a + 1\n    c = b * 2\n    d = c + b\n    return d\n");
    let regions = Regions::of(&graph);
    let region = regions.region(&graph.body[1..3]);
    assert_eq!((names(&graph, &region.live_in), names(&graph, &region.live_out)), (vec!["b".into()], vec!["d".into()]));
    let region = regions.region(&graph.body[..1]);
    assert_eq!((names(&graph, &region.live_in), names(&graph, &region.live_out)), (vec!["a".into()], vec!["b".into()]));
}
