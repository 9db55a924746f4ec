// The entry of the command line: runs one command, and turns its outcome into an exit code.

import { interruption } from './signals.mjs'; // first
import { CommanderError } from 'commander';
import { VERB, complete } from './complete.mjs';
import { EXIT, Failure, Interrupted, errorJson, errorText, exitCodeOf } from './failure.mjs';
import { Output } from './output.mjs';
import { createProgram } from './program.mjs';

/** How long messages may take to leave this process after its command, in milliseconds. */
const FLUSH_MS = 5000;

/** The arguments before `--`, and the command after it. */
function split(args) {
  const at = args.indexOf('--');
  return at < 0 ? { args, command: undefined } : { args: args.slice(0, at), command: args.slice(at + 1) };
}

/**
 * Output that cannot be written: to a reader that has exited (`containerarchive list | head`),
 * which needs no message, or to a full disk.
 */
function handleBadOutput(isJson) {
  process.stdout.on('error', (cause) => {
    if (cause.code !== 'EPIPE') print(new Failure(`The output cannot be written: ${cause.message}`, { cause }), isJson);
    process.exit(EXIT.failed);
  });
  process.stderr.on('error', () => {});
}

/** Prints an error. */
const print = (error, isJson) => process.stderr.write(`${isJson ? errorJson(error) : errorText(error)}\n`);

/** Waits until what was written has left this process, for data however long its reader takes. */
function flushed(stream, limitMs) {
  if (stream.writableLength === 0) return Promise.resolve();
  return new Promise((resolve) => {
    if (limitMs !== undefined) setTimeout(resolve, limitMs).unref();
    stream.write('', resolve);
  });
}

async function main(argv) {
  const { args, command } = split(argv);
  const isJson = args.includes('--json');
  let exitCode = EXIT.ok;
  const run = (action) => async (...given) => {
    // the exit code when nothing is left to wait for, which no command intends
    process.exitCode = EXIT.failed;
    // the parser adds the command, after its options
    const parsed = given.pop();
    given.pop();
    const options = parsed.optsWithGlobals();
    if (command !== undefined && (parsed.name() !== 'backup' || command.length === 0)) {
      parsed.error(command.length === 0 ? 'error: no command follows "--"' : 'error: only backup takes a command after "--"');
    }
    exitCode = await action({ output: new Output(options), signal: interruption, command }, ...given, options);
  };
  handleBadOutput(isJson);
  try {
    const program = createProgram(run, isJson);
    // its words are a line of their own, with options and "--" of any kind
    if (argv[0] === VERB) exitCode = await complete(program, argv.slice(1));
    else await program.parseAsync(args, { from: 'user' });
  } catch (error) {
    exitCode = report(error, isJson);
  }
  await flushed(process.stdout);
  await flushed(process.stderr, FLUSH_MS);
  // Standard input, or the pipe of a command that ends, would keep this process alive.
  process.exit(exitCode);
}

/** A mistake on the command line as the parser reports it, as an error like all others. */
function usageFailure({ code, message }) {
  const text = code === 'commander.help' ? 'No command is given' : message.replace(/^error: /, '').replace(/\s+/g, ' ');
  return new Failure(text, { code: 'ERR_INVALID_ARGUMENT', hint: 'See "containerarchive --help", or "containerarchive COMMAND --help"' });
}

/** Reports an error; returns its exit code. */
function report(error, isJson) {
  if (error instanceof CommanderError) {
    // printed already as text; without a mistake, help or the version was asked for
    if (isJson && error.exitCode !== EXIT.ok) print(usageFailure(error), isJson);
    return error.exitCode;
  }
  const reason = interruption.aborted ? interruption.reason : error;
  // a user at a terminal knows
  if (!(reason instanceof Interrupted && process.stderr.isTTY && !isJson)) print(reason instanceof Interrupted ? reason : error, isJson);
  return exitCodeOf(reason);
}

main(process.argv.slice(2));
