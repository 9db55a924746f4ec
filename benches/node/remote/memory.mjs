// A server with the protocol of S3 that keeps objects in memory and checks no signature: as little
// work per byte as Node can do, so that the link and the clients set the pace of the benchmark, and
// not the server.
//
//   node memory.mjs PORT
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';

/** Path -> { parts, size, etag, date }; a path is `/bucket/key`. */
const objects = new Map();
/** Upload id -> part number -> bytes. */
const uploads = new Map();

const server = createServer((request, response) => {
  serve(request, response).catch((error) => {
    if (!response.headersSent) response.writeHead(500);
    response.end(String(error));
  });
});
server.requestTimeout = 0;
server.keepAliveTimeout = 60_000;
server.listen(Number(process.argv[2]), '127.0.0.1');

async function serve(request, response) {
  const { pathname: raw, searchParams: query } = new URL(request.url, 'http://server');
  const path = decodeURIComponent(raw);
  const body = payload(request.headers, await collect(request));
  const isBucket = path.replace(/\/$/, '').lastIndexOf('/') === 0;
  const answer = (status, headers = {}, content = '') => {
    response.writeHead(status, { 'content-length': content.length, ...headers });
    response.end(request.method === 'HEAD' ? undefined : content);
  };
  const xml = (text) => answer(200, { 'content-type': 'application/xml' }, Buffer.from(`<?xml version="1.0" encoding="UTF-8"?>${text}`));
  const refuse = (status, code) => answer(status, { 'content-type': 'application/xml' }, Buffer.from(`<Error><Code>${code}</Code><Message>${code}</Message></Error>`));
  const isTaken = () => request.headers['if-none-match'] === '*' && objects.has(path);
  switch (request.method) {
    case 'PUT':
      if (isBucket) return answer(200);
      if (query.has('partNumber')) {
        uploads.get(query.get('uploadId')).set(Number(query.get('partNumber')), body);
        return answer(200, { etag: `"${query.get('partNumber')}"` });
      }
      if (isTaken()) return refuse(412, 'PreconditionFailed');
      if (request.headers['x-amz-copy-source']) {
        const source = objects.get(`/${decodeURIComponent(request.headers['x-amz-copy-source']).replace(/^\//, '')}`);
        return source ? xml(`<CopyObjectResult><ETag>${store(path, source.parts)}</ETag></CopyObjectResult>`) : refuse(404, 'NoSuchKey');
      }
      return answer(200, { etag: store(path, [body]) });
    case 'POST':
      if (query.has('uploads')) {
        const id = randomBytes(8).toString('hex');
        uploads.set(id, new Map());
        return xml(`<InitiateMultipartUploadResult><Bucket></Bucket><Key></Key><UploadId>${id}</UploadId></InitiateMultipartUploadResult>`);
      }
      if (query.has('uploadId')) {
        if (isTaken()) return refuse(412, 'PreconditionFailed');
        const parts = [...uploads.get(query.get('uploadId'))].sort(([a], [b]) => a - b).map(([, part]) => part);
        uploads.delete(query.get('uploadId'));
        return xml(`<CompleteMultipartUploadResult><Location></Location><Bucket></Bucket><Key></Key><ETag>${store(path, parts)}</ETag></CompleteMultipartUploadResult>`);
      }
      return xml(`<DeleteResult>${[...String(body).matchAll(/<Key>([^<]*)<\/Key>/g)].map(([, key]) => {
        objects.delete(`${path.replace(/\/$/, '')}/${key}`);
        return `<Deleted><Key>${key}</Key></Deleted>`;
      }).join('')}</DeleteResult>`);
    case 'DELETE':
      uploads.delete(query.get('uploadId'));
      if (!query.has('uploadId')) objects.delete(path);
      return answer(204);
    default:
      if (query.has('location')) return xml('<LocationConstraint>us-east-1</LocationConstraint>');
      if (isBucket && request.method === 'HEAD') return answer(200);
      if (isBucket) return xml(listing(path.replace(/\/$/, ''), query));
      return read(objects.get(path), request.headers.range, answer, refuse);
  }
}

