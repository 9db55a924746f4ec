// The tables of the peer benchmark, as Markdown.
//
// Cells are medians over the runs, with the least and the greatest value in parentheses where there
// is more than one run. The last table divides the medians of containerarchive by those of the best
// other program in that cell, and by those of bupstash: below 1, containerarchive took less.

const MIB = 1 << 20;

/**
 * All tables for results of the form kind -> row -> step -> list of samples. A kind has `title` and
 * `steps`; a sample has `wall`, `cpu`, `rss`, and `size` where the step changes the repository.
 */
export function tables(kinds, rows, results) {
  const lines = [];
  for (const [name, { title, steps }] of Object.entries(kinds)) {
    const cell = (row, step) => results[name][row.name]?.[step] ?? [];
    const each = (what, unit, digits, of = steps) => {
      const text = (row, step) => spread(cell(row, step).map(unit), digits);
      lines.push('', `#### ${title}: ${what}`, '', ...table(rows, of, text));
    };
    lines.push('', `### ${title}`);
    each('CPU seconds', ({ cpu }) => cpu, 2);
    each('wall seconds', ({ wall }) => wall, 2);
    const large = steps.filter((step) => ['first', 'restore', 'check'].includes(step));
    each('peak RSS of the largest process, MiB', ({ rss }) => rss / MIB, 0, large);
    const growing = steps.filter((step) => rows.some((row) => cell(row, step)[0]?.size !== undefined));
    each('size of the repository after it, MiB', ({ size }) => size / MIB, 1, growing);
  }
  return [...lines, '', ...ratios(kinds, rows, results)].slice(1).join('\n');
}

function table(rows, steps, cell) {
  return [
    `| program | ${steps.join(' | ')} |`,
    `|${'---|'.repeat(steps.length + 1)}`,
    ...rows
      .map((row) => [row.name, ...steps.map((step) => cell(row, step))])
      .filter(([, ...cells]) => cells.some(Boolean))
      .map((cells) => `| ${cells.join(' | ')} |`),
  ];
}

function ratios(kinds, rows, results) {
  const lines = [
    '### Ratios', '', 'Medians of containerarchive, divided by those of the other program; below 1, it took less.', '',
    '| data | step | row | CPU, best other | CPU, bupstash | wall, best other | wall, bupstash |',
    '|---|---|---|---|---|---|---|',
  ];
  for (const [kind, { title, steps }] of Object.entries(kinds)) {
    for (const step of steps) {
      const medians = rows.map((row) => ({ ...row, ...mediansOf(results[kind][row.name]?.[step]) }));
      for (const row of medians.filter(({ isOurs, cpu }) => isOurs && cpu !== undefined)) {
        const others = medians.filter(({ isOurs, cpu }) => !isOurs && cpu !== undefined);
        const cells = ['cpu', 'wall'].flatMap((measure) => compared(row, others, measure));
        lines.push(`| ${title.split(',')[0]} | ${step} | ${row.name.split(', ')[1]} | ${cells.join(' | ')} |`);
      }
    }
  }
  return lines;
}

/** Two cells: the ratio to the best of the others, with its name, and the ratio to bupstash. */
function compared(row, others, measure) {
  const ratio = (other) => (row[measure] / other[measure]).toFixed(2);
  const [best] = [...others].sort((a, b) => a[measure] - b[measure]);
  const bupstash = others.find(({ peer }) => peer === 'bupstash');
  return [best ? `${ratio(best)} (${best.peer})` : '', bupstash ? ratio(bupstash) : ''];
}

function mediansOf(samples = []) {
  return { cpu: median(samples.map(({ cpu }) => cpu)), wall: median(samples.map(({ wall }) => wall)) };
}

/** `median (least–greatest)`; only the median of one value, '' for none. */
function spread(values, digits) {
  if (values.length === 0) return '';
  const text = (value) => value.toFixed(digits);
  if (values.length === 1) return text(values[0]);
  return `${text(median(values))} (${text(Math.min(...values))}–${text(Math.max(...values))})`;
}

/** The median; of an even number of values, the mean of the middle two. */
function median(values) {
  if (values.length === 0) return undefined;
  const sorted = [...values].sort((a, b) => a - b);
  const half = values.length >> 1;
  return values.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}
