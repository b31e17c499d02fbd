//! How a result lies in a tier that others can read or break: versioned, compressed where it is worth it, and sealed.
//!
//! An entry is a header (`RaaR`, a format version, the id of the key that sealed it, a nonce) and a sealed payload, all
//! integers little-endian. XChaCha20-Poly1305 (RFC 8439 with the extended nonce of draft-irtf-cfrg-xchacha) hides the payload
//! and proves that not a bit of it, of the header or of the name it lies under has changed: there is no other checksum. Each
//! tenant has a key of its own, derived from the platform's. What cannot be read is a miss, and says why.

use std::sync::atomic::AtomicBool;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use raas_core::{FunctionId, ResultKey, Tag, TenantId, TimestampUs};

use crate::result::{ResultKind, StoredResult};

const MAGIC: &[u8; 4] = b"RaaR";
const FORMAT: u8 = 1;
const KEY_ID_BYTES: usize = 4;
const NONCE_BYTES: usize = 24;
const HEADER_BYTES: usize = MAGIC.len() + 1 + KEY_ID_BYTES + NONCE_BYTES;

/// Below this, compressing saves less than it costs, bytes.
const COMPRESS_FROM_BYTES: usize = 512;

/// Fast, and most of what there is to gain on JSON.
const COMPRESSION_LEVEL: i32 = 1;

/// The largest body that is read, bytes: what a sealed length may make the platform allocate.
const BODY_MAX_BYTES: usize = 64 << 20;

/// Why an entry cannot be read. All of them are misses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It is no entry of ours, of a later format, or sealed with another platform's key.
    #[error("the entry is of another platform or release")]
    Foreign,
    /// It was changed, cut short, or lies under another name than it was written for.
    #[error("the entry is corrupt")]
    Corrupt,
}

/// Seals and opens entries.
pub struct Sealer {
    master: [u8; 32],
}

impl Sealer {
    /// With the platform's key, from which those of tenants are derived.
    pub fn new(master: [u8; 32]) -> Self {
        Self { master }
    }

    fn tenant_key(&self, tenant: TenantId) -> (Key, [u8; KEY_ID_BYTES]) {
        let mut hasher = blake3::Hasher::new_derive_key("raas 2026-11-25 result entries of a tenant");
        hasher.update(&self.master);
        hasher.update(tenant.as_bytes());
        let key = *hasher.finalize().as_bytes();
        let id = blake3::derive_key("raas 2026-11-25 id of a key of result entries", &key);
        let mut short = [0; KEY_ID_BYTES];
        short.copy_from_slice(&id[..KEY_ID_BYTES]);
        (Key::from(key), short)
    }

    /// The entry of a result. Nothing where the machine has no randomness to give.
    pub fn seal(&self, key: &ResultKey, result: &StoredResult) -> Option<Vec<u8>> {
        let (tenant_key, key_id) = self.tenant_key(result.tenant);
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).ok()?;
        let mut entry = Vec::with_capacity(HEADER_BYTES + 128 + result.body.len());
        entry.extend_from_slice(MAGIC);
        entry.push(FORMAT);
        entry.extend_from_slice(&key_id);
        let bound_to = bound_to(key, &entry);
        entry.extend_from_slice(&nonce);
        let payload = Payload { msg: &encode(result), aad: &bound_to };
        let sealed = XChaCha20Poly1305::new(&tenant_key).encrypt(&XNonce::from(nonce), payload).ok()?;
        entry.extend_from_slice(&sealed);
        Some(entry)
    }

    /// The result in an entry that lies under `key`.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn open(&self, key: &ResultKey, tenant: TenantId, entry: &[u8]) -> Result<StoredResult, Unreadable> {
        let (tenant_key, key_id) = self.tenant_key(tenant);
        let rest = entry.strip_prefix(MAGIC).ok_or(Unreadable::Foreign)?;
        let (&format, rest) = rest.split_first().ok_or(Unreadable::Corrupt)?;
        let (id, rest) = rest.split_first_chunk::<KEY_ID_BYTES>().ok_or(Unreadable::Corrupt)?;
        if format != FORMAT || *id != key_id {
            return Err(Unreadable::Foreign);
        }
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(Unreadable::Corrupt)?;
        let bound_to = bound_to(key, &entry[..MAGIC.len() + 1 + KEY_ID_BYTES]);
        let payload = XChaCha20Poly1305::new(&tenant_key)
            .decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: &bound_to })
            .map_err(|_| Unreadable::Corrupt)?;
        decode(&payload, tenant).ok_or(Unreadable::Corrupt)
    }
}

/// What an entry is no good without: the name it lies under, and its header.
fn bound_to(key: &ResultKey, header: &[u8]) -> Vec<u8> {
    [key.as_bytes(), header].concat()
}

