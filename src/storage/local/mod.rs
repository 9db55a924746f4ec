//! A repository in a folder of a local (or mounted) file system.
//!
//! A file is written under a temporary name in its own folder, flushed, and only then renamed to its key, never over
//! another file (but for a damaged one, which has a second name in the quarantine by then). So a key always names complete, flushed bytes; what may still be missing after a power cut is the name,
//! and [`Storage::barrier`] flushes the folders that names were added to or removed from.
//!
//! Temporary files are kernel-locked while they are written: one whose lock is free belongs to nobody any more, and
//! [`Storage::clean_temporary`] removes it. A flush that failed is never tried again (the kernel may have dropped the
//! data and would report success); the handle then refuses every further put and barrier. Nothing was
//! flushed, and nothing is lost, where a barrier can open no folder for want of descriptors, and where a temporary file meets
//! a full disk: there the call fails alone.
//!
//! `temp` holds the half-written files, `folders` the making of folders.

mod folders;
mod temp;
#[cfg(test)]
mod tests;

use super::error::too_many_files;
use super::vfs::{FileKind, RealFs, Vfs, VfsFile, may_be_done};
use super::{Created, Entry, Error, ErrorKind, LockGuard, LockMode, Result, Root, Storage};
use crate::entropy::{Entropy, random};
use crate::id::to_hex;
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// First and longest pause between two tries for a lock.
const LOCK_PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));
/// How long a lease waits for those who ask at this instant whether it is held, and how often it is published anew when one
/// of them removes it.
const LEASE_WAIT: Duration = Duration::from_secs(1);
const LEASE_TRIES: usize = 8;
/// Where damaged files are moved.
const QUARANTINE: &str = "quarantine";

/// [`Storage`] in a folder.
pub struct LocalStorage {
    vfs: Arc<dyn Vfs>,
    entropy: Arc<dyn Entropy>,
    dirty: Mutex<Dirty>,
    /// Held while folders are flushed. Two flushes of one folder at a time could hide a failure: the kernel reports it to
    /// one of them only.
    flushing: Mutex<()>,
}

/// What the next barrier has to flush.
#[derive(Default)]
struct Dirty {
    /// Folder and the number of its last change.
    folders: BTreeMap<String, u64>,
    changes: u64,
    poisoned: bool,
}

