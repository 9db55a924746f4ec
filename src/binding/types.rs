//! Options and results as JSON: the form in which everything but bytes crosses the boundary.
//! `index.js` has checked types and ranges with better messages; an option that is still wrong here
//! is refused, never guessed.

use crate::chunk::ChunkerParams;
use crate::clock::parse_time;
use crate::codec::Compression;
use crate::crypto::KdfParams;
use crate::error::{Error, Result};
use crate::executor::Executor;
use crate::id::RepoId;
use crate::monitor::{Monitor, Progress};
use crate::ops::files::{MemberPlan, MembersOf};
use crate::ops::{IngestOptions, Outline, RestoreOptions, RestorePlan, TarIndex};
use crate::repo::{Environment, InitOptions, OpenOptions, ParityParams, Secret};
#[cfg(feature = "remote")]
use crate::repo::{RemoteOptions, is_url};
use crate::snapshot::{Snapshot, SnapshotFilter};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use zeroize::Zeroizing;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OpenJson {
    read_only: Option<bool>,
    keyless: Option<bool>,
    threads: Option<usize>,
    memory_limit: Option<u64>,
    lock_wait_ms: Option<u64>,
    verify_writes: Option<bool>,
    heal: Option<bool>,
    repository_id: Option<String>,
    #[cfg(feature = "remote")]
    storage: Option<RemoteOptions>,
    promote: Option<bool>,
}

