'use strict';
// The public class: checks arguments, calls the native repository, and gives errors a stack of the
// caller.

const native = require('./native.js');
const options = require('./options.js');
const { about } = require('./about.js');
const check = require('./check.js');
const copies = require('./copies.js');
const { Calls, here } = require('./context.js');
const { Events, callSafely } = require('./events.js');
const files = require('./files.js');
const { Keys } = require('./keys.js');
const { IngestProgress } = require('./progress.js');
const { RestoreStream } = require('./restore.js');
const { restoreToFileOptions, runRestoreToFile } = require('./restore-file.js');
const { claimAll, releaseAll, stopAll } = require('./source.js');
const { runIngest } = require('./ingest.js');
const { policy } = require('./policy.js');
const { Leftovers, abortable, stoppable } = require('./stop.js');
const prune = require('./prune.js');
const { repairOptions, runRepair } = require('./repair.js');
const { runReindex } = require('./reindex.js');
const { reportOptions, runReport } = require('./report/index.js');
const { runStats } = require('./stats.js');
const { runUnlock, unlockOptions } = require('./unlock.js');
const verify = require('./verify.js');
const { closed, fromNative, invalidArgument } = require('./error.js');

/** Only connect() creates handles: the constructor is not part of the API. */
const INTERNAL = Symbol('internal');

/** The native calls of init() and open(): the handle, and whether its repository is new. */
const init = async (...given) => ({ handle: await native.init(...given), created: true });
const open = async (...given) => ({ handle: await native.open(...given), created: false });

/**
 * The same for openOrInit(): opens the repository at the path, or creates one when there is none.
 */
async function openOrInit(where, json, ...rest) {
  const existing = () => open(where, options.forOpen(json), ...rest);
  try {
    return await existing();
  } catch (error) {
    // the caller asked for a certain repository, which a new one would not be
    if (error.code !== 'ERR_REPO_NOT_FOUND' || 'repositoryId' in JSON.parse(json)) throw error;
  }
  try {
    return await init(where, json, ...rest);
  } catch (error) {
    // another process may have created it first; if not, something else is at the path
    if (error.code !== 'ERR_REPO_EXISTS' && error.code !== 'ERR_NOT_EMPTY') throw error;
    return existing().catch((second) => {
      throw second.code === 'ERR_REPO_NOT_FOUND' ? error : second;
    });
  }
}

/** init(), open() and openOrInit(): they differ in the call and the options that it takes. */
async function connect(call, takes, path, given) {
  const where = check.location(path, 'path');
  const { json, secret, signal } = options.repository(given, takes, check.isUrl(where));
  const events = new Events();
  const calls = new Calls();
  const warn = (code, message, pack) => {
    events.emit('warning', { code, message, ...(pack && { pack }) });
    if (code === 'WARN_PACK_HEALED') events.emit('repair:healed', { pack });
  };
  const onWarning = (...warning) => calls.run(() => warn(...warning));
  const connected = (stop) => {
    const run = async (passphrase, key) => {
      signal?.throwIfAborted();
      return call(where, json, passphrase, key, onWarning, stop);
    };
    return secret === null ? run() : secret.use(run);
  };
  try {
    signal?.throwIfAborted();
    const { handle, created } = await stoppable(signal, connected, { discard: (late) => late.handle.close() });
    if (created && takes === 'openOrInit') {
      const message = `There was no repository at ${where}, and a new, empty one was created: ${handle.repositoryId}`;
      onWarning('WARN_REPO_CREATED', message);
    }
    return new ContainerArchive(INTERNAL, handle, events, calls, created);
  } catch (error) {
    secret?.drop();
    throw signal?.aborted ? signal.reason : fromNative(error);
  }
}

/** A backup repository. Get one with ContainerArchive.init() or ContainerArchive.open(). */
class ContainerArchive {
  #native;
  #events;
  #calls;
  #keys = new Keys((call) => this.#call(call), (call, signal) => this.#alone(call, signal));
  /** Aborted ingests, aborted maintenance and aborted mirroring that still run. */
  #leftovers = new Leftovers();
  #maintaining = new Leftovers();
  #mirroring = new Leftovers();
  #closing = null;
  #created;

  constructor(token, handle, events, calls, created) {
    if (token !== INTERNAL) throw invalidArgument('Use ContainerArchive.init() or ContainerArchive.open()');
    this.#native = handle;
    this.#events = events;
    this.#calls = calls;
    this.#created = created;
  }

  get created() {
    return this.#created;
  }

  get repositoryId() {
    return this.#native.repositoryId;
  }

  static about() {
    return about();
  }

  static async init(path, initOptions) {
    return connect(init, 'init', path, initOptions);
  }

  static async open(path, openOptions) {
    return connect(open, 'open', path, openOptions);
  }

  static async openOrInit(path, initOptions) {
    return connect(openOrInit, 'openOrInit', path, initOptions);
  }

