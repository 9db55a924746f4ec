//! The groups that can grow, found through their marks instead of a listing of all groups.
//!
//! A *mark* is an empty file with the id of a group as its name. Groups that can grow have one, and
//! so have those that supersede others that may still exist. Loading lists the marks, which are
//! few, and reads the front of the group of each, so its cost does not grow with the repository.
//! The groups themselves decide everything; a mark is a hint:
//! - A group without a mark protects its members all the same, and never grows.
//! - A mark without a group, and one of a full group that left nothing to delete, is removed.
//! - A superseded group is found through a mark of its own or through that of its successor.
//!
//! Damage of a marked group that its front does not show is not detected here: growing a tail reads
//! and checks its files.

use super::error::Error;
use super::format::GroupHead;
use super::group::read_proven_head;
use super::groups::{Files, PartOrder, files_of, inspect};
use super::shape::{Part, Shape};
use crate::id::{GroupId, PackId, RepoId};
use crate::layout;
use crate::storage::{Storage, put_bytes};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Most marks that one call reads, so that its time is bounded when many writers without the
/// maintenance lock have left groups of their own. The next calls read the others.
const MOST_READ: usize = 64;
/// Most groups of a class that stay marked although they are more than half full. Two of these can
/// never be merged, so their number would grow with the repository.
const MOST_NEARLY_FULL: usize = 4;

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
pub fn mark(storage: &dyn Storage, group: &GroupId) -> Result<(), Error> {
    put_bytes(storage, &layout::tail_mark(group), &[])?;
    Ok(())
}

impl Tails {
    /// Finds the marked groups of the repository `repo`, whose packs have at most `longest` bytes;
    /// groups of another shape than `shape` are not tails. **The caller holds the maintenance
    /// lock.**
    pub fn load(storage: &dyn Storage, (repo, longest): (&RepoId, u64), shape: Shape) -> Result<Self, Error> {
        let mut tails = Self {
            most_members: usize::from(shape.data),
            ..Self::default()
        };
        let mut marked: BTreeMap<GroupId, Marked> = BTreeMap::new();
        for id in marks(storage)?.into_iter().take(MOST_READ) {
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
        tails
            .open
            .sort_unstable_by_key(|tail| (std::cmp::Reverse(tail.members.len()), tail.id));
        // a newer group names all older ones that exist, so the oldest is named most often
        tails.superseded = named.keys().copied().collect();
        tails
            .superseded
            .sort_unstable_by_key(|id| (std::cmp::Reverse(named.get(id).copied()), *id));
        Ok(tails)
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

    /// Removes the marks that are of no further use. Every file that was missing while this was
    /// loaded is durably missing: otherwise a power cut could restore a group that no mark leads
    /// to. A mark that cannot be removed does no harm.
    pub fn remove_spent_marks(&self, storage: &dyn Storage) {
        for group in self.spent.iter().chain(self.nearly_full()) {
            let _ = storage.delete(&layout::tail_mark(group));
        }
    }

    /// The groups that stay as they are, because others have more room: the fullest ones beyond
    /// [`MOST_NEARLY_FULL`] of a class.
    fn nearly_full(&self) -> impl Iterator<Item = &GroupId> {
        (0..4).flat_map(|class| {
            let is_nearly_full = |tail: &&Tail| tail.members.len() * 2 > self.most_members && !tail.supersedes;
            let nearly: Vec<&Tail> = self.of_class(class).filter(is_nearly_full).collect();
            nearly.into_iter().rev().skip(MOST_NEARLY_FULL).map(|tail| &tail.id)
        })
    }
}

/// The marked groups.
fn marks(storage: &dyn Storage) -> Result<Vec<GroupId>, Error> {
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
