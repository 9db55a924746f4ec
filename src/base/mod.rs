//! The parts of an open repository that do not depend on its chunks: folder, settings, keys and
//! locks, and the keys that each kind of file is sealed with.
//!
//! A [`Base`] lists packs, groups and kill lists, and opens the segments of the index; it neither
//! reads nor writes chunks, and looks nothing up in the index. That is the room `repo`, whose
//! `Repository` owns a `Base` and dereferences to it. Functions that need no chunks take `&Base`.

mod bugs;
mod config;
mod copies;
mod decode;
mod errors;
mod foreign;
mod keys;
mod leases;
mod manifests;
pub mod mirror;
mod open;
mod options;
mod protocol;
mod readme;
mod root_folder;
mod seal;
mod wait;
mod writing;

pub use bugs::SeededBug;
pub use config::{Config, MAX_CONFIG_LEN, ParityParams};
pub use decode::{Decoded, Plain, Prover, decode_stored, decode_unproven, judge_chunk, meta_of, prove_ids};
pub use keys::{KeyInfo, KeyNames, MAX_KEYS, key_names};
pub use leases::{refuse_holders, refuse_repairs};
pub use open::{Opened, init, open};
pub use options::{InitOptions, OpenOptions, Secret};
pub use protocol::{Protocol, SessionEnd};
pub use root_folder::Generation;
pub use seal::{ChunkMeta, ChunkSum, RepoSeal, SEAL_OVERHEAD, Seals, current_epoch};
pub use wait::Maintenance;

use crate::clock::Clock;
use crate::crypto::KeyBundle;
use crate::entropy::Entropy;
use crate::error::{Error, Result};
use crate::executor::Executor;
use crate::id::{KeyId, PackId, SnapshotId};
use crate::layout;
use crate::lock::KillLists;
use crate::monitor::{Monitor, Warning};
use crate::parity::{Groups, Shape};
pub use crate::storage::ConditionalPut;
use crate::storage::{LocalStorage, Storage, judge, leads_into};
#[cfg(feature = "remote")]
pub use crate::storage::{RemoteOptions, is_url};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Everything that the engine needs from outside. Tests pass simulated parts; a run is then
/// deterministic, call for call.
#[derive(Clone)]
pub struct Environment {
    /// The storage of the repository.
    pub storage: Arc<dyn Storage>,
    /// The path of the repository, for messages and for [`Base::contains_path`].
    pub path: String,
    /// The current time.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub entropy: Arc<dyn Entropy>,
    /// The worker pool.
    pub executor: Arc<dyn Executor>,
    /// Receives warnings that belong to no operation.
    pub monitor: Arc<dyn Monitor>,
}

impl Environment {
    /// A folder on this machine, `threads` workers (at least one), the system's clock and
    /// randomness.
    pub fn local(path: &Path, threads: usize, monitor: Arc<dyn Monitor>) -> Result<Self> {
        let executor = crate::executor::PoolExecutor::new(threads)?;
        Self::local_with(path, Arc::new(executor), monitor)
    }

    /// The same with a pool that other handles may share.
    pub fn local_with(path: &Path, executor: Arc<dyn Executor>, monitor: Arc<dyn Monitor>) -> Result<Self> {
        let entropy: Arc<dyn Entropy> = Arc::new(crate::entropy::OsEntropy);
        Ok(Self {
            storage: Arc::new(LocalStorage::open_path(path, Arc::clone(&entropy))?),
            path: path.display().to_string(),
            clock: Arc::new(crate::clock::SystemClock),
            entropy,
            executor,
            monitor,
        })
    }

    /// A repository on object storage; see
    /// [`RemoteStorage::connect`](crate::storage::RemoteStorage::connect).
    #[cfg(feature = "remote")]
    pub fn remote_with(
        url: &str,
        options: &RemoteOptions,
        executor: Arc<dyn Executor>,
        monitor: Arc<dyn Monitor>,
    ) -> Result<Self> {
        let entropy: Arc<dyn Entropy> = Arc::new(crate::entropy::OsEntropy);
        let storage = crate::storage::RemoteStorage::connect(url, options, Arc::clone(&entropy))?;
        Ok(Self {
            storage: Arc::new(storage),
            path: url.to_owned(),
            clock: Arc::new(crate::clock::SystemClock),
            entropy,
            executor,
            monitor,
        })
    }

    /// `Err` when the caller has cancelled the opening.
    fn check_wanted(&self) -> Result<()> {
        match self.monitor.is_cancelled() {
            true => Err(Error::Cancelled),
            false => Ok(()),
        }
    }
}

/// Default of [`OpenOptions::memory_limit`], in bytes.
pub const DEFAULT_MEMORY_LIMIT: u64 = 192 << 20;

