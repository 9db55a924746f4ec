//! The chunks of a snapshot, in order, as they were cut: those that the target lacks are read
//! ahead, the others are only named.

use super::known::Known;
use super::stage::{Part, Stage};
use crate::error::Error;
use crate::id::ChunkId;
use crate::members;
use crate::monitor::Monitor;
use crate::ops::restore::{ReadAhead, RestorePlan, Taken, Walk, plan_of};
use crate::repo::{Repository, Session};
use crate::snapshot::{Extra, ItemContent, Snapshot, SnapshotItem};
use std::collections::VecDeque;
use std::sync::Arc;

/// Most chunks that wait for their turn, 64 bytes each.
const MAX_WAITING: usize = 16_384;

/// The side that failed.
pub(super) enum Failed {
    /// The snapshot could not be read.
    Source(Error),
    /// The chunks could not be stored, or the copy is to stop.
    Target(Error),
}

/// A chunk whose turn has not come.
enum Waiting {
    /// It is being read.
    Read,
    /// The target has it.
    Known(ChunkId, u32),
}

/// Stores the chunks of all items and of their extras in the session, and returns the items as the
/// target lists them.
pub(super) fn store(
    source: &Arc<Repository>,
    plan: &RestorePlan,
    session: &Arc<Session>,
    known: &Known,
    monitor: &dyn Monitor,
) -> Result<Vec<SnapshotItem>, Failed> {
    let mut items = store_lists(source, plan, session, known, false, monitor)?;
    let of_extras = |item: &SnapshotItem| item.extra.iter().map(|extra| extra.as_item(item)).collect::<Vec<_>>();
    let extras: Vec<SnapshotItem> = plan.snapshot.items.iter().flat_map(of_extras).collect();
    if extras.is_empty() {
        return Ok(items);
    }
    let extras = plan_of(Snapshot {
        items: extras,
        ..plan.snapshot.clone()
    });
    let mut stored = match store_lists(source, &extras, session, known, true, monitor) {
        Ok(stored) => stored.into_iter(),
        Err(Failed::Source(error)) if error.is_loss_of_chunks() && are_derived(&items) => {
            source.warn(
                "WARN_TAR_INDEX_UNUSABLE",
                format!(
                    "The member indexes of snapshot {} are damaged, and left out of its copy: {error}",
                    plan.snapshot.id
                ),
            );
            items.iter_mut().for_each(|item| item.extra.clear());
            return Ok(items);
        }
        Err(failed) => return Err(failed),
    };
    for extra in items.iter_mut().flat_map(|item| &mut item.extra) {
        if let Some(stored) = stored.next() {
            *extra = copied(extra, &stored).map_err(Failed::Target)?;
        }
    }
    Ok(items)
}

/// Whether the extras of these items can be made of the items again.
fn are_derived(items: &[SnapshotItem]) -> bool {
    let mut extras = items.iter().flat_map(|item| &item.extra);
    extras.all(|extra| extra.kind == members::KIND)
}

/// An extra with the list that the target has of it.
fn copied(extra: &Extra, stored: &SnapshotItem) -> Result<Extra, Error> {
    let ItemContent::List { root, level } = stored.content else {
        let reason = "an extra of a copy has no list".to_owned();
        return Err(Error::Internal { reason });
    };
    Ok(Extra {
        kind: extra.kind.clone(),
        root,
        level,
        size: stored.size,
        chunk_count: stored.chunk_count,
    })
}

fn store_lists(
    source: &Arc<Repository>,
    plan: &RestorePlan,
    session: &Arc<Session>,
    known: &Known,
    is_extra: bool,
    monitor: &dyn Monitor,
) -> Result<Vec<SnapshotItem>, Failed> {
    let mut walk = Walk::new(source, plan);
    let mut ahead = ReadAhead::new(source, plan.snapshot.id);
    let mut stage = Stage::new(session, &plan.snapshot.items, is_extra, monitor).map_err(Failed::Target)?;
    let mut waiting: VecDeque<Waiting> = VecDeque::new();
    let mut ended = false;
    loop {
        source.check_running(monitor).map_err(Failed::Target)?;
        while !ended && !ahead.is_full() && waiting.len() < MAX_WAITING {
            let Some((id, len)) = walk.next_chunk().map_err(Failed::Source)? else {
                ended = true;
                break;
            };
            match known.find(session, &id, len, is_extra).map_err(Failed::Target)? {
                Some(id) => waiting.push_back(Waiting::Known(id, len)),
                None => {
                    ahead.push(id, len).map_err(Failed::Source)?;
                    waiting.push_back(Waiting::Read);
                }
            }
        }
        match waiting.front() {
            None => break,
            Some(Waiting::Known(..)) => pass_known(&mut waiting, &mut stage).map_err(Failed::Target)?,
            Some(Waiting::Read) => {
                let Some(Taken { chunks, range }) = ahead.take_next().map_err(Failed::Source)? else {
                    let reason = "chunks of a copy are missing from the read-ahead".to_owned();
                    return Err(Failed::Target(Error::Internal { reason }));
                };
                for chunk in range {
                    pass_known(&mut waiting, &mut stage).map_err(Failed::Target)?;
                    waiting.pop_front();
                    let piece = chunks.piece(chunk, 0..chunks.bytes(chunk).len());
                    stage.push(Part::New(piece)).map_err(Failed::Target)?;
                }
            }
        }
    }
    stage.finish().map_err(Failed::Target)
}

/// Passes on the chunks at the front that the target has.
fn pass_known(waiting: &mut VecDeque<Waiting>, stage: &mut Stage<'_>) -> Result<(), Error> {
    while let Some(Waiting::Known(id, len)) = waiting.front() {
        stage.push(Part::Known(*id, *len))?;
        waiting.pop_front();
    }
    Ok(())
}
