// The volume of the peer benchmark: a tar of made-up files, in two versions, the same on every
// machine.
//
// Of its bytes 35 % are source text, 15 % logs, 30 % machine code with tables and strings, and 20 %
// random, as compressed files are. The second version is the volume after an upgrade in place and a
// day of use:
//
//   logs           grow by 3 % at the end; one in four has lines inserted at the front
//   other files    70 % are the same, also their time; 18 % are edited, 6 % removed, 6 % new
//   an edit        changes lines of text at up to eight positions; inserts a function into a binary
//                  three times and patches addresses after it; replaces a compressed file
//
// All numbers are integers from xorshift32: nothing depends on a clock, a locale or a library.

import { generator } from '../blocks.mjs';

const KIB = 1 << 10;
const MIB = 1 << 20;
const BLOCK = 512;
const FIRST_TIME = 1_700_000_000;
const SECOND_TIME = 1_702_592_000;

/** Each kind of file: its directory, its share of the bytes in percent, its sizes, its maker. */
const KINDS = [
  { folder: 'usr/lib', ending: 'so', share: 30, smallest: 16 * KIB, octaves: 8, make: binary, edit: rebuild },
  { folder: 'usr/src', ending: 'c', share: 35, smallest: KIB, octaves: 7, make: source, edit: editLines },
  { folder: 'var/log/app', ending: 'log', share: 15, smallest: 128 * KIB, octaves: 6, make: log, edit: grow },
  { folder: 'var/media', ending: 'jpg', share: 20, smallest: 32 * KIB, octaves: 6, make: random, edit: replace },
];

/** The tar of a volume of about `mib` MiB, in pieces; `version` is 1 or 2. */
export function* volume(mib, version) {
  let bytes = 0;
  for (const file of KINDS.flatMap((kind, at) => filesOf(kind, at, mib))) {
    if (file.only !== undefined && file.only !== version) continue;
    const edited = version === 2 && file.isEdited;
    const plain = file.kind.make(seeded(file.seed), file.size);
    const content = edited ? file.kind.edit(plain, seeded(file.seed ^ 0x5bd1e995), file) : plain;
    const padding = Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK);
    const time = edited || file.only === 2 ? SECOND_TIME : FIRST_TIME - (file.seed >>> 8);
    for (const piece of [header(file.path, content.length, time), content, padding]) {
      bytes += piece.length;
      yield piece;
    }
  }
  const record = 20 * BLOCK;
  const end = 2 * BLOCK;
  yield Buffer.alloc(end + ((record - ((bytes + end) % record)) % record));
}

/** The files of one kind, in the order of their paths. */
function filesOf(kind, at, mib) {
  const next = seeded(at + 1);
  const files = [];
  for (let left = Math.floor((mib * MIB * kind.share) / 100); left > 0; left -= files.at(-1).size) {
    const octave = kind.smallest << next() % kind.octaves;
    let [seed, size] = [next(), Math.min(octave + (next() % octave), left)];
    const original = files[next() % (files.length || 1)];
    if (next() % 100 < 4 && original?.size <= left) ({ seed, size } = original); // a copy in another directory
    const fate = next() % 100;
    const isLog = kind.make === log;
    files.push({
      kind, seed, size,
      path: `${kind.folder}/${digits(files.length >> 6, 4)}/${digits(files.length, 6)}.${kind.ending}`,
      only: isLog || fate < 88 ? undefined : fate < 94 ? 1 : 2,
      isEdited: isLog || (fate >= 70 && fate < 88),
      isRotated: files.length % 4 === 3,
    });
  }
  return files;
}

const digits = (number, count) => String(number).padStart(count, '0');

/** Numbers from any seed: neighbouring seeds start apart. */
function seeded(seed) {
  const next = generator(Math.imul(seed ^ (seed >>> 15), 2654435761) | 1);
  for (let skipped = 0; skipped < 4; skipped++) next();
  return next;
}

/** A number below `count`, small ones more often: how words and instructions are spread. */
const skewed = (next, count) => Math.floor(((next() % count) * (next() % count)) / count);

const WORDS = (() => {
  const next = seeded(99);
  const parts = 'ab ac be co de er fi go ha in is key len list map node of on page ptr re set size to un'.split(' ');
  const word = () => Array.from({ length: 2 + (next() % 3) }, () => parts[next() % parts.length]).join('');
  return Array.from({ length: 3000 }, word);
})();
const SIGNS = [' = ', ', ', '->', '(', ') ', ' + ', ' == ', '.', ' '];

