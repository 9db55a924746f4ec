// The command line and the members of tars: ls, find, diff, restore --member.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, readdirSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { commands } from './support/cli.mjs';
import { freshRepo, root, temporary, test } from './support/harness.mjs';

const CLI = join(root, 'cli/dist/containerarchive.js');

/** A repository with two snapshots of a tar, and how to run a command on it. */
function prepare(t) {
  const folder = temporary(t);
  const source = join(folder, 'source');
  mkdirSync(join(source, 'etc/sub'), { recursive: true });
  writeFileSync(join(source, 'etc/a.txt'), 'hello\n');
  writeFileSync(join(source, 'etc/sub/b'), 'b');
  writeFileSync(join(source, 'etc/gone'), 'gone');
  const env = { ...process.env, CONTAINERARCHIVE_REPOSITORY: join(folder, 'repo'), CONTAINERARCHIVE_PASSPHRASE: 'secret', TZ: 'UTC' };
  const run = (args, expected = 0) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [CLI, ...args], { env, cwd: folder, encoding: 'utf8' });
    assert.equal(status, expected, stderr);
    return { out: stdout, err: stderr, lines: stdout.trim().split('\n') };
  };
  run(['init']);
  run(['backup', '--item', 'files.tar=tar -C source -c .']);
  const [{ id: first }] = JSON.parse(`[${run(['--json', 'snapshots']).out}]`);
  spawnSync('rm', [join(source, 'etc/gone')]);
  writeFileSync(join(source, 'etc/new'), 'new');
  chmodSync(join(source, 'etc/a.txt'), 0o600);
  run(['backup', '--item', 'files.tar=tar -C source -c .', '--item', 'note=echo note']);
  return { folder, run, first };
}

test('what a restore of members leaves out by default is restored on demand', (t) => {
  const folder = temporary(t);
  mkdirSync(join(folder, 'source'));
  writeFileSync(join(folder, 'source/program'), '');
  chmodSync(join(folder, 'source/program'), 0o4755);
  symlinkSync('/etc/hostname', join(folder, 'source/out'));
  const { ok, fails } = commands(join(folder, 'repo'), { CONTAINERARCHIVE_PASSPHRASE: 'secret' });
  ok('init');
  ok('backup', '--item', `files.tar=tar -C '${join(folder, 'source')}' --owner=4321 -c .`);
  const state = (name) => {
    const { mode, uid } = statSync(join(folder, name, 'program'));
    return [mode & 0o7777, uid, readdirSync(join(folder, name)).length];
  };
  const uid = process.getuid();
  fails(3, /left out \.\/out: the link leads out of the target/, 'restore', 'latest', '--member', '.', '--to', join(folder, 'a'));
  assert.deepEqual(state('a'), [0o755, uid === 0 ? 4321 : uid, 1]);
  ok('restore', 'latest', '--member', '.', '--to', join(folder, 'b'), '--setuid', '--outside-links', '--no-owners');
  assert.deepEqual(state('b'), [0o4755, uid, 2]);
  fails(1, /--no-owners needs --member/, 'restore', 'latest', '--to', join(folder, 'c'), '--no-owners');
}, { skip: process.platform === 'win32' });

test('files in a tar are listed, found, compared and restored', (t) => {
  const { folder, run, first } = prepare(t);
  const paths = (args) => run(['--json', ...args]).lines.filter(Boolean).map((line) => JSON.parse(line).path);
  assert.deepEqual(paths(['ls', first, 'etc']), ['etc/a.txt', 'etc/gone', 'etc/sub']);
  assert.deepEqual(paths(['ls', 'latest', '--item', 'files.tar']), ['etc']);
  assert.deepEqual(paths(['ls', 'latest', '--recursive']), ['etc', 'etc/a.txt', 'etc/new', 'etc/sub', 'etc/sub/b']);
  assert.match(run(['ls', 'latest']).out, /files\.tar[^]*note/);
  assert.match(run(['ls', 'latest', 'etc/a.txt']).out, /^-rw------- .* 6 B .* etc\/a\.txt\n$/);
  assert.deepEqual(paths(['find', 'latest', '--name', '[a-c]*']), ['etc/a.txt', 'etc/sub/b']);
  assert.deepEqual(paths(['find', 'latest', '--name', 'a?txt']), ['etc/a.txt']);
  assert.deepEqual(paths(['find', 'latest', '--name', 'a']), []);
  const changes = run(['diff', first, 'latest']).lines.filter((line) => !line.endsWith('/'));
  assert.deepEqual(changes, ['M etc/a.txt', '- etc/gone', '+ etc/new']);

  assert.equal(run(['restore', 'latest', '--member', 'etc/a.txt', '--to', '-']).out, 'hello\n');
  run(['restore', 'latest', '--member', 'etc', '--to', 'out', '--strip-components', '1']);
  assert.deepEqual(readdirSync(join(folder, 'out')).sort(), ['a.txt', 'new', 'sub']);
  const again = run(['restore', 'latest', '--member', 'etc/a.txt', '--to', 'out', '--strip-components', '1'], 3);
  assert.match(again.err, /left out \.\/etc\/a\.txt: the name exists/);
  run(['restore', 'latest', '--member', 'etc/a.txt', '--to', 'out', '--strip-components', '1', '--overwrite']);
  assert.equal(readFileSync(join(folder, 'out/a.txt'), 'utf8'), 'hello\n');
  assert.match(run(['ls', 'latest', 'none'], 1).err, /has no member "none"/);
  assert.match(run(['ls', 'latest', 'x', '--item', 'note'], 1).err, /it is not a tar/);
  assert.match(run(['restore', 'latest', '--to', 'x', '--strip-components', '1'], 1).err, /needs --member/);
}, { skip: process.platform === 'win32' });

