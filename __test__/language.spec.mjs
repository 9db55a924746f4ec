// Prose of the JavaScript side and of the pages: comments wrap at 100 columns, and words that were
// replaced do not return.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { join, relative } from 'node:path';
import { root, test } from './support/harness.mjs';

const COLUMNS = 100;

/** Words that a reader has to translate, and the uses in which one is right nevertheless. */
const BANNED = new RegExp([
  'somebody|nobody|anybody|everybody|whoever', // another process, no process, the caller, any writer
  'anew|made again|makes? it again|made whole|whole again', // rebuilt, recreated, repaired
  'for ever|meanwhile|beside', // forever, in the meantime, next to or concurrently with
  'of its own accord|puts? up with|came to nothing|takes? [a-z]+ for no', // automatically, tolerates, was abandoned
].map((words) => `\\b(?:${words})\\b`).join('|'), 'i');
const ALLOWED = [/the user nobody/];

/** The files of a directory that end in this way, recursively. */
const filesIn = (folder, ending) => readdirSync(join(root, folder), { recursive: true })
  .filter((name) => ending.test(name))
  .map((name) => join(root, folder, name));
const CODE = [
  ...filesIn('js', /\.js$/), ...filesIn('__test__', /\.(mjs|ts)$/), ...filesIn('scripts', /\.(mjs|py)$/),
  ...filesIn('benches', /\.(mjs|rs)$/), ...filesIn('cli/src', /\.mjs$/), ...filesIn('examples', /\.mjs$/),
  join(root, 'index.js'), join(root, 'index.d.ts'),
];
const PAGES = [
  ...filesIn('docs', /\.md$/),
  ...['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md'].map((name) => join(root, name)),
];

/** The lines of files that `isWrong`, as `file:line: text`. */
function linesThat(isWrong, files) {
  return files.flatMap((file) => readFileSync(file, 'utf8').split('\n')
    .map((line, i) => (isWrong(line) ? `${relative(root, file)}:${i + 1}: ${line.trim()}` : null))
    .filter((found) => found !== null));
}

test('comments wrap at 100 columns', () => {
  const isLong = (line) => line.length > COLUMNS && /^\s*(\/\/|\/\*|\*[ /])/.test(line);
  assert.deepEqual(linesThat(isLong, CODE), []);
  assert.ok(isLong(`  // ${'x'.repeat(COLUMNS)}`) && !isLong(`const ${'x'.repeat(COLUMNS)}; // code`));
});

test('words that were replaced do not return', () => {
  const isBanned = (line) => BANNED.test(line) && !ALLOWED.some((allowed) => allowed.test(line));
  const files = [...CODE, ...PAGES].filter((file) => !file.endsWith('language.spec.mjs'));
  assert.deepEqual(linesThat(isBanned, files), []);
  for (const line of ['somebody else', 'is made again', 'a file beside it', 'kept for ever']) assert.ok(isBanned(line), line);
  for (const line of ['the user nobody', 'besides', 'runs forever']) assert.ok(!isBanned(line), line);
});
