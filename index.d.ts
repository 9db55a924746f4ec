/**
 * containerarchive: deduplicated, compressed, encrypted snapshots of data streams.
 *
 * Sizes and offsets are bytes, as numbers (exact up to 2^53). Times are ISO 8601 strings in UTC;
 * arguments may be a `Date` too.
 * Every promise rejects with a {@link ContainerArchiveError} (match on `code`), or with the
 * `reason` of the `AbortSignal` that was passed. Each call names the codes that are its own. Any
 * call may also reject with ERR_CLOSED, ERR_INVALID_ARGUMENT, ERR_UNREADABLE, ERR_PERMISSION,
 * ERR_STORAGE, ERR_NO_MEMORY, ERR_NO_THREADS and ERR_INTERNAL, and one that writes with
 * ERR_READ_ONLY, ERR_MIRROR, ERR_LOCKS_UNSUPPORTED, ERR_FILESYSTEM_UNSUPPORTED, ERR_NO_SPACE and
 * ERR_NO_ENTROPY. The same with units, ranges and examples: docs/api.md.
 */

import type { Readable } from 'node:stream';

/**
 * What an ingest can read. Strings are stored as UTF-8.
 *
 * The engine itself reads `{ path }` and `{ fd }`, without JavaScript for each chunk: the cheapest
 * way to back up a file. Regular files and block devices only. An open file is read from its
 * position at the call to its end. Its descriptor may be closed as soon as the call has returned,
 * and its offset does not change (on Windows it does, and the descriptor must stay open until the
 * promise settles). A file that changes while it is read is reported by the event `warning`
 * (WARN_SOURCE_CHANGED); with `expectedSize`, another size is an error.
 *
 * A stream or iterator that was read before is refused where this can be detected. The clean end of
 * some sources (sockets, stdout of a child process, ssh2, docker exec) does not prove that all
 * bytes arrived: docs/api.md lists them with a `commitWhen` for each.
 */
export type IngestSource =
  | NodeJS.ReadableStream
  | {
    // A web stream: that of Node and that of the DOM types differ.
    /** Whether another reader has it; then it is refused. */
    readonly locked: boolean;
    /** Called when the ingest fails or is aborted. */
    cancel(reason?: unknown): Promise<void>;
    /** Called once, for the reader of the ingest. */
    getReader(): {
      /** Called for each chunk, until it is `done`. */
      read(): Promise<{ done: boolean; value?: Uint8Array | string | undefined }>;
      /** Called at the end. */
      releaseLock(): void;
    };
  }
  | AsyncIterable<Uint8Array | string>
  | (Iterable<Uint8Array | string> & object)
  | Uint8Array
  | Blob
  | {
    /** A regular file or a block device. */
    path: string;
  }
  | {
    /** The descriptor of an open file. */
    fd: number;
  };

/** How chunks are compressed: an algorithm, or an algorithm and its level. */
export type Compression = 'gzip' | 'zstd' | 'none' | {
  /** 'none' stores chunks uncompressed. */
  algorithm: 'gzip' | 'zstd' | 'none';
  /**
   * gzip 1 to 9, zstd 1 to 19. A higher level is smaller and slower. Default 3. 'auto', for zstd
   * only: 4 of every 128 chunks are tried at levels 1 and 3, and level 1 is used until the next
   * trial where its output is at most 2 % larger.
   */
  level?: number | 'auto';
};

/**
 * A passphrase: a text, bytes, or a function that returns either, directly or as a promise (from a
 * keychain, for example). A function is called once per call, after all other arguments have been
 * checked. When it fails, the call rejects with ERR_PASSPHRASE_REQUIRED and its error as `cause`.
 * Bytes are copied before the call returns its promise, and the copies are wiped.
 */
export type Passphrase = string | Uint8Array | (() => string | Uint8Array | PromiseLike<string | Uint8Array>);

/** A raw key of 32 bytes, or a function that returns one, directly or as a promise. */
export type RawKey = Uint8Array | (() => Uint8Array | PromiseLike<Uint8Array>);

/**
 * Costs of Argon2id for a passphrase. `memory × time` may be at most 8,388,608 KiB (8 GiB), and
 * each lane needs 8 KiB of `memory`.
 */
export interface IKdf {
  /** Memory of one derivation in KiB, 19,456 to 2,097,152. Default 65,536 (64 MiB). */
  memory?: number;
  /** Passes over the memory, 2 to 16. Default 3. */
  time?: number;
  /** Lanes that run in parallel, 1 to 16. Default 4. */
  lanes?: number;
}

/**
 * How a repository on object storage is reached. What is absent is taken from the environment
 * (`AWS_*`, `GOOGLE_*`, `AZURE_*`) and from the identity of the machine, by the rules of each
 * service. Nothing of it is stored, and secrets are in no message.
 */
export interface IStorageOptions {
  /** URL of the service. Default: that of AWS, Google Cloud or Azure. */
  endpoint?: string;
  /** Region of an S3 bucket. Default: that of the environment or the profile, else us-east-1. */
  region?: string;
  /**
   * Profile in the files of the AWS command line, for S3. Default: `AWS_PROFILE` of the
   * environment, else `default`, each after the keys of the environment.
   */
  profile?: string;
  /** Access key of S3, or account of Azure. */
  accessKeyId?: string;
  /** Its secret. */
  secretAccessKey?: string;
  /** Token of temporary credentials of S3. */
  sessionToken?: string;
  /** Path of a service account file of Google Cloud. */
  serviceAccountFile?: string;
  /** Whether an S3 bucket is in the path of URLs (default) or, with false, in the host name. */
  pathStyle?: boolean;
  /** Path of PEM certificates that are trusted in addition to those of the system. */
  caFile?: string;
  /** Accept an endpoint without TLS. Default false. */
  allowHttp?: boolean;
  /**
   * Longest time in which nothing of a request is sent or received, in milliseconds, 1 to
   * 4,294,967,295. Default 60,000. A request that makes progress may take any time; after the last
   * bytes of a long one, up to three times as long is waited.
   */
  timeoutMs?: number;
  /** Longest duration of a connection attempt in milliseconds, 1 to 4,294,967,295. Default 5000. */
  connectTimeoutMs?: number;
  /** How often a request is repeated that failed for a passing reason, 0 to 100. Default 6. */
  retries?: number;
  /**
   * Directory in which manifests and parts of the index are kept between processes, as the service
   * has them; false for none. It is kept at about 256 MiB, and can be deleted at any time. Default:
   * `CONTAINERARCHIVE_CACHE_DIR` of the environment, else `containerarchive` in the user's
   * directory of caches.
   */
  cacheDir?: string | false;
}

/** Options of {@link ContainerArchive.open}. */
export interface IOpenOptions {
  /**
   * Opens an encrypted repository. Cannot be combined with `key`. Refused for a repository without
   * encryption.
   */
  passphrase?: Passphrase;
  /** A raw key of 32 bytes instead of a passphrase. */
  key?: RawKey;
  /** Refuse all writes through this handle. Default false. */
  readOnly?: boolean;
  /**
   * Open an encrypted repository without its keys, to verify it where no passphrase is available.
   * Such a handle supports only `verify`, at the levels 'quick' and 'standard', `mirrorTo` and
   * `close`; all other calls reject with ERR_PASSPHRASE_REQUIRED. Cannot be combined with
   * `passphrase` or `key`. Has no effect on a repository without encryption. Default false.
   */
  keyless?: boolean;
  /**
   * Worker threads, 1 to 1024. Default: the number of cores, in one pool for all handles without
   * this option.
   */
  threads?: number;
  /**
   * The most memory, in bytes, from 1, that all operations of this handle together use for their
   * buffers and caches. Default 201,326,592 (192 MiB). With more operations at once, buffers
   * shrink; after that, ingests wait for each other (`phase` of their progress). Each ingest counts
   * as 12 MiB (12 times the largest chunk where that is more than 1 MiB), and as 3 MiB for each
   * further item that `concurrency` reads at once. Two ingests always run. No other operation
   * waits. Memory of key derivations has a limit of its own, for the whole process.
   */
  memoryLimit?: number;
  /** How long to wait for a lock that another process holds, in milliseconds. Default 10,000. */
  lockWaitMs?: number;
  /**
   * Open and decode every new chunk before it is stored, and compare it with the source. This finds
   * most faults of failing memory. Default true.
   */
  verifyWrites?: boolean;
  /** Repair a damaged pack from parity after a restore has found it. Default true. */
  heal?: boolean;
  /**
   * Open only the repository with this id ({@link ContainerArchive.repositoryId}): the call rejects
   * with ERR_REPO_CHANGED when another one is at the path, and `openOrInit` creates none. 32 hex
   * digits. Default: any repository at the path.
   */
  repositoryId?: string;
  /** How the bucket is reached, for a URL. Refused for a path. */
  storage?: IStorageOptions;
  /**
   * Remove the mark of a mirror ({@link ContainerArchive.mirrorTo}), so that this copy can be
   * written to. Only once the repository itself is lost: two copies of one id that are both written
   * to diverge. Has no effect on a repository that is no mirror. Cannot be combined with `readOnly`
   * or `keyless`. Default false.
   */
  promote?: boolean;
  /**
   * Cancels the call: the promise rejects with `signal.reason`. Nothing is left of a repository
   * that was being created.
   */
  signal?: AbortSignal;
}

/**
 * Options of {@link ContainerArchive.init}: what is fixed for the life of the repository, and all
 * options of open. Without `passphrase` and `key` the repository is not encrypted. Omit both for
 * that: `undefined` (a variable that is not set) is refused.
 */
export interface IInitOptions extends Omit<IOpenOptions, 'keyless' | 'repositoryId' | 'promote'> {
  /**
   * Compression of ingests that do not choose their own. Default 'gzip'. 'zstd' is recommended:
   * gzip takes twice the CPU and 6 to 9 % more space.
   */
  compression?: Compression;
  /**
   * Sizes of chunks: even numbers, min ≤ avg ≤ max. All three are required.
   * Default { min: 65_536, avg: 262_144, max: 1_048_576 }.
   */
  chunking?: {
    /**
     * Smallest chunk in bytes, 64 to 1,048,576; the last chunk of a stream may be smaller.
     * Default 65,536.
     */
    min: number;
    /** Average size of a chunk in bytes, 256 to 4,194,304. Default 262,144. */
    avg: number;
    /** Largest chunk in bytes, 1024 to 8,388,608. Default 1,048,576. */
    max: number;
  };
  /**
   * Target size of a pack in bytes, 65,536 to 1,073,741,824. Default 8,388,608 (8 MiB); on object
   * storage 33,554,432 (32 MiB).
   */
  packSize?: number;
  /**
   * Reed-Solomon parity over packs, or false for none. Both numbers are required. Object storage
   * protects what it keeps by itself: there the default is false, and nothing else is accepted.
   * Default { data: 20, parity: 1 }.
   */
  parity?: {
    /** Packs in a full group, 1 to 224. Default 20. */
    data: number;
    /** Parity shards per group, 1 to 32: how many of its packs may be lost. Default 1. */
    parity: number;
  } | false;
  /** Costs of Argon2id for the passphrase, with the defaults of {@link IKdf}. */
  kdf?: IKdf;
}

