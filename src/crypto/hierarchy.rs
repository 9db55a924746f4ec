//! The keys derived from a bundle for one open repository (format.md §4.2).

use super::{KeyBundle, SecretKey};
use crate::id::RepoId;
use zeroize::Zeroizing;

/// Length of the secret chunker table in bytes: 256 × u64.
pub const TABLE_LEN: usize = 2048;

/// Prefix of each label.
const DOMAIN: &[u8] = b"containerarchive/v1/";

/// The keys of one epoch, `K(label) = Expand(MK, "containerarchive/v1/" ‖ label ‖ 0x00 ‖ repo id,
/// 32)`.
pub struct EpochKeys {
    /// Derives the key of each stored chunk.
    pub chunk_key: SecretKey,
    /// Seals the trailers of packs.
    pub pack_trailer: SecretKey,
    /// Generates the padding of packs.
    pub pack_pad: SecretKey,
    /// Seals the pages of segments.
    pub index_segment: SecretKey,
    /// Seals manifests.
    pub manifest: SecretKey,
    /// Authenticates `config.json`.
    pub config_mac: SecretKey,
    /// Authenticates kill lists.
    pub kill_list: SecretKey,
    /// Mixes the plaintext into nonces and salts, so that a broken random generator cannot repeat
    /// one for another message. For writers only.
    pub hedge: SecretKey,
}

impl EpochKeys {
    fn derive(master: &SecretKey, repo: &RepoId) -> Self {
        let key = |label: &[u8]| master.derive(&[DOMAIN, label, &[0], &repo.0]);
        Self {
            chunk_key: key(b"chunk-key"),
            pack_trailer: key(b"pack-trailer"),
            pack_pad: key(b"pack-pad"),
            index_segment: key(b"index-segment"),
            manifest: key(b"manifest"),
            config_mac: key(b"config-mac"),
            kill_list: key(b"kill-list"),
            hedge: key(b"hedge"),
        }
    }
}

/// All keys of one open repository.
pub struct Keys {
    current: (u32, EpochKeys),
    older: Vec<(u32, EpochKeys)>,
    /// `K_id`: makes the ids of data chunks.
    pub chunk_id: SecretKey,
    /// `K_list`: makes the ids of list nodes.
    pub list_id: SecretKey,
    /// `K_copy`: makes the ids of copies of manifests and of `config.json`.
    pub copy_id: SecretKey,
    /// The secret gear table of the chunker.
    pub chunker: Zeroizing<[u8; TABLE_LEN]>,
}

impl Keys {
    /// Derives all keys of `bundle`.
    pub fn from_bundle(bundle: &KeyBundle) -> Self {
        let epoch = |(number, master): &(u32, SecretKey)| (*number, EpochKeys::derive(master, &bundle.repo));
        let id_key = |label: &[u8]| bundle.dedup.derive(&[DOMAIN, label]);
        Self {
            current: epoch(&bundle.current),
            older: bundle.older.iter().map(epoch).collect(),
            chunk_id: id_key(b"chunk-id"),
            list_id: id_key(b"list-id"),
            copy_id: id_key(b"copy-id"),
            chunker: bundle.dedup.expand::<TABLE_LEN>(&[DOMAIN, b"chunker"]),
        }
    }

    /// Returns the number and keys of the epoch that new data use.
    pub fn current(&self) -> (u32, &EpochKeys) {
        (self.current.0, &self.current.1)
    }

    /// Iterates over all epochs, the current one last.
    pub fn oldest_first(&self) -> impl Iterator<Item = (u32, &EpochKeys)> {
        self.older
            .iter()
            .chain([&self.current])
            .map(|(number, keys)| (*number, keys))
    }

    /// Iterates over all epochs, the current one first.
    pub fn newest_first(&self) -> impl Iterator<Item = (u32, &EpochKeys)> {
        std::iter::once(&self.current)
            .chain(self.older.iter().rev())
            .map(|(number, keys)| (*number, keys))
    }

    /// Returns the keys of epoch `number`, if the bundle has it.
    pub fn epoch(&self, number: u32) -> Option<&EpochKeys> {
        let mut all = std::iter::once(&self.current).chain(&self.older);
        all.find(|(known, _)| *known == number).map(|(_, keys)| keys)
    }
}

/// `K("hedge")` of the bundle's current epoch, for sealing the bundle itself.
pub(super) fn hedge_key(bundle: &KeyBundle) -> SecretKey {
    bundle.current.1.derive(&[DOMAIN, b"hedge", &[0], &bundle.repo.0])
}
