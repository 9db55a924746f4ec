// repair, reindex, unlock: shapes, progress, and what is restored.

import assert from 'node:assert/strict';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  ENCRYPTED, KIB, PLAIN, assertSameBytes, filesIn, freshRepo, pieces, random, rejectsWith, reopen, repoFiles, restored, test, treeHash,
} from './support/harness.mjs';

const NOTHING = {
  indexRebuilt: false, packsRepaired: 0, locksRemoved: 0, idxRepaired: 0, manifestsRestored: 0,
  memberIndexesRebuilt: 0, parityRepaired: 0,
  keysRepaired: 0, configRepaired: false, chunksSalvaged: 0, quarantined: [], lostChunks: 0, damagedSnapshots: [],
};
const SMALL = { packSize: 256 * KIB, chunking: { min: 4 * KIB, avg: 16 * KIB, max: 64 * KIB } };
const DATA = random(1200 * KIB, 1);
const OTHER = random(40 * KIB, 2);

/** A repository with two snapshots in packs of one group. */
async function filled(t, kind) {
  const { repo, path } = await freshRepo(t, kind, SMALL);
  const snapshots = [await repo.ingest(pieces(DATA, 64 * KIB)), await repo.ingest([OTHER])];
  return { repo, path, snapshots };
}

/** Flips the byte at an offset. */
function flip(file, at) {
  const bytes = readFileSync(file);
  bytes[at] ^= 1;
  writeFileSync(file, bytes);
}

/** The largest files that match, the largest first. */
const largest = (path, pattern) =>
  repoFiles(path, pattern).sort((a, b) => readFileSync(b).length - readFileSync(a).length);

for (const kind of [PLAIN, ENCRYPTED]) {
  test(`${kind.name}: repair changes no byte of a healthy repository`, async (t) => {
    const { repo, path } = await filled(t, kind);
    const before = treeHash(path);
    assert.deepEqual(await repo.repair(), NOTHING);
    assert.equal(treeHash(path), before);
  });

  test(`${kind.name}: repair rebuilds lost files byte for byte`, async (t) => {
    const { repo, path } = await filled(t, kind);
    await repo.close();
    const before = treeHash(path);
    const [pack, idx] = [largest(path, /\.pack$/)[0], largest(path, /\.idx$/)[1]];
    const manifests = repoFiles(path, /^snapshots/);
    const keys = repoFiles(path, /^keys/);
    for (const file of [pack, idx, ...manifests, ...keys, join(path, 'config.json'), join(path, 'locks', 'commit')]) rmSync(file);
    const again = await reopen(t, path, kind);
    const warnings = [];
    again.on('warning', ({ code }) => warnings.push(code));
    const result = await again.repair();
    assert.deepEqual(result, {
      ...NOTHING, packsRepaired: 1, idxRepaired: 1, manifestsRestored: 2, keysRepaired: keys.length, configRepaired: true,
    });
    const expected = keys.length ? ['WARN_CONFIG_FROM_COPY', 'WARN_KEY_FROM_COPY'] : ['WARN_CONFIG_FROM_COPY'];
    assert.deepEqual(warnings, expected);
    assert.equal(treeHash(path), before);
    assert.equal((await again.verify({ level: 'full' })).ok, true);
  });

  test(`${kind.name}: damaged files are kept in quarantine/, and what cannot be repaired is listed`, async (t) => {
    const { repo, path, snapshots } = await filled(t, kind);
    const packs = largest(path, /\.pack$/);
    flip(packs[0], 5000);
    const healed = await repo.repair();
    assert.deepEqual({ ...healed, quarantined: [] }, { ...NOTHING, packsRepaired: 1 });
    assert.match(healed.quarantined.join(), /^quarantine\/packs_data_[0-9a-f]{64}\.pack-[0-9a-f]+$/);
    assert.ok(existsSync(join(path, healed.quarantined[0])));

    // one shard cannot rebuild the same row of two packs of one group
    flip(packs[0], 5000);
    flip(packs[1], 5000);
    const result = await repo.repair();
    assert.equal(result.lostChunks, 2);
    assert.ok(result.chunksSalvaged > 10);
    assert.deepEqual(result.damagedSnapshots.map(({ id }) => id), [snapshots[0].id]);
    const [{ items }] = result.damagedSnapshots;
    assert.equal(items[0].name, 'data');
    let end = 0;
    for (const [start, stop] of items[0].missing) {
      assert.ok(start >= end && stop > start && stop <= DATA.length);
      const range = { start: end, end: start };
      assertSameBytes(await restored(repo, snapshots[0].id, { range }), DATA.subarray(end, start));
      await assert.rejects(restored(repo, snapshots[0].id, { range: { start, end: start + 1 } }));
      end = stop;
    }
    assertSameBytes(await restored(repo, snapshots[1].id), OTHER);
    const settled = treeHash(path);
    const again = await repo.repair();
    assert.deepEqual(again, { ...NOTHING, lostChunks: 2, damagedSnapshots: result.damagedSnapshots });
    assert.equal(treeHash(path), settled);
    // the data can still be backed up: then everything is complete again
    await repo.ingest([DATA]);
    assert.deepEqual(await repo.repair(), NOTHING);
    assertSameBytes(await restored(repo, snapshots[0].id), DATA);
  });
}

