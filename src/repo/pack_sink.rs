//! The packs that a session is filling, and the writing of full ones.
//!
//! A stored chunk is appended to one of several open packs (at random in a sealed repository, so
//! that neighbours in a stream are not stored next to each other). The worker that fills a pack
//! finishes it, or leaves it to the next one; a thread of the session writes it and its `.idx`
//! while the next one fills, so that no worker waits for a flush; on object storage there are
//! several. With a single-threaded executor the calling thread does all of this.
//!
//! Full data packs are finished in pairs where memory allows: their bytes are hashed side by side,
//! which takes less time than one after the other.

use super::Repository;
use super::protect::Protection;
use super::written::Written;
use crate::base::{ChunkMeta, SEAL_OVERHEAD};
use crate::entropy::random;
use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::layout;
use crate::pack::format::{FOOTER_LEN, HEADER_LEN, SEALED_ENTRY_STEP, SEALED_PACK_FLOOR, padme, trailer_len};
use crate::pack::{ChunkLocation, FinishedPack, PackHeader, PackWriter, TrailerSeal};
use crate::panics;
use crate::storage::put_bytes;
use crate::sync::lock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// Open data packs of a session in a sealed repository.
const SEALED_SLOTS: usize = 4;
/// Full packs that may wait to be written before the worker that fills the next one waits too.
const WAITING_PACKS: usize = 2;
/// Largest stored chunk that is not data: a part of a manifest's copy.
pub const MAX_COPY_PART: usize = 1 << 20;

/// Packs that are sent at once to object storage, where a put mostly waits.
const REMOTE_WRITERS: usize = 3;

/// The threads that write full packs, and where they get them.
struct Writers {
    sender: SyncSender<FinishedPack>,
    threads: Vec<JoinHandle<()>>,
}

/// State that the writing thread and the workers share.
struct Shelf {
    repo: Arc<Repository>,
    protection: Mutex<Protection>,
    written: Mutex<Written>,
    failed: Mutex<Option<Error>>,
    /// On object storage, the `.idx` files that are being sent while the session goes on.
    indexes: Mutex<Vec<Receiver<Result<()>>>>,
}

impl Shelf {
    /// Puts a pack and its `.idx` and folds it into parity. Writes nothing after a failure.
    fn write(&self, pack: FinishedPack) {
        let unwinding = Unwinding(self);
        panics::point("ca-packs");
        if lock(&self.failed).is_some() {
            return;
        }
        if let Err(error) = self.put(pack) {
            lock(&self.failed).get_or_insert(error);
        }
        std::mem::forget(unwinding);
    }

    fn put(&self, pack: FinishedPack) -> Result<()> {
        let (storage, bytes) = (self.repo.storage(), pack.bytes.filled());
        put_bytes(storage, &layout::pack(&pack.id), bytes)?;
        let (index, key) = (pack.index, layout::pack_index(&pack.id));
        match storage.is_remote() {
            true => self.put_later(key, index),
            false => drop(put_bytes(storage, &key, &index)?),
        }
        let len = bytes.len() as u64;
        let chunks = pack
            .entries
            .iter()
            .map(|&entry| (ChunkLocation { pack: pack.id, entry }, len));
        let mut done = Written::default();
        lock(&self.protection).add(&self.repo, pack.id, bytes, chunks, &mut done)?;
        lock(&self.written).append(done);
        Ok(())
    }
}

/// Makes a panic while a pack is written a failure of the session at once.
struct Unwinding<'a>(&'a Shelf);

impl Drop for Unwinding<'_> {
    fn drop(&mut self) {
        lock(&self.0.failed).get_or_insert(Error::Panicked {
            reason: "a writing thread panicked".to_owned(),
        });
    }
}

impl Shelf {
    fn put_later(&self, key: String, bytes: Vec<u8>) {
        let (sender, receiver) = sync_channel(1);
        let repo = Arc::clone(&self.repo);
        let job = move || {
            let put = put_bytes(repo.storage(), &key, &bytes);
            drop(repo);
            // the receiver waits for it
            let _ = sender.send(put.map(|_| ()).map_err(Error::from));
        };
        lock(&self.indexes).push(receiver);
        self.repo.executor().spawn_waiting(Box::new(job));
    }
}

