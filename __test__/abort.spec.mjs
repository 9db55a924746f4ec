// Aborts at random instants of every long call. The promise rejects with the signal's reason and soon; nothing half-done can
// be seen; the next call works. CI: a part of the instants. Deep: 100 of each call.

import assert from 'node:assert/strict';
import { closeSync, openSync, readSync, readdirSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import {
  DEEP, ENCRYPTED, KIB, MIB, PLAIN, assertSameBytes, freshRepo, pieces, random, repoFiles, restored, temporary, test,
} from './support/harness.mjs';

const INSTANTS = DEEP ? 100 : 8;
/** No call may take longer to reject, on a machine however busy. What it takes is told in the diagnostics. */
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

const LARGE = DEEP ? 48 * MIB : 16 * MIB;
const SMALL = DEEP ? 16 * MIB : 2 * MIB;

/** A byte of a pack, changed: of those in a row, each in another row of the parity, which so can bring back all of them. */
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
/** After so many, what aborted repairs have left is repaired. */
const HEALED_EACH = 8;

/** Many packs, so that it takes a while to look at them. */
const MANY_PACKS = { size: SMALL, packSize: 64 * KIB, chunking: { min: 4 * KIB, avg: 16 * KIB, max: 64 * KIB } };

/**
 * The long calls: `call(repo, signal, context)` gives a promise, `prepare` makes work for it, `init` is for the repository,
 * with the `size` of what is in it. `mayPublish`: one that was done
 * before the abort has made a snapshot.
 */
const calls = {
  ingest: {
    mayPublish: true,
    call: (repo, signal, { fresh }) => repo.ingest(Readable.from(pieces(fresh(), 256 * KIB)), { signal }),
  },
  'ingest of a path': {
    mayPublish: true,
    call: (repo, signal, { fresh, file }) => {
      writeFileSync(file, fresh());
      return repo.ingest({ path: file }, { signal });
    },
  },
  'ingestMulti, three at once': {
    mayPublish: true,
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
    mayPublish: true,
    call: (repo, signal, { fresh, file }) => {
      writeFileSync(file, fresh());
      return repo.ingestCommand({ command: [process.execPath, '-e', 'fs.createReadStream(process.argv[1]).pipe(process.stdout)', file], name: 'x' }, { signal });
    },
  },
  restore: {
    call: async (repo, signal, { id }) => pipeline(await repo.restore(id, { signal }), new PassThrough().resume()),
  },
  restoreToFile: {
    call: (repo, signal, { id, file }) => repo.restoreToFile(id, { path: file, overwrite: true, signal }),
  },
  verify: { init: MANY_PACKS, call: (repo, signal) => repo.verify({ level: 'full', signal }) },
  repair: {
    init: MANY_PACKS,
    prepare: async (repo, { path, number }) => {
      if (number % HEALED_EACH === 0) await repo.repair();
      damageOnePack(path, number);
    },
    call: (repo, signal) => repo.repair({ signal }),
  },
  reindex: { init: MANY_PACKS, call: (repo, signal) => repo.reindex({ signal }) },
  prune: {
    init: MANY_PACKS,
    prepare: async (repo, { fresh }) => { await repo.ingest(fresh()); },
    call: (repo, signal) => repo.prune({ keepLast: 1, keepTags: [{ keep: 'yes' }] }, { signal }),
  },
};

for (const kind of [PLAIN, ENCRYPTED]) {
  for (const [name, { call, prepare, mayPublish, init = {} }] of Object.entries(calls)) {
    // what encryption cannot change, only deep
    if (kind === ENCRYPTED && !DEEP && !['ingest', 'restore', 'prune'].includes(name)) continue;
    test(`${kind.name}: ${name}: aborted at ${INSTANTS} random instants`, async (t) => {
      const { size = LARGE, ...initOptions } = init;
      const { repo, path } = await freshRepo(t, kind, { compression: 'zstd', ...initOptions });
      const folder = temporary(t);
      const bytes = random(size, 100);
      const { id } = await repo.ingest(bytes, { tags: { keep: 'yes' } });
      let seed = 200;
      const context = {
        path, id, file: join(folder, 'file'), number: 0,
        fresh: () => random(size, seed++),
      };
      const ids = async () => (await repo.listSnapshots()).map((snapshot) => snapshot.id);

      // How long it takes when nobody aborts it, once what is needed for it is loaded.
      let whole;
      for (context.number = 0; context.number < 2; context.number++) {
        await prepare?.(repo, context);
        const start = performance.now();
        await call(repo, undefined, context);
        whole = performance.now() - start;
      }

      const next = randomNumbers(SEED);
      const latencies = [];
      let completed = 0;
      for (let i = 0; i < INSTANTS; i++) {
        context.number = i;
        await prepare?.(repo, context);
        const before = await ids();
        const controller = new AbortController();
        const reason = i % 3 === 0 ? undefined : i % 3 === 1 ? new Error('enough') : 'a string';
        let abortedAt = null;
        const timer = setTimeout(() => { abortedAt = performance.now(); controller.abort(reason); }, next() * whole);
        let rejected = true;
        try {
          await call(repo, controller.signal, context);
          rejected = false;
        } catch (error) {
          const { reason: expected } = controller.signal;
          // A stream can be destroyed with an Error only.
          assert.ok(error === expected || (name === 'restore' && error.code === 'ABORT_ERR' && error.cause === expected), error?.stack);
          latencies.push(performance.now() - abortedAt);
        }
        clearTimeout(timer);
        completed += rejected ? 0 : 1;
        const after = await ids();
        if (mayPublish) assert.equal(after.length, before.length + (rejected ? 0 : 1), `seed ${SEED}, instant ${i}`);
        if (name === 'restoreToFile') assert.deepEqual(readdirSync(folder).filter((file) => file !== 'file'), [], 'no temporary file');
        if (name === 'restoreToFile' && !rejected) assert.equal(statSync(context.file).size, size);
        // The repository is usable at once.
        const small = await repo.ingest([`small ${i}`]);
        assert.equal((await restored(repo, small.id)).toString(), `small ${i}`);
      }
      latencies.sort((a, b) => a - b);
      const at = (share) => latencies[Math.floor(latencies.length * share)]?.toFixed(0);
      t.diagnostic(`${name}: the whole call ${whole.toFixed(0)} ms; ${latencies.length} aborted, ${completed} done before; ` +
        `rejected after ${at(0.5)} ms (median), ${latencies.at(-1)?.toFixed(0)} ms (most)`);
      assert.ok(latencies.every((ms) => ms < LATEST_MS));
      if (name === 'repair') await repo.repair();
      assertSameBytes(await restored(repo, id), bytes);
      assert.deepEqual((await repo.verify({ level: 'full' })).errors, []);
    });
  }
}