/**
 * Options of {@link ContainerArchive.openOrInit}: all of init, and which repository is expected.
 */
export interface IOpenOrInitOptions extends IInitOptions {
  /**
   * As in {@link IOpenOptions}. No repository is created then: the call rejects with
   * ERR_REPO_NOT_FOUND. Default: any repository at the path.
   */
  repositoryId?: string;
}

/** A key of an encrypted repository: one of the passphrases or raw keys that open it. */
export interface IKey {
  /** 32 hex digits. */
  id: string;
  /** How it opens the repository: as a passphrase, or as a raw key of 32 bytes. */
  type: 'passphrase' | 'raw';
  /** When it was added, as ISO 8601. */
  createdAt: string;
  /** Absent when the key has no label. */
  label?: string;
  /** What one guess of the passphrase costs; null for a raw key. */
  kdf: Required<IKdf> | null;
  /** Whether this handle was opened with it. */
  current: boolean;
}

/** A new key: exactly one of `passphrase` and `key`. */
export interface INewKey {
  /** A passphrase, not empty. Cannot be combined with `key`. */
  passphrase?: Passphrase;
  /** A raw key of 32 bytes. */
  key?: RawKey;
  /**
   * Costs of Argon2id for the passphrase, with the defaults of {@link IKdf}; never those of an
   * older key.
   */
  kdf?: IKdf;
  /**
   * A name for people, 1 to 4096 bytes. Stored in clear: anyone who can read the storage can read
   * it.
   */
  label?: string;
  /** Cancels the call: the promise rejects with `signal.reason`, and the keys have not changed. */
  signal?: AbortSignal;
}

/**
 * The keys of a repository. Each of them opens all of it. A removed key no longer opens it, but
 * that is no revocation: anyone who copied the directory before, and knows the passphrase, can
 * still read that copy (docs/threat-model.md).
 *
 * The old key or the new one works at every moment, also after a crash.
 */
export interface IKeys {
  /**
   * Returns all keys, the oldest first; none for a repository without encryption. Damaged ones are
   * left out: see `verify()`.
   *
   * @throws {ContainerArchiveError} ERR_PASSPHRASE_REQUIRED on a handle with `keyless`.
   */
  list(): Promise<IKey[]>;
  /**
   * Adds a key. A repository has at most 31. When the promise rejects, the key may exist all the
   * same: see `list()`.
   *
   * @throws {ContainerArchiveError} ERR_NOT_ENCRYPTED; ERR_TOO_MANY_KEYS; ERR_PASSPHRASE_REQUIRED
   * when a function failed; ERR_REPO_LOCKED.
   */
  add(key: INewKey): Promise<IKey>;
  /**
   * Replaces a key: the one with this `id`, by default the one that this handle was opened with.
   * The new key is durable before the old one is removed. Without a `label` it gets that of the old
   * one.
   *
   * @throws {ContainerArchiveError} As {@link add}, and ERR_KEY_NOT_FOUND. Both keys may exist
   * then, unless it is `signal.reason`.
   */
  change(
    key: INewKey & {
      /** The key to replace, by its full id. Default: the one that opened this handle. */
      id?: string;
    },
  ): Promise<IKey>;
  /**
   * Removes a key, by its full id. Open handles stay open.
   *
   * @throws {ContainerArchiveError} ERR_LAST_KEY; ERR_KEY_NOT_FOUND; ERR_REPO_LOCKED.
   */
  remove(id: string): Promise<void>;
}

/**
 * Name and type of an item. Both are plain data: 1 to 4096 bytes of UTF-8, any characters. Neither
 * is ever used as a path.
 */
export interface IItemDescription {
  /** The name by which a restore finds the item. */
  name: string;
  /** What the item is, as 'database-dump'. It has no effect on how it is stored. Default 'data'. */
  type?: string;
}

/** One stream of {@link ContainerArchive.ingestMulti}. Names differ within a snapshot. */
export interface IIngestItem extends IItemDescription {
  /** What to read. Destroyed when the ingest fails. */
  stream: IngestSource;
  /**
   * Bytes that the stream must produce. One byte fewer or more: ERR_SOURCE_FAILED, no snapshot.
   * With it, the progress has a percentage.
   */
  expectedSize?: number;
}

/** Options of every ingest. */
export interface IIngestBaseOptions {
  /** Free labels, to find the snapshot by. Keys have 1 to 4096 bytes, values up to 4096. */
  tags?: Record<string, string>;
  /**
   * The time of the snapshot, for imports of older data: from 0000-01-01 to 9999-12-30T22:00:00Z.
   * Default: the start of the ingest.
   */
  createdAt?: string | Date;
  /** Compression of this ingest's new chunks. Default: that of the repository. */
  compression?: Compression;
  /** Keep a SHA-256 of each whole item in the snapshot. Costs a sequential pass over the data. */
  digest?: 'sha256';
  /**
   * The member index of items that are tars, which makes `files()`, `memberInfo()` and `restore({
   * member })` fast. With 'auto', each item that is a tar gets one; with true too, and a
   * WARN_NO_TAR_INDEX event for each item that gets none; with false, none does. Compressed tars
   * are not unpacked. Default 'auto'.
   */
  tarIndex?: 'auto' | boolean;
  /**
   * Nothing is published before this is fulfilled: a promise (the exit of the program that feeds
   * the stream), or a function that is called once all streams have ended and may return a promise.
   * A rejection: ERR_SOURCE_FAILED with it as `cause`, no snapshot; a rejection of a promise ends
   * the ingest at once. No lock is held while it is pending.
   */
  commitWhen?: PromiseLike<unknown> | (() => unknown);
  /**
   * Cancels the ingest: no snapshot, the streams are destroyed, and the promise rejects with
   * `signal.reason` at once. What was read until then is stored in the background; the next ingest
   * of this handle waits for it, and reuses it. An abort while the snapshot is being published is
   * too late: the promise resolves.
   */
  signal?: AbortSignal;
  /**
   * Called ten times a second while anything moves, once a second while nothing does, and once at
   * the end.
   */
  onProgress?: (progress: IIngestProgress) => void;
}

/** Options of {@link ContainerArchive.ingestMulti} and {@link ContainerArchive.ingestCommand}. */
export interface IIngestMultiOptions extends IIngestBaseOptions {
  /**
   * How many items are read at once, 1 to 16. Default 1: one after the other. A higher number helps
   * when the sources are slow. The items are in the snapshot in the order given, whatever the
   * number.
   */
  concurrency?: number;
}

/** Options of {@link ContainerArchive.ingest}. */
export interface IIngestOptions extends IIngestBaseOptions {
  /** Name and type of the one item. Default [{ name: 'data', type: 'data' }]. */
  items?: [IItemDescription] | IItemDescription[];
  /**
   * Bytes that the stream must produce. One byte fewer or more: ERR_SOURCE_FAILED, no snapshot.
   * With it, the progress has a percentage.
   */
  expectedSize?: number;
}

/** A command whose output is backed up, for {@link ContainerArchive.ingestCommand}. */
export interface IIngestCommand {
  /**
   * The program and its arguments. There is no shell: for pipes and variables, use
   * `['bash', '-e', '-o', 'pipefail', '-c', '…']`.
   */
  command: string[];
  /** Name of the item. */
  name: string;
  /** Type of the item. Default 'data'. */
  type?: string;
  /**
   * The longest time that the command may run, in milliseconds, 1 to 2,147,483,647. Default: no
   * limit.
   */
  timeoutMs?: number;
  /**
   * The exit codes with which the command has succeeded, each 0 to 4,294,967,295; 0 is one of them
   * only if it is in the list. Default [0]. Another one than 0 is reported by the event `warning`
   * (WARN_COMMAND_EXIT_CODE). `[0, 1]` for `tar` of a live volume: it exits with 1 when a file
   * changed while it was read, with 2 when it failed.
   */
  okExitCodes?: number[];
  /**
   * Fail (ERR_SOURCE_FAILED, no snapshot) when the command succeeds and has written nothing.
   * Default false: the item is empty, and the event `warning` (WARN_COMMAND_EMPTY) reports it,
   * except with `expectedSize: 0`.
   */
  refuseEmpty?: boolean;
  /** The working directory of the command. Default: that of this process. */
  cwd?: string;
  /** The complete environment of the command. Default: that of this process. */
  env?: Record<string, string | undefined>;
  /**
   * Bytes that the command must write. One byte fewer or more: ERR_SOURCE_FAILED, no snapshot. With
   * it, the progress has a percentage.
   */
  expectedSize?: number;
}

/** Options of {@link ContainerArchive.restore}. */
export interface IRestoreOptions {
  /** Only the item with this name. Default: all items, one after the other. */
  item?: string;
  /**
   * Only this member of the item, which is a tar: of a file its content, of a hard link that of its
   * file, of a directory a tar of everything in it. Excludes `range`. Without `item`, the only
   * item, or the only one with a member index.
   */
  member?: string | Buffer;
  /** Only a part of the bytes. Default: all. */
  range?: {
    /** The first byte. Default 0. */
    start?: number;
    /** The byte after the last one. Default: the size. */
    end?: number;
  };
  /** Destroys the stream with `signal.reason`. */
  signal?: AbortSignal;
}

/** Options of {@link ContainerArchive.restoreToFile}. */
export interface IRestoreToFileOptions {
  /** Only the item with this name. Default: all items, one after the other. */
  item?: string;
  /** Only this member of the item, as in {@link IRestoreOptions}. */
  member?: string | Buffer;
  /**
   * The file to write, in a directory that exists and is not inside the repository, also not
   * through a link or a bind mount.
   */
  path: string;
  /**
   * Replace an existing file, in one step. Anything that is not a regular file is never replaced.
   * Default false.
   */
  overwrite?: boolean;
  /**
   * Cancels the restore: nothing is left of it, and the promise rejects with `signal.reason`. Where
   * a flush takes longer than 150 ms, the hidden temporary file is deleted only after that.
   */
  signal?: AbortSignal;
  /**
   * Called ten times a second while anything moves, once a second while nothing does, and once at
   * the end.
   */
  onProgress?: (progress: IRestoreProgress) => void;
}

