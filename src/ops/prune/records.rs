//! Forgets snapshots, and maintains the records that prevent a repair from restoring them.
//!
//! A record is written before its manifest is deleted, both under the shared commit lock; it is
//! deleted when no pack contains a copy of that manifest any more. A record whose manifest still
//! exists is left over from an interrupted forget, which had no effect: a prune deletes the record,
//! under the exclusive commit lock.

use super::plan::{Done, Plan};
use super::survey::Survey;
use super::work::Work;
use crate::catalog::snapshots;
use crate::error::{Error, Result};
use crate::id::{PackId, SnapshotId};
use crate::layout;
use crate::monitor::Monitor;
use crate::repo::{Repository, read_any_index};
use crate::snapshot::record::ForgotReason;
use crate::storage::{Ask, announced};
use std::collections::{BTreeSet, HashSet};

/// Snapshots that are forgotten per acquisition of the commit lock: each of them costs one or two
/// flushes, and other processes wait.
const AT_ONCE: usize = 64;

/// Forgets snapshots and adds them to `forgotten`, also when a later one fails. Snapshots that no
/// longer exist are skipped.
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
    repo.check_folder()?;
    let mut recorded = Vec::new();
    for id in announced(storage, ids, |id| Ask::Size(layout::snapshot(id))) {
        if !snapshots::has_manifest(repo, id)? {
            continue;
        }
        let mut put = repo.put_record(*id, ForgotReason::Forgotten);
        if matches!(put, Err(Error::NoSpace { .. })) && !recorded.is_empty() {
            // deleting the manifests that are already recorded makes space for further records
            remove_recorded(repo, &recorded)?;
            forgotten.append(&mut recorded);
            put = repo.put_record(*id, ForgotReason::Forgotten);
        }
        put?;
        recorded.push(*id);
    }
    remove_recorded(repo, &recorded)?;
    forgotten.append(&mut recorded);
    Ok(())
}

/// Deletes manifests whose records are written.
fn remove_recorded(repo: &Repository, ids: &[SnapshotId]) -> Result<()> {
    let storage = repo.storage();
    storage.include_in_barrier(layout::RECORDS);
    storage.barrier()?;
    storage.delete_all(&ids.iter().map(layout::snapshot).collect::<Vec<_>>())?;
    storage.include_in_barrier(layout::SNAPSHOTS);
    Ok(storage.barrier()?)
}

/// Deletes the records that are no longer needed.
pub(super) fn drop_settled(
    work: &Work<'_>,
    survey: &Survey,
    plan: &Plan,
    done: &Done,
    removed: &[SnapshotId],
) -> Result<()> {
    let storage = work.repo.storage();
    if storage.is_remote() {
        // a put without an answer may bring a manifest back at any later time
        return Ok(());
    }
    let records: BTreeSet<SnapshotId> = survey.records.iter().chain(removed).copied().collect();
    let is_interrupted =
        |id: &&SnapshotId| survey.records.contains(id) && survey.has_manifest(id) && !removed.contains(id);
    let interrupted: Vec<SnapshotId> = records.iter().filter(is_interrupted).copied().collect();
    let mut settled = plan.without_copies(done, records);
    // an active session that has just failed may still write its copy
    settled.retain(|id| !survey.held.contains(id));
    if settled.is_empty() && interrupted.is_empty() {
        return Ok(());
    }
    let _guard = match work.repo.commit_exclusive(work.monitor) {
        // safety does not depend on it; a later prune does it
        Err(Error::RepositoryLocked { .. }) => return Ok(()),
        other => other?,
    };
    // the deletion of the packs with the copies must be durable before the records are deleted
    storage.include_in_barrier(layout::DATA);
    storage.barrier()?;
    if !settled.is_empty() {
        keep_unsettled(work.repo, survey, &mut settled)?;
    }
    storage.delete_all(&settled.iter().map(layout::forgot_record).collect::<Vec<_>>())?;
    for id in interrupted {
        // no process is forgetting it at this moment: that takes the same lock
        if storage.size(&layout::snapshot(&id))?.is_some() {
            storage.delete(&layout::forgot_record(&id))?;
        }
    }
    Ok(())
}

/// Removes the snapshots from `settled` whose copies may still appear: those of a session whose
/// lease was removed by force, in a pack that it has written since the packs were listed; and all
/// of them when a parity group has a member that does not exist, because a repair may rebuild it.
fn keep_unsettled(repo: &Repository, survey: &Survey, settled: &mut BTreeSet<SnapshotId>) -> Result<()> {
    let mut existing = HashSet::new();
    for file in repo.storage().list(layout::DATA)? {
        let Some(pack) = layout::id_of(&file.key, ".pack").map(PackId) else {
            continue;
        };
        existing.insert(pack);
        if !survey.packs.contains_key(&pack) {
            match read_any_index(repo, &pack) {
                Ok(index) => drop(settled.remove(&index.header.session)),
                Err(_) => settled.clear(),
            }
        }
    }
    let groups = repo.parity_groups()?;
    if groups.packs().any(|pack| !existing.contains(pack)) {
        settled.clear();
    }
    Ok(())
}
