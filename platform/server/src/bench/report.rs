//! What was measured: series of runs, compared by the ratio of their medians, for people and for machines.

use serde::Serialize;

use super::machine::Machine;

/// One side's figures, a run each.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Series {
    /// Whose they are.
    pub side: String,
    /// The figures in the order they were taken.
    pub runs: Vec<f64>,
    /// Their median.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
}

impl Series {
    /// Of these runs.
    pub fn new(side: impl Into<String>, runs: Vec<f64>) -> Self {
        let mut sorted = runs.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median = match sorted.len() {
            0 => 0.0,
            even if even % 2 == 0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
            _ => sorted[middle],
        };
        let (min, max) = (sorted.first().copied().unwrap_or(0.0), sorted.last().copied().unwrap_or(0.0));
        Self { side: side.into(), runs, median, min, max }
    }

    fn show(&self, unit: &str) -> String {
        let figure = |value: f64| match value {
            value if value >= 1000.0 => format!("{value:.0}"),
            value if value >= 10.0 => format!("{value:.1}"),
            value => format!("{value:.3}"),
        };
        match self.runs.len() {
            0 | 1 => format!("{}: {} {unit}", self.side, figure(self.median)),
            _ => format!("{}: {} {unit} ({}-{})", self.side, figure(self.median), figure(self.min), figure(self.max)),
        }
    }
}

/// What is asked of a figure.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The median is at most this.
    AtMost(f64),
    /// The median is at most this many times the peer's.
    TimesPeerAtMost(f64),
    /// The median is at least this many times the peer's.
    TimesPeerAtLeast(f64),
    /// The median is more than this many times the peer's.
    TimesPeerAbove(f64),
}

/// One figure, measured.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What was measured, as `--only` names it.
    pub figure: &'static str,
    /// What it is, in words.
    pub what: String,
    /// The unit of both sides' figures.
    pub unit: &'static str,
    /// The platform's.
    pub ours: Series,
    /// The peer's.
    pub peer: Option<Series>,
    /// Ours divided by the peer's, medians.
    pub ratio: Option<f64>,
    /// What is asked of it.
    pub target: Target,
    /// Whether that is met.
    pub passed: bool,
    /// What else there is to know.
    pub notes: Vec<String>,
}

impl Row {
    /// Compares.
    pub fn new(
        figure: &'static str,
        what: impl Into<String>,
        unit: &'static str,
        target: Target,
        ours: Series,
        peer: Option<Series>,
    ) -> Self {
        let ratio = peer.as_ref().filter(|peer| peer.median > 0.0).map(|peer| ours.median / peer.median);
        let passed = match target {
            Target::AtMost(most) => ours.median <= most,
            Target::TimesPeerAtMost(most) => ratio.is_some_and(|ratio| ratio <= most),
            Target::TimesPeerAtLeast(least) => ratio.is_some_and(|ratio| ratio >= least),
            Target::TimesPeerAbove(least) => ratio.is_some_and(|ratio| ratio > least),
        };
        Self { figure, what: what.into(), unit, ours, peer, ratio, target, passed, notes: Vec::new() }
    }

    /// With something else to know.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }
}

/// All of it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What it was measured on.
    pub machine: Machine,
    /// What it was compared with.
    pub peers: Vec<(&'static str, Option<String>)>,
    /// The figures.
    pub rows: Vec<Row>,
    /// Figures that could not be taken, and why.
    pub failures: Vec<(&'static str, String)>,
}

impl Report {
    /// Whether every figure was taken and is as asked.
    pub fn passed(&self) -> bool {
        self.failures.is_empty() && self.rows.iter().all(|row| row.passed)
    }

    /// For people.
    pub fn text(&self) -> String {
        let Machine { processor, cores, kernel, memory_mb } = &self.machine;
        let mut text = format!("{processor}, {cores} cores, {memory_mb} MiB, Linux {kernel}\n");
        for (name, version) in &self.peers {
            text += &format!("{name}: {}\n", version.as_deref().unwrap_or("not installed"));
        }
        for row in &self.rows {
            let verdict = if row.passed { "pass" } else { "FAIL" };
            text += &format!("\n{verdict}  {}  {}\n      {}", row.figure, row.what, row.ours.show(row.unit));
            if let Some(peer) = &row.peer {
                text += &format!(" · {}", peer.show(row.unit));
            }
            let ratio = row.ratio.map(|ratio| format!("ratio {ratio:.3}, ")).unwrap_or_default();
            let asked = match row.target {
                Target::AtMost(most) => format!("at most {most} {}", row.unit),
                Target::TimesPeerAtMost(most) => format!("at most {most}"),
                Target::TimesPeerAtLeast(least) => format!("at least {least}"),
                Target::TimesPeerAbove(least) => format!("above {least}"),
            };
            text += &format!("\n      {ratio}asked: {asked}\n");
            for note in &row.notes {
                text += &format!("      {note}\n");
            }
        }
        for (figure, why) in &self.failures {
            text += &format!("\nnot measured  {figure}  {why}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_targets() {
        let series = |runs: &[f64]| Series::new("x", runs.to_vec());
        let same = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        same(series(&[3.0, 1.0, 2.0]).median, 2.0);
        same(series(&[4.0, 1.0, 2.0, 3.0]).median, 2.5);
        same(series(&[]).median, 0.0);
        for (target, passed) in [
            (Target::AtMost(2.0), true),
            (Target::AtMost(1.9), false),
            (Target::TimesPeerAtMost(0.5), true),
            (Target::TimesPeerAtMost(0.4), false),
            (Target::TimesPeerAtLeast(0.5), true),
            (Target::TimesPeerAbove(0.5), false),
        ] {
            let row = Row::new("f", "w", "u", target, series(&[2.0]), Some(series(&[4.0])));
            assert_eq!(row.passed, passed, "{target:?}");
        }
        assert!(!Row::new("f", "w", "u", Target::TimesPeerAtLeast(0.0), series(&[2.0]), None).passed);
    }
}
