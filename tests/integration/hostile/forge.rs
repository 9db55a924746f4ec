//! Files as an attacker writes them: with correct checksums, so that false values reach the parser.
//! Written from `docs/format.md`, for plain repositories, which anyone with write access can forge.

use containerarchive::checked_json;
use containerarchive::crypto::{check8, sha256, tag16};
use containerarchive::id::{ChunkId, GroupId, PackId, RepoId, SegmentId, SnapshotId, to_hex};
use containerarchive::parity::{GroupHead, GroupRecord, Part};

/// Overwrites bytes at an offset.
pub fn patch(bytes: &mut [u8], at: usize, with: &[u8]) {
    bytes[at..at + with.len()].copy_from_slice(with);
}

/// A stored chunk and its entry.
#[derive(Clone)]
pub struct Stored {
    pub id: ChunkId,
    pub payload: Vec<u8>,
    pub raw_len: u32,
    pub codec: u8,
    pub kind: u8,
}

impl Stored {
    /// A data chunk, not compressed.
    pub fn data(bytes: &[u8]) -> Self {
        Self {
            id: ChunkId(sha256(&[bytes])),
            payload: bytes.to_vec(),
            raw_len: bytes.len() as u32,
            codec: 0,
            kind: 0,
        }
    }

    /// A data chunk whose entry states `raw_len` bytes of `codec`.
    pub fn encoded(id: [u8; 32], payload: Vec<u8>, raw_len: u32, codec: u8) -> Self {
        Self {
            id: ChunkId(id),
            payload,
            raw_len,
            codec,
            kind: 0,
        }
    }

    /// A list node.
    pub fn node(node: &[u8]) -> Self {
        Self {
            id: ChunkId(sha256(&[b"containerarchive/list/v1\0", node])),
            kind: 1,
            ..Self::data(node)
        }
    }

    /// A part of the copy of a manifest.
    pub fn copy(bytes: &[u8]) -> Self {
        Self {
            id: ChunkId(sha256(&[b"containerarchive/copy/v1\0", bytes])),
            kind: 2,
            ..Self::data(bytes)
        }
    }
}

/// A list node with any content.
pub fn node(level: u8, entries: &[Vec<u8>]) -> Vec<u8> {
    let mut out = b"CALN".to_vec();
    out.extend([1, level]);
    out.extend(if level == 0 { 36u16 } else { 44 }.to_le_bytes());
    out.extend((entries.len() as u32).to_le_bytes());
    out.extend([0; 4]);
    entries.iter().for_each(|entry| out.extend(entry));
    out
}

/// An entry of a leaf.
pub fn leaf_entry(id: &ChunkId, raw_len: u32) -> Vec<u8> {
    [&id.0[..], &raw_len.to_le_bytes()].concat()
}

/// An entry of an inner node.
pub fn inner_entry(id: &ChunkId, size: u64, chunks: u32) -> Vec<u8> {
    [&id.0[..], &size.to_le_bytes(), &chunks.to_le_bytes()].concat()
}

/// The parts of a pack before its checksums are computed.
pub struct PackParts {
    pub header: Vec<u8>,
    pub body: Vec<u8>,
    pub entries: Vec<Vec<u8>>,
    /// The values in the footer; computed if `None`.
    pub trailer_offset: Option<u32>,
    pub trailer_len: Option<u32>,
    /// The values in the `.idx`.
    pub index_pack_len: Option<u64>,
    pub index_pack: Option<PackId>,
}

/// A pack and its `.idx`.
pub struct ForgedPack {
    pub id: PackId,
    pub pack: Vec<u8>,
    pub index: Vec<u8>,
}

