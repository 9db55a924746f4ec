//! Ingested streams restore to exactly the same bytes.

use crate::support::*;
use containerarchive::layout;
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{self, IngestOptions, ItemSpec, ItemStream, ReaderItems, RestoreOptions};
use containerarchive::snapshot::SnapshotFilter;
use containerarchive::storage::MemoryStorage;
use std::io::Read;
use std::sync::{Arc, Mutex};

#[test]
fn data_of_every_size_is_restored_in_every_flavor() {
    for flavor in flavors() {
        let (repo, storage) = memory_repo(flavor);
        let mut snapshots = Vec::new();
        for (number, len) in [0usize, 1, 255, 256, 257, 4095, 4096, 4097, 100_000, 1_000_000]
            .into_iter()
            .enumerate()
        {
            for data in [
                random_bytes(number as u64, len),
                text_bytes(number as u64, len),
                vec![0u8; len],
            ] {
                let snapshot = ingest(&repo, &data).unwrap();
                assert_eq!(snapshot.original_size, len as u64);
                assert_eq!(
                    restore(&repo, &snapshot.id.to_hex(), None).unwrap(),
                    data,
                    "{flavor:?} {len}"
                );
                snapshots.push((snapshot.id.to_hex(), data));
            }
        }
        // and from a newly opened handle
        let again = open(environment(storage, 8), flavor).unwrap();
        for (id, data) in snapshots {
            assert_eq!(restore(&again, &id, None).unwrap(), data, "{flavor:?}");
        }
    }
}

#[test]
fn ingesting_the_same_data_again_stores_nothing_new() {
    for flavor in flavors() {
        let (repo, storage) = memory_repo(flavor);
        let data = random_bytes(1, 500_000);
        let first = ingest(&repo, &data).unwrap();
        assert_eq!((first.reused_chunks, first.new_chunks), (0, first.chunk_count));
        assert!(first.stored_size >= 500_000);
        let again = open(environment(storage, 9), flavor).unwrap();
        let second = ingest(&again, &data).unwrap();
        assert_eq!(
            (second.reused_chunks, second.new_chunks),
            (first.chunk_count, 0),
            "{flavor:?}"
        );
        assert_eq!(second.stored_size, 0);
    }
}

#[test]
fn a_change_in_the_middle_stores_only_the_chunks_near_it() {
    let (repo, _) = memory_repo(Flavor::sealed());
    let mut data = random_bytes(1, 1_000_000);
    let first = ingest(&repo, &data).unwrap();
    data.splice(500_000..500_000, *b"something new");
    let second = ingest(&repo, &data).unwrap();
    assert!(
        second.new_chunks <= 4,
        "{} of {} chunks",
        second.new_chunks,
        first.chunk_count
    );
    assert_eq!(restore(&repo, &second.id.to_hex(), None).unwrap(), data);
}

#[test]
fn items_are_restored_one_by_one_and_all_together() {
    for flavor in flavors() {
        let (repo, _) = memory_repo(flavor);
        let big = random_bytes(3, 700_000);
        let items: Vec<(&str, &[u8])> = vec![("a/../b\n", b"first"), ("empty", b""), ("big", &big), ("ü", b"last")];
        let snapshot = ingest_items(&repo, &items).unwrap();
        let id = snapshot.id.to_hex();
        for (name, data) in &items {
            assert_eq!(restore(&repo, &id, Some(name)).unwrap(), *data);
        }
        let all: Vec<u8> = items.iter().flat_map(|(_, data)| data.to_vec()).collect();
        assert_eq!(restore(&repo, &id, None).unwrap(), all);
        assert_eq!(
            restore(&repo, &id, Some("missing")).unwrap_err().code(),
            "ERR_ITEM_NOT_FOUND"
        );
    }
}

