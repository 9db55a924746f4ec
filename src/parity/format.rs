//! The bytes of `.grp` and `.par` files (`docs/format.md` §10.4): prefix and record.
//!
//! Decoding is strict: what decodes encodes to the same bytes, so a lost file can be rebuilt byte
//! for byte. Every length is checked before it is used. Pure: no I/O.

use super::error::Damage;
use super::shape::{MAX_DATA, MAX_PACK_LEN, MAX_PARITY, Part, ROW_LEN, Shape, rows_of, size_class};
use crate::bytes::ByteReader;
use crate::crypto::{CHECK_LEN, check8, sha256};
use crate::id::{GroupId, PackId, RepoId};
use std::collections::HashSet;

/// Length of a prefix in bytes.
pub const PREFIX_LEN: usize = 64;
/// Length in bytes of the part of a record before its lists.
pub const FIXED_LEN: usize = 80;
/// Longest copy of the settings in a record, in bytes.
pub const MAX_CONFIG_LEN: usize = 1 << 20;
/// Most superseded groups in a record.
pub const MAX_SUPERSEDED: usize = 1 << 20;
/// Longest row sums of a record, in bytes: those of the most shards over a pack of the largest size
/// that can be chosen. Not more, since a reader holds a record in memory. A group takes no member
/// that would exceed it.
pub const MAX_SUMS_LEN: u64 = 72 << 20;

const VERSION: u32 = 1;
const PREFIX_MAGIC: &[u8; 8] = b"CAPAR001";
const RECORD_MAGIC: &[u8; 8] = b"CAGRP001";
const GROUP_FILE: u32 = u32::MAX;
const ROW_BITS: u8 = ROW_LEN.trailing_zeros() as u8;
const MEMBER_LEN: usize = 64;
const HASH_LEN: usize = 32;
/// Length of a row sum in bytes.
const SUM_LEN: usize = 8;

/// A pack of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// The pack.
    pub pack: PackId,
    /// Its length in bytes, at least 1.
    pub len: u64,
    /// Its column in the code, below [`MAX_DATA`].
    pub slot: u8,
}

impl Member {
    /// Number of rows; the last may be short.
    pub fn rows(&self) -> u32 {
        rows_of(self.len)
    }
}

/// The members of a group and the groups that it supersedes: the record without its sums and
/// settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupHead {
    /// The repository.
    pub repo: RepoId,
    /// The group.
    pub id: GroupId,
    /// Number of members of a full group, and of shards.
    pub shape: Shape,
    /// Size class of all members.
    pub class: u8,
    /// Groups that this one supersedes.
    pub superseded: Vec<GroupId>,
    /// In ascending order of slots; at least one.
    pub members: Vec<Member>,
    /// Length of the copy of the settings, in bytes.
    pub config_len: u32,
}

impl GroupHead {
    /// Number of rows of a shard: that of the longest member.
    pub fn stripe_rows(&self) -> u32 {
        self.members.iter().map(Member::rows).max().unwrap_or(0)
    }

    /// Length of a shard in bytes.
    pub fn stripe_len(&self) -> u64 {
        u64::from(self.stripe_rows()) * ROW_LEN as u64
    }

    /// Length of the record in bytes.
    pub fn record_len(&self) -> u64 {
        self.head_len() + sums_len(self.shape, self.members.iter()) + u64::from(self.config_len) + HASH_LEN as u64
    }

    /// Offset of the shard in a `.par`, in bytes.
    pub fn shard_offset(&self) -> u64 {
        (PREFIX_LEN as u64 + self.record_len()).next_multiple_of(ROW_LEN as u64)
    }

    /// Length of the file of `part`, in bytes.
    pub fn file_len(&self, part: Part) -> u64 {
        match part {
            Part::Group => PREFIX_LEN as u64 + self.record_len(),
            Part::Shard(_) => self.shard_offset() + self.stripe_len() + self.record_len() + PREFIX_LEN as u64,
        }
    }

