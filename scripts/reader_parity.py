"""Parity groups (docs/format.md, section 10): verifies every byte of them, and computes packs that
are lost or damaged.

`reader.py` uses this file only for what it cannot read otherwise; `check` reads all groups. Written
for clarity: a row takes about a millisecond without the package `xxhash`.
"""

import os
import struct
from collections import namedtuple
from functools import cache

from reader import HEX16, Problem, check8, le, sha256, want

ROW = 4096
MASK = 2**64 - 1

Member = namedtuple("Member", "slot rows pack length sums")


# --- 10.1 The code ----------------------------------------------------------------------------------------------------


@cache
def tables():
    """Powers of x in GF(2^8) with the polynomial 0x11D, and their logarithms."""
    power, log, value = [0] * 510, [0] * 256, 1
    for i in range(255):
        power[i] = power[i + 255] = value
        log[value] = i
        value = value << 1 ^ (0x11D if value & 0x80 else 0)
    return power, log


def times(a, b):
    power, log = tables()
    return power[log[a] + log[b]] if a and b else 0


def inverse(a):
    power, log = tables()
    return power[255 - log[a]]


def factor(shard, slot):
    """g(i, j) = c(i, j) / c(0, j) with c(i, j) = 1 / (i XOR (32 + j))."""
    return times(inverse(shard ^ (32 + slot)), 32 + slot)


@cache
def product_table(a):
    return bytes(times(a, b) for b in range(256))


def scaled(a, row):
    return row if a == 1 else row.translate(product_table(a))


def xor(a, b):
    return (int.from_bytes(a, "little") ^ int.from_bytes(b, "little")).to_bytes(ROW, "little")


def solve(slots, shards):
    """The rows at `slots`, from as many pairs (shard number, the remainder of its row without all other members)."""
    lines = [([factor(number, slot) for slot in slots], row) for number, row in shards[: len(slots)]]
    if len(lines) < len(slots):
        return None
    for column in range(len(slots)):
        pivot = next(n for n in range(column, len(lines)) if lines[n][0][column])
        lines[column], lines[pivot] = lines[pivot], lines[column]
        scale = inverse(lines[column][0][column])
        factors, row = [times(scale, f) for f in lines[column][0]], scaled(scale, lines[column][1])
        lines[column] = factors, row
        for n, (other, other_row) in enumerate(lines):
            if n != column and other[column]:
                by = other[column]
                lines[n] = [o ^ times(by, f) for o, f in zip(other, factors, strict=True)], xor(other_row, scaled(by, row))
    return [row for _, row in lines]


# --- 10.2 Row sums: XXH3-64 with seed 0, as https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md has it ------

SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
    "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb"
    "170ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
PRIME32 = 0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D
PRIME64 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


def u32(data, at):
    return struct.unpack_from("<I", data, at)[0]


def u64(data, at):
    return struct.unpack_from("<Q", data, at)[0]


def fold(a, b):
    product = a * b
    return (product & MASK) ^ (product >> 64)


def avalanche(h):
    h ^= h >> 37
    h = h * 0x165667919E3779F9 & MASK
    return h ^ h >> 32


def avalanche64(h):
    h = (h ^ h >> 33) * PRIME64[1] & MASK
    h = (h ^ h >> 29) * PRIME64[2] & MASK
    return h ^ h >> 32


def mix16(data, at, secret):
    return fold(u64(data, at) ^ u64(SECRET, secret), u64(data, at + 8) ^ u64(SECRET, secret + 8))


def xxh3_short(data):
    n = len(data)
    if n <= 3:
        value = data[0] << 16 | data[n >> 1] << 24 | data[-1] | n << 8
        return avalanche64(value ^ u32(SECRET, 0) ^ u32(SECRET, 4))
    if n <= 8:
        h = (u32(data, n - 4) + (u32(data, 0) << 32)) ^ u64(SECRET, 8) ^ u64(SECRET, 16)
        rotate = lambda value, by: (value << by | value >> (64 - by)) & MASK
        h ^= rotate(h, 49) ^ rotate(h, 24)
        h = h * 0x9FB21C651E98DF25 & MASK
        h = (h ^ ((h >> 35) + n)) * 0x9FB21C651E98DF25 & MASK
        return h ^ h >> 28
    low = u64(data, 0) ^ u64(SECRET, 24) ^ u64(SECRET, 32)
    high = u64(data, n - 8) ^ u64(SECRET, 40) ^ u64(SECRET, 48)
    swapped = int.from_bytes(low.to_bytes(8, "little"), "big")
    return avalanche((n + swapped + high + fold(low, high)) & MASK)


