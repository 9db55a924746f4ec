// Limits of the process: memory of many concurrent operations, the queue of ingests, open files,
// and lack of threads.

import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import {
  CHEAP_KDF, ContainerArchive, ENCRYPTED, MIB, PASSPHRASE, PLAIN, assertSameBytes, freshRepo, random, rejectsWith, reopen, restored, root,
  temporary, test,
} from './support/harness.mjs';

const run = promisify(execFile);
const LINUX = { skip: process.platform !== 'linux' && 'SKIPPED: needs /proc' };

async function child(t, input, kind = PLAIN) {
  const path = join(temporary(t), 'repo');
  const args = [join(root, '__test__/support/limits-child.mjs'), JSON.stringify({ path, options: kind.init, open: kind.open, ...input })];
  const { stdout } = await run(process.execPath, args);
  const result = JSON.parse(stdout);
  t.diagnostic(JSON.stringify(result));
  return result;
}

for (const kind of [PLAIN, ENCRYPTED]) {
  test(`${kind.name}: 80 concurrent ingests wait for each other, and stay within the memory limit`, async (t) => {
    const { grown, snapshots, phases } = await child(t, { what: 'ingests', count: 80, memoryLimit: 64 * MIB }, kind);
    assert.equal(snapshots, 80);
    assert.deepEqual(phases, ['running', 'waiting']);
    assert.ok(grown < 350, `${grown} MiB`);
  });
}

test('60 restores that are not read yet stay within the memory limit', async (t) => {
  const { grown, whole } = await child(t, { what: 'restores', count: 60, memoryLimit: 64 * MIB });
  assert.ok(whole);
  assert.ok(grown < 200, `${grown} MiB`);
});

test('24 concurrent openings share the memory for key derivations', async (t) => {
  const kdf = { memory: 65_536, time: 2, lanes: 4 };
  const kind = { ...ENCRYPTED, init: { ...ENCRYPTED.init, kdf } };
  const { grown } = await child(t, { what: 'opens', count: 24 }, kind);
  // 1,536 MiB if all of them derived concurrently
  assert.ok(grown < 700, `${grown} MiB`);
});

test('3,000 files in one ingest need few descriptors', async (t) => {
  const { most, items } = await child(t, { what: 'files', count: 3000 });
  assert.equal(items, 3000);
  assert.ok(most < 100, `${most} descriptors`);
}, LINUX);

/**
 * An ingest whose source produces one byte and then waits: { done, end() }, once that byte was
 * read.
 */
async function stalled(repo) {
  let end;
  const gate = new Promise((resolve) => { end = resolve; });
  let taken;
  const begun = new Promise((resolve) => { taken = resolve; });
  const source = async function* () {
    yield 'x';
    taken();
    await gate;
  };
  const done = repo.ingest(source());
  // awaited later
  done.catch(() => {});
  await begun;
  return { done, end };
}

/** A handle with the smallest limit, two ingests that run on it, and the end of these. */
async function fullHandle(t) {
  const { repo } = await freshRepo(t, PLAIN, { memoryLimit: 1 });
  const running = [await stalled(repo), await stalled(repo)];
  const end = async () => {
    for (const { end } of running) end();
    await Promise.all(running.map(({ done }) => done));
  };
  return { repo, running, end };
}

/**
 * An ingest of one byte that has to wait: { done, phases, wasRead() }, once it has reported that.
 */
async function waiting(repo, options = {}) {
  const phases = [];
  let read = false;
  const source = async function* () {
    read = true;
    yield 'y';
  };
  let done;
  await new Promise((resolve) => {
    const onProgress = ({ phase }) => {
      phases.push(phase);
      if (phase === 'waiting') resolve();
    };
    done = repo.ingest(source(), { onProgress, ...options });
    done.catch(() => {});
  });
  return { done, phases, wasRead: () => read };
}

test('a waiting ingest reports it, does not read its source, and begins when there is memory', async (t) => {
  const { repo, end } = await fullHandle(t);
  const { done, phases, wasRead } = await waiting(repo);
  assert.equal(wasRead(), false);
  // other operations do not wait
  assert.deepEqual(await repo.listSnapshots(), []);
  assert.equal((await repo.verify()).ok, true);
  await repo.prune({ keepLast: 1 });
  await end();
  const { id } = await done;
  assert.equal(String(await restored(repo, id)), 'y');
  assert.equal(phases[0], 'waiting');
  assert.equal(phases.at(-1), 'running');
});

test('a waiting ingest ends when its signal aborts, and when the handle is closed', async (t) => {
  const { repo, running } = await fullHandle(t);
  const controller = new AbortController();
  const first = await waiting(repo, { signal: controller.signal });
  const second = await waiting(repo);
  const reason = new Error('not wanted');
  controller.abort(reason);
  await assert.rejects(first.done, (error) => error === reason);
  const closed = repo.close();
  await rejectsWith(second.done, 'ERR_CLOSED');
  for (const { done } of running) await rejectsWith(done, 'ERR_CLOSED');
  await closed;
  assert.ok(!first.wasRead() && !second.wasRead());
});

