//! One header block: its fields, its numbers, its checksum.
//!
//! ```text
//! ustar (POSIX.1-1988)                   GNU tar, from byte 345
//!   0 name[100]    156 typeflag            345 atime[12]  ctime[12]  offset[12]  longnames[4]
//! 100 mode[8]      157 linkname[100]       385 unused[1]
//! 108 uid[8]       257 magic[6]            386 4 × (offset[12] numbytes[12])
//! 116 gid[8]       263 version[2]          482 isextended[1]
//! 124 size[12]     265 uname[32]           483 realsize[12]
//! 136 mtime[12]    297 gname[32]
//! 148 chksum[8]    329 devmajor[8]       a block that continues a sparse map
//!                  337 devminor[8]         0 21 × (offset[12] numbytes[12])
//!                  345 prefix[155]       504 isextended[1]
//! ```
//!
//! The v7 format ends at byte 257. A number is octal digits, or, when the first bit of its field is
//! set, a two's complement number in base 256 (GNU tar, star, and every later reader).

use super::sparse::Entry;
use super::verdict::{Break, Field};
use std::ops::Range;

/// Length of a block in bytes.
pub const BLOCK_LEN: usize = 512;

/// A block.
pub(super) type Block = [u8; BLOCK_LEN];

const NAME: Range<usize> = 0..100;
const MODE: Range<usize> = after(&NAME, 8);
const UID: Range<usize> = after(&MODE, 8);
const GID: Range<usize> = after(&UID, 8);
const SIZE: Range<usize> = after(&GID, 12);
const MTIME: Range<usize> = after(&SIZE, 12);
const CHECKSUM: Range<usize> = after(&MTIME, 8);
const TYPE: Range<usize> = after(&CHECKSUM, 1);
const LINK: Range<usize> = after(&TYPE, 100);
const MAGIC: Range<usize> = after(&LINK, 6);
const VERSION: Range<usize> = after(&MAGIC, 2);
const UNAME: Range<usize> = after(&VERSION, 32);
const GNAME: Range<usize> = after(&UNAME, 32);
const DEV_MAJOR: Range<usize> = after(&GNAME, 8);
const DEV_MINOR: Range<usize> = after(&DEV_MAJOR, 8);
const PREFIX: Range<usize> = after(&DEV_MINOR, 155);

/// Four entries of a sparse map in a header of GNU tar.
const GNU_MAP: Range<usize> = 386..386 + 4 * ENTRY_LEN;
const GNU_EXTENDED: Range<usize> = after(&GNU_MAP, 1);
const GNU_REAL_SIZE: Range<usize> = after(&GNU_EXTENDED, 12);

/// 21 entries in a block that continues the map.
const MORE_MAP: Range<usize> = 0..21 * ENTRY_LEN;
const MORE_EXTENDED: Range<usize> = after(&MORE_MAP, 1);

/// Offset and length, 12 bytes each.
const ENTRY_LEN: usize = 24;

const fn after(before: &Range<usize>, len: usize) -> Range<usize> {
    before.end..before.end + len
}

/// A block whose checksum is right.
#[derive(Clone, Copy)]
pub(super) struct Header<'a> {
    block: &'a Block,
}

impl<'a> Header<'a> {
    /// The header in a block, or `None` when its checksum is not that of its bytes.
    pub(super) fn parse(block: &'a Block) -> Option<Self> {
        let stated = number(&block[CHECKSUM])?;
        let fields: u32 = block[CHECKSUM].iter().map(|byte| u32::from(*byte)).sum();
        let unsigned = sum(block) - fields + 8 * u32::from(b' ');
        if stated != i128::from(unsigned) {
            // some old writers added signed bytes
            let high = |bytes: &[u8]| bytes.iter().filter(|byte| **byte >= 0x80).count() as i128;
            let signed = i128::from(unsigned) - 256 * (high(block) - high(&block[CHECKSUM]));
            if stated != signed {
                return None;
            }
        }
        Some(Self { block })
    }

    /// The type of the member, or of the extension.
    pub(super) fn type_flag(self) -> u8 {
        self.block[TYPE.start]
    }

    /// Whether the fields from `uname` on are there: ustar or GNU.
    fn is_extended(self) -> bool {
        self.block[MAGIC].starts_with(b"ustar")
    }

    /// Appends the path: of ustar with its prefix. The format of GNU tar has other fields there.
    pub(super) fn path(self, out: &mut Vec<u8>) {
        if self.block[MAGIC] == *b"ustar\0" {
            let prefix = text(&self.block[PREFIX]);
            if !prefix.is_empty() {
                out.extend_from_slice(prefix);
                out.push(b'/');
            }
        }
        out.extend_from_slice(text(&self.block[NAME]));
    }

