//! Removes the snapshots that a policy does not keep, and then everything that no snapshot needs
//! any more.
//!
//! First a plan is made from the snapshots that will remain; a dry run ends there. Then the plan is
//! executed: forget snapshots, copy needed chunks out of packs that are mostly waste, decide under
//! the commit lock, and only then delete. Ingests and restores continue concurrently. Protocol K
//! (`docs/invariants.md`, Prune) describes step by step why that is safe: the decision takes into
//! account every snapshot that exists at that instant, every pack is in a kill list before it is
//! deleted, and a writer reads the kill lists before it commits. Leases are honoured, but safety
//! does not depend on them.
//!
//! Invariant: a prune that is interrupted at any point has damaged no kept snapshot, and the next
//! prune continues where it stopped. The whole run holds the maintenance lock.

mod actions;
mod choice;
mod cover;
mod decide;
mod packs;
mod plan;
mod records;
mod report;
mod rewrite;
mod survey;
mod sweep;

pub use choice::{PruneOptions, SnapshotChoice};
pub(in crate::ops) use records::forget_all;
pub use report::PruneReport;

use crate::clock::format_time;
use crate::entropy::random;
use crate::error::{Error, Result};
use crate::id::{PackId, SnapshotId};
use crate::layout;
use crate::lock::MaintLock;
use crate::lock::lease::{self, Lease};
use crate::monitor::{Monitor, Progress};
use crate::repo::dissolve::{self, Room};
use crate::repo::{Generation, Repository};
use crate::storage::ErrorKind;
use choice::Chosen;
use plan::{Done, Plan};
use report::Deleted;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use survey::Survey;

/// Interval of the checks whether the sessions that delay a sweep have ended.
const WAIT_STEP: Duration = Duration::from_millis(50);

/// How often a dry run starts over when files that it was reading were replaced.
const MOVES: usize = 20;
/// How often a dry run starts over when a chunk or pack was missing.
const MISSES: usize = 3;

/// State that the steps share.
struct Work<'a> {
    repo: &'a Arc<Repository>,
    options: &'a PruneOptions,
    monitor: &'a dyn Monitor,
    /// The session id of this prune; `None` in a dry run. [`Self::writers`] leaves it out: on
    /// Windows a held lease cannot be read, so its operation is unknown.
    own: Option<SnapshotId>,
    /// The folder that the prune works in.
    folder: Generation,
    warnings: Vec<String>,
    /// The results of the current run, once it has decided.
    decided: Option<PruneReport>,
    /// The snapshots that it was removing before that.
    removing: Vec<SnapshotChoice>,
    /// The packs that it has deleted for an interrupted prune.
    finished: Deleted,
    /// Packs in unfinished kill lists that snapshots need.
    spared: HashSet<PackId>,
    /// Packs that could not be read completely, in this or an earlier run.
    damaged: HashSet<PackId>,
    /// Packs that the current run has written, or has read and found intact.
    proven: HashSet<PackId>,
    /// Packs that are kept and that no parity group protects.
    unprotected: Vec<PackId>,
    /// Whether parity may be deleted before its successor is stored: only when no other space can
    /// be freed.
    room: Room,
    /// An earlier run has applied the policy, and the current one keeps every snapshot.
    sweeps: bool,
}

impl<'a> Work<'a> {
    fn new(repo: &'a Arc<Repository>, options: &'a PruneOptions, monitor: &'a dyn Monitor) -> Self {
        Self {
            repo,
            options,
            monitor,
            own: None,
            folder: repo.generation(),
            warnings: Vec::new(),
            decided: None,
            removing: Vec::new(),
            finished: Deleted::default(),
            spared: HashSet::new(),
            damaged: HashSet::new(),
            proven: HashSet::new(),
            unprotected: Vec::new(),
            room: Room::Enough,
            sweeps: false,
        }
    }

    /// For a further run of the same prune; `options` keep every snapshot.
    fn sweeping(repo: &'a Arc<Repository>, options: &'a PruneOptions, monitor: &'a dyn Monitor) -> Self {
        Self {
            sweeps: true,
            ..Self::new(repo, options, monitor)
        }
    }

