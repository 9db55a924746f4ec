//! The copy of a manifest in a session's last meta pack (`docs/format.md` §8.3): cut into parts that are stored like chunks.
//!
//! Always true: what [`join`] gives back is, by hash, the exact file that was cut. Naming and storing the parts, and
//! whether a snapshot may be brought back from them, is left to the caller.

use super::{Error, MAX_MANIFEST_LEN, damaged};
use crate::crypto;
use crate::id::SnapshotId;

/// Longest part with its header, in bytes.
pub const MAX_COPY_CHUNK_LEN: usize = 1 << 20;

const MAGIC: [u8; 4] = *b"CAMC";
const COPY_VERSION: u32 = 1;
const HEADER_LEN: usize = 72;
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
        if header[0..4] != MAGIC {
            return damaged("a part of a manifest's copy does not begin as one");
        }
        let version = u32::from_le_bytes(field(header, 4));
        if version != COPY_VERSION {
            return Err(Error::UnsupportedVersion(u64::from(version)));
        }
        let part = Self {
            snapshot: SnapshotId(field(header, 8)),
            part: u32::from_le_bytes(field(header, 24)),
            parts: u32::from_le_bytes(field(header, 28)),
            manifest_len: u64::from_le_bytes(field(header, 32)),
            manifest_sha256: field(header, 40),
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

/// Puts the parts of one manifest file together, in whatever order they come; a part may be there more than once. Fails
/// with `Damaged` when parts are missing, belong to different files, or the whole does not have its hash.
pub fn join(mut parts: Vec<CopyPart>) -> Result<(SnapshotId, Vec<u8>), Error> {
    parts.sort_by_key(|part| part.part);
    parts.dedup();
    let Some(first) = parts.first() else {
        return damaged("a manifest's copy has no parts");
    };
    let whole = |part: &CopyPart| (part.snapshot, part.parts, part.manifest_len, part.manifest_sha256);
    if parts.iter().any(|part| whole(part) != whole(first)) {
        return damaged("the parts of a manifest's copy belong to different files");
    }
    if parts.len() as u64 != u64::from(first.parts) || (0u32..).zip(&parts).any(|(number, part)| part.part != number) {
        return damaged("a manifest's copy is not complete");
    }
    let len: u64 = parts.iter().map(|part| part.bytes.len() as u64).sum();
    if len != first.manifest_len {
        return damaged("a manifest's copy has the wrong length");
    }
    let bytes: Vec<u8> = parts.iter().flat_map(|part| part.bytes.iter().copied()).collect();
    if crypto::sha256(&[&bytes]) != first.manifest_sha256 {
        return damaged("a manifest's copy does not have its hash");
    }
    Ok((first.snapshot, bytes))
}

/// `N` bytes of the header.
fn field<const N: usize>(header: &[u8; HEADER_LEN], offset: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&header[offset..offset + N]);
    out
}
