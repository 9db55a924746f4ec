//! Repairs packs and their `.idx` files: determines which packs must exist and which of them are
//! intact, and rebuilds the others.
//!
//! A pack whose bytes are stored at another path is written back to its own path. Otherwise it is
//! rebuilt from its parity, row by row, and where rows are lost, header, trailer and footer are
//! taken from the `.idx`. Rounds continue as long as one of them succeeded, because a repaired pack
//! helps to rebuild the others of its group.

use super::files::{Found, read, write_repaired};
use super::{Packs, Work};
use crate::catalog::EntrySum;
use crate::catalog::entries::named_packs;
use crate::crypto::sha256;
use crate::error::{Error, Result};
use crate::id::{PackId, SnapshotId};
use crate::layout;
use crate::pack::{IndexParts, ReadError, is_foreign, open_parts, read_parts, splice};
use crate::parity::{self, Groups, Lost, ROW_LEN, Refusal};
use crate::repo::Repository;
use crate::storage::{self, FailedRead, Storage, Verdict, judge};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Longest `.idx` that is read, in bytes.
const MAX_INDEX_LEN: u64 = 4 << 20;
/// Bytes of a pack that are read per call.
const PIECE: usize = 1 << 20;

/// A pack whose hash matches its id.
pub(super) struct GoodPack {
    /// Its length in bytes.
    pub len: u64,
    /// The content of its trailer; `None` for a file that matches its id but is no pack of this
    /// repository.
    pub content: Option<Content>,
}

/// Facts about an intact pack from its trailer.
pub(super) struct Content {
    /// The session that wrote it.
    pub session: SnapshotId,
    /// It contains list nodes and copies.
    pub meta: bool,
    /// Sum over its index entries, to compare with the index.
    pub print: EntrySum,
}

/// All packs that must exist.
#[derive(Default)]
pub(super) struct Inventory {
    /// Packs that are intact.
    pub good: BTreeMap<PackId, GoodPack>,
    /// Packs that are missing or damaged: at first all, later those beyond repair.
    pub bad: BTreeSet<PackId>,
    /// Packs whose state is unknown, because they, or the files that could rebuild them, could not
    /// be read. They are left alone.
    pub unread: BTreeSet<PackId>,
    /// Sessions that were active after the packs had been listed.
    pub writers: HashSet<SnapshotId>,
    /// Packs whose bytes are stored at the path of another pack, with that pack.
    misplaced: BTreeMap<PackId, PackId>,
}

/// Result of reading the file of a pack.
pub(super) enum Checked {
    /// Its bytes, with their number.
    Intact(u64),
    /// The bytes of this other pack.
    Other(PackId),
    /// No file, or a file that is no pack.
    Nothing,
    /// The device fails to read the file.
    Unreadable(storage::Error),
}

impl Inventory {
    /// Lists the packs, including those that groups and segments name, without condemned ones, and
    /// reads each of them.
    pub(super) fn take(work: &mut Work<'_>) -> Result<Self> {
        let storage = work.repo.storage();
        let mut packs = BTreeSet::new();
        for file in storage.list(layout::DATA)? {
            if let Some(id) = layout::id_of(&file.key, ".pack") {
                work.progress.total_bytes += file.len;
                packs.insert(PackId(id));
            }
            packs.extend(layout::id_of(&file.key, ".idx").map(PackId));
        }
        // listed now: a session that wrote one of these packs and has ended has published it
        let mut inventory = Self {
            writers: work.repo.writers()?,
            ..Self::default()
        };
        let groups = work.repo.parity_groups()?;
        packs.extend(groups.packs());
        work.repo.refresh_index()?;
        let named = named_packs(work.repo)?;
        packs.extend(named.keys());
        for pack in packs {
            if work.kill_lists.is_condemned(&pack) {
                continue;
            }
            let is_ours = named.contains_key(&pack) || groups.group_of(&pack).is_some();
            if !is_ours && is_foreign(storage, &work.repo.config().id, &pack) {
                continue;
            }
            let checked = match check(work, &pack)? {
                // a read that fails once is repeated
                Checked::Unreadable(_) => check(work, &pack)?,
                checked => checked,
            };
            match checked {
                Checked::Intact(len) => inventory.add_good(pack, len),
                Checked::Unreadable(_) => {
                    inventory.unread.insert(pack);
                }
                Checked::Other(other) => {
                    inventory.bad.insert(pack);
                    inventory.misplaced.insert(other, pack);
                }
                Checked::Nothing => {
                    inventory.bad.insert(pack);
                }
            }
        }
        Ok(inventory)
    }

