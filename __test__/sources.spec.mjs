// Sources: every kind that can be read, every kind that is refused, and every way to fail. A source that fails never
// becomes a snapshot.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createReadStream, writeFileSync } from 'node:fs';
import { createServer, connect } from 'node:net';
import { join } from 'node:path';
import { Duplex, PassThrough, Readable, Transform } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { createGunzip, gzipSync } from 'node:zlib';
import {
  ENCRYPTED, KIB, MIB, PLAIN, afterwards, assertSameBytes, freshRepo, pieces, random, rejectsWith, repoFiles, reopen, restored, settle,
  temporary, test,
} from './support/harness.mjs';

const BYTES = random(3 * MIB, 30);

test('every kind of source gives the same bytes', async (t) => {
  const { repo } = await freshRepo(t);
  const file = join(temporary(t), 'file');
  writeFileSync(file, BYTES);
  const parts = () => pieces(BYTES, 100_000);
  const sources = {
    'fs.ReadStream': createReadStream(file),
    'Readable of Buffers': Readable.from(parts()),
    'byte-mode Readable': Readable.from(parts(), { objectMode: false }),
    'Transform': Readable.from([gzipSync(BYTES)]).pipe(createGunzip()),
    'PassThrough': Readable.from(parts()).pipe(new PassThrough()),
    'web ReadableStream': Readable.toWeb(createReadStream(file)),
    'web byte stream': new ReadableStream({ type: 'bytes', start(c) { for (const p of parts()) c.enqueue(Uint8Array.from(p)); c.close(); } }),
    'Response': new Response(BYTES).body,
    'Blob': new Blob([BYTES.subarray(0, MIB), BYTES.subarray(MIB)]),
    'Buffer': BYTES,
    'Uint8Array': Uint8Array.from(BYTES),
    'SharedArrayBuffer': (() => { const a = new Uint8Array(new SharedArrayBuffer(BYTES.length)); a.set(BYTES); return a; })(),
    'array': [...parts()],
    'Set': new Set(parts()),
    'generator': parts(),
    'async generator': (async function* () { for (const part of parts()) { await null; yield part; } })(),
    'async iterable object': { async *[Symbol.asyncIterator]() { yield* parts(); } },
    'iterator with next only': { [Symbol.asyncIterator]() { const it = parts(); return { next: async () => it.next() }; } },
    'stdout of a process': spawn(process.execPath, ['-e', `require('fs').createReadStream(${JSON.stringify(file)}).pipe(process.stdout)`]).stdout,
  };
  for (const [kind, source] of Object.entries(sources)) {
    const snapshot = await repo.ingest(source);
    assertSameBytes(await restored(repo, snapshot.id), BYTES, kind);
  }
});

test('strings are stored as UTF-8, also mixed with Buffers in object mode', async (t) => {
  const { repo } = await freshRepo(t);
  const parts = ['ä', Buffer.from([0, 255]), '👍', '', 'x'.repeat(3 * MIB)];
  const expected = Buffer.concat(parts.map((part) => Buffer.from(part)));
  const sources = [parts, Readable.from(parts), Readable.toWeb(Readable.from(parts)), (async function* () { yield* parts; })()];
  for (const source of sources) {
    const snapshot = await repo.ingest(source);
    assertSameBytes(await restored(repo, snapshot.id), expected);
  }
});

test('a source whose buffer is used again after each chunk', async (t) => {
  const { repo } = await freshRepo(t);
  const source = async function* () {
    const buffer = Buffer.alloc(64 * KIB);
    for (const piece of pieces(BYTES, buffer.length)) {
      piece.copy(buffer);
      yield buffer.subarray(0, piece.length);
    }
  };
  assertSameBytes(await restored(repo, (await repo.ingest(source())).id), BYTES);
});

