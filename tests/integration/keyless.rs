//! An encrypted repository without its keys: what verify reports, and that every other operation is
//! refused.

use crate::support::faults::*;
use crate::support::*;
use containerarchive::layout;
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::{self, KeyOptions, PruneOptions, VerifyLevel, VerifyOptions, VerifyReport};
use containerarchive::repo::{self, OpenOptions, Repository};
use containerarchive::snapshot::SnapshotFilter;
use containerarchive::snapshot::retention::{Keep, RetentionPolicy};
use containerarchive::storage::{RecordingStorage, Storage};
use containerarchive::{Error, Result};
use std::collections::BTreeSet;
use std::sync::Arc;

fn open_without_keys(storage: Arc<dyn Storage>) -> Result<Arc<Repository>> {
    let options = OpenOptions {
        keyless: true,
        ..OpenOptions::default()
    };
    repo::open(environment(storage, 5), None, &options).map(Arc::new)
}

fn verify(repo: &Arc<Repository>, level: VerifyLevel) -> Result<VerifyReport> {
    let options = VerifyOptions { level, subset: None };
    ops::verify(repo, &options, &NullMonitor, &mut |_| {})
}

/// Returns the report of a verify without keys of these files, which must not change.
fn judge(files: &Files, level: VerifyLevel) -> VerifyReport {
    let storage = memory_of(files);
    let report = verify(&open_without_keys(storage.clone()).unwrap(), level).unwrap();
    assert!(files_of(storage.as_ref()) == *files, "verify changed a file");
    report
}

#[test]
fn an_undamaged_repository_is_ok_without_its_keys() {
    let known = Known::new(Flavor::sealed());
    let packs = known.keys(layout::DATA, ".pack").len() as u64;
    for level in [VerifyLevel::Quick, VerifyLevel::Standard] {
        let report = judge(&known.files, level);
        assert!(report.ok(), "{report:?}");
        let notes: Vec<_> = report.notes.iter().map(|note| note.code).collect();
        assert_eq!(notes, ["NOTE_NO_KEYS"]);
        assert_eq!((report.stats.packs_checked, report.stats.snapshots_checked), (packs, 3));
    }
}

#[test]
fn verify_standard_without_keys_reads_every_byte_of_every_pack_and_parity_file() {
    let known = Known::new(Flavor::sealed());
    let recording = Arc::new(RecordingStorage::new(memory_of(&known.files)));
    let repo = open_without_keys(recording.clone()).unwrap();
    recording.clear();
    assert!(verify(&repo, VerifyLevel::Quick).unwrap().ok());
    let read = |recording: &RecordingStorage| -> BTreeSet<String> {
        let calls = recording.calls().into_iter();
        calls
            .filter(|(op, _)| op.starts_with("get"))
            .map(|(_, key)| key)
            .collect()
    };
    assert!(!read(&recording).iter().any(|key| key.ends_with(".pack")));
    recording.clear();
    assert!(verify(&repo, VerifyLevel::Standard).unwrap().ok());
    let read = read(&recording);
    assert!(
        known
            .files
            .keys()
            .filter(|key| is_needed(key))
            .all(|key| read.contains(key)),
        "{read:?}"
    );
}

#[test]
fn verify_without_keys_finds_and_names_all_damage_that_needs_no_key() {
    let known = Known::new(Flavor::sealed());
    let from = |key: &str| match key {
        _ if key.ends_with(".pack") || key.ends_with(".par") || key.ends_with(".grp") => VerifyLevel::Standard,
        _ => VerifyLevel::Quick,
    };
    for key in known.files.keys().filter(|key| is_needed(key)) {
        for (name, changed) in faults(&known.files[key], None, 997) {
            // a lost manifest or segment leaves no readable trace; nor does a changed page of a
            // segment
            let undetectable = changed.is_none() && (key.ends_with(".seg") || key.starts_with(layout::SNAPSHOTS));
            let same_len = changed
                .as_ref()
                .is_some_and(|bytes| bytes.len() == known.files[key].len());
            if undetectable || key.ends_with(".seg") && same_len {
                continue;
            }
            let what = format!("{key} {name}");
            // repeated pages, or pages cut off at a page boundary
            if key.ends_with(".seg") && changed.as_ref().is_some_and(|bytes| bytes.len() % 4096 == 0) {
                continue;
            }
            let report = judge(&with(&known.files, key, changed), from(key));
            assert!(!report.ok(), "{what}: not found");
            assert!(
                report.problems.iter().all(|problem| problem.healable),
                "{what}: {report:?}"
            );
            let named = report.problems.iter().any(|problem| problem.path.as_ref() == Some(key));
            assert!(named, "{what}: {report:?}");
        }
    }
}

