// The members of tars: listed, looked up, restored and compared as GNU tar and Python see them,
// with the index that an ingest makes and without one.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import {
  chmodSync, existsSync, linkSync, lstatSync, mkdirSync, readFileSync, readdirSync, readlinkSync, renameSync, rmSync, symlinkSync,
  truncateSync, utimesSync, writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import {
  ENCRYPTED, KIB, MIB, PLAIN, assertSameBytes, freshRepo, random, rejectsWith, reopen, restored, temporary, test,
} from './support/harness.mjs';

const POSIX = process.platform !== 'win32';
const SMALL = { packSize: 256 * KIB, chunking: { min: 4 * KIB, avg: 16 * KIB, max: 64 * KIB } };

/** A directory with files of all kinds that any user can create. */
function tree(folder) {
  mkdirSync(join(folder, 'etc/deep/er'), { recursive: true });
  mkdirSync(join(folder, 'empty'));
  writeFileSync(join(folder, 'etc/hostname'), 'server\n');
  writeFileSync(join(folder, 'etc/deep/er/big'), random(300 * KIB, 9));
  writeFileSync(join(folder, 'etc/deep/file'), 'x'.repeat(700));
  writeFileSync(join(folder, 'etc.conf'), '');
  writeFileSync(join(folder, `${'long'.repeat(40)}`), 'a long name');
  writeFileSync(join(folder, 'ünï'), 'ü');
  chmodSync(join(folder, 'etc/hostname'), 0o640);
  utimesSync(join(folder, 'etc/hostname'), 1_700_000_000, 1_700_000_000);
  symlinkSync('hostname', join(folder, 'etc/link'));
  linkSync(join(folder, 'etc/deep/er/big'), join(folder, 'zz-hard'));
  writeFileSync(join(folder, 'sparse'), 'begin');
  truncateSync(join(folder, 'sparse'), MIB);
  writeFileSync(join(folder, 'sparse'), 'end', { flag: 'a' });
  return folder;
}

const tar = (folder, ...args) => execFileSync('tar', ['-C', folder, ...args, '-cf', '-', '.'], { maxBuffer: 64 * MIB });

/** Python's view of a tar: an entry for each member. */
function members(bytes) {
  const program = `
import json, sys, tarfile
kinds = {b'0': 'file', b'\\0': 'file', b'1': 'hardlink', b'2': 'symlink', b'5': 'directory', b'6': 'fifo', b'S': 'file'}
with tarfile.open(fileobj=sys.stdin.buffer, mode='r|', errors='surrogateescape') as tar:
    for m in tar:
        path = '/'.join(p for p in m.name.split('/') if p not in ('', '.'))
        kind = 'file' if m.isreg() else kinds[m.type]
        print(json.dumps({'path': path, 'type': kind, 'size': 0 if kind == 'hardlink' else m.size, 'mode': m.mode, 'uid': m.uid, 'gid': m.gid,
                          'user': m.uname, 'group': m.gname, 'mtime': int(m.mtime), 'link': m.linkname}))
`;
  const out = execFileSync('python3', ['-c', program], { input: bytes, maxBuffer: 64 * MIB });
  return out.toString().trim().split('\n').map((line) => JSON.parse(line));
}

async function all(iterator) {
  const found = [];
  for await (const entry of iterator) found.push(entry);
  return found;
}

const paths = (entries) => entries.map(({ path }) => path);

/** What both views know of a member. */
const compared = ({ path, type, size, mode, uid, gid, user, group, mtime, mtimeMs, link }) => (
  { path, type, size, mode, uid, gid, user, group, mtime: mtime ?? Math.floor(mtimeMs / 1000), link: link ?? '' });

const byPath = (a, b) => (a.path < b.path ? -1 : 1);

/** Everything below a directory, without times of directories. */
function walk(folder, at = '') {
  return readdirSync(join(folder, at)).sort().flatMap((name) => {
    const path = join(at, name);
    const stat = lstatSync(join(folder, path));
    const mode = stat.mode & 0o7777;
    if (stat.isDirectory()) return [{ path, mode }, ...walk(folder, path)];
    if (stat.isSymbolicLink()) return [{ path, link: readlinkSync(join(folder, path)) }];
    return [{ path, mode, mtime: Math.floor(stat.mtimeMs / 1000), bytes: readFileSync(join(folder, path)).toString('base64') }];
  });
}

