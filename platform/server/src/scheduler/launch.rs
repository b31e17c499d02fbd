//! From nothing to a loaded instance: a sandbox from the pool or a new one, the code mounted, the handler imported.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use raas_contract::{CheckInit, Connection, InitRequest};
use raas_core::{Clock, FunctionManifest, InstanceId, Network, TenantId, limits};
use raas_helpers::{DeviceEdits, DeviceMount};
use raas_sandbox::{Assignment, ExtraMount, SandboxLimits, SandboxSpec};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::error::CallError;
use super::instance::Instance;
use super::lifecycle::Phase;
use super::spawner::SpawnerHandle;
use super::version_pool::VersionPool;
use super::version_spec::{Role, VersionSpec};
use super::warm_pool::{Booted, RuntimeKind, WarmPool};
use crate::logs::{InstanceLogs, LogTarget, LogWriter};

/// How long a launch waits for a place among the platform's instances before its callers are told.
const CAPACITY_WITHIN: Duration = Duration::from_secs(30);

/// By how much the clock of a sandbox for checks is wrong, seconds: more than a day …
const CHECK_SHIFT_LEAST_S: i64 = 90_000;

/// … and less than three years.
const CHECK_SHIFT_MOST_S: i64 = 90_000_000;

/// Its time zone: none of them is the others', and each is far from UTC.
const CHECK_TIME_ZONES: &[&str] = &["Pacific/Kiritimati", "America/Los_Angeles", "Asia/Kathmandu", "America/St_Johns"];

/// Where the machine has its time zones.
const ZONES: &str = "/usr/share/zoneinfo";

/// For whom an instance is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A call waits for it: others make room.
    Call,
    /// The declared minimum: only where there is room.
    Minimum,
}

/// What of a tenant's is counted together: its functions; apart from them its helpers, so that functions which wait for a helper never
/// hold the place that it needs; and what nobody waits for, so that it takes no call's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Counted {
    Functions,
    Helpers,
    Spares,
}

/// Whose instances are counted together.
pub(super) type CountedTogether = (TenantId, Counted);

/// A place among a tenant's own instances; given back when dropped.
pub(super) struct TenantPlace {
    of: CountedTogether,
    counts: Arc<Mutex<HashMap<CountedTogether, u32>>>,
}

impl Drop for TenantPlace {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        if let Some(count) = counts.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.of);
            }
        }
    }
}

/// Bounds on launches, from the settings.
#[derive(Debug, Clone, Copy)]
pub struct LaunchLimits {
    /// All sandboxes together.
    pub instances_max: u32,
    /// All function instances of one tenant, and all its helpers' replicas.
    pub tenant_max: u32,
    /// Until the interpreter is up, seconds.
    pub boot_timeout_s: u32,
    /// Until the code is loaded, seconds.
    pub init_timeout_s: u32,
}

/// Starts instances.
pub struct Launcher {
    spawner: Arc<SpawnerHandle>,
    warm_pool: Arc<WarmPool>,
    capacity: Arc<Semaphore>,
    waiting_for_capacity: AtomicU32,
    capacity_wanted: Notify,
    limits: LaunchLimits,
    logs: LogWriter,
    clock: Arc<dyn Clock>,
    stopping: CancellationToken,
    tenants: Arc<Mutex<HashMap<CountedTogether, u32>>>,
    /// Pools that have, or wait for, instances.
    watched: Mutex<Vec<Arc<VersionPool>>>,
}

impl Launcher {
    /// A launcher over a spawner and a warming pool.
    pub fn new(
        spawner: Arc<SpawnerHandle>,
        warm_pool: Arc<WarmPool>,
        limits: LaunchLimits,
        logs: LogWriter,
        clock: Arc<dyn Clock>,
    ) -> Arc<Self> {
        Arc::new(Self {
            spawner,
            warm_pool,
            capacity: Arc::new(Semaphore::new(limits.instances_max as usize)),
            waiting_for_capacity: AtomicU32::new(0),
            capacity_wanted: Notify::new(),
            limits,
            logs,
            clock,
            stopping: CancellationToken::new(),
            tenants: Arc::default(),
            watched: Mutex::default(),
        })
    }

