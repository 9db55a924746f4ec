//! Known answers: every formula of `docs/format.md` with fixed inputs. If one changes, the format
//! changed.
//!
//! All of them stand in `fixtures/vectors/v1.json`; the main ones are printed in `docs/format.md`,
//! "Test vectors", and `scripts/reader_vectors.py` computes each one again without this engine.
//! After a wanted change of the format: `CONTAINERARCHIVE_FREEZE=1 cargo test --no-default-features
//! known_answers`.

use crate::support::*;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use containerarchive::base::{ChunkMeta, RepoSeal, Seals};
use containerarchive::buffer::BufferPool;
use containerarchive::chunk::{ChunkerParams, Cutter, Gear};
use containerarchive::codec::{Compression, Encoder};
use containerarchive::crypto::{
    Credential, KdfParams, KeyBundle, KeyFile, Keys, NewKey, Pin, SecretKey, derive_ikm, open_in_place, sha256,
};
use containerarchive::entropy::{Entropy, NoEntropy, SeededEntropy};
use containerarchive::id::{ChunkId, GroupId, KeyId, PackId, RepoId, SegmentId, SnapshotId, from_hex, to_hex};
use containerarchive::index::{EpochKey, MemorySource, SegmentContext, SegmentSeal, write_segment};
use containerarchive::lock::{KillList, KillListId, Mark, MarkId, MarkPart, Proof};
use containerarchive::pack::format::padme;
use containerarchive::pack::{
    ChunkLocation, FinishedPack, KIND_DATA, KIND_LIST, KIND_MANIFEST_COPY, PackEntry, PackHeader, PackWriter,
};
use containerarchive::parity::{Accumulator, Part, Shape, code::coefficient};
use containerarchive::repo::Config;
use containerarchive::snapshot::tombstone;
use containerarchive::snapshot::{
    ItemContent, ListBuilder, ManifestSeal, Origin, Snapshot, SnapshotItem, VERSION, copy, manifest,
};
use containerarchive::storage::MemoryStorage;
use containerarchive::{Error, layout, storage::Storage};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const REPO: RepoId = RepoId([0xa0; 16]);
const TIME: &str = "2026-11-23T01:45:00.000Z";
/// A chunk that compresses.
const TEXT: &[u8] = b"hello hello hello hello hello hello hello hello\n";

/// Gives the bytes 0, 1, 2 … in turn: the master key is then 00…1f and the dedup key 20…3f.
struct Counting(Mutex<u8>);

impl Entropy for Counting {
    fn fill(&self, out: &mut [u8]) -> Result<(), NoEntropy> {
        let mut next = self.0.lock().unwrap();
        for byte in out {
            *byte = *next;
            *next = next.wrapping_add(1);
        }
        Ok(())
    }
}

fn bundle() -> KeyBundle {
    let pin = Pin::new(65_536, 262_144, 1_048_576);
    KeyBundle::generate(&Counting(Mutex::new(0)), REPO, pin).ok().unwrap()
}

fn keys() -> Keys {
    Keys::from_bundle(&bundle())
}

