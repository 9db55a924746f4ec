//! The key bundle: the secrets of a repository and the pinned parameters of its encryption
//! (format.md §4.2). Every key file contains it, wrapped.

use super::{Error, SecretKey};
use crate::entropy::Entropy;
use crate::id::RepoId;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// The only version of the bundle.
const VERSION: u32 = 1;
/// Number of the first epoch. 0 marks plain repositories on disk.
const FIRST_EPOCH: u32 = 1;

/// The parameters that an encrypted repository was created with. They override `config.json`, which
/// anyone with write access to the storage can change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pin {
    /// `aes-256-gcm`.
    pub cipher: String,
    /// `hmac-sha-256`.
    pub chunk_ids: String,
    /// `fastcdc-v2020-keyed`.
    pub chunker: String,
    /// Normalisation level of the chunker, 3.
    pub normalization: u32,
    /// Smallest chunk in bytes.
    pub min: u32,
    /// Average chunk in bytes.
    pub avg: u32,
    /// Largest chunk in bytes.
    pub max: u32,
}

impl Pin {
    /// The parameters of this version, with the given chunk sizes in bytes.
    pub fn new(min: u32, avg: u32, max: u32) -> Self {
        Self {
            cipher: "aes-256-gcm".into(),
            chunk_ids: "hmac-sha-256".into(),
            chunker: "fastcdc-v2020-keyed".into(),
            normalization: 3,
            min,
            avg,
            max,
        }
    }
}

/// The secrets of a repository. Wiped on drop.
pub struct KeyBundle {
    /// The repository that the secrets belong to.
    pub repo: RepoId,
    /// Newest epoch and its master key.
    pub(super) current: (u32, SecretKey),
    /// Older epochs, oldest first.
    pub(super) older: Vec<(u32, SecretKey)>,
    /// Key for chunk ids, the same in all epochs, so that equal chunks have equal ids.
    pub(super) dedup: SecretKey,
    /// The pinned parameters of the repository.
    pub pin: Pin,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct EpochJson {
    epoch: u32,
    key: String,
}

#[derive(Serialize, Deserialize)]
struct BundleJson {
    version: u32,
    repo: String,
    epochs: Vec<EpochJson>,
    dedup: Base64Key,
    pin: Pin,
}

/// The one field that every version has.
#[derive(Deserialize)]
pub(super) struct VersionJson {
    pub(super) version: u32,
}

/// A key in Base64. It is wiped on drop.
#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct Base64Key(String);

impl KeyBundle {
    /// Generates fresh secrets with one epoch, number 1.
    pub fn generate(entropy: &dyn Entropy, repo: RepoId, pin: Pin) -> Result<Self, Error> {
        let current = (FIRST_EPOCH, SecretKey::random(entropy)?);
        Ok(Self {
            repo,
            current,
            older: Vec::new(),
            dedup: SecretKey::random(entropy)?,
            pin,
        })
    }

    /// Returns the numbers of all epochs, newest last.
    pub fn epochs(&self) -> impl Iterator<Item = u32> {
        self.older.iter().chain([&self.current]).map(|(number, _)| *number)
    }

    /// Writes the JSON text of format.md §4.2.
    pub(super) fn encode(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let text = |key: &SecretKey| STANDARD.encode(key.as_bytes());
        let epochs = self.older.iter().chain([&self.current]);
        let json = BundleJson {
            version: VERSION,
            repo: self.repo.to_hex(),
            epochs: epochs
                .map(|(epoch, key)| EpochJson {
                    epoch: *epoch,
                    key: text(key),
                })
                .collect(),
            dedup: Base64Key(text(&self.dedup)),
            pin: self.pin.clone(),
        };
        // measured first, so that the buffer is never reallocated, which would leave a copy unwiped
        let mut len = Length(0);
        serde_json::to_writer(&mut len, &json).map_err(|_| Error::Damaged)?;
        let mut out = Zeroizing::new(Vec::with_capacity(len.0));
        serde_json::to_writer(&mut *out, &json).map_err(|_| Error::Damaged)?;
        Ok(out)
    }

    /// Reads the text that [`encode`](Self::encode) writes. Requires this version, at least one
    /// epoch, increasing epoch numbers from 1, and keys of exactly 32 bytes.
    pub(super) fn decode(text: &[u8]) -> Result<Self, Error> {
        // the version first: another version may have other fields
        let version: VersionJson = serde_json::from_slice(text).map_err(|_| Error::Damaged)?;
        if version.version != VERSION {
            return Err(Error::Unsupported);
        }
        let json: BundleJson = serde_json::from_slice(text).map_err(|_| Error::Damaged)?;
        let repo = RepoId::from_hex(&json.repo).ok_or(Error::Damaged)?;
        let mut older = Vec::with_capacity(json.epochs.len());
        for item in &json.epochs {
            if item.epoch < FIRST_EPOCH || older.last().is_some_and(|(number, _)| *number >= item.epoch) {
                return Err(Error::Damaged);
            }
            older.push((item.epoch, key(&item.key)?));
        }
        let current = older.pop().ok_or(Error::Damaged)?;
        Ok(Self {
            repo,
            current,
            older,
            dedup: key(&json.dedup.0)?,
            pin: json.pin,
        })
    }
}

/// Counts the bytes written to it.
struct Length(usize);

impl std::io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn key(text: &str) -> Result<SecretKey, Error> {
    let bytes = Zeroizing::new(STANDARD.decode(text).map_err(|_| Error::Damaged)?);
    let mut key = Zeroizing::new([0u8; 32]);
    if bytes.len() != key.len() {
        return Err(Error::Damaged);
    }
    key.copy_from_slice(&bytes);
    Ok(SecretKey::new(*key))
}