/// The open packs of one session.
pub struct PackSink {
    repo: Arc<Repository>,
    session: SnapshotId,
    largest_chunk: u32,
    data: Vec<Mutex<Option<PackWriter>>>,
    meta: Mutex<Option<PackWriter>>,
    /// A full data pack that waits for another one.
    single: Mutex<Option<PackWriter>>,
    /// Full packs are finished in pairs.
    in_pairs: bool,
    /// Full packs that may wait for the writing thread.
    waiting_packs: usize,
    shelf: Arc<Shelf>,
    /// The caller holds the maintenance lock.
    holds_maint: bool,
    writers: Mutex<Option<Writers>>,
}

impl PackSink {
    /// Creates the sink of the session `session`, for chunks of at most `largest_chunk` bytes, or
    /// the largest of the repository if that is more.
    pub fn new(repo: Arc<Repository>, session: SnapshotId, largest_chunk: u32) -> Self {
        let share = repo.operation_share();
        let capacity = pack_capacity(&repo, share, largest_chunk);
        let small = share < 12 * capacity;
        let slots = match repo.seal().is_sealed() {
            true if small => SEALED_SLOTS / 2,
            true => SEALED_SLOTS,
            false => 1,
        };
        let shelf = Shelf {
            repo: Arc::clone(&repo),
            protection: Mutex::default(),
            written: Mutex::new(Written::default()),
            failed: Mutex::new(None),
            indexes: Mutex::default(),
        };
        Self {
            repo,
            session,
            largest_chunk,
            data: (0..slots).map(|_| Mutex::new(None)).collect(),
            meta: Mutex::new(None),
            single: Mutex::new(None),
            in_pairs: !small,
            waiting_packs: if small { 0 } else { WAITING_PACKS },
            shelf: Arc::new(shelf),
            holds_maint: false,
            writers: Mutex::new(None),
        }
    }

    /// The first failure of a write, if there was one.
    pub fn check(&self) -> Result<()> {
        lock(&self.shelf.failed).clone().map_or(Ok(()), Err)
    }

    /// Adds a stored chunk to an open pack.
    pub fn append(&self, meta: &ChunkMeta, payload: &[u8]) -> Result<()> {
        self.check()?;
        let is_data = meta.kind == crate::pack::KIND_DATA;
        let slot = match self.data.len() {
            _ if !is_data => &self.meta,
            1 => &self.data[0],
            slots => {
                let [pick] = random::<1>(self.repo.entropy())?;
                &self.data[usize::from(pick) % slots]
            }
        };
        let target = self.repo.config().pack_size;
        let mut open = lock(slot);
        let full = match open.as_ref() {
            Some(pack) if !pack.fits(payload.len()) || pack.would_pass(target, payload.len()) => open.take(),
            _ => None,
        };
        let pack = match open.as_mut() {
            Some(pack) => pack,
            None => open.insert(self.create_pack(!is_data)?),
        };
        if !pack.append(meta.id, meta.raw_len, meta.codec, meta.kind, payload) {
            return Err(Error::Internal {
                reason: format!("a stored chunk of {} bytes fits no pack", payload.len()),
            });
        }
        drop(open);
        full.map_or(Ok(()), |pack| self.finish_full(pack))
    }

    /// Finishes a full pack, together with one that waits, or lets it wait.
    fn finish_full(&self, pack: PackWriter) -> Result<()> {
        if !self.in_pairs || pack.is_meta() {
            return self.finish_packs(vec![pack]);
        }
        // held while the pair waits for the disk, so that each further worker waits with one pack
        let mut single = lock(&self.single);
        match single.take() {
            Some(other) => self.finish_packs(vec![other, pack]),
            None => {
                *single = Some(pack);
                Ok(())
            }
        }
    }

