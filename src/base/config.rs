//! `config.json`: the settings that a repository was created with. Layout: `docs/format.md` §3.

use crate::checked_json;
use crate::chunk::ChunkerParams;
use crate::codec::Compression;
use crate::crypto::SecretKey;
use crate::error::{Error, Result};
use crate::id::{RepoId, from_hex, to_hex};
use crate::layout;
use crate::storage::Ask;
use serde::{Deserialize, Serialize};

/// Largest `config.json` that is read, in bytes.
pub const MAX_CONFIG_LEN: u64 = 1 << 20;

/// The read of the config, for an announcement.
pub(super) fn config_read() -> Ask {
    Ask::Get {
        key: layout::CONFIG.to_owned(),
        max_len: MAX_CONFIG_LEN,
    }
}
/// The version that this software writes and reads.
pub const VERSION: u32 = 1;
/// Commits and deletes follow `docs/invariants.md`. The storage decides which of its protocols
/// holds: a directory that is copied into a bucket becomes a repository of object storage without a
/// change of its config.
pub const FEATURE_COMMIT: &str = "commit-1";
/// The name of the same feature in repositories made before. A config is never written again.
pub const FEATURE_COMMIT_BEFORE: &str = "protocol-k";
/// Chunker of plain repositories.
pub const CHUNKER_PLAIN: &str = "fastcdc-v2020";
/// Chunker of sealed repositories.
pub const CHUNKER_KEYED: &str = "fastcdc-v2020-keyed";
/// Smallest and largest target length of a pack, in bytes.
pub const PACK_SIZES: std::ops::RangeInclusive<u64> = 65_536..=1 << 30;

/// Shape of the parity groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParityParams {
    /// Data packs in a full group.
    pub data: u8,
    /// Parity shards of a group: the number of lost packs that can be rebuilt.
    pub parity: u8,
}

impl Default for ParityParams {
    fn default() -> Self {
        Self { data: 20, parity: 1 }
    }
}

/// The settings that a repository was created with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Id of the repository.
    pub id: RepoId,
    /// Time of creation, RFC 3339.
    pub created_at: String,
    /// Chunk sizes in bytes.
    pub chunking: ChunkerParams,
    /// Default compression of ingests.
    pub compression: Compression,
    /// Whether chunks, manifests and index are sealed.
    pub encrypted: bool,
    /// Shape of the parity groups, if there are any.
    pub parity: Option<ParityParams>,
    /// Target length of a pack in bytes.
    pub pack_size: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    version: u32,
    id: String,
    created_at: String,
    chunking: ChunkingDocument,
    compression: CompressionDocument,
    encryption: Option<EncryptionDocument>,
    parity: Option<ParityDocument>,
    pack_size: u64,
    features: Features,
}

#[derive(Serialize, Deserialize)]
struct ChunkingDocument {
    algorithm: String,
    normalization: u32,
    min: u32,
    avg: u32,
    max: u32,
}

#[derive(Serialize, Deserialize)]
struct CompressionDocument {
    algorithm: String,
    level: i64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EncryptionDocument {
    algorithm: String,
    chunk_ids: String,
}

#[derive(Serialize, Deserialize)]
struct ParityDocument {
    algorithm: String,
    data: u8,
    parity: u8,
    row: u32,
}

#[derive(Serialize, Deserialize)]
struct Features {
    required: Vec<String>,
    optional: Vec<String>,
}

/// The part that identifies a future version before the rest is decoded.
#[derive(Deserialize)]
struct VersionOnly {
    version: u32,
    #[serde(default)]
    features: Option<RequiredOnly>,
}

#[derive(Deserialize)]
struct RequiredOnly {
    #[serde(default)]
    required: Vec<String>,
}

impl Config {
    /// The bytes of `config.json`; `mac_key` is `K("config-mac")` of a sealed repository.
    pub fn encode(&self, mac_key: Option<&SecretKey>) -> Result<Vec<u8>> {
        let document = Document {
            version: VERSION,
            id: self.id.to_hex(),
            created_at: self.created_at.clone(),
            chunking: ChunkingDocument {
                algorithm: self.chunker().to_owned(),
                normalization: 3,
                min: self.chunking.min,
                avg: self.chunking.avg,
                max: self.chunking.max,
            },
            compression: CompressionDocument {
                algorithm: self.compression.algorithm().to_owned(),
                level: i64::from(self.compression.level()),
            },
            encryption: self.encrypted.then(|| EncryptionDocument {
                algorithm: "aes-256-gcm".to_owned(),
                chunk_ids: "hmac-sha-256".to_owned(),
            }),
            parity: self.parity.map(|shape| ParityDocument {
                algorithm: "rs-cauchy-gf256".to_owned(),
                data: shape.data,
                parity: shape.parity,
                row: 4096,
            }),
            pack_size: self.pack_size,
            features: Features {
                required: vec![FEATURE_COMMIT.to_owned()],
                optional: Vec::new(),
            },
        };
        let mut body = serde_json::to_string(&document).map_err(|error| Error::Internal {
            reason: format!("config.json cannot be encoded: {error}"),
        })?;
        if let Some(key) = mac_key {
            body.pop();
            let mac = to_hex(&key.hmac(&[body.as_bytes()]));
            body = format!("{body},\"mac\":\"{mac}\"}}");
        }
        Ok(checked_json::finish(body).into_bytes())
    }

