// A native addon that cannot be loaded: the true reason, what to do for it, and nothing else. Real
// failures where this system can produce them, captured texts of the others.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { root, temporary, test } from './support/harness.mjs';

const require = createRequire(import.meta.url);
const { diagnose, BUILDS } = require('../js/load-error.js');
const { builtFor } = require('../js/addon-file.js');
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const ADDON = process.env.NAPI_RS_NATIVE_LIBRARY_PATH ?? join(root, readdirSync(root).find((name) => name.endsWith('.node')) ?? 'missing.node');
const isGlibc = process.report.getReport().header.glibcVersionRuntime !== undefined;
const ABI = { linux: isGlibc ? '-gnu' : '-musl', win32: '-msvc' }[process.platform] ?? '';
const HERE = [`containerarchive-${process.platform}-${process.arch}${ABI}`];
const TEXT = Buffer.from('a text');

/** What a user does for a reason: each remedy is for one reason only. */
const REMEDIES = {
  addons: /without --no-addons|--allow-addons/,
  build: /npm run build/,
  bundle: /docs\/bundlers\.md/,
  optional: /--omit=optional/,
  platform: /--os=/,
};

/** Fails unless a text has exactly these remedies. */
function assertRemedies(text, ...expected) {
  const found = Object.keys(REMEDIES).filter((name) => REMEDIES[name].test(text));
  assert.deepEqual(found.sort(), expected.sort(), text);
}

/**
 * The package in node_modules of its own, with platform packages (names) whose addon is `addon` (a
 * file or bytes): { folder, addons }.
 */
function installed(t, { names = HERE, version = manifest.version, addon, loader, without = [] } = {}) {
  const modules = join(temporary(t), 'node_modules/@serve.zone');
  const folder = join(modules, 'containerarchive');
  for (const name of ['index.js', 'package.json', 'js', 'binding.js']) {
    if (!without.includes(name)) cpSync(join(root, name), join(folder, name), { recursive: true });
  }
  if (loader !== undefined) writeFileSync(join(folder, 'binding.js'), loader);
  const addons = [];
  for (const name of addon === undefined ? [] : names) {
    mkdirSync(join(modules, name));
    writeFileSync(join(modules, name, 'package.json'), JSON.stringify({ name: `@serve.zone/${name}`, version, main: 'addon.node' }));
    addons.push(join(modules, name, 'addon.node'));
    if (typeof addon === 'string') cpSync(addon, addons.at(-1));
    else if (addon !== null) writeFileSync(addons.at(-1), addon);
  }
  return { folder, addons };
}

/**
 * The environment of a process that finds the addon as a user's does, without reports of coverage.
 */
function cleanEnv(more = {}) {
  const env = { ...process.env, ...more };
  if (more.NAPI_RS_NATIVE_LIBRARY_PATH === undefined) delete env.NAPI_RS_NATIVE_LIBRARY_PATH;
  return env;
}

/** Requires a package in another process: the error's { code, reason, message, cause }, or null. */
function requireIn(folder, { args = [], env = {}, before = '' } = {}) {
  const script = `
    ${before}
    try { require(${JSON.stringify(folder)}); console.log('null'); } catch ({ code, reason, message, cause }) {
      console.log(JSON.stringify({ code, reason, message, cause: cause?.message }));
    }`;
  const { stdout, stderr } = spawnSync(process.execPath, [...args, '-e', script], { env: cleanEnv(env), encoding: 'utf8' });
  assert.ok(stdout !== '', stderr);
  const error = JSON.parse(stdout);
  if (error !== null) {
    assert.equal(error.code, 'ERR_NATIVE_LOAD');
    assert.match(error.message, /^Cannot load containerarchive \d+\.\d+\.\d+: .*[^.]\nTo fix this: ./);
  }
  return error;
}

test('the platform package of this version is loaded', (t) => {
  assert.equal(requireIn(installed(t, { addon: ADDON }).folder), null);
});

