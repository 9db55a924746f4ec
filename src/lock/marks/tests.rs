//! The bytes of marks, their proof, and loading them while they are merged.

use super::*;
use crate::crypto;
use crate::id::{PackId, RepoId, SnapshotId, to_hex};
use crate::layout;
use crate::lock::proof::keys::{Keys, PLAIN, SEALED};
use crate::lock::proof::{ListSeal, Proof};
use crate::lock::{Error, KillLists};
use crate::storage::{MemoryStorage, Storage, put_bytes};

const REPO: RepoId = RepoId([0x11; 16]);
const ID: MarkId = MarkId {
    level: 3,
    id: [0x22; 16],
};

fn mark(id: MarkId, part: MarkPart, rows: &[u8]) -> Mark {
    let is_wait = part == MarkPart::Wait;
    Mark {
        id,
        part,
        repo: REPO,
        packs: rows.iter().filter(|_| !is_wait).map(|row| PackId([*row; 32])).collect(),
        sessions: rows
            .iter()
            .filter(|_| is_wait)
            .map(|row| SnapshotId([*row; 16]))
            .collect(),
    }
}

fn id(number: u8) -> MarkId {
    MarkId {
        level: 0,
        id: [number; 16],
    }
}

#[test]
fn the_files_of_a_mark_have_their_golden_bytes_and_names() {
    for (part, magic, suffix, counts, rows) in [
        (
            MarkPart::Mark,
            "43414d41524b3031",
            "mark",
            "0200000000000000",
            ["33", "44"].map(|row| row.repeat(32)),
        ),
        (
            MarkPart::Swept,
            "4341535750543031",
            "swept",
            "0200000000000000",
            ["33", "44"].map(|row| row.repeat(32)),
        ),
        (
            MarkPart::Wait,
            "4341574149543031",
            "wait",
            "0000000002000000",
            ["33", "44"].map(|row| row.repeat(16)),
        ),
    ] {
        let key = ID.key(part);
        assert_eq!(key, format!("index/marks/03-{}.{suffix}", "22".repeat(16)));
        assert_eq!(MarkId::from_key(&key), Some((ID, part)));
        let file = mark(ID, part, &[0x33, 0x44]);
        for (keys, epoch) in [(&PLAIN, "00000000"), (&SEALED, "07000000")] {
            let bytes = file.encode(keys).unwrap();
            let (said, rest) = bytes.split_at(bytes.len() - 64);
            let golden = [
                magic,
                "0100000003000000",
                &"11".repeat(16),
                &"22".repeat(16),
                counts,
                epoch,
                "00000000",
                &rows.concat(),
            ];
            assert_eq!(to_hex(said), golden.concat());
            let mac = keys.list_mac(7, &crypto::sha256(&[said])).unwrap_or_default();
            assert_eq!(rest, [mac, crypto::sha256(&[said, &mac])].concat());
            let (decoded, proof) = Mark::decode(&bytes, (ID, part), keys).unwrap();
            assert_eq!((decoded, proof), (file.clone(), Proof::Valid));
        }
    }
    for foreign in [
        "index/marks/3-22.mark",
        "index/marks/notes.mark",
        "index/03-22.mark",
        "",
    ] {
        assert_eq!(MarkId::from_key(foreign), None, "{foreign}");
    }
}

#[test]
fn decode_refuses_any_byte_flipped_or_missing_and_the_file_of_another_part() {
    for keys in [&PLAIN, &SEALED] {
        let bytes = mark(ID, MarkPart::Mark, &[1, 2]).encode(keys).unwrap();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(Mark::decode(&flipped, (ID, MarkPart::Mark), keys).is_err(), "byte {at}");
            assert!(
                Mark::decode(&bytes[..at], (ID, MarkPart::Mark), keys).is_err(),
                "cut at {at}"
            );
        }
        assert!(Mark::decode(&bytes, (ID, MarkPart::Swept), keys).is_err());
        assert!(Mark::decode(&bytes, (id(9), MarkPart::Mark), keys).is_err());
    }
    assert!(mark(ID, MarkPart::Mark, &[2, 1]).encode(&PLAIN).is_err());
    let both = Mark {
        sessions: vec![SnapshotId([1; 16])],
        ..mark(ID, MarkPart::Mark, &[1])
    };
    assert!(both.encode(&PLAIN).is_err());
    assert!(mark(ID, MarkPart::Mark, &[1]).encode(&Keys::Keyless).is_err());
}

