// Files by path and descriptor, and items that are read concurrently.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { appendFileSync, chmodSync, closeSync, ftruncateSync, openSync, readSync, symlinkSync, unlinkSync, utimesSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  ENCRYPTED, MIB, PLAIN, afterwards, assertSameBytes, freshRepo, pieces, random, rejectsWith, repoFiles, restored, settle, temporary, test,
} from './support/harness.mjs';

const BYTES = random(5 * MIB, 90);
const boom = new Error('boom');
const WINDOWS = process.platform === 'win32';

/** A file with these bytes. */
function fileOf(t, bytes = BYTES) {
  const path = join(temporary(t), 'file');
  writeFileSync(path, bytes);
  return path;
}

/** An open file; closed with the test. */
function opened(t, path, flags = 'r') {
  const fd = openSync(path, flags);
  let open = true;
  const close = () => { if (open) closeSync(fd); open = false; };
  afterwards(t, close);
  return { fd, close };
}

for (const kind of [PLAIN, ENCRYPTED]) {
  test(`${kind.name}: a file by path or descriptor is backed up, byte for byte`, async (t) => {
    const { repo } = await freshRepo(t, kind);
    for (const bytes of [BYTES, Buffer.alloc(0), Buffer.from('x')]) {
      const path = fileOf(t, bytes);
      const { fd } = opened(t, path);
      for (const source of [{ path }, { fd }]) {
        const warnings = [];
        const subscription = repo.on('warning', (warning) => warnings.push(warning));
        const seen = [];
        const { id } = await repo.ingest(source, { digest: 'sha256', onProgress: (p) => seen.push(p) });
        assertSameBytes(await restored(repo, id), bytes);
        for (const { bytesTotal } of seen) assert.equal(bytesTotal, bytes.length);
        await settle();
        assert.deepEqual(warnings, []);
        subscription.unsubscribe();
      }
    }
  });
}

test('a relative path is resolved at the call, links are followed', async (t) => {
  const { repo } = await freshRepo(t);
  const path = fileOf(t);
  const link = join(temporary(t), 'link');
  symlinkSync(path, link);
  assertSameBytes(await restored(repo, (await repo.ingest({ path: link })).id), BYTES);
  const before = process.cwd();
  process.chdir(join(path, '..'));
  const ingest = repo.ingest({ path: 'file' });
  process.chdir(before);
  assertSameBytes(await restored(repo, (await ingest).id), BYTES);
});

test('a descriptor is read from its position at the call, and may be closed after it', async (t) => {
  const { repo } = await freshRepo(t);
  const path = fileOf(t);
  const { fd, close } = opened(t, path);
  readSync(fd, Buffer.alloc(1_000_000));
  const seen = [];
  const { id } = await repo.ingest({ fd }, { onProgress: (p) => seen.push(p.bytesTotal) });
  assertSameBytes(await restored(repo, id), BYTES.subarray(1_000_000));
  if (!WINDOWS) assert.ok(seen.every((total) => total === BYTES.length - 1_000_000));
  if (WINDOWS) return; // there the descriptor is that of Node, and its offset is used
  assert.equal((await repo.ingest({ fd })).originalSize, BYTES.length - 1_000_000, 'its offset was not moved');
  const again = opened(t, path);
  const ingest = repo.ingest({ fd: again.fd });
  again.close();
  close();
  assertSameBytes(await restored(repo, (await ingest).id), BYTES);
});

test('a descriptor that is passed twice, or moved after the call, is read from its position at the call', async (t) => {
  const { repo } = await freshRepo(t);
  const path = fileOf(t);
  for (const concurrency of [1, 2]) {
    const { fd } = opened(t, path);
    const ingest = repo.ingestMulti(['a', 'b'].map((name) => ({ name, type: 'x', stream: { fd } })), { concurrency });
    assert.equal(readSync(fd, Buffer.alloc(1000)), 1000);
    const snapshot = await ingest;
    for (const item of ['a', 'b']) assertSameBytes(await restored(repo, snapshot.id, { item }), BYTES, item);
    const rest = Buffer.alloc(1000);
    readSync(fd, rest);
    assertSameBytes(rest, BYTES.subarray(1000, 2000), 'what the caller reads next');
  }
}, { skip: WINDOWS && 'descriptors cannot be asked for their position there' });

