//! Memory of the operations of a handle: how much of it each may use, and which of them have to
//! wait.
//!
//! **Shares.** All operations together stay within `memoryLimit`. Each asks for its share
//! ([`Repository::operation_share`]) when it takes its next buffer, pack or batch, not once at its
//! start, so that buffers shrink when others begin and grow when they end. A buffer below a minimum
//! cannot do its work; it gets that minimum even if the share is smaller.
//!
//! **Waiting.** Only ingests wait, and only for ingests: the minimums of the running ones stay
//! within the limit, and the others wait in a queue. At least two of one lane run, whatever the
//! limit. Everything else begins at once: a restore with a minimum of its own (one chunk in
//! transit), a verify with one buffer for each worker, and maintenance, of which only one operation
//! works at a time, because it holds the maintenance lock.
//!
//! **No deadlock.** An ingest gets its grant from the queue before it takes anything else: no
//! lease, no lock, no buffer, and its source is not read. So no operation waits for one in the
//! queue, unless the program of the user does. A running ingest waits for its source, for the gate
//! of its commit, for workers, and for the commit lock. Workers never wait for a source, a sink or
//! a grant. The holders of the commit lock and of the maintenance lock never wait for a grant
//! either: an ingest that holds one has its grant, and other operations need none. The source may
//! be a restore of the same handle: that needs no grant, so it begins and continues whatever the
//! ingests do, and `ingest(await restore())` ends at every limit, any number of times at once. The
//! remaining case is a program in which a running ingest waits for one in the queue: its source or
//! its `commitWhen` starts another ingest on the handle and waits for it. One such pair always gets
//! its two grants, as the other ingests end. Several pairs at once, or deeper ones, need a limit
//! for all that run (docs/api.md states this). Each of them ends when it is aborted or the handle
//! is closed, because a waiting ingest checks for both.
//!
//! No operation waits in both queues of the engine, this one and that of `crypto::kdf`: no ingest
//! derives a key.

use super::Repository;
use super::session::Worker;
use crate::budget::{Budget, Grant};
use crate::error::Result;
use crate::monitor::{Monitor, Progress};
use crate::sync::lock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// Smallest unit in which minimums are counted: 1 MiB. With larger chunks it is the largest chunk.
const UNIT: u64 = 1 << 20;
/// Units of an ingest of one lane: a batch (2), open packs (2, and 1 for list nodes), one being
/// written, their parity (3), the scratch of a worker (2), the pipe (1).
const INGEST_UNITS: u64 = 12;
/// Units of each further lane: a batch (2), its pipe (1).
const LANE_UNITS: u64 = 3;
/// Ingests of one lane that run at the same time, whatever the limit.
const LEAST_INGESTS: u64 = 2;

/// The minimum memory of an ingest with `lanes` lanes, in bytes, for chunks of at most `max_chunk`
/// bytes.
fn ingest_minimum(max_chunk: u32, lanes: usize) -> u64 {
    let unit = UNIT.max(u64::from(max_chunk));
    let more_lanes = (lanes as u64).saturating_sub(1);
    unit * (INGEST_UNITS + LANE_UNITS * more_lanes)
}

/// The limit for the sum of the minimums of the running ingests, in bytes.
fn ingest_budget(memory_limit: u64, max_chunk: u32) -> u64 {
    memory_limit.max(LEAST_INGESTS * ingest_minimum(max_chunk, 1))
}

/// The memory of a handle.
pub(super) struct Memory {
    limit: u64,
    /// Number of running operations that use buffers.
    operations: AtomicUsize,
    /// Minimums of the running ingests.
    ingests: Budget,
    /// Contexts and scratch buffers of workers, reused by the next batch of any session.
    workers: Mutex<Vec<Worker>>,
}

impl Memory {
    pub(super) fn new(limit: u64, max_chunk: u32) -> Self {
        Self {
            limit,
            operations: AtomicUsize::new(0),
            ingests: Budget::new(ingest_budget(limit, max_chunk)),
            workers: Mutex::default(),
        }
    }
}

impl Repository {
    /// Calls `work` with the contexts and scratch buffers of a worker.
    pub(super) fn with_worker<T>(&self, work: impl FnOnce(&mut Worker) -> T) -> T {
        let mut worker = lock(&self.memory.workers).pop().unwrap_or_default();
        let result = work(&mut worker);
        lock(&self.memory.workers).push(worker);
        result
    }

    /// Bytes that one operation may use for its buffers now, so that all together stay within the
    /// handle's limit. Buffers that were taken when fewer operations ran are larger, hence the
    /// factor when more than one runs.
    pub fn operation_share(&self) -> usize {
        let operations = self.memory.operations.load(Ordering::Relaxed).max(1) as u64;
        let parts = if operations == 1 { 1 } else { 2 * operations };
        usize::try_from(self.memory.limit / parts).unwrap_or(usize::MAX)
    }

    /// Counts an operation that uses buffers, for the lifetime of the guard. It does not wait.
    pub fn enter(self: &Arc<Self>) -> OperationGuard {
        self.memory.operations.fetch_add(1, Ordering::Relaxed);
        OperationGuard {
            repo: Arc::clone(self),
            _grant: None,
        }
    }

    /// The same for an ingest with `lanes` lanes, which waits until the minimum of its memory is
    /// free. The caller must hold nothing that another operation could wait for.
    ///
    /// # Errors
    /// `Closed` and `Cancelled`, while it waits.
    pub fn enter_ingest(self: &Arc<Self>, lanes: usize, monitor: &dyn Monitor) -> Result<OperationGuard> {
        let minimum = ingest_minimum(self.config().chunking.max, lanes);
        let mut waited = false;
        let grant = self
            .memory
            .ingests
            .acquire(minimum, &mut || self.check_running(monitor), &mut || {
                waited = true;
                monitor.progress(&Progress {
                    waiting: true,
                    ..Progress::default()
                });
            })?;
        if waited {
            monitor.progress(&Progress::default());
        }
        let mut guard = self.enter();
        guard._grant = Some(grant);
        Ok(guard)
    }

    /// Number of ingests that wait for memory now.
    pub fn waiting_ingests(&self) -> usize {
        self.memory.ingests.waiting()
    }
}

/// Counts an operation that uses this handle's buffers, until it is dropped.
pub struct OperationGuard {
    repo: Arc<Repository>,
    // returned after the operation is no longer counted
    _grant: Option<Grant>,
}

impl Drop for OperationGuard {
    fn drop(&mut self) {
        if self.repo.memory.operations.fetch_sub(1, Ordering::Relaxed) == 1 {
            // the last operation returns idle memory to the system
            self.repo.pool.release_idle();
            lock(&self.repo.memory.workers).clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_minimums_are_those_in_the_docs() {
        // docs/api.md and docs/architecture.md state them
        assert_eq!(ingest_minimum(1 << 20, 1), 12 << 20);
        assert_eq!(ingest_minimum(1 << 20, 16), 57 << 20);
        assert_eq!(ingest_minimum(4096, 1), 12 << 20);
        assert_eq!(ingest_minimum(16 << 20, 1), 192 << 20);
        assert_eq!(ingest_budget(1, 1 << 20), 24 << 20);
        assert_eq!(ingest_budget(192 << 20, 1 << 20), 192 << 20);
    }
}
