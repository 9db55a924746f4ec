//! Object storage in the in-memory store of `object_store`.

use super::*;
use crate::entropy::OsEntropy;
use crate::storage::{ErrorKind, conformance, prefetch, put_bytes};
use object_store::memory::InMemory;
use std::sync::atomic::{AtomicUsize, Ordering};

fn new_storage(root: &str) -> RemoteStorage {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("memory-{number}");
    RemoteStorage::of_store(
        Arc::new(InMemory::new()),
        root,
        &name,
        Duration::ZERO,
        Arc::new(OsEntropy),
    )
}

#[test]
fn object_storage_keeps_the_promises_of_every_store() {
    conformance::run_without_kernel_locks(|| Arc::new(new_storage("")));
    conformance::run_without_kernel_locks(|| Arc::new(new_storage("a/deep-prefix")));
}

/// The same with requests ahead, as in production.
fn ahead(root: &str) -> Arc<RemoteStorage> {
    let mut storage = new_storage(root);
    storage.ahead = Ahead::new(2);
    Arc::new(storage)
}

fn get(key: &str) -> Ask {
    Ask::Get {
        key: key.to_owned(),
        max_len: 100,
    }
}

#[test]
fn a_store_with_requests_ahead_keeps_the_promises_of_every_store() {
    conformance::run_without_kernel_locks(|| ahead("x"));
}

#[test]
fn an_announced_read_is_made_once_and_answers_once() {
    let (storage, other) = (ahead("x"), new_storage("x"));
    put_bytes(storage.as_ref(), "a/k", b"1").unwrap();
    let announced = prefetch(storage.as_ref(), || {
        [
            get("a/k"),
            get("a/none"),
            Ask::Size("a/k".to_owned()),
            Ask::List("a".to_owned()),
        ]
    });
    assert_eq!(storage.ahead.len(), 4);
    assert_eq!(storage.get("a/k", 100).unwrap(), b"1");
    assert_eq!(
        storage.get("a/k", 100).unwrap(),
        b"1",
        "the second one is a request of its own"
    );
    assert_eq!(storage.get("a/none", 100).unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(storage.size("a/k").unwrap(), Some(1));
    assert_eq!(storage.list("a").unwrap().len(), 1);
    assert_eq!(storage.ahead.len(), 0);
    drop(announced);

    let announced = prefetch(storage.as_ref(), || [get("a/k"), get("a/none")]);
    let within = prefetch(storage.as_ref(), || [Ask::Size("a/k".to_owned())]);
    drop(within);
    assert_eq!(storage.ahead.len(), 2, "an announcement within another one ends alone");
    drop(announced);
    assert_eq!(storage.ahead.len(), 0);
    drop(prefetch(&other, || [get("a/k")]));
}

#[test]
fn an_announced_read_is_of_its_thread_and_sees_its_own_changes() {
    let storage = ahead("x");
    put_bytes(storage.as_ref(), "a/k", b"1").unwrap();
    let _announced = prefetch(storage.as_ref(), || {
        [
            get("a/k"),
            get("a/new"),
            Ask::Size("a/new".to_owned()),
            Ask::List("a".to_owned()),
        ]
    });
    std::thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(storage.get("a/k", 100).unwrap(), b"1");
            assert_eq!(storage.ahead.len(), 4, "another thread makes its own request");
        });
    });
    put_bytes(storage.as_ref(), "a/new", b"2").unwrap();
    assert_eq!(storage.get("a/new", 100).unwrap(), b"2");
    assert_eq!(storage.size("a/new").unwrap(), Some(1));
    assert_eq!(storage.list("a").unwrap().len(), 2);
    storage.delete("a/k").unwrap();
    assert_eq!(storage.get("a/k", 100).unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(storage.ahead.len(), 0);
}

#[test]
fn answers_that_nothing_takes_are_bounded() {
    let storage = ahead("x");
    let long = vec![7; 30 << 20];
    let keys = ["a/1", "a/2", "a/3"];
    for key in keys {
        put_bytes(storage.as_ref(), key, &long).unwrap();
    }
    let asks = || {
        keys.map(|key| Ask::Get {
            key: key.to_owned(),
            max_len: 1 << 30,
        })
    };
    let announced = prefetch(storage.as_ref(), asks);
    for key in keys {
        assert!(storage.get(key, 1 << 30).unwrap() == long);
    }
    drop(announced);
    assert_eq!(storage.ahead.waiting_bytes(), 0);
}

