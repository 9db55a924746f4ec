//! The file-system calls that the local store makes, and the real file system behind them.
//!
//! A [`Vfs`] is rooted at a repository's folder. Paths are relative to that root with `/` between names; the empty path is
//! the root, and `..`, `../..` … at the start name the folders above it, so that a root can be made.
//!
//! Always true: every call marked *mutating* makes exactly one changing system call on Linux in the normal case, so that
//! the simulated disk's count of them equals what `strace` counts; no other call changes anything. Nothing is retried, and
//! what order of calls survives a power cut is left to the caller.

mod identity;
mod real;

pub use identity::{FileId, FolderIdentity};
pub use real::RealFs;

use super::LockMode;
use std::io;
use std::time::Duration;

/// What a path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    File {
        /// Length in bytes.
        len: u64,
    },
    /// A folder.
    Folder,
    /// Anything else: a device, a pipe, a symbolic link to a file. Never opened.
    Other,
}

/// One name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirEntry {
    /// The name, without its folder.
    pub name: String,
    /// What it names; a symbolic link is [`FileKind::Other`].
    pub kind: FileKind,
}

/// The calls that change or read the names below a root folder. Errors are the system's own.
pub trait Vfs: Send + Sync {
    /// *Mutating.* Makes a new file (mode 0600), open for writing and reading. `AlreadyExists` if the name is taken.
    fn create_new(&self, path: &str) -> io::Result<Box<dyn VfsFile>>;

    /// Opens a regular file for reading. Folders, links, pipes and devices are refused, without waiting for any of them.
    fn open(&self, path: &str) -> io::Result<Box<dyn VfsFile>>;

    /// Opens a regular file to lock it: writable where that is allowed (NFS wants it for exclusive locks), else for reading.
    fn open_lock(&self, path: &str) -> io::Result<Box<dyn VfsFile>>;

    /// *Mutating.* Renames a file. `AlreadyExists`, and nothing changed, if `to` is taken.
    fn rename_noreplace(&self, from: &str, to: &str) -> io::Result<()>;

    /// *Mutating.* Gives a file a second name. `AlreadyExists`, and nothing changed, if `to` is taken; any other error where
    /// the file system has no second names.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;

    /// *Mutating.* Renames a file within its folder, in one step also over another file.
    fn rename_over(&self, from: &str, to: &str) -> io::Result<()>;

    /// *Mutating.* Removes the name of a file.
    fn unlink(&self, path: &str) -> io::Result<()>;

    /// *Mutating.* Makes one folder (mode 0700) in an existing one.
    fn mkdir(&self, path: &str) -> io::Result<()>;

    /// *Mutating.* Makes the names in a folder durable. Does nothing where the system cannot do that (Windows).
    fn fsync_dir(&self, path: &str) -> io::Result<()>;

    /// What `path` names, or `None`. A link to a folder counts as that folder.
    fn kind(&self, path: &str) -> io::Result<Option<FileKind>>;

    /// Whether `path` itself is a symbolic link, to whatever.
    fn is_link(&self, _path: &str) -> io::Result<bool> {
        Ok(false)
    }

    /// Which folder the root is, `Ok(None)` where the file system has no stable identities. `NotFound`
    /// and `NotADirectory` when there is no such folder.
    fn root_identity(&self) -> io::Result<Option<FolderIdentity>>;

    /// When a file was last written, counted from 1970; `None` where the file system does not tell.
    fn modified(&self, _path: &str) -> io::Result<Option<Duration>> {
        Ok(None)
    }

    /// Which file `path` names; `None` when it names nothing, and where the system does not report it (Windows).
    fn file_id(&self, _path: &str) -> io::Result<Option<FileId>> {
        Ok(None)
    }

    /// The names in a folder, in no order. Names that are not UTF-8 are left out.
    fn list(&self, path: &str) -> io::Result<Vec<DirEntry>>;
}

/// An open file. Each one is its own owner of locks; dropping it frees them.
pub trait VfsFile: Send + Sync {
    /// *Mutating.* Appends `bytes`. Only for files from [`Vfs::create_new`].
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// *Mutating.* Makes bytes and length durable (not the name). After a failure the bytes must be given up: the system
    /// may have dropped them, and a second try would succeed without them.
    fn fsync(&self) -> io::Result<()>;

    /// A hint that `len` bytes from `offset` may go to the disk now. Promises nothing.
    fn start_writeback(&self, offset: u64, len: u64);

    /// Reads from `offset`, at most `out.len()` bytes; 0 at the end.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize>;

    /// Length in bytes when it was opened, and what was written through this handle.
    fn size(&self) -> u64;

    /// Which file this is; `None` where the system does not report it.
    fn id(&self) -> Option<FileId> {
        None
    }

    /// Tries to take a kernel lock: `false` when another handle holds one against it. `Unsupported` where there are none.
    fn try_lock(&self, mode: LockMode) -> io::Result<bool>;

    /// Frees the lock now, also when a forked process still shares the handle.
    fn unlock(&self);
}

/// Whether a rename or a link with this error may have been done all the same; see [`is_named`].
pub(super) fn may_be_done(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound)
}

/// Whether `path` names the open file `file`. A network file system may lose the answer to a rename or a link that it has
/// done, and report `AlreadyExists` or `NotFound` when it is asked again: then the name is there, and is that of the file.
pub(super) fn is_named(vfs: &dyn Vfs, file: &dyn VfsFile, path: &str) -> bool {
    file.id()
        .is_some_and(|id| matches!(vfs.file_id(path), Ok(Some(named)) if named == id))
}
