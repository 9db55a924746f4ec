//! The kernels of x86-64: lanes of AVX-512 or AVX2, and interleaved streams of the SHA
//! instructions.
//!
//! Lanes (S. Gueron, V. Krasnov, *Simultaneous Hashing of Multiple Messages*, 2012): word i of a
//! vector belongs to message i, so the rounds are those of FIPS 180-4 §6.2.2 with vectors in place
//! of words. Streams: the instructions of one message have to wait for each other; those of another
//! one fill the gaps.
//!
//! `unsafe` is used for two things: to call a kernel whose instructions were detected, and to load
//! from slices whose lengths were checked.

use super::{BLOCK_LEN, Kernels, State};
use std::arch::x86_64::*;

/// Lanes of a 512-bit and of a 256-bit vector of words.
const LANES_512: usize = 16;
const LANES_256: usize = 8;
/// Streams of the SHA instructions at once.
const STREAMS: usize = 4;
/// Below this number of messages, streams are faster than 16 lanes, some of which are idle: 16
/// lanes have 1.5 times the throughput of the streams (measured on Zen 5).
const LEAST_LANES_512: usize = 11;
/// Below this number of messages, the crate is faster than lanes, most of which are idle.
const LEAST_LANES: usize = 3;

/// The round constants (FIPS 180-4 §4.2.2).
#[rustfmt::skip]
const K: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

/// The fastest kernels of this processor; `None` when the crate is as good.
pub(super) fn detect() -> Option<Kernels> {
    let [has_lanes, has_streams] = [has_avx512(), has_sha()];
    Some(match (has_lanes, has_streams) {
        (true, true) => Kernels {
            name: "AVX-512, 16 lanes; SHA-NI, 4 streams",
            width: LANES_512,
            compress: lanes_512_or_streams,
        },
        (true, false) => Kernels {
            name: "AVX-512, 16 lanes",
            width: LANES_512,
            compress: lanes_512_or_crate,
        },
        (false, true) => Kernels {
            name: "SHA-NI, 4 streams",
            width: STREAMS,
            compress: streams,
        },
        (false, false) if is_x86_feature_detected!("avx2") => Kernels {
            name: "AVX2, 8 lanes",
            width: LANES_256,
            compress: lanes_256_or_crate,
        },
        (false, false) => return None,
    })
}

fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
}

fn has_sha() -> bool {
    is_x86_feature_detected!("sha") && is_x86_feature_detected!("sse4.1") && is_x86_feature_detected!("ssse3")
}

/// Every kernel that this processor can run, with its name.
#[cfg(test)]
pub(super) fn all() -> Vec<(&'static str, Kernels)> {
    let [avx512, avx2, sha] = [has_avx512(), is_x86_feature_detected!("avx2"), has_sha()];
    let table: [(_, _, usize, super::Compress); 6] = [
        ("16 lanes", avx512, LANES_512, lanes_512),
        ("16 lanes or the crate", avx512, LANES_512, lanes_512_or_crate),
        ("8 lanes", avx2, LANES_256, lanes_256),
        ("8 lanes or the crate", avx2, LANES_256, lanes_256_or_crate),
        ("streams", sha, STREAMS, streams),
        ("16 lanes or streams", avx512 && sha, LANES_512, lanes_512_or_streams),
    ];
    let found = table.into_iter().filter(|(_, has, ..)| *has);
    found
        .map(|(name, _, width, compress)| (name, Kernels { name, width, compress }))
        .collect()
}

fn lanes_512_or_streams(states: &mut [State], inputs: &[&[u8]], count: usize) {
    if states.len() < LEAST_LANES_512 {
        streams(states, inputs, count);
    } else {
        lanes_512(states, inputs, count);
    }
}

fn lanes_512_or_crate(states: &mut [State], inputs: &[&[u8]], count: usize) {
    if states.len() < LEAST_LANES {
        (Kernels::PORTABLE.compress)(states, inputs, count);
    } else {
        lanes_512(states, inputs, count);
    }
}

