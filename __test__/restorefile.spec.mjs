// restoreToFile: the right bytes under the name, or no file.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import {
  KIB, KINDS, MIB, PLAIN, afterwards, assertSameBytes, freshRepo, pieces, random, rejectsWith, repoFiles, reopen, temporary, test,
} from './support/harness.mjs';

const DATA = random(5 * MIB, 600);
const SMALL = { packSize: 256 * KIB, chunking: { min: 4 * KIB, avg: 16 * KIB, max: 64 * KIB } };

for (const kind of KINDS) {
  test(`${kind.name}: a snapshot, an item, and an empty item are restored into files`, async (t) => {
    const { repo } = await freshRepo(t, kind);
    const folder = temporary(t);
    const items = [
      { name: 'a', type: 'x', stream: pieces(DATA, MIB) },
      { name: 'empty', type: 'x', stream: [] },
      { name: '../../b', type: 'x', stream: [Buffer.from('bbb')] },
    ];
    const { id } = await repo.ingestMulti(items);
    const path = join(folder, 'all');
    assert.deepEqual(await repo.restoreToFile(id, { path }), { path, snapshotId: id, size: DATA.length + 3 });
    assertSameBytes(readFileSync(path), Buffer.concat([DATA, Buffer.from('bbb')]));
    for (const [item, expected] of [['a', DATA], ['empty', Buffer.alloc(0)], ['../../b', Buffer.from('bbb')]]) {
      const result = await repo.restoreToFile('latest', { path, item, overwrite: true });
      assert.equal(result.size, expected.length);
      assertSameBytes(readFileSync(path), expected);
    }
    if (process.platform !== 'win32') assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.deepEqual(readdirSync(folder), ['all']);
  });
}

test('a relative path is relative to the working directory', async (t) => {
  const { repo } = await freshRepo(t);
  const snapshot = await repo.ingest([DATA]);
  const folder = temporary(t);
  const path = join(folder, 'ñ and spaces');
  const result = await repo.restoreToFile(snapshot.id, { path: relative(process.cwd(), path) });
  assert.equal(result.path, path);
  assertSameBytes(readFileSync(path), DATA);
});

test('a file is replaced only with overwrite, anything else never', async (t) => {
  const { repo, path: repoPath } = await freshRepo(t);
  const { id } = await repo.ingest([DATA]);
  const folder = temporary(t);
  const path = join(folder, 'file');
  writeFileSync(path, 'old');
  const error = await rejectsWith(repo.restoreToFile(id, { path }), 'ERR_FILE_EXISTS');
  assert.equal(error.path, path);
  assert.match(error.hint, /overwrite/);
  assert.equal(readFileSync(path, 'utf8'), 'old');
  mkdirSync(join(folder, 'folder'));
  if (process.platform !== 'win32') symlinkSync(path, join(folder, 'link'));
  for (const name of readdirSync(folder).filter((each) => each !== 'file')) {
    await rejectsWith(repo.restoreToFile(id, { path: join(folder, name), overwrite: true }), 'ERR_FILE_EXISTS');
  }
  await rejectsWith(repo.restoreToFile(id, { path: join(folder, 'missing', 'file') }), 'ERR_STORAGE');
  await rejectsWith(repo.restoreToFile(id, { path: join(path, 'below') }), 'ERR_NOT_A_DIRECTORY');
  await rejectsWith(repo.restoreToFile(id, { path: join(repoPath, 'config.json'), overwrite: true }), 'ERR_INVALID_ARGUMENT');
  const two = await Promise.allSettled([1, 2].map(() => repo.restoreToFile(id, { path: join(folder, 'twice') })));
  assert.deepEqual(two.map(({ reason }) => reason?.code).sort(), ['ERR_FILE_EXISTS', undefined]);
  assertSameBytes(readFileSync(join(folder, 'twice')), DATA);
  assert.equal(readFileSync(path, 'utf8'), 'old');
  assert.deepEqual(readdirSync(folder).filter((name) => name.startsWith('.tmp-')), []);
});

test('damage, a signal and close() leave no file', async (t) => {
  const { repo, path: repoPath } = await freshRepo(t, PLAIN, { ...SMALL, parity: false });
  const { id } = await repo.ingest(pieces(DATA, MIB));
  const folder = temporary(t);
  const path = join(folder, 'file');
  const reason = new Error('enough');
  await assert.rejects(repo.restoreToFile(id, { path, signal: AbortSignal.abort(reason) }), reason);
  assert.deepEqual(readdirSync(folder), []);
  for (let i = 0; i < 10; i++) {
    const controller = new AbortController();
    const running = repo.restoreToFile(id, { path, signal: controller.signal, overwrite: true });
    for (let turn = 0; turn < i * 3; turn++) await new Promise((resolve) => setImmediate(resolve));
    controller.abort(reason);
    // the restore may have ended before the abort
    const result = await running.catch((error) => assert.equal(error, reason));
    assert.deepEqual(readdirSync(folder), result ? ['file'] : []);
    rmSync(path, { force: true });
  }
  const other = await reopen(t, repoPath, PLAIN);
  const running = other.restoreToFile(id, { path });
  const failed = rejectsWith(running, 'ERR_CLOSED').catch((error) => running.then(() => rmSync(path), () => Promise.reject(error)));
  await other.close();
  await failed;
  assert.deepEqual(readdirSync(folder), []);

  const packs = repoFiles(repoPath, /\.pack$/);
  rmSync(packs[packs.length >> 1]);
  const damaged = await reopen(t, repoPath, PLAIN);
  writeFileSync(path, 'old');
  await rejectsWith(damaged.restoreToFile(id, { path, overwrite: true }), 'ERR_PACK_MISSING');
  assert.equal(readFileSync(path, 'utf8'), 'old');
  assert.deepEqual(readdirSync(folder), ['file']);
});

