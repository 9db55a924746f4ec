//! The manifest of a snapshot: its JSON form (`docs/format.md` §8.1) and the sealed envelope around
//! it (§8.2).
//!
//! Invariant: a plain manifest is never accepted in an encrypted repository, nor a sealed one in a
//! plain repository. Otherwise anyone who can write into the directory could plant a manifest.
//! Storage is left to the caller.

use std::collections::{BTreeMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::error::{Error, damaged};
use super::list::MAX_LEVEL;
use super::model::{
    EXTRAS_PER_ITEM, Extra, ItemContent, MAX_EXTRA_KIND_LEN, MAX_MANIFEST_LEN, MAX_RAW_LEN, MAX_SIZE, Origin, Snapshot,
    SnapshotItem, VERSION, parse_exact_time,
};
use crate::crypto::{self, NONCE_LEN, SecretKey, TAG_LEN, padme};
use crate::entropy::{self, Entropy};
use crate::id::{self, ChunkId, RepoId, SnapshotId};
use crate::{checked_json, clock};

const TOOL: &str = "containerarchive";
const ALGORITHM: &str = "aes-256-gcm";
const AAD_DOMAIN: &[u8] = b"containerarchive/manifest/v1\0";
const SALT_LEN: usize = 24;
/// Shorter manifests are padded up to this, in bytes.
const MIN_SEALED_LEN: u64 = 1024;
/// Key and nonce are used once: the key comes from a fresh salt.
const ZERO_NONCE: [u8; NONCE_LEN] = [0; NONCE_LEN];

/// Reason why a manifest cannot be written: see [`MAX_MANIFEST_LEN`].
const TOO_LONG: &str = "the manifest would be longer than 64 MiB; use shorter names, or fewer items in a snapshot";

/// The seal of a manifest that is written.
pub enum ManifestSeal<'a> {
    /// None, in a plain repository.
    Plain,
    /// For an encrypted repository.
    Sealed {
        /// Epoch of the master key from which `key` is derived.
        epoch: u32,
        /// `K("manifest")` of that epoch.
        key: &'a SecretKey,
        /// `K("hedge")`: mixes the text into the salt, so that a broken random generator does not
        /// repeat a key.
        hedge: &'a SecretKey,
    },
}

/// The keys for manifests that are read.
pub enum ManifestKeys<'a> {
    /// A plain repository.
    Plain,
    /// An encrypted repository: returns `K("manifest")` of an epoch, if there is one.
    Sealed(&'a dyn Fn(u32) -> Option<&'a SecretKey>),
}

#[derive(Deserialize)]
struct HeadJson {
    version: u64,
}

#[derive(Serialize, Deserialize)]
struct FileJson {
    version: u64,
    id: String,
    sealed: SealedJson,
}

#[derive(Serialize, Deserialize)]
struct SealedJson {
    alg: String,
    epoch: u32,
    salt: String,
    ct: String,
}

