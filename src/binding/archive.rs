//! The native handle of an open repository.

use super::error::js_error;
use super::handle::Handle;
use super::ingest::NativeIngest;
use super::restore::NativeRestore;
use super::settle::{Settle, caught, spawn};
use super::stop::{NativeStop, Stop};
use super::types;
use crate::error::Result;
use crate::executor::{Executor, PoolExecutor};
use crate::monitor::{Monitor, Warning};
use crate::ops;
use crate::panics;
use crate::repo::{self, Environment, Repository, Secret};
use napi::Env;
use napi::bindgen_prelude::{ClassInstance, FnArgs, Function, PromiseRaw, Status};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi_derive::napi;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// Weak: a listener alone keeps no process alive. Bounded: when JS does not keep up, warnings are dropped, not queued.
type WarningFunction = ThreadsafeFunction<FnArgs<WarningArgs>, (), FnArgs<WarningArgs>, Status, false, true, 64>;

/// Code, message, and the pack it is about.
type WarningArgs = (String, String, Option<String>);

struct JsMonitor {
    on_warning: Option<WarningFunction>,
    /// Ends the opening itself; nobody looks at it later.
    stop: Arc<Stop>,
}

impl Monitor for JsMonitor {
    fn warning(&self, warning: Warning) {
        if let Some(function) = &self.on_warning {
            let args = FnArgs::from((warning.code.to_owned(), warning.message, warning.pack));
            function.call(args, ThreadsafeFunctionCallMode::NonBlocking);
        }
    }

    fn is_cancelled(&self) -> bool {
        self.stop.is_stopped()
    }

    fn begin_commit(&self) -> bool {
        self.stop.begin_commit()
    }
}

/// An open repository.
#[napi]
pub struct NativeRepository {
    handle: Arc<Handle>,
    /// Known after `close` too.
    repository_id: String,
}

impl NativeRepository {
    /// What its operations hold on to.
    pub(super) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }
}

impl Drop for NativeRepository {
    fn drop(&mut self) {
        // collected without close(), or the environment is going away: running operations end, locks are freed
        self.handle.stop();
    }
}

/// One pool serves all handles that did not ask for a number of threads of their own.
fn executor(threads: Option<usize>) -> Result<Arc<dyn Executor>> {
    static SHARED: OnceLock<Arc<PoolExecutor>> = OnceLock::new();
    // a failure is not remembered: the next call finds threads, or not
    let make = |threads: usize| PoolExecutor::new(threads).map(Arc::new);
    if let Some(threads) = threads {
        return Ok(make(threads)?);
    }
    if let Some(shared) = SHARED.get() {
        return Ok(Arc::clone(shared) as Arc<dyn Executor>);
    }
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    let pool = make(threads)?;
    Ok(Arc::clone(SHARED.get_or_init(|| pool)) as Arc<dyn Executor>)
}

fn environment(path: &str, threads: Option<usize>, monitor: JsMonitor) -> Result<Environment> {
    panics::silence();
    Environment::local_with(Path::new(path), executor(threads)?, Arc::new(monitor))
}

fn monitor(
    on_warning: Option<Function<'_, FnArgs<WarningArgs>, ()>>,
    stop: Option<ClassInstance<'_, NativeStop>>,
) -> napi::Result<JsMonitor> {
    let build = |function: Function<'_, FnArgs<WarningArgs>, ()>| {
        function
            .build_threadsafe_function::<FnArgs<WarningArgs>>()
            .callee_handled::<false>()
            .weak::<true>()
            .max_queue_size::<64>()
            .build()
    };
    Ok(JsMonitor {
        on_warning: on_warning.map(build).transpose()?,
        stop: stop.map(|stop| stop.stop_handle()).unwrap_or_default(),
    })
}

/// From JSON to options, and how many threads the handle asks for.
type ReadOptions<O> = fn(&str) -> Result<(O, Option<usize>)>;

/// Reads options, then makes or opens a repository, on a thread of its own.
fn connect<'env, O: 'static>(
    env: &'env Env,
    name: &'static str,
    (path, options): (String, String),
    secret: Result<Option<Secret>>,
    monitor: JsMonitor,
    read: ReadOptions<O>,
    make: fn(Environment, Option<&Secret>, &O) -> Result<Repository>,
) -> napi::Result<PromiseRaw<'env, NativeRepository>> {
    spawn(env, name, move || {
        let secret = secret?;
        let (options, threads) = read(&options)?;
        panics::point(name);
        let repo = make(environment(&path, threads, monitor)?, secret.as_ref(), &options)?;
        Ok(NativeRepository {
            repository_id: repo.config().id.to_hex(),
            handle: Handle::new(repo),
        })
    })
}