    /// The position of `pack` in `members`.
    pub fn position(&self, pack: &PackId) -> Option<usize> {
        self.members.iter().position(|member| member.pack == *pack)
    }

    /// The prefix of the file of `part`.
    pub fn prefix(&self, part: Part) -> Prefix {
        let mut bytes = Vec::new();
        self.encode(&mut bytes);
        Prefix {
            head_check: check8(&bytes),
            part,
            group: self.id,
            record_len: self.record_len(),
            stripe_len: self.stripe_len(),
        }
    }

    fn head_len(&self) -> u64 {
        head_len(self.superseded.len() as u64, self.members.len() as u64)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(RECORD_MAGIC);
        out.extend(VERSION.to_le_bytes());
        out.extend([0; 4]);
        out.extend(self.repo.0);
        out.extend(self.id.0);
        out.extend(self.stripe_len().to_le_bytes());
        out.extend([self.shape.data, self.shape.parity, self.class, ROW_BITS]);
        // both counts were bounded when the head was made
        out.extend((self.members.len() as u32).to_le_bytes());
        out.extend((self.superseded.len() as u32).to_le_bytes());
        out.extend(self.config_len.to_le_bytes());
        out.extend([0; 8]);
        self.superseded.iter().for_each(|id| out.extend(id.0));
        for member in &self.members {
            out.extend(u16::from(member.slot).to_le_bytes());
            out.extend([0; 2]);
            out.extend(member.rows().to_le_bytes());
            out.extend(member.pack.0);
            out.extend(member.len.to_le_bytes());
            out.extend([0; 16]);
        }
    }

    /// Decodes the front of a record. The record's hash is not checked here (it covers the sums
    /// too): a caller that trusts a head has compared its [`prefix`](Self::prefix) with the one in
    /// the file, or decoded the whole record.
    pub fn decode(record: &[u8]) -> Result<Self, Damage> {
        let fixed = Fixed::decode(record)?;
        let lists = usize::try_from(fixed.head_len())
            .ok()
            .and_then(|end| record.get(FIXED_LEN..end))
            .ok_or(Damage::Length)?;
        let (superseded, members) = lists.split_at(fixed.superseded as usize * GroupId::LEN);
        let superseded: Vec<GroupId> = superseded.as_chunks().0.iter().map(|id| GroupId(*id)).collect();
        let members = members
            .as_chunks()
            .0
            .iter()
            .map(|bytes| decode_member(bytes, fixed.class))
            .collect::<Result<Vec<_>, _>>()?;
        let head = Self {
            repo: fixed.repo,
            id: fixed.id,
            shape: fixed.shape,
            class: fixed.class,
            superseded,
            members,
            config_len: fixed.config_len,
        };
        let distinct: HashSet<_> = head.superseded.iter().chain([&head.id]).collect();
        let packs: HashSet<_> = head.members.iter().map(|member| member.pack).collect();
        let ascending = head.members.is_sorted_by(|a, b| a.slot < b.slot);
        let consistent = ascending
            && sums_len(head.shape, head.members.iter()) <= MAX_SUMS_LEN
            && head.stripe_len() == fixed.stripe_len
            && distinct.len() == head.superseded.len() + 1
            && packs.len() == head.members.len();
        consistent.then_some(head).ok_or(Damage::Contents)
    }
}

/// Length of the row sums of these members and of their shards, in bytes.
pub fn sums_len<'a>(shape: Shape, members: impl Iterator<Item = &'a Member>) -> u64 {
    let (mut sum, mut longest) = (0u64, 0u64);
    for rows in members.map(|member| u64::from(member.rows())) {
        sum += rows;
        longest = longest.max(rows);
    }
    SUM_LEN as u64 * (sum + longest * u64::from(shape.parity))
}

fn head_len(superseded: u64, members: u64) -> u64 {
    FIXED_LEN as u64 + GroupId::LEN as u64 * superseded + MEMBER_LEN as u64 * members
}

