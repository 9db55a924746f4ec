// The conditions of a commit: expectedSize and commitWhen. Nothing is published before all sources
// have ended and commitWhen is fulfilled, and no lock is held until then.

import assert from 'node:assert/strict';
import { createServer, get } from 'node:http';
import { PassThrough, Readable } from 'node:stream';
import {
  ENCRYPTED, MIB, PLAIN, afterwards, assertSameBytes, freshRepo, pieces, random, rejectsWith, repoFiles, reopen, restored, settle, test,
} from './support/harness.mjs';

const BYTES = random(3 * MIB, 70);
const boom = new Error('boom');

/** Fails unless the repository contains no snapshot, nor anything that could become one. */
async function assertNothingPublished(repo, path) {
  assert.deepEqual(await repo.listSnapshots(), []);
  assert.deepEqual(repoFiles(path, /^snapshots\//), []);
  // such a record is written when the copy of a manifest may have been written
  assert.deepEqual(repoFiles(path, /^packs\/parity\/records\//), []);
}

const kinds = {
  Readable: (bytes) => Readable.from(pieces(bytes, 100_000)),
  'web stream': (bytes) => Readable.toWeb(Readable.from(pieces(bytes, 100_000))),
  generator: (bytes) => pieces(bytes, 100_000),
  Buffer: (bytes) => bytes,
  Blob: (bytes) => new Blob([bytes]),
};

for (const kind of [PLAIN, ENCRYPTED]) {
  test(`${kind.name}: a source of another size than expected leaves no snapshot`, async (t) => {
    const { repo, path } = await freshRepo(t, kind);
    for (const [what, make] of Object.entries(kinds)) {
      for (const expectedSize of [0, 1, BYTES.length - 1, BYTES.length + 1, Number.MAX_SAFE_INTEGER]) {
        const error = await rejectsWith(repo.ingest(make(BYTES), { expectedSize }), 'ERR_SOURCE_FAILED');
        assert.equal(error.item, 'data', what);
        assert.ok(error.message.includes(String(expectedSize)), error.message);
        assert.ok(error.hint);
        const streams = [Readable.from(['whole']), make(BYTES), Readable.from(['later'])];
        const items = streams.map((stream, i) => ({ name: `item ${i}`, type: 'x', stream, expectedSize: i === 1 ? expectedSize : 5 }));
        assert.equal((await rejectsWith(repo.ingestMulti(items), 'ERR_SOURCE_FAILED')).item, 'item 1');
        for (const i of [0, 2]) assert.ok(streams[i].destroyed || streams[i].readableEnded);
      }
    }
    await assertNothingPublished(repo, path);
    for (const make of Object.values(kinds)) {
      const { id } = await repo.ingest(make(BYTES), { expectedSize: BYTES.length });
      assertSameBytes(await restored(repo, id), BYTES);
    }
    assert.equal((await repo.ingest([], { expectedSize: 0 })).originalSize, 0);
  });
}

test('a source that exceeds its expected size is ended at once', async (t) => {
  const { repo } = await freshRepo(t);
  const endless = new Readable({ highWaterMark: MIB, read() { this.push(Buffer.alloc(MIB)); } });
  await rejectsWith(repo.ingest(endless, { expectedSize: 3 * MIB }), 'ERR_SOURCE_FAILED');
  assert.ok(endless.destroyed);
});

test('with an expected size, progress has a percentage', async (t) => {
  const { repo } = await freshRepo(t, PLAIN, { compression: { algorithm: 'zstd', level: 12 } });
  const seen = [];
  await repo.ingest(kinds.Readable(random(24 * MIB, 71)), { expectedSize: 24 * MIB, onProgress: (p) => seen.push(p) });
  for (const { bytesTotal, bytesDone, percentage } of seen) {
    assert.equal(bytesTotal, 24 * MIB);
    const exact = (bytesDone / bytesTotal) * 100;
    assert.ok(percentage <= exact && percentage > exact - 0.2, `${percentage} of ${exact}`);
  }
});

for (const kind of [PLAIN, ENCRYPTED]) {
  test(`${kind.name}: nothing is published before commitWhen is fulfilled, and no lock is held until then`, async (t) => {
    const { repo, path } = await freshRepo(t, kind);
    let open;
    const gate = new Promise((resolve) => { open = resolve; });
    let done = false;
    const ingest = repo.ingest(BYTES, { commitWhen: gate }).finally(() => { done = true; });
    // Every call that takes a lock runs without waiting for the ingest.
    const other = await reopen(t, path, kind, { lockWaitMs: 0 });
    const { id } = await other.ingest(['other']);
    await other.reindex();
    await other.repair();
    await settle();
    assert.equal(done, false);
    assert.deepEqual((await other.listSnapshots()).map((snapshot) => snapshot.id), [id]);
    assert.deepEqual(repoFiles(path, /^packs\/parity\/records\//), []);
    open();
    const snapshot = await ingest;
    assertSameBytes(await restored(other, snapshot.id), BYTES);
  });

  test(`${kind.name}: a commitWhen that rejects leaves no snapshot and is the cause`, async (t) => {
    const { repo, path } = await freshRepo(t, kind);
    for (const cause of [boom, 'a string', undefined]) {
      for (const commitWhen of [
        Promise.reject(cause),
        new Promise((resolve, reject) => { setTimeout(() => reject(cause), 30); }),
        () => Promise.reject(cause),
        () => { throw cause; },
        { then: (resolve, reject) => reject(cause) },
      ]) {
        const source = Readable.from(pieces(BYTES, 100_000));
        const error = await rejectsWith(repo.ingest(source, { commitWhen }), 'ERR_SOURCE_FAILED');
        assert.equal(error.cause, cause);
        assert.ok(error.hint);
        assert.ok(source.destroyed);
      }
    }
    await assertNothingPublished(repo, path);
    assert.ok((await repo.ingest(BYTES)).reusedChunks > 0, 'what was stored is reused');
  });
}

test('a commitWhen that rejects ends an ingest whose source stalls', async (t) => {
  const { repo } = await freshRepo(t);
  const stalled = [new PassThrough(), new PassThrough()];
  const commitWhen = new Promise((resolve, reject) => { setTimeout(() => reject(boom), 20); });
  const items = stalled.map((stream, i) => ({ name: `${i}`, type: 'x', stream }));
  assert.equal((await rejectsWith(repo.ingestMulti(items, { commitWhen }), 'ERR_SOURCE_FAILED')).cause, boom);
  for (const stream of stalled) assert.ok(stream.destroyed);
});

test('commitWhen is called once, when every source has ended; a thenable is subscribed to once', async (t) => {
  const { repo } = await freshRepo(t);
  const streams = ['a', 'b', 'c'].map((text) => Readable.from([text]));
  const calls = [];
  await repo.ingestMulti(streams.map((stream, i) => ({ name: `${i}`, type: 'x', stream })), {
    commitWhen: (...args) => { calls.push([args.length, ...streams.map((stream) => stream.readableEnded)]); },
  });
  assert.deepEqual(calls, [[0, true, true, true]]);
  let asked = 0;
  await repo.ingest(['x'], { commitWhen: { then: (resolve) => { asked++; resolve(); } } });
  assert.equal(asked, 1);
  // Its value has no effect: only how it settles.
  for (const commitWhen of [Promise.resolve(false), () => null, async () => new Error('not thrown')]) await repo.ingest(['x'], { commitWhen });
  assert.equal((await repo.listSnapshots()).length, 5);
  await rejectsWith(repo.ingest(Readable.from((function* () { throw boom; })()), { commitWhen: () => assert.fail('called') }), 'ERR_SOURCE_FAILED');
});

test('an abort and close() end the wait for a commitWhen that never settles', async (t) => {
  const { repo, path } = await freshRepo(t);
  const never = new Promise(() => {});
  for (const commitWhen of [never, () => never]) {
    const controller = new AbortController();
    const ingest = repo.ingest(BYTES, { commitWhen, signal: controller.signal });
    setTimeout(() => controller.abort(boom), 50);
    await assert.rejects(ingest, (error) => error === boom);
  }
  await assertNothingPublished(repo, path);
  const closed = rejectsWith(repo.ingest(BYTES, { commitWhen: never }), 'ERR_CLOSED');
  await settle();
  await repo.close();
  await closed;
});

test('the commitWhen of a call that fails for another reason is no unhandled rejection', async (t) => {
  const { repo } = await freshRepo(t);
  const rejecting = () => new Promise((resolve, reject) => { setTimeout(() => reject(boom), 5); });
  await rejectsWith(repo.ingest('no source', { commitWhen: rejecting() }), 'ERR_INVALID_ARGUMENT');
  await rejectsWith(repo.ingest(['x'], { commitWhen: rejecting(), tag: 1 }), 'ERR_INVALID_ARGUMENT');
  await assert.rejects(repo.ingest(['x'], { commitWhen: rejecting(), signal: AbortSignal.abort(boom) }), (error) => error === boom);
  await repo.close();
  await rejectsWith(repo.ingest(['x'], { commitWhen: rejecting() }), 'ERR_CLOSED');
  await new Promise((resolve) => setTimeout(resolve, 20));
});

test('an invalid size or commitWhen is refused, and the stream is left untouched', async (t) => {
  const { repo } = await freshRepo(t);
  const stream = Readable.from([BYTES]);
  for (const expectedSize of [-1, 1.5, NaN, Infinity, 2 ** 53, '3', null, 3n]) {
    await rejectsWith(repo.ingest(stream, { expectedSize }), 'ERR_INVALID_ARGUMENT');
    await rejectsWith(repo.ingestMulti([{ name: 'a', type: 'x', stream, expectedSize }]), 'ERR_INVALID_ARGUMENT');
  }
  for (const commitWhen of [true, null, 'x', {}, 1]) {
    await rejectsWith(repo.ingest(stream, { commitWhen }), 'ERR_INVALID_ARGUMENT');
    await rejectsWith(repo.ingestMulti([{ name: 'a', type: 'x', stream }], { commitWhen }), 'ERR_INVALID_ARGUMENT');
  }
  await rejectsWith(repo.ingestMulti([{ name: 'a', type: 'x', stream }], { expectedSize: 1 }), 'ERR_INVALID_ARGUMENT');
  assertSameBytes(await restored(repo, (await repo.ingest(stream)).id), BYTES);
});

test('a closed handle destroys the streams that are passed to it', async (t) => {
  const { repo } = await freshRepo(t);
  await repo.close();
  const streams = [new PassThrough(), new PassThrough()];
  await rejectsWith(repo.ingest(streams[0]), 'ERR_CLOSED');
  await rejectsWith(repo.ingestMulti([{ name: 'a', type: 'x', stream: streams[1] }]), 'ERR_CLOSED');
  for (const stream of streams) assert.ok(stream.destroyed);
});

test('one of several streams that was destroyed, fails, closes or is aborted, at any position, ends all', async (t) => {
  const { repo, path } = await freshRepo(t);
  const ways = {
    'errored before': (stream) => stream.on('error', () => {}).destroy(boom),
    'destroyed before': (stream) => stream.destroy(),
    'destroyed with an error': (stream) => setTimeout(() => stream.destroy(boom), 20),
    'destroyed without an error': (stream) => setTimeout(() => stream.destroy(), 20),
    'emits an error': (stream) => setTimeout(() => stream.emit('error', boom), 20),
  };
  for (const [way, fail] of Object.entries(ways)) {
    for (const failing of [0, 1, 2]) {
      const streams = [0, 1, 2].map(() => new PassThrough());
      for (const [i, stream] of streams.entries()) {
        if (i < failing) stream.end(BYTES.subarray(0, 1000));
        else stream.write(BYTES.subarray(0, 1000));
      }
      fail(streams[failing]);
      const items = streams.map((stream, i) => ({ name: `${i}`, type: 'x', stream }));
      const error = await rejectsWith(repo.ingestMulti(items), 'ERR_SOURCE_FAILED');
      assert.equal(error.item, `${failing}`, way);
      if (/without|destroyed before/.test(way)) assert.equal(error.cause.code, 'ERR_STREAM_PREMATURE_CLOSE', way);
      else assert.equal(error.cause, boom, way);
      for (const stream of streams) assert.ok(stream.destroyed || stream.readableEnded, way);
    }
  }
  await assertNothingPublished(repo, path);
});

test('an interrupted response of a server leaves no snapshot', async (t) => {
  const { repo, path } = await freshRepo(t);
  for (const headers of [{}, { 'content-length': 2 * BYTES.length }]) {
    const server = createServer((request, response) => {
      response.writeHead(200, headers);
      response.write(BYTES, () => setTimeout(() => response.destroy(), 20));
    });
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    afterwards(t, () => server.close());
    const url = `http://127.0.0.1:${server.address().port}/`;
    const message = await new Promise((resolve, reject) => get(url, resolve).on('error', reject));
    await rejectsWith(repo.ingest(message), 'ERR_SOURCE_FAILED');
    await rejectsWith(repo.ingest((await fetch(url)).body), 'ERR_SOURCE_FAILED');
  }
  await assertNothingPublished(repo, path);
});
