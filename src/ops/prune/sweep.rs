//! Deletes the packs in a kill list, and the list last. The same steps complete the lists of an
//! interrupted prune, except for the packs in them that a snapshot needs.
//!
//! Packs leave their parity groups before they are deleted, so that no group depends on a missing
//! pack. Groups that lose all members are deleted first, with their packs: that needs no space, and
//! frees some. Index entries are dropped after the packs, and the list after these, so that at
//! every instant every half-deleted pack is in a list. A spared pack is in a group and in the index
//! before its list is deleted.

use super::plan::{Done, Plan};
use super::report::Deleted;
use super::survey::Survey;
use super::work::Work;
use crate::catalog::needed::needed_before_deletion;
use crate::error::Result;
use crate::id::PackId;
use crate::layout;
use crate::lock::{FoundList, KillList, MaintLock};
use crate::monitor::Monitor;
use crate::repo::{Repository, SeededBug, dissolve, protect_spared, read_any_index};
use std::collections::{HashMap, HashSet};

/// Rounds in which packs leave their groups: a live session that the caller wants ignored may put
/// its own packs into new groups in the meantime.
const ROUNDS: usize = 3;
/// Packs on object storage that are deleted between two checks whether the prune is to stop.
const DELETED_AT_ONCE: usize = 100;

/// Completes every proven kill list. The holder of the maintenance lock may do it at any time.
/// Unproven lists stay until the plan has decided about their packs: see [`drop_settled_lists`].
pub(super) fn finish_kill_lists(work: &mut Work<'_>, maint: &MaintLock) -> Result<()> {
    let repo = work.repo;
    let storage = repo.storage();
    let lists = repo.kill_lists()?;
    work.spared.clear();
    if lists.listed().next().is_none() {
        return Ok(());
    }
    // a commit after this sees the lists and relies on none of their packs; a snapshot that was
    // committed before is listed here
    let ids = {
        let _guard = repo.commit_exclusive(work.monitor)?;
        repo.check_folder()?;
        repo.list_manifests()?
    };
    // the publication of a list or the deletion of a manifest may not have been flushed, and packs
    // may be deleted from now on
    storage.include_in_barrier(layout::MARKS);
    storage.include_in_barrier(layout::SNAPSHOTS);
    storage.barrier()?;
    let needed = needed_before_deletion(repo, &lists, &ids, true, work.monitor)?;
    let spared = needed.for_chunks.iter().filter(|pack| lists.is_condemned(pack)).count();
    if spared > 0 {
        work.warn(
            "WARN_PACKS_SPARED",
            format!("An unfinished prune had condemned {spared} packs that snapshots need; they are kept"),
        );
    }
    work.spared = needed.packs();
    for FoundList { list, .. } in lists.lists().iter().filter(|found| found.condemns()) {
        let condemned = || list.packs.iter().filter(|pack| !work.spared.contains(*pack));
        let mut stored = existing(repo, condemned())?;
        let condemned: HashSet<PackId> = condemned().copied().collect();
        let blocked = sweep(work, maint, list, &condemned)?;
        stored.retain(|pack, _| !blocked.contains(pack));
        let more: Deleted = stored.into_values().collect();
        work.finished.packs += more.packs;
        work.finished.bytes += more.bytes;
    }
    Ok(())
}

/// Returns those of `packs` that exist, with the bytes of the chunks that are stored in each.
pub(super) fn existing<'a>(
    repo: &Repository,
    packs: impl IntoIterator<Item = &'a PackId>,
) -> Result<HashMap<PackId, u64>> {
    let mut existing = HashMap::new();
    for pack in packs {
        if repo.storage().size(&layout::pack(pack))?.is_some() {
            let stored = read_any_index(repo, pack).map_or(0, |index| index.stored());
            existing.insert(*pack, stored);
        }
    }
    Ok(existing)
}

