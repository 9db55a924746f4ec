/**
 * containerarchive: deduplicated, compressed, encrypted snapshots of data streams.
 *
 * Sizes and positions are bytes, as numbers (exact up to 2^53). Times are ISO 8601 strings in UTC.
 * Every promise rejects with a {@link ContainerArchiveError} (match on `code`), or with the `reason` of the
 * `AbortSignal` that was given. The same with ranges and examples: docs/api.md.
 */

import type { Readable } from 'node:stream';
import type { ReadableStream as NodeReadableStream } from 'node:stream/web';

/**
 * What an ingest can read. Strings are stored as UTF-8.
 *
 * `{ path }` and `{ fd }` are read by the engine itself, without JavaScript for each chunk: the cheapest way to back up a
 * file. Regular files and block devices only. An open file is read from its position at the call to its end; its descriptor may be
 * closed as soon as the call has returned, and its offset is not moved (on Windows it is, and the descriptor stays open until the
 * promise settles). A file that changes while it is read is reported: `warning` event WARN_SOURCE_CHANGED; `expectedSize` makes
 * another size an error.
 *
 * A stream or iterator that was read before is refused where that can be told. The clean end of some sources (sockets, stdout of a
 * child, ssh2, docker exec) does not prove that all bytes came: docs/api.md lists them with their `commitWhen`.
 */
export type IngestSource =
  | NodeJS.ReadableStream
  | NodeReadableStream<Uint8Array | string>
  | AsyncIterable<Uint8Array | string>
  | (Iterable<Uint8Array | string> & object)
  | Uint8Array
  | Blob
  | { path: string }
  | { fd: number };

/** How chunks are compressed. Levels: gzip 1 to 9 (default 3), zstd 1 to 19 (default 3). */
export type Compression = 'gzip' | 'zstd' | 'none' | { algorithm: 'gzip' | 'zstd' | 'none'; level?: number };

/**
 * A passphrase: its text, its bytes, or a function that gives either, now or later (a keychain, say). A function is asked
 * once for each call, after everything else has been checked; when it fails, the call rejects with ERR_PASSPHRASE_REQUIRED
 * and its error as `cause`. Bytes are copied before the call returns its promise, and our copies are wiped.
 */
export type Passphrase = string | Uint8Array | (() => string | Uint8Array | PromiseLike<string | Uint8Array>);

/** A raw key of 32 bytes, or a function that gives one, now or later. */
export type RawKey = Uint8Array | (() => Uint8Array | PromiseLike<Uint8Array>);

/** Costs of Argon2id for a passphrase. Default 65,536 KiB, 3 passes, 4 lanes; at least 19,456 KiB and 2 passes, at most 2 GiB, 16, 16. */
export interface IKdf {
  /** KiB. */
  memory?: number;
  /** Passes. */
  time?: number;
  lanes?: number;
}

/** Options of {@link ContainerArchive.open}. */
export interface IOpenOptions {
  /** Opens an encrypted repository. Not together with `key`. A repository without encryption refuses it. */
  passphrase?: Passphrase;
  /** A raw key of 32 bytes instead of a passphrase. */
  key?: RawKey;
  /** Refuse every write of this handle. Default false. */
  readOnly?: boolean;
  /**
   * Open an encrypted repository without its keys, to verify it where no passphrase is at hand. Such a handle can only
   * `verify`, at the levels 'quick' and 'standard', and `close`; everything else rejects with ERR_PASSPHRASE_REQUIRED. Not
   * together with `passphrase` or `key`. On a repository without encryption it changes nothing. Default false.
   */
  keyless?: boolean;
  /** Worker threads. Default: the number of cores. */
  threads?: number;
  /**
   * Most memory, in bytes, that all operations of this handle use together for their buffers. Default 192 MiB. With more
   * operations at once, buffers shrink; then ingests wait for each other (`phase` of their progress). Each ingest counts
   * 12 MiB (12 times the largest chunk where that is more than 1 MiB), and 3 MiB for each further item that `concurrency`
   * reads at once; two ingests always run. Nothing else waits. Memory of key derivations is limited for the process.
   */
  memoryLimit?: number;
  /** How long to wait for a lock that another process holds, in milliseconds. Default 10,000. */
  lockWaitMs?: number;
  /** Decode and hash every encoded chunk again before it is stored. Default true. */
  verifyWrites?: boolean;
  /** Whether a restore that finds a damaged pack makes it whole from parity afterwards. Default true. */
  heal?: boolean;
  /**
   * Open the repository with this id ({@link ContainerArchive.repositoryId}) and no other one: rejects with ERR_REPO_CHANGED
   * when another one is at the path, and `openOrInit` makes none. 32 hex digits. Default: whichever is there.
   */
  repositoryId?: string;
  /** Ends the opening, or the making of which nothing is left then: the promise rejects with `signal.reason`. */
  signal?: AbortSignal;
}

/**
 * Options of {@link ContainerArchive.init}: what is fixed for the life of the repository, and all of open. Without `passphrase` and
 * `key` it is not encrypted; then leave them out, for `undefined` (a variable that is not set) is refused.
 */
export interface IInitOptions extends Omit<IOpenOptions, 'keyless' | 'repositoryId'> {
  /** Default for ingests; each can choose its own. Default 'gzip'. */
  compression?: Compression;
  /** Sizes of chunks in bytes: even numbers, up to 8 MiB, min ≤ avg ≤ max. Default 65,536 / 262,144 / 1,048,576. */
  chunking?: { min: number; avg: number; max: number };
  /** Target size of a pack in bytes, 64 KiB to 1 GiB. Default 8 MiB. */
  packSize?: number;
  /** Reed-Solomon parity over packs, at most 224 and 32, or false for none. Default { data: 20, parity: 1 }. */
  parity?: { data: number; parity: number } | false;
  /** Costs of Argon2id for the passphrase. */
  kdf?: IKdf;
}

/** Options of {@link ContainerArchive.openOrInit}: all of init, and which repository it must be. */
export interface IOpenOrInitOptions extends IInitOptions {
  /** As in {@link IOpenOptions}; none is made then: rejects with ERR_REPO_NOT_FOUND. Default: whichever is there. */
  repositoryId?: string;
}

/** A key of an encrypted repository: one of several passphrases or raw keys that open it. */
export interface IKey {
  /** 32 hex digits. */
  id: string;
  type: 'passphrase' | 'raw';
  createdAt: string;
  /** Absent when it was made without. */
  label?: string;
  /** What one guess of the passphrase costs; null for a raw key. */
  kdf: Required<IKdf> | null;
  /** Whether this handle was opened with it. */
  current: boolean;
}

