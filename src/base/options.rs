//! Options for opening and creating a repository.

use super::DEFAULT_MEMORY_LIMIT;
use super::config::ParityParams;
use crate::chunk::ChunkerParams;
use crate::codec::Compression;
use crate::crypto::{Credential, KdfParams};
use crate::id::RepoId;
use std::time::Duration;
use zeroize::Zeroizing;

/// The secret that unlocks a sealed repository.
pub enum Secret {
    /// UTF-8 bytes of a passphrase.
    Passphrase(Zeroizing<Vec<u8>>),
    /// A random key.
    Raw(Zeroizing<[u8; 32]>),
}

impl Secret {
    pub(super) fn credential(&self) -> Credential<'_> {
        match self {
            Self::Passphrase(text) => Credential::Passphrase(text),
            Self::Raw(key) => Credential::Raw(key),
        }
    }
}

/// Options of a handle; they are not stored.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Refuse every write.
    pub read_only: bool,
    /// Open an encrypted repository without its keys. Such a handle can only verify, at `quick` and
    /// `standard`; every other operation fails with `PassphraseRequired`. A plain repository has no
    /// keys, and opens as usual.
    pub keyless: bool,
    /// How long to wait for a lock. Default 10 seconds.
    pub lock_wait: Duration,
    /// Bytes for buffers and caches of all operations of the handle together. Default
    /// [`DEFAULT_MEMORY_LIMIT`].
    pub memory_limit: u64,
    /// Prove each new chunk before it is stored: it opens and decodes to the bytes of the source.
    /// Default true.
    pub verify_writes: bool,
    /// Heal packs that a restore finds damaged, from parity. Default true.
    pub heal: bool,
    /// Open the repository only if it has this id. Default: any.
    pub repository_id: Option<RepoId>,
    /// Remove the mark of a mirror, so that this copy can be written to. Nothing is done in a
    /// repository that is no mirror.
    pub promote: bool,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            read_only: false,
            keyless: false,
            lock_wait: Duration::from_secs(10),
            memory_limit: DEFAULT_MEMORY_LIMIT,
            verify_writes: true,
            heal: true,
            repository_id: None,
            promote: false,
        }
    }
}

/// Settings of a new repository.
#[derive(Debug, Clone, Default)]
pub struct InitOptions {
    /// Chunk sizes; default 64 KiB, 256 KiB, 1 MiB.
    pub chunking: ChunkerParams,
    /// Default compression of ingests; default gzip 3.
    pub compression: Compression,
    /// Target length of a pack in bytes; default 8 MiB.
    pub pack_size: Option<u64>,
    /// Parity groups; default RS(20,1). `Some(None)`: none.
    pub parity: Option<Option<ParityParams>>,
    /// Cost of the key derivation; default 64 MiB, 3 passes, 4 lanes.
    pub kdf: KdfParams,
    /// Options of the handle.
    pub open: OpenOptions,
}
