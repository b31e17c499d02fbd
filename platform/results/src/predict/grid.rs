//! Grids: fields with few different values span a grid, and calls go over its cells.
//!
//! As experiment runners and reports do: one call for every combination of some lists. The values that a field has shown are its
//! axis; cells that nobody asked for yet are named from the last call on, in the order of an odometer whose fastest wheel is the
//! field that has changed most often (the order of nested loops, the iteration spaces of Wolf and Lam, PLDI 1991), so that calls
//! in order find the next cells and calls in any order find the missing ones. An axis whose values have equal distances is one
//! longer than was seen, until calls turn back on it.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;

use super::arguments::{Arguments, Shape};
use super::proposal::{Proposal, Proposals, Seen, Source, share_class};
use super::scalar::{Kind, Scalar, hash_scalar};

/// Shapes at most; that which was used longest ago goes first.
const PLANES_MAX: usize = 2;
/// Different values of a field at most: one with more is no axis.
const AXIS_MAX: usize = 48;
/// Values of all axes of a shape together at most.
const VALUES_MAX: usize = 160;
/// Bytes of a value that is text at most: a field with a longer one is no axis.
const AXIS_TEXT_MAX_BYTES: usize = 32;
/// Values of an axis with equal distances before it is taken to go on.
const AXIS_STEADY: usize = 3;
/// After a field has shown more values than an axis has, the grid is quiet for so many calls.
const QUIET_CALLS: u64 = 256;
/// Cells that are remembered as seen: one to a place, by hash, a later one instead of an earlier one.
const CELLS_MAX: usize = 4_096;
/// Cells that are looked at for each call, and those that are named.
const SCAN_MAX: usize = 96;
const NAMED_MAX: usize = 12;
/// How much the latest call counts in what is smoothed.
const LATEST: f64 = 1.0 / 16.0;
/// Calls within which a named cell must be asked for where cells are gone over in order, and where they are not: then as many as
/// a grid that is worth going over may have cells.
const CALLS_IN_ORDER: u32 = 64;
const CALLS_ANY_ORDER: u32 = 4_096;

struct AxisValue {
    scalar: Scalar,
    /// The call that showed it last.
    used: u64,
    hash: u64,
}

struct Axis {
    /// In the order of the number line, or in that in which they came.
    values: Vec<AxisValue>,
    /// How often the field changes from call to call, smoothed.
    speed: f64,
    /// Calls have gone back on it since it last grew at its end.
    turned: bool,
}

struct Plane {
    shape: Arc<Shape>,
    used: u64,
    /// Calls, and those of them that went to another cell.
    calls: u32,
    moves: u32,
    axes: Vec<Axis>,
    cells: Box<[u32]>,
    /// The last call's cell.
    at: Vec<usize>,
    /// The cell that the odometer would have gone to from there.
    next: Vec<usize>,
    /// How often calls went there, and how often to a cell that was not seen before; smoothed.
    in_order: f64,
    fresh: f64,
    quiet_until: u64,
}

#[derive(Default)]
pub(super) struct Grid {
    planes: Vec<Plane>,
}

impl Grid {
    pub fn observe(&mut self, seen: &Seen<'_>, out: &mut Proposals) {
        let Some((shape, scalars)) = seen.arguments.fields() else { return };
        // One field is no grid.
        if scalars.len() < 2 {
            return;
        }
        let at = match self.planes.iter().position(|plane| Arc::ptr_eq(&plane.shape, shape)) {
            Some(at) => at,
            None if self.planes.len() < PLANES_MAX => {
                self.planes.push(Plane::new(shape));
                self.planes.len() - 1
            }
            None => {
                let oldest = self.planes.iter().enumerate().min_by_key(|(_, plane)| plane.used);
                let at = oldest.map_or(0, |(at, _)| at);
                // A shape must stay away for a while before another takes its place.
                if self.planes[at].used + QUIET_CALLS > seen.number {
                    return;
                }
                self.planes[at] = Plane::new(shape);
                at
            }
        };
        let plane = &mut self.planes[at];
        plane.observe(seen, scalars);
        plane.propose(seen, out);
    }

    /// Bytes held, about.
    pub fn bytes(&self) -> usize {
        let text = |value: &AxisValue| if let Scalar::Text(text) = &value.scalar { 16 + text.len() } else { 0 };
        let axis = |axis: &Axis| {
            size_of::<Axis>()
                + axis.values.capacity() * size_of::<AxisValue>()
                + axis.values.iter().map(text).sum::<usize>()
        };
        let plane = |plane: &Plane| CELLS_MAX * size_of::<u32>() + plane.axes.iter().map(axis).sum::<usize>();
        self.planes.iter().map(plane).sum()
    }
}

impl Plane {
    fn new(shape: &Arc<Shape>) -> Self {
        let axis = || Axis { values: Vec::new(), speed: 0.0, turned: false };
        Self {
            shape: Arc::clone(shape),
            used: 0,
            calls: 0,
            moves: 0,
            axes: shape.kinds().iter().map(|_| axis()).collect(),
            cells: vec![0; CELLS_MAX].into(),
            at: Vec::new(),
            next: Vec::new(),
            in_order: 0.0,
            fresh: 0.0,
            quiet_until: 0,
        }
    }

