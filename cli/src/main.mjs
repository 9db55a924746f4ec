// The entry of the command line: runs one command, and turns its outcome into an exit code.

import { CommanderError } from 'commander';
import { EXIT, Interrupted, errorJson, errorText, exitCodeOf } from './failure.mjs';
import { Output } from './output.mjs';
import { createProgram } from './program.mjs';

/** How long messages may take to leave this process after its command, in milliseconds. */
const FLUSH_MS = 5000;

/** The arguments before `--`, and the command after it. */
function split(args) {
  const at = args.indexOf('--');
  return at < 0 ? { args, command: undefined } : { args: args.slice(0, at), command: args.slice(at + 1) };
}

/** The first signal ends the command cleanly, the second one ends the process. */
function handleSignals(controller) {
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
    process.on(name, () => {
      if (controller.signal.aborted) process.exit(EXIT.interrupted);
      if (process.stderr.isTTY) process.stderr.write('\nEnding; once more to end at once.\n');
      controller.abort(new Interrupted(name));
    });
  }
}

/**
 * Output that cannot be written: to a reader that has exited (`containerarchive list | head`),
 * which needs no message, or to a full disk.
 */
function handleBadOutput() {
  process.stdout.on('error', (error) => {
    if (error.code !== 'EPIPE') process.stderr.write(`containerarchive: The output cannot be written: ${error.message}\n`);
    process.exit(EXIT.failed);
  });
  process.stderr.on('error', () => {});
}

/** Waits until what was written has left this process, for data however long its reader takes. */
function flushed(stream, limitMs) {
  if (stream.writableLength === 0) return Promise.resolve();
  return new Promise((resolve) => {
    if (limitMs !== undefined) setTimeout(resolve, limitMs).unref();
    stream.write('', resolve);
  });
}

async function main(argv) {
  const controller = new AbortController();
  const { args, command } = split(argv);
  let exitCode = EXIT.ok;
  let output = new Output({ json: args.includes('--json') });
  const run = (action) => async (...given) => {
    // the parser adds the command, after its options
    const parsed = given.pop();
    given.pop();
    const options = parsed.optsWithGlobals();
    if (command !== undefined && (parsed.name() !== 'backup' || command.length === 0)) {
      parsed.error(command.length === 0 ? 'error: no command follows "--"' : 'error: only backup takes a command after "--"');
    }
    output = new Output(options);
    exitCode = await action({ output, signal: controller.signal, command }, ...given, options);
  };
  // the exit code when nothing is left to wait for, which no command intends
  process.exitCode = EXIT.failed;
  handleSignals(controller);
  handleBadOutput();
  try {
    await createProgram(run).parseAsync(args, { from: 'user' });
  } catch (error) {
    exitCode = report(error, output, controller.signal);
  }
  await flushed(process.stdout);
  await flushed(process.stderr, FLUSH_MS);
  // Standard input, or the pipe of a command that ends, would keep this process alive.
  process.exit(exitCode);
}

/** Reports an error; returns its exit code. */
function report(error, output, signal) {
  // printed already; without any argument, help is the answer to a mistake
  if (error instanceof CommanderError) return error.code === 'commander.help' && process.argv.length > 2 ? EXIT.ok : error.exitCode;
  const reason = signal.aborted ? signal.reason : error;
  if (reason instanceof Interrupted && !process.stderr.isTTY) process.stderr.write(`containerarchive: interrupted by ${reason.signal}\n`);
  if (!(reason instanceof Interrupted)) process.stderr.write(`${output.isJson ? errorJson(error) : errorText(error)}\n`);
  return exitCodeOf(reason);
}

main(process.argv.slice(2));