/** A new key: exactly one of `passphrase` and `key`. */
export interface INewKey {
  passphrase?: Passphrase;
  /** A raw key of 32 bytes. */
  key?: RawKey;
  /** Costs of Argon2id for the passphrase. Never taken from an older key. */
  kdf?: IKdf;
  /** A name for people, 1 to 4096 bytes. Stored in clear: whoever holds the storage can read it. */
  label?: string;
  /** Ends it: the promise rejects with `signal.reason`, and the keys are as they were. */
  signal?: AbortSignal;
}

/**
 * The keys of a repository. Each of them opens all of it. A key that is removed opens it no more, but that is no revocation:
 * whoever copied the folder before, and knows the passphrase, can still read that copy (docs/threat-model.md).
 *
 * At every instant, also in a crash, the old key or the new one works.
 */
export interface IKeys {
  /**
   * All keys, the oldest first; of a repository without encryption none. Damaged ones are left out: see `verify()`.
   *
   * Rejects: ERR_PASSPHRASE_REQUIRED (a handle with `keyless`), ERR_PERMISSION, ERR_STORAGE, ERR_CLOSED.
   */
  list(): Promise<IKey[]>;
  /**
   * Adds a key. At most 31. When it rejects, the key may be there all the same: see `list()`.
   *
   * Rejects: ERR_NOT_ENCRYPTED, ERR_TOO_MANY_KEYS, ERR_PASSPHRASE_REQUIRED (a function failed), ERR_REPO_LOCKED, ERR_READ_ONLY,
   * ERR_LOCKS_UNSUPPORTED, ERR_NO_MEMORY, ERR_NO_THREADS, ERR_NO_SPACE, ERR_PERMISSION, ERR_STORAGE, ERR_CLOSED,
   * ERR_INVALID_ARGUMENT.
   */
  add(key: INewKey): Promise<IKey>;
  /**
   * Puts a new key in the place of one: by default of the one that this handle was opened with, else of `id`. The new one is
   * durable before the old one is removed. Without a `label` it takes that of the old one.
   *
   * Rejects as {@link add}, and ERR_KEY_NOT_FOUND. When it rejects, both may be there, but not with `signal.reason`.
   */
  change(key: INewKey & { id?: string }): Promise<IKey>;
  /**
   * Removes a key, by its whole id. Handles that are open stay so.
   *
   * Rejects: ERR_LAST_KEY, ERR_KEY_NOT_FOUND, ERR_REPO_LOCKED, ERR_READ_ONLY, ERR_LOCKS_UNSUPPORTED, ERR_PERMISSION, ERR_STORAGE,
   * ERR_CLOSED, ERR_INVALID_ARGUMENT.
   */
  remove(id: string): Promise<void>;
}

/**
 * Name and type of an item. Both are plain data: 1 to 4096 bytes of UTF-8, any characters. Neither is ever used as a path.
 */
export interface IItemDescription {
  name: string;
  type: string;
}

/** One stream of {@link ContainerArchive.ingestMulti}. Names differ within a snapshot. */
export interface IIngestItem extends IItemDescription {
  stream: IngestSource;
  /** Bytes that the stream must give. One byte fewer or more: ERR_SOURCE_FAILED, no snapshot. Also makes the progress known. */
  expectedSize?: number;
}

/** What all ingests can be told. */
export interface IIngestBaseOptions {
  /** Free labels, to find the snapshot by. Keys have 1 to 4096 bytes, values up to 4096. */
  tags?: Record<string, string>;
  /**
   * The time of the snapshot, for imports of older data: from 0000-01-01 to 9999-12-30T22:00:00Z. Default: the start of the
   * ingest.
   */
  createdAt?: string;
  /** Compression of this ingest's new chunks. Default: that of the repository. */
  compression?: Compression;
  /** Keep a SHA-256 of each whole item in the snapshot. Costs a sequential pass over the data. */
  digest?: 'sha256';
  /**
   * Nothing is published before this settles well: a promise (the exit of the program that feeds the stream), or a function
   * that is called once all streams have ended and may give a promise. A rejection: ERR_SOURCE_FAILED with it as `cause`, no
   * snapshot; that of a promise ends the ingest at once. No lock is held meanwhile.
   */
  commitWhen?: PromiseLike<unknown> | (() => unknown);
  /**
   * Ends the ingest: no snapshot, the streams are destroyed, the promise rejects with `signal.reason`, and at once. What was read
   * by then is stored behind that; the next ingest of this handle waits for it, and reuses it. An abort while the snapshot is
   * just being published comes too late: the promise resolves.
   */
  signal?: AbortSignal;
  /** Called at most ten times a second, and once at the end. */
  onProgress?: (progress: IIngestProgress) => void;
}

/** Options of {@link ContainerArchive.ingestMulti} and {@link ContainerArchive.ingestCommand}. */
export interface IIngestMultiOptions extends IIngestBaseOptions {
  /**
   * How many items are read at once, 1 to 16. Default 1: one after the other. More help when the sources are slow; the items
   * stand in the snapshot in the order given all the same.
   */
  concurrency?: number;
}

/** Options of {@link ContainerArchive.ingest}. */
export interface IIngestOptions extends IIngestBaseOptions {
  /** Name and type of the one item. Default [{ name: 'data', type: 'data' }]. */
  items?: [IItemDescription] | IItemDescription[];
  /** Bytes that the stream must give. One byte fewer or more: ERR_SOURCE_FAILED, no snapshot. Also makes the progress known. */
  expectedSize?: number;
}

/** A command whose output is backed up, for {@link ContainerArchive.ingestCommand}. */
export interface IIngestCommand {
  /** The program and its arguments. There is no shell: for pipes and variables, `['bash', '-e', '-o', 'pipefail', '-c', '…']`. */
  command: string[];
  /** Name of the item. */
  name: string;
  /** Type of the item. Default 'data'. */
  type?: string;
  /** The longest that the command may run, in milliseconds, 1 to 2,147,483,647. Default: no limit. */
  timeoutMs?: number;
  /** The folder it runs in. Default: that of this process. */
  cwd?: string;
  /** Its whole environment. Default: that of this process. */
  env?: Record<string, string | undefined>;
  /** Bytes that it must give. One byte fewer or more: ERR_SOURCE_FAILED, no snapshot. Also makes the progress known. */
  expectedSize?: number;
}

