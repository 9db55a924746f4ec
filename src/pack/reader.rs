//! Reads the contents of a pack from its `.idx`, or from the pack itself.

use super::entry::PackEntry;
use super::format::{Error, FOOTER_LEN, HEADER_LEN, IndexParts, PackFooter, PackHeader, decode_entries};
use super::seal::TrailerSeal;
use crate::crypto::TAG_LEN;
use crate::id::{PackId, RepoId};
use crate::layout;
use crate::storage::{self, Ask, FailedRead, Storage};

/// The opened trailer of a pack.
#[derive(Debug, Clone)]
pub struct PackIndex {
    /// The pack.
    pub pack: PackId,
    /// Its length in bytes.
    pub pack_len: u64,
    /// Its header.
    pub header: PackHeader,
    /// Its entries, in file order.
    pub entries: Vec<PackEntry>,
}

impl PackIndex {
    /// Bytes of the stored chunks and list nodes, without copies of manifests and configs.
    pub fn stored(&self) -> u64 {
        let stored = self.entries.iter().filter(|entry| entry.is_indexed());
        stored.map(|entry| u64::from(entry.payload_len)).sum()
    }
}

/// Why a pack index could not be read.
#[derive(Debug, Clone)]
pub enum ReadError {
    /// The storage failed, or there is no such file.
    Storage(storage::Error),
    /// The bytes are damaged or foreign.
    Format(Error),
}

impl FailedRead for ReadError {
    fn unreadable(&self) -> Option<&storage::Error> {
        match self {
            Self::Storage(error) => error.unreadable(),
            Self::Format(_) => None,
        }
    }
}

impl From<storage::Error> for ReadError {
    fn from(error: storage::Error) -> Self {
        Self::Storage(error)
    }
}

impl From<Error> for ReadError {
    fn from(error: Error) -> Self {
        Self::Format(error)
    }
}

/// Longest `.idx` in bytes: 65,535 entries and the rest of the file, rounded up.
const MAX_INDEX_LEN: u64 = 4 << 20;

/// Reads the `.idx` of a pack.
pub fn read_index(
    storage: &dyn Storage,
    repo: &RepoId,
    seal: &dyn TrailerSeal,
    pack: &PackId,
) -> Result<PackIndex, ReadError> {
    let bytes = storage.get(&layout::pack_index(pack), MAX_INDEX_LEN)?;
    let parts = IndexParts::decode(&bytes)?;
    if parts.pack != *pack {
        return Err(Error::Foreign.into());
    }
    Ok(open_parts(parts, repo, seal)?)
}

/// The read of [`read_index`].
pub fn index_read(pack: &PackId) -> Ask {
    Ask::Get {
        key: layout::pack_index(pack),
        max_len: MAX_INDEX_LEN,
    }
}

/// True when a pack belongs to another repository than `repo`: its header and the copy of that in
/// its `.idx` name another one, as far as they can be read, and at least one of them can. Such a
/// file is not damaged, and it is not this repository's.
pub fn is_foreign(storage: &dyn Storage, repo: &RepoId, pack: &PackId) -> bool {
    // the copy first: nearly always it decides, and no pack is read
    let copied = || {
        let bytes = storage.get(&layout::pack_index(pack), MAX_INDEX_LEN).ok()?;
        PackHeader::decode(&IndexParts::decode(&bytes).ok()?.header).ok()
    };
    let own = || {
        let mut bytes = [0u8; HEADER_LEN];
        storage.get_range(&layout::pack(pack), 0, &mut bytes).ok()?;
        PackHeader::decode(&bytes).ok()
    };
    match copied() {
        Some(header) if header.repo == *repo => false,
        Some(_) => own().is_none_or(|header| header.repo != *repo),
        None => own().is_some_and(|header| header.repo != *repo),
    }
}

/// Reads the contents of a pack from its own header, trailer and footer.
pub fn read_index_from_pack(
    storage: &dyn Storage,
    repo: &RepoId,
    seal: &dyn TrailerSeal,
    pack: &PackId,
) -> Result<PackIndex, ReadError> {
    Ok(open_parts(read_parts(storage, pack)?, repo, seal)?)
}

/// Reads header, trailer and footer from the pack itself, which make up its `.idx`. Only the footer
/// is checked.
pub fn read_parts(storage: &dyn Storage, pack: &PackId) -> Result<IndexParts, ReadError> {
    let key = layout::pack(pack);
    let pack_len = storage
        .size(&key)?
        .ok_or_else(|| storage::Error::new(storage::ErrorKind::NotFound, "read", key.clone()))?;
    if pack_len < (HEADER_LEN + TAG_LEN + FOOTER_LEN) as u64 || pack_len > u64::from(u32::MAX) {
        return Err(Error::Length.into());
    }
    let mut header = [0u8; HEADER_LEN];
    storage.get_range(&key, 0, &mut header)?;
    let mut footer = [0u8; FOOTER_LEN];
    storage.get_range(&key, pack_len - FOOTER_LEN as u64, &mut footer)?;
    let ends = PackFooter::decode(&footer, pack_len)?;
    let mut trailer = vec![0u8; ends.trailer_len as usize];
    storage.get_range(&key, u64::from(ends.trailer_offset), &mut trailer)?;
    Ok(IndexParts {
        pack: *pack,
        pack_len,
        header,
        trailer,
        footer,
    })
}

/// Opens and checks the parts of a pack or of an `.idx`.
pub fn open_parts(mut parts: IndexParts, repo: &RepoId, seal: &dyn TrailerSeal) -> Result<PackIndex, Error> {
    let header = PackHeader::decode(&parts.header)?;
    if header.repo != *repo || header.sealed != seal.is_sealed() {
        return Err(Error::Foreign);
    }
    let footer = PackFooter::decode(&parts.footer, parts.pack_len)?;
    if parts.trailer.len() != footer.trailer_len as usize {
        return Err(Error::Length);
    }
    let (entries, tag) = parts.trailer.split_last_chunk_mut::<TAG_LEN>().ok_or(Error::Length)?;
    if !seal.open(header.epoch, &footer.body_hash, entries, tag) {
        return Err(Error::Checksum);
    }
    let entries = decode_entries(entries, footer.trailer_offset)?;
    Ok(PackIndex {
        pack: parts.pack,
        pack_len: parts.pack_len,
        header,
        entries,
    })
}
