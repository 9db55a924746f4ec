// keys.list, add, change, remove; and passphrases as strings, buffers and functions.

import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import {
  CHEAP_KDF, ContainerArchive, ENCRYPTED, KIB, PASSPHRASE, PLAIN, afterwards, assertSameBytes, freshRepo, random, rejectsWith, reopen,
  restored, temporary, test, treeHash,
} from './support/harness.mjs';

const require = createRequire(import.meta.url);
const RAW = random(32, 500);
const FOLDERS = ['keys', 'packs/parity/keys'];

/** Opens a repository with a secret, and closes it. */
async function opens(path, secret) {
  const repo = await ContainerArchive.open(path, secret);
  await repo.close();
}

/** Ids of the key files, and of their copies. */
const files = (path) => FOLDERS.map((folder) => readdirSync(join(path, folder)).map((name) => name.slice(0, -5)).sort());

test('a passphrase and a raw key can be added, listed, changed and removed', async (t) => {
  const { repo, path } = await freshRepo(t, ENCRYPTED);
  const data = random(300 * KIB, 501);
  const snapshot = await repo.ingest([data]);
  const [first, ...none] = await repo.keys.list();
  assert.equal(none.length, 0);
  assert.match(first.id, /^[0-9a-f]{32}$/);
  assert.match(first.createdAt, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
  assert.deepEqual({ ...first, id: 0, createdAt: 0 }, { id: 0, type: 'passphrase', createdAt: 0, kdf: CHEAP_KDF, current: true });

  const laptop = await repo.keys.add({ passphrase: 'laptop', kdf: CHEAP_KDF, label: 'laptop ñ' });
  const raw = await repo.keys.add({ key: RAW });
  assert.deepEqual({ ...laptop, id: 0, createdAt: 0 }, {
    id: 0, type: 'passphrase', createdAt: 0, label: 'laptop ñ', kdf: CHEAP_KDF, current: false,
  });
  assert.deepEqual([raw.type, raw.kdf, 'label' in raw], ['raw', null, false]);
  const ids = [first, laptop, raw].map(({ id }) => id).sort();
  assert.deepEqual(await repo.keys.list().then((keys) => keys.map(({ id }) => id).sort()), ids);
  assert.deepEqual(files(path), [ids, ids]);

  for (const [secret, id] of [[{ passphrase: PASSPHRASE }, first.id], [{ passphrase: 'laptop' }, laptop.id], [{ key: RAW }, raw.id]]) {
    const other = await ContainerArchive.open(path, secret);
    afterwards(t, () => other.close());
    assertSameBytes(await restored(other, snapshot.id), data);
    assert.deepEqual((await other.keys.list()).filter(({ current }) => current).map((key) => key.id), [id]);
  }

  const changed = await repo.keys.change({ passphrase: 'new', kdf: CHEAP_KDF });
  assert.equal(changed.current, true);
  const desktop = await repo.keys.change({ id: laptop.id, key: random(32, 502), label: 'desktop' });
  assert.deepEqual([desktop.label, desktop.type, desktop.current], ['desktop', 'raw', false]);
  for (const passphrase of [PASSPHRASE, 'laptop']) await rejectsWith(opens(path, { passphrase }), 'ERR_WRONG_PASSPHRASE');
  await opens(path, { passphrase: 'new' });
  await opens(path, { key: random(32, 502) });

  assert.equal(await repo.keys.remove(raw.id), undefined);
  await rejectsWith(repo.keys.remove(raw.id), 'ERR_KEY_NOT_FOUND');
  await rejectsWith(opens(path, { key: RAW }), 'ERR_WRONG_PASSPHRASE');
  await repo.keys.remove(desktop.id);
  const last = await rejectsWith(repo.keys.remove(changed.id), 'ERR_LAST_KEY');
  assert.match(last.hint, /add/);
  assert.deepEqual(files(path), [[changed.id], [changed.id]]);
  assert.equal((await repo.verify()).ok, true);
  assert.equal((await repo.repair()).keysRepaired, 0);
  await rejectsWith(opens(path, { passphrase: PASSPHRASE }), 'ERR_WRONG_PASSPHRASE');
  assertSameBytes(await restored(repo, snapshot.id), data);
});

test('one of several concurrent changes of a key succeeds', async (t) => {
  const { repo, path } = await freshRepo(t, ENCRYPTED);
  const keys = [1, 2, 3, 4].map((seed) => random(32, seed));
  const [{ id }] = await repo.keys.list();
  const results = await Promise.allSettled(keys.map((key) => repo.keys.change({ id, key })));
  const done = results.map(({ status }) => status === 'fulfilled');
  assert.equal(done.filter(Boolean).length, 1);
  for (const { reason } of results) assert.ok(reason === undefined || reason.code === 'ERR_KEY_NOT_FOUND', reason);
  await opens(path, { key: keys[done.indexOf(true)] });
  await rejectsWith(opens(path, { passphrase: PASSPHRASE }), 'ERR_WRONG_PASSPHRASE');
});

test('a function is called once for the secret, and may return a promise', async (t) => {
  const path = join(temporary(t), 'repo');
  let asked = 0;
  const counted = (give) => () => {
    asked++;
    return give();
  };
  const later = (value) => counted(() => new Promise((resolve) => setImmediate(() => resolve(value))));
  const options = { kdf: CHEAP_KDF, parity: false };
  await (await ContainerArchive.init(path, { ...options, passphrase: later('from a keychain') })).close();
  assert.equal(asked, 1);
  for (const passphrase of ['from a keychain', counted(() => 'from a keychain'), later('from a keychain'), later(Buffer.from('from a keychain'))]) {
    await opens(path, { passphrase });
  }
  assert.equal(asked, 4);
  const repo = await ContainerArchive.open(path, { passphrase: later('from a keychain') });
  afterwards(t, () => repo.close());
  await repo.keys.add({ passphrase: later('second'), kdf: CHEAP_KDF });
  await repo.keys.change({ key: later(RAW) });
  await opens(path, { key: counted(() => RAW) });
  await opens(path, { passphrase: counted(() => 'second') });
  assert.equal(asked, 9);
});

test('a function that fails or returns a wrong value is an error with its cause', async (t) => {
  const { repo, path } = await freshRepo(t, ENCRYPTED);
  const before = treeHash(path);
  const cause = new Error('the keychain is locked');
  const fails = [() => Promise.reject(cause), () => { throw cause; }];
  for (const fail of fails) {
    for (const call of [
      () => ContainerArchive.open(path, { passphrase: fail }),
      () => ContainerArchive.init(join(path, 'new'), { passphrase: fail }),
      () => repo.keys.add({ passphrase: fail }),
      () => repo.keys.change({ key: fail }),
    ]) {
      const error = await rejectsWith(call(), 'ERR_PASSPHRASE_REQUIRED');
      assert.equal(error.cause, cause);
    }
  }
  for (const value of [undefined, null, '', 1, {}, Buffer.alloc(0), '\ud800']) {
    await rejectsWith(ContainerArchive.open(path, { passphrase: async () => value }), 'ERR_INVALID_ARGUMENT');
    await rejectsWith(repo.keys.add({ passphrase: () => value }), 'ERR_INVALID_ARGUMENT');
  }
  for (const value of ['x'.repeat(32), Buffer.alloc(31), Buffer.alloc(33)]) {
    await rejectsWith(repo.keys.add({ key: () => value }), 'ERR_INVALID_ARGUMENT');
  }
  assert.equal(treeHash(path), before);
});

test('no function is called for a secret when the call is refused anyway', async (t) => {
  const { repo, path } = await freshRepo(t, ENCRYPTED);
  const never = () => assert.fail('asked');
  await rejectsWith(ContainerArchive.open(path, { passphrase: never, key: RAW }), 'ERR_INVALID_ARGUMENT');
  await rejectsWith(ContainerArchive.open(path, { passphrase: never, threads: 0 }), 'ERR_INVALID_ARGUMENT');
  await rejectsWith(repo.keys.add({ passphrase: never, label: '' }), 'ERR_INVALID_ARGUMENT');
  await repo.close();
  await rejectsWith(repo.keys.add({ passphrase: never }), 'ERR_CLOSED');
  await rejectsWith(repo.keys.change({ passphrase: never }), 'ERR_CLOSED');
});

test('copies of secrets are wiped, and those of the caller may be wiped at once', async (t) => {
  const { take } = require('../js/secret.js');
  const given = { passphrase: Buffer.from('secret'), key: Buffer.from(RAW) };
  const ways = Object.entries(given).flatMap(([name, value]) => [{ [name]: value }, { [name]: async () => value }]);
  for (const options of [...ways, { passphrase: 'secret' }]) {
    const seen = [];
    const secret = take(options);
    const result = await secret.use(async (...held) => {
      seen.push(...held.filter(Boolean));
      assert.ok(seen[0].some((byte) => byte !== 0));
      return 'done';
    });
    assert.deepEqual([result, seen.length], ['done', 1]);
    assert.ok(seen[0].every((byte) => byte === 0));
    await assert.rejects(take(options).use(async (...held) => {
      seen.push(...held.filter(Boolean));
      throw new Error('failed');
    }), /failed/);
    assert.ok(seen[1].every((byte) => byte === 0));
  }
  assert.deepEqual([given.passphrase.toString(), given.key], ['secret', RAW]);

  const { repo, path } = await freshRepo(t, ENCRYPTED);
  const buffer = Buffer.from('wiped at once');
  const adding = repo.keys.add({ passphrase: buffer, kdf: CHEAP_KDF });
  buffer.fill(0);
  await adding;
  const again = Buffer.from('wiped at once');
  const opening = ContainerArchive.open(path, { passphrase: again });
  again.fill(0);
  await (await opening).close();
});

test('the event loop runs while keys are derived', async (t) => {
  const { repo } = await freshRepo(t, ENCRYPTED);
  let turns = 0;
  let deriving = true;
  const turn = () => {
    turns++;
    if (deriving) setImmediate(turn);
  };
  turn();
  await repo.keys.add({ passphrase: 'takes a while', kdf: { memory: 131_072, time: 4, lanes: 1 } });
  deriving = false;
  assert.ok(turns > 100, `${turns} turns`);
});

test('keys of repositories without encryption, and of read-only and closed handles, are refused', async (t) => {
  const plain = await freshRepo(t, PLAIN);
  assert.deepEqual(await plain.repo.keys.list(), []);
  await rejectsWith(plain.repo.keys.add({ passphrase: 'x' }), 'ERR_NOT_ENCRYPTED');
  await rejectsWith(plain.repo.keys.change({ passphrase: 'x' }), 'ERR_NOT_ENCRYPTED');
  await rejectsWith(plain.repo.keys.remove('0'.repeat(32)), 'ERR_KEY_NOT_FOUND');

  const { repo, path } = await freshRepo(t, ENCRYPTED);
  const [{ id }] = await repo.keys.list();
  const reader = await reopen(t, path, ENCRYPTED, { readOnly: true });
  assert.equal((await reader.keys.list()).length, 1);
  const calls = [
    (handle) => handle.keys.add({ passphrase: 'x' }),
    (handle) => handle.keys.change({ passphrase: 'x' }),
    (handle) => handle.keys.remove(id),
  ];
  for (const call of calls) await rejectsWith(call(reader), 'ERR_READ_ONLY');
  await repo.close();
  for (const call of [...calls, (handle) => handle.keys.list()]) await rejectsWith(call(repo), 'ERR_CLOSED');
});

test('wrong arguments are refused, and no message contains a secret', async (t) => {
  const { repo, path } = await freshRepo(t, ENCRYPTED);
  const before = treeHash(path);
  const secret = 'MARKER-SECRET';
  const bad = [
    undefined, null, 1, [], {}, { passphrase: '' }, { passphrase: 1 }, { passphrase: null }, { key: secret }, { key: Buffer.alloc(31) },
    { passphrase: secret, key: RAW }, { key: RAW, kdf: CHEAP_KDF }, { passphrase: secret, label: '' }, { passphrase: secret, label: 1 },
    { passphrase: secret, label: 'x'.repeat(4097) }, { passphrase: secret, kdf: { memory: 19_455, time: 2, lanes: 1 } },
    { passphrase: secret, kdf: { memory: 19_456, time: 1, lanes: 1 } }, { passphrase: secret, kdf: { memory: 2 ** 32 - 1 } },
    { passphrase: secret, kdf: { memory: NaN } }, { passphrase: secret, kdf: { rounds: 1 } }, { passphrase: secret, kdf: { lanes: 17 } },
    { passphrase: secret, kdf: 'strong' }, { passphrase: secret, extra: 1 },
  ];
  for (const options of bad) {
    for (const call of ['add', 'change']) {
      const error = await rejectsWith(repo.keys[call](options), 'ERR_INVALID_ARGUMENT');
      assert.ok(!`${error.stack}${error.hint}`.includes(secret));
    }
  }
  await rejectsWith(repo.keys.add({ passphrase: 'x', id: '0'.repeat(32) }), 'ERR_INVALID_ARGUMENT');
  for (const id of [undefined, null, 1, '', {}]) await rejectsWith(repo.keys.remove(id), 'ERR_INVALID_ARGUMENT');
  const [{ id }] = await repo.keys.list();
  for (const other of ['x', id.slice(0, 8), id.toUpperCase(), `../${id}`, '0'.repeat(32)]) {
    if (other === id) continue;
    await rejectsWith(repo.keys.remove(other), 'ERR_KEY_NOT_FOUND');
    await rejectsWith(repo.keys.change({ id: other, passphrase: 'x', kdf: CHEAP_KDF }), 'ERR_KEY_NOT_FOUND');
  }
  assert.equal(treeHash(path), before);
  assert.ok(!readFileSync(join(path, 'keys', `${id}.json`), 'utf8').includes(PASSPHRASE));
  assert.throws(() => { repo.keys = {}; }, TypeError);
});