/// Length in bytes of the front of a record that [`GroupHead::decode`] needs; `fixed` are at least
/// its first [`FIXED_LEN`] bytes.
pub fn needed_head_len(fixed: &[u8]) -> Result<u64, Damage> {
    Fixed::decode(fixed).map(|fixed| fixed.head_len())
}

/// The fixed part of a record, checked by itself.
struct Fixed {
    repo: RepoId,
    id: GroupId,
    stripe_len: u64,
    shape: Shape,
    class: u8,
    members: u32,
    superseded: u32,
    config_len: u32,
}

impl Fixed {
    fn head_len(&self) -> u64 {
        head_len(u64::from(self.superseded), u64::from(self.members))
    }

    fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let mut reader = ByteReader::new(bytes.get(..FIXED_LEN).ok_or(Damage::Length)?);
        if reader.array()? != *RECORD_MAGIC {
            return Err(Damage::Contents);
        }
        if reader.u32()? != VERSION {
            return Err(Damage::Unsupported);
        }
        zeros::<4>(&mut reader)?;
        let repo = RepoId(reader.array()?);
        let id = GroupId(reader.array()?);
        let stripe_len = reader.u64()?;
        let [data, parity, class, row_bits] = reader.array()?;
        let fixed = Self {
            repo,
            id,
            stripe_len,
            shape: Shape { data, parity },
            class,
            members: reader.u32()?,
            superseded: reader.u32()?,
            config_len: reader.u32()?,
        };
        zeros::<8>(&mut reader)?;
        let possible = fixed.shape.is_valid()
            && class <= 3
            && row_bits == ROW_BITS
            && (1..=u32::from(data)).contains(&fixed.members)
            && fixed.superseded as usize <= MAX_SUPERSEDED
            && fixed.config_len as usize <= MAX_CONFIG_LEN;
        possible.then_some(fixed).ok_or(Damage::Contents)
    }
}

fn decode_member(bytes: &[u8; MEMBER_LEN], class: u8) -> Result<Member, Damage> {
    let mut reader = ByteReader::new(bytes);
    let slot = reader.u16()?;
    zeros::<2>(&mut reader)?;
    let rows = reader.u32()?;
    let pack = PackId(reader.array()?);
    let len = reader.u64()?;
    zeros::<16>(&mut reader)?;
    let possible = slot < u16::from(MAX_DATA)
        && (1..=MAX_PACK_LEN).contains(&len)
        && size_class(len) == class
        && rows == rows_of(len);
    let slot = u8::try_from(slot).map_err(|_| Damage::Contents)?;
    possible.then_some(Member { pack, len, slot }).ok_or(Damage::Contents)
}

/// A group without its shards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRecord {
    /// Members and superseded groups.
    pub head: GroupHead,
    /// Row sums of each member, in the order of `head.members`.
    pub member_sums: Vec<Vec<u64>>,
    /// Row sums of each shard.
    pub shard_sums: Vec<Vec<u64>>,
    /// Exact bytes of `config.json`.
    pub config: Vec<u8>,
}

impl GroupRecord {
    /// Encodes the record.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(usize::try_from(self.head.record_len()).unwrap_or(0));
        self.head.encode(&mut out);
        for sums in self.member_sums.iter().chain(&self.shard_sums) {
            sums.iter().for_each(|sum| out.extend(sum.to_le_bytes()));
        }
        out.extend(&self.config);
        let hash = sha256(&[&out]);
        out.extend(hash);
        out
    }

    /// Decodes a whole record; `bytes` must hold nothing else.
    pub fn decode(bytes: &[u8]) -> Result<Self, Damage> {
        let (body, hash) = bytes.split_last_chunk::<HASH_LEN>().ok_or(Damage::Length)?;
        let head = GroupHead::decode(body)?;
        if head.record_len() != bytes.len() as u64 {
            return Err(Damage::Length);
        }
        if sha256(&[body]) != *hash {
            return Err(Damage::Record);
        }
        let front = usize::try_from(head.head_len()).map_err(|_| Damage::Length)?;
        let mut reader = ByteReader::new(body.get(front..).ok_or(Damage::Length)?);
        let member_sums = (head.members.iter())
            .map(|member| sums(&mut reader, member.rows()))
            .collect::<Result<_, _>>()?;
        let stripe_rows = head.stripe_rows();
        let shard_sums = (0..head.shape.parity)
            .map(|_| sums(&mut reader, stripe_rows))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            head,
            member_sums,
            shard_sums,
            config: reader.rest().to_vec(),
        })
    }
}

