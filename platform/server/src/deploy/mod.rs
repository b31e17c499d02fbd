//! From an upload to an immutable version: unpacked, checked, its dependencies installed, and only then recorded.
//!
//! Everything up to the one database transaction at the end can fail without a trace: packages and images are content-addressed
//! and appear whole. It must not know HTTP or routing.

mod build;
mod identity;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use raas_contract::FunctionError;
use raas_core::{Clock, FunctionManifest, TenantId, VersionDigest};
use raas_packages::{Dependencies, MANIFEST, PackageError, PackageStore};
use raas_store::{DeployRecord, Store, StoreError};
use tokio::sync::{Semaphore, mpsc};

use crate::scheduler::SpawnerHandle;
use crate::settings::BuildSettings;

/// Makes versions of uploads.
pub struct Deployer {
    packages: Arc<PackageStore>,
    images: PathBuf,
    spawner: Arc<SpawnerHandle>,
    builds: Semaphore,
    settings: BuildSettings,
}

/// What is being done, for the person who waits.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(tag = "progress", rename_all = "kebab-case")]
pub enum Progress {
    /// The upload is unpacked and checked.
    Unpacked {
        /// Files in it.
        files: usize,
        /// Bytes of all of them.
        size_bytes: u64,
    },
    /// Dependencies are being installed.
    Installing,
    /// A line of the installer's output.
    Output {
        /// The line.
        line: String,
    },
    /// Python files are being compiled, so that the first call need not.
    Compiling,
}

/// Where progress goes; lines are left out when the reader is slow.
pub type ProgressSender = mpsc::Sender<Progress>;

/// A version that is deployed.
#[derive(Debug, Clone)]
pub struct DeployedVersion {
    /// The function's name.
    pub manifest: FunctionManifest,
    /// The version's number.
    pub version: u32,
    /// Whether the same version was there already.
    pub existed: bool,
    /// The version's digest.
    pub digest: VersionDigest,
    /// Bytes of all files.
    pub size_bytes: u64,
}

/// Why nothing was deployed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The archive is not acceptable.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The manifest is not acceptable.
    #[error("{MANIFEST}: {0}")]
    Manifest(String),
    /// The dependencies could not be installed.
    #[error("the dependencies could not be installed: {explanation}")]
    Install {
        /// One line that says what to do.
        explanation: String,
        /// The installer's own last lines.
        output: String,
    },
    /// The platform failed.
    #[error("the deploy failed inside the platform")]
    Platform(#[source] anyhow::Error),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl DeployError {
    /// The installer's output in the shape in which code's errors are shown.
    pub fn detail(&self) -> Option<Box<FunctionError>> {
        match self {
            Self::Install { explanation, output } => Some(Box::new(FunctionError {
                kind: "InstallFailed".into(),
                message: explanation.clone(),
                stack: output.clone(),
            })),
            _ => None,
        }
    }
}

impl Deployer {
    /// Opens the folders; removes what an earlier process left unfinished.
    ///
    /// # Errors
    /// The file system fails.
    pub fn open(
        packages: &Path,
        images: &Path,
        spawner: Arc<SpawnerHandle>,
        settings: &BuildSettings,
    ) -> anyhow::Result<Self> {
        build::remove_unfinished(images)?;
        Ok(Self {
            packages: Arc::new(PackageStore::open(packages)?),
            images: images.to_owned(),
            spawner,
            builds: Semaphore::new(settings.concurrent as usize),
            settings: settings.clone(),
        })
    }

    /// The folder that sandboxes of a version see as `/var/task`.
    pub fn image_dir(&self, code_digest: &str, runtime: raas_core::Runtime) -> PathBuf {
        self.images.join(format!("{code_digest}.{}", runtime.as_str()))
    }

    /// Removes every image that is not in `referenced`, and the packages they were made of.
    ///
    /// # Errors
    /// The file system fails.
    pub fn remove_all_but(&self, referenced: &HashSet<PathBuf>) -> anyhow::Result<()> {
        let mut packages = HashSet::new();
        for entry in std::fs::read_dir(&self.images)? {
            let path = entry?.path();
            if referenced.contains(&path) {
                packages.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
            } else {
                std::fs::remove_dir_all(&path)?;
            }
        }
        for digest in self.packages.list()? {
            if !packages.contains(&hex::encode(digest)) {
                self.packages.remove(&digest)?;
            }
        }
        Ok(())
    }

    /// Deploys an upload as a version of the function that its manifest names, and points `alias` at it.
    ///
    /// # Errors
    /// [`DeployError`]; nothing has changed then.
    pub async fn deploy(
        &self,
        store: &Store,
        clock: &dyn Clock,
        tenant: TenantId,
        upload: Bytes,
        alias: &str,
        progress: &ProgressSender,
    ) -> Result<DeployedVersion, DeployError> {
        let packages = Arc::clone(&self.packages);
        let (package, manifest) = blocking(move || {
            let package = packages.add(&upload)?;
            let manifest = read_manifest(&package.root)?;
            Ok((package, manifest))
        })
        .await?;
        let _ = progress.try_send(Progress::Unpacked { files: package.files, size_bytes: package.size_bytes });

        let runtime = manifest.runtime;
        let identity = identity::of(runtime).await.map_err(DeployError::Manifest)?;
        let root = package.root.clone();
        let dependencies = blocking(move || Ok(Dependencies::detect(&root, runtime)?)).await?;
        let code_digest = hex::encode(package.digest);
        let image = self.image_dir(&code_digest, runtime);
        if !image.is_dir() {
            let _place = self.builds.acquire().await.map_err(|error| DeployError::Platform(error.into()))?;
            self.build(&package.root, runtime, dependencies.as_ref(), &image, progress).await?;
        }

        let lock = dependencies.as_ref().map(|dependencies| dependencies.lock_digest);
        let digest = VersionDigest::compute(&package.digest, &manifest.canonical_config(), &identity, lock.as_ref());
        let record = DeployRecord {
            tenant,
            name: manifest.name.clone(),
            alias: alias.to_owned(),
            digest: digest.to_string(),
            code_digest,
            lock_digest: lock.map(hex::encode),
            package_size_bytes: package.size_bytes,
            manifest: manifest.clone(),
        };
        let deployed = store.function_deploy(&record, clock.now()).await?;
        Ok(DeployedVersion {
            manifest,
            version: deployed.version,
            existed: !deployed.created,
            digest,
            size_bytes: package.size_bytes,
        })
    }
}

fn read_manifest(root: &Path) -> Result<FunctionManifest, DeployError> {
    let text = std::fs::read_to_string(root.join(MANIFEST))
        .map_err(|error| DeployError::Manifest(format!("cannot be read: {error}")))?;
    let manifest = FunctionManifest::parse(&text).map_err(|error| DeployError::Manifest(error.problems.join("; ")))?;
    let unsupported = manifest.unsupported();
    if !unsupported.is_empty() {
        return Err(DeployError::Manifest(unsupported.join("; ")));
    }
    Ok(manifest)
}

/// Runs file-system work where it holds up nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, DeployError> + Send + 'static,
) -> Result<T, DeployError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| DeployError::Platform(error.into()))?
}
