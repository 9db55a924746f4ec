'use strict';
// What the report shows: the results of the calls that read a repository, none of which waits for
// others or writes.
//
// Neither damage nor a file that cannot be read ends a report: each part that fails because of it
// has the error in its place. So "there is none" and "it is not known" stay apart.

const { setImmediate: nextTurn } = require('node:timers/promises');
const { fromNative } = require('../error.js');
const prune = require('../prune.js');
const { abortable } = require('../stop.js');
const { runStats } = require('../stats.js');
const verify = require('../verify.js');

/** Codes of errors that are about files of the repository. Others end the report. */
const ABOUT_FILES = new Set([
  'ERR_MANIFEST_CORRUPT', 'ERR_CHUNK_MISSING', 'ERR_CHUNK_CORRUPT', 'ERR_PACK_MISSING', 'ERR_PACK_CORRUPT',
  'ERR_INDEX_CORRUPT', 'ERR_KILL_LIST_CORRUPT', 'ERR_PARITY_CORRUPT', 'ERR_KEY_FILE_CORRUPT', 'ERR_UNREADABLE',
  'ERR_NOT_A_DIRECTORY', 'ERR_PERMISSION', 'ERR_STORAGE',
]);
/** A snapshot that is dated later than this after now is one of the future, as for the engine. */
const FUTURE_MS = 5 * 60_000;
/** Snapshots that are read in one turn of the event loop. */
const BATCH = 500;

const noop = () => {};
const SILENT = { progress: noop, complete: noop, error: noop };

/** The result of a call as { value }, or the reason why there is none as { problem }. */
async function attempt(call) {
  try {
    return { value: await call() };
  } catch (error) {
    const problem = fromNative(error);
    if (!ABOUT_FILES.has(problem.code)) throw problem;
    return { problem };
  }
}

/** The snapshots of a list, oldest first. */
async function summaries(list, now) {
  const out = [];
  for (const [i, snapshot] of list.entries()) {
    if (i % BATCH === BATCH - 1) await nextTurn();
    const { id, originalSize, storedSize, chunkCount, newChunks, items, tags } = snapshot;
    const at = Date.parse(snapshot.createdAt);
    const isFuture = at > now + FUTURE_MS;
    out.push({ id, at, isFuture, originalSize, storedSize, chunkCount, newChunks, items, tags: Object.entries(tags) });
  }
  // those of the future are last in the list, newest first too
  return out.sort((one, other) => one.at - other.at);
}

/**
 * Reads what the report shows.
 * @param repo the native repository
 * @param {string | null} policy as JSON
 * @param signal of the caller, or undefined
 */
async function collect(repo, policy, signal) {
  const now = Date.now();
  const planning = { ...prune.planOptions(), signal };
  const quick = { ...verify.options({ level: 'quick' }), signal };
  // first: an invalid policy is refused before anything is read
  const plan = policy === null ? null : await attempt(() => prune.runPrune(repo, policy, planning, SILENT));
  const listed = await attempt(async () => JSON.parse(await abortable(repo.listSnapshots('{}'), signal)));
  const checked = await attempt(() => verify.runVerify(repo, quick, SILENT));
  const checkedAt = Date.now();
  const stats = await attempt(() => runStats(repo, { signal }));
  const keys = await attempt(async () => JSON.parse(await abortable(repo.listKeys(), signal)));
  const snapshots = await summaries(listed.value ?? [], now);
  return {
    now,
    policy: policy === null ? null : JSON.parse(policy),
    plan,
    /** Why there is no list, or undefined. */
    unlisted: listed.problem,
    snapshots,
    // the one that latest() returns: those of the future count only when all are
    newest: snapshots.findLast((snapshot) => !snapshot.isFuture) ?? snapshots.at(-1) ?? null,
    verify: { ...checked, at: checkedAt },
    stats,
    keys,
  };
}

module.exports = { collect };
