#!/usr/bin/env python3
"""Recomputes the known answers of docs/format.md ("Test vectors"): python3
scripts/reader_vectors.py [FILE]

The engine wrote FILE (default: tests/fixtures/vectors/v1.json); this program derives everything in
it from the formulas, with the functions of the reader. What the reader only opens, this program
also creates.
"""

import hashlib
import json
import math
import os
import struct
import sys

import reader
import reader_parity as parity
from reader import DATA, LIST, MANIFEST_COPY, PlainSeal, Seal, aes_gcm, expand, hmac256, sha256, tag16
from reader_check import MARK_MAGICS, idx_of_pack, kill_list, mark

# Masks of FastCDC by the logarithm of the average size: the crate `fastcdc` 5.0.0, src/v2020/mod.rs (MASKS)
MASKS = [
    *[0] * 5, 0x0000000001804110, 0x0000000001803110, 0x0000000018035100, 0x0000001800035300, 0x0000019000353000,
    0x0000590003530000, 0x0000D90003530000, 0x0000D90103530000, 0x0000D90303530000, 0x0000D90313530000,
    0x0000D90F03530000, 0x0000D90303537000, 0x0000D90703537000, 0x0000D90707537000, 0x0000D91707537000,
    0x0000D91747537000, 0x0000D91767537000, 0x0000D93767537000, 0x0000D93777537000, 0x0000D93777577000,
    0x0000DB3777577000,
]  # fmt: skip


def same(what, got, known):
    got, known = (x.hex() if isinstance(x, bytes) else x for x in (got, known))
    if got != known:
        raise reader.Problem(f"{what}: {str(got)[:200]} instead of {str(known)[:200]}")


