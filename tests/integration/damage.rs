//! Every kind of file, damaged in every way: correct bytes or an error with a code, never wrong
//! bytes, never a panic.
//!
//! These tests state which faults are healed automatically, which lose one snapshot, and which
//! prevent open.

use crate::support::faults::*;
use crate::support::*;
use containerarchive::layout;
use containerarchive::storage::{ErrorKind, FaultyStorage};
use containerarchive::{id, repo};
use std::sync::Arc;

fn both() -> [Known; 2] {
    [Known::new(Flavor::plain()), Known::new(Flavor::sealed())]
}

/// Checks every fault of `key`, one at a time.
fn each_fault(known: &Known, key: &str, stride: usize, check: &dyn Fn(&Verdict, &str)) {
    let bytes = &known.files[key];
    let (folder, end) = (
        key.rsplit_once('/').map_or("", |(folder, _)| folder),
        key.rsplit_once('.'),
    );
    let kind = end.map_or("", |(_, end)| end);
    let other = known.keys(folder, kind).into_iter().find(|other| other != key);
    let other = other.map(|other| known.files[&other].as_slice());
    for (name, changed) in faults(bytes, other, stride) {
        let what = format!("{:?}: {key} {name}", known.flavor);
        let verdict = known.judge(&with(&known.files, key, changed), &|| what.clone());
        check(&verdict, &what);
    }
}

#[test]
fn a_damaged_config_is_read_from_its_copy_and_without_a_copy_open_fails_by_name() {
    for known in both() {
        each_fault(&known, layout::CONFIG, 3, &|verdict, what| {
            assert!(verdict.is_intact(), "{what}: {verdict:?}");
            assert_eq!(verdict.warnings, ["WARN_CONFIG_FROM_COPY"], "{what}");
        });
        // without parity and packs there is no copy
        let mut bare = known.files.clone();
        bare.retain(|key, _| !key.starts_with("packs/"));
        for (changed, expected) in [
            (None, "ERR_REPO_NOT_FOUND"),
            (Some(b"{}".to_vec()), "ERR_CONFIG_CORRUPT"),
        ] {
            let verdict = known.judge(&with(&bare, layout::CONFIG, changed), &|| "no copy".to_owned());
            assert_eq!(verdict.open, Some(expected));
        }
    }
}

#[test]
fn a_copy_of_a_config_is_checked_against_the_key_and_needs_the_right_secret() {
    let known = Known::new(Flavor::sealed());
    let files = with(&known.files, layout::CONFIG, None);
    let opened = |secret: Option<&str>| {
        let secret = secret.map(|text| repo::Secret::Passphrase(zeroize::Zeroizing::new(text.as_bytes().to_vec())));
        let environment = environment(memory_of(&files), 3);
        repo::open(environment, secret.as_ref(), &repo::OpenOptions::default()).map(|_| ())
    };
    assert_eq!(opened(None).unwrap_err().code(), "ERR_PASSPHRASE_REQUIRED");
    assert_eq!(opened(Some("wrong")).unwrap_err().code(), "ERR_WRONG_PASSPHRASE");
    opened(Some("secret")).unwrap();
}

#[test]
fn a_damaged_key_file_fails_open_by_name_or_not_at_all() {
    let known = Known::new(Flavor::sealed());
    for key in known.keys(layout::KEYS, ".json") {
        each_fault(&known, &key, 3, &|verdict, what| {
            assert!(
                verdict.is_intact() && verdict.warnings.contains(&"WARN_KEY_FROM_COPY"),
                "{what}: {verdict:?}"
            );
        });
    }
    for key in known.keys(layout::KEY_COPIES, ".json") {
        each_fault(&known, &key, 40, &|verdict, what| {
            assert!(verdict.is_intact(), "{what}: {verdict:?}")
        });
    }
}

