//! How long a selection takes: `cargo run --release -p raas-analyzer --example selection_speed`.
//!
//! Prints, for 64 nodes over 2,000 observed calls in forests of several shapes, the median and the longest of 100 selections by each
//! policy, each of another instance, and what the plans save, as a part of the bound that no plan can be above.

use std::time::{Duration, Instant};

use raas_analyzer::select::{CallSet, Instance as Choice, Node, Optimality, Policy, select};

const NODES: usize = 64;
const CALLS: usize = 2_000;
const ROUNDS: usize = 100;

/// How nodes lie in each other.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// None in another.
    Flat,
    /// None in another, and all worth the same for what they take, but for a constant: the hardest to choose from.
    Alike,
    /// Each in any that came before, or in none.
    Random,
    /// Trees of eight, each node in one of the last three of its tree.
    Deep,
    /// Pairs in pairs in pairs.
    Binary,
    /// Each in the one before: deeper than any code.
    Chain,
}

impl Shape {
    fn parent(self, random: &mut fastrand::Rng, index: usize) -> Option<usize> {
        match self {
            Self::Flat | Self::Alike => None,
            Self::Random => (index > 0 && random.f64() < 0.9).then(|| random.usize(..index)),
            Self::Deep => {
                let first = index / 8 * 8;
                (index > first).then(|| random.usize(first.max(index.saturating_sub(3))..index))
            }
            Self::Binary => index.checked_sub(1).map(|before| before / 2),
            Self::Chain => index.checked_sub(1),
        }
    }
}

fn log_normal(random: &mut fastrand::Rng, median: f64, spread: f64) -> f64 {
    let (radius, angle) = ((-2.0 * (1.0 - random.f64()).ln()).sqrt(), random.f64() * std::f64::consts::TAU);
    median * (spread * radius * angle.cos()).exp()
}

/// Nodes that hit less often the further out they are, and save more.
fn nodes(random: &mut fastrand::Rng, shape: Shape) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::with_capacity(NODES);
    for index in 0..NODES {
        let parent = shape.parent(random, index);
        let share = 0.5 + 0.5 * random.f64();
        let executed = CallSet::where_true(CALLS, |call| {
            parent.is_none_or(|parent| nodes[parent].executed.has(call)) && random.f64() < share
        });
        let (own, kept) = (random.f64(), random.f64());
        let hits = CallSet::where_true(CALLS, |call| {
            let around = parent.is_some_and(|parent| nodes[parent].hits.has(call));
            random.f64() < if around { 1.0 - 0.2 * kept } else { own * 0.6 }
        });
        let bytes = log_normal(random, 1e6, 1.3);
        let missed_us = 20.0 + 400.0 * random.f64();
        let saved_us = match shape {
            Shape::Alike => {
                let number = |wanted: bool| {
                    (0..CALLS).filter(|call| executed.has(*call) && hits.has(*call) == wanted).count() as f64
                };
                (bytes + 1e5 + missed_us * number(false)) / number(true).max(1.0)
            }
            _ => log_normal(random, 3_000.0, 1.3),
        };
        nodes.push(Node { parent, bytes: bytes as u64, saved_us, missed_us, executed, hits });
    }
    for index in (0..NODES).rev() {
        if let Some(parent) = nodes[index].parent {
            nodes[parent].saved_us += 0.7 * nodes[index].saved_us;
        }
    }
    nodes
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("{NODES} nodes, {CALLS} calls");
    for shape in [Shape::Flat, Shape::Alike, Shape::Random, Shape::Deep, Shape::Binary, Shape::Chain] {
        for part in [0.07, 0.3] {
            let mut random = fastrand::Rng::with_seed(1);
            let mut instances = Vec::with_capacity(ROUNDS);
            for _ in 0..ROUNDS {
                let nodes = nodes(&mut random, shape);
                let budget = nodes.iter().map(|node| node.bytes).sum::<u64>() as f64 * part;
                instances.push(Choice::new(CALLS, budget as u64, &nodes)?);
            }
            for policy in [Policy::Paper, Policy::Default, Policy::Exact] {
                let (mut times, mut saved, mut proven) = (Vec::with_capacity(ROUNDS), 0.0, 0);
                for instance in &instances {
                    let started = Instant::now();
                    let selection = select(instance, policy);
                    times.push(started.elapsed());
                    saved += if selection.upper_bound_us > 0.0 {
                        selection.value_us / selection.upper_bound_us
                    } else {
                        1.0
                    };
                    proven += usize::from(selection.optimality == Optimality::Proven);
                }
                times.sort_unstable();
                let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
                println!(
                    "{:<8} {:>3.0} % of the memory  {:<8} median {:>8.3} ms, longest {:>8.3} ms; {:>6.2} % of the bound, {proven} of {ROUNDS} proven",
                    format!("{shape:?}"),
                    part * 100.0,
                    format!("{policy:?}"),
                    milliseconds(times[ROUNDS / 2]),
                    milliseconds(times[ROUNDS - 1]),
                    saved * 100.0 / ROUNDS as f64,
                );
            }
        }
    }
    Ok(())
}
