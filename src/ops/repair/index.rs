//! Compares the global index with the packs, by a sum over the entries of each pack, and writes it
//! only when something differs.

use super::Work;
use super::packs::Inventory;
use crate::catalog::EntrySum;
use crate::catalog::entries::{named_packs, set_damaged_aside, walk_index};
use crate::error::Result;
use crate::id::PackId;
use crate::index;
use crate::layout;
use crate::ops::reindex::{publishable, rebuild};
use crate::pack::ChunkLocation;
use crate::repo::{REBUILD_RUN, Repository, find_any_index};
use crate::storage::FailedRead;
use std::collections::{HashMap, HashSet};

/// Makes the index list exactly the chunks of the intact packs. Chunks that live sessions have not
/// published are left to them.
pub(super) fn repair(work: &mut Work<'_>, inventory: &Inventory) -> Result<()> {
    let repo = work.repo;
    repo.refresh_index()?;
    set_unsound_aside(work)?;
    let differences = compare(work, inventory)?;
    let mut written = repo.take_index_rebuilt();
    if differences.wrong {
        match rebuild(repo, &work.kill_lists, work.monitor) {
            Ok(()) => written = true,
            // the segments are left as they are
            Err(error) => match error.unreadable().cloned() {
                Some(source) => work.leave(source)?,
                None => return Err(error),
            },
        }
    } else if !differences.unnamed.is_empty() {
        written |= publish(repo, inventory, differences.unnamed)?;
    }
    written |= set_damaged_aside(repo)?;
    if written {
        repo.storage().barrier()?;
    }
    work.report.index_rebuilt |= written;
    Ok(())
}

/// Reads every page of every live segment. Comparing entries alone would miss damage in a page that
/// only lookups need.
fn set_unsound_aside(work: &Work<'_>) -> Result<()> {
    let repo = work.repo;
    for segment in repo.index().live_segments() {
        let check = || {
            let go_on = &mut || repo.check_running(work.monitor).is_ok();
            repo.index().check_segment(segment.id, go_on)
        };
        let checked = match check() {
            // a read that fails once is repeated
            Err(index::Error::Unreadable { .. }) => check(),
            other => other,
        };
        match checked {
            Ok(true) => {}
            Ok(false) => repo.check_running(work.monitor)?,
            Err(error @ (index::Error::Damaged { .. } | index::Error::Unreadable { .. })) => {
                repo.index().set_aside(segment.id, error);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

struct Differences {
    /// Intact packs that no segment names.
    unnamed: Vec<PackId>,
    /// Segments contain entries that are wrong.
    wrong: bool,
}

fn compare(work: &Work<'_>, inventory: &Inventory) -> Result<Differences> {
    let repo = work.repo;
    let named = named_packs(repo)?;
    let prints = walk_index(
        repo,
        |_| HashMap::<PackId, EntrySum>::new(),
        |prints, pack, entry| prints.entry(*pack).or_default().add(entry),
    )?;
    let mut differences = Differences {
        unnamed: Vec::new(),
        // an unreadable segment is replaced like a damaged one, if the packs prove to contain
        // everything that it could list
        wrong: repo.index().check_read().is_err(),
    };
    for (pack, good, content) in inventory.contents() {
        match named.get(pack) {
            None if inventory.writers.contains(&content.session) => {}
            None => differences.unnamed.push(*pack),
            Some(len) => {
                let print = prints.get(pack).copied().unwrap_or_default();
                differences.wrong |= *len != good.len || print != content.print;
            }
        }
    }
    for pack in named.keys() {
        let known = inventory.good.get(pack).is_some_and(|good| good.content.is_some());
        // an interrupted prune removes its packs from the index when it is completed
        if known || work.kill_lists.is_condemned(pack) {
            continue;
        }
        // or it was written since the packs were listed
        let fresh = !inventory.good.contains_key(pack) && repo.storage().size(&layout::pack(pack))?.is_some();
        differences.wrong |= !fresh;
    }
    Ok(differences)
}

/// Publishes the chunks of unnamed packs, once these are protected.
fn publish(repo: &Repository, inventory: &Inventory, packs: Vec<PackId>) -> Result<bool> {
    let packs: HashSet<PackId> = publishable(repo, packs)?.into_iter().collect();
    let mut run: Vec<(ChunkLocation, u64)> = Vec::new();
    for (pack, good, _) in inventory.contents().filter(|(pack, ..)| packs.contains(pack)) {
        if run.len() >= REBUILD_RUN {
            repo.publish_segment(std::mem::take(&mut run))?;
        }
        // rewritten by an earlier step, if necessary
        if let Some(index) = find_any_index(repo, pack)? {
            let location = |&entry| (ChunkLocation { pack: *pack, entry }, good.len);
            run.extend(index.entries.iter().map(location));
        }
    }
    repo.publish_segment(run)?;
    Ok(!packs.is_empty())
}
