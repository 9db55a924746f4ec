// One command of containerarchive for the peer benchmark, as a program of its own: what a user of
// the package would write, with the start of Node, opening the repository and the key derivation.
//
//   node ours.mjs REPO init
//   node ours.mjs REPO stream NAME [unverified]      backs up its standard input
//   node ours.mjs REPO path NAME FILE                backs up a file by { path }
//   node ours.mjs REPO restore NAME                  writes the snapshot to its standard output
//   node ours.mjs REPO check | prune
import { createReadStream, createWriteStream } from 'node:fs';
import { createRequire } from 'node:module';
import { pipeline } from 'node:stream/promises';

const { ContainerArchive } = createRequire(import.meta.url)('../../../index.js');
const MIB = 1 << 20;

const [repo, what, name, more] = process.argv.slice(2);
const passphrase = process.env.CA_BENCH_PASSPHRASE;
const verifyWrites = more !== 'unverified';
const archive = what === 'init'
  ? await ContainerArchive.init(repo, { passphrase, compression: { algorithm: 'zstd', level: 3 } })
  : await ContainerArchive.open(repo, { passphrase, verifyWrites });

const commands = {
  init: () => {},
  stream: () => archive.ingest(createReadStream(null, { fd: 0, highWaterMark: MIB }), { tags: { name } }),
  path: () => archive.ingest({ path: more }, { tags: { name } }),
  restore: async () => {
    const [{ id }] = await archive.listSnapshots({ tags: { name } });
    await pipeline(await archive.restore(id), createWriteStream(null, { fd: 1, highWaterMark: MIB }));
  },
  check: async () => {
    const { ok, errors } = await archive.verify({ level: 'full' });
    if (!ok) throw new Error(`verify found ${JSON.stringify(errors)}`);
  },
  prune: () => archive.prune({ keepLast: 1 }),
};
await commands[what]();
await archive.close();
