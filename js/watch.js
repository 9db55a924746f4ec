'use strict';
// Commands end with their host. A command has a session of its own, so what ends the host does not
// reach it: neither Ctrl-C nor a hangup, and no code runs here after SIGKILL, after a crash or in a
// worker that is terminated.
//
// Invariants:
// - Each command has a watchdog: a shell that reads a pipe from this thread, and ends the command's
//   group when the pipe ends. The kernel closes the pipe, however the thread ends. The command
//   itself is a child of this process as it would be without a watchdog: its exit code, arguments,
//   environment and descriptors are its own, and it does not have the pipe.
// - While commands run, and only then, this process listens for the signals that end it, unless the
//   host does: then the host decides. Commands of a host that exits are ended by 'exit'.
// - The listener of this file is the only one of a signal, or it is removed. Two libraries that
//   both wait for the other one to act (signal-exit does) would disable Ctrl-C.

const { spawn } = require('node:child_process');
const { isMainThread } = require('node:worker_threads');

const noop = () => {};
const IS_WINDOWS = process.platform === 'win32';
/** The signals that end a process without a listener, and may be meant for its commands too. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'];

// Two lines arrive: the group, then its state. `over`: it has ended. `asked`: the host has asked it
// to end. The end of the pipe instead: the host has exited. Signals for all processes of a service
// or a container are ignored: the host decides.
const SCRIPT = `
trap '' HUP INT TERM
read -r group || exit 0
read -r state
case $state in
  over) exit 0 ;;
  asked) ;;
  *) kill -s TERM -- "-$group" || exit 0 ;;
esac
for second in 1 2 3; do
  sleep 1
  kill -s 0 -- "-$group" || exit 0
done
kill -s KILL -- "-$group"
`;

/**
 * Ends the process group of one command when this thread ends. Created before the command starts.
 */
class Watchdog {
  #child = null;

  constructor() {
    // its processes are in the job of this one, which ends them
    if (IS_WINDOWS) return;
    try {
      // In the root directory, so that it keeps no file system busy. Its environment is for finding
      // `sleep`.
      this.#child = spawn('/bin/sh', ['-c', SCRIPT, 'containerarchive-watchdog'], {
        cwd: '/',
        env: { PATH: process.env.PATH ?? '/usr/bin:/bin' },
        stdio: ['pipe', 'ignore', 'ignore'],
        detached: true,
      });
      this.#child.on('error', () => (this.#child = null));
      this.#child.on('exit', () => (this.#child = null));
      this.#child.stdin?.on('error', noop);
      this.#child.stdin?.unref?.(); // the pipes of Bun have none, and do not keep it running
      this.#child.unref();
    } catch {
      this.#child = null; // the command needs the same, and reports the reason
    }
  }

  /**
   * Whether the watchdog runs, and kills what does not end when asked. A machine may have no shell.
   */
  get isAlive() {
    return this.#child?.pid !== undefined;
  }

  /** Sets the group to watch, that of a command that has just started. */
  watch(pid) {
    this.#tell(pid);
  }

  /**
   * The group was asked to end: it is killed after the grace period, also if this process exits
   * before.
   */
  asked() {
    this.#tell('asked');
  }

  /** The group has ended. */
  over() {
    this.#tell('over');
    this.#child?.stdin?.end();
    this.#child = null;
  }

  #tell(line) {
    this.#child?.stdin?.write(`${line}\n`);
  }
}

/** Commands that are running now. When this process exits, nothing reads their output. */
const running = new Set();

const endAll = () => {
  for (const command of running) command.endNow();
};

/** The host has no listener: the process ends by this signal, as it would without this file. */
const onSignal = (signal) => {
  endAll();
  unlisten();
  process.kill(process.pid, signal);
};

/**
 * Removes this listener once the host has one, not before: when a signal has no listener for a
 * moment, Node stops to catch it.
 */
const onNewListener = (name, listener) => {
  if (!SIGNALS.includes(name) || listener === onSignal) return;
  process.nextTick(() => {
    if (process.listenerCount(name) > 1) process.off(name, onSignal);
  });
};

const onRemoveListener = (name, listener) => {
  if (SIGNALS.includes(name) && listener !== onSignal) listenFor(name);
};

function listenFor(signal) {
  if (process.listenerCount(signal) === 0) process.on(signal, onSignal);
}

function listen() {
  process.on('exit', endAll);
  // No signal reaches a worker thread. On Windows the console's signals reach all its processes.
  if (IS_WINDOWS || !isMainThread) return;
  SIGNALS.forEach(listenFor);
  process.on('newListener', onNewListener);
  process.on('removeListener', onRemoveListener);
}

function unlisten() {
  process.off('exit', endAll);
  process.off('newListener', onNewListener);
  process.off('removeListener', onRemoveListener);
  for (const signal of SIGNALS) process.off(signal, onSignal);
}

/** From now on the command ends with this process, which calls its endNow(). */
function join(command) {
  if (running.size === 0) listen();
  running.add(command);
}

/** The command has ended. */
function leave(command) {
  if (running.delete(command) && running.size === 0) unlisten();
}

module.exports = { Watchdog, join, leave };