#[test]
fn any_restored_range_is_a_slice_of_the_item() {
    let (repo, _) = memory_repo(Flavor::sealed());
    let (one, two) = (random_bytes(1, 300_000), random_bytes(2, 50_000));
    let snapshot = ingest_items(&repo, &[("one", &one), ("two", &two)]).unwrap();
    let id = snapshot.id.to_hex();
    let all = [one.clone(), two].concat();
    let size = all.len() as u64;
    for (start, end) in [
        (0, 0),
        (0, 1),
        (299_999, 300_001),
        (300_000, size),
        (123_456, 234_567),
        (size, size),
    ] {
        let options = RestoreOptions {
            item: None,
            range: Some((start, Some(end))),
        };
        assert_eq!(
            restore_with(&repo, &id, &options).unwrap(),
            all[start as usize..end as usize],
            "{start}..{end}"
        );
    }
    let options = RestoreOptions {
        item: Some("one".to_owned()),
        range: Some((250_000, None)),
    };
    assert_eq!(restore_with(&repo, &id, &options).unwrap(), one[250_000..]);
    for range in [(size + 1, None), (5, Some(4)), (0, Some(size + 1))] {
        let options = RestoreOptions {
            item: None,
            range: Some(range),
        };
        assert_eq!(restore_with(&repo, &id, &options).unwrap_err().code(), "ERR_RANGE");
    }
}

#[test]
fn a_source_that_fails_leaves_no_snapshot_and_a_retry_reuses_its_chunks() {
    struct Breaks<'a>(&'a [u8]);
    impl Read for Breaks<'_> {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            if self.0.is_empty() {
                return Err(std::io::Error::other("pg_dump died"));
            }
            self.0.read(out)
        }
    }
    for flavor in flavors() {
        let (repo, _) = memory_repo(flavor);
        // longer than a batch, so that something is stored when the source fails
        let data = random_bytes(5, 3_000_000);
        let mut items = ReaderItems::one("dump", "sql", Breaks(&data));
        let error = ops::ingest(&repo, &mut items, &IngestOptions::default(), &NullMonitor).unwrap_err();
        assert_eq!(error.code(), "ERR_SOURCE_FAILED");
        assert!(error.to_string().contains("pg_dump died"));
        assert!(
            ops::list_snapshots(&repo, &SnapshotFilter::default())
                .unwrap()
                .is_empty()
        );
        let retry = ingest(&repo, &data).unwrap();
        assert!(
            retry.reused_chunks > retry.chunk_count / 2,
            "{} of {}",
            retry.reused_chunks,
            retry.chunk_count
        );
    }
}

#[test]
fn a_source_of_the_wrong_size_leaves_neither_a_snapshot_nor_a_copy_of_its_manifest() {
    let data = random_bytes(6, 3_000_000);
    let promised = |size: u64| ItemSpec {
        expected_size: Some(size),
        ..ItemSpec::new("dump", "sql")
    };
    let (repo, storage) = memory_repo(Flavor::plain());
    let ingest_one = |spec: ItemSpec, reader: Box<dyn Read + Send + '_>| {
        let mut items = ReaderItems::new(vec![
            (
                ItemSpec::new("first", "x"),
                Box::new(&b"first"[..]) as Box<dyn Read + Send>,
            ),
            (spec, reader),
        ]);
        ops::ingest(&repo, &mut items, &IngestOptions::default(), &NullMonitor)
    };
    for size in [0, 1, 2_999_999, 3_000_001, u64::MAX] {
        let error = ingest_one(promised(size), Box::new(&data[..])).unwrap_err();
        assert_eq!(error.code(), "ERR_SOURCE_FAILED");
        assert!(error.to_string().contains(&size.to_string()), "{error}");
    }
    // an endless source is not read much further than the promised size
    let error = ingest_one(promised(10), Box::new(std::io::repeat(7))).unwrap_err();
    assert_eq!(error.code(), "ERR_SOURCE_FAILED");
    assert!(storage.list(layout::SNAPSHOTS).unwrap().is_empty());
    // a record is written only if the copy of a manifest may have been written
    assert!(storage.list(layout::RECORDS).unwrap().is_empty());

    let snapshot = ingest_one(promised(3_000_000), Box::new(&data[..])).unwrap();
    assert_eq!(restore(&repo, &snapshot.id.to_hex(), Some("dump")).unwrap(), data);
    let empty = ingest_one(promised(0), Box::new(&b""[..])).unwrap();
    assert_eq!(empty.original_size, 5);
}

#[test]
fn item_names_may_be_any_text_but_must_be_present_and_unique() {
    let (repo, _) = memory_repo(Flavor::plain());
    for items in [
        vec![("same", &b"1"[..]), ("same", b"2")],
        vec![("", b"1")],
        vec![(&*"x".repeat(4097), b"1")],
    ] {
        assert_eq!(ingest_items(&repo, &items).unwrap_err().code(), "ERR_INVALID_ARGUMENT");
    }
    assert!(
        ops::list_snapshots(&repo, &SnapshotFilter::default())
            .unwrap()
            .is_empty()
    );
}