test('a package without its platform package states its name', (t) => {
  const { reason, message } = requireIn(installed(t).folder);
  assert.equal(reason, 'missing');
  assert.match(message, /the package @serve\.zone\/containerarchive-\S+ is not installed/);
  assert.ok(message.includes(`${process.platform} ${process.arch}`));
  if (isGlibc) assert.match(message, /glibc \d/);
  assertRemedies(message, 'optional', 'bundle');
});

test('node_modules of another system is recognised by its platform package', (t) => {
  const other = process.platform === 'linux' ? 'darwin' : 'linux';
  const { reason, message } = requireIn(installed(t, { names: [`containerarchive-${other}-s390x`], addon: ADDON }).folder);
  assert.equal(reason, 'missing');
  assert.match(message, new RegExp(`installed for another system: it has @serve\\.zone/containerarchive-${other}-s390x, and not `));
  assertRemedies(message, 'platform');
});

test('an incomplete installation states what it lacks', (t) => {
  const noAddon = requireIn(installed(t, { addon: null }).folder);
  assert.equal(noAddon.reason, 'missing');
  assert.match(noAddon.message, /incomplete: @serve\.zone\/containerarchive-\S+ has no addon/);
  const noLoader = requireIn(installed(t, { without: ['binding.js'] }).folder);
  assert.match(noLoader.message, /incomplete: binding\.js is missing/);
  for (const { message } of [noAddon, noLoader]) assertRemedies(message);
});

test('a clone of the source that is not built says so', (t) => {
  const { folder } = installed(t, { without: ['binding.js'] });
  writeFileSync(join(folder, 'Cargo.toml'), '');
  const { reason, message } = requireIn(folder);
  assert.equal(reason, 'missing');
  assertRemedies(message, 'build');
});

test('a variable that names a missing file is named', (t) => {
  const { reason, message } = requireIn(installed(t, { addon: ADDON }).folder, { env: { NAPI_RS_NATIVE_LIBRARY_PATH: '/none/such.node' } });
  assert.equal(reason, 'missing');
  assert.match(message, /NAPI_RS_NATIVE_LIBRARY_PATH names a file that does not exist: \/none\/such\.node/);
  assertRemedies(message);
});

test('a Node that forbids addons is named, by its flag, a variable or its permission model', (t) => {
  const { folder } = installed(t, { addon: ADDON });
  for (const how of [{ args: ['--no-addons'] }, { env: { NODE_OPTIONS: '--no-addons' } }]) {
    const { reason, message } = requireIn(folder, how);
    assert.equal(reason, 'no-addons');
    assert.match(message, /Node was started with --no-addons/);
    assertRemedies(message, 'addons');
  }
  const flag = process.allowedNodeEnvironmentFlags.has('--permission') ? '--permission' : '--experimental-permission';
  const { reason, message } = requireIn(folder, { args: [flag, '--allow-fs-read=*'] });
  assert.equal(reason, 'no-addons');
  assert.match(message, /permission model of Node forbids native addons/);
  assertRemedies(message, 'addons');
});

test('a file that is no library is named', (t) => {
  for (const bytes of [TEXT, Buffer.alloc(5000, 1), Buffer.from('version https://git-lfs.github.com/spec/v1\n')]) {
    const { folder, addons } = installed(t, { addon: bytes });
    const { reason, message, cause } = requireIn(folder);
    assert.equal(reason, 'not-an-addon');
    assert.ok(addons.some((path) => message.includes(`${path} is not a native library`)), message);
    if (isGlibc) assert.match(cause, /invalid ELF header|file too short/);
    assertRemedies(message, 'bundle');
  }
});

