//! Tests of keys and sealing: published vectors, other implementations as oracles, and every byte
//! of a key file flipped.

use super::*;
use crate::entropy::SeededEntropy;
use crate::id::{KeyId, RepoId, from_hex, to_hex};
use hmac::{Hmac, Mac};
use proptest::prelude::*;
use std::process::Command;

const CHEAP: KdfParams = KdfParams {
    memory_kib: 8,
    time: 1,
    lanes: 1,
};
const PASSPHRASE: &[u8] = b"correct horse battery staple";

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

fn key(hex: &str) -> SecretKey {
    SecretKey::new(from_hex(hex).unwrap())
}

fn bundle(seed: u64) -> KeyBundle {
    KeyBundle::generate(
        &SeededEntropy::new(seed),
        RepoId([0xab; 16]),
        Pin::new(65_536, 262_144, 1_048_576),
    )
    .ok()
    .unwrap()
}

fn wrap(bundle: &KeyBundle, credential: Credential, seed: u64) -> Vec<u8> {
    let new = NewKey {
        id: KeyId([0xcd; 16]),
        created_at: "2026-11-23T01:45:00.000Z",
        label: Some("laptop"),
    };
    KeyFile::wrap(bundle, &credential, &CHEAP, &new, &SeededEntropy::new(seed), &|| true).unwrap()
}

fn text(bundle: &KeyBundle) -> String {
    String::from_utf8(bundle.encode().unwrap().to_vec()).unwrap()
}

fn refused(bytes: &[u8], credential: Credential) -> Option<Error> {
    KeyFile::decode(bytes)
        .and_then(|file| file.unwrap(&credential, &|| true))
        .err()
}

/// The file with `from` replaced and the checksum recomputed, as an attacker does.
fn forged(file: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = std::str::from_utf8(file).unwrap();
    let (body, _) = text.rsplit_once(",\"checksum\":\"").unwrap();
    assert!(body.contains(from), "{from} is in {body}");
    crate::checked_json::finish(format!("{}}}", body.replacen(from, to, 1))).into_bytes()
}

#[test]
fn hkdf_expand_gives_the_answers_of_rfc_5869() {
    // A.1 and A.3 (SHA-256), from the PRK on
    let prk = key("077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5");
    let okm = prk.expand::<42>(&[&bytes("f0f1f2f3"), &bytes("f4f5f6f7f8f9")]);
    assert_eq!(
        to_hex(&*okm),
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    );
    let prk = key("19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04");
    let okm = prk.expand::<42>(&[]);
    assert_eq!(
        to_hex(&*okm),
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
    );
}

#[test]
fn hkdf_extract_is_an_hmac_as_in_rfc_5869() {
    // A.1: a salt of 13 bytes, padded with zeros as HMAC does with any short key
    let mut salt = [0; 32];
    salt[..13].copy_from_slice(&bytes("000102030405060708090a0b0c"));
    let prk = SecretKey::new(salt).hmac(&[&[0x0b; 22]]);
    assert_eq!(
        to_hex(&prk),
        "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"
    );
}