    /// Decodes `config.json`. The MAC of a sealed one is checked later, by `check_mac`, when
    /// there is a key.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let corrupt = |reason: String| Error::ConfigCorrupt { reason };
        let text = checked_json::verify(bytes).ok_or_else(|| corrupt("its checksum does not match".to_owned()))?;
        let head: VersionOnly = serde_json::from_str(text).map_err(|error| corrupt(error.to_string()))?;
        if head.version != VERSION {
            return Err(Error::UnsupportedFormat {
                what: format!("format version {}", head.version),
            });
        }
        for feature in head.features.map(|features| features.required).unwrap_or_default() {
            if ![FEATURE_COMMIT, FEATURE_COMMIT_BEFORE].contains(&feature.as_str()) {
                return Err(Error::UnsupportedFormat {
                    what: format!("the feature {feature:?}"),
                });
            }
        }
        let document: Document = serde_json::from_str(text).map_err(|error| corrupt(error.to_string()))?;
        Self::from_document(document)
    }

    fn from_document(document: Document) -> Result<Self> {
        let corrupt = |reason: &str| Error::ConfigCorrupt {
            reason: reason.to_owned(),
        };
        let unsupported = |what: &str, name: &str| Error::UnsupportedFormat {
            what: format!("the {what} {name:?}"),
        };
        let id = from_hex(&document.id)
            .map(RepoId)
            .ok_or_else(|| corrupt("its id is not 32 hex digits"))?;
        let encrypted = document.encryption.is_some();
        if let Some(encryption) = &document.encryption
            && (encryption.algorithm != "aes-256-gcm" || encryption.chunk_ids != "hmac-sha-256")
        {
            return Err(unsupported("encryption", &encryption.algorithm));
        }
        let chunker = if encrypted { CHUNKER_KEYED } else { CHUNKER_PLAIN };
        if document.chunking.algorithm != chunker || document.chunking.normalization != 3 {
            return Err(unsupported("chunker", &document.chunking.algorithm));
        }
        let chunking = ChunkerParams {
            min: document.chunking.min,
            avg: document.chunking.avg,
            max: document.chunking.max,
        };
        chunking
            .validate()
            .map_err(|_| corrupt("its chunk sizes are invalid"))?;
        let compression = Compression::parse(&document.compression.algorithm, Some(document.compression.level))
            .map_err(|_| unsupported("compression", &document.compression.algorithm))?;
        let parity = match document.parity {
            None => None,
            Some(shape) if shape.algorithm != "rs-cauchy-gf256" || shape.row != 4096 => {
                return Err(unsupported("parity", &shape.algorithm));
            }
            Some(shape) => {
                let shape = ParityParams {
                    data: shape.data,
                    parity: shape.parity,
                };
                shape.validate().map_err(|_| corrupt("its parity shape is invalid"))?;
                Some(shape)
            }
        };
        if !PACK_SIZES.contains(&document.pack_size) {
            return Err(corrupt("its pack size is out of range"));
        }
        Ok(Self {
            id,
            created_at: document.created_at,
            chunking,
            compression,
            encrypted,
            parity,
            pack_size: document.pack_size,
        })
    }

    /// An upper bound for the length of a pack, in bytes: a pack of several chunks is within the
    /// pack size, one of a single chunk is a little longer, and padding adds an eighth at most. A
    /// longer file is no pack of this repository, and is never loaded into memory.
    pub fn longest_pack(&self) -> u64 {
        const SLACK: u64 = 16 << 20;
        (2 * (self.pack_size + u64::from(self.chunking.max)) + SLACK).min(u64::from(u32::MAX))
    }

    /// The chunker's name in the config.
    pub fn chunker(&self) -> &'static str {
        if self.encrypted { CHUNKER_KEYED } else { CHUNKER_PLAIN }
    }
}

impl ParityParams {
    /// At most 224 data and 32 parity shards, at least one of each (`docs/format.md` §3).
    pub fn validate(&self) -> std::result::Result<(), &'static str> {
        if !(1..=224).contains(&self.data) || !(1..=32).contains(&self.parity) {
            return Err("expected 1 to 224 data shards and 1 to 32 parity shards");
        }
        Ok(())
    }
}

