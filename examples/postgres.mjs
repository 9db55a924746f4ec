// node examples/postgres.mjs REPOSITORY DATABASE NEW_DATABASE
//
// Backs up a Postgres database, restores it into a new one, and compares the two. The server and
// the user are those of the environment (PGHOST, PGUSER, ~/.pgpass …), the passphrase of the
// repository is in BACKUP_PASSPHRASE. It needs pg_dump, createdb and psql.

import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';
import { ContainerArchive } from '@serve.zone/containerarchive';

/** Plain, because the repository compresses, and finds in it what was there yesterday. */
const dump = (database) => ['pg_dump', '--format=plain', '--no-password', database];

/** Backs up a database. There is a snapshot only if pg_dump exited with code 0. */
function backUp(archive, database) {
  const command = { command: dump(database), name: `${database}.sql`, type: 'database-dump', timeoutMs: 6 * 3_600_000 };
  return archive.ingestCommand(command, { tags: { database } });
}

/** Restores a dump into a database that does not exist yet, in one transaction. */
async function restoreInto(archive, { id, items: [{ name }] }, database) {
  await promisify(execFile)('createdb', ['--no-password', '--template=template0', database]);
  const options = ['--no-password', '--no-psqlrc', '--quiet', '--output=/dev/null'];
  const args = [...options, '--single-transaction', '-v', 'ON_ERROR_STOP=1', database];
  const psql = spawn('psql', args, { stdio: ['pipe', 'inherit', 'inherit'] });
  const exited = once(psql, 'close');
  const fed = pipeline(await archive.restore(id, { item: name }), psql.stdin);
  const [[code], result] = await Promise.all([exited, fed.then(() => null, (error) => error)]);
  // When psql stops early, the pipe breaks too: the exit code is the reason.
  if (code !== 0) throw new Error(`psql exited with ${code}`, { cause: result });
  if (result !== null) throw result;
}

/** SHA-256 of a dump, without the lines that contain a new random key each time. */
async function digestOf(lines) {
  const hash = createHash('sha256');
  for await (const line of lines) if (!/^\\(un)?restrict /.test(line)) hash.update(`${line}\n`);
  return hash.digest('hex');
}

async function digestOfDatabase(database) {
  const [program, ...args] = dump(database);
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(child, 'close');
  const digest = await digestOf(createInterface({ input: child.stdout, crlfDelay: Infinity }));
  const [code] = await exited;
  if (code !== 0) throw new Error(`pg_dump exited with ${code}`);
  return digest;
}

const [repository, database, copy] = process.argv.slice(2);
if (!copy) {
  console.error('Usage: node examples/postgres.mjs REPOSITORY DATABASE NEW_DATABASE');
  process.exit(1);
}
const passphrase = process.env.BACKUP_PASSPHRASE;
const archive = await ContainerArchive.openOrInit(repository, { passphrase, compression: 'zstd' });
try {
  const snapshot = await backUp(archive, database);
  const { id, originalSize, storedSize } = snapshot;
  console.log(`backed up ${database}: ${originalSize} bytes, ${storedSize} stored, snapshot ${id}`);

  await restoreInto(archive, snapshot, copy);
  console.log(`restored into ${copy}`);

  const stored = createInterface({ input: await archive.restore(id), crlfDelay: Infinity });
  const isSame = (await digestOf(stored)) === (await digestOfDatabase(copy));
  if (!isSame) throw new Error(`a dump of ${copy} differs from the snapshot`);
  console.log('compared: a dump of the restored database is the same');
} finally {
  await archive.close();
}
