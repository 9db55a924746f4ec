//! Attacks on manifests.

use super::forge::{Manifest, Stored, id_of, pack, zstd};
use super::scene::planted;
use super::{Bare, Case, Plain, Scene, Sealed, case, many};
use containerarchive::id::{ChunkId, SnapshotId};
use containerarchive::{checked_json, layout};

/// The cases of this group.
pub(super) const CASES: &[Case] = &[
    case(
        Bare,
        "manifests: 1 GB of zeros",
        "verify=ERR_MANIFEST_CORRUPT prune=ERR_MANIFEST_CORRUPT",
        |at| {
            at.sparse(&layout::snapshot(&SnapshotId([1; 16])), 1 << 30);
        },
    ),
    case(
        Bare,
        "manifests: 255 MB of zeros",
        "verify=ERR_MANIFEST_CORRUPT prune=ERR_MANIFEST_CORRUPT",
        |at| {
            at.sparse(&layout::snapshot(&SnapshotId([1; 16])), 255 << 20);
        },
    ),
    case(Bare, "manifests: a string of many MB", "", |at| {
        let mut manifest = Manifest::chunks(0xf1, &[]);
        manifest.more = format!(",\"comment\":\"{}\"", "x".repeat(many(60 << 20)));
        at.put_manifest(&manifest);
    }),
    case(Bare, "manifests: deeply nested JSON", "", |at| {
        let mut manifest = Manifest::chunks(0xf1, &[]);
        manifest.more = format!(",\"x\":{}{}", "[".repeat(1_000_000), "]".repeat(1_000_000));
        at.put_manifest(&manifest);
    }),
    case(
        Bare,
        "manifests: a future version",
        "list=ERR_UNSUPPORTED_FORMAT stats=ERR_UNSUPPORTED_FORMAT verify=ERR_UNSUPPORTED_FORMAT prune=ERR_UNSUPPORTED_FORMAT last=sweep:ERR_UNSUPPORTED_FORMAT",
        |at| {
            let text = text_of_one().replacen("\"version\":1", "\"version\":99", 1);
            put_text(at, text);
        },
    ),
    case(
        Bare,
        "manifests: many missing chunks",
        "restore=ERR_CHUNK_MISSING verify=ERR_CHUNK_MISSING prune=ERR_CHUNK_MISSING after=ERR_CHUNK_MISSING last=sweep:ERR_CHUNK_MISSING",
        |at| {
            let chunks: Vec<(ChunkId, u32)> = (0..many(100_000)).map(|n| (ChunkId(id_of(n as u32)), 1000)).collect();
            at.put_manifest(&Manifest::chunks(0xf1, &chunks));
        },
    ),
    case(
        Bare,
        "manifests: one chunk of one byte many times",
        "restore=ABORT_ERR after=ABORT_ERR",
        |at| {
            let there = Stored::data(b"x");
            planted(at, std::slice::from_ref(&there), |_| ());
            at.put_manifest(&Manifest::chunks(0xf1, &vec![(there.id, 1); many(100_000)]));
        },
    ),
    case(Bare, "manifests: many items", "", |at| {
        let items: Vec<String> = (0..many(200_000))
            .map(|n| format!(r#"{{"name":"{n}","type":"","size":0,"chunkCount":0,"chunks":[]}}"#))
            .collect();
        let text = text_of_one();
        let start = text.find("\"items\":[").unwrap() + 9;
        let text = format!("{}{}]}}", &text[..start], items.join(","));
        put_text(at, text);
    }),
    case(Bare, "manifests: many tags", "", |at| {
        let tags: Vec<String> = (0..many(300_000)).map(|n| format!("\"{n}\":\"\"")).collect();
        let text = text_of_one();
        let text = text.replacen("\"tags\":{}", &format!("\"tags\":{{{}}}", tags.join(",")), 1);
        put_text(at, text);
    }),
    case(
        Bare,
        "manifests: sizes whose sum overflows",
        "verify=ERR_MANIFEST_CORRUPT prune=ERR_MANIFEST_CORRUPT",
        |at| {
            let text = text_of_one();
            let item = |name: &str| {
                let root = "ab".repeat(32);
                format!(
                    r#"{{"name":"{name}","type":"","size":9007199254740991,"chunkCount":4294967295,"list":{{"root":"{root}","level":7}}}}"#
                )
            };
            let start = text.find("\"items\":[").unwrap() + 9;
            let text = format!("{}{},{}]}}", &text[..start], item("a"), item("b"));
            put_text(at, text);
        },
    ),
    case(
        Bare,
        "manifests: invalid numbers",
        "verify=ERR_MANIFEST_CORRUPT prune=ERR_MANIFEST_CORRUPT",
        |at| {
            for (number, number_text) in (0xe0u8..).zip([
                "-1",
                "1e308",
                "1.5",
                "NaN",
                "\"0\"",
                "null",
                "18446744073709551616",
                "0x10",
            ]) {
                let mut manifest = Manifest::chunks(number, &[]);
                manifest.content = format!("\"chunks\":[[\"{}\",{number_text}]]", "ab".repeat(32));
                at.put_manifest(&manifest);
            }
        },
    ),
    case(
        Bare,
        "manifests: every member twice",
        "verify=ERR_MANIFEST_CORRUPT prune=ERR_MANIFEST_CORRUPT",
        |at| {
            let text = text_of_one();
            let inner = text.trim_start_matches('{').trim_end_matches('}');
            put_text(at, format!("{{{inner},{inner}}}"));
        },
    ),
    case(
        Bare,
        "manifests: two items with the same name",
        "verify=ERR_MANIFEST_CORRUPT prune=ERR_MANIFEST_CORRUPT",
        |at| {
            let text = text_of_one();
            let start = text.find("\"items\":[").unwrap() + 9;
            let item = text[start..].trim_end_matches("]}").to_owned();
            let text = format!("{}{item},{item}]}}", &text[..start]);
            put_text(at, text);
        },
    ),
    case(
        Bare,
        "manifests: item names that are paths, and tags like __proto__",
        "",
        |at| {
            let text = text_of_one();
            let text = text.replacen(
                "\"tags\":{}",
                r#""tags":{"__proto__":"x","constructor":"y","\u0000":"\u202e"}"#,
                1,
            );
            let text = text.replacen("\"name\":\"data\"", r#""name":"../../../outside/canary""#, 1);
            put_text(at, text);
        },
    ),
    case(
        Bare,
        "manifests: lone surrogates",
        "verify=ERR_MANIFEST_CORRUPT prune=ERR_MANIFEST_CORRUPT",
        |at| {
            let text = text_of_one().replacen("\"name\":\"data\"", r#""name":"\ud800""#, 1);
            put_text(at, text);
        },
    ),
    case(
        Bare,
        "manifests: one with the file name of another",
        "get=ERR_MANIFEST_CORRUPT restore=ERR_MANIFEST_CORRUPT files=ERR_MANIFEST_CORRUPT verify=ERR_MANIFEST_CORRUPT prune=ERR_MANIFEST_CORRUPT",
        |at| {
            at.under_another_name(layout::SNAPSHOTS, ".json");
        },
    ),
    case(
        Sealed,
        "manifests: one with the file name of another, sealed",
        "get=ERR_MANIFEST_CORRUPT restore=ERR_MANIFEST_CORRUPT files=ERR_MANIFEST_CORRUPT verify=ERR_MANIFEST_CORRUPT prune=ERR_MANIFEST_CORRUPT",
        |at| {
            at.under_another_name(layout::SNAPSHOTS, ".json");
            at.write(
                &layout::snapshot(&SnapshotId([0xf1; 16])),
                at.read(&at.keys(layout::SNAPSHOTS, ".json")[1]),
            );
        },
    ),
    case(
        Sealed,
        "manifests: an unencrypted one among sealed ones",
        "verify=ERR_MANIFEST_CORRUPT prune=ERR_MANIFEST_CORRUPT",
        |at| {
            at.put_manifest(&Manifest::chunks(0xf1, &[(ChunkId([1; 32]), 1)]));
        },
    ),
    case(
        Sealed,
        "manifests: an epoch without a key",
        "get=ERR_MANIFEST_CORRUPT restore=ERR_MANIFEST_CORRUPT files=ERR_MANIFEST_CORRUPT verify=ERR_MANIFEST_CORRUPT prune=ERR_MANIFEST_CORRUPT",
        |at| {
            at.forge(
                &at.first(layout::SNAPSHOTS, ".json"),
                "\"epoch\":1",
                "\"epoch\":4294967295",
            );
        },
    ),
    case(
        Plain,
        "manifests: many copies of lost manifests",
        "verify=ERR_MANIFEST_MISSING",
        |at| {
            let session = [0xf1; 16];
            for pack_number in 0..2u32 {
                let parts: Vec<Stored> = (0..many(100) as u32)
                    .map(|n| {
                        let mut bytes = b"CAMC".to_vec();
                        bytes.extend(1u32.to_le_bytes());
                        bytes.extend(session);
                        bytes.extend((n + 100 * pack_number).to_le_bytes());
                        bytes.extend(100_000u32.to_le_bytes());
                        bytes.extend((60u64 << 20).to_le_bytes());
                        bytes.extend([7; 32]);
                        bytes.resize(1 << 20, n as u8);
                        let plain = Stored::copy(&bytes);
                        Stored {
                            payload: zstd(&bytes),
                            codec: 2,
                            ..plain
                        }
                    })
                    .collect();
                at.put_pack(&pack(at.repo_id(), session, &parts, |_| ()));
            }
            at.without_index();
        },
    ),
];

/// Returns the JSON of a manifest, to be changed.
fn text_of_one() -> String {
    Manifest::chunks(0xf1, &[]).text()
}

/// Writes a manifest with this JSON.
fn put_text(at: &Scene, text: String) {
    at.write(&layout::snapshot(&SnapshotId([0xf1; 16])), checked_json::finish(text));
}
