//! A helper instance as the data path sees it: immutable, replaced whole by every change.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use raas_contract::{HelperInit, MethodInit};
use raas_core::manifest::CacheMode;
use raas_core::{FunctionId, HelperInstanceId, HelperManifest, KeyPrefix, SharingScope, TenantId, VersionDigest};
use raas_helpers::{AdminState, DeviceEdits, Schema};
use raas_store::{HelperInstanceRow, HelperVersionRow};

use super::call::check;
use super::keys::KeyLeases;
use super::switchboard::{RuntimeCalls, Switchboard};
use crate::routing::{FunctionCounters, FunctionRoute, ResultCheck, VersionRoute};
use crate::scheduler::{HelperSpec, Role, Scheduler, VersionPool, VersionSpec};

/// Where a replica finds the folder that its instance keeps.
const STATE_DIR: &str = "/var/out";

/// What replicas are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplicaRole {
    /// Answering calls.
    Serve,
    /// One run of `train()`, apart from calls.
    Train,
}

impl ReplicaRole {
    fn as_str(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Train => "train",
        }
    }
}

/// A helper instance.
#[derive(Clone)]
pub struct HelperRoute {
    /// Its id.
    pub id: HelperInstanceId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name.
    pub name: String,
    /// What the publisher declares.
    pub manifest: Arc<HelperManifest>,
    /// Changes with everything that its answers depend on: version, configuration, data.
    pub epoch: u64,
    /// Which outcome of training its replicas hold.
    pub data_version: u64,
    /// Whether it serves.
    pub admin: AdminState,
    /// The tenants that may call it beside its own.
    pub shared_with: Vec<TenantId>,
    /// The instances that it calls, by the name in its code.
    pub bindings: BTreeMap<String, String>,
    /// Its replicas.
    pub pool: Arc<VersionPool>,
    /// As what it is logged and metered.
    pub function: Arc<FunctionRoute>,
    /// Who may write under which key, where there is one writer a key.
    pub keys: Option<Arc<KeyLeases>>,
    methods: BTreeMap<String, MethodRoute>,
    other: MethodRoute,
}

/// A method.
#[derive(Clone)]
pub struct MethodRoute {
    /// As what it is called.
    pub version: Arc<VersionRoute>,
    /// The argument that holds its key, where there is one writer a key.
    pub key: Option<String>,
    /// What its arguments must look like.
    pub arguments: Option<Arc<Schema>>,
}

/// Why stored rows make no route.
#[derive(Debug, thiserror::Error)]
pub enum RouteError {
    /// A stored text cannot be read.
    #[error("what is stored of the helper instance cannot be read: {0}")]
    Stored(String),
}

/// All that a route is made of.
pub struct RouteParts<'a> {
    /// The instance.
    pub instance: &'a HelperInstanceRow,
    /// The version that it runs.
    pub version: &'a HelperVersionRow,
    /// The version's files as sandboxes see them.
    pub code_dir: PathBuf,
    /// The folder that the instance keeps, where it keeps one.
    pub state_dir: Option<PathBuf>,
    /// What its sandboxes are shown for its devices.
    pub devices: DeviceEdits,
    /// Who may write under which key, where there is one writer a key.
    pub keys: Option<Arc<KeyLeases>>,
}

impl HelperRoute {
    /// Makes a route with a pool of its own that nothing runs in yet. Counters go on from `known`.
    ///
    /// # Errors
    /// What is stored cannot be read.
    pub fn new(
        parts: &RouteParts<'_>,
        scheduler: &Scheduler,
        switchboard: &Arc<Switchboard>,
        known: Option<&Self>,
    ) -> Result<Self, RouteError> {
        let RouteParts { instance, version, .. } = parts;
        let stored = |error: String| RouteError::Stored(error);
        let digest: VersionDigest = version.digest.parse().map_err(|_| stored("its version's digest".into()))?;
        let config_digest = *blake3::hash(instance.config.as_bytes()).as_bytes();
        let manifest = Arc::new(version.manifest.clone());
        let name = &instance.name;
        let pool = scheduler.version_pool(spec(parts, switchboard, ReplicaRole::Serve)?);
        let function = Arc::new(FunctionRoute {
            id: function_id(instance.id),
            tenant: instance.tenant,
            name: name.clone(),
            versions: BTreeMap::new(),
            aliases: BTreeMap::new(),
            counters: known.map(|known| Arc::clone(&known.function.counters)).unwrap_or_default(),
        });
        let method = |name: Option<&str>| -> Result<MethodRoute, RouteError> {
            let declared = name.and_then(|name| manifest.methods.get(name));
            let mut as_function = manifest.function_manifest(&instance_name(&instance.name)?);
            let key_prefix = KeyPrefix::of_helper_method(
                SharingScope::Tenant(instance.tenant),
                instance.id,
                &digest,
                &config_digest,
                instance.data_version,
                name.unwrap_or_default(),
            );
            let schema = |file: Option<&String>| -> Result<Option<Arc<Schema>>, RouteError> {
                let Some(file) = file else { return Ok(None) };
                let text = version.schemas.get(file).ok_or_else(|| stored(format!("the schema {file}")))?;
                Ok(Some(Arc::new(Schema::parse(file, text).map_err(|error| stored(error.to_string()))?)))
            };
            let mut arguments = None;
            let mut result_check = None;
            if let Some(declared) = declared {
                if declared.cache_ttl_s > 0 {
                    as_function.cache.mode = CacheMode::Declared;
                    as_function.cache.ttl_s = declared.cache_ttl_s;
                }
                as_function.timeout_s = declared.timeout_s.unwrap_or(manifest.timeout_s);
                arguments = schema(declared.args.as_ref())?;
                result_check = schema(declared.result.as_ref())?.map(result_check_of);
            }
            Ok(MethodRoute {
                version: Arc::new(VersionRoute {
                    number: u32::try_from(instance.data_version).unwrap_or(u32::MAX),
                    manifest: Arc::new(as_function),
                    digest,
                    key_prefix,
                    key_pointers: None,
                    pool: Arc::clone(&pool),
                    spares: Arc::default(),
                    proof: None,
                    projections: None,
                    bank: None,
                    idempotent: declared.is_some_and(|declared| declared.idempotent),
                    result_check,
                }),
                key: declared.and_then(|declared| declared.key.clone()),
                arguments,
            })
        };
        let methods = manifest
            .methods
            .keys()
            .map(|name| Ok((name.clone(), method(Some(name))?)))
            .collect::<Result<_, RouteError>>()?;
        let mut epoch = blake3::Hasher::new();
        epoch.update(instance.id.as_bytes());
        epoch.update(digest.as_bytes());
        epoch.update(&config_digest);
        epoch.update(&instance.data_version.to_le_bytes());
        let mut first = [0; 8];
        first.copy_from_slice(&epoch.finalize().as_bytes()[..8]);
        Ok(Self {
            id: instance.id,
            tenant: instance.tenant,
            name: name.clone(),
            epoch: u64::from_le_bytes(first),
            data_version: instance.data_version,
            admin: if instance.state == "stopped" { AdminState::Stopped } else { AdminState::Serving },
            shared_with: instance.shared_with.clone(),
            bindings: instance.bindings.clone(),
            other: method(None)?,
            methods,
            manifest,
            pool,
            function,
            keys: parts.keys.clone(),
        })
    }

