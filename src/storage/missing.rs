//! How file systems report that they lack a call: locks, flushes, or names that replace nothing.
//!
//! Some answer with a code of their own choice (NFS, SMB, FUSE), so each list has more than the manual pages name.

use std::fmt;
use std::io;

/// The file system can give a file a new name neither by a rename that replaces nothing nor by a hard link, and without
/// one of them a file could overwrite another. Inside an [`io::Error`].
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
        write!(f, "it has {has} ({})", self.link)
    }
}

impl std::error::Error for NoNewNames {}

/// What a failed link means where it is the only way to a new name.
pub(super) fn of_last_link(error: io::Error) -> io::Error {
    match is_one_of(&error, NO_LINKS) {
        true => io::Error::new(io::ErrorKind::Unsupported, NoNewNames { link: error }),
        false => error,
    }
}

/// Whether an error carries [`NoNewNames`].
pub(super) fn no_new_names(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<NoNewNames>())
}

/// Whether an error of a lock means that there are none.
pub(super) fn no_locks(error: &io::Error) -> bool {
    is_one_of(error, NO_LOCKS) || error.kind() == io::ErrorKind::Unsupported
}

/// Whether an error of a flush means that there is nothing to flush, as opposed to a flush that failed.
pub(super) fn no_flush(error: &io::Error) -> bool {
    is_one_of(error, NO_FLUSH) || error.kind() == io::ErrorKind::Unsupported
}

fn is_one_of(error: &io::Error, codes: &[i32]) -> bool {
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

#[cfg(unix)]
use rustix::io::Errno;

/// EPERM is what `link` reports by its manual page; the file was just made in this folder, so no permission is missing.
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
    fn a_flush_that_a_file_system_lacks_is_told_from_one_that_failed() {
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
    fn a_missing_link_is_named_and_a_failed_one_is_not() {
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
