// Backups of streams, compared with restic, borg, rustic and bupstash.
//
//   npm run bench:peers -- [--mib 512] [--runs 3] [--peers DIRS] [--install] [--smoke]
//                          [--only restic,bupstash] [--data DIR] [--repos DIR]
//
// Three kinds of data (peers/data.mjs) go through the same steps in each program: init, a first
// backup, the same again, the next ones, restore, a check of all data, and a prune to the last
// snapshot. Every step is a whole process with its key derivation, measured from outside
// (peers/measure.mjs). A step runs in all programs in turn before the next step starts, and every
// run begins with another program, so that load from outside falls on all of them. Each run has new
// repositories, on /dev/shm where it has the space. In the first run, restored streams are compared
// with their source by SHA-256, untimed.
//
// Programs that are missing are reported and skipped (peers/find.mjs says where they are looked
// for). The tables go to stdout as Markdown, all else to stderr. `--smoke` is the whole of it with
// 4 MiB and one run, to check the program. A program of which a step fails, or a restore differs,
// has no figures for that kind of data, and the exit code is 1.
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statfsSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { cpus, release, tmpdir, type } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { prepare } from './peers/data.mjs';
import { PEERS, findPeers } from './peers/find.mjs';
import { checkMeasuring, measured, outputOf, stop } from './peers/measure.mjs';
import { environment, rowsOf } from './peers/programs.mjs';
import { tables } from './peers/table.mjs';

const MIB = 1 << 20;
const SHARED = '/dev/shm';

/**
 * The kinds of data and their steps. `backups` has the number of the stream that a step backs up;
 * the other steps are functions of the rows in peers/programs.mjs.
 */
const KINDS = {
  sql: {
    title: 'W1, dumps of three days',
    backups: { first: 0, again: 0, 'next day': 1, 'third day': 2 },
    steps: ['init', 'first', 'again', 'next day', 'third day', 'restore', 'check', 'prune'],
  },
  volume: {
    title: 'W2, tar of a volume',
    backups: { first: 0, again: 0, 'next day': 1 },
    steps: ['init', 'first', 'again', 'next day', 'restore', 'check'],
  },
  random: {
    title: 'W3, random bytes',
    backups: { first: 0, again: 0 },
    steps: ['init', 'first', 'again', 'restore', 'check'],
  },
};

const report = (text) => console.error(text);
/** Row and kind of data -> why it has no figures. */
const failed = new Map();

await main();

async function main() {
  const options = optionsOf(process.argv.slice(2));
  checkAddon();
  checkMeasuring();
  const peers = findPeers(options.only, options, report);
  const rows = rowsOf(peers);
  const data = await prepare(options.data, options.mib, report);
  const parent = options.repos ?? spaciousFolder(rows.length * options.mib);
  const folder = mkdtempSync(join(parent, 'containerarchive-peers-'));
  const clean = () => rmSync(folder, { recursive: true, force: true });
  for (const signal of ['SIGINT', 'SIGTERM']) {
    process.once(signal, () => {
      stop();
      clean();
      process.exit(1);
    });
  }
  const results = Object.fromEntries(Object.keys(KINDS).map((kind) => [kind, {}]));
  try {
    for (let run = 0; run < options.runs; run++) {
      for (const kind of Object.keys(KINDS)) await round(kind, rows, data[kind], { run, folder, results });
    }
  } finally {
    clean();
  }
  console.log(heading(options, peers, data, folder.startsWith(SHARED), results));
  console.log(tables(KINDS, rows, results));
  for (const [what, why] of failed) console.log(`\nFAILED: ${what}, ${why}`);
  process.exitCode = failed.size > 0 ? 1 : 0;
}

/** One run over one kind of data: each step in all programs, before the next step. */
async function round(kind, rows, files, { run, folder, results }) {
  const turns = rows.map((_, at) => rows[(at + run) % rows.length]).map((row, at) => {
    const place = { repo: join(folder, `${kind}-${at}`, 'repo'), home: join(folder, `${kind}-${at}`, 'home') };
    mkdirSync(place.home, { recursive: true });
    return { row, place, env: environment(row, place), snapshots: [] };
  });
  for (const step of KINDS[kind].steps) {
    for (const turn of turns) {
      const what = `${turn.row.name}, ${kind}`;
      if (failed.has(what) || (turn.row.isFirstOnly && !['init', 'first'].includes(step))) continue;
      try {
        const sample = await take(step, KINDS[kind].backups[step], turn, files);
        if (sample === undefined) continue;
        ((results[kind][turn.row.name] ??= {})[step] ??= []).push(sample);
        const took = `${sample.cpu.toFixed(2)} CPU s, ${sample.wall.toFixed(2)} s`;
        report(`run ${run + 1}: ${kind.padEnd(6)} ${step.padEnd(9)} ${turn.row.name.padEnd(37)} ${took}`);
        if (run === 0) await compare(step, turn, files);
      } catch (error) {
        failed.set(what, `${step}: ${error.message}`);
        delete results[kind][turn.row.name]; // the other programs go on
        report(`FAILED: ${what}, ${step}: ${error.message}`);
      }
    }
  }
  for (const { place } of turns) rmSync(join(place.repo, '..'), { recursive: true, force: true });
}

