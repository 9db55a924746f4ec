//! Deleting what is in a kill list, and the list last. The same steps finish the lists of a prune
//! that was interrupted, but for the packs in them that a snapshot needs ([`super::spare`]).
//!
//! Packs leave their parity groups before they are deleted, so that no group counts on a pack that
//! is not there. Groups that lose all members are deleted first, with their packs: that needs no
//! space, and frees some. Index entries are dropped after the packs, and the list after these, so
//! that at every instant whatever is half deleted is in a list. A pack that is spared is in a group
//! and in the index before its list is deleted.

use super::Work;
use super::plan::{Done, Plan};
use super::report::Deleted;
use super::survey::{Survey, needed_or_all};
use crate::catalog::snapshots;
use crate::error::Result;
use crate::id::PackId;
use crate::layout;
use crate::lock::{FoundList, KillList, MaintLock};
use crate::monitor::Monitor;
use crate::repo::{Repository, SeededBug, dissolve, protect_spared, read_any_index};
use std::collections::{HashMap, HashSet};

/// Times that packs try to leave their groups: a live session that the caller wants ignored may put its own into new ones
/// meanwhile.
const ROUNDS: usize = 3;

/// Finishes every kill list there is that is proven. The holder of the maintenance lock may do it
/// at any time. Lists that are not proven stay until the plan has decided about their packs: see
/// [`drop_settled_lists`].
pub(super) fn finish_kill_lists(work: &mut Work<'_>, maint: &MaintLock) -> Result<()> {
    let repo = work.repo;
    let storage = repo.storage();
    let lists = repo.kill_lists()?;
    work.spared.clear();
    if lists.listed().next().is_none() {
        return Ok(());
    }
    // a commit that comes after this sees the lists and relies on none of their packs; one that
    // came before is listed here
    let ids = {
        let _guard = repo.commit_exclusive(work.monitor)?;
        repo.check_place()?;
        snapshots::ids(repo)?
    };
    // the publishing of a list may not have been flushed, nor a removal of a manifest, and packs
    // may be deleted from now on
    storage.include_in_barrier(layout::MARKS);
    storage.include_in_barrier(layout::SNAPSHOTS);
    storage.barrier()?;
    let needed = needed_or_all(work, &lists, &ids, true)?;
    let spared = needed.for_chunks.iter().filter(|pack| lists.condemned(pack)).count();
    if spared > 0 {
        work.warn(
            "WARN_PACKS_SPARED",
            format!("An unfinished prune had condemned {spared} packs that snapshots need; they are kept"),
        );
    }
    work.spared = needed.packs();
    for FoundList { list, .. } in lists.lists().iter().filter(|found| found.condemns()) {
        let killed = || list.packs.iter().filter(|pack| !work.spared.contains(*pack));
        let mut stored = lying(repo, killed())?;
        let killed: HashSet<PackId> = killed().copied().collect();
        let blocked = sweep(work, maint, list, &killed)?;
        stored.retain(|pack, _| !blocked.contains(pack));
        let more: Deleted = stored.into_values().collect();
        work.finished.packs += more.packs;
        work.finished.bytes += more.bytes;
    }
    Ok(())
}

/// Those of `packs` that are there, and the bytes of the chunks that are stored in each.
pub(super) fn lying<'a>(
    repo: &Repository,
    packs: impl IntoIterator<Item = &'a PackId>,
) -> Result<HashMap<PackId, u64>> {
    let mut lying = HashMap::new();
    for pack in packs {
        if repo.storage().size(&layout::pack(pack))?.is_some() {
            let stored = read_any_index(repo, pack).map_or(0, |index| index.stored());
            lying.insert(*pack, stored);
        }
    }
    Ok(lying)
}

/// Removes every trace of the packs `killed` in `list`, and then the list. The others in it stay,
/// protected. Packs whose parity group cannot let them go, because it is damaged and others need
/// it, stay, and the list stays with them: returns these.
pub(super) fn sweep(
    work: &mut Work<'_>,
    _maint: &MaintLock,
    list: &KillList,
    killed: &HashSet<PackId>,
) -> Result<HashSet<PackId>> {
    let (repo, monitor) = (work.repo, work.monitor);
    let storage = repo.storage();
    let mut gone: HashSet<PackId> = HashSet::new();
    repo.check_same_place(work.folder)?;

    if repo.has_bug(SeededBug::KillListFirst) {
        storage.delete(&list.id.key())?;
    }
    if repo.has_bug(SeededBug::NoLeaving) {
        delete(repo, killed, &HashSet::new(), &mut gone, monitor)?;
        storage.barrier()?;
        repo.drop_from_index(killed)?;
        storage.delete(&list.id.key())?;
        storage.barrier()?;
        return Ok(HashSet::new());
    }
    let mut blocked = dissolve::delete_dead_groups(repo, killed)?;
    delete(repo, killed, &blocked, &mut gone, monitor)?;
    for _ in 0..ROUNDS {
        if blocked.is_empty() {
            break;
        }
        blocked = dissolve::leave_groups(repo, killed, work.room)?;
        delete(repo, killed, &blocked, &mut gone, monitor)?;
    }
    if repo.has_bug(SeededBug::KillListEarly) {
        storage.delete(&list.id.key())?;
    }
    storage.barrier()?;

    repo.drop_from_index(killed)?;
    settle(repo, list, killed)?;
    if blocked.is_empty() {
        storage.delete(&list.id.key())?;
        storage.barrier()?;
    } else {
        work.warn(
            "WARN_PACKS_NOT_DELETED",
            format!(
                "{} packs cannot leave their damaged parity groups; repair(), then prune again",
                blocked.len()
            ),
        );
    }
    Ok(blocked)
}

/// Deletes those of `killed` that no group needs, the `.idx` first.
fn delete(
    repo: &Repository,
    killed: &HashSet<PackId>,
    blocked: &HashSet<PackId>,
    gone: &mut HashSet<PackId>,
    monitor: &dyn Monitor,
) -> Result<()> {
    let storage = repo.storage();
    let mut free: Vec<&PackId> = killed.iter().filter(|pack| !blocked.contains(*pack)).collect();
    free.sort_unstable();
    for pack in free {
        if gone.insert(*pack) {
            repo.check_running(monitor)?;
            storage.delete(&layout::pack_index(pack))?;
            storage.delete(&layout::pack(pack))?;
        }
    }
    Ok(())
}

/// Protects the packs in `list` that are there and are not deleted: an interrupted prune had taken
/// them out of their groups.
fn settle(repo: &Repository, list: &KillList, killed: &HashSet<PackId>) -> Result<()> {
    let mut stay = HashSet::new();
    for pack in list.packs.iter().filter(|pack| !killed.contains(*pack)) {
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

/// Deletes the hints that have become true or pointless, and the lists that are not proven: about
/// the packs in these the plan has decided as about any other.
pub(super) fn drop_settled_lists(work: &mut Work<'_>, survey: &Survey, plan: &Plan, done: &Done) -> Result<()> {
    let pending = plan.pending();
    let killed: HashSet<PackId> = done.condemned.iter().flatten().copied().collect();
    for list in &survey.unproven {
        if !list.hint {
            settle(work.repo, list, &killed)?;
        }
        work.repo.storage().delete(&list.id.key())?;
        work.warn(
            "WARN_KILL_LIST_UNPROVEN",
            format!(
                "{} was not written with the keys of this repository, or by an older version; it condemned {} packs, which \
                 the prune decided about itself, and was removed",
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