/// Makes a repository and opens it.
#[napi(ts_return_type = "Promise<NativeRepository>")]
pub fn init<'env>(
    env: &'env Env,
    path: String,
    options: String,
    passphrase: Option<&[u8]>,
    raw_key: Option<&[u8]>,
    on_warning: Option<Function<'_, FnArgs<WarningArgs>, ()>>,
    stop: Option<ClassInstance<'_, NativeStop>>,
) -> napi::Result<PromiseRaw<'env, NativeRepository>> {
    let secret = types::secret(passphrase, raw_key);
    let monitor = monitor(on_warning, stop)?;
    let place = (path, options);
    connect(env, "ca-init", place, secret, monitor, types::init_options, repo::init)
}

/// Opens a repository.
#[napi(ts_return_type = "Promise<NativeRepository>")]
pub fn open<'env>(
    env: &'env Env,
    path: String,
    options: String,
    passphrase: Option<&[u8]>,
    raw_key: Option<&[u8]>,
    on_warning: Option<Function<'_, FnArgs<WarningArgs>, ()>>,
    stop: Option<ClassInstance<'_, NativeStop>>,
) -> napi::Result<PromiseRaw<'env, NativeRepository>> {
    let secret = types::secret(passphrase, raw_key);
    let monitor = monitor(on_warning, stop)?;
    let place = (path, options);
    connect(env, "ca-open", place, secret, monitor, types::open_options, repo::open)
}

#[napi]
impl NativeRepository {
    /// Begins an ingest that reads `lanes` items at once.
    #[napi]
    pub fn ingest(
        &self,
        env: &Env,
        options: String,
        lanes: u32,
        on_progress: Option<Function<'_, String, ()>>,
    ) -> napi::Result<NativeIngest> {
        types::ingest_options(&options)
            .and_then(|options| NativeIngest::create(&self.handle, options, lanes, on_progress))
            .map_err(|error| js_error(env, &error))
    }

    /// Begins a restore.
    #[napi(ts_return_type = "Promise<NativeRestore>")]
    pub fn restore<'env>(
        &self,
        env: &'env Env,
        id: String,
        options: String,
    ) -> napi::Result<PromiseRaw<'env, NativeRestore>> {
        let handle = Arc::clone(&self.handle);
        self.handle.spawn(env, "ca-plan", move |repo| {
            NativeRestore::start(&handle, repo, &id, &types::restore_options(&options)?)
        })
    }

    /// All snapshots that match, newest first, as JSON.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn list_snapshots<'env>(&self, env: &'env Env, filter: String) -> napi::Result<PromiseRaw<'env, String>> {
        self.handle.spawn(env, "ca-list", move |repo| {
            let snapshots = ops::list_snapshots(repo, &types::filter(&filter)?)?;
            types::snapshots_json(&snapshots)
        })
    }

    /// The newest snapshot that matches, as JSON; `null` when none does.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn latest<'env>(&self, env: &'env Env, filter: String) -> napi::Result<PromiseRaw<'env, String>> {
        self.handle.spawn(env, "ca-latest", move |repo| {
            let found = ops::latest_snapshot(repo, &types::filter(&filter)?)?;
            found.map_or_else(|| Ok("null".to_owned()), |snapshot| types::snapshot_json(&snapshot))
        })
    }

    /// One snapshot as JSON.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn get_snapshot<'env>(&self, env: &'env Env, id: String) -> napi::Result<PromiseRaw<'env, String>> {
        self.handle.spawn(env, "ca-get", move |repo| {
            types::snapshot_json(&ops::get_snapshot(repo, &id)?)
        })
    }

    /// The id of the repository: 32 hex digits.
    #[napi(getter)]
    pub fn repository_id(&self) -> String {
        self.repository_id.clone()
    }

    /// Stops all operations and lets go of everything.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn close<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, ()>> {
        let (settle, promise) = Settle::new(env)?;
        let repo = self.handle.stop();
        self.handle.when_quiet(Box::new(move || {
            // files are closed and memory is returned when the promise resolves
            settle.done(caught(|| {
                drop(repo);
                Ok(())
            }));
        }));
        Ok(promise)
    }
}
