//! Many stored chunks in one file.
//!
//! A pack is a header, stored chunks back to back, padding, a trailer with one entry per chunk, and a footer; its name is
//! the SHA-256 of the whole file. The `.idx` beside it copies everything but the chunks, so either can be made again from
//! the other. Layout: `docs/format.md` §6.
//!
//! This room knows bytes and offsets. What a stored chunk means, how it is encoded or sealed, and which key seals a
//! trailer ([`TrailerSeal`]) is the business of `repo`.

pub mod format;
mod reader;
mod splice;
mod writer;

pub use format::{Error, IndexParts, PackHeader};
pub use reader::{PackIndex, ReadError, is_foreign, open_parts, read_index, read_index_from_pack, read_parts};
pub use splice::{parts_of, splice};
pub use writer::{FinishedPack, PackWriter};

use crate::crypto::TAG_LEN;
use crate::id::{ChunkId, PackId};
use format::PACK_NONCE_LEN;

/// What a stored chunk is: a piece of somebody's data.
pub const KIND_DATA: u8 = 0;
/// A list node.
pub const KIND_LIST: u8 = 1;
/// A part of a manifest's copy.
pub const KIND_MANIFEST_COPY: u8 = 2;
/// A copy of `config.json`.
pub const KIND_CONFIG_COPY: u8 = 3;

/// One stored chunk as trailers and segments describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackEntry {
    /// Name of the chunk.
    pub id: ChunkId,
    /// Where the stored chunk begins in its pack, in bytes.
    pub offset: u32,
    /// Length of the stored chunk in bytes; fits 24 bits.
    pub payload_len: u32,
    /// Length of the plaintext in bytes, at least 1; fits 24 bits.
    pub raw_len: u32,
    /// How it is encoded: 0 raw, 1 gzip, 2 zstd.
    pub codec: u8,
    /// What it is: one of the `KIND_` constants.
    pub kind: u8,
}

/// The highest codec there is.
const MAX_CODEC: u8 = 2;

impl PackEntry {
    /// Whether the global index holds such a chunk: data and list nodes of known codecs. Whoever forges a pack, or a later
    /// version, may have stored others; nobody can look them up.
    pub fn is_indexed(&self) -> bool {
        self.kind <= KIND_LIST && self.codec <= MAX_CODEC
    }
}

/// A stored chunk and the pack that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkLocation {
    /// The pack.
    pub pack: PackId,
    /// Where in it.
    pub entry: PackEntry,
}

/// Seals and opens the entries of a trailer, which end up with a 16-byte tag behind them.
pub trait TrailerSeal {
    /// True when entries are hidden: their number is then rounded up and the pack is padded.
    fn is_sealed(&self) -> bool;
    /// The key epoch that new packs carry; 0 in plain repositories.
    fn epoch(&self) -> u32;
    /// Seals `entries` in place and returns the tag. `body_hash` is the SHA-256 of everything before the trailer.
    fn seal(&self, body_hash: &[u8; 32], entries: &mut [u8]) -> Option<[u8; TAG_LEN]>;
    /// Opens `entries` in place; `false` when the tag does not fit or the epoch is unknown.
    fn open(&self, epoch: u32, body_hash: &[u8; 32], entries: &mut [u8], tag: &[u8; TAG_LEN]) -> bool;
    /// Fills `out` with the padding of the pack with this nonce.
    fn pad(&self, pack_nonce: &[u8; PACK_NONCE_LEN], out: &mut [u8]) -> bool;
}
