//! A model of the protocol of commit and prune on object stores, which is designed and explored
//! here, and not built yet: `docs/invariants.md` §16 states it, with the names of the steps (W1 to
//! W5, P1 to P6, C1 to C3) and rules (A1 to A15) that are used here.
//!
//! There are no locks. A request is either carried out and answered in one step, or sent without an
//! answer: then the store carries it out at any later time or never, and its client repeats it,
//! gives up, or is never scheduled again, which is a crash, a frozen process and a sleeping machine
//! in one. Each look at the leases treats any of them as stale.
//!
//! In every state each manifest that is listed is complete; an acknowledged one that was not
//! forgotten exists; a revoked session never has one; a live entry names a pack that exists or is
//! marked; and no reader fails. In every quiet state, and in some configurations in every state
//! with all processes stopped for good, one undisturbed prune leaves nothing that is not needed.
//!
//! | file | steps |
//! |---|---|
//! | `writer` | W1 to W5 |
//! | `prune`, `pages` | P1, and listings of the index that take two pages |
//! | `condemn` | P2, P3 |
//! | `sweep` | P4 to P6 |
//! | `compaction` | C1 to C3 |
//! | `others` | forget, unlock, restore, and requests that are carried out late |

mod compaction;
mod condemn;
mod configurations;
mod extended;
mod left_out;
mod marks;
mod others;
mod pages;
mod prune;
mod records;
mod reindex;
mod rules;
mod search;
mod state;
mod sweep;
mod writer;

use rules::Rules;
use std::time::Instant;

/// Most states of a configuration that are explored at every change.
const FEW: usize = 80_000;
/// Most states of a configuration that are ever explored, 300 bytes each.
const MANY: usize = 14_000_000;
/// Most states within which a violation must be found at every change; the configurations that
/// need more are large ones.
const QUICK: usize = 500_000;
/// Most random walks of a configuration at every change.
const FEW_WALKS: usize = 300;

fn is_deep() -> bool {
    std::env::var_os("CONTAINERARCHIVE_DEEP").is_some()
}

fn explore(rules: &Rules, most: usize) {
    let start = Instant::now();
    let found = if rules.walks > 0 {
        search::walk(rules, if is_deep() { rules.walks } else { FEW_WALKS })
    } else {
        search::explore(rules, most)
    };
    let how = match (&found.violation, found.complete) {
        (Some(_), _) => "VIOLATION",
        (None, true) => "holds",
        (None, false) => "holds as far as explored",
    };
    println!(
        "remote model: {}: {} states, {} steps, {} quiet, {} skipped, {:.1} s: {how}",
        rules.name,
        found.states,
        found.steps,
        found.quiet,
        found.skipped,
        start.elapsed().as_secs_f64()
    );
    match (rules.loses, found.violation) {
        (None, None) => {}
        (Some(loss), Some((violation, way))) if violation.contains(loss) => {
            println!("    {violation}, after {} steps:\n    {}", way.len(), way.join("; "));
        }
        (_, Some((violation, way))) => panic!("{}: {violation}:\n  {}", rules.name, way.join("\n  ")),
        (Some(loss), None) => panic!("{}: no violation was found, but expected: {loss}", rules.name),
    }
}

#[test]
fn the_protocol_on_object_stores_holds() {
    for rules in [configurations::sound(), extended::sound()].concat() {
        explore(&rules, if is_deep() { MANY } else { FEW });
    }
}

#[test]
fn leaving_out_any_rule_on_object_stores_loses_data() {
    let all = [left_out::broken(), extended::broken()].concat();
    for rules in all.iter().filter(|rules| is_deep() || !rules.large) {
        explore(rules, if rules.large { MANY } else { QUICK });
    }
}

#[test]
fn random_walks_on_object_stores() {
    for rules in configurations::walks().iter().filter(|rules| is_deep() || !rules.large) {
        explore(rules, MANY);
    }
}