/** Options of {@link ContainerArchive.restoreToDirectory}. */
export interface IRestoreToDirectoryOptions {
  /** The item, which is a tar. Default: the only item, or the only one with a member index. */
  item?: string;
  /** Only this member, and everything in it. Default: all members. */
  member?: string | Buffer;
  /** The directory, not inside the repository. Its parent must exist. */
  to: string;
  /** Replace files that exist. Default false. */
  overwrite?: boolean;
  /** Names that are left out at the start of each path. From 0 to 4,294,967,295. Default 0. */
  stripComponents?: number;
  /**
   * Set owners and groups, by their numbers. Default: for root, true; for others, who may not give
   * files away, false.
   */
  owners?: boolean;
  /** Keep setuid and setgid of files. Default false. */
  setuid?: boolean;
  /** Create character and block devices, which only root may. Default false. */
  devices?: boolean;
  /**
   * Create symbolic links that lead out of the directory. Nothing is written through them. Default
   * false.
   */
  outsideLinks?: boolean;
  /** Cancels the restore: what is written stays, and the promise rejects with `signal.reason`. */
  signal?: AbortSignal;
  /** Called as in {@link IRestoreToFileOptions}. */
  onProgress?: (progress: IRestoreProgress) => void;
}

/** Members, and why something was not done with them. */
export interface IMemberNotices {
  /** Their number. */
  count: number;
  /** The first of them, at most 1000. */
  first: {
    /** The path in the tar; at most its first 4096 bytes. */
    path: string | Buffer;
    /** Why, for people. */
    reason: string;
  }[];
}

/** The result of {@link ContainerArchive.restoreToDirectory}. */
export interface IRestoredDirectory {
  /** The directory. */
  to: string;
  /** Regular files that were written. */
  files: number;
  /** Directories of the tar. */
  directories: number;
  /** Hard links. */
  hardLinks: number;
  /** Symbolic links. */
  symlinks: number;
  /** Named pipes, and devices. */
  special: number;
  /** Bytes written to files, without holes. */
  bytes: number;
  /** Members that `stripComponents` left no name of. */
  stripped: number;
  /** Hard links to a file that is not in the item. */
  lostLinks: number;
  /** Members that should have got their owners, and were not allowed to. */
  ownersNotKept: number;
  /** Members that were written without something that the tar states, such as setuid. */
  changed: IMemberNotices;
  /** Members that were not written. */
  skipped: IMemberNotices;
  /**
   * Whether the tar of the item has its end, also where a part of it was restored. Without it,
   * members may be missing.
   */
  isComplete: boolean;
}

/** The type of a member of a tar. */
export type MemberType =
  | 'file'
  | 'hardlink'
  | 'symlink'
  | 'directory'
  | 'fifo'
  | 'characterDevice'
  | 'blockDevice'
  | 'other';

/** A member of a tar. Names that are no UTF-8 are Buffers. */
export interface IMember {
  /** The names of its path, joined with '/': without './' in front and '/' at the end. */
  path: string | Buffer;
  /** Its type. */
  type: MemberType;
  /** Length of its content in bytes; of a sparse file with its holes. */
  size: number;
  /**
   * Permissions. Absent, as all that follows, for a directory that has no member of its own, but
   * others in it.
   */
  mode?: number;
  /** Number of the owner. */
  uid?: number;
  /** Number of the group. */
  gid?: number;
  /** Name of the owner, or ''. */
  user?: string | Buffer;
  /** Name of the group, or ''. */
  group?: string | Buffer;
  /** Time of the last change in milliseconds since 1970. */
  mtimeMs?: number;
  /** Target of a symbolic link; of a hard link, the path of its file. */
  link?: string | Buffer;
  /** Of a device. */
  device?: {
    /** Its major number. */
    major: number;
    /** Its minor number. */
    minor: number;
  };
  /** The path as it is stored in the tar. */
  rawPath?: string | Buffer;
  /** Offset of its first header in the item. */
  headerOffset?: number;
  /** Offset of its stored data in the item. */
  dataOffset?: number;
  /** Length of its stored data. */
  storedSize?: number;
  /** True when a later member has the same path. Only with `all`. */
  isSuperseded?: boolean;
}

/** Options of {@link ContainerArchive.files}. */
export interface IFilesOptions {
  /** The item, which is a tar. Default: the only item, or the only one with a member index. */
  item?: string;
  /** The directory whose members are listed, or one other member. Default: the whole tar. */
  member?: string | Buffer;
  /** List what is in the directories below it too. Default false. */
  recursive?: boolean;
  /** Of several members with one path, list each; the last one counts. Default false. */
  all?: boolean;
  /** Ends the list: the iterator throws `signal.reason`. */
  signal?: AbortSignal;
}

/** Options of {@link ContainerArchive.memberInfo}. */
export interface IMemberInfoOptions {
  /** The item, which is a tar. Default: the only item, or the only one with a member index. */
  item?: string;
  /**
   * The path. Empty names and '.' in it mean nothing, and neither does '/' in front or at the end.
   */
  member: string | Buffer;
}

/** Options of {@link ContainerArchive.diff}. */
export interface IDiffOptions {
  /** The item of both snapshots. Default: the only item, or the only one with a member index. */
  item?: string;
  /** Ends the comparison: the iterator throws `signal.reason`. */
  signal?: AbortSignal;
}

/** A member that differs between two snapshots. */
export interface IMemberChange {
  /**
   * 'added': only the second snapshot has it; 'removed': only the first; 'changed': type, size,
   * permissions, owner, time or link target differ.
   */
  change: 'added' | 'removed' | 'changed';
  /** The path. */
  path: string | Buffer;
  /** In the first snapshot, unless it was added. */
  before?: IMember;
  /** In the second snapshot, unless it was removed. */
  after?: IMember;
}

/** Progress of a restore into a file. */
export interface IRestoreProgress {
  /** Always 'restore'. */
  operation: 'restore';
  /** The same in all progress of one call. */
  operationId: string;
  /** For people. */
  message: string;
  /**
   * 0 to 99.9 with one decimal, and 100 once, at the end; null before the amount is known.
   */
  percentage: number | null;
  /** Bytes written so far. */
  bytesDone: number;
  /** Bytes of what is restored; null before the amount is known. */
  bytesTotal: number | null;
  /** The average since the start. */
  bytesPerSecond: number;
  /** 0 at the end; null while it cannot be estimated. */
  etaSeconds: number | null;
  /** Chunks written so far. */
  chunks: number;
  /** The requested item, or null. */
  item: string | null;
  /** Time since anything moved, in milliseconds: 0 while something does. */
  stalledMs: number;
  /** Milliseconds since the start of the call. */
  elapsedMs: number;
}

/** What was restored into a file. */
export interface IRestoredFile {
  /** Absolute. */
  path: string;
  /** 32 hex digits; the full id when a prefix or `latest` was passed. */
  snapshotId: string;
  /** Bytes. */
  size: number;
}

/** Which snapshots to look at. */
export interface ISnapshotFilter {
  /** All of these tags must be equal. */
  tags?: Record<string, string>;
  /**
   * Created at this time or later: an ISO 8601 date (midnight UTC), or date and time with zone, or
   * a `Date`.
   */
  after?: string | Date;
  /** Created before this time. */
  before?: string | Date;
}

/** Options of {@link ContainerArchive.listSnapshots}. */
export interface ISnapshotListOptions extends ISnapshotFilter {
  /** The largest number of snapshots, from 1: the first ones of the list. Default: all. */
  limit?: number;
}

/** One item of a snapshot. */
export interface ISnapshotItem {
  /** Unique within the snapshot. */
  name: string;
  /** As it was passed to the ingest. */
  type: string;
  /** Bytes. */
  size: number;
  /** Chunks that the item consists of; a repeated one counts each time. */
  chunkCount: number;
  /** SHA-256 of the whole item as hex, when the ingest was called with `digest`. */
  sha256?: string;
}

/** A snapshot. */
export interface ISnapshot {
  /** 32 hex digits. */
  id: string;
  /** Version of the manifest. */
  version: number;
  /** The start of the ingest, or the `createdAt` that was passed to it, as ISO 8601. */
  createdAt: string;
  /** The labels that were passed to the ingest. */
  tags: Record<string, string>;
  /** Bytes of all items. */
  originalSize: number;
  /** Bytes of the chunks that this ingest added, after compression and encryption. */
  storedSize: number;
  /** Chunks of all items; a repeated one counts each time. */
  chunkCount: number;
  /** Chunks that were not in the repository before. */
  newChunks: number;
  /** Chunks that were in the repository before, or occurred earlier in this snapshot. */
  reusedChunks: number;
  /**
   * Of a copy ({@link ContainerArchive.copyTo}): the snapshot that was ingested. Absent in other
   * snapshots.
   */
  copiedFrom?: {
    /** The repository that it was ingested into. */
    repositoryId: string;
    /** Its id there. */
    snapshotId: string;
  };
  /** The items, in the order given to the ingest. */
  items: ISnapshotItem[];
}

/** Progress of an ingest. */
export interface IIngestProgress {
  /** Always 'ingest'. */
  operation: 'ingest';
  /** The same in all progress of one call, and in its `ingest:complete`. */
  operationId: string;
  /**
   * 'waiting' while other ingests of the handle use its memory (see `memoryLimit`): the source is
   * not read yet, no lock is held, and `signal` and `close()` end the wait. Then 'running'.
   */
  phase: 'waiting' | 'running';
  /** For people. */
  message: string;
  /**
   * 0 to 99.9 with one decimal, and 100 once, at the end; null while the size is unknown. Known are
   * the sizes of `{ path }`, `{ fd }`, `fs.ReadStream`, HTTP messages with a `content-length`,
   * `Uint8Array` and `Blob`, and with `expectedSize` all.
   */
  percentage: number | null;
  /** Bytes that have come from the sources; storing them may take longer. */
  bytesDone: number;
  /** Null while the size is unknown. */
  bytesTotal: number | null;
  /** A moving average; in the last one, the average of the whole ingest. */
  bytesPerSecond: number;
  /** 0 at the end; null while it cannot be estimated. */
  etaSeconds: number | null;
  /** Bytes of new chunks, before compression. */
  newBytes: number;
  /** Bytes of chunks that were in the repository before. */
  reusedBytes: number;
  /** Bytes of new chunks, after compression and encryption. */
  storedBytes: number;
  /** Chunks so far, new and reused. */
  chunks: number;
  /** The level that `level: 'auto'` uses now: 1 or 3. Otherwise null. */
  compressionLevel: number | null;
  /** Name of the item that is being read. */
  item: string | null;
  /** Items that have been read to their end. */
  itemsDone: number;
  /** Items of the snapshot. */
  itemsTotal: number;
  /** Time since anything moved, in milliseconds: 0 while something does. */
  stalledMs: number;
  /** Milliseconds since the start of the call. */
  elapsedMs: number;
}

