// Copies of a repository: snapshots in another repository, and mirrors. By the API and by the
// command line.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  CHEAP_KDF, ContainerArchive, ENCRYPTED, KINDS, PASSPHRASE, PLAIN, afterwards, assertSameBytes, compressible, filesIn, freshRepo, random,
  rejectsWith, reopen, restored, root, temporary, test,
} from './support/harness.mjs';

const CLI = join(root, 'cli', 'dist', 'containerarchive.js');

/** Runs the command line: { status, stdout, stderr }. */
function run(args, env = {}) {
  const names = Object.keys(process.env).filter((name) => !name.startsWith('CONTAINERARCHIVE_'));
  const own = Object.fromEntries(names.map((name) => [name, process.env[name]]));
  return spawnSync(process.execPath, [CLI, ...args], { env: { ...own, ...env }, input: '', encoding: 'utf8', timeout: 100_000 });
}

/** The files of a repository that a mirror has too, by path. */
function mirrored(path) {
  const names = filesIn(path).filter((name) => /^(packs|snapshots|keys|index)|^(config\.json|README\.txt)$/.test(name) && !/tails|\.kill$/.test(name));
  return Object.fromEntries(names.map((name) => [name, readFileSync(join(path, name)).toString('base64')]));
}

const DATA = [random(300_000, 'first'), compressible(400_000, 'second')];

/** A repository with two snapshots. */
async function twoSnapshots(t, kind) {
  const { repo, path } = await freshRepo(t, kind);
  const snapshots = [];
  for (const [number, data] of DATA.entries()) snapshots.push(await repo.ingest([data], { tags: { number: String(number) }, digest: 'sha256' }));
  return { repo, path, snapshots };
}

test('copyTo copies snapshots between all kinds of repositories, once', async (t) => {
  for (const from of [PLAIN, ENCRYPTED]) {
    const { repo, snapshots } = await twoSnapshots(t, from);
    for (const to of KINDS) {
      const { repo: target } = await freshRepo(t, to);
      const seen = [];
      target.on('warning', ({ message }) => assert.fail(message));
      repo.once('copy:complete', (value) => seen.push(value));
      const progress = [];
      const result = await repo.copyTo(target, { onProgress: (value) => progress.push(value) });
      assert.deepEqual([result.copied.length, result.skipped, result.failed], [2, [], []]);
      assert.equal(result.originalBytes, 700_000);
      assert.ok(result.storedBytes > 0 && result.newBytes >= 600_000);
      const { operationId, ...figures } = seen[0];
      assert.deepEqual(figures, result);
      assert.equal(progress.at(-1).operationId, operationId);
      assert.deepEqual([progress.at(-1).operation, progress.at(-1).percentage], ['copy', 100]);
      for (const [number, { from: id, to: copy }] of result.copied.entries()) {
        const { copiedFrom, createdAt, tags, items } = await target.getSnapshot(copy);
        assert.deepEqual(copiedFrom, { repositoryId: repo.repositoryId, snapshotId: id });
        const original = snapshots.find((each) => each.id === id);
        assert.deepEqual([createdAt, tags, items], [original.createdAt, original.tags, original.items]);
        assertSameBytes(await restored(target, copy), DATA[Number(original.tags.number)], `copy ${number}`);
      }
      assert.equal('copiedFrom' in (await repo.getSnapshot(snapshots[0].id)), false);
      assert.ok((await target.verify({ level: 'full' })).ok);
      const again = await repo.copyTo(target);
      assert.deepEqual([again.copied, again.skipped.length, again.newBytes], [[], 2, 0]);
    }
  }
});

