//! Promises that are always settled. A deferred that is dropped unsettled keeps the event loop alive for ever, so the
//! guard here rejects in its drop at the latest.

use super::error::js_error;
use crate::error::{Error, Result};
use crate::panics;
use napi::bindgen_prelude::{Object, PromiseRaw, ToNapiValue};
use napi::{Env, JsDeferred, JsValue};
use std::sync::{Arc, Mutex, PoisonError};

type Resolver<T> = Box<dyn FnOnce(Env) -> napi::Result<T>>;

/// A promise's other end.
pub struct Settle<T: ToNapiValue + 'static>(Option<JsDeferred<T, Resolver<T>>>);

// SAFETY: a deferred may be settled from any thread (it is a thread-safe function underneath). What it carries across is
// the boxed resolver, which is made in `put` from `Send` data and runs on the JS thread only.
unsafe impl<T: ToNapiValue + Send + 'static> Send for Settle<T> {}

impl<T: ToNapiValue + Send + 'static> Settle<T> {
    /// A promise and the guard that settles it.
    pub fn new<'env>(env: &'env Env) -> napi::Result<(Self, PromiseRaw<'env, T>)> {
        let (deferred, promise): (_, Object) = env.create_deferred::<T, Resolver<T>>()?;
        Ok((Self(Some(deferred)), PromiseRaw::new(env.raw(), promise.raw())))
    }

    /// Settles it.
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

/// Runs `work` on a thread of its own and settles the promise with what it returns.
pub fn spawn<'env, T, F>(env: &'env Env, name: &str, work: F) -> napi::Result<PromiseRaw<'env, T>>
where
    T: ToNapiValue + Send + 'static,
    F: FnOnce() -> Result<T> + Send + 'static,
{
    let (settle, promise) = Settle::new(env)?;
    // shared, for a thread that does not start drops what it was given, and a rejection that nobody holds ends the host
    let ours = Arc::new(Mutex::new(Some(settle)));
    let theirs = Arc::clone(&ours);
    let take = |settle: &Mutex<Option<Settle<T>>>| settle.lock().unwrap_or_else(PoisonError::into_inner).take();
    let started = start_thread(name, move || {
        if let Some(settle) = take(&theirs) {
            settle.done(caught(work));
        }
    });
    // only then is it taken here: else it is the thread's
    if let Err(error) = started
        && let Some(settle) = take(&ours)
    {
        settle.done(Err(error));
    }
    Ok(promise)
}

/// Starts a thread of the engine. The addon stays loaded as long as the process lives, for the thread runs its code.
///
/// # Errors
/// `NoThreads`.
pub fn start_thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<()> {
    napi::bindgen_prelude::retain_current_module_for_unload_safety();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map(|_| ())
        .map_err(|_| Error::NoThreads)
}

/// Calls `work`; a panic becomes an error.
pub fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    panics::caught(work).unwrap_or_else(|reason| Err(Error::Panicked { reason }))
}
