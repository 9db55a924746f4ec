//! Backs up streams as one snapshot.
//!
//! The order is essential (`docs/invariants.md`): packs with their `.idx`, their parity, the
//! segment, all durable, and only then the manifest, created if absent, under the shared commit
//! lock and after a last check of every pack that the snapshot relies on. A source that fails never
//! becomes a snapshot; the chunks stored up to that point are published as reusable chunks.

mod commit;
mod extra;
mod feed;
mod items;
mod lane;
mod lanes;
mod lists;
mod outline;
mod sequence;
mod session_lease;
mod tar_index;

pub use crate::storage::{FileRest, RestState, SourceFile};
pub(in crate::ops) use extra::{ExtraStore, ExtraWriter};
pub use items::{ItemSpec, ItemStream, ReaderItems};
pub(in crate::ops) use lists::Lists;
pub use outline::Outline;
pub use tar_index::TarIndex;
pub(in crate::ops) use tar_index::reason_text;

use crate::base::Base;
use crate::codec::Compression;
use crate::entropy::random;
use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::monitor::Monitor;
use crate::repo::{Repository, Session};
use crate::snapshot::{Origin, Snapshot, SnapshotItem};
use crate::storage::prefetch;
use feed::ItemOptions;
use items::check_text;
use sequence::Sequence;
use session_lease::SessionLease;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Options of an ingest and metadata of its snapshot.
#[derive(Debug, Clone)]
pub struct IngestOptions {
    /// Tags of the snapshot.
    pub tags: BTreeMap<String, String>,
    /// Time of the data, in milliseconds since 1970; default: the start of the ingest.
    pub created_at_ms: Option<i64>,
    /// Compression of new chunks; default: that of the repository.
    pub compression: Option<Compression>,
    /// Also compute the SHA-256 of each item.
    pub digest_sha256: bool,
    /// Whether items that are tars get a member index.
    pub tar_index: TarIndex,
    /// The version of this software that the manifest states; default: its own. Another one only
    /// where the bytes of an earlier version are compared.
    pub writer_version: &'static str,
    /// For a copy: what it is a copy of.
    pub copy_of: Option<CopyOf>,
}

/// The snapshot that is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyOf {
    /// The snapshot that was ingested first.
    pub origin: Origin,
    /// Its largest possible chunk, in bytes: chunks are taken as they were cut.
    pub largest_chunk: u32,
}

impl IngestOptions {
    fn of_items(&self) -> ItemOptions {
        ItemOptions {
            digest: self.digest_sha256,
            tar_index: self.tar_index,
        }
    }
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self {
            tags: BTreeMap::new(),
            created_at_ms: None,
            compression: None,
            digest_sha256: false,
            tar_index: TarIndex::default(),
            writer_version: env!("CARGO_PKG_VERSION"),
            copy_of: None,
        }
    }
}

/// Backs up `items` as one snapshot. Waits while other ingests of the handle use its memory;
/// nothing is read before that.
///
/// # Errors
/// `SourceFailed` (or the error that the stream reports), `Cancelled`, `Closed`, `InvalidArgument`
/// (item names, tags), `RepositoryLocked`, `Conflict`, `LeaseRemoved`, `KillListCorrupt`,
/// `RepositoryNotFound`, `RepositoryChanged`, `Unreadable`, `NoSpace`, `NoMemory`, `NoThreads`,
/// `Storage`, `ReadOnly`, `LocksUnsupported`. After any of them there is no snapshot, and a retry
/// can reuse the stored chunks.
pub fn ingest(
    repo: &Arc<Repository>,
    items: &mut dyn ItemStream,
    options: &IngestOptions,
    monitor: &dyn Monitor,
) -> Result<Snapshot> {
    ingest_with(repo, 1, options, monitor, |session| {
        lanes::store_one_by_one(session, items, options.of_items(), monitor)
    })
}

