// Reads which versions of which libraries an ELF file needs, from its table of needed versions
// (DT_VERNEED, the section .gnu.version_r): the table that the loader checks. No program of
// binutils is needed. Only 64-bit little-endian files, as all of the Linux builds are.

import { readFileSync } from 'node:fs';
import { basename } from 'node:path';

const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const DT_STRTAB = 5n;
const DT_VERNEED = 0x6ffffffen;
const DT_VERNEEDNUM = 0x6fffffffn;

const isElf = (bytes) => bytes.length >= 64 && bytes.readUInt32BE(0) === 0x7f454c46;

/** The program headers: [{ type, offset, address, size }]. */
function segments(bytes) {
  const start = Number(bytes.readBigUInt64LE(32));
  const [size, count] = [bytes.readUInt16LE(54), bytes.readUInt16LE(56)];
  return Array.from({ length: count }, (_, i) => {
    const at = start + i * size;
    const number = (offset) => Number(bytes.readBigUInt64LE(at + offset));
    return { type: bytes.readUInt32LE(at), offset: number(8), address: number(16), size: number(32) };
  });
}

/** The tags of the dynamic segment: a Map; empty for a static program. */
function dynamicTags(bytes, headers) {
  const tags = new Map();
  const dynamic = headers.find(({ type }) => type === PT_DYNAMIC);
  for (let at = dynamic?.offset; dynamic && at < dynamic.offset + dynamic.size; at += 16) {
    const tag = bytes.readBigUInt64LE(at);
    if (tag === 0n) break;
    tags.set(tag, Number(bytes.readBigUInt64LE(at + 8)));
  }
  return tags;
}

/**
 * The needed versions: [{ library: 'libc.so.6', versions: ['GLIBC_2.2.5', …] }], in the order of
 * the file. Empty when it needs none, as files for musl do. Throws when this is no ELF file, or a
 * damaged one.
 */
export function neededVersions(bytes) {
  if (!isElf(bytes)) throw new Error('not an ELF file');
  if (bytes[4] !== 2 || bytes[5] !== 1) throw new Error('not a 64-bit little-endian ELF file');
  const headers = segments(bytes);
  const tags = dynamicTags(bytes, headers);
  if (!tags.has(DT_VERNEED)) return [];

  const offsetOf = (address) => {
    const load = headers.find((one) => one.type === PT_LOAD && address >= one.address && address < one.address + one.size);
    if (!load) throw new Error(`no segment of the file has the address ${address}`);
    return address - load.address + load.offset;
  };
  const strings = offsetOf(tags.get(DT_STRTAB));
  const text = (offset) => {
    const start = strings + offset;
    const end = bytes.indexOf(0, start);
    if (end < 0) throw new Error('a name has no end');
    return bytes.toString('latin1', start, end);
  };

  const needed = [];
  let at = offsetOf(tags.get(DT_VERNEED));
  for (let i = 0; i < tags.get(DT_VERNEEDNUM); i++) {
    const versions = [];
    let entry = at + bytes.readUInt32LE(at + 8);
    for (let left = bytes.readUInt16LE(at + 2); left > 0; left--) {
      versions.push(text(bytes.readUInt32LE(entry + 8)));
      entry += bytes.readUInt32LE(entry + 12);
    }
    needed.push({ library: text(bytes.readUInt32LE(at + 4)), versions });
    at += bytes.readUInt32LE(at + 12);
  }
  return needed;
}

/** Compares versions such as "2.2.5" and "2.17" by their numbers. */
export function compareVersions(a, b) {
  const [left, right] = [a, b].map((version) => version.split('.').map(Number));
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const order = (left[i] ?? 0) - (right[i] ?? 0);
    if (order !== 0) return order;
  }
  return 0;
}

/**
 * The newest glibc that any symbol of the file asks for, such as "2.34"; null when none does.
 * Names without a number (GLIBC_PRIVATE) are not versions.
 */
export function highestGlibc(bytes) {
  const versions = neededVersions(bytes)
    .flatMap((needed) => needed.versions)
    .map((name) => /^GLIBC_(\d+(?:\.\d+)*)$/.exec(name)?.[1])
    .filter((version) => version !== undefined);
  return versions.sort(compareVersions).at(-1) ?? null;
}

/** Throws unless the file asks for this glibc or an older one; returns what it asks for. */
export function assertGlibc(file, limit) {
  const highest = highestGlibc(readFileSync(file));
  if (highest === null) throw new Error(`${basename(file)} asks for no version of glibc`);
  if (compareVersions(highest, limit) > 0) {
    throw new Error(`${basename(file)} asks for GLIBC_${highest}, and may ask for GLIBC_${limit} at most`);
  }
  return highest;
}