    /// The target of a link.
    pub(super) fn link(self) -> &'a [u8] {
        text(&self.block[LINK])
    }

    /// Permission bits; some writers store the type of the file in it too.
    pub(super) fn mode(self) -> Result<u32, Break> {
        let bits = self.number(MODE, Field::Mode)? & 0o7777;
        u32::try_from(bits).map_err(|_| Break::Number(Field::Mode))
    }

    /// The number of the owner.
    pub(super) fn uid(self) -> Result<u64, Break> {
        Ok(owner(self.number(UID, Field::Uid)?))
    }

    /// The number of the group.
    pub(super) fn gid(self) -> Result<u64, Break> {
        Ok(owner(self.number(GID, Field::Gid)?))
    }

    /// The length of what follows.
    pub(super) fn size(self) -> Result<u64, Break> {
        self.unsigned(SIZE, Field::Size)
    }

    /// Seconds since 1970.
    pub(super) fn mtime(self) -> Result<i64, Break> {
        let seconds = self.number(MTIME, Field::Mtime)?;
        i64::try_from(seconds).map_err(|_| Break::Number(Field::Mtime))
    }

    /// The name of the owner; v7 has none.
    pub(super) fn uname(self) -> &'a [u8] {
        if self.is_extended() {
            text(&self.block[UNAME])
        } else {
            &[]
        }
    }

    /// The name of the group; v7 has none.
    pub(super) fn gname(self) -> &'a [u8] {
        if self.is_extended() {
            text(&self.block[GNAME])
        } else {
            &[]
        }
    }

    /// Major number of a device; v7 has none.
    pub(super) fn dev_major(self) -> Result<u64, Break> {
        if !self.is_extended() {
            return Ok(0);
        }
        self.unsigned(DEV_MAJOR, Field::Device)
    }

    /// Minor number of a device; v7 has none.
    pub(super) fn dev_minor(self) -> Result<u64, Break> {
        if !self.is_extended() {
            return Ok(0);
        }
        self.unsigned(DEV_MINOR, Field::Device)
    }

    /// Length of the content of a sparse file, in the format of GNU tar.
    pub(super) fn gnu_real_size(self) -> Result<u64, Break> {
        self.unsigned(GNU_REAL_SIZE, Field::Size)
    }

    /// The first entries of the map of a sparse file, and whether blocks with more follow.
    pub(super) fn gnu_map(self) -> Result<(Vec<Entry>, bool), Break> {
        Ok((entries(&self.block[GNU_MAP])?, self.block[GNU_EXTENDED.start] != 0))
    }

    fn unsigned(self, range: Range<usize>, field: Field) -> Result<u64, Break> {
        u64::try_from(self.number(range, field)?).map_err(|_| Break::Number(field))
    }

    fn number(self, range: Range<usize>, field: Field) -> Result<i128, Break> {
        number(&self.block[range]).ok_or(Break::Number(field))
    }
}

/// The number of a user or group. Some writers store 4294967294, that of the user without rights,
/// as -2. A number that no system has is taken for it: no archive ends because of one.
fn owner(number: i128) -> u64 {
    const WITHOUT_RIGHTS: u32 = u32::MAX - 1;
    match (u64::try_from(number), i32::try_from(number)) {
        (Ok(number), _) => number,
        (_, Ok(negative)) => u64::from(negative as u32),
        _ => u64::from(WITHOUT_RIGHTS),
    }
}

/// The fields of a ustar header that is written. Each must fit in its field; what does not is cut.
#[derive(Default)]
pub(super) struct Fields<'a> {
    pub(super) path: &'a [u8],
    pub(super) link: &'a [u8],
    pub(super) type_flag: u8,
    pub(super) mode: u32,
    pub(super) uid: u64,
    pub(super) gid: u64,
    pub(super) size: u64,
    pub(super) mtime: u64,
    pub(super) uname: &'a [u8],
    pub(super) gname: &'a [u8],
    pub(super) device: (u64, u64),
}

impl Fields<'_> {
    /// The block, with its checksum.
    pub(super) fn block(&self) -> Block {
        let mut block = [0; BLOCK_LEN];
        put(&mut block, NAME, self.path);
        put(&mut block, LINK, self.link);
        put(&mut block, TYPE, &[self.type_flag]);
        put(&mut block, MAGIC, b"ustar\0");
        put(&mut block, VERSION, b"00");
        put(&mut block, UNAME, self.uname);
        put(&mut block, GNAME, self.gname);
        let numbers = [
            (MODE, self.mode.into()),
            (UID, self.uid),
            (GID, self.gid),
            (SIZE, self.size),
            (MTIME, self.mtime),
            (DEV_MAJOR, self.device.0),
            (DEV_MINOR, self.device.1),
        ];
        for (range, number) in numbers {
            let digits = range.len() - 1;
            put(&mut block, range, format!("{number:0digits$o}").as_bytes());
        }
        put(&mut block, CHECKSUM, &[b' '; 8]);
        let checksum = format!("{:06o}\0 ", sum(&block));
        put(&mut block, CHECKSUM, checksum.as_bytes());
        block
    }
}