    /// Records that a pack is intact.
    pub(super) fn add_good(&mut self, pack: PackId, len: u64) {
        self.bad.remove(&pack);
        self.unread.remove(&pack);
        self.good.insert(pack, GoodPack { len, content: None });
    }

    /// Records that the state of a pack is unknown.
    pub(super) fn leave(&mut self, pack: PackId) {
        self.bad.remove(&pack);
        self.unread.insert(pack);
    }

    /// Intact packs with known content.
    pub(super) fn contents(&self) -> impl Iterator<Item = (&PackId, &GoodPack, &Content)> {
        self.good
            .iter()
            .filter_map(|(pack, good)| Some((pack, good, good.content.as_ref()?)))
    }

    /// Packs beyond repair.
    pub(super) fn lost(&self) -> Packs {
        self.bad.iter().copied().collect()
    }
}

/// Reads a pack and checks it against its id.
pub(super) fn check(work: &mut Work<'_>, pack: &PackId) -> Result<Checked> {
    Ok(match identify(work, &layout::pack(pack))? {
        Identified::Pack(name, len) if name == *pack => Checked::Intact(len),
        Identified::Pack(name, _) => Checked::Other(name),
        Identified::Nothing => Checked::Nothing,
        Identified::Unreadable(error) => Checked::Unreadable(error),
    })
}

/// The pack that the bytes of a file are.
enum Identified {
    /// This pack, of this length.
    Pack(PackId, u64),
    /// No pack: the file is absent, or longer than the longest possible pack.
    Nothing,
    /// The device fails to read the file.
    Unreadable(storage::Error),
}

impl Identified {
    /// The result for a failed read.
    fn failed(error: storage::Error) -> Result<Self> {
        match error.kind.verdict() {
            Verdict::Missing | Verdict::Wrong => Ok(Self::Nothing),
            Verdict::Unreadable if error.kind.is_erasure() => Ok(Self::Unreadable(error)),
            Verdict::Unreadable => Err(error.into()),
        }
    }
}

/// Determines the pack whose id matches the bytes of a file.
fn identify(work: &mut Work<'_>, key: &str) -> Result<Identified> {
    let storage = work.repo.storage();
    let len = match storage.size(key) {
        Ok(Some(len)) if len <= work.repo.config().longest_pack() => len,
        Ok(_) => return Ok(Identified::Nothing),
        Err(error) => return Identified::failed(error),
    };
    let mut hash = Sha256::new();
    let mut buffer = vec![0; PIECE];
    let mut offset = 0;
    while offset < len {
        let piece = buffer.len().min(usize::try_from(len - offset).unwrap_or(usize::MAX));
        let piece = buffer.get_mut(..piece).unwrap_or_default();
        match storage.get_range(key, offset, piece) {
            Ok(()) => hash.update(&*piece),
            Err(error) => return Identified::failed(error),
        }
        offset += piece.len() as u64;
        work.advance(piece.len() as u64)?;
    }
    Ok(Identified::Pack(PackId(hash.finalize().into()), len))
}

/// Restores packs whose bytes are stored elsewhere: at another pack's path, or in the quarantine.
/// The files that contain them are left as they are. Works in rounds: where two packs were swapped,
/// restoring the first one moves the other into the quarantine.
fn restore_misplaced(work: &mut Work<'_>, inventory: &mut Inventory) -> Result<()> {
    loop {
        let before = inventory.bad.len();
        for (pack, key) in misplaced(work, inventory)? {
            inventory.misplaced.remove(&pack);
            if let Some((bytes, _)) = read_as_it_is(work.repo, &key)? {
                put_pack(work, inventory, pack, &bytes)?;
            }
        }
        if inventory.bad.len() == before {
            return Ok(());
        }
    }
}

/// The keys of the files that contain the bytes of bad packs.
fn misplaced(work: &mut Work<'_>, inventory: &Inventory) -> Result<BTreeMap<PackId, String>> {
    let known = inventory.misplaced.iter();
    let mut found: BTreeMap<PackId, String> = known
        .filter(|(pack, _)| inventory.bad.contains(pack))
        .map(|(pack, stored_as)| (*pack, layout::pack(stored_as)))
        .collect();
    if found.len() == inventory.bad.len() {
        return Ok(found);
    }
    for file in work.repo.storage().list(layout::QUARANTINE)? {
        match identify(work, &file.key)? {
            Identified::Pack(name, _) if inventory.bad.contains(&name) => {
                found.insert(name, file.key);
            }
            Identified::Unreadable(error) => work.leave(error)?,
            Identified::Pack(..) | Identified::Nothing => {}
        }
    }
    Ok(found)
}

