//! The tests that every store and every wrapper must pass.
//!
//! A new store adds one line to its tests: `conformance::run(|| …)`. Properties of one kind of
//! store (power loss, a real disk) are tested in the files of that store.
#![allow(clippy::unwrap_used, reason = "this is a test suite: a surprise is a failure")]

use super::{Created, ErrorKind, LockMode, Storage, put_bytes};
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

const FOLDERS: [&str; 4] = ["a", "a/b", "locks", "quarantine"];

/// Runs every check, each on a new store from `make`, which must be empty.
///
/// # Panics
/// When a check fails, with the name of the check in the backtrace.
pub fn run(make: impl Fn() -> Arc<dyn Storage>) {
    run_without_kernel_locks(&make);
    let storage = make();
    storage.create_folders(&FOLDERS, &[]).unwrap();
    locks_need_their_file(&*storage);
}

/// The same for a store whose locks are no files.
///
/// # Panics
/// As [`run`].
pub fn run_without_kernel_locks(make: impl Fn() -> Arc<dyn Storage>) {
    let checks: [fn(&dyn Storage); 15] = [
        what_was_put_is_read_back,
        a_key_is_never_overwritten,
        a_wrong_reader_leaves_nothing,
        missing_files_are_not_found,
        reads_are_bounded,
        listings_are_sorted_and_flat,
        deleting_twice_succeeds,
        bad_keys_are_refused,
        barriers_may_follow_each_other,
        leases_are_held_until_dropped,
        a_lease_removed_by_force_drops_quietly,
        a_lease_needs_a_free_key,
        locks_exclude_and_are_released,
        damaged_files_are_replaced_and_kept,
        nothing_temporary_is_left,
    ];
    for check in checks {
        let storage = make();
        assert!(
            storage.create_folders(&FOLDERS, &[]).unwrap(),
            "an empty store takes a repository"
        );
        check(&*storage);
    }
    only_an_empty_store_takes_a_repository(&*make());
    one_of_many_puts_creates(make());
}

fn keys(storage: &dyn Storage, prefix: &str) -> Vec<String> {
    storage
        .list(prefix)
        .unwrap()
        .into_iter()
        .map(|entry| entry.key)
        .collect()
}

fn kind_of<T>(result: super::Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind)
}

fn what_was_put_is_read_back(storage: &dyn Storage) {
    let long: Vec<u8> = (0..(1 << 20) + 4097).map(|i: u32| (i % 251) as u8).collect();
    for (key, bytes) in [("top", &b"x"[..]), ("a/empty", b""), ("a/b/long", &long)] {
        assert_eq!(put_bytes(storage, key, bytes).unwrap(), Created::Created);
        assert_eq!(storage.get(key, bytes.len() as u64).unwrap(), bytes);
        assert_eq!(storage.size(key).unwrap(), Some(bytes.len() as u64));
    }
    let mut middle = [0; 5000];
    storage.get_range("a/b/long", 1 << 19, &mut middle).unwrap();
    assert_eq!(middle, long[1 << 19..(1 << 19) + 5000]);
    storage.get_range("a/empty", 0, &mut []).unwrap();
}

fn a_key_is_never_overwritten(storage: &dyn Storage) {
    put_bytes(storage, "a/k", b"first").unwrap();
    assert_eq!(put_bytes(storage, "a/k", b"second").unwrap(), Created::Exists);
    assert_eq!(storage.get("a/k", 100).unwrap(), b"first");
}

fn a_wrong_reader_leaves_nothing(storage: &dyn Storage) {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("no more"))
        }
    }
    let short = storage.put_new("a/short", 10, &mut &b"12345"[..]);
    let long = storage.put_new("a/long", 3, &mut &b"12345"[..]);
    let empty = storage.put_new("a/empty", 0, &mut &b"1"[..]);
    let broken = storage.put_new("a/broken", 10, &mut (&b"12345"[..]).chain(Broken));
    for result in [short, long, empty, broken] {
        assert_eq!(kind_of(result), Some(ErrorKind::Source));
    }
    assert_eq!(keys(storage, "a"), [""; 0]);
}

fn missing_files_are_not_found(storage: &dyn Storage) {
    assert_eq!(kind_of(storage.get("a/none", 10)), Some(ErrorKind::NotFound));
    assert_eq!(
        kind_of(storage.get_range("a/none", 0, &mut [0])),
        Some(ErrorKind::NotFound)
    );
    assert_eq!(kind_of(storage.get("none/none", 10)), Some(ErrorKind::NotFound));
    assert_eq!(storage.size("a/none").unwrap(), None);
    assert_eq!(storage.size("none/none").unwrap(), None);
    assert_eq!(storage.lease_held("a/none").unwrap(), None);
    assert_eq!(keys(storage, "none"), [""; 0]);
}

