// Repositories on object storage, on a real server of the protocol of S3.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { Readable } from 'node:stream';
import {
  CHEAP_KDF, ContainerArchive, ENCRYPTED, MIB, PASSPHRASE, afterwards, assertSameBytes, compressible, freshRepo, random, rejectsWith, restored,
  root, temporary, test,
} from './support/harness.mjs';
import { CREDENTIALS, skip, startFaulty, startMoto, startUnconditional } from './support/object-server.mjs';

let server;
let number = 0;
before(async () => {
  if (!skip) server = await startMoto('bucket');
});
after(async () => server?.stop());

const SECRET = { passphrase: PASSPHRASE, kdf: CHEAP_KDF };
const newUrl = () => `s3://bucket/tests/r${number++}`;
const run = (name, body) => test(name, body, { skip });

async function create(t, url, options = {}) {
  const archive = await ContainerArchive.init(url, { storage: server.storage, compression: 'zstd', ...options });
  afterwards(t, () => archive.close());
  return archive;
}

async function connect(t, url, options = {}) {
  const archive = await ContainerArchive.open(url, { storage: server.storage, ...options });
  afterwards(t, () => archive.close());
  return archive;
}

for (const [kind, secret] of [['plain', {}], ['encrypted', SECRET]]) {
  run(`${kind}: the whole life of a repository in a bucket`, async (t) => {
    const url = newUrl();
    const archive = await create(t, url, secret);
    const data = Buffer.concat([random(40 * MIB, 1), compressible(4 * MIB, 2)]);
    const first = await archive.ingest(Readable.from([data.subarray(0, 7 * MIB), data.subarray(7 * MIB)]));
    const other = await connect(t, url, secret.passphrase && { passphrase: secret.passphrase });
    const second = await other.ingest(Readable.from([data.subarray(MIB)]));
    assert.ok(second.reusedChunks > second.newChunks, 'another handle reuses what is stored');
    for (const handle of [archive, other]) {
      assertSameBytes(await restored(handle, first.id), data, 'first');
      assertSameBytes(await restored(handle, second.id), data.subarray(MIB), 'second');
      assert.deepEqual((await handle.listSnapshots()).map(({ id }) => id), [second.id, first.id]);
    }
    assertSameBytes(await restored(other, first.id, { range: { start: 5, end: 3 * MIB } }), data.subarray(5, 3 * MIB), 'a range');
    const verified = await other.verify({ level: 'full' });
    assert.deepEqual([verified.ok, verified.errors, verified.notes ?? []], [true, [], []]);

    const pruned = await archive.prune({ keepLast: 1 });
    assert.equal(pruned.removedSnapshots, 1);
    assertSameBytes(await restored(other, second.id), data.subarray(MIB), 'after the prune');
    await rejectsWith(archive.repair(), 'ERR_EXCLUSIVE_REQUIRED');
    await archive.repair({ exclusive: true });
    await archive.reindex();
    assert.equal((await other.verify({ level: 'full' })).ok, true);
    assert.deepEqual(await archive.locks(), []);
    assert.deepEqual((await archive.stats()).objectStorage, { conditionalPut: 'honoured' });
  });
}

run('what was listed is kept for the next process, where it is asked for', async (t) => {
  const url = newUrl();
  const cacheDir = join(temporary(t), 'kept');
  const storage = { ...server.storage, cacheDir };
  const archive = await create(t, url, { ...SECRET, storage });
  const ids = [];
  for (let seed = 0; seed < 3; seed++) ids.unshift((await archive.ingest([random(MIB, seed)], { tags: { note: 'confidential' } })).id);
  await archive.close();
  const list = async (options) => {
    const handle = await connect(t, url, { passphrase: PASSPHRASE, storage: { ...server.storage, ...options } });
    assert.deepEqual((await handle.listSnapshots()).map(({ id }) => id), ids);
    return handle;
  };
  const kept = () => readdirSync(cacheDir, { recursive: true }).filter((name) => name.length > 60);
  await list({ cacheDir });
  const before = kept();
  assert.ok(before.length >= 4, `three manifests and the index: ${before}`);
  assert.ok(before.every((name) => !readFileSync(join(cacheDir, name)).includes('confidential')), 'they are encrypted');
  rmSync(cacheDir, { recursive: true });
  await list({ cacheDir: false });
  assert.equal(existsSync(cacheDir), false);
  const handle = await list({ cacheDir });
  assert.equal((await handle.verify({ level: 'full' })).ok, true);
  await handle.prune({ keepLast: 1 }, { exclusive: true });
  ids.splice(1);
  await list({ cacheDir });
  await rejectsWith(list({ cacheDir: join(root, 'package.json') }), 'ERR_INVALID_ARGUMENT');
  await rejectsWith(list({ cacheDir: true }), 'ERR_INVALID_ARGUMENT');
});

