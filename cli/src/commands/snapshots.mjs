// snapshots: what is in the repository.

import { EXIT } from '../failure.mjs';
import { localTime, plural, printable, shortId, size, table, tagsText } from '../output.mjs';
import { withRepository } from '../repository.mjs';
import { tags, time } from '../values.mjs';

export function define(program, run) {
  program
    .command('snapshots')
    .alias('list')
    .summary('list snapshots')
    .description('Lists the snapshots, oldest first.')
    .option('-t, --tag <key=value>', 'only those with this tag (repeatable)', tags)
    .option('--after <time>', 'only those created at this time or later', time)
    .option('--before <time>', 'only those created before this time', time)
    .option('--latest', 'only the newest one')
    .action(run(snapshots));
}

const READ_ONLY = { readOnly: true };

async function snapshots(session, { tag, after, before, latest, ...globals }) {
  return withRepository(globals, session, READ_ONLY, async (archive) => {
    const filter = Object.fromEntries(Object.entries({ tags: tag, after, before }).filter(([, value]) => value !== undefined));
    const found = latest ? [await archive.latest(filter)].filter(Boolean) : (await archive.listSnapshots(filter)).reverse();
    const rows = found.map(({ id, createdAt, tags: all, items: parts, originalSize, storedSize }) => [
      shortId(id), localTime(createdAt), parts.map(({ name }) => printable(name)).join(' '), tagsText(all), size(originalSize), size(storedSize),
    ]);
    const text = table(['ID', 'Time', 'Items', 'Tags', 'Size', 'Added'], rows, [4, 5]);
    session.output.result(found, found.length === 0 ? '' : text);
    session.output.note(plural(found.length, 'snapshot'));
    return EXIT.ok;
  });
}
