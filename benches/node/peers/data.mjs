// The data of the peer benchmark: three kinds of stream that are made here, from numbers, without
// anything from outside.
//
//   sql      W1: rows as `pg_dump` writes them, on three days; 2 % of the rows change per day, at
//            40 positions, and the table grows by 0.5 % (dumps.mjs)
//   volume   W2: the tar of a volume, before and after an upgrade in place (volume.mjs)
//   random   W3: random bytes, as an encrypted or compressed stream is
//
// A file that exists is kept. The hash of the code that makes it is in the name of its directory,
// so a changed generator never finds the files of an older one; a file gets its name when it is
// complete. Each file is read before the first run: for its SHA-256, with which the restored
// streams are compared, and so that the programs find it in the page cache.
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, existsSync, mkdirSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { randomBlocks } from '../blocks.mjs';
import { dump } from '../dumps.mjs';
import { volume } from './volume.mjs';

const GENERATORS = ['../blocks.mjs', '../dumps.mjs', './volume.mjs'];

/** The streams of each kind, in the order in which they are backed up, as generators. */
const STREAMS = {
  sql: [0, 1, 2].map((day) => [`day-${day + 1}.sql`, (mib) => dump(mib, day)]),
  volume: [1, 2].map((version) => [`version-${version}.tar`, (mib) => volume(mib, version)]),
  random: [['random.bin', randomOf]],
};

/** Makes what is missing, and returns for each kind its files: `{ path, bytes, sha256 }`. */
export async function prepare(folder, mib, report) {
  const code = createHash('sha256');
  for (const file of GENERATORS) code.update(readFileSync(new URL(file, import.meta.url)));
  const home = join(folder, `${mib}-mib-${code.digest('hex').slice(0, 12)}`);
  mkdirSync(home, { recursive: true });
  const kinds = {};
  for (const [kind, streams] of Object.entries(STREAMS)) {
    kinds[kind] = [];
    for (const [name, pieces] of streams) {
      const path = join(home, name);
      if (!existsSync(path)) {
        report(`making ${path}`);
        await pipeline(Readable.from(pieces(mib)), createWriteStream(`${path}.part`));
        renameSync(`${path}.part`, path);
      }
      kinds[kind].push({ path, ...(await digest(createReadStream(path, { highWaterMark: 1 << 20 }))) });
    }
  }
  return kinds;
}

/** Length and SHA-256 of a stream. */
export async function digest(stream) {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of stream) {
    hash.update(chunk);
    bytes += chunk.length;
  }
  return { bytes, sha256: hash.digest('hex') };
}

function* randomOf(mib) {
  for (const block of randomBlocks()) {
    if (mib-- === 0) return;
    yield block;
  }
}
