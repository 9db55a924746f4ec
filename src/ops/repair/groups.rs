//! Repairs parity: afterwards every file of every live group is right, no group has lost members,
//! every intact pack is in a group, and nothing is left over from writers that have exited.

use super::files::{Found, write_repaired};
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

/// Repairs parity. Packs have reached their final state at this point.
pub(super) fn repair(work: &mut Work<'_>, inventory: &Inventory) -> Result<()> {
    let repo = work.repo;
    let storage = repo.storage();
    let groups = repo.parity_groups()?;
    if let Err(error) = judge(groups.check_read()) {
        // the packs that an unreadable group protects are not known, so nothing is replaced or
        // moved
        return work.leave(error);
    }
    let repaired_before = work.report.parity_repaired;
    let live: Vec<GroupId> = groups.live().map(|head| head.id).collect();
    for group in live {
        work.advance(0)?;
        match judge(read_record(storage, &group)) {
            Ok(Ok(record)) => repair_group(work, inventory, &record)?,
            // the fronts of its files agree but no record is intact: the group cannot rebuild
            // anything
            Ok(Err(parity::Error::Damaged { .. })) => set_aside(work, &group)?,
            Ok(Err(error)) => return Err(error.into()),
            Err(error) => work.leave(error)?,
        }
    }
    storage.barrier()?;
    repair_incomplete(work, inventory, &groups)?;
    protect(work, inventory)?;
    storage.barrier()?;
    // without a new group, those that are superseded now were so before
    match groups.superseded().is_empty() && work.report.parity_repaired == repaired_before {
        true => Ok(()),
        false => delete_superseded(work),
    }
}

/// Repairs a live group, or completes an incomplete one.
fn repair_group(work: &mut Work<'_>, inventory: &Inventory, record: &GroupRecord) -> Result<()> {
    let head = &record.head;
    let lost: Packs = inventory.lost();
    if head
        .members
        .iter()
        .any(|member| inventory.unread.contains(&member.pack))
    {
        // the group may be needed to rebuild that pack
        return Ok(());
    }
    if head.members.iter().any(|member| lost.contains(&member.pack)) {
        return regroup(work, inventory, head);
    }
    let storage = work.repo.storage();
    for part in parts(head) {
        let mut state = check_part(storage, record, part)?;
        if state.unreadable.is_some() {
            // a read that fails once is repeated
            state = check_part(storage, record, part)?;
        }
        if state.is_intact() {
            continue;
        }
        let found = match state.frame {
            // its writer may be about to publish it
            Some(Damage::Missing) if !is_settled(work, inventory, head)? => continue,
            Some(Damage::Missing) => Found::Missing,
            _ => Found::Wrong,
        };
        match judge(rebuild_file(storage, record, part)) {
            Ok(Ok(bytes)) => write_repaired(storage, &part.key(&head.id), &bytes, &found)?,
            // a member that a prune has condemned was deleted: the others need another group
            Ok(Err(parity::Error::Lost(_))) if has_condemned(work, head) => return regroup(work, inventory, head),
            // the disk is failing: a later repair may read more
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
    members.any(|member| work.kill_lists.is_condemned(&member.pack))
}

/// True when the writer of the packs of a group has exited. A session publishes groups only for its
/// own packs, unless it holds the maintenance lock.
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
    Part::all(head.shape.parity)
}

/// Replaces a group with members that are lost: the remaining packs form a new group, and the files
/// of the old one are moved to the quarantine, because they contain the remaining data of the lost
/// packs.
fn regroup(work: &mut Work<'_>, inventory: &Inventory, head: &GroupHead) -> Result<()> {
    let repo = work.repo;
    let storage = repo.storage();
    let first_slot = random_slot(repo.entropy())?;
    let mut remaining = Accumulator::new(head.shape, head.class, first_slot).map_err(parity::Error::Refused)?;
    for member in &head.members {
        if inventory.bad.contains(&member.pack) || work.kill_lists.is_condemned(&member.pack) {
            continue;
        }
        let bytes = storage.get(&layout::pack(&member.pack), repo.config().longest_pack())?;
        if sha256(&[&bytes]) == member.pack.0 {
            remaining.add(member.pack, &bytes).map_err(parity::Error::Refused)?;
        }
    }
    if !remaining.is_empty() {
        let groups = repo.parity_groups()?;
        let superseded = groups.superseding(&[head.id]);
        let id = new_group_id(repo.entropy())?;
        let group = remaining.finish(repo.config().id, id, superseded, repo.config_bytes().to_vec());
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

/// Handles incomplete groups. Those that are the only protection of a pack are completed; the
/// others are leftovers. Nothing is done while a session is writing, because the groups may belong
/// to it.
fn repair_incomplete(work: &mut Work<'_>, inventory: &Inventory, before: &Groups) -> Result<()> {
    if before.incomplete().is_empty() || !work.repo.writers()?.is_empty() {
        return Ok(());
    }
    // the publisher of each group in `before` has exited; a group that is still incomplete will
    // never be completed
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
            Some(record) => repair_group(work, inventory, &record)?,
            None => set_aside(work, group)?,
        }
    }
    work.repo.storage().barrier()?;
    Ok(())
}

/// Adds every intact pack to a group, except those that a live session has yet to protect.
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

/// Deletes superseded groups, the oldest first. Their successors are complete and durable at this
/// point.
fn delete_superseded(work: &mut Work<'_>) -> Result<()> {
    let storage = work.repo.storage();
    let groups = work.repo.parity_groups()?;
    if let Err(error) = judge(groups.check_read()) {
        // what it supersedes is not known
        return work.leave(error);
    }
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
