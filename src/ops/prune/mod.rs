//! Removes the snapshots that a policy does not keep, and then everything that no snapshot needs
//! any more.
//!
//! First a plan is made from the snapshots that will remain; a dry run ends there. Then the plan is
//! executed: forget snapshots, copy needed chunks out of packs that are mostly waste, decide under
//! the commit lock, and only then delete. Ingests and restores continue concurrently.
//! `docs/invariants.md` §10 has the steps, P1 to P11, and the reasons why they are safe: the
//! decision takes into account every snapshot that exists at that instant, every pack is in a kill
//! list before it is deleted, and a writer reads the kill lists before it commits. Leases are
//! honoured, but safety does not depend on them.
//!
//! Invariant: a prune that is interrupted at any point has damaged no kept snapshot, and the next
//! prune continues where it stopped. The whole run holds the maintenance lock.

mod actions;
mod choice;
mod cover;
mod decide;
mod marked;
mod options;
mod packs;
mod plan;
mod records;
mod report;
mod rewrite;
mod runs;
mod survey;
mod sweep;
mod work;

pub use crate::snapshot::retention::SnapshotChoice;
pub use options::PruneOptions;
pub(in crate::ops) use records::forget_all;
pub use report::PruneReport;

use crate::base::refuse_repairs;
use crate::entropy::random;
use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::layout;
use crate::lock::{KillList, MaintLock};
use crate::monitor::Monitor;
use crate::repo::dissolve::{self, Room};
use crate::repo::{ConditionalPut, Repository};
use choice::Chosen;
use plan::{Done, Plan};
use report::Deleted;
use std::sync::Arc;
use survey::Survey;
use work::Work;

/// Removes the snapshots that the policy does not keep, and frees the space that only they needed.
/// With `dry_run`, only reports what would be done; nothing is written, and no lock is taken.
///
/// # Errors
/// `InvalidPolicy` before anything is read. `RepositoryLocked` when another process maintains the
/// repository for longer than the lock wait, or when ingests held the commit lock that long.
/// `ExclusiveRequired` on object storage without that promise.
/// `ManifestCorrupt`, `UnsupportedFormat`, `ChunkMissing`, `PackMissing` or `IndexCorrupt` when the
/// needed chunks cannot be determined: nothing was freed in that case. `Unreadable`, `ReadOnly`,
/// `LocksUnsupported`, `KillListCorrupt`, `RepositoryNotFound`, `RepositoryChanged`, `NoSpace`,
/// `Storage`, `Cancelled`, `Closed`. The next prune completes a prune that failed half-way.
pub fn prune(repo: &Arc<Repository>, options: &PruneOptions, monitor: &dyn Monitor) -> Result<PruneReport> {
    options.check()?;
    repo.check_running(monitor)?;
    let _operation = repo.enter();
    if options.dry_run {
        return repo.unless_replaced(runs::dry_run(repo, options, monitor));
    }
    repo.begin_writing()?;
    // P1
    let maint = repo.maint(monitor)?;
    if !goes_by_marks(repo) {
        repo.check_exclusive(options.exclusive)?;
    }
    let own = SnapshotId(random(repo.entropy())?);
    let mut lease = runs::begin(repo, own)?;
    if goes_by_marks(repo) && !options.force {
        // a repair refuses too while there is the lease of this prune: one of them sees the other
        refuse_repairs(repo.storage())?;
    }
    let mut report = runs::run_and_wait(repo, options, monitor, own, &maint, &mut lease)?;
    cover::warn(repo, &mut report);
    Ok(report)
}

/// Whether a prune of this repository goes by marks: on object storage that refuses to overwrite,
/// without parity, whose groups are replaced under locks. Known once this handle has written.
fn goes_by_marks(repo: &Repository) -> bool {
    let storage = repo.storage();
    let is_honoured = |how| how == ConditionalPut::Honoured;
    storage.is_remote() && storage.conditional_put().is_none_or(is_honoured) && repo.parity_shape().is_none()
}

