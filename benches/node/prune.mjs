// Prune next to other programs: 30 daily dumps, of which 7 daily, 4 weekly and 6 monthly ones are
// kept.
//
//   npm run bench:prune -- [--mib 64] [--days 30] [--runs 3] [--with restic,borg,rustic]
//   node benches/node/prune.mjs --dump 17 --mib 64 > day-17.sql     (one dump, for other programs)
//
// `--with` names programs on the PATH, or their files; those that are missing are named and left
// out. Each row is a whole process (with Node's start, opening and key derivation), measured from
// outside on a copy of the same filled repository: wall time, CPU seconds, the peak memory of its
// largest process, and the bytes that were removed from the disk and written to it. Medians.
import { execFileSync, spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { dump } from './dumps.mjs';

const MIB = 1 << 20;
const DAY_MS = 86_400_000;
const FIRST_DAY_MS = Date.UTC(2026, 0, 1, 3);
const SECRET = 'bench';
const SELF = fileURLToPath(import.meta.url);

if (process.env.CA_BENCH_JOB) {
  await ours(JSON.parse(process.env.CA_BENCH_JOB));
} else {
  await main();
}

async function main() {
  const options = { mib: 64, days: 30, runs: 3, with: 'restic,borg,rustic', dump: undefined };
  const args = process.argv.slice(2);
  for (let at = 0; at < args.length; at += 2) {
    const name = args[at].replace(/^--/, '');
    if (!(name in options) || args[at + 1] === undefined) throw new Error(`unknown option ${args[at]}`);
    options[name] = name === 'with' ? args[at + 1] : Number(args[at + 1]);
  }
  if (options.dump !== undefined) {
    await pipeline(Readable.from(dump(options.mib, options.dump)), process.stdout);
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), 'containerarchive-bench-'));
  try {
    console.log('| program | s | CPU s | peak RSS, MiB | removed, MiB | written, MiB | before, MiB | after, MiB |');
    console.log('|---|---|---|---|---|---|---|---|');
    for (const program of [containerarchive(false), containerarchive(true), ...rivals(options.with.split(',').filter(Boolean))]) {
      await bench(program, options, join(folder, 'run'));
      rmSync(join(folder, 'run'), { recursive: true, force: true });
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Fills a repository once, and prunes copies of it in each way that the program has. */
async function bench(program, options, folder) {
  const [repo, home] = ['repo', 'home'].map((name) => join(folder, name));
  mkdirSync(home, { recursive: true });
  const folders = { repo, home };
  await program.fill(folders, options);
  for (const [way, command] of Object.entries(program.prunes)) {
    const results = [];
    for (let run = 0; run < options.runs; run++) {
      const copy = { repo: join(folder, 'repo.copy'), home: join(folder, 'home.copy') };
      for (const name of ['repo', 'home']) cpSync(folders[name], copy[name], { recursive: true, preserveTimestamps: true });
      const before = filesOf(copy.repo);
      const result = await measured(command(copy), program.env(copy));
      const after = filesOf(copy.repo);
      const written = [...after].filter(([path, file]) => before.get(path)?.stamp !== file.stamp);
      result.written = sizeOf(written);
      [result.before, result.after] = [sizeOf(before), sizeOf(after)];
      result.removed = sizeOf([...before].filter(([path]) => !after.has(path)));
      results.push(result);
      for (const name of ['repo', 'home']) rmSync(copy[name], { recursive: true, force: true });
    }
    const median = (name) => results.map((result) => result[name]).sort((a, b) => a - b)[results.length >> 1];
    const mib = (name) => (median(name) / MIB).toFixed(1);
    const cells = [`${program.name}${way}`, median('seconds').toFixed(2), median('cpu').toFixed(2), mib('rss'), ...['removed', 'written', 'before', 'after'].map(mib)];
    console.log(`| ${cells.join(' | ')} |`);
  }
}

/** Path -> size, and what tells whether a file is the same as before. */
function filesOf(folder) {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return new Map(entries.map((entry) => {
    const path = join(entry.parentPath ?? entry.path, entry.name);
    const { size, mtimeMs } = statSync(path);
    return [path, { size, stamp: `${size} ${mtimeMs}` }];
  }));
}

function sizeOf(files) {
  return [...files].reduce((sum, [, { size }]) => sum + size, 0);
}

/**
 * Runs a command: wall and CPU seconds of all processes that it starts, the peak memory in bytes of
 * the largest of them.
 */
async function measured(argv, env) {
  const start = process.hrtime.bigint();
  const shell = spawn('sh', ['-c', '"$@"; code=$?; times >&3; exit $code', 'sh', ...argv], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
  });
  const output = { 2: '', 3: '' };
  for (const fd of [2, 3]) shell.stdio[fd].on('data', (part) => (output[fd] += part));
  let rss = 0;
  const watch = setInterval(() => (rss = Math.max(rss, peakOf(shell.pid))), 20);
  const code = await new Promise((resolve, reject) => shell.on('error', reject).on('close', resolve));
  clearInterval(watch);
  if (code !== 0) throw new Error(`${argv.join(' ')} ended with ${code}: ${output[2]}`);
  const times = [...output[3].trim().split('\n').at(-1).matchAll(/(\d+)m([\d.]+)s/g)];
  const cpu = times.reduce((sum, [, minutes, seconds]) => sum + 60 * minutes + Number(seconds), 0);
  return { seconds: Number(process.hrtime.bigint() - start) / 1e9, cpu, rss };
}

/**
 * The largest peak of resident memory among the processes under `pid`, in bytes; 0 where there is
 * no /proc.
 */
function peakOf(pid) {
  try {
    const peak = 1024 * Number(/VmHWM:\s*(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').split(' ').filter(Boolean);
    return Math.max(peak, ...children.map(peakOf));
  } catch {
    return 0; // it has exited
  }
}

function containerarchive(encrypted) {
  const job = (what, repo, more) => ({ CA_BENCH_JOB: JSON.stringify({ what, repo, encrypted, ...more }) });
  const prune = (maxUnused) => ({ repo }) => ['env', `CA_BENCH_JOB=${job('prune', repo, { maxUnused }).CA_BENCH_JOB}`, process.execPath, SELF];
  return {
    name: `containerarchive, ${encrypted ? 'encrypted' : 'plain'} zstd`,
    env: () => ({}),
    fill: async ({ repo }, options) => void (await measured([process.execPath, SELF], job('fill', repo, options))),
    prunes: { '': prune(0.05), ', maxUnused 0': prune(0) },
  };
}

async function ours({ what, repo, encrypted, mib, days, maxUnused }) {
  const { ContainerArchive } = createRequire(import.meta.url)('../../index.js');
  const passphrase = encrypted ? { passphrase: SECRET } : {};
  const archive = what === 'fill' ? await ContainerArchive.init(repo, { ...passphrase, compression: 'zstd' }) : await ContainerArchive.open(repo, passphrase);
  if (what === 'fill') {
    for (let day = 0; day < days; day++) {
      await archive.ingest(Readable.from(dump(mib, day)), { createdAt: new Date(FIRST_DAY_MS + day * DAY_MS).toISOString() });
    }
  } else {
    await archive.prune({ keepDays: 7, keepWeeks: 4, keepMonths: 6, timeZone: 'UTC' }, { maxUnused });
  }
  await archive.close();
}

/**
 * The other programs, with the settings that their documentation gives for streams and for freeing
 * space in the same call.
 */
function rivals(programs) {
  const day = (number) => new Date(FIRST_DAY_MS + number * DAY_MS).toISOString();
  const keep = ['--keep-daily', '7', '--keep-weekly', '4', '--keep-monthly', '6'];
  const makers = {
    restic: (file) => ({
      env: ({ repo, home }) => ({ HOME: home, TZ: 'UTC', RESTIC_REPOSITORY: repo, RESTIC_PASSWORD: SECRET }),
      init: [file, 'init', '--repository-version', '2', '-q'],
      backup: (number) => [file, 'backup', '-q', '--stdin', '--stdin-filename', 'dump.sql', '--host', 'bench', '--time', day(number).slice(0, 19).replace('T', ' ')],
      prunes: {
        '': () => [file, 'forget', '-q', '--group-by', '', ...keep, '--prune'],
        ', --max-unused 0': () => [file, 'forget', '-q', '--group-by', '', ...keep, '--prune', '--max-unused', '0'],
      },
    }),
    borg: (file) => ({
      env: ({ repo, home }) => ({
        BORG_REPO: repo, BORG_PASSPHRASE: SECRET, BORG_BASE_DIR: home, BORG_HOST_ID: 'bench', BORG_RELOCATED_REPO_ACCESS_IS_OK: 'yes', TZ: 'UTC',
      }),
      init: [file, 'init', '-e', 'repokey-blake2'],
      backup: (number) => [file, 'create', '--timestamp', day(number).slice(0, 19), '-C', 'zstd,3', '--stdin-name', 'dump.sql', `::day-${number}`, '-'],
      prunes: {
        ', compact': () => ['sh', '-c', `"$1" prune ${keep.join(' ')} && "$1" compact`, 'sh', file],
        ', compact --threshold 0': () => ['sh', '-c', `"$1" prune ${keep.join(' ')} && "$1" compact --threshold 0`, 'sh', file],
      },
    }),
    rustic: (file) => ({
      env: ({ repo, home }) => ({
        HOME: home, TZ: 'UTC', RUSTIC_REPOSITORY: repo, RUSTIC_PASSWORD: SECRET, RUSTIC_NO_PROGRESS: 'true', RUSTIC_LOG_LEVEL: 'warn',
      }),
      init: [file, 'init', '--set-compression', '3'],
      // without --force it takes the stream of the parent for unchanged
      backup: (number) => [file, 'backup', '--force', '--stdin-filename', 'dump.sql', '--host', 'bench', '--time', day(number).slice(0, 19), '-'],
      prunes: Object.fromEntries([['', ''], [', --max-unused 0', '--max-unused 0']].map(([way, more]) => [way, () => [
        'sh', '-c', `"$1" forget --group-by "" ${keep.join(' ')} && "$1" prune --instant-delete --keep-pack 0s ${more}`, 'sh', file]])),
    }),
  };
  return programs.flatMap((file) => {
    const make = makers[basename(file)];
    if (!make) throw new Error(`no commands are known for ${file}`);
    let version;
    try {
      version = execFileSync(file, ['--version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    } catch {
      try {
        version = execFileSync(file, ['version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
      } catch {
        console.error(`LEFT OUT: ${file} cannot be run`);
        return [];
      }
    }
    const { init, backup, ...rest } = make(file);
    const fill = async (folders, { mib, days }) => {
      await measured(init, rest.env(folders));
      for (let number = 0; number < days; number++) await piped(dump(mib, number), backup(number), rest.env(folders));
    };
    return [{ name: version.split('\n')[0].split(' compiled')[0], fill, ...rest }];
  });
}

/** Runs a command with `pieces` as its input. */
async function piped(pieces, [file, ...args], env) {
  const child = spawn(file, args, { env: { ...process.env, ...env }, stdio: ['pipe', 'ignore', 'inherit'] });
  const ended = new Promise((resolve, reject) => child.on('error', reject).on('close', resolve));
  await pipeline(Readable.from(pieces), child.stdin);
  const code = await ended;
  if (code !== 0) throw new Error(`${file} ended with ${code}`);
}
