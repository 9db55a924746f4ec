//! Errors of the storage, in the kinds that a caller handles differently.

use super::missing::no_new_names;
use std::fmt;
use std::sync::Arc;

/// The kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// No such file or folder.
    NotFound,
    /// There is a file where a folder is needed, or a folder where a file is needed.
    NotADirectory,
    /// There is a link, a pipe or a device in place of a file; these are never opened.
    NotAFile,
    /// The system denied permission (EACCES, EPERM).
    PermissionDenied,
    /// The file system is mounted read-only (EROFS).
    ReadOnly,
    /// No space or quota is left (ENOSPC, EDQUOT).
    NoSpace,
    /// The file is longer than the limit of the caller.
    TooLarge,
    /// The file ends before the end of the requested range.
    UnexpectedEnd,
    /// Kernel locks do not work on this file system.
    LocksUnsupported,
    /// The file system lacks another call that a repository needs; the source names the call.
    FilesystemUnsupported,
    /// An earlier flush failed, so that this handle cannot know which of its writes are durable.
    Poisoned,
    /// The process, the system or the connection cannot do the call now: no descriptors or memory
    /// (EMFILE, ENFILE, ENOMEM), a signal (EINTR), a stale handle or a server that does not respond
    /// (ESTALE, ETIMEDOUT, ENOTCONN).
    Unavailable,
    /// The reader passed to a put failed or has another length than stated.
    Source,
    /// A request to object storage failed for the given reason.
    Remote(RemoteFault),
    /// Any other error, for example EIO.
    Io,
}

/// Why a request to object storage failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteFault {
    /// No answer: no such host, no connection, no answer in time.
    Unreachable,
    /// The service is overloaded or has an error of its own.
    Busy,
    /// There are no credentials, or they are wrong or have expired.
    Credentials,
    /// There is no such bucket.
    Bucket,
    /// The bucket is in another region.
    Region,
    /// The clocks of this machine and the service differ too much.
    Clock,
    /// The certificate of the service is not trusted.
    Certificate,
}

impl RemoteFault {
    /// What failed, in a few words.
    pub fn text(self) -> &'static str {
        match self {
            Self::Unreachable => "the service does not answer",
            Self::Busy => "the service is overloaded or has an internal error",
            Self::Credentials => "the service does not accept the credentials, or there are none",
            Self::Bucket => "the bucket does not exist",
            Self::Region => "the bucket is in another region",
            Self::Clock => "the clock of this machine differs too much from that of the service",
            Self::Certificate => "the certificate of the service is not trusted",
        }
    }
}

/// The meaning of a failed read for its file: the one rule by which every room distinguishes
/// absence and damage from a read that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There is no such file.
    Missing,
    /// The file is not as expected: too short, too long, or not a regular file.
    Wrong,
    /// Nothing: the read itself failed. The caller must not report damage, or move, delete or
    /// remember anything because of it.
    Unreadable,
}

impl ErrorKind {
    /// Returns what a failed read of this kind indicates about its file.
    pub fn verdict(self) -> Verdict {
        match self {
            Self::NotFound => Verdict::Missing,
            Self::NotADirectory | Self::NotAFile | Self::UnexpectedEnd | Self::TooLarge => Verdict::Wrong,
            _ => Verdict::Unreadable,
        }
    }

    /// Returns `true` when another copy or parity may supply the bytes, which their hash then
    /// proves: the file is missing or wrong, or the device cannot read this part of it. Every other
    /// failure concerns more than one file.
    pub fn is_erasure(self) -> bool {
        self.verdict() != Verdict::Unreadable || self == Self::Io
    }
}

/// An error of any room that may have a failed read as its cause.
pub trait FailedRead {
    /// Returns the failed read, if it indicates nothing about its file.
    fn unreadable(&self) -> Option<&Error>;
}

impl FailedRead for Error {
    fn unreadable(&self) -> Option<&Error> {
        (self.kind.verdict() == Verdict::Unreadable).then_some(self)
    }
}

/// Applies the rule of [`Verdict`]: the outer error is a failed read that indicates nothing about
/// its file; the inner error is absence or damage.
pub fn judge<T, E: FailedRead>(result: std::result::Result<T, E>) -> Result<std::result::Result<T, E>> {
    match &result {
        Err(error) => match error.unreadable() {
            Some(unreadable) => Err(unreadable.clone()),
            None => Ok(result),
        },
        Ok(_) => Ok(result),
    }
}

