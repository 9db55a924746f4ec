// The programs in examples/, run as their heads state.

import assert from 'node:assert/strict';
import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { ContainerArchive, PASSPHRASE, afterwards, compressible, random, root, temporary, test } from './support/harness.mjs';
import { findPostgres, startPostgres } from '../scripts/postgres.mjs';

const UNIX = { skip: process.platform === 'win32' && 'programs of Unix', timeout: 600_000 };
const ENV = { ...process.env, BACKUP_PASSPHRASE: PASSPHRASE };

const run = (example, args, env = ENV) => (
  promisify(execFile)(process.execPath, [join(root, 'examples', example), ...args], { env, timeout: 100_000 }));

const SHOP = `
CREATE TYPE state AS ENUM ('new', 'sent');
CREATE TABLE orders (id bigserial PRIMARY KEY, at timestamptz, state state, note text, blob bytea);
INSERT INTO orders (at, state, note, blob)
  SELECT timestamptz '2026-01-01Z' + i * interval '1 min', (ARRAY['new', 'sent'])[1 + i % 2]::state,
    repeat('note "' || i || E'"\\\\t\\n', i % 20), decode(md5(i::text), 'hex') FROM generate_series(1, 20000) i;
CREATE INDEX ON orders (at);
CREATE VIEW sent AS SELECT * FROM orders WHERE state = 'sent';
CREATE FUNCTION total() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM orders';
SELECT lo_from_bytea(0, '\\x00ff');
`;

test('postgres.mjs: a database is dumped, restored into a new one, and the two are equal', async (t) => {
  if (findPostgres() === null) return t.skip('NOT RUN: it needs a Postgres server (apt-get install postgresql)');
  const postgres = await startPostgres();
  afterwards(t, () => postgres.stop());
  postgres.run('psql', ['-qc', 'CREATE DATABASE shop']);
  postgres.run('psql', ['-q', '-v', 'ON_ERROR_STOP=1', '-f', '-', 'shop'], { input: SHOP, stdio: ['pipe', 'ignore', 'inherit'] });
  const env = { ...postgres.env, BACKUP_PASSPHRASE: PASSPHRASE };
  const path = join(temporary(t), 'repo');

  const first = await run('postgres.mjs', [path, 'shop', 'copy1'], env);
  assert.match(first.stdout, /^backed up shop: [1-9]\d{6} bytes, [^]*\ncompared: a dump of the restored database is the same\n$/);
  assert.equal(postgres.run('psql', ['-qAtc', 'SELECT total()', 'copy1']).toString(), '20000\n');

  postgres.run('psql', ['-qc', "UPDATE orders SET note = 'changed' WHERE id = 19999", 'shop']);
  const second = await run('postgres.mjs', [path, 'shop', 'copy2'], env);
  assert.match(second.stdout, /is the same\n$/);
  const archive = await ContainerArchive.open(path, { passphrase: PASSPHRASE });
  afterwards(t, () => archive.close());
  const [newest, oldest] = await archive.listSnapshots();
  assert.ok(newest.reusedChunks > 0 && newest.storedSize < oldest.storedSize, 'nothing was found again');

  await assert.rejects(run('postgres.mjs', [path, 'missing', 'copy3'], env), /ERR_SOURCE_FAILED[^]*database "missing" does not exist/);
  await assert.rejects(run('postgres.mjs', [path, 'shop', 'copy1'], env), /database "copy1" already exists/);
  assert.equal((await archive.listSnapshots({ tags: { database: 'missing' } })).length, 0);
}, UNIX);

