//! Checks the parity groups: at `quick` which groups exist and which packs they protect, from
//! `standard` on every byte of their files.

use super::manifests::Manifests;
use super::packs::{Packs, is_listed, is_rebuildable_with};
use super::{Problem, Run};
use crate::error::Result;
use crate::id::{GroupId, PackId, SnapshotId};
use crate::layout;
use crate::pack::PackHeader;
use crate::parity::{self, Damage, GroupHead, GroupRecord, Groups, Part};
use crate::storage::{self, ErrorKind, FailedRead};

/// Loads the groups and checks everything that does not require reading them completely. `None`
/// when the repository has no parity.
pub(super) fn check_heads(run: &mut Run<'_>, packs: &Packs, manifests: &Manifests) -> Result<Option<Groups>> {
    if run.repo.parity_shape().is_none() {
        return Ok(None);
    }
    let Some(mut groups) = load(run) else { return Ok(None) };
    let protected: Vec<PackId> = packs
        .table
        .iter()
        .filter(|(_, facts)| facts.named.is_some() && facts.len.is_some())
        .map(|(pack, _)| *pack)
        .collect();
    if !groups.unprotected(&protected).is_empty() {
        // a group that is being replaced can be missed, and it determines what can be repaired
        let Some(again) = load(run) else { return Ok(None) };
        groups = again;
    }
    check_parts(run, &groups, packs, manifests)?;
    check_members(run, &groups, packs, manifests)?;
    // an unreadable group may protect them
    let all_read = run.noted(groups.check_read()).is_ok();
    for pack in groups.unprotected(&protected).into_iter().filter(|_| all_read) {
        run.check_running()?;
        // checked in this order: a pack that a prune removes from its group is in a kill list until
        // it is deleted
        if !is_listed(run, &pack) && run.is_there(&layout::pack(&pack)) {
            unprotected(run, packs, manifests, &pack);
        }
    }
    for id in groups.superseded() {
        let text = format!("Parity group {id} is superseded and not yet deleted");
        run.note("NOTE_SUPERSEDED_GROUP", None, Some(Part::Group.key(id)), text);
    }
    for id in groups.incomplete() {
        let text = format!("Parity group {id} is incomplete: it is being written, or is a leftover");
        run.note("NOTE_INCOMPLETE_GROUP", None, Some(Part::Group.key(id)), text);
    }
    check_config_copy(run, &groups);
    Ok(Some(groups))
}

fn load(run: &mut Run<'_>) -> Option<Groups> {
    match run.noted(run.repo.parity_groups()) {
        Ok(groups) => Some(groups),
        Err(error) => {
            if error.unreadable().is_none() {
                run.found_in("ERR_STORAGE", layout::PARITY, &error.to_string(), false);
            }
            None
        }
    }
}

fn unprotected(run: &mut Run<'_>, packs: &Packs, manifests: &Manifests, pack: &PackId) {
    let facts = packs.table.get(pack);
    if is_in_use(run, packs, manifests, pack) {
        run.found(Problem {
            pack: Some(*pack),
            text: format!("No parity group protects pack {pack}"),
            healable: facts.is_some_and(|facts| facts.bad.is_none()),
            ..Problem::new("ERR_PACK_UNPROTECTED")
        });
    } else {
        let text = format!("No parity group protects pack {pack}, a leftover of an interrupted session");
        run.note("NOTE_PACK_UNPROTECTED", Some(*pack), None, text);
    }
}

/// True for packs of committed sessions, and for packs that a segment names and whose session is
/// not active: any snapshot may rely on these, even if the snapshot of that session was forgotten
/// or the session was abandoned. Where no snapshot exists, none does.
fn is_in_use(run: &Run<'_>, packs: &Packs, manifests: &Manifests, pack: &PackId) -> bool {
    packs.table.get(pack).is_some_and(|facts| match facts.session {
        Some(session) if manifests.committed.contains(&session) => true,
        Some(session) => {
            let is_over = || manifests.committed.is_empty() && run.is_there(&layout::forgot_record(&session));
            facts.named.is_some() && !run.is_there(&layout::lease(&session)) && !is_over()
        }
        None => facts.named.is_some(),
    })
}