#[test]
fn the_number_of_workers_does_not_change_the_result() {
    let data = [text_bytes(1, 20_000_000), random_bytes(2, 10_000_000)].concat();
    let mut lists = Vec::new();
    for threads in [1, 2, 8] {
        let storage = Arc::new(MemoryStorage::new());
        let environment = threaded_environment(storage, 1, threads);
        let repo = init(
            environment,
            Flavor {
                encrypted: false,
                ..Flavor::sealed()
            },
        )
        .unwrap();
        let items = vec![
            (ItemSpec::new("a", "x"), Box::new(&data[..]) as Box<dyn Read + Send>),
            (
                ItemSpec::new("b", "x"),
                Box::new(&data[..15_000_000]) as Box<dyn Read + Send>,
            ),
        ];
        let options = IngestOptions {
            digest_sha256: true,
            ..IngestOptions::default()
        };
        let snapshot = ops::ingest(&repo, &mut ReaderItems::new(items), &options, &NullMonitor).unwrap();
        assert_eq!(restore(&repo, &snapshot.id.to_hex(), Some("a")).unwrap(), data);
        assert_eq!(
            restore(&repo, &snapshot.id.to_hex(), Some("b")).unwrap(),
            data[..15_000_000]
        );
        lists.push((snapshot.items, snapshot.chunk_count, snapshot.new_chunks));
    }
    assert_eq!(lists[0], lists[1]);
    assert_eq!(lists[0], lists[2]);
}

/// Distributes items to lanes: item `i` is in lane `i % lanes`.
fn lanes_of(items: &[Vec<u8>], lanes: usize) -> Vec<Box<dyn ItemStream + Send + '_>> {
    let lane = |lane: usize| {
        let of_lane = items.iter().enumerate().skip(lane).step_by(lanes);
        let items = of_lane.map(|(number, data)| {
            let spec = ItemSpec {
                position: number as u64,
                ..ItemSpec::new(&format!("item {number}"), "x")
            };
            (spec, Box::new(&data[..]) as Box<dyn Read + Send>)
        });
        Box::new(ReaderItems::new(items.collect())) as _
    };
    (0..lanes).map(lane).collect()
}

#[test]
fn items_read_concurrently_keep_their_order_and_bytes() {
    let items: Vec<Vec<u8>> = (0..23)
        .map(|n| random_bytes(n, (n as usize * 77_777) % 900_000))
        .collect();
    for flavor in flavors() {
        for lanes in [2, 3, 16] {
            let (repo, _) = memory_repo(flavor);
            let snapshot = ops::ingest_lanes(
                &repo,
                &mut lanes_of(&items, lanes),
                &IngestOptions::default(),
                &NullMonitor,
                &|error| panic!("{error}"),
            )
            .unwrap();
            for (number, (item, data)) in snapshot.items.iter().zip(&items).enumerate() {
                assert_eq!(item.name, format!("item {number}"));
                let got = restore(&repo, &snapshot.id.to_hex(), Some(&item.name)).unwrap();
                assert!(got == *data, "{flavor:?}, {lanes} lanes, {}", item.name);
            }
            assert_eq!(restore(&repo, &snapshot.id.to_hex(), None).unwrap(), items.concat());
            // ingested one after the other, they are the same chunks
            let again = ops::ingest_lanes(
                &repo,
                &mut lanes_of(&items, 1),
                &IngestOptions::default(),
                &NullMonitor,
                &|error| panic!("{error}"),
            );
            assert_eq!(again.unwrap().new_chunks, 0);
        }
    }
}