test('progress is reported, also at the end, and nothing afterwards', async (t) => {
  const { repo } = await freshRepo(t);
  const { id } = await repo.ingestMulti([{ name: 'a', type: 'x', stream: [DATA] }]);
  const folder = temporary(t);
  for (const item of [undefined, 'a']) {
    const told = [];
    const events = [];
    const subscription = repo.on('restore:progress', (progress) => events.push(progress));
    const complete = [];
    const completions = repo.on('restore:complete', (value) => complete.push(value));
    const path = join(folder, 'file');
    const result = await repo.restoreToFile(id, { path, item, overwrite: true, onProgress: (progress) => told.push(progress) });
    for (const one of [subscription, completions]) one.unsubscribe();
    assert.deepEqual(complete, [{ operationId: told.at(-1).operationId, ...result }]);
    const count = told.length;
    assert.deepEqual(told, events);
    assert.ok(told.slice(0, -1).every((progress) => progress.percentage < 100));
    const { operation, percentage, bytesDone, bytesTotal, chunks, ...last } = told.at(-1);
    assert.deepEqual([operation, percentage, bytesDone, bytesTotal, last.item], ['restore', 100, DATA.length, DATA.length, item ?? null]);
    assert.equal(chunks, (await repo.getSnapshot(id)).chunkCount);
    assert.ok(last.message && last.operationId && last.elapsedMs >= 0 && last.bytesPerSecond > 0 && last.etaSeconds === 0);
    await new Promise((resolve) => setTimeout(resolve, 20));
    assert.equal(told.length, count);
  }
});

test('wrong arguments, unknown snapshots and closed handles are refused', async (t) => {
  const { repo, path: repoPath } = await freshRepo(t);
  const { id } = await repo.ingest([Buffer.from('x')]);
  const path = join(temporary(t), 'file');
  for (const wrong of [undefined, null, 1, {}, { path: '' }, { path: 1 }, { path: 'a\0b' }, { path, overwrite: 1 }, { path, item: '' },
    { path, range: {} }, { path, signal: {} }, { path, onProgress: 1 }]) {
    await rejectsWith(repo.restoreToFile(id, wrong), 'ERR_INVALID_ARGUMENT');
  }
  await rejectsWith(repo.restoreToFile(1, { path }), 'ERR_INVALID_ARGUMENT');
  await rejectsWith(repo.restoreToFile('f'.repeat(32), { path }), 'ERR_SNAPSHOT_NOT_FOUND');
  await rejectsWith(repo.restoreToFile(id, { path, item: 'absent' }), 'ERR_ITEM_NOT_FOUND');
  assert.throws(() => statSync(path));
  const reader = await reopen(t, repoPath, PLAIN, { readOnly: true });
  assert.equal((await reader.restoreToFile(id, { path })).size, 1);
  await repo.close();
  await rejectsWith(repo.restoreToFile(id, { path, overwrite: true }), 'ERR_CLOSED');
});

test('a path that leads into the repository through a link or a bind mount is refused', async (t) => {
  if (process.platform === 'win32') return t.skip('SKIPPED: needs symbolic links');
  const { repo, path: repoPath } = await freshRepo(t);
  const { id } = await repo.ingest([DATA]);
  const folder = temporary(t);
  symlinkSync(repoPath, join(folder, 'link'));
  const ways = [join(folder, 'link')];
  // a bind mount of an inner directory: none of the directories above it is that of the repository
  mkdirSync(join(folder, 'mounted'));
  const mounted = spawnSync('mount', ['--bind', join(repoPath, 'packs'), join(folder, 'mounted')]);
  if (mounted.status === 0) {
    afterwards(t, () => execFileSync('umount', ['-l', join(folder, 'mounted')]));
    ways.push(join(folder, 'mounted'), join(folder, 'mounted', 'data'));
  } else {
    t.diagnostic(`SKIPPED the half with a bind mount: ${mounted.stderr}`);
  }
  const bytes = () => repoFiles(repoPath, /./).map((file) => [file, readFileSync(file, 'hex')]);
  const before = bytes();
  for (const way of ways) {
    for (const name of [...readdirSync(way), 'new']) {
      await rejectsWith(repo.restoreToFile(id, { path: join(way, name), overwrite: true }), 'ERR_INVALID_ARGUMENT');
    }
  }
  assert.deepEqual(bytes(), before);
});
