//! Creation of folders: those of a new repository with the ones above them, and a lost one.
//!
//! Each new folder is durable in its parent before anything relies on it, and an interrupted
//! creation can be repeated.

use super::LocalStorage;
use super::temp::TEMP_PREFIX;
use crate::storage::key::{folder_of, is_allowed, join};
use crate::storage::vfs::{FileKind, Vfs};
use crate::storage::{Error, ErrorKind, Result};
use std::io;

impl LocalStorage {
    /// Creates a folder that is missing inside an existing root, with the missing ones above it.
    pub(super) fn make_folder(&self, op: &'static str, folder: &str) -> Result<()> {
        if self
            .vfs
            .kind("")
            .map_err(|error| Error::from_io(op, folder, error))?
            .is_none()
        {
            return Err(Error::new(ErrorKind::NotFound, op, folder));
        }
        let ends = folder.match_indices('/').map(|(at, _)| at).chain([folder.len()]);
        for part in ends.map(|end| &folder[..end]) {
            if part.is_empty() || matches!(self.vfs.kind(part), Ok(Some(FileKind::Folder))) {
                continue;
            }
            make_if_missing(&*self.vfs, part).map_err(|error| Error::from_io(op, part, error))?;
            let parent = folder_of(part);
            self.flushed(op, parent, self.vfs.fsync_dir(parent))?;
        }
        Ok(())
    }

    /// Returns whether a folder is empty, apart from the remains of an interrupted init.
    pub(super) fn is_free(&self, folder: &str, folders: &[&str], allowed: &[&str]) -> io::Result<bool> {
        for entry in self.vfs.list(folder)? {
            let path = join(folder, &entry.name);
            let expected = match entry.kind {
                FileKind::Folder => folders.contains(&path.as_str()) && self.is_free(&path, folders, allowed)?,
                FileKind::File { .. } => entry.name.starts_with(TEMP_PREFIX) || is_allowed(&path, allowed),
                FileKind::Other => false,
            };
            if !expected {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Creates the root and the missing folders above it, each durable before the next.
    pub(super) fn make_root(&self) -> io::Result<()> {
        let above = |level: usize| vec![".."; level].join("/");
        let mut level = 0;
        while self.vfs.kind(&above(level))?.is_none() {
            level += 1;
        }
        // an init that was killed before its flush may have created the deepest existing folder
        match self.vfs.fsync_dir(&above(level + 1)) {
            Err(error) if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound) => {}
            other => other?,
        }
        for level in (0..level).rev() {
            make_if_missing(&*self.vfs, &above(level))?;
            self.vfs.fsync_dir(&above(level + 1))?;
        }
        Ok(())
    }

    /// Creates the missing ones of `folders` in the root, and flushes their parents.
    pub(super) fn make_folders(&self, folders: &[&str]) -> io::Result<()> {
        for folder in folders {
            make_if_missing(&*self.vfs, folder)?;
        }
        let mut parents: Vec<&str> = folders.iter().map(|folder| folder_of(folder)).collect();
        parents.sort_unstable();
        parents.dedup();
        parents.iter().try_for_each(|parent| self.vfs.fsync_dir(parent))
    }
}

fn make_if_missing(vfs: &dyn Vfs, folder: &str) -> io::Result<()> {
    match vfs.mkdir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}
