//! Snapshots out again, exactly.
//!
//! In words: walk the list of chunk ids; find each chunk's place; chunks that lie side by side in a pack form a *run*; the
//! workers read, open and prove the runs ahead of time, within a bounded window; give the bytes out in order. A byte leaves
//! only after its chunk's name was computed again. The end is reached with exactly the right number of bytes, or an error
//! is returned.

use super::snapshots::get_snapshot;
use crate::base::{decode_stored, meta_of};
use crate::error::{Error, Result};
use crate::id::{ChunkId, SnapshotId};
use crate::layout;
use crate::monitor::{Monitor, Progress};
use crate::pack::ChunkLocation;
use crate::panics;
use crate::repo::Repository;
use crate::repo::read::{ReadScratch, get_chunk, get_node};
use crate::snapshot::{ListWalker, Snapshot};
use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

/// What of a snapshot is wanted.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// One item by name; default all, one after the other in manifest order.
    pub item: Option<String>,
    /// First byte and end (exclusive; default the end of the data) of what is wanted.
    pub range: Option<(u64, Option<u64>)>,
}

/// What will be given out.
#[derive(Debug, Clone)]
pub struct RestorePlan {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Numbers of its items, in order.
    items: Vec<usize>,
    start: u64,
    end: u64,
}

impl RestorePlan {
    /// Bytes that the restore will give.
    pub fn size(&self) -> u64 {
        self.end - self.start
    }

    /// Chunks of the wanted items.
    pub fn chunk_count(&self) -> u64 {
        let counts = self.items.iter().map(|&number| self.snapshot.items[number].chunk_count);
        counts.fold(0, u64::saturating_add)
    }
}

/// Finds the snapshot and checks what is wanted of it. `id` is a whole id, `latest`, or an unambiguous prefix.
///
/// # Errors
/// `SnapshotNotFound`, `SnapshotAmbiguous`, `ItemNotFound`, `Range`, `ManifestCorrupt`, `Storage`.
pub fn plan_restore(repo: &Repository, id: &str, options: &RestoreOptions) -> Result<RestorePlan> {
    let snapshot = get_snapshot(repo, id)?;
    let items = match &options.item {
        None => (0..snapshot.items.len()).collect(),
        Some(name) => {
            let number = snapshot.items.iter().position(|item| item.name == *name);
            vec![number.ok_or_else(|| Error::ItemNotFound {
                snapshot: snapshot.id,
                item: name.clone(),
            })?]
        }
    };
    let size = items.iter().map(|&number| snapshot.items[number].size).sum();
    let (start, end) = options
        .range
        .map_or((0, size), |(start, end)| (start, end.unwrap_or(size)));
    if start > end || end > size {
        return Err(Error::Range { start, end, size });
    }
    Ok(RestorePlan {
        snapshot,
        items,
        start,
        end,
    })
}

/// Largest part of the plaintext that is in memory ahead of the sink, in bytes.
const MAX_WINDOW: usize = 32 << 20;
/// Largest run, in bytes of plaintext: enough to keep a worker busy, small enough to spread.
const MAX_RUN: usize = 2 << 20;
/// What a chunk counts in the window beside its bytes: its place, its buffer. Else tiny chunks would fill the memory.
const CHUNK_COST: usize = 1024;
/// The same as it is stored: no more than what one chunk may take, whatever an index says.
const MAX_STORED_RUN: u64 = 16 << 20;

/// Gives the planned bytes to `sink` in order, in pieces of at most one chunk.
///
/// # Errors
/// `ChunkMissing`, `ChunkCorrupt`, `PackMissing`, `PackCorrupt`, `ManifestCorrupt` (its lists), `Cancelled`, `Closed`,
/// `Storage`, or what `sink` returns.
pub fn restore(
    repo: &Arc<Repository>,
    plan: &RestorePlan,
    monitor: &dyn Monitor,
    sink: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let _operation = repo.enter();
    monitor.begins(repo.operation_share());
    let result = match restore_chunks(repo, plan, monitor, sink) {
        Ok(()) => Ok(()),
        failed => repo.unless_replaced(failed),
    };
    // of one that is to stop nobody waits for that: the next restore heals
    let stopped = matches!(
        result,
        Err(Error::Cancelled | Error::Closed | Error::RepositoryNotFound { .. } | Error::RepositoryChanged { .. })
    );
    if repo.may_heal() && !stopped {
        repo.heal_degraded_packs(monitor);
    }
    result
}

