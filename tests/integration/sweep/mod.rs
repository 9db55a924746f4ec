//! The sweep: every file of small repositories, damaged in every way, one at a time. Each damage
//! must be found (at `standard` or below). A restore with the damage in place must give the right
//! bytes or an error with a code. A repair must restore every file byte for byte (segments by their
//! entries) and leave a repository without a warning.
//!
//! The default size flips and truncates at some offsets of each file; `CONTAINERARCHIVE_DEEP=1` at
//! every byte, and `CONTAINERARCHIVE_DEEP=bits` flips every bit. All print a table of the results:
//! `cargo test --no-default-features --test integration sweep:: -- --nocapture`.

mod case;
mod world;

use case::{Outcome, judge, judge_folder};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use world::{Fault, World, kind_of};

/// The number of offsets at which the default size flips and truncates each file.
const FLIPS: usize = 48;
const CUTS: usize = 16;
/// One in this many cases is repaired twice.
const TWICE: usize = 8;
/// The number of failures that are printed for each kind of file and damage.
const SHOWN: usize = 3;

/// The number of faults that are tried.
#[derive(Clone, Copy, PartialEq)]
enum Depth {
    Usual,
    Bytes,
    Bits,
}

impl Depth {
    fn wanted() -> Self {
        match std::env::var("CONTAINERARCHIVE_DEEP").as_deref() {
            Err(_) => Self::Usual,
            Ok("bits") => Self::Bits,
            Ok(_) => Self::Bytes,
        }
    }
}

/// Returns about `wanted` offsets of `0..len` at equal distances, with a different start in each
/// file.
fn offsets(len: usize, wanted: usize, depth: Depth, key: &str) -> Vec<usize> {
    let step = if depth == Depth::Usual {
        (len / wanted).max(1)
    } else {
        1
    };
    let sum: usize = key.bytes().map(usize::from).sum();
    (sum % step..len).step_by(step).collect()
}

/// Returns all faults of one file.
fn faults(world: &World, key: &str, depth: Depth) -> Vec<Fault> {
    let len = world.files[key].len();
    let mut faults = vec![Fault::Deleted];
    if key.starts_with("locks/") {
        // lock files are empty and only locked: their content has no meaning
        return faults;
    }
    if ["reserve", "readme", "tail mark"].contains(&kind_of(key)) {
        // nothing depends on them
        return Vec::new();
    }
    if kind_of(key) == "record" {
        // a deleted record leaves no trace: its snapshot comes back
        faults.clear();
    }
    faults.push(Fault::Cut(0));
    faults.extend([&b"\0"[..], b"junk", &[0xff; 5000]].map(Fault::Junk));
    faults.push(Fault::Twice);
    faults.extend((0..len).step_by(4096).map(Fault::Hole));
    let bits = if depth == Depth::Bits { 8 } else { 1 };
    for at in offsets(len, FLIPS, depth, key) {
        faults.extend((0..bits).map(|bit| Fault::Flip(at, 1 << ((at + bit) % 8))));
    }
    faults.extend(offsets(len, CUTS, depth, key).into_iter().map(Fault::Cut));
    // the ends of the file
    faults.extend([1, len.saturating_sub(1)].map(Fault::Cut));
    faults.extend(world.replacements(key).map(Fault::Replaced));
    faults.extend(world.next_of_kind(key).map(Fault::Swapped));
    faults
}

/// The results, by kind of file and of damage.
#[derive(Default)]
struct Table {
    rows: BTreeMap<(&'static str, &'static str), Row>,
    failures: Vec<String>,
}

#[derive(Default)]
struct Row {
    cases: usize,
    sum: Outcome,
    failed: usize,
}

impl Table {
    fn add(&mut self, kind: &'static str, fault: &'static str, result: Result<Outcome, String>) {
        let row = self.rows.entry((kind, fault)).or_default();
        row.cases += 1;
        match result {
            Ok(outcome) => row.sum.add(&outcome),
            Err(failure) => {
                row.failed += 1;
                if row.failed <= SHOWN {
                    self.failures.push(failure);
                }
            }
        }
    }

