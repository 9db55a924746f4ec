// Progress by time: what is reported at each tick of a clock that the tests move, of sources that
// give what the tests let them give.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, closeSync, createReadStream, openSync, readSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { createServer, get, request } from 'node:http';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { KIB, MIB, afterwards, freshRepo, random, rejectsWith, root, settle, temporary, test } from './support/harness.mjs';

const CHUNK = 64 * KIB;
/** More than the engine reads of a file stream in JavaScript. */
const BYTES = random(3 * MIB + 12_345, 90);
const WINDOWS = process.platform === 'win32';

/**
 * Replaces setInterval() and performance.now() during a test: time passes only in tick(). Returns
 * also the intervals that are set, and whether each of them was unreferenced.
 */
function fakeClock(t) {
  const real = [globalThis.setInterval, globalThis.clearInterval];
  const active = new Map();
  let now = Math.ceil(performance.now());
  globalThis.setInterval = (call, ms) => {
    const timer = { due: now + ms, isRef: true, unref: () => { timer.isRef = false; }, call, ms };
    active.set(timer, timer);
    return timer;
  };
  globalThis.clearInterval = (timer) => active.delete(timer);
  Object.defineProperty(performance, 'now', { value: () => now, configurable: true });
  afterwards(t, () => {
    [globalThis.setInterval, globalThis.clearInterval] = real;
    delete performance.now;
  });
  const tick = (times = 1) => {
    for (let i = 0; i < times; i++) {
      now += 100;
      for (const timer of active.keys()) for (; timer.due <= now; timer.due += timer.ms) timer.call();
    }
  };
  return { tick, active };
}

/** A source that gives one chunk for each give(), which resolves once the next one is asked for. */
function pausedSource() {
  let answer;
  let asked;
  let wanted = new Promise((resolve) => { asked = resolve; });
  const reply = (step) => {
    wanted = new Promise((resolve) => { asked = resolve; });
    answer(step);
    return wanted;
  };
  const next = () => new Promise((resolve) => {
    answer = resolve;
    asked();
  });
  return {
    [Symbol.asyncIterator]: () => ({ next }),
    begun: () => wanted,
    give: (bytes) => reply({ done: false, value: bytes }),
    end: () => void reply({ done: true }),
  };
}

/** An ingest of a paused source, with what it has reported: { source, seen, done, clock, repo }. */
async function paused(t, options) {
  const { repo } = await freshRepo(t);
  const clock = fakeClock(t);
  const source = pausedSource();
  const seen = [];
  const done = repo.ingest(source, { onProgress: (progress) => seen.push(progress), ...options });
  done.catch(() => {});
  await source.begun();
  return { repo, clock, source, seen, done };
}

test('progress counts at the source, ten times a second while it gives, and once a second while it does not', async (t) => {
  const { clock, source, seen, done } = await paused(t);
  const reported = () => seen.splice(0).map(({ bytesDone, stalledMs }) => [bytesDone, stalledMs]);
  for (let i = 1; i <= 5; i++) {
    await source.give(random(CHUNK, i));
    clock.tick();
    assert.deepEqual(reported(), [[i * CHUNK, 0]]);
  }
  clock.tick(9);
  assert.deepEqual(reported(), []);
  clock.tick();
  assert.deepEqual(reported(), [[5 * CHUNK, 1000]]);
  clock.tick(25);
  assert.deepEqual(reported(), [[5 * CHUNK, 2000], [5 * CHUNK, 3000]]);
  await source.give(random(1, 6));
  clock.tick();
  assert.deepEqual(reported(), [[5 * CHUNK + 1, 0]]);
  clock.tick(10);
  assert.deepEqual(reported(), [[5 * CHUNK + 1, 1000]]);
  source.end();
  await done;
  assert.deepEqual(reported(), [[5 * CHUNK + 1, 0]]);
});

