//! Stores the chunks of a copy in batches, which the workers of the target take concurrently, and
//! builds the lists of the items in order.

use crate::error::{Error, Result};
use crate::id::ChunkId;
use crate::monitor::{Monitor, Progress};
use crate::ops::Piece;
use crate::ops::ingest::Lists;
use crate::panics;
use crate::repo::Session;
use crate::snapshot::{INLINE_PER_MANIFEST, SnapshotItem};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

/// Largest batch, in bytes of plaintext.
const MAX_BATCH: usize = 8 << 20;
/// Most chunks in a batch.
const MAX_PARTS: usize = 4096;
/// Interval of the checks for cancellation while waiting for the workers.
const LISTEN: Duration = Duration::from_millis(20);

/// A chunk of a copy.
pub(super) enum Part {
    /// The target has it, with this id and length.
    Known(ChunkId, u32),
    /// Its bytes.
    New(Piece),
}

type Stored = Result<Vec<(ChunkId, u32)>>;

/// The batches of one copy.
pub(super) struct Stage<'a> {
    session: &'a Arc<Session>,
    items: &'a [SnapshotItem],
    /// The items are extras: none is inlined, and no count includes them.
    is_extra: bool,
    monitor: &'a dyn Monitor,
    sender: Sender<(u64, Stored)>,
    receiver: Receiver<(u64, Stored)>,
    batch: Vec<Part>,
    batch_bytes: usize,
    batch_len: usize,
    most_in_flight: usize,
    in_flight: usize,
    next_number: u64,
    next_collected: u64,
    arrived: BTreeMap<u64, Vec<(ChunkId, u32)>>,
    lists: Lists,
    /// The item that the next chunk belongs to, and how many of its bytes are left.
    item: usize,
    left: u64,
    done_bytes: u64,
}

/// Sends a reply even when the worker panics, so that the copy does not wait forever.
struct Reply {
    sender: Sender<(u64, Stored)>,
    number: u64,
    stored: Option<Stored>,
}

impl Reply {
    fn send(mut self, stored: Stored) {
        self.stored = Some(stored);
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        let stored = self.stored.take().unwrap_or_else(|| {
            Err(Error::Panicked {
                reason: "a worker panicked".to_owned(),
            })
        });
        // the receiver is dropped only when no batch is in flight
        let _ = self.sender.send((self.number, stored));
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        // no worker may be active when the session is abandoned
        while self.in_flight > 0 && self.receiver.recv().is_ok() {
            self.in_flight -= 1;
        }
    }
}

impl<'a> Stage<'a> {
    pub fn new(
        session: &'a Arc<Session>,
        items: &'a [SnapshotItem],
        is_extra: bool,
        monitor: &'a dyn Monitor,
    ) -> Result<Self> {
        let repo = session.repo();
        let workers = repo.executor().threads();
        let (sender, receiver) = channel();
        Ok(Self {
            session,
            items,
            is_extra,
            monitor,
            sender,
            receiver,
            batch: Vec::new(),
            batch_bytes: 0,
            batch_len: (repo.operation_share() / (4 * (workers + 2))).clamp(1, MAX_BATCH),
            most_in_flight: workers + 1,
            in_flight: 0,
            next_number: 0,
            next_collected: 0,
            arrived: BTreeMap::new(),
            lists: Lists::new(if is_extra { 0 } else { INLINE_PER_MANIFEST as u64 }),
            item: 0,
            left: items.first().map_or(0, |item| item.size),
            done_bytes: 0,
        })
    }

    /// Adds the next chunk.
    pub fn push(&mut self, part: Part) -> Result<()> {
        if let Part::New(piece) = &part {
            self.batch_bytes += piece.len();
        }
        self.batch.push(part);
        match self.batch_bytes >= self.batch_len || self.batch.len() >= MAX_PARTS {
            true => self.dispatch(),
            false => Ok(()),
        }
    }