impl LocalStorage {
    /// A store in the root of `vfs`; `entropy` makes temporary names.
    pub fn new(vfs: Arc<dyn Vfs>, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            vfs,
            entropy,
            dirty: Mutex::default(),
            flushing: Mutex::new(()),
        }
    }

    /// A store in the folder `root`, which need not exist (see [`Storage::create_folders`]). Nothing is read or made.
    pub fn open_path(root: &Path, entropy: Arc<dyn Entropy>) -> Result<Self> {
        let vfs = RealFs::new(root).map_err(|error| Error::from_io("open", root.to_string_lossy(), error))?;
        Ok(Self::new(Arc::new(vfs), entropy))
    }

    fn dirty(&self) -> MutexGuard<'_, Dirty> {
        // every change to it is a single assignment, so a panic elsewhere left it whole
        self.dirty.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that names in `folder` changed. Called after the change, so that no barrier in between forgets it.
    fn mark(&self, folder: &str) {
        let mut dirty = self.dirty();
        dirty.changes += 1;
        let change = dirty.changes;
        dirty.folders.insert(folder.to_owned(), change);
    }

    fn refuse_when_poisoned(&self, op: &'static str, path: &str) -> Result<()> {
        match self.dirty().poisoned {
            true => Err(Error::new(ErrorKind::Poisoned, op, path)),
            false => Ok(()),
        }
    }

    /// Makes the failure of a flush final.
    fn flushed(&self, op: &'static str, path: &str, result: io::Result<()>) -> Result<()> {
        result.map_err(|error| {
            self.dirty().poisoned = true;
            Error::from_io(op, path, error)
        })
    }

    fn random_hex<const N: usize>(&self, op: &'static str, key: &str) -> Result<String> {
        match random::<N>(&*self.entropy) {
            Ok(bytes) => Ok(to_hex(&bytes)),
            Err(_) => Err(Error::from_io(
                op,
                key,
                io::Error::other("the system gave no random bytes"),
            )),
        }
    }

    /// Gives what lies under `key` a second, durable name in the quarantine; `false` when nothing has that key any more.
    /// What can have no second name (a folder, or a file system without links) is moved.
    fn keep_in_quarantine(&self, op: &'static str, key: &str) -> Result<bool> {
        let io = |error| Error::from_io(op, key, error);
        let Some(kind) = self.vfs.kind(key).map_err(io)? else {
            return Ok(false);
        };
        self.make_folder(op, QUARANTINE)?;
        let name = format!("{}-{}", key.replace('/', "_"), self.random_hex::<4>(op, key)?);
        let name = join(QUARANTINE, &name);
        let linked = matches!(kind, FileKind::File { .. }) && self.has_linked(key, &name);
        if !linked {
            match self.vfs.rename_noreplace(key, &name) {
                // the answer was lost, and it is done: the name is random
                Err(error)
                    if may_be_done(&error)
                        && matches!(self.vfs.kind(key), Ok(None))
                        && matches!(self.vfs.kind(&name), Ok(Some(_))) => {}
                other => other.map_err(io)?,
            }
            self.mark(folder_of(key));
        }
        // two folders may become durable in any order: the new name first, or the file could be lost
        self.flushed(op, QUARANTINE, self.vfs.fsync_dir(QUARANTINE))?;
        Ok(linked)
    }

    /// Gives a file a second name, if the file system can do that.
    fn has_linked(&self, key: &str, name: &str) -> bool {
        match self.vfs.link(key, name) {
            Ok(()) => true,
            // the answer was lost
            Err(error) => {
                may_be_done(&error) && {
                    let ids = [key, name].map(|path| self.vfs.file_id(path).ok().flatten());
                    ids[0].is_some() && ids[0] == ids[1]
                }
            }
        }
    }

    /// Returns the handle through which others see the published lease `key` as held: `file`, which was locked before the
    /// key was its name; or, where a file system knows files by their paths (FUSE), so that a link is a second file
    /// without a lock, a handle of that. `None` when others have removed it as that of a dead session before it was locked.
    fn seen_as_held(&self, key: &str, file: Box<dyn VfsFile>) -> Option<Box<dyn VfsFile>> {
        // where it cannot be told, it is what it is almost everywhere
        let Ok(named) = self.vfs.open_lock(key) else {
            return Some(file);
        };
        if !named.try_lock(LockMode::Shared).is_ok_and(|free| free) {
            return Some(file);
        }
        let locked = wait_for_lock(&*named, LockMode::Exclusive, LEASE_WAIT).is_ok_and(|locked| locked);
        (locked && matches!(self.vfs.kind(key), Ok(Some(_)))).then_some(named)
    }
}

