//! The groups that can grow: what a writer needs to know of the groups, at a lower cost than
//! loading them all.
//!
//! Groups are immutable, so each `.grp` is read once by a handle (one small read); after that,
//! finding the tails takes one listing. A known full group takes 16 bytes of memory, a tail 32
//! bytes for each pack. A group with missing or damaged files is inspected on each load in the same
//! way as by [`Groups::load`](super::Groups::load), so both return the same result. Damage that
//! occurs after the first read is not detected here: growing a tail reads and checks its files.

use super::error::Error;
use super::format::GroupHead;
use super::group::read_proven_head;
use super::groups::{Files, PartOrder, inspect, list};
use super::shape::{Part, Shape};
use crate::id::{GroupId, PackId, RepoId};
use crate::storage::Storage;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// The facts that a handle keeps about the groups of one repository between loads.
#[derive(Debug, Default)]
pub struct TailCache {
    /// Groups that cannot grow and name no group that still exists.
    settled: HashSet<GroupId>,
    others: HashMap<GroupId, Facts>,
}

/// The facts about a group that do not change, except that the groups which it names are deleted
/// one by one.
#[derive(Debug, Clone)]
struct Facts {
    class: u8,
    /// The members, if more can be added.
    open: Option<Arc<[PackId]>>,
    /// Superseded groups that still existed.
    names: Vec<GroupId>,
}

/// A live group that is not full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// The group.
    pub id: GroupId,
    /// Size class of its packs.
    pub class: u8,
    /// Its packs.
    pub members: Arc<[PackId]>,
}

/// The groups that can grow, and those to delete.
#[derive(Debug, Default)]
pub struct Tails {
    /// Fullest first.
    open: Vec<Tail>,
    /// Oldest first.
    superseded: Vec<GroupId>,
    without_record: Vec<GroupId>,
}

impl Tails {
    /// Lists the groups of the repository `repo`, whose packs have at most `longest` bytes; groups
    /// of another shape than `shape` are not tails. **The caller holds the maintenance lock.**
    pub fn load(
        storage: &dyn Storage,
        (repo, longest): (&RepoId, u64),
        shape: Shape,
        cache: &mut TailCache,
    ) -> Result<Self, Error> {
        let listed = list(storage)?;
        cache.settled.retain(|id| listed.contains_key(id));
        cache.others.retain(|id, _| listed.contains_key(id));
        let mut odd: BTreeMap<GroupId, Facts> = BTreeMap::new();
        let mut named: HashMap<GroupId, usize> = HashMap::new();
        for (id, files) in &listed {
            if cache.settled.contains(id) {
                continue;
            }
            if !cache.others.contains_key(id) {
                match read_facts(storage, (repo, longest), *id, files, shape, &listed)? {
                    Some(facts) => {
                        cache.others.insert(*id, facts);
                    }
                    None => {
                        let found = inspect(storage, (repo, longest), *id, files.clone())?;
                        let head = found.filter(|found| found.complete).and_then(|found| found.head);
                        odd.extend(head.map(|head| (*id, Facts::of(&head, shape, &listed))));
                    }
                }
            }
            let Some(facts) = cache.others.get_mut(id).or_else(|| odd.get_mut(id)) else {
                continue;
            };
            facts.names.retain(|name| listed.contains_key(name));
            if !facts.names.is_empty() {
                // a group that a crash left without a shard replaces nothing
                if inspect(storage, (repo, longest), *id, files.clone())?.is_some_and(|found| found.whole) {
                    facts.names.iter().for_each(|old| *named.entry(*old).or_default() += 1);
                }
            } else if facts.open.is_none() && cache.others.remove(id).is_some() {
                cache.settled.insert(*id);
            }
        }
        let mut open: Vec<Tail> = (cache.others.iter().chain(&odd))
            .filter(|(id, _)| !named.contains_key(*id))
            .filter_map(|(id, facts)| {
                Some(Tail {
                    id: *id,
                    class: facts.class,
                    members: Arc::clone(facts.open.as_ref()?),
                })
            })
            .collect();
        open.sort_unstable_by_key(|tail| (std::cmp::Reverse(tail.members.len()), tail.id));
        // a newer group names all older ones that exist, so the oldest is named most often
        let mut superseded: Vec<GroupId> = named.keys().copied().collect();
        superseded.sort_unstable_by_key(|id| (std::cmp::Reverse(named.get(id).copied()), *id));
        let has_no_record = |id: &&GroupId| {
            listed
                .get(*id)
                .is_some_and(|files| !files.contains_key(&PartOrder::GROUP))
        };
        let without_record = odd.keys().filter(|id| !named.contains_key(*id));
        Ok(Self {
            without_record: without_record.filter(has_no_record).copied().collect(),
            open,
            superseded,
        })
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
}

impl Facts {
    fn of(head: &GroupHead, shape: Shape, listed: &BTreeMap<GroupId, Files>) -> Self {
        let is_there = |name: &&GroupId| listed.contains_key(*name);
        let open = head.shape == shape && head.members.len() < usize::from(shape.data);
        Self {
            class: head.class,
            open: open.then(|| head.members.iter().map(|member| member.pack).collect()),
            names: head.superseded.iter().filter(is_there).copied().collect(),
        }
    }
}

/// Reads the facts from the `.grp` alone; `None` when it is missing or damaged.
fn read_facts(
    storage: &dyn Storage,
    (repo, longest): (&RepoId, u64),
    id: GroupId,
    files: &Files,
    shape: Shape,
    listed: &BTreeMap<GroupId, Files>,
) -> Result<Option<Facts>, Error> {
    let Some(len) = files.get(&PartOrder::GROUP) else {
        return Ok(None);
    };
    let head = read_proven_head(storage, &id, Part::Group, *len)?.ok();
    let head = head.filter(|head| {
        let fits = head.members.iter().all(|member| member.len <= longest);
        head.repo == *repo && fits && head.file_len(Part::Group) == *len
    });
    Ok(head.map(|head| Facts::of(&head, shape, listed)))
}
