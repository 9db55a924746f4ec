//! The groups of a repository: which are live, and which packs they protect.
//!
//! Loading reads the front of one file of each group (the member table, not the sums) and the
//! prefixes of the others. The prefix before a front proves it; when all fronts are damaged, a
//! whole record is read. Memory is about 100 bytes for each pack. A group is *complete* when its
//! `.grp` or all its shards are well-formed, and *whole* when all its shards are. Complete groups
//! that no whole one supersedes are *live*. The rows of the shards are not read: see
//! [`check_part`](super::check_part).

use super::error::{Damage, Error};
use super::format::{GroupHead, PREFIX_LEN, Prefix};
use super::group::{read_exactly, read_proven_head, read_record, unreadable};
use super::shape::{MAX_PARITY, Part};
use crate::id::{GroupId, PackId, RepoId};
use crate::layout;
use crate::storage::{Storage, Verdict};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A missing or damaged file of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The group.
    pub group: GroupId,
    /// Which file.
    pub part: Part,
    /// Its damage.
    pub reason: Damage,
}

/// All groups of a repository.
#[derive(Debug, Default)]
pub struct Groups {
    live: BTreeMap<GroupId, GroupHead>,
    /// One live group for each protected pack: the one with most good shards if there are several.
    by_pack: HashMap<PackId, GroupId>,
    /// Superseded groups of which files still exist, oldest first.
    superseded: Vec<GroupId>,
    /// Groups that are not complete and that no whole one supersedes.
    incomplete: Vec<GroupId>,
    /// Groups that may be complete: a file of theirs could not be read.
    unread: Vec<GroupId>,
    problems: Vec<Problem>,
}

/// The files of one group as listed, with their lengths.
pub(super) type Files = BTreeMap<PartOrder, u64>;

/// Sorts the `.grp` before the shards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PartOrder(Option<u8>);

impl PartOrder {
    /// The `.grp`.
    pub(super) const GROUP: Self = Self(None);

    fn part(self) -> Part {
        self.0.map_or(Part::Group, Part::Shard)
    }
}

/// One group after its files were inspected.
pub(super) struct Found {
    /// `None` when no front is proven.
    pub(super) head: Option<GroupHead>,
    pub(super) complete: bool,
    /// Number of shards that exist, have the right length and are well-formed; `whole` when these
    /// are all.
    sound: u8,
    pub(super) whole: bool,
    /// A file of it could not be read.
    unread: bool,
    problems: Vec<Problem>,
}

impl Found {
    fn new(head: Option<GroupHead>, (complete, whole): (bool, bool), sound: u8, problems: Vec<Problem>) -> Self {
        Self {
            head,
            complete,
            sound,
            whole,
            unread: problems.iter().any(|problem| problem.reason == Damage::Unreadable),
            problems,
        }
    }
}

impl Groups {
    /// Lists and inspects all groups of the repository `repo`, whose packs have at most `longest`
    /// bytes; a group of longer packs is not a group of this repository. Damage is a [`Problem`],
    /// not an error. Without the maintenance lock, a group that is being replaced can be missed:
    /// load again before reporting a pack as unprotected.
    pub fn load(storage: &dyn Storage, repo: &RepoId, longest: u64) -> Result<Self, Error> {
        let mut found = BTreeMap::new();
        for (id, files) in list(storage)? {
            if let Some(group) = inspect(storage, (repo, longest), id, files)? {
                found.insert(id, group);
            }
        }
        Ok(Self::sort_out(found))
    }

    fn sort_out(found: BTreeMap<GroupId, Found>) -> Self {
        let mut groups = Self::default();
        let mut named: HashMap<GroupId, usize> = HashMap::new();
        // a group that a crash left without a shard protects less than those that it was to replace
        for head in found
            .values()
            .filter(|group| group.whole)
            .filter_map(|group| group.head.as_ref())
        {
            head.superseded
                .iter()
                .for_each(|old| *named.entry(*old).or_default() += 1);
        }
        // the best last, so that a pack in several groups is looked up in the best
        let mut found: Vec<_> = found.into_iter().collect();
        found.sort_by_key(|(_, group)| (group.whole, group.sound));
        for (id, group) in found {
            if named.contains_key(&id) {
                groups.superseded.push(id);
                continue;
            }
            groups.problems.extend(group.problems);
            match group.head {
                Some(head) if group.complete => groups.add_live(head),
                _ if group.unread => groups.unread.push(id),
                _ => groups.incomplete.push(id),
            }
        }
        // a newer group names all older ones that exist, so the oldest is named most often
        groups
            .superseded
            .sort_by_key(|id| std::cmp::Reverse(named.get(id).copied()));
        groups
    }

