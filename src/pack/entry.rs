//! What trailers and segments say about one stored chunk.

use crate::id::{ChunkId, PackId};

/// Kind of a stored chunk: a piece of a stream.
pub const KIND_DATA: u8 = 0;
/// Kind of a stored chunk: a list node.
pub const KIND_LIST: u8 = 1;
/// Kind of a stored chunk: a part of a manifest's copy.
pub const KIND_MANIFEST_COPY: u8 = 2;
/// Kind of a stored chunk: a copy of `config.json`.
pub const KIND_CONFIG_COPY: u8 = 3;

/// A stored chunk as trailers and segments describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackEntry {
    /// Id of the chunk.
    pub id: ChunkId,
    /// Offset of the stored chunk in its pack, in bytes.
    pub offset: u32,
    /// Length of the stored chunk in bytes; fits 24 bits.
    pub payload_len: u32,
    /// Length of the plaintext in bytes, at least 1; fits 24 bits.
    pub raw_len: u32,
    /// Encoding: 0 raw, 1 gzip, 2 zstd.
    pub codec: u8,
    /// One of the `KIND_` constants.
    pub kind: u8,
}

/// Highest codec that this version knows.
const MAX_CODEC: u8 = 2;

impl PackEntry {
    /// True when the global index holds such a chunk: data and list nodes of known codecs. A forged
    /// pack, or one of a later version, may contain others; they cannot be looked up.
    pub fn is_indexed(&self) -> bool {
        self.kind <= KIND_LIST && self.codec <= MAX_CODEC
    }
}

/// A stored chunk and the pack that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkLocation {
    /// The pack.
    pub pack: PackId,
    /// The entry of the chunk in that pack.
    pub entry: PackEntry,
}
