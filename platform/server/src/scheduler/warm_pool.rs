//! The warming pool: generic sandboxes, interpreter booted and SDK imported, no user code in them yet.
//!
//! One reconciler compares what waits with what is wanted and starts the difference, one sandbox at a time and off the request
//! path. What is wanted is the configured size, or more after a recent burst of demand. Taking from the pool is a pop.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use raas_contract::Connection;
use raas_core::{Runtime, limits};
use raas_sandbox::SandboxHandle;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::launch::Launcher;
use crate::logs::InstanceLogs;

/// How often demand is looked at, and a failed refill retried.
const RECONCILE_EVERY: Duration = Duration::from_secs(1);

/// Demand is counted in windows of this length …
const DEMAND_WINDOW: Duration = Duration::from_secs(10);

/// … and the largest of this many recent ones sizes the pool.
const DEMAND_WINDOWS: usize = 6;

/// A refill waits until no cold call has come for this long, so that it does not take the processor from the very call that
/// emptied the pool.
const REFILL_AFTER_QUIET: Duration = Duration::from_millis(20);

/// … but no longer than this.
const REFILL_AT_LATEST: Duration = Duration::from_millis(250);

/// Runtimes that have a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuntimeKind {
    /// CPython.
    Python3,
    /// Node.js.
    Node,
}

impl RuntimeKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Python3, Self::Node];

    /// The runtime of a manifest, where it is one of ours.
    pub fn of(runtime: Runtime) -> Option<Self> {
        match runtime {
            Runtime::Python3 => Some(Self::Python3),
            Runtime::Node => Some(Self::Node),
            _ => None,
        }
    }

    /// Its name in manifests and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Python3 => "python3",
            Self::Node => "node",
        }
    }
}

/// A sandbox whose interpreter is up.
pub struct Booted {
    pub(super) sandbox: SandboxHandle,
    pub(super) connection: Connection,
    pub(super) logs: Arc<InstanceLogs>,
    pub(super) capacity: OwnedSemaphorePermit,
}

/// What waits and what was taken, for `/metrics`.
#[derive(Debug, Clone, Copy, Default)]
pub struct WarmPoolStatus {
    /// Sandboxes that wait.
    pub waiting: usize,
    /// How many should.
    pub wanted: u32,
    /// Taken so far.
    pub taken: u64,
    /// Asked for while empty.
    pub missed: u64,
}

#[derive(Default)]
struct Shelf {
    waiting: VecDeque<Booted>,
    taken: u64,
    missed: u64,
    demand: VecDeque<u32>,
    window_started: Option<Instant>,
}

/// The pools of all runtimes.
pub struct WarmPool {
    configured: [u32; 2],
    shelves: [Mutex<Shelf>; 2],
    closed: std::sync::atomic::AtomicBool,
    wake: Notify,
    last_take: Mutex<Instant>,
}

impl WarmPool {
    /// Empty pools with their configured sizes; 0 keeps a pool off whatever the demand.
    pub fn new(python3: u32, node: u32) -> Self {
        Self {
            configured: [python3, node],
            shelves: Default::default(),
            closed: false.into(),
            wake: Notify::new(),
            last_take: Mutex::new(Instant::now()),
        }
    }

    /// Whether this runtime is pooled at all.
    pub fn is_on(&self, runtime: RuntimeKind) -> bool {
        self.configured[runtime as usize] > 0
    }

    /// A booted sandbox, if one waits that is still alive.
    pub(super) fn take(&self, runtime: RuntimeKind) -> Option<Booted> {
        if !self.is_on(runtime) {
            return None;
        }
        let mut shelf = self.shelves[runtime as usize].lock();
        shelf.count_demand();
        let booted = loop {
            match shelf.waiting.pop_front() {
                Some(booted) if booted.sandbox.exit().is_none() => break Some(booted),
                Some(_) => {}
                None => break None,
            }
        };
        if booted.is_some() {
            shelf.taken += 1;
        } else {
            shelf.missed += 1;
        }
        drop(shelf);
        *self.last_take.lock() = Instant::now();
        self.wake.notify_one();
        booted
    }

