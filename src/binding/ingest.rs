//! An ingest that JavaScript feeds: in each lane it pushes until the pipe is full; one promise
//! reports the outcome.

use super::handle::Handle;
use super::items::PipeItems;
use super::monitor::ProgressFunction;
use super::pipe::Pipe;
use super::rest::{NativeRest, Rest};
use super::settle::{Settle, spawn};
use super::stop::Stop;
use super::types;
use crate::error::{Error, Result};
use crate::monitor::{Monitor, Progress};
use crate::ops::{self, IngestOptions, ItemSpec, ItemStream, Outline, SourceFile};
use crate::repo::Repository;
use crate::snapshot::Snapshot;
use crate::sync::lock;
use napi::Env;
use napi::bindgen_prelude::{ClassInstance, Function, PromiseRaw};
use napi_derive::napi;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// The newest counters of an ingest.
#[derive(Default)]
struct Counters(Mutex<Progress>);

impl Counters {
    /// Takes a report; returns whether it begins or ends the wait for memory. Lanes report
    /// concurrently, so an older report may arrive after a newer one.
    fn take(&self, report: &Progress) -> bool {
        let mut newest = lock(&self.0);
        let changed = newest.waiting != report.waiting;
        *newest = Progress {
            done_bytes: newest.done_bytes.max(report.done_bytes),
            new_bytes: newest.new_bytes.max(report.new_bytes),
            reused_bytes: newest.reused_bytes.max(report.reused_bytes),
            stored_bytes: newest.stored_bytes.max(report.stored_bytes),
            chunks: newest.chunks.max(report.chunks),
            items_done: newest.items_done.max(report.items_done),
            total_bytes: newest.total_bytes.max(report.total_bytes),
            waiting: report.waiting,
            auto_level: report.auto_level,
        };
        changed
    }

    fn json(&self) -> String {
        types::progress_json(&lock(&self.0))
    }
}

struct IngestMonitor {
    progress: Option<ProgressFunction>,
    counters: Arc<Counters>,
    pipes: Vec<Arc<Pipe>>,
    stop: Arc<Stop>,
}

impl Monitor for IngestMonitor {
    fn progress(&self, progress: &Progress) {
        // JavaScript asks for everything else when it needs it
        if self.counters.take(progress)
            && let Some(function) = &self.progress
        {
            function.report(progress);
        }
    }

    fn begins(&self, share_bytes: usize) {
        for pipe in &self.pipes {
            pipe.open(share_bytes / self.pipes.len());
        }
    }

    fn is_cancelled(&self) -> bool {
        // for the steps in which the engine reads from no pipe, as the commit
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
    counters: Arc<Counters>,
    stop: Arc<Stop>,
    job: Option<(Arc<Handle>, IngestOptions, IngestMonitor)>,
}

impl Drop for NativeIngest {
    fn drop(&mut self) {
        // collected, or the environment shuts down in mid-stream: the engine's threads stop soon
        // and release the lease
        self.stop.stop();
        fail_all(&self.pipes, &Error::Closed);
    }
}

impl NativeIngest {
    /// Prepares an ingest on an open handle. `InvalidArgument` when the manifest of the snapshot
    /// might exceed its limit.
    pub fn create(
        handle: &Arc<Handle>,
        options: IngestOptions,
        outline: &Outline,
        lanes: u32,
        on_progress: Option<Function<'_, String, ()>>,
    ) -> Result<Self> {
        let progress = ProgressFunction::new(on_progress);
        let progress = progress.map_err(|error| Error::Internal {
            reason: error.to_string(),
        })?;
        // entered only to fail if the handle is closed: the operation itself begins with run()
        outline.check(handle.enter(None)?.repo())?;
        let pipes: Vec<_> = (0..lanes.max(1)).map(|_| Arc::<Pipe>::default()).collect();
        let stop = Arc::<Stop>::default();
        let counters = Arc::<Counters>::default();
        let monitor = IngestMonitor {
            progress,
            counters: Arc::clone(&counters),
            pipes: pipes.clone(),
            stop: Arc::clone(&stop),
        };
        Ok(Self {
            pipes,
            counters,
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
    /// Starts the engine's thread; resolves to the snapshot as JSON. May be called once.
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
                // a producer may be waiting for room
                fail_all(&monitor.pipes, error);
            }
            operation.end(&snapshot);
            types::snapshot_json(&snapshot?)
        })
    }

