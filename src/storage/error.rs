//! What can go wrong with stored bytes, told apart as far as a caller can act on it.

use super::missing::no_new_names;
use std::fmt;
use std::sync::Arc;

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// No such file or folder.
    NotFound,
    /// The place is a file where a folder is needed, or the other way round.
    NotADirectory,
    /// Something that is never opened lies in place of a file: a link, a pipe, a device.
    NotAFile,
    /// Not allowed (EACCES, EPERM).
    PermissionDenied,
    /// The file system is mounted read-only (EROFS).
    ReadOnly,
    /// No space or quota left (ENOSPC, EDQUOT).
    NoSpace,
    /// The file is longer than the caller is ready to read.
    TooLarge,
    /// The file ends before the range that was asked for.
    UnexpectedEnd,
    /// Kernel locks do not work on this file system.
    LocksUnsupported,
    /// The file system lacks another call that a repository needs; the source names it.
    FilesystemUnsupported,
    /// An earlier flush failed, so this handle cannot promise anything about what it wrote.
    Poisoned,
    /// The process, the system or the connection cannot do it now: no descriptors or memory (EMFILE, ENFILE, ENOMEM), a
    /// signal (EINTR), a stale handle or a server that does not answer (ESTALE, ETIMEDOUT, ENOTCONN).
    Unavailable,
    /// The reader handed to a put failed or gave the wrong number of bytes.
    Source,
    /// Anything else (EIO and the like).
    Io,
}

/// What a failed read says about the file that was to be read: the one rule by which every room tells absence and damage
/// from a read that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There is no such file.
    Missing,
    /// There is something, and it is not what it should be: too short, too long, no regular file.
    Wrong,
    /// Nothing: the read failed. No bytes may be called damaged for it, and nothing may be moved, deleted or remembered.
    Unreadable,
}

impl ErrorKind {
    /// What a read that failed so says about the file.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::NotFound => Verdict::Missing,
            Self::NotADirectory | Self::NotAFile | Self::UnexpectedEnd | Self::TooLarge => Verdict::Wrong,
            _ => Verdict::Unreadable,
        }
    }

    /// True when another copy or parity may supply the bytes, which their hash then proves: the file is missing or wrong, or
    /// the device fails to read this part of it. Every other failure is about more than one file.
    pub fn is_erasure(self) -> bool {
        self.verdict() != Verdict::Unreadable || self == Self::Io
    }
}

/// An error of any room that may come from a failed read.
pub trait FailedRead {
    /// The read that failed without saying anything about its file.
    fn unreadable(&self) -> Option<&Error>;
}

impl FailedRead for Error {
    fn unreadable(&self) -> Option<&Error> {
        (self.kind.verdict() == Verdict::Unreadable).then_some(self)
    }
}

/// Applies the rule of [`Verdict`]: the outer error is a read that failed and says nothing; the inner one is absence or damage.
pub fn judge<T, E: FailedRead>(result: std::result::Result<T, E>) -> Result<std::result::Result<T, E>> {
    match &result {
        Err(error) => match error.unreadable() {
            Some(unreadable) => Err(unreadable.clone()),
            None => Ok(result),
        },
        Ok(_) => Ok(result),
    }
}

/// A failed call: what was tried, on which key, and why it failed.
#[derive(Debug, Clone)]
pub struct Error {
    /// What kind of failure.
    pub kind: ErrorKind,
    /// What was being done, as `put` or `fsync`.
    pub op: &'static str,
    /// The key or path. Empty for the root, whose path its caller knows: see [`Error::at_root`].
    pub path: String,
    /// The system's own error, where there was one.
    pub source: Option<Arc<std::io::Error>>,
}

/// Equal are the same failures of the same call, whatever the system said.
impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, self.op, &self.path) == (other.kind, other.op, &other.path)
    }
}

impl Eq for Error {}

/// Result of a storage call.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error without a system error behind it.
    pub fn new(kind: ErrorKind, op: &'static str, path: impl Into<String>) -> Self {
        Self {
            kind,
            op,
            path: path.into(),
            source: None,
        }
    }

    /// True when the call that failed was to read: a file, a length or a listing.
    pub fn is_read(&self) -> bool {
        matches!(self.op, "get" | "get_range" | "size" | "list" | "read")
    }

    /// Sorts a system error into a kind.
    pub fn from_io(op: &'static str, path: impl Into<String>, source: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match source.kind() {
            _ if no_new_names(&source) => ErrorKind::FilesystemUnsupported,
            Io::NotFound => ErrorKind::NotFound,
            Io::NotADirectory | Io::IsADirectory => ErrorKind::NotADirectory,
            _ if is_no_file(&source) => ErrorKind::NotAFile,
            Io::PermissionDenied => ErrorKind::PermissionDenied,
            Io::ReadOnlyFilesystem => ErrorKind::ReadOnly,
            Io::StorageFull | Io::QuotaExceeded => ErrorKind::NoSpace,
            Io::UnexpectedEof => ErrorKind::UnexpectedEnd,
            Io::OutOfMemory
            | Io::Interrupted
            | Io::WouldBlock
            | Io::TimedOut
            | Io::NotConnected
            | Io::HostUnreachable
            | Io::NetworkUnreachable
            | Io::NetworkDown
            | Io::ConnectionAborted
            | Io::ConnectionReset
            | Io::StaleNetworkFileHandle => ErrorKind::Unavailable,
            _ if too_many_files(&source) => ErrorKind::Unavailable,
            _ => ErrorKind::Io,
        };
        Self {
            kind,
            op,
            path: path.into(),
            source: Some(Arc::new(source)),
        }
    }

    /// The same error with the path of the root, if it is about the root.
    #[must_use]
    pub fn at_root(mut self, root: &str) -> Self {
        if self.path.is_empty() {
            root.clone_into(&mut self.path);
        }
        self
    }
}

