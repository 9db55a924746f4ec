//! Kill lists: the packs that a prune has condemned, until every trace of them is gone (`docs/format.md` §11.1).
//!
//! A pack is condemned first and deleted after, and its list goes last. So a writer that wants to
//! rely on a pack loads the kill lists **before** it checks whether the pack exists, both under the
//! shared commit lock: a list that vanished in between has no pack left to point at. A *hint*
//! condemns nothing; it names packs that new snapshots should not reuse, because a later prune will
//! sweep them once the sessions it names have ended.
//!
//! In an encrypted repository a list is *proven* by a MAC. One without a valid MAC condemns
//! nothing: a file that anyone could have put there must not decide what is deleted. Writers avoid
//! its packs all the same, since an older version, whose lists have no MAC, may be deleting them.
//!
//! Deciding what to condemn, which of the packs in a list that was found are still needed, and
//! finishing it, is left to prune.

use std::collections::HashSet;

use super::Error;
use crate::bytes::{ByteReader, TooShort};
use crate::crypto;
use crate::id::{PackId, RepoId, SnapshotId, from_hex, to_hex};
use crate::layout;
use crate::storage::{self, Created, ErrorKind, Storage};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Longest kill list, in bytes: 16 million packs.
pub const MAX_KILL_LIST_LEN: u64 = 512 << 20;

const MAGIC: [u8; 8] = *b"CAKILL01";
const LIST_VERSION: u32 = 2;
/// The first version: without epoch and MAC.
const VERSION_WITHOUT_MAC: u32 = 1;
const FLAG_HINT: u32 = 1;
/// Length of what both versions begin with.
const HEADER_LEN: usize = MAGIC.len() + 4 + 4 + RepoId::LEN + KillListId::LEN + 4 + 4;
/// What version 2 adds to it: the epoch, and zeros.
const MORE_LEN: usize = 4 + 4;
const MAC_LEN: usize = 32;
const CHECKSUM_LEN: usize = 32;
const SUFFIX: &str = ".kill";
/// Bytes read at a time.
const PIECE_LEN: usize = 1 << 20;

/// Name of a kill list, random.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KillListId(pub [u8; Self::LEN]);

impl KillListId {
    /// Length in bytes.
    pub const LEN: usize = 16;

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

/// The key that proves lists, as the repository has it.
pub trait ListSeal {
    /// True for an encrypted repository: its lists have MACs.
    fn has_macs(&self) -> bool;

    /// The epoch whose key proves new lists; 0 in a plain repository.
    fn mac_epoch(&self) -> u32;

    /// The MAC of what a list says, by its SHA-256, with the key of that epoch. `None` without that
    /// key.
    fn list_mac(&self, epoch: u32, digest: &[u8; 32]) -> Option<[u8; 32]>;
}

/// Whether a list was written by a holder of the keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// Its MAC is right, or the repository is not encrypted.
    Valid,
    /// It is of version 1, in an encrypted repository.
    NoMac,
    /// Its MAC is wrong, or of an epoch that is not known.
    Wrong,
    /// The repository was opened without its keys.
    Unknown,
}

/// A list that was read, and whether it is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundList {
    /// What it says.
    pub list: KillList,
    /// Who may have said it.
    pub proof: Proof,
}

