//! Restores snapshots, byte for byte.
//!
//! Steps: walk the list of chunk ids; look up each chunk's location; adjacent chunks of a pack form
//! a *run*; the workers read, open and prove the runs ahead of time, within a bounded window; pass
//! the bytes to the sink in order. A byte is passed on only after the id of its chunk was
//! recomputed. A restore ends with exactly the right number of bytes, or returns an error.

mod file;
mod piece;
mod plan;
mod read_ahead;
mod walk;

pub(in crate::ops) use file::export;
pub use file::restore_to_file;
pub use piece::Piece;
pub use plan::{RestoreOptions, RestorePlan, plan_restore};
pub(in crate::ops) use plan::{plan_of, plan_of_range};
pub(in crate::ops) use read_ahead::{ReadAhead, Taken};
pub(in crate::ops) use walk::Walk;

use crate::error::{Error, Result};
use crate::monitor::{Monitor, Progress};
use crate::repo::Repository;
use std::sync::Arc;

/// Passes the planned bytes to `sink` in order, in pieces of at most one chunk.
///
/// # Errors
/// `ChunkMissing`, `ChunkCorrupt`, `PackMissing`, `PackCorrupt`, `ManifestCorrupt` (its lists),
/// `Cancelled`, `Closed`, `Storage`, or any error of `sink`.
pub fn restore(
    repo: &Arc<Repository>,
    plan: &RestorePlan,
    monitor: &dyn Monitor,
    sink: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    restore_pieces(repo, plan, monitor, &mut |piece| sink(&piece))
}

/// [`restore`], which passes on the pieces themselves, so that none has to be copied to be kept.
/// The buffers of a kept piece are not reused until it is dropped.
pub fn restore_pieces(
    repo: &Arc<Repository>,
    plan: &RestorePlan,
    monitor: &dyn Monitor,
    sink: &mut dyn FnMut(Piece) -> Result<()>,
) -> Result<()> {
    let _operation = repo.enter();
    monitor.begins(repo.operation_share());
    let result = match restore_chunks(repo, plan, monitor, sink) {
        Ok(()) => Ok(()),
        failed => repo.unless_replaced(failed),
    };
    // a stopped restore does not delay its end by healing: the next restore heals
    let stopped = matches!(
        result,
        Err(Error::Cancelled
            | Error::Closed
            | Error::RepositoryNotFound { .. }
            | Error::NotARepository { .. }
            | Error::RepositoryChanged { .. })
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
    sink: &mut dyn FnMut(Piece) -> Result<()>,
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
        let Some(Taken { chunks, range }) = ahead.take_next()? else {
            break;
        };
        for chunk in range {
            repo.check_running(monitor)?;
            let len = chunks.bytes(chunk).len();
            let from = usize::try_from(walk.take_drop(len as u64)).unwrap_or(len);
            let wanted = (len - from).min(usize::try_from(left).unwrap_or(usize::MAX));
            if wanted > 0 {
                sink(chunks.piece(chunk, from..from + wanted))?;
            }
            left -= wanted as u64;
            progress.done_bytes += wanted as u64;
            progress.chunks += 1;
        }
        progress.items_done = walk.items_done();
        monitor.progress(&progress);
    }
    if left > 0 {
        return Err(Error::Internal {
            reason: format!("the restore ended {left} bytes too early"),
        });
    }
    Ok(())
}
