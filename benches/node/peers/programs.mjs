// The rows of the peer benchmark: for each program, the command of every step.
//
// A row has `name`, `env(place)` and one function per step that it takes part in; a step that it
// lacks is empty in the tables. `place` is where one repository is stored: `{ repo, home }`, with
// a home directory of its own, so that caches start cold. Snapshot number `n` is named `s<n>`. All
// programs encrypt, and compress with zstd at level 3 or what they call automatic:
//
//   containerarchive   AES-256-GCM, Argon2id; chunks of 64 to 1024 KiB; parity RS(20,1)
//   restic             AES-256-CTR and Poly1305, scrypt; chunks of 512 KiB to 8 MiB; `auto`
//   borg               AES-256-CTR and BLAKE2b, PBKDF2; chunks of 512 KiB to 8 MiB; `zstd,3`
//   rustic             the format of restic; zstd 3
//   bupstash           public keys from a file, no derivation; chunks of 256 KiB to 20 MiB;
//                      `zstd:3`; it has no check of its data
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const OURS = fileURLToPath(new URL('ours.mjs', import.meta.url));
const SECRET = 'correct horse battery staple';
const SETTINGS_OF_USER = /^(RESTIC|BORG|RUSTIC|BUPSTASH|CA_BENCH)_/;

/** The rows of containerarchive; `verifyWrites: false` takes part in first backups only. */
function ours() {
  const call = ({ repo }, ...args) => ({ argv: [process.execPath, OURS, repo, ...args] });
  const common = { isOurs: true, env: () => ({ CA_BENCH_PASSPHRASE: SECRET }), init: (place) => call(place, 'init') };
  const later = {
    restore: (place, n) => call(place, 'restore', `s${n}`),
    check: (place) => call(place, 'check'),
    prune: (place) => call(place, 'prune'),
  };
  return [
    {
      ...common, ...later, name: 'containerarchive, Node stream',
      backup: (place, n, input) => ({ ...call(place, 'stream', `s${n}`), input }),
    },
    {
      ...common, ...later, name: 'containerarchive, { path }',
      backup: (place, n, input) => call(place, 'path', `s${n}`, input),
    },
    {
      ...common, name: 'containerarchive, verifyWrites: false', isFirstOnly: true,
      backup: (place, n, input) => ({ ...call(place, 'stream', `s${n}`, 'unverified'), input }),
    },
  ];
}

function restic(file) {
  const call = (...args) => ({ argv: [file, ...args] });
  return {
    env: ({ repo }) => ({ RESTIC_REPOSITORY: repo, RESTIC_PASSWORD: SECRET, RESTIC_COMPRESSION: 'auto' }),
    init: () => call('init', '-q', '--repository-version', '2'),
    backup: (place, n, input) => ({
      ...call('backup', '-q', '--stdin', '--stdin-filename', 'stream', '--host', 'bench', '--tag', `s${n}`), input,
    }),
    restore: (place, n) => call('dump', '-q', '--tag', `s${n}`, 'latest', '/stream'),
    check: () => call('check', '-q', '--read-data'),
    prune: () => call('forget', '-q', '--group-by', '', '--keep-last', '1', '--prune'),
  };
}

function borg(file) {
  const call = (...args) => ({ argv: [file, ...args] });
  return {
    env: ({ repo, home }) => ({
      BORG_REPO: repo, BORG_PASSPHRASE: SECRET, BORG_BASE_DIR: home, BORG_HOST_ID: 'bench',
    }),
    init: () => call('init', '-e', 'repokey-blake2'),
    backup: (place, n, input) => ({
      ...call('create', '-C', 'zstd,3', '--stdin-name', 'stream', `::s${n}`, '-'), input,
    }),
    restore: (place, n) => call('extract', '--stdout', `::s${n}`),
    check: () => call('check', '--verify-data'),
    prune: () => shell('"$1" prune --keep-last 1 && "$1" compact', file),
  };
}

function rustic(file) {
  const call = (...args) => ({ argv: [file, ...args] });
  return {
    env: ({ repo }) => ({
      RUSTIC_REPOSITORY: repo, RUSTIC_PASSWORD: SECRET, RUSTIC_NO_PROGRESS: 'true', RUSTIC_LOG_LEVEL: 'warn',
    }),
    init: () => call('init', '--set-compression', '3'),
    // without --force it treats the stream as unchanged, and stores that of the snapshot before
    backup: (place, n, input) => ({
      ...call('backup', '--force', '--stdin-filename', 'stream', '--host', 'bench', '--tag', `s${n}`, '-'), input,
    }),
    restore: (place, n) => call('dump', '--filter-tags', `s${n}`, 'latest:stream'),
    check: () => call('check', '--read-data'),
    prune: () => shell('"$1" forget --group-by "" --keep-last 1 && "$1" prune --instant-delete --keep-pack 0s', file),
  };
}

function bupstash(file) {
  const call = (...args) => ({ argv: [file, ...args] });
  return {
    env: ({ repo, home }) => ({
      BUPSTASH_REPOSITORY: repo,
      BUPSTASH_KEY: join(home, 'key'),
      PATH: `${dirname(file)}:${process.env.PATH}`, // it starts itself
    }),
    init: () => shell('"$1" init && "$1" new-key -o "$BUPSTASH_KEY"', file),
    backup: (place, n, input) => ({
      ...call('put', '-q', '--no-default-tags', '--compression', 'zstd:3', `name=s${n}`, '-'), input,
    }),
    restore: (place, n) => call('get', '-q', `name=s${n}`),
    prune: (place, last) => {
      const names = Array.from({ length: last }, (_, n) => `s${n}`);
      return shell('file=$1; shift; for name; do "$file" rm -q "name=$name"; done; "$file" gc -q', file, ...names);
    },
  };
}

const MAKERS = { restic, borg, rustic, bupstash };

/** The rows of the programs that were found, after those of containerarchive. */
export function rowsOf(peers) {
  const others = Object.entries(peers);
  return [...ours(), ...others.map(([peer, { file, version }]) => ({ ...MAKERS[peer](file), name: version, peer }))];
}

/** The environment of a command: settings that the user has for these programs do not reach it. */
export function environment(row, place) {
  const inherited = Object.entries(process.env).filter(([name]) => !SETTINGS_OF_USER.test(name));
  const home = { HOME: place.home, XDG_CACHE_HOME: join(place.home, '.cache'), TMPDIR: place.home, TZ: 'UTC' };
  return { ...Object.fromEntries(inherited), ...home, ...row.env(place) };
}

function shell(script, ...args) {
  return { argv: ['sh', '-e', '-c', script, 'sh', ...args] };
}
