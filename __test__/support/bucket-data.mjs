// What the processes of bucketprocesses.spec.mjs store: few blocks in ever other orders, so that
// snapshots share chunks, and what one prune deletes another ingest needs again.

import { createHash } from 'node:crypto';

const BLOCKS = 12;
const BLOCK = 96 * 1024;

const blocks = Array.from({ length: BLOCKS }, (_, number) => {
  const block = Buffer.alloc(BLOCK);
  for (let at = 0; at < BLOCK; at += 32) createHash('sha256').update(`${number} ${at}`).digest().copy(block, at);
  return block;
});

/** The blocks of a snapshot, and its number. */
export function dataOf(number) {
  const chosen = [1, 7, 49, 343].map((factor) => blocks[Math.floor(number / factor) % BLOCKS]);
  return [...chosen, Buffer.from(`${number}`)];
}