/// Returns a pack of these chunks; `edit` falsifies its parts.
pub fn pack(repo: RepoId, session: [u8; 16], stored: &[Stored], edit: impl Fn(&mut PackParts)) -> ForgedPack {
    let meta = stored.iter().any(|chunk| chunk.kind != 0);
    let mut header = b"CAPACK01".to_vec();
    header.extend(1u32.to_le_bytes());
    header.extend(if meta { 2u32 } else { 0 }.to_le_bytes());
    header.extend(repo.0);
    header.extend(session);
    header.extend([0x77; 16]);
    header.extend([0; 24]);
    let mut parts = PackParts {
        header,
        body: Vec::new(),
        entries: Vec::new(),
        trailer_offset: None,
        trailer_len: None,
        index_pack_len: None,
        index_pack: None,
    };
    for (ordinal, chunk) in (0u32..).zip(stored) {
        let offset = 96 + parts.body.len() as u32;
        parts.body.extend(&chunk.payload);
        let entry = [
            &chunk.id.0[..],
            &ordinal.to_le_bytes(),
            &offset.to_le_bytes(),
            &(chunk.payload.len() as u32).to_le_bytes()[..3],
            &chunk.raw_len.to_le_bytes()[..3],
            &[chunk.codec, chunk.kind],
        ];
        parts.entries.push(entry.concat());
    }
    edit(&mut parts);
    finish_pack(parts)
}

fn finish_pack(parts: PackParts) -> ForgedPack {
    let mut header = parts.header;
    let check = check8(&header[..88]);
    header.extend(check);
    let mut pack = [&header[..], &parts.body].concat();
    let body_hash = sha256(&[&pack]);
    let entries = parts.entries.concat();
    let tag = tag16("containerarchive/trailer/v1", &[&body_hash, &entries]);
    let trailer = [&entries[..], &tag].concat();
    let mut footer = b"CAPEND01".to_vec();
    footer.extend(parts.trailer_offset.unwrap_or(pack.len() as u32).to_le_bytes());
    footer.extend(parts.trailer_len.unwrap_or(trailer.len() as u32).to_le_bytes());
    footer.extend(body_hash);
    footer.extend([0; 8]);
    let check = check8(&footer);
    footer.extend(check);
    pack.extend(&trailer);
    pack.extend(&footer);
    let id = PackId(sha256(&[&pack]));

    let mut index = b"CAPIDX01".to_vec();
    index.extend(1u32.to_le_bytes());
    index.extend([0; 4]);
    index.extend(parts.index_pack.unwrap_or(id).0);
    index.extend(parts.index_pack_len.unwrap_or(pack.len() as u64).to_le_bytes());
    index.extend(&header);
    index.extend(&trailer);
    index.extend(&footer);
    let hash = sha256(&[&index]);
    index.extend(hash);
    ForgedPack { id, pack, index }
}

/// Recomputes the checksum of an `.idx`, a kill list, or another file that ends with the SHA-256 of
/// the bytes before.
pub fn reseal_hash(bytes: &mut Vec<u8>) {
    bytes.truncate(bytes.len() - 32);
    let hash = sha256(&[bytes]);
    bytes.extend(hash);
}

/// An unencrypted manifest.
pub struct Manifest {
    pub id: SnapshotId,
    pub size: u64,
    pub chunk_count: u64,
    /// The JSON of the members of the only item that define its chunks, as `"chunks":[]`.
    pub content: String,
    /// The JSON of further members of the manifest, each after a comma.
    pub more: String,
}

impl Manifest {
    /// A snapshot of one item.
    pub fn new(id: u8, size: u64, chunk_count: u64, content: String) -> Self {
        Self {
            id: SnapshotId([id; 16]),
            size,
            chunk_count,
            content,
            more: String::new(),
        }
    }

