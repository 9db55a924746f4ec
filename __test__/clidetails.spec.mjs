// Commands that change or write something: what they state about it, and what a failure leaves.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, lstatSync, mkdirSync, readFileSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CLI, ON_UNIX, commands, environment, has } from './support/cli.mjs';
import { freshRepo, temporary, test } from './support/harness.mjs';

test('a prune that frees no stored data does not state a size', async (t) => {
  const { path, repo } = await freshRepo(t);
  const { ok, json } = commands(path);
  await repo.ingest(Buffer.from('the same bytes'));
  const { id } = await repo.ingest(Buffer.from('the same bytes'));
  assert.equal(ok('prune'), 'nothing to free\n');
  await repo.forget([id]);
  const [plan] = json('prune', '--dry-run');
  assert.deepEqual([plan.freedBytes, plan.removedPacks], [0, 1]);
  assert.equal(ok('prune', '--dry-run'), 'would free no stored data: 1 pack with nothing but manifests deleted\n');
  assert.equal(ok('prune'), 'freed no stored data: 1 pack with nothing but manifests deleted\n');
  const [last] = await repo.listSnapshots();
  await repo.forget([last.id]);
  assert.match(ok('prune'), /^freed \d+ B: 2 packs deleted, 0 rewritten\n$/);
});

test('a dry run of forget with ids has a result', async (t) => {
  const { path, repo } = await freshRepo(t);
  const { json } = commands(path);
  const { id, createdAt } = await repo.ingest(Buffer.from('1'));
  assert.deepEqual(json('forget', id.slice(0, 8), '--dry-run'), [{ remove: [{ id, createdAt, group: {} }], dryRun: true }]);
  assert.equal((await repo.listSnapshots()).length, 1);
});

test('a report that cannot be written leaves the file as it was', async (t) => {
  const { path, repo } = await freshRepo(t);
  await repo.ingest(Buffer.from('1'));
  const folder = temporary(t);
  const file = join(folder, 'report.html');
  writeFileSync(file, 'the old report', { mode: 0o640 });
  // of bash, in units of 1024 bytes: a disk that is full after the first ones
  const limited = (to) => spawnSync('bash', ['-c', 'ulimit -f 4 && exec "$@"', 'bash', process.execPath, CLI, '-r', path, 'report', '--to', to], {
    env: environment(), encoding: 'utf8',
  });
  for (const to of [file, join(folder, 'new.html')]) {
    const { status, stderr } = limited(to);
    assert.equal(status, 1, stderr);
    assert.match(stderr, /cannot be written: EFBIG/);
  }
  assert.deepEqual(readdirSync(folder), ['report.html']);
  assert.equal(readFileSync(file, 'utf8'), 'the old report');
  const link = join(folder, 'link.html');
  symlinkSync('report.html', link);
  commands(path).ok('report', '--to', link);
  assert.ok(lstatSync(link).isSymbolicLink());
  assert.match(readFileSync(file, 'utf8'), /<\/html>/);
  assert.equal(statSync(file).mode & 0o777, 0o640);
  assert.deepEqual(readdirSync(folder), ['link.html', 'report.html']);
}, { skip: ON_UNIX.skip || (!has('bash') && 'SKIPPED: no bash, whose ulimit fills a disk') });

test('init looks at the directory before it asks for a passphrase', (t) => {
  const folder = temporary(t);
  const foreign = join(folder, 'foreign');
  mkdirSync(foreign);
  writeFileSync(join(foreign, 'notes'), '');
  const { fails } = commands(foreign);
  const ask = `echo asked >${join(folder, 'marker')}; echo secret`;
  for (const given of [[], ['--passphrase-command', ask]]) {
    fails(1, /foreign is not empty \(ERR_NOT_EMPTY\)\n {2}Choose an empty or missing directory\./, 'init', ...given);
    fails(1, /is not a folder|ERR_NOT_A_DIRECTORY/, '-r', join(foreign, 'notes'), 'init', ...given);
  }
  assert.ok(!existsSync(join(folder, 'marker')), 'the passphrase was asked for');
  // nor is a repository that is damaged, or of a later version
  for (const text of ['damaged', '{"version":9}']) {
    const repo = temporary(t);
    mkdirSync(join(repo, 'snapshots'));
    mkdirSync(join(repo, 'packs/data'), { recursive: true });
    writeFileSync(join(repo, 'config.json'), text);
    writeFileSync(join(repo, 'packs/data', `${'ab'.repeat(32)}.pack`), '');
    commands(repo, { CONTAINERARCHIVE_PASSPHRASE: 'x' }).fails(1, /ERR_REPO_EXISTS/, 'init');
  }
  // what an interrupted init leaves is not foreign
  const begun = join(folder, 'begun');
  mkdirSync(join(begun, 'keys'), { recursive: true });
  commands(begun).ok('init', '--passphrase-command', ask);
  assert.deepEqual(readdirSync(foreign), ['notes']);
}, ON_UNIX);
