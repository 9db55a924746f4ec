// npm run demo [-- PATH ...]: backs up real streams twice, restores both, and checks that every
// byte is right.
//
// Sources: the given files and directories (as a tar stream); `-`, or a pipe or file as standard
// input, for that; otherwise the running Node binary and a tar stream of node_modules. The second
// backup has a part of the first stream changed in its middle. Exits with status 1 when a single
// byte differs. `--keep` leaves the repository in its temporary directory.

import { createHash } from 'node:crypto';
import { createReadStream, existsSync, fstatSync, readdirSync, rmSync, statSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join, relative, resolve } from 'node:path';
import { preflight } from './preflight.mjs';
import { install, npm, root } from './steps.mjs';

const READ_BYTES = 1024 * 1024;
/**
 * The change: this many bytes in the middle are inverted, and a few are inserted before them, so
 * that all later ones move.
 */
const INVERTED_BYTES = 4096;
const INSERTED = Buffer.from('changed in the middle');
/** How long a pipe that was not requested may stay silent before the demo ignores it. */
const STDIN_WAIT_MS = 10_000;

/** All files in a directory, sorted, so that two streams of the same directory are equal. */
function filesBelow(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .sort();
}

/** A file unchanged, a directory as a tar stream. */
async function pathSource(path) {
  const name = basename(resolve(path));
  if (!statSync(path).isDirectory()) {
    return { name, type: 'file', open: () => createReadStream(path, { highWaterMark: READ_BYTES }) };
  }
  const { packTar } = await import('modern-tar/fs');
  const entries = filesBelow(path).map((source) => ({ type: 'file', source, target: join(name, relative(path, source)) }));
  return { name: `${name}.tar`, type: 'tar', open: () => packTar(entries) };
}

/** Whether standard input has bytes: 'data', 'nothing' (empty), or 'silence'. */
function awaitStdin(waitMs) {
  const { stdin } = process;
  return new Promise((answer) => {
    const timer = setTimeout(() => answer('silence'), waitMs).unref();
    stdin.once('readable', () => {
      clearTimeout(timer);
      answer(stdin.readableLength > 0 ? 'data' : 'nothing');
    });
  });
}

/** Standard input. It can be read only once: the second time, the first restore is read instead. */
const stdinSource = { name: 'stdin', type: 'stream', open: () => process.stdin, readsOnce: true };

/** What to back up. */
async function chooseSources(args) {
  if (args.includes('-')) {
    if (args.length > 1) throw new Error('"-" cannot be combined with paths');
    return [stdinSource];
  }
  if (args.length === 0) {
    const stdin = fstatSync(0);
    if (stdin.isFIFO() || stdin.isFile()) {
      console.error('\nReading standard input …');
      const came = await awaitStdin(STDIN_WAIT_MS);
      if (came === 'data') return [stdinSource];
      process.stdin.destroy();
      console.error(came === 'nothing' ? 'It is empty.' : 'No bytes arrived. To wait for them: npm run demo -- -');
    }
    args = [process.execPath, join(root, 'node_modules')];
  }
  const sources = await Promise.all(args.map(pathSource));
  const seen = new Set();
  for (const source of sources) {
    for (let n = 2, name = source.name; seen.has(source.name); n++) source.name = `${name} (${n})`;
    seen.add(source.name);
  }
  return sources;
}

/** Forwards a stream, changed at an offset when one is given, and measures the forwarded bytes. */
async function* measured(stream, measure, changeAt) {
  const hash = createHash('sha256');
  let at = 0;
  measure.bytes = 0;
  const pass = (piece) => {
    hash.update(piece);
    measure.bytes += piece.length;
    return piece;
  };
  for await (const chunk of stream) {
    const from = Math.min(Math.max((changeAt ?? Infinity) - at, 0), chunk.length);
    const to = Math.min(Math.max((changeAt ?? Infinity) + INVERTED_BYTES - at, 0), chunk.length);
    if (from > 0) yield pass(chunk.subarray(0, from));
    if (at + from === changeAt && from < chunk.length) yield pass(INSERTED);
    if (from < to) yield pass(Buffer.from(chunk.subarray(from, to)).map((byte) => byte ^ 0xff));
    if (to < chunk.length) yield pass(chunk.subarray(to));
    at += chunk.length;
  }
  if (changeAt === at) yield pass(INSERTED); // an empty stream
  measure.sha256 = hash.digest('hex');
}

