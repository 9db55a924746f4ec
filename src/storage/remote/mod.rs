//! A repository on object storage: S3 and what speaks it, Google Cloud Storage, Azure Blob.
//!
//! The only room that runs asynchronous code: the crate `object_store`, on two threads of its own
//! (`runtime.rs`). To the engine it is a [`Storage`] as any other; each call blocks until its
//! answer has arrived, and may be made by many threads at once.
//!
//! What differs from a folder:
//! - A put or delete is durable when it is answered, so a barrier does nothing. There are no
//!   half-written files: an upload in parts that was broken off is not visible, and is removed by a
//!   lifecycle rule of the bucket.
//! - There are no kernel locks. A lock excludes the handles of this process, and nothing else: the
//!   operations that rely on more ask [`Storage::is_remote`] first. A lease is an object that its
//!   owner renews (`holders.rs`); whether its owner lives is a guess, which safety never rests on.
//! - Whether a put keeps its promise never to overwrite depends on the service, and is tried
//!   (`probe.rs`). Where it is not kept, only one process may write.
//!
//! A put whose answer was lost is repeated, and then finds its own object: equal bytes under the
//! name count as created. Names are random, ids of sessions, or hashes of the bytes, so equal bytes
//! of another writer are as good as one's own.

mod cache;
mod connect;
mod error;
mod holders;
mod probe;
mod runtime;
mod transfer;

pub use connect::{ConnectError, RemoteOptions, is_url};

use super::key::{check_key, folder_of, is_allowed, join, random_hex};
use super::{ConditionalPut, Created, Entry, LockGuard, LockMode, Result, Root, Storage};
use crate::entropy::Entropy;
use error::of_store;
use holders::Holders;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

/// [`Storage`] in a bucket, below a prefix.
pub struct RemoteStorage {
    bucket: Arc<Bucket>,
    holders: Holders,
    cache: cache::Cache,
    probe: probe::Probe,
}

/// A connected bucket and the prefix of the repository in it.
struct Bucket {
    store: Arc<dyn ObjectStore>,
    /// Empty for the whole bucket.
    root: Path,
    /// Its URL without secrets: for messages, and to know when two handles use the same one.
    name: String,
    /// Texts that no message may contain.
    secrets: Vec<String>,
    entropy: Arc<dyn Entropy>,
}

impl Bucket {
    /// The whole key of a key of the repository; the root for the empty one.
    fn path(&self, key: &str) -> Path {
        let joined = join(self.root.as_ref(), key);
        // every key consists of letters, digits and signs that need no encoding, see `check_key`
        Path::from(joined.trim_end_matches('/'))
    }

    /// The key of the repository that an object has; `None` for the root itself.
    fn key(&self, path: &Path) -> Option<String> {
        let below = match self.root.as_ref() {
            "" => path.as_ref(),
            root => path.as_ref().strip_prefix(root)?.strip_prefix('/')?,
        };
        (!below.is_empty()).then(|| below.to_owned())
    }

    fn error(&self, op: &'static str, key: &str, error: object_store::Error) -> super::Error {
        of_store(op, key, error, &self.secrets)
    }
}

impl RemoteStorage {
    /// Prepares access to the repository at `url`: `s3://bucket/prefix`, `gs://…` or `az://…`.
    /// Makes no request. What `options` leaves open is taken from the environment (`AWS_…`,
    /// `GOOGLE_…`, `AZURE_…`) and from the identity of the machine.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub fn connect(
        url: &str,
        options: &RemoteOptions,
        entropy: Arc<dyn Entropy>,
    ) -> std::result::Result<Self, ConnectError> {
        let connected = connect::connect(url, options)?;
        let bucket = Bucket {
            store: connected.store,
            root: connected.root,
            name: connected.name,
            secrets: options.secrets(),
            entropy,
        };
        Ok(Self::of(bucket, holders::Timing::default()))
    }

    /// The repository below `root` in any store, for tests. Storages with different names know
    /// nothing of each other, as on different machines; a lease of another one counts as abandoned
    /// after `expiry`.
    #[cfg(any(test, feature = "testing"))]
    pub fn of_store(
        store: Arc<dyn ObjectStore>,
        root: &str,
        name: &str,
        expiry: Duration,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let bucket = Bucket {
            store,
            root: Path::from(root),
            name: name.to_owned(),
            secrets: Vec::new(),
            entropy,
        };
        Self::of(bucket, holders::Timing::expiring(expiry))
    }

    fn of(bucket: Bucket, timing: holders::Timing) -> Self {
        let bucket = Arc::new(bucket);
        Self {
            cache: cache::Cache::default(),
            holders: Holders::new(Arc::clone(&bucket), timing),
            probe: probe::Probe::new(Arc::clone(&bucket)),
            bucket,
        }
    }

    /// Copies the object under `key`, if any, below `quarantine/`. `false`: there is none.
    fn keep_aside(&self, op: &'static str, key: &str) -> Result<bool> {
        let Some(len) = transfer::size(&self.bucket, key)? else {
            return Ok(false);
        };
        let random =
            random_hex::<4>(self.bucket.entropy.as_ref()).map_err(|error| super::Error::from_io(op, key, error))?;
        let kept = format!("quarantine/{}-{random}", key.replace('/', "_"));
        let (from, to) = (self.bucket.path(key), self.bucket.path(&kept));
        let copied = runtime::block_on(self.bucket.store.copy(&from, &to))?;
        copied.map_err(|error| self.bucket.error(op, key, error))?;
        // some services copy after their answer: nothing is deleted before the copy is there
        match transfer::size(&self.bucket, &kept)? == Some(len) {
            true => Ok(true),
            false => Err(super::Error::new(super::ErrorKind::Unavailable, op, key)),
        }
    }
}

