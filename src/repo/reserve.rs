//! The reserve: files that occupy space and inodes until an operation that frees some needs them.
//!
//! No data depends on the reserve. One file reserves space; it is created with the repository and
//! grows with it, up to what a prune of a large one may have to write before its first delete:
//! records, a kill list, a parity group or two. Further files are empty and reserve an inode each:
//! a file system can run out of inodes while most of its space is free. Prune, forget, unlock,
//! repair and reindex delete all of them when they meet a full disk. A repository of an earlier
//! version has only the first.

use super::Repository;
use crate::error::{Error, Result};
use crate::layout;
use crate::storage::{Entry, put_bytes};
use std::io::{self, Read};

/// The packs of the repository take up at least this many times the length of the reserve, unless
/// that is [`SMALLEST`].
const RATIO: u64 = 64;
/// Length of the smallest reserve in bytes: a lease, some records, a kill list, each in its own
/// block.
const SMALLEST: u64 = 64 << 10;

impl Repository {
    /// Length in bytes that the reserve grows to: two parity groups of full packs, and a little for
    /// the small files.
    pub fn reserve_len(&self) -> u64 {
        let shards = self.parity_shape().map_or(0, |shape| u64::from(shape.parity));
        (2 * shards * self.config().pack_size + (1 << 20)).max(SMALLEST)
    }

    /// Creates the files of the reserve that are missing, and a longer one when the repository has
    /// outgrown the current one. If there is no room for the longer file, halves the length until
    /// it fits. Returns `false` when the reserve is smaller than wanted, which is not a failure.
    pub fn keep_reserve(&self) -> bool {
        // object storage has no end that a reserve would help at
        if self.storage().is_remote() {
            return true;
        }
        let Ok(files) = self.reserve_files() else {
            return false;
        };
        let found = files.iter().find(|file| file.key == layout::RESERVE);
        if !self.keep_reserved_space(found.map(|file| file.len)) {
            return false;
        }
        let missing = (1..=layout::RESERVE_FILES)
            .map(layout::reserve_file)
            .filter(|key| files.iter().all(|file| file.key != *key));
        let mut created = missing.map(|key| put_bytes(self.storage(), &key, &[]));
        created.all(|created| created.is_ok())
    }

    fn keep_reserved_space(&self, found: Option<u64>) -> bool {
        let storage = self.storage();
        let Some(wanted) = self.wanted_reserve(found.unwrap_or(0)) else {
            return true;
        };
        if found.is_some() && storage.delete(layout::RESERVE).is_err() {
            return false;
        }
        let mut len = wanted;
        while len >= SMALLEST {
            let mut filling = Filling { state: len, left: len };
            if storage.put_new(layout::RESERVE, len, &mut filling).is_ok() {
                return len == wanted;
            }
            len /= 2;
        }
        false
    }

    /// The existing files of the reserve.
    fn reserve_files(&self) -> Result<Vec<Entry>> {
        let mut files = self.storage().list("")?;
        files.retain(|file| layout::is_reserve(&file.key));
        Ok(files)
    }

    /// The length that a new reserve needs; `None` when one of `len` bytes is long enough.
    fn wanted_reserve(&self, len: u64) -> Option<u64> {
        // lengths that double, so that it is seldom recreated
        let wanted = |bytes: u64| {
            let share = (bytes / RATIO).clamp(SMALLEST, self.reserve_len());
            let doubling = 1 << share.ilog2();
            if share == self.reserve_len() { share } else { doubling }
        };
        // this estimate costs nothing, and is too high where data compresses well
        let chunks: u64 = self.index().live_segments().iter().map(|segment| segment.entries).sum();
        if wanted(chunks.saturating_mul(u64::from(self.config().chunking.avg))) <= len {
            return None;
        }
        let bytes = self.index().estimate_pack_bytes().ok()?;
        Some(wanted(bytes)).filter(|wanted| *wanted > len)
    }

    /// Returns the space and the inodes of the reserve to the file system; `false` when there were
    /// no files.
    pub fn release_reserve(&self) -> Result<bool> {
        let files = self.reserve_files()?;
        for file in &files {
            self.storage().delete(&file.key)?;
        }
        // some file systems free the space only at a flush
        self.storage().barrier()?;
        Ok(!files.is_empty())
    }

    /// Runs an operation that frees more than it takes. When it meets a full disk, releases the
    /// reserve, runs it once more and recreates the reserve afterwards. The effects of the first
    /// run stay.
    pub fn with_reserve<T>(&self, mut run: impl FnMut() -> Result<T>) -> Result<T> {
        match run() {
            Err(full @ Error::NoSpace { .. }) => {
                if !self.release_reserve()? {
                    return Err(full);
                }
                let outcome = run();
                self.keep_reserve();
                outcome
            }
            other => other,
        }
    }
}

/// Bytes that look random, so that no file system can make the file smaller. No secret depends on
/// them (xorshift64*, Vigna 2016).
struct Filling {
    state: u64,
    left: u64,
}

impl Read for Filling {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = out.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        for part in out.get_mut(..count).unwrap_or_default().chunks_mut(8) {
            self.state ^= self.state >> 12;
            self.state ^= self.state << 25;
            self.state ^= self.state >> 27;
            let word = self.state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes();
            part.iter_mut().zip(word).for_each(|(to, from)| *to = from);
        }
        self.left -= count as u64;
        Ok(count)
    }
}
