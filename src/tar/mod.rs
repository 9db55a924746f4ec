//! Tar archives: their members, found while the bytes stream by.
//!
//! [`Scanner`] gets the bytes in pieces of any size and reports each member: its attributes, where
//! its headers begin, where its data are. It knows ustar, the v7 format before it, the long names
//! and sparse files of GNU tar, and the pax records of POSIX.1-2001 with the three sparse formats
//! that GNU tar writes in them. [`recognise()`] decides by the first block what a stream is.
//!
//! Always true:
//! - Feeding never fails. Bytes that are no tar, or break off as one, are a [`Verdict`].
//! - Memory is constant: at most [`MAX_PATH_LEN`] per name and [`MAX_SEGMENTS`] of a sparse map,
//!   whatever the archive states. The work is constant per block of a header, and none per byte of
//!   data.
//! - The members are the same however the bytes are cut into pieces.
//!
//! The readers of headers in the field (the `tar` crate, Go, Python) pull from a stream that they
//! own, keep a whole extended header in memory, or drop the offsets; an ingest pushes, and its
//! index needs every offset. Where the known readers disagree, the choice and its reason are stated
//! at the code. What the members are stored for is left to others.
//!
//! [`Extractor`] writes members below a directory, and refuses what leads out of it. Its calls of
//! the system are in `storage::tree`, because `storage` is the only room that does I/O. [`Subtree`]
//! lists the ranges of an archive whose bytes, one after another, are the archive of a directory.

#[cfg(unix)]
mod extract;
mod header;
mod member;
mod path;
mod pax;
mod recognise;
#[cfg(unix)]
mod report;
mod scanner;
mod sparse;
mod subtree;
mod verdict;
mod write;

#[cfg(unix)]
pub use extract::{ExtractOptions, Extractor};
pub use header::BLOCK_LEN;
pub use member::{Content, Kind, Member, Segment, Time};
pub use path::parts;
pub use recognise::{Form, Wrapper, recognise};
#[cfg(unix)]
pub use report::{MAX_NOTICES, Notice, Notices, Reason, Report};
pub use scanner::{Event, Scanner};
pub use subtree::{Added, Part, Subtree};
pub use verdict::{Break, Field, Verdict};
#[cfg(test)]
pub(crate) use write::header;

/// Longest path or link target in bytes; 16 times the longest path of Linux. A longer one ends the
/// recognition.
pub const MAX_PATH_LEN: usize = 64 << 10;
/// Longest name of a user or group in bytes.
pub const MAX_OWNER_LEN: usize = 1 << 10;
/// Longest extended header (pax) in bytes. It is not kept in memory; the limit ends the recognition
/// of what can only be an attack.
pub const MAX_PAX_LEN: u64 = 16 << 20;
/// Most segments of a sparse map that are kept, 1 MiB. A member with more is reported without its
/// map.
pub const MAX_SEGMENTS: usize = 1 << 16;