fn seals() -> [(&'static str, RepoSeal); 2] {
    [
        ("plain", RepoSeal::new(REPO, Seals::Plain)),
        ("sealed", RepoSeal::new(REPO, Seals::Sealed(Box::new(keys())))),
    ]
}

/// An object with a member for the plain and one for the sealed form.
fn both(mut make: impl FnMut(&RepoSeal) -> Value) -> Value {
    let members = seals().map(|(name, seal)| (name.to_owned(), make(&seal)));
    Value::Object(Map::from_iter(members))
}

fn derivations() -> Value {
    let keys = keys();
    let (epoch, of_epoch) = keys.current();
    let labels = [
        ("chunk-key", &of_epoch.chunk_key),
        ("pack-trailer", &of_epoch.pack_trailer),
        ("pack-pad", &of_epoch.pack_pad),
        ("index-segment", &of_epoch.index_segment),
        ("manifest", &of_epoch.manifest),
        ("config-mac", &of_epoch.config_mac),
        ("kill-list", &of_epoch.kill_list),
        ("hedge", &of_epoch.hedge),
        ("chunk-id", &keys.chunk_id),
        ("list-id", &keys.list_id),
        ("copy-id", &keys.copy_id),
    ];
    let derived = labels.map(|(label, key)| (label.to_owned(), json!(to_hex(key.as_bytes()))));
    json!({
        "repo": REPO.to_hex(), "epoch": epoch,
        "masterKey": to_hex(&std::array::from_fn::<u8, 32, _>(|n| n as u8)),
        "dedupKey": to_hex(&std::array::from_fn::<u8, 32, _>(|n| n as u8 + 32)),
        "derived": Map::from_iter(derived),
        "chunkerTable": { "first": to_hex(&keys.chunker[..8]), "sha256": to_hex(&sha256(&[&*keys.chunker])) },
    })
}

fn ids() -> Value {
    both(|seal| {
        json!({
            "data": seal.chunk_id(KIND_DATA, b"abc").to_hex(),
            "list": seal.chunk_id(KIND_LIST, b"abc").to_hex(),
            "copy": seal.chunk_id(KIND_MANIFEST_COPY, b"abc").to_hex(),
        })
    })
}

fn padme_table() -> Value {
    let lens = [
        4096,
        4097,
        5000,
        8191,
        8192,
        65_536,
        65_537,
        1_000_000,
        8_388_608,
        8_388_609,
        1 << 32,
    ];
    json!(lens.map(|len| [len, padme(len)]))
}

/// "abc" as it is and [`TEXT`] with gzip, sealed one after the other with the randomness of seed 5.
fn stored_chunks() -> Value {
    let [_, (_, seal)] = seals();
    let entropy = SeededEntropy::new(5);
    let mut stored = Vec::new();
    let chunks = [(&b"abc"[..], Compression::None), (TEXT, Compression::Gzip { level: 3 })].map(|(raw, compression)| {
        let mut encoder = Encoder::new();
        let (codec, encoded) = encoder.encode(compression, raw);
        let meta = ChunkMeta {
            id: seal.chunk_id(KIND_DATA, raw),
            raw_len: raw.len() as u32,
            codec: codec as u8,
            kind: KIND_DATA,
        };
        seal.seal_chunk(&meta, encoded, None, &entropy, &mut stored).unwrap();
        json!({
            "raw": to_hex(raw), "id": meta.id.to_hex(), "codec": meta.codec, "type": meta.kind, "stored": to_hex(&stored),
        })
    });
    json!(chunks)
}

/// A data pack with "abc" and [`TEXT`].
fn small_pack(seal: &RepoSeal) -> FinishedPack {
    let sealed = seal.keys().is_some();
    let header = PackHeader {
        sealed,
        meta: false,
        repo: REPO,
        session: SnapshotId([0xb0; 16]),
        nonce: [0xc0; 16],
        epoch: u32::from(sealed),
    };
    let mut pack = PackWriter::create(BufferPool::new(1 << 20).take(65_536).unwrap(), header).unwrap();
    let entropy = SeededEntropy::new(6);
    let mut stored = Vec::new();
    for (raw, compression) in [(&b"abc"[..], Compression::None), (TEXT, Compression::Gzip { level: 3 })] {
        let mut encoder = Encoder::new();
        let (codec, encoded) = encoder.encode(compression, raw);
        let meta = ChunkMeta {
            id: seal.chunk_id(KIND_DATA, raw),
            raw_len: raw.len() as u32,
            codec: codec as u8,
            kind: KIND_DATA,
        };
        seal.seal_chunk(&meta, encoded, None, &entropy, &mut stored).unwrap();
        assert!(pack.append(meta.id, meta.raw_len, meta.codec, meta.kind, &stored));
    }
    PackWriter::finish_all(vec![pack], seal).unwrap().remove(0)
}

fn packs() -> Value {
    both(|seal| {
        let pack = small_pack(seal);
        json!({ "id": pack.id.to_hex(), "pack": to_hex(pack.bytes.filled()), "idx": to_hex(&pack.index) })
    })
}

/// A segment of 100 entries (two data pages) that supersedes another one: all its pages.
fn segment() -> Value {
    let location = |n: u8| ChunkLocation {
        pack: PackId([n % 3; 32]),
        entry: PackEntry {
            id: ChunkId(sha256(&[&[n]])),
            offset: 96 + 1000 * u32::from(n),
            payload_len: 900,
            raw_len: 1000 + u32::from(n),
            codec: n % 3,
            kind: n % 2,
        },
    };
    let source = MemorySource::new((0..100).map(|n| (location(n), 200_000)).collect());
    let pages_of = |seal: SegmentSeal| {
        let storage = MemoryStorage::new();
        let context = SegmentContext { repo: REPO, seal };
        let superseded = [SegmentId([0xd0; 16])];
        let id = write_segment(&storage, &context, &SeededEntropy::new(7), &superseded, &source).unwrap();
        (id, storage.get(&layout::segment(&id), 1 << 20).unwrap())
    };
    let keys = keys();
    let (epoch, of_epoch) = keys.current();
    let sealed = SegmentSeal::Sealed {
        epochs: vec![EpochKey {
            epoch,
            key: of_epoch.index_segment.duplicate(),
        }],
        hedge: of_epoch.hedge.duplicate(),
    };
    let (plain_id, plain) = pages_of(SegmentSeal::Plain);
    let (sealed_id, sealed) = pages_of(sealed);
    assert_eq!((plain_id, plain.len()), (sealed_id, sealed.len()));
    let pages = plain.chunks(4096).zip(sealed.chunks(4096)).map(|(plain, sealed)| {
        let used = plain[..4080]
            .iter()
            .rposition(|&byte| byte != 0)
            .map_or(0, |last| last + 1);
        json!({
            "content": to_hex(&plain[..used]), "plainTag": to_hex(&plain[4080..]),
            "sealedSha256": to_hex(&sha256(&[sealed])), "sealedTag": to_hex(&sealed[4080..]),
        })
    });
    json!({
        "id": plain_id.to_hex(), "sealedHeader": to_hex(&sealed[..84]), "pages": pages.collect::<Vec<_>>(),
    })
}

/// The leaf of a short list, and the root above two full leaves.
fn list_nodes() -> Value {
    let nodes_of = |count: u32, len: &dyn Fn(u32) -> u32| {
        let (mut list, mut nodes) = (ListBuilder::new(), Vec::new());
        let [(_, plain), _] = seals();
        let mut sink = |node: &[u8]| {
            nodes.push(node.to_vec());
            Ok::<_, Error>(plain.chunk_id(KIND_LIST, node))
        };
        for n in 0..count {
            list.push(ChunkId([0x11; 32]), len(n), &mut sink).unwrap();
        }
        let content = list.finish(false, &mut sink).unwrap();
        let ItemContent::List { root, level } = content else {
            panic!("{content:?}")
        };
        json!({ "node": to_hex(nodes.last().unwrap()), "level": level, "id": root.to_hex() })
    };
    json!({ "leaf": nodes_of(3, &|n| n + 1), "root": nodes_of(3000, &|_| 1000) })
}

fn key_files() -> Value {
    let kdf = KdfParams {
        memory_kib: 64,
        time: 2,
        lanes: 2,
    };
    let wrap = |credential: Credential<'_>| {
        let new = NewKey {
            id: KeyId([0xe0; 16]),
            created_at: TIME,
            label: Some("laptop"),
        };
        let file = KeyFile::wrap(&bundle(), &credential, &kdf, &new, &SeededEntropy::new(8), &|| true).unwrap();
        String::from_utf8(file).unwrap()
    };
    let file = wrap(Credential::Passphrase(b"correct horse"));
    let derived = derived_from(&file, b"correct horse", &kdf);
    json!({
        "passphrase": { "secret": "correct horse", "file": file, "derived": derived },
        "raw": { "secret": to_hex(&[0x5c; 32]), "file": wrap(Credential::Raw(&[0x5c; 32])) },
    })
}

