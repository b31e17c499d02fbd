//! A platform from start to stop: the order in which its parts begin, and the reverse in which they end.

use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use raas_core::{Clock, KeyId, SystemClock, TimestampUs};
use raas_egress::Egress;
use raas_sandbox::{Spawner, SpawnerOptions, SpawnerProcess, start_spawner};
use raas_store::{NewKey, Store, StoreError, StoreOptions};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admission::Admission;
use crate::app::App;
use crate::deploy::Deployer;
use crate::gateway::{self, FreshKey};
use crate::helpers::{HelperFolders, HelperManager, Switchboard};
use crate::invoke::Invoker;
use crate::logs::log_service;
use crate::metering::Metering;
use crate::precompute::Precomputer;
use crate::proof::Prover;
use crate::routing::{Routing, Scope};
use crate::runtimes;
use crate::scheduler::{LaunchLimits, Launcher, Scheduler, SpawnerHandle, WarmPool};
use crate::settings::Settings;
use crate::trace::trace_service;

/// The administrator's own tenant.
const ADMINISTRATOR: &str = "admin";

/// How long the background tasks may take to end once there is nothing left to serve.
const TASKS_END_WITHIN: Duration = Duration::from_secs(10);

/// How long calls that were cut off may take to be answered.
const CUT_OFF_WITHIN: Duration = Duration::from_secs(3);

/// What was prepared before the first thread: the data folder and the spawner.
pub struct Prepared {
    settings: Settings,
    folders: Folders,
    listener: std::net::TcpListener,
    spawner: SpawnerProcess,
}

/// Where things are in the data folder.
#[derive(Debug, Clone)]
pub struct Folders {
    data: PathBuf,
}

impl Folders {
    fn packages(&self) -> PathBuf {
        self.data.join("packages")
    }
    fn images(&self) -> PathBuf {
        self.data.join("images")
    }
    fn journal(&self) -> PathBuf {
        self.data.join("journal")
    }
    fn run(&self) -> PathBuf {
        self.data.join("run")
    }
    fn helpers(&self) -> PathBuf {
        self.data.join("helpers")
    }
    fn runtimes(&self) -> PathBuf {
        self.data.join("runtimes")
    }
    fn database(&self) -> PathBuf {
        self.data.join("raas.db")
    }
    /// The administrator's key.
    pub fn admin_key(&self) -> PathBuf {
        self.data.join("admin.key")
    }
}

/// Makes the data folder and starts the spawner. Called before any thread is started: the spawner's making is not safe in a
/// threaded process.
///
/// # Errors
/// The folder cannot be made, another platform uses it, or no spawner can be started.
pub fn prepare(settings: Settings) -> anyhow::Result<Prepared> {
    raise_file_limit();
    let data = settings.data.clone();
    std::fs::create_dir_all(&data).with_context(|| format!("the data folder {} cannot be made", data.display()))?;
    // Absolute from here on: the spawner has another working directory.
    let data = data.canonicalize().with_context(|| format!("the data folder {} cannot be used", data.display()))?;
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700))
        .context("the data folder cannot be made private")?;
    let folders = Folders { data };
    for folder in [folders.packages(), folders.images(), folders.journal(), folders.run()] {
        std::fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    let runtime_dir = runtimes::install(&folders.runtimes()).context("the runtimes' files cannot be written")?;
    // Before the spawner, which would have to be undone.
    let listener = std::net::TcpListener::bind(settings.listen)
        .with_context(|| format!("cannot listen on {}: is another platform running there?", settings.listen))?;
    listener.set_nonblocking(true).context("the listening socket cannot be used")?;
    let spawner = start_spawner(SpawnerOptions { run_dir: folders.run(), runtime_dir })
        .context("the spawner cannot be started")?;
    Ok(Prepared { settings, folders, listener, spawner })
}

/// Takes as many file descriptors as it may: a connection, an instance and a sandbox's connection cost one or more each.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(error = %error, "the limit on open files could not be raised");
    }
}

