//! A session stores chunks: [`Session::put_batch`] here; [`super::read`] reads them back.
//!
//! Put: compute the id, check whether a good copy is stored; if not, encode, seal, verify that it
//! opens to the same bytes, and append it to an open pack. A copy is good when its pack
//! exists, is long enough, is in no kill list or hint, and was not found damaged by this handle;
//! each pack is checked once in a session, and again right before the commit
//! (`docs/invariants.md`, rules W2 and W6). Other sessions can reuse what was stored once it is
//! protected and a segment of it is published.

use super::Repository;
use super::pack_sink::PackSink;
use super::protect::packs_stay;
use super::written::Written;
use crate::base::{ChunkMeta, ChunkSum, Generation, Prover, SeededBug};
use crate::codec::{AutoLevel, Codec, Compression, Encoder};
use crate::error::{Error, Result};
use crate::id::{ChunkId, PackId, SnapshotId};
use crate::layout;
use crate::lock::KillLists;
use crate::pack::{ChunkLocation, KIND_DATA, KIND_LIST};
use crate::storage::{Ask, prefetch};
use crate::sync::lock;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

/// New chunks after which a session publishes a segment automatically, so that its memory stays
/// bounded and a killed ingest can reuse what it stored. About 160 bytes each.
const CHECKPOINT_CHUNKS: usize = 65_536;
/// The lower bound of this number, when many operations share the memory.
const LEAST_CHECKPOINT_CHUNKS: usize = 8192;
/// Bytes of an operation's share for each chunk that is not in a published segment: an eighth of
/// the share is for these chunks.
const SHARE_PER_CHUNK: usize = 8 * 160;

/// Packs that a session on object storage asks for one after the other before it lists all.
const ASKED_FIRST: usize = 8;
/// Entries of the index up to which it lists them at once: about 400 packs of 32 MiB, which one
/// answer has, with their `.idx`.
const FEW_ENTRIES: u64 = 50_000;
/// How long a session on object storage is taken to be standing after a check.
const RECHECK: Duration = Duration::from_secs(30);

/// Contexts and scratch buffers of one worker, passed from batch to batch.
#[derive(Default)]
pub struct Worker {
    encoder: Encoder,
    sealed: Vec<u8>,
    prover: Prover,
}

impl Worker {
    /// Encodes, seals and proves one chunk, given by its id, kind and bytes; returns its record and
    /// what is stored of it.
    pub(super) fn prepare<'a>(
        &'a mut self,
        repo: &Repository,
        (compression, auto): (Compression, Option<&AutoLevel>),
        (id, kind, raw): (&ChunkId, u8, &'a [u8]),
        sum: Option<ChunkSum>,
    ) -> Result<(ChunkMeta, &'a [u8])> {
        let seal = repo.seal();
        let raw_len = u32::try_from(raw.len()).map_err(|_| Error::Internal {
            reason: "a chunk is too long".to_owned(),
        })?;
        let (codec, encoded) = match auto {
            // ids do not compress
            _ if kind == KIND_LIST => self.encoder.encode(Compression::None, raw),
            Some(auto) if kind == KIND_DATA => auto.encode(&mut self.encoder, raw),
            _ => self.encoder.encode(compression, raw),
        };
        let meta = ChunkMeta {
            id: *id,
            raw_len,
            codec: codec as u8,
            kind,
        };
        let payload = if seal.keys().is_none() {
            encoded
        } else {
            let encoded_sum = sum.filter(|_| codec == Codec::Raw);
            seal.seal_chunk(&meta, encoded, encoded_sum, repo.entropy(), &mut self.sealed)?;
            &self.sealed
        };
        if repo.verify_writes()
            && let Err(reason) = self.prover.prove(seal, &meta, payload, sum)?
        {
            return Err(Error::Internal {
                reason: format!("chunk {id} did not decode to what was encoded ({reason}); memory may be failing"),
            });
        }
        Ok((meta, payload))
    }
}

/// Counts of a session.
#[derive(Default)]
pub struct SessionStats {
    /// Data chunks seen.
    pub chunks: AtomicU64,
    /// Data chunks that this session has stored.
    pub new_chunks: AtomicU64,
    /// Plaintext bytes of new chunks.
    pub new_bytes: AtomicU64,
    /// Plaintext bytes of chunks that were already stored.
    pub reused_bytes: AtomicU64,
    /// Bytes of stored chunks added to data packs.
    pub stored_bytes: AtomicU64,
}

