// The life of a handle: close, exit during a call, terminated workers, abandoned streams.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import {
  CHEAP_KDF, ContainerArchive, DEEP, ENCRYPTED, MIB, PASSPHRASE, PLAIN, assertSameBytes, freshRepo, pieces, random, rejectsWith, reopen, restored,
  root, temporary, test,
} from './support/harness.mjs';

const PACKAGE = JSON.stringify(root);

/** Runs a script in a process of its own: { code, signal, out, seconds }. */
async function script(source, { signal: kill, quiet = false, args = [] } = {}) {
  const start = performance.now();
  const child = spawn(process.execPath, [...args, '-e', `const { ContainerArchive } = require(${PACKAGE});${source}`], {
    stdio: ['ignore', 'pipe', quiet ? 'ignore' : 'inherit'],
  });
  let out = '';
  child.stdout.on('data', (part) => {
    out += part;
    if (kill !== undefined && out.includes('busy')) child.kill(kill);
  });
  const guard = setTimeout(() => child.kill('SIGKILL'), 60_000);
  const [code, signal] = await new Promise((resolve) => child.on('close', (...how) => resolve(how)));
  clearTimeout(guard);
  return { code, signal, out, seconds: (performance.now() - start) / 1000 };
}

/** A source that never ends, for scripts. */
const ENDLESS = `(async function* () { let n = 0; for (;;) { yield require('node:crypto').randomBytes(1 << 20); if (++n === 4) console.log('busy'); } })()`;

/** Every method that returns a promise, with valid arguments. */
const EVERY_CALL = {
  copyTo: async (repo, { folder }) => {
    const target = await ContainerArchive.init(join(folder, 'target'));
    return repo.copyTo(target).finally(() => target.close());
  },
  mirrorTo: (repo, { folder }) => repo.mirrorTo(join(folder, 'mirror')),
  ingest: (repo) => repo.ingest(['x']),
  ingestMulti: (repo) => repo.ingestMulti([{ name: 'a', type: 'x', stream: ['x'] }]),
  ingestCommand: (repo) => repo.ingestCommand({ command: [process.execPath, '--version'], name: 'x' }),
  restore: (repo, { id }) => repo.restore(id),
  restoreToFile: (repo, { id, folder }) => repo.restoreToFile(id, { path: join(folder, 'file'), overwrite: true }),
  files: (repo, { id }) => repo.files(id).next().catch((error) => { if (error.code !== 'ERR_NOT_A_TAR') throw error; }),
  memberInfo: (repo, { id }) => repo.memberInfo(id, { member: 'x' }).catch((error) => { if (error.code !== 'ERR_NOT_A_TAR') throw error; }),
  diff: (repo, { id }) => repo.diff(id, id).next().catch((error) => { if (error.code !== 'ERR_NOT_A_TAR') throw error; }),
  restoreToDirectory: (repo, { id, folder }) => repo.restoreToDirectory(id, { to: folder }).catch((error) => { if (error.code !== 'ERR_NOT_A_TAR') throw error; }),
  listSnapshots: (repo) => repo.listSnapshots(),
  latest: (repo) => repo.latest(),
  getSnapshot: (repo, { id }) => repo.getSnapshot(id),
  verify: (repo) => repo.verify(),
  prune: (repo) => repo.prune({ keepLast: 1000 }),
  planPrune: (repo) => repo.planPrune({ keepLast: 1 }),
  forget: (repo, { id }) => repo.forget([id]),
  locks: (repo) => repo.locks(),
  stats: (repo) => repo.stats(),
  report: (repo) => repo.report({ policy: { keepLast: 1 } }),
  repair: (repo) => repo.repair(),
  reindex: (repo) => repo.reindex(),
  unlock: (repo) => repo.unlock(),
};
const EVERY_KEY_CALL = {
  list: (repo) => repo.keys.list(),
  add: (repo) => repo.keys.add({ passphrase: 'another', kdf: CHEAP_KDF }),
  change: (repo) => repo.keys.change({ passphrase: 'another', kdf: CHEAP_KDF }),
  remove: (repo) => repo.keys.remove('0'.repeat(32)),
};

test('after close() every call rejects with ERR_CLOSED, and close() can be called again', async (t) => {
  const { repo } = await freshRepo(t, ENCRYPTED);
  const methods = Object.getOwnPropertyNames(ContainerArchive.prototype)
    .filter((name) => !['constructor', 'close', 'created', 'keys', 'repositoryId', 'on', 'once', 'off', 'addListener', 'removeListener'].includes(name));
  assert.deepEqual(methods.sort(), Object.keys(EVERY_CALL).sort(), 'all of them are here');
  const keyMethods = Object.getOwnPropertyNames(Object.getPrototypeOf(repo.keys)).filter((name) => name !== 'constructor');
  assert.deepEqual(keyMethods.sort(), Object.keys(EVERY_KEY_CALL).sort());
  const context = { id: (await repo.ingest(['x'])).id, folder: temporary(t) };
  await Promise.all([repo.close(), repo.close()]);
  await repo.close();
  for (const call of [...Object.values(EVERY_CALL), ...Object.values(EVERY_KEY_CALL)]) {
    const promise = call(repo, context);
    assert.ok(promise instanceof Promise, 'it rejects, it does not throw');
    await rejectsWith(promise, 'ERR_CLOSED');
  }
  repo.on('warning', () => {}).unsubscribe();
});

