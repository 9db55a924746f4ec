// stats: shape and numbers, against the files themselves.

import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { ENCRYPTED, MIB, PLAIN, freshRepo, pieces, random, rejectsWith, repoFiles, test } from './support/harness.mjs';

for (const kind of [PLAIN, ENCRYPTED]) {
  test(`stats counts what a repository contains and the space it takes (${kind.name})`, async (t) => {
    const { repo, path } = await freshRepo(t, kind, { packSize: MIB });
    const empty = await repo.stats();
    assert.deepEqual([empty.snapshots, empty.chunks, empty.dedupRatio, empty.parity.ratio], [0, 0, null, null]);

    const data = random(3 * MIB, 80);
    const { newChunks } = await repo.ingest(pieces(data, MIB));
    await repo.ingestMulti([
      { name: 'a', type: 'x', stream: data },
      { name: 'b', type: 'x', stream: data },
    ]);
    const stats = await repo.stats();
    assert.deepEqual([stats.snapshots, stats.items, stats.originalBytes], [2, 3, 9 * MIB]);
    assert.deepEqual([stats.chunks, stats.uniqueBytes, stats.dedupRatio], [newChunks, 3 * MIB, 3]);
    assert.ok(stats.storedBytes >= 3 * MIB && stats.compressionRatio <= 1);

    const bytes = (pattern) => repoFiles(path, pattern).reduce((sum, file) => sum + statSync(file).size, 0);
    assert.equal(stats.bytes.total, bytes(/./));
    assert.equal(stats.bytes.dataPacks + stats.bytes.metaPacks, bytes(/\.pack$/));
    assert.equal(stats.bytes.packIndexes, bytes(/\.idx$/));
    assert.equal(stats.bytes.index, bytes(/\.seg$/));
    assert.equal(stats.packs, repoFiles(path, /\.pack$/).length);
    assert.equal(stats.bytes.keys > 0, kind === ENCRYPTED);
    const { parity, ...others } = stats.bytes;
    assert.ok(Object.values(others).every(Number.isSafeInteger));
    assert.equal(parity, bytes(/\.(par|grp)$/));
    assert.deepEqual([stats.parity.data, stats.parity.parity, stats.parity.bytes], [20, 1, parity]);
    assert.equal(stats.parity.ratio, parity / bytes(/\.pack$/));
  });
}

test('without parity stats has none; bad options are refused and signals obeyed', async (t) => {
  const { repo } = await freshRepo(t, PLAIN, { parity: false });
  await repo.ingest(random(MIB, 81));
  assert.equal((await repo.stats({})).parity, null);
  await rejectsWith(repo.stats({ level: 'full' }), 'ERR_INVALID_ARGUMENT');
  const reason = new Error('enough');
  await assert.rejects(repo.stats({ signal: AbortSignal.abort(reason) }), reason);
  await repo.close();
  await rejectsWith(repo.stats(), 'ERR_CLOSED');
});
