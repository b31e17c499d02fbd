//! The parts of a running platform, as the gateway sees them, and the few changes that touch several of them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use raas_core::{Clock, FunctionId, FunctionName, PriceList, TenantId, TimestampUs, limits};
use raas_helpers::StateWriter;
use raas_results::Purge;
use raas_store::{AliasRow, FunctionRow, Store, StoreError, VersionRow};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::deploy::Deployer;
use crate::helpers::HelperManager;
use crate::invoke::Invoker;
use crate::logs::LogWriter;
use crate::routing::{AliasRoute, FunctionDefinition, Routing, Scope, Scopes, VersionDefinition};

/// How long ago what is purged may be and still matter: no result is kept for longer.
const REMEMBERED: Duration = Duration::from_secs(limits::CACHE_TTL_MAX_S as u64 * 2);

/// Rows read at a time when all of a function's versions are wanted.
const VERSIONS_PER_READ: u32 = 100;

/// How long to wait before a changed function is read again.
const RELOAD_AFTER: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(400), Duration::from_millis(1600)];

/// A running platform.
pub struct App {
    /// What the data path knows.
    pub routing: Routing,
    /// Answers calls.
    pub invoker: Arc<Invoker>,
    /// Bounds calls.
    pub admission: Admission,
    /// What is durable. Never on the data path.
    pub store: Arc<Store>,
    /// Makes versions of uploads.
    pub deployer: Deployer,
    /// Makes and changes helper instances.
    pub helpers: HelperManager,
    /// Makes helpers' state durable.
    pub state_writer: StateWriter,
    /// Functions' log lines.
    pub logs: LogWriter,
    /// What calls cost.
    pub prices: PriceList,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Wakes the workers of asynchronous invocations.
    pub async_wake: Notify,
    /// Cancelled when the platform begins to stop.
    pub stop: CancellationToken,
    /// Held from reading the database to replacing the snapshot, so that what was read first is never put in place last.
    pub changing: tokio::sync::Mutex<()>,
}

