//! Removing packs from their parity groups, before the packs are deleted.
//!
//! A group is replaced by one without these packs: their rows are folded out of its shards, or, if
//! most members leave, the shards are computed from those that stay. The rest of several groups is
//! combined into one if it fits. The old groups are deleted only when the new ones are durable, so
//! every pack that stays is protected at every instant (except on a full disk, see
//! [`Room::Little`]). Lost members leave too, unless the group can still rebuild them. The caller
//! holds the maintenance lock.

use super::Repository;
use super::protect::{finished, load_groups, make_durable};
use crate::crypto::sha256;
use crate::error::{Error, Result};
use crate::id::{GroupId, PackId};
use crate::layout;
use crate::monitor::Monitor;
use crate::parity::{
    self, Accumulator, GroupHead, GroupRecord, Groups, MAX_PARITY, Member, Part, Refusal, mark, new_group_id,
    random_slot,
};
use crate::storage::{Verdict, judge};
use std::collections::HashSet;

/// How to proceed if the disk has no room for a group and the groups that it replaces at the same
/// time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Fail with [`Error::NoSpace`]: the caller can still free some space. No pack is unprotected
    /// then.
    Enough,
    /// Delete the old groups first. If the new one cannot be stored even then, its members have
    /// lost their parity, and the caller has to protect them.
    Little,
}

/// Deletes the groups of which all members are in `condemned`; needs no space. Returns those of
/// `condemned` that are members of other groups.
pub fn delete_dead_groups(repo: &Repository, condemned: &HashSet<PackId>) -> Result<HashSet<PackId>> {
    let groups = load_durable(repo)?;
    let is_dead = |head: &GroupHead| head.members.iter().all(|member| condemned.contains(&member.pack));
    let dead: Vec<GroupId> = groups.live().filter(|head| is_dead(head)).map(|head| head.id).collect();
    delete_superseded(repo, &groups)?;
    for id in &dead {
        delete_group(repo, id)?;
    }
    Ok(blocked(&groups, condemned, &dead.into_iter().collect()))
}

/// Replaces the groups that have some members in `condemned`. Returns those of `condemned` that a
/// group cannot release: it is damaged, and the members that stay cannot be read either.
pub fn leave_groups(repo: &Repository, condemned: &HashSet<PackId>, room: Room) -> Result<HashSet<PackId>> {
    let groups = load_durable(repo)?;
    let mut affected: Vec<GroupHead> = groups
        .live()
        .filter(|head| head.members.iter().any(|member| condemned.contains(&member.pack)))
        .cloned()
        .collect();
    // similar sizes next to each other, the smallest first: they fit together
    affected.sort_by_key(|head| (head.class, head.members.len(), head.id));
    let mut open: Option<(Accumulator, Vec<GroupId>)> = None;
    let mut empty: HashSet<GroupId> = HashSet::new();
    for head in affected {
        let rest = match without(repo, &head, condemned)? {
            Rest::Group(rest) => rest,
            Rest::Alone(rest) => {
                replace(repo, &groups, rest, &[head.id], room)?;
                continue;
            }
            Rest::Nothing => {
                empty.insert(head.id);
                continue;
            }
            // the group stays as it is, with all its members
            Rest::Blocked => continue,
        };
        open = Some(match open.take() {
            None => (rest, vec![head.id]),
            Some((mut combined, mut old)) if combined.can_absorb(&rest).is_ok() => {
                combined.absorb(rest).map_err(parity::Error::Refused)?;
                old.push(head.id);
                (combined, old)
            }
            Some((combined, old)) => {
                replace(repo, &groups, combined, &old, room)?;
                (rest, vec![head.id])
            }
        });
    }
    if let Some((combined, old)) = open {
        replace(repo, &groups, combined, &old, room)?;
    }
    let groups = load_durable(repo)?;
    delete_superseded(repo, &groups)?;
    for id in &empty {
        delete_group(repo, id)?;
    }
    Ok(blocked(&groups, condemned, &empty))
}

