//! Shared by the tests of faults: a repository as a map of files, faults of one file, a source and
//! a store with hooks, and the checks of a repository with a fault.

use super::*;
use containerarchive::layout;
use containerarchive::monitor::Monitor;
use containerarchive::snapshot::SnapshotFilter;
use containerarchive::storage::{Created, Entry, LockGuard, LockMode, put_bytes};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// All files of a repository, by key.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Reads all files of a repository, except files in foreign directories.
pub fn files_of(storage: &dyn Storage) -> Files {
    let folders = std::iter::once("").chain(layout::FOLDERS);
    folders
        .flat_map(|folder| storage.list(folder).unwrap())
        .map(|entry| {
            let bytes = storage.get(&entry.key, u64::MAX).unwrap();
            (entry.key, bytes)
        })
        .collect()
}

/// A store in memory with these files.
pub fn memory_of(files: &Files) -> Arc<MemoryStorage> {
    let storage = MemoryStorage::new();
    for (key, bytes) in files {
        put_bytes(&storage, key, bytes).unwrap();
    }
    Arc::new(storage)
}

/// An environment whose warnings can be read.
pub fn watched(storage: Arc<dyn Storage>, seed: u64) -> (Environment, Arc<TestMonitor>) {
    let monitor = Arc::new(TestMonitor::default());
    let environment = Environment {
        monitor: monitor.clone(),
        ..environment(storage, seed)
    };
    (environment, monitor)
}

/// Returns the codes of the warnings so far.
pub fn codes(monitor: &TestMonitor) -> Vec<&'static str> {
    monitor.warnings().iter().map(|warning| warning.code).collect()
}

/// A small repository with known content: three snapshots with some shared chunks, with and without
/// lists.
pub struct Known {
    /// How it was created.
    pub flavor: Flavor,
    /// Its files.
    pub files: Files,
    /// Its snapshots and the plaintext of each.
    pub snapshots: Vec<(Snapshot, Vec<u8>)>,
}

impl Known {
    /// Creates the repository.
    pub fn new(flavor: Flavor) -> Self {
        let (repo, storage) = memory_repo(flavor);
        Self::filled(flavor, repo, storage)
    }

    /// Fills an empty repository.
    pub fn filled(flavor: Flavor, repo: Arc<Repository>, storage: Arc<dyn Storage>) -> Self {
        let one = random_bytes(1, 60_000);
        let mut two = one.clone();
        two.splice(30_000..30_000, *b"something new");
        let three = text_bytes(3, 10_000);
        let snapshots = [one, two, three]
            .into_iter()
            .map(|data| (ingest(&repo, &data).unwrap(), data))
            .collect();
        drop(repo);
        Self {
            flavor,
            files: files_of(storage.as_ref()),
            snapshots,
        }
    }

    /// Returns the keys in a directory with this ending.
    pub fn keys(&self, folder: &str, end: &str) -> Vec<String> {
        let inside =
            |key: &&String| key.rsplit_once('/').is_some_and(|(parent, _)| parent == folder) && key.ends_with(end);
        self.files.keys().filter(inside).cloned().collect()
    }

    /// Opens the repository with these files.
    pub fn open(&self, files: &Files) -> (Result<Arc<Repository>>, Arc<MemoryStorage>, Arc<TestMonitor>) {
        let storage = memory_of(files);
        let (environment, monitor) = watched(storage.clone(), 99);
        (open(environment, self.flavor), storage, monitor)
    }

    /// Opens, lists and restores with a fault in place. Every result must be correct or an error
    /// with a code that is no bug's; wrong bytes, wrong listings and panics fail the test. Returns
    /// the codes of all failures.
    pub fn judge(&self, files: &Files, what: &dyn Fn() -> String) -> Verdict {
        let mut verdict = Verdict::default();
        let (repo, storage, monitor) = self.open(files);
        let repo = match repo {
            Ok(repo) => repo,
            Err(error) => {
                assert_ne!(error.code(), "ERR_INTERNAL", "{}: open: {error}", what());
                assert_eq!(
                    files_of(storage.as_ref()),
                    *files,
                    "{}: a failed open changed files",
                    what()
                );
                verdict.open = Some(error.code());
                return verdict;
            }
        };
        let listed = ops::list_snapshots(&repo, &SnapshotFilter::default());
        let listed = listed.unwrap_or_else(|error| panic!("{}: list: {error}", what()));
        for snapshot in &listed {
            let known = self.snapshots.iter().any(|(known, _)| known == snapshot);
            assert!(known, "{}: listed a wrong snapshot {snapshot:?}", what());
        }
        verdict.listed = listed.len();
        for (snapshot, data) in &self.snapshots {
            verdict
                .restores
                .push(match restore(&repo, &snapshot.id.to_hex(), None) {
                    Ok(bytes) => {
                        assert!(bytes == *data, "{}: WRONG BYTES of snapshot {}", what(), snapshot.id);
                        None
                    }
                    Err(error) => {
                        assert_ne!(error.code(), "ERR_INTERNAL", "{}: restore: {error}", what());
                        Some(error.code())
                    }
                });
        }
        verdict.warnings = codes(&monitor);
        verdict
    }
}

