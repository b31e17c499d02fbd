//! Safe by proof: whether a function's results have been shown to depend on nothing but its event, so that they may be kept.
//!
//! A version goes from *shadow*, where every call is computed and sampled ones are run again elsewhere and compared, to
//! *serving*, where kept results are handed out and sampled ones of them are still run again after the answer went out. One
//! difference, whenever it comes, and the version is *quarantined*: nothing of it is kept any more. What can be told without
//! running it is *static*: it is never kept.
//!
//! Pure: chance is passed in, runs are somebody else's.

use raas_core::CanonicalEvent;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Calls that must have been run again, and have agreed each time, before results are handed out.
pub const SHADOW_CALLS: u64 = 30;

/// How often each of them is run again. A version that differs in one of ten runs passes with a probability of 0.9^120.
pub const SHADOW_RUNS: u32 = 3;

/// Hits of a young version that are all run again; after them fewer and fewer are …
const YOUNG_HITS: f64 = 400.0;

/// … but never fewer than this part of them.
const HITS_SAMPLED: f64 = 0.01;

/// The longest text of each side that is shown of a difference, bytes.
const SHOWN_MAX_BYTES: usize = 256;

/// Where a version stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProofState {
    /// It can be told without running it that its results may depend on more than its event.
    Static,
    /// It is being shown.
    #[default]
    Shadow,
    /// It has been shown, and is still looked at.
    Serving,
    /// It has been shown to be otherwise.
    Quarantined,
}

impl ProofState {
    /// Its name, for people and scripts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Shadow => "shadow",
            Self::Serving => "serving",
            Self::Quarantined => "quarantined",
        }
    }
}

/// Where two results of one event first differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Where in the result, as a JSON pointer.
    pub pointer: String,
    /// What the first run gave there, the beginning of its text; empty where it gave nothing.
    pub first: String,
    /// What another run gave there.
    pub again: String,
}

/// What is known of one version.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Where it stands.
    pub state: ProofState,
    /// Why it cannot be shown, where that can be told without running it.
    pub reason: Option<String>,
    /// Calls in shadow that were run again and agreed each time.
    pub calls: u64,
    /// Runs that were compared with a first one and agreed.
    pub agreed: u64,
    /// Hits handed out.
    pub hits: u64,
    /// Runs that could not be compared: no sandbox, no time.
    pub inconclusive: u64,
    /// Runs that differed. More than one only where the author answers for the results.
    pub differed: u64,
    /// The last difference.
    pub difference: Option<Difference>,
    /// What the handler reads of its event cannot be told: all of it counts.
    #[serde(default)]
    pub counts_whole: bool,
    /// Calls in shadow that are being run again.
    #[serde(skip)]
    pending: u64,
}

impl Proof {
    /// Of a version that cannot be shown, and why.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self { state: ProofState::Static, reason: Some(reason.into()), ..Self::default() }
    }

    /// Whether a call that was just computed in shadow is to be run again. It must be followed by [`Proof::settle`].
    pub fn samples_call(&mut self) -> bool {
        // A few more than needed: some cannot be compared.
        let wanted = self.state == ProofState::Shadow && self.calls + self.pending < SHADOW_CALLS + 2;
        self.pending += u64::from(wanted);
        wanted
    }

    /// Whether a hit is to be run again. `draw` is between 0 and 1.
    pub fn samples_hit(&mut self, draw: f64) -> bool {
        self.hits += 1;
        let part = (YOUNG_HITS / self.hits as f64).clamp(HITS_SAMPLED, 1.0);
        self.state == ProofState::Serving && draw < part
    }

    /// Notes what running a call of shadow again came to: so many runs agreed, and all that were wanted did, or not.
    /// Returns whether results may be handed out from now on.
    pub fn settle(&mut self, agreed: u32) -> bool {
        self.pending = self.pending.saturating_sub(1);
        self.agreed += u64::from(agreed);
        self.inconclusive += u64::from(SHADOW_RUNS.saturating_sub(agreed));
        self.calls += u64::from(agreed == SHADOW_RUNS);
        let shown = self.state == ProofState::Shadow && self.calls >= SHADOW_CALLS;
        if shown {
            self.state = ProofState::Serving;
        }
        shown
    }

    /// Notes what running a hit again came to, where it did not differ.
    pub fn checked(&mut self, agreed: bool) {
        self.agreed += u64::from(agreed);
        self.inconclusive += u64::from(!agreed);
    }

    /// Notes a difference. Returns whether the version is quarantined by it: all it had kept must go at once.
    pub fn differ(&mut self, difference: Difference, declared: bool) -> bool {
        if self.state == ProofState::Quarantined {
            // The one that ended it is what its owner is told.
            return false;
        }
        self.differed += 1;
        self.difference = Some(difference);
        let quarantined = !declared;
        if quarantined {
            self.state = ProofState::Quarantined;
        }
        quarantined
    }

    /// From now on whole events count, and runs are given plain ones: what was shown with others shows nothing.
    pub fn count_whole(&mut self) {
        self.counts_whole = true;
        if self.state == ProofState::Shadow {
            (self.calls, self.agreed) = (0, 0);
        }
    }

    /// The probability that a result is wrong is below this with 95 % certainty, as none of so many that were looked at was: the rule
    /// of three (Hanley and Lippman-Hand, JAMA 249(13), 1983). A call that was run again several times counts once. Nothing where none
    /// was looked at, or one differed.
    pub fn upper_bound(&self) -> Option<f64> {
        let looked_at = self.calls + self.agreed.saturating_sub(self.calls * u64::from(SHADOW_RUNS));
        (self.differed == 0 && looked_at > 0).then(|| (3.0 / looked_at as f64).min(1.0))
    }
}

