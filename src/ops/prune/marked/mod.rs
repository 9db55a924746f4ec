//! A prune on object storage, next to writers and other prunes (`docs/invariants.md` §16, steps P1
//! to P6).
//!
//! No lock keeps other processes away, so what a pack is needed for is decided twice: by the plan,
//! before its mark is put, and again once no session can rely on the pack without having seen the
//! mark. In between, sessions that began earlier either end, or are revoked.
//!
//! Another process may delete segments and packs that this one has listed: it then starts over. A
//! prune that is interrupted leaves its mark, which the next one continues.

mod again;
mod condemn;
mod merge;
mod put;

use super::plan::Done;
use super::report::PruneReport;
use super::survey::Survey;
use super::work::Work;
use super::{copy_needed, forget, plan_run};
use crate::error::{Error, Result};
use crate::id::PackId;
use crate::layout;
use crate::lock::{MaintLock, Marks};
use crate::storage::ErrorKind;
use std::collections::HashSet;

/// How often a run starts over when files that it was reading were deleted.
const MOVES: usize = 20;
/// How often it starts over when a chunk or pack was missing.
const MISSES: usize = 3;

/// One run of a prune. The lock excludes other prunes of this process alone.
pub(super) fn run(work: &mut Work<'_>, maint: &MaintLock) -> Result<PruneReport> {
    let (mut moved, mut missed) = (0, 0);
    let mut report = PruneReport::default();
    loop {
        match run_once(work, maint) {
            Err(Error::Storage { source }) if source.kind == ErrorKind::NotFound && moved < MOVES => moved += 1,
            Err(Error::ChunkMissing { .. } | Error::PackMissing { .. }) if missed < MISSES => missed += 1,
            other => {
                report.add(other?);
                return Ok(report);
            }
        }
        report.add_deleted(&work.interrupted()?);
        work.repo.storage().forget_cached();
    }
}

fn run_once(work: &mut Work<'_>, maint: &MaintLock) -> Result<PruneReport> {
    // P1
    let (chosen, survey, mut plan) = plan_run(work)?;
    forget(work, &chosen)?;
    copy_needed(work, maint, &mut plan)?;
    // P2 to P5
    let mut done = Done::default();
    condemn::condemn(work, &survey, &mut plan, &mut done)?;
    work.decided = Some(chosen.report(plan.sums(&done), work));
    // P6
    let marks = work.repo.marks()?;
    drop_swept(work, &marks)?;
    merge::merge_if_many(work.repo, &marks)?;
    finish_lists(work, &survey, &done)?;
    // a put without an answer has brought these back: their records were put before they were
    // deleted
    let storage = work.repo.storage();
    storage.delete_all(&survey.returned.iter().map(layout::snapshot).collect::<Vec<_>>())?;
    work.decided = None;
    Ok(chosen.report(plan.sums(&done), work))
}

/// Drops the entries of deleted packs from the index: of those in a `.swept` alone, because an
/// entry of any other pack may be the only one of a chunk (rule A9).
fn drop_swept(work: &Work<'_>, marks: &Marks) -> Result<()> {
    let swept = marks.marks().iter().filter_map(|mark| mark.swept.as_ref());
    let mut swept: HashSet<PackId> = swept.flatten().copied().collect();
    let named = work.repo.packs_of_index()?;
    swept.retain(|pack| named.contains_key(pack));
    match swept.is_empty() {
        true => Ok(()),
        false => work.repo.drop_from_index(&swept),
    }
}

/// Deletes the kill lists that were copied from a directory, or left by a prune that was promised
/// to be alone, once none of their packs exists. Until then writers avoid these packs.
fn finish_lists(work: &Work<'_>, survey: &Survey, done: &Done) -> Result<()> {
    let is_deleted = |pack: &PackId| done.condemned.as_ref().is_some_and(|packs| packs.contains(pack));
    let exists = |pack: &PackId| survey.packs.contains_key(pack) && !is_deleted(pack);
    for list in survey.lists.iter().filter(|list| !list.packs.iter().any(exists)) {
        work.repo.storage().delete(&list.id.key())?;
    }
    Ok(())
}