#[test]
fn hmac_gives_the_answers_of_rfc_4231() {
    let padded = |key: &[u8]| {
        let mut full = [0; 32];
        full[..key.len()].copy_from_slice(key);
        SecretKey::new(full)
    };
    // cases 1, 2 and 4: keys shorter than a block are padded with zeros
    for (key, data, expected) in [
        (
            &[0x0b; 20][..],
            &b"Hi There"[..],
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        ),
        (
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (
            &(1..=25).collect::<Vec<u8>>(),
            &[0xcd; 50],
            "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b",
        ),
    ] {
        assert_eq!(to_hex(&padded(key).hmac(&[data])), expected);
        let (front, back) = data.split_at(3);
        assert_eq!(to_hex(&padded(key).hmac(&[front, &[], back])), expected);
        assert_eq!(to_hex(padded(key).hmac_key(&[data]).as_bytes()), expected);
    }
}

#[test]
fn gcm_gives_the_answers_of_its_specification() {
    // McGrew and Viega, The Galois/Counter Mode of Operation, test cases 13, 14 and 16 (AES-256)
    let aes = |key: &str, nonce: &str, aad: &str, plain: &str, sealed: &str, tag: &str| {
        let (key, nonce): ([u8; 32], [u8; 12]) = (from_hex(key).unwrap(), from_hex(nonce).unwrap());
        let (aad, mut buf) = (bytes(aad), bytes(plain));
        let got = seal_in_place(&key, &nonce, &aad, &mut buf).unwrap();
        assert_eq!((to_hex(&buf).as_str(), to_hex(&got).as_str()), (sealed, tag));
        let (plain_bytes, mut out) = (bytes(plain), vec![0; buf.len()]);
        assert_eq!(seal_to(&key, &nonce, &aad, &plain_bytes, &mut out), Ok(got));
        assert_eq!(out, buf);
        assert_eq!(open_to(&key, &nonce, &aad, &buf, &mut out, &got), Ok(()));
        assert_eq!(out, plain_bytes);
        assert_eq!(open_in_place(&key, &nonce, &aad, &mut buf, &got), Ok(()));
        assert_eq!(to_hex(&buf), plain);
    };
    let (zero_key, zero_nonce) = ("00".repeat(32), "00".repeat(12));
    aes(&zero_key, &zero_nonce, "", "", "", "530f8afbc74536b9a963b4f1c4cb738b");
    let (zeros, sealed) = ("00".repeat(16), "cea7403d4d606b6e074ec5d3baf39d18");
    aes(
        &zero_key,
        &zero_nonce,
        "",
        &zeros,
        sealed,
        "d0d1c8a799996bf0265b98b5d48ab919",
    );
    aes(
        "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
        "cafebabefacedbaddecaf888",
        "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
        "76fc6ece0f4e1768cddf8853bb2d551b",
    );
}

#[test]
fn an_altered_message_does_not_open_and_its_buffer_stays_unchanged() {
    let (key, nonce) = ([1; 32], [2; 12]);
    let mut sealed = vec![3; 1000];
    let tag = seal_in_place(&key, &nonce, b"aad", &mut sealed).unwrap();
    let open = |key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], sealed: &[u8], tag: &[u8; 16]| {
        let mut buf = sealed.to_vec();
        let result = open_in_place(key, nonce, aad, &mut buf, tag);
        assert!(result.is_ok() || buf == sealed, "no plaintext is left in the buffer");
        let mut out = vec![7; sealed.len()];
        assert_eq!(open_to(key, nonce, aad, sealed, &mut out, tag), result);
        assert!(
            result.is_ok() || out.iter().all(|byte| *byte == 7),
            "the output is unchanged"
        );
        result
    };
    assert_eq!(open(&key, &nonce, b"aad", &sealed, &tag), Ok(()));
    assert_eq!(open(&[9; 32], &nonce, b"aad", &sealed, &tag), Err(Error::Damaged));
    assert_eq!(open(&key, &[9; 12], b"aad", &sealed, &tag), Err(Error::Damaged));
    assert_eq!(open(&key, &nonce, b"aae", &sealed, &tag), Err(Error::Damaged));
    assert_eq!(open(&key, &nonce, b"aad", &sealed[1..], &tag), Err(Error::Damaged));
    for at in 0..16 {
        let mut bad = tag;
        bad[at] ^= 1;
        assert_eq!(open(&key, &nonce, b"aad", &sealed, &bad), Err(Error::Damaged));
    }
    for at in [0, 500, 999] {
        let mut bad = sealed.clone();
        bad[at] ^= 0x80;
        assert_eq!(open(&key, &nonce, b"aad", &bad, &tag), Err(Error::Damaged));
    }
}

#[test]
fn an_output_of_another_length_is_refused() {
    let (key, nonce) = ([1; 32], [2; 12]);
    assert_eq!(seal_to(&key, &nonce, b"", &[0; 5], &mut [0; 6]), Err(Error::TooLong));
    assert_eq!(
        open_to(&key, &nonce, b"", &[0; 5], &mut [0; 4], &[0; 16]),
        Err(Error::TooLong)
    );
}

