//! Frozen repositories: what was written once must stay readable forever.
//!
//! There is one directory per repository under `fixtures/repos/v<format version>/`, with the
//! repository in `repo/` and the expected contents in `expected.json` (also the secrets that open
//! it: they protect nothing). `scripts/test-reader.mjs` reads the same directories without this
//! engine. They were written by [`freeze`] with seeded randomness and a fixed clock.
//!
//! **Never edit a frozen directory.** When the writer changes and the format does not, add
//! directories next to the old ones, and keep an old recipe in
//! [`the_same_recipe_gives_the_same_bytes`] only while it still gives the same bytes.
//! `CONTAINERARCHIVE_FREEZE=1 cargo test --no-default-features freeze -- --ignored` writes the
//! missing directories.

use crate::support::*;
use containerarchive::chunk::ChunkerParams;
use containerarchive::codec::Compression;
use containerarchive::crypto::{Credential, KdfParams, KeyFile, NewKey, sha256};
use containerarchive::entropy::SeededEntropy;
use containerarchive::id::{KeyId, PackId, from_hex, to_hex};
use containerarchive::layout;
use containerarchive::members;
use containerarchive::monitor::NullMonitor;
use containerarchive::ops::files::{FileListOptions, MembersOf, files};
use containerarchive::ops::{self, IngestOptions, ItemSpec, PruneOptions, ReaderItems, VerifyLevel, VerifyOptions};
use containerarchive::parity::format::{GroupRecord, PREFIX_LEN};
use containerarchive::repo::{self, Environment, InitOptions, OpenOptions, ParityParams, Repository, Secret};
use containerarchive::snapshot::{ItemContent, Snapshot, SnapshotFilter};
use containerarchive::storage::{ErrorKind, FaultyStorage, LocalStorage, MemoryStorage, Storage, put_bytes};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use zeroize::Zeroizing;