fn restore_chunks(
    repo: &Arc<Repository>,
    plan: &RestorePlan,
    monitor: &dyn Monitor,
    sink: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut walk = Walk::new(repo, plan);
    let mut ahead = ReadAhead::new(repo, plan.snapshot.id);
    let mut progress = Progress {
        total_bytes: plan.size(),
        ..Progress::default()
    };
    let mut left = plan.size();
    loop {
        while !ahead.is_full() {
            match walk.next_chunk()? {
                Some((id, raw_len)) => ahead.push(id, raw_len)?,
                None => break,
            }
        }
        let Some(chunks) = ahead.take_oldest()? else { break };
        for chunk in chunks {
            repo.check_running(monitor)?;
            let from = usize::try_from(walk.take_drop(chunk.len() as u64)).unwrap_or(chunk.len());
            let wanted = (chunk.len() - from).min(usize::try_from(left).unwrap_or(usize::MAX));
            if wanted > 0 {
                sink(&chunk[from..from + wanted])?;
            }
            left -= wanted as u64;
            progress.done_bytes += wanted as u64;
            progress.chunks += 1;
            ahead.recycle(chunk);
        }
        progress.items_done = walk.items_done();
        monitor.progress(&progress);
    }
    if left > 0 {
        return Err(Error::Internal {
            reason: format!("{left} bytes of the restore were not given out"),
        });
    }
    Ok(())
}

/// An error on the way through a list: of the list itself, or of reading its nodes.
enum WalkError {
    List(crate::snapshot::Error),
    Engine(Error),
}

impl From<crate::snapshot::Error> for WalkError {
    fn from(error: crate::snapshot::Error) -> Self {
        Self::List(error)
    }
}

/// The chunks of all wanted items in order, from the one with the first wanted byte to the one with the last.
struct Walk<'a> {
    repo: &'a Repository,
    plan: &'a RestorePlan,
    /// Place in `plan.items`.
    item: usize,
    walker: Option<ListWalker>,
    /// Where the present item begins in the whole stream.
    item_start: u64,
    /// End of the last chunk given, in the whole stream.
    position: u64,
    /// Bytes before the first wanted one in the chunks given and not dropped yet.
    drop: u64,
    begun: bool,
    scratch: ReadScratch,
}

impl<'a> Walk<'a> {
    fn new(repo: &'a Repository, plan: &'a RestorePlan) -> Self {
        Self {
            repo,
            plan,
            item: 0,
            walker: None,
            item_start: 0,
            position: 0,
            drop: 0,
            begun: false,
            scratch: ReadScratch::default(),
        }
    }

    fn items_done(&self) -> u64 {
        self.item as u64
    }

    /// How much of a chunk of `len` bytes lies before the first wanted byte.
    fn take_drop(&mut self, len: u64) -> u64 {
        let dropped = self.drop.min(len);
        self.drop -= dropped;
        dropped
    }