/// The state of one ingest: the chunks it has claimed, the packs it relies on, and the packs it
/// fills.
pub struct Session {
    repo: Arc<Repository>,
    id: SnapshotId,
    /// The folder that the session stores into.
    folder: Generation,
    compression: Compression,
    /// Chooses the level when the compression asks for that.
    auto_level: Option<AutoLevel>,
    kill_lists: Mutex<KillLists>,
    /// The checked packs, with the length of those that are good.
    seen_packs: Mutex<HashMap<PackId, Option<u64>>>,
    /// On object storage, the packs that were listed after some had been asked for one by one.
    listed_packs: Mutex<Option<BTreeMap<PackId, u64>>>,
    has_few_packs: OnceLock<bool>,
    /// Packs that contain a chunk of this snapshot, reused or own.
    relied: Mutex<HashSet<PackId>>,
    /// Packs of this session that a segment names.
    own: Mutex<HashSet<PackId>>,
    /// New chunks of this session that no published segment names yet.
    claimed: Mutex<HashSet<ChunkId>>,
    sink: PackSink,
    /// At least half of the last batch was new.
    expects_new: AtomicBool,
    /// Parts of a manifest's copy may have been stored.
    has_copies: AtomicBool,
    /// When the session was last seen to be standing.
    standing: Mutex<Option<Instant>>,
    /// Counts so far.
    pub stats: SessionStats,
}

impl Session {
    /// Starts a session: reads the kill lists and lists the segments now, not when the handle was
    /// opened. `largest_chunk` in bytes, where chunks may be larger than those of this repository.
    pub fn start(repo: &Arc<Repository>, id: SnapshotId, compression: Compression, largest_chunk: u32) -> Result<Self> {
        let folder = repo.generation();
        let lists = [layout::INDEX, layout::MARKS].map(|folder| Ask::List(folder.to_owned()));
        let _lists = prefetch(repo.storage(), || lists);
        repo.refresh_index()?;
        let kill_lists = repo.kill_lists()?;
        repo.index_unnamed_packs_if_empty()?;
        Ok(Self {
            id,
            folder,
            compression,
            auto_level: (compression == Compression::ZstdAuto).then(AutoLevel::default),
            kill_lists: Mutex::new(kill_lists),
            seen_packs: Mutex::new(HashMap::new()),
            relied: Mutex::new(HashSet::new()),
            own: Mutex::new(HashSet::new()),
            claimed: Mutex::new(HashSet::new()),
            sink: PackSink::new(Arc::clone(repo), id, largest_chunk),
            expects_new: AtomicBool::new(true),
            has_copies: AtomicBool::new(false),
            // its lease was put just now
            standing: Mutex::new(Some(Instant::now())),
            listed_packs: Mutex::default(),
            has_few_packs: OnceLock::new(),
            stats: SessionStats::default(),
            repo: Arc::clone(repo),
        })
    }

    /// The repository.
    pub fn repo(&self) -> &Arc<Repository> {
        &self.repo
    }

    /// The session's id, which its snapshot will have.
    pub fn id(&self) -> SnapshotId {
        self.id
    }

    /// `Err` when the folder that the session stores into no longer exists: see
    /// [`Base::check_folder`](crate::base::Base::check_folder).
    pub fn check_folder(&self) -> Result<()> {
        // no disk is swapped there: the check at the start of the operation is enough
        if self.repo.storage().is_remote() {
            return Ok(());
        }
        self.repo.check_same_folder(self.folder)
    }

    /// The same, and `LeaseRemoved` once its lease was removed by force: it must not store anything
    /// after that.
    pub fn check_standing(&self) -> Result<()> {
        self.check_folder()?;
        match self.repo.storage().size(&layout::lease(&self.id))? {
            Some(_) => Ok(()),
            None => Err(Error::LeaseRemoved),
        }
    }

    /// [`check_standing`](Self::check_standing), on object storage only now and then: each check is
    /// a request there, and the commit checks in any case.
    pub fn check_standing_soon(&self) -> Result<()> {
        let is_recent = |at: &Instant| at.elapsed() < RECHECK;
        if self.repo.storage().is_remote() && lock(&self.standing).as_ref().is_some_and(is_recent) {
            return Ok(());
        }
        self.check_standing()?;
        *lock(&self.standing) = Some(Instant::now());
        Ok(())
    }

