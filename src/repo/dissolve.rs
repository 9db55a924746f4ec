//! Packs that leave their parity groups, before they are deleted.
//!
//! A group is replaced by one without them: their rows are folded out of its shards again, or, when most of them go, the
//! shards are made from those that stay. What is left of several groups becomes one where it fits. The old groups go only
//! when the new ones are durable; so every pack that stays is protected at every instant (but for one on a full disk, [`Room::Little`]). Members that are lost leave too,
//! unless the group can still give them back to somebody who misses them. The caller holds the maintenance lock.

use super::Repository;
use super::protect::{finished, load_groups, make_durable};
use crate::crypto::sha256;
use crate::error::{Error, Result};
use crate::id::{GroupId, PackId};
use crate::layout;
use crate::monitor::Monitor;
use crate::parity::{
    self, Accumulator, GroupHead, GroupRecord, Groups, MAX_PARITY, Member, Part, Refusal, random_slot,
};
use crate::storage::{Verdict, judge};
use std::collections::HashSet;

/// What to do where a group and the ones that it replaces have no room at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Fail with [`Error::NoSpace`]: the caller can still free some space. Nothing is unprotected then.
    Enough,
    /// Delete the old groups first. Where the new one cannot be stored even then, its members have lost their parity,
    /// and the caller has to protect them.
    Little,
}

/// Deletes the groups of which all members are in `killed`; needs no space. Returns those of `killed` that other groups
/// still count on.
pub fn delete_dead_groups(repo: &Repository, killed: &HashSet<PackId>) -> Result<HashSet<PackId>> {
    let groups = load_durable(repo)?;
    let is_dead = |head: &GroupHead| head.members.iter().all(|member| killed.contains(&member.pack));
    let dead: Vec<GroupId> = groups.live().filter(|head| is_dead(head)).map(|head| head.id).collect();
    delete_superseded(repo, &groups)?;
    for id in &dead {
        delete_group(repo, id)?;
    }
    Ok(bound(&groups, killed, &dead.into_iter().collect()))
}

/// Replaces the groups that have some members in `killed`. Returns those of `killed` that a group cannot let go: it is
/// damaged, and the members that stay cannot be read either.
pub fn leave_groups(repo: &Repository, killed: &HashSet<PackId>, room: Room) -> Result<HashSet<PackId>> {
    let groups = load_durable(repo)?;
    let mut affected: Vec<GroupHead> = groups
        .live()
        .filter(|head| head.members.iter().any(|member| killed.contains(&member.pack)))
        .cloned()
        .collect();
    // like sizes side by side, the smallest first: they fit together
    affected.sort_by_key(|head| (head.class, head.members.len(), head.id));
    let mut open: Option<(Accumulator, Vec<GroupId>)> = None;
    let mut empty: HashSet<GroupId> = HashSet::new();
    for head in affected {
        let rest = match without(repo, &head, killed)? {
            Rest::Group(rest) => rest,
            Rest::Alone(rest) => {
                replace(repo, &groups, rest, &[head.id], room)?;
                continue;
            }
            Rest::Nothing => {
                empty.insert(head.id);
                continue;
            }
            // it stays as it is, and its members with it
            Rest::Bound => continue,
        };
        open = Some(match open.take() {
            None => (rest, vec![head.id]),
            Some((mut whole, mut old)) if whole.can_absorb(&rest).is_ok() => {
                whole.absorb(rest).map_err(parity::Error::Refused)?;
                old.push(head.id);
                (whole, old)
            }
            Some((whole, old)) => {
                replace(repo, &groups, whole, &old, room)?;
                (rest, vec![head.id])
            }
        });
    }
    if let Some((whole, old)) = open {
        replace(repo, &groups, whole, &old, room)?;
    }
    let groups = load_durable(repo)?;
    delete_superseded(repo, &groups)?;
    for id in &empty {
        delete_group(repo, id)?;
    }
    Ok(bound(&groups, killed, &empty))
}

/// All groups, and everything that they count on is durable.
fn load_durable(repo: &Repository) -> Result<Groups> {
    make_durable(repo)?;
    let groups = load_groups(repo)?;
    groups.check_read()?;
    Ok(groups)
}

