//! The last step of a prune: every pack that it keeps is in a parity group, or the caller is told which are not.
//!
//! Groups are replaced while packs leave them. On a full disk the old group may have to be deleted first, and another
//! process may take the space before its successor is stored; a crash may come between the two. A pack that is in no group
//! is protected again here, from its own bytes. Damaged parity is left to a repair.

use super::{PruneReport, Work};
use crate::error::{Error, Result};
use crate::id::PackId;
use crate::layout;
use crate::repo::dissolve::Room;
use crate::repo::{Repository, packs_without_parity, protect_packs};

/// Packs that a message names; the report names all of them.
const NAMED: usize = 10;

/// Protects the packs that a segment names and no parity group has. Where a full disk has no room for that, fails with
/// [`Error::NoSpace`] as long as space can be freed, and then notes the packs for the report.
pub(super) fn protect_kept(work: &mut Work<'_>) -> Result<()> {
    let repo = work.repo;
    let must_complete = work.room == Room::Enough;
    work.unprotected = bare_packs(repo, must_complete)?;
    if work.unprotected.is_empty() {
        return Ok(());
    }
    match protect_packs(repo, work.unprotected.clone()) {
        Err(Error::NoSpace { .. }) if work.room == Room::Little => {}
        other => drop(other?),
    }
    work.unprotected = bare_packs(repo, must_complete)?;
    Ok(())
}

/// Warns of the packs that are left without parity.
pub(super) fn warn(repo: &Repository, report: &mut PruneReport) {
    if report.unprotected.is_empty() {
        return;
    }
    let named: Vec<String> = report.unprotected.iter().take(NAMED).map(PackId::to_hex).collect();
    let more = match report.unprotected.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let message = format!(
        "{} packs that are kept have no whole parity, because there was no room for it: {}{more}; free some space, then \
         prune again or repair()",
        report.unprotected.len(),
        named.join(", ")
    );
    repo.warn("WARN_PACKS_UNPROTECTED", message.clone());
    report.warnings.push(message);
}

/// Packs that are there, that a segment names and that are in no whole parity group, sorted. Those that are condemned do not
/// count. A segment names a pack only after its group is durable, so a session that is writing has none of these.
fn bare_packs(repo: &Repository, must_complete: bool) -> Result<Vec<PackId>> {
    if repo.parity_shape().is_none() {
        return Ok(Vec::new());
    }
    let named = repo.index().packs()?;
    let kill_lists = repo.kill_lists()?;
    let mut bare = packs_without_parity(repo, named.keys(), must_complete)?;
    bare.sort_unstable();
    let mut there = Vec::new();
    for pack in bare {
        if !kill_lists.condemned(&pack) && repo.storage().size(&layout::pack(&pack))?.is_some() {
            there.push(pack);
        }
    }
    Ok(there)
}
