//! What snapshots need and nobody has: found by walking their lists, each list node once, whole or not.
//!
//! A chunk counts as there when the index, which says by now what the whole packs hold, has a place for it.

use super::{DamagedItem, DamagedSnapshot, Work};
use crate::error::{Error, Result};
use crate::id::{ChunkId, SnapshotId};
use crate::layout;
use crate::pack::KIND_LIST;
use crate::repo::Repository;
use crate::repo::read::{ReadScratch, read_at};
use crate::snapshot::list::{Node, decode_node};
use crate::snapshot::{ItemContent, MAX_MANIFEST_LEN, Snapshot};
use crate::storage::{self, FailedRead, judge};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Most ranges that are told of one item; what is missing behind them is joined with the last one. A list that names the
/// same damaged node many times over would else have more ranges than fit any memory.
const MAX_RANGES: usize = 4096;

/// First byte and end of each missing range, counted from the beginning of a node or item.
type Ranges = Vec<(u64, u64)>;

/// Walks snapshots, and remembers what it has seen.
pub(super) struct Survey<'a> {
    repo: &'a Repository,
    /// Nodes that were walked, and what is missing below them.
    walked: HashMap<Part, Arc<Ranges>>,
    /// Shared by all nodes below which everything is there.
    nothing: Arc<Ranges>,
    /// Chunks and nodes that nobody has.
    pub lost: HashSet<ChunkId>,
    /// A read that failed. What it was to give counts as there.
    pub unreadable: Option<storage::Error>,
    scratch: ReadScratch,
}

/// A part of an item's list: the node at its top and what that must be.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Part {
    id: ChunkId,
    level: u8,
    size: u64,
    chunk_count: u64,
}

impl<'a> Survey<'a> {
    pub(super) fn new(repo: &'a Repository) -> Self {
        Self {
            repo,
            walked: HashMap::new(),
            nothing: Arc::default(),
            lost: HashSet::new(),
            unreadable: None,
            scratch: ReadScratch::default(),
        }
    }

    /// The items of a snapshot that are not whole.
    pub(super) fn damaged_items(&mut self, snapshot: &Snapshot) -> Result<Vec<DamagedItem>> {
        let mut items = Vec::new();
        for item in &snapshot.items {
            let missing = match &item.content {
                ItemContent::Inline(chunks) => Arc::new(self.chunks(chunks)?),
                ItemContent::List { root, level } => self.list(&Part {
                    id: *root,
                    level: *level,
                    size: item.size,
                    chunk_count: item.chunk_count,
                })?,
            };
            if !missing.is_empty() {
                items.push(DamagedItem {
                    name: item.name.clone(),
                    missing: Arc::unwrap_or_clone(missing),
                });
            }
        }
        Ok(items)
    }

    fn chunks(&mut self, chunks: &[(ChunkId, u32)]) -> Result<Ranges> {
        let (mut missing, mut start) = (Ranges::new(), 0u64);
        for (id, raw_len) in chunks {
            let end = start.saturating_add(u64::from(*raw_len));
            if self.lost.contains(id) || !self.is_there(id)? {
                self.lost.insert(*id);
                add_range(&mut missing, (start, end));
            }
            start = end;
        }
        Ok(missing)
    }

