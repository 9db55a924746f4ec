//! The pipeline of an ingest: the calling thread reads the source into large buffers and cuts them;
//! each full buffer (a batch) then goes through one worker of the pool from hashing to the open
//! pack. All workers do the same work, so none waits for another stage. Results arrive in any order
//! and are sorted by batch number.
//!
//! Memory: each lane of the ingest owns one buffer; more are borrowed from the handle's pool when
//! it has space, at most one per worker and one more. The source is read only when a buffer is
//! free, which provides the backpressure. A returned buffer that no longer fits the share of the
//! ingest is replaced, so that batches shrink when other operations begin.

use super::items::{ItemSpec, ItemStream, check_item};
use super::lane::Lane;
use super::lists::Lists;
use super::tar_index::{Tap, TarIndex};
use crate::buffer::Buffer;
use crate::chunk::Cutter;
use crate::error::{Error, Result};
use crate::id::ChunkId;
use crate::panics;
use crate::repo::Repository;
use crate::repo::Session;
use crate::snapshot::{Extra, SnapshotItem};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Largest batch in bytes.
const MAX_BATCH: usize = 8 << 20;
/// While a worker is idle, a batch of this size is not held back to be filled further.
const EAGER_BATCH: usize = 2 << 20;
/// Interval of the checks for cancellation while waiting for the workers.
const LISTEN: Duration = Duration::from_millis(20);

/// What is made of each item besides its chunks.
#[derive(Clone, Copy)]
pub struct ItemOptions {
    /// Its SHA-256.
    pub digest: bool,
    /// The member index of a tar.
    pub tar_index: TarIndex,
}

/// What is computed from the bytes of an item while they are read, in order.
struct Taps {
    hash: Option<Sha256>,
    tar: Tap,
}

/// What is known of an item besides its chunks.
struct Described {
    spec: ItemSpec,
    sha256: Option<[u8; 32]>,
    extra: Vec<Extra>,
}

/// Current length of a batch: smaller when other operations or other lanes share the memory, but at
/// least twice the largest chunk.
fn batch_len(repo: &Repository, lanes: usize) -> usize {
    let max_chunk = repo.config().chunking.max as usize;
    let share = repo.operation_share() / lanes / (4 * (repo.executor().threads() + 2));
    share.clamp(2 * max_chunk, MAX_BATCH.max(2 * max_chunk))
}

/// A chunk within a batch's buffer.
struct Piece {
    item: usize,
    start: usize,
    len: usize,
}

/// A buffer that is being filled and cut, and then goes to a worker.
struct Batch {
    buffer: Buffer,
    pieces: Vec<Piece>,
    /// End of the last piece; the bytes after it wait for more data.
    cut_end: usize,
}

impl Batch {
    fn cut(&mut self, cutter: &Cutter, item: usize, at_end: bool) {
        while let Some(len) = cutter.cut(&self.buffer.filled()[self.cut_end..], at_end) {
            self.pieces.push(Piece {
                item,
                start: self.cut_end,
                len,
            });
            self.cut_end += len;
        }
    }

    fn store(&self, session: &Session) -> Result<Vec<(usize, ChunkId, u32)>> {
        let filled = self.buffer.filled();
        let slices: Vec<&[u8]> = self
            .pieces
            .iter()
            .map(|piece| &filled[piece.start..piece.start + piece.len])
            .collect();
        let ids = session.put_batch(&slices)?;
        Ok(ids
            .into_iter()
            .zip(&self.pieces)
            .map(|(id, piece)| (piece.item, id, piece.len as u32))
            .collect())
    }
}

/// The result of a worker.
struct Done {
    number: u64,
    buffer: Option<Buffer>,
    chunks: Result<Vec<(usize, ChunkId, u32)>>,
}

/// Sends a reply even when the worker panics, so that the feeder does not wait forever.
struct Reply {
    sender: Sender<Done>,
    number: u64,
    sent: bool,
}

impl Reply {
    fn send(mut self, buffer: Buffer, chunks: Result<Vec<(usize, ChunkId, u32)>>) {
        self.sent = true;
        let _ = self.sender.send(Done {
            number: self.number,
            buffer: Some(buffer),
            chunks,
        });
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.sent {
            let chunks = Err(Error::Panicked {
                reason: "a worker panicked".to_owned(),
            });
            let _ = self.sender.send(Done {
                number: self.number,
                buffer: None,
                chunks,
            });
        }
    }
}

/// Reads, cuts, deduplicates and stores all items of a lane. When it returns, their chunks are in
/// packs and their lists in list nodes (not all of them written yet). Each item is returned with
/// its position in the snapshot.
pub fn store_items(
    session: &Arc<Session>,
    items: &mut dyn ItemStream,
    options: ItemOptions,
    lane: Lane<'_>,
) -> Result<Vec<(u64, SnapshotItem)>> {
    let mut feeder = Feeder::new(session, lane)?;
    let result = feeder.run(items, options);
    // also after a failure: no worker may be active when the session is abandoned
    let drained = feeder.drain();
    first_or_panic(result, drained)?;
    feeder.finish_items()
}