run('what cannot be reached is named, and no secret is', async () => {
  const url = newUrl();
  const attempt = (storage, at = url) => ContainerArchive.open(at, { storage: { ...server.storage, retries: 0, ...storage } });
  for (const [storage, at, code] of [
    [{}, url, 'ERR_REPO_NOT_FOUND'],
    [{}, 's3://no-such-bucket/x', 'ERR_STORAGE_BUCKET'],
    [{ endpoint: 'https://127.0.0.1:1' }, url, 'ERR_UNREADABLE'],
    [{ endpoint: server.endpoint.replace('http', 'https') }, url, 'ERR_STORAGE_CERTIFICATE'],
    [{ allowHttp: false }, url, 'ERR_INVALID_ARGUMENT'],
    [{ caFile: '/no/such/file' }, url, 'ERR_INVALID_ARGUMENT'],
    [{}, 'ftp://host/x', 'ERR_INVALID_ARGUMENT'],
    [{}, 's3://bucket/../x', 'ERR_INVALID_ARGUMENT'],
    [{}, '/a/path', 'ERR_INVALID_ARGUMENT'],
  ]) {
    const error = await rejectsWith(attempt(storage, at), code);
    assert.ok(!`${error.message} ${error.stack} ${JSON.stringify(error)}`.includes(CREDENTIALS.secretAccessKey), error.message);
  }
  await rejectsWith(ContainerArchive.init(url, { storage: server.storage, parity: { data: 4, parity: 1 } }), 'ERR_INVALID_ARGUMENT');
});

run('answers of a service are told apart', async () => {
  for (const [status, answer, code, retryable] of [
    [403, 'RequestTimeTooSkewed', 'ERR_STORAGE_CLOCK', false],
    [403, 'InvalidAccessKeyId', 'ERR_STORAGE_CREDENTIALS', false],
    [403, 'SignatureDoesNotMatch', 'ERR_STORAGE_CREDENTIALS', false],
    [400, 'AuthorizationHeaderMalformed', 'ERR_STORAGE_REGION', false],
    [403, 'AccessDenied', 'ERR_PERMISSION', false],
    [503, 'SlowDown', 'ERR_UNREADABLE', true],
  ]) {
    const stub = createServer((request, response) => {
      response.writeHead(status, { 'content-type': 'application/xml' });
      response.end(`<?xml version="1.0"?><Error><Code>${answer}</Code><Message>No</Message></Error>`);
    }).listen(0, '127.0.0.1');
    await new Promise((resolve) => stub.once('listening', resolve));
    const endpoint = `http://127.0.0.1:${stub.address().port}`;
    try {
      const error = await rejectsWith(ContainerArchive.open('s3://bucket/x', { storage: { ...CREDENTIALS, endpoint, retries: 0 } }), code);
      assert.equal(error.retryable, retryable, answer);
      assert.match(error.message, new RegExp(answer));
      assert.doesNotMatch(error.message, /<\?xml/);
    } finally {
      stub.closeAllConnections();
      stub.close();
    }
  }
});

for (const mode of ['ignore', 'refuse']) {
  run(`a service that does not keep conditions is found out (${mode})`, async (t) => {
    const without = await startUnconditional(server.endpoint, mode);
    afterwards(t, without.stop);
    const storage = { ...server.storage, endpoint: without.endpoint, retries: 0 };
    const url = newUrl();
    const archive = await ContainerArchive.init(url, { storage });
    afterwards(t, () => archive.close());
    const warnings = [];
    archive.on('warning', ({ code }) => warnings.push(code));
    const data = random(3 * MIB, 5);
    const { id } = await archive.ingest(Readable.from([data]));
    assertSameBytes(await restored(archive, id), data, 'restored');
    const other = await ContainerArchive.open(url, { storage });
    afterwards(t, () => other.close());
    other.on('warning', ({ code }) => warnings.push(code));
    await other.ingest(Readable.from([data]));
    assert.ok(warnings.includes('WARN_SINGLE_WRITER'), warnings.join());
    assert.deepEqual((await other.stats()).objectStorage, { conditionalPut: mode === 'ignore' ? 'ignored' : 'refused' });
    assert.equal((await other.verify({ level: 'full' })).ok, true);
  });
}

