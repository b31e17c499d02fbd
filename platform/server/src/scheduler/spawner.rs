//! The platform's hold on its spawner: the one that lives now, and another when it is lost.
//!
//! Every sandbox is made here, so here its network, if it has one, is connected to the way out: there is no other.

use std::sync::Arc;
use std::time::Duration;

use raas_egress::{Egress, EgressMetrics, SandboxNetwork};
use raas_sandbox::{NetworkDevice, Sandbox, SandboxError, SandboxSpec, Spawner, SpawnerProcess};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// The longest wait between attempts to start a new spawner.
const RESTART_BACK_OFF_MAX: Duration = Duration::from_secs(10);

/// How long the making of a sandbox waits for a new spawner when the old one is lost.
const REPLACED_WITHIN: Duration = Duration::from_secs(5);

/// Starts a spawner process. Blocks for tens of milliseconds.
pub type SpawnerStarter = Arc<dyn Fn() -> Result<SpawnerProcess, SandboxError> + Send + Sync>;

/// The current spawner. All its sandboxes die with it; the next one starts with none.
pub struct SpawnerHandle {
    current: watch::Sender<Arc<Spawner>>,
    lost: watch::Sender<bool>,
    starter: SpawnerStarter,
    egress: Egress,
}

impl SpawnerHandle {
    /// Holds `spawner`; `starter` makes the next one should it be lost. Sandboxes with a network reach others by `egress`.
    pub fn new(spawner: Spawner, starter: SpawnerStarter, egress: Egress) -> Arc<Self> {
        Arc::new(Self {
            current: watch::Sender::new(Arc::new(spawner)),
            lost: watch::Sender::new(false),
            starter,
            egress,
        })
    }

    /// What went through sandboxes' networks.
    pub fn egress_metrics(&self) -> EgressMetrics {
        self.egress.metrics()
    }

    /// The spawner of now.
    pub fn current(&self) -> Arc<Spawner> {
        self.current.borrow().clone()
    }

    /// Whether there is none at the moment.
    pub fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }

    /// Makes a sandbox; where the spawner is lost meanwhile, by the next one, so that its loss costs a moment and no error.
    ///
    /// # Errors
    /// No sandbox can be made, or no new spawner came in time.
    pub async fn create(&self, spec: SandboxSpec) -> Result<Sandbox, SandboxError> {
        let mut sandbox = self.create_by_any(spec).await?;
        if let Some(device) = sandbox.io.network.take() {
            self.let_out(&sandbox, device)?;
        }
        Ok(sandbox)
    }

    /// Connects a sandbox's network until the sandbox ends.
    fn let_out(&self, sandbox: &Sandbox, device: NetworkDevice) -> Result<(), SandboxError> {
        let NetworkDevice { fd, address, prefix_bits, gateway, resolver, mtu_bytes } = device;
        let network = SandboxNetwork { device: fd, address, prefix_bits, gateway, resolver, mtu_bytes };
        let end = sandbox.handle.end();
        let end = async move {
            end.await;
        };
        self.egress
            .serve(network, sandbox.handle.id().to_string(), end)
            .map_err(|error| SandboxError::Network(format!("its device cannot be watched: {error}")))
    }

    async fn create_by_any(&self, spec: SandboxSpec) -> Result<Sandbox, SandboxError> {
        let mut spawners = self.current.subscribe();
        let current = spawners.borrow_and_update().clone();
        match current.create(spec.clone()).await {
            Err(SandboxError::SpawnerGone) => {}
            outcome => return outcome,
        }
        match tokio::time::timeout(REPLACED_WITHIN, spawners.changed()).await {
            Ok(Ok(())) => self.current().create(spec).await,
            Ok(Err(_)) | Err(_) => Err(SandboxError::SpawnerGone),
        }
    }

    /// Replaces a lost spawner, until the platform stops.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let current = self.current();
            tokio::select! {
                () = current.spawner_gone() => {}
                () = stop.cancelled() => return,
            }
            self.lost.send_replace(true);
            tracing::warn!("the spawner is gone, and every sandbox with it: starting another");
            let mut back_off = Duration::from_millis(50);
            while let Err(problem) = self.replace().await {
                tracing::error!(error = %problem, "no spawner could be started: no function can run until one can");
                tokio::select! {
                    () = tokio::time::sleep(back_off) => {}
                    () = stop.cancelled() => return,
                }
                back_off = (back_off * 2).min(RESTART_BACK_OFF_MAX);
            }
            self.lost.send_replace(false);
            tracing::info!("a new spawner runs");
        }
    }

    async fn replace(&self) -> Result<(), String> {
        let starter = Arc::clone(&self.starter);
        let started = tokio::task::spawn_blocking(move || starter()).await.map_err(|error| error.to_string())?;
        let spawner = started.and_then(SpawnerProcess::connect).map_err(|error| error.to_string())?;
        self.current.send_replace(Arc::new(spawner));
        Ok(())
    }
}
