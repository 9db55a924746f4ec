'use strict';
// The one error class of the package, and the only place where errors of the native engine become JS errors.
//
// Native errors carry a code and ids but no JS stack; they are made anew here, so that a stack names the caller.
// What always holds: nothing but a ContainerArchiveError (or the reason of an AbortSignal) leaves this package.

/** The members, beside code and message, that an error may carry. */
const DETAILS = ['hint', 'path', 'snapshotId', 'item', 'pack', 'chunk', 'exitCode', 'signal', 'stderrTail', 'holders'];

/** An error of this package. `code` is stable: match on it, never on the message. */
class ContainerArchiveError extends Error {
  /**
   * @param {string} message what went wrong, naming the thing
   * @param {object} details `code`, and what is known of `hint`, `cause`, `retryable`, `path`, `snapshotId`, `item`,
   *   `pack`, `chunk`, `exitCode`, `signal`, `stderrTail`, `holders`
   */
  constructor(message, details) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.code = details.code;
    this.retryable = details.retryable === true;
    for (const name of DETAILS) {
      if (details[name] !== undefined && details[name] !== null) this[name] = details[name];
    }
  }
}
// On the prototype, as for the built-in errors: the name is no own member that every print shows.
Object.defineProperty(ContainerArchiveError.prototype, 'name', {
  value: 'ContainerArchiveError',
  configurable: true,
  writable: true,
});

/** A caller's mistake: ERR_INVALID_ARGUMENT. */
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

const RETRY_HINT = 'No snapshot was made. What had been stored is reused when the ingest is tried again';

/** A source failed: ERR_SOURCE_FAILED with the very error object of the source as its cause. */
function sourceFailed(item, cause) {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new ContainerArchiveError(`The source of item ${JSON.stringify(item)} failed: ${why}`, {
    code: 'ERR_SOURCE_FAILED',
    item,
    cause,
    hint: RETRY_HINT,
  });
}

/** What the commit waited for did not come: ERR_SOURCE_FAILED with the rejection as its cause. */
function commitRefused(cause) {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new ContainerArchiveError(`The commit was refused by commitWhen: ${why}`, {
    code: 'ERR_SOURCE_FAILED',
    cause,
    hint: RETRY_HINT,
  });
}

/** Makes an error of the native engine a ContainerArchiveError; anything that is one already passes unchanged. */
function fromNative(error) {
  if (error instanceof ContainerArchiveError) return error;
  const code = error?.code;
  if (typeof code !== 'string' || !(code.startsWith('ERR_') || code === 'ABORT_ERR')) {
    // Codes of napi-rs itself ("InvalidArg", "GenericFailure"): the checks of this package let something through.
    return new ContainerArchiveError(error?.message ?? String(error), { code: 'ERR_INTERNAL', cause: error });
  }
  const cause = typeof error.causeMessage === 'string' ? new Error(error.causeMessage) : undefined;
  const details = { code, cause, retryable: error.retryable };
  for (const name of DETAILS) details[name] = error[name];
  return new ContainerArchiveError(error.message, details);
}

module.exports = { ContainerArchiveError, RETRY_HINT, closed, commitRefused, fromNative, invalidArgument, sourceFailed };
