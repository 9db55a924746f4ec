//! An ingest as JavaScript drives it: push until told to wait, and one promise for the outcome.

use super::archive::Handle;
use super::pipe::{Pipe, PipeItems};
use super::settle::{Settle, caught, spawn};
use super::types;
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Progress};
use crate::ops::{self, IngestOptions, ItemSpec};
use napi::Env;
use napi::bindgen_prelude::{Function, PromiseRaw, Status};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use std::sync::Arc;

type ProgressFunction = ThreadsafeFunction<String, (), String, Status, false, true, 16>;

struct ProgressMonitor(Option<ProgressFunction>);

impl Monitor for ProgressMonitor {
    fn progress(&self, progress: &Progress) {
        if let Some(function) = &self.0 {
            // dropped when JS is behind: the next one says more anyway
            function.call(types::progress_json(progress), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }
}

/// An ingest that is being fed.
#[napi]
pub struct NativeIngest {
    pipe: Arc<Pipe>,
    job: Option<(Arc<Handle>, IngestOptions, ProgressMonitor)>,
}

impl Drop for NativeIngest {
    fn drop(&mut self) {
        // collected, or the environment is going away in mid-stream: the engine's thread stops and frees the lease
        self.pipe.fail(Error::Cancelled);
    }
}

impl NativeIngest {
    /// For an open handle.
    pub fn create(
        handle: &Arc<Handle>,
        options: IngestOptions,
        on_progress: Option<Function<'_, String, ()>>,
    ) -> Result<Self> {
        let build = |function: Function<'_, String, ()>| {
            let builder = function.build_threadsafe_function::<String>();
            builder
                .callee_handled::<false>()
                .weak::<true>()
                .max_queue_size::<16>()
                .build()
        };
        let progress = on_progress.map(build).transpose();
        let progress = progress.map_err(|error| Error::Internal {
            reason: error.to_string(),
        })?;
        // only to find out whether the handle is closed: the operation itself begins with run()
        let share = handle.enter(None)?.repo().operation_share();
        Ok(Self {
            pipe: Arc::new(Pipe::new(share)),
            job: Some((Arc::clone(handle), options, ProgressMonitor(progress))),
        })
    }
}

#[napi]
impl NativeIngest {
    /// Starts the engine's side; the promise gives the snapshot as JSON. Once.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn run<'env>(&mut self, env: &'env Env) -> napi::Result<PromiseRaw<'env, String>> {
        let Some((handle, options, monitor)) = self.job.take() else {
            return Err(napi::Error::from_reason("run() was called before"));
        };
        let pipe = Arc::clone(&self.pipe);
        let operation = handle.enter(Some(&pipe));
        spawn(env, "ca-ingest", move || {
            let operation = operation?;
            let mut items = PipeItems::new(Arc::clone(&pipe));
            let snapshot = caught(|| ops::ingest(operation.repo(), &mut items, &options, &monitor));
            drop(operation);
            if let Err(error) = &snapshot {
                // a producer that waits for room must hear of it
                pipe.fail(error.clone());
            }
            types::snapshot_json(&snapshot?)
        })
    }

    /// Begins an item. `expected_size`: bytes that its source has promised, a whole number.
    #[napi]
    pub fn begin_item(&self, name: String, kind: String, expected_size: Option<f64>) {
        self.pipe.begin_item(ItemSpec {
            name,
            kind,
            // exact: index.js lets nothing through that is not a whole number up to 2^53
            expected_size: expected_size.map(|size| size as u64),
        });
    }

    /// Copies a piece of the item. `false`: await `drained()` before the next.
    #[napi]
    pub fn push(&self, chunk: &[u8]) -> bool {
        self.pipe.push(chunk)
    }

    /// Resolves once there is room; rejects when the ingest failed.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn drained<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, ()>> {
        let (settle, promise) = Settle::new(env)?;
        self.pipe.on_space(Box::new(move |result| settle.done(result)));
        Ok(promise)
    }

    /// Ends the item.
    #[napi]
    pub fn end_item(&self) {
        self.pipe.end_item();
    }

    /// No more items: commit.
    #[napi]
    pub fn finish(&self) {
        self.pipe.end();
    }

    /// The source failed or the user gave up: no snapshot.
    #[napi]
    pub fn abort(&self) {
        self.pipe.fail(Error::Cancelled);
    }
}
