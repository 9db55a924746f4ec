//! Object storage in the in-memory store of `object_store`.

use super::*;
use crate::entropy::OsEntropy;
use crate::storage::{ErrorKind, conformance, put_bytes};
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
