// The command line in tests: as a process, and on a terminal.

import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { root } from './harness.mjs';

/** The command line, as `npm run build:cli` has bundled it. */
export const CLI = join(root, 'cli', 'dist', 'containerarchive.js');
const IS_WINDOWS = process.platform === 'win32';
export const ON_UNIX = { skip: IS_WINDOWS && 'the commands of this test exist on Unix only' };
export const has = (program) => spawnSync(program, ['--version'], { stdio: 'ignore' }).error === undefined;

/** The environment without what a user of this machine may have set. */
export function environment(more = {}) {
  const names = Object.keys(process.env).filter((name) => !name.startsWith('CONTAINERARCHIVE_'));
  return { ...Object.fromEntries(names.map((name) => [name, process.env[name]])), TZ: 'UTC', CONTAINERARCHIVE_CACHE_DIR: '', ...more };
}

/** Runs the command line: { status, stdout, stderr }. */
export function run(args, { env, input = '', cwd, lines = [] } = {}) {
  const { status, stdout, stderr, error } = spawnSync(process.execPath, [CLI, ...args], {
    env: environment(env), input, cwd, encoding: 'utf8', timeout: 100_000,
  });
  if (error) throw error;
  for (const line of lines) assert.match(stderr + stdout, line);
  assert.ok(!/\n\s+at /.test(stderr), `a stack trace: ${stderr}`);
  return { status, stdout, stderr };
}

/** The values of JSON lines. */
export const values = (stdout) => stdout.split('\n').filter(Boolean).map((line) => JSON.parse(line));

/** A command line with a repository: `ok` expects exit code 0 and returns stdout. */
export function commands(path, env = {}) {
  const all = { CONTAINERARCHIVE_REPOSITORY: path, ...env };
  const any = (...args) => run(args, { env: all });
  const ok = (...args) => {
    const { status, stdout, stderr } = any(...args);
    assert.equal(status, 0, `${args.join(' ')}: ${stderr}`);
    return stdout;
  };
  const fails = (code, pattern, ...args) => {
    const { status, stderr, stdout } = any(...args);
    assert.equal(status, code, `${args.join(' ')}: ${stdout} ${stderr}`);
    assert.match(stderr, pattern);
    return stderr;
  };
  return { any, ok, fails, json: (...args) => values(ok('--json', ...args)) };
}

/** A running command line, and its outcome. */
export function start(args, options, { isRead = true } = {}) {
  const child = spawn(process.execPath, [CLI, ...args], { env: environment(), stdio: ['pipe', 'pipe', 'pipe'], ...options });
  let output = '';
  if (isRead) child.stdout.on('data', (part) => (output += part));
  child.stderr.on('data', (part) => (output += part));
  const exited = new Promise((resolve) => child.on('close', (status, signal) => resolve({ status, signal, output })));
  return { child, exited };
}

/** For tests that need a terminal, which script(1) makes. */
export const WITH_TERMINAL = {
  skip: !/util-linux/.test(spawnSync('script', ['--version'], { encoding: 'utf8' }).stdout)
    && 'SKIPPED: no script(1) of util-linux, which makes a terminal',
};

/**
 * Runs it on a terminal, where a user answers: `answers` are pairs of a question (a pattern) and
 * what is typed once it is shown, with Enter after it unless it is a Buffer.
 */
export function runOnTerminal(args, answers, { env, redirect = '' } = {}) {
  const line = [process.execPath, CLI, ...args].map((word) => `'${word}'`).join(' ');
  const child = spawn('script', ['-qfec', `${line} ${redirect}`, '/dev/null'], {
    env: environment({ TERM: 'xterm', ...env }), stdio: ['pipe', 'pipe', 'inherit'],
  });
  let output = '';
  let unseen = '';
  const left = [...answers];
  child.stdout.on('data', (part) => {
    output += part;
    unseen += part;
    if (left.length === 0 || !left[0][0].test(unseen)) return;
    unseen = '';
    const [, typed] = left.shift();
    child.stdin.write(typeof typed === 'string' ? `${typed}\r` : typed);
  });
  return new Promise((resolve) => child.on('close', (status) => resolve({ status, output })));
}
