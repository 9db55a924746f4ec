//! Read-ahead of a restore: adjacent chunks of a pack form a run, and the workers read, open and
//! prove the runs within a bounded window.

use super::piece::{Chunk, Chunks, Spare};
use crate::base::{Plain, decode_unproven, meta_of, prove_ids};
use crate::error::{Error, Result};
use crate::id::{ChunkId, PackId, SnapshotId};
use crate::layout;
use crate::pack::ChunkLocation;
use crate::panics;
use crate::repo::Repository;
use crate::repo::read::{ReadScratch, get_chunk};
use crate::sync::lock;
use std::collections::{HashMap, VecDeque};
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
/// Runs that are filled at once on object storage: the open packs of a session, and one more.
const MAX_OPEN: usize = 5;

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

    /// Whether it is a run of this pack.
    fn is_of(&self, pack: &PackId) -> bool {
        self.locations.first().is_some_and(|first| first.pack == *pack)
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

/// A run that a worker is reading, or has read.
struct InProgress {
    receiver: Option<Receiver<Result<Chunks>>>,
    chunks: Arc<Chunks>,
    /// Number of its chunks, and how many of them were taken.
    len: usize,
    taken: usize,
    cost: usize,
}

/// Consecutive chunks of the stream, which one run has.
pub(in crate::ops) struct Taken {
    /// All chunks of the run.
    pub chunks: Arc<Chunks>,
    /// The next ones of the stream.
    pub range: Range<usize>,
}

/// Runs that the workers are reading, and the order of their chunks in the stream.
///
/// A run consists of chunks that follow one another in the stream. On object storage several runs
/// are filled at once, each of another pack: the packs of a sealed repository take turns chunk by
/// chunk.
pub(in crate::ops) struct ReadAhead<'a> {
    repo: &'a Arc<Repository>,
    snapshot: SnapshotId,
    /// Runs that can grow, oldest first, with their numbers.
    open: VecDeque<(u64, Run)>,
    in_progress: HashMap<u64, InProgress>,
    /// The run of each chunk of the stream, and how many in a row are in that run.
    order: VecDeque<(u64, usize)>,
    next_number: u64,
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
            open: VecDeque::new(),
            in_progress: HashMap::new(),
            order: VecDeque::new(),
            next_number: 0,
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

    /// Adds the next chunk of the stream: to an open run if it follows it in the pack, else to a
    /// new one.
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
            let mut chunk = Vec::new();
            get_chunk(self.repo, &id, &mut self.scratch, &mut chunk)?;
            if chunk.len() != raw_len as usize {
                return Err(wrong_length(self.snapshot, &id));
            }
            let number = self.number();
            let read = InProgress {
                receiver: None,
                chunks: Arc::new(Chunks::one(chunk)),
                len: 1,
                taken: 0,
                cost,
            };
            self.in_progress.insert(number, read);
            self.note(number);
            return Ok(());
        };
        let number = match self.open.iter().position(|(_, run)| self.joins(run, &location, cost)) {
            Some(at) => self.open[at].0,
            None => {
                // a pack has one open run
                let same_pack = |(_, run): &(u64, Run)| run.is_of(&location.pack);
                if let Some(at) = self.open.iter().position(same_pack) {
                    self.dispatch(at);
                }
                if self.open.len() == self.most_open() {
                    self.dispatch(0);
                }
                let number = self.number();
                self.open.push_back((number, Run::at(&location)));
                number
            }
        };
        if let Some((_, run)) = self.open.iter_mut().find(|(open, _)| *open == number) {
            run.span = run.span_with(&location);
            run.stored_bytes += u64::from(location.entry.payload_len);
            run.locations.push(location);
            run.cost += cost;
        }
        self.note(number);
        Ok(())
    }

    fn most_open(&self) -> usize {
        if self.is_remote { MAX_OPEN } else { 1 }
    }

    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// The next chunk of the stream is the next one of this run.
    fn note(&mut self, number: u64) {
        match self.order.back_mut() {
            Some((last, count)) if *last == number => *count += 1,
            _ => self.order.push_back((number, 1)),
        }
    }

    fn joins(&self, run: &Run, next: &ChunkLocation, cost: usize) -> bool {
        run.is_of(&next.pack)
            && run.cost + cost <= self.max_run
            && run.stored_bytes + u64::from(next.entry.payload_len) <= MAX_STORED_RUN
            && match self.is_remote {
                true => run.is_near(next),
                false => run.is_adjacent(next),
            }
    }

    /// Starts to read an open run.
    fn dispatch(&mut self, at: usize) {
        let Some((number, run)) = self.open.remove(at) else {
            return;
        };
        let (sender, receiver) = sync_channel(1);
        let reading = InProgress {
            receiver: Some(receiver),
            chunks: Arc::new(Chunks::one(Vec::new())),
            len: run.locations.len(),
            taken: 0,
            cost: run.cost,
        };
        self.in_progress.insert(number, reading);
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
        match self.is_remote {
            true => self.repo.executor().spawn_waiting(Box::new(job)),
            false => self.repo.executor().spawn(Box::new(job)),
        }
    }

    /// Waits for the next chunks of the stream; `None` when there are none.
    pub(in crate::ops) fn take_next(&mut self) -> Result<Option<Taken>> {
        let Some((number, count)) = self.order.front().copied() else {
            return Ok(None);
        };
        // unless the window is full, nothing more will come. And the chunks of open runs take
        // turns, so that the others are needed soon
        if !self.is_full() || self.open.iter().any(|(open, _)| *open == number) {
            while !self.open.is_empty() {
                self.dispatch(0);
            }
        }
        let missing = || Error::Internal {
            reason: "a run of a restore is missing".to_owned(),
        };
        let run = self.in_progress.get_mut(&number).ok_or_else(missing)?;
        if let Some(receiver) = run.receiver.take() {
            let chunks = receiver.recv().map_err(|_| Error::Panicked {
                reason: "a worker panicked".to_owned(),
            })?;
            run.chunks = Arc::new(chunks?);
        }
        let range = run.taken..run.taken + count;
        run.taken = range.end;
        let chunks = Arc::clone(&run.chunks);
        if run.taken == run.len {
            self.bytes -= run.cost;
            self.in_progress.remove(&number);
        }
        self.order.pop_front();
        Ok(Some(Taken { chunks, range }))
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
        for (_, run) in self.in_progress.drain() {
            let _ = run.receiver.map(|receiver| receiver.recv());
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