/// What a platform that is up tells the one who started it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Started {
    /// Where it is reached.
    pub url: String,
    /// The administrator's key, on first start only.
    pub admin_key: Option<String>,
    /// Where that key is kept.
    pub admin_key_file: PathBuf,
    /// What is weaker than it should be on this machine.
    pub warnings: Vec<String>,
}

/// Runs a platform until `stop`, then stops it in order. `started` is called once it serves.
///
/// # Errors
/// It cannot start. Once it has started it only ends by `stop`.
pub async fn run(prepared: Prepared, stop: Stop, started: impl FnOnce(Started)) -> anyhow::Result<()> {
    let Prepared { settings, folders, listener, spawner } = prepared;
    let spawner = spawner.connect().context("the spawner does not answer")?;
    let outcome = run_with(settings, folders, listener, spawner.clone(), stop, started).await;
    if outcome.is_err() {
        // A platform that cannot start leaves nothing either.
        spawner.shutdown().await;
    }
    outcome
}

async fn run_with(
    settings: Settings,
    folders: Folders,
    listener: std::net::TcpListener,
    spawner: Spawner,
    stop: Stop,
    started: impl FnOnce(Started),
) -> anyhow::Result<()> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let listener = TcpListener::from_std(listener).context("the listening socket cannot be used")?;
    let address = listener.local_addr()?;

    let database = match settings.database_url.as_str() {
        "" => format!("sqlite:{}", folders.database().display()),
        url => url.to_owned(),
    };
    let store =
        Arc::new(Store::open(&database, StoreOptions::default()).await.context("the database cannot be opened")?);
    let metering = Arc::new(
        Metering::open(&folders.journal(), &settings.metering, Arc::clone(&store))
            .context("the metering journal cannot be opened")?,
    );
    let keep_logs = Duration::from_secs(u64::from(settings.logs.keep_days) * 86_400);
    let (logs, log_task) = log_service(Arc::clone(&store), settings.logs.queue_lines, keep_logs, Arc::clone(&clock));

    let options = SpawnerOptions { run_dir: folders.run(), runtime_dir: runtimes::installed(&folders.runtimes()) };
    let warnings = spawner.warnings().to_vec();
    let spawner = SpawnerHandle::new(
        spawner,
        Arc::new(move || start_spawner(options.clone())),
        Egress::new(settings.egress.options()),
    );
    let warm_pool = Arc::new(WarmPool::new(settings.pool.python3, settings.pool.node));
    let limits = LaunchLimits {
        instances_max: settings.instances.max,
        tenant_max: settings.instances.tenant_max,
        boot_timeout_s: settings.instances.boot_timeout_s,
        init_timeout_s: settings.instances.init_timeout_s,
    };
    let launcher =
        Launcher::new(Arc::clone(&spawner), Arc::clone(&warm_pool), limits, logs.clone(), Arc::clone(&clock));
    let scheduler = Scheduler::new(Arc::clone(&launcher));
    let (traces, trace_task) =
        trace_service(&settings.telemetry.otlp_endpoint).context("telemetry.otlp_endpoint cannot be used")?;
    let (results, tier_writers, database_tier) = crate::results::open(&settings, &folders.data, &store).await?;
    let invoker = Arc::new(Invoker::new(
        results,
        Arc::clone(&scheduler),
        Arc::clone(&metering),
        logs.clone(),
        traces,
        Arc::clone(&clock),
    ));
    let stopping = CancellationToken::new();
    let switchboard = Arc::<Switchboard>::default();
    let (state_writer, state_task) = raas_helpers::state_writer(Arc::clone(&store), Arc::clone(&clock));
    let app = Arc::new(App {
        routing: Routing::new(Arc::clone(&scheduler), Arc::clone(&switchboard)),
        helpers: HelperManager::new(
            Arc::clone(&scheduler),
            Arc::clone(&switchboard),
            HelperFolders { state: folders.helpers(), devices: settings.helpers.cdi_folders.clone() },
            platform_id(&folders)?,
        ),
        state_writer,
        invoker,
        admission: Admission::new(
            settings.requests.in_flight_max,
            settings.requests.tenant_in_flight_max,
            settings.requests.events_max_mb,
        ),
        deployer: Deployer::open(&folders.packages(), &folders.images(), Arc::clone(&spawner), &settings.build)
            .context("the packages folder cannot be used")?,
        store: Arc::clone(&store),
        logs,
        prices: settings.prices.clone(),
        clock: Arc::clone(&clock),
        async_wake: Notify::new(),
        stop: stopping.clone(),
        changing: tokio::sync::Mutex::new(()),
    });
    let recovered =
        metering.drain().await.context("usage events of an earlier run cannot be written to the database")?;
    if recovered > 0 {
        tracing::info!(events = recovered, "usage events of an earlier run are in the database now");
    }
    let admin_key = ensure_administrator(&store, &folders, clock.as_ref()).await?;
    // Replicas of a minimum start with the routes, and may ask at once.
    switchboard.connect(&app);
    let proofs = store
        .proofs_since(TimestampUs(0))
        .await
        .context("what is known of results cannot be read from the database")?;
    app.routing.proofs.apply(proofs);
    let books = store
        .precompute_books()
        .await
        .context("the books of what was computed ahead cannot be read from the database")?;
    app.routing.banks.load(books);
    app.load_purges().await.context("what was purged cannot be read from the database")?;
    app.load_routing().await.context("functions and keys cannot be read from the database")?;
    app.helpers.load(&app).await.context("helper instances cannot be read from the database")?;
    app.remove_unreferenced().await.context("helper versions cannot be read from the database")?;

    // Ends when serving has ended; the background tasks below end after it.
    let ended = CancellationToken::new();
    let background = TaskTracker::new();
    supervise(&background, &stop, Arc::clone(&spawner).run(stopping.clone()));
    supervise(&background, &stop, Arc::clone(&warm_pool).run(Arc::clone(&launcher), stopping.clone()));
    supervise(&background, &stop, Arc::clone(&scheduler).run(ended.clone()));
    supervise(&background, &stop, log_task.run(ended.clone()));
    supervise(&background, &stop, state_task.run(ended.clone()));
    supervise(&background, &stop, {
        let (app, stopping) = (Arc::clone(&app), stopping.clone());
        async move { app.helpers.run(Arc::clone(&app), stopping).await }
    });
    for writer in tier_writers {
        supervise(&background, &stop, writer.run(ended.clone()));
    }
    supervise(&background, &stop, Prover::run(Arc::clone(&app), stopping.clone()));
    supervise(&background, &stop, Precomputer::run(Arc::clone(&app), stopping.clone()));
    supervise(&background, &stop, crate::results::upkeep(Arc::clone(&app), database_tier, stopping.clone()));
    if let Some(trace_task) = trace_task {
        supervise(&background, &stop, trace_task.run(ended.clone()));
    }
    supervise(&background, &stop, {
        let (metering, ended) = (Arc::clone(&metering), ended.clone());
        async move { metering.run(ended).await }
    });
    supervise(
        &background,
        &stop,
        crate::async_invocations::run(Arc::clone(&app), settings.requests.async_workers, stopping.clone()),
    );
    background.close();

    started(Started { url: format!("http://{address}"), admin_key, admin_key_file: folders.admin_key(), warnings });
    let serving = gateway::serve(listener, gateway::Gateway::new(Arc::clone(&app)), stopping.clone());
    tokio::pin!(serving);
    tokio::select! {
        () = &mut serving => {}
        () = stop.gracefully.cancelled() => {}
    }
    tracing::info!(in_flight = app.admission.in_flight(), "stopping: what runs may finish");
    stopping.cancel();
    let drain = async {
        serving.await;
        app.invoker.detached.close();
        app.invoker.detached.wait().await;
    };
    tokio::pin!(drain);
    let limit = Duration::from_secs(u64::from(settings.shutdown.drain_s));
    let drained = tokio::select! {
        drained = tokio::time::timeout(limit, &mut drain) => drained.is_ok(),
        () = stop.at_once.cancelled() => false,
    };
    if !drained {
        tracing::warn!(in_flight = app.admission.in_flight(), "what still runs is cut off");
    }
    scheduler.stop().await;
    spawner.current().as_ref().clone().shutdown().await;
    if !drained {
        // The calls that were cut off are answered with that, and metered.
        let _ = tokio::time::timeout(CUT_OFF_WITHIN, &mut drain).await;
    }
    app.helpers.finish(&app).await;
    app.save_known().await;
    ended.cancel();
    if tokio::time::timeout(TASKS_END_WITHIN, background.wait()).await.is_err() {
        tracing::warn!("a background task did not end in time");
    }
    metering.drain().await.context("the last usage events stay in the journal")?;
    store.close().await;
    tracing::info!("stopped");
    Ok(())
}

