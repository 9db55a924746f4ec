//! One member as bytes.
//!
//! ```text
//! entry   varint length ‖ key            names joined with zero bytes
//!         u8 flags, u8 form of the path  0 the key with slashes, + 1 with `/` at the end, + 2 with
//!                                        `./` in front; 4: varint length ‖ path follows
//!         u8 type                        the type byte of ustar
//!         zigzag header offset           relative to the entry before it
//!         varint data offset             relative to the header offset
//!         varint stored length, mode, uid, gid; zigzag seconds of the time
//!         by flags: 1 varint nanoseconds; 2 varint size, where it is not the stored length;
//!                   4 sparse; 8 varint length ‖ link target; 16 varint length ‖ owner, the same
//!                   for the group; 32 varint major, minor
//! ```

use super::error::{Error, damaged};
use super::key::Key;
use crate::bytes::ByteReader;
use crate::tar::{Content, Kind, MAX_OWNER_LEN, MAX_PATH_LEN, Member, Time};

const NANOS: u8 = 1;
const SIZE: u8 = 2;
const SPARSE: u8 = 4;
const LINK: u8 = 8;
const OWNER: u8 = 16;
const DEVICE: u8 = 32;

const SLASH_AFTER: u8 = 1;
const DOT_BEFORE: u8 = 2;
const OWN_PATH: u8 = 4;

/// Longest entry in bytes: key, path and link, the names of the owner and the group, 16 numbers.
pub(super) const MAX_ENTRY_LEN: usize = 3 * MAX_PATH_LEN + 2 * MAX_OWNER_LEN + 16 * 10;

/// A member of the tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its path, for comparison.
    pub key: Key,
    /// The member. The content of any sparse file is
    /// [`SparseWithoutMap`](Content::SparseWithoutMap): its map is in the tar alone.
    pub member: Member,
}

impl Entry {
    /// The entry of a member.
    pub fn new(member: &Member) -> Self {
        let content = match member.content {
            Content::Plain => Content::Plain,
            Content::Sparse(_) | Content::SparseWithoutMap => Content::SparseWithoutMap,
        };
        Self {
            key: Key::new(&member.path),
            member: Member {
                path: member.path.clone(),
                uname: member.uname.clone(),
                gname: member.gname.clone(),
                link: member.link.clone(),
                content,
                ..*member
            },
        }
    }

    /// Appends the entry after one whose header is at `before`.
    pub(super) fn encode(&self, before: u64, out: &mut Vec<u8>) {
        let member = &self.member;
        push_bytes(out, self.key.as_bytes());
        let mut flags = 0;
        for (flag, is_set) in [
            (NANOS, member.mtime.nanos != 0),
            (SIZE, member.size != member.stored_len),
            (SPARSE, member.content != Content::Plain),
            (LINK, !member.link.is_empty()),
            (OWNER, !member.uname.is_empty() || !member.gname.is_empty()),
            (DEVICE, member.device != (0, 0)),
        ] {
            flags |= if is_set { flag } else { 0 };
        }
        let form = form_of(&self.key, &member.path);
        out.extend_from_slice(&[flags, form]);
        if form == OWN_PATH {
            push_bytes(out, &member.path);
        }
        out.push(member.kind.type_byte());
        push_difference(out, member.header_offset, before);
        for number in [
            member.data_offset.wrapping_sub(member.header_offset),
            member.stored_len,
            u64::from(member.mode),
            member.uid,
            member.gid,
            zigzag(member.mtime.seconds),
        ] {
            push(out, number);
        }
        if flags & NANOS != 0 {
            push(out, u64::from(member.mtime.nanos));
        }
        if flags & SIZE != 0 {
            push(out, member.size);
        }
        if flags & LINK != 0 {
            push_bytes(out, &member.link);
        }
        if flags & OWNER != 0 {
            push_bytes(out, &member.uname);
            push_bytes(out, &member.gname);
        }
        if flags & DEVICE != 0 {
            push(out, member.device.0);
            push(out, member.device.1);
        }
    }

