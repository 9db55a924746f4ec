//! Descriptors that the host has open. Only where they belong to the system (not on Windows, where
//! they are numbers of Node itself).

use super::error::js_error;
use crate::error::Error;
use napi::Env;
use std::fs::File;
use std::io;
use std::os::fd::BorrowedFd;

/// Gives a duplicate of a descriptor to `read`, so that the host may close its own.
pub(super) fn duplicate<T>(env: &Env, fd: i32, read: impl FnOnce(File) -> io::Result<T>) -> napi::Result<T> {
    let duplicate = || {
        if fd < 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: it is not -1, and is used within this call only, to duplicate it, which fails if
        // no file has that number
        let theirs = unsafe { BorrowedFd::borrow_raw(fd) };
        read(theirs.try_clone_to_owned()?.into())
    };
    duplicate().map_err(|error| {
        let reason = format!("The file descriptor {fd} cannot be read: {error}");
        js_error(env, &Error::InvalidArgument { reason })
    })
}
