//! Snapshots: their manifests, and the tree of chunk ids of each item.
//!
//! A snapshot is one point in time and contains *items*, which are named streams. Its *manifest* is
//! a small JSON file; the chunk ids of an item with many chunks are in *list nodes*, which are
//! stored like chunks. Byte forms: `docs/format.md` §7 and §8.
//!
//! Invariants: whatever is decoded was checked (checksum or seal first, then every number), and
//! whatever is encoded passes the same checks, so a snapshot that was written can be read. No I/O:
//! reading and storing files and chunks, and verifying the id of a chunk, is left to the caller.

pub mod copy;
mod error;
pub mod filter;
pub mod list;
pub mod list_reader;
pub mod manifest;
mod model;
pub mod order;
pub mod record;
pub mod retention;
pub mod tombstone;

pub use error::Error;
pub use filter::SnapshotFilter;
pub use list::ListBuilder;
pub use list_reader::{ListWalker, ListedChunk};
pub use manifest::{ManifestKeys, ManifestSeal};
pub use model::{
    EXTRAS_PER_ITEM, EXTRAS_PER_MANIFEST, Extra, INLINE_PER_ITEM, INLINE_PER_MANIFEST, ItemContent, MAX_ENTRY_LEN,
    MAX_EXTRA_KIND_LEN, MAX_FRAME_LEN, MAX_MANIFEST_LEN, MAX_RAW_LEN, MAX_SEALED_TEXT_LEN, MAX_SIZE, Origin, Snapshot,
    SnapshotItem, VERSION,
};
pub use order::{Recency, sort_newest_first};

#[cfg(test)]
mod tests;
