// Sources: every kind that can be read, every kind that is refused, and every way to fail. A source
// that fails never becomes a snapshot.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream, writeFileSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import { createServer, connect } from 'node:net';
import { join } from 'node:path';
import { Duplex, PassThrough, Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { createGunzip, createGzip, gzipSync } from 'node:zlib';
import {
  ContainerArchiveError, ENCRYPTED, KIB, MIB, PLAIN, afterwards, assertSameBytes, freshRepo, pieces, random, rejectsWith, repoFiles, reopen, restored, settle,
  temporary, test,
} from './support/harness.mjs';

const BYTES = random(3 * MIB, 30);

test('every kind of source produces the same bytes', async (t) => {
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

test('a source may reuse its buffer after each chunk', async (t) => {
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

test('a value that is not a source is refused', async (t) => {
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

test('the remainder of a generator or stream that an ingest began is refused', async (t) => {
  const { repo } = await freshRepo(t);
  const gone = async (source, code = 'ERR_INVALID_ARGUMENT') => {
    const error = await rejectsWith(repo.ingest(source), code);
    assert.match(error.message, /read before/);
  };
  const generator = pieces(BYTES, 100_000);
  await repo.ingest(generator);
  await gone(generator);
  const failing = (async function* () { yield BYTES; throw boom; })();
  await rejectsWith(repo.ingest(failing), 'ERR_SOURCE_FAILED');
  await gone(failing);
  const inner = pieces(BYTES, 100_000);
  const wrapper = { [Symbol.iterator]: () => inner };
  await repo.ingest(wrapper);
  await gone(wrapper, 'ERR_SOURCE_FAILED');
  const stream = foreign(new PassThrough().end(BYTES));
  await repo.ingest(stream);
  await gone(stream);
  // An iterable that returns a new iterator each time can be read again.
  for (const again of [[BYTES], new Set([BYTES]), { async *[Symbol.asyncIterator]() { yield BYTES; } }]) {
    for (let i = 0; i < 2; i++) assert.equal((await repo.ingest(again)).originalSize, BYTES.length);
  }
  assert.equal((await repo.listSnapshots()).length, 9);
});

/** A stream like those of other libraries: without Node's record of whether it was read. */
function foreign(stream, members = {}) {
  const hidden = { readableDidRead: undefined, readableEnded: undefined, ...members };
  return Object.defineProperties(stream, Object.fromEntries(Object.entries(hidden).map(([name, value]) => [name, { value }])));
}

test('a partly read stream of another library is refused, an untouched one is not', async (t) => {
  const { repo } = await freshRepo(t);
  const filled = () => { const stream = new PassThrough(); stream.write(BYTES.subarray(0, 1000)); stream.end(BYTES.subarray(1000)); return stream; };
  // readable-stream 3: flowing, or paused
  const begun = foreign(filled());
  begun.once('data', () => begun.pause());
  await once(begun, 'data');
  const listened = foreign(filled()).on('data', () => {});
  // streamx: bits of its state, and its pipe target
  const streamx = (bits, pipeTo = null) => {
    const stream = foreign(filled(), { readableFlowing: undefined, _duplexState: bits });
    stream._readableState = Object.create(stream._readableState, { flowing: { value: undefined, writable: true }, pipeTo: { value: pipeTo } });
    return stream;
  };
  // minipass: only whether it has ended
  for (const stream of [begun, listened, streamx(0x800), streamx(0x1000), streamx(0x100), streamx(0, {}), foreign(filled(), { emittedEnd: true })]) {
    const error = await rejectsWith(repo.ingest(stream), 'ERR_INVALID_ARGUMENT');
    assert.match(error.message, /read before/);
    assert.equal(error.item, 'data');
    stream.destroy();
  }
  assert.deepEqual(await repo.listSnapshots(), []);
  for (const stream of [foreign(filled()), streamx(0x4c1), foreign(filled(), { emittedEnd: false })]) {
    assertSameBytes(await restored(repo, (await repo.ingest(stream)).id), BYTES);
  }
});

/** A server of Node on a free port; closed with the test. */
async function listening(t, server) {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  afterwards(t, () => server.close());
  return server.address().port;
}

test('a socket after an HTTP handshake is backed up, unless it was touched since', async (t) => {
  const { repo } = await freshRepo(t);
  const sent = new Set();
  const server = http.createServer();
  const answer = (head) => (request, socket) => {
    socket.on('error', () => {});
    socket.write(`${head}\r\n\r\n`);
    // the payload in a packet of its own, once the client has its socket
    sent.add(() => socket.end(BYTES));
  };
  server.on('upgrade', answer('HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp'));
  server.on('connect', answer('HTTP/1.1 200 OK'));
  const port = await listening(t, server);
  const ways = {
    upgrade: { method: 'POST', headers: { Connection: 'Upgrade', Upgrade: 'tcp' } },
    connect: { method: 'CONNECT', path: 'db:1' },
  };
  for (const [event, options] of Object.entries(ways)) {
    for (const touch of [null, (socket) => socket.pause(), (socket) => socket.on('data', () => {})]) {
      const request = http.request({ host: '127.0.0.1', port, ...options });
      request.end();
      const [, socket] = await once(request, event);
      assert.ok(socket.readableDidRead, 'else this shows nothing');
      touch?.(socket);
      const ingest = repo.ingest(socket);
      for (const send of sent) send();
      sent.clear();
      if (touch) await rejectsWith(ingest, 'ERR_INVALID_ARGUMENT');
      else assertSameBytes(await restored(repo, (await ingest).id), BYTES, event);
      socket.destroy();
    }
  }
});

/** One HTTP/2 frame. */
function frame(type, flags, id, payload = Buffer.alloc(0)) {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(id, 5);
  return Buffer.concat([head, payload]);
}

/** How an HTTP/2 response ends after its first 32,000 bytes, and whether it is complete then. */
const ends = {
  'END_STREAM': { whole: true, end: ({ socket }) => socket.write(frame(0, 1, 1)) },
  'RST_STREAM': { end: ({ socket }) => socket.write(frame(3, 0, 1, Buffer.from([0, 0, 0, 8]))) },
  'GOAWAY and a close': { end: ({ socket }) => socket.end(frame(7, 0, 0, Buffer.from([0, 0, 0, 1, 0, 0, 0, 0]))) },
  'a closed connection': { end: ({ socket }) => socket.end() },
  'session.destroy()': { end: ({ session }) => session.destroy() },
  'response.destroy()': { end: ({ response }) => response.destroy() },
};
for (const [how, { whole = false, end }] of Object.entries(ends)) {
  test(`an HTTP/2 response that ends by ${how} is ${whole ? 'backed up' : 'a failed source'}`, async (t) => {
    const { repo } = await freshRepo(t);
    let socket;
    const data = frame(0, 0, 1, BYTES.subarray(0, 16_000));
    const server = createServer((accepted) => {
      socket = accepted.on('error', () => {});
      accepted.resume();
      accepted.write(frame(4, 0, 0));
    });
    const session = http2.connect(`http://127.0.0.1:${await listening(t, server)}`).on('error', () => {});
    afterwards(t, () => { session.destroy(); socket?.destroy(); });
    const response = session.request({ ':path': '/' });
    response.end();
    await once(session, 'remoteSettings');
    socket.write(Buffer.concat([frame(4, 1, 0), frame(1, 4, 1, Buffer.from([0x88])), data, data]));
    await once(response, 'response');
    const ingest = repo.ingest(response);
    await once(response, 'readable');
    end({ socket, session, response });
    if (whole) assert.equal((await ingest).originalSize, 32_000);
    else await rejectsWith(ingest, 'ERR_SOURCE_FAILED');
    assert.equal((await repo.listSnapshots()).length, whole ? 1 : 0);
  });
}

test('an HTTP/2 upload whose connection is lost is a failed source in the server', async (t) => {
  const { repo } = await freshRepo(t);
  const server = http2.createServer();
  const port = await listening(t, server);
  for (const answerFirst of [false, true]) {
    const session = http2.connect(`http://127.0.0.1:${port}`).on('error', () => {});
    const upload = session.request({ ':method': 'PUT' }, { endStream: false }).on('error', () => {});
    upload.write(BYTES.subarray(0, 1000));
    const [request, response] = await once(server, 'request');
    request.on('error', () => {});
    // Node reports an abort only as long as the other direction is open.
    if (answerFirst) response.end();
    const ingest = repo.ingest(request);
    await once(request, 'readable');
    session.destroy();
    await rejectsWith(ingest, 'ERR_SOURCE_FAILED');
  }
  assert.deepEqual(await repo.listSnapshots(), []);
});

/** A view of ten bytes, and how to shrink its memory to five. */
function shrinking(...bounds) {
  const buffer = new ArrayBuffer(10, { maxByteLength: 100 });
  return [new Uint8Array(buffer, ...bounds).fill(7), () => buffer.resize(5)];
}

test('bytes whose memory shrank are refused', async (t) => {
  const { repo } = await freshRepo(t);
  const [chunk, shrinkChunk] = shrinking(0, 10);
  const head = async function* () { yield 'head'; shrinkChunk(); yield chunk; };
  await rejectsWith(repo.ingest(head()), 'ERR_INVALID_ARGUMENT');
  for (const bounds of [[0, 10], [6, 4], [6], [0], []]) {
    const [bytes, shrink] = shrinking(...bounds);
    const ingest = repo.ingest(bytes);
    shrink();
    // A view that follows its buffer is shorter now; any other one is out of bounds.
    await rejectsWith(ingest, bounds.length === 2 || bounds[0] === 6 ? 'ERR_INVALID_ARGUMENT' : 'ERR_SOURCE_FAILED');
    if (bounds.length === 2) await rejectsWith(repo.ingest(bytes), 'ERR_INVALID_ARGUMENT');
  }
  assert.deepEqual(await repo.listSnapshots(), []);
  for (const empty of [new Uint8Array(0), new Uint8Array(new ArrayBuffer(10, { maxByteLength: 10 }), 10, 0)]) {
    assert.equal((await repo.ingest([empty, 'x'])).originalSize, 1, 'an empty view of living memory is empty');
  }
});

test('a subclass cannot misreport its bytes, nor a Blob those that it did not produce', async (t) => {
  const { repo } = await freshRepo(t);
  class Liar extends Uint8Array {
    get byteLength() { return 3; }
    get length() { throw boom; }
    subarray() { return Buffer.from('lie'); }
  }
  const liar = Liar.from(BYTES);
  for (const source of [liar, [liar], (async function* () { yield liar; })()]) {
    assertSameBytes(await restored(repo, (await repo.ingest(source)).id), BYTES);
  }
  class Short extends Blob {
    stream() { return new Blob(['short']).stream(); }
  }
  const error = await rejectsWith(repo.ingest(new Short([BYTES])), 'ERR_SOURCE_FAILED');
  assert.match(error.message, new RegExp(`5 of ${BYTES.length} bytes`));
});

/**
 * Ways of a source to fail during reading: { source, cause } (the cause is checked by identity, or
 * by its code).
 */
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
  'emits an error without a value': () => {
    const stream = new PassThrough();
    stream.write(BYTES);
    setTimeout(() => stream.emit('error'), 20);
    return { source: stream, cause: undefined };
  },
  'throws a string': () => ({ source: (async function* () { yield BYTES; throw 'a string'; })(), cause: 'a string' }),
};

/**
 * Values that can be thrown and cannot be converted to text, or have a code like those of this
 * package.
 */
const strange = {
  'without a prototype': Object.create(null),
  'with a message that throws': Object.defineProperty(new Error('x'), 'message', { get() { throw boom; } }),
  'a revoked Proxy': (() => { const { proxy, revoke } = Proxy.revocable({}, {}); revoke(); return proxy; })(),
  'a Symbol': Symbol('x'),
  'null': null,
  'an error with a code of ours': Object.assign(new Error('x'), { code: 'ERR_NO_SPACE', retryable: true }),
  'an error with the code of an abort': Object.assign(new Error('x'), { code: 'ABORT_ERR' }),
  'an error of ours': new ContainerArchiveError('x', { code: 'ERR_REPO_LOCKED', retryable: true }),
};

/** Sources that fail outside of their bytes, with `thing`. */
const outside = {
  'an emitted error': (thing) => { const stream = new PassThrough(); stream.write('x'); setImmediate(() => stream.emit('error', thing)); return stream; },
  'a destroyed stream': (thing) => { const stream = new PassThrough(); stream.write('x'); setImmediate(() => stream.destroy(thing)); return stream; },
  'a web stream': (thing) => new ReadableStream({ start(c) { setImmediate(() => c.error(thing)); } }),
  'a generator': (thing) => (async function* () { yield 'x'; throw thing; })(),
  'making the iterator': (thing) => ({ [Symbol.asyncIterator]() { throw thing; } }),
  'making the iterator of a stream': (thing) => Object.assign(new PassThrough(), { iterator() { throw thing; } }),
  'the next getter': (thing) => ({ [Symbol.asyncIterator]: () => ({ get next() { throw thing; } }) }),
  'next()': (thing) => ({ [Symbol.iterator]: () => ({ next() { throw thing; } }) }),
  'the then getter of a step': (thing) => ({ [Symbol.asyncIterator]: () => ({ next: () => ({ get then() { throw thing; } }) }) }),
  'the done getter of a step': (thing) => ({ [Symbol.asyncIterator]: () => ({ next: async () => ({ get done() { throw thing; } }) }) }),
  'the value getter of a step': (thing) => ({ [Symbol.asyncIterator]: () => ({ next: async () => ({ get value() { throw thing; } }) }) }),
  'getReader()': (thing) => ({ getReader() { throw thing; } }),
  'the closed getter of a reader': (thing) => ({ getReader: () => ({ get closed() { throw thing; }, read: () => new Promise(() => {}), releaseLock() { throw thing; }, cancel() { throw thing; } }) }),
  'read() of a reader': (thing) => ({ getReader: () => ({ closed: new Promise(() => {}), read() { throw thing; }, releaseLock() { throw thing; }, cancel() { throw thing; } }) }),
  'on() of a stream': (thing) => Object.assign(new PassThrough(), { on() { throw thing; } }),
};
for (const [what, make] of Object.entries(outside)) {
  test(`a source that fails in ${what} fails the ingest with what it threw as cause, and the others stop`, async (t) => {
    const { repo } = await freshRepo(t);
    for (const [kind, thing] of Object.entries(strange)) {
      // destroy() reads the stack of its error, and null has none
      if (make === outside['a destroyed stream'] && ['a message that throws', 'a revoked Proxy', 'null'].some((each) => kind.endsWith(each))) continue;
      const other = new PassThrough();
      const error = await rejectsWith(repo.ingestMulti([
        { name: 'failing', type: 'x', stream: make(thing) },
        { name: 'other', type: 'x', stream: other },
      ]), 'ERR_SOURCE_FAILED');
      assert.ok(Object.is(error.cause, thing), kind);
      assert.deepEqual([error.item, error.retryable], ['failing', false], kind);
      assert.ok(other.destroyed);
    }
    await settle();
    assert.deepEqual(await repo.listSnapshots(), []);
    assert.equal((await repo.ingest(['x'])).originalSize, 1, 'the handle works on');
  });
}

test('invalid results of an iterator are a failed source', async (t) => {
  const { repo } = await freshRepo(t);
  for (const step of [undefined, null, 7, 'x']) {
    const error = await rejectsWith(repo.ingest({ [Symbol.asyncIterator]: () => ({ next: async () => step }) }), 'ERR_SOURCE_FAILED');
    assert.ok(error.cause instanceof TypeError);
  }
  for (const iterator of [undefined, null, 7, {}]) {
    await rejectsWith(repo.ingest({ [Symbol.asyncIterator]: () => iterator }), 'ERR_SOURCE_FAILED');
  }
});

test('a source that throws while its type is determined is refused, with what it threw as cause', async (t) => {
  const { repo } = await freshRepo(t);
  const throwing = (name, thing, from = {}) => Object.defineProperty(from, name, { get() { throw thing; } });
  for (const [kind, thing] of Object.entries(strange)) {
    const sources = [
      throwing('pipe', thing), throwing('getReader', thing), throwing(Symbol.asyncIterator, thing), throwing(Symbol.iterator, thing),
      throwing('path', thing), throwing('fd', thing), throwing('readableEncoding', thing, new PassThrough()), throwing('destroyed', thing, new PassThrough().end()),
      throwing('locked', thing, new ReadableStream()), throwing('stream', thing, new Blob(['x'])),
      new Proxy({}, { get() { throw thing; } }), new Proxy({}, { getPrototypeOf() { throw thing; } }),
    ];
    for (const [i, source] of sources.entries()) {
      if (i === 7) source.readable = false;
      const error = await rejectsWith(repo.ingest(source), 'ERR_INVALID_ARGUMENT');
      assert.ok(Object.is(error.cause, thing), `${kind}, source ${i}`);
    }
  }
  const { proxy, revoke } = Proxy.revocable({}, {});
  revoke();
  assert.ok((await rejectsWith(repo.ingest(proxy), 'ERR_INVALID_ARGUMENT')).cause instanceof TypeError);
  await rejectsWith(repo.ingest([proxy]), 'ERR_INVALID_ARGUMENT');
});

test('a commitWhen that rejects leaves no snapshot, and the rejection is the cause, whatever its type', async (t) => {
  const { repo } = await freshRepo(t);
  for (const [kind, thing] of Object.entries(strange)) {
    const gates = {
      promise: Promise.reject(thing), function: () => { throw thing; }, 'async function': async () => { throw thing; },
      'then()': { then() { throw thing; } }, 'a promise whose then() was replaced': Object.assign(Promise.resolve(), { then() { throw thing; } }),
    };
    for (const [what, commitWhen] of Object.entries(gates)) {
      const error = await rejectsWith(repo.ingest(['x'], { commitWhen }), 'ERR_SOURCE_FAILED');
      assert.ok(Object.is(error.cause, thing), `${kind}, ${what}`);
    }
    const refused = { get then() { throw thing; } };
    assert.ok(Object.is((await rejectsWith(repo.ingest(['x'], { commitWhen: refused }), 'ERR_INVALID_ARGUMENT')).cause, thing));
    await rejectsWith(repo.ingest(['x'], { unknown: 1, commitWhen: refused }), 'ERR_INVALID_ARGUMENT');
  }
  assert.deepEqual(await repo.listSnapshots(), []);
});

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
  test(`${kind.name}: a retry reuses what a failed ingest stored, also on a new handle`, async (t) => {
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

test('a stream that fails before its turn is no uncaught exception, and ends the ingest at once', async (t) => {
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

test('an error of a source after its end is no uncaught exception', async (t) => {
  const { repo } = await freshRepo(t);
  const stream = new PassThrough({ autoDestroy: false });
  stream.end('x');
  await repo.ingest(stream);
  stream.destroy(boom);
  await sleep(10);
});

test('an endless source that always has bytes ready does not block the event loop', async (t) => {
  const { repo } = await freshRepo(t);
  const controller = new AbortController();
  const endless = (function* () { for (;;) yield Buffer.from('tiny'); })();
  let turns = 0;
  const timer = setInterval(() => { if (++turns === 10) controller.abort(); }, 1);
  await assert.rejects(repo.ingest(endless, { signal: controller.signal }), { name: 'AbortError' });
  clearInterval(timer);
});

test('a stream is read only as far as the engine has room', async (t) => {
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

test('the documented commitWhen detects the failure of a child or a pipe that ends cleanly', async (t) => {
  const { repo } = await freshRepo(t);
  for (const exitCode of [0, 3]) {
    const child = spawn(process.execPath, ['-e', `process.stdout.write('part'); process.exitCode = ${exitCode};`]);
    const ingest = repo.ingest(child.stdout, { commitWhen: once(child, 'close').then(([code]) => assert.equal(code, 0)) });
    if (exitCode === 0) assert.equal((await ingest).originalSize, 4);
    else assert.equal((await rejectsWith(ingest, 'ERR_SOURCE_FAILED')).cause.actual, 3);
  }
  const broken = new PassThrough();
  const gzip = createGzip();
  broken.write('part');
  const ingest = repo.ingest(gzip, { commitWhen: pipeline(broken, gzip) });
  broken.destroy(boom);
  assert.equal((await rejectsWith(ingest, 'ERR_SOURCE_FAILED')).cause, boom);
  assert.equal((await repo.listSnapshots()).length, 1);
});
