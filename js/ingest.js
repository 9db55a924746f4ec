'use strict';
// One ingest: reads the sources one after the other and pushes their bytes to the native side.
//
// Invariants:
// - The native run() alone decides the outcome: a snapshot exists if and only if it resolved. A
//   source that fails, an abort or a bad chunk only call abort() there, and the caller sees the
//   first such reason.
// - The native side is told of the end only after every source has ended and `commitWhen` is
//   fulfilled. Until then it has written nothing that could become a snapshot, and holds no lock.
// - Nothing here waits for a source that was stopped: its next() may never return.
// - An abort in time rejects at once. What was read until then is stored in the background, and the
//   next ingest reuses it.

const { byteLength, kindOf, part } = require('./check.js');
const { chunkBytes, quietly } = require('./source.js');
const { abortable } = require('./stop.js');
const { Turns } = require('./turns.js');
const { closed, commitRefused, fromNative, isOurs, sourceFailed } = require('./error.js');

/**
 * Most bytes that one push() copies: it runs on the JS thread, which it must not block for long.
 */
const SLICE_BYTES = 1024 * 1024;

/** Pushes a chunk that is too long for one push(). */
async function pushSlices(lane, chunk, name, progress) {
  const length = byteLength(chunk);
  for (let at = 0; at < length; at += SLICE_BYTES) {
    if (byteLength(chunk) !== length) {
      throw sourceFailed(name, new Error('a chunk was transferred away or resized while it was read'));
    }
    const slice = part(chunk, at, at + SLICE_BYTES);
    progress.received += byteLength(slice);
    if (!lane.push(slice)) await lane.drained();
  }
}

/** The error of an ingest whose source threw `error`. */
function failure({ name, source }, error) {
  return source.typed && isOurs(error) ? error : sourceFailed(name, error);
}

/**
 * Returns what `call` returns, which runs code of a source; what it throws is the failure of that
 * source.
 */
function ofSource(item, call) {
  try {
    return call();
  } catch (error) {
    throw failure(item, error);
  }
}

/**
 * Reads one source to its end. Returns early, without an error, when the ingest was stopped in the
 * meantime.
 */
async function feed(lane, item, turns, progress, isStopped) {
  const { name, source } = item;
  const iterator = ofSource(item, () => source.iterator(lane));
  let read = 0;
  for (;;) {
    let value;
    try {
      const step = await iterator.next();
      if (isStopped()) return;
      if (Object(step) !== step) throw new TypeError(`its iterator returned ${kindOf(step)}, not an object`);
      if (step.done) break;
      value = step.value;
    } catch (error) {
      throw failure(item, error);
    }
    if (isStopped()) return;
    source.check?.();
    const chunk = chunkBytes(value, name);
    const length = byteLength(chunk);
    read += length;
    if (length > SLICE_BYTES) {
      await pushSlices(lane, chunk, name, progress);
    } else {
      progress.received += length;
      if (!lane.push(chunk)) await lane.drained();
    }
    if (turns.areDue()) await turns.next();
    if (isStopped()) return;
  }
  ofSource(item, () => source.ended?.(read));
}

/**
 * Listens to the errors of all sources, also when one of them cannot be listened to: errors of the
 * others would be uncaught exceptions when they are stopped.
 */
function watchAll(items, fail) {
  const failures = [];
  for (const item of items) {
    try {
      item.source.watch((error) => fail(failure(item, error)));
    } catch (error) {
      failures.push(failure(item, error));
    }
  }
  if (failures.length > 0) throw failures[0];
}

/** Reads items, one after the other, until every item has been begun by a lane. */
async function feedLane(lane, waiting, turns, progress, isStopped) {
  // No source is read while the ingest waits for others of its handle.
  await lane.drained();
  if (isStopped()) return;
  for (const [position, item] of waiting) {
    const { name, type, expectedSize, source } = item;
    progress.item = name;
    lane.beginItem(position, name, type, expectedSize);
    if (source.give) source.give(lane);
    else await feed(lane, item, turns, progress, isStopped);
    if (isStopped()) return;
    lane.endItem();
    // The native side has not begun to read it yet.
    if (source.give) await lane.quiet();
    if (isStopped()) return;
  }
}

/** Reads all sources, as many at once as there are lanes, and waits for `commitWhen`. */
async function feedAll(lanes, items, gate, progress, isStopped) {
  const turns = new Turns();
  const waiting = items.entries();
  await Promise.all(lanes.map((lane) => feedLane(lane, waiting, turns, progress, isStopped)));
  if (isStopped()) return;
  await gate();
  if (!isStopped()) for (const lane of lanes) lane.finish();
}

/** Lets the sources prepare themselves; returns how many bytes they have together, or null. */
async function prepare(items) {
  const failed = (item) => (error) => {
    throw failure(item, error);
  };
  await Promise.all(items.map((item) => item.source.prepare?.().catch(failed(item))));
  const sizes = items.map(({ source, expectedSize }) => expectedSize ?? source.size);
  return sizes.includes(null) ? null : sizes.reduce((sum, size) => sum + size, 0);
}

/**
 * What must be fulfilled before the commit: `commitWhen`, a promise or a function that is called
 * once all sources have ended. A promise that rejects while the sources are still read ends the
 * ingest at once, through `stop`.
 */
function commitGate(commitWhen, stop) {
  if (typeof commitWhen !== 'function') commitWhen?.catch((error) => stop(commitRefused(error)));
  return async () => {
    try {
      await (typeof commitWhen === 'function' ? commitWhen() : commitWhen);
    } catch (error) {
      throw commitRefused(error);
    }
  };
}

/**
 * Runs one ingest to its end.
 * @param native the native ingest, not yet running
 * @param lanes how many items it reads at once
 * @param items [{ name, type, source, expectedSize? }], claimed; the caller releases them
 * @param options { signal?, commitWhen? }
 * @param leftovers what aborted calls still do: waited for, and added to when this one is aborted
 * @returns the snapshot, or throws the reason why there is none
 */
async function runIngest(native, lanes, items, { signal, commitWhen }, leftovers, progress) {
  let stopped = null;
  let done = null;
  const isStopped = () => stopped !== null;
  /** Stops the ingest; returns whether this is the first reason, and in time. */
  const stop = (error, byEngine = false) => {
    if (stopped) return false;
    stopped = { error, byEngine };
    const inTime = native.abort();
    for (const { source } of items) quietly(() => source.stop(error));
    return inTime;
  };
  const run = async () => {
    try {
      // All of them at once: a failure of one before its turn would be an uncaught exception.
      watchAll(items, stop);
      const gate = commitGate(commitWhen, stop);
      progress.total = await prepare(items);
      await leftovers.settled();
      if (stopped) throw stopped.error;
      done = native.run();
      const fed = Array.from({ length: lanes }, (_, number) => native.lane(number));
      feedAll(fed, items, gate, progress, isStopped).catch((error) => {
        // Any other error was thrown by the native side, which reports the reason through run().
        stop(fromNative(error), !isOurs(error));
      });
      return JSON.parse(await done);
    } catch (thrown) {
      const error = fromNative(thrown);
      const aborted = error.code === 'ABORT_ERR';
      // No caller of this module asked for that abort: the handle was closed during the ingest.
      stop(aborted ? closed() : error, true);
      throw stopped.byEngine && !aborted ? error : stopped.error;
    }
  };
  const onAbort = () => {
    const inTime = stop(signal.reason);
    if (inTime && done) leftovers.keep(done);
    return inTime;
  };
  return abortable(run(), signal, { stop: onAbort });
}

module.exports = { runIngest };
