// The life of a handle: closing, exiting while busy, workers that are terminated, streams that are abandoned.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { PassThrough, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import {
  ENCRYPTED, MIB, PASSPHRASE, PLAIN, assertSameBytes, freshRepo, pieces, random, rejectsWith, reopen, restored, root, test,
} from './support/harness.mjs';

const PACKAGE = JSON.stringify(root);

/** Runs a script in a process of its own: { code, signal, out, seconds }. */
async function script(source, { killAfterMs, args = [] } = {}) {
  const start = performance.now();
  const child = spawn(process.execPath, [...args, '-e', `const { ContainerArchive } = require(${PACKAGE});${source}`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let out = '';
  child.stdout.on('data', (part) => {
    out += part;
    if (killAfterMs !== undefined && out.includes('busy')) setTimeout(() => child.kill('SIGKILL'), killAfterMs);
  });
  const guard = setTimeout(() => child.kill('SIGKILL'), 60_000);
  const [code, signal] = await new Promise((resolve) => child.on('close', (...how) => resolve(how)));
  clearTimeout(guard);
  return { code, signal, out, seconds: (performance.now() - start) / 1000 };
}

/** A source that never ends, for scripts. */
const ENDLESS = `(async function* () { let n = 0; for (;;) { yield require('node:crypto').randomBytes(1 << 20); if (++n === 4) console.log('busy'); } })()`;

test('after close every call rejects with ERR_CLOSED, and close can be called again', async (t) => {
  const { repo } = await freshRepo(t);
  const { id } = await repo.ingest(['x']);
  await Promise.all([repo.close(), repo.close()]);
  await repo.close();
  for (const call of [
    () => repo.ingest(['x']), () => repo.ingestMulti([{ name: 'a', type: 'x', stream: ['x'] }]),
    () => repo.ingestCommand({ command: ['x'], name: 'x' }), () => repo.restore(id),
    () => repo.listSnapshots(), () => repo.getSnapshot(id),
  ]) {
    const promise = call();
    assert.ok(promise instanceof Promise, 'it rejects, it does not throw');
    await rejectsWith(promise, 'ERR_CLOSED');
  }
  repo.on('warning', () => {}).unsubscribe();
});

for (const kind of [PLAIN, ENCRYPTED]) {
  test(`${kind.name}: close stops a running ingest and a running restore`, async (t) => {
    const { repo, path } = await freshRepo(t, kind);
    const bytes = random(32 * MIB, 60);
    const { id } = await repo.ingest(bytes);
    const source = new PassThrough();
    source.write(bytes.subarray(0, MIB));
    const ingest = rejectsWith(repo.ingest(source), 'ERR_CLOSED');
    const slowly = async function* (parts) { for await (const part of parts) { await sleep(5); yield part; } };
    const restore = rejectsWith(pipeline(await repo.restore(id), slowly, new PassThrough().resume()), 'ERR_CLOSED');
    await sleep(20);
    const start = performance.now();
    await repo.close();
    assert.ok(performance.now() - start < 5000);
    await ingest;
    assert.ok(source.destroyed);
    await restore;
    const other = await reopen(t, path, kind);
    assert.equal((await other.listSnapshots()).length, 1);
    assertSameBytes(await restored(other, id), bytes);
  });
}

test('await using closes the handle', { skip: !Symbol.asyncDispose }, async (t) => {
  const { repo } = await freshRepo(t);
  await repo[Symbol.asyncDispose]();
  await rejectsWith(repo.listSnapshots(), 'ERR_CLOSED');
});

test('a restore that is destroyed, aborted or abandoned ends, and leaves the handle usable', async (t) => {
  const { repo } = await freshRepo(t);
  const bytes = random(64 * MIB, 61);
  const { id } = await repo.ingest(bytes);
  const destroyed = await repo.restore(id);
  destroyed.once('data', () => destroyed.destroy());
  await new Promise((resolve) => destroyed.on('close', resolve));
  assert.equal(destroyed.readableEnded, false);

  for await (const part of await repo.restore(id)) { assert.ok(part.length > 0); break; }

  for (const reason of [new Error('enough'), 'a string', undefined]) {
    const controller = new AbortController();
    const aborted = await repo.restore(id, { signal: controller.signal });
    aborted.once('data', () => controller.abort(reason));
    await assert.rejects(pipeline(aborted, new PassThrough().resume()), (error) =>
      error === controller.signal.reason || (error.code === 'ABORT_ERR' && error.cause === reason));
  }
  await assert.rejects(repo.restore(id, { signal: AbortSignal.abort() }), { name: 'AbortError' });
  for (let i = 0; i < 20; i++) await repo.restore(id); // never read
  assertSameBytes(await restored(repo, id), bytes);
});

test('a restore that nobody reads takes no more memory than its window', async (t) => {
  const { repo } = await freshRepo(t);
  const { id } = await repo.ingest(Readable.from(pieces(random(128 * MIB, 62), MIB)));
  const before = process.memoryUsage().rss;
  const stream = await repo.restore(id);
  stream.read();
  await sleep(500);
  const grown = (process.memoryUsage().rss - before) / MIB;
  t.diagnostic(`${grown.toFixed(0)} MiB`);
  assert.ok(grown < 128);
  stream.destroy();
});

test('a process ends by itself without close()', async (t) => {
  const { path } = await freshRepo(t);
  const { code, out } = await script(`
    (async () => {
      const repo = await ContainerArchive.open(${JSON.stringify(path)});
      const { id } = await repo.ingest([Buffer.alloc(1e6)]);
      (await repo.restore(id)).read();
      console.log('done');
    })();`);
  assert.deepEqual([code, out], [0, 'done\n']);
});

test('a waiting ingest keeps the process alive', async (t) => {
  const { path } = await freshRepo(t);
  const { code, out } = await script(`
    (async () => {
      const repo = await ContainerArchive.open(${JSON.stringify(path)});
      let give;
      const source = (async function* () { yield 'a'; yield await new Promise((resolve) => { give = resolve; }); })();
      setTimeout(() => give('b'), 300).unref();
      console.log((await repo.ingest(source)).originalSize);
      await repo.close();
    })();`);
  assert.deepEqual([code, out], [0, '2\n']);
});

for (const [how, source, options] of [
  ['process.exit()', `setTimeout(() => process.exit(7), 300)`, {}],
  ['an uncaught exception', `setTimeout(() => { throw new Error('expected by the test'); }, 300)`, { args: ['--no-warnings'] }],
  ['SIGKILL', '', { killAfterMs: 200 }],
]) {
  test(`${how} in mid ingest: the process is gone at once, the repository needs no manual step`, async (t) => {
    const { path } = await freshRepo(t);
    const ended = await script(`
      ${how.startsWith('an') ? "process.on('uncaughtException', () => process.exit(7));" : ''}
      (async () => {
        const repo = await ContainerArchive.open(${JSON.stringify(path)});
        repo.ingest(${ENDLESS});
        ${source}
      })();`, options);
    if (how === 'SIGKILL') assert.equal(ended.signal, 'SIGKILL');
    else assert.equal(ended.code, 7);
    t.diagnostic(`${ended.seconds.toFixed(2)} s`);
    assert.ok(ended.seconds < 20);
    const repo = await reopen(t, path);
    assert.deepEqual(await repo.listSnapshots(), []);
    const bytes = random(3 * MIB, 63);
    const snapshot = await repo.ingest(bytes);
    assertSameBytes(await restored(repo, snapshot.id), bytes);
  });
}

test('workers that are terminated in mid ingest and restore do no harm', async (t) => {
  const { repo, path } = await freshRepo(t, ENCRYPTED);
  const bytes = random(24 * MIB, 64);
  const { id } = await repo.ingest(bytes);
  for (let round = 0; round < 6; round++) {
    const worker = new Worker(
      `const { parentPort } = require('node:worker_threads');
       const { ContainerArchive } = require(${PACKAGE});
       (async () => {
         const repo = await ContainerArchive.open(${JSON.stringify(path)}, { passphrase: ${JSON.stringify(PASSPHRASE)} });
         const stream = await repo.restore('${id}');
         stream.read();
         repo.ingest((async function* () {
           for (let n = 0; ; n++) { yield require('node:crypto').randomBytes(1 << 20); if (n === ${round}) parentPort.postMessage('busy'); }
         })());
       })();`,
      { eval: true },
    );
    await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
    await worker.terminate();
  }
  assert.deepEqual((await repo.listSnapshots()).map((snapshot) => snapshot.id), [id]);
  assertSameBytes(await restored(repo, id), bytes);
  assert.equal((await (await reopen(t, path, ENCRYPTED)).ingest(bytes)).newChunks, 0);
});

test('four workers use four repositories at once', async (t) => {
  const paths = [];
  for (let i = 0; i < 4; i++) paths.push((await freshRepo(t)).path);
  const sizes = await Promise.all(paths.map((path) => new Promise((resolve, reject) => {
    const worker = new Worker(
      `const { parentPort } = require('node:worker_threads');
       const { ContainerArchive } = require(${PACKAGE});
       (async () => {
         const repo = await ContainerArchive.open(${JSON.stringify(path)});
         const { id } = await repo.ingest([Buffer.alloc(3e6, 1)]);
         let size = 0;
         for await (const part of await repo.restore(id)) size += part.length;
         await repo.close();
         parentPort.postMessage(size);
       })();`,
      { eval: true },
    );
    worker.once('message', resolve).once('error', reject);
  })));
  assert.deepEqual(sizes, [3e6, 3e6, 3e6, 3e6]);
});
