//! Tests of the codecs, with the command-line tools `gzip` and `zstd` as independent oracles.

use super::*;
use crate::entropy::{Entropy, SeededEntropy};
use proptest::prelude::*;
use std::io::Write;
use std::process::{Command, Stdio};

fn random_bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    SeededEntropy::new(seed).fill(&mut bytes).unwrap();
    bytes
}

/// Text-like data that shrinks to about a third.
fn text(seed: u64, len: usize) -> Vec<u8> {
    const WORDS: [&str; 8] = [
        "INSERT INTO ",
        "users ",
        "VALUES (",
        "'name', ",
        "42, ",
        "NULL",
        ");\n",
        "-- ",
    ];
    let mut bytes = Vec::with_capacity(len + 16);
    for byte in random_bytes(seed, len) {
        bytes.extend_from_slice(WORDS[usize::from(byte % 8)].as_bytes());
        bytes.push(byte | 0x20);
        if bytes.len() >= len {
            break;
        }
    }
    bytes.truncate(len);
    bytes
}

/// Low bits only: noise that still shrinks a little.
fn nearly_random(seed: u64, len: usize) -> Vec<u8> {
    random_bytes(seed, len).into_iter().map(|byte| byte & 0x7f).collect()
}

fn all_compressions() -> impl Iterator<Item = Compression> {
    let gzip = (1..=9).map(|level| Compression::Gzip { level });
    gzip.chain((1..=19).map(|level| Compression::Zstd { level }))
        .chain([Compression::None, Compression::ZstdAuto])
}

fn round_trip(encoder: &mut Encoder, decoder: &mut Decoder, compression: Compression, raw: &[u8]) -> Codec {
    let (codec, encoded) = encoder.encode(compression, raw);
    assert!(encoded.len() < raw.len() || (codec == Codec::Raw && encoded == raw));
    let mut out = vec![0xaa; 17];
    assert_eq!(decoder.decode(codec, encoded, raw.len(), &mut out), Ok(()));
    assert!(out == raw);
    codec
}

/// Runs `command` on `input` and returns its output; `None`, with a note on stderr, when there is
/// no such command.
fn tool(command: &str, args: &[&str], input: &[u8]) -> Option<(bool, Vec<u8>)> {
    let child = Command::new(command)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("SKIPPED: no command `{command}` to compare with");
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    Some((output.status.success(), output.stdout))
}

#[test]
fn every_level_round_trips() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    for raw in [
        text(1, 100_000),
        vec![0; 70_000],
        nearly_random(2, 65_536),
        random_bytes(3, 40_000),
    ] {
        for compression in all_compressions() {
            round_trip(&mut encoder, &mut decoder, compression, &raw);
        }
    }
}

#[test]
fn only_data_that_shrinks_is_compressed() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let (gzip, zstd) = (Compression::default(), Compression::Zstd { level: 3 });
    assert_eq!(
        round_trip(&mut encoder, &mut decoder, gzip, &text(1, 50_000)),
        Codec::Gzip
    );
    assert_eq!(
        round_trip(&mut encoder, &mut decoder, zstd, &text(1, 50_000)),
        Codec::Zstd
    );
    assert_eq!(
        round_trip(&mut encoder, &mut decoder, Compression::None, &text(1, 50_000)),
        Codec::Raw
    );
    for compression in [gzip, zstd] {
        assert_eq!(
            round_trip(&mut encoder, &mut decoder, compression, &random_bytes(1, 50_000)),
            Codec::Raw
        );
        for len in 0..8 {
            assert_eq!(
                round_trip(&mut encoder, &mut decoder, compression, &vec![0; len]),
                Codec::Raw
            );
        }
    }
}

#[test]
fn raw_chunks_are_not_copied() {
    let raw = random_bytes(9, 100_000);
    let mut encoder = Encoder::new();
    for compression in [
        Compression::None,
        Compression::default(),
        Compression::Zstd { level: 1 },
    ] {
        let (codec, encoded) = encoder.encode(compression, &raw);
        assert_eq!((codec, encoded.as_ptr()), (Codec::Raw, raw.as_ptr()));
    }
}