    /// The results of a run that failed.
    fn interrupted(&mut self) -> Result<PruneReport> {
        // a further run issues the warnings again
        self.warnings.clear();
        let finished = std::mem::take(&mut self.finished);
        if let Some(report) = self.decided.take() {
            return Ok(report);
        }
        let mut report = PruneReport::default();
        report.count(finished);
        for choice in self.removing.drain(..) {
            if self.repo.storage().size(&layout::snapshot(&choice.id))?.is_none() {
                report.removed.push(choice);
            }
        }
        Ok(report)
    }

    /// The sessions of other writers.
    fn writers(&self) -> Result<HashSet<SnapshotId>> {
        let mut writers = self.repo.writers()?;
        if let Some(own) = &self.own {
            writers.remove(own);
        }
        Ok(writers)
    }

    fn check_running(&self) -> Result<()> {
        self.repo.check_running(self.monitor)
    }

    fn warn(&mut self, code: &'static str, message: String) {
        self.repo.warn(code, message.clone());
        self.warnings.push(message);
    }

    /// Reports progress, in bytes of packs from which chunks are copied.
    fn progress(&self, done_bytes: u64, total_bytes: u64) {
        self.monitor.progress(&Progress {
            done_bytes,
            total_bytes,
            ..Progress::default()
        });
    }
}

/// Removes the snapshots that the policy does not keep, and frees the space that only they needed.
/// With `dry_run`, only reports what would be done; nothing is written, and no lock is taken.
///
/// # Errors
/// `InvalidPolicy` before anything is read. `RepositoryLocked` when another process maintains the
/// repository for longer than the lock wait, or when ingests held the commit lock that long.
/// `ManifestCorrupt`, `UnsupportedFormat`, `ChunkMissing`, `PackMissing` or `IndexCorrupt` when the
/// needed chunks cannot be determined: nothing was freed in that case. `Unreadable`, `ReadOnly`,
/// `LocksUnsupported`, `KillListCorrupt`, `RepositoryNotFound`, `RepositoryChanged`, `NoSpace`,
/// `Storage`, `Cancelled`, `Closed`. The next prune completes a prune that failed half-way.
pub fn prune(repo: &Arc<Repository>, options: &PruneOptions, monitor: &dyn Monitor) -> Result<PruneReport> {
    options.check()?;
    repo.check_running(monitor)?;
    let _operation = repo.enter();
    if options.dry_run {
        return repo.unless_replaced(dry_run(repo, options, monitor));
    }
    repo.begin_writing()?;
    let maint = repo.maint(monitor)?;
    let own = SnapshotId(random(repo.entropy())?);
    let mut lease = begin(repo, own)?;
    let mut report = run_and_wait(repo, options, monitor, own, &maint, &mut lease)?;
    cover::warn(repo, &mut report);
    Ok(report)
}

