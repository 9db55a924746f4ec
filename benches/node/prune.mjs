// Prune from JavaScript: 30 daily dumps, of which keepDays 7, keepWeeks 4 and keepMonths 6 keep some.
//
//   npm run bench:prune -- [--mib 64] [--days 30]
//   node benches/node/prune.mjs --dump 17 --mib 64 > day-17.sql     (one of the dumps, for other programs)
//
// A dump is rows of text; each day 2 % of them change, in 40 places, and the table grows by 0.5 %. Prints wall time, CPU
// seconds, peak memory over the idle process, and what left and what came to the disk. Each prune is a process of its own.
import { fork } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

const MIB = 1 << 20;
const ROW_BYTES = 76;
const DAY_MS = 86_400_000;
const FIRST_DAY_MS = Date.UTC(2026, 0, 1, 3);
const POLICY = { keepDays: 7, keepWeeks: 4, keepMonths: 6, timeZone: 'UTC' };

if (process.env.CA_BENCH_JOB) {
  await child(JSON.parse(process.env.CA_BENCH_JOB));
} else {
  await main();
}

async function main() {
  const options = { mib: 64, days: 30, dump: undefined };
  const args = process.argv.slice(2);
  for (let at = 0; at < args.length; at += 2) {
    const name = args[at].replace(/^--/, '');
    if (!(name in options) || args[at + 1] === undefined) throw new Error(`unknown option ${args[at]}`);
    options[name] = Number(args[at + 1]);
  }
  if (options.dump !== undefined) {
    await pipeline(Readable.from(dump(options.mib, options.dump)), process.stdout);
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), 'containerarchive-bench-'));
  try {
    console.log('| repository | dumps | kept | s | CPU s | peak RSS over idle, MiB | freed, MiB | written, MiB | before, MiB | after, MiB |');
    console.log('|---|---|---|---|---|---|---|---|---|---|');
    for (const encrypted of [false, true]) {
      const job = { ...options, encrypted, repo: join(folder, encrypted ? 'encrypted' : 'plain') };
      await runChild({ ...job, what: 'fill' });
      for (const maxUnused of [0.05, 0]) {
        const before = filesOf(job.repo);
        const result = await runChild({ ...job, what: 'prune', maxUnused });
        const after = filesOf(job.repo);
        const written = [...after].filter(([path]) => !before.has(path)).reduce((sum, [, size]) => sum + size, 0);
        const total = (files) => [...files.values()].reduce((sum, size) => sum + size, 0);
        const mib = (bytes) => (bytes / MIB).toFixed(1);
        const cells = [
          `${encrypted ? 'encrypted' : 'plain'} zstd, maxUnused ${maxUnused}`,
          options.days,
          result.kept,
          result.seconds.toFixed(2),
          result.cpu.toFixed(2),
          mib(result.rss),
          mib(result.freedBytes),
          mib(written),
          mib(total(before)),
          mib(total(after)),
        ];
        console.log(`| ${cells.join(' | ')} |`);
      }
      rmSync(job.repo, { recursive: true, force: true });
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function filesOf(folder) {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return new Map(entries.map((entry) => join(entry.parentPath ?? entry.path, entry.name)).map((path) => [path, statSync(path).size]));
}

function runChild(job) {
  return new Promise((resolve, reject) => {
    const process_ = fork(new URL(import.meta.url), { env: { ...process.env, CA_BENCH_JOB: JSON.stringify(job) } });
    let result;
    process_.on('message', (message) => (result = message));
    process_.on('exit', (code) => (code === 0 && result ? resolve(result) : reject(new Error(`the run ended with ${code}`))));
  });
}

async function child(job) {
  const { ContainerArchive } = createRequire(import.meta.url)('../../index.js');
  const passphrase = job.encrypted ? { passphrase: 'bench' } : {};
  if (job.what === 'fill') {
    const archive = await ContainerArchive.init(job.repo, { ...passphrase, compression: 'zstd' });
    for (let day = 0; day < job.days; day++) {
      const createdAt = new Date(FIRST_DAY_MS + day * DAY_MS).toISOString();
      await archive.ingest(Readable.from(dump(job.mib, day)), { createdAt });
    }
    await archive.close();
    process.send({});
    return;
  }
  const archive = await ContainerArchive.open(job.repo, passphrase);
  let peak = 0;
  const idle = process.memoryUsage.rss();
  const watch = setInterval(() => (peak = Math.max(peak, process.memoryUsage.rss())), 5);
  const cpu = process.cpuUsage();
  const start = process.hrtime.bigint();
  const result = await archive.prune(POLICY, { maxUnused: job.maxUnused });
  const seconds = Number(process.hrtime.bigint() - start) / 1e9;
  const used = process.cpuUsage(cpu);
  clearInterval(watch);
  peak = Math.max(peak, process.memoryUsage.rss());
  const kept = (await archive.listSnapshots()).length;
  await archive.close();
  process.send({ seconds, cpu: (used.user + used.system) / 1e6, rss: peak - idle, freedBytes: result.freedBytes, kept });
}

// xorshift32 (Marsaglia 2003): the same data on every machine
function generator(seed) {
  let state = seed | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

/** For each row of that day's table, how often it has changed. */
function versions(mib, day) {
  const rows = Math.floor((mib * MIB) / ROW_BYTES);
  const grown = (of) => Math.floor(rows * (1 + of * 0.005));
  const changed = new Uint8Array(grown(day));
  for (let today = 1; today <= day; today++) {
    const next = generator(7919 * today);
    const run = Math.ceil((grown(today) * 0.02) / 40);
    for (let place = 0; place < 40; place++) {
      const first = next() % (grown(today) - run);
      for (let row = first; row < first + run; row++) changed[row] = (changed[row] + 1) % 256;
    }
  }
  return changed;
}

function* dump(mib, day) {
  const states = ['new', 'paid', 'shipped', 'returned'];
  const changed = versions(mib, day);
  let rows = [];
  for (let row = 0; row < changed.length; row++) {
    const next = generator(Math.imul(row + 1, 2654435761) ^ Math.imul(changed[row] + 1, 40503));
    const token = next().toString(16).padStart(8, '0') + next().toString(16).padStart(8, '0');
    const email = `customer.${next() % 99999}@example.org`;
    rows.push([row, email, 1_700_000_000 + row * 31, (next() % 100000) / 100, states[next() % 4], changed[row], token].join('\t'));
    if (rows.length === 4000 || row + 1 === changed.length) {
      yield Buffer.from(`COPY public.orders FROM stdin;\n${rows.join('\n')}\n\\.\n\n`);
      rows = [];
    }
  }
}