/// The member by which the two forms of a file differ.
#[derive(Deserialize)]
struct FormJson {
    sealed: Option<serde::de::IgnoredAny>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SnapshotJson {
    version: u64,
    id: String,
    created_at: String,
    #[serde(default, skip_serializing_if = "is_zero")]
    sequence: u64,
    tags: BTreeMap<String, String>,
    original_size: u64,
    stored_size: u64,
    chunk_count: u64,
    new_chunks: u64,
    reused_chunks: u64,
    writer: WriterJson,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    copied_from: Option<OriginJson>,
    items: Vec<ItemJson>,
}

#[derive(Serialize, Deserialize)]
struct OriginJson {
    repository: String,
    snapshot: String,
}

/// Keeps manifests of versions without a sequence unchanged when they are encoded again.
fn is_zero(sequence: &u64) -> bool {
    *sequence == 0
}

#[derive(Serialize, Deserialize)]
struct WriterJson {
    tool: String,
    version: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ItemJson {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    size: u64,
    chunk_count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunks: Option<Vec<(String, u32)>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    list: Option<ListJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<DigestJson>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    extra: Vec<ExtraJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExtraJson {
    kind: String,
    root: String,
    level: u8,
    size: u64,
    chunk_count: u64,
}

#[derive(Serialize, Deserialize)]
struct ListJson {
    root: String,
    level: u8,
}

#[derive(Serialize, Deserialize)]
struct DigestJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

/// Encodes the manifest file. Fails with `Invalid` when the snapshot breaks a rule of the format
/// (unique names, right sums, sizes at most [`MAX_SIZE`], file at most [`MAX_MANIFEST_LEN`] bytes),
/// and with `Entropy` when there are no random bytes.
pub fn encode(
    snapshot: &Snapshot,
    seal: &ManifestSeal<'_>,
    repo: &RepoId,
    entropy: &dyn Entropy,
) -> Result<Vec<u8>, Error> {
    check(snapshot).map_err(|reason| Error::Invalid { reason })?;
    let text = json_text(&to_json(snapshot))?;
    let file = match seal {
        ManifestSeal::Plain => text,
        ManifestSeal::Sealed { epoch, key, hedge } => {
            let sealed = seal_text(text.into_bytes(), &snapshot.id, repo, *epoch, key, hedge, entropy)?;
            json_text(&FileJson {
                version: u64::from(VERSION),
                id: snapshot.id.to_hex(),
                sealed,
            })?
        }
    };
    if file.len() as u64 > MAX_MANIFEST_LEN {
        return Err(Error::Invalid { reason: TOO_LONG });
    }
    Ok(file.into_bytes())
}

/// Decodes the manifest file of the snapshot `expected`. Fails with `Damaged`,
/// `UnsupportedVersion`, or `Key` when it is sealed with an epoch that is not in `keys`.
pub fn decode(bytes: &[u8], expected: &SnapshotId, keys: &ManifestKeys<'_>, repo: &RepoId) -> Result<Snapshot, Error> {
    if bytes.len() as u64 > MAX_MANIFEST_LEN {
        return damaged("the manifest is longer than 64 MiB");
    }
    let text = verified(bytes)?;
    let form: FormJson = parse(text)?;
    match (keys, form.sealed.is_some()) {
        (ManifestKeys::Plain, false) => decode_text(text, expected),
        (ManifestKeys::Plain, true) => damaged("the manifest is sealed and the repository is not"),
        (ManifestKeys::Sealed(_), false) => damaged("the manifest is not sealed and the repository is"),
        (ManifestKeys::Sealed(key_of), true) => {
            let file: FileJson = parse(text)?;
            if file.id != expected.to_hex() {
                return damaged("the manifest is that of another snapshot");
            }
            let key = key_of(file.sealed.epoch).ok_or(Error::Key {
                epoch: file.sealed.epoch,
            })?;
            let opened = open_text(&file.sealed, expected, repo, key)?;
            decode_text(verified(&opened)?, expected)
        }
    }
}

/// Checks a sealed manifest file without its keys: its checksum, its form, and that it is that of
/// `expected`.
pub fn check_sealed(bytes: &[u8], expected: &SnapshotId) -> Result<(), Error> {
    if bytes.len() as u64 > MAX_MANIFEST_LEN {
        return damaged("the manifest is longer than 64 MiB");
    }
    let text = verified(bytes)?;
    let form: FormJson = parse(text)?;
    if form.sealed.is_none() {
        return damaged("the manifest is not sealed and the repository is");
    }
    let file: FileJson = parse(text)?;
    if file.id != expected.to_hex() {
        return damaged("the manifest is that of another snapshot");
    }
    Ok(())
}

/// The text of a checked JSON file of a supported version.
fn verified(bytes: &[u8]) -> Result<&str, Error> {
    let Some(text) = checked_json::verify(bytes) else {
        return damaged("the checksum of the manifest is wrong");
    };
    let head: HeadJson = parse(text)?;
    if head.version != u64::from(VERSION) {
        return Err(Error::UnsupportedVersion(head.version));
    }
    Ok(text)
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|_| Error::Damaged {
        reason: "the manifest is not valid JSON of its form",
    })
}

fn json_text<T: Serialize>(json: &T) -> Result<String, Error> {
    let body = serde_json::to_string(json).map_err(|_| Error::Invalid {
        reason: "the manifest has no JSON form",
    })?;
    Ok(checked_json::finish(body))
}

/// Pads and seals the text. The key is `HMAC(K("manifest"), id ‖ salt)`, the salt the first 24
/// bytes of `HMAC(K("hedge"), 32 random bytes ‖ text)`: while the generator works or the texts
/// differ, no key is used twice.
fn seal_text(
    mut text: Vec<u8>,
    id: &SnapshotId,
    repo: &RepoId,
    epoch: u32,
    key: &SecretKey,
    hedge: &SecretKey,
    entropy: &dyn Entropy,
) -> Result<SealedJson, Error> {
    let too_long = Error::Invalid { reason: TOO_LONG };
    if text.len() as u64 > MAX_MANIFEST_LEN {
        return Err(too_long);
    }
    let padded_len = padme((text.len() as u64).max(MIN_SEALED_LEN));
    text.resize(usize::try_from(padded_len).map_err(|_| too_long)?, b' ');

    let random = entropy::random::<32>(entropy).map_err(|_| Error::Entropy)?;
    let hedged = hedge.hmac(&[&random, &text]);
    let salt = &hedged[..SALT_LEN];
    let text_key = key.hmac(&[&id.0, salt]);
    let tag = crypto::seal_in_place(&text_key, &ZERO_NONCE, &aad(repo, id), &mut text).map_err(|_| Error::Invalid {
        reason: "the manifest cannot be sealed",
    })?;
    text.extend_from_slice(&tag);
    Ok(SealedJson {
        alg: ALGORITHM.into(),
        epoch,
        salt: BASE64.encode(salt),
        ct: BASE64.encode(&text),
    })
}

/// Opens a sealed text and removes the padding.
fn open_text(sealed: &SealedJson, id: &SnapshotId, repo: &RepoId, key: &SecretKey) -> Result<Vec<u8>, Error> {
    if sealed.alg != ALGORITHM {
        return damaged("the manifest is sealed with an unknown algorithm");
    }
    let not_base64 = |_| Error::Damaged {
        reason: "the sealed manifest is not Base64",
    };
    let salt = BASE64.decode(&sealed.salt).map_err(not_base64)?;
    let mut text = BASE64.decode(&sealed.ct).map_err(not_base64)?;
    let Some((_, tag)) = text.split_last_chunk::<TAG_LEN>().filter(|_| salt.len() == SALT_LEN) else {
        return damaged("a length in the sealed manifest is wrong");
    };
    let tag = *tag;
    text.truncate(text.len() - TAG_LEN);
    let text_key = key.hmac(&[&id.0, &salt]);
    crypto::open_in_place(&text_key, &ZERO_NONCE, &aad(repo, id), &mut text, &tag).map_err(|_| Error::Damaged {
        reason: "the sealed manifest does not decrypt",
    })?;
    let text_len = text.iter().rposition(|byte| *byte != b' ').map_or(0, |last| last + 1);
    text.truncate(text_len);
    Ok(text)
}

fn aad(repo: &RepoId, id: &SnapshotId) -> Vec<u8> {
    [AAD_DOMAIN, &repo.0, &id.0].concat()
}

fn to_json(snapshot: &Snapshot) -> SnapshotJson {
    SnapshotJson {
        version: u64::from(snapshot.version),
        id: snapshot.id.to_hex(),
        created_at: clock::format_time(snapshot.created_at_ms),
        sequence: snapshot.sequence,
        tags: snapshot.tags.clone(),
        original_size: snapshot.original_size,
        stored_size: snapshot.stored_size,
        chunk_count: snapshot.chunk_count,
        new_chunks: snapshot.new_chunks,
        reused_chunks: snapshot.reused_chunks,
        writer: WriterJson {
            tool: TOOL.into(),
            version: snapshot.writer_version.clone(),
        },
        copied_from: snapshot.copied_from.map(|origin| OriginJson {
            repository: origin.repository.to_hex(),
            snapshot: origin.snapshot.to_hex(),
        }),
        items: snapshot.items.iter().map(item_to_json).collect(),
    }
}

fn item_to_json(item: &SnapshotItem) -> ItemJson {
    let (chunks, list) = match &item.content {
        ItemContent::Inline(chunks) => (Some(chunks.iter().map(|(id, len)| (id.to_hex(), *len)).collect()), None),
        ItemContent::List { root, level } => (
            None,
            Some(ListJson {
                root: root.to_hex(),
                level: *level,
            }),
        ),
    };
    ItemJson {
        name: item.name.clone(),
        kind: item.kind.clone(),
        size: item.size,
        chunk_count: item.chunk_count,
        chunks,
        list,
        digest: item.sha256.map(|sha256| DigestJson {
            sha256: Some(id::to_hex(&sha256)),
        }),
        extra: item.extra.iter().map(extra_to_json).collect(),
    }
}

fn extra_to_json(extra: &Extra) -> ExtraJson {
    ExtraJson {
        kind: extra.kind.clone(),
        root: extra.root.to_hex(),
        level: extra.level,
        size: extra.size,
        chunk_count: extra.chunk_count,
    }
}

fn extra_from_json(json: ExtraJson) -> Result<Extra, Error> {
    Ok(Extra {
        kind: json.kind,
        root: chunk_id(&json.root)?,
        level: json.level,
        size: json.size,
        chunk_count: json.chunk_count,
    })
}

fn decode_text(text: &str, expected: &SnapshotId) -> Result<Snapshot, Error> {
    let json: SnapshotJson = parse(text)?;
    if json.id != expected.to_hex() {
        return damaged("the manifest is that of another snapshot");
    }
    let snapshot = Snapshot {
        id: *expected,
        version: VERSION,
        created_at_ms: parse_exact_time(&json.created_at)?,
        sequence: json.sequence,
        tags: json.tags,
        original_size: json.original_size,
        stored_size: json.stored_size,
        chunk_count: json.chunk_count,
        new_chunks: json.new_chunks,
        reused_chunks: json.reused_chunks,
        writer_version: json.writer.version,
        copied_from: json.copied_from.map(origin_from_json).transpose()?,
        items: json.items.into_iter().map(item_from_json).collect::<Result<_, _>>()?,
    };
    check(&snapshot).map_err(|reason| Error::Damaged { reason })?;
    Ok(snapshot)
}

fn origin_from_json(json: OriginJson) -> Result<Origin, Error> {
    let ids = RepoId::from_hex(&json.repository).zip(SnapshotId::from_hex(&json.snapshot));
    let (repository, snapshot) = ids.ok_or(Error::Damaged {
        reason: "the origin of a copied snapshot is not valid",
    })?;
    Ok(Origin { repository, snapshot })
}

fn item_from_json(json: ItemJson) -> Result<SnapshotItem, Error> {
    let content = match (json.chunks, json.list) {
        (Some(chunks), None) => {
            let entry = |(id, raw_len): (String, u32)| Ok((chunk_id(&id)?, raw_len));
            ItemContent::Inline(chunks.into_iter().map(entry).collect::<Result<_, Error>>()?)
        }
        (None, Some(list)) => ItemContent::List {
            root: chunk_id(&list.root)?,
            level: list.level,
        },
        _ => return damaged("an item must have either chunks or a list"),
    };
    let sha256 = match json.digest.and_then(|digest| digest.sha256) {
        Some(text) => Some(id::from_hex(&text).ok_or(Error::Damaged {
            reason: "the digest of an item is not a SHA-256",
        })?),
        None => None,
    };
    let (name, kind) = (json.name, json.kind);
    Ok(SnapshotItem {
        name,
        kind,
        size: json.size,
        chunk_count: json.chunk_count,
        content,
        sha256,
        extra: json.extra.into_iter().map(extra_from_json).collect::<Result<_, _>>()?,
    })
}

fn chunk_id(text: &str) -> Result<ChunkId, Error> {
    ChunkId::from_hex(text).ok_or(Error::Damaged {
        reason: "a chunk id in the manifest is not valid",
    })
}

/// Checks the rules for every manifest, written or read. `Err` is the rule that is broken.
fn check(snapshot: &Snapshot) -> Result<(), &'static str> {
    let totals = [
        snapshot.original_size,
        snapshot.stored_size,
        snapshot.chunk_count,
        snapshot.new_chunks,
        snapshot.reused_chunks,
        snapshot.sequence,
    ];
    if snapshot.version != VERSION {
        return Err("the version is not the current one");
    }
    if totals.iter().any(|total| *total > MAX_SIZE) {
        return Err("a size or count is larger than 2^53");
    }
    // a restore adds the sizes
    let sizes = snapshot.items.iter().map(|item| item.size);
    if sizes.fold(0, u64::saturating_add) > MAX_SIZE {
        return Err("a size or count is larger than 2^53");
    }
    let mut names = HashSet::with_capacity(snapshot.items.len());
    for item in &snapshot.items {
        if !names.insert(item.name.as_str()) {
            return Err("two items have the same name");
        }
        check_item(item)?;
    }
    Ok(())
}

fn check_item(item: &SnapshotItem) -> Result<(), &'static str> {
    if item.size > MAX_SIZE || item.chunk_count > MAX_SIZE {
        return Err("a size or count is larger than 2^53");
    }
    match &item.content {
        ItemContent::Inline(chunks) => {
            if chunks
                .iter()
                .any(|(_, raw_len)| *raw_len == 0 || *raw_len > MAX_RAW_LEN)
            {
                return Err("the length of a chunk is not 1 to 16777215 bytes");
            }
            // no overflow: a file of 64 MiB contains far fewer than 2^40 lengths of 24 bits
            let size: u64 = chunks.iter().map(|(_, raw_len)| u64::from(*raw_len)).sum();
            if size != item.size || chunks.len() as u64 != item.chunk_count {
                return Err("the sizes of the chunks of an item do not match its size or count");
            }
        }
        ItemContent::List { level, .. } => check_list(*level, item.size, item.chunk_count)?,
    }
    if item.extra.len() > EXTRAS_PER_ITEM {
        return Err("an item has more than 8 extras");
    }
    item.extra.iter().try_for_each(check_extra)
}

fn check_extra(extra: &Extra) -> Result<(), &'static str> {
    let is_allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if extra.kind.is_empty() || extra.kind.len() > MAX_EXTRA_KIND_LEN || !extra.kind.bytes().all(is_allowed) {
        return Err("the kind of an extra is not 1 to 64 of the characters a-z, 0-9 and -");
    }
    if extra.size > MAX_SIZE {
        return Err("a size or count is larger than 2^53");
    }
    check_list(extra.level, extra.size, extra.chunk_count)
}

fn check_list(level: u8, size: u64, chunk_count: u64) -> Result<(), &'static str> {
    if level > MAX_LEVEL {
        return Err("a list tree is too deep");
    }
    // chunks are counted in 32 bits inside the tree, and none is empty
    if chunk_count == 0 || chunk_count > u64::from(u32::MAX) || size < chunk_count {
        return Err("the size and chunk count of an item with a list contradict each other");
    }
    Ok(())
}