    fn next_chunk(&mut self) -> Result<Option<(ChunkId, u32)>> {
        if self.begun && self.position >= self.plan.end || self.plan.size() == 0 {
            return Ok(None);
        }
        while let Some(item) = self
            .plan
            .items
            .get(self.item)
            .map(|&number| &self.plan.snapshot.items[number])
        {
            let corrupt = |reason: String| Error::ManifestCorrupt {
                snapshot: self.plan.snapshot.id,
                reason: format!("the list of item {:?}: {reason}", item.name),
            };
            let first = self.plan.start.saturating_sub(self.item_start);
            if first < item.size {
                if self.walker.is_none() {
                    self.walker = Some(ListWalker::new(item, first).map_err(|error| corrupt(error.to_string()))?);
                }
                let (repo, scratch) = (self.repo, &mut self.scratch);
                let mut fetch = |id: &ChunkId| get_node(repo, id, scratch).map_err(WalkError::Engine);
                let next = self
                    .walker
                    .as_mut()
                    .map_or(Ok(None), |walker| walker.next_chunk(&mut fetch));
                let next = next.map_err(|error| match error {
                    WalkError::Engine(error) => error,
                    WalkError::List(error) => corrupt(error.to_string()),
                })?;
                if let Some(chunk) = next {
                    let offset = self.item_start + chunk.offset;
                    if !self.begun {
                        self.begun = true;
                        self.drop = self.plan.start.saturating_sub(offset);
                    }
                    self.position = offset + u64::from(chunk.raw_len);
                    return Ok(Some((chunk.id, chunk.raw_len)));
                }
                if self.position != self.item_start + item.size {
                    return Err(corrupt("it ends too early".to_owned()));
                }
            }
            self.item_start += item.size;
            self.item += 1;
            self.walker = None;
        }
        Ok(None)
    }
}

type Chunks = Vec<Vec<u8>>;

/// Chunks that lie side by side in one pack.
struct Run {
    locations: Vec<ChunkLocation>,
    /// Bytes of plaintext and what the chunks cost beside them.
    cost: usize,
    stored_bytes: u64,
}

/// Where a stored chunk ends in its pack; both numbers come from disk.
fn end_of(location: &ChunkLocation) -> u64 {
    u64::from(location.entry.offset) + u64::from(location.entry.payload_len)
}

/// Runs that the workers are reading, oldest first.
struct ReadAhead<'a> {
    repo: &'a Arc<Repository>,
    snapshot: SnapshotId,
    open: Option<Run>,
    under_way: VecDeque<(Receiver<Result<Chunks>>, usize)>,
    bytes: usize,
    spare: Arc<Mutex<Chunks>>,
    scratch: ReadScratch,
}

impl<'a> ReadAhead<'a> {
    fn new(repo: &'a Arc<Repository>, snapshot: SnapshotId) -> Self {
        Self {
            repo,
            snapshot,
            open: None,
            under_way: VecDeque::new(),
            bytes: 0,
            spare: Arc::default(),
            scratch: ReadScratch::default(),
        }
    }

    /// Bytes of plaintext ahead of the sink, now: less when other operations share the memory. One
    /// chunk is always let in.
    fn window(&self) -> usize {
        (self.repo.operation_share() / 4).clamp(1, MAX_WINDOW)
    }

    fn is_full(&self) -> bool {
        self.bytes >= self.window()
    }

    /// Adds the next chunk of the stream: to the open run if it lies right behind it, else to a new one.
    fn push(&mut self, id: ChunkId, raw_len: u32) -> Result<()> {
        let cost = raw_len as usize + CHUNK_COST;
        self.bytes += cost;
        let location = self
            .repo
            .locate(&id)?
            .into_iter()
            .find(|location| location.entry.raw_len == raw_len);
        let Some(location) = location else {
            // unknown so far, or known with another length: the slow way tries everything, or says what is wrong
            self.dispatch_open();
            let mut chunk = Vec::new();
            get_chunk(self.repo, &id, &mut self.scratch, &mut chunk)?;
            if chunk.len() != raw_len as usize {
                return Err(wrong_length(self.snapshot, &id));
            }
            let (sender, receiver) = sync_channel(1);
            let _ = sender.send(Ok(vec![chunk]));
            self.under_way.push_back((receiver, cost));
            return Ok(());
        };
        let joins = self.open.as_ref().is_some_and(|run| {
            run.cost + cost <= MAX_RUN
                && run.stored_bytes + u64::from(location.entry.payload_len) <= MAX_STORED_RUN
                && run
                    .locations
                    .last()
                    .is_some_and(|last| last.pack == location.pack && end_of(last) == u64::from(location.entry.offset))
        });
        if !joins {
            self.dispatch_open();
        }
        let run = self.open.get_or_insert_with(|| Run {
            locations: Vec::new(),
            cost: 0,
            stored_bytes: 0,
        });
        run.stored_bytes += u64::from(location.entry.payload_len);
        run.locations.push(location);
        run.cost += cost;
        Ok(())
    }

