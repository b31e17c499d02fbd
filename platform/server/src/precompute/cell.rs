//! The bank of each version that wants to be computed ahead, and what waits for it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use parking_lot::Mutex;
use raas_core::{FunctionId, FunctionManifest, ResultKey, TimestampUs};
use raas_results::predict::{Bank, Ledger};
use raas_store::{PrecomputeBooksRow, Store, StoreError};
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
    /// The books of earlier runs of the platform.
    pub before: Ledger,
    /// As many calls had been learnt from when the books were last written.
    written: u64,
}

impl BankState {
    /// The books, since the version was deployed.
    pub fn books(&self) -> Ledger {
        self.before.with(self.bank.ledger())
    }
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
    /// Books of earlier runs of the platform, of versions that nobody has asked for yet.
    before: Mutex<HashMap<(FunctionId, u32), Ledger>>,
}

impl BankBook {
    /// A version's bank; nothing where its author does not want it, or its code reaches outside its sandbox.
    pub fn cell(&self, function: FunctionId, version: u32, manifest: &FunctionManifest) -> Option<Arc<BankCell>> {
        if !manifest.precompute.enabled || manifest.reaches_outside().is_some() {
            return None;
        }
        let key = (function, version);
        let mut cells = self.cells.lock();
        let cell = cells.entry(key).or_insert_with(|| {
            let before = self.before.lock().remove(&key).unwrap_or_default();
            Arc::new(BankCell {
                cpu_share_millis: manifest.precompute.cpu_share_millis.max(1),
                state: Mutex::new(BankState { before, ..BankState::default() }),
                running: AtomicBool::new(false),
            })
        });
        Some(Arc::clone(cell))
    }

    /// Takes in the books of earlier runs of the platform, at start.
    pub fn load(&self, rows: Vec<PrecomputeBooksRow>) {
        let mut before = self.before.lock();
        for row in rows {
            match serde_json::from_str(&row.body) {
                Ok(ledger) => drop(before.insert((row.function, row.version), ledger)),
                Err(error) => {
                    tracing::error!(function.id = %row.function, error = %error, "the books of what was computed ahead cannot be read");
                }
            }
        }
    }

    /// Writes the books that have changed to the database.
    ///
    /// # Errors
    /// The database does not answer; it is tried again with the next.
    pub async fn save(&self, store: &Store, now: TimestampUs) -> Result<(), StoreError> {
        let cells: Vec<_> = self.cells.lock().iter().map(|(key, cell)| (*key, Arc::clone(cell))).collect();
        let (mut rows, mut written) = (Vec::new(), Vec::new());
        for ((function, version), cell) in cells {
            let state = cell.state.lock();
            let calls = state.bank.ledger().calls;
            if calls == state.written {
                continue;
            }
            let body = serde_json::to_string(&state.books()).unwrap_or_default();
            drop(state);
            rows.push(PrecomputeBooksRow { function, version, body });
            written.push((cell, calls));
        }
        if rows.is_empty() {
            return Ok(());
        }
        store.precompute_books_put(&rows, now).await?;
        written.into_iter().for_each(|(cell, calls)| cell.state.lock().written = calls);
        Ok(())
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
