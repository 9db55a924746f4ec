//! Lists snapshots and looks them up.

use crate::catalog::snapshots;
use crate::clock::format_time;
use crate::error::{Error, Result};
use crate::id::SnapshotId;
use crate::repo::Repository;
use crate::snapshot::order::is_future;
use crate::snapshot::{Recency, Snapshot, SnapshotFilter, sort_newest_first};

/// Shortest prefix of an id that is accepted, in hex digits.
const MIN_PREFIX: usize = 4;

/// All snapshots that match, newest first; those dated more than 5 minutes ahead come last. A
/// damaged manifest is left out, with a warning that names it.
///
/// # Errors
/// `UnsupportedFormat` when a newer version wrote one of them, `Storage`, `Closed`.
pub fn list_snapshots(repo: &Repository, filter: &SnapshotFilter) -> Result<Vec<Snapshot>> {
    let mut found = Vec::new();
    for id in snapshots::to_show(repo, &list_ids(repo)?) {
        match load(repo, id) {
            Ok(snapshot) if filter.matches(&snapshot) => found.push(snapshot),
            // forgotten since it was listed
            Ok(_) | Err(Error::SnapshotNotFound { .. }) => {}
            Err(error @ Error::ManifestCorrupt { .. }) => repo.warn("WARN_MANIFEST_CORRUPT", error.to_string()),
            Err(error) => return Err(error),
        }
    }
    sort_newest_first(&mut found, repo.now_ms());
    Ok(found)
}

/// One snapshot by its id, by an unambiguous prefix of at least 4 digits, or the newest one as
/// `latest`.
///
/// # Errors
/// `SnapshotNotFound`, `SnapshotAmbiguous`, `ManifestCorrupt`, `UnsupportedFormat`, `Storage`,
/// `Closed`.
pub fn get_snapshot(repo: &Repository, id: &str) -> Result<Snapshot> {
    let not_found = || Error::SnapshotNotFound { id: id.to_owned() };
    if id == "latest" {
        return latest_snapshot(repo, &SnapshotFilter::default())?.ok_or_else(not_found);
    }
    if let Some(id) = SnapshotId::from_hex(id) {
        return load(repo, &id);
    }
    if id.len() < MIN_PREFIX {
        return Err(not_found());
    }
    let mut matching = list_ids(repo)?
        .into_iter()
        .filter(|listed| listed.to_hex().starts_with(id));
    match (matching.next(), matching.next()) {
        (Some(only), None) => load(repo, &only),
        (Some(_), Some(_)) => Err(Error::SnapshotAmbiguous { id: id.to_owned() }),
        _ => Err(not_found()),
    }
}

/// The newest snapshot that matches; `None` when none does. A snapshot dated more than 5 minutes
/// ahead is the newest only when all of them are; a warning reports it in either case, because this
/// clock may be wrong. A damaged manifest may be that of the newest snapshot, so it is an error
/// here and is never skipped.
///
/// # Errors
/// `ManifestCorrupt`, `UnsupportedFormat`, `Storage`, `Closed`.
pub fn latest_snapshot(repo: &Repository, filter: &SnapshotFilter) -> Result<Option<Snapshot>> {
    let now_ms = repo.now_ms();
    let mut newest: Option<Snapshot> = None;
    let (mut matching, mut future) = (0u64, 0u64);
    for id in snapshots::to_show(repo, &list_ids(repo)?) {
        match load(repo, id) {
            Ok(snapshot) if !filter.matches(&snapshot) => {}
            Ok(snapshot) => {
                matching += 1;
                future += u64::from(is_future(snapshot.created_at_ms, now_ms));
                let order = |snapshot: &Snapshot| Recency::of(snapshot, now_ms);
                if newest.as_ref().is_none_or(|newest| order(newest) < order(&snapshot)) {
                    newest = Some(snapshot);
                }
            }
            // forgotten since it was listed
            Err(Error::SnapshotNotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    if let Some(newest) = newest.as_ref().filter(|_| future > 0) {
        warn_of_future(repo, newest, future, matching);
    }
    Ok(newest)
}

fn warn_of_future(repo: &Repository, newest: &Snapshot, future: u64, matching: u64) {
    let counts = match future == matching {
        true => "the latest of them is used as the newest",
        false => "the newest of the others is used",
    };
    let (id, time, now) = (newest.id, newest.created_at(), format_time(repo.now_ms()));
    repo.warn(
        "WARN_FUTURE_SNAPSHOTS",
        format!(
            "{future} of {matching} snapshots are dated more than 5 minutes after the clock of this machine ({now}); {counts}: \
             {id} of {time}"
        ),
    );
}

pub(super) fn list_ids(repo: &Repository) -> Result<Vec<SnapshotId>> {
    repo.check_open()?;
    repo.unless_replaced(repo.list_manifests())
}

pub(super) fn load(repo: &Repository, id: &SnapshotId) -> Result<Snapshot> {
    repo.check_open()?;
    let loaded = match snapshots::load(repo, id) {
        // a folder with that name; listings leave it out as well
        Err(Error::NotADirectory { .. }) => None,
        other => other?,
    };
    match loaded {
        Some(snapshot) => Ok(snapshot),
        None => repo.unless_replaced(Err(Error::SnapshotNotFound { id: id.to_hex() })),
    }
}
