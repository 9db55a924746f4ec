// Edge inputs: sizes around every chunk bound, repeated data, very many items, strange names, tiny
// and huge chunks.

import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import {
  ENCRYPTED, KIB, KINDS, MIB, PLAIN, assertSameBytes, freshRepo, pieces, random, rejectsWith, reopen, restored, settle,
  sha256, test,
} from './support/harness.mjs';

/** The default chunk sizes. */
const BOUNDS = [64 * KIB, 256 * KIB, MIB];
const SIZES = [0, 1, 2, ...BOUNDS.flatMap((bound) => [bound - 1, bound, bound + 1]), 2 * MIB + 1];

for (const kind of KINDS) {
  test(`${kind.name}: sizes at and next to every chunk bound are restored`, async (t) => {
    const { repo, path } = await freshRepo(t, kind);
    const cases = SIZES.flatMap((size) => [
      { name: `random ${size}`, bytes: random(size, size) },
      { name: `zeros ${size}`, bytes: Buffer.alloc(size) },
    ]);
    const snapshot = await repo.ingestMulti(
      cases.map(({ name, bytes }) => ({ name, type: 'edge', stream: Readable.from(pieces(bytes, 100_000)) })),
    );
    const alone = [];
    for (const { bytes } of cases) alone.push(await repo.ingest(bytes));
    const other = await reopen(t, path, kind);
    for (const [i, { name, bytes }] of cases.entries()) {
      assert.equal(snapshot.items[i].size, bytes.length);
      assert.equal(snapshot.items[i].chunkCount > 0, bytes.length > 0);
      assertSameBytes(await restored(other, snapshot.id, { item: name }), bytes, name);
      assert.equal(alone[i].originalSize, bytes.length);
      assertSameBytes(await restored(other, alone[i].id), bytes, `${name}, alone`);
    }
  });
}

for (const kind of [PLAIN, ENCRYPTED]) {
  test(`${kind.name}: zeros are stored once`, async (t) => {
    const { repo } = await freshRepo(t, kind);
    const snapshot = await repo.ingest(Buffer.alloc(64 * MIB));
    assert.ok(snapshot.newChunks <= 2, `${snapshot.newChunks} new chunks`);
    assert.ok(snapshot.reusedChunks >= 62, `${snapshot.reusedChunks} reused chunks`);
    assertSameBytes(await restored(repo, snapshot.id), Buffer.alloc(64 * MIB));
  });

  test(`${kind.name}: a snapshot can have 10,000 items`, async (t) => {
    const { repo, path } = await freshRepo(t, kind);
    const count = 10_000;
    const bytesOf = (i) => Buffer.from(`content of item ${i % 7000}`);
    const items = Array.from({ length: count }, (_, i) => ({
      name: `item/${i}`, type: 'small', stream: i % 2 ? bytesOf(i) : Readable.from([bytesOf(i)]),
    }));
    const snapshot = await repo.ingestMulti(items);
    assert.equal(snapshot.items.length, count);
    assert.equal(snapshot.newChunks, 7000);
    const other = await reopen(t, path, kind);
    const again = await other.getSnapshot(snapshot.id);
    assert.deepEqual(again, snapshot);
    for (const i of [0, 1, 4999, 6999, 7000, count - 1]) {
      assertSameBytes(await restored(other, snapshot.id, { item: `item/${i}` }), bytesOf(i), `item ${i}`);
    }
    const whole = Buffer.concat(items.map((_, i) => bytesOf(i)));
    assertSameBytes(await restored(other, snapshot.id), whole, 'all items');
  });
}

const NAMES = [
  '/', '/etc/passwd', '../../../etc/passwd', '..', '.', 'a/b/../c', 'C:\\Windows', 'con', 'a\0b', '\0', '\n\r\t\x1b[31m', ' ',
  '"quoted" \\ and {json: 1}', '</script>', '__proto__', 'constructor', 'toJSON', '%s%n', 'ä', 'a\u0308', 'データ', '👩‍👩‍👧',
  '\u202egnp.exe', '\ufeff', '\uffff', 'x'.repeat(4096), '👍'.repeat(1024),
];

