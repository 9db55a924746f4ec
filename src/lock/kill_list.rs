//! Kill lists: the packs that a prune has condemned, until every trace of them is gone (`docs/format.md` §11.1).
//!
//! A pack is condemned first and deleted after, and its list goes last. So whoever wants to rely on a pack loads the kill
//! lists **before** it looks whether the pack exists, both under the shared commit lock: a list that vanished in between
//! has no pack left to point at. A *hint* condemns nothing; it names packs that new snapshots had better not reuse, because a
//! later prune will sweep them once the sessions it names are gone.
//!
//! Deciding what to condemn, and finishing a list, is left to prune.

use std::collections::HashSet;

use super::Error;
use crate::crypto;
use crate::id::{PackId, RepoId, SnapshotId, from_hex, to_hex};
use crate::layout;
use crate::storage::{self, Created, ErrorKind, Storage};
use sha2::{Digest, Sha256};

/// Longest kill list, in bytes: 16 million packs.
pub const MAX_KILL_LIST_LEN: u64 = 512 << 20;

const MAGIC: [u8; 8] = *b"CAKILL01";
const LIST_VERSION: u32 = 1;
const FLAG_HINT: u32 = 1;
const HEADER_LEN: usize = 56;
const CHECKSUM_LEN: usize = 32;
const SUFFIX: &str = ".kill";
/// Bytes read at a time.
const PIECE_LEN: usize = 1 << 20;

/// Name of a kill list, random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KillListId(pub [u8; 16]);

impl KillListId {
    /// The file of that list.
    pub fn key(&self) -> String {
        format!("{}/{}{SUFFIX}", layout::MARKS, to_hex(&self.0))
    }

    /// The id in a key such as `index/marks/<hex>.kill`; `None` for any other name.
    pub fn from_key(key: &str) -> Option<Self> {
        let name = key.strip_prefix(layout::MARKS)?.strip_prefix('/')?;
        from_hex(name.strip_suffix(SUFFIX)?).map(Self)
    }
}

/// Packs that a prune has condemned, or hints at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KillList {
    /// Its name.
    pub id: KillListId,
    /// The repository it was made for.
    pub repo: RepoId,
    /// Packs to avoid, not condemned.
    pub hint: bool,
    /// The packs, sorted, none twice.
    pub packs: Vec<PackId>,
    /// The sessions that were writing when a hint was made. Empty when it is none.
    pub sessions: Vec<SnapshotId>,
}

impl KillList {
    /// The bytes of the file. Fails with `Invalid` when the packs are not sorted and unique, sessions stand in a list that is
    /// no hint, or it is too long.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        if !is_ascending(&self.packs) {
            return Err(Error::Invalid {
                reason: "the packs of a kill list are not sorted",
            });
        }
        if !self.hint && !self.sessions.is_empty() {
            return Err(Error::Invalid {
                reason: "only hints name sessions",
            });
        }
        let too_long = || Error::Invalid {
            reason: "a kill list is too long",
        };
        let packs = u32::try_from(self.packs.len()).map_err(|_| too_long())?;
        let sessions = u32::try_from(self.sessions.len()).map_err(|_| too_long())?;
        let len = file_len(packs, sessions)
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
        self.packs.iter().for_each(|pack| out.extend_from_slice(&pack.0));
        self.sessions
            .iter()
            .for_each(|session| out.extend_from_slice(&session.0));
        let checksum = crypto::sha256(&[&out]);
        out.extend_from_slice(&checksum);
        Ok(out)
    }

    /// Reads the list that lies under the name of `expected`. Fails with `Damaged` or `UnsupportedVersion`.
    pub fn decode(bytes: &[u8], expected: &KillListId) -> Result<Self, Error> {
        let mut rest = bytes;
        parse(expected, bytes.len() as u64, &mut |out| {
            // `parse` reads no more than there is
            let (now, later) = rest.split_at_checked(out.len()).unwrap_or_default();
            out.iter_mut().zip(now).for_each(|(to, from)| *to = *from);
            rest = later;
            Ok(())
        })
    }

    /// Reads a list from the repository, a piece at a time, so that no more of a forged one is held than what may be packs.
    /// `None` when there is none.
    pub fn read(storage: &dyn Storage, id: &KillListId) -> Result<Option<Self>, Error> {
        let key = id.key();
        let Some(len) = storage.size(&key)? else {
            return Ok(None);
        };
        let mut offset = 0;
        let read = parse(id, len, &mut |out| {
            storage.get_range(&key, offset, out)?;
            offset += out.len() as u64;
            Ok(())
        });
        match read {
            Err(Error::Storage(error)) if error.kind == ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        }
    }

    /// Puts the list into the repository. It is durable after the next barrier.
    pub fn publish(&self, storage: &dyn Storage) -> Result<(), Error> {
        match storage::put_bytes(storage, &self.id.key(), &self.encode()?)? {
            Created::Created => Ok(()),
            Created::Exists => Err(Error::Invalid {
                reason: "a kill list of that name is there already",
            }),
        }
    }
}