fn reads_are_bounded(storage: &dyn Storage) {
    put_bytes(storage, "a/k", b"0123456789").unwrap();
    assert_eq!(kind_of(storage.get("a/k", 9)), Some(ErrorKind::TooLarge));
    let mut three = [0; 3];
    storage.get_range("a/k", 7, &mut three).unwrap();
    assert_eq!(&three, b"789");
    for offset in [8, 11, u64::MAX - 1, u64::MAX] {
        assert_eq!(
            kind_of(storage.get_range("a/k", offset, &mut three)),
            Some(ErrorKind::UnexpectedEnd),
            "{offset}"
        );
    }
}

fn listings_are_sorted_and_flat(storage: &dyn Storage) {
    for key in ["a/z", "a/b/x", "a/c", "top", "a/b-1"] {
        put_bytes(storage, key, key.as_bytes()).unwrap();
    }
    assert_eq!(keys(storage, "a"), ["a/b-1", "a/c", "a/z"]);
    assert_eq!(keys(storage, "a/b"), ["a/b/x"]);
    assert_eq!(keys(storage, ""), ["top"]);
    assert_eq!(storage.list("a/b").unwrap()[0].len, 5);
}

fn deleting_twice_succeeds(storage: &dyn Storage) {
    put_bytes(storage, "a/k", b"1").unwrap();
    for _ in 0..2 {
        storage.delete("a/k").unwrap();
        assert_eq!(storage.size("a/k").unwrap(), None);
    }
    storage.delete("none/k").unwrap();
    storage.barrier().unwrap();
    assert_eq!(put_bytes(storage, "a/k", b"2").unwrap(), Created::Created);
}

fn bad_keys_are_refused(storage: &dyn Storage) {
    for key in ["", "/a", "a/", "a//b", "../x", "a/../x", ".", "a/.tmp-1", "a\\b", "a\0"] {
        assert!(put_bytes(storage, key, b"1").is_err(), "{key:?}");
        assert!(storage.get(key, 1).is_err(), "{key:?}");
        assert!(storage.delete(key).is_err(), "{key:?}");
    }
}

fn barriers_may_follow_each_other(storage: &dyn Storage) {
    storage.barrier().unwrap();
    put_bytes(storage, "a/k", b"1").unwrap();
    storage.include_in_barrier("a/b");
    storage.include_in_barrier("none");
    storage.barrier().unwrap();
    storage.barrier().unwrap();
}

fn leases_are_held_until_dropped(storage: &dyn Storage) {
    let lease = storage.lease("locks/s.json", b"hint").unwrap();
    assert_eq!(storage.lease_held("locks/s.json").unwrap(), Some(true));
    assert_eq!(keys(storage, "locks"), ["locks/s.json"]);
    assert_eq!(storage.get("locks/s.json", 10).unwrap(), b"hint");
    drop(lease);
    assert_eq!(storage.lease_held("locks/s.json").unwrap(), None);
    let lease = storage.lease("locks/left.json", b"hint").unwrap();
    lease.leave();
    drop(lease);
    assert_eq!(storage.lease_held("locks/left.json").unwrap(), Some(false));
    // the remains of a killed process
    put_bytes(storage, "locks/dead.json", b"").unwrap();
    assert_eq!(storage.lease_held("locks/dead.json").unwrap(), Some(false));
}

fn a_lease_removed_by_force_drops_quietly(storage: &dyn Storage) {
    let lease = storage.lease("locks/s.json", b"").unwrap();
    storage.delete("locks/s.json").unwrap();
    assert_eq!(storage.lease_held("locks/s.json").unwrap(), None);
    drop(lease);
}

fn a_lease_needs_a_free_key(storage: &dyn Storage) {
    let _lease = storage.lease("locks/s.json", b"1").unwrap();
    assert!(storage.lease("locks/s.json", b"2").is_err());
    assert_eq!(storage.get("locks/s.json", 10).unwrap(), b"1");
    assert_eq!(storage.lease_held("locks/s.json").unwrap(), Some(true));
}

