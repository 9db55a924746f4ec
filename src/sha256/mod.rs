//! SHA-256 (FIPS 180-4) of many messages at once, by one thread.
//!
//! A single SHA-256 is bound by the latency of its rounds, not by the width of the processor, so
//! independent messages are hashed side by side: 16 in the lanes of AVX-512, 8 in those of AVX2, or
//! up to 4 interleaved streams of the SHA instructions. What the processor has is found at run
//! time. On any other processor, and for few messages on one without the SHA instructions, the
//! `sha2` crate does the work; it is also what the tests compare every kernel with.
//!
//! Always true: the digests are those of `sha2`, in the order of the messages, whatever their
//! number and lengths. The room does no I/O and keeps no state between calls.

mod lanes;
mod stream;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use stream::Stream;

use lanes::{Job, digest, run};
use sha2::block_api::compress256;
use sha2::{Digest, Sha256};
use std::sync::OnceLock;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Length of a block in bytes.
pub const BLOCK_LEN: usize = 64;

/// Length of a digest in bytes.
pub const DIGEST_LEN: usize = 32;

/// The state of a hash between two blocks: eight words.
type State = [u32; 8];

/// The initial hash value (FIPS 180-4 §5.3.3).
const INITIAL: State = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// What every message of a call begins with: nothing, or one block, such as the key block of an
/// HMAC. It is wiped on drop, because that block may be secret.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Start {
    state: State,
    /// Bytes hashed so far, a multiple of the block length.
    len: u64,
}

impl Start {
    /// Plain messages.
    pub fn empty() -> Self {
        Self { state: INITIAL, len: 0 }
    }

    /// Messages that all follow this block, which is hashed once.
    pub fn after(block: &[u8; BLOCK_LEN]) -> Self {
        let mut start = Self::empty();
        compress256(&mut start.state, std::slice::from_ref(block));
        start.len = BLOCK_LEN as u64;
        start
    }
}

/// The SHA-256 of each message, as if it followed `start`.
pub fn digests(start: &Start, messages: &[&[u8]]) -> Vec<[u8; DIGEST_LEN]> {
    digests_beside(start, messages, &mut [])
}

/// The same; in the same pass, each of these streams takes its next bytes.
pub fn digests_beside(
    start: &Start,
    messages: &[&[u8]],
    streams: &mut [(&mut Stream, &[u8])],
) -> Vec<[u8; DIGEST_LEN]> {
    hash(start, messages, streams, Kernels::detect())
}

/// How this processor hashes many messages, for people.
pub fn kernel_name() -> &'static str {
    Kernels::detect().name
}

fn hash(
    start: &Start,
    messages: &[&[u8]],
    streams: &mut [(&mut Stream, &[u8])],
    kernels: Kernels,
) -> Vec<[u8; DIGEST_LEN]> {
    // never reallocated: a job has a copy of a state that may be secret, which its result
    // overwrites
    let mut jobs: Vec<Job<'_>> = Vec::with_capacity(messages.len() + streams.len());
    jobs.extend(
        messages
            .iter()
            .map(|message| Job::whole(start.state, start.len, message)),
    );
    for (stream, bytes) in streams.iter_mut() {
        let (state, blocks) = stream.begin(bytes);
        jobs.push(Job::part(state, blocks));
    }
    let states = run(jobs, kernels);
    let (whole, parts) = states.split_at(messages.len());
    for ((stream, _), state) in streams.iter_mut().zip(parts) {
        stream.end(*state);
    }
    whole.iter().map(digest).collect()
}

/// Hashes the next `count` blocks of each input into its state.
type Compress = fn(states: &mut [State], inputs: &[&[u8]], count: usize);

/// How many messages are hashed side by side, and by what.
#[derive(Clone, Copy)]
struct Kernels {
    /// For people.
    name: &'static str,
    /// Most messages at once.
    width: usize,
    /// For any number of messages up to `width`.
    compress: Compress,
}

impl Kernels {
    /// The fastest of this processor. A kernel is used only after it has hashed a sample as the
    /// crate does: a wrong digest would be the id of a chunk.
    fn detect() -> Self {
        static DETECTED: OnceLock<Kernels> = OnceLock::new();
        *DETECTED.get_or_init(|| {
            #[cfg(target_arch = "x86_64")]
            if let Some(kernels) = x86_64::detect().filter(Self::are_right) {
                return kernels;
            }
            Self::PORTABLE
        })
    }

    /// True when any number of messages up to `width` is hashed as by the crate.
    fn are_right(&self) -> bool {
        let sample: Vec<u8> = (0..1000u32).map(|at| ((at * at) >> 3) as u8).collect();
        (1..=self.width).all(|count| {
            let messages: Vec<&[u8]> = (0..count).map(|at| &sample[at..sample.len() - 5 * at]).collect();
            let digests = hash(&Start::empty(), &messages, &mut [], *self);
            let expected = messages
                .iter()
                .map(|message| <[u8; DIGEST_LEN]>::from(Sha256::digest(message)));
            digests.into_iter().eq(expected)
        })
    }

    /// One message after the other, by the crate.
    const PORTABLE: Self = Self {
        name: "one after the other",
        width: 1,
        compress: |states, inputs, count| {
            for (state, input) in states.iter_mut().zip(inputs) {
                let (blocks, _) = input.as_chunks::<BLOCK_LEN>();
                compress256(state, blocks.get(..count).unwrap_or(blocks));
            }
        },
    };
}

#[cfg(test)]
mod tests;
