//! A decoder written from the specification alone, and the property that it restores what the code
//! protects.

use super::*;
use proptest::prelude::*;

/// Product in GF(2^8) modulo 0x11D, by shift and XOR.
fn times(mut a: u16, mut b: u16) -> u16 {
    let mut product = 0;
    while b > 0 {
        if b % 2 == 1 {
            product ^= a;
        }
        a *= 2;
        if a > 255 {
            a ^= 0x11d;
        }
        b /= 2;
    }
    product
}

fn divide(a: u16, b: u16) -> u16 {
    (0..256).find(|quotient| times(*quotient, b) == a).unwrap()
}

/// g(i, j) = c(i, j) / c(0, j), c(i, j) = 1 / (i XOR (32 + j)).
fn g(shard: u16, slot: u16) -> u16 {
    divide(divide(1, shard ^ (32 + slot)), divide(1, 32 + slot))
}

/// Solves `matrix × x = right` for byte strings, by Gaussian elimination.
fn eliminate(mut matrix: Vec<Vec<u16>>, mut right: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    let size = matrix.len();
    for column in 0..size {
        let pivot = (column..size).find(|row| matrix[*row][column] != 0).unwrap();
        matrix.swap(column, pivot);
        right.swap(column, pivot);
        let (pivot_row, pivot_right) = (matrix[column].clone(), right[column].clone());
        for row in (0..size).filter(|row| *row != column) {
            let factor = divide(matrix[row][column], pivot_row[column]);
            for (value, pivot) in matrix[row].iter_mut().zip(&pivot_row) {
                *value ^= times(factor, *pivot);
            }
            for (byte, pivot) in right[row].iter_mut().zip(&pivot_right) {
                *byte ^= times(factor, u16::from(*pivot)) as u8;
            }
        }
    }
    for row in 0..size {
        let pivot = matrix[row][row];
        right[row]
            .iter_mut()
            .for_each(|byte| *byte = divide(u16::from(*byte), pivot) as u8);
    }
    right
}

struct Decoded {
    slots: Vec<u16>,
    lens: Vec<usize>,
    ids: Vec<[u8; 32]>,
    sums: Vec<Vec<u64>>,
    shard_sums: Vec<Vec<u64>>,
}

fn number(bytes: &[u8], at: usize, len: usize) -> usize {
    (0..len)
        .rev()
        .fold(0, |sum, byte| sum << 8 | usize::from(bytes[at + byte]))
}

/// Decodes a record by the offsets of the specification alone.
fn decode(record: &[u8]) -> Decoded {
    assert_eq!(&record[..8], b"CAGRP001");
    let (stripe, m) = (number(record, 48, 8), number(record, 57, 1));
    let (n, s) = (number(record, 60, 4), number(record, 64, 4));
    let mut at = 80 + 16 * s;
    let member = |index: usize| &record[at + 64 * index..][..64];
    let slots = (0..n).map(|index| number(member(index), 0, 2) as u16).collect();
    let lens: Vec<usize> = (0..n).map(|index| number(member(index), 40, 8)).collect();
    let ids = (0..n).map(|index| member(index)[8..40].try_into().unwrap()).collect();
    at += 64 * n;
    let mut take = |rows: usize| {
        let sums = (0..rows).map(|row| number(record, at + 8 * row, 8) as u64).collect();
        at += 8 * rows;
        sums
    };
    let sums = lens.iter().map(|len| take(len.div_ceil(4096))).collect();
    let shard_sums = (0..m).map(|_| take(stripe / 4096)).collect();
    assert_eq!(&record[at..record.len() - 32], CONFIG);
    assert_eq!(sha256(&[&record[..record.len() - 32]]), record[record.len() - 32..]);
    Decoded {
        slots,
        lens,
        ids,
        sums,
        shard_sums,
    }
}

