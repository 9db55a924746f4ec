// All checks of a change except the tests. Any warning fails.

import { preflight } from './preflight.mjs';
import { install, run } from './steps.mjs';

preflight();
install();
run('cargo', ['fmt', '--check']);
// Without Node, only the engine differs.
for (const what of [['--all-targets'], ['--lib', '--no-default-features']]) {
  run('cargo', ['clippy', '--locked', ...what, '--', '-D', 'warnings']);
}
run('cargo', ['doc', '--locked', '--no-deps', '--document-private-items'], { env: { RUSTDOCFLAGS: '-D warnings' } });
// The types from the view of a user's program, through `exports` of package.json.
for (const project of ['__test__/tsconfig.json', '__test__/tsconfig.dom.json']) {
  run(process.execPath, ['node_modules/typescript/bin/tsc', '--noEmit', '--project', project]);
}
run(process.execPath, ['scripts/notices.mjs', '--check']);