/** Backs all sources up as one snapshot: { snapshot, fed: [{ bytes, sha256 }], seconds }. */
async function backUp(repo, streams, tags, changeAt) {
  const fed = streams.map(() => ({}));
  const items = streams.map(({ name, type, stream }, i) => ({
    name,
    type,
    stream: measured(stream, fed[i], i === 0 ? changeAt : undefined),
  }));
  const start = performance.now();
  const snapshot = await repo.ingestMulti(items, { tags });
  return { snapshot, fed, seconds: (performance.now() - start) / 1000 };
}

/**
 * Restores every item of a backup and compares it with what was fed; returns the seconds that it
 * took.
 */
async function proveRestore(repo, { snapshot, fed }) {
  const start = performance.now();
  for (const [i, { name }] of snapshot.items.entries()) {
    const got = {};
    for await (const piece of measured(await repo.restore(snapshot.id, { item: name }), got)) void piece;
    if (got.sha256 !== fed[i].sha256 || got.bytes !== fed[i].bytes) {
      throw new Error(
        `MISMATCH in ${name}: fed ${fed[i].bytes} bytes ${fed[i].sha256}, restored ${got.bytes} bytes ${got.sha256}`,
      );
    }
  }
  return (performance.now() - start) / 1000;
}

const count = (n) => n.toLocaleString('en-US');
const speed = (bytes, seconds) => (bytes / 1e6 / seconds).toLocaleString('en-US', { maximumSignificantDigits: 3 });

/** Prints rows with aligned columns: the first left-aligned, the others right-aligned. */
function printTable(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  for (const row of rows) {
    console.log(row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]) : cell.padStart(widths[i]))).join('   '));
  }
}

function report(sources, runs, repoBytes) {
  console.log();
  printTable([
    ['backup', 'bytes in', 'bytes stored', 'new chunks', 'reused chunks', 'MB/s in', 'MB/s restored'],
    ...runs.map(({ label, backup: { snapshot, seconds }, restoreSeconds }) => [
      label,
      count(snapshot.originalSize),
      count(snapshot.storedSize),
      count(snapshot.newChunks),
      count(snapshot.reusedChunks),
      speed(snapshot.originalSize, seconds),
      speed(snapshot.originalSize, restoreSeconds),
    ]),
  ]);
  console.log(`repository: ${count(repoBytes)} bytes on disk\n`);
  for (const [i, { name }] of sources.entries()) {
    for (const { label, backup } of runs) {
      console.log(`${backup.fed[i].sha256}  restored = source  ${name} (${label})`);
    }
  }
}

async function demo(repo, folder, args) {
  const sources = await chooseSources(args);
  console.error(`\nBacking up ${sources.map(({ name }) => name).join(', ')} …`);
  const openAll = () => sources.map((source) => ({ ...source, stream: source.open() }));
  const first = await backUp(repo, openAll(), { demo: 'first' });

  // In the middle of the first stream, by its length in the first backup.
  const changeAt = Math.floor(first.fed[0].bytes / 2);
  const again = sources[0].readsOnce
    ? [{ ...sources[0], stream: await repo.restore(first.snapshot.id, { item: sources[0].name }) }]
    : openAll();
  const second = await backUp(repo, again, { demo: 'second' }, changeAt);
  if (second.fed[0].sha256 === first.fed[0].sha256) throw new Error('The second stream was not changed');

  // A new handle: what the first one still has in memory proves nothing.
  await repo.close();
  const reopened = await ContainerArchive.open(folder);
  const runs = [];
  for (const [label, backup] of Object.entries({ first, 'second, changed': second })) {
    runs.push({ label, backup, restoreSeconds: await proveRestore(reopened, backup) });
  }
  await reopened.close();
  report(sources, runs, filesBelow(folder).reduce((sum, file) => sum + statSync(file).size, 0));
}

const args = process.argv.slice(2).filter((arg) => arg !== '--keep');
const keep = args.length < process.argv.length - 2;
for (const path of args) {
  if (path === '-' || existsSync(path)) continue;
  console.error(`There is no ${path}\nUsage: npm run demo -- [--keep] [PATH ... | -]`);
  process.exit(1);
}
preflight();
install();
npm('run', 'build');
const { ContainerArchive } = await import('../index.js');
const folder = await mkdtemp(join(tmpdir(), 'containerarchive-demo-'));
try {
  const repo = await ContainerArchive.init(folder);
  await demo(repo, folder, args);
  console.log('\nEvery restored byte is right.');
  if (keep) console.log(`The repository is in ${folder}`);
} catch (error) {
  console.error(error);
  console.error('\nDEMO FAILED');
  process.exitCode = 1;
} finally {
  if (!keep) rmSync(folder, { recursive: true, force: true });
}
