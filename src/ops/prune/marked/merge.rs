//! Merges marks, so that writers read few of them (`docs/invariants.md` §16, steps G1 to G3).
//!
//! Only marks that were swept are merged: one that still waits would lose its `.wait`. A merged
//! mark exists before those that it replaces are deleted, and its name is listed after theirs, so a
//! writer that lists in between reads all packs from one of them (rule A16).

use super::put::{new_mark, put_part};
use crate::error::Result;
use crate::id::PackId;
use crate::lock::marks::MARK_PACKS;
use crate::lock::{FoundMark, MarkPart, Marks, Proof};
use crate::repo::Repository;
use std::collections::{BTreeMap, BTreeSet};

/// Number of swept marks of one level from which on they are merged into one of the next level. So
/// there are at most 4 of each, and 5 levels after a thousand prunes: each ingest reads them all.
const MANY: usize = 4;

/// Merges the marks that were swept, once there are many.
pub(super) fn merge_if_many(repo: &Repository, marks: &Marks) -> Result<()> {
    let is_over = |mark: &&FoundMark| mark.proof == Proof::Valid && mark.swept.is_some();
    let mut levels: BTreeMap<u8, Vec<&FoundMark>> = BTreeMap::new();
    for mark in marks.marks().iter().filter(is_over) {
        levels.entry(mark.id.level).or_default().push(mark);
    }
    for (level, old) in levels {
        let packs: usize = old.iter().map(|mark| mark.packs.len()).sum();
        // where they are too many for one file they stay as they are
        if old.len() >= MANY
            && packs <= MARK_PACKS
            && let Some(above) = level.checked_add(1)
        {
            merge(repo, above, &old)?;
        }
    }
    Ok(())
}

fn merge(repo: &Repository, level: u8, old: &[&FoundMark]) -> Result<()> {
    let id = new_mark(repo, level)?;
    let packs: BTreeSet<PackId> = old.iter().flat_map(|mark| &mark.packs).copied().collect();
    let swept = old.iter().filter_map(|mark| mark.swept.as_ref()).flatten();
    let swept: BTreeSet<PackId> = swept.copied().collect();
    // what the mark was swept of comes last: until then it is one that the next prune continues
    for (part, packs) in [(MarkPart::Mark, packs), (MarkPart::Swept, swept)] {
        put_part(repo, id, part, packs.into_iter().collect(), Vec::new())?;
    }
    // the marks first: without them, what belongs to them means nothing
    for part in [MarkPart::Mark, MarkPart::Wait, MarkPart::Swept] {
        let keys: Vec<String> = old.iter().map(|mark| mark.id.key(part)).collect();
        repo.storage().delete_all(&keys)?;
    }
    Ok(())
}
