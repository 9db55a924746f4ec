//! The groups that can grow, found through their marks instead of a listing of all groups.
//!
//! A *mark* is an empty file with the id of a group as its name. Groups that can grow have one, and
//! so have those that supersede others that may still exist. Loading lists the marks, which are
//! few, and reads the front of the group of each, so its cost does not grow with the repository.
//! The groups themselves decide everything; a mark is a hint:
//! - A group without a mark protects its members all the same, and does not grow.
//! - A mark without a group, and one of a full group that left nothing to delete, is removed.
//! - A superseded group is found through a mark of its own or through that of its successor.
//! - When no mark leads to a group, all groups are loaded, and those with most room get one: the
//!   last writers were of an earlier version, or a tool did not copy the marks.
//! - Marks that cannot be listed are not absent: no group grows, and none is deleted.
//!
//! Damage of a marked group that its front does not show is not detected here: growing a tail reads
//! and checks its files.

use super::error::{Damage, Error};
use super::format::GroupHead;
use super::group::read_proven_head;
use super::groups::{Files, Groups, PartOrder, files_of, inspect};
use super::shape::{Part, Shape};
use crate::id::{GroupId, PackId, RepoId};
use crate::layout;
use crate::storage::{self, Storage, put_bytes};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Most marks that one call reads, so that its time is bounded when many writers without the
/// maintenance lock have left groups of their own. Other calls read the others.
const MOST_READ: usize = 64;
/// Most groups of a class that stay marked although they are more than half full. Two of these can
/// never be merged, so their number would grow with the repository.
const MOST_NEARLY_FULL: usize = 4;

/// Size classes of packs.
const CLASSES: u8 = 4;

/// A live group that is not full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// The group.
    pub id: GroupId,
    /// Size class of its packs.
    pub class: u8,
    /// Its packs.
    pub members: Vec<PackId>,
    /// A group that it supersedes still exists.
    supersedes: bool,
}

/// The groups that can grow, and those to delete.
#[derive(Debug, Default)]
pub struct Tails {
    /// Fullest first.
    open: Vec<Tail>,
    /// Oldest first.
    superseded: Vec<GroupId>,
    without_record: Vec<GroupId>,
    /// Marks without a group, and of groups that have nothing left to do.
    spent: Vec<GroupId>,
    /// Members of a full group.
    most_members: usize,
    /// No mark led to a group.
    unmarked: bool,
    /// The marks could not be listed.
    unread: Option<storage::Error>,
}

/// A marked group.
struct Marked {
    head: GroupHead,
    files: Files,
    /// The groups that it supersedes and that still exist.
    names: Vec<GroupId>,
}

/// Puts the mark of a group. If the group supersedes others, the mark is put and made durable
/// before the group; otherwise it is put after the group, because a mark without a group is
/// removed.
pub fn mark(storage: &dyn Storage, group: &GroupId) -> storage::Result<()> {
    put_bytes(storage, &layout::tail_mark(group), &[])?;
    Ok(())
}

