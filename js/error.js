'use strict';
// The one error class of the package, and the only file in which errors of the native engine become
// JS errors.
//
// Native errors carry a code and ids but no JS stack; they are recreated here, so that a stack
// names the caller. Both kinds are recognised by a brand: codes that begin with ERR_ are also used
// by Node, and what the caller's code throws may have no usable member at all.
//
// Invariant: nothing but a ContainerArchiveError (or the reason of an AbortSignal) leaves this
// package.

const { types } = require('node:util');

/** The brand of errors of the native engine (src/binding/error.rs). */
const NATIVE = Symbol.for('containerarchive.native-error');

/** The members, besides code and message, that an error may carry. */
const DETAILS = ['hint', 'path', 'snapshotId', 'item', 'pack', 'chunk', 'exitCode', 'signal', 'stderrTail', 'holders'];

/**
 * The codes of wrong arguments. Their errors have the name of the built-in class for that, by which
 * loggers and test runners sort errors.
 */
const TYPE_ERRORS = new Set(['ERR_INVALID_ARGUMENT', 'ERR_INVALID_POLICY']);

/**
 * Whether a value is a ContainerArchiveError. Runs no code of the caller, as `instanceof` would.
 */
let isOurs;

/** An error of this package. `code` is stable: match on it, never on the message. */
class ContainerArchiveError extends Error {
  #brand = true;

  static {
    isOurs = (thing) => typeof thing === 'object' && thing !== null && #brand in thing;
  }

  /**
   * @param {string} message what went wrong, and with what
   * @param {object} details `code`, and those known of `hint`, `cause`, `retryable`, `path`,
   * `snapshotId`, `item`, `pack`, `chunk`, `exitCode`, `signal`, `stderrTail`, `holders`
   */
  constructor(message, details) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = details.code;
    this.retryable = details.retryable === true;
    for (const name of DETAILS) {
      if (details[name] !== undefined && details[name] !== null) this[name] = details[name];
    }
    if (TYPE_ERRORS.has(this.code)) {
      Object.defineProperty(this, 'name', { value: 'TypeError', configurable: true, writable: true });
      // it begins with the name
      Error.captureStackTrace?.(this, new.target);
    }
  }
}
// On the prototype, as for the built-in errors: an own member would appear in every print.
Object.defineProperty(ContainerArchiveError.prototype, 'name', {
  value: 'ContainerArchiveError',
  configurable: true,
  writable: true,
});

/** Longest text of a thrown value that a message repeats, in UTF-16 code units. */
const MAX_TEXT = 1000;

/** A thrown value as text for a message, whatever its type. */
function textOf(thing) {
  try {
    const said = [thing?.message, thing?.code].find((each) => typeof each === 'string' && each !== '');
    const text = said ?? String(thing);
    return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text;
  } catch {
    return 'with something that cannot be converted to text';
  }
}

/** Whether something is an Error, of any realm. */
function isError(thing) {
  try {
    return types.isNativeError(thing) || thing instanceof Error;
  } catch {
    return false;
  }
}

/** A mistake of the caller: ERR_INVALID_ARGUMENT. */
function invalidArgument(message, details) {
  return new ContainerArchiveError(message, { ...details, code: 'ERR_INVALID_ARGUMENT' });
}

/** The handle was closed: ERR_CLOSED. */
function closed() {
  return new ContainerArchiveError('The repository handle is closed', {
    code: 'ERR_CLOSED',
    hint: 'Open the repository again with ContainerArchive.open()',
  });
}

const RETRY_HINT = 'There is no snapshot. Ingest again: what was stored is reused';

/** A source failed: ERR_SOURCE_FAILED with the value that it threw as the cause. */
function sourceFailed(item, cause) {
  return new ContainerArchiveError(`The source of item ${JSON.stringify(item)} failed: ${textOf(cause)}`, {
    code: 'ERR_SOURCE_FAILED',
    item,
    cause,
    hint: RETRY_HINT,
  });
}

/** `commitWhen` was not fulfilled: ERR_SOURCE_FAILED with the rejection as the cause. */
function commitRefused(cause) {
  return new ContainerArchiveError(`commitWhen refused the commit: ${textOf(cause)}`, {
    code: 'ERR_SOURCE_FAILED',
    cause,
    hint: RETRY_HINT,
  });
}

/** Whether the native engine threw a value. */
function isNative(thing) {
  try {
    return typeof thing === 'object' && thing !== null && Object.hasOwn(thing, NATIVE);
  } catch {
    return false;
  }
}

/**
 * Converts an error of the native engine to a ContainerArchiveError; returns one that already is
 * unchanged.
 */
function fromNative(error) {
  if (isOurs(error)) return error;
  if (!isNative(error)) {
    // An error of napi-rs itself ("InvalidArg", "GenericFailure"), or of Node: the checks of this
    // package missed something.
    return new ContainerArchiveError(textOf(error), { code: 'ERR_INTERNAL', cause: error });
  }
  const cause = typeof error.causeMessage === 'string' ? new Error(error.causeMessage) : undefined;
  const details = { code: error.code, cause, retryable: error.retryable };
  for (const name of DETAILS) details[name] = error[name];
  return new ContainerArchiveError(error.message, details);
}

module.exports = {
  ContainerArchiveError, RETRY_HINT, closed, commitRefused, fromNative, invalidArgument, isError, isOurs,
  sourceFailed, textOf,
};
