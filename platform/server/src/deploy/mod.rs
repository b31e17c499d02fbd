//! From an upload to an immutable version: unpacked, checked, its dependencies installed, and only then recorded.
//!
//! Everything up to the one database transaction at the end can fail without a trace: packages and images are content-addressed
//! and appear whole. It must not know HTTP or routing.

mod build;
mod holds;
mod identity;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raas_contract::FunctionError;
use raas_core::{Clock, FunctionManifest, Runtime, TenantId, VersionDigest};
use raas_packages::{Dependencies, HELPER_MANIFEST, MANIFEST, Package, PackageError, PackageStore};
use raas_store::{DeployRecord, Deployed, Store, StoreError, VersionRow, check_alias_name};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit, mpsc};

use self::holds::Holds;
use crate::scheduler::SpawnerHandle;
use crate::settings::BuildSettings;

/// Uploads in memory at once: each is up to 100 MiB.
const UPLOADS_MAX: usize = 8;

/// How long a deploy waits until it may send its upload.
const UPLOAD_PLACE_WITHIN: Duration = Duration::from_secs(30);

/// Deploys that may wait until another's dependencies are installed; each has its package on disk.
const BUILDS_WAITING_MAX: usize = 32;

/// How long one waits.
const BUILD_PLACE_WITHIN: Duration = Duration::from_secs(120);

/// Makes versions of uploads.
pub struct Deployer {
    packages: Arc<PackageStore>,
    images: PathBuf,
    holds: Arc<Holds>,
    spawner: Arc<SpawnerHandle>,
    uploads: Arc<Semaphore>,
    builds: Semaphore,
    builds_waiting: Semaphore,
    settings: BuildSettings,
}

/// The right to have an upload in memory.
pub type UploadPlace = OwnedSemaphorePermit;

