//! Parity again: every file of every live group as it should be, groups without members that are lost, every whole pack
//! in a group, and nothing left behind by writers that are gone.

use super::files::{Found, put_right};
use super::packs::Inventory;
use super::{Packs, Work};
use crate::crypto::sha256;
use crate::error::Result;
use crate::id::{GroupId, PackId};
use crate::layout;
use crate::parity::{
    self, Accumulator, Damage, GroupHead, GroupRecord, Groups, Part, check_part, new_group_id, random_slot,
    read_record, rebuild_file,
};
use crate::repo::{protect_packs, protect_spared};
use crate::storage::judge;
use std::collections::{BTreeMap, BTreeSet};

/// Puts parity right. Packs are what they will be by now.
pub(super) fn mend(work: &mut Work<'_>, inventory: &Inventory) -> Result<()> {
    let repo = work.repo;
    let storage = repo.storage();
    let groups = repo.parity_groups()?;
    if let Err(error) = judge(groups.check_read()) {
        // which packs it protects is not known, so nothing is replaced or moved
        return work.leave(error);
    }
    let live: Vec<GroupId> = groups.live().map(|head| head.id).collect();
    for group in live {
        work.advance(0)?;
        match judge(read_record(storage, &group)) {
            Ok(Ok(record)) => mend_group(work, inventory, &record)?,
            // fronts that agree and no whole record: it can give nothing back
            Ok(Err(parity::Error::Damaged { .. })) => set_aside(work, &group)?,
            Ok(Err(error)) => return Err(error.into()),
            Err(error) => work.leave(error)?,
        }
    }
    storage.barrier()?;
    mend_incomplete(work, inventory, &groups)?;
    protect(work, inventory)?;
    storage.barrier()?;
    delete_superseded(work)
}

/// One live group, or one that is made complete.
fn mend_group(work: &mut Work<'_>, inventory: &Inventory, record: &GroupRecord) -> Result<()> {
    let head = &record.head;
    let lost: Packs = inventory.lost();
    if head
        .members
        .iter()
        .any(|member| inventory.unread.contains(&member.pack))
    {
        // it may be what gives that pack back
        return Ok(());
    }
    if head.members.iter().any(|member| lost.contains(&member.pack)) {
        return regroup(work, inventory, head);
    }
    let storage = work.repo.storage();
    for part in parts(head) {
        let mut state = check_part(storage, record, part)?;
        if state.unreadable.is_some() {
            // once is no time
            state = check_part(storage, record, part)?;
        }
        if state.is_intact() {
            continue;
        }
        let found = match state.frame {
            // perhaps its writer is just about to put it
            Some(Damage::Missing) if !is_settled(work, inventory, head)? => continue,
            Some(Damage::Missing) => Found::Missing,
            _ => Found::Wrong,
        };
        match judge(rebuild_file(storage, record, part)) {
            Ok(Ok(bytes)) => put_right(storage, &part.key(&head.id), &bytes, &found)?,
            // a member that a prune has condemned is gone: the others need another group
            Ok(Err(parity::Error::Lost(_))) if has_condemned(work, head) => return regroup(work, inventory, head),
            // the disk fails while we look: the next repair sees more
            Ok(Err(parity::Error::Lost(_))) => continue,
            Ok(Err(error)) => return Err(error.into()),
            Err(error) => {
                work.leave(error)?;
                continue;
            }
        }
        work.report.parity_repaired += 1;
    }
    Ok(())
}

fn has_condemned(work: &Work<'_>, head: &GroupHead) -> bool {
    let mut members = head.members.iter();
    members.any(|member| work.kill_lists.condemned(&member.pack))
}

/// True when whoever wrote the packs of a group is gone. A session publishes groups of its own packs only, as long as it
/// does not hold the maintenance lock.
fn is_settled(work: &Work<'_>, inventory: &Inventory, head: &GroupHead) -> Result<bool> {
    let writers = work.repo.writers()?;
    let mut members = head.members.iter().map(|member| inventory.good.get(&member.pack));
    Ok(writers.is_empty()
        || members.all(|good| {
            let content = good.and_then(|good| good.content.as_ref());
            content.is_some_and(|content| !writers.contains(&content.session))
        }))
}

fn parts(head: &GroupHead) -> impl Iterator<Item = Part> + use<> {
    (0..head.shape.parity).map(Part::Shard).chain([Part::Group])
}

