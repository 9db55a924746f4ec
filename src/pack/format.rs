//! The bytes of `.pack` and `.idx` files: encode and decode side by side. Layout: `docs/format.md`
//! §6.
//!
//! Decoding trusts nothing: magic, checksum and version come first, then every length is checked
//! against the bytes that exist, and only then is it used in arithmetic.

use super::entry::PackEntry;
use crate::bytes::{ByteReader, ByteWriter, TooShort};
pub use crate::crypto::padme;
use crate::crypto::{CHECK_LEN, TAG_LEN, check8, sha256};
use crate::id::{ChunkId, PackId, RepoId, SnapshotId};

/// Length of a pack's header in bytes.
pub const HEADER_LEN: usize = 96;
/// Length of a pack's footer in bytes.
pub const FOOTER_LEN: usize = 64;
/// Length of an entry in bytes: id, number, offset, two 24-bit lengths, codec, kind.
pub const ENTRY_LEN: usize = ChunkId::LEN + 4 + 4 + 3 + 3 + 1 + 1;
/// Length of a pack's own nonce in bytes.
pub const PACK_NONCE_LEN: usize = 16;
/// Sealed trailers hold a multiple of this many entries, so that their length reveals little.
pub const SEALED_ENTRY_STEP: usize = 64;
/// Most entries of one pack.
pub const MAX_ENTRIES: usize = 65_535;
/// Largest value of a 24-bit length.
pub const MAX_U24: u32 = (1 << 24) - 1;

const PACK_MAGIC: &[u8; 8] = b"CAPACK01";
const END_MAGIC: &[u8; 8] = b"CAPEND01";
const INDEX_MAGIC: &[u8; 8] = b"CAPIDX01";
const VERSION: u32 = 1;
/// Length of the SHA-256 at the end of an `.idx`, in bytes.
const HASH_LEN: usize = 32;
/// Bytes of an `.idx` before the pack's header: magic, version, zeros, pack id, pack length.
const INDEX_HEAD_LEN: usize = 8 + 4 + 4 + PackId::LEN + 8;
/// Smallest file that can be an `.idx`.
const INDEX_MIN_LEN: usize = INDEX_HEAD_LEN + HEADER_LEN + TAG_LEN + FOOTER_LEN + HASH_LEN;

/// Why bytes are not a pack or pack index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// The bytes are too short, or a length in them points outside.
    Length,
    /// The bytes do not begin with the magic.
    Magic,
    /// A version that this software does not know.
    Version(u32),
    /// A checksum or tag is wrong.
    Checksum,
    /// The entries contradict each other, or the file.
    Entries,
    /// It belongs to another repository, or is sealed in a plain repository, or plain in an
    /// encrypted one.
    Foreign,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Length => f.write_str("a length is wrong"),
            Self::Magic => f.write_str("it does not begin as a pack or pack index"),
            Self::Version(version) => write!(f, "version {version} is not supported"),
            Self::Checksum => f.write_str("a checksum is wrong"),
            Self::Entries => f.write_str("its entries contradict each other"),
            Self::Foreign => f.write_str("it belongs to another repository"),
        }
    }
}

impl std::error::Error for Error {}

impl From<TooShort> for Error {
    fn from(_: TooShort) -> Self {
        Self::Length
    }
}

/// The header of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackHeader {
    /// Chunks and trailer are sealed.
    pub sealed: bool,
    /// A meta pack: it holds list nodes and copies, and no data.
    pub meta: bool,
    /// The repository.
    pub repo: RepoId,
    /// The session that wrote it.
    pub session: SnapshotId,
    /// Random, so that no two packs are equal.
    pub nonce: [u8; PACK_NONCE_LEN],
    /// Key epoch; 0 in plain repositories.
    pub epoch: u32,
}

impl PackHeader {
    /// Encodes the header.
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let flags = u32::from(self.sealed) | u32::from(self.meta) << 1;
        let mut out = [0; HEADER_LEN];
        let (fields, check) = out.split_at_mut(HEADER_LEN - CHECK_LEN);
        ByteWriter::new(fields)
            .bytes(PACK_MAGIC)
            .u32(VERSION)
            .u32(flags)
            .bytes(&self.repo.0)
            .bytes(&self.session.0)
            .bytes(&self.nonce)
            .u32(self.epoch);
        check.copy_from_slice(&check8(fields));
        out
    }

    /// Decodes a header.
    pub fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, Error> {
        let (fields, check) = bytes.split_last_chunk::<CHECK_LEN>().ok_or(TooShort)?;
        let mut reader = ByteReader::new(fields);
        if reader.array()? != *PACK_MAGIC {
            return Err(Error::Magic);
        }
        if check8(fields) != *check {
            return Err(Error::Checksum);
        }
        let version = reader.u32()?;
        if version != VERSION {
            return Err(Error::Version(version));
        }
        let flags = reader.u32()?;
        if flags > 3 {
            return Err(Error::Version(version));
        }
        Ok(Self {
            sealed: flags & 1 != 0,
            meta: flags & 2 != 0,
            repo: RepoId(reader.array()?),
            session: SnapshotId(reader.array()?),
            nonce: reader.array()?,
            epoch: reader.u32()?,
        })
    }
}