#[test]
fn the_manifests_that_were_put_last_are_told_by_a_listing() {
    let storage = new_storage("x");
    let keys: Vec<String> = (0..5).map(|number| format!("snapshots/{}.json", 9 - number)).collect();
    for key in &keys {
        put_bytes(&storage, key, b"1").unwrap();
    }
    storage.list("snapshots").unwrap();
    let mut sorted = keys.clone();
    sorted.sort();
    assert_eq!(storage.put_last(sorted, 2), [keys[4].clone(), keys[3].clone()]);
}

#[test]
fn the_probe_tells_a_service_that_honours_the_condition() {
    let storage = new_storage("x");
    assert_eq!(storage.conditional_put(), None, "nothing was asked yet");
    put_bytes(&storage, "a/k", b"1").unwrap();
    assert_eq!(storage.conditional_put(), Some(ConditionalPut::Honoured));
}

#[test]
fn long_files_are_sent_in_parts_and_broken_ones_leave_nothing() {
    let storage = new_storage("x");
    let bytes: Vec<u8> = (0..20 << 20).map(|i: u32| (i / 7) as u8).collect();
    assert_eq!(
        put_bytes(&storage, "packs/data/p.pack", &bytes).unwrap(),
        Created::Created
    );
    assert_eq!(
        put_bytes(&storage, "packs/data/p.pack", &bytes).unwrap(),
        Created::Exists
    );
    assert!(storage.get("packs/data/p.pack", 20 << 20).unwrap() == bytes);
    for len in [bytes.len() as u64 - 1, bytes.len() as u64 + 1] {
        let failed = storage.put_new("packs/data/q.pack", len, &mut &bytes[..]).unwrap_err();
        assert_eq!(failed.kind, ErrorKind::Source);
        assert_eq!(storage.size("packs/data/q.pack").unwrap(), None);
    }
}

#[test]
fn a_put_that_meets_its_own_bytes_has_succeeded() {
    // the answer to the first request was lost, and the request is repeated
    let storage = new_storage("");
    assert_eq!(put_bytes(&storage, "a/k", b"mine").unwrap(), Created::Created);
    assert_eq!(put_bytes(&storage, "a/k", b"mine").unwrap(), Created::Created);
    assert_eq!(put_bytes(&storage, "a/k", b"mine2").unwrap(), Created::Exists);
    assert_eq!(put_bytes(&storage, "a/k", b"min").unwrap(), Created::Exists);
}

#[test]
fn what_a_listing_shows_may_be_kept_since_an_earlier_process() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(InMemory::new());
    let process = || {
        let store: Arc<dyn ObjectStore> = Arc::clone(&store) as _;
        let storage = RemoteStorage::of_store(store, "x", "machine", Duration::ZERO, Arc::new(OsEntropy));
        storage.with_requests_ahead().keeping_in(folder.path().to_owned())
    };
    let manifest = "snapshots/a.json";
    let listed = |key: &str| Ask::Listed {
        key: key.to_owned(),
        max_len: 100,
    };
    let gone = |key: &str| {
        runtime::block_on(store.delete(&Path::from(format!("x/{key}"))))
            .unwrap()
            .unwrap()
    };
    let first = process();
    put_bytes(&first, manifest, b"manifest").unwrap();
    put_bytes(&first, "index/a.seg", b"segment").unwrap();
    for folder in ["snapshots", "index"] {
        first.list(folder).unwrap();
    }
    assert_eq!(first.get(manifest, 100).unwrap(), b"manifest");
    let mut segment = [0; 7];
    first.forget_cached_of("index/a.seg");
    first.list("index").unwrap();
    first.get_range("index/a.seg", 0, &mut segment).unwrap();

    // what these return was not requested
    let (second, third, checking) = (process(), process(), process());
    for storage in [&second, &third, &checking] {
        storage.list("snapshots").unwrap();
        storage.list("index").unwrap();
    }
    gone(manifest);
    gone("index/a.seg");
    let announced = prefetch(&second, || [listed(manifest), get("index/a.seg")]);
    assert_eq!(second.get(manifest, 100).unwrap(), b"manifest");
    second.get_range("index/a.seg", 0, &mut segment).unwrap();
    assert_eq!(&segment, b"segment");
    drop(announced);

    let _announced = prefetch(&third, || [get(manifest)]);
    assert_eq!(third.get(manifest, 100).unwrap_err().kind, ErrorKind::NotFound);
    checking.forget_cached();
    let _announced = prefetch(&checking, || [listed(manifest), get("index/a.seg")]);
    assert_eq!(checking.get(manifest, 100).unwrap_err().kind, ErrorKind::NotFound);
    let unread = checking.get_range("index/a.seg", 0, &mut segment).unwrap_err();
    assert_eq!(unread.kind, ErrorKind::NotFound);
}
