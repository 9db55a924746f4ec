//! Attacks on packs and pack indexes.

use super::forge::{Stored, id_of, pack, patch, two, zstd};
use super::scene::planted;
use super::{Bare, Case, Plain, Scene, Sealed, case, many};
use containerarchive::id::PackId;
use containerarchive::layout;
use std::io::Write;

/// The cases of this group.
pub(super) const CASES: &[Case] = &[
    case(
        Bare,
        "packs: a gzip bomb",
        "restore=ERR_CHUNK_CORRUPT verify=ERR_CHUNK_CORRUPT after=ERR_CHUNK_CORRUPT",
        |at| {
            let bomb = Stored::encoded([1; 32], gzip(&vec![0; 64 << 20]), 1000, 1);
            planted(at, &[bomb], |_| ());
        },
    ),
    case(
        Bare,
        "packs: a zstd bomb",
        "restore=ERR_CHUNK_CORRUPT verify=ERR_CHUNK_CORRUPT after=ERR_CHUNK_CORRUPT",
        |at| {
            let bomb = Stored::encoded([1; 32], zstd(&vec![0; 64 << 20]), 1000, 2);
            planted(at, &[bomb], |_| ());
        },
    ),
    case(
        Bare,
        "packs: a zstd frame with a window of 2 GiB",
        "restore=ERR_CHUNK_CORRUPT verify=ERR_CHUNK_CORRUPT after=ERR_CHUNK_CORRUPT",
        |at| {
            planted(at, &[Stored::encoded([1; 32], zstd_window(31), 1000, 2)], |_| ());
        },
    ),
    case(
        Bare,
        "packs: a zstd frame without a content size",
        "restore=ERR_CHUNK_CORRUPT verify=ERR_CHUNK_CORRUPT after=ERR_CHUNK_CORRUPT",
        |at| {
            let mut frame = zstd_window(10);
            // many RLE blocks of 128 KiB of zeros
            for _ in 0..1000 {
                frame.extend([0x02, 0x00, 0x10, 0]);
            }
            frame.extend([0x03, 0x00, 0x10, 0]);
            planted(at, &[Stored::encoded([1; 32], frame, 1000, 2)], |_| ());
        },
    ),
    case(
        Bare,
        "packs: bytes after a frame",
        "restore=ERR_CHUNK_CORRUPT verify=ERR_CHUNK_CORRUPT after=ERR_CHUNK_CORRUPT",
        |at| {
            let data = vec![b'x'; 5000];
            let id = containerarchive::crypto::sha256(&[&data]);
            let gz = Stored::encoded(id, [gzip(&data), gzip(&data)].concat(), 5000, 1);
            let zst = Stored::encoded(id, [zstd(&data), vec![0; 9]].concat(), 5000, 2);
            planted(at, &[gz], |_| ());
            planted(at, &[zst], |_| ());
        },
    ),
    case(
        Bare,
        "packs: chunks of 16 MiB each in a few bytes",
        "restore=ERR_CHUNK_CORRUPT verify=ERR_CHUNK_CORRUPT after=ERR_CHUNK_CORRUPT",
        |at| {
            let frame = zstd(&vec![0; (16 << 20) - 1]);
            let bombs: Vec<Stored> = (0..many(60) as u8)
                .map(|n| Stored::encoded([n; 32], frame.clone(), (16 << 20) - 1, 2))
                .collect();
            planted(at, &bombs, |_| ());
        },
    ),
    case(
        Bare,
        "packs: an unknown codec and an unknown type",
        "restore=ERR_CHUNK_MISSING verify=ERR_CHUNK_CORRUPT+ERR_CHUNK_MISSING prune=ERR_CHUNK_MISSING after=ERR_CHUNK_MISSING last=sweep:ERR_CHUNK_MISSING",
        |at| {
            let mut chunk = Stored::data(b"something");
            chunk.codec = 250;
            planted(at, &[chunk.clone()], |_| ());
            chunk.codec = 0;
            chunk.kind = 250;
            planted(at, &[chunk], |_| ());
        },
    ),
    case(
        Bare,
        "packs: 65,535 chunks of one byte",
        "restore=ERR_CHUNK_CORRUPT verify=ERR_CHUNK_CORRUPT after=ERR_CHUNK_CORRUPT",
        |at| {
            let chunks: Vec<Stored> = (0..65_535u32)
                .map(|n| Stored::encoded(id_of(n), vec![b'x'], 1, 0))
                .collect();
            planted(at, &chunks, |_| ());
        },
    ),
    case(
        Bare,
        "packs: more entries than a pack may have",
        "restore=ERR_CHUNK_MISSING verify=ERR_CHUNK_MISSING+ERR_PACK_INDEX_CORRUPT prune=ERR_CHUNK_MISSING after=ERR_CHUNK_MISSING last=sweep:ERR_CHUNK_MISSING",
        |at| {
            let chunks: Vec<Stored> = (0..70_000u32)
                .map(|n| Stored::encoded(id_of(n), vec![b'x'], 1, 0))
                .collect();
            planted(at, &chunks, |_| ());
        },
    ),
    case(Bare, "packs: no entry at all", "", |at| {
        planted(at, &[], |_| ());
    }),
    case(
        Bare,
        "packs: chunks that overlap",
        "restore=ERR_CHUNK_MISSING verify=ERR_CHUNK_MISSING+ERR_PACK_INDEX_CORRUPT prune=ERR_CHUNK_MISSING after=ERR_CHUNK_MISSING last=sweep:ERR_CHUNK_MISSING",
        |at| {
            planted(at, &two(), |parts| {
                patch(&mut parts.entries[1], 36, &96u32.to_le_bytes())
            });
        },
    ),
    case(
        Bare,
        "packs: a chunk that ends after 4 GiB",
        "restore=ERR_CHUNK_MISSING verify=ERR_CHUNK_MISSING+ERR_PACK_INDEX_CORRUPT prune=ERR_CHUNK_MISSING after=ERR_CHUNK_MISSING last=sweep:ERR_CHUNK_MISSING",
        |at| {
            planted(at, &two(), |parts| {
                patch(&mut parts.entries[1], 36, &u32::MAX.to_le_bytes());
                patch(&mut parts.entries[1], 40, &[0xff; 3]);
            });
        },
    ),
    case(
        Bare,
        "packs: a chunk with the largest possible length",
        "restore=ERR_CHUNK_MISSING verify=ERR_CHUNK_MISSING+ERR_PACK_INDEX_CORRUPT prune=ERR_CHUNK_MISSING after=ERR_CHUNK_MISSING last=sweep:ERR_CHUNK_MISSING",
        |at| {
            planted(at, &two(), |parts| patch(&mut parts.entries[1], 40, &[0xff; 6]));
        },
    ),
    case(
        Bare,
        "packs: chunks of no bytes",
        "restore=ERR_CHUNK_MISSING verify=ERR_CHUNK_MISSING+ERR_PACK_INDEX_CORRUPT prune=ERR_CHUNK_MISSING after=ERR_CHUNK_MISSING last=sweep:ERR_CHUNK_MISSING",
        |at| {
            planted(at, &two(), |parts| patch(&mut parts.entries[0], 40, &[0; 6]));
        },
    ),
    case(
        Bare,
        "packs: entries that are out of order",
        "restore=ERR_CHUNK_MISSING verify=ERR_CHUNK_MISSING+ERR_PACK_INDEX_CORRUPT prune=ERR_CHUNK_MISSING after=ERR_CHUNK_MISSING last=sweep:ERR_CHUNK_MISSING",
        |at| {
            planted(at, &two(), |parts| parts.entries.swap(0, 1));
        },
    ),
    case(Bare, "packs: the same chunk 1,000 times", "", |at| {
        planted(at, &vec![Stored::data(b"again"); 1000], |_| ());
    }),
    case(
        Bare,
        "packs: a trailer that begins after the end",
        "restore=ERR_CHUNK_MISSING verify=ERR_CHUNK_MISSING+ERR_PACK_INDEX_CORRUPT prune=ERR_CHUNK_MISSING after=ERR_CHUNK_MISSING last=sweep:ERR_CHUNK_MISSING",
        |at| {
            planted(at, &two(), |parts| parts.trailer_offset = Some(u32::MAX));
            planted(at, &two(), |parts| parts.trailer_len = Some(u32::MAX));
        },
    ),
    case(
        Bare,
        "packs: a trailer that begins before the header ends",
        "restore=ERR_CHUNK_MISSING verify=ERR_CHUNK_MISSING+ERR_PACK_INDEX_CORRUPT prune=ERR_CHUNK_MISSING after=ERR_CHUNK_MISSING last=sweep:ERR_CHUNK_MISSING",
        |at| {
            planted(at, &two(), |parts| parts.trailer_offset = Some(0));
        },
    ),
    case(
        Bare,
        "packs: an .idx with a pack length of 2^63",
        "verify=ERR_PACK_INDEX_CORRUPT",
        |at| {
            planted(at, &two(), |parts| parts.index_pack_len = Some(1 << 63));
        },
    ),
    case(
        Bare,
        "packs: an .idx of another pack",
        "verify=ERR_PACK_INDEX_CORRUPT",
        |at| {
            planted(at, &two(), |parts| parts.index_pack = Some(PackId([9; 32])));
        },
    ),
    case(
        Bare,
        "packs: sealed, in a plain repository",
        "restore=ERR_CHUNK_MISSING verify=ERR_CHUNK_MISSING+ERR_PACK_INDEX_CORRUPT prune=ERR_CHUNK_MISSING after=ERR_CHUNK_MISSING last=sweep:ERR_CHUNK_MISSING",
        |at| {
            planted(at, &two(), |parts| {
                patch(&mut parts.header, 12, &1u32.to_le_bytes());
                patch(&mut parts.header, 64, &7u32.to_le_bytes());
            });
        },
    ),
    case(
        Bare,
        "packs: of another repository",
        "restore=ERR_CHUNK_MISSING verify=ERR_CHUNK_MISSING prune=ERR_CHUNK_MISSING after=ERR_CHUNK_MISSING last=sweep:ERR_CHUNK_MISSING",
        |at| {
            planted(at, &two(), |parts| patch(&mut parts.header, 16, &[0x99; 16]));
        },
    ),
    case(
        Bare,
        "packs: future versions",
        "restore=ERR_CHUNK_MISSING verify=ERR_CHUNK_MISSING+ERR_PACK_INDEX_CORRUPT prune=ERR_CHUNK_MISSING after=ERR_CHUNK_MISSING last=sweep:ERR_CHUNK_MISSING",
        |at| {
            planted(at, &two(), |parts| patch(&mut parts.header, 8, &2u32.to_le_bytes()));
        },
    ),
    case(
        Bare,
        "packs: 5 GB of zeros with the name of a pack",
        "verify=ERR_PACK_CORRUPT+ERR_PACK_INDEX_CORRUPT",
        |at| {
            at.sparse(&layout::pack(&PackId([5; 32])), 5 << 30);
        },
    ),
    case(
        Bare,
        "packs: 1 GB of zeros in place of one",
        "restore=ERR_CHUNK_CORRUPT files=ERR_CHUNK_CORRUPT verify=ERR_CHUNK_CORRUPT+ERR_PACK_CORRUPT prune=ERR_CHUNK_CORRUPT after=ERR_CHUNK_MISSING last=sweep:ERR_CHUNK_MISSING",
        |at| {
            at.sparse(&at.first(layout::DATA, ".pack"), 1 << 30);
        },
    ),
    case(Plain, "packs: 1 GB of zeros in place of one with parity", "", |at| {
        at.sparse(&at.first(layout::DATA, ".pack"), 1 << 30);
    }),
    case(
        Bare,
        "packs: 600 MB of zeros in a valid pack",
        "verify=ERR_CHUNK_CORRUPT+ERR_PACK_CORRUPT",
        pack_of_zeros,
    ),
    case(
        Plain,
        "packs: 600 MB of zeros in a valid pack that needs parity",
        "verify=ERR_CHUNK_CORRUPT+ERR_PACK_CORRUPT",
        pack_of_zeros,
    ),
    case(
        Bare,
        "packs: 1 GB of zeros in place of an .idx",
        "verify=ERR_PACK_INDEX_CORRUPT",
        |at| {
            at.sparse(&at.first(layout::DATA, ".idx"), 1 << 30);
        },
    ),
    case(
        Bare,
        "packs: an intact one with the file name of another",
        "restore=ERR_PACK_CORRUPT files=ERR_PACK_CORRUPT verify=ERR_CHUNK_CORRUPT+ERR_PACK_CORRUPT prune=ERR_PACK_CORRUPT after=ERR_CHUNK_MISSING last=sweep:ERR_CHUNK_MISSING",
        |at| {
            at.under_another_name(layout::DATA, ".pack");
        },
    ),
    case(
        Sealed,
        "packs: a chunk in place of another",
        "restore=ERR_CHUNK_CORRUPT files=ERR_CHUNK_CORRUPT verify=ERR_CHUNK_CORRUPT+ERR_PACK_CORRUPT prune=ERR_CHUNK_CORRUPT after=ERR_CHUNK_MISSING last=sweep:ERR_CHUNK_MISSING",
        swap_chunks,
    ),
    case(
        Plain,
        "packs: a chunk in place of another, unencrypted",
        "restore=ERR_CHUNK_CORRUPT files=ERR_CHUNK_CORRUPT verify=ERR_CHUNK_CORRUPT+ERR_PACK_CORRUPT prune=ERR_CHUNK_CORRUPT after=ERR_CHUNK_MISSING last=sweep:ERR_CHUNK_MISSING",
        swap_chunks,
    ),
    case(
        Sealed,
        "packs: every .idx swapped with the next",
        "verify=ERR_PACK_INDEX_CORRUPT",
        |at| {
            let keys = at.keys(layout::DATA, ".idx");
            for (key, other) in keys.iter().zip(keys.iter().cycle().skip(1)) {
                at.write(key, &at.known.files[other]);
            }
        },
    ),
];

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// The start of a zstd frame without a content size, with a window of 2^log bytes.
fn zstd_window(log: u8) -> Vec<u8> {
    vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, (log - 10) << 3]
}