#[test]
fn a_damaged_manifest_loses_its_own_snapshot_and_no_other() {
    for known in both() {
        let (snapshot, _) = &known.snapshots[1];
        each_fault(&known, &layout::snapshot(&snapshot.id), 7, &|verdict, what| {
            let (expected, warnings) = match what.ends_with("deleted") {
                true => ("ERR_SNAPSHOT_NOT_FOUND", 0),
                false => ("ERR_MANIFEST_CORRUPT", 1),
            };
            assert_eq!((verdict.open, verdict.listed), (None, 2), "{what}");
            assert_eq!(verdict.restores, [None, Some(expected), None], "{what}");
            let corrupt = verdict.warnings.iter().filter(|code| **code == "WARN_MANIFEST_CORRUPT");
            assert_eq!(corrupt.count(), warnings, "{what}");
        });
    }
}

#[test]
fn a_damaged_segment_or_pack_index_is_healed_with_only_a_warning() {
    for known in both() {
        let segments = known.keys(layout::INDEX, ".seg");
        let indexes = known.keys(layout::DATA, ".idx");
        assert!(!segments.is_empty() && indexes.len() >= 4);
        for key in segments.iter().chain(&indexes[..2]) {
            each_fault(&known, key, 61, &|verdict, what| {
                assert!(verdict.is_intact(), "{what}: {verdict:?}")
            });
        }
        // all of them at once, damaged and deleted
        for (name, changed) in [
            ("emptied", Some(Vec::new())),
            ("garbage", Some(random_bytes(9, 5000))),
            ("deleted", None),
        ] {
            for changed_keys in [&segments[..], &indexes[..], &[&segments[..], &indexes[..]].concat()] {
                let what = format!(
                    "{:?}: {} files {name}, from {}",
                    known.flavor,
                    changed_keys.len(),
                    changed_keys[0]
                );
                let mut files = known.files.clone();
                for key in changed_keys {
                    files = with(&files, key, changed.clone());
                }
                let verdict = known.judge(&files, &|| what.clone());
                assert!(verdict.is_intact(), "{what}: {verdict:?}");
                let warned = verdict.warnings.contains(&"WARN_SEGMENT_REBUILT");
                assert_eq!(
                    warned,
                    changed_keys[0].ends_with(".seg"),
                    "{what}: {:?}",
                    verdict.warnings
                );
            }
        }
    }
}

#[test]
fn a_healed_index_stays_intact_and_deduplicates() {
    for known in both() {
        for changed in [None, Some(b"garbage".to_vec())] {
            let mut files = known.files.clone();
            for key in known.keys(layout::INDEX, ".seg") {
                files = with(&files, &key, changed.clone());
            }
            let (repo, storage, monitor) = known.open(&files);
            let again = ingest(&repo.unwrap(), &known.snapshots[0].1).unwrap();
            assert_eq!(again.new_chunks, 0, "{:?} {changed:?}", known.flavor);
            assert!(codes(&monitor).contains(&"WARN_SEGMENT_REBUILT"));
            let (environment, monitor) = watched(storage.clone(), 5);
            let repo = open(environment, known.flavor).unwrap();
            for (snapshot, data) in &known.snapshots {
                assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == *data);
            }
            assert_eq!(codes(&monitor), [""; 0], "{changed:?}");
        }
    }
}

#[test]
fn a_restore_from_a_damaged_pack_is_correct_or_names_the_damage() {
    for known in both() {
        for key in known.keys(layout::DATA, ".pack") {
            each_fault(&known, &key, 997, &|verdict, what| {
                assert_eq!((verdict.open, verdict.listed), (None, 3), "{what}");
                for code in verdict.failures() {
                    let expected = ["ERR_PACK_MISSING", "ERR_PACK_CORRUPT", "ERR_CHUNK_CORRUPT"];
                    assert!(expected.contains(&code), "{what}: {code}");
                    assert_eq!(code == "ERR_PACK_MISSING", what.ends_with("deleted"), "{what}: {code}");
                }
            });
        }
    }
}

