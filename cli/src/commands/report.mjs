// report: the state of the repository as one HTML file.

import { dirname, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { EXIT, Failure } from '../failure.mjs';
import { addPolicyOptions, policyOf } from '../policy.mjs';
import { isInRepository, withRepository } from '../repository.mjs';
import { createFolder, replaceFile } from '../target.mjs';

export function define(program, run) {
  const command = program
    .command('report')
    .summary('write the state of the repository as one HTML file')
    .description('Writes the state of the repository as one HTML file, with what a policy would keep.')
    .option('--to <file>', 'the file, or - for standard output', '-');
  addPolicyOptions(command).action(run(report));
}

async function report(session, options) {
  const policy = policyOf(options);
  if (options.to === '') throw new Failure('The path after --to is empty');
  const path = options.to === '-' ? null : resolve(options.to);
  if (path !== null && isInRepository(path, options)) {
    throw new Failure(`${path} is inside the repository`, { code: 'ERR_INVALID_ARGUMENT', hint: 'Choose another path' });
  }
  return withRepository(options, session, { readOnly: true }, async (archive) => {
    const html = await archive.report({ signal: session.signal, ...(policy && { policy }) });
    if (path === null) {
      await pipeline([html], process.stdout, { end: false });
    } else {
      createFolder(dirname(path));
      replaceFile(path, html);
      session.output.result({ path }, `wrote ${path}`);
    }
    return EXIT.ok;
  });
}
