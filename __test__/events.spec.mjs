// Events and progress: shapes, subscriptions, and the effects of a listener.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { on, once } from 'node:events';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { KIB, MIB, freshRepo, pieces, random, rejectsWith, root, temporary, test } from './support/harness.mjs';

/** All events except `warning` and `repair:healed`, which need another kind of damage. */
const EVENTS = [
  'ingest:progress', 'ingest:complete', 'restore:progress', 'restore:complete', 'prune:progress', 'prune:complete', 'verify:progress',
  'verify:error', 'repair:progress', 'repair:complete', 'copy:progress', 'copy:complete', 'mirror:progress', 'mirror:complete',
];

/** A stream that takes some time. */
async function* slow(bytes, ms = 300, steps = 12) {
  for (const piece of pieces(bytes, Math.ceil(bytes.length / steps))) {
    yield piece;
    await sleep(ms / steps);
  }
}

test('progress of a stream grows, at most ten times a second, and is reported at the end', async (t) => {
  const { repo } = await freshRepo(t);
  const bytes = random(12 * MIB, 40);
  const seen = [];
  const events = [];
  repo.on('ingest:progress', (progress) => events.push(progress));
  const start = performance.now();
  const snapshot = await repo.ingest(slow(bytes, 600), { items: [{ name: 'dump', type: 'x' }], onProgress: (p) => seen.push(p) });
  const seconds = (performance.now() - start) / 1000;

  assert.deepEqual(seen, events);
  assert.ok(seen.length >= 3 && seen.length <= seconds * 10 + 2, `${seen.length} in ${seconds} s`);
  for (const [i, progress] of seen.entries()) {
    assert.equal(progress.operation, 'ingest');
    assert.equal(progress.operationId, seen[0].operationId);
    assert.equal(typeof progress.message, 'string');
    for (const name of ['bytesDone', 'newBytes', 'reusedBytes', 'storedBytes', 'chunks', 'itemsDone', 'elapsedMs', 'bytesPerSecond']) {
      assert.ok(Number.isFinite(progress[name]) && progress[name] >= 0, name);
      if (i > 0 && name !== 'bytesPerSecond') assert.ok(progress[name] >= seen[i - 1][name], `${name} went down`);
    }
    assert.equal(progress.itemsTotal, 1);
    assert.ok(progress.newBytes + progress.reusedBytes <= progress.bytesDone);
  }
  for (const progress of seen.slice(0, -1)) {
    assert.deepEqual([progress.percentage, progress.bytesTotal, progress.etaSeconds], [null, null, null]);
    if (progress.bytesDone > 0) assert.equal(progress.item, 'dump');
  }
  const last = seen.at(-1);
  assert.deepEqual([last.percentage, last.bytesDone, last.bytesTotal, last.itemsDone], [100, bytes.length, bytes.length, 1]);
  assert.equal(last.chunks, snapshot.chunkCount);
  assert.equal(last.storedBytes, snapshot.storedSize);
  assert.equal(last.newBytes + last.reusedBytes, bytes.length);
});

test('progress has a percentage when the size is known', async (t) => {
  const { repo } = await freshRepo(t, undefined, { compression: { algorithm: 'zstd', level: 12 } });
  const bytes = random(24 * MIB, 41);
  const seen = [];
  await repo.ingestMulti(
    [{ name: 'a', type: 'x', stream: bytes }, { name: 'b', type: 'x', stream: new Blob([bytes]) }, { name: 'c', type: 'x', stream: Buffer.alloc(0) }],
    { onProgress: (progress) => seen.push(progress) },
  );
  for (const progress of seen) {
    assert.equal(progress.bytesTotal, 48 * MIB);
    const exact = (progress.bytesDone / (48 * MIB)) * 100;
    if (progress !== seen.at(-1)) assert.ok(progress.percentage <= Math.min(exact, 99.9) && progress.percentage > exact - 0.2, String(exact));
  }
  assert.equal(seen.at(-1).percentage, 100);
  const empty = [];
  await repo.ingest(Buffer.alloc(0), { onProgress: (progress) => empty.push(progress) });
  assert.equal(empty.at(-1).percentage, 100);
});