    fn create_pack(&self, meta: bool) -> Result<PackWriter> {
        let seal = self.repo.seal();
        let header = PackHeader {
            sealed: seal.is_sealed(),
            meta,
            repo: self.repo.config().id,
            session: self.session,
            nonce: random(self.repo.entropy())?,
            epoch: seal.epoch(),
        };
        // the current share: packs shrink when other operations begin
        let capacity = pack_capacity(&self.repo, self.repo.operation_share(), self.largest_chunk);
        let buffer = self.repo.pool().take_now(capacity)?;
        PackWriter::create(buffer, header).ok_or_else(|| Error::Internal {
            reason: "a pack could not be created in its buffer".to_owned(),
        })
    }

    fn finish_packs(&self, packs: Vec<PackWriter>) -> Result<()> {
        let packs = PackWriter::finish_all(packs, self.repo.seal().as_ref()).ok_or_else(|| Error::Internal {
            reason: "a pack could not be finished".to_owned(),
        })?;
        packs.into_iter().try_for_each(|pack| self.write(pack))
    }

    fn write(&self, pack: FinishedPack) -> Result<()> {
        if self.repo.executor().is_inline() {
            self.shelf.write(pack);
            return self.check();
        }
        let sender = {
            let mut writers = lock(&self.writers);
            if writers.is_none() {
                *writers = spawn_writers(&self.shelf, self.waiting_packs);
            }
            writers.as_ref().map(|writers| writers.sender.clone())
        };
        let Some(sender) = sender else {
            // slower, but the same bytes are written
            self.shelf.write(pack);
            return self.check();
        };
        // a thread exits only when every sender is dropped, so this cannot fail while the session
        // lives
        sender.send(pack).map_err(|_| Error::Panicked {
            reason: "the writing thread has exited".to_owned(),
        })?;
        self.check()
    }

    /// States that the caller holds the maintenance lock for as long as this lives.
    pub fn hold_maint(&mut self) {
        self.holds_maint = true;
    }

    /// Finishes and writes all open data packs; small ones are combined into as few packs as
    /// possible. On object storage, their `.idx` may still be on the way: see
    /// [`wait_for_indexes`](Self::wait_for_indexes).
    pub fn flush_data(&self) -> Result<()> {
        let mut open: Vec<PackWriter> = self.data.iter().filter_map(|slot| lock(slot).take()).collect();
        open.sort_by_key(|pack| std::cmp::Reverse(pack.body_len()));
        let mut gathered: Vec<PackWriter> = Vec::new();
        for pack in open {
            let pack_size = self.repo.config().pack_size;
            match gathered.iter_mut().find(|target| holds_all(target, &pack, pack_size)) {
                Some(target) => move_chunks(target, &pack)?,
                None => gathered.push(pack),
            }
        }
        gathered.extend(lock(&self.single).take());
        let pair = if self.in_pairs { 2 } else { 1 };
        while !gathered.is_empty() {
            let packs = gathered.drain(..pair.min(gathered.len())).collect();
            self.finish_packs(packs)?;
        }
        self.wait()
    }

    /// Finishes and writes the open meta pack, with the same exception.
    pub fn flush_meta(&self) -> Result<()> {
        let open = lock(&self.meta).take();
        if let Some(pack) = open {
            self.finish_packs(vec![pack])?;
        }
        self.wait()
    }

    /// Discards the open meta pack, and waits until every finished pack is written or has failed.
    pub fn discard_meta(&self) {
        drop(lock(&self.meta).take());
        // a failure is reported by the next call on this session
        let _ = self.wait();
        let _ = self.wait_for_indexes();
    }

    /// Waits until every finished pack is written.
    fn wait(&self) -> Result<()> {
        let writers = lock(&self.writers).take();
        if let Some(Writers { sender, threads }) = writers {
            drop(sender);
            // all of them, also after one has panicked
            let panicked = threads.into_iter().filter_map(|thread| thread.join().err()).count();
            if panicked > 0 {
                return Err(Error::Panicked {
                    reason: "a writing thread panicked".to_owned(),
                });
            }
        }
        self.check()
    }

