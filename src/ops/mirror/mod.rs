//! Mirrors a repository: a copy of its files, byte for byte, into another folder. Needs no keys.
//!
//! At every instant each manifest in the mirror has everything that it needs there: the source is
//! listed at a point at which that is so (`listing.rs`), then packs, parity and segments of that
//! listing are copied (`files.rs`), and its manifests last. When the source has deleted one of
//! these files in the meantime, it is listed again. What the source no longer has is deleted at the
//! end, the manifests first (`remove.rs`). The order is that of `docs/invariants.md` §17.
//!
//! A mirror is marked (`base/mirror.rs`), and `target.rs` refuses every other folder.

mod files;
mod listing;
mod lost;
mod pieces;
mod remove;
mod target;

use crate::base::mirror;
use crate::error::{Error, Result};
use crate::id::{PackId, SnapshotId};
use crate::layout;
use crate::monitor::{Monitor, Progress};
use crate::repo::{Environment, Repository};
use crate::snapshot::tombstone::is_tombstone;
use crate::snapshot::{MAX_MANIFEST_LEN, manifest};
use crate::storage::{Storage, judge, put_bytes};
use listing::{Listing, take_source};
use std::sync::Arc;
use target::Target;

/// Most listings of the source in one run. Another one is needed only when the source has deleted a
/// file that was about to be copied.
const MAX_ROUNDS: usize = 64;

/// Options of a mirroring.
#[derive(Debug, Clone, Default)]
pub struct MirrorOptions {
    /// Also delete what the source no longer has: forgotten snapshots, and files that a prune or a
    /// merge has replaced.
    pub delete: bool,
    /// Change nothing, and return what would be done.
    pub dry_run: bool,
}

/// The result of a mirroring.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MirrorReport {
    /// Snapshots that the mirror did not have.
    pub copied_snapshots: Vec<SnapshotId>,
    /// Snapshots that were deleted from the mirror.
    pub removed_snapshots: Vec<SnapshotId>,
    /// Snapshots in the mirror.
    pub snapshots: u64,
    /// Files that were copied.
    pub copied_files: u64,
    /// Bytes of these files.
    pub copied_bytes: u64,
    /// Files that were deleted.
    pub removed_files: u64,
    /// Bytes of these files.
    pub removed_bytes: u64,
    /// Packs that are damaged in the source, and were rebuilt from parity.
    pub rebuilt_packs: u64,
    /// Whether nothing was changed.
    pub dry_run: bool,
}

/// A running mirroring.
struct Run<'a> {
    repo: &'a Arc<Repository>,
    target: Target<'a>,
    options: &'a MirrorOptions,
    monitor: &'a dyn Monitor,
}

/// What a run has done so far.
#[derive(Default)]
struct Done {
    report: MirrorReport,
    total_bytes: u64,
    /// The source has deleted a file since it was listed.
    vanished: bool,
    /// Packs of the source that are damaged, and that parity cannot rebuild, with the error.
    bad_packs: Vec<(PackId, Error)>,
    /// The first damage of another file of the source, which was not copied.
    damage: Option<Error>,
}

/// Copies the files of a repository into the folder of `target`, or only those that it does not
/// have yet. The folder must be missing, empty, or a mirror of this repository. The handle may be
/// one without keys.
///
/// A damaged pack of the source is rebuilt from parity. When that is not possible, or a pack is
/// lost, the snapshots that need it are not copied (without keys: none), nothing is deleted, and
/// the call fails once everything else is copied.
///
/// # Errors
/// `MirrorRefused` (the target is no mirror of this repository, has snapshots that the source has
/// never had, or would lose them all), `InvalidArgument` (the target is inside the repository),
/// `RepositoryLocked` (another mirroring into the same target), `MirrorOvertaken`, `PackCorrupt`,
/// `PackMissing`, `ChunkMissing`, `ManifestCorrupt`, `ParityCorrupt`, `RepositoryNotFound`,
/// `RepositoryChanged`, `NotADirectory`, `LocksUnsupported`, `NoSpace`, `Permission`, `Unreadable`,
/// `Storage`, `Cancelled`, `Closed`. After any of them the mirror is whole as far as it goes, and
/// the next call continues.
pub fn mirror_to(
    repo: &Arc<Repository>,
    target: &Environment,
    options: &MirrorOptions,
    monitor: &dyn Monitor,
) -> Result<MirrorReport> {
    repo.check_running_without_keys(monitor)?;
    let _operation = repo.enter();
    let target = Target::find(repo, target)?;
    let mut run = Run {
        repo,
        target,
        options,
        monitor,
    };
    let mut done = Done::default();
    let mut source = take_source(&run)?;
    let mut known = run.check_target(&source)?;
    if options.dry_run {
        return run.plan(&source, &known);
    }
    run.target.begin(repo)?;
    for _ in 0..MAX_ROUNDS {
        done.vanished = false;
        run.copy_files(&source, &known, &mut done)?;
        if !done.vanished {
            run.copy_manifests(&source, &known, &mut done)?;
            if done.bad_packs.is_empty() && done.damage.is_none() && options.delete {
                run.remove(&source, &mut done)?;
            }
            return run.end(done);
        }
        source = take_source(&run)?;
        known = run.check_target(&source)?;
    }
    Err(Error::MirrorOvertaken)
}

