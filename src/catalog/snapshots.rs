//! The manifests of a repository.

use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::layout;
use crate::repo::Repository;
use crate::snapshot::{MAX_MANIFEST_LEN, Snapshot};
use crate::storage::{Ask, ErrorKind, announced};

/// The ids, of which the caller loads each before it asks for the next one.
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
        Ok(bytes) => Ok(Some(repo.decode_manifest(id, &bytes)?)),
        Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind == ErrorKind::TooLarge => Err(Error::ManifestCorrupt {
            snapshot: *id,
            reason: "it is too long".to_owned(),
        }),
        Err(error) => Err(error.into()),
    }
}
