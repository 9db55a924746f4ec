//! Attacks on the segments of the global index.

use super::forge::{Segment, patch};
use super::{Bare, Case, Scene, Sealed, case, many};
use containerarchive::id::{ChunkId, PackId, SegmentId};
use containerarchive::layout;
use std::collections::BTreeMap;

/// The cases of this group.
pub(super) const CASES: &[Case] = &[
    case(Bare, "index: counts near 2^64", "", |at| {
        for (number, offset) in (1u8..).zip([16usize, 24, 32, 40, 48, 56, 64, 72, 80]) {
            let mut segment = Segment::new(number, at.repo_id());
            segment.footer_patch = vec![(offset, u64::MAX.to_le_bytes().to_vec())];
            at.write(&segment.key(), segment.bytes());
        }
    }),
    case(Bare, "index: 1 GB of zeros in place of a segment", "", |at| {
        at.sparse(&at.first(layout::INDEX, ".seg"), 1 << 30);
    }),
    case(
        Bare,
        "index: locations after the end of a pack",
        "restore=ERR_CHUNK_MISSING files=ERR_CHUNK_MISSING verify=ERR_CHUNK_MISSING+ERR_INDEX_CORRUPT prune=ERR_CHUNK_MISSING",
        |at| {
            let chunk = first_chunk(at);
            at.without_index();
            let locate = |segment: Segment| segment.entry(&chunk.id, 0, u32::MAX, 0xff_ffff, chunk.raw_len, [0, 0]);
            replace_index(at, &[chunk.pack], locate);
        },
    ),
    case(
        Bare,
        "index: locations in a missing pack",
        "restore=ERR_CHUNK_MISSING files=ERR_CHUNK_MISSING verify=ERR_CHUNK_MISSING+ERR_INDEX_CORRUPT prune=ERR_CHUNK_MISSING",
        |at| {
            let chunk = first_chunk(at);
            at.without_index();
            let locate = |segment: Segment| segment.entry(&chunk.id, 0, 96, 10, chunk.raw_len, [0, 0]);
            replace_index(at, &[PackId([1; 32])], locate);
        },
    ),
    case(Bare, "index: locations with an invalid pack ordinal", "", |at| {
        let chunk = first_chunk(at);
        let segment = Segment::new(1, at.repo_id()).entry(&chunk.id, u32::MAX, 96, 10, 10, [0, 0]);
        at.write(&segment.key(), segment.bytes());
    }),
    case(
        Bare,
        "index: a chunk with the location of another",
        "restore=ERR_CHUNK_MISSING files=ERR_CHUNK_MISSING verify=ERR_CHUNK_MISSING+ERR_INDEX_CORRUPT prune=ERR_CHUNK_MISSING",
        |at| {
            let chunk = first_chunk(at);
            at.without_index();
            let locate = |segment: Segment| segment.entry(&chunk.id, 0, 97, chunk.payload_len, chunk.raw_len, [0, 0]);
            replace_index(at, &[chunk.pack], locate);
        },
    ),
    case(Bare, "index: unknown codecs and types", "", |at| {
        let chunk = first_chunk(at);
        for (number, codes) in (1u8..).zip([[9, 0], [0, 9], [255, 255]]) {
            let mut segment = Segment::new(number, at.repo_id()).entry(&chunk.id, 0, 96, 10, 10, codes);
            segment.packs = vec![(chunk.pack, 1000)];
            at.write(&segment.key(), segment.bytes());
        }
    }),
    case(
        Bare,
        "index: a filter that admits nothing",
        "restore=ERR_CHUNK_MISSING files=ERR_CHUNK_MISSING verify=ERR_INDEX_CORRUPT",
        |at| {
            let chunk = first_chunk(at);
            at.without_index();
            let locate = |mut segment: Segment| {
                segment.filter = 0;
                segment.entry(&chunk.id, 0, 96, chunk.payload_len, chunk.raw_len, [0, 0])
            };
            replace_index(at, &[chunk.pack], locate);
        },
    ),
    case(Bare, "index: entries that are out of order", "", |at| {
        let mut segment = Segment::new(1, at.repo_id());
        for byte in [9, 5, 7] {
            segment = segment.entry(&ChunkId([byte; 32]), 0, 96, 10, 10, [0, 0]);
        }
        segment.packs = vec![(first_chunk(at).pack, 1000)];
        at.write(&segment.key(), segment.bytes());
    }),
    case(Bare, "index: a segment that supersedes all others", "", |at| {
        let mut segment = Segment::new(1, at.repo_id());
        segment.superseded = segments(at);
        at.write(&segment.key(), segment.bytes());
    }),
    case(
        Bare,
        "index: two segments that supersede each other, and everything",
        "",
        |at| {
            for (own, other) in [(1, 2), (2, 1)] {
                let mut segment = Segment::new(own, at.repo_id());
                segment.superseded = segments(at);
                segment.superseded.push(SegmentId([other; 16]));
                at.write(&segment.key(), segment.bytes());
            }
        },
    ),
    case(Bare, "index: a segment that supersedes itself", "", |at| {
        let mut segment = Segment::new(1, at.repo_id());
        segment.superseded = vec![segment.id];
        at.write(&segment.key(), segment.bytes());
    }),
    case(Bare, "index: 100,000 superseded segments", "", |at| {
        let mut segment = Segment::new(1, at.repo_id());
        segment.superseded = (0..100_000u128).map(|n| SegmentId(n.to_be_bytes())).collect();
        at.write(&segment.key(), segment.bytes());
    }),
    case(Bare, "index: many empty segments", "", |at| {
        for number in 0..many(2000) as u128 {
            let mut segment = Segment::new(1, at.repo_id());
            segment.id = SegmentId((number << 64 | 1).to_be_bytes());
            at.write(&segment.key(), segment.bytes());
        }
    }),
    case(
        Bare,
        "index: of another repository, of a future version, sealed",
        "",
        |at| {
            for (number, offset, with) in [
                (1u8, 16usize, vec![0x99; 16]),
                (2, 8, vec![2]),
                (3, 12, vec![1]),
                (4, 12, vec![0xff]),
            ] {
                let mut segment = Segment::new(number, at.repo_id());
                segment.header_patch = vec![(offset, with)];
                at.write(&segment.key(), segment.bytes());
            }
        },
    ),
    case(Bare, "index: a segment with the file name of another", "", |at| {
        let bytes = at.read(&at.first(layout::INDEX, ".seg"));
        at.write(&layout::segment(&SegmentId([3; 16])), bytes);
    }),
    case(Sealed, "index: pages of one segment in another", "", |at| {
        let keys = at.keys(layout::INDEX, ".seg");
        let (mut one, other) = (at.read(&keys[0]), at.read(keys.last().unwrap()));
        one[4096..8192].copy_from_slice(&other[4096..8192]);
        at.write(&keys[0], one);
    }),
];

