//! A restore that JavaScript reads piece by piece.

use super::error::js_error;
use super::handle::{Handle, Operation};
use super::pipe::{Pipe, Poll};
use super::settle::{Settle, start_thread};
use crate::error::{Error, Result};
use crate::monitor::Monitor;
use crate::ops::files::{MembersOf, plan_member, restore_member};
use crate::ops::{self, Piece, RestoreOptions};
use crate::repo::Repository;
use napi::Env;
use napi::bindgen_prelude::{BufferSlice, Either3, Null, PromiseRaw, Undefined};
use napi_derive::napi;
use std::sync::Arc;

/// Bytes of one piece for JavaScript. Smaller pieces cost more calls; larger ones gain nothing.
const PIECE: usize = 256 << 10;

/// A restore that is being read.
#[napi]
pub struct NativeRestore {
    pipe: Arc<Pipe>,
    size: u64,
}

impl Drop for NativeRestore {
    fn drop(&mut self) {
        // the reader was dropped: the engine's thread ends
        self.pipe.fail(Error::Cancelled);
    }
}

/// Stops the engine when the reader was dropped, also while the engine has no bytes to give out.
struct ReaderGone(Arc<Pipe>);

impl Monitor for ReaderGone {
    fn begins(&self, share_bytes: usize) {
        self.0.open(share_bytes);
    }

    fn is_cancelled(&self) -> bool {
        self.0.check().is_err()
    }
}

impl NativeRestore {
    /// Plans the restore and starts the engine's thread, which reads ahead as far as the pipe has
    /// room.
    pub fn start(handle: &Arc<Handle>, repo: &Arc<Repository>, id: &str, options: &RestoreOptions) -> Result<Self> {
        let pipe = Arc::<Pipe>::default();
        let operation = handle.enter(Some(&pipe))?;
        let plan = ops::plan_restore(repo, id, options)?;
        let size = plan.size();
        Self::run(operation, pipe, size, move |repo, monitor, give| {
            ops::restore_pieces(repo, &plan, monitor, give)
        })
    }

    /// The same for a member of a tar.
    pub fn start_member(handle: &Arc<Handle>, repo: &Arc<Repository>, of: MembersOf, member: &[u8]) -> Result<Self> {
        let pipe = Arc::<Pipe>::default();
        let operation = handle.enter(Some(&pipe))?;
        let plan = plan_member(repo, &of, member, &ReaderGone(Arc::clone(&pipe)))?;
        let size = plan.size();
        Self::run(operation, pipe, size, move |repo, monitor, give| {
            restore_member(repo, &plan, monitor, give)
        })
    }

    fn run(
        operation: Operation,
        pipe: Arc<Pipe>,
        size: u64,
        restore: impl FnOnce(&Arc<Repository>, &dyn Monitor, &mut dyn FnMut(Piece) -> Result<()>) -> Result<()>
        + Send
        + 'static,
    ) -> Result<Self> {
        let producer = Arc::clone(&pipe);
        let work = move || {
            let reader = ReaderGone(Arc::clone(&producer));
            let mut give = |piece: Piece| piece.parts(PIECE).try_for_each(|part| producer.give(part));
            let result = operation.run("ca-restore", |repo| restore(repo, &reader, &mut give));
            match &result {
                Ok(()) => producer.end(),
                Err(error) => producer.fail(error.clone()),
            }
            operation.end(&result);
        };
        start_thread("ca-restore", work)?;
        Ok(Self { pipe, size })
    }
}

#[napi]
impl NativeRestore {
    /// Total bytes of the restore; exact up to 2^53, which no stored size exceeds.
    #[napi(getter)]
    pub fn size(&self) -> f64 {
        self.size as f64
    }

    /// Returns a piece, `null` at the end, or `undefined` when `ready()` must be awaited first.
    /// After a failure it returns `undefined`: `ready()` then rejects with the error and all its
    /// properties.
    #[napi(ts_return_type = "Buffer | null | undefined")]
    pub fn read<'env>(&self, env: &'env Env) -> napi::Result<Either3<BufferSlice<'env>, Null, Undefined>> {
        Ok(match self.pipe.poll() {
            Ok(Poll::Data(piece)) => {
                let buffer = BufferSlice::copy_from(env, &piece);
                self.pipe.taken(piece);
                Either3::A(buffer.map_err(|error| {
                    let reason = error.to_string();
                    js_error(env, &Error::Internal { reason })
                })?)
            }
            Ok(Poll::End) => Either3::B(Null),
            Ok(Poll::Pending) | Err(_) => Either3::C(()),
        })
    }

    /// Resolves once `read()` has a piece or the end; rejects, with all properties of the error,
    /// when the restore failed.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn ready<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, ()>> {
        let (settle, promise) = Settle::new(env)?;
        self.pipe.on_data(Box::new(move |result| settle.done(result)));
        Ok(promise)
    }

    /// Ends the restore: the rest is not wanted.
    #[napi]
    pub fn cancel(&self) {
        self.pipe.fail(Error::Cancelled);
    }
}
