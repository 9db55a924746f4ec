//! Which message is in which lane: the longest first, and a lane that has finished one takes the
//! next, so that few lanes are idle at the end.

use super::{BLOCK_LEN, DIGEST_LEN, Kernels, State};

/// Something to hash: whole blocks, then what follows them.
pub(super) struct Job<'a> {
    state: State,
    blocks: &'a [u8],
    tail: Tail,
}

impl<'a> Job<'a> {
    /// A message that ends with `bytes`, `before` bytes of which are hashed into `state` already.
    pub(super) fn whole(state: State, before: u64, bytes: &'a [u8]) -> Self {
        let (blocks, rest) = whole_blocks(bytes);
        let tail = Tail::new(rest, before + bytes.len() as u64);
        Self { state, blocks, tail }
    }

    /// Whole blocks of a message that goes on after them.
    pub(super) fn part(state: State, blocks: &'a [u8]) -> Self {
        let tail = Tail::NONE;
        Self { state, blocks, tail }
    }

    /// The blocks to hash next; empty at the end.
    fn input(&self) -> &[u8] {
        if self.blocks.is_empty() {
            &self.tail.bytes[self.tail.done..self.tail.len]
        } else {
            self.blocks
        }
    }

    fn advance(&mut self, bytes: usize) {
        if self.blocks.is_empty() {
            self.tail.done += bytes;
        } else {
            self.blocks = &self.blocks[bytes..];
        }
    }
}

/// Splits off the bytes after the last whole block.
pub(super) fn whole_blocks(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.len() - bytes.len() % BLOCK_LEN)
}

/// The end of a message: what is left after its whole blocks, and the padding (FIPS 180-4 §5.1.1).
struct Tail {
    bytes: [u8; 2 * BLOCK_LEN],
    len: usize,
    /// How many of them are hashed.
    done: usize,
}

impl Tail {
    const NONE: Self = Self {
        bytes: [0; 2 * BLOCK_LEN],
        len: 0,
        done: 0,
    };

    /// The tail of a message of `len` bytes in total, of which `rest` are after the last whole
    /// block.
    fn new(rest: &[u8], len: u64) -> Self {
        let mut tail = Self::NONE;
        tail.bytes[..rest.len()].copy_from_slice(rest);
        tail.bytes[rest.len()] = 0x80;
        tail.len = if rest.len() + 9 <= BLOCK_LEN {
            BLOCK_LEN
        } else {
            2 * BLOCK_LEN
        };
        tail.bytes[tail.len - 8..tail.len].copy_from_slice(&(len * 8).to_be_bytes());
        tail
    }
}

/// Hashes all jobs; returns their states in the same order.
pub(super) fn run(mut jobs: Vec<Job<'_>>, kernels: Kernels) -> Vec<State> {
    // the shortest first: taken from the end
    let mut waiting: Vec<usize> = (0..jobs.len()).filter(|&job| !jobs[job].input().is_empty()).collect();
    waiting.sort_by_key(|&job| jobs[job].blocks.len());
    let mut lanes: Vec<usize> = Vec::with_capacity(kernels.width);
    let mut states: Vec<State> = Vec::with_capacity(kernels.width);
    loop {
        while lanes.len() < kernels.width
            && let Some(job) = waiting.pop()
        {
            lanes.push(job);
            states.push(jobs[job].state);
        }
        let inputs: Vec<&[u8]> = lanes.iter().map(|&job| jobs[job].input()).collect();
        let Some(count) = inputs.iter().map(|input| input.len() / BLOCK_LEN).min() else {
            return jobs.into_iter().map(|job| job.state).collect();
        };
        (kernels.compress)(&mut states, &inputs, count);
        for at in (0..lanes.len()).rev() {
            let job = &mut jobs[lanes[at]];
            job.advance(count * BLOCK_LEN);
            if job.input().is_empty() {
                job.state = states.swap_remove(at);
                lanes.swap_remove(at);
            }
        }
    }
}

/// The digest of a message whose state this is at its end.
pub(super) fn digest(state: &State) -> [u8; DIGEST_LEN] {
    let mut digest = [0; DIGEST_LEN];
    for (bytes, word) in digest.chunks_exact_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    digest
}
