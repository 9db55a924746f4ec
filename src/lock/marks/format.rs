//! The bytes of a mark and of the files that belong to it.

use crate::bytes::{ByteReader, TooShort};
use crate::crypto;
use crate::id::{PackId, RepoId, SnapshotId, from_hex, to_hex};
use crate::layout;
use crate::lock::error::Error;
use crate::lock::proof::{ListSeal, MAC_LEN, Proof, finish, prove, stated_epoch};
use crate::storage::{Created, Storage, put_bytes};

/// Longest file, in bytes.
pub(super) const MAX_MARK_LEN: u64 = 64 << 20;
/// Most packs that a prune puts into one mark: 32 MiB.
pub const MARK_PACKS: usize = 1 << 20;

const VERSION: u32 = 1;
const CHECKSUM_LEN: usize = 32;
/// Bytes after the rows.
const TAIL_LEN: usize = MAC_LEN + CHECKSUM_LEN;

/// Id of a mark, in its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MarkId {
    /// 0 for the mark of a prune; a merged mark has a level above those that it replaces, and so
    /// comes after them in a listing.
    pub level: u8,
    /// Random.
    pub id: [u8; 16],
}

/// The files of a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MarkPart {
    /// The condemned packs.
    Mark,
    /// The sessions that block the mark.
    Wait,
    /// Those of its packs that were deleted, or are about to be.
    Swept,
}

impl MarkPart {
    const ALL: [Self; 3] = [Self::Mark, Self::Wait, Self::Swept];

    fn magic(self) -> [u8; 8] {
        match self {
            Self::Mark => *b"CAMARK01",
            Self::Wait => *b"CAWAIT01",
            Self::Swept => *b"CASWPT01",
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Mark => ".mark",
            Self::Wait => ".wait",
            Self::Swept => ".swept",
        }
    }
}

impl MarkId {
    /// The key of a file of this mark.
    pub fn key(&self, part: MarkPart) -> String {
        format!(
            "{}/{:02x}-{}{}",
            layout::MARKS,
            self.level,
            to_hex(&self.id),
            part.suffix()
        )
    }

    /// The mark and the part in a key such as `index/marks/00-<hex>.mark`; `None` for any other
    /// key.
    pub fn from_key(key: &str) -> Option<(Self, MarkPart)> {
        let name = key.strip_prefix(layout::MARKS)?.strip_prefix('/')?;
        let find = |part: MarkPart| Some((name.strip_suffix(part.suffix())?, part));
        let (stem, part) = MarkPart::ALL.into_iter().find_map(find)?;
        let (level, id) = stem.split_once('-')?;
        let [level] = from_hex::<1>(level)?;
        Some((
            Self {
                level,
                id: from_hex(id)?,
            },
            part,
        ))
    }
}

/// A file of a mark: the packs that it names, or the sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The mark.
    pub id: MarkId,
    /// Which of its files.
    pub part: MarkPart,
    /// The repository.
    pub repo: RepoId,
    /// Packs, sorted, none twice. None in a `.wait`.
    pub packs: Vec<PackId>,
    /// Sessions, sorted, none twice. Only in a `.wait`.
    pub sessions: Vec<SnapshotId>,
}

impl Mark {
    /// Encodes the file. Fails with `Invalid` when its rows are not sorted, of the wrong kind or
    /// too many, or when there is no key for its MAC.
    pub fn encode(&self, seal: &dyn ListSeal) -> Result<Vec<u8>, Error> {
        let invalid = |reason| Error::Invalid { reason };
        if let Some(reason) = self.contradiction() {
            return Err(invalid(reason));
        }
        let count = |len: usize| u32::try_from(len).map_err(|_| invalid("a mark has too many rows"));
        let mut out = self.part.magic().to_vec();
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&u32::from(self.id.level).to_le_bytes());
        out.extend_from_slice(&self.repo.0);
        out.extend_from_slice(&self.id.id);
        out.extend_from_slice(&count(self.packs.len())?.to_le_bytes());
        out.extend_from_slice(&count(self.sessions.len())?.to_le_bytes());
        out.extend_from_slice(&stated_epoch(seal).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        self.packs.iter().for_each(|pack| out.extend_from_slice(&pack.0));
        self.sessions
            .iter()
            .for_each(|session| out.extend_from_slice(&session.0));
        let out = finish(out, seal).ok_or(invalid("a mark has no MAC without the keys"))?;
        match out.len() as u64 <= MAX_MARK_LEN {
            true => Ok(out),
            false => Err(invalid("a mark is longer than 64 MiB")),
        }
    }

