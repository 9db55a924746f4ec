//! Stopping an operation from JavaScript.
//!
//! Always true: the caller of a stop learns at once whether it was in time. An operation that was
//! stopped in time makes no change that others see, however long its threads take to notice.

use napi_derive::napi;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const STOPPED: u8 = 1;
const COMMITTING: u8 = 2;

/// Whether an operation was stopped, and whether it is making a change that others see.
#[derive(Default)]
pub struct Stop(AtomicU8);

impl Stop {
    /// Stops the operation. Returns `false` when it is making a change: then its result has to be
    /// awaited.
    pub fn stop(&self) -> bool {
        self.0.fetch_or(STOPPED, Ordering::AcqRel) & COMMITTING == 0
    }

    /// Whether the operation was stopped.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Acquire) & STOPPED != 0
    }

    /// Marks the begin of a change; `false` when the operation was stopped before.
    pub fn begin_commit(&self) -> bool {
        let begun = self
            .0
            .compare_exchange(0, COMMITTING, Ordering::AcqRel, Ordering::Acquire);
        // calling it twice makes no difference
        begun.map_or_else(|now| now & COMMITTING != 0, |_| true)
    }

    /// Marks the end of the change.
    pub fn end_commit(&self) {
        self.0.fetch_and(!COMMITTING, Ordering::AcqRel);
    }
}

/// Stops a running operation.
#[napi]
pub struct NativeStop {
    stop: Arc<Stop>,
}

impl NativeStop {
    /// The flag for the engine's side.
    pub(super) fn stop_handle(&self) -> Arc<Stop> {
        Arc::clone(&self.stop)
    }
}

#[napi]
impl NativeStop {
    /// Makes a stop for one operation.
    #[napi(constructor)]
    pub fn new() -> Self {
        Self { stop: Arc::default() }
    }

    /// Ends the operation at its next step. Returns `true` when it makes no further visible change,
    /// `false` when it is making one now.
    #[napi]
    pub fn stop(&self) -> bool {
        self.stop.stop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_in_time_only_before_a_change() {
        let stopped = Stop::default();
        assert!(!stopped.is_stopped());
        assert!(stopped.stop() && stopped.stop() && stopped.is_stopped());
        assert!(!stopped.begin_commit());
        let committing = Stop::default();
        assert!(committing.begin_commit() && committing.begin_commit());
        assert!(!committing.stop() && committing.is_stopped());
        // it continues this change and makes no other one
        assert!(committing.begin_commit());
        committing.end_commit();
        assert!(committing.stop() && !committing.begin_commit());
    }
}
