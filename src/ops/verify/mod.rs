//! Checks that everything is present and has the bytes that it should have.
//!
//! Steps: check the small files; read the manifests; compare the packs in the folder, the segments
//! and the `.idx` files with each other; check the parity groups; from `standard` on, hash every
//! pack and every parity file, and at `full` decode every chunk; then check that every snapshot's
//! chunks can be found (its roots, or at `full` every list node and chunk), and determine which
//! snapshots and items each damage affects.
//!
//! Invariants: a bad file or sector is a [`Problem`] and never ends the run. A failed read is a
//! problem of its own, `ERR_UNREADABLE`: nothing is reported as damaged or missing because of it,
//! and a report that contains one is not ok. Nothing is judged by a listing alone: a missing file
//! is looked up again, because an ingest, a prune or a forget may be running. Leftovers of a crash
//! (packs that no segment names, segments that name packs which a power loss removed, unfinished
//! parity groups) are a [`Note`], as long as no snapshot needs the missing data. Nothing is
//! written, except the index, which repairs itself whenever a reader finds it damaged.
//!
//! A handle without the keys of an encrypted repository verifies the parts that need no keys
//! (`stored.rs`), at `quick` and `standard`.
//!
//! `quick` reads no pack, except where something is damaged and the affected snapshots must be
//! determined. Memory: about 200 bytes per pack, 100 bytes per snapshot and list node, and 100
//! bytes for each damaged chunk. Repair is a separate operation.

mod bodies;
mod copies;
mod hits;
mod lists;
mod manifests;
mod packs;
mod parity;
mod recheck;
mod segments;
mod small;
mod stored;

use crate::error::{Error, Result};
use crate::id::{ChunkId, PackId, SnapshotId};
use crate::layout;
use crate::monitor::{Monitor, Progress};
use crate::pack::ChunkLocation;
use crate::repo::Repository;
use crate::repo::read::{ReadScratch, read_at};
use crate::storage::{self, Entry, ErrorKind, FailedRead, Storage, Verdict};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum VerifyLevel {
    /// The small files, the index, the `.idx` files, names and lengths of packs.
    Quick,
    /// Also every byte of every pack and parity file, checked by its hash.
    Standard,
    /// Also every chunk, decoded and hashed, and every list tree.
    Full,
}

/// One of several equal parts of the packs, by pack id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subset {
    part: u32,
    of: u32,
}

impl Subset {
    /// Part `part` (from 1) of `of`; `None` when there is no such part.
    pub fn new(part: u32, of: u32) -> Option<Self> {
        (1..=of).contains(&part).then_some(Self { part, of })
    }

    /// True when the object with this random id belongs to the part: the first 8 bytes, read as a
    /// big-endian fraction, select the part.
    pub fn contains(&self, id: &[u8]) -> bool {
        let mut first = [0u8; 8];
        first.iter_mut().zip(id).for_each(|(to, from)| *to = *from);
        let index = (u128::from(u64::from_be_bytes(first)) * u128::from(self.of)) >> 64;
        index + 1 == u128::from(self.part)
    }
}

/// Options of a verify.
#[derive(Debug, Clone, Copy)]
pub struct VerifyOptions {
    /// How much is read.
    pub level: VerifyLevel,
    /// Read only the bodies of these packs (and of the parity groups whose id falls into the same
    /// part). The checks of `quick` always cover the whole repository.
    pub subset: Option<Subset>,
}

/// Something that is damaged, missing or unreadable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Stable code, such as `ERR_PACK_CORRUPT`; `docs/errors.md` lists them.
    pub code: &'static str,
    /// The affected pack, or the pack that holds the chunk.
    pub pack: Option<PackId>,
    /// The affected chunk.
    pub chunk: Option<ChunkId>,
    /// The affected file.
    pub path: Option<String>,
    /// Human-readable description.
    pub text: String,
    /// The snapshots that cannot be restored completely because of the problem (without the help of
    /// parity).
    pub snapshots: Vec<SnapshotId>,
    /// The affected items of these snapshots, by name.
    pub items: Vec<(SnapshotId, String)>,
    /// True when a repair can fix it with the data that exists now.
    pub healable: bool,
}

/// An observation that is no error: leftovers of a crash, work of other processes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Stable code, such as `NOTE_ORPHAN_PACK`.
    pub code: &'static str,
    /// The affected pack.
    pub pack: Option<PackId>,
    /// The affected file or folder.
    pub path: Option<String>,
    /// Human-readable description.
    pub text: String,
}

/// How much was checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VerifyStats {
    /// At `quick`, packs whose name, length and `.idx` were checked; else packs that were read from
    /// end to end.
    pub packs_checked: u64,
    /// At `full`, chunks that were decoded and hashed; else chunks that were compared with the
    /// index.
    pub chunks_checked: u64,
    /// Snapshots whose manifests were read.
    pub snapshots_checked: u64,
}

/// Result of a verify.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Everything that is damaged, missing or unreadable.
    pub problems: Vec<Problem>,
    /// Observations that are no errors.
    pub notes: Vec<Note>,
    /// How much was checked.
    pub stats: VerifyStats,
}

