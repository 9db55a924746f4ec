//! Attacks on `config.json`.

use super::{Bare, Case, Plain, Sealed, case};
use containerarchive::{checked_json, layout};

/// The cases of this group.
pub(super) const CASES: &[Case] = &[
    case(Bare, "config: a future version", "open=ERR_UNSUPPORTED_FORMAT", |at| {
        at.forge(layout::CONFIG, "\"version\":1", "\"version\":4294967295");
    }),
    case(
        Bare,
        "config: an unknown feature",
        "open=ERR_UNSUPPORTED_FORMAT",
        |at| {
            at.forge(layout::CONFIG, "[\"commit-1\"]", "[\"commit-1\",\"../../etc\"]");
        },
    ),
    case(Bare, "config: 1 GB of zeros", "verify=ERR_CONFIG_CORRUPT", |at| {
        at.sparse(layout::CONFIG, 1 << 30);
    }),
    case(Bare, "config: deeply nested JSON", "verify=ERR_CONFIG_CORRUPT", |at| {
        let deep = format!("{{\"version\":1,\"x\":{}{}}}", "[".repeat(400_000), "]".repeat(400_000));
        at.write(layout::CONFIG, checked_json::finish(deep));
    }),
    case(Bare, "config: every member twice", "verify=ERR_CONFIG_CORRUPT", |at| {
        at.forge(layout::CONFIG, "{\"version\":1,", "{\"version\":1,\"version\":1,");
    }),
    case(Bare, "config: invalid numbers", "verify=ERR_CONFIG_CORRUPT", |at| {
        at.forge(layout::CONFIG, "\"packSize\":65536", "\"packSize\":NaN");
    }),
    case(Bare, "config: sizes that overflow", "verify=ERR_CONFIG_CORRUPT", |at| {
        at.forge(
            layout::CONFIG,
            "\"packSize\":65536",
            "\"packSize\":18446744073709551616",
        );
    }),
    case(Bare, "config: the largest allowed chunks and packs", "", |at| {
        at.forge(layout::CONFIG, "\"packSize\":65536", "\"packSize\":1073741824");
        at.forge(layout::CONFIG, "\"max\":4096", "\"max\":8388608");
    }),
    case(
        Plain,
        "config: the largest allowed parity",
        "verify=ERR_PARITY_CORRUPT",
        |at| {
            at.forge(layout::CONFIG, "\"data\":4,\"parity\":1", "\"data\":224,\"parity\":32");
            at.forge(layout::CONFIG, "\"packSize\":65536", "\"packSize\":1073741824");
        },
    ),
    case(
        Plain,
        "config: 255 shards of 255 packs",
        "verify=ERR_CONFIG_CORRUPT",
        |at| {
            at.forge(layout::CONFIG, "\"data\":4,\"parity\":1", "\"data\":255,\"parity\":255");
        },
    ),
    case(Bare, "config: another id", "verify=ERR_CONFIG_CORRUPT", |at| {
        let id = at.repo_id().to_hex();
        at.forge(layout::CONFIG, &id, &"0".repeat(32));
    }),
    case(
        Bare,
        "config: an id that is a path",
        "verify=ERR_CONFIG_CORRUPT",
        |at| {
            let id = at.repo_id().to_hex();
            at.forge(layout::CONFIG, &id, "../../../../../outside/canary/xx");
        },
    ),
    case(
        Sealed,
        "config: states that nothing is encrypted",
        "open=ERR_NOT_ENCRYPTED",
        |at| {
            at.forge(layout::CONFIG, "fastcdc-v2020-keyed", "fastcdc-v2020");
            let sealed = "{\"algorithm\":\"aes-256-gcm\",\"chunkIds\":\"hmac-sha-256\"}";
            at.forge(layout::CONFIG, sealed, "null");
        },
    ),
    case(
        Sealed,
        "config: other chunk sizes than in the key files",
        "open=ERR_CONFIG_CORRUPT",
        |at| {
            at.forge(layout::CONFIG, "\"min\":256", "\"min\":64");
        },
    ),
    case(
        Sealed,
        "config: less parity than in the key files",
        "open=ERR_CONFIG_CORRUPT",
        |at| {
            at.forge(layout::CONFIG, "\"data\":4,\"parity\":1", "\"data\":224,\"parity\":1");
        },
    ),
    case(
        Sealed,
        "config: the config of a plain repository",
        "open=ERR_NOT_ENCRYPTED",
        |at| {
            let plain = forge_plain_config();
            at.write(layout::CONFIG, plain);
        },
    ),
    case(
        Sealed,
        "config: a member after the MAC",
        "open=ERR_CONFIG_CORRUPT",
        |at| {
            let text = String::from_utf8(at.read(layout::CONFIG)).unwrap();
            let body = text.split(",\"checksum\"").next().unwrap();
            let more = ",\"checksum\":\"\",\"x\":1";
            at.write(layout::CONFIG, checked_json::finish(format!("{body}{more}}}")));
        },
    ),
    case(Sealed, "config: the MAC is missing", "open=ERR_CONFIG_CORRUPT", |at| {
        let text = String::from_utf8(at.read(layout::CONFIG)).unwrap();
        let body = text.split(",\"mac\"").next().unwrap();
        at.write(layout::CONFIG, checked_json::finish(format!("{body}}}")));
    }),
];

/// Returns the config of a plain repository.
fn forge_plain_config() -> Vec<u8> {
    let known = crate::support::faults::Known::new(crate::support::Flavor::plain());
    known.files[layout::CONFIG].clone()
}
