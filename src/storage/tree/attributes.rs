//! Owner, permissions and time of what a restore writes.

use super::TreeResult;
use rustix::fs::{self as sys, AtFlags, Gid, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;
use std::os::fd::BorrowedFd;

/// The attributes of a file, a directory or a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Permissions, at most 0o7777.
    pub mode: u32,
    /// Numbers of owner and group; `None` leaves them to the system.
    pub owner: Option<(u32, u32)>,
    /// Time of the last change: seconds since 1970, and nanoseconds below 10^9.
    pub mtime: (i64, u32),
}

/// What is done to a directory when it is left.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Leave {
    mode: Option<Mode>,
    mtime: Option<(i64, u32)>,
}

impl Leave {
    /// Sets these attributes; the owner is set before.
    pub(super) fn with(attributes: &Attributes) -> Self {
        Self {
            mode: Some(mode(attributes.mode)),
            mtime: Some(attributes.mtime),
        }
    }

    /// A directory that no member states yet: what others may do is up to the umask.
    pub(super) fn created() -> Self {
        Self {
            mode: Some(mode(0o755)),
            mtime: None,
        }
    }

    /// Sets what a directory of this restore has, which is entered again. It is made writable for
    /// as long as it is open.
    pub(super) fn as_before(fd: BorrowedFd<'_>, found: &Stat) -> TreeResult<Self> {
        let was = Mode::from_raw_mode(found.st_mode);
        if !was.contains(Mode::RWXU) {
            sys::fchmod(fd, was | Mode::RWXU)?;
        }
        #[allow(clippy::unnecessary_cast, reason = "the types differ between systems")]
        Ok(Self {
            mode: Some(was),
            mtime: Some((found.st_mtime as i64, found.st_mtime_nsec as u32)),
        })
    }

    pub(super) fn apply(self, fd: BorrowedFd<'_>) -> TreeResult<()> {
        if let Some(mode) = self.mode {
            sys::fchmod(fd, mode)?;
        }
        if let Some(mtime) = self.mtime {
            sys::futimens(fd, &times(mtime))?;
        }
        Ok(())
    }
}

/// Sets the owner, before the permissions: a change of it takes setuid away. Returns whether it is
/// kept; without the permission it is not.
pub(super) fn own(fd: BorrowedFd<'_>, attributes: &Attributes) -> TreeResult<bool> {
    match attributes.owner {
        None => Ok(true),
        Some((uid, gid)) => is_kept(sys::fchown(fd, user(uid), group(gid))),
    }
}

/// Sets all attributes of an open file.
pub(super) fn apply_to(fd: BorrowedFd<'_>, attributes: &Attributes) -> TreeResult<bool> {
    let kept = own(fd, attributes)?;
    sys::fchmod(fd, mode(attributes.mode))?;
    sys::futimens(fd, &times(attributes.mtime))?;
    Ok(kept)
}

/// Sets all attributes of what cannot be opened: a link, which has no permissions, a pipe, a
/// device. Its name is random and was created just now.
pub(super) fn apply_to_name(
    directory: BorrowedFd<'_>,
    name: &str,
    attributes: &Attributes,
    has_mode: bool,
) -> TreeResult<bool> {
    let kept = match attributes.owner {
        None => true,
        Some((uid, gid)) => is_kept(sys::chownat(
            directory,
            name,
            user(uid),
            group(gid),
            AtFlags::SYMLINK_NOFOLLOW,
        ))?,
    };
    if has_mode {
        sys::chmodat(directory, name, mode(attributes.mode), AtFlags::empty())?;
    }
    sys::utimensat(directory, name, &times(attributes.mtime), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(kept)
}

fn is_kept(done: rustix::io::Result<()>) -> TreeResult<bool> {
    match done {
        Ok(()) => Ok(true),
        Err(Errno::PERM | Errno::INVAL | Errno::NOTSUP | Errno::OVERFLOW) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

/// The highest number means "no change" to the system, so it is no owner.
fn user(number: u32) -> Option<Uid> {
    (number != u32::MAX).then(|| Uid::from_raw(number))
}

fn group(number: u32) -> Option<Gid> {
    (number != u32::MAX).then(|| Gid::from_raw(number))
}

#[allow(
    clippy::useless_conversion,
    clippy::cast_possible_truncation,
    reason = "the types differ between systems"
)]
fn mode(bits: u32) -> Mode {
    Mode::from_raw_mode((bits & 0o7777) as sys::RawMode)
}

/// The time of the last change; that of the last access stays.
fn times((seconds, nanos): (i64, u32)) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: seconds,
            tv_nsec: nanos.into(),
        },
    }
}
