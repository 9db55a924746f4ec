// Questions of the command line: the keys that edit an answer, what is pasted, and a terminal that
// is not standard input.

import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Line, columns } from '../cli/src/line.mjs';
import { WITH_TERMINAL, runOnTerminal } from './support/cli.mjs';
import { ENCRYPTED, PASSPHRASE, freshRepo, reopen, temporary, test } from './support/harness.mjs';

const [LEFT, RIGHT, HOME, END, DELETE] = ['\x1b[D', '\x1b[C', '\x1b[H', '\x1b[F', '\x1b[3~'];
const [BACKSPACE, CTRL_A, CTRL_B, CTRL_D, CTRL_E, CTRL_F, CTRL_K, CTRL_U, CTRL_W] = '\x7f\x01\x02\x04\x05\x06\x0b\x15\x17';
const paste = (text) => `\x1b[200~${text}\x1b[201~`;
/** One character for people, of several code points and of 2 columns. */
const FAMILY = '👨‍👩‍👧';

test('keys edit a line as in a shell', () => {
  for (const [typed, expected] of [
    ['abc', 'abc'],
    [`abc${BACKSPACE}`, 'ab'],
    [`ab\b\b\bc`, 'c'],
    [`wrong one${CTRL_U}right`, 'right'],
    [`abc${LEFT}${LEFT}${CTRL_U}x`, 'x'],
    [`one two  ${CTRL_W}three`, 'one three'],
    [`one${CTRL_W}${CTRL_W}`, ''],
    [`one two\x1b${BACKSPACE}`, 'one '],
    [`ac${LEFT}b`, 'abc'],
    [`bc${HOME}a${END}d`, 'abcd'],
    [`bc\x1b[1~a\x1b[4~d`, 'abcd'],
    [`bc\x1bOHa\x1bOFd`, 'abcd'],
    [`bd${CTRL_A}a${CTRL_F}c${CTRL_E}e${CTRL_B}${CTRL_B}${CTRL_K}`, 'abc'],
    [`abc${LEFT}${LEFT}${DELETE}`, 'ac'],
    [`abc${LEFT}${CTRL_D}`, 'ab'],
    [`${LEFT}${RIGHT}${DELETE}${BACKSPACE}a${RIGHT}`, 'a'],
    [`abc\x1b[1;5D\x1b[1;2DX`, 'aXbc'],
    // characters of several bytes, and of several code points
    [`grüß${BACKSPACE}${BACKSPACE}e`, 'gre'],
    [`a${FAMILY}${BACKSPACE}b`, 'ab'],
    [`${FAMILY}e\u0301${LEFT}${LEFT}x`, `x${FAMILY}e\u0301`],
    [`${FAMILY}b${HOME}${DELETE}`, 'b'],
    // keys without a meaning leave nothing of themselves
    ['a\x1b[A\x1b[B\x1b[15~\x1bOP\x1b[[A\x1b[?1;2c\tb\x00\x1a\x0c', 'ab'],
    // pasted as it is in a file, whose last newline does not count
    [paste('correct horse\n'), 'correct horse'],
    [paste('one\r\ntwo\rthree\r'), 'one\ntwo\nthree'],
    [`a${paste('\tb\x15\x1b[D')}c`, 'a\tb\x15\x1b[Dc'],
    [`ad${LEFT}${paste('bc')}`, 'abcd'],
  ]) {
    for (const step of [typed.length, 1]) {
      const line = new Line();
      const pieces = [...typed].flatMap((_, i, all) => (i % step === 0 ? [all.slice(i, i + step).join('')] : []));
      for (const piece of pieces) assert.equal(line.take(piece), null, JSON.stringify(typed));
      assert.equal(line.text, expected, `${JSON.stringify(typed)} in pieces of ${step}`);
      assert.deepEqual(line.take('\r'), { end: 'entered', rest: '' });
    }
  }
  assert.deepEqual(new Line().take('one\r\ntwo\r'), { end: 'entered', rest: 'two\r' });
  assert.deepEqual(new Line().take(CTRL_D), { end: 'entered', rest: '' });
  for (const typed of ['a\x03', '\x1b\x03', '\x1b[1\x03', '\x1b[200~a\x03']) assert.equal(new Line().take(typed).end, 'interrupted');
  assert.deepEqual(['abc', 'grüß', '日本', `a${FAMILY}`, ''].map(columns), [3, 4, 4, 3, 0]);
});

test('a passphrase can be corrected while it is typed, and pasted with its newline', async (t) => {
  const passphrase = 'grüße, 日本';
  const { path } = await freshRepo(t, { init: { ...ENCRYPTED.init, passphrase } });
  const ask = /Passphrase of .*: $/;
  const ends = (args, typed, more) => runOnTerminal(['-r', path, 'key', 'list', ...args], [[ask, Buffer.from(typed)]], more);
  for (const typed of [
    `mistake${CTRL_U}${passphrase}ü${BACKSPACE}\r`,
    `ße, 日本 x${CTRL_W}${BACKSPACE}${HOME}grü\r`,
    `${paste(`${passphrase}\r`)}\r`,
    `${passphrase}\n`,
  ]) {
    const { status, output } = await ends([], typed);
    assert.equal(status, 0, `${JSON.stringify(typed)}: ${output}`);
    assert.ok(!/[ßü本]/.test(output), 'the passphrase was shown');
    assert.equal(output.split('\x1b[?2004h').length, output.split('\x1b[?2004l').length);
  }
  const interrupted = await ends([], `${passphrase}\x03`);
  assert.equal(interrupted.status, 130, interrupted.output);
  // the terminal is asked also where standard input is the data
  const piped = await runOnTerminal(['-r', path, 'backup', '--stdin', '--name', 'a', '--json'], [[ask, passphrase]], { redirect: '< /dev/null' });
  assert.equal(piped.status, 0, piped.output);
  assert.match(piped.output, /"size":0/);
  const dumb = await ends([], `${passphrase}\r`, { env: { TERM: 'dumb' } });
  assert.equal(dumb.status, 0, dumb.output);
  assert.ok(!dumb.output.includes('\x1b'));
}, WITH_TERMINAL);

test('a new passphrase and its repetition can be pasted at once, and a question is not answered ahead', async (t) => {
  const { path, repo } = await freshRepo(t, ENCRYPTED);
  const file = join(temporary(t), 'passphrase');
  writeFileSync(file, PASSPHRASE);
  const added = await runOnTerminal(
    ['-r', path, '--passphrase-file', file, 'key', 'add'], [[/New passphrase: $/, Buffer.from('other one\rother one\r')]],
  );
  assert.equal(added.status, 0, added.output);
  await reopen(t, path, { open: { passphrase: 'other one' } });
  await repo.ingest(Buffer.from('1'));
  await repo.ingest(Buffer.from('2'));
  const ahead = await runOnTerminal(
    ['-r', path, 'forget', '--keep-last', '1'],
    [[/Passphrase of .*: $/, Buffer.from(`${PASSPHRASE}\ry\r`)], [/Remove 1 snapshot\?/, `yn${LEFT}${DELETE}${BACKSPACE}n`]],
  );
  assert.equal(ahead.status, 1, ahead.output);
  assert.match(ahead.output, /Nothing was removed/);
  assert.equal((await repo.listSnapshots()).length, 2);
}, WITH_TERMINAL);
