// The streams of the benchmark of object storage, the same on every machine: half of them rows as
// `pg_dump` writes them, half random bytes. On the next day 2 % of each half are different.
import { createHash } from 'node:crypto';
import { closeSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { generator, randomBlocks } from '../blocks.mjs';
import { dump } from '../dumps.mjs';

const MIB = 1 << 20;
const SMALL_BYTES = 20_000;
/** Of the blocks of 1 MiB, 40 % change, each in 5 % of its bytes. */
const CHANGED_BLOCKS = 40;
const CHANGED_BYTES = 50 * 1024;

function* pieces(mib, day) {
  yield* dump(Math.ceil(mib / 2), day);
  let left = Math.floor(mib / 2);
  const next = generator(101);
  for (const block of randomBlocks()) {
    if (left-- === 0) return;
    if (day > 0 && next() % 100 < CHANGED_BLOCKS) {
      const at = next() % (MIB - CHANGED_BYTES);
      for (let byte = at; byte < at + CHANGED_BYTES; byte++) block[byte] ^= 0x55;
    }
    yield block;
  }
}

function* small() {
  const [block] = randomBlocks();
  yield block.subarray(MIB - SMALL_BYTES);
}

/**
 * Writes the streams into a directory: `{ first, next, small }`, each `{ path, bytes, sha256 }`.
 */
export function prepare(folder, mib) {
  const write = (name, source) => {
    const [path, hash] = [join(folder, name), createHash('sha256')];
    const file = openSync(path, 'w');
    let bytes = 0;
    for (const piece of source) {
      hash.update(piece);
      bytes += writeSync(file, piece);
    }
    closeSync(file);
    return { path, bytes, sha256: hash.digest('hex') };
  };
  return { first: write('first', pieces(mib, 0)), next: write('next', pieces(mib, 1)), small: write('small', small()) };
}
