//! Restores manifests from their copies in meta packs.
//!
//! A copy is used only when no record forbids that the snapshot comes back, when no process is
//! committing it at that moment (its session is active), and when its bytes are a manifest of that
//! snapshot. A missing manifest is restored only if everything that it needs exists: the leftovers
//! of an interrupted ingest or a prune are no snapshot.

use super::files::{Found, read, write_repaired};
use super::loss::{LossFinder, is_lost};
use super::packs::Inventory;
use super::{DamagedSnapshot, Work};
use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::layout;
use crate::pack::{ChunkLocation, KIND_MANIFEST_COPY};
use crate::repo::read::{ReadScratch, read_at};
use crate::repo::{Repository, find_any_index};
use crate::snapshot::copy::{CopyPart, join_from};
use crate::snapshot::tombstone::{self, is_tombstone, was_tombstone};
use crate::snapshot::{MAX_MANIFEST_LEN, Snapshot};
use crate::storage::{self, ErrorKind};
use std::collections::{BTreeMap, BTreeSet};

/// The locations of the parts of copies, for each snapshot that needs them.
type Copies = BTreeMap<SnapshotId, Vec<ChunkLocation>>;

/// Restores lost and damaged manifests from their copies. Returns the snapshots that can no longer
/// be listed: their manifests are beyond repair, or are lost together with something that they
/// need.
pub(super) fn restore_lost(work: &mut Work<'_>, inventory: &Inventory) -> Result<Vec<DamagedSnapshot>> {
    let storage = work.repo.storage();
    let (intact, damaged) = judge_manifests(work)?;
    let forgotten = forgotten(work)?;
    let copies = find_copies(work, inventory, &|id| intact.contains(id) || forgotten.contains(id))?;
    let mut finder = LossFinder::new(work.repo);
    let mut lost = Vec::new();
    // restored, or left to another process
    let mut settled: BTreeSet<SnapshotId> = BTreeSet::new();
    // a holder of the commit lock that exceeds the lock wait is frozen, and is waited for only once
    let mut stuck: Option<Error> = None;
    let mut left = Vec::new();
    for (id, locations) in copies {
        work.advance(0)?;
        let Some((bytes, snapshot)) = best_copy(work, &id, &locations)? else {
            continue;
        };
        let found = damaged.get(&id).unwrap_or(&Found::Missing);
        if *found == Found::Missing {
            let items = finder.damaged_items(&snapshot)?;
            if let Some(error) = finder.unreadable.take() {
                // a later repair that can read everything that it needs decides whether it is
                // restored
                left.push(error);
                continue;
            }
            if !items.is_empty() {
                lost.push(DamagedSnapshot { id, items });
                continue;
            }
        }
        settled.insert(id);
        if stuck.is_some() {
            continue;
        }
        // exclusive, so that no process forgets or commits it at this moment
        let _exclusive = match work.repo.commit_exclusive(work.monitor) {
            Err(error @ Error::RepositoryLocked { .. }) => {
                stuck = Some(error);
                continue;
            }
            other => other?,
        };
        if is_out_of_date(work.repo, &id, found)? {
            continue;
        }
        write_repaired(storage, &layout::snapshot(&id), &bytes, found)?;
        work.report.manifests_restored += 1;
    }
    if let Some(error) = stuck {
        let message = format!("Lost or damaged manifests were not repaired and are left to the next repair: {error}");
        work.repo.warn("WARN_NOT_REPAIRED", message);
    }
    for (id, found) in damaged.iter().filter(|(id, _)| !settled.contains(id)) {
        if let Found::Unreadable(error) = found {
            left.push(error.clone());
            continue;
        }
        if !inventory.unread.is_empty() {
            // its copy may be in a pack that could not be read
            continue;
        }
        revoke_again(work, id)?;
        if !forgotten.contains(id) {
            let items = Vec::new();
            lost.push(DamagedSnapshot { id: *id, items });
        }
    }
    if work.report.manifests_restored > 0 || !damaged.is_empty() {
        storage.barrier()?;
    }
    left.into_iter().try_for_each(|error| work.leave(error))?;
    Ok(lost)
}

/// Whether another process has forgotten or committed the snapshot since the folders were listed,
/// or is about to. The order of the checks matters: a session writes its record before it deletes
/// its lease.
fn is_out_of_date(repo: &Repository, id: &SnapshotId, found: &Found) -> Result<bool> {
    let is_there = |key: &str| match repo.storage().size(key) {
        // a path that is no file counts as absent
        Err(error) if error.kind == ErrorKind::NotADirectory => Ok(false),
        found => Ok::<bool, Error>(found?.is_some()),
    };
    Ok(is_there(&layout::lease(id))?
        || is_there(&layout::forgot_record(id))?
        || is_there(&layout::snapshot(id))? != (*found != Found::Missing))
}

/// The snapshots whose manifests are intact (or of a later version), and the state of the damaged
/// ones.
fn judge_manifests(work: &Work<'_>) -> Result<(BTreeSet<SnapshotId>, BTreeMap<SnapshotId, Found>)> {
    let storage = work.repo.storage();
    let (mut intact, mut damaged) = (BTreeSet::new(), BTreeMap::new());
    for file in storage.list(layout::SNAPSHOTS)? {
        let Some(id) = layout::id_of(&file.key, ".json").map(SnapshotId) else {
            continue;
        };
        match judge(work, &id)? {
            Judged::Missing => {}
            Judged::Intact => {
                intact.insert(id);
            }
            Judged::Revoked => {
                revoke_again(work, &id)?;
                intact.insert(id);
            }
            Judged::Damaged => {
                // only the fact that a file exists is needed from here on
                damaged.insert(id, Found::Wrong);
            }
            Judged::Unreadable(error) => {
                damaged.insert(id, Found::Unreadable(error));
            }
        }
    }
    Ok((intact, damaged))
}

