//! A restore as JavaScript pulls it, and one into a file.

use super::archive::NativeRepository;
use super::check::CheckMonitor;
use super::error::js_error;
use super::handle::Handle;
use super::pipe::{Pipe, Poll};
use super::settle::{Settle, start_thread};
use super::stop::NativeStop;
use super::types;
use crate::error::{Error, Result};
use crate::monitor::Monitor;
use crate::ops::{self, RestoreOptions};
use crate::repo::Repository;
use napi::Env;
use napi::bindgen_prelude::{BufferSlice, ClassInstance, Either3, Function, Null, PromiseRaw, Undefined};
use napi_derive::napi;
use std::path::Path;
use std::sync::Arc;

/// Bytes that cross to JavaScript at a time: smaller costs more calls, larger gains nothing.
const PIECE: usize = 256 << 10;

/// A restore that is being read.
#[napi]
pub struct NativeRestore {
    pipe: Arc<Pipe>,
    size: u64,
}

impl Drop for NativeRestore {
    fn drop(&mut self) {
        // nobody reads any more: the engine's thread ends
        self.pipe.fail(Error::Cancelled);
    }
}

/// Stops the engine where it gives nothing out, and so does not see that nobody reads any more.
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
    /// Plans the restore and starts the engine's side, which runs ahead of the reader as far as the pipe has room.
    pub fn start(handle: &Arc<Handle>, repo: &Arc<Repository>, id: &str, options: &RestoreOptions) -> Result<Self> {
        let pipe = Arc::<Pipe>::default();
        let operation = handle.enter(Some(&pipe))?;
        let plan = ops::plan_restore(repo, id, options)?;
        let size = plan.size();
        let producer = Arc::clone(&pipe);
        let work = move || {
            let reader = ReaderGone(Arc::clone(&producer));
            let mut give = |bytes: &[u8]| bytes.chunks(PIECE).try_for_each(|piece| producer.give(piece));
            let result = operation.run("ca-restore", |repo| ops::restore(repo, &plan, &reader, &mut give));
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
impl NativeRepository {
    /// Restores into a file; the promise gives what was restored, as JSON.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn restore_to_file<'env>(
        &self,
        env: &'env Env,
        id: String,
        options: String,
        on_progress: Option<Function<'_, String, ()>>,
        stop: Option<ClassInstance<'_, NativeStop>>,
    ) -> napi::Result<PromiseRaw<'env, String>> {
        let monitor = CheckMonitor::new(on_progress, stop)?;
        self.handle().spawn(env, "ca-restore-to-file", move |repo| {
            let (options, path, overwrite) = types::restore_to_file_options(&options)?;
            let plan = ops::plan_restore(repo, &id, &options)?;
            ops::restore_to_file(repo, &plan, Path::new(&path), overwrite, &monitor)?;
            types::restored_json(&plan)
        })
    }
}

#[napi]
impl NativeRestore {
    /// Bytes that the restore will give in all; exact up to 2^53, which no stored size exceeds.
    #[napi(getter)]
    pub fn size(&self) -> f64 {
        self.size as f64
    }

    /// A piece, `null` at the end, `undefined` when `ready()` must be awaited first. After a failure too it is
    /// `undefined`: `ready()` then rejects with the error and all its properties.
    #[napi(ts_return_type = "Buffer | null | undefined")]
    pub fn read<'env>(&self, env: &'env Env) -> napi::Result<Either3<BufferSlice<'env>, Null, Undefined>> {
        Ok(match self.pipe.poll() {
            Ok(Poll::Data(bytes)) => {
                let buffer = BufferSlice::copy_from(env, &bytes);
                self.pipe.recycle(bytes);
                Either3::A(buffer.map_err(|error| {
                    let reason = error.to_string();
                    js_error(env, &Error::Internal { reason })
                })?)
            }
            Ok(Poll::End) => Either3::B(Null),
            Ok(Poll::Pending) | Err(_) => Either3::C(()),
        })
    }

    /// Resolves once `read()` has something to say; rejects, with all properties of the error, when the restore failed.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn ready<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, ()>> {
        let (settle, promise) = Settle::new(env)?;
        self.pipe.on_data(Box::new(move |result| settle.done(result)));
        Ok(promise)
    }

    /// Nobody wants the rest.
    #[napi]
    pub fn cancel(&self) {
        self.pipe.fail(Error::Cancelled);
    }
}
