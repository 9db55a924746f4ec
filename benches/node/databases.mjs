// What each format of a dump costs in a repository:
// node benches/node/databases.mjs [--rows N] [--only postgres | sqlite]
//
// A temporary server gets a shop: customers, orders and events. It is dumped in several formats, a
// day passes, and it is dumped again. Each format has a repository of its own (zstd, encrypted);
// the figures are those of its two snapshots. There are three kinds of day: one that appends and
// changes recent rows, one that also edits older rows at a few positions, and one that changes rows
// at random, all over the tables. The same for the ways to copy a file of SQLite.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { findPostgres, startPostgres } from '../../scripts/postgres.mjs';

const { ContainerArchive } = createRequire(import.meta.url)('../../index.js');
const { values: { rows, only } } = parseArgs({ options: { rows: { type: 'string', default: '1000000' }, only: { type: 'string' } } });
const ORDERS = Number(rows);

const FORMATS = {
  'plain': 'pg_dump shop',
  'plain, `gzip`': 'pg_dump shop | gzip',
  'plain, `gzip --rsyncable`': 'pg_dump shop | gzip --rsyncable',
  'plain, `zstd`': 'pg_dump shop | zstd -c',
  '`-Fc`': 'pg_dump -Fc shop',
  '`-Fc -Z0`': 'pg_dump -Fc -Z0 shop',
  '`-Fc -Z0`, `zstd`': 'pg_dump -Fc -Z0 shop | zstd -c',
};

/** Text that compresses like text: words of a small vocabulary, different in each row. */
const note = (seed, words) => `(SELECT string_agg(substr(md5((${seed} * 31 + w * 7) % 4096 || 'w'), 1, 3 + (${seed} + w) % 6), ' ')
  FROM generate_series(1, ${words}) w)`;
const order = (id) => `${id}, 1 + ${id} * 7919 % ${ORDERS / 5}, timestamptz '2026-01-01Z' + ${id} * interval '31 s',
  round((random() * 500)::numeric, 2), (ARRAY['new','paid','sent','done'])[1 + ${id} % 4], md5(${id} || 'token'), ${note(id, 12)}`;
const SCHEMA = `
SELECT setseed(0.5);
CREATE TABLE customers (id bigint PRIMARY KEY, name text, email text, joined timestamptz, about text);
CREATE TABLE orders (id bigint PRIMARY KEY, customer bigint, placed timestamptz, total numeric, state text, token text, note text);
CREATE TABLE events (id bigint PRIMARY KEY, at timestamptz, kind text, detail text);
INSERT INTO customers SELECT i, 'customer ' || md5(i || 'n'), md5(i || 'e') || '@example.com',
  timestamptz '2020-01-01Z' + i * interval '5 min', ${note('i', 8)} FROM generate_series(1, ${ORDERS / 5}) i;
INSERT INTO orders SELECT ${order('i')} FROM generate_series(1, ${ORDERS}) i;
INSERT INTO events SELECT i, timestamptz '2026-01-01Z' + i * interval '9 s', (ARRAY['view','cart','buy'])[1 + i % 3], ${note('i', 5)}
  FROM generate_series(1, ${ORDERS * 2}) i;
CREATE INDEX ON orders (customer);
VACUUM ANALYZE;
`;
const added = (share) => `generate_series(${ORDERS} + 1, ${ORDERS} + ${Math.round(ORDERS * share)}) i`;
/** 1 % more orders and events; of the newest 5 % of the orders, two fifths get another state. */
const RECENT = `
SELECT setseed(0.25);
UPDATE orders SET state = 'sent', total = total + 1 WHERE id > ${ORDERS * 0.95} AND id % 5 < 2;
INSERT INTO orders SELECT ${order('i')} FROM ${added(0.01)};
INSERT INTO events SELECT i + ${ORDERS}, timestamptz '2026-10-01Z' + i * interval '9 s', 'view', ${note('i', 5)} FROM ${added(0.02)};
VACUUM;
`;
const DAYS = {
  'appends rows and changes recent ones': RECENT,
  'also edits 2 % of the orders, at 20 positions': `${RECENT}
UPDATE orders SET state = 'done' WHERE id / ${ORDERS / 1000} % 50 = 7;
VACUUM;
`,
  'also changes 1 % of all rows, anywhere': `${RECENT}
UPDATE customers SET email = md5(id || 'new') || '@example.com' WHERE random() < 0.01;
UPDATE orders SET state = 'done' WHERE random() < 0.01;
VACUUM;
`,
};

