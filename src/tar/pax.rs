//! The records of an extended header (POSIX.1-2001, pax): `LENGTH KEY=VALUE\n`.
//!
//! They are read as they arrive; only the values of known keys are kept, each within its limit, so
//! that a header of extended attributes costs no memory.

use super::member::Time;
use super::sparse::{Decimal, Map, Pairs};
use super::verdict::{Break, Field};
use super::{MAX_OWNER_LEN, MAX_PATH_LEN};

/// Longest key that is known. Longer ones are skipped with their value.
const MAX_KEY_LEN: usize = 32;
/// Longest number or time.
const MAX_NUMBER_LEN: usize = 64;

/// A value that a record set, or removed by an empty value.
pub(super) type Set<T> = Option<Option<T>>;

/// The values of the known keys.
#[derive(Debug, Default)]
pub(super) struct Values {
    pub(super) path: Set<Vec<u8>>,
    pub(super) link: Set<Vec<u8>>,
    pub(super) uname: Set<Vec<u8>>,
    pub(super) gname: Set<Vec<u8>>,
    pub(super) size: Set<u64>,
    pub(super) uid: Set<u64>,
    pub(super) gid: Set<u64>,
    pub(super) mtime: Set<Time>,
    pub(super) dev_major: Set<u64>,
    pub(super) dev_minor: Set<u64>,
    pub(super) sparse: Sparse,
}

/// What GNU tar states of a sparse file.
#[derive(Debug, Default)]
pub(super) struct Sparse {
    pub(super) name: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    /// Of the formats 0.0 and 0.1; that of 1.0 is in the data.
    pub(super) map: Map,
    pairs: Pairs,
    /// A map, or the number of its entries, was stated.
    pub(super) has_map: bool,
}

impl Values {
    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// The state of the reader between two pieces.
#[derive(Debug, Default)]
pub(super) struct Records {
    part: Part,
    /// Bytes of the record that are to come.
    left: u64,
    key: Vec<u8>,
    value: Vec<u8>,
    /// The number that is being read in a `GNU.sparse.map`.
    number: Decimal,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Length,
    Key,
    Value(Known),
    Newline(Known),
}

/// A known key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Ignored,
    Path,
    Link,
    Uname,
    Gname,
    Size,
    Uid,
    Gid,
    Mtime,
    DevMajor,
    DevMinor,
    SparseName,
    SparseSize,
    SparseMajor,
    SparseMinor,
    SparseCount,
    SparseOffset,
    SparseLen,
    SparseMap,
}

impl Known {
    fn of(key: &[u8]) -> Self {
        match key {
            b"path" => Self::Path,
            b"linkpath" => Self::Link,
            b"uname" => Self::Uname,
            b"gname" => Self::Gname,
            b"size" => Self::Size,
            b"uid" => Self::Uid,
            b"gid" => Self::Gid,
            b"mtime" => Self::Mtime,
            b"SCHILY.devmajor" => Self::DevMajor,
            b"SCHILY.devminor" => Self::DevMinor,
            b"GNU.sparse.name" => Self::SparseName,
            // 0.0 and 0.1, 1.0
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => Self::SparseSize,
            b"GNU.sparse.major" => Self::SparseMajor,
            b"GNU.sparse.minor" => Self::SparseMinor,
            b"GNU.sparse.numblocks" => Self::SparseCount,
            b"GNU.sparse.offset" => Self::SparseOffset,
            b"GNU.sparse.numbytes" => Self::SparseLen,
            b"GNU.sparse.map" => Self::SparseMap,
            _ => Self::Ignored,
        }
    }

    fn field(self) -> Field {
        match self {
            Self::Path | Self::SparseName => Field::Path,
            Self::Link => Field::Link,
            Self::Uname | Self::Gname => Field::Owner,
            Self::Size | Self::SparseSize => Field::Size,
            Self::Uid => Field::Uid,
            Self::Gid => Field::Gid,
            Self::Mtime => Field::Mtime,
            Self::DevMajor | Self::DevMinor => Field::Device,
            _ => Field::SparseMap,
        }
    }

