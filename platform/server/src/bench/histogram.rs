//! Latencies counted in buckets whose width grows with their value, as HdrHistogram does: within 1 % at any size, in one
//! fixed array, so that recording one costs a few instructions.

/// Buckets an octave has, as a power of two: 128, so a bucket is 1/128 of its value wide.
const STEPS_LOG2: u32 = 7;
const STEPS: u64 = 1 << STEPS_LOG2;

/// Octaves above the first: up to 2^40 ns, a quarter of an hour.
const OCTAVES: usize = 34;

/// How many latencies fell into each bucket.
#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; OCTAVES * STEPS as usize], total: 0 }
    }
}

impl Histogram {
    /// Counts one latency.
    pub fn record(&mut self, nanos: u64) {
        let index = index_of(nanos).min(self.counts.len() - 1);
        if let Some(count) = self.counts.get_mut(index) {
            *count += 1;
            self.total += 1;
        }
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The latency that this share of them does not exceed, nanoseconds; 0 where none was counted.
    pub fn quantile(&self, share: f64) -> f64 {
        let wanted = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return middle_of(index);
            }
        }
        0.0
    }
}

fn index_of(nanos: u64) -> usize {
    if nanos < STEPS {
        return nanos as usize;
    }
    let octave = nanos.ilog2() - STEPS_LOG2;
    let step = (nanos >> octave) - STEPS;
    (u64::from(octave + 1) * STEPS + step) as usize
}

fn middle_of(index: usize) -> f64 {
    let index = index as u64;
    if index < STEPS {
        return index as f64;
    }
    let (octave, step) = (index / STEPS - 1, index % STEPS);
    let low = (STEPS + step) << octave;
    low as f64 + ((1u64 << octave) - 1) as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_one_percent() {
        let mut histogram = Histogram::default();
        for nanos in 1..=1_000_000 {
            histogram.record(nanos);
        }
        assert_eq!(histogram.count(), 1_000_000);
        for (share, expected) in [(0.01, 10_000.0), (0.5, 500_000.0), (0.99, 990_000.0)] {
            let found = histogram.quantile(share);
            assert!((found / expected - 1.0_f64).abs() < 0.01, "{share}: {found}");
        }
    }

    #[test]
    fn every_value_has_a_bucket_near_it() {
        for nanos in [0, 1, 127, 128, 129, 255, 256, 1_000, 999_999_999, 1 << 39] {
            let middle = middle_of(index_of(nanos));
            assert!((middle - nanos as f64).abs() <= nanos as f64 / 128.0, "{nanos}: {middle}");
        }
        let mut histogram = Histogram::default();
        histogram.record(u64::MAX);
        assert_eq!(histogram.count(), 1);
        assert!(Histogram::default().quantile(0.5).abs() < f64::EPSILON);
    }
}
