//! Which parts of an event a version's results depend on, learnt from what its handler reads.
//!
//! Each run tells what it read of its event, the presence of a member included. A deterministic handler that is given another event
//! which agrees on these parts reads the same and answers the same; so a run's result is kept under the parts that this run read,
//! whatever else other runs read (constructive traces; Mokhov, Mitchell and Peyton Jones, Build Systems à la Carte, ICFP 2018).
//! What a runtime may fail to notice is looked for beside that: calls are run again with nothing but what they had read, before any
//! result is kept under those parts; and hits are run again with their own whole events.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;
use raas_contract::Reads;
use raas_core::JsonPointer;
use serde_json::{Map, Value};

/// Different sets of parts that are known of one version; runs that read others are kept under their whole events.
const SETS_MAX: usize = 8;

/// Runs with nothing but what was read that must have come out the same before results are kept under a set of parts.
const VERIFIED_BY: u32 = 10;

/// Events above this many bytes count whole: finding their parts would take longer than it is worth before every look.
const EVENT_MAX_BYTES: usize = 64 * 1024;

/// The parts that one run read, in order.
pub type Parts = Arc<[JsonPointer]>;

/// What is known of one version.
pub struct Projections {
    known: RwLock<Known>,
    /// Whether instances that are started now tell what is read.
    recording: Arc<AtomicBool>,
}

impl Default for Projections {
    fn default() -> Self {
        Self::new(false)
    }
}

#[derive(Default)]
struct Known {
    sets: Vec<Set>,
    /// A run with nothing but what it had read came out otherwise: the runtime misses what this handler reads.
    refused: bool,
}

struct Set {
    parts: Parts,
    /// Runs with nothing but these parts that came out the same.
    verified: u32,
}

/// What a run read, as far as it is of use.
#[derive(Debug, Clone)]
pub struct Learnt {
    /// The parts.
    pub parts: Parts,
    /// Whether results are kept under them; if not, it is still to be verified that nothing else is read.
    pub verified: bool,
}

impl Projections {
    /// Of a version of which it is known that what it reads cannot be told, or not.
    pub fn new(refused: bool) -> Self {
        Self { known: RwLock::new(Known { sets: Vec::new(), refused }), recording: Arc::new(AtomicBool::new(!refused)) }
    }

    /// Whether instances that are started now tell what is read.
    pub fn recording(&self) -> &Arc<AtomicBool> {
        &self.recording
    }

    /// The sets of parts under which results of events of this size may lie, those that were learnt first first.
    pub fn sets(&self, event_bytes: usize) -> Vec<Parts> {
        let known = self.known.read();
        if event_bytes > EVENT_MAX_BYTES {
            return Vec::new();
        }
        known.sets.iter().filter(|set| set.verified >= VERIFIED_BY).map(|set| Arc::clone(&set.parts)).collect()
    }

    /// What a run read of its event; nothing where its whole event counts. `also` counts beside it.
    pub fn learn(&self, reads: &Reads, event: &[u8], also: &[JsonPointer]) -> Option<Learnt> {
        if event.len() > EVENT_MAX_BYTES || self.is_refused() {
            return None;
        }
        let parts = parts(reads, &serde_json::from_slice(event).ok()?, also)?;
        let learnt = |set: &Set| Learnt { parts: Arc::clone(&set.parts), verified: set.verified >= VERIFIED_BY };
        if let Some(set) = self.known.read().sets.iter().find(|set| set.parts == parts) {
            return Some(learnt(set));
        }
        let mut known = self.known.write();
        if known.refused || known.sets.len() >= SETS_MAX {
            return known.sets.iter().find(|set| set.parts == parts).map(learnt);
        }
        known.sets.push(Set { parts: Arc::clone(&parts), verified: 0 });
        Some(Learnt { parts, verified: false })
    }

    /// Notes that a run with nothing but these parts came out the same.
    pub fn verify(&self, parts: &Parts) {
        if let Some(set) = self.known.write().sets.iter_mut().find(|set| set.parts == *parts) {
            set.verified += 1;
        }
    }

    /// From now on results lie under their whole events only.
    pub fn refuse(&self) {
        *self.known.write() = Known { sets: Vec::new(), refused: true };
        self.recording.store(false, Ordering::Relaxed);
    }

    /// Whether that is so.
    pub fn is_refused(&self) -> bool {
        self.known.read().refused
    }
}

/// What a run read, in order; nothing where it looked at the whole. What lies in a list is the whole list: code that native
/// functions go through a list for is not always noticed.
fn parts(reads: &Reads, event: &Value, also: &[JsonPointer]) -> Option<Parts> {
    if reads.whole {
        return None;
    }
    let mut pointers: Vec<JsonPointer> = reads
        .pointers
        .iter()
        .map(String::as_str)
        .chain(also.iter().map(JsonPointer::as_str))
        .map(|pointer| JsonPointer::parse(up_to_list(pointer, event)).ok())
        .collect::<Option<_>>()?;
    pointers.sort();
    pointers.dedup();
    // The whole event has a pointer, too.
    (!pointers.iter().any(|pointer| pointer.as_str().is_empty())).then(|| pointers.into())
}