test('an ingest that fails reports nothing afterwards', async (t) => {
  const { repo } = await freshRepo(t);
  let after = null;
  repo.on('ingest:progress', () => { if (after !== null) after++; });
  repo.on('ingest:complete', () => assert.fail('complete'));
  const failing = async function* () {
    yield* slow(random(4 * MIB, 42), 150);
    throw new Error('boom');
  };
  await rejectsWith(repo.ingest(failing()), 'ERR_SOURCE_FAILED');
  after = 0;
  await sleep(200);
  assert.equal(after, 0);
});

test('ingest:complete names the snapshot, and concurrent ingests have different operation ids', async (t) => {
  const { repo } = await freshRepo(t);
  const complete = [];
  const progress = new Map();
  repo.on('ingest:complete', (event) => complete.push(event));
  repo.on('ingest:progress', ({ operationId, bytesDone }) => progress.set(operationId, bytesDone));
  const sizes = [MIB, 2 * MIB, 3 * MIB];
  const snapshots = await Promise.all(sizes.map((size, i) => repo.ingest(slow(random(size, 50 + i), 200))));
  assert.equal(complete.length, 3);
  for (const snapshot of snapshots) {
    const event = complete.find(({ snapshotId }) => snapshotId === snapshot.id);
    assert.equal(event.newChunks, snapshot.newChunks);
    assert.equal(progress.get(event.operationId), snapshot.originalSize);
  }
});

test('a Subscription ends once, and only for its listener', async (t) => {
  const { repo } = await freshRepo(t);
  const calls = [];
  const handler = () => calls.push('a');
  const first = repo.on('ingest:complete', handler);
  const second = repo.on('ingest:complete', handler);
  const third = repo.on('ingest:complete', () => calls.push('b'));
  repo.once('ingest:complete', () => calls.push('once'));
  await repo.ingest(['x']);
  assert.deepEqual(calls.splice(0), ['a', 'a', 'b', 'once']);
  assert.equal(first.closed, false);
  first.unsubscribe();
  first.unsubscribe();
  assert.equal(first.closed, true);
  await repo.ingest(['x']);
  assert.deepEqual(calls.splice(0), ['a', 'b']);
  if (Symbol.dispose) third[Symbol.dispose]();
  else third.unsubscribe();
  assert.equal(third.closed, true);
  repo.off('ingest:complete', handler);
  assert.equal(second.closed, false);
  await repo.ingest(['x']);
  assert.deepEqual(calls, []);
  for (const bad of [undefined, null, 'x', {}]) assert.throws(() => repo.on('warning', bad), { code: 'ERR_INVALID_ARGUMENT' });
  assert.throws(() => repo.on(7, () => {}), { code: 'ERR_INVALID_ARGUMENT' });
});

test('a name that no event has is refused, by each call, and error is accepted for Node', async (t) => {
  const { repo } = await freshRepo(t);
  const noop = () => {};
  for (const call of ['on', 'once', 'addListener', 'off', 'removeListener']) {
    for (const name of ['', 'progress', 'ingest:progres', 'ingest:error', 'restore:error', 'close', 'constructor']) {
      assert.throws(() => repo[call](name, noop), (error) => {
        assert.deepEqual([error.code, error.name], ['ERR_INVALID_ARGUMENT', 'TypeError']);
        assert.equal(error.message, `There is no event ${JSON.stringify(name)}`);
        assert.deepEqual(error.hint.replace('Known events: ', '').split(', ').sort(), [...EVENTS, 'repair:healed', 'warning'].sort());
        return true;
      });
    }
    for (const name of [undefined, null, 7, Symbol('warning'), ['warning']]) {
      assert.throws(() => repo[call](name, noop), { code: 'ERR_INVALID_ARGUMENT', name: 'TypeError' });
    }
    for (const name of [...EVENTS, 'repair:healed', 'warning', 'error']) repo[call](name, noop);
  }
  // Node's own listener for it is removed with the other one
  const controller = new AbortController();
  const waiting = once(repo, 'ingest:complete', { signal: controller.signal });
  controller.abort();
  await assert.rejects(waiting, { name: 'AbortError' });
});