for (const what of ['drop', 'lose', 500, 503, 'truncate', 'flip']) {
  run(`faults of the connection lose nothing: ${what}`, async (t) => {
    const url = newUrl();
    const healthy = await create(t, url, SECRET);
    const data = [random(9 * MIB, 7), random(9 * MIB, 8)];
    const first = await healthy.ingest(Readable.from([data[0]]));
    // every seventh request fails
    const faulty = await startFaulty(server.endpoint, (request, count) => (count % 7 === 3 ? what : undefined));
    afterwards(t, faulty.stop);
    const storage = { ...server.storage, endpoint: faulty.endpoint };
    let acknowledged = null;
    try {
      const archive = await ContainerArchive.open(url, { storage, passphrase: SECRET.passphrase });
      afterwards(t, () => archive.close());
      acknowledged = await archive.ingest(Readable.from([data[1]])).catch((error) => {
        assert.match(error.code, /^ERR_/, String(error));
        return null;
      });
      const bytes = await restored(archive, first.id).catch((error) => {
        assert.match(error.code, /^ERR_/, String(error));
        return data[0];
      });
      assertSameBytes(bytes, data[0], 'never a short or wrong restore');
    } catch (error) {
      if (error.code === 'ERR_ASSERTION') throw error;
      assert.match(error.code ?? '', /^ERR_/, String(error));
    }
    assert.ok(faulty.count() > 3, 'a fault happened');
    const reader = await connect(t, url, { passphrase: SECRET.passphrase });
    assertSameBytes(await restored(reader, first.id), data[0], 'first');
    const ids = (await reader.listSnapshots()).map(({ id }) => id);
    if (acknowledged) assert.ok(ids.includes(acknowledged.id), 'an acknowledged snapshot is there');
    for (const id of ids.filter((each) => each !== first.id)) assertSameBytes(await restored(reader, id), data[1], 'second');
    const verified = await reader.verify({ level: 'full' });
    assert.deepEqual(verified.errors, []);
  });
}

run('a repository in a directory is mirrored into a bucket, and snapshots are copied from it', async (t) => {
  const { repo } = await freshRepo(t, ENCRYPTED);
  const data = random(5 * MIB, 9);
  const { id } = await repo.ingest(Readable.from([data]));
  const url = newUrl();
  const first = await repo.mirrorTo(url, { storage: server.storage, delete: true });
  assert.ok(first.copiedFiles > 0);
  assert.equal((await repo.mirrorTo(url, { storage: server.storage, delete: true })).copiedFiles, 0);
  const mirror = await connect(t, url, { passphrase: PASSPHRASE });
  assertSameBytes(await restored(mirror, id), data, 'from the mirror');
  assert.deepEqual((await mirror.verify({ level: 'full' })).errors, []);
  await rejectsWith(mirror.ingest(Readable.from([data])), 'ERR_MIRROR');
  const target = await create(t, newUrl(), SECRET);
  const { copied } = await repo.copyTo(target);
  assertSameBytes(await restored(target, copied[0].to), data, 'from the copy');
});

run('the command line works with a bucket', async () => {
  const env = {
    ...process.env, CONTAINERARCHIVE_REPOSITORY: newUrl(), CONTAINERARCHIVE_PASSPHRASE: PASSPHRASE, AWS_ENDPOINT_URL: server.endpoint,
    AWS_ACCESS_KEY_ID: CREDENTIALS.accessKeyId, AWS_SECRET_ACCESS_KEY: CREDENTIALS.secretAccessKey, AWS_ALLOW_HTTP: 'true',
  };
  const cli = (args, input) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [join(root, 'cli/dist/containerarchive.js'), ...args], { env, input, encoding: 'utf8' });
    assert.equal(status, 0, `${args.join(' ')}: ${stdout}${stderr}`);
    return stdout;
  };
  cli(['init']);
  cli(['backup', '--stdin', '--name', 'note'], 'hello');
  assert.equal(cli(['restore', 'latest', '--to', '-']), 'hello');
  assert.match(cli(['doctor']), /conditional puts are honoured/);
  cli(['forget', '--keep-last', '1', '--prune', '--yes']);
  cli(['repair', '--exclusive']);
  cli(['check', '--read-data']);
});

