// What a request to object storage is, and what the requests of one operation amount to.

/** The operations that are counted, in the order of the tables. */
export const OPERATIONS = ['GET', 'PUT', 'HEAD', 'DELETE', 'LIST', 'other'];

/** The first part of a key -> its class, in the layouts of both programs. */
const CLASSES = {
  packs: 'packs', data: 'packs', index: 'index', snapshots: 'snapshots', locks: 'locks', keys: 'keys', config: 'config', 'config.json': 'config',
};

/** The operation of a request and the class of its key. A path is /bucket/run/program/key. */
export function describe({ method, url }) {
  const { pathname, searchParams: query } = new URL(url, 'http://server');
  const isList = method === 'GET' && (query.has('list-type') || query.has('prefix') || query.has('delimiter'));
  const path = isList ? `/bucket/${query.get('prefix') ?? ''}` : decodeURIComponent(pathname);
  return { operation: operationOf(method, query, isList), ...keyOf(path) };
}

/** The class of the first key in the body of a request that deletes several. */
export function described(body) {
  const key = /<Key>([^<]*)<\/Key>/.exec(body)?.[1];
  return key === undefined ? {} : keyOf(`/bucket/${key}`);
}

function keyOf(path) {
  const [folder, ...rest] = path.split('/').slice(4);
  return { kind: classOf(folder, rest), key: [folder, ...rest].join('/') };
}

function operationOf(method, query, isList) {
  if (isList) return 'LIST';
  if (method === 'POST') return query.has('delete') ? 'DELETE' : 'PUT'; // the others are of uploads in parts
  if (query.has('location') || query.has('uploads')) return 'other';
  return OPERATIONS.includes(method) ? method : 'other';
}

function classOf(folder, rest) {
  if (rest.at(-1)?.endsWith('.idx')) return 'idx';
  return CLASSES[folder] ?? 'other';
}

/** The numbers of one operation. */
export function summary({ requests, connections }) {
  const sumOf = (what) => requests.reduce((sum, each) => sum + each[what], 0);
  const counts = Object.fromEntries(OPERATIONS.map((name) => [name, requests.filter(({ operation }) => operation === name).length]));
  const kinds = {};
  for (const { operation, kind } of requests) kinds[`${operation} ${kind}`] = (kinds[`${operation} ${kind}`] ?? 0) + 1;
  return {
    requests: requests.length, ...counts, kinds, connections, up: sumOf('up'), down: sumOf('down'),
    errors: requests.filter(({ status }) => status >= 500 || status === 0).length,
    peak: peakOf(requests), chain: chainOf(requests),
  };
}

/** The most requests that were open at once. */
function peakOf(requests) {
  const events = requests.flatMap(({ start, end }) => [[start, 1], [end ?? Infinity, -1]]).sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  let [open, peak] = [0, 0];
  for (const [, change] of events) peak = Math.max(peak, (open += change));
  return peak;
}

/** The most requests of which none overlaps another. */
function chainOf(requests) {
  let [chain, free] = [0, -Infinity];
  for (const { start, end } of [...requests].sort((a, b) => (a.end ?? Infinity) - (b.end ?? Infinity))) {
    if (start < free) continue;
    chain++;
    free = end ?? Infinity;
  }
  return chain;
}

/** The requests as lines: when each began and how long it took, in milliseconds. */
export function trace(requests) {
  const first = Math.min(...requests.map(({ start }) => start));
  const number = (value) => value.toFixed(0).padStart(6);
  return requests.map(({ start, end, operation, key, status, up, down }) =>
    `${number(start - first)} ${number(end - start)} ms ${operation.padEnd(6)} ${status} ${number(up)} up ${number(down)} down ${key}`);
}