/// Reports the missing and damaged files that were found while loading. From `standard` on, the
/// files of live groups are read completely later.
fn check_parts(run: &mut Run<'_>, groups: &Groups, packs: &Packs, manifests: &Manifests) -> Result<()> {
    for problem in groups.problems() {
        run.check_running()?;
        let key = problem.part.key(&problem.group);
        let head = groups.get(&problem.group);
        if problem.reason == Damage::ForeignRepository {
            run.note_foreign(key);
            continue;
        }
        if problem.reason == Damage::Missing {
            // never completely published, or being deleted; a group that has also lost its packs
            // protects nothing
            let needed = head.is_some_and(|head| is_needed(run, groups, head, packs, manifests));
            if run.is_there(&key) || !needed {
                continue;
            }
        } else if !run.is_there(&key) {
            continue; // superseded in the meantime
        }
        // when some members are condemned, the others are added to another group
        let is_replaced = |head: &GroupHead| {
            head.members
                .iter()
                .any(|member| packs.may_have_left_group(&member.pack))
        };
        let healable = head.is_some_and(|head| heals(run, &problem.group, problem.part) || is_replaced(head));
        if problem.reason == Damage::Unreadable {
            run.note_unread(&storage::Error::new(ErrorKind::Io, "get", key), healable);
            continue;
        }
        found(run, &key, &problem.reason.to_string(), healable);
    }
    Ok(())
}

/// True when the files of a group must exist: a pack in use that no prune is deleting needs the
/// group, and the group is not a successor whose file names were removed by a power loss while its
/// predecessors still exist.
fn is_needed(run: &Run<'_>, groups: &Groups, head: &GroupHead, packs: &Packs, manifests: &Manifests) -> bool {
    let lacks = |id: &GroupId| {
        let mut problems = groups.problems().iter();
        problems.any(|problem| problem.group == *id && problem.reason == Damage::Missing)
    };
    let relies = head.members.iter().any(|member| {
        is_in_use(run, packs, manifests, &member.pack)
            // a missing pack is reported on its own if a snapshot needs it
            && packs.exists(run, &member.pack)
            && !packs.may_have_left_group(&member.pack)
            && !groups
                .groups_of(&member.pack)
                .any(|other| other.id != head.id && !lacks(&other.id))
    });
    let successor = || {
        let left = |old: &GroupId| groups.get(old).is_some() || groups.superseded().contains(old);
        run.noted(parity::read_record(run.storage(), &head.id))
            .is_ok_and(|record| record.head.superseded.iter().any(left))
    };
    relies && !successor()
}

/// True when packs that snapshots need can be rebuilt only from a group that also contains this
/// pack.
pub(super) fn is_relied_on(
    run: &Run<'_>,
    groups: &Groups,
    packs: &Packs,
    manifests: &Manifests,
    pack: &PackId,
) -> bool {
    groups
        .groups_of(pack)
        .any(|head| is_needed(run, groups, head, packs, manifests))
}

/// Reports members of needed groups of which nothing else is left: no segment names them, and
/// neither they nor their `.idx` exist.
fn check_members(run: &mut Run<'_>, groups: &Groups, packs: &Packs, manifests: &Manifests) -> Result<()> {
    for head in groups.live() {
        run.check_running()?;
        let unknown = head.members.iter().map(|member| member.pack);
        let unknown = unknown.filter(|pack| !packs.table.contains_key(pack) && !packs.is_condemned(pack));
        let lost: Vec<PackId> = unknown.filter(|pack| !packs.exists(run, pack)).collect();
        if lost.is_empty() || !is_needed(run, groups, head, packs, manifests) {
            continue;
        }
        // the group was dissolved in the meantime, and its packs pruned
        if !run.is_there(&Part::Group.key(&head.id)) && !run.is_there(&Part::Shard(0).key(&head.id)) {
            continue;
        }
        for pack in lost {
            let healable = is_rebuildable_with(run, groups, &pack);
            run.found(Problem {
                pack: Some(pack),
                path: Some(layout::pack(&pack)),
                text: format!("Pack {pack} is missing, and the parity of other packs needs it"),
                healable,
                ..Problem::new("ERR_PACK_MISSING")
            });
        }
    }
    Ok(())
}

fn found(run: &mut Run<'_>, key: &str, reason: &str, healable: bool) {
    // both loading and reading may find it
    let mut known = run.report.problems.iter().chain(&run.unconfirmed);
    if !known.any(|known| known.path.as_deref() == Some(key)) {
        run.found_in("ERR_PARITY_CORRUPT", key, reason, healable);
    }
}