/** Options of {@link ContainerArchive.restore}. */
export interface IRestoreOptions {
  /** Only the item with this name. Default: all items, one after the other. */
  item?: string;
  /** Only a part, in bytes: from `start` (default 0) up to, not including, `end` (default: the end). */
  range?: { start?: number; end?: number };
  /** Destroys the stream with `signal.reason`. */
  signal?: AbortSignal;
}

/** Options of {@link ContainerArchive.restoreToFile}. */
export interface IRestoreToFileOptions {
  /** Only the item with this name. Default: all items, one after the other. */
  item?: string;
  /** Where to, in a folder that exists and is not in the repository, also not through a link or a bind mount. */
  path: string;
  /** Replace a file that is there, in one step. Anything else than a file is never replaced. Default false. */
  overwrite?: boolean;
  /**
   * Ends the restore: nothing is left of it, and the promise rejects with `signal.reason`. Where a flush takes longer than 150 ms, the
   * hidden temporary file goes only after that.
   */
  signal?: AbortSignal;
  /** Called at most ten times a second, and once at the end. */
  onProgress?: (progress: IRestoreProgress) => void;
}

/** Progress of a restore into a file. */
export interface IRestoreProgress {
  operation: 'restore';
  /** The same in all progress of one call. */
  operationId: string;
  /** For people. */
  message: string;
  /** 0 to 100. The last one is 100. */
  percentage: number;
  bytesDone: number;
  bytesTotal: number;
  /** The average since the start. */
  bytesPerSecond: number;
  etaSeconds: number | null;
  chunks: number;
  /** The item that was asked for, or null. */
  item: string | null;
  elapsedMs: number;
}

/** What was restored into a file. */
export interface IRestoredFile {
  /** Absolute. */
  path: string;
  snapshotId: string;
  /** Bytes. */
  size: number;
}

/** Which snapshots to list. */
export interface ISnapshotFilter {
  /** All of these tags must be equal. */
  tags?: Record<string, string>;
  /** Created at this time or later: an ISO 8601 date (midnight UTC), or date and time with zone. */
  after?: string;
  /** Created before this time. */
  before?: string;
}

/** One item of a snapshot. */
export interface ISnapshotItem {
  name: string;
  type: string;
  /** Bytes. */
  size: number;
  chunkCount: number;
  /** SHA-256 of the whole item as hex, when the ingest asked for it. */
  sha256?: string;
}

/** A snapshot. */
export interface ISnapshot {
  /** 32 hex digits. */
  id: string;
  /** Version of the manifest. */
  version: number;
  createdAt: string;
  tags: Record<string, string>;
  /** Bytes of all items. */
  originalSize: number;
  /** Bytes of the chunks that this ingest newly stored, after compression and encryption. */
  storedSize: number;
  chunkCount: number;
  /** Chunks that were not in the repository yet. */
  newChunks: number;
  /** Chunks that were there already, or occurred before in this snapshot. */
  reusedChunks: number;
  items: ISnapshotItem[];
}

/** Progress of an ingest. */
export interface IIngestProgress {
  operation: 'ingest';
  /** The same in all progress of one call, and in its `ingest:complete`. */
  operationId: string;
  /**
   * 'waiting' while other ingests of the handle use its memory (see `memoryLimit`): the source is not read yet, no lock is held,
   * and `signal` and `close()` end the wait. Then 'running'.
   */
  phase: 'waiting' | 'running';
  /** For people. */
  message: string;
  /** 0 to 100, or null while the size is unknown (a stream without `expectedSize`). The last one is 100. */
  percentage: number | null;
  bytesDone: number;
  /** Null while the size is unknown. */
  bytesTotal: number | null;
  /** A moving average; in the last one, the average of the whole ingest. */
  bytesPerSecond: number;
  etaSeconds: number | null;
  newBytes: number;
  reusedBytes: number;
  storedBytes: number;
  chunks: number;
  /** Name of the item that is being read. */
  item: string | null;
  itemsDone: number;
  itemsTotal: number;
  elapsedMs: number;
}

/** Options of {@link ContainerArchive.verify}. */
export interface IVerifyOptions {
  /**
   * How much is read. Default 'standard'.
   * - `quick`: the index is consistent; names and lengths of packs, `.idx` files, manifests, key files, parity groups. No
   *   pack is read, except where something is damaged and it must be known what that hits.
   * - `standard`: and every stored byte is hashed.
   * - `full`: and every chunk is decrypted, decoded and hashed again, and every list of every snapshot is walked.
   */
  level?: 'quick' | 'standard' | 'full';
  /**
   * 'n/t': of the bytes of packs and parity, read only the n-th of t equal parts, by pack id. All parts together are
   * everything. What `quick` looks at is always looked at whole.
   */
  subset?: string;
  /** Ends the verify: the promise rejects with `signal.reason`. */
  signal?: AbortSignal;
  /** Called at most ten times a second, and once at the end. */
  onProgress?: (progress: IVerifyProgress) => void;
}

/** Something is damaged or missing, or could not be read (`ERR_UNREADABLE`, which says nothing about its bytes). */
export interface IVerifyError {
  /** Stable: see docs/errors.md. More may come. */
  code: string;
  /** What is wrong, for people. */
  error: string;
  /** The pack it is about, or that holds the chunk. */
  pack?: string;
  /** The chunk it is about. */
  chunk?: string;
  /** The file it is about, relative to the repository. */
  path?: string;
  /** Ids of the snapshots that cannot be restored whole while it is so, without the help of parity. */
  snapshots: string[];
  /** Their items that are hit. */
  items: { snapshotId: string; item: string }[];
  /** Whether it can be put right with what is there now. */
  healable: boolean;
}

/** Something that is no error: leftovers of a crash, work of others. */
export interface IVerifyNote {
  code: string;
  message: string;
  pack?: string;
  path?: string;
}

/** What a verify found. */
export interface IVerifyResult {
  /** Whether `errors` is empty. */
  ok: boolean;
  errors: IVerifyError[];
  notes: IVerifyNote[];
  stats: {
    /** At 'quick', packs whose name, length and `.idx` were looked at; else packs that were read from end to end. */
    packsChecked: number;
    /** At 'full', chunks that were decoded and hashed; else chunks that were held against the index. */
    chunksChecked: number;
    snapshotsChecked: number;
  };
}

