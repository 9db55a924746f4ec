//! Storage of bytes. The only room that does I/O.
//!
//! A [`Storage`] has the interface of an object store: every file is written once, whole, under its
//! final name, and is never appended to, renamed or overwritten. Keys are relative paths with `/`
//! (`packs/data/<hex>.pack`). The same repository format can therefore be kept in a folder or in a
//! bucket.
//!
//! Always true, for every store:
//! - A visible key has the complete bytes that were put, also after a crash at any instant.
//! - Puts and deletes before a [`Storage::barrier`] that returned `Ok` survive a power cut.
//! - Locks and leases are released when their process exits, however it ends.
//!
//! Below [`LocalStorage`] is [`Vfs`], the file-system calls that it makes, with a real and a
//! simulated implementation.

mod containment;
mod error;
mod export;
mod file_rest;
mod key;
mod local;
mod lock_table;
mod memory;
mod missing;
mod prefetch;
#[cfg(feature = "remote")]
mod remote;
mod source_file;
#[cfg(unix)]
pub mod tree;
pub mod vfs;

#[cfg(any(test, feature = "testing"))]
pub mod conformance;
#[cfg(any(test, feature = "testing"))]
mod faulty;
#[cfg(any(test, feature = "testing"))]
mod recording;
#[cfg(any(test, feature = "testing"))]
pub mod simfs;

pub use containment::leads_into;
pub use error::{Error, ErrorKind, FailedRead, RemoteFault, Result, Verdict, judge};
pub use export::ExportFile;
pub use file_rest::{FileRest, RestState};
pub use local::LocalStorage;
pub use memory::MemoryStorage;
pub use prefetch::{Announced, Ask, Prefetched, announced, prefetch};
#[cfg(feature = "remote")]
pub use remote::{ConnectError, RemoteOptions, RemoteStorage, is_url};
pub use source_file::SourceFile;
#[cfg(unix)]
pub use tree::Tree;
pub use vfs::{FolderIdentity, RealFs, Vfs};

#[cfg(any(test, feature = "testing"))]
pub use faulty::FaultyStorage;
#[cfg(any(test, feature = "testing"))]
pub use recording::RecordingStorage;

use std::io::Read;
use std::time::Duration;

/// Result of [`Storage::put_new`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The key was free and now has the bytes.
    Created,
    /// The key exists; nothing was changed.
    Exists,
}

/// Mode of a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Held together with other shared holders.
    Shared,
    /// Held by one holder alone.
    Exclusive,
}

/// A kernel lock or a lease, released when dropped, and by the kernel when the process exits.
pub trait LockGuard: Send + Sync {
    /// For a lease: keeps its file when this is dropped, as if the owner had been killed.
    fn leave(&self) {}
}

/// What a store does with a put that must not overwrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConditionalPut {
    /// The condition holds, also between processes.
    Honoured,
    /// The condition is ignored: the put overwrites.
    Ignored,
    /// Such puts are refused.
    Refused,
}

impl ConditionalPut {
    /// Its name in results: `honoured`, `ignored` or `refused`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Honoured => "honoured",
            Self::Ignored => "ignored",
            Self::Refused => "refused",
        }
    }
}

/// The root of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// There is no root: the folder was moved or its disk is not mounted. Not the same as an empty
    /// root.
    Missing,
    /// The root exists. Equal identities mean the same folder; `None` where the store has no stable
    /// identities, so that only the id in the config shows which repository is there.
    Found(Option<FolderIdentity>),
}

/// One entry of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The whole key.
    pub key: String,
    /// Length in bytes.
    pub len: u64,
}

/// A store of immutable files.
///
/// Implementations keep the guarantees of the module head. Wrappers forward every method. All
/// methods may be called concurrently from any thread.
pub trait Storage: Send + Sync {
    /// Puts all bytes of `reader` under `key` if that key is free. Atomic: other readers see
    /// nothing or all bytes. `len` is the exact number of bytes of the reader, which may be
    /// gigabytes and is not buffered whole. A reader that fails or has another length leaves
    /// nothing under `key`.
    fn put_new(&self, key: &str, len: u64, reader: &mut dyn Read) -> Result<Created>;

    /// Reads a whole file of at most `max_len` bytes. `NotFound` if there is none, `TooLarge` if it
    /// is longer.
    fn get(&self, key: &str, max_len: u64) -> Result<Vec<u8>>;

    /// Fills `out` with the bytes from `offset`. `UnexpectedEnd` when the file ends earlier;
    /// `NotFound` if there is none.
    fn get_range(&self, key: &str, offset: u64, out: &mut [u8]) -> Result<()>;

    /// Returns the length in bytes, or `None` when there is no such file.
    fn size(&self, key: &str) -> Result<Option<u64>>;

    /// Lists the files directly in the folder `prefix` (no trailing slash), sorted by key.
    /// Half-written files, folders and temporary names are left out. A missing folder has no files.
    fn list(&self, prefix: &str) -> Result<Vec<Entry>>;

