//! The manifests of a repository, and the copies that belong to no good manifest.
//!
//! The ids of the parts of a manifest's copy follow from the manifest, so copies are compared with
//! manifests without reading a pack.

use super::{Committed, Run, Small};
use crate::catalog::snapshots::to_load;
use crate::error::{Error, Result};
use crate::id::{ChunkId, PackId, SnapshotId};
use crate::layout;
use crate::pack::{ChunkLocation, KIND_MANIFEST_COPY, PackEntry};
use crate::snapshot::copy::split_copy;
use crate::snapshot::tombstone::is_tombstone;
use crate::snapshot::{MAX_MANIFEST_LEN, Snapshot};
use std::collections::{BTreeMap, HashSet};

/// Result of reading the manifests.
#[derive(Default)]
pub(super) struct Manifests {
    /// All manifests that were in the folder.
    pub committed: Committed,
    /// Manifests that are intact.
    pub good: Vec<SnapshotId>,
    /// Manifests that are damaged, with the reason.
    pub damaged: BTreeMap<SnapshotId, String>,
    /// Manifests that could not be read.
    pub unread: HashSet<SnapshotId>,
    /// Ids of the parts of the copies of good manifests.
    copies: HashSet<ChunkId>,
    /// Parts of other copies, with their location and the session that wrote them.
    pub unmatched: Vec<(ChunkLocation, SnapshotId)>,
}

impl Manifests {
    /// Adds a chunk that is a part of some manifest's copy.
    pub fn add_copy(&mut self, pack: PackId, entry: PackEntry, session: SnapshotId) {
        if !self.copies.contains(&entry.id) {
            self.unmatched.push((ChunkLocation { pack, entry }, session));
        }
    }
}

/// Reads every manifest once. Their contents are checked later, one at a time.
pub(super) fn read_all(run: &mut Run<'_>) -> Result<Manifests> {
    let mut manifests = Manifests::default();
    let (repo, files) = (run.repo, run.list(layout::SNAPSHOTS));
    let ids: Vec<_> = files
        .iter()
        .filter_map(|file| layout::id_of(&file.key, ".json"))
        .map(SnapshotId)
        .collect();
    let forgotten = run.noted(repo.forgotten_among(&ids)).unwrap_or_default();
    for id in to_load(repo, &ids).copied() {
        run.check_running()?;
        if forgotten.contains(&id) {
            continue;
        }
        let key = layout::snapshot(&id);
        let (bytes, decoded) = match run.read_small(&key, MAX_MANIFEST_LEN) {
            // forgotten since it was listed
            Small::Missing => continue,
            Small::Unreadable => {
                manifests.committed.insert(id);
                manifests.unread.insert(id);
                continue;
            }
            Small::Bad(reason) => (Vec::new(), Err(reason)),
            // its session was revoked, and left no snapshot
            Small::Bytes(bytes) if is_tombstone(&bytes, &id) => continue,
            Small::Bytes(bytes) => match run.repo.decode_manifest(&id, &bytes) {
                Ok(_) => (bytes, Ok(())),
                Err(error @ Error::UnsupportedFormat { .. }) => {
                    manifests.committed.insert(id);
                    run.found_in(error.code(), &key, &error.to_string(), false);
                    continue;
                }
                Err(Error::ManifestCorrupt { reason, .. }) => (bytes, Err(reason)),
                Err(error) => (bytes, Err(error.to_string())),
            },
        };
        manifests.committed.insert(id);
        run.report.stats.snapshots_checked += 1;
        match decoded {
            Ok(()) => {
                manifests.good.push(id);
                let seal = run.repo.seal();
                let parts = split_copy(id, &bytes).map(|part| seal.chunk_id(KIND_MANIFEST_COPY, &part));
                manifests.copies.extend(parts);
            }
            Err(reason) => {
                manifests.damaged.insert(id, reason);
            }
        }
    }
    Ok(manifests)
}

/// Reads a manifest again; `None` when it was forgotten in the meantime.
pub(super) fn reload(run: &Run<'_>, id: &SnapshotId) -> Option<Snapshot> {
    match run.read_small(&layout::snapshot(id), MAX_MANIFEST_LEN) {
        Small::Bytes(bytes) => run.repo.decode_manifest(id, &bytes).ok(),
        _ => None,
    }
}