#[test]
fn a_used_encoder_gives_the_bytes_of_a_new_one() {
    let mut used = Encoder::new();
    for round in 0..3 {
        for compression in [
            Compression::Gzip { level: 3 },
            Compression::Zstd { level: 3 },
            Compression::Gzip { level: 6 },
        ] {
            for raw in [text(round, 200_000), nearly_random(round, 30_000), vec![1; 1000]] {
                let fresh = Encoder::new().encode(compression, &raw).1.to_vec();
                assert!(used.encode(compression, &raw).1 == fresh);
            }
        }
    }
}

#[test]
fn zstd_looks_at_a_sample_only_after_data_that_did_not_shrink() {
    let zstd = Compression::Zstd { level: 3 };
    // random where the sample is taken, and text in between
    let mut mixed = text(1, 1 << 20);
    for part in mixed.chunks_mut((1 << 20) / SAMPLE_PIECES) {
        part[..SAMPLE_PIECE_LEN].copy_from_slice(&random_bytes(2, SAMPLE_PIECE_LEN));
    }
    assert!(looks_random(&mixed));
    let mut encoder = Encoder::new();
    assert_eq!(encoder.encode(zstd, &mixed).0, Codec::Zstd);
    assert_eq!(encoder.encode(zstd, &random_bytes(3, 1 << 20)).0, Codec::Raw);
    assert_eq!(encoder.encode(zstd, &mixed).0, Codec::Raw);
    assert_eq!(encoder.encode(zstd, &text(1, 1 << 20)).0, Codec::Zstd);
    assert_eq!(encoder.encode(zstd, &mixed).0, Codec::Zstd);
}

#[test]
fn random_looking_data_is_detected() {
    assert!(looks_random(&random_bytes(1, 4096)));
    assert!(looks_random(&random_bytes(1, 1 << 20)));
    assert!(!looks_random(&[]));
    assert!(!looks_random(b"a"));
    assert!(!looks_random(&nearly_random(1, 1 << 20)));
    assert!(!looks_random(&text(1, 1 << 20)));
    let mut half = random_bytes(1, 1 << 19);
    half.resize(1 << 20, 0);
    assert!(!looks_random(&half));
    assert!(looks_random(&random_bytes(1, 8 * 4096 + 7)));
}

#[test]
fn the_level_by_the_data_is_the_cheaper_one_of_nearly_the_same_output() {
    let chunks = |kind: fn(u64, usize) -> Vec<u8>, first: u64| (first..first + 4).map(move |seed| kind(seed, 100_000));
    let len = |level: i32, chunks: &[Vec<u8>]| -> usize {
        let mut encoder = Encoder::new();
        let len = |raw: &Vec<u8>| encoder.encode(Compression::Zstd { level }, raw).1.len();
        chunks.iter().map(len).sum()
    };
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let mut levels = Vec::new();
    let auto = AutoLevel::default();
    for kind in [text, nearly_random, text] {
        let trial: Vec<Vec<u8>> = chunks(kind, 1).collect();
        let expected = if len(1, &trial) * 100 <= len(3, &trial) * 102 {
            1
        } else {
            3
        };
        for raw in &trial {
            auto.encode(&mut encoder, raw);
        }
        assert_eq!(auto.level(), expected);
        levels.push(expected);
        // until the next trial every chunk is compressed at that level
        for seed in 0..124 {
            let raw = kind(seed, 20_000);
            let (codec, encoded) = auto.encode(&mut encoder, &raw);
            let mut out = Vec::new();
            assert_eq!(decoder.decode(codec, encoded, raw.len(), &mut out), Ok(()));
            assert!(out == raw);
            let encoded = encoded.to_vec();
            let mut other = Encoder::new();
            assert!(other.encode(Compression::Zstd { level: expected }, &raw).1 == encoded);
        }
    }
    assert_eq!(levels, [3, 1, 3]);
}

