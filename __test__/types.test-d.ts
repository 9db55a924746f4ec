// The types from the view of a user's program. Compiled by `npm run lint`, never run.

import { createReadStream } from 'node:fs';
import { Readable } from 'node:stream';
import * as rx from 'rxjs';
import { ContainerArchive, ContainerArchiveError } from '@serve.zone/containerarchive';
import type {
  Compression, IContainerArchiveEvents, IIngestCommand, IIngestComplete, IIngestItem, IIngestProgress, IInitOptions, IKey, ILock, IOpenOptions, IPruneResult, IRepairResult, IStats,
  IRestoredFile, IRetentionPolicy, ISnapshot, ISnapshotItem, IVerifyError, IVerifyResult, Subscription,
} from '@serve.zone/containerarchive';

/** Fails to compile unless A and B are the same type. */
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : never;
function same<A, B>(_same: Same<A, B>): void {}

export async function calls(): Promise<void> {
  const keyless: IOpenOptions = { keyless: true };
  // @ts-expect-error only an existing repository can be opened without its keys
  const never: IInitOptions = { keyless: true };
  void [keyless, never];
  const opening: IOpenOptions = { passphrase: 'x', readOnly: true, threads: 2, memoryLimit: 1, lockWaitMs: 1, verifyWrites: false };
  const initial: IInitOptions = {
    ...opening,
    passphrase: Buffer.from('x'),
    compression: { algorithm: 'zstd', level: 3 },
    chunking: { min: 1, avg: 2, max: 3 },
    packSize: 1,
    parity: false,
    kdf: { memory: 65536, time: 3, lanes: 4 },
  };
  const compression: Compression = 'gzip';
  await ContainerArchive.init('/x');
  const repo = await ContainerArchive.init('/x', initial);
  same<typeof repo, ContainerArchive>(true);
  await ContainerArchive.open('/x', { key: new Uint8Array(32) });
  same<Awaited<ReturnType<typeof ContainerArchive.openOrInit>>, ContainerArchive>(true);
  await ContainerArchive.openOrInit('/x', initial);

  const snapshot = await repo.ingest(createReadStream('/x'), {
    tags: { a: 'b' },
    items: [{ name: 'data', type: 'data' }],
    createdAt: new Date().toISOString(),
    compression,
    digest: 'sha256',
    expectedSize: 3,
    commitWhen: Promise.resolve(1),
    signal: AbortSignal.timeout(1000),
    onProgress: (progress) => same<typeof progress, IIngestProgress>(true),
  });
  same<typeof snapshot, ISnapshot>(true);
  same<(typeof snapshot.items)[number], ISnapshotItem>(true);
  same<typeof snapshot.createdAt, string>(true);
  same<typeof snapshot.originalSize, number>(true);
  same<typeof snapshot.tags, Record<string, string>>(true);

  // Every kind of source.
  await repo.ingest(Readable.from(['x']));
  await repo.ingest(process.stdin);
  await repo.ingest(Readable.toWeb(createReadStream('/x')));
  await repo.ingest(new ReadableStream<Uint8Array>());
  await repo.ingest(new Response('x').body!);
  await repo.ingest(new Blob(['x']));
  await repo.ingest(Buffer.from('x'));
  await repo.ingest(new Uint8Array(1));
  await repo.ingest({ path: '/x' });
  await repo.ingest({ fd: 3 });
  await repo.ingest([Buffer.from('x'), 'y']);
  await repo.ingest((function* () { yield new Uint8Array(1); })());
  await repo.ingest((async function* () { yield 'x'; yield Buffer.from('y'); })());
  const items: IIngestItem[] = [{ stream: Readable.from([]), name: 'a', type: 'b', expectedSize: 0 }];
  await repo.ingestMulti([{ name: 'a', stream: Buffer.from('') }]);
  await repo.ingest(Buffer.from(''), { items: [{ name: 'a' }] });
  await repo.ingestMulti(items, { tags: {}, commitWhen: async () => {}, concurrency: 2 });
  const command: IIngestCommand = { command: ['pg_dump', 'x'], name: 'a', type: 'b', timeoutMs: 1, okExitCodes: [0, 1], refuseEmpty: true, cwd: '/', env: process.env, expectedSize: 1 };
  same<Awaited<ReturnType<typeof repo.ingestCommand>>, ISnapshot>(true);
  await repo.ingestCommand(command, { tags: {}, signal: AbortSignal.timeout(1) });
  await repo.ingestCommand([command, { command: ['x'], name: 'b' }]);

  const stream = await repo.restore(snapshot.id, { item: 'data', range: { start: 1, end: 2 }, signal: new AbortController().signal });
  same<typeof stream, Readable>(true);
  stream.pipe(process.stdout);
  const restored = await repo.restoreToFile('latest', {
    item: 'data', path: '/x', overwrite: true, signal: AbortSignal.timeout(1000), onProgress: ({ percentage }) => void percentage,
  });
  same<typeof restored, IRestoredFile>(true);
  repo.on('restore:progress', ({ bytesDone }) => same<typeof bytesDone, number>(true));
  same<Awaited<ReturnType<typeof repo.listSnapshots>>, ISnapshot[]>(true);
  await repo.listSnapshots({ tags: { a: 'b' }, after: '2026-01-01', before: '2027-01-01' });
  await repo.listSnapshots({ after: new Date(), limit: 5 });
  await repo.ingest(Buffer.from(''), { createdAt: new Date() });
  await repo.getSnapshot('latest');
  same<Awaited<ReturnType<typeof repo.latest>>, ISnapshot | null>(true);
  await repo.latest({ tags: { a: 'b' } });

  const stats: IStats = await repo.stats({ signal: AbortSignal.timeout(1) });
  void [stats.bytes.parity, stats.parity?.ratio, stats.dedupRatio];
  same<Awaited<ReturnType<typeof repo.report>>, string>(true);
  await repo.report({ policy: { keepDays: 7, timeZone: 'UTC' }, signal: AbortSignal.timeout(1) });
  const result = await repo.verify({ level: 'full', subset: '1/30', onProgress: ({ percentage }) => void percentage });
  same<typeof result, IVerifyResult>(true);
  const damage: IVerifyError[] = result.errors;
  void [result.ok, result.stats.packsChecked, damage[0]?.healable, result.notes];
  repo.on('verify:error', ({ pack, chunk, error }) => void [pack, chunk, error]);

  const repaired = await repo.repair({ signal: AbortSignal.timeout(1000), onProgress: ({ bytesDone }) => void bytesDone });
  same<typeof repaired, IRepairResult>(true);
  same<(typeof repaired.damagedSnapshots)[number]['items'][number]['missing'], [start: number, end: number][]>(true);
  repo.on('repair:progress', ({ percentage }) => same<typeof percentage, number | null>(true));
  const policy: IRetentionPolicy = {
    keepLast: 3, keepHours: 'all', keepDays: 7, keepWeeks: 5, keepMonths: 12, keepYears: 0, keepWithin: '36h', keepTags: [{ release: '*' }],
    keepIds: [snapshot.id], groupBy: ['service'], timeZone: 'Europe/Berlin', dayStartsAt: '06:00', anchor: 'now',
  };
  const pruned = await repo.prune(policy, true);
  same<typeof pruned, IPruneResult>(true);
  same<typeof pruned.removedSnapshots, number>(true);
  await repo.prune({ keepLast: 5, keepDays: 30, keepWeeks: 12, keepMonths: 6 });
  await repo.prune(policy, { dryRun: false, maxUnused: 0.1, force: true, wait: true, filter: { tags: { a: 'b' } }, signal: AbortSignal.timeout(1) });
  const plan = await repo.planPrune(policy, { filter: { tags: {} }, maxUnused: 0, onProgress: ({ bytesDone }) => void bytesDone });
  same<typeof plan, IPruneResult>(true);
  for (const { id, createdAt, group, reasons } of plan.keep) void [id, createdAt, group.service, reasons[0]?.length];
  same<Awaited<ReturnType<typeof repo.forget>>, string[]>(true);
  await repo.forget(plan.remove.map(({ id }) => id));
  same<Awaited<ReturnType<typeof repo.locks>>, ILock[]>(true);
  repo.on('prune:progress', ({ percentage }) => same<typeof percentage, number | null>(true));
  repo.on('prune:complete', ({ freedBytes, dryRun }) => same<[typeof freedBytes, typeof dryRun], [number, boolean]>(true));
  await repo.reindex({ signal: AbortSignal.timeout(1000) });
  await repo.unlock({ force: true });

  const keys = await repo.keys.list();
  same<typeof keys, IKey[]>(true);
  same<(typeof keys)[number]['kdf'], { memory: number; time: number; lanes: number } | null>(true);
  const added: IKey = await repo.keys.add({ passphrase: async () => Buffer.from('x'), kdf: { memory: 65536 }, label: 'laptop' });
  await repo.keys.add({ key: new Uint8Array(32) });
  await repo.keys.change({ id: added.id, passphrase: () => 'y' });
  await repo.keys.remove(added.id);
  await ContainerArchive.open('/x', { key: async () => new Uint8Array(32) });

  const subscription = repo.on('ingest:progress', ({ percentage }) => same<typeof percentage, number | null>(true));
  same<typeof subscription, Subscription>(true);
  const all = new rx.Subscription();
  all.add(subscription);
  const completed: rx.Observable<IIngestComplete> = rx.fromEvent<IIngestComplete>(repo, 'ingest:complete');
  all.add(completed.subscribe(({ snapshotId }) => same<typeof snapshotId, string>(true)));
  repo.on('ingest:complete', ({ snapshotId, newChunks }) => same<[typeof snapshotId, typeof newChunks], [string, number]>(true));
  repo.on('warning', ({ item, exitCode, stderrTail }) => void [item?.length, exitCode?.toFixed(), stderrTail?.length]);
  repo.once('warning', ({ code, message }) => same<[typeof code, typeof message], [string, string]>(true));
  same<keyof IContainerArchiveEvents, 'copy:complete' | 'copy:progress' | 'ingest:complete' | 'ingest:progress' | 'mirror:complete' | 'mirror:progress' | 'prune:complete' | 'prune:progress' | 'repair:complete' | 'repair:healed' | 'repair:progress' | 'restore:complete' | 'restore:progress' | 'verify:error' | 'verify:progress' | 'warning'>(true);
  subscription.unsubscribe();
  const closed: boolean = subscription.closed;
  void closed;
  await repo.close();

  try {
    await using disposed = await ContainerArchive.open('/x');
    using listening = disposed.on('warning', () => {});
    void listening;
  } catch (error) {
    if (error instanceof ContainerArchiveError && error.code === 'ERR_SOURCE_FAILED') {
      same<typeof error.hint, string | undefined>(true);
      same<typeof error.retryable, boolean>(true);
      void [error.cause, error.path, error.snapshotId, error.item, error.pack, error.chunk];
      same<[typeof error.exitCode, typeof error.signal, typeof error.stderrTail], [number | undefined, string | undefined, string | undefined]>(true);
    }
  }
}

