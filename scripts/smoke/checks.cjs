'use strict';
// The smoke suite of an installed package: `node checks.cjs` in a directory from which
// `require('@serve.zone/containerarchive')` finds it. Node >= 20.9, Bun and Deno; nothing but their
// modules. One line for each check, "N/N" at the end; status 1 when one fails.

const assert = require('node:assert/strict');
const { createHash } = require('node:crypto');
const fs = require('node:fs');
const { tmpdir } = require('node:os');
const { join } = require('node:path');
const { Readable } = require('node:stream');
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');
const { ContainerArchive, ContainerArchiveError } = require('@serve.zone/containerarchive');

const PASSPHRASE = 'smoke test';
/** The cheapest key derivation that a repository may have. */
const KDF = { memory: 19456, time: 2, lanes: 1 };
/** Long enough for several chunks and packs, and not a multiple of anything. */
const SIZE = 3_000_001;

/** Bytes that do not compress; the same for the same seed. */
function bytes(length, seed) {
  const parts = [];
  for (let at = 0; at < length; at += 32) parts.push(createHash('sha256').update(`${seed} ${at}`).digest());
  return Buffer.concat(parts).subarray(0, length);
}

function* pieces(data, size = 65_536) {
  for (let at = 0; at < data.length; at += size) yield data.subarray(at, at + size);
}

async function collect(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts);
}

function assertSame(actual, expected, what) {
  assert.equal(actual.length, expected.length, `length of ${what}`);
  assert.ok(Buffer.compare(actual, expected) === 0, `the bytes of ${what}`);
}

/** Fails unless a promise rejects with this code. */
async function rejects(promise, code) {
  const error = await promise.then(() => assert.fail(`expected ${code}`), (thrown) => thrown);
  assert.equal(error.code, code, error.stack ?? error.message);
  if (code !== 'ABORT_ERR') assert.ok(error instanceof ContainerArchiveError);
  return error;
}