    fn dispatch(&mut self) -> Result<()> {
        while self.in_flight >= self.most_in_flight {
            self.collect_one()?;
        }
        let batch = std::mem::take(&mut self.batch);
        self.batch_bytes = 0;
        let reply = Reply {
            sender: self.sender.clone(),
            number: self.next_number,
            stored: None,
        };
        self.next_number += 1;
        self.in_flight += 1;
        let (session, is_extra) = (Arc::clone(self.session), self.is_extra);
        let job = move || {
            panics::point("ca-worker");
            let stored = store(&session, &batch, is_extra);
            drop((session, batch));
            reply.send(stored);
        };
        self.session.repo().executor().spawn(Box::new(job));
        while let Ok((number, stored)) = self.receiver.try_recv() {
            self.collect(number, stored)?;
        }
        Ok(())
    }

    fn collect_one(&mut self) -> Result<()> {
        loop {
            self.session.repo().check_running(self.monitor)?;
            match self.receiver.recv_timeout(LISTEN) {
                Ok((number, stored)) => return self.collect(number, stored),
                Err(RecvTimeoutError::Timeout) => self.report(),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Internal {
                        reason: "the workers have exited".to_owned(),
                    });
                }
            }
        }
    }

    fn collect(&mut self, number: u64, stored: Stored) -> Result<()> {
        self.in_flight -= 1;
        self.arrived.insert(number, stored?);
        while let Some(chunks) = self.arrived.remove(&self.next_collected) {
            self.next_collected += 1;
            for (id, len) in chunks {
                self.list(id, len)?;
            }
        }
        self.report();
        Ok(())
    }

    /// Lists a chunk in its item. Chunks do not reach across items.
    fn list(&mut self, id: ChunkId, len: u32) -> Result<()> {
        while self.left == 0 {
            self.item += 1;
            self.left = self.items.get(self.item).map_or(u64::MAX, |item| item.size);
        }
        self.left = self.left.saturating_sub(u64::from(len));
        self.done_bytes += u64::from(len);
        self.lists.push(self.session, self.item, id, len)
    }

    fn report(&self) {
        if self.is_extra {
            return;
        }
        let stats = &self.session.stats;
        self.monitor.progress(&Progress {
            done_bytes: self.done_bytes,
            new_bytes: stats.new_bytes.load(Ordering::Relaxed),
            reused_bytes: stats.reused_bytes.load(Ordering::Relaxed),
            stored_bytes: stats.stored_bytes.load(Ordering::Relaxed),
            chunks: stats.chunks.load(Ordering::Relaxed),
            auto_level: self.session.auto_level(),
            ..Progress::default()
        });
    }

    /// Waits for all batches, and returns the items with the chunks of the target.
    pub fn finish(mut self) -> Result<Vec<SnapshotItem>> {
        if !self.batch.is_empty() {
            self.dispatch()?;
        }
        while self.in_flight > 0 {
            self.collect_one()?;
        }
        self.lists.finish_before(self.session, self.items.len())?;
        let lists = self.lists.take_finished();
        let items = self.items.iter().zip(lists).map(|(item, list)| SnapshotItem {
            size: list.size,
            chunk_count: list.chunk_count,
            content: list.content,
            ..item.clone()
        });
        let items: Vec<SnapshotItem> = items.collect();
        // a list whose chunks do not add up to its item is an error of the source
        match items.iter().zip(self.items).all(|(copy, item)| copy.size == item.size) && items.len() == self.items.len()
        {
            true => Ok(items),
            false => Err(Error::Internal {
                reason: "the items of a copy differ in size from the original".to_owned(),
            }),
        }
    }
}

/// Stores a batch; returns the ids and lengths of its chunks, in order.
fn store(session: &Session, batch: &[Part], is_extra: bool) -> Stored {
    let new = batch.iter().filter_map(|part| match part {
        Part::New(piece) => Some(&**piece),
        Part::Known(..) => None,
    });
    let new: Vec<&[u8]> = new.collect();
    let mut ids = match new.is_empty() {
        true => Vec::new(),
        false if is_extra => session.put_extra(&new)?,
        false => session.put_batch(&new)?,
    }
    .into_iter();
    let stored = batch.iter().map(|part| match part {
        Part::Known(id, len) => Some((*id, *len)),
        Part::New(piece) => Some((ids.next()?, u32::try_from(piece.len()).ok()?)),
    });
    stored.collect::<Option<Vec<_>>>().ok_or_else(|| Error::Internal {
        reason: "a batch of a copy has another number of chunks".to_owned(),
    })
}