impl Run<'_> {
    fn check_running(&self) -> Result<()> {
        self.repo.check_running_without_keys(self.monitor)
    }

    fn storage(&self) -> &dyn Storage {
        self.target.storage()
    }

    fn report(&self, done: &Done) {
        self.monitor.progress(&Progress {
            done_bytes: done.report.copied_bytes,
            total_bytes: done.total_bytes.max(done.report.copied_bytes),
            items_done: done.report.copied_files,
            ..Progress::default()
        });
    }

    /// Puts the manifests of the listing, whose packs are all in the mirror.
    fn copy_manifests(&self, source: &Listing, known: &Listing, done: &mut Done) -> Result<()> {
        let missing = files::missing(&source.manifests, &known.manifests);
        let new = missing.filter_map(|(key, _)| layout::id_of(key, ".json").map(SnapshotId));
        let new: Vec<SnapshotId> = new.collect();
        let held = self.without_packs(&new, source, done)?;
        let new: Vec<SnapshotId> = new.into_iter().filter(|id| !held.contains(id)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let mut all = known.snapshots();
        all.extend(&new);
        if !all.is_subset(&mirror::read_ledger(self.storage())?) {
            mirror::write_ledger(self.storage(), &all)?;
        }
        for id in new {
            self.target.check(self.repo)?;
            if !self.monitor.begin_commit() {
                return Err(Error::Cancelled);
            }
            if let Some(len) = self.copy_manifest(&id, known, done)? {
                self.storage().barrier()?;
                done.report.copied_snapshots.push(id);
                done.report.copied_files += 1;
                done.report.copied_bytes += len;
            }
            self.monitor.end_commit();
        }
        Ok(())
    }

    /// Copies one manifest, and returns its length; `None` when it was forgotten since it was
    /// listed, or is damaged.
    fn copy_manifest(&self, id: &SnapshotId, known: &Listing, done: &mut Done) -> Result<Option<u64>> {
        let key = layout::snapshot(id);
        let bytes = match judge(self.repo.storage().get(&key, MAX_MANIFEST_LEN))? {
            Ok(bytes) => bytes,
            Err(error) if error.kind == crate::storage::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                done.damage.get_or_insert(error.into());
                return Ok(None);
            }
        };
        if is_tombstone(&bytes, id) {
            // no snapshot, and copied as records are: a copy of its manifest is not a lost one's
            put_bytes(self.storage(), &key, &bytes)?;
            return Ok(None);
        }
        let checked = match self.repo.is_keyless() {
            true => manifest::check_sealed(&bytes, id).map_err(|error| Error::ManifestCorrupt {
                snapshot: *id,
                reason: error.to_string(),
            }),
            false => self.repo.decode_manifest(id, &bytes).map(drop),
        };
        match checked {
            Ok(()) => {
                if known.manifests.contains_key(&key) {
                    // of another length: it is damaged in the mirror
                    self.storage().quarantine(&key)?;
                }
                put_bytes(self.storage(), &key, &bytes)?;
                Ok(Some(bytes.len() as u64))
            }
            Err(error @ Error::ManifestCorrupt { .. }) => {
                done.damage.get_or_insert(error);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The result, or the damage of the source that was found.
    fn end(&self, mut done: Done) -> Result<MirrorReport> {
        if self.repo.may_heal() && done.report.rebuilt_packs > 0 {
            self.repo.heal_degraded_packs(self.monitor);
        }
        let bad = done.bad_packs.into_iter().next().map(|(_, error)| error);
        if let Some(error) = bad.or(done.damage) {
            return Err(error);
        }
        done.report.snapshots = Listing::take(self.storage())?.manifests.len() as u64;
        Ok(done.report)
    }
}
