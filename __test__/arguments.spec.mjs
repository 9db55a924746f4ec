// Arguments: unknown keys and wrong types are refused by name, before anything is done.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { CHEAP_KDF, ContainerArchive, ContainerArchiveError, freshRepo, rejectsWith, root, settle, temporary, test } from './support/harness.mjs';

const NOT_OBJECTS = [null, 7, 'text', true, [], () => {}];

test('init refuses unknown options and wrong values, and creates nothing', async (t) => {
  const path = join(temporary(t), 'repo');
  const refused = [
    { passPhrase: 'x' }, { keepLast: 1 }, { compresion: 'gzip' }, { passphrase: '' }, { passphrase: Buffer.alloc(0) },
    { passphrase: 7 }, { passphrase: null }, { passphrase: '\ud800' }, { key: Buffer.alloc(31) }, { key: 'k'.repeat(32) },
    { passphrase: 'x', key: Buffer.alloc(32) }, { compression: 'lzma' }, { compression: 'toString' }, { compression: null },
    { compression: {} }, { compression: { algorithm: 'gzip', level: 0 } }, { compression: { algorithm: 'gzip', level: 10 } },
    { compression: { algorithm: 'zstd', level: 20 } }, { compression: { algorithm: 'zstd', level: 3.5 } },
    { compression: { algorithm: 'gzip', levle: 3 } }, { chunking: 5 }, { chunking: { min: '1' } }, { chunking: { avg: NaN } },
    { chunking: { max: -1 } }, { chunking: { middle: 5 } }, { chunking: { min: 1024, avg: 512, max: 2048 } },
    { chunking: { min: 64, avg: 256, max: 2 ** 40 } }, { packSize: 1024 }, { packSize: 2 ** 31 }, { packSize: '8M' },
    { parity: true }, { parity: null }, { parity: {} }, { parity: { data: 20 } }, { parity: { data: 0, parity: 1 } },
    { parity: { data: 1.5, parity: 1 } }, { parity: { data: 255, parity: 255 } }, { kdf: { memory: 0 } }, { kdf: { time: '2' } },
    { kdf: { rounds: 3 } }, { passphrase: 'x', kdf: { memory: 8192, time: 1, lanes: 1 } },
    { passphrase: 'x', kdf: { memory: 2 ** 40 } }, { threads: 0 }, { threads: -1 }, { threads: 1.5 }, { threads: Infinity },
    { memoryLimit: 'big' }, { lockWaitMs: -5 }, { readOnly: 'yes' }, { verifyWrites: 1 },
  ];
  for (const options of [...NOT_OBJECTS, ...refused]) {
    const error = await rejectsWith(ContainerArchive.init(path, options), 'ERR_INVALID_ARGUMENT');
    assert.ok(!existsSync(path), `${JSON.stringify(options)} made a folder`);
    assert.ok(!error.message.includes('\ud800'));
  }
  const unknown = await rejectsWith(ContainerArchive.init(path, { compresion: 'gzip' }), 'ERR_INVALID_ARGUMENT');
  assert.match(unknown.message, /compresion/);
  assert.match(unknown.hint, /compression/);
  assert.match(unknown.stack, /arguments\.spec/);
});

test('open refuses options that only init takes', async (t) => {
  const { path } = await freshRepo(t);
  for (const options of [{ compression: 'gzip' }, { chunking: {} }, { packSize: 2 ** 20 }, { parity: false }, { kdf: CHEAP_KDF }, ...NOT_OBJECTS]) {
    await rejectsWith(ContainerArchive.open(path, options), 'ERR_INVALID_ARGUMENT');
  }
});

test('a path must be a usable string', async () => {
  for (const path of ['', 'a\0b', '\ud800', 7, null, undefined, {}, new URL('file:///tmp/x')]) {
    await rejectsWith(ContainerArchive.init(path), 'ERR_INVALID_ARGUMENT');
    await rejectsWith(ContainerArchive.open(path), 'ERR_INVALID_ARGUMENT');
  }
});

test('ingest and ingestMulti refuse unknown options and wrong values', async (t) => {
  const { repo } = await freshRepo(t);
  const refused = [
    { tag: {} }, { tags: [] }, { tags: new Map() }, { tags: { a: 1 } }, { tags: { a: null } }, { tags: 'x' }, { createdAt: 'yesterday' },
    { createdAt: '2026-02-30' }, { createdAt: '2026-13-01' }, { createdAt: '2026-01-01T00:00:00' }, { createdAt: 0 },
    { createdAt: new Date(NaN) }, { compression: 'brotli' }, { digest: 'md5' }, { signal: {} }, { signal: null }, { onProgress: {} },
  ];
  for (const options of [...NOT_OBJECTS, ...refused]) {
    await rejectsWith(repo.ingest([], options), 'ERR_INVALID_ARGUMENT');
    await rejectsWith(repo.ingestMulti([{ name: 'a', type: 'x', stream: [] }], options), 'ERR_INVALID_ARGUMENT');
  }
  const item = { name: 'a', type: 'x' };
  for (const items of [{}, 'a', [], [item, item], [{}], [{ name: 'a', type: '' }], [{ type: 'x' }], [{ ...item, stream: [] }], [null], [7]]) {
    await rejectsWith(repo.ingest([], { items }), 'ERR_INVALID_ARGUMENT');
  }
  for (const items of [undefined, null, {}, 'a', [], [item], [{ stream: [] }], [{ ...item, stream: [], size: 3 }], [null], [7]]) {
    await rejectsWith(repo.ingestMulti(items), 'ERR_INVALID_ARGUMENT');
  }
  await rejectsWith(repo.ingestMulti([{ ...item, stream: [] }], { items: [item] }), 'ERR_INVALID_ARGUMENT');
  assert.deepEqual(await repo.listSnapshots(), []);
});

