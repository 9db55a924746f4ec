'use strict';
// Progress of one operation: from the counters of the native side to the public shape, at most ten
// times a second and once at the end. Nothing is reported after close(), however late the native
// side reports.

const { randomUUID } = require('node:crypto');

const INTERVAL_MS = 100;
/**
 * Weight of the newest interval in the rate: the rate follows a change within about a second, and
 * does not jump.
 */
const RATE_WEIGHT = 0.2;

/** A size for people: '12.3 MiB'. */
function human(bytes) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  const step = bytes < 1024 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(bytes) / 10));
  return `${(bytes / 1024 ** step).toFixed(step === 0 ? 0 : 1)} ${units[step]}`;
}

/** The progress in percent; null while the total is not known. */
function percentageOf(doneBytes, totalBytes) {
  if (totalBytes === null) return null;
  return totalBytes === 0 ? 100 : (doneBytes / totalBytes) * 100;
}

/** The average rate so far, and the remaining time that it implies. */
function average(doneBytes, totalBytes, seconds) {
  const rate = seconds > 0 ? doneBytes / seconds : 0;
  const etaSeconds = totalBytes === null || rate <= 0 ? null : Math.round((totalBytes - doneBytes) / rate);
  return { bytesPerSecond: Math.round(rate), etaSeconds };
}

/** What all kinds of progress share. Each operation describes its own counters. */
class Progress {
  /** Distinguishes concurrent operations. */
  operationId = randomUUID();
  /** The newest counters of the native side. */
  counters = { doneBytes: 0, totalBytes: 0 };
  #operation;
  #report;
  #started = performance.now();
  #last = this.#started;

  /**
   * @param {string} operation
   * @param {(progress: object) => void} report
   */
  constructor(operation, report) {
    this.#operation = operation;
    this.#report = report;
  }

  /** Nothing is reported after this call. */
  close() {
    this.#report = null;
  }

  /** Takes the counters of the native side as JSON. */
  update(json) {
    if (this.#report === null) return;
    const before = this.phase;
    Object.assign(this.counters, JSON.parse(json));
    // After a change of the phase, there may be no report for a long time.
    if (this.phase !== before) this.#emit(false);
    else if (this.isNews && performance.now() - this.#last >= INTERVAL_MS) this.#emit(false);
  }

  /** 'waiting' before the operation begins, while others of the handle use the memory. */
  get phase() {
    return this.counters.waiting === true ? 'waiting' : 'running';
  }

  /** Whether these counters are worth a report before the last one. */
  get isNews() {
    return true;
  }

  /** The last report, with the final figures. */
  finish(counters) {
    Object.assign(this.counters, counters, { waiting: false });
    this.#emit(true);
  }

  #emit(isLast) {
    this.#last = performance.now();
    const elapsedMs = this.#last - this.#started;
    this.#report({
      operation: this.#operation,
      operationId: this.operationId,
      ...this.describe(elapsedMs / 1000, isLast),
      elapsedMs: Math.round(elapsedMs),
    });
  }
}

/** The progress of one ingest. */
class IngestProgress extends Progress {
  /** Name of the item that is being read, or null. */
  item = null;
  /** Bytes of all items, null when not known. */
  total = null;
  counters = { doneBytes: 0, newBytes: 0, reusedBytes: 0, storedBytes: 0, chunks: 0, itemsDone: 0, autoLevel: null };
  #itemsTotal;
  #last = { seconds: 0, bytes: 0 };
  #rate = 0;

  /**
   * @param {number} itemsTotal
   * @param {(progress: object) => void} report
   */
  constructor(itemsTotal, report) {
    super('ingest', report);
    this.#itemsTotal = itemsTotal;
  }

  /** Whether the counters of the native side have reached this number of bytes. */
  hasReached(bytes) {
    return this.counters.doneBytes === bytes;
  }

