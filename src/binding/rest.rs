//! The rest of a file that a stream of the host has begun to read.

use crate::ops::{FileRest, RestState};
use napi_derive::napi;
use std::sync::Arc;

/// A rest on its way to the engine. Dropping it reports that it is over: it was read, or the ingest
/// ended.
pub struct Rest {
    /// What the engine reads.
    pub file: FileRest,
    over: Option<Box<dyn FnOnce() + Send>>,
}

impl Rest {
    /// `over` is called once, on any thread.
    pub fn new(file: FileRest, over: Box<dyn FnOnce() + Send>) -> Self {
        Self { file, over: Some(over) }
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        if let Some(over) = self.over.take() {
            over();
        }
    }
}

/// The rest of an open file, for one call of `readRest()`.
#[napi]
pub struct NativeRest {
    file: Option<FileRest>,
    state: Arc<RestState>,
}

impl NativeRest {
    /// Returns what the engine reads; `None` after the first call.
    pub fn take(&mut self) -> Option<FileRest> {
        self.file.take()
    }
}

// A block of its own: the macro does not pass `cfg` of a method on to what it generates.
#[cfg(unix)]
#[napi]
impl NativeRest {
    /// Duplicates the descriptor. `position` is where the rest begins, by default the file offset,
    /// which then moves; `length` is its number of bytes at most; `before` are the bytes that were
    /// read last. Only where descriptors belong to the system (not on Windows).
    #[napi(factory)]
    pub fn from_fd(env: &napi::Env, fd: i32, position: Option<f64>, length: f64, before: &[u8]) -> napi::Result<Self> {
        // exact: whole numbers up to 2^53, or a length without a limit
        let position = position.map(|position| position as u64);
        let file = super::descriptor::duplicate(env, fd, |file| {
            Ok(FileRest::new(file, position, length as u64, before.to_vec()))
        })?;
        Ok(Self {
            state: file.state(),
            file: Some(file),
        })
    }
}

#[napi]
impl NativeRest {
    /// Bytes that the engine has read.
    #[napi(getter)]
    pub fn bytes_read(&self) -> f64 {
        self.state.bytes_read() as f64
    }

    /// Ends the rest before the next read.
    #[napi]
    pub fn stop(&self) {
        self.state.stop();
    }
}