test('volume-tar.mjs: a volume is backed up and unpacked with contents, modes, times and links', async (t) => {
  const folder = temporary(t);
  const [volume, copy, path] = ['volume', 'copy', 'repo'].map((name) => join(folder, name));
  mkdirSync(join(volume, 'sub'), { recursive: true });
  writeFileSync(join(volume, 'sub', 'big'), random(3_000_000, 1), { mode: 0o640 });
  writeFileSync(join(volume, 'ü"\n.txt'), compressible(10_000, 2));
  symlinkSync('sub/big', join(volume, 'link'));
  const args = ['--create', '--sort=name', '--numeric-owner', '--format=posix', '--pax-option=delete=atime,delete=ctime'];
  const tarOf = (directory) => execFileSync('tar', [...args, '--directory', directory, '.'], { maxBuffer: 1 << 26 });

  const { stdout } = await run('volume-tar.mjs', [path, volume, copy]);
  assert.match(stdout, /^backed up .*: \d{7} bytes, \d{7} stored, snapshot [0-9a-f]{32}\nrestored into .*\n$/);
  assert.ok(tarOf(copy).equals(tarOf(volume)));
  const again = await run('volume-tar.mjs', [path, volume, join(folder, 'copy2')]);
  assert.match(again.stdout, /: \d{7} bytes, 0 stored/);
  await assert.rejects(run('volume-tar.mjs', [path, join(folder, 'missing'), join(folder, 'copy3')]), /ERR_SOURCE_FAILED[^]*missing/);
}, UNIX);

/** Starts the service; { url, stop() } with what it printed at its end. */
async function startService(t, args) {
  const child = spawn(process.execPath, [join(root, 'examples', 'http-service.mjs'), ...args, '--port', '0'], { env: ENV, stdio: ['ignore', 'pipe', 'pipe'] });
  afterwards(t, () => child.kill('SIGKILL'));
  let errors = '';
  child.stderr.setEncoding('utf8').on('data', (text) => { errors += text; });
  const exited = once(child, 'close');
  const printed = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const { value = '' } = await printed.next();
  assert.match(value, /^listening on http:/, errors);
  return {
    url: value.slice('listening on '.length),
    async stop() {
      child.kill('SIGTERM');
      const { value: last } = await printed.next();
      assert.deepEqual((await exited)[0], 0, errors);
      return JSON.parse(last);
    },
  };
}

test('http-service.mjs: it backs itself up while it serves, reports its latency, and starts from a backup', async (t) => {
  const path = join(temporary(t), 'repo');
  const service = await startService(t, [path, '--every', '3600']);
  const put = (name, body) => fetch(`${service.url}/notes/${name}`, { method: 'PUT', body });
  const bodies = Array.from({ length: 40 }, (_, i) => compressible(200_000 + i, i).toString());
  for (const [i, body] of bodies.entries()) assert.equal((await put(`n${i}`, body)).status, 204);

  let [requests, backups, newest, health] = [bodies.length, 0];
  do { // until a request was served while a backup ran
    let settled = false;
    const backup = fetch(`${service.url}/backup`, { method: 'POST' }).then((response) => response.json()).finally(() => { settled = true; });
    backups++;
    while (!settled) {
      const body = await (await fetch(`${service.url}/notes/n${requests % 40}`)).text();
      assert.ok(body === bodies[requests++ % 40]);
    }
    newest = await backup;
    health = await (await fetch(`${service.url}/health`)).json();
  } while (health.latency.backup.requests === 0);
  assert.match(newest.id, /^[0-9a-f]{32}$/);
  assert.ok(newest.originalSize > 8_000_000);
  assert.equal(health.latency.idle.requests + health.latency.backup.requests, requests);
  assert.ok(health.latency.idle.ms.p50 > 0 && health.latency.backup.ms.p99 > 0 && health.eventLoopMs.p99 > 0);
  assert.equal((await put('late', 'after the backup')).status, 204);
  const last = await service.stop();
  assert.deepEqual([last.notes, last.backups.done, last.backups.failed], [41, backups + 1, 0]);

  const restarted = await startService(t, [path, '--restore']);
  assert.equal(await (await fetch(`${restarted.url}/notes/late`)).text(), 'after the backup');
  assert.ok(await (await fetch(`${restarted.url}/notes/n39`)).text() === bodies[39]);
  await restarted.stop();
}, UNIX);
