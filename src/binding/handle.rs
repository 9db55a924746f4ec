//! What a handle and its operations share: the repository, as long as the handle is open, and who is at work in it.
//!
//! What always holds: `close` waits until the last operation has let go, and needs neither a thread
//! nor memory of its own to end: the last operation settles it. A panic in an operation closes the
//! handle, for its state is unknown after that; the other operations end with `Closed`.

use super::pipe::Pipe;
use super::settle::{caught, spawn};
use crate::error::{Error, Result};
use crate::panics;
use crate::repo::Repository;
use napi::Env;
use napi::bindgen_prelude::{PromiseRaw, ToNapiValue};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// An open repository for JavaScript.
pub struct Handle {
    repo: Mutex<Option<Arc<Repository>>>,
    running: Mutex<Running>,
}

/// Called once, on any thread, when no operation is left.
type WhenQuiet = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct Running {
    count: usize,
    pipes: Vec<Weak<Pipe>>,
    when_quiet: Vec<WhenQuiet>,
}

/// One operation of a handle; `close` waits until it is gone.
pub struct Operation {
    repo: Arc<Repository>,
    // dropped last: close() counts an operation as gone when it holds the repository no more
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

    /// Calls `work`, which may panic; `name` is that of a place that tests make panic.
    pub fn run<T>(&self, name: &str, work: impl FnOnce(&Arc<Repository>) -> Result<T>) -> Result<T> {
        caught(|| {
            panics::point(name);
            work(&self.repo)
        })
    }

    /// Ends the operation. When it panicked, or a thread of it did, the handle is closed.
    pub fn end<T>(self, result: &Result<T>) {
        if let Err(Error::Panicked { .. }) = result {
            self.counted.0.stop();
        }
    }
}

impl Handle {
    /// For an open repository.
    pub fn new(repo: Repository) -> Arc<Self> {
        Arc::new(Self {
            repo: Mutex::new(Some(Arc::new(repo))),
            running: Mutex::default(),
        })
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        // every change under this lock is whole
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an operation; `Closed` after close.
    pub fn enter(self: &Arc<Self>, pipe: Option<&Arc<Pipe>>) -> Result<Operation> {
        let repo = self.repo.lock().unwrap_or_else(PoisonError::into_inner);
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

    /// Runs `work` as an operation on a thread of its own; the promise gives what it returns.
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
        // entered here: what is called before close() runs before it
        let operation = self.enter(None);
        spawn(env, name, move || {
            let operation = operation?;
            let result = operation.run(name, work);
            operation.end(&result);
            result
        })
    }

    /// Has `pipe` fail too when the handle is closed.
    pub fn watch(&self, pipe: &Arc<Pipe>) {
        self.running().pipes.push(Arc::downgrade(pipe));
    }

    /// Tells all operations to stop.
    pub fn stop(&self) -> Option<Arc<Repository>> {
        let repo = self.repo.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(repo) = &repo {
            repo.close();
        }
        let pipes = std::mem::take(&mut self.running().pipes);
        for pipe in pipes.iter().filter_map(Weak::upgrade) {
            pipe.fail(Error::Closed);
        }
        repo
    }

    /// Calls `call` once no operation is left: here and now, or on the thread of the last one.
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
    /// What is to be called now, outside of the lock.
    fn take_when_quiet(&mut self) -> Vec<WhenQuiet> {
        match self.count {
            0 => std::mem::take(&mut self.when_quiet),
            _ => Vec::new(),
        }
    }
}
