// Aborts at random instants of every long call. The promise rejects soon, with the signal's reason;
// nothing incomplete can be seen, then or later; the next call works. CI: some instants of each
// call. Deep: 100.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { getEventListeners } from 'node:events';
import { createRequire } from 'node:module';
import { closeSync, existsSync, openSync, readSync, readdirSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { basename, join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  ContainerArchive, DEEP, ENCRYPTED, KIB, MIB, PASSPHRASE, PLAIN, assertSameBytes, compressible, freshRepo, pieces, random, reopen,
  repoFiles, restored, temporary, test,
} from './support/harness.mjs';

const { abortable } = createRequire(import.meta.url)('../js/stop.js');

const INSTANTS = DEEP ? 100 : 8;
/** No call may take longer to reject, however busy the machine. The diagnostics report the time. */
const LATEST_MS = 5000;
const SEED = 20261123;

/** xorshift32 (Marsaglia 2003), from 0 to 1. */
function randomNumbers(seed) {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

const LARGE = DEEP ? 32 * MIB : 8 * MIB;
const SMALL = DEEP ? 8 * MIB : 2 * MIB;
/** Many packs, so that checking them takes some time. */
const MANY_PACKS = { size: SMALL, packSize: 64 * KIB, chunking: { min: 4 * KIB, avg: 16 * KIB, max: 64 * KIB } };
/** The default costs of a key, explicit because those of the tests are lower. */
const REAL_KDF = { memory: 65_536, time: 3, lanes: 4 };
const SNAPSHOT_PATTERN = /^snapshots\//;

/** After so many aborts, what aborted repairs have left is repaired. */
const HEALED_EACH = 8;

/**
 * Changes a byte of a pack. Those of successive packs are in different rows of the parity, which
 * can therefore recover all of them.
 */
function damageOnePack(path, number) {
  const packs = repoFiles(path, /^packs\/data\/.*\.pack$/).filter((pack) => statSync(pack).size > 60 * KIB);
  const fd = openSync(packs[number % packs.length], 'r+');
  const byte = Buffer.alloc(1);
  const at = 100 + (number % HEALED_EACH) * 4 * KIB;
  readSync(fd, byte, 0, 1, at);
  byte[0] ^= 1;
  writeSync(fd, byte, 0, 1, at);
  closeSync(fd);
}

const CAT = [process.execPath, '-e', 'fs.createReadStream(process.argv[1]).pipe(process.stdout)'];

/**
 * The long calls: `call(repo, signal, context)` returns a promise, `prepare` creates work for it,
 * `init` is for the repository, with the `size` of what is in it. `publishes`: one that ended
 * before the abort has created a snapshot. `left` checks what an aborted one has left.
 */
const CALLS = {
  ingest: {
    publishes: true,
    call: (repo, signal, { fresh }) => repo.ingest(Readable.from(pieces(fresh(), 256 * KIB)), { signal }),
  },
  'ingest, compressed hard': {
    publishes: true,
    init: { size: DEEP ? 4 * MIB : 2 * MIB },
    call: (repo, signal, { size, seed }) => repo.ingest(compressible(size, seed()), { signal, compression: { algorithm: 'zstd', level: 19 } }),
  },
  'ingest of a path': {
    publishes: true,
    call: (repo, signal, { fresh, file }) => {
      writeFileSync(file, fresh());
      return repo.ingest({ path: file }, { signal });
    },
  },
  'ingestMulti, three at once': {
    publishes: true,
    call: (repo, signal, { fresh, file }) => {
      const bytes = fresh();
      writeFileSync(file, bytes.subarray(0, MIB));
      return repo.ingestMulti([
        { name: 'path', type: 'x', stream: { path: file } },
        { name: 'stream', type: 'x', stream: Readable.from(pieces(bytes.subarray(MIB, LARGE / 2), 64 * KIB)) },
        { name: 'bytes', type: 'x', stream: bytes.subarray(LARGE / 2) },
      ], { signal, concurrency: 3 });
    },
  },
  ingestCommand: {
    publishes: true,
    call: (repo, signal, { fresh, file }) => {
      writeFileSync(file, fresh());
      return repo.ingestCommand({ command: [...CAT, file], name: 'x' }, { signal });
    },
  },
  restore: {
    // a stream can only be destroyed with an Error
    reasonOf: (error) => (error.code === 'ABORT_ERR' && error.cause !== undefined ? error.cause : error),
    call: async (repo, signal, { id }) => pipeline(await repo.restore(id, { signal }), new PassThrough().resume()),
  },
  restoreToFile: {
    call: (repo, signal, { id, file }) => repo.restoreToFile(id, { path: file, overwrite: true, signal }),
    left: async ({ folder, file, bytes }) => {
      const temporaries = () => readdirSync(folder).filter((name) => name !== 'file');
      // the abort does not wait for a slow flush
      for (let i = 0; i < 500 && temporaries().length > 0; i++) await sleep(10);
      assert.deepEqual(temporaries(), [], 'no temporary file');
      if (existsSync(file)) assert.equal(statSync(file).size, bytes.length, 'complete, of an earlier call');
    },
  },
  verify: { init: MANY_PACKS, call: (repo, signal) => repo.verify({ level: 'full', signal }) },
  stats: { init: MANY_PACKS, call: (repo, signal) => repo.stats({ signal }) },
  report: { init: MANY_PACKS, call: (repo, signal) => repo.report({ policy: { keepLast: 1 }, signal }) },
  repair: {
    init: MANY_PACKS,
    prepare: async (repo, { path, number }) => {
      if (number % HEALED_EACH === 0) await repo.repair();
      damageOnePack(path, number);
    },
    call: (repo, signal) => repo.repair({ signal }),
    end: (repo) => repo.repair(),
  },
  reindex: { init: MANY_PACKS, call: (repo, signal) => repo.reindex({ signal }) },
  planPrune: { init: MANY_PACKS, call: (repo, signal) => repo.planPrune({ keepLast: 1 }, { signal }) },
  prune: {
    init: MANY_PACKS,
    prepare: async (repo, { fresh }) => { await repo.ingest(fresh()); },
    call: (repo, signal) => repo.prune({ keepLast: 1, keepTags: [{ keep: 'yes' }] }, { signal }),
  },
  'keys.add': {
    encryptedOnly: true,
    init: { size: MIB },
    call: async (repo, signal, context) => {
      const { id } = await repo.keys.add({ passphrase: 'another', kdf: REAL_KDF, signal });
      await repo.keys.remove(id);
      context.added = true;
    },
    left: async (context, repo) => assert.equal((await repo.keys.list()).length, 1, 'no key more'),
  },
  'keys.change': {
    encryptedOnly: true,
    init: { size: MIB },
    call: (repo, signal) => repo.keys.change({ passphrase: PASSPHRASE, kdf: REAL_KDF, signal }),
    left: async (context, repo) => assert.equal((await repo.keys.list()).length, 1, 'one key, the old or the new one'),
  },
  init: {
    encryptedOnly: true,
    init: { size: MIB },
    call: async (repo, signal, { folder, seed }) => {
      const path = join(folder, `repo ${seed()}`);
      await (await ContainerArchive.init(path, { passphrase: PASSPHRASE, kdf: REAL_KDF, signal })).close();
    },
    left: ({ folder }) => {
      for (const name of readdirSync(folder)) assert.ok(existsSync(join(folder, name, 'config.json')), 'a repository or nothing');
    },
  },
  open: {
    encryptedOnly: true,
    init: { size: MIB, kdf: REAL_KDF },
    call: async (repo, signal, { path }) => (await ContainerArchive.open(path, { passphrase: PASSPHRASE, signal })).close(),
  },
};

const REASONS = [undefined, new Error('enough'), 'a string'];

/**
 * Makes a call and aborts it after some milliseconds. Returns how long the rejection took, or null
 * when the call had ended before.
 */
async function abortedAfter(ms, reason, reasonOf, call) {
  const controller = new AbortController();
  let abortedAt = null;
  const timer = setTimeout(() => {
    abortedAt = performance.now();
    controller.abort(reason);
  }, ms);
  try {
    await call(controller.signal);
    return null;
  } catch (error) {
    assert.ok(controller.signal.aborted && reasonOf(error) === controller.signal.reason, error?.stack ?? String(error));
    return performance.now() - abortedAt;
  } finally {
    clearTimeout(timer);
  }
}

/** The whole test for one of CALLS on one kind of repository. */
async function abortAtRandomInstants(t, kind, name, { call, prepare, left, end, publishes, reasonOf = (error) => error, init = {} }) {
  const { size = LARGE, ...initOptions } = init;
  const { repo, path } = await freshRepo(t, kind, { compression: 'zstd', ...initOptions });
  const folder = temporary(t);
  const bytes = random(size, 100);
  const { id } = await repo.ingest(bytes, { tags: { keep: 'yes' } });
  let next = 200;
  const seed = () => next++;
  const context = { path, id, folder, bytes, size, file: join(folder, 'file'), number: 0, seed, fresh: () => random(size, seed()) };

  // how long it takes without an abort, after everything it needs is loaded
  let whole = Infinity;
  for (let i = 0; i < 2; i++) {
    await prepare?.(repo, context);
    const start = performance.now();
    await call(repo, undefined, context);
    whole = Math.min(whole, performance.now() - start);
  }

  const numbers = randomNumbers(SEED);
  const latencies = [];
  let slowestNext = 0;
  for (let i = 0; i < INSTANTS; i++) {
    context.number = i;
    await prepare?.(repo, context);
    const listed = () => repoFiles(path, SNAPSHOT_PATTERN).map((file) => basename(file));
    const before = listed().length;
    const took = await abortedAfter(numbers() * whole, REASONS[i % 3], reasonOf, (signal) => call(repo, signal, context));
    if (took !== null) latencies.push(took);
    const seen = listed();
    if (publishes) assert.equal(seen.length, before + (took === null ? 1 : 0), `seed ${SEED}, instant ${i}`);
    await left?.(context, repo);
    // the repository is usable at once, and no event follows
    const start = performance.now();
    const small = await repo.ingest([`small ${i}`]);
    slowestNext = Math.max(slowestNext, performance.now() - start);
    assert.equal((await restored(repo, small.id)).toString(), `small ${i}`);
    await repo.unlock(); // waits for what still runs
    assert.deepEqual(listed(), [...seen, `${small.id}.json`].sort(), `later: seed ${SEED}, instant ${i}`);
  }
  latencies.sort((a, b) => a - b);
  const median = latencies[latencies.length >> 1];
  t.diagnostic(`${name}: the whole call ${whole.toFixed(0)} ms; ${latencies.length} aborted, ${INSTANTS - latencies.length} ended before; ` +
    `rejected after ${median?.toFixed(1)} ms (median), ${latencies.at(-1)?.toFixed(1)} ms (most); the next ingest took at most ${slowestNext.toFixed(0)} ms`);
  assert.ok(latencies.every((ms) => ms < LATEST_MS));
  await end?.(repo);
  assertSameBytes(await restored(repo, id), bytes);
  assert.deepEqual((await repo.verify({ level: 'full' })).errors, []);
  assert.ok((await repo.locks()).every(({ held }) => !held));
}

/** What encryption can change, compared with a plain repository. */
const ENCRYPTED_TOO = ['ingest', 'restore', 'prune'];

for (const kind of [PLAIN, ENCRYPTED]) {
  for (const [name, long] of Object.entries(CALLS)) {
    if (kind === PLAIN ? long.encryptedOnly : !long.encryptedOnly && !DEEP && !ENCRYPTED_TOO.includes(name)) continue;
    test(`${kind.name}: ${name}: aborted at ${INSTANTS} random instants`, (t) => abortAtRandomInstants(t, kind, name, long));
  }
}

for (const kind of [PLAIN, ENCRYPTED]) {
  test(`${kind.name}: a retry reuses what an aborted ingest had read, also on a new handle after close()`, async (t) => {
    for (const closes of [false, true]) {
      const { repo, path } = await freshRepo(t, kind);
      const bytes = random(24 * MIB, 300);
      const controller = new AbortController();
      const source = async function* () {
        yield* pieces(bytes, MIB);
        controller.abort();
        await new Promise(() => {});
      };
      await assert.rejects(repo.ingest(source(), { signal: controller.signal }), { name: 'AbortError' });
      if (closes) await repo.close();
      const { chunkCount, newChunks } = await (closes ? await reopen(t, path, kind) : repo).ingest(bytes);
      t.diagnostic(`${newChunks} of ${chunkCount} chunks new`);
      // at most 8 MiB were not stored yet; and close() does not wait for what was read and is not
      // stored
      assert.ok(newChunks < (closes ? 1 : 0.5) * chunkCount, `${newChunks} of ${chunkCount} chunks new`);
    }
  });
}

test('an abort is too late once the snapshot is being published, and in time before: never both', async (t) => {
  const { repo } = await freshRepo(t);
  for (let i = 0; i < (DEEP ? 500 : 60); i++) {
    const before = (await repo.listSnapshots()).length;
    const controller = new AbortController();
    const commitWhen = () => { setTimeout(() => controller.abort(), i % 6); };
    const made = await repo.ingest([`data ${i}`], { signal: controller.signal, commitWhen }).then(() => 1, (error) => {
      assert.equal(error, controller.signal.reason);
      return 0;
    });
    assert.equal((await repo.listSnapshots()).length, before + made);
    await repo.unlock(); // waits for what still runs of it
    assert.equal((await repo.listSnapshots()).length, before + made);
  }
});

test('prune, repair, unlock and close() wait for what an aborted ingest still stores', async (t) => {
  const { repo } = await freshRepo(t);
  const aborted = async () => {
    const controller = new AbortController();
    const source = async function* () {
      yield* pieces(compressible(6 * MIB, 301), MIB);
      controller.abort();
      await new Promise(() => {});
    };
    const options = { signal: controller.signal, compression: { algorithm: 'zstd', level: 19 } };
    await assert.rejects(repo.ingest(source(), options), { name: 'AbortError' });
  };
  for (const next of [() => repo.prune({ keepLast: 1 }), () => repo.repair(), () => repo.unlock(), () => repo.close()]) {
    await aborted();
    await next();
    if (next.toString().includes('close')) break;
    assert.deepEqual(await repo.locks(), []);
  }
});

test('a signal that is aborted beforehand ends init, open and keys.add before they ask for a passphrase', async (t) => {
  const { repo, path } = await freshRepo(t, ENCRYPTED);
  const signal = AbortSignal.abort();
  const passphrase = () => assert.fail('a passphrase was asked for');
  const elsewhere = join(temporary(t), 'repo');
  for (const call of [
    () => ContainerArchive.init(elsewhere, { passphrase, signal }),
    () => ContainerArchive.openOrInit(elsewhere, { passphrase, signal }),
    () => ContainerArchive.open(path, { passphrase, signal }),
    () => repo.keys.add({ passphrase, signal }),
    () => repo.keys.change({ passphrase, signal }),
  ]) {
    await assert.rejects(call(), (error) => error === signal.reason);
  }
  assert.ok(!existsSync(elsewhere));
});

test('a pending passphrase does not delay an abort', async (t) => {
  const { repo, path } = await freshRepo(t, ENCRYPTED);
  for (const call of [
    (options) => ContainerArchive.open(path, options),
    (options) => repo.keys.add(options),
  ]) {
    const controller = new AbortController();
    const passphrase = () => { setTimeout(() => controller.abort(new Error('enough')), 5); return new Promise(() => {}); };
    await assert.rejects(call({ passphrase, signal: controller.signal }), /enough/);
  }
});

test('AbortSignal.timeout() and AbortSignal.any() work too', async (t) => {
  const { repo } = await freshRepo(t);
  const never = () => (async function* () { yield 'x'; await new Promise(() => {}); })();
  await assert.rejects(repo.ingest(never(), { signal: AbortSignal.timeout(20) }), { name: 'TimeoutError' });
  if (!AbortSignal.any) return;
  const reason = new Error('one of them');
  const controller = new AbortController();
  const signal = AbortSignal.any([AbortSignal.timeout(60_000), controller.signal]);
  const running = assert.rejects(repo.ingest(never(), { signal }), (error) => error === reason);
  controller.abort(reason);
  await running;
  assert.deepEqual(await repo.listSnapshots(), []);
});

test('one signal for all calls has no listener left after they have ended', async (t) => {
  const { repo, path } = await freshRepo(t, ENCRYPTED);
  const controller = new AbortController();
  const { signal } = controller;
  const file = join(temporary(t), 'file');
  const source = () => pieces(random(MIB, 302), 256 * KIB);
  const { id } = await repo.ingest(source(), { signal });
  const calls = [
    () => repo.ingest(source(), { signal }),
    () => repo.ingestMulti([{ name: 'a', type: 'x', stream: source() }], { signal }),
    () => repo.ingest((function* () { throw new Error('boom'); })(), { signal }),
    async () => pipeline(await repo.restore(id, { signal }), new PassThrough().resume()),
    async () => (await repo.restore(id, { signal })).destroy(),
    () => repo.restoreToFile(id, { path: file, overwrite: true, signal }),
    () => repo.restoreToFile(id, { path: file, signal }),
    () => repo.verify({ signal }), () => repo.stats({ signal }), () => repo.report({ policy: { keepLast: 1 }, signal }),
    () => repo.repair({ signal }), () => repo.reindex({ signal }),
    () => repo.prune({ keepLast: 1000 }, { signal }), () => repo.planPrune({ keepLast: 1000 }, { signal }),
    async () => (await ContainerArchive.open(path, { ...ENCRYPTED.open, signal })).close(),
    () => ContainerArchive.open(path, { passphrase: 'another', signal }),
    () => repo.keys.change({ ...ENCRYPTED.open, kdf: ENCRYPTED.init.kdf, signal }),
  ];
  for (const call of calls) {
    await call().catch(() => {});
    await new Promise((resolve) => setImmediate(resolve)); // a stream that is destroyed closes on the next tick
    assert.equal(getEventListeners(signal, 'abort').length, 0, call.toString());
  }
  controller.abort(); // affects no call
  assert.equal((await repo.listSnapshots()).length, 3);
});

test('a change of keys waits for an aborted prune, repair or reindex, and not for a restore into a file', async (t) => {
  const { size, ...options } = MANY_PACKS;
  const { repo, path } = await freshRepo(t, ENCRYPTED, options);
  await repo.ingest(random(size, 302));
  const hasty = await reopen(t, path, ENCRYPTED, { lockWaitMs: 0 });
  const file = join(temporary(t), 'file');
  for (const call of [
    (signal) => hasty.prune({ keepLast: 1 }, { signal }),
    (signal) => hasty.repair({ signal }),
    (signal) => hasty.reindex({ signal }),
    (signal) => hasty.restoreToFile('latest', { path: file, overwrite: true, signal }),
  ]) {
    const controller = new AbortController();
    const ended = call(controller.signal).catch((error) => assert.equal(error, controller.signal.reason));
    await sleep(2);
    controller.abort();
    await ended;
    const { id } = await hasty.keys.add({ key: randomBytes(32) });
    await hasty.keys.remove(id);
  }
});

test('an abort waits a short time for a call that cleans up', async () => {
  const abort = (promise, signal, stop) => abortable(promise, signal, { patience: 30, stop });
  const kept = AbortSignal.abort('enough');
  assert.equal(await abort(sleep(1, 'in time'), kept), 'in time');
  await assert.rejects(abort(sleep(1).then(() => { throw new Error('its own'); }), kept), { message: 'its own' });
  const late = sleep(500, 'late');
  assert.equal(await abort(late, kept).catch((reason) => reason), 'enough');
  // an abort waits for the end of a call that is making a change
  assert.equal(await abort(late, kept, () => false), 'late');
});
