//! The bytes of kill lists, their proof, and the state of packs.

use super::format::{CHECKSUM_LEN, HEADER_LEN, MAGIC, MORE_LEN};
use super::*;
use crate::crypto;
use crate::id::{PackId, RepoId, SnapshotId, to_hex};
use crate::lock::proof::MAC_LEN;
use crate::lock::proof::keys::{Keys, PLAIN, SEALED};
use crate::lock::tests::new_storage;
use crate::lock::{Error, ListSeal, Proof};
use crate::storage::put_bytes;
use proptest::prelude::*;

const REPO: RepoId = RepoId([0x11; 16]);

/// The list in version 1.
fn without_mac(list: &KillList) -> Vec<u8> {
    let bytes = list.encode(&PLAIN).unwrap();
    let mut old = bytes[..HEADER_LEN].to_vec();
    old[8] = 1;
    old.extend_from_slice(&bytes[HEADER_LEN + MORE_LEN..bytes.len() - MAC_LEN]);
    reseal(old)
}

fn list(id: u8, hint: bool, packs: &[u8]) -> KillList {
    let sessions = if hint {
        vec![SnapshotId([0x5e; 16]); 2]
    } else {
        Vec::new()
    };
    KillList {
        id: KillListId([id; 16]),
        repo: REPO,
        hint,
        packs: packs.iter().map(|p| PackId([*p; 32])).collect(),
        sessions,
    }
}

/// Corrects the checksum, so that the checks after it are reached.
fn reseal(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() - CHECKSUM_LEN);
    let checksum = crypto::sha256(&[&bytes]);
    bytes.extend_from_slice(&checksum);
    bytes
}

#[test]
fn a_kill_list_has_its_golden_bytes() {
    let list = list(0x22, true, &[0x33]);
    let golden = |epoch: &str| {
        [
            "43414b494c4c3031",
            "0200000001000000",
            &"11".repeat(16),
            &"22".repeat(16),
            "0100000002000000",
            epoch,
            "00000000",
            &"33".repeat(32),
            &"5e".repeat(32),
        ]
        .concat()
    };
    for (keys, epoch) in [(&PLAIN, "00000000"), (&SEALED, "07000000")] {
        let bytes = list.encode(keys).unwrap();
        let (said, rest) = bytes.split_at(bytes.len() - 64);
        assert_eq!(to_hex(said), golden(epoch));
        let mac = keys.list_mac(7, &crypto::sha256(&[said])).unwrap_or_default();
        assert_eq!(rest, [mac, crypto::sha256(&[said, &mac])].concat());
    }
    let old = without_mac(&list);
    let said = golden("00000000").replacen("0200000001", "0100000001", 1);
    assert_eq!(to_hex(&old[..56]), said[..112]);
    assert_eq!(to_hex(&old[56..old.len() - 32]), said[128..]);
}

#[test]
fn decode_refuses_a_kill_list_with_any_byte_flipped_or_missing() {
    for (hint, keys) in [(false, PLAIN), (true, PLAIN), (false, SEALED), (true, SEALED)] {
        let list = list(1, hint, &[3, 4, 9]);
        for (bytes, proof) in [
            (list.encode(&keys).unwrap(), Proof::Valid),
            (
                without_mac(&list),
                if keys.has_macs() { Proof::NoMac } else { Proof::Valid },
            ),
        ] {
            let found = KillList::decode(&bytes, &list.id, &keys).unwrap();
            assert_eq!((found.list, found.proof), (list.clone(), proof));
            for at in 0..bytes.len() {
                for flip in [1, 0x20, 0x80] {
                    let mut flipped = bytes.clone();
                    flipped[at] ^= flip;
                    assert!(KillList::decode(&flipped, &list.id, &keys).is_err(), "byte {at}");
                }
                assert!(KillList::decode(&bytes[..at], &list.id, &keys).is_err(), "cut at {at}");
            }
        }
    }
}

#[test]
fn only_its_mac_proves_a_list() {
    let list = list(1, false, &[3, 4, 9]);
    let bytes = list.encode(&SEALED).unwrap();
    let proof = |bytes: &[u8], keys: &Keys| KillList::decode(bytes, &list.id, keys).unwrap().proof;
    assert_eq!(proof(&bytes, &SEALED), Proof::Valid);
    assert_eq!(proof(&bytes, &Keys::Sealed(2)), Proof::Wrong);
    assert_eq!(proof(&bytes, &Keys::Keyless), Proof::Unknown);
    // the MAC covers every field: a checksum is no proof
    for at in [12, 16, 56, 95, 100, 159, 170] {
        let mut forged = bytes.clone();
        forged[at] ^= 1;
        let found = KillList::decode(&reseal(forged), &list.id, &SEALED);
        assert!(
            found.is_err() || found.is_ok_and(|found| found.proof == Proof::Wrong),
            "byte {at}"
        );
    }
    assert!(list.encode(&Keys::Keyless).is_err());
    // a repository without keys has no MACs
    assert!(KillList::decode(&bytes, &list.id, &PLAIN).is_err());
}

