//! One kill list: its bytes, reading and publishing it.

use crate::bytes::{ByteReader, TooShort};
use crate::id::{PackId, RepoId, SnapshotId, from_hex, to_hex};
use crate::layout;
use crate::lock::error::Error;
use crate::lock::proof::{ListSeal, MAC_LEN, Proof, finish, prove, stated_epoch};
use crate::storage::{self, Created, ErrorKind, Storage};
use sha2::{Digest, Sha256};

/// Longest kill list, in bytes: 16 million packs.
pub const MAX_KILL_LIST_LEN: u64 = 512 << 20;

pub(super) const MAGIC: [u8; 8] = *b"CAKILL01";
const LIST_VERSION: u32 = 2;
/// The first version, without epoch and MAC.
const VERSION_WITHOUT_MAC: u32 = 1;
const FLAG_HINT: u32 = 1;
/// Length of the header that both versions begin with, in bytes.
pub(super) const HEADER_LEN: usize = MAGIC.len() + 4 + 4 + RepoId::LEN + KillListId::LEN + 4 + 4;
/// Length of what version 2 adds to the header: the epoch, and zeros.
pub(super) const MORE_LEN: usize = 4 + 4;
pub(super) const CHECKSUM_LEN: usize = 32;
const SUFFIX: &str = ".kill";
/// Most bytes that are read at a time.
const PIECE_LEN: usize = 1 << 20;

/// Random id of a kill list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KillListId(pub [u8; Self::LEN]);

impl KillListId {
    /// Length in bytes.
    pub const LEN: usize = 16;

    /// The key of that list.
    pub fn key(&self) -> String {
        format!("{}/{}{SUFFIX}", layout::MARKS, to_hex(&self.0))
    }

    /// The id in a key such as `index/marks/<hex>.kill`; `None` for any other key.
    pub fn from_key(key: &str) -> Option<Self> {
        let name = key.strip_prefix(layout::MARKS)?.strip_prefix('/')?;
        from_hex(name.strip_suffix(SUFFIX)?).map(Self)
    }
}

/// A list that was read, and its proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundList {
    /// The list.
    pub list: KillList,
    /// Whether it is proven.
    pub proof: Proof,
}

impl FoundList {
    /// True when it condemns its packs: it is proven, and not a hint.
    pub fn condemns(&self) -> bool {
        self.proof == Proof::Valid && !self.list.hint
    }
}

/// Packs that a prune has condemned, or a hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KillList {
    /// Its id.
    pub id: KillListId,
    /// The repository.
    pub repo: RepoId,
    /// True for a hint: its packs are to be avoided, and not condemned.
    pub hint: bool,
    /// The packs, sorted, none twice.
    pub packs: Vec<PackId>,
    /// The sessions that were writing when the hint was made. Empty in a list that is not a hint.
    pub sessions: Vec<SnapshotId>,
}

impl KillList {
    /// Encodes the file. Fails with `Invalid` when the packs are not sorted and unique, when a list
    /// that is not a hint names sessions, when it is longer than [`MAX_KILL_LIST_LEN`], or when
    /// there is no key for its MAC.
    pub fn encode(&self, seal: &dyn ListSeal) -> Result<Vec<u8>, Error> {
        if !is_ascending(&self.packs) {
            return Err(Error::Invalid {
                reason: "the packs of a kill list are not sorted",
            });
        }
        if !self.hint && !self.sessions.is_empty() {
            return Err(Error::Invalid {
                reason: "a kill list that is not a hint names sessions",
            });
        }
        let too_long = || Error::Invalid {
            reason: "a kill list is longer than 512 MiB",
        };
        let packs = u32::try_from(self.packs.len()).map_err(|_| too_long())?;
        let sessions = u32::try_from(self.sessions.len()).map_err(|_| too_long())?;
        let len = file_len(LIST_VERSION, packs, sessions)
            .filter(|len| *len as u64 <= MAX_KILL_LIST_LEN)
            .ok_or_else(too_long)?;

        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&LIST_VERSION.to_le_bytes());
        out.extend_from_slice(&if self.hint { FLAG_HINT } else { 0 }.to_le_bytes());
        out.extend_from_slice(&self.repo.0);
        out.extend_from_slice(&self.id.0);
        out.extend_from_slice(&packs.to_le_bytes());
        out.extend_from_slice(&sessions.to_le_bytes());
        out.extend_from_slice(&stated_epoch(seal).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        self.packs.iter().for_each(|pack| out.extend_from_slice(&pack.0));
        self.sessions
            .iter()
            .for_each(|session| out.extend_from_slice(&session.0));
        finish(out, seal).ok_or(Error::Invalid {
            reason: "a kill list has no MAC without the keys",
        })
    }

