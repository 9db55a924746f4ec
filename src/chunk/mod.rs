//! Content-defined cutting: where a stream is cut into chunks depends on its bytes alone, so that a change moves only the
//! cuts near it.
//!
//! What always holds: chunks follow each other without gaps; every chunk but the last of a stream has at least `min` and
//! at most `max` bytes; the cuts do not depend on how the stream was handed over. Pure: no I/O, no state between calls.
//! What a chunk is called, compressed or sealed with is left to others.

mod fastcdc;

pub use fastcdc::{Cutter, Gear};

use ::fastcdc::v2020::{AVERAGE_MAX, AVERAGE_MIN, MAXIMUM_MIN, MINIMUM_MAX, MINIMUM_MIN};
use std::fmt;

/// Largest `max` that a repository may be made with (format.md §12): 8 MiB.
const MAXIMUM_MAX: usize = 8 << 20;

/// Sizes of chunks in bytes, fixed at init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkerParams {
    /// No chunk is smaller, except the last of a stream.
    pub min: u32,
    /// What the cut rule aims at.
    pub avg: u32,
    /// No chunk is larger.
    pub max: u32,
}

impl Default for ChunkerParams {
    fn default() -> Self {
        Self {
            min: 65_536,
            avg: 262_144,
            max: 1_048_576,
        }
    }
}

impl ChunkerParams {
    /// Checks the bounds of the `fastcdc` crate (outside of them its mask table has no entry, and it would panic or cut
    /// differently than stated) and `max` ≤ 8 MiB.
    pub fn validate(&self) -> Result<(), InvalidParams> {
        let size = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
        let (min, avg, max) = (size(self.min), size(self.avg), size(self.max));
        if [min, avg, max].iter().any(|size| size % 2 != 0) {
            return Err(InvalidParams::Odd);
        }
        if !(MINIMUM_MIN..=MINIMUM_MAX).contains(&min) {
            return Err(InvalidParams::Min);
        }
        if !(AVERAGE_MIN..=AVERAGE_MAX).contains(&avg) {
            return Err(InvalidParams::Avg);
        }
        if !(MAXIMUM_MIN..=MAXIMUM_MAX).contains(&max) {
            return Err(InvalidParams::Max);
        }
        if min > avg || avg > max {
            return Err(InvalidParams::Order);
        }
        Ok(())
    }
}

/// Why chunk sizes are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidParams {
    /// A size is odd: the cut rule looks at two bytes at a time.
    Odd,
    /// `min` is not within 64 bytes and 1 MiB.
    Min,
    /// `avg` is not within 256 bytes and 4 MiB.
    Avg,
    /// `max` is not within 1 KiB and 8 MiB.
    Max,
    /// Not min ≤ avg ≤ max.
    Order,
}

impl fmt::Display for InvalidParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Odd => "Chunk sizes must be even",
            Self::Min => "The minimum chunk size must be from 64 to 1048576 bytes",
            Self::Avg => "The average chunk size must be from 256 to 4194304 bytes",
            Self::Max => "The maximum chunk size must be from 1024 to 8388608 bytes",
            Self::Order => "Chunk sizes must satisfy min <= avg <= max",
        })
    }
}

impl std::error::Error for InvalidParams {}

#[cfg(test)]
mod tests;