    fn dispatch_open(&mut self) {
        let Some(run) = self.open.take() else { return };
        let (sender, receiver) = sync_channel(1);
        self.under_way.push_back((receiver, run.cost));
        let repo = Arc::clone(self.repo);
        let spare = Arc::clone(&self.spare);
        let snapshot = self.snapshot;
        let job = move || {
            panics::point("ca-reader");
            let chunks = read_run(&repo, snapshot, &run.locations, &spare);
            drop(repo);
            // nobody listens any more when the restore was given up
            let _ = sender.send(chunks);
        };
        self.repo.executor().spawn(Box::new(job));
    }

    /// Waits for the oldest run; `None` when there is none.
    fn take_oldest(&mut self) -> Result<Option<Chunks>> {
        if self.under_way.is_empty() || !self.is_full() {
            self.dispatch_open();
        }
        let Some((receiver, cost)) = self.under_way.pop_front() else {
            return Ok(None);
        };
        self.bytes -= cost;
        let chunks = receiver.recv().map_err(|_| Error::Panicked {
            reason: "a worker panicked".to_owned(),
        })?;
        chunks.map(Some)
    }

    fn recycle(&self, chunk: Vec<u8>) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let kept: usize = spare.iter().map(Vec::capacity).sum();
        if kept + chunk.capacity() <= self.window() {
            spare.push(chunk);
        }
    }
}

/// The bytes are those of that name, so it is the list or the manifest that is wrong.
fn wrong_length(snapshot: SnapshotId, chunk: &ChunkId) -> Error {
    Error::ManifestCorrupt {
        snapshot,
        reason: format!("chunk {chunk} has another length than is written there"),
    }
}

impl Drop for ReadAhead<'_> {
    fn drop(&mut self) {
        // a restore that was given up: its workers still hold the repository, and may even heal its index
        for (receiver, _) in self.under_way.drain(..) {
            let _ = receiver.recv();
        }
    }
}

/// Reads the chunks of a run with one call to the storage. Whatever does not come out right is tried the slow way.
fn read_run(
    repo: &Repository,
    snapshot: SnapshotId,
    locations: &[ChunkLocation],
    spare: &Mutex<Chunks>,
) -> Result<Chunks> {
    let (Some(first), Some(last)) = (locations.first(), locations.last()) else {
        return Ok(Vec::new());
    };
    let base = u64::from(first.entry.offset);
    // side by side and at most MAX_STORED_RUN together
    let mut stored = vec![0u8; (end_of(last) - base) as usize];
    let read = repo.storage().get_range(&layout::pack(&first.pack), base, &mut stored);
    let mut scratch = ReadScratch::default();
    let mut chunks = Vec::with_capacity(locations.len());
    for location in locations {
        let mut out = spare
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
            .unwrap_or_default();
        let entry = &location.entry;
        let start = (u64::from(entry.offset) - base) as usize;
        let payload = &mut stored[start..start + entry.payload_len as usize];
        let good = read.is_ok()
            && decode_stored(repo.seal(), &meta_of(entry), payload, &mut scratch.decoder, &mut out)?.is_ok();
        if !good {
            get_chunk(repo, &entry.id, &mut scratch, &mut out)?;
        }
        if out.len() != entry.raw_len as usize {
            return Err(wrong_length(snapshot, &entry.id));
        }
        chunks.push(out);
    }
    Ok(chunks)
}
