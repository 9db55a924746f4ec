//! The small repositories of the sweep, and the damages of their files.

use crate::support::faults::{Files, files_of};
use crate::support::*;
use containerarchive::chunk::ChunkerParams;
use containerarchive::codec::Compression;
use containerarchive::id::SnapshotId;
use containerarchive::layout;
use containerarchive::parity::format::{GroupRecord, PREFIX_LEN};
use containerarchive::repo::{self, InitOptions, ParityParams};
use containerarchive::snapshot::Snapshot;
use containerarchive::snapshot::record::{ForgotReason, ForgotRecord};
use containerarchive::storage::{MemoryStorage, Storage, put_bytes};
use std::sync::Arc;

/// A repository with known content.
pub struct World {
    pub name: &'static str,
    pub flavor: Flavor,
    pub files: Files,
    pub snapshots: Vec<(Snapshot, Vec<u8>)>,
    forgotten: SnapshotId,
    /// Files of an earlier state that no longer exist.
    older: Files,
    /// A similar repository with other keys and ids.
    foreign: Files,
}

/// The damage of one file.
#[derive(Clone)]
pub enum Fault {
    Deleted,
    /// Truncated to this many bytes.
    Cut(usize),
    /// These bits of this byte are flipped.
    Flip(usize, u8),
    /// 4 KiB of zeros from this offset.
    Hole(usize),
    /// More bytes at the end.
    Junk(&'static [u8]),
    /// The file repeated at its end.
    Twice,
    /// Replaced by bytes of another file; the name says which.
    Replaced((&'static str, Vec<u8>)),
    /// Swapped with the file of this name.
    Swapped(String),
}

impl std::fmt::Debug for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cut(len) => write!(f, "cut to {len} bytes"),
            Self::Flip(at, bits) => write!(f, "byte {at} flipped by {bits:#x}"),
            Self::Hole(at) => write!(f, "hole at {at}"),
            Self::Junk(junk) => write!(f, "{} bytes appended", junk.len()),
            Self::Swapped(other) => write!(f, "swapped with {other}"),
            Self::Deleted | Self::Twice | Self::Replaced(_) => f.write_str(self.name()),
        }
    }
}

impl Fault {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Cut(0) => "emptied",
            Self::Cut(_) => "cut",
            Self::Flip(..) => "flipped",
            Self::Hole(_) => "hole",
            Self::Junk(_) | Self::Twice => "appended",
            Self::Replaced((name, _)) => name,
            Self::Swapped(_) => "swapped",
        }
    }

    /// Returns the files with the fault; `None` if it changes nothing.
    pub fn of(&self, files: &Files, key: &str) -> Option<Files> {
        let bytes = &files[key];
        let mut changed = files.clone();
        let damaged = match self {
            Self::Deleted => None,
            Self::Cut(len) => Some(bytes[..*len].to_vec()),
            Self::Flip(at, bits) => {
                let mut bytes = bytes.clone();
                bytes[*at] ^= bits;
                Some(bytes)
            }
            Self::Hole(start) => {
                let mut bytes = bytes.clone();
                let end = bytes.len().min(start + 4096);
                bytes[*start..end].fill(0);
                Some(bytes)
            }
            Self::Junk(junk) => Some([bytes, *junk].concat()),
            Self::Twice => Some([&bytes[..], bytes].concat()),
            Self::Replaced((_, other)) => Some(other.clone()),
            Self::Swapped(other) => changed.insert(other.clone(), bytes.clone()),
        };
        match damaged {
            Some(damaged) => changed.insert(key.to_owned(), damaged),
            None => changed.remove(key),
        };
        (changed != *files).then_some(changed)
    }
}

/// Returns the kind of file of a key.
pub fn kind_of(key: &str) -> &'static str {
    let (folder, name) = key.rsplit_once('/').unwrap_or(("", key));
    match folder {
        "" if layout::is_reserve(name) => "reserve",
        "" if key == layout::README => "readme",
        "" => "config",
        layout::KEYS => "key",
        layout::KEY_COPIES => "key copy",
        layout::RECORDS => "record",
        layout::TAILS => "tail mark",
        layout::SNAPSHOTS => "manifest",
        layout::INDEX => "segment",
        layout::LOCKS => "lock",
        layout::PARITY if name.ends_with(".par") => "par",
        layout::PARITY => "grp",
        layout::DATA if name.ends_with(".idx") => "idx",
        layout::DATA => "pack",
        other => panic!("{other}"),
    }
}

impl World {
    pub fn plain_gzip() -> Self {
        Self::new("plain gzip, one shard", false, Compression::Gzip { level: 3 }, 1)
    }

    pub fn plain_zstd() -> Self {
        Self::new("plain zstd, two shards", false, Compression::Zstd { level: 3 }, 2)
    }