#[test]
fn levels_out_of_range_are_refused_and_store_raw() {
    for bad in [
        Compression::Gzip { level: 0 },
        Compression::Gzip { level: 10 },
        Compression::Zstd { level: 0 },
    ] {
        assert_eq!(bad.validate(), Err(Error::Unsupported));
        assert_eq!(Encoder::new().encode(bad, &[0; 5000]).0, Codec::Raw);
    }
    assert_eq!(Compression::Zstd { level: 20 }.validate(), Err(Error::Unsupported));
    assert_eq!(Compression::Zstd { level: -1 }.validate(), Err(Error::Unsupported));
}

#[test]
fn settings_are_parsed_by_name_and_level() {
    assert_eq!(Compression::parse("gzip", None), Ok(Compression::default()));
    assert_eq!(Compression::parse("zstd", None), Ok(Compression::Zstd { level: 3 }));
    for compression in all_compressions() {
        let level = Some(i64::from(compression.level()));
        assert_eq!(Compression::parse(compression.algorithm(), level), Ok(compression));
    }
    assert_eq!(Compression::parse("none", None), Ok(Compression::None));
    for (name, level) in [
        ("gzip", 0),
        ("gzip", 10),
        ("gzip", -1),
        ("zstd", 20),
        ("zstd", i64::MAX),
        ("none", 1),
        ("lz4", 1),
    ] {
        assert_eq!(
            Compression::parse(name, Some(level)),
            Err(Error::Unsupported),
            "{name} {level}"
        );
    }
    for number in 0..=2u8 {
        assert_eq!(Codec::try_from(number).map(u8::from), Ok(number));
    }
    assert_eq!(Codec::try_from(3), Err(Error::Unsupported));
}

#[test]
fn the_command_line_tools_read_the_output_of_the_encoder() {
    let raw = text(5, 300_000);
    for compression in all_compressions() {
        let mut encoder = Encoder::new();
        let (codec, encoded) = encoder.encode(compression, &raw);
        let command = match codec {
            Codec::Gzip => "gzip",
            Codec::Zstd => "zstd",
            Codec::Raw => continue,
        };
        let Some((fine, output)) = tool(command, &["-dc"], encoded) else {
            return;
        };
        assert!(fine && output == raw, "{compression:?}");
    }
}

#[test]
fn the_decoder_reads_the_output_of_the_command_line_tools() {
    let mut decoder = Decoder::new();
    for raw in [text(6, 300_000), random_bytes(7, 10_000), vec![0; 1]] {
        for (codec, command, args) in [
            (Codec::Gzip, "gzip", &["-c1"][..]),
            (Codec::Gzip, "gzip", &["-c9"]),
            (Codec::Zstd, "zstd", &["-c", "-3"]),
            (Codec::Zstd, "zstd", &["-c", "-19", "--no-check"]),
            (Codec::Zstd, "zstd", &["-c", "--ultra", "-22", "--long=27"]),
        ] {
            let Some((fine, encoded)) = tool(command, args, &raw) else {
                return;
            };
            assert!(fine);
            let mut out = Vec::new();
            assert_eq!(
                decoder.decode(codec, &encoded, raw.len(), &mut out),
                Ok(()),
                "{command} {args:?}"
            );
            assert!(out == raw);
            for wrong in [0, raw.len() - 1, raw.len() + 1] {
                assert!(
                    decoder.decode(codec, &encoded, wrong, &mut out).is_err(),
                    "{command} {args:?} {wrong}"
                );
                assert!(out.is_empty());
            }
        }
    }
}

