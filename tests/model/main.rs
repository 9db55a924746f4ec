//! The protocol of ingest, prune, merging and parity as a model that is explored exhaustively, with two chunks and a
//! handful of packs. It was explored before the engine was written, and is kept in step with it.
//!
//! Every interleaving of two ingests, two prunes, a merge, a restore and forgetting is tried, with crashes and power cuts
//! at every step, with processes that sleep as long as they like, and with kill lists that a tool
//! copies into the folder. In each state every manifest is whole and every acknowledged one is there; a reader finds what was committed; and in each quiet state the next prune leaves nothing
//! unneeded. Then each rule is left out once, and the loss must be seen.
//!
//! What a step stands for in the engine:
//!
//! | step | function |
//! |---|---|
//! | writer: lease, kill lists, segments | `ops::ingest::ingest`, `repo::Session::start` |
//! | writer: decides what to reuse | `Session::is_stored` |
//! | writer: puts a pack, a segment | `repo::pack_sink`, `Session::publish` |
//! | writer: locks, checks, commits | `ops::ingest::commit::put_manifest`, `Session::relied_packs_are_good` |
//! | writer: looks again | `ops::ingest::commit::look_again` |
//! | prune: finishes old lists | `ops::prune::sweep::finish_kill_lists` |
//! | prune: spares what snapshots need of them | `ops::prune::spare::needed` |
//! | prune: lists | `ops::prune::survey::Survey::take`, then `Repository::refresh_index` |
//! | prune: plans | `ops::prune::plan::make` |
//! | prune: puts copies | `ops::prune::rewrite::copy_out` |
//! | prune: locks, lists again, publishes its list | `ops::prune::decide::decide` |
//! | prune: deletes, rewrites the index | `ops::prune::sweep::sweep`, `Repository::drop_from_index` |
//! | merge | `Repository::merge_index_if_due`, `index::GlobalIndex::merge` |
//! | reader | `repo::read::get_chunk` |
//! | parity: grows the tail, own group | `repo::protect::Protection::finish` |
//! | parity: a pack leaves its group | `repo::dissolve` |
//!
//! Where model and engine differ is in `docs/invariants.md`. What is left out: more than two chunks; torn writes and lost
//! packs (the crash tests of the engine have these); damage; hints, which only make writers avoid packs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test, that says what it tried"
)]

mod configurations;
mod others;
mod parity;
mod pruner;
mod rules;
mod search;
mod state;
mod writer;

use rules::Rules;
use std::time::Instant;

/// States of the largest configuration that is explored at every change.
const FEW: usize = 170_000;
/// The most that are explored of any, 100 bytes each.
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
        (true, None) => panic!("{}: the loss was not seen", rules.name),
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
fn each_rule_that_is_left_out_loses_something() {
    for rules in configurations::broken() {
        explore(&rules, MANY);
    }
}
