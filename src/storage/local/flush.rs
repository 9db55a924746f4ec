//! The barrier: the folders that it flushes, and failed flushes.

use super::LocalStorage;
use crate::storage::error::too_many_files;
use crate::storage::{Error, ErrorKind, Result};
use crate::sync::lock;
use std::collections::BTreeMap;
use std::io;
use std::sync::MutexGuard;

/// The state of the next barrier.
#[derive(Default)]
pub(super) struct Dirty {
    /// The folders to flush, each with the number of its last change.
    folders: BTreeMap<String, u64>,
    changes: u64,
    poisoned: bool,
}

impl LocalStorage {
    fn dirty(&self) -> MutexGuard<'_, Dirty> {
        // every change is a single assignment, so a poisoned lock can be used
        lock(&self.dirty)
    }

    /// Records that names in `folder` changed. Called after the change, so that no barrier in
    /// between drops it.
    pub(super) fn mark(&self, folder: &str) {
        let mut dirty = self.dirty();
        dirty.changes += 1;
        let change = dirty.changes;
        dirty.folders.insert(folder.to_owned(), change);
    }

    pub(super) fn refuse_when_poisoned(&self, op: &'static str, path: &str) -> Result<()> {
        match self.dirty().poisoned {
            true => Err(Error::new(ErrorKind::Poisoned, op, path)),
            false => Ok(()),
        }
    }

    /// Makes the failure of a flush final for this handle.
    pub(super) fn flushed(&self, op: &'static str, path: &str, result: io::Result<()>) -> Result<()> {
        result.map_err(|error| {
            self.dirty().poisoned = true;
            Error::from_io(op, path, error)
        })
    }

    /// [`Storage::barrier`](crate::storage::Storage::barrier).
    pub(super) fn flush_folders(&self) -> Result<()> {
        let _one_at_a_time = lock(&self.flushing);
        self.refuse_when_poisoned("barrier", "")?;
        let folders: Vec<(String, u64)> = self
            .dirty()
            .folders
            .iter()
            .map(|(folder, change)| (folder.clone(), *change))
            .collect();
        for (folder, change) in folders {
            match self.vfs.fsync_dir(&folder) {
                // the folder could not be opened and stays recorded: the next barrier flushes it
                Err(error) if too_many_files(&error) => Err(Error::from_io("barrier", &folder, error)),
                flushed => self.flushed("barrier", &folder, flushed),
            }?;
            let mut dirty = self.dirty();
            if dirty.folders.get(&folder) == Some(&change) {
                dirty.folders.remove(&folder);
            }
        }
        // the flush of a file may have failed concurrently
        self.refuse_when_poisoned("barrier", "")
    }
}