/** Options of {@link ContainerArchive.verify}. */
export interface IVerifyOptions {
  /**
   * How much is read. Default 'standard'.
   * - `quick`: the index is consistent; names and lengths of packs, `.idx` files, manifests, key
   *   files and parity groups. No pack is read, unless something is damaged and the affected
   *   snapshots must be determined.
   * - `standard`: in addition, every stored byte is hashed.
   * - `full`: in addition, every chunk is decrypted, decoded and hashed, every list of every
   *   snapshot is walked, and every member index is read. As long as that reads no more than 1 GiB,
   *   or than the packs have, and without `subset`, they are also compared with the headers of
   *   their tars.
   */
  level?: 'quick' | 'standard' | 'full';
  /**
   * 'n/t', 1 ≤ n ≤ t ≤ 4,294,967,295: of the bytes of packs and parity, read only the n-th of t
   * equal parts, by pack id. All t parts together cover everything. What `quick` checks is always
   * checked in full.
   */
  subset?: string;
  /** Cancels the verify: the promise rejects with `signal.reason`. */
  signal?: AbortSignal;
  /**
   * Called ten times a second while anything moves, once a second while nothing does, and once at
   * the end.
   */
  onProgress?: (progress: IVerifyProgress) => void;
}

/**
 * Something that is damaged or missing, or that could not be read (`ERR_UNREADABLE`, which is no
 * statement about its bytes).
 */
export interface IVerifyError {
  /** Stable: see docs/errors.md. More may be added. */
  code: string;
  /** What is wrong, for people. */
  error: string;
  /** The pack it is about, or that contains the chunk. */
  pack?: string;
  /** The chunk it is about. */
  chunk?: string;
  /** The file it is about, relative to the repository. */
  path?: string;
  /**
   * Ids of the snapshots that cannot be restored completely because of it, without the help of
   * parity.
   */
  snapshots: string[];
  /** The affected items of these snapshots. */
  items: {
    /** 32 hex digits. */
    snapshotId: string;
    /** Name of the item. */
    item: string;
  }[];
  /** Whether it can be repaired with what is there now. */
  healable: boolean;
}

/** Something that is no error: a leftover of a crash, or the work of another process. */
export interface IVerifyNote {
  /** Stable: see docs/errors.md. More may be added. */
  code: string;
  /** What it is, for people. */
  message: string;
  /** The pack it is about. */
  pack?: string;
  /** The file it is about, relative to the repository. */
  path?: string;
}

/** What a verify found. */
export interface IVerifyResult {
  /** Whether `errors` is empty. */
  ok: boolean;
  /** Everything that is damaged, missing or unreadable. */
  errors: IVerifyError[];
  /** What is no error: leftovers, and the work of other processes. */
  notes: IVerifyNote[];
  /** How much was checked. */
  stats: {
    /**
     * At 'quick', packs whose name, length and `.idx` were checked; else packs that were read
     * completely.
     */
    packsChecked: number;
    /**
     * At 'full', chunks that were decoded and hashed; else chunks that were compared with the
     * index.
     */
    chunksChecked: number;
    /** Snapshots whose manifests were checked. */
    snapshotsChecked: number;
  };
}

/** Progress of a verify. */
export interface IVerifyProgress {
  /** Always 'verify'. */
  operation: 'verify';
  /** The same in all progress of one call, and in its `verify:error`. */
  operationId: string;
  /** The level of the call. */
  level: 'quick' | 'standard' | 'full';
  /** For people. */
  message: string;
  /**
   * 0 to 99.9 with one decimal, and 100 once, at the end; null before the amount to read is known.
   */
  percentage: number | null;
  /** Bytes read and checked. */
  bytesDone: number;
  /** Bytes to read; null before the amount is known. */
  bytesTotal: number | null;
  /** The average since the start. */
  bytesPerSecond: number;
  /** 0 at the end; null while it cannot be estimated. */
  etaSeconds: number | null;
  /** Chunks checked so far. */
  chunks: number;
  /** Packs. */
  itemsDone: number;
  /** Problems so far. */
  errors: number;
  /** Time since anything moved, in milliseconds: 0 while something does. */
  stalledMs: number;
  /** Milliseconds since the start of the call. */
  elapsedMs: number;
}

/** Options of {@link ContainerArchive.repair}. */
export interface IRepairOptions {
  /**
   * The promise that no other process uses the repository. Needed on object storage, where no lock
   * keeps others out: ERR_EXCLUSIVE_REQUIRED without it. Default false.
   */
  exclusive?: boolean;
  /**
   * Cancels the repair: the promise rejects with `signal.reason`. What was repaired stays repaired,
   * and the next repair continues.
   */
  signal?: AbortSignal;
  /**
   * Called ten times a second while anything moves, once a second while nothing does, and once at
   * the end.
   */
  onProgress?: (progress: IRepairProgress) => void;
}

/** Progress of a repair. */
export interface IRepairProgress {
  /** Always 'repair'. */
  operation: 'repair';
  /** The same in all progress of one call. */
  operationId: string;
  /** For people. */
  message: string;
  /**
   * 0 to 99.9 with one decimal while packs are read, and 100 once, at the end; null before the
   * amount is known.
   */
  percentage: number | null;
  /** Bytes of packs read. */
  bytesDone: number;
  /** Bytes of packs to read; null before the amount is known. */
  bytesTotal: number | null;
  /** The average since the start. */
  bytesPerSecond: number;
  /** 0 at the end; null while it cannot be estimated. */
  etaSeconds: number | null;
  /** Time since anything moved, in milliseconds: 0 while something does. */
  stalledMs: number;
  /** Milliseconds since the start of the call. */
  elapsedMs: number;
}

/** What a repository contains, and the space it takes. All sizes in bytes. */
export interface IStats {
  /** Snapshots that can be listed, and their items. */
  snapshots: number;
  /** Items of all these snapshots. */
  items: number;
  /** What a restore of every snapshot would produce. */
  originalBytes: number;
  /** Different chunks of data, including those that no snapshot needs any more. */
  chunks: number;
  /** Their length before compression, each counted once. */
  uniqueBytes: number;
  /** Their length as stored, each counted once. */
  storedBytes: number;
  /** `originalBytes / uniqueBytes`: how many times the chunks are used. `null` without chunks. */
  dedupRatio: number | null;
  /** `uniqueBytes / storedBytes`. `null` without chunks. */
  compressionRatio: number | null;
  /** Packs of data and of lists. */
  packs: number;
  /** Lengths of all files, by their kind. */
  bytes: {
    /** All files of the repository. */
    total: number;
    /** Packs with chunks of data. */
    dataPacks: number;
    /** Packs with lists of chunks and copies of manifests. */
    metaPacks: number;
    /** The `.idx` files of packs. */
    packIndexes: number;
    /** Files of parity groups. */
    parity: number;
    /** The global index. */
    index: number;
    /** Manifests. */
    snapshots: number;
    /** Key files and their copies. */
    keys: number;
    /** What repairs moved to `quarantine/`. */
    quarantine: number;
    /** Settings, locks, records, kill lists, the reserve. */
    other: number;
  };
  /** `null` in a repository without parity. */
  parity: {
    /** Packs in a full group. */
    data: number;
    /** Parity shards of a full group. */
    parity: number;
    /** Parity groups. */
    groups: number;
    /** Lengths of all parity files. */
    bytes: number;
    /**
     * `bytes` as a share of the packs that they protect: 0.05 at best for 20 packs and one shard.
     * `null` without packs.
     */
    ratio: number | null;
  } | null;
  /** The service of a repository on object storage; `null` in a directory. */
  objectStorage: {
    /**
     * Whether it keeps objects from being overwritten: with anything but 'honoured', one process at
     * a time may write. `null` when it was not asked, because the handle is read-only.
     */
    conditionalPut: 'honoured' | 'ignored' | 'refused' | null;
  } | null;
}

/** Options of {@link ContainerArchive.report}. */
export interface IReportOptions {
  /**
   * Show what {@link ContainerArchive.prune} would keep by this policy, and why. Its `timeZone` and
   * `dayStartsAt` are those of the page. Default: no policy, and times in UTC.
   */
  policy?: IRetentionPolicy;
  /** Cancels the call: the promise rejects with `signal.reason`. */
  signal?: AbortSignal;
}

/** What a repair did, and what it could not repair. */
export interface IRepairResult {
  /** Whether a part of the index was missing or wrong and has been rebuilt. */
  indexRebuilt: boolean;
  /** Packs that were restored, byte for byte. */
  packsRepaired: number;
  /** Stale leases that were removed. */
  locksRemoved: number;
  /** `.idx` files that were rewritten. */
  idxRepaired: number;
  /** Manifests that were rewritten from their copies. */
  manifestsRestored: number;
  /** Member indexes of tars that had lost chunks and were rebuilt from the headers. */
  memberIndexesRebuilt: number;
  /**
   * Parity files that were rewritten, groups that were recreated, and packs that were without
   * parity and now have it.
   */
  parityRepaired: number;
  /** Key files and copies of key files that were rewritten. */
  keysRepaired: number;
  /** Whether `config.json` was rewritten. */
  configRepaired: boolean;
  /** Chunks that were copied out of packs that cannot be repaired. */
  chunksSalvaged: number;
  /**
   * Files that this repair moved to `quarantine/`, relative to the repository. Nothing is ever
   * deleted there.
   */
  quarantined: string[];
  /** Chunks that snapshots need and of which no copy is left. */
  lostChunks: number;
  /** Snapshots that are incomplete. They are kept, and what is intact of them can be restored. */
  damagedSnapshots: {
    /** 32 hex digits. */
    id: string;
    /**
     * Empty when the manifest itself is lost. `missing`: start and end (exclusive) of each missing
     * range, at most 4096; the last one then also covers everything up to the last missing byte.
     * Empty when only what describes the item, such as its member index, has lost chunks: its
     * bytes are intact.
     */
    items: {
      /** Name of the item. */
      name: string;
      /** Missing ranges of bytes. */
      missing: [start: number, end: number][];
    }[];
  }[];
}

/**
 * How many snapshots a rule keeps: a whole number, 0 to 4,294,967,295, or all there are. Default 0:
 * the rule is off.
 */
export type RetentionCount = number | 'all';

/**
 * Which snapshots are kept. A snapshot is kept when any of the rules selects it, so adding a rule
 * or raising a number never removes more. The newest snapshot of each group is always kept; so is
 * one that is dated more than 5 minutes in the future, which counts for no rule. A policy that
 * keeps nothing, an unknown key and a value of the wrong type are refused (ERR_INVALID_POLICY).
 *
 * `keepDays: 7` keeps the newest snapshot of each of the last 7 days *that have one*, so that a job
 * that was not running loses nothing. Everything of the last 7 days is `keepWithin: '7d'`. The same
 * applies to hours, weeks, months and years. While a rule finds fewer than it asks for, it keeps
 * the oldest snapshot too. Details and examples: docs/retention.md.
 */
