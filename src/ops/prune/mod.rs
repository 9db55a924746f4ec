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

mod choice;
mod decide;
mod live;
mod meta;
mod plan;
mod records;
mod rewrite;
mod survey;
mod sweep;

pub use choice::{PruneOptions, PruneReport, SnapshotChoice};
pub(in crate::ops) use records::forget_all;
pub(in crate::ops) use sweep::finish_kill_lists;

use crate::clock::format_time;
use crate::entropy::random;
use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::layout;
use crate::lock::lease::Lease;
use crate::lock::{MaintLock, maint};
use crate::monitor::{Monitor, Progress};
use crate::repo::Repository;
use choice::Chosen;
use plan::Plan;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use survey::Survey;

/// How long between two looks at whether the sessions that delay a sweep are gone.
const WAIT_STEP: Duration = Duration::from_millis(50);

/// What the steps share.
struct Work<'a> {
    repo: &'a Arc<Repository>,
    options: &'a PruneOptions,
    monitor: &'a dyn Monitor,
    /// The session of this prune, which has a lease and writes nothing under this name.
    session: SnapshotId,
    warnings: Vec<String>,
}

impl Work<'_> {
    fn check_running(&self) -> Result<()> {
        self.repo.check_running(self.monitor)
    }

    fn warn(&mut self, code: &'static str, message: String) {
        self.repo.warn(code, message.clone());
        self.warnings.push(message);
    }

    /// Tells that so many bytes of packs have been read, copied or deleted, of so many.
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
/// `PackMissing` when it cannot be known what is still needed: nothing was removed then. `ReadOnly`, `LocksUnsupported`,
/// `KillListCorrupt`, `NoSpace`, `Storage`, `Cancelled`, `Closed`. A prune that failed half-way is finished by the next one.
pub fn prune(repo: &Arc<Repository>, options: &PruneOptions, monitor: &dyn Monitor) -> Result<PruneReport> {
    options.check()?;
    repo.check_running(monitor)?;
    let session = SnapshotId(random(repo.entropy())?);
    let _operation = repo.enter();
    if options.dry_run {
        let mut work = Work {
            repo,
            options,
            monitor,
            session,
            warnings: Vec::new(),
        };
        let (chosen, _, plan) = look(&mut work)?;
        return Ok(chosen.report(&plan, work.warnings));
    }
    repo.begin_writing()?;
    let maint = maint(repo.storage(), repo.lock_wait())?;
    let maint = maint.ok_or_else(|| Error::RepositoryLocked {
        lock: layout::MAINT_LOCK.to_owned(),
    })?;
    repo.remove_stale_leases()?;
    let lease = Lease::take(repo.storage(), session, "prune", format_time(repo.now_ms()))?;
    let report = run_and_wait(repo, options, monitor, (session, &maint));
    drop(lease);
    report
}

/// Runs, and again for the sweep that others delayed, if that is to be waited for.
fn run_and_wait(
    repo: &Arc<Repository>,
    options: &PruneOptions,
    monitor: &dyn Monitor,
    (session, maint): (SnapshotId, &MaintLock),
) -> Result<PruneReport> {
    let once = || {
        let mut work = Work {
            repo,
            options,
            monitor,
            session,
            warnings: Vec::new(),
        };
        run_in_little_space(&mut work, maint)
    };
    let mut report = once()?;
    while options.wait && report.pending_bytes > 0 {
        let delaying: HashSet<SnapshotId> = survey::held_sessions(repo, &session)?;
        while survey::held_sessions(repo, &session)?
            .intersection(&delaying)
            .next()
            .is_some()
        {
            repo.check_running(monitor)?;
            nap();
        }
        report.add(once()?);
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

/// Runs, and when the disk is full, once more with the space of the reserve and without copying anything first; what
/// that frees may then be enough for the rest.
fn run_in_little_space(work: &mut Work<'_>, maint: &MaintLock) -> Result<PruneReport> {
    match run(work, maint, true) {
        Err(Error::NoSpace { .. }) => {}
        other => {
            work.repo.keep_reserve();
            return other;
        }
    }
    work.repo.release_reserve()?;
    let mut report = run(work, maint, false)?;
    match run(work, maint, true) {
        Ok(more) => report.add(more),
        // the space is freed; what was to be gathered has to wait for more of it
        Err(Error::NoSpace { .. }) => {}
        Err(error) => return Err(error),
    }
    work.repo.keep_reserve();
    Ok(report)
}

/// One run: plan, and carry out exactly that.
fn run(work: &mut Work<'_>, maint: &MaintLock, rewrite: bool) -> Result<PruneReport> {
    let storage = work.repo.storage();
    finish_kill_lists(work.repo, maint, work.monitor)?;
    let (chosen, survey, mut plan) = look(work)?;
    if !rewrite {
        plan.keep_partly_used();
    }
    let removed: Vec<SnapshotId> = chosen.removed_ids();
    forget_all(work.repo, &removed)?;
    rewrite::copy_out(work, maint, &mut plan)?;
    // an unlinked manifest that a power cut brings back must not have been counted as gone
    storage.include_in_barrier(layout::SNAPSHOTS);
    storage.barrier()?;

    let condemned = decide::decide(work, &survey, &mut plan)?;
    if let Some(list) = &condemned {
        // in the list before it is deleted, after a power cut too
        storage.barrier()?;
        sweep::sweep(work.repo, maint, list, work.monitor)?;
    }
    // not before: the plan reads the segments that this replaces
    work.repo.drop_from_index(&plan.gone())?;
    sweep::drop_hints(work, &survey, &plan)?;
    records::drop_settled(work, &survey, &plan, &removed)?;
    Ok(chosen.report(&plan, std::mem::take(&mut work.warnings)))
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