/// A group with members that are gone for good: what is left of it becomes a new one, read from the packs, and its files
/// go to the quarantine, for they hold what is left of what was lost.
fn regroup(work: &mut Work<'_>, inventory: &Inventory, head: &GroupHead) -> Result<()> {
    let repo = work.repo;
    let storage = repo.storage();
    let first_slot = random_slot(repo.entropy())?;
    let mut whole = Accumulator::new(head.shape, head.class, first_slot).map_err(parity::Error::Refused)?;
    for member in &head.members {
        if inventory.bad.contains(&member.pack) || work.kill_lists.condemned(&member.pack) {
            continue;
        }
        let bytes = storage.get(&layout::pack(&member.pack), repo.config().longest_pack())?;
        if sha256(&[&bytes]) == member.pack.0 {
            whole.add(member.pack, &bytes).map_err(parity::Error::Refused)?;
        }
    }
    if !whole.is_empty() {
        let groups = repo.parity_groups()?;
        let superseded = groups.superseding(&[head.id]);
        let id = new_group_id(repo.entropy())?;
        let group = whole.finish(repo.config().id, id, superseded, repo.config_bytes().to_vec());
        parity::publish(storage, &group.map_err(parity::Error::Refused)?)?;
        storage.barrier()?;
        work.report.parity_repaired += 1;
    }
    set_aside(work, &head.id)
}

/// Moves all files of a group to the quarantine.
fn set_aside(work: &Work<'_>, group: &GroupId) -> Result<()> {
    let storage = work.repo.storage();
    for key in files_of(work)?.remove(group).unwrap_or_default() {
        storage.quarantine(&key)?;
    }
    Ok(())
}

/// The files of all groups by group.
fn files_of(work: &Work<'_>) -> Result<BTreeMap<GroupId, Vec<String>>> {
    let mut files: BTreeMap<GroupId, Vec<String>> = BTreeMap::new();
    for file in work.repo.storage().list(layout::PARITY)? {
        let name = file.key.rsplit('/').next().unwrap_or_default();
        let is_part = name.ends_with(".par") || name.ends_with(".grp");
        if let Some(id) = name.split('.').next().and_then(GroupId::from_hex).filter(|_| is_part) {
            files.entry(id).or_default().push(file.key);
        }
    }
    Ok(files)
}

/// Groups that are not complete. Those that protect what nothing else does are made complete; the others are leftovers.
/// Nothing is done while anybody writes, for it may be theirs.
fn mend_incomplete(work: &mut Work<'_>, inventory: &Inventory, before: &Groups) -> Result<()> {
    if before.incomplete().is_empty() || !work.repo.writers()?.is_empty() {
        return Ok(());
    }
    // whoever was publishing one of `before` is gone by now; what is still not complete never will be
    let now = work.repo.parity_groups()?;
    let still: BTreeSet<GroupId> = now.incomplete().iter().copied().collect();
    for group in before.incomplete().iter().filter(|group| still.contains(group)) {
        let record = match judge(read_record(work.repo.storage(), group)) {
            Ok(record) => record.ok(),
            Err(error) => {
                work.leave(error)?;
                continue;
            }
        };
        if record
            .as_ref()
            .is_some_and(|record| record.head.repo != work.repo.config().id)
        {
            continue;
        }
        let needed = record.filter(|record| {
            let members = || record.head.members.iter().map(|member| &member.pack);
            members().all(|pack| inventory.good.contains_key(pack)) && !now.unprotected(members()).is_empty()
        });
        match needed {
            Some(record) => mend_group(work, inventory, &record)?,
            None => set_aside(work, group)?,
        }
    }
    work.repo.storage().barrier()?;
    Ok(())
}

/// Every whole pack gets into a group, but for those that a live session is still about to protect.
fn protect(work: &mut Work<'_>, inventory: &Inventory) -> Result<()> {
    let repo = work.repo;
    if repo.parity_shape().is_none() {
        return Ok(());
    }
    let groups = repo.parity_groups()?;
    let settled = inventory
        .contents()
        .filter(|(.., content)| !inventory.writers.contains(&content.session));
    let packs: Vec<PackId> = settled.map(|(pack, ..)| *pack).collect();
    let bare = groups.unprotected(&packs);
    work.report.parity_repaired += bare.len() as u64;
    let (spared, bare): (Vec<PackId>, Vec<PackId>) = bare.into_iter().partition(|pack| work.kill_lists.is_listed(pack));
    protect_spared(repo, &spared.into_iter().collect())?;
    protect_packs(repo, bare)?;
    Ok(())
}

/// Deletes groups that others supersede, the oldest first. These are whole and durable by now.
fn delete_superseded(work: &Work<'_>) -> Result<()> {
    let storage = work.repo.storage();
    let groups = work.repo.parity_groups()?;
    if groups.superseded().is_empty() {
        return Ok(());
    }
    let mut files = files_of(work)?;
    for group in groups.superseded() {
        for key in files.remove(group).unwrap_or_default() {
            storage.delete(&key)?;
        }
    }
    storage.barrier()?;
    Ok(())
}
