// Repositories on servers of object storage that are not moto: one that ignores conditions, and one
// with the protocol of Azure.

import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { CHEAP_KDF, ContainerArchive, MIB, PASSPHRASE, afterwards, assertSameBytes, compressible, random, rejectsWith, restored, test } from './support/harness.mjs';
import { skipOf, startServer } from './support/npm-servers.mjs';

const BUCKET = 'bucket';

for (const [name, scheme, conditionalPut] of [['s3rver', 's3', 'ignored'], ['azurite', 'az', 'honoured']]) {
  test(`${name}: the whole life of a repository in a bucket`, async (t) => {
    const { storage, stop } = await startServer(name, BUCKET);
    afterwards(t, stop);
    const url = `${scheme}://${BUCKET}/tests/whole-life`;
    const warnings = [];
    const watch = (archive) => {
      afterwards(t, () => archive.close());
      archive.on('warning', ({ code }) => warnings.push(code));
      return archive;
    };
    const options = { storage, passphrase: PASSPHRASE };
    await rejectsWith(ContainerArchive.open(url, options), 'ERR_REPO_NOT_FOUND');
    const archive = watch(await ContainerArchive.init(url, { ...options, kdf: CHEAP_KDF, compression: 'zstd' }));

    // more than one pack, so that one of them is sent in parts
    const data = Buffer.concat([random(34 * MIB, 1), compressible(2 * MIB, 2)]);
    const first = await archive.ingest(Readable.from([data]));
    const second = await archive.ingest(Readable.from([data.subarray(MIB)]));
    assert.ok(second.reusedChunks > second.newChunks, 'the second reuses what is stored');
    assert.deepEqual((await archive.listSnapshots()).map(({ id }) => id), [second.id, first.id]);
    assertSameBytes(await restored(archive, first.id), data, 'first');
    assertSameBytes(await restored(archive, second.id), data.subarray(MIB), 'second');
    assertSameBytes(await restored(archive, first.id, { range: { start: 5, end: 3 * MIB } }), data.subarray(5, 3 * MIB), 'a range');
    const verified = await archive.verify({ level: 'full' });
    assert.deepEqual([verified.ok, verified.errors, verified.notes ?? []], [true, [], []]);

    const exclusive = conditionalPut === 'ignored';
    if (exclusive) await rejectsWith(archive.prune({ keepLast: 1 }), 'ERR_EXCLUSIVE_REQUIRED');
    const pruned = await archive.prune({ keepLast: 1 }, { exclusive });
    assert.equal(pruned.removedSnapshots, 1);
    assert.deepEqual(await archive.locks(), []);
    assert.deepEqual((await archive.stats()).objectStorage, { conditionalPut });
    await archive.close();

    const later = watch(await ContainerArchive.open(url, options));
    assertSameBytes(await restored(later, second.id), data.subarray(MIB), 'after the prune');
    const third = await later.ingest(Readable.from([data.subarray(2 * MIB)]));
    assert.ok(third.reusedChunks > third.newChunks, 'another handle reuses what is stored');
    assertSameBytes(await restored(later, third.id), data.subarray(2 * MIB), 'third');
    assert.equal((await later.verify({ level: 'full' })).ok, true);
    assert.equal(warnings.includes('WARN_SINGLE_WRITER'), conditionalPut === 'ignored', warnings.join());
  }, { skip: skipOf(name) });
}
