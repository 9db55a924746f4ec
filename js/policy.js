'use strict';
// A retention policy, checked before it is passed to the native side: a typo must never delete
// data.
//
// The policy that is passed has only known keys, each of the right type, read once. The native side
// checks durations, time zones and the policy as a whole before it reads anything. Every refusal is
// ERR_INVALID_POLICY.

const check = require('./check.js');
const { ContainerArchiveError } = require('./error.js');
const { choice } = require('./fields.js');
const { IRetentionPolicy } = require('./schema.js');

const WHOLE_ID = /^[0-9a-f]{32}$/;

function invalidPolicy(message, hint, cause) {
  return new ContainerArchiveError(message, { code: 'ERR_INVALID_POLICY', hint, cause });
}

/** Calls a check of check.js; its refusals become ERR_INVALID_POLICY. */
function checked(fn, ...args) {
  try {
    return fn(...args);
  } catch (error) {
    throw invalidPolicy(error.message, error.hint, error.cause);
  }
}

/** 'all', or a number; 0 turns the rule off. */
function count(value, key, { min, max }) {
  if (value === 'all') return value;
  if (typeof value !== 'number') {
    throw invalidPolicy(`${key} must be a whole number or 'all', got ${check.kindOf(value)}`);
  }
  return checked(check.integer, value, key, min, max);
}

/** A list, with `entry` as the check of every entry. */
function list(value, key, entry) {
  return checked(check.array, value, key).map((one, i) => entry(one, `${key}[${i}]`));
}

/** A full snapshot id: a prefix could select other snapshots. */
function wholeId(value, where) {
  if (typeof value !== 'string' || !WHOLE_ID.test(value)) {
    throw invalidPolicy(`${where} must be a full snapshot id of 32 lower-case hex digits`);
  }
  return value;
}

const string = (value, where) => checked(check.wellFormed, value, where);
const LISTS = {
  keepTags: (value, where) => checked(check.tags, value, where),
  keepIds: wholeId,
  groupBy: (value, where) => checked(check.text, value, where),
};
/** The check of each type of field. */
const CHECKS = {
  choice: (value, key, field) => checked(choice, value, key, field),
  count,
  string,
  list: (value, key) => list(value, key, LISTS[key]),
};

/** Returns the checked policy as JSON. */
function policy(value) {
  const where = 'The retention policy';
  if (!checked(check.reading, where, () => check.isPlain(value))) {
    throw invalidPolicy(`${where} must be a plain object, got ${check.kindOf(value)}`);
  }
  const out = {};
  for (const [key, entry] of checked(check.members, value, where)) {
    if (!Object.hasOwn(IRetentionPolicy, key)) {
      const known = Object.keys(IRetentionPolicy).join(', ');
      throw invalidPolicy(`Unknown key ${JSON.stringify(key)} in the retention policy`, `Known keys: ${known}`);
    }
    const field = IRetentionPolicy[key];
    if (entry !== undefined) out[key] = CHECKS[field.type](entry, key, field);
  }
  return JSON.stringify(out);
}

module.exports = { policy };
