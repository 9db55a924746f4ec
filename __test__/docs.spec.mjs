// docs/api.md and index.d.ts are in step: no call, option, field, event or code is in only one of
// them, and every example of api.md runs (pages.spec.mjs runs those of the other pages).

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import ts from 'typescript';
import { ContainerArchive, ENCRYPTED, PASSPHRASE, filesIn, freshRepo, random, rejectsWith, root, temporary, test } from './support/harness.mjs';
import {
  EXPORTED, PAGE, declared, membersOf, nameOf, optionsOf, paths, pathsOf, read, rows, sections, sorted, typeSections, written,
} from './support/pages.mjs';

const CODE = /\b(?:ERR_[A-Z_]+|ABORT_ERR)\b/g;
const codesIn = (text) => new Set(text.match(CODE) ?? []);
/** Calls as the page writes them. */
const CALLS = { ContainerArchive: ['archive', 'ContainerArchive'], IKeys: ['archive.keys', ''] };

test('every call of index.d.ts has a section in api.md, and every section a call', () => {
  const expected = Object.entries(CALLS).flatMap(([type, [instance, itself]]) =>
    membersOf(declared(type)).map((member) => {
      const isStatic = member.modifiers?.some((modifier) => modifier.kind === ts.SyntaxKind.StaticKeyword);
      const name = nameOf(member);
      const call = (isStatic ? itself : instance) + (name.startsWith('[') ? name : `.${name}`);
      if (!member.parameters) return call;
      const parameters = member.parameters.map((one) => one.name.text + (one.questionToken ? '?' : ''));
      return `${call}(${parameters.join(', ')})`;
    }));
  const found = sections(3).flatMap(({ heading }) => [...heading.matchAll(/`([^`]+)`/g)].map(([, call]) => call));
  assert.deepEqual(sorted(found), sorted(expected));
  assert.equal(new Set(found).size, found.length, 'a call has two sections');
});

test('every section of a call has an example, and every code that index.d.ts names for it', () => {
  const known = codesIn(declared('ContainerArchiveErrorCode').getText());
  for (const { heading, text } of sections(3)) {
    const own = text.split(/^#### /m)[0];
    const [, type, name] = /`(archive\.keys|ContainerArchive|archive)[.[]([\w.]+)/.exec(heading);
    const node = declared(type === 'archive.keys' ? 'IKeys' : 'ContainerArchive');
    const member = membersOf(node).find((one) => nameOf(one).replace(/^\[|\]$/g, '') === name);
    if (!member.parameters) continue;
    for (const option of member.parameters.flatMap((one) => written(one.type).flatMap((type) => paths(type)))) {
      assert.ok(own.includes(`\`${option[0]}\``), `${heading} does not name ${option[0]}`);
    }
    assert.match(own, /```js\n/, `${heading} has no example`);
    const said = codesIn(own);
    const typed = codesIn(member.getFullText().replace(/\{@link[^}]*\}/g, ''));
    assert.deepEqual(sorted(typed).filter((code) => !said.has(code)), [], `${heading} does not name these codes of index.d.ts`);
    assert.deepEqual(sorted(said).filter((code) => !known.has(code)), [], `${heading} names codes that do not exist`);
  }
});

test('every type of index.d.ts has a heading in api.md, and every heading a type', () => {
  const found = typeSections().map(([name]) => name);
  const expected = EXPORTED.map((statement) => statement.name.text).filter((name) => name !== 'ContainerArchive');
  assert.deepEqual(sorted(found), sorted(expected));
  assert.equal(new Set(found).size, found.length, 'a type has two headings');
});

test('every option, field and event of index.d.ts has a row in api.md, and vice versa', () => {
  for (const [name, text] of typeSections()) {
    if (name === 'IKeys' || name === 'IngestSource') continue; // calls; kinds of values
    const found = rows(text).map(([cell]) => cell.replace(/^`|`$/g, ''));
    assert.deepEqual(sorted(found), sorted(pathsOf(name).map(([path]) => path)), name);
    assert.equal(new Set(found).size, found.length, `${name}: a row stands twice`);
  }
});

test('the calls take the options of index.d.ts', async (t) => {
  const { repo } = await freshRepo(t, ENCRYPTED);
  const unknown = { unknownOption: 1 };
  const within = (name) => (options) => ContainerArchive.init('x', { [name]: options });
  const calls = [
    [(options) => ContainerArchive.init('x', options), optionsOf('IInitOptions')],
    [(options) => ContainerArchive.openOrInit('x', options), optionsOf('IOpenOrInitOptions')],
    [(options) => ContainerArchive.open('x', options), optionsOf('IOpenOptions')],
    [within('kdf'), optionsOf('IKdf')],
    [within('compression'), optionsOf('Compression')],
    [within('chunking'), ['min', 'avg', 'max']],
    [within('parity'), ['data', 'parity']],
    [(options) => repo.ingest(Buffer.of(1), options), optionsOf('IIngestOptions')],
    [(options) => repo.ingest(Buffer.of(1), { items: [options] }), optionsOf('IItemDescription')],
    [(options) => repo.ingestMulti([{ name: 'a', type: 'b', stream: Buffer.of(1) }], options), optionsOf('IIngestMultiOptions')],
    [(options) => repo.ingestMulti([options]), optionsOf('IIngestItem')],
    [(options) => repo.ingestCommand({ name: 'a', command: ['b'] }, options), optionsOf('IIngestMultiOptions')],
    [(options) => repo.ingestCommand(options), optionsOf('IIngestCommand')],
    [(options) => repo.restore('latest', options), optionsOf('IRestoreOptions')],
    [(range) => repo.restore('latest', { range }), ['start', 'end']],
    [(options) => repo.restoreToFile('latest', options), optionsOf('IRestoreToFileOptions')],
    [(options) => repo.listSnapshots(options), optionsOf('ISnapshotListOptions')],
    [(options) => repo.latest(options), optionsOf('ISnapshotFilter')],
    [(options) => repo.verify(options), optionsOf('IVerifyOptions')],
    [(policy) => repo.prune(policy), optionsOf('IRetentionPolicy'), 'ERR_INVALID_POLICY'],
    [(options) => repo.prune({ keepLast: 1 }, options), optionsOf('IPruneOptions')],
    [(options) => repo.planPrune({ keepLast: 1 }, options), optionsOf('IPlanPruneOptions')],
    [(filter) => repo.planPrune({ keepLast: 1 }, { filter }), ['tags']],
    [(options) => repo.report(options), optionsOf('IReportOptions')],
    [(policy) => repo.report({ policy }), optionsOf('IRetentionPolicy'), 'ERR_INVALID_POLICY'],
    [(options) => repo.repair(options), optionsOf('IRepairOptions')],
    [(options) => repo.copyTo(repo, options), optionsOf('ICopyOptions')],
    [(filter) => repo.copyTo(repo, { filter }), optionsOf('ISnapshotFilter')],
    [(options) => repo.mirrorTo('x', options), optionsOf('IMirrorOptions')],
    [(options) => repo.reindex(options), ['signal']],
    [(options) => repo.stats(options), ['signal']],
    [(options) => repo.unlock(options), ['force']],
    [(options) => repo.keys.add(options), optionsOf('INewKey')],
    [(options) => repo.keys.change(options), [...optionsOf('INewKey'), 'id']],
  ];
  for (const [call, expected, code = 'ERR_INVALID_ARGUMENT'] of calls) {
    const { hint } = await rejectsWith(call(unknown), code);
    assert.deepEqual(sorted(hint.replace(/^Known \w+: /, '').split(', ')), sorted(expected), call.toString());
  }
});

test('the codes of index.d.ts are those of the engine and of js/', () => {
  const engine = codesIn(/fn code\(&self\)[^]*?\n    \}/.exec(read('src/error/code.rs'))[0]);
  const face = filesIn(join(root, 'js')).flatMap((file) => [...codesIn(read(join('js', file)))]);
  // a plain Error, because the class is not loaded yet
  const codes = [...engine, ...face].filter((code) => code !== 'ERR_NATIVE_LOAD');
  assert.deepEqual(sorted(codesIn(declared('ContainerArchiveErrorCode').getText())), sorted(codes));
});

test('every code in errors.md states when it occurs and, except for notes, what to do', () => {
  const all = rows(read('docs/errors.md'));
  assert.ok(all.length > 70, `only ${all.length} codes`);
  for (const [code, when, remedy] of all) {
    assert.match(code, /^`(ERR|WARN|NOTE|ABORT)_[A-Z_]+`$/);
    assert.ok(when && (remedy || code.startsWith('`NOTE_')), code);
  }
});

test('links between the pages have a target', () => {
  const anchor = (heading) => heading.toLowerCase().replace(/[^\w\- ]/g, '').replace(/ /g, '-');
  const pages = ['README.md', ...readdirSync(join(root, 'docs')).filter((name) => name.endsWith('.md')).map((name) => `docs/${name}`)];
  for (const page of pages) {
    for (const [, target] of read(page).matchAll(/\]\(([^)]*)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      const [file, hash] = target.split('#');
      const text = file === '' ? read(page) : read(join(page, '..', file));
      const anchors = [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading]) => anchor(heading));
      if (hash !== undefined) assert.ok(anchors.includes(hash), `${page}: ${target}`);
    }
  }
});

