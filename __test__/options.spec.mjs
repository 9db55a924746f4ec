// Limits and defaults of options: those of js/schema.js are the ones that index.d.ts and
// docs/api.md state and the engine has.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { ContainerArchive, PASSPHRASE, afterwards, freshRepo, rejectsWith, reopen, temporary, test } from './support/harness.mjs';
import { PAGE, allMembers, commentOf, declared, nameOf, optionsOf, pathsOf, read, rows, sorted, typeSections } from './support/pages.mjs';

const require = createRequire(import.meta.url);
const schema = require('../js/schema.js');
const fields = require('../js/fields.js');
const { SCHEMA, LEVELS } = schema;

/** A number as the pages write it: 1024, 65,536. */
const plain = (number) => (Math.abs(number) < 10_000 ? String(number) : number.toLocaleString('en-US'));

/** A value as the pages write it: true, 'gzip', 65,536, { data: 20, parity: 1 }. */
function literal(value, number = plain) {
  if (typeof value === 'number') return number(value);
  if (typeof value === 'string') return `'${value}'`;
  if (Array.isArray(value)) return `[${value.map((each) => literal(each)).join(', ')}]`;
  if (typeof value !== 'object') return String(value);
  const entries = Object.entries(value).map(([name, each]) => `${name}: ${literal(each, (n) => plain(n).replaceAll(',', '_'))}`);
  return entries.length === 0 ? '{}' : `{ ${entries.join(', ')} }`;
}

/** The range of a number, or undefined when every whole number from 0 is in it. */
function range({ min, max }) {
  if (max === Number.MAX_SAFE_INTEGER) return min === 0 ? undefined : `from ${plain(min)}`;
  return `${plain(min)} to ${plain(max)}`;
}

const LEVEL_RANGES = Object.entries(LEVELS).filter(([name]) => name !== 'none').map(([name, [min, max]]) => `${name} ${min} to ${max}`);
const TIME_RANGE = 'from 0000-01-01 to 9999-12-30T22:00:00Z';

/** How a cell of docs/api.md about a field of this type begins. */
const KINDS = {
  boolean: () => 'boolean',
  callback: () => '`(progress: ',
  choice: ({ values }) => values.map((value) => `\`'${value}'\``).join(', '),
  compression: () => '[`Compression`]',
  count: () => /^(\[`RetentionCount`\]|`RetentionCount`)/,
  exitCodes: ({ min, max }) => `\`number[]\`, each ${plain(min)} to ${plain(max)}, at least one`,
  id: () => '32 hex digits',
  integer: (field) => `${field.unit}, ${range(field) ?? `from ${field.min}`}`,
  level: () => LEVEL_RANGES.join(', '),
  number: (field) => `${field.unit}, ${range(field)}`,
  object: () => /^(\[`I\w+`\]|`\{ .* \}`)/,
  passphrase: () => '[`Passphrase`]',
  path: () => 'path',
  rawKey: () => '[`RawKey`]',
  signal: () => '`AbortSignal`',
  subset: ({ max }) => `\`'n/t'\`, 1 ≤ n ≤ t ≤ ${plain(max)}`,
  tags: () => '`Record<string, string>`',
  text: () => 'text',
  time: () => `ISO 8601, ${TIME_RANGE}`,
  timeBound: () => 'ISO 8601',
};

/** The field of an option, `inner` ones of an object included: [field, default]. */
function fieldAt(name, path) {
  const [outer, inner] = path.split('.');
  const field = SCHEMA[name][outer];
  return inner === undefined ? [field, field.default] : [field.fields[inner], field.default?.[inner] ?? field.fields[inner].default];
}

/** Fails unless a size in parentheses, as in `8,388,608 (8 MiB)`, is the number before it. */
function assertSameSize(cell, unit, where) {
  const [, number, size, prefix] = /^([\d,]+) \((\d+) ([KMG]iB)\)$/.exec(cell) ?? [];
  if (number === undefined) return assert.fail(`${where}: ${cell}`);
  const bytes = Number(number.replaceAll(',', '')) * (unit === 'KiB' ? 1024 : 1);
  assert.equal(bytes, Number(size) * { KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 }[prefix], where);
}

test('the schema has the options of index.d.ts, required where they are', () => {
  for (const [name, options] of Object.entries(SCHEMA)) {
    assert.deepEqual(sorted(Object.keys(options)), sorted(optionsOf(name)), name);
    for (const member of allMembers(name)) {
      const { required = false } = options[nameOf(member)];
      assert.equal(required, !member.questionToken, `${name}.${nameOf(member)}`);
    }
  }
});

