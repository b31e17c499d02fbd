//! The platform's hold on its spawner: the one that lives now, and another when it is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use raas_sandbox::{SandboxError, Spawner};
use tokio_util::sync::CancellationToken;

/// The longest wait between attempts to start a new spawner.
const RESTART_BACK_OFF_MAX: Duration = Duration::from_secs(10);

/// Starts a spawner process and connects to it.
pub type SpawnerStarter = Box<dyn Fn() -> Result<Spawner, SandboxError> + Send + Sync>;

/// The current spawner. All its sandboxes die with it; the next one starts with none.
pub struct SpawnerHandle {
    current: ArcSwap<Spawner>,
    lost: AtomicBool,
    starter: SpawnerStarter,
}

impl SpawnerHandle {
    /// Holds `spawner`; `starter` makes the next one should it be lost.
    pub fn new(spawner: Spawner, starter: SpawnerStarter) -> Arc<Self> {
        Arc::new(Self { current: ArcSwap::from_pointee(spawner), lost: AtomicBool::new(false), starter })
    }

    /// The spawner of now.
    pub fn current(&self) -> Arc<Spawner> {
        self.current.load_full()
    }

    /// Whether there is none at the moment.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Replaces a lost spawner, until the platform stops.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let current = self.current();
            tokio::select! {
                () = current.spawner_gone() => {}
                () = stop.cancelled() => return,
            }
            self.lost.store(true, Ordering::Relaxed);
            tracing::warn!("the spawner is gone, and every sandbox with it: starting another");
            let mut back_off = Duration::from_millis(50);
            loop {
                match (self.starter)() {
                    Ok(spawner) => {
                        self.current.store(Arc::new(spawner));
                        self.lost.store(false, Ordering::Relaxed);
                        tracing::info!("a new spawner runs");
                        break;
                    }
                    Err(error) => {
                        tracing::error!(error = %error, "no spawner could be started: no function can run until one can");
                        tokio::select! {
                            () = tokio::time::sleep(back_off) => {}
                            () = stop.cancelled() => return,
                        }
                        back_off = (back_off * 2).min(RESTART_BACK_OFF_MAX);
                    }
                }
            }
        }
    }
}
