//! What the data path knows: keys, functions, versions and aliases, in one immutable snapshot in memory.
//!
//! The control plane replaces the snapshot whole after each change it has committed to the database; the data path only ever
//! loads it. So a request never touches the database, and never sees half a change. A version's instances and a function's
//! counters live as long as the version is routable: they are carried over from snapshot to snapshot.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use raas_core::manifest::CacheMode;
use raas_core::{
    CanonicalEvent, FunctionId, FunctionManifest, HelperInstanceId, JsonPointer, KeyId, KeyPrefix, ResultKey,
    SharingScope, Tag, TenantId, VersionDigest, limits,
};

use crate::helpers::{HelperRoute, RuntimeCalls, Switchboard};
use crate::precompute::{BankBook, BankCell};
use crate::proof::{Parts, Projections, ProofBook, ProofCell};
use crate::scheduler::{Role, Scheduler, VersionPool, VersionSpec};

/// Who is calling, and what they may do. Had only by presenting a key.
#[derive(Debug, Clone)]
pub struct Principal {
    /// The key that was presented.
    pub key: KeyId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What it allows.
    pub scopes: Scopes,
    /// How many invocations of the tenant are in progress.
    pub in_flight: Arc<AtomicU64>,
}

/// One thing a key may allow.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
pub enum Scope {
    /// Everything, of every tenant: tenants, their keys, the platform's own figures.
    #[serde(rename = "admin")]
    Admin,
    /// Calling functions and reading their asynchronous answers.
    #[serde(rename = "invoke")]
    Invoke,
    /// Seeing functions, versions, logs and results.
    #[serde(rename = "functions:read")]
    FunctionsRead,
    /// Deploying, deleting, moving aliases, purging results.
    #[serde(rename = "functions:write")]
    FunctionsWrite,
    /// Seeing helpers, their instances and their state.
    #[serde(rename = "helpers:read")]
    HelpersRead,
    /// Publishing helpers; making, changing and deleting instances and their state.
    #[serde(rename = "helpers:write")]
    HelpersWrite,
    /// Seeing usage and costs.
    #[serde(rename = "usage:read")]
    UsageRead,
    /// Making, listing and revoking the tenant's keys.
    #[serde(rename = "keys")]
    Keys,
}

impl Scope {
    /// All, in the order they are shown.
    pub const ALL: [Self; 8] = [
        Self::Admin,
        Self::Invoke,
        Self::FunctionsRead,
        Self::FunctionsWrite,
        Self::HelpersRead,
        Self::HelpersWrite,
        Self::UsageRead,
        Self::Keys,
    ];

    /// What a key gets when nothing is said: all that concerns its own tenant.
    pub const TENANT: [Self; 7] = [
        Self::Invoke,
        Self::FunctionsRead,
        Self::FunctionsWrite,
        Self::HelpersRead,
        Self::HelpersWrite,
        Self::UsageRead,
        Self::Keys,
    ];

    /// Its name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Invoke => "invoke",
            Self::FunctionsRead => "functions:read",
            Self::FunctionsWrite => "functions:write",
            Self::HelpersRead => "helpers:read",
            Self::HelpersWrite => "helpers:write",
            Self::UsageRead => "usage:read",
            Self::Keys => "keys",
        }
    }

    /// The scope of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == name)
    }
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// The set of these.
    pub fn of(scopes: &[Scope]) -> Self {
        Self(scopes.iter().fold(0, |bits, scope| bits | 1 << *scope as u8))
    }

    /// Whether the set allows `scope`; the administrator's allows all.
    pub fn allow(self, scope: Scope) -> bool {
        self.0 & (1 << scope as u8 | 1 << Scope::Admin as u8) != 0
    }

    /// Whether everything in `other` is allowed by this set.
    pub fn cover(self, other: &[Scope]) -> bool {
        other.iter().all(|scope| self.allow(*scope))
    }
}

/// The BLAKE3 digest of a key's text: keys are random and long, so a fast hash keeps them as safe as a slow one would.
pub type KeyHash = [u8; 32];