/// Every step from a passphrase to the bundle, as format.md §4.1 writes them.
fn derived_from(file: &str, passphrase: &[u8], kdf: &KdfParams) -> Value {
    let file: Value = serde_json::from_str(file).unwrap();
    let bytes = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
    let id = |member: &str| from_hex::<16>(file[member].as_str().unwrap()).unwrap();
    let (key, repo) = (id("id"), id("repo"));
    let salt: [u8; 16] = bytes(&file["kdf"]["salt"]).try_into().unwrap();
    let ikm = derive_ikm(passphrase, &salt, kdf, &|| true).ok().unwrap();
    let extract_salt: [u8; 32] = [key, salt].concat().try_into().unwrap();
    let prk = SecretKey::new(extract_salt).hmac_key(&[ikm.as_bytes()]);
    let kek = prk.derive(&[b"containerarchive/v1/kek"]);
    let commit = prk.expand::<32>(&[b"containerarchive/v1/commit"]);
    assert_eq!(bytes(&file["wrap"]["commit"]), *commit);
    let costs = [kdf.memory_kib, kdf.time, kdf.lanes].map(u32::to_le_bytes);
    let domain = b"containerarchive/keyfile/v1\0";
    let aad = sha256(&[domain, &key, &repo, costs.as_flattened(), &salt, b"passphrase"]);
    let nonce: [u8; 12] = bytes(&file["wrap"]["nonce"]).try_into().unwrap();
    let mut bundle = bytes(&file["wrap"]["ct"]);
    let tag: [u8; 16] = bundle.split_off(bundle.len() - 16).try_into().unwrap();
    open_in_place(kek.as_bytes(), &nonce, &aad, &mut bundle, &tag)
        .ok()
        .unwrap();
    json!({
        "ikm": to_hex(ikm.as_bytes()), "prk": to_hex(prk.as_bytes()), "kek": to_hex(kek.as_bytes()),
        "aad": to_hex(&aad), "bundle": String::from_utf8(bundle).unwrap(),
    })
}

