//! The copy of a manifest in a session's last meta pack (`docs/format.md` §8.3): cut into parts that are stored like chunks.
//!
//! Always true: what [`join`] gives back is, by hash, the exact file that was cut. Naming and storing the parts, and
//! whether a snapshot may be brought back from them, is left to the caller.

use super::error::{Error, damaged};
use super::model::MAX_MANIFEST_LEN;
use crate::bytes::ByteReader;
use crate::crypto;
use crate::id::SnapshotId;
use std::collections::BTreeMap;

/// Longest part with its header, in bytes.
pub const MAX_COPY_CHUNK_LEN: usize = 1 << 20;

const MAGIC: [u8; 4] = *b"CAMC";
const COPY_VERSION: u32 = 1;
/// Magic, version, snapshot, part, parts, length and hash of the manifest.
const HEADER_LEN: usize = MAGIC.len() + 4 + SnapshotId::LEN + 4 + 4 + 8 + 32;
const MAX_PART_LEN: usize = MAX_COPY_CHUNK_LEN - HEADER_LEN;

/// A part of a manifest file. Its header was checked, what it carries only as far as that goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyPart {
    /// Which snapshot.
    pub snapshot: SnapshotId,
    /// Which part, from 0.
    pub part: u32,
    /// How many parts there are.
    pub parts: u32,
    /// Length of the whole manifest file in bytes.
    pub manifest_len: u64,
    /// SHA-256 of the whole manifest file.
    pub manifest_sha256: [u8; 32],
    /// The bytes of this part.
    pub bytes: Vec<u8>,
}

/// Cuts the exact bytes of a manifest file into encoded parts, each at most [`MAX_COPY_CHUNK_LEN`] long.
pub fn split_copy(id: SnapshotId, manifest: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let sha256 = crypto::sha256(&[manifest]);
    let parts = manifest.len().div_ceil(MAX_PART_LEN) as u32;
    (0u32..).zip(manifest.chunks(MAX_PART_LEN)).map(move |(part, bytes)| {
        let mut out = Vec::with_capacity(HEADER_LEN + bytes.len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&COPY_VERSION.to_le_bytes());
        out.extend_from_slice(&id.0);
        out.extend_from_slice(&part.to_le_bytes());
        out.extend_from_slice(&parts.to_le_bytes());
        out.extend_from_slice(&(manifest.len() as u64).to_le_bytes());
        out.extend_from_slice(&sha256);
        out.extend_from_slice(bytes);
        out
    })
}

impl CopyPart {
    /// Reads one part. Fails with `Damaged` or `UnsupportedVersion`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return damaged("a part of a manifest's copy is too short");
        };
        let mut reader = ByteReader::new(header);
        if reader.array()? != MAGIC {
            return damaged("a part of a manifest's copy does not begin as one");
        }
        let version = reader.u32()?;
        if version != COPY_VERSION {
            return Err(Error::UnsupportedVersion(u64::from(version)));
        }
        let part = Self {
            snapshot: SnapshotId(reader.array()?),
            part: reader.u32()?,
            parts: reader.u32()?,
            manifest_len: reader.u64()?,
            manifest_sha256: reader.array()?,
            bytes: rest.to_vec(),
        };
        if rest.is_empty() || rest.len() > MAX_PART_LEN || part.manifest_len > MAX_MANIFEST_LEN {
            return damaged("a length in a part of a manifest's copy is out of range");
        }
        // every part holds at least one byte
        if part.part >= part.parts || u64::from(part.parts) > part.manifest_len {
            return damaged("the number of a part of a manifest's copy is out of range");
        }
        if part.manifest_len < rest.len() as u64 {
            return damaged("a part of a manifest's copy is longer than the whole");
        }
        Ok(part)
    }
}

/// The parts of one manifest file as they are found, in whatever order and however often. Never holds more than that file.
pub struct Joining {
    snapshot: SnapshotId,
    parts: u32,
    manifest_len: u64,
    manifest_sha256: [u8; 32],
    found: BTreeMap<u32, Vec<u8>>,
    found_len: u64,
}

impl Joining {
    /// Begins with one of the parts.
    pub fn new(first: CopyPart) -> Self {
        let mut joining = Self {
            snapshot: first.snapshot,
            parts: first.parts,
            manifest_len: first.manifest_len,
            manifest_sha256: first.manifest_sha256,
            found: BTreeMap::new(),
            found_len: 0,
        };
        joining.add(first);
        joining
    }

    /// Adds a part. One of another file, one that is there already, and one that would be too much are left out.
    pub fn add(&mut self, part: CopyPart) {
        let whole = (part.snapshot, part.parts, part.manifest_len, part.manifest_sha256);
        let len = self.found_len + part.bytes.len() as u64;
        let fits = whole == (self.snapshot, self.parts, self.manifest_len, self.manifest_sha256)
            && len <= self.manifest_len
            && !self.found.contains_key(&part.part);
        if fits {
            self.found_len = len;
            self.found.insert(part.part, part.bytes);
        }
    }

    /// The manifest file. Fails with `Damaged` when parts are missing, or the whole does not have its hash.
    pub fn finish(self) -> Result<(SnapshotId, Vec<u8>), Error> {
        if self.found_len != self.manifest_len || self.found.len() as u64 != u64::from(self.parts) {
            return damaged("a manifest's copy is not complete");
        }
        // the numbers differ and are below the number of parts, so they are all there
        let bytes: Vec<u8> = self.found.into_values().flatten().collect();
        if crypto::sha256(&[&bytes]) != self.manifest_sha256 {
            return damaged("a manifest's copy does not have its hash");
        }
        Ok((self.snapshot, bytes))
    }
}

/// The first whole copy of the manifest of `wanted` that `accept` takes, from parts that lie at `places`. They are read
/// twice, so that there is never more than one copy in memory, however many parts of however many copies there are.
pub fn join_from<P, T, E>(
    wanted: &SnapshotId,
    places: &[P],
    read: &mut dyn FnMut(&P) -> Result<Option<CopyPart>, E>,
    accept: &mut dyn FnMut(&[u8]) -> Option<T>,
) -> Result<Option<T>, E> {
    let mut copies: BTreeMap<[u8; 32], Vec<&P>> = BTreeMap::new();
    for place in places {
        if let Some(part) = read(place)?.filter(|part| part.snapshot == *wanted) {
            copies.entry(part.manifest_sha256).or_default().push(place);
        }
    }
    for places in copies.into_values() {
        let mut joining: Option<Joining> = None;
        for place in places {
            match (read(place)?, &mut joining) {
                (Some(part), Some(joining)) => joining.add(part),
                (Some(part), None) => joining = Some(Joining::new(part)),
                (None, _) => {}
            }
        }
        let whole = joining.and_then(|joining| joining.finish().ok());
        let taken = whole
            .filter(|(id, _)| id == wanted)
            .and_then(|(_, bytes)| accept(&bytes));
        if taken.is_some() {
            return Ok(taken);
        }
    }
    Ok(None)
}

/// Puts the parts of one manifest file together; see [`Joining`].
pub fn join(parts: Vec<CopyPart>) -> Result<(SnapshotId, Vec<u8>), Error> {
    let mut parts = parts.into_iter();
    let Some(first) = parts.next() else {
        return damaged("a manifest's copy has no parts");
    };
    let mut joining = Joining::new(first);
    parts.for_each(|part| joining.add(part));
    joining.finish()
}