    /// Deletes a file; succeeds if there is none.
    fn delete(&self, key: &str) -> Result<()>;

    /// Deletes files, in any order and several at once where each is a request; none of them needs
    /// to exist. After a failure some are deleted.
    fn delete_all(&self, keys: &[String]) -> Result<()> {
        keys.iter().try_for_each(|key| self.delete(key))
    }

    /// Returns once all earlier puts and deletes are durable. A failure is final for this handle:
    /// every later barrier fails too, because it is unknown what was lost.
    fn barrier(&self) -> Result<()>;

    /// Publishes `bytes` under the free key `key`, already locked: any process that sees the file
    /// finds it held. Dropping the guard deletes the file and releases the lock.
    fn lease(&self, key: &str, bytes: &[u8]) -> Result<Box<dyn LockGuard>>;

    /// Returns whether the lease `key` is held: `Some(true)` held, `Some(false)` free (its owner
    /// has exited), `None` no such file.
    fn lease_held(&self, key: &str) -> Result<Option<bool>>;

    /// Locks the fixed, existing file `key`, waiting up to `wait`. `Ok(None)` when another holder
    /// still had it then.
    fn lock(&self, key: &str, mode: LockMode, wait: Duration) -> Result<Option<Box<dyn LockGuard>>>;

    /// Returns `Ok(())` when kernel locks work on this file system (two handles exclude each
    /// other), else `LocksUnsupported`. `key` is an existing lock file.
    fn probe_locks(&self, key: &str) -> Result<()>;

    /// Puts `bytes` under `key` and keeps the old file, if any, in `quarantine/`. A crash leaves
    /// the old or the new file under `key`, and neither is lost. Only under the maintenance lock.
    fn replace_damaged(&self, key: &str, bytes: &[u8]) -> Result<()>;

    /// Moves the file under `key`, if any, to `quarantine/`. Only under the maintenance lock.
    fn quarantine(&self, key: &str) -> Result<()>;

    /// Returns `Ok(())` when none of the folders is a link, else `NotADirectory`: through a planted
    /// link, files elsewhere would be written, moved and deleted. A missing folder is accepted.
    fn check_folders(&self, _folders: &[&str]) -> Result<()> {
        Ok(())
    }

    /// Whether this is object storage: each call is a request to another machine, which keeps the
    /// bytes safe by itself, and locks exclude no other process.
    fn is_remote(&self) -> bool {
        false
    }

    /// Whether puts never overwrite, also those of other processes; `None` where it is not known
    /// yet. Only of interest for object storage: other stores refuse to write without it.
    fn conditional_put(&self) -> Option<ConditionalPut> {
        Some(ConditionalPut::Honoured)
    }

    /// Finds out [`conditional_put`](Self::conditional_put) where it is not known yet.
    fn probe_conditional_put(&self) -> Result<ConditionalPut> {
        Ok(ConditionalPut::Honoured)
    }

    /// Returns the current root. It may have been replaced since the last call: a disk was swapped,
    /// a folder was moved and recreated. `NotADirectory` when its path is not a folder.
    fn root(&self) -> Result<Root> {
        Ok(Root::Found(None))
    }

    /// Forgets what is kept of files: from now on reads show what is stored.
    fn forget_cached(&self) {}

    /// The same of one file, whose bytes turned out to be wrong.
    fn forget_cached_of(&self, _key: &str) {}

    /// Starts reads that the calling thread is about to make, and returns the number of this
    /// announcement: see [`prefetch()`].
    fn prefetch(&self, _reads: Vec<Ask>) -> u64 {
        0
    }

    /// Discards the reads of an announcement that were not made.
    fn forget_prefetched(&self, _announcement: u64) {}

    /// Includes the folder `prefix` (empty for the root) in the next barrier: earlier puts and
    /// deletes of other processes in it are then durable too.
    fn include_in_barrier(&self, _prefix: &str) {}

    /// Returns at most `most` of these keys, those that were put last; all of them where the store
    /// has no times. A hint: a copied store may have other times.
    fn put_last(&self, keys: Vec<String>, _most: usize) -> Vec<String> {
        keys
    }

    /// Deletes half-written files in the folder `prefix` whose writer has exited, and returns their
    /// number. Safe concurrently with live writers.
    fn clean_temporary(&self, _prefix: &str) -> Result<u64> {
        Ok(0)
    }

    /// Creates the folders of a new repository and the missing ones above them, each durable in its
    /// parent. Returns `Ok(false)`, and creates nothing, when the root exists and is not empty. The
    /// remains of an interrupted init (empty folders of `folders`, and files of `allowed`) count as
    /// empty. An entry of `allowed` that ends with `/` allows any file directly in that folder.
    fn create_folders(&self, folders: &[&str], allowed: &[&str]) -> Result<bool>;
}

/// Puts `bytes` under `key`; see [`Storage::put_new`].
pub fn put_bytes(storage: &dyn Storage, key: &str, bytes: &[u8]) -> Result<Created> {
    storage.put_new(key, bytes.len() as u64, &mut &bytes[..])
}
