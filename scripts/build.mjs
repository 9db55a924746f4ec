// npm run build [-- --target TRIPLE …]: the release addon of this platform, without paths of this
// machine in it, and the command line. Further arguments are those of `napi build`.

import { join } from 'node:path';
import { portable } from './rustflags.mjs';
import { root, run } from './steps.mjs';

const cli = join(root, 'node_modules', '@napi-rs', 'cli', 'dist', 'cli.js');
const common = ['build', '--platform', '--release', '--js', 'binding.js', '--dts', 'binding.d.ts'];
run(process.execPath, [cli, ...common, ...process.argv.slice(2)], { env: portable() });
run(process.execPath, ['scripts/build-cli.mjs']);