    /// Decodes the list that is stored under the id `expected`. Fails with `Damaged` or
    /// `UnsupportedVersion`.
    pub fn decode(bytes: &[u8], expected: &KillListId, seal: &dyn ListSeal) -> Result<FoundList, Error> {
        let mut rest = bytes;
        parse(expected, bytes.len() as u64, seal, &mut |out| {
            // `parse` reads no more than there is
            let (now, later) = rest.split_at_checked(out.len()).unwrap_or_default();
            out.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
            rest = later;
            Ok(())
        })
    }

    /// Reads a list from the repository in pieces, so that of a forged list no more than the
    /// possible packs are held in memory. `None` when it does not exist.
    pub fn read(storage: &dyn Storage, id: &KillListId, seal: &dyn ListSeal) -> Result<Option<FoundList>, Error> {
        let key = id.key();
        let Some(len) = storage.size(&key)? else {
            return Ok(None);
        };
        let mut offset = 0;
        let read = parse(id, len, seal, &mut |out| {
            storage.get_range(&key, offset, out)?;
            offset += out.len() as u64;
            Ok(())
        });
        match read {
            Err(Error::Storage(error)) if error.kind == ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    /// Publishes the list. It is durable after the next barrier.
    pub fn publish(&self, storage: &dyn Storage, seal: &dyn ListSeal) -> Result<(), Error> {
        match storage::put_bytes(storage, &self.id.key(), &self.encode(seal)?)? {
            Created::Created => Ok(()),
            Created::Exists => Err(Error::Invalid {
                reason: "a kill list with this id exists already",
            }),
        }
    }
}

/// Decodes a list of `len` bytes from front to back; `fill` reads the next bytes.
fn parse(
    expected: &KillListId,
    len: u64,
    seal: &dyn ListSeal,
    fill: &mut dyn FnMut(&mut [u8]) -> Result<(), Error>,
) -> Result<FoundList, Error> {
    let damaged = |reason| Error::Damaged {
        key: expected.key(),
        reason,
    };
    if len > MAX_KILL_LIST_LEN {
        return Err(damaged("it is longer than 512 MiB"));
    }
    if len < (HEADER_LEN + CHECKSUM_LEN) as u64 {
        return Err(damaged("it is too short"));
    }
    let mut bytes = [0; HEADER_LEN];
    fill(&mut bytes)?;
    let too_short = |_: TooShort| damaged("it is too short");
    let header = Header::decode(&bytes).map_err(too_short)?;
    if header.magic != MAGIC {
        return Err(damaged("it does not begin as a kill list"));
    }
    let version = header.version;
    let has_mac = version == LIST_VERSION;
    let is_known = has_mac || version == VERSION_WITHOUT_MAC;
    let mut hash = Sha256::new();
    hash.update(bytes);
    let fills = file_len(version, header.packs, header.sessions).is_some_and(|said| said as u64 == len);
    let (mut packs, mut sessions) = (Vec::new(), Vec::new());
    let (mut more, mut mac, mut digest) = ([0; MORE_LEN], [0; MAC_LEN], [0; 32]);
    if is_known && fills {
        if has_mac {
            fill(&mut more)?;
            hash.update(more);
        }
        read_rows(header.packs, fill, &mut hash, &mut |pack| match packs.last() {
            Some(last) if *last >= PackId(pack) => Err(damaged("its packs are not sorted")),
            _ => {
                packs.push(PackId(pack));
                Ok(())
            }
        })?;
        read_rows(header.sessions, fill, &mut hash, &mut |session| {
            sessions.push(SnapshotId(session));
            Ok(())
        })?;
        if has_mac {
            digest = hash.clone().finalize().into();
            fill(&mut mac)?;
            hash.update(mac);
        }
    } else {
        // the fields are not known, only whether the checksum is right
        let body = len - (HEADER_LEN + CHECKSUM_LEN) as u64;
        let (rows, rest) = (body / 32, body % 32);
        read_rows::<32>(rows as u32, fill, &mut hash, &mut |_| Ok(()))?;
        read_rows::<1>(rest as u32, fill, &mut hash, &mut |_| Ok(()))?;
    }
    let mut checksum = [0; CHECKSUM_LEN];
    fill(&mut checksum)?;
    if hash.finalize().as_slice() != checksum {
        return Err(damaged("its checksum is wrong"));
    }
    if !is_known {
        return Err(Error::UnsupportedVersion {
            key: expected.key(),
            version,
        });
    }
    if !fills {
        return Err(damaged("its counts do not match its length"));
    }
    let mut more = ByteReader::new(&more);
    let (epoch, zeros) = (more.u32().map_err(too_short)?, more.rest());
    if let Some(reason) = contradiction(&header, (epoch, zeros, &mac), expected, seal) {
        return Err(damaged(reason));
    }
    let list = KillList {
        id: *expected,
        repo: header.repo,
        hint: header.flags & FLAG_HINT != 0,
        packs,
        sessions,
    };
    let proof = match seal.has_macs() {
        false => Proof::Valid,
        true if !has_mac => Proof::NoMac,
        true => prove(seal, epoch, &digest, &mac),
    };
    Ok(FoundList { list, proof })
}

/// The header of both versions.
struct Header {
    magic: [u8; 8],
    version: u32,
    flags: u32,
    repo: RepoId,
    id: KillListId,
    packs: u32,
    sessions: u32,
}

impl Header {
    fn decode(bytes: &[u8; HEADER_LEN]) -> Result<Self, TooShort> {
        let mut reader = ByteReader::new(bytes);
        Ok(Self {
            magic: reader.array()?,
            version: reader.u32()?,
            flags: reader.u32()?,
            repo: RepoId(reader.array()?),
            id: KillListId(reader.array()?),
            packs: reader.u32()?,
            sessions: reader.u32()?,
        })
    }
}

/// The rule that the fields of an intact list break, if any.
fn contradiction(
    header: &Header,
    (epoch, zeros, mac): (u32, &[u8], &[u8; MAC_LEN]),
    expected: &KillListId,
    seal: &dyn ListSeal,
) -> Option<&'static str> {
    let has_mac = epoch != 0 || *mac != [0; MAC_LEN];
    let is_hint = header.flags & FLAG_HINT != 0;
    let wrong = [
        (header.flags & !FLAG_HINT != 0, "it has unknown flags"),
        (header.id != *expected, "it is the list of another id"),
        (!is_hint && header.sessions != 0, "it names sessions and is not a hint"),
        (zeros != [0; 4], "it has bytes that must be zero and are not"),
        (
            !seal.has_macs() && has_mac,
            "it has a MAC, and the repository has no keys",
        ),
    ];
    wrong.iter().find(|(wrong, _)| *wrong).map(|(_, reason)| *reason)
}

/// Reads `count` rows of `N` bytes; each is added to the hash and passed to `each`.
fn read_rows<const N: usize>(
    count: u32,
    fill: &mut dyn FnMut(&mut [u8]) -> Result<(), Error>,
    hash: &mut Sha256,
    each: &mut dyn FnMut([u8; N]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut left = count as usize;
    let mut buffer = vec![[0u8; N]; left.min(PIECE_LEN / N)];
    while left > 0 {
        let now = left.min(buffer.len());
        let piece = buffer.get_mut(..now).unwrap_or_default();
        fill(piece.as_flattened_mut())?;
        hash.update(piece.as_flattened());
        piece.iter().try_for_each(|row| each(*row))?;
        left -= now;
    }
    Ok(())
}

/// Length in bytes of a file of that version with so many packs and sessions; `None` on overflow.
fn file_len(version: u32, packs: u32, sessions: u32) -> Option<usize> {
    let fixed = match version {
        VERSION_WITHOUT_MAC => HEADER_LEN + CHECKSUM_LEN,
        _ => HEADER_LEN + MORE_LEN + MAC_LEN + CHECKSUM_LEN,
    };
    let packs_len = (packs as usize).checked_mul(PackId::LEN)?;
    let sessions_len = (sessions as usize).checked_mul(SnapshotId::LEN)?;
    packs_len.checked_add(sessions_len)?.checked_add(fixed)
}

fn is_ascending(packs: &[PackId]) -> bool {
    packs.is_sorted_by(|a, b| a < b)
}
