// A handle with RxJS: fromEvent() accepts it, and a Subscription of RxJS accepts a Subscription of
// this package.

import assert from 'node:assert/strict';
import { Subscription, firstValueFrom, fromEvent, map, merge, take, takeUntil, toArray } from 'rxjs';
import { MIB, freshRepo, pieces, random, test } from './support/harness.mjs';

test('fromEvent has one value per event, until it is unsubscribed', async (t) => {
  const { repo } = await freshRepo(t);
  const seen = [];
  const complete = fromEvent(repo, 'ingest:complete');
  const first = complete.subscribe(({ snapshotId }) => seen.push(snapshotId));
  const second = complete.pipe(map(({ newChunks }) => newChunks)).subscribe((newChunks) => seen.push(newChunks));
  const { id } = await repo.ingest(['x']);
  assert.deepEqual(seen.splice(0), [id, 1]);
  first.unsubscribe();
  await repo.ingest(['x']);
  assert.deepEqual(seen.splice(0), [0]);
  second.unsubscribe();
  await repo.ingest(['x']);
  assert.deepEqual(seen, []);
});

test('an operator that ends the events of fromEvent removes the listener', async (t) => {
  const { repo } = await freshRepo(t);
  const progress = firstValueFrom(fromEvent(repo, 'ingest:progress').pipe(takeUntil(fromEvent(repo, 'ingest:complete')), toArray()));
  const both = firstValueFrom(merge(fromEvent(repo, 'ingest:complete'), fromEvent(repo, 'verify:progress')).pipe(take(2), toArray()));
  const bytes = random(4 * MIB, 120);
  const { id } = await repo.ingest(pieces(bytes, MIB));
  const seen = await progress;
  assert.equal(seen.at(-1).percentage, 100);
  assert.equal(seen.at(-1).bytesDone, bytes.length);
  await repo.verify();
  const [completed, verified] = await both;
  assert.equal(completed.snapshotId, id);
  assert.equal(verified.operation, 'verify');
});

test('a Subscription of RxJS accepts a Subscription of a handle, and ends it', async (t) => {
  const { repo } = await freshRepo(t);
  let calls = 0;
  const all = new Subscription();
  const ours = ['ingest:complete', 'ingest:progress', 'warning'].map((event) => repo.on(event, () => calls++));
  for (const subscription of ours) all.add(subscription);
  await repo.ingest(['x']);
  const before = calls;
  assert.ok(before >= 2, `${before} events`);
  all.unsubscribe();
  assert.ok(ours.every(({ closed }) => closed));
  await repo.ingest(['y']);
  assert.equal(calls, before);
  const late = repo.on('ingest:complete', () => calls++);
  all.add(late);
  assert.ok(late.closed, 'what is added to one that has ended ends');

  const kept = repo.on('ingest:complete', () => calls++);
  const some = new Subscription();
  some.add(kept);
  some.remove(kept);
  some.unsubscribe();
  assert.equal(kept.closed, false, 'what is taken out again stays');
  kept.unsubscribe();
});

test('what a subscriber throws does not reach the engine', async (t) => {
  const { repo } = await freshRepo(t);
  const others = process.listeners('uncaughtException');
  process.removeAllListeners('uncaughtException');
  try {
    // RxJS rethrows it in a timer of its own
    const thrown = new Promise((resolve) => process.once('uncaughtException', resolve));
    const subscription = fromEvent(repo, 'ingest:complete').subscribe(() => { throw new Error('from a subscriber'); });
    const snapshot = await repo.ingest(['x']);
    assert.equal((await repo.listSnapshots())[0].id, snapshot.id);
    assert.equal((await thrown).message, 'from a subscriber');
    subscription.unsubscribe();
  } finally {
    for (const listener of others) process.on('uncaughtException', listener);
  }
});