/// A chunk of a known snapshot and its location.
struct Known {
    id: ChunkId,
    pack: PackId,
    payload_len: u32,
    raw_len: u32,
}

/// Returns the first chunk of the first data pack.
fn first_chunk(at: &Scene) -> Known {
    for key in at.keys(layout::DATA, ".idx") {
        let bytes = at.known.files[&key].clone();
        let meta = bytes[56 + 12] & 2 != 0;
        let entry = &bytes[152..200];
        if !meta {
            let u24 = |at: usize| u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], 0]);
            return Known {
                id: ChunkId(entry[..32].try_into().unwrap()),
                pack: PackId(bytes[16..48].try_into().unwrap()),
                payload_len: u24(40),
                raw_len: u24(43),
            };
        }
    }
    panic!("there is no data pack");
}

fn segments(at: &Scene) -> Vec<SegmentId> {
    at.keys(layout::INDEX, ".seg")
        .iter()
        .filter_map(|key| layout::id_of(key, ".seg").map(SegmentId))
        .collect()
}

/// Writes one segment that names all packs with their lengths, and the packs of `first`, with only
/// the entries that `fill` adds.
fn replace_index(at: &Scene, first: &[PackId], fill: impl Fn(Segment) -> Segment) {
    let mut packs: BTreeMap<PackId, u64> = BTreeMap::new();
    for key in at.keys(layout::DATA, ".pack") {
        let id = PackId(layout::id_of(&key, ".pack").unwrap());
        packs.insert(id, at.known.files[&key].len() as u64);
    }
    for pack in first {
        packs.entry(*pack).or_insert(1000);
    }
    let mut segment = fill(Segment::new(1, at.repo_id()));
    segment.packs = packs.into_iter().collect();
    let ordinal = segment.packs.iter().position(|(pack, _)| *pack == first[0]).unwrap() as u32;
    segment
        .entries
        .iter_mut()
        .for_each(|entry| patch(entry, 32, &ordinal.to_le_bytes()));
    at.write(&segment.key(), segment.bytes());
}