run('a writer that may not delete can back up', async (t) => {
  const url = newUrl();
  const healthy = await create(t, url);
  await healthy.ingest(Readable.from([random(MIB, 1)]));
  const isDelete = ({ method, url: target }) => method === 'DELETE' || (method === 'POST' && target.includes('?delete'));
  const limited = await startFaulty(server.endpoint, (request) => (isDelete(request) ? 403 : undefined));
  afterwards(t, limited.stop);
  const archive = await ContainerArchive.open(url, { storage: { ...server.storage, endpoint: limited.endpoint } });
  afterwards(t, () => archive.close());
  const data = random(MIB, 2);
  for (let round = 0; round < 12; round++) await archive.ingest(Readable.from([data, Buffer.from(`${round}`)]));
  const [newest] = await healthy.listSnapshots();
  assertSameBytes(await restored(healthy, newest.id), Buffer.concat([data, Buffer.from('11')]), 'restored');
  assert.equal((await healthy.verify({ level: 'full' })).ok, true);
});

run('without certificates on the system, only connections with TLS fail, and say so', async () => {
  const url = newUrl();
  const script = `
    const { ContainerArchive } = require(${JSON.stringify(join(root, 'index.js'))});
    const storage = ${JSON.stringify(server.storage)};
    (async () => {
      const archive = await ContainerArchive.init(${JSON.stringify(url)}, { storage });
      await archive.ingest(['x']);
      await archive.close();
      const endpoint = 'https://127.0.0.1:9';
      await ContainerArchive.open(${JSON.stringify(url)}, { storage: { ...storage, endpoint } }).catch(({ code, message }) => console.log(code, message));
    })();
  `;
  const env = { ...process.env, SSL_CERT_FILE: '/dev/null', SSL_CERT_DIR: '/nonexistent' };
  const { status, stdout, stderr } = spawnSync(process.execPath, ['-e', script], { env, encoding: 'utf8' });
  assert.deepEqual([status, stderr], [0, '']);
  // other systems have their certificates elsewhere
  if (process.platform === 'linux') assert.match(stdout, /^ERR_STORAGE_CERTIFICATE .*install the CA certificates/);
});

run('a request over a slow link takes as long as it needs', async (t) => {
  const url = newUrl();
  await create(t, url);
  const link = await startFaulty(server.endpoint, () => 'slow');
  afterwards(t, link.stop);
  // the pack, and each long read, takes more than that
  const storage = { ...server.storage, endpoint: link.endpoint, timeoutMs: 2000, retries: 2 };
  const archive = await ContainerArchive.open(url, { storage });
  afterwards(t, () => archive.close());
  const data = random(9 * MIB, 5);
  const { id } = await archive.ingest(Readable.from([data]));
  assertSameBytes(await restored(archive, id), data);
});

run('a stalled connection ends with an error in time, and an abort at once', async (t) => {
  const url = newUrl();
  const healthy = await create(t, url);
  await healthy.ingest(Readable.from([random(MIB, 1)]));
  let stalling = false;
  const stalled = await startFaulty(server.endpoint, () => (stalling ? 'stall' : undefined));
  afterwards(t, stalled.stop);
  const storage = { ...server.storage, endpoint: stalled.endpoint, timeoutMs: 500, retries: 0 };
  const archive = await ContainerArchive.open(url, { storage });
  afterwards(t, () => archive.close());
  stalling = true;
  await rejectsWith(archive.listSnapshots(), 'ERR_UNREADABLE');
  const slow = await ContainerArchive.open(url, { storage: server.storage });
  afterwards(t, () => slow.close());
  const abort = new AbortController();
  const ingest = slow.ingest(Readable.from((async function* endless() {
    yield random(MIB, 3);
    abort.abort(new Error('enough'));
    await new Promise(() => {});
  })()), { signal: abort.signal });
  await assert.rejects(ingest, /enough/);
});