/// One version as the data path sees it.
pub struct VersionRoute {
    /// Its number.
    pub number: u32,
    /// What the author declared.
    pub manifest: Arc<FunctionManifest>,
    /// Its code and configuration, hashed.
    pub digest: VersionDigest,
    /// Makes its result keys.
    pub key_prefix: KeyPrefix,
    /// The declared key pointers, if any.
    pub key_pointers: Option<Vec<JsonPointer>>,
    /// Its instances.
    pub pool: Arc<VersionPool>,
    /// Its instances that do what nobody waits for, made when first needed.
    pub spares: Arc<SparePools>,
    /// What is known of whether its results may be kept, where that is looked at.
    pub proof: Option<Arc<ProofCell>>,
    /// Which parts of events its results depend on, where that is learnt.
    pub projections: Option<Arc<Projections>>,
    /// What is expected to be asked for, where it is to be computed ahead.
    pub bank: Option<Arc<BankCell>>,
    /// Whether a call that an instance died under may be done again.
    pub idempotent: bool,
    /// Looks at a result before it is kept or given; tells what is wrong with it.
    pub result_check: Option<ResultCheck>,
}

/// Tells what is wrong with a result's JSON text.
pub type ResultCheck = Arc<dyn Fn(&[u8]) -> Result<(), String> + Send + Sync>;

/// Whether the platform is to find out itself which parts of an event decide a version's results.
fn learns_key(manifest: &FunctionManifest) -> bool {
    manifest.cache.mode == CacheMode::Proven && manifest.cache.key.is_none() && manifest.reaches_outside().is_none()
}

/// Pools of a version beside the one that answers its calls.
#[derive(Default)]
pub struct SparePools {
    spare: OnceLock<Arc<VersionPool>>,
    check: OnceLock<Arc<VersionPool>>,
}

impl SparePools {
    /// Ends what runs in them.
    pub fn close(&self) {
        [&self.spare, &self.check].into_iter().filter_map(OnceLock::get).for_each(VersionPool::close);
    }
}

impl VersionRoute {
    /// Instances of this version in a role.
    pub fn pool_of(&self, scheduler: &Scheduler, role: Role) -> Arc<VersionPool> {
        let pools = match role {
            Role::Serve => return Arc::clone(&self.pool),
            Role::Spare => &self.spares.spare,
            Role::Check => &self.spares.check,
        };
        Arc::clone(pools.get_or_init(|| scheduler.version_pool(self.pool.spec().in_role(role))))
    }

    /// The key of a call's result; `helper_epochs` are those of the helper instances that the code is bound to.
    pub fn result_key(&self, event: &CanonicalEvent, helper_epochs: &[u64]) -> ResultKey {
        match &self.key_pointers {
            Some(pointers) => self.key_prefix.key_with_data_versions(&event.project(pointers), helper_epochs),
            None => self.key_prefix.key_with_data_versions(event.whole(), helper_epochs),
        }
    }

    /// The keys under which the result of a call may lie, too, because runs were seen to read only parts of their events.
    pub fn other_keys(&self, event: &CanonicalEvent, helper_epochs: &[u64]) -> Box<[ResultKey]> {
        let Some(projections) = &self.projections else { return Box::default() };
        let sets = projections.sets(event.whole().len());
        sets.iter().map(|parts| self.key_of_parts(event, parts, helper_epochs)).collect()
    }

    /// The key of the result of a run that read only these parts of its event.
    pub fn key_of_parts(&self, event: &CanonicalEvent, parts: &Parts, helper_epochs: &[u64]) -> ResultKey {
        self.key_prefix.key_with_data_versions(&event.project_read(parts), helper_epochs)
    }

    /// By what the result of a call with this event can be dropped.
    pub fn tags(&self, event: &CanonicalEvent, tenant: TenantId) -> Box<[Tag]> {
        self.manifest.cache.tags.iter().filter_map(|template| template.of(event, tenant)).collect()
    }
}

/// Counters of one function since the platform started.
#[derive(Debug, Default)]
pub struct FunctionCounters {
    /// Answers by `ServedBy` code.
    pub served: [AtomicU64; 5],
    /// Answers that were errors.
    pub errors: AtomicU64,
    /// What computing one of its results takes, moving average, microseconds; 0 before the first.
    pub compute_us: AtomicU64,
    /// Purges of its results: who asks after one does not join a computation that began before it.
    pub purges: AtomicU64,
}

