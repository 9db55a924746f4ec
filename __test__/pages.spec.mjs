// What people read: every member of index.d.ts is documented, and every code block of README and
// docs/ runs, or states why it does not and is parsed.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import {
  CHEAP_KDF, ContainerArchive, PASSPHRASE, afterwards, assertSameBytes, compressible, random, repoFiles, root, sha256, test,
} from './support/harness.mjs';
import { EXPORTED, commentOf, declared, membersOf, nameOf, paths, read, written } from './support/pages.mjs';
import { blocksOf, createStage, indentedCommands, lacking, runBlock, typeErrors } from './support/blocks.mjs';
import { findPostgres, startPostgres } from '../scripts/postgres.mjs';

/** Every exported declaration with its members, their members and the options of calls. */
function everything() {
  return EXPORTED.flatMap((statement) => {
    const name = statement.name.text;
    const hasMembers = ts.isInterfaceDeclaration(statement) || ts.isClassDeclaration(statement);
    const members = hasMembers ? paths(statement) : written(statement.type).flatMap((type) => paths(type));
    const options = (hasMembers ? membersOf(statement) : []).flatMap((member) => (member.parameters ?? [])
      .flatMap((parameter) => written(parameter.type).flatMap((type) => paths(type, `${nameOf(member)}(${parameter.name.text}).`))));
    return [[name, statement], ...[...members, ...options].map(([path, member]) => [`${name}.${path}`, member])];
  });
}

test('every type, member and option of index.d.ts has a doc comment', () => {
  const all = everything();
  assert.ok(all.length > 390, `only ${all.length} members`);
  const isDocumented = (node) => (
    /[a-z]/.test(commentOf(node)) && node.getFullText().slice(0, node.getLeadingTriviaWidth()).includes('/**'));
  assert.deepEqual(all.filter(([, node]) => !isDocumented(node)).map(([path]) => path), []);
});

/** The tags of the doc comment of a member: [{ name, text }]. */
const tagsOf = (member) => ts.getJSDocTags(member).map((tag) => (
  { name: tag.tagName.text, text: ts.getTextOfJSDocComment(tag.comment) ?? '' }));

test('the main calls of index.d.ts have examples that type-check, and state their errors', () => {
  const calls = membersOf(declared('ContainerArchive')).filter((member) => member.parameters);
  const examples = calls.flatMap((member) => tagsOf(member)
    .filter(({ name }) => name === 'example')
    .map(({ text }) => [nameOf(member), text]));
  assert.deepEqual(examples.map(([name]) => name), [
    'openOrInit', 'ingest', 'ingestMulti', 'ingestCommand', 'restore', 'restoreToFile', 'restoreToDirectory',
    'files', 'memberInfo', 'diff', 'verify', 'prune', 'copyTo', 'mirrorTo',
  ]);
  for (const [name] of examples) {
    const member = calls.find((one) => nameOf(one) === name);
    assert.ok(tagsOf(member).some((tag) => tag.name === 'throws' && /ERR_|@link/.test(tag.text)), `${name} states no error`);
  }
  const [found, ...others] = typeErrors([...examples.map(([, code]) => code), 'await archive.prune({ keepDay: 7 });']);
  assert.match(found, /keepDay/, 'an error that is there on purpose is not found');
  assert.deepEqual(others, []);
});

const PAGES = ['README.md', ...readdirSync(join(root, 'docs')).filter((name) => name.endsWith('.md')).map((name) => `docs/${name}`)];

test('README.md has at most 200 lines', () => {
  assert.ok(read('README.md').trimEnd().split('\n').length <= 200);
});

test('commands on the pages are in fenced blocks', () => {
  for (const page of PAGES) assert.deepEqual(indentedCommands(read(page)), [], page);
  assert.equal(indentedCommands('text\n\n    npm test\n').length, 1);
});

/** A tar of a volume with known contents. */
const tarOf = (folder) => execFileSync('tar', ['--sort=name', '--numeric-owner', '-C', folder, '-c', '.'], { maxBuffer: 1 << 26 });

/** A repository that has been backed up to twice: a dump and a volume. */
async function repositoryOfNights(stage, path, { hasVolume = true, ...more } = {}) {
  const options = { passphrase: PASSPHRASE, kdf: CHEAP_KDF, compression: 'zstd', packSize: 65_536, ...more };
  const archive = await ContainerArchive.init(stage.at(path), options);
  for (const night of [1, 2]) {
    const sql = Buffer.concat([compressible(400_000, 7), random(1_200_000, 8), Buffer.from(`night ${night}\n`)]);
    writeFileSync(stage.at('shop.sql'), sql);
    await archive.ingestMulti([
      { name: 'shop.sql', type: 'database-dump', stream: sql },
      ...(hasVolume ? [{ name: 'shop.tar', type: 'volume-tar', stream: tarOf(stage.at('srv/shop')) }] : []),
    ], { tags: { service: 'shop' } });
  }
  await archive.close();
}

