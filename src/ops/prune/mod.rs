//! Removing snapshots that a policy does not keep, and then everything that no snapshot needs any more.
//!
//! First a plan is made, from the snapshots that will be left; a dry run ends there. Then it is carried out: forget, copy
//! what is still needed out of packs that are mostly waste, decide under the commit lock, and only then delete. Ingests
//! and restores go on beside it. What makes that safe, step by step, is protocol K (`docs/invariants.md`, Prune): the
//! decision counts every snapshot that is there at that instant, whatever is deleted stood in a kill list first, and a
//! writer looks at the kill lists before it commits. Leases are honoured, but nothing depends on them.
//!
//! What always holds: a prune that is cut short at any point has broken no snapshot that was kept, and the next one goes
//! on where it stopped. The whole run holds the maintenance lock.

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

/// How long between two looks at whether the sessions that delay a sweep are gone.
const WAIT_STEP: Duration = Duration::from_millis(50);

/// How often a dry run begins again when files that it was reading were replaced meanwhile.
const MOVES: usize = 20;
/// How often it does when something was missing.
const MISSES: usize = 3;

/// What the steps share.
struct Work<'a> {
    repo: &'a Arc<Repository>,
    options: &'a PruneOptions,
    monitor: &'a dyn Monitor,
    /// Its own session, of a prune that has a lease: where that cannot be read while it is held (Windows), nobody can tell
    /// that it is a prune's.
    own: Option<SnapshotId>,
    /// The folder that it works in.
    folder: Generation,
    warnings: Vec<String>,
    /// What the present run has done, once it is decided.
    decided: Option<PruneReport>,
    /// What it was about to remove before that.
    removing: Vec<SnapshotChoice>,
    /// What it has deleted for a prune that was cut short.
    finished: Deleted,
    /// Packs in unfinished kill lists that snapshots need.
    spared: HashSet<PackId>,
    /// Packs that could not be read whole, in this or an earlier run.
    damaged: HashSet<PackId>,
    /// Packs that the present run has written, or read and found whole.
    proven: HashSet<PackId>,
    /// Packs that are kept and that no parity group protects.
    unprotected: Vec<PackId>,
    /// Whether parity may be deleted before its successor is stored: only when nothing else gives space.
    room: Room,
    /// The policy was asked by an earlier run, and the present one keeps every snapshot.
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

    /// What a run that failed has done all the same.
    fn interrupted(&mut self) -> Result<PruneReport> {
        // a further run will find what there is to warn of
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

    /// The sessions of others that write.
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

    /// Tells that so many bytes of packs have been copied out, of so many that are to be.
    fn progress(&self, done_bytes: u64, total_bytes: u64) {
        self.monitor.progress(&Progress {
            done_bytes,
            total_bytes,
            ..Progress::default()
        });
    }
}

/// Removes the snapshots that the policy does not keep, and frees the space that only they needed. With `dry_run`, only
/// tells what would be done; nothing is written then, and no lock taken.
///
/// # Errors
/// `InvalidPolicy` before anything is read. `RepositoryLocked` when somebody else maintains the repository for longer than
/// the lock wait, or when ingests kept the commit lock that long. `ManifestCorrupt`, `UnsupportedFormat`, `ChunkMissing` or
/// `PackMissing` when it cannot be known what is still needed: nothing was freed then. `ReadOnly`, `LocksUnsupported`,
/// `KillListCorrupt`, `NoSpace`, `Storage`, `Cancelled`, `Closed`. A prune that failed half-way is finished by the next one.
pub fn prune(repo: &Arc<Repository>, options: &PruneOptions, monitor: &dyn Monitor) -> Result<PruneReport> {
    options.check()?;
    repo.check_running(monitor)?;
    let _operation = repo.enter();
    if options.dry_run {
        return repo.unless_replaced(look_only(repo, options, monitor));
    }
    repo.begin_writing()?;
    let maint = repo.maint(monitor)?;
    let own = SnapshotId(random(repo.entropy())?);
    let mut lease = begin(repo, own)?;
    let mut report = run_and_wait(repo, options, monitor, (own, &maint), &mut lease)?;
    cover::warn(repo, &mut report);
    Ok(report)
}