    fn observe(&mut self, seen: &Seen<'_>, scalars: &[Scalar]) {
        self.used = seen.number;
        let before: Vec<usize> = std::mem::take(&mut self.at);
        let is_long = |scalar: &Scalar| matches!(scalar, Scalar::Text(text) if text.len() > AXIS_TEXT_MAX_BYTES);
        if scalars.iter().any(is_long) {
            self.quiet_until = seen.number + QUIET_CALLS;
            return;
        }
        let (mut shifted, mut values) = (false, 0);
        let mut at = Vec::with_capacity(scalars.len());
        for ((axis, kind), scalar) in self.axes.iter_mut().zip(self.shape.kinds()).zip(scalars) {
            let (index, new) = axis.observe(kind, scalar, seen.number);
            values += axis.values.len();
            if axis.values.len() > AXIS_MAX || values > VALUES_MAX {
                values -= 1;
                axis.forget_oldest();
                self.quiet_until = seen.number + QUIET_CALLS;
            }
            // One that comes in at the end moves no other.
            shifted |= new && index + 1 < axis.values.len();
            at.push(index.min(axis.values.len().saturating_sub(1)));
        }
        // Where an axis has a new value, in the middle, places have moved: what was the next cell cannot be told.
        if !shifted && before.len() == at.len() {
            for (index, axis) in self.axes.iter_mut().enumerate() {
                let changed = at[index] != before[index];
                axis.speed += LATEST * (f64::from(u8::from(changed)) - axis.speed);
                axis.turned |= at[index] < before[index];
            }
            if at != before && !self.next.is_empty() {
                self.moves = self.moves.saturating_add(1);
                smooth(&mut self.in_order, self.moves, at == self.next);
            }
        }
        let fresh = self.note(self.hash(&at));
        self.calls = self.calls.saturating_add(1);
        smooth(&mut self.fresh, self.calls, fresh);
        self.at = at;
    }

    /// What a cell is remembered by; `None` of one behind the end of an axis, which was never seen.
    fn hash(&self, cell: &[usize]) -> Option<u64> {
        cell.iter().zip(&self.axes).try_fold(0u64, |all, (at, axis)| {
            let mixed = (all ^ axis.values.get(*at)?.hash).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            Some(mixed ^ (mixed >> 29))
        })
    }

    /// Remembers a cell. Returns whether it is a new one.
    fn note(&mut self, hash: Option<u64>) -> bool {
        let Some(hash) = hash else { return false };
        let tag = ((hash >> 32) as u32).max(1);
        let place = hash as usize % CELLS_MAX;
        std::mem::replace(&mut self.cells[place], tag) != tag
    }

    fn is_seen(&self, hash: Option<u64>) -> bool {
        hash.is_some_and(|hash| self.cells[hash as usize % CELLS_MAX] == ((hash >> 32) as u32).max(1))
    }

    fn propose(&mut self, seen: &Seen<'_>, out: &mut Proposals) {
        let kinds = self.shape.kinds();
        let in_order = share_class(self.in_order);
        self.next.clear();
        // How many values each axis has, with the one that it may go on to.
        let lengths: Vec<usize> = self
            .axes
            .iter()
            .zip(kinds)
            .map(|(axis, kind)| axis.values.len() + usize::from(in_order > 0 && axis.goes_on(kind)))
            .collect();
        let mut wheels: Vec<usize> = (0..lengths.len()).filter(|axis| lengths[*axis] > 1).collect();
        if wheels.len() < 2 || seen.number < self.quiet_until {
            return;
        }
        wheels.sort_by(|one, other| self.axes[*other].speed.total_cmp(&self.axes[*one].speed));
        let cells = lengths.iter().fold(1usize, |cells, length| cells.saturating_mul(*length));
        let mut cell = self.at.clone();
        let mut named = 0;
        for scanned in 0..SCAN_MAX.min(cells - 1) {
            turn(&mut cell, &wheels, &lengths);
            if scanned == 0 {
                self.next.clone_from(&cell);
            }
            if self.is_seen(self.hash(&cell)) {
                continue;
            }
            let scalars: Option<Vec<Scalar>> =
                cell.iter().zip(&self.axes).zip(kinds).map(|((at, axis), kind)| axis.value(kind, *at)).collect();
            let Some(scalars) = scalars else { continue };
            let arguments = Arguments::of_scalars(&self.shape, scalars);
            named += 1;
            let calls = if in_order > 0 { CALLS_IN_ORDER } else { CALLS_ANY_ORDER };
            out.push(Proposal {
                arguments,
                source: Source::Grid,
                grade: in_order * 6 + distance(scanned) * 2 + u8::from(self.fresh >= 0.5),
                calls,
                until_us: u64::MAX,
                from_us: 0,
            });
            if named == NAMED_MAX {
                break;
            }
        }
    }
}

/// Takes what happened into a share; of the first few, each counts as much as the others.
fn smooth(share: &mut f64, times: u32, happened: bool) {
    *share += LATEST.max(1.0 / f64::from(times.max(1))) * (f64::from(u8::from(happened)) - *share);
}