/// Runs a background task. One that panics leaves the platform without what it did, so the platform stops in order, and
/// whoever started it may start it again.
fn supervise(background: &TaskTracker, stop: &Stop, task: impl Future<Output = ()> + Send + 'static) {
    let running = background.spawn(task);
    let stop = stop.gracefully.clone();
    tokio::spawn(async move {
        if let Err(error) = running.await {
            tracing::error!(error = %error, "a background task failed: the platform stops");
            stop.cancel();
        }
    });
}

/// How a platform is told to stop.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    /// Finish what runs.
    pub gracefully: CancellationToken,
    /// Do not wait for it.
    pub at_once: CancellationToken,
}

/// What the platform on this data folder is called, ever since its first start.
fn platform_id(folders: &Folders) -> anyhow::Result<String> {
    let file = folders.data.join("platform.id");
    if let Ok(text) = std::fs::read_to_string(&file) {
        let known: uuid::Uuid = text.trim().parse().with_context(|| format!("{} holds no id", file.display()))?;
        return Ok(known.to_string());
    }
    let made = uuid::Uuid::now_v7().to_string();
    write_private(&file, &made).with_context(|| format!("{} cannot be written", file.display()))?;
    Ok(made)
}

/// Makes the administrator's tenant and key on first start. Returns the key if it was made now.
async fn ensure_administrator(store: &Store, folders: &Folders, clock: &dyn Clock) -> anyhow::Result<Option<String>> {
    let tenant = match store.tenant_get_by_name(ADMINISTRATOR).await {
        Ok(tenant) => tenant,
        Err(StoreError::NotFound { .. }) => store.tenant_create(ADMINISTRATOR, clock.now()).await?,
        Err(error) => return Err(error.into()),
    };
    // A platform that was killed between the two steps below has the file but not the row: it gets another key.
    if store.key_list(tenant.id).await?.iter().any(|key| key.revoked.is_none()) {
        return Ok(None);
    }
    let fresh =
        FreshKey::generate().map_err(|error| anyhow::anyhow!("no randomness for the administrator's key: {error}"))?;
    write_private(&folders.admin_key(), &fresh.text).context("the administrator's key cannot be written")?;
    let key = NewKey {
        tenant: tenant.id,
        hash: hex::encode(fresh.hash),
        prefix: fresh.shown,
        name: "administrator".into(),
        scopes: vec![Scope::Admin.as_str().into()],
    };
    let _: KeyId = store.key_create(key, clock.now()).await?.id;
    Ok(Some(fresh.text))
}

/// Writes a file that only its owner may read, whole or not at all.
pub fn write_private(path: &Path, text: &str) -> io::Result<()> {
    use std::io::Write;
    let unfinished = path.with_extension("new");
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)
}