/** Progress of a verify. */
export interface IVerifyProgress {
  operation: 'verify';
  /** The same in all progress of one call, and in its `verify:error`. */
  operationId: string;
  level: 'quick' | 'standard' | 'full';
  /** For people. */
  message: string;
  /** 0 to 100, or null before it is known how much there is to read. The last one is 100. */
  percentage: number | null;
  /** Bytes read and judged. */
  bytesDone: number;
  bytesTotal: number | null;
  /** The average since the start. */
  bytesPerSecond: number;
  etaSeconds: number | null;
  chunks: number;
  /** Packs. */
  itemsDone: number;
  /** Problems so far. */
  errors: number;
  elapsedMs: number;
}

/** Options of {@link ContainerArchive.repair}. */
export interface IRepairOptions {
  /** Ends the repair: the promise rejects with `signal.reason`. What was done stays done, and the next repair goes on. */
  signal?: AbortSignal;
  /** Called at most ten times a second, and once at the end. */
  onProgress?: (progress: IRepairProgress) => void;
}

/** Progress of a repair. */
export interface IRepairProgress {
  operation: 'repair';
  /** The same in all progress of one call. */
  operationId: string;
  /** For people. */
  message: string;
  /** 0 to 99 while packs are read, 100 at the end, null while nothing is known. */
  percentage: number | null;
  /** Bytes of packs read. */
  bytesDone: number;
  bytesTotal: number | null;
  elapsedMs: number;
}

/** What a repository holds and what it takes. All sizes in bytes. */
export interface IStats {
  /** Snapshots that can be listed, and their items. */
  snapshots: number;
  items: number;
  /** What restoring every snapshot would give. */
  originalBytes: number;
  /** Different chunks of data, those that no snapshot needs any more included. */
  chunks: number;
  /** Their length before compression, each counted once. */
  uniqueBytes: number;
  /** Their length as they are stored, each counted once. */
  storedBytes: number;
  /** `originalBytes / uniqueBytes`: how many times over the chunks are used. `null` without any. */
  dedupRatio: number | null;
  /** `uniqueBytes / storedBytes`. `null` without any. */
  compressionRatio: number | null;
  packs: number;
  /** Lengths of all files, by what they are. */
  bytes: {
    total: number;
    /** Packs with chunks of data. */
    dataPacks: number;
    /** Packs with lists of chunks and copies of manifests. */
    metaPacks: number;
    /** The `.idx` files beside packs. */
    packIndexes: number;
    parity: number;
    /** The global index. */
    index: number;
    /** Manifests. */
    snapshots: number;
    /** Key files and their second copies. */
    keys: number;
    /** What repairs moved out of the way. */
    quarantine: number;
    /** Settings, locks, records, kill lists, the reserve. */
    other: number;
  };
  /** `null` in a repository without parity. */
  parity: {
    /** Packs in a full group, and parity shards for them. */
    data: number;
    parity: number;
    groups: number;
    bytes: number;
    /** `bytes` as a part of the packs that they protect: 0.05 at best for 20 packs and one shard. `null` without packs. */
    ratio: number | null;
  } | null;
}

/** What a repair did, and what it could not do. */
export interface IRepairResult {
  /** Something of the index was lost or wrong and has been made again. */
  indexRebuilt: boolean;
  /** Packs made whole again, byte for byte. */
  packsRepaired: number;
  /** Stale leases removed. */
  locksRemoved: number;
  /** `.idx` files written again. */
  idxRepaired: number;
  /** Manifests written again from their copies. */
  manifestsRestored: number;
  /** Parity files written again, groups made anew, and packs that had no parity and now have. */
  parityRepaired: number;
  /** Key files and copies of key files written again. */
  keysRepaired: number;
  /** `config.json` was written again. */
  configRepaired: boolean;
  /** Chunks that were saved out of packs beyond repair. */
  chunksSalvaged: number;
  /** Files that this repair moved to `quarantine/`, relative to the repository. Nothing is ever deleted from there. */
  quarantined: string[];
  /** Chunks that snapshots need and nobody has any more. */
  lostChunks: number;
  /** Snapshots that are not whole. They are kept, and what is whole of them restores. */
  damagedSnapshots: {
    id: string;
    /** Empty when the manifest itself is lost. `missing`: first byte and end (exclusive) of each missing range,
     * at most 4096: the last one then reaches over what lies between it and the last missing byte. */
    items: { name: string; missing: [start: number, end: number][] }[];
  }[];
}

/** How many a rule keeps: a whole number from 0 (the rule is off) to 4,294,967,295, or all there are. */
export type RetentionCount = number | 'all';

/**
 * Which snapshots stay. A snapshot stays when any of the rules names it, so adding a rule or raising a number never removes
 * more. The newest snapshot of each group always stays; so does one that is dated more than 5 minutes ahead, which counts
 * for no rule. A policy that keeps nothing, an unknown key and a value of the wrong kind are refused (ERR_INVALID_POLICY).
 *
 * `keepDays: 7` keeps the newest snapshot of each of the last 7 days *that have one*, so that a job that stood still loses
 * nothing. Everything of the last 7 days is `keepWithin: '7d'`. The same goes for hours, weeks, months and years; while a
 * rule finds fewer than it asks for, it keeps the oldest snapshot too. More about it, with examples: docs/retention.md.
 */
export interface IRetentionPolicy {
  /** The newest snapshots. */
  keepLast?: RetentionCount;
  /** One a clock hour. */
  keepHours?: RetentionCount;
  /** One a calendar day. */
  keepDays?: RetentionCount;
  /** One a week, Monday to Sunday (ISO 8601). */
  keepWeeks?: RetentionCount;
  /** One a calendar month. */
  keepMonths?: RetentionCount;
  /** One a calendar year. */
  keepYears?: RetentionCount;
  /**
   * Every snapshot at most this old, that age included: '36h', '7d', '2w', '1y6m'; the units y, m, w, d, h in this order.
   * Years, months, weeks and days are those of the calendar: a month before 31 March is 28 February.
   */
  keepWithin?: string;
  /** Snapshots that have all tags of one of these; the value '*' is met by any. */
  keepTags?: Record<string, string>[];
  /** These snapshots, by their whole ids. */
  keepIds?: string[];
  /** Snapshots that differ in one of these tags are counted apart, as `['service']`. Default []: all are one group. */
  groupBy?: string[];
  /**
   * IANA name of the zone whose hours, days, weeks, months and years are meant, as 'Europe/Berlin'. Default 'UTC'. The zone
   * of the process is `Intl.DateTimeFormat().resolvedOptions().timeZone`; in containers that is usually UTC.
   */
  timeZone?: string;
  /** When a day begins, 'HH:MM': with '06:00' the run of 3 o'clock is of the day before. Default '00:00'. */
  dayStartsAt?: string;
  /** What `keepWithin` is counted back from: the newest snapshot of the group, or the time of the prune. Default 'latest'. */
  anchor?: 'latest' | 'now';
}

