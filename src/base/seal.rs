//! Computes the ids of chunks, and seals and opens chunks, pack trailers and kill lists.
//!
//! In a plain repository the id of a chunk is its SHA-256 and nothing is sealed; a sealed one uses
//! the keys of its bundle. Formulas: `docs/format.md` §4 and §5.

use crate::crypto::{self, EpochKeys, Keys, NONCE_LEN, TAG_LEN, open_in_place, seal_in_place, sha256, tag16};
use crate::entropy::{Entropy, random};
use crate::error::{Error, Result};
use crate::id::{ChunkId, RepoId};
use crate::lock::ListSeal;
use crate::pack::{KIND_DATA, KIND_LIST, TrailerSeal};

/// Bytes that sealing adds to an encoded chunk: nonce and tag.
pub const SEAL_OVERHEAD: usize = NONCE_LEN + TAG_LEN;

/// The keys in use, if any.
pub enum Seals {
    /// A plain repository.
    Plain,
    /// A sealed one, with everything that is derived from its key bundle.
    Sealed(Box<Keys>),
    /// A sealed one without its keys: nothing can be opened or sealed, and no id of a chunk can be
    /// computed.
    Locked,
}

/// Seals and chunk ids of one repository.
pub struct RepoSeal {
    repo: RepoId,
    seals: Seals,
}

/// The metadata of a chunk; all of it is bound by the seal.
#[derive(Debug, Clone, Copy)]
pub struct ChunkMeta {
    /// Its id.
    pub id: ChunkId,
    /// Length of the plaintext in bytes.
    pub raw_len: u32,
    /// Its codec, as in the entry of a pack.
    pub codec: u8,
    /// Its kind, as in the entry of a pack.
    pub kind: u8,
}

impl RepoSeal {
    /// Creates the seal of the repository `repo`.
    pub fn new(repo: RepoId, seals: Seals) -> Self {
        Self { repo, seals }
    }

    /// The keys, if there are any and they are known.
    pub fn seals(&self) -> &Seals {
        &self.seals
    }

    /// The keys of a sealed repository.
    pub fn keys(&self) -> Option<&Keys> {
        match &self.seals {
            Seals::Plain | Seals::Locked => None,
            Seals::Sealed(keys) => Some(keys),
        }
    }

    /// True for a sealed repository without its keys.
    pub fn is_locked(&self) -> bool {
        matches!(self.seals, Seals::Locked)
    }

    /// The id of a piece of plaintext of the given kind.
    pub fn chunk_id(&self, kind: u8, data: &[u8]) -> ChunkId {
        let id = match (&self.seals, kind) {
            (Seals::Plain, KIND_DATA) => sha256(&[data]),
            (Seals::Plain, KIND_LIST) => sha256(&[b"containerarchive/list/v1\0", data]),
            (Seals::Plain, _) => sha256(&[b"containerarchive/copy/v1\0", data]),
            (Seals::Sealed(keys), KIND_DATA) => keys.chunk_id.hmac(&[data]),
            (Seals::Sealed(keys), KIND_LIST) => keys.list_id.hmac(&[data]),
            (Seals::Sealed(keys), _) => keys.copy_id.hmac(&[data]),
            // an id that no chunk has
            (Seals::Locked, _) => [0; 32],
        };
        ChunkId(id)
    }

    /// Seals encoded bytes to a stored chunk, into `out`. Plain repositories store the encoded
    /// bytes as they are.
    pub fn seal_chunk(&self, meta: &ChunkMeta, encoded: &[u8], entropy: &dyn Entropy, out: &mut Vec<u8>) -> Result<()> {
        out.clear();
        let keys = match &self.seals {
            Seals::Plain => {
                out.extend_from_slice(encoded);
                return Ok(());
            }
            Seals::Locked => return Err(Error::PassphraseRequired),
            Seals::Sealed(keys) => keys,
        };
        let (_, epoch) = keys.current();
        let seed: [u8; 16] = random(entropy)?;
        let digest = xxhash_rust::xxh3::xxh3_128(encoded).to_le_bytes();
        let len = encoded.len() as u64;
        let hedged = epoch.hedge.hmac(&[&seed, &meta.id.0, &digest, &len.to_le_bytes()]);
        let mut nonce = [0u8; NONCE_LEN];
        nonce.copy_from_slice(&hedged[..NONCE_LEN]);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(encoded);
        let payload_len = encoded.len() + SEAL_OVERHEAD;
        let aad = self.chunk_aad(meta, payload_len);
        let key = chunk_key(epoch, meta);
        let tag = seal_in_place(&key, &nonce, &aad, &mut out[NONCE_LEN..]).map_err(|_| Error::Internal {
            reason: "a chunk could not be sealed".to_owned(),
        })?;
        out.extend_from_slice(&tag);
        Ok(())
    }