impl Tails {
    /// Finds the marked groups of the repository `repo`, whose packs have at most `longest` bytes;
    /// groups of another shape than `shape` are not tails. If there are many marks, a part of them
    /// is read, in order of id from `from` on: a random id, so that marks of groups that cannot
    /// grow do not hide the others. **The caller holds the maintenance lock.**
    pub fn load(
        storage: &dyn Storage,
        (repo, longest): (&RepoId, u64),
        shape: Shape,
        from: &GroupId,
    ) -> Result<Self, Error> {
        let mut tails = Self {
            most_members: usize::from(shape.data),
            ..Self::default()
        };
        let mut marks = match list_marks(storage) {
            Ok(marks) => marks,
            Err(error) => {
                tails.unread = Some(error);
                return Ok(tails);
            }
        };
        let first = marks.partition_point(|id| id < from);
        marks.rotate_left(first);
        let mut marked: BTreeMap<GroupId, Marked> = BTreeMap::new();
        for id in marks.iter().copied().take(MOST_READ) {
            match files_of(storage, &id, shape.parity)? {
                Some(files) if files.is_empty() => tails.spent.push(id),
                Some(files) => {
                    let head = read_head(storage, (repo, longest), id, &files)?;
                    let names = Vec::new();
                    marked.extend(head.map(|head| (id, Marked { head, files, names })));
                }
                // it may be a tail again when its files can be read
                None => {}
            }
        }
        if tails.spent.len() == marks.len() {
            return Ok(Self {
                unmarked: true,
                spent: tails.spent,
                ..Self::among(&Groups::load(storage, repo, longest)?, shape)
            });
        }
        find_superseded(storage, shape, &mut marked, &tails.spent)?;
        let named = count_named(storage, (repo, longest), &marked)?;
        for (id, group) in marked {
            if named.contains_key(&id) {
                continue;
            }
            if !group.files.contains_key(&PartOrder::GROUP) {
                tails.without_record.push(id);
            }
            if group.head.shape == shape && group.head.members.len() < tails.most_members {
                tails.open.push(Tail {
                    id,
                    class: group.head.class,
                    members: group.head.members.iter().map(|member| member.pack).collect(),
                    supersedes: !group.names.is_empty(),
                });
            } else if group.names.is_empty() {
                tails.spent.push(id);
            }
        }
        tails.sort();
        // a newer group names all older ones that exist, so the oldest is named most often
        tails.superseded = named.keys().copied().collect();
        tails
            .superseded
            .sort_unstable_by_key(|id| (std::cmp::Reverse(named.get(id).copied()), *id));
        Ok(tails)
    }

    /// The tails among all groups.
    fn among(groups: &Groups, shape: Shape) -> Self {
        let has_room = |head: &&GroupHead| head.shape == shape && head.members.len() < usize::from(shape.data);
        let open = groups.live().filter(has_room).map(|head| Tail {
            id: head.id,
            class: head.class,
            members: head.members.iter().map(|member| member.pack).collect(),
            supersedes: false,
        });
        let lacks_record = (groups.problems().iter())
            .filter(|problem| problem.part == Part::Group && problem.reason == Damage::Missing)
            .map(|problem| problem.group)
            .filter(|id| groups.get(id).is_some());
        let mut tails = Self {
            open: open.collect(),
            superseded: groups.superseded().to_vec(),
            without_record: lacks_record.collect(),
            most_members: usize::from(shape.data),
            ..Self::default()
        };
        tails.sort();
        tails
    }

    fn sort(&mut self) {
        self.open
            .sort_unstable_by_key(|tail| (std::cmp::Reverse(tail.members.len()), tail.id));
    }

    /// Live groups of this class that are not full, fullest first.
    pub fn of_class(&self, class: u8) -> impl Iterator<Item = &Tail> {
        self.open.iter().filter(move |tail| tail.class == class)
    }

    /// Records that a new group replaces `old`, and returns the ids that it must name: all
    /// superseded groups that still exist.
    pub fn replace(&mut self, old: &[GroupId]) -> Vec<GroupId> {
        if old.is_empty() {
            return Vec::new();
        }
        self.open.retain(|tail| !old.contains(&tail.id));
        self.superseded.extend(old);
        let all: BTreeSet<_> = self.superseded.iter().copied().collect();
        all.into_iter().collect()
    }

    /// Live groups whose `.grp` is missing, as after a power cut. Their shards contain the record
    /// too.
    pub fn without_record(&self) -> &[GroupId] {
        &self.without_record
    }

    /// Superseded groups that still exist, oldest first: the order in which they are deleted.
    pub fn superseded(&self) -> &[GroupId] {
        &self.superseded
    }

    /// The failure, when the marks could not be listed. There are no tails then.
    pub fn unread(&self) -> Option<&storage::Error> {
        self.unread.as_ref()
    }

    /// The groups that need a mark because no mark led to a group: in each class those with most
    /// room.
    pub fn unmarked(&self) -> impl Iterator<Item = &GroupId> {
        self.most_room(MOST_NEARLY_FULL).filter(|_| self.unmarked)
    }

    /// Removes the marks that are of no further use. Every file that was missing while this was
    /// loaded is durably missing: otherwise a power cut could restore a group that no mark leads
    /// to. A mark that cannot be removed does no harm.
    pub fn remove_spent_marks(&self, storage: &dyn Storage) {
        for group in self.spent.iter().chain(self.nearly_full()) {
            let _ = storage.delete(&layout::tail_mark(group));
        }
    }

