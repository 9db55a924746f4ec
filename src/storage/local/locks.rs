//! Kernel locks on the fixed lock files, and leases.

use super::LocalStorage;
use crate::storage::key::check_key;
use crate::storage::vfs::{Vfs, VfsFile};
use crate::storage::{Error, ErrorKind, LockGuard, LockMode, Result, Storage};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// First and longest pause between two attempts to take a lock.
const LOCK_PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));
/// Longest wait of a new lease for processes that check at that instant whether it is held.
const LEASE_WAIT: Duration = Duration::from_secs(1);
/// Attempts to publish a lease, each after another process has deleted the last one.
const LEASE_TRIES: usize = 8;
impl LocalStorage {
    /// [`Storage::lock`].
    pub(super) fn lock_file(&self, key: &str, mode: LockMode, wait: Duration) -> Result<Option<Box<dyn LockGuard>>> {
        check_key("lock", key)?;
        let file = self
            .vfs
            .open_lock(key)
            .map_err(|error| Error::from_io("lock", key, error))?;
        match wait_for_lock(&*file, mode, wait).map_err(|error| lock_error("lock", key, error))? {
            true => Ok(Some(Box::new(FileGuard { file }))),
            false => Ok(None),
        }
    }

    /// [`Storage::probe_locks`].
    pub(super) fn probe_locks_of(&self, key: &str) -> Result<()> {
        check_key("lock", key)?;
        let open = || {
            self.vfs
                .open_lock(key)
                .map_err(|error| Error::from_io("lock", key, error))
        };
        let (one, two) = (open()?, open()?);
        let lock = |file: &dyn VfsFile, mode| file.try_lock(mode).map_err(|error| lock_error("lock", key, error));
        // a refused lock is held by another handle, so locks work
        if lock(&*one, LockMode::Shared)? && lock(&*two, LockMode::Exclusive)? {
            return Err(Error::new(ErrorKind::LocksUnsupported, "lock", key));
        }
        Ok(())
    }

    /// [`Storage::lease`].
    pub(super) fn publish_lease(&self, key: &str, bytes: &[u8]) -> Result<Box<dyn LockGuard>> {
        check_key("lease", key)?;
        let io = |error| Error::from_io("lease", key, error);
        for _ in 0..LEASE_TRIES {
            let (temp, mut file) = self.create_temp("lease", key)?;
            if !bytes.is_empty() {
                file.write(bytes).map_err(io)?;
            }
            temp.publish(key, &*file).map_err(io)?;
            if let Some(file) = self.seen_as_held(key, file) {
                return Ok(Box::new(LeaseGuard {
                    vfs: self.vfs.clone(),
                    path: key.to_owned(),
                    file,
                    left: AtomicBool::new(false),
                }));
            }
            // the file may still exist, without a lock
            self.delete(key)?;
        }
        Err(io(io::Error::other("the lease cannot be locked under its key")))
    }

    /// [`Storage::lease_held`].
    pub(super) fn is_lease_held(&self, key: &str) -> Result<Option<bool>> {
        check_key("lease", key)?;
        let file = match self.vfs.open_lock(key) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| Error::from_io("lease", key, error))?,
        };
        // shared, so that two concurrent checks do not conflict
        let free = file
            .try_lock(LockMode::Shared)
            .map_err(|error| lock_error("lease", key, error))?;
        Ok(Some(!free))
    }

    /// Returns the handle through which others see the published lease `key` as held. That is
    /// `file`, which was locked before it had its key. Some FUSE file systems identify files by
    /// path, so that the renamed file is another one without a lock: there it is a newly locked
    /// handle of the key. `None` when another process has deleted the file as that of a dead
    /// session before it was locked.
    fn seen_as_held(&self, key: &str, file: Box<dyn VfsFile>) -> Option<Box<dyn VfsFile>> {
        // if that cannot be checked, assume the usual file system
        let Ok(named) = self.vfs.open_lock(key) else {
            return Some(file);
        };
        if !named.try_lock(LockMode::Shared).is_ok_and(|free| free) {
            return Some(file);
        }
        let locked = wait_for_lock(&*named, LockMode::Exclusive, LEASE_WAIT).is_ok_and(|locked| locked);
        (locked && matches!(self.vfs.kind(key), Ok(Some(_)))).then_some(named)
    }
}

/// Takes the lock, or returns `false` after `wait`.
fn wait_for_lock(file: &dyn VfsFile, mode: LockMode, wait: Duration) -> io::Result<bool> {
    let start = Instant::now();
    let (mut pause, longest) = LOCK_PAUSES;
    while !file.try_lock(mode)? {
        let left = wait.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(false);
        }
        // the kernel waits only without a time limit, hence these pauses (nothing else in the
        // engine sleeps)
        #[expect(clippy::disallowed_methods, reason = "see above")]
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(longest);
    }
    Ok(true)
}

struct FileGuard {
    file: Box<dyn VfsFile>,
}

impl LockGuard for FileGuard {}

impl Drop for FileGuard {
    fn drop(&mut self) {
        self.file.unlock();
    }
}

struct LeaseGuard {
    vfs: Arc<dyn Vfs>,
    path: String,
    file: Box<dyn VfsFile>,
    left: AtomicBool,
}

impl LockGuard for LeaseGuard {
    fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        // it may have been removed by force; a file that stays has a free lock, and others delete
        // it
        if !self.left.load(Ordering::Relaxed) {
            let _ = self.vfs.unlink(&self.path);
        }
        self.file.unlock();
    }
}

pub(super) fn lock_error(op: &'static str, key: &str, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::Unsupported => Error::new(ErrorKind::LocksUnsupported, op, key),
        _ => Error::from_io(op, key, error),
    }
}
