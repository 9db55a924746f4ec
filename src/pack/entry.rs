//! What trailers and segments say about one stored chunk.

use crate::id::{ChunkId, PackId};

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
