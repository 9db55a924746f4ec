//! Pooled large buffers for batches, packs and parity. Touching fresh memory costs more than
//! encrypting it, so buffers are reused, and large ones use huge pages.
//!
//! Always true: the bytes lent out stay within the limit, except that a pool with nothing lent
//! grants any request (so that no request waits forever); lent and idle bytes together stay within
//! the limit too, with the same exception. Maps are anonymous, never of a file (an I/O error in a
//! file map is a signal that kills the host). No offset makes a method panic.
//!
//! A reused buffer contains the bytes of its last user. The pool does not prevent a worker from
//! waiting for buffers that it holds itself; the planner of the budget bounds their number.

use crate::sync::lock;
use memmap2::MmapMut;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Smallest map: 64 KiB.
const SMALLEST: usize = 64 << 10;
/// Size of a huge page on x86-64 and on AArch64 with 4 KiB pages: 2 MiB.
const HUGE_PAGE: usize = 2 << 20;

/// The system has no memory for a buffer, or the request is larger than any buffer can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoMemory;

impl fmt::Display for NoMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("The system has no memory for a buffer")
    }
}

impl std::error::Error for NoMemory {}

/// The bytes do not fit into the buffer; nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferFull;

impl fmt::Display for BufferFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("The buffer is full")
    }
}

impl std::error::Error for BufferFull {}

/// Lends buffers. Clones share one pool.
#[derive(Clone)]
pub struct BufferPool {
    shared: Arc<Shared>,
}

struct Shared {
    limit: usize,
    state: Mutex<State>,
    /// Notified each time that lent bytes are returned.
    returned: Condvar,
}

#[derive(Default)]
struct State {
    /// Bytes of the maps lent out.
    lent: usize,
    /// Bytes of the maps in `idle`.
    idle_bytes: usize,
    /// Maps to reuse, oldest first.
    idle: Vec<MmapMut>,
}

impl BufferPool {
    /// Makes a pool that lends at most `limit_bytes` at a time. Each buffer counts with the size of
    /// its map: the next power of two from 64 KiB to 2 MiB, above that the next multiple of 2 MiB.
    pub fn new(limit_bytes: usize) -> Self {
        let (state, returned) = (Mutex::default(), Condvar::new());
        Self {
            shared: Arc::new(Shared {
                limit: limit_bytes,
                state,
                returned,
            }),
        }
    }

    /// Lends a buffer of `len` bytes; waits until enough bytes are returned. Grants any `len` at
    /// once when nothing is lent.
    pub fn take(&self, len: usize) -> Result<Buffer, NoMemory> {
        let size = map_size(len)?;
        let mut state = self.shared.lock();
        while !self.shared.fits(&state, size) {
            state = self.shared.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        self.lend(state, size, len)
    }

    /// As [`take`](Self::take), but returns `None` instead of waiting.
    pub fn try_take(&self, len: usize) -> Result<Option<Buffer>, NoMemory> {
        let size = map_size(len)?;
        let state = self.shared.lock();
        if !self.shared.fits(&state, size) {
            return Ok(None);
        }
        self.lend(state, size, len).map(Some)
    }

    /// As [`take`](Self::take), but grants at once even above the limit: for buffers without which
    /// an operation cannot continue. The caller bounds their number.
    pub fn take_now(&self, len: usize) -> Result<Buffer, NoMemory> {
        let size = map_size(len)?;
        self.lend(self.shared.lock(), size, len)
    }

    /// Returns all idle buffers to the system.
    pub fn release_idle(&self) {
        let maps = {
            let mut state = self.shared.lock();
            state.idle_bytes = 0;
            std::mem::take(&mut state.idle)
        };
        drop(maps); // slow, so not under the lock
    }

    /// Returns the bytes that are lent.
    pub fn lent_bytes(&self) -> usize {
        self.shared.lock().lent
    }

    /// Returns the bytes that are idle and kept for reuse.
    pub fn idle_bytes(&self) -> usize {
        self.shared.lock().idle_bytes
    }

    /// Returns the limit passed to [`new`](Self::new), in bytes.
    pub fn limit_bytes(&self) -> usize {
        self.shared.limit
    }

    /// Counts `size` bytes as lent and finds or makes the map.
    fn lend(&self, mut state: MutexGuard<'_, State>, size: usize, len: usize) -> Result<Buffer, NoMemory> {
        state.lent = state.lent.saturating_add(size);
        let (reused, evicted) = state.pick(size, self.shared.limit);
        drop(state);
        drop(evicted);
        let map = match reused {
            Some(map) => map,
            None => match new_map(size) {
                Ok(map) => map,
                Err(error) => {
                    self.shared.give_back(None, size);
                    return Err(error);
                }
            },
        };
        let shared = self.shared.clone();
        Ok(Buffer {
            map: Some(map),
            size,
            len,
            filled: 0,
            shared,
        })
    }
}

impl State {
    /// Takes an idle map of exactly `size` bytes; without one, the idle maps that must be unmapped
    /// to make room for a new one.
    fn pick(&mut self, size: usize, limit: usize) -> (Option<MmapMut>, Vec<MmapMut>) {
        if let Some(at) = self.idle.iter().rposition(|map| map.len() == size) {
            self.idle_bytes = self.idle_bytes.saturating_sub(size);
            return (Some(self.idle.remove(at)), Vec::new());
        }
        let mut evicted = Vec::new();
        while !self.idle.is_empty() && self.lent.saturating_add(self.idle_bytes) > limit {
            let map = self.idle.remove(0);
            self.idle_bytes = self.idle_bytes.saturating_sub(map.len());
            evicted.push(map);
        }
        (None, evicted)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // no code under this lock leaves the counts half written, so a poisoned lock can be used
        lock(&self.state)
    }

