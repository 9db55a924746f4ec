//! Which groups there are, which of them count, and which packs they protect.
//!
//! Loading reads only the fronts of two files of each group (the member tables, not the sums). A front alone is not
//! hashed, so it is believed when the `.grp` and a `.par` agree on it, or else when a whole record proves it. Memory is
//! about 100 bytes a pack. A group is complete when its `.grp` or all its shards are well-formed, and whole when all its
//! shards are; complete groups that no whole one supersedes are live. Whether the shards hold what they should is left to
//! [`check_part`](super::check_part).

use super::format::{GroupHead, PREFIX_LEN, Prefix};
use super::group::{is_damage, read_exactly, read_head, read_record};
use super::{Damage, Error, MAX_PARITY, Part, Shape};
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
    problems: Vec<Problem>,
}

/// The files of one group as listed, with their lengths.
type Files = BTreeMap<PartOrder, u64>;

/// Sorts the `.grp` before the shards.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct PartOrder(Option<u8>);

impl PartOrder {
    fn part(self) -> Part {
        self.0.map_or(Part::Group, Part::Shard)
    }
}

/// One group after looking at its files.
struct Found {
    /// None when no front could be believed.
    head: Option<GroupHead>,
    complete: bool,
    /// Shards that are there, as long as they should be and well-formed; and whether these are all.
    sound: u8,
    whole: bool,
    problems: Vec<Problem>,
}

impl Groups {
    /// Lists and judges all groups of the repository `repo`. Damage is a [`Problem`], not an error.
    /// Without the maintenance lock a group that is being replaced can be missed: load again before calling a pack
    /// unprotected.
    pub fn load(storage: &dyn Storage, repo: &RepoId) -> Result<Self, Error> {
        let mut listed: BTreeMap<GroupId, Files> = BTreeMap::new();
        for entry in storage.list(layout::PARITY)? {
            if let Some((group, part)) = parse_key(&entry.key) {
                listed.entry(group).or_default().insert(part, entry.len);
            }
        }
        let mut found = BTreeMap::new();
        for (id, files) in listed {
            if let Some(group) = look_at(storage, repo, id, files)? {
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

    /// Counts in a group that was just published: its superseded groups are no longer live.
    pub fn insert(&mut self, head: &GroupHead) {
        let mut orphans = Vec::new();
        for old in &head.superseded {
            if let Some(old) = self.live.remove(old) {
                orphans.extend(old.members.into_iter().map(|member| (member.pack, old.id)));
                self.superseded.push(old.id);
            }
            if self.incomplete.contains(old) {
                self.incomplete.retain(|id| id != old);
                self.superseded.push(*old);
            }
            self.problems.retain(|problem| problem.group != *old);
        }
        self.add_live(head.clone());
        for (pack, old) in orphans {
            if self.by_pack.get(&pack) == Some(&old) {
                self.by_pack.remove(&pack);
                let other = self.live.values().find(|head| head.position(&pack).is_some());
                if let Some(id) = other.map(|head| head.id) {
                    self.by_pack.insert(pack, id);
                }
            }
        }
    }

    /// Forgets a superseded group whose files have been deleted.
    pub fn removed(&mut self, id: &GroupId) {
        self.superseded.retain(|old| old != id);
        self.incomplete.retain(|old| old != id);
        self.problems.retain(|problem| problem.group != *id);
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

    /// Live groups of this class and shape that are not full, the fullest first.
    pub fn tails(&self, class: u8, shape: Shape) -> Vec<&GroupHead> {
        let open = |head: &&GroupHead| {
            head.class == class && head.shape == shape && head.members.len() < usize::from(shape.data)
        };
        let mut tails: Vec<_> = self.live.values().filter(open).collect();
        tails.sort_by_key(|head| std::cmp::Reverse(head.members.len()));
        tails
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
fn look_at(storage: &dyn Storage, repo: &RepoId, id: GroupId, mut files: Files) -> Result<Option<Found>, Error> {
    let head = match believed_head(storage, id, &mut files)? {
        Ok(head) => head,
        Err(_) if files.is_empty() => return Ok(None),
        Err(reason) => return Ok(Some(unusable(id, &files, reason))),
    };
    if head.repo != *repo {
        return Ok(Some(unusable(id, &files, Damage::ForeignRepository)));
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
    Ok(Some(Found {
        complete: group_file || sound == head.shape.parity,
        whole: sound == head.shape.parity,
        sound,
        head: Some(head),
        problems,
    }))
}

/// All files of a group that protects nothing.
fn unusable(group: GroupId, files: &Files, reason: Damage) -> Found {
    let problem = |place: &PartOrder| Problem {
        group,
        part: place.part(),
        reason,
    };
    Found {
        head: None,
        complete: false,
        whole: false,
        sound: 0,
        problems: files.keys().map(problem).collect(),
    }
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

/// The head of a group: two files agree on it, or a whole record proves it. Takes files out of `files` that have vanished.
fn believed_head(storage: &dyn Storage, id: GroupId, files: &mut Files) -> Result<Result<GroupHead, Damage>, Error> {
    let mut heads: Vec<GroupHead> = Vec::new();
    for (place, len) in files.clone() {
        match read_head(storage, &place.part().key(&id), len)? {
            Ok(head) if head.id == id => {
                if heads.contains(&head) {
                    return Ok(Ok(head));
                }
                heads.push(head);
            }
            Err(Damage::Missing) => {
                files.remove(&place);
            }
            Ok(_) | Err(_) => {}
        }
    }
    if files.is_empty() {
        return Ok(Err(Damage::Missing));
    }
    match read_record(storage, &id) {
        Ok(record) => Ok(Ok(record.head)),
        Err(Error::Damaged { reason, .. }) => Ok(Err(reason)),
        Err(Error::Storage(error)) if is_damage(error.kind) => Ok(Err(Damage::Unreadable)),
        Err(error) => Err(error),
    }
}
