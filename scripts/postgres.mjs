// A temporary Postgres cluster from the installed programs, for tests and measurements. It listens
// on a socket in its own directory only, and everything is deleted with it.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

const PROGRAMS = ['initdb', 'postgres', 'pg_dump', 'psql'];
const DEBIAN = '/usr/lib/postgresql';
const START_LIMIT_MS = 60_000;

/** The directory with all programs of a server, the newest version first; null without one. */
export function findPostgres() {
  const versions = existsSync(DEBIAN) ? readdirSync(DEBIAN).sort((a, b) => Number(b) - Number(a)) : [];
  const folders = [...versions.map((version) => join(DEBIAN, version, 'bin')), ...(process.env.PATH ?? '').split(delimiter)];
  return folders.find((folder) => PROGRAMS.every((program) => existsSync(join(folder, program)))) ?? null;
}

/** User and group to run the server as: it refuses to run as root. */
function unprivileged() {
  if (process.getuid() !== 0) return {};
  const users = readFileSync('/etc/passwd', 'utf8').split('\n').map((line) => line.split(':'));
  const [, , uid, gid] = users.find(([name]) => name === 'postgres') ?? users.find(([name]) => name === 'nobody'); // the user nobody
  return { uid: Number(uid), gid: Number(gid) };
}

/**
 * Starts a cluster. Returns the environment that its clients need, `run(program, args, options)`
 * and `stop()`, which also deletes it.
 */
export async function startPostgres(bin = findPostgres()) {
  const user = unprivileged();
  const folder = mkdtempSync(join(tmpdir(), 'containerarchive-pg-'));
  const data = join(folder, 'data');
  mkdirSync(data, { mode: 0o700 });
  chmodSync(folder, 0o755);
  if (user.uid !== undefined) for (const path of [folder, data]) chownSync(path, user.uid, user.gid);
  const env = {
    ...process.env,
    PATH: `${bin}${delimiter}${process.env.PATH}`,
    PGHOST: folder, PGPORT: '5432', PGUSER: 'postgres', PGDATABASE: 'postgres', PGCONNECT_TIMEOUT: '60', LC_ALL: 'C', TZ: 'UTC',
  };
  const run = (program, args, options = {}) => execFileSync(join(bin, program), args, { env, maxBuffer: 1 << 30, ...options });
  const init = ['-D', data, '-U', 'postgres', '--auth=trust', '--encoding=UTF8', '--locale=C', '--no-sync'];
  run('initdb', init, { ...user, cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });

  const log = openSync(join(folder, 'log'), 'a');
  const settings = { listen_addresses: '', unix_socket_directories: folder, fsync: 'off', autovacuum: 'off' };
  const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
  const server = spawn(join(bin, 'postgres'), ['-D', data, ...flags], { ...user, cwd: folder, env, stdio: ['ignore', log, log] });
  closeSync(log);
  const exited = once(server, 'exit');
  const stop = async () => {
    if (server.exitCode === null && server.signalCode === null) server.kill('SIGINT'); // ends all sessions
    await exited;
    rmSync(folder, { recursive: true, force: true });
  };
  for (const end = performance.now() + START_LIMIT_MS; ; await sleep(50)) {
    try {
      run('psql', ['-qAtc', 'SELECT 1'], { stdio: 'ignore' });
      return { env, run, stop };
    } catch (error) {
      if (server.exitCode === null && performance.now() < end) continue;
      const text = readFileSync(join(folder, 'log'), 'utf8').slice(-2000);
      await stop();
      throw new Error(`Postgres did not start: ${text}`, { cause: error });
    }
  }
}
