'use strict';
// One verify: options checked, progress and problems passed on, the signal listened to.
//
// What always holds: when the promise resolves, every error of the result has been an event, in the same order, and no
// event comes after it.

const check = require('./check.js');
const { invalidArgument } = require('./error.js');
const { randomUUID } = require('node:crypto');
const { human } = require('./progress.js');
const { stoppableAtOnce } = require('./stop.js');

const LEVELS = ['quick', 'standard', 'full'];
const INTERVAL_MS = 100;
const MAX_PARTS = 2 ** 32 - 1;

/** 'n/t': the n-th of t equal parts. */
function subset(value) {
  const match = typeof value === 'string' ? /^([1-9]\d{0,9})\/([1-9]\d{0,9})$/.exec(value) : null;
  const [part, of] = match ? [Number(match[1]), Number(match[2])] : [];
  if (!match || part > of || of > MAX_PARTS) {
    throw invalidArgument("subset must be 'n/t', the n-th of t equal parts, as '1/30'");
  }
  return { part, of };
}

/** The options of verify(): { json, level, signal?, onProgress? }. */
function options(value) {
  const given = check.options(value, ['level', 'subset', 'signal', 'onProgress'], 'options');
  const level = given.level === undefined ? 'standard' : given.level;
  if (!LEVELS.includes(level)) throw invalidArgument(`level must be one of ${LEVELS.join(', ')}`);
  return {
    json: JSON.stringify({ level, subset: given.subset === undefined ? undefined : subset(given.subset) }),
    level,
    signal: check.signal(given.signal, 'signal'),
    onProgress: check.callback(given.onProgress, 'onProgress'),
  };
}

/** From the counters of the native side to what users see, at most ten times a second and once at the end. */
class VerifyProgress {
  operationId = randomUUID();
  /** Problems found so far. */
  errors = 0;
  #level;
  #report;
  #started = performance.now();
  #last = this.#started;

  constructor(level, report) {
    this.#level = level;
    this.#report = report;
  }

  update(json) {
    if (performance.now() - this.#last >= INTERVAL_MS) this.#emit(JSON.parse(json));
  }

  finish({ packsChecked, chunksChecked }, doneBytes) {
    this.#emit({ doneBytes, totalBytes: doneBytes, chunks: chunksChecked, itemsDone: packsChecked }, 100);
  }

  #emit({ doneBytes, totalBytes, chunks, itemsDone }, percentage = null) {
    const now = performance.now();
    const seconds = (now - this.#started) / 1000;
    const rate = seconds > 0 ? doneBytes / seconds : 0;
    const known = totalBytes > 0;
    this.#last = now;
    this.#report({
      operation: 'verify',
      operationId: this.operationId,
      level: this.#level,
      message: `${human(doneBytes)} read, ${itemsDone} packs checked, ${this.errors} problems`,
      percentage: percentage ?? (known ? (doneBytes / totalBytes) * 100 : null),
      bytesDone: doneBytes,
      bytesTotal: known || percentage !== null ? totalBytes : null,
      bytesPerSecond: Math.round(rate),
      etaSeconds: known && rate > 0 ? Math.round((totalBytes - doneBytes) / rate) : null,
      chunks,
      itemsDone,
      errors: this.errors,
      elapsedMs: Math.round(now - this.#started),
    });
  }
}

/**
 * Runs one verify.
 * @param repo the native repository
 * @param checked what options() gave
 * @param listeners { progress(value), error(value) }
 * @returns the result, or throws what the native side threw
 */
async function runVerify(repo, { json, level, signal }, listeners) {
  let open = true;
  let doneBytes = 0;
  const progress = new VerifyProgress(level, listeners.progress);
  const onError = (error) => {
    progress.errors++;
    listeners.error({ operationId: progress.operationId, ...error });
  };
  const onProgress = (counters) => {
    if (!open) return;
    doneBytes = JSON.parse(counters).doneBytes;
    progress.update(counters);
  };
  try {
    const onProblem = (error) => open && onError(JSON.parse(error));
    const report = JSON.parse(await stoppableAtOnce(signal, (stop) => repo.verify(json, onProgress, onProblem, stop)));
    // callbacks and the promise come by different ways: what has not arrived yet is in the report
    open = false;
    report.errors.slice(progress.errors).forEach(onError);
    progress.finish(report.stats, doneBytes);
    return report;
  } finally {
    open = false;
  }
}

module.exports = { options, runVerify };