/// The results of a repository with a fault.
#[derive(Debug, Default)]
pub struct Verdict {
    /// The code of the error of `open`, if it failed; then nothing else was tried.
    pub open: Option<&'static str>,
    /// The number of listed snapshots.
    pub listed: usize,
    /// For each snapshot, the code of the error of its restore, if it failed.
    pub restores: Vec<Option<&'static str>>,
    /// The codes of the warnings.
    pub warnings: Vec<&'static str>,
}

impl Verdict {
    /// Whether nothing failed and nothing is missing.
    pub fn is_intact(&self) -> bool {
        self.open.is_none() && self.restores.iter().all(Option::is_none) && self.listed == self.restores.len()
    }

    /// Returns the codes of all failed restores.
    pub fn failures(&self) -> Vec<&'static str> {
        self.restores.iter().copied().flatten().collect()
    }
}

/// Returns the faults of one file: a description, and the new bytes (`None`: deleted). `stride` is
/// the distance of flipped bytes.
pub fn faults(bytes: &[u8], other: Option<&[u8]>, stride: usize) -> Vec<(String, Option<Vec<u8>>)> {
    let mut faults = vec![
        ("deleted".to_owned(), None),
        ("emptied".to_owned(), Some(Vec::new())),
        ("with junk appended".to_owned(), Some([bytes, b"junk"].concat())),
        ("with a zero appended".to_owned(), Some([bytes, b"\0"].concat())),
        ("twice".to_owned(), Some([bytes, bytes].concat())),
        ("all zero".to_owned(), Some(vec![0; bytes.len()])),
    ];
    if let Some(other) = other {
        faults.push(("replaced by another of its kind".to_owned(), Some(other.to_vec())));
    }
    let len = bytes.len();
    let mut cuts: Vec<usize> = vec![
        1,
        8,
        95,
        96,
        97,
        4095,
        4096,
        len / 3,
        len / 2,
        len.saturating_sub(64),
        len.saturating_sub(1),
    ];
    cuts.sort_unstable();
    cuts.dedup();
    for cut in cuts.into_iter().filter(|&cut| cut < len) {
        faults.push((format!("cut to {cut} bytes"), Some(bytes[..cut].to_vec())));
    }
    for hole in (0..len).step_by(4096) {
        let mut holed = bytes.to_vec();
        holed[hole..(hole + 4096).min(len)].fill(0);
        if holed != bytes {
            faults.push((format!("with a hole at {hole}"), Some(holed)));
        }
    }
    let flips = (0..len).step_by(stride.max(1)).chain(len.saturating_sub(80)..len);
    for at in flips {
        let mut flipped = bytes.to_vec();
        flipped[at] ^= 1 << (at % 8);
        faults.push((format!("with byte {at} flipped"), Some(flipped)));
    }
    faults
}

/// Returns the files with one of them changed.
pub fn with(files: &Files, key: &str, bytes: Option<Vec<u8>>) -> Files {
    let mut changed = files.clone();
    match bytes {
        Some(bytes) => changed.insert(key.to_owned(), bytes),
        None => changed.remove(key),
    };
    changed
}

/// Data that calls `hook` once, when `at` bytes of it have been read.
pub struct HookedSource<'a, F: FnMut()> {
    /// The data.
    pub data: &'a [u8],
    /// The number of bytes that are read before the call.
    pub at: usize,
    /// Called then.
    pub hook: Option<F>,
    /// The number of bytes returned so far.
    pub given: usize,
}

impl<F: FnMut()> Read for HookedSource<'_, F> {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.given >= self.at
            && let Some(mut hook) = self.hook.take()
        {
            hook();
        }
        let before_hook = if self.hook.is_some() {
            self.at - self.given
        } else {
            usize::MAX
        };
        let len = out.len().min(self.data.len() - self.given).min(before_hook);
        out[..len].copy_from_slice(&self.data[self.given..self.given + len]);
        self.given += len;
        Ok(len)
    }
}

