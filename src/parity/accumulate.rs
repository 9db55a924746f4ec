//! Makes groups: packs are folded into the shards while they are in memory, and an existing group
//! is resumed by reading only its shards.
//!
//! Invariants: a refused call changes nothing; members have distinct slots. With one shard every
//! factor is 1 and a slot is only a label, so any two groups can be merged. With more shards, their
//! slots must not collide, which a random first slot makes likely.

use super::code::{coefficient, fold};
use super::error::{Error, Refusal};
use super::format::{GroupHead, GroupRecord, MAX_CONFIG_LEN, MAX_SUMS_LEN, MAX_SUPERSEDED, Member, sums_len};
use super::rebuild::rebuild_shard;
use super::shape::{MAX_DATA, MAX_PACK_LEN, ROW_LEN, Shape, row_sum, size_class};
use crate::id::{GroupId, PackId, RepoId};
use crate::storage::Storage;

/// A group ready to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Everything but the shards.
    pub record: GroupRecord,
    /// The shards, each of `record.head.stripe_len()` bytes.
    pub shards: Vec<Vec<u8>>,
}

/// A group that is being made. Holds one buffer per shard, as long as the longest member.
pub struct Accumulator {
    shape: Shape,
    class: u8,
    /// The slot at which the search for a free one begins.
    next_slot: u8,
    members: Vec<(Member, Vec<u64>)>,
    shards: Vec<Vec<u8>>,
}

impl Accumulator {
    /// An empty group for packs of size class `class`. Slots are assigned from `first_slot` on,
    /// modulo [`MAX_DATA`]; see [`random_slot`](super::random_slot).
    pub fn new(shape: Shape, class: u8, first_slot: u8) -> Result<Self, Refusal> {
        if !shape.is_valid() || class > 3 {
            return Err(Refusal::Shape);
        }
        Ok(Self {
            shape,
            class,
            next_slot: first_slot % MAX_DATA,
            members: Vec::new(),
            shards: vec![Vec::new(); usize::from(shape.parity)],
        })
    }

    /// Resumes a published group, to add or remove packs. Reads its shards; rows with a wrong sum
    /// are rebuilt from the members ([`Error::Lost`] when that fails).
    pub fn resume(storage: &dyn Storage, record: &GroupRecord) -> Result<Self, Error> {
        let head = &record.head;
        let shards = (0..head.shape.parity)
            .map(|shard| rebuild_shard(storage, record, shard))
            .collect::<Result<_, _>>()?;
        let members = head.members.iter().copied().zip(record.member_sums.iter().cloned());
        Ok(Self {
            shape: head.shape,
            class: head.class,
            next_slot: after(head.members.last().map_or(0, |member| member.slot)),
            members: members.collect(),
            shards,
        })
    }

    /// Folds a pack into all shards and sums its rows, in one pass over its bytes.
    pub fn add(&mut self, pack: PackId, bytes: &[u8]) -> Result<(), Refusal> {
        let len = bytes.len() as u64;
        if !(1..=MAX_PACK_LEN).contains(&len) || size_class(len) != self.class {
            return Err(Refusal::SizeClass);
        }
        if !self.has_room(len) {
            return Err(Refusal::Full);
        }
        if self.position(&pack).is_some() {
            return Err(Refusal::Duplicate);
        }
        let slot = self.free_slot().ok_or(Refusal::Full)?;
        self.extend(bytes.len().next_multiple_of(ROW_LEN))?;
        let sums = self.fold_rows(slot, bytes);
        self.members.push((Member { pack, len, slot }, sums));
        self.next_slot = after(slot);
        Ok(())
    }

    /// Removes a pack; `bytes` must be those that were added.
    pub fn remove(&mut self, pack: &PackId, bytes: &[u8]) -> Result<(), Refusal> {
        let at = self.position(pack).ok_or(Refusal::NotAMember)?;
        let (member, sums) = self.members.get(at).ok_or(Refusal::NotAMember)?;
        let fits = bytes.len() as u64 == member.len && bytes.chunks(ROW_LEN).map(row_sum).eq(sums.iter().copied());
        if !fits {
            return Err(Refusal::WrongBytes);
        }
        self.fold_rows(member.slot, bytes);
        self.members.remove(at);
        let stripe_len = self.longest().next_multiple_of(ROW_LEN);
        self.shards.iter_mut().for_each(|shard| shard.truncate(stripe_len));
        Ok(())
    }

