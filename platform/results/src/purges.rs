//! What was dropped, and when: keeps out results that were under way at that time, and those that a lower tier still holds.
//!
//! A purge is remembered as long as a result from before it could be. It compares the moment of the purge with that at which a
//! result's computation began; both are read from the platform's clock.

use std::collections::HashMap;

use parking_lot::RwLock;
use raas_core::{FunctionId, ResultKey, Tag, TenantId, TimestampUs};

use crate::result::StoredResult;

/// Purges that are remembered one by one; beyond them a function's are merged into one of all its results.
const PURGES_MAX: usize = 100_000;

/// Which results are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purge {
    /// A function's, all.
    Function(FunctionId),
    /// Those of one version.
    Version(FunctionId, u32),
    /// The one of a key.
    Key(FunctionId, ResultKey),
    /// A function's with a tag.
    Tag(FunctionId, Tag),
    /// A tenant's with a tag, of all its functions.
    TenantTag(TenantId, Tag),
    /// All of a tenant's.
    Tenant(TenantId),
}

impl Purge {
    /// Whether it is about this result.
    pub fn is_of(&self, key: &ResultKey, result: &StoredResult) -> bool {
        match self {
            Self::Function(function) => result.function == *function,
            Self::Version(function, version) => result.function == *function && result.version == *version,
            Self::Key(function, purged) => result.function == *function && key == purged,
            Self::Tag(function, tag) => result.function == *function && result.tags.contains(tag),
            Self::TenantTag(tenant, tag) => result.tenant == *tenant && result.tags.contains(tag),
            Self::Tenant(tenant) => result.tenant == *tenant,
        }
    }
}

/// All purges that are remembered.
#[derive(Debug, Default)]
pub struct Purges {
    at: RwLock<HashMap<Purge, TimestampUs>>,
}

impl Purges {
    /// Remembers a purge. A later one of the same takes its place, an earlier one does not. Returns whether it was news.
    pub fn record(&self, purge: Purge, at: TimestampUs) -> bool {
        let mut known = self.at.write();
        let purge = match purge {
            Purge::Version(function, _) | Purge::Key(function, _) | Purge::Tag(function, _)
                if known.len() >= PURGES_MAX =>
            {
                Purge::Function(function)
            }
            Purge::TenantTag(tenant, _) if known.len() >= PURGES_MAX => Purge::Tenant(tenant),
            other => other,
        };
        let before = known.insert(purge, at);
        match before.filter(|before| *before >= at) {
            Some(before) => {
                known.insert(purge, before);
                false
            }
            None => true,
        }
    }

    /// Whether a result was purged since its computation began.
    pub fn cover(&self, key: &ResultKey, result: &StoredResult) -> bool {
        let known = self.at.read();
        if known.is_empty() {
            return false;
        }
        let function = result.function;
        let whole = [
            Purge::Function(function),
            Purge::Version(function, result.version),
            Purge::Key(function, *key),
            Purge::Tenant(result.tenant),
        ];
        let tagged =
            result.tags.iter().flat_map(|&tag| [Purge::Tag(function, tag), Purge::TenantTag(result.tenant, tag)]);
        whole.into_iter().chain(tagged).any(|purge| known.get(&purge).is_some_and(|at| result.began_at <= *at))
    }
}

impl std::fmt::Display for Purge {
    /// As it is stored: its kind, whose, and what, with colons between.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Function(function) => write!(f, "function:{function}:"),
            Self::Version(function, version) => write!(f, "version:{function}:{version}"),
            Self::Key(function, key) => write!(f, "key:{function}:{key}"),
            Self::Tag(function, tag) => write!(f, "tag:{function}:{}", tag.0),
            Self::TenantTag(tenant, tag) => write!(f, "tenant-tag:{tenant}:{}", tag.0),
            Self::Tenant(tenant) => write!(f, "tenant:{tenant}:"),
        }
    }
}

impl std::str::FromStr for Purge {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split(':');
        let (Some(kind), Some(whose), Some(what), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(());
        };
        let function = || whose.parse::<FunctionId>().map_err(|_| ());
        let tag = || what.parse().map(Tag).map_err(|_| ());
        Ok(match kind {
            "function" => Self::Function(function()?),
            "version" => Self::Version(function()?, what.parse().map_err(|_| ())?),
            "key" => Self::Key(function()?, what.parse().map_err(|_| ())?),
            "tag" => Self::Tag(function()?, tag()?),
            "tenant" => Self::Tenant(whose.parse().map_err(|_| ())?),
            "tenant-tag" => Self::TenantTag(whose.parse().map_err(|_| ())?, tag()?),
            _ => return Err(()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::tests::result;

    #[test]
    fn a_purge_covers_what_began_before_it_and_nothing_else() {
        let (key, other) = (ResultKey::from_bytes([1; 32]), ResultKey::from_bytes([2; 32]));
        let mut kept = result(1, 1, 0);
        let tag = Tag::of(kept.tenant, "airports");
        kept.tags = [tag].into();
        let function = kept.function;
        for purge in [
            Purge::Function(function),
            Purge::Version(function, 1),
            Purge::Key(function, key),
            Purge::Tag(function, tag),
            Purge::TenantTag(kept.tenant, tag),
            Purge::Tenant(kept.tenant),
        ] {
            let purges = Purges::default();
            assert!(!purges.cover(&key, &kept));
            purges.record(purge, TimestampUs(kept.began_at.0 - 1));
            assert!(!purges.cover(&key, &kept), "{purge:?}: it began after that");
            purges.record(purge, kept.began_at);
            assert!(purges.cover(&key, &kept) && purge.is_of(&key, &kept), "{purge:?}");
            purges.record(purge, TimestampUs(0));
            assert!(purges.cover(&key, &kept), "an earlier purge takes nothing back");
            assert_eq!(purge.to_string().parse(), Ok(purge));
            let mut others = result(2, 1, 0);
            others.tenant = TenantId::from_bytes([8; 16]);
            assert!(!purges.cover(&other, &others) && !purge.is_of(&other, &others), "{purge:?}");
        }
        assert!(!Purge::Version(function, 2).is_of(&key, &kept) && !Purge::Key(function, other).is_of(&key, &kept));
    }

    #[test]
    fn a_flood_of_purges_is_merged_and_forgets_nothing() {
        let purges = Purges::default();
        let kept = result(1, 1, 0);
        for number in 0..PURGES_MAX as u64 + 10 {
            purges.record(Purge::Tag(kept.function, Tag(number)), kept.began_at);
        }
        for number in 0..100 {
            purges.record(Purge::TenantTag(kept.tenant, Tag(number)), kept.began_at);
        }
        assert!(purges.at.read().len() <= PURGES_MAX + 2);
        assert!(purges.cover(&ResultKey::from_bytes([1; 32]), &kept));
    }
}
