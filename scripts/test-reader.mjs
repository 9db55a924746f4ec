// Reads repositories with scripts/reader.py, which is written from docs/format.md alone:
// node scripts/test-reader.mjs
//
// Input: the known answers, the frozen repositories, damaged copies of one (to show that damage is
// found), and new repositories created by the addon, if there is one. Missing Python packages: in
// CI they are installed into target/reader-venv, and a failure of that fails the test; elsewhere
// the test prints SKIPPED and exits with status 0.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { root } from './steps.mjs';

const CI = process.env.CI === 'true';
const FROZEN = join(root, 'tests/fixtures/repos');
const VENV = join(root, 'target/reader-venv');
const MAX_OUTPUT = 256 << 20;

/** Exits 0 when this Python can read every repository. */
const PROBE = `
import shutil, sys
assert sys.version_info >= (3, 11), "Python 3.11 or newer"
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
try:
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
    Argon2id(salt=bytes(16), length=32, iterations=1, lanes=1, memory_cost=8)
except Exception:
    import argon2
try:
    import zstandard
except ImportError:
    if not shutil.which("zstd"):
        from compression import zstd
`;

const fails = [];

function expect(what, holds, more = '') {
  if (holds) return;
  fails.push(what);
  console.error(`FAILED: ${what}${more && `\n${more}`}`);
}

const sha256 = (bytes) => createHash('sha256').update(bytes).digest('hex');