#[test]
fn optional_fields_of_a_gzip_header_are_skipped() {
    let raw = text(8, 5000);
    let mut encoder = Encoder::new();
    let plain = encoder.encode(Compression::default(), &raw).1.to_vec();
    let mut header = vec![0x1f, 0x8b, 8, 2 | 4 | 8 | 16, 1, 2, 3, 4, 0, 3];
    header.extend_from_slice(&[3, 0, 9, 9, 9]);
    header.extend_from_slice(b"name\0comment\0");
    let mut crc = flate2::Crc::new();
    crc.update(&header);
    header.extend_from_slice(&crc.sum().to_le_bytes()[..2]);
    let member = [&header[..], &plain[10..]].concat();
    let (mut decoder, mut out) = (Decoder::new(), Vec::new());
    assert_eq!(decoder.decode(Codec::Gzip, &member, raw.len(), &mut out), Ok(()));
    assert!(out == raw);
    for cut in 0..header.len() {
        assert!(
            decoder
                .decode(Codec::Gzip, &member[..cut], raw.len(), &mut out)
                .is_err()
        );
    }
    for (at, value) in [
        (0, 0),
        (1, 0),
        (2, 7),
        (3, 0xff),
        (header.len() - 1, !header[header.len() - 1]),
    ] {
        let mut bad = member.clone();
        bad[at] = value;
        assert_eq!(
            decoder.decode(Codec::Gzip, &bad, raw.len(), &mut out),
            Err(Error::Malformed),
            "byte {at}"
        );
    }
}

#[test]
fn refuses_truncated_and_trailing_bytes() {
    let raw = text(10, 3000);
    let (mut encoder, mut decoder, mut out) = (Encoder::new(), Decoder::new(), Vec::new());
    for compression in [
        Compression::default(),
        Compression::Zstd { level: 3 },
        Compression::None,
    ] {
        let (codec, encoded) = encoder.encode(compression, &raw);
        for len in 0..encoded.len() {
            assert!(
                decoder.decode(codec, &encoded[..len], raw.len(), &mut out).is_err(),
                "{codec:?} cut at {len}"
            );
            assert!(out.is_empty());
        }
        let expected = if codec == Codec::Raw {
            Error::WrongLength
        } else {
            Error::TrailingBytes
        };
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0];
        for junk in [&[0][..], b"junk", &skippable, encoded] {
            let longer = [encoded, junk].concat();
            let result = decoder.decode(codec, &longer, raw.len(), &mut out);
            assert_eq!(result, Err(expected), "{codec:?}");
            let result = decoder.decode(codec, &longer, raw.len() * 2, &mut out);
            assert!(result.is_err() || codec == Codec::Raw);
        }
    }
}

#[test]
fn a_skippable_frame_is_not_a_chunk() {
    let frame = [0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0];
    let (mut decoder, mut out) = (Decoder::new(), Vec::new());
    assert_eq!(decoder.decode(Codec::Zstd, &frame, 0, &mut out), Err(Error::Malformed));
    assert_eq!(decoder.decode(Codec::Zstd, &frame, 5, &mut out), Err(Error::Malformed));
}

#[test]
fn decompression_bombs_are_errors_and_allocate_nothing() {
    let bomb = vec![0; 12 << 20];
    let (mut encoder, mut decoder, mut out) = (Encoder::new(), Decoder::new(), Vec::new());
    for compression in [Compression::Gzip { level: 9 }, Compression::Zstd { level: 19 }] {
        let (codec, encoded) = encoder.encode(compression, &bomb);
        assert!(encoded.len() < 20_000);
        let mut out = Vec::new();
        assert_eq!(
            decoder.decode(codec, encoded, 1000, &mut out),
            Err(Error::WrongLength),
            "{codec:?}"
        );
        assert!(out.capacity() < 5000);
    }
    // a zstd frame without a content size (as a streaming writer makes it) that decodes to far more
    // than allowed
    let stream = ::zstd::stream::encode_all(bomb.as_slice(), 3).unwrap();
    assert!(matches!(::zstd::zstd_safe::get_frame_content_size(&stream), Ok(None)));
    assert!(decoder.decode(Codec::Zstd, &stream, 1000, &mut out).is_err());
    assert_eq!(
        decoder.decode(Codec::Zstd, &stream, bomb.len() + 1, &mut out),
        Err(Error::WrongLength)
    );
    assert_eq!(decoder.decode(Codec::Zstd, &stream, bomb.len(), &mut out), Ok(()));
    assert_eq!(
        decoder.decode(Codec::Raw, &[], MAX_CHUNK_LEN + 1, &mut out),
        Err(Error::WrongLength)
    );
    assert_eq!(
        decoder.decode(Codec::Gzip, &[], usize::MAX, &mut out),
        Err(Error::WrongLength)
    );
}

