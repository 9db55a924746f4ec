// check and repair: finding damage, and repairing it.

import { EXIT, Failure } from '../failure.mjs';
import { count, plural, printable, shortId } from '../output.mjs';
import { withProgress } from '../progress.mjs';
import { withRepository } from '../repository.mjs';
import { part } from '../values.mjs';

export function define(program, run) {
  program
    .command('check')
    .alias('verify')
    .summary('find damage')
    .description('Reads every stored byte and compares it with its hash. Exits with 1 when anything is damaged.')
    .option('--quick', 'only names, lengths and the index: reads no pack')
    .option('--read-data', 'in addition decrypt, decode and hash every chunk')
    .option('--subset <n/t>', 'only the n-th of t parts of the data; all t together are everything', part)
    .action(run(check));
  program
    .command('repair')
    .summary('repair damage')
    .option('--exclusive', 'no other process uses the repository: needed on object storage')
    .description('Rebuilds what is damaged or missing from parity and second copies. Exits with 1 when something is lost.')
    .action(run(repair));
}

const HEALTHY = 'no damage found';
const UNREADABLE = 'ERR_UNREADABLE';

async function check(session, { quick, readData, subset, ...globals }) {
  if (quick && readData) throw new Failure('Use either --quick or --read-data');
  const level = quick ? 'quick' : readData ? 'full' : 'standard';
  return withRepository(globals, session, { readOnly: true }, async (archive) => {
    const { output, signal } = session;
    const options = { level, signal, ...(subset !== undefined && { subset }) };
    const result = await withProgress(output, (progress) => archive.verify({ ...options, ...progress }));
    output.result(result, report(result));
    return result.ok ? EXIT.ok : EXIT.failed;
  });
}

/** Codes of what is lost when it cannot be repaired: bytes of backups. */
const DATA = new Set(['ERR_PACK_MISSING', 'ERR_PACK_CORRUPT', 'ERR_CHUNK_MISSING', 'ERR_CHUNK_CORRUPT']);

/** The state of a finding. A failed read says nothing about the bytes. */
function stateOf(code, healable) {
  if (code === UNREADABLE) return 'unreadable';
  if (healable) return 'repairable';
  return DATA.has(code) ? 'LOST' : 'damaged';
}

/** Most snapshots that are named one by one, unless something of them is lost. */
const MOST_NAMED = 20;
/** The states of what a snapshot needs, the worst first. */
const STATES = ['LOST', 'damaged', 'unreadable', 'repairable'];

/**
 * The snapshots that need something of what was found, with its state: those that lose something
 * first, the others only up to a number.
 */
function affectedLines(errors) {
  const affected = new Map();
  for (const { code, healable, snapshots, items } of errors) {
    const state = stateOf(code, healable);
    for (const id of snapshots) if (!affected.has(id)) affected.set(id, { states: new Set(), items: new Map() });
    for (const id of snapshots) affected.get(id).states.add(state);
    for (const { snapshotId, item } of items) {
      const found = affected.get(snapshotId)?.items;
      if (found) found.set(item, (found.get(item) ?? new Set()).add(state));
    }
  }
  const worst = (states) => STATES.find((state) => states.has(state));
  const rank = ([, { states }]) => STATES.indexOf(worst(states));
  const sorted = [...affected].sort((one, other) => rank(one) - rank(other));
  const shown = sorted.filter(([, { states }], at) => at < MOST_NAMED || states.has('LOST'));
  const lines = shown.map(([id, { states, items }]) => {
    const parts = [...items].map(([item, each]) => `${printable(item)} (${worst(each)})`).join(', ');
    return `affected: snapshot ${shortId(id)}: ${parts || worst(states)}`;
  });
  const left = sorted.length - shown.length;
  if (left > 0) lines.push(`affected: ${plural(left, 'more snapshot')}, which --json lists`);
  return lines;
}