    #[expect(clippy::print_stdout, reason = "the record of a run contains what was tried")]
    fn print(&self, name: &str) {
        println!("{name}");
        for failure in &self.failures {
            println!("  {failure}");
        }
        println!(
            "  {:<10} {:<10} {:>7} {:>7} {:>8} {:>9} {:>9} {:>9} {:>10} {:>6}",
            "file", "damage", "cases", "quick", "standard", "restores", "right", "typed", "repaired", "failed"
        );
        for ((kind, fault), Row { cases, sum, failed }) in &self.rows {
            println!(
                "  {kind:<10} {fault:<10} {cases:>7} {:>7} {:>8} {:>9} {:>9} {:>9} {:>10} {failed:>6}",
                sum.quick,
                sum.standard,
                sum.right + sum.typed,
                sum.right,
                sum.typed,
                sum.repaired,
            );
        }
    }
}

/// Tries every fault of every file, on all cores.
fn sweep(world: &World) {
    let depth = Depth::wanted();
    let start = std::time::Instant::now();
    let cases: Vec<(&str, Fault)> = world
        .files
        .keys()
        .flat_map(|key| {
            faults(world, key, depth)
                .into_iter()
                .map(move |fault| (key.as_str(), fault))
        })
        .collect();
    let (next, table) = (AtomicUsize::new(0), Mutex::new(Table::default()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some((key, fault)) = cases.get(number) else {
                        return;
                    };
                    let what = || format!("{}: {key} {fault:?}", world.name);
                    let judged = std::panic::catch_unwind(|| judge(world, key, fault, number % TWICE == 0));
                    let judged = judged.unwrap_or_else(|_| Err("a panic".to_owned()));
                    let result = judged.map_err(|failure| format!("{}: {failure}", what()));
                    table.lock().unwrap().add(kind_of(key), fault.name(), result);
                }
            });
        }
    });
    let table = table.into_inner().unwrap();
    table.print(&format!(
        "{}: {} files, {} bytes, {} cases in {:.1} s",
        world.name,
        world.files.len(),
        world.files.values().map(Vec::len).sum::<usize>(),
        cases.len(),
        start.elapsed().as_secs_f64()
    ));
    let failed: usize = table.rows.values().map(|row| row.failed).sum();
    assert_eq!(failed, 0, "{}: {:?}", world.name, table.failures.first());
}

#[test]
fn every_damage_of_a_plain_gzip_repository_is_found_and_repaired() {
    sweep(&World::plain_gzip());
}

#[test]
#[ignore = "deep: each codec and each kind of repository is in one of the other two"]
fn every_damage_of_a_plain_zstd_repository_is_found_and_repaired() {
    sweep(&World::plain_zstd());
}

#[test]
#[ignore = "deep: each codec and each kind of repository is in one of the other two"]
fn every_damage_of_a_sealed_gzip_repository_is_found_and_repaired() {
    sweep(&World::sealed_gzip());
}

#[test]
fn every_damage_of_a_sealed_zstd_repository_is_found_and_repaired() {
    sweep(&World::sealed_zstd());
}

#[test]
fn a_directory_with_the_name_of_any_file_is_found_and_moved_away() {
    for world in [World::plain_gzip(), World::sealed_zstd()] {
        let mut table = Table::default();
        for key in world
            .files
            .keys()
            .filter(|key| !["record", "reserve", "readme", "tail mark"].contains(&kind_of(key)))
        {
            let result = judge_folder(&world, key).map_err(|failure| format!("{key}: {failure}"));
            table.add(kind_of(key), "a folder", result);
        }
        table.print(&format!("{}, on a real disk", world.name));
        assert_eq!(table.failures, [""; 0]);
    }
}

#[test]
fn the_repositories_of_the_sweep_contain_every_kind_of_file() {
    for world in World::all() {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        for key in world.files.keys() {
            *kinds.entry(kind_of(key)).or_default() += 1;
        }
        let sealed = world.flavor.encrypted;
        for kind in ["config", "manifest", "segment", "idx", "pack", "par", "grp", "record"] {
            assert!(kinds.contains_key(kind), "{}: no {kind}: {kinds:?}", world.name);
        }
        assert_eq!(kinds.contains_key("key"), sealed);
        assert!(kinds["grp"] >= 3 && kinds["manifest"] == 4, "{}: {kinds:?}", world.name);
        let members = world.members_of_groups();
        assert!(
            members.contains(&4) && members.contains(&2),
            "{}: {members:?}",
            world.name
        );
    }
}
