//! Checks the small files: config, key files and their copies, records, kill lists, leases.

use super::{Run, Small};
use crate::base::MAX_CONFIG_LEN;
use crate::crypto::{KeyFile, MAX_KEY_FILE_LEN};
use crate::error::Result;
use crate::id::{KeyId, SnapshotId};
use crate::layout;
use crate::lock::{self, FoundList, KillList, KillListId, Proof, lease, lock_files, pause_maint};
use crate::repo::Config;
use crate::snapshot::record::{ForgotRecord, MAX_RECORD_LEN};
use crate::storage::FailedRead;
use std::collections::BTreeSet;

pub(super) fn check(run: &mut Run<'_>) -> Result<()> {
    check_config(run);
    if run.repo.config().encrypted {
        check_keys(run)?;
    }
    check_records(run)?;
    check_kill_lists(run)?;
    check_locks(run);
    Ok(())
}

/// The handle was opened with bytes whose checksum and MAC were checked; the file must still be
/// those.
fn check_config(run: &mut Run<'_>) {
    let reason = match run.read_small(layout::CONFIG, MAX_CONFIG_LEN) {
        Small::Bytes(bytes) if bytes == run.repo.config_bytes() => return,
        Small::Bytes(bytes) => match Config::decode(&bytes) {
            Err(error) => error.to_string(),
            Ok(_) => "the file differs from the one that this handle was opened with".to_owned(),
        },
        Small::Missing => "the file is missing".to_owned(),
        Small::Bad(reason) => reason,
        Small::Unreadable => return,
    };
    // this handle has the right bytes, as have every parity group and the last meta pack of each
    // session
    run.found_in("ERR_CONFIG_CORRUPT", layout::CONFIG, &reason, true);
}

fn check_keys(run: &mut Run<'_>) -> Result<()> {
    let mut ids: BTreeSet<KeyId> = BTreeSet::new();
    for folder in [layout::KEYS, layout::KEY_COPIES] {
        let files = run.list(folder);
        ids.extend(
            files
                .iter()
                .filter_map(|file| layout::id_of(&file.key, ".json").map(KeyId)),
        );
    }
    for id in ids {
        run.check_running()?;
        if let Some(path) = foreign_key(run, &id) {
            run.note_foreign(path);
            continue;
        }
        if judge_key(run, &id).is_empty() {
            continue;
        }
        // a key looks like this between two steps of an add or remove: check again while no process
        // changes keys
        match pause_maint(run.storage()) {
            Ok(None) => {
                let text = format!("Key {id} is incomplete; a maintenance operation is running and may be changing it");
                run.note("NOTE_KEY_CHANGING", None, Some(layout::key(&id)), text);
            }
            // without locks no process can change keys either
            Ok(Some(_)) | Err(_) => {
                for (path, reason, healable) in judge_key(run, &id) {
                    run.found_in("ERR_KEY_FILE_CORRUPT", &path, &reason, healable);
                }
            }
        }
    }
    Ok(())
}

/// Returns the path of an intact key file of another repository, stored under its own id in either
/// folder.
fn foreign_key(run: &Run<'_>, id: &KeyId) -> Option<String> {
    [layout::key(id), layout::key_copy(id)].into_iter().find(|path| {
        let Small::Bytes(bytes) = run.read_small(path, MAX_KEY_FILE_LEN as u64) else {
            return false;
        };
        KeyFile::decode(&bytes).is_ok_and(|file| file.repo != run.repo.config().id && file.id == *id)
    })
}

/// Errors in the two files of a key: path, reason, and whether the other file can repair it.
fn judge_key(run: &Run<'_>, id: &KeyId) -> Vec<(String, String, bool)> {
    let (key, copy) = (layout::key(id), layout::key_copy(id));
    match (read_key(run, &key, id), read_key(run, &copy, id)) {
        // one file alone proves nothing
        (Ok(None), _) | (_, Ok(None)) => Vec::new(),
        (Ok(first), Ok(second)) if first == second => Vec::new(),
        (Ok(_), Ok(_)) => vec![(copy, "the copy differs from the key file".to_owned(), true)],
        (Ok(_), Err(reason)) => vec![(copy, reason, true)],
        (Err(reason), Ok(_)) => vec![(key, reason, true)],
        // removed since it was listed
        (Err(_), Err(_)) if !run.is_there(&key) && !run.is_there(&copy) => Vec::new(),
        (Err(first), Err(second)) => vec![(key, first, false), (copy, second, false)],
    }
}