/// What [`Vfs::open`](super::Vfs::open) returns for a pipe or a device.
#[derive(Debug)]
pub(super) struct NotARegularFile;

impl fmt::Display for NotARegularFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a regular file")
    }
}

impl std::error::Error for NotARegularFile {}

/// That, and what opening a link without following it returns (ELOOP).
fn is_no_file(error: &std::io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        return true;
    }
    error.get_ref().is_some_and(|inner| inner.is::<NotARegularFile>())
}

/// Tells the errors by which systems say that no more files can be open.
pub(super) fn too_many_files(error: &std::io::Error) -> bool {
    #[cfg(unix)]
    let codes = {
        use rustix::io::Errno;
        [Errno::MFILE.raw_os_error(), Errno::NFILE.raw_os_error()]
    };
    // ERROR_TOO_MANY_OPEN_FILES, ERROR_NO_SYSTEM_RESOURCES
    #[cfg(windows)]
    let codes = [4, 1450];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => write!(f, "{} of the repository folder failed", self.op)?,
            path => write!(f, "{} of {path} failed", self.op)?,
        }
        match (&self.source, self.kind) {
            (Some(source), _) => write!(f, ": {source}"),
            (None, ErrorKind::NotFound) => f.write_str(": no such file"),
            (None, ErrorKind::NotAFile) => f.write_str(": not a regular file"),
            (None, ErrorKind::NotADirectory) => f.write_str(": not a folder"),
            (None, ErrorKind::PermissionDenied) => f.write_str(": not allowed"),
            (None, ErrorKind::ReadOnly) => f.write_str(": the file system is read-only"),
            (None, ErrorKind::NoSpace) => f.write_str(": no space left"),
            (None, ErrorKind::TooLarge) => f.write_str(": the file is too large"),
            (None, ErrorKind::UnexpectedEnd) => f.write_str(": the file ends too early"),
            (None, ErrorKind::LocksUnsupported) => f.write_str(": the file system has no working kernel locks"),
            (None, ErrorKind::FilesystemUnsupported) => f.write_str(": the file system lacks a call that is needed"),
            (None, ErrorKind::Poisoned) => f.write_str(": an earlier flush failed"),
            (None, ErrorKind::Unavailable) => f.write_str(": the system cannot do it now"),
            (None, ErrorKind::Source) => f.write_str(": the source gave the wrong number of bytes"),
            (None, ErrorKind::Io) => f.write_str(": input/output error"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_about_the_root_names_it_and_no_other_is_renamed() {
        let root = Error::new(ErrorKind::PermissionDenied, "init", "");
        assert_eq!(root.to_string(), "init of the repository folder failed: not allowed");
        assert_eq!(root.at_root("/x/y").to_string(), "init of /x/y failed: not allowed");
        let file = Error::new(ErrorKind::NotFound, "lock", "locks/commit").at_root("/x/y");
        assert_eq!(file.to_string(), "lock of locks/commit failed: no such file");
    }

    #[test]
    fn only_what_a_file_shows_of_itself_is_absence_or_damage() {
        let kind_of = |kind: std::io::ErrorKind| Error::from_io("get", "key", kind.into()).kind;
        for kind in [
            std::io::ErrorKind::OutOfMemory,
            std::io::ErrorKind::TimedOut,
            std::io::ErrorKind::StaleNetworkFileHandle,
            std::io::ErrorKind::PermissionDenied,
            std::io::ErrorKind::Other,
        ] {
            assert_eq!(kind_of(kind).verdict(), Verdict::Unreadable, "{kind:?}");
        }
        #[cfg(unix)]
        for errno in [
            rustix::io::Errno::MFILE,
            rustix::io::Errno::NFILE,
            rustix::io::Errno::NOMEM,
            rustix::io::Errno::STALE,
        ] {
            let error = Error::from_io("get", "key", errno.into());
            assert_eq!(error.kind, ErrorKind::Unavailable, "{errno:?}");
            assert!(!error.kind.is_erasure());
        }
        assert_eq!(kind_of(std::io::ErrorKind::NotFound).verdict(), Verdict::Missing);
        assert_eq!(kind_of(std::io::ErrorKind::UnexpectedEof).verdict(), Verdict::Wrong);
        assert!(ErrorKind::Io.is_erasure() && ErrorKind::NotFound.is_erasure());
    }
}
