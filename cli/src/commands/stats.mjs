// stats, locks and unlock: the state of the repository.

import { EXIT } from '../failure.mjs';
import { count, localTime, plural, size } from '../output.mjs';
import { withRepository } from '../repository.mjs';

export function define(program, run) {
  program.command('stats').summary('show what the repository contains, and its size').action(run(stats));
  program.command('locks').summary('list the operations that are writing').action(run(locks));
  program
    .command('unlock')
    .summary('remove the leases of processes that have exited')
    .description('Removes the leases of processes that have exited. Never needed after a crash.')
    .option('--force', 'remove those of running processes too: what they do may fail')
    .action(run(unlock));
}

async function stats(session, globals) {
  return withRepository(globals, session, { readOnly: true }, async (archive) => {
    const result = await archive.stats({ signal: session.signal });
    session.output.result(result, describe(result));
    return EXIT.ok;
  });
}

const ratio = (value) => (value === null ? '-' : `${value.toFixed(2)} x`);

/** The figures of stats(), for people. */
function describe({ snapshots, items, originalBytes, chunks, uniqueBytes, storedBytes, dedupRatio, compressionRatio, packs, bytes, parity }) {
  const rows = [
    ['Snapshots', `${count(snapshots)} with ${plural(items, 'item')}`],
    ['Original size', size(originalBytes)],
    ['Different data', `${size(uniqueBytes)} in ${plural(chunks, 'chunk')}`],
    ['Stored data', `${size(storedBytes)} in ${plural(packs, 'pack')}`],
    ['Deduplication', ratio(dedupRatio)],
    ['Compression', ratio(compressionRatio)],
    ['Parity', parity === null ? 'none' : `${size(parity.bytes)} in ${plural(parity.groups, 'group')}, RS(${parity.data},${parity.parity})`],
    ['On disk', size(bytes.total)],
  ];
  return rows.map(([name, value]) => `${name.padEnd(14)}  ${value}`).join('\n');
}

async function locks(session, globals) {
  return withRepository(globals, session, { readOnly: true }, async (archive) => {
    const found = await archive.locks();
    const lines = found.map(({ session: id, held, operation, startedAt }) =>
      `${operation ?? 'unknown operation'}${startedAt ? ` since ${localTime(startedAt)}` : ''}, ${held ? 'running' : 'its process has exited'}  (${id})`);
    session.output.result(found, lines.join('\n'));
    if (found.length === 0) session.output.note('Nothing is writing.');
    return EXIT.ok;
  });
}

async function unlock(session, { force = false, ...globals }) {
  return withRepository(globals, session, {}, async (archive) => {
    await archive.unlock({ force });
    session.output.note('unlocked');
    return EXIT.ok;
  });
}
