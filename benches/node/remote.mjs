// Repositories on object storage, behind a link with a delay, next to restic.
//
//   npm run bench:remote -- [--size 256] [--runs 3] [--snapshots 100] [--delay 30] [--mbit 1000]
//                           [--parallel 8] [--server memory|moto|s3rver] [--peers DIRS] [--install]
//                           [--trace]
//
// A server with the protocol of S3 (remote/servers.mjs) is behind a link (remote/proxy.mjs) that
// begins each answer `--delay` ms later, shares `--mbit` Mbit/s among all connections in each
// direction (0: no limit), and records the requests. Every operation is a whole process with its
// key derivation, measured from outside (peers/measure.mjs), in one program after the other; each
// run begins with the other program, and has a new server.
//
// `chain` is the most requests of which none overlaps another: an estimate of the round trips that
// were waited for one after the other. The floors are the bytes of the first backup in plain
// requests. `--trace` prints each request. In the first run, restored streams are compared with
// their source by SHA-256. Tables go to stdout as Markdown, all else to stderr.
import { execFile } from 'node:child_process';
import { createReadStream, mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import { digest } from './peers/data.mjs';
import { findPeers } from './peers/find.mjs';
import { checkMeasuring, measured, outputOf, stop as stopMeasuring } from './peers/measure.mjs';
import { prepare } from './remote/data.mjs';
import { direct } from './remote/direct.mjs';
import { environment, fileIn, programs as programsOf } from './remote/programs.mjs';
import { startProxy } from './remote/proxy.mjs';
import { summary, trace } from './remote/requests.mjs';
import { SERVERS } from './remote/servers.mjs';
import { median, spread, table, tables } from './remote/table.mjs';

const MIB = 1 << 20;
const BUCKET = 'bucket';
const SHARED = '/dev/shm';
const FLOOR = fileURLToPath(new URL('remote/floor.mjs', import.meta.url));
/** Packs of restic have this size; packs of containerarchive have 32 MiB, in parts of 8 MiB. */
const FLOOR_OBJECT = 16 * MIB;

const report = (text) => console.error(text);

await main();

async function main() {
  const options = optionsOf(process.argv.slice(2));
  checkMeasuring();
  const programs = programsOf(findPeers(['restic'], { folders: options.peers, install: options.install }, report));
  const folder = mkdtempSync(join(spaciousFolder(4 * options.size), 'containerarchive-remote-'));
  const bench = { options, programs, folder, results: {}, floors: new Map(), foreign: [], filled: new Map(), running: new Set() };
  const clean = async () => {
    for (const each of bench.running) await each.stop();
    rmSync(folder, { recursive: true, force: true });
  };
  for (const signal of ['SIGINT', 'SIGTERM']) {
    process.once(signal, () => {
      stopMeasuring();
      clean().finally(() => process.exit(1));
    });
  }
  try {
    report(`streams of ${options.size} MiB`);
    bench.data = prepare(folder, options.size);
    for (let run = 0; run < options.runs; run++) await round(bench, run);
  } finally {
    await clean();
  }
  print(bench);
}

/** One run: each operation in all programs, before the next operation. */
async function round(bench, run) {
  const { options, programs, folder, data, results } = bench;
  const server = await started(bench, SERVERS[options.server](BUCKET));
  const link = await started(bench, startProxy(server, { delayMs: options.delay, bytesPerSecond: options.mbit ? options.mbit * 125_000 : Infinity }));
  const order = run % 2 === 0 ? programs : [...programs].reverse();
  const home = (name) => join(folder, `run-${run}`, name);
  const placeOf = (program, repository, endpoint) => ({
    endpoint, bucket: BUCKET, storage: server.storage, prefix: `${repository}/${program.name.split(' ')[0]}`, home: home(`${program.name}-${repository}`),
  });
  const take = async (step, repository, operation, name, input, after) => {
    for (const program of order) {
      const place = placeOf(program, repository, link.endpoint);
      link.take();
      const sample = await measured(program.call(place, operation, name, input), environment(program, place));
      const taken = await settled(link.take());
      Object.assign(sample, summary(taken));
      ((results[step] ??= {})[program.name] ??= []).push(sample);
      bench.foreign.push(sample);
      report(`run ${run + 1}: ${step.padEnd(15)} ${program.name.padEnd(16)} ${sample.requests} requests, chain ${sample.chain}, ${sample.wall.toFixed(2)} s`);
      if (options.trace) report(trace(taken.requests).join('\n'));
      if (sample.errors > 0) report(`  ${sample.errors} requests failed`);
      await after?.(program, place);
    }
  };
  await take('init', 'life', 'init');
  await take('first', 'life', 'backup', 's0', data.first.path);
  await take('again', 'life', 'backup', 's1', data.first.path);
  await take('next day', 'life', 'backup', 's2', data.next.path);
  await take('20 kB', 'life', 'backup', 's3', data.small.path);
  const compare = async (program, place, name, source) => {
    if (run > 0) return;
    const unlinked = { ...place, endpoint: server.endpoint };
    same(program, await outputOf(program.call(unlinked, 'stream', name), environment(program, unlinked)), source);
  };
  await take('restore', 'life', 'restore', 's0', undefined, async (program, place) => {
    if (run === 0) same(program, await digest(createReadStream(fileIn(place.home))), data.first);
    rmSync(fileIn(place.home));
  });
  await take('restore, stream', 'life', 'stream', 's0', undefined, (program, place) => compare(program, place, 's2', data.next));
  await take('prune', 'life', 'prune', 's2', undefined, (program, place) => compare(program, place, 's1', data.first));
  for (const program of programs) await fill(bench, program, placeOf(program, 'many', server.endpoint));
  for (const program of programs) rmSync(placeOf(program, 'many').home, { recursive: true, force: true });
  await take(`list ${options.snapshots}`, 'many', 'list', options.snapshots);
  await take('list, again', 'many', 'list', options.snapshots);
  await floors(bench, server, link);
  await ended(bench, link, server);
  rmSync(join(folder, `run-${run}`), { recursive: true, force: true });
}

/** A server or a link that `clean` stops, too. */
async function started({ running }, starting) {
  const each = await starting;
  running.add(each);
  return each;
}

async function ended({ running }, ...all) {
  for (const each of all) {
    await each.stop();
    running.delete(each);
  }
}

/** Records are complete a moment after the process that made the requests has ended. */
async function settled(taken) {
  for (let turn = 0; turn < 100 && taken.requests.some(({ end }) => end === undefined); turn++) await sleep(10);
  return taken;
}

/**
 * Fills a repository with snapshots, without the link; in later runs, from a copy of its objects.
 * restic has no call that makes many: it tags all of them, which writes each again under another
 * id, and what it deleted is put back, until there are enough.
 */
async function fill({ options, filled, data }, program, place) {
  const store = direct(place.endpoint, BUCKET, options.server);
  if (filled.has(program.name)) return store.load(filled.get(program.name));
  report(`filling a repository of ${program.name} with ${options.snapshots} snapshots`);
  const call = (...args) => measured(program.call(place, ...args), environment(program, place));
  if (program.file === undefined) {
    await call('fill', options.snapshots);
  } else {
    await call('init');
    await call('backup', 's0', data.small.path);
    const folder = `${place.prefix}/snapshots/`;
    let have = await store.save(folder);
    for (let turn = 1; have.size < options.snapshots; turn++) {
      await call('tag', `s${turn}`);
      await store.load(have);
      have = await store.save(folder);
    }
    for (const key of [...have.keys()].slice(options.snapshots)) await store.remove(key);
  }
  filled.set(program.name, await store.save(`${place.prefix}/`));
  return undefined;
}

/** Plain requests with the bytes of our first backup: what the link and the server allow. */
async function floors(bench, server, link) {
  const { options, results, floors: rows } = bench;
  const bytes = bench.bytes = Object.values(results.first)[0][0].up;
  const memory = await SERVERS.memory(BUCKET);
  const [open, alone] = await Promise.all([startProxy(server), startProxy(memory)]);
  for (const [name, endpoint, kind, parallel] of [
    ['the link alone: memory, no delay, no limit', alone.endpoint, 'memory', options.parallel],
    [`${options.server}, no link`, server.endpoint, options.server, options.parallel],
    [`${options.server}, link without delay and limit`, open.endpoint, options.server, options.parallel],
    [`${options.server}, link`, link.endpoint, options.server, options.parallel],
    [`${options.server}, link, one request at a time`, link.endpoint, options.server, 1],
  ]) {
    report(`floor: ${name}`);
    const args = [FLOOR, endpoint, BUCKET, kind, bytes, FLOOR_OBJECT, parallel].map(String);
    const { stdout } = await promisify(execFile)(process.execPath, args);
    rows.set(name, [...(rows.get(name) ?? []), JSON.parse(stdout)]);
  }
  await Promise.all([open.stop(), alone.stop(), memory.stop()]);
}

function same(program, { sha256, bytes }, source) {
  if (sha256 !== source.sha256) throw new Error(`${program.name} restored ${bytes} bytes that differ from their source of ${source.bytes}`);
}

function print({ options, programs, results, floors: rows, bytes, foreign }) {
  const busy = foreign.reduce((sum, each) => sum + each.foreign * each.wall, 0) / foreign.reduce((sum, { wall }) => sum + wall, 0);
  const rate = options.mbit ? `${options.mbit} Mbit/s` : 'no limit of bandwidth';
  console.log([
    `${cpus().length} cores (${cpus()[0].model}), Node ${process.versions.node}; ${programs.map(({ name }) => name).join(', ')}.`,
    `Server ${options.server}, ${options.delay} ms, ${rate}; streams of ${options.size} MiB; medians of ${options.runs}.`,
    ...(process.env.NAPI_RS_NATIVE_LIBRARY_PATH ? ['The addon is that of NAPI_RS_NATIVE_LIBRARY_PATH: CPU seconds are those of its build.'] : []),
    `Other processes, the server and the link among them, used ${busy.toFixed(2)} cores.\n`,
  ].join(' '));
  console.log(tables(Object.keys(results), programs, results));
  const cells = (seconds) => [spread(seconds, 2), (bytes / MIB / median(seconds)).toFixed(0)];
  console.log(['', `Floors: ${(bytes / MIB).toFixed(0)} MiB in plain requests of ${FLOOR_OBJECT / MIB} MiB, ${options.parallel} at once:`, '', ...table(
    ['floor', 'PUT s', 'PUT MiB/s', 'GET s', 'GET MiB/s'],
    [...rows].map(([name, samples]) => [name, ...cells(samples.map(({ put }) => put)), ...cells(samples.map(({ get }) => get))]),
  )].join('\n'));
}

function optionsOf(args) {
  const numbers = { size: 256, runs: 3, snapshots: 100, delay: 30, mbit: 1000, parallel: 8 };
  const texts = { server: { type: 'string', default: 'memory' }, peers: { type: 'string' }, install: { type: 'boolean', default: false }, trace: { type: 'boolean', default: false } };
  const { values } = parseArgs({
    args, options: { ...texts, ...Object.fromEntries(Object.keys(numbers).map((name) => [name, { type: 'string' }])) },
  });
  if (!(values.server in SERVERS)) throw new Error(`--server takes one of ${Object.keys(SERVERS).join(', ')}`);
  for (const [name, fallback] of Object.entries(numbers)) {
    values[name] = Number(values[name] ?? fallback);
    const least = ['delay', 'mbit'].includes(name) ? 0 : 1;
    if (!Number.isInteger(values[name]) || values[name] < least) throw new Error(`--${name} takes a whole number from ${least}`);
  }
  return values;
}

/** /dev/shm if it has room, else the system's directory for temporary files. */
function spaciousFolder(mib) {
  try {
    const { bavail, bsize } = statfsSync(SHARED);
    if (bavail * bsize > mib * MIB) return SHARED;
  } catch {
    // not on this system
  }
  return tmpdir();
}
