//! The files of one group: publish, read, check.
//!
//! The shards are put before the `.grp`, so an interrupted publish leaves a group that is either
//! complete or ignored. The record is read from any copy that is intact; its own hash decides that,
//! not the file that holds it.

use super::accumulate::Group;
use super::error::{Damage, Error, Refusal};
use super::format::{FIXED_LEN, GroupHead, GroupRecord, PREFIX_LEN, Prefix, frame, needed_head_len};
use super::rebuild::Reader;
use super::shape::{MAX_PARITY, Part, ROW_LEN};
use crate::id::GroupId;
use crate::layout;
use crate::storage::{self, Created, ErrorKind, Storage, Verdict};
use std::io::Read;

/// Puts all files of a new group: the shards, then the `.grp`. Not durable before a barrier. A file
/// that exists with the same bytes is accepted: the holder of the maintenance lock completes groups
/// that look interrupted. [`Refusal::NameTaken`] when it contains other bytes.
pub fn publish(storage: &dyn Storage, group: &Group) -> Result<(), Error> {
    let head = &group.record.head;
    let record = group.record.encode();
    for (number, shard) in (0..).zip(&group.shards) {
        let part = Part::Shard(number);
        let (front, back) = frame(head, &record, number);
        let bytes = || [front.get_ref(), &shard[..], &back].concat();
        put(
            storage,
            head,
            part,
            &mut front.clone().chain(&shard[..]).chain(&back[..]),
            bytes,
        )?;
    }
    let prefix = head.prefix(Part::Group).encode();
    let bytes = || [&prefix[..], &record].concat();
    put(storage, head, Part::Group, &mut prefix.chain(&record[..]), bytes)
}

/// Puts one file; `bytes` returns the contents of `file`.
fn put(
    storage: &dyn Storage,
    head: &GroupHead,
    part: Part,
    file: &mut dyn Read,
    bytes: impl Fn() -> Vec<u8>,
) -> Result<(), Error> {
    let (key, len) = (part.key(&head.id), head.file_len(part));
    match storage.put_new(&key, len, file)? {
        Created::Created => Ok(()),
        Created::Exists => match storage.get(&key, len) {
            Ok(found) if found == bytes() => Ok(()),
            Ok(_) => Err(Refusal::NameTaken.into()),
            Err(error) if error.kind == ErrorKind::TooLarge => Err(Refusal::NameTaken.into()),
            // the holder of the maintenance lock mistook it for a group that a power cut had left
            // without its last file, completed it, and has since replaced it by another group
            Err(error) if error.kind == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        },
    }
}

/// Reads exactly `len` bytes, or returns the damage. The caller has checked that they are within
/// the file, so that the allocation is bounded.
pub(super) fn read_exactly(
    storage: &dyn Storage,
    key: &str,
    offset: u64,
    len: u64,
) -> Result<Result<Vec<u8>, Damage>, Error> {
    let Ok(len) = usize::try_from(len) else {
        return Ok(Err(Damage::Length));
    };
    let mut out = vec![0; len];
    match storage.get_range(key, offset, &mut out) {
        Ok(()) => Ok(Ok(out)),
        Err(error) => damage_of(&error).map(Err).ok_or(Error::Storage(error)),
    }
}

/// The damage that a failed read of one file of a group stands for; `None` for a failure that
/// concerns more than this file.
fn damage_of(error: &storage::Error) -> Option<Damage> {
    match error.kind.verdict() {
        Verdict::Missing => Some(Damage::Missing),
        Verdict::Wrong => Some(Damage::Length),
        Verdict::Unreadable => error.kind.is_erasure().then_some(Damage::Unreadable),
    }
}

/// The error for a group of which a file cannot be read, and the others are not enough.
pub(super) fn unreadable(id: &GroupId) -> Error {
    storage::Error::new(ErrorKind::Io, "get", layout::group(id)).into()
}