/** Options of {@link ContainerArchive.planPrune}. */
export interface IPlanPruneOptions {
  /** The policy is asked only about snapshots that have all of these tags; the others are kept. Default: about all. */
  filter?: { tags?: Record<string, string> };
  /**
   * Share of the stored bytes, 0 to 1, that may stay as waste in packs that are partly needed. Fewer is less space and
   * more to copy; 1 copies nothing, small packs neither. Default 0.05.
   */
  maxUnused?: number;
  /**
   * Do not spare what live ingests of this or other processes may rely on. Such an ingest then fails with ERR_CONFLICT, or
   * commits a whole snapshot. Default false.
   */
  force?: boolean;
  /**
   * Ends it: the promise rejects with `signal.reason`. What a prune has done stays done, and the next one goes on. No snapshot
   * goes after the rejection.
   */
  signal?: AbortSignal;
  /** Called at most ten times a second, and once at the end. */
  onProgress?: (progress: IPruneProgress) => void;
}

/** Options of {@link ContainerArchive.prune}. */
export interface IPruneOptions extends IPlanPruneOptions {
  /** Only tell what would be done; nothing is written. Default false. */
  dryRun?: boolean;
  /** Wait for the live ingests that delay a part of it, and sweep that too. Default false. */
  wait?: boolean;
}

/** Progress of a prune. */
export interface IPruneProgress {
  operation: 'prune';
  /** The same in all progress of one call, and in its `prune:complete`. */
  operationId: string;
  /** For people. */
  message: string;
  /** 0 to 99 while packs are copied, 100 at the end, null while nothing is known. */
  percentage: number | null;
  /** Bytes of packs. */
  bytesDone: number;
  bytesTotal: number | null;
  elapsedMs: number;
}

/** A snapshot that a policy was asked about. */
export interface IPruneChoice {
  id: string;
  createdAt: string;
  /** The tags of `groupBy` that it has. */
  group: Record<string, string>;
}

/** What a prune did; of a dry run, what it would do. */
export interface IPruneResult {
  removedSnapshots: number;
  /** Packs that were deleted because nothing in them is needed, and what an interrupted prune had left to delete. */
  removedPacks: number;
  /** Packs whose needed chunks were copied into others; they were deleted, or go with `pendingBytes`. */
  rewrittenPacks: number;
  /** Bytes of stored chunks that left the disk. */
  freedBytes: number;
  /** Bytes of stored chunks that go with a later prune, because live ingests may still rely on them. See `wait`. */
  pendingBytes: number;
  dryRun: boolean;
  /** What stays, newest first, and why: 'newest', 'keepDays 3/7', 'keepMonths oldest', 'keepWithin 7d', 'keepTags', 'keepIds', 'future', 'filter'. */
  keep: (IPruneChoice & { reasons: string[] })[];
  /** What goes, newest first. */
  remove: IPruneChoice[];
  /** The time zone that the rules were applied in. */
  timeZone: string;
  /**
   * What looks as if it were not meant, for people: tags that no snapshot has, snapshots dated in the future, lost manifests,
   * packs that stay because they are damaged, packs without parity.
   */
  warnings: string[];
  /**
   * Ids of packs that are kept and that no parity protects, because a full disk had no room for it; `WARN_PACKS_UNPROTECTED` names
   * them too. They are whole; the next prune or `repair()` protects them.
   */
  unprotectedPacks: string[];
}

/** A prune ended. The figures are those of {@link IPruneResult}. */
export interface IPruneComplete {
  operationId: string;
  removedSnapshots: number;
  removedPacks: number;
  rewrittenPacks: number;
  freedBytes: number;
  pendingBytes: number;
  dryRun: boolean;
}

/** The lease of a session: who is, or was, writing. */
export interface ILock {
  /** 32 hex digits. An ingest's is the id of the snapshot that it makes. */
  session: string;
  /** Whether its process is still there. */
  held: boolean;
  /** 'ingest', 'prune', 'repair' or 'reindex'; null when the file is damaged. */
  operation: string | null;
  /** Null when the file is damaged. */
  startedAt: string | null;
}

/** A snapshot was made. */
export interface IIngestComplete {
  operationId: string;
  snapshotId: string;
  newChunks: number;
}

/** Something was wrong and did no harm: a damaged part of the index was left out, a manifest could not be listed. */
export interface IWarning {
  code: string;
  message: string;
  /** The pack it is about, 64 hex digits. */
  pack?: string;
}

/** A file was restored. */
export interface IRestoreComplete {
  operationId: string;
  snapshotId: string;
  path: string;
  /** Bytes. */
  size: number;
}

/** A repair ended. The figures are those of {@link IRepairResult}. */
export interface IRepairComplete extends IRepairResult {
  operationId: string;
}

/** A pack is whole again. */
export interface IPackHealed {
  /** 64 hex digits. */
  pack: string;
}

/** The events of a handle. Warnings of `open()` itself come to the first listener. */
export interface IContainerArchiveEvents {
  'ingest:progress': IIngestProgress;
  'ingest:complete': IIngestComplete;
  /** Of `restoreToFile()`. */
  'restore:progress': IRestoreProgress;
  /** Of `restoreToFile()`: the file is whole. */
  'restore:complete': IRestoreComplete;
  'verify:progress': IVerifyProgress;
  /** As soon as all about a problem is known; damage of packs and chunks once it is clear which snapshots it hits. */
  'verify:error': IVerifyError & { operationId: string };
  'repair:progress': IRepairProgress;
  'repair:complete': IRepairComplete;
  /** A restore made a damaged pack whole again from parity. */
  'repair:healed': IPackHealed;
  'prune:progress': IPruneProgress;
  /** Dry runs too. */
  'prune:complete': IPruneComplete;
  warning: IWarning;
}

/** A registered listener. */
export interface Subscription {
  /** Removes the listener. Calling it again does nothing. */
  unsubscribe(): void;
  /** Whether it is removed. */
  readonly closed: boolean;
  /** The same as unsubscribe(). */
  [Symbol.dispose](): void;
}