/// A failed call: the operation, the key, and the cause.
#[derive(Debug, Clone)]
pub struct Error {
    /// The kind of failure.
    pub kind: ErrorKind,
    /// The operation, for example `put` or `fsync`.
    pub op: &'static str,
    /// The key or path. Empty for the root, whose path the caller knows: see [`Error::at_root`].
    pub path: String,
    /// The error of the system, if there was one.
    pub source: Option<Arc<std::io::Error>>,
}

/// Errors are equal when kind, operation and path are, whatever the system reported.
impl PartialEq for Error {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, self.op, &self.path) == (other.kind, other.op, &other.path)
    }
}

impl Eq for Error {}

/// Result of a storage call.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Makes an error without a system error.
    pub fn new(kind: ErrorKind, op: &'static str, path: impl Into<String>) -> Self {
        Self {
            kind,
            op,
            path: path.into(),
            source: None,
        }
    }

    /// The reader that was passed to a put failed.
    pub(super) fn of_source(op: &'static str, path: impl Into<String>, source: std::io::Error) -> Self {
        Self {
            kind: ErrorKind::Source,
            op,
            path: path.into(),
            source: Some(Arc::new(source)),
        }
    }

    /// A read that failed because no memory was left: it says nothing about the file.
    pub fn no_memory(path: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, "get", path)
    }

    /// Returns `true` when the failed call was a read: of a file, a length or a listing.
    pub fn is_read(&self) -> bool {
        matches!(self.op, "get" | "get_range" | "size" | "list" | "read")
    }

    /// Makes an error from a system error, whose kind it derives.
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

    /// Returns the error with the path of the root, if it concerns the root.
    #[must_use]
    pub fn at_root(mut self, root: &str) -> Self {
        if self.path.is_empty() {
            root.clone_into(&mut self.path);
        }
        self
    }
}

/// The error of [`Vfs::open`](super::Vfs::open) for a pipe or a device.
#[derive(Debug)]
pub(super) struct NotARegularFile;

impl fmt::Display for NotARegularFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a regular file")
    }
}

impl std::error::Error for NotARegularFile {}

/// Returns whether the error is [`NotARegularFile`], or that of opening a link without following it
/// (ELOOP).
fn is_no_file(error: &std::io::Error) -> bool {
    #[cfg(unix)]
    if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        return true;
    }
    error.get_ref().is_some_and(|inner| inner.is::<NotARegularFile>())
}

/// Returns whether the error means that the process or the system can open no more files.
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
            (None, ErrorKind::PermissionDenied) => f.write_str(": permission denied"),
            (None, ErrorKind::ReadOnly) => f.write_str(": the file system is read-only"),
            (None, ErrorKind::NoSpace) => f.write_str(": no space or quota left"),
            (None, ErrorKind::TooLarge) => f.write_str(": the file is larger than its limit"),
            (None, ErrorKind::UnexpectedEnd) => f.write_str(": the file is shorter than expected"),
            (None, ErrorKind::LocksUnsupported) => f.write_str(": the file system has no working kernel locks"),
            (None, ErrorKind::FilesystemUnsupported) => f.write_str(": the file system lacks a required call"),
            (None, ErrorKind::Poisoned) => f.write_str(": an earlier flush failed"),
            (None, ErrorKind::Unavailable) => f.write_str(": the system cannot do this now"),
            (None, ErrorKind::Source) => f.write_str(": the source has another length than stated"),
            (None, ErrorKind::Remote(fault)) => write!(f, ": {}", fault.text()),
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
    fn only_an_error_about_the_root_gets_its_path() {
        let root = Error::new(ErrorKind::PermissionDenied, "init", "");
        assert_eq!(
            root.to_string(),
            "init of the repository folder failed: permission denied"
        );
        assert_eq!(
            root.at_root("/x/y").to_string(),
            "init of /x/y failed: permission denied"
        );
        let file = Error::new(ErrorKind::NotFound, "lock", "locks/commit").at_root("/x/y");
        assert_eq!(file.to_string(), "lock of locks/commit failed: no such file");
    }

    #[test]
    fn only_errors_about_the_file_itself_are_absence_or_damage() {
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
