//! Locks of this process.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks a value that is consistent at every instant, so that a panic of an earlier holder does not
/// matter.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