/** A source that never ends. */
async function* endless() {
  for (let i = 0; ; i++) {
    yield bytes(4096, i);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** A command that writes `text` and exits with `code`. */
function printing(text, code = 0) {
  if (process.platform === 'win32') return ['cmd', '/d', '/s', '/c', `echo ${text}& exit ${code}`];
  return ['sh', '-c', `echo ${text}; exit ${code}`];
}

const settings = { passphrase: PASSPHRASE, kdf: KDF, compression: 'zstd' };

/** The checks, in order; each uses what those before it left in `state`. */
const CHECKS = {
  async 'init of an encrypted repository'(state) {
    state.archive = await ContainerArchive.init(state.path, settings);
    assert.match(state.archive.repositoryId, /^[0-9a-f]+$/);
  },

  async 'every kind of source in one snapshot'(state) {
    const { folder } = state;
    const data = bytes(SIZE, 'data');
    fs.writeFileSync(join(folder, 'file'), data);
    state.fd = fs.openSync(join(folder, 'file'), 'r');
    const text = 'a text\n'.repeat(1000);
    const sources = {
      'node stream': [Readable.from(pieces(data)), data],
      'web stream': [new ReadableStream({ start(controller) {
        for (const piece of pieces(data)) controller.enqueue(piece);
        controller.close();
      } }), data],
      'async iterable': [(async function* () { yield* pieces(data, 100_000); })(), data],
      'iterable of strings': [text.split(/(?<=\n)/), Buffer.from(text)],
      'byte array': [new Uint8Array(data), data],
      blob: [new Blob([data]), data],
      path: [{ path: join(folder, 'file') }, data],
      descriptor: [{ fd: state.fd }, data],
      'file stream': [fs.createReadStream(join(folder, 'file')), data],
      empty: [Buffer.alloc(0), Buffer.alloc(0)],
    };
    state.expected = Object.fromEntries(Object.entries(sources).map(([name, [, content]]) => [name, content]));
    const items = Object.entries(sources).map(([name, [stream]]) => ({ name, type: 'data', stream }));
    state.snapshot = await state.archive.ingestMulti(items, { tags: { smoke: 'yes' }, concurrency: 2 });
    fs.closeSync(state.fd);
    assert.deepEqual(state.snapshot.items.map(({ name, size }) => [name, size]), Object.entries(state.expected).map(([name, { length }]) => [name, length]));
    assert.ok(state.snapshot.reusedChunks > state.snapshot.newChunks, 'equal streams are stored once');
  },

  async 'restore of every item'({ archive, snapshot, expected }) {
    for (const [item, content] of Object.entries(expected)) {
      assertSame(await collect(await archive.restore(snapshot.id, { item })), content, item);
    }
  },

  async 'restore of a whole snapshot'({ archive, snapshot, expected }) {
    assertSame(await collect(await archive.restore(snapshot.id)), Buffer.concat(Object.values(expected)), 'all items');
  },

  async 'restore of a range'({ archive, snapshot, expected }) {
    const range = { start: 1_000_003, end: 2_000_001 };
    assertSame(await collect(await archive.restore('latest', { item: 'path', range })), expected.path.subarray(range.start, range.end), 'the range');
    await rejects(archive.restore(snapshot.id, { item: 'path', range: { start: SIZE + 1 } }), 'ERR_RANGE');
  },

  async 'restore to a file'({ archive, snapshot, expected, folder }) {
    const path = join(folder, 'restored');
    await archive.restoreToFile(snapshot.id, { path, item: 'blob' });
    assertSame(fs.readFileSync(path), expected.blob, 'the file');
    await rejects(archive.restoreToFile(snapshot.id, { path, item: 'blob' }), 'ERR_FILE_EXISTS');
  },

  async 'a second backup stores nothing new, with progress and events'({ archive, expected }) {
    const phases = [];
    let completed = 0;
    const subscription = archive.on('ingest:complete', () => { completed += 1; });
    const snapshot = await archive.ingest(Readable.from(pieces(expected.path)), { expectedSize: SIZE, onProgress: (each) => phases.push(each.percentage) });
    subscription.unsubscribe();
    assert.equal(snapshot.newChunks, 0);
    assert.equal(completed, 1);
    assert.equal(phases.at(-1), 100);
  },

  async 'a command'({ archive }) {
    const snapshot = await archive.ingestCommand({ command: printing('hello'), name: 'greeting' });
    assert.equal(String(await collect(await archive.restore(snapshot.id))).trim(), 'hello');
  },

  async 'a command that fails leaves no snapshot'({ archive }) {
    const before = (await archive.listSnapshots()).length;
    const error = await rejects(archive.ingestCommand({ command: printing('hello', 3), name: 'greeting' }), 'ERR_SOURCE_FAILED');
    assert.equal(error.exitCode, 3);
    assert.equal((await archive.listSnapshots()).length, before);
  },

  async 'a source that fails leaves no snapshot'({ archive }) {
    const before = (await archive.listSnapshots()).length;
    const failing = (async function* () { yield bytes(1000, 'x'); throw new Error('broken source'); })();
    const { cause } = await rejects(archive.ingest(failing), 'ERR_SOURCE_FAILED');
    assert.equal(cause.message, 'broken source');
    await rejects(archive.ingest(bytes(1000, 'x'), { expectedSize: 1001 }), 'ERR_SOURCE_FAILED');
    assert.equal((await archive.listSnapshots()).length, before);
  },

  async 'abort of an ingest and of a restore'({ archive, snapshot }) {
    const before = (await archive.listSnapshots()).length;
    const abort = new AbortController();
    const started = archive.ingest(endless(), { signal: abort.signal, onProgress: () => abort.abort() });
    setTimeout(() => abort.abort(), 2000).unref();
    assert.equal((await started.then(() => assert.fail('not aborted'), (thrown) => thrown)).name, 'AbortError');
    assert.equal((await archive.listSnapshots()).length, before);
    const second = new AbortController();
    const stream = await archive.restore(snapshot.id, { signal: second.signal });
    second.abort();
    await assert.rejects(collect(stream), { name: 'AbortError' });
  },

  async 'error codes'({ archive, path, folder }) {
    await rejects(ContainerArchive.open(path, { passphrase: 'wrong' }), 'ERR_WRONG_PASSPHRASE');
    await rejects(ContainerArchive.open(path), 'ERR_PASSPHRASE_REQUIRED');
    await rejects(ContainerArchive.open(join(folder, 'none')), 'ERR_REPO_NOT_FOUND');
    await rejects(ContainerArchive.init(path, settings), 'ERR_REPO_EXISTS');
    await rejects(archive.restore('0123456789abcdef'), 'ERR_SNAPSHOT_NOT_FOUND');
    await rejects(archive.restore('latest', { item: 'none' }), 'ERR_ITEM_NOT_FOUND');
    await rejects(archive.ingest(bytes(1, 'x'), { unknown: true }), 'ERR_INVALID_ARGUMENT');
    await rejects(archive.prune({ keepLst: 1 }), 'ERR_INVALID_POLICY');
  },

  async 'a second handle reads while the first one is open'({ path, snapshot, expected }) {
    const reader = await ContainerArchive.open(path, { passphrase: PASSPHRASE, readOnly: true });
    assertSame(await collect(await reader.restore(snapshot.id, { item: 'blob' })), expected.blob, 'blob');
    await rejects(reader.ingest(bytes(1, 'x')), 'ERR_READ_ONLY');
    await reader.close();
  },

  async 'a worker thread backs up'({ archive, path }) {
    const id = await inWorker({ task: 'ingest', path });
    assertSame(await collect(await archive.restore(id)), bytes(SIZE, 'worker'), 'what the worker stored');
  },

  async 'a worker that is terminated leaves no snapshot, and blocks nothing'({ archive, path }) {
    const before = (await archive.listSnapshots()).length;
    await inWorker({ task: 'endless', path }, 'terminate');
    assert.equal((await archive.listSnapshots()).length, before);
    await archive.ingest(bytes(1000, 'after the worker'));
  },

  async 'verify reads and compares everything'({ archive }) {
    for (const level of ['quick', 'standard', 'full']) {
      const { ok, errors, stats } = await archive.verify({ level });
      assert.ok(ok, JSON.stringify(errors));
      assert.ok(stats.packsChecked > 0);
    }
  },

  async 'prune keeps what its policy keeps'({ archive, snapshot, expected }) {
    const plan = await archive.planPrune({ keepLast: 1, keepIds: [snapshot.id] });
    const result = await archive.prune({ keepLast: 1, keepIds: [snapshot.id] });
    assert.equal(result.removedSnapshots, plan.remove.length);
    assert.ok(result.removedSnapshots > 0);
    assert.equal((await archive.listSnapshots()).length, 2);
    assertSame(await collect(await archive.restore(snapshot.id, { item: 'path' })), expected.path, 'a kept snapshot');
    assert.ok((await archive.verify({ level: 'full' })).ok);
  },

  async 'a damaged pack is found and repaired'({ archive, path, snapshot, expected }) {
    const packs = fs.readdirSync(path, { recursive: true }).map(String).filter((name) => /packs[\\/]data[\\/].*\.pack$/.test(name));
    const [damaged] = packs.map((name) => join(path, name)).sort((a, b) => fs.statSync(b).size - fs.statSync(a).size);
    const content = fs.readFileSync(damaged);
    content.fill(0, 100_000, 105_000);
    fs.chmodSync(damaged, 0o600);
    fs.writeFileSync(damaged, content);
    assert.equal((await archive.verify({ level: 'full' })).ok, false);
    await archive.repair();
    assert.ok((await archive.verify({ level: 'full' })).ok);
    assertSame(await collect(await archive.restore(snapshot.id)), Buffer.concat(Object.values(expected)), 'the repaired snapshot');
  },

  async 'close, and reopen'({ archive, path, snapshot, expected }) {
    await archive.close();
    await rejects(archive.listSnapshots(), 'ERR_CLOSED');
    const again = await ContainerArchive.openOrInit(path, settings);
    assertSame(await collect(await again.restore(snapshot.id.slice(0, 8), { item: 'descriptor' })), expected.descriptor, 'descriptor');
    await again.close();
  },
};

/** What a worker thread does: it posts the id of its snapshot, or that its endless ingest runs. */
async function workerMain({ task, path }) {
  const archive = await ContainerArchive.open(path, { passphrase: PASSPHRASE });
  if (task === 'ingest') {
    const { id } = await archive.ingest(Readable.from(pieces(bytes(SIZE, 'worker'))));
    await archive.close();
    parentPort.postMessage(id);
  } else {
    let said = false;
    await archive.ingest(endless(), { onProgress: () => {
      if (!said) parentPort.postMessage('running');
      said = true;
    } });
  }
}

/**
 * Runs this file in a worker, and waits for its message; then for its end, or ends it.
 */
async function inWorker(data, how) {
  const worker = new Worker(__filename, { workerData: data });
  const ended = new Promise((resolve) => worker.once('exit', resolve));
  const message = await new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  if (how === 'terminate') await worker.terminate();
  else await ended;
  return message;
}

function runtime() {
  if (process.versions.bun) return `Bun ${process.versions.bun}`;
  if (process.versions.deno) return `Deno ${process.versions.deno}`;
  return `Node ${process.versions.node}`;
}

async function main() {
  const folder = fs.mkdtempSync(join(process.env.SMOKE_DIRECTORY ?? tmpdir(), 'containerarchive-smoke-'));
  const state = { folder, path: join(folder, 'repository') };
  const names = Object.keys(CHECKS);
  let passed = 0;
  console.log(`${runtime()}, ${process.platform} ${process.arch}`);
  for (const name of names) {
    try {
      await CHECKS[name](state);
      passed += 1;
      console.log(`ok      ${name}`);
    } catch (error) {
      console.log(`FAILED  ${name}: ${error?.stack ?? error}`);
    }
  }
  fs.rmSync(folder, { recursive: true, force: true });
  console.log(`${passed}/${names.length}`);
  process.exitCode = passed === names.length ? 0 : 1;
}

if (isMainThread) main();
else workerMain(workerData);
