//! Content-defined chunking: the cut points of a stream depend on its bytes alone, so that a change
//! moves only the cut points near it.
//!
//! Always true: chunks follow each other without gaps; every chunk but the last of a stream has at
//! least `min` bytes, and each has at most `max`; the cut points do not depend on the buffers in
//! which the stream arrives. The room does no I/O and keeps no state between calls.

mod fastcdc;

pub use fastcdc::{Cutter, Gear};

use ::fastcdc::v2020::{AVERAGE_MAX, AVERAGE_MIN, MAXIMUM_MIN, MINIMUM_MAX, MINIMUM_MIN};
use std::fmt;

/// Largest `max` of a repository (format.md §12), in bytes: 8 MiB.
const MAXIMUM_MAX: usize = 8 << 20;

/// Chunk sizes in bytes, fixed at init.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkerParams {
    /// Smallest chunk, except the last of a stream.
    pub min: u32,
    /// Target of the cut rule.
    pub avg: u32,
    /// Largest chunk.
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
    /// Checks `max` ≤ 8 MiB and the bounds of the `fastcdc` crate, outside of which it panics or
    /// cuts at other sizes than stated.
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

/// Why chunk sizes were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidParams {
    /// A size is odd: the cut rule reads two bytes at a time.
    Odd,
    /// `min` is not from 64 bytes to 1 MiB.
    Min,
    /// `avg` is not from 256 bytes to 4 MiB.
    Avg,
    /// `max` is not from 1 KiB to 8 MiB.
    Max,
    /// The sizes are not min ≤ avg ≤ max.
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