/// Every frozen repository, and how it was written.
const RECIPES: [Recipe; 16] = [
    Recipe {
        name: "plain-gzip",
        secrets: &[],
        compressions: [
            Compression::Gzip { level: 3 },
            Compression::Zstd { level: 3 },
            Compression::None,
        ],
        parity: None,
        seed: 96,
        unfinished_prune: false,
    },
    Recipe {
        name: "sealed-zstd",
        secrets: &[
            TextSecret::Passphrase("correct horse battery stäple"),
            TextSecret::Key(0xc5),
        ],
        compressions: [
            Compression::Zstd { level: 3 },
            Compression::Gzip { level: 9 },
            Compression::None,
        ],
        parity: None,
        seed: 1,
        unfinished_prune: false,
    },
    Recipe {
        name: "sealed-raw-key",
        secrets: &[TextSecret::Key(0x5c)],
        compressions: [
            Compression::None,
            Compression::Gzip { level: 1 },
            Compression::Zstd { level: 1 },
        ],
        parity: None,
        seed: 124,
        unfinished_prune: false,
    },
    Recipe {
        name: "plain-parity",
        secrets: &[],
        compressions: [
            Compression::Gzip { level: 3 },
            Compression::Zstd { level: 3 },
            Compression::None,
        ],
        parity: Some(ParityParams { data: 4, parity: 1 }),
        seed: 96,
        unfinished_prune: false,
    },
    Recipe {
        name: "sealed-parity",
        secrets: &[TextSecret::Passphrase("correct horse battery stäple")],
        compressions: [
            Compression::Zstd { level: 3 },
            Compression::Gzip { level: 9 },
            Compression::None,
        ],
        parity: Some(ParityParams { data: 4, parity: 2 }),
        seed: 1,
        unfinished_prune: false,
    },
    Recipe {
        name: "sealed-unfinished-prune",
        secrets: &[TextSecret::Key(0xd1)],
        compressions: [
            Compression::Zstd { level: 3 },
            Compression::Gzip { level: 3 },
            Compression::None,
        ],
        parity: Some(ParityParams { data: 4, parity: 1 }),
        seed: 1,
        unfinished_prune: true,
    },
    Recipe {
        name: "plain-sequence",
        secrets: &[],
        compressions: [
            Compression::Gzip { level: 3 },
            Compression::Zstd { level: 3 },
            Compression::None,
        ],
        parity: Some(ParityParams { data: 4, parity: 1 }),
        seed: 96,
        unfinished_prune: false,
    },
    Recipe {
        name: "sealed-sequence",
        secrets: &[TextSecret::Passphrase("correct horse battery stäple")],
        compressions: [
            Compression::Zstd { level: 3 },
            Compression::Gzip { level: 9 },
            Compression::None,
        ],
        parity: Some(ParityParams { data: 4, parity: 2 }),
        seed: 1,
        unfinished_prune: false,
    },
    Recipe {
        name: "plain-readme",
        secrets: &[],
        compressions: [
            Compression::Gzip { level: 3 },
            Compression::Zstd { level: 3 },
            Compression::None,
        ],
        parity: Some(ParityParams { data: 4, parity: 1 }),
        seed: 96,
        unfinished_prune: false,
    },
    Recipe {
        name: "sealed-readme",
        secrets: &[TextSecret::Passphrase("correct horse battery stäple")],
        compressions: [
            Compression::Zstd { level: 3 },
            Compression::Gzip { level: 9 },
            Compression::None,
        ],
        parity: Some(ParityParams { data: 4, parity: 2 }),
        seed: 1,
        unfinished_prune: false,
    },
    Recipe {
        name: "plain-tails",
        secrets: &[],
        compressions: [
            Compression::Gzip { level: 3 },
            Compression::Zstd { level: 3 },
            Compression::None,
        ],
        parity: Some(ParityParams { data: 4, parity: 1 }),
        seed: 96,
        unfinished_prune: false,
    },
    Recipe {
        name: "sealed-tails",
        secrets: &[TextSecret::Passphrase("correct horse battery stäple")],
        compressions: [
            Compression::Zstd { level: 3 },
            Compression::Gzip { level: 9 },
            Compression::None,
        ],
        parity: Some(ParityParams { data: 4, parity: 2 }),
        seed: 1,
        unfinished_prune: false,
    },
    Recipe {
        name: "plain-members",
        secrets: &[],
        compressions: [
            Compression::Gzip { level: 3 },
            Compression::Zstd { level: 3 },
            Compression::None,
        ],
        parity: Some(ParityParams { data: 4, parity: 1 }),
        seed: 96,
        unfinished_prune: false,
    },
    Recipe {
        name: "sealed-members",
        secrets: &[TextSecret::Passphrase("correct horse battery stäple")],
        compressions: [
            Compression::Zstd { level: 3 },
            Compression::Gzip { level: 9 },
            Compression::None,
        ],
        parity: Some(ParityParams { data: 4, parity: 2 }),
        seed: 1,
        unfinished_prune: false,
    },
    Recipe {
        name: "plain-commit",
        secrets: &[],
        compressions: [
            Compression::Gzip { level: 3 },
            Compression::Zstd { level: 3 },
            Compression::None,
        ],
        parity: Some(ParityParams { data: 4, parity: 1 }),
        seed: 96,
        unfinished_prune: false,
    },
    Recipe {
        name: "sealed-commit",
        secrets: &[TextSecret::Passphrase("correct horse battery stäple")],
        compressions: [
            Compression::Zstd { level: 3 },
            Compression::Gzip { level: 9 },
            Compression::None,
        ],
        parity: Some(ParityParams { data: 4, parity: 2 }),
        seed: 1,
        unfinished_prune: false,
    },
];

/// Returns the recipes that still give the frozen bytes. The others were frozen while the config
/// had the feature `protocol-k`, and copies of the config are in packs and parity groups.
fn current_recipes() -> impl Iterator<Item = &'static Recipe> {
    RECIPES.iter().filter(|recipe| recipe.has_present_config())
}

/// The cheapest key derivation that a reader accepts.
const KDF: KdfParams = KdfParams {
    memory_kib: 8,
    time: 1,
    lanes: 1,
};

/// 2026-11-23T02:00:00.000Z, the time of the first snapshot; the others follow one hour apart.
const FIRST_MS: i64 = 1_795_399_200_000;

struct Recipe {
    name: &'static str,
    /// The secrets. Each of them opens the repository; the first one created it.
    secrets: &'static [TextSecret],
    /// The compression of the repository, and of two of its snapshots.
    compressions: [Compression; 3],
    /// Small groups, so that some are full and some are not.
    parity: Option<ParityParams>,
    /// The seed of randomness and data, chosen so that a list tree has two levels in spite of
    /// little data.
    seed: u64,
    /// Whether a prune was killed right after it had published its kill list.
    unfinished_prune: bool,
}

