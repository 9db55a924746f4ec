// Names of files at the command line: patterns, and names that are no UTF-8 or hold a backslash.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { nameText, unescaped } from '../cli/src/names.mjs';
import { matcher } from '../cli/src/pattern.mjs';
import { commands } from './support/cli.mjs';
import { freshRepo, temporary, test } from './support/harness.mjs';

/** Whether a text matches a pattern of characters, ? and *, tried everywhere. */
function matches(pattern, text) {
  const [first, ...rest] = pattern;
  if (first === undefined) return text === '';
  if (first === '*') return matches(rest.join(''), text) || (text !== '' && matches(pattern, text.slice(1)));
  return text !== '' && (first === '?' || first === text[0]) && matches(rest.join(''), text.slice(1));
}

test('a pattern matches as if all places of its stars were tried, and needs no such time', () => {
  const words = (letters, most) => {
    const shorter = most === 0 ? [] : words(letters, most - 1);
    return ['', ...shorter.flatMap((word) => letters.map((letter) => letter + word))];
  };
  const texts = [...new Set(words(['a', 'b'], 5))];
  for (const pattern of new Set(words(['a', 'b', '*', '?'], 5))) {
    const found = matcher(pattern);
    for (const text of texts) assert.equal(found(text), matches(pattern, text), `${pattern} ${text}`);
  }
  assert.equal(matcher('*a*a*a*a*a*a*a*a*b')('a'.repeat(400)), false);
});

/** A directory with names of all kinds, of which each file holds its own. */
const NAMES = ['plain', 'a\\b', 'a\\\\b', 'new\nline', 'back\\101', 'caf\u00e9', 'crab-🦀', ']', '-x'].map((name) => Buffer.from(name));
const BYTES = [Buffer.from([0x63, 0xe9, 0x74]), Buffer.from([0xf0, 0x9f])];

/** The tar of a directory. */
const tarOf = (folder) => execFileSync('tar', ['-C', folder, '-cf', '-', 'd'], { maxBuffer: 1 << 26 });

/** A repository with a tar of files that have these names, and its snapshot. */
async function prepare(t, names) {
  const { path, repo } = await freshRepo(t);
  const folder = temporary(t);
  mkdirSync(join(folder, 'd'));
  for (const name of names) writeFileSync(Buffer.concat([Buffer.from(`${folder}/d/`), name]), name);
  const { id } = await repo.ingest(Readable.from([tarOf(folder)]));
  return { repo, folder, id, ...commands(path) };
}

const ON_LINUX = { skip: process.platform !== 'linux' && 'only Linux has names that are no UTF-8' };

test('what ls prints names a file for --member --escaped, whatever its name', async (t) => {
  const names = [...NAMES, ...BYTES];
  const { ok, fails, json, folder, id } = await prepare(t, names);
  const printed = ok('ls', id, 'd').trimEnd().split('\n').map((line) => /d\/.*$/.exec(line)[0]);
  // bytes that are no UTF-8 sort after those that are
  const sorted = [...names].sort(Buffer.compare);
  assert.equal(printed.length, names.length);
  for (const [i, name] of sorted.entries()) {
    assert.equal(ok('restore', id, '--member', printed[i], '--escaped', '--to', '-'), name.toString(), printed[i]);
  }
  assert.ok(printed.includes('d/c\\351t') && printed.includes('d/a\\\\b') && printed.includes('d/new\\nline'), printed.join(' '));
  assert.match(ok('ls', id, 'd/\\360\\237', '--escaped'), / 2 B .* d\/\\360\\237\n$/);
  // as it is in the tar, a backslash is one
  assert.equal(ok('restore', id, '--member', 'd/a\\b', '--to', '-'), 'a\\b');
  assert.equal(ok('restore', id, '--member', 'd/back\\101', '--to', '-'), 'back\\101');
  fails(1, /has no member [^]*--escaped/, 'restore', id, '--member', 'd/c\\351t', '--to', '-');
  fails(1, /is no escape/, 'ls', id, 'd/\\q', '--escaped');
  fails(1, /--escaped needs --member/, 'restore', id, '--escaped', '--to', '-');
  fails(1, /--escaped needs a path/, 'ls', id, '--escaped');
  ok('restore', id, '--member', 'd/c\\351t', '--escaped', '--to', join(folder, 'out'));
  const [found] = readdirSync(join(folder, 'out/d'), { encoding: 'buffer' });
  assert.deepEqual(readFileSync(Buffer.concat([Buffer.from(join(folder, 'out/d/')), found])), BYTES[0]);
  const [listed] = json('find', id, '--name', 'c\\351t');
  assert.deepEqual(Buffer.from(listed.pathHex, 'hex'), Buffer.concat([Buffer.from('d/'), BYTES[0]]));
}, ON_LINUX);

