//! Short segments of the index, kept in memory: a segment is read page by page, and each page would
//! be a request.
//!
//! A segment is immutable and its name is used once, so what is kept never becomes wrong. It may
//! have been deleted since, after a merge: a reader of old segments is led to packs that may be
//! gone, and lists again, as for segments that it holds open.

use super::super::Result;
use super::super::memory::copy_range;
use crate::sync::lock;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Longest segment that is read whole, in bytes. At a few MB/s it costs less than two requests.
pub(super) const LONGEST: u64 = 256 << 10;
/// Most bytes that are kept.
const MOST: usize = 16 << 20;

/// What is known of segments.
#[derive(Default)]
pub(super) struct Cache {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Lengths from the last listing.
    lengths: HashMap<String, u64>,
    segments: HashMap<String, Arc<[u8]>>,
    bytes: usize,
}

impl State {
    fn keep(&mut self, key: &str, bytes: Arc<[u8]>) {
        if self.bytes + bytes.len() > MOST {
            self.segments.clear();
            self.bytes = 0;
        }
        self.bytes += bytes.len();
        if let Some(old) = self.segments.insert(key.to_owned(), bytes) {
            self.bytes -= old.len();
        }
    }
}

/// Where segments are.
pub(super) const FOLDER: &str = "index";

/// Whether a file of this key and length is kept when it is put.
pub(super) fn may_keep(key: &str, len: u64) -> bool {
    is_segment(key) && len <= LONGEST
}

pub(super) fn is_segment(key: &str) -> bool {
    key.starts_with("index/") && key.ends_with(".seg")
}

impl Cache {
    /// Notes the lengths of a listing of the folder of the segments.
    pub(super) fn listed(&self, entries: &[super::Entry]) {
        let segments = entries.iter().filter(|entry| is_segment(&entry.key));
        let lengths: HashMap<String, u64> = segments.map(|entry| (entry.key.clone(), entry.len)).collect();
        let mut state = lock(&self.state);
        let State { segments, bytes, .. } = &mut *state;
        segments.retain(|key, kept| {
            let stays = lengths.contains_key(key);
            if !stays {
                *bytes -= kept.len();
            }
            stays
        });
        state.lengths = lengths;
    }

    /// Keeps a segment that was put.
    pub(super) fn put(&self, key: &str, bytes: &[u8]) {
        let mut state = lock(&self.state);
        state.keep(key, bytes.into());
        state.lengths.insert(key.to_owned(), bytes.len() as u64);
    }

    /// Forgets what is kept of a key.
    pub(super) fn forget(&self, key: &str) {
        let mut state = lock(&self.state);
        state.lengths.remove(key);
        if let Some(old) = state.segments.remove(key) {
            state.bytes -= old.len();
        }
    }

    /// Forgets the bytes of a segment: the next read requests them.
    pub(super) fn forget_bytes(&self, key: &str) {
        let mut state = lock(&self.state);
        if let Some(old) = state.segments.remove(key) {
            state.bytes -= old.len();
        }
    }

    /// Forgets everything: the next reads show what is stored.
    pub(super) fn clear(&self) {
        *lock(&self.state) = State::default();
    }

    /// The length of a segment as last listed or put.
    pub(super) fn len(&self, key: &str) -> Option<u64> {
        lock(&self.state).lengths.get(key).copied()
    }

    /// The whole segment if it is kept or short; `None` for everything else.
    fn whole(&self, key: &str, get: &dyn Fn(u64) -> Result<Vec<u8>>) -> Result<Option<Arc<[u8]>>> {
        if !is_segment(key) {
            return Ok(None);
        }
        if let Some(kept) = lock(&self.state).segments.get(key) {
            return Ok(Some(Arc::clone(kept)));
        }
        if self.len(key).is_none_or(|len| len > LONGEST) {
            return Ok(None);
        }
        let bytes: Arc<[u8]> = get(LONGEST)?.into();
        lock(&self.state).keep(key, Arc::clone(&bytes));
        Ok(Some(bytes))
    }

    /// Whether the segment is read whole by the next read of it.
    pub(super) fn is_short_and_missing(&self, key: &str) -> bool {
        let state = lock(&self.state);
        !state.segments.contains_key(key) && state.lengths.get(key).is_some_and(|len| *len <= LONGEST)
    }

    /// Fills `out` from a kept or short segment, for which `get` makes the request, of at most so
    /// many bytes; `None` when the range must be requested.
    pub(super) fn get_range(
        &self,
        key: &str,
        offset: u64,
        out: &mut [u8],
        get: &dyn Fn(u64) -> Result<Vec<u8>>,
    ) -> Result<Option<()>> {
        let Some(bytes) = self.whole(key, get)? else {
            return Ok(None);
        };
        copy_range(key, &bytes, offset, out)?;
        Ok(Some(()))
    }
}