/// All kill lists of a repository at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KillLists {
    lists: Vec<KillList>,
    condemned: HashSet<PackId>,
    hinted: HashSet<PackId>,
}

impl KillLists {
    /// Reads all kill lists. Lists that go away meanwhile are left out: their packs are gone. One that cannot be read fails
    /// the whole call, with its key, since any pack could be in it; what to do then is the caller's choice. One that came
    /// from another repository counts too, and does no harm: pack ids are hashes of files that name their repository.
    pub fn load_all(storage: &dyn Storage) -> Result<Self, Error> {
        let mut all = Self::default();
        for entry in storage.list(layout::MARKS)? {
            let Some(id) = KillListId::from_key(&entry.key) else {
                continue;
            };
            let Some(list) = KillList::read(storage, &id)? else {
                continue;
            };
            let set = if list.hint { &mut all.hinted } else { &mut all.condemned };
            set.extend(list.packs.iter().copied());
            all.lists.push(list);
        }
        all.lists.sort_by_key(|list| list.id);
        Ok(all)
    }

    /// Whether a prune has condemned that pack: it must not be relied on.
    pub fn condemned(&self, pack: &PackId) -> bool {
        self.condemned.contains(pack)
    }

    /// Whether new snapshots should not reuse that pack: it is condemned, or a hint names it.
    pub fn avoid(&self, pack: &PackId) -> bool {
        self.condemned(pack) || self.hinted.contains(pack)
    }

    /// The lists, sorted by id.
    pub fn lists(&self) -> &[KillList] {
        &self.lists
    }
}

