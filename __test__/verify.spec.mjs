// verify: shapes, levels, events, progress, and its end by a signal.

import assert from 'node:assert/strict';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { relative } from 'node:path';
import { ContainerArchive, ENCRYPTED, MIB, PLAIN, freshRepo, pieces, random, rejectsWith, reopen, repoFiles, test, treeHash } from './support/harness.mjs';

const LEVELS = ['quick', 'standard', 'full'];
const HEX = /^[0-9a-f]{64}$/;

/** A repository with two snapshots of two items, some of their data shared. */
async function filled(t, kind) {
  const { repo, path } = await freshRepo(t, kind, { packSize: MIB });
  const shared = random(2 * MIB, 70);
  const items = (seed) => [
    { name: 'shared', type: 'x', stream: pieces(shared, MIB) },
    { name: 'own', type: 'x', stream: pieces(random(3 * MIB, seed), MIB) },
  ];
  const snapshots = [await repo.ingestMulti(items(71)), await repo.ingestMulti(items(72))];
  return { repo, path, snapshots };
}

/** Flips a byte in the middle of a file. */
function damage(file) {
  const bytes = readFileSync(file);
  bytes[bytes.length >> 1] ^= 1;
  writeFileSync(file, bytes);
}

for (const kind of [PLAIN, ENCRYPTED]) {
  test(`an intact repository is ok at every level (${kind.name})`, async (t) => {
    const { repo, path } = await filled(t, kind);
    repo.on('verify:error', () => assert.fail('an error'));
    const before = treeHash(path);
    for (const level of LEVELS) {
      const result = await repo.verify({ level });
      assert.deepEqual(Object.keys(result).sort(), ['errors', 'notes', 'ok', 'stats']);
      assert.deepEqual([result.ok, result.errors, result.notes], [true, [], []]);
      assert.equal(result.stats.packsChecked, repoFiles(path, /\.pack$/).length);
      assert.equal(result.stats.snapshotsChecked, 2);
      assert.ok(result.stats.chunksChecked > 10);
    }
    assert.equal((await repo.verify()).ok, true);
    assert.equal(treeHash(path), before);
  });

  test(`a damaged pack is reported with the affected snapshots (${kind.name})`, async (t) => {
    const { repo, path, snapshots } = await filled(t, kind);
    const packs = repoFiles(path, /data[/\\][0-9a-f]+\.pack$/);
    for (const pack of packs) {
      const good = readFileSync(pack);
      const id = /([0-9a-f]{64})\.pack$/.exec(pack)[1];
      damage(pack);
      assert.equal((await repo.verify({ level: 'quick' })).ok, true, 'the length is right');
      for (const level of ['standard', 'full']) {
        const events = [];
        const subscription = repo.on('verify:error', (event) => events.push(event));
        const result = await repo.verify({ level });
        subscription.unsubscribe();
        assert.equal(result.ok, false);
        assert.deepEqual(events.map(({ operationId, ...error }) => error), result.errors);
        const [error, ...chunks] = result.errors;
        assert.deepEqual([error.code, error.pack, error.healable], ['ERR_PACK_CORRUPT', id, true]);
        assert.equal(error.path, relative(path, pack).replaceAll('\\', '/'));
        assert.match(error.error, /^Pack [0-9a-f]{64} is damaged: .*[^.]$/);
        for (const snapshot of error.snapshots) assert.ok(snapshots.some((known) => known.id === snapshot));
        for (const { snapshotId, item } of error.items) {
          assert.ok(error.snapshots.includes(snapshotId) && ['shared', 'own'].includes(item));
        }
        for (const chunk of chunks) {
          assert.deepEqual([level, chunk.code, chunk.pack], ['full', 'ERR_CHUNK_CORRUPT', id]);
          assert.match(chunk.chunk, HEX);
        }
      }
      rmSync(pack);
      const missing = await repo.verify({ level: 'quick' });
      assert.deepEqual(missing.errors.map(({ code, pack, healable }) => [code, pack, healable]), [['ERR_PACK_MISSING', id, true]]);
      writeFileSync(pack, good);
    }
    assert.equal((await repo.verify({ level: 'full' })).ok, true);
  });
}

test('the parts of a subset find the damage once', async (t) => {
  const { repo, path } = await filled(t);
  damage(repoFiles(path, /\.pack$/)[0]);
  let [packs, errors] = [0, 0];
  for (const part of [1, 2, 3]) {
    const result = await repo.verify({ level: 'standard', subset: `${part}/3` });
    packs += result.stats.packsChecked;
    errors += result.errors.length;
  }
  assert.deepEqual([packs, errors], [repoFiles(path, /\.pack$/).length, 1]);
});