    /// An item with a list.
    pub fn list(id: u8, size: u64, chunk_count: u64, root: &ChunkId, level: u8) -> Self {
        let content = format!(r#""list":{{"root":"{root}","level":{level}}}"#);
        Self::new(id, size, chunk_count, content)
    }

    /// An item with these chunks.
    pub fn chunks(id: u8, chunks: &[(ChunkId, u32)]) -> Self {
        let entries: Vec<String> = chunks.iter().map(|(id, len)| format!("[\"{id}\",{len}]")).collect();
        let size = chunks.iter().map(|(_, len)| u64::from(*len)).sum();
        Self::new(
            id,
            size,
            chunks.len() as u64,
            format!(r#""chunks":[{}]"#, entries.join(",")),
        )
    }

    /// Returns the JSON without its checksum.
    pub fn text(&self) -> String {
        let Self {
            id,
            size,
            chunk_count,
            content,
            more,
        } = self;
        format!(
            r#"{{"version":1,"id":"{id}","createdAt":"2026-11-23T01:45:00.123Z","tags":{{}},"originalSize":{size},"storedSize":0,"chunkCount":{chunk_count},"newChunks":0,"reusedChunks":{chunk_count},"writer":{{"tool":"containerarchive","version":"0.1.0"}},"items":[{{"name":"data","type":"test","size":{size},"chunkCount":{chunk_count},{content}}}]{more}}}"#
        )
    }

    /// Returns the bytes of the file.
    pub fn bytes(&self) -> Vec<u8> {
        checked_json::finish(self.text()).into_bytes()
    }
}

/// A segment of at most 85 entries and 102 packs, page by page.
pub struct Segment {
    pub id: SegmentId,
    pub repo: RepoId,
    /// The entries, with pack ordinals.
    pub entries: Vec<Vec<u8>>,
    pub packs: Vec<(PackId, u64)>,
    pub superseded: Vec<SegmentId>,
    /// The content of the filter page; all ones admit every id.
    pub filter: u8,
    /// Written over the content of the footer.
    pub footer_patch: Vec<(usize, Vec<u8>)>,
    /// Written over the content of the header.
    pub header_patch: Vec<(usize, Vec<u8>)>,
}

impl Segment {
    /// An empty segment.
    pub fn new(id: u8, repo: RepoId) -> Self {
        Self {
            id: SegmentId([id; 16]),
            repo,
            entries: Vec::new(),
            packs: Vec::new(),
            superseded: Vec::new(),
            filter: 0xff,
            footer_patch: Vec::new(),
            header_patch: Vec::new(),
        }
    }

    /// Adds an entry. The caller keeps the order.
    pub fn entry(
        mut self,
        id: &ChunkId,
        pack: u32,
        offset: u32,
        payload_len: u32,
        raw_len: u32,
        codes: [u8; 2],
    ) -> Self {
        let entry = [
            &id.0[..],
            &pack.to_le_bytes(),
            &offset.to_le_bytes(),
            &payload_len.to_le_bytes()[..3],
            &raw_len.to_le_bytes()[..3],
            &codes,
        ];
        self.entries.push(entry.concat());
        self
    }

    /// Returns the bytes of the file.
    pub fn bytes(&self) -> Vec<u8> {
        let page = |content: &[u8]| {
            let mut page = vec![0u8; 4080];
            patch(&mut page, 0, content);
            page
        };
        let ids: Vec<&[u8]> = self.entries.iter().map(|entry| &entry[..32]).collect();
        let first: Vec<u8> = ids.first().map_or(vec![0; 32], |id| id.to_vec());
        let last: Vec<u8> = ids.last().map_or(vec![0; 32], |id| id.to_vec());
        let mut fence = [0u8; 8];
        fence.copy_from_slice(&first[..8]);
        fence.reverse();
        let used = usize::from(!self.entries.is_empty());
        let mut pages: Vec<(u32, Vec<u8>)> = Vec::new();
        for _ in 0..used {
            pages.push((1, page(&self.entries.concat())));
            pages.push((2, page(&fence)));
            pages.push((3, page(&fence)));
        }
        pages.push((4, page(&vec![self.filter; 63 * 64])));
        let rows: Vec<Vec<u8>> = self
            .packs
            .iter()
            .map(|(pack, len)| [&pack.0[..], &len.to_le_bytes()].concat())
            .collect();
        pages.extend(rows.chunks(102).map(|rows| (5, page(&rows.concat()))));
        let superseded: Vec<Vec<u8>> = self.superseded.iter().map(|id| id.0.to_vec()).collect();
        pages.extend(superseded.chunks(255).map(|ids| (6, page(&ids.concat()))));

        let count = |section: u32| pages.iter().filter(|(of, _)| *of == section).count() as u64;
        let mut footer = b"CASEGEND".to_vec();
        footer.extend((pages.len() as u64 + 2).to_le_bytes());
        footer.extend((self.entries.len() as u64).to_le_bytes());
        (1..=6).for_each(|section| footer.extend(count(section).to_le_bytes()));
        footer.extend((self.packs.len() as u64).to_le_bytes());
        footer.extend((self.superseded.len() as u64).to_le_bytes());
        footer.extend(&first);
        footer.extend(&last);
        let mut footer = page(&footer);
        self.footer_patch
            .iter()
            .for_each(|(at, with)| patch(&mut footer, *at, with));
        pages.push((7, footer));

        let mut header = b"CASEG001".to_vec();
        header.extend(1u32.to_le_bytes());
        header.extend(0u32.to_le_bytes());
        header.extend(self.repo.0);
        header.extend(self.id.0);
        let mut header = page(&header);
        self.header_patch
            .iter()
            .for_each(|(at, with)| patch(&mut header, *at, with));
        let tag = tag16("containerarchive/segment/v1", &[&header]);
        let mut out = [&header[..], &tag].concat();
        for (number, (section, content)) in (1u64..).zip(pages) {
            let position = [&self.id.0[..], &section.to_le_bytes(), &number.to_le_bytes()].concat();
            let tag = tag16("containerarchive/segment-page/v1", &[&position, &content]);
            out.extend(content);
            out.extend(tag);
        }
        out
    }

    /// Returns its key.
    pub fn key(&self) -> String {
        format!("index/{}.seg", to_hex(&self.id.0))
    }
}

/// Returns the `.grp` and the first `.par` of a group. `edit` changes the bytes of the record
/// before its hash and the prefixes are computed.
pub fn group(record: &GroupRecord, shard: &[u8], edit: impl Fn(&mut Vec<u8>)) -> [(String, Vec<u8>); 2] {
    let mut bytes = record.encode();
    edit(&mut bytes);
    reseal_hash(&mut bytes);
    let head = &record.head;
    let prefix = |part: Part| {
        let mut prefix = head.prefix(part).encode();
        let members = u32::from_le_bytes(bytes[60..64].try_into().unwrap());
        let superseded = u32::from_le_bytes(bytes[64..68].try_into().unwrap());
        let front = (80u64 + 16 * u64::from(superseded) + 64 * u64::from(members)).min(bytes.len() as u64);
        let check = check8(&bytes[..front as usize]);
        patch(&mut prefix, 48, &check);
        patch(&mut prefix, 32, &(bytes.len() as u64).to_le_bytes());
        let whole = check8(&prefix[..56]);
        patch(&mut prefix, 56, &whole);
        prefix
    };
    let file = [&prefix(Part::Group)[..], &bytes].concat();
    let mut front = [&prefix(Part::Shard(0))[..], &bytes].concat();
    front.resize(front.len().next_multiple_of(4096), 0);
    let par = [&front[..], shard, &bytes, &prefix(Part::Shard(0))].concat();
    [(Part::Group.key(&head.id), file), (Part::Shard(0).key(&head.id), par)]
}

/// A record with sums of zero, for a head.
pub fn empty_record(head: GroupHead) -> GroupRecord {
    let member_sums = head
        .members
        .iter()
        .map(|member| vec![0; member.rows() as usize])
        .collect();
    let shard_sums = vec![vec![0; head.stripe_rows() as usize]; usize::from(head.shape.parity)];
    let config = vec![b'x'; head.config_len as usize];
    GroupRecord {
        head,
        member_sums,
        shard_sums,
        config,
    }
}

/// A group id.
pub fn group_id(byte: u8) -> GroupId {
    GroupId([byte; 16])
}

/// Returns a kill list; `counts` are the counts that it states.
pub fn kill_list(repo: RepoId, id: u8, packs: &[PackId], counts: Option<(u32, u32)>, flags: u32) -> Vec<u8> {
    let mut out = b"CAKILL01".to_vec();
    out.extend(1u32.to_le_bytes());
    out.extend(flags.to_le_bytes());
    out.extend(repo.0);
    out.extend([id; 16]);
    let (packs_said, sessions_said) = counts.unwrap_or((packs.len() as u32, 0));
    out.extend(packs_said.to_le_bytes());
    out.extend(sessions_said.to_le_bytes());
    packs.iter().for_each(|pack| out.extend(pack.0));
    let hash = sha256(&[&out]);
    out.extend(hash);
    out
}

/// Two small chunks.
pub fn two() -> Vec<Stored> {
    vec![Stored::data(b"the first chunk"), Stored::data(b"the second one")]
}

/// Returns a chunk id for a number.
pub fn id_of(number: u32) -> [u8; 32] {
    containerarchive::crypto::sha256(&[&number.to_le_bytes()])
}

/// A zstd frame.
pub fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(data, 1).unwrap()
}
