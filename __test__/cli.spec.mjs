// The command line, as a user runs it: a process, its output, its exit code. Tars are read by tar,
// and what was restored is compared with its source.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync, cpSync, existsSync, linkSync, mkdirSync, readFileSync, readdirSync, statSync, symlinkSync, utimesSync, writeFileSync,
} from 'node:fs';
import { readFile } from 'node:fs/promises';
import { once } from 'node:events';
import { join } from 'node:path';
import { CLI, ON_UNIX, WITH_TERMINAL, commands, environment, has, run, runOnTerminal, start } from './support/cli.mjs';
import {
  ContainerArchive, ENCRYPTED, PASSPHRASE, PLAIN, collect, freshRepo, random, repoFiles, restored, temporary, test,
} from './support/harness.mjs';

const IS_WINDOWS = process.platform === 'win32';
const isRoot = process.getuid?.() === 0;

/** A directory with one of each kind of entry. */
function tree(t) {
  const folder = join(temporary(t), 'volume');
  mkdirSync(join(folder, 'sub', 'deep'), { recursive: true });
  writeFileSync(join(folder, 'a.txt'), 'hello');
  writeFileSync(join(folder, 'empty'), '');
  writeFileSync(join(folder, 'sub', 'data.bin'), random(1_300_000, 1), { mode: 0o640 });
  writeFileSync(join(folder, 'sub', 'deep', `${'long-name-'.repeat(20)}ü`), 'long');
  if (!IS_WINDOWS) symlinkSync('../a.txt', join(folder, 'sub', 'link'));
  linkSync(join(folder, 'a.txt'), join(folder, 'hard'));
  utimesSync(join(folder, 'a.txt'), 86_400, 86_400);
  return folder;
}

test('a repository is created, filled, listed, checked and restored', (t) => {
  const folder = temporary(t);
  const passphraseFile = join(folder, 'passphrase');
  writeFileSync(passphraseFile, `${PASSPHRASE}\n`);
  const path = join(folder, 'repo');
  const { ok, json, fails } = commands(path, { CONTAINERARCHIVE_PASSPHRASE_FILE: passphraseFile });
  const [created] = json('init');
  assert.deepEqual(Object.keys(created), ['repositoryId', 'path', 'encrypted']);
  assert.equal(created.encrypted, true);
  assert.equal(JSON.parse(readFileSync(join(path, 'config.json'), 'utf8')).compression.algorithm, 'zstd');
  fails(1, /ERR_REPO_EXISTS/, 'init');
  const file = join(folder, 'dump.sql');
  writeFileSync(file, random(700_000, 2));
  const [snapshot] = json('backup', file, '--tag', 'service=shop', '--tag', 'nightly');
  assert.deepEqual(snapshot.tags, { service: 'shop', nightly: '' });
  assert.deepEqual(snapshot.items.map(({ name, size }) => [name, size]), [['dump.sql', 700_000]]);
  assert.deepEqual(json('snapshots'), [snapshot]);
  assert.deepEqual(json('list', '--tag', 'service=shop', '--latest'), [snapshot]);
  assert.deepEqual(json('snapshots', '--tag', 'service=other'), []);
  assert.deepEqual(json('ls', snapshot.id.slice(0, 6)), snapshot.items);
  assert.match(ok('snapshots'), new RegExp(`${snapshot.id.slice(0, 8)}.*dump\\.sql.*service=shop`));
  ok('restore', 'latest', '--to', join(folder, 'out', 'restored.sql'));
  assert.deepEqual(readFileSync(join(folder, 'out', 'restored.sql')), readFileSync(file));
  fails(1, /exists/, 'restore', 'latest', '--to', join(folder, 'out', 'restored.sql'));
  ok('restore', 'latest', '--to', join(folder, 'out', 'restored.sql'), '--overwrite');
  assert.match(ok('check', '--read-data'), /no damage found/);
  const [{ originalBytes }] = json('stats');
  assert.equal(originalBytes, 700_000);
});

