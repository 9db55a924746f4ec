//! Damaged files: moved to the quarantine or replaced, without an instant at which a crash loses
//! one.

use super::LocalStorage;
use crate::storage::key::{check_key, folder_of, join};
use crate::storage::vfs::{FileKind, may_be_done};
use crate::storage::{Error, Result};
use std::io;

/// The folder of damaged files.
const QUARANTINE: &str = "quarantine";

impl LocalStorage {
    /// [`Storage::replace_damaged`](crate::storage::Storage::replace_damaged).
    pub(super) fn replace_with(&self, key: &str, bytes: &[u8]) -> Result<()> {
        check_key("replace", key)?;
        self.refuse_when_poisoned("replace", key)?;
        // written and flushed first, so that a full disk leaves the damaged file under its key
        let (temp, file) = self.write_temp("replace", key, bytes.len() as u64, &mut &bytes[..])?;
        let published = match self.keep_in_quarantine("replace", key)? {
            true => temp.publish_over(key, &*file),
            false => temp.publish(key, &*file),
        };
        published.map_err(|error| Error::from_io("replace", key, error))?;
        self.mark(folder_of(key));
        Ok(())
    }

    /// [`Storage::quarantine`](crate::storage::Storage::quarantine).
    pub(super) fn move_to_quarantine(&self, key: &str) -> Result<()> {
        check_key("quarantine", key)?;
        self.refuse_when_poisoned("quarantine", key)?;
        if self.keep_in_quarantine("quarantine", key)? {
            match self.vfs.unlink(key) {
                // the reply to the first attempt was lost
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other.map_err(|error| Error::from_io("quarantine", key, error))?,
            }
            self.mark(folder_of(key));
        }
        Ok(())
    }

    /// Links the file under `key` into the quarantine, durably, and returns `true`. Returns `false`
    /// when `key` is free: there was no file, or it could only be moved (a folder, or a file system
    /// without hard links).
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
                // the reply was lost, and the rename is done: the name is random
                Err(error)
                    if may_be_done(&error)
                        && matches!(self.vfs.kind(key), Ok(None))
                        && matches!(self.vfs.kind(&name), Ok(Some(_))) => {}
                other => other.map_err(io)?,
            }
            self.mark(folder_of(key));
        }
        // folders become durable in any order: the new name first, or the file could be lost
        self.flushed(op, QUARANTINE, self.vfs.fsync_dir(QUARANTINE))?;
        Ok(linked)
    }

    /// Adds a hard link, if the file system has them.
    fn has_linked(&self, key: &str, name: &str) -> bool {
        match self.vfs.link(key, name) {
            Ok(()) => true,
            // the reply was lost
            Err(error) => {
                may_be_done(&error) && {
                    let ids = [key, name].map(|path| self.vfs.file_id(path).ok().flatten());
                    ids[0].is_some() && ids[0] == ids[1]
                }
            }
        }
    }
}