fn manifests() -> Value {
    let item = |name: &str, size, chunk_count, content, sha256| SnapshotItem {
        name: name.to_owned(),
        kind: "file".to_owned(),
        size,
        chunk_count,
        content,
        sha256,
        extra: Vec::new(),
    };
    let inline = ItemContent::Inline(vec![(ChunkId([0x22; 32]), 5)]);
    let list = ItemContent::List {
        root: ChunkId([0x33; 32]),
        level: 1,
    };
    let snapshot = Snapshot {
        id: SnapshotId([0xf0; 16]),
        version: VERSION,
        created_at_ms: 1_795_398_300_000,
        sequence: 0,
        tags: BTreeMap::from([("ä".to_owned(), "\"b\"".to_owned())]),
        original_size: 3_000_005,
        stored_size: 1_234,
        chunk_count: 3001,
        new_chunks: 1,
        reused_chunks: 3000,
        writer_version: "0.1.0".to_owned(),
        copied_from: None,
        items: vec![
            item("ünï/code", 5, 1, inline, Some([0x44; 32])),
            item("empty", 0, 0, ItemContent::Inline(Vec::new()), None),
            item("big", 3_000_000, 3000, list, None),
        ],
    };
    let keys = keys();
    let (epoch, of_epoch) = keys.current();
    let sealed = ManifestSeal::Sealed {
        epoch,
        key: &of_epoch.manifest,
        hedge: &of_epoch.hedge,
    };
    let numbered = Snapshot {
        sequence: 7,
        ..snapshot.clone()
    };
    let copied = Snapshot {
        copied_from: Some(Origin {
            repository: RepoId([0xb0; 16]),
            snapshot: SnapshotId([0xb1; 16]),
        }),
        ..numbered.clone()
    };
    let file_of = |snapshot: &Snapshot, seal: &ManifestSeal<'_>| {
        let bytes = manifest::encode(snapshot, seal, &REPO, &SeededEntropy::new(9)).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    let plain = file_of(&snapshot, &ManifestSeal::Plain);
    let copy: Vec<Value> = copy::split_copy(snapshot.id, plain.as_bytes())
        .map(|part| json!(to_hex(&part)))
        .collect();
    json!({
        "plain": plain, "sealed": file_of(&snapshot, &sealed), "copyOfPlain": copy,
        "plainNumbered": file_of(&numbered, &ManifestSeal::Plain), "sealedNumbered": file_of(&numbered, &sealed),
        "plainCopied": file_of(&copied, &ManifestSeal::Plain), "sealedCopied": file_of(&copied, &sealed),
    })
}

