//! Instances from their making to their end: every change is a rolling one.
//!
//! A change (another version, another configuration, new data) makes a pool of its own, waits until a replica in it is ready,
//! writes the change down, puts the new route in the snapshot, and only then hands the old pool over: calls that waited there
//! are served by the new one, calls that run end where they are. What fails before the change is written down changes nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use raas_core::manifest::{HelperMode, HelperState};
use raas_core::{FunctionName, HelperInstanceId, HelperManifest, TenantId, TimestampUs};
use raas_helpers::{AdminState, DeviceEdits, DeviceError, Observation, Observed, Schema, check_bindings, find_devices};
use raas_results::Purge;
use raas_store::{HelperInstanceRow, HelperVersionQuery, HelperVersionRow, NewHelperInstance, StoreError};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::keys::KeyLeases;
use super::meter::HelperMeter;
use super::route::{HelperRoute, ReplicaRole, RouteError, RouteParts};
use super::switchboard::Switchboard;
use super::{precompute, training};
use crate::app::App;
use crate::scheduler::{CallError, Lease, Scheduler, VersionPool};

/// How often instances are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long a key that nobody holds is remembered, microseconds: a day.
const KEYS_KEPT_US: i64 = 86_400_000_000;

/// Trainings that are under way at once because they are due.
const SCHEDULED_TRAININGS: usize = 2;

/// What is stored of an instance whose first replica is not ready yet.
const CREATING: &str = "creating";

/// Files of a kept folder that are looked at for its size.
const FILES_MEASURED_MAX: usize = 200_000;

/// How often state past its time is removed.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// How much longer than its own start a first replica may wait for a place.
const START_MARGIN: Duration = Duration::from_secs(30);

/// Makes and changes instances.
pub struct HelperManager {
    scheduler: Arc<Scheduler>,
    switchboard: Arc<Switchboard>,
    /// One change of an instance at a time.
    changing: Mutex<HashMap<HelperInstanceId, Arc<tokio::sync::Mutex<()>>>>,
    observed: Mutex<HashMap<HelperInstanceId, Observed>>,
    /// Instances that are being trained.
    pub(super) training: Mutex<HashMap<HelperInstanceId, Option<Arc<VersionPool>>>>,
    /// Pools of before a change, which finish their calls.
    ending: Mutex<HashMap<HelperInstanceId, Vec<Weak<VersionPool>>>>,
    /// When training was last begun, this process's runs only.
    pub(super) trained_at: Mutex<HashMap<HelperInstanceId, Instant>>,
    /// Scheduled trainings at once: those of all instances are due together after a pause.
    pub(super) scheduled: Arc<Semaphore>,
    folders: HelperFolders,
    /// What this platform is called where it shares a database with others.
    platform_id: String,
    keys: Mutex<HashMap<HelperInstanceId, Arc<KeyLeases>>>,
    /// What instances use between calls.
    pub(super) meter: HelperMeter,
    /// Epochs whose candidates have been computed or are being.
    pub(super) precomputed: Mutex<HashMap<HelperInstanceId, u64>>,
}

/// Where things of helpers are on the machine.
#[derive(Debug, Clone)]
pub struct HelperFolders {
    /// The folders that instances keep, by their ids.
    pub state: PathBuf,
    /// Where vendors describe devices.
    pub devices: Vec<PathBuf>,
}

/// An instance to be made.
#[derive(Debug, Clone)]
pub struct NewInstance {
    /// Whose it will be.
    pub tenant: TenantId,
    /// Who published the helper.
    pub publisher: String,
    /// The helper.
    pub helper: String,
    /// Its version; the highest where nothing is said.
    pub version: Option<String>,
    /// The instance's name.
    pub name: String,
    /// Its configuration.
    pub config: Value,
    /// The instances that it calls, by the name in its code.
    pub bindings: BTreeMap<String, String>,
}

