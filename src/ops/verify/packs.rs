//! Compares the packs that should exist with the packs in the folder and with the `.idx` files.

use super::manifests::Manifests;
use super::{Problem, Run, VerifyLevel};
use crate::catalog::EntrySum;
use crate::catalog::needed::needed;
use crate::error::Result;
use crate::id::{PackId, SnapshotId};
use crate::layout;
use crate::pack::{KIND_MANIFEST_COPY, PackIndex, ReadError, index_read, is_foreign, read_index, read_index_from_pack};
use crate::parity::{self, GroupHead, Groups};
use crate::storage::{self, Ask, ErrorKind, FailedRead, announced};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashSet};

/// Why a pack is bad.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Bad {
    /// It does not exist. Unless its session committed, a power loss may have removed it before
    /// anything needed it.
    Missing { committed: bool },
    /// The hash of its bytes does not match its id.
    Corrupt(String),
    /// Some or all of its bytes could not be read, and no damage is known in the others.
    Unreadable(storage::Error),
}

/// Facts about one pack.
#[derive(Debug, Clone, Default)]
pub(super) struct PackFacts {
    /// Length of the file.
    pub len: Option<u64>,
    /// Length of the `.idx` file.
    pub index_len: Option<u64>,
    /// Length that the live segments record.
    pub named: Option<u64>,
    /// Sum of the entries that the live segments record for it.
    pub indexed: EntrySum,
    /// The session that wrote it, if known.
    pub session: Option<SnapshotId>,
    /// Why it is bad, if it is.
    pub bad: Option<Bad>,
    /// Its `.idx` is intact.
    pub index_good: bool,
}

/// All packs that are in the folder or that a live segment names.
#[derive(Default)]
pub(super) struct Packs {
    pub table: BTreeMap<PackId, PackFacts>,
    /// Packs that an unfinished prune had condemned when the run began, and that no snapshot needs.
    condemned: HashSet<PackId>,
    /// Packs that any kill list named when the run began, needed or not.
    listed: HashSet<PackId>,
    /// Every live segment could be read, so their entries are complete.
    pub index_whole: bool,
}

impl Packs {
    /// True when an unfinished prune has condemned it.
    pub fn is_condemned(&self, pack: &PackId) -> bool {
        self.condemned.contains(pack)
    }

    /// True when an unfinished prune may have removed it from its parity group: the next prune
    /// deletes the pack, or spares it and adds it to a group again.
    pub fn may_have_left_group(&self, pack: &PackId) -> bool {
        self.listed.contains(pack)
    }

    /// True when a live segment names it.
    pub fn is_named(&self, pack: &PackId) -> bool {
        self.table.get(pack).is_some_and(|facts| facts.named.is_some())
    }

    /// True when it exists (good or bad). A pack that was not listed is looked up.
    pub fn exists(&self, run: &Run<'_>, pack: &PackId) -> bool {
        match self.table.get(pack) {
            Some(facts) if facts.len.is_some() => true,
            _ => run.is_there(&layout::pack(pack)),
        }
    }

    /// Packs whose bytes are read at this level. Files that are too long for a pack are not read.
    pub fn bodies<'a>(&'a self, run: &'a Run<'_>) -> impl Iterator<Item = (&'a PackId, &'a PackFacts)> {
        let read = run.options.level > VerifyLevel::Quick;
        let longest = run.repo.config().longest_pack();
        self.table.iter().filter(move |(pack, facts)| {
            // no snapshot needs condemned packs, and a repair leaves them alone
            let is_read = read && !self.is_condemned(pack);
            is_read && facts.len.is_some_and(|len| len <= longest) && run.is_in_subset(&pack.0)
        })
    }

    /// Total bytes of the `.idx` files and of the packs that are read.
    pub fn bytes_to_read(&self, run: &Run<'_>) -> u64 {
        let indexes: u64 = self.table.values().filter_map(|facts| facts.index_len).sum();
        let bodies: u64 = self.bodies(run).filter_map(|(_, facts)| facts.len).sum();
        indexes + bodies
    }
}

/// Lists the folder. Kill lists are read first: the packs that they condemn may be deleted at any
/// time.
pub(super) fn list(run: &mut Run<'_>) -> Result<Packs> {
    let mut packs = Packs::default();
    (packs.condemned, packs.listed) = condemned(run)?;
    for file in run.list(layout::DATA) {
        if let Some(id) = layout::id_of(&file.key, ".pack").map(PackId) {
            packs.table.entry(id).or_default().len = Some(file.len);
        } else if let Some(id) = layout::id_of(&file.key, ".idx").map(PackId) {
            packs.table.entry(id).or_default().index_len = Some(file.len);
        }
    }
    run.check_running()?;
    Ok(packs)
}

