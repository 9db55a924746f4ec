// report: the state of the repository as one HTML file.

import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { EXIT } from '../failure.mjs';
import { addPolicyOptions, policyOf } from '../policy.mjs';
import { withRepository } from '../repository.mjs';

export function define(program, run) {
  const command = program
    .command('report')
    .summary('write the state of the repository as one HTML file')
    .description('Writes the state of the repository as one HTML file, with what a policy would keep.')
    .option('--to <file>', 'the file, or - for standard output', '-');
  addPolicyOptions(command).action(run(report));
}

async function report(session, options) {
  return withRepository(options, session, { readOnly: true }, async (archive) => {
    const policy = policyOf(options);
    const html = await archive.report({ signal: session.signal, ...(policy && { policy }) });
    if (options.to === '-') {
      await pipeline([html], process.stdout, { end: false });
    } else {
      const path = resolve(options.to);
      await writeFile(path, html);
      session.output.result({ path }, `wrote ${path}`);
    }
    return EXIT.ok;
  });
}
