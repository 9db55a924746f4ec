"""`reader.py REPO check`: reads every byte of a repository and checks that all its parts agree
(docs/format.md).

Packs against their names and their `.idx`, every chunk against its id, the global index against the
packs, list trees against their rules, manifests against their copies in meta packs, parity against
the packs. Problems are collected, so that one does not hide the next; a note is something that a
writer may leave and that loses no data.
"""

import hashlib
import os
import re
import struct
from collections import Counter, defaultdict, namedtuple
from contextlib import contextmanager
from itertools import pairwise

import reader_parity
from reader import (
    CONFIG_COPY,
    DATA,
    HEX16,
    HEX32,
    LIST,
    MANIFEST_COPY,
    TYPES,
    Problem,
    checked_json,
    le,
    parse_entries,
    parse_footer,
    parse_idx,
    parse_pack,
    sha256,
    tag16,
    want,
)


KillList = namedtuple("KillList", "id repo hint packs sessions proven")


def kill_list(data, seal):
    """11.1. A list of condemned packs, or a hint."""
    want(len(data) >= 88 and data[:8] == b"CAKILL01" and sha256(data[:-32]) == data[-32:], "is damaged")
    version, flags, repo, id, packs, sessions = struct.unpack_from("<II16s16sII", data, 8)
    want(version in (1, 2) and flags < 2, "makes no sense")
    begin, mac_len = (56, 0) if version == 1 else (64, 32)
    end = begin + 32 * packs + 16 * sessions
    want(len(data) == end + mac_len + 32 and (flags or not sessions), "has a wrong length")
    ids = [data[begin + 32 * i : begin + 32 * (i + 1)] for i in range(packs)]
    want(ids == sorted(set(ids)), "is not sorted")
    epoch, zero = struct.unpack_from("<II", data, 56) if version == 2 else (0, 0)
    want(zero == 0, "has bytes that should be zero")
    proven = seal.proves_list(epoch, sha256(data[:end]), data[end : end + mac_len])
    return KillList(id, repo, flags == 1, ids, sessions, proven)


Mark = namedtuple("Mark", "level id repo packs sessions proven")
MARK_MAGICS = {"mark": b"CAMARK01", "wait": b"CAWAIT01", "swept": b"CASWPT01"}


def mark(data, part, seal):
    """11.7. The condemned packs of a prune in object storage, or what happened to them."""
    want(len(data) >= 128 and data[:8] == MARK_MAGICS[part] and sha256(data[:-32]) == data[-32:], "is damaged")
    version, level, repo, id, packs, sessions, epoch, zero = struct.unpack_from("<II16s16sIIII", data, 8)
    want(version == 1 and level < 256 and zero == 0, "makes no sense")
    want(len(data) == 128 + 32 * packs + 16 * sessions, "has a wrong length")
    want(not (packs if part == "wait" else sessions), "has rows of the wrong kind")
    end = 64 + 32 * packs
    ids = [data[at : at + 32] for at in range(64, end, 32)]
    waits = [data[at : at + 16] for at in range(end, len(data) - 64, 16)]
    want(ids == sorted(set(ids)) and waits == sorted(set(waits)), "is not sorted")
    proven = seal.proves_list(epoch, sha256(data[:-64]), data[-64:-32])
    return Mark(level, id, repo, ids, waits, proven)


def idx_of_pack(pack_id, data, trailer_offset):
    head = b"CAPIDX01" + struct.pack("<II", 1, 0) + pack_id + struct.pack("<Q", len(data))
    body = head + data[:96] + data[trailer_offset:]
    return body + sha256(body)


# --- 9. Segments ------------------------------------------------------------------------------------------------------