/// All members, from the good rows of members and shards. `None` stands for a missing file.
fn heal(record: &[u8], members: &[Option<Vec<u8>>], shards: &[Option<Vec<u8>>]) -> Vec<Vec<u8>> {
    let decoded = decode(record);
    let row = |bytes: &Option<Vec<u8>>, sums: &[u64], row: usize| -> Option<Vec<u8>> {
        if row >= sums.len() {
            return Some(vec![0; 4096]);
        }
        let bytes = bytes.as_ref()?;
        let mut found = bytes[row * 4096..bytes.len().min(row * 4096 + 4096)].to_vec();
        (xxhash_rust::xxh3::xxh3_64(&found) == sums[row]).then(|| {
            found.resize(4096, 0);
            found
        })
    };
    let mut out: Vec<Vec<u8>> = vec![Vec::new(); members.len()];
    for r in 0..decoded.shard_sums[0].len() {
        let rows: Vec<_> = (0..members.len())
            .map(|j| row(&members[j], &decoded.sums[j], r))
            .collect();
        let erased: Vec<usize> = (0..rows.len()).filter(|j| rows[*j].is_none()).collect();
        let good = (0..shards.len()).filter_map(|i| Some((i, row(&shards[i], &decoded.shard_sums[i], r)?)));
        let (mut matrix, mut right) = (vec![], vec![]);
        for (i, mut sum) in good.take(erased.len()) {
            for (j, known) in rows.iter().enumerate() {
                let factor = g(i as u16, decoded.slots[j]);
                let products: Vec<u8> = (0..256).map(|byte| times(factor, byte) as u8).collect();
                for (sum, byte) in sum.iter_mut().zip(known.iter().flatten()) {
                    *sum ^= products[usize::from(*byte)];
                }
            }
            matrix.push(erased.iter().map(|j| g(i as u16, decoded.slots[*j])).collect());
            right.push(sum);
        }
        assert_eq!(matrix.len(), erased.len(), "row {r} has too few shards");
        let solved = eliminate(matrix, right);
        for (j, known) in rows.into_iter().enumerate() {
            let position = erased.iter().position(|erased| *erased == j);
            out[j].extend(position.map_or_else(|| known.unwrap(), |position| solved[position].clone()));
        }
    }
    for (bytes, len) in out.iter_mut().zip(&decoded.lens) {
        bytes.truncate(*len);
    }
    for (bytes, id) in out.iter().zip(&decoded.ids) {
        assert_eq!(sha256(&[bytes]), *id);
    }
    out
}