test('docs/api.md states the kind, range, unit and default of every option as the schema has them', () => {
  let compared = 0;
  for (const [name, text] of typeSections()) {
    if (!text.includes('| option |')) continue;
    assert.ok(SCHEMA[name], `${name} is not in the schema`);
    for (const [cell, kind, byDefault] of rows(text)) {
      const path = cell.replace(/`/g, '');
      const [field, value] = fieldAt(name, path);
      const where = `${name}.${path}`;
      const expected = KINDS[field.type]?.(field);
      if (expected instanceof RegExp) assert.match(kind, expected, where);
      else if (expected !== undefined) assert.ok(kind.startsWith(expected), `${where}: ${kind}, and not ${expected}`);
      if (value === undefined) {
        if (field.required && !path.includes('.')) assert.equal(byDefault, 'required', where);
        else assert.doesNotMatch(byDefault, /^[`\d]/, where);
      } else if (byDefault !== 'as there' || !kind.startsWith('[')) {
        const said = typeof value === 'number' ? literal(value) : `\`${literal(value)}\``;
        if (byDefault !== said) {
          assert.ok(byDefault.startsWith(`${said} (`), `${where}: ${byDefault}, and not ${said}`);
          assertSameSize(byDefault, field.unit, where);
        }
      }
      compared++;
    }
  }
  assert.ok(compared > 90, `only ${compared} options were compared`);
});

test('the doc comments of index.d.ts state the range and the default of every option as the schema has them', () => {
  let compared = 0;
  for (const name of Object.keys(SCHEMA)) {
    for (const [path, member] of pathsOf(name)) {
      const [field, value] = fieldAt(name, path);
      const where = `${name}.${path}`;
      const comment = commentOf(member);
      const limits = { integer: range, number: range, level: () => LEVEL_RANGES.join(', '), time: () => TIME_RANGE }[field.type]?.(field);
      if (limits !== undefined) assert.ok(comment.includes(limits), `${where} does not state ${limits}: ${comment}`);
      if (field.type === 'choice') {
        assert.equal(member.type.getText(), field.values.map((each) => `'${each}'`).join(' | '), where);
      }
      const stated = /\bDefault:? (true|false|'[^']*'|[\d,.]*\d|\{[^}]*\}|\[.*?\](?!\())/.exec(comment)?.[1];
      const isSaid = value !== undefined && field.type !== 'count' && !['{}', '[]'].includes(literal(value));
      const isElsewhere = field.type === 'object' && comment.includes('{@link');
      if ((isSaid && !isElsewhere) || stated !== undefined) assert.equal(stated, value === undefined ? value : literal(value), where);
      if (limits !== undefined || isSaid) compared++;
    }
  }
  assert.ok(compared > 30, `only ${compared} options were compared`);
  const { keepLast } = schema.IRetentionPolicy;
  assert.ok(commentOf(declared('RetentionCount')).includes(`${range(keepLast)}`));
  assert.ok(commentOf(declared('RetentionCount')).includes(`Default ${keepLast.default}`));
  const types = read('index.d.ts');
  for (const page of [types, PAGE]) {
    assert.match(page, new RegExp(`1 to ${schema.MAX_TEXT_BYTES} bytes of UTF-8`));
    assert.match(page, new RegExp(`${schema.KEY_BYTES} (random )?bytes`));
  }
});

/** Calls `each(name, field)` for the numbers of an options type, those within objects too. */
function numbersOf(options, each, outer = []) {
  for (const [name, field] of Object.entries(options)) {
    if (field.type === 'integer' || field.type === 'number') each([...outer, name], field);
    if (field.type === 'object') numbersOf(field.fields, each, [...outer, name]);
  }
}

test('a number at each limit of the schema is taken, and one past it refused', () => {
  for (const options of Object.values(SCHEMA)) {
    numbersOf(options, (path, field) => {
      const [outer, inner] = path;
      const given = (value) => {
        if (inner === undefined) return { [outer]: value };
        // with its required neighbours
        const { fields: all } = options[outer];
        const rest = Object.entries(all).filter(([, { required }]) => required).map(([name, { min }]) => [name, min]);
        return { [outer]: { ...Object.fromEntries(rest), [inner]: value } };
      };
      const take = (value) => fields.read(given(value), { [outer]: options[outer] }, [outer]);
      const step = field.type === 'number' ? Number.EPSILON : 1;
      for (const value of [field.min, field.max]) take(value);
      for (const value of [field.min - step, field.max + step]) {
        assert.throws(() => take(value), { code: 'ERR_INVALID_ARGUMENT' }, `${path.join('.')}: ${value}`);
      }
    });
  }
});