/// Loads all groups; every file that they rely on is durable afterwards.
fn load_durable(repo: &Repository) -> Result<Groups> {
    make_durable(repo)?;
    let groups = load_groups(repo)?;
    groups.check_read()?;
    Ok(groups)
}

/// Those of `condemned` that are members of a live group that is not in `deleted`.
fn blocked(groups: &Groups, condemned: &HashSet<PackId>, deleted: &HashSet<GroupId>) -> HashSet<PackId> {
    let live = groups.live().filter(|head| !deleted.contains(&head.id));
    let members = live.flat_map(|head| head.members.iter().map(|member| member.pack));
    members.filter(|pack| condemned.contains(pack)).collect()
}

/// Replaces the groups `old` by `combined`. If a full disk has no room for both, and
/// [`Room::Little`] allows it, the old ones are deleted first: `combined` is not larger than they
/// are. A crash between the two, or another process that takes the space, costs protection until a
/// prune or a repair restores it, and no data.
fn replace(repo: &Repository, groups: &Groups, combined: Accumulator, old: &[GroupId], room: Room) -> Result<()> {
    let id = new_group_id(repo.entropy())?;
    if room == Room::Enough && has_much_room(&combined) {
        // best effort: without a mark the group does not grow
        let _ = mark(repo.storage(), &id);
    }
    let group = finished(repo, combined, id, groups.superseding(old))?;
    let published = parity::publish(repo.storage(), &group).map_err(Error::from);
    if !matches!(published, Err(Error::NoSpace { .. })) {
        return published;
    }
    if room == Room::Enough {
        // the part that was written takes up space, and the caller retries with another group
        delete_group(repo, &group.record.head.id)?;
        return published;
    }
    // this fails if a flush has failed: nothing could be published afterwards
    repo.storage().barrier()?;
    old.iter().try_for_each(|id| delete_group(repo, id))?;
    repo.storage().barrier()?;
    Ok(parity::publish(repo.storage(), &group)?)
}

/// True when a later ingest is likely to find room in the group. The others are not marked: their
/// number grows with the repository.
fn has_much_room(group: &Accumulator) -> bool {
    group.members().len() * 2 <= usize::from(group.shape().data)
}

/// The rest of a group.
enum Rest {
    /// All members exist.
    Group(Accumulator),
    /// One is lost, and the group can rebuild it. It must not be combined with other groups.
    Alone(Accumulator),
    /// No member that could be protected.
    Nothing,
    /// The group cannot be changed without a loss.
    Blocked,
}

/// Computes the rest of a group without `condemned`.
fn without(repo: &Repository, head: &GroupHead, condemned: &HashSet<PackId>) -> Result<Rest> {
    let stays = |member: &&Member| !condemned.contains(&member.pack);
    let mut all_there = true;
    for member in head.members.iter().filter(stays) {
        all_there &= repo.pack_len(&member.pack)? == Some(member.len);
    }
    let few_leave = head.members.iter().filter(stays).count() * 2 >= head.members.len();
    if all_there
        && few_leave
        && let Some(rest) = fold_out(repo, head, condemned)?
    {
        return Ok(Rest::Group(rest));
    }
    let Some((rest, lost)) = rebuild_without(repo, head, condemned)? else {
        return Ok(Rest::Blocked);
    };
    for pack in &lost {
        if can_give_back(repo, head, pack)? {
            return Ok(fold_out(repo, head, condemned)?.map_or(Rest::Blocked, Rest::Alone));
        }
    }
    Ok(match rest.is_empty() {
        true => Rest::Nothing,
        false => Rest::Group(rest),
    })
}

/// Those of `packs`, which are missing, that a group can rebuild. A pack counts as one of them if
/// that cannot be determined.
pub fn within_parity(repo: &Repository, packs: &HashSet<PackId>, monitor: &dyn Monitor) -> Result<HashSet<PackId>> {
    if packs.is_empty() {
        return Ok(HashSet::new());
    }
    let Ok(groups) = repo.parity_groups() else {
        return Ok(packs.clone());
    };
    let mut within = HashSet::new();
    for pack in packs {
        repo.check_running(monitor)?;
        let gives_back = |head| can_give_back(repo, head, pack).unwrap_or(true);
        if groups.groups_of(pack).any(gives_back) {
            within.insert(*pack);
        }
    }
    Ok(within)
}

