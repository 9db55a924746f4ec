// Shells for `--item NAME=COMMAND`. A line must fail when any of its commands fails: the end of its
// output alone does not prove that the data is complete.

import { spawnSync } from 'node:child_process';
import { Failure } from './failure.mjs';

const runs = (program, args) => spawnSync(program, args, { stdio: 'ignore' }).status === 0;

/** Whether a line for sh may be a pipeline. */
const hasPipe = (line) => line.includes('|');

/**
 * Whether a line for cmd.exe has a pipe, or an `&` after which it continues whatever happened
 * before it: outside of quotes, and not after a ^. The exit code of both is that of the last
 * command. `&&` and `||` stop at a failure, or are there for one.
 */
export function hidesFailures(line) {
  const bare = line.replace(/"[^"]*("|$)/g, '').replace(/\^[^]/g, '').replace(/&&|\|\|/g, '');
  return /[|&]/.test(bare);
}

let found;
/** The shell to use: its arguments, and which lines it may not be given. */
function shell() {
  found ??= process.platform === 'win32'
    ? { args: [process.env.ComSpec ?? 'cmd.exe', '/d', '/s', '/c'], refuses: hidesFailures, instead: 'Put the line into a script that checks each command' }
    : runs('bash', ['-o', 'pipefail', '-c', ':'])
      ? { args: ['bash', '-e', '-o', 'pipefail', '-c'] }
      : runs('/bin/sh', ['-c', 'set -o pipefail'])
        ? { args: ['/bin/sh', '-e', '-o', 'pipefail', '-c'] }
        : { args: ['/bin/sh', '-e', '-c'], refuses: hasPipe, instead: 'Install bash, or put the pipeline into a script that checks each command' };
  return found;
}

/** The arguments that run a line of shell. */
export function shellCommand(line) {
  const { args, refuses, instead } = shell();
  if (refuses?.(line)) {
    throw new Failure(`The command ${JSON.stringify(line)} may be a pipeline, and the shell of this machine does not report the failure of its first commands`, { hint: instead });
  }
  return [...args, line];
}
