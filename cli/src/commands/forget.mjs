// forget and prune: removing snapshots, by ids or by a policy, and freeing space.

import { Option } from 'commander';
import { EXIT, Failure, inWords } from '../failure.mjs';
import { count, localTime, plural, shortId, size } from '../output.mjs';
import { addPolicyOptions, calendar, planTable, policyOf } from '../policy.mjs';
import { withProgress } from '../progress.mjs';
import { withRepository } from '../repository.mjs';
import { confirm, hasTerminal } from '../terminal.mjs';
import { share, tags } from '../values.mjs';

/** The policy that removes no snapshot. */
const KEEP_ALL = { keepLast: 'all' };
const FULL_ID = /^[0-9a-f]{32}$/;

/** The promise that a prune needs on object storage. */
const exclusive = () => new Option('--exclusive', 'no other process uses the repository: needed on object storage');

export function define(program, run) {
  const forget = program
    .command('forget')
    .summary('remove snapshots')
    .description('Removes snapshots by their ids, or those that a policy does not keep. The space is freed by prune.')
    .argument('[ids...]', 'snapshots: ids or unambiguous prefixes');
  addPolicyOptions(forget)
    .option('-t, --tag <key=value>', 'apply the policy only to snapshots with this tag (repeatable)', tags)
    .option('--prune', 'free the space too')
    .addOption(exclusive())
    .option('-n, --dry-run', 'only show what would be removed, and why the others are kept')
    .option('--yes', 'remove without a question')
    .action(run(forgetSnapshots));
  program
    .command('prune')
    .summary('free the space that no snapshot needs')
    .description('Frees the space that no snapshot needs. Removes no snapshot.')
    .addOption(new Option('--max-unused <percent>', 'how much unneeded data may stay in partly used packs')
      .argParser(share)
      .default(0.05, '5%'))
    .addOption(exclusive())
    .option('--wait', 'wait for running backups that delay a part of it')
    .option('-n, --dry-run', 'only show what would be freed')
    .action(run(prune));
}

/** Shows what would be removed, and asks where that is needed; returns whether to go on. */
async function mayRemove(session, { dryRun, yes }, number, needsQuestion) {
  if (dryRun) return false;
  if (yes || !needsQuestion) return true;
  if (!hasTerminal()) {
    throw new Failure(`${plural(number, 'snapshot')} would be removed, and there is no terminal to ask on`, { hint: 'Nothing was removed. Use --yes to remove, or --dry-run to see what would be removed' });
  }
  if (await confirm(`Remove ${plural(number, 'snapshot')}?`)) return true;
  throw new Failure('Nothing was removed');
}

async function forgetSnapshots(session, ids, options) {
  const policy = policyOf(options);
  if (ids.length > 0 && policy !== null) throw new Failure('Give either ids or a policy');
  if (ids.length > 0 && options.tag !== undefined) throw new Failure('--tag is for a policy, and cannot be combined with ids');
  if (ids.length === 0 && policy === null) {
    throw new Failure('Nothing is chosen', { hint: 'Give ids, or a policy such as --keep-last 7 --keep-weekly 4' });
  }
  return withRepository(options, session, { readOnly: options.dryRun === true }, (archive) =>
    (policy === null ? byIds(session, archive, ids, options) : byPolicy(session, archive, policy, options)));
}

/** Removes the snapshots of some ids. */
async function byIds(session, archive, ids, options) {
  const chosen = [];
  for (const id of ids) {
    const snapshot = await archive.getSnapshot(id);
    if (!chosen.some((one) => one.id === snapshot.id)) chosen.push(snapshot);
  }
  const lines = chosen.map(({ id, createdAt }) => `${options.dryRun ? 'would be removed' : 'to be removed'}: ${shortId(id)} of ${localTime(createdAt)}`);
  session.output.note(lines.join('\n'));
  if (options.dryRun && session.output.isJson) {
    // as in the plan of a policy
    session.output.result({ remove: chosen.map(({ id, createdAt }) => ({ id, createdAt, group: {} })), dryRun: true });
  }
  const isExact = ids.every((id) => FULL_ID.test(id));
  if (!(await mayRemove(session, options, chosen.length, !isExact))) return EXIT.ok;
  return remove(session, archive, chosen.map(({ id, createdAt }) => ({ id, createdAt, group: {} })), options);
}