fn lanes_512(states: &mut [State], inputs: &[&[u8]], count: usize) {
    check_lengths(inputs, count);
    in_lanes(states, inputs, |states, inputs| {
        // SAFETY: `detect` found the instructions; the lengths are checked
        unsafe { compress_512(states, inputs, count) };
    });
}

fn lanes_256_or_crate(states: &mut [State], inputs: &[&[u8]], count: usize) {
    if states.len() < LEAST_LANES {
        (Kernels::PORTABLE.compress)(states, inputs, count);
    } else {
        lanes_256(states, inputs, count);
    }
}

fn lanes_256(states: &mut [State], inputs: &[&[u8]], count: usize) {
    check_lengths(inputs, count);
    in_lanes(states, inputs, |states, inputs| {
        // SAFETY: `detect` found the instructions; the lengths are checked
        unsafe { compress_256(states, inputs, count) };
    });
}

fn streams(states: &mut [State], inputs: &[&[u8]], count: usize) {
    check_lengths(inputs, count);
    for (states, inputs) in states.chunks_mut(STREAMS).zip(inputs.chunks(STREAMS)) {
        // SAFETY: `detect` found the instructions; the lengths are checked
        unsafe {
            match states.len() {
                1 => compress_streams::<1>(states, inputs, count),
                2 => compress_streams::<2>(states, inputs, count),
                3 => compress_streams::<3>(states, inputs, count),
                _ => compress_streams::<STREAMS>(states, inputs, count),
            }
        }
    }
}

/// A kernel reads `count` blocks of each input.
fn check_lengths(inputs: &[&[u8]], count: usize) {
    assert!(
        inputs.iter().all(|input| input.len() / BLOCK_LEN >= count),
        "an input is too short"
    );
}

/// Calls a kernel of `N` lanes; idle lanes hash the first input again, to no effect.
fn in_lanes<const N: usize>(
    states: &mut [State],
    inputs: &[&[u8]],
    compress: impl Fn(&mut [State; N], &[*const u8; N]),
) {
    for (states, inputs) in states.chunks_mut(N).zip(inputs.chunks(N)) {
        let mut all = [[0; 8]; N];
        all[..states.len()].copy_from_slice(states);
        let mut starts = [inputs[0].as_ptr(); N];
        for (start, input) in starts.iter_mut().zip(inputs) {
            *start = input.as_ptr();
        }
        compress(&mut all, &starts);
        states.copy_from_slice(&all[..states.len()]);
    }
}

/// Distance of the prefetch in bytes: the hardware follows fewer streams than there are lanes.
const AHEAD: usize = 512;

/// Round `$i` (FIPS 180-4 §6.2.2) in all lanes, with the operations that are in scope. The caller
/// passes the state rotated by a word for each round, so that nothing is moved.
macro_rules! round {
    ($w:ident, $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $i:expr) => {{
        if $i >= 16 {
            let (w2, w15) = ($w[($i + 14) & 15], $w[($i + 1) & 15]);
            let s0 = xor3(rotate::<7>(w15), rotate::<18>(w15), shift::<3>(w15));
            let s1 = xor3(rotate::<17>(w2), rotate::<19>(w2), shift::<10>(w2));
            $w[$i & 15] = add(add($w[$i & 15], s0), add($w[($i + 9) & 15], s1));
        }
        let e1 = xor3(rotate::<6>($e), rotate::<11>($e), rotate::<25>($e));
        let t1 = add(add(add($h, splat(K[$i])), $w[$i & 15]), add(e1, choose($e, $f, $g)));
        let a0 = xor3(rotate::<2>($a), rotate::<13>($a), rotate::<22>($a));
        $d = add($d, t1);
        $h = add(t1, add(a0, majority($a, $b, $c)));
    }};
}

