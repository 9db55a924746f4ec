//! Verifies an encrypted repository without its keys: that every file is the one that was stored.
//!
//! A pack's id is the hash of its bytes; an `.idx` and a parity record contain a hash, the other
//! small files a checksum. The parity groups and the `.idx` files determine which packs must exist;
//! the unencrypted pack headers determine which session wrote them. Sealed data is not opened: of a
//! segment only the header is checked (a segment can be rebuilt from the packs), no chunk is
//! decoded, no list is walked. Therefore the affected snapshots are not known, and a lost manifest
//! shows only as packs without one. A file that was replaced by another valid one is found only by
//! a verify with the keys.

use super::hits::Damage;
use super::manifests::Manifests;
use super::packs::{Bad, PackFacts, Packs};
use super::{Problem, Run, Small, VerifyLevel, bodies, packs, parity, small};
use crate::error::{Error, Result};
use crate::id::{PackId, SegmentId, SnapshotId};
use crate::index;
use crate::layout;
use crate::pack::PackHeader;
use crate::pack::format::{HEADER_LEN, IndexParts};
use crate::snapshot::tombstone::is_tombstone;
use crate::snapshot::{self, MAX_MANIFEST_LEN, manifest};
use crate::storage::{ErrorKind, FailedRead};

/// Largest `.idx` that is read, in bytes.
const MAX_INDEX_LEN: u64 = 4 << 20;

pub(super) fn check(run: &mut Run<'_>) -> Result<()> {
    if run.options.level == VerifyLevel::Full {
        return Err(Error::PassphraseRequired);
    }
    small::check(run)?;
    let mut manifests = Manifests::default();
    let damaged = read_manifests(run, &mut manifests)?;
    let mut packs = packs::list(run)?;
    check_segments(run)?;
    run.plan(&packs);
    check_packs(run, &mut packs, &manifests)?;
    report_manifests(run, &packs, damaged);
    let groups = parity::check_heads(run, &packs, &manifests)?;
    let mut damage = Damage::default();
    if run.options.level > VerifyLevel::Quick {
        bodies::check(run, &mut packs, &mut damage)?;
        parity::check_files(run, &groups)?;
    }
    damage.add_packs(&packs);
    damage.report(run, &packs, groups.as_ref(), &manifests)?;
    let text = "Index segments, lists and chunks were not opened, because the handle has no keys";
    run.note("NOTE_NO_KEYS", None, None, text.to_owned());
    Ok(())
}

/// Reads every manifest without opening it; returns those that are damaged, with the reason.
fn read_manifests(run: &mut Run<'_>, manifests: &mut Manifests) -> Result<Vec<(SnapshotId, String)>> {
    let mut damaged = Vec::new();
    for file in run.list(layout::SNAPSHOTS) {
        run.check_running()?;
        let Some(id) = layout::id_of(&file.key, ".json").map(SnapshotId) else {
            continue;
        };
        let reason = match run.read_small(&file.key, MAX_MANIFEST_LEN) {
            Small::Missing => continue,
            Small::Unreadable => None,
            Small::Bad(reason) => Some(reason),
            Small::Bytes(bytes) if is_tombstone(&bytes, &id) => continue,
            Small::Bytes(bytes) => match manifest::check_sealed(&bytes, &id) {
                Ok(()) => None,
                Err(snapshot::Error::UnsupportedVersion(version)) => {
                    let error = Error::UnsupportedFormat {
                        what: format!("version {version} of snapshot {id}"),
                    };
                    run.found_in(error.code(), &file.key, &error.to_string(), false);
                    None
                }
                Err(error) => Some(error.to_string()),
            },
        };
        manifests.committed.insert(id);
        run.report.stats.snapshots_checked += 1;
        damaged.extend(reason.map(|reason| (id, reason)));
    }
    Ok(damaged)
}

/// Reports the damaged manifests. The copy of a manifest is in a meta pack of the session with its
/// id. Whether the copy exists is not known, only whether that session's packs do.
fn report_manifests(run: &mut Run<'_>, packs: &Packs, damaged: Vec<(SnapshotId, String)>) {
    for (id, reason) in damaged {
        let key = layout::snapshot(&id);
        if !run.is_there(&key) {
            continue; // forgotten in the meantime
        }
        let of_session = |facts: &PackFacts| facts.session == Some(id) && facts.bad.is_none();
        run.found(Problem {
            snapshots: vec![id],
            healable: packs.table.values().any(of_session),
            text: format!("The manifest of snapshot {id}: {reason}"),
            path: Some(key),
            ..Problem::new("ERR_MANIFEST_CORRUPT")
        });
    }
}

fn check_segments(run: &mut Run<'_>) -> Result<()> {
    for file in run.list(layout::INDEX) {
        run.check_running()?;
        let Some(id) = layout::id_of(&file.key, ".seg").map(SegmentId) else {
            continue;
        };
        match run.noted(index::check_header(run.storage(), &run.repo.config().id, id)) {
            Ok(()) => {}
            // merged in the meantime
            Err(index::Error::Storage(error)) if error.kind == ErrorKind::NotFound => {}
            Err(index::Error::Damaged {
                reason: index::Damage::ForeignRepository,
                ..
            }) => run.note_foreign(file.key),
            Err(error) if error.unreadable().is_some() => {}
            Err(error) => {
                let healable = !matches!(error, index::Error::Unsupported { .. });
                run.found_in("ERR_INDEX_CORRUPT", &file.key, &error.to_string(), healable);
            }
        }
    }
    Ok(())
}