/// True when the MAC in `bytes` matches: HMAC over everything before the text `,"mac":"`. After the
/// MAC there must be only the checksum: a member between the two would not be covered by the MAC.
pub fn check_mac(bytes: &[u8], key: &SecretKey) -> bool {
    use subtle::ConstantTimeEq;
    let mark = b",\"mac\":\"";
    let Some(at) = bytes.windows(mark.len()).rposition(|window| window == mark) else {
        return false;
    };
    let start = at + mark.len();
    let Some(mac) = bytes
        .get(start..start + 64)
        .and_then(|hex| std::str::from_utf8(hex).ok())
        .and_then(from_hex::<32>)
    else {
        return false;
    };
    let is_last = bytes
        .get(start + 64..)
        .and_then(|rest| rest.strip_prefix(b"\""))
        .is_some_and(checked_json::is_end);
    is_last && bool::from(key.hmac(&[&bytes[..at]]).ct_eq(&mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(encrypted: bool) -> Config {
        Config {
            id: RepoId([5; 16]),
            created_at: "2026-11-23T00:00:00.000Z".to_owned(),
            chunking: ChunkerParams::default(),
            compression: Compression::default(),
            encrypted,
            parity: Some(ParityParams::default()),
            pack_size: 8 << 20,
        }
    }

    #[test]
    fn a_config_round_trips_and_any_flipped_byte_is_refused() {
        let key = SecretKey::new([1; 32]);
        for encrypted in [false, true] {
            let bytes = config(encrypted).encode(encrypted.then_some(&key)).unwrap();
            assert_eq!(Config::decode(&bytes).unwrap(), config(encrypted));
            assert_eq!(check_mac(&bytes, &key), encrypted);
            for at in 0..bytes.len() {
                let mut bad = bytes.clone();
                bad[at] ^= 1;
                assert!(Config::decode(&bad).is_err(), "byte {at}");
            }
        }
    }

    #[test]
    fn a_changed_config_with_a_good_checksum_fails_the_mac() {
        let key = SecretKey::new([1; 32]);
        let text = String::from_utf8(config(true).encode(Some(&key)).unwrap()).unwrap();
        let body = text
            .split(",\"checksum\"")
            .next()
            .unwrap()
            .replace("8388608", "4194304");
        let forged = checked_json::finish(format!("{body}}}"));
        assert_eq!(Config::decode(forged.as_bytes()).unwrap().pack_size, 4 << 20);
        assert!(!check_mac(forged.as_bytes(), &key));
    }

    #[test]
    fn a_member_after_the_mac_fails_the_mac() {
        let key = SecretKey::new([1; 32]);
        let text = String::from_utf8(config(true).encode(Some(&key)).unwrap()).unwrap();
        let body = text.split(",\"checksum\"").next().unwrap();
        let with_member = |more: &str| checked_json::finish(format!("{body}{more}}}")).into_bytes();
        assert!(check_mac(&with_member(""), &key));
        for more in [
            ",\"x\":1",
            ",\"checksum\":\"\",\"x\":1",
            ",\"checksum\":\"0000000000000000000000000000000000000000000000000000000000000000\",\"x\":1",
        ] {
            let forged = with_member(more);
            assert!(checked_json::verify(&forged).is_some(), "{more}");
            assert!(!check_mac(&forged, &key), "{more}");
        }
    }

    #[test]
    fn the_former_name_of_the_feature_is_the_same_feature() {
        let text = String::from_utf8(config(false).encode(None).unwrap()).unwrap();
        let body = text.split(",\"checksum\"").next().unwrap();
        let former = body.replace(FEATURE_COMMIT, FEATURE_COMMIT_BEFORE);
        assert_ne!(former, body);
        let former = checked_json::finish(format!("{former}}}"));
        assert_eq!(Config::decode(former.as_bytes()).unwrap(), config(false));
    }

    #[test]
    fn a_future_version_or_feature_is_not_reported_as_damage() {
        for (from, to) in [
            ("\"version\":1", "\"version\":2"),
            ("[\"commit-1\"]", "[\"commit-1\",\"warp\"]"),
            ("[\"commit-1\"]", "[\"commit-2\"]"),
        ] {
            let text = String::from_utf8(config(false).encode(None).unwrap()).unwrap();
            let body = text.split(",\"checksum\"").next().unwrap().replace(from, to);
            let changed = checked_json::finish(format!("{body}}}"));
            let error = Config::decode(changed.as_bytes()).unwrap_err();
            assert_eq!(error.code(), "ERR_UNSUPPORTED_FORMAT");
        }
    }
}
