//! Promises that are always settled.

use super::error::js_error;
use crate::error::{Error, Result};
use crate::panics;
use crate::sync::lock;
use napi::bindgen_prelude::{Object, PromiseRaw, ToNapiValue};
use napi::{Env, JsDeferred, JsValue};
use std::sync::{Arc, Mutex};

type Resolver<T> = Box<dyn FnOnce(Env) -> napi::Result<T>>;

/// The side of a promise that settles it. A deferred that is dropped unsettled keeps the event loop
/// alive forever, so dropping this rejects the promise.
pub struct Settle<T: ToNapiValue + 'static>(Option<JsDeferred<T, Resolver<T>>>);

// SAFETY: a deferred may be settled from any thread (it is a thread-safe function underneath). It
// carries across the boxed resolver, which `put` makes from `Send` data and which runs on the
// JavaScript thread only.
unsafe impl<T: ToNapiValue + Send + 'static> Send for Settle<T> {}

impl<T: ToNapiValue + Send + 'static> Settle<T> {
    /// Returns a promise and the guard that settles it.
    pub fn new<'env>(env: &'env Env) -> napi::Result<(Self, PromiseRaw<'env, T>)> {
        let (deferred, promise): (_, Object) = env.create_deferred::<T, Resolver<T>>()?;
        Ok((Self(Some(deferred)), PromiseRaw::new(env.raw(), promise.raw())))
    }

    /// Settles the promise with `result`.
    pub fn done(mut self, result: Result<T>) {
        self.put(result);
    }

    fn put(&mut self, result: Result<T>) {
        let Some(deferred) = self.0.take() else { return };
        match result {
            Ok(value) => deferred.resolve(Box::new(move |_| Ok(value))),
            Err(error) => deferred.resolve(Box::new(move |env| Err(js_error(&env, &error)))),
        }
    }
}

impl<T: ToNapiValue + 'static> Drop for Settle<T> {
    fn drop(&mut self) {
        if let Some(deferred) = self.0.take() {
            deferred.resolve(Box::new(|env| Err(js_error(&env, &Error::Cancelled))));
        }
    }
}

/// Runs `work` on a separate thread and settles the promise with its result.
pub fn spawn<'env, T, F>(env: &'env Env, name: &str, work: F) -> napi::Result<PromiseRaw<'env, T>>
where
    T: ToNapiValue + Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    let (settle, promise) = Settle::new(env)?;
    // shared, because a thread that does not start drops its closure, and that would reject a
    // promise which the caller does not have yet: an unhandled rejection ends the host process
    let ours = Arc::new(Mutex::new(Some(settle)));
    let theirs = Arc::clone(&ours);
    let take = |settle: &Mutex<Option<Settle<T>>>| lock(settle).take();
    let started = start_thread(name, move || {
        if let Some(settle) = take(&theirs) {
            settle.done(caught(work));
        }
    });
    // taken here only when no thread started; else it is the thread's
    if let Err(error) = started
        && let Some(settle) = take(&ours)
    {
        settle.done(Err(error));
    }
    Ok(promise)
}

/// Starts a thread of the engine. The addon stays loaded until the process exits, because the
/// thread runs its code.
///
/// # Errors
/// `NoThreads` when the system refuses one.
pub fn start_thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    napi::bindgen_prelude::retain_current_module_for_unload_safety();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map(|_| ())
        .map_err(|_| Error::NoThreads)
}

/// Calls `work` and turns a panic into an error.
pub fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    panics::caught(work).unwrap_or_else(|reason| Err(Error::Panicked { reason }))
}
