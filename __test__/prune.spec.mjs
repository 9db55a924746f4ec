// prune, planPrune, forget, locks: what is refused, what is kept and why, what is freed, which
// events there are.

import assert from 'node:assert/strict';
import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  ENCRYPTED, KIB, PLAIN, assertSameBytes, collect, filesIn, freshRepo, pieces, random, rejectsWith, reopen, restored, root, settle, test, treeHash,
} from './support/harness.mjs';

const SMALL = { packSize: 256 * KIB, chunking: { min: 4 * KIB, avg: 16 * KIB, max: 64 * KIB } };
const DAY_MS = 86_400_000;
const START = Date.parse('2026-01-01T12:00:00Z');
const day = (n) => new Date(START + n * DAY_MS).toISOString();

/** Data of a day: a part that all days share, a part that two days share, and a part of its own. */
const dataOf = (n) => Buffer.concat([random(200 * KIB, 1), random(150 * KIB, 100 + (n >> 1)), random(100 * KIB, 200 + n)]);

/** Bytes of all files of packs. */
function size(path) {
  const folder = join(path, 'packs', 'data');
  return filesIn(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);
}

/** A repository with a snapshot per day, the oldest first: { repo, path, snapshots }. */
async function daily(t, kind, count, tags = () => ({})) {
  const { repo, path } = await freshRepo(t, kind, SMALL);
  const snapshots = [];
  for (let n = 0; n < count; n++) {
    snapshots.push(await repo.ingest(pieces(dataOf(n), 64 * KIB), { createdAt: day(n), tags: tags(n) }));
  }
  return { repo, path, snapshots };
}

const ids = (list) => list.map(({ id }) => id);

class Policy {
  get keepLast() { return 1; }
}
const BAD_POLICIES = [
  undefined, null, 3, 'all', true, [], [{ keepLast: 1 }], {}, new Map([['keepLast', 1]]), new Policy(), Object.create({ keepLast: 1 }),
  { keepLast: 0 }, { keepLast: undefined }, { keepTags: [], keepIds: [] }, { groupBy: ['service'], timeZone: 'UTC' },
  { keepDay: 3 }, { keeplast: 1 }, { keepDays: 1, keepOldest: false }, { keepDays: 1, allowEmpty: true }, { keepDays: 1, dryRun: true },
  JSON.parse('{ "keepDays": 1, "__proto__": {} }'),
  { keepDays: NaN }, { keepDays: Infinity }, { keepDays: -1 }, { keepDays: 1.5 }, { keepDays: '7' }, { keepDays: null }, { keepDays: true },
  { keepDays: 7n }, { keepDays: 2 ** 32 }, { keepDays: 'ALL' }, { keepDays: [7] }, { keepDays: 7, keepWeeks: -1 },
  { keepWithin: '2x' }, { keepLast: 1, keepWithin: '' }, { keepLast: 1, keepWithin: 7 }, { keepLast: 1, keepWithin: 'P7D' },
  { keepTags: { env: 'prod' } }, { keepTags: ['env'] }, { keepTags: [{ env: 1 }] }, { keepTags: [, { env: 'prod' }] },
  { keepIds: 'latest' }, { keepIds: ['latest'] }, { keepIds: ['0123'] }, { keepIds: ['A'.repeat(32)] }, { keepIds: ['0'.repeat(64)] },
  { keepLast: 1, groupBy: 'service' }, { keepLast: 1, groupBy: [1] }, { keepLast: 1, groupBy: [''] },
  { keepLast: 1, timeZone: 'Mars/Olympus' }, { keepLast: 1, timeZone: '' }, { keepLast: 1, timeZone: null },
  { keepLast: 1, dayStartsAt: '6:00' }, { keepLast: 1, dayStartsAt: '24:00' }, { keepLast: 1, dayStartsAt: 6 },
  { keepLast: 1, anchor: 'first' }, { keepLast: 1, anchor: new Date() },
  // an inherited rule would be ignored silently
  Object.assign(Object.create(Object.assign(Object.create(null), { keepMonths: 12 })), { keepLast: 3 }),
  { get keepLast() { throw new Error('later'); } }, Promise.resolve({ keepLast: 1 }),
];