/// A change of an instance.
#[derive(Debug, Clone)]
pub enum InstanceChange {
    /// Another version, where it is said with another configuration.
    Version(String, Option<Value>),
    /// The version before the last change of version.
    Rollback,
    /// Another configuration.
    Config(Value),
    /// New data: the outcome of training.
    Data,
    /// Other tenants may call it: these and no others.
    Share(Vec<TenantId>),
    /// It serves again.
    Start,
    /// It takes no more calls; at once: nor does what runs finish.
    Stop {
        /// Whether calls that run are cut off.
        at_once: bool,
    },
}

/// Why an instance was not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum ManageError {
    /// The request is not acceptable.
    #[error("{1}")]
    Invalid(&'static str, String),
    /// No replica of it starts; what was before is still in force.
    #[error("no replica of it became ready, so nothing was changed")]
    Start(CallError),
    /// It is used.
    #[error("`{name}` is bound to {}; remove the bindings, or delete it with force", .bound.join(", "))]
    Bound {
        /// The instance.
        name: String,
        /// What calls it.
        bound: Vec<String>,
    },
    /// Something else happens to it.
    #[error("{0}")]
    Busy(String),
    /// The helper has no such hook.
    #[error("{0}")]
    NoHook(String),
    /// The helper's own hook failed.
    #[error("the helper's {hook} failed; what was before is still in force")]
    Hook {
        /// Which.
        hook: &'static str,
        /// How.
        error: CallError,
    },
    /// A device that it needs cannot be had.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The folder that it keeps cannot be made.
    #[error("the helper's folder cannot be made")]
    Folder(#[source] std::io::Error),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is stored cannot be read.
    #[error(transparent)]
    Route(#[from] RouteError),
}

impl HelperManager {
    /// A manager over the scheduler that starts replicas.
    pub fn new(
        scheduler: Arc<Scheduler>,
        switchboard: Arc<Switchboard>,
        folders: HelperFolders,
        platform_id: String,
    ) -> Self {
        Self {
            scheduler,
            switchboard,
            scheduled: Arc::new(Semaphore::new(SCHEDULED_TRAININGS)),
            folders,
            platform_id,
            keys: Mutex::default(),
            meter: HelperMeter::default(),
            changing: Mutex::default(),
            observed: Mutex::default(),
            training: Mutex::default(),
            ending: Mutex::default(),
            trained_at: Mutex::default(),
            precomputed: Mutex::default(),
        }
    }

    pub(super) fn scheduler(&self) -> &Scheduler {
        &self.scheduler
    }

    pub(super) fn switchboard(&self) -> &Arc<Switchboard> {
        &self.switchboard
    }

    /// Brings all instances into the snapshot: at start.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn load(&self, app: &App) -> Result<(), StoreError> {
        // What held keys here before has ended with its process.
        app.store.helper_keys_release(&self.platform_id, app.clock.now()).await?;
        let (mut known, mut routes) = (HashSet::new(), Vec::new());
        for (mut instance, version) in app.store.helper_instance_load_all().await? {
            if instance.state == CREATING {
                // The platform ended before its first replica was ready: it was never made.
                app.store.helper_instance_delete(instance.id, app.clock.now()).await?;
                continue;
            }
            known.insert(instance.id.to_string());
            if version.manifest.train.is_some_and(|train| train.every_s.is_some()) {
                self.remember_training(app, instance.id).await?;
            }
            let devices = find_devices(&self.folders.devices, &version.manifest.devices).unwrap_or_else(|error| {
                // Seen as stopped, and startable once they are there again.
                tracing::error!(helper.instance = %instance.id, error = %error, "a helper instance cannot be served; it is stopped");
                instance.state = "stopped".into();
                DeviceEdits::default()
            });
            let parts = self.parts_with(app, &instance, &version, devices);
            let route = parts.and_then(|parts| Ok(HelperRoute::new(&parts, &self.scheduler, &self.switchboard, None)?));
            match route {
                Ok(route) => routes.push(Arc::new(route)),
                Err(error) => {
                    tracing::error!(helper.instance = %instance.id, error = %error, "a helper instance is not served");
                }
            }
        }
        // All at once: each change of the snapshot copies its maps.
        app.routing.set_helpers(routes.iter().cloned());
        routes.iter().for_each(|route| keep_minimum(route));
        self.remove_unknown_folders(&known);
        Ok(())
    }

    /// When an instance is due for training again does not begin anew with the platform.
    async fn remember_training(&self, app: &App, instance: HelperInstanceId) -> Result<(), StoreError> {
        let Some(last) = app.store.helper_training_list(instance, 1).await?.into_iter().next() else { return Ok(()) };
        let ago_us = u64::try_from(app.clock.now().as_micros() - last.started.as_micros()).unwrap_or(0);
        if let Some(at) = Instant::now().checked_sub(Duration::from_micros(ago_us)) {
            self.trained_at.lock().insert(instance, at);
        }
        Ok(())
    }

    fn remove_unknown_folders(&self, known: &HashSet<String>) {
        for entry in std::fs::read_dir(&self.folders.state).into_iter().flatten().flatten() {
            if known.contains(&*entry.file_name().to_string_lossy()) {
                continue;
            }
            if let Err(error) = std::fs::remove_dir_all(entry.path()) {
                tracing::warn!(folder = %entry.path().display(), error = %error, "what a deleted helper instance kept could not be removed");
            }
        }
    }

    /// All that a route is made of. The folder that the instance keeps is there afterwards.
    pub(super) fn parts<'a>(
        &self,
        app: &App,
        instance: &'a HelperInstanceRow,
        version: &'a HelperVersionRow,
    ) -> Result<RouteParts<'a>, ManageError> {
        let devices = find_devices(&self.folders.devices, &version.manifest.devices)?;
        self.parts_with(app, instance, version, devices)
    }

    fn parts_with<'a>(
        &self,
        app: &App,
        instance: &'a HelperInstanceRow,
        version: &'a HelperVersionRow,
        devices: DeviceEdits,
    ) -> Result<RouteParts<'a>, ManageError> {
        let state_dir = match version.manifest.state {
            HelperState::None => None,
            HelperState::Disk => {
                let folder = self.folders.state.join(instance.id.to_string());
                std::fs::create_dir_all(&folder).map_err(ManageError::Folder)?;
                Some(folder)
            }
        };
        let keys = (version.manifest.scaling.mode == HelperMode::PerKey).then(|| self.keys_of(app, instance.id));
        let code_dir = app.deployer.image_folder(&version.image);
        Ok(RouteParts { instance, version, code_dir, state_dir, devices, keys })
    }

    /// Who may write under which key of an instance: the same over all its versions.
    fn keys_of(&self, app: &App, instance: HelperInstanceId) -> Arc<KeyLeases> {
        let mut all = self.keys.lock();
        let leases = all.entry(instance).or_insert_with(|| {
            KeyLeases::new(instance, &self.platform_id, Arc::clone(&app.store), Arc::clone(&app.clock))
        });
        Arc::clone(leases)
    }

    fn publish_route(&self, app: &App, route: Arc<HelperRoute>) {
        app.routing.set_helpers([Arc::clone(&route)]);
        keep_minimum(&route);
    }

    /// Where an instance stands.
    pub fn observed(&self, app: &App, route: &HelperRoute) -> Observed {
        let now = app.clock.now();
        let (ready, starting, mut draining, failure) = route.pool.observe();
        draining += self.ending_pools(route.id).iter().map(|pool| pool.counts().0).sum::<usize>();
        let failure = failure.map(|error| crate::gateway::Problem::of_helper(error).sentence());
        let seen = Observation { ready, starting, draining, failure };
        let mut all = self.observed.lock();
        let observed = all.entry(route.id).or_insert_with(|| Observed::created(now));
        observed.look(route.admin, &seen, now);
        observed.clone()
    }

    /// Makes an instance, and starts a replica of it, so that what does not start is not made.
    ///
    /// # Errors
    /// [`ManageError`]; there is no instance then.
    pub async fn create(&self, app: &Arc<App>, new: NewInstance) -> Result<HelperInstanceRow, ManageError> {
        let name =
            FunctionName::parse(&new.name).map_err(|error| ManageError::Invalid("invalid-name", error.to_string()))?;
        let version = find_version(app, new.tenant, &new.publisher, &new.helper, new.version.as_deref()).await?;
        check_config(&version, &new.config)?;
        find_devices(&self.folders.devices, &version.manifest.devices)?;
        self.check_new_bindings(app, &new, &version)?;
        let mut row = app
            .store
            .helper_instance_create(
                &NewHelperInstance {
                    tenant: new.tenant,
                    name,
                    helper: version.helper,
                    publisher: new.publisher,
                    helper_name: new.helper,
                    version: version.version.clone(),
                    config: new.config.to_string(),
                    bindings: new.bindings,
                },
                app.clock.now(),
            )
            .await?;
        let lock = self.lock_of(row.id);
        let _changing = lock.lock().await;
        let started = async {
            let route = HelperRoute::new(&self.parts(app, &row, &version)?, &self.scheduler, &self.switchboard, None)?;
            drop(start_one(&route).await?);
            Ok::<_, ManageError>(route)
        };
        match started.await {
            Ok(route) => {
                row.state = "serving".into();
                app.store.helper_instance_update(&row, app.clock.now()).await?;
                self.publish_route(app, Arc::new(route));
                Ok(row)
            }
            Err(error) => {
                app.store.helper_instance_delete(row.id, app.clock.now()).await?;
                self.forget(row.id).await;
                Err(error)
            }
        }
    }

    fn check_new_bindings(&self, app: &App, new: &NewInstance, version: &HelperVersionRow) -> Result<(), ManageError> {
        let invalid = |text: String| Err(ManageError::Invalid("invalid-bindings", text));
        let snapshot = app.routing.load();
        for name in &version.manifest.helpers {
            let Some(instance) = new.bindings.get(name) else {
                return invalid(format!("the helper calls `{name}`: bind it to an instance with `bindings`"));
            };
            if snapshot.helper(&new.tenant, instance).is_none() {
                return invalid(format!("`{name}` is bound to `{instance}`, which is not an instance of yours"));
            }
        }
        if let Some(name) = new.bindings.keys().find(|name| !version.manifest.helpers.contains(name)) {
            return invalid(format!("the helper calls nothing by the name `{name}`"));
        }
        // By name among the tenant's own, which a later one of the same name takes over; others' are told apart by their ids.
        let label = |route: &HelperRoute| match route.tenant == new.tenant {
            true => route.name.clone(),
            false => route.id.to_string(),
        };
        let called = |tenant: &TenantId, bindings: &BTreeMap<String, String>| -> Vec<String> {
            let label =
                |instance: &String| snapshot.helper(tenant, instance).map_or(instance.clone(), |one| label(one));
            bindings.values().map(label).collect()
        };
        let mut calls: BTreeMap<String, Vec<String>> =
            snapshot.helpers().map(|route| (label(route), called(&route.tenant, &route.bindings))).collect();
        calls.insert(new.name.clone(), called(&new.tenant, &new.bindings));
        check_bindings(&calls).map_err(|error| ManageError::Invalid("binding-cycle", error.to_string()))
    }

    fn lock_of(&self, instance: HelperInstanceId) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.changing.lock().entry(instance).or_default())
    }

    /// Changes an instance.
    ///
    /// # Errors
    /// [`ManageError`]; the instance is as it was then.
    pub async fn change(
        &self,
        app: &Arc<App>,
        instance: HelperInstanceId,
        change: InstanceChange,
    ) -> Result<HelperInstanceRow, ManageError> {
        let lock = self.lock_of(instance);
        let _changing = lock.lock().await;
        let mut row = app.store.helper_instance_get_by_id(instance).await?;
        let known = app.routing.load().helper_by_id(instance).cloned();
        let Some(known) = known else {
            return Err(StoreError::NotFound { what: "helper instance" }.into());
        };
        if let InstanceChange::Share(tenants) = change {
            row.shared_with.clone_from(&tenants);
            app.store.helper_instance_update(&row, app.clock.now()).await?;
            app.routing.set_helpers([Arc::new(known.for_tenants(tenants))]);
            return Ok(row);
        }
        let mut version = app.store.helper_version_get(row.helper, HelperVersionQuery::Exactly(&row.version)).await?;
        match &change {
            InstanceChange::Version(..) | InstanceChange::Rollback => {
                let wanted = match &change {
                    InstanceChange::Version(wanted, _) => wanted.clone(),
                    _ => row.previous_version.clone().ok_or_else(|| {
                        ManageError::Invalid("no-previous-version", format!("`{}` has had no other version", row.name))
                    })?,
                };
                version = app.store.helper_version_get(row.helper, HelperVersionQuery::Exactly(&wanted)).await?;
                if let InstanceChange::Version(_, Some(config)) = &change {
                    row.config = config.to_string();
                }
                let config = serde_json::from_str(&row.config).unwrap_or_default();
                check_config(&version, &config)?;
                // To the same once more, as a retry does, keeps the way back.
                if row.version != wanted {
                    row.previous_version = Some(std::mem::replace(&mut row.version, wanted));
                }
            }
            InstanceChange::Config(config) => {
                check_config(&version, config)?;
                row.config = config.to_string();
            }
            InstanceChange::Data => row.data_version += 1,
            InstanceChange::Share(_) => {}
            InstanceChange::Start => row.state = "serving".into(),
            InstanceChange::Stop { .. } => row.state = "stopped".into(),
        }
        let route = Arc::new(HelperRoute::new(
            &self.parts(app, &row, &version)?,
            &self.scheduler,
            &self.switchboard,
            Some(&known),
        )?);
        // One replica proves what is new, also of an instance that is stopped.
        let proves =
            matches!(change, InstanceChange::Version(..) | InstanceChange::Rollback | InstanceChange::Config(_));
        let first = match route.admin {
            AdminState::Stopped if !proves => None,
            _ => Some(start_one(&route).await?),
        };
        if let (InstanceChange::Config(config) | InstanceChange::Version(_, Some(config)), Some(lease)) =
            (&change, &first)
            && lease.instance().has_hook("reconfigure")
        {
            let event = serde_json::json!({ "hook": "reconfigure", "config": config });
            if let Err(error) = training::hook(lease, &event, route.manifest.timeouts.reconfigure_s).await {
                route.pool.close();
                return Err(ManageError::Hook { hook: "reconfigure", error });
            }
        }
        let now = app.clock.now();
        if let Err(error) = app.store.helper_instance_update(&row, now).await {
            route.pool.close();
            return Err(error.into());
        }
        self.publish_route(app, Arc::clone(&route));
        self.ending.lock().entry(instance).or_default().push(Arc::downgrade(&known.pool));
        if matches!(change, InstanceChange::Stop { at_once: true }) {
            let training = self.training.lock().get(&instance).cloned().flatten();
            for pool in self.ending_pools(instance).into_iter().chain(training) {
                pool.kill_all();
            }
        }
        known.pool.hand_over(Arc::clone(&route.pool));
        if route.admin == AdminState::Stopped {
            route.pool.close();
        }
        drop(first);
        Ok(row)
    }

    /// Deletes an instance with its state. What runs in it ends with its last call.
    ///
    /// # Errors
    /// [`ManageError::Bound`] where something calls it, unless `force`.
    pub async fn delete(&self, app: &Arc<App>, route: &HelperRoute, force: bool) -> Result<(), ManageError> {
        let lock = self.lock_of(route.id);
        let _changing = lock.lock().await;
        if !force {
            let bound = self.bound_to(app, route);
            if !bound.is_empty() {
                return Err(ManageError::Bound { name: route.name.clone(), bound });
            }
        }
        app.store.helper_instance_delete(route.id, app.clock.now()).await?;
        let current = app.routing.load().helper_by_id(route.id).cloned();
        app.routing.remove_helper(route);
        if let Some(current) = current {
            current.pool.close();
        }
        app.invoker.results.purge(Purge::Function(route.function.id), app.clock.now());
        app.invoker.results.purge_below(Purge::Function(route.function.id)).await;
        self.forget(route.id).await;
        Ok(())
    }

    /// Removes all that is kept of an instance that is no more, beside what the database has.
    async fn forget(&self, instance: HelperInstanceId) {
        let folder = self.folders.state.join(instance.to_string());
        if folder.exists() {
            // What still runs there keeps its files until it closes them.
            let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(folder)).await;
            if let Ok(Err(error)) = removed {
                tracing::warn!(helper.instance = %instance, error = %error, "the folder of a helper instance that is no more could not be removed");
            }
        }
        self.observed.lock().remove(&instance);
        self.trained_at.lock().remove(&instance);
        self.precomputed.lock().remove(&instance);
        self.changing.lock().remove(&instance);
        self.keys.lock().remove(&instance);
        self.ending.lock().remove(&instance);
    }

    /// The functions and instances that call an instance, for people.
    pub fn bound_to(&self, app: &App, route: &HelperRoute) -> Vec<String> {
        let snapshot = app.routing.load();
        let calls = |tenant: &TenantId, bindings: &BTreeMap<String, String>| {
            let mut called = bindings.values().filter_map(|instance| snapshot.helper(tenant, instance));
            called.any(|called| called.id == route.id)
        };
        // What is another tenant's is not named.
        let told = |tenant: TenantId, what: &str, name: &str| match tenant == route.tenant {
            true => format!("{what} {name}"),
            false => format!("a {what} of another tenant"),
        };
        let functions = snapshot.functions().filter(|function| {
            let targets = function.aliases.values().flat_map(|alias| &alias.targets);
            let mut aliased = targets.filter_map(|(number, _)| function.versions.get(number));
            aliased.any(|version| calls(&function.tenant, &version.manifest.helpers))
        });
        let mut bound: Vec<_> = functions.map(|function| told(function.tenant, "function", &function.name)).collect();
        let helpers = snapshot.helpers().filter(|other| other.id != route.id && calls(&other.tenant, &other.bindings));
        bound.extend(helpers.map(|other| told(other.tenant, "helper instance", &other.name)));
        bound.sort();
        bound
    }

    /// Pools of before the last changes in which calls still run.
    fn ending_pools(&self, instance: HelperInstanceId) -> Vec<Arc<VersionPool>> {
        let mut all = self.ending.lock();
        let Some(pools) = all.get_mut(&instance) else { return Vec::new() };
        pools.retain(|pool| pool.upgrade().is_some_and(|pool| pool.counts().0 > 0));
        pools.iter().filter_map(Weak::upgrade).collect()
    }

    /// Bytes of the files that an instance keeps in its folder, where it has one.
    pub async fn disk_bytes(&self, route: &HelperRoute) -> Option<u64> {
        let folder = route.pool.spec().helper.as_ref()?.state_dir.clone()?;
        tokio::task::spawn_blocking(move || size_of(&folder)).await.ok()
    }

    /// Whether an instance is being trained.
    pub fn is_training(&self, instance: HelperInstanceId) -> bool {
        self.training.lock().contains_key(&instance)
    }

    /// Counts and writes what replicas used until now: at the end, when they have ended.
    pub async fn finish(&self, app: &App) {
        self.meter.sample().await;
        self.meter.write(app).await;
    }

    /// Looks at all instances again and again: notes where they stand, trains what is due, computes candidates ahead.
    pub async fn run(&self, app: Arc<App>, stop: CancellationToken) {
        let mut tick = tokio::time::interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut swept = Instant::now();
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.cancelled() => return,
            }
            let routes: Vec<_> = app.routing.load().helpers().cloned().collect();
            for route in &routes {
                self.observed(&app, route);
                for replica in route.pool.instances() {
                    self.meter.track(route, ReplicaRole::Serve, &replica);
                }
                training::start_if_due(self, &app, route);
                precompute::start_if_due(self, &app, route, &stop);
            }
            self.meter.sample_if_due().await;
            self.meter.write_if_due(&app).await;
            if swept.elapsed() >= SWEEP_EVERY {
                swept = Instant::now();
                let long_ago = TimestampUs(app.clock.now().0 - KEYS_KEPT_US);
                if let Err(error) = app.store.helper_keys_sweep(long_ago).await {
                    tracing::warn!(error = %error, "keys that nobody holds could not be forgotten");
                }
                if let Err(error) = app.store.helper_state_sweep(app.clock.now()).await {
                    tracing::warn!(error = %error, "helper state past its time could not be removed");
                }
            }
        }
    }
}