test('diff prints names as ls does', async (t) => {
  const { repo, folder, ok, id } = await prepare(t, [...NAMES, ...BYTES]);
  rmSync(Buffer.concat([Buffer.from(`${folder}/d/`), BYTES[0]]));
  rmSync(join(folder, 'd', 'a\\b'));
  await repo.ingest(Readable.from([tarOf(folder)]));
  const removed = ok('diff', id, 'latest').split('\n').filter((line) => line.startsWith('-'));
  assert.deepEqual(removed, ['- d/a\\\\b', '- d/c\\351t']);
}, ON_LINUX);

test('find takes the patterns of a shell', async (t) => {
  const { json, fails, id } = await prepare(t, ['abc', 'xbc', '🦀', '[x]', 'two words', ']'].map((name) => Buffer.from(name)));
  const found = (pattern) => json('find', id, '--name', pattern).map(({ path }) => path);
  assert.deepEqual(found('[^a]bc'), ['d/xbc']);
  assert.deepEqual(found('\\[*\\]'), ['d/[x]']);
  assert.deepEqual(found('?'), ['d', 'd/]', 'd/🦀']);
  fails(1, /pattern "\[z-a\]" is not valid: the range z-a runs backwards \(ERR_INVALID_ARGUMENT\)/, 'find', id, '--name', '[z-a]');
}, { skip: process.platform === 'win32' });

/** Patterns, what they match, and what they do not. */
const PATTERNS = [
  ['', [''], ['a']],
  ['*', ['', 'a', 'a\nb', '🦀'], []],
  ['a*c', ['ac', 'abc', 'a*c'], ['abcd', 'Abc']],
  ['?', ['a', '🦀', '\n', Buffer.from([0xe9])], ['', 'ab', 'e\u0301', Buffer.from([0xe9, 0xe9])]],
  ['a.c', ['a.c'], ['abc']],
  ['[!a]', ['b', '!', '^', '🦀'], ['a', '', 'bb']],
  ['[^a]', ['b', '!', '^', '🦀'], ['a']],
  ['[a^]', ['a', '^'], ['b']],
  ['[]a]', [']', 'a'], ['[', '[]a]']],
  ['[!]a]', ['b'], [']', 'a']],
  ['[]', ['[]'], [']']],
  ['[a', ['[a'], ['a']],
  ['[a-c-]', ['b', '-'], ['d']],
  ['[-a]', ['-', 'a'], ['b']],
  ['[🦀-🦂]', ['🦀', '🦁'], ['🥀', '🦃']],
  ['[\\]\\\\]', [']', '\\'], ['[']],
  ['[[:digit:][:upper:]_]', ['7', 'Ä', '_'], ['a', ':']],
  ['[![:space:]]', ['a'], [' ', '\t']],
  ['[[]', ['['], []],
  ['\\*\\?\\a', ['*?a'], ['x*?a']],
  ['\\351*', [Buffer.from([0xe9]), Buffer.from([0xe9, 0x61])], ['é']],
  ['[\\350-\\352]', [Buffer.from([0xe9])], ['é', Buffer.from([0xee])]],
  ['\\303\\251', ['é'], [Buffer.from([0xc3])]],
  ['\\\\101', ['\\101'], ['A']],
  ['\\101', ['A'], ['101']],
  ['$(x){2}|y+', ['$(x){2}|y+'], []],
];

test('a pattern matches the whole name, character by character', () => {
  const text = (name) => (typeof name === 'string' ? name : String.fromCharCode(...[...name].map((byte) => (byte < 0x80 ? byte : 0xdc00 + byte))));
  for (const [pattern, matching, others] of PATTERNS) {
    const isMatch = matcher(pattern);
    for (const name of matching) assert.ok(isMatch(text(name)), `${pattern} and ${JSON.stringify(name)}`);
    for (const name of others) assert.ok(!isMatch(text(name)), `${pattern} and not ${JSON.stringify(name)}`);
  }
  for (const wrong of ['a\\', '[z-a]', '[[:none:]]', '[[:alpha:]', 'a/b']) assert.throws(() => matcher(wrong), { code: 'ERR_INVALID_ARGUMENT' }, wrong);
});

test('each name is one line of its own, from which its bytes can be read', () => {
  const names = [...NAMES, ...BYTES, Buffer.from('\u202e\u2028\ufeff\u0007\u007f\u0085\t\r'), Buffer.from([0xed, 0xa0, 0x80]), Buffer.from([0xc0, 0xaf, 0xff])];
  for (let byte = 1; byte < 256; byte++) names.push(Buffer.from([byte]), Buffer.from([0x61, byte, 0x80]));
  const lines = names.map(nameText);
  assert.equal(new Set(lines).size, new Set(names.map((name) => name.toString('hex'))).size);
  for (const [i, line] of lines.entries()) {
    assert.ok(!/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u.test(line), line);
    assert.deepEqual(unescaped(line), names[i], line);
  }
});