impl Recipe {
    /// Whether its manifests have a `sequence`.
    fn has_sequences(&self) -> bool {
        self.name.ends_with("-sequence") || self.unfinished_prune || self.has_readme()
    }

    /// It was frozen with its `README.txt`.
    fn has_readme(&self) -> bool {
        self.name.ends_with("-readme") || self.has_tail_marks()
    }

    /// It was frozen with the marks of its parity groups.
    fn has_tail_marks(&self) -> bool {
        self.name.ends_with("-tails") || self.has_members()
    }

    /// It was frozen with a tar and its member index.
    fn has_members(&self) -> bool {
        self.name.ends_with("-members") || self.has_present_config()
    }

    /// It was frozen with the feature `commit-1` in its config.
    fn has_present_config(&self) -> bool {
        self.name.ends_with("-commit")
    }
}

enum TextSecret {
    Passphrase(&'static str),
    /// 32 times this byte.
    Key(u8),
}

impl TextSecret {
    fn secret(&self) -> Secret {
        match self {
            Self::Passphrase(text) => Secret::Passphrase(Zeroizing::new(text.as_bytes().to_vec())),
            Self::Key(byte) => Secret::Raw(Zeroizing::new([*byte; 32])),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Passphrase(text) => json!({ "passphrase": text }),
            Self::Key(byte) => json!({ "key": to_hex(&[*byte; 32]) }),
        }
    }
}

fn secret_of(json: &Value) -> Secret {
    match json["passphrase"].as_str() {
        Some(text) => Secret::Passphrase(Zeroizing::new(text.as_bytes().to_vec())),
        None => Secret::Raw(Zeroizing::new(from_hex(json["key"].as_str().unwrap()).unwrap())),
    }
}

// --- Writing the fixtures ---

type Files = BTreeMap<String, Vec<u8>>;

/// The version that all of them were written by, which their manifests state.
const FROZEN_BY: &str = "0.1.0";

/// Returns the files of a repository written by a recipe, and its `expected.json`.
fn make(recipe: &Recipe) -> (Files, Value) {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let options = InitOptions {
        chunking: ChunkerParams {
            min: 64,
            avg: 256,
            max: 1024,
        },
        compression: recipe.compressions[0],
        pack_size: Some(65_536),
        parity: Some(recipe.parity),
        kdf: KDF,
        open: OpenOptions::default(),
    };
    let secret = recipe.secrets.first().map(TextSecret::secret);
    let environment = environment(Arc::clone(&storage), recipe.seed);
    let repo = Arc::new(repo::init(environment, secret.as_ref(), &options).unwrap());
    if let [first, more @ ..] = recipe.secrets {
        more.iter().for_each(|secret| add_key_file(&*storage, first, secret));
    }
    let snapshots = ingest_all(&repo, recipe);
    if recipe.unfinished_prune {
        begin_a_prune(&repo, recipe, &storage);
    }
    let mut files = files_of(&*storage);
    if !recipe.has_readme() {
        files.remove(layout::README);
    }
    if !recipe.has_tail_marks() {
        files.retain(|key, _| !key.starts_with(layout::TAILS));
    }
    (files, expected(&repo, recipe, &snapshots))
}

/// Adds a second key file, with its copy, for the same bundle.
fn add_key_file(storage: &dyn Storage, known: &TextSecret, new: &TextSecret) {
    let with = |secret: &TextSecret, then: &mut dyn FnMut(&Credential<'_>)| match secret {
        TextSecret::Passphrase(text) => then(&Credential::Passphrase(text.as_bytes())),
        TextSecret::Key(byte) => then(&Credential::Raw(&[*byte; 32])),
    };
    let first = storage.list(layout::KEYS).unwrap().remove(0).key;
    let first = KeyFile::decode(&storage.get(&first, 65_536).unwrap()).unwrap();
    let header = NewKey {
        id: KeyId([0xee; 16]),
        created_at: "2026-11-23T01:50:00.000Z",
        label: Some("a \"second\" key"),
    };
    with(known, &mut |known| {
        let bundle = first.unwrap(known, &|| true).ok().unwrap();
        with(new, &mut |new| {
            let file = KeyFile::wrap(&bundle, new, &KDF, &header, &SeededEntropy::new(99), &|| true).unwrap();
            for folder in [layout::KEY_COPIES, layout::KEYS] {
                put_bytes(storage, &format!("{folder}/{}.json", header.id), &file).unwrap();
            }
        });
    });
}

/// Ingests snapshots with many and few chunks, unusual names, no data, and known data, and one
/// ingest that fails.
fn ingest_all(repo: &Arc<Repository>, recipe: &Recipe) -> Vec<Snapshot> {
    let seed = recipe.seed;
    // the same page many times: a long list of few chunks, with equal nodes
    let mut database = text_bytes(seed, 36_000).repeat(8);
    let odd_names = [
        ("configuration/日本語/ünïcode 🗄.json", text_bytes(seed + 10, 2_000)),
        ("../up and \\ down/\"quoted\"\n", random_bytes(seed + 11, 700)),
        ("empty", Vec::new()),
        (" ", vec![b'x']),
    ];
    let mut at = 0;
    let mut ingest = |tags: &[(&str, &str)], compression, digest, items: &[(&str, &[u8])]| {
        at += 1;
        let options = IngestOptions {
            tags: tags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            created_at_ms: Some(FIRST_MS + (at - 1) * 3_600_000),
            compression,
            digest_sha256: digest,
            writer_version: FROZEN_BY,
            ..IngestOptions::default()
        };
        ingest_with(repo, &options, items).unwrap()
    };
    let tags: &[(&str, &str)] = &[("host", "db-1"), ("größe", "klein \"und\" rein")];
    let [_, second, third] = recipe.compressions;

    let mut first: Vec<(&str, &[u8])> = vec![("database.sql", &database)];
    first.extend(odd_names.iter().map(|(name, data)| (*name, data.as_slice())));
    let mut snapshots = vec![ingest(tags, None, true, &first)];

    // a failed ingest leaves chunks that no snapshot needs
    fail_an_ingest(repo, &text_bytes(seed + 12, 3_000));

    database.splice(30_000..30_010, *b"UPDATE customer SET name = 'x'");
    database.extend_from_slice(&text_bytes(seed + 13, 2_000));
    snapshots.push(ingest(
        &[("host", "db-1")],
        Some(second),
        false,
        &[("database.sql", &database)],
    ));
    snapshots.push(ingest(
        &[],
        Some(third),
        false,
        &[("noise.bin", &random_bytes(seed + 14, 10_000))],
    ));
    // nothing new: the same item with another name
    snapshots.push(ingest(
        &[("kind", "again")],
        None,
        true,
        &[("copy of database.sql", &database)],
    ));
    snapshots.push(ingest(&[], None, false, &[]));
    if recipe.has_members() {
        snapshots.push(ingest(&[], None, false, &[("files.tar", &tar_of_many(seed))]));
    }
    snapshots
}

/// A tar of 40 small files, written by hand so that it is the same everywhere.
fn tar_of_many(seed: u64) -> Vec<u8> {
    let mut tar = Vec::new();
    for n in 0..40u64 {
        let (path, content) = (format!("./dir{}/file{n:03}", n % 7), text_bytes(seed + n, 50));
        let mut block = [0; 512];
        let mut field = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
        field(0, path.as_bytes());
        field(100, b"0000644");
        field(108, b"0001750");
        field(116, b"0001750");
        field(124, format!("{:011o}", content.len()).as_bytes());
        field(136, b"15151515151");
        field(148, b"        0");
        field(257, b"ustar\x0000");
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
        tar.extend_from_slice(&block);
        tar.extend_from_slice(&content);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

fn ingest_with(
    repo: &Arc<Repository>,
    options: &IngestOptions,
    items: &[(&str, &[u8])],
) -> containerarchive::Result<Snapshot> {
    let items = items.iter().map(|(name, data)| {
        let kind = if name.ends_with(".sql") {
            "database-dump"
        } else {
            "file"
        };
        (ItemSpec::new(name, kind), Box::new(*data) as Box<dyn Read + Send>)
    });
    ops::ingest(repo, &mut ReaderItems::new(items.collect()), options, &NullMonitor)
}

fn fail_an_ingest(repo: &Arc<Repository>, data: &[u8]) {
    struct Failing;
    impl Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the source failed"))
        }
    }
    let mut items = ReaderItems::one("broken", "file", data.chain(Failing));
    ops::ingest(repo, &mut items, &IngestOptions::default(), &NullMonitor).unwrap_err();
}

/// Forgets a separate snapshot, and condemns what only that snapshot needed with a kill list of
/// version 2. Deletes nothing.
fn begin_a_prune(repo: &Arc<Repository>, recipe: &Recipe, storage: &Arc<dyn Storage>) {
    let items: &[(&str, &[u8])] = &[("of yesterday", &random_bytes(recipe.seed + 15, 9_000))];
    let options = IngestOptions {
        writer_version: FROZEN_BY,
        ..IngestOptions::default()
    };
    let forgotten = ingest_with(repo, &options, items).unwrap();
    ops::forget(repo, &[forgotten.id]).unwrap();
    let killed = Arc::new(FaultyStorage::new(Arc::clone(storage)));
    let secret = recipe.secrets.first().map(TextSecret::secret);
    let environment = environment(killed.clone(), recipe.seed + 16);
    let other = Arc::new(repo::open(environment, secret.as_ref(), &OpenOptions::default()).unwrap());
    let is_decided = AtomicBool::new(false);
    let is_over = move |op: &'static str, key: &str| {
        let changes = ["put_new", "delete"].contains(&op) && !key.starts_with(layout::LOCKS);
        changes && is_decided.fetch_or(key.starts_with(layout::MARKS), Ordering::Relaxed)
    };
    killed.fail_when(is_over, ErrorKind::Unavailable);
    // copies nothing
    let options = PruneOptions {
        max_unused: 1.0,
        ..PruneOptions::keep_all()
    };
    ops::prune(&other, &options, &NullMonitor).unwrap_err();
}

