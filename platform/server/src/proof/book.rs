//! What is known of each version, in memory and in the database.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use parking_lot::Mutex;
use raas_core::manifest::CacheMode;
use raas_core::{FunctionId, FunctionManifest, TimestampUs};
use raas_results::{Difference, Proof, ProofState};
use raas_store::{ProofRow, Store, StoreError};

/// of results that their author answers for, one of so many hits may be run again.
const DECLARED_EVERY: u64 = 100;

/// What is known of one version.
pub struct ProofCell {
    /// Whether its author answers for its results.
    pub declared: bool,
    proof: Mutex<Proof>,
    /// Hits that are not in `proof` yet, of a version whose author answers for it.
    hits: AtomicU64,
    changed: AtomicBool,
    /// Sampled calls that wait to be run again.
    pub waiting: AtomicU32,
}

impl ProofCell {
    fn new(declared: bool, proof: Proof) -> Arc<Self> {
        Arc::new(Self {
            declared,
            proof: Mutex::new(proof),
            hits: AtomicU64::new(0),
            changed: AtomicBool::new(false),
            waiting: AtomicU32::new(0),
        })
    }

    /// Where the version stands.
    pub fn state(&self) -> ProofState {
        self.proof.lock().state
    }

    /// All that is known.
    pub fn known(&self) -> Proof {
        let mut proof = self.proof.lock().clone();
        proof.hits += self.hits.load(Ordering::Relaxed);
        proof
    }

    /// Whether a call that was just computed is to be run again.
    pub fn samples_call(&self) -> bool {
        !self.declared && self.change(Proof::samples_call)
    }

    /// Whether a hit that was just handed out is to be run again.
    pub fn samples_hit(&self) -> bool {
        if self.declared {
            // Most hits are of these, and so no lock for most of them.
            if self.hits.fetch_add(1, Ordering::Relaxed) + 1 < DECLARED_EVERY {
                return false;
            }
            let counted = self.hits.swap(0, Ordering::Relaxed);
            self.change(|proof| proof.hits += counted);
            return counted > 0;
        }
        self.change(|proof| proof.samples_hit(fastrand::f64()))
    }

    /// Changes what is known.
    pub fn change<T>(&self, change: impl FnOnce(&mut Proof) -> T) -> T {
        self.changed.store(true, Ordering::Relaxed);
        change(&mut self.proof.lock())
    }

    /// Notes a difference. Returns whether the version is quarantined by it.
    pub fn differ(&self, difference: Difference) -> bool {
        self.change(|proof| proof.differ(difference, self.declared))
    }
}

/// What is known of all versions whose results are kept.
#[derive(Default)]
pub struct ProofBook {
    cells: Mutex<HashMap<(FunctionId, u32), Arc<ProofCell>>>,
    /// What was known when the platform started, of versions that nobody has asked for yet.
    stored: Mutex<HashMap<(FunctionId, u32), Proof>>,
}

impl ProofBook {
    /// What is known of a version; nothing where its results are not looked at: they are not kept, or running a call again
    /// could change something elsewhere and its author answers for them.
    pub fn cell(&self, function: FunctionId, version: u32, manifest: &FunctionManifest) -> Option<Arc<ProofCell>> {
        let outside = manifest.reaches_outside();
        let (declared, refused) = match (manifest.cache.mode, outside) {
            (CacheMode::Off, _) | (CacheMode::Declared, Some(_)) => return None,
            (CacheMode::Declared, None) => (true, None),
            (CacheMode::Proven, reason) => (false, reason.map(Proof::refused)),
        };
        let key = (function, version);
        let mut cells = self.cells.lock();
        let cell = cells.entry(key).or_insert_with(|| {
            let stored = self.stored.lock().remove(&key);
            ProofCell::new(declared, refused.or(stored).unwrap_or_default())
        });
        Some(Arc::clone(cell))
    }

    /// Forgets a function.
    pub fn remove(&self, function: FunctionId) {
        self.cells.lock().retain(|(of, _), _| *of != function);
    }

    /// Takes in what is stored, at start; later what another platform has quarantined.
    pub fn apply(&self, rows: Vec<ProofRow>) {
        let cells = self.cells.lock();
        for row in rows {
            let Ok(stored) = serde_json::from_str::<Proof>(&row.body) else {
                tracing::error!(function.id = %row.function, version = row.version, "what is known of a version cannot be read");
                continue;
            };
            match cells.get(&(row.function, row.version)) {
                Some(cell) if stored.state == ProofState::Quarantined && cell.state() != ProofState::Quarantined => {
                    *cell.proof.lock() = stored;
                }
                Some(_) => {}
                None => drop(self.stored.lock().insert((row.function, row.version), stored)),
            }
        }
    }

    /// Writes what has changed to the database.
    ///
    /// # Errors
    /// The database does not answer; it is tried again with the next.
    pub async fn save(&self, store: &Store, now: TimestampUs) -> Result<(), StoreError> {
        let changed: Vec<_> = {
            let cells = self.cells.lock();
            let changed = cells.iter().filter(|(_, cell)| cell.changed.swap(false, Ordering::Relaxed));
            changed.map(|(key, cell)| (*key, Arc::clone(cell))).collect()
        };
        if changed.is_empty() {
            return Ok(());
        }
        let rows: Vec<_> =
            changed.iter().map(|((function, version), cell)| row(*function, *version, cell, now)).collect();
        let written = store.proof_put(&rows, ProofState::Quarantined.as_str()).await;
        if written.is_err() {
            changed.iter().for_each(|(_, cell)| cell.changed.store(true, Ordering::Relaxed));
        }
        written
    }
}

fn row(function: FunctionId, version: u32, cell: &ProofCell, now: TimestampUs) -> ProofRow {
    let proof = cell.known();
    ProofRow {
        function,
        version,
        state: proof.state.as_str().to_owned(),
        body: serde_json::to_string(&proof).unwrap_or_default(),
        updated: now,
    }
}
