// node examples/http-service.mjs REPOSITORY [--port N] [--every SECONDS] [--restore]
//
// A service that keeps notes in memory, backs itself up while it serves, and reports its own
// latency, with and without a backup running. The passphrase is in BACKUP_PASSPHRASE.
//
//   PUT /notes/NAME   stores the body        GET /notes/NAME   returns it
//   POST /backup      backs up now           GET /health       notes, newest snapshot, latency
//
// --restore starts with the notes of the newest snapshot. SIGTERM and SIGINT back up once more.

import { once } from 'node:events';
import { createServer } from 'node:http';
import { createHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import { createInterface } from 'node:readline';
import { setImmediate } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { ContainerArchive } from '@serve.zone/containerarchive';

const LARGEST_NOTE = 1024 * 1024;
const PIECE = 256 * 1024;
const TAGS = { service: 'notes' };
const ITEM = { name: 'notes.jsonl', type: 'json-lines' };
const POLICY = { keepLast: 10, keepHours: 24, keepDays: 30, groupBy: ['service'] };

const { values, positionals: [repository] } = parseArgs({
  allowPositionals: true,
  options: {
    port: { type: 'string', default: '8080' },
    every: { type: 'string', default: '300' },
    restore: { type: 'boolean' },
  },
});
if (!repository) {
  console.error('Usage: node examples/http-service.mjs REPOSITORY [--port N] [--every SECONDS] [--restore]');
  process.exit(1);
}

const passphrase = process.env.BACKUP_PASSPHRASE;
const archive = await ContainerArchive.openOrInit(repository, { passphrase, compression: 'zstd' });
archive.on('warning', ({ code, message }) => console.warn(code, message));
const notes = new Map();
if (values.restore) {
  const newest = await archive.latest({ tags: TAGS });
  if (newest === null) throw new Error('there is no snapshot to start from');
  const stream = await archive.restore(newest.id, { item: ITEM.name });
  for await (const line of createInterface({ input: stream, crlfDelay: Infinity })) notes.set(...JSON.parse(line));
}

/** Requests while no backup runs, and while one runs, in microseconds. */
const latency = { idle: createHistogram(), backup: createHistogram() };
const loop = monitorEventLoopDelay({ resolution: 1 });
loop.enable();

/**
 * All notes of one moment: the copy of the entries is that moment, and the texts never change. In
 * pieces, so that the service answers between them.
 */
async function* lines(entries) {
  let piece = '';
  for (const entry of entries) {
    piece += `${JSON.stringify(entry)}\n`;
    if (piece.length >= PIECE) {
      yield piece;
      piece = '';
      await setImmediate();
    }
  }
  if (piece !== '') yield piece;
}

let running = null;
const backups = { done: 0, failed: 0, last: null, error: null };

/** Backs up and applies the retention policy. While it runs, further calls share its outcome. */
function backUp() {
  running ??= (async () => {
    const start = performance.now();
    try {
      const snapshot = await archive.ingest(lines([...notes]), { items: [ITEM], tags: TAGS });
      await archive.prune(POLICY);
      backups.done++;
      backups.error = null;
      const { id, createdAt, originalSize, storedSize } = snapshot;
      backups.last = { id, createdAt, originalSize, storedSize, ms: Math.round(performance.now() - start) };
      return backups.last;
    } catch (error) {
      backups.failed++;
      backups.error = `${error.code}: ${error.message}`;
      throw error;
    } finally {
      running = null;
    }
  })();
  return running;
}

const milliseconds = (histogram, unit) => (histogram.count === 0 ? null : {
  p50: histogram.percentile(50) / unit, p99: histogram.percentile(99) / unit, max: histogram.max / unit,
});
const health = () => ({
  notes: notes.size,
  backups,
  latency: Object.fromEntries(Object.entries(latency).map(([name, histogram]) => (
    [name, { requests: histogram.count, ms: milliseconds(histogram, 1e3) }]))),
  eventLoopMs: milliseconds(loop, 1e6),
});

async function bodyOf(request) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    size += part.length;
    if (size > LARGEST_NOTE) return null;
    parts.push(part);
  }
  return Buffer.concat(parts).toString();
}

/** Status and body of the answer to a request. */
async function answer(request) {
  const { pathname } = new URL(request.url, 'http://localhost');
  const [, , name] = /^\/(notes)\/([^/]+)$/.exec(pathname) ?? [];
  if (name && request.method === 'GET') return notes.has(name) ? [200, notes.get(name)] : [404, 'no such note'];
  if (name && request.method === 'PUT') {
    const body = await bodyOf(request);
    if (body === null) return [413, 'too large'];
    notes.set(name, body);
    return [204, ''];
  }
  if (pathname === '/backup' && request.method === 'POST') return [200, JSON.stringify(await backUp())];
  if (pathname === '/health') return [backups.error === null ? 200 : 503, JSON.stringify(health())];
  return [404, 'unknown'];
}

const server = createServer(async (request, response) => {
  const start = performance.now();
  let [status, body] = [500, 'failed'];
  try {
    [status, body] = await answer(request);
  } catch (error) {
    console.error(error);
  }
  response.writeHead(status).end(body);
  if (!request.url.startsWith('/notes/')) return; // a backup is no request of a user
  const histogram = running === null ? latency.idle : latency.backup;
  histogram.record(Math.max(1, Math.round((performance.now() - start) * 1e3)));
});

const timer = setInterval(() => backUp().catch((error) => console.error(error)), Number(values.every) * 1000);
for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, async () => {
    clearInterval(timer);
    server.close();
    server.closeAllConnections();
    try {
      await running?.catch(() => {}); // it may be older than the newest note
      await backUp();
    } catch (error) {
      console.error(error);
      process.exitCode = 1;
    }
    console.log(JSON.stringify(health()));
    loop.disable();
    await archive.close();
  });
}
server.listen(Number(values.port), '127.0.0.1');
await once(server, 'listening');
console.log(`listening on http://127.0.0.1:${server.address().port}`);
