//! All marks of a repository.

use std::collections::{BTreeMap, HashSet};

use super::format::{MAX_MARK_LEN, Mark, MarkId, MarkPart};
use crate::id::{PackId, RepoId, SnapshotId};
use crate::layout;
use crate::lock::error::Error;
use crate::lock::proof::{ListSeal, Proof};
use crate::storage::{Ask, Entry, ErrorKind, Storage, announced};

/// Most listings until every listed mark was there: each further one means that marks were merged
/// in between.
const MAX_LISTINGS: usize = 64;

/// A mark, and what happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundMark {
    /// Its id.
    pub id: MarkId,
    /// Its packs, sorted.
    pub packs: Vec<PackId>,
    /// Whether it was written by a holder of the keys.
    pub proof: Proof,
    /// The sessions that blocked it, if a proven `.wait` names them.
    pub waits_for: Option<Vec<SnapshotId>>,
    /// The deleted packs, if a proven `.swept` names them.
    pub swept: Option<Vec<PackId>>,
}

impl FoundMark {
    /// Whether a prune may continue it: it is proven, and was not swept.
    pub fn is_open(&self) -> bool {
        self.proof == Proof::Valid && self.swept.is_none()
    }
}

/// All marks of a repository at one time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    marks: Vec<FoundMark>,
    packs: HashSet<PackId>,
}

impl Marks {
    /// Reads all marks of the repository `repo`, and the files that belong to them. A mark that is
    /// damaged or cannot be read fails the call: any pack could be in it. Marks of another
    /// repository are ignored.
    pub fn load(storage: &dyn Storage, repo: &RepoId, seal: &dyn ListSeal) -> Result<Self, Error> {
        let parts = read_parts(storage, repo, seal, &storage.list(layout::MARKS)?, |_| true)?;
        let mut marks: BTreeMap<MarkId, FoundMark> = BTreeMap::new();
        for (mark, proof) in parts {
            let is_proven = proof == Proof::Valid;
            match mark.part {
                MarkPart::Mark => {
                    let found = FoundMark {
                        id: mark.id,
                        packs: mark.packs,
                        proof,
                        waits_for: None,
                        swept: None,
                    };
                    marks.insert(mark.id, found);
                }
                // the mark comes before what belongs to it: `.mark` < `.swept` < `.wait`
                part => match marks.get_mut(&mark.id).filter(|_| is_proven) {
                    Some(found) if part == MarkPart::Wait => found.waits_for = Some(mark.sessions),
                    Some(found) => found.swept = Some(mark.packs),
                    None => {}
                },
            }
        }
        let marks: Vec<FoundMark> = marks.into_values().collect();
        let packs = marks.iter().flat_map(|mark| &mark.packs).copied().collect();
        Ok(Self { marks, packs })
    }

    /// Whether a mark names the pack: copies in it do not count.
    pub fn is_marked(&self, pack: &PackId) -> bool {
        self.packs.contains(pack)
    }

    /// All marks, sorted by id.
    pub fn marks(&self) -> &[FoundMark] {
        &self.marks
    }

    /// All packs in marks.
    pub fn packs(&self) -> &HashSet<PackId> {
        &self.packs
    }
}

/// The packs in all marks, with the files of a listing of their folder: for a writer, which avoids
/// them. Errors are those of [`Marks::load`].
pub fn marked_packs(
    storage: &dyn Storage,
    repo: &RepoId,
    seal: &dyn ListSeal,
    listed: &[Entry],
) -> Result<HashSet<PackId>, Error> {
    let marks = read_parts(storage, repo, seal, listed, |part| part == MarkPart::Mark)?;
    Ok(marks.into_iter().flat_map(|(mark, _)| mark.packs).collect())
}

/// Reads the wanted parts. A listed mark that is missing was merged into one that is listed after
/// it, and so may not be in this listing: the folder is listed again. Other parts may be missing.
fn read_parts(
    storage: &dyn Storage,
    repo: &RepoId,
    seal: &dyn ListSeal,
    listed: &[Entry],
    wanted: impl Fn(MarkPart) -> bool,
) -> Result<Vec<(Mark, Proof)>, Error> {
    let mut listed = listed.to_vec();
    let mut missing = None;
    for _ in 0..MAX_LISTINGS {
        match read_listed(storage, repo, seal, &listed, &wanted) {
            Err(Error::Storage(error)) if error.kind == ErrorKind::NotFound => missing = Some(error),
            other => return other,
        }
        listed = storage.list(layout::MARKS)?;
    }
    Err(missing.map_or(
        Error::Invalid {
            reason: "marks are merged without end",
        },
        Error::Storage,
    ))
}

fn read_listed(
    storage: &dyn Storage,
    repo: &RepoId,
    seal: &dyn ListSeal,
    listed: &[Entry],
    wanted: &dyn Fn(MarkPart) -> bool,
) -> Result<Vec<(Mark, Proof)>, Error> {
    let parts = listed.iter().filter_map(|entry| MarkId::from_key(&entry.key));
    let parts: Vec<(MarkId, MarkPart)> = parts.filter(|(_, part)| wanted(*part)).collect();
    let ask = |(id, part): &(MarkId, MarkPart)| Ask::Get {
        key: id.key(*part),
        max_len: MAX_MARK_LEN,
    };
    let mut found = Vec::with_capacity(parts.len());
    for (id, part) in announced(storage, &parts, ask) {
        let key = id.key(*part);
        let bytes = match storage.get(&key, MAX_MARK_LEN) {
            Err(error) if error.kind == ErrorKind::NotFound && *part != MarkPart::Mark => continue,
            Err(error) if error.kind == ErrorKind::TooLarge => {
                let reason = "it is longer than 64 MiB";
                return Err(Error::Damaged { key, reason });
            }
            other => other?,
        };
        match Mark::decode(&bytes, (*id, *part), seal) {
            Ok((mark, proof)) if mark.repo == *repo => found.push((mark, proof)),
            Ok(_) => {}
            // without it, the mark counts as one that nothing is known of
            Err(Error::Damaged { .. }) if *part != MarkPart::Mark => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}