fn files_of(storage: &dyn Storage) -> Files {
    let folders = layout::FOLDERS.iter().flat_map(|folder| storage.list(folder).unwrap());
    let mut names: Vec<String> = folders.map(|file| file.key).collect();
    names.extend([layout::README, layout::CONFIG].map(str::to_owned));
    let read = |name: String| {
        let bytes = storage.get(&name, u64::MAX).unwrap();
        (name, bytes)
    };
    names.into_iter().map(read).collect()
}

fn expected(repo: &Arc<Repository>, recipe: &Recipe, snapshots: &[Snapshot]) -> Value {
    let snapshots: Vec<Value> = snapshots.iter().map(|snapshot| describe(repo, snapshot)).collect();
    let secrets: Vec<Value> = recipe.secrets.iter().map(TextSecret::json).collect();
    json!({ "secrets": secrets, "snapshots": snapshots })
}

/// Returns the fixture's description of a snapshot, with the hashes of what it restores to now.
fn describe(repo: &Arc<Repository>, snapshot: &Snapshot) -> Value {
    let id = snapshot.id.to_hex();
    let items: Vec<Value> = snapshot
        .items
        .iter()
        .map(|item| {
            let data = restore(repo, &id, Some(&item.name)).unwrap();
            assert_eq!(data.len() as u64, item.size);
            let hash = sha256(&[&data]);
            assert!(item.sha256.is_none_or(|digest| digest == hash));
            let level = match &item.content {
                ItemContent::Inline(_) => Value::Null,
                ItemContent::List { level, .. } => json!(level),
            };
            json!({
                "name": item.name, "type": item.kind, "size": item.size, "chunkCount": item.chunk_count,
                "listLevel": level, "sha256": to_hex(&hash),
            })
        })
        .collect();
    let mut described = json!({
        "id": id, "createdAt": snapshot.created_at(), "tags": snapshot.tags, "originalSize": snapshot.original_size,
        "storedSize": snapshot.stored_size, "chunkCount": snapshot.chunk_count, "newChunks": snapshot.new_chunks,
        "reusedChunks": snapshot.reused_chunks, "items": items,
    });
    if snapshot.sequence > 0 {
        described["sequence"] = json!(snapshot.sequence);
    }
    described
}