impl FoundList {
    /// True when it condemns its packs: it is proven, and no hint.
    pub fn condemns(&self) -> bool {
        self.proof == Proof::Valid && !self.list.hint
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
    /// The bytes of the file. Fails with `Invalid` when the packs are not sorted and unique,
    /// sessions are in a list that is no hint, it is too long, or the key that proves it is not
    /// there.
    pub fn encode(&self, seal: &dyn ListSeal) -> Result<Vec<u8>, Error> {
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
        let epoch = if seal.has_macs() { seal.mac_epoch() } else { 0 };
        out.extend_from_slice(&epoch.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        self.packs.iter().for_each(|pack| out.extend_from_slice(&pack.0));
        self.sessions
            .iter()
            .for_each(|session| out.extend_from_slice(&session.0));
        let mac = match seal.has_macs() {
            true => seal.list_mac(epoch, &crypto::sha256(&[&out])).ok_or(Error::Invalid {
                reason: "a kill list cannot be proven without the keys",
            })?,
            false => [0; MAC_LEN],
        };
        out.extend_from_slice(&mac);
        let checksum = crypto::sha256(&[&out]);
        out.extend_from_slice(&checksum);
        Ok(out)
    }

    /// Reads the list that is stored under the name of `expected`. Fails with `Damaged` or
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

    /// Reads a list from the repository, a piece at a time, so that no more of a forged one is held than what may be packs.
    /// `None` when there is none.
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

    /// Puts the list into the repository. It is durable after the next barrier.
    pub fn publish(&self, storage: &dyn Storage, seal: &dyn ListSeal) -> Result<(), Error> {
        match storage::put_bytes(storage, &self.id.key(), &self.encode(seal)?)? {
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
    lists: Vec<FoundList>,
    condemned: HashSet<PackId>,
    unproven: HashSet<PackId>,
    hinted: HashSet<PackId>,
    spared: HashSet<PackId>,
}

impl KillLists {
    /// Reads all kill lists of the repository `repo`. Lists that are removed concurrently are left
    /// out: their packs are gone, or have been found to be needed. One that cannot be read fails
    /// the whole call, with its key, since any pack could be in it; what to do then is the caller's
    /// choice. A list of another repository says nothing about this one.
    pub fn load_all(storage: &dyn Storage, repo: &RepoId, seal: &dyn ListSeal) -> Result<Self, Error> {
        let mut all = Self::default();
        for entry in storage.list(layout::MARKS)? {
            let Some(id) = KillListId::from_key(&entry.key) else {
                continue;
            };
            let Some(found) = KillList::read(storage, &id, seal)? else {
                continue;
            };
            if found.list.repo != *repo {
                continue;
            }
            let set = match (found.list.hint, found.proof) {
                (true, _) => &mut all.hinted,
                (false, Proof::Valid) => &mut all.condemned,
                (false, _) => &mut all.unproven,
            };
            set.extend(found.list.packs.iter().copied());
            all.lists.push(found);
        }
        all.lists.sort_by_key(|found| found.list.id);
        Ok(all)
    }

    /// Whether a prune has condemned that pack, and it was not [spared](Self::spare): it is as good
    /// as gone.
    pub fn condemned(&self, pack: &PackId) -> bool {
        self.condemned.contains(pack) && !self.spared.contains(pack)
    }

    /// Whether a list that is no hint names that pack, proven or not, spared or not: no snapshot
    /// may rely on it.
    pub fn is_listed(&self, pack: &PackId) -> bool {
        self.condemned.contains(pack) || self.unproven.contains(pack)
    }

    /// The packs for which [`is_listed`](Self::is_listed) holds, some of them twice.
    pub fn listed(&self) -> impl Iterator<Item = &PackId> {
        self.condemned.iter().chain(&self.unproven)
    }

    /// Whether new snapshots should not reuse that pack: a list names it, or a hint.
    pub fn avoid(&self, pack: &PackId) -> bool {
        self.is_listed(pack) || self.hinted.contains(pack)
    }

    /// Takes packs out of those that are condemned: a snapshot needs them. Writers avoid them as
    /// long as their list exists.
    pub fn spare(&mut self, packs: HashSet<PackId>) {
        self.spared.extend(packs);
    }

    /// The lists, sorted by id.
    pub fn lists(&self) -> &[FoundList] {
        &self.lists
    }
}

/// Reads a list of `len` bytes from front to back: `fill` gives the next bytes.
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
        return Err(damaged("it is too long"));
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
        // what it says is not known, only whether it is whole
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
    if !is_known {
        return Err(Error::UnsupportedVersion {
            key: expected.key(),
            version,
        });
    }
    if !fills {
        return Err(damaged("its counts do not fill it"));
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

/// What both versions begin with.
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

/// What is wrong with the fields of a list that is whole.
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
        (header.id != *expected, "it is another list than its name says"),
        (!is_hint && header.sessions != 0, "it names sessions and is no hint"),
        (zeros != [0; 4], "it has bytes that should be zero"),
        (!seal.has_macs() && has_mac, "it has a MAC, and the repository no keys"),
    ];
    wrong.iter().find(|(wrong, _)| *wrong).map(|(_, reason)| *reason)
}

/// Compares a MAC in constant time.
fn prove(seal: &dyn ListSeal, epoch: u32, digest: &[u8; 32], mac: &[u8; MAC_LEN]) -> Proof {
    if seal.mac_epoch() == 0 {
        return Proof::Unknown;
    }
    match seal.list_mac(epoch, digest) {
        Some(right) if bool::from(right.ct_eq(mac)) => Proof::Valid,
        _ => Proof::Wrong,
    }
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

/// Length of a file of that version with so many packs and sessions; `None` on overflow.
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

#[cfg(test)]
mod tests {
    use super::super::tests::new_storage;
    use super::*;
    use crate::storage::put_bytes;
    use proptest::prelude::*;

    const REPO: RepoId = RepoId([0x11; 16]);

    /// A repository without keys, with the key of epoch 7, or encrypted and opened without one.
    enum Keys {
        Plain,
        Sealed(u8),
        Locked,
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

    const PLAIN: Keys = Keys::Plain;
    const SEALED: Keys = Keys::Sealed(1);

    /// The same list as version 1 has it.
    fn without_mac(list: &KillList) -> Vec<u8> {
        let bytes = list.encode(&PLAIN).unwrap();
        let mut old = bytes[..HEADER_LEN].to_vec();
        old[8] = 1;
        old.extend_from_slice(&bytes[HEADER_LEN + MORE_LEN..bytes.len() - MAC_LEN]);
        reseal(old)
    }

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
        let list = list(0x22, true, &[0x33]);
        let golden = |epoch: &str| {
            [
                "43414b494c4c3031",
                "0200000001000000",
                &"11".repeat(16),
                &"22".repeat(16),
                "0100000002000000",
                epoch,
                "00000000",
                &"33".repeat(32),
                &"5e".repeat(32),
            ]
            .concat()
        };
        for (keys, epoch) in [(&PLAIN, "00000000"), (&SEALED, "07000000")] {
            let bytes = list.encode(keys).unwrap();
            let (said, rest) = bytes.split_at(bytes.len() - 64);
            assert_eq!(to_hex(said), golden(epoch));
            let mac = keys.list_mac(7, &crypto::sha256(&[said])).unwrap_or_default();
            assert_eq!(rest, [mac, crypto::sha256(&[said, &mac])].concat());
        }
        let old = without_mac(&list);
        let said = golden("00000000").replacen("0200000001", "0100000001", 1);
        assert_eq!(to_hex(&old[..56]), said[..112]);
        assert_eq!(to_hex(&old[56..old.len() - 32]), said[128..]);
    }

    #[test]
    fn refuses_a_kill_list_with_any_byte_flipped_or_missing() {
        for (hint, keys) in [(false, PLAIN), (true, PLAIN), (false, SEALED), (true, SEALED)] {
            let list = list(1, hint, &[3, 4, 9]);
            for (bytes, proof) in [
                (list.encode(&keys).unwrap(), Proof::Valid),
                (
                    without_mac(&list),
                    if keys.has_macs() { Proof::NoMac } else { Proof::Valid },
                ),
            ] {
                let found = KillList::decode(&bytes, &list.id, &keys).unwrap();
                assert_eq!((found.list, found.proof), (list.clone(), proof));
                for at in 0..bytes.len() {
                    for flip in [1, 0x20, 0x80] {
                        let mut flipped = bytes.clone();
                        flipped[at] ^= flip;
                        assert!(KillList::decode(&flipped, &list.id, &keys).is_err(), "byte {at}");
                    }
                    assert!(KillList::decode(&bytes[..at], &list.id, &keys).is_err(), "cut at {at}");
                }
            }
        }
    }

    #[test]
    fn a_list_is_proven_by_its_mac_and_by_nothing_else() {
        let list = list(1, false, &[3, 4, 9]);
        let bytes = list.encode(&SEALED).unwrap();
        let proof = |bytes: &[u8], keys: &Keys| KillList::decode(bytes, &list.id, keys).unwrap().proof;
        assert_eq!(proof(&bytes, &SEALED), Proof::Valid);
        assert_eq!(proof(&bytes, &Keys::Sealed(2)), Proof::Wrong);
        assert_eq!(proof(&bytes, &Keys::Locked), Proof::Unknown);
        // whatever it says, the MAC covers it: a checksum is no proof
        for at in [12, 16, 56, 95, 100, 159, 170] {
            let mut forged = bytes.clone();
            forged[at] ^= 1;
            let found = KillList::decode(&reseal(forged), &list.id, &SEALED);
            assert!(
                found.is_err() || found.is_ok_and(|found| found.proof == Proof::Wrong),
                "byte {at}"
            );
        }
        assert!(list.encode(&Keys::Locked).is_err());
        // a repository without keys has no MACs
        assert!(KillList::decode(&bytes, &list.id, &PLAIN).is_err());
    }

    #[test]
    fn a_list_without_a_valid_mac_condemns_nothing_and_is_avoided() {
        for (name, forge) in [
            ("version 1", without_mac as fn(&KillList) -> Vec<u8>),
            ("another key", |list| list.encode(&Keys::Sealed(2)).unwrap()),
        ] {
            let storage = new_storage();
            let list = list(1, false, &[10]);
            put_bytes(&storage, &list.id.key(), &forge(&list)).unwrap();
            let all = KillLists::load_all(&storage, &REPO, &SEALED).unwrap();
            let pack = PackId([10; 32]);
            assert!(
                !all.condemned(&pack) && all.is_listed(&pack) && all.avoid(&pack),
                "{name}"
            );
            assert!(!all.lists()[0].condemns(), "{name}");
        }
    }

    #[test]
    fn a_list_of_another_repository_says_nothing() {
        let storage = new_storage();
        list(1, false, &[10]).publish(&storage, &PLAIN).unwrap();
        let all = KillLists::load_all(&storage, &RepoId([0x12; 16]), &PLAIN).unwrap();
        assert!(all.lists().is_empty() && !all.avoid(&PackId([10; 32])));
    }

    #[test]
    fn a_spared_pack_is_not_condemned_and_writers_avoid_it_still() {
        let storage = new_storage();
        list(1, false, &[10, 11]).publish(&storage, &PLAIN).unwrap();
        let mut all = KillLists::load_all(&storage, &REPO, &PLAIN).unwrap();
        let (spared, other) = (PackId([10; 32]), PackId([11; 32]));
        all.spare([spared].into());
        assert!(!all.condemned(&spared) && all.is_listed(&spared) && all.avoid(&spared));
        assert!(all.condemned(&other));
    }

    #[test]
    fn refuses_wrong_fields_under_a_right_checksum() {
        let good = list(1, false, &[3, 4]);
        let bytes = good.encode(&PLAIN).unwrap();
        for (at, value) in [
            (12, 2),
            (32, 0),
            (48, 1),
            (48, 3),
            (51, 0xff),
            (52, 1),
            (56, 1),
            (60, 1),
            (64, 5),
            (128, 1),
        ] {
            let mut wrong = bytes.clone();
            wrong[at] = value;
            let refused = KillList::decode(&reseal(wrong), &good.id, &PLAIN);
            assert!(matches!(refused, Err(Error::Damaged { .. })), "byte {at}");
        }
        let mut later = bytes;
        later[8] = 3;
        let refused = KillList::decode(&reseal(later), &good.id, &PLAIN);
        assert!(matches!(refused, Err(Error::UnsupportedVersion { version: 3, .. })));
    }

    #[test]
    fn does_not_write_what_it_would_not_read() {
        assert!(list(1, false, &[4, 3]).encode(&PLAIN).is_err());
        assert!(list(1, false, &[3, 3]).encode(&PLAIN).is_err());
        let with_sessions = KillList {
            sessions: vec![SnapshotId([0; 16])],
            ..list(1, false, &[3])
        };
        assert!(with_sessions.encode(&PLAIN).is_err());
    }

    #[test]
    fn hints_are_avoided_and_only_kill_lists_condemn() {
        let storage = new_storage();
        list(1, false, &[10, 11]).publish(&storage, &PLAIN).unwrap();
        list(2, true, &[20]).publish(&storage, &PLAIN).unwrap();
        list(3, false, &[]).publish(&storage, &PLAIN).unwrap();
        put_bytes(&storage, "index/marks/notes.kill", b"not ours").unwrap();
        let all = KillLists::load_all(&storage, &REPO, &PLAIN).unwrap();
        let (condemned, hinted, free) = (PackId([11; 32]), PackId([20; 32]), PackId([30; 32]));
        assert!(all.condemned(&condemned) && all.avoid(&condemned));
        assert!(!all.condemned(&hinted) && all.avoid(&hinted));
        assert!(!all.condemned(&free) && !all.avoid(&free));
        assert_eq!(all.lists().len(), 3);
        assert!(list(1, false, &[12]).publish(&storage, &PLAIN).is_err());
    }

    #[test]
    fn a_damaged_kill_list_is_reported_with_its_key() {
        let storage = new_storage();
        list(1, false, &[10]).publish(&storage, &PLAIN).unwrap();
        let key = KillListId([2; 16]).key();
        put_bytes(&storage, &key, b"CAKILL01").unwrap();
        match KillLists::load_all(&storage, &REPO, &PLAIN) {
            Err(Error::Damaged { key: named, .. }) => assert_eq!(named, key),
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..300), fix in any::<bool>()) {
            if fix && bytes.len() >= 88 {
                bytes[..8].copy_from_slice(&MAGIC);
                bytes[8..16].copy_from_slice(&[2, 0, 0, 0, 1, 0, 0, 0]);
                bytes[16..32].copy_from_slice(&REPO.0);
                bytes[32..48].copy_from_slice(&[1; 16]);
                bytes = reseal(bytes);
            }
            let _ = KillList::decode(&bytes, &KillListId([1; 16]), &SEALED);
        }
    }
}
