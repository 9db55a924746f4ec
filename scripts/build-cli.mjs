// npm run build:cli: bundles the command line (cli/src) with the packages that it uses into
// cli/dist/containerarchive.js, so that the published package has no dependencies.

import { chmodSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { build } from 'esbuild';
import { root } from './steps.mjs';

const { engines } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
const outfile = join(root, 'cli', 'dist', 'containerarchive.js');
/** The first version of Node that runs this package. */
const [major, minor] = engines.node.replace('>=', '').split('.').map(Number);

// Before anything else is loaded, and in syntax that every version of Node has.
const banner = `#!/usr/bin/env node
'use strict';
(function () {
  var found = process.versions.node.split('.').map(Number);
  if (found[0] > ${major} || (found[0] === ${major} && found[1] >= ${minor})) return;
  process.stderr.write('containerarchive needs Node ${engines.node}, and this is Node ' + process.versions.node + '\\n');
  process.exit(1);
})();`;

await build({
  entryPoints: [join(root, 'cli', 'src', 'main.mjs')],
  outfile,
  bundle: true,
  platform: 'node',
  target: `node${major}.${minor}`,
  format: 'cjs',
  // the package itself (cli/src/api.mjs)
  external: ['../../index.js'],
  banner: { js: banner },
  legalComments: 'none',
  logLevel: 'warning',
});
chmodSync(outfile, 0o755);