test('an addon for another processor is named with both, though the system reports a missing file', (t) => {
  const bytes = readFileSync(ADDON);
  const [other, number] = process.arch === 'x64' ? ['arm64', 183] : ['x64', 62];
  bytes.writeUInt16LE(number, 18);
  const { reason, message, cause } = requireIn(installed(t, { addon: bytes }).folder);
  assert.equal(reason, 'wrong-architecture');
  assert.ok(message.includes(`is built for linux ${other}, and this process is linux ${process.arch}`), message);
  assert.notEqual(cause, undefined);
  assertRemedies(message, 'platform');
}, { skip: process.platform !== 'linux' });

/**
 * An addon that needs a version of glibc that does not exist: in its table of needed versions,
 * the newest one is renamed, and the hash of its name replaced.
 */
function needingFutureGlibc(addon) {
  const hash = (name) => {
    let value = 0;
    for (const byte of Buffer.from(name)) {
      value = ((value << 4) >>> 0) + byte;
      value = (value ^ ((value & 0xf0000000) >>> 24)) & 0x0fffffff;
    }
    return value;
  };
  const word = (name) => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(hash(name));
    return bytes;
  };
  const replace = (bytes, from, to) => {
    let count = 0;
    for (let at = bytes.indexOf(from); at !== -1; at = bytes.indexOf(from, at + 1)) count += to.copy(bytes, at) && 1;
    assert.ok(count > 0);
  };
  const bytes = readFileSync(addon);
  const used = [...bytes.toString('latin1').matchAll(/GLIBC_2\.(\d\d)\0/g)].map(([, minor]) => Number(minor));
  const newest = `GLIBC_2.${Math.max(...used)}`;
  replace(bytes, Buffer.from(`${newest}\0`), Buffer.from('GLIBC_9.99\0'));
  replace(bytes, word(newest), word('GLIBC_9.99'));
  return bytes;
}

