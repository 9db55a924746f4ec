//! The copy of a manifest in the last meta pack of its session (`docs/format.md` §8.3), split into
//! parts that are stored like chunks.
//!
//! Invariant: the result of [`join`] is, by its hash, the exact file that was split. Ids and
//! storage of the parts, and whether a snapshot may be restored from them, are left to the caller.

use super::error::{Error, damaged};
use super::model::MAX_MANIFEST_LEN;
use crate::bytes::ByteReader;
use crate::crypto;
use crate::id::SnapshotId;
use std::collections::BTreeMap;

/// Longest encoded part, header included, in bytes.
pub const MAX_COPY_CHUNK_LEN: usize = 1 << 20;

const MAGIC: [u8; 4] = *b"CAMC";
const COPY_VERSION: u32 = 1;
/// Magic, version, snapshot, part, parts; length and hash of the manifest.
const HEADER_LEN: usize = MAGIC.len() + 4 + SnapshotId::LEN + 4 + 4 + 8 + 32;
const MAX_PART_LEN: usize = MAX_COPY_CHUNK_LEN - HEADER_LEN;

/// A part of a manifest file. Only its header was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyPart {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Number of this part, from 0.
    pub part: u32,
    /// Number of parts.
    pub parts: u32,
    /// Length of the whole manifest file in bytes.
    pub manifest_len: u64,
    /// SHA-256 of the whole manifest file.
    pub manifest_sha256: [u8; 32],
    /// The bytes of this part.
    pub bytes: Vec<u8>,
}

/// Splits the exact bytes of a manifest file into encoded parts of at most [`MAX_COPY_CHUNK_LEN`]
/// bytes.
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
    /// Decodes a part. Fails with `Damaged` or `UnsupportedVersion`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return damaged("a part of a manifest's copy is too short");
        };
        let mut reader = ByteReader::new(header);
        if reader.array()? != MAGIC {
            return damaged("a part of a manifest's copy has no magic");
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

/// Joins the parts of one manifest file, which may come in any order and repeatedly. Holds at most
/// the length of that file.
pub struct Joining {
    snapshot: SnapshotId,
    parts: u32,
    manifest_len: u64,
    manifest_sha256: [u8; 32],
    found: BTreeMap<u32, Vec<u8>>,
    found_len: u64,
}

impl Joining {
    /// Starts with any of the parts.
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

    /// Adds a part. Ignores a part of another file, one that was added before, and one that would
    /// exceed the length of the file.
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

    /// Returns the manifest file. Fails with `Damaged` when parts are missing, or the hash of the
    /// file is wrong.
    pub fn finish(self) -> Result<(SnapshotId, Vec<u8>), Error> {
        if self.found_len != self.manifest_len || self.found.len() as u64 != u64::from(self.parts) {
            return damaged("a manifest's copy is not complete");
        }
        // the numbers differ and are below the number of parts, so no part is missing
        let bytes: Vec<u8> = self.found.into_values().flatten().collect();
        if crypto::sha256(&[&bytes]) != self.manifest_sha256 {
            return damaged("the hash of a manifest's copy is wrong");
        }
        Ok((self.snapshot, bytes))
    }
}

/// Returns the result of `accept` for the first complete copy of the manifest of `wanted` that it
/// accepts. `locations` are those of parts. They are read twice, so that at most one copy is in
/// memory, whatever the number of parts and copies.
pub fn join_from<P, T, E>(
    wanted: &SnapshotId,
    locations: &[P],
    read: &mut dyn FnMut(&P) -> Result<Option<CopyPart>, E>,
    accept: &mut dyn FnMut(&[u8]) -> Option<T>,
) -> Result<Option<T>, E> {
    let mut copies: BTreeMap<[u8; 32], Vec<&P>> = BTreeMap::new();
    for location in locations {
        if let Some(part) = read(location)?.filter(|part| part.snapshot == *wanted) {
            copies.entry(part.manifest_sha256).or_default().push(location);
        }
    }
    for locations in copies.into_values() {
        let mut joining: Option<Joining> = None;
        for location in locations {
            match (read(location)?, &mut joining) {
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

/// Joins the parts of one manifest file; see [`Joining`].
pub fn join(parts: Vec<CopyPart>) -> Result<(SnapshotId, Vec<u8>), Error> {
    let mut parts = parts.into_iter();
    let Some(first) = parts.next() else {
        return damaged("a manifest's copy has no parts");
    };
    let mut joining = Joining::new(first);
    parts.for_each(|part| joining.add(part));
    joining.finish()
}