impl VerifyReport {
    /// True when nothing is damaged, missing or unreadable.
    pub fn ok(&self) -> bool {
        self.problems.is_empty()
    }
}

/// The code of a problem that reports a failed read.
const UNREADABLE: &str = "ERR_UNREADABLE";

/// Verifies the repository. `on_problem` receives each problem as soon as it is completely
/// described. Progress counts the bytes of the files that are read, and packs as items.
///
/// # Errors
/// `PassphraseRequired` at `full` by a handle without keys, `Cancelled`, `Closed`;
/// `RepositoryNotFound`, `RepositoryChanged`, `ConfigCorrupt`, `Permission`, `Storage` when the
/// folder is missing or no longer contains this repository. Everything else that is wrong is in the
/// report.
pub fn verify(
    repo: &Arc<Repository>,
    options: &VerifyOptions,
    monitor: &dyn Monitor,
    on_problem: &mut dyn FnMut(&Problem),
) -> Result<VerifyReport> {
    let _operation = repo.enter();
    let folder = repo.check_folder()?;
    repo.storage().forget_cached();
    let before = recheck::state(repo);
    let mut run = Run::new(repo, *options, monitor, on_problem);
    run.check_everything()?;
    recheck::resolve(&mut run, before)?;
    run.report_unreadable();
    if !run.report.ok() {
        // missing files count only if the root is still the folder that the run began with
        repo.check_same_folder(folder)?;
    }
    Ok(run.finish())
}

/// A verify in progress.
struct Run<'a> {
    repo: &'a Arc<Repository>,
    options: VerifyOptions,
    monitor: &'a dyn Monitor,
    on_problem: &'a mut dyn FnMut(&Problem),
    report: VerifyReport,
    /// Problems that may be an effect of another process's work: not reported before a recheck.
    unconfirmed: Vec<Problem>,
    /// The first failed read of each path, and whether a repair could replace the file. The content
    /// of these files is not judged.
    unread: RefCell<BTreeMap<String, (storage::Error, bool)>>,
    progress: Progress,
    /// Packs that are in kill lists and that snapshots need.
    needed: HashSet<PackId>,
}

/// Result of reading a small file.
enum Small {
    Bytes(Vec<u8>),
    Missing,
    /// The file is invalid, with the reason.
    Bad(String),
    /// The file could not be read; the failed read is recorded.
    Unreadable,
}

/// Lack of memory says as little about a pack as a read of it that failed.
fn as_failed_read(error: Error, pack: &PackId) -> Error {
    match error {
        Error::NoMemory => storage::Error::no_memory(layout::pack(pack)).into(),
        other => other,
    }
}

impl<'a> Run<'a> {
    fn new(
        repo: &'a Arc<Repository>,
        options: VerifyOptions,
        monitor: &'a dyn Monitor,
        on_problem: &'a mut dyn FnMut(&Problem),
    ) -> Self {
        Self {
            repo,
            options,
            monitor,
            on_problem,
            report: VerifyReport::default(),
            unconfirmed: Vec::new(),
            unread: RefCell::default(),
            progress: Progress::default(),
            needed: HashSet::new(),
        }
    }

    fn check_everything(&mut self) -> Result<()> {
        self.check_running()?;
        if self.repo.is_keyless() {
            return stored::check(self);
        }
        small::check(self)?;
        let mut manifests = manifests::read_all(self)?;
        let mut packs = packs::list(self)?;
        segments::check(self, &mut packs)?;
        self.plan(&packs);
        packs::check(self, &mut packs, &mut manifests)?;
        copies::check_copies(self, &packs, &manifests)?;
        let groups = parity::check_heads(self, &packs, &manifests)?;
        let mut damage = hits::Damage::default();
        if self.options.level > VerifyLevel::Quick {
            bodies::check(self, &mut packs, &mut damage)?;
            parity::check_files(self, &groups)?;
        }
        damage.find_chunks(self, &packs)?;
        lists::check(self, &packs, &manifests, &mut damage)?;
        let _ = self.noted(self.repo.index().check_read());
        damage.report(self, &packs, groups.as_ref(), &manifests)
    }

    /// Records a failed read and passes the result on. Every result of a read goes through here.
    fn noted<T, E: FailedRead>(&self, result: std::result::Result<T, E>) -> std::result::Result<T, E> {
        if let Some(error) = result.as_ref().err().and_then(FailedRead::unreadable) {
            self.note_unread(error, false);
        }
        result
    }

    /// Reads a chunk; lack of memory is a failed read.
    fn read_chunk(&self, location: &ChunkLocation, scratch: &mut ReadScratch, out: &mut Vec<u8>) -> Result<()> {
        read_at(self.repo, location, scratch, out).map_err(|error| as_failed_read(error, &location.pack))
    }

    fn note_unread(&self, error: &storage::Error, healable: bool) {
        let mut unread = self.unread.borrow_mut();
        let known = unread
            .entry(error.path.clone())
            .or_insert_with(|| (error.clone(), false));
        known.1 |= healable;
    }

