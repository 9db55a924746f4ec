//! Computes the ids of chunks, and seals and opens chunks, pack trailers and kill lists.
//!
//! In a plain repository the id of a chunk is its SHA-256 and nothing is sealed; a sealed one uses
//! the keys of its bundle. Formulas: `docs/format.md` §4 and §5.

use crate::crypto::{
    self, EpochKeys, Keys, NONCE_LEN, TAG_LEN, open_in_place, open_to, seal_in_place, seal_to, sha256, sha256_each,
    tag16,
};
use crate::entropy::{Entropy, random};
use crate::error::{Error, Result};
use crate::id::{ChunkId, RepoId};
use crate::lock::ListSeal;
use crate::pack::{KIND_DATA, KIND_LIST, TrailerSeal};
use crate::sha256::Stream;

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
    Keyless,
}

/// Seals and chunk ids of one repository.
pub struct RepoSeal {
    repo: RepoId,
    seals: Seals,
}

/// A checksum of bytes (XXH3, 128 bits). It is never stored, and no protection from an attacker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkSum(u128);

impl ChunkSum {
    /// The checksum of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(xxhash_rust::xxh3::xxh3_128(bytes))
    }

    fn to_le_bytes(self) -> [u8; 16] {
        self.0.to_le_bytes()
    }
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
            Seals::Plain | Seals::Keyless => None,
            Seals::Sealed(keys) => Some(keys),
        }
    }

    /// True for a sealed repository without its keys.
    pub fn is_keyless(&self) -> bool {
        matches!(self.seals, Seals::Keyless)
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
            (Seals::Keyless, _) => [0; 32],
        };
        ChunkId(id)
    }

    /// The id of each of these pieces of plaintext of the given kind; several are hashed at once.
    pub fn chunk_ids(&self, kind: u8, pieces: &[&[u8]]) -> Vec<ChunkId> {
        self.chunk_ids_beside(kind, pieces, &mut [])
    }

    /// The same; in the same pass, each of these streams takes its next bytes.
    pub fn chunk_ids_beside(&self, kind: u8, pieces: &[&[u8]], streams: &mut [(&mut Stream, &[u8])]) -> Vec<ChunkId> {
        let digests = match (&self.seals, kind) {
            (Seals::Plain, KIND_DATA) => sha256_each(pieces, streams),
            (Seals::Sealed(keys), KIND_DATA) => keys.chunk_id.hmac_each(pieces, streams),
            _ => {
                // these are few
                streams.iter_mut().for_each(|(stream, bytes)| stream.update(bytes));
                return pieces.iter().map(|piece| self.chunk_id(kind, piece)).collect();
            }
        };
        digests.into_iter().map(ChunkId).collect()
    }

    /// Seals encoded bytes to a stored chunk, into `out`. Plain repositories store the encoded
    /// bytes as they are. `sum` is the checksum of `encoded`, if it is known.
    pub fn seal_chunk(
        &self,
        meta: &ChunkMeta,
        encoded: &[u8],
        sum: Option<ChunkSum>,
        entropy: &dyn Entropy,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let keys = match &self.seals {
            Seals::Plain => {
                out.clear();
                out.extend_from_slice(encoded);
                return Ok(());
            }
            Seals::Keyless => return Err(Error::PassphraseRequired),
            Seals::Sealed(keys) => keys,
        };
        let (_, epoch) = keys.current();
        let seed: [u8; 16] = random(entropy)?;
        let digest = sum.unwrap_or_else(|| ChunkSum::of(encoded)).to_le_bytes();
        let len = encoded.len() as u64;
        let hedged = epoch.hedge.hmac(&[&seed, &meta.id.0, &digest, &len.to_le_bytes()]);
        let mut nonce = [0u8; NONCE_LEN];
        nonce.copy_from_slice(&hedged[..NONCE_LEN]);
        let payload_len = encoded.len() + SEAL_OVERHEAD;
        // not cleared first: every byte is overwritten
        out.resize(payload_len, 0);
        let (front, body) = out.split_at_mut(NONCE_LEN);
        let (body, end) = body.split_at_mut(encoded.len());
        let aad = self.chunk_aad(meta, payload_len);
        let key = chunk_key(epoch, meta);
        let tag = seal_to(&key, &nonce, &aad, encoded, body).map_err(|_| Error::Internal {
            reason: "a chunk could not be sealed".to_owned(),
        })?;
        front.copy_from_slice(&nonce);
        end.copy_from_slice(&tag);
        Ok(())
    }

    /// Opens a stored chunk in place and returns the range of the encoded bytes in `stored`; `None`
    /// when it does not open.
    pub fn open_chunk(&self, meta: &ChunkMeta, stored: &mut [u8]) -> Option<std::ops::Range<usize>> {
        let keys = match &self.seals {
            Seals::Plain => return Some(0..stored.len()),
            Seals::Keyless => return None,
            Seals::Sealed(keys) => keys,
        };
        let parts = SealedParts::of(stored)?;
        let (nonce, tag, range) = (*parts.nonce, *parts.tag, parts.range());
        let aad = self.chunk_aad(meta, stored.len());
        // the tag is checked before any byte is changed, so the key of the next epoch can try the
        // same bytes
        let body = &mut stored[range.clone()];
        keys.newest_first()
            .any(|(_, epoch)| open_in_place(&chunk_key(epoch, meta), &nonce, &aad, body, &tag).is_ok())
            .then_some(range)
    }

    /// The same without a change to `stored`: returns the encoded bytes, which are at the front of
    /// `opened` or, in a plain repository, in `stored`. `opened` must be as long as `stored`, or
    /// longer.
    pub fn open_chunk_to<'a>(&self, meta: &ChunkMeta, stored: &'a [u8], opened: &'a mut [u8]) -> Option<&'a [u8]> {
        let keys = match &self.seals {
            Seals::Plain => return Some(stored),
            Seals::Keyless => return None,
            Seals::Sealed(keys) => keys,
        };
        let parts = SealedParts::of(stored)?;
        let aad = self.chunk_aad(meta, stored.len());
        let opened = opened.get_mut(..parts.body.len())?;
        keys.newest_first()
            .any(|(_, epoch)| {
                open_to(
                    &chunk_key(epoch, meta),
                    parts.nonce,
                    &aad,
                    parts.body,
                    opened,
                    parts.tag,
                )
                .is_ok()
            })
            .then_some(opened)
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

/// A stored chunk of a sealed repository.
struct SealedParts<'a> {
    nonce: &'a [u8; NONCE_LEN],
    body: &'a [u8],
    tag: &'a [u8; TAG_LEN],
}

impl<'a> SealedParts<'a> {
    /// `None` when it is too short.
    fn of(stored: &'a [u8]) -> Option<Self> {
        let (nonce, rest) = stored.split_first_chunk()?;
        let (body, tag) = rest.split_last_chunk()?;
        Some(Self { nonce, body, tag })
    }

    /// Where the body is in the stored chunk.
    fn range(&self) -> std::ops::Range<usize> {
        NONCE_LEN..NONCE_LEN + self.body.len()
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
            Seals::Keyless => None,
            Seals::Sealed(keys) => {
                let key = keys.current().1.pack_trailer.hmac(&[body_hash]);
                seal_in_place(&key, &[0; NONCE_LEN], &self.trailer_aad(), entries).ok()
            }
        }
    }

    fn open(&self, epoch: u32, body_hash: &[u8; 32], entries: &mut [u8], tag: &[u8; TAG_LEN]) -> bool {
        match &self.seals {
            Seals::Plain => tag16(TRAILER_DOMAIN, &[body_hash, entries]) == *tag,
            Seals::Keyless => false,
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
            Seals::Keyless => return false,
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