#[test]
fn false_header_fields_are_refused() {
    // magic ‖ single segment with a u64 content size ‖ the false size ‖ last raw block of one byte
    let frame = |size: u64| {
        [
            &[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..],
            &size.to_le_bytes(),
            &[0x09, 0, 0, b'x'],
        ]
        .concat()
    };
    let (mut decoder, mut out) = (Decoder::new(), Vec::new());
    assert_eq!(decoder.decode(Codec::Zstd, &frame(1), 1, &mut out), Ok(()));
    assert_eq!(out, b"x");
    // not u64::MAX, which the library reads as "not stated"; the true length is checked all the
    // same
    for size in [0, 2, 1 << 20, u64::MAX - 2, u64::MAX - 1] {
        assert!(
            decoder.decode(Codec::Zstd, &frame(size), 1, &mut out).is_err(),
            "{size}"
        );
    }
    assert_eq!(
        decoder.decode(Codec::Zstd, &frame(2), 2, &mut out),
        Err(Error::Malformed)
    );
    // no content size, and a window of 3.75 TiB
    let window = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xff, 0x09, 0, 0, b'x'];
    let _ = decoder.decode(Codec::Zstd, &window, 1, &mut out);
    assert!(out.len() <= 1);
    // a dictionary is named
    let dictionary = [0x28, 0xb5, 0x2f, 0xfd, 0x21, 0x07, 0x01, 0x09, 0, 0, b'x'];
    assert_eq!(
        decoder.decode(Codec::Zstd, &dictionary, 1, &mut out),
        Err(Error::Malformed)
    );
    // the decoder still works after all that
    assert_eq!(decoder.decode(Codec::Zstd, &frame(1), 1, &mut out), Ok(()));
}

#[test]
fn a_decoder_still_works_after_an_error() {
    let raw = text(11, 20_000);
    let (mut encoder, mut decoder, mut out) = (Encoder::new(), Decoder::new(), Vec::new());
    for compression in [Compression::default(), Compression::Zstd { level: 3 }] {
        let (codec, encoded) = encoder.encode(compression, &raw);
        for at in (0..encoded.len()).step_by(37) {
            let mut bad = encoded.to_vec();
            bad[at] ^= 0x10;
            if decoder.decode(codec, &bad, raw.len(), &mut out).is_ok() {
                assert_eq!(out.len(), raw.len());
            }
            assert_eq!(decoder.decode(codec, encoded, raw.len(), &mut out), Ok(()));
            assert!(out == raw);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn decoding_inverts_encoding(pieces in prop::collection::vec((any::<u8>(), 0usize..3000), 0..6), seed: u64) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        let mut raw = random_bytes(seed, usize::try_from(seed % 3000).unwrap());
        for (byte, count) in pieces {
            raw.extend(std::iter::repeat_n(byte, count));
        }
        for compression in [Compression::Gzip { level: 1 }, Compression::default(), Compression::Zstd { level: 1 }] {
            round_trip(&mut encoder, &mut decoder, compression, &raw);
        }
    }

    #[test]
    fn any_bytes_decode_to_the_stated_length_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200), len in 0usize..5000) {
        let (mut decoder, mut out) = (Decoder::new(), Vec::new());
        let gzip = [&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255][..], &bytes].concat();
        let zstd = [&[0x28, 0xb5, 0x2f, 0xfd][..], &bytes].concat();
        for (codec, bytes) in [(Codec::Gzip, &gzip), (Codec::Zstd, &zstd), (Codec::Gzip, &bytes), (Codec::Zstd, &bytes)] {
            match decoder.decode(codec, bytes, len, &mut out) {
                Ok(()) => prop_assert_eq!(out.len(), len),
                Err(_) => prop_assert!(out.is_empty()),
            }
        }
    }
}