/// Determines which packs in kill lists are needed by snapshots, also for [`is_condemned`]. Without
/// the keys no list is proven, so every pack that exists is read.
fn condemned(run: &mut Run<'_>) -> Result<(HashSet<PackId>, HashSet<PackId>)> {
    // a damaged list was reported; the packs that it condemns are not known
    let mut lists = run.noted(run.repo.kill_lists()).unwrap_or_default();
    let listed: HashSet<PackId> = lists.listed().copied().collect();
    if run.repo.is_keyless() || listed.is_empty() {
        return Ok((HashSet::new(), listed));
    }
    let ids = run.repo.list_manifests().unwrap_or_default();
    match needed(run.repo, &lists, &ids, false, run.monitor) {
        Ok(needed) => run.needed = needed.packs(),
        // the next steps report the damaged or missing data
        Err(error) => {
            run.check_running()?;
            if let Some(source) = error.unreadable() {
                run.note_unread(source, false);
            }
        }
    }
    lists.spare(run.needed.clone());
    Ok((lists.condemned_packs(), listed))
}

/// Whether a kill list names the pack now, proven or not, and no snapshot needs it: it may have
/// been deleted. Also true where a list is unreadable.
pub(super) fn is_condemned(run: &Run<'_>, pack: &PackId) -> bool {
    !run.needed.contains(pack) && is_listed(run, pack)
}

/// Whether any kill list names the pack now. Also true where a list is unreadable.
pub(super) fn is_listed(run: &Run<'_>, pack: &PackId) -> bool {
    match run.noted(run.repo.kill_lists()) {
        Ok(lists) => lists.is_listed(pack),
        Err(error) => error.unreadable().is_some(),
    }
}

/// True when a pack that was not found is really missing, and was not deleted by a prune. The order
/// of the checks matters: a prune publishes its kill list before it deletes a pack, and removes the
/// list when no segment names the pack any more.
pub(super) fn is_missing(run: &Run<'_>, pack: &PackId) -> bool {
    if run.is_there(&layout::pack(pack)) || is_condemned(run, pack) {
        return false;
    }
    if run.repo.is_keyless() {
        // a prune removes a pack from its group and deletes its .idx before it deletes the pack
        let groups = run.noted(run.repo.parity_groups());
        return run.is_there(&layout::pack_index(pack)) || groups.is_ok_and(|groups| groups.group_of(pack).is_some());
    }
    // the index is not repaired here: broken segments were reported
    let _ = run.noted(run.repo.index().refresh());
    let named = run.noted(run.repo.index().contains_pack(pack));
    named.unwrap_or_else(|error| error.unreadable().is_none())
}

/// Reads every `.idx`, and compares ids, lengths and entries with the segments.
pub(super) fn check(run: &mut Run<'_>, packs: &mut Packs, manifests: &mut Manifests) -> Result<()> {
    let mut table = std::mem::take(&mut packs.table);
    set_foreign_aside(run, &mut table);
    let (repo, ids) = (run.repo, table.keys().copied().collect::<Vec<_>>());
    let mut contents = announced(repo.storage(), &ids, index_read);
    let mut sizes = announced(repo.storage(), &ids, |pack| Ask::Size(layout::pack_index(pack)));
    for (pack, facts) in &mut table {
        contents.next();
        sizes.next();
        run.check_running()?;
        check_pack(run, packs, pack, facts, manifests);
        run.advance(
            facts.index_len.unwrap_or(0),
            u64::from(run.options.level == VerifyLevel::Quick),
        );
    }
    packs.table = table;
    Ok(())
}

/// Removes the packs of other repositories from `table`, except those that a segment names.
pub(super) fn set_foreign_aside(run: &mut Run<'_>, table: &mut BTreeMap<PackId, PackFacts>) {
    table.retain(|pack, facts| {
        let foreign = facts.named.is_none() && is_foreign(run.storage(), &run.repo.config().id, pack);
        if foreign {
            run.note_foreign(layout::pack(pack));
        }
        !foreign
    });
}