test('a glibc that is too old is named with both versions', (t) => {
  const { reason, message, cause } = requireIn(installed(t, { addon: needingFutureGlibc(ADDON) }).folder);
  assert.equal(reason, 'glibc-too-old');
  assert.match(message, /the addon needs glibc 9\.99 or later, and this system has glibc 2\.\d+\n/);
  assert.match(cause, /version `GLIBC_9\.99' not found/);
  assertRemedies(message, 'build');
}, { skip: !isGlibc });

test('an addon that this user must not read is named', (t) => {
  const { folder, addons } = installed(t, { addon: ADDON });
  for (const path of addons) chmodSync(path, 0);
  const { reason, message } = requireIn(folder);
  assert.equal(reason, 'no-permission');
  assert.match(message, /this user is not allowed to read \S+addon\.node/);
}, { skip: process.platform === 'win32' || process.getuid() === 0 });

test('anything but the native part of this version is refused', (t) => {
  const exported = (more) => `module.exports = { ...require(${JSON.stringify(ADDON)}), ${more} }`;
  for (const [loader, reason, text, ...remedies] of [
    ['module.exports = "./containerarchive-XYZ.node"', 'not-an-addon', /the loader returned a string/, 'bundle'],
    ['module.exports = {}', 'other-version', /it lacks NativeFile, .*, version/],
    [exported('NativeStop: undefined'), 'other-version', /it lacks NativeStop\n/],
    [exported('version: () => "0.0.1"'), 'other-version', /the native part is of version 0\.0\.1/],
  ]) {
    const error = requireIn(installed(t, { loader }).folder);
    assert.equal(error.reason, reason);
    assert.match(error.message, text);
    assertRemedies(error.message, ...remedies);
  }
  assert.equal(requireIn(installed(t, { loader: exported('') }).folder), null);
});

test('a platform package of another version is refused by name', (t) => {
  const { reason, message } = requireIn(installed(t, { version: '0.0.1', addon: ADDON }).folder);
  assert.equal(reason, 'other-version');
  assert.match(message, new RegExp(`the package @serve\\.zone/containerarchive-\\S+ is of version 0\\.0\\.1, and not of ${manifest.version}`));
  assertRemedies(message);
});

test('a Node that is too old is refused before anything else is loaded', (t) => {
  const { folder } = installed(t);
  for (const version of ['18.20.8', '20.8.1', '8.17.0']) {
    const before = `Object.defineProperty(process.versions, 'node', { value: '${version}' });`;
    const { reason, message } = requireIn(folder, { before });
    assert.equal(reason, 'unsupported-node');
    assert.match(message, new RegExp(`: it needs Node >= 20\\.9, and this is Node ${version.replaceAll('.', '\\.')}\n`));
    assertRemedies(message);
  }
  for (const version of ['20.9.0', '100.1.0']) {
    const before = `Object.defineProperty(process.versions, 'node', { value: '${version}' });`;
    assert.notEqual(requireIn(folder, { before }).reason, 'unsupported-node');
  }
  // Old ones parse this file before they run it.
  assert.doesNotMatch(readFileSync(join(root, 'js/runtime.js'), 'utf8').replace(/\/\/.*|\/\*[^]*?\*\//g, ''), /\?\.|\?\?|\*\*|#\w/);
});

test('a report of the process that throws does not hide the reason', (t) => {
  const { folder } = installed(t, { addon: TEXT });
  for (const before of [
    'process.report.getReport = () => { throw new Error("no report"); };',
    'process.report.getReport = () => null;',
    'Object.defineProperty(process, "report", { value: undefined });',
  ]) {
    assert.equal(requireIn(folder, { before }).reason, 'not-an-addon');
  }
});

test('the uncaught error is short on a terminal', (t) => {
  for (const options of [{}, { addon: TEXT }, { names: ['containerarchive-none'], addon: TEXT }]) {
    const { folder } = installed(t, options);
    const { stderr } = spawnSync(process.execPath, ['-e', `require(${JSON.stringify(folder)})`], { env: cleanEnv(), encoding: 'utf8' });
    assert.match(stderr, /Cannot load containerarchive/);
    assert.ok(stderr.trimEnd().split('\n').length <= 24, stderr);
    assert.doesNotMatch(stderr, /npm has a bug|wasm32/);
  }
});

/** Facts of an installation on linux x64 in which nothing is wrong. */
const FACTS = {
  platform: 'linux', arch: 'x64', libc: 'glibc 2.36', permissions: false, folder: '/app/node_modules/@serve.zone/containerarchive',
  isClone: false, hasLoader: true, named: undefined, file: null, wanted: 'W', others: [],
};

test('texts of other systems have their reasons', () => {
  const addon = { path: '/app/addon.node', builtFor: { platform: 'linux', arch: 'x64' } };
  for (const [text, reason, happened, facts] of [
    // Deno 2.9
    ['Requires ffi access to "/app/addon.node", run again with the --allow-ffi flag', 'no-permission', /^Deno has no ffi permission for \/app\/addon\.node$/],
    ['Requires read access to "/app/addon.node", run again with the --allow-read flag', 'no-permission', /^Deno has no read permission for/],
    // Node 24, --permission
    ['Access to this API has been restricted. Use --allow-fs-read to manage permissions.', 'no-permission', /^the permission model of Node/],
    // an addon of musl on glibc, and of glibc on musl
    ['libc.musl-x86_64.so.1: cannot open shared object file: No such file or directory', 'other-libc', /\(glibc 2\.36\)$/],
    ['Error loading shared library ld-linux-x86-64.so.2: No such file or directory (needed by /app/addon.node)', 'other-libc', /\(musl\)$/, { libc: 'musl' }],
    ['Error relocating /app/addon.node: gnu_get_libc_version: symbol not found', 'other-libc', /C library/, { libc: '' }],
    // a file system that is mounted with noexec
    ['/app/addon.node: failed to map segment from shared object', 'no-execute', /^the system does not let \/app\/addon\.node be executed$/, { file: addon }],
    ['/app/addon.node: cannot open shared object file: Permission denied', 'no-permission', /not allowed to read \/app\/addon\.node$/, { file: addon }],
    ["/lib/libc.so.6: version `GLIBC_2.38' not found (required by /app/addon.node)", 'glibc-too-old', /needs glibc 2\.38 or later, and this system has glibc 2\.36$/],
    // a library that is right, and lacks another one
    ['libother.so.1: cannot open shared object file: No such file or directory', 'other', /^libother\.so\.1: cannot open/, { file: addon }],
  ]) {
    const said = diagnose(['Cannot find module ./containerarchive.linux-x64-gnu.node', text, 'Cannot find native binding. npm has a bug'], { ...FACTS, ...facts });
    assert.equal(said.reason, reason, text);
    assert.match(said.happened, happened);
    assert.ok(said.todo.length > 10);
  }
});