/// The footer of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackFooter {
    /// Offset of the trailer in the pack, in bytes.
    pub trailer_offset: u32,
    /// Length of the trailer in bytes, tag included.
    pub trailer_len: u32,
    /// SHA-256 of everything before the trailer.
    pub body_hash: [u8; 32],
}

impl PackFooter {
    /// Encodes the footer.
    pub fn encode(&self) -> [u8; FOOTER_LEN] {
        let mut out = [0; FOOTER_LEN];
        let (fields, check) = out.split_at_mut(FOOTER_LEN - CHECK_LEN);
        ByteWriter::new(fields)
            .bytes(END_MAGIC)
            .u32(self.trailer_offset)
            .u32(self.trailer_len)
            .bytes(&self.body_hash);
        check.copy_from_slice(&check8(fields));
        out
    }

    /// Decodes a footer and checks it against the length of the pack in bytes.
    pub fn decode(bytes: &[u8; FOOTER_LEN], pack_len: u64) -> Result<Self, Error> {
        let (fields, check) = bytes.split_last_chunk::<CHECK_LEN>().ok_or(TooShort)?;
        let mut reader = ByteReader::new(fields);
        if reader.array()? != *END_MAGIC {
            return Err(Error::Magic);
        }
        if check8(fields) != *check {
            return Err(Error::Checksum);
        }
        let footer = Self {
            trailer_offset: reader.u32()?,
            trailer_len: reader.u32()?,
            body_hash: reader.array()?,
        };
        let end = u64::from(footer.trailer_offset) + u64::from(footer.trailer_len) + FOOTER_LEN as u64;
        let entries_len = (footer.trailer_len as usize)
            .checked_sub(TAG_LEN)
            .ok_or(Error::Length)?;
        if end != pack_len
            || (footer.trailer_offset as usize) < HEADER_LEN
            || entries_len % ENTRY_LEN != 0
            || entries_len / ENTRY_LEN > MAX_ENTRIES + SEALED_ENTRY_STEP
        {
            return Err(Error::Length);
        }
        Ok(footer)
    }
}

/// Length of the trailer of `count` entries in bytes, tag included.
pub fn trailer_len(count: usize, sealed: bool) -> usize {
    let slots = if sealed {
        count.next_multiple_of(SEALED_ENTRY_STEP)
    } else {
        count
    };
    slots * ENTRY_LEN + TAG_LEN
}

/// Encodes the entries of a trailer in plaintext, without the tag. Sealed trailers get empty
/// entries at the end.
pub fn encode_entries(entries: &[PackEntry], sealed: bool) -> Vec<u8> {
    let mut out = vec![0u8; trailer_len(entries.len(), sealed) - TAG_LEN];
    for (ordinal, (entry, slot)) in (0u32..).zip(entries.iter().zip(out.as_chunks_mut().0)) {
        encode_entry(entry, ordinal, slot);
    }
    out
}

/// Encodes an entry of a trailer or of a segment. `number` is the ordinal of the entry in a
/// trailer, and that of the pack in a segment.
pub fn encode_entry(entry: &PackEntry, number: u32, out: &mut [u8; ENTRY_LEN]) {
    ByteWriter::new(out)
        .bytes(&entry.id.0)
        .u32(number)
        .u32(entry.offset)
        .u24(entry.payload_len)
        .u24(entry.raw_len)
        .bytes(&[entry.codec, entry.kind]);
}

/// Decodes an entry and its number. The values are not checked.
pub fn decode_entry(bytes: &[u8; ENTRY_LEN]) -> Result<(PackEntry, u32), TooShort> {
    let mut reader = ByteReader::new(bytes);
    let id = ChunkId(reader.array()?);
    let number = reader.u32()?;
    let entry = PackEntry {
        id,
        offset: reader.u32()?,
        payload_len: reader.u24()?,
        raw_len: reader.u24()?,
        codec: reader.u8()?,
        kind: reader.u8()?,
    };
    Ok((entry, number))
}

/// Decodes opened entries. The chunks must be stored back to back from the header on, and end at or
/// before `trailer_offset`.
pub fn decode_entries(bytes: &[u8], trailer_offset: u32) -> Result<Vec<PackEntry>, Error> {
    let mut entries = Vec::with_capacity(bytes.len() / ENTRY_LEN);
    let mut next = HEADER_LEN as u64;
    let mut slots = bytes.as_chunks::<ENTRY_LEN>().0.iter();
    for slot in slots.by_ref() {
        if slot.iter().all(|&byte| byte == 0) {
            break;
        }
        let (entry, ordinal) = decode_entry(slot)?;
        if ordinal as usize != entries.len()
            || u64::from(entry.offset) != next
            || entry.raw_len == 0
            || entry.payload_len == 0
        {
            return Err(Error::Entries);
        }
        next += u64::from(entry.payload_len);
        entries.push(entry);
    }
    if next > u64::from(trailer_offset) || slots.any(|slot| slot.iter().any(|&byte| byte != 0)) {
        return Err(Error::Entries);
    }
    Ok(entries)
}