/// Those of `killed` that are members of live groups, `gone` ones left out.
fn bound(groups: &Groups, killed: &HashSet<PackId>, gone: &HashSet<GroupId>) -> HashSet<PackId> {
    let live = groups.live().filter(|head| !gone.contains(&head.id));
    let members = live.flat_map(|head| head.members.iter().map(|member| member.pack));
    members.filter(|pack| killed.contains(pack)).collect()
}

/// Replaces the groups `old` by `whole`. Where a full disk has no room for both, and [`Room::Little`] allows it, the old
/// ones are deleted first: `whole` takes up no more than they do. A crash between the two, or another process that takes
/// the space, costs protection until a prune or a repair restores it, and no data.
fn replace(repo: &Repository, groups: &Groups, whole: Accumulator, old: &[GroupId], room: Room) -> Result<()> {
    let group = finished(repo, whole, groups.superseding(old))?;
    let published = parity::publish(repo.storage(), &group).map_err(Error::from);
    if !matches!(published, Err(Error::NoSpace { .. })) {
        return published;
    }
    if room == Room::Enough {
        // what was put of it takes up space, and the caller comes back with another group
        delete_group(repo, &group.record.head.id)?;
        return published;
    }
    // it fails where a flush has: nothing could be published afterwards
    repo.storage().barrier()?;
    old.iter().try_for_each(|id| delete_group(repo, id))?;
    repo.storage().barrier()?;
    Ok(parity::publish(repo.storage(), &group)?)
}

/// What is left of a group.
enum Rest {
    /// All members are there.
    Group(Accumulator),
    /// One is lost, and the group can give it back. Others must not count on such a group.
    Alone(Accumulator),
    /// No member that could be protected.
    Nothing,
    /// It cannot be changed without a loss.
    Bound,
}

/// What is left of a group without `killed`.
fn without(repo: &Repository, head: &GroupHead, killed: &HashSet<PackId>) -> Result<Rest> {
    let stays = |member: &&Member| !killed.contains(&member.pack);
    let mut all_there = true;
    for member in head.members.iter().filter(stays) {
        all_there &= repo.pack_len(&member.pack)? == Some(member.len);
    }
    let few_go = head.members.iter().filter(stays).count() * 2 >= head.members.len();
    if all_there
        && few_go
        && let Some(rest) = fold_out(repo, head, killed)?
    {
        return Ok(Rest::Group(rest));
    }
    let Some((rest, lost)) = make_anew(repo, head, killed)? else {
        return Ok(Rest::Bound);
    };
    for pack in &lost {
        if can_give_back(repo, head, pack)? {
            return Ok(fold_out(repo, head, killed)?.map_or(Rest::Bound, Rest::Alone));
        }
    }
    Ok(match rest.is_empty() {
        true => Rest::Nothing,
        false => Rest::Group(rest),
    })
}

/// Those of `packs`, which are gone, that a group can make again. Where that cannot be told, they count as such.
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

/// Whether the index knows a lost pack and the group can make it again.
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

/// Takes the rows of those that go out of the shards.
fn fold_out(repo: &Repository, head: &GroupHead, killed: &HashSet<PackId>) -> Result<Option<Accumulator>> {
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
        .filter(|member| killed.contains(&member.pack))
    {
        let bytes = match storage.get(&layout::pack(&member.pack), member.len) {
            Ok(bytes) => bytes,
            Err(error) if error.kind.is_erasure() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // refuses bytes that are not those that were folded in
        if rest.remove(&member.pack, &bytes).is_err() {
            return Ok(None);
        }
    }
    Ok(Some(rest))
}

/// Folds those that stay into new shards; with those that are lost and left out. `None` when one of them cannot be read: it
/// must not lose its protection for that.
fn make_anew(
    repo: &Repository,
    head: &GroupHead,
    killed: &HashSet<PackId>,
) -> Result<Option<(Accumulator, Vec<PackId>)>> {
    let mut rest =
        Accumulator::new(head.shape, head.class, random_slot(repo.entropy())?).map_err(parity::Error::Refused)?;
    let mut lost = Vec::new();
    for member in head.members.iter().filter(|member| !killed.contains(&member.pack)) {
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

/// Deletes the files of a group; the `.grp` last, so that what is left by a crash is still told apart.
fn delete_group(repo: &Repository, id: &GroupId) -> Result<()> {
    for part in (0..MAX_PARITY).map(Part::Shard).chain([Part::Group]) {
        let key = part.key(id);
        if repo.storage().size(&key)?.is_some() {
            repo.storage().delete(&key)?;
        }
    }
    Ok(())
}
