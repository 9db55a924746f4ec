// The two programs of the benchmark of object storage, and the command of every operation in each.
// Both encrypt and derive their key in each process; both compress with zstd. Snapshots have names:
// tags of restic, and a tag `name` of ours.
//
// restic keeps a cache on the local disk, as it does by default: all operations of a run share one,
// except the first list, which is that of a machine that has not seen the repository.
// containerarchive has no such cache.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const OURS = fileURLToPath(new URL('ours.mjs', import.meta.url));
const SECRET = 'correct horse battery staple';
const SETTINGS_OF_USER = /^(RESTIC|CA_BENCH|AWS)_/;

/**
 * A program: `call(place, operation, ...)` is its command, as peers/measure.mjs takes it, and
 * `env(place)` its environment. `place` is `{ endpoint, bucket, prefix, home, credentials }`.
 */
const ours = {
  name: 'containerarchive',
  settings: ({ endpoint }) => ({ CA_BENCH_PASSPHRASE: SECRET, AWS_ENDPOINT_URL: endpoint, AWS_ALLOW_HTTP: 'true' }),
  call: ({ bucket, prefix, home }, operation, name, input) => {
    const more = operation === 'restore' ? [fileIn(home)] : [];
    return { argv: [process.execPath, OURS, `s3://${bucket}/${prefix}`, operation, ...(name ? [`${name}`] : []), ...more], input };
  },
};

const restic = (file, version) => ({
  name: version,
  file,
  settings: ({ endpoint, bucket, prefix }) => ({
    RESTIC_REPOSITORY: `s3:${endpoint}/${bucket}/${prefix}`, RESTIC_PASSWORD: SECRET, RESTIC_COMPRESSION: 'auto',
  }),
  call: ({ home }, operation, name, input) => {
    const args = {
      init: ['init', '-q', '--repository-version', '2'],
      backup: ['backup', '-q', '--stdin', '--stdin-filename', 'stream', '--host', 'bench', '--tag', name],
      restore: ['restore', '-q', '--tag', name, '--target', home, 'latest'],
      stream: ['dump', '-q', '--tag', name, 'latest', '/stream'],
      list: ['snapshots', '-q'],
      prune: ['forget', '-q', '--tag', name, '--prune', 'latest'],
      tag: ['tag', '-q', '--set', name],
    }[operation];
    return { argv: [file, '-o', 's3.bucket-lookup=path', ...args], input };
  },
});

/** The file that `restore` writes. */
export const fileIn = (home) => join(home, 'stream');

/** The programs: ours, and restic where it was found. */
export const programs = ({ restic: found }) => [ours, ...(found ? [restic(found.file, found.version)] : [])];

/** The environment of a command, without what the user has set for these programs. */
export function environment(program, place) {
  const { home, storage } = place;
  mkdirSync(home, { recursive: true });
  return {
    ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !SETTINGS_OF_USER.test(name))),
    HOME: home, XDG_CACHE_HOME: join(home, '.cache'), TMPDIR: home, TZ: 'UTC',
    AWS_ACCESS_KEY_ID: storage.accessKeyId, AWS_SECRET_ACCESS_KEY: storage.secretAccessKey,
    AWS_REGION: storage.region, AWS_DEFAULT_REGION: storage.region, AWS_EC2_METADATA_DISABLED: 'true',
    ...program.settings(place),
  };
}
