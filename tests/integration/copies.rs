//! Copies of snapshots in other repositories.

use crate::support::*;
use containerarchive::codec::Compression;
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{
    self, CopyOptions, CopyReport, IngestOptions, ItemSpec, ReaderItems, VerifyLevel, VerifyOptions,
};
use containerarchive::repo::{self, Environment, InitOptions, Repository};
use containerarchive::snapshot::{Origin, Snapshot, SnapshotFilter};
use containerarchive::storage::{ErrorKind, FaultyStorage, MemoryStorage, Storage, put_bytes};
use containerarchive::{Result, layout};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// A repository in memory; each seed gives another id.
fn repository(flavor: Flavor, parity: bool, seed: u64) -> (Arc<Repository>, Arc<dyn Storage>) {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let options = InitOptions {
        parity: if parity { flavor.small().parity } else { Some(None) },
        ..flavor.small()
    };
    let environment = Environment {
        path: format!("memory {seed}"),
        ..environment(Arc::clone(&storage), seed)
    };
    let repo = repo::init(environment, flavor.secret().as_ref(), &options).unwrap();
    (Arc::new(repo), storage)
}

/// Backs up several items, with tags and digests, dated by `number`.
fn back_up(repo: &Arc<Repository>, number: i64) -> Snapshot {
    let base = random_bytes(3, 60_000);
    let changed = [&base[..20_000], &random_bytes(number as u64, 3000), &base[20_000..]].concat();
    let text = text_bytes(number as u64, 10_000);
    let items: [(&str, &[u8]); 4] = [("empty", b""), ("big", &changed), ("none", b""), ("text", &text)];
    let items = items.map(|(name, data)| (ItemSpec::new(name, "test"), Box::new(data) as _));
    let options = IngestOptions {
        tags: BTreeMap::from([("number".to_owned(), number.to_string())]),
        created_at_ms: Some(1_700_000_000_000 + number),
        digest_sha256: true,
        ..IngestOptions::default()
    };
    ops::ingest(
        repo,
        &mut ReaderItems::new(items.into_iter().collect()),
        &options,
        &NullMonitor,
    )
    .unwrap()
}

fn copy(source: &Arc<Repository>, target: &Arc<Repository>) -> Result<CopyReport> {
    ops::copy_to(source, target, &CopyOptions::default(), &NullMonitor)
}

fn assert_healthy(repo: &Arc<Repository>) {
    let options = VerifyOptions {
        level: VerifyLevel::Full,
        subset: None,
    };
    let report = ops::verify(repo, &options, &NullMonitor, &mut |_| {}).unwrap();
    assert!(report.ok(), "{:?}", report.problems);
}

/// Compares a copy with its original.
fn assert_copy(source: &Arc<Repository>, from: &Snapshot, target: &Arc<Repository>, origin: Origin) {
    let all = ops::list_snapshots(target, &SnapshotFilter::default()).unwrap();
    let copies: Vec<_> = all.iter().filter(|copy| copy.copied_from == Some(origin)).collect();
    assert_eq!(copies.len(), 1);
    let copy = copies[0];
    assert_eq!((copy.created_at_ms, &copy.tags), (from.created_at_ms, &from.tags));
    assert_eq!(
        (copy.original_size, copy.chunk_count),
        (from.original_size, from.chunk_count)
    );
    let facts = |snapshot: &Snapshot| -> Vec<_> {
        let items = snapshot.items.iter();
        items
            .map(|item| {
                (
                    item.name.clone(),
                    item.kind.clone(),
                    item.size,
                    item.chunk_count,
                    item.sha256,
                )
            })
            .collect()
    };
    assert_eq!(facts(copy), facts(from));
    for item in &from.items {
        let original = restore(source, &from.id.to_hex(), Some(&item.name)).unwrap();
        let copied = restore(target, &copy.id.to_hex(), Some(&item.name)).unwrap();
        assert!(original == copied, "{}", item.name);
    }
}

#[test]
fn copies_between_all_kinds_of_repositories_have_the_bytes_of_their_originals() {
    let kinds = || {
        let codecs = [Compression::Gzip { level: 3 }, Compression::Zstd { level: 3 }];
        let flavors = [false, true]
            .into_iter()
            .flat_map(move |encrypted| codecs.map(|compression| Flavor { encrypted, compression }));
        flavors.flat_map(|flavor| [(flavor, true), (flavor, false)])
    };
    for (number, (from, with_parity)) in kinds().enumerate() {
        let (source, _) = repository(from, with_parity, 100 + number as u64);
        let originals: Vec<Snapshot> = (0..2).map(|number| back_up(&source, number)).collect();
        for (other, (to, parity)) in kinds().enumerate() {
            let (target, storage) = repository(to, parity, 200 + other as u64);
            let report = copy(&source, &target).unwrap();
            assert_eq!(
                (report.copied.len(), report.skipped.len(), report.failed.len()),
                (2, 0, 0)
            );
            for original in &originals {
                let origin = original.origin(source.config().id);
                assert_copy(&source, original, &target, origin);
            }
            assert_healthy(&target);
            // what the snapshots share is stored once, also where the ids differ
            assert!(report.new_bytes < 100_000, "{}", report.new_bytes);
            let before = storage.list(layout::DATA).unwrap();
            let again = copy(&source, &target).unwrap();
            assert_eq!((again.copied.len(), again.skipped.len(), again.new_bytes), (0, 2, 0));
            assert_eq!(storage.list(layout::DATA).unwrap(), before);
        }
    }
}

