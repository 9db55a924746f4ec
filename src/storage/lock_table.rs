//! Locks within this process, for stores without kernel locks: shared or exclusive, by key.

use super::{LockGuard, LockMode};
use crate::sync::lock;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The locks that are held. Clones are the same table.
pub(super) struct LockTable<K>(Arc<Shared<K>>);

struct Shared<K> {
    /// Number of shared and of exclusive holders.
    held: Mutex<HashMap<K, (usize, usize)>>,
    /// Notified when a lock is released.
    freed: Condvar,
}

impl<K> Clone for LockTable<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K> Default for LockTable<K> {
    fn default() -> Self {
        Self(Arc::new(Shared {
            held: Mutex::default(),
            freed: Condvar::new(),
        }))
    }
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> LockTable<K> {
    /// Locks `key`, waiting up to `wait`; `None` when another holder still had it then.
    pub(super) fn lock(&self, key: K, mode: LockMode, wait: Duration) -> Option<Box<dyn LockGuard>> {
        let start = Instant::now();
        let mut held = lock(&self.0.held);
        while !try_lock(&mut held, &key, mode) {
            let left = wait.saturating_sub(start.elapsed());
            if left.is_zero() {
                return None;
            }
            held = self
                .0
                .freed
                .wait_timeout(held, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        Some(Box::new(Guard {
            table: self.clone(),
            key,
            mode,
        }))
    }
}

/// Takes the lock if no conflicting lock is held.
fn try_lock<K: Hash + Eq + Clone>(held: &mut HashMap<K, (usize, usize)>, key: &K, mode: LockMode) -> bool {
    let (shared, exclusive) = held.entry(key.clone()).or_default();
    match mode {
        LockMode::Shared if *exclusive == 0 => *shared += 1,
        LockMode::Exclusive if *exclusive == 0 && *shared == 0 => *exclusive += 1,
        _ => return false,
    }
    true
}

struct Guard<K: Hash + Eq> {
    table: LockTable<K>,
    key: K,
    mode: LockMode,
}

impl<K: Hash + Eq + Send + Sync> LockGuard for Guard<K> {}

impl<K: Hash + Eq> Drop for Guard<K> {
    fn drop(&mut self) {
        let mut held = lock(&self.table.0.held);
        if let Some((shared, exclusive)) = held.get_mut(&self.key) {
            match self.mode {
                LockMode::Shared => *shared -= 1,
                LockMode::Exclusive => *exclusive -= 1,
            }
            if (*shared, *exclusive) == (0, 0) {
                held.remove(&self.key);
            }
        }
        drop(held);
        self.table.0.freed.notify_all();
    }
}
