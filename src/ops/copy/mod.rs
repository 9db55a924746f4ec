//! Copies snapshots into another repository, with its keys, compression and parity.
//!
//! Each copy is an ingest of the target (`ops::ingest`), so it is committed as any other snapshot.
//! Its chunks are taken as they were cut. Only the chunks that the target does not have are read
//! (`known.rs`, `stream.rs`), and go through the workers of the target (`stage.rs`). A copy has the
//! id of what it is a copy of in its manifest, and is not made twice.

mod known;
mod stage;
mod stream;

use super::ingest::{CopyOf, IngestOptions, ingest_with};
use super::restore::plan_of;
use super::snapshots::{get_snapshot, list_ids, load};
use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::monitor::{Monitor, Progress, Warning};
use crate::repo::Repository;
use crate::snapshot::{Origin, Snapshot, SnapshotFilter};
use crate::storage::{ErrorKind, FailedRead};
use crate::sync::lock;
use known::Known;
use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

/// Options of a copy.
#[derive(Debug, Clone, Default)]
pub struct CopyOptions {
    /// Ids, unambiguous prefixes or `latest`; none: all snapshots.
    pub snapshots: Vec<String>,
    /// Of these, only snapshots that match.
    pub filter: SnapshotFilter,
}

/// A snapshot of the source, and its copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopiedSnapshot {
    /// Id in the source.
    pub from: SnapshotId,
    /// Id in the target.
    pub to: SnapshotId,
}

/// The result of a copy.
#[derive(Debug, Clone, Default)]
pub struct CopyReport {
    /// Snapshots that were copied, oldest first.
    pub copied: Vec<CopiedSnapshot>,
    /// Snapshots that the target had already.
    pub skipped: Vec<SnapshotId>,
    /// Snapshots that could not be read completely, with the error.
    pub failed: Vec<(SnapshotId, Error)>,
    /// Bytes of the items of the copied snapshots.
    pub original_bytes: u64,
    /// Bytes of chunks that the target did not have.
    pub new_bytes: u64,
    /// Bytes that were stored for them.
    pub stored_bytes: u64,
}

/// Copies snapshots of `source` to `target`, oldest first. Each copy has the time, the tags, the
/// items and the digests of its original. A damaged chunk of the source is read through parity, as
/// in a restore; a snapshot that cannot be read completely is not copied, and the others are.
///
/// # Errors
/// `InvalidArgument` (both are the same repository), `SnapshotNotFound`, `SnapshotAmbiguous`
/// (before anything is copied), those of an ingest into the target, `Closed` (either handle),
/// `Cancelled`. Snapshots that were copied before stay, and so do stored chunks: the next call
/// continues.
pub fn copy_to(
    source: &Arc<Repository>,
    target: &Arc<Repository>,
    options: &CopyOptions,
    monitor: &dyn Monitor,
) -> Result<CopyReport> {
    source.check_running(monitor)?;
    target.check_open()?;
    target.check_writable()?;
    if source.config().id == target.config().id {
        let reason = "target: both handles are of the same repository, or of a repository and its mirror".to_owned();
        return Err(Error::InvalidArgument { reason });
    }
    let mut report = CopyReport::default();
    let chosen = choose(source, options, &mut report)?;
    let mut known = Known::read(target)?;
    let has = |snapshot: &Snapshot, known: &Known| known.has(&snapshot.origin(source.config().id));
    let left = chosen.iter().filter(|snapshot| !has(snapshot, &known));
    let total_bytes = left.map(|snapshot| snapshot.original_size).sum();
    let copying = Copying {
        monitor,
        total_bytes,
        finished: Mutex::default(),
    };
    let _operation = source.enter();
    for snapshot in chosen {
        source.check_running(monitor)?;
        if has(&snapshot, &known) {
            known.note_copied(&snapshot, source.config().id);
            report.skipped.push(snapshot.id);
            continue;
        }
        copy_one(source, target, snapshot, &mut known, &copying, &mut report)?;
    }
    if source.may_heal() {
        source.heal_degraded_packs(monitor);
    }
    Ok(report)
}

/// The snapshots to copy, oldest first. One whose manifest is damaged has failed.
fn choose(source: &Repository, options: &CopyOptions, report: &mut CopyReport) -> Result<Vec<Snapshot>> {
    let mut ids: Vec<SnapshotId> = Vec::new();
    for id in &options.snapshots {
        match get_snapshot(source, id) {
            Ok(snapshot) => ids.push(snapshot.id),
            Err(Error::ManifestCorrupt { snapshot, .. }) => ids.push(snapshot),
            Err(error) => return Err(error),
        }
    }
    if options.snapshots.is_empty() {
        ids = list_ids(source)?;
    }
    let ids: BTreeSet<SnapshotId> = ids.into_iter().collect();
    let mut chosen = Vec::new();
    for id in ids {
        match load(source, &id) {
            Ok(snapshot) if options.filter.matches(&snapshot) => chosen.push(snapshot),
            // forgotten since it was listed
            Ok(_) | Err(Error::SnapshotNotFound { .. }) => {}
            Err(error) if is_of_snapshot(&error) => report.failed.push((id, error)),
            Err(error) => return Err(error),
        }
    }
    chosen.sort_by_key(|snapshot| (snapshot.created_at_ms, snapshot.sequence, snapshot.id));
    Ok(chosen)
}