/// Executes a dry run. It takes no lock, so files may be deleted while it reads them: it then
/// starts over.
fn dry_run(repo: &Arc<Repository>, options: &PruneOptions, monitor: &dyn Monitor) -> Result<PruneReport> {
    let (mut moved, mut missed) = (0, 0);
    loop {
        let mut work = Work::new(repo, options, monitor);
        match plan_run(&mut work) {
            Ok((chosen, survey, plan)) => {
                work.finished = sweep::existing(repo, &survey.condemned)?.into_values().collect();
                return Ok(PruneReport::of_run(&chosen, plan.sums(&Done::default()), &work));
            }
            Err(Error::Storage { source }) if source.kind == ErrorKind::NotFound && moved < MOVES => moved += 1,
            Err(Error::ChunkMissing { .. } | Error::PackMissing { .. }) if missed < MISSES => {
                missed += 1;
                if missed == MISSES {
                    // not caused by another process: a pack may list a chunk that the index has
                    // lost
                    repo.heal_index_for_read()?;
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
fn begin(repo: &Repository, own: SnapshotId) -> Result<Option<Lease>> {
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

/// Releases the reserve and the lease of the prune, to make space for its writes.
fn give_way(repo: &Repository, lease: &mut Option<Lease>) -> Result<()> {
    drop(lease.take());
    repo.release_reserve()?;
    Ok(())
}

/// Runs once, and with `wait` again for the part of the sweep that other sessions delayed.
fn run_and_wait(
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
        let delaying = survey::delaying(repo)?;
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
        match run(work, maint, true) {
            Err(Error::NoSpace { .. }) => {}
            other => {
                work.repo.keep_reserve();
                return other;
            }
        }
        report = work.interrupted()?;
        give_way(work.repo, lease)?;
    }
    report.add(run(work, maint, false)?);
    if !work.repo.keep_reserve() {
        // almost no space is free: gathering waits for more
        return Ok(report);
    }
    // the policy was applied, and the kept snapshots are reported
    let options = work.options.sweep_only();
    let mut rest = Work::sweeping(work.repo, &options, work.monitor);
    rest.damaged = std::mem::take(&mut work.damaged);
    rest.own = work.own;
    match run(&mut rest, maint, true) {
        Ok(more) => report.add(more),
        Err(Error::NoSpace { .. }) => {
            // the space of useless copies is released
            report.add_deleted(&rest.interrupted()?);
            give_way(work.repo, lease)?;
            report.unprotected = run(&mut rest, maint, false)?.unprotected;
        }
        Err(error) => return Err(error),
    }
    work.repo.keep_reserve();
    Ok(report)
}

/// One run: makes a plan and executes exactly that plan.
fn run(work: &mut Work<'_>, maint: &MaintLock, rewrite: bool) -> Result<PruneReport> {
    let storage = work.repo.storage();
    work.room = if rewrite { Room::Enough } else { Room::Little };
    sweep::finish_kill_lists(work, maint)?;
    let (chosen, survey, mut plan) = plan_run(work)?;
    if !rewrite {
        plan.keep_partly_used();
    }
    let removed: Vec<SnapshotId> = chosen.removed_ids();
    work.removing = chosen.removed.clone();
    if !work.monitor.begin_commit() {
        return Err(Error::Cancelled);
    }
    forget_all(work.repo, &removed, work.monitor, &mut Vec::new())?;
    work.monitor.end_commit();
    rewrite::copy_out(work, maint, &plan)?;
    rewrite::prove_remaining_copies(work, &plan)?;
    rewrite::keep_with_copies(&mut plan, &work.damaged)?;
    // a deleted manifest that a power loss restores must not have been treated as deleted
    storage.include_in_barrier(layout::SNAPSHOTS);
    storage.barrier()?;

    let mut done = Done::default();
    let condemned = decide::decide(work, &survey, &mut plan, &mut done)?;
    work.decided = Some(PruneReport::of_run(&chosen, plan.sums(&done), work));
    if let Some(list) = &condemned {
        // the list must be durable before the packs in it are deleted
        storage.barrier()?;
        let packs = list.packs.iter().copied().collect();
        let swept = sweep::sweep(work, maint, list, &packs);
        if matches!(swept, Err(Error::NoSpace { .. })) {
            // packs that still exist are counted by the run that deletes them
            done.keep_blocked(sweep::existing(work.repo, &list.packs)?.into_keys().collect());
            work.decided = Some(PruneReport::of_run(&chosen, plan.sums(&done), work));
        }
        done.keep_blocked(swept?);
    }
    // not earlier: the plan reads the segments that this replaces
    let mut stale = plan.stale();
    let within = dissolve::within_parity(work.repo, &stale, work.monitor)?;
    stale.retain(|pack| !within.contains(pack));
    work.repo.drop_from_index(&stale)?;
    sweep::drop_settled_lists(work, &survey, &plan, &done)?;
    records::drop_settled(work, &survey, &plan, &done, &removed)?;
    cover::protect_kept(work)?;
    work.decided = None;
    let report = PruneReport::of_run(&chosen, plan.sums(&done), work);
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