fn locks_exclude_and_are_released(storage: &dyn Storage) {
    let key = "locks/commit";
    put_bytes(storage, key, b"").unwrap();
    storage.probe_locks(key).unwrap();
    let lock = |mode| storage.lock(key, mode, Duration::ZERO).unwrap();
    let one = lock(LockMode::Shared);
    let two = lock(LockMode::Shared);
    assert!(one.is_some() && two.is_some());
    assert!(lock(LockMode::Exclusive).is_none());
    drop(one);
    assert!(lock(LockMode::Exclusive).is_none());
    drop(two);
    let alone = lock(LockMode::Exclusive);
    assert!(alone.is_some());
    assert!(lock(LockMode::Shared).is_none() && lock(LockMode::Exclusive).is_none());
    storage.probe_locks(key).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            storage
                .lock(key, LockMode::Exclusive, Duration::from_secs(60))
                .unwrap()
                .is_some()
        });
        drop(alone);
        assert!(
            waiting.join().unwrap(),
            "the waiting call gets the lock when the holder releases it"
        );
    });
}

fn locks_need_their_file(storage: &dyn Storage) {
    let lock = storage.lock("locks/none", LockMode::Shared, Duration::ZERO);
    assert_eq!(kind_of(lock), Some(ErrorKind::NotFound));
    assert_eq!(kind_of(storage.probe_locks("locks/none")), Some(ErrorKind::NotFound));
}

fn damaged_files_are_replaced_and_kept(storage: &dyn Storage) {
    storage.replace_damaged("a/new", b"new").unwrap();
    assert_eq!(storage.get("a/new", 10).unwrap(), b"new");
    assert_eq!(keys(storage, "quarantine"), [""; 0]);
    put_bytes(storage, "a/k", b"bad").unwrap();
    storage.replace_damaged("a/k", b"good").unwrap();
    storage.replace_damaged("a/k", b"best").unwrap();
    storage.barrier().unwrap();
    assert_eq!(storage.get("a/k", 10).unwrap(), b"best");
    let kept = keys(storage, "quarantine");
    assert!(kept.iter().all(|key| key.starts_with("quarantine/a_k-")), "{kept:?}");
    let mut bytes: Vec<_> = kept.iter().map(|key| storage.get(key, 10).unwrap()).collect();
    bytes.sort();
    assert_eq!(bytes, [&b"bad"[..], b"good"]);
    for _ in 0..2 {
        storage.quarantine("a/k").unwrap();
        assert_eq!(storage.size("a/k").unwrap(), None);
    }
    let kept = keys(storage, "quarantine");
    assert!(
        kept.len() == 3 && kept.iter().any(|key| storage.get(key, 10).unwrap() == b"best"),
        "{kept:?}"
    );
}

fn nothing_temporary_is_left(storage: &dyn Storage) {
    put_bytes(storage, "a/k", b"1").unwrap();
    let _ = storage.put_new("a/short", 9, &mut &b"1"[..]);
    let _lease = storage.lease("locks/s.json", b"").unwrap();
    for folder in ["", "a", "locks", "none"] {
        assert_eq!(storage.clean_temporary(folder).unwrap(), 0, "{folder}");
    }
    assert_eq!(storage.lease_held("locks/s.json").unwrap(), Some(true));
}

fn only_an_empty_store_takes_a_repository(storage: &dyn Storage) {
    let allowed = ["locks/commit", "keys/"];
    let free = || storage.create_folders(&["locks", "keys"], &allowed).unwrap();
    assert!(free() && free(), "an interrupted init can be repeated");
    put_bytes(storage, "locks/commit", b"").unwrap();
    put_bytes(storage, "keys/0123.json", b"").unwrap();
    assert!(free(), "files of an interrupted init are allowed");
    put_bytes(storage, "config.json", b"{}").unwrap();
    assert!(!free(), "a repository exists");
    storage.delete("config.json").unwrap();
    put_bytes(storage, "locks/other", b"").unwrap();
    assert!(!free(), "a foreign file exists");
}

fn one_of_many_puts_creates(storage: Arc<dyn Storage>) {
    storage.create_folders(&FOLDERS, &[]).unwrap();
    for round in 0..20 {
        let key = format!("a/{round}");
        let created: usize = std::thread::scope(|scope| {
            let put = |who: u8| put_bytes(&*storage, &key, &[who; 3000]).unwrap() == Created::Created;
            let threads: Vec<_> = (0..8).map(|who| scope.spawn(move || usize::from(put(who)))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(created, 1, "{key}");
        let bytes = storage.get(&key, 3000).unwrap();
        assert!(
            bytes.len() == 3000 && bytes.iter().all(|byte| *byte == bytes[0]),
            "whole, from one of them"
        );
    }
}