fn configs() -> Value {
    let keys = keys();
    let config = |encrypted| Config {
        id: REPO,
        created_at: TIME.to_owned(),
        chunking: ChunkerParams::default(),
        compression: Compression::Zstd { level: 3 },
        encrypted,
        parity: None,
        pack_size: 8 << 20,
    };
    let text = |encrypted: bool| {
        let mac_key = encrypted.then(|| &keys.current().1.config_mac);
        String::from_utf8(config(encrypted).encode(mac_key).unwrap()).unwrap()
    };
    json!({ "plain": text(false), "sealed": text(true) })
}

/// The files of a mark, and a tombstone.
fn marks() -> Value {
    let id = MarkId {
        level: 0,
        id: [0xc0; 16],
    };
    let file = |part, packs: &[u8], sessions: &[u8], seal: &RepoSeal| {
        let file = Mark {
            id,
            part,
            repo: REPO,
            packs: packs.iter().map(|byte| PackId([*byte; 32])).collect(),
            sessions: sessions.iter().map(|byte| SnapshotId([*byte; 16])).collect(),
        };
        to_hex(&file.encode(seal).unwrap())
    };
    let mut known = both(|seal| {
        json!({
            "mark": file(MarkPart::Mark, &[0x11, 0x22], &[], seal),
            "wait": file(MarkPart::Wait, &[], &[0xf0, 0xf1], seal),
            "swept": file(MarkPart::Swept, &[0x22], &[], seal),
        })
    });
    let tombstone = tombstone::encode(&SnapshotId([0xf0; 16])).unwrap();
    known["tombstone"] = json!(String::from_utf8(tombstone).unwrap());
    known
}

/// A list that condemns two packs, and a hint with one and a session.
fn kill_lists() -> Value {
    let lists = [
        KillList {
            id: KillListId([0xd0; 16]),
            repo: REPO,
            hint: false,
            packs: vec![PackId([0x11; 32]), PackId([0x22; 32])],
            sessions: Vec::new(),
        },
        KillList {
            id: KillListId([0xd1; 16]),
            repo: REPO,
            hint: true,
            packs: vec![PackId([0x33; 32])],
            sessions: vec![SnapshotId([0xf0; 16])],
        },
    ];
    both(|seal| json!(lists.clone().map(|list| to_hex(&list.encode(seal).unwrap()))))
}