#[test]
fn an_ingest_reuses_no_pack_that_is_missing_or_too_short() {
    for known in both() {
        for (name, cut) in [("deleted", None), ("emptied", Some(0)), ("cut", Some(3))] {
            let mut files = known.files.clone();
            for key in known.keys(layout::DATA, ".pack") {
                let bytes = cut.map(|part: usize| known.files[&key][..known.files[&key].len() * part / 4].to_vec());
                files = with(&files, &key, bytes);
            }
            let (repo, _, _) = known.open(&files);
            let repo = repo.unwrap();
            let mut new = 0;
            for (_, data) in &known.snapshots {
                let again = ingest(&repo, data).unwrap();
                new += again.new_chunks;
                assert!(restore(&repo, &again.id.to_hex(), None).unwrap() == *data, "{name}");
            }
            assert!(new > 0, "{name}");
            // which also restored the old snapshots: their missing data and list nodes were stored
            // again
            for (snapshot, data) in &known.snapshots {
                assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == *data, "{name}");
            }
        }
    }
}

#[test]
fn a_forged_manifest_is_checked_and_not_trusted() {
    let known = Known::new(Flavor::plain());
    let (snapshot, data) = &known.snapshots[2];
    let key = layout::snapshot(&snapshot.id);
    let text = String::from_utf8(known.files[&key].clone()).unwrap();
    let body = text.split(",\"checksum\"").next().unwrap();
    let value: serde_json::Value = serde_json::from_str(&format!("{body}}}")).unwrap();
    let item = &value["items"][0];
    let (chunks, size) = (item["chunks"].as_array().unwrap(), data.len() as u64);
    let node = {
        let lists = &known.snapshots[0].0.items[0].content;
        let containerarchive::snapshot::ItemContent::List { root, .. } = lists else {
            panic!("no list")
        };
        root.to_hex()
    };
    let data_chunk = chunks[0][0].as_str().unwrap();
    let huge = 1u64 << 53;
    let with_item = |changed: serde_json::Value| vec![changed];
    let list = |root: &str, level: u64, size: u64, count: u64| {
        with_item(
            serde_json::json!({"name": "data", "type": "test", "size": size, "chunkCount": count,
            "list": {"root": root, "level": level}}),
        )
    };
    let inline = |chunks: serde_json::Value, size: u64, count: usize| {
        with_item(
            serde_json::json!({"name": "data", "type": "test", "size": size, "chunkCount": count, "chunks": chunks}),
        )
    };
    let longer = serde_json::json!([[data_chunk, chunks[0][1].as_u64().unwrap() + 1]]);
    let shorter = serde_json::json!([[data_chunk, 1]]);
    let missing = serde_json::json!([["ab".repeat(32), 5]]);
    let forged = [
        inline(longer, chunks[0][1].as_u64().unwrap() + 1, 1),
        inline(shorter, 1, 1),
        inline(missing, 5, 1),
        inline(serde_json::json!([[node, 100]]), 100, 1),
        inline(item["chunks"].clone(), size + 1, chunks.len()),
        inline(item["chunks"].clone(), huge, chunks.len()),
        list(data_chunk, 0, size, 5),
        list(&node, 0, size, 5),
        list(&node, 1, 60_000, 53),
        list(&node, 7, huge, 1 << 31),
        list(&node, 200, huge, 1 << 31),
        list(&"ab".repeat(32), 1, size, 5),
        (0..3000)
            .map(|number| {
                serde_json::json!({"name": number.to_string(), "type": "", "size": huge, "chunkCount": 1,
            "list": {"root": node, "level": 0}})
            })
            .collect(),
        vec![serde_json::json!(null)],
    ];
    for (number, items) in forged.into_iter().enumerate() {
        let mut changed = value.clone();
        changed["items"] = items.into();
        let bytes = containerarchive::checked_json::finish(changed.to_string()).into_bytes();
        let (repo, _, _) = known.open(&with(&known.files, &key, Some(bytes)));
        let repo = repo.unwrap();
        let error = restore(&repo, &snapshot.id.to_hex(), None).unwrap_err();
        let expected = ["ERR_MANIFEST_CORRUPT", "ERR_CHUNK_MISSING", "ERR_CHUNK_CORRUPT"];
        assert!(expected.contains(&error.code()), "{number}: {error}");
        assert!(restore(&repo, &known.snapshots[0].0.id.to_hex(), None).unwrap() == known.snapshots[0].1);
    }
}