/** Codes of {@link ContainerArchiveError}. More may come: treat an unknown one as a failure. */
export type ContainerArchiveErrorCode =
  | 'ERR_REPO_NOT_FOUND'
  | 'ERR_NOT_A_DIRECTORY'
  | 'ERR_NOT_EMPTY'
  | 'ERR_REPO_CHANGED'
  | 'ERR_REPO_EXISTS'
  | 'ERR_PERMISSION'
  | 'ERR_READ_ONLY'
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
  | 'ERR_RANGE'
  | 'ERR_FILE_EXISTS'
  | 'ERR_INVALID_ARGUMENT'
  | 'ERR_INVALID_POLICY'
  | 'ERR_SOURCE_FAILED'
  | 'ERR_UNREADABLE'
  | 'ERR_STORAGE'
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
  constructor(message: string, details: { code: string } & Partial<Omit<ContainerArchiveError, keyof Error | 'code'>> & { cause?: unknown });
  /** Stable: match on it, never on the message. One of {@link ContainerArchiveErrorCode}. */
  readonly code: ContainerArchiveErrorCode | (string & {});
  /** What to do. */
  readonly hint?: string;
  /** For ERR_SOURCE_FAILED the very error of the source. */
  readonly cause?: unknown;
  /** Whether the same call may succeed later without any change. */
  readonly retryable: boolean;
  readonly path?: string;
  readonly snapshotId?: string;
  readonly item?: string;
  readonly pack?: string;
  readonly chunk?: string;
  /** Of a command that failed. */
  readonly exitCode?: number;
  /** The signal that ended a command. */
  readonly signal?: string;
  /** The end of what a command wrote to stderr, at most 4096 bytes. */
  readonly stderrTail?: string;
  /** For ERR_REPO_LOCKED who seems to hold the lock, as `prune since 2026-11-23T01:45:00.000Z`. Empty when that is not known. */
  readonly holders?: string[];
}

/** A backup repository. */
export class ContainerArchive {
  private constructor();

  /**
   * Makes a repository in a folder that does not exist or is empty, and opens it. With a passphrase or key it is encrypted.
   *
   * Rejects: ERR_REPO_EXISTS, ERR_NOT_EMPTY, ERR_NOT_A_DIRECTORY, ERR_PERMISSION, ERR_LOCKS_UNSUPPORTED,
   * ERR_FILESYSTEM_UNSUPPORTED, ERR_REPO_LOCKED (another `init` is at work), ERR_PASSPHRASE_REQUIRED (the function that gives it
   * failed), ERR_NO_MEMORY, ERR_NO_THREADS, ERR_NO_ENTROPY, ERR_NO_SPACE, ERR_STORAGE, ERR_INVALID_ARGUMENT, `signal.reason`.
   */
  static init(path: string, options?: IInitOptions): Promise<ContainerArchive>;

  /**
   * Opens a repository.
   *
   * Rejects: ERR_REPO_NOT_FOUND, ERR_NOT_A_DIRECTORY, ERR_PERMISSION, ERR_PASSPHRASE_REQUIRED, ERR_WRONG_PASSPHRASE,
   * ERR_NOT_ENCRYPTED (a passphrase for a repository without encryption), ERR_REPO_CHANGED (another one than `repositoryId`),
   * ERR_UNSUPPORTED_FORMAT, ERR_CONFIG_CORRUPT, ERR_KEY_FILE_CORRUPT, ERR_NO_MEMORY, ERR_NO_THREADS, ERR_STORAGE, ERR_INVALID_ARGUMENT,
   * `signal.reason`.
   *
   * A handle serves only the repository that it opened. When its folder is gone (a disk was unmounted, a folder moved), every
   * call rejects with ERR_REPO_NOT_FOUND; when another repository is in its place, with ERR_REPO_CHANGED, and nothing is
   * written there. When the folder is back, the handle works again. When the same repository was put there in another folder
   * (mounted again, a copy), the handle goes on with that one; an ingest that was under way rejects with ERR_REPO_CHANGED,
   * `retryable`.
   */
  static open(path: string, options?: IOpenOptions): Promise<ContainerArchive>;

  /**
   * Opens a repository, or makes it when there is none. What is fixed at its making (`compression` to `kdf`) counts only then.
   * Of several that call it at once, one makes it and all open it.
   *
   * Where the folder of a disk that is not mounted would be empty, this makes a new, empty repository in it, with a `warning`
   * event WARN_REPO_CREATED: look at {@link created}, and once the repository exists use {@link open}, or pass its
   * `repositoryId`, and none is made. Rejects as {@link open} and {@link init} do, but for ERR_REPO_EXISTS, and for
   * ERR_REPO_NOT_FOUND without `repositoryId`.
   */
  static openOrInit(path: string, options?: IOpenOrInitOptions): Promise<ContainerArchive>;

  /**
   * Backs up one stream. When the promise resolves, the snapshot is durable; when it rejects, there is none, and what was
   * stored is reused by the next try. One exception: when only the last step fails, the flush that makes the manifest durable
   * (ERR_STORAGE), the snapshot may be listed; it is complete then, and a power cut may still remove it. The source is read to
   * its end, or destroyed; only when the call is refused with ERR_INVALID_ARGUMENT before anything was read, it is left as it
   * was.
   *
   * Bytes are copied while the source is read: a chunk may be reused once the source is asked for the next one, a
   * `Uint8Array` given as the source when the promise settles. A larger `highWaterMark` of the stream (1 MiB) costs the
   * event loop much less time per byte than the default of 64 KiB.
   *
   * Rejects: ERR_SOURCE_FAILED (error, premature close, another size than `expectedSize`, `commitWhen` rejected; `cause` is
   * the error of the source), ERR_INVALID_ARGUMENT (among others: a stream that was read before or has an encoding set, a
   * chunk that is neither bytes nor string), ERR_KILL_LIST_CORRUPT, ERR_UNSUPPORTED_FORMAT, ERR_READ_ONLY, ERR_LOCKS_UNSUPPORTED,
   * ERR_NO_SPACE, ERR_PERMISSION, ERR_STORAGE, ERR_CLOSED, `signal.reason`; and, to be tried again (`retryable`), ERR_REPO_LOCKED (others
   * held the commit lock longer than `lockWaitMs`) and ERR_CONFLICT (a prune, as a rule one with `force`, removed what it reused).
   */
  ingest(stream: IngestSource, options?: IIngestOptions): Promise<ISnapshot>;

  /**
   * Backs up several streams as one snapshot, one after the other or `concurrency` at once. When one of them fails, all are destroyed and there is
   * no snapshot. Rejects as {@link ingest}; `item` names the one that failed.
   */
  ingestMulti(items: IIngestItem[], options?: IIngestMultiOptions): Promise<ISnapshot>;