#[test]
fn a_list_without_a_valid_mac_condemns_nothing_and_its_packs_are_avoided() {
    for (name, forge) in [
        ("version 1", without_mac as fn(&KillList) -> Vec<u8>),
        ("another key", |list| list.encode(&Keys::Sealed(2)).unwrap()),
    ] {
        let storage = new_storage();
        let list = list(1, false, &[10]);
        put_bytes(&storage, &list.id.key(), &forge(&list)).unwrap();
        let all = KillLists::load_all(&storage, &REPO, &SEALED).unwrap();
        let pack = PackId([10; 32]);
        assert!(
            !all.is_condemned(&pack) && all.is_listed(&pack) && all.is_avoided(&pack),
            "{name}"
        );
        assert!(!all.lists()[0].condemns(), "{name}");
    }
}

#[test]
fn a_list_of_another_repository_is_ignored() {
    let storage = new_storage();
    list(1, false, &[10]).publish(&storage, &PLAIN).unwrap();
    let all = KillLists::load_all(&storage, &RepoId([0x12; 16]), &PLAIN).unwrap();
    assert!(all.lists().is_empty() && !all.is_avoided(&PackId([10; 32])));
}

#[test]
fn a_spared_pack_is_not_condemned_and_writers_still_avoid_it() {
    let storage = new_storage();
    list(1, false, &[10, 11]).publish(&storage, &PLAIN).unwrap();
    let mut all = KillLists::load_all(&storage, &REPO, &PLAIN).unwrap();
    let (spared, other) = (PackId([10; 32]), PackId([11; 32]));
    all.spare([spared].into());
    assert!(!all.is_condemned(&spared) && all.is_listed(&spared) && all.is_avoided(&spared));
    assert!(all.is_condemned(&other));
}

#[test]
fn decode_refuses_wrong_fields_under_a_right_checksum() {
    let good = list(1, false, &[3, 4]);
    let bytes = good.encode(&PLAIN).unwrap();
    for (at, value) in [
        (12, 2),
        (32, 0),
        (48, 1),
        (48, 3),
        (51, 0xff),
        (52, 1),
        (56, 1),
        (60, 1),
        (64, 5),
        (128, 1),
    ] {
        let mut wrong = bytes.clone();
        wrong[at] = value;
        let refused = KillList::decode(&reseal(wrong), &good.id, &PLAIN);
        assert!(matches!(refused, Err(Error::Damaged { .. })), "byte {at}");
    }
    let mut later = bytes;
    later[8] = 3;
    let refused = KillList::decode(&reseal(later), &good.id, &PLAIN);
    assert!(matches!(refused, Err(Error::UnsupportedVersion { version: 3, .. })));
}

#[test]
fn encode_refuses_what_decode_would_refuse() {
    assert!(list(1, false, &[4, 3]).encode(&PLAIN).is_err());
    assert!(list(1, false, &[3, 3]).encode(&PLAIN).is_err());
    let with_sessions = KillList {
        sessions: vec![SnapshotId([0; 16])],
        ..list(1, false, &[3])
    };
    assert!(with_sessions.encode(&PLAIN).is_err());
}

#[test]
fn hints_are_avoided_and_only_kill_lists_condemn() {
    let storage = new_storage();
    list(1, false, &[10, 11]).publish(&storage, &PLAIN).unwrap();
    list(2, true, &[20]).publish(&storage, &PLAIN).unwrap();
    list(3, false, &[]).publish(&storage, &PLAIN).unwrap();
    put_bytes(&storage, "index/marks/notes.kill", b"not ours").unwrap();
    let all = KillLists::load_all(&storage, &REPO, &PLAIN).unwrap();
    let (condemned, hinted, free) = (PackId([11; 32]), PackId([20; 32]), PackId([30; 32]));
    assert!(all.is_condemned(&condemned) && all.is_avoided(&condemned));
    assert!(!all.is_condemned(&hinted) && all.is_avoided(&hinted));
    assert!(!all.is_condemned(&free) && !all.is_avoided(&free));
    assert_eq!(all.lists().len(), 3);
    assert!(list(1, false, &[12]).publish(&storage, &PLAIN).is_err());
}

#[test]
fn a_damaged_kill_list_is_reported_with_its_key() {
    let storage = new_storage();
    list(1, false, &[10]).publish(&storage, &PLAIN).unwrap();
    let key = KillListId([2; 16]).key();
    put_bytes(&storage, &key, b"CAKILL01").unwrap();
    match KillLists::load_all(&storage, &REPO, &PLAIN) {
        Err(Error::Damaged { key: named, .. }) => assert_eq!(named, key),
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), fix in any::<bool>()) {
        if fix && bytes.len() >= 88 {
            bytes[..8].copy_from_slice(&MAGIC);
            bytes[8..16].copy_from_slice(&[2, 0, 0, 0, 1, 0, 0, 0]);
            bytes[16..32].copy_from_slice(&REPO.0);
            bytes[32..48].copy_from_slice(&[1; 16]);
            bytes = reseal(bytes);
        }
        let _ = KillList::decode(&bytes, &KillListId([1; 16]), &SEALED);
    }
}