fn encode(result: &StoredResult) -> Vec<u8> {
    let packed = (result.body.len() >= COMPRESS_FROM_BYTES)
        .then(|| zstd::bulk::compress(&result.body, COMPRESSION_LEVEL).ok())
        .flatten()
        // A tenth at least, or opening it is not worth it.
        .filter(|packed| packed.len() * 10 <= result.body.len() * 9);
    let body = packed.as_deref().unwrap_or(&result.body);
    let mut out = Vec::with_capacity(96 + result.tags.len() * 8 + body.len());
    out.push(u8::from(result.kind == ResultKind::Error) | u8::from(packed.is_some()) << 1);
    out.extend_from_slice(result.function.as_bytes());
    out.extend_from_slice(&result.version.to_le_bytes());
    out.extend_from_slice(&result.compute_us.to_le_bytes());
    for moment in [result.began_at, result.stored_at, result.fresh_until, result.stale_until, result.on_error_until] {
        out.extend_from_slice(&moment.0.to_le_bytes());
    }
    out.push(result.tags.len() as u8);
    for tag in &result.tags {
        out.extend_from_slice(&tag.0.to_le_bytes());
    }
    out.extend_from_slice(&(result.body.len() as u32).to_le_bytes());
    out.extend_from_slice(body);
    out
}

/// Takes `N` bytes from the front.
fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, after) = rest.split_first_chunk::<N>()?;
    *rest = after;
    Some(*taken)
}

fn decode(mut rest: &[u8], tenant: TenantId) -> Option<StoredResult> {
    let rest = &mut rest;
    let [flags] = take::<1>(rest)?;
    let function = FunctionId::from_bytes(take(rest)?);
    let version = u32::from_le_bytes(take(rest)?);
    let compute_us = u64::from_le_bytes(take(rest)?);
    let mut moments = [TimestampUs::default(); 5];
    for moment in &mut moments {
        *moment = TimestampUs(i64::from_le_bytes(take(rest)?));
    }
    let [tags] = take::<1>(rest)?;
    let tags = (0..tags).map(|_| Some(Tag(u64::from_le_bytes(take(rest)?)))).collect::<Option<_>>()?;
    let length = u32::from_le_bytes(take(rest)?) as usize;
    let body = match flags & 2 {
        0 => rest.to_vec(),
        _ if length > BODY_MAX_BYTES => return None,
        _ => zstd::bulk::decompress(rest, length).ok()?,
    };
    let [began_at, stored_at, fresh_until, stale_until, on_error_until] = moments;
    (body.len() == length).then(|| StoredResult {
        kind: if flags & 1 == 0 { ResultKind::Value } else { ResultKind::Error },
        body: body.into(),
        tenant,
        function,
        version,
        compute_us,
        tags,
        began_at,
        stored_at,
        fresh_until,
        stale_until,
        on_error_until,
        unasked: AtomicBool::new(false),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::result::tests::result;
    use proptest::prelude::*;

    const KEY: ResultKey = ResultKey::from_bytes([7; 32]);

    fn same(one: &StoredResult, other: &StoredResult) -> bool {
        // `unasked` is this process' own.
        format!("{one:?}") == format!("{other:?}")
    }

    #[test]
    fn a_sealed_result_is_opened_again_by_its_own_platform_tenant_and_name() {
        let sealer = Sealer::new([1; 32]);
        for bytes in [0, 1, 511, 512, 100_000] {
            let mut kept = result(1, bytes, 5);
            kept.tags = [Tag(1), Tag(u64::MAX)].into();
            kept.kind = if bytes == 1 { ResultKind::Error } else { ResultKind::Value };
            let entry = sealer.seal(&KEY, &kept).unwrap();
            assert!(bytes < 100_000 || entry.len() < 1_000, "what repeats itself is compressed: {}", entry.len());
            assert!(same(&sealer.open(&KEY, kept.tenant, &entry).unwrap(), &kept));
            let open = |sealer: &Sealer, key, tenant| sealer.open(key, tenant, &entry).err();
            assert_eq!(open(&Sealer::new([2; 32]), &KEY, kept.tenant), Some(Unreadable::Foreign));
            assert_eq!(open(&sealer, &KEY, TenantId::from_bytes([3; 16])), Some(Unreadable::Foreign));
            let elsewhere = ResultKey::from_bytes([8; 32]);
            assert_eq!(open(&sealer, &elsewhere, kept.tenant), Some(Unreadable::Corrupt), "moved to another name");
        }
    }

    #[test]
    fn what_a_tenant_keeps_cannot_be_read_in_the_entry() {
        let mut kept = result(1, 0, 5);
        kept.body = b"{\"secret\":\"swordfish\"}".to_vec().into();
        let entry = Sealer::new([1; 32]).seal(&KEY, &kept).unwrap();
        assert!(!entry.windows(9).any(|window| window == b"swordfish"));
    }

    proptest! {
        #[test]
        fn any_change_is_noticed(at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>()) {
            let sealer = Sealer::new([1; 32]);
            let kept = result(1, 700, 5);
            let entry = sealer.seal(&KEY, &kept).unwrap();
            let mut changed = entry.clone();
            changed[at.index(entry.len())] ^= 1 << bit;
            prop_assert!(sealer.open(&KEY, kept.tenant, &changed).is_err());
            prop_assert!(sealer.open(&KEY, kept.tenant, &entry[..cut.index(entry.len())]).is_err());
        }

        #[test]
        fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let sealer = Sealer::new([1; 32]);
            prop_assert!(sealer.open(&KEY, TenantId::from_bytes([9; 16]), &bytes).is_err());
            let _ = decode(&bytes, TenantId::from_bytes([9; 16]));
        }
    }
}
