// Runs one ingest and one restore in a process of its own, and prints what they took:
// node memory-child.mjs '<json>'
//
// In: { path, options, bytes, seed (null: one megabyte repeated) }.
// Out: { idle, ingest, restore, delay, … }, in MiB and ms.

import { createCipheriv, createHash } from 'node:crypto';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Readable } from 'node:stream';
import { ContainerArchive } from '../../index.js';

const { path, options, bytes, seed } = JSON.parse(process.argv[2]);
const MIB = 1024 * 1024;

/** The test data in pieces of 1 MiB, hashed as they are read. */
function source(hash) {
  const cipher = createCipheriv('aes-256-ctr', Buffer.alloc(32, seed ?? 1), Buffer.alloc(16));
  const repeated = seed === null ? cipher.update(Buffer.alloc(MIB)) : null;
  let left = bytes;
  return new Readable({
    highWaterMark: MIB,
    read() {
      if (left === 0) return void this.push(null);
      const piece = (repeated ?? cipher.update(Buffer.alloc(Math.min(MIB, left)))).subarray(0, left);
      left -= piece.length;
      hash.update(piece);
      this.push(piece);
    },
  });
}

/**
 * Runs fn while sampling the memory: { peak (MiB), delay (ms, p99 of the event loop), seconds,
 * value }.
 */
async function watched(fn) {
  const loop = monitorEventLoopDelay({ resolution: 5 });
  let peak = 0;
  const timer = setInterval(() => { peak = Math.max(peak, process.memoryUsage.rss()); }, 10);
  loop.enable();
  const start = performance.now();
  const value = await fn();
  loop.disable();
  clearInterval(timer);
  return {
    value,
    peak: Math.max(peak, process.memoryUsage.rss()) / MIB,
    delay: loop.percentile(99) / 1e6,
    seconds: (performance.now() - start) / 1000,
  };
}

const repo = await ContainerArchive.init(path, options);
await repo.ingest([Buffer.alloc(MIB)]); // loads everything that is loaded once
const idle = process.memoryUsage.rss() / MIB;
const fed = createHash('sha256');
const ingest = await watched(() => repo.ingest(source(fed)));
const got = createHash('sha256');
const restore = await watched(async () => {
  for await (const piece of await repo.restore(ingest.value.id)) got.update(piece);
});
await repo.close();
const { newChunks, reusedChunks } = ingest.value;
console.log(JSON.stringify({ idle, ingest, restore, newChunks, reusedChunks, same: fed.digest('hex') === got.digest('hex') }));
