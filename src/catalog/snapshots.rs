//! The manifests of a repository.

use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::layout;
use crate::repo::Repository;
use crate::snapshot::tombstone::{MAX_TOMBSTONE_LEN, is_tombstone};
use crate::snapshot::{MAX_MANIFEST_LEN, Snapshot};
use crate::storage::{Ask, ErrorKind, announced};

/// The ids, which were just listed, and of which the caller loads each before it asks for the next
/// one. Manifests may be those that were kept since an earlier read.
pub fn to_show<'a>(repo: &'a Repository, ids: &'a [SnapshotId]) -> impl Iterator<Item = &'a SnapshotId> {
    announced(repo.storage(), ids, |id| Ask::Listed {
        key: layout::snapshot(id),
        max_len: MAX_MANIFEST_LEN,
    })
}

/// The same with each manifest as it is stored now: to check it, or to decide what is deleted.
pub fn to_load<'a>(repo: &'a Repository, ids: &'a [SnapshotId]) -> impl Iterator<Item = &'a SnapshotId> {
    announced(repo.storage(), ids, |id| Ask::Get {
        key: layout::snapshot(id),
        max_len: MAX_MANIFEST_LEN,
    })
}

/// What is under the name of a manifest.
pub enum Found {
    /// A snapshot.
    Snapshot(Box<Snapshot>),
    /// A tombstone: its session was revoked, and never has a snapshot.
    Revoked,
    /// Nothing, for example because it was forgotten since it was listed.
    Absent,
}

/// Loads a snapshot; `None` when it has no manifest. See [`find`].
///
/// # Errors
/// Those of [`find`].
pub fn load(repo: &Repository, id: &SnapshotId) -> Result<Option<Snapshot>> {
    Ok(match find(repo, id)? {
        Found::Snapshot(snapshot) => Some(*snapshot),
        Found::Revoked | Found::Absent => None,
    })
}

/// Reads what is under the name of a manifest.
///
/// # Errors
/// `ManifestCorrupt`, `UnsupportedFormat`, `Unreadable`, `Storage`, and `NotADirectory` for a
/// folder with that name: it is then not known what the snapshot needs.
pub fn find(repo: &Repository, id: &SnapshotId) -> Result<Found> {
    match read(repo, id) {
        Err(Error::ManifestCorrupt { .. }) if repo.storage().is_remote() => {
            // its bytes may have been kept since an earlier read
            repo.storage().forget_cached_of(&layout::snapshot(id));
            read(repo, id)
        }
        found => found,
    }
}

fn read(repo: &Repository, id: &SnapshotId) -> Result<Found> {
    match repo.storage().get(&layout::snapshot(id), MAX_MANIFEST_LEN) {
        Ok(bytes) if is_tombstone(&bytes, id) => Ok(Found::Revoked),
        Ok(bytes) => Ok(Found::Snapshot(Box::new(repo.decode_manifest(id, &bytes)?))),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(Found::Absent),
        Err(error) if error.kind == ErrorKind::TooLarge => Err(Error::ManifestCorrupt {
            snapshot: *id,
            reason: "it is too long".to_owned(),
        }),
        Err(error) => Err(error.into()),
    }
}

/// Whether the snapshot has a manifest, also a damaged one.
pub fn has_manifest(repo: &Repository, id: &SnapshotId) -> Result<bool> {
    let (storage, key) = (repo.storage(), layout::snapshot(id));
    match storage.size(&key)? {
        None => Ok(false),
        Some(len) if len > MAX_TOMBSTONE_LEN => Ok(true),
        Some(_) => match storage.get(&key, MAX_MANIFEST_LEN) {
            Ok(bytes) => Ok(!is_tombstone(&bytes, id)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        },
    }
}