/** Takes one step; undefined when the program has no such step. */
async function take(step, input, { row, place, env, snapshots }, files) {
  const last = snapshots.length - 1;
  let command;
  if (input !== undefined) {
    command = row.backup(place, snapshots.length, files[input].path);
    snapshots.push(files[input]);
  } else {
    command = row[step]?.(place, last);
  }
  if (command === undefined) return undefined;
  const sample = await measured(command, env);
  if (input !== undefined || step === 'prune') sample.size = sizeOf(place.repo);
  return sample;
}

/** Compares the first and the last snapshot with their sources: after the restore and the prune. */
async function compare(step, { row, place, env, snapshots }, files) {
  const last = snapshots.length - 1;
  const numbers = { restore: [...new Set([0, last])], prune: [last] }[step] ?? [];
  for (const number of numbers) {
    const restored = await outputOf(row.restore(place, number), env);
    const source = snapshots[number];
    if (restored.sha256 !== source.sha256) {
      const lengths = `${restored.bytes} bytes restored, ${source.bytes} backed up`;
      throw new Error(`the restored stream of snapshot ${number} differs from its source: ${lengths}`);
    }
  }
}

function optionsOf(args) {
  const { values } = parseArgs({
    args,
    options: {
      mib: { type: 'string' },
      runs: { type: 'string' },
      data: { type: 'string', default: join(tmpdir(), 'containerarchive-peers-data') },
      repos: { type: 'string' },
      peers: { type: 'string' },
      only: { type: 'string', default: PEERS.join() },
      install: { type: 'boolean', default: false },
      smoke: { type: 'boolean', default: false },
    },
  });
  const whole = (name, fallback) => {
    const number = Number(values[name] ?? fallback);
    if (!Number.isInteger(number) || number < 1) throw new Error(`--${name} takes a whole number from 1`);
    return number;
  };
  const only = values.only.split(',').filter(Boolean);
  const unknown = only.find((name) => !PEERS.includes(name));
  if (unknown) throw new Error(`--only takes names of ${PEERS.join()}, not ${unknown}`);
  const [mib, runs] = [whole('mib', values.smoke ? 4 : 512), whole('runs', values.smoke ? 1 : 3)];
  return { ...values, only, folders: values.peers, mib, runs };
}

/** Throws with what to do unless the addon is built. */
function checkAddon() {
  try {
    createRequire(import.meta.url)('../../index.js');
  } catch (cause) {
    if (cause.code !== 'ERR_NATIVE_LOAD') throw cause;
    console.error(`The native addon is not built. Run "npm run build" first.\n${cause.message}`);
    process.exit(1);
  }
}

/** /dev/shm if it has room for the repositories of one kind of data, else the system's. */
function spaciousFolder(mib) {
  try {
    const { bavail, bsize } = statfsSync(SHARED);
    if (bavail * bsize > 2.5 * mib * MIB) return SHARED;
  } catch {
    // not on this system
  }
  report(`${SHARED} has no space for ${Math.ceil(2.5 * mib)} MiB: the repositories are in ${tmpdir()}`);
  return tmpdir();
}

function sizeOf(folder) {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return entries.reduce((sum, entry) => sum + statSync(join(entry.parentPath ?? entry.path, entry.name)).size, 0);
}

/** What the tables were measured on and with. */
function heading({ runs, only }, peers, data, isShared, results) {
  const samples = Object.values(results).flatMap(Object.values).flatMap(Object.values).flat();
  const sumOf = (what) => samples.reduce((sum, sample) => sum + what(sample), 0);
  const foreign = sumOf(({ foreign, wall }) => foreign * wall) / sumOf(({ wall }) => wall);
  const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
  const sizes = Object.values(data).map(([{ bytes }]) => (bytes / MIB).toFixed(0));
  const missing = only.filter((name) => !peers[name]);
  const machine = `${cpus().length} cores (${cpus()[0].model}), ${type()} ${release()}, Node ${process.versions.node}`;
  const sentences = [
    `${machine}, containerarchive ${version}`,
    `First streams of ${sizes.join(', ')} MiB, medians of ${runs}, repositories on ${isShared ? 'tmpfs' : 'disk'}`,
    `Other processes used ${foreign.toFixed(2)} cores while steps ran`,
    ...(missing.length > 0 ? [`SKIPPED: ${missing.join(', ')}`] : []),
  ];
  return `${sentences.join('. ')}.\n`;
}
