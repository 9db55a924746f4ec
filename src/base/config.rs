//! `config.json`: what a repository was made with. Layout: `docs/format.md` §3.

use crate::checked_json;
use crate::chunk::ChunkerParams;
use crate::codec::Compression;
use crate::crypto::SecretKey;
use crate::error::{Error, Result};
use crate::id::{RepoId, from_hex, to_hex};
use serde::{Deserialize, Serialize};

/// Largest `config.json` that is read, in bytes.
pub const MAX_CONFIG_LEN: u64 = 1 << 20;
/// The version this software writes and reads.
pub const VERSION: u32 = 1;
/// Commits and deletes follow the lock rules of `docs/invariants.md`.
pub const FEATURE_PROTOCOL_K: &str = "protocol-k";
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
    /// Parity shards of a group: as many lost packs can be made again.
    pub parity: u8,
}

impl Default for ParityParams {
    fn default() -> Self {
        Self { data: 20, parity: 1 }
    }
}

/// What a repository was made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The repository.
    pub id: RepoId,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// Chunk sizes in bytes.
    pub chunking: ChunkerParams,
    /// Default for ingests.
    pub compression: Compression,
    /// Chunks, manifests and index are sealed.
    pub encrypted: bool,
    /// Parity groups, if wanted.
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

/// Just enough to tell a future version before anything else of it is judged.
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
                required: vec![FEATURE_PROTOCOL_K.to_owned()],
                optional: Vec::new(),
            },
        };
        let mut body = serde_json::to_string(&document).map_err(|error| Error::Internal {
            reason: format!("config cannot be written: {error}"),
        })?;
        if let Some(key) = mac_key {
            body.pop();
            let mac = to_hex(&key.hmac(&[body.as_bytes()]));
            body = format!("{body},\"mac\":\"{mac}\"}}");
        }
        Ok(checked_json::finish(body).into_bytes())
    }

    /// Reads `config.json`. The MAC of a sealed one is checked later, by [`check_mac`], when there is a key.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let corrupt = |reason: String| Error::ConfigCorrupt { reason };
        let text = checked_json::verify(bytes).ok_or_else(|| corrupt("its checksum does not fit".to_owned()))?;
        let head: VersionOnly = serde_json::from_str(text).map_err(|error| corrupt(error.to_string()))?;
        if head.version != VERSION {
            return Err(Error::UnsupportedFormat {
                what: format!("format version {}", head.version),
            });
        }
        for feature in head.features.map(|features| features.required).unwrap_or_default() {
            if feature != FEATURE_PROTOCOL_K {
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
        chunking.validate().map_err(|_| corrupt("its chunk sizes cannot be"))?;
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
                shape.validate().map_err(|_| corrupt("its parity shape cannot be"))?;
                Some(shape)
            }
        };
        if !PACK_SIZES.contains(&document.pack_size) {
            return Err(corrupt("its pack size cannot be"));
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

    /// Longer than any pack that a writer makes, in bytes: a pack of several chunks keeps to the pack size, one of a single
    /// chunk is a little longer than that, and padding adds an eighth at most. What is longer is no pack of this repository,
    /// and nobody needs to hold it in memory.
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
            return Err("parity wants 1 to 224 data and 1 to 32 parity shards");
        }
        Ok(())
    }
}

/// True when the MAC in `bytes` fits: HMAC over everything before the text `,"mac":"`. After it,
/// there is the checksum and nothing else: a member between the two would be one that no key
/// vouches for.
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
        let again = |more: &str| checked_json::finish(format!("{body}{more}}}")).into_bytes();
        assert!(check_mac(&again(""), &key));
        for more in [
            ",\"x\":1",
            ",\"checksum\":\"\",\"x\":1",
            ",\"checksum\":\"0000000000000000000000000000000000000000000000000000000000000000\",\"x\":1",
        ] {
            let forged = again(more);
            assert!(checked_json::verify(&forged).is_some(), "{more}");
            assert!(!check_mac(&forged, &key), "{more}");
        }
    }

    #[test]
    fn a_future_version_or_feature_is_told_apart_from_damage() {
        for (from, to) in [
            ("\"version\":1", "\"version\":2"),
            ("[\"protocol-k\"]", "[\"protocol-k\",\"warp\"]"),
        ] {
            let text = String::from_utf8(config(false).encode(None).unwrap()).unwrap();
            let body = text.split(",\"checksum\"").next().unwrap().replace(from, to);
            let changed = checked_json::finish(format!("{body}}}"));
            let error = Config::decode(changed.as_bytes()).unwrap_err();
            assert_eq!(error.code(), "ERR_UNSUPPORTED_FORMAT");
        }
    }
}
