//! A plan that is being worked on: what is chosen, what it takes and saves, and what a change of one region would do to it.

use super::contributions::{Contributions, Path};
use super::instance::Instance;

/// Of a sum of savings, what may be nothing but rounding.
const ROUNDING: f64 = 1e-10;

/// A set of chosen places.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub chosen: Vec<bool>,
    /// Which regions around each place are chosen.
    paths: Vec<Path>,
    pub bytes: u64,
    pub value_us: f64,
}

impl Plan {
    /// Nothing chosen.
    pub fn empty(instance: &Instance) -> Self {
        Self { chosen: vec![false; instance.nodes()], paths: vec![0; instance.nodes()], bytes: 0, value_us: 0.0 }
    }

    /// Those of these places that may be chosen.
    pub fn of(chosen: &[bool], contributions: &mut Contributions<'_>) -> Self {
        let mut plan = Self::empty(contributions.instance);
        for place in (0..chosen.len()).filter(|place| chosen[*place]) {
            if contributions.may_be_chosen(place) {
                plan.toggle(place, contributions);
            }
        }
        plan
    }

    /// The chosen places.
    pub fn places(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.chosen.len()).filter(|place| self.chosen[*place])
    }

    /// Whether a region would fit in beside what is chosen.
    pub fn fits(&self, place: usize, instance: &Instance) -> bool {
        self.bytes.checked_add(instance.regions[place].bytes).is_some_and(|bytes| bytes <= instance.budget)
    }

    /// By how much the value would change if a region that is not chosen were, or one that is were not.
    pub fn change(&self, place: usize, contributions: &mut Contributions<'_>) -> f64 {
        let (end, own) = (contributions.instance.regions[place].end, contributions.bit(place));
        let itself = contributions.of(place, self.paths[place]);
        let mut change = if self.chosen[place] { -itself } else { itself };
        contributions.worked((end - place) / 8);
        for inner in (place + 1..end).filter(|inner| self.chosen[*inner]) {
            let path = self.paths[inner];
            change += contributions.of(inner, path ^ own) - contributions.of(inner, path);
        }
        change
    }

    /// Chooses a region that is not chosen, or no longer one that is. It has to be one that may be chosen.
    pub fn toggle(&mut self, place: usize, contributions: &mut Contributions<'_>) {
        self.value_us += self.change(place, contributions);
        let region = &contributions.instance.regions[place];
        let own = contributions.bit(place);
        self.paths[place + 1..region.end].iter_mut().for_each(|path| *path ^= own);
        self.chosen[place] = !self.chosen[place];
        self.bytes = if self.chosen[place] {
            self.bytes.saturating_add(region.bytes)
        } else {
            self.bytes.saturating_sub(region.bytes)
        };
    }

    /// Drops regions as long as one is a loss, the greatest first. Returns which.
    pub fn prune(&mut self, contributions: &mut Contributions<'_>) -> Vec<usize> {
        let mut dropped = Vec::new();
        loop {
            let worst = self.worst(contributions, |change, _| change);
            let Some((place, _)) = worst.filter(|(_, change)| *change > self.rounding()) else { return dropped };
            self.toggle(place, contributions);
            dropped.push(place);
        }
    }

    /// Drops regions that are worth least for each byte until the rest fits, but not this one. Returns which.
    pub fn squeeze(&mut self, kept: Option<usize>, contributions: &mut Contributions<'_>) -> Vec<usize> {
        let mut dropped = Vec::new();
        while self.bytes > contributions.instance.budget {
            let worst = self.worst(
                contributions,
                |change, (place, bytes)| {
                    if Some(place) == kept { f64::NEG_INFINITY } else { change / bytes }
                },
            );
            let Some((place, _)) = worst.filter(|(place, _)| Some(*place) != kept) else { return dropped };
            self.toggle(place, contributions);
            dropped.push(place);
        }
        dropped
    }

    /// What may be nothing but rounding in its value.
    pub fn rounding(&self) -> f64 {
        ROUNDING * (1.0 + self.value_us.abs())
    }

    /// The chosen region that ranks highest by what dropping it would change, and that rank.
    fn worst(
        &self,
        contributions: &mut Contributions<'_>,
        rank: impl Fn(f64, (usize, f64)) -> f64,
    ) -> Option<(usize, f64)> {
        let ranked = self.places().map(|place| {
            let bytes = contributions.instance.regions[place].bytes.max(1) as f64;
            (place, rank(self.change(place, contributions), (place, bytes)))
        });
        ranked.max_by(|(_, rank), (_, other)| rank.total_cmp(other))
    }
}
