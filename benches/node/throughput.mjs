// Throughput from JavaScript: ingest, ingest again (all duplicate) and restore of a stream, each in
// a process of its own.
//
//   npm run bench -- [--mib 1024] [--runs 3] [--file PATH]
//
// Prints bytes per second of wall time, CPU seconds per GiB (user + system, all threads), the busy
// cores, peak resident memory over the idle process, and the 99th percentile of the event loop's
// delay. The first rows of each kind of data are floors of the same run: reading the file and doing
// nothing, and hashing it with node:crypto.
import { createHash } from 'node:crypto';
import { fork } from 'node:child_process';
import { createReadStream, createWriteStream, mkdtempSync, rmSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { finished } from 'node:stream/promises';
import { randomBlocks, sqlBlocks } from './blocks.mjs';

const MIB = 1 << 20;

if (process.env.CA_BENCH_JOB) {
  await child(JSON.parse(process.env.CA_BENCH_JOB));
} else {
  await main();
}

async function main() {
  const options = { mib: 1024, runs: 3, file: undefined };
  const args = process.argv.slice(2);
  for (let at = 0; at < args.length; at += 2) {
    const name = args[at].replace(/^--/, '');
    if (!(name in options) || args[at + 1] === undefined) throw new Error(`unknown option ${args[at]}`);
    options[name] = name === 'file' ? args[at + 1] : Number(args[at + 1]);
  }
  const folder = mkdtempSync(join(tmpdir(), 'containerarchive-bench-'));
  try {
    const kinds = options.file
      ? [['file', options.file]]
      : [
          ['sql', await generate(join(folder, 'dump.sql'), options.mib, sqlBlocks())],
          ['random', await generate(join(folder, 'random.bin'), options.mib, randomBlocks())],
        ];
    console.log(`| data | what | MiB/s | CPU s/GiB | cores | peak RSS over idle, MiB | loop p99, ms |`);
    console.log(`|---|---|---|---|---|---|---|`);
    for (const [kind, path] of kinds) {
      for (const what of ['read only', 'sha256']) await report(kind, what, options.runs, { what, path });
      for (const encrypted of [false, true]) {
        for (const compression of ['zstd', 'gzip']) {
          const base = { path, encrypted, compression, repo: join(folder, 'repo') };
          const label = `${encrypted ? 'encrypted' : 'plain'} ${compression}`;
          await report(kind, `ingest, ${label}`, options.runs, { ...base, what: 'ingest' });
          await report(kind, `ingest again, ${label}`, options.runs, { ...base, what: 'again' });
          await report(kind, `restore, ${label}`, options.runs, { ...base, what: 'restore' });
        }
      }
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function report(kind, label, runs, job) {
  const results = [];
  for (let run = 0; run < runs; run++) results.push(await runChild(job));
  const median = (name) => results.map((result) => result[name]).sort((a, b) => a - b)[Math.floor(runs / 2)];
  const gib = results[0].bytes / (1 << 30);
  const cells = [
    (results[0].bytes / MIB / median('seconds')).toFixed(0),
    (median('cpu') / gib).toFixed(2),
    (median('cpu') / median('seconds')).toFixed(2),
    (median('rss') / MIB).toFixed(0),
    median('p99').toFixed(1),
  ];
  console.log(`| ${kind} | ${label} | ${cells.join(' | ')} |`);
}

function runChild(job) {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, CA_BENCH_JOB: JSON.stringify(job) };
    const process_ = fork(new URL(import.meta.url), { env });
    let result;
    process_.on('message', (message) => (result = message));
    process_.on('exit', (code) => (code === 0 && result ? resolve(result) : reject(new Error(`the run ended with ${code}`))));
  });
}

async function child(job) {
  const { ContainerArchive } = createRequire(import.meta.url)('../../index.js');
  const passphrase = job.encrypted ? { passphrase: 'bench' } : {};
  let archive;
  let snapshot;
  if (job.what === 'ingest') {
    rmSync(job.repo, { recursive: true, force: true });
    archive = await ContainerArchive.init(job.repo, { ...passphrase, compression: job.compression });
  } else if (job.repo) {
    archive = await ContainerArchive.open(job.repo, passphrase);
    [snapshot] = await archive.listSnapshots();
  }
  const source = () => createReadStream(job.path, { highWaterMark: MIB });
  global.gc?.();
  let peak = 0;
  const idle = process.memoryUsage.rss();
  const watch = setInterval(() => (peak = Math.max(peak, process.memoryUsage.rss())), 20);
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const cpu = process.cpuUsage();
  const start = process.hrtime.bigint();
  let bytes = statSync(job.path).size;
  if (job.what === 'read only') {
    for await (const chunk of source()) void chunk;
  } else if (job.what === 'sha256') {
    const hash = createHash('sha256');
    for await (const chunk of source()) hash.update(chunk);
    hash.digest();
  } else if (job.what === 'restore') {
    bytes = 0;
    for await (const chunk of await archive.restore(snapshot.id)) bytes += chunk.length;
    if (bytes !== statSync(job.path).size) throw new Error('the restore has another length than the source');
  } else {
    await archive.ingest(source());
  }
  const seconds = Number(process.hrtime.bigint() - start) / 1e9;
  const used = process.cpuUsage(cpu);
  delay.disable();
  clearInterval(watch);
  peak = Math.max(peak, process.memoryUsage.rss());
  await archive?.close();
  process.send({
    bytes,
    seconds,
    cpu: (used.user + used.system) / 1e6,
    rss: peak - idle,
    p99: delay.percentile(99) / 1e6,
  });
}

async function generate(path, mib, blocks) {
  const file = createWriteStream(path);
  let left = mib * MIB;
  for (const block of blocks) {
    const piece = block.subarray(0, left);
    if (!file.write(piece)) await new Promise((resolve) => file.once('drain', resolve));
    left -= piece.length;
    if (left === 0) break;
  }
  file.end();
  await finished(file);
  return path;
}
