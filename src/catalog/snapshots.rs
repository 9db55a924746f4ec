//! The manifests of a repository.

use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::layout;
use crate::repo::Repository;
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

/// Loads a snapshot; `None` when it has no manifest, for example because it was forgotten since it
/// was listed.
///
/// # Errors
/// `ManifestCorrupt`, `UnsupportedFormat`, `Unreadable`, `Storage`, and `NotADirectory` for a
/// folder with that name: it is then not known what the snapshot needs.
pub fn load(repo: &Repository, id: &SnapshotId) -> Result<Option<Snapshot>> {
    match repo.storage().get(&layout::snapshot(id), MAX_MANIFEST_LEN) {
        Ok(bytes) => match repo.decode_manifest(id, &bytes) {
            Err(Error::ManifestCorrupt { .. }) if repo.storage().is_remote() => load_again(repo, id),
            decoded => decoded.map(Some),
        },
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind == ErrorKind::TooLarge => Err(Error::ManifestCorrupt {
            snapshot: *id,
            reason: "it is too long".to_owned(),
        }),
        Err(error) => Err(error.into()),
    }
}

/// Loads a manifest whose bytes were wrong, and may have been kept since an earlier read.
fn load_again(repo: &Repository, id: &SnapshotId) -> Result<Option<Snapshot>> {
    let key = layout::snapshot(id);
    repo.storage().forget_cached_of(&key);
    match repo.storage().get(&key, MAX_MANIFEST_LEN) {
        Ok(bytes) => repo.decode_manifest(id, &bytes).map(Some),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}