#[test]
#[ignore = "writes the fixtures, and only when CONTAINERARCHIVE_FREEZE is set"]
fn freeze() {
    if std::env::var_os("CONTAINERARCHIVE_FREEZE").is_none() {
        return;
    }
    for recipe in current_recipes() {
        let folder = fixtures().join("v1").join(recipe.name);
        if folder.exists() {
            continue;
        }
        let (files, expected) = make(recipe);
        for (name, bytes) in files {
            let path = folder.join("repo").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        let text = serde_json::to_string_pretty(&expected).unwrap();
        std::fs::write(folder.join("expected.json"), text + "\n").unwrap();
    }
}

// --- Reading the fixtures ---

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/repos")
}

fn folder_names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Returns all files below a directory, by their path with slashes.
fn read_files(folder: &Path) -> Files {
    let mut files = Files::new();
    let mut waiting = vec![String::new()];
    while let Some(path) = waiting.pop() {
        for name in folder_names(&folder.join(&path)) {
            let below = if path.is_empty() {
                name
            } else {
                format!("{path}/{name}")
            };
            if folder.join(&below).is_dir() {
                waiting.push(below);
            } else {
                files.insert(below.clone(), std::fs::read(folder.join(&below)).unwrap());
            }
        }
    }
    files
}

/// A copy of a frozen repository that a test may change.
struct Copy {
    folder: tempfile::TempDir,
    files: Files,
    expected: Value,
}

