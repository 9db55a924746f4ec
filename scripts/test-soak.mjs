// Real processes write, prune, verify and restore in one repository while they are killed and
// frozen at random times: node scripts/test-soak.mjs [seconds, 3600] [seed] [directory | bucket]
//
// The checks at the end are in tests/integration/processes.rs, and for a bucket in
// __test__/bucketprocesses.spec.mjs, which needs the addon and moto. A failure prints its seed;
// times are not repeatable.

import { preflight } from './preflight.mjs';
import { run } from './steps.mjs';

const [seconds = '3600', seed = String(Date.now() % 1_000_000), where = 'directory'] = process.argv.slice(2);
if (![seconds, seed].every((text) => /^[0-9]+$/.test(text)) || !['directory', 'bucket'].includes(where)) {
  console.error('Usage: node scripts/test-soak.mjs [seconds] [seed] [directory | bucket]');
  process.exit(1);
}
preflight();
const options = {
  env: { CONTAINERARCHIVE_SOAK_SECONDS: seconds, CONTAINERARCHIVE_SOAK_SEED: seed },
  timeoutMs: (Number(seconds) + 1800) * 1000,
};
if (where === 'bucket') {
  run(process.execPath, ['--test', '__test__/bucketprocesses.spec.mjs'], options);
} else {
  const filter = 'processes::processes_that_are_killed_and_frozen';
  run('cargo', ['test', '--locked', '--no-default-features', '--test', 'integration', filter, '--', '--nocapture'], options);
}
