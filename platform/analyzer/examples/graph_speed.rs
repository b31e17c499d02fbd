//! How long it takes to parse a folder's Python files and to build all their graphs: milliseconds for each thousand lines, over the files.
//!
//! `cargo run --release -p raas-analyzer --example graph_speed -- /usr/lib/python3.11`

use std::path::Path;
use std::time::Instant;

use raas_analyzer::liveness::{Bound, Liveness};
use raas_analyzer::python::{Source, units};

fn main() {
    let folder = std::env::args().nth(1).unwrap_or_else(|| ".".to_owned());
    let mut figures = Vec::new();
    let mut lines = 0;
    measure(Path::new(&folder), &mut figures, &mut lines);
    figures.sort_by(f64::total_cmp);
    let at = |part: f64| figures.get((figures.len() as f64 * part) as usize).copied().unwrap_or_default();
    println!(
        "{} files, {lines} lines; ms for each thousand lines: median {:.2}, 95th percentile {:.2}, most {:.2}",
        figures.len(),
        at(0.5),
        at(0.95),
        figures.last().copied().unwrap_or_default()
    );
}

fn measure(folder: &Path, figures: &mut Vec<f64>, lines: &mut usize) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            measure(&path, figures, lines);
        } else if path.extension().is_some_and(|extension| extension == "py") {
            let Ok(bytes) = std::fs::read(&path) else { continue };
            let begun = Instant::now();
            let Ok(source) = Source::parse(&bytes) else { continue };
            for unit in units(&source) {
                std::hint::black_box((Liveness::of(&unit.graph), Bound::of(&unit.graph)));
            }
            let took_ms = begun.elapsed().as_secs_f64() * 1e3;
            let count = source.text().lines().count();
            *lines += count;
            if count >= 50 {
                figures.push(took_ms * 1e3 / count as f64);
            }
        }
    }
}
