// One command of containerarchive for the benchmark of object storage, as a program of its own:
// with the start of Node, opening the repository and the key derivation. Where the service is, and
// its credentials, are in the environment.
//
//   node ours.mjs URL init
//   node ours.mjs URL backup NAME            backs up its standard input
//   node ours.mjs URL restore NAME FILE
//   node ours.mjs URL stream NAME            restores to its standard output
//   node ours.mjs URL list COUNT             fails unless there are so many
//   node ours.mjs URL prune NAME             removes one snapshot and frees its space
//   node ours.mjs URL fill COUNT             creates a repository with so many snapshots
import { createReadStream, createWriteStream } from 'node:fs';
import { createRequire } from 'node:module';
import { pipeline } from 'node:stream/promises';

const { ContainerArchive } = createRequire(import.meta.url)('../../../index.js');
const MIB = 1 << 20;

const [url, what, name, file] = process.argv.slice(2);
const passphrase = process.env.CA_BENCH_PASSPHRASE;
const archive = ['init', 'fill'].includes(what)
  ? await ContainerArchive.init(url, { passphrase, compression: 'zstd' })
  : await ContainerArchive.open(url, { passphrase });
const idOf = async () => (await archive.listSnapshots({ tags: { name } }))[0].id;

const commands = {
  init: () => {},
  backup: () => archive.ingest(createReadStream(null, { fd: 0, highWaterMark: MIB }), { tags: { name } }),
  restore: async () => archive.restoreToFile(await idOf(), { path: file }),
  stream: async () => pipeline(await archive.restore(await idOf()), createWriteStream(null, { fd: 1, highWaterMark: MIB })),
  list: async () => {
    const { length } = await archive.listSnapshots();
    if (length !== Number(name)) throw new Error(`${length} snapshots are listed, not ${name}`);
  },
  prune: async () => {
    await archive.forget([await idOf()]);
    await archive.prune({ keepLast: 1_000_000 }, { exclusive: true });
  },
  fill: async () => {
    for (let number = 0; number < Number(name); number++) {
      await archive.ingest([Buffer.from(`snapshot ${number}`)], { tags: { name: `s${number}` } });
    }
  },
};
await commands[what]();
await archive.close();
