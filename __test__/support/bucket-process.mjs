// A process of bucketprocesses.spec.mjs: writes into a repository in a bucket, or prunes it, until
// it is killed. What it has been promised goes to standard output, a JSON line each.

import { writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dataOf } from './bucket-data.mjs';

const { ContainerArchive } = createRequire(import.meta.url)('../../index.js');
const { url, role, options, seed } = JSON.parse(process.argv[2]);

const say = (line) => writeSync(1, `${JSON.stringify(line)}\n`);

/** Numbers in [0, below), the same for a seed: xorshift32. */
let state = seed;
function random(below) {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}

async function write(archive) {
  const number = random(1 << 30);
  const kind = random(2) === 0 ? 'kept' : 'passing';
  const { id } = await archive.ingest(dataOf(number), { tags: { kind } });
  say({ id, number, kind });
}

async function prune(archive) {
  const passing = await archive.listSnapshots({ tags: { kind: 'passing' } });
  const some = passing.filter(() => random(2) === 0).map(({ id }) => id);
  await archive.forget(some);
  await archive.prune({ keepLast: 'all' }, { force: random(2) === 0, maxUnused: 0 });
  say({ pruned: some.length });
}

const archive = await ContainerArchive.open(url, options);
for (;;) {
  try {
    await (role === 'writer' ? write : prune)(archive);
  } catch (error) {
    if (!error.retryable) say({ failed: `${role}: ${error.code} ${error.message}` });
  }
}