/// Compares two results of one event; nothing where they are the same JSON value. The order of an object's members is no
/// difference, that of an array's elements is, and so is a number's spelling as integer or not.
pub fn compare(first: &[u8], again: &[u8]) -> Option<Difference> {
    if first == again {
        return None;
    }
    if let (Ok(one), Ok(other)) = (CanonicalEvent::parse(first), CanonicalEvent::parse(again))
        && one == other
    {
        return None;
    }
    let shown = |text: &str| text[..text.floor_char_boundary(SHOWN_MAX_BYTES)].to_owned();
    let whole = || {
        let text = |bytes: &[u8]| shown(&String::from_utf8_lossy(bytes));
        Difference { pointer: String::new(), first: text(first), again: text(again) }
    };
    let (Ok(one), Ok(other)) = (serde_json::from_slice(first), serde_json::from_slice(again)) else {
        return Some(whole());
    };
    let mut pointer = String::new();
    let Some((one, other)) = first_difference(&one, &other, &mut pointer) else { return Some(whole()) };
    let text = |value: Option<&Value>| value.map(|value| shown(&value.to_string())).unwrap_or_default();
    Some(Difference { pointer, first: text(one), again: text(other) })
}

/// Walks both as long as they are alike. The JSON they were read from bounds the depth.
fn first_difference<'a>(
    one: &'a Value,
    other: &'a Value,
    pointer: &mut String,
) -> Option<(Option<&'a Value>, Option<&'a Value>)> {
    let length = pointer.len();
    let mut step = |name: &str, one: Option<&'a Value>, other: Option<&'a Value>| {
        pointer.truncate(length);
        pointer.push('/');
        pointer.push_str(&name.replace('~', "~0").replace('/', "~1"));
        match (one, other) {
            (Some(one), Some(other)) => first_difference(one, other, pointer),
            (one, other) => Some((one, other)),
        }
    };
    let found = match (one, other) {
        (Value::Object(these), Value::Object(those)) => {
            these.iter().find_map(|(name, value)| step(name, Some(value), those.get(name))).or_else(|| {
                let more = those.iter().find(|(name, _)| !these.contains_key(*name));
                more.and_then(|(name, value)| step(name, None, Some(value)))
            })
        }
        (Value::Array(these), Value::Array(those)) => {
            (0..these.len().max(those.len())).find_map(|at| step(&at.to_string(), these.get(at), those.get(at)))
        }
        _ => return (one != other).then_some((Some(one), Some(other))),
    };
    if found.is_none() {
        pointer.truncate(length);
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_version_is_shown_then_serves_and_one_difference_ends_it() {
        let mut proof = Proof::default();
        for call in 0..SHADOW_CALLS {
            assert_eq!(proof.state, ProofState::Shadow);
            assert!(proof.samples_call());
            assert_eq!(proof.settle(SHADOW_RUNS), call + 1 == SHADOW_CALLS);
        }
        assert_eq!((proof.state, proof.upper_bound()), (ProofState::Serving, Some(3.0 / 30.0)));
        assert!(!proof.samples_call() && proof.samples_hit(0.999));
        proof.checked(true);
        let difference = compare(b"1", b"2").unwrap();
        assert!(proof.differ(difference.clone(), false) && !proof.differ(difference, false));
        assert_eq!((proof.state, proof.upper_bound()), (ProofState::Quarantined, None));
        assert!(!proof.samples_call() && !proof.samples_hit(0.0));
    }

    #[test]
    fn runs_that_cannot_be_compared_show_nothing() {
        let mut proof = Proof::default();
        for _ in 0..100 {
            assert!(proof.samples_call());
            assert!(!proof.settle(SHADOW_RUNS - 1));
        }
        assert_eq!((proof.state, proof.calls, proof.inconclusive), (ProofState::Shadow, 0, 100));
        let mut refused = Proof::refused("it has a network");
        assert!(!refused.samples_call() && !refused.samples_hit(0.0));
    }

    #[test]
    fn what_was_shown_with_recorded_events_is_shown_anew_with_plain_ones() {
        let mut proof = Proof::default();
        for _ in 0..SHADOW_CALLS - 1 {
            proof.samples_call();
            proof.settle(SHADOW_RUNS);
        }
        proof.count_whole();
        assert_eq!((proof.state, proof.calls, proof.upper_bound()), (ProofState::Shadow, 0, None));
        proof.samples_call();
        assert!(!proof.settle(SHADOW_RUNS), "one call more is not enough");
    }

    #[test]
    fn all_young_hits_are_sampled_and_old_ones_one_in_a_hundred() {
        let mut proof = Proof { state: ProofState::Serving, ..Proof::default() };
        let mut sampled = |hits: u32| (0..hits).filter(|_| proof.samples_hit(fastrand::f64())).count();
        assert_eq!(sampled(400), 400);
        assert!((300..450).contains(&sampled(600)));
        sampled(99_000);
        assert!((900..1_100).contains(&sampled(100_000)));
    }

    /// Plays a function whose result is odd in a part of its runs, as the platform would: whether it was caught in shadow, and
    /// else after how many hits.
    fn play(odd: f64, seed: u64, hits: u32) -> (bool, Option<u32>) {
        let mut chance = fastrand::Rng::with_seed(seed);
        let run =
            |chance: &mut fastrand::Rng| if chance.f64() < odd { chance.u64(1..).to_string() } else { "0".to_owned() };
        let mut proof = Proof::default();
        while proof.state == ProofState::Shadow {
            let first = run(&mut chance);
            proof.samples_call();
            let mut agreed = 0;
            for _ in 0..SHADOW_RUNS {
                match compare(first.as_bytes(), run(&mut chance).as_bytes()) {
                    None => agreed += 1,
                    Some(difference) => _ = proof.differ(difference, false),
                }
            }
            proof.settle(agreed);
        }
        if proof.state == ProofState::Quarantined {
            return (true, None);
        }
        let kept = run(&mut chance);
        for hit in 0..hits {
            let draw = chance.f64();
            if proof.samples_hit(draw) && compare(kept.as_bytes(), run(&mut chance).as_bytes()).is_some() {
                return (false, Some(hit));
            }
        }
        (false, None)
    }

    #[test]
    fn what_differs_in_a_tenth_of_its_runs_never_serves_and_in_a_hundredth_not_for_long() {
        assert!((0..1_000).all(|seed| play(0.1, seed, 0).0));
        let missed = (0..1_000).filter(|seed| play(0.01, *seed, 1_000) == (false, None)).count();
        assert!(missed <= 10, "{missed} of 1,000");
        assert!((0..20).all(|seed| play(0.0, seed, 5_000) == (false, None)), "what never differs is left alone");
    }

    #[test]
    fn a_difference_is_shown_where_it_is() {
        let shown = |one: &str, other: &str| {
            compare(one.as_bytes(), other.as_bytes()).map(|found| (found.pointer, found.first, found.again))
        };
        let difference = |pointer: &str, first: &str, again: &str| Some((pointer.into(), first.into(), again.into()));
        assert_eq!(shown(r#"{"a":1,"b":[1,2]}"#, r#"{"b": [1, 2], "a": 1}"#), None, "the order of members is none");
        assert_eq!(
            shown(r#"{"a":1,"b/c":[1,{"d":2}]}"#, r#"{"a":1,"b/c":[1,{"d":3}]}"#),
            difference("/b~1c/1/d", "2", "3")
        );
        assert_eq!(shown("[1,2]", "[2,1]"), difference("/0", "1", "2"));
        assert_eq!(shown("[1]", "[1,null]"), difference("/1", "", "null"));
        assert_eq!(shown(r#"{"a":1}"#, "{}"), difference("/a", "1", ""));
        assert_eq!(shown("1", "1.0"), difference("", "1", "1.0"), "an integer is not a float");
        assert_eq!(shown("{", "1"), difference("", "{", "1"));
        let long = compare(format!("\"{}\"", "é".repeat(500)).as_bytes(), b"1").unwrap();
        assert!(long.first.len() <= SHOWN_MAX_BYTES);
    }
}