/** What a verify found, for people. */
function report({ ok, errors, notes, stats }) {
  const lines = errors.map(({ code, error, path, pack, healable }) => {
    const where = path ?? (pack ? `pack ${pack}` : '');
    return `${stateOf(code, healable)}  ${code}  ${printable(error)}${where && !error.includes(where) ? `  (${where})` : ''}`;
  });
  lines.push(...affectedLines(errors));
  for (const { message } of notes) lines.push(`note: ${printable(message)}`);
  const checked = `${plural(stats.packsChecked, 'pack')}, ${plural(stats.chunksChecked, 'chunk')} and ${plural(stats.snapshotsChecked, 'snapshot')} checked`;
  const unreadable = errors.filter(({ code }) => code === UNREADABLE).length;
  const healable = errors.filter((one) => one.healable && one.code !== UNREADABLE).length;
  const counts = [[errors.length - unreadable, `damaged (${healable} repairable)`], [unreadable, 'unreadable']];
  lines.push(`${checked}: ${ok ? HEALTHY : counts.filter(([number]) => number > 0).map(([number, what]) => `${number} ${what}`).join(', ')}`);
  if (unreadable > 0) lines.push('What is unreadable may be intact: check the disk and the connection to it, and try again.');
  if (healable > 0) lines.push('Run "containerarchive repair".');
  return lines.join('\n');
}

async function repair(session, { exclusive = false, ...globals }) {
  return withRepository(globals, session, {}, async (archive) => {
    const { output, signal } = session;
    const result = await withProgress(output, (progress) => archive.repair({ exclusive, signal, ...progress }));
    output.result(result, repaired(result));
    return result.lostChunks > 0 || result.damagedSnapshots.length > 0 ? EXIT.failed : EXIT.ok;
  });
}

/** Most gaps of an item that are listed one by one. */
const MOST_GAPS = 5;

/** The missing ranges of an item: how many bytes, and which. */
function gaps(missing) {
  // its own bytes are intact
  if (missing.length === 0) return 'its member index is lost';
  const bytes = missing.reduce((sum, [start, end]) => sum + end - start, 0);
  const shown = missing.slice(0, MOST_GAPS).map(([start, end]) => `${start} to ${end}`).join(', ');
  const left = missing.length - MOST_GAPS;
  return `${plural(bytes, 'byte')} missing (${shown}${left > 0 ? `, and ${plural(left, 'more gap')}` : ''})`;
}

/** What a repair did, for people. */
function repaired(result) {
  const done = [
    [result.packsRepaired, 'pack repaired', 'packs repaired'],
    [result.idxRepaired, '.idx file rewritten', '.idx files rewritten'],
    [result.manifestsRestored, 'manifest restored', 'manifests restored'],
    [result.memberIndexesRebuilt, 'member index rebuilt', 'member indexes rebuilt'],
    [result.parityRepaired, 'parity file rebuilt', 'parity files rebuilt'],
    [result.keysRepaired, 'key file rewritten', 'key files rewritten'],
    [result.chunksSalvaged, 'chunk salvaged', 'chunks salvaged'],
  ].filter(([number]) => number > 0).map(([number, one, many]) => `${count(number)} ${number === 1 ? one : many}`);
  if (result.configRepaired) done.push('config.json rewritten');
  if (result.indexRebuilt) done.push('index rebuilt');
  const lines = [done.length > 0 ? done.join(', ') : 'nothing had to be repaired'];
  if (result.quarantined.length > 0) lines.push(`moved to quarantine/: ${plural(result.quarantined.length, 'file')}`);
  if (result.lostChunks > 0) lines.push(`LOST: ${plural(result.lostChunks, 'chunk')} of which no copy is left`);
  for (const { id, items } of result.damagedSnapshots) {
    const parts = items.map(({ name, missing }) => `${printable(name)}: ${gaps(missing)}`);
    lines.push(`incomplete: snapshot ${shortId(id)}${parts.length > 0 ? '' : ', its manifest is lost'}`);
    for (const part of parts) lines.push(`  ${part}`);
  }
  return lines.join('\n');
}
