//! List trees: golden bytes, round trips, the cost of changes and reads, and refused nodes.

use std::cell::Cell;
use std::collections::HashMap;

use proptest::prelude::*;

use super::super::list::{MAX_LEVEL, MAX_NODE_LEN, Node, decode_node};
use super::super::*;
use super::sample;
use crate::crypto;
use crate::entropy::{Entropy, SeededEntropy};
use crate::id::{ChunkId, to_hex};

/// Nodes by id.
type Nodes = HashMap<ChunkId, Vec<u8>>;

/// Reproducible chunks; about one id in `every` ends a node.
fn chunks(seed: u64, count: usize, every: u64) -> Vec<(ChunkId, u32)> {
    let entropy = SeededEntropy::new(seed);
    (0..count)
        .map(|_| {
            let mut random = [0; 40];
            entropy.fill(&mut random).unwrap();
            let mut id = [0; 32];
            id.copy_from_slice(&random[..32]);
            let number = u64::from_le_bytes(random[32..].try_into().unwrap());
            if every > 0 && number % every == 0 {
                (id[30], id[31]) = (0, 0);
            }
            (ChunkId(id), (number >> 32) as u32 % 1_000_000 + 1)
        })
        .collect()
}

/// Builds a list and keeps its nodes.
fn build(chunks: &[(ChunkId, u32)], inline_allowed: bool, nodes: &mut Nodes) -> SnapshotItem {
    let mut sink = |bytes: &[u8]| -> Result<ChunkId, Error> {
        assert!(bytes.len() <= MAX_NODE_LEN);
        let id = ChunkId(crypto::sha256(&[b"node", bytes]));
        nodes.insert(id, bytes.to_vec());
        Ok(id)
    };
    let mut builder = ListBuilder::new();
    for (id, raw_len) in chunks {
        builder.push(*id, *raw_len, &mut sink).unwrap();
    }
    let (size, chunk_count) = (builder.size(), builder.chunk_count());
    let content = builder.finish(inline_allowed, &mut sink).unwrap();
    SnapshotItem {
        size,
        chunk_count,
        content,
        ..sample().items[0].clone()
    }
}

/// Walks an item from byte `start` to its end; returns also the number of nodes that were read
/// before the first chunk.
fn walk(item: &SnapshotItem, nodes: &Nodes, start: u64) -> Result<(Vec<ListedChunk>, usize), Error> {
    let fetches = Cell::new(0);
    let mut fetch = |id: &ChunkId| {
        fetches.set(fetches.get() + 1);
        nodes.get(id).cloned().ok_or(Error::Damaged { reason: "no such node" })
    };
    let mut walker = ListWalker::new(item, start)?;
    let mut out: Vec<ListedChunk> = walker.next_chunk(&mut fetch)?.into_iter().collect();
    let descent = fetches.get();
    while let Some(chunk) = walker.next_chunk(&mut fetch)? {
        out.push(chunk);
    }
    assert_eq!(walker.next_chunk(&mut fetch)?, None);
    Ok((out, descent))
}

fn level(item: &SnapshotItem) -> u8 {
    match item.content {
        ItemContent::List { level, .. } => level,
        ItemContent::Inline(_) => 0,
    }
}

fn listed(chunks: &[(ChunkId, u32)]) -> Vec<ListedChunk> {
    let mut offset = 0;
    let chunk_at = |(id, raw_len): &(ChunkId, u32)| {
        let chunk = ListedChunk {
            id: *id,
            raw_len: *raw_len,
            offset,
        };
        offset += u64::from(*raw_len);
        chunk
    };
    chunks.iter().map(chunk_at).collect()
}

fn hex_id(byte: &str) -> String {
    byte.repeat(32)
}

