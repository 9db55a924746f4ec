//! The key files of a repository: finding the one that a secret opens, listing them, creating
//! another one.
//!
//! Each key is stored in two files, the key file and its second copy (format.md §4.1); a key exists
//! as long as one of the two is intact. This module deletes nothing, and the order of writes
//! belongs to `ops::keys`.
//!
//! Any file in these folders may have been planted: only few files are read, each is bounded, and
//! the cheapest derivations come first, so that a costly forgery next to a genuine key costs
//! nothing.

use super::errors::of_derivation;
use super::options::Secret;
use super::{Base, Environment};
use crate::clock::format_time;
use crate::crypto::{self, KdfParams, KeyBundle, KeyFile, KeyKind, NewKey};
use crate::entropy::random;
use crate::error::{Error, Result};
use crate::id::{KeyId, RepoId};
use crate::layout;
use crate::lock::try_maint;
use crate::monitor::{Monitor, Warning};
use crate::storage::{self, Entry, ErrorKind, Storage, judge, put_bytes};
use crate::sync::lock;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Most keys that are tried when a repository is opened (format.md §4.1).
pub const MAX_KEYS: usize = 32;
/// Largest key file in bytes.
const MAX_KEY_FILE_LEN: u64 = crypto::MAX_KEY_FILE_LEN as u64;
/// Most listings of the folders, if files are deleted between listing and reading.
const LISTINGS: usize = 4;

/// The opened key of a repository.
pub(super) struct Unlocked {
    /// The key file that the secret opened.
    pub id: KeyId,
    /// The bundle in it.
    pub bundle: KeyBundle,
}

/// A key with the unencrypted contents of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// Its id.
    pub id: KeyId,
    /// The kind of secret that opens it.
    pub kind: KeyKind,
    /// Time of creation, RFC 3339 in UTC.
    pub created_at: String,
    /// A name for people.
    pub label: Option<String>,
    /// Cost of the derivation; `None` for a raw key.
    pub kdf: Option<KdfParams>,
    /// This handle was opened with it.
    pub current: bool,
}

/// The existing ones of the two files of a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyNames {
    /// The key file.
    pub file: bool,
    /// Its second copy.
    pub copy: bool,
}

/// The ids of all key files and copies. The copies are listed first: the copy of a new key is put
/// last, so a key that is being added is never listed as a copy without its key file.
pub fn key_names(storage: &dyn Storage) -> storage::Result<BTreeMap<KeyId, KeyNames>> {
    let mut names: BTreeMap<KeyId, KeyNames> = BTreeMap::new();
    let id = |file: &Entry| layout::id_of(&file.key, ".json").map(KeyId);
    for id in storage.list(layout::KEY_COPIES)?.iter().filter_map(id) {
        names.entry(id).or_default().copy = true;
    }
    for id in storage.list(layout::KEYS)?.iter().filter_map(id) {
        names.entry(id).or_default().file = true;
    }
    Ok(names)
}

/// A key file that the secret may open.
struct Candidate {
    id: KeyId,
    file: KeyFile,
    is_copy: bool,
}

/// Findings during the search for the right key file.
#[derive(Default)]
struct Findings {
    /// Intact key files for another secret.
    wrong: bool,
    /// The error of the first damaged one.
    damaged: Option<Error>,
    /// The error of the first one that could not be read. It may be the right one.
    unreadable: Option<Error>,
    /// A listed file does not exist any more.
    vanished: bool,
}

impl Findings {
    fn note_damage(&mut self, path: &str, reason: String) {
        self.damaged.get_or_insert_with(|| Error::KeyFileCorrupt {
            path: path.to_owned(),
            reason,
        });
    }
}

/// The bundle in the first key file of this repository that the secret opens. If a key file is
/// missing or damaged, its second copy is tried.
pub(super) fn find_bundle(env: &Environment, repo: &RepoId, secret: &Secret) -> Result<Unlocked> {
    let mut findings = Findings::default();
    for _ in 0..LISTINGS {
        findings = Findings::default();
        let mut candidates = read_candidates(env, repo, &mut findings)?;
        while let Some(candidate) = candidates.pop_front() {
            env.check_wanted()?;
            match try_candidate(env, repo, &candidate, secret, &mut findings)? {
                Tried::Opened(bundle) => {
                    if candidate.is_copy {
                        env.monitor.warning(Warning {
                            code: "WARN_KEY_FROM_COPY",
                            message: format!("The key file {} is missing or damaged; its copy is used", candidate.id),
                            pack: None,
                        });
                    }
                    return Ok(Unlocked {
                        id: candidate.id,
                        bundle: *bundle,
                    });
                }
                Tried::Failed(copy) => candidates.extend(copy),
            }
        }
        // a key that was changed in the meantime has another id now
        if !findings.vanished {
            break;
        }
    }
    if let Some(unreadable) = findings.unreadable {
        return Err(unreadable);
    }
    if findings.wrong {
        return Err(Error::WrongPassphrase);
    }
    Err(findings.damaged.unwrap_or_else(|| Error::KeyFileCorrupt {
        path: layout::KEYS.to_owned(),
        reason: "there is no key file of this repository".to_owned(),
    }))
}

