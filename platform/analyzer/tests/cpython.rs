//! What CPython really does with generated programs, held against their graphs: every order in which it executes lines is a way through
//! the graph, and every variable that it reads later without writing it before is live.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "program/mod.rs"]
mod program;

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::process::{Command, Stdio};

use raas_analyzer::graph::{Block, BlockId, EdgeKind, Graph, StatementKind, Step, StepKind};
use raas_analyzer::liveness::{Liveness, Variables};
use raas_analyzer::python::{Source, Unit, UnitKind, units};

type Execution = (u32, Vec<serde_json::Value>);

fn run(programs: &[String]) -> Vec<Vec<Execution>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/trace.py");
    let mut python = Command::new("/usr/bin/python3");
    let mut child = python.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let sent = serde_json::to_vec(programs).unwrap();
    let writer = std::thread::spawn(move || input.write_all(&sent).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn what_is_executed_is_in_the_graph_and_what_is_read_later_is_live() {
    const PROGRAMS: u64 = 500;
    let programs: Vec<String> = (0..PROGRAMS).map(program::generate).collect();
    let (mut lines, mut reads) = (0, 0);
    for (seed, (program, executions)) in programs.iter().zip(run(&programs)).enumerate() {
        let source = Source::parse(program.as_bytes()).unwrap_or_else(|error| panic!("{seed}: {error}\n{program}"));
        let units = units(&source);
        for (first_line, events) in executions {
            let unit = units.iter().find(|unit| unit.kind == UnitKind::Function && unit.span.first_line == first_line);
            let checked = Checked::new(unit.unwrap(), program);
            let executed: Vec<u32> = events.iter().filter_map(|event| Some(event.as_u64()? as u32)).collect();
            lines += executed.len();
            checked.path(&executed).unwrap_or_else(|said| panic!("{seed}: {said}\n{}", numbered(program)));
            reads += checked.live(&events).unwrap_or_else(|said| panic!("{seed}: {said}\n{}", numbered(program)));
        }
    }
    assert!(lines > 20_000 && reads > 20_000, "{lines} lines and {reads} reads is too little to tell");
}

fn numbered(program: &str) -> String {
    program.lines().enumerate().map(|(number, line)| format!("{:3} {line}\n", number + 1)).collect()
}

struct Checked<'a> {
    graph: &'a Graph,
    by_line: HashMap<u32, Vec<(BlockId, usize)>>,
    /// Lines of which nothing is told.
    silent: HashSet<u32>,
    /// What is live before each step of each block.
    live: Vec<Vec<Variables>>,
}

impl<'a> Checked<'a> {
    fn new(unit: &'a Unit<'_>, program: &str) -> Self {
        let graph = &unit.graph;
        let mut by_line: HashMap<_, Vec<_>> = HashMap::new();
        for (number, block) in graph.blocks.iter().enumerate() {
            for (at, step) in block.steps.iter().enumerate() {
                by_line.entry(step.span.first_line).or_default().push((BlockId(number as u32), at));
            }
        }
        let silent = |line: &str| {
            ["pass", "break", "continue", "return", "try:", "except:", "while True:"].contains(&line.trim())
        };
        let lines = program.lines().enumerate();
        let silent = lines.filter(|(_, line)| silent(line)).map(|(at, _)| at as u32 + 1).collect();
        let liveness = Liveness::of(graph);
        let before = |(id, block): (usize, &Block)| {
            (0..block.steps.len()).map(|step| liveness.before(graph, BlockId(id as u32), step)).collect()
        };
        let live = graph.blocks.iter().enumerate().map(before).collect();
        Self { graph, by_line, silent, live }
    }

    fn step(&self, at: (BlockId, usize)) -> Option<&Step> {
        self.graph.block(at.0).steps.get(at.1)
    }