#[test]
fn hashes_are_those_of_format_md() {
    assert_eq!(
        to_hex(&sha256(&[b"a", b"", b"bc"])),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    assert_eq!(to_hex(&check8(b"abc")), "ba7816bf8f01cfea");
    assert_eq!(tag16("domain", &[b"ab", b"c"])[..], sha256(&[b"domain\0abc"])[..16]);
}

#[test]
fn openssl_agrees_on_hkdf_and_hmac() {
    let secret = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    let run = |args: &[&str]| match Command::new("openssl").args(args).output() {
        Ok(output) => Some(output),
        Err(_) => {
            eprintln!("SKIPPED: no command `openssl` to compare with");
            None
        }
    };
    let (key_option, info) = (format!("hexkey:{secret}"), "info:containerarchive/v1/chunker");
    let args = [
        "kdf",
        "-binary",
        "-keylen",
        "2048",
        "-kdfopt",
        "digest:SHA256",
        "-kdfopt",
        "mode:EXPAND_ONLY",
    ];
    let Some(output) = run(&[&args[..], &["-kdfopt", &key_option, "-kdfopt", info, "HKDF"]].concat()) else {
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        output.stdout
            == key(secret)
                .expand::<2048>(&[b"containerarchive/v1/", b"chunker"])
                .as_slice()
    );
}

#[test]
fn the_hierarchy_is_that_of_format_md() {
    // recomputed with the crates alone, from format.md §4.2
    let expand = |key: &[u8; 32], info: &[u8], len: usize| {
        let mut out = vec![0; len];
        hkdf::Hkdf::<sha2::Sha256>::from_prk(key)
            .unwrap()
            .expand(info, &mut out)
            .unwrap();
        out
    };
    let bundle = bundle(1);
    let keys = Keys::from_bundle(&bundle);
    let (number, epoch) = keys.current();
    assert_eq!(number, 1);
    let master = bundle.current.1.as_bytes();
    for (label, key) in [
        ("chunk-key", &epoch.chunk_key),
        ("pack-trailer", &epoch.pack_trailer),
        ("pack-pad", &epoch.pack_pad),
        ("index-segment", &epoch.index_segment),
        ("manifest", &epoch.manifest),
        ("config-mac", &epoch.config_mac),
        ("kill-list", &epoch.kill_list),
        ("hedge", &epoch.hedge),
    ] {
        let info = [b"containerarchive/v1/", label.as_bytes(), &[0], &bundle.repo.0].concat();
        assert!(key.as_bytes()[..] == expand(master, &info, 32), "{label}");
    }
    for (label, key) in [
        ("chunk-id", &keys.chunk_id),
        ("list-id", &keys.list_id),
        ("copy-id", &keys.copy_id),
    ] {
        let info = format!("containerarchive/v1/{label}");
        assert!(
            key.as_bytes()[..] == expand(bundle.dedup.as_bytes(), info.as_bytes(), 32),
            "{label}"
        );
    }
    assert!(keys.chunker[..] == expand(bundle.dedup.as_bytes(), b"containerarchive/v1/chunker", 2048));
}

#[test]
fn every_epoch_has_its_own_keys() {
    let mut bundle = bundle(2);
    bundle.older = vec![(1, SecretKey::new([1; 32])), (4, SecretKey::new([4; 32]))];
    bundle.current.0 = 7;
    assert_eq!(bundle.epochs().collect::<Vec<_>>(), [1, 4, 7]);
    let again = KeyBundle::decode(text(&bundle).as_bytes()).ok().unwrap();
    assert_eq!(text(&again), text(&bundle));
    let keys = Keys::from_bundle(&again);
    assert_eq!(keys.current().0, 7);
    assert!(
        keys.epoch(7)
            .is_some_and(|epoch| epoch.manifest.as_bytes() == keys.current().1.manifest.as_bytes())
    );
    let (one, four) = (keys.epoch(1).unwrap(), keys.epoch(4).unwrap());
    assert!(one.chunk_key.as_bytes() != four.chunk_key.as_bytes());
    assert!(keys.epoch(0).is_none() && keys.epoch(2).is_none());
}

#[test]
fn a_bundle_is_the_json_of_format_md() {
    let text = text(&bundle(1));
    assert_eq!(text, GOLDEN_BUNDLE);
    assert_eq!(
        KeyBundle::decode(text.as_bytes()).ok().unwrap().pin,
        Pin::new(65_536, 262_144, 1_048_576)
    );
}

#[test]
fn malformed_bundles_are_refused() {
    let good = text(&bundle(1));
    let decode = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        KeyBundle::decode(good.replacen(from, to, 1).as_bytes()).err()
    };
    assert_eq!(
        decode("\"version\":1", "\"version\":1,\"later\":[]"),
        None,
        "unknown members are ignored"
    );
    assert_eq!(decode("\"version\":1", "\"version\":2"), Some(Error::Unsupported));
    assert_eq!(decode("\"epoch\":1", "\"epoch\":0"), Some(Error::Damaged));
    assert_eq!(decode("\"epoch\":1", "\"epoch\":-1"), Some(Error::Damaged));
    assert_eq!(decode("\"repo\":\"a", "\"repo\":\"A"), Some(Error::Damaged));
    assert_eq!(decode("\"key\":\"", "\"key\":\"AAAA"), Some(Error::Damaged));
    assert_eq!(decode("\"key\":\"", "\"key\":\"!"), Some(Error::Damaged));
    assert_eq!(decode("\"dedup\":\"", "\"dedup\":\"AAAA"), Some(Error::Damaged));
    assert_eq!(decode("\"epochs\":[{", "\"epochs\":[],\"x\":[{"), Some(Error::Damaged));
    let (start, end) = (good.find("[{").unwrap() + 1, good.find("}]").unwrap() + 1);
    let twice = format!("{0},{0}", &good[start..end]);
    assert_eq!(
        decode(&good[start..end], &twice),
        Some(Error::Damaged),
        "numbers must rise"
    );
    for len in 0..good.len() {
        assert_eq!(KeyBundle::decode(&good.as_bytes()[..len]).err(), Some(Error::Damaged));
    }
}