/// A method that the manifest says something of and the class does not have: what is said would never count.
fn undeclared(route: &HelperRoute, lease: &Lease) -> Option<String> {
    let loaded = lease.instance().loaded();
    route.manifest.methods.keys().find(|name| !loaded.methods.contains(name)).cloned()
}

/// Bytes of all files below a folder, as many as are looked at.
fn size_of(folder: &Path) -> u64 {
    let (mut folders, mut bytes, mut seen) = (vec![folder.to_owned()], 0, 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            seen += 1;
            if seen > FILES_MEASURED_MAX {
                return bytes;
            }
            match entry.metadata() {
                Ok(found) if found.is_dir() => folders.push(entry.path()),
                Ok(found) => bytes += found.len(),
                Err(_) => {}
            }
        }
    }
    bytes
}

fn keep_minimum(route: &HelperRoute) {
    let minimum = if route.admin == AdminState::Serving { route.manifest.scaling.min } else { 0 };
    route.pool.set_minimum(minimum);
}

/// How long a first replica is waited for: for its own start, and for a place.
pub(super) fn start_within(manifest: &HelperManifest) -> Duration {
    Duration::from_secs(u64::from(manifest.start_timeout_s)) + START_MARGIN
}

/// Starts the first replica of a route that nobody knows yet. On failure its pool is closed.
async fn start_one(route: &HelperRoute) -> Result<Lease, ManageError> {
    let within = start_within(&route.manifest);
    match route.pool.acquire(Instant::now() + within).await {
        Ok(lease) => match undeclared(route, &lease) {
            None => Ok(lease),
            Some(name) => {
                drop(lease);
                route.pool.close();
                let text = format!("helper.toml has [methods.{name}], and its class has no method of that name");
                Err(ManageError::Invalid("unknown-method", text))
            }
        },
        Err(error) => {
            route.pool.close();
            Err(ManageError::Start(error))
        }
    }
}

