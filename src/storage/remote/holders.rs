//! Locks of this process, and leases, which other processes see.
//!
//! A lease is an object. Its owner puts a new *beat* next to it every few minutes and deletes the
//! one before: nothing is overwritten, so a lease that was removed never comes back. A lease
//! without a recent beat, by the clock of the service, is taken for that of a dead owner. A
//! suspended machine looks just like one, so nothing relies on it but how long others wait.
//!
//! What serves only this is in a folder of its own, below that of the leases.

use super::super::{ConditionalPut, Created, Error, ErrorKind, LockGuard, LockMode, Result};
use super::{Bucket, runtime, transfer};
use crate::clock::{Clock, SystemClock};
use crate::sync::lock;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload};
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::AbortHandle;

/// Where leases are.
pub(super) const LEASES: &str = "locks";
/// Where beats are.
const FOLDER: &str = "locks/remote";

/// How often a lease is renewed, and when it counts as abandoned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    beat: Duration,
    expiry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            beat: Duration::from_secs(10 * 60),
            expiry: Duration::from_secs(90 * 60),
        }
    }
}

impl Timing {
    /// The usual beats, and another expiry: with zero, every lease that no handle of this process
    /// holds counts as abandoned.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn expiring(expiry: Duration) -> Self {
        Self {
            expiry,
            ..Self::default()
        }
    }
}

/// Locks and leases of one repository.
pub(super) struct Holders {
    bucket: Arc<Bucket>,
    timing: Timing,
    /// A time of the service in milliseconds since 1970, and when it was asked.
    service_time: Mutex<Option<(i64, Instant)>>,
}

/// What the handles of this process hold, by bucket name and key.
#[derive(Default)]
struct Held {
    /// Number of shared and of exclusive holders.
    locks: HashMap<(String, String), (usize, usize)>,
    leases: HashSet<(String, String)>,
}

#[derive(Default)]
struct Process {
    held: Mutex<Held>,
    /// Notified when a lock is released.
    freed: Condvar,
}

static PROCESS: LazyLock<Process> = LazyLock::new(Process::default);

impl Held {
    /// Takes the lock if no conflicting lock is held.
    fn try_lock(&mut self, id: &(String, String), mode: LockMode) -> bool {
        let (shared, exclusive) = self.locks.entry(id.clone()).or_default();
        match mode {
            LockMode::Shared if *exclusive == 0 => *shared += 1,
            LockMode::Exclusive if *exclusive == 0 && *shared == 0 => *exclusive += 1,
            _ => return false,
        }
        true
    }
}

impl Holders {
    pub(super) fn new(bucket: Arc<Bucket>, timing: Timing) -> Self {
        Self {
            bucket,
            timing,
            service_time: Mutex::new(None),
        }
    }

    fn id(&self, key: &str) -> (String, String) {
        (self.bucket.name.clone(), key.to_owned())
    }

