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

mod ahead;
mod cache;
mod connect;
mod error;
mod holders;
mod kept;
mod patient;
mod probe;
mod profile;
mod runtime;
mod transfer;

pub use connect::{ConnectError, RemoteOptions, is_url};

use super::key::{check_key, is_allowed, join, random_hex};
use super::{Ask, ConditionalPut, Created, Entry, LockGuard, LockMode, Result, Root, Storage};
use crate::entropy::Entropy;
use crate::sync::lock;
use ahead::{Ahead, Answer};
use error::of_store;
use holders::Holders;
use kept::Kept;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::collections::HashMap;
use std::io::Read;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The folder of which times are kept, for `put_last`: that of the manifests.
const TIMED: &str = "snapshots";
/// Reads of one repository that are in flight because a caller announced them.
const REQUESTS_AHEAD: usize = 16;

/// [`Storage`] in a bucket, below a prefix.
pub struct RemoteStorage {
    bucket: Arc<Bucket>,
    holders: Holders,
    cache: cache::Cache,
    kept: Kept,
    ahead: Ahead,
    probe: probe::Probe,
    /// When the objects in [`TIMED`] were put, as last listed.
    times: Mutex<HashMap<String, i64>>,
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
        let options = &match url.starts_with("s3:") {
            true => profile::with_profile(options)?,
            false => options.clone(),
        };
        let connected = connect::connect(url, options)?;
        let bucket = Bucket {
            store: connected.store,
            root: connected.root,
            name: connected.name,
            secrets: options.secrets(),
            entropy,
        };
        let folder = connected.kept;
        Ok(Self::of(bucket, folder, holders::Timing::default(), REQUESTS_AHEAD))
    }

    /// The repository below `root` in any store, for tests. Storages with different names know
    /// nothing of each other, as on different machines; a lease of another one counts as abandoned
    /// after `expiry`. Requests follow one another, so that a run is reproducible.
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
        Self::of(bucket, None, holders::Timing::expiring(expiry), 0)
    }

    /// The same with objects that are kept in a folder between processes.
    #[cfg(any(test, feature = "testing"))]
    pub fn keeping_in(mut self, folder: PathBuf) -> Self {
        self.kept = Kept::new(Some(folder), &self.bucket.name, Arc::clone(&self.bucket.entropy));
        self
    }

    /// The same with requests side by side, as in production.
    #[cfg(any(test, feature = "testing"))]
    pub fn with_requests_ahead(mut self) -> Self {
        self.ahead = Ahead::new(REQUESTS_AHEAD);
        self
    }

    fn of(bucket: Bucket, folder: Option<PathBuf>, timing: holders::Timing, requests_ahead: usize) -> Self {
        let bucket = Arc::new(bucket);
        Self {
            cache: cache::Cache::default(),
            kept: Kept::new(folder, &bucket.name, Arc::clone(&bucket.entropy)),
            ahead: Ahead::new(requests_ahead),
            holders: Holders::new(Arc::clone(&bucket), timing),
            probe: probe::Probe::new(Arc::clone(&bucket)),
            times: Mutex::default(),
            bucket,
        }
    }

    /// The whole object, as it was prefetched or is now.
    fn whole(&self, key: &str, max_len: u64) -> Result<Vec<u8>> {
        let ask = Ask::Get {
            key: key.to_owned(),
            max_len,
        };
        let bytes = match self.ahead.take(ask) {
            Some(Answer::Kept(bytes)) => return Ok(bytes),
            // one that failed is repeated
            Some(Answer::Get(Ok(bytes))) => bytes,
            Some(Answer::Get(Err(error))) if error.kind == super::ErrorKind::NotFound => return Err(error),
            _ => transfer::get(&self.bucket, key, max_len)?,
        };
        self.kept.put(key, &bytes);
        Ok(bytes)
    }

    /// Forgets what is kept of an object that is about to change.
    fn changes<'a>(&'a self, key: &'a str) -> ahead::Changes<'a> {
        self.cache.forget(key);
        self.kept.forget(key);
        self.ahead.changes(key)
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
        let _changes = self.ahead.changes(key);
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
        self.whole(key, max_len)
    }

    fn get_range(&self, key: &str, offset: u64, out: &mut [u8]) -> Result<()> {
        check_key("get", key)?;
        let whole = |max_len| self.whole(key, max_len);
        match self.cache.get_range(key, offset, out, &whole)? {
            Some(()) => Ok(()),
            None => transfer::get_range(&self.bucket, key, offset, out),
        }
    }

    fn size(&self, key: &str) -> Result<Option<u64>> {
        check_key("size", key)?;
        if let Some(len) = self.cache.len(key) {
            return Ok(Some(len));
        }
        match self.ahead.take(Ask::Size(key.to_owned())) {
            Some(Answer::Size(Ok(size))) => Ok(size),
            _ => transfer::size(&self.bucket, key),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        let listed = match self.ahead.take(Ask::List(prefix.to_owned())) {
            Some(Answer::List(Ok(listed))) => listed,
            _ => runtime::block_on(transfer::list(&self.bucket, prefix))??,
        };
        if prefix == TIMED {
            let times = listed.iter().map(|listed| (listed.entry.key.clone(), listed.put_at));
            *lock(&self.times) = times.collect();
        }
        self.kept.listed(prefix, &listed);
        let entries: Vec<Entry> = listed.into_iter().map(|listed| listed.entry).collect();
        if prefix == cache::FOLDER {
            self.cache.listed(&entries);
        }
        Ok(entries)
    }

    fn delete(&self, key: &str) -> Result<()> {
        check_key("delete", key)?;
        let _changes = self.changes(key);
        transfer::delete(&self.bucket, key)
    }

    fn delete_all(&self, keys: &[String]) -> Result<()> {
        keys.iter().try_for_each(|key| check_key("delete", key))?;
        let _changes: Vec<_> = keys.iter().map(|key| self.changes(key)).collect();
        transfer::delete_all(&self.bucket, keys)
    }

    fn forget_cached(&self) {
        self.cache.clear();
        self.kept.bypass();
    }

    fn forget_cached_of(&self, key: &str) {
        self.cache.forget_bytes(key);
        self.kept.forget(key);
    }

    fn prefetch(&self, reads: Vec<Ask>) -> u64 {
        let needed = reads.into_iter().filter_map(|read| match read {
            // a short segment is read whole, and kept
            Ask::Get { key, .. } | Ask::Listed { key, .. } if cache::is_segment(&key) => {
                let max_len = cache::LONGEST;
                let is_missing = self.cache.is_short_and_missing(&key);
                is_missing.then(|| (self.kept.get(&key), Ask::Get { key, max_len }))
            }
            Ask::Listed { key, max_len } => {
                let kept = self.kept.get(&key).filter(|bytes| bytes.len() as u64 <= max_len);
                Some((kept, Ask::Get { key, max_len }))
            }
            Ask::Size(key) if self.cache.len(&key).is_some() => None,
            read => Some((None, read)),
        });
        self.ahead.start(&self.bucket, needed)
    }

    fn forget_prefetched(&self, announcement: u64) {
        self.ahead.end(announcement);
    }

    fn put_last(&self, mut keys: Vec<String>, most: usize) -> Vec<String> {
        let times = lock(&self.times);
        // one that was not listed is new
        keys.sort_by_key(|key| std::cmp::Reverse(times.get(key).copied().unwrap_or(i64::MAX)));
        keys.truncate(most);
        keys
    }

    fn barrier(&self) -> Result<()> {
        Ok(())
    }

    fn lease(&self, key: &str, bytes: &[u8]) -> Result<Box<dyn LockGuard>> {
        check_key("lease", key)?;
        let _changes = self.ahead.changes(key);
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
        let _changes = self.changes(key);
        self.keep_aside("replace", key)?;
        transfer::overwrite(&self.bucket, key, bytes)
    }

    fn quarantine(&self, key: &str) -> Result<()> {
        check_key("quarantine", key)?;
        let _changes = self.changes(key);
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
