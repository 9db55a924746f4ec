//! A model of the protocol of ingest, prune, merge and parity that is explored exhaustively, with
//! two chunks and a few packs. It was explored before the engine was written, and is kept in step
//! with the engine.
//!
//! It tries every interleaving of two ingests, two prunes, a merge, a restore and forgets, with
//! crashes and power cuts at every step, with processes that pause for any time, and with kill
//! lists that a tool copies into the folder. In each state every manifest is complete and every
//! acknowledged one exists; a reader finds what was committed; and in each quiet state the next
//! prune deletes everything that is not needed. Then each rule is left out once, and the loss must
//! be found.
//!
//! The functions of the engine that the steps represent:
//!
//! | step | function |
//! |---|---|
//! | writer: lease, kill lists, segments | `ops::ingest::ingest`, `repo::Session::start` |
//! | writer: chooses packs to reuse | `Session::reuse` |
//! | writer: puts a pack, a segment | `repo::pack_sink`, `Session::publish` |
//! | writer: commits | `ops::ingest::commit::put_manifest`, `Session::relied_packs_are_good` |
//! | writer: rechecks | `ops::ingest::commit::recheck_chunks` |
//! | prune: finishes old lists | `ops::prune::sweep::finish_kill_lists` |
//! | prune: spares packs in them that snapshots need | `catalog::needed::needed_before_deletion` |
//! | prune: lists | `ops::prune::survey::Survey::take`, then `Repository::refresh_index` |
//! | prune: plans | `ops::prune::plan::make` |
//! | prune: puts copies | `ops::prune::rewrite::copy_out` |
//! | prune: publishes its kill list | `ops::prune::decide::decide` |
//! | prune: deletes, drops entries | `ops::prune::sweep::sweep`, `Repository::drop_from_index` |
//! | merge | `Repository::merge_index_if_due`, `index::GlobalIndex::merge` |
//! | reader | `repo::read::get_chunk` |
//! | parity: grows the tail, own group | `repo::protect::Protection::finish` |
//! | parity: a pack leaves its group | `repo::dissolve` |
//!
//! `remote` is a model of another protocol, for object stores, which is not built.
//!
//! `docs/invariants.md` lists the differences between model and engine. Not modelled: more than two
//! chunks; torn writes and lost packs (the crash tests of the engine have these); damage; hints,
//! which only make writers avoid packs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test that prints what it explored"
)]

mod configurations;
mod others;
mod parity;
mod pruner;
mod remote;
mod rules;
mod search;
mod state;
mod writer;

use rules::Rules;
use std::time::Instant;

/// Most states of a configuration that are explored at every change.
const FEW: usize = 170_000;
/// Most states of a configuration that are ever explored, 100 bytes each.
const MANY: usize = 30_000_000;

fn explore(rules: &Rules, most: usize) {
    let start = Instant::now();
    let found = search::explore(rules, most);
    let how = match (&found.violation, found.complete) {
        (Some(_), _) => "VIOLATION",
        (None, true) => "holds",
        (None, false) => "holds as far as explored",
    };
    println!(
        "model: {}: {} states, {} steps, {} quiet, {:.1} s: {how}",
        rules.name,
        found.states,
        found.steps,
        found.quiet,
        start.elapsed().as_secs_f64()
    );
    match (rules.broken, found.violation) {
        (false, None) => {}
        (true, Some((violation, way))) => println!("    {violation}, after {} steps", way.len()),
        (false, Some((violation, way))) => panic!("{}: {violation}:\n  {}", rules.name, way.join("\n  ")),
        (true, None) => panic!("{}: no violation was found", rules.name),
    }
}

#[test]
fn the_protocol_holds() {
    let is_deep = std::env::var_os("CONTAINERARCHIVE_DEEP").is_some();
    for rules in configurations::sound() {
        explore(&rules, if is_deep { MANY } else { FEW });
    }
}

#[test]
fn leaving_out_any_rule_loses_data() {
    for rules in configurations::broken() {
        explore(&rules, MANY);
    }
}
