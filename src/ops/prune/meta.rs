//! Which copies of manifests a pack holds. They stand in no index, so the packs themselves are asked: those that the index
//! knows no data chunk of (meta packs, as a rule one for each snapshot), and those that it does not name at all.

use super::Work;
use crate::error::Result;
use crate::id::{PackId, SnapshotId};
use crate::layout;
use crate::pack::{ChunkLocation, KIND_LIST, KIND_MANIFEST_COPY, PackIndex};
use crate::repo::read::{ReadScratch, read_at};
use crate::repo::{Repository, read_any_index};
use crate::snapshot::Snapshot;
use crate::snapshot::copy::{CopyPart, join};
use std::collections::{BTreeMap, BTreeSet};

/// What a pack says of itself.
pub(super) struct Content {
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
pub(super) fn read(work: &Work<'_>, pack: &PackId, is_known: &dyn Fn(&SnapshotId) -> bool) -> Result<Option<Content>> {
    work.check_running()?;
    let repo = work.repo;
    let Ok(index) = read_any_index(repo, pack) else {
        return Ok(None);
    };
    let session = index.header.session;
    let mut copies = BTreeSet::new();
    if is_known(&session) {
        if index.entries.iter().any(|entry| entry.kind == KIND_MANIFEST_COPY) {
            copies.insert(session);
        }
    } else {
        copies = copies_in(repo, &index);
    }
    let stored = index.entries.iter().filter(|entry| entry.kind <= KIND_LIST);
    let stored = stored.map(|entry| u64::from(entry.payload_len)).sum();
    Ok(Some(Content {
        session,
        copies,
        stored,
    }))
}

/// The snapshots of whose manifests there are parts in a pack. Parts that cannot be read are passed over.
fn copies_in(repo: &Repository, index: &PackIndex) -> BTreeSet<SnapshotId> {
    let mut scratch = ReadScratch::default();
    let mut bytes = Vec::new();
    let mut copies = BTreeSet::new();
    for entry in index.entries.iter().filter(|entry| entry.kind == KIND_MANIFEST_COPY) {
        let place = ChunkLocation {
            pack: index.pack,
            entry: *entry,
        };
        if read_at(repo, &place, &mut scratch, &mut bytes).is_ok()
            && let Ok(part) = CopyPart::decode(&bytes)
        {
            copies.insert(part.snapshot);
        }
    }
    copies
}

/// The parts of copies of a manifest that a pack holds, by the hash of the whole and their number.
pub(super) fn parts_of_copy(repo: &Repository, id: &SnapshotId, pack: &PackId) -> BTreeSet<([u8; 32], u32)> {
    let parts = read_parts(repo, id, pack);
    parts
        .into_iter()
        .map(|part| (part.manifest_sha256, part.part))
        .collect()
}

fn read_parts(repo: &Repository, id: &SnapshotId, pack: &PackId) -> Vec<CopyPart> {
    let mut scratch = ReadScratch::default();
    let mut bytes = Vec::new();
    let mut parts = Vec::new();
    let entries = read_any_index(repo, pack).map_or_else(|_| Vec::new(), |index| index.entries);
    for entry in entries.into_iter().filter(|entry| entry.kind == KIND_MANIFEST_COPY) {
        let place = ChunkLocation { pack: *pack, entry };
        if read_at(repo, &place, &mut scratch, &mut bytes).is_ok()
            && let Ok(part) = CopyPart::decode(&bytes)
            && part.snapshot == *id
        {
            parts.push(part);
        }
    }
    parts
}

/// The snapshot of a manifest that is gone, from its copies in `packs`; `None` when they do not make up a whole one.
pub(super) fn lost_snapshot(repo: &Repository, id: &SnapshotId, packs: &[PackId]) -> Option<Snapshot> {
    let mut parts: BTreeMap<[u8; 32], Vec<CopyPart>> = BTreeMap::new();
    for part in packs.iter().flat_map(|pack| read_parts(repo, id, pack)) {
        parts.entry(part.manifest_sha256).or_default().push(part);
    }
    parts.into_values().find_map(|parts| {
        let (_, manifest) = join(parts).ok()?;
        repo.decode_manifest(id, &manifest).ok()
    })
}

/// Whether it is still so that a copy has no manifest, and nobody knows why. Records were listed before the packs, and
/// snapshots last: its session may have been ignored and have ended since, or it may have been forgotten meanwhile.
pub(super) fn is_lost(work: &Work<'_>, id: &SnapshotId) -> Result<bool> {
    let storage = work.repo.storage();
    Ok(storage.lease_held(&layout::lease(id))? != Some(true)
        && storage.size(&layout::snapshot(id))?.is_none()
        && storage.size(&layout::forgot_record(id))?.is_none())
}
