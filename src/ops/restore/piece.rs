//! The proven bytes of a restore, and the buffers that they are in. A piece is passed on without a
//! copy; when the last piece of a run is dropped, the buffers of the run serve the next one.

use crate::repo::read::ReadScratch;
use crate::sync::lock;
use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex};

/// Proven bytes, in the order of the stream: a chunk, or a part of one.
pub struct Piece {
    chunks: Arc<Chunks>,
    /// Index of the chunk.
    chunk: usize,
    range: Range<usize>,
}

impl Piece {
    /// A part of the piece, which must be within it.
    pub fn part(&self, range: Range<usize>) -> Piece {
        let start = self.range.start;
        Piece {
            chunks: Arc::clone(&self.chunks),
            chunk: self.chunk,
            range: (start + range.start).min(self.range.end)..(start + range.end).min(self.range.end),
        }
    }

    /// The piece in parts of at most `most` bytes.
    pub fn parts(&self, most: usize) -> impl Iterator<Item = Piece> + '_ {
        self.range.clone().step_by(most.max(1)).map(move |start| Piece {
            chunks: Arc::clone(&self.chunks),
            chunk: self.chunk,
            range: start..self.range.end.min(start.saturating_add(most)),
        })
    }
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.chunks.bytes(self.chunk)[self.range.clone()]
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Vec<u8>> for Piece {
    fn from(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self {
            chunks: Arc::new(Chunks::one(bytes)),
            chunk: 0,
            range,
        }
    }
}

/// The plaintext of a chunk.
pub(in crate::ops) enum Chunk {
    /// A range of the stored run: it was not compressed, and is not copied.
    Stored(Range<usize>),
    /// A buffer of its own.
    Decoded(Vec<u8>),
}

/// The chunks of a run, in the order of the stream.
pub(in crate::ops) struct Chunks {
    /// The run as it is stored, opened in place.
    pub stored: Vec<u8>,
    pub plain: Vec<Chunk>,
    spare: Arc<Mutex<Spare>>,
}

impl Chunks {
    pub(super) fn new(stored: Vec<u8>, plain: Vec<Chunk>, spare: &Arc<Mutex<Spare>>) -> Self {
        let spare = Arc::clone(spare);
        Self { stored, plain, spare }
    }

    /// A single chunk, whose buffer nothing reuses.
    pub(super) fn one(chunk: Vec<u8>) -> Self {
        Self::new(Vec::new(), vec![Chunk::Decoded(chunk)], &Arc::default())
    }

    pub(in crate::ops) fn len(&self) -> usize {
        self.plain.len()
    }

    pub(in crate::ops) fn bytes(&self, chunk: usize) -> &[u8] {
        match &self.plain[chunk] {
            Chunk::Stored(range) => &self.stored[range.clone()],
            Chunk::Decoded(bytes) => bytes,
        }
    }

    /// A part of a chunk.
    pub(in crate::ops) fn piece(self: &Arc<Self>, chunk: usize, range: Range<usize>) -> Piece {
        let chunks = Arc::clone(self);
        Piece { chunks, chunk, range }
    }

    /// Returns the buffer of the stored run early, when no chunk is in it.
    pub(super) fn release_unused(&mut self) {
        if !self.plain.iter().any(|chunk| matches!(chunk, Chunk::Stored(_))) {
            lock(&self.spare).keep_run(std::mem::take(&mut self.stored));
        }
    }
}

impl Drop for Chunks {
    fn drop(&mut self) {
        let mut spare = lock(&self.spare);
        spare.keep_run(std::mem::take(&mut self.stored));
        for chunk in self.plain.drain(..) {
            if let Chunk::Decoded(bytes) = chunk {
                spare.keep_chunk(bytes);
            }
        }
    }
}

/// Buffers and contexts of finished runs, for the next ones.
#[derive(Default)]
pub(super) struct Spare {
    runs: Vec<Vec<u8>>,
    chunks: Vec<Vec<u8>>,
    scratches: Vec<ReadScratch>,
    kept_bytes: usize,
    /// Most bytes of all kept buffers.
    pub limit: usize,
}

impl Spare {
    /// What a run of `count` chunks needs: a buffer for the stored run, the scratch of a reader,
    /// and up to `count` buffers for chunks.
    pub(super) fn take(&mut self, count: usize) -> (Vec<u8>, ReadScratch, Vec<Vec<u8>>) {
        let chunks = self.chunks.split_off(self.chunks.len().saturating_sub(count));
        let run = self.runs.pop().unwrap_or_default();
        let taken: usize = chunks.iter().map(Vec::capacity).sum();
        self.kept_bytes -= taken + run.capacity();
        (run, self.scratches.pop().unwrap_or_default(), chunks)
    }

    pub(super) fn keep_run(&mut self, run: Vec<u8>) {
        if self.has_room(&run) {
            self.runs.push(run);
        }
    }

    pub(super) fn keep_chunk(&mut self, chunk: Vec<u8>) {
        if self.has_room(&chunk) {
            self.chunks.push(chunk);
        }
    }

    pub(super) fn keep_scratch(&mut self, scratch: ReadScratch) {
        self.scratches.push(scratch);
    }

    fn has_room(&mut self, buffer: &Vec<u8>) -> bool {
        let bytes = self.kept_bytes + buffer.capacity();
        let fits = buffer.capacity() > 0 && bytes <= self.limit;
        if fits {
            self.kept_bytes = bytes;
        }
        fits
    }
}
