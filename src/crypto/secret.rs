//! A 32-byte secret key, with key derivation (HKDF-Expand) and authentication codes (HMAC).
//!
//! Both use the `hmac` crate directly, so that neither can fail; the tests compare with the `hkdf`
//! crate. The codes of many messages at once come from [`crate::sha256`]; the tests compare them
//! with those of the crate.

use crate::sha256::{self, Start, Stream};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Length of an HMAC-SHA-256 in bytes.
const HASH_LEN: usize = 32;

/// A secret of 32 uniformly random bytes. It is wiped on drop and has no Debug, Display, Clone or
/// PartialEq.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct SecretKey([u8; 32]);

impl SecretKey {
    /// Takes the bytes of a key; the caller wipes its own copy.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Generates a random key.
    pub fn random(entropy: &dyn crate::entropy::Entropy) -> Result<Self, crate::entropy::NoEntropy> {
        let mut key = Self([0; 32]);
        entropy.fill(&mut key.0)?;
        Ok(key)
    }

    /// Returns the bytes, for a cipher.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns a copy, for an owner of its own.
    pub fn duplicate(&self) -> Self {
        Self(self.0)
    }

    /// `Expand(key, info, 32)` as a new key; `info` is the concatenated parts.
    pub fn derive(&self, info: &[&[u8]]) -> SecretKey {
        SecretKey(*self.expand::<32>(info))
    }

    /// `Expand(key, info, N)`: HKDF-Expand with SHA-256 (RFC 5869 §2.3). `N` is at most 8160,
    /// checked at compile time.
    ///
    /// ```text
    /// T(0) = empty, T(i) = HMAC(key, T(i-1) ‖ info ‖ u8 i)
    /// output = first N bytes of T(1) ‖ T(2) ‖ …
    /// ```
    pub fn expand<const N: usize>(&self, info: &[&[u8]]) -> Zeroizing<[u8; N]> {
        const { assert!(N <= 255 * HASH_LEN) };
        let mut out = Zeroizing::new([0u8; N]);
        let mut block = Zeroizing::new([0u8; HASH_LEN]);
        for (number, piece) in (1..=u8::MAX).zip(out.chunks_mut(HASH_LEN)) {
            let mut mac = self.keyed_mac();
            if number > 1 {
                mac.update(block.as_slice());
            }
            info.iter().for_each(|part| mac.update(part));
            mac.update(&[number]);
            *block = mac.finalize().into_bytes().into();
            piece.iter_mut().zip(block.iter()).for_each(|(to, from)| *to = *from);
        }
        out
    }

    /// HMAC-SHA-256 (RFC 2104) of the concatenated parts.
    pub fn hmac(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut mac = self.keyed_mac();
        parts.iter().for_each(|part| mac.update(part));
        mac.finalize().into_bytes().into()
    }

    /// HMAC-SHA-256 of each message, several at once; beside them, each of these streams takes its
    /// next bytes.
    pub fn hmac_each(&self, messages: &[&[u8]], streams: &mut [(&mut Stream, &[u8])]) -> Vec<[u8; 32]> {
        let [inner, outer] = [0x36, 0x5c].map(|pad| {
            let mut block = Zeroizing::new([pad; sha256::BLOCK_LEN]);
            block.iter_mut().zip(&self.0).for_each(|(to, from)| *to ^= from);
            Start::after(&block)
        });
        let digests = sha256::digests_beside(&inner, messages, streams);
        let digests: Vec<&[u8]> = digests.iter().map(<[u8; HASH_LEN]>::as_slice).collect();
        sha256::digests(&outer, &digests)
    }

    /// [`hmac`](Self::hmac) as a new key.
    pub fn hmac_key(&self, parts: &[&[u8]]) -> SecretKey {
        SecretKey(self.hmac(parts))
    }

    fn keyed_mac(&self) -> Hmac<Sha256> {
        // a key shorter than a block is padded with zeros (RFC 2104 §2): done here, so that no
        // length error is possible
        let mut padded = Zeroizing::new([0u8; 64]);
        padded.iter_mut().zip(&self.0).for_each(|(to, from)| *to = *from);
        Hmac::<Sha256>::new((&*padded).into())
    }
}
