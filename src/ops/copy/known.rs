//! What the target has already: copies, by their origins, and chunks, by the ids of the source.
//!
//! Two plain repositories have the same ids for the same chunks. Others have not, but a snapshot
//! and its copy list the same chunks in the same order: the lists of the last snapshot that was
//! copied show which chunk of the target is which of the source, without a byte of data being read.

use crate::catalog::snapshots;
use crate::error::{Error, Result};
use crate::id::{ChunkId, RepoId, SnapshotId};
use crate::ops::snapshots::{list_ids, load};
use crate::repo::read::{ReadScratch, get_node};
use crate::repo::{Repository, Session};
use crate::snapshot::{ListWalker, Origin, Snapshot, SnapshotItem};
use std::collections::HashMap;

/// Bytes of a pair of ids in memory.
const BYTES_PER_CHUNK: usize = 128;
/// The pairs take at most this part of the share of the operation.
const SHARE: usize = 8;

/// What the target has.
pub(super) struct Known {
    /// The copies in the target, by what they are copies of; its own snapshots too.
    copies: HashMap<Origin, SnapshotId>,
    /// The last snapshot of the source that the target has, and its copy.
    last: Option<(Snapshot, SnapshotId)>,
    /// Ids of the source, with those of the same chunks in the target.
    chunks: HashMap<ChunkId, ChunkId>,
    /// Both repositories have the same ids.
    same_ids: bool,
}

impl Known {
    /// Reads the manifests of the target. One that is damaged is ignored.
    pub fn read(target: &Repository) -> Result<Self> {
        let mut copies = HashMap::new();
        for id in snapshots::to_show(target, &list_ids(target)?) {
            match load(target, id) {
                Ok(snapshot) => drop(copies.insert(snapshot.origin(target.config().id), *id)),
                Err(Error::ManifestCorrupt { .. } | Error::SnapshotNotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self {
            copies,
            last: None,
            chunks: HashMap::new(),
            same_ids: false,
        })
    }

    /// True when the target has the snapshot of this origin.
    pub fn has(&self, origin: &Origin) -> bool {
        self.copies.contains_key(origin)
    }

    /// Notes a snapshot of the source that the target has.
    pub fn note_copied(&mut self, snapshot: &Snapshot, source: RepoId) {
        if let Some(copy) = self.copies.get(&snapshot.origin(source)) {
            self.last = Some((snapshot.clone(), *copy));
        }
    }

    /// Notes a copy that was made.
    pub fn add(&mut self, snapshot: &Snapshot, copy: Snapshot, source: RepoId) {
        self.copies.insert(snapshot.origin(source), copy.id);
        self.last = Some((snapshot.clone(), copy.id));
    }

    /// Before a snapshot is copied: reads the lists of the last one.
    pub fn load_chunks(&mut self, source: &Repository, target: &Repository, next: &Snapshot) -> Result<()> {
        self.same_ids = !source.config().encrypted && !target.config().encrypted;
        self.chunks = HashMap::new();
        let Some((before, copy)) = self.last.as_ref().filter(|_| !self.same_ids) else {
            return Ok(());
        };
        let most = source.operation_share() / SHARE / BYTES_PER_CHUNK;
        let copy = match load(target, copy) {
            Ok(copy) => copy,
            Err(Error::ManifestCorrupt { .. } | Error::SnapshotNotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut chunks = HashMap::new();
        for item in &before.items {
            let twin = copy.item(&item.name).filter(|_| next.item(&item.name).is_some());
            if let Some(twin) = twin {
                // what cannot be read is stored again
                let _ = add_pairs((source, item), (target, twin), most, &mut chunks);
                for extra in &item.extra {
                    if let Some(theirs) = twin.extra_of(&extra.kind) {
                        let (ours, theirs) = (extra.as_item(item), theirs.as_item(twin));
                        let _ = add_pairs((source, &ours), (target, &theirs), most, &mut chunks);
                    }
                }
            }
        }
        self.chunks = chunks;
        Ok(())
    }

    /// The id in the target of a chunk of the source of `len` bytes, if the target has it; the
    /// snapshot of the session then relies on it.
    pub fn find(&self, session: &Session, id: &ChunkId, len: u32, is_extra: bool) -> Result<Option<ChunkId>> {
        let candidate = match self.same_ids {
            true => Some(*id),
            false => self.chunks.get(id).copied(),
        };
        match candidate {
            Some(candidate) if is_extra => Ok(session.reuse_extra(&candidate)?.then_some(candidate)),
            Some(candidate) => Ok(session.reuse_chunk(&candidate, len)?.then_some(candidate)),
            None => Ok(None),
        }
    }
}

/// Adds the chunks of an item and of its copy, as long as both lists agree.
fn add_pairs(
    (source, item): (&Repository, &SnapshotItem),
    (target, twin): (&Repository, &SnapshotItem),
    most: usize,
    chunks: &mut HashMap<ChunkId, ChunkId>,
) -> Result<()> {
    let (mut ours, mut theirs) = (ListWalker::new(item, 0)?, ListWalker::new(twin, 0)?);
    let (mut one, mut two) = (ReadScratch::default(), ReadScratch::default());
    while chunks.len() < most {
        let mut fetch = |id: &ChunkId| get_node(source, id, &mut one);
        let from = ours.next_chunk::<Error>(&mut fetch)?;
        let mut fetch = |id: &ChunkId| get_node(target, id, &mut two);
        let to = theirs.next_chunk::<Error>(&mut fetch)?;
        match (from, to) {
            (Some(from), Some(to)) if from.raw_len == to.raw_len => drop(chunks.insert(from.id, to.id)),
            _ => break,
        }
    }
    Ok(())
}
