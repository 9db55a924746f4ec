//! Manifests and their copies: golden text, damage, and wrong contents under a right checksum.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::copy::{CopyPart, MAX_COPY_CHUNK_LEN, join, split_copy};
use super::super::error::damaged;
use super::super::manifest::{decode, encode};
use super::super::*;
use super::sample;
use crate::crypto::{self, SecretKey};
use crate::entropy::{Entropy, NoEntropy, SeededEntropy};
use crate::id::{ChunkId, RepoId, SnapshotId, to_hex};
use crate::{checked_json, clock};

const REPO: RepoId = RepoId([0x11; 16]);
const GOLDEN: &str = concat!(
    r#"{"version":1,"id":"5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a","createdAt":"2026-11-23T01:45:00.123Z","#,
    r#""tags":{"__proto__":"x","constructor":"\u0000\"é\n","service":"db"},"#,
    r#""originalSize":9000065543,"storedSize":1234,"chunkCount":34002,"newChunks":2,"reusedChunks":34000,"#,
    r#""writer":{"tool":"containerarchive","version":"0.1.0"},"items":["#,
    r#"{"name":"__proto__","type":"stream","size":0,"chunkCount":0,"chunks":[]},"#,
    r#"{"name":"config","type":"stream","size":65543,"chunkCount":2,"chunks":["#,
    r#"["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",65536],"#,
    r#"["bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",7]]},"#,
    r#"{"name":"dump.sql","type":"stream","size":9000000000,"chunkCount":34000,"#,
    r#""list":{"root":"cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc","level":1},"#,
    r#""digest":{"sha256":"dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"}}]}"#,
);

struct Keys {
    manifest: SecretKey,
    hedge: SecretKey,
}

impl Keys {
    fn new() -> Self {
        Self {
            manifest: SecretKey::new([3; 32]),
            hedge: SecretKey::new([4; 32]),
        }
    }

    fn encode(&self, snapshot: &Snapshot, seed: u64) -> Vec<u8> {
        let seal = ManifestSeal::Sealed {
            epoch: 2,
            key: &self.manifest,
            hedge: &self.hedge,
        };
        encode(snapshot, &seal, &REPO, &SeededEntropy::new(seed)).unwrap()
    }

    fn decode(&self, bytes: &[u8], id: &SnapshotId) -> Result<Snapshot, Error> {
        let key_of = |epoch| (epoch == 2).then_some(&self.manifest);
        decode(bytes, id, &ManifestKeys::Sealed(&key_of), &REPO)
    }
}

fn encode_plain(snapshot: &Snapshot) -> Result<Vec<u8>, Error> {
    encode(snapshot, &ManifestSeal::Plain, &REPO, &SeededEntropy::new(0))
}

fn decode_plain(bytes: &[u8]) -> Result<Snapshot, Error> {
    decode(bytes, &sample().id, &ManifestKeys::Plain, &REPO)
}

/// The golden text with a part replaced, under a right checksum.
fn with(from: &str, to: &str) -> Result<Snapshot, Error> {
    assert!(GOLDEN.contains(from), "{from}");
    decode_plain(checked_json::finish(GOLDEN.replacen(from, to, 1)).as_bytes())
}

#[test]
fn a_plain_manifest_has_its_golden_text() {
    let bytes = encode_plain(&sample()).unwrap();
    assert_eq!(
        String::from_utf8(bytes.clone()).unwrap(),
        checked_json::finish(GOLDEN.into())
    );
    assert_eq!(decode_plain(&bytes).unwrap(), sample());
    assert_eq!(sample().created_at(), "2026-11-23T01:45:00.123Z");
    assert_eq!(sample().item("config").unwrap().size, 65_543);
}

