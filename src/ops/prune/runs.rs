//! The runs of one prune: a dry run that starts over when files are deleted under it, a further run
//! for what other sessions delayed, and further runs on a full disk.

use super::options::PruneOptions;
use super::plan::Done;
use super::report::PruneReport;
use super::work::Work;
use super::{goes_by_marks, plan_run, run, survey, sweep};
use crate::clock::format_time;
use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::lock::MaintLock;
use crate::lock::lease::{self, Lease};
use crate::monitor::Monitor;
use crate::repo::Repository;
use crate::repo::dissolve::Room;
use crate::storage::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

/// Interval of the checks whether the sessions that delay a sweep have ended.
const WAIT_STEP: Duration = Duration::from_millis(50);

/// How often a dry run starts over when files that it was reading were replaced.
const MOVES: usize = 20;
/// How often a dry run starts over when a chunk or pack was missing.
const MISSES: usize = 3;

/// Executes a dry run. It takes no lock, so files may be deleted while it reads them: it then
/// starts over.
pub(super) fn dry_run(repo: &Arc<Repository>, options: &PruneOptions, monitor: &dyn Monitor) -> Result<PruneReport> {
    let (mut moved, mut missed) = (0, 0);
    loop {
        let mut work = Work::new(repo, options, monitor);
        match plan_run(&mut work) {
            Ok((chosen, survey, plan)) => {
                work.finished = sweep::existing(repo, &survey.condemned)?.into_values().collect();
                return Ok(chosen.report(plan.sums(&Done::default()), &work));
            }
            Err(Error::Storage { source }) if source.kind == ErrorKind::NotFound && moved < MOVES => moved += 1,
            Err(Error::ChunkMissing { .. } | Error::PackMissing { .. }) if missed < MISSES => {
                missed += 1;
                if missed == MISSES {
                    // not caused by another process: a pack may list a chunk that the index has
                    // lost
                    repo.index_unnamed_packs()?;
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Cleans up after other processes, and takes a lease, so that they see that a prune is active.
/// Returns `None` on a full disk: the reserve has been released, and the prune does without a
/// lease, which would use space that the prune itself needs. Cleanup for which there is no space is
/// skipped: all of it is only hints.
pub(super) fn begin(repo: &Repository, own: SnapshotId) -> Result<Option<Lease>> {
    repo.clean_half_written();
    let started_at = format_time(repo.now_ms());
    let lease = repo
        .remove_stale_leases()
        .and_then(|_| Ok(Lease::take(repo.storage(), own, lease::PRUNE, started_at)?));
    match lease {
        Ok(lease) => Ok(Some(lease)),
        Err(Error::NoSpace { .. }) => {
            repo.release_reserve()?;
            match repo.remove_stale_leases() {
                Err(Error::NoSpace { .. }) => {}
                other => drop(other?),
            }
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Runs once, and with `wait` again for the part of the sweep that other sessions delayed.
pub(super) fn run_and_wait(
    repo: &Arc<Repository>,
    options: &PruneOptions,
    monitor: &dyn Monitor,
    own: SnapshotId,
    maint: &MaintLock,
    lease: &mut Option<Lease>,
) -> Result<PruneReport> {
    let mut is_full = lease.is_none();
    let mut once = |mut work: Work<'_>| {
        work.own = Some(own);
        run_in_little_space(&mut work, maint, lease, std::mem::take(&mut is_full))
    };
    let mut report = once(Work::new(repo, options, monitor))?;
    if options.wait && report.pending_bytes > 0 {
        // only the sessions that the hints name: sessions that started later do not use pending
        // packs
        let delaying = survey::delaying(repo, goes_by_marks(repo))?;
        while !delaying.is_disjoint(&repo.writers()?) {
            repo.check_running(monitor)?;
            nap();
        }
        report.add(once(Work::sweeping(repo, &options.sweep_only(), monitor))?);
    }
    Ok(report)
}

#[allow(
    clippy::disallowed_methods,
    reason = "there is no other way to wait for leases of other processes"
)]
fn nap() {
    std::thread::sleep(WAIT_STEP);
}

/// Runs once. When the disk is full, runs again with the space of the reserve and the lease, and
/// without copying anything first; the space that this frees may then be enough for the rest.
/// `is_full`: the disk is known to be full, and both are released already.
fn run_in_little_space(
    work: &mut Work<'_>,
    maint: &MaintLock,
    lease: &mut Option<Lease>,
    is_full: bool,
) -> Result<PruneReport> {
    let mut report = PruneReport::default();
    if !is_full {
        match run(work, maint, Room::Enough) {
            Err(Error::NoSpace { .. }) => {}
            other => {
                work.repo.keep_reserve();
                return other;
            }
        }
        report = work.interrupted()?;
        give_way(work.repo, lease)?;
    }
    report.add(run(work, maint, Room::Little)?);
    if !work.repo.keep_reserve() {
        // almost no space is free: gathering waits for more
        return Ok(report);
    }
    // the policy was applied, and the kept snapshots are reported
    let options = work.options.sweep_only();
    let mut rest = Work::sweeping(work.repo, &options, work.monitor);
    rest.damaged = std::mem::take(&mut work.damaged);
    rest.own = work.own;
    match run(&mut rest, maint, Room::Enough) {
        Ok(more) => report.add(more),
        Err(Error::NoSpace { .. }) => {
            // the space of useless copies is released
            report.add_deleted(&rest.interrupted()?);
            give_way(work.repo, lease)?;
            report.unprotected = run(&mut rest, maint, Room::Little)?.unprotected;
        }
        Err(error) => return Err(error),
    }
    work.repo.keep_reserve();
    Ok(report)
}

/// Releases the reserve and the lease of the prune, to make space for its writes.
fn give_way(repo: &Repository, lease: &mut Option<Lease>) -> Result<()> {
    drop(lease.take());
    repo.release_reserve()?;
    Ok(())
}