    fn add_live(&mut self, mut head: GroupHead) {
        // the groups that it supersedes have been counted; their ids are not needed in memory
        head.superseded = Vec::new();
        for member in &head.members {
            self.by_pack.insert(member.pack, head.id);
        }
        self.live.insert(head.id, head);
    }

    /// All live groups. Their `superseded` lists are left empty.
    pub fn live(&self) -> impl Iterator<Item = &GroupHead> {
        self.live.values()
    }

    /// The live group with this id.
    pub fn get(&self, id: &GroupId) -> Option<&GroupHead> {
        self.live.get(id)
    }

    /// The live group that protects `pack`.
    pub fn group_of(&self, pack: &PackId) -> Option<&GroupHead> {
        self.live.get(self.by_pack.get(pack)?)
    }

    /// All live groups that protect `pack`: normally one. Searches all groups.
    pub fn groups_of<'a>(&'a self, pack: &PackId) -> impl Iterator<Item = &'a GroupHead> {
        let pack = *pack;
        self.live.values().filter(move |head| head.position(&pack).is_some())
    }

    /// Those of `packs` that are in no live group.
    pub fn unprotected<'a>(&self, packs: impl IntoIterator<Item = &'a PackId>) -> Vec<PackId> {
        packs
            .into_iter()
            .filter(|pack| !self.by_pack.contains_key(pack))
            .copied()
            .collect()
    }

    /// Packs in live groups, each once, in no particular order.
    pub fn packs(&self) -> impl Iterator<Item = &PackId> {
        self.by_pack.keys()
    }

    /// Superseded groups that still exist, oldest first: the order in which the holder of the
    /// maintenance lock deletes them.
    pub fn superseded(&self) -> &[GroupId] {
        &self.superseded
    }

    /// Groups that protect nothing: interrupted, still being published by another process, or
    /// damaged.
    pub fn incomplete(&self) -> &[GroupId] {
        &self.incomplete
    }

    /// Fails when a group could not be read: it may protect packs, so the caller must not delete or
    /// move any file.
    pub fn check_read(&self) -> Result<(), Error> {
        self.unread.first().map_or(Ok(()), |id| Err(unreadable(id)))
    }

    /// The ids that a new group that replaces `groups` must name: these, and every superseded group
    /// that still exists.
    pub fn superseding(&self, groups: &[GroupId]) -> Vec<GroupId> {
        let all: BTreeSet<_> = groups.iter().chain(&self.superseded).copied().collect();
        all.into_iter().collect()
    }

    /// Missing and damaged files of groups that no other one supersedes, as far as loading inspects
    /// them.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

/// Lists the files of all groups.
fn list(storage: &dyn Storage) -> Result<BTreeMap<GroupId, Files>, Error> {
    let mut listed: BTreeMap<GroupId, Files> = BTreeMap::new();
    for entry in storage.list(layout::PARITY)? {
        if let Some((group, part)) = parse_key(&entry.key) {
            listed.entry(group).or_default().insert(part, entry.len);
        }
    }
    Ok(listed)
}