/** The same for a file of SQLite: what each way to copy it costs. */
const SQLITE = {
  '`.backup`': (db, copy) => `sqlite3 ${db} '.backup ${copy}' && cat ${copy}`,
  '`VACUUM INTO`': (db, copy) => `sqlite3 ${db} "VACUUM INTO '${copy}'" && cat ${copy}`,
  '`.dump`': (db) => `sqlite3 -bail -readonly ${db} .dump`,
};
const SQLITE_SCHEMA = `
PRAGMA journal_mode = wal;
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER, token TEXT, note TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${ORDERS})
  INSERT INTO orders SELECT i, i * 7919 % ${ORDERS / 5}, hex(i * 2654435761 % 4294967296), 'order ' || i * 31 % 4096 || ' of a shop' FROM n;
CREATE INDEX by_customer ON orders (customer);
`;
const SQLITE_DAY = `
UPDATE orders SET note = 'sent, ' || note WHERE id / ${ORDERS / 1000} % 50 = 7;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${ORDERS / 100})
  INSERT INTO orders SELECT i + ${ORDERS}, i * 7919 % ${ORDERS / 5}, hex(i * 40503), 'order ' || i || ' of a shop' FROM n;
`;

const MIB = 1024 * 1024;
const mib = (bytes) => (bytes / MIB).toFixed(1);

/** One table of the report: each format with its two snapshots. */
function print(day, results) {
  const [, best] = Object.values(results)[0];
  console.log(`A day that ${day}:\n`);
  console.log('| dump | MiB | first day, stored MiB | next day, stored MiB | times the first row | s |\n|---|---|---|---|---|---|');
  for (const [name, [first, second]] of Object.entries(results)) {
    const times = (second.storedSize / best.storedSize).toFixed(1);
    const cells = [name, mib(second.originalSize), mib(first.storedSize), mib(second.storedSize), times, second.seconds.toFixed(1)];
    console.log(`| ${cells.join(' | ')} |`);
  }
  console.log();
}

/** Dumps before and after a day, each format into a repository of its own. */
async function twoDays(folder, commands, env, live) {
  const repositories = mkdtempSync(join(folder, 'day-'));
  const archives = {};
  const results = {};
  const dump = async (name) => {
    const command = ['bash', '-e', '-o', 'pipefail', '-c', commands[name]];
    const start = performance.now();
    const snapshot = await archives[name].ingestCommand({ command, name: 'shop', env });
    results[name] = [...(results[name] ?? []), { ...snapshot, seconds: (performance.now() - start) / 1000 }];
  };
  for (const [i, name] of Object.keys(commands).entries()) {
    archives[name] = await ContainerArchive.init(join(repositories, `${i}`), { passphrase: 'measured', compression: 'zstd' });
    await dump(name);
  }
  live();
  for (const name of Object.keys(commands)) {
    await dump(name);
    await archives[name].close();
  }
  rmSync(repositories, { recursive: true });
  return results;
}

async function measureSqlite(folder) {
  const [db, copy] = ['shop.db', 'copy.db'].map((name) => join(folder, name));
  const sql = (text) => execFileSync('sqlite3', [db], { input: text, stdio: ['pipe', 'ignore', 'inherit'] });
  sql(SQLITE_SCHEMA);
  const commands = Object.fromEntries(Object.entries(SQLITE).map(([name, command]) => [name, `rm -f ${copy}; ${command(db, copy)}`]));
  console.log(`SQLite ${execFileSync('sqlite3', ['-version'], { encoding: 'utf8' }).split(' ')[0]}, ${ORDERS} orders\n`);
  print('appends rows, and edits 2 % at 20 positions', await twoDays(folder, commands, process.env, () => sql(SQLITE_DAY)));
}

async function measurePostgres(folder) {
  if (findPostgres() === null) throw new Error('No Postgres server is installed: apt-get install postgresql');
  const postgres = await startPostgres();
  try {
    console.log(postgres.run('pg_dump', ['--version']).toString().trim(), `${ORDERS} orders\n`);
    const psql = ['-q', '-v', 'ON_ERROR_STOP=1', 'shop'];
    const sql = (text) => postgres.run('psql', psql, { input: text, stdio: ['pipe', 'ignore', 'inherit'] });
    for (const [day, change] of Object.entries(DAYS)) {
      postgres.run('psql', ['-qc', 'CREATE DATABASE shop']);
      sql(SCHEMA);
      print(day, await twoDays(folder, FORMATS, postgres.env, () => sql(change)));
      postgres.run('psql', ['-qc', 'DROP DATABASE shop']);
    }
  } finally {
    await postgres.stop();
  }
}

const folder = mkdtempSync(join(tmpdir(), 'containerarchive-dumps-'));
try {
  if (only !== 'sqlite') await measurePostgres(folder);
  if (only !== 'postgres') await measureSqlite(folder);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