    /// Writes into the code's own log what concerns its owner and no caller.
    pub(super) fn tell(&self, spec: &VersionSpec, instance: InstanceId, text: &str) {
        let target = LogTarget { function: spec.function, version: spec.version, instance };
        self.logs.failure(target, None, text);
    }

    /// The warming pool.
    pub fn warm_pool(&self) -> &Arc<WarmPool> {
        &self.warm_pool
    }

    /// From now on whatever ends does so because the platform stops.
    pub(super) fn stop(&self) {
        self.stopping.cancel();
    }

    /// The spawner.
    pub fn spawner(&self) -> &Arc<SpawnerHandle> {
        &self.spawner
    }

    /// Sandboxes alive or being started.
    pub fn in_use(&self) -> usize {
        self.limits.instances_max as usize - self.capacity.available_permits()
    }

    /// The pools that have, or wait for, instances.
    pub(super) fn watched(&self) -> &Mutex<Vec<Arc<VersionPool>>> {
        &self.watched
    }

    /// Whether a tenant has all the instances it may have.
    pub(super) fn tenant_is_full(&self, tenant: CountedTogether) -> bool {
        self.tenants.lock().get(&tenant).is_some_and(|count| *count >= self.limits.tenant_max)
    }

    /// A place among the tenant's instances, if it has one left.
    pub(super) fn tenant_place(&self, of: CountedTogether) -> Option<TenantPlace> {
        let mut counts = self.tenants.lock();
        let count = counts.entry(of).or_insert(0);
        if *count >= self.limits.tenant_max {
            return None;
        }
        *count += 1;
        Some(TenantPlace { of, counts: Arc::clone(&self.tenants) })
    }

    /// Resolves when a launch found no place.
    pub(super) async fn capacity_wanted(&self) {
        self.capacity_wanted.notified().await;
    }

    /// Whether a launch waits for a place.
    pub fn capacity_short(&self) -> bool {
        self.waiting_for_capacity.load(Ordering::Relaxed) > 0
    }

    /// Makes an instance of a version, its code loaded.
    ///
    /// # Errors
    /// [`CallError`]: no place, no sandbox, or the code's own failure to load.
    pub(super) async fn launch(
        &self,
        spec: &VersionSpec,
        purpose: Purpose,
        tenant_place: TenantPlace,
    ) -> Result<Arc<Instance>, CallError> {
        let manifest = &spec.manifest;
        let runtime = RuntimeKind::of(manifest.runtime)
            .ok_or_else(|| self.no_sandbox(format!("no runtime for {:?}", manifest.runtime)))?;
        let limits = SandboxLimits { yields: spec.role.yields(), ..limits_of(manifest) };
        let extras = spec.helper.as_ref().map(|helper| extras_of(&helper.devices)).unwrap_or_default();
        let generic =
            limits.tmp_bytes == generic_limits().tmp_bytes && manifest.network == Network::None && extras.is_empty();
        // What has no hurry leaves the last one to who has.
        let last = spec.role.yields() && self.warm_pool.status(runtime).waiting < 2;
        let pooled = if generic && !last { self.warm_pool.take(runtime) } else { None };
        let booted = match pooled {
            Some(booted) => booted,
            None => {
                let capacity = self.capacity_for(purpose).await?;
                let network = match manifest.network {
                    Network::None => raas_sandbox::Network::None,
                    Network::Egress => raas_sandbox::Network::Egress,
                };
                let sandbox = SandboxSpec { extras, ..sandbox_spec(runtime, limits, network) };
                self.boot(sandbox, capacity).await.map_err(|error| self.no_sandbox(error))?
            }
        };

        let Booted { sandbox, connection, logs, capacity } = booted;
        let id = InstanceId::generate();
        connection.serve_calls(Arc::clone(&spec.calls));
        // What runs that nobody asked for print would look like calls in the function's log: it stays nobody's.
        if !spec.role.yields() {
            logs.attach(LogTarget { function: spec.function, version: spec.version, instance: id }, &connection);
        }
        let places = (capacity, tenant_place);
        let instance = Instance::new(
            id,
            Arc::clone(&self.clock),
            connection,
            sandbox.clone(),
            manifest.memory_mb,
            places,
            self.stopping.clone(),
        );
        let state_dir = spec.helper.as_ref().and_then(|helper| helper.state_dir.clone());
        sandbox
            .assign(Assignment { code_dir: spec.code_dir.clone(), state_dir, limits })
            .await
            .map_err(|error| self.no_sandbox(error.to_string()))?;
        let limit_s = spec.helper.as_ref().map_or(self.limits.init_timeout_s, |helper| helper.start_timeout_s);
        instance.init(&init_request(spec), limit_s).await?;
        instance.advance(Phase::Loaded);
        Ok(instance)
    }

