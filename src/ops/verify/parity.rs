//! The parity groups: at `quick` which groups there are and whom they protect, from `standard` on every byte of their files.

use super::manifests::Manifests;
use super::packs::{Packs, is_listed, is_rebuildable_with};
use super::{Problem, Run};
use crate::error::Result;
use crate::id::{GroupId, PackId, SnapshotId};
use crate::layout;
use crate::pack::PackHeader;
use crate::parity::{self, Damage, GroupHead, GroupRecord, Groups, Part};
use crate::storage::{self, ErrorKind, FailedRead};

/// Loads the groups and looks at what shows without reading them whole. `None` when the repository has no parity.
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
        // a group that is being replaced can be missed, and it tells what can be healed
        let Some(again) = load(run) else { return Ok(None) };
        groups = again;
    }
    check_parts(run, &groups, packs, manifests)?;
    check_members(run, &groups, packs, manifests)?;
    // a group that cannot be read may protect them
    let all_read = run.noted(groups.check_read()).is_ok();
    for pack in groups.unprotected(&protected).into_iter().filter(|_| all_read) {
        run.check_running()?;
        // in this order: what a prune takes out of its group stands in a kill list until it is gone
        if !is_listed(run, &pack) && run.is_there(&layout::pack(&pack)) {
            unprotected(run, packs, manifests, &pack);
        }
    }
    for id in groups.superseded() {
        let text = format!("Parity group {id} is superseded and not yet deleted");
        run.note("NOTE_SUPERSEDED_GROUP", None, Some(Part::Group.key(id)), text);
    }
    for id in groups.incomplete() {
        let text = format!("Parity group {id} is not complete: being written, or left behind");
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
        let text = format!("No parity group protects pack {pack}, which an interrupted session left behind");
        run.note("NOTE_PACK_UNPROTECTED", Some(*pack), None, text);
    }
}

/// True for packs of committed sessions, and for those that a segment names and whose session is not at work: any snapshot may
/// rely on these, also where their own one was forgotten or came to nothing. Where there is no snapshot, none does.
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

/// What loading saw of missing and damaged files. From `standard` on, those of live groups are read whole later.
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
            // never published whole, or no longer: a group that lost its packs as well protects nothing
            let needed = head.is_some_and(|head| is_needed(run, groups, head, packs, manifests));
            if run.is_there(&key) || !needed {
                continue;
            }
        } else if !run.is_there(&key) {
            continue; // superseded meanwhile
        }
        // with members that are condemned, the others get another group
        let others = |head: &GroupHead| {
            head.members
                .iter()
                .any(|member| packs.may_have_left_group(&member.pack))
        };
        let healable = head.is_some_and(|head| heals(run, &problem.group, problem.part) || others(head));
        if problem.reason == Damage::Unreadable {
            run.note_unread(&storage::Error::new(ErrorKind::Io, "get", key), healable);
            continue;
        }
        found(run, &key, &problem.reason.to_string(), healable);
    }
    Ok(())
}

/// True when the files of a group must be there: a pack in use needs it, which no prune is deleting,
/// and it is not a successor whose names a power cut took while its predecessors are still there.
fn is_needed(run: &Run<'_>, groups: &Groups, head: &GroupHead, packs: &Packs, manifests: &Manifests) -> bool {
    let lacks = |id: &GroupId| {
        let mut problems = groups.problems().iter();
        problems.any(|problem| problem.group == *id && problem.reason == Damage::Missing)
    };
    let relies = head.members.iter().any(|member| {
        is_in_use(run, packs, manifests, &member.pack)
            // one that is gone is reported for itself, if somebody needs it
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

/// True when packs that snapshots need can be made again only from a group that this pack is in too.
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

/// Members of needed groups of which nothing else is left: no segment names them, and neither they nor their `.idx` are
/// there.
fn check_members(run: &mut Run<'_>, groups: &Groups, packs: &Packs, manifests: &Manifests) -> Result<()> {
    for head in groups.live() {
        run.check_running()?;
        let unknown = head.members.iter().map(|member| member.pack);
        let unknown = unknown.filter(|pack| !packs.table.contains_key(pack) && !packs.is_condemned(pack));
        let lost: Vec<PackId> = unknown.filter(|pack| !packs.exists(run, pack)).collect();
        if lost.is_empty() || !is_needed(run, groups, head, packs, manifests) {
            continue;
        }
        // dissolved meanwhile, and its packs pruned
        if !run.is_there(&Part::Group.key(&head.id)) && !run.is_there(&Part::Shard(0).key(&head.id)) {
            continue;
        }
        for pack in lost {
            let healable = is_rebuildable_with(run, groups, &pack);
            run.found(Problem {
                pack: Some(pack),
                path: Some(layout::pack(&pack)),
                text: format!("Pack {pack} is missing; the parity of others relies on it"),
                healable,
                ..Problem::new("ERR_PACK_MISSING")
            });
        }
    }
    Ok(())
}

fn found(run: &mut Run<'_>, key: &str, reason: &str, healable: bool) {
    // loading and reading may both find it
    let mut known = run.report.problems.iter().chain(&run.doubtful);
    if !known.any(|known| known.path.as_deref() == Some(key)) {
        run.found_in("ERR_PARITY_CORRUPT", key, reason, healable);
    }
}

/// True when the file can be made again from the record and the members.
fn heals(run: &Run<'_>, group: &GroupId, part: Part) -> bool {
    parity::read_record(run.storage(), group)
        .and_then(|record| parity::rebuild_file(run.storage(), &record, part))
        .is_ok()
}

/// One copy of the settings, and the lengths of the others; `standard` compares all of them.
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
            "its copy of config.json is another one",
            false,
        );
    }
}

/// Reads every file of every live group.
pub(super) fn check_files(run: &mut Run<'_>, groups: &Option<Groups>) -> Result<()> {
    let Some(groups) = groups else { return Ok(()) };
    let heads: Vec<&GroupHead> = groups.live().filter(|head| run.is_in_subset(&head.id.0)).collect();
    for head in &heads {
        let parts = (0..head.shape.parity).map(Part::Shard).chain([Part::Group]);
        run.progress.total_bytes += parts.map(|part| head.file_len(part)).sum::<u64>();
    }
    for head in heads {
        run.check_running()?;
        match run.noted(parity::read_record(run.storage(), &head.id)) {
            Ok(record) => check_group(run, &record)?,
            Err(error) if error.unreadable().is_some() => {}
            Err(error) => {
                // all are gone when it was superseded meanwhile
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
    for part in (0..head.shape.parity).map(Part::Shard).chain([Part::Group]) {
        run.check_running()?;
        let key = part.key(&head.id);
        let check = || parity::check_part(run.storage(), record, part);
        let checked = match check() {
            // once is no time
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
            // whether it must be there was judged by its name
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
            "its copy of config.json is another one",
            false,
        );
    }
    Ok(())
}

/// The session that wrote a missing pack, from its first row as parity has it.
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
