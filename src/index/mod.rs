//! The global index: chunk id → places, for the whole repository.
//!
//! It is a set of *segments*, immutable files of sorted pages (`docs/format.md` §9). There is no list of them: all
//! `index/*.seg` that open count, except those that another one names as superseded. Everybody may add segments at any
//! time; only the holder of the maintenance lock merges or deletes. Every entry can be found again in the pack indexes, so
//! a broken segment is left out, reported, and made again: nothing is lost with it.
//!
//! What always holds:
//! - Memory is the page cache plus 8 bytes for 43,350 entries, whatever the size of the index. Opening reads a few pages
//!   a segment. A look-up reads a filter page and, if that admits the id, a fence, a data and a pack page.
//! - No page is used before its tag was checked: a damaged page is [`Error::Damaged`], never a wrong place.
//! - A segment that vanishes was merged by somebody else: list again and go on.
//! - A segment that cannot be read is not damaged. It is left out of look-ups until that very read works again, and whatever
//!   needs the whole index (maintenance, verify) fails with [`Error::Unreadable`] as long as one is left out.
//!
//! It leaves to others: whether a pack that it names still exists or is condemned (a place is a hint until the pack was
//! looked at), when to merge, and making segments from pack indexes.

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
