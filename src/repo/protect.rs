//! Parity for the packs that a session writes: folded in while they are in memory, so that no pack
//! is read back.
//!
//! Full groups are published as new groups. The rest at the end grows a tail group when the
//! maintenance lock is free (only its old parity is read for that), and becomes a group of its own
//! when it is not; the next holder merges such small groups. Each of them has a mark, so that tails
//! are found without a listing of all groups. A group supersedes others only when its members and
//! its mark are durable, and the others are deleted only when the new group is durable. A
//! published segment names a pack only after the pack and its group are durable, so whatever can be
//! reused is protected.

use super::written::Written;
use super::{Repository, SeededBug};
use crate::error::{Error, Result};
use crate::id::{GroupId, PackId};
use crate::layout;
use crate::lock::{KillLists, try_maint};
use crate::pack::ChunkLocation;
use crate::parity::{
    self, Accumulator, Group, Groups, Member, Part, Tails, mark, mark_most_room, new_group_id, random_slot, size_class,
};
use crate::storage::{self, Ask, ErrorKind, announced, judge, put_bytes};
use std::collections::HashSet;

/// Packs that are asked for side by side on object storage; where there are more, all are listed.
const ASKED_AT_ONCE: usize = 64;
/// Most attempts to protect packs while a prune condemns some of them.
const ROUNDS: usize = 3;

/// A group that is being filled, and the chunks of its members.
struct Growing {
    accumulator: Accumulator,
    written: Written,
}

/// The open groups of one session, one for each size class.
#[derive(Default)]
pub struct Protection {
    growing: Vec<Growing>,
    /// A full group was published since [`finish`](Self::finish).
    published: bool,
    /// The packs are in kill lists, and snapshots need them: the holder of the maintenance lock has
    /// decided that they stay.
    spared: bool,
}

impl Protection {
    /// Folds in a pack that was just put. Its chunks are added to `written` once it is protected.
    pub fn add(
        &mut self,
        repo: &Repository,
        pack: PackId,
        bytes: &[u8],
        chunks: impl Iterator<Item = (ChunkLocation, u64)>,
        written: &mut Written,
    ) -> Result<()> {
        let Some(shape) = repo.parity_shape() else {
            written.packs.push(pack);
            written.chunks.extend(chunks);
            return Ok(());
        };
        let class = size_class(bytes.len() as u64);
        let full =
            |group: &Growing| group.accumulator.class() == class && !group.accumulator.has_room(bytes.len() as u64);
        if let Some(at) = self.growing.iter().position(full) {
            // full not by the number of members, but because its record would become too long
            self.publish(repo, at, written)?;
        }
        let at = match self.growing.iter().position(|group| group.accumulator.class() == class) {
            Some(at) => at,
            None => {
                let accumulator = Accumulator::new(shape, class, random_slot(repo.entropy())?);
                let accumulator = accumulator.map_err(parity::Error::Refused)?;
                self.growing.push(Growing {
                    accumulator,
                    written: Written::default(),
                });
                self.growing.len() - 1
            }
        };
        let group = &mut self.growing[at];
        group.accumulator.add(pack, bytes).map_err(parity::Error::Refused)?;
        group.written.packs.push(pack);
        group.written.chunks.extend(chunks);
        if group.accumulator.is_full() {
            self.publish(repo, at, written)?;
        }
        Ok(())
    }

    /// Publishes one of the open groups.
    fn publish(&mut self, repo: &Repository, at: usize, written: &mut Written) -> Result<()> {
        let full = self.growing.swap_remove(at);
        let id = new_group_id(repo.entropy())?;
        self.publish_group(repo, full, (id, Vec::new()), written)
    }

    /// Publishes a group. A group that has lost packs to a prune which ignored this session
    /// protects nothing: then the session is abandoned (`Conflict`), no segment names the rest of
    /// the group, and a prune deletes it. This is checked afterwards too: a prune whose kill list
    /// does not exist at that point finds the group, and removes its packs from it.
    fn publish_group(
        &mut self,
        repo: &Repository,
        group: Growing,
        (id, superseded): (GroupId, Vec<GroupId>),
        written: &mut Written,
    ) -> Result<()> {
        let spared = self.spared;
        let check = || match spared || packs_stay(repo, &group.written.packs)? {
            true => Ok(()),
            false => Err(Error::Conflict),
        };
        check()?;
        let published = publish(repo, group.accumulator, id, superseded);
        // checked before the result of publish(): such a prune may have deleted the group too
        check()?;
        published?;
        self.published = true;
        written.append(group.written);
        Ok(())
    }