async fn find_version(
    app: &App,
    tenant: TenantId,
    publisher: &str,
    helper: &str,
    version: Option<&str>,
) -> Result<HelperVersionRow, ManageError> {
    let not_found = || StoreError::NotFound { what: "helper" };
    let publisher = match app.store.tenant_get_by_name(publisher).await {
        Ok(publisher) => publisher,
        Err(StoreError::NotFound { .. }) => return Err(not_found().into()),
        Err(error) => return Err(error.into()),
    };
    // Others' helpers need a plan, which nobody can have yet.
    if publisher.id != tenant {
        return Err(not_found().into());
    }
    let found = app.store.helper_get(publisher.id, helper).await?;
    let query = version.map_or(HelperVersionQuery::Newest, HelperVersionQuery::Exactly);
    Ok(app.store.helper_version_get(found, query).await?)
}

fn check_config(version: &HelperVersionRow, config: &Value) -> Result<(), ManageError> {
    let invalid = |text: String| Err(ManageError::Invalid("invalid-config", text));
    if !config.is_object() {
        return invalid("the configuration must be a JSON object".into());
    }
    let Some(file) = &version.manifest.config else { return Ok(()) };
    let text = version.schemas.get(file).map(String::as_str).unwrap_or_default();
    let schema = Schema::parse(file, text).map_err(|error| RouteError::Stored(error.to_string()))?;
    let problems = schema.problems(config);
    if problems.is_empty() {
        return Ok(());
    }
    invalid(format!("the configuration does not fit the helper's schema: {}", problems.join("; ")))
}
