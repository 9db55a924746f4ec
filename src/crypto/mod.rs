//! Keys and sealing (format.md §4–§6): what is derived from what, and AES-256-GCM over a buffer.
//!
//! What always holds: keys wipe themselves on drop, cannot be printed, compared or cloned by accident; costs and lengths
//! read from a key file are checked before anything is allocated or computed; what does not open leaves no plaintext.
//! Pure: no I/O, no clock. Where a key file lies, what is sealed, and that no key and nonce meet twice, is left to others.

mod bundle;
mod hierarchy;
mod kdf;
mod key_file;
mod padding;
mod secret;

pub use bundle::{KeyBundle, Pin};
pub use hierarchy::{EpochKeys, Keys, TABLE_LEN};
pub use kdf::{KdfParams, MEMORY_AT_ONCE, Wanted, derive_ikm};
pub use key_file::{Credential, KeyFile, KeyKind, MAX_KEY_FILE_LEN, NewKey};
pub use padding::padme;
pub use secret::SecretKey;

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use sha2::{Digest, Sha256};
use std::fmt;

/// Length of an AES-256-GCM nonce in bytes.
pub const NONCE_LEN: usize = 12;
/// Length of an AES-256-GCM tag in bytes; also that of [`tag16`], which stands for it where nothing is sealed.
pub const TAG_LEN: usize = 16;

/// Why keys or sealed bytes are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// The passphrase or raw key is not the one of this key file.
    WrongCredential,
    /// A passphrase was given for a raw key's file, or the other way round.
    WrongKind,
    /// Damaged or altered: a checksum, a length or the authentication tag does not hold.
    Damaged,
    /// Made by a later version, or with an algorithm that this version does not know.
    Unsupported,
    /// Opening would cost more memory or time than this version is ready to spend.
    CostTooHigh,
    /// The costs asked for would protect a new key file too little.
    CostTooLow,
    /// More than a key file may hold (a label far too long), or than the cipher may seal at once.
    TooLong,
    /// The system gave no memory for the key derivation.
    NoMemory,
    /// The system gave no thread for the key derivation.
    NoThreads,
    /// The caller does not want the key any more.
    Unwanted,
    /// The system gave no random bytes.
    NoEntropy,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WrongCredential => "The passphrase or key is wrong",
            Self::WrongKind => "The key file is for the other kind of key (passphrase or raw)",
            Self::Damaged => "The data is damaged or was altered",
            Self::Unsupported => "The key file is of an unknown version or algorithm",
            Self::CostTooHigh => {
                "A key derivation may cost at most 2,097,152 KiB, 16 passes and 16 lanes, and 8,388,608 KiB times passes"
            },
            Self::CostTooLow => {
                "A new key derivation costs at least 19,456 KiB and 2 passes, and 8 KiB for each lane"
            },
            Self::TooLong => "The data is too long",
            Self::NoMemory => "The system gave no memory for the key derivation",
            Self::NoThreads => "The system gave no thread for the key derivation",
            Self::Unwanted => "The key is not wanted any more",
            Self::NoEntropy => "The system gave no random bytes",
        })
    }
}

impl std::error::Error for Error {}

impl From<crate::entropy::NoEntropy> for Error {
    fn from(_: crate::entropy::NoEntropy) -> Self {
        Self::NoEntropy
    }
}

/// AES-256-GCM (NIST SP 800-38D): replaces `buf` by its ciphertext and gives the tag. A key and nonce must never meet two
/// different messages. [`Error::TooLong`] above 64 GiB; `buf` is then unchanged.
pub fn seal_in_place(
    key: &[u8; 32],
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    buf: &mut [u8],
) -> Result<[u8; TAG_LEN], Error> {
    let cipher = Aes256Gcm::new(key.into());
    let nonce: &Nonce<_> = nonce.into();
    cipher
        .encrypt_inout_detached(nonce, aad, buf.into())
        .map(Into::into)
        .map_err(|_| Error::TooLong)
}

/// The way back: replaces `buf` by its plaintext. [`Error::Damaged`] when key, nonce, `aad`, `buf` or `tag` is not what was
/// sealed; `buf` is then unchanged.
pub fn open_in_place(
    key: &[u8; 32],
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    buf: &mut [u8],
    tag: &[u8; TAG_LEN],
) -> Result<(), Error> {
    let cipher = Aes256Gcm::new(key.into());
    let (nonce, tag): (&Nonce<_>, &Tag) = (nonce.into(), tag.into());
    cipher
        .decrypt_inout_detached(nonce, aad, buf.into(), tag)
        .map_err(|_| Error::Damaged)
}

/// SHA-256 (FIPS 180-4) of all parts, one after the other.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// `tag16(domain, x)` of format.md §1: the first 16 bytes of `SHA-256(domain ‖ 0x00 ‖ x)`, x being all parts.
pub fn tag16(domain: &str, parts: &[&[u8]]) -> [u8; TAG_LEN] {
    let mut hash = Sha256::new();
    hash.update(domain.as_bytes());
    hash.update([0]);
    parts.iter().for_each(|part| hash.update(part));
    first(&hash.finalize().into())
}

/// Length of [`check8`] in bytes.
pub const CHECK_LEN: usize = 8;

/// `check8(x)` of format.md §1: the first 8 bytes of `SHA-256(x)`.
pub fn check8(bytes: &[u8]) -> [u8; CHECK_LEN] {
    first(&sha256(&[bytes]))
}

/// The first `N` bytes of a hash; `N` is at most 32, checked when compiled.
fn first<const N: usize>(hash: &[u8; 32]) -> [u8; N] {
    const { assert!(N <= 32) };
    let mut out = [0; N];
    out.iter_mut().zip(hash).for_each(|(to, from)| *to = *from);
    out
}

#[cfg(test)]
mod tests;