    /// Protects the rest: grows tail groups if no other process maintains the repository, otherwise
    /// creates groups of its own. When it returns, everything in `written` and its parity is
    /// durable. `holds_maint`: the caller maintains the repository.
    pub fn finish(&mut self, repo: &Repository, written: &mut Written, holds_maint: bool) -> Result<()> {
        if self.growing.is_empty() && !self.published {
            return Ok(());
        }
        let storage = repo.storage();
        // where locks exclude no other process, no group of others is replaced
        let maint = if holds_maint || self.growing.is_empty() || storage.is_remote() {
            None
        } else {
            try_maint(storage)?
        };
        let maintains = !self.growing.is_empty() && (holds_maint || maint.is_some());
        let ids = self.growing.iter().map(|_| new_group_id(repo.entropy()));
        let ids: Vec<GroupId> = ids.collect::<std::result::Result<_, _>>()?;
        let mut tails = match (ids.first().filter(|_| maintains), repo.parity_shape()) {
            (Some(from), Some(shape)) => {
                let origin = (&repo.config().id, repo.config().longest_pack());
                Tails::load(storage, origin, shape, from)?
            }
            _ => Tails::default(),
        };
        let mut marked = tails.unread().cloned().map_or(Ok(()), Err);
        // best effort: the group protects without it
        let _ = put_lost_records(repo, tails.without_record());
        // a group that fails before it is published is named by no segment: it may have absorbed
        // packs of other sessions
        let mut growing = std::mem::take(&mut self.growing);
        let mut replaced = Vec::new();
        for group in &mut growing {
            // a group that lost packs must not absorb others
            replaced.push(match self.spared || packs_stay(repo, &group.written.packs)? {
                true => absorb_tails(repo, &tails, &mut group.accumulator)?,
                false => Vec::new(),
            });
        }
        let growers = ids.iter().zip(&replaced).filter(|(_, old)| !old.is_empty());
        marked = marked.and(put_marks(repo, growers.map(|(id, _)| id)));
        let grows = replaced.iter().any(|old| !old.is_empty());
        if grows && !repo.has_bug(SeededBug::ParityFirst) {
            // no group may outlive its members and supersede others: a power cut that took a member
            // would have used up the parity of the rest. And the superseded groups are found
            // through the mark
            make_durable(repo)?;
        }
        let mut published = Ok(());
        for ((group, id), old) in growing.into_iter().zip(&ids).zip(&replaced) {
            if published.is_ok() {
                published = self.publish_group(repo, group, (*id, tails.replace(old)), written);
                if published.is_ok() && old.is_empty() {
                    // not earlier: a mark without a group looks like one that is left over
                    marked = marked.and(put_marks(repo, [id]));
                }
            } else if old.is_empty() {
                // contains only its own packs: retried with the next call
                self.growing.push(group);
            }
        }
        published?;
        marked = marked.and(put_marks(repo, tails.unmarked()));
        // before anything is deleted, and before a segment makes the packs reusable
        make_durable(repo)?;
        self.published = false;
        delete_superseded(repo, tails.superseded());
        tails.remove_spent_marks(storage);
        warn_of_marks(repo, marked);
        Ok(())
    }
}

/// Puts the `.grp` files that were lost in a power cut or on a full disk while the shards stayed.
/// Returns the first failure of a put; files that cannot be rebuilt are left to a repair.
fn put_lost_records(repo: &Repository, groups: &[GroupId]) -> Result<()> {
    let storage = repo.storage();
    let mut outcome = Ok(());
    for group in groups {
        let file =
            parity::read_record(storage, group).and_then(|record| parity::rebuild_file(storage, &record, Part::Group));
        if let Ok(file) = file {
            let put = put_bytes(storage, &Part::Group.key(group), &file);
            outcome = outcome.and(put.map(|_| ()));
        }
    }
    Ok(outcome?)
}

/// Loads all groups. Those that have lost their `.grp` in a power cut, but no member, get it back:
/// they protect as well as others, but a group must not stay one file short of what a repair
/// requires.
pub(super) fn load_groups(repo: &Repository) -> Result<Groups> {
    Ok(load_and_complete(repo)?.0)
}

/// The same, and whether all of these groups have their `.grp` again.
fn load_and_complete(repo: &Repository) -> Result<(Groups, Result<()>)> {
    let groups = repo.parity_groups()?;
    let mut without_record = Vec::new();
    for problem in groups.problems() {
        if problem.part == Part::Group
            && problem.reason == parity::Damage::Missing
            && let Some(head) = groups.get(&problem.group)
            && are_there(repo, &head.members)?
        {
            without_record.push(problem.group);
        }
    }
    if without_record.is_empty() {
        return Ok((groups, Ok(())));
    }
    let completed = put_lost_records(repo, &without_record);
    make_durable(repo)?;
    Ok((repo.parity_groups()?, completed))
}