/// The shard and the record of a `.par`, by the specification.
fn open_par(par: &[u8]) -> (&[u8], &[u8]) {
    let (record_len, stripe_len) = (number(par, 32, 8), number(par, 40, 8));
    let shard = (64 + record_len).next_multiple_of(4096);
    assert_eq!(par.len(), shard + stripe_len + record_len + 64);
    assert_eq!(par[par.len() - 64..], par[..64]);
    assert_eq!(par[shard + stripe_len..par.len() - 64], par[64..64 + record_len]);
    assert!(par[64 + record_len..shard].iter().all(|byte| *byte == 0));
    let front = 80 + 16 * number(par, 64 + 64, 4) + 64 * number(par, 64 + 60, 4);
    assert_eq!(par[48..56], sha256(&[&par[64..64 + front]])[..8]);
    (&par[64..64 + record_len], &par[shard..shard + stripe_len])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any packs, any slots, and at each row up to m erasures among members and shards: both
    /// decoders restore all.
    #[test]
    fn any_damage_that_the_code_covers_is_repaired(
        lens in prop::collection::vec(1usize..20_000, 1..9),
        parity in 1u8..5,
        first_slot in 0u8..224,
        seed in 0u64..1 << 40,
        choices in prop::collection::vec(any::<u64>(), 5..6),
    ) {
        let storage = MemoryStorage::new();
        let packs = packs(&storage, &lens, seed);
        let group = group_of(shape(9, parity), first_slot, 1, &packs, &[]);
        publish(&storage, &group).unwrap();
        let head = &group.record.head;
        // members in the order of slots, then shards
        let keys: Vec<String> = (head.members.iter().map(|member| layout::pack(&member.pack)))
            .chain((0..parity).map(|i| layout::shard(&head.id, i)))
            .collect();
        for (row, choice) in choices.iter().enumerate() {
            for hit in 0..usize::from(parity) {
                let column = (choice >> (8 * hit)) as usize % keys.len();
                let mut bytes = file(&storage, &keys[column]);
                let base = if column < lens.len() { 0 } else { head.shard_offset() as usize };
                let end = if column < lens.len() { bytes.len() } else { base + head.stripe_len() as usize };
                let at = base + row * 4096 + (choice >> 48) as usize % 4096;
                if at < end {
                    bytes[at] ^= 1 + hit as u8;
                    overwrite(&storage, &keys[column], &bytes);
                }
            }
        }
        let grp = file(&storage, &layout::group(&head.id));
        let members: Vec<_> = (head.members.iter())
            .map(|member| Some(file(&storage, &layout::pack(&member.pack))))
            .collect();
        let shards: Vec<_> = (0..parity)
            .map(|i| file(&storage, &layout::shard(&head.id, i)))
            .map(|par| {
                assert_eq!(open_par(&par).0, &grp[64..]);
                Some(open_par(&par).1.to_vec())
            })
            .collect();
        let healed = heal(&grp[64..], &members, &shards);
        let record = read_record(&storage, &head.id).unwrap();
        prop_assert_eq!(&record, &group.record);
        for (member, bytes) in head.members.iter().zip(&healed) {
            prop_assert_eq!(&rebuild_pack(&storage, &record, &member.pack).unwrap(), bytes);
        }
        for shard in 0..parity {
            let file = rebuild_file(&storage, &record, Part::Shard(shard)).unwrap();
            prop_assert_eq!(open_par(&file).1, &group.shards[usize::from(shard)][..]);
        }
    }

    #[test]
    fn decode_refuses_garbage_without_panic(
        garbage in prop::collection::vec(any::<u8>(), 0..400),
        at in 0usize..400,
        patch in any::<u64>(),
    ) {
        let _ = GroupRecord::decode(&garbage);
        let _ = GroupHead::decode(&garbage);
        if let Some(prefix) = garbage.first_chunk() {
            let _ = format::Prefix::decode(prefix);
        }
        // a record with eight random bytes and a right hash either does not decode, or encodes to
        // the same bytes
        let (_, record, _) = stored(shape(4, 2), &[5000, 10], 3);
        let mut bytes = record.encode();
        let body = bytes.len() - 32;
        let at = at.min(body - 8);
        bytes[at..at + 8].copy_from_slice(&patch.to_le_bytes());
        let hash = sha256(&[&bytes[..body]]);
        bytes[body..].copy_from_slice(&hash);
        if let Ok(record) = GroupRecord::decode(&bytes) {
            prop_assert_eq!(record.encode(), bytes);
        }
    }
}

#[test]
fn the_widest_code_restores_thirty_two_lost_packs() {
    let storage = MemoryStorage::new();
    let lens: Vec<usize> = (0..224).map(|at| 1 + at % 40).collect();
    let packs = packs(&storage, &lens, 5);
    let group = group_of(shape(224, 32), 100, 1, &packs, &[]);
    publish(&storage, &group).unwrap();
    let mut members: Vec<_> = (group.record.head.members.iter())
        .map(|member| Some(file(&storage, &layout::pack(&member.pack))))
        .collect();
    let gone: Vec<usize> = (0..32).map(|at| at * 7).collect();
    for at in &gone {
        storage
            .delete(&layout::pack(&group.record.head.members[*at].pack))
            .unwrap();
        members[*at] = None;
    }
    let shards: Vec<_> = group.shards.iter().cloned().map(Some).collect();
    let healed = heal(&group.record.encode(), &members, &shards);
    for at in gone {
        let pack = group.record.head.members[at].pack;
        assert_eq!(rebuild_pack(&storage, &group.record, &pack).unwrap(), healed[at]);
    }
}
