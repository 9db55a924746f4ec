// The members of large tars: what their index costs an ingest, and how long calls with it take.
//
//   npm run bench:members -- [--members 1000000] [--bytes 1024] [--gib 100] [--runs 3]
//
// Two tars are written first. In one there are `members` files of `bytes` bytes each, a thousand in
// a directory. In the other there is one file of 10 KB between files that are `gib` GiB of zeros
// together, as holes on the disk. Each ingest is a process of its own; of the calls, each gets a
// handle that is open already. CPU seconds are user and system, of all threads.
import { fork } from 'node:child_process';
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { randomBlocks } from './blocks.mjs';

const GIB = 2 ** 30;
const PER_DIRECTORY = 1000;
const SMALL = 10_000;

const { ContainerArchive } = createRequire(import.meta.url)('../../index.js');

async function main() {
  const number = (value) => ({ type: 'string', default: value });
  const { values } = parseArgs({ options: { members: number('1000000'), bytes: number('1024'), gib: number('100'), runs: number('3') } });
  const [members, bytes, gib, runs] = [values.members, values.bytes, values.gib, values.runs].map(Number);
  const folder = mkdtempSync(join(tmpdir(), 'containerarchive-bench-'));
  try {
    const many = { path: join(folder, 'many.tar'), member: `d${pad(members / PER_DIRECTORY / 2)}/f${pad(7)}`, runs };
    const large = { path: join(folder, 'large.tar'), member: 'small', runs };
    await writeMany(many.path, members, bytes);
    writeLarge(large.path, gib);
    console.log('| tar | call | member index: ms | headers: ms |');
    console.log('|---|---|---|---|');
    const ingests = [];
    for (const [label, tar] of [[`${members} files of ${bytes} bytes`, many], [`10 KB among ${gib} GiB of zeros`, large]]) {
      const repo = join(folder, 'repo');
      const results = [];
      for (const tarIndex of [true, false]) {
        const each = [];
        for (let run = 0; run < runs; run++) {
          rmSync(repo, { recursive: true, force: true });
          each.push(await runChild({ ...tar, repo, tarIndex, what: 'ingest' }));
        }
        results.push(await runChild({ ...tar, repo, what: 'calls' }));
        ingests.push([label, tarIndex, ...['seconds', 'cpu', 'stored', 'rss'].map((name) => median(each.map((one) => one[name])))]);
      }
      const [index, headers] = results;
      for (const call of Object.keys(index)) {
        console.log(`| ${label} | ${call} | ${index[call].toFixed(1)} | ${headers[call].toFixed(1)} |`);
      }
    }
    console.log('\n| tar | member index | wall s | CPU s | stored MiB | peak RSS MiB |');
    console.log('|---|---|---|---|---|---|');
    for (const [label, tarIndex, seconds, cpu, stored, rss] of ingests) {
      const cells = [seconds.toFixed(2), cpu.toFixed(2), (stored / 2 ** 20).toFixed(1), (rss / 2 ** 20).toFixed(0)];
      console.log(`| ${label} | ${tarIndex ? 'yes' : 'no'} | ${cells.join(' | ')} |`);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const median = (values) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];
const pad = (value) => String(Math.floor(value)).padStart(6, '0');

/** A header of ustar for a regular file. */
function header(path, size) {
  const block = Buffer.alloc(512);
  const octal = (value, at, digits) => block.write(value.toString(8).padStart(digits, '0'), at);
  block.write(path);
  octal(0o644, 100, 7);
  octal(1000, 108, 7);
  octal(1000, 116, 7);
  // beyond 8 GiB as GNU tar writes it
  if (size < 8 * GIB) {
    octal(size, 124, 11);
  } else {
    block.writeUInt8(0x80, 124);
    block.writeBigUInt64BE(BigInt(size), 128);
  }
  octal(1_700_000_000, 136, 11);
  block.write('        ', 148);
  block.write('0', 156);
  block.write('ustar\0' + '00', 257);
  octal(block.reduce((sum, byte) => sum + byte, 0), 148, 6);
  block.write('\0 ', 154);
  return block;
}

const padded = (size) => Math.ceil(size / 512) * 512;

async function writeMany(path, members, bytes) {
  const file = openSync(path, 'w');
  const blocks = randomBlocks();
  let pool = blocks.next().value;
  let used = 0;
  let pieces = [];
  for (let at = 0; at < members; at++) {
    const content = Buffer.alloc(padded(bytes));
    if (used + bytes > pool.length) [pool, used] = [blocks.next().value, 0];
    pool.copy(content, 0, used, used + bytes);
    used += bytes;
    pieces.push(header(`d${pad(at / PER_DIRECTORY)}/f${pad(at % PER_DIRECTORY)}`, bytes), content);
    if (pieces.length >= 8192) {
      writeSync(file, Buffer.concat(pieces));
      pieces = [];
    }
  }
  writeSync(file, Buffer.concat([...pieces, Buffer.alloc(1024)]));
  closeSync(file);
}

function writeLarge(path, gib) {
  const file = openSync(path, 'w');
  let at = 0;
  const add = (name, size, content) => {
    writeSync(file, header(name, size), 0, 512, at);
    if (content) writeSync(file, content, 0, size, at + 512);
    at += 512 + padded(size);
  };
  add('zeros-1', Math.floor(gib / 2) * GIB);
  add('small', SMALL, Buffer.alloc(SMALL, 's'));
  add('zeros-2', Math.ceil(gib / 2) * GIB);
  ftruncateSync(file, at + 1024);
  closeSync(file);
}

/** Runs a job in a process of its own. */
function runChild(job) {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, CA_BENCH_JOB: JSON.stringify(job) };
    const running = fork(new URL(import.meta.url), { env });
    running.once('message', resolve);
    running.once('error', reject);
    running.once('exit', (code) => reject(new Error(`the process ended with ${code}`)));
  });
}