    /// The `most` groups of each class with most room.
    fn most_room(&self, most: usize) -> impl Iterator<Item = &GroupId> {
        (0..CLASSES).flat_map(move |class| {
            let tails: Vec<&Tail> = self.of_class(class).collect();
            tails.into_iter().rev().take(most).map(|tail| &tail.id)
        })
    }

    /// The groups that stay as they are, because others have more room: the fullest ones beyond
    /// [`MOST_NEARLY_FULL`] of a class.
    fn nearly_full(&self) -> impl Iterator<Item = &GroupId> {
        (0..CLASSES).flat_map(|class| {
            let is_nearly_full =
                |tail: &&Tail| !self.unmarked && tail.members.len() * 2 > self.most_members && !tail.supersedes;
            let nearly: Vec<&Tail> = self.of_class(class).filter(is_nearly_full).collect();
            nearly.into_iter().rev().skip(MOST_NEARLY_FULL).map(|tail| &tail.id)
        })
    }
}

/// Marks the groups with most room, of each class a few that have no mark: those that lost theirs
/// in a crash, and what maintenance left. The caller holds the maintenance lock.
pub fn mark_most_room(storage: &dyn Storage, groups: &Groups, shape: Shape) -> storage::Result<()> {
    let marked: BTreeSet<GroupId> = list_marks(storage)?.into_iter().collect();
    let tails = Tails::among(groups, shape);
    let mut lacking = tails.most_room(MOST_NEARLY_FULL).filter(|id| !marked.contains(id));
    lacking.try_for_each(|id| mark(storage, id))
}

/// The marked groups, in order of id.
fn list_marks(storage: &dyn Storage) -> storage::Result<Vec<GroupId>> {
    let listed = storage.list(layout::TAILS)?.into_iter();
    Ok(listed
        .filter_map(|entry| layout::id_of(&entry.key, ".tail").map(GroupId))
        .collect())
}

/// The head of a complete group: from the `.grp`, or, when that is missing or damaged, as
/// [`Groups::load`](super::Groups::load) finds it.
fn read_head(
    storage: &dyn Storage,
    (repo, longest): (&RepoId, u64),
    id: GroupId,
    files: &Files,
) -> Result<Option<GroupHead>, Error> {
    if let Some(len) = files.get(&PartOrder::GROUP)
        && let Ok(head) = read_proven_head(storage, &id, Part::Group, *len)?
        && head.repo == *repo
        && head.members.iter().all(|member| member.len <= longest)
        && head.file_len(Part::Group) == *len
    {
        return Ok(Some(head));
    }
    let found = inspect(storage, (repo, longest), id, files.clone())?;
    Ok(found.filter(|found| found.complete).and_then(|found| found.head))
}

/// Adds the superseded groups that still exist to each marked one; `gone` do not.
fn find_superseded(
    storage: &dyn Storage,
    shape: Shape,
    marked: &mut BTreeMap<GroupId, Marked>,
    gone: &[GroupId],
) -> Result<(), Error> {
    let mut exist: HashMap<GroupId, bool> = marked.keys().map(|id| (*id, true)).collect();
    exist.extend(gone.iter().map(|id| (*id, false)));
    for group in marked.values_mut() {
        for name in &group.head.superseded {
            let exists = match exist.get(name) {
                Some(exists) => *exists,
                // one whose files cannot be read may exist
                None => files_of(storage, name, shape.parity)?.is_none_or(|files| !files.is_empty()),
            };
            exist.insert(*name, exists);
            if exists {
                group.names.push(*name);
            }
        }
    }
    Ok(())
}

/// By how many marked groups each existing group is superseded. One that a crash left without a
/// shard supersedes nothing.
fn count_named(
    storage: &dyn Storage,
    origin: (&RepoId, u64),
    marked: &BTreeMap<GroupId, Marked>,
) -> Result<BTreeMap<GroupId, usize>, Error> {
    let mut named = BTreeMap::new();
    for (id, group) in marked.iter().filter(|(_, group)| !group.names.is_empty()) {
        if inspect(storage, origin, *id, group.files.clone())?.is_some_and(|found| found.whole) {
            group
                .names
                .iter()
                .for_each(|name| *named.entry(*name).or_default() += 1);
        }
    }
    Ok(named)
}