test('every invalid policy is refused, and nothing is read or removed', async (t) => {
  const { repo, path, snapshots } = await daily(t, PLAIN, 3);
  const before = treeHash(path);
  for (const bad of BAD_POLICIES) {
    for (const call of [() => repo.prune(bad), () => repo.prune(bad, true), () => repo.planPrune(bad)]) {
      const error = await rejectsWith(call(), 'ERR_INVALID_POLICY');
      assert.match(error.message, /[^.]$/);
    }
  }
  assert.equal(treeHash(path), before);
  assert.deepEqual(ids(await repo.listSnapshots()).sort(), ids(snapshots).sort());
});

test('unknown options and options of a wrong type are refused, and nothing is removed', async (t) => {
  const { repo, path } = await daily(t, PLAIN, 2);
  const before = treeHash(path);
  const bad = [
    null, 1, 'true', [], { dryrun: true }, { dryRun: 'true' }, { dryRun: 1 }, { dryRun: null }, { force: 1 }, { wait: 'yes' },
    { maxUnused: NaN }, { maxUnused: -0.1 }, { maxUnused: 1.1 }, { maxUnused: '5%' }, { filter: null }, { filter: { after: '2026-01-01' } },
    { filter: { tags: { a: 1 } } }, { filter: { tags: [] } }, { filter: { tag: {} } }, { signal: {} }, { onProgress: 1 }, { keepLast: 1 },
    // none of these may be treated as "no options": the caller intended a dry run
    Promise.resolve({ dryRun: true }), new Map([['dryRun', true]]), new Set(), new Date(), new Boolean(true), new Policy(),
    Object.create({ dryRun: true }), { filter: new Map([['tags', {}]]) }, { filter: Promise.resolve({}) },
    Object.defineProperty({}, 'dryrun', { value: true }), { get maxUnused() { throw new Error('later'); } }, { signal: { aborted: false, addEventListener() {}, removeEventListener() {} } },
  ];
  for (const options of bad) await rejectsWith(repo.prune({ keepLast: 1 }, options), 'ERR_INVALID_ARGUMENT');
  for (const options of [...bad, true, { dryRun: true }, { wait: true }]) {
    await rejectsWith(repo.planPrune({ keepLast: 1 }, options), 'ERR_INVALID_ARGUMENT');
  }
  for (const wrong of [undefined, null, 'latest', ['latest'], [undefined], [, ], ['0123'], ['A'.repeat(32)], ['0'.repeat(33)], [1]]) {
    await rejectsWith(repo.forget(wrong), 'ERR_INVALID_ARGUMENT');
  }
  assert.equal(treeHash(path), before);
});

for (const kind of [PLAIN, ENCRYPTED]) {
  test(`${kind.name}: a prune does what its dry run reports, and what is kept can be restored byte for byte`, async (t) => {
    const { repo, path, snapshots } = await daily(t, kind, 12);
    const policy = { keepLast: 1, keepWeeks: 3 };
    const before = treeHash(path);
    const sizeBefore = size(path);
    const plan = await repo.planPrune(policy);
    assert.deepEqual(await repo.prune(policy, true), plan);
    assert.deepEqual(await repo.prune(policy, { dryRun: true }), plan);
    assert.equal(treeHash(path), before);

    const result = await repo.prune(policy, { onProgress: () => {} });
    assert.deepEqual(result, { ...plan, dryRun: false });
    // 1 January 2026 is a Thursday: 12 is a Monday, 11 and 4 are Sundays
    const stays = [11, 10, 3].map((n) => snapshots[n].id);
    assert.deepEqual(ids(result.keep), stays);
    const reasons = result.keep.map((choice) => choice.reasons);
    assert.deepEqual(reasons, [['newest', 'keepLast 1/1', 'keepWeeks 1/3'], ['keepWeeks 2/3'], ['keepWeeks 3/3']]);
    assert.deepEqual(ids(result.remove), ids(snapshots.toReversed()).filter((id) => !stays.includes(id)));
    assert.equal(result.removedSnapshots, result.remove.length);
    assert.deepEqual([result.timeZone, result.warnings, result.pendingBytes], ['UTC', [], 0]);
    assert.deepEqual(result.unprotectedPacks, []);
    assert.ok(result.removedPacks > 0 && result.freedBytes > 0);
    // besides the chunks, their entries and the padding are deleted
    const shrunk = sizeBefore - size(path);
    assert.ok(shrunk >= result.freedBytes && shrunk < result.freedBytes * 1.25, `${shrunk} ${result.freedBytes}`);

    assert.deepEqual(ids(await repo.listSnapshots()), stays);
    for (const { id } of result.remove) await rejectsWith(repo.restore(id), 'ERR_SNAPSHOT_NOT_FOUND');
    for (const id of stays) assertSameBytes(await restored(repo, id), dataOf(snapshots.findIndex((one) => one.id === id)));
    assert.equal((await repo.verify({ level: 'full' })).ok, true);
    const again = await repo.prune(policy);
    assert.deepEqual([again.removedSnapshots, again.remove, again.keep], [0, [], result.keep]);
    // the removed data can be backed up again
    const more = await repo.ingest([dataOf(0)]);
    assertSameBytes(await restored(repo, more.id), dataOf(0));
  });
}

