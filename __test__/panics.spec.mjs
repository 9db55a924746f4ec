// A panic of the engine, anywhere: the promise rejects with ERR_INTERNAL, the handle is closed, the
// process continues, and the repository can be opened, intact. The test build makes named code
// locations panic (src/panics.rs).

import assert from 'node:assert/strict';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import {
  CHEAP_KDF, ContainerArchive, ENCRYPTED, MIB, PLAIN, assertSameBytes, freshRepo, random, rejectsWith, reopen, restored, temporary, test,
} from './support/harness.mjs';

const BYTES = random(3 * MIB, 110);

/** Runs fn while a code location of the engine panics. */
async function whilePanicking(location, fn) {
  process.env.CONTAINERARCHIVE_PANIC = location;
  try {
    return await fn();
  } finally {
    delete process.env.CONTAINERARCHIVE_PANIC;
  }
}

const items = () => ['a', 'b', 'c'].map((name) => ({ name, type: 'x', stream: random(MIB, name) }));
const read = async (repo, id) => pipeline(await repo.restore(id), new PassThrough().resume());

/** A code location, and the call that reaches it. */
const locations = [
  ['ca-ingest', (repo) => repo.ingest(['x'])],
  ['ca-worker', (repo) => repo.ingest(random(MIB, 111))],
  ['ca-packs', (repo) => repo.ingest(random(MIB, 112))],
  ['ca-lane', (repo) => repo.ingestMulti(items(), { concurrency: 2 })],
  ['ca-worker', (repo) => repo.ingestMulti(items(), { concurrency: 3 })],
  ['ca-plan', (repo, id) => repo.restore(id)],
  ['ca-restore', read],
  ['ca-reader', read],
  ['ca-restore-to-file', (repo, id, t) => repo.restoreToFile(id, { path: join(temporary(t), 'file') })],
  ['ca-reader', (repo, id, t) => repo.restoreToFile(id, { path: join(temporary(t), 'file') })],
  ['ca-list', (repo) => repo.listSnapshots()],
  ['ca-get', (repo, id) => repo.getSnapshot(id)],
  ['ca-latest', (repo) => repo.latest()],
  ['ca-verify', (repo) => repo.verify()],
  ['ca-checker', (repo) => repo.verify()],
  ['ca-repair', (repo) => repo.repair()],
  ['ca-reindex', (repo) => repo.reindex()],
  ['ca-unlock', (repo) => repo.unlock()],
  ['ca-prune', (repo) => repo.prune({ keepLast: 1 })],
  ['ca-forget', (repo, id) => repo.forget([id])],
  ['ca-locks', (repo) => repo.locks()],
  ['ca-stats', (repo) => repo.stats()],
  ['ca-keys', (repo) => repo.keys.list()],
  ['ca-keys', (repo) => repo.keys.add({ passphrase: 'another', kdf: CHEAP_KDF })],
];

for (const [location, call] of locations) {
  const kind = location === 'ca-keys' ? ENCRYPTED : PLAIN;
  test(`a panic at ${location} of ${String(call).replace(/\s+/g, ' ').slice(0, 60)}`, async (t) => {
    const { repo, path } = await freshRepo(t, kind);
    const { id } = await repo.ingest(BYTES);
    const error = await whilePanicking(location, () => rejectsWith(call(repo, id, t), 'ERR_INTERNAL'));
    assert.match(error.message, /panic|writing thread/);
    assert.match(error.hint, /closed/);
    for (const next of [() => call(repo, id, t), () => repo.ingest(['x']), () => repo.listSnapshots(), () => repo.restore(id)]) {
      await rejectsWith(next(), 'ERR_CLOSED');
    }
    await repo.close();
    const again = await reopen(t, path, kind);
    assert.deepEqual((await again.listSnapshots()).map((snapshot) => snapshot.id), [id]);
    assertSameBytes(await restored(again, id), BYTES);
    await again.ingest(['after']);
    assert.deepEqual((await again.verify({ level: 'full' })).errors, []);
  });
}

test('a panic during open rejects it, and the next one works', async (t) => {
  const path = join(temporary(t), 'repo');
  await whilePanicking('ca-init', () => rejectsWith(ContainerArchive.init(path), 'ERR_INTERNAL'));
  const repo = await ContainerArchive.init(path);
  await whilePanicking('ca-open', () => rejectsWith(reopen(t, path), 'ERR_INTERNAL'));
  await repo.ingest(['x']);
  await repo.close();
  assert.equal((await (await reopen(t, path)).listSnapshots()).length, 1);
});

test('a panic ends the other operations of the handle, and no other handle', async (t) => {
  const { repo, path } = await freshRepo(t);
  const other = await reopen(t, path);
  const source = new PassThrough();
  source.write(BYTES);
  const running = rejectsWith(repo.ingest(source), 'ERR_CLOSED');
  await whilePanicking('ca-list', () => rejectsWith(repo.listSnapshots(), 'ERR_INTERNAL'));
  await running;
  assert.ok(source.destroyed);
  assert.deepEqual(await other.listSnapshots(), []);
  const { id } = await other.ingest(BYTES);
  assertSameBytes(await restored(other, id), BYTES);
});

test('the error of a panic states its location, and nothing is printed', async (t) => {
  const { repo } = await freshRepo(t);
  const written = [];
  const { write } = process.stderr;
  process.stderr.write = (text) => written.push(text);
  const error = await whilePanicking('ca-get', () => rejectsWith(repo.getSnapshot('latest'), 'ERR_INTERNAL'));
  process.stderr.write = write;
  assert.match(error.message, /ca-get panics on purpose \(src.panics\.rs:\d+/);
  assert.deepEqual(written, []);
});
