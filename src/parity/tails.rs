//! Which groups can grow: what a writer must know of the groups, for less than loading them all.
//!
//! Groups are immutable, so each `.grp` is read once by a handle (one small read); after that, finding the tails takes one
//! listing. A known full group costs 16 bytes of memory, a tail 32 bytes a pack. A group that is not as it should be is
//! looked at like [`Groups::load`](super::Groups::load) does, each time, so both come to the same judgement. What is damaged
//! after it was read once is of no concern here: whoever grows a tail reads and checks its files anyway.

use super::error::Error;
use super::format::GroupHead;
use super::group::read_proven_head;
use super::groups::{Files, PartOrder, list, look_at};
use super::shape::{Part, Shape};
use crate::id::{GroupId, PackId, RepoId};
use crate::storage::Storage;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// What a handle remembers of the groups of one repository from one load to the next.
#[derive(Debug, Default)]
pub struct TailCache {
    /// Groups that cannot grow and name no group that is still there.
    settled: HashSet<GroupId>,
    others: HashMap<GroupId, Facts>,
}

/// What does not change about a group, but for the groups that it names: they go one by one.
#[derive(Debug, Clone)]
struct Facts {
    class: u8,
    /// Of a group to which members may be added.
    open: Option<Arc<[PackId]>>,
    /// Superseded groups that were still there.
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

/// The groups that can grow, and those that are to be deleted.
#[derive(Debug, Default)]
pub struct Tails {
    /// The fullest first.
    open: Vec<Tail>,
    /// Oldest first.
    superseded: Vec<GroupId>,
    without_record: Vec<GroupId>,
}

impl Tails {
    /// Lists the groups of the repository `repo`, whose packs have at most `longest` bytes; groups of another shape than
    /// `shape` are no tails. The caller holds the maintenance lock.
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
                        let found = look_at(storage, (repo, longest), *id, files.clone())?;
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
                // one that a crash left without a shard takes the place of nothing
                if look_at(storage, (repo, longest), *id, files.clone())?.is_some_and(|found| found.whole) {
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
        // a newer group names all older ones that are there, so the oldest is named most often
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

    /// Live groups of this class that are not full, the fullest first.
    pub fn of_class(&self, class: u8) -> impl Iterator<Item = &Tail> {
        self.open.iter().filter(move |tail| tail.class == class)
    }

    /// Counts in a new group that takes the place of `old`, and returns all that it must name: every superseded group that
    /// is still there.
    pub fn replace(&mut self, old: &[GroupId]) -> Vec<GroupId> {
        if old.is_empty() {
            return Vec::new();
        }
        self.open.retain(|tail| !old.contains(&tail.id));
        self.superseded.extend(old);
        let all: BTreeSet<_> = self.superseded.iter().copied().collect();
        all.into_iter().collect()
    }

    /// Live groups whose `.grp` is missing, as a power cut leaves them. Their shards hold the record too.
    pub fn without_record(&self) -> &[GroupId] {
        &self.without_record
    }

    /// Superseded groups that are still there, oldest first: the order in which they are deleted.
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

/// From the `.grp` alone; `None` when that will not do.
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