/// A named pointer to versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AliasRoute {
    /// Version numbers and their weights, in order.
    pub targets: Vec<(u32, u32)>,
}

/// One function as the data path sees it.
pub struct FunctionRoute {
    /// Its id.
    pub id: FunctionId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name.
    pub name: String,
    /// Its versions by number.
    pub versions: BTreeMap<u32, Arc<VersionRoute>>,
    /// Its aliases by name.
    pub aliases: BTreeMap<String, AliasRoute>,
    /// What has happened to it.
    pub counters: Arc<FunctionCounters>,
}

/// Which version a caller asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qualifier<'a> {
    /// Nothing said: the alias `live`.
    Live,
    /// A version by number.
    Version(u32),
    /// An alias by name.
    Alias(&'a str),
}

impl FunctionRoute {
    /// The version that `qualifier` means; `draw` is a number below 2^32 by which a weighted alias is decided.
    pub fn resolve(&self, qualifier: Qualifier<'_>, draw: u32) -> Option<&Arc<VersionRoute>> {
        let alias = match qualifier {
            Qualifier::Version(number) => return self.versions.get(&number),
            Qualifier::Alias(name) => self.aliases.get(name)?,
            Qualifier::Live => self.aliases.get("live")?,
        };
        if let [(number, _)] = alias.targets[..] {
            return self.versions.get(&number);
        }
        let total: u64 = alias.targets.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut at = (u64::from(draw) * total) >> 32;
        for (number, weight) in &alias.targets {
            let weight = u64::from(*weight);
            if at < weight {
                return self.versions.get(number);
            }
            at -= weight;
        }
        None
    }
}

/// All that the data path knows, at one moment.
#[derive(Default, Clone)]
pub struct Snapshot {
    keys: HashMap<KeyHash, Arc<Principal>>,
    functions: HashMap<TenantId, Arc<HashMap<String, Arc<FunctionRoute>>>>,
    helpers: HashMap<HelperInstanceId, Arc<HelperRoute>>,
    helper_names: HashMap<TenantId, Arc<HashMap<String, HelperInstanceId>>>,
}

/// Epochs that one result's key counts at most.
const EPOCHS_MAX: usize = 1_000;

impl Snapshot {
    /// A tenant's helper instance, by its name or its id; one of another tenant by its id, where that tenant shares it.
    pub fn helper(&self, tenant: &TenantId, name: &str) -> Option<&Arc<HelperRoute>> {
        let named = self.helper_names.get(tenant).and_then(|names| names.get(name));
        let id = match named {
            Some(id) => *id,
            None => name.parse().ok()?,
        };
        self.helpers.get(&id).filter(|route| route.tenant == *tenant || route.shared_with.contains(tenant))
    }

    /// A helper instance, whoever it belongs to.
    pub fn helper_by_id(&self, id: HelperInstanceId) -> Option<&Arc<HelperRoute>> {
        self.helpers.get(&id)
    }

    /// All helper instances of all tenants.
    pub fn helpers(&self) -> impl Iterator<Item = &Arc<HelperRoute>> {
        self.helpers.values()
    }

    /// What a function's results depend on of the instances that it is bound to: changes whenever one of them would answer
    /// differently. Nothing, and no allocation, where it is bound to none.
    pub fn helper_epochs(&self, tenant: &TenantId, bindings: &BTreeMap<String, String>) -> Vec<u64> {
        let mut epochs = Vec::new();
        self.add_epochs(tenant, bindings, 0, &mut epochs);
        epochs
    }

    /// Those of what is bound, and of what that is bound to, as deep as calls may go.
    fn add_epochs(&self, tenant: &TenantId, bindings: &BTreeMap<String, String>, depth: u32, epochs: &mut Vec<u64>) {
        for instance in bindings.values() {
            let route = self.helper(tenant, instance);
            epochs.push(route.map_or(0, |route| route.epoch));
            if let Some(route) = route.filter(|_| depth < limits::HELPER_CALL_DEPTH_MAX && epochs.len() < EPOCHS_MAX) {
                self.add_epochs(&route.tenant, &route.bindings, depth + 1, epochs);
            }
        }
    }

