//! The known sources, and the steps of a process on the simulated disk.

use super::process::{Baton, Process, Schedule, Watched};
use crate::support::{Flavor, environment, init, open, random_bytes, restore, text_bytes};
use containerarchive::Result;
use containerarchive::entropy::{Entropy, NoEntropy, SeededEntropy};
use containerarchive::id::SnapshotId;
use containerarchive::layout;
use containerarchive::monitor::{NullMonitor, TestMonitor};
use containerarchive::ops::{self, IngestOptions, ItemSpec, ReaderItems};
use containerarchive::repo::{self, OpenOptions, Repository, SeededBug};
use containerarchive::snapshot::Snapshot;
use containerarchive::storage::simfs::SimFs;
use containerarchive::storage::{LocalStorage, Storage};
use std::io::Read;
use std::sync::{Arc, Mutex, OnceLock};

/// Contained in every content, item name and tag. In a sealed repository no file may show it.
pub const MARKER: &[u8] = b"PLAINTEXT-MARKER";

/// A source: the names and contents of its items.
pub type Source = Vec<(String, Vec<u8>)>;

/// A snapshot whose ingest returned `Ok`, and the number of its source.
pub type Ack = (SnapshotId, usize);

/// What had been promised when a run ended.
#[derive(Debug, Clone, Default)]
pub struct Promised {
    /// Whether init had returned.
    pub repository: bool,
    /// Snapshots that must be listed.
    pub snapshots: Vec<Ack>,
    /// Snapshots that must not be listed.
    pub forgotten: Vec<SnapshotId>,
}

/// The seeded bugs that the harness must detect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Flushes of files have no effect.
    NoFileFsync,
    /// Flushes of directories have no effect.
    NoFolderFsync,
    /// Flushes of the directory of the snapshots have no effect.
    NoSnapshotsFsync,
    /// All half-written files of a directory have the same name.
    OneTempName,
    /// A bug of the engine itself.
    Engine(SeededBug),
}

/// Numbers of the sources.
pub const BASE: usize = 0;
pub const CHANGED: usize = 1;
pub const SEVERAL: usize = 2;
pub const HALF_SHARED: usize = 3;
pub const SMALL: usize = 4;
/// The number of small sources that follow, each with its own data.
pub const SMALL_ONES: usize = 6;
/// The number of further small sources that only prunes need.
pub const MORE_SMALL_ONES: usize = 4;
/// The first two small sources, concatenated.
pub const PAIR: usize = SMALL + SMALL_ONES + MORE_SMALL_ONES + 1;

/// The known sources. `BASE` fills two packs and has a list; the others share data with it.
pub fn sources() -> &'static [Source] {
    static SOURCES: OnceLock<Vec<Source>> = OnceLock::new();
    SOURCES.get_or_init(|| {
        let marked = |mut data: Vec<u8>| {
            for at in (0..data.len()).step_by(2000) {
                data.splice(at..at, MARKER.iter().copied());
            }
            data
        };
        let one = |data: Vec<u8>| vec![("PLAINTEXT-MARKER.sql".to_owned(), data)];
        let base = marked([random_bytes(1, 66_000), text_bytes(2, 10_000)].concat());
        let mut changed = base.clone();
        changed.splice(40_000..40_100, random_bytes(3, 3000));
        let several = vec![
            ("PLAINTEXT-MARKER/a".to_owned(), base[..30_000].to_vec()),
            ("empty".to_owned(), Vec::new()),
            ("b".to_owned(), marked(text_bytes(4, 20_000))),
            ("c".to_owned(), b"short".to_vec()),
        ];
        let half = [&base[..40_000], &marked(random_bytes(5, 25_000))].concat();
        let mut all = vec![one(base), one(changed), several, one(half)];
        all.extend(
            (0..=(SMALL_ONES + MORE_SMALL_ONES) as u64).map(|number| one(marked(random_bytes(10 + number, 8_000)))),
        );
        let pair = [SMALL, SMALL + 1].map(|number| all[number][0].1.as_slice()).concat();
        all.push(one(pair));
        all
    })
}

/// The environment of a process on the simulated disk, and the monitor that collects its warnings.
pub struct Hands {
    pub environment: containerarchive::repo::Environment,
    pub monitor: Arc<TestMonitor>,
}

/// Creates a process on `storage`. Each process of one history needs its own seed, since ids must
/// be unique.
pub fn hands(storage: impl Storage + 'static, seed: u64) -> Hands {
    let monitor = Arc::new(TestMonitor::default());
    let mut environment = environment(Arc::new(storage), seed);
    environment.monitor = Arc::clone(&monitor) as _;
    Hands { environment, monitor }
}

