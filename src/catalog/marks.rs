//! The entries of the index that are needed: a mark for each chunk id that a kept snapshot
//! contains.
//!
//! The list trees of the snapshots are walked, each list node once, and the ids found are collected
//! in batches. A batch is sorted and compared with one walk of the index, which has the same order.
//! So the cost is one sequential read of the index for every batch (half a million different ids at
//! least) plus the unique list nodes, and memory is one batch, one bit for each chunk of the index,
//! and the ids of the list nodes.

use crate::error::{Error, Result};
use crate::id::ChunkId;
use crate::index::{EntrySource, MergeSource};
use crate::monitor::Monitor;
use crate::pack::PackEntry;
use crate::repo::Repository;
use crate::repo::read::{ReadScratch, get_node};
use crate::snapshot::list::{Node, decode_node};
use crate::snapshot::{ItemContent, Snapshot};
use std::collections::HashSet;

/// Most ids in memory at once, 32 bytes each.
#[cfg(not(any(test, feature = "testing")))]
const BATCH: usize = 1 << 20;
/// A small batch, so that tests need a second one.
#[cfg(any(test, feature = "testing"))]
const BATCH: usize = 1000;

/// A bit for each different chunk id of the index, in the order of the ids.
#[derive(Default)]
pub struct Marks {
    bits: Vec<u64>,
}

impl Marks {
    fn set(&mut self, position: usize) {
        let word = position / 64;
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        if let Some(bits) = self.bits.get_mut(word) {
            *bits |= 1 << (position % 64);
        }
    }

    /// Whether the id at this position of the index is needed.
    pub fn is_set(&self, position: usize) -> bool {
        self.bits
            .get(position / 64)
            .is_some_and(|bits| bits >> (position % 64) & 1 == 1)
    }
}

/// A copy of a chunk: the ordinal of its pack, and its entry there.
pub type Copy = (u32, PackEntry);

/// Called for each different id of the index, with its position and all its copies.
pub type EachId<'e> = dyn FnMut(usize, &ChunkId, &[Copy]) -> Result<()> + 'e;

/// Calls `each` for each different id of the index, in their order.
pub fn for_each_id(source: &MergeSource, each: &mut EachId<'_>) -> Result<()> {
    let mut copies: Vec<Copy> = Vec::new();
    let mut position = 0;
    for found in source.scan() {
        let found = found?;
        if let Some((_, last)) = copies.last() {
            if last.id == found.entry.id {
                // several segments may contain the same pair
                if copies.iter().all(|(pack, _)| *pack != found.pack) {
                    copies.push((found.pack, found.entry));
                }
                continue;
            }
            let id = last.id;
            each(position, &id, &copies)?;
            position += 1;
            copies.clear();
        }
        copies.push((found.pack, found.entry));
    }
    match copies.last() {
        Some((_, last)) => each(position, &last.id.clone(), &copies),
        None => Ok(()),
    }
}

/// Marks the chunks that snapshots need.
pub struct Marker<'a> {
    source: &'a MergeSource,
    /// Whether a copy in the pack of this ordinal counts.
    good: &'a dyn Fn(u32) -> bool,
    marks: Marks,
    batch: Vec<ChunkId>,
    nodes: HashSet<ChunkId>,
    scratch: ReadScratch,
    absent: Absent,
}

/// The handling of a chunk that is in no counted pack.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absent {
    /// An error.
    Fails,
    /// Ignored: the snapshot is known to be incomplete.
    IsSkipped,
    /// An error for a list node, since it is then unknown what the snapshot needs. Other chunks are
    /// noted.
    IsNoted { seen: bool },
}

impl<'a> Marker<'a> {
    /// Marks needed chunks; a chunk without a copy in a counted pack is an error.
    pub fn new(source: &'a MergeSource, good: &'a dyn Fn(u32) -> bool) -> Self {
        Self {
            source,
            good,
            marks: Marks::default(),
            batch: Vec::new(),
            nodes: HashSet::new(),
            scratch: ReadScratch::default(),
            absent: Absent::Fails,
        }
    }

    /// Counts every pack, and notes whether there are chunks without any copy.
    pub fn noting(source: &'a MergeSource) -> Self {
        Self {
            absent: Absent::IsNoted { seen: false },
            ..Self::new(source, &|_| true)
        }
    }