/// Reads the record of a group from the `.grp`, or from either copy in any `.par`. When no copy is
/// intact, fails with [`Error::Storage`] if one of them could not be read, else with
/// [`Error::Damaged`] and the damage of the last file that exists.
pub fn read_record(storage: &dyn Storage, id: &GroupId) -> Result<GroupRecord, Error> {
    let mut reason = Damage::Missing;
    for part in [Part::Group].into_iter().chain((0..MAX_PARITY).map(Part::Shard)) {
        match read_record_of(storage, id, part)? {
            Ok(record) => return Ok(record),
            Err(Damage::Missing) => {}
            Err(_) if reason == Damage::Unreadable => {}
            Err(damage) => reason = damage,
        }
    }
    if reason == Damage::Unreadable {
        return Err(unreadable(id));
    }
    Err(Error::Damaged { group: *id, reason })
}

fn read_record_of(storage: &dyn Storage, id: &GroupId, part: Part) -> Result<Result<GroupRecord, Damage>, Error> {
    let key = part.key(id);
    let file_len = match storage.size(&key) {
        Ok(Some(len)) => len,
        Ok(None) => return Ok(Err(Damage::Missing)),
        Err(error) => return damage_of(&error).map(Err).ok_or(Error::Storage(error)),
    };
    let checked = |bytes: &[u8]| {
        let record = GroupRecord::decode(bytes)?;
        (record.head.id == *id).then_some(record).ok_or(Damage::Record)
    };
    let first = read_first_copy(storage, &key, file_len)?.and_then(|bytes| checked(&bytes));
    let (Err(reason), Part::Shard(_)) = (&first, part) else {
        return Ok(first);
    };
    let last = read_last_copy(storage, &key, file_len)?.and_then(|bytes| checked(&bytes));
    Ok(last.map_err(|damage| match damage {
        Damage::Unreadable => damage,
        _ => *reason,
    }))
}

/// Reads the copy after the first prefix. Its length is in its own fields, so a damaged prefix does
/// not matter.
fn read_first_copy(storage: &dyn Storage, key: &str, file_len: u64) -> Result<Result<Vec<u8>, Damage>, Error> {
    let head = match read_head(storage, key, file_len)? {
        Ok(head) => head,
        Err(reason) => return Ok(Err(reason)),
    };
    if PREFIX_LEN as u64 + head.record_len() > file_len {
        return Ok(Err(Damage::Length));
    }
    read_exactly(storage, key, PREFIX_LEN as u64, head.record_len())
}

/// Reads the front of the first copy of the record, which nothing proves.
fn read_head(storage: &dyn Storage, key: &str, file_len: u64) -> Result<Result<GroupHead, Damage>, Error> {
    Ok(read_front(storage, key, file_len)?.and_then(|bytes| decode_head(&bytes)))
}

/// Reads the front of the record in the file of `part`, proven by the prefix before it.
pub(super) fn read_proven_head(
    storage: &dyn Storage,
    id: &GroupId,
    part: Part,
    file_len: u64,
) -> Result<Result<GroupHead, Damage>, Error> {
    Ok(read_front(storage, &part.key(id), file_len)?.and_then(|bytes| {
        let prefix = bytes.first_chunk().ok_or(Damage::Length).and_then(Prefix::decode)?;
        let head = decode_head(&bytes)?;
        let proven = head.id == *id && head.prefix(part) == prefix;
        proven.then_some(head).ok_or(Damage::Prefix)
    }))
}

fn decode_head(front: &[u8]) -> Result<GroupHead, Damage> {
    GroupHead::decode(front.get(PREFIX_LEN..).ok_or(Damage::Length)?)
}

/// Reads a file up to the end of the front of its first record.
fn read_front(storage: &dyn Storage, key: &str, file_len: u64) -> Result<Result<Vec<u8>, Damage>, Error> {
    // one read is enough for nearly all groups
    let guess = file_len.min(ROW_LEN as u64);
    let bytes = match read_exactly(storage, key, 0, guess)? {
        Ok(bytes) => bytes,
        Err(reason) => return Ok(Err(reason)),
    };
    let Some(fixed) = bytes.get(PREFIX_LEN..PREFIX_LEN + FIXED_LEN) else {
        return Ok(Err(Damage::Length));
    };
    let needed = match needed_head_len(fixed) {
        Ok(len) => PREFIX_LEN as u64 + len,
        Err(reason) => return Ok(Err(reason)),
    };
    if needed > file_len {
        return Ok(Err(Damage::Length));
    }
    if needed > guess {
        return read_exactly(storage, key, 0, needed);
    }
    Ok(Ok(bytes))
}

