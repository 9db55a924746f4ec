'use strict';
// Passphrases and raw keys: checked, read from functions, and kept in buffers of this package that
// are wiped.
//
// A function is called once, after all other arguments of the call have been checked; its result is
// checked like a value. Strings cannot be wiped: they belong to the program. A secret is never part
// of a message.

const check = require('./check.js');
const { ContainerArchiveError, invalidArgument, textOf } = require('./error.js');
const { KEY_BYTES } = require('./schema.js');

const NAMES = ['passphrase', 'key'];

/** The bytes of a passphrase, copied. */
function passphrase(value) {
  let bytes;
  if (typeof value === 'string') bytes = Buffer.from(check.wellFormed(value, 'passphrase'));
  else if (check.isBytes(value)) bytes = Buffer.from(value);
  else throw invalidArgument(`passphrase must be a string, a Buffer or a function, got ${check.kindOf(value)}`);
  if (bytes.length === 0) throw invalidArgument('passphrase must not be empty');
  return bytes;
}

/** A raw key of 32 bytes, copied. */
function key(value) {
  if (!check.isBytes(value) || value.length !== KEY_BYTES) {
    throw invalidArgument(`key must be a Buffer of ${KEY_BYTES} bytes, or a function`);
  }
  return Buffer.from(value);
}

const READ = { passphrase, key };

/**
 * Returns the checked result of a function of the caller; its failure is an error with its error as
 * the cause.
 */
async function ask(name, give) {
  let value;
  try {
    value = await give();
  } catch (cause) {
    throw new ContainerArchiveError(`The function that returns the ${name} failed: ${textOf(cause)}`, {
      code: 'ERR_PASSPHRASE_REQUIRED',
      cause,
    });
  }
  return READ[name](value);
}

/** Wipes the buffers; may be called more than once. */
function wipe(held) {
  for (const name of NAMES) held[name]?.fill(0);
}

/**
 * The secret in some options, or null when there is none. Values are copied immediately, functions
 * are called by `use`.
 * @param given options with `passphrase` or `key`
 * @returns {{ use(run): Promise, drop(): void } | null} `use` calls run(passphrase?, key?) and
 * wipes; `drop` only wipes
 */
function take(given) {
  const names = NAMES.filter((each) => given[each] !== undefined);
  if (names.length > 1) throw invalidArgument('passphrase cannot be combined with key');
  if (names.length === 0) return null;
  const [name] = names;
  const value = given[name];
  const held = {};
  if (typeof value !== 'function') held[name] = READ[name](value);
  return {
    async use(run) {
      try {
        held[name] ??= await ask(name, value);
        return await run(held.passphrase, held.key);
      } finally {
        wipe(held);
      }
    },
    drop: () => wipe(held),
  };
}

module.exports = { take };