    /// Whether a step may be executed without being told of, coming from a step of this line.
    fn may_be_silent(&self, step: &Step, from: Option<u32>) -> bool {
        let leaves_a_with = step.kind == StepKind::Context && step.reads.is_empty();
        // Steps of one line are told of once.
        leaves_a_with || self.silent.contains(&step.span.first_line) || Some(step.span.first_line) == from
    }

    /// The steps that may come next: of a place, or after it once it is taken.
    fn next(&self, from: (BlockId, usize), taken: bool) -> HashSet<(BlockId, usize)> {
        let line = self.step(from).filter(|_| taken).map(|step| step.span.first_line);
        let (mut found, mut seen) = (HashSet::new(), HashSet::new());
        let mut waiting = vec![(from, taken)];
        while let Some((at, taken)) = waiting.pop() {
            if !seen.insert((at, taken)) {
                continue;
            }
            match self.step(at) {
                Some(step) if !taken => {
                    found.insert(at);
                    if self.may_be_silent(step, line) {
                        waiting.push((at, true));
                    }
                }
                step => {
                    let block = self.graph.block(at.0);
                    if at.1 + 1 < block.steps.len() {
                        waiting.push(((at.0, at.1 + 1), false));
                    }
                    let is_last = at.1 + 1 >= block.steps.len();
                    for edge in &block.edges {
                        if is_last || (edge.kind == EdgeKind::Exception && step.is_some()) {
                            waiting.push(((edge.to, 0), false));
                        }
                    }
                }
            }
        }
        found
    }

    fn path(&self, lines: &[u32]) -> Result<(), String> {
        let mut at: HashSet<(BlockId, usize)> = HashSet::new();
        for (number, line) in lines.iter().enumerate() {
            let next: HashSet<_> = if number == 0 {
                self.next((Graph::ENTRY, 0), false)
            } else {
                at.iter().flat_map(|at| self.next(*at, true)).collect()
            };
            let is_here = |at: &(BlockId, usize)| self.step(*at).is_some_and(|step| step.span.first_line == *line);
            at = next.into_iter().filter(is_here).collect();
            if at.is_empty() {
                let before = number.checked_sub(1).map(|before| lines[before]);
                return Err(format!("no way from line {before:?} to line {line}"));
            }
        }
        Ok(())
    }

    fn live(&self, events: &[serde_json::Value]) -> Result<usize, String> {
        let mut reads = 0;
        let mut read_next: HashSet<&str> = HashSet::new();
        for event in events.iter().rev() {
            if let Some(access) = event.as_str() {
                match access.strip_prefix('+') {
                    Some(read) => read_next.insert(read),
                    None => read_next.remove(&access[1..]),
                };
                continue;
            }
            let line = event.as_u64().unwrap() as u32;
            let places = self.by_line.get(&line).ok_or_else(|| format!("line {line} has no step"))?;
            for name in &read_next {
                let variable = self.graph.variable(name).ok_or_else(|| format!("{name} is no variable"))?;
                reads += 1;
                if !places.iter().any(|(block, step)| self.live[block.0 as usize][*step].has(variable)) {
                    return Err(format!("{name} is read after line {line} but not live there"));
                }
            }
        }
        Ok(reads)
    }
}

#[test]
fn statements_form_a_tree() {
    for seed in 0..50 {
        let program = program::generate(seed);
        let source = Source::parse(program.as_bytes()).unwrap();
        for unit in units(&source) {
            let graph = &unit.graph;
            let within = graph.statements.iter().flat_map(|statement| statement.suites.iter().flatten());
            let mut all: Vec<_> = within.chain(&graph.body).collect();
            all.sort_unstable();
            all.dedup();
            assert_eq!(all.len(), graph.statements.len(), "each is in one suite");
            for (_, step) in graph.steps() {
                let statement = graph.statement(step.statement);
                assert!(statement.span.start <= step.span.start && step.span.end <= statement.span.end);
                assert!(statement.kind != StatementKind::Simple || statement.suites.is_empty());
            }
        }
    }
}
