//! Snapshots of the source that need a pack which is damaged or lost: they are not mirrored.
//!
//! Without keys it is not known which pack a snapshot needs: then no new snapshot is mirrored while
//! a pack is damaged, and a pack that is lost is not noticed.

use super::listing::Listing;
use super::{Done, Run};
use crate::catalog::snapshots::load;
use crate::error::{Error, Result};
use crate::id::{ChunkId, PackId, SnapshotId};
use crate::layout;
use crate::repo::read::{ReadScratch, get_node};
use crate::snapshot::ListWalker;
use std::collections::{BTreeSet, HashSet};

impl Run<'_> {
    /// Packs that the index names and that are missing. A prune may be deleting them, and after a
    /// power cut no snapshot may need them.
    pub(super) fn lost_packs(&self, source: &Listing) -> Result<HashSet<PackId>> {
        if self.repo.is_keyless() {
            return Ok(HashSet::new());
        }
        self.repo.refresh_index()?;
        let mut lost = HashSet::new();
        for pack in self.repo.packs_of_index()?.into_keys() {
            if !source.packs.contains_key(&layout::pack(&pack)) && self.repo.pack_len(&pack)?.is_none() {
                lost.insert(pack);
            }
        }
        Ok(lost)
    }

    /// Those of the snapshots that need a pack which is not in the mirror, and the first of the
    /// errors for which that is so.
    pub(super) fn without_packs(
        &self,
        new: &[SnapshotId],
        source: &Listing,
        done: &mut Done,
    ) -> Result<BTreeSet<SnapshotId>> {
        let lost = self.lost_packs(source)?;
        if done.bad_packs.is_empty() && lost.is_empty() {
            return Ok(BTreeSet::new());
        }
        if self.repo.is_keyless() {
            return Ok(new.iter().copied().collect());
        }
        let bad: HashSet<PackId> = done.bad_packs.iter().map(|(pack, _)| *pack).collect();
        let is_there = |pack: &PackId| source.packs.contains_key(&layout::pack(pack)) && !bad.contains(pack);
        let mut held = BTreeSet::new();
        for id in new {
            match self.check_packs(id, &is_there) {
                Ok(()) => {}
                Err(error @ (Error::Cancelled | Error::Closed | Error::NoMemory)) => return Err(error),
                Err(error) => {
                    held.insert(*id);
                    done.damage.get_or_insert(error);
                }
            }
        }
        Ok(held)
    }

    /// Fails when a chunk or a list node of the snapshot is in no pack that is there.
    fn check_packs(&self, id: &SnapshotId, is_there: &dyn Fn(&PackId) -> bool) -> Result<()> {
        // forgotten since it was listed
        let Some(snapshot) = load(self.repo, id)? else {
            return Ok(());
        };
        let check = |chunk: &ChunkId| {
            let locations = self.repo.locate(chunk)?;
            match locations.iter().any(|location| is_there(&location.pack)) {
                true => Ok(()),
                false => Err(locations
                    .first()
                    .map_or(Error::ChunkMissing { chunk: *chunk }, |location| Error::PackMissing {
                        pack: location.pack,
                        chunk: Some(*chunk),
                    })),
            }
        };
        let mut scratch = ReadScratch::default();
        for item in snapshot.lists() {
            let mut walker = ListWalker::new(&item, 0)?;
            let mut fetch = |id: &ChunkId| {
                check(id)?;
                get_node(self.repo, id, &mut scratch)
            };
            while let Some(chunk) = walker.next_chunk::<Error>(&mut fetch)? {
                self.check_running()?;
                check(&chunk.id)?;
            }
        }
        Ok(())
    }
}
