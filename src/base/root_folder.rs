//! Checks whether the folder still contains the repository that this handle opened.
//!
//! Paths are resolved again on each call, so that an idle handle holds no file open and its disk
//! can be unmounted. The next call may find nothing, another repository (a swapped disk, a folder
//! that was moved and recreated), or the same one in another folder (mounted again, or replaced by
//! a clone). Every operation checks before its first step; a writer checks again right before its
//! data takes effect, and an operation that deletes checks under its lock.
//!
//! Two invariants: a handle writes only into a repository with its id, and a missing folder is an
//! error, never an empty repository. Device and inode numbers are compared within the life of a
//! handle and never stored. They only shorten the check: `config.json` is read all the same,
//! because disks that take turns at one mount point often have the same numbers.

use super::config::{Config, MAX_CONFIG_LEN};
use super::copies::find_header;
use super::foreign::damaged_or_foreign;
use super::{Base, Environment};
use crate::error::{Error, Result};
use crate::id::RepoId;
use crate::layout;
use crate::storage::{ErrorKind, FolderIdentity, Root};
use crate::sync::lock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts how often the folder was replaced by another one with the same repository. An operation
/// that started with another number than the current one started in another folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Generation(u64);

/// The generation of the folder that the last check found.
#[derive(Default)]
pub(super) struct Generations(AtomicU64);

/// The folder at the last check.
pub(super) struct RootFolder {
    /// `None` if the file system has no stable identities.
    identity: Option<FolderIdentity>,
}

impl RootFolder {
    /// Identifies the folder that is about to be opened. `RepositoryNotFound` when there is none.
    pub(super) fn identify(env: &Environment) -> Result<Self> {
        Ok(Self {
            identity: find_folder(env)?,
        })
    }
}

/// The identity of the folder at the path. An error contains the path, which the storage does not
/// know.
fn find_folder(env: &Environment) -> Result<Option<FolderIdentity>> {
    match env.storage.root() {
        Ok(Root::Found(identity)) => Ok(identity),
        Ok(Root::Missing) => Err(not_found(env)),
        Err(error) if error.kind == ErrorKind::NotADirectory => Err(Error::NotADirectory { path: env.path.clone() }),
        Err(error) => Err(error.into()),
    }
}

fn not_found(env: &Environment) -> Error {
    Error::RepositoryNotFound { path: env.path.clone() }
}

impl Base {
    /// Checks that the folder contains the repository of this handle, and detects when it was
    /// replaced by another folder that does: state of the old one is then dropped.
    ///
    /// # Errors
    /// `RepositoryNotFound` when the folder is missing, or has neither `config.json` nor
    /// `snapshots/`. `NotARepository` when it was replaced by one of another program.
    /// `RepositoryChanged` when it contains another repository. `ConfigCorrupt` when
    /// it was replaced and nothing in it identifies its repository. `Storage`, `Permission`.
    pub fn check_folder(&self) -> Result<Generation> {
        let identity = find_folder(&self.env)?;
        let mut folder = lock(&self.folder);
        let is_known = identity.is_some() && identity == folder.identity;
        match self.storage().get(layout::CONFIG, MAX_CONFIG_LEN) {
            Ok(bytes) if bytes == self.config_bytes => {}
            Ok(bytes) => match Config::decode(&bytes) {
                Ok(config) if config.id == self.config.id => {}
                // in the folder that was opened, only the config may have been replaced, by that of
                // another repository
                Ok(config) if is_known => self.find_own_files(self.changed(Some(config.id)))?,
                Ok(config) => return Err(self.changed(Some(config.id))),
                Err(_) if is_known => {}
                Err(error @ Error::ConfigCorrupt { .. }) => {
                    self.find_own_files(damaged_or_foreign(&self.env, Some(&bytes), error))?;
                }
                Err(error) => self.find_own_files(error)?,
            },
            Err(error) if error.kind == ErrorKind::NotFound && !self.has_snapshots_folder()? => {
                // both may be lost in the folder that was opened, as long as packs are left
                match is_known {
                    true => self.find_own_files(not_found(&self.env))?,
                    false => return Err(not_found(&self.env)),
                }
            }
            // only the config is lost or damaged: it is read from its copy
            Err(error) if error.kind.is_erasure() => {
                if !is_known {
                    self.find_own_files(error.into())?;
                }
            }
            Err(error) => return Err(error.into()),
        }
        if !is_known && identity.is_some() {
            folder.identity = identity;
            // state that was read from the old folder is dropped by its owner, see `PerFolder`
            self.generation.0.fetch_add(1, Ordering::AcqRel);
            self.config_durable.store(false, Ordering::Release);
        }
        Ok(self.generation())
    }

    /// [`check_folder`](Self::check_folder) for an operation that began in the folder of `began`.
    ///
    /// # Errors
    /// Those of `check_folder`, and `RepositoryChanged` when the folder was replaced since, also by
    /// one with the same repository: the data that was stored so far is in the old one.
    pub fn check_same_folder(&self, began: Generation) -> Result<()> {
        match self.check_folder()? == began {
            true => Ok(()),
            false => Err(self.changed(Some(self.config.id))),
        }
    }

    /// The result of an operation that only reads, or the error that the folder is missing or
    /// contains another repository: then the operation has read nothing of this one, whatever it
    /// found missing or wrong.
    pub fn unless_replaced<T>(&self, result: Result<T>) -> Result<T> {
        match self.check_folder() {
            Err(
                error @ (Error::RepositoryNotFound { .. }
                | Error::NotARepository { .. }
                | Error::RepositoryChanged { .. }),
            ) => Err(error),
            _ => result,
        }
    }

    /// The folder as the last check found it.
    pub fn generation(&self) -> Generation {
        Generation(self.generation.0.load(Ordering::Acquire))
    }

    fn changed(&self, found: Option<RepoId>) -> Error {
        Error::RepositoryChanged {
            path: self.env.path.clone(),
            expected: self.config.id,
            found,
        }
    }

    /// Without a usable config: `Ok` when packs or parity groups name this repository, otherwise
    /// `RepositoryChanged` with the repository that they name, or `unknown` when there are none.
    fn find_own_files(&self, unknown: Error) -> Result<()> {
        match find_header(&self.env, &self.config.id)? {
            Some(id) if id == self.config.id => Ok(()),
            Some(other) => Err(self.changed(Some(other))),
            None => Err(unknown),
        }
    }

    fn has_snapshots_folder(&self) -> Result<bool> {
        match self.storage().size(layout::SNAPSHOTS) {
            Err(error) if error.kind == ErrorKind::NotADirectory => Ok(true),
            // a store without directories of its own has one only if it contains files
            Ok(_) => Ok(!self.storage().list(layout::SNAPSHOTS)?.is_empty()),
            Err(error) => Err(error.into()),
        }
    }
}
