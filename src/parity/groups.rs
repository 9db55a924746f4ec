//! Which groups there are, which of them count, and which packs they protect.
//!
//! Loading reads the front of one file of each group (the member table, not the sums) and the prefixes of the others. The
//! prefix before a front proves it; when all fronts are damaged, a whole record does. Memory is about 100 bytes a pack. A
//! group is complete when its `.grp` or all its shards are well-formed, and whole when all its shards are; complete groups
//! that no whole one supersedes are live. Whether the shards hold what they should is left to
//! [`check_part`](super::check_part).

use super::error::{Damage, Error};
use super::format::{GroupHead, PREFIX_LEN, Prefix};
use super::group::{read_exactly, read_proven_head, read_record, unreadable};
use super::shape::{MAX_PARITY, Part};
use crate::id::{GroupId, PackId, RepoId};
use crate::layout;
use crate::storage::Storage;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A file of a group that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The group.
    pub group: GroupId,
    /// Which file.
    pub part: Part,
    /// What is wrong with it.
    pub reason: Damage,
}

/// All groups of a repository.
#[derive(Debug, Default)]
pub struct Groups {
    live: BTreeMap<GroupId, GroupHead>,
    /// For each protected pack one live group, the one with most shards if there are several.
    by_pack: HashMap<PackId, GroupId>,
    /// Superseded groups with files that are still there, oldest first.
    superseded: Vec<GroupId>,
    /// Groups that are not complete and that no whole one supersedes.
    incomplete: Vec<GroupId>,
    /// Groups of which it cannot be told whether they are complete, because a file of theirs could not be read.
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

/// One group after looking at its files.
pub(super) struct Found {
    /// None when no front could be believed.
    pub(super) head: Option<GroupHead>,
    pub(super) complete: bool,
    /// Shards that are there, as long as they should be and well-formed; and whether these are all.
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
    /// Lists and judges all groups of the repository `repo`, whose packs have at most `longest` bytes; a group of longer ones
    /// is none of its. Damage is a [`Problem`], not an error.
    /// Without the maintenance lock a group that is being replaced can be missed: load again before calling a pack
    /// unprotected.
    pub fn load(storage: &dyn Storage, repo: &RepoId, longest: u64) -> Result<Self, Error> {
        let mut found = BTreeMap::new();
        for (id, files) in list(storage)? {
            if let Some(group) = look_at(storage, (repo, longest), id, files)? {
                found.insert(id, group);
            }
        }
        Ok(Self::sort_out(found))
    }

    fn sort_out(found: BTreeMap<GroupId, Found>) -> Self {
        let mut groups = Self::default();
        let mut named: HashMap<GroupId, usize> = HashMap::new();
        // one that a crash left without a shard protects less than what it was to replace
        for head in found
            .values()
            .filter(|group| group.whole)
            .filter_map(|group| group.head.as_ref())
        {
            head.superseded
                .iter()
                .for_each(|old| *named.entry(*old).or_default() += 1);
        }
        // the best last, so that a pack in several is looked up in that
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
        // a newer group names all older ones that are there, so the oldest is named most often
        groups
            .superseded
            .sort_by_key(|id| std::cmp::Reverse(named.get(id).copied()));
        groups
    }

    fn add_live(&mut self, mut head: GroupHead) {
        // what it superseded has been counted; the names are not needed in memory
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

    /// A live group.
    pub fn get(&self, id: &GroupId) -> Option<&GroupHead> {
        self.live.get(id)
    }

    /// A live group that protects `pack`.
    pub fn group_of(&self, pack: &PackId) -> Option<&GroupHead> {
        self.live.get(self.by_pack.get(pack)?)
    }

    /// All live groups that protect `pack`: normally one. Looks through all groups.
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

    /// Packs in live groups, each once, in no order.
    pub fn packs(&self) -> impl Iterator<Item = &PackId> {
        self.by_pack.keys()
    }

    /// Superseded groups that are still there, oldest first: the order in which the holder of the maintenance lock
    /// deletes them.
    pub fn superseded(&self) -> &[GroupId] {
        &self.superseded
    }

    /// Groups that count for nothing: interrupted, still being published by somebody, or beyond use.
    pub fn incomplete(&self) -> &[GroupId] {
        &self.incomplete
    }

    /// `Err` when a group could not be read, so that others than the known ones may protect packs: nothing may be deleted or
    /// moved then.
    pub fn check_read(&self) -> Result<(), Error> {
        self.unread.first().map_or(Ok(()), |id| Err(unreadable(id)))
    }

    /// What a new group that replaces `groups` must name: these, and every superseded group that is still there.
    pub fn superseding(&self, groups: &[GroupId]) -> Vec<GroupId> {
        let all: BTreeSet<_> = groups.iter().chain(&self.superseded).copied().collect();
        all.into_iter().collect()
    }

    /// Missing and damaged files of groups that nobody supersedes, as far as loading could see.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

/// The files of all groups, by their names.
pub(super) fn list(storage: &dyn Storage) -> Result<BTreeMap<GroupId, Files>, Error> {
    let mut listed: BTreeMap<GroupId, Files> = BTreeMap::new();
    for entry in storage.list(layout::PARITY)? {
        if let Some((group, part)) = parse_key(&entry.key) {
            listed.entry(group).or_default().insert(part, entry.len);
        }
    }
    Ok(listed)
}

/// The group and part in a key; `None` for a foreign name.
fn parse_key(key: &str) -> Option<(GroupId, PartOrder)> {
    let name = key.rsplit('/').next()?;
    if let Some(hex) = name.strip_suffix(".grp") {
        return Some((GroupId::from_hex(hex)?, PartOrder(None)));
    }
    let (hex, number) = name.strip_suffix(".par")?.split_once('.')?;
    let shard: u8 = number.parse().ok().filter(|shard| *shard < MAX_PARITY)?;
    // one name for each file: no sign, no leading zero
    (shard.to_string() == number).then_some((GroupId::from_hex(hex)?, PartOrder(Some(shard))))
}

/// Judges the files of one group; `None` when all of them vanished meanwhile.
pub(super) fn look_at(
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
    let all = [PartOrder(None)]
        .into_iter()
        .chain((0..head.shape.parity).map(|shard| PartOrder(Some(shard))));
    for place in all {
        let part = place.part();
        let reason = match files.get(&place) {
            None => Some(Damage::Missing),
            Some(len) if *len != head.file_len(part) => Some(Damage::Length),
            Some(_) if proven == Some(place) => None,
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

/// All files of a group that protects nothing.
fn unusable(group: GroupId, files: &Files, reason: Damage) -> Found {
    let problem = |place: &PartOrder| Problem {
        group,
        part: place.part(),
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

/// The head of a group, and the file whose prefix proves it; none when only a whole record does. Takes files out of `files`
/// that have vanished.
fn believed_head(
    storage: &dyn Storage,
    id: GroupId,
    files: &mut Files,
) -> Result<Result<(GroupHead, Option<PartOrder>), Damage>, Error> {
    for (place, len) in files.clone() {
        match read_proven_head(storage, &id, place.part(), len)? {
            Ok(head) => return Ok(Ok((head, Some(place)))),
            Err(Damage::Missing) => {
                files.remove(&place);
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