    /// Moves the members of `other` into this group. That needs no pack: the shards are added.
    pub fn absorb(&mut self, other: Self) -> Result<(), Refusal> {
        self.can_absorb(&other)?;
        self.extend(other.shards.first().map_or(0, Vec::len))?;
        for (shard, theirs) in self.shards.iter_mut().zip(&other.shards) {
            fold(shard, 1, theirs);
        }
        for (mut member, sums) in other.members {
            if self.members.iter().any(|(mine, _)| mine.slot == member.slot) {
                // only with one shard, where it changes no byte of the shard
                member.slot = self.free_slot().ok_or(Refusal::Full)?;
            }
            self.next_slot = after(member.slot);
            self.members.push((member, sums));
        }
        Ok(())
    }

    /// Whether [`absorb`](Self::absorb) would accept `other`.
    pub fn can_absorb(&self, other: &Self) -> Result<(), Refusal> {
        let pairs = |members: &[(Member, Vec<u64>)]| members.iter().map(|(member, _)| *member).collect::<Vec<_>>();
        check_merge(
            (self.shape, self.class, &pairs(&self.members)),
            (other.shape, other.class, &pairs(&other.members)),
        )
    }

    /// True when a pack of `len` bytes can be added: the group is not full, and its record stays
    /// within [`MAX_SUMS_LEN`]. A group without members has room for any pack of a valid length.
    pub fn has_room(&self, len: u64) -> bool {
        let new = Member {
            pack: PackId([0; 32]),
            len,
            slot: 0,
        };
        !self.is_full() && sums_len(self.shape, self.members().chain([&new])) <= MAX_SUMS_LEN
    }

    /// True when no pack of any length can be added.
    pub fn is_full(&self) -> bool {
        self.members.len() >= usize::from(self.shape.data)
    }

    /// True without members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The packs so far, in the order in which they were added.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.iter().map(|(member, _)| member)
    }

    /// Size class of the packs.
    pub fn class(&self) -> u8 {
        self.class
    }

    /// Number of packs of a full group, and of shards.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Bytes that the shards take in memory.
    pub fn held_bytes(&self) -> usize {
        self.shards.iter().map(Vec::len).sum()
    }

    /// Closes the group. `superseded` are all groups that it replaces, and every older superseded
    /// one that still exists ([`Groups::superseding`](super::Groups::superseding)); `config` are
    /// the exact bytes of `config.json`.
    pub fn finish(
        mut self,
        repo: RepoId,
        id: GroupId,
        mut superseded: Vec<GroupId>,
        config: Vec<u8>,
    ) -> Result<Group, Refusal> {
        superseded.retain(|old| *old != id);
        superseded.sort_unstable();
        superseded.dedup();
        if self.members.is_empty() {
            return Err(Refusal::Empty);
        }
        if config.len() > MAX_CONFIG_LEN || superseded.len() > MAX_SUPERSEDED {
            return Err(Refusal::TooLong);
        }
        self.members.sort_unstable_by_key(|(member, _)| member.slot);
        let (members, member_sums) = self.members.into_iter().unzip();
        let sums = |shard: &Vec<u8>| shard.chunks(ROW_LEN).map(row_sum).collect();
        let record = GroupRecord {
            head: GroupHead {
                repo,
                id,
                shape: self.shape,
                class: self.class,
                superseded,
                members,
                config_len: u32::try_from(config.len()).map_err(|_| Refusal::TooLong)?,
            },
            member_sums,
            shard_sums: self.shards.iter().map(sums).collect(),
            config,
        };
        Ok(Group {
            record,
            shards: self.shards,
        })
    }

    fn position(&self, pack: &PackId) -> Option<usize> {
        self.members.iter().position(|(member, _)| member.pack == *pack)
    }

    fn free_slot(&self) -> Option<u8> {
        let taken = |slot: &u8| self.members.iter().any(|(member, _)| member.slot == *slot);
        (self.next_slot..MAX_DATA)
            .chain(0..self.next_slot)
            .find(|slot| !taken(slot))
    }

    fn longest(&self) -> usize {
        let longest = self.members().map(|member| member.len).max().unwrap_or(0);
        usize::try_from(longest).unwrap_or(usize::MAX)
    }

    /// Extends all shards with zeros to at least `len` bytes.
    fn extend(&mut self, len: usize) -> Result<(), Refusal> {
        for shard in &mut self.shards {
            let more = len.saturating_sub(shard.len());
            shard.try_reserve_exact(more).map_err(|_| Refusal::NoMemory)?;
        }
        for shard in &mut self.shards {
            shard.resize(shard.len().max(len), 0);
        }
        Ok(())
    }

    /// Folds `bytes` into all shards, one row at a time so that the row stays in the L1 cache, and
    /// returns the row sums.
    fn fold_rows(&mut self, slot: u8, bytes: &[u8]) -> Vec<u64> {
        let factors: Vec<u8> = (0..self.shape.parity).map(|shard| coefficient(shard, slot)).collect();
        let fold_row = |(row, data): (usize, &[u8])| {
            for (shard, factor) in self.shards.iter_mut().zip(&factors) {
                if let Some(sum) = shard.get_mut(row * ROW_LEN..) {
                    fold(sum, *factor, data);
                }
            }
            row_sum(data)
        };
        bytes.chunks(ROW_LEN).enumerate().map(fold_row).collect()
    }
}