test('the message states for how long nothing has come, and the rate and the remaining time follow', async (t) => {
  const { clock, source, seen, done } = await paused(t, { expectedSize: 20 * CHUNK });
  for (let i = 1; i <= 10; i++) {
    await source.give(random(CHUNK, i));
    clock.tick();
  }
  const { bytesPerSecond, etaSeconds } = seen.at(-1);
  assert.equal(bytesPerSecond, 10 * CHUNK);
  assert.equal(etaSeconds, 1);
  clock.tick(60);
  const stalled = seen.at(-1);
  assert.match(stalled.message, /^640\.0 KiB read, .*, nothing new for 6 s$/);
  assert.ok(stalled.bytesPerSecond < 10);
  for (let i = 11; i <= 20; i++) await source.give(random(CHUNK, i));
  clock.tick();
  assert.doesNotMatch(seen.at(-1).message, /nothing new/);
  source.end();
  await done;
  assert.deepEqual([seen.at(-1).etaSeconds, seen.at(-1).stalledMs], [0, 0]);
  // the average: all bytes in the 7.1 seconds that have passed
  assert.equal(seen.at(-1).bytesPerSecond, Math.round((20 * CHUNK) / 7.1));
});

test('a percentage has one decimal, is at most 99.9 until the end, and 100 once', async (t) => {
  const size = 3001;
  const { clock, source, seen, done } = await paused(t, { expectedSize: size });
  for (const length of [1, 2, 999, 1000, 998, 1]) {
    await source.give(Buffer.alloc(length));
    clock.tick();
  }
  clock.tick(10);
  source.end();
  await done;
  assert.deepEqual(seen.map(({ percentage }) => percentage), [0, 0, 33.3, 66.7, 99.9, 99.9, 99.9, 100]);
  assert.deepEqual(seen.map(({ bytesTotal }) => bytesTotal), seen.map(() => size));
});

test('an ingest waits for its gate with progress that stalls, and no report follows its end', async (t) => {
  let open;
  const { clock, source, seen, done } = await paused(t, { commitWhen: new Promise((resolve) => { open = resolve; }) });
  await source.give(random(CHUNK, 1));
  source.end();
  clock.tick();
  assert.deepEqual(seen.map(({ stalledMs, percentage }) => [stalledMs, percentage]), [[0, null]]);
  clock.tick(20);
  assert.deepEqual(seen.slice(1).map(({ stalledMs }) => stalledMs), [1000, 2000]);
  open();
  await done;
  assert.equal(seen.at(-1).percentage, 100);
  const count = seen.length;
  clock.tick(30);
  await settle();
  assert.equal(seen.length, count);
});

test('a timer is unreferenced, and cleared when its ingest ends, fails, is aborted or closed', async (t) => {
  const ends = {
    ended: ({ source }) => source.end(),
    failed: ({ source }) => source.give(7),
    aborted: ({ controller }) => controller.abort(new Error('enough')),
    closed: ({ repo }) => repo.close(),
  };
  for (const [how, end] of Object.entries(ends)) {
    await t.test(how, async (t) => {
      const controller = new AbortController();
      const ingest = { controller, ...await paused(t, { signal: controller.signal }) };
      assert.deepEqual([...ingest.clock.active.keys()].map(({ isRef, ms }) => [isRef, ms]), [[false, 100]]);
      await ingest.source.give(random(CHUNK, 1));
      const ended = end(ingest);
      const { status } = (await Promise.allSettled([ingest.done]))[0];
      assert.equal(status, how === 'ended' ? 'fulfilled' : 'rejected');
      if (how === 'closed') await ended;
      assert.equal(ingest.clock.active.size, 0);
    });
  }
  // refused before it began
  const { repo } = await freshRepo(t);
  await repo.close();
  const clock = fakeClock(t);
  await rejectsWith(repo.ingest(['x']), 'ERR_CLOSED');
  assert.equal(clock.active.size, 0);
});

/** The report of an ingest whose sources have ended, while its gate is closed. */
async function beforeCommit(clock, call) {
  const seen = [];
  let open;
  const gate = new Promise((resolve) => { open = resolve; });
  let done;
  await new Promise((resolve, reject) => {
    const commitWhen = () => {
      resolve();
      return gate;
    };
    done = call({ onProgress: (progress) => seen.push(progress), commitWhen });
    done.catch(reject);
  });
  // as many as there are until a report without any movement
  clock.tick(10);
  const reported = seen.at(-1);
  open();
  await done;
  return reported;
}