for (const kind of [PLAIN, ENCRYPTED]) {
  for (const tarIndex of ['auto', false]) {
    test(`${kind.name}, tarIndex ${tarIndex}: members are those that GNU tar and Python see`, async (t) => {
      const { repo } = await freshRepo(t, kind, SMALL);
      const folder = tree(join(temporary(t), 'source'));
      for (const format of ['--format=gnu', '--format=posix']) {
        const bytes = tar(folder, format, '--sparse');
        const { id } = await repo.ingest(Readable.from([bytes]), { tarIndex });
        const expected = members(bytes).map(compared).sort(byPath).filter(({ path }) => path !== '');
        const found = await all(repo.files(id, { recursive: true }));
        assert.deepEqual(found.map(compared).sort(byPath), expected);
        for (const member of ['', '.', 'etc', './etc/', 'etc/deep', '/etc/deep/']) {
          const prefix = member.split('/').filter((part) => part !== '' && part !== '.').map((part) => `${part}/`).join('');
          const children = new Set(expected.filter(({ path }) => path.startsWith(prefix) && path !== prefix)
            .map(({ path }) => prefix + path.slice(prefix.length).split('/')[0]));
          assert.deepEqual(paths(await all(repo.files(id, { member }))).sort(), [...children].sort(), member);
        }
        for (const { path, type } of expected) {
          const info = await repo.memberInfo(id, { member: path });
          assert.equal(info.type, type);
          if (type === 'file' || type === 'hardlink') {
            assertSameBytes(await restored(repo, id, { member: path }), readFileSync(join(folder, path)), path);
          }
        }
        const etc = await restored(repo, id, { member: 'etc' });
        assert.deepEqual(members(etc).map(({ path }) => path).sort(), paths(expected).filter((path) => /^etc(\/|$)/.test(path)).sort());
        const hard = await restored(repo, id, { member: 'zz-hard' });
        assertSameBytes(hard, readFileSync(join(folder, 'etc/deep/er/big')));
        assertSameBytes(await restored(repo, id), bytes);
        const file = join(temporary(t), 'file');
        assert.equal((await repo.restoreToFile(id, { member: 'etc/hostname', path: file })).size, 7);
        assert.equal(readFileSync(file, 'utf8'), 'server\n');
      }
      assert.deepEqual((await repo.verify({ level: 'full' })).errors, []);
    }, { skip: !POSIX });

    test(`${kind.name}, tarIndex ${tarIndex}: a directory is restored as GNU tar restores it`, async (t) => {
      const { repo } = await freshRepo(t, kind, SMALL);
      const folder = tree(join(temporary(t), 'source'));
      const bytes = tar(folder, '--sparse');
      const { id } = await repo.ingest(Readable.from([bytes]), { tarIndex });
      const theirs = temporary(t);
      execFileSync('tar', ['-C', theirs, '-xpf', '-'], { input: bytes });
      const ours = join(temporary(t), 'ours');
      mkdirSync(ours);
      const report = await repo.restoreToDirectory(id, { to: ours });
      assert.deepEqual(walk(ours), walk(theirs));
      assert.deepEqual([report.skipped.count, report.hardLinks, report.isComplete], [0, 1, true]);

      const part = temporary(t);
      const { files } = await repo.restoreToDirectory(id, { member: 'etc/deep', to: part, stripComponents: 1 });
      assert.equal(files, 2);
      assert.deepEqual(walk(part), walk(join(theirs, 'etc')).filter(({ path }) => path.startsWith('deep')));
      const again = await repo.restoreToDirectory(id, { member: 'etc/hostname', to: ours });
      assert.deepEqual([again.files, again.skipped.count, again.skipped.first[0].path], [0, 1, './etc/hostname']);
      assert.equal((await repo.restoreToDirectory(id, { member: 'etc/hostname', to: ours, overwrite: true })).files, 1);
      await rejectsWith(repo.restoreToDirectory(id, { member: 'nothing', to: ours }), 'ERR_MEMBER_NOT_FOUND');
    }, { skip: !POSIX });
  }
}

