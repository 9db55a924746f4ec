// The tables of the benchmark of object storage, as Markdown: medians over the runs, with the least
// and the greatest value in parentheses where they differ.
import { OPERATIONS } from './requests.mjs';

const MIB = 1 << 20;

/** The columns: heading, the number of a sample, digits. */
const COLUMNS = [
  ['requests', ({ requests }) => requests, 0],
  ...OPERATIONS.slice(0, -1).map((name) => [name, (sample) => sample[name], 0]),
  ['up, MiB', ({ up }) => up / MIB, 2],
  ['down, MiB', ({ down }) => down / MIB, 2],
  ['connections', ({ connections }) => connections, 0],
  ['most at once', ({ peak }) => peak, 0],
  ['chain', ({ chain }) => chain, 0],
  ['wall s', ({ wall }) => wall, 2],
  ['CPU s', ({ cpu }) => cpu, 2],
];
const RATIOS = ['requests', 'chain', 'up, MiB', 'down, MiB', 'wall s', 'CPU s'].map((name) => COLUMNS.find(([heading]) => heading === name));

/** All tables of results of the form step -> program -> list of samples. */
export function tables(steps, programs, results) {
  const rows = steps.flatMap((step) => programs.map(({ name }) => [step, name, results[step]?.[name] ?? []])).filter(([, , { length }]) => length > 0);
  const [us, other] = programs.map(({ name }) => name);
  return [
    ...table(['operation', 'program', ...COLUMNS.map(([heading]) => heading)],
      rows.map(([step, name, samples]) => [step, name, ...COLUMNS.map(([, value, digits]) => spread(samples.map(value), digits))])),
    ...(other === undefined ? [] : ['', `Medians of ${us}, divided by those of ${other}; below 1, it took less:`, '',
      ...table(['operation', ...RATIOS.map(([heading]) => heading.replace(', MiB', ''))], steps.map((step) => [step, ...RATIOS.map(([, value]) => ratio(
        ...[us, other].map((name) => median((results[step]?.[name] ?? []).map(value))),
      ))]))]),
    '', 'Requests of the first run, by the class of their keys:', '',
    ...table(['operation', 'program', 'requests'], rows.map(([step, name, [{ kinds }]]) => [step, name, kindsOf(kinds)])),
  ].join('\n');
}

/** One table, from its headings and rows. */
export function table(headings, rows) {
  return [headings, headings.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`);
}

function kindsOf(kinds) {
  const sorted = Object.entries(kinds).sort(([a], [b]) => a.localeCompare(b));
  return sorted.map(([kind, count]) => `${count} ${kind}`).join(', ');
}

function ratio(a, b) {
  return a === undefined || b === undefined || b === 0 ? '' : (a / b).toFixed(2);
}

/** `median (least–greatest)`, or the median alone where these are printed the same. */
export function spread(values, digits) {
  const [middle, least, most] = [median(values), Math.min(...values), Math.max(...values)].map((value) => value.toFixed(digits));
  return least === most ? middle : `${middle} (${least}–${most})`;
}

/** The median; of an even number of values, the mean of the middle two. */
export function median(values) {
  if (values.length === 0) return undefined;
  const sorted = [...values].sort((a, b) => a - b);
  const half = values.length >> 1;
  return values.length % 2 === 1 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}
