// Bad input: paths, passphrases, unknown versions, damaged files. Each has its own code, is refused
// quickly, and changes nothing on disk.

import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import {
  appendFileSync, chmodSync, copyFileSync, cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync,
  symlinkSync, truncateSync, writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import {
  ContainerArchive, ENCRYPTED, KINDS, MIB, PASSPHRASE, PLAIN, afterwards, assertSameBytes, collect, freshRepo, random, rejectsWith,
  repoFiles, reopen, restored, rewriteChecked, root, settle, temporary, test, treeHash,
} from './support/harness.mjs';

/** A refusal must not take longer than this, even with an expensive key derivation. */
const QUICK_MS = 3000;

/** Fails unless the call rejects with this code, quickly, and changes nothing in the directory. */
async function refusedUnchanged(folder, call, code) {
  const before = treeHash(folder);
  const start = performance.now();
  const error = await rejectsWith(call(), code);
  const took = performance.now() - start;
  assert.ok(took < QUICK_MS, `${code} took ${took} ms`);
  assert.equal(treeHash(folder), before, `${code}: something changed on disk`);
  return error;
}

test('open refuses a path that is missing, a file, an empty directory or not a repository', async (t) => {
  const folder = temporary(t);
  const at = (name) => join(folder, name);
  writeFileSync(at('file'), 'x');
  mkdirSync(at('empty'));
  mkdirSync(at('other'));
  writeFileSync(at('other/notes.txt'), 'x');
  for (const [name, code] of [
    ['missing', 'ERR_REPO_NOT_FOUND'], ['missing/below', 'ERR_REPO_NOT_FOUND'], ['file', 'ERR_NOT_A_DIRECTORY'],
    ['empty', 'ERR_REPO_NOT_FOUND'], ['other', 'ERR_REPO_NOT_FOUND'],
  ]) {
    for (const options of [{}, { passphrase: 'x' }, { readOnly: true }]) {
      const error = await refusedUnchanged(folder, () => ContainerArchive.open(at(name), options), code);
      assert.ok(error.message.includes(at(name)) || error.path === at(name), `${error.message} names the path`);
    }
  }
  await refusedUnchanged(folder, () => ContainerArchive.open(at('file/below')), 'ERR_NOT_A_DIRECTORY');
});

test('init refuses a path that is a file, not empty or a repository', async (t) => {
  const folder = temporary(t);
  const at = (name) => join(folder, name);
  writeFileSync(at('file'), 'x');
  mkdirSync(at('other'));
  writeFileSync(at('other/notes.txt'), 'x');
  await (await ContainerArchive.init(at('repo'))).close();
  for (const options of [{}, { passphrase: 'x' }]) {
    await refusedUnchanged(folder, () => ContainerArchive.init(at('file'), options), 'ERR_NOT_A_DIRECTORY');
    await refusedUnchanged(folder, () => ContainerArchive.init(at('file/below'), options), 'ERR_NOT_A_DIRECTORY');
    await refusedUnchanged(folder, () => ContainerArchive.init(at('other'), options), 'ERR_NOT_EMPTY');
    await refusedUnchanged(folder, () => ContainerArchive.init(at('repo'), options), 'ERR_REPO_EXISTS');
  }
});

test('init accepts an empty directory, a missing one with missing parents, and a relative path', async (t) => {
  const folder = temporary(t);
  mkdirSync(join(folder, 'empty'));
  for (const path of [join(folder, 'empty'), join(folder, 'a/b/c'), join(folder, 'ü 👍 "x"')]) {
    const repo = await ContainerArchive.init(path);
    await repo.ingest(['x']);
    await repo.close();
  }
  const cwd = process.cwd();
  afterwards(t, () => process.chdir(cwd));
  process.chdir(folder);
  const opening = ContainerArchive.open('empty');
  process.chdir('/');
  const repo = await opening;
  assert.equal((await repo.ingest(['y'])).originalSize, 1);
  await repo.close();
});

test('a directory that may not be read or written is ERR_PERMISSION', async (t) => {
  // root has all permissions: there the test runs as the user nobody, on a copy of the package that
  // this user can read.
  const folder = temporary(t);
  const copy = join(folder, 'package');
  for (const name of ['index.js', 'package.json', 'js', 'binding.js']) cpSync(join(root, name), join(copy, name), { recursive: true });
  const addon = process.env.NAPI_RS_NATIVE_LIBRARY_PATH ??
    join(root, readdirSync(root).find((name) => name.endsWith('.node')) ?? 'index.js');
  copyFileSync(addon, join(copy, 'addon.node'));
  const locked = join(folder, 'locked');
  mkdirSync(locked, { mode: 0o555 });
  const secret = join(folder, 'secret');
  await (await ContainerArchive.init(secret)).close();
  chmodSync(folder, 0o755);
  chmodSync(copy, 0o755);
  const source = `
    const { ContainerArchive } = require(${JSON.stringify(copy)});
    const told = (promise) => promise.then(() => 'none', ({ code, path, message }) => [code, path, message.includes(path)]);
    (async () => console.log(JSON.stringify([
      await told(ContainerArchive.init(${JSON.stringify(join(locked, 'repo'))})),
      await told(ContainerArchive.init(${JSON.stringify(locked)})),
      await told(ContainerArchive.open(${JSON.stringify(secret)})),
    ])))();`;
  const isRoot = process.getuid?.() === 0;
  if (!isRoot) chmodSync(secret, 0o000);
  afterwards(t, () => chmodSync(secret, 0o700));
  const ran = spawnSync(process.execPath, ['-e', source], {
    ...(isRoot ? { uid: 65534, gid: 65534 } : {}),
    cwd: '/',
    encoding: 'utf8',
    env: { ...process.env, NAPI_RS_NATIVE_LIBRARY_PATH: join(copy, 'addon.node'), HOME: '/' },
  });
  if (isRoot && (ran.error || /Cannot find module|EACCES|Cannot load/.test(ran.stderr))) {
    t.skip(`SKIPPED: another user cannot run Node here: ${ran.error ?? ran.stderr}`);
    return;
  }
  const [missing, empty, other] = JSON.parse(ran.stdout);
  assert.deepEqual(missing, ['ERR_PERMISSION', join(locked, 'repo'), true], ran.stderr);
  assert.deepEqual(empty, ['ERR_PERMISSION', locked, true]);
  assert.deepEqual([other[0], other[2]], ['ERR_PERMISSION', true]);
});

test('a full disk is ERR_NO_SPACE and leaves no snapshot, and the handle still works', async (t) => {
  const folder = temporary(t);
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', folder]);
  if (mounted.status !== 0) {
    t.skip(`SKIPPED: a small file system cannot be mounted here: ${mounted.stderr}`);
    return;
  }
  afterwards(t, () => execFileSync('umount', ['-l', folder]));
  const path = join(folder, 'repo');
  const repo = await ContainerArchive.init(path, { compression: 'none' });
  afterwards(t, () => repo.close());
  const small = random(2 * MIB, 70);
  const kept = await repo.ingest(small);
  const error = await rejectsWith(repo.ingest(random(64 * MIB, 71)), 'ERR_NO_SPACE');
  assert.notEqual(error.hint, undefined);
  assert.deepEqual((await repo.listSnapshots()).map(({ id }) => id), [kept.id]);
  assertSameBytes(await restored(repo, kept.id), small);
});

test('a wrong, missing or superfluous passphrase is refused', async (t) => {
  for (const kind of KINDS.slice(0, 2)) {
    const { path, repo } = await freshRepo(t, kind);
    await repo.ingest(['x']);
    await repo.close();
    const refused = kind.encrypted
      ? [[{}, 'ERR_PASSPHRASE_REQUIRED'], [{ readOnly: true }, 'ERR_PASSPHRASE_REQUIRED'], [{ passphrase: 'wrong' }, 'ERR_WRONG_PASSPHRASE'],
        [{ passphrase: `${PASSPHRASE} ` }, 'ERR_WRONG_PASSPHRASE'], [{ passphrase: PASSPHRASE.slice(0, -1) }, 'ERR_WRONG_PASSPHRASE'],
        [{ key: Buffer.alloc(32) }, 'ERR_WRONG_PASSPHRASE']]
      : [[{ passphrase: 'needless' }, 'ERR_NOT_ENCRYPTED'], [{ key: Buffer.alloc(32) }, 'ERR_NOT_ENCRYPTED']];
    for (const [options, code] of refused) {
      const error = await refusedUnchanged(path, () => ContainerArchive.open(path, options), code);
      assert.ok(!JSON.stringify(error, Object.getOwnPropertyNames(error)).includes(options.passphrase ?? '\0'), 'the error does not contain the passphrase');
    }
  }
});

test('a passphrase can be a string or bytes, a key 32 bytes, and the Buffer passed is not changed', async (t) => {
  const folder = temporary(t);
  const kdf = ENCRYPTED.init.kdf;
  const passphrase = Buffer.from('pässwörd 👍');
  const bytes = Buffer.from(passphrase);
  await (await ContainerArchive.init(join(folder, 'p'), { passphrase: bytes, kdf })).close();
  assert.deepEqual(bytes, passphrase);
  for (const given of ['pässwörd 👍', bytes, new Uint8Array(bytes)]) {
    await (await ContainerArchive.open(join(folder, 'p'), { passphrase: given })).close();
  }
  const binary = Buffer.from([0, 255, 0, 1]);
  await (await ContainerArchive.init(join(folder, 'b'), { passphrase: binary, kdf })).close();
  await (await ContainerArchive.open(join(folder, 'b'), { passphrase: binary })).close();
  const key = random(32, 72);
  const repo = await ContainerArchive.init(join(folder, 'k'), { key });
  const { id } = await repo.ingest(['x']);
  await repo.close();
  const again = await ContainerArchive.open(join(folder, 'k'), { key });
  assert.equal((await restored(again, id)).toString(), 'x');
  await again.close();
  await rejectsWith(ContainerArchive.open(join(folder, 'k'), { key: random(32, 73) }), 'ERR_WRONG_PASSPHRASE');
  await rejectsWith(ContainerArchive.open(join(folder, 'k')), 'ERR_PASSPHRASE_REQUIRED');
});

test('another version and an unknown required feature are refused by name', async (t) => {
  const changes = {
    'another version': (text) => text.replace('"version":1', '"version":2'),
    'version 0': (text) => text.replace('"version":1', '"version":0'),
    'an unknown feature': (text) => text.replace('"required":[', '"required":["from-the-future",'),
    'another chunker': (text) => text.replace('"fastcdc-v2020"', '"from-the-future"'),
  };
  for (const [what, change] of Object.entries(changes)) {
    const { path, repo } = await freshRepo(t);
    await repo.close();
    const file = join(path, 'config.json');
    const before = readFileSync(file, 'utf8');
    rewriteChecked(file, change);
    assert.notEqual(readFileSync(file, 'utf8'), before);
    const error = await refusedUnchanged(path, () => ContainerArchive.open(path), 'ERR_UNSUPPORTED_FORMAT');
    if (what.includes('feature')) assert.match(error.message, /from-the-future/);
  }
  const { path, repo } = await freshRepo(t);
  await repo.close();
  rewriteChecked(join(path, 'config.json'), (text) => `${text.replace('"optional":[', '"optional":["nice-to-have"')},"future":{"x":1}`);
  await (await ContainerArchive.open(path)).close();
});

/** Ways to damage a file, as (path) => void. */
const damages = {
  empty: (file) => truncateSync(file, 0),
  'cut in half': (file) => truncateSync(file, Math.floor(statSync(file).size / 2)),
  'without its last byte': (file) => truncateSync(file, statSync(file).size - 1),
  garbage: (file) => writeFileSync(file, random(statSync(file).size, 74)),
  'zeros': (file) => writeFileSync(file, Buffer.alloc(statSync(file).size)),
  'one bit flipped': (file) => {
    const bytes = readFileSync(file);
    bytes[Math.floor(bytes.length / 2)] ^= 1;
    writeFileSync(file, bytes);
  },
  'other JSON': (file) => writeFileSync(file, '{"version":1}\n'),
  'deep JSON': (file) => writeFileSync(file, '['.repeat(100_000)),
};

for (const kind of [PLAIN, ENCRYPTED]) {
  for (const [what, damage] of Object.entries(damages)) {
    test(`${kind.name}: a damaged config.json (${what}) is ERR_CONFIG_CORRUPT`, async (t) => {
      const { path, repo } = await freshRepo(t, kind);
      await repo.close();
      damage(join(path, 'config.json'));
      await refusedUnchanged(path, () => ContainerArchive.open(path, kind.open), 'ERR_CONFIG_CORRUPT');
      await refusedUnchanged(path, () => ContainerArchive.init(path, kind.init), 'ERR_REPO_EXISTS');
    });

    test(`${kind.name}: a damaged manifest (${what}) is ERR_MANIFEST_CORRUPT; the others are listed`, async (t) => {
      const { path, repo } = await freshRepo(t, kind);
      const good = await repo.ingest(['good']);
      const bad = await repo.ingest(['bad']);
      await repo.close();
      damage(join(path, 'snapshots', `${bad.id}.json`));
      const other = await reopen(t, path, kind);
      const warnings = [];
      other.on('warning', (warning) => warnings.push(warning));
      for (const call of [() => other.getSnapshot(bad.id), () => other.restore(bad.id)]) {
        const error = await refusedUnchanged(path, call, 'ERR_MANIFEST_CORRUPT');
        assert.equal(error.snapshotId, bad.id);
      }
      const before = treeHash(path);
      assert.deepEqual(await other.listSnapshots(), [good]);
      await settle();
      assert.ok(warnings.some(({ code, message }) => code === 'WARN_MANIFEST_CORRUPT' && message.includes(bad.id)), JSON.stringify(warnings));
      assert.equal((await restored(other, good.id)).toString(), 'good');
      assert.equal(treeHash(path), before);
    });

    test(`${kind.name}: a damaged pack (${what}) without parity is a typed error of a restore, never wrong bytes`, async (t) => {
      const { path, repo } = await freshRepo(t, kind, { parity: false });
      const bytes = random(3 * MIB, 75);
      const { id } = await repo.ingest(bytes);
      await repo.close();
      const packs = repoFiles(path, /^packs\/data\/.*\.pack$/);
      const data = packs.sort((a, b) => statSync(b).size - statSync(a).size)[0];
      damage(data);
      const other = await reopen(t, path, kind);
      const before = treeHash(path);
      let error;
      const got = await collect(await other.restore(id)).catch((thrown) => { error = thrown; });
      if (got && what === 'without its last byte') return assertSameBytes(got, bytes); // no chunk was affected
      assert.equal(got, undefined, 'the restore did not end cleanly');
      assert.ok(['ERR_PACK_CORRUPT', 'ERR_CHUNK_CORRUPT'].includes(error.code), `${error.code}: ${error.message}`);
      assert.ok(error.pack || error.chunk, 'the error names the pack or the chunk');
      if (error.pack) assert.ok(data.includes(error.pack));
      assert.equal(treeHash(path), before);
    });
  }

  test(`${kind.name}: with parity, a damaged or missing pack is a warning, and is repaired afterwards`, async (t) => {
    const { path, repo } = await freshRepo(t, kind);
    const bytes = random(3 * MIB, 79);
    const { id } = await repo.ingest(bytes);
    await repo.close();
    const [pack] = repoFiles(path, /^packs\/data\/.*\.pack$/).sort((a, b) => statSync(b).size - statSync(a).size);
    const whole = readFileSync(pack);
    for (const damage of [...Object.values(damages), rmSync]) {
      damage(pack);
      const other = await ContainerArchive.open(path, kind.open);
      const codes = new Set();
      other.on('warning', ({ code, pack: about }) => {
        codes.add(code);
        assert.ok(pack.endsWith(`${about}.pack`), about);
      });
      const healed = [];
      other.on('repair:healed', (value) => healed.push(value));
      assertSameBytes(await restored(other, id), bytes);
      await other.close();
      await settle();
      if (codes.size === 0) {
        // nothing that was read was damaged, so nothing was detected: verify detects such damage
        writeFileSync(pack, whole);
        continue;
      }
      assert.ok(codes.has('WARN_DEGRADED_READ') && codes.has('WARN_PACK_HEALED'), [...codes].join());
      assert.deepEqual(healed, [{ pack: basename(pack, '.pack') }]);
      if (!readFileSync(pack).equals(whole)) assert.fail('the pack was not repaired');
    }
  });

  test(`${kind.name}: a missing pack without parity is ERR_PACK_MISSING`, async (t) => {
    const { path, repo } = await freshRepo(t, kind, { parity: false });
    const { id } = await repo.ingest(random(3 * MIB, 76));
    await repo.close();
    const packs = repoFiles(path, /^packs\/data\/.*\.pack$/).sort((a, b) => statSync(b).size - statSync(a).size);
    rmSync(packs[0]);
    const other = await reopen(t, path, kind);
    let error;
    await collect(await other.restore(id)).catch((thrown) => { error = thrown; });
    assert.equal(error?.code, 'ERR_PACK_MISSING', error?.stack);
    assert.ok(packs[0].includes(error.pack));
  });

  test(`${kind.name}: garbage in the index is a warning and no error, and a restore has the right bytes`, async (t) => {
    for (const [what, damage] of Object.entries(damages)) {
      for (const pattern of [/^index\/.*\.seg$/, /^packs\/data\/.*\.idx$/]) {
        const { path, repo } = await freshRepo(t, kind);
        const bytes = random(2 * MIB, 77);
        const { id } = await repo.ingest(bytes);
        await repo.close();
        const files = repoFiles(path, pattern);
        assert.ok(files.length > 0);
        files.forEach(damage);
        const other = await ContainerArchive.open(path, kind.open);
        const warnings = [];
        other.on('warning', (warning) => warnings.push(warning));
        assertSameBytes(await restored(other, id), bytes, `${what}: bytes`);
        assert.equal((await other.ingest(bytes)).originalSize, bytes.length);
        await settle();
        if (pattern.source.includes('seg')) assert.ok(warnings.length > 0, `${what}: a warning`);
        for (const { code, message } of warnings) assert.ok(typeof code === 'string' && message.length > 0);
        await other.close();
      }
    }
  });

  test(`${kind.name}: files of other programs in the directory do no harm`, async (t) => {
    const { path, repo } = await freshRepo(t, kind);
    const bytes = random(MIB, 78);
    const { id } = await repo.ingest(bytes);
    await repo.close();
    for (const folder of ['.', 'packs/data', 'snapshots', 'index', 'keys', 'locks']) {
      if (!existsSync(join(path, folder))) continue;
      for (const name of ['.DS_Store', '.tmp-123', 'Thumbs.db', 'copy of x.json', `${'0'.repeat(31)}.json`, `${'A'.repeat(32)}.json`, 'x.pack', 'x.seg']) {
        writeFileSync(join(path, folder, name), 'left by another program');
      }
    }
    symlinkSync('/nonexistent', join(path, 'snapshots', 'dangling'));
    appendFileSync(join(path, 'snapshots', '.tmp-x.json'), '{');
    const other = await reopen(t, path, kind);
    assert.deepEqual((await other.listSnapshots()).map((snapshot) => snapshot.id), [id]);
    assertSameBytes(await restored(other, id), bytes);
    assert.equal((await other.ingest(bytes)).newChunks, 0);
  });
}

for (const [what, damage] of Object.entries(damages)) {
  test(`damaged key files (${what}) are ERR_KEY_FILE_CORRUPT`, async (t) => {
    const { path, repo } = await freshRepo(t, ENCRYPTED);
    await repo.close();
    // The second copies too: a single damaged copy must not lock the user out.
    repoFiles(path, /^(keys|packs\/parity\/keys)\/.*\.json$/).forEach(damage);
    await refusedUnchanged(path, () => ContainerArchive.open(path, ENCRYPTED.open), 'ERR_KEY_FILE_CORRUPT');
  });
}

test('a key file with costs above the ceilings is refused at once', async (t) => {
  for (const [from, to] of [['"m":19456', '"m":4294967295'], ['"t":2', '"t":4000000000'], ['"p":1', '"p":100000']]) {
    const { path, repo } = await freshRepo(t, ENCRYPTED);
    await repo.close();
    const files = repoFiles(path, /^(keys|packs\/parity\/keys)\/.*\.json$/);
    for (const file of files) {
      assert.ok(readFileSync(file, 'utf8').includes(from));
      rewriteChecked(file, (text) => text.replace(from, to));
    }
    await refusedUnchanged(path, () => ContainerArchive.open(path, ENCRYPTED.open), 'ERR_KEY_FILE_CORRUPT');
  }
});

test('an encrypted repository whose config was changed to plain is not written in clear', async (t) => {
  const { path, repo } = await freshRepo(t, ENCRYPTED);
  await repo.close();
  rewriteChecked(join(path, 'config.json'), (text) => text
    .replace(/"encryption":\{[^}]*\}/, '"encryption":null')
    .replace('fastcdc-v2020-keyed', 'fastcdc-v2020')
    .replace(/,"mac":"[0-9a-f]*"/, ''));
  await refusedUnchanged(path, () => ContainerArchive.open(path, ENCRYPTED.open), 'ERR_NOT_ENCRYPTED');
});