/// Reads the copy before the last prefix of a `.par`.
fn read_last_copy(storage: &dyn Storage, key: &str, file_len: u64) -> Result<Result<Vec<u8>, Damage>, Error> {
    let Some(end) = file_len.checked_sub(PREFIX_LEN as u64) else {
        return Ok(Err(Damage::Length));
    };
    let prefix = read_exactly(storage, key, end, PREFIX_LEN as u64)?
        .and_then(|bytes| bytes.first_chunk().ok_or(Damage::Length).and_then(Prefix::decode));
    match prefix {
        Ok(prefix) => match end.checked_sub(prefix.record_len) {
            Some(start) => read_exactly(storage, key, start, prefix.record_len),
            None => Ok(Err(Damage::Length)),
        },
        Err(reason) => Ok(Err(reason)),
    }
}

/// Reads the rows of a shard as they are stored, and the numbers of the bad ones (all when the file
/// does not exist), whose bytes are not to be used.
pub fn read_shard(storage: &dyn Storage, record: &GroupRecord, shard: u8) -> Result<(Vec<u8>, Vec<u32>), Error> {
    if shard >= record.head.shape.parity {
        return Err(Refusal::NotAMember.into());
    }
    let len = usize::try_from(record.head.stripe_len()).map_err(|_| Refusal::NoMemory)?;
    let mut out = vec![0; len];
    let bad = Reader::new(storage, record).read(Part::Shard(shard).into(), 0..record.head.stripe_rows(), &mut out)?;
    Ok((out, bad))
}

/// Result of [`check_part`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartState {
    /// The damage of the file outside of the shard, if any.
    pub frame: Option<Damage>,
    /// Bad rows of the shard.
    pub rows: Vec<u32>,
    /// A read that failed. The bytes are unknown, and their rows are listed as bad.
    pub unreadable: Option<storage::Error>,
}

impl PartState {
    /// True when every byte of the file is right.
    pub fn is_intact(&self) -> bool {
        self.frame.is_none() && self.rows.is_empty()
    }
}

/// Reads all of one file of a group and checks every byte against the group's record.
pub fn check_part(storage: &dyn Storage, record: &GroupRecord, part: Part) -> Result<PartState, Error> {
    let head = &record.head;
    let bytes = record.encode();
    let key = part.key(&head.id);
    let (front, back) = match part {
        Part::Group => {
            let prefix = head.prefix(part).encode();
            ([&prefix[..], &bytes].concat(), Vec::new())
        }
        Part::Shard(shard) => {
            let (front, back) = frame(head, &bytes, shard);
            (front.into_inner(), back)
        }
    };
    let file_len = match storage.size(&key) {
        Ok(len) => len,
        Err(error) if error.kind.verdict() == Verdict::Wrong => Some(0),
        Err(error) => return Err(error.into()),
    };
    let mut frame = match file_len {
        None => Some(Damage::Missing),
        Some(len) if len != head.file_len(part) => Some(Damage::Length),
        Some(_) => None,
    };
    let back_offset = head.file_len(part).saturating_sub(back.len() as u64);
    for (offset, expected) in [(0, &front), (back_offset, &back)] {
        if frame.is_none() && !expected.is_empty() {
            let damage = |found: &Vec<u8>| (found != expected).then(|| difference(found, expected));
            frame =
                read_exactly(storage, &key, offset, expected.len() as u64)?.map_or_else(Some, |found| damage(&found));
        }
    }
    let reader = Reader::new(storage, record);
    let rows = match part {
        Part::Shard(shard) if file_len.is_some() => reader.bad_rows(Part::Shard(shard).into())?,
        Part::Shard(_) => (0..head.stripe_rows()).collect(),
        Part::Group => Vec::new(),
    };
    let unreadable = match frame {
        Some(Damage::Unreadable) => Some(storage::Error::new(ErrorKind::Io, "get", key)),
        _ => reader.unreadable(),
    };
    Ok(PartState {
        frame,
        rows,
        unreadable,
    })
}

/// The damage for a difference, by the position at which it begins.
fn difference(found: &[u8], expected: &[u8]) -> Damage {
    match found.iter().zip(expected).position(|(a, b)| a != b) {
        Some(at) if at < PREFIX_LEN => Damage::Prefix,
        _ => Damage::Record,
    }
}
