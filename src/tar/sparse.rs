//! The map of a sparse file, from any of the formats that state one.

use super::MAX_SEGMENTS;
use super::member::{Content, Segment};
use super::verdict::{Break, Field};

/// An entry of a map as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) offset: u64,
    pub(super) len: u64,
}

/// A map that is being read, checked entry by entry.
#[derive(Debug, Default)]
pub(super) struct Map {
    segments: Vec<Segment>,
    /// Segments were left out, because there are too many.
    is_cut: bool,
    /// End of the last entry.
    end: u64,
    /// Lengths of all entries.
    stored: u64,
}

impl Map {
    /// Begins another map.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Adds an entry, which must begin at or after the end of the one before. GNU tar ends a map
    /// with an entry of no bytes at the end of the file, which is checked and not kept.
    pub(super) fn push(&mut self, entry: Entry) -> Result<(), Break> {
        let Entry { offset, len } = entry;
        if offset < self.end {
            return Err(Break::SparseMap);
        }
        self.end = offset.checked_add(len).ok_or(Break::SparseMap)?;
        // at most `end`, as the entries do not overlap
        self.stored += len;
        if len > 0 {
            if self.segments.len() < MAX_SEGMENTS {
                self.segments.push(Segment { offset, len });
            } else {
                self.is_cut = true;
            }
        }
        Ok(())
    }

    /// The content of a file of `size` bytes, of which `stored_len` are stored. All but the last
    /// segment are whole blocks in archives of known writers; if not, GNU tar pads each one, and
    /// Go, Python and libarchive do not. This is read as the three do.
    pub(super) fn take(&mut self, size: u64, stored_len: u64) -> Result<Content, Break> {
        if self.end > size || self.stored != stored_len {
            return Err(Break::SparseMap);
        }
        let map = std::mem::take(self);
        Ok(match map.is_cut {
            true => Content::SparseWithoutMap,
            false => Content::Sparse(map.segments),
        })
    }
}

/// Decimal digits that arrive one by one.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Decimal {
    value: u64,
    digits: u8,
}

impl Decimal {
    /// Adds a digit.
    pub(super) fn push(&mut self, byte: u8) -> Result<(), Break> {
        let bad = Break::Number(Field::SparseMap);
        let digit = byte.is_ascii_digit().then_some(byte & 0x0f).ok_or(bad)?;
        self.value = self
            .value
            .checked_mul(10)
            .and_then(|value| value.checked_add(u64::from(digit)))
            .ok_or(bad)?;
        // endless zeros would be read without end
        self.digits = self.digits.checked_add(1).filter(|digits| *digits <= 32).ok_or(bad)?;
        Ok(())
    }

    /// The number, at its separator; the next one begins.
    pub(super) fn take(&mut self) -> Result<u64, Break> {
        let number = std::mem::take(self);
        if number.digits == 0 {
            return Err(Break::Number(Field::SparseMap));
        }
        Ok(number.value)
    }
}

/// Offsets and lengths in turn.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Pairs {
    offset: Option<u64>,
}

impl Pairs {
    /// Adds the next number to the map, once it has its pair.
    pub(super) fn push(&mut self, number: u64, map: &mut Map) -> Result<(), Break> {
        match self.offset.take() {
            None => self.offset = Some(number),
            Some(offset) => map.push(Entry { offset, len: number })?,
        }
        Ok(())
    }

    /// Whether an offset has no length yet.
    pub(super) fn is_half(&self) -> bool {
        self.offset.is_some()
    }
}

/// The map of the format 1.0, at the beginning of the data: the number of entries, then offset and
/// length of each, all in decimal with a newline after each number, padded to whole blocks.
#[derive(Debug, Default)]
pub(super) struct TextMap {
    number: Decimal,
    /// Entries to come; `None` before their number was read.
    left: Option<u64>,
    pairs: Pairs,
}

impl TextMap {
    /// Reads on. Returns how many of the bytes belong to the map when it ends in them.
    pub(super) fn feed(&mut self, bytes: &[u8], map: &mut Map) -> Result<Option<usize>, Break> {
        for (at, byte) in bytes.iter().enumerate() {
            if *byte != b'\n' {
                self.number.push(*byte)?;
                continue;
            }
            let number = self.number.take()?;
            let left = match self.left {
                None => number,
                Some(left) => {
                    self.pairs.push(number, map)?;
                    left - u64::from(!self.pairs.is_half())
                }
            };
            self.left = Some(left);
            if left == 0 {
                return Ok(Some(at + 1));
            }
        }
        Ok(None)
    }
}
