//! Key files: the bundle, wrapped with a key from a passphrase or a raw key (format.md §4.1).
//!
//! ```text
//! IKM = Argon2id(passphrase, salt, …) | the raw key
//! PRK = HMAC(key id ‖ salt, IKM)
//! KEK = Expand(PRK, "containerarchive/v1/kek", 32)
//! CMT = Expand(PRK, "containerarchive/v1/commit", 32)
//! AAD = SHA-256("containerarchive/keyfile/v1" ‖ 0x00 ‖ key id ‖ repo id
//!               ‖ u32 m ‖ u32 t ‖ u32 p ‖ salt ‖ type)
//! ct  = GCM(KEK, nonce, AAD, bundle) ‖ tag
//! ```
//!
//! CMT is in the file and is compared first: GCM alone does not commit to its key, and CMT
//! distinguishes a wrong passphrase from a damaged file.

use super::bundle::VersionJson;
use super::hierarchy::hedge_key;
use super::{
    Error, KdfParams, KeyBundle, NONCE_LEN, SecretKey, TAG_LEN, Wanted, derive_ikm, open_in_place, seal_in_place,
};
use crate::entropy::{Entropy, random};
use crate::id::{KeyId, RepoId};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Longest key file in bytes: 64 KiB.
pub const MAX_KEY_FILE_LEN: usize = 65_536;

/// The only version of a key file.
const VERSION: u32 = 1;
/// Name and version (0x13) of the derivation.
const ARGON2ID: (&str, u32) = ("argon2id", 19);
/// Name of the derivation of a raw key.
const NO_KDF: &str = "none";
const CIPHER: &str = "aes-256-gcm";
/// Domain of the AAD, and of the hedged nonce.
const DOMAIN: &[u8] = b"containerarchive/keyfile/v1\0";

/// The secret that opens a key file.
#[derive(Clone, Copy)]
pub enum Credential<'a> {
    /// A passphrase, as bytes.
    Passphrase(&'a [u8]),
    /// 32 random bytes that the caller keeps.
    Raw(&'a [u8; 32]),
}

impl Credential<'_> {
    /// Returns the kind of key file that this secret opens.
    pub fn kind(&self) -> KeyKind {
        match self {
            Self::Passphrase(_) => KeyKind::Passphrase,
            Self::Raw(_) => KeyKind::Raw,
        }
    }
}

/// The kind of secret that opens a key file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// A passphrase.
    Passphrase,
    /// A raw 32-byte key.
    Raw,
}

impl KeyKind {
    /// Returns the name of the kind in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passphrase => "passphrase",
            Self::Raw => "raw",
        }
    }
}

/// The unencrypted properties of a new key file.
#[derive(Debug, Clone, Copy)]
pub struct NewKey<'a> {
    /// Its id, random.
    pub id: KeyId,
    /// When it was created, RFC 3339 in UTC.
    pub created_at: &'a str,
    /// A label for users.
    pub label: Option<&'a str>,
}

/// A key file that was read, with checksum and lengths checked, and is still wrapped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    /// Its id.
    pub id: KeyId,
    /// The repository that it opens.
    pub repo: RepoId,
    /// The kind of secret that opens it.
    pub kind: KeyKind,
    /// When it was created, RFC 3339 in UTC, as stated.
    pub created_at: String,
    /// A label for users.
    pub label: Option<String>,
    /// Cost of the derivation; all zero for a raw key.
    pub kdf: KdfParams,
    pub(super) salt: [u8; 16],
    pub(super) commit: [u8; 32],
    pub(super) nonce: [u8; NONCE_LEN],
    /// Ciphertext, then the tag.
    pub(super) ct: Vec<u8>,
}

#[derive(Serialize, Deserialize)]
struct FileJson {
    version: u32,
    id: String,
    repo: String,
    r#type: String,
    #[serde(rename = "createdAt")]
    created_at: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    kdf: KdfJson,
    wrap: WrapJson,
}

#[derive(Serialize, Deserialize)]
struct KdfJson {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    m: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    t: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    p: Option<u32>,
    salt: String,
}

#[derive(Serialize, Deserialize)]
struct WrapJson {
    alg: String,
    commit: String,
    nonce: String,
    ct: String,
}