/// An open repository without its chunks.
pub struct Base {
    env: Environment,
    config: Config,
    /// Exact bytes of `config.json`, for its copies.
    config_bytes: Vec<u8>,
    /// The secrets of an encrypted repository, for new key files.
    bundle: Option<KeyBundle>,
    /// The key file that this handle was opened with.
    current_key: Mutex<Option<KeyId>>,
    seal: Arc<RepoSeal>,
    lock_wait: Duration,
    /// The reason why this handle must not write, if there is one.
    write_refused: Mutex<Option<Error>>,
    /// The entry of `config.json` in its folder is known to be durable.
    config_durable: AtomicBool,
    closed: AtomicBool,
    /// The folder as the last check found it.
    folder: Mutex<root_folder::RootFolder>,
    generation: root_folder::Generations,
    bugs: bugs::SeededBugs,
}

impl Base {
    /// The settings that the repository was created with.
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
        let own = Path::new(&self.env.path);
        match self.storage().is_remote() {
            true => path == own,
            false => leads_into(path, own, &layout::FOLDERS),
        }
    }

    /// The folder of the repository; `None` on object storage.
    pub fn folder_path(&self) -> Option<&Path> {
        (!self.storage().is_remote()).then(|| Path::new(&self.env.path))
    }

    /// The storage of the repository.
    pub fn storage(&self) -> &dyn Storage {
        self.env.storage.as_ref()
    }

    /// The ids and seals of the repository.
    pub fn seal(&self) -> &Arc<RepoSeal> {
        &self.seal
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

    /// How long to wait for a lock.
    pub fn lock_wait(&self) -> Duration {
        self.lock_wait
    }

    /// Sends a warning to the monitor of this handle.
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

    /// The ids of all manifests in the folder, in no order, without those that count as absent: see
    /// [`forgotten_among`](Self::forgotten_among). Tombstones are among them.
    pub fn list_manifests(&self) -> Result<Vec<SnapshotId>> {
        let mut listed = self.list_manifest_files()?;
        let forgotten = self.forgotten_among(&listed)?;
        listed.retain(|id| !forgotten.contains(id));
        Ok(listed)
    }

    /// The ids of all manifest files in the folder, in no order.
    pub fn list_manifest_files(&self) -> Result<Vec<SnapshotId>> {
        let files = self.storage().list(layout::SNAPSHOTS)?.into_iter();
        let ids = files.filter_map(|file| layout::id_of(&file.key, ".json"));
        Ok(ids.map(SnapshotId).collect())
    }

    /// All packs in the folder, with their lengths in bytes.
    pub fn list_packs(&self) -> Result<BTreeMap<PackId, u64>> {
        let files = self.storage().list(layout::DATA)?.into_iter();
        let packs = files.filter_map(|file| Some((PackId(layout::id_of(&file.key, ".pack")?), file.len)));
        Ok(packs.collect())
    }

    /// All packs with a file in the folder: the pack, or its `.idx`.
    pub fn list_packs_and_indexes(&self) -> Result<BTreeSet<PackId>> {
        let files = self.storage().list(layout::DATA)?.into_iter();
        let id = |key: &str| layout::id_of(key, ".pack").or_else(|| layout::id_of(key, ".idx"));
        Ok(files.filter_map(|file| id(&file.key)).map(PackId).collect())
    }

    /// The length of a pack in bytes; `None` when there is no regular file with its id.
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

    /// All parity groups of this repository.
    pub fn parity_groups(&self) -> Result<Groups> {
        let config = self.config();
        Ok(Groups::load(self.storage(), &config.id, config.longest_pack())?)
    }

    /// Shape of the parity groups, if there are any.
    pub fn parity_shape(&self) -> Option<Shape> {
        self.config().parity.map(|shape| Shape {
            data: shape.data,
            parity: shape.parity,
        })
    }

    /// Makes running operations end with [`Error::Closed`] at their next step, and new ones at
    /// once.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// `Err` once the handle was closed, and always for a handle without the keys of its
    /// repository.
    pub fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        self.check_keys()
    }

    /// True for a handle without the keys of its repository: it can only verify what needs no keys.
    pub fn is_keyless(&self) -> bool {
        self.seal.is_keyless()
    }

    /// `Err` once the handle was closed, or when `monitor` wants the operation to stop.
    pub fn check_running(&self, monitor: &dyn Monitor) -> Result<()> {
        self.check_open()?;
        if monitor.is_cancelled() {
            return Err(Error::Cancelled);
        }
        Ok(())
    }

    /// The result of [`check_running`](Self::check_running), for an operation that needs no keys.
    pub fn check_running_without_keys(&self, monitor: &dyn Monitor) -> Result<()> {
        match self.check_running(monitor) {
            Err(Error::PassphraseRequired) if monitor.is_cancelled() => Err(Error::Cancelled),
            Err(Error::PassphraseRequired) => Ok(()),
            other => other,
        }
    }

    fn check_keys(&self) -> Result<()> {
        match self.is_keyless() {
            true => Err(Error::PassphraseRequired),
            false => Ok(()),
        }
    }
}
