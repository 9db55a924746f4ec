//! The member index of a tar: every member with its attributes and offsets, sorted by path, as one
//! stream of bytes (`docs/format.md` §8.5).
//!
//! The stream consists of *pages*. A *leaf* has entries, an *inner* page the first path of each
//! page below it, and the *tail* at the end of the stream leads to the root. So a path is found by
//! reading one page of each level, and a directory is listed by reading the pages that it is in.
//! [`Indexer`] writes the stream while the bytes of the tar pass, [`Index`] reads it.
//!
//! Always true:
//! - The end of a page depends on paths alone, and offsets are stored relative to the first one of
//!   the page, which its parent has: a page is the same bytes in each tar in which its members
//!   follow each other in the same way.
//! - Paths are compared by the names in them ([`Key`]): `./a//b/` is `a/b`. The path as it is
//!   stored in the tar is kept too.
//! - What is read was checked; wrong bytes are an [`Error`], never a panic, an endless loop or a
//!   large allocation.
//! - Memory while writing: [`RUN_LEN`] of entries, then compressed runs of at most
//!   [`MAX_SORT_BYTES`] in total. What exceeds that is given up, and nothing is written.
//!
//! Where the pages are stored is left to the caller.

mod builder;
mod cursor;
mod entry;
mod error;
mod fetch;
mod indexer;
mod key;
mod listing;
mod page;
mod reader;
mod sort;
mod tail;

pub use builder::MAX_GLOBALS;
pub use cursor::Cursor;
pub use entry::Entry;
pub use error::Error;
pub use fetch::Fetch;
pub use indexer::{Indexer, Outcome, Unindexed};
pub use key::Key;
pub use listing::{ListOptions, Listed, Listing};
pub use page::MAX_PAGE_LEN;
pub use reader::Index;
pub use sort::{MAX_MEMBERS, MAX_SORT_BYTES, RUN_LEN};
pub use tail::Tail;

/// The kind of the extra of an item that has this stream.
pub const KIND: &str = "tar-members";

#[cfg(test)]
mod tests;