/// Writes the bytes of a pack, if their hash matches its id.
pub(super) fn put_pack(work: &mut Work<'_>, inventory: &mut Inventory, pack: PackId, bytes: &[u8]) -> Result<()> {
    if sha256(&[bytes]) != pack.0 {
        return Ok(());
    }
    let storage = work.repo.storage();
    let key = layout::pack(&pack);
    let found = match storage.size(&key) {
        Ok(None) => Found::Missing,
        _ => Found::Wrong,
    };
    write_repaired(storage, &key, bytes, &found)?;
    inventory.add_good(pack, bytes.len() as u64);
    work.report.packs_repaired += 1;
    Ok(())
}

/// Rebuilds missing and damaged packs as far as the result can be proven.
pub(super) fn rebuild_damaged(work: &mut Work<'_>, inventory: &mut Inventory) -> Result<()> {
    restore_misplaced(work, inventory)?;
    let storage = work.repo.storage();
    let groups = work.repo.parity_groups()?;
    loop {
        let mut helped = false;
        let mut left = Vec::new();
        for pack in inventory.bad.union(&inventory.unread).copied().collect::<Vec<_>>() {
            work.advance(0)?;
            match remains(work, &groups, &pack)? {
                Remains::Complete(bytes) => {
                    put_pack(work, inventory, pack, &bytes)?;
                    helped |= inventory.good.contains_key(&pack);
                }
                Remains::Unreadable(error) => {
                    inventory.leave(pack);
                    left.push(error);
                }
                Remains::Part(_) | Remains::Nothing => {}
            }
        }
        if !helped {
            left.into_iter().try_for_each(|error| work.leave(error))?;
            break;
        }
    }
    if work.report.packs_repaired > 0 {
        storage.barrier()?;
    }
    Ok(())
}

/// The remaining data of a damaged pack.
pub(super) enum Remains {
    /// All of it: the hash of these bytes matches its id.
    Complete(Vec<u8>),
    /// A part of it; unknown bytes are those of the damaged file, or zero.
    Part(Vec<u8>),
    /// Nothing.
    Nothing,
    /// Unknown: a read failed.
    Unreadable(storage::Error),
}

/// Collects the remaining data of a pack: its own rows, the rows that parity rebuilds, and the ends
/// that its `.idx` copies.
pub(super) fn remains(work: &Work<'_>, groups: &Groups, pack: &PackId) -> Result<Remains> {
    let storage = work.repo.storage();
    let (own, mut unreadable) = match read_as_it_is(work.repo, &layout::pack(pack))? {
        Some((own, unreadable)) => (Some(own), unreadable),
        None => (None, None),
    };
    let mut best = own.clone();
    // an unreadable group may protect the pack
    if let Err(error) = groups.check_read() {
        unreadable = unreadable.or(error.unreadable().cloned());
    }
    for head in groups.groups_of(pack) {
        let rebuilt =
            parity::read_record(storage, &head.id).and_then(|record| parity::rebuild_pack(storage, &record, pack));
        match rebuilt {
            Ok(bytes) => return Ok(Remains::Complete(bytes)),
            Err(parity::Error::Lost(lost)) => {
                unreadable = unreadable.or(lost.unreadable.clone());
                best = Some(with_own_rows(*lost, own.as_deref()));
            }
            Err(error @ parity::Error::Refused(Refusal::NoMemory)) => return Err(error.into()),
            Err(parity::Error::Damaged { .. } | parity::Error::Refused(_)) => {}
            Err(parity::Error::Storage(error)) if error.kind.is_erasure() => unreadable = unreadable.or(Some(error)),
            Err(error) => return Err(error.into()),
        }
    }
    let parts = read(storage, &layout::pack_index(pack), MAX_INDEX_LEN)?;
    if let Found::Unreadable(error) = &parts {
        unreadable = unreadable.or(Some(error.clone()));
    }
    // the length in an `.idx` is not authenticated
    let longest = work.repo.config().longest_pack();
    if let Some(parts) = parts_in(&parts, pack).filter(|parts| parts.pack_len <= longest)
        && let Some(bytes) = best.as_mut()
        && splice(bytes, &parts)?
        && sha256(&[bytes]) == pack.0
    {
        return Ok(best.map_or(Remains::Nothing, Remains::Complete));
    }
    if let Some(error) = unreadable {
        return Ok(Remains::Unreadable(error));
    }
    Ok(best.map_or(Remains::Nothing, Remains::Part))
}