#[test]
fn the_first_failure_ends_all_items_that_are_read_concurrently() {
    struct Breaks;
    impl Read for Breaks {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("failed"))
        }
    }
    let (repo, storage) = memory_repo(Flavor::plain());
    let failures = Mutex::new(Vec::new());
    let mut lanes: Vec<Box<dyn ItemStream + Send>> = vec![
        Box::new(ReaderItems::one("endless", "x", std::io::repeat(1))),
        Box::new(ReaderItems::one("breaks", "x", Breaks)),
        Box::new(ReaderItems::one("endless too", "x", std::io::repeat(2))),
    ];
    let error = ops::ingest_lanes(&repo, &mut lanes, &IngestOptions::default(), &NullMonitor, &|error| {
        failures.lock().unwrap().push(error.to_string())
    })
    .unwrap_err();
    assert!(error.to_string().contains("\"breaks\""), "{error}");
    assert_eq!(*failures.lock().unwrap(), [error.to_string()]);
    // names are unique across lanes
    let twice = || Box::new(ReaderItems::one("same", "x", &b"1"[..])) as Box<dyn ItemStream + Send>;
    let mut lanes = vec![twice(), twice()];
    let error = ops::ingest_lanes(&repo, &mut lanes, &IngestOptions::default(), &NullMonitor, &|_| {});
    assert_eq!(error.unwrap_err().code(), "ERR_INVALID_ARGUMENT");
    assert!(storage.list(layout::SNAPSHOTS).unwrap().is_empty());
    assert!(storage.list(layout::RECORDS).unwrap().is_empty());
}

#[test]
fn list_and_get_find_snapshots_by_tag_date_and_prefix() {
    let (repo, _) = memory_repo(Flavor::sealed());
    let mut ids = Vec::new();
    for day in 0..5i64 {
        let options = IngestOptions {
            tags: [("db".to_owned(), format!("{}", day % 2))].into(),
            created_at_ms: Some(day * 86_400_000),
            ..IngestOptions::default()
        };
        let mut items = ReaderItems::one("data", "data", &b"x"[..]);
        ids.push(ops::ingest(&repo, &mut items, &options, &NullMonitor).unwrap().id);
    }
    let list = |filter: SnapshotFilter| -> Vec<_> {
        ops::list_snapshots(&repo, &filter)
            .unwrap()
            .into_iter()
            .map(|snapshot| snapshot.id)
            .collect()
    };
    assert_eq!(
        list(SnapshotFilter::default()),
        ids.iter().rev().copied().collect::<Vec<_>>()
    );
    let odd = SnapshotFilter {
        tags: [("db".to_owned(), "1".to_owned())].into(),
        ..SnapshotFilter::default()
    };
    assert_eq!(list(odd.clone()), [ids[3], ids[1]]);
    let latest = |filter: &SnapshotFilter| ops::latest_snapshot(&repo, filter).unwrap().map(|snapshot| snapshot.id);
    assert_eq!(latest(&odd), Some(ids[3]));
    assert_eq!(latest(&SnapshotFilter::default()), Some(ids[4]));
    let middle = SnapshotFilter {
        after_ms: Some(86_400_000),
        before_ms: Some(3 * 86_400_000),
        ..SnapshotFilter::default()
    };
    assert_eq!(list(middle.clone()), [ids[2], ids[1]]);
    assert_eq!(latest(&middle), Some(ids[2]));
    let none = SnapshotFilter {
        after_ms: Some(9 * 86_400_000),
        ..SnapshotFilter::default()
    };
    assert_eq!(latest(&none), None);
    let prefix = &ids[2].to_hex()[..8];
    assert_eq!(ops::get_snapshot(&repo, prefix).unwrap().id, ids[2]);
    assert_eq!(ops::get_snapshot(&repo, "latest").unwrap().id, ids[4]);
    for unknown in ["", "abc", "ffffffffffffffffffffffffffffffff", "../../config"] {
        assert_eq!(
            ops::get_snapshot(&repo, unknown).unwrap_err().code(),
            "ERR_SNAPSHOT_NOT_FOUND",
            "{unknown}"
        );
    }
}

#[test]
fn packs_keep_to_their_target_length() {
    for flavor in flavors() {
        let (repo, storage) = memory_repo(flavor);
        ingest(&repo, &random_bytes(21, 500_000)).unwrap();
        let files = storage.list("packs/data").unwrap();
        let packs: Vec<u64> = files
            .iter()
            .filter(|file| file.key.ends_with(".pack"))
            .map(|file| file.len)
            .collect();
        assert!(packs.len() >= 9, "{flavor:?}");
        assert!(packs.iter().all(|&len| len <= 65_536), "{flavor:?}: {packs:?}");
    }
}

#[test]
fn snapshots_without_new_data_do_not_accumulate_segments() {
    let (repo, storage) = memory_repo(Flavor::plain());
    let data = random_bytes(22, 50_000);
    for _ in 0..20 {
        ingest(&repo, &data).unwrap();
    }
    let files = storage.list("index").unwrap();
    let segments = files.iter().filter(|file| file.key.ends_with(".seg")).count();
    assert!(segments <= 3, "{segments}");
}
