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

/** What a verify found, for people. */
function report({ ok, errors, notes, stats }) {
  const lines = errors.map(({ code, error, path, pack, healable }) => {
    const where = path ?? (pack ? `pack ${pack}` : '');
    return `${stateOf(code, healable)}  ${code}  ${printable(error)}${where && !error.includes(where) ? `  (${where})` : ''}`;
  });
  const affected = new Map(errors.filter(({ code, healable }) => stateOf(code, healable) === 'LOST').flatMap(({ items }) => items).map((one) => [`${one.snapshotId} ${one.item}`, one]));
  for (const { snapshotId, item } of affected.values()) lines.push(`affected: snapshot ${shortId(snapshotId)}, item ${printable(item)}`);
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

async function repair(session, globals) {
  return withRepository(globals, session, {}, async (archive) => {
    const { output, signal } = session;
    const result = await withProgress(output, (progress) => archive.repair({ signal, ...progress }));
    output.result(result, repaired(result));
    return result.lostChunks > 0 || result.damagedSnapshots.length > 0 ? EXIT.failed : EXIT.ok;
  });
}

/** What a repair did, for people. */
function repaired(result) {
  const done = [
    [result.packsRepaired, 'pack repaired', 'packs repaired'],
    [result.idxRepaired, '.idx file rewritten', '.idx files rewritten'],
    [result.manifestsRestored, 'manifest restored', 'manifests restored'],
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
    const parts = items.map(({ name, missing }) => `${printable(name)} (${plural(missing.length, 'gap')})`).join(', ');
    lines.push(`incomplete: snapshot ${shortId(id)}${parts ? `: ${parts}` : ', its manifest is lost'}`);
  }
  return lines.join('\n');
}
