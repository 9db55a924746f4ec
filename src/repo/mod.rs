//! An open repository: the handle that holds the rooms together.
//!
//! It knows the settings, the keys in use and the global index, and how one chunk is put and got ([`chunk_store`]). The
//! order of steps in an operation belongs to `ops`. Nothing here is specific to a verb.

pub mod chunk_store;
pub mod config;
mod copies;
mod degraded;
pub mod dissolve;
mod errors;
mod heal;
mod keys;
mod memory;
mod open;
mod pack_sink;
mod place;
mod protect;
pub mod read;
pub mod rescue;
mod reserve;
pub mod seal;
mod sequence;
mod suspect;
mod wait;

pub use config::{Config, ParityParams};
pub use heal::{find_any_index, read_any_index};
pub use keys::{KeyInfo, KeyNames, MAX_KEYS, key_names};
pub use memory::OperationGuard;
pub use open::{InitOptions, OpenOptions, Secret, init, open};
pub use place::Generation;
pub use protect::{packs_without_parity, protect_packs, protect_spared};

use crate::budget::Budget;
use crate::buffer::BufferPool;
use crate::chunk::Cutter;
use crate::clock::Clock;
use crate::crypto::KeyBundle;
use crate::entropy::Entropy;
use crate::error::{Error, Result};
use crate::executor::Executor;
use crate::id::{ChunkId, KeyId, PackId, SnapshotId};
use crate::index::GlobalIndex;
use crate::layout;
use crate::lock::{KillLists, LeaseInfo, lease};
use crate::monitor::{Monitor, Warning};
use crate::pack::ChunkLocation;
use crate::parity::TailCache;
use crate::snapshot::record::{ForgotReason, ForgotRecord};
use crate::snapshot::{ManifestKeys, ManifestSeal, Snapshot, manifest};
use crate::storage::{ErrorKind, FailedRead, LocalStorage, Storage, judge, leads_into, put_bytes};
use seal::RepoSeal;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Everything the engine needs from outside. Tests hand in simulated parts; a run is then the same call for call.
#[derive(Clone)]
pub struct Environment {
    /// Where the repository lies.
    pub storage: Arc<dyn Storage>,
    /// A name for people, as the path.
    pub place: String,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub entropy: Arc<dyn Entropy>,
    /// The worker pool.
    pub executor: Arc<dyn Executor>,
    /// Hears of warnings that belong to no operation.
    pub monitor: Arc<dyn Monitor>,
}

impl Environment {
    /// A folder of this machine, `threads` workers (at least one), the system's clock and randomness.
    pub fn local(path: &Path, threads: usize, monitor: Arc<dyn Monitor>) -> Result<Self> {
        let executor = crate::executor::PoolExecutor::new(threads)?;
        Self::local_with(path, Arc::new(executor), monitor)
    }

    /// The same with a pool that others may share.
    pub fn local_with(path: &Path, executor: Arc<dyn Executor>, monitor: Arc<dyn Monitor>) -> Result<Self> {
        let entropy: Arc<dyn Entropy> = Arc::new(crate::entropy::OsEntropy);
        Ok(Self {
            storage: Arc::new(LocalStorage::open_path(path, Arc::clone(&entropy))?),
            place: path.display().to_string(),
            clock: Arc::new(crate::clock::SystemClock),
            entropy,
            executor,
            monitor,
        })
    }
}

/// What [`OpenOptions::memory_limit`] is when nothing is said, in bytes.
pub const DEFAULT_MEMORY_LIMIT: u64 = 192 << 20;

/// An open repository. Shared by all operations of a handle; dropped when the last of them ends.
pub struct Repository {
    env: Environment,
    config: Config,
    /// Exact bytes of `config.json`, for its copies.
    config_bytes: Vec<u8>,
    /// The secrets of an encrypted repository, for new key files.
    bundle: Option<KeyBundle>,
    /// The key file that this handle was opened with.
    current_key: Mutex<Option<KeyId>>,
    seal: Arc<RepoSeal>,
    index: GlobalIndex,
    cutter: Cutter,
    pool: Arc<BufferPool>,
    lock_wait: Duration,
    memory_limit: u64,
    /// Operations that use buffers.
    operations: AtomicUsize,
    /// Memory of the ingests that run.
    ingests: Budget,
    /// Contexts and scratch buffers of workers, used again by whatever batch comes next.
    workers: Mutex<Vec<chunk_store::Worker>>,
    verify_writes: bool,
    /// Why nothing may be written, if so.
    write_refused: Mutex<Option<Error>>,
    /// The name of `config.json` is known to be durable.
    config_durable: AtomicBool,
    closed: AtomicBool,
    /// The folder as it was last seen.
    place: Mutex<place::Place>,
    /// What is known of the parity groups that can grow.
    tail_cache: Mutex<TailCache>,
    /// What reading damaged packs has taught.
    degraded: Mutex<degraded::Degraded>,
    /// Held by the one who reads a suspect pack again.
    recheck: Mutex<()>,
    /// What is known of the sequences of the snapshots.
    sequences: Mutex<sequence::Sequences>,
    /// May a read heal the packs that it finds damaged.
    heal: bool,
    /// Something of the index was lost or damaged and has been made again.
    index_healed: AtomicBool,
    /// Places found by a handle that may not publish them.
    overlay: Mutex<HashMap<ChunkId, Vec<ChunkLocation>>>,
    #[cfg(any(test, feature = "testing"))]
    seeded_bug: Mutex<Option<SeededBug>>,
}

