//! The segments that a handle has seen in the directory, and which of them are live.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::error::Error;
use super::segment::Segment;
use crate::id::SegmentId;

#[derive(Default)]
pub(super) struct Known {
    pub(super) open: HashMap<SegmentId, Arc<Segment>>,
    pub(super) broken: HashMap<SegmentId, Error>,
    /// Intact segments of other repositories: left out, and never changed.
    pub(super) foreign: HashSet<SegmentId>,
}

impl Known {
    /// All open segments that no other one supersedes, smallest first.
    pub(super) fn live(&self) -> Vec<Arc<Segment>> {
        let named: HashSet<SegmentId> = self.open.values().flat_map(|segment| self.names(segment)).collect();
        let mut live: Vec<Arc<Segment>> = self
            .open
            .values()
            .filter(|segment| !named.contains(&segment.id()))
            .cloned()
            .collect();
        live.sort_unstable_by_key(|segment| (segment.entries(), segment.id()));
        live
    }

    /// Ids that a segment supersedes, without its own, which would mean nothing.
    fn names<'s>(&self, segment: &'s Segment) -> impl Iterator<Item = SegmentId> + use<'s> {
        segment.superseded().iter().copied().filter(|id| *id != segment.id())
    }

    /// `old` and everything in the directory that these supersede, directly or not; superseded
    /// segments come before those that supersede them.
    pub(super) fn with_predecessors(&self, old: &[SegmentId]) -> Vec<SegmentId> {
        let here = |id: &SegmentId| self.open.contains_key(id) || self.broken.contains_key(id);
        let mut left: Vec<SegmentId> = Vec::new();
        let mut seen: HashSet<SegmentId> = HashSet::new();
        let mut queue: Vec<SegmentId> = old.to_vec();
        while let Some(id) = queue.pop() {
            if here(&id) && seen.insert(id) {
                left.push(id);
                queue.extend(self.open.get(&id).into_iter().flat_map(|segment| self.names(segment)));
            }
        }
        left.sort_unstable();
        let mut ordered = Vec::with_capacity(left.len());
        while !left.is_empty() {
            let waits = |id: &SegmentId| {
                let mut names = self.open.get(id).into_iter().flat_map(|segment| self.names(segment));
                names.any(|named| left.contains(&named))
            };
            let (later, mut free): (Vec<SegmentId>, Vec<SegmentId>) = left.iter().partition(|id| waits(id));
            if free.is_empty() {
                // a cycle, which no writer makes: any order is right
                ordered.extend(later);
                break;
            }
            ordered.append(&mut free);
            left = later;
        }
        ordered
    }
}