function run(command, args) {
  return spawnSync(command, args, { cwd: root, maxBuffer: MAX_OUTPUT, env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1' } });
}

/** A Python that can read everything, or the reason why there is none. */
function findPython() {
  const venv = join(VENV, process.platform === 'win32' ? 'Scripts/python.exe' : 'bin/python');
  let reason = 'no python3';
  const works = (command) => {
    const probe = run(command, ['-c', PROBE]);
    if (!probe.error && probe.status !== 0) reason = probe.stderr.toString().trim().split('\n').pop();
    return !probe.error && probe.status === 0;
  };
  const found = ['python3', 'python', venv].find(works);
  if (found || !CI) return { python: found, reason };

  const base = ['python3', 'python'].find((command) => run(command, ['-c', '']).status === 0);
  if (!base) return { reason };
  console.error(`Python lacks something (${reason}); installing it into ${VENV}`);
  for (const [command, args] of [
    [base, ['-m', 'venv', VENV]],
    [venv, ['-m', 'pip', 'install', '--quiet', 'cryptography', 'zstandard']],
  ]) {
    const done = run(command, args);
    if (done.status !== 0) return { reason: `${command} ${args.join(' ')}: ${done.stderr}` };
  }
  return { python: works(venv) ? venv : undefined, reason };
}

const { python, reason } = findPython();
if (!python) {
  console.error(`\n*** SKIPPED: repositories were NOT read with scripts/reader.py: ${reason}`);
  console.error('*** To run it: python3 -m pip install cryptography zstandard\n');
  process.exit(CI ? 1 : 0);
}

/** Command-line arguments for a secret of an expected.json, or for none. */
function secretArgs(secret) {
  if (secret?.passphrase !== undefined) return ['--passphrase', secret.passphrase];
  return secret?.key === undefined ? [] : ['--key', secret.key];
}

const reader = (repo, secret, ...command) => run(python, ['scripts/reader.py', repo, ...secretArgs(secret), ...command]);

/**
 * Checks a whole repository, and restores every item of the given snapshots, which contain their
 * hashes.
 */
function readBack(what, repo, secret, snapshots) {
  const check = reader(repo, secret, 'check');
  expect(`${what}: check`, check.status === 0, `${check.stdout}${check.stderr}`);
  console.error(`${what}: ${check.stdout.toString().split('\n')[0]}`);
  for (const { id, items } of snapshots) {
    for (const item of items) {
      const { status, stdout, stderr } = reader(repo, secret, 'restore', id, '--item', item.name);
      expect(`${what}: ${id} ${JSON.stringify(item.name)}`, status === 0 && sha256(stdout) === item.sha256, stderr);
    }
  }
}

function readFrozen() {
  for (const version of readdirSync(FROZEN)) {
    for (const name of readdirSync(join(FROZEN, version))) {
      const folder = join(FROZEN, version, name);
      const { secrets, snapshots } = JSON.parse(readFileSync(join(folder, 'expected.json'), 'utf8'));
      readBack(`frozen ${version}/${name}`, join(folder, 'repo'), secrets[0], snapshots);
      for (const secret of secrets.slice(1)) {
        const list = reader(join(folder, 'repo'), secret, 'list');
        const opened = list.status === 0 && snapshots.every(({ id }) => list.stdout.includes(id));
        expect(`${name}: opens with every secret`, opened, list.stderr);
      }
      if (secrets.length > 0) {
        const wrong = reader(join(folder, 'repo'), { passphrase: 'wrong' }, 'list');
        expect(`${name}: refuses a wrong passphrase`, wrong.status === 1);
      }
    }
  }
}

/** Changes one byte of one file of each kind: check must report it. */
function readDamaged(temporary) {
  const intact = join(FROZEN, 'v1/plain-parity/repo');
  for (const [folder, ending] of [
    ['packs/data', '.pack'],
    ['packs/data', '.idx'],
    ['index', '.seg'],
    ['snapshots', '.json'],
    ['packs/parity', '.par'],
    ['packs/parity', '.grp'],
    ['.', 'config.json'],
  ]) {
    const copy = join(temporary, 'damaged');
    cpSync(intact, copy, { recursive: true });
    const name = readdirSync(join(copy, folder)).find((file) => file.endsWith(ending));
    const bytes = readFileSync(join(copy, folder, name));
    bytes[bytes.length >> 1] ^= 1;
    writeFileSync(join(copy, folder, name), bytes);
    const { status, stdout, stderr } = reader(copy, undefined, 'check');
    expect(`damage to a ${ending} file is found`, status === 1 && `${stdout}${stderr}`.includes('PROBLEM'), stderr);
    rmSync(copy, { recursive: true });
  }
}

/**
 * Adds a member that no key authenticates after the MAC of a config, with a valid checksum:
 * the repository does not open.
 */
function readForged(temporary) {
  const folder = join(FROZEN, 'v1/sealed-raw-key');
  const copy = join(temporary, 'forged');
  cpSync(join(folder, 'repo'), copy, { recursive: true });
  const [secret] = JSON.parse(readFileSync(join(folder, 'expected.json'), 'utf8')).secrets;
  const config = join(copy, 'config.json');
  const [body] = readFileSync(config, 'utf8').split(',"checksum"');
  for (const [more, opens] of [['', true], [',"checksum":"","x":1', false]]) {
    writeFileSync(config, `${body}${more},"checksum":"${sha256(`${body}${more}`)}"}\n`);
    const { status, stderr } = reader(copy, secret, 'list');
    expect(`a config with ${more || 'nothing'} after its MAC`, opens ? status === 0 : stderr.includes('mac is not the last member'), stderr);
  }
  rmSync(copy, { recursive: true });
}

/**
 * Removes each pack in turn, two at once in a repository with two shards: everything is restored
 * from the rest.
 */
function readThroughParity(temporary) {
  for (const [name, lose] of [
    ['plain-parity', 1],
    ['sealed-parity', 2],
  ]) {
    const { secrets, snapshots } = JSON.parse(readFileSync(join(FROZEN, 'v1', name, 'expected.json'), 'utf8'));
    const copy = join(temporary, name);
    const packs = readdirSync(join(FROZEN, 'v1', name, 'repo/packs/data')).filter((file) => file.endsWith('.pack'));
    for (let at = 0; at < packs.length; at += lose) {
      cpSync(join(FROZEN, 'v1', name, 'repo'), copy, { recursive: true });
      for (const pack of packs.slice(at, at + lose)) {
        rmSync(join(copy, 'packs/data', pack));
        rmSync(join(copy, 'packs/data', pack.replace('.pack', '.idx')));
      }
      const check = reader(copy, secrets[0], 'check');
      expect(`${name}: lost packs are found`, check.status === 1 && `${check.stdout}`.includes('can be rebuilt from parity'));
      const { id, items } = snapshots[at % snapshots.length];
      for (const item of items) {
        const { status, stdout, stderr } = reader(copy, secrets[0], 'restore', id, '--item', item.name);
        expect(`${name}, ${packs[at]} lost: ${JSON.stringify(item.name)}`, status === 0 && sha256(stdout) === item.sha256, stderr);
      }
      rmSync(copy, { recursive: true });
    }
    console.error(`${name}: ${packs.length} packs lost, ${lose} at a time`);
  }
}

/** Bytes that are always the same: compressible lines, or noise. */
function testData(kind, length) {
  const parts = [];
  for (let n = 0, size = 0; size < length; n++) {
    const digest = createHash('sha256').update(`${kind} ${n}`).digest();
    const part = kind === 'noise' ? digest : Buffer.from(`INSERT INTO t VALUES (${n}, '${digest.toString('hex', 0, 4)}');\n`);
    parts.push(part);
    size += part.length;
  }
  return Buffer.concat(parts).subarray(0, length);
}

async function readFresh(temporary) {
  let ContainerArchive;
  try {
    ({ ContainerArchive } = createRequire(import.meta.url)(join(root, 'index.js')));
  } catch (error) {
    console.error(`\n*** SKIPPED: no new repositories were read: ${error.message.split('\n')[0]}\n`);
    expect('the addon loads', !CI);
    return;
  }
  const text = testData('text', 3 << 20);
  const noise = testData('noise', 3 << 20);
  const changed = Buffer.concat([text.subarray(0, 1 << 20), Buffer.from('a change'), text.subarray(1 << 20)]);
  const small = { min: 1024, avg: 4096, max: 16384 };
  const key = 'ab'.repeat(32);
  for (const [name, options, secret] of [
    ['plain gzip', { compression: 'gzip' }],
    ['plain zstd', { compression: 'zstd', packSize: 1 << 20 }],
    ['encrypted zstd', { compression: 'zstd', passphrase: 'a pässphrase' }, { passphrase: 'a pässphrase' }],
    ['encrypted with a key', { compression: 'gzip', key: Buffer.from(key, 'hex'), chunking: small }, { key }],
  ]) {
    const repo = join(temporary, name);
    const archive = await ContainerArchive.init(repo, options);
    const snapshots = [];
    for (const sources of [
      { text, 'a/b ñ': noise, empty: Buffer.alloc(0) },
      { text: changed, noise: noise.subarray(12_345) },
      { text: changed },
    ]) {
      const items = Object.entries(sources).map(([item, data]) => ({ name: item, type: 'test', stream: data }));
      const { id } = await archive.ingestMulti(items, { tags: { run: name }, digest: 'sha256' });
      const hashes = Object.entries(sources).map(([item, data]) => ({ name: item, sha256: sha256(data) }));
      snapshots.push({ id, items: hashes });
    }
    await archive.close();
    readBack(`fresh ${name}`, repo, secret, snapshots);
  }
}

const temporary = mkdtempSync(join(tmpdir(), 'containerarchive-reader-'));
try {
  const vectors = run(python, ['scripts/reader_vectors.py']);
  expect('known answers', vectors.status === 0, `${vectors.stdout}${vectors.stderr}`);
  console.error(`vectors: ${vectors.stdout.toString().trim()}`);
  expect('there are frozen repositories', existsSync(join(FROZEN, 'v1')));
  readFrozen();
  readDamaged(temporary);
  readForged(temporary);
  readThroughParity(temporary);
  await readFresh(temporary);
} finally {
  rmSync(temporary, { recursive: true, force: true });
}
console.error(fails.length === 0 ? 'All repositories were read correctly' : `${fails.length} failed`);
process.exitCode = fails.length === 0 ? 0 : 1;
