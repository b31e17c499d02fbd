//! What makes one version of a function different from another.

use crate::key::update_with_length;

/// The digest of everything that decides what a version answers: code, configuration, runtime and locked dependencies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionDigest([u8; 32]);

impl VersionDigest {
    /// BLAKE3 over the length-prefixed parts.
    ///
    /// `code` is the package's digest, `configuration` what [`FunctionManifest::canonical_config`] returns, `runtime` a
    /// text that changes when the runtime does (`"python3 3.13.5 sdk 0.1.0"`), `lock` the digest of the files that name
    /// the dependencies.
    ///
    /// [`FunctionManifest::canonical_config`]: crate::FunctionManifest::canonical_config
    #[must_use]
    pub fn compute(code: &[u8; 32], configuration: &[u8], runtime: &str, lock: Option<&[u8; 32]>) -> Self {
        let mut hasher = blake3::Hasher::new();
        update_with_length(&mut hasher, b"raas version 1");
        update_with_length(&mut hasher, code);
        update_with_length(&mut hasher, configuration);
        update_with_length(&mut hasher, runtime.as_bytes());
        update_with_length(&mut hasher, lock.map_or(&[][..], |lock| lock.as_slice()));
        Self(*hasher.finalize().as_bytes())
    }
}

digest_type!(VersionDigest, "version digest");

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn every_part_counts() {
        let digest = VersionDigest::compute;
        let all = [
            digest(&[1; 32], b"c", "r", None),
            digest(&[2; 32], b"c", "r", None),
            digest(&[1; 32], b"d", "r", None),
            digest(&[1; 32], b"c", "s", None),
            digest(&[1; 32], b"c", "r", Some(&[0; 32])),
            digest(&[1; 32], b"cr", "", None),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn text_round_trip() {
        let digest = VersionDigest::compute(&[1; 32], b"", "", None);
        assert_eq!(digest.to_string().len(), 64);
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert_eq!(serde_json::from_str::<VersionDigest>(&serde_json::to_string(&digest).unwrap()).unwrap(), digest);
        assert!("zz".parse::<VersionDigest>().is_err());
    }
}