/// Reads the key files, and the copies of those that are not intact; the cheapest to try first.
fn read_candidates(env: &Environment, repo: &RepoId, findings: &mut Findings) -> Result<VecDeque<Candidate>> {
    let names = key_names(env.storage.as_ref())?;
    let (with_file, without) = names.into_iter().partition::<Vec<_>, _>(|(_, names)| names.file);
    let mut found = Vec::new();
    // real key files first, so that stray copies do not use up the limit
    for (id, names) in with_file.into_iter().chain(without).take(MAX_KEYS) {
        for (is_copy, exists) in [(false, names.file), (true, names.copy)] {
            if exists && let Some(file) = read_file(env, repo, &id, is_copy, findings)? {
                found.push(Candidate { id, file, is_copy });
                break;
            }
        }
    }
    found.sort_by_key(|candidate| work(&candidate.file.kdf));
    Ok(found.into())
}

/// The cost of a derivation, for comparison only.
fn work(kdf: &KdfParams) -> u64 {
    u64::from(kdf.memory_kib) * u64::from(kdf.time)
}

fn path_of(id: &KeyId, is_copy: bool) -> String {
    if is_copy { layout::key_copy(id) } else { layout::key(id) }
}

/// A key file of this repository; `None` when it is damaged, foreign, missing or cannot be read.
fn read_file(
    env: &Environment,
    repo: &RepoId,
    id: &KeyId,
    is_copy: bool,
    findings: &mut Findings,
) -> Result<Option<KeyFile>> {
    let path = path_of(id, is_copy);
    let bytes = match env.storage.get(&path, MAX_KEY_FILE_LEN) {
        Ok(bytes) => bytes,
        Err(error) => {
            match error.kind {
                ErrorKind::NotFound => findings.vanished = true,
                ErrorKind::TooLarge => findings.note_damage(&path, "it is larger than 64 KiB".to_owned()),
                ErrorKind::UnexpectedEnd => findings.note_damage(&path, error.to_string()),
                // its second copy may be readable
                kind if kind.is_erasure() => drop(findings.unreadable.get_or_insert(error.into())),
                _ => return Err(error.into()),
            }
            return Ok(None);
        }
    };
    match KeyFile::decode(&bytes) {
        Ok(file) if file.repo == *repo => return Ok(Some(file)),
        Ok(_) => findings.note_damage(&path, "it belongs to another repository".to_owned()),
        Err(error) => findings.note_damage(&path, error.to_string()),
    }
    Ok(None)
}

enum Tried {
    Opened(Box<KeyBundle>),
    /// With the copy to try next, if the file was found to be damaged.
    Failed(Option<Candidate>),
}

fn try_candidate(
    env: &Environment,
    repo: &RepoId,
    candidate: &Candidate,
    secret: &Secret,
    findings: &mut Findings,
) -> Result<Tried> {
    let wanted = || env.check_wanted().is_ok();
    match candidate.file.unwrap(&secret.credential(), &wanted) {
        Ok(bundle) => return Ok(Tried::Opened(Box::new(bundle))),
        // it is intact, so its copy would give the same result at the same cost
        Err(crypto::Error::WrongCredential | crypto::Error::WrongKind) => {
            findings.wrong = true;
            return Ok(Tried::Failed(None));
        }
        Err(error) => match of_derivation(error) {
            // this error is not about the file
            Some(error) => return Err(error),
            None => findings.note_damage(&path_of(&candidate.id, candidate.is_copy), error.to_string()),
        },
    }
    if candidate.is_copy {
        return Ok(Tried::Failed(None));
    }
    // a key without a copy is no reason to list again
    let vanished = findings.vanished;
    let copy = read_file(env, repo, &candidate.id, true, findings)?;
    findings.vanished = vanished;
    let copy = copy.filter(|copy| *copy != candidate.file);
    Ok(Tried::Failed(copy.map(|file| Candidate {
        id: candidate.id,
        file,
        is_copy: true,
    })))
}

impl Base {
    /// The secrets of this repository, or an error when it is not encrypted.
    fn bundle(&self) -> Result<&KeyBundle> {
        self.bundle.as_ref().ok_or(Error::NotEncrypted)
    }

    /// The key that this handle was opened with, or that it was changed to.
    pub fn current_key(&self) -> Option<KeyId> {
        *lock(&self.current_key)
    }

    /// Notes that a key replaced the one that this handle was opened with.
    pub fn set_current_key(&self, id: KeyId) {
        *lock(&self.current_key) = Some(id);
    }