/** A server whose answers have these headers and the bytes. */
async function serving(t, headers) {
  const server = createServer((_, response) => {
    response.writeHead(200, headers);
    response.end(BYTES);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  afterwards(t, () => server.close());
  const { port } = server.address();
  return new Promise((resolve, reject) => get({ port, host: '127.0.0.1', agent: false }, resolve).on('error', reject));
}

test('the size of what is known is the total, and of nothing else', async (t) => {
  const { repo } = await freshRepo(t);
  const path = join(temporary(t), 'file');
  writeFileSync(path, BYTES);
  const opened = (position) => {
    const fd = openSync(path);
    afterwards(t, () => closeSync(fd));
    if (position > 0) readSync(fd, Buffer.alloc(position));
    return fd;
  };
  const early = createReadStream(path);
  await once(early, 'open');
  const handle = await open(path);
  const all = BYTES.length;
  const byOffset = process.platform === 'linux';
  const sources = {
    'a file stream': [createReadStream(path), all],
    'one that has opened its file': [early, all],
    'one with start and end': [createReadStream(path, { start: 1000, end: 2_000_000 }), 1_999_001],
    'one with an end past the file': [createReadStream(path, { start: 1000, end: 9 * MIB }), all - 1000],
    'one with a start past the file': [createReadStream(path, { start: 9 * MIB }), 0],
    'one of a descriptor': [createReadStream('', { fd: opened(5000), autoClose: false }), byOffset ? all - 5000 : null],
    'one of a descriptor with a start': [createReadStream('', { fd: opened(5000), autoClose: false, start: 70 }), all - 70],
    'one of a FileHandle': [handle.createReadStream(), byOffset ? all : null],
    '{ path }': [{ path }, all],
    '{ fd }': [{ fd: opened(5000) }, WINDOWS ? null : all - 5000],
    'a Buffer': [BYTES, all],
    'a Blob': [new Blob([BYTES]), all],
    'an HTTP response with a length': [await serving(t, { 'content-length': all }), all],
    'an HTTP response without a length': [await serving(t, {}), null],
    'an encoded HTTP response': [await serving(t, { 'content-length': all, 'content-encoding': 'br' }), null],
    'another stream': [Readable.from([BYTES]), null],
    'a generator': [(function* () { yield BYTES; })(), null],
  };
  const clock = fakeClock(t);
  for (const [what, [source, total]] of Object.entries(sources)) {
    const { percentage, bytesTotal, bytesDone } = await beforeCommit(clock, (options) => repo.ingest(source, options));
    const empty = what.endsWith('start past the file');
    assert.equal(bytesTotal, total, what);
    if (total !== null && !empty) assert.deepEqual([bytesDone, percentage], [total, 99.9], what);
    if (total === null) assert.equal(percentage, null, what);
  }
  const { percentage, bytesTotal } = await beforeCommit(clock, (options) => (
    repo.ingest(Readable.from([BYTES]), { ...options, expectedSize: all })));
  assert.deepEqual([percentage, bytesTotal], [99.9, all]);
});

test('a request to a server has the size of its content-length', async (t) => {
  const { repo } = await freshRepo(t);
  const totals = [];
  const server = createServer(async (message, response) => {
    const { originalSize } = await repo.ingest(message, { onProgress: ({ bytesTotal }) => totals.push(bytesTotal) });
    response.end(String(originalSize));
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  afterwards(t, () => server.close());
  const upload = request({ port: server.address().port, host: '127.0.0.1', method: 'PUT', agent: false, headers: { 'content-length': BYTES.length } });
  upload.end(BYTES);
  const [response] = await once(upload, 'response');
  response.resume();
  await once(response, 'end');
  assert.deepEqual([...new Set(totals)], [BYTES.length]);
});

test('a file that grows while it is read, or is shorter than it was, has a percentage all the same', async (t) => {
  for (const change of [(path) => appendFileSync(path, random(MIB, 2)), (path) => writeFileSync(path, 'short')]) {
    for (const sourceOf of [createReadStream, (path) => ({ path })]) {
      const { repo } = await freshRepo(t);
      const path = join(temporary(t), 'file');
      writeFileSync(path, random(MIB, 1));
      const clock = fakeClock(t);
      const first = pausedSource();
      const items = [{ name: 'first', stream: first, expectedSize: 0 }, { name: 'second', stream: sourceOf(path) }];
      const seen = [];
      const reported = beforeCommit(clock, ({ onProgress, ...options }) => (
        repo.ingestMulti(items, { ...options, onProgress: (progress) => { seen.push(progress); onProgress(progress); } })));
      await first.begun();
      change(path);
      first.end();
      const { percentage, bytesDone, bytesTotal } = await reported;
      const size = change.toString().includes('append') ? 2 * MIB : 5;
      assert.equal(bytesDone, size);
      assert.equal(bytesTotal, Math.max(size, MIB));
      assert.ok(percentage <= 99.9 && percentage >= 0);
      assert.deepEqual([seen.at(-1).bytesDone, seen.at(-1).bytesTotal], [size, size]);
      assert.equal(seen.filter((progress) => progress.percentage === 100).length, 1);
    }
  }
});

test('every operation reports rate, remaining time and stalls, and 100 % once, at its end', async (t) => {
  const { repo } = await freshRepo(t);
  const clock = fakeClock(t);
  const { id } = await repo.ingest(random(4 * MIB, 3));
  await repo.ingest(random(4 * MIB, 4));
  const calls = {
    ingest: (options) => repo.ingest(random(4 * MIB, 5), options),
    restore: (options) => repo.restoreToFile(id, { ...options, path: join(temporary(t), 'file') }),
    verify: (options) => repo.verify({ ...options, level: 'full' }),
    repair: (options) => repo.repair(options),
    prune: (options) => repo.prune({ keepLast: 1 }, options),
  };
  for (const [operation, call] of Object.entries(calls)) {
    const seen = [];
    const ticking = setTimeout(function again() { clock.tick(); ticking.refresh(); }, 5);
    await call({ onProgress: (progress) => seen.push(progress) });
    clearTimeout(ticking);
    assert.equal(clock.active.size, 0, operation);
    for (const progress of seen) {
      assert.equal(progress.operation, operation);
      for (const name of ['bytesDone', 'bytesPerSecond', 'stalledMs', 'elapsedMs']) assert.ok(Number.isInteger(progress[name]) && progress[name] >= 0, name);
      assert.ok(progress.etaSeconds === null || Number.isInteger(progress.etaSeconds));
      assert.ok(progress.percentage === null || Math.abs(progress.percentage * 10 - Math.round(progress.percentage * 10)) < 1e-9);
      assert.ok(progress.bytesTotal === null || progress.bytesDone <= progress.bytesTotal);
    }
    const last = seen.at(-1);
    assert.deepEqual([last.percentage, last.etaSeconds, last.stalledMs], [100, 0, 0], operation);
    assert.ok(seen.slice(0, -1).every(({ percentage }) => percentage === null || percentage <= 99.9), operation);
  }
});

test('the timer of progress does not keep a process alive', (t) => {
  const script = `
    const { ContainerArchive } = require(${JSON.stringify(root)});
    const set = setInterval;
    globalThis.setInterval = (...given) => (globalThis.timer = set(...given));
    (async () => {
      const repo = await ContainerArchive.init(${JSON.stringify(join(temporary(t), 'repo'))});
      let shown = 0;
      await repo.ingest((async function* () {
        yield 'x';
        // the native side keeps the process alive while an ingest runs
        while (shown === 0) await new Promise(setImmediate);
      })(), { onProgress: () => shown++ });
      console.log(shown > 0, timer.hasRef(), timer._destroyed);
    })();`;
  assert.equal(execFileSync(process.execPath, ['-e', script], { encoding: 'utf8' }), 'true false true\n');
});