    /// The level that `ZstdAuto` uses now; `None` with any other compression.
    pub fn auto_level(&self) -> Option<i32> {
        self.auto_level.as_ref().map(AutoLevel::level)
    }

    /// Computes the ids of data chunks, deduplicates and stores them; returns the ids in order.
    pub fn put_batch(&self, chunks: &[&[u8]]) -> Result<Vec<ChunkId>> {
        self.check_standing_soon()?;
        self.repo
            .with_worker(|worker| self.put_batch_with(worker, chunks, true))
    }

    /// The same for chunks of an extra, which no count includes.
    pub fn put_extra(&self, chunks: &[&[u8]]) -> Result<Vec<ChunkId>> {
        self.check_standing_soon()?;
        self.repo
            .with_worker(|worker| self.put_batch_with(worker, chunks, false))
    }

    fn put_batch_with(&self, worker: &mut Worker, chunks: &[&[u8]], counts: bool) -> Result<Vec<ChunkId>> {
        let sums = self.take_sums(chunks);
        let ids = self.repo.seal().chunk_ids(KIND_DATA, chunks);
        let stored = self.reuse_each(&ids)?;
        let new: Vec<bool> = {
            let mut claimed = lock(&self.claimed);
            ids.iter()
                .zip(&stored)
                .map(|(id, &stored)| !stored && claimed.insert(*id))
                .collect()
        };
        let new_count = new.iter().filter(|new| **new).count();
        self.expects_new.store(2 * new_count >= chunks.len(), Ordering::Relaxed);
        for (at, (id, data)) in ids.iter().zip(chunks).enumerate() {
            // close() waits for this, and a batch with a high compression level takes seconds;
            // chunks that are stored already stay
            self.repo.check_open()?;
            let payload_len = match new[at] {
                true => Some(self.store(worker, id, KIND_DATA, data, sums.as_ref().map(|sums| sums[at]))?),
                false => None,
            };
            if !counts {
                continue;
            }
            self.stats.chunks.fetch_add(1, Ordering::Relaxed);
            if let Some(payload_len) = payload_len {
                self.stats.new_chunks.fetch_add(1, Ordering::Relaxed);
                self.stats.new_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
                self.stats.stored_bytes.fetch_add(payload_len as u64, Ordering::Relaxed);
            } else {
                self.stats.reused_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
            }
        }
        if self.sink.written_chunks() >= self.most_unpublished_chunks() {
            self.checkpoint()?;
        }
        Ok(ids)
    }

    /// The checksums for the proof of what will be stored, taken before the ids are computed.
    /// `None` when nothing is proven, or when little of the batch is expected to be new: what is
    /// new all the same is proven by its id.
    fn take_sums(&self, chunks: &[&[u8]]) -> Option<Vec<ChunkSum>> {
        let wanted = self.repo.verify_writes() && self.expects_new.load(Ordering::Relaxed);
        wanted.then(|| chunks.iter().map(|chunk| ChunkSum::of(chunk)).collect())
    }

    fn most_unpublished_chunks(&self) -> usize {
        (self.repo.operation_share() / SHARE_PER_CHUNK).clamp(LEAST_CHECKPOINT_CHUNKS, CHECKPOINT_CHUNKS)
    }

    /// Stores a list node, if it is not stored yet, and returns its id.
    pub fn put_node(&self, node: &[u8]) -> Result<ChunkId> {
        let id = self.repo.seal().chunk_id(KIND_LIST, node);
        if !self.reuse(&id)? && lock(&self.claimed).insert(id) {
            self.store_meta(&id, KIND_LIST, node)?;
        }
        Ok(id)
    }

    /// Stores a part of a manifest's copy, or of the config's, in the meta pack. Never
    /// deduplicated.
    pub fn put_copy(&self, kind: u8, bytes: &[u8]) -> Result<()> {
        self.has_copies.store(true, Ordering::Relaxed);
        let id = self.repo.seal().chunk_id(kind, bytes);
        self.store_meta(&id, kind, bytes)
    }

    /// True when parts of a manifest's copy may have been stored.
    pub fn has_stored_copies(&self) -> bool {
        self.has_copies.load(Ordering::Relaxed)
    }