const same = (stage, actual, expected) => assertSameBytes(readFileSync(stage.at(actual)), readFileSync(stage.at(expected)), actual);
const sameTree = (stage, actual, expected) => assert.deepEqual(tarOf(stage.at(actual)), tarOf(stage.at(expected)), actual);

/** What each page expects to be there, and what is there when its blocks have run. */
const STAGES = {
  'README.md': {
    check(stage, outputs) {
      const [first] = outputs.js;
      assert.match(first, /^600000 bytes, \d{6} stored, 0 chunks reused\n$/);
      same(stage, 'restored.sql', 'dump.sql');
      const [block] = blocksOf('README.md', read('README.md')).filter(({ language }) => language === 'js');
      assert.ok(block.code.trimEnd().split('\n').length <= 12, 'the example is longer than 12 lines');
      assert.match(runBlock(block, stage), /^600000 bytes, 0 stored, [1-9]\d* chunks reused\n$/);
      if (outputs.sh.length > 0) assert.equal(readFileSync(stage.at('shop.sql'), 'utf8'), 'the database shop\n');
    },
  },
  'docs/retention.md': { prepare: (stage) => repositoryOfNights(stage, 'var/backups/shop') },
  'docs/copies.md': {
    prepare: (stage) => repositoryOfNights(stage, 'var/backups/shop'),
    check(stage, { ran }) {
      if (ran.some(({ code }) => code.includes('restored.sql'))) same(stage, 'restored.sql', 'shop.sql');
    },
  },
  'docs/restore-at-3am.md': {
    async prepare(stage) {
      await repositoryOfNights(stage, 'var/backups/shop');
      await repositoryOfNights(stage, 'mnt/damaged', { parity: false, hasVolume: false });
      const [largest] = repoFiles(stage.at('mnt/damaged'), /^packs\/data\/.*\.pack$/)
        .sort((a, b) => readFileSync(b).length - readFileSync(a).length);
      rmSync(largest);
    },
    async check(stage, outputs) {
      same(stage, 'restored-by-node.sql', 'shop.sql');
      if (outputs.ran.some(({ code }) => code.includes('restored-by-python'))) same(stage, 'restored-by-python.sql', 'shop.sql');
      if (outputs.ran.some(({ code }) => code.includes('shop-restored.sql'))) same(stage, 'shop-restored.sql', 'shop.sql');
      if (outputs.ran.some(({ code }) => code.includes('--to found'))) same(stage, 'found/uploads/a.bin', 'srv/shop/uploads/a.bin');
      const [list, , repair, incomplete] = outputs.js;
      assert.match(list, /^[0-9a-f]{32} \S+ \{"service":"shop"\} shop\.sql \(\d+ bytes\), shop\.tar \(\d+ bytes\)\n/);
      assert.match(repair, /ERR_(?:PACK|CHUNK)_MISSING[^]*0 packs repaired, [1-9]\d* chunks lost\nincomplete: [0-9a-f]{32}/);
      const [partial, whole] = ['shop.sql.incomplete', 'shop.sql'].map((name) => readFileSync(stage.at(name)));
      assert.equal(partial.length, whole.length);
      const lost = [...incomplete.matchAll(/^bytes (\d+) to (\d+) of \d+ are lost$/gm)].map(([, from, to]) => [Number(from), Number(to)]);
      assert.ok(lost.length > 0, incomplete);
      for (const [from, to] of lost) {
        assert.ok(partial.subarray(from, to).every((byte) => byte === 0), `bytes ${from} to ${to}`);
        whole.fill(0, from, to);
      }
      assert.ok(whole.includes('night 2') && !whole.subarray(0, 1000).includes(0), 'nothing is intact');
      assertSameBytes(partial, whole, 'what is intact');
      // "The same data can also be backed up again": then the old snapshot is complete.
      const archive = await ContainerArchive.open(stage.at('mnt/damaged'), { passphrase: PASSPHRASE });
      const [{ id }] = await archive.listSnapshots();
      await archive.ingest({ path: stage.at('shop.sql') });
      await archive.restoreToFile(id, { path: stage.at('complete.sql') });
      await archive.close();
      same(stage, 'complete.sql', 'shop.sql');
    },
  },
  'docs/containers.md': {
    check(stage, outputs) {
      sameTree(stage, 'srv/shop-restored', 'srv/shop');
      if (outputs.ran.some(({ code }) => code.includes('shop-from-cli'))) sameTree(stage, 'srv/shop-from-cli', 'srv/shop');
    },
  },
  'docs/databases.md': {
    async environment(t) {
      if (findPostgres() === null) return {};
      const postgres = await startPostgres();
      afterwards(t, () => postgres.stop());
      postgres.run('psql', ['-qc', 'CREATE DATABASE shop']);
      const sql = "CREATE TABLE orders AS SELECT i AS id, md5(i::text) AS token FROM generate_series(1, 2000) i; COMMENT ON TABLE orders IS 'ö';";
      postgres.run('psql', ['-qc', sql, 'shop'], { env: { ...postgres.env, PGCLIENTENCODING: 'UTF8' } });
      return postgres.env;
    },
    prepare(stage) {
      if (lacking({ language: 'sh', code: 'sqlite3' }, stage) !== null) return;
      const sql = `PRAGMA journal_mode=wal; CREATE TABLE orders(id INTEGER PRIMARY KEY, token);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) INSERT INTO orders SELECT i, 'token ' || i FROM n;`;
      execFileSync('sqlite3', [stage.at('srv/shop.db'), sql], { stdio: 'ignore' });
    },
    async check(stage, { ran }) {
      const rows = (database) => execFileSync('psql', ['-qAtc', 'SELECT * FROM orders ORDER BY id', database], { env: stage.env });
      for (const database of ['shop_restored', 'shop_from_cli']) {
        if (ran.some(({ code }) => code.includes(database))) assert.equal(sha256(rows(database)), sha256(rows('shop')), database);
      }
      if (!ran.some(({ code }) => code.includes('.backup'))) return;
      const archive = await ContainerArchive.open(stage.at('var/backups/databases'), { passphrase: PASSPHRASE });
      const { id } = (await archive.listSnapshots()).find(({ items }) => items[0].name === 'shop.db');
      await archive.restoreToFile(id, { path: stage.at('restored.db') });
      await archive.close();
      const dump = (file) => execFileSync('sqlite3', [stage.at(file), '.dump'], { encoding: 'utf8' });
      assert.equal(dump('restored.db'), dump('srv/shop.db'));
      assert.match(dump('restored.db'), /'token 5000'[^]*\nCOMMIT;\n$/);
      const damaged = readFileSync(stage.at('srv/shop.db'));
      writeFileSync(stage.at('srv/shop.db'), damaged.fill(0xff, 5 * 4096, 6 * 4096));
      const copies = ran.filter(({ code }) => code.includes('sqlite'));
      assert.equal(copies.length, 2);
      for (const block of copies) assert.throws(() => runBlock(block, stage), /shop\.db is damaged|malformed|ERR_SOURCE_FAILED/, block.name);
    },
  },
};

