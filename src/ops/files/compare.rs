//! Compares a member index with the tar that it is of, for a verify.

use super::pages::Pages;
use super::source::{Members, headers_of};
use crate::error::{Error, Result};
use crate::members;
use crate::monitor::Monitor;
use crate::repo::Repository;
use crate::snapshot::Snapshot;
use std::sync::Arc;

/// Reads the headers of an item again, and returns how its member index differs from them; `None`
/// if it does not, or there is no index of a known version.
///
/// # Errors
/// Those of reading chunks.
pub(in crate::ops) fn index_fault(
    repo: &Arc<Repository>,
    snapshot: &Snapshot,
    number: usize,
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
    let made = match headers_of(repo, snapshot, item, monitor) {
        Err(Error::NotTar { .. }) => return Ok(Some("the item is not a tar".to_owned())),
        other => other?,
    };
    let mut made = Members::of(snapshot.clone(), number, Pages::Memory(made))?;
    let (one, two) = (stored.tail(), made.tail());
    let states = |tail: &members::Tail| (tail.members, tail.is_complete, tail.end, tail.globals.clone());
    let mut is_same = states(one) == states(two);
    let (mut ours, mut theirs) = (stored.index().cursor(), made.index().cursor());
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
        let expected = made.with(|_, fetch| theirs.next(fetch))?;
        is_same = found == expected;
        if found.is_none() {
            break;
        }
    }
    Ok((!is_same).then(|| "its members are not those of the tar".to_owned()))
}