#[test]
fn a_key_file_opens_with_its_credential_only() {
    let bundle = bundle(1);
    let raw = [5; 32];
    let by_passphrase = wrap(&bundle, Credential::Passphrase(PASSPHRASE), 2);
    let by_key = wrap(&bundle, Credential::Raw(&raw), 2);
    for (file, credential) in [
        (&by_passphrase, Credential::Passphrase(PASSPHRASE)),
        (&by_key, Credential::Raw(&raw)),
    ] {
        let file = KeyFile::decode(file).unwrap();
        assert_eq!(
            (file.id, file.repo, file.kind),
            (KeyId([0xcd; 16]), bundle.repo, credential.kind())
        );
        assert_eq!(
            (file.label.as_deref(), file.created_at.as_str()),
            (Some("laptop"), "2026-11-23T01:45:00.000Z")
        );
        let opened = file.unwrap(&credential, &|| true).ok().unwrap();
        assert_eq!(text(&opened), text(&bundle));
    }
    let tell = |file: &[u8], credential| refused(file, credential).unwrap();
    assert_eq!(
        tell(&by_passphrase, Credential::Passphrase(b"correct horse battery stapl")),
        Error::WrongCredential
    );
    assert_eq!(
        tell(&by_passphrase, Credential::Passphrase(b"")),
        Error::WrongCredential
    );
    assert_eq!(tell(&by_key, Credential::Raw(&[6; 32])), Error::WrongCredential);
    assert_eq!(tell(&by_passphrase, Credential::Raw(&raw)), Error::WrongKind);
    assert_eq!(tell(&by_key, Credential::Passphrase(PASSPHRASE)), Error::WrongKind);
}

