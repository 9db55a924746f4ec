//! Checks whether the manifest of a snapshot will fit, before anything is read: the names of its
//! items take most of it.

use crate::error::{Error, Result};
use crate::repo::Repository;
use crate::snapshot::{MAX_ENTRY_LEN, MAX_FRAME_LEN, MAX_MANIFEST_LEN, MAX_SEALED_TEXT_LEN};

/// The properties of a snapshot that are known before its items are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outline {
    /// Number of items.
    pub items: u64,
    /// Bytes of their names and types and of the tags, encoded as JSON strings.
    pub text_len: u64,
}

impl Outline {
    /// Fails with `InvalidArgument` when the manifest could become longer than the format allows. A
    /// manifest that passes fits, whatever the items contain.
    pub fn check(&self, repo: &Repository) -> Result<()> {
        self.check_for(repo.config().encrypted)
    }

    fn check_for(self, sealed: bool) -> Result<()> {
        let limit = if sealed { MAX_SEALED_TEXT_LEN } else { MAX_MANIFEST_LEN };
        let entries = self.items.saturating_mul(MAX_ENTRY_LEN);
        let needed = self.text_len.saturating_add(entries).saturating_add(MAX_FRAME_LEN);
        if needed <= limit {
            return Ok(());
        }
        let Self { items, text_len } = self;
        Err(Error::InvalidArgument {
            reason: format!(
                "The manifest of {items} items, whose names, types and tags take {text_len} bytes, may need {needed} bytes, \
                 and the limit is {limit}: use shorter names, or several snapshots"
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SecretKey;
    use crate::entropy::SeededEntropy;
    use crate::id::{ChunkId, RepoId, SnapshotId};
    use crate::snapshot::manifest::{ManifestSeal, encode};
    use crate::snapshot::{
        EXTRAS_PER_MANIFEST, Extra, INLINE_PER_MANIFEST, ItemContent, MAX_RAW_LEN, Snapshot, SnapshotItem, VERSION,
    };
    use std::collections::BTreeMap;

    /// The longest possible snapshot with this number of items and names of 4000 bytes.
    fn longest(items: u64) -> (Outline, Snapshot) {
        let inline = vec![(ChunkId([0xff; 32]), MAX_RAW_LEN); INLINE_PER_MANIFEST];
        let inline_size = inline.len() as u64 * u64::from(MAX_RAW_LEN);
        let item = |number: u64| {
            let (size, chunk_count, content) = match number {
                0 => (inline_size, inline.len() as u64, ItemContent::Inline(inline.clone())),
                _ => {
                    let root = ChunkId([0xff; 32]);
                    (1 << 35, 1 << 20, ItemContent::List { root, level: 7 })
                }
            };
            SnapshotItem {
                name: format!("{number:04000}"),
                kind: "stream".to_owned(),
                size,
                chunk_count,
                content,
                sha256: Some([0xff; 32]),
                extra: match number < EXTRAS_PER_MANIFEST as u64 {
                    true => vec![Extra {
                        kind: "tar-members".to_owned(),
                        root: ChunkId([0xff; 32]),
                        level: 7,
                        size: 1 << 53,
                        chunk_count: u64::from(u32::MAX),
                    }],
                    false => Vec::new(),
                },
            }
        };
        let items: Vec<_> = (0..items).map(item).collect();
        let tags = BTreeMap::from([("a".to_owned(), "\u{1}".to_owned())]);
        let chunk_count = items.iter().map(|item| item.chunk_count).sum();
        let snapshot = Snapshot {
            id: SnapshotId([0xff; 16]),
            version: VERSION,
            created_at_ms: 0,
            sequence: 1 << 53,
            tags,
            original_size: items.iter().map(|item| item.size).sum(),
            stored_size: 1 << 53,
            chunk_count,
            new_chunks: chunk_count,
            reused_chunks: 0,
            writer_version: "0.1.0".to_owned(),
            copied_from: None,
            items,
        };
        let outline = Outline {
            items: snapshot.items.len() as u64,
            text_len: snapshot.items.len() as u64 * (4002 + 8) + "\"a\"".len() as u64 + "\"\\u0001\"".len() as u64,
        };
        (outline, snapshot)
    }

    #[test]
    fn a_snapshot_whose_outline_passes_fits_and_one_that_cannot_fit_does_not_pass() {
        let key = SecretKey::new([1; 32]);
        let entropy = SeededEntropy::new(1);
        for (sealed, limit) in [(false, MAX_MANIFEST_LEN), (true, MAX_SEALED_TEXT_LEN)] {
            let most = (limit - MAX_FRAME_LEN) / (4010 + MAX_ENTRY_LEN);
            for (items, passes) in [(most - 1, true), (most + 1, false), (limit / 4100, false)] {
                let (outline, snapshot) = longest(items);
                assert_eq!(
                    outline.check_for(sealed).is_ok(),
                    passes,
                    "{items} items, sealed: {sealed}"
                );
                let seal = match sealed {
                    false => ManifestSeal::Plain,
                    true => ManifestSeal::Sealed {
                        epoch: 1,
                        key: &key,
                        hedge: &key,
                    },
                };
                let fits = encode(&snapshot, &seal, &RepoId([1; 16]), &entropy).is_ok();
                assert!(fits || !passes, "{items} items, sealed: {sealed}");
            }
        }
    }

    #[test]
    fn a_refused_outline_names_both_numbers_and_what_to_do() {
        let outline = Outline {
            items: 18_000,
            text_len: 18_000 * 4100,
        };
        let error = outline.check_for(false).unwrap_err();
        assert_eq!(error.code(), "ERR_INVALID_ARGUMENT");
        let text = error.to_string();
        for part in [
            "18000 items",
            "73800000 bytes",
            "the limit is 67108864",
            "shorter names",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let most = Outline {
            items: u64::MAX,
            text_len: u64::MAX,
        };
        assert!(most.check_for(true).is_err());
    }
}
