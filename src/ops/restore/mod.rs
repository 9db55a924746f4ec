//! Snapshots out again, exactly.
//!
//! In words: walk the list of chunk ids; find each chunk's place; chunks that lie side by side in a pack form a *run*; the
//! workers read, open and prove the runs ahead of time, within a bounded window; give the bytes out in order. A byte leaves
//! only after its chunk's name was computed again. The end is reached with exactly the right number of bytes, or an error
//! is returned.

mod file;
mod plan;
mod read_ahead;
mod walk;

pub use file::restore_to_file;
pub use plan::{RestoreOptions, RestorePlan, plan_restore};

use crate::error::{Error, Result};
use crate::monitor::{Monitor, Progress};
use crate::repo::Repository;
use read_ahead::ReadAhead;
use std::sync::Arc;
use walk::Walk;

/// Gives the planned bytes to `sink` in order, in pieces of at most one chunk.
///
/// # Errors
/// `ChunkMissing`, `ChunkCorrupt`, `PackMissing`, `PackCorrupt`, `ManifestCorrupt` (its lists), `Cancelled`, `Closed`,
/// `Storage`, or what `sink` returns.
pub fn restore(
    repo: &Arc<Repository>,
    plan: &RestorePlan,
    monitor: &dyn Monitor,
    sink: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let _operation = repo.enter();
    monitor.begins(repo.operation_share());
    let result = match restore_chunks(repo, plan, monitor, sink) {
        Ok(()) => Ok(()),
        failed => repo.unless_replaced(failed),
    };
    // of one that is to stop nobody waits for that: the next restore heals
    let stopped = matches!(
        result,
        Err(Error::Cancelled | Error::Closed | Error::RepositoryNotFound { .. } | Error::RepositoryChanged { .. })
    );
    if repo.may_heal() && !stopped {
        repo.heal_degraded_packs(monitor);
    }
    result
}

fn restore_chunks(
    repo: &Arc<Repository>,
    plan: &RestorePlan,
    monitor: &dyn Monitor,
    sink: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let mut walk = Walk::new(repo, plan);
    let mut ahead = ReadAhead::new(repo, plan.snapshot.id);
    let mut progress = Progress {
        total_bytes: plan.size(),
        ..Progress::default()
    };
    let mut left = plan.size();
    loop {
        while !ahead.is_full() {
            match walk.next_chunk()? {
                Some((id, raw_len)) => ahead.push(id, raw_len)?,
                None => break,
            }
        }
        let Some(chunks) = ahead.take_oldest()? else { break };
        for chunk in chunks {
            repo.check_running(monitor)?;
            let from = usize::try_from(walk.take_drop(chunk.len() as u64)).unwrap_or(chunk.len());
            let wanted = (chunk.len() - from).min(usize::try_from(left).unwrap_or(usize::MAX));
            if wanted > 0 {
                sink(&chunk[from..from + wanted])?;
            }
            left -= wanted as u64;
            progress.done_bytes += wanted as u64;
            progress.chunks += 1;
            ahead.recycle(chunk);
        }
        progress.items_done = walk.items_done();
        monitor.progress(&progress);
    }
    if left > 0 {
        return Err(Error::Internal {
            reason: format!("{left} bytes of the restore were not given out"),
        });
    }
    Ok(())
}
