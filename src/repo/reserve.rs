//! The reserve: files that take up space and inodes for nothing, until an operation that frees some needs them.
//!
//! Nothing depends on it. One file reserves space; it is made with the repository and grows with it, up to what a prune of
//! a large one may have to write before its first delete: records, a kill list, a parity group or two. Further files are
//! empty and reserve an inode each: a file system can run out of inodes while most of its space is free. Prune, forget,
//! unlock, repair and reindex delete all of them when they meet a full disk. A repository of an earlier version has only
//! the first.

use super::Repository;
use crate::error::{Error, Result};
use crate::layout;
use crate::storage::{Entry, put_bytes};
use std::io::{self, Read};

/// The packs of the repository take up at least this many times the length of the reserve, unless that is [`SMALLEST`].
const RATIO: u64 = 64;
/// Length of the smallest reserve in bytes: a lease, some records, a kill list, each in a block of its own.
const SMALLEST: u64 = 64 << 10;

impl Repository {
    /// Length in bytes that the reserve grows to: two parity groups of full packs, and a little for everything small.
    pub fn reserve_len(&self) -> u64 {
        let shards = self.parity_shape().map_or(0, |shape| u64::from(shape.parity));
        (2 * shards * self.config().pack_size + (1 << 20)).max(SMALLEST)
    }

    /// Makes the files of the reserve that are missing, and a longer one when the repository has outgrown it: where there
    /// is no room for that, the longest that fits, of lengths that halve. `false` when it is less than wanted, which is no
    /// failure.
    pub fn keep_reserve(&self) -> bool {
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
        let mut made = missing.map(|key| put_bytes(self.storage(), &key, &[]));
        made.all(|made| made.is_ok())
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

    /// The files of the reserve that are there.
    fn reserve_files(&self) -> Result<Vec<Entry>> {
        let mut files = self.storage().list("")?;
        files.retain(|file| layout::is_reserve(&file.key));
        Ok(files)
    }

    /// How long a new reserve would have to be; `None` when one of `len` bytes will do.
    fn wanted_reserve(&self, len: u64) -> Option<u64> {
        // lengths that double, so that it is seldom made anew
        let wanted = |bytes: u64| {
            let share = (bytes / RATIO).clamp(SMALLEST, self.reserve_len());
            let doubling = 1 << share.ilog2();
            if share == self.reserve_len() { share } else { doubling }
        };
        // this costs nothing, and is too much where data compresses well
        let chunks: u64 = self.index().live_segments().iter().map(|segment| segment.entries).sum();
        if wanted(chunks.saturating_mul(u64::from(self.config().chunking.avg))) <= len {
            return None;
        }
        let packs = self.index().packs().ok()?;
        Some(wanted(packs.values().sum())).filter(|wanted| *wanted > len)
    }

    /// Gives the space and the inodes of the reserve back to the file system; `false` when there were none.
    pub fn release_reserve(&self) -> Result<bool> {
        let files = self.reserve_files()?;
        for file in &files {
            self.storage().delete(&file.key)?;
        }
        // some file systems give space back only then
        self.storage().barrier()?;
        Ok(!files.is_empty())
    }

    /// Runs an operation that frees more than it takes. When it meets a full disk it runs once more, with what the reserve
    /// has given back, and the reserve is made again afterwards. What the first run did stays done.
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

/// Bytes that look random, so that no file system makes the file smaller. No secret depends on them (xorshift64*, Vigna
/// 2016).
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
