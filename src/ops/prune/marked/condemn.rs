//! P2 to P5: puts the mark, settles the sessions that may not have seen it, decides again, deletes.

use super::super::plan::{Done, Plan};
use super::super::survey::Survey;
use super::super::sweep::delete_packs;
use super::super::work::Work;
use super::again;
use super::put::{new_mark, put_part};
use crate::error::Result;
use crate::id::{PackId, SnapshotId};
use crate::layout;
use crate::lock::marks::MARK_PACKS;
use crate::lock::{MarkId, MarkPart, lease};
use crate::repo::SeededBug;
use std::collections::{BTreeSet, HashSet};

/// A mark that this run has put, or continues.
struct Open {
    id: MarkId,
    packs: BTreeSet<PackId>,
    /// The sessions that blocked it; `None` when no prune has got so far with it.
    waits_for: Option<Vec<SnapshotId>>,
}

/// Condemns the packs that the plan does not keep, and deletes those that no session can rely on
/// any more. The others wait for a later prune.
pub(super) fn condemn(work: &mut Work<'_>, survey: &Survey, plan: &mut Plan, done: &mut Done) -> Result<()> {
    let unneeded: BTreeSet<PackId> = plan.deletable().map(|pack| pack.id).collect();
    let mut open: Vec<Open> = (survey.open.iter())
        .map(|mark| Open {
            id: mark.id,
            packs: mark.packs.iter().copied().collect(),
            waits_for: mark.waits_for.clone(),
        })
        .collect();
    let marked: HashSet<PackId> = open.iter().flat_map(|mark| &mark.packs).copied().collect();
    let new: Vec<PackId> = unneeded
        .iter()
        .filter(|pack| !marked.contains(*pack))
        .copied()
        .collect();
    // P2. A pack that was swept before is condemned again: it came back through a put without an
    // answer (rule A13)
    for packs in new.chunks(MARK_PACKS) {
        open.push(put_mark(work, packs)?);
    }
    // P3, after the answers of P2
    let blocking = settle_sessions(work)?;
    let mut ready: Vec<Open> = Vec::new();
    for mark in open {
        let blocks = match &mark.waits_for {
            Some(sessions) => sessions.iter().any(|session| blocking.contains(session)),
            None => !blocking.is_empty(),
        };
        match (blocks, &mark.waits_for) {
            (false, _) => ready.push(mark),
            (true, None) => put_part(
                work.repo,
                mark.id,
                MarkPart::Wait,
                Vec::new(),
                blocking.iter().copied().collect(),
            )?,
            (true, Some(_)) => {}
        }
    }
    // P4
    let stale = plan.stale();
    let decidable = |pack: &&PackId| unneeded.contains(*pack) || stale.contains(*pack);
    let candidates = ready.iter().flat_map(|mark| &mark.packs).filter(decidable);
    let candidates: BTreeSet<PackId> = candidates.copied().collect();
    plan.release(&candidates);
    let decided = match candidates.is_empty() {
        true => candidates,
        false => again::decide(work, survey, plan, candidates)?,
    };
    // P5
    let there: HashSet<PackId> = decided.intersection(&unneeded).copied().collect();
    delete_packs(work.repo, &there, work.monitor)?;
    for mark in &ready {
        let swept = mark.packs.intersection(&decided).copied().collect();
        put_part(work.repo, mark.id, MarkPart::Swept, swept, Vec::new())?;
    }
    done.condemned = Some(there.into_iter().collect());
    Ok(())
}

fn put_mark(work: &Work<'_>, packs: &[PackId]) -> Result<Open> {
    let id = new_mark(work.repo, 0)?;
    put_part(work.repo, id, MarkPart::Mark, packs.to_vec(), Vec::new())?;
    Ok(Open {
        id,
        packs: packs.iter().copied().collect(),
        waits_for: None,
    })
}

/// P3: lists the leases, and revokes the sessions that are not believed to be alive. Returns the
/// others, sorted: they may have begun before the mark, and not know it. A session that is not
/// listed has ended, was revoked, or reads the marks after this.
fn settle_sessions(work: &Work<'_>) -> Result<BTreeSet<SnapshotId>> {
    let mut blocking = BTreeSet::new();
    if work.repo.has_bug(SeededBug::NoBlocking) {
        return Ok(blocking);
    }
    for lease in lease::list(work.repo.storage())? {
        let is_writer = lease.may_leave_copies() && Some(lease.session) != work.own;
        match is_writer {
            false => {}
            true if lease.held && !work.options.force => {
                blocking.insert(lease.session);
            }
            true if work.repo.has_bug(SeededBug::NoTombstone) => {
                work.repo.storage().delete(&layout::lease(&lease.session))?;
            }
            true => work.repo.end_session(&lease)?,
        }
    }
    Ok(blocking)
}