#[test]
fn damage_is_distinguished_from_a_wrong_passphrase() {
    let file = wrap(&bundle(1), Credential::Passphrase(PASSPHRASE), 2);
    let right = Credential::Passphrase(PASSPHRASE);
    let parsed: serde_json::Value = serde_json::from_slice(&file).unwrap();
    let member = |pointer: &str| parsed.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    let (nonce, ct, commit) = (member("/wrap/nonce"), member("/wrap/ct"), member("/wrap/commit"));
    // each with a valid checksum, so altered deliberately
    for (from, to, error) in [
        (nonce.as_str(), "AAAAAAAAAAAAAAAA", Error::Damaged),
        (&nonce, "AAAA", Error::Damaged),
        (&nonce, "AAAAAAAAAAAAAAA=", Error::Damaged),
        (&ct, "AAAA", Error::Damaged),
        (&ct[..8], "AAAAAAAA", Error::Damaged),
        (&commit[..8], "AAAAAAAA", Error::WrongCredential),
        (&"ab".repeat(16), &"ac".repeat(16), Error::Damaged), // another repository: not the AAD
        (&"cd".repeat(16), &"ce".repeat(16), Error::WrongCredential), // the id is in the PRK
        (&"cd".repeat(16), &"CD".repeat(16), Error::Damaged),
        ("\"version\":1,", "\"version\":2,", Error::Unsupported),
        ("\"version\":1,", "", Error::Damaged),
        ("\"version\":19", "\"version\":16", Error::Unsupported),
        ("\"argon2id\"", "\"argon2i\"", Error::Unsupported),
        ("\"aes-256-gcm\"", "\"aes-128-gcm\"", Error::Unsupported),
        ("\"passphrase\"", "\"raw\"", Error::Unsupported),
        ("\"m\":8,", "", Error::Damaged),
        ("\"m\":8", "\"m\":7", Error::Damaged),
        ("\"m\":8", "\"m\":4294967295", Error::CostTooHigh),
        ("\"m\":8", "\"m\":4294967296", Error::Damaged),
        ("\"t\":1", "\"t\":17", Error::CostTooHigh),
        ("\"p\":1", "\"p\":17", Error::CostTooHigh),
        ("\"t\":1", "\"t\":2", Error::WrongCredential),
    ] {
        assert_eq!(refused(&forged(&file, from, to), right), Some(error), "{from} to {to}");
    }
    assert_eq!(
        refused(&forged(&file, "\"label\"", "\"later\":{},\"label\""), right),
        None,
        "unknown members are ignored"
    );
    assert_eq!(refused(&vec![b' '; MAX_KEY_FILE_LEN + 1], right), Some(Error::Damaged));
}

#[test]
fn a_bundle_of_another_repository_is_refused() {
    // a valid wrapping of a bundle that names another repository than its file
    let (ours, mut theirs) = (bundle(1), bundle(1));
    theirs.repo = RepoId([0xee; 16]);
    let file = KeyFile::decode(&wrap(&ours, Credential::Raw(&[5; 32]), 2)).unwrap();
    assert!(
        file.unwrap(&Credential::Raw(&[5; 32]), &|| true)
            .is_ok_and(|opened| opened.repo == ours.repo)
    );
    let file = KeyFile {
        repo: theirs.repo,
        ..file
    };
    assert_eq!(
        file.unwrap(&Credential::Raw(&[5; 32]), &|| true).err(),
        Some(Error::Damaged)
    );
}

#[test]
fn any_flipped_byte_of_a_key_file_is_refused() {
    let raw = [5; 32];
    for credential in [Credential::Passphrase(PASSPHRASE), Credential::Raw(&raw)] {
        let good = wrap(&bundle(1), credential, 2);
        for at in 0..good.len() {
            for flip in [0x01, 0x20, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] ^= flip;
                assert_eq!(
                    refused(&bad, credential),
                    Some(Error::Damaged),
                    "byte {at} with {flip:#x}"
                );
            }
        }
        for len in 0..good.len() {
            assert_eq!(refused(&good[..len], credential), Some(Error::Damaged));
        }
    }
}

#[test]
fn a_nonce_depends_on_what_is_wrapped() {
    // a generator that repeats: same salt, same random bytes, another bundle
    let (one, other) = (
        wrap(&bundle(1), Credential::Raw(&[5; 32]), 2),
        wrap(&bundle(3), Credential::Raw(&[5; 32]), 2),
    );
    let (one, other) = (KeyFile::decode(&one).unwrap(), KeyFile::decode(&other).unwrap());
    assert_eq!((one.salt, one.commit), (other.salt, other.commit));
    assert_ne!(one.nonce, other.nonce);
}

#[test]
fn new_key_files_keep_to_the_limits() {
    let bundle = bundle(1);
    let label = "x".repeat(MAX_KEY_FILE_LEN);
    let new = NewKey {
        id: KeyId([1; 16]),
        created_at: "",
        label: Some(&label),
    };
    let wrap = |params, new: &NewKey| {
        KeyFile::wrap(
            &bundle,
            &Credential::Passphrase(b"x"),
            &params,
            new,
            &SeededEntropy::new(1),
            &|| true,
        )
        .err()
    };
    assert_eq!(wrap(CHEAP, &new), Some(Error::TooLong));
    let new = NewKey { label: None, ..new };
    assert_eq!(wrap(CHEAP, &new), None);
    assert_eq!(
        wrap(KdfParams { memory_kib: 7, ..CHEAP }, &new),
        Some(Error::CostTooLow)
    );
    assert_eq!(
        wrap(
            KdfParams {
                memory_kib: u32::MAX,
                ..CHEAP
            },
            &new
        ),
        Some(Error::CostTooHigh)
    );
    assert_eq!(wrap(KdfParams { time: 17, ..CHEAP }, &new), Some(Error::CostTooHigh));
}