/// Reads a list of `len` bytes from front to back: `fill` gives the next bytes.
fn parse(
    expected: &KillListId,
    len: u64,
    fill: &mut dyn FnMut(&mut [u8]) -> Result<(), Error>,
) -> Result<KillList, Error> {
    let damaged = |reason| Error::Damaged {
        key: expected.key(),
        reason,
    };
    if len > MAX_KILL_LIST_LEN {
        return Err(damaged("it is too long"));
    }
    if len < (HEADER_LEN + CHECKSUM_LEN) as u64 {
        return Err(damaged("it is too short"));
    }
    let mut header = [0; HEADER_LEN];
    fill(&mut header)?;
    if header[0..8] != MAGIC {
        return Err(damaged("it does not begin as a kill list"));
    }
    let (packs_said, sessions_said) = (
        u32::from_le_bytes(field(&header, 48)),
        u32::from_le_bytes(field(&header, 52)),
    );
    let version = u32::from_le_bytes(field(&header, 8));
    let mut hash = Sha256::new();
    hash.update(header);
    let fills = file_len(packs_said, sessions_said).is_some_and(|said| said as u64 == len);
    let (mut packs, mut sessions) = (Vec::new(), Vec::new());
    if version == LIST_VERSION && fills {
        read_rows(packs_said, fill, &mut hash, &mut |pack| match packs.last() {
            Some(last) if *last >= PackId(pack) => Err(damaged("its packs are not sorted")),
            _ => {
                packs.push(PackId(pack));
                Ok(())
            }
        })?;
        read_rows(sessions_said, fill, &mut hash, &mut |session| {
            sessions.push(SnapshotId(session));
            Ok(())
        })?;
    } else {
        // what it holds is not known, only whether it is whole
        let body = len - (HEADER_LEN + CHECKSUM_LEN) as u64;
        let (rows, rest) = (body / 32, body % 32);
        read_rows::<32>(rows as u32, fill, &mut hash, &mut |_| Ok(()))?;
        read_rows::<1>(rest as u32, fill, &mut hash, &mut |_| Ok(()))?;
    }
    let mut checksum = [0; CHECKSUM_LEN];
    fill(&mut checksum)?;
    if hash.finalize().as_slice() != checksum {
        return Err(damaged("its checksum does not hold"));
    }
    if version != LIST_VERSION {
        return Err(Error::UnsupportedVersion {
            key: expected.key(),
            version,
        });
    }
    let flags = u32::from_le_bytes(field(&header, 12));
    let hint = flags & FLAG_HINT != 0;
    let wrong = [
        (!fills, "its counts do not fill it"),
        (flags & !FLAG_HINT != 0, "it has unknown flags"),
        (
            field(&header, 32) != expected.0,
            "it is another list than its name says",
        ),
        (!hint && sessions_said != 0, "it names sessions and is no hint"),
    ];
    if let Some((_, reason)) = wrong.iter().find(|(wrong, _)| *wrong) {
        return Err(damaged(reason));
    }
    Ok(KillList {
        id: *expected,
        repo: RepoId(field(&header, 16)),
        hint,
        packs,
        sessions,
    })
}

/// Reads `count` rows of `N` bytes, each of which goes into the hash and to `each`.
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

/// Length of a file with so many packs and sessions; `None` on overflow.
fn file_len(packs: u32, sessions: u32) -> Option<usize> {
    let packs_len = (packs as usize).checked_mul(PackId::LEN)?;
    let sessions_len = (sessions as usize).checked_mul(SnapshotId::LEN)?;
    packs_len
        .checked_add(sessions_len)?
        .checked_add(HEADER_LEN + CHECKSUM_LEN)
}

fn is_ascending(packs: &[PackId]) -> bool {
    packs.is_sorted_by(|a, b| a < b)
}

/// `N` bytes of the header.
fn field<const N: usize>(header: &[u8; HEADER_LEN], offset: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&header[offset..offset + N]);
    out
}

#[cfg(test)]
mod tests {
    use super::super::tests::new_storage;
    use super::*;
    use crate::storage::put_bytes;
    use proptest::prelude::*;

    const REPO: RepoId = RepoId([0x11; 16]);

    fn list(id: u8, hint: bool, packs: &[u8]) -> KillList {
        let sessions = if hint {
            vec![SnapshotId([0x5e; 16]); 2]
        } else {
            Vec::new()
        };
        KillList {
            id: KillListId([id; 16]),
            repo: REPO,
            hint,
            packs: packs.iter().map(|p| PackId([*p; 32])).collect(),
            sessions,
        }
    }

    /// Makes the checksum right again, so that the checks behind it are reached.
    fn reseal(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.truncate(bytes.len() - CHECKSUM_LEN);
        let checksum = crypto::sha256(&[&bytes]);
        bytes.extend_from_slice(&checksum);
        bytes
    }

    #[test]
    fn a_kill_list_has_its_golden_bytes() {
        let bytes = list(0x22, true, &[0x33]).encode().unwrap();
        let golden = [
            "43414b494c4c3031".to_string(),
            "0100000001000000".into(),
            "11".repeat(16),
            "22".repeat(16),
            "0100000002000000".into(),
            "33".repeat(32),
            "5e".repeat(32),
        ];
        assert_eq!(to_hex(&bytes[..bytes.len() - 32]), golden.concat());
        assert_eq!(bytes[bytes.len() - 32..], crypto::sha256(&[&bytes[..bytes.len() - 32]]));
    }