export interface IRetentionPolicy {
  /** The newest snapshots. */
  keepLast?: RetentionCount;
  /** One per clock hour. */
  keepHours?: RetentionCount;
  /** One per calendar day. */
  keepDays?: RetentionCount;
  /** One per week, Monday to Sunday (ISO 8601). */
  keepWeeks?: RetentionCount;
  /** One per calendar month. */
  keepMonths?: RetentionCount;
  /** One per calendar year. */
  keepYears?: RetentionCount;
  /**
   * Every snapshot at most this old, that age included: '36h', '7d', '2w', '1y6m'; the units y, m,
   * w, d, h in this order. Years, months, weeks and days are those of the calendar: a month before
   * 31 March is 28 February.
   */
  keepWithin?: string;
  /** Snapshots that have all tags of one of these; the value '*' matches any value. */
  keepTags?: Record<string, string>[];
  /** These snapshots, by their full ids. */
  keepIds?: string[];
  /**
   * Snapshots that differ in one of these tags are counted separately, as `['service']`. Default
   * []: all snapshots are one group.
   */
  groupBy?: string[];
  /**
   * IANA name of the time zone of hours, days, weeks, months and years, as 'Europe/Berlin'. Default
   * 'UTC', on every machine; the command line has the zone of the machine as its default. The zone
   * of the process is `Intl.DateTimeFormat().resolvedOptions().timeZone`; in containers that is
   * usually UTC.
   */
  timeZone?: string;
  /**
   * When a day begins, 'HH:MM': with '06:00' a run at 3 o'clock belongs to the day before. Default
   * '00:00'.
   */
  dayStartsAt?: string;
  /**
   * What `keepWithin` is counted back from: the newest snapshot of the group, or the time of the
   * prune. Default 'latest'.
   */
  anchor?: 'latest' | 'now';
}

/** Options of {@link ContainerArchive.planPrune}. */
export interface IPlanPruneOptions {
  /**
   * Apply the policy only to snapshots that have all of these tags; all others are kept. Default:
   * all snapshots.
   */
  filter?: {
    /** All of these tags must be equal. Default {}. */
    tags?: Record<string, string>;
  };
  /**
   * Share of the stored bytes, 0 to 1, that may remain as waste in partly used packs. A smaller
   * share takes less space and needs more copying; 1 copies nothing, not even small packs. Default
   * 0.05.
   */
  maxUnused?: number;
  /**
   * Do not spare what live ingests of this or other processes may rely on. Such an ingest then
   * fails with ERR_CONFLICT, or commits a complete snapshot. Default false.
   */
  force?: boolean;
  /**
   * Cancels the prune: the promise rejects with `signal.reason`. What was done stays done, and the
   * next prune continues. No snapshot is removed after the rejection.
   */
  signal?: AbortSignal;
  /**
   * Called ten times a second while anything moves, once a second while nothing does, and once at
   * the end.
   */
  onProgress?: (progress: IPruneProgress) => void;
}

/** Options of {@link ContainerArchive.prune}. */
export interface IPruneOptions extends IPlanPruneOptions {
  /** Only report what would be done; nothing is written. Default false. */
  dryRun?: boolean;
  /**
   * Wait for the live ingests that delay a part of the prune, and sweep that too. Default false.
   */
  wait?: boolean;
  /**
   * The promise that no other process uses the repository. Needed on object storage where the
   * service does not honour the condition of a put, or the repository has parity:
   * ERR_EXCLUSIVE_REQUIRED without it. Default false.
   */
  exclusive?: boolean;
}

/** Progress of a prune. */
export interface IPruneProgress {
  /** Always 'prune'. */
  operation: 'prune';
  /** The same in all progress of one call, and in its `prune:complete`. */
  operationId: string;
  /** For people. */
  message: string;
  /**
   * 0 to 99.9 with one decimal while packs are copied, and 100 once, at the end; null before the
   * amount is known.
   */
  percentage: number | null;
  /** Bytes of packs. */
  bytesDone: number;
  /** Bytes of packs; null before the amount is known. */
  bytesTotal: number | null;
  /** The average since the start. */
  bytesPerSecond: number;
  /** 0 at the end; null while it cannot be estimated. */
  etaSeconds: number | null;
  /** Time since anything moved, in milliseconds: 0 while something does. */
  stalledMs: number;
  /** Milliseconds since the start of the call. */
  elapsedMs: number;
}

/** A snapshot that a policy was applied to. */
export interface IPruneChoice {
  /** 32 hex digits. */
  id: string;
  /** As in the snapshot, ISO 8601. */
  createdAt: string;
  /** The tags of `groupBy` that it has. */
  group: Record<string, string>;
}

/** What a prune did; for a dry run, what it would do. */
export interface IPruneResult {
  /** Snapshots that the policy did not keep, and that were removed. */
  removedSnapshots: number;
  /**
   * Packs that were deleted because no snapshot needs them, including what an interrupted prune had
   * left.
   */
  removedPacks: number;
  /**
   * Packs whose needed chunks were copied into others; they were deleted, or are counted in
   * `pendingBytes`.
   */
  rewrittenPacks: number;
  /** Bytes of stored chunks that were deleted. */
  freedBytes: number;
  /**
   * Bytes of stored chunks that a later prune deletes, because live ingests may still rely on them.
   * See `wait`.
   */
  pendingBytes: number;
  /** Whether nothing was written. */
  dryRun: boolean;
  /**
   * What is kept, newest first, and why: 'newest', 'keepDays 3/7', 'keepMonths oldest',
   * 'keepWithin 7d', 'keepTags', 'keepIds', 'future', 'filter'.
   */
  keep: (IPruneChoice & {
    /** The rules that select it. */
    reasons: string[];
  })[];
  /** What is removed, newest first. */
  remove: IPruneChoice[];
  /** The time zone that the rules were applied in. */
  timeZone: string;
  /**
   * What is probably not intended, for people: tags that no snapshot has, snapshots dated in the
   * future, lost manifests, packs that are kept because they are damaged, packs without parity.
   */
  warnings: string[];
  /**
   * Ids of packs that are kept without parity, because the disk had no space for it;
   * `WARN_PACKS_UNPROTECTED` names them too. They are intact; the next prune or `repair()` protects
   * them.
   */
  unprotectedPacks: string[];
}

/** A prune ended. The figures are those of {@link IPruneResult}. */
export interface IPruneComplete {
  /** That of the progress. */
  operationId: string;
  /** As in the result. */
  removedSnapshots: number;
  /** As in the result. */
  removedPacks: number;
  /** As in the result. */
  rewrittenPacks: number;
  /** As in the result. */
  freedBytes: number;
  /** As in the result. */
  pendingBytes: number;
  /** Whether nothing was written. */
  dryRun: boolean;
}

/** Options of {@link ContainerArchive.copyTo}. */
export interface ICopyOptions {
  /** Ids, unambiguous prefixes or 'latest'. Default: all snapshots. */
  snapshots?: string[];
  /** Of these, only snapshots that match. Default: all. */
  filter?: ISnapshotFilter;
  /**
   * Cancels the call: the promise rejects with `signal.reason`. Snapshots that were copied stay,
   * and the next call reuses what was stored of the others.
   */
  signal?: AbortSignal;
  /** Called ten times a second while anything moves, once a second while nothing does. */
  onProgress?: (progress: ICopyProgress) => void;
}

/** Progress of a copy. */
export interface ICopyProgress {
  /** Always 'copy'. */
  operation: 'copy';
  /** The same in all progress of one call, and in its `copy:complete`. */
  operationId: string;
  /** For people. */
  message: string;
  /** 0 to 99.9 with one decimal, and 100 once, at the end; null before the amount is known. */
  percentage: number | null;
  /** Bytes of items whose chunks the target has by now. */
  bytesDone: number;
  /** Null before the amount is known. */
  bytesTotal: number | null;
  /** The average since the start. */
  bytesPerSecond: number;
  /** 0 at the end; null while it cannot be estimated. */
  etaSeconds: number | null;
  /** Time since anything moved, in milliseconds: 0 while something does. */
  stalledMs: number;
  /** Milliseconds since the start of the call. */
  elapsedMs: number;
}

/** What was copied. */
export interface ICopyResult {
  /** The copied snapshots, oldest first. */
  copied: {
    /** Id in this repository. */
    from: string;
    /** Id in the target. */
    to: string;
  }[];
  /** Ids of snapshots that the target had already. */
  skipped: string[];
  /** Snapshots that could not be read completely, and were not copied. */
  failed: {
    /** Id in this repository. */
    id: string;
    /** A {@link ContainerArchiveErrorCode}. */
    code: string;
    /** For people. */
    message: string;
  }[];
  /** Bytes of the items of the copied snapshots. */
  originalBytes: number;
  /** Bytes of chunks that the target did not have. */
  newBytes: number;
  /** Bytes that were stored for them, after compression and encryption. */
  storedBytes: number;
}

/** Options of {@link ContainerArchive.mirrorTo}. */
export interface IMirrorOptions {
  /**
   * Also delete what the repository no longer has: forgotten snapshots, and files that a prune or a
   * later ingest has replaced. Default false.
   */
  delete?: boolean;
  /** Change nothing, and report what would be done. Default false. */
  dryRun?: boolean;
  /** How the bucket is reached, for a URL. Refused for a path. */
  storage?: IStorageOptions;
  /**
   * Cancels the call: the promise rejects with `signal.reason`. The mirror is whole as far as it
   * goes, and the next call continues.
   */
  signal?: AbortSignal;
  /** Called ten times a second while anything moves, once a second while nothing does. */
  onProgress?: (progress: IMirrorProgress) => void;
}

/** Progress of a mirroring. */
export interface IMirrorProgress {
  /** Always 'mirror'. */
  operation: 'mirror';
  /** The same in all progress of one call, and in its `mirror:complete`. */
  operationId: string;
  /** For people. */
  message: string;
  /** 0 to 99.9 with one decimal, and 100 once, at the end; null before the amount is known. */
  percentage: number | null;
  /** Bytes of files that were copied. */
  bytesDone: number;
  /** Null before the amount is known. */
  bytesTotal: number | null;
  /** The average since the start. */
  bytesPerSecond: number;
  /** 0 at the end; null while it cannot be estimated. */
  etaSeconds: number | null;
  /** Time since anything moved, in milliseconds: 0 while something does. */
  stalledMs: number;
  /** Milliseconds since the start of the call. */
  elapsedMs: number;
}

/** What a mirroring did; for a dry run, what it would do. */
export interface IMirrorResult {
  /** Snapshots in the mirror. */
  snapshots: number;
  /** Ids of snapshots that the mirror did not have. */
  copiedSnapshots: string[];
  /** Ids of snapshots that were deleted from the mirror. */
  removedSnapshots: string[];
  /** Files that were copied. */
  copiedFiles: number;
  /** Bytes of these files. */
  copiedBytes: number;
  /** Files that were deleted. */
  removedFiles: number;
  /** Bytes of these files. */
  removedBytes: number;
  /** Packs that are damaged in the repository, and were rebuilt from parity for the mirror. */
  rebuiltPacks: number;
  /** Whether nothing was written. */
  dryRun: boolean;
}

/** The lease of a session: which operation writes, or wrote. */
export interface ILock {
  /** 32 hex digits. That of an ingest is the id of its snapshot. */
  session: string;
  /** Whether its process still runs. */
  held: boolean;
  /** 'ingest', 'prune', 'repair' or 'reindex'; null when the file is damaged. */
  operation: string | null;
  /** Null when the file is damaged. */
  startedAt: string | null;
}