    fn fits(&self, state: &State, size: usize) -> bool {
        state.lent == 0 || state.lent.saturating_add(size) <= self.limit
    }

    /// Counts `size` lent bytes as returned, and keeps their map when there is room for it.
    fn give_back(&self, map: Option<MmapMut>, size: usize) {
        let mut state = self.lock();
        state.lent = state.lent.saturating_sub(size);
        let unmapped = match map {
            Some(map) if state.lent.saturating_add(state.idle_bytes).saturating_add(size) <= self.limit => {
                state.idle_bytes += size;
                state.idle.push(map);
                None
            }
            other => other,
        };
        drop(state);
        drop(unmapped);
        self.returned.notify_all();
    }
}

/// Returns the size of the map for a request of `len` bytes. There are few sizes, so that a map
/// fits other requests too.
fn map_size(len: usize) -> Result<usize, NoMemory> {
    let size = if len <= HUGE_PAGE {
        len.max(SMALLEST).checked_next_power_of_two()
    } else {
        len.checked_next_multiple_of(HUGE_PAGE)
    };
    size.filter(|size| isize::try_from(*size).is_ok()).ok_or(NoMemory)
}

/// Maps fresh zeroed memory.
fn new_map(size: usize) -> Result<MmapMut, NoMemory> {
    let map = MmapMut::map_anon(size).map_err(|_| NoMemory)?;
    // with a single huge page, a buffer of which little is used would cost as much as a full one
    #[cfg(target_os = "linux")]
    if size > HUGE_PAGE {
        // only advice: a kernel without huge pages provides the memory as well
        let _ = map.advise(memmap2::Advice::HugePage);
    }
    Ok(map)
}

/// A lent buffer, returned to its pool when dropped. It derefs to all its bytes and counts how many
/// of them are filled, from the front.
pub struct Buffer {
    /// Some until dropped.
    map: Option<MmapMut>,
    /// Bytes counted for it.
    size: usize,
    /// Requested bytes, at most `size`.
    len: usize,
    /// At most `len`.
    filled: usize,
    shared: Arc<Shared>,
}

impl Buffer {
    /// Returns the requested length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns `true` when the requested length is 0.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All bytes, filled or not.
    pub fn as_slice(&self) -> &[u8] {
        self.map
            .as_deref()
            .and_then(|map| map.get(..self.len))
            .unwrap_or_default()
    }

    /// All bytes, filled or not.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        let len = self.len;
        self.map
            .as_deref_mut()
            .and_then(|map| map.get_mut(..len))
            .unwrap_or_default()
    }

    /// The bytes filled so far.
    pub fn filled(&self) -> &[u8] {
        self.as_slice().get(..self.filled).unwrap_or_default()
    }

    /// Returns the number of filled bytes.
    pub fn filled_len(&self) -> usize {
        self.filled
    }

    /// The bytes after the filled ones. Write there, then call [`advance`](Self::advance).
    pub fn spare(&mut self) -> &mut [u8] {
        let filled = self.filled;
        self.as_mut_slice().get_mut(filled..).unwrap_or_default()
    }

    /// Returns the number of bytes that are not filled.
    pub fn spare_len(&self) -> usize {
        self.len.saturating_sub(self.filled)
    }

    /// Counts `n` more bytes as filled, at most to the end of the buffer.
    pub fn advance(&mut self, n: usize) {
        debug_assert!(n <= self.spare_len());
        self.filled = self.filled.saturating_add(n).min(self.len);
    }

    /// Appends `bytes` to the filled ones, or nothing when there is no room for all of them.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) -> Result<(), BufferFull> {
        let room = self.spare().get_mut(..bytes.len()).ok_or(BufferFull)?;
        room.copy_from_slice(bytes);
        self.advance(bytes.len());
        Ok(())
    }

    /// Counts at most the first `len` bytes as filled.
    pub fn truncate(&mut self, len: usize) {
        self.filled = self.filled.min(len);
    }

    /// Counts no bytes as filled.
    pub fn clear(&mut self) {
        self.filled = 0;
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.as_mut_slice()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.shared.give_back(self.map.take(), self.size);
    }
}

#[cfg(test)]
mod tests;
