'use strict';
// A retention policy, checked before it crosses: a typo in one must never delete data.
//
// What always holds: what crosses has only known keys, each of the right kind, read once. Whether durations, zones and the
// whole make sense is decided on the native side, before it reads anything. Every refusal is ERR_INVALID_POLICY.

const check = require('./check.js');
const { ContainerArchiveError } = require('./error.js');
const { choice } = require('./fields.js');
const { IRetentionPolicy } = require('./schema.js');

const WHOLE_ID = /^[0-9a-f]{32}$/;

function invalidPolicy(message, hint, cause) {
  return new ContainerArchiveError(message, { code: 'ERR_INVALID_POLICY', hint, cause });
}

/** A check of check.js, whose refusals are about a policy here. */
function checked(fn, ...args) {
  try {
    return fn(...args);
  } catch (error) {
    throw invalidPolicy(error.message, error.hint, error.cause);
  }
}

/** 'all', or how many: 0 turns the rule off. */
function count(value, key, { min, max }) {
  if (value === 'all') return value;
  if (typeof value !== 'number') {
    throw invalidPolicy(`${key} must be a whole number or 'all', got ${check.kindOf(value)}`);
  }
  return checked(check.integer, value, key, min, max);
}

/** A list, every entry of which passes. */
function list(value, key, entry) {
  return checked(check.array, value, key).map((one, i) => entry(one, `${key}[${i}]`));
}

/** Snapshots are removed by what stands here: only an id that can name no other one. */
function wholeId(value, where) {
  if (typeof value !== 'string' || !WHOLE_ID.test(value)) {
    throw invalidPolicy(`${where} must be a whole snapshot id of 32 lower-case hex digits`);
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

/** The policy as JSON. */
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
