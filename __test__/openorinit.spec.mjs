// openOrInit: opens an existing repository, creates a missing one, and bypasses no check.

import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  CHEAP_KDF, ContainerArchive, KINDS, PASSPHRASE, afterwards, filesIn, freshRepo, random, rejectsWith, restored, temporary, test,
  treeHash,
} from './support/harness.mjs';

/** openOrInit, closed with the test. */
async function openOrInit(t, path, options) {
  const repo = await ContainerArchive.openOrInit(path, options);
  afterwards(t, () => repo.close());
  return repo;
}

for (const kind of KINDS.slice(0, 4)) {
  test(`${kind.name}: the repository is created once, and opened after that`, async (t) => {
    const path = join(temporary(t), 'a', 'repo');
    const options = { ...kind.init, packSize: 1 << 17, readOnly: false };
    const snapshot = await (await openOrInit(t, path, options)).ingest([random(1000, 1)]);
    const config = readFileSync(join(path, 'config.json'), 'utf8');
    assert.equal(JSON.parse(config).packSize, 1 << 17);
    // other settings apply only at creation
    const again = await openOrInit(t, path, { ...options, packSize: 1 << 20, compression: 'none', kdf: { memory: 30_000 } });
    assert.deepEqual(await again.latest(), snapshot);
    assert.equal((await restored(again, 'latest')).length, 1000);
    assert.equal(readFileSync(join(path, 'config.json'), 'utf8'), config);
  });
}

test('one of many concurrent calls creates it and all open it', async (t) => {
  const path = join(temporary(t), 'repo');
  const repos = await Promise.all(Array.from({ length: 6 }, () => openOrInit(t, path, { passphrase: PASSPHRASE, kdf: CHEAP_KDF })));
  for (const [i, repo] of repos.entries()) await repo.ingest([Buffer.from([i])]);
  assert.equal((await repos[0].listSnapshots()).length, 6);
  assert.equal(filesIn(join(path, 'keys')).length, 1);
});

test('what cannot be opened is refused as by open, and nothing is created', async (t) => {
  const encrypted = await freshRepo(t, KINDS[1]);
  const plain = await freshRepo(t, KINDS[0]);
  const folder = temporary(t);
  mkdirSync(join(folder, 'full'));
  writeFileSync(join(folder, 'full', 'photo.jpg'), 'x');
  writeFileSync(join(folder, 'file'), 'x');
  const before = [encrypted.path, plain.path, folder].map(treeHash);
  await rejectsWith(ContainerArchive.openOrInit(encrypted.path), 'ERR_PASSPHRASE_REQUIRED');
  await rejectsWith(ContainerArchive.openOrInit(encrypted.path, { passphrase: 'wrong' }), 'ERR_WRONG_PASSPHRASE');
  await rejectsWith(ContainerArchive.openOrInit(plain.path, { passphrase: PASSPHRASE }), 'ERR_NOT_ENCRYPTED');
  await rejectsWith(ContainerArchive.openOrInit(join(folder, 'full')), 'ERR_NOT_EMPTY');
  await rejectsWith(ContainerArchive.openOrInit(join(folder, 'file')), 'ERR_NOT_A_DIRECTORY');
  await rejectsWith(ContainerArchive.openOrInit(join(folder, 'new'), { packSize: 1 }), 'ERR_INVALID_ARGUMENT');
  await rejectsWith(ContainerArchive.openOrInit(''), 'ERR_INVALID_ARGUMENT');
  assert.deepEqual([encrypted.path, plain.path, folder].map(treeHash), before);
});

test('a config.json of another program is no repository, and nothing is created next to it', async (t) => {
  const folder = temporary(t);
  const configs = ['{"port":8080}', '{"version":1}\n', 'not JSON', ''];
  for (const [i, config] of configs.entries()) {
    const path = join(folder, String(i));
    mkdirSync(join(path, 'packs'), { recursive: true });
    writeFileSync(join(path, 'config.json'), config);
    writeFileSync(join(path, 'README.txt'), 'Of another program');
    const before = treeHash(path);
    const error = await rejectsWith(ContainerArchive.open(path), 'ERR_REPO_NOT_FOUND');
    assert.equal(error.message, `There is no repository at ${path}: its config.json is that of another program`);
    assert.deepEqual([error.path, error.retryable], [path, false]);
    assert.ok(error.hint);
    await rejectsWith(ContainerArchive.init(path), 'ERR_NOT_EMPTY');
    await rejectsWith(ContainerArchive.openOrInit(path), 'ERR_NOT_EMPTY');
    assert.equal(treeHash(path), before);
  }
});

