//! How results rank: what one is worth, how that ages, and how fast.

/// Requests counted at most: what was asked for more often than this is not worth more, so that what was once asked for
/// very often does not stay for ever when nobody asks any more.
pub(super) const FREQUENCY_MAX: f32 = 64.0;

/// How fast the inflation of a tenant follows the ranks of what goes out, and how welcome what comes is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pace {
    /// With `n` entries, each that goes out closes `turnover / n` of the gap between the inflation and its rank, and all of it at
    /// most. Infinite: all of it always, which is greedy-dual as published. Nought: none, nothing ages.
    turnover: f64,
    /// How much of the request that a result comes with counts when it is compared with what would have to go for it. Where
    /// nothing ages, less than all of it keeps the keys of a loop, all asked for as often, from pushing out each other in turn.
    newcomer: f64,
}

impl Pace {
    /// A pace by its turnover and how much a newcomer's request counts, 0 to 1.
    pub const fn new(turnover: f64, newcomer: f64) -> Self {
        Self { turnover, newcomer }
    }

    /// What a standing with which a result comes is compared by.
    pub fn contest(self, standing: Standing, density: f64) -> f64 {
        standing.rank - (1.0 - self.newcomer) * density
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
    /// How often it was asked for before counts the less, the more the inflation has grown since, next to what the key was worth
    /// then: by the fourth root of `worth / (worth + growth)`. On public traces that did best over all paces, closely followed by
    /// the square root and the fraction itself; not to forget at all, or half each time that it went out, did worse at some paces.
    ///
    /// The rank is never lower than the one before, at the same density: `worth - worth * (worth / (worth + growth))^(1/4)` is at most
    /// `growth`. The order of a shelf relies on it.
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn asking_never_lowers_a_rank(
            density in 1e-6f64..1e9, steps in prop::collection::vec(0.0f64..3.0, 1..200),
        ) {
            let (mut inflation, mut known) = (0.0, Standing::asked(None, density, 0.0));
            for step in steps {
                inflation += step * density;
                let next = Standing::asked(Some(known), density, inflation);
                // As exact as sums of such numbers are.
                prop_assert!(next.rank >= known.rank * (1.0 - 1e-6), "{next:?} after {known:?}");
                prop_assert!(next.frequency >= 1.0 && next.frequency <= FREQUENCY_MAX);
                known = next;
            }
        }
    }

    #[test]
    fn what_was_long_ago_counts_less_and_at_pace_nought_nothing_is_long_ago() {
        let often = (0..10).fold(None, |known, _| Some(Standing::asked(known, 1.0, 0.0)));
        let again = |inflation| Standing::asked(often, 1.0, inflation).frequency;
        assert_eq!(again(0.0), 11.0);
        assert!(again(1_000.0) < 5.0 && again(1_000.0) > again(1_000_000.0), "{}", again(1_000.0));
        assert_eq!(Pace::new(0.0, 1.0).inflated(3.0, 10.0, 1), 3.0);
        assert_eq!(Pace::new(f64::INFINITY, 1.0).inflated(3.0, 10.0, 1_000), 10.0);
        assert_eq!(Pace::new(1.0, 1.0).inflated(3.0, 13.0, 10), 4.0);
    }
}
