//! Read-ahead of a restore: adjacent chunks of a pack form a run, and the workers read, open and
//! prove the runs within a bounded window.

use super::piece::{Chunk, Chunks, Spare};
use crate::base::{Plain, decode_unproven, meta_of, prove_ids};
use crate::error::{Error, Result};
use crate::id::{ChunkId, SnapshotId};
use crate::layout;
use crate::pack::ChunkLocation;
use crate::panics;
use crate::repo::Repository;
use crate::repo::read::{ReadScratch, get_chunk};
use crate::sync::lock;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};

/// Most plaintext in memory ahead of the sink, in bytes.
const MAX_WINDOW: usize = 32 << 20;
/// Largest run, in bytes of plaintext: enough to keep a worker busy, small enough to spread.
const MAX_RUN: usize = 2 << 20;
/// The same on object storage, where each run is a request.
const MAX_REMOTE_RUN: usize = 8 << 20;
/// Bytes that a chunk counts in the window in addition to its data, for its location and its
/// buffer. Without this, tiny chunks would fill the memory.
const CHUNK_COST: usize = 1024;
/// Largest run in stored bytes: no more than one chunk may take, whatever an index contains.
const MAX_STORED_RUN: u64 = 16 << 20;

/// Most chunks of a run that is not contiguous.
const MAX_NEAR: usize = 512;

/// Chunks of one pack that one call reads: adjacent ones, on object storage also near ones.
struct Run {
    locations: Vec<ChunkLocation>,
    /// From the start of the first chunk in the pack to the end of the last one.
    span: Range<u64>,
    /// Bytes of plaintext plus [`CHUNK_COST`] for each chunk.
    cost: usize,
    stored_bytes: u64,
}

impl Run {
    /// An empty run for `first`.
    fn at(first: &ChunkLocation) -> Self {
        let start = u64::from(first.entry.offset);
        Self {
            locations: Vec::new(),
            span: start..start,
            cost: 0,
            stored_bytes: 0,
        }
    }

    fn span_with(&self, next: &ChunkLocation) -> Range<u64> {
        self.span.start.min(u64::from(next.entry.offset))..self.span.end.max(end_of(next))
    }

    /// Whether `next` directly follows the run in the pack.
    fn is_adjacent(&self, next: &ChunkLocation) -> bool {
        self.locations
            .last()
            .is_some_and(|last| end_of(last) == u64::from(next.entry.offset))
    }

    /// Whether `next` is so near that one request for the whole span, of which at least half is
    /// wanted, costs less than two. Workers store the chunks of a batch in any order.
    fn is_near(&self, next: &ChunkLocation) -> bool {
        let span = self.span_with(next);
        let is_in = |known: &ChunkLocation| known.entry.offset == next.entry.offset;
        self.locations.len() < MAX_NEAR
            && span.end - span.start <= MAX_STORED_RUN.min(2 * (self.stored_bytes + u64::from(next.entry.payload_len)))
            && !self.locations.iter().any(is_in)
    }
}

/// The end of a stored chunk in its pack. Both numbers come from disk, so the sum is computed in 64
/// bits.
fn end_of(location: &ChunkLocation) -> u64 {
    u64::from(location.entry.offset) + u64::from(location.entry.payload_len)
}

/// Runs that the workers are reading, oldest first.
pub(in crate::ops) struct ReadAhead<'a> {
    repo: &'a Arc<Repository>,
    snapshot: SnapshotId,
    open: Option<Run>,
    in_progress: VecDeque<(Receiver<Result<Chunks>>, usize)>,
    bytes: usize,
    is_remote: bool,
    max_run: usize,
    spare: Arc<Mutex<Spare>>,
    scratch: ReadScratch,
}

impl<'a> ReadAhead<'a> {
    pub(in crate::ops) fn new(repo: &'a Arc<Repository>, snapshot: SnapshotId) -> Self {
        Self {
            repo,
            snapshot,
            open: None,
            in_progress: VecDeque::new(),
            bytes: 0,
            is_remote: repo.storage().is_remote(),
            max_run: match repo.storage().is_remote() {
                true => MAX_REMOTE_RUN,
                false => MAX_RUN,
            },
            spare: Arc::default(),
            scratch: ReadScratch::default(),
        }
    }

    /// Current limit for the plaintext ahead of the sink, in bytes: less when other operations
    /// share the memory. One chunk is always allowed.
    fn window(&self) -> usize {
        (self.repo.operation_share() / 4).clamp(1, MAX_WINDOW)
    }

    pub(in crate::ops) fn is_full(&self) -> bool {
        self.bytes >= self.window()
    }

    /// Adds the next chunk of the stream: to the open run if it directly follows it in the pack,
    /// else to a new one.
    pub(in crate::ops) fn push(&mut self, id: ChunkId, raw_len: u32) -> Result<()> {
        let cost = raw_len as usize + CHUNK_COST;
        self.bytes += cost;
        let location = self
            .repo
            .locate(&id)?
            .into_iter()
            .find(|location| location.entry.raw_len == raw_len);
        let Some(location) = location else {
            // not in the index, or with another length: the slow path tries all sources, or returns
            // the right error
            self.dispatch_open();
            let mut chunk = Vec::new();
            get_chunk(self.repo, &id, &mut self.scratch, &mut chunk)?;
            if chunk.len() != raw_len as usize {
                return Err(wrong_length(self.snapshot, &id));
            }
            let (sender, receiver) = sync_channel(1);
            let _ = sender.send(Ok(Chunks::one(chunk)));
            self.in_progress.push_back((receiver, cost));
            return Ok(());
        };
        let joins = self.open.as_ref().is_some_and(|run| {
            run.cost + cost <= self.max_run
                && run.stored_bytes + u64::from(location.entry.payload_len) <= MAX_STORED_RUN
                && run.locations.last().is_some_and(|last| last.pack == location.pack)
                && match self.is_remote {
                    true => run.is_near(&location),
                    false => run.is_adjacent(&location),
                }
        });
        if !joins {
            self.dispatch_open();
        }
        let run = self.open.get_or_insert_with(|| Run::at(&location));
        run.span = run.span_with(&location);
        run.stored_bytes += u64::from(location.entry.payload_len);
        run.locations.push(location);
        run.cost += cost;
        Ok(())
    }