#[test]
fn the_sequence_follows_the_time_and_its_absence_is_zero() {
    let numbered = Snapshot {
        sequence: 7,
        ..sample()
    };
    let text = GOLDEN.replacen(r#"Z","tags""#, r#"Z","sequence":7,"tags""#, 1);
    let bytes = encode_plain(&numbered).unwrap();
    assert_eq!(String::from_utf8(bytes.clone()).unwrap(), checked_json::finish(text));
    assert_eq!(decode_plain(&bytes).unwrap(), numbered);
    let largest = Snapshot {
        sequence: MAX_SIZE,
        ..sample()
    };
    assert_eq!(decode_plain(&encode_plain(&largest).unwrap()).unwrap(), largest);
    let too_large = Snapshot {
        sequence: MAX_SIZE + 1,
        ..sample()
    };
    assert!(encode_plain(&too_large).is_err());
    assert!(with(r#""tags""#, r#""sequence":9007199254740993,"tags""#).is_err());
    assert!(with(r#""tags""#, r#""sequence":-1,"tags""#).is_err());
    assert!(with(r#""tags""#, r#""sequence":"7","tags""#).is_err());
    assert_eq!(with(r#""tags""#, r#""sequence":0,"tags""#).unwrap(), sample());
}

#[test]
fn a_sealed_manifest_has_its_golden_bytes_and_reveals_nothing() {
    let keys = Keys::new();
    let bytes = keys.encode(&sample(), 1);
    let text = String::from_utf8(bytes.clone()).unwrap();
    let start = concat!(
        r#"{"version":1,"id":"5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a","sealed":{"alg":"aes-256-gcm","epoch":2,"#,
        r#""salt":"GhaxnIzX7q/rXWg1A7jhI3zG8e15PunE","#
    );
    assert!(text.starts_with(start), "{}", &text[..200]);
    assert_eq!(
        to_hex(&crypto::sha256(&[&bytes])),
        "b47d02674ec3d50961152762dc9fee62da0e5ca6ba31333ce06010e18f9d3d34"
    );
    for secret in ["dump", "db", "tags", "size"] {
        assert!(!text.contains(secret), "{secret}");
    }
    assert_eq!(keys.decode(&bytes, &sample().id).unwrap(), sample());
}

#[test]
fn sealed_manifests_of_similar_lengths_are_padded_to_the_same_length() {
    let keys = Keys::new();
    let longer = |extra: usize| Snapshot {
        writer_version: "1".repeat(extra),
        ..sample()
    };
    let lens: std::collections::BTreeSet<_> = (1..50).map(|extra| keys.encode(&longer(extra), 1).len()).collect();
    assert!(lens.len() <= 2, "{lens:?}");
    let small = Snapshot {
        items: Vec::new(),
        tags: BTreeMap::new(),
        ..sample()
    };
    let text = String::from_utf8(keys.encode(&small, 1)).unwrap();
    let ct = text.split(r#""ct":""#).nth(1).unwrap().split('"').next().unwrap();
    // 1024 bytes and the tag, in Base64
    assert_eq!(ct.len(), (1024usize + 16).div_ceil(3) * 4);
    assert_eq!(keys.decode(&keys.encode(&small, 1), &small.id).unwrap(), small);
}

#[test]
fn a_broken_random_generator_does_not_repeat_a_salt_for_another_text() {
    let keys = Keys::new();
    let other = Snapshot {
        stored_size: 1,
        ..sample()
    };
    let salt = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap()[95..150].to_string();
    assert_eq!(salt(keys.encode(&sample(), 1)), salt(keys.encode(&sample(), 1)));
    assert_ne!(salt(keys.encode(&sample(), 1)), salt(keys.encode(&sample(), 2)));
    assert_ne!(salt(keys.encode(&sample(), 1)), salt(keys.encode(&other, 1)));

    struct Broken;
    impl Entropy for Broken {
        fn fill(&self, _: &mut [u8]) -> Result<(), NoEntropy> {
            Err(NoEntropy)
        }
    }
    let seal = ManifestSeal::Sealed {
        epoch: 2,
        key: &keys.manifest,
        hedge: &keys.hedge,
    };
    assert_eq!(encode(&sample(), &seal, &REPO, &Broken), Err(Error::Entropy));
}

#[test]
fn decode_refuses_manifests_with_any_byte_flipped_or_missing() {
    let (keys, id) = (Keys::new(), sample().id);
    let (plain, sealed) = (encode_plain(&sample()).unwrap(), keys.encode(&sample(), 1));
    for bytes in [&plain, &sealed] {
        for at in 0..bytes.len() {
            for flip in [1, 0x20, 0x80] {
                let mut flipped = bytes.clone();
                flipped[at] ^= flip;
                assert!(decode_plain(&flipped).is_err(), "byte {at}");
                assert!(keys.decode(&flipped, &id).is_err(), "byte {at}");
            }
        }
        for cut in 0..bytes.len() {
            assert!(
                decode_plain(&bytes[..cut]).is_err() && keys.decode(&bytes[..cut], &id).is_err(),
                "cut at {cut}"
            );
        }
        let longer = [bytes.as_slice(), b" "].concat();
        assert!(decode_plain(&longer).is_err() && keys.decode(&longer, &id).is_err());
    }
}

#[test]
fn decode_refuses_a_sealed_manifest_altered_under_a_right_checksum() {
    let keys = Keys::new();
    let text = String::from_utf8(keys.encode(&sample(), 1)).unwrap();
    let body = format!("{}}}", text.split(r#","checksum""#).next().unwrap());
    for at in 60..body.len() - 1 {
        let mut altered = body.clone().into_bytes();
        altered[at] = if altered[at] == b'A' { b'B' } else { b'A' };
        let file = checked_json::finish(String::from_utf8(altered).unwrap());
        assert!(keys.decode(file.as_bytes(), &sample().id).is_err(), "byte {at}");
    }
}

#[test]
fn decode_refuses_a_plain_manifest_in_an_encrypted_repository_and_a_sealed_one_in_a_plain_one() {
    let (keys, id) = (Keys::new(), sample().id);
    let refused = keys.decode(&encode_plain(&sample()).unwrap(), &id);
    assert_eq!(refused, damaged("the manifest is not sealed and the repository is"));
    let refused = decode_plain(&keys.encode(&sample(), 1));
    assert_eq!(refused, damaged("the manifest is sealed and the repository is not"));
    let both = GOLDEN.replace(r#""tags""#, r#""sealed":{},"tags""#);
    assert!(decode_plain(checked_json::finish(both).as_bytes()).is_err());
}

#[test]
fn decode_distinguishes_a_missing_key_and_a_later_version_from_damage() {
    let (keys, id) = (Keys::new(), sample().id);
    let bytes = keys.encode(&sample(), 1);
    assert_eq!(
        decode(&bytes, &id, &ManifestKeys::Sealed(&|_| None), &REPO),
        Err(Error::Key { epoch: 2 })
    );
    let wrong = |_| Some(&keys.hedge);
    assert!(matches!(
        decode(&bytes, &id, &ManifestKeys::Sealed(&wrong), &REPO),
        Err(Error::Damaged { .. })
    ));
    let later = checked_json::finish(r#"{"version":4294967297,"shape":"new"}"#.into());
    assert_eq!(
        decode_plain(later.as_bytes()),
        Err(Error::UnsupportedVersion(4_294_967_297))
    );
    assert_eq!(
        keys.decode(later.as_bytes(), &id),
        Err(Error::UnsupportedVersion(4_294_967_297))
    );
}

#[test]
fn a_manifest_is_valid_only_under_its_own_id_and_repository() {
    let (keys, other) = (Keys::new(), SnapshotId([1; 16]));
    let plain = encode_plain(&sample()).unwrap();
    assert!(decode(&plain, &other, &ManifestKeys::Plain, &REPO).is_err());
    let sealed = keys.encode(&sample(), 1);
    assert!(keys.decode(&sealed, &other).is_err());
    let key_of = |_| Some(&keys.manifest);
    assert!(decode(&sealed, &sample().id, &ManifestKeys::Sealed(&key_of), &RepoId([2; 16])).is_err());
    // renamed outside, with a corrected checksum: the seal detects it
    let text = String::from_utf8(sealed)
        .unwrap()
        .replace(&sample().id.to_hex(), &other.to_hex());
    let body = format!("{}}}", text.split(r#","checksum""#).next().unwrap());
    assert!(keys.decode(checked_json::finish(body).as_bytes(), &other).is_err());
}

#[test]
fn unknown_members_are_ignored() {
    for field in [r#""createdAt""#, r#""tool""#, r#""root""#, r#""sha256""#, r#""size":0"#] {
        assert_eq!(
            with(field, &format!(r#""later":{{"a":[1,null]}},{field}"#)).unwrap(),
            sample(),
            "{field}"
        );
    }
}

const EXTRA: &str = concat!(
    r#""extra":[{"kind":"later-2","root":"eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee","#,
    r#""level":1,"size":70000,"chunkCount":2}]"#,
);

/// The golden text with extras in its first item, and their decoded form.
fn with_extra(extra: &str) -> Result<Snapshot, Error> {
    with(r#""chunks":[]}"#, &format!(r#""chunks":[],{extra}}}"#))
}

#[test]
fn extras_of_any_kind_are_kept_and_counted_in_nothing() {
    let decoded = with_extra(EXTRA).unwrap();
    let extra = Extra {
        kind: "later-2".to_owned(),
        root: ChunkId([0xee; 32]),
        level: 1,
        size: 70_000,
        chunk_count: 2,
    };
    let mut expected = sample();
    expected.items[0].extra.push(extra.clone());
    assert_eq!(decoded, expected);
    let golden = GOLDEN.replace(r#""chunks":[]}"#, &format!(r#""chunks":[],{EXTRA}}}"#));
    assert_eq!(encode_plain(&decoded).unwrap(), checked_json::finish(golden).as_bytes());
    let sizes: Vec<u64> = decoded.lists().map(|list| list.size).collect();
    assert_eq!(sizes, [0, 70_000, 65_543, 9_000_000_000]);
    assert_eq!(decoded.items[0].extra_of("later-2"), Some(&extra));
    assert_eq!(decoded.items[0].extra_of("other"), None);
}

#[test]
fn decode_refuses_extras_that_no_writer_makes() {
    for (from, to) in [
        ("later-2", ""),
        ("later-2", "Later"),
        ("later-2", "a b"),
        ("later-2", "a\\u0000"),
        ("eeee", "EEEE"),
        (r#""level":1"#, r#""level":8"#),
        (r#""size":70000"#, r#""size":1"#),
        (r#""size":70000"#, r#""size":9007199254740993"#),
        (r#""chunkCount":2"#, r#""chunkCount":0"#),
        (r#""chunkCount":2"#, r#""chunkCount":4294967296"#),
        (r#","chunkCount":2"#, ""),
        (r#""kind":"later-2","#, ""),
    ] {
        assert!(with_extra(&EXTRA.replace(from, to)).is_err(), "{from} {to}");
    }
    let long = |len: usize| with_extra(&EXTRA.replace("later-2", &"a".repeat(len)));
    assert!(long(MAX_EXTRA_KIND_LEN).is_ok());
    assert!(long(MAX_EXTRA_KIND_LEN + 1).is_err());
    let one = EXTRA.strip_prefix(r#""extra":["#).unwrap().strip_suffix(']').unwrap();
    let many = |count: usize| with_extra(&format!(r#""extra":[{}]"#, vec![one; count].join(",")));
    assert!(many(EXTRAS_PER_ITEM).is_ok());
    assert!(many(EXTRAS_PER_ITEM + 1).is_err());
}

#[test]
fn decode_refuses_wrong_contents_under_a_right_checksum() {
    let wrong = [
        (r#""version":1"#, r#""version":"1""#),
        (r#""version":1,"#, ""),
        ("2026-11-23T01:45:00.123Z", "2026-11-23T02:45:00.123+01:00"),
        ("2026-11-23T01:45:00.123Z", "2026-11-23"),
        (r#""service":"db""#, r#""service":1"#),
        ("9000065543", "9007199254740993"),
        ("9000065543", "-1"),
        ("9000065543", "1.5"),
        ("9000065543", "18446744073709551616"),
        (r#""storedSize":1234,"#, ""),
        (r#""storedSize":1234"#, r#""storedSize":1234,"storedSize":1234"#),
        (r#""name":"config""#, r#""name":"dump.sql""#),
        ("aaaa", "AAAA"),
        ("aaaa", "aaa"),
        ("aaaa", "aag\\u0061"),
        ("65536]", "65537]"),
        ("65536]", "65536,1]"),
        (",65536]", "]"),
        (",7]", ",0]"),
        (r#""size":65543,"chunkCount":2"#, r#""size":65543,"chunkCount":3"#),
        (r#","chunks":[]"#, ""),
        (r#""chunks":[]"#, r#""chunks":null"#),
        (r#""chunks":[]"#, r#""chunks":[],"list":{"root":"cc","level":1}"#),
        (r#""level":1"#, r#""level":8"#),
        (r#""level":1"#, r#""level":256"#),
        (r#""chunkCount":34000"#, r#""chunkCount":0"#),
        (r#""chunkCount":34000"#, r#""chunkCount":4294967296"#),
        (r#""size":9000000000"#, r#""size":33999"#),
        ("cccc", "ccc"),
        ("dddd", "ddd"),
    ];
    for (from, to) in wrong {
        match with(from, to) {
            Err(Error::Damaged { .. }) => {}
            other => panic!("{from} -> {to}: {other:?}"),
        }
    }
}

#[test]
fn encode_refuses_what_decode_would_refuse() {
    let mut two_alike = sample();
    two_alike.items.push(two_alike.items[0].clone());
    let mut wrong_sum = sample();
    wrong_sum.items[1].size += 1;
    let mut too_deep = sample();
    too_deep.items[2].content = ItemContent::List {
        root: ChunkId([0; 32]),
        level: 8,
    };
    let too_large = Snapshot {
        stored_size: MAX_SIZE + 1,
        ..sample()
    };
    let later = Snapshot { version: 2, ..sample() };
    for snapshot in [two_alike, wrong_sum, too_deep, too_large, later] {
        assert!(matches!(encode_plain(&snapshot), Err(Error::Invalid { .. })));
    }
    assert!(
        encode_plain(&Snapshot {
            stored_size: MAX_SIZE,
            ..sample()
        })
        .is_ok()
    );
}

#[test]
fn a_manifest_is_restored_from_its_copy() {
    let id = sample().id;
    let manifest: Vec<u8> = (0..2_500_000u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let parts: Vec<Vec<u8>> = split_copy(id, &manifest).collect();
    assert_eq!(
        parts.iter().map(Vec::len).collect::<Vec<_>>(),
        [
            MAX_COPY_CHUNK_LEN,
            MAX_COPY_CHUNK_LEN,
            2_500_000 - 2 * (MAX_COPY_CHUNK_LEN - 72) + 72
        ]
    );
    let decoded: Vec<CopyPart> = parts.iter().map(|part| CopyPart::decode(part).unwrap()).collect();
    let pick = |order: &[usize]| join(order.iter().map(|at| decoded[*at].clone()).collect());
    assert_eq!(pick(&[0, 1, 2]), Ok((id, manifest.clone())));
    assert_eq!(pick(&[2, 0, 1, 2, 0]), Ok((id, manifest.clone())));
    assert!(pick(&[0, 1]).is_err() && pick(&[1, 2]).is_err() && pick(&[]).is_err());
    let stranger = CopyPart::decode(&split_copy(SnapshotId([1; 16]), &manifest).nth(2).unwrap()).unwrap();
    assert!(join(vec![decoded[0].clone(), decoded[1].clone(), stranger]).is_err());
}

#[test]
fn a_copy_part_has_its_golden_header() {
    let part = split_copy(SnapshotId([0x5a; 16]), b"abc").next().unwrap();
    let golden = [
        "43414d4301000000".to_string(),
        "5a".repeat(16),
        "0000000001000000".into(),
        "0300000000000000".into(),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".into(),
        "616263".into(),
    ];
    assert_eq!(to_hex(&part), golden.concat());
}

#[test]
fn join_refuses_a_copy_with_any_byte_flipped() {
    let id = sample().id;
    let manifest = encode_plain(&sample()).unwrap();
    let whole = |part: &[u8]| -> Result<Snapshot, Error> {
        let (id, bytes) = join(vec![CopyPart::decode(part)?])?;
        decode(&bytes, &id, &ManifestKeys::Plain, &REPO)
    };
    let part = split_copy(id, &manifest).next().unwrap();
    assert_eq!(whole(&part).unwrap(), sample());
    for at in 0..part.len() {
        for flip in [1, 0x20, 0x80] {
            let mut flipped = part.clone();
            flipped[at] ^= flip;
            assert!(whole(&flipped).is_err(), "byte {at}");
        }
        assert!(whole(&part[..at]).is_err(), "cut at {at}");
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let keys = Keys::new();
        let mut part = split_copy(sample().id, b"x").next().unwrap();
        let _ = decode_plain(&bytes);
        let _ = keys.decode(&bytes, &sample().id);
        let _ = CopyPart::decode(&bytes);
        let at = bytes.len() % part.len();
        part.splice(at.., bytes.iter().copied());
        let _ = CopyPart::decode(&part).map(|part| join(vec![part]));
    }

    #[test]
    fn altered_json_under_a_right_checksum_never_panics(
        edits in proptest::collection::vec((0..GOLDEN.len(), "[0-9a-z\"\\[\\]{},:. -]"), 1..6)
    ) {
        let mut text: Vec<char> = GOLDEN.chars().collect();
        for (at, with) in edits {
            // the braces stay, so that the checks after them are reached
            let at = 1 + at % (text.len() - 2);
            text[at] = with.chars().next().unwrap();
        }
        let _ = decode_plain(checked_json::finish(text.into_iter().collect()).as_bytes());
    }

    #[test]
    fn any_snapshot_round_trips(
        tags in proptest::collection::btree_map(".{0,12}", ".{0,12}", 0..5),
        names in proptest::collection::btree_set(".{0,20}", 0..5),
        lens in proptest::collection::vec(1..=MAX_RAW_LEN, 0..40),
        ms in clock::parse_time("0000-01-01").unwrap()..clock::parse_time("9999-01-01").unwrap(),
    ) {
        let chunks: Vec<_> = lens.iter().map(|len| (ChunkId(crypto::sha256(&[&len.to_le_bytes()])), *len)).collect();
        let items = names.into_iter().map(|name| SnapshotItem {
            kind: name.clone(),
            name,
            size: lens.iter().map(|len| u64::from(*len)).sum(),
            chunk_count: lens.len() as u64,
            content: ItemContent::Inline(chunks.clone()),
            sha256: None,
            extra: Vec::new(),
        });
        let snapshot = Snapshot { tags, created_at_ms: ms, items: items.collect(), ..sample() };
        prop_assert_eq!(&decode_plain(&encode_plain(&snapshot).unwrap()).unwrap(), &snapshot);
        let keys = Keys::new();
        prop_assert_eq!(keys.decode(&keys.encode(&snapshot, 9), &snapshot.id).unwrap(), snapshot);
    }
}
