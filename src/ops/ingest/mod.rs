//! Streams in, one snapshot out.
//!
//! Order is everything here (`docs/invariants.md`): packs, their `.idx`, the segment, all durable, and only then the
//! manifest, created if absent, under the shared commit lock and after a last look at every pack the snapshot relies on.
//! A source that fails never becomes a snapshot; what was stored by then is published as reusable chunks.

mod commit;
mod feed;
mod items;
mod lane;
mod lanes;
mod outline;
mod presence;

pub use crate::storage::SourceFile;
pub use items::{ItemSpec, ItemStream, ReaderItems};
pub use outline::Outline;

use crate::codec::Compression;
use crate::entropy::random;
use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::monitor::Monitor;
use crate::repo::{Repository, Session};
use crate::snapshot::{Snapshot, SnapshotItem};
use items::check_text;
use presence::Presence;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How an ingest is done and what its snapshot says.
#[derive(Debug, Clone, Default)]
pub struct IngestOptions {
    /// What the user calls it by.
    pub tags: BTreeMap<String, String>,
    /// When the data is from, in milliseconds since 1970; default: the start of the ingest.
    pub created_at_ms: Option<i64>,
    /// Default: the repository's.
    pub compression: Option<Compression>,
    /// Also compute SHA-256 of each whole item.
    pub digest_sha256: bool,
}

/// Backs up `items` as one snapshot. Waits while other ingests of the handle use its memory;
/// nothing is read before.
///
/// # Errors
/// `SourceFailed` (or whatever the stream reports), `Cancelled`, `Closed`, `InvalidArgument` (item names, tags),
/// `RepositoryLocked`, `Conflict`, `NoSpace`, `Storage`, `ReadOnly`, `LocksUnsupported`. After any of them there is no
/// snapshot, and what was stored can be reused by the next try.
pub fn ingest(
    repo: &Arc<Repository>,
    items: &mut dyn ItemStream,
    options: &IngestOptions,
    monitor: &dyn Monitor,
) -> Result<Snapshot> {
    ingest_with(repo, 1, options, monitor, |session| {
        lanes::store_one_by_one(session, items, options.digest_sha256, monitor)
    })
}

/// The same of several streams of items that are read at once, each on a thread of its own. `on_failure` is called once,
/// when the first of them has failed: the others end at their next read, and whoever feeds them need not go on.
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
        lanes::store_at_once(session, lanes, options.digest_sha256, monitor, on_failure)
    })
}

fn ingest_with(
    repo: &Arc<Repository>,
    lanes: usize,
    options: &IngestOptions,
    monitor: &dyn Monitor,
    store: impl FnOnce(&Arc<Session>) -> Result<Vec<SnapshotItem>>,
) -> Result<Snapshot> {
    repo.check_writable()?;
    repo.check_running(monitor)?;
    check_text("tag", options.tags.iter().flat_map(|(key, value)| [key, value]))?;
    // before everything else that another operation could wait for (repo/memory.rs)
    let _operation = repo.enter_ingest(lanes, monitor)?;
    repo.check_running(monitor)?;
    repo.begin_writing()?;
    let created_at_ms = options.created_at_ms.unwrap_or_else(|| repo.now_ms());
    monitor.begins(repo.operation_share());

    repo.clean_leftovers();
    let id = SnapshotId(random(repo.entropy())?);
    let presence = Presence::take(repo, id)?;
    let compression = options.compression.unwrap_or(repo.config().compression);
    let session = Arc::new(Session::start(repo, id, compression)?);

    let outcome = store(&session).and_then(|items| commit::commit(&session, items, options, created_at_ms, monitor));
    match outcome {
        Ok(snapshot) => {
            drop(presence);
            repo.merge_index_if_due();
            repo.keep_reserve();
            Ok(snapshot)
        }
        Err(error) => {
            if let Err(replaced) = session.check_place() {
                // nothing of this session is in the folder that is there now
                return Err(match error {
                    Error::SourceFailed { .. } | Error::Cancelled | Error::Closed => error,
                    _ => replaced,
                });
            }
            match commit::give_up(&session, &error) {
                true => drop(presence),
                // the lease tells others that there is nothing lost, and the next one who writes leaves the record
                false => presence.leave(),
            }
            Err(error)
        }
    }
}
