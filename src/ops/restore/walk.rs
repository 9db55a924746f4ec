//! The chunks of a restore, in order, from the lists of the wanted items.

use super::plan::RestorePlan;
use crate::error::{Error, Result};
use crate::id::ChunkId;
use crate::repo::Repository;
use crate::repo::read::{ReadScratch, get_node};
use crate::snapshot::ListWalker;

/// An error of walking a list: of the list itself, or of reading its nodes.
enum WalkError {
    List(crate::snapshot::Error),
    Engine(Error),
}

impl From<crate::snapshot::Error> for WalkError {
    fn from(error: crate::snapshot::Error) -> Self {
        Self::List(error)
    }
}

/// The chunks of all wanted items in order, from the one with the first wanted byte to the one with
/// the last.
pub(in crate::ops) struct Walk<'a> {
    repo: &'a Repository,
    plan: &'a RestorePlan,
    /// Index in `plan.items`.
    item: usize,
    walker: Option<ListWalker>,
    /// Offset of the current item in the complete stream.
    item_start: u64,
    /// End of the last returned chunk in the complete stream.
    position: u64,
    /// Bytes before the first wanted one, in the returned chunks, that are still to be dropped.
    drop: u64,
    begun: bool,
    scratch: ReadScratch,
}

impl<'a> Walk<'a> {
    pub(in crate::ops) fn new(repo: &'a Repository, plan: &'a RestorePlan) -> Self {
        Self {
            repo,
            plan,
            item: 0,
            walker: None,
            item_start: 0,
            position: 0,
            drop: 0,
            begun: false,
            scratch: ReadScratch::default(),
        }
    }

    pub(super) fn items_done(&self) -> u64 {
        self.item as u64
    }

    /// Number of bytes of a chunk of `len` bytes that precede the first wanted byte.
    pub(super) fn take_drop(&mut self, len: u64) -> u64 {
        let dropped = self.drop.min(len);
        self.drop -= dropped;
        dropped
    }

    pub(in crate::ops) fn next_chunk(&mut self) -> Result<Option<(ChunkId, u32)>> {
        if self.begun && self.position >= self.plan.end || self.plan.size() == 0 {
            return Ok(None);
        }
        while let Some(item) = self
            .plan
            .items
            .get(self.item)
            .map(|&number| &self.plan.snapshot.items[number])
        {
            let corrupt = |reason: String| Error::ManifestCorrupt {
                snapshot: self.plan.snapshot.id,
                reason: format!("the list of item {:?}: {reason}", item.name),
            };
            let first = self.plan.start.saturating_sub(self.item_start);
            if first < item.size {
                if self.walker.is_none() {
                    self.walker = Some(ListWalker::new(item, first).map_err(|error| corrupt(error.to_string()))?);
                }
                let (repo, scratch) = (self.repo, &mut self.scratch);
                let mut fetch = |id: &ChunkId| get_node(repo, id, scratch).map_err(WalkError::Engine);
                let next = self
                    .walker
                    .as_mut()
                    .map_or(Ok(None), |walker| walker.next_chunk(&mut fetch));
                let next = next.map_err(|error| match error {
                    WalkError::Engine(error) => error,
                    WalkError::List(error) => corrupt(error.to_string()),
                })?;
                if let Some(chunk) = next {
                    let offset = self.item_start + chunk.offset;
                    if !self.begun {
                        self.begun = true;
                        self.drop = self.plan.start.saturating_sub(offset);
                    }
                    self.position = offset + u64::from(chunk.raw_len);
                    return Ok(Some((chunk.id, chunk.raw_len)));
                }
                if self.position != self.item_start + item.size {
                    return Err(corrupt("the list ends too early".to_owned()));
                }
            }
            self.item_start += item.size;
            self.item += 1;
            self.walker = None;
        }
        Ok(None)
    }
}