/// Enables a bug of the engine.
pub fn misbehave(repo: &Repository, bug: Option<Bug>) {
    if let Some(Bug::Engine(bug)) = bug {
        repo.seed_bug(bug);
    }
}

/// The local store on `disk`, for a process with this bug.
pub fn store_with(disk: &SimFs, seed: u64, bug: Option<Bug>) -> LocalStorage {
    match bug {
        Some(Bug::NoSnapshotsFsync) => {
            let process = Process::skips_fsync_of(disk, layout::SNAPSHOTS);
            LocalStorage::new(Arc::new(process), Arc::new(SeededEntropy::new(seed ^ 0xd15c)))
        }
        Some(Bug::OneTempName) => LocalStorage::new(Arc::new(disk.clone()), Arc::new(OneNumber)),
        _ => store(disk, seed),
    }
}

/// Returns the same bytes each time.
struct OneNumber;

impl Entropy for OneNumber {
    fn fill(&self, out: &mut [u8]) -> std::result::Result<(), NoEntropy> {
        out.fill(7);
        Ok(())
    }
}

/// The local store on `disk`.
pub fn store(disk: &SimFs, seed: u64) -> LocalStorage {
    LocalStorage::new(Arc::new(disk.clone()), Arc::new(SeededEntropy::new(seed ^ 0xd15c)))
}

/// Opens the repository on `disk`.
pub fn open_on(disk: &SimFs, flavor: Flavor, seed: u64) -> Result<Arc<Repository>> {
    open(hands(store(disk, seed), seed).environment, flavor)
}

/// Opens a read-only handle that does not heal.
pub fn open_read_only(disk: &SimFs, flavor: Flavor, seed: u64) -> Result<Arc<Repository>> {
    let options = OpenOptions {
        read_only: true,
        heal: false,
        ..OpenOptions::default()
    };
    let environment = hands(store(disk, seed), seed).environment;
    repo::open(environment, flavor.secret().as_ref(), &options).map(Arc::new)
}

/// Ingests a known source; a tag contains its number.
pub fn ingest_source(repo: &Arc<Repository>, number: usize) -> Result<Snapshot> {
    ingest_reader(repo, number, |data| Box::new(data))
}

fn ingest_reader(
    repo: &Arc<Repository>,
    number: usize,
    reader: impl Fn(&'static [u8]) -> Box<dyn Read + Send>,
) -> Result<Snapshot> {
    let items = sources()[number]
        .iter()
        .map(|(name, data)| (ItemSpec::new(name, "PLAINTEXT-MARKER"), reader(data)));
    let tags = [
        ("source", number.to_string()),
        ("PLAINTEXT-MARKER", "PLAINTEXT-MARKER".to_owned()),
    ];
    let options = IngestOptions {
        tags: tags.map(|(key, value)| (key.to_owned(), value)).into(),
        ..IngestOptions::default()
    };
    ops::ingest(repo, &mut ReaderItems::new(items.collect()), &options, &NullMonitor)
}

/// Runs an ingest whose source fails after its first items and half of the last one.
pub fn ingest_failing(repo: &Arc<Repository>, number: usize) {
    struct Breaks(&'static [u8]);
    impl Read for Breaks {
        fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
            match self.0.is_empty() {
                true => Err(std::io::Error::other("the dump died")),
                false => self.0.read(out),
            }
        }
    }
    let failed = ingest_reader(repo, number, |data| Box::new(Breaks(&data[..data.len() / 2])));
    assert!(failed.is_err(), "a failed source became a snapshot");
}

/// Compares a snapshot with the source that its tag names.
pub fn compare(repo: &Arc<Repository>, snapshot: &Snapshot) -> std::result::Result<usize, String> {
    let id = snapshot.id.to_hex();
    let number: usize = snapshot
        .tags
        .get("source")
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("snapshot {id} names no source"))?;
    let source = sources().get(number).ok_or("an unknown source")?;
    let names: Vec<&String> = snapshot.items.iter().map(|item| &item.name).collect();
    if names != source.iter().map(|(name, _)| name).collect::<Vec<_>>() {
        return Err(format!("snapshot {id} has items {names:?}"));
    }
    let restored = restore(repo, &id, None).map_err(|error| format!("snapshot {id} does not restore: {error}"))?;
    if restored
        != source
            .iter()
            .map(|(_, data)| data.as_slice())
            .collect::<Vec<_>>()
            .concat()
    {
        return Err(format!("snapshot {id} restores to other bytes than source {number}"));
    }
    Ok(number)
}