    fn max_len(self) -> usize {
        match self.field() {
            Field::Path | Field::Link => MAX_PATH_LEN,
            Field::Owner => MAX_OWNER_LEN,
            _ => MAX_NUMBER_LEN,
        }
    }
}

impl Records {
    /// Reads on; what a record sets goes to `values`.
    pub(super) fn feed(&mut self, mut bytes: &[u8], values: &mut Values) -> Result<(), Break> {
        while let [first, rest @ ..] = bytes {
            match self.part {
                Part::Length => {
                    self.length(*first)?;
                    bytes = rest;
                }
                Part::Key => {
                    self.left -= 1;
                    match first {
                        b'=' => {
                            let known = Known::of(&self.key);
                            self.value.clear();
                            self.part = if self.left > 1 {
                                Part::Value(known)
                            } else {
                                Part::Newline(known)
                            };
                        }
                        _ if self.key.len() <= MAX_KEY_LEN => self.key.push(*first),
                        _ => {}
                    }
                    if self.left == 0 {
                        return Err(Break::PaxRecord); // no `=`, or nothing after it
                    }
                    bytes = rest;
                }
                Part::Value(known) => {
                    let len = usize::try_from(self.left - 1).unwrap_or(usize::MAX).min(bytes.len());
                    let (value, rest) = bytes.split_at(len);
                    self.value(known, value, values)?;
                    self.left -= len as u64;
                    if self.left == 1 {
                        self.part = Part::Newline(known);
                    }
                    bytes = rest;
                }
                Part::Newline(known) => {
                    if *first != b'\n' {
                        return Err(Break::PaxRecord);
                    }
                    self.set(known, values)?;
                    self.part = Part::Length;
                    self.left = 0;
                    self.key.clear();
                    bytes = rest;
                }
            }
        }
        Ok(())
    }

    /// Ends the header, which must end with a record.
    pub(super) fn finish(&mut self, values: &Values) -> Result<(), Break> {
        let is_whole = self.part == Part::Length && self.key.is_empty() && !values.sparse.pairs.is_half();
        *self = Self {
            key: std::mem::take(&mut self.key),
            value: std::mem::take(&mut self.value),
            ..Self::default()
        };
        self.key.clear();
        if is_whole { Ok(()) } else { Err(Break::PaxRecord) }
    }

    /// A digit of the length, or the blank after it. The digits so far are in `key`.
    fn length(&mut self, byte: u8) -> Result<(), Break> {
        if byte.is_ascii_digit() && self.key.len() < 20 {
            let digit = u64::from(byte & 0x0f);
            let longer = self.left.checked_mul(10).and_then(|left| left.checked_add(digit));
            self.left = longer.ok_or(Break::PaxRecord)?;
            self.key.push(byte);
            return Ok(());
        }
        let own = self.key.len() as u64 + 1;
        if byte != b' ' || self.key.is_empty() || self.left <= own {
            return Err(Break::PaxRecord);
        }
        self.left -= own;
        self.key.clear();
        self.part = Part::Key;
        Ok(())
    }

    /// The next bytes of a value.
    fn value(&mut self, known: Known, bytes: &[u8], values: &mut Values) -> Result<(), Break> {
        match known {
            Known::Ignored => {}
            Known::SparseMap => {
                for byte in bytes {
                    if *byte == b',' {
                        let number = self.number.take()?;
                        values.sparse.pairs.push(number, &mut values.sparse.map)?;
                    } else {
                        self.number.push(*byte)?;
                    }
                }
                // marks the value as not empty
                self.value.clear();
                self.value.push(b',');
            }
            _ if self.value.len() + bytes.len() > known.max_len() => return Err(Break::TooLong(known.field())),
            _ => self.value.extend_from_slice(bytes),
        }
        Ok(())
    }