/** A snapshot was created. */
export interface IIngestComplete {
  /** That of the progress. */
  operationId: string;
  /** 32 hex digits. */
  snapshotId: string;
  /** Chunks that were not in the repository before. */
  newChunks: number;
}

/**
 * Something was wrong and did no harm: a damaged part of the index was skipped, a manifest could
 * not be listed, a command wrote nothing.
 */
export interface IWarning {
  /** Stable: see docs/errors.md. More may be added. */
  code: string;
  /** What happened and what was done, for people. */
  message: string;
  /** The pack it is about, 64 hex digits. */
  pack?: string;
  /** The item whose command it is about. */
  item?: string;
  /** The exit code of that command, where it is not 0. */
  exitCode?: number;
  /** The last bytes that this command wrote to stderr, at most 4096. */
  stderrTail?: string;
}

/** A file was restored. */
export interface IRestoreComplete {
  /** That of the progress. */
  operationId: string;
  /** 32 hex digits. */
  snapshotId: string;
  /** Absolute. */
  path: string;
  /** Bytes. */
  size: number;
}

/** A repair ended. The figures are those of {@link IRepairResult}. */
export interface IRepairComplete extends IRepairResult {
  /** That of the progress. */
  operationId: string;
}

/** A copy ended. The figures are those of {@link ICopyResult}. */
export interface ICopyComplete extends ICopyResult {
  /** That of the progress. */
  operationId: string;
}

/** A mirroring ended. The figures are those of {@link IMirrorResult}. */
export interface IMirrorComplete extends IMirrorResult {
  /** That of the progress. */
  operationId: string;
}

/** A damaged pack was repaired. */
export interface IPackHealed {
  /** 64 hex digits. */
  pack: string;
}

/** The events of a handle. Warnings of `open()` itself go to the first listener. */
export interface IContainerArchiveEvents {
  /** An ingest is running. */
  'ingest:progress': IIngestProgress;
  /** A snapshot was created. */
  'ingest:complete': IIngestComplete;
  /** Of `restoreToFile()` and `restoreToDirectory()`. */
  'restore:progress': IRestoreProgress;
  /** Of `restoreToFile()`: the file is complete. */
  'restore:complete': IRestoreComplete;
  /** A verify is running. */
  'verify:progress': IVerifyProgress;
  /**
   * As soon as a problem is fully known; for damaged packs and chunks, once the affected snapshots
   * are known.
   */
  'verify:error': IVerifyError & {
    /** That of the progress. */
    operationId: string;
  };
  /** A repair is running. */
  'repair:progress': IRepairProgress;
  /** A repair ended. */
  'repair:complete': IRepairComplete;
  /** A restore repaired a damaged pack from parity. */
  'repair:healed': IPackHealed;
  /** A prune is running, or a dry run of one. */
  'prune:progress': IPruneProgress;
  /** Dry runs too. */
  'prune:complete': IPruneComplete;
  /** A copy is running. */
  'copy:progress': ICopyProgress;
  /** A copy ended. */
  'copy:complete': ICopyComplete;
  /** A mirroring is running, or a dry run of one. */
  'mirror:progress': IMirrorProgress;
  /** Dry runs too. */
  'mirror:complete': IMirrorComplete;
  /** A problem was found and handled; the operation continues. */
  warning: IWarning;
}

/** A registered listener. */
export interface Subscription {
  /** Removes the listener. Further calls do nothing. */
  unsubscribe(): void;
  /** Whether the listener is removed. */
  readonly closed: boolean;
  /** The same as unsubscribe(). */
  [Symbol.dispose](): void;
}

/** Codes of {@link ContainerArchiveError}. More may be added: treat an unknown one as a failure. */
export type ContainerArchiveErrorCode =
  | 'ERR_REPO_NOT_FOUND'
  | 'ERR_NOT_A_DIRECTORY'
  | 'ERR_NOT_EMPTY'
  | 'ERR_REPO_CHANGED'
  | 'ERR_REPO_EXISTS'
  | 'ERR_PERMISSION'
  | 'ERR_READ_ONLY'
  | 'ERR_MIRROR'
  | 'ERR_MIRROR_REFUSED'
  | 'ERR_PASSPHRASE_REQUIRED'
  | 'ERR_WRONG_PASSPHRASE'
  | 'ERR_NOT_ENCRYPTED'
  | 'ERR_UNSUPPORTED_FORMAT'
  | 'ERR_CONFIG_CORRUPT'
  | 'ERR_KEY_FILE_CORRUPT'
  | 'ERR_KEY_NOT_FOUND'
  | 'ERR_LAST_KEY'
  | 'ERR_TOO_MANY_KEYS'
  | 'ERR_MANIFEST_CORRUPT'
  | 'ERR_PACK_MISSING'
  | 'ERR_PACK_CORRUPT'
  | 'ERR_CHUNK_CORRUPT'
  | 'ERR_CHUNK_MISSING'
  | 'ERR_INDEX_CORRUPT'
  | 'ERR_PARITY_CORRUPT'
  | 'ERR_KILL_LIST_CORRUPT'
  | 'ERR_SNAPSHOT_NOT_FOUND'
  | 'ERR_SNAPSHOT_AMBIGUOUS'
  | 'ERR_ITEM_NOT_FOUND'
  | 'ERR_NOT_A_TAR'
  | 'ERR_MEMBER_NOT_FOUND'
  | 'ERR_UNSUPPORTED_PLATFORM'
  | 'ERR_RANGE'
  | 'ERR_FILE_EXISTS'
  | 'ERR_INVALID_ARGUMENT'
  | 'ERR_INVALID_POLICY'
  | 'ERR_SOURCE_FAILED'
  | 'ERR_UNREADABLE'
  | 'ERR_STORAGE'
  | 'ERR_STORAGE_UNREACHABLE'
  | 'ERR_STORAGE_BUSY'
  | 'ERR_STORAGE_CREDENTIALS'
  | 'ERR_STORAGE_BUCKET'
  | 'ERR_STORAGE_REGION'
  | 'ERR_STORAGE_CLOCK'
  | 'ERR_STORAGE_CERTIFICATE'
  | 'ERR_EXCLUSIVE_REQUIRED'
  | 'ERR_NO_SPACE'
  | 'ERR_REPO_LOCKED'
  | 'ERR_LOCKS_UNSUPPORTED'
  | 'ERR_FILESYSTEM_UNSUPPORTED'
  | 'ERR_CONFLICT'
  | 'ERR_CLOSED'
  | 'ABORT_ERR'
  | 'ERR_NO_ENTROPY'
  | 'ERR_NO_MEMORY'
  | 'ERR_NO_THREADS'
  | 'ERR_INTERNAL';

/** An error of this package. */
export class ContainerArchiveError extends Error {
  /** Errors are created by the package; the constructor is for tests of code that handles them. */
  constructor(message: string, details: { code: string } & Partial<Omit<ContainerArchiveError, keyof Error | 'code'>> & { cause?: unknown });
  /** 'TypeError' for ERR_INVALID_ARGUMENT and ERR_INVALID_POLICY, otherwise that of the class. */
  name: 'ContainerArchiveError' | 'TypeError';
  /** Stable: match on it, never on the message. One of {@link ContainerArchiveErrorCode}. */
  readonly code: ContainerArchiveErrorCode | (string & {});
  /** What to do. */
  readonly hint?: string;
  /** For ERR_SOURCE_FAILED, the error of the source itself. */
  readonly cause?: unknown;
  /** Whether the same call may succeed later without any change. */
  readonly retryable: boolean;
  /** The file or directory it is about. */
  readonly path?: string;
  /** The snapshot it is about, as it was passed. */
  readonly snapshotId?: string;
  /** The item it is about. */
  readonly item?: string;
  /** The pack it is about, 64 hex digits. */
  readonly pack?: string;
  /** The chunk it is about, 64 hex digits. */
  readonly chunk?: string;
  /** The exit code of a command that failed. */
  readonly exitCode?: number;
  /** The signal that ended a command. */
  readonly signal?: string;
  /** The last bytes that a command wrote to stderr, at most 4096. */
  readonly stderrTail?: string;
  /**
   * For ERR_REPO_LOCKED, the operations that seem to hold the lock, as
   * `prune since 2026-11-23T01:45:00.000Z`. Empty when they are not known.
   */
  readonly holders?: string[];
}

/** What a process has loaded. */
export interface IAbout {
  /** The version of this package. */
  version: string;
  /** The file of the native addon; null where the module system does not know it (in a bundle). */
  addon: string | null;
  /** How this processor computes SHA-256 of many chunks, for people: 'SHA-NI, 4 streams'. */
  sha256: string;
  /**
   * How this processor computes AES-256, for people: 'instructions of the processor', or 'software,
   * which is slow'.
   */
  aes: string;
}

/** A backup repository. */
export class ContainerArchive {
  private constructor();

  /** Returns what this process has loaded, for reports of problems. */
  static about(): IAbout;

  /**
   * Creates a repository in an empty or missing directory, or below an empty prefix of a bucket
   * (`s3://bucket/prefix`, `gs://`, `az://`), and opens it. With a passphrase or key it is
   * encrypted.
   *
   * @throws {ContainerArchiveError} ERR_REPO_EXISTS; ERR_NOT_EMPTY; ERR_NOT_A_DIRECTORY;
   * ERR_REPO_LOCKED while another `init` runs; ERR_PASSPHRASE_REQUIRED when the function that
   * returns it failed; ERR_LOCKS_UNSUPPORTED or ERR_FILESYSTEM_UNSUPPORTED on a file system that
   * cannot hold a repository.
   */
  static init(path: string, options?: IInitOptions): Promise<ContainerArchive>;

  /**
   * Opens a repository.
   *
   * A handle serves only the repository that it opened. When its directory is missing (a disk was
   * unmounted, the directory moved), every call rejects with ERR_REPO_NOT_FOUND; when another
   * repository is at its path, with ERR_REPO_CHANGED, and nothing is written there. When the
   * directory is back, the handle works again. When the same repository is there in another
   * directory (mounted again, a copy), the handle continues with that one; an ingest that was
   * running rejects with ERR_REPO_CHANGED, `retryable`.
   *
   * @throws {ContainerArchiveError} ERR_REPO_NOT_FOUND; ERR_NOT_A_DIRECTORY;
   * ERR_PASSPHRASE_REQUIRED; ERR_WRONG_PASSPHRASE; ERR_NOT_ENCRYPTED for a passphrase without
   * encryption; ERR_REPO_CHANGED for another `repositoryId`; ERR_UNSUPPORTED_FORMAT;
   * ERR_CONFIG_CORRUPT; ERR_KEY_FILE_CORRUPT.
   */
  static open(path: string, options?: IOpenOptions): Promise<ContainerArchive>;