test('a file that cannot be read is a failed source', async (t) => {
  const { repo, path } = await freshRepo(t);
  const missing = join(temporary(t), 'missing');
  const gone = fileOf(t);
  const cases = { [missing]: 'ENOENT', [temporary(t)]: undefined };
  if (!WINDOWS) cases['/dev/zero'] = undefined;
  if (process.getuid?.() > 0) {
    const secret = fileOf(t);
    chmodSync(secret, 0);
    cases[secret] = 'EACCES';
  }
  for (const [file, code] of Object.entries(cases)) {
    const other = new PassThrough();
    const items = [{ name: 'good', type: 'x', stream: { path: gone } }, { name: 'bad', type: 'x', stream: { path: file } }, { name: 'other', type: 'x', stream: other }];
    const error = await rejectsWith(repo.ingestMulti(items), 'ERR_SOURCE_FAILED');
    assert.equal(error.item, 'bad');
    assert.ok(error.cause instanceof Error);
    assert.equal(error.cause.code, code);
    assert.ok(other.destroyed);
  }
  // One that is deleted before its turn.
  const first = new PassThrough();
  const ingest = repo.ingestMulti([{ name: 'first', type: 'x', stream: first }, { name: 'gone', type: 'x', stream: { path: gone } }]);
  await sleep(50);
  unlinkSync(gone);
  first.end('x');
  assert.equal((await rejectsWith(ingest, 'ERR_SOURCE_FAILED')).item, 'gone');
  assert.deepEqual(await repo.listSnapshots(), []);
  assert.deepEqual(repoFiles(path, /^snapshots\//), []);
  assert.equal((await repo.ingest(['x'])).originalSize, 1);
});

test('the path of a pipe is refused without waiting', async (t) => {
  const { repo } = await freshRepo(t);
  const pipe = join(temporary(t), 'pipe');
  execFileSync('mkfifo', [pipe]);
  await rejectsWith(repo.ingest({ path: pipe }), 'ERR_SOURCE_FAILED');
  const { fd } = opened(t, pipe, 'r+');
  const error = await rejectsWith(repo.ingest({ fd }), 'ERR_INVALID_ARGUMENT');
  assert.match(error.hint, /stream/);
}, { skip: WINDOWS && 'no such pipes' });

test('a path that is not a file is refused at the call', async (t) => {
  const { repo } = await freshRepo(t);
  const closed = opened(t, fileOf(t));
  closed.close();
  const bad = [
    ...['', 'a\0b', 7, null, undefined, '\ud800', Buffer.from('/x')].map((path) => ({ path })),
    ...[-1, 1.5, NaN, '3', null, undefined, 2 ** 31].map((fd) => ({ fd })),
    { path: '/x', fd: 3 }, { path: '/x', start: 1 },
  ];
  if (!WINDOWS) bad.push({ fd: closed.fd }, { fd: 2 ** 31 - 1 });
  for (const stream of bad) {
    await rejectsWith(repo.ingest(stream), 'ERR_INVALID_ARGUMENT');
    await rejectsWith(repo.ingestMulti([{ name: 'a', type: 'x', stream }]), 'ERR_INVALID_ARGUMENT');
  }
});

test('a file of another size than expected leaves no snapshot', async (t) => {
  const { repo } = await freshRepo(t);
  const path = fileOf(t);
  const { fd } = opened(t, path);
  for (const expectedSize of [0, BYTES.length - 1, BYTES.length + 1]) {
    await rejectsWith(repo.ingest({ path }, { expectedSize }), 'ERR_SOURCE_FAILED');
    await rejectsWith(repo.ingestMulti([{ name: 'a', type: 'x', stream: { fd }, expectedSize }]), 'ERR_SOURCE_FAILED');
  }
  assert.deepEqual(await repo.listSnapshots(), []);
  assert.equal((await repo.ingest({ path }, { expectedSize: BYTES.length })).originalSize, BYTES.length);
});

const changes = {
  grows: (path) => appendFileSync(path, 'more'),
  shrinks: (path, fd) => ftruncateSync(fd, 10),
  'is written to': (path, fd) => { writeSync(fd, 'x', 0); utimesSync(path, 1, 1); },
};

for (const [what, change] of Object.entries(changes)) {
  test(`a file that ${what} while it is read is reported, and the rest of the call is not affected`, async (t) => {
    const { repo } = await freshRepo(t);
    const path = fileOf(t);
    const writer = opened(t, path, 'r+');
    const reader = opened(t, path);
    const warnings = [];
    repo.on('warning', (warning) => warnings.push(warning));
    // Opened by the call, read after the first item.
    const first = new PassThrough();
    const ingest = repo.ingestMulti([
      { name: 'first', type: 'x', stream: first },
      { name: 'changing', type: 'x', stream: { fd: reader.fd } },
      { name: 'last', type: 'x', stream: ['last'] },
    ]);
    await settle();
    change(path, writer.fd);
    first.end('first');
    const { id } = await ingest;
    await settle();
    assert.deepEqual(warnings.map(({ code }) => code), ['WARN_SOURCE_CHANGED']);
    assert.match(warnings[0].message, /"changing"/);
    assert.equal((await restored(repo, id, { item: 'last' })).toString(), 'last');
  }, { skip: WINDOWS && 'descriptors are read through a stream there' });
}

test('an abort and close() stop reading a file', async (t) => {
  const { repo } = await freshRepo(t, PLAIN, { compression: { algorithm: 'zstd', level: 19 } });
  const path = fileOf(t, random(64 * MIB, 91));
  for (const stream of [{ path }, { fd: opened(t, path).fd }]) {
    const controller = new AbortController();
    setTimeout(() => controller.abort(boom), 100);
    await assert.rejects(repo.ingest(stream, { signal: controller.signal }), (error) => error === boom);
  }
  await assert.rejects(repo.ingest({ path }, { signal: AbortSignal.abort(boom) }), (error) => error === boom);
  assert.deepEqual(await repo.listSnapshots(), []);
  const closed = rejectsWith(repo.ingest({ path }), 'ERR_CLOSED');
  await sleep(50);
  await repo.close();
  await closed;
  await rejectsWith(repo.ingest({ path }), 'ERR_CLOSED');
});

/** Items of every kind, and the bytes that each should restore to. */
function mixedItems(t, count) {
  return Array.from({ length: count }, (_, i) => {
    const bytes = random((i * 617_369) % (2 * MIB), 92 + i);
    const path = fileOf(t, bytes);
    const kinds = [
      () => ({ path }), () => ({ fd: opened(t, path).fd }), () => bytes, () => new Blob([bytes]), () => Readable.from(pieces(bytes, 50_000)),
      () => Readable.toWeb(Readable.from(pieces(bytes, 50_000))), () => (async function* () { for (const p of pieces(bytes, 70_000)) { yield p; await sleep(1); } })(),
    ];
    return { name: `item ${String(i).padStart(3, '0')}`, type: `kind ${i % kinds.length}`, bytes, stream: kinds[i % kinds.length]() };
  });
}

for (const kind of [PLAIN, ENCRYPTED]) {
  for (const concurrency of [1, 2, 5, 16]) {
    test(`${kind.name}: items of every kind, ${concurrency} at once, are in the order given with their bytes`, async (t) => {
      const { repo } = await freshRepo(t, kind, { chunking: { min: 4096, avg: 16384, max: 65536 } });
      const items = mixedItems(t, 28);
      const snapshot = await repo.ingestMulti(items.map(({ bytes, ...item }) => ({ ...item, expectedSize: bytes.length })), { concurrency, digest: 'sha256' });
      assert.deepEqual(snapshot.items.map(({ name, type, size }) => ({ name, type, size })),
        items.map(({ name, type, bytes }) => ({ name, type, size: bytes.length })));
      assertSameBytes(await restored(repo, snapshot.id), Buffer.concat(items.map(({ bytes }) => bytes)));
      for (const { name, bytes } of items.slice(0, 5)) assertSameBytes(await restored(repo, snapshot.id, { item: name }), bytes);
      assert.deepEqual((await repo.verify({ level: 'full' })).errors, []);
    });
  }
}

test('slow sources are read concurrently with `concurrency`, otherwise one after the other', async (t) => {
  const { repo } = await freshRepo(t);
  for (const [concurrency, most] of [[undefined, 1], [1, 1], [2, 2], [3, 3], [16, 4]]) {
    let now = 0;
    let peak = 0;
    const slow = async function* () {
      peak = Math.max(peak, ++now);
      for (let i = 0; i < 3; i++) { yield 'x'; await sleep(5); }
      now--;
    };
    const items = [0, 1, 2, 3].map((i) => ({ name: `${i}`, type: 'x', stream: slow() }));
    await repo.ingestMulti(items, concurrency === undefined ? {} : { concurrency });
    assert.equal(peak, most, `concurrency ${concurrency}`);
  }
  // A source may wait for another one of the same ingest.
  let give;
  const waits = (async function* () { yield await new Promise((resolve) => { give = resolve; }); })();
  const gives = (async function* () { yield 'y'; give('x'); })();
  await repo.ingestMulti([{ name: 'waits', type: 'x', stream: waits }, { name: 'gives', type: 'x', stream: gives }], { concurrency: 2 });
});

test('one failing item ends all that are read concurrently, with its own error', async (t) => {
  const { repo, path } = await freshRepo(t, PLAIN, { lockWaitMs: 0 });
  const ways = {
    error: () => { const stream = new PassThrough(); stream.write('x'); setTimeout(() => stream.destroy(boom), 20); return { stream }; },
    'bad chunk': () => ({ stream: ['x', 7] }),
    'a missing file': () => ({ stream: { path: '/nonexistent/file' } }),
    size: () => ({ stream: new Readable({ read() { this.push(Buffer.alloc(MIB)); } }), expectedSize: 3 * MIB }),
    'short file': () => ({ stream: { path: fileOf(t) }, expectedSize: 6 * MIB }),
  };
  for (const [way, make] of Object.entries(ways)) {
    for (const failing of [0, 2]) {
      const stalled = [0, 1, 2].map(() => new PassThrough());
      const items = stalled.map((stream, i) => ({ name: `${i}`, type: 'x', ...(i === failing ? make() : { stream }) }));
      const error = await rejectsWith(repo.ingestMulti(items, { concurrency: 3 }), way === 'bad chunk' ? 'ERR_INVALID_ARGUMENT' : 'ERR_SOURCE_FAILED');
      assert.equal(error.item, `${failing}`, way);
      for (const [i, stream] of stalled.entries()) if (i !== failing) assert.ok(stream.destroyed, way);
    }
  }
  const controller = new AbortController();
  setTimeout(() => controller.abort(boom), 20);
  const stalled = [0, 1, 2].map((i) => ({ name: `${i}`, type: 'x', stream: new PassThrough() }));
  await assert.rejects(repo.ingestMulti(stalled, { concurrency: 3, signal: controller.signal }), (error) => error === boom);
  assert.deepEqual(await repo.listSnapshots(), []);
  assert.deepEqual(repoFiles(path, /^snapshots\/|^packs\/parity\/records\//), []);
});

test('commands run concurrently with `concurrency`', async (t) => {
  const { repo } = await freshRepo(t);
  const folder = temporary(t);
  // Each ends only after the other has begun.
  const script = `fs.writeFileSync(process.argv[1], ''); const timer = setInterval(() => {
    if (fs.existsSync(process.argv[2])) { clearInterval(timer); process.stdout.write(process.argv[1]); } }, 10);`;
  const commands = [['a', 'b'], ['b', 'a']].map(([mine, other]) => ({
    command: [process.execPath, '-e', script, mine, other], name: mine, cwd: folder, timeoutMs: 60_000,
  }));
  const { id } = await repo.ingestCommand(commands, { concurrency: 2 });
  assert.equal((await restored(repo, id)).toString(), 'ab');
});

test('a concurrency out of range is refused', async (t) => {
  const { repo } = await freshRepo(t);
  const items = () => [{ name: 'a', type: 'x', stream: ['x'] }];
  for (const concurrency of [0, 17, -1, 1.5, NaN, '2', null]) {
    await rejectsWith(repo.ingestMulti(items(), { concurrency }), 'ERR_INVALID_ARGUMENT');
  }
  await rejectsWith(repo.ingest(['x'], { concurrency: 1 }), 'ERR_INVALID_ARGUMENT');
});

test('progress of items that are read concurrently is their sum', async (t) => {
  const { repo } = await freshRepo(t);
  const seen = [];
  const items = mixedItems(t, 14);
  const total = items.reduce((sum, { bytes }) => sum + bytes.length, 0);
  await repo.ingestMulti(items.map(({ bytes, ...item }) => ({ ...item, expectedSize: bytes.length })), { concurrency: 4, onProgress: (p) => seen.push(p) });
  for (const [i, progress] of seen.entries()) {
    assert.equal(progress.bytesTotal, total);
    for (const name of ['bytesDone', 'chunks', 'itemsDone']) if (i > 0) assert.ok(progress[name] >= seen[i - 1][name], name);
  }
  const last = seen.at(-1);
  assert.deepEqual([last.percentage, last.bytesDone, last.itemsDone, last.newBytes + last.reusedBytes], [100, total, 14, total]);
});
