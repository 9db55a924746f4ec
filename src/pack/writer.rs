//! Builds one pack in memory: append stored chunks, then finish. The file is named by its hash, so
//! it can be written only when it is complete.

use super::entry::PackEntry;
use super::format::{
    FOOTER_LEN, HEADER_LEN, IndexParts, MAX_ENTRIES, PackFooter, PackHeader, SEALED_PACK_FLOOR, encode_entries,
    trailer_len,
};
use super::seal::TrailerSeal;
use crate::buffer::Buffer;
use crate::crypto::{padme, sha256_each};
use crate::id::{ChunkId, PackId};
use crate::sha256::Stream;

/// A pack that is being filled, in a [`Buffer`] whose size is the upper bound.
pub struct PackWriter {
    buffer: Buffer,
    header: PackHeader,
    entries: Vec<PackEntry>,
}

/// A complete pack, ready to be put.
pub struct FinishedPack {
    /// Its id.
    pub id: PackId,
    /// The bytes of the file.
    pub bytes: Buffer,
    /// The bytes of its `.idx`.
    pub index: Vec<u8>,
    /// Its entries, in file order.
    pub entries: Vec<PackEntry>,
}

/// Length in bytes of a pack with `count` stored chunks of `chunk_bytes` bytes together, padding
/// included.
fn whole_len(chunk_bytes: usize, count: usize, sealed: bool) -> usize {
    let bare = HEADER_LEN + chunk_bytes + trailer_len(count, sealed) + FOOTER_LEN;
    if sealed {
        padme((bare as u64).max(SEALED_PACK_FLOOR)) as usize
    } else {
        bare
    }
}

impl PackWriter {
    /// Starts a pack in an empty `buffer`. `None` when the buffer cannot hold the header.
    pub fn create(mut buffer: Buffer, header: PackHeader) -> Option<Self> {
        buffer.clear();
        buffer.extend_from_slice(&header.encode()).ok()?;
        Some(Self {
            buffer,
            header,
            entries: Vec::new(),
        })
    }

    /// True when another stored chunk of `payload_len` bytes fits.
    pub fn fits(&self, payload_len: usize) -> bool {
        self.entries.len() < MAX_ENTRIES
            && whole_len(
                self.body_len() + payload_len,
                self.entries.len() + 1,
                self.header.sealed,
            ) <= self.buffer.len()
    }

    /// True when this pack is not empty and another stored chunk of `payload_len` bytes would make
    /// it longer than `target` bytes. Its buffer may be larger than the target, so that every chunk
    /// fits into an empty pack.
    pub fn would_pass(&self, target: u64, payload_len: usize) -> bool {
        let chunk_bytes = self.body_len() + payload_len;
        let whole = whole_len(chunk_bytes, self.entries.len() + 1, self.header.sealed);
        !self.entries.is_empty() && whole as u64 > target
    }

    /// Bytes of stored chunks so far.
    pub fn body_len(&self) -> usize {
        self.buffer.filled().len() - HEADER_LEN
    }

    /// Its entries so far, in file order.
    pub fn entries(&self) -> &[PackEntry] {
        &self.entries
    }

    /// The stored chunk of an entry of this pack.
    pub fn payload(&self, entry: &PackEntry) -> Option<&[u8]> {
        let start = entry.offset as usize;
        self.buffer.filled().get(start..start + entry.payload_len as usize)
    }

    /// Appends a stored chunk that [`fits`](Self::fits). Otherwise returns `false` and changes
    /// nothing.
    pub fn append(&mut self, id: ChunkId, raw_len: u32, codec: u8, kind: u8, payload: &[u8]) -> bool {
        let offset = self.buffer.filled().len();
        let (Ok(offset), Ok(payload_len)) = (u32::try_from(offset), u32::try_from(payload.len())) else {
            return false;
        };
        if !self.fits(payload.len()) || self.buffer.extend_from_slice(payload).is_err() {
            return false;
        }
        self.entries.push(PackEntry {
            id,
            offset,
            payload_len,
            raw_len,
            codec,
            kind,
        });
        true
    }

    /// True when this pack is for list nodes and copies.
    pub fn is_meta(&self) -> bool {
        self.header.meta
    }

    /// Adds padding, trailer and footer to each pack; their bytes are hashed side by side. `None`
    /// only when the cipher fails, which it does for no pack.
    pub fn finish_all(mut packs: Vec<Self>, seal: &dyn TrailerSeal) -> Option<Vec<FinishedPack>> {
        for pack in &mut packs {
            pack.pad(seal)?;
        }
        let mut hashes = vec![Stream::default(); packs.len()];
        let bodies = packs.iter().map(|pack| pack.buffer.filled());
        let mut pieces: Vec<(&mut Stream, &[u8])> = hashes.iter_mut().zip(bodies).collect();
        sha256_each(&[], &mut pieces);
        packs
            .into_iter()
            .zip(hashes)
            .map(|(pack, hash)| pack.close(hash, seal))
            .collect()
    }

    fn pad(&mut self, seal: &dyn TrailerSeal) -> Option<()> {
        let (count, sealed) = (self.entries.len(), self.header.sealed);
        let whole = whole_len(self.body_len(), count, sealed);
        let trailer_offset = whole - FOOTER_LEN - trailer_len(count, sealed);
        let pad_len = trailer_offset - self.buffer.filled().len();
        if pad_len > 0 {
            let spare = self.buffer.spare();
            if !seal.pad(&self.header.nonce, spare.get_mut(..pad_len)?) {
                return None;
            }
            self.buffer.advance(pad_len);
        }
        Some(())
    }

    /// Adds trailer and footer. `hash` is that of everything before them.
    fn close(mut self, mut hash: Stream, seal: &dyn TrailerSeal) -> Option<FinishedPack> {
        let body_hash = hash.clone().finish();
        let mut trailer = encode_entries(&self.entries, self.header.sealed);
        let tag = seal.seal(&body_hash, &mut trailer)?;
        trailer.extend_from_slice(&tag);
        let footer = PackFooter {
            trailer_offset: u32::try_from(self.buffer.filled().len()).ok()?,
            trailer_len: u32::try_from(trailer.len()).ok()?,
            body_hash,
        }
        .encode();
        hash.update(&trailer);
        hash.update(&footer);
        let id = PackId(hash.finish());
        self.buffer.extend_from_slice(&trailer).ok()?;
        self.buffer.extend_from_slice(&footer).ok()?;
        let index = IndexParts {
            pack: id,
            pack_len: self.buffer.filled().len() as u64,
            header: self.header.encode(),
            trailer,
            footer,
        };
        Some(FinishedPack {
            id,
            bytes: self.buffer,
            index: index.encode(),
            entries: self.entries,
        })
    }
}