    /// Marks everything that a snapshot needs.
    pub fn add(&mut self, repo: &Repository, monitor: &dyn Monitor, snapshot: &Snapshot) -> Result<()> {
        let mut batch = std::mem::take(&mut self.batch);
        let walked = walk(repo, snapshot, &mut self.nodes, &mut self.scratch, &mut |id| {
            batch.push(*id);
            if batch.len() >= BATCH {
                repo.check_running(monitor)?;
                // snapshots with inline chunk ids repeat the same ids
                batch.sort_unstable();
                batch.dedup();
                if batch.len() > BATCH / 2 {
                    self.marks.mark(self.source, self.good, &mut batch, &mut self.absent)?;
                }
            }
            Ok(())
        });
        self.batch = batch;
        match walked {
            Err(Error::ChunkMissing { .. } | Error::PackMissing { .. }) if self.absent == Absent::IsSkipped => Ok(()),
            other => other,
        }
    }

    /// From now on, chunks that cannot be found are skipped: for snapshots that are known to be
    /// incomplete.
    pub fn lenient(&mut self) -> Result<()> {
        self.mark_rest()?;
        self.absent = Absent::IsSkipped;
        Ok(())
    }

    /// Returns the marks, after everything was added.
    pub fn finish(mut self) -> Result<Marks> {
        self.mark_rest()?;
        Ok(self.marks)
    }

    /// The same for a marker that [notes](Self::noting), and whether a chunk was in no segment.
    pub fn finish_noting(mut self) -> Result<(Marks, bool)> {
        self.mark_rest()?;
        Ok((self.marks, self.absent == Absent::IsNoted { seen: true }))
    }

    fn mark_rest(&mut self) -> Result<()> {
        self.marks
            .mark(self.source, self.good, &mut self.batch, &mut self.absent)
    }
}

impl Marks {
    /// Marks a batch of ids in one walk of the index, and empties the batch.
    fn mark(
        &mut self,
        source: &MergeSource,
        good: &dyn Fn(u32) -> bool,
        batch: &mut Vec<ChunkId>,
        absent: &mut Absent,
    ) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        batch.sort_unstable();
        batch.dedup();
        let mut wanted = batch.iter().peekable();
        for_each_id(source, &mut |position, id, copies| {
            while let Some(missing) = wanted.next_if(|want| *want < id) {
                absent.meets(missing)?;
            }
            if wanted.next_if(|want| *want == id).is_some() {
                if copies.iter().any(|(pack, _)| good(*pack)) {
                    self.set(position);
                } else if let Some((pack, _)) = copies.first().filter(|_| *absent == Absent::Fails) {
                    let packs = source.packs();
                    return Err(match packs.get(*pack as usize) {
                        Some((pack, _)) => Error::PackMissing {
                            pack: *pack,
                            chunk: Some(*id),
                        },
                        None => Error::ChunkMissing { chunk: *id },
                    });
                }
            }
            Ok(())
        })?;
        for missing in wanted {
            absent.meets(missing)?;
        }
        batch.clear();
        Ok(())
    }
}

impl Absent {
    /// Handles a chunk that is in no segment.
    fn meets(&mut self, id: &ChunkId) -> Result<()> {
        match self {
            Self::Fails => return Err(Error::ChunkMissing { chunk: *id }),
            Self::IsSkipped => {}
            Self::IsNoted { seen } => *seen = true,
        }
        Ok(())
    }
}

/// Calls `each` for every chunk and list node of a snapshot, those of its extras among them; nodes
/// that are in `nodes` are skipped, with everything below them.
pub fn walk(
    repo: &Repository,
    snapshot: &Snapshot,
    nodes: &mut HashSet<ChunkId>,
    scratch: &mut ReadScratch,
    each: &mut dyn FnMut(&ChunkId) -> Result<()>,
) -> Result<()> {
    for item in snapshot.lists() {
        let (root, level) = match &item.content {
            ItemContent::Inline(chunks) => {
                chunks.iter().try_for_each(|(id, _)| each(id))?;
                continue;
            }
            ItemContent::List { root, level } => (*root, *level),
        };
        let mut open = vec![(root, level)];
        while let Some((id, level)) = open.pop() {
            if !nodes.insert(id) {
                continue;
            }
            each(&id)?;
            let bytes = get_node(repo, &id, scratch)?;
            let corrupt = |reason: &str| Error::ManifestCorrupt {
                snapshot: snapshot.id,
                reason: format!("the list of item {:?}: {reason}", item.name),
            };
            match decode_node(&bytes, level).map_err(|error| corrupt(&error.to_string()))? {
                Node::Leaf(chunks) => chunks.iter().try_for_each(|(id, _)| each(id))?,
                // a node is one level below its parent, so this terminates
                Node::Inner { level: own, entries } if own == level => {
                    open.extend(entries.iter().map(|entry| (entry.id, own.saturating_sub(1))));
                }
                Node::Inner { .. } => return Err(corrupt("a node is on the wrong level")),
            }
        }
    }
    Ok(())
}