test('listSnapshots and restore refuse unknown options and wrong values', async (t) => {
  const { repo } = await freshRepo(t);
  const { id } = await repo.ingest([Buffer.from('x')]);
  for (const filter of [...NOT_OBJECTS, { tag: {} }, { tags: { a: 1 } }, { after: 'x' }, { before: 7 }, { after: new Date('x') }, { since: '2020-01-01' }]) {
    await rejectsWith(repo.listSnapshots(filter), 'ERR_INVALID_ARGUMENT');
  }
  for (const limit of [0, -1, 1.5, '1', null, Infinity]) await rejectsWith(repo.listSnapshots({ limit }), 'ERR_INVALID_ARGUMENT');
  await rejectsWith(repo.latest({ limit: 1 }), 'ERR_INVALID_ARGUMENT');
  const refused = [{ items: 'a' }, { item: 7 }, { item: '' }, { item: null }, { range: 5 }, { range: [0, 1] }, { range: { from: 1 } },
    { range: { start: -1 } }, { range: { start: 0.5 } }, { range: { end: NaN } }, { range: { end: '5' } }, { range: { start: 2 ** 60 } }, { signal: 1 }];
  for (const options of [...NOT_OBJECTS, ...refused]) await rejectsWith(repo.restore(id, options), 'ERR_INVALID_ARGUMENT');
});

/** Options that throw `thing` when they are read. */
const throwing = (name, thing) => Object.defineProperty({}, name, { enumerable: true, get() { throw thing; } });

test('an option that throws when it is read is refused, with what it threw as cause', async (t) => {
  const { repo, path } = await freshRepo(t);
  const item = { name: 'a', type: 'x', stream: [] };
  const things = [new Error('boom'), Object.create(null), Symbol('x'), Object.assign(new Error('x'), { code: 'ERR_CLOSED' }),
    new ContainerArchiveError('x', { code: 'ERR_REPO_LOCKED', retryable: true })];
  for (const thing of things) {
    const list = new Proxy([item], { get() { throw thing; } });
    const plain = new Proxy({}, { getPrototypeOf() { throw thing; } });
    const calls = [
      () => ContainerArchive.init(path, throwing('passphrase', thing)), () => ContainerArchive.open(path, plain),
      () => ContainerArchive.openOrInit(path, { compression: throwing('algorithm', thing) }),
      () => repo.ingest([], throwing('tags', thing)), () => repo.ingest([], { tags: throwing('key', thing) }), () => repo.ingest([], { tags: plain }),
      () => repo.ingest([], { items: list }), () => repo.ingest([], { items: [throwing('name', thing)] }), () => repo.ingest([], plain),
      () => repo.ingest([], throwing('commitWhen', thing)), () => repo.ingestMulti(list), () => repo.ingestMulti([throwing('stream', thing)]),
      () => repo.ingestCommand(list), () => repo.ingestCommand({ name: 'a', command: list }),
      () => repo.ingestCommand({ name: 'a', command: ['b'], env: throwing('PATH', thing) }),
      () => repo.restore('latest', throwing('item', thing)), () => repo.restore('latest', { range: plain }),
      () => repo.listSnapshots(throwing('tags', thing)), () => repo.verify(throwing('level', thing)), () => repo.forget(list),
      () => repo.prune({ keepLast: 1 }, throwing('dryRun', thing)), () => repo.keys.add(throwing('passphrase', thing)),
      () => repo.stats({ signal: throwing('aborted', thing) }), () => repo.report(throwing('policy', thing)),
    ];
    for (const call of calls) {
      const error = await rejectsWith(call(), 'ERR_INVALID_ARGUMENT');
      assert.ok(Object.is(error.cause, thing), call.toString());
    }
    for (const policy of [throwing('keepLast', thing), plain, { keepIds: list }, { keepTags: [throwing('a', thing)] }]) {
      assert.ok(Object.is((await rejectsWith(repo.prune(policy), 'ERR_INVALID_POLICY')).cause, thing));
    }
  }
  const { proxy, revoke } = Proxy.revocable([], {});
  revoke();
  for (const call of [() => repo.ingest([], proxy), () => repo.ingestMulti(proxy), () => repo.forget(proxy), () => repo.verify({ level: proxy }),
    () => ContainerArchive.open(proxy), () => ContainerArchive.init(path, { compression: { algorithm: proxy } }),
    () => ContainerArchive.init(path, { compression: { algorithm: Object.create(null) } })]) {
    await rejectsWith(call(), 'ERR_INVALID_ARGUMENT');
  }
  assert.deepEqual(await repo.listSnapshots(), []);
});

