#!/usr/bin/env python3
"""An independent reader for containerarchive repositories, written from docs/format.md alone.

    python3 scripts/reader.py REPO [SECRET] list
    python3 scripts/reader.py REPO [SECRET] restore ID [--item NAME] [-o FILE]
    python3 scripts/reader.py REPO [SECRET] check

SECRET is --passphrase-file FILE (without the newline at its end), --passphrase TEXT, which every user
of the machine can see, or --key HEX.

It exists for two reasons: data must be readable even without the program that wrote them, and a
format that only its own writer can read is not documented. The numbers in the comments are sections
of docs/format.md.

`restore` finds chunks through the `.idx` files (or the packs, where one is missing) and never uses
the global index; it computes the contents of damaged or lost packs from parity (reader_parity.py).
`check` reads every byte and checks that all parts agree. Nothing is ever written into the
repository.

Python 3.11 or newer; its standard library reads plain repositories. Sealed ones need the package
`cryptography` (44 or newer, or an older one together with `argon2-cffi`); zstd needs Python 3.14,
the package `zstandard`, or the program `zstd`.
"""

import argparse
import base64
import hashlib
import hmac
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections import defaultdict, namedtuple
from functools import cache, cached_property

HEX16, HEX32 = r"[0-9a-f]{32}", r"[0-9a-f]{64}"
KNOWN_FEATURES = {"commit-1", "protocol-k"}
DATA, LIST, MANIFEST_COPY, CONFIG_COPY = 0, 1, 2, 3
TYPES = ("data chunks", "list nodes", "parts of manifest copies", "config copies")
MAX_ENTRIES, MAX_LEVEL, MAX_MANIFEST, MAX_KEPT = 65_535, 7, 64 << 20, 64 << 20


class Problem(Exception):
    """Something in the repository contradicts docs/format.md."""


def want(condition, text):
    if not condition:
        raise Problem(text)


# --- 1. Conventions ---------------------------------------------------------------------------------------------------


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def hmac256(key, *parts):
    return hmac.digest(key, b"".join(parts), "sha256")


