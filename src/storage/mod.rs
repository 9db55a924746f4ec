//! Where bytes live. The only room that does I/O.
//!
//! A [`Storage`] is shaped like an object store: every file is written once, whole, under its final name, and is never
//! appended to, renamed or overwritten. Keys are relative paths with `/` (`packs/data/<hex>.pack`). The same repository
//! format can so live in a folder or in a bucket.
//!
//! Always true, for every store:
//! - A name that can be seen holds the complete bytes that were put, also after a crash at any instant.
//! - What was put or deleted before a [`Storage::barrier`] that returned `Ok` survives a power cut.
//! - Locks and leases belong to the kernel (or die with the handle in memory): a dead process holds none.
//!
//! Below [`LocalStorage`] is [`Vfs`], the handful of file-system calls it makes, with a real and a simulated disk.

mod error;
mod export;
mod key;
mod local;
mod memory;
mod missing;
mod place;
mod source_file;
pub mod vfs;

#[cfg(any(test, feature = "testing"))]
pub mod conformance;
#[cfg(any(test, feature = "testing"))]
mod faulty;
#[cfg(any(test, feature = "testing"))]
mod recording;
#[cfg(any(test, feature = "testing"))]
pub mod simfs;

pub use error::{Error, ErrorKind, FailedRead, Result, Verdict, judge};
pub use export::ExportFile;
pub use local::LocalStorage;
pub use memory::MemoryStorage;
pub use place::leads_into;
pub use source_file::SourceFile;
pub use vfs::{FolderIdentity, RealFs, Vfs};

#[cfg(any(test, feature = "testing"))]
pub use faulty::FaultyStorage;
#[cfg(any(test, feature = "testing"))]
pub use recording::RecordingStorage;

use std::io::Read;
use std::time::Duration;

/// What [`Storage::put_new`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The key was free; it now holds the bytes.
    Created,
    /// The key was taken; nothing was changed.
    Exists,
}

/// How a lock file is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Together with other shared holders.
    Shared,
    /// Alone.
    Exclusive,
}

/// A kernel lock or a lease; released when dropped, and by the kernel when the process dies.
pub trait LockGuard: Send + Sync {
    /// For a lease: when this is dropped, its file stays, as if its owner had died.
    fn leave(&self) {}
}

/// The root of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Root {
    /// There is none: the folder was moved or its disk is not mounted. Never the same as an empty one.
    Missing,
    /// It is there. Two equal identities are the same folder; `None` where the store has no stable
    /// ones, so that only the id in the config shows which repository it holds.
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

/// A place that keeps immutable files.
///
/// Implementors promise what the module head says. Wrappers forward every method. All methods may be called from any
/// thread at once.
pub trait Storage: Send + Sync {
    /// Puts the whole of `reader` under `key` if that key is free. Atomic: other readers see nothing or everything.
    /// `len` is what the reader will give. The reader may give gigabytes; it is not buffered whole. A short or failing
    /// reader leaves nothing under `key`.
    fn put_new(&self, key: &str, len: u64, reader: &mut dyn Read) -> Result<Created>;

    /// Reads a whole file of at most `max_len` bytes. `NotFound` if there is none, `TooLarge` if it is longer.
    fn get(&self, key: &str, max_len: u64) -> Result<Vec<u8>>;

    /// Fills `out` with the bytes from `offset`. `UnexpectedEnd` when the file ends before; `NotFound` if there is none.
    fn get_range(&self, key: &str, offset: u64, out: &mut [u8]) -> Result<()>;

    /// Length in bytes, or `None` when there is no such file.
    fn size(&self, key: &str) -> Result<Option<u64>>;

    /// All files right in the folder `prefix` (no trailing slash), sorted by key. Half-written files, folders and
    /// temporary names are left out. A missing folder is empty.
    fn list(&self, prefix: &str) -> Result<Vec<Entry>>;

    /// Removes a file; a missing one is fine.
    fn delete(&self, key: &str) -> Result<()>;

    /// Returns once everything put or deleted before it is durable. A failure is final for this handle: after it every
    /// later barrier fails too, because what was lost cannot be known.
    fn barrier(&self) -> Result<()>;

    /// Publishes `bytes` under the free name `key`, already locked: whoever can see the file finds it held. Dropping the
    /// guard removes the file and frees the lock.
    fn lease(&self, key: &str, bytes: &[u8]) -> Result<Box<dyn LockGuard>>;

    /// Tells whether somebody holds the lease `key`: `Some(true)` held, `Some(false)` free (its owner is gone), `None` no
    /// such file.
    fn lease_held(&self, key: &str) -> Result<Option<bool>>;

    /// Locks the fixed, existing file `key`, waiting up to `wait`. `Ok(None)`: somebody else still held it then.
    fn lock(&self, key: &str, mode: LockMode, wait: Duration) -> Result<Option<Box<dyn LockGuard>>>;

    /// `Ok(())` when kernel locks work here (two handles exclude each other), else `LocksUnsupported`. `key` is an
    /// existing lock file.
    fn probe_locks(&self, key: &str) -> Result<()>;

    /// Puts `bytes` under `key` and keeps what lay there (if anything) in `quarantine/`. A crash leaves the one or the other
    /// under `key`, and nothing is lost. Only under the maintenance lock.
    fn replace_damaged(&self, key: &str, bytes: &[u8]) -> Result<()>;

    /// Moves what lies under `key` (if anything) to `quarantine/`. Only under the maintenance lock.
    fn quarantine(&self, key: &str) -> Result<()>;

    /// `Ok(())` when none of the folders leads out of the store, else `NotADirectory`: who plants a link in place of a folder
    /// would have files written, moved and deleted elsewhere. A folder that is missing is fine.
    fn check_folders(&self, _folders: &[&str]) -> Result<()> {
        Ok(())
    }

    /// The root as it is now. It may have been replaced since the last call: a disk was swapped, a
    /// folder moved and made again. `NotADirectory` when something else has its name.
    fn root(&self) -> Result<Root> {
        Ok(Root::Found(None))
    }

    /// Makes the next barrier cover the folder `prefix` (empty: the root) too: what other processes put or deleted there
    /// before it is then durable as well.
    fn include_in_barrier(&self, _prefix: &str) {}

    /// Of these keys, at most `most` that were put last, as far as the store tells; all of them
    /// where it does not. A hint: a store that was copied may have other times.
    fn put_last(&self, keys: Vec<String>, _most: usize) -> Vec<String> {
        keys
    }

    /// Removes half-written files in the folder `prefix` whose writer is gone, and tells how many. Safe beside live writers.
    fn clean_temporary(&self, _prefix: &str) -> Result<u64> {
        Ok(0)
    }

    /// Makes the folders of a new repository (and what lies above them), each durable in its parent. `Ok(false)` when the
    /// place existed and held anything; nothing is made then. A place that was half made by an interrupted init (only
    /// folders of `folders` and empty, or files of `allowed`) counts as free. An entry of `allowed` that ends with `/`
    /// allows any file right in that folder.
    fn create_folders(&self, folders: &[&str], allowed: &[&str]) -> Result<bool>;
}

/// Puts bytes that are in memory.
pub fn put_bytes(storage: &dyn Storage, key: &str, bytes: &[u8]) -> Result<Created> {
    storage.put_new(key, bytes.len() as u64, &mut &bytes[..])
}