test('a handle whose directory was replaced by that of another program finds no repository', async (t) => {
  const { repo, path } = await freshRepo(t);
  await repo.ingest(['x']);
  const moved = `${path}-moved`;
  renameSync(path, moved);
  mkdirSync(path);
  writeFileSync(join(path, 'config.json'), '{"port":8080}');
  mkdirSync(join(path, 'snapshots'));
  const before = treeHash(path);
  for (const call of [() => repo.listSnapshots(), () => repo.ingest(['y']), () => repo.prune({ keepLast: 1 })]) {
    await rejectsWith(call(), 'ERR_REPO_NOT_FOUND');
  }
  assert.equal(treeHash(path), before);
  rmSync(path, { recursive: true });
  renameSync(moved, path);
  assert.equal((await repo.listSnapshots()).length, 1);
});

test('a repository that lost its config is never recreated over its packs', async (t) => {
  const { repo, path } = await freshRepo(t, KINDS[0], { parity: false });
  await repo.ingest([random(100_000, 2)]);
  await repo.close();
  rmSync(join(path, 'config.json'));
  const found = await openOrInit(t, path);
  assert.equal((await found.listSnapshots()).length, 1);
  // not even when no copy of the config is left
  for (const name of filesIn(path).filter((file) => /\.(pack|idx|seg)$/.test(file)).slice(1)) rmSync(join(path, name));
  await rejectsWith(ContainerArchive.openOrInit(path), 'ERR_NOT_EMPTY');
});

test('a README.txt of the user is refused and kept, and that of an interrupted init is accepted', async (t) => {
  const { path: made } = await freshRepo(t, KINDS[0]);
  const text = readFileSync(join(made, 'README.txt'), 'utf8');
  assert.match(text, /^[\n -~]+$/);
  assert.ok(text.split('\n').every((line) => line.length <= 80));
  const path = temporary(t);
  for (const other of ['mine\n', '', `${text}\n`]) {
    writeFileSync(join(path, 'README.txt'), other);
    await rejectsWith(ContainerArchive.openOrInit(path), 'ERR_NOT_EMPTY');
    await rejectsWith(ContainerArchive.init(path), 'ERR_NOT_EMPTY');
    assert.deepEqual(filesIn(path), ['README.txt']);
    assert.equal(readFileSync(join(path, 'README.txt'), 'utf8'), other);
  }
  writeFileSync(join(path, 'README.txt'), text);
  const repo = await openOrInit(t, path);
  assert.equal(repo.created, true);
  assert.equal((await repo.verify()).ok, true);
});

test('a function is called once for the passphrase', async (t) => {
  const path = join(temporary(t), 'repo');
  let asked = 0;
  const passphrase = async () => (asked++, PASSPHRASE);
  for (const expected of [1, 2]) {
    await openOrInit(t, path, { passphrase, kdf: CHEAP_KDF });
    assert.equal(asked, expected);
  }
});

test('it reports whether it created a repository, and warns of that', async (t) => {
  const path = join(temporary(t), 'repo');
  const first = await openOrInit(t, path, {});
  const warnings = [];
  first.on('warning', ({ code, message }) => warnings.push([code, message]));
  await new Promise(setImmediate);
  assert.equal(first.created, true);
  assert.equal(warnings.length, 1);
  assert.equal(warnings[0][0], 'WARN_REPO_CREATED');
  assert.match(warnings[0][1], new RegExp(`${path}.*${first.repositoryId}`));
  const second = await openOrInit(t, path, {});
  second.on('warning', ({ code }) => warnings.push([code]));
  await new Promise(setImmediate);
  assert.equal(second.created, false);
  assert.equal(second.repositoryId, first.repositoryId);
  assert.equal(warnings.length, 1);
  await second.close();
  assert.equal(second.repositoryId, JSON.parse(readFileSync(join(path, 'config.json'), 'utf8')).id);
});

test('with repositoryId it opens that repository, refuses another one, and creates none', async (t) => {
  const base = temporary(t);
  const [one, other] = [await openOrInit(t, join(base, 'one'), {}), await openOrInit(t, join(base, 'other'), {})];
  assert.equal((await openOrInit(t, join(base, 'one'), { repositoryId: one.repositoryId })).created, false);
  await rejectsWith(ContainerArchive.openOrInit(join(base, 'one'), { repositoryId: other.repositoryId }), 'ERR_REPO_CHANGED');
  await rejectsWith(ContainerArchive.open(join(base, 'one'), { repositoryId: other.repositoryId }), 'ERR_REPO_CHANGED');
  await rejectsWith(ContainerArchive.openOrInit(join(base, 'none'), { repositoryId: one.repositoryId }), 'ERR_REPO_NOT_FOUND');
  await rejectsWith(ContainerArchive.openOrInit(join(base, 'none'), { repositoryId: 'x' }), 'ERR_INVALID_ARGUMENT');
  assert.deepEqual(filesIn(base).filter((name) => name.startsWith('none')), []);
});