    /// Locks `key` against the other handles of this process.
    pub(super) fn lock(&self, key: &str, mode: LockMode, wait: Duration) -> Option<Box<dyn LockGuard>> {
        let (id, start) = (self.id(key), Instant::now());
        let mut held = lock(&PROCESS.held);
        while !held.try_lock(&id, mode) {
            let left = wait.saturating_sub(start.elapsed());
            if left.is_zero() {
                return None;
            }
            held = PROCESS
                .freed
                .wait_timeout(held, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        Some(Box::new(Lock { id, mode }))
    }

    /// Publishes a lease and renews it until the guard is dropped.
    pub(super) fn lease(&self, key: &str, bytes: &[u8], how: ConditionalPut) -> Result<Box<dyn LockGuard>> {
        let id = self.id(key);
        // held before it can be seen
        let is_new = lock(&PROCESS.held).leases.insert(id.clone());
        let put = match is_new {
            true => transfer::put_new(&self.bucket, how, key, bytes.len() as u64, &mut &bytes[..]),
            false => Ok(Created::Exists),
        };
        match put {
            Ok(Created::Created) => {}
            failed => {
                if is_new {
                    lock(&PROCESS.held).leases.remove(&id);
                }
                failed?;
                return Err(Error::from_io("lease", key, io::ErrorKind::AlreadyExists.into()));
            }
        }
        let beats = Arc::new(Mutex::new(None));
        let beating = beat(
            Arc::clone(&self.bucket),
            key.to_owned(),
            self.timing.beat,
            Arc::clone(&beats),
        );
        Ok(Box::new(Lease {
            bucket: Arc::clone(&self.bucket),
            id,
            beats,
            task: runtime::handle()?.spawn(beating).abort_handle(),
            left: AtomicBool::new(false),
        }))
    }

    /// Whether the owner of a lease seems to be alive; `None` when there is no lease.
    pub(super) fn lease_held(&self, key: &str) -> Result<Option<bool>> {
        let path = self.bucket.path(key);
        let found = match runtime::block_on(self.bucket.store.head(&path))? {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.bucket.error("size", key, error)),
        };
        if lock(&PROCESS.held).leases.contains(&self.id(key)) {
            return Ok(Some(true));
        }
        if self.timing.expiry.is_zero() {
            return Ok(Some(false));
        }
        let newest = self.newest_beat(key, &found)?;
        let age = self.service_now()?.saturating_sub(newest);
        Ok(Some(
            age < i64::try_from(self.timing.expiry.as_millis()).unwrap_or(i64::MAX),
        ))
    }

    /// When the lease was last renewed, in milliseconds since 1970.
    fn newest_beat(&self, key: &str, lease: &ObjectMeta) -> Result<i64> {
        let folder = self.bucket.path(FOLDER);
        let listed = runtime::block_on(self.bucket.store.list_with_delimiter(Some(&folder)))?;
        let listed = listed.map_err(|error| self.bucket.error("list", key, error))?;
        let stem = beat_stem(key);
        let beats = listed.objects.iter().filter(|meta| {
            self.bucket
                .key(&meta.location)
                .is_some_and(|found| found.starts_with(&stem))
        });
        Ok(beats
            .chain([lease])
            .map(|meta| meta.last_modified.timestamp_millis())
            .max()
            .unwrap_or(i64::MAX))
    }

    /// Deletes the beats of leases that are gone: those of processes that were killed.
    pub(super) fn delete_old_beats(&self, leases: &HashSet<String>) -> Result<u64> {
        let listed = runtime::block_on(self.bucket.store.list_with_delimiter(Some(&self.bucket.path(FOLDER))))?;
        let listed = listed.map_err(|error| self.bucket.error("list", FOLDER, error))?;
        let keys = listed.objects.iter().filter_map(|meta| self.bucket.key(&meta.location));
        let mut deleted = 0;
        for key in keys {
            let name = key.strip_prefix(FOLDER).and_then(|name| name.strip_prefix('/'));
            let lease = name.and_then(|name| name.split_once(".beat-")).map(|(lease, _)| lease);
            if lease.is_some_and(|lease| !leases.contains(&format!("{LEASES}/{lease}"))) {
                transfer::delete(&self.bucket, &key)?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }

    /// The time of the service, from the date of an object that is put for it: clocks of other
    /// machines say nothing. Without the permission to put it, the time of this machine.
    fn service_now(&self) -> Result<i64> {
        if let Some((time, asked)) = *lock(&self.service_time) {
            return Ok(time.saturating_add(i64::try_from(asked.elapsed().as_millis()).unwrap_or(i64::MAX)));
        }
        let random = super::super::key::random_hex::<8>(self.bucket.entropy.as_ref())
            .map_err(|error| Error::from_io("lease", "locks", error))?;
        let path = self.bucket.path(&format!("{FOLDER}/clock-{random}"));
        let store = &self.bucket.store;
        let asked = Instant::now();
        let time = runtime::block_on(async {
            store.put(&path, PutPayload::new()).await?;
            let time = store
                .head(&path)
                .await
                .map(|meta| meta.last_modified.timestamp_millis());
            let _ = store.delete(&path).await;
            time
        })?;
        let time = match time.map_err(|error| self.bucket.error("put", FOLDER, error)) {
            Ok(time) => time,
            Err(error) if error.kind == ErrorKind::PermissionDenied => return Ok(SystemClock.now_ms()),
            Err(error) => return Err(error),
        };
        *lock(&self.service_time) = Some((time, asked));
        Ok(time)
    }
}

/// What the names of the beats of a lease begin with.
fn beat_stem(lease: &str) -> String {
    let name = lease.rsplit('/').next().unwrap_or(lease);
    format!("{FOLDER}/{name}.beat-")
}

/// Renews a lease until it is aborted. A beat that cannot be put is tried again with the next one.
async fn beat(bucket: Arc<Bucket>, lease: String, every: Duration, last: Arc<Mutex<Option<String>>>) {
    for number in 0_u64.. {
        tokio::time::sleep(every).await;
        let key = format!("{}{number}", beat_stem(&lease));
        let path = bucket.path(&key);
        // without a condition, which some services refuse: the name is used by this lease alone
        if bucket.store.put(&path, PutPayload::new()).await.is_err() {
            continue;
        }
        let before = lock(&last).replace(key);
        if let Some(before) = before {
            let _ = bucket.store.delete(&bucket.path(&before)).await;
        }
    }
}

struct Lock {
    id: (String, String),
    mode: LockMode,
}

impl LockGuard for Lock {}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut held = lock(&PROCESS.held);
        if let Some((shared, exclusive)) = held.locks.get_mut(&self.id) {
            match self.mode {
                LockMode::Shared => *shared -= 1,
                LockMode::Exclusive => *exclusive -= 1,
            }
            if (*shared, *exclusive) == (0, 0) {
                held.locks.remove(&self.id);
            }
        }
        drop(held);
        PROCESS.freed.notify_all();
    }
}

struct Lease {
    bucket: Arc<Bucket>,
    id: (String, String),
    beats: Arc<Mutex<Option<String>>>,
    task: AbortHandle,
    left: AtomicBool,
}

impl LockGuard for Lease {
    fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.task.abort();
        if !self.left.load(Ordering::Relaxed) {
            // a lease that stays is removed by others when it has expired
            let _ = transfer::delete(&self.bucket, &self.id.1);
            let beat = lock(&self.beats).take();
            if let Some(beat) = beat {
                let _ = transfer::delete(&self.bucket, &beat);
            }
        }
        lock(&PROCESS.held).leases.remove(&self.id);
    }
}
