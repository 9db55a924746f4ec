'use strict';
// A command whose output is backed up: a source (see source.js) that starts a process of its own.
//
// Invariants:
// - No shell: the arguments reach the program unchanged, on Windows cmd.exe included (windows.js).
// - The source ends cleanly only after the process has exited with an accepted code, by default 0.
//   The stdout of a child ends cleanly however the child ends, so the end of the bytes proves
//   nothing.
// - A command that failed, that is no longer read, or whose host ends (see watch.js) is ended
//   together with the processes that it started: asked first, killed after a grace period. The
//   ingest does not wait for that.

const { spawn } = require('node:child_process');
const { accessSync, constants, statSync } = require('node:fs');
const { setTimeout: sleep } = require('node:timers/promises');
const { ContainerArchiveError, RETRY_HINT } = require('./error.js');
const { Watchdog, join, leave } = require('./watch.js');
const { windowsArguments } = require('./windows.js');

const noop = () => {};
const IS_WINDOWS = process.platform === 'win32';
/** How much of what the command wrote to stderr is kept, in bytes from its end. */
const TAIL_BYTES = 4096;
/**
 * How long to wait for the end of stderr after the exit; a background process may keep it open
 * forever.
 */
const TAIL_WAIT_MS = 100;
/** Time between asking a group of processes to end and killing it. */
const GRACE_MS = 3000;
/** How often a group that was asked to end is checked. */
const LOOK_MS = 50;

/** Why no command can run in a directory: { why, cause }, or null when one can. */
function unusableFolder(cwd) {
  try {
    if (!statSync(cwd).isDirectory()) return { why: 'is not a directory' };
    accessSync(cwd, constants.X_OK);
    return null;
  } catch (cause) {
    return { why: cause.code === 'ENOENT' ? 'does not exist' : `cannot be entered (${cause.code})`, cause };
  }
}

/** Sends a signal to a group of processes; returns false when there is no such group any more. */
function signalGroup(pid, signal) {
  try {
    return process.kill(-pid, signal);
  } catch (error) {
    return error.code === 'EPERM'; // the group exists, but its user has changed
  }
}

/** The last bytes that were written to a stream. */
class Tail {
  #bytes = Buffer.alloc(0);
  #cut = false;

