//! A snapshot and its items as values, and the limits of the format.

use std::borrow::Cow;
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
/// Most bytes of a manifest besides its tags and items: ids, times, numbers, the chunks that are
/// kept inline, and the extras.
pub const MAX_FRAME_LEN: u64 = 1024 + INLINE_PER_MANIFEST as u64 * 80 + EXTRAS_PER_MANIFEST as u64 * 192;
/// Most chunks of an item that a writer keeps inline, in the manifest itself …
pub const INLINE_PER_ITEM: usize = 32;
/// … while the manifest has at most this many inline chunks in total.
pub const INLINE_PER_MANIFEST: usize = 4096;
/// Most extras of an item.
pub const EXTRAS_PER_ITEM: usize = 8;
/// Most extras that an ingest adds to a snapshot.
pub const EXTRAS_PER_MANIFEST: usize = 4096;
/// Longest kind of an extra in bytes.
pub const MAX_EXTRA_KIND_LEN: usize = 64;

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

    /// Every list that the snapshot needs: those of its items, and those of their extras of any
    /// kind, each as an item with the name of its item.
    pub fn lists(&self) -> impl Iterator<Item = Cow<'_, SnapshotItem>> {
        self.items.iter().flat_map(|item| {
            let extra = item.extra.iter().map(|extra| Cow::Owned(extra.as_item(item)));
            std::iter::once(Cow::Borrowed(item)).chain(extra)
        })
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
    /// Further streams that describe this one. A snapshot needs their chunks, also those of kinds
    /// that this version does not know.
    pub extra: Vec<Extra>,
}

impl SnapshotItem {
    /// The first extra of a kind.
    pub fn extra_of(&self, kind: &str) -> Option<&Extra> {
        self.extra.iter().find(|extra| extra.kind == kind)
    }
}

/// A stream that describes an item, such as an index of its bytes. No size or count of the item or
/// the snapshot includes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extra {
    /// What it is: 1 to [`MAX_EXTRA_KIND_LEN`] bytes of `a-z`, `0-9` and `-`.
    pub kind: String,
    /// Id of the root node of its list.
    pub root: ChunkId,
    /// Level of that node; 0 is a leaf.
    pub level: u8,
    /// Length in bytes, at least 1.
    pub size: u64,
    /// Number of chunks, at least 1.
    pub chunk_count: u64,
}

impl Extra {
    /// The same chunks as an item, with the name and the type of the item that they describe.
    pub fn as_item(&self, item: &SnapshotItem) -> SnapshotItem {
        SnapshotItem {
            name: item.name.clone(),
            kind: item.kind.clone(),
            size: self.size,
            chunk_count: self.chunk_count,
            content: ItemContent::List {
                root: self.root,
                level: self.level,
            },
            sha256: None,
            extra: Vec::new(),
        }
    }
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
