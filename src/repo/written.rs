//! Packs that a session has stored and not yet published.

use crate::id::PackId;
use crate::pack::ChunkLocation;

/// Packs that were written and are not yet in a published segment.
#[derive(Default)]
pub struct Written {
    /// The locations of all their chunks, each with the length of its pack.
    pub chunks: Vec<(ChunkLocation, u64)>,
    /// Their ids.
    pub packs: Vec<PackId>,
}

impl Written {
    /// Adds the packs of `other`.
    pub fn append(&mut self, mut other: Self) {
        self.packs.append(&mut other.packs);
        self.chunks.append(&mut other.chunks);
    }
}