#[test]
fn a_system_without_randomness_is_an_error() {
    struct Broken;
    impl crate::entropy::Entropy for Broken {
        fn fill(&self, _: &mut [u8]) -> Result<(), crate::entropy::NoEntropy> {
            Err(crate::entropy::NoEntropy)
        }
    }
    let made = KeyBundle::generate(&Broken, RepoId([0; 16]), Pin::new(64, 256, 1024));
    assert_eq!(made.err(), Some(Error::NoEntropy));
    let new = NewKey {
        id: KeyId([1; 16]),
        created_at: "",
        label: None,
    };
    let wrapped = KeyFile::wrap(&bundle(1), &Credential::Raw(&[1; 32]), &CHEAP, &new, &Broken, &|| true);
    assert_eq!(wrapped.err(), Some(Error::NoEntropy));
}

#[test]
fn the_golden_key_files_are_unchanged() {
    let by_passphrase = wrap(&bundle(1), Credential::Passphrase(PASSPHRASE), 2);
    assert_eq!(String::from_utf8(by_passphrase).unwrap(), GOLDEN_PASSPHRASE_FILE);
    let by_key = wrap(&bundle(1), Credential::Raw(&[5; 32]), 2);
    assert_eq!(String::from_utf8(by_key).unwrap(), GOLDEN_RAW_FILE);
    let opened = KeyFile::decode(GOLDEN_PASSPHRASE_FILE.as_bytes())
        .unwrap()
        .unwrap(&Credential::Passphrase(PASSPHRASE), &|| true);
    assert_eq!(text(&opened.ok().unwrap()), GOLDEN_BUNDLE);
}