impl Storage for RemoteStorage {
    fn put_new(&self, key: &str, len: u64, reader: &mut dyn Read) -> Result<Created> {
        check_key("put", key)?;
        let how = self.probe.result()?;
        if !cache::may_keep(key, len) {
            return transfer::put_new(&self.bucket, how, key, len, reader);
        }
        let bytes = transfer::read_whole(key, len, reader)?;
        let created = transfer::put_new(&self.bucket, how, key, len, &mut &bytes[..])?;
        if created == Created::Created {
            self.cache.put(key, &bytes);
        }
        Ok(created)
    }

    fn get(&self, key: &str, max_len: u64) -> Result<Vec<u8>> {
        check_key("get", key)?;
        transfer::get(&self.bucket, key, max_len)
    }

    fn get_range(&self, key: &str, offset: u64, out: &mut [u8]) -> Result<()> {
        check_key("get", key)?;
        match self.cache.get_range(&self.bucket, key, offset, out)? {
            Some(()) => Ok(()),
            None => transfer::get_range(&self.bucket, key, offset, out),
        }
    }

    fn size(&self, key: &str) -> Result<Option<u64>> {
        check_key("size", key)?;
        match self.cache.len(key) {
            Some(len) => Ok(Some(len)),
            None => transfer::size(&self.bucket, key),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        let path = self.bucket.path(prefix);
        let listed = runtime::block_on(self.bucket.store.list_with_delimiter(Some(&path)))?;
        let listed = listed.map_err(|error| self.bucket.error("list", prefix, error))?;
        let inside = |key: &str| folder_of(key) == prefix && check_key("list", key).is_ok();
        let mut entries: Vec<Entry> = listed
            .objects
            .into_iter()
            .filter_map(|meta| {
                Some(Entry {
                    key: self.bucket.key(&meta.location).filter(|key| inside(key))?,
                    len: meta.size,
                })
            })
            .collect();
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        if prefix == cache::FOLDER {
            self.cache.listed(&entries);
        }
        Ok(entries)
    }

    fn delete(&self, key: &str) -> Result<()> {
        check_key("delete", key)?;
        self.cache.forget(key);
        transfer::delete(&self.bucket, key)
    }

    fn forget_cached(&self) {
        self.cache.clear();
    }

    fn barrier(&self) -> Result<()> {
        Ok(())
    }

    fn lease(&self, key: &str, bytes: &[u8]) -> Result<Box<dyn LockGuard>> {
        check_key("lease", key)?;
        self.holders.lease(key, bytes, self.probe.result()?)
    }

    fn lease_held(&self, key: &str) -> Result<Option<bool>> {
        check_key("lease", key)?;
        self.holders.lease_held(key)
    }

    fn lock(&self, key: &str, mode: LockMode, wait: Duration) -> Result<Option<Box<dyn LockGuard>>> {
        check_key("lock", key)?;
        Ok(self.holders.lock(key, mode, wait))
    }

    fn probe_locks(&self, key: &str) -> Result<()> {
        check_key("lock", key)
    }

    fn replace_damaged(&self, key: &str, bytes: &[u8]) -> Result<()> {
        check_key("replace", key)?;
        self.cache.forget(key);
        self.keep_aside("replace", key)?;
        transfer::overwrite(&self.bucket, key, bytes)
    }

    fn quarantine(&self, key: &str) -> Result<()> {
        check_key("quarantine", key)?;
        self.cache.forget(key);
        match self.keep_aside("quarantine", key)? {
            true => transfer::delete(&self.bucket, key),
            false => Ok(()),
        }
    }

    fn clean_temporary(&self, prefix: &str) -> Result<u64> {
        if prefix != holders::LEASES {
            return Ok(0);
        }
        let leases = self.list(prefix)?.into_iter().map(|entry| entry.key).collect();
        self.holders.delete_old_beats(&leases)
    }

    fn root(&self) -> Result<Root> {
        Ok(Root::Found(None))
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn conditional_put(&self) -> Option<ConditionalPut> {
        self.probe.known()
    }

    fn probe_conditional_put(&self) -> Result<ConditionalPut> {
        self.probe.result()
    }

    fn create_folders(&self, _folders: &[&str], allowed: &[&str]) -> Result<bool> {
        let expected = |key: &str| key == probe::KEY || is_allowed(key, allowed);
        transfer::every_key(&self.bucket, expected)
    }
}

#[cfg(test)]
mod tests;
