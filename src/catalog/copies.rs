//! Which copies of manifests a pack holds. They stand in no index, so the packs themselves are asked: those that the index
//! knows no data chunk of (meta packs, as a rule one for each snapshot), and those that it does not name at all.

use crate::error::Result;
use crate::id::{PackId, SnapshotId};
use crate::layout;
use crate::monitor::Monitor;
use crate::pack::{ChunkLocation, KIND_MANIFEST_COPY, PackIndex};
use crate::repo::read::{ReadScratch, read_at};
use crate::repo::{Repository, find_any_index};
use crate::snapshot::Snapshot;
use crate::snapshot::copy::{CopyPart, join_from};
use crate::storage::judge;
use std::collections::BTreeSet;

/// What a pack says of itself.
pub struct Content {
    /// Who wrote it.
    pub session: SnapshotId,
    /// Snapshots of whose manifests it holds copies.
    pub copies: BTreeSet<SnapshotId>,
    /// Bytes of the chunks and list nodes that it stores.
    pub stored: u64,
}

/// Reads what a pack holds besides what the index knows. `None` when it does not say: it is damaged, or no pack.
///
/// `is_known` tells of a session that its fate is known (it has a manifest or a record): such a session has stored
/// copies of nothing but its own manifest.
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

/// The snapshots of whose manifests there are parts in a pack. `None` when one of them is damaged: a repair may make it whole
/// again.
fn copies_in(repo: &Repository, index: &PackIndex) -> Result<Option<BTreeSet<SnapshotId>>> {
    let mut reader = PartReader::new(repo);
    let mut copies = BTreeSet::new();
    for place in copy_places(index) {
        let Some(part) = reader.read_bytes(&place)?.map(CopyPart::decode) else {
            return Ok(None);
        };
        copies.extend(part.ok().map(|part| part.snapshot));
    }
    Ok(Some(copies))
}

/// The parts of copies of a manifest that a pack holds, by the hash of the whole and their number.
pub fn parts_of_copy(repo: &Repository, id: &SnapshotId, pack: &PackId) -> Result<BTreeSet<([u8; 32], u32)>> {
    let mut parts = BTreeSet::new();
    let Some(index) = find_any_index(repo, pack)? else {
        return Ok(parts);
    };
    let mut reader = PartReader::new(repo);
    for place in copy_places(&index) {
        let part = reader.read(&place)?.filter(|part| part.snapshot == *id);
        parts.extend(part.map(|part| (part.manifest_sha256, part.part)));
    }
    Ok(parts)
}

/// Where a pack holds parts of copies.
fn copy_places(index: &PackIndex) -> impl Iterator<Item = ChunkLocation> {
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

    /// `None` for one that is damaged, or is none.
    fn read(&mut self, place: &ChunkLocation) -> Result<Option<CopyPart>> {
        let bytes = self.read_bytes(place)?;
        Ok(bytes.and_then(|bytes| CopyPart::decode(bytes).ok()))
    }

    fn read_bytes(&mut self, place: &ChunkLocation) -> Result<Option<&[u8]>> {
        let read = judge(read_at(self.repo, place, &mut self.scratch, &mut self.bytes))?;
        Ok(read.is_ok().then_some(&self.bytes[..]))
    }
}

/// The snapshot of a manifest that is gone, from its copies in `packs`; `None` when they do not make up a whole one.
pub fn lost_snapshot(repo: &Repository, id: &SnapshotId, packs: &[PackId]) -> Result<Option<Snapshot>> {
    let mut places: Vec<ChunkLocation> = Vec::new();
    for pack in packs {
        if let Some(index) = find_any_index(repo, pack)? {
            places.extend(copy_places(&index));
        }
    }
    let mut reader = PartReader::new(repo);
    let mut read = |place: &ChunkLocation| reader.read(place);
    join_from(id, &places, &mut read, &mut |manifest| {
        repo.decode_manifest(id, manifest).ok()
    })
}

/// Whether it is still so that a copy has no manifest, and nobody knows why. Records were listed before the packs, and
/// snapshots last: its session may have been ignored and have ended since, or it may have been forgotten meanwhile.
pub fn is_lost(repo: &Repository, id: &SnapshotId) -> Result<bool> {
    let storage = repo.storage();
    let is_unknown = || -> Result<bool> {
        let is_held = storage.lease_held(&layout::lease(id))? == Some(true);
        Ok(!is_held && storage.size(&layout::snapshot(id))?.is_none())
    };
    // and again: an ingest whose lease was removed by force takes a new one before it deletes the record of that
    Ok(is_unknown()? && storage.size(&layout::forgot_record(id))?.is_none() && is_unknown()?)
}