    fn put_helper(&mut self, route: Arc<HelperRoute>) {
        let names = Arc::make_mut(self.helper_names.entry(route.tenant).or_default());
        names.insert(route.name.clone(), route.id);
        self.helpers.insert(route.id, route);
    }

    /// Who holds a key.
    pub fn principal(&self, hash: &KeyHash) -> Option<&Arc<Principal>> {
        self.keys.get(hash)
    }

    /// A tenant's function.
    pub fn function(&self, tenant: &TenantId, name: &str) -> Option<&Arc<FunctionRoute>> {
        self.functions.get(tenant)?.get(name)
    }

    /// All functions of all tenants.
    pub fn functions(&self) -> impl Iterator<Item = &Arc<FunctionRoute>> {
        self.functions.values().flat_map(|functions| functions.values())
    }
}

/// One function's rows, as the store gives them.
#[derive(Debug, Clone)]
pub struct FunctionDefinition {
    /// Its id.
    pub id: FunctionId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name.
    pub name: String,
    /// Its versions.
    pub versions: Vec<VersionDefinition>,
    /// Its aliases.
    pub aliases: BTreeMap<String, AliasRoute>,
}

/// One version's row.
#[derive(Debug, Clone)]
pub struct VersionDefinition {
    /// Its number.
    pub number: u32,
    /// Its digest.
    pub digest: VersionDigest,
    /// What the author declared.
    pub manifest: Arc<FunctionManifest>,
    /// The folder that is mounted as `/var/task`.
    pub code_dir: PathBuf,
}

/// The one place where the snapshot is kept and changed.
pub struct Routing {
    snapshot: ArcSwap<Snapshot>,
    /// Serialises changes; readers never take it.
    changing: Mutex<()>,
    scheduler: Arc<Scheduler>,
    switchboard: Arc<Switchboard>,
    /// What is known of versions' results.
    pub proofs: ProofBook,
    /// What versions are expected to be asked for.
    pub banks: BankBook,
    tenants_in_flight: Mutex<HashMap<TenantId, Arc<AtomicU64>>>,
}

impl Routing {
    /// An empty snapshot.
    pub fn new(scheduler: Arc<Scheduler>, switchboard: Arc<Switchboard>) -> Self {
        Self {
            snapshot: ArcSwap::default(),
            changing: Mutex::new(()),
            scheduler,
            switchboard,
            proofs: ProofBook::default(),
            banks: BankBook::default(),
            tenants_in_flight: Mutex::default(),
        }
    }

    /// Puts helper instances in place of what was known of them.
    pub fn set_helpers(&self, routes: impl IntoIterator<Item = Arc<HelperRoute>>) {
        let _changing = self.changing.lock();
        let mut next = Snapshot::clone(&self.snapshot.load());
        routes.into_iter().for_each(|route| next.put_helper(route));
        self.snapshot.store(Arc::new(next));
    }

    /// Forgets a helper instance.
    pub fn remove_helper(&self, route: &HelperRoute) {
        let _changing = self.changing.lock();
        let mut next = Snapshot::clone(&self.snapshot.load());
        next.helpers.remove(&route.id);
        if let Some(names) = next.helper_names.get_mut(&route.tenant) {
            Arc::make_mut(names).remove(&route.name);
        }
        self.snapshot.store(Arc::new(next));
    }

