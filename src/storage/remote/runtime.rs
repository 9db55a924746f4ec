//! The threads on which requests run. They are started by the first request of the process and
//! shared by all handles.

use super::super::{Error, ErrorKind, Result};
use std::sync::OnceLock;
use tokio::runtime::{Builder, Handle, Runtime};

/// Threads that drive the connections. Encryption of the transport is all that they compute.
const THREADS: usize = 2;

fn shared() -> Result<&'static Runtime> {
    static SHARED: OnceLock<Runtime> = OnceLock::new();
    // a failure is not cached: the next call tries again
    if let Some(runtime) = SHARED.get() {
        return Ok(runtime);
    }
    let made = Builder::new_multi_thread()
        .worker_threads(THREADS)
        .thread_name("ca-remote")
        .enable_all()
        .build();
    let made = made.map_err(|error| Error::from_io("start threads for", "requests", error))?;
    Ok(SHARED.get_or_init(|| made))
}

/// Waits for the result of `future`, on the calling thread, which must not be one of this room.
pub(super) fn block_on<F: Future>(future: F) -> Result<F::Output> {
    if Handle::try_current().is_ok() {
        return Err(Error::new(ErrorKind::Io, "wait for", "a request on its own thread"));
    }
    Ok(shared()?.block_on(future))
}

/// The runtime, for tasks that continue after the call that starts them.
pub(super) fn handle() -> Result<&'static Handle> {
    Ok(shared()?.handle())
}