def xxh3_middle(data):
    n = len(data)
    h = n * PRIME64[0]
    if n <= 128:
        for i in reversed(range((n - 1) // 32 + 1)):
            h += mix16(data, 16 * i, 32 * i) + mix16(data, n - 16 * (i + 1), 32 * i + 16)
        return avalanche(h & MASK)
    h = avalanche((h + sum(mix16(data, 16 * i, 16 * i) for i in range(8))) & MASK)
    h += sum(mix16(data, 16 * i, 16 * (i - 8) + 3) for i in range(8, n // 16))
    return avalanche((h + mix16(data, n - 16, 136 - 17)) & MASK)


def xxh3_long(data):
    n = len(data)
    acc = [PRIME32[2], *PRIME64[:4], PRIME32[1], PRIME64[4], PRIME32[0]]

    def accumulate(at, secret):
        values, keys = struct.unpack_from("<8Q", data, at), struct.unpack_from("<8Q", SECRET, secret)
        for i, (value, key) in enumerate(zip(values, keys, strict=True)):
            key ^= value
            acc[i ^ 1] += value
            acc[i] += (key & 0xFFFFFFFF) * (key >> 32)

    blocks = (n - 1) // 1024
    for stripe in range((n - 1) // 64):
        accumulate(64 * stripe, 8 * (stripe % 16))
        if stripe % 16 == 15 and stripe // 16 < blocks:
            for i, key in enumerate(struct.unpack_from("<8Q", SECRET, 128)):
                value = acc[i] & MASK
                acc[i] = (value ^ value >> 47 ^ key) * PRIME32[0] & MASK
    accumulate(n - 64, 121)
    acc = [value & MASK for value in acc]
    h = n * PRIME64[0]
    for i in range(4):
        h += fold(acc[2 * i] ^ u64(SECRET, 11 + 16 * i), acc[2 * i + 1] ^ u64(SECRET, 19 + 16 * i))
    return avalanche(h & MASK)


try:
    from xxhash import xxh3_64_intdigest as row_sum
except ImportError:

    def row_sum(data):
        return xxh3_short(data) if len(data) <= 16 else xxh3_middle(data) if len(data) <= 240 else xxh3_long(data)


# --- 10.4 Files -------------------------------------------------------------------------------------------------------


class Record:
    """A group, from one copy of its record."""

    def __init__(self, data, repo_id):
        self.bytes = data
        want(len(data) > 112 and data[:8] == b"CAGRP001", "not a group record")
        want(sha256(data[:-32]) == data[-32:], "group record does not match its checksum")
        version, zero = struct.unpack_from("<II", data, 8)
        want(version == 1 and zero == 0, f"group record version {version}")
        want(data[16:32] == repo_id, "group of another repository")
        self.id, self.stripe_len = data[32:48], le(data[48:56])
        self.data, self.parity, self.size_class, row_bits = data[56:60]
        want(row_bits == 12 and 1 <= self.data <= 224 and 1 <= self.parity <= 32, "shape of a group makes no sense")
        count, superseded, config_len = struct.unpack_from("<III", data, 60)
        want(1 <= count <= self.data and not any(data[72:80]), "members of a group make no sense")
        at = 80 + 16 * superseded
        self.superseded = [data[i : i + 16] for i in range(80, at, 16)]
        want(len({*self.superseded, self.id}) == superseded + 1, "a group supersedes itself, or another twice")
        self.front_len = at + 64 * count
        sums = self.front_len
        self.members = []
        for _ in range(count):
            slot, zero, rows, pack, length, rest = struct.unpack_from("<HHI32sQ16s", data, at)
            want(zero == 0 and not any(rest) and slot < 224 and length > 0, "a member of a group makes no sense")
            want(rows == -(-length // ROW) and size_class(length) == self.size_class, "length of a member makes no sense")
            self.members.append(Member(slot, rows, pack, length, struct.unpack_from(f"<{rows}Q", data, sums)))
            at, sums = at + 64, sums + 8 * rows
        slots = [member.slot for member in self.members]
        want(slots == sorted(set(slots)), "slots of a group are not in order")
        want(len({member.pack for member in self.members}) == count, "a pack is twice in a group")
        rows = max(member.rows for member in self.members)
        want(self.stripe_len == rows * ROW, "stripe of a group has a wrong length")
        self.shard_sums = []
        for _ in range(self.parity):
            self.shard_sums.append(struct.unpack_from(f"<{rows}Q", data, sums))
            sums += 8 * rows
        self.config = data[sums : sums + config_len]
        want(len(data) == sums + config_len + 32, "group record has a wrong length")

    def prefix(self, shard=None):
        """Of the `.par` of this shard, or of the `.grp`."""
        number = 0xFFFFFFFF if shard is None else shard
        head = b"CAPAR001" + struct.pack("<II", 1, number) + self.id
        head += struct.pack("<QQ", len(self.bytes), self.stripe_len) + check8(self.bytes[: self.front_len])
        return head + check8(head)

    def frame(self, shard):
        """The bytes before and after a shard."""
        front = self.prefix(shard) + self.bytes
        return front + bytes(-len(front) % ROW), self.bytes + self.prefix(shard)


def size_class(length):
    return sum(length > limit for limit in (262_144, 2_097_152, 8_388_608))


def find_record(data, repo_id, group_id):
    """The record in a `.grp` or `.par`, from an intact copy."""
    for prefix_at, record_at in ((0, lambda n: 64), (len(data) - 64, lambda n: len(data) - 64 - n)):
        prefix = data[prefix_at : prefix_at + 64]
        if len(prefix) == 64 and prefix[:8] == b"CAPAR001" and prefix[56:] == check8(prefix[:56]):
            length = le(prefix[32:40])
            try:
                record = Record(data[record_at(length) : record_at(length) + length], repo_id)
            except (Problem, struct.error, ValueError, IndexError):
                continue
            if record.id == group_id == prefix[16:32]:
                return record
    return None


class Groups:
    """All groups of a repository, the live ones by their id."""

    def __init__(self, repo):
        self.repo, self.files, self.records = repo, {}, {}
        for name in repo.names("packs/parity", HEX16 + r"\.(grp|(0|[1-9][0-9]?)\.par)"):
            self.files.setdefault(bytes.fromhex(name[:32]), []).append(name)
        for id, names in self.files.items():
            found = (find_record(repo.read(f"packs/parity/{name}"), repo.id, id) for name in sorted(names, reverse=True))
            record = next(filter(None, found), None)
            if record:
                self.records[id] = record
        sound = {id: self.sound(record) for id, record in self.records.items()}
        whole = [id for id, record in self.records.items() if sound[id].issuperset(range(record.parity))]
        self.superseded = {old for id in whole for old in self.records[id].superseded} & self.files.keys()
        complete = {id for id in self.records if id in whole or None in sound[id]}
        self.live = {id: r for id, r in self.records.items() if id in complete and id not in self.superseded}

    def name(self, record, shard):
        return f"packs/parity/{record.id.hex()}.{'grp' if shard is None else f'{shard}.par'}"

    def sound(self, record):
        """Shards (None: the `.grp`) that exist with the right length and prefix."""
        found = set()
        for shard in (None, *range(record.parity)):
            try:
                data = self.repo.read(self.name(record, shard))
            except OSError:
                continue
            length = 64 + len(record.bytes)
            if shard is not None:
                length = sum(map(len, record.frame(shard))) + record.stripe_len
            if len(data) == length and data[:64] == record.prefix(shard):
                found.add(shard)
        return found

    def column(self, name, offset, length, sums):
        """Rows of a member or shard, padded to 4096 bytes; None for each whose sum does not match."""
        try:
            with open(os.path.join(self.repo.path, name), "rb") as f:
                f.seek(offset)
                data = f.read(length)
        except OSError:
            data = b""
        rows = (data[i * ROW : min((i + 1) * ROW, length)] for i in range(len(sums)))
        lengths = (min(ROW, length - i * ROW) for i in range(len(sums)))
        good = (row if len(row) == n and row_sum(row) == s else None for row, n, s in zip(rows, lengths, sums, strict=True))
        return [None if row is None else row.ljust(ROW, b"\0") for row in good]

    def member(self, member):
        return self.column(f"packs/data/{member.pack.hex()}.pack", 0, member.length, member.sums)

    def shard(self, record, shard):
        offset = len(record.frame(shard)[0])
        return self.column(self.name(record, shard), offset, record.stripe_len, record.shard_sums[shard])

    def rebuild(self, pack_id):
        """A pack whose file is damaged or missing, verified by its id; None when no group has enough left."""
        for record in self.live.values():
            if any(member.pack == pack_id for member in record.members):
                data = self.rebuild_from(record, pack_id)
                if data is not None and sha256(data) == pack_id:
                    return data
        return None

    def rebuild_from(self, record, pack_id):
        members = [(member, self.member(member)) for member in record.members]
        shards = [self.shard(record, shard) for shard in range(record.parity)]
        wanted, out = next(pair for pair in members if pair[0].pack == pack_id)
        for row in range(wanted.rows):
            if out[row] is not None:
                continue
            here = [(member, rows[row]) for member, rows in members if row < member.rows]
            slots = [member.slot for member, data in here if data is None]
            left = []
            for number, shard in enumerate(shards):
                if shard[row] is None:
                    continue
                rest = shard[row]
                for member, data in here:
                    if data is not None:
                        rest = xor(rest, scaled(factor(number, member.slot), data))
                left.append((number, rest))
            solved = solve(slots, left)
            if solved is None:
                return None
            out[row] = solved[slots.index(wanted.slot)]
        return b"".join(out)[: wanted.length]


# --- check ------------------------------------------------------------------------------------------------------------


def check_groups(check):
    """Checks every byte of every file of every live group, and that each pack that a segment names is in one."""
    repo, groups = check.repo, check.repo.groups
    for record in groups.live.values():
        with check.of(f"parity group {record.id.hex()}"):
            shape = repo.config["parity"]
            want(shape and (record.data, record.parity) == (shape["data"], shape["parity"]), "another shape than the config")
            want(record.config == repo.config_bytes, "its copy of config.json differs")
            check_record(check, groups, record)
    for id, names in groups.files.items():
        if id in groups.superseded:
            check.notes.append(f"parity group {id.hex()} is superseded and still exists")
        elif id not in groups.live:
            check.problems.append(f"parity group {id.hex()} protects nothing ({', '.join(names)})")
    if repo.config["parity"] is None:
        return
    members = {member.pack for record in groups.live.values() for member in record.members}
    gone = set().union(*(segment.superseded for segment in check.segments.values()))
    named = set().union(*(segment.packs for segment in check.segments.values() if segment.id not in gone))
    for pack_id in named - members - check.condemned:
        check.problems.append(f"pack {pack_id.hex()} is in no parity group")


def check_record(check, groups, record):
    repo = check.repo
    want(repo.read(groups.name(record, None)) == record.prefix() + record.bytes, "its .grp differs")
    members = [(member, groups.member(member)) for member in record.members]
    for member, rows in members:
        want(None not in rows, f"row sums of pack {member.pack.hex()}")
    for shard in range(record.parity):
        with check.of(f"parity group {record.id.hex()}, shard {shard}"):
            data = repo.read(groups.name(record, shard))
            front, back = record.frame(shard)
            want(data.startswith(front) and data.endswith(back), "what surrounds the shard differs")
            want(len(data) == len(front) + record.stripe_len + len(back), "a wrong length")
            rows = groups.shard(record, shard)
            want(None not in rows, "row sums")
            for row, found in enumerate(rows):
                total = bytes(ROW)
                for member, member_rows in members:
                    if row < member.rows:
                        total = xor(total, scaled(factor(shard, member.slot), member_rows[row]))
                want(total == found, f"row {row} is not the sum of the members")
            check.counts["shards"] += 1
    check.counts["parity groups"] += 1