/// The bytes of an intact key file; `None` when they could not be read.
fn read_key(run: &Run<'_>, path: &str, id: &KeyId) -> std::result::Result<Option<Vec<u8>>, String> {
    let bytes = match run.read_small(path, MAX_KEY_FILE_LEN as u64) {
        Small::Bytes(bytes) => bytes,
        Small::Missing => return Err("the file is missing".to_owned()),
        Small::Bad(reason) => return Err(reason),
        Small::Unreadable => return Ok(None),
    };
    let file = KeyFile::decode(&bytes).map_err(|error| error.to_string())?;
    if file.id != *id || file.repo != run.repo.config().id {
        return Err("the file contains another key than its name indicates".to_owned());
    }
    Ok(Some(bytes))
}

/// Checks the records. Only the existence of a record counts, so a damaged one can be rewritten.
fn check_records(run: &mut Run<'_>) -> Result<()> {
    for file in run.list(layout::RECORDS) {
        run.check_running()?;
        let Some(id) = layout::id_of(&file.key, ".forgot").map(SnapshotId) else {
            continue;
        };
        let reason = match run.read_small(&file.key, MAX_RECORD_LEN) {
            Small::Missing | Small::Unreadable => continue,
            Small::Bad(reason) => reason,
            Small::Bytes(bytes) => match ForgotRecord::decode(&bytes, &id) {
                Ok(_) => continue,
                Err(error) => error.to_string(),
            },
        };
        run.found_in("ERR_RECORD_CORRUPT", &file.key, &reason, true);
    }
    Ok(())
}

fn check_kill_lists(run: &mut Run<'_>) -> Result<()> {
    for file in run.list(layout::MARKS) {
        run.check_running()?;
        let Some(id) = KillListId::from_key(&file.key) else {
            continue;
        };
        let reason = match run.noted(KillList::read(run.storage(), &id, run.repo.seal().as_ref())) {
            Ok(None) => continue,
            Ok(Some(found)) => {
                note_kill_list(run, file.key, &found);
                continue;
            }
            // only a later version knows what it condemns
            Err(error @ lock::Error::UnsupportedVersion { .. }) => {
                run.found_in("ERR_UNSUPPORTED_FORMAT", &file.key, &error.to_string(), false);
                continue;
            }
            Err(error) if error.unreadable().is_some() => continue,
            Err(error) => error.to_string(),
        };
        // the holder of the maintenance lock may set it aside: no other process deletes the packs
        // that it condemns
        run.found_in("ERR_KILL_LIST_CORRUPT", &file.key, &reason, true);
    }
    Ok(())
}

fn note_kill_list(run: &mut Run<'_>, key: String, found: &FoundList) {
    let FoundList { list, proof } = found;
    if list.repo != run.repo.config().id {
        let text = format!("{key} belongs to another repository and has no effect here");
        return run.note("NOTE_KILL_LIST_FOREIGN", None, Some(key), text);
    }
    let packs = list.packs.len();
    let why = match proof {
        Proof::Valid if list.hint => return,
        Proof::Valid => {
            let text = format!("An unfinished prune has condemned {packs} packs");
            return run.note("NOTE_UNFINISHED_PRUNE", None, Some(key), text);
        }
        Proof::NoMac => "is of version 1, which has no MAC",
        Proof::Wrong => "was not written with the keys of this repository",
        Proof::Unknown => "can be verified only with the keys",
    };
    let text =
        format!("{key} {why}; it names {packs} packs and condemns none of them before the next prune has decided");
    run.note("NOTE_KILL_LIST_UNPROVEN", None, Some(key), text);
}

/// Checks lock files and leases. They are never an error: safety does not depend on leases, and the
/// kernel holds the locks.
fn check_locks(run: &mut Run<'_>) {
    for name in lock_files(run.storage()) {
        if !run.is_there(name) {
            let text = format!("The lock file {name} is missing, so nothing can be written");
            run.note("NOTE_LOCK_FILE_MISSING", None, Some((*name).to_owned()), text);
        }
    }
    let leases = lease::list(run.storage()).unwrap_or_default();
    for lease in leases.into_iter().filter(|lease| !lease.held) {
        let text = format!("Session {} ended without removing its lease", lease.session);
        run.note("NOTE_STALE_LEASE", None, Some(layout::lease(&lease.session)), text);
    }
    let quarantined = run.noted(run.storage().list(layout::QUARANTINE));
    let quarantined = quarantined.map_or(0, |files| files.len());
    if quarantined > 0 {
        let text = format!("{quarantined} files are in quarantine");
        run.note("NOTE_QUARANTINE", None, Some(layout::QUARANTINE.to_owned()), text);
    }
}