/// Reads every `.idx` and compares it with its pack.
fn check_packs(run: &mut Run<'_>, packs: &mut Packs, manifests: &Manifests) -> Result<()> {
    let mut table = std::mem::take(&mut packs.table);
    packs::set_foreign_aside(run, &mut table);
    for (pack, facts) in &mut table {
        run.check_running()?;
        check_pack(run, packs, pack, facts, manifests);
        let quick = run.options.level == VerifyLevel::Quick;
        run.report.stats.packs_checked += u64::from(quick && facts.len.is_some());
        run.advance(facts.index_len.unwrap_or(0), u64::from(quick));
    }
    packs.table = table;
    Ok(())
}

fn check_pack(run: &mut Run<'_>, packs: &Packs, pack: &PackId, facts: &mut PackFacts, manifests: &Manifests) {
    let parts = read_index(run, pack);
    let header = match &parts {
        Ok(parts) => PackHeader::decode(&parts.header).ok(),
        Err(_) => own_header(run, pack),
    };
    facts.index_good = parts.is_ok();
    facts.session = header.map(|header| header.session);
    let committed = facts
        .session
        .is_some_and(|session| manifests.committed.contains(&session));
    let condemned = packs.is_condemned(pack);
    let expected_len = parts.as_ref().ok().map(|parts| parts.pack_len);
    match (facts.len, &parts) {
        (Some(len), _) => {
            if let Some(expected) = expected_len.filter(|expected| *expected != len) {
                facts.bad = Some(Bad::Corrupt(format!("it has {len} bytes instead of {expected}")));
            }
            // packs that the session of a snapshot wrote may be needed
            facts.named = (committed && !condemned).then_some(len);
            if !committed {
                note_orphan(run, pack);
            }
        }
        (None, Ok(_)) if committed && !condemned && packs::is_missing(run, pack) => {
            facts.bad = Some(Bad::Missing { committed });
        }
        (None, _) => {
            let text = format!("The .idx of pack {pack} exists, but the pack does not");
            run.note("NOTE_ORPHAN_INDEX", Some(*pack), Some(layout::pack_index(pack)), text);
        }
    }
    if let Err(Some(reason)) = parts
        && facts.len.is_some()
        && run.is_there(&layout::pack(pack))
    {
        report_index(run, pack, &reason, facts.session.is_none() || committed && !condemned);
    }
}

/// Reports a bad `.idx`. `needed` is false for one that a power loss may have removed, or that is
/// about to be deleted.
fn report_index(run: &mut Run<'_>, pack: &PackId, reason: &str, needed: bool) {
    let key = layout::pack_index(pack);
    if !needed && !run.is_there(&key) {
        let text = format!("Pack {pack} has no .idx; the trailer of the pack is read instead");
        run.note("NOTE_NO_PACK_INDEX", Some(*pack), Some(key), text);
        return;
    }
    run.found(Problem {
        pack: Some(*pack),
        text: format!("The .idx of pack {pack}: {reason}"),
        path: Some(key),
        // it is rebuilt from the pack, which `standard` reads
        healable: true,
        ..Problem::new("ERR_PACK_INDEX_CORRUPT")
    });
}

fn note_orphan(run: &mut Run<'_>, pack: &PackId) {
    let text = format!(
        "Pack {pack} was written by a session without a snapshot: it is active, has ended, was forgotten, or its \
         manifest is lost"
    );
    run.note("NOTE_ORPHAN_PACK", Some(*pack), Some(layout::pack(pack)), text);
}

/// The `.idx` of a pack, or the reason why it is bad; `None` when it could not be read.
fn read_index(run: &Run<'_>, pack: &PackId) -> std::result::Result<IndexParts, Option<String>> {
    let bytes = match run.read_small(&layout::pack_index(pack), MAX_INDEX_LEN) {
        Small::Bytes(bytes) => bytes,
        Small::Missing => return Err(Some("the file is missing".to_owned())),
        Small::Bad(reason) => return Err(Some(reason)),
        Small::Unreadable => return Err(None),
    };
    let parts = IndexParts::decode(&bytes).map_err(|error| Some(error.to_string()))?;
    let header = PackHeader::decode(&parts.header).map_err(|error| Some(error.to_string()))?;
    if parts.pack != *pack {
        return Err(Some("the file belongs to another pack".to_owned()));
    }
    if header.repo != run.repo.config().id {
        return Err(Some("the file belongs to another repository".to_owned()));
    }
    Ok(parts)
}

fn own_header(run: &Run<'_>, pack: &PackId) -> Option<PackHeader> {
    let mut bytes = [0; HEADER_LEN];
    run.noted(run.storage().get_range(&layout::pack(pack), 0, &mut bytes))
        .ok()?;
    PackHeader::decode(&bytes).ok()
}
