//! Checks the global index: every page of every live segment, and the entries of all segments for
//! each pack.

use super::packs::Packs;
use super::{Problem, Run};
use crate::catalog::EntrySum;
use crate::error::{Error, Result};
use crate::id::{PackId, SegmentId};
use crate::index::{self, BrokenSegment, EntrySource};
use crate::layout;
use crate::storage::{ErrorKind, FailedRead};
use std::collections::HashSet;

/// Most rounds of listing the segments; another round is needed only when a merge or an ingest has
/// published in the meantime.
const MAX_ROUNDS: usize = 16;
/// Entries between two checks for cancellation.
const ENTRIES_PER_STEP: u64 = 4096;

pub(super) fn check(run: &mut Run<'_>, packs: &mut Packs) -> Result<()> {
    packs.index_whole = true;
    let broken = refresh(run, packs);
    for foreign in run.repo.index().foreign_segments() {
        run.note_foreign(layout::segment(&foreign));
    }
    for broken in broken {
        judge(run, packs, broken.id, broken.error);
    }
    let mut seen: HashSet<SegmentId> = HashSet::new();
    for _ in 0..MAX_ROUNDS {
        let new: Vec<SegmentId> = run.repo.index().segments().iter().map(|segment| segment.id()).collect();
        let new: Vec<SegmentId> = new.into_iter().filter(|id| seen.insert(*id)).collect();
        if new.is_empty() {
            break;
        }
        for id in new {
            if let Some(error) = check_segment(run, id)? {
                if error.unreadable().is_none() {
                    run.repo.index().set_aside(id, error.clone());
                }
                judge(run, packs, id, error);
            }
        }
        refresh(run, packs);
    }
    take_entries(run, packs)
}

/// Lists the segments again; returns all that are known to be broken.
fn refresh(run: &mut Run<'_>, packs: &mut Packs) -> Vec<BrokenSegment> {
    if let Err(error) = run.noted(run.repo.index().refresh()) {
        if error.unreadable().is_none() {
            run.found_in("ERR_STORAGE", layout::INDEX, &error.to_string(), false);
        }
        packs.index_whole = false;
    }
    run.repo.index().broken_segments()
}

/// Checks a segment; returns its error, or `None` when it is intact or was merged away.
fn check_segment(run: &Run<'_>, id: SegmentId) -> Result<Option<index::Error>> {
    let check = || run.repo.index().check_segment(id, &mut || run.check_running().is_ok());
    let checked = match check() {
        // a read that fails once is repeated
        Err(index::Error::Unreadable { .. }) => check(),
        other => other,
    };
    match checked {
        Ok(_) => {
            run.check_running()?;
            Ok(None)
        }
        Err(index::Error::Storage(error)) if error.kind == ErrorKind::NotFound => Ok(None),
        Err(error) => Ok(Some(error)),
    }
}

/// Reports a damaged segment, or records that it could not be read.
fn judge(run: &mut Run<'_>, packs: &mut Packs, id: SegmentId, error: index::Error) {
    packs.index_whole = false;
    match run.noted(Err::<(), _>(error)) {
        Err(error) if error.unreadable().is_none() => report(run, &id, &error),
        _ => {}
    }
}

/// Reports a damaged segment. It can always be rebuilt from the `.idx` files and the packs.
fn report(run: &mut Run<'_>, id: &SegmentId, error: &index::Error) {
    run.found(Problem {
        path: Some(layout::segment(id)),
        text: error.to_string(),
        healable: !matches!(error, index::Error::Unsupported { .. }),
        ..Problem::new("ERR_INDEX_CORRUPT")
    });
}

/// Sums up the entries of the live segments for each pack. Starts over when a segment is merged
/// away in the meantime.
fn take_entries(run: &mut Run<'_>, packs: &mut Packs) -> Result<()> {
    for _ in 0..MAX_ROUNDS {
        for facts in packs.table.values_mut() {
            (facts.named, facts.indexed) = (None, EntrySum::default());
        }
        match sum_up(run, packs) {
            Ok(()) => return Ok(()),
            Err(Stop::Ended(error)) => return Err(error),
            Err(Stop::Index(index::Error::Storage(error))) if error.kind == ErrorKind::NotFound => {
                refresh(run, packs);
            }
            // it was intact a moment ago, so the disk is failing; the run continues without the
            // index
            Err(Stop::Index(error)) => {
                let _ = run.noted(Err::<(), _>(error.clone()));
                packs.index_whole = false;
                let text = format!("The index was not compared with the packs: {error}");
                run.note("NOTE_INDEX_NOT_COMPARED", None, Some(layout::INDEX.to_owned()), text);
                return Ok(());
            }
        }
    }
    packs.index_whole = false;
    Ok(())
}

/// Why summing up ended early.
enum Stop {
    Index(index::Error),
    Ended(Error),
}

fn sum_up(run: &Run<'_>, packs: &mut Packs) -> std::result::Result<(), Stop> {
    let entries = run.repo.index().all_entries().map_err(Stop::Index)?;
    let named: Vec<(PackId, u64)> = entries.packs().to_vec();
    for (pack, len) in &named {
        packs.table.entry(*pack).or_default().named = Some(*len);
    }
    let mut previous = None;
    for (number, found) in (0u64..).zip(entries.scan()) {
        if number % ENTRIES_PER_STEP == 0 {
            run.check_running().map_err(Stop::Ended)?;
        }
        let found = found.map_err(Stop::Index)?;
        // several segments may hold the same pair
        let pair = found.sort_key();
        if previous == Some(pair) {
            continue;
        }
        previous = Some(pair);
        let pack = named.get(found.pack as usize).map(|(pack, _)| pack);
        if let Some(facts) = pack.and_then(|pack| packs.table.get_mut(pack)) {
            facts.indexed.add(&found.entry);
        }
    }
    Ok(())
}