/// Eight rounds, after which the state is where it was.
macro_rules! eight_rounds {
    ($w:ident, $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $i:expr) => {
        round!($w, $a $b $c $d $e $f $g $h, $i);
        round!($w, $h $a $b $c $d $e $f $g, $i + 1);
        round!($w, $g $h $a $b $c $d $e $f, $i + 2);
        round!($w, $f $g $h $a $b $c $d $e, $i + 3);
        round!($w, $e $f $g $h $a $b $c $d, $i + 4);
        round!($w, $d $e $f $g $h $a $b $c, $i + 5);
        round!($w, $c $d $e $f $g $h $a $b, $i + 6);
        round!($w, $b $c $d $e $f $g $h $a, $i + 7);
    };
}

/// A kernel of `$lanes` lanes with the operations of the module `$ops`.
macro_rules! lanes {
    ($name:ident, $features:literal, $lanes:ident, $ops:ident) => {
        /// # Safety
        /// The processor has the instructions, and each input has `count` blocks.
        #[target_feature(enable = $features)]
        unsafe fn $name(states: &mut [State; $lanes], inputs: &[*const u8; $lanes], count: usize) {
            use $ops::{add, choose, load_block, load_states, majority, rotate, shift, splat, store_states, xor3};
            let mut state = load_states(states);
            for block in 0..count {
                // SAFETY: each input has more than `block` blocks
                let mut w = unsafe { load_block(inputs, block * BLOCK_LEN) };
                let before = state;
                let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = state;
                eight_rounds!(w, a b c d e f g h, 0);
                eight_rounds!(w, a b c d e f g h, 8);
                eight_rounds!(w, a b c d e f g h, 16);
                eight_rounds!(w, a b c d e f g h, 24);
                eight_rounds!(w, a b c d e f g h, 32);
                eight_rounds!(w, a b c d e f g h, 40);
                eight_rounds!(w, a b c d e f g h, 48);
                eight_rounds!(w, a b c d e f g h, 56);
                state = [a, b, c, d, e, f, g, h];
                for (word, before) in state.iter_mut().zip(before) {
                    *word = add(*word, before);
                }
            }
            store_states(states, state);
        }
    };
}

lanes!(compress_512, "avx512f,avx512bw", LANES_512, avx512);
lanes!(compress_256, "avx2", LANES_256, avx2);

/// Vectors of 16 words.
mod avx512 {
    use super::{AHEAD, LANES_512, State};
    use std::arch::x86_64::*;

    type Words = __m512i;

    macro_rules! operations {
        ($($name:ident $(<const $n:ident: i32>)? ($($arg:ident: $type:ty),*) => $body:expr;)*) => { $(
            #[inline]
            #[target_feature(enable = "avx512f,avx512bw")]
            pub fn $name $(<const $n: i32>)? ($($arg: $type),*) -> Words {
                $body
            }
        )* };
    }

