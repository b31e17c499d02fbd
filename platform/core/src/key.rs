//! The result key: under which name a result is kept, and so which calls share one.
//!
//! A key is BLAKE3 over length-prefixed parts, so that no part can be shifted into its neighbour. Everything but the
//! arguments is the same for all calls of a version; [`KeyPrefix`] hashes that once, and a call only adds its arguments.
//! The invariant: two calls share a key only if the same code, configuration and helper data would see equal arguments
//! in the same sharing scope.

use crate::id::{HelperInstanceId, TenantId};
use crate::json::CanonicalEvent;
use crate::pointer::JsonPointer;
use crate::version::VersionDigest;
use std::collections::BTreeMap;

/// The name of a kept result.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResultKey([u8; 32]);

digest_type!(ResultKey, "result key");

/// Who may be served a result that was computed for somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SharingScope {
    /// Only callers of this tenant.
    Tenant(TenantId),
    /// Every caller that may invoke the function.
    Public,
}

/// The data versions of the helpers that a function is bound to, by the name in its code.
pub type HelperVersions = BTreeMap<String, u64>;

/// The parts of a key that all calls of one version (and one node of it) share, already hashed.
///
/// Cloning copies about 2 KB; keep one for each version in the routing snapshot.
#[derive(Clone)]
pub struct KeyPrefix {
    hasher: blake3::Hasher,
}

impl KeyPrefix {
    /// Hashes the constant parts. `data_version` is that of what the code itself keeps, 0 for code that keeps nothing; `node` is the id of the data-flow node whose result is kept, `""` for the whole function.
    #[must_use]
    pub fn new(
        scope: SharingScope,
        version: &VersionDigest,
        data_version: u64,
        helpers: &HelperVersions,
        node: &str,
    ) -> Self {
        let mut hasher = blake3::Hasher::new();
        update_with_length(&mut hasher, b"raas result key 1");
        match scope {
            SharingScope::Tenant(tenant) => {
                update_with_length(&mut hasher, b"tenant");
                update_with_length(&mut hasher, tenant.as_bytes());
            }
            SharingScope::Public => update_with_length(&mut hasher, b"public"),
        }
        update_with_length(&mut hasher, version.as_bytes());
        hasher.update(&data_version.to_le_bytes());
        hasher.update(&(helpers.len() as u64).to_le_bytes());
        for (name, data_version) in helpers {
            update_with_length(&mut hasher, name.as_bytes());
            hasher.update(&data_version.to_le_bytes());
        }
        update_with_length(&mut hasher, node.as_bytes());
        Self { hasher }
    }

    /// The constant parts of a helper's method: what its results depend on beside the arguments.
    #[must_use]
    pub fn of_helper_method(
        scope: SharingScope,
        instance: HelperInstanceId,
        version: &VersionDigest,
        config_digest: &[u8; 32],
        data_version: u64,
        method: &str,
    ) -> Self {
        let mut prefix = Self::new(scope, version, data_version, &HelperVersions::new(), "");
        update_with_length(&mut prefix.hasher, b"helper method");
        // Two instances are told apart by nothing else where they keep different things.
        update_with_length(&mut prefix.hasher, instance.as_bytes());
        update_with_length(&mut prefix.hasher, config_digest);
        update_with_length(&mut prefix.hasher, method.as_bytes());
        prefix
    }

    /// The same as [`KeyPrefix::key`] for code whose results depend on data that changes: equal versions of the data are part
    /// of an equal key. Without any it is the same key.
    #[must_use]
    pub fn key_with_data_versions(&self, canonical_arguments: &[u8], data_versions: &[u64]) -> ResultKey {
        if data_versions.is_empty() {
            return self.key(canonical_arguments);
        }
        let mut hasher = self.hasher.clone();
        update_with_length(&mut hasher, b"data versions");
        hasher.update(&(data_versions.len() as u64).to_le_bytes());
        for version in data_versions {
            hasher.update(&version.to_le_bytes());
        }
        update_with_length(&mut hasher, canonical_arguments);
        ResultKey(*hasher.finalize().as_bytes())
    }

    /// The key of a call whose whole event counts.
    #[must_use]
    pub fn whole(&self, event: &CanonicalEvent) -> ResultKey {
        self.key(event.whole())
    }

    /// The key of a call of which only what the pointers name counts.
    #[must_use]
    pub fn projected(&self, event: &CanonicalEvent, pointers: &[JsonPointer]) -> ResultKey {
        self.key(&event.project(pointers))
    }

    /// The key of a call under what `cache.key` declares: the pointers, or the whole event where it is left out.
    #[must_use]
    pub fn of(&self, event: &CanonicalEvent, pointers: Option<&[JsonPointer]>) -> ResultKey {
        match pointers {
            Some(pointers) => self.projected(event, pointers),
            None => self.whole(event),
        }
    }

    /// The key of a call with these canonical arguments, as [`CanonicalEvent::whole`] or [`CanonicalEvent::project`]
    /// returns them.
    #[must_use]
    pub fn key(&self, canonical_arguments: &[u8]) -> ResultKey {
        let mut hasher = self.hasher.clone();
        update_with_length(&mut hasher, canonical_arguments);
        ResultKey(*hasher.finalize().as_bytes())
    }
}

impl std::fmt::Debug for KeyPrefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyPrefix")
    }
}

/// Hashes one part so that its end is where its length says, whatever comes after.
pub(crate) fn update_with_length(hasher: &mut blake3::Hasher, part: &[u8]) {
    hasher.update(&(part.len() as u64).to_le_bytes());
    hasher.update(part);
}

#[cfg(test)]
#[path = "key_tests.rs"]
mod tests;