def expand(key, info, length):
    """HKDF-Expand with SHA-256, RFC 5869 section 2.3."""
    out = block = b""
    for i in range(1, -(-length // 32) + 1):
        block = hmac256(key, block, info, bytes([i]))
        out += block
    return out[:length]


def tag16(domain, *parts):
    return sha256(domain.encode(), b"\0", *parts)[:16]


def check8(data):
    return sha256(data)[:8]


@cache
def aes_gcm():
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    except ImportError:
        sys.exit("This repository is encrypted. Install what opens it: python3 -m pip install cryptography")
    return AESGCM


def gcm_open(key, nonce, aad, sealed, what):
    from cryptography.exceptions import InvalidTag

    try:
        return aes_gcm()(key).decrypt(nonce, sealed, aad)
    except InvalidTag:
        raise Problem(f"{what} does not open with its key") from None


def argon2id(passphrase, salt, m, t, p):
    aes_gcm()  # reports when the package is missing
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

        return Argon2id(salt=salt, length=32, iterations=t, lanes=p, memory_cost=m).derive(passphrase)
    except (ImportError, UnsupportedAlgorithm):
        pass  # an old package, or built upon an old OpenSSL
    try:
        from argon2.low_level import Type, hash_secret_raw
    except ImportError:
        sys.exit(
            "This repository needs Argon2id. Install it: python3 -m pip install 'cryptography>=44' (or argon2-cffi)"
        )
    return hash_secret_raw(passphrase, salt, t, m, p, 32, Type.ID, 19)


def unb64(text, length=None):
    data = base64.b64decode(text, validate=True)
    want(length is None or len(data) == length, f"a Base64 value of {len(data)} instead of {length} bytes")
    return data


def le(data):
    """A little-endian number of any width."""
    return int.from_bytes(data, "little")


def padme(length):
    """6.2. Rounds a length up so that it reveals little."""
    e = length.bit_length() - 1
    s = e.bit_length()
    unit = 1 << (e - s)
    return -(-length // unit) * unit


def checked_json(data, what):
    """1.1. One JSON object whose last member is the SHA-256 of everything before it."""
    cut = data.rfind(b',"checksum":"')
    want(cut > 0, f"{what} has no checksum")
    want(
        data[cut:] == b',"checksum":"' + sha256(data[:cut]).hex().encode() + b'"}\n',
        f"{what} does not match its checksum",
    )
    value = json.loads(data)
    want(value.get("version") == 1, f"{what} has version {value.get('version')}, this reader knows 1")
    return value


# --- 4. Keys ----------------------------------------------------------------------------------------------------------


def open_key_file(data, repo_id, passphrase, raw_key):
    """4.1. The key bundle, or None when this passphrase or key is not the one of this file."""
    want(len(data) <= 64 << 10, "key file too large")
    f = checked_json(data, "key file")
    want(bytes.fromhex(f["repo"]) == repo_id, "key file belongs to another repository")
    kdf, wrap, key_id = f["kdf"], f["wrap"], bytes.fromhex(f["id"])
    salt = unb64(kdf["salt"], 16)
    want(wrap["alg"] == "aes-256-gcm", f"unknown cipher {wrap['alg']}")
    if f["type"] == "passphrase":
        if passphrase is None:
            return None
        want(kdf["name"] == "argon2id" and kdf["version"] == 19, "unknown key derivation")
        m, t, p = kdf["m"], kdf["t"], kdf["p"]
        allowed = 8 <= m <= 2 << 20 and 1 <= t <= 16 and 1 <= p <= 16 and m * t <= 8 << 20
        want(allowed, f"costs out of bounds: m={m} t={t} p={p}")
        ikm = argon2id(passphrase, salt, m, t, p)
    else:
        want(f["type"] == "raw" and kdf["name"] == "none", "unknown type of key file")
        if raw_key is None:
            return None
        m = t = p = 0
        ikm = raw_key
    prk = hmac256(key_id + salt, ikm)
    kek = expand(prk, b"containerarchive/v1/kek", 32)
    commit = expand(prk, b"containerarchive/v1/commit", 32)
    if not hmac.compare_digest(commit, unb64(wrap["commit"], 32)):
        return None
    costs = struct.pack("<III", m, t, p)
    aad = sha256(b"containerarchive/keyfile/v1\0", key_id, repo_id, costs, salt, f["type"].encode())
    bundle = json.loads(gcm_open(kek, unb64(wrap["nonce"], 12), aad, unb64(wrap["ct"]), "key bundle"))
    want(bundle["version"] == 1 and bytes.fromhex(bundle["repo"]) == repo_id, "key bundle of another repository")
    return bundle


class PlainSeal:
    """Ids and tags of a plain repository (5, 6.3, 9)."""

    sealed = False
    epochs = {0}

    def chunk_id(self, kind, data):
        if kind == DATA:
            return sha256(data)
        return sha256(f"containerarchive/{'list' if kind == LIST else 'copy'}/v1".encode(), b"\0", data)

    def open_chunk(self, epoch, entry, stored):
        return stored

    def open_trailer(self, header, trailer, body_hash):
        entries, tag = trailer[:-16], trailer[-16:]
        want(tag == tag16("containerarchive/trailer/v1", body_hash, entries), "trailer does not match its tag")
        return entries

    def padding(self, header, content_len, trailer_len):
        return b""

    def open_page(self, segment, section, number, page):
        position = segment.id + struct.pack("<IQ", section, number)
        want(page[4080:] == tag16("containerarchive/segment-page/v1", position, page[:4080]), f"page {number} is damaged")
        return page[:4080]

    def open_manifest(self, outer, data):
        want("sealed" not in outer, "a sealed manifest in a plain repository")
        return data

    def proves_list(self, epoch, digest, mac):
        want(epoch == 0 and mac in (b"", bytes(32)), "a kill list with a MAC in a plain repository")
        return True


class Seal:
    """The same in a sealed repository, with the keys of the bundle (4.2)."""

    sealed = True

    def __init__(self, repo_id, bundle):
        self.repo_id = repo_id
        self.epochs = {e["epoch"]: unb64(e["key"], 32) for e in bundle["epochs"]}
        dedup = unb64(bundle["dedup"], 32)
        names = {DATA: b"chunk-id", LIST: b"list-id", MANIFEST_COPY: b"copy-id", CONFIG_COPY: b"copy-id"}
        self.id_keys = {kind: expand(dedup, b"containerarchive/v1/" + name, 32) for kind, name in names.items()}
        self.key = cache(self.key)

    def key(self, epoch, label):
        want(epoch in self.epochs, f"no key for epoch {epoch}")
        return expand(self.epochs[epoch], f"containerarchive/v1/{label}".encode() + b"\0" + self.repo_id, 32)

    def chunk_id(self, kind, data):
        return hmac256(self.id_keys[kind], data)

    def open_chunk(self, epoch, entry, stored):
        want(len(stored) >= 28, "stored chunk too short")
        key = hmac256(self.key(epoch, "chunk-key"), entry.id, bytes([entry.codec]))
        lengths = struct.pack("<IBBI", entry.raw_len, entry.codec, entry.type, entry.payload_len)
        aad = b"CAC1" + self.repo_id + entry.id + lengths
        return gcm_open(key, stored[:12], aad, stored[12:], f"chunk {entry.id.hex()}")

    def open_trailer(self, header, trailer, body_hash):
        key = hmac256(self.key(header.epoch, "pack-trailer"), body_hash)
        return gcm_open(key, bytes(12), b"CAT1" + self.repo_id, trailer, "trailer")

    def proves_list(self, epoch, digest, mac):
        return epoch in self.epochs and mac == hmac256(self.key(epoch, "kill-list"), digest)

    def padding(self, header, content_len, trailer_len):
        """6.2. Padding brings the whole file to a Padmé length; its bytes can be recomputed."""
        bare = content_len + trailer_len + 64
        length = padme(max(bare, 4096)) - bare
        key = hmac256(self.key(header.epoch, "pack-pad"), header.nonce)
        return aes_gcm()(key).encrypt(bytes(12), bytes(length), None)[:length]

    def open_page(self, segment, section, number, page):
        key = hmac256(self.key(segment.epoch, "index-segment"), segment.id, segment.salt)
        aad = b"CAS1" + self.repo_id + segment.id
        return gcm_open(key, struct.pack("<IQ", section, number), aad, page, f"page {number}")

    def open_manifest(self, outer, data):
        s, snapshot = outer["sealed"], bytes.fromhex(outer["id"])
        want(s["alg"] == "aes-256-gcm", f"unknown cipher {s['alg']}")
        key = hmac256(self.key(s["epoch"], "manifest"), snapshot, unb64(s["salt"], 24))
        aad = b"containerarchive/manifest/v1\0" + self.repo_id + snapshot
        text = gcm_open(key, bytes(12), aad, unb64(s["ct"]), "manifest")
        bare = text.rstrip(b" ")
        want(len(text) == padme(max(len(bare), 1024)), "manifest is not padded as it should be")
        return bare


# --- 5. Chunks --------------------------------------------------------------------------------------------------------


@cache
def zstd_decoder():
    """A function from one zstd frame to its bytes, with what this machine has."""
    try:
        from compression.zstd import ZstdDecompressor as Decompressor  # Python 3.14
    except ImportError:
        try:
            from zstandard import ZstdDecompressor
        except ImportError:
            return zstd_program()

        def Decompressor():
            return ZstdDecompressor().decompressobj()

    def decode(frame):
        decoder = Decompressor()
        data = decoder.decompress(frame)
        want(decoder.eof and not decoder.unused_data, "not one whole zstd frame")
        return data

    return decode


def zstd_program():
    """The same with the program `zstd`; slow, because each chunk takes a process."""
    program = shutil.which("zstd")
    if not program:
        sys.exit("This repository holds zstd chunks. Install what decodes them: python3 -m pip install zstandard")

    def decode(frame):
        ran = subprocess.run([program, "-dcq"], input=frame, capture_output=True, check=False)
        want(ran.returncode == 0, f"zstd: {ran.stderr.decode(errors='replace').strip()}")
        return ran.stdout

    return decode


def decode_chunk(codec, encoded, raw_len):
    if codec == 0:
        data = encoded
    elif codec == 1:
        decoder = zlib.decompressobj(31)
        try:
            data = decoder.decompress(encoded, raw_len + 1)
        except zlib.error as e:
            raise Problem(f"gzip: {e}") from None
        want(decoder.eof and not decoder.unused_data, "not one whole gzip member")
    elif codec == 2:
        data = zstd_decoder()(encoded)
    else:
        raise Problem(f"unknown codec {codec}")
    want(len(data) == raw_len, f"decoded to {len(data)} instead of {raw_len} bytes")
    return data


# --- 6. Packs ---------------------------------------------------------------------------------------------------------

Header = namedtuple("Header", "sealed meta repo session nonce epoch")
Entry = namedtuple("Entry", "id ordinal offset payload_len raw_len codec type")
Pack = namedtuple("Pack", "id length header trailer_offset body_hash entries")


def parse_header(data, repo_id):
    want(len(data) == 96 and data[:8] == b"CAPACK01", "not a pack")
    want(data[88:] == check8(data[:88]), "pack header does not match its checksum")
    version, flags = struct.unpack_from("<II", data, 8)
    want(version == 1, f"pack version {version}")
    want(flags < 4 and not any(data[68:88]), "unknown flags or fields in a pack header")
    header = Header(bool(flags & 1), bool(flags & 2), data[16:32], data[32:48], data[48:64], le(data[64:68]))
    want(header.repo == repo_id, "pack of another repository")
    return header


def parse_footer(data, length):
    want(len(data) == 64 and data[:8] == b"CAPEND01", "pack has no footer")
    want(data[56:] == check8(data[:56]) and not any(data[48:56]), "pack footer does not match its checksum")
    trailer_offset, trailer_len = struct.unpack_from("<II", data, 8)
    want(trailer_offset >= 96 and trailer_offset + trailer_len + 64 == length, "pack footer does not fit the file")
    want(trailer_len >= 16 and (trailer_len - 16) % 48 == 0, "odd length of a trailer")
    return trailer_offset, trailer_len, data[16:48]


def parse_entries(data):
    for at in range(0, len(data), 48):
        fields = struct.unpack_from("<32sII3s3sBB", data, at)
        yield Entry(*fields[:3], le(fields[3]), le(fields[4]), *fields[5:])


def parse_pack(seal, repo_id, pack_id, length, header_bytes, trailer, footer_bytes):
    """The contents of header, trailer and footer, which are in the pack and in its `.idx`."""
    header = parse_header(header_bytes, repo_id)
    want(header.sealed == seal.sealed and header.epoch in seal.epochs, "pack does not fit this repository's encryption")
    trailer_offset, trailer_len, body_hash = parse_footer(footer_bytes, length)
    want(len(trailer) == trailer_len, "trailer of another length")
    data = seal.open_trailer(header, trailer, body_hash)
    if seal.sealed:
        want(len(data) % (64 * 48) == 0, "sealed trailer is not filled up to 64 entries")
        while data and not any(data[-48:]):
            data = data[:-48]
    entries = list(parse_entries(data))
    want(0 < len(entries) <= MAX_ENTRIES, f"{len(entries)} entries in a pack")
    at = 96
    for ordinal, e in enumerate(entries):
        want(e.ordinal == ordinal and e.offset == at, f"entry {ordinal} is not where the one before ended")
        want(e.raw_len > 0 and e.codec <= 2 and e.type <= 3, f"entry {ordinal} makes no sense")
        want((e.type == DATA) != header.meta, f"{TYPES[e.type]} in the wrong sort of pack")
        want(e.type != LIST or e.codec == 0, "a compressed list node")
        at += e.payload_len
    want(at <= trailer_offset, "chunks run into the trailer")
    return Pack(pack_id, length, header, trailer_offset, body_hash, entries)


def parse_idx(seal, repo_id, pack_id, data):
    """6.5. The pack index of a pack."""
    want(len(data) >= 248 and data[:8] == b"CAPIDX01", "not a pack index")
    want(sha256(data[:-32]) == data[-32:], "pack index does not match its checksum")
    version, zero = struct.unpack_from("<II", data, 8)
    want(version == 1 and zero == 0, f"pack index version {version}")
    want(data[16:48] == pack_id, "pack index of another pack")
    (length,) = struct.unpack_from("<Q", data, 48)
    return parse_pack(seal, repo_id, pack_id, length, data[56:152], data[152:-96], data[-96:-32])


# --- 7. List nodes ----------------------------------------------------------------------------------------------------


def parse_node(data, level):
    """Entries (id, bytes, chunks) of a list node; a chunk counts as one chunk below."""
    size, form = (36, "<32sI") if level == 0 else (44, "<32sQI")
    want(data[:4] == b"CALN" and len(data) >= 16, "not a list node")
    version, at_level, entry_size, count, zero = struct.unpack_from("<BBHII", data, 4)
    want(version == 1 and zero == 0 and at_level == level and entry_size == size, f"not a list node of level {level}")
    want(count > 0 and len(data) == 16 + count * size, "list node has a wrong length")
    return [(*e, 1)[:3] for e in struct.iter_unpack(form, data[16:])]


def ends_node(level, id, count):
    """Whether the rule of section 7 ends a node after this entry."""
    low, mask, high = (128, 511, 2048) if level == 0 else (64, 255, 1024)
    return count >= high or (count >= low and int.from_bytes(id[30:32], "little") & mask == 0)


# --- 8. Snapshots -----------------------------------------------------------------------------------------------------


def is_tombstone(data, name):
    """8.6. Whether the file under the name of a manifest revokes the session instead."""
    if len(data) > 1024:
        return False
    try:
        members = checked_json(data, "tombstone")
    except Problem:
        return False  # a damaged manifest
    return members.get("revoked") is True and members.get("id") == name[:32]


# --- The repository ---------------------------------------------------------------------------------------------------


class Repository:
    def __init__(self, path, passphrase=None, raw_key=None):
        self.path, self.kept, self.kept_bytes = path, {}, 0
        self.last_rebuilt = None, b""
        self.config_bytes = self.read("config.json")
        self.config = checked_json(self.config_bytes, "config.json")
        unknown = set(self.config["features"]["required"]) - KNOWN_FEATURES
        want(not unknown, f"repository needs features that this reader does not know: {', '.join(sorted(unknown))}")
        self.id = bytes.fromhex(self.config["id"])
        self.key_names = self.names("keys", HEX16 + r"\.json")
        if self.config["encryption"] is None:
            want(
                passphrase is None and raw_key is None,
                "a passphrase or key was given, but config.json says not encrypted",
            )
            self.seal = PlainSeal()
        else:
            self.seal = self._unlock(passphrase, raw_key)

    def read(self, name):
        with open(os.path.join(self.path, name), "rb") as f:
            return f.read()

    def names(self, folder, form):
        """Names of exactly this form in a directory, sorted; everything else is ignored (1)."""
        try:
            names = os.listdir(os.path.join(self.path, folder))
        except FileNotFoundError:
            return []
        return sorted(name for name in names if re.fullmatch(form, name))

    def _unlock(self, passphrase, raw_key):
        want(passphrase is not None or raw_key is not None, "this repository is encrypted: give --passphrase-file or --key")
        for name in self.key_names[:32]:
            self.bundle = open_key_file(self.read(f"keys/{name}"), self.id, passphrase, raw_key)
            if self.bundle:
                seal = Seal(self.id, self.bundle)
                self._check_mac(seal)
                return seal
        raise Problem("no key file opens with this passphrase or key")

    def _check_mac(self, seal):
        """3. The last-but-one member of a sealed repository's config."""
        cut = self.config_bytes.rfind(b',"mac":"')
        macs = [hmac256(seal.key(epoch, "config-mac"), self.config_bytes[:cut]).hex() for epoch in seal.epochs]
        want(cut > 0 and self.config["mac"] in macs, "config.json was altered: its MAC does not fit")
        behind = self.config_bytes[cut + len(',"mac":"') + 64 :]
        want(re.fullmatch(rb'","checksum":"[0-9a-f]{64}"}\n', behind), "mac is not the last member before checksum")

    # Snapshots (8)

    def manifest(self, name):
        """A manifest file's (bytes, members)."""
        data = self.read(f"snapshots/{name}")
        want(len(data) <= MAX_MANIFEST, "manifest too large")
        outer = checked_json(data, "manifest")
        inner = checked_json(self.seal.open_manifest(outer, data), "manifest")
        want(outer["id"] == inner["id"] == name[:32], "manifest of another snapshot")
        return data, inner

    @cached_property
    def tombstones(self):
        """8.6. The names of files that stand for no snapshot: their sessions were revoked."""
        names = self.names("snapshots", HEX16 + r"\.json")
        return {name for name in names if is_tombstone(self.read(f"snapshots/{name}"), name)}

    def manifest_names(self):
        return [name for name in self.names("snapshots", HEX16 + r"\.json") if name not in self.tombstones]

    def find(self, id):
        names = [name for name in self.manifest_names() if name.startswith(id)]
        want(len(names) == 1, f"{len(names)} snapshots begin with {id}")
        return self.manifest(names[0])[1]

    # Packs and chunks

    def pack_index(self, pack_id):
        """What is in a pack: from its .idx, or from the pack itself when that is missing or bad, or from parity."""
        base = f"packs/data/{pack_id.hex()}"
        try:
            return parse_idx(self.seal, self.id, pack_id, self.read(base + ".idx"))
        except (Problem, OSError):
            pass
        try:
            return self._index_of(pack_id, self.read(base + ".pack"))
        except (Problem, OSError):
            return self._index_of(pack_id, self.rebuilt(pack_id))

    def _index_of(self, pack_id, data):
        offset, length, _ = parse_footer(data[-64:], len(data))
        parts = data[:96], data[offset : offset + length], data[-64:]
        return parse_pack(self.seal, self.id, pack_id, len(data), *parts)

    def pack_ids(self):
        """Packs that exist, or did: an .idx or a parity group names them."""
        names = self.names("packs/data", HEX32 + r"\.(pack|idx)")
        ids = {bytes.fromhex(name[:64]) for name in names}
        if self.groups:
            ids.update(member.pack for record in self.groups.live.values() for member in record.members)
        return sorted(ids)

    @cached_property
    def groups(self):
        """10. None without parity, or without the file that can read it."""
        try:
            from reader_parity import Groups
        except ImportError:
            return None
        return Groups(self) if self.config["parity"] else None

    def rebuilt(self, pack_id):
        """A pack computed from parity. The last one is cached: its chunks are read one after the other."""
        if self.last_rebuilt[0] != pack_id:
            data = self.groups.rebuild(pack_id) if self.groups else None
            want(data is not None, f"pack {pack_id.hex()} is damaged or gone, and parity does not give it back")
            self.last_rebuilt = pack_id, data
        return self.last_rebuilt[1]

    @cached_property
    def locations(self):
        """All locations of each chunk that items can use."""
        locations = defaultdict(list)
        for pack_id in self.pack_ids():
            try:
                pack = self.pack_index(pack_id)
            except (Problem, OSError):
                continue  # reported where a chunk of it is needed
            for e in pack.entries:
                if e.type in (DATA, LIST):
                    locations[e.id].append((pack, e))
        return locations

    def open_chunk(self, pack, entry, stored):
        """The plaintext of a stored chunk, decoded and its id recomputed (5)."""
        what = f"chunk {entry.id.hex()}"
        want(len(stored) == entry.payload_len, f"{what} ends early")
        encoded = self.seal.open_chunk(pack.header.epoch, entry, stored)
        want(entry.codec == 0 or len(encoded) < entry.raw_len, f"{what} is not shorter than it was")
        data = decode_chunk(entry.codec, encoded, entry.raw_len)
        want(self.seal.chunk_id(entry.type, data) == entry.id, f"{what} holds other bytes")
        return data

    def chunk(self, id, kind):
        """A chunk from the first location where it is intact. The last ones are cached: lists repeat themselves."""
        if (id, kind) in self.kept:
            return self.kept[id, kind]
        failed = None
        for pack, e in self.locations.get(id, ()):
            if e.type != kind:
                continue
            try:
                with open(os.path.join(self.path, f"packs/data/{pack.id.hex()}.pack"), "rb") as f:
                    f.seek(e.offset)
                    data = self.open_chunk(pack, e, f.read(e.payload_len))
            except (Problem, OSError) as error:
                failed = error
                continue
            return self._keep(id, kind, data)
        for pack, e in self.locations.get(id, ()):
            try:
                stored = self.rebuilt(pack.id)[e.offset : e.offset + e.payload_len]
                return self._keep(id, kind, self.open_chunk(pack, e, stored))
            except (Problem, OSError) as error:
                failed = error
        raise Problem(f"{TYPES[kind][:-1]} {id.hex()}: {failed or 'in no pack'}")

    def _keep(self, id, kind, data):
        self.kept[id, kind] = data
        self.kept_bytes += len(data)
        while self.kept_bytes > MAX_KEPT:
            self.kept_bytes -= len(self.kept.pop(next(iter(self.kept))))
        return data

    def chunks_of(self, item, strict=False):
        """Yields (id, raw_len) of an item's chunks in order. `strict` also checks where the nodes of its tree end."""
        if "chunks" in item:
            yield from ((bytes.fromhex(id), raw_len) for id, raw_len in item["chunks"])
            return
        level = item["list"]["level"]
        want(0 <= level <= MAX_LEVEL, f"list tree of level {level}")
        yield from self._walk(bytes.fromhex(item["list"]["root"]), level, True, strict)

    def _walk(self, id, level, last, strict, root=True):
        entries = parse_node(self.chunk(id, LIST), level)
        if strict:
            early = [n for n, e in enumerate(entries[:-1], 1) if ends_node(level, e[0], n)]
            want(
                not early and (last or ends_node(level, entries[-1][0], len(entries))),
                f"node {id.hex()} ends elsewhere",
            )
            want(level == 0 or not root or len(entries) > 1, "a root above one single node")
        for n, (child, size, chunks) in enumerate(entries, 1):
            if level == 0:
                yield child, size
                continue
            below = list(self._walk(child, level - 1, last and n == len(entries), strict, root=False))
            want((sum(raw for _, raw in below), len(below)) == (size, chunks), f"sums above node {child.hex()}")
            yield from below

    def restore(self, item, write):
        """Writes an item; every chunk is verified before it is written."""
        size = 0
        for id, raw_len in self.chunks_of(item):
            data = self.chunk(id, DATA)
            want(len(data) == raw_len, f"chunk {id.hex()} has {len(data)} bytes, its item says {raw_len}")
            size += len(data)
            write(data)
        want(size == item["size"], f"item {item['name']} has {size} bytes instead of {item['size']}")


# --- Command line -----------------------------------------------------------------------------------------------------


def age(manifest):
    """Sort key, the oldest first: 8.1."""
    return manifest["createdAt"], manifest.get("sequence", 0), manifest["id"]


def list_command(repo):
    """Oldest first; names and tags as JSON, because they may contain anything."""
    for m in sorted((repo.manifest(name)[1] for name in repo.manifest_names()), key=age):
        print(f"{m['id']}  {m['createdAt']}  {m['originalSize']:>14}  {json.dumps(m['tags'], ensure_ascii=False)}")
        for item in m["items"]:
            print(f"    {item['size']:>14}  {item['type']:<16} {json.dumps(item['name'], ensure_ascii=False)}")


def restore_command(repo, args):
    items = repo.find(args.id)["items"]
    if args.item is not None:
        items = [item for item in items if item["name"] == args.item]
        want(items, f"no item {args.item!r} in snapshot {args.id}")
    # readable by its owner alone, as what the program itself restores
    out = open(args.output, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) if args.output else sys.stdout.buffer
    try:
        with out:
            for item in items:
                repo.restore(item, out.write)
    except BaseException:
        if args.output:
            os.remove(args.output)  # half an item is worse than none
        raise


def main():
    parser = argparse.ArgumentParser(description="Reads containerarchive repositories without containerarchive.")
    parser.add_argument("repo", metavar="REPO")
    secret = parser.add_mutually_exclusive_group()
    secret.add_argument("--passphrase-file", metavar="FILE", help="a file with the passphrase")
    secret.add_argument("--passphrase", metavar="TEXT", help="seen by every user of this machine")
    secret.add_argument("--key", metavar="HEX", help="a raw key of 32 bytes")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="snapshots and their items")
    commands.add_parser("check", help="read everything, exit 1 when something is wrong")
    restore = commands.add_parser("restore", help="write an item, or all items one after the other")
    restore.add_argument("id", metavar="ID", help="snapshot id or the beginning of one")
    restore.add_argument("--item", metavar="NAME")
    restore.add_argument("-o", "--output", metavar="FILE", help="a new file; without it, standard output")
    args = parser.parse_args()
    try:
        passphrase = None if args.passphrase is None else args.passphrase.encode()
        if args.passphrase_file is not None:
            with open(args.passphrase_file, "rb") as file:
                passphrase = file.read().removesuffix(b"\n").removesuffix(b"\r")
        repo = Repository(args.repo, passphrase, None if args.key is None else bytes.fromhex(args.key))
        if args.command == "list":
            list_command(repo)
        elif args.command == "restore":
            restore_command(repo, args)
        else:
            import reader_check  # only here, so that this one file is enough to restore

            return reader_check.check_command(repo)
    except (Problem, OSError, ValueError, KeyError) as e:
        print(f"PROBLEM: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    # under its own name, so that reader_check.py finds the same classes
    sys.dont_write_bytecode = True
    sys.exit(__import__("reader").main())