    /// Creates a key file for the secrets of this repository, and opens it once as a check before
    /// it is returned. Writes nothing.
    ///
    /// # Errors
    /// `NotEncrypted`, `InvalidArgument` (costs, label), `NoMemory`, `NoThreads`, `NoEntropy`,
    /// `Cancelled` and `Closed` (while the derivation waits for others).
    pub fn make_key(
        &self,
        secret: &Secret,
        kdf: &KdfParams,
        label: Option<&str>,
        monitor: &dyn Monitor,
    ) -> Result<(KeyInfo, Vec<u8>)> {
        let bundle = self.bundle()?;
        let created_at = format_time(self.now_ms());
        let new = NewKey {
            id: KeyId(random(self.entropy())?),
            created_at: &created_at,
            label,
        };
        let wanted = || self.check_running(monitor).is_ok();
        let created = KeyFile::wrap(bundle, &secret.credential(), kdf, &new, self.entropy(), &wanted);
        let bytes = created.map_err(|error| match error {
            crypto::Error::CostTooLow | crypto::Error::CostTooHigh => Error::InvalidArgument {
                reason: format!("kdf: {error}"),
            },
            crypto::Error::TooLong => Error::InvalidArgument {
                reason: "The label makes the key file larger than 64 KiB, or the passphrase has 4 GiB or more"
                    .to_owned(),
            },
            crypto::Error::Unwanted => self.check_running(monitor).err().unwrap_or(Error::Cancelled),
            other => of_derivation(other).unwrap_or_else(|| Error::Internal {
                reason: format!("the key could not be created: {other}"),
            }),
        })?;
        let info = self.read_key_bytes(&new.id, &bytes).ok_or_else(|| Error::Internal {
            reason: "the created key file does not decode".to_owned(),
        })?;
        Ok((info, bytes))
    }

    /// A key, from its file or its copy: `None` when neither is intact and of this repository.
    pub fn read_key(&self, id: &KeyId) -> Result<Option<KeyInfo>> {
        let mut unreadable = None;
        for path in [layout::key(id), layout::key_copy(id)] {
            match self.read_key_file(&path) {
                Ok(bytes) => {
                    if let Some(info) = bytes.and_then(|bytes| self.read_key_bytes(id, &bytes)) {
                        return Ok(Some(info));
                    }
                }
                Err(error) => unreadable = Some(error),
            }
        }
        unreadable.map_or(Ok(None), Err)
    }

    /// All intact keys of this repository, the oldest first.
    pub fn read_keys(&self) -> Result<Vec<KeyInfo>> {
        let names: BTreeSet<KeyId> = key_names(self.storage())?.into_keys().collect();
        let mut keys = Vec::new();
        for id in names {
            keys.extend(self.read_key(&id)?);
        }
        keys.sort_by(|a, b| (&a.created_at, a.id).cmp(&(&b.created_at, b.id)));
        Ok(keys)
    }

    /// The bytes at a path; `None` when they are missing, too large or not a regular file.
    pub fn read_key_file(&self, path: &str) -> Result<Option<Vec<u8>>> {
        Ok(judge(self.storage().get(path, MAX_KEY_FILE_LEN))?.ok())
    }

    fn read_key_bytes(&self, id: &KeyId, bytes: &[u8]) -> Option<KeyInfo> {
        let file = KeyFile::decode(bytes).ok()?;
        let passphrase = file.kind == KeyKind::Passphrase;
        // a file that asks for costs above the ceilings cannot be opened
        if file.id != *id || file.repo != self.config.id || (passphrase && file.kdf.check_open().is_err()) {
            return None;
        }
        Some(KeyInfo {
            id: *id,
            kind: file.kind,
            created_at: file.created_at,
            label: file.label,
            kdf: passphrase.then_some(file.kdf),
            current: self.current_key() == Some(*id),
        })
    }

    /// Recreates the second copy of each key file that has none, for example after an interrupted
    /// add or remove of a key, or a loss. Only if no other process maintains the repository.
    /// Nothing depends on it, so a failure is ignored.
    pub fn copy_uncopied_keys(&self) {
        let is_uncopied = |names: &KeyNames| names.file && !names.copy;
        let any_uncopied = || key_names(self.storage()).is_ok_and(|names| names.values().any(is_uncopied));
        // two listings of each open: a repair does it too
        let is_remote = self.storage().is_remote();
        if is_remote || self.bundle.is_none() || self.check_writable().is_err() || !any_uncopied() {
            return;
        }
        let Ok(Some(_maint)) = try_maint(self.storage()) else {
            return;
        };
        let Ok(names) = key_names(self.storage()) else { return };
        for (id, _) in names.iter().filter(|(_, names)| is_uncopied(names)).take(MAX_KEYS) {
            let Ok(Some(bytes)) = self.read_key_file(&layout::key(id)) else {
                continue;
            };
            if self.read_key_bytes(id, &bytes).is_some()
                && put_bytes(self.storage(), &layout::key_copy(id), &bytes).is_ok()
            {
                self.warn(
                    "WARN_KEY_COPIED",
                    format!("The second copy of key file {id} was missing and has been recreated"),
                );
            }
        }
        let _ = self.storage().barrier();
    }
}