    /// The snapshot of now.
    pub fn load(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Replaces all keys.
    pub fn set_keys(&self, keys: impl Iterator<Item = (KeyHash, KeyId, TenantId, Scopes)>) {
        let _changing = self.changing.lock();
        let keys = {
            let mut tenants = self.tenants_in_flight.lock();
            keys.map(|(hash, key, tenant, scopes)| {
                let in_flight = Arc::clone(tenants.entry(tenant).or_default());
                (hash, Arc::new(Principal { key, tenant, scopes, in_flight }))
            })
            .collect()
        };
        let old = self.snapshot.load();
        self.snapshot.store(Arc::new(Snapshot { keys, ..Snapshot::clone(&old) }));
    }

    /// Puts these functions in place of what was known of them, and leaves the others.
    pub fn set_functions(&self, definitions: Vec<FunctionDefinition>) {
        let _changing = self.changing.lock();
        let old = self.snapshot.load();
        let mut functions = old.functions.clone();
        for definition in definitions {
            let of_tenant = Arc::make_mut(functions.entry(definition.tenant).or_default());
            let known = of_tenant.get(&definition.name).filter(|known| known.id == definition.id).cloned();
            of_tenant.insert(definition.name.clone(), Arc::new(self.route(definition, known.as_deref())));
        }
        self.snapshot.store(Arc::new(Snapshot { functions, ..Snapshot::clone(&old) }));
    }

    /// Forgets all functions but these.
    pub fn retain_functions(&self, known: &HashSet<FunctionId>) {
        let gone: Vec<_> = {
            let snapshot = self.snapshot.load();
            let gone = snapshot.functions().filter(|function| !known.contains(&function.id));
            gone.map(|function| (function.tenant, function.name.clone())).collect()
        };
        for (tenant, name) in gone {
            self.remove_function(&tenant, &name);
        }
    }

    /// Forgets a function: its instances take no more calls.
    pub fn remove_function(&self, tenant: &TenantId, name: &str) {
        let _changing = self.changing.lock();
        let old = self.snapshot.load();
        let mut functions = old.functions.clone();
        if let Some(of_tenant) = functions.get_mut(tenant)
            && let Some(removed) = Arc::make_mut(of_tenant).remove(name)
        {
            self.proofs.remove(removed.id);
            self.banks.remove(removed.id);
            for version in removed.versions.values() {
                version.pool.close();
                version.spares.close();
            }
        }
        self.snapshot.store(Arc::new(Snapshot { functions, ..Snapshot::clone(&old) }));
    }

    fn route(&self, definition: FunctionDefinition, known: Option<&FunctionRoute>) -> FunctionRoute {
        let counters = known.map(|known| Arc::clone(&known.counters)).unwrap_or_default();
        let FunctionDefinition { id, tenant, name, versions, aliases } = definition;
        let versions = versions
            .into_iter()
            .map(|version| {
                let number = version.number;
                let known = known.and_then(|known| known.versions.get(&number));
                let proof = self.proofs.cell(id, number, &version.manifest);
                let projections = learns_key(&version.manifest).then(|| {
                    let refused = proof.as_ref().is_some_and(|proof| proof.known().counts_whole);
                    let known = known.and_then(|known| known.projections.clone());
                    known.unwrap_or_else(|| Arc::new(Projections::new(refused)))
                });
                let pool = known.map(|known| Arc::clone(&known.pool)).unwrap_or_else(|| {
                    self.scheduler.version_pool(VersionSpec {
                        tenant,
                        function: id,
                        version: version.number,
                        manifest: Arc::clone(&version.manifest),
                        code_dir: version.code_dir,
                        helper: None,
                        helpers: version.manifest.helpers.keys().cloned().collect(),
                        calls: Arc::new(RuntimeCalls::of_function(
                            &self.switchboard,
                            tenant,
                            id,
                            version.manifest.helpers.clone(),
                        )),
                        role: Role::Serve,
                        record_reads: projections
                            .as_ref()
                            .map(|known| Arc::clone(known.recording()))
                            .unwrap_or_default(),
                    })
                });
                // Until results are shared between tenants by a rule that also says who may purge them.
                let scope = SharingScope::Tenant(tenant);
                let key_prefix = KeyPrefix::new(scope, &version.digest, 0, &raas_core::HelperVersions::new(), "");
                let key_pointers = version.manifest.cache.key.clone();
                let spares = known.map(|known| Arc::clone(&known.spares)).unwrap_or_default();
                let bank = self.banks.cell(id, number, &version.manifest);
                let route = VersionRoute {
                    number,
                    manifest: version.manifest,
                    digest: version.digest,
                    key_prefix,
                    key_pointers,
                    pool,
                    spares,
                    proof,
                    projections,
                    bank,
                    idempotent: false,
                    result_check: None,
                };
                (number, Arc::new(route))
            })
            .collect::<BTreeMap<_, _>>();
        let route = FunctionRoute { id, tenant, name, versions, aliases, counters };
        for (number, version) in &route.versions {
            let aliased = route.aliases.values().any(|alias| alias.targets.iter().any(|(target, _)| target == number));
            let minimum = if aliased { version.manifest.scaling.min } else { 0 };
            version.pool.set_minimum(minimum);
        }
        route
    }
}