enum Judged {
    /// It can be used, is of a later version, or is a tombstone.
    Intact,
    Damaged,
    /// It is a damaged tombstone.
    Revoked,
    /// The device fails to read it.
    Unreadable(storage::Error),
    Missing,
}

/// Reads and checks a manifest. A damaged one is read twice: a read may fail that did not fail
/// before.
fn judge(work: &Work<'_>, id: &SnapshotId) -> Result<Judged> {
    let once = || {
        let found = read(work.repo.storage(), &layout::snapshot(id), MAX_MANIFEST_LEN)?;
        Ok::<Judged, Error>(match found {
            Found::Missing => Judged::Missing,
            Found::Wrong => Judged::Damaged,
            Found::Unreadable(error) => Judged::Unreadable(error),
            // its copies must not be restored
            Found::Bytes(bytes) if is_tombstone(&bytes, id) => Judged::Intact,
            Found::Bytes(bytes) => match work.repo.decode_manifest(id, &bytes) {
                Err(Error::ManifestCorrupt { .. }) if was_tombstone(&bytes) => Judged::Revoked,
                Err(Error::ManifestCorrupt { .. }) => Judged::Damaged,
                Ok(_) | Err(_) => Judged::Intact,
            },
        })
    };
    match once()? {
        Judged::Damaged | Judged::Revoked => once(),
        other => Ok(other),
    }
}

/// Moves a file that is neither a manifest nor a tombstone to the quarantine. On object storage, a
/// tombstone takes its place: a put of the manifest without an answer may still arrive, when the
/// packs of the snapshot are gone (rule A18).
fn revoke_again(work: &Work<'_>, id: &SnapshotId) -> Result<()> {
    let (storage, key) = (work.repo.storage(), layout::snapshot(id));
    match storage.is_remote() {
        true => storage.replace_damaged(&key, &tombstone::encode(id)?)?,
        false => storage.quarantine(&key)?,
    }
    Ok(())
}

/// Snapshots that must not be restored. Only the existence of the record counts.
fn forgotten(work: &Work<'_>) -> Result<BTreeSet<SnapshotId>> {
    let files = work.repo.storage().list(layout::RECORDS)?;
    let id = |key: &str| layout::id_of(key, ".forgot").map(SnapshotId);
    Ok(files.iter().filter_map(|file| id(&file.key)).collect())
}

/// Searches the meta packs for parts of copies of snapshots, except those for which `skip` returns
/// true.
fn find_copies(work: &mut Work<'_>, inventory: &Inventory, skip: &dyn Fn(&SnapshotId) -> bool) -> Result<Copies> {
    let repo = work.repo;
    let mut copies = Copies::new();
    let mut scratch = ReadScratch::default();
    let mut bytes = Vec::new();
    for (pack, _, content) in inventory.contents().filter(|(.., content)| content.meta) {
        // a session gives its id to its snapshot and stores no other copies; salvaged ones are in
        // packs of other sessions
        if skip(&content.session) || inventory.writers.contains(&content.session) {
            continue;
        }
        work.advance(0)?;
        let Some(index) = find_any_index(repo, pack)? else {
            continue;
        };
        for entry in index
            .entries
            .into_iter()
            .filter(|entry| entry.kind == KIND_MANIFEST_COPY)
        {
            let location = ChunkLocation { pack: *pack, entry };
            if !read_part(repo, &location, &mut scratch, &mut bytes)? {
                continue;
            }
            match CopyPart::decode(&bytes) {
                Ok(part) if !skip(&part.snapshot) && !inventory.writers.contains(&part.snapshot) => {
                    copies.entry(part.snapshot).or_default().push(location);
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
    Ok(copies)
}

/// The manifest of a snapshot, joined from parts of its copies: proven by its hash and by decoding
/// it.
fn best_copy(work: &Work<'_>, id: &SnapshotId, locations: &[ChunkLocation]) -> Result<Option<(Vec<u8>, Snapshot)>> {
    let repo = work.repo;
    let (mut scratch, mut bytes) = (ReadScratch::default(), Vec::new());
    let mut read = |location: &ChunkLocation| {
        let read = read_part(repo, location, &mut scratch, &mut bytes)?;
        Ok(read.then(|| CopyPart::decode(&bytes).ok()).flatten())
    };
    join_from(id, locations, &mut read, &mut |manifest| {
        let decoded = repo.decode_manifest(id, manifest).ok()?;
        Some((manifest.to_vec(), decoded))
    })
}

/// Reads a stored part; `false` when it does not match its pack entry.
fn read_part(
    repo: &Repository,
    location: &ChunkLocation,
    scratch: &mut ReadScratch,
    out: &mut Vec<u8>,
) -> Result<bool> {
    match read_at(repo, location, scratch, out) {
        Ok(()) => Ok(true),
        Err(error) if is_lost(&error) => Ok(false),
        Err(error) => Err(error),
    }
}
