//! Compares a member index with the tar that it is of, for a verify.

use super::pages::Pages;
use super::source::{Members, index_of_headers};
use crate::error::{Error, Result};
use crate::members::{self, Unindexed};
use crate::monitor::Monitor;
use crate::repo::Repository;
use crate::snapshot::Snapshot;
use std::sync::Arc;

/// Checks the member index of an item, all of it, and returns what is wrong with it; `None` if
/// nothing is, or there is no index of a known version. `headers`: the headers of the tar are read
/// again, and compared.
///
/// # Errors
/// Those of reading chunks.
pub(in crate::ops) fn index_fault(
    repo: &Arc<Repository>,
    snapshot: &Snapshot,
    number: usize,
    headers: bool,
    monitor: &dyn Monitor,
) -> Result<Option<String>> {
    let item = &snapshot.items[number];
    let Some(extra) = item.extra_of(members::KIND) else {
        return Ok(None);
    };
    let stored = Members::of(snapshot.clone(), number, Pages::stored(repo, extra.as_item(item)));
    let mut stored = match stored {
        Err(Error::UnsupportedFormat { .. }) => return Ok(None),
        Err(Error::ManifestCorrupt { reason, .. }) => return Ok(Some(reason)),
        other => other?,
    };
    let mut made = match headers.then(|| index_of_headers(repo, item, monitor)).transpose()? {
        Some(Err(Unindexed::NotTar | Unindexed::Wrapped(_))) => {
            return Ok(Some("the item is not a tar".to_owned()));
        }
        Some(Ok(made)) => Some(Members::of(snapshot.clone(), number, Pages::Memory(made))?),
        // the limits of this version may be others than those of the writer
        Some(Err(Unindexed::TooLarge | Unindexed::Globals)) | None => None,
    };
    let states = |tail: &members::Tail| (tail.members, tail.is_complete, tail.end, tail.globals.clone());
    let mut is_same = made
        .as_ref()
        .is_none_or(|made| states(made.tail()) == states(stored.tail()));
    let mut ours = stored.index().cursor();
    let mut theirs = made.as_ref().map(|made| made.index().cursor());
    let mut steps = 0u32;
    while is_same {
        steps = steps.wrapping_add(1);
        if steps.is_multiple_of(1024) {
            repo.check_running(monitor)?;
        }
        let found = match stored.with(|_, fetch| ours.next(fetch)) {
            Err(Error::ManifestCorrupt { reason, .. }) => return Ok(Some(reason)),
            other => other?,
        };
        if let (Some(made), Some(theirs)) = (&mut made, &mut theirs) {
            is_same = found == made.with(|_, fetch| theirs.next(fetch))?;
        }
        if found.is_none() {
            break;
        }
    }
    Ok((!is_same).then(|| "its members are not those of the tar".to_owned()))
}
