//! Puts the files of marks.

use crate::entropy::random;
use crate::error::Result;
use crate::id::{PackId, SnapshotId};
use crate::lock::{Mark, MarkId, MarkPart};
use crate::repo::Repository;

/// The id of a mark that is about to be put.
pub(super) fn new_mark(repo: &Repository, level: u8) -> Result<MarkId> {
    Ok(MarkId {
        level,
        id: random(repo.entropy())?,
    })
}

/// Puts a file of a mark. Where another prune continues the same mark, the first one to put a
/// `.wait` or a `.swept` has stated what holds for both.
pub(super) fn put_part(
    repo: &Repository,
    id: MarkId,
    part: MarkPart,
    packs: Vec<PackId>,
    sessions: Vec<SnapshotId>,
) -> Result<()> {
    let file = Mark {
        id,
        part,
        repo: repo.config().id,
        packs,
        sessions,
    };
    file.put(repo.storage(), repo.seal().as_ref())?;
    Ok(())
}