/** Removes what a policy does not keep: exactly what was shown. */
async function byPolicy(session, archive, policy, options) {
  const { output, signal } = session;
  const filter = options.tag && { filter: { tags: options.tag } };
  const plan = await archive.planPrune(policy, { ...filter, signal });
  for (const warning of plan.warnings) output.warn(inWords(warning));
  if (options.dryRun && output.isJson) output.result(plan);
  else if (plan.keep.length + plan.remove.length === 0) output.note('There are no snapshots.');
  else if (!output.isJson) {
    const shown = [planTable(plan), '', calendar(plan, (...given) => output.styled(...given)), ''].join('\n');
    if (options.dryRun) output.line(shown);
    else output.note(shown);
  }
  if (options.dryRun) {
    output.note(`${plural(plan.keep.length, 'snapshot')} would be kept, ${plan.remove.length} removed (dry run; a prune would free ${size(plan.freedBytes)})`);
    return EXIT.ok;
  }
  if (plan.remove.length > 0) await mayRemove(session, options, plan.remove.length, true);
  const exitCode = await remove(session, archive, plan.remove, options);
  output.note(`${plural(plan.keep.length, 'snapshot')} kept`);
  return exitCode;
}

/** Removes snapshots, and frees their space when asked to. */
async function remove(session, archive, choices, options) {
  const removed = choices.length === 0 ? [] : await archive.forget(choices.map(({ id }) => id));
  const missing = choices.length - removed.length;
  if (missing > 0) session.output.warn(`${plural(missing, 'snapshot')} had been removed by another process`);
  if (!options.prune) {
    session.output.result(removed.map((id) => ({ removed: id })), removed.length === 0 ? '' : `removed ${plural(removed.length, 'snapshot')}; "prune" frees their space`);
    return EXIT.ok;
  }
  const result = await runPrune(session, archive, { exclusive: options.exclusive === true });
  session.output.result({ ...result, removedSnapshots: removed.length, remove: choices.filter(({ id }) => removed.includes(id)) }, `removed ${plural(removed.length, 'snapshot')}; ${freed(result)}`);
  return EXIT.ok;
}

async function runPrune({ output, signal }, archive, options) {
  const result = await withProgress(output, (progress) => archive.prune(KEEP_ALL, { ...options, signal, ...progress }));
  for (const warning of result.warnings) output.warn(inWords(warning));
  return result;
}

/**
 * What a prune freed, for people. Packs can be deleted without a byte of stored data in them: those
 * that hold only the manifests of removed snapshots.
 */
function freed({ freedBytes, pendingBytes, removedPacks, rewrittenPacks, dryRun }) {
  const later = pendingBytes > 0 ? `; ${size(pendingBytes)} stay until running backups have ended` : '';
  const packs = `${plural(removedPacks, 'pack')} deleted, ${count(rewrittenPacks)} rewritten`;
  if (freedBytes > 0) return `${dryRun ? 'would free' : 'freed'} ${size(freedBytes)}: ${packs}${later}`;
  if (removedPacks + rewrittenPacks === 0) return `nothing to free${later}`;
  const what = rewrittenPacks > 0 ? packs : `${plural(removedPacks, 'pack')} with nothing but manifests deleted`;
  return `${dryRun ? 'would free' : 'freed'} no stored data: ${what}${later}`;
}

async function prune(session, { maxUnused, wait = false, exclusive: alone = false, dryRun = false, ...globals }) {
  return withRepository(globals, session, { readOnly: dryRun }, async (archive) => {
    const result = await runPrune(session, archive, { maxUnused, wait, dryRun, exclusive: alone });
    session.output.result(result, freed(result));
    return EXIT.ok;
  });
}
