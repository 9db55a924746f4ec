//! The native class of an open repository: `init`, `open`, and the operations that read snapshots
//! or move bytes.

use super::error::js_error;
use super::handle::Handle;
use super::ingest::NativeIngest;
use super::monitor::{OpenMonitor, OperationMonitor, WarningArgs};
use super::restore::NativeRestore;
use super::settle::{Settle, caught, spawn};
use super::stop::NativeStop;
use super::types;
use crate::error::Result;
use crate::executor::{Executor, PoolExecutor};
use crate::ops;
use crate::panics;
use crate::repo::{self, Environment, Repository, Secret};
use napi::Env;
use napi::bindgen_prelude::{ClassInstance, FnArgs, Function, PromiseRaw};
use napi_derive::napi;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// An open repository.
#[napi]
pub struct NativeRepository {
    handle: Arc<Handle>,
    /// Known after `close` too.
    repository_id: String,
}

impl NativeRepository {
    /// The handle that its operations share.
    pub(super) fn handle(&self) -> &Arc<Handle> {
        &self.handle
    }
}

impl Drop for NativeRepository {
    fn drop(&mut self) {
        // collected without close(), or the environment shuts down: running operations end and
        // locks are released
        self.handle.stop();
    }
}

/// Returns a pool of `threads` threads, or the one pool that all handles without that option share.
fn executor(threads: Option<usize>) -> Result<Arc<dyn Executor>> {
    static SHARED: OnceLock<Arc<PoolExecutor>> = OnceLock::new();
    // a failure is not cached: the next call tries again
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

fn environment(location: &str, handle: types::HandleOptions, monitor: OpenMonitor) -> Result<Environment> {
    panics::silence();
    let executor = executor(handle.threads)?;
    types::environment(location, handle, executor, Arc::new(monitor))
}

/// Parses options from JSON, and those of the handle.
type ReadOptions<O> = fn(&str) -> Result<(O, types::HandleOptions)>;

/// Parses options, then creates or opens a repository, on a separate thread.
fn connect<'env, O: 'static>(
    env: &'env Env,
    name: &'static str,
    (path, options): (String, String),
    secret: Result<Option<Secret>>,
    monitor: OpenMonitor,
    read: ReadOptions<O>,
    make: fn(Environment, Option<&Secret>, &O) -> Result<Repository>,
) -> napi::Result<PromiseRaw<'env, NativeRepository>> {
    spawn(env, name, move || {
        let secret = secret?;
        let (options, handle) = read(&options)?;
        panics::point(name);
        let repo = make(environment(&path, handle, monitor)?, secret.as_ref(), &options)?;
        Ok(NativeRepository {
            repository_id: repo.config().id.to_hex(),
            handle: Handle::new(repo),
        })
    })
}

/// Creates a repository and opens it.
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
    let monitor = OpenMonitor::new(on_warning, stop)?;
    let target = (path, options);
    connect(env, "ca-init", target, secret, monitor, types::init_options, repo::init)
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
    let monitor = OpenMonitor::new(on_warning, stop)?;
    let target = (path, options);
    connect(env, "ca-open", target, secret, monitor, types::open_options, repo::open)
}

#[napi]
impl NativeRepository {
    /// Begins an ingest that reads `lanes` items concurrently.
    #[napi]
    pub fn ingest(
        &self,
        env: &Env,
        options: String,
        lanes: u32,
        on_progress: Option<Function<'_, String, ()>>,
    ) -> napi::Result<NativeIngest> {
        types::ingest_options(&options)
            .and_then(|(options, outline)| NativeIngest::create(&self.handle, options, &outline, lanes, on_progress))
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
            let (options, member) = types::restore_options(&options)?;
            match member {
                None => NativeRestore::start(&handle, repo, &id, &options),
                Some(member) => NativeRestore::start_member(&handle, repo, types::of(id, options.item), &member),
            }
        })
    }

    /// Restores into a file; resolves to what was restored, as JSON.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn restore_to_file<'env>(
        &self,
        env: &'env Env,
        id: String,
        options: String,
        on_progress: Option<Function<'_, String, ()>>,
        stop: Option<ClassInstance<'_, NativeStop>>,
    ) -> napi::Result<PromiseRaw<'env, String>> {
        let monitor = OperationMonitor::new(on_progress, stop)?;
        self.handle.spawn(env, "ca-restore-to-file", move |repo| {
            let (options, member, path, overwrite) = types::restore_to_file_options(&options)?;
            if let Some(member) = member {
                let plan = ops::files::plan_member(repo, &types::of(id, options.item), &member, &monitor)?;
                ops::files::restore_member_to_file(repo, &plan, Path::new(&path), overwrite, &monitor)?;
                return types::restored_member_json(&plan);
            }
            let plan = ops::plan_restore(repo, &id, &options)?;
            ops::restore_to_file(repo, &plan, Path::new(&path), overwrite, &monitor)?;
            types::restored_json(&plan)
        })
    }

    /// Returns all snapshots that match, newest first, as JSON.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn list_snapshots<'env>(&self, env: &'env Env, filter: String) -> napi::Result<PromiseRaw<'env, String>> {
        self.handle.spawn(env, "ca-list", move |repo| {
            let (filter, limit) = types::filter(&filter)?;
            let snapshots = ops::list_snapshots(repo, &filter)?;
            types::snapshots_json(&snapshots[..snapshots.len().min(limit)])
        })
    }

    /// Returns the newest snapshot that matches, as JSON; `null` when none does.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn latest<'env>(&self, env: &'env Env, filter: String) -> napi::Result<PromiseRaw<'env, String>> {
        self.handle.spawn(env, "ca-latest", move |repo| {
            let (filter, _) = types::filter(&filter)?;
            let found = ops::latest_snapshot(repo, &filter)?;
            found.map_or_else(|| Ok("null".to_owned()), |snapshot| types::snapshot_json(&snapshot))
        })
    }

    /// Returns one snapshot as JSON.
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

    /// Stops all operations; resolves when files are closed, locks released and memory returned.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn close<'env>(&self, env: &'env Env) -> napi::Result<PromiseRaw<'env, ()>> {
        let (settle, promise) = Settle::new(env)?;
        let repo = self.handle.stop();
        self.handle.when_quiet(Box::new(move || {
            // dropped before the promise resolves
            settle.done(caught(|| {
                drop(repo);
                Ok(())
            }));
        }));
        Ok(promise)
    }
}
