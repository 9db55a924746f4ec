// The parts of the peer benchmark that need no other program: its data, and its tables.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { prepare } from '../benches/node/peers/data.mjs';
import { tables } from '../benches/node/peers/table.mjs';
import { MIB, sha256, temporary, test } from './support/harness.mjs';

const BLOCK = 512;
/** The first digits of the SHA-256 of each stream of 1 MiB. */
const HASHES = [
  '430ca28b4c9ed388', '1f09c3b8e4dff1d2', '7bebdba8243b0aea', // days of W1
  '713a9fb282ab7bc8', '86227d350bbbf217', // versions of W2
  'b4a32d5d615803eb',
];

/** The regular files of a tar: path -> { time, hash }. Checks each header's checksum. */
function filesOf(tar) {
  const files = new Map();
  for (let at = 0; tar[at] !== 0; ) {
    const header = Buffer.from(tar.subarray(at, at + BLOCK));
    const number = (from, to) => parseInt(header.toString('latin1', from, to), 8);
    const [size, time, checksum] = [number(124, 135), number(136, 147), number(148, 154)];
    header.fill(' ', 148, 156);
    assert.equal(header.reduce((sum, byte) => sum + byte, 0), checksum);
    const content = tar.subarray(at + BLOCK, at + BLOCK + size);
    files.set(header.toString('latin1', 0, 100).replace(/\0+$/, ''), { time, hash: sha256(content) });
    at += BLOCK + Math.ceil(size / BLOCK) * BLOCK;
  }
  return files;
}

test('the data of the peer benchmark is the same on every machine and made once', async (t) => {
  const folder = temporary(t);
  const made = [];
  const data = await prepare(folder, 1, (text) => made.push(text));
  const hashes = Object.values(data).flat().map((file) => file.sha256.slice(0, 16));
  assert.deepEqual(hashes, HASHES);
  assert.equal(made.length, HASHES.length);
  assert.deepEqual(await prepare(folder, 1, (text) => made.push(text)), data);
  assert.equal(made.length, HASHES.length);
});

test('a file of the volume keeps its time where its bytes are the same', async (t) => {
  const { volume } = await prepare(temporary(t), 2, () => {});
  const [first, second] = volume.map(({ path }) => filesOf(readFileSync(path)));
  const kept = [...first.keys()].filter((path) => second.has(path));
  const changed = kept.filter((path) => first.get(path).hash !== second.get(path).hash);
  assert.deepEqual(kept.filter((path) => first.get(path).time !== second.get(path).time), changed);
  assert.ok(changed.length > 0 && changed.length < kept.length / 2, `${changed.length} of ${kept.length} files changed`);
  assert.ok(kept.length < first.size && kept.length < second.size);
});

test('the tables have medians with their spread, and ratios to the best other program and to bupstash', () => {
  const samples = (...values) => values.map((cpu) => ({ cpu, wall: 2 * cpu, rss: 10 * MIB, size: MIB }));
  const rows = [
    { name: 'containerarchive, Node stream', isOurs: true },
    { name: 'restic 0.19.1', peer: 'restic' },
    { name: 'bupstash 0.12.0', peer: 'bupstash' },
  ];
  const results = {
    sql: {
      'containerarchive, Node stream': { first: samples(1, 3, 2), check: samples(1, 1, 1) },
      'restic 0.19.1': { first: samples(1, 1, 1), check: samples(4, 2) },
      'bupstash 0.12.0': { first: samples(8, 8, 8) },
    },
  };
  const lines = tables({ sql: { title: 'W1, dumps', steps: ['first', 'check'] } }, rows, results).split('\n');
  assert.ok(lines.includes('| containerarchive, Node stream | 2.00 (1.00–3.00) | 1.00 (1.00–1.00) |'));
  assert.ok(lines.includes('| bupstash 0.12.0 | 8.00 (8.00–8.00) |  |'));
  assert.ok(lines.includes('| W1 | first | Node stream | 2.00 (restic) | 0.25 | 2.00 (restic) | 0.25 |'));
  assert.ok(lines.includes('| W1 | check | Node stream | 0.33 (restic) |  | 0.33 (restic) |  |'));
});