    /// Decodes the file that is stored under the key of `id` and `part`. Fails with `Damaged` or
    /// `UnsupportedVersion`.
    pub fn decode(bytes: &[u8], (id, part): (MarkId, MarkPart), seal: &dyn ListSeal) -> Result<(Self, Proof), Error> {
        let damaged = |reason| Error::Damaged {
            key: id.key(part),
            reason,
        };
        let too_short = |_: TooShort| damaged("it is too short");
        let checked = bytes
            .len()
            .checked_sub(CHECKSUM_LEN)
            .and_then(|at| bytes.split_at_checked(at));
        let (body, checksum) = checked.ok_or_else(|| damaged("it is too short"))?;
        if body.get(..8) != Some(&part.magic()) {
            return Err(damaged("it does not begin as its name says"));
        }
        if crypto::sha256(&[body]) != checksum {
            return Err(damaged("its checksum is wrong"));
        }
        let mut reader = ByteReader::new(body);
        let _: [u8; 8] = reader.array().map_err(too_short)?;
        let version = reader.u32().map_err(too_short)?;
        if version != VERSION {
            let key = id.key(part);
            return Err(Error::UnsupportedVersion { key, version });
        }
        let level = reader.u32().map_err(too_short)?;
        let repo = RepoId(reader.array().map_err(too_short)?);
        let stated: [u8; 16] = reader.array().map_err(too_short)?;
        let (packs, sessions) = (reader.u32().map_err(too_short)?, reader.u32().map_err(too_short)?);
        let epoch = reader.u32().map_err(too_short)?;
        let zero = reader.u32().map_err(too_short)?;
        let rows = u64::from(packs) * 32 + u64::from(sessions) * 16;
        if reader.rest().len() as u64 != rows + MAC_LEN as u64 {
            return Err(damaged("its counts do not match its length"));
        }
        if (level, stated, zero) != (u32::from(id.level), id.id, 0) {
            return Err(damaged("it is that of another mark, or has bytes that must be zero"));
        }
        let packs = (0..packs).map(|_| reader.array().map(PackId));
        let packs: Result<Vec<PackId>, TooShort> = packs.collect();
        let mark = Self {
            id,
            part,
            repo,
            packs: packs.map_err(too_short)?,
            sessions: (0..sessions)
                .map(|_| reader.array().map(SnapshotId))
                .collect::<Result<_, _>>()
                .map_err(too_short)?,
        };
        if let Some(reason) = mark.contradiction() {
            return Err(damaged(reason));
        }
        let mac: [u8; MAC_LEN] = reader.array().map_err(too_short)?;
        let said = bytes.get(..bytes.len().saturating_sub(TAIL_LEN)).unwrap_or_default();
        let proof = match seal.has_macs() {
            false if epoch != 0 || mac != [0; MAC_LEN] => {
                return Err(damaged("it has a MAC, and the repository has no keys"));
            }
            false => Proof::Valid,
            true => prove(seal, epoch, &crypto::sha256(&[said]), &mac),
        };
        Ok((mark, proof))
    }

    /// The rule that its rows break, if any.
    fn contradiction(&self) -> Option<&'static str> {
        let wrong = [
            (!self.packs.is_sorted_by(|a, b| a < b), "its packs are not sorted"),
            (!self.sessions.is_sorted_by(|a, b| a < b), "its sessions are not sorted"),
            (
                self.part == MarkPart::Wait && !self.packs.is_empty(),
                "it waits, and names packs",
            ),
            (
                self.part != MarkPart::Wait && !self.sessions.is_empty(),
                "it names packs, and sessions",
            ),
        ];
        wrong.iter().find(|(wrong, _)| *wrong).map(|(_, reason)| *reason)
    }

    /// Puts the file. `Exists`: another process has put this part of the mark, maybe with other
    /// rows.
    pub fn put(&self, storage: &dyn Storage, seal: &dyn ListSeal) -> Result<Created, Error> {
        Ok(put_bytes(storage, &self.id.key(self.part), &self.encode(seal)?)?)
    }
}
