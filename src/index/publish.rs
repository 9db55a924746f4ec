//! What changes the set of segments: publishing, merging, superseding.

use std::collections::HashSet;
use std::sync::Arc;

use super::error::Error;
use super::global::GlobalIndex;
use super::merge::MergeSource;
use super::segment::Segment;
use super::source::{EntrySource, MemorySource};
use super::writer::write_segment;
use crate::entropy::Entropy;
use crate::id::{PackId, SegmentId};
use crate::layout;
use crate::pack::ChunkLocation;

impl GlobalIndex {
    /// Publishes a segment of new entries, each with the length of its pack in bytes, and adds it to the view. Adds only,
    /// so no lock is needed; durable after the next barrier. `None` when there is nothing to publish.
    pub fn publish(
        &self,
        entropy: &dyn Entropy,
        entries: Vec<(ChunkLocation, u64)>,
    ) -> Result<Option<SegmentId>, Error> {
        if entries.is_empty() {
            return Ok(None);
        }
        self.publish_source(entropy, &MemorySource::new(entries)).map(Some)
    }

    /// [`Self::publish`] for any source.
    pub fn publish_source(&self, entropy: &dyn Entropy, source: &dyn EntrySource) -> Result<SegmentId, Error> {
        let id = write_segment(&*self.storage, &self.context, entropy, &[], source)?;
        match self.open_again(id, None) {
            Ok(segment) => {
                let mut known = self.known();
                known.open.insert(id, Arc::new(segment));
                self.show(&known);
            }
            // merged away already by somebody else
            Err(error) if error.is_not_found() => {
                self.refresh()?;
            }
            Err(error) => return Err(error),
        }
        Ok(id)
    }

    /// Merges those of `ids` that are live into one segment without the entries of `drop_packs`. `None` when none of them
    /// is live. **The caller holds the maintenance lock.**
    pub fn merge(
        &self,
        entropy: &dyn Entropy,
        ids: &[SegmentId],
        drop_packs: &HashSet<PackId>,
    ) -> Result<Option<SegmentId>, Error> {
        self.refresh()?;
        // one that is left out may supersede some of them
        self.check_read()?;
        let inputs: Vec<Arc<Segment>> = self
            .view()
            .iter()
            .filter(|segment| ids.contains(&segment.id()))
            .cloned()
            .collect();
        if inputs.is_empty() {
            return Ok(None);
        }
        let ids: Vec<SegmentId> = inputs.iter().map(|segment| segment.id()).collect();
        let source = MergeSource::new(inputs, drop_packs)?;
        self.supersede(entropy, &source, &ids).map(Some)
    }

    /// Publishes a segment of `source` that takes the place of `old` (live, superseded or broken ones; those that are gone
    /// are ignored), waits until it is durable, then deletes the old files. **The caller holds the maintenance lock.**
    ///
    /// The new segment also names every file that its inputs supersede and that is still there (an interrupted earlier
    /// deletion); files go in the order oldest first. So at every instant whatever is superseded is named by a segment
    /// that is there (rule R5 of protocol K).
    pub fn supersede(
        &self,
        entropy: &dyn Entropy,
        source: &dyn EntrySource,
        old: &[SegmentId],
    ) -> Result<SegmentId, Error> {
        let doomed = {
            let mut known = self.known();
            self.list(&mut known)?;
            known.with_predecessors(old)
        };
        // without the lock on `known`: the write may take minutes, and others go on adding
        let id = write_segment(&*self.storage, &self.context, entropy, &doomed, source)?;
        // reads header and footer back before anything is deleted
        let segment = self.open_again(id, None)?;
        self.storage.barrier()?;
        {
            let mut known = self.known();
            for gone in &doomed {
                known.open.remove(gone);
                known.broken.remove(gone);
            }
            known.open.insert(id, Arc::new(segment));
            self.show(&known);
        }
        for gone in &doomed {
            self.storage.delete(&layout::segment(gone))?;
        }
        Ok(id)
    }
}