/// One run: makes a plan and executes exactly that plan. With little room it copies nothing,
/// because that needs space first. The numbers are those of `docs/invariants.md` §10.
fn run(work: &mut Work<'_>, maint: &MaintLock, room: Room) -> Result<PruneReport> {
    work.room = room;
    if work.by_marks {
        return marked::run(work, maint);
    }
    // P2
    sweep::finish_kill_lists(work, maint)?;
    // P3 and P4
    let (chosen, survey, mut plan) = plan_run(work)?;
    if room == Room::Little {
        plan.keep_partly_used();
    }
    // P5
    forget(work, &chosen)?;
    // P6
    copy_needed(work, maint, &mut plan)?;
    // P7
    let mut done = Done::default();
    let condemned = decide::decide(work, &survey, &mut plan, &mut done)?;
    work.decided = Some(chosen.report(plan.sums(&done), work));
    // P8 to P10
    if let Some(list) = &condemned {
        sweep_list(work, maint, list, &chosen, &plan, &mut done)?;
    }
    // P10, of the packs that are missing; not earlier: the plan reads the segments that this
    // replaces
    drop_missing(work, &plan)?;
    // P11
    sweep::drop_settled_lists(work, &survey, &plan, &done)?;
    records::drop_settled(work, &survey, &plan, &done, &chosen.removed_ids())?;
    // the last step, after P11
    cover::protect_kept(work)?;
    work.decided = None;
    let report = chosen.report(plan.sums(&done), work);
    (work.warnings, work.finished) = (Vec::new(), Deleted::default());
    Ok(report)
}

/// Surveys the repository, applies the policy and makes the plan.
fn plan_run(work: &mut Work<'_>) -> Result<(Chosen, Survey, Plan)> {
    let survey = Survey::take(work)?;
    // last, so that the index contains every chunk of the listed snapshots
    work.repo.refresh_index()?;
    let chosen = choice::choose(work, &survey)?;
    let plan = plan::make(work, &survey, &chosen)?;
    Ok((chosen, survey, plan))
}

/// Forgets the snapshots that the policy does not keep.
fn forget(work: &mut Work<'_>, chosen: &Chosen) -> Result<()> {
    work.removing = chosen.removed.clone();
    if !work.monitor.begin_commit() {
        return Err(Error::Cancelled);
    }
    forget_all(work.repo, &chosen.removed_ids(), work.monitor, &mut Vec::new())?;
    work.monitor.end_commit();
    Ok(())
}

/// Copies the needed chunks out of the packs to rewrite, and keeps what the damaged packs among
/// them would lose.
fn copy_needed(work: &mut Work<'_>, maint: &MaintLock, plan: &mut Plan) -> Result<()> {
    rewrite::copy_out(work, maint, plan)?;
    rewrite::prove_remaining_copies(work, plan)?;
    rewrite::keep_with_copies(plan, &work.damaged)?;
    let storage = work.repo.storage();
    // a deleted manifest that a power loss restores must not have been treated as deleted
    storage.include_in_barrier(layout::SNAPSHOTS);
    storage.barrier()?;
    Ok(())
}

/// Sweeps the packs that this run has condemned.
fn sweep_list(
    work: &mut Work<'_>,
    maint: &MaintLock,
    list: &KillList,
    chosen: &Chosen,
    plan: &Plan,
    done: &mut Done,
) -> Result<()> {
    // the list must be durable before the packs in it are deleted
    work.repo.storage().barrier()?;
    let packs = list.packs.iter().copied().collect();
    let swept = sweep::sweep(work, maint, list, &packs);
    if matches!(swept, Err(Error::NoSpace { .. })) {
        // packs that still exist are counted by the run that deletes them
        done.keep_blocked(sweep::existing(work.repo, &list.packs)?.into_keys().collect());
        work.decided = Some(chosen.report(plan.sums(done), work));
    }
    done.keep_blocked(swept?);
    Ok(())
}

/// Drops the packs from the index that are missing and that nothing needs.
fn drop_missing(work: &Work<'_>, plan: &Plan) -> Result<()> {
    let mut stale = plan.stale();
    let within = dissolve::within_parity(work.repo, &stale, work.monitor)?;
    stale.retain(|pack| !within.contains(pack));
    work.repo.drop_from_index(&stale)
}