/// The first of two failures, except that a panic takes precedence, because it closes the handle.
fn first_or_panic(first: Result<()>, later: Result<()>) -> Result<()> {
    match later {
        Err(Error::Panicked { .. }) => later,
        _ => first.and(later),
    }
}

struct Feeder<'a> {
    session: &'a Arc<Session>,
    lane: Lane<'a>,
    sender: Sender<Done>,
    receiver: Receiver<Done>,
    /// Most batches in progress at the same time.
    most_in_flight: usize,
    in_flight: usize,
    free: Vec<Buffer>,
    batch: Option<Batch>,
    tail: Vec<u8>,
    next_number: u64,
    waiting: BTreeMap<u64, Vec<(usize, ChunkId, u32)>>,
    next_collected: u64,
    items: Vec<Described>,
    lists: Lists,
    reported_items: usize,
    read_bytes: u64,
}

impl Drop for Feeder<'_> {
    fn drop(&mut self) {
        // a worker can still be active only after a panic
        while self.in_flight > 0 && self.receiver.recv().is_ok() {
            self.in_flight -= 1;
        }
    }
}

impl<'a> Feeder<'a> {
    fn new(session: &'a Arc<Session>, lane: Lane<'a>) -> Result<Self> {
        let repo = session.repo();
        let workers = repo.executor().threads();
        let (sender, receiver) = channel();
        let own = repo.pool().take_now(batch_len(repo, lane.count))?;
        Ok(Self {
            session,
            lists: Lists::new(lane.inline_chunks),
            lane,
            sender,
            receiver,
            most_in_flight: workers + 1,
            in_flight: 0,
            free: vec![own],
            batch: None,
            tail: Vec::new(),
            next_number: 0,
            waiting: BTreeMap::new(),
            next_collected: 0,
            items: Vec::new(),
            reported_items: 0,
            read_bytes: 0,
        })
    }

    /// Reads all items. When the source fails, the pieces cut up to that point are stored, so that
    /// a retry can reuse them.
    fn run(&mut self, items: &mut dyn ItemStream, options: ItemOptions) -> Result<()> {
        let result = self.read_items(items, options);
        if let Some(batch) = self.batch.take().filter(|batch| !batch.pieces.is_empty()) {
            self.spawn(batch);
        }
        result
    }

    fn read_items(&mut self, items: &mut dyn ItemStream, options: ItemOptions) -> Result<()> {
        while let Some(spec) = items.next_item()? {
            check_item(&spec)?;
            self.lane.shared.take_name(&spec)?;
            let item = self.items.len();
            let mut taps = Taps {
                hash: options.digest.then(Sha256::new),
                tar: Tap::new(options.tar_index),
            };
            self.items.push(Described {
                spec,
                sha256: None,
                extra: Vec::new(),
            });
            let before = self.read_bytes;
            let mut more = true;
            while more {
                more = self.read_once(items, item, &mut taps)?;
                self.items[item].spec.check_size(self.read_bytes - before, !more)?;
            }
            let described = &mut self.items[item];
            described.sha256 = taps.hash.map(|hash| hash.finalize().into());
            let extra = taps.tar.finish(self.session, self.lane.shared, &described.spec.name)?;
            described.extra.extend(extra);
        }
        Ok(())
    }

    /// Reads a piece of the item and cuts it; `false` at the item's end.
    fn read_once(&mut self, items: &mut dyn ItemStream, item: usize, taps: &mut Taps) -> Result<bool> {
        let repo = self.session.repo();
        repo.check_running(self.lane.shared)?;
        let mut batch = match self.batch.take() {
            Some(batch) => batch,
            None => Batch {
                buffer: self.next_buffer()?,
                pieces: Vec::new(),
                cut_end: 0,
            },
        };
        let before = batch.buffer.filled_len();
        let read = items.read(batch.buffer.spare());
        if let Ok(len) = read {
            batch.buffer.advance(len);
            let bytes = &batch.buffer.filled()[before..];
            if let Some(hash) = &mut taps.hash {
                hash.update(bytes);
            }
            taps.tar.feed(bytes);
            self.read_bytes += len as u64;
            self.lane.shared.add_read_bytes(len);
            batch.cut(repo.cutter(), item, len == 0);
        }
        let idle = self.in_flight < repo.executor().threads();
        let due = batch.buffer.spare_len() == 0 || (idle && batch.cut_end >= EAGER_BATCH);
        self.batch = Some(batch);
        let len = read?;
        if due {
            self.dispatch()?;
        }
        Ok(len > 0)
    }

