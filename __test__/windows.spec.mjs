// Windows, as far as it can be tested elsewhere: command lines and file names are text, whose rules
// are applied here; the last test runs them there.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { fileName } from '../cli/src/target.mjs';
import { hidesFailures } from '../cli/src/shell.mjs';
import { freshRepo, restored, test } from './support/harness.mjs';

const { windowsArguments } = createRequire(import.meta.url)('../js/windows.js');

/** The line that cmd.exe runs: what is between the first and the last quote after /s /c. */
function lineOf(args) {
  const [, rest] = /^(?:\/[a-z:]+ )*?\/c (.*)$/is.exec(args.join(' '));
  const [, line] = /^"(.*)"$/s.exec(rest);
  return line;
}

test('a line for cmd.exe reaches it as it was written', () => {
  for (const line of [
    'dir', 'echo a b', '"C:\\Program Files\\dump.exe" --to "a b"', 'type "a.txt" && type "b.txt"', 'dir C:\\', 'echo \\"', 'echo %PATH% ^& x',
    'dump "--filter=a \\"quoted\\" name"', '""',
  ]) {
    for (const file of ['cmd.exe', 'CMD', 'C:\\Windows\\System32\\cmd.exe']) {
      const { args, windowsVerbatimArguments } = windowsArguments([file, '/d', '/s', '/c', line]);
      assert.equal(windowsVerbatimArguments, true, file);
      assert.deepEqual(args.slice(0, 3), ['/d', '/s', '/c']);
      assert.equal(lineOf(args), line);
    }
  }
});

test('the arguments of every other program are left to the rules of the C runtime', () => {
  for (const command of [
    ['pg_dump.exe', 'a "b"'], ['cmd.exe'], ['cmd.exe', '/c', 'dir'], ['cmd.exe', '/s', '/c', 'echo', 'a b'], ['mycmd.exe', '/s', '/c', 'dir'],
    ['powershell.exe', '-Command', 'a "b" | c'], ['cmd.exe', '/s', '/k', 'dir'], ['cmd.exe', '/s', 'x y', '/c', 'dir'],
  ]) {
    assert.deepEqual(windowsArguments(command), { args: command.slice(1), windowsVerbatimArguments: false }, command.join(' '));
  }
});

test('a line for cmd.exe that hides a failure is recognised', () => {
  for (const line of ['a | b', 'a|b', 'a & b', 'a&b', 'a && b & c', 'a "x" | b', 'a ^| b | c', 'a "b" & "c"']) {
    assert.ok(hidesFailures(line), line);
  }
  for (const line of ['a', 'a && b', 'a || b', 'a "b | c & d"', 'a ^| b ^& c', 'a "b | c', 'a > b 2>nul']) assert.ok(!hidesFailures(line), line);
});

test('a name of an item is a file name of the system, or refused', () => {
  for (const name of ['', '.', '..', 'a/b', 'a\\b', 'a\0b']) for (const system of ['linux', 'win32']) assert.throws(() => fileName(name, system), /cannot be a file name/);
  for (const name of ['db.sql', 'ü', '.hidden', 'console', 'com10', 'a b']) for (const system of ['linux', 'win32']) assert.equal(fileName(name, system), name);
  for (const name of ['a:b', 'a.txt:stream', 'a?', 'a*', 'a"', 'a<', 'a|', 'a\nb', 'a.', 'a ', 'NUL', 'con.txt', 'Com1', 'lpt9.tar.gz', 'COM¹', 'CONIN$', 'aux .x']) {
    assert.equal(fileName(name, 'darwin'), name);
    assert.throws(() => fileName(name, 'win32'), /cannot be a file name/, name);
  }
});

test('a command of cmd.exe with quotes is run by it', async (t) => {
  const { repo } = await freshRepo(t);
  const run = async (line) => String(await restored(repo, (await repo.ingestCommand({ name: 'a', command: ['cmd.exe', '/d', '/s', '/c', line] })).id)).trim();
  assert.equal(await run('echo "a b" c'), '"a b" c');
  assert.equal(await run(`"${process.execPath}" -p "1 + 1"`), '2');
}, { skip: process.platform !== 'win32' && 'cmd.exe exists on Windows only' });
