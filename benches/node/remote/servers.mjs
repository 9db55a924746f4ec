// The servers that the benchmark can use, each with the protocol of S3 on this machine.
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { freePort } from '../../../__test__/support/ports.mjs';

const MEMORY = fileURLToPath(new URL('memory.mjs', import.meta.url));
const CREDENTIALS = { region: 'us-east-1', accessKeyId: 'test', secretAccessKey: 'a secret of the benchmark' };

/** Starts a server with an empty bucket: { port, endpoint, storage, stop() }. */
export const SERVERS = {
  memory: async (bucket) => {
    const port = await freePort();
    const child = spawn(process.execPath, [MEMORY, String(port)], { stdio: ['ignore', 'inherit', 'inherit'] });
    const endpoint = `http://127.0.0.1:${port}`;
    for (let attempt = 0; ; attempt++) {
      const answer = await fetch(`${endpoint}/${bucket}`, { method: 'PUT' }).catch((error) => error);
      if (answer.ok) break;
      if (attempt === 100) throw new Error('the server does not start', { cause: answer });
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    const stop = () => {
      child.kill('SIGKILL');
      return new Promise((resolve) => child.once('exit', resolve));
    };
    return { port, endpoint, storage: CREDENTIALS, stop };
  },
  moto: async (bucket) => {
    const { skip, startMoto } = await import('../../../__test__/support/object-server.mjs');
    if (skip) throw new Error(skip);
    return withPort(await startMoto(bucket));
  },
  s3rver: async (bucket) => {
    const { findServer, startServer } = await import('../../../__test__/support/npm-servers.mjs');
    if (findServer('s3rver', { install: true }) === null) throw new Error('s3rver cannot be installed');
    return withPort(await startServer('s3rver', bucket));
  },
};

const withPort = (server) => ({ ...server, port: Number(new URL(server.endpoint).port) });
