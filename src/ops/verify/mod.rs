//! Is everything there, and is it what it should be?
//!
//! In words: look at the small files; read the manifests; hold the packs in the folder, the segments and the `.idx` files
//! against each other; look at the parity groups; from `standard` on, hash every pack and every parity file, and at `full`
//! decode every chunk; then see that every snapshot's chunks can be found (its roots, or at `full` every list node and
//! chunk), and which snapshots and items a damage hits.
//!
//! What always holds: a bad file or sector is a [`Problem`] and never the end of the run. A read that fails is a problem of its
//! own, `ERR_UNREADABLE`: nothing is called damaged or missing for it, and a report with one is not ok. Nothing is judged by a
//! listing alone: what is missing is looked for again, because an ingest, a prune or a forget may be at work. What a crash may
//! leave behind (packs that no segment names, segments that name packs which a power cut took, unfinished parity groups)
//! is a [`Note`], as long as no snapshot needs what is missing. Apart from the index, which heals itself whenever a reader
//! finds it damaged, nothing is written.
//!
//! A handle without the keys of an encrypted repository verifies what needs none (`stored.rs`), at `quick` and `standard`.
//!
//! `quick` reads no pack, except where something is damaged and it must find out what that hits. Memory: about 200 bytes a
//! pack, 100 bytes a snapshot and list node, and 100 bytes for each damaged chunk. Putting things right is left to repair.

mod bodies;
mod copies;
mod doubt;
mod hits;
mod lists;
mod manifests;
mod packs;
mod parity;
mod segments;
mod small;
mod stored;

use crate::error::Result;
use crate::id::{ChunkId, PackId, SnapshotId};
use crate::layout;
use crate::monitor::{Monitor, Progress};
use crate::repo::Repository;
use crate::storage::{self, Entry, ErrorKind, FailedRead, Storage, Verdict};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// How much is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum VerifyLevel {
    /// The small files, the index, the `.idx` files, names and lengths of packs.
    Quick,
    /// And every byte of every pack and parity file, by its hash.
    Standard,
    /// And every chunk decoded and hashed again, every list tree walked.
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

    /// True when what has this random id belongs to the part: its first 8 bytes, read as a big-endian fraction, do.
    pub fn contains(&self, id: &[u8]) -> bool {
        let mut first = [0u8; 8];
        first.iter_mut().zip(id).for_each(|(to, from)| *to = *from);
        let place = (u128::from(u64::from_be_bytes(first)) * u128::from(self.of)) >> 64;
        place + 1 == u128::from(self.part)
    }
}

/// What to verify.
#[derive(Debug, Clone, Copy)]
pub struct VerifyOptions {
    /// How much is read.
    pub level: VerifyLevel,
    /// Read the bodies of these packs (and of the parity groups whose id falls into the same part) only. What `quick`
    /// looks at is always looked at whole.
    pub subset: Option<Subset>,
}

/// Something is damaged or missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Stable code, as `ERR_PACK_CORRUPT`; `docs/errors.md` lists them.
    pub code: &'static str,
    /// The pack it is about, or that holds the chunk.
    pub pack: Option<PackId>,
    /// The chunk it is about.
    pub chunk: Option<ChunkId>,
    /// The file it is about.
    pub path: Option<String>,
    /// What is wrong, for people.
    pub text: String,
    /// The snapshots that cannot be restored whole while it is so (without the help of parity).
    pub snapshots: Vec<SnapshotId>,
    /// Their items that are hit, by name.
    pub items: Vec<(SnapshotId, String)>,
    /// True when a repair can put it right with what is there now.
    pub healable: bool,
}

/// Something that is no error: leftovers of a crash, work of others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Stable code, as `NOTE_ORPHAN_PACK`.
    pub code: &'static str,
    /// The pack it is about.
    pub pack: Option<PackId>,
    /// The file or folder it is about.
    pub path: Option<String>,
    /// What it is, for people.
    pub text: String,
}

/// How much was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VerifyStats {
    /// At `quick`, packs whose name, length and `.idx` were looked at; else packs that were read from end to end.
    pub packs_checked: u64,
    /// At `full`, chunks that were decoded and hashed; else chunks that were held against the index.
    pub chunks_checked: u64,
    /// Snapshots whose manifests were read.
    pub snapshots_checked: u64,
}

/// What a verify found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// What is damaged or missing.
    pub problems: Vec<Problem>,
    /// What else there is to say.
    pub notes: Vec<Note>,
    /// How much was looked at.
    pub stats: VerifyStats,
}

impl VerifyReport {
    /// True when nothing is damaged or missing, and everything could be read.
    pub fn ok(&self) -> bool {
        self.problems.is_empty()
    }
}

/// The code of a problem that is a failed read.
const UNREADABLE: &str = "ERR_UNREADABLE";

