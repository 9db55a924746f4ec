// Plain requests, as many at once as told: what a server and a link allow.
//
//   node floor.mjs ENDPOINT BUCKET SERVER BYTES OBJECT_BYTES PARALLEL
//
// Puts BYTES in objects of OBJECT_BYTES, gets them, and prints the seconds of each as JSON.
import { Agent, request } from 'node:http';
import { headersFor } from './direct.mjs';

const [endpoint, bucket, server, ...numbers] = process.argv.slice(2);
const [bytes, objectBytes, parallel] = numbers.map(Number);
const agent = new Agent({ keepAlive: true, maxSockets: parallel });
const body = Buffer.alloc(objectBytes, 7);
const sizes = Array.from({ length: Math.ceil(bytes / objectBytes) }, (_, at) => Math.min(objectBytes, bytes - at * objectBytes));

function call(method, number, content) {
  return new Promise((resolve, reject) => {
    const headers = { ...headersFor(server), ...(content && { 'content-length': content.length }) };
    const sent = request(`${endpoint}/${bucket}/floor/floor/data/${number}`, { method, agent, headers }, (answer) => {
      let got = 0;
      answer.on('data', (part) => (got += part.length));
      answer.on('end', () => (answer.statusCode < 300 ? resolve(got) : reject(new Error(`${method}: ${answer.statusCode}`))));
    });
    sent.on('error', reject);
    sent.end(content);
  });
}

/** The seconds that `parallel` callers need for all objects. */
async function timed(each) {
  const start = performance.now();
  let next = 0;
  await Promise.all(Array.from({ length: parallel }, async () => {
    while (next < sizes.length) await each(next, sizes[next++]);
  }));
  return (performance.now() - start) / 1000;
}

await call('PUT', 'first', body.subarray(0, 1)); // what is loaded at the first request, is
const put = await timed((number, size) => call('PUT', number, body.subarray(0, size)));
const get = await timed(async (number, size) => {
  if ((await call('GET', number)) !== size) throw new Error('an object came back with another length');
});
console.log(JSON.stringify({ put, get }));
agent.destroy();
