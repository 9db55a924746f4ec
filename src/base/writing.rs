//! Checks whether this handle may write, and the steps before its first write.

use super::{Base, Generation};
use crate::error::{Error, Result};
use crate::layout;
use crate::storage::{ErrorKind, FailedRead, put_bytes};
use crate::sync::lock;
use std::sync::atomic::Ordering;

impl Base {
    /// `Err` when this handle must not write. A check that could not be made at the open is
    /// repeated.
    pub fn check_writable(&self) -> Result<()> {
        let Some(refused) = lock(&self.write_refused).clone() else {
            return Ok(());
        };
        if refused.unreadable().is_none() {
            return Err(refused);
        }
        self.storage().check_folders(&layout::FOLDERS)?;
        self.storage().probe_locks(layout::MAINT_LOCK)?;
        *lock(&self.write_refused) = None;
        Ok(())
    }

    /// For a repair: recreates missing lock files, and checks again whether this handle may write.
    /// Two processes that lock different files of one name do not exclude each other, so other
    /// writers never recreate a lost lock file.
    pub fn restore_lock_files(&self) -> Result<()> {
        self.check_folder()?;
        if let Err(refused @ (Error::ReadOnly | Error::PassphraseRequired)) = self.check_writable() {
            return Err(refused);
        }
        self.storage().check_folders(&layout::FOLDERS)?;
        for name in [layout::COMMIT_LOCK, layout::MAINT_LOCK] {
            match self.storage().size(name) {
                Ok(Some(_)) => continue,
                Ok(None) => {}
                // a directory of that name is no working lock
                Err(error) if error.kind == ErrorKind::NotADirectory => self.storage().quarantine(name)?,
                Err(error) => return Err(error.into()),
            }
            put_bytes(self.storage(), name, &[])?;
        }
        self.storage().probe_locks(layout::MAINT_LOCK)?;
        *lock(&self.write_refused) = None;
        Ok(())
    }

    /// Called before an operation writes: `config.json` may be from an init that was killed before
    /// it flushed the directory entry, and data that outlived it would be lost. One flush per
    /// handle. Returns the folder that the operation is about to write into; see
    /// [`check_folder`](Self::check_folder) for its errors.
    pub fn begin_writing(&self) -> Result<Generation> {
        self.check_writable()?;
        let generation = self.check_folder()?;
        if !self.config_durable.load(Ordering::Acquire) {
            self.storage().include_in_barrier("");
            self.storage().barrier()?;
            self.config_durable.store(true, Ordering::Release);
        }
        Ok(generation)
    }
}