fn after(slot: u8) -> u8 {
    slot.saturating_add(1) % MAX_DATA
}

fn check_merge(a: (Shape, u8, &[Member]), b: (Shape, u8, &[Member])) -> Result<(), Refusal> {
    let (shape, class, ours) = a;
    let (other_shape, other_class, theirs) = b;
    if shape != other_shape {
        return Err(Refusal::Shape);
    }
    if class != other_class {
        return Err(Refusal::SizeClass);
    }
    let too_long = sums_len(shape, ours.iter().chain(theirs)) > MAX_SUMS_LEN;
    if too_long || ours.len() + theirs.len() > usize::from(shape.data) {
        return Err(Refusal::Full);
    }
    let any = |same: fn(&Member, &Member) -> bool| ours.iter().any(|ours| theirs.iter().any(|one| same(ours, one)));
    if any(|a, b| a.pack == b.pack) {
        return Err(Refusal::Duplicate);
    }
    if shape.parity > 1 && any(|a, b| a.slot == b.slot) {
        return Err(Refusal::Slots);
    }
    Ok(())
}

/// Checks whether two groups can be merged without reading a pack: same shape and class, not too
/// many members, no member in both, and with several shards no slot in both.
pub fn can_merge(a: &GroupHead, b: &GroupHead) -> Result<(), Refusal> {
    check_merge((a.shape, a.class, &a.members), (b.shape, b.class, &b.members))
}

/// Makes a group of the members of `tail` and those of `add`. Reads only the old shards; their bad
/// rows are rebuilt from the members. The new group belongs to the repository of `tail` and
/// supersedes it and `superseded`.
pub fn grow(
    storage: &dyn Storage,
    tail: &GroupRecord,
    add: Accumulator,
    id: GroupId,
    superseded: Vec<GroupId>,
    config: Vec<u8>,
) -> Result<Group, Error> {
    let ours: Vec<Member> = add.members().copied().collect();
    check_merge(
        (tail.head.shape, tail.head.class, &tail.head.members),
        (add.shape, add.class, &ours),
    )?;
    let mut whole = Accumulator::resume(storage, tail)?;
    whole.absorb(add)?;
    let superseded = superseded.into_iter().chain([tail.head.id]).collect();
    Ok(whole.finish(tail.head.repo, id, superseded, config)?)
}

/// Merges several groups into one by reading only their shards. It supersedes them and
/// `superseded`.
pub fn merge(
    storage: &dyn Storage,
    groups: &[GroupRecord],
    id: GroupId,
    superseded: Vec<GroupId>,
    config: Vec<u8>,
) -> Result<Group, Error> {
    let (first, rest) = groups.split_first().ok_or(Refusal::Empty)?;
    let mut whole = Accumulator::resume(storage, first)?;
    for group in rest {
        whole.absorb(Accumulator::resume(storage, group)?)?;
    }
    let superseded = superseded.into_iter().chain(groups.iter().map(|group| group.head.id));
    Ok(whole.finish(first.head.repo, id, superseded.collect(), config)?)
}