  /**
   * Backs up what a command writes to its stdout, or several of them as one snapshot, one after the other or `concurrency` at
   * once. Each starts at its turn, in a process group of its own. There is a snapshot only if every command ended with exit code 0.
   *
   * A command that fails, takes too long or is aborted is asked to end (SIGTERM, to its group), and killed three seconds later;
   * the promise does not wait for that. The same happens when this process ends, however it ends, or the worker thread that
   * called. While a command runs, a signal that would end this process (SIGINT, SIGTERM, SIGHUP) ends the commands first, unless
   * the process listens for it itself.
   *
   * Rejects as {@link ingestMulti}; ERR_SOURCE_FAILED has `exitCode` or `signal`, and `stderrTail`, the last 4096 bytes of what
   * the command wrote to stderr; a program that cannot be started is the `cause`, a `cwd` that cannot be used the `path`.
   */
  ingestCommand(command: IIngestCommand | IIngestCommand[], options?: IIngestMultiOptions): Promise<ISnapshot>;

  /**
   * Restores a snapshot, or one item or a part of it. `id` is a whole id, an unambiguous beginning of at least 4 digits, or
   * 'latest'. Without `item`, the items come one after the other in the order of the snapshot.
   *
   * The stream ends cleanly only after the last byte; anything else is its 'error' event (use `pipeline()`), with codes
   * ERR_PACK_MISSING, ERR_PACK_CORRUPT, ERR_CHUNK_CORRUPT, ERR_CHUNK_MISSING, ERR_MANIFEST_CORRUPT, ERR_STORAGE, ERR_CLOSED, or
   * `signal.reason` (ABORT_ERR with it as `cause` when it is no Error). Destroying it stops the work.
   *
   * Rejects: ERR_SNAPSHOT_NOT_FOUND, ERR_SNAPSHOT_AMBIGUOUS, ERR_ITEM_NOT_FOUND, ERR_RANGE, ERR_MANIFEST_CORRUPT,
   * ERR_UNSUPPORTED_FORMAT, ERR_STORAGE, ERR_CLOSED, ERR_INVALID_ARGUMENT, `signal.reason`.
   */
  restore(id: string, options?: IRestoreOptions): Promise<Readable>;

  /**
   * Restores a snapshot, or one item, into a file, natively. The file appears under its name when all of it is written and
   * flushed, with mode 0600. Whatever goes wrong, nothing is left of it, and a file that was to be replaced is as it was, with
   * two exceptions: a process that is killed leaves a `.tmp-containerarchive-…` next to it; and when only the last step fails,
   * the flush of the folder (ERR_STORAGE), the new file is there, complete, and a power cut may still undo the rename. `id` as
   * for {@link restore}.
   *
   * Rejects: ERR_FILE_EXISTS, ERR_SNAPSHOT_NOT_FOUND, ERR_SNAPSHOT_AMBIGUOUS, ERR_ITEM_NOT_FOUND, ERR_MANIFEST_CORRUPT,
   * ERR_UNSUPPORTED_FORMAT, ERR_PACK_MISSING, ERR_PACK_CORRUPT, ERR_CHUNK_CORRUPT, ERR_CHUNK_MISSING, ERR_NO_SPACE, ERR_PERMISSION, ERR_NOT_A_DIRECTORY,
   * ERR_STORAGE (a folder that is not there, among others), ERR_CLOSED, ERR_INVALID_ARGUMENT, `signal.reason`.
   */
  restoreToFile(id: string, options: IRestoreToFileOptions): Promise<IRestoredFile>;

  /**
   * Snapshots, newest first; those dated more than 5 minutes ahead of the clock come last. One whose manifest is damaged is left out, with a `warning` event.
   *
   * Rejects: ERR_UNSUPPORTED_FORMAT (a newer version wrote one of them), ERR_STORAGE, ERR_CLOSED, ERR_INVALID_ARGUMENT.
   */
  listSnapshots(filter?: ISnapshotFilter): Promise<ISnapshot[]>;

  /**
   * The newest snapshot that matches, or null: the one that {@link prune} calls the newest, too. It is the one with the greatest
   * `createdAt`, of several of the same millisecond the one that was committed last. One that is dated more than 5 minutes ahead
   * of the clock counts only when all are; the `warning` WARN_FUTURE_SNAPSHOTS says so in either case. A snapshot whose manifest
   * is damaged might be the newest one, so it is an error.
   *
   * Rejects: ERR_MANIFEST_CORRUPT, ERR_UNSUPPORTED_FORMAT, ERR_STORAGE, ERR_CLOSED, ERR_INVALID_ARGUMENT.
   */
  latest(filter?: ISnapshotFilter): Promise<ISnapshot | null>;

  /**
   * One snapshot, by the ids that {@link restore} takes.
   *
   * Rejects: ERR_SNAPSHOT_NOT_FOUND, ERR_SNAPSHOT_AMBIGUOUS, ERR_MANIFEST_CORRUPT, ERR_UNSUPPORTED_FORMAT, ERR_STORAGE, ERR_CLOSED,
   * ERR_INVALID_ARGUMENT.
   */
  getSnapshot(id: string): Promise<ISnapshot>;

  /**
   * Looks whether everything is there and is what it should be. Goes on past bad files and bad sectors; whatever is wrong is
   * in the result, and each problem is a `verify:error` event too. Works beside ingests, and on a handle with `readOnly`.
   * Apart from the index, which heals itself wherever it is read, nothing is written.
   *
   * On a handle that was opened with `keyless`, 'quick' and 'standard' look at everything that has a hash or checksum in clear:
   * all packs and parity, `.idx` files, manifests, keys, config. Not at the sealed index, nor whom a damage hits.
   *
   * Rejects: ERR_CLOSED, ERR_PASSPHRASE_REQUIRED ('full' on a handle with `keyless`), ERR_INVALID_ARGUMENT, `signal.reason`.
   */
  verify(options?: IVerifyOptions): Promise<IVerifyResult>;

  /**
   * Removes the snapshots that the policy does not keep, and then frees the space that no snapshot needs any more. With
   * `true` or `{ dryRun: true }` it only tells what it would do. Ingests and restores may go on. Interrupted at any point,
   * it has harmed no snapshot that stays, and the next one goes on where it stopped.
   *
   * Rejects: ERR_INVALID_POLICY (before anything is read), ERR_REPO_LOCKED (somebody else prunes, repairs, reindexes or
   * changes keys; or ingests kept committing for so long, and then the snapshots may be removed and nothing freed yet),
   * ERR_READ_ONLY, ERR_LOCKS_UNSUPPORTED, ERR_NO_SPACE, ERR_PERMISSION, ERR_STORAGE, ERR_CLOSED, ERR_INVALID_ARGUMENT,
   * `signal.reason`; and with nothing freed, because it cannot be known what is still needed: ERR_MANIFEST_CORRUPT,
   * ERR_CHUNK_MISSING, ERR_CHUNK_CORRUPT, ERR_PACK_MISSING, ERR_PACK_CORRUPT, ERR_INDEX_CORRUPT, ERR_KILL_LIST_CORRUPT,
   * ERR_UNSUPPORTED_FORMAT. For these, `repair()` first.
   */
  prune(policy: IRetentionPolicy, options?: boolean | IPruneOptions): Promise<IPruneResult>;