test('exit codes are those of restic, and errors state what to do', async (t) => {
  const { path } = await freshRepo(t, ENCRYPTED);
  const missing = commands(join(temporary(t), 'nothing'));
  missing.fails(10, /no repository[^]*containerarchive init/i, 'snapshots');
  const none = commands(path);
  none.fails(12, /ERR_PASSPHRASE_REQUIRED[^]*CONTAINERARCHIVE_PASSPHRASE_FILE/, 'snapshots');
  commands(path, { CONTAINERARCHIVE_PASSPHRASE: 'wrong' }).fails(12, /ERR_WRONG_PASSPHRASE/, 'snapshots');
  const right = { CONTAINERARCHIVE_PASSPHRASE: PASSPHRASE };
  commands(path, { ...right, CONTAINERARCHIVE_PASSPHRASE_FILE: 'x' }).fails(12, /Only one of/, 'snapshots');
  commands(path, right).fails(12, /failed: exit code 3/, 'snapshots', '--passphrase-command', 'exit 3');
  const print = `${JSON.stringify(process.execPath)} -p ${JSON.stringify(`'${PASSPHRASE}'`)}`;
  commands(path).ok('snapshots', '--passphrase-command', print);
  const { ok, fails } = commands(path, right);
  fails(1, /unknown command/, 'snapshot');
  fails(1, /nothing to back up/, 'backup');
  fails(1, /Only one of files and --stdin/, 'backup', 'a', '--stdin');
  fails(1, /Two --item have the name "a"/, 'backup', '--item', 'a=true', '--item', 'a=false');
  fails(1, /The name of item 2 is longer than 4096 bytes/, 'backup', '--item', 'a=true', '--item', `${'b'.repeat(5000)}=true`);
  fails(1, /The name after --name is empty/, 'backup', '--name', '', '--', 'true');
  fails(1, /from 1 to 16/, 'backup', '--concurrency', '17', 'a');
  fails(1, /zstd is a number from 1 to 19, or "auto"/, 'backup', '-c', 'zstd:20', 'a');
  fails(1, /N\/T/, 'check', '--subset', '3/2');
  fails(1, /not valid: --keep-within: "9q"/, 'forget', '--keep-within', '9q');
  fails(1, /--time-zone: there is no time zone/, 'forget', '--keep-last', '1', '--time-zone', 'Mars/X');
  fails(1, /The id of a snapshot must not be empty/, 'ls', '');
  fails(1, /only backup takes a command/, 'snapshots', '--', 'ls');
  fails(1, /ERR_SNAPSHOT_NOT_FOUND/, 'ls', 'abcdef');
  fails(1, /does not exist/, 'backup', join(path, 'none'));
  assert.equal(run([], {}).status, 1);
  assert.equal(run(['snapshots'], {}).status, 1);
  const json = run(['-r', path, 'snapshots', '--json'], { env: { CONTAINERARCHIVE_PASSPHRASE: 'wrong' } });
  assert.equal(JSON.parse(json.stderr).code, 'ERR_WRONG_PASSPHRASE');
  assert.equal(json.stdout, '');
  assert.equal(ok('snapshots', '-q', '--json'), '');
});