def splitmix64(seed, length):
    """Pseudo-random bytes as the tests use them (Steele, Lea and Flood 2014), 8 at a time, little-endian."""
    mask, out = 2**64 - 1, bytearray()
    while len(out) < length:
        seed = z = (seed + 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        out += struct.pack("<Q", z ^ (z >> 31))
    return bytes(out[:length])


def default_gear():
    """The table of plain repositories: the first 8 bytes, big-endian, of the MD5 of 64 equal bytes, for each byte."""
    digests = (hashlib.md5(bytes([i]) * 64, usedforsecurity=False).digest() for i in range(256))
    return [int.from_bytes(digest[:8], "big") for digest in digests]


def cut_lengths(data, gear, low, avg, high):
    """Section 5: FastCDC v2020. The crate processes two bytes at a time; one at a time has the same cuts."""
    bits, lengths, at = round(math.log2(avg)), [], 0
    strict, loose = MASKS[bits + 3], MASKS[bits - 3]
    while at < len(data):
        left = min(len(data) - at, high)
        # pairs of bytes: an odd byte at the end is never a cut point
        end, middle, value, length = left // 2 * 2, min(avg, left) // 2 * 2, 0, left
        for i in range(low, end) if left > low else ():
            value = (value << 1) + gear[data[at + i]] & (1 << 64) - 1
            if not value & (strict if i < middle else loose):
                length = i
                break
        lengths.append(length)
        at += length
    return lengths


def check_keys(v):
    repo, master, dedup = (bytes.fromhex(v["keys"][name]) for name in ("repo", "masterKey", "dedupKey"))
    for label, known in v["keys"]["derived"].items():
        info = b"containerarchive/v1/" + label.encode()
        of_master = label not in ("chunk-id", "list-id", "copy-id")
        got = expand(master, info + b"\0" + repo, 32) if of_master else expand(dedup, info, 32)
        same(f"K({label})", got, known)
    table = expand(dedup, b"containerarchive/v1/chunker", 2048)
    same("chunker table", sha256(table), v["keys"]["chunkerTable"]["sha256"])
    same("chunker table", table[:8], v["keys"]["chunkerTable"]["first"])
    return table


def check_chunks(v, seals):
    for name, seal in seals.items():
        for kind, type_number in (("data", DATA), ("list", LIST), ("copy", MANIFEST_COPY)):
            same(f"{name} {kind} id", seal.chunk_id(type_number, b"abc"), v["ids"][name][kind])
    for length, padded in v["padme"]:
        same(f"padme({length})", reader.padme(length), padded)
    seal = seals["sealed"]
    for c in v["storedChunks"]:
        stored, raw, id = (bytes.fromhex(c[name]) for name in ("stored", "raw", "id"))
        entry = reader.Entry(id, 0, 0, len(stored), len(raw), c["codec"], c["type"])
        encoded = seal.open_chunk(1, entry, stored)
        same("stored chunk", reader.decode_chunk(c["codec"], encoded, len(raw)), raw)
        same("its id", seal.chunk_id(c["type"], raw), id)
        # and vice versa
        key = hmac256(seal.key(1, "chunk-key"), id, bytes([c["codec"]]))
        aad = b"CAC1" + seal.repo_id + id + struct.pack("<IBBI", len(raw), c["codec"], c["type"], len(stored))
        same("sealed again", stored[:12] + aes_gcm()(key).encrypt(stored[:12], encoded, aad), stored)


def check_packs(v, seals):
    for name, seal in seals.items():
        known = v["packs"][name]
        data, idx, pack_id = (bytes.fromhex(known[member]) for member in ("pack", "idx", "id"))
        same("pack id", sha256(data), pack_id)
        repo_id = bytes.fromhex(v["keys"]["repo"])
        pack = reader.parse_idx(seal, repo_id, pack_id, idx)
        same(".idx", idx_of_pack(pack_id, data, pack.trailer_offset), idx)
        end = pack.entries[-1].offset + pack.entries[-1].payload_len
        trailer_len = len(data) - 64 - pack.trailer_offset
        same("padding", seal.padding(pack.header, end, trailer_len), data[end : pack.trailer_offset])
        for e, raw in zip(pack.entries, (b"abc", b"hello " * 7 + b"hello\n"), strict=True):
            encoded = seal.open_chunk(1, e, data[e.offset : e.offset + e.payload_len])
            same("chunk", reader.decode_chunk(e.codec, encoded, e.raw_len), raw)


def check_segment(v, seals):
    known, seal = v["segment"], seals["sealed"]
    id, head = bytes.fromhex(known["id"]), bytes.fromhex(known["sealedHeader"])
    key = hmac256(seal.key(1, "index-segment"), id, head[48:80])
    numbers = [0, 1, 1, 2, 3, 4, 5, 6, 7]  # two data pages, one of each other section
    for number, (section, page) in enumerate(zip(numbers, known["pages"], strict=True)):
        content = bytes.fromhex(page["content"]).ljust(4080, b"\0")
        position = id + struct.pack("<IQ", section, number)
        if number == 0:
            tag = tag16("containerarchive/segment/v1", content)
            sealed = head.ljust(4080, b"\0")
            sealed += tag16("containerarchive/segment/v1", sealed)
        else:
            tag = tag16("containerarchive/segment-page/v1", position, content)
            sealed = aes_gcm()(key).encrypt(position[16:], content, b"CAS1" + seal.repo_id + id)
        same(f"tag of page {number}", tag, page["plainTag"])
        same(f"sealed page {number}", sha256(sealed), page["sealedSha256"])
        same(f"sealed tag of page {number}", sealed[4080:], page["sealedTag"])


def check_derived(known):
    """4.1: every step from a passphrase to the bundle."""
    f, derived = json.loads(known["file"]), known["derived"]
    kdf, wrap, key_id = f["kdf"], f["wrap"], bytes.fromhex(f["id"])
    salt, costs = reader.unb64(kdf["salt"]), (kdf["m"], kdf["t"], kdf["p"])
    ikm = reader.argon2id(known["secret"].encode(), salt, *costs)
    prk = hmac256(key_id + salt, ikm)
    kek = expand(prk, b"containerarchive/v1/kek", 32)
    domain = b"containerarchive/keyfile/v1\0"
    aad = sha256(domain, key_id, bytes.fromhex(f["repo"]), struct.pack("<III", *costs), salt, f["type"].encode())
    for name, got in (("ikm", ikm), ("prk", prk), ("kek", kek), ("aad", aad)):
        same(name, got, derived[name])
    same("commit", expand(prk, b"containerarchive/v1/commit", 32), reader.unb64(wrap["commit"]))
    sealed = aes_gcm()(kek).encrypt(reader.unb64(wrap["nonce"]), derived["bundle"].encode(), aad)
    same("bundle", sealed, reader.unb64(wrap["ct"]))


def check_files(v, seals):
    repo_id = bytes.fromhex(v["keys"]["repo"])
    leaf, root = v["listNodes"]["leaf"], v["listNodes"]["root"]
    for known, count in ((leaf, 3), (root, 2)):
        node = bytes.fromhex(known["node"])
        same("list node", len(reader.parse_node(node, known["level"])), count)
        same("list id", seals["plain"].chunk_id(LIST, node), known["id"])
    same("sums", [e[1:] for e in reader.parse_node(bytes.fromhex(root["node"]), 1)], [(2048000, 2048), (952000, 952)])

    for kind, known in v["keyFiles"].items():
        secret = {"passphrase": None, "raw_key": None}
        if kind == "raw":
            secret["raw_key"] = bytes.fromhex(known["secret"])
        else:
            secret["passphrase"] = known["secret"].encode()
        bundle = reader.open_key_file(known["file"].encode(), repo_id, **secret)
        if "derived" in known:
            check_derived(known)
        same("master key", reader.unb64(bundle["epochs"][0]["key"]), v["keys"]["masterKey"])
        same("dedup key", reader.unb64(bundle["dedup"]), v["keys"]["dedupKey"])

    origin = {"repository": "b0" * 16, "snapshot": "b1" * 16}
    for suffix, sequence, copied_from in (("Numbered", 7, None), ("Copied", 7, origin), ("", None, None)):
        plain, sealed = (v["manifests"][name + suffix].encode() for name in ("plain", "sealed"))
        same("sequence", reader.checked_json(plain, "manifest").get("sequence"), sequence)
        same("copiedFrom", reader.checked_json(plain, "manifest").get("copiedFrom"), copied_from)
        same("sealed manifest", seals["sealed"].open_manifest(reader.checked_json(sealed, "manifest"), sealed), plain)
    (part,) = v["manifests"]["copyOfPlain"]
    head = b"CAMC" + struct.pack("<I", 1) + bytes.fromhex(json.loads(plain)["id"])
    head += struct.pack("<IIQ", 0, 1, len(plain)) + sha256(plain)
    same("copy", head + plain, part)

    reader.checked_json(v["configs"]["plain"].encode(), "config")
    config = v["configs"]["sealed"].encode()
    mac = reader.checked_json(config, "config")["mac"]
    same("config mac", hmac256(seals["sealed"].key(1, "config-mac"), config[: config.rfind(b',"mac":"')]), mac)


def check_kill_lists(v, seals):
    ids = [(0, [0x11, 0x22], [], 0xD0), (1, [0x33], [0xF0], 0xD1)]
    for name, seal in seals.items():
        for known, (flags, packs, sessions, id) in zip(v["killLists"][name], ids, strict=True):
            epoch = 1 if seal.sealed else 0
            body = b"CAKILL01" + struct.pack("<II", 2, flags) + bytes.fromhex(v["keys"]["repo"]) + bytes([id]) * 16
            body += struct.pack("<IIII", len(packs), len(sessions), epoch, 0)
            body += b"".join(bytes([pack]) * 32 for pack in packs) + b"".join(bytes([s]) * 16 for s in sessions)
            body += hmac256(seal.key(1, "kill-list"), sha256(body)) if seal.sealed else bytes(32)
            same(f"{name} kill list", body + sha256(body), known)
            found = kill_list(bytes.fromhex(known), seal)
            same(f"{name} kill list is proven", (found.proven, len(found.packs)), (True, len(packs)))


def check_marks(v, seals):
    tombstone = b'{"version":1,"id":"' + b"f0" * 16 + b'","revoked":true'
    tombstone += b',"checksum":"' + sha256(tombstone).hex().encode() + b'"}\n'
    same("tombstone", tombstone.decode(), v["marks"]["tombstone"])
    same("tombstone is one", reader.is_tombstone(tombstone, "f0" * 16 + ".json"), True)
    rows = {"mark": ([0x11, 0x22], []), "wait": ([], [0xF0, 0xF1]), "swept": ([0x22], [])}
    for name, seal in seals.items():
        for part, (packs, sessions) in rows.items():
            body = MARK_MAGICS[part] + struct.pack("<II", 1, 0) + bytes.fromhex(v["keys"]["repo"]) + bytes([0xC0]) * 16
            body += struct.pack("<IIII", len(packs), len(sessions), 1 if seal.sealed else 0, 0)
            body += b"".join(bytes([pack]) * 32 for pack in packs) + b"".join(bytes([s]) * 16 for s in sessions)
            body += hmac256(seal.key(1, "kill-list"), sha256(body)) if seal.sealed else bytes(32)
            same(f"{name} {part}", body + sha256(body), v["marks"][name][part])
            found = mark(body + sha256(body), part, seal)
            same(f"{name} {part} is proven", (found.proven, len(found.packs)), (True, len(packs)))


def check_cuts(v, table):
    gears = {"plain": default_gear(), "sealed": list(struct.unpack("<256Q", table))}
    for name, known in v["cuts"].items():
        for c in known:
            got = cut_lengths(splitmix64(1, c["bytes"]), gears[name], c["min"], c["avg"], c["max"])
            same(f"{name} cuts", got, c["lengths"])


def check_parity(v):
    known, data = v["parity"], splitmix64(1, 9000)
    for shard, factors in known["factors"].items():
        same(f"factors of shard {shard}", bytes(parity.factor(int(shard), slot) for slot in range(224)), factors)
    for length, total in known["rowSums"]:
        same(f"row sum of {length} bytes", struct.pack("<Q", parity.row_sum(data[:length])), total)
    file = bytes.fromhex(known["group"])
    record = parity.Record(file[64:], bytes.fromhex(v["keys"]["repo"]))
    same(".grp", record.prefix() + record.bytes, file)
    packs = [data[: pack["length"]] for pack in known["packs"]]
    for member in record.members:
        pack = next(pack for pack in packs if sha256(pack) == member.pack)
        same("row sums", [parity.row_sum(pack[at : at + 4096]) for at in range(0, len(pack), 4096)], list(member.sums))
    for shard, hash in enumerate(known["shards"]):
        rows = []
        for row in range(record.stripe_len // 4096):
            total = bytes(4096)
            for member in record.members:
                pack = next(pack for pack in packs if sha256(pack) == member.pack)
                part = pack[row * 4096 : row * 4096 + 4096].ljust(4096, b"\0")
                total = parity.xor(total, parity.scaled(parity.factor(shard, member.slot), part))
            rows.append(total)
        same("row sums of a shard", [parity.row_sum(row) for row in rows], list(record.shard_sums[shard]))
        front, back = record.frame(shard)
        same(f"shard {shard}", sha256(front, *rows, back), hash)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    file = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "../tests/fixtures/vectors/v1.json")
    with open(file, encoding="utf-8") as f:
        v = json.load(f)
    b64 = lambda name: reader.base64.b64encode(bytes.fromhex(v["keys"][name])).decode()
    bundle = {"epochs": [{"epoch": v["keys"]["epoch"], "key": b64("masterKey")}], "dedup": b64("dedupKey")}
    seals = {"plain": PlainSeal(), "sealed": Seal(bytes.fromhex(v["keys"]["repo"]), bundle)}
    try:
        table = check_keys(v)
        check_chunks(v, seals)
        check_packs(v, seals)
        check_segment(v, seals)
        check_files(v, seals)
        check_kill_lists(v, seals)
        check_marks(v, seals)
        check_cuts(v, table)
        check_parity(v)
    except reader.Problem as problem:
        print(f"PROBLEM: {problem}")
        return 1
    print(f"{len(v)} kinds of known answers agree")
    return 0


if __name__ == "__main__":
    sys.exit(main())