/// Fills the lost rows with the bytes of the damaged file: a row is lost with a single wrong byte,
/// so most of them are right.
fn with_own_rows(lost: Lost, own: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = lost.bytes;
    for rows in lost.rows {
        let start = rows.start as usize * ROW_LEN;
        let end = (rows.end as usize * ROW_LEN).min(bytes.len());
        let theirs = own.and_then(|own| own.get(start..end.min(own.len())));
        if let (Some(theirs), Some(ours)) = (theirs, bytes.get_mut(start..end)) {
            ours.iter_mut().zip(theirs).for_each(|(ours, theirs)| *ours = *theirs);
        }
    }
    bytes
}

/// The readable rows of a file, with zeros for the others, and a failed read, if any. `None` when
/// the file does not exist, or is longer than the longest possible pack.
fn read_as_it_is(repo: &Repository, key: &str) -> Result<Option<(Vec<u8>, Option<storage::Error>)>> {
    let storage = repo.storage();
    let len = match storage.size(key) {
        Ok(Some(len)) if len <= repo.config().longest_pack() => usize::try_from(len).unwrap_or(usize::MAX),
        Ok(_) => return Ok(None),
        Err(error) if error.kind.verdict() == Verdict::Unreadable && error.kind.is_erasure() => {
            return Ok(Some((Vec::new(), Some(error))));
        }
        failed => {
            judge(failed)?.ok();
            return Ok(None);
        }
    };
    let mut bytes = Vec::new();
    if bytes.try_reserve_exact(len).is_err() {
        return Err(Error::NoMemory);
    }
    bytes.resize(len, 0);
    let mut unreadable = None;
    for (offset, piece) in (0..).step_by(PIECE).zip(bytes.chunks_mut(PIECE)) {
        if read_piece(storage, key, offset, piece, &mut None)? {
            continue;
        }
        for (row_offset, row) in (offset..).step_by(ROW_LEN).zip(piece.chunks_mut(ROW_LEN)) {
            if !read_piece(storage, key, row_offset, row, &mut unreadable)? {
                row.fill(0);
            }
        }
    }
    Ok(Some((bytes, unreadable)))
}

/// Returns `false` for a range that the device fails to read, which is recorded in `unreadable`,
/// and for a range that does not exist.
fn read_piece(
    storage: &dyn Storage,
    key: &str,
    offset: u64,
    out: &mut [u8],
    unreadable: &mut Option<storage::Error>,
) -> Result<bool> {
    match storage.get_range(key, offset, out) {
        Ok(()) => Ok(true),
        Err(error) if error.kind.is_erasure() => {
            if error.kind.verdict() == Verdict::Unreadable {
                unreadable.get_or_insert(error);
            }
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// The parts in the `.idx` of a pack, if it is intact.
fn parts_in(index: &Found, pack: &PackId) -> Option<IndexParts> {
    let parts = index.bytes().and_then(|bytes| IndexParts::decode(bytes).ok());
    parts.filter(|parts| parts.pack == *pack)
}

/// Repairs the `.idx` of every intact pack, and records the content of each pack.
pub(super) fn restore_indexes(work: &mut Work<'_>, inventory: &mut Inventory) -> Result<()> {
    let repo = work.repo;
    let storage = repo.storage();
    for (pack, good) in &mut inventory.good {
        work.advance(0)?;
        let parts = match read_parts(storage, pack) {
            Ok(parts) => parts,
            // it was intact a moment ago, so the disk is failing
            Err(ReadError::Storage(error)) => return Err(error.into()),
            Err(ReadError::Format(_)) => continue,
        };
        let bytes = parts.encode();
        let Ok(content) = open_parts(parts, &repo.config().id, repo.seal().as_ref()) else {
            continue;
        };
        good.content = Some(Content {
            session: content.header.session,
            meta: content.header.meta,
            print: EntrySum::of_indexed(&content.entries),
        });
        let key = layout::pack_index(pack);
        let found = read(storage, &key, MAX_INDEX_LEN)?;
        if found == Found::Missing && inventory.writers.contains(&content.header.session) {
            // its session is about to write it
            continue;
        }
        if found.bytes() != Some(&bytes[..]) {
            write_repaired(storage, &key, &bytes, &found)?;
            work.report.idx_repaired += 1;
        }
    }
    if work.report.idx_repaired > 0 {
        storage.barrier()?;
    }
    Ok(())
}