function codeLine(next) {
  let line = '  '.repeat(next() % 5);
  for (let left = 2 + (next() % 7); left > 0; left--) {
    line += WORDS[skewed(next, WORDS.length)] + SIGNS[skewed(next, SIGNS.length)];
  }
  return `${line};\n`;
}

function logLine(next) {
  const level = ['info', 'info', 'info', 'warn', 'error'][next() % 5];
  const second = String(next() % 60).padStart(2, '0');
  const request = next().toString(16).padStart(8, '0');
  const path = `/api/v1/${WORDS[skewed(next, 200)]}/${next() % 1_000_000}`;
  const status = [200, 200, 200, 304, 404, 500][next() % 6];
  const took = skewed(next, 2000);
  return `2026-01-02T03:04:${second}Z level=${level} req=${request} path=${path} status=${status} ms=${took}\n`;
}

/** `size` bytes of lines. */
function text(line, next, size) {
  const lines = [];
  for (let length = 0; length < size; length += lines.at(-1).length) lines.push(line(next));
  return Buffer.from(lines.join('')).subarray(0, size);
}

function source(next, size) {
  return text(codeLine, next, size);
}

function log(next, size) {
  return text(logLine, next, size);
}

function random(next, size) {
  const words = new Uint32Array(Math.ceil(size / 4));
  for (let at = 0; at < words.length; at++) words[at] = next();
  return Buffer.from(words.buffer, 0, size);
}

/** Instructions that programs share: most are short, some carry an address of their own. */
const INSTRUCTIONS = (() => {
  const next = seeded(7);
  return Array.from({ length: 4096 }, () => Array.from({ length: 2 + (next() % 5) }, () => next() & 255));
})();

/** Code, then a table of growing offsets, then names that end with a zero byte. */
function binary(next, size) {
  const bytes = Buffer.alloc(size);
  const [table, names] = [Math.floor(size * 0.7), Math.floor(size * 0.8)];
  let at = 0;
  while (at < table) {
    for (const byte of INSTRUCTIONS[skewed(next, INSTRUCTIONS.length)]) bytes[at++] = byte;
    if (next() % 6 === 0 && at + 4 <= table) at = bytes.writeUInt32LE(next() & 0xfffff, at);
  }
  for (let offset = next() & 0xffff; at + 4 <= names; offset += 16 + (next() % 64)) {
    at = bytes.writeUInt32LE(offset, at);
  }
  while (at < size) at += bytes.write(`${WORDS[skewed(next, WORDS.length)]}\0`, at, 'latin1');
  return bytes;
}

function editLines(content, next) {
  const lines = content.toString('latin1').split('\n');
  for (let left = 1 + (next() % 8); left > 0; left--) {
    const added = text(codeLine, next, 40 + (next() % 400)).toString('latin1').split('\n');
    lines.splice(next() % lines.length, next() % 3, ...added);
  }
  return Buffer.from(lines.join('\n'), 'latin1');
}

function grow(content, next, { isRotated }) {
  const more = text(logLine, next, Math.floor(content.length * 0.03));
  return Buffer.concat(isRotated ? [text(logLine, next, 4000), content, more] : [content, more]);
}

function rebuild(content, next) {
  const cuts = Array.from({ length: 3 }, () => next() % content.length).sort((a, b) => a - b);
  const pieces = [];
  let from = 0;
  for (const cut of cuts) {
    pieces.push(content.subarray(from, cut), binary(next, 200 + (next() % 800)));
    from = cut;
  }
  const bytes = Buffer.concat([...pieces, content.subarray(from)]);
  for (let at = cuts[0]; at + 4 <= bytes.length; at += 1024 + (next() % 2048)) {
    bytes.writeUInt32LE(next() & 0xfffff, at);
  }
  return bytes;
}

function replace(content, next) {
  return random(next, content.length);
}

/** The header of a regular file in the format ustar (POSIX.1-1988), owned by root. */
function header(path, size, time) {
  const bytes = Buffer.alloc(BLOCK);
  const octal = (value, digits) => `${value.toString(8).padStart(digits, '0')}\0`;
  bytes.write(path, 0, 100, 'latin1');
  bytes.write(octal(0o644, 7) + octal(0, 7) + octal(0, 7) + octal(size, 11) + octal(time, 11), 100, 'latin1');
  bytes.write('        0', 148, 'latin1'); // the checksum counts as spaces; '0' is a regular file
  bytes.write('ustar\x0000', 257, 'latin1');
  bytes.write(`${octal(bytes.reduce((sum, byte) => sum + byte, 0), 6)} `, 148, 'latin1');
  return bytes;
}