test('a function that returns a passphrase may throw anything', async (t) => {
  const path = join(temporary(t), 'repo');
  for (const thing of [new Error('boom'), Object.create(null), Symbol('x'), null, Object.assign(new Error('x'), { code: 'ERR_CLOSED' })]) {
    for (const passphrase of [() => { throw thing; }, async () => { throw thing; }, () => ({ get then() { throw thing; } })]) {
      const error = await rejectsWith(ContainerArchive.init(path, { passphrase }), 'ERR_PASSPHRASE_REQUIRED');
      assert.ok(Object.is(error.cause, thing));
    }
  }
  assert.ok(!existsSync(path));
});

test('a signal of another library is obeyed, and one that fails ends the call', async (t) => {
  const { repo } = await freshRepo(t);
  const boom = new Error('boom');
  const never = () => (async function* () { yield 'x'; await new Promise(() => {}); })();
  /** The members of an AbortSignal, some of them replaced. */
  const signal = (members) => ({ aborted: false, reason: undefined, throwIfAborted() {}, addEventListener() {}, removeEventListener() {}, ...members });
  let abort;
  const obeyed = repo.ingest(never(), { signal: signal({ reason: boom, addEventListener: (_, listener) => { abort = listener; } }) });
  abort();
  await assert.rejects(obeyed, (error) => error === boom);

  const deaf = signal({ addEventListener() { throw boom; } });
  for (const call of [() => repo.ingest(never(), { signal: deaf }), () => repo.verify({ signal: deaf }), () => repo.restoreToFile('latest', { path: '/x', signal: deaf })]) {
    assert.equal((await rejectsWith(call(), 'ERR_INVALID_ARGUMENT')).cause, boom);
  }
  let later;
  const mute = { ...signal({}), addEventListener: (_, listener) => { later = listener; } };
  const silent = repo.ingest(never(), { signal: Object.defineProperty(mute, 'reason', { get() { throw boom; } }) });
  later();
  assert.equal((await rejectsWith(silent, 'ERR_INVALID_ARGUMENT')).cause, boom);
  const { id } = await repo.ingest(['x'], { signal: signal({ removeEventListener() { throw boom; } }) });
  assert.deepEqual((await repo.listSnapshots()).map((snapshot) => snapshot.id), [id]);
  await settle();
});

test('a relative path in a deleted working directory is refused', (t) => {
  const program = `
    const { ContainerArchive } = require(${JSON.stringify(join(root, 'index.js'))});
    process.chdir(process.argv[1]);
    require('node:fs').rmdirSync(process.argv[1]);
    ContainerArchive.open('repo').catch((error) => console.log(error.code, error.cause.code));`;
  const cwd = join(temporary(t), 'gone');
  mkdirSync(cwd);
  assert.equal(execFileSync(process.execPath, ['-e', program, cwd], { encoding: 'utf8' }), 'ERR_INVALID_ARGUMENT ENOENT\n');
}, { skip: process.platform === 'win32' && 'a working directory cannot be deleted there' });

test('the constructor refuses to be called, and errors are of one class', async () => {
  assert.throws(() => new ContainerArchive('/tmp/x'), { code: 'ERR_INVALID_ARGUMENT' });
  const cause = new Error('why');
  const error = new ContainerArchiveError('what', { code: 'ERR_STORAGE', cause, path: '/x', retryable: true });
  assert.ok(error instanceof Error);
  assert.deepEqual([error.name, error.message, error.code, error.cause, error.path, error.retryable], ['ContainerArchiveError', 'what', 'ERR_STORAGE', cause, '/x', true]);
  assert.ok(!('pack' in error));
});

test('an error about wrong arguments is a TypeError by name, and of the class of the package', async (t) => {
  const { repo } = await freshRepo(t);
  const refused = [
    ['ERR_INVALID_ARGUMENT', () => repo.verify({ levle: 'full' })],
    // by the engine
    ['ERR_INVALID_ARGUMENT', () => ContainerArchive.init(join(temporary(t), 'repo'), { chunking: { min: 1024, avg: 512, max: 2048 } })],
    ['ERR_INVALID_POLICY', () => repo.prune({ keepDay: 7 })],
    ['ERR_INVALID_POLICY', () => repo.prune({ keepWithin: 'a week' })],
  ];
  for (const [code, call] of refused) {
    const error = await rejectsWith(call(), code);
    assert.equal(error.name, 'TypeError');
    assert.ok(error.stack.startsWith(`TypeError: ${error.message}\n`), error.stack);
    assert.ok(!Object.keys(error).includes('name'));
  }
  const other = await rejectsWith(repo.getSnapshot('0000'), 'ERR_SNAPSHOT_NOT_FOUND');
  assert.equal(other.name, 'ContainerArchiveError');
  assert.ok(other.stack.startsWith(`ContainerArchiveError: ${other.message}\n`), other.stack);
});
