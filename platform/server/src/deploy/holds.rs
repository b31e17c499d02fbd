//! Packages that deploys are working on: one that came to nothing is removed by the last deploy that held it.
//!
//! A package of which there is an image belongs to a version, or is left for the next deploy of the same; neither is touched.

use std::collections::HashMap;
use std::path::Path;

use parking_lot::Mutex;
use raas_packages::PackageStore;

/// How many deploys hold each package, by its digest.
#[derive(Debug, Default)]
pub(super) struct Holds(Mutex<HashMap<[u8; 32], usize>>);

impl Holds {
    /// Holds a package. Before it is kept, so that nobody who lets go of the same removes it afterwards.
    pub(super) fn hold(&self, digest: [u8; 32]) {
        *self.0.lock().entry(digest).or_default() += 1;
    }

    /// Lets go of a package, and removes it where it came to nothing. Waits for the file system.
    pub(super) fn let_go(&self, digest: &[u8; 32], packages: &PackageStore, images: &Path) {
        // Locked to the end: who holds the same package next finds it either whole or gone.
        let mut holds = self.0.lock();
        match holds.get_mut(digest) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                holds.remove(digest);
                let removed = has_image(digest, images).map_err(anyhow::Error::from).and_then(|has_image| {
                    if !has_image {
                        packages.remove(digest)?;
                    }
                    Ok(())
                });
                if let Err(error) = removed {
                    tracing::warn!(error = %error, "a package that came to nothing could not be removed; the next start removes it");
                }
            }
        }
    }
}

fn has_image(digest: &[u8; 32], images: &Path) -> std::io::Result<bool> {
    let prefix = format!("{}.", hex::encode(digest));
    for entry in std::fs::read_dir(images)? {
        if entry?.file_name().to_string_lossy().starts_with(&prefix) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_to_let_go_removes_what_has_no_image() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let (packages, images) = (PackageStore::open(folder.path().join("packages"))?, folder.path().join("images"));
        std::fs::create_dir(&images)?;
        let (holds, digest) = (Holds::default(), [7; 32]);
        let package = packages.folder(&digest);
        std::fs::create_dir(&package)?;
        holds.hold(digest);
        holds.hold(digest);
        holds.let_go(&digest, &packages, &images);
        assert!(package.is_dir(), "another deploy has it");
        holds.let_go(&digest, &packages, &images);
        assert!(!package.exists());
        std::fs::create_dir(&package)?;
        std::fs::create_dir(images.join(format!("{}.node-0", hex::encode(digest))))?;
        holds.hold(digest);
        holds.let_go(&digest, &packages, &images);
        assert!(package.is_dir(), "an image was made of it");
        Ok(())
    }
}
