//! Every kernel of this processor beside the `sha2` crate.

use super::*;

/// Deterministic bytes without a pattern.
fn bytes(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

fn kernels() -> Vec<(&'static str, Kernels)> {
    let mut kernels = vec![("the crate", Kernels::PORTABLE)];
    #[cfg(target_arch = "x86_64")]
    kernels.extend(x86_64::all());
    kernels
}

fn check(messages: &[Vec<u8>]) {
    let slices: Vec<&[u8]> = messages.iter().map(Vec::as_slice).collect();
    let key = bytes(BLOCK_LEN, 7);
    let key: &[u8; BLOCK_LEN] = key.as_slice().try_into().unwrap();
    for (name, kernels) in kernels() {
        let plain = hash(&Start::empty(), &slices, &mut [], kernels);
        let keyed = hash(&Start::after(key), &slices, &mut [], kernels);
        assert_eq!([plain.len(), keyed.len()], [messages.len(); 2], "{name}");
        for (at, message) in messages.iter().enumerate() {
            let what = format!("{name}: message {at} of {} bytes", message.len());
            assert_eq!(plain[at].as_slice(), Sha256::digest(message).as_slice(), "{what}");
            let expected = Sha256::new().chain_update(key).chain_update(message).finalize();
            assert_eq!(keyed[at].as_slice(), expected.as_slice(), "{what}, after a block");
        }
    }
}

#[test]
fn every_length_around_two_blocks_is_hashed_as_by_the_crate() {
    check(&(0..=260).map(|len| bytes(len, len as u64)).collect::<Vec<_>>());
}

#[test]
fn any_number_of_messages_is_hashed_as_by_the_crate() {
    for count in 0..=35 {
        // lengths that end in different lanes at different times
        let len = |at: usize| (at * at * 977 + count * 61) % 5000;
        check(&(0..count).map(|at| bytes(len(at), at as u64)).collect::<Vec<_>>());
    }
}

#[test]
fn one_long_message_among_short_ones_is_hashed_as_by_the_crate() {
    let mut messages: Vec<Vec<u8>> = (0..20).map(|at| bytes(at * 7, at as u64)).collect();
    messages.push(bytes((1 << 20) + 3, 99));
    check(&messages);
}

#[test]
fn streams_take_their_pieces_beside_messages() {
    let data = bytes(3 * 5000, 5);
    let messages: Vec<&[u8]> = data.chunks(1900).collect();
    for (name, kernels) in kernels() {
        for piece in [1, 63, 64, 65, 127, 128, 200, 4999] {
            let mut streams: [Stream; 3] = Default::default();
            for at in (0..5000).step_by(piece) {
                let piece = |stream: usize| &data[5000 * stream + at..5000 * stream + (at + piece).min(5000)];
                let [a, b, c] = &mut streams;
                let mut pieces = [(a, piece(0)), (b, piece(1)), (c, piece(2))];
                let digests = hash(&Start::empty(), &messages, &mut pieces, kernels);
                assert_eq!(digests[1].as_slice(), Sha256::digest(messages[1]).as_slice(), "{name}");
            }
            for (stream, data) in streams.into_iter().zip(data.chunks(5000)) {
                assert_eq!(
                    stream.finish().as_slice(),
                    Sha256::digest(data).as_slice(),
                    "{name}, {piece}"
                );
            }
        }
    }
}

#[test]
fn a_kernel_that_errs_is_recognised() {
    for (name, kernels) in kernels() {
        assert!(kernels.are_right(), "{name}");
    }
    let wrong = Kernels {
        name: "wrong",
        width: 4,
        compress: |states, inputs, count| {
            (Kernels::PORTABLE.compress)(states, inputs, count);
            if let Some(last) = states.get_mut(3) {
                last[7] ^= 1;
            }
        },
    };
    assert!(!wrong.are_right());
}

#[test]
fn a_published_digest_is_right() {
    // printf abc | sha256sum
    let digest = super::digests(&Start::empty(), &[b"abc"]);
    let hex: String = digest[0].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}
