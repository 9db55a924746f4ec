//! The kernel lock of an open file.
//!
//! Unix has locks that only other locks see. On Windows a lock also refuses every read and write of
//! what it covers, so there it covers one byte that is after any content: others can read a locked
//! file, such as a lease that is held. A lock of the whole file, as the standard library takes it,
//! covers that byte too.

use crate::storage::LockMode;
use std::fs::File;
use std::io;

/// Tries to lock the file; `false` when another handle holds a conflicting lock.
#[cfg(not(windows))]
pub(super) fn try_lock(file: &File, mode: LockMode) -> io::Result<bool> {
    use std::fs::TryLockError;
    let locked = match mode {
        LockMode::Shared => file.try_lock_shared(),
        LockMode::Exclusive => file.try_lock(),
    };
    match locked {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Releases the lock that this handle holds, if any.
#[cfg(not(windows))]
pub(super) fn unlock(file: &File) {
    let _ = file.unlock();
}

#[cfg(windows)]
pub(super) use windows::{try_lock, unlock};

#[cfg(windows)]
mod windows {
    use super::{File, LockMode, io};
    use std::os::windows::io::AsRawHandle;
    use windows_sys::Win32::Foundation::ERROR_LOCK_VIOLATION;
    use windows_sys::Win32::Storage::FileSystem::{
        LOCKFILE_EXCLUSIVE_LOCK, LOCKFILE_FAIL_IMMEDIATELY, LockFileEx, UnlockFileEx,
    };
    use windows_sys::Win32::System::IO::{OVERLAPPED, OVERLAPPED_0, OVERLAPPED_0_0};

    /// Position of the byte that is locked: 2^62, after the end of any file, and a positive number
    /// for servers that count with sign.
    const LOCKED_BYTE: u64 = 1 << 62;

    /// [`super::try_lock`].
    pub(in super::super) fn try_lock(file: &File, mode: LockMode) -> io::Result<bool> {
        let flags = match mode {
            LockMode::Shared => LOCKFILE_FAIL_IMMEDIATELY,
            LockMode::Exclusive => LOCKFILE_FAIL_IMMEDIATELY | LOCKFILE_EXCLUSIVE_LOCK,
        };
        let mut position = locked_byte();
        // SAFETY: the handle is open during the call, which does not wait, and so does not use
        // `position` after it has returned
        let locked = unsafe { LockFileEx(file.as_raw_handle(), flags, 0, 1, 0, &raw mut position) };
        if locked != 0 {
            return Ok(true);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(code) if code.cast_unsigned() == ERROR_LOCK_VIOLATION => Ok(false),
            _ => Err(error),
        }
    }

    /// [`super::unlock`].
    pub(in super::super) fn unlock(file: &File) {
        let mut position = locked_byte();
        // SAFETY: as above
        unsafe { UnlockFileEx(file.as_raw_handle(), 0, 1, 0, &raw mut position) };
    }

    fn locked_byte() -> OVERLAPPED {
        OVERLAPPED {
            Anonymous: OVERLAPPED_0 {
                Anonymous: OVERLAPPED_0_0 {
                    Offset: LOCKED_BYTE as u32,
                    OffsetHigh: (LOCKED_BYTE >> 32) as u32,
                },
            },
            ..OVERLAPPED::default()
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "makes the file that is locked")]
mod tests {
    use super::*;
    use std::fs::OpenOptions;
    use std::io::Write;

    #[test]
    fn a_locked_file_excludes_other_locks_and_no_reads_or_writes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lease");
        std::fs::write(&path, b"first").unwrap();
        let open = || OpenOptions::new().read(true).append(true).open(&path).unwrap();
        let (one, two) = (open(), open());
        assert!(try_lock(&one, LockMode::Exclusive).unwrap());
        for mode in [LockMode::Shared, LockMode::Exclusive] {
            assert!(!try_lock(&two, mode).unwrap(), "{mode:?}");
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"first");
        (&two).write_all(b", second").unwrap();
        (&one).write_all(b", third").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"first, second, third");
        unlock(&one);
        for file in [&one, &two] {
            assert!(try_lock(file, LockMode::Shared).unwrap());
        }
        assert!(!try_lock(&open(), LockMode::Exclusive).unwrap());
        drop((one, two));
        assert!(try_lock(&open(), LockMode::Exclusive).unwrap());
    }

    #[test]
    fn a_lock_of_the_whole_file_conflicts() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let other = File::open(file.path()).unwrap();
        file.as_file().try_lock().unwrap();
        assert!(!try_lock(&other, LockMode::Shared).unwrap());
        file.as_file().unlock().unwrap();
        assert!(try_lock(&other, LockMode::Shared).unwrap());
        assert!(file.as_file().try_lock().is_err());
    }
}
