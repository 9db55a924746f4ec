//! What a session has stored and not yet published.

use crate::id::PackId;
use crate::pack::ChunkLocation;

/// Packs that were written and are not yet in a published segment.
#[derive(Default)]
pub struct Written {
    /// Everything in them, with the lengths of the packs.
    pub chunks: Vec<(ChunkLocation, u64)>,
    /// The packs.
    pub packs: Vec<PackId>,
}

impl Written {
    /// Adds what `other` has.
    pub fn append(&mut self, mut other: Self) {
        self.packs.append(&mut other.packs);
        self.chunks.append(&mut other.chunks);
    }
}