    operations! {
        add(a: Words, b: Words) => _mm512_add_epi32(a, b);
        xor3(a: Words, b: Words, c: Words) => _mm512_ternarylogic_epi32::<0x96>(a, b, c);
        choose(e: Words, f: Words, g: Words) => _mm512_ternarylogic_epi32::<0xca>(e, f, g);
        majority(a: Words, b: Words, c: Words) => _mm512_ternarylogic_epi32::<0xe8>(a, b, c);
        splat(word: u32) => _mm512_set1_epi32(word as i32);
        rotate<const N: i32>(a: Words) => _mm512_ror_epi32::<N>(a);
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub fn shift<const N: u32>(a: Words) -> Words {
        _mm512_srli_epi32::<N>(a)
    }

    /// Word i of all states as vector i.
    #[target_feature(enable = "avx512f,avx512bw")]
    pub fn load_states(states: &[State; LANES_512]) -> [Words; 8] {
        std::array::from_fn(|word| {
            let words: [u32; LANES_512] = std::array::from_fn(|lane| states[lane][word]);
            // SAFETY: an array of 64 bytes
            unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
        })
    }

    /// The inverse of [`load_states`].
    #[target_feature(enable = "avx512f,avx512bw")]
    pub fn store_states(states: &mut [State; LANES_512], vectors: [Words; 8]) {
        for (word, vector) in vectors.into_iter().enumerate() {
            let mut words = [0u32; LANES_512];
            // SAFETY: an array of 64 bytes
            unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), vector) };
            for (state, value) in states.iter_mut().zip(words) {
                state[word] = value;
            }
        }
    }

    /// Word i of the block at `offset` of all inputs as vector i.
    ///
    /// # Safety
    /// Each input has 64 bytes at `offset`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    pub unsafe fn load_block(inputs: &[*const u8; LANES_512], offset: usize) -> [Words; 16] {
        let big_endian = _mm512_set4_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
        let mut rows = [_mm512_setzero_si512(); 16];
        for (row, input) in rows.iter_mut().zip(inputs) {
            // SAFETY: as the caller states; a prefetch may name any address
            unsafe {
                *row = _mm512_shuffle_epi8(_mm512_loadu_si512(input.add(offset).cast()), big_endian);
                _mm_prefetch::<_MM_HINT_T0>(input.wrapping_add(offset + AHEAD).cast());
            }
        }
        transpose(rows)
    }

    /// Rows to columns, in four steps: pairs of words, pairs of pairs, then quarters of vectors.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn transpose(rows: [Words; 16]) -> [Words; 16] {
        let mut pairs = rows;
        for at in (0..16).step_by(2) {
            pairs[at] = _mm512_unpacklo_epi32(rows[at], rows[at + 1]);
            pairs[at + 1] = _mm512_unpackhi_epi32(rows[at], rows[at + 1]);
        }
        let mut fours = pairs;
        for at in (0..16).step_by(4) {
            fours[at] = _mm512_unpacklo_epi64(pairs[at], pairs[at + 2]);
            fours[at + 1] = _mm512_unpackhi_epi64(pairs[at], pairs[at + 2]);
            fours[at + 2] = _mm512_unpacklo_epi64(pairs[at + 1], pairs[at + 3]);
            fours[at + 3] = _mm512_unpackhi_epi64(pairs[at + 1], pairs[at + 3]);
        }
        let mut halves = fours;
        for at in 0..4 {
            halves[at] = _mm512_shuffle_i32x4::<0x88>(fours[at], fours[at + 4]);
            halves[at + 4] = _mm512_shuffle_i32x4::<0xdd>(fours[at], fours[at + 4]);
            halves[at + 8] = _mm512_shuffle_i32x4::<0x88>(fours[at + 8], fours[at + 12]);
            halves[at + 12] = _mm512_shuffle_i32x4::<0xdd>(fours[at + 8], fours[at + 12]);
        }
        let mut columns = halves;
        for at in 0..4 {
            columns[at] = _mm512_shuffle_i32x4::<0x88>(halves[at], halves[at + 8]);
            columns[at + 8] = _mm512_shuffle_i32x4::<0xdd>(halves[at], halves[at + 8]);
            columns[at + 4] = _mm512_shuffle_i32x4::<0x88>(halves[at + 4], halves[at + 12]);
            columns[at + 12] = _mm512_shuffle_i32x4::<0xdd>(halves[at + 4], halves[at + 12]);
        }
        columns
    }
}

/// Vectors of 8 words.
mod avx2 {
    use super::{AHEAD, LANES_256, State};
    use std::arch::x86_64::*;

    type Words = __m256i;

    macro_rules! operations {
        ($($name:ident ($($arg:ident: $type:ty),*) => $body:expr;)*) => { $(
            #[inline]
            #[target_feature(enable = "avx2")]
            pub fn $name($($arg: $type),*) -> Words {
                $body
            }
        )* };
    }

