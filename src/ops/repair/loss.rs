//! What snapshots need and nobody has: found by walking their lists, each list node once.
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
use std::collections::HashSet;

/// Walks snapshots, and remembers what it has seen.
pub(super) struct Survey<'a> {
    repo: &'a Repository,
    /// Nodes below which everything is there.
    whole: HashSet<ChunkId>,
    /// Chunks and nodes that nobody has.
    pub lost: HashSet<ChunkId>,
    scratch: ReadScratch,
}

/// A part of an item's list: the node at its top and what that must be.
#[derive(Clone, Copy)]
struct Part {
    id: ChunkId,
    level: u8,
    start: u64,
    size: u64,
    chunk_count: u64,
}

impl<'a> Survey<'a> {
    pub(super) fn new(repo: &'a Repository) -> Self {
        Self {
            repo,
            whole: HashSet::new(),
            lost: HashSet::new(),
            scratch: ReadScratch::default(),
        }
    }

    /// The items of a snapshot that are not whole.
    pub(super) fn damaged_items(&mut self, snapshot: &Snapshot) -> Result<Vec<DamagedItem>> {
        let mut items = Vec::new();
        for item in &snapshot.items {
            let mut missing = Vec::new();
            match &item.content {
                ItemContent::Inline(chunks) => self.chunks(chunks, 0, &mut missing)?,
                ItemContent::List { root, level } => {
                    let part = Part {
                        id: *root,
                        level: *level,
                        start: 0,
                        size: item.size,
                        chunk_count: item.chunk_count,
                    };
                    self.list(part, &mut missing)?;
                }
            }
            if !missing.is_empty() {
                items.push(DamagedItem {
                    name: item.name.clone(),
                    missing,
                });
            }
        }
        Ok(items)
    }

    fn chunks(&mut self, chunks: &[(ChunkId, u32)], mut start: u64, missing: &mut Vec<(u64, u64)>) -> Result<()> {
        for (id, raw_len) in chunks {
            let end = start.saturating_add(u64::from(*raw_len));
            if self.lost.contains(id) || self.repo.locate(id)?.is_empty() {
                self.lost.insert(*id);
                add_range(missing, (start, end));
            }
            start = end;
        }
        Ok(())
    }

    /// Recursion is bounded: a node's level is checked to be one less than that of its parent.
    fn list(&mut self, part: Part, missing: &mut Vec<(u64, u64)>) -> Result<()> {
        if self.whole.contains(&part.id) {
            return Ok(());
        }
        let before = missing.clone();
        match self.node(&part)? {
            None => {
                self.lost.insert(part.id);
                add_range(missing, (part.start, part.start.saturating_add(part.size)));
            }
            Some(Node::Leaf(chunks)) => self.chunks(&chunks, part.start, missing)?,
            Some(Node::Inner { entries, .. }) => {
                let mut start = part.start;
                for entry in entries {
                    let below = Part {
                        id: entry.id,
                        level: part.level.saturating_sub(1),
                        start,
                        size: entry.size,
                        chunk_count: u64::from(entry.chunk_count),
                    };
                    self.list(below, missing)?;
                    start = start.saturating_add(entry.size);
                }
            }
        }
        if *missing == before {
            self.whole.insert(part.id);
        }
        Ok(())
    }

    /// A list node, if it is there and what its parent says.
    fn node(&mut self, part: &Part) -> Result<Option<Node>> {
        let mut bytes = Vec::new();
        for place in self.repo.locate(&part.id)? {
            match read_at(self.repo, &place, &mut self.scratch, &mut bytes) {
                Ok(()) if place.entry.kind == KIND_LIST => {
                    let node = decode_node(&bytes, part.level).ok();
                    return Ok(node.filter(|node| {
                        (node.level(), node.size(), node.chunk_count()) == (part.level, part.size, part.chunk_count)
                    }));
                }
                Ok(()) => {}
                Err(error) if is_unreadable(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }
}

/// A chunk that cannot be had from its place, as opposed to trouble with the whole store.
pub(super) fn is_unreadable(error: &Error) -> bool {
    matches!(
        error,
        Error::PackMissing { .. } | Error::PackCorrupt { .. } | Error::ChunkCorrupt { .. }
    )
}

/// Adds a range behind the others; one that begins where the last one ends makes that longer.
fn add_range(ranges: &mut Vec<(u64, u64)>, (start, end): (u64, u64)) {
    match ranges.last_mut() {
        Some(last) if last.1 == start => last.1 = end,
        _ => ranges.push((start, end)),
    }
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
        let Ok(bytes) = repo.storage().get(&file.key, MAX_MANIFEST_LEN) else {
            continue;
        };
        let Ok(snapshot) = repo.decode_manifest(&id, &bytes) else {
            continue;
        };
        let items = survey.damaged_items(&snapshot)?;
        if !items.is_empty() {
            damaged.push(DamagedSnapshot { id, items });
        }
    }
    damaged.sort_by_key(|snapshot| snapshot.id);
    work.report.lost_chunks = survey.lost.len() as u64;
    work.report.damaged_snapshots = damaged;
    Ok(())
}