  /**
   * What {@link prune} would do: the same as `prune(policy, { ...options, dryRun: true })`. Takes no lock and works on a
   * handle with `readOnly`. Apart from what heals itself where it is read, nothing is written.
   *
   * Rejects: ERR_INVALID_POLICY, ERR_MANIFEST_CORRUPT, ERR_CHUNK_MISSING, ERR_CHUNK_CORRUPT, ERR_PACK_MISSING,
   * ERR_PACK_CORRUPT, ERR_INDEX_CORRUPT, ERR_KILL_LIST_CORRUPT, ERR_UNSUPPORTED_FORMAT, ERR_STORAGE, ERR_CLOSED,
   * ERR_INVALID_ARGUMENT, `signal.reason`.
   */
  planPrune(policy: IRetentionPolicy, options?: IPlanPruneOptions): Promise<IPruneResult>;

  /**
   * Removes snapshots by their whole ids, whatever any policy says; resolves to the ids of those that were there. The
   * space is freed by the next {@link prune}. When one of them is not there, none is removed; one that was forgotten since
   * the last prune is passed over. Many are removed in parts of 64, so some may be gone when the call fails: make it again.
   *
   * Rejects: ERR_SNAPSHOT_NOT_FOUND, ERR_REPO_LOCKED, ERR_READ_ONLY, ERR_LOCKS_UNSUPPORTED, ERR_NO_SPACE, ERR_STORAGE,
   * ERR_CLOSED, ERR_INVALID_ARGUMENT (an id that is not whole, among others).
   */
  forget(ids: string[]): Promise<string[]>;

  /**
   * The sessions that are writing, of this and all other processes, and leases that dead ones left. Works on a handle with
   * `readOnly`.
   *
   * Rejects: ERR_STORAGE, ERR_CLOSED.
   */
  locks(): Promise<ILock[]>;

  /**
   * Counts what the repository holds and what it takes. Reads the manifests and the index, and of packs only their lengths.
   *
   * Rejects: ERR_UNSUPPORTED_FORMAT, ERR_STORAGE, ERR_CLOSED, ERR_INVALID_ARGUMENT, `signal.reason`.
   */
  stats(options?: { signal?: AbortSignal }): Promise<IStats>;

  /**
   * Finds what is lost or damaged, and makes it again from what is left: packs from parity, everything small from its
   * second copy. Nothing takes a name before its bytes are proven; what cannot be proven is moved to `quarantine/`, never
   * deleted; nothing comes back that was forgotten or removed. Repeating it is safe, and on a healthy repository it changes
   * nothing. Ingests and restores may go on.
   *
   * That something is beyond repair is no error: see `damagedSnapshots`. A file that cannot be read is not damaged: it stays
   * where it is, unless its very bytes can be put together from others, and the repair rejects with ERR_UNREADABLE after it
   * has done everything else.
   *
   * Rejects: ERR_REPO_LOCKED (somebody else repairs, prunes or reindexes), ERR_READ_ONLY, ERR_LOCKS_UNSUPPORTED, ERR_NO_SPACE,
   * ERR_PERMISSION, ERR_UNREADABLE, ERR_STORAGE, ERR_UNSUPPORTED_FORMAT, ERR_CLOSED, ERR_INVALID_ARGUMENT, `signal.reason`.
   */
  repair(options?: IRepairOptions): Promise<IRepairResult>;

  /**
   * Makes the index again from the packs. Never needed for a damaged one, which heals by itself. Ingests and restores may go
   * on.
   *
   * Rejects: ERR_REPO_LOCKED, ERR_READ_ONLY, ERR_LOCKS_UNSUPPORTED, ERR_KILL_LIST_CORRUPT, ERR_NO_SPACE, ERR_STORAGE, ERR_CLOSED,
   * ERR_INVALID_ARGUMENT, `signal.reason`.
   */
  reindex(options?: { signal?: AbortSignal }): Promise<void>;

  /**
   * Removes the leases of sessions that are gone; with `force` those of live ones too. Never needed: leases are hints, and
   * the next ingest removes stale ones. A live ingest that is hit commits a whole snapshot or fails with nothing published.
   *
   * Rejects: ERR_READ_ONLY, ERR_LOCKS_UNSUPPORTED, ERR_NO_SPACE, ERR_STORAGE, ERR_CLOSED, ERR_INVALID_ARGUMENT.
   */
  unlock(options?: { force?: boolean }): Promise<void>;

  /** The keys of an encrypted repository. */
  readonly keys: IKeys;

  /** Whether this handle made the repository: true after `init`, and after an `openOrInit` that found none. */
  readonly created: boolean;

  /** The id of the repository, drawn when it was made: 32 hex digits. A copy of the folder has the same one. */
  readonly repositoryId: string;

  /** Adds a listener. What it throws becomes an uncaught exception; it never harms the operation. */
  on<E extends keyof IContainerArchiveEvents>(event: E, handler: (value: IContainerArchiveEvents[E]) => void): Subscription;
  /** Adds a listener for one call. */
  once<E extends keyof IContainerArchiveEvents>(event: E, handler: (value: IContainerArchiveEvents[E]) => void): Subscription;
  /** Removes a listener. */
  off<E extends keyof IContainerArchiveEvents>(event: E, handler: (value: IContainerArchiveEvents[E]) => void): void;
  /** The same as on(); RxJS `fromEvent` asks for this name. */
  addListener<E extends keyof IContainerArchiveEvents>(event: E, handler: (value: IContainerArchiveEvents[E]) => void): Subscription;
  /** The same as off(). */
  removeListener<E extends keyof IContainerArchiveEvents>(event: E, handler: (value: IContainerArchiveEvents[E]) => void): void;

  /**
   * Stops what is running, and releases everything. Calls that are running, and all calls after it, reject with ERR_CLOSED. May
   * be called again.
   */
  close(): Promise<void>;
  /** The same as close(), for `await using`. */
  [Symbol.asyncDispose](): Promise<void>;
}
