//! All remedies together: finds what is lost or damaged, and makes it again from what is left.
//!
//! What always holds: nothing takes a name before its bytes are proven (a pack by its name, everything else by a checksum,
//! a seal or the pack that it is made from); what cannot be proven goes to `quarantine/` and is never deleted; nothing
//! comes back that was pruned, forgotten, given up or removed; what could not be read stays where it is, unless its very bytes
//! were put together from files that could be read. A repair that is interrupted is repeated; a second one
//! finds nothing to do; a healthy repository is not changed by a byte.
//!
//! The order matters: each step needs what those before it have put right (`docs/invariants.md`, Repair). The whole run
//! holds the maintenance lock. Ingests and restores go on beside it; what a live session has written so far is left to it.

mod files;
mod groups;
mod index;
mod loss;
mod manifests;
mod packs;
mod salvage;
mod small;

use crate::error::{Error, Result};
use crate::id::{PackId, SnapshotId};
use crate::layout;
use crate::lock::{KillLists, lease};
use crate::monitor::{Monitor, Progress};
use crate::ops::reindex::spare_needed;
use crate::repo::Repository;
use crate::storage;
use packs::Inventory;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// What a repair did and what it could not do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Something of the global index was lost or wrong and has been made again.
    pub index_rebuilt: bool,
    /// Packs made whole again, byte for byte.
    pub packs_repaired: u64,
    /// Stale leases removed.
    pub locks_removed: u64,
    /// Pack indexes written again.
    pub idx_repaired: u64,
    /// Manifests written again from their copies.
    pub manifests_restored: u64,
    /// Files of parity groups written again, groups made anew, and packs that were in no group and now are.
    pub parity_repaired: u64,
    /// Key files and copies of key files written again.
    pub keys_repaired: u64,
    /// `config.json` was written again.
    pub config_repaired: bool,
    /// Stored chunks that were saved out of packs beyond repair.
    pub chunks_salvaged: u64,
    /// Files that came to lie in `quarantine/` by this run.
    pub quarantined: Vec<String>,
    /// Chunks and list nodes that snapshots need and nobody has any more.
    pub lost_chunks: u64,
    /// Snapshots that are not whole. They are kept, and what is whole of them restores.
    pub damaged_snapshots: Vec<DamagedSnapshot>,
}

/// A snapshot that is not whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedSnapshot {
    /// Which one.
    pub id: SnapshotId,
    /// Its items that are not whole; empty when its manifest cannot be read and no copy of it is left.
    pub items: Vec<DamagedItem>,
}

/// An item that is not whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedItem {
    /// Its name.
    pub name: String,
    /// The missing bytes: start and end (exclusive) of each range, in order. At most 4096 ranges: the last one then reaches
    /// over what lies between it and the last missing byte.
    pub missing: Vec<(u64, u64)>,
}

/// Files that could not be read and were left as they are.
#[derive(Default)]
struct Left(Vec<storage::Error>);

impl Left {
    fn note(&mut self, repo: &Repository, error: storage::Error) {
        if self.0.iter().all(|known| known.path != error.path) {
            let message = format!("{} cannot be read and was left as it is: {error}", error.path);
            repo.warn("WARN_NOT_REPAIRED", message);
            self.0.push(error);
        }
    }
}

/// What the steps share.
struct Work<'a> {
    repo: &'a Arc<Repository>,
    monitor: &'a dyn Monitor,
    progress: Progress,
    kill_lists: KillLists,
    left: Left,
    report: &'a mut RepairReport,
}

impl Work<'_> {
    /// Takes note of a file that could not be read and is left as it is; a failure that is about more than this file ends
    /// the repair.
    fn leave(&mut self, error: storage::Error) -> Result<()> {
        if !error.kind.is_erasure() {
            return Err(error.into());
        }
        self.left.note(self.repo, error);
        Ok(())
    }

    /// Counts bytes that were read and proven; ends the repair when it was asked to stop.
    fn advance(&mut self, bytes: u64) -> Result<()> {
        self.progress.done_bytes += bytes;
        self.monitor.progress(&self.progress);
        self.repo.check_running(self.monitor)
    }
}

/// Repairs the repository as far as that can be done.
///
/// # Errors
/// `RepositoryLocked` when somebody else maintains the repository for longer than the lock wait, `ReadOnly`,
/// `LocksUnsupported`, `UnsupportedFormat`, `NoSpace`, `Permission`, `Storage`, `Cancelled`, `Closed`; `Unreadable` at the end,
/// when something could not be read and not be replaced: it was left as it is, and everything else is done. What was done until
/// then stays done, and a repeated repair goes on. That something is beyond repair is no error: see the report.
pub fn repair(repo: &Arc<Repository>, monitor: &dyn Monitor) -> Result<RepairReport> {
    repo.check_running(monitor)?;
    repo.restore_lock_files()?;
    repo.begin_writing()?;
    let mut maintenance = repo.maintain(lease::REPAIR, monitor)?;
    // under the lock: from here on a disk that is unmounted in the usual way is busy
    repo.check_place()?;
    let _operation = repo.enter();
    let before = quarantined(repo)?;
    let mut report = RepairReport::default();
    match run(repo, monitor, &mut report) {
        Err(Error::NoSpace { .. }) => {
            // what is done stays done
            maintenance.give_way();
            repo.with_reserve(|| run(repo, monitor, &mut report))?;
        }
        other => other?,
    }
    report.quarantined = quarantined(repo)?.difference(&before).cloned().collect();
    Ok(report)
}

/// Counts in what it does.
fn run(repo: &Arc<Repository>, monitor: &dyn Monitor, report: &mut RepairReport) -> Result<()> {
    let folder = repo.generation();
    report.locks_removed += repo.remove_stale_leases()?.len() as u64;
    repo.clean_half_written();
    let kill_lists = small::kill_lists(repo)?;
    let kill_lists = spare_needed(repo, kill_lists, monitor)?;
    let mut left = Left::default();
    report.config_repaired |= small::config(repo, &mut left)?;
    report.keys_repaired += small::keys(repo, &mut left)?;
    small::records(repo, &mut left)?;
    repo.storage().barrier()?;
    let mut work = Work {
        repo,
        monitor,
        progress: Progress::default(),
        kill_lists,
        left,
        report,
    };
    let mut inventory = Inventory::take(&mut work)?;
    // what is missing is missing here, and not because the folder is gone or another one
    work.repo.check_same_place(folder)?;
    packs::rebuild_damaged(&mut work, &mut inventory)?;
    salvage::save_chunks(&mut work, &mut inventory)?;
    packs::restore_indexes(&mut work, &mut inventory)?;
    index::mend(&mut work, &inventory)?;
    let unreadable = manifests::restore_lost(&mut work, &inventory)?;
    groups::mend(&mut work, &inventory)?;
    repo.storage().barrier()?;
    loss::report(&mut work, unreadable)?;
    work.left.0.into_iter().next().map_or(Ok(()), |error| Err(error.into()))
}

/// Everything that lies in the quarantine.
fn quarantined(repo: &Repository) -> Result<BTreeSet<String>> {
    let files = repo.storage().list(layout::QUARANTINE)?;
    Ok(files.into_iter().map(|file| file.key).collect())
}

/// Packs of a kind, as sets are passed around here.
type Packs = HashSet<PackId>;