    /// Hands the cut pieces to the workers; the next batch begins with the remaining bytes.
    fn dispatch(&mut self) -> Result<()> {
        let Some(batch) = self.batch.take() else { return Ok(()) };
        self.tail.clear();
        self.tail.extend_from_slice(&batch.buffer.filled()[batch.cut_end..]);
        self.spawn(batch);
        let mut buffer = match self.free.pop().or_else(|| self.borrow_buffer()) {
            Some(buffer) => buffer,
            None => self.next_buffer()?,
        };
        buffer.clear();
        // the tail is shorter than a chunk, and a buffer holds two
        buffer.extend_from_slice(&self.tail).map_err(|error| Error::Internal {
            reason: format!("the tail does not fit in a batch: {error}"),
        })?;
        self.batch = Some(Batch {
            buffer,
            pieces: Vec::new(),
            cut_end: 0,
        });
        while let Ok(done) = self.receiver.try_recv() {
            self.collect(done)?;
        }
        Ok(())
    }

    fn spawn(&mut self, batch: Batch) {
        let reply = Reply {
            sender: self.sender.clone(),
            number: self.next_number,
            sent: false,
        };
        self.next_number += 1;
        self.in_flight += 1;
        let session = Arc::clone(self.session);
        let job = move || {
            panics::point("ca-worker");
            let chunks = batch.store(&session);
            drop(session);
            reply.send(batch.buffer, chunks);
        };
        self.session.repo().executor().spawn(Box::new(job));
    }

    fn borrow_buffer(&self) -> Option<Buffer> {
        if self.in_flight >= self.most_in_flight {
            return None;
        }
        // no memory is free now: the existing buffers are enough
        let repo = self.session.repo();
        repo.pool().try_take(batch_len(repo, self.lane.count)).ok().flatten()
    }

    /// Takes a buffer back. One that is now too long, or much too short, is replaced, or returned
    /// to the pool when there is another.
    fn keep(&mut self, mut buffer: Buffer) -> Result<()> {
        let repo = self.session.repo();
        let (len, pool) = (batch_len(repo, self.lane.count), repo.pool());
        let fits = buffer.len() <= len && len <= 2 * buffer.len();
        if fits && (self.free.is_empty() || pool.lent_bytes() <= pool.limit_bytes()) {
            buffer.clear();
            self.free.push(buffer);
            return Ok(());
        }
        drop(buffer);
        if self.free.is_empty() {
            self.free.push(pool.take_now(len)?);
        }
        Ok(())
    }

    /// Returns a free buffer; waits until a worker returns one.
    fn next_buffer(&mut self) -> Result<Buffer> {
        loop {
            if let Some(mut buffer) = self.free.pop() {
                buffer.clear();
                return Ok(buffer);
            }
            self.collect_one()?;
        }
    }

    fn collect_one(&mut self) -> Result<()> {
        loop {
            // strong compression of a batch takes long
            self.session.repo().check_running(self.lane.shared)?;
            match self.receiver.recv_timeout(LISTEN) {
                Ok(done) => return self.collect(done),
                // the workers count each chunk
                Err(RecvTimeoutError::Timeout) => self.report(),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Internal {
                        reason: "the workers have exited".to_owned(),
                    });
                }
            }
        }
    }

    fn collect(&mut self, done: Done) -> Result<()> {
        self.in_flight -= 1;
        let kept = done.buffer.map_or(Ok(()), |buffer| self.keep(buffer));
        self.waiting.insert(done.number, done.chunks?);
        kept?;
        while let Some(chunks) = self.waiting.remove(&self.next_collected) {
            self.next_collected += 1;
            for (item, id, len) in chunks {
                self.lists.push(self.session, item, id, len)?;
            }
        }
        self.report();
        Ok(())
    }

    /// Waits for all batches, also after a failure; returns the first failure, or a panic.
    fn drain(&mut self) -> Result<()> {
        let mut result = Ok(());
        while self.in_flight > 0 {
            let Ok(done) = self.receiver.recv() else { break };
            let collected = self.collect(done);
            result = first_or_panic(result, collected);
        }
        result
    }

    fn report(&mut self) {
        let done = self.lists.finished();
        self.lane.shared.report(self.session, done - self.reported_items);
        self.reported_items = done;
    }

    fn finish_items(mut self) -> Result<Vec<(u64, SnapshotItem)>> {
        self.lists.finish_before(self.session, self.items.len())?;
        self.report();
        let items = std::mem::take(&mut self.items)
            .into_iter()
            .zip(self.lists.take_finished());
        Ok(items
            .map(|(Described { spec, sha256, extra }, list)| {
                let item = SnapshotItem {
                    name: spec.name,
                    kind: spec.kind,
                    size: list.size,
                    chunk_count: list.chunk_count,
                    content: list.content,
                    sha256,
                    extra,
                };
                (spec.position, item)
            })
            .collect())
    }
}
