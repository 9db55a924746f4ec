//! Forgetting snapshots, and the records that keep a repair from bringing them back.
//!
//! A record comes before its manifest goes, both under the shared commit lock; it goes when no pack holds a copy of that
//! manifest any more. A record beside a manifest is a forgetting that was cut short: it has not happened, and a prune
//! removes the record, alone under the commit lock.

use super::Work;
use super::plan::{Done, Plan};
use super::survey::Survey;
use crate::error::{Error, Result};
use crate::id::{PackId, SnapshotId};
use crate::layout;
use crate::monitor::Monitor;
use crate::repo::{Repository, read_any_index};
use crate::snapshot::record::{ForgotReason, ForgotRecord};
use crate::storage::put_bytes;
use std::collections::{BTreeSet, HashSet};

/// Snapshots that are forgotten under one hold of the commit lock: each of them costs a flush or two, and others wait.
const AT_ONCE: usize = 64;

/// Forgets snapshots. Those that are gone already are passed over; adds the others to `forgotten`, also when it fails.
pub(in crate::ops) fn forget_all(
    repo: &Repository,
    ids: &[SnapshotId],
    monitor: &dyn Monitor,
    forgotten: &mut Vec<SnapshotId>,
) -> Result<()> {
    ids.chunks(AT_ONCE)
        .try_for_each(|ids| forget_some(repo, ids, monitor, forgotten))
}

fn forget_some(
    repo: &Repository,
    ids: &[SnapshotId],
    monitor: &dyn Monitor,
    forgotten: &mut Vec<SnapshotId>,
) -> Result<()> {
    let storage = repo.storage();
    let _guard = repo.commit_shared(monitor)?;
    repo.check_place()?;
    let mut recorded = Vec::new();
    for id in ids {
        if storage.size(&layout::snapshot(id))?.is_none() {
            continue;
        }
        let mut put = put_record(repo, id);
        if matches!(put, Err(Error::NoSpace { .. })) && !recorded.is_empty() {
            // the manifests that may go at this point make room for further records
            remove_recorded(repo, &recorded)?;
            forgotten.append(&mut recorded);
            put = put_record(repo, id);
        }
        put?;
        recorded.push(*id);
    }
    remove_recorded(repo, &recorded)?;
    forgotten.append(&mut recorded);
    Ok(())
}

fn put_record(repo: &Repository, id: &SnapshotId) -> Result<()> {
    let record = ForgotRecord {
        id: *id,
        reason: ForgotReason::Forgotten,
        at_ms: repo.now_ms(),
    };
    put_bytes(repo.storage(), &layout::forgot_record(id), &record.encode()?)?;
    Ok(())
}

/// Removes manifests whose records are put.
fn remove_recorded(repo: &Repository, ids: &[SnapshotId]) -> Result<()> {
    let storage = repo.storage();
    storage.include_in_barrier(layout::RECORDS);
    storage.barrier()?;
    for id in ids {
        storage.delete(&layout::snapshot(id))?;
    }
    storage.include_in_barrier(layout::SNAPSHOTS);
    Ok(storage.barrier()?)
}

/// Removes the records that have nothing left to guard.
pub(super) fn drop_settled(
    work: &Work<'_>,
    survey: &Survey,
    plan: &Plan,
    done: &Done,
    removed: &[SnapshotId],
) -> Result<()> {
    let storage = work.repo.storage();
    let records: BTreeSet<SnapshotId> = survey.records.iter().chain(removed).copied().collect();
    let cut_short = |id: &&SnapshotId| survey.records.contains(id) && survey.has_manifest(id) && !removed.contains(id);
    let cut_short: Vec<SnapshotId> = records.iter().filter(cut_short).copied().collect();
    let mut settled = plan.without_copies(done, records);
    // one that has just failed may put its copy only now
    settled.retain(|id| !survey.held.contains(id));
    if settled.is_empty() && cut_short.is_empty() {
        return Ok(());
    }
    let _guard = match work.repo.commit_exclusive(work.monitor) {
        // nothing depends on it; a later prune does it
        Err(Error::RepositoryLocked { .. }) => return Ok(()),
        other => other?,
    };
    // the packs with the copies are gone for good before the records go
    storage.include_in_barrier(layout::DATA);
    storage.barrier()?;
    if !settled.is_empty() {
        keep_unsettled(work.repo, survey, &mut settled)?;
    }
    for id in settled {
        storage.delete(&layout::forgot_record(&id))?;
    }
    for id in cut_short {
        // nobody is forgetting it just now: that takes the same lock
        if storage.size(&layout::snapshot(&id))?.is_some() {
            storage.delete(&layout::forgot_record(&id))?;
        }
    }
    Ok(())
}

/// Takes out of `settled` what a copy may still come to: of a session whose lease was removed by force, in a pack that it
/// has put since the packs were listed; or in a pack that a parity group counts on and that is not there, because a repair
/// may make it again.
fn keep_unsettled(repo: &Repository, survey: &Survey, settled: &mut BTreeSet<SnapshotId>) -> Result<()> {
    let mut there = HashSet::new();
    for file in repo.storage().list(layout::DATA)? {
        let Some(pack) = layout::id_of(&file.key, ".pack").map(PackId) else {
            continue;
        };
        there.insert(pack);
        if !survey.packs.contains_key(&pack) {
            match read_any_index(repo, &pack) {
                Ok(index) => drop(settled.remove(&index.header.session)),
                Err(_) => settled.clear(),
            }
        }
    }
    let groups = repo.parity_groups()?;
    if groups.packs().any(|pack| !there.contains(pack)) {
        settled.clear();
    }
    Ok(())
}
