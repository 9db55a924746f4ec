//! Threads for the workers: a pool in production, the caller's thread in tests.
//!
//! A panic ends only its job, neither the pool nor the process, and is not reported. A job with a
//! result owns the sending side of a channel: the unwinding drops it, and the receiver sees that.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

/// A closure to run on a worker.
pub type Job = Box<dyn FnOnce() + Send + 'static>;

/// Runs jobs.
pub trait Executor: Send + Sync {
    /// Returns how many jobs may run concurrently, at least 1.
    fn threads(&self) -> usize;
    /// Submits a job. It may run before this returns ([`InlineExecutor`]), so the caller must hold
    /// no lock that the job takes.
    fn spawn(&self, job: Job);
    /// Submits a job that waits most of its time, for the answers of another machine: more of them
    /// run at once than there are processors. Otherwise as [`spawn`](Self::spawn).
    fn spawn_waiting(&self, job: Job) {
        self.spawn(job);
    }
    /// Returns `true` when [`spawn`](Self::spawn) runs the job before it returns.
    fn is_inline(&self) -> bool {
        false
    }
}

/// The system started no threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoThreads;

impl std::fmt::Display for NoThreads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("The system started no threads for the worker pool")
    }
}

impl std::error::Error for NoThreads {}

/// A pool of named threads. After it is dropped, submitted jobs still run to their end; the drop
/// does not wait for them.
pub struct PoolExecutor {
    pool: rayon::ThreadPool,
    /// For jobs that wait; started by the first of them.
    waiting: OnceLock<rayon::ThreadPool>,
}

/// Jobs that wait at once.
const WAITING_THREADS: usize = 8;

fn start(threads: usize, name: &'static str) -> Result<rayon::ThreadPool, NoThreads> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(move |number| format!("{name}-{number}"))
        // without a handler, rayon aborts the process when a job panics; run() catches panics
        // before that
        .panic_handler(std::mem::forget)
        .build()
        .map_err(|_| NoThreads)
}

impl PoolExecutor {
    /// Starts `threads` threads (at least 1).
    pub fn new(threads: usize) -> Result<Self, NoThreads> {
        Ok(Self {
            pool: start(threads.max(1), "containerarchive")?,
            waiting: OnceLock::new(),
        })
    }
}

impl Executor for PoolExecutor {
    fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    fn spawn(&self, job: Job) {
        self.pool.spawn(move || run(job));
    }

    fn spawn_waiting(&self, job: Job) {
        if self.waiting.get().is_none()
            && let Ok(pool) = start(WAITING_THREADS, "ca-waiting")
        {
            // another thread may have started one as well; the last one is dropped without a job
            let _ = self.waiting.set(pool);
        }
        // slower, but it runs
        self.waiting.get().unwrap_or(&self.pool).spawn(move || run(job));
    }
}

/// Runs each job immediately on the caller's thread, so that a run is reproducible call for call.
pub struct InlineExecutor;

impl Executor for InlineExecutor {
    fn threads(&self) -> usize {
        1
    }

    fn spawn(&self, job: Job) {
        run(job);
    }

    fn is_inline(&self) -> bool {
        true
    }
}

/// Runs a job and catches its panic.
fn run(job: Job) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(job)) {
        // leaked, because dropping a payload may panic in turn
        std::mem::forget(payload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    #[test]
    fn a_pool_runs_every_job_on_its_named_threads() {
        let pool = PoolExecutor::new(2).unwrap();
        assert_eq!(pool.threads(), 2);
        let (sender, receiver) = channel();
        for number in 0..100 {
            let sender = sender.clone();
            pool.spawn(Box::new(move || {
                let name = std::thread::current().name().map(str::to_owned);
                sender.send((number, name)).unwrap();
            }));
        }
        drop(sender);
        let mut seen: Vec<_> = receiver.iter().collect();
        seen.sort();
        assert_eq!(seen.len(), 100);
        assert!(seen.iter().enumerate().all(|(at, (number, _))| at == *number));
        assert!(seen.iter().all(|(_, name)| {
            name.as_deref()
                .is_some_and(|name| name.starts_with("containerarchive-"))
        }));
    }

    #[test]
    fn a_panic_ends_only_its_own_job() {
        let executors: [Box<dyn Executor>; 2] = [Box::new(PoolExecutor::new(1).unwrap()), Box::new(InlineExecutor)];
        for executor in executors {
            let (sender, receiver) = channel::<u8>();
            executor.spawn(Box::new(move || {
                let _sender = sender;
                std::panic::resume_unwind(Box::new("on purpose"));
            }));
            assert!(receiver.recv().is_err(), "the unwinding dropped the sender");
            let (sender, receiver) = channel();
            executor.spawn(Box::new(move || sender.send(7u8).unwrap()));
            assert_eq!(receiver.recv(), Ok(7));
        }
    }

    #[test]
    fn a_dropped_pool_finishes_its_jobs() {
        let count = Arc::new(AtomicUsize::new(0));
        let (sender, receiver) = channel::<()>();
        let pool = PoolExecutor::new(1).unwrap();
        for _ in 0..50 {
            let (count, sender) = (count.clone(), sender.clone());
            pool.spawn(Box::new(move || {
                count.fetch_add(1, Ordering::SeqCst);
                drop(sender);
            }));
        }
        drop(sender);
        drop(pool);
        assert!(receiver.recv().is_err(), "all jobs have ended");
        assert_eq!(count.load(Ordering::SeqCst), 50);
    }

    #[test]
    fn zero_requested_threads_is_one_thread() {
        assert_eq!(PoolExecutor::new(0).unwrap().threads(), 1);
    }

    #[test]
    fn inline_jobs_have_run_when_spawn_returns() {
        let count = Arc::new(AtomicUsize::new(0));
        let inner = count.clone();
        InlineExecutor.spawn(Box::new(move || {
            inner.fetch_add(1, Ordering::SeqCst);
        }));
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }
}
