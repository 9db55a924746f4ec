// Memory stays flat however long the stream is, and the event loop stays responsive. Deep: 5 GiB
// instead of 256 MiB.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { DEEP, ENCRYPTED, GIB, MIB, PLAIN, freshRepo, random, restored, root, temporary, test } from './support/harness.mjs';

const run = promisify(execFile);
/** Maximum growth over an idle process. */
const LIMIT_MIB = 256;
const BYTES = DEEP ? 5 * GIB : 256 * MIB;

for (const kind of [PLAIN, ENCRYPTED]) {
  for (const [what, seed] of [['repeating', null], ['new', 7]]) {
    const bytes = seed === null ? BYTES : Math.min(BYTES, GIB);
    test(`${kind.name}: ${bytes / MIB} MiB of ${what} data keep memory flat`, async (t) => {
      const input = { path: join(temporary(t), 'repo'), options: kind.init, bytes, seed };
      const { stdout } = await run(process.execPath, [join(root, '__test__/support/memory-child.mjs'), JSON.stringify(input)]);
      const { idle, ingest, restore, newChunks, reusedChunks, same } = JSON.parse(stdout);
      for (const [name, { peak, delay, seconds }] of Object.entries({ ingest, restore })) {
        t.diagnostic(
          `${name}: +${(peak - idle).toFixed(0)} MiB over ${idle.toFixed(0)} MiB, ${(bytes / 1e6 / seconds).toFixed(0)} MB/s, ` +
            `event loop delay p99 ${delay.toFixed(1)} ms`,
        );
        assert.ok(peak - idle <= LIMIT_MIB, `${name} grew by ${peak - idle} MiB`);
      }
      assert.ok(same, 'restored = source');
      if (seed === null) assert.ok(reusedChunks > newChunks * 5, `${newChunks} new, ${reusedChunks} reused`);
    });
  }
}

test('thousands of calls on one handle leave no memory behind', async (t) => {
  const { repo } = await freshRepo(t);
  const bytes = random(1000, 110);
  const rounds = DEEP ? 5000 : 300;
  const round = async (i) => {
    const { id } = await repo.ingest([bytes], { tags: { i: String(i) } });
    assert.equal((await restored(repo, id)).length, 1000);
    const stream = await repo.restore(id);
    stream.destroy();
  };
  for (let i = 0; i < rounds / 3; i++) await round(i);
  const before = process.memoryUsage().rss;
  for (let i = 0; i < rounds; i++) await round(i);
  const grown = (process.memoryUsage().rss - before) / MIB;
  t.diagnostic(`+${grown.toFixed(1)} MiB after ${rounds} rounds`);
  assert.ok(grown < 64, `${grown} MiB`);
});

test(`${DEEP ? 10_000 : 1000} calls that only read leave no memory behind`, async (t) => {
  const { repo } = await freshRepo(t);
  const { id } = await repo.ingest([random(1000, 111)]);
  const calls = [
    () => repo.getSnapshot(id), () => repo.listSnapshots({ tags: {} }), () => repo.latest(), () => repo.locks(), () => repo.stats(),
    () => repo.verify({ level: 'quick', signal: new AbortController().signal, onProgress() {} }),
    () => repo.getSnapshot('0'.repeat(32)).catch(() => {}), () => repo.planPrune({ keepLast: 1 }), () => restored(repo, id),
    async () => repo.on('warning', () => {}).unsubscribe(),
  ];
  const rounds = (DEEP ? 10_000 : 1000) / calls.length;
  const round = async () => { for (const call of calls) await call(); };
  for (let i = 0; i < rounds / 2; i++) await round();
  const before = process.memoryUsage().rss;
  for (let i = 0; i < rounds; i++) await round();
  const grown = (process.memoryUsage().rss - before) / MIB;
  t.diagnostic(`+${grown.toFixed(1)} MiB after ${rounds * calls.length} calls`);
  assert.ok(grown < 32, `${grown} MiB`);
});
