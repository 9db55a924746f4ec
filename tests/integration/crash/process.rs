//! Processes on the simulated disk that are killed, and threads that take turns on it.

use containerarchive::layout;
use containerarchive::storage::simfs::SimFs;
use containerarchive::storage::vfs::{DirEntry, FileId, FileKind, FolderIdentity, Vfs, VfsFile};
use containerarchive::storage::{Created, Entry, LocalStorage, LockGuard, LockMode, Result, Storage};
use std::cell::Cell;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// The view of the disk of a process that is killed before one of its mutating calls. After that it
/// makes no calls, and its locks are released when its files are dropped. The disk keeps running,
/// with everything that the process did not flush.
pub struct Process {
    disk: SimFs,
    left: Arc<AtomicU64>,
    /// A directory whose flushes have no effect.
    skips_fsync_of: Option<&'static str>,
}

/// An open file of a [`Process`].
struct ProcessFile {
    file: Box<dyn VfsFile>,
    left: Arc<AtomicU64>,
}

fn killed() -> io::Error {
    io::Error::other("the process was killed")
}

/// Counts one call, and fails if none is left.
fn spend(left: &AtomicU64) -> io::Result<()> {
    let spent = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
    spent.map(|_| ()).map_err(|_| killed())
}

impl Process {
    /// Creates a process that makes `calls` mutating calls and is killed before the next one.
    pub fn killed_after(disk: &SimFs, calls: u64) -> Self {
        Self {
            disk: disk.clone(),
            left: Arc::new(AtomicU64::new(calls)),
            skips_fsync_of: None,
        }
    }

    /// Creates a process that is never killed, and whose flushes of one directory have no effect.
    pub fn skips_fsync_of(disk: &SimFs, folder: &'static str) -> Self {
        Self {
            skips_fsync_of: Some(folder),
            ..Self::killed_after(disk, u64::MAX)
        }
    }

    fn file(&self, file: Box<dyn VfsFile>) -> Box<dyn VfsFile> {
        let left = Arc::clone(&self.left);
        Box::new(ProcessFile { file, left })
    }
}

impl Vfs for Process {
    fn create_new(&self, path: &str) -> io::Result<Box<dyn VfsFile>> {
        spend(&self.left)?;
        Ok(self.file(self.disk.create_new(path)?))
    }

    fn open(&self, path: &str) -> io::Result<Box<dyn VfsFile>> {
        Ok(self.file(self.disk.open(path)?))
    }

    fn open_lock(&self, path: &str) -> io::Result<Box<dyn VfsFile>> {
        Ok(self.file(self.disk.open_lock(path)?))
    }

    fn rename_noreplace(&self, from: &str, to: &str) -> io::Result<()> {
        spend(&self.left)?;
        self.disk.rename_noreplace(from, to)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        spend(&self.left)?;
        self.disk.link(from, to)
    }

    fn rename_over(&self, from: &str, to: &str) -> io::Result<()> {
        spend(&self.left)?;
        self.disk.rename_over(from, to)
    }

    fn unlink(&self, path: &str) -> io::Result<()> {
        spend(&self.left)?;
        self.disk.unlink(path)
    }

    fn mkdir(&self, path: &str) -> io::Result<()> {
        spend(&self.left)?;
        self.disk.mkdir(path)
    }

    fn fsync_dir(&self, path: &str) -> io::Result<()> {
        spend(&self.left)?;
        if self.skips_fsync_of == Some(path) {
            return Ok(());
        }
        self.disk.fsync_dir(path)
    }

    fn kind(&self, path: &str) -> io::Result<Option<FileKind>> {
        self.disk.kind(path)
    }

    fn root_identity(&self) -> io::Result<Option<FolderIdentity>> {
        self.disk.root_identity()
    }

    fn file_id(&self, path: &str) -> io::Result<Option<FileId>> {
        self.disk.file_id(path)
    }

    fn list(&self, path: &str) -> io::Result<Vec<DirEntry>> {
        self.disk.list(path)
    }
}

impl VfsFile for ProcessFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        spend(&self.left)?;
        self.file.write(bytes)
    }

    fn fsync(&self) -> io::Result<()> {
        spend(&self.left)?;
        self.file.fsync()
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        self.file.start_writeback(offset, len);
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, out)
    }

    fn id(&self) -> Option<FileId> {
        self.file.id()
    }

    fn size(&self) -> u64 {
        self.file.size()
    }

    fn try_lock(&self, mode: LockMode) -> io::Result<bool> {
        self.file.try_lock(mode)
    }

    fn unlock(&self) {
        self.file.unlock();
    }
}

/// A store that runs a hook right before its commit lock is taken, and may exclude packs of other
/// sessions from its barriers.
pub struct Watched {
    pub inner: LocalStorage,
    /// The number of times that the commit lock was requested.
    pub commit_locks: AtomicUsize,
    /// Runs once, when the commit lock is requested for the manifest.
    pub before_commit: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// Whether barriers cover only what this store wrote itself.
    pub own_only: bool,
}