/** Options of a new repository with one number in them, valid but for that number. */
const AROUND = {
  'chunking.min': (min) => ({ chunking: { min, avg: Math.max(min, 256), max: Math.max(min, 1024) } }),
  'chunking.avg': (avg) => ({ chunking: { min: 64, avg, max: Math.max(avg, 1024) } }),
  'chunking.max': (max) => ({ chunking: { min: 64, avg: 256, max } }),
  // without parity, which keeps a reserve of several packs
  packSize: (packSize) => ({ packSize, parity: null }),
  'parity.data': (data) => ({ parity: { data, parity: 1 }, packSize: 65_536 }),
  'parity.parity': (parity) => ({ parity: { data: 20, parity }, packSize: 65_536 }),
  'kdf.memory': (memory) => ({ kdf: { ...schema.IInitOptions.kdf.default, memory, time: 2 } }),
  'kdf.time': (time) => ({ kdf: { ...schema.IInitOptions.kdf.default, time } }),
  'kdf.lanes': (lanes) => ({ kdf: { ...schema.IInitOptions.kdf.default, lanes } }),
};

test('the engine has the limits of the schema', async (t) => {
  const native = require('../js/native.js');
  const folder = temporary(t);
  let n = 0;
  const init = async (options) => (await native.init(join(folder, String(n++)), JSON.stringify(options))).close();
  const refused = (options) => assert.rejects(init(options), { code: 'ERR_INVALID_ARGUMENT' }, JSON.stringify(options));
  const seen = [];
  numbersOf(schema.IInitOptions, (path, field) => {
    if (AROUND[path.join('.')]) seen.push([path.join('.'), field]);
  });
  assert.deepEqual(seen.map(([path]) => path).sort(), Object.keys(AROUND).sort());
  for (const [path, { min, max }] of seen) {
    // sizes of chunks are even
    const step = path.startsWith('chunking') ? 2 : 1;
    for (const value of [min, max]) await init(AROUND[path](value));
    for (const value of [min - step, max + step]) await refused(AROUND[path](value));
  }
  for (const [algorithm, [min, max]] of Object.entries(LEVELS)) {
    for (const level of [min, max]) await init({ compression: { algorithm, level } });
    // to the engine, level 0 of zstd is 'auto'
    for (const level of [algorithm === 'zstd' ? -1 : min - 1, max + 1]) await refused({ compression: { algorithm, level } });
  }
});

test('the level of zstd can be chosen by the data, for a repository or an ingest', async (t) => {
  const path = join(temporary(t), 'repo');
  const auto = { algorithm: 'zstd', level: 'auto' };
  const repo = await ContainerArchive.init(path, { compression: auto });
  assert.deepEqual(JSON.parse(readFileSync(join(path, 'config.json'), 'utf8')).compression, { algorithm: 'zstd', level: 0 });
  await repo.close();
  const again = await reopen(t, path);
  // rows that both levels compress, and level 3 clearly better
  const rows = Array.from({ length: 200_000 }, (_, row) => `${row}\tcustomer-${(row * 7919) % 1000}\t${(row * 104_729) % 65_537}\n`).join('');
  const levels = async (options) => {
    const seen = [];
    const { id } = await again.ingest([Buffer.from(`${JSON.stringify(options)}${rows}`)], { ...options, onProgress: ({ compressionLevel }) => seen.push(compressionLevel) });
    assert.equal((await buffer(await again.restore(id))).toString(), `${JSON.stringify(options)}${rows}`);
    return seen.at(-1);
  };
  assert.ok([1, 3].includes(await levels({})));
  assert.ok([1, 3].includes(await levels({ compression: auto })));
  assert.equal(await levels({ compression: 'zstd' }), null);
  await rejectsWith(again.ingest([], { compression: { algorithm: 'gzip', level: 'auto' } }), 'ERR_INVALID_ARGUMENT');
  await rejectsWith(again.ingest([], { compression: { algorithm: 'zstd', level: 0 } }), 'ERR_INVALID_ARGUMENT');
});

test('the engine has the defaults of the schema', async (t) => {
  const native = require('../js/native.js');
  const path = join(temporary(t), 'repo');
  const handle = await native.init(path, '{}', Buffer.from(PASSPHRASE));
  afterwards(t, () => handle.close());
  const { chunking, compression, parity, packSize, kdf } = schema.IInitOptions;
  const config = JSON.parse(readFileSync(join(path, 'config.json'), 'utf8'));
  const pick = (object, like) => Object.fromEntries(Object.keys(like).map((name) => [name, object[name]]));
  assert.deepEqual(pick(config.chunking, chunking.default), chunking.default);
  assert.deepEqual(config.compression, { algorithm: compression.default, level: schema.Compression.level.default });
  assert.deepEqual(pick(config.parity, parity.default), parity.default);
  assert.equal(config.packSize, packSize.default);
  const [key] = JSON.parse(await handle.listKeys());
  assert.deepEqual(key.kdf, kdf.default);
  const { repo } = await freshRepo(t);
  assert.equal((await repo.planPrune({ keepLast: 1 })).timeZone, schema.IRetentionPolicy.timeZone.default);
});
