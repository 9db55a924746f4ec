//! The error codes by which file systems report that they lack a call: locks, flushes, or renames
//! that replace nothing.
//!
//! NFS, SMB and FUSE file systems return various codes, so each list has more codes than the manual
//! pages.

use std::fmt;
use std::io;

/// The file system has neither renames that replace nothing nor hard links, and without one of them
/// a file could overwrite another. Wrapped in an [`io::Error`].
#[derive(Debug)]
pub(super) struct NoNewNames {
    link: io::Error,
}

impl fmt::Display for NoNewNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has = match cfg!(windows) {
            true => "no hard links",
            false => "neither renames that replace nothing nor hard links",
        };
        write!(f, "the file system has {has} ({})", self.link)
    }
}

impl std::error::Error for NoNewNames {}

/// Converts the error of a hard link, where no other call is left to publish a file.
pub(super) fn of_last_link(error: io::Error) -> io::Error {
    match is_one_of(&error, NO_LINKS) {
        true => io::Error::new(io::ErrorKind::Unsupported, NoNewNames { link: error }),
        false => error,
    }
}

/// Returns whether the error is [`NoNewNames`].
pub(super) fn no_new_names(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<NoNewNames>())
}

/// Returns whether the error of a lock means that the file system has no locks.
pub(super) fn no_locks(error: &io::Error) -> bool {
    is_one_of(error, NO_LOCKS) || error.kind() == io::ErrorKind::Unsupported
}

/// Returns whether the error of a flush means that the file system has no flush, as opposed to a
/// failed flush.
pub(super) fn no_flush(error: &io::Error) -> bool {
    is_one_of(error, NO_FLUSH) || error.kind() == io::ErrorKind::Unsupported
}

fn is_one_of(error: &io::Error, codes: &[i32]) -> bool {
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

#[cfg(unix)]
use rustix::io::Errno;

/// EPERM is the code in the manual page of `link`; the file was just created in this folder, so no
/// permission is missing.
#[cfg(unix)]
const NO_LINKS: &[i32] = &[
    Errno::PERM.raw_os_error(),
    Errno::ACCESS.raw_os_error(),
    Errno::MLINK.raw_os_error(),
    Errno::INVAL.raw_os_error(),
    Errno::NOSYS.raw_os_error(),
    Errno::NOTSUP.raw_os_error(),
    Errno::OPNOTSUPP.raw_os_error(),
];
#[cfg(unix)]
const NO_LOCKS: &[i32] = &[
    Errno::NOLCK.raw_os_error(),
    Errno::NOSYS.raw_os_error(),
    Errno::NOTSUP.raw_os_error(),
    Errno::OPNOTSUPP.raw_os_error(),
    Errno::INVAL.raw_os_error(),
];
#[cfg(unix)]
const NO_FLUSH: &[i32] = &[
    Errno::INVAL.raw_os_error(),
    Errno::NOSYS.raw_os_error(),
    Errno::NOTSUP.raw_os_error(),
    Errno::OPNOTSUPP.raw_os_error(),
    Errno::NOTTY.raw_os_error(),
];

/// ERROR_INVALID_FUNCTION, ERROR_NOT_SUPPORTED.
#[cfg(windows)]
const NO_LINKS: &[i32] = &[1, 50];
#[cfg(windows)]
const NO_LOCKS: &[i32] = &[];
#[cfg(windows)]
const NO_FLUSH: &[i32] = &[1, 50];

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn of(code: Errno) -> io::Error {
        io::Error::from_raw_os_error(code.raw_os_error())
    }

    #[test]
    fn a_missing_flush_is_distinguished_from_a_failed_one() {
        for code in [Errno::NOTTY, Errno::NOTSUP, Errno::INVAL, Errno::NOSYS] {
            assert!(no_flush(&of(code)), "{code}");
        }
        for code in [
            Errno::IO,
            Errno::NOSPC,
            Errno::DQUOT,
            Errno::MFILE,
            Errno::STALE,
            Errno::ROFS,
        ] {
            assert!(!no_flush(&of(code)), "{code}");
        }
    }

    #[test]
    fn a_missing_link_call_is_distinguished_from_a_failed_one() {
        let missing = of_last_link(of(Errno::PERM));
        assert!(no_new_names(&missing));
        let text = missing.to_string();
        assert!(
            text.contains("hard links") && text.contains("renames that replace nothing"),
            "{text}"
        );
        for code in [Errno::EXIST, Errno::NOSPC, Errno::IO, Errno::ROFS] {
            assert!(!no_new_names(&of_last_link(of(code))), "{code}");
        }
    }
}