/// The prefix of a file of a group (a `.par` also ends with it).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// Which file it is.
    pub part: Part,
    /// The group.
    pub group: GroupId,
    /// Length of the record in bytes.
    pub record_len: u64,
    /// Length of a shard in bytes.
    pub stripe_len: u64,
    /// [`check8`] of the front of the record, of the length that [`needed_head_len`] returns: it
    /// proves the list of members without reading the sums.
    pub head_check: [u8; CHECK_LEN],
}

impl Prefix {
    /// Encodes the prefix.
    pub fn encode(&self) -> [u8; PREFIX_LEN] {
        let number = match self.part {
            Part::Group => GROUP_FILE,
            Part::Shard(shard) => u32::from(shard),
        };
        let mut out = [0; PREFIX_LEN];
        let body = [
            &PREFIX_MAGIC[..],
            &VERSION.to_le_bytes(),
            &number.to_le_bytes(),
            &self.group.0,
            &self.record_len.to_le_bytes(),
            &self.stripe_len.to_le_bytes(),
            &self.head_check,
        ]
        .concat();
        let (front, check) = out.split_at_mut(PREFIX_LEN - CHECK_LEN);
        front.copy_from_slice(&body);
        check.copy_from_slice(&check8(&body));
        out
    }

    /// Decodes a prefix.
    pub fn decode(bytes: &[u8; PREFIX_LEN]) -> Result<Self, Damage> {
        let (body, check) = bytes.split_last_chunk::<CHECK_LEN>().ok_or(Damage::Prefix)?;
        if check8(body) != *check {
            return Err(Damage::Prefix);
        }
        let mut reader = ByteReader::new(body);
        if reader.array()? != *PREFIX_MAGIC {
            return Err(Damage::Prefix);
        }
        if reader.u32()? != VERSION {
            return Err(Damage::Unsupported);
        }
        let part = match reader.u32()? {
            GROUP_FILE => Part::Group,
            number => match u8::try_from(number) {
                Ok(shard) if shard < MAX_PARITY => Part::Shard(shard),
                _ => return Err(Damage::Prefix),
            },
        };
        Ok(Self {
            part,
            group: GroupId(reader.array()?),
            record_len: reader.u64()?,
            stripe_len: reader.u64()?,
            head_check: reader.array()?,
        })
    }
}

/// The bytes before and after the shard in a `.par`; `record` is the encoded record.
pub(super) fn frame(head: &GroupHead, record: &[u8], shard: u8) -> (std::io::Cursor<Vec<u8>>, Vec<u8>) {
    let prefix = head.prefix(Part::Shard(shard)).encode();
    let mut front = [&prefix[..], record].concat();
    front.resize(front.len().next_multiple_of(ROW_LEN), 0);
    (std::io::Cursor::new(front), [record, &prefix[..]].concat())
}

fn zeros<const N: usize>(reader: &mut ByteReader<'_>) -> Result<(), Damage> {
    (reader.array()? == [0; N]).then_some(()).ok_or(Damage::Contents)
}

fn sums(reader: &mut ByteReader<'_>, rows: u32) -> Result<Vec<u64>, Damage> {
    let sums = reader.slice(rows as usize * SUM_LEN)?.as_chunks().0;
    Ok(sums.iter().map(|sum| u64::from_le_bytes(*sum)).collect())
}
