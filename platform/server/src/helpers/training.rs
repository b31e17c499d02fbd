//! Continuous training: `train()` in a replica of its own, apart from those that answer.
//!
//! The training replica has its own processor share and no calls in it, so training never holds an answer up. When it has
//! returned, what it wrote to the state is committed, the data version goes up, and replicas that start from the new state
//! replace the others by the same rolling change as any.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use raas_core::InstanceId;
use raas_helpers::AdminState;
use raas_store::{HelperVersionQuery, TrainingOutcome};
use serde_json::{Value, json};

use super::manager::{HelperManager, InstanceChange, ManageError, start_within};
use super::route::{HelperRoute, ReplicaRole, spec};
use crate::app::App;
use crate::logs::LogTarget;
use crate::scheduler::{CallError, Lease};

/// What a training run came to.
#[derive(Debug, Clone)]
pub struct Trained {
    /// The data version from now on.
    pub data_version: u64,
    /// What `train()` returned.
    pub value: Value,
    /// How long it took.
    pub took: Duration,
}

/// Runs a hook of a replica. One that does not return in time is taken out of service.
///
/// # Errors
/// The helper's own error, or none came in time.
pub(super) async fn hook(lease: &Lease, event: &Value, limit_s: u32) -> Result<Bytes, CallError> {
    let outcome = lease.instance().hook(&event.to_string(), limit_s).await;
    if let Err(CallError::Timeout { .. }) = &outcome {
        lease.discard();
    }
    outcome
}

/// Writes into the instance's own log what concerns its owner and no caller.
pub(super) fn tell(app: &App, route: &HelperRoute, text: &str) {
    let version = u32::try_from(route.data_version).unwrap_or(u32::MAX);
    let target = LogTarget { function: route.function.id, version, instance: InstanceId::from_bytes([0; 16]) };
    app.logs.failure(target, None, text);
}

/// Trains an instance that is due by its own schedule.
pub(super) fn start_if_due(manager: &HelperManager, app: &Arc<App>, route: &Arc<HelperRoute>) {
    let Some(every_s) = route.manifest.train.as_ref().and_then(|train| train.every_s) else { return };
    if route.admin == AdminState::Stopped {
        return;
    }
    {
        // The first run is due one interval after the platform first saw the instance.
        let mut trained_at = manager.trained_at.lock();
        let at = trained_at.entry(route.id).or_insert_with(Instant::now);
        if at.elapsed() < Duration::from_secs(u64::from(every_s)) {
            return;
        }
        *at = Instant::now();
    }
    let (app, route, turns) = (Arc::clone(app), Arc::clone(route), Arc::clone(&manager.scheduled));
    tokio::spawn(async move {
        let Ok(_turn) = turns.acquire_owned().await else { return };
        if let Err(error) = app.helpers.train(&app, &route).await {
            tracing::warn!(helper.instance = %route.id, error = %error, "a helper could not be trained; its answers are as before");
        }
    });
}

impl HelperManager {
    /// Trains an instance now, and puts the outcome in force.
    ///
    /// # Errors
    /// [`ManageError`]; the data version and all answers are as before then.
    pub async fn train(&self, app: &Arc<App>, route: &HelperRoute) -> Result<Trained, ManageError> {
        {
            let mut training = self.training.lock();
            if training.contains_key(&route.id) {
                return Err(ManageError::Busy(format!("`{}` is being trained already", route.name)));
            }
            training.insert(route.id, None);
        }
        let begun = Instant::now();
        self.trained_at.lock().insert(route.id, begun);
        let _training = Training { manager: self, route };
        let run = app.store.helper_training_begin(route.id, app.clock.now()).await?;
        let outcome = self.train_apart(app, route, begun).await;
        let (ended, detail, data_version) = match &outcome {
            Ok(trained) => (TrainingOutcome::Succeeded, trained.value.to_string(), trained.data_version),
            Err(error) => {
                let why = match error {
                    ManageError::Hook { error, .. } | ManageError::Start(error) => error.account(),
                    other => other.to_string(),
                };
                tell(app, route, &format!("train() failed: {why}"));
                (TrainingOutcome::Failed, why, route.data_version)
            }
        };
        app.store.helper_training_end(run, ended, &detail, data_version, app.clock.now()).await?;
        outcome
    }

    async fn train_apart(&self, app: &Arc<App>, route: &HelperRoute, begun: Instant) -> Result<Trained, ManageError> {
        let instance = app.store.helper_instance_get_by_id(route.id).await?;
        let version =
            app.store.helper_version_get(instance.helper, HelperVersionQuery::Exactly(&instance.version)).await?;
        let spec = spec(&self.parts(app, &instance, &version)?, self.switchboard(), ReplicaRole::Train)?;
        let limit_s = spec.manifest.timeout_s;
        let pool = self.scheduler().version_pool(spec);
        self.training.lock().insert(route.id, Some(Arc::clone(&pool)));
        let within = start_within(&version.manifest);
        let returned = async {
            let lease = pool.acquire(Instant::now() + within).await.map_err(ManageError::Start)?;
            if !lease.instance().has_hook("train") {
                return Err(ManageError::NoHook(format!("`{}` has no train(): there is nothing to train", route.name)));
            }
            self.meter.track(route, ReplicaRole::Train, lease.instance());
            hook(&lease, &json!({ "hook": "train" }), limit_s)
                .await
                .map_err(|error| ManageError::Hook { hook: "train()", error })
        };
        let returned = returned.await;
        pool.close();
        let value: Value = serde_json::from_slice(&returned?).unwrap_or_default();
        if value["value"] == false {
            // It says that it changed nothing: what is kept stays right. What is expected may have changed.
            self.precomputed.lock().remove(&route.id);
            let took = begun.elapsed();
            return Ok(Trained { data_version: route.data_version, value: value["value"].clone(), took });
        }
        let now = app.store.helper_instance_get_by_id(route.id).await?;
        if now.version != instance.version || now.config != instance.config {
            let text = format!("`{}` was changed while it was trained; train it again", route.name);
            return Err(ManageError::Busy(text));
        }
        let row = self.change(app, route.id, InstanceChange::Data).await?;
        Ok(Trained { data_version: row.data_version, value: value["value"].clone(), took: begun.elapsed() })
    }
}

/// Marks an instance as being trained.
struct Training<'a> {
    manager: &'a HelperManager,
    route: &'a HelperRoute,
}

impl Drop for Training<'_> {
    fn drop(&mut self) {
        self.manager.training.lock().remove(&self.route.id);
    }
}