  async ingest(stream, ingestOptions) {
    const { items, expectedSize, ...checked } = options.ingest(ingestOptions, true);
    return this.#ingest([{ ...options.singleItem(items), expectedSize, source: stream }], checked);
  }

  async ingestMulti(items, ingestOptions) {
    const checked = options.ingest(ingestOptions, false);
    return this.#ingest(options.multiItems(items), checked);
  }

  async ingestCommand(commands, ingestOptions) {
    const checked = options.ingest(ingestOptions, false);
    return this.#ingest(options.commands(commands), checked);
  }

  async restore(id, restoreOptions) {
    this.#assertOpen();
    const { json, signal } = options.restore(restoreOptions);
    const planned = this.#call((repo) => repo.restore(options.snapshotId(id), json), signal);
    const stream = await abortable(planned, signal, { discard: (late) => late.cancel() });
    if (signal?.aborted) {
      // after the plan was made: from here on the stream listens to the signal itself
      stream.cancel();
      throw signal.reason;
    }
    try {
      // a damaged pack that it reads is repaired, which is a warning
      return new RestoreStream(stream, this.#native, signal, this.#calls.begin());
    } catch (error) {
      stream.cancel();
      throw error;
    }
  }

  async restoreToFile(id, fileOptions) {
    const checked = restoreToFileOptions(fileOptions);
    const snapshot = options.snapshotId(id);
    const listeners = this.#listeners('restore', checked.onProgress);
    return this.#stoppable((repo) => runRestoreToFile(repo, snapshot, checked, listeners), checked.signal);
  }

  async restoreToDirectory(id, directoryOptions) {
    const checked = files.directoryOptions(directoryOptions);
    const snapshot = options.snapshotId(id);
    const listeners = this.#listeners('restore', checked.onProgress);
    return this.#stoppable((repo) => files.runRestoreToDirectory(repo, snapshot, checked, listeners), checked.signal);
  }

  async *files(id, filesOptions) {
    const { json, signal } = files.filesOptions(filesOptions);
    const snapshot = options.snapshotId(id);
    const begin = (repo, stop) => repo.files(snapshot, json, stop);
    yield* files.pages((call) => this.#stoppable(call, signal), begin, signal, files.entry);
  }

  async memberInfo(id, memberOptions) {
    const json = files.memberInfoOptions(memberOptions);
    return files.entry(JSON.parse(await this.#call((repo) => repo.memberInfo(options.snapshotId(id), json))));
  }

  async *diff(before, after, diffOptions) {
    const { json, signal } = files.diffOptions(diffOptions);
    const ids = [before, after].map(options.snapshotId);
    const begin = (repo, stop) => repo.diff(...ids, json, stop);
    yield* files.pages((call) => this.#stoppable(call, signal), begin, signal, files.change);
  }

  async listSnapshots(listOptions) {
    return JSON.parse(await this.#call((repo) => repo.listSnapshots(options.listOptions(listOptions))));
  }

  async latest(filter) {
    return JSON.parse(await this.#call((repo) => repo.latest(options.filter(filter))));
  }

  async getSnapshot(id) {
    return JSON.parse(await this.#call((repo) => repo.getSnapshot(options.snapshotId(id))));
  }

  async verify(verifyOptions) {
    this.#assertOpen();
    const checked = verify.options(verifyOptions);
    const listeners = this.#listeners('verify', checked.onProgress);
    return this.#stoppable((repo) => verify.runVerify(repo, checked, listeners), checked.signal);
  }

  async prune(retention, pruneOptions) {
    return this.#prune(policy(retention), prune.pruneOptions(pruneOptions));
  }

  async planPrune(retention, planOptions) {
    return this.#prune(policy(retention), prune.planOptions(planOptions));
  }

  async forget(ids) {
    const whole = prune.forgetIds(ids);
    return this.#call((repo) => repo.forget(whole));
  }

  async locks() {
    return JSON.parse(await this.#call((repo) => repo.locks()));
  }

  async repair(given) {
    const checked = repairOptions(given);
    const listeners = this.#listeners('repair', checked.onProgress);
    return this.#alone((repo) => runRepair(repo, checked, listeners, this.#maintaining), checked.signal);
  }

  async copyTo(target, copyOptions) {
    if (!(target instanceof ContainerArchive) || !(#native in target)) {
      throw invalidArgument(`target must be an open ContainerArchive, got ${check.kindOf(target)}`);
    }
    const checked = copies.copyOptions(copyOptions);
    this.#assertOpen();
    target.#assertOpen();
    const listeners = this.#listeners('copy', checked.onProgress);
    const ended = target.#calls.begin();
    try {
      const run = (repo) => copies.runCopy(repo, target.#native, checked, listeners, target.#leftovers);
      return await this.#stoppable(run, checked.signal);
    } finally {
      ended();
    }
  }

  async mirrorTo(path, mirrorOptions) {
    const where = check.location(path, 'path');
    const checked = copies.mirrorOptions(mirrorOptions);
    const listeners = this.#listeners('mirror', checked.onProgress);
    const run = async (repo) => {
      // an aborted mirroring would hold the lock of the target
      if (this.#mirroring.any) await abortable(this.#mirroring.settled(), checked.signal);
      return copies.runMirror(repo, where, checked, listeners, this.#mirroring);
    };
    return this.#stoppable(run, checked.signal);
  }

  async reindex(reindexOptions) {
    const checked = options.signalOnly(reindexOptions);
    await this.#alone((repo) => runReindex(repo, checked, this.#maintaining), checked.signal);
  }

  async stats(statsOptions) {
    const checked = options.signalOnly(statsOptions);
    return this.#stoppable((repo) => runStats(repo, checked), checked.signal);
  }

  async report(given) {
    const checked = reportOptions(given);
    return this.#stoppable((repo) => runReport(repo, checked), checked.signal);
  }

  async unlock(given) {
    const checked = unlockOptions(given);
    await this.#alone((repo) => runUnlock(repo, checked));
  }

  get keys() {
    return this.#keys;
  }

  on(event, handler) {
    return this.#events.on(event, handler);
  }

  once(event, handler) {
    return this.#events.once(event, handler);
  }

  addListener(event, handler) {
    return this.on(event, handler);
  }

  removeListener(event, handler) {
    this.#events.off(event, handler);
  }

  off(event, handler) {
    this.#events.off(event, handler);
  }

  close() {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close() {
    try {
      await this.#native.close();
    } catch (error) {
      // Another close() tries again. The native side is closed nevertheless, and refuses all other
      // calls.
      this.#closing = null;
      throw fromNative(error);
    }
  }

  #assertOpen() {
    if (this.#closing) throw closed();
  }

  /**
   * The listeners of an operation: the events of that name, and for its progress the caller too.
   */
  #listeners(operation, onProgress) {
    const inContext = here();
    const emit = (event) => (value) => inContext(() => this.#events.emit(`${operation}:${event}`, value));
    const tell = emit('progress');
    const progress = (value) => {
      tell(value);
      if (onProgress) inContext(callSafely, onProgress, value);
    };
    return { progress, complete: emit('complete'), error: emit('error') };
  }

  /** Makes one call of the native repository. */
  async #call(call, signal) {
    this.#assertOpen();
    signal?.throwIfAborted();
    const ended = this.#calls.begin();
    try {
      return await call(this.#native);
    } catch (error) {
      throw fromNative(error);
    } finally {
      ended();
    }
  }

  /** The same, for a call that ends when the signal aborts. */
  async #stoppable(call, signal) {
    try {
      return await this.#call(call, signal);
    } catch (error) {
      throw signal?.aborted ? signal.reason : error;
    }
  }

  /** The same, after all aborted calls of this handle have ended: they would hold locks. */
  async #alone(call, signal) {
    return this.#stoppable(async (repo) => {
      // without such calls immediately: a call that precedes close() runs before it
      for (const left of [this.#leftovers, this.#maintaining]) if (left.any) await abortable(left.settled(), signal);
      return call(repo);
    }, signal);
  }

  async #prune(retention, checked) {
    const listeners = this.#listeners('prune', checked.onProgress);
    const run = (repo) => prune.runPrune(repo, retention, checked, listeners, this.#maintaining);
    return this.#alone(run, checked.signal);
  }

  async #ingest(unclaimed, { json, signal, onProgress, commitWhen, concurrency = 1 }) {
    const items = claimAll(unclaimed);
    const lanes = Math.min(concurrency, items.length);
    const listeners = this.#listeners('ingest', onProgress);
    const progress = new IngestProgress(items.length, listeners.progress);
    const inContext = here();
    const warn = (code, message, details) => {
      inContext(() => this.#events.emit('warning', { code, message, ...details }));
    };
    for (const { source } of items) source.report?.(warn);
    const ended = this.#calls.begin();
    try {
      const ingest = this.#begin(items, json, lanes, signal, progress);
      progress.native = ingest;
      const snapshot = await runIngest(ingest, lanes, items, { signal, commitWhen }, this.#leftovers, progress);
      progress.finish(snapshot);
      listeners.complete({
        operationId: progress.operationId,
        snapshotId: snapshot.id,
        newChunks: snapshot.newChunks,
      });
      return snapshot;
    } finally {
      ended();
      progress.close();
      releaseAll(items);
    }
  }

  /** Creates the native ingest, not yet running. When that fails, the sources are destroyed. */
  #begin(items, json, lanes, signal, progress) {
    try {
      this.#assertOpen();
      signal?.throwIfAborted();
      return this.#native.ingest(options.outlined(json, items), lanes, (update) => progress.update(update));
    } catch (error) {
      const reason = signal?.aborted ? error : fromNative(error);
      stopAll(items, reason);
      throw reason;
    }
  }
}
if (Symbol.asyncDispose) ContainerArchive.prototype[Symbol.asyncDispose] = ContainerArchive.prototype.close;

module.exports = { ContainerArchive };
