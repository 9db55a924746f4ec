//! An ingest as JavaScript drives it: in each lane, push until told to wait; and one promise for the outcome.

use super::error::js_error;
use super::handle::Handle;
use super::items::PipeItems;
use super::pipe::Pipe;
use super::settle::{Settle, spawn};
use super::stop::Stop;
use super::types;
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Progress};
use crate::ops::{self, IngestOptions, ItemSpec, ItemStream, Outline, SourceFile};
use crate::repo::Repository;
use crate::snapshot::Snapshot;
use napi::Env;
use napi::bindgen_prelude::{ClassInstance, Function, PromiseRaw, Status};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use std::path::PathBuf;
use std::sync::Arc;

type ProgressFunction = ThreadsafeFunction<String, (), String, Status, false, true, 16>;

struct IngestMonitor {
    progress: Option<ProgressFunction>,
    pipes: Vec<Arc<Pipe>>,
    stop: Arc<Stop>,
}

impl Monitor for IngestMonitor {
    fn progress(&self, progress: &Progress) {
        if let Some(function) = &self.progress {
            // dropped when JS is behind: the next one says more anyway
            function.call(types::progress_json(progress), ThreadsafeFunctionCallMode::NonBlocking);
        }
    }

    fn begins(&self, share_bytes: usize) {
        for pipe in &self.pipes {
            pipe.open(share_bytes / self.pipes.len());
        }
    }

    fn is_cancelled(&self) -> bool {
        // the engine looks here where it reads from no pipe: while it commits
        self.stop.is_stopped() || self.pipes.iter().any(|pipe| pipe.check().is_err())
    }

    fn begin_commit(&self) -> bool {
        self.stop.begin_commit()
    }
}

fn fail_all(pipes: &[Arc<Pipe>], error: &Error) {
    for pipe in pipes {
        pipe.fail(error.clone());
    }
}

/// An ingest that is being fed.
#[napi]
pub struct NativeIngest {
    pipes: Vec<Arc<Pipe>>,
    stop: Arc<Stop>,
    job: Option<(Arc<Handle>, IngestOptions, IngestMonitor)>,
}

impl Drop for NativeIngest {
    fn drop(&mut self) {
        // collected, or the environment is going away in mid-stream: the engine's threads stop and free the lease soon
        self.stop.stop();
        fail_all(&self.pipes, &Error::Closed);
    }
}

impl NativeIngest {
    /// For an open handle. `InvalidArgument` when the manifest of the snapshot might not fit.
    pub fn create(
        handle: &Arc<Handle>,
        (options, outline): (IngestOptions, Outline),
        lanes: u32,
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
        outline.check(handle.enter(None)?.repo())?;
        let pipes: Vec<_> = (0..lanes.max(1)).map(|_| Arc::<Pipe>::default()).collect();
        let stop = Arc::<Stop>::default();
        let monitor = IngestMonitor {
            progress,
            pipes: pipes.clone(),
            stop: Arc::clone(&stop),
        };
        Ok(Self {
            pipes,
            stop,
            job: Some((Arc::clone(handle), options, monitor)),
        })
    }
}

fn run_ingest(repo: &Arc<Repository>, options: &IngestOptions, monitor: &IngestMonitor) -> Result<Snapshot> {
    let items_of = |pipe: &Arc<Pipe>| {
        let repo = Arc::clone(repo);
        PipeItems::new(
            Arc::clone(pipe),
            Box::new(move |code, message| repo.warn(code, message)),
        )
    };
    if let [only] = &monitor.pipes[..] {
        return ops::ingest(repo, &mut items_of(only), options, monitor);
    }
    let pipes = monitor.pipes.iter();
    let mut lanes: Vec<Box<dyn ItemStream + Send>> = pipes.map(|pipe| Box::new(items_of(pipe)) as _).collect();
    ops::ingest_lanes(repo, &mut lanes, options, monitor, &|error| {
        fail_all(&monitor.pipes, error);
    })
}

