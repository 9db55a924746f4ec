//! The state that a handle and its operations share: the repository while the handle is open, and
//! the running operations.
//!
//! Always true: `close` waits for the last operation, and needs no thread of its own: the last
//! operation settles it. A panic in an operation closes the handle, because its state is unknown
//! after that; the other operations end with `Closed`.

use super::pipe::Pipe;
use super::settle::{caught, spawn};
use crate::error::{Error, Result};
use crate::panics;
use crate::repo::Repository;
use crate::sync::lock;
use napi::Env;
use napi::bindgen_prelude::{PromiseRaw, ToNapiValue};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

/// An open repository for JavaScript.
pub struct Handle {
    repo: Mutex<Option<Arc<Repository>>>,
    running: Mutex<Running>,
}

/// Called once, on any thread, when no operation runs.
type WhenQuiet = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Running {
    count: usize,
    pipes: Vec<Weak<Pipe>>,
    when_quiet: Vec<WhenQuiet>,
}

/// One operation of a handle; `close` waits until it is dropped.
pub struct Operation {
    repo: Arc<Repository>,
    // dropped last: close() counts an operation until it has released the repository
    counted: Counted,
}

struct Counted(Arc<Handle>);

impl Drop for Counted {
    fn drop(&mut self) {
        let when_quiet = {
            let mut running = self.0.running();
            running.count -= 1;
            running.take_when_quiet()
        };
        when_quiet.into_iter().for_each(|call| call());
    }
}

impl Operation {
    /// The repository.
    pub fn repo(&self) -> &Arc<Repository> {
        &self.repo
    }

    /// Calls `work` and turns a panic into an error; `name` names the panic point for tests.
    pub fn run<T>(&self, name: &str, work: impl FnOnce(&Arc<Repository>) -> Result<T>) -> Result<T> {
        caught(|| {
            panics::point(name);
            work(&self.repo)
        })
    }

    /// Ends the operation. When one of its threads panicked, the handle is closed.
    pub fn end<T>(self, result: &Result<T>) {
        if let Err(Error::Panicked { .. }) = result {
            self.counted.0.stop();
        }
    }
}

impl Handle {
    /// Makes the handle of an open repository.
    pub fn new(repo: Repository) -> Arc<Self> {
        Arc::new(Self {
            repo: Mutex::new(Some(Arc::new(repo))),
            running: Mutex::default(),
        })
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        // no change under this lock can panic halfway
        lock(&self.running)
    }

    /// Begins an operation; `Closed` after close.
    pub fn enter(self: &Arc<Self>, pipe: Option<&Arc<Pipe>>) -> Result<Operation> {
        let repo = lock(&self.repo);
        let repo = repo.clone().ok_or(Error::Closed)?;
        let mut running = self.running();
        running.count += 1;
        running.pipes.retain(|pipe| pipe.strong_count() > 0);
        running.pipes.extend(pipe.map(Arc::downgrade));
        drop(running);
        Ok(Operation {
            repo,
            counted: Counted(Arc::clone(self)),
        })
    }

    /// Runs `work` as an operation on a separate thread; resolves to its result.
    pub fn spawn<'env, T, F>(
        self: &Arc<Self>,
        env: &'env Env,
        name: &'static str,
        work: F,
    ) -> napi::Result<PromiseRaw<'env, T>>
    where
        T: ToNapiValue + Send + 'static,
        F: FnOnce(&Arc<Repository>) -> Result<T> + Send + 'static,
    {
        // entered on the caller's thread: an operation that is called before close() is not refused
        // by it
        let operation = self.enter(None);
        spawn(env, name, move || {
            let operation = operation?;
            let result = operation.run(name, work);
            operation.end(&result);
            result
        })
    }

    /// Lets `pipe` fail too when the handle is closed.
    pub fn watch(&self, pipe: &Arc<Pipe>) {
        self.running().pipes.push(Arc::downgrade(pipe));
    }

    /// Stops all operations. Returns the repository the first time, for the caller to drop.
    pub fn stop(&self) -> Option<Arc<Repository>> {
        let repo = lock(&self.repo).take();
        if let Some(repo) = &repo {
            repo.close();
        }
        let pipes = std::mem::take(&mut self.running().pipes);
        for pipe in pipes.iter().filter_map(Weak::upgrade) {
            pipe.fail(Error::Closed);
        }
        repo
    }

    /// Calls `call` once no operation runs: at once, or on the thread of the last one.
    pub fn when_quiet(&self, call: WhenQuiet) {
        let when_quiet = {
            let mut running = self.running();
            running.when_quiet.push(call);
            running.take_when_quiet()
        };
        when_quiet.into_iter().for_each(|call| call());
    }
}

impl Running {
    /// Takes the callbacks to call now, after the lock is released.
    fn take_when_quiet(&mut self) -> Vec<WhenQuiet> {
        match self.count {
            0 => std::mem::take(&mut self.when_quiet),
            _ => Vec::new(),
        }
    }
}