impl App {
    /// Brings the snapshot up to the database: everything, at start.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn load_routing(&self) -> Result<(), StoreError> {
        let rows = self.store.routing_load().await?;
        self.set_keys(rows.keys);
        let mut versions: HashMap<FunctionId, Vec<VersionRow>> = HashMap::new();
        for version in rows.versions {
            versions.entry(version.function).or_default().push(version);
        }
        let mut aliases: HashMap<FunctionId, Vec<AliasRow>> = HashMap::new();
        for alias in rows.aliases {
            aliases.entry(alias.function).or_default().push(alias);
        }
        let known: HashSet<_> = rows.functions.iter().map(|function| function.id).collect();
        let definitions = rows
            .functions
            .into_iter()
            .map(|function| {
                let id = function.id;
                self.definition(
                    function,
                    versions.remove(&id).unwrap_or_default(),
                    aliases.remove(&id).unwrap_or_default(),
                )
            })
            .collect();
        self.routing.set_functions(definitions);
        self.routing.retain_functions(&known);
        Ok(())
    }

    /// Removes the files of versions that no function has any more. Only at start, when nothing is being deployed.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn remove_unreferenced(&self) -> Result<(), StoreError> {
        let mut referenced: HashSet<_> =
            self.store.helper_images().await?.iter().map(|image| self.deployer.image_folder(image)).collect();
        let snapshot = self.routing.load();
        let versions = snapshot.functions().flat_map(|function| function.versions.values());
        referenced.extend(versions.map(|version| version.pool.spec().code_dir.clone()));
        if let Err(error) = self.deployer.remove_all_but(&referenced) {
            tracing::warn!(error = %error, "files of deleted functions could not be removed");
        }
        Ok(())
    }

    /// Brings the snapshot's keys up to the database: at once after a key was made or revoked.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn reload_keys(&self) -> Result<(), StoreError> {
        let _changing = self.changing.lock().await;
        self.set_keys(self.store.key_list_active().await?);
        Ok(())
    }

    /// Brings one function in the snapshot up to the database. What is changed there is changed already, so a database that
    /// does not answer is asked again, a few times.
    ///
    /// # Errors
    /// The function is gone, or the database does not answer.
    pub async fn reload_function(&self, tenant: TenantId, name: &FunctionName) -> Result<(), StoreError> {
        for wait in RELOAD_AFTER {
            match self.reload_function_once(tenant, name).await {
                Err(error) if error.retryable() => {
                    tracing::warn!(function = %name, error = %error, "a changed function could not be read; trying again");
                }
                done => return done,
            }
            tokio::time::sleep(wait).await;
        }
        let reloaded = self.reload_function_once(tenant, name).await;
        if let Err(error) = &reloaded {
            tracing::error!(function = %name, error = %error, "a changed function could not be read: its calls go on as before the change");
        }
        reloaded
    }

    async fn reload_function_once(&self, tenant: TenantId, name: &FunctionName) -> Result<(), StoreError> {
        let _changing = self.changing.lock().await;
        let function = self.store.function_get(tenant, name).await?;
        let mut versions = Vec::new();
        let mut before = None;
        loop {
            let rows = self.store.version_list(tenant, name, VERSIONS_PER_READ, before).await?;
            before = rows.last().map(|row| row.number);
            let last = rows.len() < VERSIONS_PER_READ as usize;
            versions.extend(rows);
            if last {
                break;
            }
        }
        let aliases = self.store.alias_list(tenant, name).await?;
        self.routing.set_functions(vec![self.definition(function, versions, aliases)]);
        Ok(())
    }

    /// Deletes a function: its versions and results are unreachable on return.
    ///
    /// # Errors
    /// There is none of that name, or the database does not answer.
    pub async fn delete_function(&self, tenant: TenantId, name: &FunctionName) -> Result<(), StoreError> {
        let _changing = self.changing.lock().await;
        let id = self.store.function_delete(tenant, name, self.clock.now()).await?;
        self.routing.remove_function(&tenant, name.as_str());
        self.invoker.results.purge(Purge::Function(id), self.clock.now());
        self.invoker.results.purge_below(Purge::Function(id)).await;
        Ok(())
    }

    /// Drops kept results: none that was computed so far is handed out from now on, nor what is being computed. It holds for
    /// platforms that share the database a moment later, and after restarts.
    ///
    /// # Errors
    /// The database does not answer: nothing is dropped.
    pub async fn purge(&self, purge: Purge) -> Result<(), StoreError> {
        let at = self.clock.now();
        self.store.result_purge_record(&purge.to_string(), at).await?;
        self.apply_purge(purge, at);
        self.invoker.results.purge_below(purge).await;
        Ok(())
    }

    /// Writes what has been learnt of results since the last time; what cannot be written now is with the next.
    pub async fn save_known(&self) {
        let now = self.clock.now();
        let proofs = self.routing.proofs.save(&self.store, now).await;
        let books = self.routing.banks.save(&self.store, now).await;
        if let Err(error) = proofs.and(books) {
            tracing::warn!(error = %error, "what is known of results could not be written; it is tried again");
        }
    }

    /// Drops results here only.
    pub fn apply_purge(&self, purge: Purge, at: TimestampUs) {
        if !self.invoker.results.purge(purge, at) {
            return;
        }
        let snapshot = self.routing.load();
        let concerned = snapshot.functions().filter(|function| match purge {
            Purge::Function(id) | Purge::Version(id, _) | Purge::Key(id, _) | Purge::Tag(id, _) => id == function.id,
            Purge::TenantTag(tenant, _) | Purge::Tenant(tenant) => tenant == function.tenant,
        });
        for function in concerned {
            function.counters.purges.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The same for purges as they are stored; those that are known already change nothing.
    pub fn apply_purges(&self, purges: &[(String, TimestampUs)]) {
        for (text, at) in purges {
            match text.parse() {
                Ok(purge) => self.apply_purge(purge, *at),
                Err(()) => tracing::error!(purge = %text, "a stored purge cannot be read"),
            }
        }
    }

    /// What was purged while a result from before it could still be kept.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn load_purges(&self) -> Result<(), StoreError> {
        self.apply_purges(&self.store.result_purges_since(self.clock.now().saturating_sub(REMEMBERED)).await?);
        Ok(())
    }

    /// Brings the snapshot up to the database, what is gone from it included.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn reload_routing(&self) -> Result<(), StoreError> {
        let _changing = self.changing.lock().await;
        self.load_routing().await
    }

    fn set_keys(&self, rows: Vec<raas_store::KeyRow>) {
        self.routing.set_keys(rows.into_iter().filter_map(|row| {
            let mut hash = [0u8; 32];
            if hex::decode_to_slice(&row.hash, &mut hash).is_err() {
                tracing::error!(key.id = %row.id, "a stored key's hash cannot be read; the key does not work");
                return None;
            }
            let scopes: Vec<_> = row.scopes.iter().filter_map(|name| Scope::parse(name)).collect();
            Some((hash, row.id, row.tenant, Scopes::of(&scopes)))
        }));
    }

    fn definition(
        &self,
        function: FunctionRow,
        versions: Vec<VersionRow>,
        aliases: Vec<AliasRow>,
    ) -> FunctionDefinition {
        let versions = versions
            .into_iter()
            .filter_map(|row| {
                let Ok(digest) = row.digest.parse() else {
                    tracing::error!(function.id = %function.id, version = row.number, "a stored version's digest cannot be read; the version is not routed");
                    return None;
                };
                let code_dir = self.deployer.image_dir(&row);
                Some(VersionDefinition { number: row.number, digest, manifest: Arc::new(row.manifest), code_dir })
            })
            .collect();
        let aliases = aliases
            .into_iter()
            .map(|row| {
                let targets = row.targets.iter().map(|target| (target.version, target.weight)).collect();
                (row.name, AliasRoute { targets })
            })
            .collect::<BTreeMap<_, _>>();
        FunctionDefinition {
            id: function.id,
            tenant: function.tenant,
            name: function.name.to_string(),
            versions,
            aliases,
        }
    }
}