impl Storage for LocalStorage {
    fn put_new(&self, key: &str, len: u64, reader: &mut dyn Read) -> Result<Created> {
        check_key("put", key)?;
        self.refuse_when_poisoned("put", key)?;
        let io = |error| Error::from_io("put", key, error);
        let exists = || {
            // it may have been put by a process that did not flush the folder yet
            self.mark(folder_of(key));
            Ok(Created::Exists)
        };
        match self.vfs.kind(key).map_err(io)? {
            None => {}
            Some(FileKind::File { .. }) => return exists(),
            Some(_) => return Err(Error::new(ErrorKind::NotADirectory, "put", key)),
        }
        let (temp, file) = self.write_temp("put", key, len, reader)?;
        match temp.publish(key, &*file) {
            Ok(()) => {
                self.mark(folder_of(key));
                Ok(Created::Created)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => exists(),
            Err(error) => Err(io(error)),
        }
    }

    fn get(&self, key: &str, max_len: u64) -> Result<Vec<u8>> {
        check_key("get", key)?;
        let io = |error| Error::from_io("get", key, error);
        let file = self.vfs.open(key).map_err(io)?;
        let too_large = || Error::new(ErrorKind::TooLarge, "get", key);
        if file.size() > max_len {
            return Err(too_large());
        }
        let mut bytes = vec![0; usize::try_from(file.size()).map_err(|_| too_large())?];
        read_exact_at(&*file, 0, &mut bytes).map_err(io)?;
        Ok(bytes)
    }

    fn get_range(&self, key: &str, offset: u64, out: &mut [u8]) -> Result<()> {
        check_key("get", key)?;
        let io = |error| Error::from_io("get", key, error);
        let file = self.vfs.open(key).map_err(io)?;
        match offset.checked_add(out.len() as u64) {
            Some(end) if end <= file.size() => read_exact_at(&*file, offset, out).map_err(io),
            _ => Err(Error::new(ErrorKind::UnexpectedEnd, "get", key)),
        }
    }

    fn size(&self, key: &str) -> Result<Option<u64>> {
        check_key("size", key)?;
        match self.vfs.kind(key).map_err(|error| Error::from_io("size", key, error))? {
            None => Ok(None),
            Some(FileKind::File { len }) => Ok(Some(len)),
            Some(_) => Err(Error::new(ErrorKind::NotADirectory, "size", key)),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        let found = match self.vfs.list(prefix) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|error| Error::from_io("list", prefix, error))?,
        };
        let mut entries: Vec<Entry> = found
            .into_iter()
            .filter(|entry| !entry.name.starts_with('.'))
            .filter_map(|entry| match entry.kind {
                FileKind::File { len } => Some(Entry {
                    key: join(prefix, &entry.name),
                    len,
                }),
                _ => None,
            })
            .collect();
        entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(entries)
    }

    fn delete(&self, key: &str) -> Result<()> {
        check_key("delete", key)?;
        match self.vfs.unlink(key) {
            Ok(()) => self.mark(folder_of(key)),
            // whoever removed it may not have flushed the folder yet
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.include_in_barrier(folder_of(key)),
            Err(error) => return Err(Error::from_io("delete", key, error)),
        }
        Ok(())
    }

    fn barrier(&self) -> Result<()> {
        let _one_at_a_time = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        self.refuse_when_poisoned("barrier", "")?;
        let folders: Vec<(String, u64)> = self
            .dirty()
            .folders
            .iter()
            .map(|(folder, change)| (folder.clone(), *change))
            .collect();
        for (folder, change) in folders {
            match self.vfs.fsync_dir(&folder) {
                // it could not even be opened, and is still to be flushed: the next barrier does it
                Err(error) if too_many_files(&error) => Err(Error::from_io("barrier", &folder, error)),
                flushed => self.flushed("barrier", &folder, flushed),
            }?;
            let mut dirty = self.dirty();
            if dirty.folders.get(&folder) == Some(&change) {
                dirty.folders.remove(&folder);
            }
        }
        // a put whose file could not be flushed may have failed meanwhile
        self.refuse_when_poisoned("barrier", "")
    }

    fn check_folders(&self, folders: &[&str]) -> Result<()> {
        for folder in folders {
            check_key("open", folder)?;
            if self
                .vfs
                .is_link(folder)
                .map_err(|error| Error::from_io("open", *folder, error))?
            {
                return Err(Error::new(ErrorKind::NotADirectory, "open", *folder));
            }
        }
        Ok(())
    }

    fn root(&self) -> Result<Root> {
        match self.vfs.root_identity() {
            Ok(identity) => Ok(Root::Found(identity)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Root::Missing),
            Err(error) => Err(Error::from_io("open", "", error)),
        }
    }