impl Storage for Watched {
    fn put_new(&self, key: &str, len: u64, reader: &mut dyn Read) -> Result<Created> {
        self.inner.put_new(key, len, reader)
    }

    fn get(&self, key: &str, max_len: u64) -> Result<Vec<u8>> {
        self.inner.get(key, max_len)
    }

    fn get_range(&self, key: &str, offset: u64, out: &mut [u8]) -> Result<()> {
        self.inner.get_range(key, offset, out)
    }

    fn size(&self, key: &str) -> Result<Option<u64>> {
        self.inner.size(key)
    }

    fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        self.inner.list(prefix)
    }

    fn delete(&self, key: &str) -> Result<()> {
        self.inner.delete(key)
    }

    fn barrier(&self) -> Result<()> {
        self.inner.barrier()
    }

    fn lease(&self, key: &str, bytes: &[u8]) -> Result<Box<dyn LockGuard>> {
        self.inner.lease(key, bytes)
    }

    fn lease_held(&self, key: &str) -> Result<Option<bool>> {
        self.inner.lease_held(key)
    }

    fn lock(&self, key: &str, mode: LockMode, wait: Duration) -> Result<Option<Box<dyn LockGuard>>> {
        // the first request is for the copy of the manifest
        if key == layout::COMMIT_LOCK && self.commit_locks.fetch_add(1, Ordering::Relaxed) == 1 {
            let happens = self.before_commit.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(happens) = happens {
                happens();
            }
        }
        self.inner.lock(key, mode, wait)
    }

    fn probe_locks(&self, key: &str) -> Result<()> {
        self.inner.probe_locks(key)
    }

    fn replace_damaged(&self, key: &str, bytes: &[u8]) -> Result<()> {
        self.inner.replace_damaged(key, bytes)
    }

    fn quarantine(&self, key: &str) -> Result<()> {
        self.inner.quarantine(key)
    }

    fn check_folders(&self, folders: &[&str]) -> Result<()> {
        self.inner.check_folders(folders)
    }

    fn root(&self) -> Result<containerarchive::storage::Root> {
        // changes nothing that other processes can see
        self.inner.root()
    }

    fn include_in_barrier(&self, prefix: &str) {
        if !self.own_only {
            self.inner.include_in_barrier(prefix);
        }
    }

    fn clean_temporary(&self, prefix: &str) -> Result<u64> {
        self.inner.clean_temporary(prefix)
    }

    fn create_folders(&self, folders: &[&str], allowed: &[&str]) -> Result<bool> {
        self.inner.create_folders(folders, allowed)
    }
}

/// The order in which two threads make mutating calls.
#[derive(Debug, Clone, Copy)]
pub enum Schedule {
    /// Strictly alternating.
    RoundRobin,
    /// Pseudo-random, from this seed.
    Seeded(u64),
    /// The first thread makes this many calls, then waits until the second has ended.
    Hold(u64),
}

impl Schedule {
    fn pick(self, step: u64) -> usize {
        match self {
            Self::RoundRobin => (step % 2) as usize,
            Self::Seeded(seed) => {
                let mixed = (seed ^ step).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                (mixed.wrapping_mul(mixed) >> 63) as usize
            }
            Self::Hold(calls) => usize::from(step >= calls),
        }
    }
}

thread_local! {
    static WHO: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Held by the one of two threads that may run, and passed on before each mutating call, so that a
/// run is repeatable.
pub struct Baton {
    schedule: Schedule,
    state: Mutex<Turn>,
    changed: Condvar,
}

struct Turn {
    step: u64,
    whose: usize,
    running: [bool; 2],
}

impl Turn {
    fn hand_on(&mut self, schedule: Schedule) {
        let wanted = schedule.pick(self.step);
        self.whose = if self.running[wanted] { wanted } else { 1 - wanted };
    }
}

/// The turn of the calling thread in the run. It ends when dropped.
pub struct Part<'a>(&'a Baton, usize);

impl Baton {
    pub fn new(schedule: Schedule) -> Arc<Self> {
        let mut turn = Turn {
            step: 0,
            whose: 0,
            running: [true; 2],
        };
        turn.hand_on(schedule);
        Arc::new(Self {
            schedule,
            state: Mutex::new(turn),
            changed: Condvar::new(),
        })
    }

    /// Registers the calling thread as number `me` and waits for its first turn.
    pub fn enter(&self, me: usize) -> Part<'_> {
        WHO.set(Some(me));
        self.wait(me, |_| {});
        Part(self, me)
    }

    /// Called before each mutating call. Returns when it is this thread's turn.
    pub fn before_call(&self) {
        if let Some(me) = WHO.get() {
            self.wait(me, |turn| turn.hand_on(self.schedule));
            self.state.lock().unwrap_or_else(PoisonError::into_inner).step += 1;
        }
    }

    fn wait(&self, me: usize, change: impl FnOnce(&mut Turn)) {
        let mut turn = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut turn);
        self.changed.notify_all();
        while turn.whose != me {
            turn = self.changed.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        WHO.set(None);
        let mut turn = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        turn.running[self.1] = false;
        turn.whose = 1 - self.1;
        self.0.changed.notify_all();
    }
}