/// Factors, row sums of the first n pseudo-random bytes (SplitMix64, seed 1), and two unequal packs
/// in a group with two shards.
fn parity_groups() -> Value {
    let factors = |shard| (0..224).map(|slot| coefficient(shard, slot)).collect::<Vec<u8>>();
    let data = random_bytes(1, 9000);
    let packs = [&data[..9000], &data[..5000]];
    let shape = Shape { data: 20, parity: 2 };
    let mut group = Accumulator::new(shape, 0, 222).unwrap();
    for pack in packs {
        group.add(PackId(sha256(&[pack])), pack).unwrap();
    }
    let id = GroupId([0xe0; 16]);
    let group = group.finish(REPO, id, vec![GroupId([0xe1; 16])], b"settings".to_vec());
    let group = group.unwrap();
    let row_sums = |len: usize| {
        let mut one = Accumulator::new(shape, 0, 0).unwrap();
        one.add(PackId([0; 32]), &data[..len]).unwrap();
        let record = one.finish(REPO, id, Vec::new(), Vec::new()).unwrap().record;
        json!([len, to_hex(&record.member_sums[0][0].to_le_bytes())])
    };
    let storage = MemoryStorage::new();
    containerarchive::parity::publish(&storage, &group).unwrap();
    // each way in which XXH3 treats a length
    let lens = [1, 3, 4, 8, 9, 16, 17, 64, 128, 129, 240, 241, 1024, 1025, 4095, 4096];
    let file = |part: Part| storage.get(&part.key(&id), u64::MAX).unwrap();
    let known = packs.map(|pack| json!({ "id": to_hex(&sha256(&[pack])), "length": pack.len() }));
    let shards = [0, 1].map(|shard| to_hex(&sha256(&[&file(Part::Shard(shard))])));
    json!({
        "factors": { "1": to_hex(&factors(1)), "31": to_hex(&factors(31)) },
        "rowSums": lens.map(row_sums),
        "packs": known,
        "group": to_hex(&file(Part::Group)),
        "shards": shards,
    })
}

/// Lengths of the chunks of pseudo-random bytes (SplitMix64, seed 1).
fn cuts() -> Value {
    let lens = |params, gear, len| {
        let (cutter, data) = (Cutter::new(params, Arc::new(gear)).unwrap(), random_bytes(1, len));
        let (mut lens, mut at) = (Vec::new(), 0);
        while let Some(len) = cutter.cut(&data[at..], true) {
            lens.push(len);
            at += len;
        }
        json!({ "min": params.min, "avg": params.avg, "max": params.max, "bytes": len, "lengths": lens })
    };
    let small = ChunkerParams {
        min: 64,
        avg: 256,
        max: 1024,
    };
    let keyed = || Gear::keyed(&keys().chunker);
    json!({
        "plain": [
            lens(ChunkerParams::default(), Gear::default_table(), 3 << 20),
            lens(small, Gear::default_table(), 4_000),
        ],
        "sealed": [lens(ChunkerParams::default(), keyed(), 3 << 20), lens(small, keyed(), 4_000)],
    })
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vectors/v1.json")
}

#[test]
fn known_answers_are_unchanged() {
    let made = json!({
        "keys": derivations(), "ids": ids(), "padme": padme_table(), "storedChunks": stored_chunks(), "packs": packs(),
        "segment": segment(), "listNodes": list_nodes(), "keyFiles": key_files(), "manifests": manifests(),
        "configs": configs(), "cuts": cuts(), "parity": parity_groups(), "killLists": kill_lists(), "marks": marks(),
    });
    if std::env::var_os("CONTAINERARCHIVE_FREEZE").is_some() {
        std::fs::create_dir_all(file().parent().unwrap()).unwrap();
        std::fs::write(file(), serde_json::to_string_pretty(&made).unwrap() + "\n").unwrap();
    }
    let known: Value = serde_json::from_str(&std::fs::read_to_string(file()).unwrap()).unwrap();
    for (name, value) in known.as_object().unwrap() {
        assert_eq!(&made[name], value, "{name}");
    }
    assert_eq!(made.as_object().unwrap().len(), known.as_object().unwrap().len());
}

