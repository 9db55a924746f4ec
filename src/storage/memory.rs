//! A store in memory, for tests and benches.
//!
//! It keeps the guarantees of every store, except that nothing outlives the process. Locks and
//! leases work between the users of one [`MemoryStorage`], shared through an `Arc`.

use super::key::{check_key, is_allowed};
use super::lock_table::LockTable;
use super::vfs::FileId;
use super::{Created, Entry, Error, ErrorKind, FolderIdentity, LockGuard, LockMode, Result, Root, Storage};
use crate::sync::lock;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// [`Storage`] in memory.
#[derive(Default)]
pub struct MemoryStorage {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    locks: LockTable<String>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, Arc<[u8]>>,
    leases: BTreeSet<String>,
    quarantined: u64,
}

impl MemoryStorage {
    /// Makes an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn file(&self, op: &'static str, key: &str) -> Result<Arc<[u8]>> {
        self.files
            .get(key)
            .cloned()
            .ok_or_else(|| Error::new(ErrorKind::NotFound, op, key))
    }
}

impl Storage for MemoryStorage {
    fn put_new(&self, key: &str, len: u64, reader: &mut dyn Read) -> Result<Created> {
        check_key("put", key)?;
        if self.state().files.contains_key(key) {
            return Ok(Created::Exists);
        }
        let source = |error| Error::of_source("put", key, error);
        let mut bytes = Vec::new();
        // one byte more than stated, to detect a longer reader
        let got = reader
            .take(len.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(source)?;
        if got as u64 != len {
            return Err(Error::new(ErrorKind::Source, "put", key));
        }
        let mut state = self.state();
        if state.files.contains_key(key) {
            return Ok(Created::Exists);
        }
        state.files.insert(key.to_owned(), bytes.into());
        Ok(Created::Created)
    }

    fn get(&self, key: &str, max_len: u64) -> Result<Vec<u8>> {
        check_key("get", key)?;
        let bytes = self.state().file("get", key)?;
        if bytes.len() as u64 > max_len {
            return Err(Error::new(ErrorKind::TooLarge, "get", key));
        }
        Ok(bytes.to_vec())
    }

    fn get_range(&self, key: &str, offset: u64, out: &mut [u8]) -> Result<()> {
        check_key("get", key)?;
        let bytes = self.state().file("get", key)?;
        copy_range(key, &bytes, offset, out)
    }

    fn size(&self, key: &str) -> Result<Option<u64>> {
        check_key("size", key)?;
        Ok(self.state().files.get(key).map(|bytes| bytes.len() as u64))
    }

    fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        let start = if prefix.is_empty() {
            String::new()
        } else {
            format!("{prefix}/")
        };
        let state = self.state();
        let inside = state
            .files
            .range(start.clone()..)
            .take_while(|(key, _)| key.starts_with(&start));
        let right_in = inside.filter(|(key, _)| !key[start.len()..].contains('/'));
        Ok(right_in
            .map(|(key, bytes)| Entry {
                key: key.clone(),
                len: bytes.len() as u64,
            })
            .collect())
    }

    fn delete(&self, key: &str) -> Result<()> {
        check_key("delete", key)?;
        self.state().files.remove(key);
        Ok(())
    }

    fn barrier(&self) -> Result<()> {
        Ok(())
    }

    fn root(&self) -> Result<Root> {
        Ok(Root::Found(Some(FolderIdentity {
            id: FileId {
                device: 0,
                inode: Arc::as_ptr(&self.shared).addr() as u64,
            },
            created: None,
        })))
    }

    fn include_in_barrier(&self, _prefix: &str) {}

    fn clean_temporary(&self, _prefix: &str) -> Result<u64> {
        Ok(0)
    }

    fn lease(&self, key: &str, bytes: &[u8]) -> Result<Box<dyn LockGuard>> {
        check_key("lease", key)?;
        let mut state = self.state();
        if state.files.contains_key(key) {
            return Err(Error::from_io("lease", key, io::ErrorKind::AlreadyExists.into()));
        }
        state.files.insert(key.to_owned(), bytes.into());
        state.leases.insert(key.to_owned());
        Ok(Box::new(LeaseGuard {
            shared: self.shared.clone(),
            key: key.to_owned(),
            left: AtomicBool::new(false),
        }))
    }

    fn lease_held(&self, key: &str) -> Result<Option<bool>> {
        check_key("lease", key)?;
        let state = self.state();
        Ok(state.files.contains_key(key).then(|| state.leases.contains(key)))
    }

    fn lock(&self, key: &str, mode: LockMode, wait: Duration) -> Result<Option<Box<dyn LockGuard>>> {
        check_key("lock", key)?;
        self.state().file("lock", key)?;
        Ok(self.shared.locks.lock(key.to_owned(), mode, wait))
    }

    fn probe_locks(&self, key: &str) -> Result<()> {
        check_key("lock", key)?;
        self.state().file("lock", key).map(|_| ())
    }

    fn replace_damaged(&self, key: &str, bytes: &[u8]) -> Result<()> {
        check_key("replace", key)?;
        let mut state = self.state();
        if let Some(old) = state.files.insert(key.to_owned(), bytes.into()) {
            state.quarantined += 1;
            let kept = format!("quarantine/{}-{:08x}", key.replace('/', "_"), state.quarantined);
            state.files.insert(kept, old);
        }
        Ok(())
    }

    fn quarantine(&self, key: &str) -> Result<()> {
        check_key("quarantine", key)?;
        let mut state = self.state();
        if let Some(old) = state.files.remove(key) {
            state.quarantined += 1;
            let kept = format!("quarantine/{}-{:08x}", key.replace('/', "_"), state.quarantined);
            state.files.insert(kept, old);
        }
        Ok(())
    }

    fn create_folders(&self, _folders: &[&str], allowed: &[&str]) -> Result<bool> {
        Ok(self.state().files.keys().all(|key| is_allowed(key, allowed)))
    }
}

/// Fills `out` from `offset` of a whole file; see [`Storage::get_range`].
pub(super) fn copy_range(key: &str, file: &[u8], offset: u64, out: &mut [u8]) -> Result<()> {
    let start = usize::try_from(offset).ok();
    let range = start.and_then(|start| Some(start..start.checked_add(out.len())?));
    let found = range.and_then(|range| file.get(range));
    out.copy_from_slice(found.ok_or_else(|| Error::new(ErrorKind::UnexpectedEnd, "get", key))?);
    Ok(())
}

struct LeaseGuard {
    shared: Arc<Shared>,
    key: String,
    left: AtomicBool,
}

impl LockGuard for LeaseGuard {
    fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.leases.remove(&self.key);
        if !self.left.load(Ordering::Relaxed) {
            state.files.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_keeps_the_promises_of_every_store() {
        super::super::conformance::run(|| Arc::new(MemoryStorage::new()));
    }
}