    /// A booted generic sandbox; `None` when the platform has no place left for one that nobody asked for.
    pub(super) async fn boot_for_pool(&self, runtime: RuntimeKind) -> Result<Option<Booted>, String> {
        if self.capacity_short() {
            return Ok(None);
        }
        let Ok(capacity) = Arc::clone(&self.capacity).try_acquire_owned() else { return Ok(None) };
        let spec = sandbox_spec(runtime, generic_limits(), raas_sandbox::Network::None);
        self.boot(spec, capacity).await.map(Some)
    }

    async fn capacity_for(&self, purpose: Purpose) -> Result<OwnedSemaphorePermit, CallError> {
        if let Ok(permit) = Arc::clone(&self.capacity).try_acquire_owned() {
            return Ok(permit);
        }
        if purpose == Purpose::Minimum {
            return Err(CallError::NoCapacity { waited_ms: 0 });
        }
        self.waiting_for_capacity.fetch_add(1, Ordering::Relaxed);
        let _waiting = CountDown(&self.waiting_for_capacity);
        self.capacity_wanted.notify_one();
        let acquired = tokio::time::timeout(CAPACITY_WITHIN, Arc::clone(&self.capacity).acquire_owned()).await;
        match acquired {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(CallError::Stopping),
            Err(_) => Err(CallError::NoCapacity { waited_ms: CAPACITY_WITHIN.as_millis() as u64 }),
        }
    }

    /// Why there is no instance: nothing to worry about once the platform stops, and a trouble before.
    fn no_sandbox(&self, detail: String) -> CallError {
        if self.warm_pool.is_closed() {
            return CallError::Stopping;
        }
        tracing::error!(error = %detail, "a sandbox could not be had");
        CallError::Sandbox { began: false, detail }
    }

    async fn boot(&self, spec: SandboxSpec, capacity: OwnedSemaphorePermit) -> Result<Booted, String> {
        let booting = async {
            let created = self.spawner.create(spec).await.map_err(|error| error.to_string())?;
            let logs = InstanceLogs::new(self.logs.clone());
            let connection = Connection::start(created.io.control, logs.clone());
            logs.read_pipes(created.io.stdout, created.io.stderr);
            let booted = Booted { sandbox: created.handle, connection, logs, capacity };
            booted.connection.booted().await.map_err(|error| {
                format!("the interpreter did not start: {error}; it said: {}", booted.logs.early_output())
            })?;
            Ok(booted)
        };
        let limit = Duration::from_secs(u64::from(self.limits.boot_timeout_s));
        tokio::time::timeout(limit, booting)
            .await
            .unwrap_or_else(|_| Err(format!("no interpreter was up within {} s", self.limits.boot_timeout_s)))
    }
}