/// True when the file can be rebuilt from the record and the members.
fn heals(run: &Run<'_>, group: &GroupId, part: Part) -> bool {
    parity::read_record(run.storage(), group)
        .and_then(|record| parity::rebuild_file(run.storage(), &record, part))
        .is_ok()
}

/// Compares one copy of the settings, and the lengths of the others; `standard` compares all of
/// them.
fn check_config_copy(run: &mut Run<'_>, groups: &Groups) {
    let len = run.repo.config_bytes().len() as u64;
    let first = groups
        .live()
        .map(|head| head.id)
        .find_map(|id| run.noted(parity::read_record(run.storage(), &id)).ok());
    let wrong: Vec<GroupId> = groups
        .live()
        .filter(|head| u64::from(head.config_len) != len)
        .map(|head| head.id)
        .chain(
            first
                .filter(|record| record.config != run.repo.config_bytes())
                .map(|record| record.head.id),
        )
        .collect();
    for id in wrong {
        found(
            run,
            &Part::Group.key(&id),
            "its copy of config.json differs from the one in use",
            false,
        );
    }
}

/// Reads every file of every live group.
pub(super) fn check_files(run: &mut Run<'_>, groups: &Option<Groups>) -> Result<()> {
    let Some(groups) = groups else { return Ok(()) };
    let heads: Vec<&GroupHead> = groups.live().filter(|head| run.is_in_subset(&head.id.0)).collect();
    for head in &heads {
        let parts = Part::all(head.shape.parity);
        run.progress.total_bytes += parts.map(|part| head.file_len(part)).sum::<u64>();
    }
    for head in heads {
        run.check_running()?;
        match run.noted(parity::read_record(run.storage(), &head.id)) {
            Ok(record) => check_group(run, &record)?,
            Err(error) if error.unreadable().is_some() => {}
            Err(error) => {
                // all are missing when the group was superseded in the meantime
                if [Part::Group, Part::Shard(0)]
                    .iter()
                    .any(|part| run.is_there(&part.key(&head.id)))
                {
                    found(run, &Part::Group.key(&head.id), &error.to_string(), false);
                }
            }
        }
    }
    Ok(())
}

fn check_group(run: &mut Run<'_>, record: &GroupRecord) -> Result<()> {
    let head = &record.head;
    for part in Part::all(head.shape.parity) {
        run.check_running()?;
        let key = part.key(&head.id);
        let check = || parity::check_part(run.storage(), record, part);
        let checked = match check() {
            // a read that fails once is repeated
            Ok(state) if state.unreadable.is_some() => check(),
            other => other,
        };
        let mut unread = None;
        let reason = match run.noted(checked) {
            Ok(parity::PartState {
                unreadable: Some(error),
                ..
            }) => {
                unread = Some(error);
                None
            }
            Ok(state) if state.is_intact() => None,
            // a missing file was handled when the groups were loaded
            Ok(state) if state.frame == Some(Damage::Missing) => None,
            Ok(state) => Some(match state.frame {
                Some(damage) => damage.to_string(),
                None => format!("{} of its rows are damaged", state.rows.len()),
            }),
            Err(error) if error.unreadable().is_some() => None,
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = unread {
            let healable = run.noted(parity::rebuild_file(run.storage(), record, part)).is_ok();
            run.note_unread(&error, healable);
        }
        run.advance(head.file_len(part), 0);
        if let Some(reason) = reason
            && run.is_there(&key)
        {
            let healable = parity::rebuild_file(run.storage(), record, part).is_ok();
            found(run, &key, &reason, healable);
        }
    }
    if record.config != run.repo.config_bytes() {
        found(
            run,
            &Part::Group.key(&head.id),
            "its copy of config.json differs from the one in use",
            false,
        );
    }
    Ok(())
}

/// The session that wrote a missing pack, from its first row, rebuilt from parity.
pub(super) fn session_of(run: &Run<'_>, groups: &Groups, pack: &PackId) -> Option<SnapshotId> {
    let record = run
        .noted(parity::read_record(run.storage(), &groups.group_of(pack)?.id))
        .ok()?;
    let row = run
        .noted(parity::rebuild_rows(run.storage(), &record, pack, 0..1))
        .ok()?;
    let header = PackHeader::decode(row.first_chunk()?).ok()?;
    Some(header.session)
}