    pub fn sealed_gzip() -> Self {
        Self::new("sealed gzip, two shards", true, Compression::Gzip { level: 3 }, 2)
    }

    pub fn sealed_zstd() -> Self {
        Self::new("sealed zstd, one shard", true, Compression::Zstd { level: 3 }, 1)
    }

    pub fn all() -> [Self; 4] {
        [
            Self::plain_gzip(),
            Self::plain_zstd(),
            Self::sealed_gzip(),
            Self::sealed_zstd(),
        ]
    }

    fn new(name: &'static str, encrypted: bool, compression: Compression, shards: u8) -> Self {
        let flavor = Flavor { encrypted, compression };
        let made = make(flavor, shards, 7);
        Self {
            name,
            flavor,
            files: made.files,
            snapshots: made.snapshots,
            forgotten: made.forgotten,
            older: made.older,
            foreign: make(flavor, shards, 8).files,
        }
    }

    /// Returns the next file of the same kind.
    pub fn next_of_kind(&self, key: &str) -> Option<String> {
        let of_kind = |other: &&String| kind_of(other) == kind_of(key);
        let after = self.files.range(key.to_owned()..).map(|(other, _)| other).skip(1);
        let other = after.chain(self.files.keys()).find(of_kind)?;
        (other != key).then(|| other.clone())
    }

    /// Returns other bytes of files of this kind.
    pub fn replacements(&self, key: &str) -> impl Iterator<Item = (&'static str, Vec<u8>)> {
        let of_kind = |files: &Files| {
            let found = files.iter().find(|(other, _)| kind_of(other) == kind_of(key));
            found.map(|(_, bytes)| bytes.clone())
        };
        let next = self.next_of_kind(key).map(|other| self.files[&other].clone());
        let replaced = [
            next.map(|bytes| ("replaced", bytes)),
            of_kind(&self.older).map(|bytes| ("older", bytes)),
            of_kind(&self.foreign).map(|bytes| ("foreign", bytes)),
        ];
        replaced.into_iter().flatten()
    }

    /// Whether this is the `.idx` of a pack that the session of the forgotten snapshot wrote.
    pub fn is_forgotten(&self, key: &str) -> bool {
        let session = |bytes: &[u8]| bytes.get(88..104) == Some(&self.forgotten.0[..]);
        kind_of(key) == "idx" && session(&self.files[key])
    }

    pub fn members_of_groups(&self) -> Vec<usize> {
        let groups = self.files.iter().filter(|(key, _)| kind_of(key) == "grp");
        groups
            .map(|(_, bytes)| GroupRecord::decode(&bytes[PREFIX_LEN..]).unwrap().head.members.len())
            .collect()
    }
}

struct Made {
    files: Files,
    snapshots: Vec<(Snapshot, Vec<u8>)>,
    forgotten: SnapshotId,
    older: Files,
}

/// Creates four snapshots, and a forgotten one, with full groups and a partial one.
fn make(flavor: Flavor, shards: u8, seed: u64) -> Made {
    let options = InitOptions {
        chunking: ChunkerParams {
            min: 64,
            avg: 256,
            max: 1024,
        },
        parity: Some(Some(ParityParams {
            data: 4,
            parity: shards,
        })),
        ..flavor.small()
    };
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let environment = environment(Arc::clone(&storage), seed);
    let repo = Arc::new(repo::init(environment, flavor.secret().as_ref(), &options).unwrap());
    // enough chunks for a list, then a change in it; random data; few chunks
    let one = [text_bytes(seed, 9_000), random_bytes(seed, 2_000)].concat();
    let mut two = one.clone();
    two.splice(5_000..5_000, *b"a line that was not there before");
    let data = [one, two, random_bytes(seed + 1, 3_000), text_bytes(seed + 2, 700)];
    let mut older = Files::new();
    let mut ingested = |data: &[u8]| {
        let before = files_of(&*storage);
        let snapshot = ingest(&repo, data).unwrap();
        let after = files_of(&*storage);
        older.extend(before.into_iter().filter(|(key, _)| !after.contains_key(key)));
        snapshot
    };
    let forgotten = ingested(&random_bytes(seed + 3, 400));
    let snapshots = data.into_iter().map(|data| (ingested(&data), data)).collect();
    let record = ForgotRecord {
        id: forgotten.id,
        reason: ForgotReason::Forgotten,
        at_ms: 1_795_398_300_000,
    };
    storage.delete(&layout::snapshot(&forgotten.id)).unwrap();
    let key = layout::forgot_record(&forgotten.id);
    put_bytes(&*storage, &key, &record.encode().unwrap()).unwrap();
    Made {
        files: files_of(&*storage),
        snapshots,
        forgotten: forgotten.id,
        older,
    }
}