    fn dispatch_open(&mut self) {
        let Some(run) = self.open.take() else { return };
        let (sender, receiver) = sync_channel(1);
        self.in_progress.push_back((receiver, run.cost));
        let repo = Arc::clone(self.repo);
        let spare = Arc::clone(&self.spare);
        let snapshot = self.snapshot;
        lock(&spare).limit = self.window();
        let job = move || {
            panics::point("ca-reader");
            let chunks = read_run(&repo, snapshot, &run, &spare);
            drop(repo);
            // the receiver is dropped when the restore was abandoned
            let _ = sender.send(chunks);
        };
        self.repo.executor().spawn(Box::new(job));
    }

    /// Waits for the oldest run; `None` when there is none.
    pub(in crate::ops) fn take_oldest(&mut self) -> Result<Option<Chunks>> {
        if self.in_progress.is_empty() || !self.is_full() {
            self.dispatch_open();
        }
        let Some((receiver, cost)) = self.in_progress.pop_front() else {
            return Ok(None);
        };
        self.bytes -= cost;
        let chunks = receiver.recv().map_err(|_| Error::Panicked {
            reason: "a worker panicked".to_owned(),
        })?;
        chunks.map(Some)
    }
}

/// The bytes match the chunk id, so the list or the manifest is wrong.
fn wrong_length(snapshot: SnapshotId, chunk: &ChunkId) -> Error {
    Error::ManifestCorrupt {
        snapshot,
        reason: format!("the length of chunk {chunk} differs from the length in the list"),
    }
}

impl Drop for ReadAhead<'_> {
    fn drop(&mut self) {
        // the workers of an abandoned restore still hold the repository, and may even repair its
        // index
        for (receiver, _) in self.in_progress.drain(..) {
            let _ = receiver.recv();
        }
        // a reader may keep the last pieces for long, but not the buffers of finished runs
        *lock(&self.spare) = Spare::default();
    }
}

/// Reads the chunks of a run with one call to the storage, and proves them together. A chunk that
/// fails is read again on the slow path.
fn read_run(repo: &Repository, snapshot: SnapshotId, run: &Run, spare: &Arc<Mutex<Spare>>) -> Result<Chunks> {
    let locations = &run.locations;
    let Some(first) = locations.first() else {
        return Ok(Chunks::one(Vec::new()));
    };
    let (mut stored, mut scratch, mut buffers) = lock(spare).take(locations.len());
    let base = run.span.start;
    // at most MAX_STORED_RUN
    stored.resize((run.span.end - base) as usize, 0);
    let read = repo.storage().get_range(&layout::pack(&first.pack), base, &mut stored);
    // a chunk in place keeps the whole buffer, which may be far longer than what the window counts
    let cost: usize = locations
        .iter()
        .map(|location| location.entry.raw_len as usize + CHUNK_COST)
        .sum();
    let may_stay = stored.capacity() <= 2 * cost;
    let mut plain = Vec::with_capacity(locations.len());
    let mut out = buffers.pop().unwrap_or_default();
    for location in locations {
        let entry = &location.entry;
        let start = (u64::from(entry.offset) - base) as usize;
        let payload = &mut stored[start..start + entry.payload_len as usize];
        let decoded = match read {
            Ok(()) => decode_unproven(repo.seal(), &meta_of(entry), payload, &mut scratch.decoder, &mut out)?.ok(),
            Err(_) => None,
        };
        plain.push(match decoded {
            Some(Plain::Stored(range)) if may_stay => Chunk::Stored(start + range.start..start + range.end),
            Some(Plain::Stored(range)) => {
                out.clear();
                out.extend_from_slice(&payload[range]);
                Chunk::Decoded(std::mem::replace(&mut out, buffers.pop().unwrap_or_default()))
            }
            Some(Plain::Out) => Chunk::Decoded(std::mem::replace(&mut out, buffers.pop().unwrap_or_default())),
            // fails the comparison with its id, or else that of its length
            None => Chunk::Decoded(Vec::new()),
        });
    }
    let mut chunks = Chunks::new(stored, plain, spare);
    let metas = locations.iter().map(|location| meta_of(&location.entry));
    let pairs: Vec<_> = metas.zip((0..chunks.len()).map(|chunk| chunks.bytes(chunk))).collect();
    let proven = prove_ids(repo.seal(), &pairs, &mut []);
    for (at, (location, proven)) in locations.iter().zip(proven).enumerate() {
        let entry = &location.entry;
        if proven.is_err() {
            let mut out = Vec::new();
            get_chunk(repo, &entry.id, &mut scratch, &mut out)?;
            chunks.plain[at] = Chunk::Decoded(out);
        }
        if chunks.bytes(at).len() != entry.raw_len as usize {
            return Err(wrong_length(snapshot, &entry.id));
        }
    }
    chunks.release_unused();
    let mut spare = lock(spare);
    buffers.push(out);
    buffers.into_iter().for_each(|buffer| spare.keep_chunk(buffer));
    spare.keep_scratch(scratch);
    Ok(chunks)
}
