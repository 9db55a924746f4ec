//! Stopping an operation: what JavaScript asks for, and what the engine makes of it.
//!
//! What always holds: whoever stops an operation learns at once whether that came in time, and while one was stopped in time
//! nothing that others see comes of it, however long its threads take to notice.

use napi_derive::napi;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

const STOPPED: u8 = 1;
const COMMITTING: u8 = 2;

/// Whether an operation was stopped, and whether it just makes a change that others see.
#[derive(Default)]
pub struct Stop(AtomicU8);

impl Stop {
    /// Stops it. `false`: it makes a change just now, so whoever wants to know how it ends must wait.
    pub fn stop(&self) -> bool {
        self.0.fetch_or(STOPPED, Ordering::AcqRel) & COMMITTING == 0
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Acquire) & STOPPED != 0
    }

    /// The change begins; `false` when it was stopped before.
    pub fn begin_commit(&self) -> bool {
        let begun = self
            .0
            .compare_exchange(0, COMMITTING, Ordering::AcqRel, Ordering::Acquire);
        // a second time makes no difference
        begun.map_or_else(|now| now & COMMITTING != 0, |_| true)
    }

    /// The change is made.
    pub fn end_commit(&self) {
        self.0.fetch_and(!COMMITTING, Ordering::AcqRel);
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

    /// The operation ends at its next step. `true`: nobody will see anything more of it. `false`: it makes a change just now.
    #[napi]
    pub fn stop(&self) -> bool {
        self.stop.stop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_comes_before_a_change_or_is_too_late() {
        let stopped = Stop::default();
        assert!(!stopped.is_stopped());
        assert!(stopped.stop() && stopped.stop() && stopped.is_stopped());
        assert!(!stopped.begin_commit());
        let committing = Stop::default();
        assert!(committing.begin_commit() && committing.begin_commit());
        assert!(!committing.stop() && committing.is_stopped());
        // it goes on with its change, and makes no other one
        assert!(committing.begin_commit());
        committing.end_commit();
        assert!(committing.stop() && !committing.begin_commit());
    }
}