test('copyTo takes ids and a filter, and refuses what is not another open repository', async (t) => {
  const { repo, path, snapshots } = await twoSnapshots(t, ENCRYPTED);
  const { repo: target, path: where } = await freshRepo(t, PLAIN);
  const one = await repo.copyTo(target, { filter: { tags: { number: '1' } } });
  assert.deepEqual(one.copied.map(({ from }) => from), [snapshots[1].id]);
  const other = await repo.copyTo(target, { snapshots: [snapshots[0].id.slice(0, 8)] });
  assert.deepEqual(other.copied.map(({ from }) => from), [snapshots[0].id]);
  await rejectsWith(repo.copyTo(target, { snapshots: ['0'.repeat(32)] }), 'ERR_SNAPSHOT_NOT_FOUND');
  for (const options of [{ snapshots: [] }, { snapshots: [1] }, { snapshots: 'latest' }, { all: true }, { filter: { tag: {} } }]) {
    await rejectsWith(repo.copyTo(target, options), 'ERR_INVALID_ARGUMENT');
  }
  for (const wrong of [undefined, null, where, {}, Object.create(ContainerArchive.prototype)]) {
    await rejectsWith(repo.copyTo(wrong), 'ERR_INVALID_ARGUMENT');
  }
  await rejectsWith(repo.copyTo(repo), 'ERR_INVALID_ARGUMENT');
  await rejectsWith(repo.copyTo(await reopen(t, path, ENCRYPTED)), 'ERR_INVALID_ARGUMENT');
  await rejectsWith(repo.copyTo(await reopen(t, where, PLAIN, { readOnly: true })), 'ERR_READ_ONLY');
  await rejectsWith(repo.copyTo(target, { signal: AbortSignal.abort() }).catch((error) => {
    assert.equal(error.name, 'AbortError');
    return repo.copyTo(target, 1);
  }), 'ERR_INVALID_ARGUMENT');
  await target.close();
  await rejectsWith(repo.copyTo(target), 'ERR_CLOSED');
});

test('mirrorTo makes a mirror of the same bytes, which is read-only until it is promoted', async (t) => {
  for (const kind of [PLAIN, ENCRYPTED]) {
    const { repo, path, snapshots } = await twoSnapshots(t, kind);
    const target = join(temporary(t), 'a', 'mirror');
    const dry = await repo.mirrorTo(target, { dryRun: true });
    assert.ok(dry.dryRun && dry.copiedFiles > 0 && !existsSync(target));
    const seen = [];
    repo.once('mirror:complete', (value) => seen.push(value));
    const first = await repo.mirrorTo(target);
    assert.deepEqual([first.snapshots, first.copiedSnapshots.toSorted()], [2, snapshots.map(({ id }) => id).toSorted()]);
    assert.equal(seen[0].copiedBytes, first.copiedBytes);
    assert.deepEqual(mirrored(target), mirrored(path));
    const again = await repo.mirrorTo(target, { delete: true });
    assert.deepEqual([again.copiedFiles, again.removedFiles], [0, 0]);

    const copy = await reopen(t, target, kind);
    for (const { id, tags } of snapshots) assertSameBytes(await restored(copy, id), DATA[Number(tags.number)]);
    const { ok, notes } = await copy.verify({ level: 'full' });
    assert.deepEqual([ok, notes], [true, []]);
    const error = await rejectsWith(copy.ingest(['more']), 'ERR_MIRROR');
    assert.match(error.hint, /promote: true/);
    await rejectsWith(copy.forget([snapshots[0].id]), 'ERR_MIRROR');

    await repo.forget([snapshots[0].id]);
    await repo.prune({ keepLast: 'all' });
    assert.equal((await repo.mirrorTo(target)).snapshots, 2);
    const { removedSnapshots } = await repo.mirrorTo(target, { delete: true });
    assert.deepEqual(removedSnapshots, [snapshots[0].id]);
    assert.deepEqual(mirrored(target), mirrored(path));

    await rejectsWith(ContainerArchive.open(target, { ...kind.open, promote: true, readOnly: true }), 'ERR_INVALID_ARGUMENT');
    const promoted = await reopen(t, target, kind, { promote: true });
    await promoted.ingest(['more']);
    await rejectsWith(repo.mirrorTo(target), 'ERR_MIRROR_REFUSED');
  }
});

