//! A snapshot and its items as values, and the limits of the format.

use std::collections::BTreeMap;

use super::error::{Error, damaged};
use crate::clock;
use crate::id::{ChunkId, RepoId, SnapshotId};

/// The version of manifests, records and copies that this code writes and reads.
pub const VERSION: u32 = 1;
/// Largest size and count in a manifest: JavaScript numbers are exact up to it.
pub const MAX_SIZE: u64 = 1 << 53;
/// Largest chunk in bytes of plaintext: a 24-bit length in pack trailers.
pub const MAX_RAW_LEN: u32 = 0xff_ffff;
/// Longest manifest file, in bytes.
pub const MAX_MANIFEST_LEN: u64 = 64 << 20;
/// Longest text of a sealed manifest in bytes: padding and Base64 extend it to at most 64 MiB.
pub const MAX_SEALED_TEXT_LEN: u64 = 47 << 20;
/// Most bytes that an item takes in a manifest besides its name and type: the longest numbers, a
/// list and a digest.
pub const MAX_ENTRY_LEN: u64 = 256;
/// Most bytes of a manifest besides its tags and items: ids, times, numbers, and the chunks that
/// are kept inline.
pub const MAX_FRAME_LEN: u64 = 1024 + INLINE_PER_MANIFEST as u64 * 80;
/// Most chunks of an item that a writer keeps inline, in the manifest itself …
pub const INLINE_PER_ITEM: usize = 32;
/// … while the manifest has at most this many inline chunks in total.
pub const INLINE_PER_MANIFEST: usize = 4096;

/// One point in time: the contents of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id, which is also that of the session that made it.
    pub id: SnapshotId,
    /// Version of the manifest, [`VERSION`].
    pub version: u32,
    /// When the snapshot was made, in milliseconds since 1970-01-01T00:00:00Z.
    pub created_at_ms: i64,
    /// 1 + the largest sequence of the snapshots that were listed when it was committed: orders
    /// snapshots of the same time. 0 in manifests of versions that did not have it.
    pub sequence: u64,
    /// Tags of the user.
    pub tags: BTreeMap<String, String>,
    /// Bytes of all items.
    pub original_size: u64,
    /// Bytes that the ingest added to data packs.
    pub stored_size: u64,
    /// Number of chunks of all items.
    pub chunk_count: u64,
    /// Number of those that were stored.
    pub new_chunks: u64,
    /// Number of those that existed before.
    pub reused_chunks: u64,
    /// Version of the program that wrote it.
    pub writer_version: String,
    /// The snapshot that this one is a copy of.
    pub copied_from: Option<Origin>,
    /// The streams, with unique names.
    pub items: Vec<SnapshotItem>,
}

impl Snapshot {
    /// When the snapshot was made, as RFC 3339 in UTC with milliseconds.
    pub fn created_at(&self) -> String {
        clock::format_time(self.created_at_ms)
    }

    /// The snapshot that was ingested: the original of a copy, or itself, in `repository`.
    pub fn origin(&self, repository: RepoId) -> Origin {
        let itself = Origin {
            repository,
            snapshot: self.id,
        };
        self.copied_from.unwrap_or(itself)
    }

    /// The item of that name.
    pub fn item(&self, name: &str) -> Option<&SnapshotItem> {
        self.items.iter().find(|item| item.name == name)
    }
}

/// A snapshot that copies were made of, in the repository that it was ingested into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// The repository.
    pub repository: RepoId,
    /// The snapshot.
    pub snapshot: SnapshotId,
}

/// One named stream within a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotItem {
    /// Unique within the snapshot.
    pub name: String,
    /// Kind of stream, for users (`type` in the manifest).
    pub kind: String,
    /// Length in bytes.
    pub size: u64,
    /// Number of chunks.
    pub chunk_count: u64,
    /// Its chunks.
    pub content: ItemContent,
    /// SHA-256 of the whole stream, if the ingest computed it.
    pub sha256: Option<[u8; 32]>,
}

/// The chunks of an item, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ItemContent {
    /// In the manifest: id and length in bytes of each.
    Inline(Vec<(ChunkId, u32)>),
    /// In a tree of list nodes.
    List {
        /// Id of the root node.
        root: ChunkId,
        /// Level of that node; 0 is a leaf.
        level: u8,
    },
}

/// Parses a time in the exact form that [`clock::format_time`] writes.
pub(super) fn parse_exact_time(text: &str) -> Result<i64, Error> {
    match clock::parse_time(text) {
        Some(ms) if clock::format_time(ms) == text => Ok(ms),
        _ => damaged("a time is not RFC 3339 in UTC with milliseconds"),
    }
}
