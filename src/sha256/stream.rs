//! A message that arrives in pieces, and whose pieces are hashed beside other messages.

use super::lanes::{Job, digest, run, whole_blocks};
use super::{BLOCK_LEN, DIGEST_LEN, INITIAL, Kernels, Start, State};

/// The hash of the bytes so far.
#[derive(Clone)]
pub struct Stream {
    state: State,
    /// Bytes so far, those in `rest` included.
    len: u64,
    /// The bytes after the last whole block; `rest_len` of them.
    rest: [u8; BLOCK_LEN],
    rest_len: usize,
}

impl Default for Stream {
    fn default() -> Self {
        Self {
            state: INITIAL,
            len: 0,
            rest: [0; BLOCK_LEN],
            rest_len: 0,
        }
    }
}

impl Stream {
    /// Adds the next bytes of this message.
    pub fn update(&mut self, bytes: &[u8]) {
        super::digests_beside(&Start::empty(), &[], &mut [(self, bytes)]);
    }

    /// Begins to add bytes: returns the state and the whole blocks to hash into it, and keeps what
    /// follows them.
    pub(super) fn begin<'a>(&mut self, bytes: &'a [u8]) -> (State, &'a [u8]) {
        let (blocks, rest) = whole_blocks(self.fill_rest(bytes));
        if !rest.is_empty() {
            self.rest[..rest.len()].copy_from_slice(rest);
            self.rest_len = rest.len();
        }
        (self.state, blocks)
    }

    /// The state after these blocks.
    pub(super) fn end(&mut self, state: State) {
        self.state = state;
    }

    /// The digest of all bytes.
    pub fn finish(self) -> [u8; DIGEST_LEN] {
        let hashed = self.len - self.rest_len as u64;
        let job = Job::whole(self.state, hashed, &self.rest[..self.rest_len]);
        run(vec![job], Kernels::PORTABLE)
            .first()
            .map_or([0; DIGEST_LEN], digest)
    }

    /// Takes bytes until a block is full; returns the others.
    fn fill_rest<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        self.len += bytes.len() as u64;
        if self.rest_len == 0 {
            return bytes;
        }
        let (now, later) = bytes.split_at(bytes.len().min(BLOCK_LEN - self.rest_len));
        self.rest[self.rest_len..self.rest_len + now.len()].copy_from_slice(now);
        self.rest_len += now.len();
        if self.rest_len == BLOCK_LEN {
            (Kernels::PORTABLE.compress)(std::slice::from_mut(&mut self.state), &[&self.rest], 1);
            self.rest_len = 0;
        }
        later
    }
}
