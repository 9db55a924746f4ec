//! Stopping an operation: what JavaScript asks for, and what the engine makes of it.
//!
//! What always holds: whoever stops an operation learns at once whether that came in time, and one that was stopped in time
//! publishes nothing, however long its threads take to notice.

use napi_derive::napi;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const RUNNING: u8 = 0;
const STOPPED: u8 = 1;
const COMMITTING: u8 = 2;

/// Whether an operation is running, was stopped, or is past the point at which it can be.
#[derive(Default)]
pub struct Stop(AtomicU8);

impl Stop {
    /// Stops it. `false`: it publishes just now, so whoever wants to know how it ends must wait.
    pub fn stop(&self) -> bool {
        self.leave(STOPPED)
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Acquire) == STOPPED
    }

    /// From now on it cannot be stopped; `false` when it was.
    pub fn begin_commit(&self) -> bool {
        self.leave(COMMITTING)
    }

    fn leave(&self, to: u8) -> bool {
        let left = self
            .0
            .compare_exchange(RUNNING, to, Ordering::AcqRel, Ordering::Acquire);
        // a second time makes no difference
        left.is_ok() || left == Err(to)
    }
}

/// Tells a running operation to stop.
#[napi]
pub struct NativeStop {
    stop: Arc<Stop>,
}

impl NativeStop {
    /// For the engine's side.
    pub(super) fn stop_handle(&self) -> Arc<Stop> {
        Arc::clone(&self.stop)
    }
}

#[napi]
impl NativeStop {
    /// One for each operation.
    #[napi(constructor)]
    pub fn new() -> Self {
        Self { stop: Arc::default() }
    }

    /// The operation ends at its next step. `true`: it publishes nothing from now on. `false`: it just does.
    #[napi]
    pub fn stop(&self) -> bool {
        self.stop.stop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_stopped_or_commits_and_never_both() {
        let stopped = Stop::default();
        assert!(!stopped.is_stopped());
        assert!(stopped.stop() && stopped.stop() && stopped.is_stopped());
        assert!(!stopped.begin_commit());
        let committing = Stop::default();
        assert!(committing.begin_commit() && committing.begin_commit());
        assert!(!committing.stop() && !committing.is_stopped());
    }
}
