//! Finds the chunks that snapshots need and that are lost, by walking the lists, each list node
//! once, intact or not.
//!
//! A chunk counts as existing when the index, which at this point lists exactly the chunks of the
//! intact packs, has a location for it.

use super::{DamagedItem, DamagedSnapshot, Work};
use crate::error::{Error, Result};
use crate::id::{ChunkId, SnapshotId};
use crate::layout;
use crate::pack::KIND_LIST;
use crate::repo::Repository;
use crate::repo::read::{ReadScratch, read_at};
use crate::snapshot::list::{Node, decode_node};
use crate::snapshot::{Extra, ItemContent, MAX_MANIFEST_LEN, Snapshot};
use crate::storage::{self, FailedRead, judge};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Most ranges that are reported for one item; missing bytes after them are joined with the last
/// one. A list that names the same damaged node many times over could otherwise have more ranges
/// than fit in memory.
const MAX_RANGES: usize = 4096;

/// First byte and end (exclusive) of each missing range, relative to the start of a node or item.
type Ranges = Vec<(u64, u64)>;

/// Walks snapshots, and caches the results per node.
pub(super) struct LossFinder<'a> {
    repo: &'a Repository,
    /// Nodes that were walked, with the ranges that are missing below them.
    walked: HashMap<Part, Arc<Ranges>>,
    /// Shared by all nodes below which nothing is missing.
    nothing: Arc<Ranges>,
    /// Chunks and nodes that are lost.
    pub lost: HashSet<ChunkId>,
    /// A failed read. The data that it should have returned counts as existing.
    pub unreadable: Option<storage::Error>,
    scratch: ReadScratch,
}

/// A part of an item's list: the node at its top and the values that the node must have.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Part {
    id: ChunkId,
    level: u8,
    size: u64,
    chunk_count: u64,
}

impl<'a> LossFinder<'a> {
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

    /// The damaged items of a snapshot.
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
            let mut is_damaged = !missing.is_empty();
            for extra in &item.extra {
                is_damaged |= self.is_extra_lost(extra)?;
            }
            if is_damaged {
                items.push(DamagedItem {
                    name: item.name.clone(),
                    missing: Arc::unwrap_or_clone(missing),
                });
            }
        }
        Ok(items)
    }

    /// Whether chunks of an extra are lost.
    pub(super) fn is_extra_lost(&mut self, extra: &Extra) -> Result<bool> {
        let lost = self.list(&Part {
            id: extra.root,
            level: extra.level,
            size: extra.size,
            chunk_count: extra.chunk_count,
        })?;
        Ok(!lost.is_empty())
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

    /// Whether a chunk exists. A location that this handle found in a pack outside the index counts
    /// only while the pack exists: it may have been moved to the quarantine since.
    pub(super) fn is_there(&self, id: &ChunkId) -> Result<bool> {
        if !self.repo.locate_published(id)?.is_empty() {
            return Ok(true);
        }
        for location in self.repo.locate(id)? {
            if self.repo.pack_len(&location.pack)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The ranges that are missing below a node. Recursion is bounded: a node's level is checked to
    /// be one less than that of its parent.
    fn list(&mut self, part: &Part) -> Result<Arc<Ranges>> {
        if let Some(known) = self.walked.get(part) {
            return Ok(Arc::clone(known));
        }
        let mut missing = Ranges::new();
        let failed = self.unreadable.take();
        let node = self.node(part)?;
        match node {
            // the nodes below it are unknown
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

    /// A list node, if it exists and matches its parent's record. `None` with [`Self::unreadable`]
    /// set when a read failed.
    fn node(&mut self, part: &Part) -> Result<Option<Node>> {
        let mut bytes = Vec::new();
        for location in self.repo.locate(&part.id)? {
            match read_at(self.repo, &location, &mut self.scratch, &mut bytes) {
                Ok(()) if location.entry.kind == KIND_LIST => {
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

/// True when the error means that a chunk is not at its location, as opposed to a failed read.
pub(super) fn is_lost(error: &Error) -> bool {
    matches!(
        error,
        Error::PackMissing { .. } | Error::PackCorrupt { .. } | Error::ChunkCorrupt { .. }
    )
}

/// Appends a range. A range that begins where the last one ends extends it, and so does any range
/// beyond [`MAX_RANGES`].
fn add_range(ranges: &mut Ranges, (start, end): (u64, u64)) {
    let full = ranges.len() >= MAX_RANGES;
    match ranges.last_mut() {
        Some(last) if last.1 == start || full => last.1 = end,
        _ => ranges.push((start, end)),
    }
}

/// Adds the missing ranges of a node that begins at `start`.
fn add_ranges(ranges: &mut Ranges, start: u64, below: &Ranges) {
    let moved = |(from, to): &(u64, u64)| (start.saturating_add(*from), start.saturating_add(*to));
    if ranges.len() >= MAX_RANGES {
        // all of them are joined with the last one
        below
            .last()
            .map(moved)
            .into_iter()
            .for_each(|range| add_range(ranges, range));
        return;
    }
    below.iter().map(moved).for_each(|range| add_range(ranges, range));
}

/// Reports every damaged snapshot. `unreadable` contains those whose manifest is lost, with the
/// items that are known.
pub(super) fn report(work: &mut Work<'_>, unreadable: Vec<DamagedSnapshot>) -> Result<()> {
    let repo = work.repo;
    let mut finder = LossFinder::new(repo);
    let mut damaged = unreadable;
    let manifests = repo.storage().list(layout::SNAPSHOTS)?;
    // in this order: everything that a snapshot needs was published before its manifest
    repo.refresh_index()?;
    for file in manifests {
        work.advance(0)?;
        let Some(snapshot) = read_manifest(work, &file.key)? else {
            continue;
        };
        let items = finder.damaged_items(&snapshot)?;
        if !items.is_empty() {
            damaged.push(DamagedSnapshot { id: snapshot.id, items });
        }
        if let Some(error) = finder.unreadable.take() {
            work.leave(error)?;
        }
    }
    // an unreadable segment may name the chunks that the others do not: nothing is reported as lost
    // in that case
    let unread = repo.index().check_read();
    if let Some(error) = unread.as_ref().err().and_then(FailedRead::unreadable) {
        return work.leave(error.clone());
    }
    damaged.sort_by_key(|snapshot| snapshot.id);
    work.report.lost_chunks = finder.lost.len() as u64;
    work.report.damaged_snapshots = damaged;
    Ok(())
}

/// The snapshot of a key in `snapshots/`, if it can be read. A missing one was forgotten in the
/// meantime, and one of a later version cannot be checked.
pub(super) fn read_manifest(work: &mut Work<'_>, key: &str) -> Result<Option<Snapshot>> {
    let repo = work.repo;
    let Some(id) = layout::id_of(key, ".json").map(SnapshotId) else {
        return Ok(None);
    };
    match judge(repo.storage().get(key, MAX_MANIFEST_LEN)) {
        Ok(Ok(bytes)) => Ok(repo.decode_manifest(&id, &bytes).ok()),
        Ok(Err(_)) => Ok(None),
        Err(error) => work.leave(error).map(|()| None),
    }
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
