// Steps of several scripts: running a command, installing the npm packages, finding the files of
// tests. Only Node's own modules, because it runs before anything is installed.

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The directory of the project. */
export const root = fileURLToPath(new URL('..', import.meta.url));

/**
 * Runs a command in the directory of the project, with the output of this process. Exits with the
 * status of the command when it fails.
 */
export function run(command, args, { env = {}, timeoutMs } = {}) {
  console.error(`\n> ${[command === process.execPath ? 'node' : command, ...args].join(' ')}`);
  const ran = spawnSync(command, args, {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'inherit', 'inherit'],
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
  });
  if (ran.error) console.error(ran.error.code === 'ETIMEDOUT' ? `Not done within ${timeoutMs / 60_000} minutes` : ran.error.message);
  if (ran.status !== 0) process.exit(ran.status || 1);
}

/**
 * The platform to compile for. The build of an addon always names it, and Cargo keeps what is
 * compiled for a named platform in a directory of its own: tests that name it too share the
 * dependencies with the addon.
 */
export function platform() {
  if (process.env.CARGO_BUILD_TARGET) return process.env.CARGO_BUILD_TARGET;
  const { stdout } = spawnSync('rustc', ['-vV'], { cwd: root, encoding: 'utf8' });
  return /^host: (.+)$/m.exec(stdout ?? '')?.[1];
}

/** Runs npm: the one that runs this script, if one does. */
export function npm(...args) {
  const cli = process.env.npm_execpath;
  if (cli) run(process.execPath, [cli, ...args]);
  else run(process.platform === 'win32' ? 'npm.cmd' : 'npm', args);
}

/** Whether every development package is installed in the version that package.json pins. */
function isInstalled() {
  const { devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  return Object.entries(devDependencies).every(([name, version]) => {
    const file = join(root, 'node_modules', name, 'package.json');
    return existsSync(file) && JSON.parse(readFileSync(file, 'utf8')).version === version;
  });
}

/** Installs the development packages unless they are installed. */
export function install() {
  if (!isInstalled()) npm('ci', '--no-audit', '--no-fund');
}

/** The one file in a directory (relative to the project) with this ending. */
export function onlyFile(folder, ending) {
  const names = readdirSync(join(root, folder)).filter((name) => name.endsWith(ending));
  if (names.length !== 1) throw new Error(`Expected one ${ending} file in ${folder}, found: ${names.join(', ') || 'none'}`);
  return join(root, folder, names[0]);
}

/** The Node tests. */
export function specs() {
  return readdirSync(join(root, '__test__'))
    .filter((name) => name.endsWith('.spec.mjs'))
    .sort()
    .map((name) => join('__test__', name));
}