    /// Stores a list node, or a part of a copy, in the meta pack.
    fn store_meta(&self, id: &ChunkId, kind: u8, bytes: &[u8]) -> Result<()> {
        self.repo
            .with_worker(|worker| self.store(worker, id, kind, bytes, None))
            .map(|_| ())
    }

    /// Relies on a stored chunk of `len` bytes with this id; `false` when there is none, and it has
    /// to be passed to [`put_batch`](Self::put_batch).
    pub fn reuse_chunk(&self, id: &ChunkId, len: u32) -> Result<bool> {
        let known = self.reuse_extra(id)?;
        if known {
            self.stats.chunks.fetch_add(1, Ordering::Relaxed);
            self.stats.reused_bytes.fetch_add(u64::from(len), Ordering::Relaxed);
        }
        Ok(known)
    }

    /// The same for a chunk of an extra, which no count includes.
    pub fn reuse_extra(&self, id: &ChunkId) -> Result<bool> {
        self.reuse(id)
    }

    /// [`reuse`](Self::reuse) for each id of a batch.
    fn reuse_each(&self, ids: &[ChunkId]) -> Result<Vec<bool>> {
        // before the index is searched: a chunk that is published in between is found there
        let mut stored: Vec<bool> = {
            let claimed = lock(&self.claimed);
            ids.iter().map(|id| claimed.contains(id)).collect()
        };
        let open: Vec<usize> = (0..ids.len()).filter(|&at| !stored[at]).collect();
        let unclaimed: Vec<ChunkId> = open.iter().map(|&at| ids[at]).collect();
        let found = self.repo.locate_published_batch(&unclaimed)?;
        for (at, locations) in open.into_iter().zip(found) {
            stored[at] = self.rely_on_first_good(&locations)?;
        }
        Ok(stored)
    }

    /// Relies on a good pack that contains the chunk; `false` when there is none, and this session
    /// has not claimed the chunk either: it has to be stored.
    fn reuse(&self, id: &ChunkId) -> Result<bool> {
        if lock(&self.claimed).contains(id) {
            return Ok(true);
        }
        self.rely_on_first_good(&self.repo.locate_published(id)?)
    }