#[test]
fn leases_of_any_form_are_ignored() {
    for known in both() {
        let mut files = known.files.clone();
        for (number, bytes) in [&b""[..], b"garbage", b"{\"version\":9}", &[0xff; 5000]]
            .into_iter()
            .enumerate()
        {
            files.insert(layout::lease(&id::SnapshotId([number as u8; 16])), bytes.to_vec());
        }
        assert!(known.judge(&files, &|| "leases".to_owned()).is_intact());
        let (repo, _, _) = known.open(&files);
        ingest(&repo.unwrap(), b"more").unwrap();
    }
}

#[test]
fn a_damaged_kill_list_stops_ingests_but_not_restores() {
    for known in both() {
        for bytes in [&b""[..], b"garbage", b"CAKILL01", &[0; 200]] {
            let key = format!("{}/{}.kill", layout::MARKS, "ab".repeat(16));
            let files = with(&known.files, &key, Some(bytes.to_vec()));
            assert!(known.judge(&files, &|| "a kill list".to_owned()).is_intact());
            let (repo, storage, _) = known.open(&files);
            let repo = repo.unwrap();
            assert_eq!(ingest(&repo, b"more").unwrap_err().code(), "ERR_KILL_LIST_CORRUPT");
            assert_eq!(files_of(storage.as_ref()), files, "a refused ingest left something");
            // also when the index must be rebuilt, which reads the kill lists
            let mut files = files;
            for segment in known.keys(layout::INDEX, ".seg") {
                files = with(&files, &segment, None);
            }
            assert!(
                known
                    .judge(&files, &|| "a kill list and no segments".to_owned())
                    .is_intact()
            );
        }
    }
}

#[test]
fn a_lost_lock_file_stops_writers_but_not_readers() {
    for known in both() {
        for key in [layout::COMMIT_LOCK, layout::MAINT_LOCK] {
            let files = with(&known.files, key, None);
            assert!(known.judge(&files, &|| key.to_owned()).is_intact());
            let (repo, _, _) = known.open(&files);
            let code = ingest(&repo.unwrap(), b"more")
                .map(|_| ())
                .map_err(|error| error.code());
            assert_eq!(code, Err("ERR_STORAGE"), "{key}");
        }
    }
}

#[test]
fn a_failed_read_is_an_error_with_the_system_reason_and_is_temporary() {
    for known in both() {
        for (folder, end) in [
            (layout::DATA, ".pack"),
            (layout::SNAPSHOTS, ".json"),
            (layout::INDEX, ".seg"),
            (layout::KEYS, ".json"),
        ] {
            let faulty = Arc::new(FaultyStorage::new(memory_of(&known.files)));
            let fails =
                move |op: &str, key: &str| op.starts_with("get") && key.starts_with(folder) && key.ends_with(end);
            // from open on
            faulty.fail_when(fails, ErrorKind::Io);
            if let Ok(repo) = open(environment(faulty.clone(), 3), known.flavor) {
                for (snapshot, data) in &known.snapshots {
                    match restore(&repo, &snapshot.id.to_hex(), None) {
                        Ok(bytes) => assert!(bytes == *data),
                        Err(error) => assert_eq!(error.code(), "ERR_UNREADABLE", "{folder}: {error}"),
                    }
                }
                faulty.heal();
                for (snapshot, data) in &known.snapshots {
                    assert!(
                        restore(&repo, &snapshot.id.to_hex(), None).unwrap() == *data,
                        "{folder}"
                    );
                }
            }
            // and with an open repository
            faulty.heal();
            let repo = open(environment(faulty.clone(), 3), known.flavor).unwrap();
            faulty.fail_when(fails, ErrorKind::Io);
            for (snapshot, data) in &known.snapshots {
                match restore(&repo, &snapshot.id.to_hex(), None) {
                    Ok(bytes) => assert!(bytes == *data && !end.ends_with("pack")),
                    Err(error) => assert_eq!(error.code(), "ERR_UNREADABLE", "{folder}: {error}"),
                }
            }
        }
    }
}

