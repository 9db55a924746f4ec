//! Keys and sealing (format.md §4–§6): key derivation, key files, and AES-256-GCM over a buffer.
//!
//! Always true: keys wipe themselves on drop and cannot be printed, compared or cloned by accident.
//! Costs and lengths read from a key file are checked before anything is allocated or computed. A
//! buffer that does not open contains no plaintext. The room does no I/O and reads no clock; its
//! callers store key files, choose what to seal, and never use a key and nonce for two messages.

mod bundle;
mod hierarchy;
mod kdf;
mod key_file;
mod padding;
mod secret;

pub use crate::sha256::kernel_name;
pub use bundle::{KeyBundle, Pin};
pub use hierarchy::{EpochKeys, Keys};
pub use kdf::{KdfParams, Wanted, derive_ikm};
pub use key_file::{Credential, KeyFile, KeyKind, MAX_KEY_FILE_LEN, NewKey};
pub use padding::padme;
pub use secret::SecretKey;

use crate::sha256::{self, Stream};
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce, Tag};
use sha2::{Digest, Sha256};
use std::fmt;

/// Length of an AES-256-GCM nonce in bytes.
pub const NONCE_LEN: usize = 12;
/// Length of an AES-256-GCM tag in bytes, and of a [`tag16`], which replaces it in plain files.
pub const TAG_LEN: usize = 16;

/// Why a key or sealed bytes were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// The passphrase or raw key does not open this key file.
    WrongCredential,
    /// A passphrase was given for the file of a raw key, or a raw key for that of a passphrase.
    WrongKind,
    /// The bytes are damaged or were altered: a checksum, a length or the authentication tag is
    /// wrong.
    Damaged,
    /// The key file has a later version, or an algorithm that this version does not know.
    Unsupported,
    /// The cost of the key file is above the maximum of this version.
    CostTooHigh,
    /// The requested cost is below the minimum for a new key file.
    CostTooLow,
    /// The key file would exceed 64 KiB (its label is too long), or the message the limit of the
    /// cipher.
    TooLong,
    /// The system has no memory for the key derivation.
    NoMemory,
    /// The system has no thread for the key derivation.
    NoThreads,
    /// The caller no longer wants the key.
    Unwanted,
    /// The system returned no random bytes.
    NoEntropy,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WrongCredential => "The passphrase or key is wrong",
            Self::WrongKind => "The key file is for the other kind of key (passphrase or raw key)",
            Self::Damaged => "The data is damaged or altered",
            Self::Unsupported => "The key file has an unknown version or algorithm",
            Self::CostTooHigh => {
                "The cost of a key derivation exceeds 2,097,152 KiB, 16 passes, 16 lanes, or 8,388,608 KiB times passes"
            }
            Self::CostTooLow => "The cost of a new key is below 19,456 KiB, 2 passes, or 8 KiB for each lane",
            Self::TooLong => "The key file would exceed 65,536 bytes, or the message 64 GiB or its output",
            Self::NoMemory => "The system has no memory for the key derivation",
            Self::NoThreads => "The system has no thread for the key derivation",
            Self::Unwanted => "The key derivation was cancelled",
            Self::NoEntropy => "The system returned no random bytes",
        })
    }
}

impl std::error::Error for Error {}

impl From<crate::entropy::NoEntropy> for Error {
    fn from(_: crate::entropy::NoEntropy) -> Self {
        Self::NoEntropy
    }
}

/// How this processor computes AES, for people.
pub fn aes_kernel_name() -> &'static str {
    match aes_gcm::aes::hardware_accelerated() {
        true => "instructions of the processor",
        false => "software, which is slow",
    }
}

/// Replaces `buf` with its ciphertext and returns the tag (AES-256-GCM, NIST SP 800-38D). A key and
/// nonce must never be used for two different messages. [`Error::TooLong`] above 64 GiB; `buf` is
/// then unchanged.
pub fn seal_in_place(
    key: &[u8; 32],
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    buf: &mut [u8],
) -> Result<[u8; TAG_LEN], Error> {
    seal_inout(key, nonce, aad, buf.into())
}

/// As [`seal_in_place`], but writes the ciphertext to `out`, which must be as long as `plain`;
/// [`Error::TooLong`] when it is not.
pub fn seal_to(
    key: &[u8; 32],
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    plain: &[u8],
    out: &mut [u8],
) -> Result<[u8; TAG_LEN], Error> {
    seal_inout(key, nonce, aad, InOutBuf::new(plain, out).map_err(|_| Error::TooLong)?)
}

fn seal_inout(
    key: &[u8; 32],
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    buf: InOutBuf<'_, '_, u8>,
) -> Result<[u8; TAG_LEN], Error> {
    let cipher = Aes256Gcm::new(key.into());
    let nonce: &Nonce<_> = nonce.into();
    cipher
        .encrypt_inout_detached(nonce, aad, buf)
        .map(Into::into)
        .map_err(|_| Error::TooLong)
}

/// Replaces `buf` with its plaintext; the inverse of [`seal_in_place`]. [`Error::Damaged`] when
/// key, nonce, `aad`, `buf` or `tag` differs from what was sealed; `buf` is then unchanged.
pub fn open_in_place(
    key: &[u8; 32],
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    buf: &mut [u8],
    tag: &[u8; TAG_LEN],
) -> Result<(), Error> {
    open_inout(key, nonce, aad, buf.into(), tag)
}

/// As [`open_in_place`], but writes the plaintext to `out`, which must be as long as `sealed`;
/// [`Error::TooLong`] when it is not. After an error `out` is unchanged.
pub fn open_to(
    key: &[u8; 32],
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    sealed: &[u8],
    out: &mut [u8],
    tag: &[u8; TAG_LEN],
) -> Result<(), Error> {
    let buf = InOutBuf::new(sealed, out).map_err(|_| Error::TooLong)?;
    open_inout(key, nonce, aad, buf, tag)
}

fn open_inout(
    key: &[u8; 32],
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    buf: InOutBuf<'_, '_, u8>,
    tag: &[u8; TAG_LEN],
) -> Result<(), Error> {
    let cipher = Aes256Gcm::new(key.into());
    let (nonce, tag): (&Nonce<_>, &Tag) = (nonce.into(), tag.into());
    cipher
        .decrypt_inout_detached(nonce, aad, buf, tag)
        .map_err(|_| Error::Damaged)
}

/// SHA-256 (FIPS 180-4) of the concatenated parts.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    parts.iter().for_each(|part| hash.update(part));
    hash.finalize().into()
}

/// SHA-256 of each message, several at once; beside them, each of these streams takes its next
/// bytes.
pub fn sha256_each(messages: &[&[u8]], streams: &mut [(&mut Stream, &[u8])]) -> Vec<[u8; 32]> {
    sha256::digests_beside(&sha256::Start::empty(), messages, streams)
}

/// `tag16(domain, x)` of format.md §1: the first 16 bytes of `SHA-256(domain ‖ 0x00 ‖ x)`, where x
/// is the concatenated parts.
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

/// The first `N` bytes of a hash; `N` is at most 32, checked at compile time.
fn first<const N: usize>(hash: &[u8; 32]) -> [u8; N] {
    const { assert!(N <= 32) };
    let mut out = [0; N];
    out.iter_mut().zip(hash).for_each(|(to, from)| *to = *from);
    out
}

#[cfg(test)]
mod tests;
