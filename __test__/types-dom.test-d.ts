// The types in a program that has the DOM types, as one with a front end has. Compiled by
// `npm run lint`, and by `npm run check:package` with every TypeScript from 5.4 on; never run.

import { ContainerArchive } from '@serve.zone/containerarchive';
import type { IngestSource } from '@serve.zone/containerarchive';

export async function sources(archive: ContainerArchive, request: Request, stream: ReadableStream<Uint8Array>): Promise<void> {
  await archive.ingest(stream);
  await archive.ingest(new ReadableStream<string>());
  await archive.ingest(new Blob(['x']).stream());
  await archive.ingest(new Blob(['x']));
  await archive.ingest(new Blob(['x']).stream().pipeThrough(new CompressionStream('gzip')));
  if (request.body) await archive.ingest(request.body);
  const response = await fetch('https://example.org/');
  await archive.ingestMulti([{ name: 'page', type: 'html', stream: response.body! }]);
  // @ts-expect-error a writable stream has nothing to read
  await archive.ingest(new WritableStream<Uint8Array>());
  // @ts-expect-error its pieces are no bytes
  const numbers: IngestSource = new ReadableStream<number>();
  void numbers;
}
