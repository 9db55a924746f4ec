//! Repairs a repository: finds lost and damaged files, and rebuilds them from the remaining data.
//!
//! Invariants: no file is published before its bytes are proven (a pack by its id, everything else
//! by a checksum, a seal or the pack that it is built from); data that cannot be proven is moved to
//! `quarantine/` and is never deleted; nothing that was pruned, forgotten, abandoned or removed is
//! restored; a file that could not be read is left alone, unless exactly its bytes were rebuilt
//! from files that could be read. An interrupted repair is repeated; a second repair finds nothing
//! to do; a healthy repository is not changed by a single byte.
//!
//! The order matters: each step needs the data that the previous steps have repaired
//! (`docs/invariants.md`, Repair). The whole run holds the maintenance lock. Ingests and restores
//! continue concurrently; data that a live session has written is left to that session.

mod files;
mod groups;
mod index;
mod loss;
mod manifests;
mod members;
mod packs;
mod salvage;
mod small;

use crate::catalog::needed::spare_needed_or_all;
use crate::error::{Error, Result};
use crate::id::{PackId, SnapshotId};
use crate::layout;
use crate::lock::{KillLists, lease};
use crate::monitor::{Monitor, Progress};
use crate::repo::Repository;
use crate::storage;
use packs::Inventory;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// Result of a repair: what was repaired and what could not be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// A part of the global index was lost or wrong and was rebuilt.
    pub index_rebuilt: bool,
    /// Packs that were repaired, byte for byte.
    pub packs_repaired: u64,
    /// Stale leases removed.
    pub locks_removed: u64,
    /// Pack indexes rewritten.
    pub idx_repaired: u64,
    /// Manifests rewritten from their copies.
    pub manifests_restored: u64,
    /// Member indexes that had lost chunks and were rebuilt from the headers of their tars.
    pub member_indexes_rebuilt: u64,
    /// Files of parity groups that were rewritten, groups that were rebuilt, and packs that were in
    /// no group and were added to one.
    pub parity_repaired: u64,
    /// Key files and copies of key files rewritten.
    pub keys_repaired: u64,
    /// `config.json` was rewritten.
    pub config_repaired: bool,
    /// Stored chunks that were salvaged from packs beyond repair.
    pub chunks_salvaged: u64,
    /// Files that this run moved to `quarantine/`.
    pub quarantined: Vec<String>,
    /// Chunks and list nodes that snapshots need and that no longer exist.
    pub lost_chunks: u64,
    /// Damaged snapshots. They are kept, and their undamaged parts can be restored.
    pub damaged_snapshots: Vec<DamagedSnapshot>,
}

/// A damaged snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedSnapshot {
    /// Its id.
    pub id: SnapshotId,
    /// Its damaged items; empty when its manifest cannot be read and no copy of it is left.
    pub items: Vec<DamagedItem>,
}

/// A damaged item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedItem {
    /// Its name.
    pub name: String,
    /// The missing bytes: start and end (exclusive) of each range, in order. At most 4096 ranges:
    /// the last one then also covers the bytes between it and the last missing byte. Empty when
    /// only chunks of an extra are missing: the bytes of the item are intact.
    pub missing: Vec<(u64, u64)>,
}

/// Files that could not be read and were left as they are.
#[derive(Default)]
struct Left(Vec<storage::Error>);

impl Left {
    fn note(&mut self, repo: &Repository, error: storage::Error) {
        if self.0.iter().all(|known| known.path != error.path) {
            let message = format!("{} could not be read and was left as it is: {error}", error.path);
            repo.warn("WARN_NOT_REPAIRED", message);
            self.0.push(error);
        }
    }
}

/// State that the steps share.
struct Work<'a> {
    repo: &'a Arc<Repository>,
    monitor: &'a dyn Monitor,
    progress: Progress,
    kill_lists: KillLists,
    left: Left,
    report: &'a mut RepairReport,
}

impl Work<'_> {
    /// Records a file that could not be read and is left as it is; an error that concerns more than
    /// this file ends the repair.
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

/// Repairs the repository as far as possible.
///
/// # Errors
/// `RepositoryLocked` when another process maintains the repository for longer than the lock wait,
/// `ReadOnly`, `LocksUnsupported`, `UnsupportedFormat`, `NoSpace`, `Permission`, `Storage`,
/// `Cancelled`, `Closed`; `Unreadable` at the end, when something could not be read and not be
/// replaced: it was left as it is, and everything else is done. Completed steps are kept after an
/// error, and a repeated repair continues from there. Data beyond repair is no error: see the
/// report.
pub fn repair(repo: &Arc<Repository>, monitor: &dyn Monitor) -> Result<RepairReport> {
    repair_with(repo, &RepairOptions::default(), monitor)
}

/// Options of a repair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RepairOptions {
    /// The caller promises that no other process uses the repository. Needed on object storage,
    /// where no lock keeps other processes out.
    pub exclusive: bool,
}

/// [`repair`] with options.
///
/// # Errors
/// Those of [`repair`]; `ExclusiveRequired` on object storage without that promise.
pub fn repair_with(repo: &Arc<Repository>, options: &RepairOptions, monitor: &dyn Monitor) -> Result<RepairReport> {
    repo.check_running(monitor)?;
    repo.restore_lock_files()?;
    repo.begin_writing()?;
    repo.check_exclusive(options.exclusive)?;
    repo.storage().forget_cached();
    let mut maintenance = repo.maintain(lease::REPAIR, monitor)?;
    // checked under the lock: from here on the disk is busy, so a normal unmount is refused
    repo.check_folder()?;
    let _operation = repo.enter();
    let before = quarantined(repo)?;
    let mut report = RepairReport::default();
    match run(repo, monitor, &mut report) {
        Err(Error::NoSpace { .. }) => {
            // completed steps are kept
            maintenance.give_way();
            repo.with_reserve(|| run(repo, monitor, &mut report))?;
        }
        other => other?,
    }
    report.quarantined = quarantined(repo)?.difference(&before).cloned().collect();
    Ok(report)
}

/// Runs all steps, and adds their results to `report`.
fn run(repo: &Arc<Repository>, monitor: &dyn Monitor, report: &mut RepairReport) -> Result<()> {
    let folder = repo.generation();
    report.locks_removed += repo.remove_stale_leases()?.len() as u64;
    repo.clean_half_written();
    let kill_lists = small::kill_lists(repo)?;
    let kill_lists = spare_needed_or_all(repo, kill_lists, monitor)?;
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
    // missing files count only if the root is still the folder that the repair began with
    work.repo.check_same_folder(folder)?;
    packs::rebuild_damaged(&mut work, &mut inventory)?;
    salvage::save_chunks(&mut work, &mut inventory)?;
    packs::restore_indexes(&mut work, &mut inventory)?;
    index::repair(&mut work, &inventory)?;
    let unreadable = manifests::restore_lost(&mut work, &inventory)?;
    members::rebuild_lost(&mut work, &mut inventory)?;
    groups::repair(&mut work, &inventory)?;
    repo.storage().barrier()?;
    loss::report(&mut work, unreadable)?;
    work.left.0.into_iter().next().map_or(Ok(()), |error| Err(error.into()))
}

/// All files in the quarantine.
fn quarantined(repo: &Repository) -> Result<BTreeSet<String>> {
    let files = repo.storage().list(layout::QUARANTINE)?;
    Ok(files.into_iter().map(|file| file.key).collect())
}

/// A set of packs.
type Packs = HashSet<PackId>;