test('ingest(await restore()) completes at the smallest limit, any number of times, concurrently with all other calls', async (t) => {
  const { repo } = await freshRepo(t, ENCRYPTED, { memoryLimit: 1 });
  const bytes = random(MIB, 210);
  const { id } = await repo.ingest(bytes);
  const copy = async () => (await repo.ingest(await repo.restore(id))).id;
  const copies = Array.from({ length: 6 }, copy);
  const several = repo.ingestMulti(
    await Promise.all(['a', 'b', 'c'].map(async (name) => ({ name, type: 'x', stream: await repo.restore(id) }))),
    { concurrency: 3 },
  );
  const nested = repo.ingest(random(1000, 211), { commitWhen: () => repo.verify() });
  const [verified, ...ids] = await Promise.all([repo.verify({ level: 'full' }), ...copies]);
  assert.equal(verified.ok, true);
  for (const copied of ids) assertSameBytes(await restored(repo, copied), bytes);
  assert.equal((await several).items.length, 3);
  await nested;
  await repo.prune({ keepLast: 3 });
});

test('an ingest may wait for another one of its handle at the smallest limit', async (t) => {
  const { repo } = await freshRepo(t, PLAIN, { memoryLimit: 1 });
  let inner;
  const outer = await repo.ingest(['outer'], { commitWhen: async () => { inner = await repo.ingest(['inner']); } });
  assert.notEqual(inner.id, outer.id);
});

// ---- without threads

/**
 * A control group that this process may limit, { base, folder }, or why there is none, { reason }.
 */
function pidsGroup() {
  const base = ['/sys/fs/cgroup/pids', '/sys/fs/cgroup'].find((folder) => existsSync(join(folder, 'cgroup.procs')));
  if (process.platform !== 'linux' || base === undefined) return { reason: 'no control groups' };
  const folder = join(base, `containerarchive-test-${process.pid}`);
  try {
    mkdirSync(folder);
  } catch (error) {
    return { reason: `no control group can be made: ${error.code}` };
  }
  if (existsSync(join(folder, 'pids.max'))) return { base, folder };
  rmdirSync(folder);
  return { reason: 'no limit of processes' };
}

test('a lack of threads is ERR_NO_THREADS, and everything works again afterwards', async (t) => {
  const { base, folder, reason } = pidsGroup();
  if (reason) return t.skip(`SKIPPED: ${reason} (needs root and the pids controller)`);
  const { repo, path } = await freshRepo(t, ENCRYPTED);
  const { id } = await repo.ingest(random(MIB, 212));
  const closing = await reopen(t, path, ENCRYPTED);
  // Node starts the threads of its own pool with the first call, and ends the process when there
  // are none.
  await Promise.all(Array.from({ length: 8 }, () => stat(path)));
  const enter = (at) => writeFileSync(join(at, 'cgroup.procs'), String(process.pid));
  const limit = (most) => writeFileSync(join(folder, 'pids.max'), String(most));
  const options = { passphrase: PASSPHRASE };
  enter(folder);
  try {
    // fewer than are running
    limit(1);
    const calls = [
      () => ContainerArchive.open(path, options), () => ContainerArchive.init(`${path}2`, { ...options, kdf: CHEAP_KDF }),
      () => repo.ingest(['x']), () => repo.listSnapshots(), () => repo.verify(), () => repo.prune({ keepLast: 1 }),
      () => repo.keys.add({ passphrase: 'y', kdf: CHEAP_KDF }), () => repo.restore(id),
    ];
    for (const call of calls) {
      const error = await rejectsWith(call(), 'ERR_NO_THREADS');
      assert.equal(error.retryable, true);
    }
    // close() needs no thread
    await closing.close();
    // One for the call, none for the derivation; two when a thread of an earlier call has just
    // ended.
    limit(Number(readFileSync(join(folder, 'pids.current'), 'utf8')) + 1);
    await ContainerArchive.open(path, options).then(
      (opened) => opened.close(),
      ({ code }) => assert.equal(code, 'ERR_NO_THREADS'),
    );
  } finally {
    limit('max');
    enter(base);
    rmdirSync(folder);
  }
  await (await ContainerArchive.open(path, options)).close();
  await repo.keys.add({ passphrase: 'y', kdf: { ...CHEAP_KDF, lanes: 4 } });
  const { id: later } = await repo.ingest(['x']);
  assert.equal(String(await restored(repo, later)), 'x');
  assert.equal((await restored(repo, id)).length, MIB);
});

test('a lack of memory for a key derivation is ERR_NO_MEMORY, and it works again afterwards', async (t) => {
  const { repo } = await freshRepo(t, ENCRYPTED);
  const address = (bytes) => spawnSync('prlimit', ['--pid', String(process.pid), `--as=${bytes}:unlimited`]);
  if (process.platform !== 'linux' || address('unlimited').status !== 0) {
    return t.skip('SKIPPED: the address space of a process cannot be limited here (needs prlimit)');
  }
  const kdf = { memory: 1024 * 1024, time: 2, lanes: 1 };
  const size = Number(/VmSize:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]) * 1024;
  assert.equal(address(size + 512 * MIB).status, 0);
  try {
    const error = await rejectsWith(repo.keys.add({ passphrase: 'y', kdf }), 'ERR_NO_MEMORY');
    assert.equal(error.retryable, true);
  } finally {
    address('unlimited');
  }
  await repo.keys.add({ passphrase: 'y', kdf: CHEAP_KDF });
});
