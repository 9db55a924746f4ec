//! The seal of a trailer, as the repository provides it.

use super::format::PACK_NONCE_LEN;
use crate::crypto::TAG_LEN;

/// Seals and opens the entries of a trailer, which a tag of [`TAG_LEN`] bytes follows.
pub trait TrailerSeal {
    /// True when entries are encrypted: their number is then rounded up, and the pack is padded.
    fn is_sealed(&self) -> bool;
    /// Key epoch of new packs; 0 in plain repositories.
    fn epoch(&self) -> u32;
    /// Seals `entries` in place and returns the tag; `None` when the cipher fails. `body_hash` is
    /// the SHA-256 of everything before the trailer.
    fn seal(&self, body_hash: &[u8; 32], entries: &mut [u8]) -> Option<[u8; TAG_LEN]>;
    /// Opens `entries` in place; `false` when the tag is wrong or the epoch is unknown.
    fn open(&self, epoch: u32, body_hash: &[u8; 32], entries: &mut [u8], tag: &[u8; TAG_LEN]) -> bool;
    /// Fills `out` with the padding of the pack with this nonce; `false` when there is none.
    fn pad(&self, pack_nonce: &[u8; PACK_NONCE_LEN], out: &mut [u8]) -> bool;
}
