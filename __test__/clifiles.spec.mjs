// Files that the command line reads and writes: paths that cannot be used, what a killed restore
// has left, and sources that are the repository.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, symlinkSync, watch, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ON_UNIX, commands, start } from './support/cli.mjs';
import { ENCRYPTED, afterwards, filesIn, freshRepo, random, temporary, test, treeHash } from './support/harness.mjs';

test('a path that cannot be written is named, with what to do', async (t) => {
  const { path, repo } = await freshRepo(t);
  await repo.ingest(Buffer.from('1'), { items: [{ name: 'a' }] });
  const { fails, ok, any } = commands(path);
  const folder = temporary(t);
  const at = (...names) => join(folder, ...names);
  writeFileSync(at('file'), 'x');
  mkdirSync(at('folder', 'a'), { recursive: true });
  for (const [command, name] of [[['restore', 'latest'], 'out'], [['report'], 'page.html']]) {
    const refused = (code, what, to) => {
      const text = fails(1, new RegExp(code), ...command, '--to', to);
      assert.ok(text.includes(what) && /\n {2}[A-Z].*\.\n$/.test(text), text);
      assert.doesNotMatch(text, /EEXIST|ENOTDIR|ENOENT|EISDIR/);
    };
    refused('ERR_NOT_A_DIRECTORY', `${at('file')} is not a directory`, at('file', name));
    refused('ERR_NOT_A_DIRECTORY', `${at('file')} is not a directory`, at('file', 'b', name));
    fails(1, /The path after --to is empty/, ...command, '--to', '');
    const before = treeHash(path);
    refused('ERR_INVALID_ARGUMENT', 'is inside the repository', join(path, 'new', name));
    symlinkSync(path, at(`link-${name}`), 'junction');
    refused('ERR_INVALID_ARGUMENT', 'is inside the repository', at(`link-${name}`, name));
    assert.equal(treeHash(path), before);
    ok(...command, '--to', at('made', 'for', 'it', name));
    assert.ok(existsSync(at('made', 'for', 'it', name)));
  }
  fails(1, /is a directory \(ERR_FILE_EXISTS\)/, 'report', '--to', at('folder'));
  fails(1, /folder.a exists[^]*ERR_FILE_EXISTS/, 'restore', 'latest', '--to', at('folder'));
  fails(1, /not a directory/, 'restore', 'latest', '--to', `${at('file')}/`);
  // where Node's own recursive mkdir does not end
  if (process.platform === 'linux') fails(1, /\/proc\/none cannot be created/, 'restore', 'latest', '--to', '/proc/none/a/b');
  assert.equal(any('--json', 'report', '--to', at('file', 'x')).stderr.trim().split('\n').length, 1);
});

test('what a killed restore leaves is named by the next one, and not deleted', async (t) => {
  const { path, repo } = await freshRepo(t);
  const bytes = random(40_000_000, 3);
  await repo.ingest(bytes, { items: [{ name: 'a' }] });
  const folder = join(temporary(t), 'out');
  mkdirSync(folder);
  const to = join(folder, 'a');
  let isKilled = false;
  const { child, exited } = start(['-r', path, 'restore', 'latest', '--to', to]);
  const watcher = watch(folder, () => { isKilled ||= child.kill('SIGKILL'); });
  afterwards(t, () => watcher.close());
  const { signal } = await exited;
  assert.equal(signal, 'SIGKILL');
  const left = readdirSync(folder);
  assert.match(left.join(), /^\.tmp-containerarchive-[0-9a-f]{16}$/);
  writeFileSync(join(folder, '.tmp-containerarchive-notes'), 'of the user');
  const { any } = commands(path);
  const { status, stderr } = any('restore', 'latest', '--to', to);
  assert.equal(status, 0, stderr);
  assert.equal(stderr.match(/warning/g).length, 1, stderr);
  assert.ok(stderr.includes(`${join(folder, left[0])} (`) && /killed, or of one that still runs: delete it/.test(stderr), stderr);
  assert.deepEqual(readFileSync(to), bytes);
  assert.equal(readdirSync(folder).length, 3);
  assert.match(any('--json', 'restore', 'latest', '--to', to, '--overwrite').stderr, /^\{"warning":".*killed.*"\}\n$/);
}, ON_UNIX);

test('the repository and what is in it is no source, and is left out of a directory that contains it', async (t) => {
  const { path } = await freshRepo(t, ENCRYPTED);
  const parent = join(path, '..');
  const passphrase = join(temporary(t), 'passphrase');
  writeFileSync(passphrase, ENCRYPTED.open.passphrase);
  writeFileSync(join(parent, 'data'), 'data');
  symlinkSync(join(path, 'packs'), join(parent, 'link'));
  // refused before a passphrase is asked for
  for (const source of [path, join(path, 'packs'), join(path, 'config.json'), join(parent, 'link')]) {
    commands(path).fails(1, /is the repository itself, or in it/, 'backup', source);
  }
  const { any, ok } = commands(path, { CONTAINERARCHIVE_PASSPHRASE_FILE: passphrase });
  const names = () => {
    ok('restore', 'latest', '--to', `${passphrase}.tar`, '--overwrite');
    return execFileSync('tar', ['-tf', `${passphrase}.tar`], { encoding: 'utf8' }).trimEnd().split('\n').map((name) => name.split('/')[1]);
  };
  const warned = any('backup', parent);
  assert.equal(warned.status, 0);
  assert.match(warned.stderr, /warning: left out .*repo: it is the repository/);
  assert.deepEqual(names(), ['', 'data', 'link']);
  const silent = any('backup', parent, '--exclude', '/repo');
  assert.deepEqual([silent.status, silent.stderr], [0, '']);
  assert.deepEqual(names(), ['', 'data', 'link']);
  assert.ok(filesIn(path).length > 0);
}, ON_UNIX);