impl Copy {
    fn of(name: &str) -> Self {
        let frozen = fixtures().join("v1").join(name);
        let folder = tempfile::tempdir().unwrap();
        let files = read_files(&frozen.join("repo"));
        for (name, bytes) in &files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        let expected = std::fs::read_to_string(frozen.join("expected.json")).unwrap();
        Self {
            folder,
            files,
            expected: serde_json::from_str(&expected).unwrap(),
        }
    }

    fn open(&self, secret: Option<&Secret>, read_only: bool) -> Arc<Repository> {
        let entropy = Arc::new(SeededEntropy::new(77));
        let storage: Arc<dyn Storage> = Arc::new(LocalStorage::open_path(self.folder.path(), entropy).unwrap());
        let environment: Environment = environment(storage, 78);
        let options = OpenOptions {
            read_only,
            ..OpenOptions::default()
        };
        Arc::new(repo::open(environment, secret, &options).unwrap())
    }

    /// Returns the packs in its kill lists.
    fn condemned(&self) -> Vec<PackId> {
        let secrets = self.secrets();
        let lists = self.open(secrets[0].as_ref(), true).kill_lists().unwrap();
        lists.listed().copied().collect()
    }

    /// Returns each secret, or a single `None` for a plain repository.
    fn secrets(&self) -> Vec<Option<Secret>> {
        let secrets = self.expected["secrets"].as_array().unwrap();
        if secrets.is_empty() {
            return vec![None];
        }
        secrets.iter().map(|secret| Some(secret_of(secret))).collect()
    }
}

/// Checks everything that `expected.json` states.
fn assert_as_expected(copy: &Copy, repo: &Arc<Repository>) {
    let mut snapshots = ops::list_snapshots(repo, &SnapshotFilter::default()).unwrap();
    snapshots.reverse();
    let found: Vec<Value> = snapshots.iter().map(|snapshot| describe(repo, snapshot)).collect();
    assert_eq!(Value::from(found), copy.expected["snapshots"]);
    for snapshot in &snapshots {
        // all items, one after the other
        let whole = restore(repo, &snapshot.id.to_hex(), None).unwrap();
        let items = snapshot.items.iter().map(|item| item.name.as_str());
        let one_by_one = items.map(|name| restore(repo, &snapshot.id.to_hex(), Some(name)).unwrap());
        assert!(whole == one_by_one.collect::<Vec<_>>().concat());
    }
}

#[test]
fn every_frozen_repository_is_listed_in_the_table() {
    assert_eq!(folder_names(&fixtures()), ["v1"]);
    let mut listed = RECIPES.map(|recipe| recipe.name.to_owned());
    listed.sort();
    assert_eq!(folder_names(&fixtures().join("v1")), listed);
}

#[test]
fn every_frozen_repository_reads_as_it_was_written_and_reading_changes_nothing() {
    for recipe in &RECIPES {
        let copy = Copy::of(recipe.name);
        for secret in copy.secrets() {
            assert_as_expected(&copy, &copy.open(secret.as_ref(), true));
        }
        assert!(read_files(copy.folder.path()) == copy.files, "{}", recipe.name);
    }
}

#[test]
fn a_frozen_member_index_lists_the_members() {
    for recipe in RECIPES.iter().filter(|recipe| recipe.has_members()) {
        let copy = Copy::of(recipe.name);
        let secret = recipe.secrets.first().map(TextSecret::secret);
        let repo = copy.open(secret.as_ref(), true);
        let of = MembersOf {
            snapshot: "latest".to_owned(),
            item: None,
        };
        let snapshot = ops::get_snapshot(&repo, "latest").unwrap();
        assert_eq!(snapshot.items[0].extra[0].kind, members::KIND);
        let options = FileListOptions {
            member: b"dir3".to_vec(),
            ..FileListOptions::default()
        };
        let found = files(&repo, &of, &options, &NullMonitor).unwrap().next(1000).unwrap();
        let paths: Vec<_> = found.iter().map(|listed| listed.key.path()).collect();
        let expected = (0..40).filter(|n| n % 7 == 3);
        let expected: Vec<_> = expected.map(|n| format!("dir3/file{n:03}").into_bytes()).collect();
        assert_eq!(paths, expected);
    }
}