// The shell and the programs of the blocks exist on Unix only. The examples of api.md are one
// program, which docs.spec.mjs runs.
const UNIX = { skip: process.platform === 'win32', timeout: 600_000 };
for (const page of PAGES.filter((name) => name !== 'docs/api.md')) {
  const blocks = blocksOf(page, read(page));
  if (blocks.length === 0) continue;
  test(`the code blocks of ${page} run, or state why not and are parsed`, async (t) => {
    const { environment, prepare, check } = STAGES[page] ?? {};
    const stage = createStage(t, await environment?.(t));
    await prepare?.(stage);
    const outputs = { js: [], sh: [], ts: [], ran: [] };
    for (const block of blocks) {
      await t.test(block.name, (subtest) => {
        const missing = block.reason === null ? lacking(block, stage) : null;
        if (missing !== null) return subtest.skip(`NOT RUN: it needs ${missing}`);
        const output = runBlock(block, stage);
        if (block.reason !== null) return subtest.diagnostic(`only parsed: ${block.reason}`);
        outputs[block.language].push(output);
        outputs.ran.push(block);
      });
    }
    await check?.(stage, outputs);
  }, UNIX);
}

test('a block that fails, or is no program, fails the test of its page', (t) => {
  const stage = createStage(t);
  const [sh, js, parsed] = blocksOf('x.md', '```sh\nfalse\ntrue\n```\n\n```js\nimport "node:fs";\nthrow 1;\n```\n\n```js\n// not run here: why\nlet 1;\n```\n');
  for (const block of [sh, js, parsed]) assert.throws(() => runBlock(block, stage), assert.AssertionError, block.name);
  assert.equal(parsed.reason, 'why');
  assert.throws(() => blocksOf('x.md', '```javascript\n```\n'), /language javascript/);
}, UNIX);
