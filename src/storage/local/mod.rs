//! A store in a folder of a local or mounted file system.
//!
//! A file is written under a temporary name in its own folder, flushed, and only then renamed to
//! its key, never over another file (except over a damaged one, which has a second name in the
//! quarantine at that point). So a key always has complete, flushed bytes. After a power cut only
//! the name may be missing: [`Storage::barrier`] flushes the folders in which names were added or
//! removed.
//!
//! Temporary files are locked while they are written: one whose lock is free has no writer, and
//! [`Storage::clean_temporary`] deletes it. A failed flush is never repeated (the kernel may have
//! dropped the data and would report success); the handle then refuses every further put and
//! barrier. Two failures end only their call, because nothing is lost: a barrier that cannot open a
//! folder for lack of descriptors, and the flush of a temporary file on a full disk.
//!
//! `temp` has half-written files, `flush` the barrier, `locks` locks and leases, `quarantine`
//! damaged files, `folders` the creation of folders.

mod flush;
mod folders;
mod locks;
mod quarantine;
mod temp;
#[cfg(test)]
mod tests;

use super::key::{check_key, folder_of, join, random_hex};
use super::vfs::{FileKind, RealFs, Vfs, VfsFile};
use super::{Created, Entry, Error, ErrorKind, LockGuard, LockMode, Result, Root, Storage};
use crate::entropy::Entropy;
use flush::Dirty;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// [`Storage`] in a folder.
pub struct LocalStorage {
    vfs: Arc<dyn Vfs>,
    entropy: Arc<dyn Entropy>,
    dirty: Mutex<Dirty>,
    /// Held while folders are flushed. Two concurrent flushes of one folder could hide a failure,
    /// because the kernel reports it to one of them only.
    flushing: Mutex<()>,
}

impl LocalStorage {
    /// Makes a store in the root of `vfs`; `entropy` makes temporary names.
    pub fn new(vfs: Arc<dyn Vfs>, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            vfs,
            entropy,
            dirty: Mutex::default(),
            flushing: Mutex::new(()),
        }
    }

    /// Makes a store in the folder `root`, which need not exist (see [`Storage::create_folders`]).
    /// Nothing is read or created.
    pub fn open_path(root: &Path, entropy: Arc<dyn Entropy>) -> Result<Self> {
        let vfs = RealFs::new(root).map_err(|error| Error::from_io("open", root.to_string_lossy(), error))?;
        Ok(Self::new(Arc::new(vfs), entropy))
    }

    fn random_hex<const N: usize>(&self, op: &'static str, key: &str) -> Result<String> {
        random_hex::<N>(&*self.entropy).map_err(|error| Error::from_io(op, key, error))
    }
}

impl Storage for LocalStorage {
    fn put_new(&self, key: &str, len: u64, reader: &mut dyn Read) -> Result<Created> {
        check_key("put", key)?;
        self.refuse_when_poisoned("put", key)?;
        let io = |error| Error::from_io("put", key, error);
        let exists = || {
            // the process that put it may not have flushed the folder yet
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
            // the process that deleted it may not have flushed the folder yet
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.include_in_barrier(folder_of(key)),
            Err(error) => return Err(Error::from_io("delete", key, error)),
        }
        Ok(())
    }

    fn barrier(&self) -> Result<()> {
        self.flush_folders()
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
        // if the kind is unknown, the barrier fails rather than leave the folder out
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
        // a file without a time was deleted since the listing, or cannot be read
        let dated = |(time, key): (io::Result<Option<Duration>>, String)| Some((time.ok()??, key));
        let mut dated: Vec<(Duration, String)> = times.into_iter().zip(keys).filter_map(dated).collect();
        dated.sort_unstable_by(|a, b| b.cmp(a));
        dated.into_iter().take(most).map(|(_, key)| key).collect()
    }

    fn lease(&self, key: &str, bytes: &[u8]) -> Result<Box<dyn LockGuard>> {
        self.publish_lease(key, bytes)
    }

    fn lease_held(&self, key: &str) -> Result<Option<bool>> {
        self.is_lease_held(key)
    }

    fn lock(&self, key: &str, mode: LockMode, wait: Duration) -> Result<Option<Box<dyn LockGuard>>> {
        self.lock_file(key, mode, wait)
    }

    fn probe_locks(&self, key: &str) -> Result<()> {
        self.probe_locks_of(key)
    }

    fn replace_damaged(&self, key: &str, bytes: &[u8]) -> Result<()> {
        self.replace_with(key, bytes)
    }

    fn quarantine(&self, key: &str) -> Result<()> {
        self.move_to_quarantine(key)
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