test('progress is reported, also at the end, and nothing afterwards', async (t) => {
  const { repo } = await filled(t, PLAIN);
  const told = [];
  const events = [];
  const complete = [];
  repo.on('repair:progress', (progress) => events.push(progress));
  repo.on('repair:complete', (value) => complete.push(value));
  const result = await repo.repair({ onProgress: (progress) => told.push(progress) });
  const count = told.length;
  assert.deepEqual(told, events);
  const last = told.at(-1);
  assert.deepEqual([last.operation, last.percentage], ['repair', 100]);
  assert.ok(last.message && last.operationId && last.elapsedMs >= 0);
  assert.deepEqual(complete, [{ operationId: last.operationId, ...result }]);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(told.length, count);
});

test('a signal ends a repair and a reindex with its reason', async (t) => {
  const { repo } = await filled(t, PLAIN);
  const reason = new Error('enough');
  await assert.rejects(repo.repair({ signal: AbortSignal.abort(reason) }), reason);
  await assert.rejects(repo.reindex({ signal: AbortSignal.abort(reason) }), reason);
  const controller = new AbortController();
  const running = repo.repair({ signal: controller.signal });
  controller.abort(reason);
  // the call may have ended before the abort
  await running.catch((error) => assert.equal(error, reason));
  assert.deepEqual(await repo.repair(), NOTHING);
});

test('reindex builds one segment, concurrently with an ingest', async (t) => {
  const { repo, path, snapshots } = await filled(t, ENCRYPTED);
  const more = random(300 * KIB, 3);
  const [snapshot] = await Promise.all([repo.ingest(pieces(more, 8 * KIB)), repo.reindex(), repo.listSnapshots()]);
  assert.equal(await repo.reindex(), undefined);
  assert.equal(repoFiles(path, /\.seg$/).length, 1);
  assertSameBytes(await restored(repo, snapshot.id), more);
  assertSameBytes(await restored(repo, snapshots[0].id), DATA);
  assert.equal((await repo.ingest([DATA])).newChunks, 0);
  assert.equal((await repo.verify({ level: 'full' })).ok, true);
});

test('unlock removes leases of sessions that have exited, and with force all', async (t) => {
  const { repo, path } = await freshRepo(t);
  const lease = join(path, 'locks', `${'ab'.repeat(16)}.json`);
  for (const options of [undefined, {}, { force: false }, { force: true }]) {
    writeFileSync(lease, '{}');
    assert.equal(await repo.unlock(options), undefined);
    assert.ok(!existsSync(lease));
  }
  writeFileSync(lease, '{}');
  assert.equal((await repo.repair()).locksRemoved, 1);
  assert.deepEqual(filesIn(join(path, 'locks')), ['commit', 'maint']);
});

test('wrong arguments, closed and read-only handles are refused', async (t) => {
  const { repo, path } = await freshRepo(t);
  for (const wrong of [null, 1, [], { level: 'full' }, { onProgress: 1 }, { signal: {} }]) {
    await rejectsWith(repo.repair(wrong), 'ERR_INVALID_ARGUMENT');
  }
  for (const wrong of [null, { force: true }, { signal: 1 }]) await rejectsWith(repo.reindex(wrong), 'ERR_INVALID_ARGUMENT');
  for (const wrong of [null, true, { force: 1 }, { all: true }]) await rejectsWith(repo.unlock(wrong), 'ERR_INVALID_ARGUMENT');
  const reader = await reopen(t, path, PLAIN, { readOnly: true });
  // one after the other: a rejection that is not awaited yet would fail the test
  const calls = [(handle) => handle.repair(), (handle) => handle.reindex(), (handle) => handle.unlock()];
  for (const call of calls) await rejectsWith(call(reader), 'ERR_READ_ONLY');
  await repo.close();
  for (const call of calls) await rejectsWith(call(repo), 'ERR_CLOSED');
});

for (const kind of [PLAIN, ENCRYPTED]) {
  test(`${kind.name}: the next ingest of a handle stores again what the handle has found damaged`, async (t) => {
    const { repo, path } = await freshRepo(t, kind, { ...SMALL, parity: false });
    await repo.ingest(DATA);
    for (const file of repoFiles(path, /\.pack$/).filter((name) => readFileSync(name).length > 100 * KIB)) {
      const bytes = readFileSync(file);
      for (let at = 1000; at < bytes.length - 1000; at += 8 * KIB) bytes[at] ^= 1;
      writeFileSync(file, bytes);
    }
    assert.equal((await repo.verify({ level: 'standard' })).ok, false);
    const again = await repo.ingest(DATA);
    assert.ok(again.newChunks > 0);
    assertSameBytes(await restored(repo, again.id), DATA);
    const other = await reopen(t, path, kind);
    await other.prune({ keepLast: 1 });
    assertSameBytes(await restored(other, again.id), DATA);
  });
}
