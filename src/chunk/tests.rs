//! Tests of the cutter: golden cuts, the crate's own iterator as an oracle, and properties.

use super::*;
use crate::entropy::{Entropy, SeededEntropy};
use ::fastcdc::v2020::{FastCDC, Normalization};
use proptest::prelude::*;
use std::sync::Arc;

const SMALL: ChunkerParams = ChunkerParams {
    min: 64,
    avg: 256,
    max: 1024,
};

fn random_bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    SeededEntropy::new(seed).fill(&mut bytes).unwrap();
    bytes
}

fn keyed(seed: u64) -> Gear {
    Gear::keyed(random_bytes(seed, Gear::KEY_LEN).as_slice().try_into().unwrap())
}

fn cutter(params: ChunkerParams, gear: Gear) -> Cutter {
    Cutter::new(params, Arc::new(gear)).unwrap()
}

/// Lengths of all chunks of `data`, passed in one buffer.
fn lens(cutter: &Cutter, data: &[u8]) -> Vec<usize> {
    let (mut rest, mut lens) = (data, Vec::new());
    while let Some(len) = cutter.cut(rest, true) {
        lens.push(len);
        rest = &rest[len..];
    }
    assert!(rest.is_empty());
    lens
}

/// Lengths of all chunks of `data`, passed in batches with the tail carried over.
fn lens_in_batches(cutter: &Cutter, data: &[u8], batch: usize) -> Vec<usize> {
    let (mut held, mut lens) = (Vec::new(), Vec::new());
    for piece in data.chunks(batch) {
        held.extend_from_slice(piece);
        let mut at = 0;
        while let Some(len) = cutter.cut(&held[at..], false) {
            lens.push(len);
            at += len;
        }
        held.drain(..at);
    }
    let mut rest = held.as_slice();
    while let Some(len) = cutter.cut(rest, true) {
        lens.push(len);
        rest = &rest[len..];
    }
    lens
}

fn crate_lens(params: ChunkerParams, data: &[u8]) -> Vec<usize> {
    let (min, avg, max) = (params.min as usize, params.avg as usize, params.max as usize);
    FastCDC::with_level(data, min, avg, max, Normalization::Level3)
        .map(|chunk| chunk.length)
        .collect()
}

#[test]
fn golden_cuts_with_the_default_table() {
    let data = random_bytes(1, 8 << 20);
    assert_eq!(
        lens(&cutter(ChunkerParams::default(), Gear::default_table()), &data),
        GOLDEN_DEFAULT
    );
    assert_eq!(GOLDEN_DEFAULT.iter().sum::<usize>(), 8 << 20);
}

#[test]
fn golden_cuts_with_a_keyed_table() {
    let data = random_bytes(1, 8 << 20);
    assert_eq!(lens(&cutter(ChunkerParams::default(), keyed(2)), &data), GOLDEN_KEYED);
    assert_eq!(GOLDEN_KEYED.iter().sum::<usize>(), 8 << 20);
}

#[rustfmt::skip]
const GOLDEN_DEFAULT: &[usize] = &[
    264797, 303855, 290107, 247431, 286552, 265913, 298559, 265206, 335124, 267501, 277724, 280627,
    297996, 263718, 331958, 279688, 284098, 274824, 267557, 270807, 273585, 478178, 265551, 331599,
    285492, 206072, 303995, 268229, 284826, 37039,
];
#[rustfmt::skip]
const GOLDEN_KEYED: &[usize] = &[
    285980, 274914, 266205, 293501, 276241, 264023, 167243, 271540, 312214, 278818, 163031, 295566,
    308055, 265958, 271016, 251129, 67614, 112065, 340918, 262384, 272630, 272608, 274395, 320635,
    334220, 118837, 304486, 267690, 75411, 267993, 268323, 288078, 213877, 81010,
];

#[test]
fn zeros_are_cut_at_the_maximum() {
    let data = vec![0; 3 << 20];
    for gear in [Gear::default_table(), keyed(2)] {
        assert_eq!(
            lens(&cutter(ChunkerParams::default(), gear), &data[..(3 << 20) - 5]),
            [1 << 20, 1 << 20, (1 << 20) - 5]
        );
    }
}

#[test]
fn sizes_around_the_bounds_agree_with_the_crate() {
    let data = random_bytes(3, 4096);
    let ours = cutter(SMALL, Gear::default_table());
    let around = [64usize, 256, 1024, 2048].map(|bound| bound.saturating_sub(3)..bound + 4);
    for len in (0..4).chain(around.into_iter().flatten()) {
        for seed in 0..50 {
            let data = &data[seed * 7..][..len];
            assert_eq!(lens(&ours, data), crate_lens(SMALL, data), "{len} bytes");
        }
        let zeros = vec![0; len];
        assert_eq!(lens(&ours, &zeros), crate_lens(SMALL, &zeros), "{len} zeros");
    }
}

#[test]
fn a_default_stream_agrees_with_the_crate() {
    let data = random_bytes(4, (6 << 20) + 1);
    let params = ChunkerParams::default();
    assert_eq!(
        lens(&cutter(params, Gear::default_table()), &data),
        crate_lens(params, &data)
    );
}

#[test]
fn a_table_keyed_with_the_public_table_gives_the_public_cuts() {
    let mut key = Vec::new();
    for entry in ::fastcdc::v2020::get_gear_with_seed(0).0.iter() {
        key.extend_from_slice(&entry.to_le_bytes());
    }
    let gear = Gear::keyed(key.as_slice().try_into().unwrap());
    let data = random_bytes(5, 4 << 20);
    let params = ChunkerParams::default();
    assert_eq!(lens(&cutter(params, gear), &data), crate_lens(params, &data));
}