#[test]
fn list_nodes_have_their_golden_bytes() {
    // a leaf ends after 128 entries at the earliest, and there only after an id with nine low zero
    // bits
    let mut chunks = vec![(ChunkId([0x33; 32]), 7u32); 150];
    for marked in [100, 127, 130] {
        chunks[marked] = (ChunkId([0; 32]), 0x0001_0203);
    }
    let mut order = Vec::new();
    let mut sink = |bytes: &[u8]| {
        order.push(to_hex(bytes));
        Ok::<_, Error>(ChunkId([0x40 + order.len() as u8; 32]))
    };
    let mut builder = ListBuilder::new();
    for (id, raw_len) in &chunks {
        builder.push(*id, *raw_len, &mut sink).unwrap();
    }
    let content = builder.finish(true, &mut sink).unwrap();
    assert_eq!(
        content,
        ItemContent::List {
            root: ChunkId([0x43; 32]),
            level: 1
        }
    );

    let plain = hex_id("33") + "07000000";
    let marked = hex_id("00") + "03020100";
    let first = "43414c4e01002400".to_string() + "8000000000000000" + &plain.repeat(100) + &marked + &plain.repeat(26);
    let second = "43414c4e01002400".to_string() + "1600000000000000" + &plain.repeat(2) + &marked + &plain.repeat(19);
    // 126 × 7 + 2 × 0x10203 = 0x20778; 21 × 7 + 0x10203 = 0x10296
    let root = "43414c4e01012c00".to_string()
        + "0200000000000000"
        + &(hex_id("41") + "7807020000000000" + "80000000")
        + &(hex_id("42") + "9602010000000000" + "16000000");
    assert_eq!(order, [first + &marked, second, root]);
}

#[test]
fn short_lists_stay_inline_if_they_may() {
    for (count, inline_allowed, inline) in [
        (0, true, true),
        (0, false, true),
        (1, true, true),
        (1, false, false),
        (32, true, true),
        (33, true, false),
        (33, false, false),
    ] {
        // ids each of which could end a node: the minimum prevents nodes in short lists
        let (chunks, mut nodes) = (chunks(1, count, 1), Nodes::new());
        let item = build(&chunks, inline_allowed, &mut nodes);
        assert_eq!(matches!(item.content, ItemContent::Inline(_)), inline, "{count}");
        assert_eq!(nodes.len(), usize::from(!inline));
        assert_eq!(walk(&item, &nodes, 0).unwrap().0, listed(&chunks));
    }
}

#[test]
fn nodes_end_at_their_smallest_and_largest_size() {
    for (every, leaf_len) in [(1, 128), (0, 2048)] {
        let mut chunks = chunks(2, 10_000, every);
        if every == 0 {
            chunks.iter_mut().for_each(|(id, _)| id.0[30] = 1);
        }
        let mut nodes = Nodes::new();
        let item = build(&chunks, true, &mut nodes);
        assert_eq!(walk(&item, &nodes, 0).unwrap().0, listed(&chunks));
        let mut leaf_lens: Vec<_> = nodes
            .values()
            .map(|bytes| decode_node(bytes, MAX_LEVEL).unwrap())
            .filter_map(|node| match node {
                Node::Leaf(entries) => Some(entries.len()),
                Node::Inner { .. } => None,
            })
            .collect();
        leaf_lens.sort_unstable();
        assert_eq!(*leaf_lens.last().unwrap(), leaf_len);
        assert_eq!(leaf_lens.len(), 10_000usize.div_ceil(leaf_len));
    }
}

#[test]
fn a_list_that_fills_its_nodes_has_no_empty_node() {
    for count in [128, 256, 128 * 64, 128 * 64 + 1, 128 * 64 * 2] {
        let (chunks, mut nodes) = (chunks(3, count, 1), Nodes::new());
        let item = build(&chunks, true, &mut nodes);
        assert_eq!(walk(&item, &nodes, 0).unwrap().0, listed(&chunks), "{count}");
    }
}

#[test]
fn one_more_chunk_makes_only_a_few_new_nodes() {
    let mut chunks = chunks(4, 100_000, 0);
    let mut nodes = Nodes::new();
    build(&chunks, true, &mut nodes);
    let before = nodes.len();
    assert!(before > 100);
    for at in [0, 1, 777, 50_000, 99_999, 100_000] {
        let mut changed = chunks.clone();
        changed.insert(at, (ChunkId([9; 32]), 5));
        let mut all = nodes.clone();
        build(&changed, true, &mut all);
        assert!(all.len() - before <= 6, "{} new nodes at {at}", all.len() - before);
    }
    chunks.remove(40_000);
    build(&chunks, true, &mut nodes);
    assert!(nodes.len() - before <= 6);
}

