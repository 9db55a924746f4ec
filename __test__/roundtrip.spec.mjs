// Round trips: ingest, ingestMulti, restore, listSnapshots and getSnapshot on every kind of
// repository.

import assert from 'node:assert/strict';
import { createWriteStream, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import {
  ContainerArchive, ENCRYPTED, KIB, KINDS, MIB, PLAIN, afterwards, assertSameBytes, collect, compressible, freshRepo, pieces, random,
  rejectsWith, reopen, restored, sha256, temporary, test,
} from './support/harness.mjs';

for (const kind of KINDS) {
  test(`${kind.name}: several items are restored one by one, together and after reopening`, async (t) => {
    const { repo, path } = await freshRepo(t, kind);
    const data = [random(3 * MIB, 1), compressible(5 * MIB, 2), Buffer.alloc(0), Buffer.from('short')];
    const items = data.map((bytes, i) => ({ name: `item ${i}`, type: `type ${i}`, stream: Readable.from(pieces(bytes, 64 * KIB)) }));
    const snapshot = await repo.ingestMulti(items, { tags: { service: 'db', env: 'test' } });

    assert.match(snapshot.id, /^[0-9a-f]{32}$/);
    assert.equal(snapshot.version, 1);
    assert.equal(new Date(snapshot.createdAt).toISOString(), snapshot.createdAt);
    assert.deepEqual(snapshot.tags, { service: 'db', env: 'test' });
    assert.equal(snapshot.originalSize, data.reduce((sum, bytes) => sum + bytes.length, 0));
    assert.equal(snapshot.newChunks + snapshot.reusedChunks, snapshot.chunkCount);
    assert.ok(snapshot.storedSize > 3 * MIB && snapshot.storedSize <= snapshot.originalSize + 28 * snapshot.newChunks);
    assert.deepEqual(
      snapshot.items.map(({ name, type, size }) => ({ name, type, size })),
      data.map((bytes, i) => ({ name: `item ${i}`, type: `type ${i}`, size: bytes.length })),
    );
    assert.equal(snapshot.items.reduce((sum, item) => sum + item.chunkCount, 0), snapshot.chunkCount);

    for (const handle of [repo, await reopen(t, path, kind)]) {
      for (const [i, bytes] of data.entries()) {
        assertSameBytes(await restored(handle, snapshot.id, { item: `item ${i}` }), bytes, `item ${i}`);
      }
      assertSameBytes(await restored(handle, snapshot.id), Buffer.concat(data), 'the whole snapshot');
      assert.deepEqual(await handle.getSnapshot(snapshot.id), snapshot);
      assert.deepEqual(await handle.listSnapshots(), [snapshot]);
    }
  });

  test(`${kind.name}: the same data is reused completely, changed data mostly`, async (t) => {
    const { repo, path } = await freshRepo(t, kind);
    const data = random(12 * MIB, 3);
    const first = await repo.ingest(Readable.from(pieces(data, 64 * KIB)));
    assert.equal(first.reusedChunks, 0);

    const again = await repo.ingest(Readable.from(pieces(data, 17 * KIB)));
    assert.equal(again.newChunks, 0);
    assert.equal(again.storedSize, 0);
    assert.equal(again.reusedChunks, first.chunkCount);

    const changed = Buffer.concat([data.subarray(0, 6 * MIB), Buffer.from('!'), data.subarray(6 * MIB)]);
    const other = await reopen(t, path, kind);
    const third = await other.ingest(Readable.from(pieces(changed, 64 * KIB)));
    assert.ok(third.newChunks > 0 && third.newChunks < first.chunkCount / 4, `${third.newChunks} new chunks`);
    assertSameBytes(await restored(other, third.id), changed);
    assertSameBytes(await restored(other, first.id), data);
  });
}

test('without `items`, the one item has the name data and the type data', async (t) => {
  const { repo } = await freshRepo(t);
  const snapshot = await repo.ingest(Readable.from([Buffer.from('x')]));
  assert.deepEqual(snapshot.items, [{ name: 'data', type: 'data', size: 1, chunkCount: 1 }]);
  assert.deepEqual(snapshot.tags, {});
  const named = await repo.ingest(Readable.from([Buffer.from('x')]), { items: [{ name: 'dump.sql', type: 'pg' }] });
  assert.deepEqual(named.items, [{ name: 'dump.sql', type: 'pg', size: 1, chunkCount: 1 }]);
});

test('a chunk that occurs twice in one snapshot counts as reused', async (t) => {
  const { repo } = await freshRepo(t);
  const bytes = random(50 * KIB, 4);
  const snapshot = await repo.ingestMulti(['a', 'b'].map((name) => ({ name, type: 'x', stream: [bytes] })));
  assert.deepEqual([snapshot.chunkCount, snapshot.newChunks, snapshot.reusedChunks], [2, 1, 1]);
});

for (const kind of [PLAIN, ENCRYPTED]) {
  test(`${kind.name}: ranges of an item and of a whole snapshot are restored`, async (t) => {
    const { repo } = await freshRepo(t, kind);
    const [a, b] = [random(40 * MIB, 5), random(3 * MIB, 6)];
    const { id } = await repo.ingestMulti([
      { name: 'a', type: 'x', stream: Readable.from(pieces(a, MIB)) },
      { name: 'b', type: 'x', stream: Readable.from(pieces(b, MIB)) },
    ]);
    const whole = Buffer.concat([a, b]);
    const middle = 20 * MIB + 12345;
    const end = whole.length;
    for (const [start, stop] of [[0, 0], [0, 1], [0, 64 * KIB], [middle, middle + 1], [middle, middle + 5 * MIB]]) {
      assertSameBytes(await restored(repo, id, { item: 'a', range: { start, end: stop } }), a.subarray(start, stop));
    }
    assertSameBytes(await restored(repo, id, { item: 'a', range: { start: a.length - 1 } }), a.subarray(-1));
    assertSameBytes(await restored(repo, id, { item: 'a', range: { start: a.length } }), Buffer.alloc(0));
    assertSameBytes(await restored(repo, id, { item: 'b', range: { end: 10 } }), b.subarray(0, 10));
    assertSameBytes(await restored(repo, id, { range: { start: a.length - 100, end: a.length + 100 } }),
      whole.subarray(a.length - 100, a.length + 100));
    for (const range of [{ start: end + 1 }, { start: 0, end: end + 1 }, { start: 5, end: 4 }]) {
      await rejectsWith(repo.restore(id, { range }), 'ERR_RANGE');
    }
  });
}

test('snapshots are listed newest first and filtered by tags and time', async (t) => {
  const { repo } = await freshRepo(t);
  const times = ['2024-01-01T00:00:00.000Z', '2024-06-01T12:00:00.000Z', '2025-03-31T23:59:59.999Z'];
  const made = {};
  for (const createdAt of [times[1], times[0], times[2]]) {
    const tags = { year: createdAt.slice(0, 4), kind: 'nightly', empty: '' };
    made[createdAt] = await repo.ingest([Buffer.from(createdAt)], { createdAt, tags });
    assert.equal(made[createdAt].createdAt, createdAt);
  }
  const now = await repo.ingest([Buffer.from('now')]);
  const list = async (filter) => (await repo.listSnapshots(filter)).map((snapshot) => snapshot.createdAt);

  assert.deepEqual(await list(), [now.createdAt, times[2], times[1], times[0]]);
  assert.deepEqual(await list({}), [now.createdAt, times[2], times[1], times[0]]);
  assert.deepEqual(await list({ tags: { year: '2024' } }), [times[1], times[0]]);
  assert.deepEqual(await list({ tags: { year: '2024', kind: 'nightly', empty: '' } }), [times[1], times[0]]);
  assert.deepEqual(await list({ tags: { year: '2024', kind: 'weekly' } }), []);
  assert.deepEqual(await list({ tags: { absent: '' } }), []);
  assert.deepEqual(await list({ after: times[1], before: times[2] }), [times[1]], 'after is inclusive, before exclusive');
  assert.deepEqual(await list({ after: '2024-06-01', before: '2025-01-01' }), [times[1]]);
  assert.deepEqual(await list({ after: '2024-06-01T14:00:00+02:00', tags: { year: '2024' } }), [times[1]]);
  assert.deepEqual(await list({ after: '2030-01-01', before: '2020-01-01' }), []);
  assert.deepEqual(await repo.getSnapshot(made[times[0]].id), made[times[0]]);

  assert.deepEqual(await repo.latest(), now);
  assert.deepEqual(await repo.latest({ tags: { year: '2024' } }), made[times[1]]);
  assert.deepEqual(await repo.latest({ before: times[1] }), made[times[0]]);
  assert.equal(await repo.latest({ tags: { absent: '' } }), null);
  for (const wrong of [null, 1, { tag: {} }, { after: 'x' }]) await rejectsWith(repo.latest(wrong), 'ERR_INVALID_ARGUMENT');
});

test("a snapshot is found by 'latest' and by a prefix of its id", async (t) => {
  const { repo } = await freshRepo(t);
  await rejectsWith(repo.getSnapshot('latest'), 'ERR_SNAPSHOT_NOT_FOUND');
  await repo.ingest([Buffer.from('old')], { createdAt: '2020-01-01' });
  const snapshot = await repo.ingest([Buffer.from('new')]);
  assert.equal((await repo.getSnapshot('latest')).id, snapshot.id);
  assert.equal((await repo.getSnapshot(snapshot.id.slice(0, 12))).id, snapshot.id);
  assert.equal((await restored(repo, 'latest')).toString(), 'new');
  assert.equal((await restored(repo, snapshot.id.slice(0, 12))).toString(), 'new');

  const unknown = (snapshot.id[0] === 'f' ? '0' : 'f').repeat(32);
  for (const call of [(id) => repo.getSnapshot(id), (id) => repo.restore(id)]) {
    const error = await rejectsWith(call(unknown), 'ERR_SNAPSHOT_NOT_FOUND');
    assert.equal(error.snapshotId, unknown);
    for (const id of ['', 7, null, undefined]) await rejectsWith(call(id), 'ERR_INVALID_ARGUMENT');
  }
  const error = await rejectsWith(repo.restore(snapshot.id, { item: 'absent' }), 'ERR_ITEM_NOT_FOUND');
  assert.equal(error.item, 'absent');
});

test('a digest is stored with `digest`', async (t) => {
  const { repo } = await freshRepo(t);
  const bytes = random(2 * MIB, 7);
  const snapshot = await repo.ingest([bytes], { digest: 'sha256' });
  assert.equal(snapshot.items[0].sha256, sha256(bytes));
});

test('an ingest can choose its own compression, and reuses chunks of any other', async (t) => {
  const { repo, path } = await freshRepo(t, PLAIN);
  const bytes = compressible(4 * MIB, 8);
  const none = await repo.ingest([bytes], { compression: 'none' });
  assert.equal(none.storedSize, bytes.length);
  const again = await repo.ingest([bytes], { compression: { algorithm: 'zstd', level: 9 } });
  assert.equal(again.newChunks, 0);
  const other = compressible(4 * MIB, 9);
  const zstd = await repo.ingest([other], { compression: { algorithm: 'zstd', level: 1 } });
  assert.ok(zstd.storedSize < other.length / 2, `${zstd.storedSize} bytes`);
  assertSameBytes(await restored(await reopen(t, path), zstd.id), other);
});

test('a restored stream is a Node Readable: pipe, pipeline, toWeb', async (t) => {
  const { repo } = await freshRepo(t);
  const bytes = random(3 * MIB, 10);
  const { id } = await repo.ingest([bytes]);
  const stream = await repo.restore(id);
  assert.ok(stream instanceof Readable);
  const file = join(temporary(t), 'out');
  await pipeline(stream, createWriteStream(file));
  assertSameBytes(readFileSync(file), bytes);

  const piped = join(temporary(t), 'piped');
  const source = await repo.restore(id);
  await new Promise((resolve, reject) => {
    source.on('error', reject).pipe(createWriteStream(piped)).on('finish', resolve);
  });
  assertSameBytes(readFileSync(piped), bytes);
  assertSameBytes(await collect(Readable.toWeb(await repo.restore(id))), bytes);
  // And as the source of an ingest.
  assert.equal((await repo.ingest(await repo.restore(id))).newChunks, 0);
});

test('chunk sizes and pack size of init are used', async (t) => {
  const path = join(temporary(t), 'repo');
  const repo = await ContainerArchive.init(path, {
    compression: 'none', chunking: { min: 4096, avg: 16384, max: 65536 }, packSize: 256 * KIB, parity: false,
  });
  afterwards(t, () => repo.close());
  const bytes = random(4 * MIB, 11);
  const snapshot = await repo.ingest([bytes]);
  assert.ok(snapshot.chunkCount > 4 * MIB / 40_000, `${snapshot.chunkCount} chunks`);
  const config = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8'));
  assert.deepEqual([config.chunking.min, config.chunking.avg, config.chunking.max], [4096, 16384, 65536]);
  assert.equal(config.compression.algorithm, 'none');
  assert.equal(config.packSize, 256 * KIB);
  assert.equal(config.parity, null);
  assertSameBytes(await restored(repo, snapshot.id), bytes);
});

test('the type of an item is data by default', async (t) => {
  const { repo } = await freshRepo(t);
  const types = ({ items }) => items.map(({ name, type }) => [name, type]);
  assert.deepEqual(types(await repo.ingest(['x'])), [['data', 'data']]);
  assert.deepEqual(types(await repo.ingest(['x'], { items: [{ name: 'a' }] })), [['a', 'data']]);
  const snapshot = await repo.ingestMulti([{ name: 'a', stream: ['x'] }, { name: 'b', type: 'dump', stream: ['y'] }, { name: 'c', type: undefined, stream: ['z'] }]);
  assert.deepEqual(types(snapshot), [['a', 'data'], ['b', 'dump'], ['c', 'data']]);
});

test('listSnapshots returns at most as many snapshots as its limit, the newest ones that match', async (t) => {
  const { repo } = await freshRepo(t);
  for (const day of ['03', '01', '04', '02']) {
    await repo.ingest([day], { createdAt: `2026-11-${day}`, tags: { odd: String(Number(day) % 2) } });
  }
  const days = async (options) => (await repo.listSnapshots(options)).map(({ createdAt }) => createdAt.slice(8, 10));
  assert.deepEqual(await days({ limit: 1 }), ['04']);
  assert.deepEqual(await days({ limit: 3 }), ['04', '03', '02']);
  assert.deepEqual(await days({ limit: 1, tags: { odd: '1' } }), ['03']);
  assert.deepEqual(await days({ limit: 2, before: '2026-11-03' }), ['02', '01']);
  for (const limit of [4, 5, Number.MAX_SAFE_INTEGER, undefined]) assert.deepEqual(await days({ limit }), ['04', '03', '02', '01']);
});