    #[test]
    fn refuses_a_kill_list_with_any_byte_flipped_or_missing() {
        for hint in [false, true] {
            let list = list(1, hint, &[3, 4, 9]);
            let bytes = list.encode().unwrap();
            assert_eq!(KillList::decode(&bytes, &list.id).unwrap(), list);
            for at in 0..bytes.len() {
                for flip in [1, 0x20, 0x80] {
                    let mut flipped = bytes.clone();
                    flipped[at] ^= flip;
                    assert!(KillList::decode(&flipped, &list.id).is_err(), "byte {at}");
                }
                assert!(KillList::decode(&bytes[..at], &list.id).is_err(), "cut at {at}");
            }
        }
    }

    #[test]
    fn refuses_wrong_fields_under_a_right_checksum() {
        let good = list(1, false, &[3, 4]);
        let bytes = good.encode().unwrap();
        for (at, value) in [(12, 2), (32, 0), (48, 1), (48, 3), (51, 0xff), (52, 1), (56, 5)] {
            let mut wrong = bytes.clone();
            wrong[at] = value;
            let refused = KillList::decode(&reseal(wrong), &good.id);
            assert!(matches!(refused, Err(Error::Damaged { .. })), "byte {at}");
        }
        let mut later = bytes;
        later[8] = 2;
        let refused = KillList::decode(&reseal(later), &good.id);
        assert!(matches!(refused, Err(Error::UnsupportedVersion { version: 2, .. })));
    }

    #[test]
    fn does_not_write_what_it_would_not_read() {
        assert!(list(1, false, &[4, 3]).encode().is_err());
        assert!(list(1, false, &[3, 3]).encode().is_err());
        let with_sessions = KillList {
            sessions: vec![SnapshotId([0; 16])],
            ..list(1, false, &[3])
        };
        assert!(with_sessions.encode().is_err());
    }

    #[test]
    fn hints_are_avoided_and_only_kill_lists_condemn() {
        let storage = new_storage();
        list(1, false, &[10, 11]).publish(&storage).unwrap();
        list(2, true, &[20]).publish(&storage).unwrap();
        list(3, false, &[]).publish(&storage).unwrap();
        put_bytes(&storage, "index/marks/notes.kill", b"not ours").unwrap();
        let all = KillLists::load_all(&storage).unwrap();
        let (condemned, hinted, free) = (PackId([11; 32]), PackId([20; 32]), PackId([30; 32]));
        assert!(all.condemned(&condemned) && all.avoid(&condemned));
        assert!(!all.condemned(&hinted) && all.avoid(&hinted));
        assert!(!all.condemned(&free) && !all.avoid(&free));
        assert_eq!(all.lists().len(), 3);
        assert!(list(1, false, &[12]).publish(&storage).is_err());
    }

    #[test]
    fn a_damaged_kill_list_is_reported_with_its_key() {
        let storage = new_storage();
        list(1, false, &[10]).publish(&storage).unwrap();
        let key = KillListId([2; 16]).key();
        put_bytes(&storage, &key, b"CAKILL01").unwrap();
        match KillLists::load_all(&storage) {
            Err(Error::Damaged { key: named, .. }) => assert_eq!(named, key),
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), fix in any::<bool>()) {
            if fix && bytes.len() >= 88 {
                bytes[..8].copy_from_slice(&MAGIC);
                bytes[8..16].copy_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0]);
                bytes[16..32].copy_from_slice(&REPO.0);
                bytes[32..48].copy_from_slice(&[1; 16]);
                bytes = reseal(bytes);
            }
            let _ = KillList::decode(&bytes, &KillListId([1; 16]));
        }
    }
}