    /// Relies on the first good pack of these locations; `false` when there is none.
    fn rely_on_first_good(&self, locations: &[ChunkLocation]) -> Result<bool> {
        for location in locations {
            if self.is_good(location)? {
                lock(&self.relied).insert(location.pack);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// True when the pack exists, is long enough to contain the chunk, is not to be avoided, and is
    /// not known to be damaged.
    fn is_good(&self, location: &ChunkLocation) -> Result<bool> {
        let pack = location.pack;
        let end = u64::from(location.entry.offset) + u64::from(location.entry.payload_len);
        let seen = lock(&self.seen_packs).get(&pack).copied();
        let len = match seen {
            Some(len) => len,
            None if lock(&self.kill_lists).is_avoided(&pack) && !self.repo.has_bug(SeededBug::MarksUnread) => None,
            None if !self.repo.may_rely_on(&pack)? => None,
            None => self.pack_len(&pack)?,
        };
        lock(&self.seen_packs).insert(pack, len);
        Ok(len.is_some_and(|len| end <= len) && !self.repo.is_bad_chunk(location))
    }

    /// The length of a pack. On object storage, a listing of all packs soon costs less than a
    /// request for each.
    fn pack_len(&self, pack: &PackId) -> Result<Option<u64>> {
        if !self.repo.storage().is_remote() {
            return self.repo.pack_len(pack);
        }
        let found = {
            let mut listed = lock(&self.listed_packs);
            if listed.is_none() && (lock(&self.seen_packs).len() >= ASKED_FIRST || self.has_few_packs()) {
                *listed = Some(self.repo.list_packs()?);
            }
            listed.as_ref().and_then(|listed| listed.get(pack).copied())
        };
        match found {
            Some(len) => Ok(Some(len)),
            // put since
            None => self.repo.pack_len(pack),
        }
    }

    /// Whether one answer lists all packs of the repository, as the index was at the start.
    fn has_few_packs(&self) -> bool {
        let entries = || {
            self.repo
                .index()
                .live_segments()
                .iter()
                .map(|segment| segment.entries)
                .sum::<u64>()
        };
        *self.has_few_packs.get_or_init(|| entries() <= FEW_ENTRIES)
    }

    /// Encodes, seals, proves and appends one chunk; returns the length of the stored chunk.
    fn store(&self, worker: &mut Worker, id: &ChunkId, kind: u8, raw: &[u8], sum: Option<ChunkSum>) -> Result<usize> {
        let levels = (self.compression, self.auto_level.as_ref());
        let (meta, payload) = worker.prepare(&self.repo, levels, (id, kind, raw), sum)?;
        self.sink.append(&meta, payload)?;
        Ok(payload.len())
    }

    /// Writes all open data packs. On object storage, their `.idx` may still be on the way.
    pub fn flush_data(&self) -> Result<()> {
        self.sink.flush_data()
    }

    /// Writes the open meta pack.
    pub fn flush_meta(&self) -> Result<()> {
        self.sink.flush_meta()
    }

    /// Waits until the `.idx` of every written pack is put.
    pub fn wait_for_indexes(&self) -> Result<()> {
        self.sink.wait_for_indexes()
    }

    /// Discards the open meta pack: list nodes and copies that are not yet written are never
    /// written.
    pub fn discard_meta(&self) {
        self.sink.discard_meta();
    }

    /// Completes parity: every pack written so far is in a group when this returns.
    pub fn protect(&self) -> Result<()> {
        self.sink.protect_rest()
    }

    /// Publishes a segment of everything that was written and protected since the last one. Its
    /// chunks can then be found through the index.
    pub fn publish(&self) -> Result<()> {
        self.publish_written(self.sink.take_written())
    }

    /// The same during the session, for what is already protected.
    pub fn checkpoint(&self) -> Result<()> {
        let written = self.sink.take_written();
        // chunks that can be reused are protected, also after a power cut
        self.repo.storage().barrier()?;
        self.publish_written(written)
    }

    fn publish_written(&self, written: Written) -> Result<()> {
        if written.packs.is_empty() {
            return Ok(());
        }
        self.check_standing_soon()?;
        lock(&self.relied).extend(&written.packs);
        lock(&self.own).extend(&written.packs);
        lock(&self.seen_packs).extend(written.packs.iter().map(|pack| (*pack, Some(u64::MAX))));
        let ids: Vec<ChunkId> = written.chunks.iter().map(|(chunk, _)| chunk.entry.id).collect();
        self.repo.publish_segment(written.chunks)?;
        let mut claimed = lock(&self.claimed);
        for id in &ids {
            claimed.remove(id);
        }
        Ok(())
    }

    /// The first reads of the last checks before the commit. The packs are looked at only after
    /// the kill lists were read: a prune publishes its list before it deletes a pack.
    pub fn last_checks(&self) -> [Ask; 2] {
        [Ask::Size(layout::lease(&self.id)), Ask::List(layout::MARKS.to_owned())]
    }

    /// W6: true when every pack this snapshot relies on exists, is in no kill list, and was not
    /// found damaged since. Called under the commit lock.
    pub fn relied_packs_are_good(&self) -> Result<bool> {
        let relied = lock(&self.relied);
        Ok(!relied.iter().any(|pack| self.repo.is_suspect(pack)) && packs_stay(&self.repo, &*relied)?)
    }

    /// True when this session's own packs are as it left them. A prune deletes them only when it is
    /// told to ignore the session's lease, or when the lease was removed by force.
    pub fn own_packs_are_good(&self) -> Result<bool> {
        packs_stay(&self.repo, &*lock(&self.own))
    }

    /// After a pack vanished: drops the results of the pack checks, so that
    /// [`rely_on`](Self::rely_on) checks again. The session's own packs stay relied on: one of them
    /// has the copy of the manifest.
    pub fn forget_packs(&self) -> Result<()> {
        self.repo.refresh_index()?;
        *lock(&self.kill_lists) = self.repo.kill_lists()?;
        lock(&self.seen_packs).clear();
        *lock(&self.listed_packs) = None;
        *lock(&self.relied) = lock(&self.own).clone();
        Ok(())
    }

    /// Locates a chunk again and relies on a good pack that contains it now; `Conflict` when there
    /// is none.
    pub fn rely_on(&self, id: &ChunkId) -> Result<()> {
        if self.reuse(id)? { Ok(()) } else { Err(Error::Conflict) }
    }
}
