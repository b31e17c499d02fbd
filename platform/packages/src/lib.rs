//! What a deployed folder is: packed by the CLI, unpacked with suspicion by the platform, kept under the digest of its
//! content, and how its dependencies are installed.
//!
//! Everything an uploaded archive says is taken for an attack until checked: nothing is written outside one new folder,
//! nothing through a link, and nothing stays behind when an archive is refused. Synchronous; knows of no HTTP, no
//! database and no sandbox. Where to start: [`PackageStore`] keeps packages, [`unpack`] makes one from bytes, [`pack`]
//! makes the bytes from a folder, [`dependencies`] says what to run to install what a package needs.
#![deny(missing_docs)]

pub mod dependencies;
pub mod error;
pub mod pack;
mod requirements;
pub mod store;
mod tree;
pub mod unpack;

pub use dependencies::{Dependencies, InstallStep, OnFailure, explain_failure};
pub use error::{EntryProblem, PackageError};
pub use pack::{PackError, Packed, pack_folder, packed_files};
pub use store::{Package, PackageStore};
pub use unpack::{UnpackLimits, Unpacked, unpack_bytes};

/// The name of a function's manifest.
pub const MANIFEST: &str = "raas.toml";

/// The name of a helper's manifest.
pub const HELPER_MANIFEST: &str = "helper.toml";

/// Every package has one of these at its top.
pub(crate) const MANIFESTS: [&str; 2] = [MANIFEST, HELPER_MANIFEST];
