//! The last step of a prune: adds every kept pack to a parity group, or reports the packs that are
//! in none.
//!
//! Groups are replaced while packs leave them. On a full disk the old group may have to be deleted
//! first, and another process may use the space before its successor is stored; a crash may happen
//! between the two. A pack that is in no group is protected here from its own bytes. Damaged parity
//! is left to a repair.

use super::report::PruneReport;
use super::work::Work;
use crate::error::{Error, Result};
use crate::id::PackId;
use crate::layout;
use crate::repo::dissolve::Room;
use crate::repo::{Repository, packs_without_parity, protect_packs};

/// Most packs that the warning names; the report lists all of them.
const NAMED: usize = 10;

/// Protects the packs that a segment names and that are in no parity group. On a full disk, fails
/// with [`Error::NoSpace`] as long as space can be freed, and afterwards records the packs for the
/// report.
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

/// Warns about the packs that remain without parity.
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
        "{} kept packs have no complete parity, because the disk is full: {}{more}; free some space, then \
         prune again or run repair()",
        report.unprotected.len(),
        named.join(", ")
    );
    repo.warn("WARN_PACKS_UNPROTECTED", message.clone());
    report.warnings.push(message);
}

/// Packs that exist, that a segment names and that are in no complete parity group, sorted.
/// Condemned packs are not included. A segment names a pack only after its group is durable, so no
/// pack of an active session is included.
fn bare_packs(repo: &Repository, must_complete: bool) -> Result<Vec<PackId>> {
    if repo.parity_shape().is_none() {
        return Ok(Vec::new());
    }
    let named = repo.index().packs()?;
    let kill_lists = repo.kill_lists()?;
    let mut bare = packs_without_parity(repo, named.keys(), must_complete)?;
    bare.sort_unstable();
    let mut existing = Vec::new();
    for pack in bare {
        if !kill_lists.is_condemned(&pack) && repo.storage().size(&layout::pack(&pack))?.is_some() {
            existing.push(pack);
        }
    }
    Ok(existing)
}