/// An upload that came whole.
pub struct Upload {
    /// The archive.
    pub archive: Bytes,
    /// Given back when the archive is unpacked.
    pub place: UploadPlace,
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
    /// It calls a helper that there is not.
    #[error("{MANIFEST}: {0}")]
    Bindings(String),
    /// A helper's manifest, or a schema it names, is not acceptable.
    #[error("{HELPER_MANIFEST}: {0}")]
    HelperManifest(String),
    /// The dependencies could not be installed.
    #[error("the dependencies could not be installed: {explanation}")]
    Install {
        /// One line that says what to do.
        explanation: String,
        /// The installer's own last lines.
        output: String,
    },
    /// Others are being deployed, and it did not become this one's turn.
    #[error("too many deploys are under way; try again in a moment")]
    Busy,
    /// The platform failed.
    #[error("the deploy failed inside the platform")]
    Platform(#[source] anyhow::Error),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Refuses a manifest that is acceptable by itself.
type AcceptManifest = Box<dyn Fn(&FunctionManifest) -> Result<(), DeployError> + Send>;

/// What is to be deployed as a function.
pub struct DeployOrder<'a> {
    /// Whose it will be.
    pub tenant: TenantId,
    /// Its folder.
    pub upload: Upload,
    /// What to point at it.
    pub alias: &'a str,
    /// Whether what the manifest asks for beside itself is there.
    pub accept: AcceptManifest,
}

impl DeployError {
    /// The installer's output in the shape in which code's errors are shown.
    pub fn detail(&self) -> Option<Box<FunctionError>> {
        match self {
            Self::Install { explanation, output } => Some(Box::new(FunctionError {
                kind: "InstallFailed".into(),
                message: explanation.clone(),
                stack: output.clone(),
                code: None,
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
            holds: Arc::default(),
            spawner,
            uploads: Arc::new(Semaphore::new(UPLOADS_MAX)),
            builds: Semaphore::new(settings.concurrent as usize),
            builds_waiting: Semaphore::new(BUILDS_WAITING_MAX),
            settings: settings.clone(),
        })
    }

    /// The folder of an image by its name.
    pub fn image_folder(&self, image: &str) -> PathBuf {
        self.images.join(image)
    }

    /// The folder that sandboxes of a version see as `/var/task`.
    pub fn image_dir(&self, version: &VersionRow) -> PathBuf {
        if version.image.is_empty() {
            return self.images.join(format!("{}.{}", version.code_digest, version.manifest.runtime.as_str()));
        }
        self.images.join(&version.image)
    }

    /// Waits for a place for one more upload; to be had before the first byte of it is read.
    ///
    /// # Errors
    /// [`DeployError::Busy`].
    pub async fn upload_place(&self) -> Result<UploadPlace, DeployError> {
        let place = tokio::time::timeout(UPLOAD_PLACE_WITHIN, Arc::clone(&self.uploads).acquire_owned()).await;
        place.map_err(|_| DeployError::Busy)?.map_err(|error| DeployError::Platform(error.into()))
    }

    async fn build_place(&self) -> Result<SemaphorePermit<'_>, DeployError> {
        let _waiting = self.builds_waiting.try_acquire().map_err(|_| DeployError::Busy)?;
        let place = tokio::time::timeout(BUILD_PLACE_WITHIN, self.builds.acquire()).await;
        place.map_err(|_| DeployError::Busy)?.map_err(|error| DeployError::Platform(error.into()))
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
    /// [`DeployError`]; nothing has changed then, unless it is the database that did not answer in time.
    pub async fn deploy(
        &self,
        store: &Store,
        clock: &dyn Clock,
        order: DeployOrder<'_>,
        progress: &ProgressSender,
    ) -> Result<DeployedVersion, DeployError> {
        let DeployOrder { tenant, upload, alias, accept } = order;
        check_alias_name(alias)?;
        let read = move |top: &Path| {
            let manifest = read_manifest(top)?;
            accept(&manifest)?;
            Ok((manifest.runtime, manifest))
        };
        let record = async |manifest: FunctionManifest, image: Image| {
            let digest = image.version_digest(&manifest.canonical_config());
            let size_bytes = image.size_bytes;
            let record = DeployRecord {
                tenant,
                name: manifest.name.clone(),
                alias: alias.to_owned(),
                digest: digest.to_string(),
                code_digest: image.code_digest,
                lock_digest: image.lock_digest.map(hex::encode),
                image: image.name,
                package_size_bytes: size_bytes,
                manifest: manifest.clone(),
            };
            let Deployed { version, created, .. } = store.function_deploy(&record, clock.now()).await?;
            Ok(DeployedVersion { version, existed: !created, digest, size_bytes, manifest })
        };
        self.build_from(upload, progress, read, record).await
    }

    /// Unpacks an upload that `read` accepts, builds its image, and has `record` write down what it is. Whatever fails leaves
    /// nothing.
    ///
    /// # Errors
    /// [`DeployError`].
    pub async fn build_from<M: Send + 'static, T>(
        &self,
        upload: Upload,
        progress: &ProgressSender,
        read: impl FnOnce(&Path) -> Result<(Runtime, M), DeployError> + Send + 'static,
        record: impl AsyncFnOnce(M, Image) -> Result<T, DeployError>,
    ) -> Result<T, DeployError> {
        let unpacked = self.unpack(upload, read).await?;
        let UnpackedUpload { package, runtime, manifest, dependencies } = unpacked;
        let _ = progress.try_send(Progress::Unpacked { files: package.files, size_bytes: package.size_bytes });
        let recorded = async {
            let image = self.image(&package, runtime, dependencies.as_ref(), progress).await?;
            record(manifest, image).await
        };
        let recorded = recorded.await;
        let (holds, packages, images) = (Arc::clone(&self.holds), Arc::clone(&self.packages), self.images.clone());
        let digest = package.digest;
        blocking(move || {
            holds.let_go(&digest, &packages, &images);
            Ok(())
        })
        .await?;
        recorded
    }

    /// Keeps the package of an upload, if what is in it can be deployed at all, and holds it.
    async fn unpack<M: Send + 'static>(
        &self,
        upload: Upload,
        read: impl FnOnce(&Path) -> Result<(Runtime, M), DeployError> + Send + 'static,
    ) -> Result<UnpackedUpload<M>, DeployError> {
        let (packages, holds) = (Arc::clone(&self.packages), Arc::clone(&self.holds));
        let images = self.images.clone();
        blocking(move || {
            let Upload { archive, place } = upload;
            let mut held = None;
            let added = packages.add_checked(&archive, |unpacked| {
                let (runtime, manifest) = read(&unpacked.top)?;
                let dependencies = Dependencies::detect(&unpacked.top, runtime)?;
                holds.hold(unpacked.digest);
                held = Some(unpacked.digest);
                Ok::<_, DeployError>((runtime, manifest, dependencies))
            });
            drop((archive, place));
            if let (Err(_), Some(digest)) = (&added, &held) {
                holds.let_go(digest, &packages, &images);
            }
            let (package, (runtime, manifest, dependencies)) = added?;
            Ok(UnpackedUpload { package, runtime, manifest, dependencies })
        })
        .await
    }