/** A tar of one file, twice. */
function twice(t) {
  const folder = temporary(t);
  for (const text of ['first', 'second one']) {
    writeFileSync(join(folder, 'a'), text);
    spawnSync('tar', ['-C', folder, '-rf', join(folder, 'files.tar'), 'a']);
  }
  return readFileSync(join(folder, 'files.tar'));
}

test('a command that needs an item names those of the snapshot', async (t) => {
  const { path, repo } = await freshRepo(t);
  const { ok, fails, any, json } = commands(path);
  const tar = twice(t);
  const named = (...names) => names.map((name) => ({ name, stream: Readable.from([tar]) }));
  const { id } = await repo.ingestMulti(named('a.tar', 'b.tar'));
  const hint = /\n {2}Use --item with one of: a\.tar, b\.tar\.\n/;
  const commandsOf = (...more) => [
    ['ls', id, 'a', ...more], ['ls', id, '--all', ...more], ['find', id, '--name', 'a', ...more], ['diff', id, id, ...more],
    ['restore', id, '--member', 'a', '--to', '-', ...more],
  ];
  for (const args of commandsOf()) assert.match(fails(1, /has 2 items, and none is named \(ERR_INVALID_ARGUMENT\)/, ...args), hint);
  for (const args of commandsOf('--item', 'c')) assert.match(fails(1, /has no item "c" \(ERR_ITEM_NOT_FOUND\)/, ...args), hint);
  assert.match(fails(1, /standard output takes one/, 'restore', id, '--to', '-'), hint);
  const error = JSON.parse(any('--json', 'ls', id, 'a', '--item', 'c').stderr);
  assert.deepEqual([error.code, error.snapshotId, error.item], ['ERR_ITEM_NOT_FOUND', id, 'c']);

  const { id: single } = await repo.ingest(Readable.from([tar]));
  const sizes = (...args) => json('ls', single, ...args).map(({ path: name, size }) => `${name} ${size}`);
  assert.deepEqual(sizes(), ['undefined 10240']);
  assert.deepEqual(sizes('--all').sort(), ['a 10', 'a 5']);
  assert.deepEqual(sizes('--recursive'), ['a 10']);
  const all = ok('ls', single, '--all').trimEnd().split('\n').sort();
  assert.match(all.join('\n'), / 5 B .* a {2}\(superseded by a later one\)\n.* 10 B .* a$/);
  const { id: other } = await repo.ingest(Readable.from([tar]), { items: [{ name: 'b.tar' }] });
  assert.match(any('diff', single, other).stderr, /the items have different names: data and b\.tar\n/);
  assert.ok(!/names/.test(any('diff', other, other).stderr));
}, { skip: process.platform === 'win32' });

test('a restore of members that does nothing, or all, is no accident', async (t) => {
  const { path, repo } = await freshRepo(t);
  const { fails, any } = commands(path);
  const folder = temporary(t);
  mkdirSync(join(folder, 'd'));
  writeFileSync(join(folder, 'd/a'), 'a');
  symlinkSync('a', join(folder, 'd/link'));
  const tar = spawnSync('tar', ['-C', folder, '-cf', '-', 'd']).stdout;
  const { id } = await repo.ingest(Readable.from([tar]));
  const to = join(folder, 'out');
  // an unset variable of a script
  fails(1, /path after --member is empty[^]*\n {2}Use --member \. for all of the tar\./, 'restore', id, '--member', '', '--to', to);
  assert.ok(!existsSync(to));
  const { status, stderr } = any('restore', id, '--member', 'd', '--strip-components', '2', '--to', to);
  assert.deepEqual([status, stderr], [0, 'warning: nothing was restored: --strip-components 2 leaves no name of 3 members\n']);
  fails(1, /^containerarchive: "d\/link" is neither a file nor a directory/, 'restore', id, '--member', 'd/link', '--to', '-');
  fails(1, /is not a folder[^]*\n {2}Choose another path\./, 'restore', id, '--member', 'd', '--to', join(folder, 'd/a'));
  fails(1, /has a slash, and is compared with the last name of a path/, 'find', id, '--name', 'd/*');
  fails(1, /There is no snapshot [0-9a-f]{2} [^]*at least 4 digits/, 'ls', id.slice(0, 2));
}, { skip: process.platform === 'win32' });