    /// Returns the lane with this number, counted from 0.
    #[napi]
    pub fn lane(&self, number: u32) -> napi::Result<NativeLane> {
        let pipe = self.pipes.get(number as usize);
        let pipe = pipe.ok_or_else(|| napi::Error::from_reason("There is no such lane"))?;
        Ok(NativeLane { pipe: Arc::clone(pipe) })
    }

    /// The newest counters of the engine, as JSON. After `run()` has resolved they are final.
    #[napi(getter)]
    pub fn counters(&self) -> String {
        self.counters.json()
    }

    /// Bytes that the engine has read from files, of all items; exact up to 2^53.
    #[napi(getter)]
    pub fn file_bytes(&self) -> f64 {
        self.pipes.iter().map(|pipe| pipe.file_bytes()).sum::<u64>() as f64
    }

    /// Ends the ingest without a snapshot. Returns `false` when the commit has begun: then `run()`
    /// reports whether there is one.
    #[napi]
    pub fn abort(&self) -> bool {
        let in_time = self.stop.stop();
        fail_all(&self.pipes, &Error::Cancelled);
        in_time
    }
}

/// A lane: its items are pushed one after the other.
#[napi]
pub struct NativeLane {
    pipe: Arc<Pipe>,
}

#[napi]
impl NativeLane {
    /// Begins the item at `position` of the snapshot, counted from 0; `expected_size` is the number
    /// of bytes that its source has promised, a whole number.
    #[napi]
    pub fn begin_item(&self, position: u32, name: String, kind: String, expected_size: Option<f64>) {
        self.pipe.begin_item(ItemSpec {
            name,
            kind,
            // exact: index.js passes only whole numbers up to 2^53
            expected_size: expected_size.map(|size| size as u64),
            position: u64::from(position),
        });
    }

    /// Copies a piece of the item. Returns `false` when `drained()` must be awaited before the next
    /// push.
    #[napi]
    pub fn push(&self, chunk: &[u8]) -> bool {
        self.pipe.push(chunk)
    }

    /// Takes the whole item from the file at `path`, which the engine opens when it reaches the
    /// item.
    #[napi]
    pub fn read_path(&self, path: String) {
        self.pipe.send_path(PathBuf::from(path));
    }

    /// Takes the whole item from an open file. Each `NativeFile` can be used once.
    #[napi]
    pub fn read_file(&self, mut file: ClassInstance<'_, NativeFile>) {
        if let Some(file) = file.file.take() {
            self.pipe.send_file(file);
        }
    }

    /// Takes the bytes after those that were pushed from the rest of a file. Resolves once the
    /// engine has read it, or when the ingest failed.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn read_rest<'env>(
        &self,
        env: &'env Env,
        mut rest: ClassInstance<'_, NativeRest>,
    ) -> napi::Result<PromiseRaw<'env, ()>> {
        let (settle, promise) = Settle::new(env)?;
        if let Some(file) = rest.take() {
            self.pipe
                .send_rest(Rest::new(file, Box::new(move || settle.done(Ok(())))));
        }
        Ok(promise)
    }

    /// Resolves once there is room, at the earliest when the ingest begins; rejects when the ingest
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

    /// Ends the lane. When all lanes have ended, the ingest commits.
    #[napi]
    pub fn finish(&self) {
        self.pipe.end();
    }
}

/// A file that the host has open, read from its position at the time of the call.
#[napi]
pub struct NativeFile {
    file: Option<SourceFile>,
    size: Option<f64>,
}

// A block of its own: the macro does not pass `cfg` of a method on to what it generates.
#[cfg(unix)]
#[napi]
impl NativeFile {
    /// Duplicates the descriptor, so that the host may close its own. Only where descriptors belong
    /// to the system (not on Windows).
    #[napi(factory)]
    pub fn from_fd(env: &Env, fd: i32) -> napi::Result<Self> {
        let file = super::descriptor::duplicate(env, fd, SourceFile::from_file)?;
        Ok(Self {
            size: file.expected_len().map(|len| len as f64),
            file: Some(file),
        })
    }
}

#[napi]
impl NativeFile {
    /// Bytes that the file is expected to give; `null` for a device.
    #[napi(getter)]
    pub fn size(&self) -> Option<f64> {
        self.size
    }
}
