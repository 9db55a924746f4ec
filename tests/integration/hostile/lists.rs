//! Attacks on list nodes.

use super::forge::{Manifest, Stored, inner_entry, leaf_entry, node, patch};
use super::scene::planted;
use super::{Bare, Case, Scene, case};
use containerarchive::id::ChunkId;
use containerarchive::layout;

/// The cases of this group.
pub(super) const CASES: &[Case] = &[
    case(
        Bare,
        "lists: 2^31 chunks in three nodes, all of them missing",
        "restore=ERR_CHUNK_MISSING verify=ERR_CHUNK_MISSING prune=ERR_CHUNK_MISSING after=ERR_CHUNK_MISSING last=sweep:ERR_CHUNK_MISSING",
        |at| {
            list_bomb(at, &[(ChunkId([8; 32]), 1)]);
        },
    ),
    case(
        Bare,
        "lists: 2^31 chunks in three nodes, every second one missing",
        "restore=ERR_CHUNK_MISSING verify=ERR_CHUNK_MISSING prune=ERR_CHUNK_MISSING after=ERR_CHUNK_MISSING last=sweep:ERR_CHUNK_MISSING",
        |at| {
            let there = Stored::data(b"x");
            let missing = (ChunkId([8; 32]), 1);
            planted(at, std::slice::from_ref(&there), |_| ());
            list_bomb(at, &[(there.id, 1), missing]);
        },
    ),
    case(
        Bare,
        "lists: 2^31 chunks in three nodes, all of them present",
        "restore=ABORT_ERR after=ABORT_ERR",
        |at| {
            let there = Stored::data(b"x");
            planted(at, std::slice::from_ref(&there), |_| ());
            list_bomb(at, &[(there.id, 1)]);
        },
    ),
    case(
        Bare,
        "lists: a node of level 255",
        "restore=ERR_MANIFEST_CORRUPT verify=ERR_MANIFEST_CORRUPT prune=ERR_MANIFEST_CORRUPT after=ERR_MANIFEST_CORRUPT last=sweep:ERR_MANIFEST_CORRUPT",
        |at| {
            let top = node(255, &[inner_entry(&ChunkId([1; 32]), 1, 1)]);
            rooted(at, &top, 1, 1, 7);
        },
    ),
    case(
        Bare,
        "lists: counts and sums near the end of their types",
        "restore=ERR_MANIFEST_CORRUPT verify=ERR_MANIFEST_CORRUPT prune=ERR_MANIFEST_CORRUPT after=ERR_MANIFEST_CORRUPT last=sweep:ERR_MANIFEST_CORRUPT",
        |at| {
            let top = node(
                1,
                &[
                    inner_entry(&ChunkId([1; 32]), u64::MAX, u32::MAX),
                    inner_entry(&ChunkId([2; 32]), u64::MAX, u32::MAX),
                ],
            );
            rooted(at, &top, 1 << 52, u64::from(u32::MAX), 1);
            let mut counted = node(0, &[leaf_entry(&ChunkId([1; 32]), 1)]);
            patch(&mut counted, 8, &u32::MAX.to_le_bytes());
            rooted(at, &counted, 1, 1, 0);
        },
    ),
    case(
        Bare,
        "lists: entries of the wrong size",
        "restore=ERR_MANIFEST_CORRUPT verify=ERR_MANIFEST_CORRUPT prune=ERR_MANIFEST_CORRUPT after=ERR_MANIFEST_CORRUPT last=sweep:ERR_MANIFEST_CORRUPT",
        |at| {
            let mut wrong = node(0, &[leaf_entry(&ChunkId([1; 32]), 1)]);
            patch(&mut wrong, 6, &u16::MAX.to_le_bytes());
            rooted(at, &wrong, 1, 1, 0);
        },
    ),
    case(
        Bare,
        "lists: a node with another level than in its parent",
        "restore=ERR_MANIFEST_CORRUPT verify=ERR_MANIFEST_CORRUPT prune=ERR_CHUNK_MISSING after=ERR_MANIFEST_CORRUPT last=sweep:ERR_CHUNK_MISSING",
        |at| {
            let leaf = node(0, &[leaf_entry(&ChunkId([1; 32]), 1)]);
            let below = Stored::node(&leaf);
            let top = node(3, &[inner_entry(&below.id, 1, 1)]);
            planted(at, &[below], |_| ());
            rooted(at, &top, 1, 1, 3);
        },
    ),
    case(
        Bare,
        "lists: a data chunk in place of a node",
        "restore=ERR_CHUNK_CORRUPT verify=ERR_CHUNK_CORRUPT+ERR_CHUNK_MISSING prune=ERR_CHUNK_CORRUPT after=ERR_CHUNK_CORRUPT last=sweep:ERR_CHUNK_CORRUPT",
        |at| {
            let chunk = Stored::data(&node(0, &[leaf_entry(&ChunkId([1; 32]), 1)]));
            let root = chunk.id;
            planted(at, &[chunk], |_| ());
            at.put_manifest(&Manifest::list(0xf1, 1, 1, &root, 0));
        },
    ),
    case(
        Bare,
        "lists: a node with other sums than in the manifest",
        "restore=ERR_MANIFEST_CORRUPT verify=ERR_MANIFEST_CORRUPT after=ERR_MANIFEST_CORRUPT",
        |at| {
            let there = Stored::data(b"x");
            planted(at, std::slice::from_ref(&there), |_| ());
            rooted(at, &node(0, &[leaf_entry(&there.id, 1)]), 1 << 50, 1 << 20, 0);
        },
    ),
    case(
        Bare,
        "lists: chunks with wrong lengths",
        "restore=ERR_MANIFEST_CORRUPT verify=ERR_MANIFEST_CORRUPT after=ERR_MANIFEST_CORRUPT",
        |at| {
            let there = Stored::data(b"twelve bytes");
            planted(at, std::slice::from_ref(&there), |_| ());
            rooted(at, &node(0, &[leaf_entry(&there.id, 0xff_ffff)]), 0xff_ffff, 1, 0);
        },
    ),
];

/// Writes a node, and a snapshot with it as its root.
fn rooted(at: &Scene, top: &[u8], size: u64, chunks: u64, level: u8) {
    let stored = Stored::node(top);
    let root = stored.id;
    planted(at, &[stored], |_| ());
    let number = 0x80 + std::fs::read_dir(at.path(layout::SNAPSHOTS)).unwrap().count() as u8;
    at.put_manifest(&Manifest::list(number, size, chunks, &root, level));
}

/// A leaf of 2048 entries, referenced 1024 times by a node that is referenced 1024 times by another
/// node.
fn list_bomb(at: &Scene, chunks: &[(ChunkId, u32)]) {
    let entries: Vec<Vec<u8>> = chunks
        .iter()
        .cycle()
        .take(2048)
        .map(|(id, len)| leaf_entry(id, *len))
        .collect();
    let leaf = Stored::node(&node(0, &entries));
    let middle = Stored::node(&node(1, &vec![inner_entry(&leaf.id, 2048, 2048); 1024]));
    let below = 2048u64 << 10;
    let top = Stored::node(&node(2, &vec![inner_entry(&middle.id, below, below as u32); 1024]));
    let root = top.id;
    planted(at, &[leaf, middle, top], |_| ());
    at.put_manifest(&Manifest::list(0xf1, below << 10, below << 10, &root, 2));
}
