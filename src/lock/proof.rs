//! The proof that a file that decides about packs was written by a holder of the keys.

use crate::crypto;
use subtle::ConstantTimeEq;

/// Length of a MAC, in bytes.
pub(super) const MAC_LEN: usize = 32;

/// The MACs of kill lists and marks, as the repository computes them.
pub trait ListSeal {
    /// True for an encrypted repository: its lists have MACs.
    fn has_macs(&self) -> bool;

    /// The epoch whose key proves new lists; 0 in a plain repository.
    fn mac_epoch(&self) -> u32;

    /// The MAC of a list with this SHA-256, with the key of that epoch. `None` without that key.
    fn list_mac(&self, epoch: u32, digest: &[u8; 32]) -> Option<[u8; MAC_LEN]>;
}

/// Whether a list or mark was written by a holder of the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// The MAC is right, or the repository is not encrypted.
    Valid,
    /// A kill list of version 1, in an encrypted repository.
    NoMac,
    /// The MAC is wrong, or of an unknown epoch.
    Wrong,
    /// The repository was opened without its keys.
    Unknown,
}

/// The epoch that a new file states: that of its MAC, or 0.
pub(super) fn stated_epoch(seal: &dyn ListSeal) -> u32 {
    if seal.has_macs() { seal.mac_epoch() } else { 0 }
}

/// Ends a file: appends the MAC of its bytes, zeros in a plain repository, and the checksum of all.
/// `None` without the key of the MAC.
pub(super) fn finish(mut out: Vec<u8>, seal: &dyn ListSeal) -> Option<Vec<u8>> {
    let mac = match seal.has_macs() {
        true => seal.list_mac(stated_epoch(seal), &crypto::sha256(&[&out]))?,
        false => [0; MAC_LEN],
    };
    out.extend_from_slice(&mac);
    let checksum = crypto::sha256(&[&out]);
    out.extend_from_slice(&checksum);
    Some(out)
}

/// Checks the MAC of a file of an encrypted repository, in constant time.
pub(super) fn prove(seal: &dyn ListSeal, epoch: u32, digest: &[u8; 32], mac: &[u8; MAC_LEN]) -> Proof {
    if seal.mac_epoch() == 0 {
        return Proof::Unknown;
    }
    match seal.list_mac(epoch, digest) {
        Some(right) if bool::from(right.ct_eq(mac)) => Proof::Valid,
        _ => Proof::Wrong,
    }
}

/// Keys of tests.
#[cfg(test)]
pub(super) mod keys {
    use super::ListSeal;
    use crate::crypto;

    /// A repository without keys, with the key of epoch 7, or encrypted and opened without one.
    pub enum Keys {
        Plain,
        Sealed(u8),
        Keyless,
    }

    impl ListSeal for Keys {
        fn has_macs(&self) -> bool {
            !matches!(self, Self::Plain)
        }

        fn mac_epoch(&self) -> u32 {
            if matches!(self, Self::Sealed(_)) { 7 } else { 0 }
        }

        fn list_mac(&self, epoch: u32, digest: &[u8; 32]) -> Option<[u8; 32]> {
            match self {
                Self::Sealed(key) if epoch == 7 => Some(crypto::SecretKey::new([*key; 32]).hmac(&[digest])),
                _ => None,
            }
        }
    }

    pub const PLAIN: Keys = Keys::Plain;
    pub const SEALED: Keys = Keys::Sealed(1);
}