#[test]
fn a_frozen_repository_is_read_without_its_index_files() {
    for recipe in &RECIPES {
        let copy = Copy::of(recipe.name);
        for name in copy.files.keys() {
            if name.ends_with(".seg") || name.ends_with(".idx") {
                std::fs::remove_file(copy.folder.path().join(name)).unwrap();
            }
        }
        let secrets = copy.secrets();
        assert_as_expected(&copy, &copy.open(secrets[0].as_ref(), true));
    }
}

#[test]
fn a_frozen_repository_accepts_ingests_and_still_deduplicates() {
    for recipe in &RECIPES {
        let copy = Copy::of(recipe.name);
        let secrets = copy.secrets();
        let repo = copy.open(secrets[0].as_ref(), false);
        let id = copy.expected["snapshots"][1]["id"].as_str().unwrap();
        let database = restore(&repo, id, Some("database.sql")).unwrap();
        let options = IngestOptions {
            created_at_ms: Some(FIRST_MS + 86_400_000),
            ..IngestOptions::default()
        };
        let again = ingest_with(&repo, &options, &[("database.sql", &database)]).unwrap();
        assert_eq!((again.new_chunks, again.stored_size), (0, 0), "{}", recipe.name);
        let last = copy.expected["snapshots"].as_array().unwrap().iter();
        let last = last.filter_map(|snapshot| snapshot["sequence"].as_u64()).max();
        assert_eq!(again.sequence, last.unwrap_or(0) + 1, "{}", recipe.name);
        assert!(restore(&repo, &again.id.to_hex(), None).unwrap() == database);
        let old = ops::list_snapshots(&repo, &SnapshotFilter::default()).unwrap();
        assert_eq!(old.len(), copy.expected["snapshots"].as_array().unwrap().len() + 1);
    }
}

#[test]
fn a_frozen_repository_with_parity_restores_each_lost_file() {
    for recipe in RECIPES.iter().filter(|recipe| recipe.parity.is_some()) {
        let copy = Copy::of(recipe.name);
        let secrets = copy.secrets();
        // condemned packs that no snapshot needs are not rebuilt
        let condemned = copy.condemned();
        let is_condemned = |name: &str| layout::id_of(name, ".pack").is_some_and(|id| condemned.contains(&PackId(id)));
        let lost = |name: &&String| {
            (name.ends_with(".pack") && !is_condemned(name)) || name.ends_with(".par") || name.ends_with(".grp")
        };
        for name in copy.files.keys().filter(lost) {
            std::fs::remove_file(copy.folder.path().join(name)).unwrap();
            let repo = copy.open(secrets[0].as_ref(), false);
            if name.ends_with(".pack") {
                // through parity, before the repair
                assert_as_expected(&copy, &copy.open(secrets[0].as_ref(), true));
            }
            ops::repair(&repo, &NullMonitor).unwrap();
            assert!(read_files(copy.folder.path()) == copy.files, "{}: {name}", recipe.name);
        }
    }
}

#[test]
fn a_frozen_unfinished_prune_is_finished_and_loses_no_snapshot() {
    for recipe in RECIPES.iter().filter(|recipe| recipe.unfinished_prune) {
        let copy = Copy::of(recipe.name);
        let condemned = copy.condemned();
        assert!(condemned.len() >= 2);
        let repo = copy.open(copy.secrets()[0].as_ref(), false);
        let full = VerifyOptions {
            level: VerifyLevel::Full,
            subset: None,
        };
        let verify = || ops::verify(&repo, &full, &NullMonitor, &mut |_| {}).unwrap();
        let report = verify();
        assert!(
            report.ok() && report.notes[0].code == "NOTE_UNFINISHED_PRUNE",
            "{report:?}"
        );
        let kept = PruneOptions {
            max_unused: 1.0,
            ..PruneOptions::keep_all()
        };
        let pruned = ops::prune(&repo, &kept, &NullMonitor).unwrap();
        assert_eq!(pruned.removed_packs, condemned.len() as u64);
        assert_as_expected(&copy, &repo);
        let report = verify();
        assert!(report.ok() && report.notes.is_empty(), "{report:?}");
        for pack in &condemned {
            assert_eq!(repo.storage().size(&layout::pack(pack)).unwrap(), None);
        }
    }
}