fn check_pack(run: &mut Run<'_>, packs: &Packs, pack: &PackId, facts: &mut PackFacts, manifests: &mut Manifests) {
    let index = check_index(run, packs, pack, facts, manifests);
    facts.session = index.as_ref().map(|index| index.header.session);
    let committed = facts
        .session
        .is_some_and(|session| manifests.committed.contains(&session));
    let expected_len = facts.named.or(index.as_ref().map(|index| index.pack_len));
    match (facts.len, facts.named) {
        (Some(len), _) => {
            if packs.is_condemned(pack) {
                // no snapshot needs it
            } else if len > run.repo.config().longest_pack() {
                facts.bad = Some(Bad::Corrupt(format!(
                    "it has {len} bytes, more than the longest possible pack"
                )));
            } else if expected_len.is_some_and(|expected| expected != len) {
                facts.bad = Some(Bad::Corrupt(format!(
                    "it has {len} bytes instead of {}",
                    expected_len.unwrap_or(0)
                )));
            }
            if facts.named.is_none() {
                note_orphan(run, packs, pack, committed);
            }
            if run.options.level == VerifyLevel::Quick {
                run.report.stats.packs_checked += 1;
            }
        }
        (None, Some(_)) => {
            if is_missing(run, pack) {
                facts.bad = Some(Bad::Missing { committed });
            } else {
                // written since the folder was listed, or deleted by a prune
                facts.len = run.noted(run.storage().size(&layout::pack(pack))).unwrap_or(None);
            }
        }
        (None, None) if committed && !packs.is_condemned(pack) && run.is_there(&layout::pack_index(pack)) => {
            // neither in the index nor in the folder, although its session stored it durably
            facts.bad = Some(Bad::Missing { committed: false });
        }
        (None, None) => {
            let text = format!("The .idx of pack {pack} exists, but the pack does not");
            run.note("NOTE_ORPHAN_INDEX", Some(*pack), Some(layout::pack_index(pack)), text);
        }
    }
    if let Some(index) = index {
        take_entries(run, packs, pack, facts, &index, manifests);
    }
}

/// The entries of the pack: from its `.idx`, or from the pack when the `.idx` is damaged or
/// missing.
fn check_index(
    run: &mut Run<'_>,
    packs: &Packs,
    pack: &PackId,
    facts: &mut PackFacts,
    manifests: &Manifests,
) -> Option<PackIndex> {
    let (repo, key) = (run.repo, layout::pack_index(pack));
    let read = || run.noted(read_index(run.storage(), &repo.config().id, repo.seal().as_ref(), pack));
    let mut found = read();
    let mut missing = !run.is_there(&key);
    if !missing && matches!(&found, Err(ReadError::Storage(error)) if error.kind == ErrorKind::NotFound) {
        // its session has just written it
        found = read();
        missing = !run.is_there(&key);
    }
    let reason = match found {
        Ok(index) => {
            facts.index_good = true;
            return Some(index);
        }
        Err(ReadError::Storage(error)) if error.kind == ErrorKind::NotFound => "the file is missing".to_owned(),
        Err(error) if error.unreadable().is_some() => {
            let own = read_index_from_pack(run.storage(), &repo.config().id, repo.seal().as_ref(), pack);
            return run.noted(own).ok();
        }
        Err(ReadError::Storage(error)) => error.to_string(),
        Err(ReadError::Format(error)) => error.to_string(),
    };
    if facts.len.is_none() && facts.named.is_none() || missing && !run.is_there(&layout::pack(pack)) {
        // both are missing; the missing pack is reported
        return None;
    }
    let own = read_index_from_pack(run.storage(), &repo.config().id, repo.seal().as_ref(), pack);
    let own = run.noted(own).ok();
    let session = own.as_ref().map(|index| index.header.session);
    // a power loss may remove the name of an .idx; that of a committed session was durable
    let committed = session.is_none_or(|session| manifests.committed.contains(&session));
    // checked in this order: a pack whose .idx was deleted by a prune is in a kill list until the
    // pack itself is deleted
    let being_deleted = || is_condemned(run, pack) || !run.is_there(&layout::pack(pack));
    if missing && !committed || packs.is_condemned(pack) || missing && being_deleted() {
        let text = format!("Pack {pack} has no .idx; the trailer of the pack is read instead");
        run.note("NOTE_NO_PACK_INDEX", Some(*pack), Some(key), text);
    } else {
        run.found(Problem {
            pack: Some(*pack),
            text: format!("The .idx of pack {pack}: {reason}"),
            path: Some(key),
            healable: own.is_some() || is_rebuildable(run, pack),
            ..Problem::new("ERR_PACK_INDEX_CORRUPT")
        });
    }
    own
}

/// Reports a pack that no live segment names.
fn note_orphan(run: &mut Run<'_>, packs: &Packs, pack: &PackId, committed: bool) {
    let condemned = packs.is_condemned(pack);
    if !committed || condemned || !packs.index_whole || !run.is_there(&layout::pack(pack)) {
        let text = match condemned {
            true => format!("Pack {pack} is condemned by an unfinished prune"),
            false => format!("Pack {pack} is in no index segment: it is being written, or is a leftover"),
        };
        run.note("NOTE_ORPHAN_PACK", Some(*pack), Some(layout::pack(pack)), text);
        return;
    }
    run.found(Problem {
        pack: Some(*pack),
        path: Some(layout::INDEX.to_owned()),
        text: format!("Pack {pack} belongs to a snapshot but is in no index segment"),
        healable: true,
        ..Problem::new("ERR_INDEX_CORRUPT")
    });
}