    /// The same instance for other tenants, these and no others.
    pub fn for_tenants(&self, tenants: Vec<TenantId>) -> Self {
        Self { shared_with: tenants, ..self.clone() }
    }

    /// How many accelerators each of its replicas has.
    pub fn accelerators(&self) -> u32 {
        self.pool.spec().helper.as_ref().map_or(0, |helper| helper.devices.accelerators)
    }

    /// A method, whether or not anything is declared of it.
    pub fn method(&self, name: &str) -> &MethodRoute {
        self.methods.get(name).unwrap_or(&self.other)
    }

    /// What has happened to it since the platform started.
    pub fn counters(&self) -> &FunctionCounters {
        &self.function.counters
    }
}

fn result_check_of(schema: Arc<Schema>) -> ResultCheck {
    Arc::new(move |body: &[u8]| {
        check(&schema, body)
            .map_err(|problems| format!("the result does not fit the schema that the helper declares: {problems}"))
    })
}

/// As what an instance is logged and metered: its own id.
pub fn function_id(instance: HelperInstanceId) -> FunctionId {
    FunctionId::from_bytes(*instance.as_bytes())
}

fn instance_name(name: &str) -> Result<raas_core::FunctionName, RouteError> {
    raas_core::FunctionName::parse(name).map_err(|error| RouteError::Stored(error.to_string()))
}

/// What the scheduler runs for an instance.
///
/// # Errors
/// What is stored cannot be read.
pub fn spec(
    parts: &RouteParts<'_>,
    switchboard: &Arc<Switchboard>,
    role: ReplicaRole,
) -> Result<VersionSpec, RouteError> {
    let RouteParts { instance, version, code_dir, state_dir, devices, keys } = parts;
    let manifest = &version.manifest;
    let mut as_function = manifest.function_manifest(&instance_name(&instance.name)?);
    if let (ReplicaRole::Train, Some(train)) = (role, &manifest.train) {
        as_function.cpu_millis = train.cpu_millis;
        as_function.timeout_s = train.timeout_s;
        as_function.scaling.min = 0;
        as_function.scaling.max = 1;
        as_function.scaling.concurrency = 1;
    }
    let config = serde_json::from_str(&instance.config).map_err(|error| RouteError::Stored(error.to_string()))?;
    let timeout = |declared: Option<u32>| MethodInit { timeout_s: declared.unwrap_or(manifest.timeout_s) };
    let init = HelperInit {
        instance_id: instance.id.to_string(),
        publisher: instance.publisher.clone(),
        name: instance.helper_name.clone(),
        version: instance.version.clone(),
        instance: instance.name.clone(),
        config,
        data_version: instance.data_version,
        dir: state_dir.is_some().then(|| STATE_DIR.to_owned()),
        purpose: role.as_str(),
        methods: manifest.methods.iter().map(|(name, method)| (name.clone(), timeout(method.timeout_s))).collect(),
    };
    Ok(VersionSpec {
        tenant: instance.tenant,
        function: function_id(instance.id),
        version: u32::try_from(instance.data_version).unwrap_or(u32::MAX),
        manifest: Arc::new(as_function),
        code_dir: code_dir.clone(),
        helper: Some(Arc::new(HelperSpec {
            init,
            state_dir: state_dir.clone(),
            devices: devices.clone(),
            start_timeout_s: manifest.start_timeout_s,
            timeouts: manifest.timeouts,
            health: manifest.health,
        })),
        helpers: manifest.helpers.clone(),
        calls: Arc::new(RuntimeCalls::of_helper(
            switchboard,
            instance.tenant,
            instance.bindings.clone(),
            instance.id,
            u64::from(manifest.state_mb) << 20,
            keys.clone(),
        )),
        role: Role::Serve,
        record_reads: Arc::default(),
    })
}