/// Where and with what a handle works.
#[derive(Default)]
pub struct HandleOptions {
    /// The threads of its own pool; `None` for the shared one.
    pub threads: Option<usize>,
    /// How a bucket is reached; for repositories on object storage.
    #[cfg(feature = "remote")]
    pub storage: Option<RemoteOptions>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct InitJson {
    compression: Option<CompressionJson>,
    chunking: Option<ChunkingJson>,
    pack_size: Option<u64>,
    /// Absent for the default, `null` for no parity.
    #[serde(deserialize_with = "some")]
    parity: Option<Option<ParityJson>>,
    kdf: Option<KdfJson>,
    read_only: Option<bool>,
    threads: Option<usize>,
    memory_limit: Option<u64>,
    lock_wait_ms: Option<u64>,
    verify_writes: Option<bool>,
    heal: Option<bool>,
    #[cfg(feature = "remote")]
    storage: Option<RemoteOptions>,
}

/// Distinguishes `null` from an absent field.
fn some<'de, D, T>(deserializer: D) -> std::result::Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    T::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CompressionJson {
    algorithm: String,
    level: Option<i64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChunkingJson {
    min: u32,
    avg: u32,
    max: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ParityJson {
    data: u8,
    parity: u8,
}

/// KDF costs of a new key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KdfJson {
    memory: u32,
    time: u32,
    lanes: u32,
}

impl Default for KdfJson {
    fn default() -> Self {
        let KdfParams {
            memory_kib,
            time,
            lanes,
        } = KdfParams::default();
        Self {
            memory: memory_kib,
            time,
            lanes,
        }
    }
}

impl From<KdfJson> for KdfParams {
    fn from(json: KdfJson) -> Self {
        Self {
            memory_kib: json.memory,
            time: json.time,
            lanes: json.lanes,
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct IngestJson {
    tags: BTreeMap<String, String>,
    created_at: Option<String>,
    compression: Option<CompressionJson>,
    digest: Option<String>,
    /// Absent for `auto`.
    tar_index: Option<bool>,
    /// Number of items, and bytes of all names, types and tags as JSON strings.
    items: u64,
    text_len: u64,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RestoreJson {
    item: Option<String>,
    /// The bytes of the path of a member, in hex.
    member: Option<String>,
    start: Option<u64>,
    end: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct FilterJson {
    tags: BTreeMap<String, String>,
    after: Option<String>,
    before: Option<String>,
    limit: Option<u64>,
}

/// Parses options; an unknown field is refused.
pub fn parse<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T> {
    serde_json::from_str(json).map_err(|error| invalid(format!("The options are not valid: {error}")))
}

/// An argument that was refused.
pub fn invalid(reason: String) -> Error {
    Error::InvalidArgument { reason }
}

fn time(name: &str, text: &str) -> Result<i64> {
    parse_time(text).ok_or_else(|| {
        invalid(format!(
            "{name} is not an ISO 8601 time from the years -9999 to 9999: {text:?}"
        ))
    })
}

fn compression(json: &CompressionJson) -> Result<Compression> {
    Compression::parse(&json.algorithm, json.level).map_err(|_| {
        invalid(format!(
            "Unknown compression algorithm {:?}, or its level is out of range",
            json.algorithm
        ))
    })
}

impl OpenJson {
    fn handle(self) -> HandleOptions {
        HandleOptions {
            threads: self.threads,
            #[cfg(feature = "remote")]
            storage: self.storage,
        }
    }

    fn options(&self) -> OpenOptions {
        let default = OpenOptions::default();
        OpenOptions {
            read_only: self.read_only.unwrap_or(default.read_only),
            keyless: self.keyless.unwrap_or(default.keyless),
            lock_wait: self.lock_wait_ms.map_or(default.lock_wait, Duration::from_millis),
            memory_limit: self.memory_limit.unwrap_or(default.memory_limit),
            verify_writes: self.verify_writes.unwrap_or(default.verify_writes),
            heal: self.heal.unwrap_or(default.heal),
            repository_id: self.repository_id.as_deref().and_then(RepoId::from_hex),
            promote: self.promote.unwrap_or(default.promote),
        }
    }
}

/// What is needed to work with the repository at a path or URL.
pub fn environment(
    location: &str,
    handle: HandleOptions,
    executor: Arc<dyn Executor>,
    monitor: Arc<dyn Monitor>,
) -> Result<Environment> {
    #[cfg(feature = "remote")]
    {
        if is_url(location) {
            return Environment::remote_with(location, &handle.storage.unwrap_or_default(), executor, monitor);
        }
        if handle.storage.is_some() {
            return Err(invalid(format!(
                "storage: only for a URL such as s3://bucket/prefix; {location} is a path"
            )));
        }
    }
    #[cfg(not(feature = "remote"))]
    drop(handle);
    Environment::local_with(Path::new(location), executor, monitor)
}

/// Parses the options of `open`, and those of its handle.
pub fn open_options(json: &str) -> Result<(OpenOptions, HandleOptions)> {
    let json: OpenJson = parse(json)?;
    Ok((json.options(), json.handle()))
}

/// Parses the options of `init`, and those of its handle.
pub fn init_options(json: &str) -> Result<(InitOptions, HandleOptions)> {
    let json: InitJson = parse(json)?;
    let open = OpenJson {
        read_only: json.read_only,
        keyless: None,
        threads: json.threads,
        memory_limit: json.memory_limit,
        lock_wait_ms: json.lock_wait_ms,
        verify_writes: json.verify_writes,
        heal: json.heal,
        // a new repository generates its own id, and is no mirror
        repository_id: None,
        #[cfg(feature = "remote")]
        storage: json.storage,
        promote: None,
    };
    let chunking = json.chunking.map(|sizes| ChunkerParams {
        min: sizes.min,
        avg: sizes.avg,
        max: sizes.max,
    });
    let parity = json.parity.map(|shape| {
        shape.map(|shape| ParityParams {
            data: shape.data,
            parity: shape.parity,
        })
    });
    let options = InitOptions {
        chunking: chunking.unwrap_or_default(),
        compression: json
            .compression
            .as_ref()
            .map(compression)
            .transpose()?
            .unwrap_or_default(),
        pack_size: json.pack_size,
        parity,
        kdf: json.kdf.unwrap_or_default().into(),
        open: open.options(),
    };
    Ok((options, open.handle()))
}

/// Parses the options of an ingest, and the outline of its snapshot.
pub fn ingest_options(json: &str) -> Result<(IngestOptions, Outline)> {
    let json: IngestJson = parse(json)?;
    let digest_sha256 = match json.digest.as_deref() {
        None => false,
        Some("sha256") => true,
        Some(other) => return Err(invalid(format!("Unknown digest {other:?}"))),
    };
    let outline = Outline {
        items: json.items,
        text_len: json.text_len,
    };
    let options = IngestOptions {
        tags: json.tags,
        created_at_ms: json
            .created_at
            .as_deref()
            .map(|text| time("createdAt", text))
            .transpose()?,
        compression: json.compression.as_ref().map(compression).transpose()?,
        digest_sha256,
        tar_index: match json.tar_index {
            None => TarIndex::Auto,
            Some(true) => TarIndex::Expected,
            Some(false) => TarIndex::Off,
        },
        ..IngestOptions::default()
    };
    Ok((options, outline))
}

/// The bytes of a path from hex.
pub fn member_of(hex: &str) -> Result<Vec<u8>> {
    let bytes = (0..hex.len() / 2).map(|at| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok());
    let bytes: Option<Vec<u8>> = bytes.collect();
    bytes
        .filter(|bytes| 2 * bytes.len() == hex.len())
        .ok_or_else(|| Error::InvalidArgument {
            reason: "member is not hex".to_owned(),
        })
}

/// An item of a snapshot.
pub fn of(snapshot: String, item: Option<String>) -> MembersOf {
    MembersOf { snapshot, item }
}

/// Parses the options of a restore, and the path of a member.
pub fn restore_options(json: &str) -> Result<(RestoreOptions, Option<Vec<u8>>)> {
    let json: RestoreJson = parse(json)?;
    let range = (json.start.is_some() || json.end.is_some()).then(|| (json.start.unwrap_or(0), json.end));
    let member = json.member.as_deref().map(member_of).transpose()?;
    Ok((RestoreOptions { item: json.item, range }, member))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RestoreToFileJson {
    item: Option<String>,
    member: Option<String>,
    path: String,
    #[serde(default)]
    overwrite: bool,
}

/// Parses the options of a restore into a file: the selection, the path of a member, the path of
/// the file, and whether one there is overwritten.
pub fn restore_to_file_options(json: &str) -> Result<(RestoreOptions, Option<Vec<u8>>, String, bool)> {
    let json: RestoreToFileJson = parse(json)?;
    let options = RestoreOptions {
        item: json.item,
        range: None,
    };
    let member = json.member.as_deref().map(member_of).transpose()?;
    Ok((options, member, json.path, json.overwrite))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RestoredJson {
    snapshot_id: String,
    size: u64,
    chunk_count: u64,
}

/// Writes the result of a restore into a file as JSON.
pub fn restored_json(plan: &RestorePlan) -> Result<String> {
    to_json(&RestoredJson {
        snapshot_id: plan.snapshot.id.to_hex(),
        size: plan.size(),
        chunk_count: plan.chunk_count(),
    })
}

/// The same for a member, whose chunks are not counted.
pub fn restored_member_json(plan: &MemberPlan) -> Result<String> {
    to_json(&RestoredJson {
        snapshot_id: plan.snapshot.id.to_hex(),
        size: plan.size(),
        chunk_count: 0,
    })
}

/// Parses a filter for snapshots, and the largest number of them that are wanted.
pub fn filter(json: &str) -> Result<(SnapshotFilter, usize)> {
    let json: FilterJson = parse(json)?;
    let limit = json.limit.and_then(|limit| usize::try_from(limit).ok());
    let filter = SnapshotFilter {
        tags: json.tags,
        after_ms: json.after.as_deref().map(|text| time("after", text)).transpose()?,
        before_ms: json.before.as_deref().map(|text| time("before", text)).transpose()?,
    };
    Ok((filter, limit.unwrap_or(usize::MAX)))
}

/// Copies the secret that unlocks the repository; `None` when neither is given.
pub fn secret(passphrase: Option<&[u8]>, raw_key: Option<&[u8]>) -> Result<Option<Secret>> {
    match (passphrase, raw_key) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(invalid("A passphrase and a key exclude each other".to_owned())),
        (Some([]), None) => Err(invalid("The passphrase is empty".to_owned())),
        (Some(text), None) => Ok(Some(Secret::Passphrase(Zeroizing::new(text.to_vec())))),
        (None, Some(key)) => {
            let key: [u8; 32] = key
                .try_into()
                .map_err(|_| invalid("A raw key must be 32 bytes long".to_owned()))?;
            Ok(Some(Secret::Raw(Zeroizing::new(key))))
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SnapshotJson<'a> {
    id: String,
    version: u32,
    created_at: String,
    tags: &'a BTreeMap<String, String>,
    original_size: u64,
    stored_size: u64,
    chunk_count: u64,
    new_chunks: u64,
    reused_chunks: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    copied_from: Option<OriginJson>,
    items: Vec<ItemJson<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OriginJson {
    repository_id: String,
    snapshot_id: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ItemJson<'a> {
    name: &'a str,
    r#type: &'a str,
    size: u64,
    chunk_count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

impl<'a> From<&'a Snapshot> for SnapshotJson<'a> {
    fn from(snapshot: &'a Snapshot) -> Self {
        let item = |item: &'a crate::snapshot::SnapshotItem| ItemJson {
            name: &item.name,
            r#type: &item.kind,
            size: item.size,
            chunk_count: item.chunk_count,
            sha256: item.sha256.map(|hash| crate::id::to_hex(&hash)),
        };
        Self {
            id: snapshot.id.to_hex(),
            version: snapshot.version,
            created_at: snapshot.created_at(),
            tags: &snapshot.tags,
            original_size: snapshot.original_size,
            stored_size: snapshot.stored_size,
            chunk_count: snapshot.chunk_count,
            new_chunks: snapshot.new_chunks,
            reused_chunks: snapshot.reused_chunks,
            copied_from: snapshot.copied_from.map(|origin| OriginJson {
                repository_id: origin.repository.to_hex(),
                snapshot_id: origin.snapshot.to_hex(),
            }),
            items: snapshot.items.iter().map(item).collect(),
        }
    }
}

/// Writes a result as JSON.
pub fn to_json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Internal {
        reason: error.to_string(),
    })
}

/// Writes an `ISnapshot` as JSON.
pub fn snapshot_json(snapshot: &Snapshot) -> Result<String> {
    to_json(&SnapshotJson::from(snapshot))
}

/// Writes an array of `ISnapshot` as JSON.
pub fn snapshots_json(snapshots: &[Snapshot]) -> Result<String> {
    to_json(&snapshots.iter().map(SnapshotJson::from).collect::<Vec<_>>())
}

/// Writes progress as JSON.
pub fn progress_json(progress: &Progress) -> String {
    let Progress {
        done_bytes,
        new_bytes,
        reused_bytes,
        stored_bytes,
        chunks,
        items_done,
        total_bytes,
        waiting,
        auto_level,
    } = progress;
    let auto_level = auto_level.map_or("null".to_owned(), |level| level.to_string());
    format!(
        "{{\"doneBytes\":{done_bytes},\"newBytes\":{new_bytes},\"reusedBytes\":{reused_bytes},\
         \"storedBytes\":{stored_bytes},\"chunks\":{chunks},\"itemsDone\":{items_done},\
         \"totalBytes\":{total_bytes},\"waiting\":{waiting},\"autoLevel\":{auto_level}}}"
    )
}
