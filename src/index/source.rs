//! The source of the entries of a new segment.
//!
//! A writer walks its source three times (to count, for the data pages, for the filter), so a
//! source gives the same entries on each walk, in order of (id, pack ordinal).

use super::error::Error;
use super::format::SegmentEntry;
use crate::id::PackId;
use crate::pack::ChunkLocation;

/// One walk over a source.
pub type EntryScan<'s> = Box<dyn Iterator<Item = Result<SegmentEntry, Error>> + 's>;

/// Entries for a segment, sorted by (id, pack ordinal); the same on each walk. Repeated (id, pack)
/// pairs are allowed: the first one is used.
pub trait EntrySource {
    /// The packs that ordinals refer to, sorted by id, none twice, with their lengths in bytes.
    fn packs(&self) -> &[(PackId, u64)];

    /// Starts a walk.
    fn scan(&self) -> EntryScan<'_>;
}

/// Entries in memory, in any order.
pub struct MemorySource {
    packs: Vec<(PackId, u64)>,
    entries: Vec<ChunkLocation>,
}

impl MemorySource {
    /// Sorts `entries`, each with the length of its pack in bytes. Those that the global index does
    /// not hold ([`PackEntry::is_indexed`](crate::pack::PackEntry::is_indexed)) are left out; their
    /// packs are still in the pack table.
    pub fn new(entries: Vec<(ChunkLocation, u64)>) -> Self {
        let mut packs: Vec<(PackId, u64)> = entries.iter().map(|(location, len)| (location.pack, *len)).collect();
        packs.sort_unstable();
        packs.dedup_by_key(|(pack, _)| *pack);
        let mut entries: Vec<ChunkLocation> = entries
            .into_iter()
            .map(|(location, _)| location)
            .filter(|location| location.entry.is_indexed())
            .collect();
        entries.sort_unstable_by_key(|location| (location.entry.id, location.pack, location.entry.offset));
        Self { packs, entries }
    }
}

impl EntrySource for MemorySource {
    fn packs(&self) -> &[(PackId, u64)] {
        &self.packs
    }

    fn scan(&self) -> EntryScan<'_> {
        Box::new(self.entries.iter().map(|location| {
            let ordinal = self.packs.binary_search_by_key(&location.pack, |(pack, _)| *pack);
            let pack = ordinal.ok().and_then(|ordinal| u32::try_from(ordinal).ok());
            let pack = pack.ok_or(Error::Writer("too many packs for one segment"))?;
            Ok(SegmentEntry {
                pack,
                entry: location.entry,
            })
        }))
    }
}
