// Servers with the protocol of S3, on this machine, for tests of repositories on object storage.
//
// moto honours conditional puts. It is a Python package: where it is missing, tests are skipped, or
// in CI it is installed into target/moto-venv.

import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort } from './ports.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const VENV = join(root, 'target/moto-venv');
const MOTO = 'moto[server]==5.2.5';

function works(command) {
  return spawnSync(command, ['--help'], { stdio: 'ignore' }).status === 0;
}

/** The program moto_server, or null. */
function findMoto() {
  const inVenv = join(VENV, 'bin/moto_server');
  const found = ['moto_server', ...(existsSync(inVenv) ? [inVenv] : [])].find(works);
  if (found !== undefined || process.env.CI !== 'true') return found ?? null;
  for (const [command, args] of [
    ['python3', ['-m', 'venv', VENV]],
    [join(VENV, 'bin/python'), ['-m', 'pip', 'install', '--quiet', MOTO]],
  ]) {
    const { status, stderr } = spawnSync(command, args);
    if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${stderr}`);
  }
  return inVenv;
}

/** Why there is no server; undefined when there is one. */
export const moto = findMoto();
export const skip = moto === null ? `SKIPPED: no moto_server; to have it: pip install '${MOTO}'` : false;
if (skip) console.error(`*** Object storage was NOT tested: ${skip}`);

export const CREDENTIALS = { region: 'us-east-1', accessKeyId: 'test', secretAccessKey: 'a secret of the tests', allowHttp: true };

/** Starts moto with an empty bucket: { endpoint, storage, stop() }. */
export async function startMoto(bucket) {
  const port = await freePort();
  const child = spawn(moto, ['-H', '127.0.0.1', '-p', String(port)], { stdio: 'ignore' });
  const endpoint = `http://127.0.0.1:${port}`;
  const stop = () => {
    child.kill('SIGKILL');
    return new Promise((resolve) => child.once('exit', resolve));
  };
  for (let attempt = 0; ; attempt++) {
    try {
      const made = await fetch(`${endpoint}/${bucket}`, { method: 'PUT' });
      if (made.ok) break;
      throw new Error(`moto answered ${made.status}`);
    } catch (error) {
      if (attempt === 600) {
        await stop();
        throw error;
      }
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
  return { endpoint, storage: { ...CREDENTIALS, endpoint }, stop };
}

/**
 * A server that has no condition for puts: it answers them as if there were none ('ignore'), or
 * with 501 ('refuse'). Everything else goes to `endpoint`.
 */
export function startUnconditional(endpoint, mode) {
  return startFaulty(endpoint, ({ headers }) => {
    if (headers['if-none-match'] === undefined) return undefined;
    delete headers['if-none-match'];
    return mode === 'refuse' ? 501 : undefined;
  });
}

/** A slow link passes so many bytes on, and then waits: about 3 MB/s. */
const [SLOW_BYTES, SLOW_MS] = [64 * 1024, 20];

/** The codes of the answers that have a status. */
const CODES = { 403: 'AccessDenied', 500: 'InternalError', 501: 'NotImplemented', 503: 'SlowDown' };

/**
 * A connection to `endpoint` that fails: `fault(request, number)` returns what happens to a
 * request: undefined (answered), 'drop' (the connection is cut before the request is passed on),
 * 'lose' (passed on, and the answer lost), 'stall' (never answered), 'truncate' (half of the body
 * of the answer), 'flip' (one bit of the body), 'slow' (a little of each body at a time), or a
 * status of CODES. It may change the headers.
 */
export async function startFaulty(endpoint, fault) {
  let number = 0;
  const server = createServer(async (request, response) => {
    const what = fault(request, number++);
    const pause = async () => what === 'slow' && new Promise((resolve) => { setTimeout(resolve, SLOW_MS); });
    const parts = [];
    try {
      for await (const part of request) {
        parts.push(part);
        await pause();
      }
    } catch {
      return undefined;
    }
    if (what === 'drop') return request.socket.destroy();
    if (what === 'stall') return undefined;
    if (typeof what === 'number') {
      response.writeHead(what, { 'content-type': 'application/xml' });
      return response.end(`<Error><Code>${CODES[what]}</Code><Message>Later</Message></Error>`);
    }
    const headers = { ...request.headers };
    for (const name of ['host', 'connection', 'content-length', 'transfer-encoding', 'expect']) delete headers[name];
    const answer = await fetch(`${endpoint}${request.url}`, {
      method: request.method, headers, ...(['GET', 'HEAD'].includes(request.method) ? {} : { body: Buffer.concat(parts) }),
    });
    const bytes = Buffer.from(await answer.arrayBuffer());
    if (what === 'lose') return request.socket.destroy();
    const back = Object.fromEntries(answer.headers);
    if (request.method !== 'HEAD') back['content-length'] = String(bytes.length);
    delete back['content-encoding'];
    delete back['transfer-encoding'];
    if (what === 'flip' && bytes.length > 0) bytes[bytes.length >> 1] ^= 1;
    response.writeHead(answer.status, back);
    if (what === 'truncate' && bytes.length > 1) {
      response.write(bytes.subarray(0, bytes.length >> 1));
      return setTimeout(() => request.socket.destroy(), 10);
    }
    if (what === 'slow' && request.method !== 'HEAD') {
      for (let at = 0; at < bytes.length; at += SLOW_BYTES) {
        response.write(bytes.subarray(at, at + SLOW_BYTES));
        await pause();
      }
      return response.end();
    }
    return response.end(request.method === 'HEAD' ? undefined : bytes);
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const stop = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return { endpoint: `http://127.0.0.1:${server.address().port}`, stop, count: () => number };
}
