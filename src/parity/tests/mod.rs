//! Tests of the room: an independent decoder, damage, growth, and which groups are live.

#![expect(clippy::single_range_in_vec_init, reason = "lost rows are lists of ranges")]

mod damage;
mod decoder;
mod golden;
mod growth;
mod loading;

use super::*;
use crate::crypto::sha256;
use crate::entropy::{Entropy, SeededEntropy};
use crate::id::{GroupId, PackId, RepoId};
use crate::layout;
use crate::storage::{self, FaultyStorage, MemoryStorage, Storage, put_bytes};
use std::sync::Arc;

const REPO: RepoId = RepoId([7; 16]);
const CONFIG: &[u8] = b"{\"version\":1}\n";

fn shape(data: u8, parity: u8) -> Shape {
    Shape { data, parity }
}

/// Reproducible bytes.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut out = vec![0; len];
    SeededEntropy::new(seed).fill(&mut out).unwrap();
    out
}

fn pack_id(bytes: &[u8]) -> PackId {
    PackId(sha256(&[bytes]))
}

/// Packs of these lengths, stored.
fn packs(storage: &dyn Storage, lens: &[usize], seed: u64) -> Vec<(PackId, Vec<u8>)> {
    let pack = |(at, len): (usize, &usize)| {
        let bytes = noise(*len, seed.wrapping_mul(1000).wrapping_add(at as u64));
        put_bytes(storage, &layout::pack(&pack_id(&bytes)), &bytes).unwrap();
        (pack_id(&bytes), bytes)
    };
    lens.iter().enumerate().map(pack).collect()
}

fn accumulate(shape: Shape, first_slot: u8, packs: &[(PackId, Vec<u8>)]) -> Accumulator {
    let class = packs.first().map_or(0, |(_, bytes)| size_class(bytes.len() as u64));
    let mut accumulator = Accumulator::new(shape, class, first_slot).unwrap();
    for (id, bytes) in packs {
        accumulator.add(*id, bytes).unwrap();
    }
    accumulator
}

fn group_of(shape: Shape, first_slot: u8, id: u8, packs: &[(PackId, Vec<u8>)], superseded: &[u8]) -> Group {
    let superseded = superseded.iter().map(|id| GroupId([*id; 16])).collect();
    accumulate(shape, first_slot, packs)
        .finish(REPO, GroupId([id; 16]), superseded, CONFIG.to_vec())
        .unwrap()
}

/// A published group of packs of these lengths.
fn stored(shape: Shape, lens: &[usize], seed: u64) -> (MemoryStorage, GroupRecord, Vec<(PackId, Vec<u8>)>) {
    let storage = MemoryStorage::new();
    let packs = packs(&storage, lens, seed);
    let group = group_of(shape, (seed % 224) as u8, 1, &packs, &[]);
    publish(&storage, &group).unwrap();
    (storage, group.record, packs)
}

fn file(storage: &dyn Storage, key: &str) -> Vec<u8> {
    storage.get(key, u64::MAX).unwrap()
}

fn overwrite(storage: &dyn Storage, key: &str, bytes: &[u8]) {
    storage.delete(key).unwrap();
    put_bytes(storage, key, bytes).unwrap();
}

/// Flips a byte of a file.
fn flip(storage: &dyn Storage, key: &str, at: usize) {
    let mut bytes = file(storage, key);
    bytes[at] ^= 0x40;
    overwrite(storage, key, &bytes);
}

fn lost(result: Result<Vec<u8>, Error>) -> Lost {
    match result {
        Err(Error::Lost(lost)) => *lost,
        other => panic!("not lost: {other:?}"),
    }
}