/// Writes a pack whose chunks are `len` zeros each, as a sparse file.
fn sparse_pack(at: &Scene, stored: &[Stored], len: u32) {
    use sha2::{Digest, Sha256};
    let forged = pack(at.repo_id(), [0xf0; 16], stored, |parts| {
        for (number, entry) in (0u32..).zip(&mut parts.entries) {
            patch(entry, 36, &(96 + number * len).to_le_bytes());
            patch(entry, 40, &len.to_le_bytes()[..3]);
        }
    });
    let body = stored.len() as u64 * u64::from(len);
    let header = forged.pack[..96].to_vec();
    // the body hash is part of the trailer's tag, so both are recomputed
    let mut hash = Sha256::new();
    hash.update(&header);
    let zeros = vec![0; 1 << 20];
    let mut left = body;
    while left > 0 {
        let piece = left.min(zeros.len() as u64);
        hash.update(&zeros[..piece as usize]);
        left -= piece;
    }
    let body_hash: [u8; 32] = hash.clone().finalize().into();
    let entries = forged.pack[96..forged.pack.len() - 64 - 16].to_vec();
    let tag = containerarchive::crypto::tag16("containerarchive/trailer/v1", &[&body_hash, &entries]);
    let trailer = [&entries[..], &tag].concat();
    let mut footer = b"CAPEND01".to_vec();
    footer.extend((96 + body as u32).to_le_bytes());
    footer.extend((trailer.len() as u32).to_le_bytes());
    footer.extend(body_hash);
    footer.extend([0; 8]);
    let check = containerarchive::crypto::check8(&footer);
    footer.extend(check);
    hash.update(&trailer);
    hash.update(&footer);
    let id = PackId(hash.finalize().into());
    let key = layout::pack(&id);
    at.write(&key, &header);
    let mut file = std::fs::OpenOptions::new().write(true).open(at.path(&key)).unwrap();
    file.set_len(96 + body).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::End(0)).unwrap();
    file.write_all(&trailer).unwrap();
    file.write_all(&footer).unwrap();
    at.without_index();
}

/// Swaps two stored chunks of equal length. The checksums of the pack are then wrong, but its hash
/// is not checked when a chunk is read.
fn swap_chunks(at: &Scene) {
    for key in at.keys(layout::DATA, ".pack") {
        let mut bytes = at.read(&key);
        // the first two chunks are adjacent after the header
        let (one, two) = (96..96 + 300, 96 + 400..96 + 700);
        if bytes.len() > 2000 {
            let kept = bytes[one.clone()].to_vec();
            bytes.copy_within(two.clone(), one.start);
            bytes[two].copy_from_slice(&kept);
            at.write(&key, bytes);
        }
    }
}

/// Writes a pack of 600 MB of zeros, all of which belong to chunks.
fn pack_of_zeros(at: &Scene) {
    let chunks: Vec<Stored> = (0..36u32)
        .map(|n| Stored::encoded(id_of(n), Vec::new(), 1, 0))
        .collect();
    sparse_pack(at, &chunks, 0xff_ffff);
}
