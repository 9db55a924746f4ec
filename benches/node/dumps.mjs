// The dumps of the prune benchmark: rows of text as `pg_dump` writes them, the same on every
// machine. Each day 2 % of the rows change, in 40 ranges, and the table grows by 0.5 %.

import { generator as numbers } from './blocks.mjs';

const MIB = 1 << 20;
const ROW_BYTES = 76;

const generator = (seed) => numbers(seed | 1);

/** For each row of that day's table, how often it has changed. */
function versions(mib, day) {
  const rows = Math.floor((mib * MIB) / ROW_BYTES);
  const grown = (of) => Math.floor(rows * (1 + of * 0.005));
  const changed = new Uint8Array(grown(day));
  for (let today = 1; today <= day; today++) {
    const next = generator(7919 * today);
    const run = Math.ceil((grown(today) * 0.02) / 40);
    for (let range = 0; range < 40; range++) {
      const first = next() % (grown(today) - run);
      for (let row = first; row < first + run; row++) changed[row] = (changed[row] + 1) % 256;
    }
  }
  return changed;
}

/** The dump of that day, in pieces; the first has `mib` MiB. */
export function* dump(mib, day) {
  const states = ['new', 'paid', 'shipped', 'returned'];
  const changed = versions(mib, day);
  let rows = [];
  for (let row = 0; row < changed.length; row++) {
    const next = generator(Math.imul(row + 1, 2654435761) ^ Math.imul(changed[row] + 1, 40503));
    const token = next().toString(16).padStart(8, '0') + next().toString(16).padStart(8, '0');
    const email = `customer.${next() % 99999}@example.org`;
    rows.push([row, email, 1_700_000_000 + row * 31, (next() % 100000) / 100, states[next() % 4], changed[row], token].join('\t'));
    if (rows.length === 4000 || row + 1 === changed.length) {
      yield Buffer.from(`COPY public.orders FROM stdin;\n${rows.join('\n')}\n\\.\n\n`);
      rows = [];
    }
  }
}