/// Writes a field from its start, as much as it has room for.
fn put(block: &mut Block, range: Range<usize>, bytes: &[u8]) {
    let field = &mut block[range];
    let len = bytes.len().min(field.len());
    field[..len].copy_from_slice(&bytes[..len]);
}

/// The entries of a block that continues a sparse map, and whether another one follows.
pub(super) fn more_map(block: &Block) -> Result<(Vec<Entry>, bool), Break> {
    Ok((entries(&block[MORE_MAP])?, block[MORE_EXTENDED.start] != 0))
}

/// The entries up to the first unused one: GNU tar and Go end there too.
fn entries(fields: &[u8]) -> Result<Vec<Entry>, Break> {
    let (entries, _) = fields.as_chunks::<ENTRY_LEN>();
    entries
        .iter()
        .map(|entry| entry.split_at(ENTRY_LEN / 2))
        .take_while(|(offset, len)| offset[0] != 0 && len[0] != 0)
        .map(|(offset, len)| {
            let value = |field| u64::try_from(number(field)?).ok();
            let (offset, len) = (value(offset), value(len));
            offset.zip(len).map(|(offset, len)| Entry { offset, len })
        })
        .collect::<Option<_>>()
        .ok_or(Break::Number(Field::SparseMap))
}

/// Whether all bytes are zero.
pub(super) fn is_zero(block: &Block) -> bool {
    block.iter().all(|byte| *byte == 0)
}

/// The bytes before the first zero.
pub(super) fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0);
    &field[..end.unwrap_or(field.len())]
}

/// The value of a numeric field, or `None` when it is no number. A blank field is 0. A zero byte
/// before the digits is skipped, as GNU tar and Go do: a writer of unknown origin let the field
/// before it overflow. What follows the first blank after the digits counts for nothing.
fn number(field: &[u8]) -> Option<i128> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        let sign = if first & 0x40 == 0 { 0 } else { -1i128 };
        let start = (sign << 7) | i128::from(first & 0x7f);
        // at most 12 bytes: 95 bits
        return Some(
            field[1..]
                .iter()
                .fold(start, |value, byte| (value << 8) | i128::from(*byte)),
        );
    }
    let field = &field[usize::from(first == 0)..];
    let start = field.iter().position(|byte| *byte != b' ').unwrap_or(field.len());
    let mut value = 0u64;
    // at most 12 digits: 36 bits
    for byte in &field[start..] {
        match byte {
            b'0'..=b'7' => value = (value << 3) | u64::from(byte - b'0'),
            b' ' | 0 => break,
            _ => return None,
        }
    }
    Some(i128::from(value))
}

/// The sum of all bytes of a block, eight at a time: this is most of the work per member.
fn sum(block: &Block) -> u32 {
    const EVEN: u64 = 0x00ff_00ff_00ff_00ff;
    let (words, _) = block.as_chunks::<8>();
    // four sums of 16 bits each: 64 words add at most 64 * 2 * 255 to one
    let sums = words.iter().fold(0u64, |sums, word| {
        let word = u64::from_le_bytes(*word);
        sums + (word & EVEN) + ((word >> 8) & EVEN)
    });
    (0..4).map(|at| (sums >> (16 * at)) as u32 & 0xffff).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256_and_nothing_else() {
        let cases: &[(&[u8], Option<i128>)] = &[
            (b"0000644\0", Some(0o644)),
            (b"000644 \0", Some(0o644)),
            (b"   644  ", Some(0o644)),
            (b"\0     17", Some(0o17)),
            (b"644\0junk", Some(0o644)),
            (b"77777777", Some(0o7777_7777)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"        ", Some(0)),
            (b"0000648\0", None),
            (b"-0000001", None),
            (b"0x000001", None),
            (b"garbage!", None),
            (b"\x80\0\0\0\0\0\x01\x02", Some(0x102)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\xc0\0\0\0\0\0\0\0", Some(-(1 << 62))),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff", Some((1 << 62) - 1)),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", Some((1 << 94) - 1)),
        ];
        for (field, expected) in cases {
            assert_eq!(number(field), *expected, "{field:?}");
        }
    }
}