async function child(job) {
  const options = { compression: 'zstd' };
  const archive = await ContainerArchive.openOrInit(job.repo, options);
  process.send(job.what === 'ingest' ? await ingest(archive, job) : await calls(archive, job));
  await archive.close();
}

async function ingest(archive, { path, tarIndex }) {
  const before = process.cpuUsage();
  const started = performance.now();
  await archive.ingest({ path }, { tarIndex });
  const seconds = (performance.now() - started) / 1000;
  const { user, system } = process.cpuUsage(before);
  const { storedBytes } = await archive.stats();
  return { seconds, cpu: (user + system) / 1e6, stored: storedBytes, rss: process.resourceUsage().maxRSS * 1024 };
}

/** Milliseconds of each call, the median of several. */
async function calls(archive, { member, runs }) {
  const [{ id }] = await archive.listSnapshots();
  const all = {
    'first entry of files()': async () => {
      for await (const entry of archive.files(id)) return entry;
      throw new Error('no entry');
    },
    'memberInfo()': () => archive.memberInfo(id, { member }),
    'restore({ member }), all of it': async () => {
      let bytes = 0;
      for await (const piece of await archive.restore(id, { member })) bytes += piece.length;
      if (bytes === 0) throw new Error('no bytes');
    },
    'files({ recursive: true }), all entries': async () => {
      let count = 0;
      for await (const _ of archive.files(id, { recursive: true })) count++;
      return count;
    },
  };
  const results = {};
  for (const [name, call] of Object.entries(all)) {
    const times = [];
    for (let run = 0; run < runs; run++) {
      const started = performance.now();
      await call();
      times.push(performance.now() - started);
    }
    results[name] = median(times);
  }
  return results;
}

if (process.env.CA_BENCH_JOB) {
  await child(JSON.parse(process.env.CA_BENCH_JOB));
} else {
  await main();
}
