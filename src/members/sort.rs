//! Sorts the entries of an index with bounded memory: full runs are sorted and compressed, and
//! merged at the end.

use super::entry::Entry;
use super::error::{Error, damaged};
use crate::bytes::ByteReader;
use crate::codec::{Codec, Compression, Decoder, Encoder};
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Bytes of entries that are collected before they are compressed.
pub const RUN_LEN: usize = 16 << 20;
/// Most bytes of compressed runs. About five million members of usual names.
pub const MAX_SORT_BYTES: usize = 128 << 20;
/// Most members of an index.
pub const MAX_MEMBERS: u64 = 1 << 26;
/// Most bytes of all entries: long paths that repeat are compressed to almost nothing.
const MAX_RAW_BYTES: u64 = 1 << 30;
/// Bytes of entries that are compressed, and later unpacked, together.
const BLOCK_LEN: usize = 256 << 10;

/// Collects entries.
#[derive(Default)]
pub(super) struct Sorter {
    entries: Vec<u8>,
    slots: Vec<Slot>,
    runs: Vec<Run>,
    /// Length of the compressed runs.
    run_bytes: usize,
    members: u64,
    raw_bytes: u64,
    encoder: Encoder,
}

/// Where an entry is, and what it is sorted by.
struct Slot {
    start: u32,
    end: u32,
    key_end: u32,
    key_len: u32,
    offset: u64,
}

/// Compressed blocks, in order: codec, bytes, length of the entries in them.
type Run = std::collections::VecDeque<(Codec, Vec<u8>, usize)>;

impl Sorter {
    /// Adds an entry; `false` when there are too many.
    pub(super) fn push(&mut self, entry: &Entry) -> bool {
        if self.entries.len() >= RUN_LEN {
            self.compress();
        }
        let start = self.entries.len();
        entry.encode(0, &mut self.entries);
        let key_len = entry.key.as_bytes().len();
        let varint_len = (1..).take_while(|n| *n == 1 || key_len >> (7 * (n - 1)) > 0).count();
        // a run is far shorter than 4 GiB
        self.slots.push(Slot {
            start: start as u32,
            end: self.entries.len() as u32,
            key_end: (start + varint_len + key_len) as u32,
            key_len: key_len as u32,
            offset: entry.member.header_offset,
        });
        self.members += 1;
        self.raw_bytes += (self.entries.len() - start) as u64;
        self.members <= MAX_MEMBERS && self.raw_bytes <= MAX_RAW_BYTES && self.run_bytes <= MAX_SORT_BYTES
    }

    fn compress(&mut self) {
        let entries = std::mem::take(&mut self.entries);
        let mut slots = std::mem::take(&mut self.slots);
        let key = |slot: &Slot| {
            (
                &entries[(slot.key_end - slot.key_len) as usize..slot.key_end as usize],
                slot.offset,
            )
        };
        slots.sort_unstable_by(|a, b| key(a).cmp(&key(b)));
        let (mut run, mut block) = (Run::new(), Vec::with_capacity(BLOCK_LEN));
        let mut left = slots.len();
        for slot in &slots {
            block.extend_from_slice(&entries[slot.start as usize..slot.end as usize]);
            left -= 1;
            if block.len() >= BLOCK_LEN || left == 0 {
                let (codec, bytes) = self.encoder.encode(Compression::Zstd { level: 1 }, &block);
                self.run_bytes += bytes.len();
                run.push_back((codec, bytes.to_vec(), block.len()));
                block.clear();
            }
        }
        self.runs.push(run);
        // the buffers serve the next run
        self.entries = entries;
        self.entries.clear();
        slots.clear();
        self.slots = slots;
    }

    /// Calls `each` for all entries in order.
    pub(super) fn merge<E: From<Error>>(mut self, each: &mut dyn FnMut(Entry) -> Result<(), E>) -> Result<(), E> {
        self.compress();
        self.entries = Vec::new();
        self.slots = Vec::new();
        let mut heads = BinaryHeap::new();
        for run in self.runs {
            let mut cursor = RunCursor {
                run,
                decoder: Decoder::new(),
                block: Vec::new(),
                at: 0,
            };
            if let Some(entry) = cursor.next()? {
                heads.push(Head { entry, cursor });
            }
        }
        while let Some(Head { entry, mut cursor }) = heads.pop() {
            each(entry)?;
            if let Some(entry) = cursor.next()? {
                heads.push(Head { entry, cursor });
            }
        }
        Ok(())
    }
}

/// A position in a run.
struct RunCursor {
    run: Run,
    decoder: Decoder,
    block: Vec<u8>,
    at: usize,
}

impl RunCursor {
    fn next(&mut self) -> Result<Option<Entry>, Error> {
        if self.at >= self.block.len() {
            let Some((codec, bytes, len)) = self.run.pop_front() else {
                return Ok(None);
            };
            self.at = 0;
            if self.decoder.decode(codec, &bytes, len, &mut self.block).is_err() {
                return damaged("a run of entries in memory does not decode");
            }
        }
        let mut reader = ByteReader::new(&self.block[self.at..]);
        let entry = Entry::decode(&mut reader, 0)?;
        self.at = self.block.len() - reader.rest().len();
        Ok(Some(entry))
    }
}

/// The next entry of a run. The heap returns the greatest: that with the least path.
struct Head {
    entry: Entry,
    cursor: RunCursor,
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        let (ours, theirs) = (&self.entry, &other.entry);
        let of_key = theirs.key.cmp(&ours.key);
        of_key.then(theirs.member.header_offset.cmp(&ours.member.header_offset))
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Head {}
