//! Checks whether this handle may write, and the steps before its first write.

use super::config::config_read;
use super::open::check_folder_writable;
use super::{Base, Generation};
use crate::error::{Error, Result};
use crate::layout;
use crate::lock::lock_files;
use crate::storage::{Ask, ConditionalPut, ErrorKind, FailedRead, put_bytes};
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
        check_folder_writable(&self.env)?;
        *lock(&self.write_refused) = None;
        Ok(())
    }

    /// Warns where nothing keeps puts of other processes from overwriting.
    fn warn_of_single_writer(&self) -> Result<()> {
        if !self.storage().is_remote() {
            return Ok(());
        }
        let found = self.storage().probe_conditional_put()?;
        if found != ConditionalPut::Honoured {
            let message = format!(
                "This service does not keep an object from being overwritten (If-None-Match: {}), so only one \
                 process at a time may write to the repository",
                found.name()
            );
            self.warn("WARN_SINGLE_WRITER", message);
        }
        Ok(())
    }

    /// For a repair: recreates missing lock files, and checks again whether this handle may write.
    /// Two processes that lock different files of one name do not exclude each other, so other
    /// writers never recreate a lost lock file.
    pub fn restore_lock_files(&self) -> Result<()> {
        self.check_folder()?;
        if let Err(refused @ (Error::ReadOnly | Error::PassphraseRequired | Error::Mirror { .. })) =
            self.check_writable()
        {
            return Err(refused);
        }
        self.storage().check_folders(&layout::FOLDERS)?;
        for name in lock_files(self.storage()) {
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

    /// The reads of [`begin_writing`](Self::begin_writing), and of the cleaning that follows it.
    pub fn first_reads() -> [Ask; 3] {
        [
            config_read(),
            Ask::Size(layout::MIRROR.to_owned()),
            Ask::List(layout::LOCKS.to_owned()),
        ]
    }

    /// Called before an operation writes: `config.json` may be from an init that was killed before
    /// it flushed the directory entry, and data that outlived it would be lost. One flush per
    /// handle. Returns the folder that the operation is about to write into; see
    /// [`check_folder`](Self::check_folder) for its errors.
    pub fn begin_writing(&self) -> Result<Generation> {
        self.check_writable()?;
        let generation = self.check_folder()?;
        // a mirror may have been mounted in place of the repository
        self.check_no_mirror()?;
        if !self.config_durable.load(Ordering::Acquire) {
            self.warn_of_single_writer()?;
            self.storage().include_in_barrier("");
            self.storage().barrier()?;
            self.config_durable.store(true, Ordering::Release);
        }
        Ok(generation)
    }
}
