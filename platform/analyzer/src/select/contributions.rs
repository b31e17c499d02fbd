//! What each chosen region saves, given which regions around it are chosen: counted once, then looked up.
//!
//! The value of a plan is the sum of these contributions, so all search is done with them. A region with `d` around it that may be
//! chosen has `2^d` of them, and code is nested less deeply than it is long: mostly they fit in a table. Where they do not, they are
//! hashed.

use std::collections::HashMap;

use super::instance::Instance;

/// What is chosen around a place: a bit for each region there that may be chosen, the lowest for the outermost.
pub(super) type Path = u128;

/// Contributions that are hashed at a time.
const HASHED_MAX: usize = 1 << 16;
/// What a hashed look-up costs, in look-ups in a table.
const HASHED_WORK: u64 = 16;
const UNKNOWN: f64 = f64::NAN;
/// What a state costs beside the words that are counted for it, in words: it is passed through once for each price.
const STATE_WORDS: usize = 16;

/// All contributions: for each place, from where it begins, by path.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    pub bits: &'a [Path],
    pub levels: &'a [u32],
    pub starts: &'a [usize],
    pub contributions: &'a [f64],
}

impl Table<'_> {
    /// Where the contributions of a place are.
    pub fn of(&self, place: usize) -> std::ops::Range<usize> {
        self.starts[place]..self.starts[place] + (1 << self.levels[place])
    }
}

/// The contributions of an instance, and a meter of the work that was done with them.
pub(super) struct Contributions<'a> {
    pub instance: &'a Instance,
    /// The bit of each place in the paths of what it encloses. Nought where it may not be chosen.
    bits: Vec<Path>,
    /// How many regions around each place may be chosen.
    levels: Vec<u32>,
    /// Where the table of each place begins. Empty if there is none.
    starts: Vec<usize>,
    table: Vec<f64>,
    hashed: HashMap<(usize, Path), f64>,
    covered: Vec<u64>,
    work: u64,
}

impl<'a> Contributions<'a> {
    /// With a table if it takes at most so many words of calls to fill it.
    pub fn new(instance: &'a Instance, table_words_max: usize) -> Self {
        let mut starts = Vec::with_capacity(instance.nodes() + 1);
        let mut states = 0usize;
        let (mut bits, mut levels) = (Vec::<Path>::new(), Vec::<u32>::new());
        for (place, region) in instance.regions.iter().enumerate() {
            let level = region.parent.map_or(0, |parent| levels[parent] + u32::from(bits[parent] != 0));
            // What takes more than there is, or never hits, is in no plan, and in no path: that halves all that it encloses.
            let may_be_chosen = region.bytes <= instance.budget && instance.hits(place).iter().any(|word| *word != 0);
            bits.push(if may_be_chosen { 1 << level } else { 0 });
            levels.push(level);
            starts.push(states);
            states = states.saturating_add(1usize.checked_shl(level).unwrap_or(usize::MAX));
        }
        if states.saturating_mul(instance.width + STATE_WORDS) > table_words_max {
            (starts, states) = (Vec::new(), 0);
        }
        Self {
            instance,
            bits,
            levels,
            starts,
            table: vec![UNKNOWN; states],
            hashed: HashMap::new(),
            covered: vec![0; instance.width],
            work: 0,
        }
    }

    /// Whether a region may be chosen at all.
    pub fn may_be_chosen(&self, place: usize) -> bool {
        self.bits[place] != 0
    }

    /// The bit of a region in the paths of what it encloses.
    pub fn bit(&self, place: usize) -> Path {
        self.bits[place]
    }

    /// Look-ups that were made, or what took as long.
    pub fn work(&self) -> u64 {
        self.work
    }

    /// Counts work that was done elsewhere.
    pub fn worked(&mut self, work: usize) {
        self.work += work as u64;
    }

    /// What a chosen region saves where these regions around it are chosen.
    pub fn of(&mut self, place: usize, path: Path) -> f64 {
        if let Some(start) = self.starts.get(place) {
            self.work += 1;
            let at = start + path as usize;
            if self.table[at].is_nan() {
                self.table[at] = self.count(place, path);
            }
            return self.table[at];
        }
        self.work += HASHED_WORK;
        if let Some(known) = self.hashed.get(&(place, path)) {
            return *known;
        }
        let contribution = self.count(place, path);
        if self.hashed.len() >= HASHED_MAX {
            self.hashed.clear();
        }
        self.hashed.insert((place, path), contribution);
        contribution
    }

    /// All contributions. Nothing if there is no table.
    pub fn all(&mut self) -> Option<Table<'_>> {
        if self.starts.len() < self.instance.nodes() {
            return None;
        }
        let (width, instance) = (self.instance.width, self.instance);
        // What is covered on the path to the place at hand, by depth, for each choice of regions on it.
        let mut covered: Vec<Vec<u64>> = vec![vec![0; width]];
        for (place, region) in instance.regions.iter().enumerate() {
            covered.truncate(region.depth + 1);
            let start = self.starts[place];
            for choice in 0..1 << self.levels[place] {
                let open = &covered[region.depth][choice * width..(choice + 1) * width];
                if self.table[start + choice].is_nan() {
                    self.table[start + choice] = instance.contribution(place, open);
                    self.work += width as u64;
                }
            }
            if region.end > place + 1 {
                let mut below = covered[region.depth].clone();
                if self.bits[place] != 0 {
                    let chosen = below.len();
                    below.extend_from_within(..);
                    for choice in below[chosen..].chunks_exact_mut(width.max(1)) {
                        choice.iter_mut().zip(instance.hits(place)).for_each(|(word, hits)| *word |= hits);
                    }
                }
                self.work += below.len() as u64;
                covered.push(below);
            }
        }
        Some(Table { bits: &self.bits, levels: &self.levels, starts: &self.starts, contributions: &self.table })
    }

    fn count(&mut self, place: usize, path: Path) -> f64 {
        self.covered.fill(0);
        let mut around = self.instance.regions[place].parent;
        while let Some(outer) = around {
            if path & self.bits[outer] != 0 {
                self.covered.iter_mut().zip(self.instance.hits(outer)).for_each(|(word, hits)| *word |= hits);
                self.work += self.instance.width as u64;
            }
            around = self.instance.regions[outer].parent;
        }
        self.work += self.instance.width as u64;
        self.instance.contribution(place, &self.covered)
    }
}