/// A monitor that runs `act` when the operation checks for cancellation for the `moment`-th time.
pub struct HookedMonitor {
    left: AtomicUsize,
    act: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl HookedMonitor {
    /// `moment` counts from 1.
    pub fn new(moment: usize, act: impl FnOnce() + Send + 'static) -> Self {
        Self {
            left: AtomicUsize::new(moment),
            act: Mutex::new(Some(Box::new(act))),
        }
    }
}

impl Monitor for HookedMonitor {
    fn is_cancelled(&self) -> bool {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1
            && let Some(act) = self.act.lock().unwrap().take()
        {
            act();
        }
        false
    }
}

type Hook = Box<dyn Fn(&'static str, &str) + Send + Sync>;

/// A store that forwards every call, and calls a hook before each one with the method's name and
/// its key (empty if it has none).
pub struct HookedStorage {
    inner: Arc<dyn Storage>,
    hook: Hook,
}

impl HookedStorage {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn Storage>, hook: impl Fn(&'static str, &str) + Send + Sync + 'static) -> Self {
        Self {
            inner,
            hook: Box::new(hook),
        }
    }

    fn pass(&self, op: &'static str, key: &str) -> &dyn Storage {
        (self.hook)(op, key);
        self.inner.as_ref()
    }
}

impl Storage for HookedStorage {
    fn put_new(&self, key: &str, len: u64, reader: &mut dyn Read) -> containerarchive::storage::Result<Created> {
        self.pass("put_new", key).put_new(key, len, reader)
    }

    fn is_remote(&self) -> bool {
        self.inner.is_remote()
    }

    fn get(&self, key: &str, max_len: u64) -> containerarchive::storage::Result<Vec<u8>> {
        self.pass("get", key).get(key, max_len)
    }

    fn get_range(&self, key: &str, offset: u64, out: &mut [u8]) -> containerarchive::storage::Result<()> {
        self.pass("get_range", key).get_range(key, offset, out)
    }

    fn size(&self, key: &str) -> containerarchive::storage::Result<Option<u64>> {
        self.pass("size", key).size(key)
    }

    fn list(&self, prefix: &str) -> containerarchive::storage::Result<Vec<Entry>> {
        self.pass("list", prefix).list(prefix)
    }

    fn delete(&self, key: &str) -> containerarchive::storage::Result<()> {
        self.pass("delete", key).delete(key)
    }

    fn barrier(&self) -> containerarchive::storage::Result<()> {
        self.pass("barrier", "").barrier()
    }

    fn lease(&self, key: &str, bytes: &[u8]) -> containerarchive::storage::Result<Box<dyn LockGuard>> {
        self.pass("lease", key).lease(key, bytes)
    }

    fn lease_held(&self, key: &str) -> containerarchive::storage::Result<Option<bool>> {
        self.pass("lease_held", key).lease_held(key)
    }

    fn lock(
        &self,
        key: &str,
        mode: LockMode,
        wait: Duration,
    ) -> containerarchive::storage::Result<Option<Box<dyn LockGuard>>> {
        self.pass("lock", key).lock(key, mode, wait)
    }

    fn probe_locks(&self, key: &str) -> containerarchive::storage::Result<()> {
        self.pass("probe_locks", key).probe_locks(key)
    }

    fn replace_damaged(&self, key: &str, bytes: &[u8]) -> containerarchive::storage::Result<()> {
        self.pass("replace_damaged", key).replace_damaged(key, bytes)
    }

    fn quarantine(&self, key: &str) -> containerarchive::storage::Result<()> {
        self.pass("quarantine", key).quarantine(key)
    }

    fn check_folders(&self, folders: &[&str]) -> containerarchive::storage::Result<()> {
        self.pass("check_folders", "").check_folders(folders)
    }

    fn root(&self) -> containerarchive::storage::Result<containerarchive::storage::Root> {
        // changes nothing that other processes can see
        self.inner.root()
    }

    fn include_in_barrier(&self, prefix: &str) {
        self.pass("include_in_barrier", prefix).include_in_barrier(prefix);
    }

    fn clean_temporary(&self, prefix: &str) -> containerarchive::storage::Result<u64> {
        self.pass("clean_temporary", prefix).clean_temporary(prefix)
    }

    fn create_folders(&self, folders: &[&str], allowed: &[&str]) -> containerarchive::storage::Result<bool> {
        self.pass("create_folders", "").create_folders(folders, allowed)
    }
}

/// Returns a checked JSON file with a part of its text replaced and a valid checksum.
pub fn forge(file: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = std::str::from_utf8(file).unwrap();
    let (body, _) = text.rsplit_once(",\"checksum\":\"").unwrap();
    assert!(body.contains(from), "{from} is not in {body}");
    containerarchive::checked_json::finish(format!("{}}}", body.replacen(from, to, 1))).into_bytes()
}

/// Whether a repository needs the file: lock files, marks of tails, the reserve and `README.txt`
/// are not needed.
pub fn is_needed(key: &str) -> bool {
    let unneeded = [layout::LOCKS, layout::TAILS]
        .iter()
        .any(|folder| key.starts_with(folder));
    !unneeded && !layout::is_reserve(key) && key != layout::README
}

/// Returns the code of an error, or `ok`.
pub fn code<T>(result: Result<T>) -> &'static str {
    result.map_or_else(|error| error.code(), |_| "ok")
}
