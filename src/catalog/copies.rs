//! The copies of manifests that a pack contains. No index names them, so the packs themselves are
//! read: those that have no data chunk in the index (meta packs, as a rule one for each snapshot),
//! and those that the index does not name at all.

use crate::base::judge_chunk;
use crate::error::Result;
use crate::id::{PackId, SnapshotId};
use crate::layout;
use crate::monitor::Monitor;
use crate::pack::{ChunkLocation, KIND_MANIFEST_COPY, PackIndex};
use crate::repo::read::{ReadScratch, read_at};
use crate::repo::{Repository, find_any_index};
use crate::snapshot::Snapshot;
use crate::snapshot::copy::{CopyPart, join_from};
use std::collections::BTreeSet;

/// The contents of a pack, from its own entries.
pub struct Content {
    /// The session that wrote it.
    pub session: SnapshotId,
    /// Snapshots whose manifests have copies in it.
    pub copies: BTreeSet<SnapshotId>,
    /// Bytes of the chunks and list nodes that it stores.
    pub stored: u64,
}

/// Reads the contents of a pack from its own entries. `None` when they cannot be determined: the
/// pack or one of its copies is damaged, or the pack is missing.
///
/// `is_known` returns whether a session has a manifest or a record: such a session has stored no
/// copies except those of its own manifest.
pub fn read(
    repo: &Repository,
    monitor: &dyn Monitor,
    pack: &PackId,
    is_known: &dyn Fn(&SnapshotId) -> bool,
) -> Result<Option<Content>> {
    repo.check_running(monitor)?;
    let Some(index) = find_any_index(repo, pack)? else {
        return Ok(None);
    };
    let session = index.header.session;
    let mut copies = BTreeSet::new();
    if is_known(&session) {
        if index.entries.iter().any(|entry| entry.kind == KIND_MANIFEST_COPY) {
            copies.insert(session);
        }
    } else {
        match copies_in(repo, &index)? {
            Some(found) => copies = found,
            None => return Ok(None),
        }
    }
    Ok(Some(Content {
        session,
        copies,
        stored: index.stored(),
    }))
}

/// The snapshots whose manifests have parts in a pack. `None` when one of these parts is damaged: a
/// repair may rebuild it.
fn copies_in(repo: &Repository, index: &PackIndex) -> Result<Option<BTreeSet<SnapshotId>>> {
    let mut reader = PartReader::new(repo);
    let mut copies = BTreeSet::new();
    for location in copy_locations(index) {
        let Some(part) = reader.read_bytes(&location)?.map(CopyPart::decode) else {
            return Ok(None);
        };
        copies.extend(part.ok().map(|part| part.snapshot));
    }
    Ok(Some(copies))
}

/// The parts of copies of a manifest in a pack, by the hash of the complete manifest and their
/// number.
pub fn parts_of_copy(repo: &Repository, id: &SnapshotId, pack: &PackId) -> Result<BTreeSet<([u8; 32], u32)>> {
    let mut parts = BTreeSet::new();
    let Some(index) = find_any_index(repo, pack)? else {
        return Ok(parts);
    };
    let mut reader = PartReader::new(repo);
    for location in copy_locations(&index) {
        let part = reader.read(&location)?.filter(|part| part.snapshot == *id);
        parts.extend(part.map(|part| (part.manifest_sha256, part.part)));
    }
    Ok(parts)
}

/// The locations of the parts of copies in a pack.
fn copy_locations(index: &PackIndex) -> impl Iterator<Item = ChunkLocation> {
    let entries = index.entries.iter().filter(|entry| entry.kind == KIND_MANIFEST_COPY);
    entries.map(|entry| ChunkLocation {
        pack: index.pack,
        entry: *entry,
    })
}

/// Reads parts of copies, one at a time.
struct PartReader<'a> {
    repo: &'a Repository,
    scratch: ReadScratch,
    bytes: Vec<u8>,
}

impl<'a> PartReader<'a> {
    fn new(repo: &'a Repository) -> Self {
        Self {
            repo,
            scratch: ReadScratch::default(),
            bytes: Vec::new(),
        }
    }

    /// `None` for a part that is damaged, or no such part.
    fn read(&mut self, location: &ChunkLocation) -> Result<Option<CopyPart>> {
        let bytes = self.read_bytes(location)?;
        Ok(bytes.and_then(|bytes| CopyPart::decode(bytes).ok()))
    }

    fn read_bytes(&mut self, location: &ChunkLocation) -> Result<Option<&[u8]>> {
        let read = judge_chunk(read_at(self.repo, location, &mut self.scratch, &mut self.bytes))?;
        Ok(read.is_ok().then_some(&self.bytes[..]))
    }
}

/// The snapshot of a missing manifest, from its copies in `packs`; `None` when no copy is complete.
pub fn lost_snapshot(repo: &Repository, id: &SnapshotId, packs: &[PackId]) -> Result<Option<Snapshot>> {
    let mut locations: Vec<ChunkLocation> = Vec::new();
    for pack in packs {
        if let Some(index) = find_any_index(repo, pack)? {
            locations.extend(copy_locations(&index));
        }
    }
    let mut reader = PartReader::new(repo);
    let mut read = |location: &ChunkLocation| reader.read(location);
    join_from(id, &locations, &mut read, &mut |manifest| {
        repo.decode_manifest(id, manifest).ok()
    })
}

/// Rechecks that a copy has no manifest, and no lease or record that explains it. Records were
/// listed before the packs, and snapshots last: in between, its session may have been ignored and
/// have ended, or the snapshot may have been forgotten.
pub fn is_lost(repo: &Repository, id: &SnapshotId) -> Result<bool> {
    let storage = repo.storage();
    let is_unknown = || -> Result<bool> {
        let is_held = storage.lease_held(&layout::lease(id))? == Some(true);
        Ok(!is_held && storage.size(&layout::snapshot(id))?.is_none())
    };
    // checked twice: an ingest that is committing when a forced unlock removes its lease may still
    // put its manifest, and a prune then deletes the record of the unlock
    Ok(is_unknown()? && storage.size(&layout::forgot_record(id))?.is_none() && is_unknown()?)
}