  /**
   * Opens a repository, or creates it when there is none. The options that are fixed at creation
   * (`compression` to `kdf`) apply only then. Of several concurrent calls, one creates the
   * repository and all open it.
   *
   * Where the mount point of an unmounted disk is an empty directory, this creates a new, empty
   * repository in it, with the event `warning` (WARN_REPO_CREATED): check {@link created}, and once
   * the repository exists use {@link open}, or pass its `repositoryId`, and none is created.
   *
   * @throws {ContainerArchiveError} As {@link open} and {@link init}, except for ERR_REPO_EXISTS,
   * and for ERR_REPO_NOT_FOUND without `repositoryId`.
   * @example
   * const options = { passphrase, compression: 'zstd' } as const;
   * const archive = await ContainerArchive.openOrInit('/var/backups/shop', options);
   */
  static openOrInit(path: string, options?: IOpenOrInitOptions): Promise<ContainerArchive>;

  /**
   * Backs up one stream. When the promise resolves, the snapshot is durable. When it rejects, there
   * is none, and the next ingest reuses what was stored. One exception: when only the last step
   * fails, the flush that makes the manifest durable (ERR_STORAGE), the snapshot may be listed; it
   * is complete then, and a power failure may still remove it. The source is read to its end, or
   * destroyed; only when the call is refused with ERR_INVALID_ARGUMENT before anything was read, it
   * is left untouched.
   *
   * Bytes are copied while the source is read: the memory of a chunk may be reused once the source
   * is asked for the next one, that of a `Uint8Array` passed as the source once the promise
   * settles. A `highWaterMark` of 1 MiB on the stream costs the event loop much less time per byte
   * than the default of 64 KiB; an untouched `fs.ReadStream` is read by the engine itself where the
   * system allows it.
   *
   * @throws {ContainerArchiveError} ERR_SOURCE_FAILED when the source failed, ended too early or
   * had another size than `expectedSize`, or `commitWhen` rejected: `cause` is its error.
   * ERR_INVALID_ARGUMENT for a stream that was read before or has an encoding set, and for a chunk
   * that is neither bytes nor text. ERR_KILL_LIST_CORRUPT; ERR_UNSUPPORTED_FORMAT.
   * @throws {ContainerArchiveError} ERR_REPO_LOCKED when others held the commit lock for longer
   * than `lockWaitMs`, and ERR_CONFLICT when a prune deleted what was reused: both are `retryable`.
   * @example
   * const items = [{ name: 'database.sql', type: 'database-dump' }];
   * const { id, storedSize } = await archive.ingest({ path: 'dump.sql' }, { items });
   */
  ingest(stream: IngestSource, options?: IIngestOptions): Promise<ISnapshot>;

  /**
   * Backs up several streams as one snapshot, one after the other or `concurrency` at once. When
   * one of them fails, all are destroyed and there is no snapshot.
   *
   * @throws {ContainerArchiveError} As {@link ingest}; `item` names the one that failed.
   * @example
   * const snapshot = await archive.ingestMulti(
   *   [
   *     { name: 'database.sql', type: 'database-dump', stream: { path: 'dump.sql' } },
   *     { name: 'volume.tar', type: 'volume-tar', stream: createReadStream('volume.tar') },
   *   ],
   *   { tags: { service: 'shop' } },
   * );
   */
  ingestMulti(items: IIngestItem[], options?: IIngestMultiOptions): Promise<ISnapshot>;

  /**
   * Backs up the stdout of a command, or of several as one snapshot, one after the other or
   * `concurrency` at once. Each starts when its turn comes, in a process group of its own. There is
   * a snapshot only if every command exited with code 0, or another one of its `okExitCodes`.
   *
   * A command that fails, takes too long or is aborted is asked to end (SIGTERM, to its group), and
   * killed three seconds later; the promise does not wait for that. The same happens when this
   * process ends, in whatever way, or the worker thread of the call. While a command runs, a signal
   * that would end this process (SIGINT, SIGTERM, SIGHUP) ends the commands first, unless the
   * process has a listener for it.
   *
   * @throws {ContainerArchiveError} As {@link ingestMulti}. ERR_SOURCE_FAILED has `exitCode` or
   * `signal`, and `stderrTail`, the last 4096 bytes that the command wrote to stderr. For a program
   * that cannot be started, the reason is the `cause`; for a `cwd` that cannot be used, it is the
   * `path`.
   * @example
   * const dump = { command: ['pg_dump', 'shop'], name: 'shop.sql', type: 'database-dump' };
   * const snapshot = await archive.ingestCommand(dump, { tags: { service: 'shop' } });
   */
  ingestCommand(command: IIngestCommand | IIngestCommand[], options?: IIngestMultiOptions): Promise<ISnapshot>;

  /**
   * Restores a snapshot, or one item or a part of it. `id` is a full id, an unambiguous prefix of
   * at least 4 digits, or 'latest'. Without `item`, the items follow each other in the order of the
   * snapshot.
   *
   * The stream ends cleanly only after the last byte; everything else is its 'error' event (use
   * `pipeline()`), with the codes ERR_PACK_MISSING, ERR_PACK_CORRUPT, ERR_CHUNK_CORRUPT,
   * ERR_CHUNK_MISSING, ERR_MANIFEST_CORRUPT, ERR_STORAGE, ERR_CLOSED, or `signal.reason` (ABORT_ERR
   * with it as `cause` when it is not an Error). Destroying the stream stops the work.
   *
   * @throws {ContainerArchiveError} ERR_SNAPSHOT_NOT_FOUND; ERR_SNAPSHOT_AMBIGUOUS;
   * ERR_ITEM_NOT_FOUND; ERR_RANGE; ERR_MANIFEST_CORRUPT; ERR_UNSUPPORTED_FORMAT.
   * @example
   * const stream = await archive.restore('latest', { item: 'database.sql' });
   * await pipeline(stream, createWriteStream('restored.sql'));
   */
  restore(id: string, options?: IRestoreOptions): Promise<Readable>;

  /**
   * Restores a snapshot, or one item, into a file, in the engine itself. The file appears under its
   * name once all of it is written and flushed, with mode 0600. After a failure nothing is left of
   * it, and a file that was to be replaced is unchanged, with two exceptions: a process that is
   * killed leaves a `.tmp-containerarchive-…` next to it; and when only the last step fails, the
   * flush of the directory (ERR_STORAGE), the new file is there, complete, and a power failure may
   * still undo the rename. `id` as for {@link restore}.
   *
   * @throws {ContainerArchiveError} ERR_FILE_EXISTS; ERR_SNAPSHOT_NOT_FOUND;
   * ERR_SNAPSHOT_AMBIGUOUS; ERR_ITEM_NOT_FOUND; ERR_NOT_A_DIRECTORY; ERR_STORAGE, also when the
   * directory does not exist; ERR_NO_SPACE; ERR_UNSUPPORTED_FORMAT. With `member`:
   * ERR_MEMBER_NOT_FOUND; ERR_NOT_A_TAR; ERR_INVALID_ARGUMENT for a symbolic link or a device.
   * @throws {ContainerArchiveError} For damage that neither a copy nor parity covers:
   * ERR_MANIFEST_CORRUPT, ERR_PACK_MISSING, ERR_PACK_CORRUPT, ERR_CHUNK_CORRUPT, ERR_CHUNK_MISSING.
   * @example
   * await archive.restoreToFile('latest', { item: 'database.sql', path: 'restored.sql' });
   */
  restoreToFile(id: string, options: IRestoreToFileOptions): Promise<IRestoredFile>;

  /**
   * Restores the members of an item that is a tar into a directory; not on Windows. A member that
   * would be written outside of it (an absolute path, '..', through a link), a device, and a name
   * that exists is left out, with the reason in the report. Setuid and setgid are removed, owners
   * are those of the process.
   *
   * @throws {ContainerArchiveError} ERR_UNSUPPORTED_PLATFORM; ERR_NOT_A_TAR; ERR_MEMBER_NOT_FOUND;
   * those of {@link restoreToFile}.
   * @example
   * const { skipped } = await archive.restoreToDirectory('latest', { member: 'etc', to: 'out' });
   */
  restoreToDirectory(id: string, options: IRestoreToDirectoryOptions): Promise<IRestoredDirectory>;

  /**
   * Lists the members of an item that is a tar: of a directory, sorted by the names of their paths;
   * pages are read when they are needed. An item without a member index is searched for headers
   * first, which takes as long as reading those chunks that have some.
   *
   * @throws {ContainerArchiveError} ERR_NOT_A_TAR; ERR_MEMBER_NOT_FOUND; ERR_SNAPSHOT_NOT_FOUND;
   * ERR_SNAPSHOT_AMBIGUOUS; ERR_ITEM_NOT_FOUND; ERR_MANIFEST_CORRUPT; ERR_INVALID_ARGUMENT when no
   * item is named and there are several.
   * @example
   * for await (const { path } of archive.files('latest', { member: 'etc' })) console.log(path);
   */
  files(id: string, options?: IFilesOptions): AsyncGenerator<IMember, void, undefined>;

  /**
   * Looks up one member; of several with that path, the last.
   *
   * @throws {ContainerArchiveError} Those of {@link files}.
   * @example
   * const { size, mode } = await archive.memberInfo('latest', { member: 'etc/hostname' });
   */
  memberInfo(id: string, options: IMemberInfoOptions): Promise<IMember>;

  /**
   * Compares the members of two snapshots by what their member indexes know; no data is read. The
   * differences come sorted by path.
   *
   * @throws {ContainerArchiveError} Those of {@link files}.
   * @example
   * for await (const { change, path } of archive.diff('1f0c', 'latest')) console.log(change, path);
   */
  diff(before: string, after: string, options?: IDiffOptions): AsyncGenerator<IMemberChange, void, undefined>;

  /**
   * Returns the snapshots, newest first; those dated more than 5 minutes in the future come last. A
   * snapshot whose manifest is damaged is left out, with a `warning` event.
   *
   * @throws {ContainerArchiveError} ERR_UNSUPPORTED_FORMAT when a newer version wrote one of them.
   */
  listSnapshots(options?: ISnapshotListOptions): Promise<ISnapshot[]>;

  /**
   * Returns the newest snapshot that matches, or null: the same one that is the newest for {@link
   * prune}. It is the one with the greatest `createdAt`; of several with the same millisecond, the
   * one that was committed last. One that is dated more than 5 minutes in the future counts only
   * when all are; the `warning` WARN_FUTURE_SNAPSHOTS reports it in either case. A snapshot whose
   * manifest is damaged might be the newest one, so it is an error.
   *
   * @throws {ContainerArchiveError} ERR_MANIFEST_CORRUPT; ERR_UNSUPPORTED_FORMAT.
   */
  latest(filter?: ISnapshotFilter): Promise<ISnapshot | null>;

