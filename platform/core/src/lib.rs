//! The vocabulary of the platform: ids, time, money, limits, the function manifest, and the key under which a result
//! is kept.
//!
//! Everything here is pure and synchronous, so that every other crate can depend on it. It must not know of tokio,
//! axum, sqlx, files or sockets. Where to start: [`manifest`] says what an author declares, [`json`] and [`key`] turn
//! an event into a [`ResultKey`], [`usage`] is what one answered call leaves behind, [`money`] is what it costs.
#![deny(missing_docs)]

#[macro_use]
pub mod digest;

pub mod clock;
pub mod id;
pub mod json;
pub mod key;
pub mod limits;
pub mod manifest;
pub mod money;
pub mod pointer;
pub mod pricing;
pub mod problem;
pub mod served_by;
pub mod tag;
pub mod usage;
pub mod version;

pub use clock::{Clock, ManualClock, SystemClock, TimestampUs};
pub use id::{FunctionId, HelperId, HelperInstanceId, IdError, InstanceId, InvocationId, KeyId, TenantId};
pub use json::{CanonicalEvent, EventError};
pub use key::{HelperVersions, KeyPrefix, ResultKey, SharingScope};
pub use manifest::{
    FunctionManifest, FunctionName, HelperHealth, HelperManifest, HelperTimeouts, ManifestError, Network, Runtime,
};
pub use money::{Currency, Money, MoneyError, PreciseAmount, Rate};
pub use pointer::JsonPointer;
pub use pricing::{PriceList, UsageFigures};
pub use problem::Origin;
pub use served_by::ServedBy;
pub use tag::{Tag, TagTemplate};
pub use usage::UsageEvent;
pub use version::VersionDigest;
