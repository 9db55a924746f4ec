//! Reports from an operation to its caller: progress, warnings, and the question whether to stop.
//!
//! The engine reports values that carry a text and a code; it never prints.

use std::sync::Mutex;

/// The progress of an operation. Sizes are bytes of input unless stated otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read from the source (ingest), written to the sink (restore) or checked (verify).
    pub done_bytes: u64,
    /// Bytes of chunks that were new.
    pub new_bytes: u64,
    /// Bytes of chunks that were already stored.
    pub reused_bytes: u64,
    /// Bytes written for new chunks, after compression and sealing.
    pub stored_bytes: u64,
    /// Chunks cut or read.
    pub chunks: u64,
    /// Finished items; for verify, finished packs.
    pub items_done: u64,
    /// Total bytes, as far as known; 0 when unknown.
    pub total_bytes: u64,
    /// The operation has not begun: it waits for memory that other operations of its handle use.
    pub waiting: bool,
    /// The level that an ingest with zstd by the data uses now: 1 or 3.
    pub auto_level: Option<i32>,
}

/// A fault that was repaired, or that needs attention; the operation continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Stable code, for example `WARN_SEGMENT_REBUILT`.
    pub code: &'static str,
    /// Text for users.
    pub message: String,
    /// Id of the pack concerned, as 64 hex digits.
    pub pack: Option<String>,
}

/// Receives the reports of an operation. Its methods are called from any thread and must return
/// quickly.
pub trait Monitor: Send + Sync {
    /// Called often; a receiver may drop reports.
    fn progress(&self, _progress: &Progress) {}
    /// Called with a warning.
    fn warning(&self, _warning: Warning) {}
    /// Called when the operation has its memory and begins: an ingest before it reads its source, a
    /// restore before it writes bytes. The buffers of the caller and of the operation together may
    /// use `_share_bytes`.
    fn begins(&self, _share_bytes: usize) {}
    /// Returns `true` once the operation should stop; it then ends with `Error::Cancelled`.
    fn is_cancelled(&self) -> bool {
        false
    }
    /// Called just before a change that others see and that is not undone. After `false` the
    /// operation must end with `Error::Cancelled` instead. After `true` a caller that stops the
    /// operation waits for its end.
    fn begin_commit(&self) -> bool {
        !self.is_cancelled()
    }
    /// Called after that change; what follows is not visible to others.
    fn end_commit(&self) {}
}

/// Ignores all reports.
pub struct NullMonitor;

impl Monitor for NullMonitor {}

/// Keeps all warnings, for tests.
#[derive(Default)]
pub struct TestMonitor {
    warnings: Mutex<Vec<Warning>>,
}

impl TestMonitor {
    /// Returns all warnings so far.
    pub fn warnings(&self) -> Vec<Warning> {
        self.warnings.lock().map(|list| list.clone()).unwrap_or_default()
    }
}

impl Monitor for TestMonitor {
    fn warning(&self, warning: Warning) {
        if let Ok(mut list) = self.warnings.lock() {
            list.push(warning);
        }
    }
}