#[test]
fn chunks_that_the_target_has_are_not_read_again() {
    for (from, to) in [
        (Flavor::plain(), Flavor::plain()),
        (Flavor::plain(), Flavor::sealed()),
        (Flavor::sealed(), Flavor::plain()),
        (Flavor::sealed(), Flavor::sealed()),
    ] {
        let (source, _) = repository(from, true, 1);
        let (target, _) = repository(to, true, 2);
        back_up(&source, 1);
        let first = copy(&source, &target).unwrap();
        back_up(&source, 2);
        let second = copy(&source, &target).unwrap();
        assert_eq!((second.copied.len(), second.skipped.len()), (1, 1));
        // 3,000 bytes of the big item have changed, and all of the text
        assert!(
            first.new_bytes > 70_000 && second.new_bytes < 30_000,
            "{} {}",
            first.new_bytes,
            second.new_bytes
        );
    }
}

#[test]
fn a_copy_of_a_copy_names_the_first_original_and_comes_back_as_nothing() {
    let (first, _) = repository(Flavor::plain(), true, 1);
    let (second, _) = repository(Flavor::sealed(), true, 2);
    let (third, _) = repository(Flavor::plain(), false, 3);
    let original = back_up(&first, 1);
    let origin = original.origin(first.config().id);
    copy(&first, &second).unwrap();
    copy(&second, &third).unwrap();
    assert_copy(&first, &original, &third, origin);
    // the same snapshot by another way, and back to where it came from
    assert_eq!(copy(&first, &third).unwrap().skipped, [original.id]);
    let back = copy(&third, &first).unwrap();
    assert_eq!((back.copied.len(), back.skipped.len()), (0, 1));
}

#[test]
fn ids_and_a_filter_choose_what_is_copied() {
    let (source, _) = repository(Flavor::plain(), true, 1);
    let snapshots: Vec<Snapshot> = (0..4).map(|number| back_up(&source, number)).collect();
    let (target, _) = repository(Flavor::sealed(), true, 2);
    let options = |snapshots: &[&str], number: Option<i64>| CopyOptions {
        snapshots: snapshots.iter().map(|id| (*id).to_owned()).collect(),
        filter: SnapshotFilter {
            tags: number
                .map(|number| ("number".to_owned(), number.to_string()))
                .into_iter()
                .collect(),
            ..SnapshotFilter::default()
        },
    };
    let run = |options: &CopyOptions| ops::copy_to(&source, &target, options, &NullMonitor);
    let ids: Vec<String> = snapshots.iter().map(|snapshot| snapshot.id.to_hex()).collect();
    assert_eq!(run(&options(&[], Some(2))).unwrap().copied[0].from, snapshots[2].id);
    assert_eq!(run(&options(&["latest", &ids[0]], None)).unwrap().copied.len(), 2);
    assert_eq!(run(&options(&[&ids[1]], Some(3))).unwrap().copied.len(), 0);
    let missing = run(&options(&[&ids[1], &"0".repeat(32)], None)).unwrap_err();
    assert_eq!(missing.code(), "ERR_SNAPSHOT_NOT_FOUND");
    let all = ops::list_snapshots(&target, &SnapshotFilter::default()).unwrap();
    assert_eq!(all.len(), 3);
    // oldest first, so that snapshots of one time keep their order
    let sequences: Vec<_> = all.iter().map(|copy| (copy.created_at_ms, copy.sequence)).collect();
    assert!(sequences.iter().all(|(_, sequence)| *sequence > 0));
}