impl KeyFile {
    /// Wraps `bundle` in a new key file, and opens the file once to prove it. `params` apply to
    /// passphrases only.
    ///
    /// [`Error::CostTooLow`] and [`Error::CostTooHigh`] for the cost, [`Error::TooLong`] when the
    /// file would exceed [`MAX_KEY_FILE_LEN`], [`Error::Damaged`] when it does not open again (for
    /// example through faulty memory), [`Error::Unwanted`] once `wanted` returns `false` while the
    /// derivation waits for others.
    pub fn wrap(
        bundle: &KeyBundle,
        credential: &Credential,
        params: &KdfParams,
        new: &NewKey,
        entropy: &dyn Entropy,
        wanted: Wanted<'_>,
    ) -> Result<Vec<u8>, Error> {
        let kdf = match credential {
            Credential::Passphrase(_) => {
                params.check_create()?;
                *params
            }
            Credential::Raw(_) => NO_COST,
        };
        let mut file = Self {
            id: new.id,
            repo: bundle.repo,
            kind: credential.kind(),
            created_at: new.created_at.to_owned(),
            label: new.label.map(str::to_owned),
            kdf,
            salt: random(entropy)?,
            commit: [0; 32],
            nonce: [0; NONCE_LEN],
            ct: Vec::new(),
        };
        let text = bundle.encode()?;
        let (kek, commit) = file.derive(credential, wanted)?;
        let aad = file.aad();
        // hedged (format.md §4.2): if the random bytes repeat, another bundle still gets another
        // nonce
        let hedged = hedge_key(bundle).hmac(&[DOMAIN, &random::<16>(entropy)?, &aad, &text]);
        file.nonce.iter_mut().zip(hedged).for_each(|(to, from)| *to = from);
        file.commit = commit;
        let mut sealed = Zeroizing::new(Vec::with_capacity(text.len() + TAG_LEN));
        sealed.extend_from_slice(&text);
        let tag = seal_in_place(kek.as_bytes(), &file.nonce, &aad, &mut sealed)?;
        sealed.extend_from_slice(&tag);
        file.ct = std::mem::take(&mut *sealed);
        let bytes = file.encode()?;
        let again = Self::decode(&bytes)?.unwrap(credential, wanted)?.encode()?;
        if again == text { Ok(bytes) } else { Err(Error::Damaged) }
    }

    /// Opens the bundle. [`Error::WrongKind`] and [`Error::CostTooHigh`] are returned before any
    /// work, [`Error::WrongCredential`] for a wrong passphrase or key, [`Error::Damaged`] when the
    /// secret is right and the file was altered.
    pub fn unwrap(&self, credential: &Credential, wanted: Wanted<'_>) -> Result<KeyBundle, Error> {
        let (kek, commit) = self.derive(credential, wanted)?;
        if !bool::from(commit.ct_eq(&self.commit)) {
            return Err(Error::WrongCredential);
        }
        let (sealed, tag) = self.ct.split_last_chunk::<TAG_LEN>().ok_or(Error::Damaged)?;
        let mut text = Zeroizing::new(sealed.to_vec());
        open_in_place(kek.as_bytes(), &self.nonce, &self.aad(), &mut text, tag)?;
        let bundle = KeyBundle::decode(&text)?;
        if bundle.repo == self.repo {
            Ok(bundle)
        } else {
            Err(Error::Damaged)
        }
    }

    /// Derives KEK and CMT.
    fn derive(&self, credential: &Credential, wanted: Wanted<'_>) -> Result<(SecretKey, [u8; 32]), Error> {
        if credential.kind() != self.kind {
            return Err(Error::WrongKind);
        }
        let ikm = match credential {
            Credential::Passphrase(passphrase) => derive_ikm(passphrase, &self.salt, &self.kdf, wanted)?,
            Credential::Raw(key) => SecretKey::new(**key),
        };
        let mut extract_salt = [0u8; 32]; // key id ‖ salt
        let parts = self.id.0.iter().chain(&self.salt);
        extract_salt.iter_mut().zip(parts).for_each(|(to, from)| *to = *from);
        let prk = SecretKey::new(extract_salt).hmac_key(&[ikm.as_bytes()]);
        let commit = *prk.expand::<32>(&[b"containerarchive/v1/commit"]);
        Ok((prk.derive(&[b"containerarchive/v1/kek"]), commit))
    }

