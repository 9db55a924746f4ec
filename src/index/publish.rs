//! Changes to the set of segments: publish, merge, supersede.

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
    /// Publishes a segment of new entries, each with the length of its pack in bytes, and adds it
    /// to the view. It replaces nothing, so no lock is needed; it is durable after the next
    /// barrier. `None` when `entries` is empty.
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
            // another process has merged it already
            Err(error) if error.is_not_found() => {
                self.refresh()?;
            }
            Err(error) => return Err(error),
        }
        Ok(id)
    }

    /// Merges those of `ids` that are live into one segment, without the entries of `drop_packs`.
    /// `None` when none of them is live. **The caller holds the maintenance lock.**
    pub fn merge(
        &self,
        entropy: &dyn Entropy,
        ids: &[SegmentId],
        drop_packs: &HashSet<PackId>,
    ) -> Result<Option<SegmentId>, Error> {
        self.refresh()?;
        // a segment that is left out may supersede some of them
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

    /// Publishes a segment of `source` that replaces `old` (live, superseded or broken segments;
    /// those that no longer exist are ignored), waits until it is durable, then deletes the old
    /// files. **The caller holds the maintenance lock.**
    ///
    /// The new segment also names every file that its inputs supersede and that still exists (after
    /// an interrupted deletion), and files are deleted oldest first. So at every instant each
    /// superseded segment is named by one that exists (rule R5 of protocol K).
    pub fn supersede(
        &self,
        entropy: &dyn Entropy,
        source: &dyn EntrySource,
        old: &[SegmentId],
    ) -> Result<SegmentId, Error> {
        let replaced = {
            let mut known = self.known();
            self.list(&mut known)?;
            known.with_predecessors(old)
        };
        // without the lock on `known`: the write may take minutes, and other threads publish in the
        // meantime
        let id = write_segment(&*self.storage, &self.context, entropy, &replaced, source)?;
        // reads header and footer back before anything is deleted
        let segment = self.open_again(id, None)?;
        self.storage.barrier()?;
        {
            let mut known = self.known();
            for gone in &replaced {
                known.open.remove(gone);
                known.broken.remove(gone);
            }
            known.open.insert(id, Arc::new(segment));
            self.show(&known);
        }
        self.storage
            .delete_all(&replaced.iter().map(layout::segment).collect::<Vec<_>>())?;
        Ok(id)
    }
}
