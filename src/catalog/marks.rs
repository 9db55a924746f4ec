//! Which entries of the index are needed: a mark for each chunk id that a kept snapshot names.
//!
//! The lists of the snapshots are walked, each list node once, and the ids that come up are gathered in batches. A batch
//! is sorted and held against one walk of the index, which goes in the same order. So the cost is one sequential read of
//! the index for every batch (half a million different ids at least) plus the unique list nodes, and memory is one batch,
//! one bit for each chunk of the index, and the ids of the list nodes.

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

/// Ids that are held in memory at once, 32 bytes each.
#[cfg(not(any(test, feature = "testing")))]
const BATCH: usize = 1 << 20;
/// Few, so that tests reach a second one.
#[cfg(any(test, feature = "testing"))]
const BATCH: usize = 1000;

/// A bit for each different chunk id of the index, in the order of the ids.
#[derive(Default)]
pub struct Marks {
    bits: Vec<u64>,
}

impl Marks {
    fn set(&mut self, place: usize) {
        let word = place / 64;
        if self.bits.len() <= word {
            self.bits.resize(word + 1, 0);
        }
        if let Some(bits) = self.bits.get_mut(word) {
            *bits |= 1 << (place % 64);
        }
    }

    /// Whether the id at this place of the index is needed.
    pub fn is_set(&self, place: usize) -> bool {
        self.bits
            .get(place / 64)
            .is_some_and(|bits| bits >> (place % 64) & 1 == 1)
    }
}

/// A copy of a chunk: the ordinal of its pack, and where in it.
pub type Copy = (u32, PackEntry);

/// Is told, for each different id of the index, its place and all its copies.
pub type EachId<'e> = dyn FnMut(usize, &ChunkId, &[Copy]) -> Result<()> + 'e;

/// Walks the index.
pub fn for_each_id(source: &MergeSource, each: &mut EachId<'_>) -> Result<()> {
    let mut copies: Vec<Copy> = Vec::new();
    let mut place = 0;
    for found in source.scan() {
        let found = found?;
        if let Some((_, last)) = copies.last() {
            if last.id == found.entry.id {
                // several segments may hold the same pair
                if copies.iter().all(|(pack, _)| *pack != found.pack) {
                    copies.push((found.pack, found.entry));
                }
                continue;
            }
            let id = last.id;
            each(place, &id, &copies)?;
            place += 1;
            copies.clear();
        }
        copies.push((found.pack, found.entry));
    }
    match copies.last() {
        Some((_, last)) => each(place, &last.id.clone(), &copies),
        None => Ok(()),
    }
}

/// Marks what snapshots need.
pub struct Marker<'a> {
    source: &'a MergeSource,
    /// Tells whether a copy in the pack of this ordinal counts.
    good: &'a dyn Fn(u32) -> bool,
    marks: Marks,
    batch: Vec<ChunkId>,
    nodes: HashSet<ChunkId>,
    scratch: ReadScratch,
    absent: Absent,
}

/// What a chunk means that no counted pack holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Absent {
    /// An error.
    Fails,
    /// Nothing: the snapshot is not whole anyway.
    IsPassedOver,
    /// An error where it is a list node, since it is then not known what the snapshot needs. Other
    /// chunks are noted.
    IsNoted { seen: bool },
}

impl<'a> Marker<'a> {
    /// Marks what is needed; a chunk of which no counted pack has a copy is an error.
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

    /// Marks all copies, and notes whether there are chunks without any.
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
                // snapshots that name their chunks themselves name the same ones again and again
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
            Err(Error::ChunkMissing { .. } | Error::PackMissing { .. }) if self.absent == Absent::IsPassedOver => {
                Ok(())
            }
            other => other,
        }
    }

    /// From now on, what cannot be found is passed over: for snapshots that are not whole anyway.
    pub fn lenient(&mut self) -> Result<()> {
        self.mark_rest()?;
        self.absent = Absent::IsPassedOver;
        Ok(())
    }

    /// The marks, when everything was added.
    pub fn finish(mut self) -> Result<Marks> {
        self.mark_rest()?;
        Ok(self.marks)
    }

    /// The same for one that [notes](Self::noting), and whether a chunk was in no segment.
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
    /// Marks a batch of ids in one walk of the index, and empties it.
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
        for_each_id(source, &mut |place, id, copies| {
            while let Some(missing) = wanted.next_if(|want| *want < id) {
                absent.meets(missing)?;
            }
            if wanted.next_if(|want| *want == id).is_some() {
                if copies.iter().any(|(pack, _)| good(*pack)) {
                    self.set(place);
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
    /// A chunk is in no segment.
    fn meets(&mut self, id: &ChunkId) -> Result<()> {
        match self {
            Self::Fails => return Err(Error::ChunkMissing { chunk: *id }),
            Self::IsPassedOver => {}
            Self::IsNoted { seen } => *seen = true,
        }
        Ok(())
    }
}

/// Calls `each` for every chunk and list node of a snapshot; what lies below a node in `nodes` is passed over.
pub fn walk(
    repo: &Repository,
    snapshot: &Snapshot,
    nodes: &mut HashSet<ChunkId>,
    scratch: &mut ReadScratch,
    each: &mut dyn FnMut(&ChunkId) -> Result<()>,
) -> Result<()> {
    for item in &snapshot.items {
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
                // a node is on the level below its parent, so this ends
                Node::Inner { level: own, entries } if own == level => {
                    open.extend(entries.iter().map(|entry| (entry.id, own.saturating_sub(1))));
                }
                Node::Inner { .. } => return Err(corrupt("a node is on the wrong level")),
            }
        }
    }
    Ok(())
}