test('a directory becomes a tar that tar reads, the same each time', async (t) => {
  const { path } = await freshRepo(t);
  const { ok, json } = commands(path);
  const volume = tree(t);
  const [first] = json('backup', volume);
  const [second] = json('backup', volume);
  assert.deepEqual(first.items.map(({ name, type }) => [name, type]), [['volume.tar', 'directory-tar']]);
  assert.equal(second.newChunks, 0);
  const out = temporary(t);
  ok('restore', second.id, '--to', `${out}/`);
  execFileSync('tar', ['-xf', join(out, 'volume.tar')], { cwd: out });
  execFileSync('diff', ['-r', '--no-dereference', volume, join(out, 'volume')]);
  for (const name of ['a.txt', 'sub/data.bin']) {
    const [left, right] = [statSync(join(volume, name)), statSync(join(out, 'volume', name))];
    assert.deepEqual([left.mode, Math.floor(left.mtimeMs / 1000)], [right.mode, Math.floor(right.mtimeMs / 1000)], name);
  }
  assert.equal(statSync(join(out, 'volume', 'a.txt')).ino, statSync(join(out, 'volume', 'hard')).ino);
  // another directory, with patterns, and the repository in it
  const parent = temporary(t);
  cpSync(volume, join(parent, 'kept'), { recursive: true });
  cpSync(path, join(parent, 'repo'), { recursive: true });
  const inside = commands(join(parent, 'repo'));
  const { stderr } = inside.any('backup', parent, '--exclude', '*.bin', '--name', 'all.tar');
  assert.match(stderr, /left out .*repo: it is the repository/);
  const tar = spawnSync(process.execPath, [CLI, '-r', join(parent, 'repo'), 'restore', 'latest', '--to', '-'], { env: environment() });
  const names = execFileSync('tar', ['-t'], { input: tar.stdout, encoding: 'utf8' }).split('\n');
  assert.ok(names.some((name) => name.endsWith('kept/a.txt')));
  assert.ok(!names.some((name) => /data\.bin|\/repo\//.test(name)), names.join());
}, ON_UNIX);

test('a link to a directory is followed, and patterns tell upper from lower case', async (t) => {
  const { path } = await freshRepo(t);
  const { ok, json, fails } = commands(path);
  const folder = temporary(t);
  mkdirSync(join(folder, 'releases', 'Build'), { recursive: true });
  mkdirSync(join(folder, 'releases', 'build'));
  writeFileSync(join(folder, 'releases', 'Build', 'a'), 'a');
  writeFileSync(join(folder, 'releases', 'build', 'b'), 'b');
  symlinkSync('releases', join(folder, 'current'));
  json('backup', join(folder, 'current'), '--exclude', 'build');
  ok('restore', 'latest', '--to', `${folder}/`);
  const names = execFileSync('tar', ['-tf', join(folder, 'current.tar')], { encoding: 'utf8' });
  assert.equal(names, 'current/\ncurrent/Build/\ncurrent/Build/a\n');
  // the repository, reached through another path
  symlinkSync(path, join(folder, 'link'));
  fails(1, /is the repository itself, or in it/, 'backup', join(folder, 'link'));
  fails(1, /--exclude is only for files and directories/, 'backup', '--exclude', 'x', '--', 'true');
}, ON_UNIX);

test('a file that cannot be read fails the backup, and is left out when that is allowed', async (t) => {
  const { path, repo } = await freshRepo(t);
  const { any, fails, json } = commands(path);
  const folder = join(temporary(t), 'f');
  mkdirSync(folder);
  writeFileSync(join(folder, 'good'), 'good');
  writeFileSync(Buffer.concat([Buffer.from(`${folder}/bad`), Buffer.of(0xff)]), 'x');
  if (!isRoot) {
    writeFileSync(join(folder, 'secret'), 'x');
    chmodSync(join(folder, 'secret'), 0);
  }
  fails(1, /cannot be backed up: (its name is not UTF-8|EACCES)[^]*--skip-unreadable/, 'backup', folder);
  assert.deepEqual(await repo.listSnapshots(), []);
  const { status, stderr } = any('backup', folder, '--skip-unreadable', '--tag', 'a=b');
  assert.equal(status, 3);
  assert.match(stderr, /not complete: .*bad\\377: [^]*tagged incomplete=true/);
  assert.equal(stderr.match(/not complete: .*bad/g).length, 1, 'a file is reported once');
  assert.deepEqual(json('snapshots').map(({ tags }) => tags), [{ a: 'b', incomplete: 'true' }]);
}, ON_UNIX);

test('commands: several in one snapshot; one that fails leaves none', async (t) => {
  const { path, repo } = await freshRepo(t);
  const { any, ok, fails, json } = commands(path);
  const [one] = json('backup', '--', 'printf', '%s', '--json');
  assert.deepEqual(one.items.map(({ name }) => name), ['printf']);
  assert.equal(ok('restore', 'latest', '--to', '-'), '--json');
  const [two] = json('backup', '--item', 'a=printf a', '--item', 'b=printf b=c | cat', '--concurrency', '2');
  assert.deepEqual(two.items.map(({ name, size }) => [name, size]), [['a', 1], ['b', 3]]);
  assert.equal(ok('restore', two.id, '--item', 'b', '--to', '-'), 'b=c');
  fails(1, /has 2 items[^]*--item/, 'restore', two.id, '--to', '-');
  fails(1, /has no item "c"[^]*--item with one of: a, b\./, 'restore', two.id, '--item', 'c', '--to', '-');
  const out = temporary(t);
  ok('restore', two.id, '--to', out);
  assert.deepEqual(readdirSync(out).sort(), ['a', 'b']);
  fails(1, /exit code 4[^]*\| the reason/, 'backup', '--item', 'a=printf a', '--item', 'b=echo the reason >&2; exit 4');
  fails(1, /exit code 1/, 'backup', '--item', 'a=false | cat');
  fails(1, /cannot be started/, 'backup', '--', 'no-such-program-here');
  assert.equal((await repo.listSnapshots()).length, 2);
  assert.match(fails(1, /wrote nothing|empty/i, 'backup', '--refuse-empty', '--', 'true'), /ERR_SOURCE_FAILED/);
  const changed = any('backup', '--ok-exit-code', '1', '--', 'sh', '-c', 'echo x; exit 1');
  assert.equal(changed.status, 0, changed.stderr);
  assert.match(changed.stderr, /warning: .*exit code 1/);
  const secret = commands(path, { CONTAINERARCHIVE_PASSPHRASE_COMMAND: 'cat', UNUSED: '1' }).any('snapshots');
  assert.equal(secret.status, 12, 'the passphrase command read standard input');
  const piped = run(['-r', path, 'backup', '--stdin', '--name', 'in', '--json'], { input: 'from stdin' });
  assert.equal(JSON.parse(piped.stdout).items[0].size, 10);
}, ON_UNIX);

test('standard output is complete when the exit code is 0, however slow its reader is', async (t) => {
  const { path, repo } = await freshRepo(t);
  const bytes = random(700_000, 9);
  await repo.ingest(bytes);
  // any limit to the wait for its reader passes at once
  const timers = join(temporary(t), 'timers.cjs');
  writeFileSync(timers, 'const wait = setTimeout; globalThis.setTimeout = (call, ms) => wait(call, ms > 1000 ? 0 : ms);');
  const { child, exited } = start(
    ['-r', path, 'restore', 'latest', '--to', '-'],
    { stdio: ['ignore', 'pipe', 'pipe'], env: environment({ NODE_OPTIONS: `--require=${timers}` }) },
    { isRead: false },
  );
  await once(child.stdout, 'readable');
  assert.match(commands(path).ok('stats'), /Snapshots/); // time for another process
  const all = await collect(child.stdout);
  assert.equal((await exited).status, 0);
  assert.deepEqual(all, bytes);
});

test('names of items that are no file names never leave the directory', async (t) => {
  const { path, repo } = await freshRepo(t);
  await repo.ingestMulti(['../evil', '/abs', 'fine', '..'].map((name) => ({ name, type: 'data', stream: Buffer.from(name) })));
  const { fails, ok } = commands(path);
  const out = join(temporary(t), 'x', 'y');
  mkdirSync(out, { recursive: true });
  fails(1, /cannot be a file name[^]*--item NAME --to FILE/, 'restore', 'latest', '--to', out);
  assert.deepEqual(readdirSync(out), []);
  assert.ok(!existsSync(join(out, '..', 'evil')));
  ok('restore', 'latest', '--item', '../evil', '--to', join(out, 'chosen'));
  assert.equal(readFileSync(join(out, 'chosen'), 'utf8'), '../evil');
});

test('forget shows what a policy keeps and why, and removes only when it is told to', async (t) => {
  const { path, repo } = await freshRepo(t);
  const ids = [];
  for (const day of ['01', '02', '03', '10']) {
    ids.push((await repo.ingest(Buffer.from(day), { createdAt: `2026-03-${day}T12:00:00Z` })).id);
  }
  const { any, ok, fails, json } = commands(path);
  const shown = ok('forget', '--keep-last', '1', '--keep-weekly', '2', '--dry-run');
  assert.match(shown, new RegExp(`${ids[3].slice(0, 8)}.*keep +newest, --keep-last 1/1, --keep-weekly 1/2`));
  assert.match(shown, new RegExp(`${ids[1].slice(0, 8)}.*remove`));
  assert.match(shown, /March 2026[^]*\b10\+/);
  assert.match(shown, / 2-/);
  const refused = any('forget', '--keep-last', '1', '--prune');
  assert.equal(refused.status, 1);
  assert.match(refused.stderr, /3 snapshots would be removed[^]*--yes/);
  assert.doesNotMatch(refused.stderr, /\d+ snapshots? kept|removed \d/, 'something that has not happened');
  assert.equal((await repo.listSnapshots()).length, 4);
  fails(1, /Nothing is chosen/, 'forget');
  fails(1, /either ids or a policy/, 'forget', ids[0], '--keep-last', '1');
  fails(1, new RegExp(`to be removed: ${ids[0].slice(0, 8)}[^]*would be removed`), 'forget', ids[0].slice(0, 8));
  assert.deepEqual(json('forget', ids[0]), [{ removed: ids[0] }]);
  const [plan] = json('forget', '--keep-last', '1', '--dry-run');
  assert.deepEqual(plan.remove.map(({ id }) => id), [ids[2], ids[1]]);
  assert.match(any('forget', '--keep-last', '1', '--dry-run').stderr, /1 snapshot would be kept, 2 removed/);
  assert.match(any('forget', '--keep-last', '3', '--yes').stderr, /3 snapshots kept\n$/);
  const [result] = json('forget', '--keep-last', '1', '--prune', '--yes');
  assert.equal(result.removedSnapshots, 2);
  assert.ok(result.freedBytes > 0);
  assert.deepEqual((await repo.listSnapshots()).map(({ id }) => id), [ids[3]]);
  assert.equal(json('prune')[0].freedBytes, 0);
  fails(1, /percentage/, 'prune', '--max-unused', '101');
});

test('check reports damage with exit code 1, and repair repairs it', async (t) => {
  const { path, repo } = await freshRepo(t);
  const { id } = await repo.ingest(random(300_000, 5));
  const { any, ok } = commands(path);
  const folder = join(path, 'packs', 'data');
  const [pack] = readdirSync(folder, { recursive: true }).filter((name) => name.endsWith('.pack') && statSync(join(folder, name)).size > 200_000);
  const bytes = readFileSync(join(folder, pack));
  bytes[1000] ^= 1;
  writeFileSync(join(folder, pack), bytes);
  const damaged = any('check');
  assert.equal(damaged.status, 1);
  assert.match(damaged.stdout, /repairable +ERR_PACK_CORRUPT[^]*containerarchive repair/);
  assert.match(damaged.stdout, new RegExp(`^affected: snapshot ${id.slice(0, 8)}: data \\(repairable\\)$`, 'm'));
  const quick = any('check', '--quick');
  assert.equal(quick.status, 0);
  assert.match(ok('repair'), /1 pack repaired/);
  assert.match(ok('check', '--subset', '1/1'), /no damage/);
  assert.equal(any('check', '--quick', '--read-data').status, 1);
});

test('what cannot be repaired is listed by snapshot, with the bytes that are missing', async (t) => {
  const { path, repo } = await freshRepo(t, PLAIN, { parity: false, packSize: 65_536, chunking: { min: 4096, avg: 16_384, max: 65_536 } });
  const bytes = random(300_000, 6);
  const ids = [];
  for (const name of ['a', 'b']) ids.push((await repo.ingest(bytes, { items: [{ name }] })).id);
  const { id: intact } = await repo.ingest(Buffer.from('intact'), { items: [{ name: 'c' }] });
  const [pack] = repoFiles(path, /^packs\/data\/.*\.pack$/).sort((one, other) => statSync(other).size - statSync(one).size);
  const damaged = readFileSync(pack);
  damaged[damaged.length >> 1] ^= 1;
  writeFileSync(pack, damaged);
  const { any } = commands(path);
  const { status, stdout } = any('check');
  assert.equal(status, 1);
  for (const [i, id] of ids.entries()) assert.match(stdout, new RegExp(`^affected: snapshot ${id.slice(0, 8)}: ${'ab'[i]} \\(LOST\\)$`, 'm'));
  assert.ok(!stdout.includes(intact.slice(0, 8)));
  const repaired = any('repair');
  assert.equal(repaired.status, 1);
  for (const [i, id] of ids.entries()) {
    const line = new RegExp(`^incomplete: snapshot ${id.slice(0, 8)}\\n  ${'ab'[i]}: ([\\d,]+) bytes missing \\((\\d+) to (\\d+)\\)$`, 'm').exec(repaired.stdout);
    assert.ok(line, repaired.stdout);
    const [missing, start, end] = line.slice(1).map((number) => Number(number.replaceAll(',', '')));
    assert.equal(missing, end - start);
    // what is not missing is there
    for (const range of [{ start: 0, end: start }, { start: end, end: 300_000 }]) {
      assert.deepEqual(await restored(repo, id, { range }), bytes.subarray(range.start, range.end));
    }
  }
});

test('keys are listed, added, changed and removed', async (t) => {
  const { path } = await freshRepo(t, ENCRYPTED);
  const other = join(temporary(t), 'other');
  writeFileSync(other, 'another passphrase');
  const { json, fails, ok } = commands(path, { CONTAINERARCHIVE_PASSPHRASE: PASSPHRASE });
  const [added] = json('key', 'add', '--new-passphrase-file', other, '--label', 'office');
  assert.equal(added.label, 'office');
  const keys = json('key', 'list');
  assert.equal(keys.length, 2);
  fails(1, /no terminal to ask on/, 'key', 'remove', added.id.slice(0, 8));
  fails(1, /no key/, 'key', 'remove', 'ffff');
  json('key', 'remove', added.id);
  fails(1, /ERR_LAST_KEY[^]*key passwd/, 'key', 'remove', keys[0].id, '--yes');
  ok('key', 'passwd', '--new-passphrase-file', other);
  fails(12, /ERR_WRONG_PASSPHRASE/, 'key', 'list');
  commands(path, { CONTAINERARCHIVE_PASSPHRASE_FILE: other }).ok('key', 'list');
  const plain = commands((await freshRepo(t)).path);
  for (const args of [['add'], ['passwd'], ['remove', 'ffff']]) {
    plain.fails(1, /not encrypted, and has no keys \(ERR_NOT_ENCRYPTED\)\n {2}Create an encrypted/, 'key', ...args);
  }
});

test('doctor checks everything, and fails when a check fails', async (t) => {
  const { path, repo } = await freshRepo(t);
  await repo.ingest(Buffer.from('old'), { createdAt: '2020-01-01' });
  const { json, any } = commands(path);
  const checks = json('doctor');
  assert.deepEqual(checks.map(({ check }) => check), ['platform', 'addon', 'path', 'repository', 'space', 'locks', 'age', 'contents']);
  assert.deepEqual(checks.filter(({ status }) => status === 'failed'), []);
  assert.match(checks[1].message, /; SHA-256 by .+, AES-256 by (instructions of the processor|software)/);
  for (const fact of Object.values(ContainerArchive.about())) assert.ok(checks[1].message.includes(fact), fact);
  const old = any('doctor', '--max-age', '2d');
  assert.equal(old.status, 1);
  assert.match(old.stdout, /failed +age/);
  const nowhere = commands(join(temporary(t), 'none')).any('doctor');
  assert.equal(nowhere.status, 1);
  assert.match(nowhere.stdout, /failed +repository[^]*containerarchive init/);
  const unloaded = commands(path, { NAPI_RS_NATIVE_LIBRARY_PATH: join(path, 'none.node') });
  const { status, stdout } = unloaded.any('doctor');
  assert.equal(status, 1);
  assert.match(stdout, /failed +addon +Cannot load[^]*none\.node[^\n]*\n +Correct or remove this variable[^]*ok +path/);
  unloaded.fails(1, /^containerarchive: Cannot load.*\(ERR_NATIVE_LOAD\)\n {2}Correct or remove.*\n$/, 'snapshots');
  unloaded.ok('--help');
});

test('report writes one HTML file', async (t) => {
  const { path, repo } = await freshRepo(t);
  const { id } = await repo.ingest(Buffer.from('1'));
  const { ok } = commands(path);
  assert.match(ok('report', '--keep-last', '1'), new RegExp(`^<!doctype html>[^]*${id.slice(0, 8)}[^]*last 1/1[^]*</html>\\s*$`, 'i'));
  const file = join(temporary(t), 'report.html');
  ok('report', '--to', file);
  assert.match(readFileSync(file, 'utf8'), /<\/html>/);
});

test('locks, unlock and completion', async (t) => {
  const { path } = await freshRepo(t);
  const { ok, json } = commands(path);
  assert.deepEqual(json('locks'), []);
  ok('unlock', '--force');
  for (const shell of ['zsh', 'fish']) assert.match(ok('completion', shell), /--keep-daily|keep-daily/);
  const script = ok('completion', 'bash');
  if (!has('bash')) return t.diagnostic('SKIPPED: no bash, whose completion was not tried');
  const complete = (words) => execFileSync('bash', ['-c', `${script}\nCOMP_WORDS=(${words}); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _containerarchive; echo "\${COMPREPLY[@]}"`], { encoding: 'utf8', cwd: temporary(t) }).trim();
  assert.equal(complete('containerarchive -r x forg'), 'forget');
  assert.equal(complete('containerarchive forget --keep-d'), '--keep-daily');
  assert.equal(complete('containerarchive key rem'), 'remove');
  return undefined;
});

test('an interrupted backup leaves no snapshot and exits with 130', async (t) => {
  const { path, repo } = await freshRepo(t);
  const pipe = join(temporary(t), 'pipe');
  execFileSync('mkfifo', [pipe]);
  const { child, exited } = start(['-r', path, 'backup', '--item', `a=echo started > ${pipe}; sleep 100`]);
  await readFile(pipe); // until the command has written to it
  child.kill('SIGINT');
  const { status, output } = await exited;
  assert.equal(status, 130, output);
  assert.match(output, /interrupted by SIGINT/);
  assert.deepEqual(await repo.listSnapshots(), []);
}, ON_UNIX);

test('on a terminal, the passphrase and the removal are asked for, and progress is shown', async (t) => {
  const { path, repo } = await freshRepo(t, ENCRYPTED);
  await repo.ingest(Buffer.from('1'));
  await repo.ingest(Buffer.from('2'));
  const onTerminal = (args, answers) => runOnTerminal(['-r', path, ...args], answers);
  const passphrase = [/Passphrase of .*: $/, PASSPHRASE];
  const no = await onTerminal(['forget', '--keep-last', '1'], [[/Passphrase of .*: $/, 'wrong'], [/Wrong passphrase[^]*: $/, PASSPHRASE], [/Remove 1 snapshot\?/, 'n']]);
  assert.equal(no.status, 1, no.output);
  assert.match(no.output, /Nothing was removed/);
  assert.ok(!no.output.includes(PASSPHRASE), 'the passphrase was shown');
  assert.equal((await repo.listSnapshots()).length, 2);
  const yes = await onTerminal(['forget', '--keep-last', '1', '--prune'], [passphrase, [/Remove 1 snapshot\?/, 'y']]);
  assert.equal(yes.status, 0, yes.output);
  assert.equal((await repo.listSnapshots()).length, 1);
  const fresh = join(temporary(t), 'new');
  // without a question that would be in vain
  const exists = await onTerminal(['init'], []);
  assert.equal(exists.status, 1);
  assert.match(exists.output, /already exists[^]*ERR_REPO_EXISTS/);
  const differ = await onTerminal(['-r', fresh, 'init'], [[/New passphrase: $/, 'a'], [/The same again: $/, 'b']]);
  assert.equal(differ.status, 12, differ.output);
  assert.ok(!existsSync(join(fresh, 'config.json')));
}, WITH_TERMINAL);

test('an old Node is told what it needs', () => {
  const old = "Object.defineProperty(process.versions, 'node', { value: '18.20.8' });";
  const program = `${old} require(${JSON.stringify(CLI)})`;
  const { status, stderr } = spawnSync(process.execPath, ['-e', program], { encoding: 'utf8' });
  assert.equal(status, 1);
  assert.equal(stderr, 'containerarchive needs Node >=20.9, and this is Node 18.20.8\n');
});