    /// Reports the files that could not be read, each once.
    fn report_unreadable(&mut self) {
        for (path, (error, healable)) in self.unread.take() {
            let is_reported = |known: &Problem| known.code == UNREADABLE && known.path.as_ref() == Some(&path);
            if self.report.problems.iter().any(is_reported) {
                continue;
            }
            self.report_problem(Problem {
                pack: layout::id_of(&path, ".pack")
                    .or_else(|| layout::id_of(&path, ".idx"))
                    .map(PackId),
                // without its manifest a snapshot cannot be restored
                snapshots: (path.starts_with(layout::SNAPSHOTS))
                    .then(|| layout::id_of(&path, ".json").map(SnapshotId))
                    .flatten()
                    .into_iter()
                    .collect(),
                text: format!("{path} could not be read: {error}"),
                path: Some(path),
                healable,
                ..Problem::new(UNREADABLE)
            });
        }
    }

    fn storage(&self) -> &dyn Storage {
        self.repo.storage()
    }

    fn check_running(&self) -> Result<()> {
        self.repo.check_running_without_keys(self.monitor)
    }

    fn finish(mut self) -> VerifyReport {
        self.progress.done_bytes = self.progress.total_bytes;
        self.monitor.progress(&self.progress);
        self.report
    }

    fn is_in_subset(&self, id: &[u8]) -> bool {
        self.options.subset.is_none_or(|subset| subset.contains(id))
    }

    /// Sets the number of bytes that this run will read, as far as it is known.
    fn plan(&mut self, packs: &packs::Packs) {
        self.progress.total_bytes = packs.bytes_to_read(self);
    }

    /// Reports progress.
    fn advance(&mut self, bytes: u64, packs: u64) {
        self.progress.done_bytes += bytes;
        self.progress.total_bytes = self.progress.total_bytes.max(self.progress.done_bytes);
        self.progress.items_done += packs;
        self.progress.chunks = self.report.stats.chunks_checked;
        self.monitor.progress(&self.progress);
    }

    fn found(&mut self, problem: Problem) {
        if recheck::needs_recheck(self, &problem) {
            self.unconfirmed.push(problem);
        } else {
            self.report_problem(problem);
        }
    }

    fn report_problem(&mut self, problem: Problem) {
        // the problem concerns its bytes: an ingest of this handle must not rely on them
        if let Some(pack) = problem.pack
            && (problem.chunk.is_some() || problem.path == Some(layout::pack(&pack)))
        {
            self.repo.note_suspect(pack, problem.chunk);
        }
        (self.on_problem)(&problem);
        self.report.problems.push(problem);
    }

    /// Adds a problem of one file that affects no snapshot.
    fn found_in(&mut self, code: &'static str, path: &str, reason: &str, healable: bool) {
        self.found(Problem {
            code,
            path: Some(path.to_owned()),
            text: format!("{path}: {reason}"),
            healable,
            ..Problem::new(code)
        });
    }

    /// Notes a file that belongs to another repository: it is left alone and is not damage.
    fn note_foreign(&mut self, path: String) {
        let text = format!("{path} belongs to another repository");
        self.note("NOTE_FOREIGN_FILE", None, Some(path), text);
    }

    fn note(&mut self, code: &'static str, pack: Option<PackId>, path: Option<String>, text: String) {
        self.report.notes.push(Note { code, pack, path, text });
    }

    /// Lists a folder; one that cannot be listed is a problem and counts as empty.
    fn list(&mut self, folder: &str) -> Vec<Entry> {
        match self.noted(self.storage().list(folder)) {
            Ok(entries) => entries,
            Err(error) => {
                if error.unreadable().is_none() {
                    self.found_in("ERR_STORAGE", folder, &error.to_string(), false);
                }
                Vec::new()
            }
        }
    }

    fn read_small(&self, key: &str, max_len: u64) -> Small {
        match self.noted(self.storage().get(key, max_len)) {
            Ok(bytes) => Small::Bytes(bytes),
            Err(error) => match error.kind.verdict() {
                Verdict::Missing => Small::Missing,
                Verdict::Wrong if error.kind == ErrorKind::TooLarge => Small::Bad("the file is too long".to_owned()),
                Verdict::Wrong => Small::Bad(error.to_string()),
                Verdict::Unreadable => Small::Unreadable,
            },
        }
    }

    /// True unless it is certain that no such file exists: the path is absent, or is no file.
    fn is_there(&self, key: &str) -> bool {
        match self.noted(self.storage().size(key)) {
            Ok(found) => found.is_some(),
            Err(error) => error.unreadable().is_some(),
        }
    }
}

impl Problem {
    fn new(code: &'static str) -> Self {
        Self {
            code,
            pack: None,
            chunk: None,
            path: None,
            text: String::new(),
            snapshots: Vec::new(),
            items: Vec::new(),
            healable: false,
        }
    }
}

/// Snapshots that have a manifest in the folder, intact or damaged: everything that they need was
/// durable.
type Committed = HashSet<SnapshotId>;