/// Deletes the `condemned` packs of `list` with everything that refers to them, and then the list.
/// The other packs in it stay, protected. Packs that cannot leave a damaged parity group that
/// others need stay, and so does the list: returns these packs.
pub(super) fn sweep(
    work: &mut Work<'_>,
    _maint: &MaintLock,
    list: &KillList,
    condemned: &HashSet<PackId>,
) -> Result<HashSet<PackId>> {
    let (repo, monitor) = (work.repo, work.monitor);
    let storage = repo.storage();
    let mut deleted: HashSet<PackId> = HashSet::new();
    repo.check_same_folder(work.folder)?;

    if repo.has_bug(SeededBug::KillListFirst) {
        storage.delete(&list.id.key())?;
    }
    if repo.has_bug(SeededBug::NoLeaving) {
        delete(repo, condemned, &HashSet::new(), &mut deleted, monitor)?;
        storage.barrier()?;
        repo.drop_from_index(condemned)?;
        storage.delete(&list.id.key())?;
        storage.barrier()?;
        return Ok(HashSet::new());
    }
    let mut blocked = dissolve::delete_dead_groups(repo, condemned)?;
    delete(repo, condemned, &blocked, &mut deleted, monitor)?;
    for _ in 0..ROUNDS {
        if blocked.is_empty() {
            break;
        }
        blocked = dissolve::leave_groups(repo, condemned, work.room)?;
        delete(repo, condemned, &blocked, &mut deleted, monitor)?;
    }
    if repo.has_bug(SeededBug::KillListEarly) {
        storage.delete(&list.id.key())?;
    }
    storage.barrier()?;

    repo.drop_from_index(condemned)?;
    settle(repo, list, condemned)?;
    if blocked.is_empty() {
        storage.delete(&list.id.key())?;
        storage.barrier()?;
    } else {
        work.warn(
            "WARN_PACKS_NOT_DELETED",
            format!(
                "{} packs were not deleted, because they cannot leave their damaged parity groups; run repair(), \
                 then prune again",
                blocked.len()
            ),
        );
    }
    Ok(blocked)
}

/// Deletes those of the `condemned` packs that no group needs, the `.idx` first.
fn delete(
    repo: &Repository,
    condemned: &HashSet<PackId>,
    blocked: &HashSet<PackId>,
    deleted: &mut HashSet<PackId>,
    monitor: &dyn Monitor,
) -> Result<()> {
    let storage = repo.storage();
    let mut free: Vec<&PackId> = condemned.iter().filter(|pack| !blocked.contains(*pack)).collect();
    free.retain(|pack| !deleted.contains(*pack));
    free.sort_unstable();
    let at_once = if storage.is_remote() { DELETED_AT_ONCE } else { 1 };
    for packs in free.chunks(at_once) {
        repo.check_running(monitor)?;
        deleted.extend(packs.iter().copied());
        storage.delete_all(&packs.iter().map(|pack| layout::pack_index(pack)).collect::<Vec<_>>())?;
        storage.delete_all(&packs.iter().map(|pack| layout::pack(pack)).collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Deletes packs that belong to no parity group, the `.idx` first.
pub(super) fn delete_packs(repo: &Repository, packs: &HashSet<PackId>, monitor: &dyn Monitor) -> Result<()> {
    delete(repo, packs, &HashSet::new(), &mut HashSet::new(), monitor)
}

/// Protects the packs in `list` that exist and are not condemned: an interrupted prune had removed
/// them from their groups.
fn settle(repo: &Repository, list: &KillList, condemned: &HashSet<PackId>) -> Result<()> {
    let mut stay = HashSet::new();
    for pack in list.packs.iter().filter(|pack| !condemned.contains(*pack)) {
        if repo.storage().size(&layout::pack(pack))?.is_some() {
            stay.insert(*pack);
        }
    }
    if !stay.is_empty() {
        protect_spared(repo, &stay)?;
        repo.storage().barrier()?;
    }
    Ok(())
}

/// Deletes the hints that are fulfilled or obsolete, and the unproven lists: the plan has decided
/// about the packs in these as about any other.
pub(super) fn drop_settled_lists(work: &mut Work<'_>, survey: &Survey, plan: &Plan, done: &Done) -> Result<()> {
    let pending = plan.pending();
    let condemned: HashSet<PackId> = done.condemned.iter().flatten().copied().collect();
    for list in &survey.unproven {
        if !list.hint {
            settle(work.repo, list, &condemned)?;
        }
        work.repo.storage().delete(&list.id.key())?;
        work.warn(
            "WARN_KILL_LIST_UNPROVEN",
            format!(
                "{} was not written with the keys of this repository, or was written by an older version; the prune \
                 decided about its {} packs itself, and removed it",
                list.id.key(),
                list.packs.len()
            ),
        );
    }
    for hint in &survey.hints {
        if !hint.packs.iter().any(|pack| pending.contains(pack)) {
            work.repo.storage().delete(&hint.id.key())?;
        }
    }
    Ok(())
}