/// Compares the entries with the index, and records copies of manifests.
fn take_entries(
    run: &mut Run<'_>,
    packs: &Packs,
    pack: &PackId,
    facts: &PackFacts,
    index: &PackIndex,
    manifests: &mut Manifests,
) {
    let held = EntrySum::of_indexed(&index.entries);
    if facts.named.is_some() {
        let copies = index.entries.iter().filter(|entry| entry.kind == KIND_MANIFEST_COPY);
        copies.for_each(|entry| manifests.add_copy(*pack, *entry, index.header.session));
    }
    if run.options.level < VerifyLevel::Full {
        run.report.stats.chunks_checked += held.entries();
    }
    let len_differs = facts.named.is_some_and(|len| len != index.pack_len);
    if facts.named.is_some() && packs.index_whole && (len_differs || held != facts.indexed) {
        run.found(Problem {
            pack: Some(*pack),
            path: Some(layout::pack_index(pack)),
            text: format!("The index and the .idx of pack {pack} list different chunks"),
            healable: true,
            ..Problem::new("ERR_INDEX_CORRUPT")
        });
    }
}

/// Bytes of a misplaced pack that are read per call.
const PIECE: usize = 512 << 10;
/// Packs up to this length are rebuilt completely to check whether they can be; of longer ones only
/// the bad rows are.
const REBUILD_WHOLE: u64 = 64 << 20;

/// True when parity can rebuild the pack so that its hash matches its id.
pub(super) fn is_rebuildable(run: &Run<'_>, pack: &PackId) -> bool {
    if run.repo.parity_shape().is_none() {
        return false;
    }
    let Ok(groups) = run.noted(run.repo.parity_groups()) else {
        return false;
    };
    is_rebuildable_with(run, &groups, pack)
}

/// Same as [`is_rebuildable`], with groups that are already loaded.
pub(super) fn is_rebuildable_with(run: &Run<'_>, groups: &Groups, pack: &PackId) -> bool {
    groups.groups_of(pack).any(|head| rebuilds(run, head, pack))
}

fn rebuilds(run: &Run<'_>, head: &GroupHead, pack: &PackId) -> bool {
    let storage = run.storage();
    let Ok(record) = run.noted(parity::read_record(storage, &head.id)) else {
        return false;
    };
    let len = head
        .position(pack)
        .and_then(|at| head.members.get(at))
        .map_or(0, |member| member.len);
    if len <= REBUILD_WHOLE {
        return parity::rebuild_pack(storage, &record, pack).is_ok();
    }
    parity::damaged_rows(storage, &record, pack).is_ok_and(|ranges| {
        ranges.into_iter().all(|rows| {
            let step = usize::try_from(REBUILD_WHOLE).unwrap_or(usize::MAX) / parity::ROW_LEN;
            (rows.start..rows.end).step_by(step).all(|start| {
                let end = rows
                    .end
                    .min(start.saturating_add(u32::try_from(step).unwrap_or(u32::MAX)));
                parity::rebuild_rows(storage, &record, pack, start..end).is_ok()
            })
        })
    })
}

/// The ids that match the contents of bad packs and of files in quarantine: a repair moves such a
/// pack to its own path. Reads all of these files, so it is called only when a pack cannot be
/// rebuilt otherwise.
pub(super) fn misplaced_packs(run: &Run<'_>, packs: &Packs) -> HashSet<PackId> {
    let bad = packs.table.iter().filter(|(_, facts)| facts.bad.is_some());
    let keys = bad.map(|(pack, _)| layout::pack(pack));
    let kept = run.noted(run.storage().list(layout::QUARANTINE)).unwrap_or_default();
    let keys = keys.chain(kept.into_iter().map(|file| file.key));
    keys.filter_map(|key| hash_of(run, &key)).collect()
}

/// The SHA-256 of a file; `None` when it cannot be read completely, or when the run is to stop.
fn hash_of(run: &Run<'_>, key: &str) -> Option<PackId> {
    let len = run.storage().size(key).ok()??;
    if len > run.repo.config().longest_pack() {
        return None;
    }
    let mut hash = Sha256::new();
    let mut buffer = vec![0; PIECE];
    let mut offset = 0;
    while offset < len {
        run.check_running().ok()?;
        let piece = usize::try_from(len - offset).unwrap_or(PIECE).min(PIECE);
        let piece = buffer.get_mut(..piece)?;
        run.storage().get_range(key, offset, piece).ok()?;
        hash.update(&*piece);
        offset += piece.len() as u64;
    }
    Some(PackId(hash.finalize().into()))
}
