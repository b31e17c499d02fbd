//! Which parts of an event a version's results depend on, learnt from what its handler reads.
//!
//! Each run tells what it read of its event, the presence of a member included. A deterministic handler that is given another event
//! which agrees on these parts reads the same and answers the same; so a run's result is kept under the parts that this run read,
//! whatever else other runs read (constructive traces; Mokhov, Mitchell and Peyton Jones, Build Systems à la Carte, ICFP 2018).
//! What a runtime may fail to notice is looked for beside that: in shadow, calls are run again with nothing but what they had
//! read, and hits are run again with their own whole events.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;
use raas_contract::Reads;
use raas_core::JsonPointer;
use serde_json::{Map, Value};

/// Different sets of parts that are known of one version; runs that read others are kept under their whole events.
const SETS_MAX: usize = 8;

/// The parts that one run read, in order.
pub type Parts = Arc<[JsonPointer]>;

/// What is known of one version.
#[derive(Default)]
pub struct Projections {
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    sets: Vec<Parts>,
    /// A run with nothing but what it had read came out otherwise: the runtime misses what this handler reads.
    refused: bool,
}

impl Projections {
    /// The sets of parts under which results may lie, those that are learnt first first.
    pub fn sets(&self) -> Vec<Parts> {
        let known = self.known.read();
        if known.refused { Vec::new() } else { known.sets.clone() }
    }

    /// Under which parts a run's result is to be kept; nothing where under its whole event.
    pub fn learn(&self, reads: &Reads) -> Option<Parts> {
        let parts = parts(reads)?;
        {
            let known = self.known.read();
            if known.refused {
                return None;
            }
            if let Some(set) = known.sets.iter().find(|set| **set == parts) {
                return Some(Arc::clone(set));
            }
        }
        let mut known = self.known.write();
        if known.refused || known.sets.len() >= SETS_MAX {
            return known.sets.iter().find(|set| **set == parts).cloned();
        }
        known.sets.push(Arc::clone(&parts));
        Some(parts)
    }

    /// From now on results lie under their whole events only.
    pub fn refuse(&self) {
        *self.known.write() = Known { sets: Vec::new(), refused: true };
    }

    /// Whether that is so.
    pub fn is_refused(&self) -> bool {
        self.known.read().refused
    }
}

/// What a run read, in order; nothing where it looked at the whole.
pub fn parts(reads: &Reads) -> Option<Parts> {
    if reads.whole {
        return None;
    }
    let mut pointers: Vec<JsonPointer> =
        reads.pointers.iter().map(|pointer| JsonPointer::parse(pointer).ok()).collect::<Option<_>>()?;
    pointers.sort();
    pointers.dedup();
    // The whole event has a pointer, too.
    (!pointers.iter().any(|pointer| pointer.as_str().is_empty())).then(|| pointers.into())
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

    #[test]
    fn runs_that_read_the_same_share_a_set_whatever_the_order() {
        let projections = Projections::default();
        let one = projections.learn(&reads(&["/b", "/a", "/b"])).unwrap();
        let other = projections.learn(&reads(&["/a", "/b"])).unwrap();
        assert!(Arc::ptr_eq(&one, &other));
        for whole in [Reads { whole: true, ..reads(&["/a"]) }, reads(&["/a", ""]), reads(&["a"])] {
            assert_eq!(projections.learn(&whole), None, "{whole:?}");
        }
        for at in 0..20 {
            projections.learn(&reads(&[&format!("/{at}")]));
        }
        assert_eq!(projections.sets().len(), SETS_MAX);
        assert!(projections.learn(&reads(&["/new"])).is_none() && projections.learn(&reads(&["/a", "/b"])).is_some());
        projections.refuse();
        assert!(projections.sets().is_empty() && projections.learn(&reads(&["/a", "/b"])).is_none());
    }

    #[test]
    fn an_event_is_reduced_to_what_was_read() {
        let parts = parts(&reads(&["/a/b", "/c/0", "/absent", "/d~1e"])).unwrap();
        let event = br#"{"a":{"b":1,"x":2},"c":[1,2],"d/e":null,"request":"r"}"#;
        let left = reduced(event, &parts).unwrap();
        assert_eq!(left, br#"{"a":{"b":1},"c":[1,2],"d/e":null}"#.as_slice());
        assert_eq!(reduced(&left, &parts), None, "there is nothing to leave out");
        assert_eq!(reduced(b"[1]", &parts), None);
    }
}
