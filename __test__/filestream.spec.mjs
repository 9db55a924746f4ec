// An fs.ReadStream whose file the native side reads: its bytes, events and properties are those of
// a stream that JavaScript reads.

import assert from 'node:assert/strict';
import { createHook } from 'node:async_hooks';
import fs, { closeSync, createReadStream, openSync, readSync, truncateSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { GIB, KIB, MIB, assertSameBytes, freshRepo, random, rejectsWith, restored, settle, temporary, test } from './support/harness.mjs';

/** More than one chunk, and enough to be worth it. */
const BYTES = random(4 * MIB + 12_345, 70);
/** Bytes of a file that is not read within a turn of the event loop. */
const LONG = GIB;
const EVENTS = ['open', 'ready', 'pause', 'resume', 'end', 'error', 'close'];
const skip = process.platform === 'win32' && 'skipped: descriptors cannot be duplicated on Windows';

function fileOf(t, bytes = BYTES) {
  const path = join(temporary(t), 'file');
  writeFileSync(path, typeof bytes === 'number' ? '' : bytes);
  if (typeof bytes === 'number') truncateSync(path, bytes);
  return path;
}

/** The stream, but read by JavaScript: its _read() is not the one of its class. */
function byJavaScript(stream) {
  const { _read } = stream;
  return Object.defineProperty(stream, '_read', { value: _read, configurable: true });
}

/** Calls fn, and returns how many requests to the file system it made in JavaScript. */
async function requestsOf(fn) {
  let count = 0;
  const hook = createHook({ init(id, type) { if (/^FSREQ|^FILEHANDLE/.test(type)) count++; } }).enable();
  await fn();
  hook.disable();
  return count;
}

/** Resolves once a stream has read this many bytes, or is destroyed. */
async function hasRead(stream, bytes) {
  while (stream.bytesRead < bytes && !stream.destroyed) await nextTurn();
}

const namesOf = (error) => error && { code: error.code, name: error.name, message: error.message, syscall: error.syscall };

/** What can be observed of a stream when its ingest has ended. */
function stateOf(stream) {
  const names = ['bytesRead', 'pos', 'start', 'end', 'fd', 'pending', 'autoClose', 'destroyed', 'closed', 'readable', 'readableAborted',
    'readableDidRead', 'readableEnded', 'readableFlowing', 'readableLength', 'readableEncoding'];
  return {
    ...Object.fromEntries(names.map((name) => [name, stream[name]])),
    errored: namesOf(stream.errored),
    paused: stream.isPaused(),
    own: Object.entries(Object.getOwnPropertyDescriptors(stream)).filter(([name]) => name !== '_read').map(([name, { get, writable, enumerable }]) => [name, Boolean(get), writable, enumerable]),
    listeners: stream.eventNames().map((name) => [String(name), stream.listenerCount(name)]),
  };
}

/** Ingests a stream, and lets `during` interfere; returns all that could be observed. */
async function observe(t, make, { during, options, forced }) {
  const { repo } = await freshRepo(t);
  const stream = forced ? byJavaScript(make()) : make();
  const events = [];
  for (const name of EVENTS) stream.on(name, (value) => events.push([name, value instanceof Error ? namesOf(value) : typeof value]));
  const controller = new AbortController();
  const ingest = repo.ingest(stream, { signal: controller.signal, ...options });
  const [result] = await Promise.allSettled([ingest, during?.(stream, { repo, controller })]);
  while (stream.destroyed && !stream.closed) await nextTurn();
  await settle();
  const { value, reason } = result;
  const bytes = value && value.originalSize < 64 * MIB ? await restored(repo, value.id) : undefined;
  const seen = {
    size: value?.originalSize,
    error: namesOf(reason),
    cause: namesOf(reason?.cause),
    item: reason?.item,
    events,
    state: stateOf(stream),
    snapshots: reason?.code === 'ERR_CLOSED' ? 0 : (await repo.listSnapshots()).length,
  };
  // depend on when it failed
  if (reason) for (const name of ['bytesRead', 'pos', 'readableLength', 'readableFlowing', 'paused', 'listeners']) delete seen.state[name];
  // the number of a descriptor
  if (seen.state.fd !== null) seen.state.fd = typeof seen.state.fd;
  return { seen, bytes, stream };
}

/** Checks that both ways of reading agree; returns what was seen. */
async function agree(t, make, how = {}) {
  const js = await observe(t, make, { ...how, forced: true });
  const native = await observe(t, make, how);
  assert.deepEqual(native.seen, js.seen);
  if (js.bytes) assertSameBytes(native.bytes, js.bytes);
  return native;
}

const wholes = {
  'by default': {},
  'with a start': { start: 70_000 },
  'with a start and an end': { start: 70_000, end: 3 * MIB },
  'with an end': { end: 3 * MIB },
  'with an end past the file': { end: 99 * MIB },
  'with a start past the file': { start: 99 * MIB },
  'with a start and an end that are equal': { start: 5, end: 5 },
  'with autoClose false': { autoClose: false },
  'with emitClose false': { emitClose: false },
  'with small chunks': { highWaterMark: 1000 },
  'with large chunks': { highWaterMark: MIB },
  'with chunks larger than the file': { highWaterMark: 16 * MIB },
  'with flags': { flags: 'r+' },
};
for (const [what, options] of Object.entries(wholes)) {
  test(`a file stream ${what} is backed up as by JavaScript`, async (t) => {
    const path = fileOf(t);
    const { bytes } = await agree(t, () => createReadStream(path, options));
    assertSameBytes(bytes, BYTES.subarray(options.start ?? 0, (options.end ?? BYTES.length) + 1));
  });
}

test('small and empty files are backed up as by JavaScript', async (t) => {
  for (const length of [0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, 128 * KIB, MIB, MIB + 64 * KIB]) {
    const path = fileOf(t, BYTES.subarray(0, length));
    const { bytes } = await agree(t, () => createReadStream(path));
    assertSameBytes(bytes, BYTES.subarray(0, length));
  }
});

test('a file stream of a descriptor is backed up as by JavaScript, and moves its offset as Node does', async (t) => {
  const path = fileOf(t);
  const half = 2 * MIB;
  for (const more of [{}, { autoClose: false }, { autoClose: false, start: 70_000 }, { autoClose: false, start: 70_000, end: half }, { autoClose: false, end: half }]) {
    const offsets = [];
    const make = () => {
      const fd = openSync(path);
      readSync(fd, Buffer.alloc(100));
      return createReadStream('', { fd, ...more });
    };
    const after = ({ stream }) => {
      if (more.autoClose !== false) return;
      const next = Buffer.alloc(50);
      offsets.push(next.toString('hex', 0, readSync(stream.fd, next)));
      closeSync(stream.fd);
    };
    after(await observe(t, make, { forced: true }));
    const native = await agree(t, make);
    after(native);
    assert.equal(offsets[0], offsets[1]);
    const begin = more.start ?? 100;
    // without a start, Node counts the end from the position of the descriptor
    const end = more.end === undefined ? BYTES.length : more.end + 1 + (more.start === undefined ? 100 : 0);
    assertSameBytes(native.bytes, BYTES.subarray(begin, end));
  }
});

test('what cannot be opened or read fails as by JavaScript', async (t) => {
  const path = fileOf(t);
  const { seen: missing } = await agree(t, () => createReadStream(join(path, 'missing')));
  assert.deepEqual([missing.error.code, missing.cause.code], ['ERR_SOURCE_FAILED', 'ENOTDIR']);
  const { seen: nothing } = await agree(t, () => createReadStream(`${path}.missing`));
  assert.deepEqual([nothing.error.code, nothing.cause.code], ['ERR_SOURCE_FAILED', 'ENOENT']);
  const { seen: folder } = await agree(t, () => createReadStream(temporary(t)));
  assert.deepEqual([folder.error.code, folder.cause.code], ['ERR_SOURCE_FAILED', 'EISDIR']);
  const { seen: writable } = await agree(t, () => createReadStream('', { fd: openSync(path, 'a') }));
  assert.deepEqual([writable.error.code, writable.cause.code], ['ERR_SOURCE_FAILED', 'EBADF']);
}, { skip });

test('a file stream of a wrong size fails as by JavaScript', async (t) => {
  const path = fileOf(t);
  for (const by of [1, MIB]) {
    const { seen } = await agree(t, () => createReadStream(path), { options: { expectedSize: BYTES.length + by } });
    assert.equal(seen.error.code, 'ERR_SOURCE_FAILED');
    assert.ok(seen.state.readableEnded);
  }
  const long = fileOf(t, LONG);
  const { seen } = await agree(t, () => createReadStream(long), { options: { expectedSize: MIB } });
  assert.equal(seen.error.code, 'ERR_SOURCE_FAILED');
  assert.ok(!seen.state.readableEnded);
});

/** Without an error, a stream that emits no 'close' does not report that it was destroyed. */
const interruptions = {
  'destroyed with an error': { during: (stream) => stream.destroy(new Error('boom')) },
  'destroyed without an error': { during: (stream) => stream.destroy(), silent: false },
  'closed': { during: (stream) => stream.close(), silent: false },
  'aborted': { during: (stream, { controller }) => controller.abort(new Error('boom')) },
  'left by a close() of the archive': { during: (stream, { repo }) => repo.close() },
};
for (const [what, { during, silent = true }] of Object.entries(interruptions)) {
  for (const more of [{}, { autoClose: false }, ...(silent ? [{ emitClose: false }] : [])]) {
    test(`a file stream that is ${what} midway ends as by JavaScript (${JSON.stringify(more)})`, async (t) => {
      const path = fileOf(t, LONG);
      const { seen, stream } = await agree(t, () => createReadStream(path, more), {
        during: async (each, with_) => {
          await hasRead(each, 4 * MIB);
          await during(each, with_);
        },
      });
      assert.ok(seen.error);
      assert.ok(stream.bytesRead >= 4 * MIB && stream.bytesRead < LONG, String(stream.bytesRead));
    });
  }
}

test('a file stream with a signal of its own ends as by JavaScript', async (t) => {
  const path = fileOf(t, LONG);
  let controller;
  const { seen } = await agree(t, () => {
    controller = new AbortController();
    return createReadStream(path, { signal: controller.signal });
  }, { during: async (stream) => { await hasRead(stream, 4 * MIB); controller.abort(); } });
  assert.equal(seen.cause.name, 'AbortError');
});

test('a file that shrinks or grows midway is read to its end at that time, as by JavaScript', async (t) => {
  const long = 192 * MIB;
  const path = fileOf(t, long);
  for (const size of [long - 16 * MIB, long + 16 * MIB]) {
    const { seen } = await agree(t, () => { truncateSync(path, long); return createReadStream(path); }, {
      during: async (stream) => { await hasRead(stream, 4 * MIB); truncateSync(path, size); },
    });
    assert.deepEqual([seen.size, seen.state.bytesRead], [size, size]);
  }
});

test('the native side reads a file stream: JavaScript makes few requests to the file system', async (t) => {
  const { repo } = await freshRepo(t);
  const path = fileOf(t, random(16 * MIB, 71));
  for (const options of [{}, { start: 1 }, { fd: openSync(path) }]) {
    const stream = createReadStream(path, options);
    const count = await requestsOf(() => repo.ingest(stream));
    t.diagnostic(`${count} requests in JavaScript`);
    if (!skip) assert.ok(count < 16, String(count));
  }
  assert.ok(await requestsOf(() => repo.ingest(byJavaScript(createReadStream(path)))) > 200, 'else this shows nothing');
});

test('several file streams at once are one snapshot, as by JavaScript', async (t) => {
  const paths = [0, 1, 2, 3].map((number) => fileOf(t, random((number + 1) * MIB, 72 + number)));
  for (const concurrency of [1, 3]) {
    const { repo } = await freshRepo(t);
    const found = [];
    for (const as of [(stream) => stream, byJavaScript]) {
      const streams = paths.map((path) => as(createReadStream(path)));
      const snapshot = await repo.ingestMulti(streams.map((stream, i) => ({ stream, name: `file ${i}`, type: 'x' })), { concurrency });
      await settle();
      for (const [i, path] of paths.entries()) assertSameBytes(await restored(repo, snapshot.id, { item: `file ${i}` }), fs.readFileSync(path));
      found.push(streams.map(stateOf), snapshot.items.map(({ name, size }) => [name, size]));
    }
    assert.deepEqual(found.slice(0, 2), found.slice(2));
  }
});

test('a file stream that fails ends the others, and two of one descriptor are read as Node reads them', async (t) => {
  const path = fileOf(t, LONG);
  for (const as of [(stream) => stream, byJavaScript]) {
    const { repo } = await freshRepo(t);
    const streams = ['a', 'b'].map(() => as(createReadStream(path)));
    const items = streams.map((stream, i) => ({ stream, name: String(i), type: 'x' }));
    const ingest = repo.ingestMulti(items, { concurrency: 2 });
    hasRead(streams[1], 4 * MIB).then(() => streams[1].destroy(new Error('boom')));
    const error = await rejectsWith(ingest, 'ERR_SOURCE_FAILED');
    assert.deepEqual([error.item, error.cause.message], ['1', 'boom']);
    await settle();
    assert.deepEqual(streams.map((stream) => [stream.destroyed, stream.fd]), [[true, null], [true, null]]);
    const fd = openSync(fileOf(t));
    const both = [0, 1].map((i) => ({ stream: as(createReadStream('', { fd, autoClose: false })), name: String(i), type: 'x' }));
    const snapshot = await repo.ingestMulti(both);
    assert.deepEqual(snapshot.items.map(({ size }) => size), [BYTES.length, 0]);
    closeSync(fd);
  }
});

test('a reader that is added midway gets the bytes from there on', async (t) => {
  const { repo } = await freshRepo(t);
  const long = 128 * MIB;
  const readers = {
    data: (stream, take) => stream.on('data', take),
    pipe: (stream, take) => stream.pipe(new Writable({ write(chunk, encoding, done) { take(chunk); done(); } })),
  };
  for (const [what, add] of Object.entries(readers)) {
    const stream = createReadStream(fileOf(t, long));
    const ingest = repo.ingest(stream);
    await hasRead(stream, 4 * MIB);
    let seen = 0;
    add(stream, (chunk) => { seen += chunk.length; });
    assert.equal((await ingest).originalSize, long);
    assert.ok(seen > 0 && seen < long, `${what} got ${seen} bytes`);
    assert.equal(stream.bytesRead, long);
  }
});

/** Streams that JavaScript must read; each returns a stream of BYTES. */
const others = {
  'a subclass': (path) => new (class extends fs.ReadStream {})(path),
  'a replaced push()': (path) => Object.assign(createReadStream(path), { push: fs.ReadStream.prototype.push }),
  'a replaced emit()': (path) => Object.assign(createReadStream(path), { emit: fs.ReadStream.prototype.emit }),
  'a getter': (path) => Object.defineProperty(createReadStream(path), 'read', { get: () => fs.ReadStream.prototype.read }),
  'a position that was changed': (path) => Object.assign(createReadStream(path, { start: 1 }), { pos: 0 }),
  'another prototype': (path) => Object.setPrototypeOf(createReadStream(path), Object.create(fs.ReadStream.prototype)),
  'an fs of its own': (path) => createReadStream(path, { fs: { ...fs } }),
  'an fs that decodes': (path) => createReadStream(path, {
    fs: {
      open: fs.open,
      close: fs.close,
      read: (fd, buffer, offset, length, position, done) => fs.read(fd, buffer, offset, length, position, (error, count) => {
        for (let i = 0; i < count; i++) buffer[offset + i] ^= 1;
        done(error, count, buffer);
      }),
    },
  }),
  'a FileHandle': async (path) => (await open(path)).createReadStream(),
  'properties that cannot be added': (path) => Object.preventExtensions(createReadStream(path)),
};
for (const [what, make] of Object.entries(others)) {
  test(`a file stream with ${what} is read by JavaScript`, async (t) => {
    const { repo } = await freshRepo(t);
    const stream = await make(fileOf(t));
    let snapshot;
    const count = await requestsOf(async () => { snapshot = await repo.ingest(stream); });
    assert.ok(count > 30, String(count));
    const expected = what === 'an fs that decodes' ? Buffer.from(BYTES.map((byte) => byte ^ 1)) : BYTES;
    assertSameBytes(await restored(repo, snapshot.id), expected);
  });
}

test('a file stream is read by JavaScript while fs.read() is replaced', async (t) => {
  const { repo } = await freshRepo(t);
  const { read } = fs;
  let count = 0;
  fs.read = (...given) => { count++; return read(...given); };
  t.after(() => { fs.read = read; });
  const snapshot = await repo.ingest(createReadStream(fileOf(t)));
  assert.ok(count > 30, String(count));
  assertSameBytes(await restored(repo, snapshot.id), BYTES);
});

test('devices are read by JavaScript', async (t) => {
  const { repo } = await freshRepo(t);
  const stream = createReadStream('/dev/zero', { end: 2 * MIB - 1 });
  assert.equal((await repo.ingest(stream)).originalSize, 2 * MIB);
}, { skip });

test('a file stream holds no descriptor once its ingest has ended', async (t) => {
  const count = () => fs.readdirSync('/proc/self/fd').length;
  const path = fileOf(t, LONG);
  const { repo } = await freshRepo(t);
  await repo.ingest(createReadStream(fileOf(t)));
  const before = count();
  for (const end of [(stream) => stream.destroy(new Error('boom')), (stream, controller) => controller.abort()]) {
    const stream = createReadStream(path);
    const controller = new AbortController();
    const ingest = repo.ingest(stream, { signal: controller.signal });
    await hasRead(stream, 4 * MIB);
    end(stream, controller);
    await assert.rejects(ingest);
  }
  // waits for what the aborted ones still store
  await repo.ingest(createReadStream(fileOf(t)));
  await settle();
  assert.ok(count() <= before, `${before} descriptors before, ${count()} after`);
}, { skip: process.platform !== 'linux' && 'skipped: there is no /proc/self/fd' });