    /// The image of a package, built unless it is there.
    async fn image(
        &self,
        package: &Package,
        runtime: Runtime,
        dependencies: Option<&Dependencies>,
        progress: &ProgressSender,
    ) -> Result<Image, DeployError> {
        let identity = identity::of(runtime).await.map_err(DeployError::Manifest)?;
        let code_digest = hex::encode(package.digest);
        let name = image_name(&code_digest, runtime, &identity);
        let image_dir = self.images.join(&name);
        if !image_dir.is_dir() {
            let _place = self.build_place().await?;
            // Another deploy of the same may have been before us.
            if !image_dir.is_dir() {
                self.build(&package.root, runtime, dependencies, &image_dir, progress).await?;
            }
        }
        Ok(Image {
            name,
            code_digest,
            package_digest: package.digest,
            identity,
            lock_digest: dependencies.map(|dependencies| dependencies.lock_digest),
            size_bytes: package.size_bytes,
        })
    }
}

/// A package with its dependencies, as sandboxes see it.
pub struct Image {
    /// Its folder's name.
    pub name: String,
    /// The package, hashed.
    pub code_digest: String,
    package_digest: [u8; 32],
    identity: String,
    /// The lock file, hashed.
    pub lock_digest: Option<[u8; 32]>,
    /// Bytes of all files of the package.
    pub size_bytes: u64,
}

impl Image {
    /// The digest of this image under a configuration.
    pub fn version_digest(&self, canonical_config: &[u8]) -> VersionDigest {
        VersionDigest::compute(&self.package_digest, canonical_config, &self.identity, self.lock_digest.as_ref())
    }
}

/// What an upload turned out to be.
struct UnpackedUpload<M> {
    package: Package,
    runtime: Runtime,
    manifest: M,
    dependencies: Option<Dependencies>,
}

/// Another interpreter makes another image: its bytecode and its installed packages are for it alone. Begins with the package's
/// digest and a dot.
fn image_name(code_digest: &str, runtime: Runtime, identity: &str) -> String {
    let identity = blake3::hash(identity.as_bytes()).to_hex();
    format!("{code_digest}.{}-{}", runtime.as_str(), &identity[..16])
}

fn read_manifest(root: &Path) -> Result<FunctionManifest, DeployError> {
    let text = std::fs::read_to_string(root.join(MANIFEST)).map_err(|error| {
        let hint =
            if root.join(HELPER_MANIFEST).exists() { "; a helper is published with `raas helper publish`" } else { "" };
        DeployError::Manifest(format!("cannot be read: {error}{hint}"))
    })?;
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