struct CountDown<'a>(&'a AtomicU32);

impl Drop for CountDown<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a sandbox of the pool is limited to until it is assigned; all but the temporary disk changes then.
fn generic_limits() -> SandboxLimits {
    SandboxLimits {
        memory_bytes: u64::from(limits::MEMORY_DEFAULT_MB) << 20,
        cpu_millis: 1000,
        pids_max: limits::PROCESSES_MAX,
        yields: false,
        tmp_bytes: u64::from(limits::TMP_DEFAULT_MB) << 20,
    }
}

fn limits_of(manifest: &FunctionManifest) -> SandboxLimits {
    SandboxLimits {
        memory_bytes: u64::from(manifest.memory_mb) << 20,
        cpu_millis: manifest.cpu_millis,
        tmp_bytes: u64::from(manifest.tmp_mb) << 20,
        ..generic_limits()
    }
}

fn sandbox_spec(runtime: RuntimeKind, limits: SandboxLimits, network: raas_sandbox::Network) -> SandboxSpec {
    let argv: &[&str] = match runtime {
        RuntimeKind::Python3 => &["/usr/bin/python3", "-I", "-S", "-B", "-X", "utf8", "/opt/raas/python/boot.py"],
        RuntimeKind::Node => &["/usr/bin/node", "/opt/raas/node/boot.cjs"],
    };
    let env = [
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        ("HOME", "/tmp"),
        ("TMPDIR", "/tmp"),
        ("LANG", "C.UTF-8"),
        ("TZ", "UTC"),
    ];
    SandboxSpec {
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        env: env.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect(),
        limits,
        network,
        code_dir: None,
        writable_dir: None,
        extras: Vec::new(),
    }
}

/// What a sandbox is shown for its devices.
fn extras_of(devices: &DeviceEdits) -> Vec<ExtraMount> {
    let extra = |mount: &DeviceMount, device| ExtraMount {
        source: mount.source.clone(),
        target: mount.target.clone(),
        device,
        writable: mount.writable,
    };
    let nodes = devices.nodes.iter().map(|node| extra(node, true));
    nodes.chain(devices.mounts.iter().map(|mount| extra(mount, false))).collect()
}

/// How a sandbox for this differs from others: no two are alike, so that what depends on the place differs between any two.
fn check_init(spec: &VersionSpec) -> Option<CheckInit> {
    match spec.role {
        Role::Serve | Role::Spare => {
            spec.record_reads.load(Ordering::Relaxed).then(|| CheckInit { record_reads: true, ..CheckInit::default() })
        }
        Role::Check => {
            // Days and hours and minutes off, in either direction.
            let shift = fastrand::i64(CHECK_SHIFT_LEAST_S..CHECK_SHIFT_MOST_S);
            Some(CheckInit {
                clock_shift_s: if fastrand::bool() { shift } else { -shift },
                // The sandbox has the machine's own; without them it stays in UTC.
                time_zone: fastrand::choice(CHECK_TIME_ZONES)
                    .filter(|zone| Path::new(ZONES).join(zone).exists())
                    .map(|zone| (*zone).to_owned()),
                record_reads: false,
            })
        }
    }
}

fn init_request(spec: &VersionSpec) -> InitRequest {
    let manifest = &spec.manifest;
    let mut env = manifest.env.clone();
    env.extend(spec.helper.iter().flat_map(|helper| helper.devices.env.clone()));
    InitRequest {
        handler: manifest.handler.clone(),
        code_dir: "/var/task".into(),
        function_name: manifest.name.to_string(),
        function_version: spec.version,
        memory_mb: manifest.memory_mb,
        timeout_s: manifest.timeout_s,
        concurrency: manifest.scaling.concurrency,
        env,
        helpers: spec.helpers.clone(),
        helper: spec.helper.as_ref().map(|helper| helper.init.clone()),
        check: check_init(spec),
    }
}