/// Verifies the repository. `on_problem` hears of each problem as soon as all about it is known. Progress counts the bytes
/// of the files that are read, and packs as items.
///
/// # Errors
/// `PassphraseRequired` at `full` by a handle without keys, `Cancelled`, `Closed`. Whatever is wrong with the repository is in
/// the report.
pub fn verify(
    repo: &Arc<Repository>,
    options: &VerifyOptions,
    monitor: &dyn Monitor,
    on_problem: &mut dyn FnMut(&Problem),
) -> Result<VerifyReport> {
    let _operation = repo.enter();
    let folder = repo.check_place()?;
    let before = doubt::state(repo);
    let mut run = Run::new(repo, *options, monitor, on_problem);
    run.check_everything()?;
    doubt::resolve(&mut run, before)?;
    run.report_unreadable();
    if !run.report.ok() {
        // what is missing is missing here, and not because the folder is gone or another one
        repo.check_same_place(folder)?;
    }
    Ok(run.finish())
}

/// One verify under way.
struct Run<'a> {
    repo: &'a Arc<Repository>,
    options: VerifyOptions,
    monitor: &'a dyn Monitor,
    on_problem: &'a mut dyn FnMut(&Problem),
    report: VerifyReport,
    /// Problems that may come from somebody else's work: not told yet.
    doubtful: Vec<Problem>,
    /// The first read that failed of each path, and whether a repair could replace the file. What was to be read there is not
    /// judged.
    unread: RefCell<BTreeMap<String, (storage::Error, bool)>>,
    progress: Progress,
    /// Packs in kill lists that snapshots need.
    needed: HashSet<PackId>,
}

/// A small file that was read.
enum Small {
    Bytes(Vec<u8>),
    Gone,
    /// It is no such file, and why.
    Bad(String),
    /// It could not be read, which is noted.
    Unreadable,
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
            doubtful: Vec::new(),
            unread: RefCell::default(),
            progress: Progress::default(),
            needed: HashSet::new(),
        }
    }

    fn check_everything(&mut self) -> Result<()> {
        self.check_running()?;
        if self.repo.is_locked() {
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

    /// Takes note of a read that failed, and gives the result on. Every result of a read goes through here.
    fn noted<T, E: FailedRead>(&self, result: std::result::Result<T, E>) -> std::result::Result<T, E> {
        if let Some(error) = result.as_ref().err().and_then(FailedRead::unreadable) {
            self.note_unread(error, false);
        }
        result
    }

    fn note_unread(&self, error: &storage::Error, healable: bool) {
        let mut unread = self.unread.borrow_mut();
        let known = unread
            .entry(error.path.clone())
            .or_insert_with(|| (error.clone(), false));
        known.1 |= healable;
    }

    /// Tells what could not be read, each file once.
    fn report_unreadable(&mut self) {
        for (path, (error, healable)) in self.unread.take() {
            let is_told = |known: &Problem| known.code == UNREADABLE && known.path.as_ref() == Some(&path);
            if self.report.problems.iter().any(is_told) {
                continue;
            }
            self.tell(Problem {
                pack: layout::id_of(&path, ".pack")
                    .or_else(|| layout::id_of(&path, ".idx"))
                    .map(PackId),
                // of a manifest it is the snapshot itself that cannot be restored
                snapshots: (path.starts_with(layout::SNAPSHOTS))
                    .then(|| layout::id_of(&path, ".json").map(SnapshotId))
                    .flatten()
                    .into_iter()
                    .collect(),
                text: format!("{path} cannot be read: {error}"),
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

    /// How many bytes this run is going to read, as far as that matters.
    fn plan(&mut self, packs: &packs::Packs) {
        self.progress.total_bytes = packs.bytes_to_read(self);
    }

    /// Tells how far it is.
    fn advance(&mut self, bytes: u64, packs: u64) {
        self.progress.done_bytes += bytes;
        self.progress.total_bytes = self.progress.total_bytes.max(self.progress.done_bytes);
        self.progress.items_done += packs;
        self.progress.chunks = self.report.stats.chunks_checked;
        self.monitor.progress(&self.progress);
    }

    fn found(&mut self, problem: Problem) {
        if doubt::is_doubtful(self, &problem) {
            self.doubtful.push(problem);
        } else {
            self.tell(problem);
        }
    }

    fn tell(&mut self, problem: Problem) {
        // about its bytes: an ingest of this handle must not rely on them
        if let Some(pack) = problem.pack
            && (problem.chunk.is_some() || problem.path == Some(layout::pack(&pack)))
        {
            self.repo.note_suspect(pack, problem.chunk);
        }
        (self.on_problem)(&problem);
        self.report.problems.push(problem);
    }

    /// A problem of one file that hits no snapshot.
    fn found_in(&mut self, code: &'static str, path: &str, reason: &str, healable: bool) {
        self.found(Problem {
            code,
            path: Some(path.to_owned()),
            text: format!("{path}: {reason}"),
            healable,
            ..Problem::new(code)
        });
    }

    /// A file that belongs to another repository: left alone, and no damage.
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
                Verdict::Missing => Small::Gone,
                Verdict::Wrong if error.kind == ErrorKind::TooLarge => Small::Bad("it is too long".to_owned()),
                Verdict::Wrong => Small::Bad(error.to_string()),
                Verdict::Unreadable => Small::Unreadable,
            },
        }
    }

    /// True unless it is certain that there is no such file: nothing, or something that is no file.
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

/// Snapshots that have a manifest in the folder, whole or damaged: everything that they need was durable.
type Committed = HashSet<SnapshotId>;