  /**
   * Returns one snapshot, by the ids that {@link restore} takes.
   *
   * @throws {ContainerArchiveError} ERR_SNAPSHOT_NOT_FOUND; ERR_SNAPSHOT_AMBIGUOUS;
   * ERR_MANIFEST_CORRUPT; ERR_UNSUPPORTED_FORMAT.
   */
  getSnapshot(id: string): Promise<ISnapshot>;

  /**
   * Checks that everything is there and intact. Continues past bad files and bad sectors. All
   * problems are in the result, and each is a `verify:error` event too. Runs concurrently with
   * ingests, and on a handle with `readOnly`. Nothing is written, except that a damaged index is
   * repaired wherever it is read.
   *
   * On a handle that was opened with `keyless`, 'quick' and 'standard' check everything that has a
   * hash or checksum in clear: all packs and parity, `.idx` files, manifests, keys, config. They do
   * not check the sealed index, nor report which snapshots are affected by damage.
   *
   * @throws {ContainerArchiveError} ERR_PASSPHRASE_REQUIRED for 'full' on a handle with `keyless`.
   * Damage is never an error of the call.
   * @example
   * const { ok, errors } = await archive.verify({ level: 'full' });
   * if (!ok) console.error(errors.map(({ code, snapshots }) => [code, snapshots]));
   */
  verify(options?: IVerifyOptions): Promise<IVerifyResult>;

  /**
   * Removes the snapshots that the policy does not keep, and then frees the space that no snapshot
   * needs any more. With `true` or `{ dryRun: true }` it only reports what it would do. Ingests and
   * restores may run concurrently. An interruption at any point harms no snapshot that is kept, and
   * the next prune continues.
   *
   * @throws {ContainerArchiveError} ERR_INVALID_POLICY, before anything is read. ERR_REPO_LOCKED
   * while another prune, repair, reindex or change of keys runs, or when ingests committed without
   * a pause for so long: then the snapshots may be removed and nothing freed yet.
   * @throws {ContainerArchiveError} With nothing freed, because what is still needed cannot be
   * determined: ERR_MANIFEST_CORRUPT, ERR_CHUNK_MISSING, ERR_CHUNK_CORRUPT, ERR_PACK_MISSING,
   * ERR_PACK_CORRUPT, ERR_INDEX_CORRUPT, ERR_KILL_LIST_CORRUPT, ERR_UNSUPPORTED_FORMAT. For these,
   * `repair()` first.
   * @example
   * const policy = { keepDays: 7, keepWeeks: 5, keepMonths: 12, timeZone: 'Europe/Berlin' };
   * const { removedSnapshots, freedBytes } = await archive.prune(policy);
   */
  prune(policy: IRetentionPolicy, options?: boolean | IPruneOptions): Promise<IPruneResult>;

  /**
   * Returns what {@link prune} would do: the same as `prune(policy, { ...options, dryRun: true })`.
   * Takes no lock and works on a handle with `readOnly`. Nothing is written, except that damaged
   * files may be repaired where they are read.
   *
   * @throws {ContainerArchiveError} ERR_INVALID_POLICY, and what {@link prune} rejects with when it
   * cannot determine what is needed.
   */
  planPrune(policy: IRetentionPolicy, options?: IPlanPruneOptions): Promise<IPruneResult>;

  /**
   * Removes snapshots by their full ids, regardless of any policy; resolves to the ids of those
   * that existed. The next {@link prune} frees the space. When one of them does not exist, none is
   * removed; one that was forgotten since the last prune is skipped. Many are removed in parts of
   * 64, so some may be removed when the call fails: repeat it.
   *
   * @throws {ContainerArchiveError} ERR_SNAPSHOT_NOT_FOUND; ERR_REPO_LOCKED; ERR_INVALID_ARGUMENT,
   * also for an id that is not a full one.
   */
  forget(ids: string[]): Promise<string[]>;

  /**
   * Returns the sessions that are writing, of this and all other processes, and the leases that
   * dead ones left. Works on a handle with `readOnly`.
   */
  locks(): Promise<ILock[]>;

  /**
   * Counts what the repository contains and the space it takes. Reads the manifests and the index,
   * and of packs only their lengths.
   *
   * @throws {ContainerArchiveError} ERR_UNSUPPORTED_FORMAT.
   */
  stats(options?: {
    /** Cancels the count: the promise rejects with `signal.reason`. */
    signal?: AbortSignal;
  }): Promise<IStats>;

  /**
   * Returns a report for people: one HTML page, complete in itself and without scripts, readable on
   * a phone and on paper. It has the age of the newest snapshot, what a quick verify finds now, a
   * calendar of the snapshots with what the policy keeps, growth and deduplication over time, the
   * space and a list. It contains names and tags of snapshots, and of keys only their number.
   *
   * Damage, and what cannot be read, is in the report and does not end it. Takes no lock, works on
   * a handle with `readOnly`, and has no events but `warning`. Nothing is written, except that
   * damaged files may be repaired where they are read. The size of the page is limited: beyond 200
   * snapshots, and 50 problems, it has sums.
   *
   * @throws {ContainerArchiveError} ERR_INVALID_POLICY; ERR_UNSUPPORTED_FORMAT;
   * ERR_PASSPHRASE_REQUIRED on a handle with `keyless`.
   */
  report(options?: IReportOptions): Promise<string>;

  /**
   * Finds what is missing or damaged, and rebuilds it: packs from parity, everything small from its
   * second copy. Rebuilt bytes are checked before they are published; what cannot be checked is
   * moved to `quarantine/`, never deleted; nothing that was forgotten or removed comes back. It is
   * safe to repeat, and changes nothing in a healthy repository. Ingests and restores may run
   * concurrently.
   *
   * What cannot be repaired is no error: see `damagedSnapshots`. A file that cannot be read is not
   * treated as damaged: it stays at its path, unless the same bytes can be rebuilt from others, and
   * the repair rejects with ERR_UNREADABLE after it has done everything else.
   *
   * @throws {ContainerArchiveError} ERR_REPO_LOCKED while another repair, prune or reindex runs;
   * ERR_UNREADABLE, after everything else was done; ERR_UNSUPPORTED_FORMAT.
   */
  repair(options?: IRepairOptions): Promise<IRepairResult>;

  /**
   * Copies snapshots into another repository, oldest first, with the keys, the compression and the
   * parity of that one. A copy keeps the time, the tags, the items and the digests, has an id of
   * its own, and names its original (`copiedFrom`). Chunks that the target has are not stored
   * again. A snapshot that the target has is skipped, so that a call can be repeated or resumed.
   * Chunks are taken as they were cut.
   *
   * Damaged data is read through parity, as by a restore. A snapshot that cannot be read completely
   * is no error of the call: it is in `failed`, and the others are copied.
   *
   * @throws {ContainerArchiveError} ERR_SNAPSHOT_NOT_FOUND and ERR_SNAPSHOT_AMBIGUOUS before
   * anything is copied; ERR_INVALID_ARGUMENT when both handles are of one repository; for the
   * target those of `ingest`.
   * @example
   * const offsite = await ContainerArchive.open('/mnt/offsite/shop', { passphrase });
   * const { copied, skipped } = await archive.copyTo(offsite, { filter: { after: '2026-11-01' } });
   */
  copyTo(target: ContainerArchive, options?: ICopyOptions): Promise<ICopyResult>;

  /**
   * Copies the files of the repository, byte for byte, into another directory, which must be
   * missing, empty, or a mirror of this repository; only the files that are not there yet are
   * copied. Needs no keys. At every instant each snapshot in the mirror can be restored, also while
   * others write to the repository and prune it, and after a crash.
   *
   * A mirror can be opened, restored and verified like the repository, with the same keys, but not
   * written to (ERR_MIRROR) unless it is opened with `promote`.
   *
   * @throws {ContainerArchiveError} ERR_MIRROR_REFUSED when the directory is no mirror of this
   * repository, was written to, or would lose all snapshots; ERR_REPO_LOCKED while another process
   * mirrors into it; ERR_PACK_CORRUPT, ERR_MANIFEST_CORRUPT, ERR_INDEX_CORRUPT and
   * ERR_PARITY_CORRUPT after everything else was copied; ERR_CONFLICT.
   * @example
   * const { copiedBytes } = await archive.mirrorTo('/mnt/usb/shop', { delete: true });
   */
  mirrorTo(path: string, options?: IMirrorOptions): Promise<IMirrorResult>;

  /**
   * Rebuilds the index from the packs. Never needed for a damaged one, which is repaired
   * automatically. Ingests and restores may run concurrently.
   *
   * @throws {ContainerArchiveError} ERR_REPO_LOCKED; ERR_KILL_LIST_CORRUPT.
   */
  reindex(options?: {
    /** Cancels the call: the promise rejects with `signal.reason`. */
    signal?: AbortSignal;
  }): Promise<void>;

  /**
   * Removes the leases of sessions that have exited; with `force`, by default false, those of live
   * ones too. Never needed: leases are hints, and the next ingest removes stale ones. A live ingest
   * whose lease is removed commits a complete snapshot or fails with nothing published.
   */
  unlock(options?: {
    /** Remove the leases of live sessions too. Default false. */
    force?: boolean;
  }): Promise<void>;

  /** The keys of an encrypted repository. */
  readonly keys: IKeys;

  /**
   * Whether this handle created the repository: true after `init`, and after an `openOrInit` that
   * found none.
   */
  readonly created: boolean;

  /**
   * The id of the repository, drawn at its creation: 32 hex digits. A copy of the directory has the
   * same one.
   */
  readonly repositoryId: string;

  /**
   * Adds a listener. What it throws becomes an uncaught exception; it never affects the operation.
   * A name that is not in {@link IContainerArchiveEvents} throws ERR_INVALID_ARGUMENT, in each of
   * these calls; only 'error' is accepted, for `events.once()` of Node, and never emitted.
   */
  on<E extends keyof IContainerArchiveEvents>(event: E, handler: (value: IContainerArchiveEvents[E]) => void): Subscription;
  /** Adds a listener for one event. */
  once<E extends keyof IContainerArchiveEvents>(event: E, handler: (value: IContainerArchiveEvents[E]) => void): Subscription;
  /** Removes a listener. */
  off<E extends keyof IContainerArchiveEvents>(event: E, handler: (value: IContainerArchiveEvents[E]) => void): void;
  /** The same as on(); RxJS `fromEvent` calls this name. */
  addListener<E extends keyof IContainerArchiveEvents>(event: E, handler: (value: IContainerArchiveEvents[E]) => void): Subscription;
  /** The same as off(). */
  removeListener<E extends keyof IContainerArchiveEvents>(event: E, handler: (value: IContainerArchiveEvents[E]) => void): void;

  /**
   * Stops what is running, and releases everything. Running calls, and all calls after it, reject
   * with ERR_CLOSED. May be called more than once.
   */
  close(): Promise<void>;
  /** The same as close(), for `await using`. */
  [Symbol.asyncDispose](): Promise<void>;
}