    /// What this handle found in packs that were beyond the index does not count where it has gone since, to the quarantine.
    fn is_there(&self, id: &ChunkId) -> Result<bool> {
        if !self.repo.locate_published(id)?.is_empty() {
            return Ok(true);
        }
        for place in self.repo.locate(id)? {
            if self.repo.pack_len(&place.pack)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Recursion is bounded: a node's level is checked to be one less than that of its parent.
    fn list(&mut self, part: &Part) -> Result<Arc<Ranges>> {
        if let Some(known) = self.walked.get(part) {
            return Ok(Arc::clone(known));
        }
        let mut missing = Ranges::new();
        let failed = self.unreadable.take();
        let node = self.node(part)?;
        match node {
            // of what is below it nothing is known
            None if self.unreadable.is_some() => {}
            None => {
                self.lost.insert(part.id);
                add_range(&mut missing, (0, part.size));
            }
            Some(Node::Leaf(chunks)) => missing = self.chunks(&chunks)?,
            Some(Node::Inner { entries, .. }) => {
                let mut start = 0u64;
                for entry in entries {
                    let below = self.list(&Part {
                        id: entry.id,
                        level: part.level.saturating_sub(1),
                        size: entry.size,
                        chunk_count: u64::from(entry.chunk_count),
                    })?;
                    add_ranges(&mut missing, start, &below);
                    start = start.saturating_add(entry.size);
                }
            }
        }
        self.unreadable = failed.or(self.unreadable.take());
        let missing = match missing.is_empty() {
            true => Arc::clone(&self.nothing),
            false => Arc::new(missing),
        };
        self.walked.insert(*part, Arc::clone(&missing));
        Ok(missing)
    }

    /// A list node, if it is there and what its parent says. `None` with [`Self::unreadable`] when a read failed.
    fn node(&mut self, part: &Part) -> Result<Option<Node>> {
        let mut bytes = Vec::new();
        for place in self.repo.locate(&part.id)? {
            match read_at(self.repo, &place, &mut self.scratch, &mut bytes) {
                Ok(()) if place.entry.kind == KIND_LIST => {
                    self.unreadable = None;
                    let node = decode_node(&bytes, part.level).ok();
                    return Ok(node.filter(|node| {
                        (node.level(), node.size(), node.chunk_count()) == (part.level, part.size, part.chunk_count)
                    }));
                }
                Ok(()) => {}
                Err(error) if is_lost(&error) => {}
                Err(error) => match error.unreadable() {
                    Some(source) if source.kind.is_erasure() => self.unreadable = Some(source.clone()),
                    _ => return Err(error),
                },
            }
        }
        Ok(None)
    }
}

/// A chunk that is not where it should be, as opposed to a read that failed.
pub(super) fn is_lost(error: &Error) -> bool {
    matches!(
        error,
        Error::PackMissing { .. } | Error::PackCorrupt { .. } | Error::ChunkCorrupt { .. }
    )
}

/// Adds a range behind the others; one that begins where the last one ends makes that longer, and so does one too many.
fn add_range(ranges: &mut Ranges, (start, end): (u64, u64)) {
    let full = ranges.len() >= MAX_RANGES;
    match ranges.last_mut() {
        Some(last) if last.1 == start || full => last.1 = end,
        _ => ranges.push((start, end)),
    }
}

/// Adds what is missing in a node that begins at `start`.
fn add_ranges(ranges: &mut Ranges, start: u64, below: &Ranges) {
    let moved = |(from, to): &(u64, u64)| (start.saturating_add(*from), start.saturating_add(*to));
    if ranges.len() >= MAX_RANGES {
        // all of them become one with the last
        below
            .last()
            .map(moved)
            .into_iter()
            .for_each(|range| add_range(ranges, range));
        return;
    }
    below.iter().map(moved).for_each(|range| add_range(ranges, range));
}

/// Reports every snapshot that is not whole; `unreadable` are those whose manifest is gone for good, with the items of
/// which something is known.
pub(super) fn report(work: &mut Work<'_>, unreadable: Vec<DamagedSnapshot>) -> Result<()> {
    let repo = work.repo;
    let mut survey = Survey::new(repo);
    let mut damaged = unreadable;
    let manifests = repo.storage().list(layout::SNAPSHOTS)?;
    // in this order: what a snapshot needs was published before its manifest
    repo.refresh_index()?;
    for file in manifests {
        work.advance(0)?;
        let Some(id) = layout::id_of(&file.key, ".json").map(SnapshotId) else {
            continue;
        };
        // one that is gone was forgotten meanwhile, and one that a later version wrote is not for us to judge
        let bytes = match judge(repo.storage().get(&file.key, MAX_MANIFEST_LEN)) {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(_)) => continue,
            Err(error) => {
                work.leave(error)?;
                continue;
            }
        };
        let Ok(snapshot) = repo.decode_manifest(&id, &bytes) else {
            continue;
        };
        let items = survey.damaged_items(&snapshot)?;
        if !items.is_empty() {
            damaged.push(DamagedSnapshot { id, items });
        }
        if let Some(error) = survey.unreadable.take() {
            work.leave(error)?;
        }
    }
    // what the others do not name may be named by a segment that cannot be read: nothing is called lost then
    let unread = repo.index().check_read();
    if let Some(error) = unread.as_ref().err().and_then(FailedRead::unreadable) {
        return work.leave(error.clone());
    }
    damaged.sort_by_key(|snapshot| snapshot.id);
    work.report.lost_chunks = survey.lost.len() as u64;
    work.report.damaged_snapshots = damaged;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_join_where_they_touch_and_when_there_are_too_many() {
        let mut ranges = Ranges::new();
        add_ranges(&mut ranges, 100, &vec![(0, 5), (5, 9), (20, 30)]);
        assert_eq!(ranges, [(100, 109), (120, 130)]);
        let many: Ranges = (0..3000).map(|n| (n * 2, n * 2 + 1)).collect();
        for start in [1000, 10_000, 20_000, 30_000] {
            add_ranges(&mut ranges, start, &many);
        }
        assert_eq!(ranges.len(), MAX_RANGES);
        assert!(ranges.is_sorted_by(|a, b| a.1 <= b.0));
        assert_eq!(ranges.last().unwrap().1, 30_000 + 5999);
    }
}