    /// The next entry after one whose header is at `before`.
    pub(super) fn decode(reader: &mut ByteReader<'_>, before: u64) -> Result<Self, Error> {
        let Some(key) = Key::from_bytes(bytes(reader, MAX_PATH_LEN)?) else {
            return damaged("a path in a member index is none");
        };
        let (flags, form) = (reader.u8()?, reader.u8()?);
        if flags & !(NANOS | SIZE | SPARSE | LINK | OWNER | DEVICE) != 0 {
            return damaged("a member in an index has unknown flags");
        }
        let path = match form {
            OWN_PATH => bytes(reader, MAX_PATH_LEN)?.to_vec(),
            _ if form < OWN_PATH => path_of(&key, form),
            _ => return damaged("a path in a member index has an unknown form"),
        };
        if Key::new(&path) != key {
            return damaged("a path in a member index is not that of its key");
        }
        let kind = kind_of(reader.u8()?);
        let header_offset = difference(reader, before)?;
        let data_offset = header_offset.checked_add(number(reader)?);
        let (stored_len, mode, uid, gid) = (number(reader)?, number(reader)?, number(reader)?, number(reader)?);
        let seconds = unzigzag(number(reader)?);
        let has = |flag: u8| flags & flag != 0;
        let nanos = if has(NANOS) { number(reader)? } else { 0 };
        let size = if has(SIZE) { number(reader)? } else { stored_len };
        let link = if has(LINK) { bytes(reader, MAX_PATH_LEN)? } else { &[] };
        let (uname, gname) = match has(OWNER) {
            true => (bytes(reader, MAX_OWNER_LEN)?, bytes(reader, MAX_OWNER_LEN)?),
            false => (&[][..], &[][..]),
        };
        let device = if has(DEVICE) {
            (number(reader)?, number(reader)?)
        } else {
            (0, 0)
        };
        let end = data_offset.and_then(|offset| offset.checked_add(stored_len));
        let (Some(data_offset), Some(_)) = (data_offset, end) else {
            return damaged("an offset in a member index is out of range");
        };
        if nanos >= 1_000_000_000 || mode > 0o7777 {
            return damaged("a number in a member index is out of range");
        }
        Ok(Self {
            key,
            member: Member {
                path,
                kind,
                size,
                mode: mode as u32,
                uid,
                gid,
                uname: uname.to_vec(),
                gname: gname.to_vec(),
                mtime: Time {
                    seconds,
                    nanos: nanos as u32,
                },
                link: link.to_vec(),
                header_offset,
                data_offset,
                stored_len,
                content: if has(SPARSE) {
                    Content::SparseWithoutMap
                } else {
                    Content::Plain
                },
                device,
            },
        })
    }
}

fn path_of(key: &Key, form: u8) -> Vec<u8> {
    let front: &[u8] = if form & DOT_BEFORE != 0 { b"./" } else { b"" };
    let end: &[u8] = if form & SLASH_AFTER != 0 { b"/" } else { b"" };
    [front, &key.path(), end].concat()
}

fn form_of(key: &Key, path: &[u8]) -> u8 {
    (0..OWN_PATH)
        .find(|form| path_of(key, *form) == path)
        .unwrap_or(OWN_PATH)
}

fn kind_of(flag: u8) -> Kind {
    match flag {
        b'0' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        _ => Kind::Other(flag),
    }
}

/// Appends a number: 7 bits a byte, the lowest first, the highest bit set in all but the last.
pub(super) fn push(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends `now - before`, modulo 2^64, as a number with its sign in the lowest bit.
pub(super) fn push_difference(out: &mut Vec<u8>, now: u64, before: u64) {
    push(out, zigzag(now.wrapping_sub(before) as i64));
}

/// Appends bytes with their length.
pub(super) fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    push(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// The next number. One that is longer than necessary is refused: there is one form of each.
pub(super) fn number(reader: &mut ByteReader<'_>) -> Result<u64, Error> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = reader.u8()?;
        let bits = u64::from(byte & 0x7f);
        if (shift == 63 && bits > 1) || (shift > 0 && byte == 0) {
            break;
        }
        number |= bits << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    damaged("a number in a member index is not in its shortest form")
}

/// The next number relative to another one.
pub(super) fn difference(reader: &mut ByteReader<'_>, before: u64) -> Result<u64, Error> {
    Ok(before.wrapping_add(unzigzag(number(reader)?) as u64))
}

/// The next bytes, with their length.
pub(super) fn bytes<'a>(reader: &mut ByteReader<'a>, most: usize) -> Result<&'a [u8], Error> {
    match usize::try_from(number(reader)?) {
        Ok(len) if len <= most => Ok(reader.slice(len)?),
        _ => damaged("a name in a member index is too long"),
    }
}

fn zigzag(number: i64) -> u64 {
    (number.wrapping_shl(1) ^ (number >> 63)) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}
