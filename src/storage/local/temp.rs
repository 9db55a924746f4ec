//! Half-written files: made beside the key they will get, locked while they are written, removed if they never get it.
//!
//! A temporary file whose lock is free belongs to nobody any more. Between its creation and its lock a cleaner may take it
//! for dead; its writer notices and starts another one, before any byte is written.

use super::LocalStorage;
use super::locks::lock_error;
use crate::storage::key::{folder_of, join};
use crate::storage::vfs::{FileKind, Vfs, VfsFile, is_named, may_be_done};
use crate::storage::{Error, ErrorKind, LockMode, Result};
use std::io::{self, Read};
use std::sync::Arc;

/// Start of the names of half-written files; listings leave them out.
pub(super) const TEMP_PREFIX: &str = ".tmp-";
/// Bytes written with one call: large enough that calls cost nothing, small enough to be a cheap buffer.
const PIECE_LEN: u64 = 1 << 20;
/// Bytes after which a long file begins to go to the disk, so that its flush at the end finds little left.
const WRITEBACK_LEN: u64 = 8 << 20;
/// Names tried for a temporary file. Random names do not meet; a cleaner can take a fresh file once, not several times.
const TEMP_TRIES: usize = 8;

/// A half-written file; unless published it is removed when dropped.
pub(super) struct Temp<'a> {
    vfs: &'a dyn Vfs,
    path: String,
    published: bool,
}

impl Temp<'_> {
    /// Gives `file`, which this is the name of, its key. `AlreadyExists` if that is taken.
    pub(super) fn publish(mut self, key: &str, file: &dyn VfsFile) -> io::Result<()> {
        let renamed = self.vfs.rename_noreplace(&self.path, key);
        self.renamed(key, file, renamed)
    }

    /// Gives `file` its key, in one step also over another file.
    pub(super) fn publish_over(mut self, key: &str, file: &dyn VfsFile) -> io::Result<()> {
        let renamed = self.vfs.rename_over(&self.path, key);
        self.renamed(key, file, renamed)
    }

    /// Judges a rename by what it has done: its answer may have been lost, and the second one be about the first.
    fn renamed(&mut self, key: &str, file: &dyn VfsFile, renamed: io::Result<()>) -> io::Result<()> {
        match renamed {
            Ok(()) => self.published = true,
            // the temporary name may still be there: it is removed as that of a failed put
            Err(error) if may_be_done(&error) && is_named(self.vfs, file, key) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if !self.published {
            // best effort: what cannot be removed now is left to `clean_temporary`
            let _ = self.vfs.unlink(&self.path);
        }
    }
}

impl LocalStorage {
    /// A new temporary file beside `key`, locked by this handle.
    pub(super) fn create_temp(&self, op: &'static str, key: &str) -> Result<(Temp<'_>, Box<dyn VfsFile>)> {
        let folder = folder_of(key);
        let mut made_folder = false;
        for _ in 0..TEMP_TRIES {
            let path = join(folder, &format!("{TEMP_PREFIX}{}", self.random_hex::<8>(op, key)?));
            let file = match self.vfs.create_new(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound && !made_folder => {
                    // tools that copy repositories lose empty folders
                    self.make_folder(op, folder)?;
                    made_folder = true;
                    continue;
                }
                Err(error) => return Err(Error::from_io(op, key, error)),
            };
            let temp = Temp {
                vfs: &*self.vfs,
                path,
                published: false,
            };
            let locked = file
                .try_lock(LockMode::Exclusive)
                .map_err(|error| lock_error(op, key, error))?;
            // a cleaner may have come between creation and lock; from here on it cannot
            if locked && matches!(self.vfs.kind(&temp.path), Ok(Some(_))) {
                return Ok((temp, file));
            }
        }
        Err(Error::from_io(
            op,
            key,
            io::Error::other("no temporary file could be made"),
        ))
    }

    /// A temporary file beside `key` with all of `reader`, flushed.
    pub(super) fn write_temp(
        &self,
        op: &'static str,
        key: &str,
        len: u64,
        reader: &mut dyn Read,
    ) -> Result<(Temp<'_>, Box<dyn VfsFile>)> {
        let (temp, mut file) = self.create_temp(op, key)?;
        copy(op, key, len, reader, &mut *file)?;
        match file.fsync() {
            // what has no name is lost to nobody: network file systems and quotas tell of a full disk only here
            Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                Err(Error::from_io(op, key, error))
            }
            flushed => self.flushed(op, key, flushed),
        }?;
        Ok((temp, file))
    }

    /// [`Storage::clean_temporary`](super::Storage::clean_temporary).
    pub(super) fn remove_dead_temps(&self, prefix: &str) -> Result<u64> {
        let found = match self.vfs.list(prefix) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            other => other.map_err(|error| Error::from_io("clean", prefix, error))?,
        };
        let mut removed = 0;
        for entry in found {
            if !entry.name.starts_with(TEMP_PREFIX) || !matches!(entry.kind, FileKind::File { .. }) {
                continue;
            }
            let path = join(prefix, &entry.name);
            let io = |error| Error::from_io("clean", &path, error);
            let file = match self.vfs.open_lock(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(io)?,
            };
            if !file
                .try_lock(LockMode::Exclusive)
                .map_err(|error| lock_error("clean", &path, error))?
            {
                continue;
            }
            match self.vfs.unlink(&path) {
                Ok(()) => removed += 1,
                // published between the listing and the lock
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(io(error)),
            }
        }
        Ok(removed)
    }
}

/// Copies exactly `len` bytes, in whole pieces, and wants the reader to end there.
fn copy(op: &'static str, key: &str, len: u64, reader: &mut dyn Read, file: &mut dyn VfsFile) -> Result<()> {
    let source = |error| Error {
        kind: ErrorKind::Source,
        op,
        path: key.to_owned(),
        source: Some(Arc::new(error)),
    };
    let mut buffer = Vec::new();
    let (mut written, mut handed_on) = (0, 0);
    while written < len {
        let piece = PIECE_LEN.min(len - written);
        buffer.clear();
        let got = (&mut *reader).take(piece).read_to_end(&mut buffer).map_err(source)?;
        if got as u64 != piece {
            return Err(Error::new(ErrorKind::Source, op, key));
        }
        file.write(&buffer).map_err(|error| Error::from_io(op, key, error))?;
        written += piece;
        if written - handed_on >= WRITEBACK_LEN && written < len {
            file.start_writeback(handed_on, written - handed_on);
            handed_on = written;
        }
    }
    match (&mut *reader).take(1).read_to_end(&mut buffer).map_err(source)? {
        0 => Ok(()),
        _ => Err(Error::new(ErrorKind::Source, op, key)),
    }
}
