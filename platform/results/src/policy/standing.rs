//! How results rank: what one is worth, how that ages, and how fast.

/// Requests counted at most: what was asked for more often than this is not worth more, so that what was once asked for
/// very often does not stay for ever when nobody asks any more.
const FREQUENCY_MAX: f32 = 1_024.0;

/// How fast the inflation of a tenant follows the ranks of what goes out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// With `n` entries, each that goes out closes `turnover / n` of the gap between the inflation and its rank, and all of it at
    /// most. Infinite: all of it always, which is greedy-dual as published. Nought: none, nothing ages.
    turnover: f64,
}

impl Pace {
    /// A pace by its turnover.
    pub const fn new(turnover: f64) -> Self {
        Self { turnover }
    }

    /// The inflation after something of this rank went out, or did not come in, of a tenant that has so many entries.
    pub fn inflated(self, inflation: f64, rank: f64, entries: usize) -> f64 {
        let part = (self.turnover / entries.max(1) as f64).min(1.0);
        inflation + part * (rank - inflation).max(0.0)
    }
}

/// What is known of a key's standing, be its result kept or not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standing {
    /// The lowest goes first. The inflation when it was last asked for, and its worth.
    pub rank: f64,
    /// How often it was asked for, as far as that is remembered.
    pub frequency: f32,
}

impl Standing {
    /// The standing once asked for, at a tenant's inflation. `density` is cost for each byte.
    ///
    /// What is known already counts in full if the inflation has not moved since. Otherwise by the fourth root of the part of
    /// its lifetime that was left (if it is still kept) or that it makes of the time since (if it is not). The fourth root is what
    /// measurements on public traces showed to be best over all paces; a square root and a half for all were close behind.
    pub fn asked(known: Option<Self>, density: f64, inflation: f64) -> Self {
        let remembered = known.map_or(0.0, |known| {
            let worth = f64::from(known.frequency) * density;
            let age = (inflation - (known.rank - worth)).max(0.0);
            known.frequency * ((worth / (worth + age)).sqrt().sqrt() as f32)
        });
        let frequency = (1.0 + remembered).min(FREQUENCY_MAX);
        Self { rank: inflation + f64::from(frequency) * density, frequency }
    }
}

/// Cost for each byte. Never nought, so that what costs nothing measurable still ranks by how often it is asked for.
pub fn density(cost_us: u64, size: u64) -> f64 {
    cost_us.max(1) as f64 / size.max(1) as f64
}