#[test]
fn verify_reports_the_same_damaged_packs_with_and_without_keys() {
    let known = Known::new(Flavor::sealed());
    let damaged = |report: &VerifyReport| -> BTreeSet<String> {
        let packs = report.problems.iter().filter_map(|problem| problem.pack);
        packs.map(|pack| pack.to_hex()).collect()
    };
    for key in known.keys(layout::DATA, ".pack") {
        let mut flipped = known.files[&key].clone();
        flipped[200] ^= 1;
        for changed in [None, Some(flipped)] {
            let files = with(&known.files, &key, changed);
            let without = judge(&files, VerifyLevel::Standard);
            let opened = known.open(&files).0.unwrap();
            let with = verify(&opened, VerifyLevel::Standard).unwrap();
            assert_eq!(damaged(&without), damaged(&with), "{key}");
        }
    }
}

#[test]
fn more_damaged_packs_than_parity_covers_are_not_healable_without_keys() {
    let known = Known::new(Flavor::sealed());
    let mut files = known.files.clone();
    files.retain(|key, _| !key.ends_with(".pack"));
    let report = judge(&files, VerifyLevel::Standard);
    let lost = report
        .problems
        .iter()
        .filter(|problem| problem.code == "ERR_PACK_MISSING");
    assert_eq!(lost.clone().count(), known.keys(layout::DATA, ".pack").len());
    assert!(lost.clone().all(|problem| !problem.healable));
}

#[test]
fn a_handle_without_keys_refuses_every_other_operation() {
    let known = Known::new(Flavor::sealed());
    let storage = memory_of(&known.files);
    let repo = open_without_keys(storage.clone()).unwrap();
    let id = known.snapshots[0].0.id.to_hex();
    let prune = PruneOptions::new(RetentionPolicy {
        keep_last: Keep::Count(1),
        ..RetentionPolicy::default()
    });
    let all: Vec<(&str, Result<()>)> = vec![
        ("list", ops::list_snapshots(&repo, &SnapshotFilter::default()).map(drop)),
        ("get", ops::get_snapshot(&repo, &id).map(drop)),
        ("latest", ops::get_snapshot(&repo, "latest").map(drop)),
        (
            "restore",
            ops::plan_restore(&repo, &id, &ops::RestoreOptions::default()).map(drop),
        ),
        ("ingest", ingest(&repo, b"x").map(drop)),
        ("full", verify(&repo, VerifyLevel::Full).map(drop)),
        ("repair", ops::repair(&repo, &NullMonitor).map(drop)),
        ("reindex", ops::reindex(&repo, &NullMonitor)),
        ("unlock", ops::unlock(&repo, true).map(drop)),
        ("stats", ops::stats(&repo, &NullMonitor).map(drop)),
        ("locks", ops::locks(&repo).map(drop)),
        ("keys", ops::list_keys(&repo).map(drop)),
        (
            "add",
            ops::add_key(&repo, &passphrase(), &KeyOptions::default(), &NullMonitor).map(drop),
        ),
        ("forget", ops::forget(&repo, &[known.snapshots[0].0.id]).map(drop)),
        ("prune", ops::prune(&repo, &prune, &NullMonitor).map(drop)),
    ];
    for (name, result) in all {
        assert_eq!(result.unwrap_err().code(), "ERR_PASSPHRASE_REQUIRED", "{name}");
    }
    assert!(files_of(storage.as_ref()) == known.files);
    repo.close();
    assert_eq!(verify(&repo, VerifyLevel::Quick).unwrap_err().code(), "ERR_CLOSED");
}

#[test]
fn a_plain_repository_opened_without_keys_is_fully_usable() {
    let known = Known::new(Flavor::plain());
    let repo = open_without_keys(memory_of(&known.files)).unwrap();
    for level in [VerifyLevel::Quick, VerifyLevel::Standard, VerifyLevel::Full] {
        let report = verify(&repo, level).unwrap();
        assert!(report.ok() && report.notes.is_empty(), "{report:?}");
    }
    assert!(restore(&repo, &known.snapshots[0].0.id.to_hex(), None).unwrap() == known.snapshots[0].1);
    let sealed = Known::new(Flavor::sealed());
    let options = OpenOptions {
        keyless: true,
        ..OpenOptions::default()
    };
    let both = repo::open(environment(memory_of(&sealed.files), 5), Some(&passphrase()), &options);
    assert!(matches!(both.map(drop), Err(Error::InvalidArgument { .. })));
}

#[test]
fn a_lost_config_is_read_from_its_copy_without_keys_too() {
    let known = Known::new(Flavor::sealed());
    let report = judge(&with(&known.files, layout::CONFIG, None), VerifyLevel::Quick);
    let codes: Vec<_> = report.problems.iter().map(|problem| problem.code).collect();
    assert_eq!(codes, ["ERR_CONFIG_CORRUPT"]);
}