/// The pointer to the first list that a pointer leads into, or the pointer itself.
fn up_to_list<'a>(pointer: &'a str, event: &Value) -> &'a str {
    let slashes = pointer.match_indices('/').map(|(at, _)| at).chain([pointer.len()]);
    for at in slashes {
        match event.pointer(&pointer[..at]) {
            Some(Value::Array(_)) => return &pointer[..at],
            Some(_) => {}
            None => break,
        }
    }
    pointer
}

/// An event with nothing but these parts; what lies in an array comes with the whole array. Nothing where there is nothing to
/// leave out.
pub fn reduced(event: &[u8], parts: &[JsonPointer]) -> Option<Bytes> {
    let Value::Object(event) = serde_json::from_slice(event).ok()? else { return None };
    let mut reduced = Map::new();
    for part in parts {
        let names: Vec<&str> = part.as_str().split('/').skip(1).collect();
        copy(&event, &mut reduced, &names);
    }
    (reduced != event).then(|| serde_json::to_vec(&reduced).ok().map(Bytes::from)).flatten()
}

fn copy(from: &Map<String, Value>, to: &mut Map<String, Value>, names: &[&str]) {
    let Some((name, below)) = names.split_first() else { return };
    let name = name.replace("~1", "/").replace("~0", "~");
    match from.get(&name) {
        None => {}
        Some(Value::Object(inner)) if !below.is_empty() => {
            let place = to.entry(name).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(place) = place {
                copy(inner, place, below);
            }
        }
        Some(whole) => drop(to.insert(name, whole.clone())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn reads(pointers: &[&str]) -> Reads {
        Reads { pointers: pointers.iter().map(|pointer| (*pointer).to_owned()).collect(), whole: false }
    }

    fn texts(parts: &Parts) -> Vec<&str> {
        parts.iter().map(JsonPointer::as_str).collect()
    }

    #[test]
    fn a_set_is_used_once_runs_with_nothing_else_came_out_the_same() {
        let projections = Projections::default();
        let learn = |pointers: &[&str]| projections.learn(&reads(pointers), b"{}", &[]);
        let one = learn(&["/b", "/a", "/b"]).unwrap();
        let other = learn(&["/a", "/b"]).unwrap();
        assert!(Arc::ptr_eq(&one.parts, &other.parts) && !other.verified && projections.sets(2).is_empty());
        (0..VERIFIED_BY).for_each(|_| projections.verify(&one.parts));
        assert!(learn(&["/a", "/b"]).unwrap().verified);
        assert_eq!((projections.sets(2).len(), projections.sets(EVENT_MAX_BYTES + 1).len()), (1, 0));
        for whole in [Reads { whole: true, ..reads(&["/a"]) }, reads(&["/a", ""]), reads(&["a"])] {
            assert!(projections.learn(&whole, b"{}", &[]).is_none(), "{whole:?}");
        }
        for at in 0..20 {
            learn(&[&format!("/{at}")]);
        }
        assert!(learn(&["/new"]).is_none() && learn(&["/a", "/b"]).is_some(), "no more than {SETS_MAX} sets");
        projections.refuse();
        assert!(projections.sets(2).is_empty() && learn(&["/a", "/b"]).is_none());
        assert!(Projections::new(true).learn(&reads(&["/a"]), b"{}", &[]).is_none());
    }

    #[test]
    fn what_lies_in_a_list_is_the_list() {
        let projections = Projections::default();
        let also = [JsonPointer::parse("/tag").unwrap()];
        let learnt =
            projections.learn(&reads(&["/a/b/0/c", "/d/0", "/e~1f"]), br#"{"a":{"b":[{"c":1}]},"d":{"0":1}}"#, &also);
        assert_eq!(texts(&learnt.unwrap().parts), ["/a/b", "/d/0", "/e~1f", "/tag"]);
    }

    #[test]
    fn an_event_is_reduced_to_what_was_read() {
        let event = br#"{"a":{"b":1,"x":2},"c":[1,2],"d/e":null,"request":"r"}"#;
        let projections = Projections::default();
        let learnt = projections.learn(&reads(&["/a/b", "/c/0", "/absent", "/d~1e"]), event, &[]).unwrap();
        let left = reduced(event, &learnt.parts).unwrap();
        assert_eq!(left, br#"{"a":{"b":1},"c":[1,2],"d/e":null}"#.as_slice());
        assert_eq!(reduced(&left, &learnt.parts), None, "there is nothing to leave out");
        assert_eq!(reduced(b"[1]", &learnt.parts), None);
    }
}