test('owners, setuid and links out of the directory are as asked for', async (t) => {
  const { repo } = await freshRepo(t, PLAIN, SMALL);
  const folder = temporary(t);
  writeFileSync(join(folder, 'program'), '#!/bin/sh\n', { mode: 0o755 });
  chmodSync(join(folder, 'program'), 0o4755);
  symlinkSync('/etc/hostname', join(folder, 'out'));
  const { id } = await repo.ingest(tar(folder, '--owner=4321', '--group=1234'));
  const isRoot = process.getuid() === 0;
  const run = async (options) => {
    const to = temporary(t);
    const report = await repo.restoreToDirectory(id, { to, ...options });
    const { uid, gid, mode } = lstatSync(join(to, 'program'));
    return { owner: [uid, gid], mode: mode & 0o7777, links: readdirSync(to).filter((name) => name === 'out'), report };
  };
  const plain = await run({});
  assert.deepEqual([plain.mode, plain.links, plain.report.skipped.count], [0o755, [], 1]);
  assert.deepEqual(plain.owner, isRoot ? [4321, 1234] : [process.getuid(), process.getgid()]);
  const own = await run({ owners: false, setuid: true, outsideLinks: true });
  assert.deepEqual([own.mode, own.links, own.report.skipped.count], [0o4755, ['out'], 0]);
  assert.deepEqual(own.owner, [process.getuid(), process.getgid()]);
}, { skip: !POSIX });

test('an index counts in nothing that people see, and is the same in the next snapshot', async (t) => {
  const { repo } = await freshRepo(t, PLAIN, SMALL);
  const bytes = tar(tree(join(temporary(t), 'source')));
  const without = await repo.ingest(bytes, { tarIndex: false });
  const withIt = await repo.ingest(bytes);
  const counts = ({ originalSize, chunkCount, items: [{ size, chunkCount: own }] }) => [originalSize, chunkCount, size, own];
  assert.deepEqual(counts(withIt), counts(without));
  assert.equal(withIt.newChunks, 0);
  const before = (await repo.stats()).chunks;
  await repo.ingest(bytes);
  assert.equal((await repo.stats()).chunks, before);
  assert.ok(before > without.newChunks);
}, { skip: !POSIX });

test('the last member of a path counts, and all of them are shown on demand', async (t) => {
  const { repo } = await freshRepo(t);
  const folder = temporary(t);
  const archive = join(temporary(t), 'archive.tar');
  writeFileSync(join(folder, 'a'), 'one');
  execFileSync('tar', ['-C', folder, '-cf', archive, 'a']);
  writeFileSync(join(folder, 'a'), 'three');
  execFileSync('tar', ['-C', folder, '-rf', archive, './a']);
  const { id } = await repo.ingest(readFileSync(archive));
  assert.deepEqual((await all(repo.files(id))).map(({ size }) => size), [5]);
  const both = await all(repo.files(id, { all: true }));
  assert.deepEqual(both.map(({ size, isSuperseded, rawPath }) => [size, isSuperseded, rawPath]), [[3, true, 'a'], [5, undefined, './a']]);
  assert.deepEqual((await all(repo.files(id, { member: 'a' }))).map(({ size }) => size), [5]);
  assert.equal((await restored(repo, id, { member: 'a' })).toString(), 'three');
}, { skip: !POSIX });

test('names that are no UTF-8 are Buffers', async (t) => {
  const { repo } = await freshRepo(t);
  const name = Buffer.from('caf\xe9', 'latin1');
  const folder = temporary(t);
  writeFileSync(Buffer.concat([Buffer.from(`${folder}/`), name]), 'latin');
  const { id } = await repo.ingest(execFileSync('tar', ['-C', folder, '-cf', '-', '.']));
  const [entry] = await all(repo.files(id));
  assert.deepEqual(entry.path, name);
  assert.equal((await restored(repo, id, { member: name })).toString(), 'latin');
  assert.equal((await repo.memberInfo(id, { member: entry.path })).size, 5);
  await rejectsWith(repo.memberInfo(id, { member: 'café' }), 'ERR_MEMBER_NOT_FOUND');
}, { skip: process.platform !== 'linux' });

test('two snapshots are compared member by member', async (t) => {
  const { repo } = await freshRepo(t);
  const folder = tree(join(temporary(t), 'source'));
  const first = await repo.ingest(tar(folder));
  rmSync(join(folder, 'etc/deep/file'));
  writeFileSync(join(folder, 'etc/new'), 'new');
  chmodSync(join(folder, 'etc/hostname'), 0o600);
  const second = await repo.ingest(tar(folder), { tarIndex: false });
  const found = (await all(repo.diff(first.id, second.id))).filter(({ after, before }) => (after ?? before).type !== 'directory');
  assert.deepEqual(found.map(({ change, path }) => [change, path]), [
    ['removed', 'etc/deep/file'], ['changed', 'etc/hostname'], ['added', 'etc/new'],
  ]);
  assert.deepEqual([found[1].before.mode, found[1].after.mode], [0o640, 0o600]);
  assert.deepEqual(await all(repo.diff(first.id, first.id)), []);
}, { skip: !POSIX });

