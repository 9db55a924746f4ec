'use strict';
// Commands end with their host. A command has a session of its own, so nothing that ends the host
// reaches it by itself: neither Ctrl-C nor a hangup, and no code runs here after SIGKILL, after a
// crash or in a worker that is terminated.
//
// What always holds:
// - Each command has a watchdog: a shell that reads a pipe from this thread, and ends the command's
//   group when the pipe ends. The kernel closes the pipe, however the thread ends. The command
//   itself is a child of this process as it would be without: its exit code, arguments, environment
//   and descriptors are its own, and it knows nothing of the pipe.
// - While commands run, and only then, this process listens for the signals that end it, unless the
//   host does: it knows better what to do then. Commands of a host that exits are ended by 'exit'.
// - Ours is the only listener of a signal, or it is none. Two libraries that both wait for the
//   other one to act (signal-exit does) would make Ctrl-C do nothing.

const { spawn } = require('node:child_process');
const { isMainThread } = require('node:worker_threads');

const noop = () => {};
const IS_WINDOWS = process.platform === 'win32';
/** What ends a process that does not listen, and may be meant for its commands too. */
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'];

// Two lines come: the group, then what became of it. `over`: it ended. `asked`: the host has asked
// it to end. The end of the pipe instead: the host has exited. Signals for all processes of a
// service or a container are ignored: the host decides.
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

/** Ends one command's group of processes when this thread ends. Made before the command starts. */
class Watchdog {
  #child = null;

  constructor() {
    // its processes are in a job of this one already, which ends them
    if (IS_WINDOWS) return;
    try {
      // In the root folder, so that it keeps no file system busy. Its environment is what `sleep`
      // is found with.
      this.#child = spawn('/bin/sh', ['-c', SCRIPT, 'containerarchive-watchdog'], {
        cwd: '/', env: { PATH: process.env.PATH ?? '/usr/bin:/bin' }, stdio: ['pipe', 'ignore', 'ignore'], detached: true,
      });
    } catch {
      return; // the command, which needs the same, reports why
    }
    this.#child.on('error', () => (this.#child = null));
    this.#child.on('exit', () => (this.#child = null));
    this.#child.stdin?.on('error', noop);
    this.#child.stdin?.unref();
    this.#child.unref();
  }

  /** Whether it is there, and kills what does not end when asked. A machine may have no shell. */
  get isAlive() {
    return this.#child?.pid !== undefined;
  }

  /** The group to watch, of a command that has just started. */
  watch(pid) {
    this.#tell(pid);
  }

  /**
   * The group was asked to end: it is killed after the grace, also if this process exits before.
   */
  asked() {
    this.#tell('asked');
  }

  /** There is nothing to watch any more. */
  over() {
    this.#tell('over');
    this.#child?.stdin?.end();
    this.#child = null;
  }

  #tell(line) {
    this.#child?.stdin?.write(`${line}\n`);
  }
}

/** Commands that are running now. When this process exits, they have no one to write to. */
const running = new Set();

const endAll = () => {
  for (const command of running) command.endNow();
};

/** No listener of the host is there: the process ends by this signal, as it would without us. */
const onSignal = (signal) => {
  endAll();
  unlisten();
  process.kill(process.pid, signal);
};

/**
 * Ours is taken away once the host's is there: when a signal has no listener for a moment, Node
 * stops to catch it.
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

/** From now on the command ends with this process: its endNow() is called. */
function join(command) {
  if (running.size === 0) listen();
  running.add(command);
}

/** The command has ended. */
function leave(command) {
  if (running.delete(command) && running.size === 0) unlisten();
}

module.exports = { Watchdog, join, leave };
