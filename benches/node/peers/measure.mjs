// Measures the processes of the peer benchmark from outside, by measure.py.
//
// A command is `{ argv, input }`: a program with its arguments, and the file that it reads through
// a pipe, if any. Its output goes to /dev/null, except in `outputOf`, which is never timed. A
// command that fails is an error with the end of what it wrote to stderr.
import { execFileSync, spawn } from 'node:child_process';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';
import { digest } from './data.mjs';

const MEASURE = fileURLToPath(new URL('measure.py', import.meta.url));
const STDERR_KEPT = 2000;

let python;
let running;

/** Finds Python; throws unless commands can be measured here. */
export function checkMeasuring() {
  const probe = 'import os, resource, sys; os.waitstatus_to_exitcode, os.fork; print(sys.executable)';
  try {
    python = execFileSync('python3', ['-c', probe], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch (cause) {
    throw new Error('The peer benchmark needs Linux or macOS, and python3 3.9 or later on the PATH', { cause });
  }
}

/**
 * Runs a command: its wall and CPU seconds, peak memory in bytes, and how many cores other
 * processes used while it ran.
 */
export async function measured(command, env) {
  const before = busySeconds();
  const { wall, cpu, rss, feeder } = await run(command, env, 'ignore');
  const foreign = Math.max(0, (busySeconds() - before - cpu - feeder) / wall);
  return { wall, cpu, rss, foreign };
}

/** Length and SHA-256 of what a command writes. */
export async function outputOf(command, env) {
  let output;
  await run(command, env, 'pipe', (stdout) => (output = digest(stdout)));
  return output;
}

/** Ends the command that is running, if any, with all that it started. */
export function stop() {
  if (running) process.kill(-running.pid, 'SIGKILL');
}

async function run({ argv, input = '-' }, env, stdout, started = () => {}) {
  const stdio = ['ignore', stdout, 'pipe', 'pipe'];
  const child = spawn(python, ['-I', '-S', MEASURE, input, ...argv], { env, stdio, detached: true });
  running = child;
  const ended = new Promise((resolve, reject) => child.on('error', reject).on('close', resolve));
  let [errors, report] = ['', ''];
  child.stderr.on('data', (part) => (errors = (errors + part).slice(-STDERR_KEPT)));
  child.stdio[3].on('data', (part) => (report += part));
  started(child.stdout);
  await ended;
  running = undefined;
  const result = report ? JSON.parse(report) : { code: 'no report' };
  if (result.code !== 0) throw new Error(`${argv.join(' ')} ended with ${result.code}: ${errors.trim()}`);
  return result;
}

/** Seconds that all cores have worked since the start of the machine, in steps of 10 ms. */
function busySeconds() {
  return cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0) / 1000;
}
