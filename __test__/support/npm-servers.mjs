// Two more servers of object storage on this machine, from npm, none of them a dependency of the
// package: s3rver, which has the protocol of S3 and ignores conditions, and azurite, which has that
// of Azure Blob Storage.
//
// Each is installed into target/object-servers, in CI or when asked for; where it is missing, its
// tests are skipped.

import { spawn, spawnSync } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from './ports.mjs';

const CACHE = fileURLToPath(new URL('../../target/object-servers', import.meta.url));
const INSTALL_LIMIT_MS = 300_000;
const ATTEMPTS = 600;
const PAUSE_MS = 100;

/** The account that azurite is born with, and its key, as its documentation has them. */
const AZURITE = {
  accessKeyId: 'devstoreaccount1',
  secretAccessKey: 'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==',
};

/** For each server: its package, the program, its arguments, and what `storage` needs. */
const SERVERS = {
  s3rver: {
    version: '3.7.1',
    program: 'bin/s3rver.js',
    args: (port, folder, bucket) => ['-d', folder, '-a', '127.0.0.1', '-p', `${port}`, '--silent', '--configure-bucket', bucket],
    connect: async (endpoint, bucket) => {
      await answered(`${endpoint}/${bucket}`);
      return { endpoint, region: 'us-east-1', accessKeyId: 'S3RVER', secretAccessKey: 'S3RVER', allowHttp: true };
    },
  },
  azurite: {
    version: '3.35.0', // later ones need Node 22
    program: 'dist/src/blob/main.js',
    args: (port, folder) => [
      '--blobHost', '127.0.0.1', '--blobPort', `${port}`, '--location', folder, '--silent', '--disableTelemetry', '--skipApiVersionCheck',
    ],
    connect: async (endpoint, container) => {
      await answered(endpoint);
      const path = `/${AZURITE.accessKeyId}/${container}?restype=container`;
      const made = await fetch(endpoint + path, { method: 'PUT', headers: signed(container) });
      if (!made.ok) throw new Error(`azurite answered ${made.status}: ${await made.text()}`);
      return { endpoint: `${endpoint}/${AZURITE.accessKeyId}`, ...AZURITE, allowHttp: true };
    },
  },
};

/** The file of a server's program; null where it is not installed and cannot be. */
export function findServer(name, { install = process.env.CI === 'true' } = {}) {
  const { version, program } = SERVERS[name];
  const folder = join(CACHE, `${name}-${version}`);
  const file = join(folder, 'node_modules', name, program);
  if (existsSync(file)) return file;
  if (!install) return null;
  mkdirSync(folder, { recursive: true });
  const npm = process.env.npm_execpath ? [process.execPath, process.env.npm_execpath] : [process.platform === 'win32' ? 'npm.cmd' : 'npm'];
  const args = ['install', '--prefix', folder, '--no-save', '--no-package-lock', '--ignore-scripts', '--no-audit', '--no-fund', `${name}@${version}`];
  const { status, stderr, error } = spawnSync(npm[0], [...npm.slice(1), ...args], { encoding: 'utf8', timeout: INSTALL_LIMIT_MS });
  if (status === 0 && existsSync(file)) return file;
  console.error(`*** ${name}@${version} cannot be installed: ${error?.message ?? stderr}`);
  rmSync(folder, { recursive: true, force: true });
  return null;
}

/** Why the tests of a server are skipped; false when they are not. */
export function skipOf(name) {
  if (findServer(name) !== null) return false;
  const why = `SKIPPED: no ${name}; to have it: CI=true node --test __test__/objectservers.spec.mjs`;
  console.error(`*** Object storage was NOT tested with ${name}: ${why}`);
  return why;
}

/** Starts a server with an empty bucket: { endpoint, storage, stop() }. */
export async function startServer(name, bucket) {
  const { args, connect } = SERVERS[name];
  const [port, folder] = [await freePort(), mkdtempSync(join(tmpdir(), 'containerarchive-server-'))];
  const child = spawn(process.execPath, [findServer(name), ...args(port, folder, bucket)], { cwd: folder, stdio: 'ignore' });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const stop = async () => {
    child.kill('SIGKILL');
    await ended;
    rmSync(folder, { recursive: true, force: true });
  };
  const endpoint = `http://127.0.0.1:${port}`;
  try {
    return { endpoint, storage: await connect(endpoint, bucket), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

/** Waits until a server answers, whatever its answer is. */
async function answered(url) {
  for (let attempt = 0; ; attempt++) {
    try {
      return await (await fetch(url)).arrayBuffer();
    } catch (error) {
      if (attempt === ATTEMPTS) throw error;
      await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  }
}

/** The headers of the request that creates a container, signed as Azure's "Shared Key" is. */
function signed(container) {
  const headers = { 'x-ms-date': new Date().toUTCString(), 'x-ms-version': '2021-12-02' };
  const { accessKeyId: account, secretAccessKey: key } = AZURITE;
  const own = Object.entries(headers).map(([name, value]) => `${name}:${value}\n`).join('');
  // the account is part of the path at this server, so it is there twice
  const text = `PUT${'\n'.repeat(12)}${own}/${account}/${account}/${container}\nrestype:container`;
  const signature = createHmac('sha256', Buffer.from(key, 'base64')).update(text).digest('base64');
  return { ...headers, authorization: `SharedKey ${account}:${signature}` };
}