function read(object, range, answer, refuse) {
  if (!object) return refuse(404, 'NoSuchKey');
  if (object.parts.length > 1) object.parts = [Buffer.concat(object.parts)]; // at the first read
  const { parts: [bytes], etag, date } = object;
  const headers = { etag, 'last-modified': date, 'accept-ranges': 'bytes', 'content-type': 'application/octet-stream' };
  const [, from, to] = /^bytes=(\d*)-(\d*)$/.exec(range ?? '') ?? [];
  if (from === undefined) return answer(200, headers, bytes);
  const start = from === '' ? Math.max(0, bytes.length - Number(to)) : Number(from);
  const end = from === '' || to === '' ? bytes.length : Math.min(bytes.length, Number(to) + 1);
  if (start >= end) return refuse(416, 'InvalidRange');
  return answer(206, { ...headers, 'content-range': `bytes ${start}-${end - 1}/${bytes.length}` }, bytes.subarray(start, end));
}

/** The second version of the list, with the pages that a client asks for. */
function listing(bucket, query) {
  const [prefix, delimiter] = [query.get('prefix') ?? '', query.get('delimiter') ?? ''];
  const after = query.get('continuation-token') ?? query.get('start-after') ?? '';
  const most = Math.min(1000, Number(query.get('max-keys') || 1000));
  const [rows, folders] = [[], new Set()];
  let next;
  let last = after;
  for (const path of [...objects.keys()].sort()) {
    if (!path.startsWith(`${bucket}/${prefix}`)) continue;
    const key = path.slice(bucket.length + 1);
    const cut = delimiter === '' ? -1 : key.indexOf(delimiter, prefix.length);
    const name = cut < 0 ? key : key.slice(0, cut + 1);
    if (key <= after || name <= after || folders.has(name)) continue;
    if (rows.length + folders.size === most) {
      next = last;
      break;
    }
    last = name;
    const { size, etag, date } = objects.get(path);
    if (cut < 0) rows.push(`<Contents><Key>${key}</Key><LastModified>${new Date(date).toISOString()}</LastModified><ETag>${etag}</ETag><Size>${size}</Size></Contents>`);
    else folders.add(name);
  }
  const common = [...folders].map((name) => `<CommonPrefixes><Prefix>${name}</Prefix></CommonPrefixes>`);
  const more = next === undefined ? '' : `<NextContinuationToken>${next}</NextContinuationToken>`;
  return `<ListBucketResult><Name>${bucket.slice(1)}</Name><Prefix>${prefix}</Prefix><KeyCount>${rows.length + folders.size}</KeyCount><MaxKeys>${most}</MaxKeys><IsTruncated>${next !== undefined}</IsTruncated>${more}${rows.join('')}${common.join('')}</ListBucketResult>`;
}

/** Stores an object; returns its ETag, which is no hash of it, as that of an upload in parts. */
function store(path, parts) {
  const etag = `"${randomBytes(16).toString('hex')}-1"`;
  objects.set(path, { parts, size: parts.reduce((sum, { length }) => sum + length, 0), etag, date: new Date().toUTCString() });
  return etag;
}

async function collect(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts);
}

/** A body without the frames of `aws-chunked`: `<hex size>;chunk-signature=…\r\n<bytes>\r\n`. */
function payload(headers, body) {
  if (!headers['x-amz-content-sha256']?.startsWith('STREAMING-')) return body;
  const parts = [];
  for (let at = 0; ; ) {
    const end = body.indexOf('\r\n', at);
    const size = parseInt(body.toString('latin1', at, end), 16);
    if (!(size > 0)) return Buffer.concat(parts);
    parts.push(body.subarray(end + 2, end + 2 + size));
    at = end + 2 + size + 2;
  }
}