test('the reasons are those of the known answers', async (t) => {
  const cases = JSON.parse(readFileSync(join(root, 'tests/fixtures/vectors/retention.json'), 'utf8'));
  // the time of the prune is now: it affects only the anchor and snapshots in the future
  const fit = cases.filter(({ snapshots, policy, now }) => snapshots?.length < 40 && policy.anchor !== 'now' && snapshots.every(({ createdAt }) => createdAt <= now));
  assert.ok(fit.length >= 12, String(fit.length));
  for (const { name, snapshots, policy, reasons } of fit) {
    const { repo } = await freshRepo(t, PLAIN, { parity: false });
    const names = new Map();
    for (const { id, createdAt, tags } of snapshots) names.set((await repo.ingest([id], { createdAt, tags })).id, id);
    const plan = await repo.planPrune(policy);
    assert.deepEqual(Object.fromEntries(plan.keep.map((choice) => [names.get(choice.id), choice.reasons])), reasons, name);
    assert.equal(plan.timeZone, policy.timeZone ?? 'UTC');
    assert.equal(plan.keep.length + plan.remove.length, snapshots.length);
    for (const { id, createdAt } of [...plan.keep, ...plan.remove]) {
      assert.equal(Date.parse(createdAt), Date.parse(snapshots.find((one) => one.id === names.get(id)).createdAt));
    }
    await repo.close();
  }
});

test('groups are counted separately, and snapshots outside the filter are kept', async (t) => {
  const { repo, snapshots } = await daily(t, PLAIN, 6, (n) => (n === 5 ? {} : { service: n % 2 ? 'db' : 'web' }));
  const grouped = await repo.planPrune({ keepLast: 1, groupBy: ['service'] });
  assert.deepEqual(grouped.keep.map(({ id, group }) => [id, group]), [
    [snapshots[5].id, {}], [snapshots[4].id, { service: 'web' }], [snapshots[3].id, { service: 'db' }],
  ]);
  assert.deepEqual(grouped.warnings, []);
  assert.equal((await repo.planPrune({ keepLast: 1 })).warnings.length, 1);
  const result = await repo.prune({ keepLast: 1 }, { filter: { tags: { service: 'db' } } });
  assert.deepEqual(ids(result.remove), [snapshots[1].id]);
  assert.deepEqual(result.keep.map(({ reasons }) => reasons.join()), ['filter', 'filter', 'newest,keepLast 1/1', 'filter', 'filter']);
  assert.deepEqual(ids(await repo.listSnapshots()), [5, 4, 3, 2, 0].map((n) => snapshots[n].id));
});

test('a snapshot dated in the future displaces no other one', async (t) => {
  const { repo } = await freshRepo(t);
  const real = await repo.ingest(['real']);
  const ahead = await repo.ingest(['ahead'], { createdAt: new Date(Date.now() + DAY_MS).toISOString() });
  const { keep, remove, warnings } = await repo.prune({ keepLast: 1 });
  assert.deepEqual(keep.map(({ id, reasons }) => [id, reasons]), [[real.id, ['newest', 'keepLast 1/1']], [ahead.id, ['future']]]);
  assert.deepEqual([remove, warnings.length], [[], 1]);
});