/// The parts of an `.idx` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexParts {
    /// The pack it belongs to.
    pub pack: PackId,
    /// Length of that pack in bytes.
    pub pack_len: u64,
    /// The pack's header.
    pub header: [u8; HEADER_LEN],
    /// The pack's trailer, sealed as it is in the pack.
    pub trailer: Vec<u8>,
    /// The pack's footer.
    pub footer: [u8; FOOTER_LEN],
}

impl IndexParts {
    /// Encodes the whole file.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(INDEX_MIN_LEN + self.trailer.len());
        out.extend_from_slice(INDEX_MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.pack.0);
        out.extend_from_slice(&self.pack_len.to_le_bytes());
        out.extend_from_slice(&self.header);
        out.extend_from_slice(&self.trailer);
        out.extend_from_slice(&self.footer);
        let hash = sha256(&[&out]);
        out.extend_from_slice(&hash);
        out
    }

    /// Decodes a whole `.idx` file.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() < INDEX_MIN_LEN {
            return Err(Error::Length);
        }
        let (body, hash) = bytes.split_last_chunk::<HASH_LEN>().ok_or(TooShort)?;
        let (body, footer) = body.split_last_chunk::<FOOTER_LEN>().ok_or(TooShort)?;
        let mut reader = ByteReader::new(body);
        if reader.array()? != *INDEX_MAGIC {
            return Err(Error::Magic);
        }
        if sha256(&[body, footer]) != *hash {
            return Err(Error::Checksum);
        }
        let version = reader.u32()?;
        if version != VERSION {
            return Err(Error::Version(version));
        }
        reader.slice(4)?;
        Ok(Self {
            pack: PackId(reader.array()?),
            pack_len: reader.u64()?,
            header: reader.array()?,
            trailer: reader.rest().to_vec(),
            footer: *footer,
        })
    }
}

/// Smallest length of a pack in an encrypted repository, in bytes.
pub const SEALED_PACK_FLOOR: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(offset: u32, payload_len: u32) -> PackEntry {
        PackEntry {
            id: ChunkId([9; 32]),
            offset,
            payload_len,
            raw_len: 5,
            codec: 2,
            kind: 1,
        }
    }

    #[test]
    fn entries_round_trip_and_chunks_must_be_stored_back_to_back() {
        let entries = [entry(96, 10), entry(106, MAX_U24)];
        for sealed in [false, true] {
            let bytes = encode_entries(&entries, sealed);
            assert_eq!(bytes.len() + TAG_LEN, trailer_len(2, sealed));
            assert_eq!(decode_entries(&bytes, u32::MAX).unwrap(), entries);
        }
        let gap = encode_entries(&[entry(96, 10), entry(107, 3)], false);
        assert_eq!(decode_entries(&gap, u32::MAX), Err(Error::Entries));
        assert_eq!(
            decode_entries(&encode_entries(&entries, false), 100),
            Err(Error::Entries)
        );
    }

    #[test]
    fn decode_refuses_an_empty_entry_before_the_end() {
        let mut bytes = encode_entries(&[entry(96, 10), entry(106, 10)], false);
        bytes[..ENTRY_LEN].fill(0);
        assert_eq!(decode_entries(&bytes, u32::MAX), Err(Error::Entries));
    }

    #[test]
    fn decode_refuses_a_header_or_footer_with_any_byte_flipped() {
        let header = PackHeader {
            sealed: true,
            meta: false,
            repo: RepoId([1; 16]),
            session: SnapshotId([2; 16]),
            nonce: [3; 16],
            epoch: 7,
        };
        let bytes = header.encode();
        assert_eq!(PackHeader::decode(&bytes), Ok(header));
        for at in 0..HEADER_LEN {
            let mut bad = bytes;
            bad[at] ^= 1;
            assert!(PackHeader::decode(&bad).is_err(), "byte {at}");
        }
        let footer = PackFooter {
            trailer_offset: 96,
            trailer_len: 64,
            body_hash: [4; 32],
        };
        let bytes = footer.encode();
        assert_eq!(PackFooter::decode(&bytes, 224), Ok(footer));
        assert_eq!(PackFooter::decode(&bytes, 225), Err(Error::Length));
        for at in 0..FOOTER_LEN {
            let mut bad = bytes;
            bad[at] ^= 1;
            assert!(PackFooter::decode(&bad, 224).is_err(), "byte {at}");
        }
    }
}