test('what is no tar is an ordinary item, and the errors say what it is', async (t) => {
  const { repo } = await freshRepo(t);
  const warnings = [];
  repo.on('warning', ({ code, message }) => warnings.push([code, message]));
  const bytes = tar(tree(join(temporary(t), 'source')));
  const items = [
    { name: 'text', type: 'x', stream: ['no tar'] },
    { name: 'gzip', type: 'x', stream: [gzipSync(bytes)] },
    { name: 'cut', type: 'x', stream: [bytes.subarray(0, bytes.length - 12 * KIB)] },
    { name: 'tar', type: 'x', stream: [bytes] },
  ];
  const { id } = await repo.ingestMulti(items);
  const other = temporary(t);
  const { value: first } = await repo.files(id, { item: 'cut', recursive: true }).next();
  const part = await repo.restoreToDirectory(id, { item: 'cut', member: first.path, to: other });
  assert.equal(part.isComplete, false, 'also of a part that is whole');
  const error = await rejectsWith(repo.files(id, { item: 'text' }).next(), 'ERR_NOT_A_TAR');
  assert.deepEqual([error.item, error.snapshotId], ['text', id]);
  const wrapped = await rejectsWith(repo.memberInfo(id, { item: 'gzip', member: 'a' }), 'ERR_NOT_A_TAR');
  assert.match(wrapped.message, /compressed by gzip/);
  assert.ok((await all(repo.files(id, { item: 'cut', recursive: true }))).length > 0);
  await rejectsWith(repo.files(id).next(), 'ERR_INVALID_ARGUMENT');
  await rejectsWith(repo.files(id, { item: 'none' }).next(), 'ERR_ITEM_NOT_FOUND');
  await rejectsWith(repo.restore(id, { item: 'tar', member: 'none' }), 'ERR_MEMBER_NOT_FOUND');
  await rejectsWith(repo.restore(id, { item: 'tar', member: 'etc/link' }), 'ERR_INVALID_ARGUMENT');
  await rejectsWith(repo.restore(id, { item: 'tar', member: 'a', range: { start: 0 } }), 'ERR_INVALID_ARGUMENT');
  await rejectsWith(repo.memberInfo(id, { item: 'tar', member: 5 }), 'ERR_INVALID_ARGUMENT');
  await repo.ingest(['no tar'], { tarIndex: true });
  await new Promise((resolve) => { setTimeout(resolve, 100); });
  // the ingest, two lists
  const incomplete = Array(3).fill('WARN_TAR_INCOMPLETE');
  assert.deepEqual(warnings.map(([code]) => code), [...incomplete, 'WARN_NO_TAR_INDEX']);
  assert.match(warnings[0][1], /"cut"/);
  await rejectsWith(repo.memberInfo(id, { item: 'tar', member: 'etc\0hostname' }), 'ERR_INVALID_ARGUMENT');
  await rejectsWith(repo.ingest(['x'], { tarIndex: 'yes' }), 'ERR_INVALID_ARGUMENT');
}, { skip: !POSIX });

