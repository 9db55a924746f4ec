//! Encoding and decoding of manifests with the keys of this repository.

use super::{Base, current_epoch};
use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::snapshot::{ManifestKeys, ManifestSeal, Snapshot, manifest};

impl Base {
    /// The bytes of a manifest file.
    pub fn encode_manifest(&self, snapshot: &Snapshot) -> Result<Vec<u8>> {
        self.check_keys()?;
        let seal = match current_epoch(&self.seal) {
            None => ManifestSeal::Plain,
            Some((epoch, keys)) => ManifestSeal::Sealed {
                epoch,
                key: &keys.manifest,
                hedge: &keys.hedge,
            },
        };
        Ok(manifest::encode(snapshot, &seal, &self.config.id, self.entropy())?)
    }

    /// Decodes the bytes of a manifest file.
    pub fn decode_manifest(&self, id: &SnapshotId, bytes: &[u8]) -> Result<Snapshot> {
        self.check_keys()?;
        let decoded = match self.seal.keys() {
            None => manifest::decode(bytes, id, &ManifestKeys::Plain, &self.config.id),
            Some(keys) => {
                let of_epoch = |epoch| keys.epoch(epoch).map(|keys| &keys.manifest);
                manifest::decode(bytes, id, &ManifestKeys::Sealed(&of_epoch), &self.config.id)
            }
        };
        decoded.map_err(|error| match error {
            crate::snapshot::Error::UnsupportedVersion(version) => Error::UnsupportedFormat {
                what: format!("version {version} of snapshot {id}"),
            },
            other => Error::ManifestCorrupt {
                snapshot: *id,
                reason: other.to_string(),
            },
        })
    }
}