    fn include_in_barrier(&self, prefix: &str) {
        // where that cannot be told, the barrier fails rather than leave it out
        if !matches!(
            self.vfs.kind(prefix),
            Ok(None | Some(FileKind::File { .. } | FileKind::Other))
        ) {
            self.mark(prefix);
        }
    }

    fn put_last(&self, keys: Vec<String>, most: usize) -> Vec<String> {
        let times: Vec<io::Result<Option<Duration>>> = keys.iter().map(|key| self.vfs.modified(key)).collect();
        if times.iter().any(|time| matches!(time, Ok(None))) {
            return keys;
        }
        // one that has no time was removed since it was listed, or cannot be read either
        let dated = |(time, key): (io::Result<Option<Duration>>, String)| Some((time.ok()??, key));
        let mut dated: Vec<(Duration, String)> = times.into_iter().zip(keys).filter_map(dated).collect();
        dated.sort_unstable_by(|a, b| b.cmp(a));
        dated.into_iter().take(most).map(|(_, key)| key).collect()
    }

    fn lease(&self, key: &str, bytes: &[u8]) -> Result<Box<dyn LockGuard>> {
        check_key("lease", key)?;
        let io = |error| Error::from_io("lease", key, error);
        for _ in 0..LEASE_TRIES {
            let (temp, mut file) = self.create_temp("lease", key)?;
            if !bytes.is_empty() {
                file.write(bytes).map_err(io)?;
            }
            temp.publish(key, &*file).map_err(io)?;
            if let Some(file) = self.seen_as_held(key, file) {
                return Ok(Box::new(LeaseGuard {
                    vfs: self.vfs.clone(),
                    path: key.to_owned(),
                    file,
                    left: AtomicBool::new(false),
                }));
            }
            // it may still be there, without a lock
            self.delete(key)?;
        }
        Err(io(io::Error::other("the lease cannot be locked under its name")))
    }

    fn lease_held(&self, key: &str) -> Result<Option<bool>> {
        check_key("lease", key)?;
        let file = match self.vfs.open_lock(key) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| Error::from_io("lease", key, error))?,
        };
        // shared, so that two who ask at once do not see each other
        let free = file
            .try_lock(LockMode::Shared)
            .map_err(|error| lock_error("lease", key, error))?;
        Ok(Some(!free))
    }

    fn lock(&self, key: &str, mode: LockMode, wait: Duration) -> Result<Option<Box<dyn LockGuard>>> {
        check_key("lock", key)?;
        let file = self
            .vfs
            .open_lock(key)
            .map_err(|error| Error::from_io("lock", key, error))?;
        match wait_for_lock(&*file, mode, wait).map_err(|error| lock_error("lock", key, error))? {
            true => Ok(Some(Box::new(FileGuard { file }))),
            false => Ok(None),
        }
    }

    fn probe_locks(&self, key: &str) -> Result<()> {
        check_key("lock", key)?;
        let open = || {
            self.vfs
                .open_lock(key)
                .map_err(|error| Error::from_io("lock", key, error))
        };
        let (one, two) = (open()?, open()?);
        let lock = |file: &dyn VfsFile, mode| file.try_lock(mode).map_err(|error| lock_error("lock", key, error));
        // refused at once: somebody else holds it, so locks work
        if lock(&*one, LockMode::Shared)? && lock(&*two, LockMode::Exclusive)? {
            return Err(Error::new(ErrorKind::LocksUnsupported, "lock", key));
        }
        Ok(())
    }

    fn replace_damaged(&self, key: &str, bytes: &[u8]) -> Result<()> {
        check_key("replace", key)?;
        self.refuse_when_poisoned("replace", key)?;
        // written and flushed first: a full disk must not cost the damaged file its place
        let (temp, file) = self.write_temp("replace", key, bytes.len() as u64, &mut &bytes[..])?;
        let published = match self.keep_in_quarantine("replace", key)? {
            true => temp.publish_over(key, &*file),
            false => temp.publish(key, &*file),
        };
        published.map_err(|error| Error::from_io("replace", key, error))?;
        self.mark(folder_of(key));
        Ok(())
    }

    fn quarantine(&self, key: &str) -> Result<()> {
        check_key("quarantine", key)?;
        self.refuse_when_poisoned("quarantine", key)?;
        if self.keep_in_quarantine("quarantine", key)? {
            match self.vfs.unlink(key) {
                // the answer to the first try was lost
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other.map_err(|error| Error::from_io("quarantine", key, error))?,
            }
            self.mark(folder_of(key));
        }
        Ok(())
    }

    fn clean_temporary(&self, prefix: &str) -> Result<u64> {
        self.remove_dead_temps(prefix)
    }

    fn create_folders(&self, folders: &[&str], allowed: &[&str]) -> Result<bool> {
        self.refuse_when_poisoned("init", "")?;
        let io = |error| Error::from_io("init", "", error);
        match self.vfs.kind("").map_err(io)? {
            Some(FileKind::Folder) if !self.is_free("", folders, allowed).map_err(io)? => return Ok(false),
            Some(FileKind::Folder) | None => {}
            Some(_) => return Err(Error::new(ErrorKind::NotADirectory, "init", "")),
        }
        self.make_root().and_then(|()| self.make_folders(folders)).map_err(io)?;
        Ok(true)
    }
}

