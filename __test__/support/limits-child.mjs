// Runs one operation many times concurrently in a process of its own, and prints what that took:
// node limits-child.mjs '<json>'
//
// In: { what, path, options, count, memoryLimit? }.
// Out: { grown (MiB of resident memory), most (open descriptors), … }.

import { createCipheriv } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ContainerArchive } from '../../index.js';

const { what, path, options, open, count, memoryLimit } = JSON.parse(process.argv[2]);
const MIB = 1024 * 1024;

/** Bytes that do not compress. */
const random = (length, seed) => createCipheriv('aes-256-ctr', Buffer.alloc(32, seed + 1), Buffer.alloc(16)).update(Buffer.alloc(length));

const descriptors = () => (process.platform === 'linux' ? readdirSync('/proc/self/fd').length : 0);

/** Runs fn while sampling what the process uses. */
async function watched(fn) {
  let [peak, most, over] = [0, 0, false];
  const look = () => {
    peak = Math.max(peak, process.memoryUsage.rss());
    most = Math.max(most, descriptors());
    if (!over) setTimeout(look, 2);
  };
  const idle = process.memoryUsage.rss();
  const before = descriptors();
  look();
  const value = await fn();
  over = true;
  look();
  return { grown: (peak - idle) / MIB, most: most - before, ...value };
}

const things = {
  /** Many concurrent ingests on one handle. */
  async ingests() {
    const repo = await ContainerArchive.init(path, { ...options, memoryLimit });
    await repo.ingest(random(MIB, 0)); // loads everything that is loaded once
    const phases = new Set();
    const onProgress = ({ phase }) => phases.add(phase);
    const piece = random(256 * 1024, 7);
    const source = async function* (seed) {
      for (let i = 0; i < 4; i++) {
        piece[i] = seed % 256;
        piece[8 + i] = seed >> 8;
        yield Buffer.from(piece);
      }
    };
    const used = await watched(async () => {
      const all = Array.from({ length: count }, (_, seed) => repo.ingest(source(seed), { onProgress }));
      const snapshots = await Promise.all(all);
      return { snapshots: new Set(snapshots.map(({ id }) => id)).size };
    });
    await repo.close();
    return { ...used, phases: [...phases].sort() };
  },

  /** Many concurrent restores on one handle, which are not read before all have begun. */
  async restores() {
    const repo = await ContainerArchive.init(path, { ...options, memoryLimit });
    const { id, originalSize } = await repo.ingest(random(6 * MIB, 1));
    for await (const piece of await repo.restore(id)) piece.length;
    const used = await watched(async () => {
      const streams = await Promise.all(Array.from({ length: count }, () => repo.restore(id)));
      await Promise.all(streams.map((stream) => once(stream, 'readable')));
      let bytes = 0;
      for (const stream of streams) for await (const piece of stream) bytes += piece.length;
      return { whole: bytes === count * originalSize };
    });
    await repo.close();
    return used;
  },

  /** Many concurrent openings, each with a key derivation. */
  async opens() {
    await (await ContainerArchive.init(path, options)).close();
    return watched(async () => {
      const repos = await Promise.all(Array.from({ length: count }, () => ContainerArchive.open(path, open)));
      await Promise.all(repos.map((repo) => repo.close()));
    });
  },

  /** One ingest of many files. */
  async files() {
    const repo = await ContainerArchive.init(path, options);
    const folder = `${path}-files`;
    mkdirSync(folder);
    const items = Array.from({ length: count }, (_, i) => {
      writeFileSync(join(folder, String(i)), String(i));
      return { name: String(i), type: 'x', stream: { path: join(folder, String(i)) } };
    });
    const used = await watched(async () => ({ items: (await repo.ingestMulti(items, { concurrency: 4 })).items.length }));
    await repo.close();
    return used;
  },
};

console.log(JSON.stringify(await things[what]()));
