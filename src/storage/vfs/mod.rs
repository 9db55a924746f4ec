//! The file-system calls that the local store makes.
//!
//! A [`Vfs`] is rooted at the folder of a repository. Paths are relative to that root with `/`
//! between names; the empty path is the root, and `..`, `../..` … at the start name the folders
//! above it, so that a root can be created.
//!
//! Always true: every call marked *mutating* makes exactly one changing system call on Linux in the
//! normal case, so that the simulated disk counts as many of them as `strace`; no other call
//! changes anything. Nothing is retried. The caller chooses the order of calls that survives a
//! power cut.

mod file_lock;
mod identity;
mod real;

pub use identity::{FileId, FolderIdentity};
pub use real::RealFs;

use super::LockMode;
use std::io;
use std::time::Duration;

/// Bytes written with one call: enough that calls cost little, in a small buffer.
pub(super) const PIECE_LEN: usize = 1 << 20;
/// Bytes after which the writeback of a long file starts, so that little is left for its flush.
pub(super) const WRITEBACK_LEN: u64 = 8 << 20;

/// The kind of file that a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File {
        /// Length in bytes.
        len: u64,
    },
    /// A folder.
    Folder,
    /// Any other kind: a device, a pipe, a symbolic link to a file. Never opened.
    Other,
}

/// One name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name, without its folder.
    pub name: String,
    /// Its kind; a symbolic link is [`FileKind::Other`].
    pub kind: FileKind,
}

/// The calls that change or read the names below a root folder. Errors are those of the system.
pub trait Vfs: Send + Sync {
    /// *Mutating.* Creates a file (mode 0600), open for writing and reading. `AlreadyExists` if the
    /// name exists.
    fn create_new(&self, path: &str) -> io::Result<Box<dyn VfsFile>>;

    /// Opens a regular file for reading. Refuses folders, links, pipes and devices without waiting
    /// for them.
    fn open(&self, path: &str) -> io::Result<Box<dyn VfsFile>>;

    /// Opens a regular file to lock it: for writing where that is allowed (NFS requires it for
    /// exclusive locks), else for reading.
    fn open_lock(&self, path: &str) -> io::Result<Box<dyn VfsFile>>;

    /// *Mutating.* Renames a file. `AlreadyExists`, and nothing changed, if `to` exists.
    fn rename_noreplace(&self, from: &str, to: &str) -> io::Result<()>;

    /// *Mutating.* Adds a hard link. `AlreadyExists`, and nothing changed, if `to` exists; any
    /// other error where the file system has no hard links.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;

    /// *Mutating.* Renames a file within its folder and atomically replaces a file that has the
    /// name.
    fn rename_over(&self, from: &str, to: &str) -> io::Result<()>;

    /// *Mutating.* Removes a name of a file.
    fn unlink(&self, path: &str) -> io::Result<()>;

    /// *Mutating.* Creates one folder (mode 0700) in an existing one.
    fn mkdir(&self, path: &str) -> io::Result<()>;

    /// *Mutating.* Flushes the names in a folder. Does nothing where the system has no such call
    /// (Windows).
    fn fsync_dir(&self, path: &str) -> io::Result<()>;

    /// What `path` names, or `None`. A link to a folder counts as that folder.
    fn kind(&self, path: &str) -> io::Result<Option<FileKind>>;

    /// Returns whether `path` itself is a symbolic link.
    fn is_link(&self, _path: &str) -> io::Result<bool> {
        Ok(false)
    }

    /// Returns the identity of the root, or `Ok(None)` where the file system has no stable
    /// identities. `NotFound` and `NotADirectory` when there is no such folder.
    fn root_identity(&self) -> io::Result<Option<FolderIdentity>>;

    /// Returns when a file was last written, as the time since 1970; `None` where the file system
    /// has no times.
    fn modified(&self, _path: &str) -> io::Result<Option<Duration>> {
        Ok(None)
    }

    /// Returns the identity of the file at `path`; `None` when there is no file, and where the
    /// system has no identities (Windows).
    fn file_id(&self, _path: &str) -> io::Result<Option<FileId>> {
        Ok(None)
    }

    /// Lists the names in a folder, unordered. Names that are not UTF-8 are left out.
    fn list(&self, path: &str) -> io::Result<Vec<DirEntry>>;
}

/// An open file. Each one is a separate owner of locks; dropping it releases them.
pub trait VfsFile: Send + Sync {
    /// *Mutating.* Appends `bytes`. Only for files from [`Vfs::create_new`].
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// *Mutating.* Flushes bytes and length, not the name. After a failure the bytes must be
    /// considered lost: the system may have dropped them, and a second flush would succeed without
    /// them.
    fn fsync(&self) -> io::Result<()>;

    /// Hints that `len` bytes from `offset` may be written to the disk now.
    fn start_writeback(&self, offset: u64, len: u64);

    /// Reads from `offset`, at most `out.len()` bytes; 0 at the end.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize>;

    /// Returns the length in bytes: that at the time of opening, plus the bytes written through
    /// this handle.
    fn size(&self) -> u64;

    /// Returns the identity of the file; `None` where the system has no identities.
    fn id(&self) -> Option<FileId> {
        None
    }

    /// Tries to take a kernel lock; `false` when another handle holds a conflicting one.
    /// `Unsupported` where the file system has no locks.
    fn try_lock(&self, mode: LockMode) -> io::Result<bool>;

    /// Releases the lock now, also while a forked process shares the handle.
    fn unlock(&self);
}

/// Returns whether a rename or a link with this error may have succeeded; see [`is_named`].
pub(super) fn may_be_done(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound)
}

/// Returns whether `path` names the open file `file`. A network file system may lose the reply to a
/// rename or a link, repeat the call, and report `AlreadyExists` or `NotFound` from the second one:
/// in that case the name exists and is that of the file.
pub(super) fn is_named(vfs: &dyn Vfs, file: &dyn VfsFile, path: &str) -> bool {
    file.id()
        .is_some_and(|id| matches!(vfs.file_id(path), Ok(Some(named)) if named == id))
}