#[test]
fn other_keys_give_other_cuts() {
    let data = random_bytes(6, 4 << 20);
    let params = ChunkerParams::default();
    let (two, three) = (
        lens(&cutter(params, keyed(2)), &data),
        lens(&cutter(params, keyed(3)), &data),
    );
    assert_ne!(two, three);
    assert_ne!(two, lens(&cutter(params, Gear::default_table()), &data));
}

#[test]
fn asks_for_more_while_a_cut_could_move() {
    let ours = cutter(SMALL, Gear::default_table());
    let data = vec![0; 1024];
    assert_eq!(ours.max(), 1024);
    assert_eq!(ours.cut(&data[..1023], false), None);
    assert_eq!(ours.cut(&data, false), Some(1024));
    assert_eq!(ours.cut(&data[..1023], true), Some(1023));
    assert_eq!(ours.cut(&data[..1], true), Some(1));
    assert_eq!(ours.cut(&[], true), None);
    assert_eq!(ours.cut(&[], false), None);
}

#[test]
fn refuses_sizes_that_the_crate_cannot_cut_with() {
    let params = |min, avg, max| ChunkerParams { min, avg, max }.validate();
    assert_eq!(ChunkerParams::default().validate(), Ok(()));
    assert_eq!(params(64, 256, 1024), Ok(()));
    assert_eq!(params(1 << 20, 4 << 20, 8 << 20), Ok(()));
    assert_eq!(params(1024, 1024, 1024), Ok(()));
    assert_eq!(params(65_537, 262_144, 1 << 20), Err(InvalidParams::Odd));
    assert_eq!(params(62, 256, 1024), Err(InvalidParams::Min));
    assert_eq!(params((1 << 20) + 2, 4 << 20, 8 << 20), Err(InvalidParams::Min));
    assert_eq!(params(64, 254, 1024), Err(InvalidParams::Avg));
    assert_eq!(params(64, (4 << 20) + 2, 8 << 20), Err(InvalidParams::Avg));
    assert_eq!(params(64, 256, 1022), Err(InvalidParams::Max));
    assert_eq!(params(64, 256, (8 << 20) + 2), Err(InvalidParams::Max));
    assert_eq!(params(512, 256, 1024), Err(InvalidParams::Order));
    assert_eq!(params(64, 2048, 1024), Err(InvalidParams::Order));
    assert_eq!(params(0, 0, 0), Err(InvalidParams::Min));
    assert_eq!(
        params(u32::MAX - 1, u32::MAX - 1, u32::MAX - 1),
        Err(InvalidParams::Min)
    );
    assert!(
        Cutter::new(
            ChunkerParams { min: 0, avg: 0, max: 0 },
            Arc::new(Gear::default_table())
        )
        .is_err()
    );
}

/// Ends of the chunks as distances from the end of the data.
fn ends_from_the_end(lens: &[usize]) -> std::collections::BTreeSet<usize> {
    let total: usize = lens.iter().sum();
    lens.iter()
        .scan(0, |at, len| {
            *at += len;
            Some(total - *at)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn chunks_are_the_input_within_bounds_and_as_the_crate_cuts(seed: u64, len in 0usize..40_000, shape in 0usize..6) {
        let shapes = [(64, 256, 1024), (64, 1024, 4096), (256, 256, 1024), (128, 512, 2048), (1024, 1024, 1024), (64, 2048, 8192)];
        let (min, avg, max) = shapes[shape];
        let params = ChunkerParams { min, avg, max };
        let data = random_bytes(seed, len);
        let got = lens(&cutter(params, Gear::default_table()), &data);
        prop_assert_eq!(got.iter().sum::<usize>(), len);
        let all_but_last = got.len().saturating_sub(1);
        prop_assert!(got[..all_but_last].iter().all(|len| *len >= min as usize));
        prop_assert!(got.iter().all(|len| (1..=max as usize).contains(len)));
        prop_assert_eq!(got, crate_lens(params, &data));
    }

    #[test]
    fn batches_do_not_change_the_cuts(seed: u64, len in 0usize..20_000, batch in 1usize..5000) {
        let data = random_bytes(seed, len);
        let ours = cutter(SMALL, keyed(2));
        prop_assert_eq!(lens_in_batches(&ours, &data, batch), lens(&ours, &data));
    }

    #[test]
    fn an_insertion_moves_only_nearby_cuts(seed: u64, at in 0usize..20_000, count in 1usize..100) {
        let before = random_bytes(seed, 60_000);
        let mut after = before.clone();
        let inserted = random_bytes(!seed, count);
        after.splice(at..at, inserted);
        let ours = cutter(SMALL, keyed(2));
        let (old, new) = (ends_from_the_end(&lens(&ours, &before)), ends_from_the_end(&lens(&ours, &after)));
        // a cut point depends on the byte after it, so cut points before the insertion stay; after
        // it they coincide again within a few chunks
        let settled = before.len() - at - 20 * 1024;
        prop_assert!(old.range(..settled).eq(new.range(..settled)));
        let prefix = |cuts: &[usize]| -> Vec<usize> {
            cuts.iter().scan(0, |end, len| { *end += len; Some(*end) }).take_while(|end| *end < at).collect()
        };
        prop_assert_eq!(prefix(&lens(&ours, &before)), prefix(&lens(&ours, &after)));
    }
}
