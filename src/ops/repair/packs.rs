//! Packs and their `.idx` files: which there should be, which of them have their name, and making the others again.
//!
//! A pack whose bytes lie somewhere else gets its own name again. Else it is rebuilt from its parity, row by row, and where
//! rows are lost header, trailer and footer are taken from the `.idx`. Rounds go on as long as one of them helped, since a
//! pack that is whole again helps the others of its group.

use super::files::{Found, put_right, read};
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

/// Longest `.idx` that is read.
const MAX_INDEX_LEN: u64 = 4 << 20;
/// Bytes of a pack that are read at once.
const PIECE: usize = 1 << 20;

/// A pack whose bytes have its name.
pub(super) struct GoodPack {
    /// Its length in bytes.
    pub len: u64,
    /// What its own trailer says; `None` for a file that has the right name and is no pack of this repository.
    pub content: Option<Content>,
}

/// What is known of a good pack beside its length.
pub(super) struct Content {
    /// Who wrote it.
    pub session: SnapshotId,
    /// It holds list nodes and copies.
    pub meta: bool,
    /// Sum over its index entries, to compare with the index.
    pub print: EntrySum,
}

/// All packs that there should be.
#[derive(Default)]
pub(super) struct Inventory {
    /// Those that are whole.
    pub good: BTreeMap<PackId, GoodPack>,
    /// Those that are missing or damaged: at first all, later those beyond repair.
    pub bad: BTreeSet<PackId>,
    /// Those of which nothing can be said, because they, or what would give them back, could not be read. They stay as they
    /// are.
    pub unread: BTreeSet<PackId>,
    /// Sessions that were at work when the packs had been listed.
    pub writers: HashSet<SnapshotId>,
    /// Packs whose bytes lie under the name of another one, and whose.
    misplaced: BTreeMap<PackId, PackId>,
}

/// What lies under the name of a pack.
pub(super) enum Checked {
    /// Its bytes, this many.
    Whole(u64),
    /// Bytes that would be this pack.
    Other(PackId),
    /// Nothing, or nothing that is a pack.
    Nothing,
    /// Something that the device fails to read.
    Unreadable(storage::Error),
}