#[test]
fn a_walk_from_any_byte_reads_one_node_per_level_to_start() {
    let (chunks, mut nodes) = (chunks(5, 150_000, 1), Nodes::new());
    let item = build(&chunks, true, &mut nodes);
    assert!(level(&item) >= 2);
    let all = listed(&chunks);
    let interesting = [0, 1, 127, 128, 129, 8_192, 149_999];
    for at in interesting.into_iter().chain((0..150_000).step_by(8_733)) {
        let chunk = all[at];
        for start in [chunk.offset, chunk.offset + u64::from(chunk.raw_len) - 1] {
            let (tail, descent) = walk(&item, &nodes, start).unwrap();
            assert_eq!(tail, all[at..], "from {start}");
            assert!(descent <= usize::from(level(&item)) + 1);
        }
    }
    for start in [item.size, item.size + 1, u64::MAX] {
        assert_eq!(walk(&item, &nodes, start).unwrap(), (Vec::new(), 0));
    }
}

#[test]
fn a_walk_refuses_nodes_that_differ_from_their_parents() {
    let (chunks, mut nodes) = (chunks(6, 20_000, 2), Nodes::new());
    let item = build(&chunks, true, &mut nodes);
    let ItemContent::List { root, level } = item.content else {
        panic!("a list")
    };
    let content = |level| ItemContent::List { root, level };
    for wrong in [
        SnapshotItem {
            size: item.size + 1,
            ..item.clone()
        },
        SnapshotItem {
            chunk_count: item.chunk_count - 1,
            ..item.clone()
        },
        SnapshotItem {
            content: content(level - 1),
            ..item.clone()
        },
        SnapshotItem {
            content: content(level + 1),
            ..item.clone()
        },
        SnapshotItem {
            content: content(MAX_LEVEL + 1),
            ..item.clone()
        },
        SnapshotItem {
            content: ItemContent::Inline(chunks[..3].to_vec()),
            ..item.clone()
        },
    ] {
        assert!(
            matches!(walk(&wrong, &nodes, 0), Err(Error::Damaged { .. })),
            "{wrong:?}"
        );
    }
    // each other node under the id of one: wrong sums or a wrong level
    let Node::Inner { entries, .. } = decode_node(&nodes[&root], level).unwrap() else {
        panic!("an inner node")
    };
    for bytes in nodes.values().filter(|bytes| **bytes != nodes[&entries[1].id]).take(50) {
        let mut swapped = nodes.clone();
        swapped.insert(entries[1].id, bytes.clone());
        assert!(matches!(walk(&item, &swapped, 0), Err(Error::Damaged { .. })));
    }
}

#[test]
fn a_walk_continues_where_a_fetch_failed() {
    let (chunks, mut nodes) = (chunks(7, 3_000, 2), Nodes::new());
    let item = build(&chunks, true, &mut nodes);
    let mut walker = ListWalker::new(&item, 0).unwrap();
    let (mut out, mut calls) = (Vec::new(), 0);
    loop {
        let step = walker.next_chunk(&mut |id: &ChunkId| {
            calls += 1;
            if calls % 2 == 1 {
                Err(Error::Damaged { reason: "not now" })
            } else {
                Ok(nodes[id].clone())
            }
        });
        match step {
            Ok(Some(chunk)) => out.push(chunk),
            Ok(None) => break,
            Err(error) => assert_eq!(error, Error::Damaged { reason: "not now" }),
        }
    }
    assert_eq!(out, listed(&chunks));
}

#[test]
fn decode_refuses_nodes_with_wrong_headers_lengths_and_sums() {
    let mut nodes = Nodes::new();
    let item = build(&chunks(8, 300, 1), true, &mut nodes);
    let ItemContent::List { root, level: 1 } = item.content else {
        panic!("two levels")
    };
    let inner = nodes[&root].clone();
    let leaf = nodes.values().find(|bytes| bytes[5] == 0).unwrap().clone();
    assert!(decode_node(&inner, 1).is_ok() && decode_node(&leaf, 0).is_ok());
    assert!(decode_node(&inner, 0).is_err());
    for node in [&inner, &leaf] {
        for at in 0..16 {
            for flip in [1, 0x20, 0x80] {
                let mut flipped = node.clone();
                flipped[at] ^= flip;
                assert!(
                    decode_node(&flipped, MAX_LEVEL).is_err() || (at == 5 && node[5] == 1),
                    "byte {at}"
                );
            }
        }
        for cut in 0..node.len() {
            assert!(decode_node(&node[..cut], MAX_LEVEL).is_err());
        }
        assert!(decode_node(&[node.as_slice(), &[0]].concat(), MAX_LEVEL).is_err());
    }
    let with = |node: &[u8], at: usize, bytes: &[u8]| {
        let mut changed = node.to_vec();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        decode_node(&changed, MAX_LEVEL)
    };
    assert!(with(&leaf, 16 + 32, &[0; 4]).is_err());
    assert!(with(&leaf, 16 + 32, &[0, 0, 0, 1]).is_err());
    assert!(with(&leaf, 8, &u32::MAX.to_le_bytes()).is_err());
    assert!(with(&inner, 16 + 40, &[0; 4]).is_err());
    assert!(with(&inner, 16 + 40, &[0xff; 4]).is_err());
    assert!(with(&inner, 16 + 32, &[0xff; 8]).is_err());
    assert!(with(&inner, 16 + 32, &[0; 8]).is_err());
    assert_eq!(with(&leaf, 4, &[2]), Err(Error::UnsupportedVersion(2)));
}