#[test]
fn a_restore_with_a_broken_index_works_when_nothing_can_be_written() {
    for known in both() {
        for kind in [ErrorKind::NoSpace, ErrorKind::ReadOnly, ErrorKind::Io] {
            for changed in [None, Some(b"garbage".to_vec())] {
                let mut files = known.files.clone();
                for key in known.keys(layout::INDEX, ".seg") {
                    files = with(&files, &key, changed.clone());
                }
                let faulty = Arc::new(FaultyStorage::new(memory_of(&files)));
                faulty.fail_when(|op, _| ["put_new", "delete", "barrier", "lease"].contains(&op), kind);
                let repo = open(environment(faulty, 3), known.flavor).unwrap();
                for (snapshot, data) in &known.snapshots {
                    assert!(
                        restore(&repo, &snapshot.id.to_hex(), None).unwrap() == *data,
                        "{kind:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_broken_index_is_replaced_only_if_running_sessions_can_be_listed() {
    for known in both() {
        for changed in [None, Some(b"garbage".to_vec())] {
            let mut files = known.files.clone();
            for key in known.keys(layout::INDEX, ".seg") {
                files = with(&files, &key, changed.clone());
            }
            let memory = memory_of(&files);
            let faulty = Arc::new(FaultyStorage::new(memory.clone()));
            faulty.fail_when(|op, key| op == "list" && key == layout::LOCKS, ErrorKind::Io);
            let repo = open(environment(faulty.clone(), 3), known.flavor).unwrap();
            for (snapshot, data) in &known.snapshots {
                assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == *data);
            }
            assert!(files_of(memory.as_ref()) == files);
            faulty.heal();
            let repo = open(environment(faulty.clone(), 4), known.flavor).unwrap();
            let again = ingest(&repo, &known.snapshots[0].1).unwrap();
            assert_eq!(again.new_chunks, 0);
        }
    }
}

#[test]
fn a_read_only_handle_heals_in_memory_and_writes_nothing() {
    for known in both() {
        let mut files = known.files.clone();
        for key in known.keys(layout::INDEX, ".seg") {
            files = with(&files, &key, Some(b"garbage".to_vec()));
        }
        let storage = memory_of(&files);
        let options = containerarchive::repo::OpenOptions {
            read_only: true,
            ..Default::default()
        };
        let repo = containerarchive::repo::open(
            environment(storage.clone(), 3),
            known.flavor.secret().as_ref(),
            &options,
        );
        let repo = Arc::new(repo.unwrap());
        for (snapshot, data) in &known.snapshots {
            assert!(restore(&repo, &snapshot.id.to_hex(), None).unwrap() == *data);
        }
        assert_eq!(ingest(&repo, b"x").unwrap_err().code(), "ERR_READ_ONLY");
        assert_eq!(files_of(storage.as_ref()), files);
    }
}

#[test]
fn simultaneous_faults_pass_the_same_checks_as_single_faults() {
    for known in both() {
        let keys: Vec<&String> = known.files.keys().filter(|key| !key.starts_with("locks/")).collect();
        for seed in 0..300u64 {
            let picks = random_bytes(seed, 24);
            let mut files = known.files.clone();
            let mut done = String::new();
            for pick in picks.chunks_exact(8).take(2 + seed as usize % 2) {
                let key = keys[usize::from(pick[0]) % keys.len()];
                let Some(bytes) = files.get(key) else { continue };
                let all = faults(bytes, None, (bytes.len() / 50).max(1));
                let number = u16::from_le_bytes([pick[1], pick[2]]) as usize % all.len();
                let (name, changed) = all.into_iter().nth(number).unwrap();
                done += &format!("{key} {name}; ");
                files = with(&files, key, changed);
            }
            known.judge(&files, &|| done.clone());
        }
    }
}
