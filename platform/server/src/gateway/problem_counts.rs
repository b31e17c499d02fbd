//! How often each problem was answered: so every limit that is hit shows in `/metrics`, without a counter of its own.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use raas_core::Origin;

type Key = (&'static str, &'static str);

static COUNTS: Mutex<BTreeMap<Key, u64>> = Mutex::new(BTreeMap::new());

/// Counts one problem. Codes are constants of the program, so the table is bounded.
pub fn count(code: &'static str, origin: Origin) {
    *COUNTS.lock().entry((code, origin.as_str())).or_default() += 1;
}

/// Every code and origin with its count since the process started.
pub fn counts() -> Vec<(&'static str, &'static str, u64)> {
    COUNTS.lock().iter().map(|(&(code, origin), &count)| (code, origin, count)).collect()
}
