//! Half-written files: created in the folder of their key, locked while they are written, deleted
//! if they are not published.
//!
//! A temporary file whose lock is free has no writer. Between its creation and its lock a cleaner
//! may delete it; its writer notices that before it writes a byte, and creates another one.

use super::LocalStorage;
use super::locks::lock_error;
use crate::storage::key::{folder_of, join};
use crate::storage::vfs::{FileKind, PIECE_LEN, Vfs, VfsFile, WRITEBACK_LEN, is_named, may_be_done};
use crate::storage::{Error, ErrorKind, LockMode, Result};
use std::io::{self, Read};

/// Start of the names of half-written files; listings leave them out.
pub(super) const TEMP_PREFIX: &str = ".tmp-";
/// Attempts to create a temporary file. Random names do not collide; a cleaner may delete a fresh
/// file once, but not repeatedly.
const TEMP_TRIES: usize = 8;

/// A half-written file, deleted when dropped unless it was published.
pub(super) struct Temp<'a> {
    vfs: &'a dyn Vfs,
    path: String,
    published: bool,
}

impl Temp<'_> {
    /// Renames `file`, the open temporary file, to its key. `AlreadyExists` if the key exists.
    pub(super) fn publish(mut self, key: &str, file: &dyn VfsFile) -> io::Result<()> {
        let renamed = self.vfs.rename_noreplace(&self.path, key);
        self.renamed(key, file, renamed)
    }

    /// Renames `file` to its key and atomically replaces the file there.
    pub(super) fn publish_over(mut self, key: &str, file: &dyn VfsFile) -> io::Result<()> {
        let renamed = self.vfs.rename_over(&self.path, key);
        self.renamed(key, file, renamed)
    }

    /// Checks the effect of a rename: its reply may have been lost, and the error be that of a
    /// second attempt.
    fn renamed(&mut self, key: &str, file: &dyn VfsFile, renamed: io::Result<()>) -> io::Result<()> {
        match renamed {
            Ok(()) => self.published = true,
            // a temporary name that still exists is deleted as after a failed put
            Err(error) if may_be_done(&error) && is_named(self.vfs, file, key) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Drop for Temp<'_> {
    fn drop(&mut self) {
        if !self.published {
            // best effort: `clean_temporary` deletes what stays
            let _ = self.vfs.unlink(&self.path);
        }
    }
}

impl LocalStorage {
    /// Creates a temporary file in the folder of `key`, locked by this handle.
    pub(super) fn create_temp(&self, op: &'static str, key: &str) -> Result<(Temp<'_>, Box<dyn VfsFile>)> {
        let folder = folder_of(key);
        let mut made_folder = false;
        for _ in 0..TEMP_TRIES {
            let path = join(folder, &format!("{TEMP_PREFIX}{}", self.random_hex::<8>(op, key)?));
            let file = match self.vfs.create_new(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound && !made_folder => {
                    // tools that copy repositories may drop empty folders
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
            // a cleaner may have deleted it between creation and lock; now it cannot
            if locked && matches!(self.vfs.kind(&temp.path), Ok(Some(_))) {
                return Ok((temp, file));
            }
        }
        Err(Error::from_io(
            op,
            key,
            io::Error::other("no temporary file could be created"),
        ))
    }

    /// Writes all of `reader` to a temporary file in the folder of `key`, and flushes it.
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
            // not final, because the file has no key yet: network file systems and quotas report a
            // full disk only here
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

/// Copies exactly `len` bytes, in whole pieces; an error unless the reader ends there.
fn copy(op: &'static str, key: &str, len: u64, reader: &mut dyn Read, file: &mut dyn VfsFile) -> Result<()> {
    let source = |error| Error::of_source(op, key, error);
    let mut buffer = Vec::new();
    let (mut written, mut handed_on) = (0, 0);
    while written < len {
        let piece = (PIECE_LEN as u64).min(len - written);
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