/// A mistake that tests switch on, to see that they would find it.
#[cfg(any(test, feature = "testing"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeededBug {
    /// The manifest is published before what it needs.
    ManifestFirst,
    /// A parity group takes the place of others before its members are durable.
    ParityFirst,
    /// A prune deletes a pack before what it copied out of it is durable.
    OldPackFirst,
    /// A commit does not look whether its packs are still good.
    NoCommitCheck,
    /// A commit looks at its packs before it takes the commit lock, and not under it.
    CheckOutsideLock,
    /// A prune decides without the snapshots that came right before its lock.
    NoLastListing,
    /// A kill list goes before its packs.
    KillListFirst,
    /// A kill list goes before it is known that the deleting of its packs is durable, and before their index entries.
    KillListEarly,
    /// Packs are deleted without leaving their parity groups.
    NoLeaving,
}

impl Repository {
    /// What it was made with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Exact bytes of `config.json`.
    pub fn config_bytes(&self) -> &[u8] {
        &self.config_bytes
    }

    /// Whether a path of this machine leads into the repository's folder, also through links and
    /// bind mounts.
    pub fn contains_path(&self, path: &Path) -> bool {
        leads_into(path, Path::new(&self.env.place), &layout::FOLDERS)
    }

    /// Where it lies.
    pub fn storage(&self) -> &dyn Storage {
        self.env.storage.as_ref()
    }

