// copy and mirror: the second and the third copy of a backup.

import { EXIT } from '../failure.mjs';
import { count, plural, shortId, size } from '../output.mjs';
import { withProgress } from '../progress.mjs';
import { openRepository, withRepository } from '../repository.mjs';
import { tags, time } from '../values.mjs';

export function define(program, run) {
  program
    .command('copy')
    .summary('copy snapshots into another repository')
    .description('Copies snapshots into another repository that exists, with its passphrase and settings. Those that it has are skipped.')
    .argument('[ids...]', 'snapshots: ids, unambiguous prefixes or "latest"; default all')
    .requiredOption('--to <path>', 'the other repository')
    .option('--to-passphrase-file <file>', 'read its passphrase from a file (or CONTAINERARCHIVE_TO_PASSPHRASE_FILE)')
    .option('--to-passphrase-command <command>', 'read it from the output of a command (or CONTAINERARCHIVE_TO_PASSPHRASE_COMMAND)')
    .option('-t, --tag <key=value>', 'only snapshots with this tag (repeatable)', tags)
    .option('--after <time>', 'only those created at this time or later', time)
    .option('--before <time>', 'only those created before this time', time)
    .action(run(copy));
  program
    .command('mirror')
    .summary('mirror the repository into another directory')
    .description('Copies the files of the repository into another directory, which can be opened and restored from. Needs no passphrase.')
    .requiredOption('--to <path>', 'the directory: missing, empty, or a mirror of this repository')
    .option('--delete', 'also delete what the repository no longer has')
    .option('-n, --dry-run', 'only show what would be copied')
    .action(run(mirror));
}

const given = (members) => Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined));

async function copy(session, ids, { to, toPassphraseFile, toPassphraseCommand, tag, after, before, ...globals }) {
  const { output, signal } = session;
  return withRepository({ ...globals, promote: false }, session, {}, async (archive) => {
    const other = { repo: to, passphraseFile: toPassphraseFile, passphraseCommand: toPassphraseCommand };
    const target = await openRepository(other, session, {}, 'to');
    try {
      const options = { filter: given({ tags: tag, after, before }), ...(ids.length > 0 && { snapshots: ids }), signal };
      const result = await withProgress(output, (progress) => archive.copyTo(target, { ...options, ...progress }));
      for (const { from, to: copied } of result.copied) output.note(`${shortId(from)} copied as ${shortId(copied)}`);
      for (const { id, code, message } of result.failed) output.warn(`snapshot ${shortId(id)} was not copied: ${message} (${code})`);
      output.result(result, describeCopy(result));
      return result.failed.length === 0 ? EXIT.ok : EXIT.failed;
    } finally {
      await target.close();
    }
  });
}

function describeCopy({ copied, skipped, originalBytes, storedBytes }) {
  const there = skipped.length > 0 ? `; ${count(skipped.length)} there already` : '';
  return `copied ${plural(copied.length, 'snapshot')} of ${size(originalBytes)}, ${size(storedBytes)} added${there}`;
}

async function mirror(session, { to, delete: deletes = false, dryRun = false, ...globals }) {
  const { output, signal } = session;
  return withRepository({ ...globals, promote: false }, session, { readOnly: true, keyless: true }, async (archive) => {
    const options = { delete: deletes, dryRun, signal };
    const result = await withProgress(output, (progress) => archive.mirrorTo(to, { ...options, ...progress }));
    output.result(result, describeMirror(result));
    return EXIT.ok;
  });
}

function describeMirror({ snapshots, copiedFiles, copiedBytes, removedFiles, rebuiltPacks, dryRun }) {
  const removed = removedFiles > 0 ? `, ${plural(removedFiles, 'file')} deleted` : '';
  const rebuilt = rebuiltPacks > 0 ? `; ${plural(rebuiltPacks, 'damaged pack')} rebuilt from parity` : '';
  const verb = dryRun ? 'would copy' : 'copied';
  return `${verb} ${plural(copiedFiles, 'file')} of ${size(copiedBytes)}${removed}${rebuilt}; ${plural(snapshots, 'snapshot')} in the mirror`;
}