    /// Ends one waiting sandbox, so that a function may have its place.
    pub(super) fn give_up_one(&self) {
        for shelf in &self.shelves {
            let given_up = shelf.lock().waiting.pop_back();
            if given_up.is_some() {
                return;
            }
        }
    }

    /// Ends all that waits and keeps the pools empty.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for shelf in &self.shelves {
            let waiting = std::mem::take(&mut shelf.lock().waiting);
            drop(waiting);
        }
    }

    /// Whether the platform stops and nothing is started any more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// What waits now, by runtime.
    pub fn status(&self, runtime: RuntimeKind) -> WarmPoolStatus {
        let shelf = self.shelves[runtime as usize].lock();
        WarmPoolStatus {
            waiting: shelf.waiting.len(),
            wanted: self.wanted(runtime, &shelf),
            taken: shelf.taken,
            missed: shelf.missed,
        }
    }

    /// Whether every pool holds its configured size.
    pub fn is_full(&self) -> bool {
        RuntimeKind::ALL
            .iter()
            .all(|runtime| self.status(*runtime).waiting >= self.configured[*runtime as usize] as usize)
    }

    fn wanted(&self, runtime: RuntimeKind, shelf: &Shelf) -> u32 {
        let configured = self.configured[runtime as usize];
        if configured == 0 {
            return 0;
        }
        let peak = shelf.demand.iter().copied().max().unwrap_or(0);
        configured.max(peak).min(limits::POOL_MAX_SANDBOXES as u32)
    }

    /// Keeps the pools at their size, until the platform stops.
    pub async fn run(self: Arc<Self>, launcher: Arc<Launcher>, stop: tokio_util::sync::CancellationToken) {
        loop {
            let mut failed = false;
            for runtime in RuntimeKind::ALL {
                failed |= self.refill(runtime, &launcher, &stop).await.is_err();
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RECONCILE_EVERY) => {}
                () = self.wake.notified(), if !failed => self.wait_for_quiet().await,
            }
        }
    }

    async fn wait_for_quiet(&self) {
        let begun = Instant::now();
        while begun.elapsed() < REFILL_AT_LATEST {
            let quiet_for = self.last_take.lock().elapsed();
            let Some(rest) = REFILL_AFTER_QUIET.checked_sub(quiet_for) else { return };
            tokio::time::sleep(rest).await;
        }
    }

    async fn refill(
        &self,
        runtime: RuntimeKind,
        launcher: &Launcher,
        stop: &tokio_util::sync::CancellationToken,
    ) -> Result<(), ()> {
        loop {
            let missing = {
                let mut shelf = self.shelves[runtime as usize].lock();
                shelf.waiting.retain(|booted| booted.sandbox.exit().is_none());
                shelf.roll_windows();
                let wanted = self.wanted(runtime, &shelf) as usize;
                if shelf.waiting.len() > wanted {
                    shelf.waiting.truncate(wanted);
                }
                wanted > shelf.waiting.len()
            };
            if !missing || stop.is_cancelled() {
                return Ok(());
            }
            match launcher.boot_for_pool(runtime).await {
                Ok(Some(booted)) => {
                    let mut shelf = self.shelves[runtime as usize].lock();
                    if !self.is_closed() {
                        shelf.waiting.push_back(booted);
                    }
                }
                // No place among the platform's instances: functions come first.
                Ok(None) => return Ok(()),
                Err(_) if self.is_closed() => return Ok(()),
                Err(error) => {
                    tracing::warn!(runtime = runtime.as_str(), error = %error, "the warming pool could not be refilled");
                    return Err(());
                }
            }
        }
    }
}

impl Shelf {
    fn roll_windows(&mut self) {
        let now = Instant::now();
        let started = *self.window_started.get_or_insert(now);
        let passed = (now.duration_since(started).as_secs() / DEMAND_WINDOW.as_secs()) as usize;
        for _ in 0..passed.min(DEMAND_WINDOWS) {
            self.demand.push_front(0);
        }
        self.demand.truncate(DEMAND_WINDOWS);
        if passed > 0 {
            self.window_started = Some(now);
        }
    }

    fn count_demand(&mut self) {
        self.roll_windows();
        match self.demand.front_mut() {
            Some(count) => *count += 1,
            None => self.demand.push_front(1),
        }
    }
}