/// One process: opens the repository and ingests some sources, one after the other.
pub fn ingests(disk: &SimFs, flavor: Flavor, seed: u64, bug: Option<Bug>, numbers: &[usize]) -> Promised {
    ingests_on(store_with(disk, seed, bug), flavor, seed, bug, numbers)
}

/// One process with one ingest, and a hook that runs right before its commit. With `own_only` its
/// barriers cover only what it wrote itself.
pub fn ingests_while(
    disk: &SimFs,
    flavor: Flavor,
    number: usize,
    own_only: bool,
    happens: impl FnOnce() + Send + 'static,
) -> Promised {
    let storage = Watched {
        inner: store(disk, 100),
        before_commit: Mutex::new(Some(Box::new(happens))),
        commit_locks: Default::default(),
        own_only,
    };
    ingests_on(storage, flavor, 100, None, &[number])
}

fn ingests_on(
    storage: impl Storage + 'static,
    flavor: Flavor,
    seed: u64,
    bug: Option<Bug>,
    numbers: &[usize],
) -> Promised {
    let mut promised = Promised {
        repository: true,
        ..Promised::default()
    };
    let Ok(repo) = open(hands(storage, seed).environment, flavor) else {
        return promised;
    };
    misbehave(&repo, bug);
    for number in numbers {
        match ingest_source(&repo, *number) {
            Ok(snapshot) => promised.snapshots.push((snapshot.id, *number)),
            Err(_) => break,
        }
    }
    promised
}

/// One process that creates the repository.
pub fn makes(disk: &SimFs, flavor: Flavor, seed: u64) -> Promised {
    Promised {
        repository: init(hands(store(disk, seed), seed).environment, flavor).is_ok(),
        ..Promised::default()
    }
}

/// The operations of one process on a disk.
pub type Act<'a> = dyn Fn(&SimFs) -> Promised + Sync + 'a;

/// Two processes with an ingest each, taking turns.
pub fn interleaved(disk: &SimFs, flavor: Flavor, numbers: [&[usize]; 2], schedule: Schedule) -> Promised {
    let [one, two] = [0, 1].map(|me| move |disk: &SimFs| ingests(disk, flavor, 100 + me as u64, None, numbers[me]));
    side_by_side(disk, schedule, [&one, &two])
}

/// Two processes that take turns.
pub fn side_by_side(disk: &SimFs, schedule: Schedule, acts: [&Act<'_>; 2]) -> Promised {
    let baton = Baton::new(schedule);
    let hook = Arc::clone(&baton);
    disk.before_mutation(Some(Box::new(move |_| hook.before_call())));
    let promised = std::thread::scope(|scope| {
        let threads = [0, 1].map(|me| {
            let baton = &baton;
            let act = acts[me];
            scope.spawn(move || {
                let _part = baton.enter(me);
                act(disk)
            })
        });
        threads.map(|thread| thread.join().unwrap())
    });
    disk.before_mutation(None);
    let [mut one, two] = promised;
    one.snapshots.extend(two.snapshots);
    one
}

/// Like [`ingests`], but killed after this many calls.
pub fn killed_ingests(disk: &SimFs, flavor: Flavor, seed: u64, calls: u64, numbers: &[usize]) -> Promised {
    let process = Process::killed_after(disk, calls);
    let storage = LocalStorage::new(Arc::new(process), Arc::new(SeededEntropy::new(seed ^ 0xd15c)));
    ingests_on(storage, flavor, seed, None, numbers)
}

/// A process that is killed after this many calls, and then another one, without a power cut
/// between them.
pub fn killed_then(disk: &SimFs, flavor: Flavor, calls: u64, [first, second]: [&[usize]; 2]) -> Promised {
    let mut promised = killed_ingests(disk, flavor, 100, calls, first);
    let then = ingests(disk, flavor, 101, None, second);
    promised.snapshots.extend(then.snapshots);
    promised
}

/// A process that is killed while it creates the repository, and then another one that uses the
/// result.
pub fn killed_init_then(disk: &SimFs, flavor: Flavor, calls: u64, numbers: &[usize]) -> Promised {
    let process = Process::killed_after(disk, calls);
    let storage = LocalStorage::new(Arc::new(process), Arc::new(SeededEntropy::new(100 ^ 0xd15c)));
    let made = init(hands(storage, 100).environment, flavor).is_ok();
    let mut promised = Promised {
        repository: made,
        ..Promised::default()
    };
    if open_on(disk, flavor, 101).is_err() {
        promised.repository |= makes(disk, flavor, 102).repository;
    }
    let then = ingests(disk, flavor, 103, None, numbers);
    promised.repository |= !then.snapshots.is_empty();
    promised.snapshots = then.snapshots;
    promised
}
