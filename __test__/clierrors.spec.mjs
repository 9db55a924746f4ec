// Errors of the command line: mistakes in its words, signals, and paths that cannot be used. With
// --json each is one JSON line.

import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CLI, ON_UNIX, commands, environment, run, start } from './support/cli.mjs';
import { ENCRYPTED, afterwards, collect, freshRepo, settle, temporary, test } from './support/harness.mjs';

test('a mistake on the command line is one JSON line with --json, and text without', async (t) => {
  const { path } = await freshRepo(t);
  const env = { CONTAINERARCHIVE_REPOSITORY: path };
  for (const [pattern, ...args] of [
    [/unknown command 'snapshot'.*snapshots/, 'snapshot'],
    [/unknown option '--keep-day'/, 'forget', '--keep-day', '3'],
    [/missing required argument 'id'/, 'ls'],
    [/required option '--to <path>' not specified/, 'restore', 'latest'],
    [/argument '101' is invalid\. Use a percentage/, 'prune', '--max-unused', '101'],
    [/too many arguments/, 'stats', 'a'],
    [/no command follows/, 'backup', '--'],
    [/only backup takes a command/, 'check', '--', 'ls'],
    [/No command is given/],
    [/No command is given/, 'key'],
  ]) {
    const { status, stdout, stderr } = run(['--json', ...args], { env });
    assert.equal(status, 1, args.join(' '));
    assert.equal(stdout, '');
    assert.equal(stderr.trimEnd().split('\n').length, 1, stderr);
    const { error, code, hint } = JSON.parse(stderr);
    assert.match(error, pattern);
    assert.equal(code, 'ERR_INVALID_ARGUMENT');
    assert.match(hint, /--help/);
    const text = run(args, { env });
    assert.deepEqual([text.status, text.stdout], [1, '']);
    assert.match(text.stderr, error === 'No command is given' ? /^Usage: / : /^containerarchive: [^]*\n {2}See "containerarchive --help"/);
  }
  for (const args of [['--help'], ['help'], ['help', 'key'], ['key', '--help'], ['--version']]) {
    const { status, stdout, stderr } = run(['--json', ...args], { env });
    assert.deepEqual([status, stderr], [0, ''], args.join(' '));
    assert.match(stdout, /Usage|\d+\.\d+\.\d+/);
  }
});

test('a signal while the command line is loaded ends it as one that comes later', async (t) => {
  const { path } = await freshRepo(t);
  // when the first module after the handlers is loaded
  const early = join(temporary(t), 'early.cjs');
  writeFileSync(early, `const Module = require('node:module');
const load = Module._load;
let isSent = false;
Module._load = (id, ...more) => {
  if (!isSent && /(^|:)events$/.test(id)) isSent = process.kill(process.pid, 'SIGTERM');
  return load(id, ...more);
};`);
  for (const json of [[], ['--json']]) {
    const env = environment({ NODE_OPTIONS: `--require=${early}` });
    const { status, signal, output } = await start([...json, '-r', path, 'check'], { env }).exited;
    assert.deepEqual([status, signal], [130, null], output);
    if (json.length === 0) assert.equal(output, 'containerarchive: interrupted by SIGTERM\n');
    else assert.deepEqual(JSON.parse(output), { error: 'interrupted by SIGTERM', exitCode: 130, signal: 'SIGTERM' });
  }
}, ON_UNIX);

test('a signal ends a passphrase command that does not end', async (t) => {
  const { path } = await freshRepo(t, ENCRYPTED);
  const pipe = join(temporary(t), 'pipe');
  execFileSync('mkfifo', [pipe]);
  const { child, exited } = start(['-r', path, '--passphrase-command', `echo $$ > ${pipe}; exec sleep 100`, 'snapshots']);
  const pid = Number(await readFile(pipe)); // until the command has written to it
  child.kill('SIGTERM');
  const { status, output } = await exited;
  assert.deepEqual([status, output], [130, 'containerarchive: interrupted by SIGTERM\n']);
  const isGone = () => {
    try {
      process.kill(pid, 0);
      return /\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8')); // a zombie, where there is such a file
    } catch (error) {
      return error.code === 'ESRCH' || (error.code === 'ENOENT' && process.platform === 'linux');
    }
  };
  while (!isGone()) await settle(); // until the time limit of the test
}, ON_UNIX);

test('a file that cannot be read is named, with the reason in words', async (t) => {
  const { path } = await freshRepo(t);
  const { fails } = commands(path);
  const folder = temporary(t);
  const [none, file] = ['none', 'file'].map((name) => join(folder, name));
  writeFileSync(file, 'x');
  for (const [unreadable, reason] of [[none, 'it does not exist'], [folder, 'it is a directory'], [join(file, 'x'), 'a part of its path is not a directory']]) {
    const text = new RegExp(`cannot be read: ${reason}\\n`);
    fails(12, text, 'snapshots', '--passphrase-file', unreadable);
    fails(1, text, 'backup', file, '--exclude-file', unreadable);
    if (unreadable !== folder) fails(1, new RegExp(`cannot be backed up: ${reason}\\n`), 'backup', unreadable);
  }
});

test('output that cannot be written is an error, and a reader that has exited is none', async (t) => {
  const { path } = await freshRepo(t);
  for (const json of [[], ['--json']]) {
    const closed = start(['-r', path, ...json, 'stats'], {}, { isRead: false });
    closed.child.stdout.destroy();
    assert.deepEqual(await closed.exited, { status: 1, signal: null, output: '' });
    if (!existsSync('/dev/full')) continue;
    const full = openSync('/dev/full', 'w');
    afterwards(t, () => closeSync(full));
    const child = spawn(process.execPath, [CLI, '-r', path, ...json, 'stats'], { env: environment(), stdio: ['ignore', full, 'pipe'] });
    const stderr = String(await collect(child.stderr));
    assert.match(json.length > 0 ? JSON.parse(stderr).error : stderr, /The output cannot be written: ENOSPC/);
  }
}, ON_UNIX);
