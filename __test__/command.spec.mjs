// ingestCommand: exactly what a command wrote, if it exited with code 0; otherwise no snapshot and
// no process left.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  ENCRYPTED, MIB, PLAIN, afterwards, assertSameBytes, freshRepo, random, rejectsWith, repoFiles, restored, root, temporary, test,
} from './support/harness.mjs';

const POSIX = { skip: process.platform === 'win32' && 'signals and process groups of POSIX' };

/** A command that runs a script of Node. */
const node = (script, name = 'dump', more = {}) => ({ command: [process.execPath, '-e', script], name, ...more });
/** A command that runs a script of the shell. */
const sh = (script, name = 'dump', more = {}) => ({ command: ['sh', '-c', script], name, ...more });

async function assertNothingPublished(repo, path) {
  assert.deepEqual(await repo.listSnapshots(), []);
  assert.deepEqual(repoFiles(path, /^snapshots\/|^packs\/parity\/records\//), []);
}

/** Waits until a condition holds; the limit of a minute is for a busy machine, not for the code. */
async function eventually(what, holds) {
  for (const start = performance.now(); performance.now() - start < 60_000; await sleep(20)) if (holds()) return;
  assert.fail(`not within a minute: ${what}`);
}

/** Whether a process runs and is not a zombie. */
function isAlive(pid) {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  const stat = `/proc/${pid}/stat`;
  return !existsSync(stat) || !/^\d+ \(.*\) Z/s.test(readFileSync(stat, 'utf8'));
}

/** The pid that a command wrote to a file. */
async function pidIn(file) {
  await eventually(`${file} is written`, () => existsSync(file) && readFileSync(file, 'utf8').endsWith('\n'));
  return Number(readFileSync(file, 'utf8'));
}

for (const kind of [PLAIN, ENCRYPTED]) {
  test(`${kind.name}: the output of a command is backed up, byte for byte`, async (t) => {
    const { repo } = await freshRepo(t, kind);
    const bytes = random(5 * MIB, 80);
    const file = join(temporary(t), 'file');
    writeFileSync(file, bytes);
    const snapshot = await repo.ingestCommand(
      { command: [process.execPath, '-e', 'fs.createReadStream(process.argv[1]).pipe(process.stdout)', file], name: 'db.sql' },
      { tags: { service: 'shop' } },
    );
    assert.deepEqual(snapshot.items.map(({ name, type, size }) => ({ name, type, size })), [{ name: 'db.sql', type: 'data', size: bytes.length }]);
    assert.deepEqual(snapshot.tags, { service: 'shop' });
    assertSameBytes(await restored(repo, snapshot.id), bytes);
  });
}

test('several commands are one snapshot, in order, each started when its turn comes', async (t) => {
  const { repo } = await freshRepo(t);
  const folder = temporary(t);
  const commands = ['a', 'b', 'c'].map((name) => ({
    command: [process.execPath, '-e', 'console.log(fs.readdirSync(".").join()); fs.writeFileSync(process.argv[1], "")', name],
    name, type: 'listing', cwd: folder,
  }));
  const { id, items } = await repo.ingestCommand(commands);
  assert.deepEqual(items.map(({ name, type }) => [name, type]), [['a', 'listing'], ['b', 'listing'], ['c', 'listing']]);
  assert.equal((await restored(repo, id)).toString(), '\na\na,b\n');
});

test('a command gets exactly the arguments, environment and stdin of the call', async (t) => {
  const { repo } = await freshRepo(t);
  const args = ['', ' a  b ', '$HOME', '*', '"', "'", '; echo x', 'ä👍', '--', '\n'];
  const script = 'console.log(JSON.stringify([process.argv.slice(1), process.env.ONE, process.env.TWO ?? null, fs.readFileSync(0).length]))';
  const { id } = await repo.ingestCommand({
    command: [process.execPath, '-e', script, '--', ...args], name: 'x', env: { ...process.env, ONE: '1', TWO: undefined },
  });
  assert.deepEqual(JSON.parse(await restored(repo, id)), [args, '1', null, 0]);
  assert.equal((await repo.ingestCommand(node('process.stdout.write(process.env.PATH)'))).originalSize, Buffer.byteLength(process.env.PATH));
  assert.equal((await repo.ingestCommand(node('process.stdout.write("x")', 'x', { env: process.env }))).originalSize, 1);
});

test('a command that writes nothing and exits with code 0 is an empty item and a warning', async (t) => {
  const { repo, path } = await freshRepo(t);
  const warnings = [];
  repo.on('warning', (warning) => warnings.push(warning));
  assert.equal((await repo.ingestCommand([node('', 'a'), node('console.error("nothing to do")', 'b')])).originalSize, 0);
  const what = `The command ${JSON.stringify(process.execPath)} of item`;
  assert.deepEqual(warnings.map(({ stderrTail, ...warning }) => warning), ['a', 'b'].map((item) => (
    { code: 'WARN_COMMAND_EMPTY', message: `${what} "${item}" wrote nothing: the item is empty`, item })));
  // it may be empty, and one that wrote something is none
  await repo.ingestCommand([node('', 'a', { expectedSize: 0 }), node('process.stdout.write("x")', 'b', { refuseEmpty: true })]);
  assert.equal(warnings.length, 2);
  const listed = (await repo.listSnapshots()).length;
  for (const more of [{}, { expectedSize: 0 }]) {
    const error = await rejectsWith(repo.ingestCommand(node('', 'a', { refuseEmpty: true, ...more })), 'ERR_SOURCE_FAILED');
    assert.deepEqual([error.message, error.item], [`${what} "a" failed: it wrote nothing`, 'a']);
  }
  assert.deepEqual([(await repo.listSnapshots()).length, warnings.length], [listed, 2]);
  assert.deepEqual(repoFiles(path, /^packs\/parity\/records\//), []);
});

test('an exit code in okExitCodes is a warning, and any other one is refused', async (t) => {
  const { repo, path } = await freshRepo(t);
  const warnings = [];
  repo.on('warning', (warning) => warnings.push(warning));
  const exiting = (code, more) => node(`process.stdout.write('out'); console.error('file changed'); process.exitCode = ${code}`, 'tar', more);
  const { id } = await repo.ingestCommand(exiting(1, { okExitCodes: [0, 1] }));
  assert.equal((await restored(repo, id)).toString(), 'out');
  assert.deepEqual(warnings.splice(0), [{
    code: 'WARN_COMMAND_EXIT_CODE', item: 'tar', exitCode: 1, stderrTail: 'file changed\n',
    message: `The command ${JSON.stringify(process.execPath)} of item "tar" ended with exit code 1, which okExitCodes accepts`,
  }]);
  await repo.ingestCommand([exiting(0, { okExitCodes: [0, 1] }), { ...exiting(0), name: 'b' }]);
  for (const [code, okExitCodes] of [[2, [0, 1]], [0, [1]], [1, undefined], [1, [0]]]) {
    const error = await rejectsWith(repo.ingestCommand(exiting(code, { okExitCodes })), 'ERR_SOURCE_FAILED');
    assert.deepEqual([error.exitCode, error.stderrTail], [code, 'file changed\n']);
  }
  assert.deepEqual(warnings, []);
  // the exit proves nothing about the size
  await rejectsWith(repo.ingestCommand(exiting(1, { okExitCodes: [1], expectedSize: 4 })), 'ERR_SOURCE_FAILED');
  assert.equal((await repo.listSnapshots()).length, 2);
  assert.equal(repoFiles(path, /^snapshots\//).length, 2);
  for (const okExitCodes of [[], null, 0, ['0'], [-1], [0.5], [2 ** 32], { 0: 1 }]) {
    await rejectsWith(repo.ingestCommand(exiting(0, { okExitCodes })), 'ERR_INVALID_ARGUMENT');
  }
  await rejectsWith(repo.ingestCommand(exiting(0, { refuseEmpty: 1 })), 'ERR_INVALID_ARGUMENT');
});

test('a command that a signal ends, or that ends too late, is refused whatever okExitCodes has', async (t) => {
  const { repo, path } = await freshRepo(t);
  const okExitCodes = [0, 1, 128 + 15, 15];
  repo.on('warning', ({ code }) => assert.fail(code));
  assert.equal((await rejectsWith(repo.ingestCommand(sh('echo x; kill -TERM $$', 'x', { okExitCodes })), 'ERR_SOURCE_FAILED')).signal, 'SIGTERM');
  await rejectsWith(repo.ingestCommand(sh('trap "exit 1" TERM; echo x; sleep 60 & wait', 'x', { okExitCodes, timeoutMs: 300 })), 'ERR_SOURCE_FAILED');
  await assertNothingPublished(repo, path);
}, POSIX);

const failures = {
  'exits with 1 after its output': [`process.stdout.write(Buffer.alloc(3e6), () => { console.error('no route'); process.exit(1); })`, { exitCode: 1, stderrTail: 'no route\n' }],
  'exits with 77 without output': [`console.error('a'); process.exitCode = 77`, { exitCode: 77, stderrTail: 'a\n' }],
  'exits long after it closed its output': [`fs.writeSync(1, 'x'); fs.closeSync(1); setTimeout(() => process.exit(3), 300)`, { exitCode: 3, stderrTail: '' }],
  'throws': [`process.stdout.write('x'); throw new Error('expected by the test')`, { exitCode: 1 }],
};

for (const [what, [script, expected]] of Object.entries(failures)) {
  test(`a command that ${what} leaves no snapshot and a typed error`, async (t) => {
    const { repo, path } = await freshRepo(t);
    for (const commands of [node(script), [node('process.stdout.write("good")', 'good'), node(script), node(`process.stdout.write("later")`, 'later')]]) {
      const error = await rejectsWith(repo.ingestCommand(commands), 'ERR_SOURCE_FAILED');
      assert.equal(error.item, 'dump');
      for (const [name, value] of Object.entries(expected)) assert.equal(error[name], value, name);
      assert.ok(error.hint);
      assert.match(error.message, new RegExp(`exit code ${expected.exitCode}$`));
      assert.ok(!error.message.includes(script), 'arguments may hold secrets');
    }
    await assertNothingPublished(repo, path);
    assert.equal((await repo.ingestCommand(node('process.stdout.write("x")'))).originalSize, 1);
  });
}

test('a command that a signal ends leaves no snapshot', async (t) => {
  const { repo, path } = await freshRepo(t);
  for (const signal of ['SIGTERM', 'SIGKILL', 'SIGSEGV']) {
    const error = await rejectsWith(repo.ingestCommand(sh(`echo x; kill -${signal.slice(3)} $$`)), 'ERR_SOURCE_FAILED');
    assert.deepEqual([error.signal, error.exitCode], [signal, undefined]);
  }
  await assertNothingPublished(repo, path);
}, POSIX);

test('a program that cannot be started is the cause', async (t) => {
  const { repo, path } = await freshRepo(t);
  const error = await rejectsWith(repo.ingestCommand({ command: ['/nonexistent/program', 'secret'], name: 'x' }), 'ERR_SOURCE_FAILED');
  assert.equal(error.cause.code, 'ENOENT');
  assert.ok(!error.message.includes('secret'));
  await rejectsWith(repo.ingestCommand({ command: [temporary(t)], name: 'x' }), 'ERR_SOURCE_FAILED');
  await rejectsWith(repo.ingestCommand({ command: [process.execPath, ...Array(100).fill('x'.repeat(100_000))], name: 'x' }), 'ERR_SOURCE_FAILED');
  await assertNothingPublished(repo, path);
});

test('an unusable working directory is named instead of the program', async (t) => {
  const { repo, path } = await freshRepo(t);
  const folder = temporary(t);
  const file = join(folder, 'file');
  writeFileSync(file, '');
  for (const [cwd, why] of [[join(folder, 'missing'), 'does not exist'], [file, 'is not a directory'], [join(file, 'x'), 'cannot be entered (ENOTDIR)']]) {
    const error = await rejectsWith(repo.ingestCommand(node('', 'x', { cwd })), 'ERR_SOURCE_FAILED');
    assert.ok(error.message.endsWith(`its working directory ${JSON.stringify(cwd)} ${why}`), error.message);
    assert.equal(error.path, cwd);
    assert.match(error.hint, /^Create the directory, or correct cwd\./);
  }
  // Both are missing: the directory is reported.
  const both = { command: ['/nonexistent/program'], name: 'x', cwd: join(folder, 'missing') };
  assert.equal((await rejectsWith(repo.ingestCommand(both), 'ERR_SOURCE_FAILED')).path, both.cwd);
  const program = await rejectsWith(repo.ingestCommand({ command: ['/nonexistent/program'], name: 'x', cwd: folder }), 'ERR_SOURCE_FAILED');
  assert.equal(program.path, undefined);
  assert.match(program.message, /cannot be started \(ENOENT\)$/);
  await assertNothingPublished(repo, path);
}, POSIX);

test('a command without descriptors left for it is a typed error', async (t) => {
  const { path } = await freshRepo(t);
  const [begun, go] = ['begun', 'go'].map((name) => join(temporary(t), name));
  const { status, stdout, stderr } = spawnSync('sh', ['-c', 'ulimit -n 128; exec "$0" -e "$1"', process.execPath, `
    const fs = require('fs');
    const { ContainerArchive } = require(${JSON.stringify(root)});
    (async () => {
      const repo = await ContainerArchive.open(${JSON.stringify(path)});
      const ingest = repo.ingestCommand([
        { command: ['sh', '-c', 'echo > ${begun}; while [ ! -e ${go} ]; do sleep 0.1; done'], name: 'first' },
        { command: ['sh', '-c', 'echo x'], name: 'second' },
      ]).then(() => 'a snapshot', (error) => error);
      while (!fs.existsSync(${JSON.stringify(begun)})) await new Promise((resolve) => setTimeout(resolve, 20));
      fs.writeFileSync(${JSON.stringify(go)}, '');
      const open = [];
      try { for (;;) open.push(fs.openSync('/dev/null')); } catch {}
      const error = await ingest;
      open.forEach((fd) => fs.closeSync(fd));
      console.log(error.code, error.item, error.cause?.code);
    })();`], { encoding: 'utf8' });
  assert.deepEqual([status, stdout, stderr], [0, 'ERR_SOURCE_FAILED second EMFILE\n', '']);
}, POSIX);

test('the last 4096 bytes of stderr are kept, in complete characters', async (t) => {
  const { repo } = await freshRepo(t);
  const error = await rejectsWith(repo.ingestCommand(node(
    `process.stderr.write('ä'.repeat(3e5) + 'x', () => process.exit(1))`)), 'ERR_SOURCE_FAILED');
  assert.equal(error.stderrTail, `${'ä'.repeat(2047)}x`);
  // A command that writes much to stderr and exits with code 0 succeeds, and does not stall.
  const { originalSize } = await repo.ingestCommand(node(`process.stderr.write('x'.repeat(5e6)); process.stdout.write('good')`));
  assert.equal(originalSize, 4);
});

test('the exit of a command counts although a background process outlives it, and its output is read to the end', async (t) => {
  const { repo } = await freshRepo(t);
  // A background process holds stderr open.
  const { id } = await repo.ingestCommand(sh('echo begin; (sleep 0.3; echo end) & (exec >&-; sleep 30) &'));
  assert.equal((await restored(repo, id)).toString(), 'begin\nend\n');
  // A background process holds stdout open, and the command has failed: there is nothing to wait
  // for.
  const pidFile = join(temporary(t), 'pid');
  const error = await rejectsWith(repo.ingestCommand(sh(`sleep 300 & echo $! > ${pidFile}; echo why >&2; exit 4`)), 'ERR_SOURCE_FAILED');
  assert.deepEqual([error.exitCode, error.stderrTail], [4, 'why\n']);
  const pid = await pidIn(pidFile);
  await eventually('the process in the background is ended', () => !isAlive(pid));
}, POSIX);

test('a command that takes too long is ended with all processes that it started, also when it ignores SIGTERM', async (t) => {
  const { repo, path } = await freshRepo(t);
  const [one, two] = ['one', 'two'].map((name) => join(temporary(t), name));
  for (const script of [
    `sleep 300 & echo $! > ${two}; echo $$ > ${one}; echo x; wait`,
    `trap '' TERM; sh -c "trap '' TERM; while :; do sleep 1; done" & echo $! > ${two}; echo $$ > ${one}; while :; do sleep 1; done`,
    `exec >&-; sleep 300 & echo $! > ${two}; echo $$ > ${one}; wait`,
  ]) {
    for (const file of [one, two]) writeFileSync(file, '');
    const error = await rejectsWith(repo.ingestCommand(sh(script, 'slow', { timeoutMs: 500 })), 'ERR_SOURCE_FAILED');
    assert.match(error.message, /within 500 ms/);
    for (const file of [one, two]) {
      const pid = await pidIn(file);
      await eventually('it is ended', () => !isAlive(pid));
    }
  }
  await assertNothingPublished(repo, path);
  assert.equal((await repo.ingestCommand(sh('echo x', 'quick', { timeoutMs: 60_000 }))).originalSize, 2);
}, POSIX);

test('the time of one command does not count for the next', async (t) => {
  const { repo } = await freshRepo(t);
  const commands = [node('console.log(1)', 'a', { timeoutMs: 30_000 }), node('setTimeout(() => console.log(2), 500)', 'b')];
  const timers = () => process.getActiveResourcesInfo().filter((name) => name === 'Timeout').length;
  const before = timers();
  await repo.ingestCommand(commands);
  assert.ok(timers() <= before, 'no timer is left'); // one of an earlier test may end in the meantime
});

test('an abort, close(), a wrong size and a commitWhen that rejects end the command', async (t) => {
  const { repo, path } = await freshRepo(t);
  const pidFile = join(temporary(t), 'pid');
  const endless = sh(`sleep 300 & echo $! > ${pidFile}; cat /dev/zero`);
  const boom = new Error('boom');
  const ways = {
    abort: async () => {
      const controller = new AbortController();
      const ingest = repo.ingestCommand(endless, { signal: controller.signal });
      ingest.catch(() => {});
      await pidIn(pidFile);
      controller.abort(boom);
      await assert.rejects(ingest, (error) => error === boom);
    },
    size: () => rejectsWith(repo.ingestCommand({ ...endless, expectedSize: MIB }), 'ERR_SOURCE_FAILED'),
    gate: async () => {
      const commitWhen = pidIn(pidFile).then(() => { throw boom; });
      assert.equal((await rejectsWith(repo.ingestCommand(endless, { commitWhen }), 'ERR_SOURCE_FAILED')).cause, boom);
    },
    close: async () => {
      const closed = rejectsWith(repo.ingestCommand(endless), 'ERR_CLOSED');
      await pidIn(pidFile);
      await repo.close();
      await closed;
    },
  };
  for (const [way, end] of Object.entries(ways)) {
    writeFileSync(pidFile, '');
    if (way === 'close') await assertNothingPublished(repo, path);
    await end();
    const pid = await pidIn(pidFile);
    await eventually(`${way}: it is ended`, () => !isAlive(pid));
  }
  assert.deepEqual(repoFiles(path, /^snapshots\//), []);
}, POSIX);

test('an abort before a command begins keeps it from starting', async (t) => {
  const { repo } = await freshRepo(t);
  const file = join(temporary(t), 'begun');
  const never = node(`fs.writeFileSync(${JSON.stringify(file)}, '')`);
  await assert.rejects(repo.ingestCommand(never, { signal: AbortSignal.abort() }), { name: 'AbortError' });
  const controller = new AbortController();
  const ingest = repo.ingestCommand([node('setInterval(() => {}, 1000)', 'first'), never], { signal: controller.signal });
  setTimeout(() => controller.abort(), 200);
  await assert.rejects(ingest, { name: 'AbortError' });
  await rejectsWith(repo.ingestCommand([node('process.exit(1)', 'first'), never]), 'ERR_SOURCE_FAILED');
  await repo.close();
  await rejectsWith(repo.ingestCommand(never), 'ERR_CLOSED');
  await sleep(100);
  assert.ok(!existsSync(file));
});

test('a command is read no further than the engine can take', async (t) => {
  const { repo } = await freshRepo(t, PLAIN, { compression: { algorithm: 'zstd', level: 19 } });
  const count = join(temporary(t), 'count');
  const script = `let n = 0; const bytes = require('crypto').randomBytes(1 << 20);
    for (;;) { bytes.writeUInt32LE(++n); fs.writeSync(1, bytes); fs.writeFileSync(${JSON.stringify(count)}, String(n)); }`;
  const controller = new AbortController();
  const ingest = repo.ingestCommand(node(script), { signal: controller.signal });
  await sleep(1000);
  controller.abort();
  await assert.rejects(ingest, { name: 'AbortError' });
  const mib = existsSync(count) ? Number(readFileSync(count, 'utf8')) : 0;
  t.diagnostic(`${mib} MiB were written within a second of zstd 19`);
  assert.ok(mib <= 512);
});

test('a command leaves no zombie, no listener and no timer', async (t) => {
  const { repo } = await freshRepo(t);
  const children = () => readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8');
  // An aborted ingest rejects before its command has ended: one of another test may still run.
  await eventually('no command of another test runs', () => children() === '' && process.listenerCount('SIGHUP') === 0);
  const listeners = () => process.eventNames().map((name) => [String(name), process.listenerCount(name)]).sort();
  const before = listeners();
  for (let i = 0; i < 30; i++) {
    if (i % 2) await repo.ingestCommand(sh('echo x'));
    else await rejectsWith(repo.ingestCommand(sh('echo x; exit 1')), 'ERR_SOURCE_FAILED');
  }
  assert.deepEqual(listeners(), before);
  const zombies = () => readdirSync('/proc').filter((name) => /^\d+$/.test(name)).filter((pid) => {
    try {
      const [, state, parent] = /^\d+ \(.*\) (\S) (\d+)/s.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'));
      return state === 'Z' && Number(parent) === process.pid;
    } catch {
      return false; // it has exited
    }
  });
  await eventually('no process is left', () => zombies().length === 0 && children() === '');
}, { skip: process.platform !== 'linux' && 'needs /proc' });

/**
 * A command of two processes that write their pids to files, and either end when they are asked or
 * not.
 */
function twoProcesses(t, { stubborn = false } = {}) {
  const pids = ['one', 'two'].map((name) => join(temporary(t), name));
  const wait = 'while :; do sleep 1; done';
  const ignore = stubborn ? 'trap "" PIPE TERM;' : '';
  const script = `${ignore} sh -c '${ignore} ${wait}' & echo $! > ${pids[1]}; echo $$ > ${pids[0]}; ${wait}`;
  return { command: { command: ['sh', '-c', script], name: 'dump' }, pids };
}

/**
 * A process that runs `then` once its ingestCommand() of `command` runs, and how it ends: { child,
 * ended }.
 */
function host(t, path, { command, pids }, then = '') {
  const script = `
    const fs = require('fs');
    const { ContainerArchive } = require(${JSON.stringify(root)});
    (async () => {
      const repo = await ContainerArchive.open(${JSON.stringify(path)});
      let ingest;
      const begin = () => { ingest = repo.ingestCommand(${JSON.stringify(command)}).catch(() => {}); };
      const running = async () => {
        for (const file of ${JSON.stringify(pids)}) {
          while (!fs.existsSync(file) || !fs.readFileSync(file, 'utf8').endsWith('\\n')) await new Promise((resolve) => setTimeout(resolve, 20));
        }
      };
      ${then.includes('begin()') ? '' : 'begin(); await running();'}
      ${then};
      console.log('ready');
    })();`;
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  afterwards(t, () => child.kill('SIGKILL'));
  const ended = new Promise((resolve) => child.on('exit', (...how) => resolve(how)));
  const said = async (line) => {
    let text = '';
    for await (const part of child.stdout.iterator({ destroyOnReturn: false })) if ((text += part).includes(line)) return;
    assert.fail(`${line} was not said: ${text}`);
  };
  return { child, ended, said };
}

/** Waits until the processes of a command have ended. */
async function assertEnded({ pids }, what) {
  for (const file of pids) {
    const pid = await pidIn(file);
    await eventually(`${what}: ${file} has ended`, () => !isAlive(pid));
  }
}

for (const stubborn of [false, true]) {
  const kind = stubborn ? 'that ignores SIGTERM' : 'with a process in the background';

  test(`a command ${kind} ends when its host exits`, async (t) => {
    const { path } = await freshRepo(t);
    const two = twoProcesses(t, { stubborn });
    assert.deepEqual(await host(t, path, two, 'process.exit(7)').ended, [7, null]);
    await assertEnded(two, 'exit');
  }, POSIX);

  test(`a command ${kind} ends when a signal ends its host, which ends by that signal`, async (t) => {
    const { path } = await freshRepo(t);
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGKILL']) {
      const two = twoProcesses(t, { stubborn });
      const { child, ended, said } = host(t, path, two);
      await said('ready');
      child.kill(signal);
      assert.deepEqual(await ended, [null, signal]);
      await assertEnded(two, signal);
    }
  }, POSIX);

  test(`a command ${kind} ends with the worker thread that reads it`, async (t) => {
    const { path } = await freshRepo(t);
    const two = twoProcesses(t, { stubborn });
    // The thread itself sees that the processes run: its watchdog knows them then.
    const script = `
      const fs = require('node:fs');
      const { parentPort } = require('node:worker_threads');
      const { ContainerArchive } = require(${JSON.stringify(root)});
      ContainerArchive.open(${JSON.stringify(path)}).then((repo) => repo.ingestCommand(${JSON.stringify(two.command)}));
      const written = (file) => fs.existsSync(file) && fs.readFileSync(file, 'utf8').endsWith('\\n');
      const look = () => (${JSON.stringify(two.pids)}.every(written) ? parentPort.postMessage('running') : setTimeout(look, 20));
      look();`;
    const listeners = () => ['SIGINT', 'SIGTERM', 'SIGHUP'].map((name) => process.listenerCount(name));
    const before = listeners();
    const worker = new Worker(script, { eval: true });
    await once(worker, 'message');
    assert.deepEqual(listeners(), before);
    await worker.terminate();
    await assertEnded(two, 'terminate()');
  }, POSIX);
}

test('background processes of a command end with the host that still reads its output', async (t) => {
  const { path } = await freshRepo(t);
  const file = join(temporary(t), 'pid');
  const wait = `while kill -0 $$ 2> /dev/null; do sleep 0.1; done; mv ${file}.new ${file}; while :; do sleep 1; done`;
  const left = { command: { command: ['sh', '-c', `(${wait}) & echo $! > ${file}.new`], name: 'dump' }, pids: [file] };
  const { child, ended, said } = host(t, path, left);
  await said('ready');
  child.kill('SIGTERM');
  assert.deepEqual(await ended, [null, 'SIGTERM']);
  await assertEnded(left, 'SIGTERM');
}, POSIX);

test('a command is killed after its grace period although its host has died', async (t) => {
  const { path } = await freshRepo(t);
  const two = twoProcesses(t, { stubborn: true });
  const { child, ended, said } = host(t, path, two, 'await repo.close(); await ingest');
  await said('ready');
  child.kill('SIGKILL');
  await ended;
  await assertEnded(two, 'SIGKILL');
}, POSIX);

test('a host with a listener for a signal decides itself, whenever it was added', async (t) => {
  const { path } = await freshRepo(t);
  const listener = `process.on('SIGTERM', () => console.log('heard', process.listenerCount('SIGTERM')))`;
  for (const then of [`${listener}; begin(); await running()`, `begin(); await running(); ${listener}`]) {
    const two = twoProcesses(t);
    const { child, ended, said } = host(t, path, two, then);
    await said('ready');
    child.kill('SIGTERM');
    // as the only one: a library that acts only if it is (signal-exit) must not wait for this
    // package
    await said('heard 1');
    child.kill('SIGTERM');
    await said('heard 1');
    for (const file of two.pids) assert.ok(isAlive(await pidIn(file)));
    // it still ends by the signals for which it has no listener
    child.kill('SIGINT');
    assert.deepEqual(await ended, [null, 'SIGINT']);
    await assertEnded(two, 'SIGINT');
  }
}, POSIX);

test('a host that stops listening while a command runs ends by the signal', async (t) => {
  const { path } = await freshRepo(t);
  const two = twoProcesses(t);
  const then = `process.once('SIGTERM', () => { console.log('heard'); process.kill(process.pid, 'SIGTERM'); }); begin(); await running()`;
  const { child, ended, said } = host(t, path, two, then);
  await said('ready');
  child.kill('SIGTERM');
  assert.deepEqual(await ended, [null, 'SIGTERM']);
  await assertEnded(two, 'SIGTERM');
}, POSIX);

test('a command has no trace of its watchdog', async (t) => {
  const { repo } = await freshRepo(t);
  const listing = 'ls /proc/self/fd';
  const plain = spawnSync('sh', ['-c', listing], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }).stdout;
  const script = 'ls /proc/self/fd | xargs; cat /proc/$$/environ; cut -d " " -f 4,5,6 /proc/$$/stat; echo $$; readlink /proc/self/fd/0';
  const { id } = await repo.ingestCommand(sh(script, 'x', { env: { PATH: process.env.PATH, 'odd-name': '1' } }));
  const [descriptors, environment, ids, pid, input] = (await restored(repo, id)).toString().replace(/\0(?=\d)/, '\0\n').split('\n');
  assert.equal(descriptors, plain.trim().split('\n').join(' '));
  assert.equal(environment, `PATH=${process.env.PATH}\0odd-name=1\0`);
  assert.equal(ids, `${process.pid} ${pid} ${pid}`);
  assert.equal(input, '/dev/null');
}, { skip: process.platform !== 'linux' && 'needs /proc' });

test('a process exits on its own after its commands', async (t) => {
  const { path } = await freshRepo(t);
  const script = `
    const { ContainerArchive } = require(${JSON.stringify(root)});
    (async () => {
      const repo = await ContainerArchive.open(${JSON.stringify(path)});
      await repo.ingestCommand({ command: ['sh', '-c', 'sleep 60 >&- & echo x'], name: 'x', timeoutMs: 50_000 });
      console.log('done');
    })();`;
  const start = performance.now();
  const child = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  const out = [];
  child.stdout.on('data', (part) => out.push(part));
  const [code] = await new Promise((resolve) => child.on('exit', (...how) => resolve(how)));
  assert.deepEqual([code, Buffer.concat(out).toString()], [0, 'done\n']);
  assert.ok(performance.now() - start < 45_000);
}, POSIX);

test('an invalid command is refused, and nothing is started', async (t) => {
  const { repo } = await freshRepo(t);
  const file = join(temporary(t), 'begun');
  const good = node(`fs.writeFileSync(${JSON.stringify(file)}, '')`, 'good');
  for (const bad of [
    undefined, null, 'ls', ['ls'], [], {}, { command: ['ls'] }, { name: 'x' }, { command: 'ls', name: 'x' }, { command: [], name: 'x' },
    { command: [''], name: 'x' }, { command: ['ls', 1], name: 'x' }, { command: ['a\0b'], name: 'x' }, { command: ['ls', '\ud800'], name: 'x' },
    { command: ['ls'], name: '' }, { command: ['ls'], name: 'x', type: '' }, { command: ['ls'], name: 'x', stream: [] },
    ...[0, -1, 1.5, NaN, 2 ** 31, '5', null].map((timeoutMs) => ({ command: ['ls'], name: 'x', timeoutMs })),
    ...['', 'a\0', 1, null].map((cwd) => ({ command: ['ls'], name: 'x', cwd })),
    ...[null, [], 'x', { a: 1 }, { '': 'x' }, { 'a=b': 'x' }, { a: 'b\0' }].map((env) => ({ command: ['ls'], name: 'x', env })),
    { command: ['ls'], name: 'x', expectedSize: -1 },
    [good, { ...good }],
    [good, { command: ['ls'], name: 'x', shell: true }],
  ]) {
    await rejectsWith(repo.ingestCommand(bad), 'ERR_INVALID_ARGUMENT');
  }
  await rejectsWith(repo.ingestCommand(good, { items: [] }), 'ERR_INVALID_ARGUMENT');
  const error = await rejectsWith(repo.ingestCommand({ command: 'ls | wc', name: 'x' }), 'ERR_INVALID_ARGUMENT');
  assert.match(error.hint, /sh/);
  assert.ok(!existsSync(file));
});

test('the recommended shell command hides no failure of a pipe or a sequence', async (t) => {
  if (spawnSync('bash', ['-c', ':']).status !== 0) return t.skip('SKIPPED: there is no bash here');
  const { repo, path } = await freshRepo(t);
  const { hint } = await rejectsWith(repo.ingestCommand({ command: 'a | b', name: 'x' }), 'ERR_INVALID_ARGUMENT');
  const shell = JSON.parse(/\[.*\]/.exec(hint)[0]).slice(0, -1);
  for (const file of ['docs/api.md', 'index.d.ts']) {
    assert.ok(readFileSync(join(root, file), 'utf8').includes(`[${[...shell, '…'].map((part) => `'${part}'`).join(', ')}]`), file);
  }
  for (const script of ['(echo part; exit 3) | cat', '(echo part; exit 3); echo rest']) {
    const error = await rejectsWith(repo.ingestCommand({ command: [...shell, script], name: 'x' }), 'ERR_SOURCE_FAILED');
    assert.equal(error.exitCode, 3);
  }
  await assertNothingPublished(repo, path);
  assert.equal((await repo.ingestCommand({ command: [...shell, 'echo all | cat; echo of it'], name: 'x' })).originalSize, 10);
}, POSIX);