#[napi]
impl NativeIngest {
    /// Starts the engine's side; the promise gives the snapshot as JSON. Once.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn run<'env>(&mut self, env: &'env Env) -> napi::Result<PromiseRaw<'env, String>> {
        let Some((handle, options, monitor)) = self.job.take() else {
            return Err(napi::Error::from_reason("run() was called before"));
        };
        let operation = handle.enter(self.pipes.first());
        for pipe in self.pipes.iter().skip(1) {
            handle.watch(pipe);
        }
        spawn(env, "ca-ingest", move || {
            let operation = operation?;
            let snapshot = operation.run("ca-ingest", |repo| run_ingest(repo, &options, &monitor));
            if let Err(error) = &snapshot {
                // a producer that waits for room must hear of it
                fail_all(&monitor.pipes, error);
            }
            operation.end(&snapshot);
            types::snapshot_json(&snapshot?)
        })
    }

    /// The lane with this number, from 0.
    #[napi]
    pub fn lane(&self, number: u32) -> napi::Result<NativeLane> {
        let pipe = self.pipes.get(number as usize);
        let pipe = pipe.ok_or_else(|| napi::Error::from_reason("There is no such lane"))?;
        Ok(NativeLane { pipe: Arc::clone(pipe) })
    }

    /// The source failed or the user gave up: no snapshot. `false`: it is too late, and `run()` tells whether there is one.
    #[napi]
    pub fn abort(&self) -> bool {
        let in_time = self.stop.stop();
        fail_all(&self.pipes, &Error::Cancelled);
        in_time
    }
}

/// One item after the other.
#[napi]
pub struct NativeLane {
    pipe: Arc<Pipe>,
}

#[napi]
impl NativeLane {
    /// Begins an item. `place`: its place in the snapshot; `expected_size`: bytes that its source has promised, a whole
    /// number.
    #[napi]
    pub fn begin_item(&self, place: u32, name: String, kind: String, expected_size: Option<f64>) {
        self.pipe.begin_item(ItemSpec {
            name,
            kind,
            // exact: index.js lets nothing through that is not a whole number up to 2^53
            expected_size: expected_size.map(|size| size as u64),
            place: u64::from(place),
        });
    }

    /// Copies a piece of the item. `false`: await `drained()` before the next.
    #[napi]
    pub fn push(&self, chunk: &[u8]) -> bool {
        self.pipe.push(chunk)
    }

    /// The whole item is in this file, which the engine reads at its turn.
    #[napi]
    pub fn read_path(&self, path: String) {
        self.pipe.send_path(PathBuf::from(path));
    }

    /// The same with an open file, once.
    #[napi]
    pub fn read_file(&self, mut file: ClassInstance<'_, NativeFile>) {
        if let Some(file) = file.file.take() {
            self.pipe.send_file(file);
        }
    }

    /// Resolves once there is room, which is not before the ingest begins; rejects when the ingest
    /// failed.
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

    /// Resolves once the engine has read all items of this lane; rejects when the ingest failed.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn quiet<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, ()>> {
        let (settle, promise) = Settle::new(env)?;
        self.pipe.on_quiet(Box::new(move |result| settle.done(result)));
        Ok(promise)
    }

    /// No more items: when all lanes say so, commit.
    #[napi]
    pub fn finish(&self) {
        self.pipe.end();
    }
}

/// A file that was open already, to be read from where it stood when this was made.
#[napi]
pub struct NativeFile {
    file: Option<SourceFile>,
    size: Option<f64>,
}

#[napi]
impl NativeFile {
    /// Makes a second descriptor of the same file, so that the first may be closed. Only where descriptors are the system's.
    #[cfg(unix)]
    #[napi(factory)]
    pub fn from_fd(env: &Env, fd: i32) -> napi::Result<Self> {
        let failed = |error: std::io::Error| {
            let reason = format!("The file descriptor {fd} cannot be read: {error}");
            js_error(env, &Error::InvalidArgument { reason })
        };
        if fd < 0 {
            return Err(failed(std::io::ErrorKind::InvalidInput.into()));
        }
        // SAFETY: not -1, and used within this call only, to duplicate it; a number that names no open file fails there
        let theirs = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
        let ours = theirs.try_clone_to_owned().map_err(failed)?;
        let file = SourceFile::from_file(ours.into()).map_err(failed)?;
        Ok(Self {
            size: file.expected_len().map(|len| len as f64),
            file: Some(file),
        })
    }

    /// Bytes to come, as far as is known now.
    #[napi(getter)]
    pub fn size(&self) -> Option<f64> {
        self.size
    }
}