test('an item that is no tar creates no directory, and is not read to its end', async (t) => {
  const { repo, path } = await freshRepo(t, PLAIN, { ...SMALL, parity: false });
  const to = join(temporary(t), 'out');
  const block = Buffer.alloc(512);
  const refused = { empty: Buffer.alloc(0), short: Buffer.from('a'), zeros: Buffer.alloc(4096), text: Buffer.from('text '.repeat(400)), block };
  block.write('0001000', 148);
  for (const [name, bytes] of Object.entries(refused)) await repo.ingest(bytes, { items: [{ name }], tags: { name } });
  const gzip = await repo.ingest(gzipSync(tar(tree(join(temporary(t), 'source')))));
  for (const name of Object.keys(refused)) {
    const { id } = await repo.latest({ tags: { name } });
    for (const member of [undefined, '.', './/', '/']) await rejectsWith(repo.restoreToDirectory(id, { to, member }), 'ERR_NOT_A_TAR');
    await rejectsWith(repo.restoreToDirectory(id, { to, item: name }), 'ERR_NOT_A_TAR');
    await rejectsWith(repo.restoreToDirectory(id, { to, item: 'none' }), 'ERR_ITEM_NOT_FOUND');
  }
  await assert.rejects(repo.restoreToDirectory(gzip.id, { to }), { code: 'ERR_NOT_A_TAR', message: /gzip/ });

  // all packs but those of the first bytes and of the list may be missing
  const { id } = await repo.ingest(random(4 * MIB, 12));
  const packs = readdirSync(join(path, 'packs/data')).filter((name) => name.endsWith('.pack'));
  const codes = [];
  for (const name of packs) {
    const [file, away] = [join(path, 'packs/data', name), join(temporary(t), name)];
    renameSync(file, away);
    await repo.restoreToDirectory(id, { to }).catch(({ code }) => codes.push(code));
    renameSync(away, file);
  }
  const others = codes.filter((code) => code !== 'ERR_NOT_A_TAR');
  assert.ok(packs.length > 10 && codes.length === packs.length && others.length <= 2, codes.join(' '));
  assert.ok(!existsSync(to));
}, { skip: !POSIX });

test('a restore into a directory never writes into the repository below it', async (t) => {
  const { repo, path } = await freshRepo(t);
  const source = temporary(t);
  mkdirSync(join(source, 'repo/snapshots'), { recursive: true });
  writeFileSync(join(source, 'repo/config.json'), 'no');
  writeFileSync(join(source, 'repo/snapshots/evil'), 'no');
  writeFileSync(join(source, 'file'), 'yes');
  const { id } = await repo.ingest(tar(source));
  const before = readFileSync(join(path, 'config.json'));
  const to = join(path, '..');
  const report = await repo.restoreToDirectory(id, { to, overwrite: true });
  assert.equal(report.files, 1);
  assert.ok(report.skipped.first.some(({ path: name, reason }) => name.endsWith('repo/config.json') && /repository/.test(reason)));
  assert.deepEqual(readFileSync(join(path, 'config.json')), before);
  assert.deepEqual(readdirSync(join(path, 'snapshots')), [`${id}.json`]);
  assert.equal(readFileSync(join(to, 'file'), 'utf8'), 'yes');
}, { skip: !POSIX });

test('a restore into a directory reports its progress, and the links that have no file', async (t) => {
  const { repo } = await freshRepo(t);
  const folder = temporary(t);
  mkdirSync(join(folder, 'b'));
  writeFileSync(join(folder, 'a'), random(MIB, 3));
  linkSync(join(folder, 'a'), join(folder, 'b/link'));
  const archive = join(temporary(t), 'archive.tar');
  execFileSync('tar', ['-C', folder, '-cf', archive, 'a', 'b/link']);
  execFileSync('tar', ['--delete', '-f', archive, 'a']);
  const { id } = await repo.ingest(readFileSync(archive));
  const alone = await repo.restoreToDirectory(id, { member: 'b', to: temporary(t) });
  assert.deepEqual([alone.files, alone.lostLinks], [0, 1]);
  const whole = await repo.ingest(tar(folder));
  const reports = [];
  await repo.restoreToDirectory(whole.id, { to: temporary(t), onProgress: (report) => reports.push(report) });
  assert.equal(reports.at(-1).percentage, 100);
  assert.equal(reports.filter(({ percentage }) => percentage === 100).length, 1);
}, { skip: !POSIX });

test('a list is read page by page, and can be left', async (t) => {
  const { repo, path } = await freshRepo(t);
  const folder = temporary(t);
  for (let i = 0; i < 1500; i++) writeFileSync(join(folder, `file${String(i).padStart(5, '0')}`), '');
  const { id } = await repo.ingest(tar(folder));
  const found = await all(repo.files(id));
  assert.equal(found.length, 1500);
  assert.deepEqual(paths(found), paths(found).toSorted());
  for await (const { path: first } of repo.files(id)) {
    assert.equal(first, 'file00000');
    break;
  }
  const stopped = new AbortController();
  const iterator = repo.files(id, { signal: stopped.signal });
  await iterator.next();
  stopped.abort(new Error('enough'));
  await assert.rejects(all(iterator), /enough/);
  await repo.close();
  await rejectsWith(repo.files(id).next(), 'ERR_CLOSED');
  assert.equal((await all((await reopen(t, path)).files('latest'))).length, 1500);
}, { skip: !POSIX });