    operations! {
        add(a: Words, b: Words) => _mm256_add_epi32(a, b);
        xor3(a: Words, b: Words, c: Words) => _mm256_xor_si256(_mm256_xor_si256(a, b), c);
        choose(e: Words, f: Words, g: Words) => _mm256_xor_si256(g, _mm256_and_si256(e, _mm256_xor_si256(f, g)));
        majority(a: Words, b: Words, c: Words) =>
            _mm256_or_si256(_mm256_and_si256(a, b), _mm256_and_si256(c, _mm256_or_si256(a, b)));
        splat(word: u32) => _mm256_set1_epi32(word as i32);
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn rotate<const N: i32>(a: Words) -> Words {
        let left = _mm_cvtsi32_si128(32 - N);
        _mm256_or_si256(_mm256_srli_epi32::<N>(a), _mm256_sll_epi32(a, left))
    }

    #[inline]
    #[target_feature(enable = "avx2")]
    pub fn shift<const N: i32>(a: Words) -> Words {
        _mm256_srli_epi32::<N>(a)
    }

    /// Word i of all states as vector i.
    #[target_feature(enable = "avx2")]
    pub fn load_states(states: &[State; LANES_256]) -> [Words; 8] {
        let rows = std::array::from_fn(|lane| {
            // SAFETY: a state has 32 bytes
            unsafe { _mm256_loadu_si256(states[lane].as_ptr().cast()) }
        });
        transpose(rows)
    }

    /// The inverse of [`load_states`].
    #[target_feature(enable = "avx2")]
    pub fn store_states(states: &mut [State; LANES_256], vectors: [Words; 8]) {
        for (state, row) in states.iter_mut().zip(transpose(vectors)) {
            // SAFETY: a state has 32 bytes
            unsafe { _mm256_storeu_si256(state.as_mut_ptr().cast(), row) };
        }
    }

    /// Word i of the block at `offset` of all inputs as vector i.
    ///
    /// # Safety
    /// Each input has 64 bytes at `offset`.
    #[inline]
    #[target_feature(enable = "avx2")]
    pub unsafe fn load_block(inputs: &[*const u8; LANES_256], offset: usize) -> [Words; 16] {
        let big_endian = _mm256_set_epi64x(
            0x0c0d_0e0f_0809_0a0b,
            0x0405_0607_0001_0203,
            0x0c0d_0e0f_0809_0a0b,
            0x0405_0607_0001_0203,
        );
        let mut block = [_mm256_setzero_si256(); 16];
        for half in 0..2 {
            let mut rows = [_mm256_setzero_si256(); 8];
            for (row, input) in rows.iter_mut().zip(inputs) {
                // SAFETY: as the caller states; a prefetch may name any address
                unsafe {
                    let words = _mm256_loadu_si256(input.add(offset + 32 * half).cast());
                    *row = _mm256_shuffle_epi8(words, big_endian);
                    _mm_prefetch::<_MM_HINT_T0>(input.wrapping_add(offset + AHEAD).cast());
                }
            }
            block[8 * half..8 * half + 8].copy_from_slice(&transpose(rows));
        }
        block
    }

    /// Rows to columns: pairs of words, pairs of pairs, then halves of vectors.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn transpose(rows: [Words; 8]) -> [Words; 8] {
        let mut pairs = rows;
        for at in (0..8).step_by(2) {
            pairs[at] = _mm256_unpacklo_epi32(rows[at], rows[at + 1]);
            pairs[at + 1] = _mm256_unpackhi_epi32(rows[at], rows[at + 1]);
        }
        let mut fours = pairs;
        for at in (0..8).step_by(4) {
            fours[at] = _mm256_unpacklo_epi64(pairs[at], pairs[at + 2]);
            fours[at + 1] = _mm256_unpackhi_epi64(pairs[at], pairs[at + 2]);
            fours[at + 2] = _mm256_unpacklo_epi64(pairs[at + 1], pairs[at + 3]);
            fours[at + 3] = _mm256_unpackhi_epi64(pairs[at + 1], pairs[at + 3]);
        }
        let mut columns = fours;
        for at in 0..4 {
            columns[at] = _mm256_permute2x128_si256::<0x20>(fours[at], fours[at + 4]);
            columns[at + 4] = _mm256_permute2x128_si256::<0x31>(fours[at], fours[at + 4]);
        }
        columns
    }
}