    /// The record is complete.
    fn set(&mut self, known: Known, values: &mut Values) -> Result<(), Break> {
        let value = &self.value;
        match known {
            Known::Ignored => {}
            Known::Path => values.path = Some(text(value)?),
            Known::Link => values.link = Some(text(value)?),
            Known::Uname => values.uname = Some(text(value)?),
            Known::Gname => values.gname = Some(text(value)?),
            Known::Size => values.size = Some(number(value, known)?),
            Known::Uid => values.uid = Some(number(value, known)?),
            Known::Gid => values.gid = Some(number(value, known)?),
            Known::Mtime => values.mtime = Some(time(value)?),
            Known::DevMajor => values.dev_major = Some(number(value, known)?),
            Known::DevMinor => values.dev_minor = Some(number(value, known)?),
            Known::SparseName => values.sparse.name = text(value)?,
            Known::SparseSize => values.sparse.size = number(value, known)?,
            Known::SparseMajor => values.sparse.major = number(value, known)?,
            Known::SparseMinor => values.sparse.minor = number(value, known)?,
            Known::SparseCount => {
                values.sparse.has_map = true;
                number(value, known)?;
            }
            Known::SparseOffset | Known::SparseLen => {
                let number = number(value, known)?.ok_or(Break::PaxRecord)?;
                if values.sparse.pairs.is_half() != (known == Known::SparseLen) {
                    return Err(Break::SparseMap); // not in turn
                }
                values.sparse.has_map = true;
                values.sparse.pairs.push(number, &mut values.sparse.map)?;
            }
            Known::SparseMap => {
                values.sparse.has_map = true;
                if !value.is_empty() {
                    let number = self.number.take()?;
                    values.sparse.pairs.push(number, &mut values.sparse.map)?;
                }
            }
        }
        Ok(())
    }
}

/// A text; a zero byte in it would be an end to some readers and not to others.
fn text(value: &[u8]) -> Result<Option<Vec<u8>>, Break> {
    if value.contains(&0) {
        return Err(Break::PaxRecord);
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

/// A decimal number.
fn number(value: &[u8], known: Known) -> Result<Option<u64>, Break> {
    if value.is_empty() {
        return Ok(None);
    }
    let digits = value.iter().all(u8::is_ascii_digit).then_some(value);
    let parsed = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    parsed.map(Some).ok_or(Break::Number(known.field()))
}

/// Seconds with a sign and a fraction; digits after the ninth are dropped, rounding down.
fn time(value: &[u8]) -> Result<Option<Time>, Break> {
    let parse = |value: &[u8]| -> Option<Time> {
        let (is_negative, digits) = match value {
            [b'-', digits @ ..] => (true, digits),
            digits => (false, digits),
        };
        let mut parts = digits.splitn(2, |byte| *byte == b'.');
        let (whole, fraction) = (parts.next()?, parts.next().unwrap_or_default());
        if whole.is_empty() || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
            return None;
        }
        let seconds: i64 = std::str::from_utf8(whole).ok()?.parse().ok()?;
        let digit = |at: usize| u32::from(fraction.get(at).unwrap_or(&b'0') & 0x0f);
        let nanos = (0..9).fold(0, |nanos, at| nanos * 10 + digit(at));
        if !is_negative {
            return Some(Time { seconds, nanos });
        }
        // down, also for what is below a nanosecond
        let more = u32::from(fraction.iter().skip(9).any(|digit| *digit != b'0'));
        Some(match nanos + more {
            0 => Time {
                seconds: -seconds,
                nanos: 0,
            },
            up => Time {
                seconds: -seconds - 1,
                nanos: 1_000_000_000 - up,
            },
        })
    };
    if value.is_empty() {
        return Ok(None);
    }
    parse(value).map(Some).ok_or(Break::Number(Field::Mtime))
}
