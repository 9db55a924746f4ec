//! A wrapper that records every call, for tests of the order of writes.
//!
//! It forwards every method unchanged. Calls are recorded when they begin, by the name of the
//! method.

use super::{ConditionalPut, Created, Entry, LockGuard, LockMode, Result, Root, Storage};
use crate::sync::lock;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A store whose calls are recorded.
pub struct RecordingStorage {
    inner: Arc<dyn Storage>,
    calls: Mutex<Vec<(&'static str, String)>>,
}

impl RecordingStorage {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self {
            inner,
            calls: Mutex::default(),
        }
    }

    /// Returns all calls so far: the name of the method and the key (empty for `barrier` and
    /// `create_folders`).
    pub fn calls(&self) -> Vec<(&'static str, String)> {
        lock(&self.calls).clone()
    }

    /// Clears the list of calls.
    pub fn clear(&self) {
        lock(&self.calls).clear();
    }

    fn note(&self, op: &'static str, key: &str) -> &dyn Storage {
        lock(&self.calls).push((op, key.to_owned()));
        &*self.inner
    }
}

impl Storage for RecordingStorage {
    fn put_new(&self, key: &str, len: u64, reader: &mut dyn Read) -> Result<Created> {
        self.note("put_new", key).put_new(key, len, reader)
    }

    fn get(&self, key: &str, max_len: u64) -> Result<Vec<u8>> {
        self.note("get", key).get(key, max_len)
    }

    fn get_range(&self, key: &str, offset: u64, out: &mut [u8]) -> Result<()> {
        self.note("get_range", key).get_range(key, offset, out)
    }

    fn size(&self, key: &str) -> Result<Option<u64>> {
        self.note("size", key).size(key)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        self.note("list", prefix).list(prefix)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.note("delete", key).delete(key)
    }

    fn barrier(&self) -> Result<()> {
        self.note("barrier", "").barrier()
    }

    fn check_folders(&self, folders: &[&str]) -> Result<()> {
        self.note("check_folders", "").check_folders(folders)
    }

    fn root(&self) -> Result<Root> {
        self.note("root", "").root()
    }

    fn include_in_barrier(&self, prefix: &str) {
        self.note("include_in_barrier", prefix).include_in_barrier(prefix);
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }

    fn conditional_put(&self) -> Option<ConditionalPut> {
        self.inner.conditional_put()
    }

    fn probe_conditional_put(&self) -> Result<ConditionalPut> {
        self.inner.probe_conditional_put()
    }

    fn forget_cached(&self) {
        self.inner.forget_cached();
    }

    fn forget_cached_of(&self, key: &str) {
        self.inner.forget_cached_of(key);
    }

    fn prefetch(&self, reads: Vec<super::Ask>) -> u64 {
        self.inner.prefetch(reads)
    }

    fn forget_prefetched(&self, announcement: u64) {
        self.inner.forget_prefetched(announcement);
    }

    fn put_last(&self, keys: Vec<String>, most: usize) -> Vec<String> {
        self.inner.put_last(keys, most)
    }

    fn clean_temporary(&self, prefix: &str) -> Result<u64> {
        self.note("clean_temporary", prefix).clean_temporary(prefix)
    }

    fn lease(&self, key: &str, bytes: &[u8]) -> Result<Box<dyn LockGuard>> {
        self.note("lease", key).lease(key, bytes)
    }

    fn lease_held(&self, key: &str) -> Result<Option<bool>> {
        self.note("lease_held", key).lease_held(key)
    }

    fn lock(&self, key: &str, mode: LockMode, wait: Duration) -> Result<Option<Box<dyn LockGuard>>> {
        self.note("lock", key).lock(key, mode, wait)
    }

    fn probe_locks(&self, key: &str) -> Result<()> {
        self.note("probe_locks", key).probe_locks(key)
    }

    fn replace_damaged(&self, key: &str, bytes: &[u8]) -> Result<()> {
        self.note("replace_damaged", key).replace_damaged(key, bytes)
    }

    fn quarantine(&self, key: &str) -> Result<()> {
        self.note("quarantine", key).quarantine(key)
    }

    fn create_folders(&self, folders: &[&str], allowed: &[&str]) -> Result<bool> {
        self.note("create_folders", "").create_folders(folders, allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MemoryStorage, conformance, put_bytes};
    use super::*;

    #[test]
    fn a_recorded_store_passes_the_conformance_tests() {
        conformance::run(|| Arc::new(RecordingStorage::new(Arc::new(MemoryStorage::new()))));
    }

    #[test]
    fn calls_are_recorded_in_order() {
        let store = RecordingStorage::new(Arc::new(MemoryStorage::new()));
        put_bytes(&store, "a/b", b"1").unwrap();
        store.barrier().unwrap();
        assert_eq!(
            store.calls(),
            [("put_new", "a/b".to_owned()), ("barrier", String::new())]
        );
        store.clear();
        assert_eq!(store.calls(), []);
    }
}