    /// Opens a stored chunk in place and returns the range of the encoded bytes in `stored`; `None`
    /// when it does not open.
    pub fn open_chunk(&self, meta: &ChunkMeta, stored: &mut [u8]) -> Option<std::ops::Range<usize>> {
        let keys = match &self.seals {
            Seals::Plain => return Some(0..stored.len()),
            Seals::Locked => return None,
            Seals::Sealed(keys) => keys,
        };
        let encoded = NONCE_LEN..stored.len().checked_sub(TAG_LEN).filter(|&end| end >= NONCE_LEN)?;
        let mut nonce = [0u8; NONCE_LEN];
        nonce.copy_from_slice(&stored[..NONCE_LEN]);
        let mut tag = [0u8; TAG_LEN];
        tag.copy_from_slice(&stored[encoded.end..]);
        let aad = self.chunk_aad(meta, stored.len());
        // the tag is checked before any byte is changed, so the key of the next epoch can try the
        // same bytes
        let body = &mut stored[encoded.clone()];
        keys.newest_first()
            .any(|(_, epoch)| open_in_place(&chunk_key(epoch, meta), &nonce, &aad, body, &tag).is_ok())
            .then_some(encoded)
    }

    /// `"CAC1" ‖ repo ‖ id ‖ u32 raw_len ‖ codec ‖ kind ‖ u32 payload_len`: binds the content, not
    /// the location.
    fn chunk_aad(&self, meta: &ChunkMeta, payload_len: usize) -> [u8; 62] {
        let mut aad = [0u8; 62];
        aad[..4].copy_from_slice(b"CAC1");
        aad[4..20].copy_from_slice(&self.repo.0);
        aad[20..52].copy_from_slice(&meta.id.0);
        aad[52..56].copy_from_slice(&meta.raw_len.to_le_bytes());
        aad[56] = meta.codec;
        aad[57] = meta.kind;
        aad[58..].copy_from_slice(&(payload_len as u32).to_le_bytes());
        aad
    }

    fn trailer_aad(&self) -> [u8; 20] {
        let mut aad = [0u8; 20];
        aad[..4].copy_from_slice(b"CAT1");
        aad[4..].copy_from_slice(&self.repo.0);
        aad
    }
}

/// `HMAC(K("chunk-key"), id ‖ codec)`: a separate key for each content and encoding.
fn chunk_key(epoch: &EpochKeys, meta: &ChunkMeta) -> [u8; 32] {
    epoch.chunk_key.hmac(&[&meta.id.0, &[meta.codec]])
}

const TRAILER_DOMAIN: &str = "containerarchive/trailer/v1";

impl TrailerSeal for RepoSeal {
    fn is_sealed(&self) -> bool {
        !matches!(self.seals, Seals::Plain)
    }

    fn epoch(&self) -> u32 {
        self.keys().map_or(0, |keys| keys.current().0)
    }

    fn seal(&self, body_hash: &[u8; 32], entries: &mut [u8]) -> Option<[u8; TAG_LEN]> {
        match &self.seals {
            Seals::Plain => Some(tag16(TRAILER_DOMAIN, &[body_hash, entries])),
            Seals::Locked => None,
            Seals::Sealed(keys) => {
                let key = keys.current().1.pack_trailer.hmac(&[body_hash]);
                seal_in_place(&key, &[0; NONCE_LEN], &self.trailer_aad(), entries).ok()
            }
        }
    }

    fn open(&self, epoch: u32, body_hash: &[u8; 32], entries: &mut [u8], tag: &[u8; TAG_LEN]) -> bool {
        match &self.seals {
            Seals::Plain => tag16(TRAILER_DOMAIN, &[body_hash, entries]) == *tag,
            Seals::Locked => false,
            Seals::Sealed(keys) => keys.epoch(epoch).is_some_and(|epoch| {
                let key = epoch.pack_trailer.hmac(&[body_hash]);
                open_in_place(&key, &[0; NONCE_LEN], &self.trailer_aad(), entries, tag).is_ok()
            }),
        }
    }

    fn pad(&self, pack_nonce: &[u8; 16], out: &mut [u8]) -> bool {
        out.fill(0);
        let keys = match &self.seals {
            Seals::Plain => return true,
            Seals::Locked => return false,
            Seals::Sealed(keys) => keys,
        };
        let key = keys.current().1.pack_pad.hmac(&[pack_nonce]);
        seal_in_place(&key, &[0; NONCE_LEN], &[], out).is_ok()
    }
}

impl ListSeal for RepoSeal {
    fn has_macs(&self) -> bool {
        !matches!(self.seals, Seals::Plain)
    }

    fn mac_epoch(&self) -> u32 {
        self.keys().map_or(0, |keys| keys.current().0)
    }

    fn list_mac(&self, epoch: u32, digest: &[u8; 32]) -> Option<[u8; 32]> {
        let keys = self.keys()?.epoch(epoch)?;
        Some(keys.kill_list.hmac(&[digest]))
    }
}

/// The number and the keys of the current epoch; `None` in a plain repository and without the keys.
pub fn current_epoch(seal: &RepoSeal) -> Option<(u32, &EpochKeys)> {
    seal.keys().map(crypto::Keys::current)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_plain_chunk_is_its_sha_256() {
        let seal = RepoSeal::new(RepoId([0; 16]), Seals::Plain);
        // printf abc | sha256sum
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(seal.chunk_id(KIND_DATA, b"abc").to_hex(), expected);
        assert_ne!(seal.chunk_id(KIND_LIST, b"abc").to_hex(), expected);
    }
}
