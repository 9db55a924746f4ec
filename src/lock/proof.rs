//! The proof that a file that decides about packs was written by a holder of the keys.

/// The MACs of kill lists and marks, as the repository computes them.
pub trait ListSeal {
    /// True for an encrypted repository: its lists have MACs.
    fn has_macs(&self) -> bool;

    /// The epoch whose key proves new lists; 0 in a plain repository.
    fn mac_epoch(&self) -> u32;

    /// The MAC of a list with this SHA-256, with the key of that epoch. `None` without that key.
    fn list_mac(&self, epoch: u32, digest: &[u8; 32]) -> Option<[u8; 32]>;
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