    /// Where it lies, for threads that outlive a call.
    pub fn storage_handle(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.env.storage)
    }

    /// How it names, seals and opens things.
    pub fn seal(&self) -> &Arc<RepoSeal> {
        &self.seal
    }

    /// Chunk id to place, for all packs.
    pub fn index(&self) -> &GlobalIndex {
        &self.index
    }

    /// Cuts streams as this repository was made to.
    pub fn cutter(&self) -> &Cutter {
        &self.cutter
    }

    /// Big buffers of this handle.
    pub fn pool(&self) -> &Arc<BufferPool> {
        &self.pool
    }

    /// The worker pool.
    pub fn executor(&self) -> &Arc<dyn Executor> {
        &self.env.executor
    }

    /// Random bytes.
    pub fn entropy(&self) -> &dyn Entropy {
        self.env.entropy.as_ref()
    }

    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        self.env.clock.now_ms()
    }

    /// How long a lock is waited for.
    pub fn lock_wait(&self) -> Duration {
        self.lock_wait
    }

    /// True when what was encoded is decoded again before it is stored.
    pub fn verify_writes(&self) -> bool {
        self.verify_writes
    }

    /// True when this handle found something of the index lost or damaged since the last call, and made it again.
    pub fn take_index_healed(&self) -> bool {
        self.index_healed.swap(false, Ordering::Relaxed)
    }

    /// Tells whoever listens to this handle.
    pub fn warn(&self, code: &'static str, message: String) {
        self.env.monitor.warning(Warning {
            code,
            message,
            pack: None,
        });
    }

    /// The same about a pack.
    pub fn warn_of_pack(&self, code: &'static str, pack: PackId, message: String) {
        self.env.monitor.warning(Warning {
            code,
            message,
            pack: Some(pack.to_hex()),
        });
    }

    /// True when reads may heal the packs that they find damaged.
    pub fn may_heal(&self) -> bool {
        self.heal
    }

    /// `Err` when this handle must not write. What could not be found out when it was opened is tried again.
    pub fn check_writable(&self) -> Result<()> {
        let Some(refused) = pack_sink::lock(&self.write_refused).clone() else {
            return Ok(());
        };
        if refused.unreadable().is_none() {
            return Err(refused);
        }
        self.storage().check_folders(&layout::FOLDERS)?;
        self.storage().probe_locks(layout::MAINT_LOCK)?;
        *pack_sink::lock(&self.write_refused) = None;
        Ok(())
    }

    /// For a repair: makes lock files again that are gone, and asks once more whether this handle may write. Two processes
    /// that hold different files of one name do not see each other, so a lost lock file is no matter for everyday writers.
    pub fn restore_lock_files(&self) -> Result<()> {
        self.check_place()?;
        if let Err(refused @ (Error::ReadOnly | Error::PassphraseRequired)) = self.check_writable() {
            return Err(refused);
        }
        self.storage().check_folders(&layout::FOLDERS)?;
        for name in [layout::COMMIT_LOCK, layout::MAINT_LOCK] {
            match self.storage().size(name) {
                Ok(Some(_)) => continue,
                Ok(None) => {}
                // a folder of that name locks nobody out
                Err(error) if error.kind == ErrorKind::NotADirectory => self.storage().quarantine(name)?,
                Err(error) => return Err(error.into()),
            }
            put_bytes(self.storage(), name, &[])?;
        }
        self.storage().probe_locks(layout::MAINT_LOCK)?;
        *pack_sink::lock(&self.write_refused) = None;
        Ok(())
    }

    /// Called before an operation writes: `config.json` may come from an init that was killed before it flushed the name, and
    /// data that outlived it would be lost. One flush per handle. Returns the folder that it is about to write into; see
    /// [`check_place`](Self::check_place) for its errors.
    pub fn begin_writing(&self) -> Result<Generation> {
        self.check_writable()?;
        let generation = self.check_place()?;
        if !self.config_durable.load(Ordering::Acquire) {
            self.storage().include_in_barrier("");
            self.storage().barrier()?;
            self.config_durable.store(true, Ordering::Release);
        }
        Ok(generation)
    }

    /// Removes what dead processes left behind: stale leases, and when there were any, half-written files too. Nothing
    /// depends on it, so a failure means nothing.
    pub fn clean_leftovers(&self) {
        if self.remove_stale_leases().is_ok_and(|sessions| !sessions.is_empty()) {
            self.clean_half_written();
        }
    }

    /// The sessions that are at work; those of maintenance, which give their ids to no pack, left out.
    pub fn writers(&self) -> Result<HashSet<SnapshotId>> {
        let leases = lease::list(self.storage())?.into_iter();
        let writers = leases.filter(|lease| lease.held && lease.may_leave_copies());
        Ok(writers.map(|lease| lease.session).collect())
    }

    /// Removes the leases whose owner is gone and returns their sessions, sorted. One that ended without a manifest may have
    /// stored the copy of one, so it leaves a durable record that its snapshot was given up: else the copy would look like
    /// that of a lost snapshot.
    pub fn remove_stale_leases(&self) -> Result<Vec<SnapshotId>> {
        let mut removed = Vec::new();
        self.remove_stale_leases_into(&mut removed)?;
        removed.sort_unstable();
        Ok(removed)
    }

    /// The same, and adds to `removed` what was removed also when it fails.
    pub fn remove_stale_leases_into(&self, removed: &mut Vec<SnapshotId>) -> Result<()> {
        let mut stale = lease::list(self.storage())?;
        stale.retain(|lease| !lease.held);
        // records come and go under the commit lock only; without it the leases stay for the next call
        let needs_records = stale.iter().any(LeaseInfo::may_leave_copies);
        let guard = needs_records.then(|| self.commit_shared_soon()).flatten();
        if needs_records && guard.is_none() {
            stale.retain(|lease| !lease.may_leave_copies());
        }
        match self.end_stale(&stale, removed) {
            Err(Error::NoSpace { .. }) => {}
            other => return other,
        }
        // one at a time, those that need no record first: each gives back what the next record takes
        stale.sort_by_key(LeaseInfo::may_leave_copies);
        stale
            .iter()
            .try_for_each(|lease| self.end_stale(std::slice::from_ref(lease), removed))
    }

    fn end_stale(&self, stale: &[LeaseInfo], removed: &mut Vec<SnapshotId>) -> Result<()> {
        self.leave_abandoned_records(stale)?;
        for lease in stale {
            self.storage().delete(&layout::lease(&lease.session))?;
            removed.push(lease.session);
        }
        Ok(())
    }

    /// How long a pack is, in bytes; `None` when there is none, nor a regular file of its name.
    pub fn pack_len(&self, pack: &PackId) -> Result<Option<u64>> {
        Ok(judge(self.storage().size(&layout::pack(pack)))?.unwrap_or(None))
    }

    /// The kill lists of this repository, read now.
    pub fn kill_lists(&self) -> Result<KillLists> {
        Ok(KillLists::load_all(
            self.storage(),
            &self.config.id,
            self.seal.as_ref(),
        )?)
    }

    /// The sessions of stale leases that came to nothing: those for which [`remove_stale_leases`](Self::remove_stale_leases)
    /// would leave a record.
    pub fn abandoned_sessions(&self) -> Result<Vec<SnapshotId>> {
        let mut stale = lease::list(self.storage())?;
        stale.retain(|lease| !lease.held);
        self.without_manifest(&stale)
    }

    /// Of the sessions of these leases, those that may leave the copy of a manifest and have none.
    fn without_manifest(&self, leases: &[LeaseInfo]) -> Result<Vec<SnapshotId>> {
        let mut without = Vec::new();
        for lease in leases.iter().filter(|lease| lease.may_leave_copies()) {
            if self.storage().size(&layout::snapshot(&lease.session))?.is_none() {
                without.push(lease.session);
            }
        }
        Ok(without)
    }

    /// Leaves durable records that the sessions of these leases came to nothing, those left out that have a manifest.
    pub fn leave_abandoned_records(&self, leases: &[LeaseInfo]) -> Result<()> {
        let storage = self.storage();
        if !leases.iter().any(LeaseInfo::may_leave_copies) {
            return Ok(());
        }
        for session in self.without_manifest(leases)? {
            let record = ForgotRecord {
                id: session,
                reason: ForgotReason::Abandoned,
                at_ms: self.now_ms(),
            };
            put_bytes(storage, &layout::forgot_record(&session), &record.encode()?)?;
        }
        // and the manifests of those that have one
        storage.include_in_barrier(layout::SNAPSHOTS);
        Ok(storage.barrier()?)
    }

    /// Removes the half-written files whose writer is gone.
    pub fn clean_half_written(&self) {
        for folder in layout::FOLDERS.into_iter().chain([""]) {
            let _ = self.storage().clean_temporary(folder);
        }
    }

    /// Makes running operations end with [`Error::Closed`] at their next step, and new ones at once.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// Makes this handle misbehave.
    #[cfg(any(test, feature = "testing"))]
    pub fn seed_bug(&self, bug: SeededBug) {
        *pack_sink::lock(&self.seeded_bug) = Some(bug);
    }

    /// True when this handle was told to misbehave so.
    #[cfg(any(test, feature = "testing"))]
    pub fn seeded_bug(&self, bug: SeededBug) -> bool {
        *pack_sink::lock(&self.seeded_bug) == Some(bug)
    }

    /// `Err` once the handle was closed, and always for one without the keys of its repository.
    pub fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        self.check_keys()
    }

    /// True for a handle without the keys of its repository: it can verify what needs none, and no more.
    pub fn is_locked(&self) -> bool {
        self.seal.is_locked()
    }

    /// What [`check_running`](Self::check_running) says, for an operation that needs no keys.
    pub fn check_running_without_keys(&self, monitor: &dyn Monitor) -> Result<()> {
        match self.check_running(monitor) {
            Err(Error::PassphraseRequired) if monitor.is_cancelled() => Err(Error::Cancelled),
            Err(Error::PassphraseRequired) => Ok(()),
            other => other,
        }
    }

    fn check_keys(&self) -> Result<()> {
        match self.is_locked() {
            true => Err(Error::PassphraseRequired),
            false => Ok(()),
        }
    }

    /// The bytes of a manifest file.
    pub fn encode_manifest(&self, snapshot: &Snapshot) -> Result<Vec<u8>> {
        self.check_keys()?;
        let seal = match seal::current_epoch(&self.seal) {
            None => ManifestSeal::Plain,
            Some((epoch, keys)) => ManifestSeal::Sealed {
                epoch,
                key: &keys.manifest,
                hedge: &keys.hedge,
            },
        };
        Ok(manifest::encode(snapshot, &seal, &self.config.id, self.entropy())?)
    }

    /// Reads a manifest file.
    pub fn decode_manifest(&self, id: &SnapshotId, bytes: &[u8]) -> Result<Snapshot> {
        self.check_keys()?;
        let decoded = match self.seal.keys() {
            None => manifest::decode(bytes, id, &ManifestKeys::Plain, &self.config.id),
            Some(keys) => {
                let of_epoch = |epoch| keys.epoch(epoch).map(|keys| &keys.manifest);
                manifest::decode(bytes, id, &ManifestKeys::Sealed(&of_epoch), &self.config.id)
            }
        };
        decoded.map_err(|error| match error {
            crate::snapshot::Error::UnsupportedVersion(version) => Error::UnsupportedFormat {
                what: format!("version {version} of snapshot {id}"),
            },
            other => Error::ManifestCorrupt {
                snapshot: *id,
                reason: other.to_string(),
            },
        })
    }

    /// `Err` once the handle was closed, or when `monitor` wants the operation to stop.
    pub fn check_running(&self, monitor: &dyn Monitor) -> Result<()> {
        self.check_open()?;
        if monitor.is_cancelled() {
            return Err(Error::Cancelled);
        }
        Ok(())
    }
}
