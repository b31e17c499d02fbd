//! The bank of each version that wants to be computed ahead, and what waits for it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use parking_lot::Mutex;
use raas_core::{FunctionId, FunctionManifest, ResultKey};
use raas_results::predict::Bank;
use serde_json::Value;

/// Results computed ahead that are looked after until somebody asks for them, for each version; the oldest is taken for lost.
const UNASKED_MAX: usize = 512;

/// One version's bank, and what belongs to it.
pub struct BankCell {
    /// What the version may take, thousandths of a processor.
    pub cpu_share_millis: u32,
    /// What is known, and what waits.
    pub state: Mutex<BankState>,
    /// Whether something of it is being computed ahead now.
    pub running: AtomicBool,
}

/// What changes with every call.
#[derive(Default)]
pub struct BankState {
    /// The predictors and the books.
    pub bank: Bank,
    /// The last event, for what predictors do not see of one.
    pub last: Option<Value>,
    /// Results computed ahead that nobody has asked for yet: the bank's name of each, and its key.
    pub unasked: VecDeque<(u64, ResultKey)>,
    /// Whether the author's candidates have been suggested.
    pub suggested: bool,
}

impl BankState {
    /// Looks after a result until it is asked for or gone. Returns the bank's name of one that is given up for it.
    pub fn look_after(&mut self, id: u64, key: ResultKey) -> Option<u64> {
        self.unasked.push_back((id, key));
        (self.unasked.len() > UNASKED_MAX).then(|| self.unasked.pop_front()).flatten().map(|(id, _)| id)
    }
}

/// The banks of all versions that want to be computed ahead.
#[derive(Default)]
pub struct BankBook {
    cells: Mutex<HashMap<(FunctionId, u32), Arc<BankCell>>>,
}

impl BankBook {
    /// A version's bank; nothing where its author does not want it, or its code reaches outside its sandbox.
    pub fn cell(&self, function: FunctionId, version: u32, manifest: &FunctionManifest) -> Option<Arc<BankCell>> {
        if !manifest.precompute.enabled || manifest.reaches_outside().is_some() {
            return None;
        }
        let mut cells = self.cells.lock();
        let cell = cells.entry((function, version)).or_insert_with(|| {
            Arc::new(BankCell {
                cpu_share_millis: manifest.precompute.cpu_share_millis.max(1),
                state: Mutex::default(),
                running: AtomicBool::new(false),
            })
        });
        Some(Arc::clone(cell))
    }

    /// Forgets a function.
    pub fn remove(&self, function: FunctionId) {
        self.cells.lock().retain(|(of, _), _| *of != function);
    }
}

/// An event as JSON text.
pub fn text(event: &Value) -> Bytes {
    serde_json::to_vec(event).unwrap_or_default().into()
}