test('a socket can be read to its end and then answered', async (t) => {
  const { repo } = await freshRepo(t);
  const server = createServer({ allowHalfOpen: true }, async (socket) => {
    const snapshot = await repo.ingest(socket);
    socket.end(snapshot.id);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  afterwards(t, () => server.close());
  const socket = connect({ port: server.address().port, host: '127.0.0.1', allowHalfOpen: true });
  socket.end(BYTES);
  let answer = '';
  for await (const part of socket) answer += part;
  assertSameBytes(await restored(repo, answer), BYTES);
});

test('what is no source is refused', async (t) => {
  const { repo } = await freshRepo(t);
  for (const bad of ['a string', null, undefined, 7, true, {}, Symbol('s'), () => {}, new ArrayBuffer(8), Promise.resolve(), { file: '/x' }]) {
    await rejectsWith(repo.ingest(bad), 'ERR_INVALID_ARGUMENT');
    await rejectsWith(repo.ingestMulti([{ name: 'a', type: 'x', stream: bad }]), 'ERR_INVALID_ARGUMENT');
  }
  const error = await rejectsWith(repo.ingest('a string'), 'ERR_INVALID_ARGUMENT');
  assert.match(error.hint, /Buffer\.from/);
  assert.deepEqual(await repo.listSnapshots(), []);
});

test('a chunk that is neither bytes nor string is refused, and the source is destroyed', async (t) => {
  const { repo } = await freshRepo(t);
  const detached = new Uint8Array(8);
  structuredClone(detached.buffer, { transfer: [detached.buffer] });
  const refused = [7, null, undefined, {}, true, ['a'], new Uint16Array(4), new Float64Array(1), new DataView(new ArrayBuffer(4)),
    new ArrayBuffer(4), new Uint8ClampedArray(4), Promise.resolve(), '\ud800', detached];
  for (const bad of refused) {
    await rejectsWith(repo.ingest([Buffer.from('good'), bad]), 'ERR_INVALID_ARGUMENT');
    let finished = false;
    await rejectsWith(repo.ingest((async function* () { try { yield 'x'; yield bad; } finally { finished = true; } })()), 'ERR_INVALID_ARGUMENT');
    await settle();
    assert.ok(finished, 'the generator was ended');
    if (bad === null || bad === undefined) continue; // a Readable ends, or refuses them itself
    const stream = Readable.from([Buffer.from('good'), bad]);
    await rejectsWith(repo.ingest(stream), 'ERR_INVALID_ARGUMENT');
    assert.ok(stream.destroyed);
  }
  assert.deepEqual(await repo.listSnapshots(), []);
});

test('streams that were read, decoded, locked or are being read are refused', async (t) => {
  const { repo } = await freshRepo(t);
  const refused = async (stream, pattern) => {
    const error = await rejectsWith(repo.ingest(stream), 'ERR_INVALID_ARGUMENT');
    assert.match(error.message, pattern);
  };

  const ended = Readable.from([BYTES]);
  for await (const part of ended) void part;
  await refused(ended, /read before/);

  const begun = Readable.from([...pieces(BYTES, 1000)], { objectMode: false });
  await new Promise((resolve) => begun.once('readable', resolve));
  begun.read(10);
  await refused(begun, /read before/);
  begun.destroy();

  const flowed = Readable.from([...pieces(BYTES, 1000)]);
  await new Promise((resolve) => flowed.once('data', resolve));
  await refused(flowed, /read before/);
  flowed.destroy();

  const decoded = Readable.from([BYTES], { objectMode: false });
  decoded.setEncoding('utf8');
  await refused(decoded, /encoding/);
  await refused(Readable.from([BYTES], { encoding: 'hex', objectMode: false }), /encoding/);

  const locked = new ReadableStream();
  const reader = locked.getReader();
  await refused(locked, /locked/);
  reader.releaseLock();
  const disturbed = Readable.toWeb(Readable.from([BYTES]));
  const once = disturbed.getReader();
  await once.read();
  once.releaseLock();
  await refused(disturbed, /read before/);

  const slow = new PassThrough();
  const running = repo.ingest(slow);
  await refused(slow, /being read/);
  slow.end('x');
  assert.equal((await running).originalSize, 1);

  const twice = Readable.from([BYTES]);
  await rejectsWith(repo.ingestMulti(['a', 'b'].map((name) => ({ name, type: 'x', stream: twice }))), 'ERR_INVALID_ARGUMENT');
  assert.equal((await repo.ingest(twice)).originalSize, BYTES.length, 'a refused stream was not touched');
  assert.equal((await repo.listSnapshots()).length, 2);
});

/** Ways of a source to fail in mid-stream: { source, cause } (the cause is checked by identity, or by its code). */
const boom = new Error('boom');
const failures = {
  'destroyed with an error': () => {
    const stream = new PassThrough();
    stream.write(BYTES);
    setTimeout(() => stream.destroy(boom), 20);
    return { source: stream, cause: boom };
  },
  'destroyed without an error': () => {
    const stream = new PassThrough();
    stream.write(BYTES);
    setTimeout(() => stream.destroy(), 20);
    return { source: stream, code: 'ERR_STREAM_PREMATURE_CLOSE' };
  },
  'closes early': () => {
    const stream = new Readable({ read() { this.push(BYTES); setTimeout(() => { this.destroyed || this.destroy(); }, 5); } });
    return { source: stream, code: 'ERR_STREAM_PREMATURE_CLOSE' };
  },
  'emits an error': () => {
    const stream = new PassThrough();
    stream.write(BYTES);
    setTimeout(() => stream.emit('error', boom), 20);
    return { source: stream, cause: boom };
  },
  'errors at its first read': () => ({ source: new Readable({ read() { this.destroy(boom); } }), cause: boom }),
  'errored before': () => ({ source: new Readable({ read() {} }).on('error', () => {}).destroy(boom), cause: boom }),
  'destroyed before': () => ({ source: new Readable({ read() {} }).destroy(), code: 'ERR_STREAM_PREMATURE_CLOSE' }),
  'a file that is missing': () => ({ source: createReadStream('/nonexistent/file'), code: 'ENOENT' }),
  'a folder read as a file': () => ({ source: createReadStream('/'), code: 'EISDIR' }),
  'a transform that fails': () => ({ source: Readable.from([Buffer.from('no gzip')]).pipe(createGunzip()), code: 'Z_DATA_ERROR' }),
  'a flush that fails': () => ({
    source: Readable.from([BYTES]).pipe(new Transform({ transform: (c, e, done) => done(null, c), flush: (done) => done(boom) })), cause: boom,
  }),
  'a generator that throws': () => ({ source: (async function* () { yield BYTES; throw boom; })(), cause: boom }),
  'a sync generator that throws': () => ({ source: (function* () { yield BYTES; throw boom; })(), cause: boom }),
  'a web stream that errors': () => {
    let n = 0;
    return { source: new ReadableStream({ pull(c) { if (n++ < 3) c.enqueue(BYTES); else c.error(boom); } }), cause: boom };
  },
  'a web stream errored before': () => ({ source: new ReadableStream({ start(c) { c.error(boom); } }), cause: boom }),
  'throws a string': () => ({ source: (async function* () { yield BYTES; throw 'a string'; })(), cause: 'a string' }),
};

for (const kind of [PLAIN, ENCRYPTED]) {
  for (const [what, make] of Object.entries(failures)) {
    test(`${kind.name}: a source that fails (${what}) leaves no snapshot and a typed error with its cause`, async (t) => {
      const { repo, path } = await freshRepo(t, kind);
      const { source, cause, code } = make();
      const error = await rejectsWith(repo.ingest(source, { items: [{ name: 'dump', type: 'x' }] }), 'ERR_SOURCE_FAILED');
      if (code) assert.equal(error.cause.code, code);
      else assert.equal(error.cause, cause);
      assert.equal(error.item, 'dump');
      assert.deepEqual(await repo.listSnapshots(), []);
      assert.deepEqual(repoFiles(path, /^snapshots\//), []);
      assert.equal((await repo.ingest([BYTES])).originalSize, BYTES.length, 'the handle works on');
    });
  }
}

for (const kind of [PLAIN, ENCRYPTED]) {
  test(`${kind.name}: what a failed ingest stored is reused by the retry, also from a new handle`, async (t) => {
    const { repo, path } = await freshRepo(t, kind);
    const bytes = random(40 * MIB, 31);
    const failing = async function* () {
      yield* pieces(bytes.subarray(0, 36 * MIB), MIB);
      throw boom;
    };
    await rejectsWith(repo.ingest(failing()), 'ERR_SOURCE_FAILED');
    const other = await reopen(t, path, kind);
    const snapshot = await other.ingest(bytes);
    t.diagnostic(`${snapshot.reusedChunks} of ${snapshot.chunkCount} chunks reused`);
    assert.ok(snapshot.reusedChunks > 0);
    assertSameBytes(await restored(other, snapshot.id), bytes);
  });
}

test('an ingestMulti is one snapshot or none: a failing stream ends the others', async (t) => {
  const { repo } = await freshRepo(t);
  for (const failing of [0, 1, 2]) {
    const streams = [0, 1, 2].map((i) => {
      const stream = new PassThrough();
      stream.write(BYTES.subarray(0, 1000));
      if (i < failing) stream.end();
      return stream;
    });
    const promise = repo.ingestMulti(streams.map((stream, i) => ({ name: `s${i}`, type: 'x', stream })));
    setTimeout(() => streams[failing].destroy(boom), 20);
    const error = await rejectsWith(promise, 'ERR_SOURCE_FAILED');
    assert.equal(error.cause, boom);
    assert.equal(error.item, `s${failing}`);
    for (const stream of streams) assert.ok(stream.destroyed || stream.readableEnded);
  }
  assert.deepEqual(await repo.listSnapshots(), []);
});

test('a later stream that fails before its turn is no uncaught exception, and ends the ingest at once', async (t) => {
  const { repo } = await freshRepo(t);
  const never = new PassThrough();
  const web = new ReadableStream({ start(c) { setTimeout(() => c.error(boom), 20); } });
  const error = await rejectsWith(repo.ingestMulti([
    { name: 'never', type: 'x', stream: never },
    { name: 'web', type: 'x', stream: web },
  ]), 'ERR_SOURCE_FAILED');
  assert.deepEqual([error.item, error.cause], ['web', boom]);
  assert.ok(never.destroyed);

  const idle = new PassThrough();
  const later = new PassThrough();
  const promise = repo.ingestMulti([
    { name: 'idle', type: 'x', stream: (async function* () { yield 'x'; await new Promise(() => {}); })() },
    { name: 'later', type: 'x', stream: later },
    { name: 'last', type: 'x', stream: idle },
  ]);
  setTimeout(() => later.destroy(boom), 20);
  assert.equal((await rejectsWith(promise, 'ERR_SOURCE_FAILED')).item, 'later');
  assert.ok(idle.destroyed);
  assert.deepEqual(await repo.listSnapshots(), []);
});

test('an abort ends the ingest with the reason of the signal, and the sources', async (t) => {
  const { repo } = await freshRepo(t);
  const cases = {
    stalled: () => new PassThrough(),
    endless: () => new Readable({ read() { this.push(Buffer.alloc(64 * KIB)); } }),
    'endless generator': () => (function* () { for (;;) yield 'x'; })(),
    'stalled generator': () => (async function* () { await new Promise(() => {}); })(),
    'stalled web stream': () => new ReadableStream(),
    'duplex': () => new Duplex({ read() {}, write(c, e, done) { done(); } }),
  };
  for (const [what, make] of Object.entries(cases)) {
    for (const reason of [undefined, boom, 'a string']) {
      const controller = new AbortController();
      const source = make();
      const promise = repo.ingest(source, { signal: controller.signal });
      setTimeout(() => controller.abort(reason), 20);
      await assert.rejects(promise, (error) => error === controller.signal.reason, what);
      if (source.destroyed !== undefined) assert.ok(source.destroyed, what);
    }
  }
  const before = new PassThrough();
  await assert.rejects(repo.ingest(before, { signal: AbortSignal.abort() }), { name: 'AbortError' });
  assert.ok(before.destroyed);
  await assert.rejects(repo.ingest(new PassThrough(), { signal: AbortSignal.timeout(10) }), { name: 'TimeoutError' });
  assert.deepEqual(await repo.listSnapshots(), []);

  const late = new AbortController();
  await repo.ingest([BYTES], { signal: late.signal });
  late.abort();
  assert.equal((await repo.listSnapshots()).length, 1);
});

test('an error of a source after its end is not uncaught', async (t) => {
  const { repo } = await freshRepo(t);
  const stream = new PassThrough({ autoDestroy: false });
  stream.end('x');
  await repo.ingest(stream);
  stream.destroy(boom);
  await sleep(10);
});

test('an endless source that always has bytes ready does not starve the event loop', async (t) => {
  const { repo } = await freshRepo(t);
  const controller = new AbortController();
  const endless = (function* () { for (;;) yield Buffer.from('tiny'); })();
  let turns = 0;
  const timer = setInterval(() => { if (++turns === 10) controller.abort(); }, 1);
  await assert.rejects(repo.ingest(endless, { signal: controller.signal }), { name: 'AbortError' });
  clearInterval(timer);
});

test('a stream is read no further than the engine can take', async (t) => {
  const { repo } = await freshRepo(t, PLAIN, { compression: { algorithm: 'zstd', level: 19 } });
  let made = 0;
  const controller = new AbortController();
  const source = new Readable({ highWaterMark: MIB, read() { made += MIB; this.push(random(MIB, made)); } });
  const promise = repo.ingest(source, { signal: controller.signal });
  await sleep(300);
  controller.abort();
  await assert.rejects(promise);
  t.diagnostic(`${made / MIB} MiB were read within 300 ms of zstd 19`);
  assert.ok(made <= 512 * MIB);
});