    fn aad(&self) -> [u8; 32] {
        let costs = [self.kdf.memory_kib, self.kdf.time, self.kdf.lanes].map(u32::to_le_bytes);
        let kind = self.kind.as_str().as_bytes();
        super::sha256(&[DOMAIN, &self.id.0, &self.repo.0, costs.as_flattened(), &self.salt, kind])
    }

    fn encode(&self) -> Result<Vec<u8>, Error> {
        let argon2 = self.kind == KeyKind::Passphrase;
        let json = FileJson {
            version: VERSION,
            id: self.id.to_hex(),
            repo: self.repo.to_hex(),
            r#type: self.kind.as_str().to_owned(),
            created_at: self.created_at.clone(),
            label: self.label.clone(),
            kdf: KdfJson {
                name: (if argon2 { ARGON2ID.0 } else { NO_KDF }).to_owned(),
                version: argon2.then_some(ARGON2ID.1),
                m: argon2.then_some(self.kdf.memory_kib),
                t: argon2.then_some(self.kdf.time),
                p: argon2.then_some(self.kdf.lanes),
                salt: STANDARD.encode(self.salt),
            },
            wrap: WrapJson {
                alg: CIPHER.to_owned(),
                commit: STANDARD.encode(self.commit),
                nonce: STANDARD.encode(self.nonce),
                ct: STANDARD.encode(&self.ct),
            },
        };
        let text = crate::checked_json::finish(serde_json::to_string(&json).map_err(|_| Error::Damaged)?);
        if text.len() > MAX_KEY_FILE_LEN {
            Err(Error::TooLong)
        } else {
            Ok(text.into_bytes())
        }
    }

    /// Reads a key file. [`Error::Damaged`] when the checksum, the JSON or a length is wrong,
    /// [`Error::Unsupported`] for another version or algorithm. The cost is checked when the file
    /// is opened.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > MAX_KEY_FILE_LEN {
            return Err(Error::Damaged);
        }
        let text = crate::checked_json::verify(bytes).ok_or(Error::Damaged)?;
        // the version first: another version may have other fields
        let version: VersionJson = serde_json::from_str(text).map_err(|_| Error::Damaged)?;
        if version.version != VERSION {
            return Err(Error::Unsupported);
        }
        let json: FileJson = serde_json::from_str(text).map_err(|_| Error::Damaged)?;
        let (kind, kdf) = kind_and_cost(&json.r#type, &json.kdf)?;
        if json.wrap.alg != CIPHER {
            return Err(Error::Unsupported);
        }
        let file = Self {
            id: KeyId::from_hex(&json.id).ok_or(Error::Damaged)?,
            repo: RepoId::from_hex(&json.repo).ok_or(Error::Damaged)?,
            kind,
            created_at: json.created_at,
            label: json.label,
            kdf,
            salt: fixed(&json.kdf.salt)?,
            commit: fixed(&json.wrap.commit)?,
            nonce: fixed(&json.wrap.nonce)?,
            ct: STANDARD.decode(&json.wrap.ct).map_err(|_| Error::Damaged)?,
        };
        if file.ct.len() < TAG_LEN {
            Err(Error::Damaged)
        } else {
            Ok(file)
        }
    }
}

/// Cost of a raw key, which has no derivation.
const NO_COST: KdfParams = KdfParams {
    memory_kib: 0,
    time: 0,
    lanes: 0,
};

/// Returns the kind of a file and its cost, which must match.
fn kind_and_cost(kind: &str, kdf: &KdfJson) -> Result<(KeyKind, KdfParams), Error> {
    match kind {
        "passphrase" if kdf.name == ARGON2ID.0 && kdf.version == Some(ARGON2ID.1) => {
            let (Some(memory_kib), Some(time), Some(lanes)) = (kdf.m, kdf.t, kdf.p) else {
                return Err(Error::Damaged);
            };
            Ok((
                KeyKind::Passphrase,
                KdfParams {
                    memory_kib,
                    time,
                    lanes,
                },
            ))
        }
        "raw" if kdf.name == NO_KDF => Ok((KeyKind::Raw, NO_COST)),
        _ => Err(Error::Unsupported),
    }
}

/// Decodes Base64 of exactly `N` bytes.
fn fixed<const N: usize>(text: &str) -> Result<[u8; N], Error> {
    let bytes = STANDARD.decode(text).map_err(|_| Error::Damaged)?;
    bytes.try_into().map_err(|_| Error::Damaged)
}