/**
 * A directory with the files and the program of the examples, from which the package can be
 * required.
 */
function workplace(t) {
  const folder = temporary(t);
  mkdirSync(join(folder, 'node_modules', '@serve.zone'), { recursive: true });
  symlinkSync(root, join(folder, 'node_modules', '@serve.zone', 'containerarchive'), 'junction');
  for (const [seed, name] of ['dump.sql', 'volume.tar'].entries()) writeFileSync(join(folder, name), random(300_000, seed));
  mkdirSync(join(folder, 'bin'));
  writeFileSync(join(folder, 'bin', 'pg_dump'), '#!/bin/sh\necho "the database $1"\n', { mode: 0o755 });
  return folder;
}

/** Runs a program of the pages in such a directory; returns its stdout. */
function runExample(folder, program) {
  writeFileSync(join(folder, 'example.cjs'), program.replaceAll('/var/backups/shop', join(folder, 'shop')));
  const env = { ...process.env, BACKUP_PASSPHRASE: PASSPHRASE, PATH: `${join(folder, 'bin')}${delimiter}${process.env.PATH}` };
  return execFileSync(process.execPath, ['example.cjs'], { cwd: folder, env, encoding: 'utf8', timeout: 100_000 });
}

const examples = (text) => [...text.matchAll(/```js\n([^]*?)```/g)].map(([, code]) => code);
// The programs that the examples start exist on Unix only.
const options = { skip: process.platform === 'win32' };

test('the examples of api.md run unchanged, one after the other', (t) => {
  const folder = workplace(t);
  const [head, ...blocks] = examples(PAGE);
  assert.ok(blocks.length > 25, `only ${blocks.length} examples`);
  const program = `${head}\n(async () => {\n${blocks.join('\n')}\nawait archive.close();\nconsole.log('done');\n})();\n`;
  assert.equal(runExample(folder, program), 'done\n');
}, options);
