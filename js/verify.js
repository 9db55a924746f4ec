'use strict';
// One verify: checks options, forwards progress and problems, listens to the signal.
//
// Invariant: when the promise resolves, every error of the result has been an event, in the same
// order, and no event follows.

const check = require('./check.js');
const { invalidArgument } = require('./error.js');
const { read } = require('./fields.js');
const { VerifyProgress } = require('./progress.js');
const { IVerifyOptions } = require('./schema.js');
const { stoppable } = require('./stop.js');

/** 'n/t': the n-th of t equal parts. */
function subset(value) {
  const match = typeof value === 'string' ? /^([1-9]\d{0,9})\/([1-9]\d{0,9})$/.exec(value) : null;
  const [part, of] = match ? [Number(match[1]), Number(match[2])] : [];
  if (!match || part > of || of > IVerifyOptions.subset.max) {
    throw invalidArgument("subset must be 'n/t', the n-th of t equal parts, as '1/30'");
  }
  return { part, of };
}

/** The options of verify(): { json, level, signal?, onProgress? }. */
function options(value) {
  const given = check.options(value, IVerifyOptions, 'options');
  const { level } = read(given, IVerifyOptions, ['level']);
  return {
    json: JSON.stringify({ level, subset: given.subset === undefined ? undefined : subset(given.subset) }),
    level,
    signal: check.signal(given.signal, 'signal'),
    onProgress: check.callback(given.onProgress, 'onProgress'),
  };
}

/**
 * Runs one verify.
 * @param repo the native repository
 * @param checked what options() returned
 * @param listeners { progress(value), error(value) }
 * @returns the result, or throws what the native side threw
 */
async function runVerify(repo, { json, level, signal }, listeners) {
  let open = true;
  const progress = new VerifyProgress(level, listeners.progress);
  const onError = (error) => {
    progress.errors++;
    listeners.error({ operationId: progress.operationId, ...error });
  };
  try {
    const update = (counters) => progress.update(counters);
    const onProblem = (error) => open && onError(JSON.parse(error));
    const report = JSON.parse(await stoppable(signal, (stop) => repo.verify(json, update, onProblem, stop)));
    // callbacks and the promise arrive independently: what is not here yet is in the report
    open = false;
    report.errors.slice(progress.errors).forEach(onError);
    progress.finish(report.stats);
    return report;
  } finally {
    open = false;
    progress.close();
  }
}

module.exports = { options, runVerify };