test('a read-only handle can verify, also concurrently with an ingest', async (t) => {
  const { repo, path } = await filled(t);
  const reader = await reopen(t, path, PLAIN, { readOnly: true });
  const [result] = await Promise.all([reader.verify({ level: 'full' }), repo.ingest(pieces(random(8 * MIB, 73), MIB))]);
  assert.equal(result.ok, true, JSON.stringify(result.errors));
  damage(repoFiles(path, /snapshots[/\\].*\.json$/)[0]);
  const { errors } = await reader.verify({ level: 'quick' });
  assert.deepEqual(errors.map(({ code, healable, snapshots }) => [code, healable, snapshots.length]), [['ERR_MANIFEST_CORRUPT', true, 1]]);
});

test('the last progress is complete', async (t) => {
  const { repo } = await filled(t);
  const [seen, events] = [[], []];
  repo.on('verify:progress', (progress) => events.push(progress));
  const result = await repo.verify({ level: 'full', onProgress: (progress) => seen.push(progress) });
  assert.deepEqual(seen, events);
  const last = seen.at(-1);
  assert.deepEqual([last.operation, last.level, last.percentage, last.errors], ['verify', 'full', 100, 0]);
  assert.equal(last.itemsDone, result.stats.packsChecked);
  assert.equal(last.bytesDone, last.bytesTotal);
  for (const progress of seen) {
    assert.equal(progress.operationId, last.operationId);
    assert.ok(progress.percentage === null || (progress.percentage >= 0 && progress.percentage <= 100));
  }
});

test('a signal ends a verify with its reason, close() ends it with ERR_CLOSED', async (t) => {
  const { repo } = await filled(t);
  const reason = new Error('enough');
  await assert.rejects(repo.verify({ signal: AbortSignal.abort(reason) }), reason);
  const controller = new AbortController();
  const running = repo.verify({ level: 'full', signal: controller.signal });
  controller.abort(reason);
  await assert.rejects(running, reason);
  const closed = rejectsWith(repo.verify({ level: 'full' }), 'ERR_CLOSED');
  await repo.close();
  await closed;
  await rejectsWith(repo.verify(), 'ERR_CLOSED');
});

test('bad options are refused', async (t) => {
  const { repo } = await freshRepo(t);
  for (const bad of [
    { level: 'deep' }, { level: 1 }, { level: null }, { subset: '0/3' }, { subset: '4/3' }, { subset: '1/0' }, { subset: 1 },
    { subset: '1/3 ' }, { subset: '1/4294967296' }, { signal: {} }, { onProgress: 1 }, { levle: 'full' }, null, 'full',
  ]) {
    await rejectsWith(repo.verify(bad), 'ERR_INVALID_ARGUMENT');
  }
});

test('without its keys an encrypted repository can be verified, and nothing else', async (t) => {
  const { repo, path, snapshots } = await filled(t, ENCRYPTED);
  await repo.close();
  const before = treeHash(path);
  const keyless = await ContainerArchive.open(path, { keyless: true });
  t.after(() => keyless.close());
  for (const level of ['quick', 'standard', undefined]) {
    const result = await keyless.verify({ level });
    assert.deepEqual([result.ok, result.notes.map((note) => note.code)], [true, ['NOTE_NO_KEYS']]);
    assert.equal(result.stats.packsChecked, repoFiles(path, /\.pack$/).length);
  }
  const [{ id }] = snapshots;
  for (const call of [
    () => keyless.verify({ level: 'full' }),
    () => keyless.listSnapshots(),
    () => keyless.getSnapshot(id),
    () => keyless.restore(id),
    () => keyless.ingest([Buffer.from('x')]),
    () => keyless.repair(),
    () => keyless.reindex(),
    () => keyless.unlock(),
    () => keyless.keys.list(),
    () => keyless.keys.add({ passphrase: 'another' }),
  ]) {
    await rejectsWith(call(), 'ERR_PASSPHRASE_REQUIRED');
  }
  assert.equal(treeHash(path), before);

  const [pack] = repoFiles(path, /data[/\\][0-9a-f]+\.pack$/);
  damage(pack);
  const events = [];
  keyless.on('verify:error', (event) => events.push(event));
  const { ok, errors } = await keyless.verify();
  assert.deepEqual([ok, errors.map((error) => error.code), events.length], [false, ['ERR_PACK_CORRUPT'], 1]);
  assert.equal(errors[0].healable, true);
});

test('keyless cannot be combined with a secret, and has no effect without encryption', async (t) => {
  const { path } = await filled(t, ENCRYPTED);
  await rejectsWith(ContainerArchive.open(path, { keyless: true, passphrase: 'x' }), 'ERR_INVALID_ARGUMENT');
  await rejectsWith(ContainerArchive.open(path, { keyless: 1 }), 'ERR_INVALID_ARGUMENT');
  await rejectsWith(ContainerArchive.init(`${path}-new`, { keyless: true }), 'ERR_INVALID_ARGUMENT');
  const plain = await filled(t, PLAIN);
  const opened = await ContainerArchive.open(plain.path, { keyless: true });
  t.after(() => opened.close());
  assert.equal((await opened.listSnapshots()).length, 2);
  assert.equal((await opened.verify({ level: 'full' })).ok, true);
});