test('files of other systems have their reasons', () => {
  for (const [built, reason] of [
    [{ platform: 'darwin', arch: 'arm64' }, 'wrong-architecture'],
    [{ platform: 'linux', arch: 'arm64' }, 'wrong-architecture'],
    [null, 'not-an-addon'],
    [undefined, 'other'], // cannot be read: nothing is known of it
  ]) {
    assert.equal(diagnose(['some text'], { ...FACTS, file: { path: '/a.node', builtFor: built } }).reason, reason);
  }
  const mac = { ...FACTS, platform: 'darwin', arch: 'arm64', libc: '' };
  assert.equal(diagnose(['some text'], { ...mac, file: { path: '/a.node', builtFor: { platform: 'darwin', arch: 'universal' } } }).reason, 'other');
});

test('a system without a build is named, and an archive of Electron', () => {
  const facts = { ...FACTS, platform: 'freebsd', libc: '' };
  const { reason, happened } = diagnose(["Cannot find module 'a'", 'Unsupported OS: freebsd, architecture: x64'], facts);
  assert.equal(reason, 'unsupported-platform');
  assert.equal(happened, 'there is no addon for freebsd x64');
  assert.deepEqual(
    [...new Set(manifest.napi.targets.map((target) => target.replace('x86_64', 'x64').replace('aarch64', 'arm64')).map((target) => {
      const system = ['linux', 'darwin', 'windows'].find((name) => target.includes(name)).replace('windows', 'win32');
      return `${system}-${target.split('-')[0]}`;
    }))].sort(),
    [...BUILDS].sort(),
  );
  const { todo } = diagnose(["Cannot find module 'a'"], { ...FACTS, folder: '/opt/app/resources/app.asar/node_modules/@serve.zone/containerarchive' });
  assert.match(todo, /asar/);
});

test('the header of a library states its system', () => {
  const head = (size, ...writes) => {
    const bytes = Buffer.alloc(size);
    for (const [at, text] of writes) Buffer.from(text, 'hex').copy(bytes, at);
    return bytes;
  };
  assert.deepEqual(builtFor(head(64, [0, '7f454c46'], [18, '3e00'])), { platform: 'linux', arch: 'x64' });
  assert.deepEqual(builtFor(head(64, [0, '7f454c46'], [18, 'b700'])), { platform: 'linux', arch: 'arm64' });
  assert.deepEqual(builtFor(head(32, [0, 'cffaedfe0c000001'])), { platform: 'darwin', arch: 'arm64' });
  assert.deepEqual(builtFor(head(32, [0, 'cafebabe'])), { platform: 'darwin', arch: 'universal' });
  assert.deepEqual(builtFor(head(512, [0, '4d5a'], [60, '80000000'], [128, '50450000'], [132, '64aa'])), { platform: 'win32', arch: 'arm64' });
  for (const bytes of [head(0), head(3, [0, '7f45']), head(4096), Buffer.from('version https://git-lfs')]) assert.equal(builtFor(bytes), null);
  if (['linux', 'darwin', 'win32'].includes(process.platform) && existsSync(ADDON)) {
    assert.deepEqual(builtFor(readFileSync(ADDON).subarray(0, 4096)), { platform: process.platform, arch: process.arch });
  }
});