test('a forgotten snapshot never comes back, and the next prune frees its space', async (t) => {
  const { repo, path, snapshots } = await daily(t, ENCRYPTED, 4);
  const [first, second] = ids(snapshots);
  const before = treeHash(path);
  const error = await rejectsWith(repo.forget([first, 'ab'.repeat(16)]), 'ERR_SNAPSHOT_NOT_FOUND');
  assert.equal(error.snapshotId, 'ab'.repeat(16));
  assert.equal(treeHash(path), before);
  assert.deepEqual(await repo.forget([]), []);
  assert.equal(treeHash(path), before);

  assert.deepEqual((await repo.forget([second, first, second])).sort(), [first, second].sort());
  await rejectsWith(repo.getSnapshot(first), 'ERR_SNAPSHOT_NOT_FOUND');
  // a call that failed halfway may be repeated
  assert.deepEqual(await repo.forget([first, second]), []);
  assert.equal((await repo.repair()).manifestsRestored, 0);
  const sizeBefore = size(path);
  const result = await repo.prune({ keepLast: 'all' });
  assert.deepEqual([result.removedSnapshots, result.keep.length], [0, 2]);
  assert.ok(result.freedBytes > 0 && size(path) < sizeBefore);
  for (const n of [2, 3]) assertSameBytes(await restored(repo, snapshots[n].id), dataOf(n));
  assert.equal((await repo.verify({ level: 'full' })).ok, true);
});

test('a running ingest is not harmed, delays the deletion of what it may rely on, and is listed by locks()', async (t) => {
  const { repo, path, snapshots } = await daily(t, PLAIN, 4);
  const reader = await reopen(t, path, PLAIN, { readOnly: true });
  let release;
  const held = new Promise((resolve) => { release = resolve; });
  const running = repo.ingest((async function* () {
    yield* pieces(dataOf(0), 64 * KIB);
    await held;
    yield* pieces(dataOf(1), 64 * KIB);
  })());
  await settle();
  let locks = [];
  while (locks.length === 0) locks = await reader.locks();
  assert.deepEqual(locks.map(({ startedAt, session, ...rest }) => rest), [{ held: true, operation: 'ingest' }]);
  const { session } = locks[0];
  assert.match(session, /^[0-9a-f]{32}$/);
  assert.ok(Math.abs(Date.now() - Date.parse(locks[0].startedAt)) < 120_000);

  const delayed = await repo.prune({ keepLast: 2 });
  assert.equal(delayed.removedSnapshots, 2);
  assert.ok(delayed.pendingBytes > 0);
  const waiting = repo.prune({ keepLast: 2 }, { wait: true });
  while (!locks.some(({ operation }) => operation === 'prune')) locks = await reader.locks();
  const hasty = await reopen(t, path, PLAIN, { lockWaitMs: 0 });
  // both are awaited at once: either may reject first
  const calls = [hasty.prune({ keepLast: 2 }), hasty.repair()];
  for (const error of await Promise.all(calls.map((call) => rejectsWith(call, 'ERR_REPO_LOCKED')))) {
    assert.equal(error.retryable, true);
    assert.equal(error.holders.length, 1);
    assert.match(error.holders[0], /^prune since \d{4}-\d\d-\d\dT[\d:.]+Z$/);
  }
  const patient = await reopen(t, path, PLAIN, { lockWaitMs: 600_000 });
  const behind = patient.prune({ keepLast: 3 });
  await settle();
  release();
  assert.equal((await behind).removedSnapshots, 0);
  const snapshot = await running;
  assert.equal(snapshot.id, session);
  assert.equal((await waiting).pendingBytes, 0);
  assertSameBytes(await restored(repo, snapshot.id), Buffer.concat([dataOf(0), dataOf(1)]));
  assertSameBytes(await restored(repo, snapshots[3].id), dataOf(3));
  assert.equal((await repo.verify({ level: 'full' })).ok, true);
  assert.deepEqual(await repo.locks(), []);
});

test('locks() lists leases of sessions that have exited, and damaged ones', async (t) => {
  const { repo, path } = await freshRepo(t);
  const session = 'ab'.repeat(16);
  writeFileSync(join(path, 'locks', `${session}.json`), '{}');
  assert.deepEqual(await repo.locks(), [{ session, held: false, operation: null, startedAt: null }]);
  await repo.unlock();
  assert.deepEqual(await repo.locks(), []);
});

test('a restore that runs while its snapshot is pruned returns all the right bytes or an error', async (t) => {
  const { repo, snapshots } = await daily(t, PLAIN, 3);
  const stream = await repo.restore(snapshots[0].id);
  await repo.prune({ keepLast: 1 });
  const bytes = await collect(stream).catch((error) => error);
  if (bytes instanceof Error) assert.match(bytes.code, /^ERR_(PACK|CHUNK)_MISSING$/);
  else assertSameBytes(bytes, dataOf(0));
});