/// Copies one snapshot, or notes why it cannot be read.
fn copy_one(
    source: &Arc<Repository>,
    target: &Arc<Repository>,
    snapshot: Snapshot,
    known: &mut Known,
    copying: &Copying<'_>,
    report: &mut CopyReport,
) -> Result<()> {
    let origin: Origin = snapshot.origin(source.config().id);
    let options = IngestOptions {
        tags: snapshot.tags.clone(),
        created_at_ms: Some(snapshot.created_at_ms),
        copy_of: Some(CopyOf {
            origin,
            largest_chunk: source.config().chunking.max,
        }),
        ..IngestOptions::default()
    };
    known.load_chunks(source, target, &snapshot)?;
    let plan = plan_of(snapshot);
    // an error of the source ends only this snapshot
    let from_source = Cell::new(false);
    let new_bytes = Cell::new(0);
    let copied = ingest_with(target, 1, &options, copying, |session| {
        let stored = stream::store(source, &plan, session, known, copying);
        new_bytes.set(session.stats.new_bytes.load(std::sync::atomic::Ordering::Relaxed));
        stored.map_err(|failed| match failed {
            stream::Failed::Source(error) => {
                from_source.set(true);
                error
            }
            stream::Failed::Target(error) => error,
        })
    });
    copying.monitor.end_commit();
    let snapshot = plan.snapshot;
    match copied {
        Ok(copy) => {
            report.copied.push(CopiedSnapshot {
                from: snapshot.id,
                to: copy.id,
            });
            report.original_bytes += copy.original_size;
            report.new_bytes += new_bytes.get();
            report.stored_bytes += copy.stored_size;
            copying.finish(&copy, new_bytes.get());
            known.add(&snapshot, copy, source.config().id);
            Ok(())
        }
        Err(error) if from_source.get() => match source.unless_replaced(Err::<(), _>(error)) {
            Err(error) if is_of_snapshot(&error) => {
                report.failed.push((snapshot.id, error));
                Ok(())
            }
            other => other,
        },
        Err(error) => Err(error),
    }
}

/// True for an error that is about the data of one snapshot, so that others may be copied.
fn is_of_snapshot(error: &Error) -> bool {
    match error {
        Error::ManifestCorrupt { .. }
        | Error::UnsupportedFormat { .. }
        | Error::PackCorrupt { .. }
        | Error::PackMissing { .. }
        | Error::ChunkCorrupt { .. }
        | Error::ChunkMissing { .. }
        | Error::IndexCorrupt { .. }
        | Error::ParityCorrupt { .. } => true,
        _ => error.unreadable().is_some_and(|error| error.kind == ErrorKind::Io),
    }
}

/// The monitor of all ingests of a copy: adds up their progress.
struct Copying<'a> {
    monitor: &'a dyn Monitor,
    total_bytes: u64,
    /// That of the finished snapshots.
    finished: Mutex<Progress>,
}

impl Copying<'_> {
    fn finish(&self, copy: &Snapshot, new_bytes: u64) {
        let mut finished = lock(&self.finished);
        finished.done_bytes += copy.original_size;
        finished.new_bytes += new_bytes;
        finished.reused_bytes += copy.original_size.saturating_sub(new_bytes);
        finished.stored_bytes += copy.stored_size;
        finished.chunks += copy.chunk_count;
        finished.items_done += 1;
        let progress = Progress {
            total_bytes: self.total_bytes,
            ..finished.clone()
        };
        drop(finished);
        self.monitor.progress(&progress);
    }
}

impl Monitor for Copying<'_> {
    fn progress(&self, progress: &Progress) {
        let finished = lock(&self.finished).clone();
        self.monitor.progress(&Progress {
            done_bytes: finished.done_bytes + progress.done_bytes,
            new_bytes: finished.new_bytes + progress.new_bytes,
            reused_bytes: finished.reused_bytes + progress.reused_bytes,
            stored_bytes: finished.stored_bytes + progress.stored_bytes,
            chunks: finished.chunks + progress.chunks,
            items_done: finished.items_done,
            total_bytes: self.total_bytes,
            waiting: progress.waiting,
            auto_level: progress.auto_level,
        });
    }

    fn warning(&self, warning: Warning) {
        self.monitor.warning(warning);
    }

    fn is_cancelled(&self) -> bool {
        self.monitor.is_cancelled()
    }

    fn begin_commit(&self) -> bool {
        self.monitor.begin_commit()
    }

    fn end_commit(&self) {
        self.monitor.end_commit();
    }
}
