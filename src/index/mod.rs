//! The global index: chunk id → locations, for the whole repository.
//!
//! It is a set of *segments*, immutable files of sorted pages (`docs/format.md` §9). There is no
//! list of them: every `index/*.seg` that opens is live, except those that another one names as
//! superseded. Any writer may add segments at any time; only the holder of the maintenance lock
//! merges or deletes. Every entry is in a pack index too, so a broken segment is left out, reported
//! and rebuilt: no data is lost with it.
//!
//! Invariants:
//! - Memory is the page cache plus 8 bytes for 43,350 entries, whatever the size of the index.
//!   Opening reads a few pages of each segment. A look-up reads a filter page and, if that admits
//!   the id, a fence, a data and a pack page.
//! - No page is used before its tag is checked: a damaged page is [`Error::Damaged`], never a wrong
//!   location.
//! - A segment that vanishes was merged by another process: the handle lists again and continues.
//! - A segment that cannot be read is not damaged. It is left out of look-ups until the read that
//!   failed succeeds, and every operation that needs the whole index (maintenance, verify) fails
//!   with [`Error::Unreadable`] while one is left out.
//!
//! Left to the caller: whether a pack that the index names still exists or is condemned (a location
//! is a hint until the pack is checked), when to merge, and rebuilding segments from pack indexes.

mod check;
mod error;
pub mod filter;
pub mod format;
mod global;
mod known;
mod merge;
mod pages;
mod publish;
mod seal;
mod segment;
mod source;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod writer;

pub use error::{BrokenSegment, Damage, Error};
pub use format::SegmentEntry;
pub use global::GlobalIndex;
pub use merge::{MergeSource, plan_merge, plan_merge_within};
pub use pages::{DEFAULT_CACHE_BYTES, PageCache, PageReads};
pub use seal::{EpochKey, SegmentContext, SegmentSeal};
pub use segment::{Segment, SegmentScan, SegmentStats, check_header};
pub use source::{EntryScan, EntrySource, MemorySource};
pub use writer::write_segment;
