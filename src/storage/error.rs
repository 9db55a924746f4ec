//! What can go wrong with stored bytes, told apart as far as a caller can act on it.

use std::fmt;
use std::sync::Arc;

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// No such file or folder.
    NotFound,
    /// The place is a file where a folder is needed, or the other way round.
    NotADirectory,
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
    /// An earlier flush failed, so this handle cannot promise anything about what it wrote.
    Poisoned,
    /// The process or the system has run out of something for now: descriptors, memory (EMFILE, ENFILE, ENOMEM), or a
    /// signal came in between (EINTR). Says nothing about the file.
    Unavailable,
    /// The reader handed to a put failed or gave the wrong number of bytes.
    Source,
    /// Anything else (EIO and the like).
    Io,
}

impl ErrorKind {
    /// True for a failure that means damage at one place, which parity can do without; the others (not allowed, too many
    /// open files, an earlier flush failed) are about the whole store.
    pub fn is_damage(self) -> bool {
        matches!(
            self,
            Self::NotFound | Self::NotADirectory | Self::UnexpectedEnd | Self::TooLarge | Self::Io
        )
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

    /// Sorts a system error into a kind.
    pub fn from_io(op: &'static str, path: impl Into<String>, source: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match source.kind() {
            Io::NotFound => ErrorKind::NotFound,
            Io::NotADirectory | Io::IsADirectory => ErrorKind::NotADirectory,
            Io::PermissionDenied => ErrorKind::PermissionDenied,
            Io::ReadOnlyFilesystem => ErrorKind::ReadOnly,
            Io::StorageFull | Io::QuotaExceeded => ErrorKind::NoSpace,
            Io::UnexpectedEof => ErrorKind::UnexpectedEnd,
            Io::OutOfMemory | Io::Interrupted => ErrorKind::Unavailable,
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
            (None, ErrorKind::NotADirectory) => f.write_str(": not a folder"),
            (None, ErrorKind::PermissionDenied) => f.write_str(": not allowed"),
            (None, ErrorKind::ReadOnly) => f.write_str(": the file system is read-only"),
            (None, ErrorKind::NoSpace) => f.write_str(": no space left"),
            (None, ErrorKind::TooLarge) => f.write_str(": the file is too large"),
            (None, ErrorKind::UnexpectedEnd) => f.write_str(": the file ends too early"),
            (None, ErrorKind::LocksUnsupported) => f.write_str(": the file system has no working kernel locks"),
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
}
