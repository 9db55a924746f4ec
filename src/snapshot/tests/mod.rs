//! Tests of the room, one file per subject, and what they share.

mod list;
mod manifest;

use super::*;
use crate::id::{ChunkId, SnapshotId};

/// A snapshot with every kind of item.
pub(super) fn sample() -> Snapshot {
    let tags = [("service", "db"), ("__proto__", "x"), ("constructor", "\u{0}\"é\n")];
    let item = |name: &str, size, chunk_count, content, sha256| SnapshotItem {
        name: name.into(),
        kind: "stream".into(),
        size,
        chunk_count,
        content,
        sha256,
        extra: Vec::new(),
    };
    let inline = ItemContent::Inline(vec![(ChunkId([0xaa; 32]), 65_536), (ChunkId([0xbb; 32]), 7)]);
    let list = ItemContent::List {
        root: ChunkId([0xcc; 32]),
        level: 1,
    };
    Snapshot {
        id: SnapshotId([0x5a; 16]),
        version: VERSION,
        created_at_ms: 1_795_398_300_123,
        sequence: 0,
        tags: tags
            .into_iter()
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        original_size: 9_000_065_543,
        stored_size: 1_234,
        chunk_count: 34_002,
        new_chunks: 2,
        reused_chunks: 34_000,
        writer_version: "0.1.0".into(),
        copied_from: None,
        items: vec![
            item("__proto__", 0, 0, ItemContent::Inline(Vec::new()), None),
            item("config", 65_543, 2, inline, None),
            item("dump.sql", 9_000_000_000, 34_000, list, Some([0xdd; 32])),
        ],
    }
}
