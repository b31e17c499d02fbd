//! What is run: all that a sandbox, a pool and a runtime are told of one version.
//!
//! Plain values, made where a version becomes routable and never changed. They must not know of instances.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use raas_contract::{CallSink, HelperInit};
use raas_core::manifest::Scaling;
use raas_core::{FunctionId, FunctionManifest, HelperHealth, HelperTimeouts, TenantId};
use raas_helpers::DeviceEdits;

use super::instance::STOP_GRACE;
use super::launch::{Counted, CountedTogether};

/// Instances of a version that do what nobody waits for, at most …
const SPARE_MAX: u32 = 2;

/// … and how long they are kept when there is nothing of it, seconds.
const SPARE_IDLE_S: u32 = 20;

/// What is run: everything a sandbox needs to know of a version.
#[derive(Debug, Clone)]
pub struct VersionSpec {
    /// Whose it is.
    pub tenant: TenantId,
    /// The function.
    pub function: FunctionId,
    /// The version's number.
    pub version: u32,
    /// What the author declared.
    pub manifest: Arc<FunctionManifest>,
    /// The folder that is mounted as `/var/task`.
    pub code_dir: PathBuf,
    /// What makes the code a helper, where it is one.
    pub helper: Option<Arc<HelperSpec>>,
    /// The names by which the code may call helpers.
    pub helpers: Vec<String>,
    /// Answers what the code asks of the platform.
    pub calls: Arc<dyn CallSink>,
    /// What its instances are for.
    pub role: Role,
    /// Whether instances that are started now tell what the handler reads of each event.
    pub record_reads: Arc<AtomicBool>,
}

/// What a pool's instances are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Answering calls.
    #[default]
    Serve,
    /// Work that nobody waits for, in what the others leave of the machine.
    Spare,
    /// The same, each in an environment of its own: another clock, another time zone.
    Check,
}

impl Role {
    /// Whether nobody waits for it: no place is made for it, and it gives way on the processor.
    pub fn yields(self) -> bool {
        matches!(self, Self::Spare | Self::Check)
    }
}

/// What is more to a helper than to a function.
#[derive(Debug, Clone)]
pub struct HelperSpec {
    /// What its runtime is told.
    pub init: HelperInit,
    /// The folder that it keeps.
    pub state_dir: Option<PathBuf>,
    /// Devices and what belongs to them.
    pub devices: DeviceEdits,
    /// How long `start` may take, seconds.
    pub start_timeout_s: u32,
    /// How long other hooks may take.
    pub timeouts: HelperTimeouts,
    /// How often replicas are asked whether they are well.
    pub health: HelperHealth,
}

impl VersionSpec {
    /// The same for instances of another role: few, one call at a time in each, and not kept for long.
    pub fn in_role(&self, role: Role) -> Self {
        let mut manifest = FunctionManifest::clone(&self.manifest);
        manifest.scaling = Scaling { min: 0, max: SPARE_MAX, idle_s: SPARE_IDLE_S, concurrency: 1 };
        Self { manifest: Arc::new(manifest), role, ..self.clone() }
    }

    /// Whose instances its own are counted with.
    pub(super) fn counted_together(&self) -> CountedTogether {
        let counted = match (&self.helper, self.role.yields()) {
            (_, true) => Counted::Spares,
            (Some(_), false) => Counted::Helpers,
            (None, false) => Counted::Functions,
        };
        (self.tenant, counted)
    }

    /// How long an instance may take to leave by itself.
    pub(super) fn stop_grace(&self) -> Duration {
        self.helper.as_ref().map_or(STOP_GRACE, |helper| Duration::from_secs(u64::from(helper.timeouts.stop_s)))
    }
}