export async function mistakes(repo: ContainerArchive): Promise<void> {
  // @ts-expect-error a text is no source
  await repo.ingest('text');
  // @ts-expect-error one item has no concurrency
  await repo.ingest(Buffer.from(''), { concurrency: 2 });
  // @ts-expect-error null is no source
  await repo.ingest(null);
  // @ts-expect-error numbers are no bytes
  await repo.ingest([1, 2, 3]);
  // @ts-expect-error unknown option
  await repo.ingest(Buffer.from(''), { tag: {} });
  // @ts-expect-error tags are strings
  await repo.ingest(Buffer.from(''), { tags: { a: 1 } });
  // @ts-expect-error a name is missing
  await repo.ingestMulti([{ type: 'a', stream: Buffer.from('') }]);
  // @ts-expect-error unknown algorithm
  await ContainerArchive.init('/x', { compression: 'lzma' });
  // @ts-expect-error only init chooses that
  await ContainerArchive.open('/x', { compression: 'gzip' });
  // @ts-expect-error unknown event
  repo.on('ingest:progres', () => {});
  // @ts-expect-error a path is needed
  await repo.restoreToFile('latest', { item: 'data' });
  // @ts-expect-error a key is bytes
  await repo.keys.add({ key: 'x' });
  // @ts-expect-error keys is not to be replaced
  repo.keys = repo.keys;
  // @ts-expect-error the constructor is private
  void new ContainerArchive();
  // @ts-expect-error a policy is needed
  await repo.prune();
  // @ts-expect-error unknown rule
  await repo.prune({ keepDay: 1 });
  // @ts-expect-error a number, or 'all'
  await repo.prune({ keepLast: '1' });
  // @ts-expect-error unknown option
  await repo.prune({ keepLast: 1 }, { dryrun: true });
  // @ts-expect-error a plan is a dry run already
  await repo.planPrune({ keepLast: 1 }, { dryRun: false });
  // @ts-expect-error a list
  await repo.forget('latest');
}