for (const kind of [PLAIN, ENCRYPTED]) {
  test(`${kind.name}: names, types and tags are data, whatever characters they contain`, async (t) => {
    const { repo, path } = await freshRepo(t, kind);
    const tags = Object.fromEntries(NAMES.map((name, i) => [name, NAMES[NAMES.length - 1 - i]]));
    const snapshot = await repo.ingestMulti(
      NAMES.map((name) => ({ name, type: name, stream: [Buffer.from(`bytes of ${name}`)] })),
      { tags },
    );
    const other = await reopen(t, path, kind);
    const listed = (await other.listSnapshots({ tags }))[0];
    assert.deepEqual(listed, snapshot);
    assert.deepEqual(Object.entries(listed.tags).sort(), Object.entries(tags).sort());
    assert.deepEqual(listed.items.map(({ name, type }) => [name, type]), NAMES.map((name) => [name, name]));
    for (const name of NAMES) {
      assert.equal((await restored(other, snapshot.id, { item: name })).toString(), `bytes of ${name}`);
    }
  });
}

test('names that cannot be stored, and names used twice, are refused', async (t) => {
  const { repo } = await freshRepo(t);
  const item = (name, type) => ({ name, type, stream: [Buffer.from('x')] });
  const refused = ['', '\ud800', 'a\udc00b', 'x'.repeat(4097), '👍'.repeat(1025), 7, null, undefined, {}, ['a']];
  for (const bad of refused) {
    await rejectsWith(repo.ingestMulti([item('good', 'x'), item(bad, 'x')]), 'ERR_INVALID_ARGUMENT');
    // without a type, it is the default one
    if (bad !== undefined) await rejectsWith(repo.ingestMulti([item('good', bad)]), 'ERR_INVALID_ARGUMENT');
    await rejectsWith(repo.ingest([Buffer.from('x')], { items: [{ name: bad, type: 'x' }] }), 'ERR_INVALID_ARGUMENT');
    if (bad !== '') await rejectsWith(repo.ingest([Buffer.from('x')], { tags: { key: bad } }), 'ERR_INVALID_ARGUMENT');
    if (typeof bad === 'string') await rejectsWith(repo.ingest([Buffer.from('x')], { tags: { [bad]: 'x' } }), 'ERR_INVALID_ARGUMENT');
  }
  const error = await rejectsWith(repo.ingestMulti(['same', 'other', 'same'].map((name) => item(name, 'x'))), 'ERR_INVALID_ARGUMENT');
  assert.match(error.message, /same/);
  assert.deepEqual(await repo.listSnapshots(), []);
});

test('a stream of one-byte chunks is restored', async (t) => {
  const { repo } = await freshRepo(t);
  const bytes = random(500_000, 20);
  for (const [what, source] of [
    ['generator', pieces(bytes, 1)],
    ['Readable', Readable.from(pieces(bytes, 1))],
    ['byte-mode Readable', Readable.from(pieces(bytes, 1), { objectMode: false })],
    ['strings', (async function* () { for (let i = 0; i < 200_000; i++) yield 'ä'; })()],
  ]) {
    const start = performance.now();
    const snapshot = await repo.ingest(source);
    const seconds = (performance.now() - start) / 1000;
    t.diagnostic(`${what}: ${Math.round(snapshot.originalSize / seconds / 1000)} thousand chunks a second`);
    const expected = what === 'strings' ? Buffer.from('ä'.repeat(200_000)) : bytes;
    assertSameBytes(await restored(repo, snapshot.id), expected, what);
  }
});

for (const kind of [PLAIN, ENCRYPTED]) {
  test(`${kind.name}: a stream of 64 MiB chunks keeps memory flat and the event loop responsive`, async (t) => {
    const { repo } = await freshRepo(t, kind, { compression: 'none' });
    const big = [random(64 * MIB, 21), random(64 * MIB, 22)];
    let turns = 0;
    const timer = setInterval(() => turns++, 5);
    const snapshot = await repo.ingest(Readable.from(big));
    clearInterval(timer);
    assert.equal(snapshot.originalSize, 128 * MIB);
    assert.ok(turns > 5, `the event loop turned ${turns} times`);
    const hash = sha256(Buffer.concat(big));
    assert.equal(sha256(await restored(repo, snapshot.id)), hash);
  });
}

test('the chunks of a stream make no difference', async (t) => {
  const { repo } = await freshRepo(t);
  const bytes = random(5 * MIB, 23);
  const first = await repo.ingest(bytes);
  for (const size of [777, 64 * KIB, MIB, MIB + 1, 3 * MIB]) {
    const again = await repo.ingest(Readable.from(pieces(bytes, size)));
    assert.equal(again.newChunks, 0, `pieces of ${size} bytes`);
    assert.equal(again.chunkCount, first.chunkCount);
  }
  const sparse = async function* () {
    for (const piece of pieces(bytes, 512 * KIB)) {
      yield Buffer.alloc(0);
      await settle();
      yield piece;
      yield '';
    }
  };
  assert.equal((await repo.ingest(sparse())).newChunks, 0);
});