/// The files of one group with at most `shards` shards that exist; `None` when one of them cannot
/// be read.
pub(super) fn files_of(storage: &dyn Storage, id: &GroupId, shards: u8) -> Result<Option<Files>, Error> {
    let mut files = Files::new();
    for order in parts(shards) {
        match storage.size(&order.part().key(id)) {
            Ok(len) => files.extend(len.map(|len| (order, len))),
            // no regular file: a listing leaves it out too
            Err(error) if error.kind.verdict() == Verdict::Wrong => {}
            Err(error) if error.kind.is_erasure() => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(files))
}

/// The `.grp` and the shards of a group.
fn parts(shards: u8) -> impl Iterator<Item = PartOrder> {
    let shards = (0..shards).map(|shard| PartOrder(Some(shard)));
    [PartOrder::GROUP].into_iter().chain(shards)
}

/// The group and part that a file has in its name; `None` for any other name.
pub fn part_of(key: &str) -> Option<(GroupId, Part)> {
    parse_key(key).map(|(group, order)| (group, order.part()))
}

/// The group and part in a key; `None` for any other name.
fn parse_key(key: &str) -> Option<(GroupId, PartOrder)> {
    let name = key.rsplit('/').next()?;
    if let Some(hex) = name.strip_suffix(".grp") {
        return Some((GroupId::from_hex(hex)?, PartOrder(None)));
    }
    let (hex, number) = name.strip_suffix(".par")?.split_once('.')?;
    let shard: u8 = number.parse().ok().filter(|shard| *shard < MAX_PARITY)?;
    // one valid name for each file: no sign, no leading zero
    (shard.to_string() == number).then_some((GroupId::from_hex(hex)?, PartOrder(Some(shard))))
}

/// Inspects the files of one group; `None` when all of them have vanished in the meantime.
pub(super) fn inspect(
    storage: &dyn Storage,
    (repo, longest): (&RepoId, u64),
    id: GroupId,
    mut files: Files,
) -> Result<Option<Found>, Error> {
    let (head, proven) = match believed_head(storage, id, &mut files)? {
        Ok(believed) => believed,
        Err(_) if files.is_empty() => return Ok(None),
        Err(reason) => return Ok(Some(unusable(id, &files, reason))),
    };
    if head.repo != *repo {
        return Ok(Some(unusable(id, &files, Damage::ForeignRepository)));
    }
    if head.members.iter().any(|member| member.len > longest) {
        return Ok(Some(unusable(id, &files, Damage::Contents)));
    }
    let mut problems = Vec::new();
    let mut sound = 0;
    let mut group_file = false;
    for order in parts(head.shape.parity) {
        let part = order.part();
        let reason = match files.get(&order) {
            None => Some(Damage::Missing),
            Some(len) if *len != head.file_len(part) => Some(Damage::Length),
            Some(_) if proven == Some(order) => None,
            Some(_) => check_prefix(storage, &head, part)?,
        };
        match (reason, part) {
            (Some(reason), _) => problems.push(Problem {
                group: id,
                part,
                reason,
            }),
            (None, Part::Group) => group_file = true,
            (None, Part::Shard(_)) => sound += 1,
        }
    }
    let whole = sound == head.shape.parity;
    Ok(Some(Found::new(
        Some(head),
        (group_file || whole, whole),
        sound,
        problems,
    )))
}

/// The state of a group that protects nothing, for the same reason in all its files.
fn unusable(group: GroupId, files: &Files, reason: Damage) -> Found {
    let problem = |order: &PartOrder| Problem {
        group,
        part: order.part(),
        reason,
    };
    Found::new(None, (false, false), 0, files.keys().map(problem).collect())
}

fn check_prefix(storage: &dyn Storage, head: &GroupHead, part: Part) -> Result<Option<Damage>, Error> {
    let bytes = read_exactly(storage, &part.key(&head.id), 0, PREFIX_LEN as u64)?;
    let prefix = bytes.and_then(|bytes| bytes.first_chunk().ok_or(Damage::Length).and_then(Prefix::decode));
    Ok(match prefix {
        Ok(prefix) if prefix == head.prefix(part) => None,
        Ok(_) => Some(Damage::Prefix),
        Err(reason) => Some(reason),
    })
}

/// The head of a group, and the file whose prefix proves it (`None` when only a whole record does).
/// Removes files that have vanished from `files`.
fn believed_head(
    storage: &dyn Storage,
    id: GroupId,
    files: &mut Files,
) -> Result<Result<(GroupHead, Option<PartOrder>), Damage>, Error> {
    for (order, len) in files.clone() {
        match read_proven_head(storage, &id, order.part(), len)? {
            Ok(head) => return Ok(Ok((head, Some(order)))),
            Err(Damage::Missing) => {
                files.remove(&order);
            }
            Err(_) => {}
        }
    }
    if files.is_empty() {
        return Ok(Err(Damage::Missing));
    }
    match read_record(storage, &id) {
        Ok(record) => Ok(Ok((record.head, None))),
        Err(Error::Damaged { reason, .. }) => Ok(Err(reason)),
        Err(Error::Storage(error)) if error.kind.is_erasure() => Ok(Err(Damage::Unreadable)),
        Err(error) => Err(error),
    }
}
