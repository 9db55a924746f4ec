// Commands that change or write something: what they state about it, and what a failure leaves.

import assert from 'node:assert/strict';
import { commands } from './support/cli.mjs';
import { freshRepo, test } from './support/harness.mjs';

test('a prune that frees no stored data does not state a size', async (t) => {
  const { path, repo } = await freshRepo(t);
  const { ok, json } = commands(path);
  await repo.ingest(Buffer.from('the same bytes'));
  const { id } = await repo.ingest(Buffer.from('the same bytes'));
  assert.equal(ok('prune'), 'nothing to free\n');
  await repo.forget([id]);
  const [plan] = json('prune', '--dry-run');
  assert.deepEqual([plan.freedBytes, plan.removedPacks], [0, 1]);
  assert.equal(ok('prune', '--dry-run'), 'would free no stored data: 1 pack with nothing but manifests deleted\n');
  assert.equal(ok('prune'), 'freed no stored data: 1 pack with nothing but manifests deleted\n');
  const [last] = await repo.listSnapshots();
  await repo.forget([last.id]);
  assert.match(ok('prune'), /^freed \d+ B: 2 packs deleted, 0 rewritten\n$/);
});

test('a dry run of forget with ids has a result', async (t) => {
  const { path, repo } = await freshRepo(t);
  const { json } = commands(path);
  const { id, createdAt } = await repo.ingest(Buffer.from('1'));
  assert.deepEqual(json('forget', id.slice(0, 8), '--dry-run'), [{ remove: [{ id, createdAt, group: {} }], dryRun: true }]);
  assert.equal((await repo.listSnapshots()).length, 1);
});