/// Those of `packs` that are in no live group, or only in groups without their `.grp`. Puts the
/// lost `.grp` files first; if a full disk has no room for one, fails with `NoSpace` if
/// `must_complete`. Marks groups that can grow, unless the disk is full. Groups with other damage
/// are left to a repair. The caller holds the maintenance lock.
pub fn packs_without_parity<'a>(
    repo: &Repository,
    packs: impl IntoIterator<Item = &'a PackId>,
    must_complete: bool,
) -> Result<Vec<PackId>> {
    let (groups, completed) = load_and_complete(repo)?;
    if let Some(shape) = repo.parity_shape().filter(|_| must_complete) {
        // best effort; on a full disk, other files need the space
        let _ = mark_most_room(repo.storage(), &groups, shape);
    }
    if must_complete && matches!(completed, Err(Error::NoSpace { .. })) {
        completed?;
    }
    let lacking: HashSet<GroupId> = (groups.problems().iter())
        .filter(|problem| problem.part == Part::Group && problem.reason == parity::Damage::Missing)
        .map(|problem| problem.group)
        .collect();
    if lacking.is_empty() {
        return Ok(groups.unprotected(packs));
    }
    let has_none = |pack: &&PackId| groups.groups_of(pack).all(|head| lacking.contains(&head.id));
    Ok(packs.into_iter().filter(has_none).copied().collect())
}

/// Makes all existing packs and groups durable, also those of other sessions.
pub(super) fn make_durable(repo: &Repository) -> Result<()> {
    let storage = repo.storage();
    storage.include_in_barrier(layout::DATA);
    storage.include_in_barrier(layout::PARITY);
    Ok(storage.barrier()?)
}