#[test]
fn every_frozen_repository_can_be_pruned_repaired_and_verified() {
    for recipe in &RECIPES {
        let copy = Copy::of(recipe.name);
        let repo = copy.open(copy.secrets()[0].as_ref(), false);
        ops::repair(&repo, &NullMonitor).unwrap();
        ops::prune(&repo, &PruneOptions::keep_all(), &NullMonitor).unwrap();
        let full = VerifyOptions {
            level: VerifyLevel::Full,
            subset: None,
        };
        let report = ops::verify(&repo, &full, &NullMonitor, &mut |_| {}).unwrap();
        assert!(report.ok(), "{}: {report:?}", recipe.name);
        assert_as_expected(&copy, &repo);
    }
}

#[test]
fn the_same_recipe_gives_the_same_bytes() {
    for recipe in current_recipes() {
        let (files, expected) = make(recipe);
        let frozen = Copy::of(recipe.name);
        assert_eq!(expected, frozen.expected, "{}", recipe.name);
        let names = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&files), names(&frozen.files), "{}", recipe.name);
        for (name, bytes) in files {
            assert!(frozen.files[&name] == bytes, "{}: {name} differs", recipe.name);
        }
    }
}

/// Returns the number of packs in each parity group.
fn members_of_groups(copy: &Copy) -> Vec<usize> {
    let records = copy.files.iter().filter(|(name, _)| name.ends_with(".grp"));
    records
        .map(|(_, bytes)| GroupRecord::decode(&bytes[PREFIX_LEN..]).unwrap().head.members.len())
        .collect()
}

#[test]
fn the_frozen_repositories_contain_every_case_a_reader_must_handle() {
    for recipe in &RECIPES {
        let copy = Copy::of(recipe.name);
        let snapshots = copy.expected["snapshots"].as_array().unwrap();
        let items = || {
            snapshots
                .iter()
                .flat_map(|snapshot| snapshot["items"].as_array().unwrap())
        };
        let has = |what: &str, found: bool| assert!(found, "{}: no {what}", recipe.name);
        has("list tree of two levels", items().any(|item| item["listLevel"] == 1));
        has("list of one node", items().any(|item| item["listLevel"] == 0));
        has("inline item", items().any(|item| item["listLevel"].is_null()));
        has("empty item", items().any(|item| item["size"] == 0));
        has(
            "snapshot without items",
            snapshots.iter().any(|s| s["items"] == json!([])),
        );
        has(
            "reused chunks",
            snapshots.iter().any(|s| s["reusedChunks"].as_u64() > Some(100)),
        );
        assert_eq!(copy.files.contains_key(layout::README), recipe.has_readme());
        let count = |ending: &str| copy.files.keys().filter(|name| name.ends_with(ending)).count();
        has("packs enough", count(".pack") >= 8);
        let numbers: Vec<Option<u64>> = snapshots.iter().map(|snapshot| snapshot["sequence"].as_u64()).collect();
        let expected = |at: u64| recipe.has_sequences().then_some(at + 1);
        assert_eq!(
            numbers,
            (0..snapshots.len() as u64).map(expected).collect::<Vec<_>>(),
            "{}",
            recipe.name
        );
        has("merged segments", (1..=4).contains(&count(".seg")));
        match recipe.parity {
            None => assert_eq!(count(".par") + count(".grp"), 0),
            Some(shape) => {
                has("groups enough", count(".grp") >= 3);
                assert_eq!(count(".par"), count(".grp") * usize::from(shape.parity));
                // a later version has to grow the groups that this one began
                let members = members_of_groups(&copy);
                has("full group", members.contains(&shape.data.into()));
                // the packs of the tar happen to fill the last group of these recipes
                let has_tail = members.iter().any(|members| *members < shape.data.into());
                has("tail group", has_tail || recipe.has_members());
                assert_eq!(members.iter().sum::<usize>(), count(".pack"), "{}", recipe.name);
            }
        }
        let size: usize = copy.files.values().map(Vec::len).sum();
        let most = if recipe.has_members() { 512 << 10 } else { 384 << 10 };
        assert!(size < most, "{} has {size} bytes", recipe.name);
    }
}