  /** The last report, with the figures of the snapshot. */
  finish({ originalSize, storedSize, chunkCount }) {
    this.item = null;
    this.total = originalSize;
    this.#last = { seconds: 0, bytes: 0 };
    this.#rate = 0; // the last report has the average of the whole ingest
    super.finish({ doneBytes: originalSize, storedBytes: storedSize, chunks: chunkCount, itemsDone: this.#itemsTotal });
  }

  describe(seconds) {
    const { doneBytes, newBytes, reusedBytes, storedBytes, chunks, itemsDone, autoLevel } = this.counters;
    const span = seconds - this.#last.seconds;
    const rate = span > 0 ? (doneBytes - this.#last.bytes) / span : 0;
    this.#rate = this.#rate === 0 ? rate : this.#rate + RATE_WEIGHT * (rate - this.#rate);
    this.#last = { seconds, bytes: doneBytes };
    // A growing file has more bytes than it had.
    const total = this.total === null ? null : Math.max(this.total, doneBytes);
    return {
      phase: this.phase,
      message: this.phase === 'waiting'
        ? 'Waiting for other ingests of this handle'
        : `${human(doneBytes)} read, ${human(storedBytes)} stored, ${itemsDone} of ${this.#itemsTotal} items done`,
      percentage: percentageOf(doneBytes, total),
      bytesDone: doneBytes,
      bytesTotal: total,
      bytesPerSecond: Math.round(this.#rate),
      etaSeconds: total === null || this.#rate <= 0 ? null : Math.round((total - doneBytes) / this.#rate),
      newBytes,
      reusedBytes,
      storedBytes,
      chunks,
      compressionLevel: autoLevel,
      item: this.item,
      itemsDone,
      itemsTotal: this.#itemsTotal,
    };
  }
}

/** The progress of a restore into a file. */
class RestoreProgress extends Progress {
  #item;

  /**
   * @param {string | null} item
   * @param {(progress: object) => void} report
   */
  constructor(item, report) {
    super('restore', report);
    this.#item = item;
  }

  get isNews() {
    // everything is read, but the file does not have its name yet
    return this.counters.doneBytes < this.counters.totalBytes;
  }

  describe(seconds) {
    const { doneBytes, totalBytes, chunks } = this.counters;
    return {
      message: `${human(doneBytes)} of ${human(totalBytes)} restored`,
      percentage: percentageOf(doneBytes, totalBytes),
      bytesDone: doneBytes,
      bytesTotal: totalBytes,
      ...average(doneBytes, totalBytes, seconds),
      chunks,
      item: this.#item,
    };
  }
}

/** The progress of one verify. */
class VerifyProgress extends Progress {
  /** Problems found so far. */
  errors = 0;
  #level;

  /**
   * @param {string} level
   * @param {(progress: object) => void} report
   */
  constructor(level, report) {
    super('verify', report);
    this.#level = level;
  }

  /** The last report, with the figures of the result. */
  finish({ packsChecked, chunksChecked }) {
    super.finish({ totalBytes: this.counters.doneBytes, chunks: chunksChecked, itemsDone: packsChecked });
  }

  describe(seconds, isLast) {
    const { doneBytes, totalBytes, chunks, itemsDone } = this.counters;
    // while the amount to read is not known, the counter is 0
    const total = totalBytes > 0 || isLast ? totalBytes : null;
    return {
      level: this.#level,
      message: `${human(doneBytes)} read, ${itemsDone} packs checked, ${this.errors} problems`,
      percentage: isLast ? 100 : percentageOf(doneBytes, total),
      bytesDone: doneBytes,
      bytesTotal: total,
      ...average(doneBytes, totalBytes > 0 ? totalBytes : null, seconds),
      chunks,
      itemsDone,
      errors: this.errors,
    };
  }
}

/**
 * The progress of an operation that is measured in bytes alone, and whose total is known only while
 * it runs.
 */
class BytesProgress extends Progress {
  #message;

  /**
   * @param {string} operation
   * @param {(bytes: string) => string} message the message for a number of bytes
   * @param {(progress: object) => void} report
   */
  constructor(operation, message, report) {
    super(operation, report);
    this.#message = message;
  }

  describe(seconds, isLast) {
    const { doneBytes, totalBytes } = this.counters;
    const known = totalBytes > 0;
    // these bytes are nearly all of it; what follows is not measured
    const percentage = known ? Math.min(99, percentageOf(doneBytes, totalBytes)) : null;
    return {
      message: this.#message(human(doneBytes)),
      percentage: isLast ? 100 : percentage,
      bytesDone: doneBytes,
      bytesTotal: known ? Math.max(totalBytes, doneBytes) : null,
    };
  }
}

module.exports = { BytesProgress, IngestProgress, RestoreProgress, VerifyProgress };
