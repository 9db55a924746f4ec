// Requests of the benchmark itself, which are not measured. The servers check no signature of them;
// moto wants to see one.
const AUTHORIZATION = 'AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0';

/** The headers of a request to a server. */
export const headersFor = (server) => (server === 'moto' ? { authorization: AUTHORIZATION } : {});

/** Reads and writes objects of a bucket at `endpoint`. */
export function direct(endpoint, bucket, server) {
  const call = async (path, options = {}) => {
    const answer = await fetch(`${endpoint}/${bucket}${path}`, { ...options, headers: headersFor(server) });
    if (!answer.ok) throw new Error(`${options.method ?? 'GET'} ${path}: ${answer.status} ${await answer.text()}`);
    return Buffer.from(await answer.arrayBuffer());
  };
  const keys = async (prefix) => {
    const found = [];
    for (let token = ''; ; ) {
      const text = String(await call(`?list-type=2&prefix=${prefix}${token && `&continuation-token=${encodeURIComponent(token)}`}`));
      found.push(...[...text.matchAll(/<Key>([^<]*)<\/Key>/g)].map(([, key]) => key));
      token = /<NextContinuationToken>([^<]*)</.exec(text)?.[1] ?? '';
      if (token === '') return found;
    }
  };
  const put = (key, body) => call(`/${key}`, { method: 'PUT', body });
  return {
    keys,
    put,
    remove: (key) => call(`/${key}`, { method: 'DELETE' }),
    /** The objects below a prefix, as a map. */
    save: async (prefix) => new Map(await Promise.all((await keys(prefix)).map(async (key) => [key, await call(`/${key}`)]))),
    /** Puts saved objects back. */
    load: async (objects) => {
      for (const [key, bytes] of objects) await put(key, bytes);
    },
  };
}