/// `N` streams of the SHA instructions, in lockstep (Intel, *New Instructions Supporting the Secure
/// Hash Algorithm*, 2013).
///
/// # Safety
/// The processor has the instructions; there are `N` states and inputs, and each input has `count`
/// blocks.
#[target_feature(enable = "sha,sse4.1,ssse3")]
unsafe fn compress_streams<const N: usize>(states: &mut [State], inputs: &[&[u8]], count: usize) {
    let big_endian = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
    let [mut abef, mut cdgh] = [[_mm_setzero_si128(); N]; 2];
    for at in 0..N {
        // SAFETY: a state has 32 bytes
        let (low, high) = unsafe {
            let start: *const __m128i = states[at].as_ptr().cast();
            (_mm_loadu_si128(start), _mm_loadu_si128(start.add(1)))
        };
        let (badc, hgfe) = (_mm_shuffle_epi32::<0xb1>(low), _mm_shuffle_epi32::<0x1b>(high));
        abef[at] = _mm_alignr_epi8::<8>(badc, hgfe);
        cdgh[at] = _mm_blend_epi16::<0xf0>(hgfe, badc);
    }
    for block in 0..count {
        let before = (abef, cdgh);
        let mut words = [[_mm_setzero_si128(); 4]; N];
        for (words, input) in words.iter_mut().zip(inputs) {
            for (at, four) in words.iter_mut().enumerate() {
                // SAFETY: each input has more than `block` blocks
                let loaded = unsafe { _mm_loadu_si128(input.as_ptr().add(block * BLOCK_LEN + 16 * at).cast()) };
                *four = _mm_shuffle_epi8(loaded, big_endian);
            }
        }
        macro_rules! four_rounds {
            ($($i:literal)*) => { $({
                let k = _mm_set_epi32(
                    K[4 * $i + 3] as i32,
                    K[4 * $i + 2] as i32,
                    K[4 * $i + 1] as i32,
                    K[4 * $i] as i32,
                );
                for at in 0..N {
                    if $i >= 4 {
                        let [w0, w1, w2, w3] = [0, 1, 2, 3].map(|back| words[at][($i + back) & 3]);
                        let sum = _mm_add_epi32(_mm_sha256msg1_epu32(w0, w1), _mm_alignr_epi8::<4>(w3, w2));
                        words[at][$i & 3] = _mm_sha256msg2_epu32(sum, w3);
                    }
                    let sum = _mm_add_epi32(words[at][$i & 3], k);
                    cdgh[at] = _mm_sha256rnds2_epu32(cdgh[at], abef[at], sum);
                    abef[at] = _mm_sha256rnds2_epu32(abef[at], cdgh[at], _mm_shuffle_epi32::<0x0e>(sum));
                }
            })* };
        }
        four_rounds!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        for at in 0..N {
            abef[at] = _mm_add_epi32(abef[at], before.0[at]);
            cdgh[at] = _mm_add_epi32(cdgh[at], before.1[at]);
        }
    }
    for at in 0..N {
        let (feba, dchg) = (_mm_shuffle_epi32::<0x1b>(abef[at]), _mm_shuffle_epi32::<0xb1>(cdgh[at]));
        // SAFETY: a state has 32 bytes
        unsafe {
            let start: *mut __m128i = states[at].as_mut_ptr().cast();
            _mm_storeu_si128(start, _mm_blend_epi16::<0xf0>(feba, dchg));
            _mm_storeu_si128(start.add(1), _mm_alignr_epi8::<8>(dchg, feba));
        }
    }
}