#[test]
fn the_same_repository_and_targets_that_cannot_be_written_are_refused() {
    let (source, storage) = repository(Flavor::plain(), true, 1);
    back_up(&source, 1);
    let again = open(environment(Arc::clone(&storage), 9), Flavor::plain()).unwrap();
    assert_eq!(copy(&source, &source).unwrap_err().code(), "ERR_INVALID_ARGUMENT");
    assert_eq!(copy(&source, &again).unwrap_err().code(), "ERR_INVALID_ARGUMENT");
    let (target, storage) = repository(Flavor::plain(), true, 2);
    let options = repo::OpenOptions {
        read_only: true,
        ..repo::OpenOptions::default()
    };
    let read_only = Arc::new(repo::open(environment(Arc::clone(&storage), 9), None, &options).unwrap());
    assert_eq!(copy(&source, &read_only).unwrap_err().code(), "ERR_READ_ONLY");
    target.close();
    assert_eq!(copy(&source, &target).unwrap_err().code(), "ERR_CLOSED");
    put_bytes(&*storage, layout::MIRROR, b"").unwrap();
    let mirror = open(environment(storage, 9), Flavor::plain()).unwrap();
    assert_eq!(copy(&source, &mirror).unwrap_err().code(), "ERR_MIRROR");
}

#[test]
fn a_copy_that_is_cut_at_any_call_continues_and_stores_nothing_twice() {
    let (source, _) = repository(Flavor::plain(), true, 1);
    let originals: Vec<Snapshot> = (0..2).map(|number| back_up(&source, number)).collect();
    for at in (0..).step_by(5) {
        assert!(at < 5000);
        let (_, storage) = repository(Flavor::sealed(), true, 2);
        let faulty = Arc::new(FaultyStorage::new(Arc::clone(&storage)));
        let environment = environment(Arc::clone(&faulty) as Arc<dyn Storage>, 77);
        let target = open(environment, Flavor::sealed()).unwrap();
        let calls = Mutex::new(0);
        faulty.fail_when(
            move |_, _| {
                let mut calls = calls.lock().unwrap();
                *calls += 1;
                *calls > at
            },
            ErrorKind::Io,
        );
        let ended = copy(&source, &target).is_ok();
        drop(target);
        let target = open(support_environment(&storage, 78), Flavor::sealed()).unwrap();
        let there = ops::list_snapshots(&target, &SnapshotFilter::default()).unwrap().len();
        let report = copy(&source, &target).unwrap();
        assert_eq!(
            (report.copied.len(), report.skipped.len()),
            (2 - there, there),
            "cut at {at}"
        );
        for original in &originals {
            assert_copy(&source, original, &target, original.origin(source.config().id));
        }
        if ended {
            assert!(at > 50);
            assert_healthy(&target);
            break;
        }
    }
}

fn support_environment(storage: &Arc<dyn Storage>, seed: u64) -> Environment {
    environment(Arc::clone(storage), seed)
}

#[test]
fn damage_is_read_through_parity_or_ends_one_snapshot_and_not_the_others() {
    for with_parity in [true, false] {
        let (source, storage) = repository(Flavor::plain(), with_parity, 1);
        let first = ingest(&source, &random_bytes(1, 100_000)).unwrap();
        let own = storage.list(layout::DATA).unwrap();
        let second = ingest(&source, &random_bytes(2, 100_000)).unwrap();
        let packs = own.iter().filter(|file| file.key.ends_with(".pack"));
        // one with data, and not with lists
        let pack = packs.max_by_key(|file| file.len).unwrap();
        let mut bytes = storage.get(&pack.key, 1 << 30).unwrap();
        bytes[5000] ^= 1;
        storage.delete(&pack.key).unwrap();
        put_bytes(&*storage, &pack.key, &bytes).unwrap();
        let (target, _) = repository(Flavor::sealed(), true, 2);
        let report = copy(&source, &target).unwrap();
        if with_parity {
            assert_eq!((report.copied.len(), report.failed.len()), (2, 0));
            assert_copy(&source, &first, &target, first.origin(source.config().id));
        } else {
            assert_eq!(report.copied.len(), 1);
            let (id, error) = &report.failed[0];
            assert_eq!((*id, error.code()), (first.id, "ERR_CHUNK_CORRUPT"));
        }
        assert_copy(&source, &second, &target, second.origin(source.config().id));
        assert_healthy(&target);
    }
}

#[test]
fn chunks_that_are_larger_than_those_of_the_target_are_taken_as_they_are() {
    let (source, _) = {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let options = InitOptions {
            chunking: containerarchive::chunk::ChunkerParams {
                min: 65_536,
                avg: 262_144,
                max: 1_048_576,
            },
            ..Flavor::plain().small()
        };
        let repo = repo::init(environment(Arc::clone(&storage), 1), None, &options).unwrap();
        (Arc::new(repo), storage)
    };
    let data = random_bytes(1, 3_000_000);
    let original = ingest(&source, &data).unwrap();
    let (target, _) = repository(Flavor::sealed(), true, 2);
    let report = copy(&source, &target).unwrap();
    assert!(restore(&target, &report.copied[0].to.to_hex(), None).unwrap() == data);
    assert_copy(&source, &original, &target, original.origin(source.config().id));
    assert_healthy(&target);
}
