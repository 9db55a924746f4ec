//! What an operation tells whoever started it: progress, warnings, and whether it should stop.
//!
//! The engine reports values that carry a text and a code; it never prints.

use std::sync::Mutex;

/// How far an operation is. All sizes in bytes of input, unless said otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes taken from the source (ingest), given to the sink (restore) or read and judged (verify).
    pub done_bytes: u64,
    /// Bytes of chunks that were new.
    pub new_bytes: u64,
    /// Bytes of chunks that were already stored.
    pub reused_bytes: u64,
    /// Bytes written for new chunks, after compression and sealing.
    pub stored_bytes: u64,
    /// Chunks cut or read.
    pub chunks: u64,
    /// Items finished (of a verify: packs).
    pub items_done: u64,
    /// Bytes there are to do in all, as far as that is known so far; 0 when it is not.
    pub total_bytes: u64,
    /// The operation has not begun: it waits for others of its handle, which use the memory.
    pub waiting: bool,
}

/// Something that went wrong and was put right, or needs a look; the operation goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Stable code, as `WARN_SEGMENT_REBUILT`.
    pub code: &'static str,
    /// What happened, for people.
    pub message: String,
    /// The pack it is about, as 64 hex digits.
    pub pack: Option<String>,
}

/// Receives what an operation reports. Called from any thread; must return quickly.
pub trait Monitor: Send + Sync {
    /// Called often; a receiver thins it out as it likes.
    fn progress(&self, _progress: &Progress) {}
    /// Something was found and dealt with.
    fn warning(&self, _warning: Warning) {}
    /// The operation has its memory and begins: an ingest before it reads its source, a restore
    /// before it gives bytes out. Buffers of the caller may take `_share_bytes` in all, together
    /// with those of the operation.
    fn begins(&self, _share_bytes: usize) {}
    /// True once the operation should stop; it then ends with `Error::Cancelled`.
    fn is_cancelled(&self) -> bool {
        false
    }
    /// Called right before what others see of the operation, and what it would not take back. `false`: it was to stop, and
    /// must end with `Error::Cancelled` instead. After `true` whoever stops it waits for its end.
    fn begin_commit(&self) -> bool {
        !self.is_cancelled()
    }
    /// That is done, and the operation goes on with what nobody sees.
    fn end_commit(&self) {}
}

/// Listens to nothing.
pub struct NullMonitor;

impl Monitor for NullMonitor {}

/// Keeps every warning and the last progress, for tests.
#[derive(Default)]
pub struct TestMonitor {
    warnings: Mutex<Vec<Warning>>,
    last: Mutex<Progress>,
}

impl TestMonitor {
    /// All warnings so far.
    pub fn warnings(&self) -> Vec<Warning> {
        self.warnings.lock().map(|list| list.clone()).unwrap_or_default()
    }

    /// The last progress reported.
    pub fn last_progress(&self) -> Progress {
        self.last.lock().map(|last| last.clone()).unwrap_or_default()
    }
}

impl Monitor for TestMonitor {
    fn progress(&self, progress: &Progress) {
        if let Ok(mut last) = self.last.lock() {
            *last = progress.clone();
        }
    }

    fn warning(&self, warning: Warning) {
        if let Ok(mut list) = self.warnings.lock() {
            list.push(warning);
        }
    }
}