test("Node's events.once and events.on accept a handle", async (t) => {
  const { repo } = await freshRepo(t);
  const completed = once(repo, 'ingest:complete');
  const snapshot = await repo.ingest(['x']);
  assert.equal((await completed)[0].snapshotId, snapshot.id);
  const controller = new AbortController();
  const seen = [];
  const reading = (async () => {
    for await (const [event] of on(repo, 'ingest:complete', { signal: controller.signal })) seen.push(event.snapshotId);
  })();
  const ids = [(await repo.ingest(['a'])).id, (await repo.ingest(['b'])).id];
  await sleep(10);
  controller.abort();
  await assert.rejects(reading, { name: 'AbortError' });
  assert.deepEqual(seen, ids);
});

test('what a listener throws is an uncaught exception of the program, and does not affect the ingest', async (t) => {
  const script = `
    const { ContainerArchive } = require(${JSON.stringify(root)});
    const uncaught = [];
    process.on('uncaughtException', (error) => uncaught.push(error.message));
    (async () => {
      const repo = await ContainerArchive.init(${JSON.stringify(`${temporary(t)}/repo`)});
      let others = 0;
      repo.on('ingest:complete', () => { throw new Error('from complete'); });
      repo.on('ingest:complete', () => others++);
      repo.on('ingest:progress', () => { throw new Error('from progress'); });
      const snapshot = await repo.ingest([Buffer.alloc(1000)], { onProgress: () => { throw new Error('from onProgress'); } });
      await new Promise(setImmediate);
      await repo.close();
      console.log(JSON.stringify({ uncaught, others, size: snapshot.originalSize }));
    })();`;
  const { uncaught, others, size } = JSON.parse(execFileSync(process.execPath, ['-e', script], { encoding: 'utf8' }));
  assert.deepEqual([...new Set(uncaught)].sort(), ['from complete', 'from onProgress', 'from progress']);
  assert.deepEqual([others, size], [1, 1000]);
});

test('counters distinguish reused bytes from new ones', async (t) => {
  const { repo } = await freshRepo(t);
  const bytes = random(4 * MIB, 43);
  await repo.ingest(bytes);
  let last;
  await repo.ingest(Readable.from(pieces(bytes, 64 * KIB)), { onProgress: (progress) => { last = progress; } });
  assert.deepEqual([last.newBytes, last.reusedBytes, last.storedBytes], [0, bytes.length, 0]);
});

test('a listener that throws affects no operation, whatever the event', async (t) => {
  const script = `
    const { ContainerArchive } = require(${JSON.stringify(root)});
    const fs = require('node:fs');
    const { join } = require('node:path');
    const folder = ${JSON.stringify(temporary(t))};
    const thrown = new Set();
    process.on('uncaughtException', (error) => thrown.add(error.message));
    (async () => {
      const path = join(folder, 'repo');
      const repo = await ContainerArchive.init(path, { parity: false });
      for (const event of ${JSON.stringify(EVENTS)}) repo.on(event, () => { throw new Error(event); });
      const source = join(folder, 'source');
      fs.writeFileSync(source, Buffer.alloc(1000, 1));
      const { id } = await repo.ingest({ path: source });
      await repo.ingest([Buffer.alloc(1000, 2)]);
      const onProgress = () => { throw new Error('onProgress'); };
      const restored = await repo.restoreToFile(id, { path: join(folder, 'restored'), onProgress });
      const pruned = await repo.prune({ keepLast: 1 }, { onProgress });
      const other = await ContainerArchive.init(join(folder, 'other'));
      await repo.copyTo(other, { onProgress });
      await other.close();
      await repo.mirrorTo(join(folder, 'mirror'), { onProgress });
      const packs = join(path, 'packs', 'data');
      for (const name of fs.readdirSync(packs)) if (name.endsWith('.pack')) fs.rmSync(join(packs, name));
      const verified = await repo.verify({ onProgress });
      await repo.repair({ onProgress });
      await new Promise(setImmediate);
      const whole = await repo.ingest([Buffer.alloc(1000, 3)]);
      await new Promise(setImmediate);
      await repo.close();
      console.log(JSON.stringify({
        thrown: [...thrown].sort(), size: restored.size, removed: pruned.removedSnapshots, ok: verified.ok, whole: whole.originalSize,
      }));
    })();`;
  const { thrown, ...results } = JSON.parse(execFileSync(process.execPath, ['-e', script], { encoding: 'utf8' }));
  assert.deepEqual(thrown, ['onProgress', ...EVENTS].sort());
  assert.deepEqual(results, { size: 1000, removed: 1, ok: false, whole: 1000 });
});
