//! Streams in, one snapshot out.
//!
//! Order is everything here (`docs/invariants.md`): packs, their `.idx`, the segment, all durable, and only then the
//! manifest, created if absent, under the shared commit lock and after a last look at every pack the snapshot relies on.
//! A source that fails never becomes a snapshot; what was stored by then is published as reusable chunks.

mod commit;
mod feed;
mod lanes;
mod outline;

pub use crate::storage::SourceFile;
pub use outline::Outline;

use crate::clock::format_time;
use crate::codec::Compression;
use crate::entropy::random;
use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::layout;
use crate::lock::{Lease, lease};
use crate::monitor::Monitor;
use crate::repo::Repository;
use crate::repo::Session;
use crate::snapshot::{Snapshot, SnapshotItem};
use std::collections::BTreeMap;
use std::io::Read;
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

/// Name and kind of one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemSpec {
    /// Unique within the snapshot, 1 to 4096 bytes.
    pub name: String,
    /// For people, as `database-dump`.
    pub kind: String,
    /// Bytes that its source has promised; another size is a failure of the source.
    pub expected_size: Option<u64>,
    /// Its place among the items of the snapshot; those with the same stand in the order in which they came.
    pub place: u64,
}

impl ItemSpec {
    /// An item of any size.
    pub fn new(name: &str, kind: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: kind.to_owned(),
            expected_size: None,
            place: 0,
        }
    }

    /// Fails once more bytes have come than were promised, and at the end also when fewer have.
    fn check_size(&self, size: u64, at_end: bool) -> Result<()> {
        let reason = match self.expected_size {
            Some(expected) if size > expected => format!("it gave more than the {expected} bytes that were expected"),
            Some(expected) if at_end && size < expected => {
                format!("it gave {size} bytes, and {expected} were expected")
            }
            _ => return Ok(()),
        };
        Err(Error::SourceFailed {
            item: self.name.clone(),
            reason,
        })
    }
}

/// Where the items of an ingest come from, one after the other.
pub trait ItemStream {
    /// The next item, or `None` behind the last. Called first, and then each time an item has ended.
    fn next_item(&mut self) -> Result<Option<ItemSpec>>;
    /// Reads on in the present item; 0 at its end. Any error ends the ingest without a snapshot.
    fn read(&mut self, out: &mut [u8]) -> Result<usize>;
}

/// Items read from readers, in order.
pub struct ReaderItems<'a> {
    waiting: std::vec::IntoIter<(ItemSpec, Box<dyn Read + Send + 'a>)>,
    current: Option<(ItemSpec, Box<dyn Read + Send + 'a>)>,
}

impl<'a> ReaderItems<'a> {
    /// The given items.
    pub fn new(items: Vec<(ItemSpec, Box<dyn Read + Send + 'a>)>) -> Self {
        Self {
            waiting: items.into_iter(),
            current: None,
        }
    }

    /// One item.
    pub fn one(name: &str, kind: &str, reader: impl Read + Send + 'a) -> Self {
        Self::new(vec![(ItemSpec::new(name, kind), Box::new(reader))])
    }
}

impl ItemStream for ReaderItems<'_> {
    fn next_item(&mut self) -> Result<Option<ItemSpec>> {
        self.current = self.waiting.next();
        Ok(self.current.as_ref().map(|(spec, _)| spec.clone()))
    }

    fn read(&mut self, out: &mut [u8]) -> Result<usize> {
        let Some((spec, reader)) = self.current.as_mut() else {
            return Ok(0);
        };
        loop {
            match reader.read(out) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(Error::SourceFailed {
                        item: spec.name.clone(),
                        reason: error.to_string(),
                    });
                }
                Ok(len) => return Ok(len),
            }
        }
    }
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

/// The lease of an ingest. It is durable before anything of its session is: the copy of a manifest, without manifest,
/// record and lease, is that of a lost snapshot. Removed by force, it never comes back: the ingest fails.
struct Presence {
    lease: Option<Lease>,
}

impl Presence {
    fn take(repo: &Repository, id: SnapshotId) -> Result<Self> {
        let storage = repo.storage();
        let started_at = format_time(repo.now_ms());
        let lease = Lease::take(storage, id, lease::INGEST, started_at)?;
        storage.include_in_barrier(layout::LOCKS);
        storage.barrier()?;
        Ok(Self { lease: Some(lease) })
    }

    /// Ends it as a killed process would: a file that is still there stays.
    fn leave(mut self) {
        if let Some(lease) = self.lease.take() {
            lease.leave();
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        // a panic may leave the copy of a manifest: whoever finds the lease of a dead session leaves the record
        if std::thread::panicking()
            && let Some(lease) = self.lease.take()
        {
            lease.leave();
        }
    }
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

/// Longest name, kind, tag key or tag value in bytes.
const MAX_TEXT_LEN: usize = 4096;

fn check_text<'t>(what: &str, texts: impl Iterator<Item = &'t String>) -> Result<()> {
    for text in texts {
        if text.len() > MAX_TEXT_LEN {
            return Err(Error::InvalidArgument {
                reason: format!("A {what} is longer than {MAX_TEXT_LEN} bytes"),
            });
        }
    }
    Ok(())
}

/// Names are data, so anything goes but nothing and too much.
fn check_item(spec: &ItemSpec) -> Result<()> {
    check_text("item name or type", [&spec.name, &spec.kind].into_iter())?;
    if spec.name.is_empty() {
        return Err(Error::InvalidArgument {
            reason: "An item has no name".to_owned(),
        });
    }
    Ok(())
}