#[test]
fn only_its_mac_proves_a_mark_and_every_mark_is_avoided() {
    let storage = MemoryStorage::new();
    mark(id(1), MarkPart::Mark, &[10]).put(&storage, &SEALED).unwrap();
    mark(id(2), MarkPart::Mark, &[20])
        .put(&storage, &Keys::Sealed(2))
        .unwrap();
    mark(id(1), MarkPart::Swept, &[10])
        .put(&storage, &Keys::Sealed(2))
        .unwrap();
    mark(id(1), MarkPart::Wait, &[5]).put(&storage, &SEALED).unwrap();
    let all = Marks::load(&storage, &REPO, &SEALED).unwrap();
    assert!([10, 20].iter().all(|pack| all.is_marked(&PackId([*pack; 32]))));
    let [first, second] = all.marks() else {
        panic!("{all:?}")
    };
    assert!(first.is_open() && first.swept.is_none() && first.waits_for == Some(vec![SnapshotId([5; 16])]));
    assert!(!second.is_open());
    mark(id(3), MarkPart::Mark, &[30]).put(&storage, &SEALED).unwrap();
    mark(id(3), MarkPart::Swept, &[]).put(&storage, &SEALED).unwrap();
    assert!(!Marks::load(&storage, &REPO, &SEALED).unwrap().marks()[2].is_open());
}

#[test]
fn writers_on_object_storage_avoid_marked_packs_and_kill_lists_do_not_condemn_them() {
    let storage = MemoryStorage::new();
    mark(id(1), MarkPart::Mark, &[10]).put(&storage, &PLAIN).unwrap();
    let listed = storage.list(layout::MARKS).unwrap();
    let marked = marked_packs(&storage, &REPO, &PLAIN, &listed).unwrap();
    assert_eq!(marked, [PackId([10; 32])].into());
    // in a folder, where the protocol of the locks holds, a mark that was copied there is ignored
    let lists = KillLists::load_all(&storage, &REPO, &PLAIN).unwrap();
    assert!(!lists.is_avoided(&PackId([10; 32])));
    let other = marked_packs(&storage, &RepoId([0x12; 16]), &PLAIN, &listed).unwrap();
    assert!(other.is_empty());
}

#[test]
fn a_damaged_mark_fails_the_call_and_a_damaged_part_of_it_counts_as_absent() {
    let storage = MemoryStorage::new();
    mark(id(1), MarkPart::Mark, &[10]).put(&storage, &PLAIN).unwrap();
    put_bytes(&storage, &id(1).key(MarkPart::Swept), b"CASWPT01").unwrap();
    assert!(Marks::load(&storage, &REPO, &PLAIN).unwrap().marks()[0].is_open());
    put_bytes(&storage, &id(2).key(MarkPart::Mark), b"CAMARK01").unwrap();
    match Marks::load(&storage, &REPO, &PLAIN) {
        Err(Error::Damaged { key, .. }) => assert_eq!(key, id(2).key(MarkPart::Mark)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_listed_mark_that_is_missing_means_to_list_again() {
    let storage = MemoryStorage::new();
    mark(id(1), MarkPart::Mark, &[10]).put(&storage, &PLAIN).unwrap();
    let old = storage.list(layout::MARKS).unwrap();
    // merged between the listing and the reads
    let merged = MarkId { level: 1, ..id(7) };
    mark(merged, MarkPart::Mark, &[10]).put(&storage, &PLAIN).unwrap();
    storage.delete(&id(1).key(MarkPart::Mark)).unwrap();
    let marked = marked_packs(&storage, &REPO, &PLAIN, &old).unwrap();
    assert_eq!(marked, [PackId([10; 32])].into());
}
