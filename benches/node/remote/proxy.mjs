// A link to a server of object storage: it delays the answers, limits the bandwidth, and records
// each request.
//
// The delay is the round trip of the link: each answer begins that much after the server's own. The
// bandwidth is shared by all connections, in each direction for itself. A new connection costs
// nothing more, although TCP and TLS would need round trips; connections are counted instead.
import { Agent, createServer, request as connect } from 'node:http';
import { Transform, pipeline } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, described } from './requests.mjs';

/** Timers are late by about a millisecond; the link may make up for this much of it. */
const CREDIT_MS = 5;
const NOT_PASSED_ON = new Set(['connection', 'keep-alive', 'expect', 'proxy-connection']);

/**
 * Starts a link to `target`, `{ port }` on this machine: { endpoint, take(), stop() }. `take`
 * returns the requests and the number of new connections since the last call.
 */
export async function startProxy(target, { delayMs = 0, bytesPerSecond = Infinity } = {}) {
  const agent = new Agent({ keepAlive: false, maxSockets: Infinity });
  const [up, down] = [pace(bytesPerSecond), pace(bytesPerSecond)];
  let [requests, connections] = [[], 0];
  const server = createServer({ requestTimeout: 0, keepAliveTimeout: 120_000, noDelay: true }, (request, response) => {
    const record = { ...describe(request), start: performance.now(), end: undefined, up: 0, down: 0, status: 0 };
    requests.push(record);
    if (request.method === 'POST' && record.operation === 'DELETE') request.once('data', (part) => Object.assign(record, described(String(part))));
    response.on('close', () => (record.end = performance.now()));
    const headers = passedOn(request.rawHeaders);
    const onward = connect({ host: '127.0.0.1', port: target.port, method: request.method, path: request.url, headers, agent });
    const fail = () => {
      onward.destroy();
      request.socket.destroy();
    };
    onward.on('error', fail);
    pipeline(request, up((bytes) => (record.up += bytes)), onward, (error) => error && fail());
    onward.on('response', async (answer) => {
      if (delayMs > 0) await sleep(delayMs);
      record.status = answer.statusCode;
      response.writeHead(answer.statusCode, answer.statusMessage, passedOn(answer.rawHeaders));
      pipeline(answer, down((bytes) => (record.down += bytes)), response, (error) => error && fail());
    });
  });
  server.on('connection', () => connections++);
  server.on('checkContinue', (request, response) => {
    response.writeContinue();
    server.emit('request', request, response);
  });
  server.listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const take = () => {
    const taken = { requests, connections };
    [requests, connections] = [[], 0];
    return taken;
  };
  const stop = () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
  return { endpoint: `http://127.0.0.1:${server.address().port}`, take, stop };
}

/** Headers as they came, in pairs, without those that concern one connection only. */
function passedOn(raw) {
  return raw.filter((_, at) => !NOT_PASSED_ON.has(raw[at - (at % 2)].toLowerCase()));
}

/** One direction of the link: makes streams that pass bytes on when the link has room for them. */
function pace(bytesPerSecond) {
  let free = 0;
  return (count) => new Transform({
    transform(chunk, _, done) {
      count(chunk.length);
      if (bytesPerSecond === Infinity) return done(null, chunk);
      const now = performance.now();
      free = Math.max(free, now - CREDIT_MS) + (chunk.length / bytesPerSecond) * 1000;
      if (free <= now) return done(null, chunk);
      return void setTimeout(done, free - now, null, chunk);
    },
  });
}