#[test]
fn what_the_vectors_hold_is_read_back() {
    let known: Value = serde_json::from_str(&std::fs::read_to_string(file()).unwrap()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    for (kind, credential) in [
        ("passphrase", Credential::Passphrase(b"correct horse")),
        ("raw", Credential::Raw(&[0x5c; 32])),
    ] {
        let key_file = KeyFile::decode(text(&known["keyFiles"][kind]["file"]).as_bytes()).unwrap();
        let opened = Keys::from_bundle(&key_file.unwrap(&credential, &|| true).ok().unwrap());
        assert_eq!(opened.chunk_id.as_bytes(), keys().chunk_id.as_bytes());
    }
    for (name, seal) in seals() {
        let list = from_hex::<192>(known["killLists"][name][0].as_str().unwrap()).unwrap();
        let found = KillList::decode(&list, &KillListId([0xd0; 16]), &seal).unwrap();
        assert_eq!((found.proof, found.list.packs.len()), (Proof::Valid, 2), "{name}");
    }
    let keys = keys();
    let of_epoch = |epoch| keys.epoch(epoch).map(|keys| &keys.manifest);
    let id = SnapshotId([0xf0; 16]);
    for (plain, sealed, sequence, is_copy) in [
        ("plain", "sealed", 0, false),
        ("plainNumbered", "sealedNumbered", 7, false),
        ("plainCopied", "sealedCopied", 7, true),
    ] {
        let plain = text(&known["manifests"][plain]);
        let sealed = text(&known["manifests"][sealed]);
        let plain = manifest::decode(plain.as_bytes(), &id, &manifest::ManifestKeys::Plain, &REPO).unwrap();
        let sealed = manifest::decode(
            sealed.as_bytes(),
            &id,
            &manifest::ManifestKeys::Sealed(&of_epoch),
            &REPO,
        );
        assert_eq!(plain, sealed.unwrap());
        assert_eq!(plain.sequence, sequence);
        assert_eq!(plain.copied_from.is_some(), is_copy);
    }
}

#[test]
fn the_page_of_the_format_prints_the_same_answers() {
    let known: Value = serde_json::from_str(&std::fs::read_to_string(file()).unwrap()).unwrap();
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/format.md")).unwrap();
    let (_, section) = page.split_once("Test vectors\n").unwrap();
    let joined: String = section.split_whitespace().collect();
    let leaves = [&known["keys"], &known["ids"]].map(|value| value.to_string());
    let mut hex: Vec<&str> = leaves
        .iter()
        .flat_map(|text| text.split('"'))
        .filter(|text| text.len() == 64)
        .collect();
    // the keys themselves are described in words
    hex.retain(|text| !text.starts_with("000102") && !text.starts_with("202122"));
    assert_eq!(hex.len(), 11 + 1 + 6);
    for value in [
        "/storedChunks/0/stored",
        "/killLists/sealed/0",
        "/marks/sealed/mark",
        "/marks/sealed/wait",
        "/marks/tombstone",
        "/packs/plain/id",
        "/packs/plain/pack",
        "/packs/sealed/id",
        "/packs/sealed/pack",
        "/listNodes/leaf/node",
        "/listNodes/leaf/id",
        "/keyFiles/passphrase/file",
        "/keyFiles/passphrase/derived/ikm",
        "/keyFiles/passphrase/derived/prk",
        "/keyFiles/passphrase/derived/kek",
        "/keyFiles/passphrase/derived/aad",
        "/keyFiles/passphrase/derived/bundle",
        "/manifests/plainNumbered",
        "/manifests/sealedNumbered",
        "/parity/group",
        "/parity/shards/0",
        "/parity/shards/1",
    ] {
        hex.push(known.pointer(value).unwrap().as_str().unwrap().trim_end());
    }
    // `commit` of the key file, in hex
    let key_file: Value = serde_json::from_str(known["keyFiles"]["passphrase"]["file"].as_str().unwrap()).unwrap();
    let commit = STANDARD.decode(key_file["wrap"]["commit"].as_str().unwrap()).unwrap();
    let commit = to_hex(&<[u8; 32]>::try_from(commit).unwrap());
    hex.push(&commit);
    // lengths 1, 8, 16, 128, 240 and 4096
    for at in [0, 3, 5, 8, 10, 15] {
        let value = known.pointer(&format!("/parity/rowSums/{at}/1")).unwrap();
        hex.push(value.as_str().unwrap());
    }
    for value in hex {
        assert!(joined.contains(value), "{value}");
    }
}
