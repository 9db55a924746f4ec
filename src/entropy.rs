//! Random bytes: the only file that reads them from the operating system. Tests pass a seeded
//! generator, and a run is then reproducible byte for byte.

use std::sync::Mutex;

/// A source of random bytes (for ids, salts, nonces, and the choice of an open pack).
pub trait Entropy: Send + Sync {
    /// Fills `out`; an error when the system returns no random bytes.
    fn fill(&self, out: &mut [u8]) -> Result<(), NoEntropy>;
}

/// The system returned no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoEntropy;

/// Returns `N` random bytes.
pub fn random<const N: usize>(entropy: &dyn Entropy) -> Result<[u8; N], NoEntropy> {
    let mut out = [0u8; N];
    entropy.fill(&mut out)?;
    Ok(out)
}

/// The generator of the operating system.
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, out: &mut [u8]) -> Result<(), NoEntropy> {
        getrandom::fill(out).map_err(|_| NoEntropy)
    }
}

/// A reproducible generator for tests and golden files (SplitMix64, Steele, Lea and Flood 2014).
/// Never for real keys.
pub struct SeededEntropy(Mutex<u64>);

impl SeededEntropy {
    /// Makes a generator; the same seed gives the same bytes.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, out: &mut [u8]) -> Result<(), NoEntropy> {
        let mut state = self.0.lock().map_err(|_| NoEntropy)?;
        for piece in out.chunks_mut(8) {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = *state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            let word = (z ^ (z >> 31)).to_le_bytes();
            piece.copy_from_slice(&word[..piece.len()]);
        }
        Ok(())
    }
}