/// A dry run. It takes no lock, so what it looks at may go away under it: then it looks again.
fn look_only(repo: &Arc<Repository>, options: &PruneOptions, monitor: &dyn Monitor) -> Result<PruneReport> {
    let (mut moved, mut missed) = (0, 0);
    loop {
        let mut work = Work::new(repo, options, monitor);
        match look(&mut work) {
            Ok((chosen, survey, plan)) => {
                work.finished = sweep::lying(repo, &survey.condemned)?.into_values().collect();
                return Ok(PruneReport::of_run(&chosen, plan.sums(&Done::default()), &work));
            }
            Err(Error::Storage { source }) if source.kind == ErrorKind::NotFound && moved < MOVES => moved += 1,
            Err(Error::ChunkMissing { .. } | Error::PackMissing { .. }) if missed < MISSES => {
                missed += 1;
                if missed == MISSES {
                    // not somebody else's doing: perhaps a pack knows what the index has lost
                    repo.heal_index_for_read()?;
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Cleans up after others, and takes a lease, so that they see who is at work. `None` on a full disk: the reserve has been
/// given up then, and the prune does without a lease, which would take up what the prune itself needs. What there is no
/// room for is left undone: all of it is hints.
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

/// Gives up the reserve and the lease of the prune for what it has to write.
fn give_way(repo: &Repository, lease: &mut Option<Lease>) -> Result<()> {
    drop(lease.take());
    repo.release_reserve()?;
    Ok(())
}

/// Runs, and again for the sweep that others delayed, if that is to be waited for.
fn run_and_wait(
    repo: &Arc<Repository>,
    options: &PruneOptions,
    monitor: &dyn Monitor,
    (own, maint): (SnapshotId, &MaintLock),
    lease: &mut Option<Lease>,
) -> Result<PruneReport> {
    let mut is_full = lease.is_none();
    let mut once = |mut work: Work<'_>| {
        work.own = Some(own);
        run_in_little_space(&mut work, maint, lease, std::mem::take(&mut is_full))
    };
    let mut report = once(Work::new(repo, options, monitor))?;
    if options.wait && report.pending_bytes > 0 {
        // those that the hints name: whoever came later does not use what is pending
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
    reason = "leases of other processes cannot be waited for in another way"
)]
fn nap() {
    std::thread::sleep(WAIT_STEP);
}

/// Runs, and when the disk is full, again with what the reserve and the lease give back and without copying anything first;
/// what that frees may then be enough for the rest. `is_full`: that is known already, and both are given up.
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
        // next to nothing is free: what was to be gathered waits for more
        return Ok(report);
    }
    // the policy was asked, and what it kept is told
    let options = work.options.sweep_only();
    let mut rest = Work::sweeping(work.repo, &options, work.monitor);
    rest.damaged = std::mem::take(&mut work.damaged);
    rest.own = work.own;
    match run(&mut rest, maint, true) {
        Ok(more) => report.add(more),
        Err(Error::NoSpace { .. }) => {
            // what was copied in vain gives its space back
            report.add_deleted(&rest.interrupted()?);
            give_way(work.repo, lease)?;
            report.unprotected = run(&mut rest, maint, false)?.unprotected;
        }
        Err(error) => return Err(error),
    }
    work.repo.keep_reserve();
    Ok(report)
}

/// One run: plan, and carry out exactly that.
fn run(work: &mut Work<'_>, maint: &MaintLock, rewrite: bool) -> Result<PruneReport> {
    let storage = work.repo.storage();
    work.room = if rewrite { Room::Enough } else { Room::Little };
    sweep::finish_kill_lists(work, maint)?;
    let (chosen, survey, mut plan) = look(work)?;
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
    rewrite::prove_stand_ins(work, &plan)?;
    rewrite::keep_with_copies(&mut plan, &work.damaged)?;
    // an unlinked manifest that a power cut brings back must not have been counted as gone
    storage.include_in_barrier(layout::SNAPSHOTS);
    storage.barrier()?;

    let mut done = Done::default();
    let condemned = decide::decide(work, &survey, &mut plan, &mut done)?;
    work.decided = Some(PruneReport::of_run(&chosen, plan.sums(&done), work));
    if let Some(list) = &condemned {
        // in the list before it is deleted, after a power cut too
        storage.barrier()?;
        let packs = list.packs.iter().copied().collect();
        let swept = sweep::sweep(work, maint, list, &packs);
        if matches!(swept, Err(Error::NoSpace { .. })) {
            // what still lies there is counted by the run that deletes it
            done.keep_blocked(sweep::lying(work.repo, &list.packs)?.into_keys().collect());
            work.decided = Some(PruneReport::of_run(&chosen, plan.sums(&done), work));
        }
        done.keep_blocked(swept?);
    }
    // not before: the plan reads the segments that this replaces
    let mut gone = plan.gone();
    let within = dissolve::within_parity(work.repo, &gone, work.monitor)?;
    gone.retain(|pack| !within.contains(pack));
    work.repo.drop_from_index(&gone)?;
    sweep::drop_settled_lists(work, &survey, &plan, &done)?;
    records::drop_settled(work, &survey, &plan, &done, &removed)?;
    cover::protect_kept(work)?;
    work.decided = None;
    let report = PruneReport::of_run(&chosen, plan.sums(&done), work);
    (work.warnings, work.finished) = (Vec::new(), Deleted::default());
    Ok(report)
}

/// What is there, what the policy keeps of it, and what to do.
fn look(work: &mut Work<'_>) -> Result<(Chosen, Survey, Plan)> {
    let survey = Survey::take(work)?;
    // last, so that it knows every chunk of the snapshots that were listed
    work.repo.refresh_index()?;
    let chosen = choice::choose(work, &survey)?;
    let plan = plan::make(work, &survey, &chosen)?;
    Ok((chosen, survey, plan))
}