  constructor(stream) {
    stream?.on('data', (part) => {
      const all = Buffer.concat([this.#bytes, part]);
      this.#cut ||= all.length > TAIL_BYTES;
      this.#bytes = all.subarray(-TAIL_BYTES);
    });
    stream?.on('error', noop);
  }

  toString() {
    let start = 0;
    // do not begin within a character
    while (this.#cut && start < this.#bytes.length && (this.#bytes[start] & 0xc0) === 0x80) start++;
    return this.#bytes.toString('utf8', start);
  }
}

class Command {
  size = null;
  claim = null;
  /** Its errors are ContainerArchiveErrors already. */
  typed = true;
  #spec;
  #fail = noop;
  #warn = noop;
  #child = null;
  #watchdog = null;
  #tail = null;
  #ended = null;
  #timers = [];
  #over = false;
  #ending = false;

  /**
   * @param spec { name, command: [file, ...args], okExitCodes, refuseEmpty, cwd?, env?, timeoutMs?,
   * expectedSize? }, checked
   */
  constructor(spec) {
    this.#spec = spec;
  }

  watch(fail) {
    this.#fail = fail;
  }

  /** From now on, its warnings are passed to `warn(code, message, details)`. */
  report(warn) {
    this.#warn = warn;
  }

  /** Starts the command. */
  async *iterator() {
    this.#start();
    let isEmpty = true;
    try {
      // null when there were no descriptors left for it
      for await (const chunk of this.#child.stdout?.iterator({ destroyOnReturn: false }) ?? []) {
        isEmpty = false;
        yield chunk;
      }
    } catch (error) {
      // the reason of its exit is more precise, if it has exited
      await Promise.race([this.#ended, sleep(TAIL_WAIT_MS, undefined, { ref: false })]);
      throw this.#error('its output cannot be read', { cause: error });
    }
    await this.#ended;
    if (isEmpty) this.#wroteNothing();
    this.release();
  }

  /** A clean end without output: an empty item, unless that is refused. */
  #wroteNothing() {
    const { refuseEmpty, expectedSize } = this.#spec;
    if (refuseEmpty) throw this.#error('it wrote nothing');
    if (expectedSize !== 0) this.#warned('WARN_COMMAND_EMPTY', 'wrote nothing: the item is empty');
  }

  /** Passes a warning on, unless the ingest has ended. */
  #warned(code, what, details) {
    if (this.#over) return;
    const { name } = this.#spec;
    this.#warn(code, `${this.#described()} ${what}`, { item: name, ...details, stderrTail: this.#tail.toString() });
  }

  /** Ends the command early, if it has begun. */
  stop() {
    if (!this.#child || this.#over) return;
    this.#over = true;
    this.#child.stdout?.destroy();
    if (this.#child.pid !== undefined) this.#endGroup(this.#child);
  }

  release() {
    this.#over = true;
    for (const timer of this.#timers) clearTimeout(timer);
    // a process that it left in the background may keep it open
    this.#child?.stderr?.destroy();
    if (!this.#ending) this.#left();
  }

  /**
   * Ends the command because this process is about to exit. Without a watchdog, there is no grace
   * period.
   */
  endNow() {
    const { pid } = this.#child;
    if (IS_WINDOWS) this.#child.kill();
    else if (!this.#watchdog.isAlive) signalGroup(pid, 'SIGKILL');
    else if (!this.#ending && signalGroup(pid, 'SIGTERM')) this.#watchdog.asked();
  }

  #start() {
    const { command, cwd, env, timeoutMs } = this.#spec;
    const { args, ...more } = IS_WINDOWS ? windowsArguments(command) : { args: command.slice(1) };
    // first, so that the command runs without a watchdog only during one write
    this.#watchdog = new Watchdog();
    try {
      // A group of its own, so that everything it starts can be ended too.
      this.#child = spawn(command[0], args, {
        cwd, env, stdio: ['ignore', 'pipe', 'pipe'], detached: !IS_WINDOWS, windowsHide: true, ...more,
      });
    } catch (error) {
      this.#watchdog.over();
      throw this.#notStarted(error);
    }
    const child = this.#child;
    if (child.pid === undefined) this.#watchdog.over();
    else this.#watchdog.watch(child.pid);
    this.#tail = new Tail(child.stderr);
    child.stdout?.on('error', noop);
    this.#ended = this.#end(child, timeoutMs);
    // at once, not only when its output has ended
    this.#ended.catch((error) => this.#fail(error));
  }

  /** Settles when the command has ended: fulfilled only with an accepted exit code. */
  #end(child, timeoutMs) {
    if (child.pid !== undefined) join(this);
    const tooLate = () => this.#fail(this.#error(`it did not end within ${timeoutMs} ms`));
    if (timeoutMs !== undefined) this.#timers.push(setTimeout(tooLate, timeoutMs));
    return new Promise((resolve, reject) => {
      child.on('error', (error) => reject(this.#notStarted(error)));
      child.once('exit', (exitCode, signal) => {
        const isAccepted = this.#spec.okExitCodes.includes(exitCode);
        // A background process that it left may hold its output; otherwise its number may soon be
        // that of another group.
        if (isAccepted && !this.#ending && !signalGroup(child.pid, 0)) this.#left();
        if (exitCode === 0 && isAccepted) return void resolve();
        const how = signal ? `was ended by ${signal}` : `ended with exit code ${exitCode}`;
        let isSettled = false;
        const settle = () => {
          if (isSettled) return;
          isSettled = true;
          if (!isAccepted) return void reject(this.#error(`it ${how}`, { exitCode, signal }));
          this.#warned('WARN_COMMAND_EXIT_CODE', `${how}, which okExitCodes accepts`, { exitCode });
          resolve();
        };
        child.once('close', settle);
        this.#timers.push(setTimeout(settle, TAIL_WAIT_MS));
      });
    });
  }

  /** Nothing of the command is left that would have to end with this process. */
  #left() {
    leave(this);
    this.#watchdog?.over();
  }

  /**
   * Asks the command and everything that it started to end, and kills what is left after the grace
   * period.
   */
  #endGroup(child) {
    const { pid } = child;
    if (IS_WINDOWS) {
      const killer = spawn('taskkill', ['/pid', String(pid), '/t', '/f'], { stdio: 'ignore', windowsHide: true });
      killer.on('error', () => child.kill());
      return;
    }
    if (!signalGroup(pid, 'SIGTERM')) return void this.#left();
    this.#ending = true;
    this.#watchdog.asked();
    const deadline = performance.now() + GRACE_MS;
    // Checked often, so that the number cannot become that of another group in the meantime.
    const look = setInterval(() => {
      const late = performance.now() >= deadline;
      if (signalGroup(pid, late ? 'SIGKILL' : 0) && !late) return;
      clearInterval(look);
      this.#left();
    }, LOOK_MS);
  }

  /**
   * The error of a command that did not start. The system names the program, also when it is the
   * directory that is missing.
   */
  #notStarted(cause) {
    const { cwd } = this.#spec;
    const folder = cwd === undefined ? null : unusableFolder(cwd);
    if (!folder) return this.#error(`it cannot be started (${cause.code ?? cause.message})`, { cause });
    return this.#error(`its working directory ${JSON.stringify(cwd)} ${folder.why}`, {
      cause: folder.cause ?? cause, path: cwd, hint: `Create the directory, or correct cwd. ${RETRY_HINT}`,
    });
  }

  /** The command in a message. Only the program: arguments may contain secrets. */
  #described() {
    const { name, command } = this.#spec;
    return `The command ${JSON.stringify(command[0])} of item ${JSON.stringify(name)}`;
  }

  #error(why, details = {}) {
    const { name } = this.#spec;
    const message = `${this.#described()} failed: ${why}`;
    const stderrTail = this.#tail?.toString();
    return new ContainerArchiveError(message, {
      hint: stderrTail ? `See stderrTail. ${RETRY_HINT}` : RETRY_HINT,
      ...details,
      code: 'ERR_SOURCE_FAILED',
      item: name,
      stderrTail,
    });
  }
}

module.exports = { Command };