test('an encrypted repository whose config was changed is refused', async (t) => {
  const { path, repo } = await freshRepo(t, ENCRYPTED);
  await repo.close();
  rewriteChecked(join(path, 'config.json'), (text) => text.replace(/"packSize":\d+/, '"packSize":65536'));
  await refusedUnchanged(path, () => ContainerArchive.open(path, ENCRYPTED.open), 'ERR_CONFIG_CORRUPT');
});

test('a member after the MAC of a config, which no key authenticates, is refused', async (t) => {
  const { path, repo } = await freshRepo(t, ENCRYPTED);
  await repo.close();
  const config = join(path, 'config.json');
  const whole = readFileSync(config, 'utf8');
  for (const more of [',"x":1', ',"checksum":"","x":1', `,"checksum":"${'0'.repeat(64)}","x":1`]) {
    rewriteChecked(config, (text) => text.replace(/(,"mac":"[0-9a-f]*")/, `$1${more}`));
    await refusedUnchanged(path, () => ContainerArchive.open(path, ENCRYPTED.open), 'ERR_CONFIG_CORRUPT');
    writeFileSync(config, whole);
  }
});

test('a read-only handle reads and refuses to write', async (t) => {
  const { path, repo } = await freshRepo(t);
  const { id } = await repo.ingest(['x']);
  await repo.close();
  const reader = await reopen(t, path, PLAIN, { readOnly: true });
  const before = treeHash(path);
  assert.equal((await restored(reader, id)).toString(), 'x');
  await assert.rejects(reader.ingest(['y']), (error) => error.code.startsWith('ERR_'));
  assert.equal((await reader.listSnapshots()).length, 1);
  assert.equal(treeHash(path), before);
});