/// Same as [`ingest`], with several streams of items that are read concurrently, each on its own
/// thread. `on_failure` is called once, when the first stream has failed: the others end at their
/// next read, and their sources can stop.
///
/// # Errors
/// Those of [`ingest`]; the first one that occurred.
pub fn ingest_lanes(
    repo: &Arc<Repository>,
    lanes: &mut [Box<dyn ItemStream + Send + '_>],
    options: &IngestOptions,
    monitor: &dyn Monitor,
    on_failure: &(dyn Fn(&Error) + Sync),
) -> Result<Snapshot> {
    ingest_with(repo, lanes.len(), options, monitor, |session| {
        lanes::store_at_once(session, lanes, options.of_items(), monitor, on_failure)
    })
}

/// Same as [`ingest`], and gives the first item an extra of these chunks, as a later version may
/// write it.
#[cfg(any(test, feature = "testing"))]
pub fn ingest_with_extra(
    repo: &Arc<Repository>,
    items: &mut dyn ItemStream,
    options: &IngestOptions,
    (kind, chunks): (&str, &[&[u8]]),
    monitor: &dyn Monitor,
) -> Result<Snapshot> {
    ingest_with(repo, 1, options, monitor, |session| {
        let mut stored = lanes::store_one_by_one(session, items, options.of_items(), monitor)?;
        let mut extra = ExtraWriter::new(&**session, repo.config().chunking.max);
        chunks.iter().try_for_each(|chunk| extra.push(chunk))?;
        if let Some(item) = stored.first_mut() {
            item.extra.push(extra.finish(kind)?);
        }
        Ok(stored)
    })
}

/// Makes one snapshot of the items that `store` stores in the session that it gets. All ingests and
/// copies commit through it.
pub(in crate::ops) fn ingest_with(
    repo: &Arc<Repository>,
    lanes: usize,
    options: &IngestOptions,
    monitor: &dyn Monitor,
    store: impl FnOnce(&Arc<Session>) -> Result<Vec<SnapshotItem>>,
) -> Result<Snapshot> {
    repo.check_writable()?;
    repo.check_running(monitor)?;
    check_text("tag", options.tags.iter().flat_map(|(key, value)| [key, value]))?;
    // before acquiring anything that another operation could wait for (repo/memory.rs)
    let _operation = repo.enter_ingest(lanes, monitor)?;
    repo.check_running(monitor)?;
    let _ahead = prefetch(repo.storage(), Base::first_reads);
    repo.begin_writing()?;
    let created_at_ms = options.created_at_ms.unwrap_or_else(|| repo.now_ms());
    monitor.begins(repo.operation_share());

    repo.clean_leftovers();
    let id = SnapshotId(random(repo.entropy())?);
    let lease = SessionLease::take(repo, id)?;
    let compression = options.compression.unwrap_or(repo.config().compression);
    let largest_chunk = options.copy_of.map_or(0, |copy| copy.largest_chunk);
    let session = Arc::new(Session::start(repo, id, compression, largest_chunk)?);

    let mut sequence = Sequence::begin(repo, options.created_at_ms.is_some());

    let outcome = store(&session)
        .and_then(|items| commit::commit(&session, items, options, created_at_ms, &mut sequence, monitor));
    drop(sequence);
    match outcome {
        Ok(snapshot) => {
            drop(lease);
            repo.merge_index_if_due();
            repo.keep_reserve();
            Ok(snapshot)
        }
        Err(error) => {
            if let Err(replaced) = session.check_folder() {
                // the folder was replaced, and contains nothing of this session
                return Err(match error {
                    Error::SourceFailed { .. } | Error::Cancelled | Error::Closed => error,
                    _ => replaced,
                });
            }
            match commit::give_up(&session, &error) {
                true => drop(lease),
                // the stale lease marks this session as abandoned until the next writer puts the
                // record
                false => lease.leave(),
            }
            Err(error)
        }
    }
}
