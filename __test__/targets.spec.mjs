// Builds for other systems: the reader of needed library versions (scripts/elf.mjs), by which they
// are checked, and the oldest macOS, which is stated once.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { assertGlibc, compareVersions, highestGlibc, neededVersions } from '../scripts/elf.mjs';
import { VARIABLES } from '../scripts/rustflags.mjs';
import { filesIn, root, temporary, test } from './support/harness.mjs';

const LINUX_ONLY = { skip: process.platform !== 'linux' && 'only the addon and the Node of Linux are ELF files' };

/** The addon under test, and the Node that runs it. */
const FILES = [process.env.NAPI_RS_NATIVE_LIBRARY_PATH, process.execPath].filter(Boolean);

/** An ELF file with one segment, a dynamic table, and these needed versions. */
function elfWith(needed) {
  const names = ['', ...needed.flatMap(({ library, versions }) => [library, ...versions])];
  const strings = Buffer.from(`${names.join('\0')}\0`, 'latin1');
  const nameAt = (name) => strings.indexOf(`\0${name}\0`) + 1;
  const [headersAt, dynamicAt, stringsAt, base] = [64, 176, 240, 0x10000];
  const needAt = stringsAt + strings.length;
  const records = needed.flatMap(({ library, versions }, i) => {
    const head = Buffer.alloc(16);
    head.writeUInt16LE(1, 0);
    head.writeUInt16LE(versions.length, 2);
    head.writeUInt32LE(nameAt(library), 4);
    head.writeUInt32LE(16, 8);
    head.writeUInt32LE(i === needed.length - 1 ? 0 : 16 * (versions.length + 1), 12);
    return [head, ...versions.map((version, at) => {
      const entry = Buffer.alloc(16);
      entry.writeUInt32LE(nameAt(version), 8);
      entry.writeUInt32LE(at === versions.length - 1 ? 0 : 16, 12);
      return entry;
    })];
  });
  const file = Buffer.concat([Buffer.alloc(stringsAt), strings, ...records]);
  const numbers = (at, values) => values.forEach((value, i) => file.writeBigUInt64LE(BigInt(value), at + 8 * i));
  file.write('\x7fELF\x02\x01\x01', 'latin1');
  numbers(32, [headersAt]);
  file.writeUInt16LE(56, 54);
  file.writeUInt16LE(2, 56);
  file.writeUInt32LE(1, headersAt);
  numbers(headersAt + 8, [0, base, base, file.length, file.length]);
  file.writeUInt32LE(2, headersAt + 56);
  numbers(headersAt + 64, [dynamicAt, base + dynamicAt, base + dynamicAt, 64, 64]);
  numbers(dynamicAt, [5, base + stringsAt, 0x6ffffffe, base + needAt, 0x6fffffff, needed.length, 0, 0]);
  return file;
}

test('the needed versions of a file are read, and the newest glibc is found by number', (t) => {
  const needed = [
    { library: 'libm.so.6', versions: ['GLIBC_2.29'] },
    { library: 'libc.so.6', versions: ['GLIBC_2.2.5', 'GLIBC_2.17', 'GLIBC_PRIVATE', 'GLIBC_2.4'] },
    { library: 'libgcc_s.so.1', versions: ['GCC_4.2.0'] },
  ];
  const bytes = elfWith(needed);
  assert.deepEqual(neededVersions(bytes), needed);
  assert.equal(highestGlibc(bytes), '2.29');
  assert.equal(highestGlibc(elfWith(needed.slice(1))), '2.17');
  assert.equal(highestGlibc(elfWith(needed.slice(2))), null);
  assert.ok(compareVersions('2.2.5', '2.17') < 0 && compareVersions('2.17', '2.17.0') === 0);

  const file = join(temporary(t), 'containerarchive.linux-x64-gnu.node');
  writeFileSync(file, bytes);
  assert.equal(assertGlibc(file, '2.29'), '2.29');
  assert.throws(() => assertGlibc(file, '2.17'), /containerarchive\.linux-x64-gnu\.node asks for GLIBC_2\.29.*GLIBC_2\.17 at most/);
  writeFileSync(file, elfWith(needed.slice(2)));
  assert.throws(() => assertGlibc(file, '2.17'), /no version of glibc/);
});

test('a file that is no ELF file, or a damaged one, is refused', () => {
  assert.throws(() => neededVersions(Buffer.from('MZ')), /not an ELF file/);
  assert.throws(() => neededVersions(Buffer.alloc(4096)), /not an ELF file/);
  const bytes = elfWith([{ library: 'libc.so.6', versions: ['GLIBC_2.17'] }]);
  const narrow = Buffer.from(bytes);
  narrow[4] = 1;
  assert.throws(() => neededVersions(narrow), /64-bit/);
  for (const length of [100, 200, 250, bytes.length - 1]) {
    assert.throws(() => neededVersions(bytes.subarray(0, length)), `${length} bytes`);
  }
});

test('the needed versions of the addon and of Node are those that readelf lists', LINUX_ONLY, (t) => {
  for (const file of FILES) {
    const listed = spawnSync('readelf', ['-V', '--wide', file], { encoding: 'utf8', maxBuffer: 1 << 28 });
    if (listed.error) return t.skip('no readelf');
    const expected = [];
    for (const line of listed.stdout.slice(listed.stdout.indexOf('.gnu.version_r')).split('\n')) {
      const library = /\bFile: (\S+)/.exec(line)?.[1];
      if (library) expected.push({ library, versions: [] });
      const version = /\bName: (\S+)/.exec(line)?.[1];
      if (version) expected.at(-1).versions.push(version);
    }
    assert.deepEqual(neededVersions(readFileSync(file)), expected, file);
  }
});

test('the addon asks for no newer glibc than that which has loaded it', LINUX_ONLY, (t) => {
  const { glibcVersionRuntime } = process.report.getReport().header;
  if (!glibcVersionRuntime) return t.skip('this Node uses another C library');
  for (const file of FILES) assert.ok(compareVersions(assertGlibc(file, glibcVersionRuntime), '2.2') > 0, file);
});

test('every build is for the same oldest macOS', () => {
  for (const file of ['rustflags.mjs', 'targets.mjs']) assert.match(readFileSync(join(root, 'scripts', file), 'utf8'), /\{ ?\n? *(\.\.\.env, )?\.\.\.VARIABLES,/);
  const [major] = VARIABLES.MACOSX_DEPLOYMENT_TARGET.split('.');
  assert.match(readFileSync(join(root, 'docs/platforms.md'), 'utf8'), new RegExp(`built for macOS ${major}\\b`));
  const files = [...filesIn(join(root, 'scripts')).map((name) => join('scripts', name)), '.github/workflows/release.yml', 'package.json'];
  const stated = files.filter((file) => readFileSync(join(root, file), 'utf8').includes('MACOSX_DEPLOYMENT_TARGET'));
  assert.deepEqual(stated, [join('scripts', 'rustflags.mjs')]);
});
