//! Damaged files: moved to the quarantine, and replaced without a moment in which one could be lost.

use super::LocalStorage;
use crate::storage::key::{check_key, folder_of, join};
use crate::storage::vfs::{FileKind, may_be_done};
use crate::storage::{Error, Result};
use std::io;

/// Where damaged files are moved.
const QUARANTINE: &str = "quarantine";

impl LocalStorage {
    /// [`Storage::replace_damaged`](crate::storage::Storage::replace_damaged).
    pub(super) fn replace_with(&self, key: &str, bytes: &[u8]) -> Result<()> {
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

    /// [`Storage::quarantine`](crate::storage::Storage::quarantine).
    pub(super) fn move_to_quarantine(&self, key: &str) -> Result<()> {
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
}
