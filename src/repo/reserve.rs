//! The reserve: a file that takes up space for nothing, until a prune on a full disk needs it.
//!
//! Nothing depends on it. It is made once the repository is large against it, and given up when a prune finds no space
//! left: what a prune writes before its first delete (records, a kill list, a parity group or two) fits into it.

use super::Repository;
use crate::entropy::Entropy;
use crate::error::Result;
use crate::layout;
use std::io::{self, Read};

/// The reserve is made when the chunks of the repository take up this many times its length.
const RATIO: u64 = 64;

impl Repository {
    /// Length of the reserve in bytes: two parity groups of full packs, and a little for everything small.
    pub fn reserve_len(&self) -> u64 {
        let shards = self.parity_shape().map_or(0, |shape| u64::from(shape.parity));
        2 * shards * self.config().pack_size + (1 << 20)
    }

    /// Makes the reserve if there is none and the repository is large enough. A failure means nothing.
    pub fn keep_reserve(&self) {
        let entries: u64 = self.index().live_segments().iter().map(|segment| segment.entries).sum();
        let len = self.reserve_len();
        let about = entries.saturating_mul(u64::from(self.config().chunking.avg));
        if about / RATIO < len || !matches!(self.storage().size(layout::RESERVE), Ok(None)) {
            return;
        }
        // random, so that no file system makes it smaller
        let mut filling = Filling {
            entropy: self.entropy(),
            left: len,
        };
        let _ = self.storage().put_new(layout::RESERVE, len, &mut filling);
    }

    /// Gives the space of the reserve back to the file system.
    pub fn release_reserve(&self) -> Result<()> {
        self.storage().delete(layout::RESERVE)?;
        // some file systems give space back only then
        Ok(self.storage().barrier()?)
    }
}

struct Filling<'a> {
    entropy: &'a dyn Entropy,
    left: u64,
}

impl Read for Filling<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = out.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if let Some(out) = out.get_mut(..count) {
            self.entropy
                .fill(out)
                .map_err(|_| io::Error::other("no random bytes"))?;
        }
        self.left -= count as u64;
        Ok(count)
    }
}
