//! Shared by the tests: repositories in memory or on a simulated disk, repeatable data, and
//! shortcuts.

pub mod faults;

use containerarchive::chunk::ChunkerParams;
use containerarchive::clock::FixedClock;
use containerarchive::codec::Compression;
use containerarchive::crypto::KdfParams;
use containerarchive::entropy::{Entropy, SeededEntropy};
use containerarchive::executor::{Executor, InlineExecutor, PoolExecutor};
use containerarchive::monitor::{NullMonitor, TestMonitor};
use containerarchive::ops::{self, IngestOptions, ItemSpec, ReaderItems, RestoreOptions};
use containerarchive::repo::{self, Environment, InitOptions, OpenOptions, ParityParams, Repository, Secret};
use containerarchive::snapshot::Snapshot;
use containerarchive::storage::{MemoryStorage, Storage};
use containerarchive::{Error, Result};
use std::io::Read;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Returns `len` bytes that do not compress, the same for the same seed.
pub fn random_bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0u8; len];
    SeededEntropy::new(seed).fill(&mut bytes).unwrap();
    bytes
}

/// Returns `len` bytes that compress well, the same for the same seed.
pub fn text_bytes(seed: u64, len: usize) -> Vec<u8> {
    let words = [
        "select",
        "insert",
        "into",
        "values",
        "customer",
        "order",
        "2026-11-23",
        "NULL",
        "true",
        "id",
    ];
    let picks = random_bytes(seed, len / 4 + 8);
    let mut text = Vec::with_capacity(len + 16);
    for pick in picks {
        text.extend_from_slice(words[pick as usize % words.len()].as_bytes());
        text.push(if pick > 240 { b'\n' } else { b' ' });
        if text.len() >= len {
            break;
        }
    }
    text.truncate(len);
    text
}

/// Sets the flag when dropped, also after a panic.
pub struct SetOnDrop<'a>(pub &'a std::sync::atomic::AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, std::sync::atomic::Ordering::SeqCst);
    }
}

/// A kind of repository.
#[derive(Debug, Clone, Copy)]
pub struct Flavor {
    /// Whether it is encrypted, with the passphrase `secret`.
    pub encrypted: bool,
    /// The compression of ingests.
    pub compression: Compression,
}

/// Plain and encrypted, with each codec.
pub fn flavors() -> Vec<Flavor> {
    let codecs = [
        Compression::None,
        Compression::Gzip { level: 3 },
        Compression::Zstd { level: 3 },
    ];
    [false, true]
        .into_iter()
        .flat_map(|encrypted| codecs.map(|compression| Flavor { encrypted, compression }))
        .collect()
}

impl Flavor {
    /// Plain gzip.
    pub fn plain() -> Self {
        Self {
            encrypted: false,
            compression: Compression::default(),
        }
    }

    /// Encrypted zstd.
    pub fn sealed() -> Self {
        Self {
            encrypted: true,
            compression: Compression::Zstd { level: 1 },
        }
    }

    /// Returns the passphrase, if there is one.
    pub fn secret(&self) -> Option<Secret> {
        self.encrypted.then(passphrase)
    }

    /// Returns options with small chunks and packs, and cheap key derivation.
    pub fn small(&self) -> InitOptions {
        InitOptions {
            chunking: ChunkerParams {
                min: 256,
                avg: 1024,
                max: 4096,
            },
            compression: self.compression,
            pack_size: Some(65_536),
            // small groups, so that some are full
            parity: Some(Some(ParityParams { data: 4, parity: 1 })),
            kdf: KdfParams {
                memory_kib: 8,
                time: 1,
                lanes: 1,
            },
            open: OpenOptions::default(),
        }
    }
}

/// The passphrase of test repositories.
pub fn passphrase() -> Secret {
    Secret::Passphrase(Zeroizing::new(b"secret".to_vec()))
}

/// A repeatable environment over `storage`; everything runs on the calling thread.
pub fn environment(storage: Arc<dyn Storage>, seed: u64) -> Environment {
    environment_with(storage, seed, Arc::new(InlineExecutor))
}

/// The same with workers.
pub fn threaded_environment(storage: Arc<dyn Storage>, seed: u64, threads: usize) -> Environment {
    environment_with(storage, seed, Arc::new(PoolExecutor::new(threads).unwrap()))
}

fn environment_with(storage: Arc<dyn Storage>, seed: u64, executor: Arc<dyn Executor>) -> Environment {
    Environment {
        storage,
        path: "memory".to_owned(),
        clock: Arc::new(FixedClock::new(1_795_398_300_000)),
        entropy: Arc::new(SeededEntropy::new(seed)),
        executor,
        monitor: Arc::new(TestMonitor::default()),
    }
}

/// A new small repository in memory, with its storage.
pub fn memory_repo(flavor: Flavor) -> (Arc<Repository>, Arc<dyn Storage>) {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    (init(environment(Arc::clone(&storage), 7), flavor).unwrap(), storage)
}

/// Creates a small repository.
pub fn init(environment: Environment, flavor: Flavor) -> Result<Arc<Repository>> {
    repo::init(environment, flavor.secret().as_ref(), &flavor.small()).map(Arc::new)
}

/// Opens a repository created by [`init`].
pub fn open(environment: Environment, flavor: Flavor) -> Result<Arc<Repository>> {
    repo::open(environment, flavor.secret().as_ref(), &OpenOptions::default()).map(Arc::new)
}

/// Ingests one item named `data`.
pub fn ingest(repo: &Arc<Repository>, data: &[u8]) -> Result<Snapshot> {
    ingest_items(repo, &[("data", data)])
}

/// Ingests several items.
pub fn ingest_items(repo: &Arc<Repository>, items: &[(&str, &[u8])]) -> Result<Snapshot> {
    let items = items
        .iter()
        .map(|(name, data)| (ItemSpec::new(name, "test"), Box::new(*data) as Box<dyn Read + Send>))
        .collect();
    ops::ingest(
        repo,
        &mut ReaderItems::new(items),
        &IngestOptions::default(),
        &NullMonitor,
    )
}

/// Restores a complete snapshot, or one item.
pub fn restore(repo: &Arc<Repository>, id: &str, item: Option<&str>) -> Result<Vec<u8>> {
    let options = RestoreOptions {
        item: item.map(str::to_owned),
        range: None,
    };
    restore_with(repo, id, &options)
}

/// Restores with options.
pub fn restore_with(repo: &Arc<Repository>, id: &str, options: &RestoreOptions) -> Result<Vec<u8>> {
    let plan = ops::plan_restore(repo, id, options)?;
    let mut out = Vec::new();
    ops::restore(repo, &plan, &NullMonitor, &mut |bytes| {
        out.extend_from_slice(bytes);
        Ok::<(), Error>(())
    })?;
    assert_eq!(out.len() as u64, plan.size());
    Ok(out)
}
