//! A wrapper that fails chosen calls, for tests of operations on a failing store.
//!
//! A failed call does not reach the wrapped store; every other call is forwarded unchanged. Faults
//! below the store (a failed flush, a full disk, a power cut) are those of the simulated disk.

use super::{ConditionalPut, Created, Entry, Error, ErrorKind, LockGuard, LockMode, Result, Root, Storage};
use crate::sync::lock;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

type Predicate = Box<dyn Fn(&'static str, &str) -> bool + Send>;

/// A store whose calls can be made to fail.
pub struct FaultyStorage {
    inner: Arc<dyn Storage>,
    plan: Mutex<Plan>,
}

#[derive(Default)]
struct Plan {
    calls: u64,
    numbered: Vec<(u64, ErrorKind)>,
    matching: Vec<(Predicate, ErrorKind)>,
    ranges: Vec<(u64, ErrorKind)>,
}

impl FaultyStorage {
    /// Wraps `inner`; nothing fails yet.
    pub fn new(inner: Arc<dyn Storage>) -> Self {
        Self {
            inner,
            plan: Mutex::default(),
        }
    }

    /// Fails call number `number`, counted from 0 since this wrapper was created.
    pub fn fail_call(&self, number: u64, kind: ErrorKind) {
        self.plan().numbered.push((number, kind));
    }

    /// Fails every call for which `matches` returns `true`; its arguments are the name of the
    /// method (for example `put_new`) and the key or prefix (empty for `barrier` and
    /// `create_folders`).
    pub fn fail_when(&self, matches: impl Fn(&'static str, &str) -> bool + Send + 'static, kind: ErrorKind) {
        self.plan().matching.push((Box::new(matches), kind));
    }

    /// Fails every `get_range` of any key whose range contains the byte at `offset`.
    pub fn fail_range(&self, offset: u64, kind: ErrorKind) {
        self.plan().ranges.push((offset, kind));
    }

    /// Removes all faults.
    pub fn heal(&self) {
        let mut plan = self.plan();
        plan.numbered.clear();
        plan.matching.clear();
        plan.ranges.clear();
    }

    /// Returns the number of calls so far, including failed ones.
    pub fn calls(&self) -> u64 {
        self.plan().calls
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        lock(&self.plan)
    }

    fn pass(&self, op: &'static str, key: &str) -> Result<&dyn Storage> {
        let mut plan = self.plan();
        let number = plan.calls;
        plan.calls += 1;
        let numbered = plan
            .numbered
            .iter()
            .find(|(at, _)| *at == number)
            .map(|(_, kind)| *kind);
        let fault = numbered.or_else(|| {
            plan.matching
                .iter()
                .find(|(hits, _)| hits(op, key))
                .map(|(_, kind)| *kind)
        });
        match fault {
            Some(kind) => Err(Error::new(kind, op, key)),
            None => Ok(&*self.inner),
        }
    }
}

impl Storage for FaultyStorage {
    fn put_new(&self, key: &str, len: u64, reader: &mut dyn Read) -> Result<Created> {
        self.pass("put_new", key)?.put_new(key, len, reader)
    }

    fn get(&self, key: &str, max_len: u64) -> Result<Vec<u8>> {
        self.pass("get", key)?.get(key, max_len)
    }

    fn get_range(&self, key: &str, offset: u64, out: &mut [u8]) -> Result<()> {
        let inner = self.pass("get_range", key)?;
        let end = offset.saturating_add(out.len() as u64);
        let bad = self
            .plan()
            .ranges
            .iter()
            .find(|(at, _)| (offset..end).contains(at))
            .copied();
        match bad {
            Some((_, kind)) => Err(Error::new(kind, "get_range", key)),
            None => inner.get_range(key, offset, out),
        }
    }

    fn size(&self, key: &str) -> Result<Option<u64>> {
        self.pass("size", key)?.size(key)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        self.pass("list", prefix)?.list(prefix)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.pass("delete", key)?.delete(key)
    }

    fn barrier(&self) -> Result<()> {
        self.pass("barrier", "")?.barrier()
    }

    fn check_folders(&self, folders: &[&str]) -> Result<()> {
        self.pass("check_folders", "")?.check_folders(folders)
    }

    fn root(&self) -> Result<Root> {
        self.pass("root", "")?.root()
    }

    fn include_in_barrier(&self, prefix: &str) {
        self.inner.include_in_barrier(prefix);
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
        self.pass("clean_temporary", prefix)?.clean_temporary(prefix)
    }

    fn lease(&self, key: &str, bytes: &[u8]) -> Result<Box<dyn LockGuard>> {
        self.pass("lease", key)?.lease(key, bytes)
    }

    fn lease_held(&self, key: &str) -> Result<Option<bool>> {
        self.pass("lease_held", key)?.lease_held(key)
    }

    fn lock(&self, key: &str, mode: LockMode, wait: Duration) -> Result<Option<Box<dyn LockGuard>>> {
        self.pass("lock", key)?.lock(key, mode, wait)
    }

    fn probe_locks(&self, key: &str) -> Result<()> {
        self.pass("probe_locks", key)?.probe_locks(key)
    }

    fn replace_damaged(&self, key: &str, bytes: &[u8]) -> Result<()> {
        self.pass("replace_damaged", key)?.replace_damaged(key, bytes)
    }

    fn quarantine(&self, key: &str) -> Result<()> {
        self.pass("quarantine", key)?.quarantine(key)
    }

    fn create_folders(&self, folders: &[&str], allowed: &[&str]) -> Result<bool> {
        self.pass("create_folders", "")?.create_folders(folders, allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{MemoryStorage, conformance, put_bytes};
    use super::*;

    fn faulty() -> FaultyStorage {
        FaultyStorage::new(Arc::new(MemoryStorage::new()))
    }

    #[test]
    fn a_wrapper_without_faults_passes_the_conformance_tests() {
        conformance::run(|| Arc::new(faulty()));
    }

    #[test]
    fn the_chosen_call_fails_and_changes_nothing() {
        let store = faulty();
        store.fail_call(1, ErrorKind::NoSpace);
        put_bytes(&store, "a", b"1").unwrap();
        assert_eq!(put_bytes(&store, "b", b"2").unwrap_err().kind, ErrorKind::NoSpace);
        assert_eq!(store.size("b").unwrap(), None);
        assert_eq!(put_bytes(&store, "b", b"2").unwrap(), Created::Created);
        assert_eq!(store.calls(), 4);
    }

    #[test]
    fn matching_calls_fail_until_healed() {
        let store = faulty();
        store.fail_when(|op, key| op == "put_new" && key.starts_with("packs/"), ErrorKind::Io);
        for _ in 0..2 {
            assert_eq!(put_bytes(&store, "packs/x", b"1").unwrap_err().kind, ErrorKind::Io);
        }
        put_bytes(&store, "index/x", b"1").unwrap();
        store.heal();
        put_bytes(&store, "packs/x", b"1").unwrap();
    }
}
