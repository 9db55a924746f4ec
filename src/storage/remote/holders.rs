//! Locks of this process, and leases, which other processes see.
//!
//! A lease is an object. Its owner puts a new *beat* next to it every few minutes and deletes the
//! one before: nothing is overwritten, so a lease that was removed never comes back. A lease
//! without a recent beat, by the clock of the service, is taken for that of a dead owner. A
//! suspended machine looks just like one, so nothing relies on it but how long others wait.
//!
//! What serves only this is in a folder of its own, below that of the leases.

use super::super::lock_table::LockTable;
use super::super::{ConditionalPut, Created, Error, ErrorKind, LockGuard, LockMode, Result};
use super::{Bucket, runtime, transfer};
use crate::clock::{Clock, SystemClock};
use crate::sync::lock;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload};
use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
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

/// A key of a bucket.
type Id = (String, String);

/// What the handles of this process hold.
#[derive(Default)]
struct Process {
    locks: LockTable<Id>,
    leases: Mutex<HashSet<Id>>,
}

static PROCESS: LazyLock<Process> = LazyLock::new(Process::default);

impl Holders {
    pub(super) fn new(bucket: Arc<Bucket>, timing: Timing) -> Self {
        Self {
            bucket,
            timing,
            service_time: Mutex::new(None),
        }
    }

    fn id(&self, key: &str) -> Id {
        (self.bucket.name.clone(), key.to_owned())
    }

    /// Locks `key` against the other handles of this process.
    pub(super) fn lock(&self, key: &str, mode: LockMode, wait: Duration) -> Option<Box<dyn LockGuard>> {
        PROCESS.locks.lock(self.id(key), mode, wait)
    }

    /// Publishes a lease and renews it until the guard is dropped.
    pub(super) fn lease(&self, key: &str, bytes: &[u8], how: ConditionalPut) -> Result<Box<dyn LockGuard>> {
        let id = self.id(key);
        // held before it can be seen
        let is_new = lock(&PROCESS.leases).insert(id.clone());
        let put = match is_new {
            true => transfer::put_new(&self.bucket, how, key, bytes.len() as u64, &mut &bytes[..]),
            false => Ok(Created::Exists),
        };
        match put {
            Ok(Created::Created) => {}
            failed => {
                if is_new {
                    lock(&PROCESS.leases).remove(&id);
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
        let Some(found) = transfer::head(&self.bucket, key)? else {
            return Ok(None);
        };
        if lock(&PROCESS.leases).contains(&self.id(key)) {
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

    /// The beats of all leases, and the objects that show the time.
    fn own_objects(&self) -> Result<Vec<(String, ObjectMeta)>> {
        let folder = self.bucket.path(FOLDER);
        let listed = runtime::block_on(self.bucket.store.list_with_delimiter(Some(&folder)))?;
        let listed = listed.map_err(|error| self.bucket.error("list", FOLDER, error))?;
        let keyed = |meta: ObjectMeta| Some((self.bucket.key(&meta.location)?, meta));
        Ok(listed.objects.into_iter().filter_map(keyed).collect())
    }

    /// When the lease was last renewed, in milliseconds since 1970.
    fn newest_beat(&self, key: &str, lease: &ObjectMeta) -> Result<i64> {
        let (stem, own) = (beat_stem(key), self.own_objects()?);
        let beats = own.iter().filter(|(found, _)| found.starts_with(&stem));
        Ok(beats
            .map(|(_, beat)| beat)
            .chain([lease])
            .map(|meta| meta.last_modified.timestamp_millis())
            .max()
            .unwrap_or(i64::MAX))
    }

    /// Deletes the beats of leases that are gone: those of processes that were killed.
    pub(super) fn delete_old_beats(&self, leases: &HashSet<String>) -> Result<u64> {
        let mut deleted = 0;
        for (key, _) in self.own_objects()? {
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

struct Lease {
    bucket: Arc<Bucket>,
    id: Id,
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
        lock(&PROCESS.leases).remove(&self.id);
    }
}