/// Whether the index knows a lost pack and the group can rebuild it.
fn can_give_back(repo: &Repository, head: &GroupHead, pack: &PackId) -> Result<bool> {
    if !repo.index().contains_pack(pack)? {
        return Ok(false);
    }
    let storage = repo.storage();
    let rebuilt =
        parity::read_record(storage, &head.id).and_then(|record| parity::rebuild_pack(storage, &record, pack));
    match judge(rebuilt)? {
        Ok(_) => Ok(true),
        Err(error @ parity::Error::Refused(Refusal::NoMemory)) => Err(error.into()),
        Err(parity::Error::Lost(_) | parity::Error::Damaged { .. } | parity::Error::Refused(_)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Folds the rows of the condemned members out of the shards.
fn fold_out(repo: &Repository, head: &GroupHead, condemned: &HashSet<PackId>) -> Result<Option<Accumulator>> {
    let storage = repo.storage();
    let resumed = parity::read_record(storage, &head.id).and_then(|record| {
        let sums = record.clone();
        Accumulator::resume(storage, &record).map(|rest| (rest, sums))
    });
    let (mut rest, record): (Accumulator, GroupRecord) = match resumed {
        Ok(resumed) => resumed,
        Err(error @ parity::Error::Refused(Refusal::NoMemory)) => return Err(error.into()),
        Err(parity::Error::Refused(_)) => return Ok(None),
        Err(error) if error.is_of_group() => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    for member in record
        .head
        .members
        .iter()
        .filter(|member| condemned.contains(&member.pack))
    {
        let bytes = match storage.get(&layout::pack(&member.pack), member.len) {
            Ok(bytes) => bytes,
            Err(error) if error.kind.is_erasure() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // refuses bytes other than those that were folded in
        if rest.remove(&member.pack, &bytes).is_err() {
            return Ok(None);
        }
    }
    Ok(Some(rest))
}

/// Folds the members that stay into new shards. Returns the shards, and the lost members, which are
/// left out. `None` when a member cannot be read: it must not lose its protection for that.
fn rebuild_without(
    repo: &Repository,
    head: &GroupHead,
    condemned: &HashSet<PackId>,
) -> Result<Option<(Accumulator, Vec<PackId>)>> {
    let mut rest =
        Accumulator::new(head.shape, head.class, random_slot(repo.entropy())?).map_err(parity::Error::Refused)?;
    let mut lost = Vec::new();
    for member in head.members.iter().filter(|member| !condemned.contains(&member.pack)) {
        match repo.storage().get(&layout::pack(&member.pack), member.len) {
            Ok(bytes) if sha256(&[&bytes]) == member.pack.0 => {
                rest.add(member.pack, &bytes).map_err(parity::Error::Refused)?;
            }
            Ok(_) => lost.push(member.pack),
            Err(error) => match error.kind.verdict() {
                Verdict::Missing | Verdict::Wrong => lost.push(member.pack),
                Verdict::Unreadable if error.kind.is_erasure() => return Ok(None),
                Verdict::Unreadable => return Err(error.into()),
            },
        }
    }
    Ok(Some((rest, lost)))
}

/// Deletes the groups that others replace, the oldest first.
fn delete_superseded(repo: &Repository, groups: &Groups) -> Result<()> {
    groups.superseded().iter().try_for_each(|id| delete_group(repo, id))
}

/// Deletes the files of a group, whatever its shape.
fn delete_group(repo: &Repository, id: &GroupId) -> Result<()> {
    for part in Part::all(MAX_PARITY) {
        let key = part.key(id);
        if repo.storage().size(&key)?.is_some() {
            repo.storage().delete(&key)?;
        }
    }
    Ok(())
}
