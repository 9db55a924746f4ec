// A directory as a tar stream: its entries sorted by name, so that two streams of an unchanged
// directory are equal.
//
// Invariant: a file that cannot be read, or is shorter than it was when its header was written, is
// reported to `skipped`, which either throws or returns; only then it is left out. The stream never
// ends early.

import { constants, promises as fs } from 'node:fs';
import { join, resolve } from 'node:path';
import { createTarPacker } from 'modern-tar';
import { Failure, reasonOf } from './failure.mjs';
import { nameText } from './names.mjs';

const READ_BYTES = 1 << 20;
/** Types of entries, and what is left out: sockets are made by programs, and devices by systems. */
const TYPES = [
  ['isFile', 'file'],
  ['isDirectory', 'directory'],
  ['isSymbolicLink', 'symlink'],
  ['isFIFO', 'fifo'],
];

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** A name as text. Names of other bytes cannot be stored unchanged. */
function nameOf(bytes) {
  try {
    return utf8.decode(bytes);
  } catch {
    throw new Error('its name is not UTF-8');
  }
}

/** Type of a tar entry, or null for what is left out. */
const typeOf = (stats) => TYPES.find(([is]) => stats[is]())?.[1] ?? null;

/** The time of a header. One before 1970 has no number in it, only a record of pax. */
const timeOf = (ms) => (ms >= 0 ? { mtime: new Date(ms) } : { mtime: new Date(0), pax: { mtime: String(ms / 1000) } });

const headerOf = (name, type, stats) => ({
  name: type === 'directory' ? `${name}/` : name,
  type,
  size: type === 'file' ? Number(stats.size) : 0,
  mode: Number(stats.mode) & 0o7777,
  uid: Number(stats.uid),
  gid: Number(stats.gid),
  ...timeOf(Number(stats.mtimeMs)),
});

/** One walk over a directory. */
class Walk {
  /** Names of files with several links, by device and inode. */
  #linked = new Map();
  #controller;
  #options;

  /**
   * @param controller of modern-tar
   * @param options of directoryStream
   */
  constructor(controller, options) {
    this.#controller = controller;
    this.#options = options;
  }

  /** Adds an entry, and what is in it. */
  async add(path, name, device) {
    const { excludes, skipped, ignored, avoid, oneFileSystem } = this.#options;
    let stats;
    try {
      stats = await fs.lstat(path, { bigint: true });
    } catch (error) {
      return skipped(path, error.message);
    }
    const type = typeOf(stats);
    const inside = name.split('/').slice(1).join('/');
    if (inside !== '' && excludes?.ignores(type === 'directory' ? `${inside}/` : inside)) return undefined;
    if (type === 'directory' && avoid !== undefined && sameFile(stats, avoid)) return ignored(path, 'it is the repository');
    if (oneFileSystem && device !== undefined && stats.dev !== device) return ignored(path, 'it is on another file system');
    if (type === null) return ignored(path, stats.isSocket() ? 'it is a socket' : 'it is a device');
    if (type === 'file') return this.#file(path, name, stats);
    if (type === 'symlink') return this.#symlink(path, name, stats);
    // the list first: a directory that cannot be read is left out as a whole
    const names = type === 'directory' ? await this.#names(path) : [];
    if (names === null) return undefined;
    await this.#entry(headerOf(name, type, stats));
    for (const each of names) await this.#child(path, name, each, stats.dev);
    return undefined;
  }

  async #child(path, name, bytes, device) {
    let text;
    try {
      text = nameOf(bytes);
    } catch (error) {
      const near = `${name}/${bytes.toString('utf8')}`.split('/').slice(1).join('/');
      if (this.#options.excludes?.ignores(near)) return undefined;
      return this.#options.skipped(join(path, nameText(bytes)), error.message);
    }
    return this.add(join(path, text), `${name}/${text}`, device);
  }