impl Inventory {
    /// Lists the packs, those that groups and segments name included and condemned ones left out, and reads each of them.
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
        // now, so that whoever wrote one of these packs and is gone by now has published it
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
            if work.kill_lists.condemned(&pack) {
                continue;
            }
            let is_ours = named.contains_key(&pack) || groups.group_of(&pack).is_some();
            if !is_ours && is_foreign(storage, &work.repo.config().id, &pack) {
                continue;
            }
            let checked = match check(work, &pack)? {
                // once is no time
                Checked::Unreadable(_) => check(work, &pack)?,
                checked => checked,
            };
            match checked {
                Checked::Whole(len) => inventory.add_good(pack, len),
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

    /// Notes that a pack is whole.
    pub(super) fn add_good(&mut self, pack: PackId, len: u64) {
        self.bad.remove(&pack);
        self.unread.remove(&pack);
        self.good.insert(pack, GoodPack { len, content: None });
    }

    /// Notes that nothing can be said of a pack.
    pub(super) fn leave(&mut self, pack: PackId) {
        self.bad.remove(&pack);
        self.unread.insert(pack);
    }

    /// Whole packs with known content.
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

/// Reads a pack.
pub(super) fn check(work: &mut Work<'_>, pack: &PackId) -> Result<Checked> {
    Ok(match name_of(work, &layout::pack(pack))? {
        Named::Pack(name, len) if name == *pack => Checked::Whole(len),
        Named::Pack(name, _) => Checked::Other(name),
        Named::Nothing => Checked::Nothing,
        Named::Unreadable(error) => Checked::Unreadable(error),
    })
}

/// What the bytes of a file are as a pack.
enum Named {
    /// This one, of this length.
    Pack(PackId, u64),
    /// None: there are none, or more than any pack has.
    Nothing,
    /// The device fails to read them.
    Unreadable(storage::Error),
}

impl Named {
    /// What a failed read says.
    fn failed(error: storage::Error) -> Result<Self> {
        match error.kind.verdict() {
            Verdict::Missing | Verdict::Wrong => Ok(Self::Nothing),
            Verdict::Unreadable if error.kind.is_erasure() => Ok(Self::Unreadable(error)),
            Verdict::Unreadable => Err(error.into()),
        }
    }
}

/// The name that the bytes of a file would have as a pack.
fn name_of(work: &mut Work<'_>, key: &str) -> Result<Named> {
    let storage = work.repo.storage();
    let len = match storage.size(key) {
        Ok(Some(len)) if len <= work.repo.config().longest_pack() => len,
        Ok(_) => return Ok(Named::Nothing),
        Err(error) => return Named::failed(error),
    };
    let mut hash = Sha256::new();
    let mut buffer = vec![0; PIECE];
    let mut offset = 0;
    while offset < len {
        let piece = buffer.len().min(usize::try_from(len - offset).unwrap_or(usize::MAX));
        let piece = buffer.get_mut(..piece).unwrap_or_default();
        match storage.get_range(key, offset, piece) {
            Ok(()) => hash.update(&*piece),
            Err(error) => return Named::failed(error),
        }
        offset += piece.len() as u64;
        work.advance(piece.len() as u64)?;
    }
    Ok(Named::Pack(PackId(hash.finalize().into()), len))
}

/// Puts packs right whose bytes lie somewhere else: under another pack's name, or in the quarantine. What they lie under
/// stays as it is. In rounds: where two packs have changed places, the first one drives the other into the quarantine.
fn put_misplaced(work: &mut Work<'_>, inventory: &mut Inventory) -> Result<()> {
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

/// Where the bytes of bad packs lie.
fn misplaced(work: &mut Work<'_>, inventory: &Inventory) -> Result<BTreeMap<PackId, String>> {
    let under = inventory.misplaced.iter();
    let mut found: BTreeMap<PackId, String> = under
        .filter(|(pack, _)| inventory.bad.contains(pack))
        .map(|(pack, place)| (*pack, layout::pack(place)))
        .collect();
    if found.len() == inventory.bad.len() {
        return Ok(found);
    }
    for file in work.repo.storage().list(layout::QUARANTINE)? {
        match name_of(work, &file.key)? {
            Named::Pack(name, _) if inventory.bad.contains(&name) => {
                found.insert(name, file.key);
            }
            Named::Unreadable(error) => work.leave(error)?,
            Named::Pack(..) | Named::Nothing => {}
        }
    }
    Ok(found)
}

/// Gives a pack back its bytes, if they have its name.
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
    put_right(storage, &key, bytes, &found)?;
    inventory.add_good(pack, bytes.len() as u64);
    work.report.packs_repaired += 1;
    Ok(())
}

/// Makes missing and damaged packs again as far as that can be proven.
pub(super) fn rebuild_damaged(work: &mut Work<'_>, inventory: &mut Inventory) -> Result<()> {
    put_misplaced(work, inventory)?;
    let storage = work.repo.storage();
    let groups = work.repo.parity_groups()?;
    loop {
        let mut helped = false;
        let mut left = Vec::new();
        for pack in inventory.bad.union(&inventory.unread).copied().collect::<Vec<_>>() {
            work.advance(0)?;
            match remains(work, &groups, &pack)? {
                Remains::Whole(bytes) => {
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

/// What is left of a damaged pack.
pub(super) enum Remains {
    /// All of it: these bytes have its name.
    Whole(Vec<u8>),
    /// As much as there is; what is not known is as it lies there, or zero.
    Part(Vec<u8>),
    /// Nothing.
    Nothing,
    /// What that is cannot be told: a read failed.
    Unreadable(storage::Error),
}

/// Puts together what is left of a pack: its own rows, those that parity gives, and the ends that its `.idx` copies.
pub(super) fn remains(work: &Work<'_>, groups: &Groups, pack: &PackId) -> Result<Remains> {
    let storage = work.repo.storage();
    let (own, mut unreadable) = match read_as_it_is(work.repo, &layout::pack(pack))? {
        Some((own, unreadable)) => (Some(own), unreadable),
        None => (None, None),
    };
    let mut best = own.clone();
    // a group that cannot be read may be one of its
    if let Err(error) = groups.check_read() {
        unreadable = unreadable.or(error.unreadable().cloned());
    }
    for head in groups.groups_of(pack) {
        let rebuilt =
            parity::read_record(storage, &head.id).and_then(|record| parity::rebuild_pack(storage, &record, pack));
        match rebuilt {
            Ok(bytes) => return Ok(Remains::Whole(bytes)),
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
    if let Some(parts) = parts_in(&parts, pack)
        && let Some(bytes) = best.as_mut()
        && splice(bytes, &parts)?
        && sha256(&[bytes]) == pack.0
    {
        return Ok(best.map_or(Remains::Nothing, Remains::Whole));
    }
    if let Some(error) = unreadable {
        return Ok(Remains::Unreadable(error));
    }
    Ok(best.map_or(Remains::Nothing, Remains::Part))
}

/// In the lost rows what lies there is better than nothing: a row is lost with a single wrong byte.
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

/// All of a file that can be read, row by row, zeros for the rest; and a read that failed, if one did. `None` when there is no
/// such file, or it is longer than any pack.
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

/// `false` for what the device fails to read, which is noted, and for what is not there.
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

/// The parts in the `.idx` of a pack, if it is whole.
fn parts_in(index: &Found, pack: &PackId) -> Option<IndexParts> {
    let parts = index.bytes().and_then(|bytes| IndexParts::decode(bytes).ok());
    parts.filter(|parts| parts.pack == *pack)
}

/// Makes the `.idx` of every whole pack what it should be, and learns what each of them holds.
pub(super) fn restore_indexes(work: &mut Work<'_>, inventory: &mut Inventory) -> Result<()> {
    let repo = work.repo;
    let storage = repo.storage();
    for (pack, good) in &mut inventory.good {
        work.advance(0)?;
        let parts = match read_parts(storage, pack) {
            Ok(parts) => parts,
            // it was whole a moment ago: the disk fails while we look
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
            // its session is about to put it
            continue;
        }
        if found.bytes() != Some(&bytes[..]) {
            put_right(storage, &key, &bytes, &found)?;
            work.report.idx_repaired += 1;
        }
    }
    if work.report.idx_repaired > 0 {
        storage.barrier()?;
    }
    Ok(())
}