test('close() during any call ends that call, and the repository is intact', async (t) => {
  for (const [name, call] of [...Object.entries(EVERY_CALL), ...Object.entries(EVERY_KEY_CALL)]) {
    const { repo, path } = await freshRepo(t, ENCRYPTED);
    const bytes = random(MIB, name);
    const context = { id: (await repo.ingest(bytes, { tags: { keep: 'yes' } })).id, folder: temporary(t) };
    const running = call(repo, context).then(() => null, (error) => error);
    await repo.close();
    const error = await running;
    if (error && name !== 'remove') assert.equal(error.code, 'ERR_CLOSED', name);
    const again = await reopen(t, path, ENCRYPTED).catch((wrong) => {
      assert.equal(name, 'change', wrong); // the new passphrase may be the valid one
      return reopen(t, path, { open: { passphrase: 'another' } });
    });
    const left = await again.listSnapshots();
    if (name !== 'forget') assert.ok(left.some(({ id }) => id === context.id), name);
    assert.deepEqual((await again.verify({ level: 'full' })).errors, [], name);
    await again.close();
  }
});

for (const kind of [PLAIN, ENCRYPTED]) {
  test(`${kind.name}: close() stops a running ingest and a running restore`, async (t) => {
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

test('handles and restores that are dropped without close() release everything', async (t) => {
  const { path } = await freshRepo(t);
  const { code, out } = await script(`
    const { readdirSync } = require('node:fs');
    const threads = () => readdirSync('/proc/self/task').length;
    const files = () => readdirSync('/proc/self/fd').length;
    const settle = async (holds) => {
      for (let i = 0; i < 500 && !holds(); i++) { global.gc(); await new Promise((resolve) => setTimeout(resolve, 20)); }
    };
    (async () => {
      const path = ${JSON.stringify(path)};
      const first = await ContainerArchive.open(path);
      const { id } = await first.ingest([require('node:crypto').randomBytes(20 << 20)]);
      await first.close();
      global.gc();
      const before = { threads: threads(), files: files() };
      await (async () => {
        for (let i = 0; i < 10; i++) {
          const repo = await ContainerArchive.open(path, { threads: 2 });
          (await repo.restore(id)).read(); // begun, and never continued
        }
      })();
      const most = threads();
      await settle(() => threads() <= before.threads && files() <= before.files);
      console.log(JSON.stringify({ before, most, after: { threads: threads(), files: files() } }));
    })();`, { args: ['--expose-gc'] });
  assert.equal(code, 0);
  const { before, most, after } = JSON.parse(out);
  t.diagnostic(`${before.threads} threads, ${most} with ten handles, ${after.threads} after they are closed`);
  assert.ok(most >= before.threads + 20, 'they had threads');
  assert.ok(after.threads <= before.threads && after.files <= before.files, out);
}, { skip: process.platform !== 'linux' && 'needs /proc' });

test('a restore of a dropped handle continues to its end', async (t) => {
  const { repo, path } = await freshRepo(t);
  const { id } = await repo.ingest(random(20 * MIB, 66));
  const { code, out } = await script(`
    (async () => {
      const stream = await (await ContainerArchive.open(${JSON.stringify(path)})).restore('${id}');
      let size = 0;
      for await (const part of stream) {
        size += part.length;
        global.gc();
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      console.log(size);
    })();`, { args: ['--expose-gc'] });
  assert.deepEqual([code, out], [0, `${20 * MIB}\n`]);
});

test('an ingest of a dropped handle completes, and its lease is removed with it', async (t) => {
  const { repo, path } = await freshRepo(t);
  const { code, out } = await script(`
    (async () => {
      const ingest = (await ContainerArchive.open(${JSON.stringify(path)})).ingest((async function* () {
        for (let i = 0; i < 20; i++) { yield Buffer.alloc(1000, i); global.gc(); await new Promise((resolve) => setTimeout(resolve, 5)); }
      })());
      console.log((await ingest).originalSize);
    })();`, { args: ['--expose-gc'] });
  assert.deepEqual([code, out], [0, '20000\n']);
  assert.deepEqual(await repo.locks(), []);
});

test('await using closes the handle', { skip: !Symbol.asyncDispose }, async (t) => {
  const { repo } = await freshRepo(t);
  await repo[Symbol.asyncDispose]();
  await rejectsWith(repo.listSnapshots(), 'ERR_CLOSED');
});

test('a restore that is destroyed, aborted or abandoned ends, and the handle stays usable', async (t) => {
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

test('a restore that is not read takes no more memory than its window', async (t) => {
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

const RESTORES = DEEP ? 3000 : 150;

test(`${RESTORES} restores that are destroyed in the middle leave no thread, no file and no memory`, async (t) => {
  const { repo } = await freshRepo(t);
  const { id } = await repo.ingest(Readable.from(pieces(random(24 * MIB, 67), MIB)));
  const count = (what) => (process.platform === 'linux' ? readdirSync(`/proc/self/${what}`).length : 0);
  const some = async (times) => {
    for (let i = 0; i < times; i++) {
      const stream = await repo.restore(id);
      if (i % 3 > 0) for await (const part of stream) if (part.length > 0) break;
      if (i % 3 < 2) stream.destroy();
    }
  };
  const open = () => ({ threads: count('task'), files: count('fd') });
  const before = open();
  // A destroyed restore ends in the background, and the thread that read its file closes it.
  const settled = async () => {
    for (let i = 0; ; i++, await sleep(10)) {
      const now = open();
      if (now.threads <= before.threads && now.files <= before.files) return;
      assert.ok(i < 500, JSON.stringify({ before, now }));
    }
  };
  await some(150); // from here on the allocator has what it keeps
  await settled();
  const rss = process.memoryUsage().rss;
  await some(RESTORES);
  await settled();
  const grown = (process.memoryUsage().rss - rss) / MIB;
  t.diagnostic(`+${grown.toFixed(1)} MiB`);
  assert.ok(grown < 96, `${grown} MiB`);
});

test('a process exits on its own without close()', async (t) => {
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

test('after every call, nothing keeps a process alive, with or without close()', async (t) => {
  for (const end of ['await repo.close();', '']) {
    const { path } = await freshRepo(t, ENCRYPTED);
    const { code, out, seconds } = await script(`
      const before = process.getActiveResourcesInfo();
      const calls = { ${Object.entries(EVERY_CALL).map(([name, call]) => `${name}: ${call}`).join(', ')} };
      const keyCalls = { list: (repo) => repo.keys.list() };
      const { join } = require('node:path');
      (async () => {
        const repo = await ContainerArchive.open(${JSON.stringify(path)}, { passphrase: ${JSON.stringify(PASSPHRASE)} });
        for (const call of Object.values({ ...calls, ...keyCalls })) {
          const { id } = await repo.ingest(['x']);
          const signal = new AbortController().signal;
          await call(repo, { id, folder: ${JSON.stringify(temporary(t))} });
        }
        repo.on('warning', () => {});
        ${end}
        await new Promise((resolve) => setImmediate(resolve));
        const left = process.getActiveResourcesInfo();
        console.log(JSON.stringify({ before, left }));
      })();`);
    assert.equal(code, 0);
    const { left } = JSON.parse(out);
    // the output of this process itself may not be written yet
    assert.deepEqual(left.filter((name) => !/Pipe|TTY|FSReqCallback|Immediate/.test(name)), [], end || 'without close()');
    t.diagnostic(`${seconds.toFixed(1)} s`);
  }
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
  ['process.exit()', `setTimeout(() => process.exit(7), 300)`, { code: 7 }],
  ['an uncaught exception', `setTimeout(() => { throw new Error('expected by the test'); }, 300)`, { code: 1, quiet: true }],
  ['an unhandled rejection', `setTimeout(() => Promise.reject(new Error('expected by the test')), 300)`, { code: 1, quiet: true }],
  ['SIGTERM', '', { signal: 'SIGTERM' }],
  ['SIGINT', '', { signal: 'SIGINT' }],
  ['SIGKILL', '', { signal: 'SIGKILL' }],
]) {
  test(`${how} during an ingest ends the process at once, and the repository needs no manual step`, async (t) => {
    const { path } = await freshRepo(t);
    const ended = await script(`
      (async () => {
        const repo = await ContainerArchive.open(${JSON.stringify(path)});
        repo.ingest(${ENDLESS});
        ${source}
      })();`, options);
    assert.deepEqual([ended.code, ended.signal], [options.code ?? null, options.signal ?? null]);
    t.diagnostic(`${ended.seconds.toFixed(2)} s`);
    assert.ok(ended.seconds < 30);
    const repo = await reopen(t, path);
    assert.deepEqual(await repo.listSnapshots(), []);
    assert.ok((await repo.locks()).every(({ held }) => !held), 'no lock outlives its process');
    assert.deepEqual((await repo.verify({ level: 'full' })).errors, []);
    const bytes = random(3 * MIB, 63);
    const snapshot = await repo.ingest(bytes);
    assertSameBytes(await restored(repo, snapshot.id), bytes);
    assert.deepEqual(await repo.locks(), [], 'what it left is cleaned up');
    assert.deepEqual((await repo.verify({ level: 'full' })).errors, []);
  });
}

/** A worker that runs a script with `ContainerArchive`, `parentPort` and `workerData`. */
function worker(source, workerData) {
  return new Worker(
    `const { parentPort, workerData } = require('node:worker_threads');
     const { ContainerArchive } = require(${PACKAGE});
     (async () => {${source}})();`,
    { eval: true, workerData },
  );
}

/** The first message of a worker. */
const messageOf = (of) => new Promise((resolve, reject) => of.once('message', resolve).once('error', reject));

const CYCLES = DEEP ? 200 : 15;

for (const kind of [PLAIN, ENCRYPTED]) {
  test(`${kind.name}: ${CYCLES} workers that are terminated during ingest and restore do no harm, and their leases are released`, async (t) => {
    const { repo, path } = await freshRepo(t, kind);
    const bytes = random(6 * MIB, 64);
    const { id } = await repo.ingest(bytes);
    const waits = [];
    for (let cycle = 0; cycle < CYCLES; cycle++) {
      const busy = worker(
        `const { path, open, id, after } = workerData;
         const repo = await ContainerArchive.open(path, open);
         const stream = await repo.restore(id);
         stream.read();
         const options = after % 2 ? {} : { concurrency: 2 };
         const endless = async function* () {
           for (let n = 0; ; n++) { yield require('node:crypto').randomBytes(1 << 18); if (n === after) parentPort.postMessage('busy'); }
         };
         repo.ingestMulti([{ name: 'a', type: 'x', stream: endless() }, { name: 'b', type: 'x', stream: endless() }], options);`,
        { path, open: kind.open, id, after: cycle % 12 },
      );
      await messageOf(busy);
      await busy.terminate();
      const start = performance.now();
      while ((await repo.locks()).some(({ held }) => held)) {
        assert.ok(performance.now() - start < 30_000, 'a lease is still held');
        await sleep(5);
      }
      waits.push(performance.now() - start);
    }
    waits.sort((a, b) => a - b);
    t.diagnostic(`the lease was free after ${waits[waits.length >> 1].toFixed(0)} ms (median), ${waits.at(-1).toFixed(0)} ms (most)`);
    assert.deepEqual((await repo.listSnapshots()).map((snapshot) => snapshot.id), [id]);
    assertSameBytes(await restored(repo, id), bytes);
    assert.equal((await (await reopen(t, path, kind)).ingest(bytes)).newChunks, 0);
    assert.deepEqual((await repo.verify({ level: 'full' })).errors, []);
  });
}

test('four workers and the main thread use one repository concurrently', async (t) => {
  const { repo, path } = await freshRepo(t, ENCRYPTED);
  const workers = [0, 1, 2, 3].map((seed) => worker(
    `const { path, open, seed } = workerData;
     const repo = await ContainerArchive.open(path, open);
     const bytes = Buffer.alloc(3e6, seed);
     const ids = [];
     for (let i = 0; i < 3; i++) {
       bytes.writeUInt32LE(i, 1e6);
       const { id } = await repo.ingest([bytes]);
       const parts = [];
       for await (const part of await repo.restore(id)) parts.push(part);
       if (Buffer.compare(Buffer.concat(parts), bytes) !== 0) throw new Error('other bytes came back');
       ids.push(id);
     }
     await repo.close();
     parentPort.postMessage(ids);`,
    { path, open: ENCRYPTED.open, seed },
  ));
  const all = Promise.all(workers.map(messageOf));
  const mine = (await repo.ingest(random(3 * MIB, 65))).id;
  const ids = [mine, ...(await all).flat()].sort();
  assert.deepEqual((await repo.listSnapshots()).map(({ id }) => id).sort(), ids);
  assert.deepEqual((await repo.verify({ level: 'full' })).errors, []);
});

test('four workers use four repositories concurrently', async (t) => {
  const paths = [];
  for (let i = 0; i < 4; i++) paths.push((await freshRepo(t)).path);
  const sizes = await Promise.all(paths.map((path) => messageOf(worker(
    `const repo = await ContainerArchive.open(workerData);
     const { id } = await repo.ingest([Buffer.alloc(3e6, 1)]);
     let size = 0;
     for await (const part of await repo.restore(id)) size += part.length;
     await repo.close();
     parentPort.postMessage(size);`,
    path,
  ))));
  assert.deepEqual(sizes, [3e6, 3e6, 3e6, 3e6]);
});
