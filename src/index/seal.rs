//! Tags and encryption of pages. Every page but the header is bound to its segment, section and
//! page number, so that pages cannot be swapped; in an encrypted repository also to the repository.

use zeroize::Zeroizing;

use super::error::Damage;
use super::format::{CONTENT_LEN, Header, Page, Section};
use crate::bytes::ByteWriter;
use crate::crypto::{self, NONCE_LEN, SecretKey, TAG_LEN};
use crate::id::{RepoId, SegmentId};

const PAGE_DOMAIN: &str = "containerarchive/segment-page/v1";
const AAD_MAGIC: &[u8; 4] = b"CAS1";
const AAD_LEN: usize = AAD_MAGIC.len() + RepoId::LEN + SegmentId::LEN;

/// `K("index-segment")` of one key epoch.
pub struct EpochKey {
    /// Key epoch, as in the bundle.
    pub epoch: u32,
    /// `K("index-segment")` of that epoch.
    pub key: SecretKey,
}

/// The protection of the segments of a repository.
pub enum SegmentSeal {
    /// Checksums only.
    Plain,
    /// AES-256-GCM.
    Sealed {
        /// All epochs whose segments can be read, newest last; new segments use the newest.
        epochs: Vec<EpochKey>,
        /// `K("hedge")` of the newest epoch.
        hedge: SecretKey,
    },
}

/// The repository of the segments and their protection; shared by all segments of a handle.
pub struct SegmentContext {
    /// The repository.
    pub repo: RepoId,
    /// Its protection.
    pub seal: SegmentSeal,
}

/// Seals and opens the pages of one segment.
pub(super) enum PageSeal {
    Plain {
        segment: SegmentId,
    },
    Sealed {
        key: Zeroizing<[u8; 32]>,
        aad: [u8; AAD_LEN],
    },
}

impl PageSeal {
    /// The seal of the segment with this header. Refuses a segment that is not protected as the
    /// repository is, so that a plain one cannot be planted in an encrypted repository.
    pub fn for_header(context: &SegmentContext, header: &Header) -> Result<Self, Damage> {
        if header.repo != context.repo {
            return Err(Damage::ForeignRepository);
        }
        match (&context.seal, header.sealed) {
            (SegmentSeal::Plain, false) => Ok(Self::Plain {
                segment: header.segment,
            }),
            (SegmentSeal::Sealed { epochs, .. }, true) => {
                let found = epochs.iter().find(|epoch| epoch.epoch == header.epoch);
                let EpochKey { key, .. } = found.ok_or(Damage::UnknownEpoch)?;
                // one key for each segment: HMAC(K("index-segment"), segment id ‖ salt)
                let key = Zeroizing::new(key.hmac(&[&header.segment.0, &header.salt]));
                let mut aad = [0; AAD_LEN];
                ByteWriter::new(&mut aad)
                    .bytes(AAD_MAGIC)
                    .bytes(&header.repo.0)
                    .bytes(&header.segment.0);
                Ok(Self::Sealed { key, aad })
            }
            _ => Err(Damage::SealMismatch),
        }
    }

    /// Writes the tag of a page whose content is written, and encrypts the content when sealed.
    /// `None` when the cipher fails (it does not for a page).
    pub fn seal(&self, section: Section, number: u64, page: &mut Page) -> Option<()> {
        let (content, tag) = page.split_at_mut(CONTENT_LEN);
        tag.copy_from_slice(&match self {
            Self::Plain { segment } => plain_tag(segment, section, number, content),
            Self::Sealed { key, aad } => crypto::seal_in_place(key, &nonce(section, number), aad, content).ok()?,
        });
        Some(())
    }

    /// Checks a page that was read as page `number`, and decrypts it in place when sealed. `None`
    /// when its tag is wrong for that page.
    pub fn open(&self, section: Section, number: u64, page: &mut Page) -> Option<()> {
        let (content, tag) = page.split_last_chunk_mut::<TAG_LEN>()?;
        match self {
            Self::Plain { segment } => (plain_tag(segment, section, number, content) == *tag).then_some(()),
            Self::Sealed { key, aad } => crypto::open_in_place(key, &nonce(section, number), aad, content, tag).ok(),
        }
    }
}

fn plain_tag(segment: &SegmentId, section: Section, number: u64, content: &[u8]) -> [u8; TAG_LEN] {
    let position = nonce(section, number);
    crypto::tag16(PAGE_DOMAIN, &[&segment.0, &position, content])
}

/// u32 section ‖ u64 page number: unique under the key of one segment.
fn nonce(section: Section, number: u64) -> [u8; NONCE_LEN] {
    let mut out = [0; NONCE_LEN];
    ByteWriter::new(&mut out).u32(section as u32).u64(number);
    out
}