/// How far along the odometer's way: near, further, far.
fn distance(scanned: usize) -> u8 {
    match scanned {
        0..=2 => 0,
        3..=9 => 1,
        _ => 2,
    }
}

/// The next cell; after the last comes the first.
fn turn(cell: &mut [usize], wheels: &[usize], lengths: &[usize]) {
    for wheel in wheels {
        cell[*wheel] += 1;
        if cell[*wheel] < lengths[*wheel] {
            return;
        }
        cell[*wheel] = 0;
    }
}

impl Axis {
    /// Where a value is, and whether it is new.
    fn observe(&mut self, kind: &Kind, scalar: &Scalar, number: u64) -> (usize, bool) {
        let found = match kind.position(scalar) {
            Some(position) => self.values.binary_search_by(|value| kind.position(&value.scalar).cmp(&Some(position))),
            None => self.values.iter().position(|value| value.scalar == *scalar).ok_or(self.values.len()),
        };
        match found {
            Ok(at) => {
                self.values[at].used = number;
                (at, false)
            }
            Err(at) => {
                // What goes on past the end has not turned back there.
                self.turned &= at < self.values.len();
                let mut hasher = DefaultHasher::new();
                hash_scalar(scalar, &mut hasher);
                self.values.insert(at, AxisValue { scalar: scalar.clone(), used: number, hash: hasher.finish() });
                (at, true)
            }
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self.values.iter().enumerate().min_by_key(|(_, value)| value.used);
        if let Some(at) = oldest.map(|(at, _)| at) {
            self.values.remove(at);
        }
    }

    /// Whether its values have equal distances and go on.
    fn goes_on(&self, kind: &Kind) -> bool {
        if self.turned || self.values.len() < AXIS_STEADY || self.values.len() >= AXIS_MAX {
            return false;
        }
        let Some(step) = self.step(kind) else { return false };
        self.values.windows(2).all(|pair| {
            kind.position(&pair[0].scalar).and_then(|first| first.checked_add(step)) == kind.position(&pair[1].scalar)
        })
    }

    fn step(&self, kind: &Kind) -> Option<i64> {
        let [.., before, last] = self.values.as_slice() else { return None };
        kind.position(&last.scalar)?.checked_sub(kind.position(&before.scalar)?)
    }

    /// The value at a place, be it the one behind the last.
    fn value(&self, kind: &Kind, at: usize) -> Option<Scalar> {
        if let Some(value) = self.values.get(at) {
            return Some(value.scalar.clone());
        }
        kind.scalar(kind.position(&self.values.last()?.scalar)?.checked_add(self.step(kind)?)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn after(events: impl IntoIterator<Item = Value>) -> (Grid, Vec<Value>) {
        let (mut grid, mut shapes) = (Grid::default(), Vec::new());
        let mut last = Vec::new();
        for (number, event) in (0..).zip(events) {
            let arguments = Arguments::read(&event, &mut shapes, 4);
            let mut out = Proposals::default();
            grid.observe(&Seen { arguments: &arguments, number, now_us: 0, expires_us: u64::MAX }, &mut out);
            last = out.drain().map(|proposal| proposal.arguments.event().unwrap()).collect();
        }
        (grid, last)
    }

    #[test]
    fn the_hole_in_a_grid_is_named() {
        let cell =
            |at: usize| json!({"city": (["Graz", "Linz", "Wels"][at % 3]), "unit": (["C", "F"][at / 3]), "v": 1});
        assert_eq!(after([0, 1, 2, 3, 5].map(cell)).1, [cell(4)]);
        assert_eq!(after((0..6).map(cell)).1, Vec::<Value>::new());
    }

    #[test]
    fn nested_loops_are_followed_in_their_order() {
        let cell = |at: i64| json!({"a": at / 100, "b": at / 10 % 10, "c": at % 10});
        assert_eq!(after((0..=123).map(cell)).1[..3], [cell(124), cell(125), cell(126)]);
        // Over the end of the inner loop.
        assert_eq!(after((0..=129).map(cell)).1[..2], [cell(130), cell(131)]);
    }

    #[test]
    fn an_axis_goes_on_until_it_has_turned_back() {
        let cell =
            |at: i64| json!({"day": format!("2026-02-{:02}", 25 + at / 2), "kind": (["in", "out"][at as usize % 2])});
        let named = after((0..=7).map(cell)).1;
        assert_eq!(named, [json!({"day": "2026-03-01", "kind": "in"}), json!({"day": "2026-03-01", "kind": "out"})]);
        // Round and round the same days: there is no other.
        assert!(after((0..=40).map(|at| cell(at % 8))).1.is_empty());
    }

    #[test]
    fn a_field_of_many_values_is_no_axis_and_memory_is_bounded() {
        let (grid, named) = after((0..3_000u64).map(|at| json!({"id": at * at * 7_919 % 100_003, "b": at % 3})));
        assert!(named.is_empty());
        assert!(grid.bytes() < 48 * 1024, "{}", grid.bytes());
    }
}
