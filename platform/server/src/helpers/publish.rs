//! From an upload to an immutable helper version in the catalogue.

use std::collections::BTreeMap;
use std::path::Path;

use raas_core::{Clock, HelperManifest, TenantId};
use raas_helpers::Schema;
use raas_packages::HELPER_MANIFEST;
use raas_store::{HelperPublish, Store};

use crate::deploy::{DeployError, Deployer, Image, ProgressSender, Upload};

/// The largest schema, bytes.
const SCHEMA_MAX_BYTES: u64 = 256 * 1024;

/// A helper version that is published.
#[derive(Debug, Clone)]
pub struct PublishedHelper {
    /// What the publisher declares.
    pub manifest: HelperManifest,
    /// Code, configuration, runtime and lock file, hashed.
    pub digest: String,
    /// Bytes of all files.
    pub size_bytes: u64,
    /// Whether it was published before.
    pub existed: bool,
}

/// Publishes an upload under the tenant's name.
///
/// # Errors
/// [`DeployError`]; nothing has changed then. A version that is published with other content is a conflict.
pub async fn publish(
    deployer: &Deployer,
    store: &Store,
    clock: &dyn Clock,
    tenant: TenantId,
    upload: Upload,
    progress: &ProgressSender,
) -> Result<PublishedHelper, DeployError> {
    let record = async |(manifest, schemas): (HelperManifest, BTreeMap<String, String>), image: Image| {
        let digest = image.version_digest(&manifest.canonical_config()).to_string();
        let publish = HelperPublish {
            tenant,
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            digest: digest.clone(),
            code_digest: image.code_digest,
            lock_digest: image.lock_digest.map(hex::encode),
            image: image.name,
            package_size_bytes: image.size_bytes,
            manifest: manifest.clone(),
            schemas,
        };
        let published = store.helper_publish(&publish, clock.now()).await?;
        Ok(PublishedHelper { manifest, digest, size_bytes: image.size_bytes, existed: !published.created })
    };
    let read = |top: &Path| read(top).map(|(manifest, schemas)| (manifest.runtime, (manifest, schemas)));
    deployer.build_from(upload, progress, read, record).await
}

/// The manifest and the schemas that it names, by their file's name.
fn read(top: &Path) -> Result<(HelperManifest, BTreeMap<String, String>), DeployError> {
    let refused = DeployError::HelperManifest;
    let text = std::fs::read_to_string(top.join(HELPER_MANIFEST))
        .map_err(|error| refused(format!("cannot be read: {error}; a function is deployed with `raas deploy`")))?;
    let manifest = HelperManifest::parse(&text).map_err(|error| refused(error.problems.join("; ")))?;
    let mut schemas = BTreeMap::new();
    let named = manifest.methods.values().flat_map(|method| [&method.args, &method.result]);
    for file in named.chain([&manifest.config]).flatten() {
        if schemas.contains_key(file) {
            continue;
        }
        let path = top.join(file);
        let plain = Path::new(file).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        let metadata = std::fs::symlink_metadata(&path).ok().filter(|found| plain && found.is_file());
        let Some(metadata) = metadata else {
            return Err(refused(format!("names the schema {file:?}, which is not a file in the folder")));
        };
        if metadata.len() > SCHEMA_MAX_BYTES {
            return Err(refused(format!("the schema {file} is over {SCHEMA_MAX_BYTES} bytes")));
        }
        let text = std::fs::read_to_string(&path).map_err(|error| refused(format!("{file}: {error}")))?;
        Schema::parse(file, &text).map_err(|error| refused(error.to_string()))?;
        schemas.insert(file.clone(), text);
    }
    Ok((manifest, schemas))
}