#[rustfmt::skip]
const GOLDEN_BUNDLE: &str = r#"{"version":1,"repo":"abababababababababababababababab","epochs":[{"epoch":1,"key":"wVwCiewtCpFn7I5loY3rvl5VMvvuopP4C8lC7pCGwXE="}],"dedup":"ubUB0dhUu3GAAhWQ/wtNw6U8Ntds7JngdYUnEg+754U=","pin":{"cipher":"aes-256-gcm","chunkIds":"hmac-sha-256","chunker":"fastcdc-v2020-keyed","normalization":3,"min":65536,"avg":262144,"max":1048576}}"#;
#[rustfmt::skip]
const GOLDEN_PASSPHRASE_FILE: &str = concat!(r#"{"version":1,"id":"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd","repo":"abababababababababababababababab","type":"passphrase","createdAt":"2026-11-23T01:45:00.000Z","label":"laptop","kdf":{"name":"argon2id","version":19,"m":8,"t":1,"p":1,"salt":"zlaXHN41WJdCHvwLEEbIvw=="},"wrap":{"alg":"aes-256-gcm","commit":"SHZu0Ri+TTnF6MopBy0M4XRdcJS0RU38Qyux521Aeiw=","nonce":"4sK2SoZ5bZxiEMYK","ct":"lkW9bo/Ps9Nb12eNZHw4Ma/yzJ1qWQ0jBjVgZG0BdjstZer6Lzxxn1nRGHSFmYDblfCIwaad6D6Kf1DrT+VuJ7qlZ63f+mzS5BAaL3sbSDpB52Ix+6FcuxDZCHl0j8t8oXzE+Ahso0sWJwjyKxmUzbFeK5gLHV4N15h/x4ZKfvK03gkMFvdEabbgZ1S396ddmG4tq9QcJnefqjFDE9S7YJULauVuLgTCj8pVxIUcgSBKb9bE92Cf8AxgPC7b/lTF7jqnjPPKDFEg+SwGn05hHp2mQ7cjsEc1weL8D0yKFrBQ2rrxZ1mn4+foLPMLoGUHIh+qOzTsyeSrcRkQ60Tt1p1BQoGHjDL3F72nUs/JuhhVn/VF+YtixKGU34N2DgwZY+I27nukNIX9PGOYVXaJ+zPxPM/QcDeT74QSShvofc3m8rVHcr2OC2Iz8aIMEG9/s09Wsf/os1WaVgmH"},"checksum":"abe0931c774a41c50d938123a6244aa621f872fcbcb8b71239fcaa70448c5a05"}"#, "\n");
#[rustfmt::skip]
const GOLDEN_RAW_FILE: &str = concat!(r#"{"version":1,"id":"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd","repo":"abababababababababababababababab","type":"raw","createdAt":"2026-11-23T01:45:00.000Z","label":"laptop","kdf":{"name":"none","salt":"zlaXHN41WJdCHvwLEEbIvw=="},"wrap":{"alg":"aes-256-gcm","commit":"D4yH7tspqkCepkrmaAdt60ZmWdIoan1VAq8xLqcXBtk=","nonce":"goc1ZHgVK3jXKn/F","ct":"Dxz2+2AKjr0VvbcSJQKKT6CKs4ZuDPRYEMPS30PRIo9k3C8pjUtGoIazQHyXgIyrDwqT1xkJ9u+CYaFQZOpRELmdtjQWy0EYePZSzwcKZI3IiP54+qgdNWOCziwDbrEfxlbFgrKrcQSnYrd9AuxECkYj773BJR2QTom6SJmIh3U2lmzMeHMg9C64TnzNwQYMcSgVG7z/zbQCNcWh4vzlyYIrQrDvMxuMHZnKe6R3IAAC31FRVhUiDzK4UawAiZAVvksBSBauJSMpmVynAkh3F1ioZuHMnxX5DdxhQK3MDTaFMNg5HJgJQrygIwtIOaeDbcRqZO7sdHjJ48ZPDoQ4tPvutNxxCGX95oDUEgZuwcHOlc/3oW9N1Gfujz6k5Y9mA3DFTk5SjQR39RGKVifcnAi8bk7FaoXnghNAUtsZTmNIP9kaqYlCexJ/+Nw8vH8CkZrhHz3L99vEN1rQ"},"checksum":"5cb0467472d463bac73ddb9adb41acb25bf2f4782e78c7f501604ab97596c606"}"#, "\n");

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn opening_inverts_sealing(key: [u8; 32], nonce: [u8; 12], aad: Vec<u8>, plain: Vec<u8>) {
        let mut buf = plain.clone();
        let tag = seal_in_place(&key, &nonce, &aad, &mut buf).unwrap();
        prop_assert_eq!(open_in_place(&key, &nonce, &aad, &mut buf, &tag), Ok(()));
        prop_assert_eq!(buf, plain);
    }

    #[test]
    fn derivation_agrees_with_the_crates(key: [u8; 32], info: Vec<u8>, data: Vec<u8>) {
        let secret = SecretKey::new(key);
        let mut okm = [0; 100];
        hkdf::Hkdf::<sha2::Sha256>::from_prk(&key).unwrap().expand(&info, &mut okm).unwrap();
        prop_assert_eq!(*secret.expand::<100>(&[&info]), okm);
        prop_assert!(secret.derive(&[&info]).as_bytes()[..] == okm[..32]);
        let mut mac = <Hmac<sha2::Sha256> as hmac::KeyInit>::new_from_slice(&key).unwrap();
        mac.update(&data);
        let expected: [u8; 32] = mac.finalize().into_bytes().into();
        prop_assert_eq!(secret.hmac(&[&data]), expected);
        let each = secret.hmac_each(&[&data, b"", &data], &mut []);
        prop_assert_eq!(each, [expected, secret.hmac(&[]), expected]);
    }

    #[test]
    fn any_bytes_are_a_key_file_or_an_error(bytes: Vec<u8>, body in "\\{[ -~]{0,200}") {
        prop_assert!(KeyFile::decode(&bytes).is_err());
        let checked = crate::checked_json::finish(format!("{body}}}"));
        prop_assert!(KeyFile::decode(checked.as_bytes()).is_err());
        prop_assert!(KeyBundle::decode(&bytes).is_err());
    }
}