/// Absorbs the members of all tail groups that fit into `accumulator`, and returns the groups that
/// it can supersede. A tail stays as it is when it lacks a member, or when its parity cannot be
/// read or rebuilt: verify reports it.
fn absorb_tails(repo: &Repository, tails: &Tails, accumulator: &mut Accumulator) -> Result<Vec<GroupId>> {
    let storage = repo.storage();
    let mut old = Vec::new();
    for tail in tails.of_class(accumulator.class()) {
        let is_in = |pack: &PackId| accumulator.members().any(|other| other.pack == *pack);
        if tail.members.iter().all(is_in) {
            // left over from an interrupted replacement
            old.push(tail.id);
            continue;
        }
        if accumulator.members().len() + tail.members.len() > usize::from(accumulator.shape().data) {
            continue;
        }
        let record = match parity::read_record(storage, &tail.id) {
            Ok(record) => record,
            Err(error) if error.is_of_group() => continue,
            Err(error) => return Err(error.into()),
        };
        if !are_there(repo, &record.head.members)? {
            continue;
        }
        match Accumulator::resume(storage, &record) {
            // refused: with several shards, two groups that use the same slots cannot be combined
            Ok(resumed) => {
                if accumulator.absorb(resumed).is_ok() {
                    old.push(tail.id);
                }
            }
            Err(error) if error.is_of_group() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(old)
}

fn are_there<'a>(repo: &Repository, members: impl IntoIterator<Item = &'a Member>) -> Result<bool> {
    for member in members {
        if repo.pack_len(&member.pack)? != Some(member.len) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether these packs exist and are in no kill list, proven or not: an older version, whose lists
/// have no MAC, may be deleting.
pub(super) fn packs_stay<'a>(repo: &Repository, packs: impl IntoIterator<Item = &'a PackId>) -> Result<bool> {
    let kill_lists = repo.kill_lists()?;
    let packs: Vec<&PackId> = packs.into_iter().collect();
    if repo.storage().is_remote() && packs.len() > ASKED_AT_ONCE {
        let listed = repo.list_packs()?;
        let stays = |pack: &&PackId| !kill_lists.is_listed(pack) && listed.contains_key(*pack);
        return Ok(packs.iter().all(stays));
    }
    for pack in announced(repo.storage(), &packs, |pack| Ask::Size(layout::pack(pack))) {
        if !stays(repo, &kill_lists, pack)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn stays(repo: &Repository, kill_lists: &KillLists, pack: &PackId) -> Result<bool> {
    Ok(!kill_lists.is_listed(pack) && repo.storage().size(&layout::pack(pack))?.is_some())
}

fn publish(repo: &Repository, accumulator: Accumulator, id: GroupId, superseded: Vec<GroupId>) -> Result<()> {
    let group = finished(repo, accumulator, id, superseded)?;
    Ok(parity::publish(repo.storage(), &group)?)
}

/// Marks groups as those that can grow. Without a mark a group protects, and does not grow.
fn put_marks<'a>(repo: &Repository, groups: impl IntoIterator<Item = &'a GroupId>) -> storage::Result<()> {
    let mut marks = groups.into_iter().map(|group| mark(repo.storage(), group));
    marks.try_for_each(|marked| marked)
}

/// Warns of marks that could not be read or put: no promise depends on them.
fn warn_of_marks(repo: &Repository, marked: storage::Result<()>) {
    // a full disk is reported by the files that must be stored
    if let Err(error) = marked
        && error.kind != ErrorKind::NoSpace
    {
        repo.warn(
            "WARN_PARITY_NOT_MARKED",
            format!("The marks of parity groups that can grow could not be read or written: {error}"),
        );
    }
}

/// A group that is ready to be published.
pub(super) fn finished(
    repo: &Repository,
    accumulator: Accumulator,
    id: GroupId,
    superseded: Vec<GroupId>,
) -> Result<Group> {
    let group = accumulator.finish(repo.config().id, id, superseded, repo.config_bytes().to_vec());
    Ok(group.map_err(parity::Error::Refused)?)
}

/// Deletes `groups`, which others supersede, oldest first; all groups are durable. The caller holds
/// the maintenance lock. A file that cannot be deleted does no harm, and the next ingest tries it
/// again.
fn delete_superseded(repo: &Repository, groups: &[GroupId]) {
    let shards = repo.parity_shape().map_or(0, |shape| shape.parity);
    for id in groups {
        for part in Part::all(shards) {
            if let Err(error) = repo.storage().delete(&part.key(id)) {
                repo.warn(
                    "WARN_PARITY_LEFTOVER",
                    format!("Superseded parity group {id} could not be deleted: {error}"),
                );
                return;
            }
        }
    }
}

/// Protects packs that are in the folder and in no group, for example after a crash. Returns those
/// that are protected now, or were before; a pack whose bytes do not match its id is left out.
pub fn protect_packs(repo: &Repository, packs: Vec<PackId>) -> Result<Vec<PackId>> {
    if repo.parity_shape().is_none() || packs.is_empty() {
        return Ok(packs);
    }
    let mut good = rebuildable_packs(repo)?;
    for _ in 0..ROUNDS {
        let bare = packs.iter().filter(|pack| !good.contains(*pack)).copied();
        let mut written = Written::default();
        let protected = protect_bare(repo, bare.collect(), &mut written);
        good.extend(written.packs);
        match protected {
            // a prune is about to delete some of them: the others form groups without these
            Err(Error::Conflict) => {}
            other => {
                other?;
                break;
            }
        }
    }
    Ok(packs.into_iter().filter(|pack| good.contains(pack)).collect())
}

/// [`protect_packs`] for packs that are in kill lists and that snapshots need. The caller holds the
/// maintenance lock, and has decided that they stay.
pub fn protect_spared(repo: &Repository, packs: &HashSet<PackId>) -> Result<()> {
    if repo.parity_shape().is_none() || packs.is_empty() {
        return Ok(());
    }
    let good = rebuildable_packs(repo)?;
    let mut bare: Vec<PackId> = packs.difference(&good).copied().collect();
    bare.sort_unstable();
    let mut protection = Protection {
        spared: true,
        ..Protection::default()
    };
    let mut written = Written::default();
    for pack in bare {
        protect_bare_pack(repo, pack, &mut protection, &mut written)?;
    }
    protection.finish(repo, &mut written, true)
}

/// Protects packs that are in no group; those that are in a kill list or damaged are left out.
fn protect_bare(repo: &Repository, packs: Vec<PackId>, written: &mut Written) -> Result<()> {
    let kill_lists = repo.kill_lists()?;
    let mut protection = Protection::default();
    for pack in packs {
        if stays(repo, &kill_lists, &pack)? {
            protect_bare_pack(repo, pack, &mut protection, written)?;
        }
    }
    protection.finish(repo, written, false)
}

fn protect_bare_pack(
    repo: &Repository,
    pack: PackId,
    protection: &mut Protection,
    written: &mut Written,
) -> Result<()> {
    let bytes = repo.storage().get(&layout::pack(&pack), repo.config().longest_pack());
    // a damaged or missing pack is left out; a failed read is neither
    match judge(bytes)? {
        Ok(bytes) if crate::crypto::sha256(&[&bytes]) == pack.0 => {
            protection.add(repo, pack, &bytes, std::iter::empty(), written)
        }
        _ => Ok(()),
    }
}

/// Packs that could each be rebuilt if lost: the shards of their group exist, and so do the other
/// members. A crash may have kept a group and lost packs in it.
fn rebuildable_packs(repo: &Repository) -> Result<HashSet<PackId>> {
    let groups = load_groups(repo)?;
    let damaged: HashSet<GroupId> = (groups.problems().iter())
        .filter(|problem| problem.part != Part::Group)
        .map(|problem| problem.group)
        .collect();
    let present = repo.list_packs()?;
    let is_present = |member: &Member| present.get(&member.pack) == Some(&member.len);
    Ok(groups
        .live()
        .filter(|head| !damaged.contains(&head.id) && head.members.iter().all(is_present))
        .flat_map(|head| head.members.iter().map(|member| member.pack))
        .collect())
}