    /// Waits until the `.idx` of every written pack is put.
    pub fn wait_for_indexes(&self) -> Result<()> {
        let sent = std::mem::take(&mut *lock(&self.shelf.indexes));
        let answers = sent.into_iter().map(|put| {
            put.recv().map_err(|_| Error::Panicked {
                reason: "a worker panicked".to_owned(),
            })?
        });
        // all of them, also after one has failed
        answers.fold(Ok(()), Result::and)
    }

    /// Protects the packs that are in no complete parity group yet. Afterwards
    /// [`take_written`](Self::take_written) returns everything that was written.
    pub fn protect_rest(&self) -> Result<()> {
        self.check()?;
        let mut done = Written::default();
        let finished = lock(&self.shelf.protection).finish(&self.repo, &mut done, self.holds_maint);
        lock(&self.shelf.written).append(done);
        finished
    }

    /// Takes what was written and protected since the last call.
    pub fn take_written(&self) -> Written {
        std::mem::take(&mut lock(&self.shelf.written))
    }

    /// Chunks written and protected and not taken yet.
    pub fn written_chunks(&self) -> usize {
        lock(&self.shelf.written).chunks.len()
    }
}

impl Drop for PackSink {
    fn drop(&mut self) {
        // an abandoned session must not leave its thread behind; what it still writes are reusable
        // chunks
        let _ = self.wait();
        let _ = self.wait_for_indexes();
    }
}

/// Threads that write packs: one, which writes them in order, or several on object storage. `None`
/// when the system cannot start one.
fn spawn_writers(shelf: &Arc<Shelf>, waiting_packs: usize) -> Option<Writers> {
    let (sender, receiver) = sync_channel::<FinishedPack>(waiting_packs);
    let receiver = Arc::new(Mutex::new(receiver));
    let count = match shelf.repo.storage().is_remote() {
        true => REMOTE_WRITERS,
        false => 1,
    };
    let spawn = |_| {
        let (shelf, receiver) = (Arc::clone(shelf), Arc::clone(&receiver));
        let next = move || lock(&receiver).recv().ok();
        std::thread::Builder::new()
            .name("ca-packs".to_owned())
            .spawn(move || std::iter::from_fn(next).for_each(|pack| shelf.write(pack)))
            .ok()
    };
    let threads: Vec<_> = (0..count).filter_map(spawn).collect();
    (!threads.is_empty()).then_some(Writers { sender, threads })
}

/// True when every chunk of `pack` also fits into `target` without making it longer than
/// `pack_size`.
fn holds_all(target: &PackWriter, pack: &PackWriter, pack_size: u64) -> bool {
    // the trailer of both and the padding are bounded by what one more chunk of this size would
    // need
    let more = pack.body_len() + trailer_len(pack.entries().len(), true);
    target.entries().len() + pack.entries().len() <= crate::pack::format::MAX_ENTRIES - SEALED_ENTRY_STEP
        && target.fits(more)
        && !target.would_pass(pack_size, more)
}

fn move_chunks(target: &mut PackWriter, pack: &PackWriter) -> Result<()> {
    for entry in pack.entries() {
        let payload = pack.payload(entry).unwrap_or_default();
        if !target.append(entry.id, entry.raw_len, entry.codec, entry.kind, payload) {
            return Err(Error::Internal {
                reason: "open packs could not be combined".to_owned(),
            });
        }
    }
    Ok(())
}

/// Size of a pack's buffer: the target length of a pack, less when many operations share the
/// memory, but at least what the largest single chunk needs.
fn pack_capacity(repo: &Repository, share: usize, largest_chunk: u32) -> usize {
    let largest_chunk = largest_chunk.max(repo.config().chunking.max) as usize;
    let chunk = largest_chunk.max(MAX_COPY_PART) + SEAL_OVERHEAD;
    let single = HEADER_LEN + chunk + trailer_len(1, true) + FOOTER_LEN;
    let single = padme((single as u64).max(SEALED_PACK_FLOOR)) as usize;
    let target = usize::try_from(repo.config().pack_size).unwrap_or(usize::MAX);
    // a single operation keeps packs of the default size well within its share
    let affordable = if share < 12 * target { share / 6 } else { target };
    target.min(affordable.max(target.min(1 << 20))).max(single)
}