test('progress and completion are reported, and nothing afterwards', async (t) => {
  const { repo } = await daily(t, PLAIN, 6);
  const [told, events] = [[], []];
  repo.on('prune:progress', (progress) => events.push(progress));
  repo.on('prune:complete', (value) => events.push(value));
  const result = await repo.prune({ keepLast: 2 }, { onProgress: (progress) => told.push(progress) });
  const complete = events.at(-1);
  assert.deepEqual(told, events.slice(0, -1));
  const last = told.at(-1);
  assert.deepEqual([last.operation, last.percentage], ['prune', 100]);
  assert.ok(last.message && last.elapsedMs >= 0);
  for (const progress of told) assert.equal(progress.operationId, last.operationId);
  const { keep, remove, timeZone, warnings, unprotectedPacks, ...figures } = result;
  assert.deepEqual(complete, { operationId: last.operationId, ...figures });
  const count = events.length;
  await settle();
  assert.equal(events.length, count);
  await repo.planPrune({ keepLast: 1 });
  assert.deepEqual([events.at(-1).dryRun, events.at(-1).removedSnapshots], [true, 1]);
});

test('a signal ends a prune with its reason, and the next prune finishes it', async (t) => {
  const { repo, snapshots } = await daily(t, PLAIN, 6);
  const reason = new Error('enough');
  await assert.rejects(repo.prune({ keepLast: 1 }, { signal: AbortSignal.abort(reason) }), reason);
  assert.equal((await repo.listSnapshots()).length, 6);
  const controller = new AbortController();
  const running = repo.prune({ keepLast: 1 }, { signal: controller.signal });
  controller.abort(reason);
  // the prune may have ended before the abort
  await running.catch((error) => assert.equal(error, reason));
  await repo.prune({ keepLast: 1 });
  assert.deepEqual(ids(await repo.listSnapshots()), [snapshots[5].id]);
  assertSameBytes(await restored(repo, snapshots[5].id), dataOf(5));
  const { ok, notes } = await repo.verify({ level: 'full' });
  assert.deepEqual([ok, notes], [true, []]);
});

test('closed and read-only handles refuse to prune', async (t) => {
  const { repo, path, snapshots } = await daily(t, PLAIN, 2);
  const reader = await reopen(t, path, PLAIN, { readOnly: true });
  const before = treeHash(path);
  await rejectsWith(reader.prune({ keepLast: 1 }), 'ERR_READ_ONLY');
  await rejectsWith(reader.forget([snapshots[0].id]), 'ERR_READ_ONLY');
  assert.equal((await reader.planPrune({ keepLast: 1 })).removedSnapshots, 1);
  assert.equal(treeHash(path), before);
  await repo.close();
  const calls = [(handle) => handle.prune({ keepLast: 1 }), (handle) => handle.planPrune({ keepLast: 1 }), (handle) => handle.forget([]), (handle) => handle.locks()];
  for (const call of calls) await rejectsWith(call(repo), 'ERR_CLOSED');
});

test('latest(), the first of a listing and the newest of a plan are the same snapshot, also after a wrong clock', async (t) => {
  const { repo } = await freshRepo(t);
  const warnings = [];
  repo.on('warning', ({ code }) => warnings.push(code));
  const newest = async () => {
    const { keep } = await repo.planPrune({ keepLast: 1 });
    const [{ id }] = keep.filter(({ reasons }) => reasons.includes('newest'));
    assert.equal((await repo.latest()).id, id);
    assert.equal((await repo.getSnapshot('latest')).id, id);
    assert.equal((await repo.listSnapshots())[0].id, id);
    return id;
  };
  const years = (n) => new Date(Date.now() + n * 365 * DAY_MS).toISOString();
  const ahead = [await repo.ingest(Buffer.from('a'), { createdAt: years(10) }), await repo.ingest(Buffer.from('b'), { createdAt: years(9) })];
  assert.equal(await newest(), ahead[0].id);
  await settle();
  assert.deepEqual(warnings, ['WARN_FUTURE_SNAPSHOTS', 'WARN_FUTURE_SNAPSHOTS']);
  // eight of one millisecond
  let last;
  for (let n = 0; n < 8; n++) {
    last = await repo.ingest(Buffer.from(String(n)), { createdAt: day(1) });
    assert.equal(await newest(), last.id);
  }
  assert.deepEqual(ids(await repo.listSnapshots()).slice(-2), ids(ahead));
  const { keep, remove } = await repo.prune({ keepLast: 1 });
  assert.deepEqual(ids(keep), [last.id, ...ids(ahead)]);
  assert.equal(remove.length, 7);
});
