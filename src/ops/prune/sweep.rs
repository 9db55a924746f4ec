//! Deleting what stands in a kill list, and the list last. The same steps finish the lists of a prune that was cut short.
//!
//! Packs leave their parity groups before they go, so that no group counts on a pack that is not there. Groups that lose
//! all members go first, with their packs: that needs no space, and gives some. Index entries go after the packs, and
//! the list after these, so that at every instant whatever is half gone stands in a list.

use super::Work;
use super::choice::Deleted;
use super::plan::Plan;
use super::survey::Survey;
use crate::error::Result;
use crate::id::PackId;
use crate::layout;
use crate::lock::{KillList, KillLists, MaintLock};
use crate::monitor::Monitor;
use crate::repo::Repository;
#[cfg(any(test, feature = "testing"))]
use crate::repo::SeededBug;
use crate::repo::{dissolve, read_any_index};
use std::collections::{HashMap, HashSet};

/// Times that packs try to leave their groups: a live session that the caller wants ignored may put its own into new ones
/// meanwhile.
const ROUNDS: usize = 3;

/// Finishes every kill list there is. Whoever holds the maintenance lock may do it at any time.
pub(super) fn finish_kill_lists(work: &mut Work<'_>, maint: &MaintLock) -> Result<()> {
    let storage = work.repo.storage();
    let lists = KillLists::load_all(storage)?;
    for list in lists.lists().iter().filter(|list| !list.hint) {
        // its publishing may not have been flushed, and its packs may be deleted from now on
        storage.include_in_barrier(layout::MARKS);
        storage.include_in_barrier(layout::SNAPSHOTS);
        storage.barrier()?;
        let mut stored = lying(work.repo, &list.packs)?;
        let bound = sweep(work, maint, list)?;
        stored.retain(|pack, _| !bound.contains(pack));
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

/// Removes every trace of the packs in `list`, and then the list. Packs whose parity group cannot let them go, because it
/// is damaged and others need it, stay, and the list stays with them: returns these.
pub(super) fn sweep(work: &mut Work<'_>, _maint: &MaintLock, list: &KillList) -> Result<HashSet<PackId>> {
    let (repo, monitor) = (work.repo, work.monitor);
    let storage = repo.storage();
    let killed: HashSet<PackId> = list.packs.iter().copied().collect();
    let mut gone: HashSet<PackId> = HashSet::new();
    repo.check_same_place(work.folder)?;

    #[cfg(any(test, feature = "testing"))]
    if repo.seeded_bug(SeededBug::KillListFirst) {
        storage.delete(&list.id.key())?;
    }
    #[cfg(any(test, feature = "testing"))]
    if repo.seeded_bug(SeededBug::NoLeaving) {
        delete(repo, &killed, &HashSet::new(), &mut gone, monitor)?;
        storage.barrier()?;
        repo.drop_from_index(&killed)?;
        storage.delete(&list.id.key())?;
        storage.barrier()?;
        return Ok(HashSet::new());
    }
    let mut bound = dissolve::delete_dead_groups(repo, &killed)?;
    delete(repo, &killed, &bound, &mut gone, monitor)?;
    for _ in 0..ROUNDS {
        if bound.is_empty() {
            break;
        }
        bound = dissolve::leave_groups(repo, &killed, work.room)?;
        delete(repo, &killed, &bound, &mut gone, monitor)?;
    }
    #[cfg(any(test, feature = "testing"))]
    if repo.seeded_bug(SeededBug::KillListEarly) {
        storage.delete(&list.id.key())?;
    }
    storage.barrier()?;

    repo.drop_from_index(&killed)?;
    if bound.is_empty() {
        storage.delete(&list.id.key())?;
        storage.barrier()?;
    } else {
        work.warn(
            "WARN_PACKS_NOT_DELETED",
            format!(
                "{} packs cannot leave their damaged parity groups; repair(), then prune again",
                bound.len()
            ),
        );
    }
    Ok(bound)
}

/// Deletes those of `killed` that no group needs, the `.idx` first.
fn delete(
    repo: &Repository,
    killed: &HashSet<PackId>,
    bound: &HashSet<PackId>,
    gone: &mut HashSet<PackId>,
    monitor: &dyn Monitor,
) -> Result<()> {
    let storage = repo.storage();
    let mut free: Vec<&PackId> = killed.iter().filter(|pack| !bound.contains(*pack)).collect();
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

/// Deletes the hints that have become true or pointless.
pub(super) fn drop_hints(work: &Work<'_>, survey: &Survey, plan: &Plan) -> Result<()> {
    let pending = plan.pending();
    for hint in &survey.hints {
        if !hint.packs.iter().any(|pack| pending.contains(pack)) {
            work.repo.storage().delete(&hint.id.key())?;
        }
    }
    Ok(())
}
