//! Growth of forgotten records and tombstones: a merge of them. List; PUT a merged record, and
//! wait for the answer; DELETE what it replaces. A tombstone may be deleted only if each commit
//! lists the merged record of tombstones after its manifest was created and before it is reported.

use super::rules::{Left, Rules};
use super::state::*;

pub fn step(state: &State, rules: &Rules, out: &mut Out<'_>) {
    let Some(at) = state.gatherer.at.next() else { return };
    let mut turn = Turn {
        state,
        rules,
        i: 0,
        who: Who::Gatherer,
        out,
    };
    let delete_first = rules.lacks(Left::MergedRecordFirst);
    let me = state.gatherer;
    let mut next = *state;
    match at {
        Gather::List => {
            let after = &mut next.gatherer;
            after.records = state.records;
            if rules.gathers_tombstones {
                let there = (0..WRITERS).filter(|writer| state.snapshots[FIRST + writer] == TOMBSTONE);
                after.tombstones = there.fold(0, |all, writer| all | 1 << writer);
            }
            if after.records | after.tombstones == 0 {
                return;
            }
            after.at = At::Next(if delete_first { Gather::Delete } else { Gather::Put });
            turn.tell(next, "lists records and tombstones", None);
        }
        Gather::Put => {
            next.merged_records |= me.records;
            if !rules.lacks(Left::RecordOfTombstones) {
                next.revoked_records |= me.tombstones;
            }
            next.gatherer.at = At::Next(Gather::Delete);
            if delete_first {
                next.gatherer = Gatherer {
                    at: At::Done,
                    ..Gatherer::default()
                };
            }
            turn.tell(next, "PUT of a merged record", None);
        }
        Gather::Delete => {
            // the sets stay as they are: a PUT that comes last still needs them
            let record = members(state.records & me.records).next();
            let tombstone = members(me.tombstones).find(|writer| state.snapshots[FIRST + writer] == TOMBSTONE);
            if let Some(snapshot) = record {
                next.records &= !(1 << snapshot);
                return turn.tell(next, "DELETE of the record of", Some(snapshot));
            }
            if let Some(writer) = tombstone {
                next.snapshots[FIRST + writer] = 0;
                return turn.tell(next, "DELETE of the tombstone of writer", Some(writer + 1));
            }
            if delete_first {
                next.gatherer.at = At::Next(Gather::Put);
            } else {
                next.gatherer = Gatherer {
                    at: At::Done,
                    ..Gatherer::default()
                };
            }
            turn.tell(next, "has deleted what is merged", None);
        }
    }
}