test('mirrorTo works without keys, and refuses wrong targets', async (t) => {
  const { repo, path } = await twoSnapshots(t, ENCRYPTED);
  const keyless = await ContainerArchive.open(path, { keyless: true });
  afterwards(t, () => keyless.close());
  const target = join(temporary(t), 'mirror');
  await keyless.mirrorTo(target);
  assert.deepEqual(mirrored(target), mirrored(path));
  const full = temporary(t);
  writeFileSync(join(full, 'letter.txt'), 'dear');
  await rejectsWith(repo.mirrorTo(full), 'ERR_MIRROR_REFUSED');
  await rejectsWith(repo.mirrorTo(path), 'ERR_INVALID_ARGUMENT');
  await rejectsWith(repo.mirrorTo(join(path, 'packs', 'mirror')), 'ERR_INVALID_ARGUMENT');
  const { repo: other } = await freshRepo(t, PLAIN);
  await rejectsWith(other.mirrorTo(target), 'ERR_MIRROR_REFUSED');
  for (const options of [{ delete: 1 }, { force: true }, { dryRun: 'no' }]) {
    await rejectsWith(repo.mirrorTo(target, options), 'ERR_INVALID_ARGUMENT');
  }
  rmSync(join(path, 'snapshots'), { recursive: true });
  rmSync(join(path, 'config.json'));
  await rejectsWith(keyless.mirrorTo(target, { delete: true }), 'ERR_REPO_NOT_FOUND').catch(() => {});
  assert.equal(filesIn(join(target, 'snapshots')).length, 2);
});

test('the command line copies, mirrors and promotes', async (t) => {
  const { path, snapshots } = await twoSnapshots(t, ENCRYPTED);
  const folder = temporary(t);
  const [offsite, target] = [join(folder, 'offsite'), join(folder, 'mirror')];
  const other = await ContainerArchive.init(offsite, { passphrase: 'another one', kdf: CHEAP_KDF });
  await other.close();
  const env = { CONTAINERARCHIVE_REPOSITORY: path, CONTAINERARCHIVE_PASSPHRASE: PASSPHRASE, CONTAINERARCHIVE_TO_PASSPHRASE: 'another one' };
  const ok = (args, more = {}) => {
    const { status, stdout, stderr } = run(args, { ...env, ...more });
    assert.equal(status, 0, `${args.join(' ')}: ${stderr}`);
    return stdout;
  };
  assert.match(ok(['copy', '--to', offsite, '--tag', 'number=1']), /copied 1 snapshot/);
  assert.match(ok(['copy', '--to', offsite]), /copied 1 snapshot.*1 there already/);
  const [result] = ok(['--json', 'copy', '--to', offsite, snapshots[0].id]).split('\n').filter(Boolean).map((line) => JSON.parse(line));
  assert.deepEqual(result.skipped, [snapshots[0].id]);
  assert.equal(run(['copy', '--to', offsite], { ...env, CONTAINERARCHIVE_TO_PASSPHRASE: 'wrong' }).status, 12);
  assert.equal(run(['copy', '--to', join(folder, 'none')], env).status, 10);

  assert.match(ok(['mirror', '--to', target, '--dry-run']), /would copy/);
  // no passphrase is needed
  assert.match(ok(['mirror', '--to', target, '--delete'], { CONTAINERARCHIVE_PASSPHRASE: '' }), /2 snapshots in the mirror/);
  assert.deepEqual(mirrored(target), mirrored(path));
  const at = { CONTAINERARCHIVE_REPOSITORY: target };
  ok(['check'], at);
  const refused = run(['backup', '--name', 'x', '--', 'echo', 'hello'], { ...env, ...at });
  assert.equal(refused.status, 1);
  assert.match(refused.stderr, /ERR_MIRROR[\s\S]*--promote/);
  assert.match(ok(['--promote', 'snapshots'], at), /second|data/);
  assert.equal(run(['mirror', '--to', target], env).status, 1);
});