/// Tries until the lock is there, `true`, or `wait` is over.
fn wait_for_lock(file: &dyn VfsFile, mode: LockMode, wait: Duration) -> io::Result<bool> {
    let start = Instant::now();
    let (mut pause, longest) = LOCK_PAUSES;
    while !file.try_lock(mode)? {
        let left = wait.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Ok(false);
        }
        // the kernel can wait only without a time limit, hence these naps (the one place of the engine that sleeps)
        #[expect(clippy::disallowed_methods, reason = "see above")]
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(longest);
    }
    Ok(true)
}

struct FileGuard {
    file: Box<dyn VfsFile>,
}

impl LockGuard for FileGuard {}

impl Drop for FileGuard {
    fn drop(&mut self) {
        self.file.unlock();
    }
}

struct LeaseGuard {
    vfs: Arc<dyn Vfs>,
    path: String,
    file: Box<dyn VfsFile>,
    left: AtomicBool,
}

impl LockGuard for LeaseGuard {
    fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        // somebody may have removed it by force; a name that stays is seen to be free and removed by others
        if !self.left.load(Ordering::Relaxed) {
            let _ = self.vfs.unlink(&self.path);
        }
        self.file.unlock();
    }
}

/// Refuses keys that could leave the root or hide from listings: empty, absolute, or with a part that is empty or starts
/// with a dot, or with a backslash or NUL.
pub(super) fn check_key(op: &'static str, key: &str) -> Result<()> {
    let bad_part = |part: &str| part.is_empty() || part.starts_with('.');
    if key.split('/').any(bad_part) || key.contains(['\\', '\0']) {
        return Err(Error::from_io(op, key, io::ErrorKind::InvalidInput.into()));
    }
    Ok(())
}

/// The folder of a key; empty for the root.
fn folder_of(key: &str) -> &str {
    key.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn join(folder: &str, name: &str) -> String {
    match folder {
        "" => name.to_owned(),
        _ => format!("{folder}/{name}"),
    }
}

fn lock_error(op: &'static str, key: &str, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::Unsupported => Error::new(ErrorKind::LocksUnsupported, op, key),
        _ => Error::from_io(op, key, error),
    }
}

fn read_exact_at(file: &dyn VfsFile, mut offset: u64, mut out: &mut [u8]) -> io::Result<()> {
    while !out.is_empty() {
        match file.read_at(offset, out) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(got) => {
                out = &mut out[got..];
                offset = offset.saturating_add(got as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