  /** The sorted names in a directory; null when it is skipped. */
  async #names(path) {
    try {
      return (await fs.readdir(path, { encoding: 'buffer' })).sort(Buffer.compare);
    } catch (error) {
      await this.#options.skipped(path, error.message);
      return null;
    }
  }

  async #entry(header) {
    await this.#controller.add(header).close();
  }

  async #symlink(path, name, stats) {
    let linkname;
    try {
      linkname = nameOf(await fs.readlink(path, { encoding: 'buffer' }));
    } catch (error) {
      return this.#options.skipped(path, error.message);
    }
    return this.#entry({ ...headerOf(name, 'symlink', stats), linkname });
  }

  async #file(path, name, stats) {
    const key = `${stats.dev}:${stats.ino}`;
    const first = stats.nlink > 1n ? this.#linked.get(key) : undefined;
    if (first !== undefined) return this.#entry({ ...headerOf(name, 'link', stats), linkname: first });
    let file;
    try {
      // not a pipe that has taken its name in the meantime, which would wait for a writer
      file = await fs.open(path, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0));
      stats = await file.stat({ bigint: true });
      if (!stats.isFile()) throw new Error('it is no file any more');
      // a read error of the first bytes leaves nothing of the file in the stream
      const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, Math.max(1, Number(stats.size))));
      const read = await file.read(buffer, 0, buffer.length, 0);
      await this.#body(file, path, headerOf(name, 'file', stats), buffer.subarray(0, read.bytesRead));
      const after = await file.stat({ bigint: true });
      if (after.mtimeNs !== stats.mtimeNs || after.size !== stats.size) this.#options.changed(path);
      if (stats.nlink > 1n) this.#linked.set(key, name);
    } catch (error) {
      if (error instanceof Abandoned) throw error.cause;
      await this.#options.skipped(path, error.message);
    } finally {
      await file?.close();
    }
    return undefined;
  }

  /**
   * Writes the entry of a file, of exactly the bytes that its header states: zeros for those that
   * cannot be read.
   */
  async #body(file, path, header, start) {
    const { size } = header;
    const writer = this.#controller.add(header).getWriter();
    try {
      let done = 0;
      let piece = start.subarray(0, size);
      while (done < size) {
        if (piece.length === 0) {
          await this.#options.skipped(path, `it is shorter than its ${size} bytes`);
          piece = null;
        }
        if (piece === null) {
          await fillWithZeros(writer, size - done);
          break;
        }
        await writer.write(piece);
        done += piece.length;
        if (done < size) piece = await this.#next(file, path, done, size);
      }
      await writer.close();
    } catch (cause) {
      throw new Abandoned(cause);
    }
  }

  /** Reads the next bytes of a file, none at its end; null where it cannot be read any more. */
  async #next(file, path, at, size) {
    const buffer = Buffer.allocUnsafe(Math.min(READ_BYTES, size - at));
    try {
      const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
      return buffer.subarray(0, bytesRead);
    } catch (error) {
      await this.#options.skipped(path, error.message);
      return null;
    }
  }
}

/** An error after the header of a file is in the stream: the stream cannot continue. */
class Abandoned extends Error {
  constructor(cause) {
    super('The stream cannot continue', { cause });
  }
}

async function fillWithZeros(writer, length) {
  for (let left = length; left > 0; left -= READ_BYTES) await writer.write(new Uint8Array(Math.min(left, READ_BYTES)));
}

/**
 * The tar stream of a directory, in pieces.
 * @param {string} path
 * @param {string} name of the root entry
 * @param options `excludes` (of the package "ignore"), `oneFileSystem`, `avoid` (the state of a
 * directory that is left out, in bigints), `skipped(path, why)` for what should be there and cannot
 * be read: throws, or returns to leave it out; `ignored(path, why)` for what is left out on
 * purpose; `changed(path)` for a file that changed while it was read
 */
export async function* directoryStream(path, name, options) {
  // nothing is read before the stream is: the sizes in its headers would be old
  const { readable, controller } = createTarPacker();
  const run = async () => {
    await new Walk(controller, options).add(resolve(path), name);
    controller.finalize();
  };
  run().catch((error) => controller.error(error));
  yield* readable;
}

/** Whether two results of stat, in bigints, are of the same file, however it was reached. */
export const sameFile = (one, other) => one.dev === other.dev && one.ino === other.ino;

/** Throws unless a path exists and can be backed up; returns whether it is a directory. */
export async function isDirectory(path) {
  let stats;
  try {
    stats = await fs.stat(path);
  } catch (cause) {
    throw new Failure(`${path} cannot be backed up: ${reasonOf(cause)}`, { cause });
  }
  if (stats.isDirectory()) return true;
  if (stats.isFile() || stats.isBlockDevice()) return false;
  throw new Failure(`${path} is neither a file nor a directory`, { hint: 'For a pipe, use --stdin --name NAME' });
}
