// Finds the other programs of the peer benchmark, and installs them on request.
//
// A program is looked for, in this order, in the directories of the option `--peers` or of
// CONTAINERARCHIVE_PEERS, in the cache directory of `--install`, and on the PATH. In a directory
// DIR it may be DIR/name, DIR/bin/name or DIR/name/bin/name. A program that is not found is named
// with the way to install it.
//
// `--install` calls the ordinary clients: cargo, pip in a virtual environment, and apt-get where
// this process may use it. The versions are those that the figures in docs/benchmarks.md are from.
import { execFileSync, spawnSync } from 'node:child_process';
import { accessSync, constants, mkdirSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';

/** Debian packages that building borg and bupstash needs. */
const FOR_BORG = ['pkg-config', 'libacl1-dev', 'libssl-dev', 'liblz4-dev', 'libzstd-dev', 'libxxhash-dev'];
const FOR_BUPSTASH = ['pkg-config', 'libsodium-dev'];

/** Each program: how to install it by hand, its packages, and the commands of `--install`. */
const PROGRAMS = {
  restic: { hint: 'apt install restic', apt: ['restic'], commands: () => [] },
  borg: {
    hint: `pip install borgbackup==1.4.5 (needs ${FOR_BORG.join(', ')})`,
    apt: ['python3-venv', 'python3-dev', 'gcc', ...FOR_BORG],
    commands: (cache) => [
      ['python3', '-m', 'venv', join(cache, 'borg')],
      [join(cache, 'borg', 'bin', 'pip'), 'install', '--quiet', 'borgbackup==1.4.5'],
    ],
  },
  rustic: {
    hint: 'cargo install rustic-rs',
    apt: [],
    commands: (cache) => [cargo(cache, 'rustic', 'rustic-rs', '0.11.4', '--no-default-features')],
  },
  bupstash: {
    hint: `cargo install bupstash (needs ${FOR_BUPSTASH.join(', ')})`,
    apt: FOR_BUPSTASH,
    commands: (cache) => [cargo(cache, 'bupstash', 'bupstash', '0.12.0')],
  },
};

/** The names of the other programs. */
export const PEERS = Object.keys(PROGRAMS);

/**
 * The file and the version of each program that is wanted and found. With `install`, those that are
 * missing are installed first; what is missing after that is reported.
 */
export function findPeers(names, { folders = process.env.CONTAINERARCHIVE_PEERS ?? '', install }, report) {
  const places = [...folders.split(delimiter).filter(Boolean), cacheFolder()];
  const found = {};
  for (const name of names) {
    let file = locate(name, places);
    if (!file && install && installed(name, report)) file = locate(name, places);
    const version = file && versionOf(file);
    if (version) found[name] = { file, version };
    else report(`SKIPPED: ${file ? `cannot run ${file}` : `no ${name}`}. Use --install, or ${PROGRAMS[name].hint}`);
  }
  return found;
}

function cacheFolder() {
  const usual = process.platform === 'darwin' ? 'Library/Caches' : '.cache';
  return join(process.env.XDG_CACHE_HOME || join(homedir(), usual), 'containerarchive-peers');
}

function locate(name, places) {
  const ways = [[name], ['bin', name], [name, 'bin', name]];
  const inPlaces = places.flatMap((place) => ways.map((way) => join(place, ...way)));
  const onPath = (process.env.PATH ?? '').split(delimiter).filter(Boolean).map((place) => join(place, name));
  return [...inPlaces, ...onPath].find(isProgram);
}

function isProgram(file) {
  try {
    accessSync(file, constants.X_OK);
    return statSync(file).isFile();
  } catch {
    return false;
  }
}

/** The first line of its version, without its compiler; undefined when it cannot run. */
function versionOf(file) {
  for (const argument of ['--version', 'version']) {
    try {
      const text = execFileSync(file, [argument], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
      return text.split('\n')[0].split(' compiled')[0].replace('-', ' ');
    } catch {
      // restic before 0.17 has only the second one
    }
  }
  return undefined;
}

/** Installs one program; returns whether all commands worked. */
function installed(name, report) {
  const cache = cacheFolder();
  mkdirSync(cache, { recursive: true });
  const { apt, commands } = PROGRAMS[name];
  const missing = apt.filter((each) => spawnSync('dpkg', ['-s', each], { stdio: 'ignore' }).status !== 0);
  const isRoot = process.getuid?.() === 0;
  const packages = missing.length > 0 && isRoot
    ? [['apt-get', 'update', '-qq'], ['apt-get', 'install', '-y', '-qq', '--no-install-recommends', ...missing]]
    : [];
  return [...packages, ...commands(cache)].every(([program, ...args]) => {
    report(`> ${[program, ...args].join(' ')}`);
    return spawnSync(program, args, { stdio: ['ignore', 2, 2] }).status === 0;
  });
}

function cargo(cache, name, crate, version, ...more) {
  return ['cargo', 'install', crate, '--version', version, '--locked', ...more, '--root', join(cache, name)];
}
