// Shells for `--item NAME=COMMAND`. A pipeline must fail when any of its commands fails: the end of
// its output alone does not prove that the data is complete.

import { spawnSync } from 'node:child_process';
import { Failure } from './failure.mjs';

const runs = (program, args) => spawnSync(program, args, { stdio: 'ignore' }).status === 0;

let found;
/** The shell to use: its arguments, and whether pipelines fail with their first command. */
function shell() {
  found ??= process.platform === 'win32'
    ? { args: [process.env.ComSpec ?? 'cmd.exe', '/d', '/s', '/c'], hasPipefail: false }
    : runs('bash', ['-o', 'pipefail', '-c', ':'])
      ? { args: ['bash', '-e', '-o', 'pipefail', '-c'], hasPipefail: true }
      : runs('/bin/sh', ['-c', 'set -o pipefail'])
        ? { args: ['/bin/sh', '-e', '-o', 'pipefail', '-c'], hasPipefail: true }
        : { args: ['/bin/sh', '-e', '-c'], hasPipefail: false };
  return found;
}

/** The arguments that run a line of shell. */
export function shellCommand(line) {
  const { args, hasPipefail } = shell();
  if (!hasPipefail && line.includes('|')) {
    throw new Failure(`The command ${JSON.stringify(line)} may be a pipeline, and the shell of this machine does not report the failure of its first commands`, {
      hint: 'Install bash, or put the pipeline into a script that checks each command',
    });
  }
  return [...args, line];
}