#[test]
fn push_refuses_chunks_of_an_invalid_length() {
    let mut sink = |_: &[u8]| -> Result<ChunkId, Error> { panic!("no node") };
    for raw_len in [0, MAX_RAW_LEN + 1, u32::MAX] {
        let pushed = ListBuilder::new().push(ChunkId([0; 32]), raw_len, &mut sink);
        assert!(matches!(pushed, Err(Error::Invalid { .. })));
    }
    assert!(
        ListBuilder::new()
            .push(ChunkId([0; 32]), MAX_RAW_LEN, &mut sink)
            .is_ok()
    );
}

/// Checks that the manifest of a list of so many chunks is small and its tree flat. The nodes are
/// only counted.
fn is_small_with(count: u64, max_level: u8) {
    let entropy = SeededEntropy::new(count);
    let mut node_count = 0u64;
    let mut sink = |bytes: &[u8]| -> Result<ChunkId, Error> {
        node_count += 1;
        Ok(ChunkId(crypto::sha256(&[bytes])))
    };
    let mut builder = ListBuilder::new();
    for _ in 0..count {
        let mut id = [0; 32];
        entropy.fill(&mut id).unwrap();
        builder.push(ChunkId(id), 270_000, &mut sink).unwrap();
    }
    let (size, chunk_count) = (builder.size(), builder.chunk_count());
    let content = builder.finish(true, &mut sink).unwrap();
    let item = SnapshotItem {
        size,
        chunk_count,
        content,
        ..sample().items[0].clone()
    };
    assert!(level(&item) <= max_level, "level {}", level(&item));
    assert!(node_count < count / 300, "{node_count} nodes");
    let snapshot = Snapshot {
        items: vec![item],
        ..sample()
    };
    let repo = crate::id::RepoId([0; 16]);
    let bytes = manifest::encode(&snapshot, &ManifestSeal::Plain, &repo, &entropy).unwrap();
    assert!(bytes.len() < 64 << 10);
}

#[test]
fn four_million_chunks_make_a_small_manifest_and_a_flat_tree() {
    is_small_with(4_000_000, 3);
}

proptest! {
    #[test]
    fn any_list_round_trips_from_any_byte(
        seed in any::<u64>(),
        count in 0usize..6_000,
        every in 0u64..40,
        inline_allowed in any::<bool>(),
        start in 0.0..1.0f64,
    ) {
        let (chunks, mut nodes) = (chunks(seed, count, every), Nodes::new());
        let item = build(&chunks, inline_allowed, &mut nodes);
        let all = listed(&chunks);
        prop_assert_eq!(&walk(&item, &nodes, 0).unwrap().0, &all);
        let start = (item.size as f64 * start) as u64;
        let (tail, descent) = walk(&item, &nodes, start).unwrap();
        let first = all.partition_point(|chunk| chunk.offset + u64::from(chunk.raw_len) <= start);
        prop_assert_eq!(&tail[..], &all[first..]);
        prop_assert!(descent <= usize::from(level(&item)) + 1);
    }

    #[test]
    fn garbage_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..500), level in 0u8..9) {
        let _ = decode_node(&bytes, MAX_LEVEL);
        if bytes.len() >= 16 {
            let entry_len = if level == 0 { 36 } else { 44 };
            let count = (bytes.len() - 16) / entry_len;
            bytes.truncate(16 + count * entry_len);
            bytes[..8].copy_from_slice(&[b'C', b'A', b'L', b'N', 1, level, entry_len as u8, 0]);
            bytes[8..16].copy_from_slice(&(count as u64).to_le_bytes());
            if let Ok(node) = decode_node(&bytes, MAX_LEVEL) {
                prop_assert!(node.size() <= MAX_SIZE && node.chunk_count() <= u64::from(u32::MAX));
            }
        }
    }
}
