//! Attacks on key files.

use super::{Case, Scene, Sealed, case, many};
use containerarchive::id::KeyId;
use containerarchive::layout;

/// The cases of this group.
pub(super) const CASES: &[Case] = &[
    case(
        Sealed,
        "keys: 4 TiB of memory for Argon2id",
        "open=ERR_KEY_FILE_CORRUPT",
        |at| {
            forge_keys(at, "\"m\":8,", "\"m\":4294967295,");
        },
    ),
    case(
        Sealed,
        "keys: 4 GiB of memory for Argon2id",
        "open=ERR_KEY_FILE_CORRUPT",
        |at| {
            forge_keys(at, "\"m\":8,", "\"m\":4194304,");
        },
    ),
    case(Sealed, "keys: 4 billion passes", "open=ERR_KEY_FILE_CORRUPT", |at| {
        forge_keys(at, "\"t\":1,", "\"t\":4294967295,");
    }),
    case(
        Sealed,
        "keys: zero passes, memory and lanes",
        "open=ERR_KEY_FILE_CORRUPT",
        |at| {
            forge_keys(at, "\"m\":8,\"t\":1,\"p\":1", "\"m\":0,\"t\":0,\"p\":0");
        },
    ),
    case(Sealed, "keys: 4 billion lanes", "open=ERR_KEY_FILE_CORRUPT", |at| {
        forge_keys(at, "\"p\":1,", "\"p\":4294967295,");
    }),
    case(
        Sealed,
        "keys: memory times passes above the maximum",
        "open=ERR_KEY_FILE_CORRUPT",
        |at| {
            forge_keys(at, "\"m\":8,\"t\":1", "\"m\":2097152,\"t\":16");
        },
    ),
    case(
        Sealed,
        "keys: numbers beyond 32 bits",
        "open=ERR_KEY_FILE_CORRUPT",
        |at| {
            forge_keys(at, "\"m\":8,", "\"m\":340282366920938463463374607431768211456,");
        },
    ),
    case(
        Sealed,
        "keys: an unknown algorithm",
        "open=ERR_KEY_FILE_CORRUPT",
        |at| {
            forge_keys(at, "argon2id", "rot13-id");
        },
    ),
    case(Sealed, "keys: a future version", "open=ERR_KEY_FILE_CORRUPT", |at| {
        forge_keys(at, "{\"version\":1,\"id\"", "{\"version\":2,\"id\"");
    }),
    case(
        Sealed,
        "keys: other costs for the same wrapped secrets",
        "open=ERR_WRONG_PASSPHRASE",
        |at| {
            forge_keys(at, "\"m\":8,", "\"m\":16,");
        },
    ),
    case(
        Sealed,
        "keys: one with high costs next to the right one",
        "verify=ERR_KEY_FILE_CORRUPT",
        |at| {
            // it sorts before the right one, contains another id, and would take 2 GiB and several
            // seconds
            let key = at.read(&at.first(layout::KEYS, ".json"));
            let costly = crate::support::faults::forge(&key, "\"m\":8,\"t\":1", "\"m\":2097152,\"t\":4");
            at.write(&layout::key(&KeyId([0; 16])), costly);
        },
    ),
    case(Sealed, "keys: many damaged ones", "verify=ERR_KEY_FILE_CORRUPT", |at| {
        for number in 0..many(10_000) as u128 {
            at.write(
                &layout::key(&KeyId((1 << 100 | number << 70).to_le_bytes())),
                "{\"version\":1}",
            );
        }
        // the right one is among the first
        let key = at.first(layout::KEYS, ".json");
        let bytes = at.read(&key);
        at.remove(&key);
        at.write(&layout::key(&KeyId([0; 16])), bytes);
    }),
    case(
        Sealed,
        "keys: many intact ones, none for this passphrase",
        "open=ERR_WRONG_PASSPHRASE",
        |at| {
            let key = at.read(&at.first(layout::KEYS, ".json"));
            let text = String::from_utf8(key).unwrap();
            let at_commit = text.find("\"commit\":\"").unwrap() + 10;
            let other = crate::support::faults::forge(text.as_bytes(), &text[at_commit..at_commit + 8], "AAAAAAAA");
            for name in [layout::KEYS, layout::KEY_COPIES] {
                at.remove(&at.first(name, ".json"));
            }
            for number in 0..many(10_000) as u128 {
                let id = KeyId(number.to_le_bytes());
                at.write(&layout::key(&id), &other);
                at.write(&layout::key_copy(&id), &other);
            }
        },
    ),
    case(
        Sealed,
        "keys: wrapped secrets of 40 KB",
        "open=ERR_KEY_FILE_CORRUPT",
        |at| {
            forge_keys(at, "\"ct\":\"", &format!("\"ct\":\"{}", "AAAA".repeat(10_000)));
        },
    ),
    case(Sealed, "keys: a label of 60 KB", "", |at| {
        forge_keys(
            at,
            "\"createdAt\"",
            &format!("\"label\":\"{}\",\"createdAt\"", "\\u0000".repeat(10_000)),
        );
    }),
    case(Sealed, "keys: 1 GB of zeros", "open=ERR_KEY_FILE_CORRUPT", |at| {
        for name in [layout::KEYS, layout::KEY_COPIES] {
            at.sparse(&at.first(name, ".json"), 1 << 30);
        }
    }),
    case(
        Sealed,
        "keys: key files of another repository",
        "open=ERR_KEY_FILE_CORRUPT",
        |at| {
            let id = at.repo_id().to_hex();
            forge_keys(at, &id, &"12".repeat(16));
        },
    ),
    case(
        Sealed,
        "keys: a passphrase key file marked as a raw key",
        "open=ERR_KEY_FILE_CORRUPT",
        |at| {
            forge_keys(at, "\"type\":\"passphrase\"", "\"type\":\"raw\"");
        },
    ),
];

/// Forges every key file and its copy.
fn forge_keys(at: &Scene, from: &str, to: &str) {
    for folder in [layout::KEYS, layout::KEY_COPIES] {
        for key in at.keys(folder, ".json") {
            at.forge(&key, from, to);
        }
    }
}
