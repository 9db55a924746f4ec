// Concurrent operations: on one handle, on several handles, from several processes.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import {
  ContainerArchive, ENCRYPTED, MIB, PLAIN, assertSameBytes, freshRepo, pieces, random, rejectsWith, reopen, restored, root,
  temporary, test,
} from './support/harness.mjs';

for (const kind of [PLAIN, ENCRYPTED]) {
  test(`${kind.name}: eight concurrent ingests, restores and lists work on one handle`, async (t) => {
    const { repo, path } = await freshRepo(t, kind);
    const shared = random(6 * MIB, 90);
    const data = Array.from({ length: 8 }, (_, i) => Buffer.concat([shared, random(2 * MIB, 91 + i)]));
    const base = await repo.ingest(shared);
    const jobs = data.map(async (bytes, i) => {
      const snapshot = await repo.ingest(Readable.from(pieces(bytes, 64 * 1024)), { tags: { n: String(i) } });
      assertSameBytes(await restored(repo, snapshot.id), bytes);
      return snapshot;
    });
    const failing = rejectsWith(repo.ingest((async function* () { yield data[0]; throw new Error('boom'); })()), 'ERR_SOURCE_FAILED');
    const reading = Promise.all([restored(repo, base.id), repo.listSnapshots(), restored(repo, base.id, { range: { start: MIB } })]);
    const snapshots = await Promise.all(jobs);
    await failing;
    assertSameBytes((await reading)[0], shared);
    assert.equal((await repo.listSnapshots()).length, 9);
    const other = await reopen(t, path, kind);
    for (const [i, { id }] of snapshots.entries()) {
      assert.deepEqual((await other.listSnapshots({ tags: { n: String(i) } })).map((snapshot) => snapshot.id), [id]);
      assertSameBytes(await restored(other, id), data[i]);
    }
  });

  test(`${kind.name}: a handle sees and reuses what another one stores`, async (t) => {
    const { repo, path } = await freshRepo(t, kind);
    const other = await reopen(t, path, kind);
    const bytes = random(3 * MIB, 100);
    const first = await repo.ingest(bytes);
    assert.deepEqual(await other.listSnapshots(), [first]);
    assertSameBytes(await restored(other, first.id), bytes);
    assert.equal((await other.ingest(bytes)).newChunks, 0);
    assert.equal((await repo.listSnapshots()).length, 2);
  });

  test(`${kind.name}: four processes ingest into one repository concurrently`, async (t) => {
    const { repo, path } = await freshRepo(t, kind);
    const source = `
      const { ContainerArchive } = require(${JSON.stringify(root)});
      const { createCipheriv } = require('node:crypto');
      const n = Number(process.argv[1]);
      const bytes = (seed, length) => createCipheriv('aes-256-ctr', Buffer.alloc(32, seed), Buffer.alloc(16)).update(Buffer.alloc(length));
      (async () => {
        const repo = await ContainerArchive.open(${JSON.stringify(path)}, ${JSON.stringify(kind.open)});
        const ids = [];
        for (let i = 0; i < 3; i++) {
          const snapshot = await repo.ingest([bytes(0, 4e6), bytes(1 + n * 3 + i, 3e6)], { tags: { process: String(n), i: String(i) } });
          ids.push(snapshot.id);
          let size = 0;
          for await (const part of await repo.restore(snapshot.id)) size += part.length;
          if (size !== 7e6) throw new Error('size ' + size);
        }
        await repo.close();
        console.log(JSON.stringify(ids));
      })();`;
    const outputs = await Promise.all([0, 1, 2, 3].map((n) => new Promise((resolve, reject) => {
      const child = spawn(process.execPath, ['-e', source, String(n)], { stdio: ['ignore', 'pipe', 'inherit'] });
      let out = '';
      child.stdout.on('data', (part) => { out += part; });
      child.on('close', (code) => (code === 0 ? resolve(JSON.parse(out)) : reject(new Error(`process ${n} ended with ${code}`))));
    })));
    const ids = outputs.flat();
    assert.equal(new Set(ids).size, 12);
    assert.deepEqual((await repo.listSnapshots()).map((snapshot) => snapshot.id).sort(), [...ids].sort());
    for (const id of ids) assert.equal((await restored(repo, id)).length, 7e6);
    assert.ok((await repo.ingest(await repo.restore(ids[0]))).newChunks === 0);
  });
}

test('one of several concurrent inits at the same path wins', async (t) => {
  const path = join(temporary(t), 'repo');
  const results = await Promise.allSettled(Array.from({ length: 6 }, () => ContainerArchive.init(path)));
  const won = results.filter(({ status }) => status === 'fulfilled');
  assert.equal(won.length, 1);
  for (const { reason } of results.filter(({ status }) => status === 'rejected')) {
    assert.ok(['ERR_REPO_EXISTS', 'ERR_NOT_EMPTY', 'ERR_REPO_LOCKED'].includes(reason.code), reason.stack);
  }
  const repo = won[0].value;
  assert.equal((await repo.ingest(['x'])).originalSize, 1);
  await repo.close();
});
