// Functions of the caller run in the AsyncLocalStorage context of the call that causes them, on
// every runtime: calls from the native side have no context here, as on Node 24 and later.

import assert from 'node:assert/strict';
import { AsyncLocalStorage } from 'node:async_hooks';
import { rmSync, statSync, truncateSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ContainerArchive, MIB, afterwards, freshRepo, random, repoFiles, restored, temporary, test } from './support/harness.mjs';

const require = createRequire(import.meta.url);
const native = require('../js/native.js');
const { Calls } = require('../js/context.js');

const storage = new AsyncLocalStorage();

/**
 * Makes the native side call functions without a context, whatever this runtime does.
 */
const outside = AsyncLocalStorage.snapshot();
const fromOutside = (args) => args.map((arg) => (typeof arg === 'function' ? (...given) => outside(arg, ...given) : arg));
for (const name of ['ingest', 'verify', 'prune', 'repair', 'restoreToFile']) {
  const call = native.NativeRepository.prototype[name];
  native.NativeRepository.prototype[name] = function (...args) {
    return call.apply(this, fromOutside(args));
  };
}
for (const name of ['init', 'open']) {
  const call = native[name];
  native[name] = (...args) => call(...fromOutside(args));
}

/** The functions that were called, each with its context. */
function observer() {
  const seen = {};
  const see = (what) => () => (seen[what] ??= new Set()).add(storage.getStore());
  return { seen, see };
}

test('progress and events have the context of their call', async (t) => {
  const { repo } = await freshRepo(t, undefined, { compression: { algorithm: 'zstd', level: 15 } });
  const { seen, see } = observer();
  for (const name of ['ingest', 'restore', 'prune', 'repair', 'verify']) repo.on(`${name}:progress`, see(`${name}:progress`));
  for (const name of ['ingest', 'restore', 'prune', 'repair']) repo.on(`${name}:complete`, see(`${name}:complete`));
  const call = (name, fn) => storage.run(name, () => fn({ onProgress: see(name) }));
  const source = async function* () {
    for (let i = 0; i < 8; i++) {
      yield random(MIB, i);
      await sleep(30);
    }
  };
  const { id } = await call('ingest', (options) => repo.ingest(source(), options));
  await call('restore', (options) => repo.restoreToFile(id, { ...options, path: join(temporary(t), 'file') }));
  await call('verify', (options) => repo.verify({ level: 'full', ...options }));
  await call('prune', (options) => repo.prune({ keepLast: 1 }, options));
  await call('repair', (options) => repo.repair(options));
  for (const name of ['ingest', 'restore', 'prune', 'repair', 'verify']) {
    for (const what of [name, `${name}:progress`, `${name}:complete`]) {
      if (what !== 'verify:complete') assert.deepEqual([...seen[what] ?? []], [name], what);
    }
  }
});

test('problems that verify reports have its context, also with several calls at once', async (t) => {
  const { repo, path } = await freshRepo(t);
  await repo.ingest(random(MIB, 1));
  for (const pack of repoFiles(path, /^packs\/data\/.*\.pack$/)) truncateSync(pack, 100);
  const problems = [];
  repo.on('verify:error', ({ operationId }) => problems.push([operationId, storage.getStore()]));
  await Promise.all(['a', 'b'].map((name) => storage.run(name, () => repo.verify())));
  assert.deepEqual([...new Set(problems.map(([, context]) => context))].sort(), ['a', 'b']);
  const contexts = new Map(problems);
  for (const [operation, context] of problems) assert.equal(contexts.get(operation), context);
});

test('a warning has the context of the running call, one of open() that of open(), whenever it is delivered', async (t) => {
  const { repo, path } = await freshRepo(t);
  const { id } = await repo.ingest(random(MIB, 2));
  await repo.close();
  for (const segment of repoFiles(path, /^index\//)) truncateSync(segment, 100);
  const opened = await storage.run('open', () => ContainerArchive.open(path));
  afterwards(t, () => opened.close());
  const contexts = await new Promise((resolve) => {
    const seen = [];
    storage.run('listener', () => opened.on('warning', () => resolve(seen.concat(storage.getStore()))));
  });
  assert.deepEqual(contexts, ['open']);

  // the pack with the data, not the one with the copies of the manifest
  const packs = repoFiles(path, /^packs\/data\/.*\.pack$/).sort((a, b) => statSync(b).size - statSync(a).size);
  rmSync(packs[0]);
  const healed = new Promise((resolve) => opened.on('repair:healed', () => resolve(storage.getStore())));
  await storage.run('restore', () => restored(opened, id));
  assert.equal(await healed, 'restore');
});

test('with several calls at once, a warning has the context of open()', () => {
  const calls = storage.run('open', () => new Calls());
  const seen = () => {
    let context;
    calls.run(() => (context = storage.getStore()));
    return context;
  };
  assert.equal(seen(), 'open');
  const [a, b] = ['a', 'b'].map((name) => storage.run(name, () => calls.begin()));
  assert.equal(seen(), 'open');
  a();
  assert.equal(seen(), 'b');
  b();
  assert.equal(seen(), 'open');
});