class Segment:
    """One file of the global index, completely read and checked. `locations` are (pack id, entry)."""

    def __init__(self, seal, repo_id, name_id, data):
        self.pages = len(data) // 4096
        want(self.pages >= 2 and len(data) % 4096 == 0, "segment is not whole pages")
        head = data[:4080]
        want(head[:8] == b"CASEG001", "not a segment")
        want(data[4080:4096] == tag16("containerarchive/segment/v1", head), "segment header is damaged")
        version, flags = struct.unpack_from("<II", head, 8)
        want(version == 1 and flags == int(seal.sealed), f"segment version {version}, flags {flags}")
        self.id, self.salt, self.epoch = head[32:48], head[48:80], le(head[80:84])
        want(
            self.id == name_id and head[16:32] == repo_id and not any(head[84:]),
            "segment of another name or repository",
        )
        want(self.epoch in seal.epochs and (seal.sealed or not any(self.salt)), "segment epoch or salt")
        self.seal, self.data = seal, data
        self._footer()
        self._data()
        self._filter()

    def page(self, number, section):
        return self.seal.open_page(self, section, number, self.data[number * 4096 : number * 4096 + 4096])

    def items(self, section, size, per_page, count):
        """The `count` records of a section (1 = data); the rest of each page must be zero."""
        pages = self.counts[section - 1]
        want(pages == -(-count // per_page), f"{pages} pages for {count} records in section {section}")
        first = 1 + sum(self.counts[: section - 1])
        records = []
        for i in range(pages):
            page, here = self.page(first + i, section), min(per_page, count - i * per_page)
            records += [page[k * size : (k + 1) * size] for k in range(here)]
            want(not any(page[here * size :]), f"page {first + i} is not zero where it is unused")
        return records

    def _footer(self):
        page = self.page(self.pages - 1, 7)
        want(page[:8] == b"CASEGEND" and not any(page[152:]), "not a segment footer")
        pages, self.entries, *self.counts = struct.unpack_from("<QQ6Q", page, 8)
        self.pack_count, self.superseded_count = struct.unpack_from("<QQ", page, 72)
        want(pages == self.pages == 2 + sum(self.counts), "segment footer does not fit the file")
        self.first, self.last = page[88:120], page[120:152]

    def _data(self):
        packs = [(r[:32], struct.unpack("<Q", r[32:])[0]) for r in self.items(5, 40, 102, self.pack_count)]
        want(packs == sorted(packs) and len(dict(packs)) == len(packs), "packs of a segment are not sorted")
        self.packs = dict(packs)
        self.superseded = set(self.items(6, 16, 255, self.superseded_count))
        entries = list(parse_entries(b"".join(self.items(1, 48, 85, self.entries))))
        keys = [(e.id, e.ordinal) for e in entries]
        want(all(a < b for a, b in pairwise(keys)), "entries of a segment are not sorted")
        want(
            all(e.ordinal < len(packs) and e.type in (DATA, LIST) for e in entries), "entry of a segment makes no sense"
        )
        self.locations = [(packs[e.ordinal][0], e) for e in entries]
        ends = (entries[0].id, entries[-1].id) if entries else (bytes(32), bytes(32))
        want((self.first, self.last) == ends, "first or last id of a segment")
        fence = [struct.pack("<Q", int.from_bytes(e.id[:8], "big")) for e in entries[::85]]
        want(self.items(2, 8, 510, len(fence)) == fence, "fence pages do not fit the data pages")
        want(self.items(3, 8, 510, len(fence[::510])) == fence[::510], "top pages do not fit the fence pages")

    def _filter(self):
        pages = self.counts[3]
        want(pages == max(1, -(-self.entries * 12 // 32256)), f"{pages} filter pages for {self.entries} entries")
        first = 1 + sum(self.counts[:3])
        content = [self.page(first + i, 4) for i in range(pages)]
        want(not any(any(page[4032:]) for page in content), "a filter page is not zero where it is unused")
        for _, e in self.locations:
            page = content[(int.from_bytes(e.id[:8], "big") * pages) >> 64]
            block = (int.from_bytes(e.id[8:12], "big") * 63) >> 32
            bits = int.from_bytes(e.id[12:20], "little")
            for i in range(6):
                bit = bits >> (9 * i) & 511
                want(page[block * 64 + (bit >> 3)] >> (bit & 7) & 1, f"the filter misses {e.id.hex()}")


# --- check ------------------------------------------------------------------------------------------------------------


class Check:
    """Reads everything. Problems are collected, so that one does not hide the next."""

    def __init__(self, repo):
        self.repo, self.problems, self.notes, self.counts = repo, [], [], Counter()
        self.packs, self.data, self.copies, self.segments = {}, {}, defaultdict(dict), {}

    @contextmanager
    def of(self, what):
        try:
            yield
        except Problem as e:
            self.problems.append(f"{what}: {e}")
        except (OSError, ValueError, KeyError, TypeError, IndexError, struct.error) as e:
            self.problems.append(f"{what}: {type(e).__name__}: {e}")

    def run(self):
        self.keys()
        for pack_id in self.repo.pack_ids():
            with self.of(f"pack {pack_id.hex()}"):
                self.pack(pack_id)
            if pack_id not in self.packs and self.repo.groups and self.repo.groups.rebuild(pack_id):
                self.notes.append(f"pack {pack_id.hex()} can be rebuilt from parity")
        for name in self.repo.names("packs/data", HEX32 + r"\.idx"):
            if bytes.fromhex(name[:64]) not in self.packs:
                self.notes.append(f"{name} has no pack (or a bad one)")
        self.global_index()
        self.small_files()
        if self.repo.groups:
            reader_parity.check_groups(self)
        for name in self.repo.manifest_names():
            with self.of(f"snapshot {name[:32]}"):
                self.snapshot(name)
        for snapshot, record in sorted(self.copies.items()):
            if snapshot.hex() + ".json" not in self.repo.manifest_names():
                over = snapshot.hex() in self.records or snapshot.hex() + ".json" in self.repo.tombstones
                known = "forgotten or abandoned" if over else "no manifest and no record"
                self.notes.append(f"copy of manifest {snapshot.hex()}: {known}")

    def keys(self):
        repo = self.repo
        if not repo.seal.sealed:
            return
        with self.of("key bundle"):
            pin, chunking = repo.bundle["pin"], repo.config["chunking"]
            same = all(pin[name] == chunking[name] for name in ("normalization", "min", "avg", "max"))
            want(same and pin["chunker"] == chunking["algorithm"], "the pinned chunker is not that of config.json")
            e = repo.config["encryption"]
            want((pin["cipher"], pin["chunkIds"]) == (e["algorithm"], e["chunkIds"]), "the pinned cipher differs")
        for name in repo.key_names:
            with self.of(f"keys/{name}"):
                data = repo.read(f"keys/{name}")
                want(checked_json(data, "key file")["id"] == name[:32], "key file of another name")
                want(repo.read(f"packs/parity/keys/{name}") == data, "its second copy differs")
            self.counts["key files"] += 1

    def pack(self, pack_id):
        repo, base = self.repo, f"packs/data/{pack_id.hex()}"
        data = repo.read(base + ".pack")
        want(sha256(data) == pack_id, "the file does not hash to its name")
        trailer_offset, trailer_len, body_hash = parse_footer(data[-64:], len(data))
        want(sha256(data[:trailer_offset]) == body_hash, "body hash")
        parts = data[:96], data[trailer_offset : trailer_offset + trailer_len], data[-64:]
        pack = parse_pack(repo.seal, repo.id, pack_id, len(data), *parts)
        end = pack.entries[-1].offset + pack.entries[-1].payload_len
        want(data[end:trailer_offset] == repo.seal.padding(pack.header, end, trailer_len), "padding")
        self.packs[pack_id] = pack
        for e in pack.entries:
            with self.of(f"pack {pack_id.hex()}, chunk {e.ordinal}"):
                self.copy(e.type, repo.open_chunk(pack, e, data[e.offset : e.offset + e.payload_len]))
                self.counts[TYPES[e.type]] += 1
        self.counts["packs"] += 1
        if not os.path.exists(os.path.join(repo.path, base + ".idx")):
            self.notes.append(f"pack {pack_id.hex()} has no .idx")
            return
        want(repo.read(base + ".idx") == idx_of_pack(pack_id, data, trailer_offset), "its .idx differs")
        parse_idx(repo.seal, repo.id, pack_id, repo.read(base + ".idx"))

    def copy(self, kind, data):
        """8.3. Gathers the parts of manifest copies; compares copies of config.json."""
        if kind == CONFIG_COPY:
            want(data == self.repo.config_bytes, "copy of config.json differs")
        elif kind == MANIFEST_COPY:
            want(data[:4] == b"CAMC" and len(data) > 72, "not a part of a manifest")
            version, snapshot, part, parts, length, whole = struct.unpack_from("<I16sIIQ32s", data, 4)
            want(version == 1 and part < parts and len(data) <= 1 << 20, "a part of a manifest makes no sense")
            self.copies[snapshot].setdefault((parts, length, whole), {})[part] = data[72:]

    def global_index(self):
        repo = self.repo
        for name in repo.names("index", HEX16 + r"\.seg"):
            with self.of(f"segment {name}"):
                segment = Segment(repo.seal, repo.id, bytes.fromhex(name[:32]), repo.read(f"index/{name}"))
                self.segments[segment.id] = segment
                self.counts["segments"] += 1
        gone = set().union(*(s.superseded for s in self.segments.values()))
        listed, found = {}, set()
        for segment in self.segments.values():
            for pack_id, length in segment.packs.items():
                known = self.packs.get(pack_id)
                want_here = f"segment {segment.id.hex()}, pack {pack_id.hex()}"
                with self.of(want_here):
                    want(known or segment.id in gone, "no such (good) pack")
                    want(not known or known.length == length, "another length")
            if segment.id in gone:
                continue
            listed.update(segment.packs)
            found.update((pack_id, e._replace(ordinal=0)) for pack_id, e in segment.locations)
        there = {
            (pack.id, e._replace(ordinal=0))
            for pack in self.packs.values()
            if pack.id in listed
            for e in pack.entries
            if e.type in (DATA, LIST)
        }
        for pack_id, e in found ^ there:
            where = "the global index" if (pack_id, e) in found else "its pack"
            self.problems.append(f"chunk {e.id.hex()} of pack {pack_id.hex()} is only in {where}")
        self.counts["index entries"] += len(found)
        self.notes += [f"pack {id.hex()} is in no segment" for id in self.packs if id not in listed]

    def small_files(self):
        """8.4, 8.6, 11.1, 11.2 and 11.7. Records, tombstones, kill lists, leases, marks."""
        repo, self.records, self.condemned = self.repo, set(), set()
        for name in repo.names("packs/parity/records", HEX16 + r"\.forgot"):
            with self.of(f"record {name}"):
                record = checked_json(repo.read(f"packs/parity/records/{name}"), "record")
                want(record["id"] == name[:32] and record["reason"] in ("forgotten", "abandoned"), "makes no sense")
                self.records.add(record["id"])
                self.counts["records"] += 1
        for name in repo.names("locks", HEX16 + r"\.json"):
            with self.of(f"lease {name}"):
                want(checked_json(repo.read(f"locks/{name}"), "lease")["session"] == name[:32], "of another session")
                self.counts["leases"] += 1
        for name in repo.names("index/marks", HEX16 + r"\.kill"):
            with self.of(f"kill list {name}"):
                data = repo.read(f"index/marks/{name}")
                found = kill_list(data, repo.seal)
                want(found.repo == repo.id and found.id.hex() == name[:32], "makes no sense")
                self.counts["kill lists"] += 1
                if found.proven and not found.hint:
                    self.condemned.update(found.packs)
                if not found.proven:
                    self.notes.append(f"kill list {name} is not proven and condemns nothing")

        for name in repo.names("index/marks", r"[0-9a-f]{2}-" + HEX16 + r"\.(mark|wait|swept)"):
            stem, part = name.split(".")
            with self.of(f"mark {name}"):
                found = mark(repo.read(f"index/marks/{name}"), part, repo.seal)
                want(found.repo == repo.id and f"{found.level:02x}-{found.id.hex()}" == stem, "makes no sense")
                self.counts["files of marks"] += 1
        if repo.tombstones:
            self.counts["tombstones"] += len(repo.tombstones)

    def snapshot(self, name):
        repo = self.repo
        data, manifest = repo.manifest(name)
        items = manifest["items"]
        want(0 < manifest.get("sequence", 1) <= 1 << 53, "its sequence is out of range")
        want(len({item["name"] for item in items}) == len(items), "two items have one name")
        for member, of_item in (("originalSize", "size"), ("chunkCount", "chunkCount")):
            want(manifest[member] == sum(item[of_item] for item in items), f"{member} is not the sum of its items")
        for item in items:
            with self.of(f"snapshot {name[:32]}, item {item['name']!r}"):
                self.item(item)
        copies = self.copies.get(bytes.fromhex(manifest["id"]), {})
        want(copies, "no meta pack holds a copy of its manifest")
        for (parts, length, whole), got in copies.items():
            joined = b"".join(got.get(part, b"") for part in range(parts))
            want((len(joined), sha256(joined)) == (length, whole) and joined == data, "the manifest's copy differs")
        self.counts["snapshots"] += 1

    def item(self, item):
        """An item's tree, its counts, its bytes and, when it has one, its digest."""
        repo, digest = self.repo, hashlib.sha256()
        chunks = list(repo.chunks_of(item, strict=True))
        want(len(chunks) == item["chunkCount"], f"{len(chunks)} chunks instead of {item['chunkCount']}")
        repo.restore(item, digest.update)
        want(item.get("digest", {}).get("sha256", digest.hexdigest()) == digest.hexdigest(), "digest differs")
        self.counts["items"] += 1
        want(len(item.get("extra", ())) <= 8, "more than 8 extras")
        for extra in item.get("extra", ()):
            self.extra(item, extra)

    def extra(self, item, extra):
        """An extra's tree, its counts, its bytes and, of a kind that is known, what they are (8.1, 8.5)."""
        want(re.fullmatch(r"[a-z0-9-]{1,64}", extra["kind"]), "an extra's kind")
        pseudo = {"name": extra["kind"], "list": {"root": extra["root"], "level": extra["level"]}, "size": extra["size"]}
        want(len(list(self.repo.chunks_of(pseudo, strict=True))) == extra["chunkCount"], "chunks of an extra")
        stream = bytearray()
        self.repo.restore(pseudo, stream.extend)
        if extra["kind"] == "tar-members":
            entries = members(bytes(stream), item["size"])
            tar = bytearray()
            self.repo.restore(item, tar.extend)
            for key, _, header, data, stored in entries:
                want(header < data <= data + stored <= len(tar), f"offsets of member {key!r}")
                want(tar[header + 257 : header + 262] in (b"ustar", bytes(5)), f"no header of member {key!r}")


class Bytes:
    """The fields of section 8.5, read from the front."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, length):
        want(self.at + length <= len(self.data), "a page of a member index is too short")
        self.at += length
        return self.data[self.at - length : self.at]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                want(value < 1 << 64 and (byte or shift == 7), "a varint")
                return value

    def zigzag(self):
        n = self.varint()
        return n >> 1 if n % 2 == 0 else -(n + 1 >> 1)

    def text(self):
        return self.take(self.varint())


def members(stream, item_length):
    """The members of an index (8.5): key, type, header offset, data offset, stored length."""
    want(stream[-8:] == b"CATARIDX", "not a member index")
    position, base, tail, count, length, _, globals_, size, level, complete, zero, version = struct.unpack_from(
        "<QQQQQQIIBBHI", stream, len(stream) - 72
    )
    want((version, zero, length) == (1, 0, item_length) and complete < 2, "footer of a member index")
    want(position + size + tail == len(stream) and tail == 72 + 16 * globals_, "root of a member index")
    found = []

    def page(position, size, level, base, first, below):
        data, at = Bytes(stream[position : position + size]), len(found)
        want(data.take(1)[0] == level, "level of a page")
        if level == 0:
            for _ in range(data.varint()):
                key, flags, form = data.text(), *data.take(2)
                raw = data.text() if form == 4 else key
                want(form <= 4 and flags < 64 and (form < 4 or raw != key), "a member's path")
                kind = data.take(1)[0]
                base = (base + data.zigzag()) % (1 << 64)
                offset, stored = base + data.varint(), data.varint()
                want(data.varint() <= 0o7777, "a member's mode")
                data.varint(), data.varint(), data.zigzag()
                for flag, fields in ((1, 1), (2, 1), (32, 0)):
                    [data.varint() for _ in range(fields if flags & flag else 0)]
                [data.text() for _ in range((1 if flags & 8 else 0) + (2 if flags & 16 else 0))]
                [data.varint() for _ in range(2 if flags & 32 else 0)]
                found.append((key, kind, base, offset, stored))
        else:
            child = data.varint()
            for _ in range(data.varint()):
                key = data.text()
                base = (base + data.zigzag()) % (1 << 64)
                child_size, child_members = data.varint(), data.varint()
                want(child + child_size <= position, "a page is after its parent")
                page(child, child_size, level - 1, base, key, child_members)
                child += child_size
        want(data.at == size and len(found) - at == below, "length of a page")
        want(first is None or found[at][0] == first, "the first member of a page")

    page(position, size, level, base, None, count)
    keys = [(key, header) for key, _, header, *_ in found]
    want(keys == sorted(keys) and len(set(keys)) == count, "members out of order")
    return found


def check_command(repo):
    check = Check(repo)
    check.run()
    print(", ".join(f"{n} {what}" for what, n in check.counts.items()) or "nothing in it")
    for note in check.notes:
        print(f"note: {note}")
    for problem in check.problems:
        print(f"PROBLEM: {problem}")
    print(f"{len(check.problems)} problems")
    return 1 if check.problems else 0
